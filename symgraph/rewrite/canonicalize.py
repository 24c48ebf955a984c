"""Canonical forms: one way of writing what can be written in several. Here are those of arithmetic.

Selection and logic, shapes, reductions and contractions have modules of their own; all run together.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from symgraph.graph import Apply, Constant, Variable
from symgraph.ops.elementwise import (
    Cast,
    StopGradient,
    absolute,
    cast,
    floor_divide,
    negative,
    positive,
    power,
    reciprocal,
    remainder,
    sign,
    sqrt,
    square,
    stop_gradient,
)
from symgraph.ops.shaping import (
    ClipGradient,
    ClipGradientNorm,
    ScaleGradient,
    ZeroGradient,
    clip_gradient,
    scale_gradient,
    zero_gradient,
)
from symgraph.rewrite.checkpoints import CHECKPOINTS
from symgraph.rewrite.contractions import CONTRACTIONS
from symgraph.rewrite.logic import LOGIC
from symgraph.rewrite.pattern import (
    RULES,
    Float,
    Integer,
    Number,
    Rule,
    Scalar,
    Sides,
    Signed,
    rewrite,
    structural,
)
from symgraph.rewrite.reductions import REDUCTIONS
from symgraph.rewrite.structure import STRUCTURE
from symgraph.types import tensor_type

_first = len(RULES)
POSITIVE: Final = (0.1, 4.0)

# -- neutral and absorbing elements ------------------------------------------------------------------------------------


@rewrite
def multiply_by_one(x: Number) -> Sides:
    """x * 1 -> x    exact"""
    return x * 1, x


@rewrite
def divide_by_one(x: Float) -> Sides:
    """x / 1 -> x    exact"""
    return x / 1, x


@rewrite
def add_negative_zero(x: Float) -> Sides:
    """x + (-0.0) -> x    exact"""
    # x + 0.0 is not x where x is -0.0.
    return x + -0.0, x


@rewrite
def add_zero(x: Integer) -> Sides:
    """x + 0 -> x    exact"""
    return x + 0, x


@rewrite(level="widens domain")
def add_positive_zero(x: Float) -> Sides:
    """x + 0.0 -> x    real-equal"""
    return x + 0.0, x


@rewrite
def subtract_zero(x: Number) -> Sides:
    """x - 0 -> x    exact"""
    return x - 0, x


@rewrite
def zero_minus(x: Integer) -> Sides:
    """0 - x -> -x    exact"""
    return 0 - x, -x


@rewrite
def negative_zero_minus(x: Float) -> Sides:
    """-0.0 - x -> -x    exact"""
    return -0.0 - x, -x


@rewrite
def multiply_by_minus_one(x: Signed) -> Sides:
    """x * (-1) -> -x    exact"""
    return x * -1, -x


@rewrite
def divide_by_minus_one(x: Float) -> Sides:
    """x / (-1) -> -x    exact"""
    return x / -1, -x


@rewrite
def multiply_by_zero(x: Integer) -> Sides:
    """x * 0 -> 0    exact"""
    return x * 0, 0


@rewrite
def multiply_by_zero_float(x: Float) -> Sides:
    """x * 0 -> 0    widens domain"""
    return x * 0, 0


@rewrite
def zero_over(x: Float) -> Sides:
    """0 / x -> 0    widens domain"""
    return 0 / x, 0


@rewrite
def subtract_itself(x: Integer) -> Sides:
    """x - x -> 0    exact"""
    return x - x, 0


@rewrite
def subtract_itself_float(x: Float) -> Sides:
    """x - x -> 0    widens domain"""
    return x - x, 0


@rewrite
def divide_by_itself(x: Float) -> Sides:
    """x / x -> 1    widens domain"""
    return x / x, 1


@rewrite
def floor_divide_by_one(x: Integer) -> Sides:
    """x // 1 -> x    exact"""
    return floor_divide(x, 1), x


