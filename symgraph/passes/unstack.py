"""Stacks of a few tensors that are only reduced along the stack are kept as their parts.

``logsumexp(stack([a, b, c]))`` is written over an axis of three. Kept as a tensor, it has a loop of three turns, with
conditions in it, inside the loop that could be vectorized; as ``a``, ``b`` and ``c`` it is one loop over vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np

from symgraph import source
from symgraph.graph import Apply, Graph, Variable, interning
from symgraph.op import Op, apply
from symgraph.ops.create import full
from symgraph.ops.elementwise import Accumulate, Cast, Elementwise, add, maximum, minimum, multiply
from symgraph.ops.reduce import Max, Min, Prod, Sum
from symgraph.ops.shape import Broadcast, Concatenate, Reshape, Slice, Unslice
from symgraph.passes import Context
from symgraph.passes.decompose import AFTERWARDS
from symgraph.passes.rules import apply_rules
from symgraph.types import Size

LONGEST: Final = 8
"""Parts of a stack, at most: each has nodes of its own for all that is done to the stack."""
_COMBINED: Final[dict[type[Op], Callable[[Variable, Variable], Variable]]] = {
    Sum: add,
    Prod: multiply,
    Max: maximum,
    Min: minimum,
}


class _Stack(NamedTuple):
    """The axis, and how many parts there are along it."""

    axis: int
    parts: int


def unstack(graph: Graph, context: Context) -> Graph:
    """Replace reductions along a short stack by operations on its parts, in canonical form."""
    stacks = _stacks(graph)
    if not stacks:
        return graph
    kept = _whole(graph, stacks)
    parts: dict[Variable, list[Variable]] = {}
    new: dict[Variable, Variable] = {}
    for node in graph.nodes:
        out = node.outputs[0]
        with interning(context.interner), source.attributed_to(node.sources):
            if out in stacks and out not in kept:
                if _pointwise(node):
                    parts[out] = _apart(node, stacks[out], parts, new)
                    continue
                parts[out] = _given(node, stacks[out], new)
            made = _taken(node, stacks, parts)
            if made is not None:
                new[out] = made
                context.fired["unstack"] += 1
                continue
        if any(v in new for v in node.inputs):
            again = context.make(node.op, tuple([new.get(v, v) for v in node.inputs]), node)
            new.update(zip(node.outputs, again.outputs, strict=True))
    made_of_parts = Graph(graph.inputs, [new.get(v, v) for v in graph.outputs])
    return apply_rules(made_of_parts, context, AFTERWARDS) if new else graph


# -- which stacks there are --------------------------------------------------------------------------------------------


def _stacks(graph: Graph) -> dict[Variable, _Stack]:
    """Concatenations of parts of size 1, one such part among zeros, and what is computed element by element."""
    found: dict[Variable, _Stack] = {}
    for node in graph.nodes:
        out = node.outputs[0]
        if isinstance(node.op, Concatenate):
            axis = node.op.axis
            if 1 < len(node.inputs) <= LONGEST and all(v.type.shape[axis] == 1 for v in node.inputs):
                found[out] = _Stack(axis, len(node.inputs))
        elif isinstance(node.op, Unslice):
            stack = _among_zeros(node.op, node.inputs[0])
            if stack is not None:
                found[out] = stack
        elif _pointwise(node):
            of = {found[v] for v in node.inputs if v in found}
            if len(of) == 1 and all(v in found or _repeats(v, next(iter(of)).axis) for v in node.inputs):
                (found[out],) = of
    return found


def _among_zeros(op: Unslice, x: Variable) -> _Stack | None:
    """The stack that a derivative of a slice is: ``x`` in one place, and zeros."""
    axes = [a for a, (n, m) in enumerate(zip(op.shape, x.type.shape, strict=True)) if n != m]
    if len(axes) != 1 or x.type.shape[axes[0]] != 1:
        return None
    count, start = op.shape[axes[0]], op.starts[axes[0]]
    others = all(s == 0 for a, s in enumerate(op.starts) if a != axes[0])
    if not isinstance(count, int) or not 1 < count <= LONGEST or not isinstance(start, int) or not others:
        return None
    return _Stack(axes[0], count) if all(step == 1 for a, step in enumerate(op.steps) if a != axes[0]) else None


def _pointwise(node: Apply) -> bool:
    return isinstance(node.op, Elementwise | Cast | Accumulate)


def _repeats(v: Variable, axis: int) -> bool:
    return v.owner is not None and isinstance(v.owner.op, Broadcast) and axis not in v.owner.op.axes


def _whole(graph: Graph, stacks: dict[Variable, _Stack]) -> set[Variable]:
    """Stacks that something needs as tensors, and those that are computed from such."""
    users: dict[Variable, list[Apply]] = {}
    for node in graph.nodes:
        for v in node.inputs:
            if v in stacks:
                users.setdefault(v, []).append(node)
    outputs = set(graph.outputs)
    kept: set[Variable] = set()
    waiting = [v for v in stacks if v in outputs or any(_needs(n, v, stacks) for n in users.get(v, ()))]
    while waiting:
        v = waiting.pop()
        # The parts of a concatenation are there in any case; what is wanted whole is it alone.
        if v in kept or v.owner is None or not _pointwise(v.owner):
            continue
        kept.add(v)
        waiting.extend(u for u in v.owner.inputs if u in stacks)
        waiting.extend(n.outputs[0] for n in users.get(v, ()) if n.outputs[0] in stacks)
    return kept


def _needs(node: Apply, v: Variable, stacks: dict[Variable, _Stack]) -> bool:
    """Whether ``node`` reads the stack ``v`` as a tensor."""
    if node.outputs[0] in stacks and _pointwise(node):
        return False
    return not _reduces(node, stacks[v]) and _place(node, stacks[v]) is None


# -- their parts -------------------------------------------------------------------------------------------------------


def _given(node: Apply, stack: _Stack, new: dict[Variable, Variable]) -> list[Variable]:
    """The parts that a stack is put together from."""
    found = [_dropped(new.get(v, v), stack.axis) for v in node.inputs]
    if isinstance(node.op, Concatenate):
        return found
    assert isinstance(node.op, Unslice)
    zero = full(found[0].type.shape, 0, found[0].type.dtype)
    return [found[0] if k == node.op.starts[stack.axis] else zero for k in range(stack.parts)]


def _apart(
    node: Apply, stack: _Stack, parts: dict[Variable, list[Variable]], new: dict[Variable, Variable]
) -> list[Variable]:
    """An elementwise operation on each part."""
    operands = [parts[v] if v in parts else [_once(v, stack.axis, new)] * stack.parts for v in node.inputs]
    return [apply(node.op, *each) for each in zip(*operands, strict=True)]


def _taken(node: Apply, stacks: dict[Variable, _Stack], parts: dict[Variable, list[Variable]]) -> Variable | None:
    """What ``node`` takes from a stack that is apart: a reduction of its parts, or one of them."""
    if not node.inputs or node.inputs[0] not in parts:
        return None
    v = node.inputs[0]
    if _reduces(node, stacks[v]):
        combine = _COMBINED[type(node.op)]
        first, *rest = parts[v]
        for p in rest:
            first = combine(first, p)
        return first
    place = _place(node, stacks[v])
    return None if place is None else _shaped(parts[v][place], node.outputs[0].type.shape)


def _reduces(node: Apply, stack: _Stack) -> bool:
    # Half precision is added up in single.
    return type(node.op) in _COMBINED and node.op.axes == (stack.axis,) and node.inputs[0].type.dtype != np.float16  # type: ignore[attr-defined]


def _place(node: Apply, stack: _Stack) -> int | None:
    """Which part a slice is."""
    if not isinstance(node.op, Slice):
        return None
    op, shape = node.op, node.inputs[0].type.shape
    wanted = [1 if a == stack.axis else n for a, n in enumerate(shape)]
    start = op.starts[stack.axis]
    others = all(s == 0 for a, s in enumerate(op.starts) if a != stack.axis)
    plain = list(op.sizes) == wanted and others and set(op.steps) == {1}
    return start if plain and isinstance(start, int) else None


def _dropped(v: Variable, axis: int) -> Variable:
    """``v`` without ``axis``, which has size 1."""
    shape = v.type.without((axis,)).shape
    node = v.owner
    if node is not None and isinstance(node.op, Reshape) and node.inputs[0].type.shape == shape:
        return node.inputs[0]
    return _once(v, axis, {}) if _repeats(v, axis) else _shaped(v, shape)


def _once(v: Variable, axis: int, new: dict[Variable, Variable]) -> Variable:
    """What ``v`` repeats along ``axis``, and maybe others."""
    assert v.owner is not None
    assert isinstance(v.owner.op, Broadcast)
    inner = v.owner.inputs[0]
    inner = new.get(inner, inner)
    shape = v.type.without((axis,)).shape
    axes = tuple(a - (a > axis) for a in v.owner.op.axes)
    return (
        inner
        if inner.type.shape == shape and axes == tuple(range(len(shape)))
        else apply(Broadcast(shape, axes), inner)
    )


def _shaped(v: Variable, shape: Sequence[Size]) -> Variable:
    return v if v.type.shape == tuple(shape) else apply(Reshape(tuple(shape)), v)
