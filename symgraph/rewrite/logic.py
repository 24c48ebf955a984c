"""Canonical forms of selection, extrema, rounding, comparison and logic."""

from __future__ import annotations

import math
from typing import Any, Final

from symgraph.ops.elementwise import (
    _clip_op,
    bitwise_and,
    bitwise_invert,
    bitwise_or,
    bitwise_xor,
    ceil,
    equal,
    floor,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    maximum,
    minimum,
    not_equal,
    relu,
    rint,
    trunc,
    where,
)
from symgraph.rewrite.pattern import RULES, Boolean, Float, Integer, Number, Rule, Sides, rewrite

_first = len(RULES)

# -- selection ---------------------------------------------------------------------------------------------------------


@rewrite
def where_true(x: Any, y: Any) -> Sides:
    """where(True, x, y) -> x    exact"""
    return where(True, x, y), x


@rewrite
def where_false(x: Any, y: Any) -> Sides:
    """where(False, x, y) -> y    exact"""
    return where(False, x, y), y


@rewrite
def where_same(c: Boolean, x: Any) -> Sides:
    """where(c, x, x) -> x    exact"""
    return where(c, x, x), x


@rewrite
def where_not(c: Boolean, x: Any, y: Any) -> Sides:
    """where(not c, x, y) -> where(c, y, x)    exact"""
    return where(logical_not(c), x, y), where(c, y, x)


@rewrite
def where_where_first(c: Boolean, x: Any, y: Any, z: Any) -> Sides:
    """where(c, where(c, x, y), z) -> where(c, x, z)    exact"""
    return where(c, where(c, x, y), z), where(c, x, z)


@rewrite
def where_where_second(c: Boolean, x: Any, y: Any, z: Any) -> Sides:
    """where(c, x, where(c, y, z)) -> where(c, x, z)    exact"""
    return where(c, x, where(c, y, z)), where(c, x, z)


@rewrite
def where_true_false(c: Boolean) -> Sides:
    """where(c, True, False) -> c    exact"""
    return where(c, True, False), c


@rewrite
def negative_in_where(c: Boolean, x: Number, y: Number) -> Sides:
    """where(c, -x, -y) -> -where(c, x, y)    exact"""
    return where(c, -x, -y), -where(c, x, y)


# -- extrema and rounding ----------------------------------------------------------------------------------------------


@rewrite
def maximum_of_same(x: Any) -> Sides:
    """maximum(x, x) -> x    exact"""
    return maximum(x, x), x


@rewrite
def minimum_of_same(x: Any) -> Sides:
    """minimum(x, x) -> x    exact"""
    return minimum(x, x), x


@rewrite
def maximum_neutral(x: Float) -> Sides:
    """maximum(x, -inf) -> x    exact"""
    return maximum(x, -math.inf), x


@rewrite
def minimum_neutral(x: Float) -> Sides:
    """minimum(x, inf) -> x    exact"""
    return minimum(x, math.inf), x


@rewrite
def clip_above(x: Float, hi: Float) -> Sides:
    """clip(x, -inf, hi) -> minimum(x, hi)    exact"""
    return _clip_op(x, -math.inf, hi), minimum(x, hi)


@rewrite
def clip_below(x: Float, lo: Float) -> Sides:
    """clip(x, lo, inf) -> maximum(x, lo)    exact"""
    return _clip_op(x, lo, math.inf), maximum(x, lo)


@rewrite
def relu_of_relu(x: Number) -> Sides:
    """relu(relu(x)) -> relu(x)    exact"""
    return relu(relu(x)), relu(x)


@rewrite
def floor_of_floor(x: Float) -> Sides:
    """floor(floor(x)) -> floor(x)    exact"""
    return floor(floor(x)), floor(x)


@rewrite
def ceil_of_ceil(x: Float) -> Sides:
    """ceil(ceil(x)) -> ceil(x)    exact"""
    return ceil(ceil(x)), ceil(x)


@rewrite
def trunc_of_trunc(x: Float) -> Sides:
    """trunc(trunc(x)) -> trunc(x)    exact"""
    return trunc(trunc(x)), trunc(x)


@rewrite
def rint_of_rint(x: Float) -> Sides:
    """rint(rint(x)) -> rint(x)    exact"""
    return rint(rint(x)), rint(x)


# -- comparison and logic ----------------------------------------------------------------------------------------------


@rewrite
def equal_to_itself(x: Integer) -> Sides:
    """x == x -> True    exact"""
    return equal(x, x), True


