"""Inequalities between integers of a kernel, proved for all sizes.

Expressions are polynomials in loop indices and sizes (:class:`Integers`), and ``integers.proves(p, scope)`` shows that
one is at least 0 wherever a statement stands: an index is eliminated by the bounds of its loop, since with a
coefficient that is never negative it is largest at the loop's end; quotients and remainders by ``a = q b + r`` with
``0 <= r < b``; choices, minima and maxima by cases. What is not proved may still hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from symgraph.index import Expr
from symgraph.loop import ir
from symgraph.types import Atom, Dim, Size, _normal, at_least, atoms, floordiv

DEPTH = 12
"""Eliminations in one proof."""
TRIES = 1000
"""Steps of one proof, over all ways that were tried."""


@dataclass(frozen=True)
class Scope:
    """Where a statement stands: bounds of the values there, what holds, and the shared loops around it."""

    lower: Mapping[Atom, tuple[Size, ...]] = field(default_factory=dict)
    upper: Mapping[Atom, tuple[Size, ...]] = field(default_factory=dict)  # inclusive
    order: tuple[Atom, ...] = ()
    facts: tuple[Size, ...] = ()  # each at least 0
    loops: tuple[tuple[str, tuple[Atom, ...]], ...] = ()  # kinds and indices, outermost first
    positive: frozenset[Atom] = frozenset()
    alone: bool = False  # one lane of the group only
    same: tuple[Expr, ...] = ()  # conditions that hold


class Integers:
    """What is known of the integers of a kernel: what names stand for, and bounds of what is no polynomial.

    Attributes:
        values: by name; ``None`` for what is not known.
        exprs: what names stand for.
        cases: of a choice, what is at least 0 where it is the first, and where it is the second.
        conditions: of a choice, what decides it: the same for all that are decided together.
        between: of a choice, those of the two that it is not below, and those that it is not above, in either case.
        defined: by atom, the quotient, minimum, maximum or choice that it is, and of what.
        lower, upper: bounds of atoms, wherever the kernel is.
        constant: atoms that are the same in all threads.
        facts: polynomials that are at least 0 where their divisor, beside them, is at least 1.
    """

    def __init__(self, proof: type[Proof] | None = None) -> None:
        self.values: dict[str, Size | None] = {}
        self.exprs: dict[str, Expr] = {}
        self.cases: dict[Atom, tuple[Sequence[Size], Sequence[Size]]] = {}
        self.conditions: dict[Atom, tuple[Any, ...]] = {}
        self.between: dict[Atom, tuple[tuple[Size, ...], tuple[Size, ...]]] = {}
        self.defined: dict[Atom, tuple[str, tuple[Size, ...]]] = {}
        self.lower: dict[Atom, tuple[Size, ...]] = {}
        self.upper: dict[Atom, tuple[Size, ...]] = {}
        self.facts: list[tuple[Size, Size]] = []
        self.constant: set[Atom] = set()
        self.made: dict[Any, Size] = {}
        self.proof = proof or Proof

    # -- values -------------------------------------------------------------------------------------------------------

    def value(self, e: Expr) -> Size | None:
        """An integer expression as a polynomial; ``None`` where it is none."""
        if e.fn == "const":
            return int(e.attr) if e.dtype.kind in "iu" else None
        if e.fn == "name":
            name = str(e.attr)
            if name not in self.values and e.dtype.kind in "iu":
                self.values[name] = fresh()
            return self.values.get(name)
        if e.dtype.kind not in "iu":
            return None
        if e.fn == "cast":
            inner = self.value(e.args[0]) if e.args[0].dtype.kind in "iu" else None
            return inner if inner is not None else self.opaque(e)
        if e.fn in ("lane", "lanes"):
            return self.opaque(e, low=0 if e.fn == "lane" else 1)
        args = [self.value(a) for a in (e.args[1:] if e.fn == "where" else e.args)]
        if e.fn not in _ARITHMETIC or any(a is None for a in args):
            return self.opaque(e)
        return self.arithmetic(e.fn, [a for a in args if a is not None], e)

    def size(self, p: Size) -> Size:
        """A size of a tensor, with what its quotients and minima are of."""

        def known(a: Atom) -> Size:
            args = [self.size(b) for b in a.args]
            if a.fn == "floordiv":
                return self.quotient(*args)
            return self.extremum("minimum" if a.fn == "min" else "maximum", *args) if a.fn else _symbol(a)

        return substituted(p, known)

    def opaque(self, e: Expr, low: Size | None = None) -> Size:
        key = ir.expression(e)
        if key not in self.made:
            self.made[key] = fresh()
            if low is not None:
                self.lower[atom_of(self.made[key])] = (low,)
            if e.fn == "lanes":
                self.constant.add(atom_of(self.made[key]))
        return self.made[key]

    def arithmetic(self, fn: str, args: list[Size], e: Expr) -> Size:
        if fn == "negative":
            return args[0] * -1
        if fn == "where":
            return self.bounded(("where", ir.expression(e.args[0]), *args), e, args)
        a, b = args
        if fn in ("left_shift", "right_shift", "bitwise_and"):
            return self.bits(fn, a, b, e)
        if fn in ("add", "subtract", "multiply"):
            return {"add": lambda: a + b, "subtract": lambda: a - b, "multiply": lambda: a * b}[fn]()
        if fn in ("minimum", "maximum"):
            return self.extremum(fn, a, b)
        if isinstance(a, int) and isinstance(b, int) and b:
            return a // b if fn == "floor_divide" else a % b
        q = self.quotient(a, b)
        return q if fn == "floor_divide" else a - q * b

    def extremum(self, fn: str, a: Size, b: Size) -> Size:
        """The ``minimum`` or the ``maximum`` of two."""
        if isinstance(a, int) and isinstance(b, int):
            return min(a, b) if fn == "minimum" else max(a, b)
        out = self.made.setdefault((fn, a, b), fresh())
        at = atom_of(out)
        (self.upper if fn == "minimum" else self.lower)[at] = (a, b)
        other = self.lower if fn == "minimum" else self.upper
        self.defined[at] = (fn, (a, b))
        other.setdefault(at, ())
        return out

    def bits(self, fn: str, a: Size, b: Size, e: Expr) -> Size:
        """Shifts by sizes as multiplication and division, and the last bits as a remainder."""
        if fn == "bitwise_and":
            a, b = (b, a) if isinstance(a, int) else (a, b)
            if not isinstance(b, int) or b < 0 or b & (b + 1):
                return self.opaque(e)
            return a - self.quotient(a, b + 1) * (b + 1)
        power = self.power(b)
        if power is None:
            return self.opaque(e)
        return a * power if fn == "left_shift" else self.quotient(a, power)

    def power(self, n: Size) -> Size | None:
        """2 to the power of a size."""
        if isinstance(n, int):
            return 1 << n if n >= 0 else None
        if not all(c > 0 and all(a not in _made and at_least(_symbol(a), 0) for a in m) for m, c in n.terms):
            return None
        more = dict(n.terms).get((), 0)
        rest = n - more
        out = self.made.setdefault(("power", rest), fresh())
        self.defined[atom_of(out)] = ("power", (rest,))
        self.lower[atom_of(out)] = (1,)
        return out * (1 << more)

    def quotient(self, a: Size, b: Size) -> Size:
        """``a // b``, where ``a = q b + r`` with ``0 <= r < b`` if ``b`` is at least 1."""
        if b == 1:
            return a
        key = ("quotient", a, b)
        if key in self.made:
            return self.made[key]
        if not self.divides(b):
            return self.made.setdefault(key, fresh())
        what, parts = self.defined.get(a.atom, ("", ())) if isinstance(a, Dim) and a.atom is not None else ("", ())
        if what == "quotient":
            q = self.quotient(parts[0], parts[1] * b)  # (x // y) // b
        else:
            q = fresh()
            self.defined[atom_of(q)] = ("quotient", (a, b))
        self.made[key] = q
        self.facts += [(a - q * b, b), (b - 1 - (a - q * b), b)]
        return q

    def made_of(self, values: Iterable[Size | None]) -> frozenset[Atom]:
        """The atoms of values, and those that these are made of."""
        found: set[Atom] = set()
        stack = [a for v in values if v is not None for a in atoms(v)]
        while stack:
            a = stack.pop()
            if a not in found:
                found.add(a)
                stack += [b for p in self.defined.get(a, ("", ()))[1] for b in atoms(p)]
        return frozenset(found)

    def differs(self, a: Atom) -> bool:
        """Whether an atom that is no index may differ between the iterations of a loop."""
        if a in self.constant or a not in _made:
            return False
        what, parts = self.defined.get(a, ("", ()))
        return what in ("", "where") or any(b in _made and self.differs(b) for p in parts for b in atoms(p))

    def divides(self, b: Size) -> bool:
        """Whether ``b`` is at least 1, if the sizes in it are."""
        if isinstance(b, int):
            return b > 0
        least = [(a, self.lower.get(a, ())) for a in atoms(b) if a in _made]
        return all(c > 0 for _, c in b.terms) and all(any(low == 1 for low in lows) for _, lows in least)

    def bounded(self, key: Any, e: Expr, branches: Sequence[Size]) -> Size:
        """One of two values: by cases."""
        out = self.made.setdefault(key, fresh())
        at = atom_of(out)
        if at not in self.defined:
            first, second = branches
            self.defined[at] = ("where", (first, second))
            self.cases[at] = (self.holds(e.args[0]), self.holds(e.args[0], False))
            text = ir.expression(e.args[0])
            self.conditions[at] = (text, at) if "[" in text else (text,)  # memory may change
            yes, no = self.cases[at]
            above = [p for p, q, case in ((first, second, no), (second, first, yes)) if _difference(p - q, case)]
            below = [p for p, q, case in ((first, second, no), (second, first, yes)) if _difference(q - p, case)]
            self.between[at] = (tuple(below), tuple(above))
        return out

    def decided(self, a: Atom) -> tuple[Sequence[Size], Sequence[Size]]:
        """What is at least 0 where a choice, a minimum or a maximum is the first of its parts, and where the second."""
        what, parts = self.defined[a]
        if what == "where":
            return self.cases[a]
        less = parts[1] - parts[0] if what == "minimum" else parts[0] - parts[1]
        return [less], [less * -1]

    # -- conditions ---------------------------------------------------------------------------------------------------

    def named(self, e: Expr) -> Expr:
        """What a name stands for; any other expression itself."""
        while e.fn == "name" and str(e.attr) in self.exprs:
            e = self.exprs[str(e.attr)]
        return e

    def holds(self, e: Expr, truth: bool = True) -> list[Size]:
        """Polynomials that are at least 0 where ``e`` is ``truth``; not all there are."""
        e = self.named(e)
        if e.fn in ("logical_and", "bitwise_and") and truth:
            return [p for a in e.args for p in self.holds(a, True)]
        if e.fn in ("logical_or", "bitwise_or") and not truth:
            return [p for a in e.args for p in self.holds(a, False)]
        if e.fn in ("logical_not", "bitwise_invert"):
            return self.holds(e.args[0], not truth)
        if e.fn not in COMPARISONS or e.args[0].dtype.kind not in "iu":
            return []
        a, b = (self.value(x) for x in e.args)
        if a is None or b is None:
            return []
        fn = e.fn if truth else _NEGATED[e.fn]
        return {
            "less": [b - a - 1], "less_equal": [b - a], "greater": [a - b - 1], "greater_equal": [a - b],
            "equal": [a - b, b - a], "not_equal": [],
        }[fn]  # fmt: skip

    def least(self, e: Expr) -> list[Size]:
        """What ``e`` is no more than."""
        e = self.named(e)
        if e.fn == "minimum":
            return [p for a in e.args for p in self.least(a)]
        found = self.value(e)
        return [found] if found is not None else []

    def positive(self, p: Size, scope: Scope) -> set[Atom]:
        """Sizes that are at least 1 where ``p`` is: the factors of a product, less what is not negative."""
        if not isinstance(p, Dim):
            return set()
        natural = Proof(self, scope).natural
        added = [monomial for monomial, c in p.terms if c > 0]
        taken = [a for monomial, c in p.terms if c < 0 for a in monomial]
        if len(added) != 1 or not all(map(natural, taken)):
            return set()
        if sum(not natural(a) for a in added[0]) > 1:
            return set()  # two that are negative make a positive product
        found: set[Atom] = set()
        for a in added[0]:
            what, parts = self.defined.get(a, ("", ()))
            if a not in _made:
                found.add(a)
            elif what == "quotient":
                found |= self.positive(parts[0], scope)  # it is not below the divisor
            elif what == "minimum":
                found |= self.positive(parts[0], scope) | self.positive(parts[1], scope)
            elif what == "where" and 0 in parts:
                found |= self.positive(next((q for q in parts if q != 0), 0), scope)
        return found

    def proves(self, goal: Size, scope: Scope) -> bool:
        """Whether ``goal`` is at least 0 wherever ``scope`` is."""
        return self.proof(self, scope).run(goal)


