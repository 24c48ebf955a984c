"""Sets of index values: what loops run over, under which conditions, and which elements of a tensor they reach.

Sizes may be symbolic. Each loop index is an atom of a polynomial (see :mod:`symgraph.types`), so index arithmetic is
arithmetic of sizes, and its normal form sees through what reshapes do: ``k // m * m + k % m`` is ``k``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from symgraph.index import Expr
from symgraph.types import Atom, Dim, Size, at_least, atoms, floordiv, product, size_max, size_min

Env: TypeAlias = Mapping[Atom, Size]
SMALL: Final = 1 << 20
"""Elements up to which a set that no formula describes is counted one by one."""

_FUNCTIONS: Final[Mapping[str, Callable[[Size, Size], Size]]] = {
    "floordiv": floordiv, "max": size_max, "min": size_min,
}  # fmt: skip


def bound(size: Size, env: Env) -> Size:
    """``size`` with the sizes of ``env`` in place of their atoms; the others stay symbols."""
    if isinstance(size, int) or not env:
        return size
    total: Size = 0
    for monomial, c in size.terms:
        term: Size = c
        for atom in monomial:
            if atom.fn:
                term = term * _FUNCTIONS[atom.fn](*[bound(a, env) for a in atom.args])
            else:
                term = term * env.get(atom, symbol(atom))
        total = total + term
    return total


def symbol(atom: Atom) -> Size:
    """The atom as a size."""
    return Dim((((atom,), 1),))


@dataclass(frozen=True)
class Range:
    """``start + step * j`` for each j below ``count``."""

    start: Size
    count: Size
    step: Size = 1

    def bound(self, env: Env) -> Range:
        """With numbers for sizes."""
        return Range(bound(self.start, env), bound(self.count, env), bound(self.step, env))


Box: TypeAlias = Mapping[Atom, Range]
"""What each loop around a place runs over."""


def volume(box: Box) -> Size:
    """The number of iterations."""
    return product(r.count for r in box.values())


# -- index expressions as sizes ----------------------------------------------------------------------------------------


def as_polynomial(e: Expr, leaf: Callable[[Expr], Size | None], memo: dict[Expr, Size | None]) -> Size | None:
    """An index expression as a polynomial over loop indices and sizes; ``None`` where it is no function of these.

    ``leaf`` says what an expression without operands, or one of the program's values, stands for.
    """
    stack = [e]
    while stack:
        top = stack[-1]
        if top in memo:
            stack.pop()
            continue
        if top.fn == "const":
            memo[top] = int(top.attr) if top.dtype.kind in "iu" else None
        elif top.fn not in _ARITHMETIC:
            memo[top] = leaf(top)
        else:
            waiting = [a for a in top.args if a not in memo]
            if waiting:
                stack.extend(waiting)
                continue
            args = [memo[a] for a in top.args]
            known = [a for a in args if a is not None]
            memo[top] = _ARITHMETIC[top.fn](*known) if len(known) == len(args) and _sound(top.fn, known) else None
        stack.pop()
    return memo[e]


def _sound(fn: str, args: Sequence[Size]) -> bool:
    return fn not in ("floor_divide", "remainder") or args[1] != 0


_ARITHMETIC: Final[Mapping[str, Callable[..., Size]]] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "negative": lambda a: 0 - a,
    "floor_divide": floordiv,
    "remainder": lambda a, b: a - floordiv(a, b) * b,
    "minimum": size_min,
    "maximum": size_max,
}


def linear(p: Size, box: Box) -> tuple[Size, dict[Atom, Size]] | None:
    """``p`` as a constant and the coefficient of each index of ``box``; ``None`` where it is not linear in them."""
    if isinstance(p, int):
        return p, {}
    constant: Size = 0
    slopes: dict[Atom, Size] = {}
    for monomial, c in p.terms:
        inside = [a for a in monomial if a in box]
        rest = [a for a in monomial if a not in box]
        if len(inside) > 1 or any(b in box for a in rest for arg in a.args for b in atoms(arg)):
            return None
        term: Size = c * product(symbol(a) for a in rest)
        if inside:
            slopes[inside[0]] = slopes.get(inside[0], 0) + term
        else:
            constant = constant + term
    return constant, slopes


# -- conditions --------------------------------------------------------------------------------------------------------


@dataclass
class Regions:
    """The disjoint boxes that a place in a program runs over; ``exact`` is false where they may be too large."""

    boxes: list[Box]
    exact: bool = True

    def within(self, atom: Atom, count: Size) -> Regions:
        """Inside a loop over ``count`` values."""
        return Regions([{**box, atom: Range(0, count)} for box in self.boxes], self.exact)

    @property
    def volume(self) -> Size:
        """How often the place is come to."""
        total: Size = 0
        for box in self.boxes:
            total = total + volume(box)
        return total


@dataclass
class Conditions:
    """A conjunction of tests as bounds of indices: ``(index, low, high)``, and steps ``(index, step, phase)``."""

    below: list[tuple[Atom, Size]] = field(default_factory=list)  # index < bound
    above: list[tuple[Atom, Size]] = field(default_factory=list)  # index >= bound
    steps: list[tuple[Atom, Size, Size]] = field(default_factory=list)  # index % step == phase % step
    never: bool = False
    exact: bool = True


def ceildiv(a: Size, b: Size) -> Size:
    """The quotient, rounded up."""
    whole = floordiv(a, b)
    return whole if whole * b == a else floordiv(a + b - 1, b)


def compare(conditions: Conditions, p: Size, box: Box) -> None:
    """Add ``p < 0``."""
    if isinstance(p, Dim):
        # q // k < s is q < s * k.
        quotients = [(m[0], c) for m, c in p.terms if len(m) == 1 and m[0].fn == "floordiv" and c == 1]
        inner = [(a, c) for a, c in quotients if any(b in box for b in atoms(a.args[0]))]
        if len(inner) == 1 and not any(b in box for b in atoms(inner[0][0].args[1])):
            atom = inner[0][0]
            rest = p - symbol(atom)
            if not any(b in box for b in atoms(rest)):
                return compare(conditions, atom.args[0] + rest * atom.args[1], box)
    found = linear(p, box)
    if found is None or len(found[1]) > 1:
        conditions.exact = False
        return None
    constant, slopes = found
    if not slopes:
        if isinstance(constant, int):
            conditions.never |= constant >= 0
        elif at_least(constant, 0):
            conditions.never = True
        elif not at_least(0 - constant, 1):
            conditions.exact = False
        return None
    ((atom, slope),) = slopes.items()
    if at_least(slope, 1):
        conditions.below.append((atom, ceildiv(0 - constant, slope)))
    elif at_least(0 - slope, 1):
        conditions.above.append((atom, floordiv(constant, 0 - slope) + 1))
    else:
        conditions.exact = False
    return None


def divides(conditions: Conditions, p: Size, step: Size, box: Box) -> None:
    """Add ``p % step == 0``."""
    found = linear(p, box)
    if found is None or len(found[1]) != 1 or next(iter(found[1].values())) not in (1, -1):
        conditions.exact = False
        return
    constant, slopes = found
    ((atom, slope),) = slopes.items()
    conditions.steps.append((atom, step, 0 - constant if slope == 1 else constant))


def holds(conditions: Conditions, box: Box) -> Box | None:
    """The part of ``box`` in which the conditions hold; ``None`` where they never do."""
    if conditions.never:
        return None
    out = dict(box)
    for atom, high in conditions.below:
        r = out[atom]
        out[atom] = Range(r.start, size_max(0, size_min(r.count, high - r.start)))
    for atom, low in conditions.above:
        r = out[atom]
        start = size_max(r.start, low)
        out[atom] = Range(start, size_max(0, r.start + r.count - start))
    for atom, step, phase in conditions.steps:
        r = out[atom]
        ahead = phase - r.start
        ahead = ahead - floordiv(ahead, step) * step
        out[atom] = Range(r.start + ahead, size_max(0, ceildiv(r.count - ahead, step)), step)
    return out


def fails(conditions: Conditions, box: Box) -> tuple[list[Box], bool]:
    """The part of ``box`` in which a condition fails, as disjoint boxes, and whether that is exact."""
    if conditions.never:
        return [box], True
    out: list[Box] = []
    rest = dict(box)
    for atom, high in conditions.below:
        r = rest[atom]
        kept = size_max(0, size_min(r.count, high - r.start))
        out.append({**rest, atom: Range(r.start + kept, r.count - kept)})
        rest[atom] = Range(r.start, kept)
    for atom, low in conditions.above:
        r = rest[atom]
        kept = size_max(0, size_min(r.count, low - r.start))
        out.append({**rest, atom: Range(r.start, kept)})
        rest[atom] = Range(r.start + kept, r.count - kept)
    exact = conditions.exact
    if conditions.steps or not conditions.exact:
        out.append(rest)
        exact = False
    return [b for b in out if volume(b) != 0], exact


def split(regions: Regions, parse: Callable[[Box], Conditions]) -> tuple[Regions, Regions]:
    """Where a condition holds, and where it does not; ``parse`` gives the condition in terms of a box's indices."""
    yes, no = Regions([], regions.exact), Regions([], regions.exact)
    for box in regions.boxes:
        if any(r.step != 1 for r in box.values()):
            # An index that takes every other value: conditions on it are not looked at.
            yes.boxes.append(box)
            no.boxes.append(box)
            yes.exact = no.exact = False
            continue
        conditions = parse(box)
        inside = holds(conditions, box)
        if inside is not None and volume(inside) != 0:
            yes.boxes.append(inside)
        yes.exact &= conditions.exact
        outside, exact = fails(conditions, box)
        no.boxes.extend(outside)
        no.exact &= exact
    return yes, no


