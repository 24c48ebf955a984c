"""Kernels that are text, all of which all lanes of a group run: what differs between lanes, and what they exchange."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from symgraph.index import Expr
from symgraph.loop.ir import Assign, Declare, Fetch, For, If, Let, Prefix, Statement, While
from symgraph.loop.nest import within
from symgraph.loop.prove import COMPARISONS, Integers, Scope, atom_of, fresh, is_made, substituted
from symgraph.loop.region import symbol
from symgraph.types import Atom, Size


def of_lane(e: Expr, names: Collection[str]) -> bool:
    """Whether an expression has in it the number of the lane, or one of ``names``."""
    return any(x.fn == "lane" or (x.fn == "name" and str(x.attr) in names) for x in within([e]))


def spread(s: For) -> set[str]:
    """The names that may differ between lanes: by their values, or by how often or where they are assigned."""
    found = {s.index}

    def differs(e: Expr) -> bool:
        return of_lane(e, found)

    def block(body: Sequence[Statement], parts: bool) -> None:
        for t in body:
            if isinstance(t, Let | Declare | Assign) and (differs(t.value) or (parts and isinstance(t, Assign))):
                found.add(t.name)
            elif isinstance(t, Fetch) and differs(t.at):
                found.update(t.names)
            elif isinstance(t, Prefix):
                found.add(t.name)
            elif isinstance(t, If):
                block(t.then, parts or differs(t.condition))
                block(t.otherwise, parts or differs(t.condition))
            elif isinstance(t, While):
                block(t.body, parts or differs(t.condition))
            elif isinstance(t, For):
                own = differs(t.start) or differs(t.stop) or t.kind in ("lane", "grid")
                found.update({t.index} if own else ())
                block(t.body, parts or own)

    size = -1
    while size != len(found):
        size = len(found)
        block(s.body, False)
    return found


def exchanged(
    integers: Integers,
    lane: Atom,
    place: int,
    stored: tuple[Size, Scope],
    loaded: tuple[Size, Scope],
    alike: Iterable[Size | None],
) -> list[Size]:
    """What holds where a word is ``loaded`` that the lane ``place`` has ``stored``: what held of its value there.

    Nothing, where it is not sure that this lane has come there, in the same turn of all loops.

    Args:
        integers: what is known of the integers.
        lane: the number of any lane.
        place: that of the one which stores.
        stored, loaded: the value, and where the statement stands.
        alike: values that are the same in all lanes.
    """
    (given, there), (got, here) = stored, loaded
    if there.loops != here.loops or there.same[: len(here.same)] != here.same:
        return []
    came = Instance(integers, {lane: place}, frozenset())
    for condition in there.same[len(here.same) :]:
        held = [came(p) for p in _exactly(condition, integers)]
        if not held or any(not isinstance(p, int) or p < 0 for p in held):
            return []
    own = Instance(integers, {lane: place}, integers.made_of(alike))
    same = got - own(given)
    return [*(own(f) for f in there.facts if f not in here.facts), same, same * -1]


class Instance:
    """Values in one lane, given what they are in any: those of some atoms, and new ones for others that are not alike.

    Args:
        integers: what is known of the integers.
        known: values of atoms.
        alike: atoms that are the same in all lanes.
    """

    def __init__(self, integers: Integers, known: Mapping[Atom, Size], alike: frozenset[Atom]) -> None:
        self.integers, self.known, self.alike = integers, dict(known), alike

    def __call__(self, p: Size) -> Size:
        return substituted(p, self.atom)

    def atom(self, a: Atom) -> Size:
        if a not in self.known:
            self.known[a] = symbol(a) if a in self.alike or not is_made(a) else self.copy(a)
        return self.known[a]

    def copy(self, a: Atom) -> Size:
        of = self.integers
        what, parts = of.defined.get(a, ("", ()))
        if what == "quotient":
            dividend, divisor = map(self, parts)
            if isinstance(dividend, int) and isinstance(divisor, int):
                return dividend // divisor
            return of.quotient(dividend, divisor)
        out = self.known[a] = fresh()
        at = atom_of(out)
        for table in (of.lower, of.upper):
            if a in table:
                table[at] = tuple(map(self, table[a]))
        if what:
            of.defined[at] = (what, tuple(map(self, parts)))
        if what == "where":
            yes, no = of.cases[a]
            of.cases[at] = ([*map(self, yes)], [*map(self, no)])
            of.conditions[at] = (*of.conditions[a], self)
            below, above = of.between[a]
            of.between[at] = (tuple(map(self, below)), tuple(map(self, above)))
        return out


def _exactly(e: Expr, integers: Integers) -> Sequence[Size]:
    """What is at least 0 where a condition holds, and only there; nothing where that cannot be said."""
    e = integers.named(e)
    if e.fn in ("logical_and", "bitwise_and"):
        parts = [_exactly(a, integers) for a in e.args]
        return [p for part in parts for p in part] if all(parts) else []
    return integers.holds(e) if e.fn in COMPARISONS else []
