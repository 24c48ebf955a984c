"""Vector math: the functions whose loops vectorize, written as straight-line code on a `Lane`.

`VECTOR` maps each name to a writer `(lane, *operands) -> value`; `scalar` makes Numba callables of them.
"""

from __future__ import annotations

from collections.abc import Callable

from symgraph_kernels.cpu import vecmath_erf, vecmath_exp, vecmath_inverse, vecmath_log, vecmath_power, vecmath_trig
from symgraph_kernels.cpu.vecmath_lane import Value

Writer = Callable[..., Value]


VECTOR: dict[str, Writer] = {
    "exp": vecmath_exp.exp,
    "exp2": vecmath_exp.exp2,
    "expm1": vecmath_exp.expm1,
    "log": vecmath_log.log,
    "log2": vecmath_log.log2,
    "log10": vecmath_log.log10,
    "log1p": vecmath_log.log1p,
    "sin": vecmath_trig.sin,
    "cos": vecmath_trig.cos,
    "tan": vecmath_trig.tan,
    "arcsin": vecmath_inverse.arcsin,
    "arccos": vecmath_inverse.arccos,
    "arctan": vecmath_inverse.arctan,
    "arctan2": vecmath_inverse.arctan2,
    "arcsinh": vecmath_inverse.arcsinh,
    "arccosh": vecmath_inverse.arccosh,
    "arctanh": vecmath_inverse.arctanh,
    "hypot": vecmath_inverse.hypot,
    "sinh": vecmath_exp.sinh,
    "cosh": vecmath_exp.cosh,
    "tanh": vecmath_exp.tanh,
    "sigmoid": vecmath_exp.sigmoid,
    "softplus": vecmath_log.softplus,
    "logaddexp": vecmath_log.logaddexp,
    "erf": vecmath_erf.erf,
    "erfc": vecmath_erf.erfc,
    "power": vecmath_power.power,
    "cbrt": vecmath_power.cbrt,
}