@rewrite
def not_equal_to_itself(x: Integer) -> Sides:
    """x != x -> False    exact"""
    return not_equal(x, x), False


@rewrite
def less_than_itself(x: Any) -> Sides:
    """x < x -> False    exact"""
    return x < x, False


@rewrite
def greater_than_itself(x: Any) -> Sides:
    """x > x -> False    exact"""
    return x > x, False


@rewrite
def at_most_itself(x: Integer) -> Sides:
    """x <= x -> True    exact"""
    return x <= x, True


@rewrite
def at_least_itself(x: Integer) -> Sides:
    """x >= x -> True    exact"""
    return x >= x, True


@rewrite
def not_equal_of_not(x: Any, y: Any) -> Sides:
    """not (x == y) -> x != y    exact"""
    return logical_not(equal(x, y)), not_equal(x, y)


@rewrite
def equal_of_not(x: Any, y: Any) -> Sides:
    """not (x != y) -> x == y    exact"""
    return logical_not(not_equal(x, y)), equal(x, y)


@rewrite
def not_less(x: Integer, y: Integer) -> Sides:
    """not (x < y) -> x >= y    exact"""
    return logical_not(x < y), x >= y


@rewrite
def not_greater(x: Integer, y: Integer) -> Sides:
    """not (x > y) -> x <= y    exact"""
    return logical_not(x > y), x <= y


@rewrite
def not_at_most(x: Integer, y: Integer) -> Sides:
    """not (x <= y) -> x > y    exact"""
    return logical_not(x <= y), x > y


@rewrite
def not_at_least(x: Integer, y: Integer) -> Sides:
    """not (x >= y) -> x < y    exact"""
    return logical_not(x >= y), x < y


@rewrite
def not_not(c: Boolean) -> Sides:
    """not (not c) -> c    exact"""
    return logical_not(logical_not(c)), c


@rewrite
def and_true(c: Boolean) -> Sides:
    """c and True -> c    exact"""
    return logical_and(c, True), c


@rewrite
def and_false(c: Boolean) -> Sides:
    """c and False -> False    exact"""
    return logical_and(c, False), False


@rewrite
def and_same(c: Boolean) -> Sides:
    """c and c -> c    exact"""
    return logical_and(c, c), c


@rewrite
def and_not(c: Boolean) -> Sides:
    """c and not c -> False    exact"""
    return logical_and(c, logical_not(c)), False


@rewrite
def or_false(c: Boolean) -> Sides:
    """c or False -> c    exact"""
    return logical_or(c, False), c


@rewrite
def or_true(c: Boolean) -> Sides:
    """c or True -> True    exact"""
    return logical_or(c, True), True


@rewrite
def or_same(c: Boolean) -> Sides:
    """c or c -> c    exact"""
    return logical_or(c, c), c


@rewrite
def or_not(c: Boolean) -> Sides:
    """c or not c -> True    exact"""
    return logical_or(c, logical_not(c)), True


@rewrite
def xor_false(c: Boolean) -> Sides:
    """c xor False -> c    exact"""
    return logical_xor(c, False), c


@rewrite
def xor_true(c: Boolean) -> Sides:
    """c xor True -> not c    exact"""
    return logical_xor(c, True), logical_not(c)


@rewrite
def xor_same(c: Boolean) -> Sides:
    """c xor c -> False    exact"""
    return logical_xor(c, c), False


@rewrite
def bits_and_same(x: Integer) -> Sides:
    """x & x -> x    exact"""
    return bitwise_and(x, x), x


@rewrite
def bits_and_zero(x: Integer) -> Sides:
    """x & 0 -> 0    exact"""
    return bitwise_and(x, 0), 0


@rewrite
def bits_or_same(x: Integer) -> Sides:
    """x | x -> x    exact"""
    return bitwise_or(x, x), x


@rewrite
def bits_or_zero(x: Integer) -> Sides:
    """x | 0 -> x    exact"""
    return bitwise_or(x, 0), x


@rewrite
def bits_xor_same(x: Integer) -> Sides:
    """x ^ x -> 0    exact"""
    return bitwise_xor(x, x), 0


@rewrite
def bits_xor_zero(x: Integer) -> Sides:
    """x ^ 0 -> x    exact"""
    return bitwise_xor(x, 0), x


@rewrite
def invert_of_invert(x: Integer) -> Sides:
    """~~x -> x    exact"""
    return bitwise_invert(bitwise_invert(x)), x


LOGIC: Final[tuple[Rule, ...]] = tuple(RULES[_first:])
