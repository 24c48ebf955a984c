"""The logarithms: log, log2, log10, log1p, and softplus and logaddexp, which are log(1 + e) of an exponential.

x = 2**k * m with m in [sqrt(1/2), sqrt(2)), s = (m - 1) / (m + 1), log(m) = 2 atanh(s), a polynomial in s**2. Written
as f - (f**2/2 - s (f**2/2 + R)) with f = m - 1, so that the leading term is exact.
"""

from __future__ import annotations

from typing import NamedTuple

from symgraph_kernels.cpu import polynomials as poly
from symgraph_kernels.cpu.vecmath_exp import exp, tiny
from symgraph_kernels.cpu.vecmath_lane import Lane, Value

ROOT_HALF = 0.7071067811865476
INF = float("inf")


class Split(NamedTuple):
    """A positive normal number as 2**k * m; `field` is k plus the bias less one, an integer."""

    m: Value
    k: Value
    field: Value


def split(f: Lane, x: Value, bias: Value | None = None) -> Split:
    """`bias` is what stands above k in the float made of the exponent field; scaled arguments have one of their own."""
    b = f.b
    root = f.float_bits(ROOT_HALF)
    mask = (1 << f.mantissa) - 1
    moved = b.sub(f.to_bits(x), f.ci(root & mask))
    field = b.lshr(moved, f.ci(f.mantissa))
    m = f.from_bits(b.add(b.and_(moved, f.ci(mask)), f.ci(root)))
    # the integer becomes a float in the low bits of 2**mantissa: conversions of 64-bit integers need AVX-512
    lifted = f.from_bits(b.or_(field, f.ci(f.float_bits(2.0**f.mantissa))))
    return Split(m, f.sub(lifted, field_bias(f) if bias is None else bias), field)


def field_bias(f: Lane) -> float:
    return 2.0**f.mantissa + (f.bias - 1)


def split_any(f: Lane, x: Value) -> Split:
    """`split`, subnormal numbers too."""
    smallest = 2.0 ** (1 - f.bias)
    shift = f.mantissa + 2
    low = f.cmp("<", x, smallest)
    scaled = f.select(low, f.mul(x, 2.0**shift), x)
    return split(f, scaled, f.select(low, field_bias(f) + shift, field_bias(f)))


def tail(f: Lane, m1: Value) -> tuple[Value, Value]:
    """(f**2 / 2, s * (f**2 / 2 + R)) for f = m - 1."""
    s = f.div(m1, f.add(m1, 2.0))
    z = f.mul(s, s)
    half = f.mul(f.mul(m1, 0.5), m1)
    q = f.horner(z, poly.LOG if f.double else poly.LOG_F32)
    return half, f.mul(s, f.mad(z, q, half))


def edges(f: Lane, x: Value, zero: float, result: Value) -> Value:
    """`result`, but -inf where x is `zero`, nan below, and x itself where that is inf or nan."""
    result = f.select(f.cmp("<", x, INF), result, x)
    return f.select(f.cmp_or_nan(">", x, zero), result, f.select(f.cmp("==", x, zero), -INF, float("nan")))


def log(f: Lane, x: Value) -> Value:
    m, k, _ = split_any(f, x)
    high, low = poly.LN2 if f.double else poly.LN2_F32
    m1 = f.sub(m, 1.0)
    half, rest = tail(f, m1)
    small = f.sub(f.sub(half, f.mad(k, low, rest)), m1)
    return edges(f, x, 0.0, f.mad(k, high, f.neg(small)))


def log1p(f: Lane, x: Value) -> Value:
    u, c = f.two_sum(x, 1.0)
    m, k, field = split(f, u)
    high, low = poly.LN2 if f.double else poly.LN2_F32
    # 2**(1 - k), not 2**-k, which has no normal exponent at the upper end
    scale = f.from_bits(f.b.shl(f.b.sub(f.ci(2 * f.bias), field), f.ci(f.mantissa)))
    lost = f.mul(f.mul(c, 0.5), scale)
    m1 = f.sub(m, 1.0)
    m1, error = f.fast_two_sum(m1, lost)
    half, rest = tail(f, m1)
    small = f.sub(f.sub(half, f.add(f.mad(k, low, error), rest)), m1)
    result = edges(f, x, -1.0, f.mad(k, high, f.neg(small)))
    return f.select(f.cmp("<", f.abs(x), tiny(f)), x, result)


def _scaled_log(f: Lane, x: Value, unit: tuple[float, ...], per_k: tuple[float, ...]) -> Value:
    """log(x) * unit, where ln 2 * unit = per_k; both as high and low parts."""
    m, k, _ = split_any(f, x)
    m1 = f.sub(m, 1.0)
    half, rest = tail(f, m1)
    high = f.sub(m1, half)
    low = f.add(f.sub(f.sub(m1, high), half), rest)
    p, error = f.two_product(high, unit[0])
    error = f.mad(low, unit[0], f.mad(high, unit[1], error))
    whole = f.mul(k, per_k[0]) if per_k[0] != 1.0 else k
    if per_k[1]:
        error = f.mad(k, per_k[1], error)
    s, e = f.fast_two_sum(whole, p)
    return edges(f, x, 0.0, f.add(s, f.add(e, error)))


def log2(f: Lane, x: Value) -> Value:
    return _scaled_log(f, x, poly.LOG2_E if f.double else poly.LOG2_E_F32, (1.0, 0.0))


def log10(f: Lane, x: Value) -> Value:
    unit, per_k = (poly.LOG10_E, poly.LOG10_2) if f.double else (poly.LOG10_E_F32, poly.LOG10_2_F32)
    return _scaled_log(f, x, unit, per_k)


def log1p_unit(f: Lane, e: Value) -> Value:
    """log(1 + e) for e in [0, 1]: one polynomial, no splitting."""
    twice = f.div(f.add(e, e), f.add(e, 2.0))
    s = f.mul(twice, 0.5)
    z = f.mul(s, s)
    q = f.horner2(z, f.mul(z, z), poly.LOG1P_UNIT if f.double else poly.LOG1P_UNIT_F32)
    return f.mad(f.mul(s, z), q, twice)


def softplus(f: Lane, x: Value) -> Value:
    """log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|))."""
    return f.add(f.at_least(x, 0.0), log1p_unit(f, exp(f, f.neg(f.abs(x)))))


def logaddexp(f: Lane, a: Value, b: Value) -> Value:
    """log(exp(a) + exp(b))."""
    e = exp(f, f.neg(f.abs(f.sub(a, b))))
    greater = f.select(f.cmp(">", a, b), a, b)
    # equal infinities have no difference
    return f.select(f.cmp("==", a, b), f.add(a, 0.6931471805599453), f.add(greater, log1p_unit(f, e)))
