"""power(x, y) = 2**(y log2|x|), then the sign and the special cases; and the cube root.

The logarithm is in double-double (float32: in float64), since its relative error grows y log2|x| times.
"""

from __future__ import annotations

from symgraph_kernels.cpu import polynomials as poly
from symgraph_kernels.cpu.vecmath_exp import scale_twice
from symgraph_kernels.cpu.vecmath_lane import F32, F64, Lane, Value
from symgraph_kernels.cpu.vecmath_log import split, split_any

INF = float("inf")
NAN = float("nan")


def _log2_pair(f: Lane, x: Value) -> tuple[Value, Value]:
    """log2(x) of a positive finite float64 to about 2**-64, as an unevaluated sum."""
    m, k, _ = split_any(f, x)
    m1 = f.sub(m, 1.0)
    # s = (m - 1) / (m + 1), with the rounding of both the sum and the quotient made good
    d = f.add(m, 1.0)
    d_low = f.sub(m, f.sub(d, 1.0))
    inverse = f.div(1.0, d)
    s = f.mul(m1, inverse)
    s_low = f.mul(f.sub(f.fma(f.neg(s), d, m1), f.mul(s, d_low)), inverse)
    z, z_low = f.two_product(s, s)
    z_low = f.mad(f.add(s, s), s_low, z_low)
    # s * (c0 + z * (c1 + z * tail))
    t = f.mul(z, f.horner2(z, f.mul(z, z), poly.LOG2_TAIL))
    b, b_low = f.fast_two_sum(poly.TWO_THIRDS_LOG2_E[0], t)
    b_low = f.add(b_low, poly.TWO_THIRDS_LOG2_E[1])
    a, a_low = f.two_product(z, b)
    a_low = f.mad(z, b_low, f.mad(z_low, b, a_low))
    c, c_low = f.fast_two_sum(poly.TWO_LOG2_E[0], a)
    c_low = f.add(c_low, f.add(a_low, poly.TWO_LOG2_E[1]))
    p, p_low = f.two_product(s, c)
    p_low = f.mad(s, c_low, f.mad(s_low, c, p_low))
    h, low = f.fast_two_sum(k, p)
    return h, f.add(low, p_low)


def _magnitude(f: Lane, x: Value, y: Value) -> Value:
    """|x|**y in float64 for finite x other than 0."""
    log2_high, log2_low = _log2_pair(f, x)
    # nothing but 1 to so great a power is finite and not 0; infinities would make nans below
    y = f.at_most(f.at_least(y, -(2.0**70)), 2.0**70)
    high, low = f.two_product(y, log2_high)
    low = f.mad(y, log2_low, low)
    low = f.select(f.cmp("<", f.abs(high), 1080.0), low, 0.0)
    high = f.at_most(f.at_least(high, -1080.0), 1080.0)
    k = f.sub(f.add(high, f.magic), f.magic)
    r = f.add(f.sub(high, k), low)
    q = f.horner2(r, f.mul(r, r), poly.EXP2)
    return scale_twice(f, f.mad(r, q, 1.0), k)


def _magnitude_single(f: Lane, x: Value, y: Value) -> Value:
    """The same in float32, by way of float64."""
    w = f.wide()
    x, y = f.b.fpext(x, F64), f.b.fpext(y, F64)
    m, k, _ = split(w, x)
    s = w.div(w.sub(m, 1.0), w.add(m, 1.0))
    log2 = w.mad(s, w.horner(w.mul(s, s), poly.LOG2_SHORT), k)
    y = w.at_most(w.at_least(y, -(2.0**70)), 2.0**70)
    e = w.at_most(w.at_least(w.mul(y, log2), -200.0), 200.0)
    rounded = w.add(e, w.magic)
    r = w.sub(e, w.sub(rounded, w.magic))
    scaled = w.mul(w.mad(r, w.horner(r, poly.EXP2_SHORT), 1.0), w.power_of_two(rounded))
    return f.b.fptrunc(scaled, F32)


def power(f: Lane, x: Value, y: Value) -> Value:
    """x**y as C and NumPy define it: 1**y = x**0 = 1 even for nan; a negative base needs an integer exponent."""
    a = f.abs(x)
    r = (_magnitude if f.double else _magnitude_single)(f, a, y)
    # 0 and inf: inf if the exponent drives it up, else 0
    extreme = f.or_(f.cmp("==", a, 0.0), f.cmp("==", a, INF))
    up = f.b.xor(f.cmp("==", a, 0.0), f.cmp(">", y, 0.0))
    r = f.select(extreme, f.select(up, INF, 0.0), r)
    whole = f.cmp("==", f.intrinsic("floor", y), y)
    half = f.mul(y, 0.5)
    odd = f.and_(whole, f.cmp("!=", f.intrinsic("floor", half), half))
    r = f.select(odd, f.copysign(r, x), r)
    negative = f.and_(f.cmp("<", x, 0.0), f.cmp(">", x, -INF))
    r = f.select(f.and_(negative, f.b.not_(whole)), NAN, r)
    r = f.select(f.b.fcmp_unordered("uno", x, y), NAN, r)
    return f.select(f.or_(f.cmp("==", x, 1.0), f.cmp("==", y, 0.0)), 1.0, r)


def cbrt(f: Lane, x: Value) -> Value:
    """A polynomial, a step of Halley's, and one of Newton's whose residual is exact."""
    a = f.abs(x)
    m, k, _ = split_any(f, a)
    rounded = f.mad(k, 1 / 3, f.magic)
    rest = f.sub(k, f.mul(f.sub(rounded, f.magic), 3.0))
    up, down = f.cmp(">", rest, 0.0), f.cmp("<", rest, 0.0)
    y = f.mul(
        f.horner(m, poly.CBRT if f.double else poly.CBRT_F32),
        f.select(up, 2 ** (1 / 3), f.select(down, 2 ** (-1 / 3), 1.0)),
    )
    m = f.mul(m, f.select(up, 2.0, f.select(down, 0.5, 1.0)))
    cube = f.mul(f.mul(y, y), y)
    y = f.div(f.mul(y, f.add(cube, f.add(m, m))), f.add(f.add(cube, cube), m))
    square, low = f.two_product(y, y)
    residual = f.mad(f.neg(low), y, f.fma(f.neg(square), y, m))
    y = f.add(y, f.div(residual, f.mul(square, 3.0)))
    result = f.copysign(f.mul(y, f.power_of_two(rounded)), x)
    return f.select(f.and_(f.cmp(">", a, 0.0), f.cmp("<", a, INF)), result, x)
