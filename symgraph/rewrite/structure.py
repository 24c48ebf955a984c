"""Canonical forms of shapes.

Broadcasts, reshapes and transposes move towards the outputs, past elementwise operations, so that the arithmetic is
done on the small tensor and the moves meet and cancel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from symgraph.graph import Apply, Constant, Variable
from symgraph.op import Op, apply, constant
from symgraph.ops.elementwise import Accumulate, Cast, Elementwise, add, cast, exp, multiply
from symgraph.ops.shape import (
    AssertShape,
    Broadcast,
    Concatenate,
    Reshape,
    Slice,
    Transpose,
    Unslice,
    assert_shape,
    broadcast_to,
    concatenate,
    inverse_permutation,
    transpose,
)
from symgraph.rewrite.pattern import RULES, Rule, structural
from symgraph.types import Shape, Size, dim, product, tensor_type, unify

_first = len(RULES)


_UNKNOWN: Final[Size] = dim()


def _var(*shape: Any, dtype: str = "float64") -> Variable:
    return Variable(tensor_type(dtype, shape), name="x")


def made_by(v: Variable, kind: type[Op]) -> tuple[Any, Variable] | None:
    """The op of class ``kind`` that makes ``v``, and its operand."""
    node = v.owner
    return (node.op, node.inputs[0]) if node is not None and type(node.op) is kind else None


# -- compositions and identities ---------------------------------------------------------------------------------------


@structural(
    Transpose,
    examples=lambda: [
        apply(Transpose((1, 0)), apply(Transpose((1, 0)), _var(2, 3))),
        apply(Transpose((1, 0, 2)), apply(Transpose((2, 0, 1)), _var(2, 3, 4))),
        apply(Transpose((0, 1)), _var(2, 3)),
    ],
)
def transposes(node: Apply) -> Variable | None:
    """transpose(transpose(x, p), q) -> transpose(x, p[q]); in order -> x    exact"""
    op, (x,) = node.op, node.inputs
    assert isinstance(op, Transpose)
    if op.permutation == tuple(range(x.type.ndim)):
        return x
    inner = made_by(x, Transpose)
    return None if inner is None else transpose(inner[1], [inner[0].permutation[p] for p in op.permutation])


def reshaped(x: Variable, shape: Shape) -> Variable:
    """``x`` under another shape of equally many elements, without the checks of the user's function."""
    return x if x.type.shape == shape else apply(Reshape(shape), x)


@structural(
    Reshape,
    examples=lambda: [
        apply(Reshape((6,)), apply(Reshape((3, 2)), _var(2, 3))),
        apply(Reshape((2, 3)), apply(Reshape((3, 2)), _var(2, 3))),
        apply(Reshape((2, 3)), _var(2, 3)),
    ],
)
def reshapes(node: Apply) -> Variable | None:
    """reshape(reshape(x, s), t) -> reshape(x, t); to its own shape -> x    exact"""
    op, (x,) = node.op, node.inputs
    assert isinstance(op, Reshape)
    if op.shape == x.type.shape:
        return x
    inner = made_by(x, Reshape)
    if inner is None or product(inner[1].type.shape) != product(op.shape):
        return None
    return reshaped(inner[1], op.shape)


@structural(Reshape, examples=lambda: [apply(Reshape((2, 1, 3)), apply(Transpose((1, 0, 2)), _var(1, 2, 3)))])
def reshape_of_transpose(node: Apply) -> Variable | None:
    """reshape(transpose(x)) -> reshape(x), where only axes of size 1 change places    exact"""
    op = node.op
    inner = made_by(node.inputs[0], Transpose)
    if inner is None:
        return None
    moved = [p for p in inner[0].permutation if inner[1].type.shape[p] != 1]
    return reshaped(inner[1], op.shape) if moved == sorted(moved) else None  # type: ignore[attr-defined]


@structural(Transpose, examples=lambda: [apply(Transpose((1, 0, 2)), _var(1, 2, 3))])
def transpose_of_ones(node: Apply) -> Variable | None:
    """transpose(x) -> reshape(x), where only axes of size 1 change places    exact"""
    op, (x,) = node.op, node.inputs
    assert isinstance(op, Transpose)
    moved = [p for p in op.permutation if x.type.shape[p] != 1]
    return reshaped(x, node.outputs[0].type.shape) if moved == sorted(moved) else None


