"""What stands in, in Numba's CUDA simulator, for libdevice and for Numba's types: NumPy's functions and casts.

The simulator runs kernels as Python: values are NumPy's scalars, and keep their dtypes.
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np


def caster(dtype: str) -> Callable[[Any], Any]:
    """A cast that wraps around, of Python's numbers too."""
    to = np.dtype(dtype)

    def cast(x: Any) -> Any:
        if isinstance(x, int) and not isinstance(x, bool) and to.kind in "iu":
            x = x & (2 ** (8 * to.itemsize) - 1)
            return np.asarray(x, np.uint64).astype(to)[()]
        return np.asarray(x).astype(to)[()]

    return cast


def _from_math(function: Callable[[float], float]) -> Callable[[Any], Any]:
    def f(x: Any) -> Any:
        try:
            return type(x)(function(float(x)))
        except OverflowError:
            return type(x)(np.inf)
        except ValueError:
            # Poles: Python raises at all of them; C's tgamma is nan at those but 0.
            pole = np.inf if function is math.lgamma else np.copysign(np.inf, x) if x == 0 else np.nan
            return type(x)(pole)

    return f


_NAMES: dict[str, Any] = {
    **{name: getattr(np, name) for name in (
        "absolute", "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctan2", "arctanh", "cbrt", "ceil",
        "copysign", "cos", "cosh", "exp", "exp2", "expm1", "floor", "fmod", "hypot", "log", "log10", "log1p", "log2",
        "power", "rint", "sin", "sinh", "sqrt", "tan", "tanh", "trunc", "fmax", "fmin",
    )},
    "erf": _from_math(math.erf),
    "erfc": _from_math(math.erfc),
    "gammaln": _from_math(math.lgamma),
    "tgamma": _from_math(math.gamma),
    "fma": lambda a, b, c: a * b + c,
}  # fmt: skip


class SharedMemory:
    """``cuda.shared`` in kernels. The simulator's own may give threads that ask at the same time different arrays."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.arrays: dict[Any, Any] = {}

    def array(self, size: int, dtype: str) -> Any:
        """The block's array that this line of the kernel asks for; as on a device, with whatever is in it."""
        caller = sys._getframe(1)
        with self.lock:
            return self.arrays.setdefault((caller.f_code, caller.f_lineno), np.zeros(size, dtype))


class Cuda:
    """What kernels know as ``cuda``. One block runs at a time, in one launch at a time."""

    shared = SharedMemory()


LEAVES: dict[str, dict[str, Any]] = {"float32": _NAMES, "float64": _NAMES}
"""dtype -> name -> function. NumPy's keep the dtype of their operands."""