@rewrite
def remainder_of_one(x: Integer) -> Sides:
    """x % 1 -> 0    exact"""
    return remainder(x, 1), 0


@rewrite
def add_itself(x: Number) -> Sides:
    """x + x -> 2 * x    exact"""
    return x + x, 2 * x


# -- signs -------------------------------------------------------------------------------------------------------------


@rewrite
def negative_of_negative(x: Number) -> Sides:
    """-(-x) -> x    exact"""
    return negative(-x), x


@rewrite
def negative_factor(x: Number, y: Number) -> Sides:
    """(-x) * y -> -(x * y)    exact"""
    return (-x) * y, -(x * y)


@rewrite
def negative_dividend(x: Float, y: Float) -> Sides:
    """(-x) / y -> -(x / y)    exact"""
    return (-x) / y, -(x / y)


@rewrite
def negative_divisor(x: Float, y: Float) -> Sides:
    """x / (-y) -> -(x / y)    exact"""
    return x / (-y), -(x / y)


@rewrite
def add_negative(x: Number, y: Number) -> Sides:
    """x + (-y) -> x - y    exact"""
    return x + (-y), x - y


@rewrite
def subtract_negative(x: Number, y: Number) -> Sides:
    """x - (-y) -> x + y    exact"""
    return x - (-y), x + y


@rewrite
def negative_of_multiple(c: Scalar, x: Number) -> Sides:
    """-(c * x) -> (-c) * x    exact"""
    return -(c * x), (-c) * x


@rewrite
def negative_of_fraction(c: Scalar, x: Float) -> Sides:
    """-(c / x) -> (-c) / x    exact"""
    return -(c / x), (-c) / x


@rewrite
def negative_of_quotient(x: Float, c: Scalar) -> Sides:
    """-(x / c) -> x / (-c)    exact"""
    return -(x / c), x / (-c)


@rewrite
def reciprocal_of_negative(x: Float) -> Sides:
    """1 / (-x) -> -(1 / x)    exact"""
    return reciprocal(-x), -reciprocal(x)


@rewrite
def square_of_negative(x: Number) -> Sides:
    """square(-x) -> square(x)    exact"""
    return square(-x), square(x)


@rewrite
def square_of_absolute(x: Number) -> Sides:
    """square(abs(x)) -> square(x)    exact"""
    return square(absolute(x)), square(x)


@rewrite
def absolute_of_negative(x: Float) -> Sides:
    """abs(-x) -> abs(x)    exact"""
    return absolute(-x), absolute(x)


@rewrite
def absolute_of_absolute(x: Float) -> Sides:
    """abs(abs(x)) -> abs(x)    exact"""
    return absolute(absolute(x)), absolute(x)


@rewrite
def absolute_of_square(x: Float) -> Sides:
    """abs(square(x)) -> square(x)    exact"""
    return absolute(square(x)), square(x)


@rewrite
def sign_of_sign(x: Float) -> Sides:
    """sign(sign(x)) -> sign(x)    exact"""
    return sign(sign(x)), sign(x)


@rewrite
def plus(x: Number) -> Sides:
    """+x -> x    exact"""
    return positive(x), x


# -- powers, quotients, roots ------------------------------------------------------------------------------------------


@rewrite
def multiply_by_itself(x: Number) -> Sides:
    """x * x -> square(x)    exact"""
    return x * x, square(x)


@rewrite
def one_over(x: Float) -> Sides:
    """1 / x -> reciprocal(x)    exact"""
    return 1 / x, reciprocal(x)


@rewrite
def power_zero(x: Float) -> Sides:
    """x ** 0 -> 1    exact"""
    # IEEE 754's pow: also for a NaN.
    return power(x, 0), 1


@rewrite
def power_one(x: Number) -> Sides:
    """x ** 1 -> x    exact"""
    return power(x, 1), x


@rewrite
def power_two(x: Number) -> Sides:
    """x ** 2 -> square(x)    real-equal"""
    return power(x, 2), square(x)