def broadcasted(x: Variable, shape: Shape, axes: Sequence[int]) -> Variable:
    """A broadcast in normal form: axes in order."""
    order = sorted(range(len(axes)), key=axes.__getitem__)
    x = transpose(x, order)
    return x if x.type.shape == shape else apply(Broadcast(shape, tuple(sorted(axes))), x)


@structural(
    Broadcast,
    examples=lambda: [
        apply(Broadcast((2, 3), (0, 1)), _var(2, 3)),
        apply(Broadcast((4, 2, 3), (1, 2)), apply(Broadcast((2, 3), (1,)), _var(3))),
    ],
)
def broadcasts(node: Apply) -> Variable | None:
    """broadcast(broadcast(x)) -> broadcast(x); to its own shape -> x    exact"""
    op, (x,) = node.op, node.inputs
    assert isinstance(op, Broadcast)
    if op.shape == x.type.shape:
        return x
    inner = made_by(x, Broadcast)
    return None if inner is None else broadcasted(inner[1], op.shape, [op.axes[a] for a in inner[0].axes])


@structural(
    Transpose,
    examples=lambda: [
        apply(Transpose((1, 0)), apply(Broadcast((2, 3), (1,)), _var(3))),
        apply(Transpose((2, 1, 0)), apply(Broadcast((2, 3, 4), (1, 2)), _var(3, 4))),
    ],
)
def transpose_of_broadcast(node: Apply) -> Variable | None:
    """transpose(broadcast(x)) -> broadcast(transpose(x))    exact"""
    op = node.op
    assert isinstance(op, Transpose)
    inner = made_by(node.inputs[0], Broadcast)
    if inner is None:
        return None
    places = inverse_permutation(op.permutation)
    return broadcasted(inner[1], node.outputs[0].type.shape, [places[a] for a in inner[0].axes])


@structural(
    Reshape,
    examples=lambda: [
        apply(Reshape((2, 1, 3)), apply(Broadcast((2, 3), (1,)), _var(3))),
        apply(Reshape((3,)), apply(Broadcast((3, 1), (0,)), _var(3))),
        apply(Reshape((6,)), apply(Broadcast((2, 3), ()), _var())),
    ],
)
def reshape_of_broadcast(node: Apply) -> Variable | None:
    """reshape(broadcast(x)) -> broadcast(x), where the reshape adds or drops ones, or x is a number    exact"""
    op = node.op
    assert isinstance(op, Reshape)
    inner = made_by(node.inputs[0], Broadcast)
    if inner is None:
        return None
    old, x = inner
    if x.type.ndim == 0:
        return broadcasted(x, op.shape, ())
    if [s for s in old.shape if s != 1] != [s for s in op.shape if s != 1]:
        return None
    # Axes of x that have size 1 are dropped; the others keep their order among the axes that are not 1.
    x = reshaped(x, tuple(s for s in x.type.shape if s != 1))
    real = [a for a, s in enumerate(op.shape) if s != 1]
    rank = {a: k for k, a in enumerate(a for a, s in enumerate(old.shape) if s != 1)}
    return broadcasted(x, op.shape, [real[rank[a]] for a in old.axes if a in rank])


@structural(Broadcast, examples=lambda: [apply(Broadcast((2, 1, 3), (1, 2)), _var(1, 3))])
def broadcast_of_ones(node: Apply) -> Variable | None:
    """broadcast(x) of axes of size 1 -> broadcast(reshape(x)) of the others    exact"""
    op, (x,) = node.op, node.inputs
    assert isinstance(op, Broadcast)
    if 1 not in x.type.shape:
        return None
    kept = [k for k, s in enumerate(x.type.shape) if s != 1]
    return broadcasted(reshaped(x, tuple(x.type.shape[k] for k in kept)), op.shape, [op.axes[k] for k in kept])


@structural(
    AssertShape,
    examples=lambda: [
        apply(AssertShape((2, 3)), apply(AssertShape((_UNKNOWN, 3)), _var(_UNKNOWN, 3))),
        apply(AssertShape((2, 3)), _var(2, 3)),
    ],
)
def assertions(node: Apply) -> Variable | None:
    """assert_shape(assert_shape(x, s), t) -> assert_shape(x, t); of its own shape -> x    exact"""
    op, (x,) = node.op, node.inputs
    assert isinstance(op, AssertShape)
    if op.shape == x.type.shape:
        return x
    inner = made_by(x, AssertShape)
    if inner is None or any(unify(a, b) is None for a, b in zip(inner[1].type.shape, op.shape, strict=True)):
        return None
    return assert_shape(inner[1], op.shape)


