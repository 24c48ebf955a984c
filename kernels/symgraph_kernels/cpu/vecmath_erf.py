"""erf: x + x P(x**2) below 1, and 1 - exp(-G(x)) above, with G a polynomial for -log(erfc).

erfc: 1 - erf(x) below 0.8, and exp(-x**2) times a polynomial in (x - c) / (x + c) above, which keeps the relative
accuracy of the tail.
"""

from __future__ import annotations

from symgraph_kernels.cpu import polynomials as poly
from symgraph_kernels.cpu.vecmath_exp import reduce_exp, scale_twice
from symgraph_kernels.cpu.vecmath_lane import Lane, Value


def _near_zero(f: Lane, x: Value) -> Value:
    z = f.mul(x, x)
    return f.mad(x, f.horner2(z, f.mul(z, z), poly.ERF if f.double else poly.ERF_F32), x)


def erf(f: Lane, x: Value) -> Value:
    a = f.abs(x)
    small = _near_zero(f, a)
    u = f.sub(f.at_most(a, 6.0 if f.double else 4.0), 1.0)
    g = f.horner2(u, f.mul(u, u), poly.LOG_ERFC if f.double else poly.LOG_ERFC_F32)
    p, _, rounded = reduce_exp(f, f.neg(g))
    s = f.power_of_two(rounded)
    large = f.sub(1.0, f.mad(s, p, s))
    return f.copysign(f.select(f.cmp("<", a, 1.0), small, large), x)


def erfc(f: Lane, x: Value) -> Value:
    a = f.at_most(f.abs(x), 28.0 if f.double else 10.5)
    center = 4.0 if f.double else 2.0
    d, d_low = f.two_sum(a, center)
    inverse = f.div(1.0, d)
    # 1 / (d + d_low) is inverse * (1 + lost)
    lost = f.mad(f.neg(inverse), d_low, f.fma(f.neg(inverse), d, 1.0))
    t = f.mul(f.sub(a, center), inverse)
    t = f.mad(t, lost, t)
    # even and odd parts apart would cancel
    q = f.horner(t, poly.ERFCX if f.double else poly.ERFCX_F32)
    scaled = f.mul(f.mad(q, lost, q), inverse)
    # exp(-a**2) to the last place needs the square to more places than one float has
    square, low = f.two_product(a, a)
    p, k, _ = reduce_exp(f, f.neg(square))
    e = f.add(f.mad(f.neg(low), f.add(p, 1.0), p), 1.0)
    tail = scale_twice(f, f.mul(e, scaled), k)
    far = f.select(f.cmp("<", x, 0.0), f.sub(2.0, tail), tail)
    return f.select(f.cmp("<", a, 0.8), f.sub(1.0, _near_zero(f, x)), far)
