"""sin and cos: x - k pi/2 in double-double (Cody and Waite, three parts of pi/2), two polynomials, one chosen by k.

Good for |x| below `LIMIT`; what lies beyond is the business of `huge`.
"""

from __future__ import annotations

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


def _sine(f: Lane, x: Value, quarters: int) -> Value:
    """sin(x + quarters * pi / 2)."""
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
    b = f.b
    q = f.to_bits(rounded)
    if quarters:
        q = b.add(q, f.ci(quarters))
    odd = b.icmp_signed("!=", b.and_(q, f.ci(1)), f.ci(0))
    sign = b.shl(b.and_(q, f.ci(2)), f.ci(f.bits - 2))
    return f.from_bits(b.xor(f.to_bits(f.select(odd, cos, sin)), sign))


def sin(f: Lane, x: Value) -> Value:
    # the reduction would turn -0 into +0
    result = f.select(f.cmp("<", f.abs(x), 2.0**-27 if f.double else 2.0**-13), x, _sine(f, x, 0))
    return huge(f, "sin", x, limit(f), result)


def cos(f: Lane, x: Value) -> Value:
    return huge(f, "cos", x, limit(f), _sine(f, x, 1))
