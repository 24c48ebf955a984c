"""Canonical forms of reductions and of gradient sums: they move towards the inputs, past what repeats or reorders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from symgraph.graph import Apply, Constant, Variable
from symgraph.op import apply, constant
from symgraph.ops.create import size_of
from symgraph.ops.elementwise import (
    Accumulate,
    add,
    cast,
    exp,
    isfinite,
    multiply,
    negative,
    reciprocal,
    subtract,
    where,
)
from symgraph.ops.nn import LogSumExp
from symgraph.ops.reduce import All, Any_, Max, Min, Prod, Reduction, Sum, spread
from symgraph.ops.shape import Broadcast, Reshape, Transpose, Unslice, broadcast_to, transpose
from symgraph.rewrite.pattern import RULES, Rule, structural
from symgraph.rewrite.structure import broadcasted, made_by, repeated_number, reshaped
from symgraph.types import product, tensor_type

_first = len(RULES)


def _var(*shape: Any, dtype: str = "float64") -> Variable:
    return Variable(tensor_type(dtype, shape), name="x")


# -- sums and other reductions -----------------------------------------------------------------------------------------


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
    return _reduce(
        op, reshaped(x, tuple(x.type.shape[a] for a in kept)), [kept.index(a) for a in op.axes if a not in ones]
    )


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
    """reduce(reshape(x)) -> reshape(reduce(x)), where it adds or drops ones, or all is reduced    real-equal"""
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
    return reshaped(out, node.outputs[0].type.shape)


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
    return broadcasted(out, node.outputs[0].type.shape, [place[a] for a in old.axes if a in place])


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
    return broadcasted(out, node.outputs[0].type.shape, [place[a] for a in old.axes if a in place])


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
        number = repeated_number(c)
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
    made = Unslice(
        tuple(old.shape[a] for a in left), tuple(old.starts[a] for a in left), tuple(old.steps[a] for a in left)
    )
    return apply(made, out)


# -- exponentials over their sum ---------------------------------------------------------------------------------------


def _finite_or_zero(v: Variable) -> Variable:
    return where(isfinite(v), v, constant(0, v.type.dtype))


def _weights(x: Variable, axes: tuple[int, ...]) -> Variable:
    return exp(subtract(x, spread(_finite_or_zero(apply(LogSumExp(axes), x)), x.type.shape, axes)))


@structural(exp, examples=lambda: [_weights(_var(2, 3), (1,)), _weights(_var(2, 3), (0, 1))])
def weights_of_logsumexp(node: Apply) -> Variable | None:
    """exp(x - y) -> exp(x - max(x)) / sum(exp(x - max(x))), for y = logsumexp(x) or, if infinite, 0    real-equal"""
    # It is the derivative of logsumexp: the exponentials and their sum are those that the value is made of.
    difference = node.inputs[0].owner
    if difference is None or difference.op is not subtract:
        return None
    x, repeated = difference.inputs
    shift = made_by(repeated, Broadcast)
    chosen = shift[1].owner if shift is not None else None
    if chosen is None or chosen.op is not where:
        return None
    finite, y, other = chosen.inputs
    found = made_by(y, LogSumExp)
    if found is None or found[1] is not x or x.type.dtype == np.float16:  # half precision is computed in single
        return None
    axes = found[0].axes
    zero = repeated_number(other) if other.type.ndim else other
    same = finite.owner is not None and finite.owner.op is isfinite and finite.owner.inputs[0] is y
    if not same or not isinstance(zero, Constant) or zero.data.item() != 0 or 0 in [x.type.shape[a] for a in axes]:
        return None
    if repeated.owner is None or repeated.owner.op.axes != tuple(a for a in range(x.type.ndim) if a not in axes):  # type: ignore[attr-defined]
        return None
    largest = apply(Max(axes), x)
    e = exp(subtract(x, spread(_finite_or_zero(largest), x.type.shape, axes)))
    scale = where(isfinite(largest), reciprocal(apply(Sum(axes), e)), constant(1, x.type.dtype))
    return multiply(e, spread(scale, x.type.shape, axes))


# -- gradient sums -----------------------------------------------------------------------------------------------------


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
        c = repeated_number(v) if v.type.ndim else v
        if isinstance(c, Constant) and c.data.ndim == 0 and c.data.item() == 0:
            continue
        counts[v] = counts.get(v, 0) + 1
    if len(counts) == len(node.inputs):
        return None
    terms = [v if n == 1 else multiply(v, n) for v, n in counts.items()]
    return apply(Accumulate(), *terms) if terms else node.inputs[0]


REDUCTIONS: Final[tuple[Rule, ...]] = tuple(RULES[_first:])
