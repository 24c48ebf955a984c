"""The scalar functions of CUDA kernels: the names of :mod:`symgraph_kernels.cpu.scalar` with a dtype, ``exp_float32``.

``SCALARS`` maps each name to a callable. Where libdevice has the function, it is libdevice's, and its error is that of
NVIDIA's table ("CUDA C++ Programming Guide", mathematical functions: at most 2 units in the last place in float64 for
most). The others are written out here, in terms of libdevice's, with NumPy's results at special values. In the
simulator, NumPy stands in for libdevice, so that all that is written here is run by it.

Functions are written once, in names that stand for those of one dtype: ``one``, ``exp`` and so on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from symgraph_kernels.cuda.define import SIMULATED, TYPES, device

# -- what functions are written in: bound to a dtype when they are made ----------------------------------------------

zero: Any = None
one: Any = None
half: Any = None
inf: Any = None
nan: Any = None
minus_one: Any = None
bits: Any = None
exp: Any = None
log1p: Any = None
fabs: Any = None
fmod: Any = None
fmax: Any = None
fmin: Any = None
floor: Any = None
copysign: Any = None
tgamma: Any = None
log_two: Any = None
cast: Any = None
signed: Any = None
narrow: Any = None
raw: Any = None
top: Any = None
high: Any = None

# -- floating point ----------------------------------------------------------------------------------------------------


def sigmoid(x):  # type: ignore[no-untyped-def]
    """1 / (1 + exp(-x)), without overflow."""
    e = exp(-fabs(x))
    return (one if x >= zero else e) / (one + e)


def softplus(x):  # type: ignore[no-untyped-def]
    """log(1 + exp(x)), without overflow."""
    return fmax(x, zero) + log1p(exp(-fabs(x))) if x == x else x


def logaddexp(a, b):  # type: ignore[no-untyped-def]
    """log(exp(a) + exp(b)); the sum of two equal infinities is that infinity."""
    if a == b:
        return a + log_two
    return fmax(a, b) + log1p(exp(-fabs(a - b))) if (a == a) & (b == b) else a + b


def maximum(a, b):  # type: ignore[no-untyped-def]
    """The larger; nan where either is."""
    return fmax(a, b) if (a == a) & (b == b) else a + b


def minimum(a, b):  # type: ignore[no-untyped-def]
    """The smaller; nan where either is."""
    return fmin(a, b) if (a == a) & (b == b) else a + b


def floor_divide(a, b):  # type: ignore[no-untyped-def]
    """NumPy's: (a - fmod(a, b)) / b, one less where the signs of remainder and divisor differ, then snapped."""
    r = fmod(a, b)
    quotient = (a - r) / b
    if (r != zero) & ((r < zero) != (b < zero)):
        quotient = quotient - one
    whole = floor(quotient)
    if quotient - whole > half:
        whole = whole + one
    if quotient == zero:
        whole = copysign(zero, a / b)
    return a / b if b == zero else whole


def remainder(a, b):  # type: ignore[no-untyped-def]
    """NumPy's: the sign of the divisor, a zero too."""
    r = fmod(a, b)
    if r == zero:
        return copysign(zero, b)
    return r + b if (r < zero) != (b < zero) else r


def sign(x):  # type: ignore[no-untyped-def]
    """-1, 0 or 1; nan of nan."""
    return one if x > zero else (-one if x < zero else x + zero)


def gamma(x):  # type: ignore[no-untyped-def]
    """The gamma function; nan at -inf."""
    return nan if x == -inf else tgamma(x)


def reciprocal(x):  # type: ignore[no-untyped-def]
    """1 / x"""
    return one / x


def square(x):  # type: ignore[no-untyped-def]
    """x * x"""
    return x * x


def isnan(x):  # type: ignore[no-untyped-def]
    """Whether x is nan."""
    return x != x


def isinf(x):  # type: ignore[no-untyped-def]
    """Whether x is infinite."""
    return fabs(x) == inf


