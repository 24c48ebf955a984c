"""Numerical stabilization: what is written naively runs in the form that neither overflows nor cancels.

Most rules here change values on purpose: where the left side overflows, or loses its digits, the right side does not.
Products that overflow in one factor and underflow in another, as derivatives of such expressions are, have their own
module, :mod:`symgraph.rewrite.products`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from symgraph.graph import Apply, Variable
from symgraph.op import apply, constant
from symgraph.ops.elementwise import (
    absolute,
    add,
    cosh,
    divide,
    exp,
    expm1,
    log,
    log1p,
    multiply,
    reciprocal,
    sigmoid,
    sinh,
    softplus,
    sqrt,
    square,
    subtract,
    tanh,
)
from symgraph.ops.gather import Gather
from symgraph.ops.nn import LogSoftmax, LogSumExp, Softmax
from symgraph.ops.reduce import Sum, spread
from symgraph.ops.shape import Broadcast, Slice
from symgraph.rewrite.pattern import RULES, Float, Rule, Sides, rewrite, structural
from symgraph.types import tensor_type

_first = len(RULES)
POSITIVE: Final = (0.1, 4.0)
LEVEL: Final = "stabilize"


def _var(*shape: Any, dtype: str = "float64") -> Variable:
    return Variable(tensor_type(dtype, shape), name="x")


# -- sigmoid and softplus ----------------------------------------------------------------------------------------------


@rewrite(level=LEVEL)
def softplus_of_log(x: Float) -> Sides:
    """log(1 + exp(x)) -> softplus(x)    widens domain"""
    return log(1 + exp(x)), softplus(x)


@rewrite(level=LEVEL)
def softplus_of_log1p(x: Float) -> Sides:
    """log1p(exp(x)) -> softplus(x)    widens domain"""
    return log1p(exp(x)), softplus(x)


@rewrite(level=LEVEL)
def tanh_of_exponentials(x: Float) -> Sides:
    """(exp(x) - exp(-x)) / (exp(x) + exp(-x)) -> tanh(x)    widens domain"""
    return (exp(x) - exp(-x)) / (exp(x) + exp(-x)), tanh(x)


@rewrite(level=LEVEL)
def tanh_of_expm1(x: Float) -> Sides:
    """expm1(x) / (1 + exp(x)) -> tanh(x / 2)    widens domain"""
    return expm1(x) / (1 + exp(x)), tanh(0.5 * x)


@rewrite(level=LEVEL)
def tanh_of_quotient(x: Float) -> Sides:
    """sinh(x) / cosh(x) -> tanh(x)    widens domain"""
    return sinh(x) / cosh(x), tanh(x)


@rewrite(level=LEVEL)
def sigmoid_of_quotient(x: Float) -> Sides:
    """exp(x) / (1 + exp(x)) -> sigmoid(x)    widens domain"""
    return exp(x) / (1 + exp(x)), sigmoid(x)


@rewrite(level=LEVEL)
def sigmoid_of_reciprocal(x: Float) -> Sides:
    """1 / (1 + exp(x)) -> sigmoid(-x)    real-equal"""
    return reciprocal(1 + exp(x)), sigmoid(-x)


@rewrite(level=LEVEL)
def sigmoid_of_division(y: Float, x: Float) -> Sides:
    """y / (1 + exp(x)) -> y * sigmoid(-x)    real-equal"""
    return y / (1 + exp(x)), y * sigmoid(-x)


@rewrite(level=LEVEL)
def sigmoid_complement(x: Float) -> Sides:
    """1 - sigmoid(x) -> sigmoid(-x)    real-equal"""
    return 1 - sigmoid(x), sigmoid(-x)


@rewrite(level=LEVEL)
def sigmoid_complement_negative(x: Float) -> Sides:
    """sigmoid(x) - 1 -> -sigmoid(-x)    real-equal"""
    return sigmoid(x) - 1, -sigmoid(-x)


@rewrite(level=LEVEL)
def log_of_sigmoid(x: Float) -> Sides:
    """log(sigmoid(x)) -> -softplus(-x)    widens domain"""
    return log(sigmoid(x)), -softplus(-x)


@rewrite(level=LEVEL)
def log1p_of_sigmoid(x: Float) -> Sides:
    """log1p(-sigmoid(x)) -> -softplus(x)    widens domain"""
    return log1p(-sigmoid(x)), -softplus(x)


@rewrite(level=LEVEL)
def softplus_minus(x: Float) -> Sides:
    """softplus(x) - x -> softplus(-x)    real-equal"""
    return softplus(x) - x, softplus(-x)


@rewrite(level=LEVEL)
def minus_softplus(x: Float) -> Sides:
    """x - softplus(x) -> -softplus(-x)    real-equal"""
    return x - softplus(x), -softplus(-x)


@rewrite(level=LEVEL)
def softplus_plus(x: Float) -> Sides:
    """x + softplus(-x) -> softplus(x)    real-equal"""
    return x + softplus(-x), softplus(x)


@rewrite(level=LEVEL)
def exp_of_softplus(x: Float) -> Sides:
    """exp(-softplus(x)) -> sigmoid(-x)    real-equal"""
    return exp(-softplus(x)), sigmoid(-x)


@rewrite(level=LEVEL)
def exp_of_softplus_difference(x: Float) -> Sides:
    """exp(x - softplus(x)) -> sigmoid(x)    real-equal"""
    return exp(x - softplus(x)), sigmoid(x)


# -- exponentials and logarithms ---------------------------------------------------------------------------------------


@rewrite(level=LEVEL)
def log_of_exp(x: Float) -> Sides:
    """log(exp(x)) -> x    widens domain"""
    return log(exp(x)), x


@rewrite(level=LEVEL, domain=POSITIVE)
def log_of_product_with_exp(x: Float, y: Float) -> Sides:
    """log(exp(x) * y) -> x + log(y)    widens domain"""
    return log(exp(x) * y), x + log(y)


@rewrite(level=LEVEL, domain=POSITIVE)
def log_of_exp_over(x: Float, y: Float) -> Sides:
    """log(exp(x) / y) -> x - log(y)    widens domain"""
    return log(exp(x) / y), x - log(y)


@rewrite(level=LEVEL, domain=POSITIVE)
def log_of_over_exp(x: Float, y: Float) -> Sides:
    """log(y / exp(x)) -> log(y) - x    widens domain"""
    return log(y / exp(x)), log(y) - x


@rewrite(level=LEVEL, domain=POSITIVE)
def log_of_reciprocal(x: Float) -> Sides:
    """log(1 / x) -> -log(x)    widens domain"""
    return log(reciprocal(x)), -log(x)


@rewrite(level=LEVEL, domain=POSITIVE)
def log_of_square(x: Float) -> Sides:
    """log(square(x)) -> 2 * log(abs(x))    widens domain"""
    return log(square(x)), 2 * log(absolute(x))


@rewrite(level=LEVEL, domain=POSITIVE)
def log_of_sum_with_one(x: Float) -> Sides:
    """log(1 + x) -> log1p(x)    real-equal"""
    return log(1 + x), log1p(x)


@rewrite(level=LEVEL, domain=(0.0, 0.9))
def log_of_difference_from_one(x: Float) -> Sides:
    """log(1 - x) -> log1p(-x)    real-equal"""
    return log(1 - x), log1p(-x)


@rewrite(level=LEVEL)
def exp_minus_one(x: Float) -> Sides:
    """exp(x) - 1 -> expm1(x)    real-equal"""
    return exp(x) - 1, expm1(x)


@rewrite(level=LEVEL)
def exp_plus_minus_one(x: Float) -> Sides:
    """exp(x) + (-1) -> expm1(x)    real-equal"""
    return exp(x) + -1, expm1(x)


@rewrite(level=LEVEL)
def one_minus_exp(x: Float) -> Sides:
    """1 - exp(x) -> -expm1(x)    real-equal"""
    return 1 - exp(x), -expm1(x)


@rewrite(level=LEVEL)
def log1p_of_expm1(x: Float) -> Sides:
    """log1p(expm1(x)) -> x    widens domain"""
    return log1p(expm1(x)), x


@rewrite(level=LEVEL, domain=POSITIVE)
def expm1_of_log1p(x: Float) -> Sides:
    """expm1(log1p(x)) -> x    widens domain"""
    return expm1(log1p(x)), x


@rewrite(domain=POSITIVE)
def exp_of_log(x: Float) -> Sides:
    """exp(log(x)) -> x    widens domain"""
    # Of the domain of x itself: not on by default, as log(x) is nan for negative x.
    return exp(log(x)), x


@rewrite(level=LEVEL)
def sqrt_of_square(x: Float) -> Sides:
    """sqrt(square(x)) -> abs(x)    widens domain"""
    return sqrt(square(x)), absolute(x)


@rewrite(level=LEVEL)
def reciprocal_of_reciprocal(x: Float) -> Sides:
    """1 / (1 / x) -> x    widens domain"""
    return reciprocal(reciprocal(x)), x


@rewrite(level=LEVEL)
def reciprocal_of_exp(x: Float) -> Sides:
    """1 / exp(x) -> exp(-x)    real-equal"""
    return reciprocal(exp(x)), exp(-x)


# -- softmax, its logarithm, and the logarithm of a sum of exponentials ------------------------------------------------


def kept_axes(ndim: int, gone: Sequence[int]) -> tuple[int, ...]:
    """The axes that are not ``gone``."""
    return tuple(a for a in range(ndim) if a not in gone)


def sum_of_exp(v: Variable) -> tuple[Variable, Variable, tuple[int, ...]] | None:
    """``(x, exp(x), axes)`` where ``v`` is the sum of ``exp(x)`` over ``axes``."""
    node = v.owner
    if node is None or type(node.op) is not Sum:
        return None
    inner = node.inputs[0].owner
    if inner is None or inner.op is not exp:
        return None
    return inner.inputs[0], node.inputs[0], node.op.axes


def repeated_back(v: Variable, axes: Sequence[int]) -> Variable | None:
    """What ``v`` repeats over ``axes``, the result of a reduction over them, if that is what it is."""
    node = v.owner
    if node is None or type(node.op) is not Broadcast:
        return None
    return node.inputs[0] if node.op.axes == kept_axes(v.type.ndim, axes) else None


def softmax_over(x: Variable, axes: tuple[int, ...]) -> Variable:
    """``exp(x) / sum(exp(x))`` over one or more axes."""
    if len(axes) == 1:
        return apply(Softmax(axes[0]), x)
    return exp(subtract(x, spread(apply(LogSumExp(axes), x), x.type.shape, axes)))


def _naive_softmax(x: Variable, axis: int) -> Variable:
    e = exp(x)
    return divide(e, spread(apply(Sum((axis,)), e), x.type.shape, (axis,)))


def _naive_softmax_of_all(x: Variable) -> Variable:
    e = exp(x)
    axes = tuple(range(x.type.ndim))
    return divide(e, spread(apply(Sum(axes), e), x.type.shape, axes))


@structural(
    divide,
    level=LEVEL,
    examples=lambda: [_naive_softmax(_var(2, 3), 1), _naive_softmax(_var(3), 0), _naive_softmax_of_all(_var(2, 3))],
)
def softmax_written_out(node: Apply) -> Variable | None:
    """exp(x) / sum(exp(x)) -> softmax(x)    widens domain"""
    e, s = node.inputs
    if e.owner is None or e.owner.op is not exp or s.owner is None or type(s.owner.op) is not Broadcast:
        return None
    found = sum_of_exp(s.owner.inputs[0])
    if found is None or found[1] is not e or repeated_back(s, found[2]) is None:
        return None
    return softmax_over(found[0], found[2])


@structural(log, level=LEVEL, examples=lambda: [log(apply(Softmax(1), _var(2, 3)))])
def log_of_softmax(node: Apply) -> Variable | None:
    """log(softmax(x)) -> log_softmax(x)    widens domain"""
    inner = node.inputs[0].owner
    if inner is None or type(inner.op) is not Softmax:
        return None
    return apply(LogSoftmax(inner.op.axis), inner.inputs[0])


@structural(
    log,
    level=LEVEL,
    examples=lambda: [log(apply(Sum((1,)), exp(_var(2, 3)))), log(apply(Sum((0, 1)), exp(_var(2, 3))))],
)
def log_of_sum_of_exp(node: Apply) -> Variable | None:
    """log(sum(exp(x))) -> logsumexp(x)    widens domain"""
    found = sum_of_exp(node.inputs[0])
    if found is None or any(found[0].type.shape[a] == 0 for a in found[2]):
        return None
    return apply(LogSumExp(found[2]), found[0])


def _log_softmax_by_hand(x: Variable) -> Variable:
    return subtract(x, spread(apply(LogSumExp((1,)), x), x.type.shape, (1,)))


@structural(subtract, level=LEVEL, examples=lambda: [_log_softmax_by_hand(_var(2, 3))])
def minus_log_of_sum_of_exp(node: Apply) -> Variable | None:
    """x - logsumexp(x) -> log_softmax(x)    real-equal"""
    x, y = node.inputs
    if y.owner is None or type(y.owner.op) is not Broadcast:
        return None
    inner = y.owner.inputs[0].owner
    if inner is None or type(inner.op) is not LogSumExp or inner.inputs[0] is not x or len(inner.op.axes) != 1:
        return None
    return apply(LogSoftmax(inner.op.axes[0]), x) if repeated_back(y, inner.op.axes) is not None else None


@structural(exp, level=LEVEL, examples=lambda: [exp(apply(LogSoftmax(1), _var(2, 3)))])
def exp_of_log_softmax(node: Apply) -> Variable | None:
    """exp(log_softmax(x)) -> softmax(x)    real-equal"""
    inner = node.inputs[0].owner
    if inner is None or type(inner.op) is not LogSoftmax:
        return None
    return apply(Softmax(inner.op.axis), inner.inputs[0])


def _shifted(x: Variable, op: Any) -> tuple[Variable, Variable] | None:
    """``(y, c)`` where ``x`` is ``y + c`` or ``y - c`` and c is the same all along the op's axis."""
    node = x.owner
    if node is None or (node.op is not subtract and node.op is not add):
        return None
    for y, c in (node.inputs, node.inputs[::-1])[: 1 if node.op is subtract else 2]:
        if c.owner is not None and type(c.owner.op) is Broadcast and op.axis not in c.owner.op.axes:
            return y, c
    return None