# -- proofs ------------------------------------------------------------------------------------------------------------


class Proof:
    """That a polynomial is at least 0: its indices are eliminated one by one, by their bounds."""

    def __init__(self, integers: Integers, scope: Scope) -> None:
        self.integers, self.scope, self.tries = integers, scope, TRIES
        self.rank = {a: k for k, a in enumerate(scope.order)}
        self.positive = scope.positive | {a for a, lows in integers.lower.items() if 1 in lows}
        self.open: set[Size] = set()  # dividends that are being bounded
        self.natural_of: dict[Size, bool] = {}
        self.facts = [*scope.facts, *(fact for fact, b in integers.facts if self.obvious(b - 1))]
        self.failed: set[tuple[Size, tuple[Size, ...], int]] = set()

    def run(self, goal: Size) -> bool:
        return self.attempt(goal, (), DEPTH)

    def split(self, goal: Size, kinds: tuple[str, ...], facts: tuple[Size, ...], depth: int) -> bool | None:
        """By cases of a choice that the goal has in it; ``None`` where there is none."""
        for a in list(atoms(goal)):
            what, parts = self.integers.defined.get(a, ("", ()))
            if what not in kinds:
                continue
            return all(
                self.attempt(replaced(goal, a, p), (*facts, *more), depth - 1)
                for p, more in zip(parts, self.integers.decided(a), strict=True)
            )
        return None

    def attempt(self, goal: Size, facts: tuple[Size, ...], depth: int) -> bool:
        """Whether ``goal`` is shown to be at least 0 in so many steps; ``facts`` hold in the case at hand."""
        key = (goal, facts, depth)
        if key in self.failed:
            return False
        if self.step(goal, facts, depth):
            return True
        if not self.open:
            self.failed.add(key)
        return False

    def step(self, goal: Size, facts: tuple[Size, ...], depth: int) -> bool:
        self.tries -= 1
        if self.tries < 0:
            return False
        if self.obvious(goal):
            return True
        if depth == 0 or isinstance(goal, int):
            return False
        # The innermost index first: bounds of inner ones may speak of outer ones.
        inner = sorted(
            (a for a in atoms(goal) if self.eliminable(a, facts)), key=lambda a: self.rank.get(a, len(self.rank)),
        )  # fmt: skip
        for a in reversed(inner):
            split = linear(goal, a)
            if split is None:
                continue
            c, rest = split
            for sign in (1, -1):
                if not self.obvious(c * sign):
                    continue
                for b in self.bounds(a, sign > 0, facts):
                    if self.attempt(rest + c * b, facts, depth - 1):
                        return True
        chosen = self.split(goal, ("where",), facts, depth)
        if chosen is not None:
            return chosen
        for fact in (*facts, *self.facts):
            if _atoms(fact) & _atoms(goal) and len(_atoms(fact)) > 1 and self.obvious(goal - fact):
                return True
        if any(
            self.attempt(goal - fact, facts, min(depth - 1, 2))
            for fact in (*facts, *self.facts)
            if depth > 2 and self.shares(fact, goal)
        ):
            return True
        return bool(self.split(goal, ("minimum", "maximum"), facts, depth))

    def shares(self, fact: Size, goal: Size) -> bool:
        """Whether taking the fact away makes the goal simpler: they have a term in common."""
        if isinstance(fact, int) or isinstance(goal, int):
            return False
        have = dict(goal.terms)
        return any(len(m) and have.get(m) == c for m, c in fact.terms)

    def eliminable(self, a: Atom, facts: tuple[Size, ...]) -> bool:
        return a in self.rank or a in self.integers.lower or a in self.integers.upper or (
            not a.fn and a.name is None and any(a in _atoms(f) for f in (*facts, *self.facts))
        )  # fmt: skip

    def bounds(self, a: Atom, low: bool, facts: tuple[Size, ...]) -> Iterable[Size]:
        """What ``a`` is at least, or at most."""
        scope, extra = (self.scope.lower, self.integers.lower) if low else (self.scope.upper, self.integers.upper)
        yield from scope.get(a, ())
        yield from extra.get(a, ())
        for fact in (*facts, *self.facts):
            split = linear(fact, a)
            if split is not None and split[0] == (1 if low else -1):
                yield split[1] * -1 if low else split[1]
        what, parts = self.integers.defined.get(a, ("", ()))
        if what == "quotient" and low and self.obvious(parts[0]):
            yield 0
        if what == "quotient":
            dividend, divisor = parts
            if low:
                if dividend not in self.open:
                    self.open.add(dividend)  # what bounds the dividend may be the quotient
                    natural = self.attempt(dividend, facts, 3)
                    self.open.discard(dividend)
                    if natural:
                        yield 0
            else:
                for most in self.most(dividend):
                    found = quotient(most + 1, divisor)
                    if found is not None:
                        yield found - 1

    def most(self, e: Size) -> Iterable[Size]:
        """Upper bounds of ``e`` without indices."""
        inner = [a for a in atoms(e) if a in self.rank]
        if not inner:
            yield e
            return
        a = max(inner, key=lambda a: self.rank[a])
        split = linear(e, a)
        if split is not None and self.obvious(split[0]):
            for upper in self.scope.upper.get(a, ()):
                yield from self.most(split[1] + split[0] * upper)

    def obvious(self, goal: Size) -> bool:
        """Whether no coefficient is negative, with sizes counted from the least that they are."""
        if isinstance(goal, int):
            return goal >= 0
        found = self.natural_of.get(goal)
        if found is None:
            found = self.natural_of[goal] = self.shifted(goal)
        return found

    def shifted(self, goal: Dim) -> bool:
        """:meth:`obvious`: coefficients after ``a + 1`` is written for each size ``a`` that is at least 1."""
        positive = self.positive
        if all(c > 0 for _, c in goal.terms):
            return all(self.natural(a) for monomial, _ in goal.terms for a in monomial)
        above = [monomial for monomial, c in goal.terms if c > 0]
        if not all(any(_within(m, other, positive) for other in above) for m, c in goal.terms if c < 0):
            return False
        terms: dict[tuple[Atom, ...], int] = {}
        for monomial, c in goal.terms:
            parts: list[tuple[Atom, ...]] = [()]
            for a in monomial:
                parts = [(*m, a) for m in parts] + (parts if a in positive else [])
            for m in parts:
                terms[m] = terms.get(m, 0) + c
        return all(c >= 0 and (not c or all(self.natural(a) for a in m)) for m, c in terms.items())

    def natural(self, a: Atom) -> bool:
        """Whether an atom is at least 0 by itself: a size, or an index of a loop that starts at 0."""
        if a in self.scope.lower:
            return any(isinstance(b, int) and b >= 0 for b in self.scope.lower[a])
        if any(isinstance(b, int) and b >= 0 for b in self.integers.lower.get(a, ())):
            return True
        what, parts = self.integers.defined.get(a, ("", ()))
        if what == "quotient" and self.obvious(parts[0]) and self.obvious(parts[1] - 1):
            return True
        return a not in _made and at_least(_symbol(a), 0)


