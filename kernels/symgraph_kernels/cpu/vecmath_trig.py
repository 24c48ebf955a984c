"""sin, cos and tan: x - k pi/2 in double-double (Cody and Waite, three parts of pi/2), then two polynomials.

Good for |x| below `limit`; what lies beyond is the business of `huge`.
"""

from __future__ import annotations

from typing import NamedTuple

from symgraph_kernels.cpu import polynomials as poly
from symgraph_kernels.cpu.vecmath_huge import huge
from symgraph_kernels.cpu.vecmath_lane import Lane, Value


def limit(f: Lane) -> float:
    """k stays exact, and the reduced argument good to an ulp, up to here."""
    return 2.0**48 if f.double else 2.0**19


def reduce_trig(f: Lane, x: Value) -> tuple[Value, Value, Value]:
    """(r, its low part, `magic + k`) with x = k pi/2 + r, |r| <= pi/4."""
    first, second, third = poly.HALF_PI if f.double else poly.HALF_PI_F32
    rounded = f.mad(x, 0.6366197723675814, f.magic)
    k = f.neg(f.sub(rounded, f.magic))
    # exact: both operands are multiples of the ulp of `first` or of x, and the difference is below 1
    r = f.fma(k, first, x)
    p, p_low = f.two_product(k, second)
    s, e = f.two_sum(r, p)
    low = f.mad(k, third, f.add(e, p_low))
    high, low = f.fast_two_sum(s, low)
    return high, low, rounded


class Pair(NamedTuple):
    """Sine and cosine of the reduced argument, and the quadrant in the low bits of an integer."""

    sin: Value
    cos: Value
    quadrant: Value


def _pair(f: Lane, x: Value) -> Pair:
    r, low, rounded = reduce_trig(f, x)
    z = f.mul(r, r)
    zz = f.mul(z, z)
    s = f.horner2(z, zz, poly.SIN if f.double else poly.SIN_F32)
    sin = f.add(f.mad(f.mul(r, z), s, low), r)
    c = f.horner2(z, zz, poly.COS if f.double else poly.COS_F32)
    half = f.mul(z, 0.5)
    one = f.sub(1.0, half)
    # what the rounding of 1 - z/2 lost, and -r * low
    lost = f.mad(f.neg(r), low, f.sub(f.sub(1.0, one), half))
    cos = f.add(one, f.mad(zz, c, lost))
    return Pair(sin, cos, f.to_bits(rounded))


def _is_odd(f: Lane, q: Value) -> Value:
    return f.b.icmp_signed("!=", f.b.and_(q, f.ci(1)), f.ci(0))


def _sine(f: Lane, x: Value, quarters: int) -> Value:
    """sin(x + quarters * pi / 2)."""
    sin, cos, q = _pair(f, x)
    b = f.b
    if quarters:
        q = b.add(q, f.ci(quarters))
    odd = _is_odd(f, q)
    sign = b.shl(b.and_(q, f.ci(2)), f.ci(f.bits - 2))
    return f.from_bits(b.xor(f.to_bits(f.select(odd, cos, sin)), sign))


def sin(f: Lane, x: Value) -> Value:
    # the reduction would turn -0 into +0
    result = f.select(f.cmp("<", f.abs(x), 2.0**-27 if f.double else 2.0**-13), x, _sine(f, x, 0))
    return huge(f, "sin", x, limit(f), result)


def cos(f: Lane, x: Value) -> Value:
    return huge(f, "cos", x, limit(f), _sine(f, x, 1))


def tan(f: Lane, x: Value) -> Value:
    sin, cos, q = _pair(f, x)
    odd = _is_odd(f, q)
    ratio = f.div(f.select(odd, f.neg(cos), sin), f.select(odd, sin, cos))
    result = f.select(f.cmp("<", f.abs(x), 2.0**-27 if f.double else 2.0**-13), x, ratio)
    return huge(f, "tan", x, limit(f), result)
