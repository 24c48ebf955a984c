"""Graphs for other tools."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from symgraph.graph import Constant, Graph, SharedVariable, Variable
from symgraph.source import show
from symgraph.viz.glyphs import clean

if TYPE_CHECKING:
    import networkx

    from symgraph.runtime.function import Function


def to_networkx(graph: Graph | Variable | Sequence[Variable] | Function) -> networkx.MultiDiGraph[Any]:
    """A graph as a ``networkx.MultiDiGraph``: variables and applications of operations are its nodes.

    Nodes are numbered in topological order. The attributes of a variable are ``kind`` (``"input"``, ``"constant"``,
    ``"shared"`` or ``"variable"``), ``name``, ``type``, ``dtype``, ``shape`` (as text) and ``source``; those of an
    application ``kind="apply"``, ``op``, ``source``, ``scope``, ``order`` (of derivative) and, where the graph is not
    large, ``flops`` and ``bytes``, in terms of the sizes. Edges go with the data; their key is the place among inputs
    or outputs, and their attribute ``type``. All attributes are strings, which every format of networkx can hold.

    Args:
        graph: a graph, the output or outputs that define one, or a compiled function: its graph as written.
    """
    import networkx

    from symgraph.viz.build import Subject, node_costs

    graph = Subject(graph).graph
    costs = node_costs(graph)
    out: networkx.MultiDiGraph[Any] = networkx.MultiDiGraph()
    number: dict[Variable, int] = {}

    def add(v: Variable) -> int:
        if v not in number:
            number[v] = len(out)
            out.add_node(
                number[v],
                kind=_kind(v),
                name=clean(v.name or ""),
                type=clean(str(v.type)),
                dtype=v.type.dtype.name,
                shape=clean(str(list(v.type.shape))),
                source=clean(show(v.sources)),
            )
        return number[v]

    for v in graph.inputs:
        add(v)
    for node in graph.nodes:
        operands = [add(v) for v in node.inputs]
        me = len(out)
        work, traffic = costs.get(node, ("", ""))
        out.add_node(
            me,
            kind="apply",
            op=clean(str(node.op)),
            source=clean(show(node.sources)),
            scope=clean(node.origin.scope),
            order=str(node.origin.order),
            flops=work,
            bytes=traffic,
        )
        for k, (operand, v) in enumerate(zip(operands, node.inputs, strict=True)):
            out.add_edge(operand, me, key=k, type=clean(str(v.type)))
        for k, v in enumerate(node.outputs):
            out.add_edge(me, add(v), key=k, type=clean(str(v.type)))
    for v in graph.outputs:
        add(v)
    return out


def _kind(v: Variable) -> str:
    if isinstance(v, Constant):
        return "constant"
    if isinstance(v, SharedVariable):
        return "shared"
    return "variable" if v.owner is not None else "input"