# -- polynomials -------------------------------------------------------------------------------------------------------

_made: set[Atom] = set()
_ARITHMETIC = frozenset(
    (
        "add", "subtract", "multiply", "floor_divide", "remainder", "minimum", "maximum", "negative", "where",
        "left_shift", "right_shift", "bitwise_and",
    )
)  # fmt: skip
COMPARISONS = frozenset(("less", "less_equal", "greater", "greater_equal", "equal", "not_equal"))
_NEGATED = {
    "less": "greater_equal", "less_equal": "greater", "greater": "less_equal", "greater_equal": "less",
    "equal": "not_equal", "not_equal": "equal",
}  # fmt: skip


def fresh() -> Size:
    """A polynomial of one new atom, of which nothing is known."""
    a = Atom(None)
    _made.add(a)
    return _symbol(a)


def is_made(a: Atom) -> bool:
    """Whether an atom is no size, but made by :func:`fresh`."""
    return a in _made


def _symbol(a: Atom) -> Size:
    return Dim((((a,), 1),))


def atom_of(size: Size) -> Atom:
    """The atom of a polynomial that is nothing else."""
    assert isinstance(size, Dim)
    assert size.atom is not None
    return size.atom


@cache
def _atoms(p: Size) -> frozenset[Atom]:
    return frozenset(atoms(p))


