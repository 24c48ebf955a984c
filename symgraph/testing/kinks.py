"""Points where a function has no derivative, or where a formula for it breaks down, and what is taken there.

Each is a line of the published table and a case of the tests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from symgraph.graph import Variable
from symgraph.ops import elementwise as e
from symgraph.ops import indexing, reduce
from symgraph.ops.create import zeros
from symgraph.ops.cumulative import cummax
from symgraph.ops.nn import leaky_relu, logsumexp
from symgraph.ops.sort import sort

inf, nan = np.inf, np.nan


@dataclass(frozen=True)
class Kink:
    """A function of scalars or vectors at a point, and its first and second derivative in each argument there.

    The second derivative is that of the sum of the first one, in the same argument; ``None`` says nothing of it.
    """

    where: str
    fn: Callable[..., Variable]
    at: tuple[Any, ...]
    first: tuple[Any, ...]
    second: tuple[Any, ...] | None
    why: str


def norm(x: Variable) -> Variable:
    """The Euclidean norm, as it is written down."""
    return e.sqrt(reduce.sum(x * x))


def _safe_norm(x: Variable) -> Variable:
    square = reduce.sum(x * x)
    zero = e.equal(square, 0)
    return e.where(zero, 0, e.sqrt(e.where(zero, 1, square)))


def _clip(x: Variable) -> Variable:
    return e.clip(x, -1.0, 1.0)


def _power(n: float) -> Callable[[Variable], Variable]:
    return lambda x: x**n


_SELECTED = "the branch that is taken; the other one passes nothing, whatever its value or derivative is, to any order"

KINKS: list[Kink] = [
    Kink("`relu` at 0", e.relu, (0.0,), (0.0,), (0.0,), "the left one"),
    Kink("`leaky_relu` at 0", leaky_relu, (0.0,), (0.01,), (0.0,), "the left one"),
    Kink("`abs` at 0", e.absolute, (0.0,), (0.0,), (0.0,), "the middle between -1 and 1"),
    Kink("`sign` at 0", e.sign, (0.0,), (0.0,), (0.0,), "a step: the derivative on both sides"),
    Kink("`floor`, `ceil`, `trunc` at an integer", e.floor, (2.0,), (0.0,), (0.0,), "a step: as on both sides"),
    Kink("`rint` half way", e.rint, (0.5,), (0.0,), (0.0,), "a step: as on both sides"),
    Kink("`floor_divide` where it steps", e.floor_divide, (4.0, 2.0), (0.0, 0.0), (0.0, 0.0), "as on both sides"),
    Kink(
        "`remainder`, `fmod` where they step",
        e.remainder,
        (4.0, 2.0),
        (1.0, -2.0),
        (0.0, 0.0),
        "with the value's quotient",
    ),
    Kink("`copysign` at 0", e.copysign, (0.0, 1.0), (1.0, 0.0), (0.0, 0.0), "the sign of the zero decides"),
    Kink("`maximum` at a tie", e.maximum, (1.0, 1.0), (0.5, 0.5), (0.0, 0.0), "shared: the middle of both sides"),
    Kink("`minimum` at a tie", e.minimum, (1.0, 1.0), (0.5, 0.5), (0.0, 0.0), "shared: the middle of both sides"),
    Kink("`maximum(x, x)`", lambda x: e.maximum(x, x), (3.0,), (1.0,), (0.0,), "both shares: it is x"),
    Kink(
        "`max`, `min` at ties", reduce.max, ([2.0, 2.0, 1.0],), ([0.5, 0.5, 0.0],), ([0.0, 0.0, 0.0],), "shared equally"
    ),
    Kink(
        "`max_and_argmax` at ties",
        lambda x: reduce.max_and_argmax(x, axis=0)[0],
        ([2.0, 2.0, 1.0],),
        ([1.0, 0.0, 0.0],),
        ([0.0, 0.0, 0.0],),
        "the element that argmax finds, the first",
    ),
    Kink(
        "`sort` at ties",
        lambda x: sort(x)[0],
        ([1.0, 2.0, 1.0],),
        ([1.0, 0.0, 0.0],),
        ([0.0, 0.0, 0.0],),
        "the sort is stable: the first of equal elements comes first",
    ),
    Kink(
        "`cummax`, `cummin` at ties",
        lambda x: cummax(x)[2],
        ([2.0, 1.0, 2.0],),
        ([0.0, 0.0, 1.0],),
        ([0.0, 0.0, 0.0],),
        "the latest of equal elements",
    ),
    Kink("`clip` at a bound", _clip, (1.0,), (1.0,), (0.0,), "the inner one, so that an optimizer can leave the bound"),
    Kink("`clip` at its bounds' values", e._clip_op, (1.0, -1.0, 1.0), (1.0, 0.0, 0.0), (0.0, 0.0, 0.0), "x wins"),
    Kink(
        "`clip` with crossed bounds",
        e._clip_op,
        (0.0, 2.0, 1.0),
        (0.0, 0.0, 1.0),
        (0.0, 0.0, 0.0),
        "the value is `max`",
    ),
    Kink("`sqrt` at 0", e.sqrt, (0.0,), (inf,), (-inf,), "the limit from the right"),
    Kink("`x ** 0.5` at 0", _power(0.5), (0.0,), (inf,), (-inf,), "the limit from the right"),
    Kink("`cbrt` at 0", e.cbrt, (0.0,), (inf,), None, "the limit from both sides; higher orders have none"),
    Kink(
        "`sqrt(sum(x * x))` at the zero vector", norm, ([0.0, 0.0],), ([nan, nan],), None, "a factor ∞ times a factor 0"
    ),
    Kink(
        "the same with `where` around the root and inside",
        _safe_norm,
        ([0.0, 0.0],),
        ([0.0, 0.0],),
        ([0.0, 0.0],),
        "what the `where` says; a `custom_vjp` does it, too",
    ),
    Kink(
        "`std` of equal elements",
        reduce.std,
        ([1.0, 1.0],),
        ([nan, nan],),
        None,
        "the root of a variance of 0, as above",
    ),
    Kink("`hypot` at (0, 0)", e.hypot, (0.0, 0.0), (0.0, 0.0), (0.0, 0.0), "the middle of all directions, as `abs`"),
    Kink("`log` at 0", e.log, (0.0,), (inf,), (-inf,), "the limit from the right"),
    Kink("`log1p` at -1", e.log1p, (-1.0,), (inf,), (-inf,), "the limit from the right"),
    Kink("`reciprocal` at 0", e.reciprocal, (0.0,), (-inf,), (inf,), "the limit from the right"),
    Kink("`x / y` at (0, 0)", e.divide, (0.0, 0.0), (inf, nan), None, "1 / y, and 0 / 0"),
    Kink("`arcsin`, `arctanh` at 1", e.arcsin, (1.0,), (inf,), None, "the limit from the left"),
    Kink("`arccosh` at 1", e.arccosh, (1.0,), (inf,), None, "the limit from the right"),
    Kink("`arctan2` at (0, 0)", e.arctan2, (0.0, 0.0), (nan, nan), None, "no limit, no bound"),
    Kink("`x ** 2` at 0", _power(2), (0.0,), (0.0,), (2.0,), "the derivative"),
    Kink("`x ** 0` at 0", _power(0.0), (0.0,), (0.0,), (0.0,), "the function is 1 everywhere, `0 ** 0` too"),
    Kink("`power(0, 0)`", e.power, (0.0, 0.0), (0.0, 0.0), (0.0, 0.0), "in x: as `x ** 0`; in y: as for y > 0"),
    Kink("`power(0, 2)`", e.power, (0.0, 2.0), (0.0, 0.0), (2.0, 0.0), "`0 ** y` is 0 for y > 0"),
    Kink("`power(0, -1)`", e.power, (0.0, -1.0), (-inf, 0.0), (inf, 0.0), "in x: the limit from the right"),
    Kink("`power(-2, 2)`", e.power, (-2.0, 2.0), (-4.0, nan), (2.0, nan), "not real for y beside 2"),
    Kink(
        "`prod` with one zero",
        reduce.prod,
        ([0.0, 2.0, 3.0],),
        ([6.0, 0.0, 0.0],),
        ([5.0, 3.0, 2.0],),
        "the derivative",
    ),
    Kink(
        "`prod` with two zeros",
        reduce.prod,
        ([0.0, 0.0, 3.0],),
        ([0.0, 0.0, 0.0],),
        ([3.0, 3.0, 0.0],),
        "the derivative",
    ),
    Kink("`logsumexp` of -∞ alone", logsumexp, ([-inf, -inf],), ([0.0, 0.0],), ([0.0, 0.0],), "nothing to share"),
    Kink("`logsumexp` with a -∞", logsumexp, ([-inf, 0.0],), ([0.0, 1.0],), ([0.0, 0.0],), "the limit"),
    Kink(
        "`take` with an index twice",
        lambda x: reduce.sum(indexing.take(x, [0, 0, 1]) * np.array([1.0, 2.0, 4.0])),
        ([5.0, 7.0],),
        ([3.0, 4.0],),
        ([0.0, 0.0],),
        "the sum over the places",
    ),
    Kink(
        "`add_at` with an index twice",
        lambda x: reduce.sum(indexing.add_at(zeros(2), np.array([0, 0]), x) * np.array([3.0, 4.0])),
        ([5.0, 7.0],),
        ([3.0, 3.0],),
        ([0.0, 0.0],),
        "each element was added",
    ),
    Kink("`x * x`", lambda x: x * x, (3.0,), (6.0,), (2.0,), "the operands are distinct, and their shares add up"),
    Kink("`where(x > 0, log(x), x)`", lambda x: e.where(x > 0, e.log(x), x), (-1.0,), (1.0,), (0.0,), _SELECTED),
    Kink(
        "`where(x > 0, sqrt(x), x * x)` at 0",
        lambda x: e.where(x > 0, e.sqrt(x), x * x),
        (0.0,),
        (0.0,),
        (2.0,),
        "the same",
    ),
    Kink(
        "`where(x < 9, x, exp(x))`",
        lambda x: e.where(x < 9, x, e.exp(x * 1e9)),
        (1.0,),
        (1.0,),
        (0.0,),
        "the same, where it overflows",
    ),
]
"""The points of the published table."""

__all__ = ["KINKS", "Kink", "kinks_table", "norm"]


def kinks_table() -> str:
    """The table as Markdown."""
    lines = ["| where | first derivative | second | why |", "|---|---|---|---|"]
    for k in KINKS:
        second = "" if k.second is None else ", ".join(map(_shown, k.second))
        lines.append(f"| {k.where} | {', '.join(map(_shown, k.first))} | {second} | {k.why} |")
    return "\n".join(lines) + "\n"


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value))}]"
    if np.isinf(value):
        return "∞" if value > 0 else "-∞"
    return "1/2" if value == 0.5 else f"{value:g}"