# -- slices ------------------------------------------------------------------------------------------------------------


@structural(
    Slice,
    examples=lambda: [
        apply(Slice((1,), (3,), (2,)), apply(Slice((9,), (8,), (-1,)), _var(10))),
        apply(Slice((0, 0), (2, 3), (1, 1)), _var(2, 3)),
    ],
)
def slices(node: Apply) -> Variable | None:
    """slice(slice(x)) -> slice(x); of everything -> x    exact"""
    op, (x,) = node.op, node.inputs
    assert isinstance(op, Slice)
    if op.sizes == x.type.shape and all(start == 0 for start in op.starts) and all(step == 1 for step in op.steps):
        return x
    inner = made_by(x, Slice)
    if inner is None:
        return None
    first, y = inner
    starts = tuple(a + b * step for a, b, step in zip(first.starts, op.starts, first.steps, strict=True))
    steps = tuple(a * b for a, b in zip(first.steps, op.steps, strict=True))
    return apply(Slice(starts, op.sizes, steps), y)


@structural(Slice, examples=lambda: [apply(Slice((1, 0), (1, 2), (1, 1)), apply(Broadcast((4, 3), (1,)), _var(3)))])
def slice_of_broadcast(node: Apply) -> Variable | None:
    """slice(broadcast(x)) -> broadcast(slice(x))    exact"""
    op = node.op
    assert isinstance(op, Slice)
    inner = made_by(node.inputs[0], Broadcast)
    if inner is None:
        return None
    old, x = inner
    if x.type.ndim:
        axes = old.axes
        x = apply(
            Slice(
                tuple(op.starts[a] for a in axes), tuple(op.sizes[a] for a in axes), tuple(op.steps[a] for a in axes)
            ),
            x,
        )
    return broadcasted(x, op.sizes, old.axes)


@structural(
    Slice,
    examples=lambda: [
        apply(Slice((1, 0), (2, 3), (1, 1)), apply(Unslice((5, 3), (1, 0), (1, 1)), _var(2, 3))),
    ],
)
def slice_of_unslice(node: Apply) -> Variable | None:
    """slice(unslice(x)) at the same place -> x    exact"""
    op = node.op
    assert isinstance(op, Slice)
    inner = made_by(node.inputs[0], Unslice)
    if inner is None or inner[1].type.shape != op.sizes:
        return None
    return inner[1] if inner[0].starts == op.starts and inner[0].steps == op.steps else None


@structural(
    Slice,
    examples=lambda: [
        apply(Slice((2, 0), (2, 3), (1, 1)), concatenate([_var(2, 3), _var(2, 3)])),
        apply(Slice((3, 0), (1, 3), (1, 1)), concatenate([_var(2, 3), _var(2, 3)])),
    ],
)
def slice_of_concatenate(node: Apply) -> Variable | None:
    """slice(concatenate(x, y, ..)) -> slice(x), where it lies within x    exact"""
    op = node.op
    assert isinstance(op, Slice)
    whole = node.inputs[0].owner
    if whole is None or type(whole.op) is not Concatenate:
        return None
    axis = whole.op.axis
    if op.steps[axis] != 1:
        return None
    lo: Size = op.starts[axis]
    size = op.sizes[axis]
    for part in whole.inputs:
        n = part.type.shape[axis]
        room = n - lo - size
        if isinstance(lo, int) and lo >= 0 and (room == 0 or (isinstance(room, int) and room >= 0)):
            return apply(Slice((*op.starts[:axis], lo, *op.starts[axis + 1 :]), op.sizes, op.steps), part)
        lo = lo - n
        if isinstance(lo, int) and lo < 0:
            return None  # it begins within this part and reaches beyond
    return None


@structural(Unslice, examples=lambda: [apply(Unslice((2, 3), (0, 0), (1, 1)), _var(2, 3))])
def unslice_of_everything(node: Apply) -> Variable | None:
    """unslice(x) to the shape of x -> x    exact"""
    op, (x,) = node.op, node.inputs
    assert isinstance(op, Unslice)
    whole = op.shape == x.type.shape and all(start == 0 for start in op.starts) and all(step == 1 for step in op.steps)
    return x if whole else None


