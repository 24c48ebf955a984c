"""Linear consequences: whether a polynomial is at least 0 where others are, each product of atoms for itself.

By Farkas' lemma a linear function is bounded below on a polyhedron exactly if it is a sum of the polyhedron's own, with
factors that are not negative, and a constant. SciPy's linear programs find in floating point which are needed; their
factors are then made in fractions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symgraph.types import Monomial, Size

LARGEST = 1e5
"""Factors."""
FAR = (1e5, 1e7, 1e9)
"""Products of atoms, where a place is looked for: the first distances in which there is one."""
DENOMINATOR = 10**6
"""Of factors."""
SMALLEST = 1e-9
"""Factors that are none, as parts of the largest."""


def follows(goal: Size, facts: Sequence[Size]) -> bool:
    """Whether ``goal`` is at least 0, an integer, where all ``facts`` are."""
    from scipy.optimize import linprog

    wanted, constant = _parts(goal)
    if not wanted and constant >= 0:
        return True
    if not facts:
        return False
    given, _, matrix, least, cost = _system(goal, facts)
    found = linprog(least, A_eq=matrix.T, b_eq=cost, bounds=(0, LARGEST), method="highs")
    if found.fun is None or constant - found.fun <= -1 + 1e-9:
        return False
    return _sums_up(wanted, constant, given, found.x)


def contradict(facts: Sequence[Size]) -> bool:
    """Whether facts are nowhere all at least 0: a sum of them is a negative number."""
    from scipy.optimize import linprog

    if not facts:
        return False
    given, _, matrix, least, cost = _system(0, facts)
    # The sum is -1, of as little as can be.
    rows, right = np.vstack([matrix.T, least]), np.append(cost, -1.0)
    found = linprog(np.ones(len(given)), A_eq=rows, b_eq=right, bounds=(0, LARGEST), method="highs")
    return _sums_up({}, -1, given, found.x)


def lowest(goal: Size, facts: Sequence[Size]) -> Mapping[Monomial, float]:
    """Products of atoms where ``facts`` are at least 0 and ``goal`` is least; nothing, where none are found."""
    from scipy.optimize import linprog

    _, columns, matrix, least, cost = _system(goal, facts)
    for far in FAR:
        found = linprog(cost, A_ub=-matrix, b_ub=least, bounds=(-far, far), method="highs")
        if found.status == 0 and found.x is not None:
            return dict(zip(columns, found.x.tolist(), strict=True))
    return {}


def _system(
    goal: Size, facts: Sequence[Size]
) -> tuple[list[tuple[dict[Monomial, int], int]], list[Monomial], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Facts as terms and constants, the products of atoms, and coefficients: of the facts, and of the goal."""
    wanted, _ = _parts(goal)
    given = [_parts(f) for f in facts]
    columns = {m: k for k, m in enumerate(dict.fromkeys([*wanted, *(m for f, _ in given for m in f)]))}
    matrix, cost = np.zeros((len(given), len(columns))), np.zeros(len(columns))
    for k, (terms, _) in enumerate(given):
        for m, c in terms.items():
            matrix[k, columns[m]] = c
    for m, c in wanted.items():
        cost[columns[m]] = c
    return given, list(columns), matrix, np.array([float(c) for _, c in given]), cost


def _sums_up(
    wanted: Mapping[Monomial, int],
    constant: int,
    given: Sequence[tuple[Mapping[Monomial, int], int]],
    factors: NDArray[Any] | None,
) -> bool:
    """Whether facts times factors are the goal but for less than 1: an integer above -1 is not negative.

    The factors are rounded, or say at least which facts are needed: with those there are exact ones, by elimination.
    """
    if factors is None:
        return False
    rounded = [Fraction(x).limit_denominator(DENOMINATOR) for x in factors.tolist()]
    total: dict[Monomial, Fraction] = {}
    for x, (terms, _) in zip(rounded, given, strict=True):
        for m, c in terms.items() if x > 0 else ():
            total[m] = total.get(m, Fraction(0)) + x * c
    if all(total.get(m, 0) == wanted.get(m, 0) for m in {*total, *wanted}):
        return constant - sum(x * own for x, (_, own) in zip(rounded, given, strict=True) if x > 0) > -1
    used = [fact for fact, x in zip(given, factors.tolist(), strict=True) if x > SMALLEST * factors.max()]
    rows = [
        [Fraction(terms.get(m, 0)) for terms, _ in used] + [Fraction(wanted.get(m, 0))]
        for m in {*wanted, *(m for terms, _ in used for m in terms)}
    ]
    if wanted == {}:
        rows.append([*(Fraction(own) for _, own in used), Fraction(-1)])
    exact = _solution(rows, len(used))
    if exact is None or min(exact, default=Fraction(0)) < 0:
        return False
    return constant - sum(x * own for x, (_, own) in zip(exact, used, strict=True)) > -1


def _solution(rows: list[list[Fraction]], count: int) -> list[Fraction] | None:
    """Values of ``count`` unknowns, by the elimination of Gauss and Jordan; those that may be anything are 0."""
    at: dict[int, int] = {}
    for k in range(count):
        pivot = next((r for r in range(len(at), len(rows)) if rows[r][k]), None)
        if pivot is None:
            continue
        first = len(at)
        rows[first], rows[pivot] = rows[pivot], rows[first]
        scale = rows[first][k]
        rows[first] = [x / scale for x in rows[first]]
        for r, row in enumerate(rows):
            if r != first and row[k]:
                rows[r] = [x - row[k] * y for x, y in zip(row, rows[first], strict=True)]
        at[k] = first
    if any(row[-1] for row in rows[len(at) :]):
        return None
    return [rows[at[k]][-1] if k in at else Fraction(0) for k in range(count)]


def _parts(p: Size) -> tuple[dict[Monomial, int], int]:
    """The products of atoms in a polynomial with their factors, and the constant."""
    if isinstance(p, int):
        return {}, p
    terms = dict(p.terms)
    return terms, terms.pop((), 0)


def value(p: Size, at: Mapping[Monomial, float]) -> float | None:
    """What a polynomial is where products of atoms are ``at``; ``None`` where one is nothing."""
    terms, total = _parts(p)
    known = [c * at[m] for m, c in terms.items() if m in at]
    return total + sum(known) if len(known) == len(terms) else None
