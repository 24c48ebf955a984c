"""The error function: x + x P(x**2) below 1, and 1 - exp(-G(x)) above, with G a polynomial for -log(erfc)."""

from __future__ import annotations

from symgraph_kernels.cpu import polynomials as poly
from symgraph_kernels.cpu.vecmath_exp import reduce_exp
from symgraph_kernels.cpu.vecmath_lane import Lane, Value


def erf(f: Lane, x: Value) -> Value:
    a = f.abs(x)
    z = f.mul(x, x)
    small = f.mad(a, f.horner2(z, f.mul(z, z), poly.ERF if f.double else poly.ERF_F32), a)
    u = f.sub(f.at_most(a, 6.0 if f.double else 4.0), 1.0)
    g = f.horner2(u, f.mul(u, u), poly.LOG_ERFC if f.double else poly.LOG_ERFC_F32)
    p, _, rounded = reduce_exp(f, f.neg(g))
    s = f.power_of_two(rounded)
    large = f.sub(1.0, f.mad(s, p, s))
    return f.copysign(f.select(f.cmp("<", a, 1.0), small, large), x)