def _difference(p: Size, facts: Iterable[Size]) -> bool:
    """Whether ``p`` is at least 0 by one of the facts, or is a number."""
    return any(isinstance(rest := p - f, int) and rest >= 0 for f in (0, *facts))


def _within(m: Sequence[Atom], other: Sequence[Atom], positive: frozenset[Atom]) -> bool:
    """Whether a product is what is left of another one without some factors, all of which are ``positive``."""
    left = list(other)
    for a in m:
        if a not in left:
            return False
        left.remove(a)
    return all(a in positive for a in left)


def linear(p: Size, a: Atom) -> tuple[Size, Size] | None:
    """``p`` as ``c * a + rest``; ``None`` where ``a`` occurs in another way."""
    if isinstance(p, int) or a not in _atoms(p):
        return 0, p
    powers = _powers(p, a)
    if len(powers) > 2 or any(x.fn and a in _atoms(_symbol(x)) for monomial, _ in p.terms for x in monomial):
        return None
    return powers.get(1, 0), powers.get(0, 0)


def _powers(p: Dim, a: Atom) -> dict[int, Size]:
    """The coefficients of the powers of ``a``, up to the highest."""
    terms: dict[int, list[tuple[tuple[Atom, ...], int]]] = {}
    for monomial, n in p.terms:
        times = monomial.count(a)
        terms.setdefault(times, []).append((tuple(x for x in monomial if x is not a), n))
    found = {k: _normal(dict(of)) for k, of in terms.items()}
    return {k: found.get(k, 0) for k in range(max(found) + 1)}


