"""Numeric derivatives: what symbolic ones are compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Arrays = Sequence[Array]

# For the first, truncation ~ step**4 and rounding ~ eps / step are both near 1e-12. The second is for functions with a
# step or a kink near the point; a wrong rule agrees with neither.
STEPS = (1e-3, 1e-5)


def directional(f: Callable[[float], float], step: float = STEPS[0]) -> tuple[float, float]:
    """The derivative of ``f`` at 0 by central differences of fourth order, and an estimate of its error.

    (f(-2h) - 8 f(-h) + 8 f(h) - f(2h)) / 12h: Abramowitz and Stegun, table 25.2.
    """

    def formula(h: float) -> float:
        a, b, c, d = f(-2 * h), f(-h), f(h), f(2 * h)
        return (a - 8 * b + 8 * c - d) / (12 * h)

    fine, coarse = formula(step), formula(2 * step)
    # At half the step the truncation error is 16 times smaller; their difference bounds it generously.
    return fine, abs(fine - coarse)


def inner(a: Arrays, b: Arrays) -> float:
    """The inner product of two lists of arrays."""
    return float(sum(np.sum(np.asarray(x, "float64") * np.asarray(y, "float64")) for x, y in zip(a, b, strict=True)))


def close(symbolic: float, numeric: float, scale: float, error: float = 0.0) -> bool:
    """Whether two derivatives agree, given the size of what was differentiated and the numeric one's own error."""
    if not np.isfinite(symbolic) or not np.isfinite(numeric):
        return bool(np.isnan(symbolic) and np.isnan(numeric)) or symbolic == numeric
    tolerance = 1e-6 * max(abs(symbolic), abs(numeric)) + 1e-8 * max(scale, 1.0) + error
    return abs(symbolic - numeric) <= tolerance