@rewrite
def power_three(x: Number) -> Sides:
    """x ** 3 -> square(x) * x    real-equal"""
    return power(x, 3), square(x) * x


@rewrite
def power_four(x: Number) -> Sides:
    """x ** 4 -> square(square(x))    real-equal"""
    return power(x, 4), square(square(x))


@rewrite
def power_minus_one(x: Float) -> Sides:
    """x ** -1 -> reciprocal(x)    real-equal"""
    return power(x, -1), reciprocal(x)


@rewrite
def power_minus_two(x: Float) -> Sides:
    """x ** -2 -> reciprocal(square(x))    real-equal"""
    return power(x, -2), reciprocal(square(x))


@rewrite(domain=POSITIVE)
def power_half(x: Float) -> Sides:
    """x ** 0.5 -> sqrt(x)    real-equal"""
    # As NumPy's own ** has it; the two differ at -inf and -0.0.
    return power(x, 0.5), sqrt(x)


@rewrite(domain=POSITIVE)
def power_minus_half(x: Float) -> Sides:
    """x ** -0.5 -> reciprocal(sqrt(x))    real-equal"""
    return power(x, -0.5), reciprocal(sqrt(x))


@rewrite
def multiply_by_reciprocal(x: Float, y: Float) -> Sides:
    """x * reciprocal(y) -> x / y    real-equal"""
    return x * reciprocal(y), x / y


@rewrite
def divide_by_reciprocal(x: Float, y: Float) -> Sides:
    """x / reciprocal(y) -> x * y    real-equal"""
    return x / reciprocal(y), x * y


@rewrite
def reciprocal_of_quotient(x: Float, y: Float) -> Sides:
    """1 / (x / y) -> y / x    real-equal"""
    return reciprocal(x / y), y / x


@rewrite(domain=POSITIVE)
def square_of_root(x: Float) -> Sides:
    """square(sqrt(x)) -> x    widens domain"""
    return square(sqrt(x)), x


def _power_of_two(x: Any, c: Constant) -> bool:
    mantissa, exponent = math.frexp(abs(float(c.data)))
    return mantissa == 0.5 and abs(exponent) <= np.finfo(c.data.dtype).maxexp - 2


@rewrite(when=_power_of_two)
def divide_by_power_of_two(x: Float, c: Scalar) -> Sides:
    """x / c -> x * (1 / c), for c a power of two    exact"""
    return x / c, x * reciprocal(c)


@rewrite
def divide_by_number(x: Float, c: Scalar) -> Sides:
    """x / c -> x * (1 / c)    reassociates"""
    return x / c, x * reciprocal(c)


# -- numbers come together ---------------------------------------------------------------------------------------------


@rewrite
def factors_of_integers(c: Scalar, d: Scalar, x: Integer) -> Sides:
    """c * (d * x) -> (c * d) * x    exact"""
    return c * (d * x), (c * d) * x


@rewrite
def terms_of_integers(c: Scalar, d: Scalar, x: Integer) -> Sides:
    """c + (d + x) -> (c + d) + x    exact"""
    return c + (d + x), (c + d) + x


@rewrite
def factors(c: Scalar, d: Scalar, x: Float) -> Sides:
    """c * (d * x) -> (c * d) * x    reassociates"""
    return c * (d * x), (c * d) * x


@rewrite
def factor_and_divisor(c: Scalar, d: Scalar, x: Float) -> Sides:
    """c * (x / d) -> (c / d) * x    reassociates"""
    return c * (x / d), (c / d) * x


@rewrite
def divided_multiple(c: Scalar, d: Scalar, x: Float) -> Sides:
    """(c * x) / d -> (c / d) * x    reassociates"""
    return (c * x) / d, (c / d) * x


@rewrite
def terms(c: Scalar, d: Scalar, x: Float) -> Sides:
    """c + (d + x) -> (c + d) + x    reassociates"""
    return c + (d + x), (c + d) + x


