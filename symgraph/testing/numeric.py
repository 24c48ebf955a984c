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


def extrapolated(f: Callable[[float], Arrays], step: float, rows: int = 14) -> tuple[list[Array], list[Array]]:
    """The derivative of ``f`` at 0 for each element of its results, and an estimate of its error.

    Central differences with steps ``step / 2**i``, extrapolated to zero; for each element the entry of Richardson's
    table whose distance from its neighbours is least (Ridders 1982, Advances in Engineering Software 4). The error of
    smooth functions is near 1e-12 of the derivative; an element without any finite estimate is nan, with error inf.
    """
    best: list[Array] = []
    errors: list[Array] = []
    previous: list[list[Array]] = []
    with np.errstate(all="ignore"):
        for i in range(rows):
            h = step / 2**i
            up, down = f(h), f(-h)
            row = [
                [(np.asarray(a, "float64") - np.asarray(b, "float64")) / (2 * h) for a, b in zip(up, down, strict=True)]
            ]
            if not best:
                best = [np.full(a.shape, np.nan) for a in row[0]]
                errors = [np.full(a.shape, np.inf) for a in row[0]]
            for j in range(1, min(i, 6) + 1):
                factor = 4.0**j
                finer = [(factor * a - b) / (factor - 1) for a, b in zip(row[j - 1], previous[j - 1], strict=True)]
                for k, a in enumerate(finer):
                    gap = np.maximum(np.abs(a - row[j - 1][k]), np.abs(a - previous[j - 1][k]))
                    better = gap < errors[k]
                    errors[k] = np.where(better, gap, errors[k])
                    best[k] = np.where(better, a, best[k])
                row.append(finer)
            previous = row
            small = all(bool(np.all(e <= 1e-13 * np.abs(b))) for e, b in zip(errors, best, strict=True))
            if i > 2 and small:
                break
    return best, errors
