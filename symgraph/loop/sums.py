"""Inequalities that are sums of others: proofs for kernels that are text, which say more than the bounds of loops.

A goal follows if it is a sum of facts (:mod:`symgraph.loop.linear`), after cases of choices. Of the choices one is made
that the facts leave open: at the place where the goal is least, the value is neither of the two. Where an index has
sizes for a factor, facts are multiplied by these, or the index is eliminated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from symgraph.loop.linear import contradict, follows, lowest, value
from symgraph.loop.prove import TRIES, Integers, Proof, Scope, is_made, linear, quotient, replaced
from symgraph.loop.region import symbol
from symgraph.types import Atom, Dim, Monomial, Size, atoms

SUMS = 4
"""Indices that are eliminated before sums are tried."""
CASES = 10
"""Choices of which both cases are tried."""
FACTS = 150
"""Facts of which sums are made."""
NEAR = 1e-3
"""Integers that are nearer to each other, where they come from a linear program, are one."""
LEAVES = 200
"""Goals of one proof that are left when indices have been eliminated."""


class Sums(Proof):
    """That a polynomial is at least 0, as a sum of what is known."""

    def __init__(self, integers: Integers, scope: Scope) -> None:
        super().__init__(integers, scope)
        self.leaves = LEAVES
        self.natural_quotients: dict[Size, bool] = {}

    def run(self, goal: Size) -> bool:
        return self.obvious(goal) or self.sum(goal, (), 0) or self.sums(goal)

    def sums(self, goal: Size, facts: tuple[Size, ...] = (), left: int = SUMS, cases: int = CASES) -> bool:
        """By sums of what is known, after choices have been made and indices eliminated whose factors are sizes."""
        own = [a for a in atoms(goal) if self.chooses(a)]
        if own and cases:
            return all(self.sums(case, more, left, cases - 1) for case, more in self.ways(own[0], own, goal, facts))
        if left and self.products(goal):
            for a in sorted(atoms(goal), key=lambda a: -self.rank.get(a, -1)):
                split = linear(goal, a)
                if split is not None and not isinstance(split[0], int) and self.eliminable(a, facts):
                    for sign in (1, -1):
                        if self.obvious(split[0] * sign):
                            for b in self.bounds(a, sign > 0, facts):
                                if self.sums(split[1] + split[0] * b, facts, left - 1, cases):
                                    return True
        self.leaves -= 1
        return self.leaves > 0 and self.sum(goal, facts, cases)

    def sum(self, goal: Size, facts: tuple[Size, ...], cases: int) -> bool:
        """Whether ``goal`` is a sum of facts, in each case of the choices among them."""
        if any(isinstance(f, int) and f < 0 for f in (*facts, *self.facts)):
            return True  # the case does not arise
        known, choices = self.around(goal, facts)
        if follows(goal, known):
            return True
        if not cases or not choices:
            return False
        least = lowest(goal, known)
        if not least and contradict(known):
            return True  # the case does not arise
        for a in choices:
            ways = self.ways(a, choices, goal, facts)
            same = [f for _, more in ways for f in more[len(facts) :]]
            if any(f in facts for f in same if f * -1 in same):
                continue
            if least and any(all(_holds(f, least) for f in more[len(facts) :]) for _, more in ways):
                continue  # where the goal is least, it is one of the two
            return all(self.sum(case, more, cases - 1) for case, more in ways)
        return False

    def chooses(self, a: Atom) -> bool:
        return self.integers.defined.get(a, ("",))[0] in ("where", "minimum", "maximum")

    def ways(
        self, a: Atom, choices: Sequence[Atom], goal: Size, facts: tuple[Size, ...]
    ) -> list[tuple[Size, tuple[Size, ...]]]:
        """The goal and the facts in both cases of a choice, and of those among ``choices`` that are decided with it."""
        of = self.integers
        conditions = of.decided(a)
        together = [b for b in choices if of.conditions.get(b) == of.conditions[a]] if a in of.conditions else [a]
        out: list[tuple[Size, tuple[Size, ...]]] = []
        for k in (0, 1):
            case = goal
            equal: list[Size] = []
            for b in together:
                case = replaced(case, b, of.defined[b][1][k])
                more = symbol(b) - of.defined[b][1][k]
                equal += [more, more * -1]
            out.append((case, (*facts, *conditions[k], *equal)))
        return out

    def around(self, goal: Size, facts: tuple[Size, ...]) -> tuple[list[Size], list[Atom]]:
        """Facts about the atoms of ``goal``, and about those in these facts; and the choices among the atoms."""
        known: dict[Size, None] = {}
        choices: list[Atom] = []
        waiting, seen = list(atoms(goal)), set(atoms(goal))
        pool = [*facts, *self.facts]

        def add(fact: Size) -> None:
            if fact not in known and not isinstance(fact, int):
                known[fact] = None
                for b in atoms(fact):
                    if b not in seen:
                        seen.add(b)
                        waiting.append(b)

        while waiting and len(known) < FACTS:
            a = waiting.pop(0)
            for low in (True, False):
                for b in (*self.of(a, low), *self.whole(a, low, pool)):
                    add(symbol(a) - b if low else b - symbol(a))
            for fact in pool:
                if a in set(atoms(fact)):
                    add(fact)
            if self.chooses(a):
                choices.append(a)
        for sizes, indices in self.products(goal).items():
            left, size = list(known), 0
            while size != len(indices) and len(known) < 2 * FACTS:
                size = len(indices)
                for fact in [f for f in left if not indices.isdisjoint(atoms(f))]:
                    left.remove(fact)
                    indices |= {a for a in atoms(fact) if is_made(a)}
                    known[fact * sizes] = None
        monomials = {m for p in (goal, *known) if not isinstance(p, int) for m, _ in p.terms}
        natural = [Dim(((m, 1),)) for m in monomials if m and all(map(self.natural, m))]
        return [*known, *natural], choices

    def products(self, goal: Size) -> dict[Size, set[Atom]]:
        """Products of sizes that indices in ``goal`` are multiplied by: facts about these are too."""
        found: dict[Size, set[Atom]] = {}
        for monomial, _ in goal.terms if isinstance(goal, Dim) else ():
            sizes = tuple(a for a in monomial if not is_made(a))
            if sizes and len(sizes) < len(monomial) and all(map(self.natural, sizes)):
                found.setdefault(Dim(((sizes, 1),)), set()).update(a for a in monomial if is_made(a))
        return found

    def of(self, a: Atom, low: bool) -> Iterable[Size]:
        scope, extra = (self.scope.lower, self.integers.lower) if low else (self.scope.upper, self.integers.upper)
        yield from scope.get(a, ())
        yield from extra.get(a, ())
        yield from self.integers.between.get(a, ((), ()))[0 if low else 1]

    def whole(self, a: Atom, low: bool, facts: Sequence[Size]) -> Iterable[Size]:
        """Bounds of a quotient that hold since it is whole."""
        what, parts = self.integers.defined.get(a, ("", ()))
        if what == "quotient" and low and isinstance(parts[1], int):
            yield from (more // parts[1] for f in facts if isinstance(more := parts[0] - f, int))
        if what != "quotient" or not self.not_negative(parts[0]):
            return
        if low:
            yield 0
        else:
            for most in self.most(parts[0]):
                found = quotient(most + 1, parts[1])
                if found is not None:
                    yield found - 1

    def not_negative(self, dividend: Size) -> bool:
        if dividend not in self.natural_quotients:
            self.tries = TRIES
            self.natural_quotients[dividend] = self.attempt(dividend, (), 3)
        return self.natural_quotients[dividend]


def _holds(fact: Size, at: Mapping[Monomial, float]) -> bool:
    """Whether a fact is at least 0 where products of atoms have values."""
    found = value(fact, at)
    return found is not None and found >= -NEAR