def _less_a_column(x: Variable) -> Variable:
    return subtract(x, spread(_var(2), x.type.shape, (1,)))


@structural(
    Softmax,
    LogSoftmax,
    level=LEVEL,
    examples=lambda: [apply(Softmax(1), _less_a_column(_var(2, 3))), apply(LogSoftmax(1), _less_a_column(_var(2, 3)))],
)
def softmax_of_shifted(node: Apply) -> Variable | None:
    """softmax(x - c) -> softmax(x), for c the same along the axis; log_softmax as well    real-equal"""
    # Both subtract the maximum themselves, whatever the user subtracted to that end.
    found = _shifted(node.inputs[0], node.op)
    return None if found is None else apply(node.op, found[0])


def _max_put_back(x: Variable) -> Variable:
    m = _var(2)
    return add(m, apply(LogSumExp((1,)), subtract(x, spread(m, x.type.shape, (1,)))))


@structural(add, level=LEVEL, examples=lambda: [_max_put_back(_var(2, 3))])
def shift_put_back(node: Apply) -> Variable | None:
    """c + logsumexp(x - c) -> logsumexp(x)    real-equal"""
    for c, y in (node.inputs, node.inputs[::-1]):
        inner = y.owner
        if inner is None or type(inner.op) is not LogSumExp:
            continue
        difference = inner.inputs[0].owner
        if difference is None or difference.op is not subtract:
            continue
        if repeated_back(difference.inputs[1], inner.op.axes) is c or (
            # All is reduced: the number that was subtracted is itself 0-d.
            difference.inputs[1] is c
        ):
            return apply(inner.op, difference.inputs[0])
    return None


