"""Inverse trigonometric and hyperbolic functions, and hypot."""

from __future__ import annotations

from symgraph_kernels.cpu import polynomials as poly
from symgraph_kernels.cpu.vecmath_lane import Lane, Value
from symgraph_kernels.cpu.vecmath_log import log1p

INF = float("inf")
NAN = float("nan")
TAN_EIGHTH = 0.41421356237309503  # tan(pi / 8)
LN2 = 0.6931471805599453


def _odd(f: Lane, t: Value, z: Value, doubles: tuple[float, ...], singles: tuple[float, ...], low: Value) -> Value:
    """t + (low + t**3 P(t**2)) for z = t**2."""
    p = f.horner2(z, f.mul(z, z), doubles if f.double else singles)
    return f.add(t, f.mad(f.mul(t, z), p, low))


def _quarter_pi(f: Lane) -> tuple[float, ...]:
    return poly.QUARTER_PI if f.double else poly.QUARTER_PI_F32


def arctan(f: Lane, x: Value) -> Value:
    """arctan(a) = k pi/4 + arctan(t), t = a, (a - 1) / (a + 1) or -1 / a, so that |t| <= tan(pi/8)."""
    a = f.abs(x)
    large, middle = f.cmp(">", a, 1 / TAN_EIGHTH), f.cmp(">", a, TAN_EIGHTH)
    above = f.select(large, -1.0, f.select(middle, f.sub(a, 1.0), a))
    below = f.select(large, a, f.select(middle, f.add(a, 1.0), 1.0))
    t = f.div(above, below)
    high, low = _quarter_pi(f)
    k_high = f.select(large, 2 * high, f.select(middle, high, 0.0))
    k_low = f.select(large, 2 * low, f.select(middle, low, 0.0))
    return f.copysign(f.add(k_high, _odd(f, t, f.mul(t, t), poly.ATAN, poly.ATAN_F32, k_low)), x)


def arctan2(f: Lane, y: Value, x: Value) -> Value:
    """The angle of (x, y): k pi/4 plus or minus arctan(t) with |t| <= tan(pi/8)."""
    ax, ay = f.abs(x), f.abs(y)
    steep = f.cmp(">", ay, ax)
    d, n = f.select(steep, ay, ax), f.select(steep, ax, ay)
    # n + d must not overflow
    scale = f.select(f.cmp(">", d, 2.0**1000 if f.double else 2.0**120), 2.0**-60, 1.0)
    infinite = f.cmp("==", n, INF)
    equal = f.cmp("==", n, d)
    d, n = f.mul(d, scale), f.mul(n, scale)
    middle = f.or_(f.cmp(">", n, f.mul(d, TAN_EIGHTH)), infinite)
    t = f.div(f.select(middle, f.sub(n, d), n), f.select(middle, f.add(n, d), d))
    t = f.select(equal, 0.0, t)
    high, low = _quarter_pi(f)
    left = f.b.icmp_signed("<", f.to_bits(x), f.ci(0))
    k = f.select(middle, 1.0, 0.0)
    k = f.select(steep, f.sub(2.0, k), k)
    k = f.select(left, f.sub(4.0, k), k)
    t = f.select(f.b.xor(steep, left), f.neg(t), t)
    # k times the first part is exact
    angle = f.add(f.mul(k, high), _odd(f, t, f.mul(t, t), poly.ATAN, poly.ATAN_F32, f.mul(k, low)))
    return f.select(f.b.fcmp_unordered("uno", x, y), NAN, f.copysign(angle, y))


def _arcsin_parts(f: Lane, a: Value) -> tuple[Value, Value]:
    """(a > 1/2, u): arcsin(a) = u, or pi/2 - 2 u where a > 1/2."""
    large = f.cmp(">", a, 0.5)
    z = f.select(large, f.mul(f.sub(1.0, a), 0.5), f.mul(a, a))
    s = f.select(large, f.intrinsic("sqrt", z), a)
    return large, _odd(f, s, z, poly.ASIN, poly.ASIN_F32, f.c(0.0))


def arcsin(f: Lane, x: Value) -> Value:
    large, u = _arcsin_parts(f, f.abs(x))
    high, low = _quarter_pi(f)
    far = f.sub(2 * high, f.sub(f.add(u, u), 2 * low))
    return f.copysign(f.select(large, far, u), x)


def arccos(f: Lane, x: Value) -> Value:
    large, u = _arcsin_parts(f, f.abs(x))
    high, low = _quarter_pi(f)
    negative = f.cmp("<", x, 0.0)
    near = f.sub(2 * high, f.sub(f.copysign(u, x), 2 * low))
    twice = f.add(u, u)
    far = f.select(negative, f.sub(4 * high, f.sub(twice, 4 * low)), twice)
    return f.select(large, far, near)


def _square_limit(f: Lane) -> float:
    """Beyond it log(2 x) stands for arcsinh and arccosh, and squares might overflow."""
    return 2.0**500 if f.double else 2.0**60


def arcsinh(f: Lane, x: Value) -> Value:
    a = f.abs(x)
    large = f.cmp(">", a, _square_limit(f))
    z = f.mul(a, a)
    inner = f.add(a, f.div(z, f.add(f.intrinsic("sqrt", f.add(z, 1.0)), 1.0)))
    result = f.add(log1p(f, f.select(large, a, inner)), f.select(large, LN2, 0.0))
    return f.copysign(result, x)


def arccosh(f: Lane, x: Value) -> Value:
    large = f.cmp(">", x, _square_limit(f))
    t = f.sub(x, 1.0)
    inner = f.add(t, f.intrinsic("sqrt", f.mul(t, f.add(t, 2.0))))
    result = f.add(log1p(f, f.select(large, x, inner)), f.select(large, LN2, 0.0))
    return f.select(f.cmp("<", x, 1.0), NAN, result)


def arctanh(f: Lane, x: Value) -> Value:
    a = f.abs(x)
    return f.copysign(f.mul(log1p(f, f.div(f.add(a, a), f.sub(1.0, a))), 0.5), x)


def hypot(f: Lane, x: Value, y: Value) -> Value:
    """sqrt(x**2 + y**2) without overflow on the way; inf if either is, even beside a nan."""
    ax, ay = f.abs(x), f.abs(y)
    less = f.cmp("<", ax, ay)
    large, small = f.select(less, ay, ax), f.select(less, ax, ay)
    # the greater becomes some number near 1: by a power of two, so nothing is rounded
    up = f.cmp("<", large, 2.0**-450 if f.double else 2.0**-50)
    down = f.cmp(">", large, 2.0**450 if f.double else 2.0**50)
    s = 2.0**600 if f.double else 2.0**90
    scale = f.select(up, s, f.select(down, 1 / s, 1.0))
    back = f.select(up, 1 / s, f.select(down, s, 1.0))
    a, b = f.mul(large, scale), f.mul(small, scale)
    result = f.mul(f.intrinsic("sqrt", f.mad(b, b, f.mul(a, a))), back)
    result = f.select(f.b.fcmp_unordered("uno", x, y), NAN, result)
    infinite = f.or_(f.cmp("==", ax, INF), f.cmp("==", ay, INF))
    return f.select(infinite, INF, result)
