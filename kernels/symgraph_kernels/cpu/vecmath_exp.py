"""The exponential family: exp, exp2, expm1, sinh, cosh, tanh, sigmoid.

All rest on exp(x) = 2**k * (1 + p) with k = rint(x / ln 2) and p = expm1(x - k ln 2), a polynomial.
"""

from __future__ import annotations

from typing import NamedTuple

from symgraph_kernels.cpu import polynomials as poly
from symgraph_kernels.cpu.vecmath_lane import Lane, Value


class Reduced(NamedTuple):
    """exp(x) = 2**k * (1 + p); `rounded` is `magic + k`, whose low bits are the integer k."""

    p: Value
    k: Value
    rounded: Value


def reduce_exp(f: Lane, x: Value) -> Reduced:
    """`x` must be nan or well within the range of k (some thousands)."""
    rounded = f.mad(x, poly.LOG2_E[0] if f.double else poly.LOG2_E_F32[0], f.magic)
    k = f.sub(rounded, f.magic)
    high, low = poly.LN2 if f.double else poly.LN2_F32
    # k * high and its difference from x are exact, so a fused step and two separate ones agree
    r = f.mad(k, -low, f.mad(k, -high, x))
    r2 = f.mul(r, r)
    p = f.mad(r2, f.horner2(r, r2, poly.EXP if f.double else poly.EXP_F32), r)
    return Reduced(p, k, rounded)


def scale_twice(f: Lane, y: Value, k: Value) -> Value:
    """y * 2**k in two factors, for k beyond the normal exponents: overflow and subnormal results come out right."""
    half = f.mad(k, 0.5, f.magic)
    other = f.add(f.sub(k, f.sub(half, f.magic)), f.magic)
    return f.mul(f.mul(y, f.power_of_two(half)), f.power_of_two(other))


def exp(f: Lane, x: Value) -> Value:
    x = f.at_most(f.at_least(x, -746.0 if f.double else -104.0), 710.0 if f.double else 89.0)
    p, k, _ = reduce_exp(f, x)
    return scale_twice(f, f.add(p, 1.0), k)


def exp2(f: Lane, x: Value) -> Value:
    x = f.at_most(f.at_least(x, -1076.0 if f.double else -151.0), 1025.0 if f.double else 129.0)
    k = f.sub(f.add(x, f.magic), f.magic)
    r = f.sub(x, k)
    q = f.horner2(r, f.mul(r, r), poly.EXP2 if f.double else poly.EXP2_F32)
    return scale_twice(f, f.mad(r, q, 1.0), k)


def tiny(f: Lane) -> float:
    """Below this, odd functions of slope one at 0 return their argument, which also keeps -0 and subnormals."""
    return 2.0**-54 if f.double else 2.0**-25


def expm1(f: Lane, x: Value) -> Value:
    limited = f.at_most(f.at_least(x, -40.0 if f.double else -20.0), 710.0 if f.double else 89.0)
    p, _, rounded = reduce_exp(f, limited)
    # half the result first: 2**k alone would overflow before the result does
    s = f.power_of_two(f.sub(rounded, 1.0))
    half = f.mad(s, p, f.sub(s, 0.5))
    return f.select(f.cmp("<", f.abs(x), tiny(f)), x, f.add(half, half))


def expm1_of_negative(f: Lane, x: Value) -> Value:
    """expm1 for x <= 0 without care for the sign of zero; -1 from about -40 (float32: -20)."""
    p, _, rounded = reduce_exp(f, f.at_least(x, -40.0 if f.double else -20.0))
    s = f.power_of_two(rounded)
    return f.mad(s, p, f.sub(s, 1.0))


def tanh(f: Lane, x: Value) -> Value:
    e = expm1_of_negative(f, f.mul(f.abs(x), -2.0))
    return f.copysign(f.div(e, f.add(e, 2.0)), x)


def sinh(f: Lane, x: Value) -> Value:
    a = f.at_most(f.abs(x), 710.6 if f.double else 89.5)
    p, _, rounded = reduce_exp(f, a)
    s = f.power_of_two(f.sub(rounded, 2.0))
    quarter = f.mad(s, p, f.sub(s, 0.25))
    h = f.add(quarter, quarter)  # expm1(a) / 2, and sinh(a) = h + h / (2 h + 1)
    finite = f.at_most(h, 1e300 if f.double else 1e30)
    result = f.add(h, f.div(finite, f.add(f.add(finite, finite), 1.0)))
    return f.copysign(f.select(f.cmp("<", a, tiny(f)), a, result), x)


def cosh(f: Lane, x: Value) -> Value:
    p, k, _ = reduce_exp(f, f.at_most(f.abs(x), 710.6 if f.double else 89.5))
    half = scale_twice(f, f.add(p, 1.0), f.sub(k, 1.0))
    return f.add(half, f.div(0.25, half))


def sigmoid(f: Lane, x: Value) -> Value:
    """1 / (1 + exp(-x)); e / (1 + e) below zero, so that tails keep their relative accuracy."""
    e = exp(f, f.neg(f.abs(x)))
    return f.div(f.select(f.cmp("<", x, 0.0), e, 1.0), f.add(e, 1.0))