@structural(
    log,
    level=LEVEL,
    examples=lambda: [
        log(apply(Slice((0, 1), (2, 1), (1, 1)), apply(Softmax(1), _var(2, 3)))),
        log(apply(Slice((1,), (1,), (1,)), sigmoid(_var(3)))),
        log(apply(Gather((0, -1), ((0,),), (0,)), apply(Softmax(1), _var(2, 3)), constant([2, 0]))),
    ],
)
def log_of_selection(node: Apply) -> Variable | None:
    """log(part of softmax(x)) -> part of log(softmax(x)), for slices and gathers, and for sigmoids as well    exact"""
    move = node.inputs[0].owner
    if move is None or (type(move.op) is not Slice and type(move.op) is not Gather):
        return None
    inner = move.inputs[0].owner
    if inner is None or not (type(inner.op) is Softmax or inner.op is sigmoid or _is_naive(inner)):
        return None
    return apply(move.op, log(move.inputs[0]), *move.inputs[1:])


def _is_naive(node: Apply) -> bool:
    """Whether the logarithm of what ``node`` makes is a logsumexp."""
    return sum_of_exp(node.outputs[0]) is not None


def _mean_of_exp() -> list[Variable]:
    s = apply(Sum((1,)), exp(_var(2, 3)))
    return [log(divide(s, 3)), log(multiply(s, 0.25)), log(multiply(_var(2), s))]


@structural(log, level=LEVEL, examples=_mean_of_exp)
def log_of_scaled_sum_of_exp(node: Apply) -> Variable | None:
    """log(sum(exp(x)) / c) -> logsumexp(x) - log(c); for products as well    widens domain"""
    inner = node.inputs[0].owner
    if inner is None or (inner.op is not divide and inner.op is not multiply):
        return None
    a, b = inner.inputs
    if sum_of_exp(a) is None and sum_of_exp(b) is None:
        return None
    return subtract(log(a), log(b)) if inner.op is divide else add(log(a), log(b))


STABILIZE: Final[tuple[Rule, ...]] = tuple(RULES[_first:])
