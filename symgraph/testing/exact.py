"""The elementwise operations once more, on numbers of any precision: what their derivatives are compared with."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import mpmath as mp
import numpy as np
from numpy.typing import NDArray

DIGITS = 50

# By the name of the operation: the function of numbers, as mpmath has it or as the operation's definition says it.
EXACT: dict[str, Callable[..., Any]] = {
    "absolute": mp.fabs,
    "add": lambda x, y: x + y,
    "arccos": mp.acos,
    "arccosh": mp.acosh,
    "arcsin": mp.asin,
    "arcsinh": mp.asinh,
    "arctan": mp.atan,
    "arctan2": mp.atan2,
    "arctanh": mp.atanh,
    "cbrt": lambda x: mp.sign(x) * mp.cbrt(mp.fabs(x)),
    "ceil": mp.ceil,
    "clip": lambda x, lo, hi: min(max(x, lo), hi),
    "copysign": lambda x, y: mp.fabs(x) * mp.sign(y),
    "cos": mp.cos,
    "cosh": mp.cosh,
    "divide": lambda x, y: x / y,
    "erf": mp.erf,
    "erfc": mp.erfc,
    "exp": mp.exp,
    "exp2": lambda x: mp.mpf(2) ** x,
    "expm1": lambda x: mp.exp(x) - 1,
    "floor": mp.floor,
    "floor_divide": lambda x, y: mp.floor(x / y),
    "fmod": lambda x, y: x - y * (mp.floor(x / y) if x * y > 0 else mp.ceil(x / y)),
    "hypot": mp.hypot,
    "log": mp.log,
    "log10": mp.log10,
    "log1p": lambda x: mp.log(1 + x),
    "log2": lambda x: mp.log(x) / mp.log(2),
    "logaddexp": lambda x, y: mp.log(mp.exp(x) + mp.exp(y)),
    "maximum": max,
    "minimum": min,
    "multiply": lambda x, y: x * y,
    "negative": lambda x: -x,
    "positive": lambda x: +x,
    "power": lambda x, y: x**y,
    "reciprocal": lambda x: 1 / x,
    "relu": lambda x: max(x, mp.mpf(0)),
    "remainder": lambda x, y: x - y * mp.floor(x / y),
    "rint": mp.nint,
    "sigmoid": lambda x: 1 / (1 + mp.exp(-x)),
    "sign": mp.sign,
    "sin": mp.sin,
    "sinh": mp.sinh,
    "softplus": lambda x: mp.log(1 + mp.exp(x)),
    "sqrt": mp.sqrt,
    "square": lambda x: x * x,
    "subtract": lambda x, y: x - y,
    "tan": mp.tan,
    "tanh": mp.tanh,
    "trunc": lambda x: mp.sign(x) * mp.floor(mp.fabs(x)),
    "where": lambda c, x, y: x if c else y,
}


def partial(fn: Callable[..., Any], arrays: Sequence[NDArray[Any]], orders: Sequence[int]) -> NDArray[np.float64]:
    """The mixed partial derivative of ``fn`` at each element, of these orders in the operands that are floats."""
    floats = [k for k, a in enumerate(arrays) if a.dtype.kind == "f"]

    def at(*values: Any) -> Any:
        def of(*moving: Any) -> Any:
            operands = list(values)
            for k, v in zip(floats, moving, strict=True):
                operands[k] = v
            return fn(*operands)

        point = [mp.mpf(values[k]) for k in floats]
        return mp.diff(of, point[0], orders[0]) if len(point) == 1 else mp.diff(of, tuple(point), tuple(orders))

    return _over(at, arrays)


def along(
    fn: Callable[..., Any], arrays: Sequence[NDArray[Any]], directions: Sequence[NDArray[Any]], order: int
) -> NDArray[np.float64]:
    """The derivative of ``fn`` along a direction in the operands that are floats, at each element."""
    floats = [k for k, a in enumerate(arrays) if a.dtype.kind == "f"]

    def at(*values: Any) -> Any:
        operands, moves = values[: len(arrays)], values[len(arrays) :]

        def line(t: Any) -> Any:
            moved = list(operands)
            for k, d in zip(floats, moves, strict=True):
                moved[k] = mp.mpf(operands[k]) + t * mp.mpf(d)
            return fn(*moved)

        return mp.diff(line, 0, order)

    return _over(at, [*arrays, *directions])


def _over(at: Callable[..., Any], arrays: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
    with mp.workdps(DIGITS):
        flat = [[v.item() for v in a.reshape(-1)] for a in arrays]
        # mpmath differentiates numerically, at a precision where what is 0 comes out below 1e-40.
        found = [float(mp.chop(at(*values), tol=mp.mpf(10) ** (10 - DIGITS))) for values in zip(*flat, strict=True)]
    return np.array(found, "float64").reshape(arrays[0].shape)


def indices(count: int, order: int) -> Iterator[tuple[int, ...]]:
    """The ways to differentiate ``order`` times in ``count`` operands, apart from the sequence."""
    return itertools.combinations_with_replacement(range(count), order)