def isfinite(x):  # type: ignore[no-untyped-def]
    """Whether x is finite."""
    return fabs(x) < inf


def signbit(x):  # type: ignore[no-untyped-def]
    """Whether the sign bit is set, of -0.0 and of a nan too."""
    return copysign(one, x) < zero


def select(condition, a, b):  # type: ignore[no-untyped-def]
    """``a`` where the condition holds, else ``b``; both are computed."""
    return a if condition else b


def uint64_of(x):  # type: ignore[no-untyped-def]
    """A float as uint64: signed conversions only, so that -1.0 wraps around as in NumPy."""
    limit = cast(9223372036854775808.0)
    return narrow(signed(x)) if x < limit else narrow(signed(x - limit)) ^ narrow(9223372036854775808)


def ordinal(x):  # type: ignore[no-untyped-def]
    """An unsigned number in the order that sorting has: -0.0 is 0.0, and nan, of whatever sign, is last."""
    if x != x:
        return top
    if x == zero:
        return high
    word = cast(raw(x))
    return cast(~word) if word >= high else cast(word | high)


# -- integers ----------------------------------------------------------------------------------------------------------


def floor_divide_int(a, b):  # type: ignore[no-untyped-def]
    """Rounded down; 0 where the divisor is 0; the lowest number divided by -1 wraps around."""
    if b == zero:
        return zero
    return cast(-a) if b == minus_one else cast(a // b)


def remainder_int(a, b):  # type: ignore[no-untyped-def]
    """The sign of the divisor; 0 where the divisor is 0."""
    if (b == zero) | (b == minus_one):
        return zero
    return cast(a % b)


def fmod_int(a, b):  # type: ignore[no-untyped-def]
    """The sign of the dividend; 0 where the divisor is 0."""
    if (b == zero) | (b == minus_one):
        return zero
    r = cast(a % b)
    return cast(r - b) if (r != zero) & ((a < zero) != (b < zero)) else r


def floor_divide_uint(a, b):  # type: ignore[no-untyped-def]
    """Rounded down; 0 where the divisor is 0."""
    return zero if b == zero else cast(a // b)


def remainder_uint(a, b):  # type: ignore[no-untyped-def]
    """The rest of a division; 0 where the divisor is 0."""
    return zero if b == zero else cast(a % b)


def power_int(base, exponent):  # type: ignore[no-untyped-def]
    """By repeated squaring, wrapping around; a negative exponent gives the truncated reciprocal (0, 1 or -1)."""
    if exponent < zero:
        odd = (exponent & one) != zero
        return base if (base == one) | ((base == minus_one) & odd) else (one if base == minus_one else zero)
    out = one
    while exponent > zero:
        if (exponent & one) != zero:
            out = cast(out * base)
        base = cast(base * base)
        exponent = cast(exponent >> one)
    return out


def power_uint(base, exponent):  # type: ignore[no-untyped-def]
    """By repeated squaring, wrapping around."""
    out = one
    while exponent > zero:
        if (exponent & one) != zero:
            out = cast(out * base)
        base = cast(base * base)
        exponent = cast(exponent >> one)
    return out


def square_int(x):  # type: ignore[no-untyped-def]
    """x * x, wrapping around."""
    return cast(x * x)


def absolute_int(x):  # type: ignore[no-untyped-def]
    """Without its sign; the lowest number stays what it is."""
    return cast(-x) if x < zero else x


def sign_int(x):  # type: ignore[no-untyped-def]
    """-1, 0 or 1."""
    return one if x > zero else (minus_one if x < zero else zero)


def sign_uint(x):  # type: ignore[no-untyped-def]
    """0 or 1."""
    return one if x > zero else zero


def maximum_int(a, b):  # type: ignore[no-untyped-def]
    """The larger."""
    return a if a > b else b  # noqa: FURB136  Numba has no max for every dtype that it has comparisons for


def minimum_int(a, b):  # type: ignore[no-untyped-def]
    """The smaller."""
    return a if a < b else b  # noqa: FURB136


def left_shift(a, b):  # type: ignore[no-untyped-def]
    """0 for a count that is negative or too large."""
    return cast(a << b) if (b >= zero) & (b < bits) else zero


def right_shift(a, b):  # type: ignore[no-untyped-def]
    """All sign for a count that is negative or too large."""
    return cast(a >> b) if (b >= zero) & (b < bits) else cast(a >> (bits - one))


def right_shift_uint(a, b):  # type: ignore[no-untyped-def]
    """0 for a count that is too large."""
    return cast(a >> b) if b < bits else zero


def ordinal_int(x):  # type: ignore[no-untyped-def]
    """An unsigned number in the same order."""
    return cast(cast(x) ^ high)


def ordinal_uint(x):  # type: ignore[no-untyped-def]
    """The number itself, as wide as those of other dtypes."""
    return cast(x)


def itself(x):  # type: ignore[no-untyped-def]
    """x"""
    return x


def never(x):  # type: ignore[no-untyped-def]
    """False: no integer is nan or infinite."""
    return False


def always(x):  # type: ignore[no-untyped-def]
    """True: every integer is finite."""
    return True


def logical_or(a, b):  # type: ignore[no-untyped-def]
    """Either."""
    return a | b


def logical_and(a, b):  # type: ignore[no-untyped-def]
    """Both."""
    return a & b


def add(a, b):  # type: ignore[no-untyped-def]
    """a + b"""
    return cast(a + b)


def multiply(a, b):  # type: ignore[no-untyped-def]
    """a * b"""
    return cast(a * b)


# -- the table ---------------------------------------------------------------------------------------------------------

LIBDEVICE = {
    "absolute": "fabs", "arccos": "acos", "arccosh": "acosh", "arcsin": "asin", "arcsinh": "asinh", "arctan": "atan",
    "arctan2": "atan2", "arctanh": "atanh", "cbrt": "cbrt", "ceil": "ceil", "copysign": "copysign", "cos": "cos",
    "cosh": "cosh", "erf": "erf", "erfc": "erfc", "exp": "exp", "exp2": "exp2", "expm1": "expm1", "floor": "floor",
    "fma": "fma", "fmod": "fmod", "gammaln": "lgamma", "hypot": "hypot", "log": "log", "log10": "log10",
    "log1p": "log1p", "log2": "log2", "power": "pow", "rint": "rint", "sin": "sin", "sinh": "sinh", "sqrt": "sqrt",
    "tan": "tan", "tanh": "tanh", "trunc": "trunc", "tgamma": "tgamma", "fmax": "fmax", "fmin": "fmin",
}  # fmt: skip
"""Name of a scalar function -> libdevice's name in double precision; in single precision it ends in ``f``."""

_WRITTEN = (sigmoid, softplus, logaddexp, maximum, minimum, floor_divide, remainder, sign, gamma, reciprocal, square)
_PREDICATES = (isnan, isinf, isfinite, signbit)
_SIGNED: dict[str, Callable[..., Any]] = {
    "floor_divide": floor_divide_int, "remainder": remainder_int, "fmod": fmod_int, "power": power_int,
    "square": square_int, "absolute": absolute_int, "sign": sign_int, "maximum": maximum_int, "minimum": minimum_int,
    "left_shift": left_shift, "right_shift": right_shift,
}  # fmt: skip
_UNSIGNED: dict[str, Callable[..., Any]] = {
    **_SIGNED, "floor_divide": floor_divide_uint, "remainder": remainder_uint, "fmod": remainder_uint,
    "power": power_uint, "absolute": itself, "sign": sign_uint, "right_shift": right_shift_uint,
}  # fmt: skip


def _leaves(dtype: str) -> dict[str, Any]:
    """The functions that libdevice has, for a float dtype; NumPy's in the simulator."""
    if SIMULATED:
        from symgraph_kernels.cuda.simulated import LEAVES

        return LEAVES[dtype]
    from numba.cuda import libdevice

    suffix = "f" if dtype == "float32" else ""
    return {name: getattr(libdevice, found + suffix) for name, found in LIBDEVICE.items()}


def _caster(dtype: str) -> Any:
    if SIMULATED:
        from symgraph_kernels.cuda.simulated import caster

        return caster(dtype)
    return TYPES[dtype]


def _ordinal(dtype: str) -> Any:
    """``ordinal_<dtype>``: to 32 bits, or to 64 from dtypes of 64."""
    kind = np.dtype(dtype)
    to = "uint64" if kind.itemsize == 8 else "uint32"
    value: Any = np.dtype(to).type
    largest = np.iinfo(to).max
    names = {"cast": _caster(to), "top": value(largest), "high": value(largest // 2 + 1), "zero": kind.type(0)}
    if kind.kind != "f":
        return device(ordinal_int if kind.kind == "i" else ordinal_uint, to, names)
    if SIMULATED:
        raw: Any = lambda x: kind.type(x).view(to)  # noqa: E731
    else:
        from numba.cuda import libdevice

        raw = libdevice.double_as_longlong if kind.itemsize == 8 else libdevice.float_as_int
    return device(ordinal, to, {**names, "raw": raw})


def _floats(dtype: str) -> dict[str, Any]:
    value = np.dtype(dtype).type
    found = _leaves(dtype)
    names = {
        **found, "fabs": found["absolute"], "zero": value(0), "one": value(1), "half": value(0.5), "inf": value("inf"),
        "nan": value("nan"), "log_two": value(np.log(2.0)), "cast": _caster(dtype), "signed": _caster("int64"),
        "narrow": _caster("uint64"),
    }  # fmt: skip
    table = {f"{name}_{dtype}": leaf for name, leaf in found.items()}
    table |= {f"{f.__name__}_{dtype}": device(f, dtype, names) for f in (*_WRITTEN, add, multiply)}
    table |= {f"{f.__name__}_{dtype}": device(f, "bool", names) for f in _PREDICATES}
    table[f"uint64_of_{dtype}"] = device(uint64_of, "uint64", names)
    table[f"ordinal_{dtype}"] = _ordinal(dtype)
    return table


def _integers(dtype: str) -> dict[str, Any]:
    kind = np.dtype(dtype)
    value: Any = kind.type
    names = {
        "zero": value(0), "one": value(1), "minus_one": value(-1 if kind.kind == "i" else 0),
        "bits": value(8 * kind.itemsize), "cast": _caster(dtype),
    }  # fmt: skip
    found: dict[str, Callable[..., Any]] = {
        **(_SIGNED if kind.kind == "i" else _UNSIGNED),
        "add": add,
        "multiply": multiply,
    }
    table = {f"{name}_{dtype}": device(f, dtype, names) for name, f in found.items()}
    return table | _finite(dtype) | {f"ordinal_{dtype}": _ordinal(dtype)}


def _finite(dtype: str) -> dict[str, Any]:
    found: dict[str, Callable[..., Any]] = {"isnan": never, "isinf": never, "isfinite": always}
    return {f"{name}_{dtype}": device(f, "bool", {}) for name, f in found.items()}


def _table() -> dict[str, Any]:
    table: dict[str, Any] = {}
    for dtype in TYPES:
        if dtype != "float16":
            table[f"select_{dtype}"] = device(select, dtype, {})
    for dtype in ("float32", "float64"):
        table |= _floats(dtype)
    for sign_ in ("", "u"):
        for width in (8, 16, 32, 64):
            table |= _integers(f"{sign_}int{width}")
    table |= _finite("bool")
    table["absolute_bool"] = device(itself, "bool", {})
    table["logical_or_bool"] = device(logical_or, "bool", {})
    table["logical_and_bool"] = device(logical_and, "bool", {})
    return table


SCALARS: dict[str, Any] = _table()