def parse(e: Expr, box: Box, polynomial: Callable[[Expr], Size | None], define: Callable[[Expr], Expr]) -> Conditions:
    """A test as conditions on the indices of ``box``. ``define`` gives the expression behind a name."""
    out = Conditions()
    stack = [e]
    while stack:
        top = define(stack.pop())
        if top.fn == "logical_and":
            stack.extend(reversed(top.args))
            continue
        left, right = (define(a) for a in top.args) if len(top.args) == 2 else (top, top)
        p, q = polynomial(left), polynomial(right)
        if top.fn == "less" and p is not None and q is not None:
            compare(out, p - q, box)
        elif top.fn == "greater_equal" and p is not None and q is not None:
            compare(out, q - p - 1, box)
        elif top.fn == "equal" and left.fn == "remainder" and q == 0:
            number, step = (polynomial(a) for a in left.args)
            if number is None or step is None:
                out.exact = False
            else:
                divides(out, number, step, box)
        else:
            out.exact = False
    return out


# -- sets of elements --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reach:
    """Elements of a tensor that one access comes to: an index for each axis, over a box.

    ``exact`` is false where an index depends on data; it then stands for any within its range.
    """

    index: tuple[Size, ...]
    box: tuple[tuple[Atom, Range], ...]
    exact: bool = True


