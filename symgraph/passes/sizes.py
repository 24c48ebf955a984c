"""Sizes that are stated to be equal become one size."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from symgraph.graph import Graph, Variable, interning
from symgraph.op import Op, apply, apply_node
from symgraph.ops.shape import AssertShape
from symgraph.passes import Context
from symgraph.source import attributed_to
from symgraph.types import Atom, Dim, Shape, Size, TensorType, atoms, floordiv, size_max, size_min

Equal = Mapping[Atom, Size]


def sizes(graph: Graph, context: Context) -> Graph:
    """Replace sizes by those that they are stated to equal, so that statements remain on inputs and outputs only.

    What is stated is checked before a call runs, on the graph as it was written.
    """
    pairs = [
        pair
        for node in graph.nodes
        if type(node.op) is AssertShape
        for pair in zip(node.inputs[0].type.shape, node.op.shape, strict=True)
    ]
    bound = {a for v in graph.inputs for s in v.type.shape if isinstance(s, Dim) for a in (s.atom,) if a is not None}
    equal: dict[Atom, Size] = {}
    for a, b in pairs:
        _learn(replaced_size(a, equal), replaced_size(b, equal), bound, equal)
    if not equal:
        return graph

    new: dict[Variable, Variable] = {}

    def leaf(v: Variable) -> Variable:
        # Inputs keep their types: it is from them that the sizes are learned when the graph runs.
        shape = replaced_shape(v.type.shape, equal)
        with attributed_to(v.sources, v.origin):
            new[v] = v if shape == v.type.shape else apply(AssertShape(shape), v)
        return new[v]

    with interning(context.interner):
        for v in graph.inputs:
            leaf(v)
        for node in graph.nodes:
            inputs = [new[v] if v in new else leaf(v) for v in node.inputs]
            op = replaced(node.op, equal)
            if type(op) is AssertShape and inputs[0].type.shape == op.shape:
                new[node.outputs[0]] = inputs[0]
                context.fired["statement"] += 1
                continue
            if op is node.op and all(a is b for a, b in zip(inputs, node.inputs, strict=True)):
                new.update((v, v) for v in node.outputs)
                continue
            with attributed_to(node.sources, node.origin):
                made = apply_node(op, inputs)
            for old, v in zip(node.outputs, made.outputs, strict=True):
                new[old] = v
                if v.name is None:
                    v.name = old.name
        given = set(graph.inputs)
        outputs = []
        for v in graph.outputs:
            out = new[v] if v in new else leaf(v)
            with attributed_to(v.sources, v.origin):
                outputs.append(v if v in given else _of_type(out, v.type))
    return Graph(graph.inputs, outputs)


def _of_type(v: Variable, type: TensorType) -> Variable:
    return v if v.type == type else apply(AssertShape(type.shape), v)


def _learn(a: Size, b: Size, bound: set[Atom], equal: dict[Atom, Size]) -> None:
    """Solve ``a == b`` for one atom: rather one that no input tells, rather an anonymous one."""
    difference = a - b
    if not isinstance(difference, Dim):
        return  # equal already, or never: then the check says so
    inside = {x for monomial, _ in difference.terms for atom in monomial if atom.fn for x in atoms(_as_size(atom))}
    often = [atom for monomial, _ in difference.terms for atom in monomial]
    found = [
        (atom in bound, atom.name is not None, -atom.serial, atom, c)
        for monomial, c in difference.terms
        for atom in monomial[:1]
        if len(monomial) == 1 and abs(c) == 1 and not atom.fn and often.count(atom) == 1 and atom not in inside
    ]
    if not found:
        return
    *_, atom, c = min(found, key=lambda f: f[:3])
    solution = _as_size(atom) - difference * c
    for known, size in equal.items():
        equal[known] = replaced_size(size, {atom: solution})
    equal[atom] = solution


def _as_size(atom: Atom) -> Dim:
    return Dim((((atom,), 1),))


def replaced_size(size: Size, equal: Equal) -> Size:
    """``size`` with sizes in place of some of its atoms."""
    if isinstance(size, int) or not any(a in equal for a in atoms(size)):
        return size
    total: Size = 0
    for monomial, c in size.terms:
        term: Size = c
        for atom in monomial:
            if atom.fn:
                args = [replaced_size(a, equal) for a in atom.args]
                term = term * {"floordiv": floordiv, "max": size_max, "min": size_min}[atom.fn](*args)
            else:
                term = term * equal.get(atom, _as_size(atom))
        total = total + term
    return total


def replaced_shape(shape: Shape, equal: Equal) -> Shape:
    """A shape with sizes in place of some of its atoms."""
    return tuple(replaced_size(s, equal) for s in shape)


def _replaced(value: Any, equal: Equal) -> Any:
    if isinstance(value, Dim):
        return replaced_size(value, equal)
    if isinstance(value, tuple):
        return tuple(_replaced(v, equal) for v in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        made = {name: _replaced(v, equal) for name, v in fields.items()}
        return value if made == fields else dataclasses.replace(value, **made)
    return value


def replaced(op: Op, equal: Equal) -> Op:
    """``op`` with sizes in place of some atoms in its static parameters."""
    found: Op = _replaced(op, equal)
    return found