@structural(
    Concatenate,
    examples=lambda: [
        concatenate([_var(2, 3), concatenate([_var(2, 3), _var(1, 3)])]),
        apply(Concatenate(0), _var(2, 3)),
        concatenate([_var(2, 3), _var(0, 3)]),
    ],
)
def concatenates(node: Apply) -> Variable | None:
    """concatenate(x, concatenate(y, z)) -> concatenate(x, y, z); of one, or of empty ones -> the others    exact"""
    parts: list[Variable] = []
    for v in node.inputs:
        inner = v.owner
        if inner is not None and inner.op == node.op:
            parts += inner.inputs
        elif v.type.shape[node.op.axis] != 0:  # type: ignore[attr-defined]
            parts.append(v)
    if len(parts) == 1:
        return parts[0]
    return apply(node.op, *parts) if parts and len(parts) != len(node.inputs) else None


# -- outwards, past elementwise operations -----------------------------------------------------------------------------


def repeated_number(v: Variable) -> Variable | None:
    """The 0-d tensor that ``v`` repeats, if it is nothing else."""
    inner = made_by(v, Broadcast)
    return inner[1] if inner is not None and inner[1].type.ndim == 0 else None


@structural(
    Elementwise,
    Cast,
    Accumulate,
    examples=lambda: [
        exp(apply(Broadcast((2, 3), (1,)), _var(3))),
        add(apply(Broadcast((2, 3, 4), (1,)), _var(3)), apply(Broadcast((2, 3, 4), (2,)), _var(4))),
        cast(apply(Broadcast((2, 3), (0,)), _var(2)), "float32"),
        multiply(broadcast_to(_var(), (2, 3)), 2.5),
    ],
)
def elementwise_of_broadcasts(node: Apply) -> Variable | None:
    """f(broadcast(x), broadcast(y)) -> broadcast(f(x, y)), over the axes that x or y have    exact"""
    inner = []
    for v in node.inputs:
        found = made_by(v, Broadcast)
        if found is None:
            return None
        inner.append(found)
    shape = node.outputs[0].type.shape
    axes = sorted({a for op, _ in inner for a in op.axes})
    if len(axes) == len(shape):
        return None
    small = tuple(shape[a] for a in axes)
    place = {a: k for k, a in enumerate(axes)}
    operands = [broadcasted(x, small, [place[a] for a in op.axes]) for op, x in inner]
    return broadcasted(apply(node.op, *operands), shape, axes)


@structural(
    Elementwise,
    Cast,
    Accumulate,
    examples=lambda: [
        exp(apply(Reshape((3, 2)), _var(6))),
        multiply(apply(Reshape((3, 2)), _var(6)), 2.5),
        add(apply(Transpose((1, 0)), _var(2, 3)), apply(Transpose((1, 0)), _var(2, 3))),
        add(apply(Transpose((1, 0)), _var(2, 3)), broadcast_to(_var(), (3, 2))),
        add(apply(Transpose((1, 0)), _var(2, 3)), constant([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])),
        add(apply(Reshape((2, 1)), _var(2)), constant([[1.0], [2.0]])),
    ],
)
def elementwise_of_moves(node: Apply) -> Variable | None:
    """f(move(x), move(y)) -> move(f(x, y)), for reshapes and transposes of one kind    exact"""
    move: Op | None = None
    shape: Shape = ()
    for v in node.inputs:
        owner = v.owner
        if owner is None:
            if type(v) is not Constant:
                return None
        elif type(owner.op) in (Reshape, Transpose):
            if move is None:
                move, shape = owner.op, owner.inputs[0].type.shape
            elif owner.op != move or owner.inputs[0].type.shape != shape:
                return None
        elif repeated_number(v) is None:
            return None
    if move is None:
        return None
    operands = []
    for v in node.inputs:
        owner = v.owner
        if owner is None:
            # A constant is moved the other way now.
            operands.append(reshaped(v, shape) if type(move) is Reshape else transpose(v, _undone(move)))
        elif owner.op == move:
            operands.append(owner.inputs[0])
        else:
            operands.append(broadcasted(owner.inputs[0], shape, ()))
    return apply(move, apply(node.op, *operands))


def _undone(move: Op) -> tuple[int, ...]:
    assert isinstance(move, Transpose)
    return inverse_permutation(move.permutation)


STRUCTURE: Final[tuple[Rule, ...]] = tuple(RULES[_first:])