def progression(p: Size, box: Box) -> Range | None:
    """The values of ``p`` over ``box``, where they are evenly spaced."""
    found = linear(p, box)
    if found is None:
        return None
    start, slopes = found
    terms: list[tuple[Size, Size]] = []
    for atom, slope in slopes.items():
        r = box[atom]
        start = start + slope * r.start
        step = slope * r.step
        if r.count == 1:
            continue
        if at_least(0 - step, 1):
            start = start + step * (r.count - 1)
            step = 0 - step
        terms.append((step, r.count))
    while len(terms) > 1:
        pair = _merged(terms)
        if pair is None:
            return None
        terms = pair
    return Range(start, terms[0][1], terms[0][0]) if terms else Range(start, 1)


def _merged(terms: list[tuple[Size, Size]]) -> list[tuple[Size, Size]] | None:
    """Two of the terms as one, where an outer index continues what the inner one began."""
    for i, (outer, m) in enumerate(terms):
        for j, (inner, n) in enumerate(terms):
            if i == j:
                continue
            rest = [t for k, t in enumerate(terms) if k not in (i, j)]
            if outer == inner * n:
                return [*rest, (inner, m * n)]
            times = floordiv(outer, inner)
            if times * inner == outer and at_least(n - times, 0) and at_least(times, 1):
                return [*rest, (inner, n + times * (m - 1))]
    return None


def distinct(reaches: Sequence[Reach], shape: Sequence[Size], env: Env) -> tuple[Size, bool]:
    """How many elements of a tensor of ``shape`` the accesses come to, each once, and whether that is exact."""
    shape = [bound(s, env) for s in shape]
    size = product(shape)
    known = list(dict.fromkeys(_bound(r, env) for r in reaches))
    known = [r for r in known if volume(dict(r.box)) != 0]
    if size == 0 or not known:
        return 0, True
    exact = all(r.exact for r in known)
    sets = [_axes(r, shape) for r in known]
    for s in sets:
        if s is not None and s[0] == size:
            return size, exact
    if len(known) == 1 and sets[0] is not None and exact:
        return sets[0][0], True
    union = _union([s[1] for s in sets if s is not None]) if None not in sets and exact else None
    if union is not None:
        return union, True
    if exact:
        counted = _enumerate(known, shape)
        if counted is not None:
            return counted, True
    total: Size = 0
    for r in known:
        total = total + _iterations(r)
    return size_min(total, size), False


def _bound(r: Reach, env: Env) -> Reach:
    box = tuple((a, x.bound(env)) for a, x in r.box)
    return Reach(tuple(bound(p, env) for p in r.index), box, r.exact)


