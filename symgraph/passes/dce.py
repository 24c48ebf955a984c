"""Dead code: what no output needs goes."""

from __future__ import annotations

from symgraph.graph import Graph
from symgraph.passes import Context


def dce(graph: Graph, context: Context) -> Graph:
    """Keep what the outputs need."""
    # A graph is built from its outputs, so every pass drops what they no longer need; this is for the last one.
    return Graph(graph.inputs, graph.outputs)
