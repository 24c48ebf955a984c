"""Constant folding: what depends on constants alone is computed now."""

from __future__ import annotations

from symgraph.graph import Apply, Constant, Graph
from symgraph.ops.shape import Broadcast
from symgraph.passes import Context
from symgraph.passes.rules import apply_rules


def _foldable(node: Apply) -> bool:
    return type(node.op) is not Broadcast and all(type(v) is Constant for v in node.inputs)


def fold(graph: Graph, context: Context) -> Graph:
    """Replace nodes of constants by their values, within the limits of :mod:`symgraph.rewrite.constants`."""
    if any(_foldable(node) for node in graph.nodes):
        return apply_rules(graph, context, ())
    return graph
