"""Graphs for other tools."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from symgraph.graph import Constant, Graph, SharedVariable, Variable
from symgraph.source import show

if TYPE_CHECKING:
    import networkx


def to_networkx(graph: Graph | Variable | Sequence[Variable]) -> networkx.MultiDiGraph[Any]:
    """A graph as a ``networkx.MultiDiGraph``: variables and applications of operations are its nodes.

    Nodes are numbered in topological order. The attributes of a variable are ``kind`` (``"input"``, ``"constant"``,
    ``"shared"`` or ``"variable"``), ``name``, ``dtype``, ``shape`` (as text) and ``source``; those of an application
    ``kind="apply"``, ``op`` and ``source``. Edges go with the data; their key is the place among inputs or outputs.
    All attributes are strings, so that every format of networkx can hold them.

    Args:
        graph: a graph, or the output or outputs that define one.
    """
    import networkx

    if not isinstance(graph, Graph):
        graph = Graph((), [graph] if isinstance(graph, Variable) else list(graph))
    out: networkx.MultiDiGraph[Any] = networkx.MultiDiGraph()
    number: dict[Variable, int] = {}

    def add(v: Variable) -> int:
        if v not in number:
            number[v] = len(out)
            out.add_node(
                number[v],
                kind=_kind(v),
                name=v.name or "",
                dtype=v.type.dtype.name,
                shape=str(list(v.type.shape)),
                source=show(v.sources),
            )
        return number[v]

    for v in graph.inputs:
        add(v)
    for node in graph.nodes:
        operands = [add(v) for v in node.inputs]
        me = len(out)
        out.add_node(me, kind="apply", op=str(node.op), source=show(node.sources))
        for k, operand in enumerate(operands):
            out.add_edge(operand, me, key=k)
        for k, v in enumerate(node.outputs):
            out.add_edge(me, add(v), key=k)
    for v in graph.outputs:
        add(v)
    return out


def _kind(v: Variable) -> str:
    if isinstance(v, Constant):
        return "constant"
    if isinstance(v, SharedVariable):
        return "shared"
    return "variable" if v.owner is not None else "input"
