"""Dead code: what no output needs goes."""

from __future__ import annotations

from symgraph.graph import Graph
from symgraph.passes import Context


def dce(graph: Graph, context: Context) -> Graph:
    """Keep what the outputs need. Every pass does so by building its graph from the outputs; this one is for what is left."""
    return Graph(graph.inputs, graph.outputs)