def _iterations(r: Reach) -> Size:
    used = {a for p in r.index for a in atoms(p)}
    return product(x.count for a, x in r.box if a in used)


def _axes(r: Reach, shape: Sequence[Size]) -> tuple[Size, tuple[Range, ...]] | None:
    """The set as a product of evenly spaced values of each axis, with their number; or of the flat offset."""
    box = dict(r.box)
    used = [{a for a in atoms(p) if a in box} for p in r.index]
    if sum(map(len, used)) == len(set().union(*used)):
        ranges = [progression(p, box) for p in r.index]
        found = tuple(x for x in ranges if x is not None)
        if len(found) == len(ranges):
            return product(x.count for x in found), found
    flat: Size = 0
    for p, s in zip(r.index, shape, strict=True):
        flat = flat * s + p
    whole = progression(flat, box)
    return None if whole is None else (whole.count, (whole,))


def _union(sets: Sequence[tuple[Range, ...]]) -> Size | None:
    """The number of elements of a union of products of ranges, by inclusion and exclusion."""
    sets = list(dict.fromkeys(sets))
    if len(sets) > 8 or len({len(s) for s in sets}) > 1:
        return None
    total: Size = 0
    parts: list[tuple[int, tuple[Range, ...]]] = []
    for s in sets:
        fresh = [(1, s)]
        for sign, other in parts:
            both = _intersection(other, s)
            if both is None:
                return None
            if both or not s:  # all accesses to a tensor without axes are one
                fresh.append((-sign, both))
        parts.extend(fresh)
    for sign, ranges in parts:
        total = total + sign * product(r.count for r in ranges)
    return total


def _intersection(a: tuple[Range, ...], b: tuple[Range, ...]) -> tuple[Range, ...] | None:
    """What two products of ranges have in common; ``None`` where it is not known."""
    out: list[Range] = []
    for x, y in zip(a, b, strict=True):
        if x.count == 1 or y.count == 1:
            one, many = (x, y) if x.count == 1 else (y, x)
            if one.start == many.start:
                out.append(Range(one.start, 1))
                continue
            if not all(isinstance(n, int) for n in (one.start, many.start, many.count, many.step)):
                return None
        if x == y:
            out.append(x)
            continue
        step = x.step if x.count != 1 else y.step
        if x.count != 1 and y.count != 1 and x.step != y.step:
            return None
        shift = y.start - x.start
        if floordiv(shift, step) * step != shift:
            if isinstance(shift, int) and isinstance(step, int):
                return (Range(0, 0),) * len(a)
            return None
        low = size_max(x.start, y.start)
        high = size_min(x.start + x.count * step, y.start + y.count * step)
        out.append(Range(low, size_max(0, ceildiv(high - low, step)), step))
    return tuple(out)


def _enumerate(reaches: Sequence[Reach], shape: Sequence[Size]) -> int | None:
    """The number of elements, counted one by one; ``None`` where sizes are symbols, or there are too many."""
    size = product(shape)
    if not isinstance(size, int) or size > SMALL:
        return None
    seen = np.zeros(size, bool)
    for r in reaches:
        flat: NDArray[np.int64] | int = 0
        used = {a for p in r.index for a in atoms(p)}
        grid: dict[Atom, NDArray[np.int64]] = {}
        axes = [(a, x) for a, x in r.box if a in used]
        if not all(isinstance(n, int) for _, x in axes for n in (x.start, x.count, x.step)):
            return None
        if _iterations(r) * 1 > SMALL:  # type: ignore[operator]
            return None
        for k, (a, x) in enumerate(axes):
            values = int(x.start) + int(x.step) * np.arange(int(x.count))
            grid[a] = values.reshape([-1 if j == k else 1 for j in range(len(axes))])
        for p, s in zip(r.index, shape, strict=True):
            value = _evaluate(p, grid)
            if value is None:
                return None
            flat = flat * int(s) + value
        seen[flat] = True
    return int(seen.sum())


_ARRAYS: Final = {"floordiv": np.floor_divide, "max": np.maximum, "min": np.minimum}


def _evaluate(p: Size, grid: Mapping[Atom, NDArray[np.int64]]) -> NDArray[np.int64] | int | None:
    if isinstance(p, int):
        return p
    total: NDArray[np.int64] | int = 0
    for monomial, c in p.terms:
        term: NDArray[np.int64] | int = c
        for a in monomial:
            if a.fn:
                left, right = (_evaluate(x, grid) for x in a.args)
                if left is None or right is None:
                    return None
                term = term * _ARRAYS[a.fn](left, right)
            elif a in grid:
                term = term * grid[a]
            else:
                return None
        total = total + term
    return total