def substituted(p: Size, by: Callable[[Atom], Size]) -> Size:
    """``p`` with ``by(a)`` in place of each atom ``a``."""
    if isinstance(p, int):
        return p
    total: Size = 0
    for monomial, c in p.terms:
        term: Size = c
        for a in monomial:
            term = term * by(a)
        total = total + term
    return total


def replaced(p: Size, a: Atom, by: Size) -> Size:
    """``p`` with ``by`` in place of ``a``."""
    if isinstance(p, int):
        return p
    total: Size = 0
    power: Size = 1
    for c in _powers(p, a).values():
        total = total + c * power
        power = power * by
    return total


def quotient(p: Size, d: Size) -> Size | None:
    """``p / d`` where ``d`` divides ``p`` as a polynomial of one term."""
    if p == d:
        return 1
    if isinstance(p, int) and isinstance(d, int):
        return p // d if d and p % d == 0 else None
    found = floordiv(p, d)
    return found if found * d == p else None


def factors(p: Size) -> list[Atom]:
    """The atoms of a product: each is at least 1 where the product is."""
    if isinstance(p, Dim) and len(p.terms) == 1 and p.terms[0][1] > 0:
        return [a for a in p.terms[0][0] if a not in _made]
    return []


def absolute(c: Size) -> Size:
    """``-c`` where no term of ``c`` is positive, else ``c``."""
    negative = c < 0 if isinstance(c, int) else all(n < 0 for _, n in c.terms)
    return c * -1 if negative else c


def spans_of(scope: Scope, a: Atom) -> list[Size]:
    """How far an index gets from its least value at most, by each of its upper bounds."""
    lows = scope.lower.get(a) or (0,)
    return [high - lows[0] for high in scope.upper.get(a, ())]


def span_of(scope: Scope, a: Atom) -> Size:
    """The first of them; 1 where there is no bound."""
    found = spans_of(scope, a)
    return found[0] if found else 1


def narrowed(scope: Scope, facts: Iterable[Size] = (), same: tuple[Expr, ...] = (), alone: bool = False) -> Scope:
    """A scope in which more holds."""
    return Scope(
        scope.lower,
        scope.upper,
        scope.order,
        (*scope.facts, *facts),
        scope.loops,
        scope.positive,
        scope.alone or alone,
        (*scope.same, *same),
    )
