"""Canonical forms of arithmetic: one way of writing what can be written in several. Exact unless a rule says otherwise.

The sets of :mod:`symgraph.rewrite.structure` (shapes, sums, contractions) and this one run together.
"""

from __future__ import annotations

from typing import Final

from symgraph.ops.elementwise import (
    absolute,
    divide,
    equal,
    greater,
    greater_equal,
    less,
    less_equal,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    maximum,
    minimum,
    negative,
    not_equal,
    positive,
    power,
    reciprocal,
    relu,
    sign,
    sqrt,
    square,
    where,
)
from symgraph.rewrite.pattern import RULES, Boolean, Float, Integer, Number, Rule, Scalar, Sides, rewrite

_first = len(RULES)

# -- neutral elements -------------------------------------------------------------------------------------------------------


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
def subtract_zero(x: Number) -> Sides:
    """x - 0 -> x    exact"""
    return x - 0, x


CANONICALIZE: Final[tuple[Rule, ...]] = tuple(RULES[_first:])
