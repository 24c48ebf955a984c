"""Canonical forms of shapes and reductions.

Broadcasts, reshapes and transposes move towards the outputs, past elementwise operations, so that the arithmetic is done on
the small tensor and the moves meet and cancel; reductions move towards the inputs, past what only repeats or reorders.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from symgraph.graph import Apply, Constant, Variable
from symgraph.op import Op, apply
from symgraph.ops.create import size_of
from symgraph.ops.elementwise import Accumulate, Cast, Elementwise, add, cast, exp, multiply, negative
from symgraph.ops.reduce import All, Any_, Max, Min, Prod, Reduction, Sum, spread
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
    reshape,
    transpose,
)
from symgraph.rewrite.pattern import RULES, Rule, structural
from symgraph.types import Shape, Size, product, tensor_type, unify

_first = len(RULES)


def _var(*shape: Any, dtype: str = "float64") -> Variable:
    return Variable(tensor_type(dtype, shape), name="x")


def made_by(v: Variable, kind: type[Op]) -> tuple[Any, Variable] | None:
    """The op of class ``kind`` that makes ``v``, and its operand."""
    node = v.owner
    return (node.op, node.inputs[0]) if node is not None and type(node.op) is kind else None


# -- compositions and identities --------------------------------------------------------------------------------------------


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


def _reshaped(x: Variable, shape: Shape) -> Variable:
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
    return _reshaped(inner[1], op.shape)


@structural(
    Reshape, examples=lambda: [apply(Reshape((2, 1, 3)), apply(Transpose((1, 0, 2)), _var(1, 2, 3)))]
)
def reshape_of_transpose(node: Apply) -> Variable | None:
    """reshape(transpose(x)) -> reshape(x), where only axes of size 1 change places    exact"""
    op = node.op
    inner = made_by(node.inputs[0], Transpose)
    if inner is None:
        return None
    moved = [p for p in inner[0].permutation if inner[1].type.shape[p] != 1]
    return _reshaped(inner[1], op.shape) if moved == sorted(moved) else None  # type: ignore[attr-defined]


@structural(Transpose, examples=lambda: [apply(Transpose((1, 0, 2)), _var(1, 2, 3))])
def transpose_of_ones(node: Apply) -> Variable | None:
    """transpose(x) -> reshape(x), where only axes of size 1 change places    exact"""
    op, (x,) = node.op, node.inputs
    assert isinstance(op, Transpose)
    moved = [p for p in op.permutation if x.type.shape[p] != 1]
    return _reshaped(x, node.outputs[0].type.shape) if moved == sorted(moved) else None


def _broadcast(x: Variable, shape: Shape, axes: Sequence[int]) -> Variable:
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
    return None if inner is None else _broadcast(inner[1], op.shape, [op.axes[a] for a in inner[0].axes])


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
    return _broadcast(inner[1], node.outputs[0].type.shape, [places[a] for a in inner[0].axes])


@structural(
    Reshape,
    examples=lambda: [
        apply(Reshape((2, 1, 3)), apply(Broadcast((2, 3), (1,)), _var(3))),
        apply(Reshape((3,)), apply(Broadcast((3, 1), (0,)), _var(3))),
        apply(Reshape((6,)), apply(Broadcast((2, 3), ()), _var())),
    ],
)
def reshape_of_broadcast(node: Apply) -> Variable | None:
    """reshape(broadcast(x)) -> broadcast(x), where the reshape adds or drops axes of size 1, or x is one number    exact"""
    op = node.op
    assert isinstance(op, Reshape)
    inner = made_by(node.inputs[0], Broadcast)
    if inner is None:
        return None
    old, x = inner
    if x.type.ndim == 0:
        return _broadcast(x, op.shape, ())
    if [s for s in old.shape if s != 1] != [s for s in op.shape if s != 1]:
        return None
    # Axes of x that have size 1 are dropped; the others keep their order among the axes that are not 1.
    x = _reshaped(x, tuple(s for s in x.type.shape if s != 1))
    real = [a for a, s in enumerate(op.shape) if s != 1]
    rank = {a: k for k, a in enumerate(a for a, s in enumerate(old.shape) if s != 1)}
    return _broadcast(x, op.shape, [real[rank[a]] for a in old.axes if a in rank])


@structural(
    Broadcast, examples=lambda: [apply(Broadcast((2, 1, 3), (1, 2)), _var(1, 3))]
)
def broadcast_of_ones(node: Apply) -> Variable | None:
    """broadcast(x) of axes of size 1 -> broadcast(reshape(x)) of the others    exact"""
    op, (x,) = node.op, node.inputs
    assert isinstance(op, Broadcast)
    if 1 not in x.type.shape:
        return None
    kept = [k for k, s in enumerate(x.type.shape) if s != 1]
    return _broadcast(_reshaped(x, tuple(x.type.shape[k] for k in kept)), op.shape, [op.axes[k] for k in kept])


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


_UNKNOWN: Final = tensor_type("float64", (None,)).shape[0]

# -- slices -----------------------------------------------------------------------------------------------------------------


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
    if op.sizes == x.type.shape and not any(op.starts) and all(step == 1 for step in op.steps):
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
        x = apply(Slice(tuple(op.starts[a] for a in axes), tuple(op.sizes[a] for a in axes), tuple(op.steps[a] for a in axes)), x)
    return _broadcast(x, op.sizes, old.axes)


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
    whole = op.shape == x.type.shape and not any(op.starts) and all(step == 1 for step in op.steps)
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


# -- outwards, past elementwise operations ----------------------------------------------------------------------------------


def _splat(v: Variable) -> Variable | None:
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
    operands = [_broadcast(x, small, [place[a] for a in op.axes]) for op, x in inner]
    return _broadcast(apply(node.op, *operands), shape, axes)


@structural(
    Elementwise,
    Cast,
    Accumulate,
    examples=lambda: [
        exp(apply(Reshape((3, 2)), _var(6))),
        multiply(apply(Reshape((3, 2)), _var(6)), 2.5),
        add(apply(Transpose((1, 0)), _var(2, 3)), apply(Transpose((1, 0)), _var(2, 3))),
        add(apply(Transpose((1, 0)), _var(2, 3)), broadcast_to(_var(), (3, 2))),
    ],
)
def elementwise_of_moves(node: Apply) -> Variable | None:
    """f(move(x), move(y)) -> move(f(x, y)), for reshapes and transposes of one kind    exact"""
    move: Op | None = None
    shape: Shape = ()
    for v in node.inputs:
        owner = v.owner
        if owner is None:
            return None
        if type(owner.op) in (Reshape, Transpose):
            if move is None:
                move, shape = owner.op, owner.inputs[0].type.shape
            elif owner.op != move or owner.inputs[0].type.shape != shape:
                return None
        elif _splat(v) is None:
            return None
    if move is None:
        return None
    operands = []
    for v in node.inputs:
        assert v.owner is not None
        x = v.owner.inputs[0]
        operands.append(x if v.owner.op == move else _broadcast(x, shape, ()))
    return apply(move, apply(node.op, *operands))


# -- sums and other reductions ----------------------------------------------------------------------------------------------


def _reduce(op: Reduction, x: Variable, axes: Sequence[int]) -> Variable:
    make: Any = type(op)
    return apply(make(tuple(sorted(axes))), x) if axes else x


@structural(
    Reduction,
    examples=lambda: [
        apply(Sum(()), _var(2, 3)),
        apply(Sum((0, 1)), _var(1, 3)),
        apply(Max((1,)), _var(3, 1)),
        apply(Prod((1,)), _var(3, 1)),
    ],
)
def reduction_over_ones(node: Apply) -> Variable | None:
    """reduce(x) over axes of size 1 -> reshape(x)    exact"""
    op, (x,) = node.op, node.inputs
    assert isinstance(op, Reduction)
    ones = [a for a in op.axes if x.type.shape[a] == 1]
    if not op.axes:
        return x
    if not ones:
        return None
    kept = [a for a in range(x.type.ndim) if a not in ones]
    return _reduce(op, _reshaped(x, tuple(x.type.shape[a] for a in kept)), [kept.index(a) for a in op.axes if a not in ones])


@structural(
    Reduction,
    examples=lambda: [
        apply(Sum((0,)), apply(Sum((1,)), _var(2, 3, 4))),
        apply(Max((0,)), apply(Max((0,)), _var(2, 3, 4))),
    ],
)
def reduction_of_reduction(node: Apply) -> Variable | None:
    """reduce(reduce(x)) -> reduce(x) over the axes of both    real-equal"""
    inner = made_by(node.inputs[0], type(node.op))
    if inner is None:
        return None
    old, x = inner
    kept = [a for a in range(x.type.ndim) if a not in old.axes]
    return _reduce(old, x, [*old.axes, *(kept[a] for a in node.op.axes)])  # type: ignore[attr-defined]


@structural(
    Reduction,
    examples=lambda: [
        apply(Sum((0,)), apply(Transpose((1, 0, 2)), _var(2, 3, 4))),
        apply(Max((2,)), apply(Transpose((1, 0, 2)), _var(2, 3, 4))),
    ],
)
def reduction_of_transpose(node: Apply) -> Variable | None:
    """reduce(transpose(x)) -> transpose(reduce(x))    real-equal"""
    op = node.op
    assert isinstance(op, Reduction)
    inner = made_by(node.inputs[0], Transpose)
    if inner is None:
        return None
    permutation, x = inner[0].permutation, inner[1]
    axes = [permutation[a] for a in op.axes]
    kept = [p for p in permutation if p not in axes]
    rank = {p: k for k, p in enumerate(sorted(kept))}
    return transpose(_reduce(op, x, axes), [rank[p] for p in kept])


@structural(
    Reduction,
    examples=lambda: [
        apply(Sum((0, 2)), apply(Reshape((2, 1, 3)), _var(2, 3))),
        apply(Sum((0, 1)), apply(Reshape((2, 3)), _var(6))),
        apply(Max((0,)), apply(Reshape((2, 3)), _var(2, 1, 3))),
    ],
)
def reduction_of_reshape(node: Apply) -> Variable | None:
    """reduce(reshape(x)) -> reshape(reduce(x)), where the reshape adds or drops ones, or all is reduced    real-equal"""
    op = node.op
    assert isinstance(op, Reduction)
    inner = made_by(node.inputs[0], Reshape)
    if inner is None:
        return None
    old, x = inner
    shape = x.type.shape
    same = [s for s in shape if s != 1] == [s for s in old.shape if s != 1]
    if len(op.axes) == len(old.shape):
        if same and len(shape) > len(old.shape):
            return None  # reduction_over_ones makes this form
        if not op.nonempty or all(isinstance(s, int) and s > 0 for s in shape):
            return _reduce(op, x, range(len(shape)))
        return None
    if not same:
        return None
    real = [a for a, s in enumerate(shape) if s != 1]
    rank = {a: k for k, a in enumerate(a for a, s in enumerate(old.shape) if s != 1)}
    out = _reduce(op, x, [real[rank[a]] for a in op.axes if a in rank])
    return _reshaped(out, node.outputs[0].type.shape)


@structural(
    Sum,
    examples=lambda: [
        apply(Sum((0,)), apply(Broadcast((5, 3), (1,)), _var(3))),
        apply(Sum((0, 1)), apply(Broadcast((5, 3), (1,)), _var(3))),
        apply(Sum((0, 1)), apply(Broadcast((5, 3), ()), _var(dtype="int64"))),
    ],
)
def sum_of_broadcast(node: Apply) -> Variable | None:
    """sum(broadcast(x)) -> sum(x) * (how often it is repeated)    real-equal"""
    op, v = node.op, node.inputs[0]
    assert isinstance(op, Sum)
    inner = made_by(v, Broadcast)
    if inner is None or v.type.dtype.name == "float16":  # half precision cannot hold the count
        return None
    old, x = inner
    repeated = [a for a in op.axes if a not in old.axes]
    count = product(old.shape[a] for a in repeated)
    within = [k for k, a in enumerate(old.axes) if a in op.axes]
    out = _reduce(op, x, within)
    if count != 1:
        number = cast(size_of(count), x.type.dtype)
        out = multiply(out, number)
    left = [a for a in range(len(old.shape)) if a not in op.axes]
    place = {a: k for k, a in enumerate(left)}
    return _broadcast(out, node.outputs[0].type.shape, [place[a] for a in old.axes if a in place])


@structural(
    Max,
    Min,
    Any_,
    All,
    examples=lambda: [
        apply(Max((0,)), apply(Broadcast((5, 3), (1,)), _var(3))),
        apply(Min((0, 1)), apply(Broadcast((5, 3), (1,)), _var(3))),
        apply(All((0,)), apply(Broadcast((5, 3), (1,)), _var(3, dtype="bool"))),
    ],
)
def extremum_of_broadcast(node: Apply) -> Variable | None:
    """max(broadcast(x)) -> max(x), for min, any and all as well    exact"""
    op = node.op
    assert isinstance(op, Reduction)
    inner = made_by(node.inputs[0], Broadcast)
    if inner is None:
        return None
    old, x = inner
    if any(not isinstance(s, int) or s == 0 for a, s in enumerate(old.shape) if a in op.axes and a not in old.axes):
        return None  # over no elements the result is another
    out = _reduce(op, x, [k for k, a in enumerate(old.axes) if a in op.axes])
    place = {a: k for k, a in enumerate(a for a in range(len(old.shape)) if a not in op.axes)}
    return _broadcast(out, node.outputs[0].type.shape, [place[a] for a in old.axes if a in place])


@structural(Sum, examples=lambda: [apply(Sum((0,)), negative(_var(2, 3)))])
def sum_of_negative(node: Apply) -> Variable | None:
    """sum(-x) -> -sum(x)    real-equal"""
    owner = node.inputs[0].owner
    return negative(apply(node.op, owner.inputs[0])) if owner is not None and owner.op is negative else None


@structural(Sum, examples=lambda: [apply(Sum((0,)), multiply(_var(2, 3), 2.5))])
def sum_of_multiple(node: Apply) -> Variable | None:
    """sum(c * x) -> c * sum(x)    reassociates"""
    owner = node.inputs[0].owner
    if owner is None or owner.op is not multiply:
        return None
    for c, x in (owner.inputs, owner.inputs[::-1]):
        number = _splat(c)
        if number is not None:
            return multiply(number, apply(node.op, x))
    return None


@structural(
    Sum,
    examples=lambda: [
        apply(Sum((0,)), apply(Unslice((5, 3), (1, 0), (1, 1)), _var(2, 3))),
        apply(Sum((0,)), apply(Unslice((5, 3), (1, 1), (1, 1)), _var(2, 2))),
    ],
)
def sum_of_unslice(node: Apply) -> Variable | None:
    """sum(unslice(x)) -> unslice(sum(x)) of the axes that are left    real-equal"""
    op = node.op
    assert isinstance(op, Sum)
    inner = made_by(node.inputs[0], Unslice)
    if inner is None:
        return None
    old, x = inner
    left = [a for a in range(len(old.shape)) if a not in op.axes]
    out = apply(op, x)
    if not left:
        return out
    made = Unslice(tuple(old.shape[a] for a in left), tuple(old.starts[a] for a in left), tuple(old.steps[a] for a in left))
    return apply(made, out)


# -- gradient sums ----------------------------------------------------------------------------------------------------------


@structural(
    Accumulate,
    examples=lambda: [
        apply(Accumulate(), _var(3)),
        apply(Accumulate(), _var(3), _var(3)),
    ],
)
def accumulate_of_few(node: Apply) -> Variable | None:
    """accumulate(x) -> x, accumulate(x, y) -> x + y    exact"""
    # The rules know sums by this name; the pass `accumulate` makes one node of them again.
    if len(node.inputs) == 1:
        return node.inputs[0]
    return apply(add, *node.inputs) if len(node.inputs) == 2 else None


def _three(*, same: bool) -> Variable:
    x, y = _var(3), _var(3)
    return apply(Accumulate(), x, y, x) if same else apply(Accumulate(), x, broadcast_to(0.0, (3,)), y)


@structural(Accumulate, examples=lambda: [_three(same=True), _three(same=False)])
def accumulate_of_equals(node: Apply) -> Variable | None:
    """accumulate(x, y, x, 0) -> accumulate(2 * x, y)    real-equal"""
    counts: dict[Variable, int] = {}
    for v in node.inputs:
        c = _splat(v) if v.type.ndim else v
        if isinstance(c, Constant) and c.data.ndim == 0 and c.data.item() == 0:
            continue
        counts[v] = counts.get(v, 0) + 1
    if len(counts) == len(node.inputs):
        return None
    terms = [v if n == 1 else multiply(v, n) for v, n in counts.items()]
    return apply(Accumulate(), *terms) if terms else node.inputs[0]


STRUCTURE: Final[tuple[Rule, ...]] = tuple(RULES[_first:])