@rewrite
def term_and_difference(c: Scalar, d: Scalar, x: Float) -> Sides:
    """c + (d - x) -> (c + d) - x    reassociates"""
    return c + (d - x), (c + d) - x


def _doubling(c: Constant, d: Constant, x: Variable) -> bool:
    # Multiplying by 2 and by -1 rounds nothing short of overflow; c * d then overflows no later than the product does.
    return abs(float(c.data)) in (1.0, 2.0, 4.0) and 1 / 16 <= abs(float(d.data)) <= 16.0


@rewrite(when=_doubling)
def small_powers_of_two(c: Scalar, d: Scalar, x: Float) -> Sides:
    """c * (d * x) -> (c * d) * x, for c one of 1, 2, 4    real-equal"""
    return c * (d * x), (c * d) * x


# -- casts -------------------------------------------------------------------------------------------------------------


def _keeps_values(source: np.dtype[Any], target: np.dtype[Any]) -> bool:
    """Whether every value of one dtype is a value of the other. (``numpy.can_cast`` lets int64 go to float64.)"""
    if target.kind == "f" and source.kind in "iu":
        return source.itemsize * 8 - (source.kind == "i") <= np.finfo(target).nmant + 1
    return bool(np.can_cast(source, target, "safe"))


def _var(dtype: str, *shape: Any) -> Variable:
    return Variable(tensor_type(dtype, shape), name="x")


@structural(
    Cast,
    examples=lambda: [
        cast(cast(_var("float32", 3), "float64"), "float32"),
        cast(cast(_var("int8", 3), "int32"), "float64"),
        cast(cast(_var("bool", 3), "int64"), "float32"),
    ],
)
def cast_of_cast(node: Apply) -> Variable | None:
    """cast(cast(x, d), e) -> cast(x, e), where d holds every value of x    exact"""
    inner = node.inputs[0].owner
    if inner is None or type(inner.op) is not Cast:
        return None
    (x,) = inner.inputs
    first, middle, last = x.type.dtype, node.inputs[0].type.dtype, node.outputs[0].type.dtype
    if not _keeps_values(first, middle):
        return None
    # From float to int, what is out of range is undefined; from int to int it wraps.
    if middle.kind == "f" and first.kind != "f" and last.kind in "iu" and not _keeps_values(first, last):
        return None
    return cast(x, last)


@structural(StopGradient, examples=lambda: [stop_gradient(_var("float64", 3))])
def stop_gradient_is_identity(node: Apply) -> Variable | None:
    """stop_gradient(x) -> x, once there is nothing left to differentiate    exact"""
    return node.inputs[0]


@structural(
    ZeroGradient,
    ScaleGradient,
    ClipGradient,
    ClipGradientNorm,
    examples=lambda: [
        zero_gradient(_var("float64", 3)),
        scale_gradient(_var("float64", 3), 2),
        clip_gradient(_var("float64", 3), -1, 1),
        clip_gradient(_var("float64", 3), norm=1),
    ],
)
def shaped_gradient_is_identity(node: Apply) -> Variable | None:
    """scale_gradient(x, k) -> x, and its kin, once there is nothing left to differentiate    exact"""
    return node.inputs[0]


ARITHMETIC: Final[tuple[Rule, ...]] = tuple(RULES[_first:])

CANONICALIZE: Final[tuple[Rule, ...]] = ARITHMETIC + CHECKPOINTS + LOGIC + STRUCTURE + REDUCTIONS + CONTRACTIONS
"""Every rule that brings expressions into canonical form."""

EXACT: Final[tuple[Rule, ...]] = tuple(r for r in CANONICALIZE if r.level == "exact")
"""Those of them that keep every bit."""

SPELLINGS: Final[tuple[Rule, ...]] = (
    *EXACT,
    *(r for r in CANONICALIZE if r.name.startswith("power_") and r not in EXACT),
)
"""What stabilization wants to have seen to: the exact forms, and powers as what they are."""
