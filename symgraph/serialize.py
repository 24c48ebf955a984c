"""Graphs as plain tables, for pickling: flat, so that the depth of a graph does not matter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from symgraph.graph import Apply, Constant, SharedVariable, Variable, leaves, toposort

State: TypeAlias = dict[str, Any]


def dump(inputs: Sequence[Variable], outputs: Sequence[Variable]) -> State:
    """A table from which :func:`load` makes the graph again."""
    number: dict[Variable, int] = {}
    rows: list[tuple[Any, ...]] = []
    for v in dict.fromkeys((*inputs, *leaves(outputs, inputs))):
        number[v] = len(number)
        if isinstance(v, Constant):
            rows.append(("constant", v.data, v.name, v.sources))
        elif isinstance(v, SharedVariable):
            rows.append(("shared", v.get_value(), v.type, v.name, v.sources))
        else:
            rows.append(("input", v.type, v.name, v.sources))
    nodes = []
    places = {v.serial: k for v, k in number.items()}
    for node in toposort(outputs, inputs):
        nodes.append(
            (
                node.op,
                [number[v] for v in node.inputs],
                [(v.type, v.name) for v in node.outputs],
                node.sources,
                node.origin._replace(of=places.get(node.origin.of, -1)),
            )
        )
        for v in node.outputs:
            places[v.serial] = number.setdefault(v, len(number))
    return {
        "leaves": rows,
        "nodes": nodes,
        "inputs": [number[v] for v in inputs],
        "outputs": [number[v] for v in outputs],
    }


def load(state: State) -> tuple[list[Variable], list[Variable]]:
    """New variables for the inputs and outputs of a dumped graph."""
    table: list[Variable] = []
    for kind, *fields in state["leaves"]:
        if kind == "constant":
            data, name, sources = fields
            data.flags.writeable = False
            table.append(Constant(data, name, sources))
        elif kind == "shared":
            value, type, name, sources = fields
            state_of_its_own = SharedVariable(value, type, name)
            state_of_its_own.sources = sources
            table.append(state_of_its_own)
        else:
            type, name, sources = fields
            table.append(Variable(type, name=name, sources=sources))
    for op, places, outputs, sources, origin in state["nodes"]:
        node = Apply(op, tuple(table[k] for k in places), [t for t, _ in outputs], sources, origin)
        if origin.of >= 0:
            node.origin = origin._replace(of=table[origin.of].serial)
        for v, (_, name) in zip(node.outputs, outputs, strict=True):
            v.name = name
            table.append(v)
    return [table[k] for k in state["inputs"]], [table[k] for k in state["outputs"]]
