"""Accesses that meet: whether two threads touch one element, of which one stores, with nothing in between.

Of loops that are dealt out to threads, each access is in an iteration, and what iterations touch is compared. Of a
text, all lanes of a group run all of it (:class:`~symgraph.loop.ir.For` of kind ``lanes``): what they touch in global
memory is compared in the same way, and what they touch in shared memory between two barriers lane by lane.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import gcd

from symgraph.loop.digits import injective
from symgraph.loop.ir import Barrier, For, If, LoopKernel, Statement, While
from symgraph.loop.prove import Integers, Scope, linear, replaced
from symgraph.loop.ranks import Count, ranked
from symgraph.loop.region import symbol
from symgraph.types import Atom, Size, atoms

SHARED = frozenset(("parallel", "vector", "grid", "group", "lane", "lanes"))
"""Kinds of loops whose iterations run at the same time."""


@dataclass(frozen=True)
class Site:
    """One store or load."""

    buffer: str
    at: Size | None
    scope: Scope
    path: tuple[int, ...]
    writes: bool
    width: int
    text: str
    atomic: bool = False
    alike: bool = False  # whoever stores, stores the same
    value: Size | None = None  # what is stored


def works(scope: Scope) -> bool:
    """Whether lanes have work of their own in some loop around."""
    return any(kind in ("lane", "grid", "lanes") for kind, _ in scope.loops)


class Meetings:
    """The accesses of a kernel.

    Args:
        kernel: the loops.
        integers: what is known of their integers.
        sites: the accesses.
        barriers: the paths of barriers.
        lanes: of a text: the digits of a lane's number, with divisor and modulus.
        scratch: buffers that each group has for itself.
        counts: of a text: numbers that loops have counted.
    """

    def __init__(
        self,
        kernel: LoopKernel,
        integers: Integers,
        sites: Sequence[Site],
        barriers: Sequence[tuple[int, ...]],
        lanes: Sequence[tuple[Atom, int, int]],
        scratch: Collection[str],
        counts: Mapping[Atom, Count],
    ) -> None:
        self.kernel, self.integers, self.sites, self.barriers = kernel, integers, sites, barriers
        self.lanes, self.scratch, self.counts = lanes, scratch, counts
        self.gpu = self.one = False
        self.found: dict[str, None] = {}

    def races(self, gpu: bool, one: bool) -> list[str]:
        """What may be touched by two threads; ``one``: there is one."""
        self.gpu, self.one = gpu, one
        within = [s for s in self.sites if self.lanes and s.buffer in self.scratch]
        if any(s.writes for s in within):
            self.intervals(within)
        sites = [s for s in self.sites if s not in within] if within else self.sites
        stored = {s.buffer for s in sites if s.writes}
        for site in sites:
            if site.writes and not site.alike:
                self.distinct(site)
        for buffer in stored:
            of = [s for s in sites if s.buffer == buffer]
            for k, a in enumerate(of):
                for b in of[k + 1 :]:
                    if (a.writes or b.writes) and not (a.atomic and b.atomic) and not (a.alike and b.alike):
                        self.apart(a, b)
        return list(self.found)

    def report(self, what: str) -> None:
        self.found[what] = None

    def distinct(self, site: Site) -> None:
        """No two iterations store to one element, nor all lanes of a group what is stored or added once."""
        scope = site.scope
        if self.gpu and not self.one and not works(scope) and not scope.alone:
            self.report(f"{site.text}: all lanes store it")
        if site.atomic:
            return
        shared = [a for kind, group in scope.loops if kind in SHARED for a in group]
        at = self.by_position(site.at, scope) if site.at is not None else None
        if shared and (at is None or not injective(self.integers, at, shared, site.width, scope)):
            self.report(f"{site.text}: two iterations may store it")

    def by_position(self, at: Size, scope: Scope) -> Size:
        """A place with elements' positions in place of their ranks: where no two of those meet, no two of these do."""
        stored = {s.buffer for s in self.sites if s.writes}
        for a in set(atoms(at)) & set(self.counts):
            own = ranked(self.counts[a], self.counts, self.integers, stored.__contains__)
            inside = own is not None and self.integers.proves(symbol(own), scope)
            if own is not None and inside and self.integers.proves(self.counts[a].stop - 1 - symbol(own), scope):
                at = replaced(at, a, symbol(own))
        return at

    def apart(self, a: Site, b: Site) -> None:
        """Two accesses to one buffer, of which one stores: of one thread, in phases with a barrier, or disjoint."""
        if a.at is None or b.at is None:
            self.report(f"{a.text} and {b.text}")
            return
        alike = not self.gpu or self.one or works(a.scope) or (a.scope.alone and b.scope.alone)
        if alike and a.atomic == b.atomic and a.at == b.at and a.scope.loops == b.scope.loops and a.width == b.width:
            return  # the same thread
        if self.one or not any(kind in SHARED for kind, _ in (*a.scope.loops, *b.scope.loops)):
            return
        if not self.gpu and (self.follows(a, b) or self.follows(b, a)):
            return
        common = 0
        for x, y in zip(a.scope.loops, b.scope.loops, strict=False):
            if x != y:
                break
            common += 1
        own = [i for kind, group in a.scope.loops[:common] if kind in SHARED for i in group]
        rows = self.rows(a, own) is not None and self.rows(a, own) == self.rows(b, own)
        if not self.gpu and rows:
            return  # one after the other
        apart = self.parted(a, b) and not any(kind == "serial" for kind, _ in a.scope.loops[:common])
        serial = all(kind == "serial" for kind, _ in (*a.scope.loops[common:], *b.scope.loops[common:]))
        if rows and (apart or (serial and a.scope.alone and b.scope.alone)):
            return
        if rows and serial and common and any(kind in ("grid", "lane") for kind, _ in a.scope.loops[:common]):
            return
        if self.separate(a, b, common) and rows:
            return
        self.report(f"{a.text} and {b.text}")

    def parted(self, a: Site, b: Site) -> bool:
        """Whether each way from one to the other goes by a barrier: one that is in no branch or loop of its own."""
        for *block, k in self.barriers:
            depth = len(block)
            if list(a.path[:depth]) == block == list(b.path[:depth]):
                first, last = sorted((a.path[depth], b.path[depth]))
                if first < k < last:
                    return True
        return False

    def follows(self, a: Site, b: Site) -> bool:
        """Whether ``b`` touches what ``a`` does in the turn before of a serial loop around both, and nothing else."""
        if a.at is None or b.at is None or a.scope.loops != b.scope.loops or a.width != b.width:
            return False
        shared = [i for kind, group in a.scope.loops if kind in SHARED for i in group]
        for i in (i for kind, group in a.scope.loops if kind == "serial" for i in group):
            split = linear(a.at, i)
            if split is not None and split[0] != 0 and a.at - b.at == split[0]:
                # One turn more, so that the turn before is one of them: if no two meet, the two are of one thread.
                lower = {**a.scope.lower, i: tuple(low - 1 for low in a.scope.lower[i])}
                return injective(self.integers, a.at, [*shared, i], a.width, dataclasses.replace(a.scope, lower=lower))
        return False

    def rows(self, site: Site, own: Sequence[Atom]) -> Size | None:
        """Where what an iteration of the common loops touches begins, if no other one touches any of it."""
        assert site.at is not None
        rest = site.at
        for i in own:
            split = linear(rest, i)
            if split is None:
                return None
            rest = split[1]
        first = site.at - rest
        return first if not own or injective(self.integers, first, own, site.width, site.scope, rest) else None

    def separate(self, a: Site, b: Site, common: int) -> bool:
        """Whether one of the two lies wholly before the other, in the same iteration of the common loops."""
        assert a.at is not None
        assert b.at is not None
        scope = Scope(
            {**a.scope.lower, **b.scope.lower},
            {**a.scope.upper, **b.scope.upper},
            tuple(dict.fromkeys((*a.scope.order, *b.scope.order))),
            (*a.scope.facts, *b.scope.facts),
            (),
            a.scope.positive | b.scope.positive,
        )
        return self.integers.proves(b.at - a.at - a.width, scope) or self.integers.proves(a.at - b.at - b.width, scope)

    # -- shared memory of a text --------------------------------------------------------------------------------------

    def intervals(self, sites: Sequence[Site]) -> None:
        """Accesses to shared memory with no barrier in between are to places of the lanes' own."""
        number = {id(s): k for k, s in enumerate(sites)}
        by_path: dict[tuple[int, ...], list[int]] = {}
        for s in sites:
            by_path.setdefault(s.path, []).append(number[id(s)])
        residues = [self.residues(s) for s in sites]
        for k, m in sorted(_together(self.kernel.body, by_path)):
            a, b = sites[k], sites[m]
            one_stores = a.buffer == b.buffer and (a.writes or b.writes) and not (a.atomic and b.atomic)
            if one_stores and not _own(residues[k], residues[m]):
                self.report(f"{a.text} and {b.text}" if k != m else f"{a.text}: two lanes may store it")

    def residues(self, site: Site) -> tuple[list[int], int] | None:
        """What a place is in each lane, and modulo what: the rest of it is a multiple of that, whatever it is."""
        if site.at is None or site.width != 1:
            return None
        count = max(divisor * modulus for _, divisor, modulus in self.lanes)
        terms = site.at.terms if not isinstance(site.at, int) else (((), site.at),)
        places = [0] * count
        modulus = 0
        for monomial, c in terms:
            of_lane = [a for a in monomial if self.of_lane(a)]
            if len(of_lane) < len(monomial):
                modulus = gcd(modulus, c)
                continue
            for lane in range(count):
                value = c
                for a in of_lane:
                    value *= self.in_lane(a, lane)
                places[lane] += value
        return places, modulus

    def of_lane(self, a: Atom) -> bool:
        """Whether an atom follows from the number of the lane alone."""
        if any(a is digit for digit, _, _ in self.lanes):
            return True
        what, parts = self.integers.defined.get(a, ("", ()))
        if what != "quotient" or not isinstance(parts[1], int):
            return False
        return isinstance(parts[0], int) or all(self.of_lane(b) for m, _ in parts[0].terms for b in m)

    def in_lane(self, a: Atom, lane: int) -> int:
        for digit, divisor, modulus in self.lanes:
            if a is digit:
                return lane // divisor % modulus
        _, (dividend, by) = self.integers.defined[a]
        assert isinstance(by, int)
        total = 0
        for monomial, c in dividend.terms if not isinstance(dividend, int) else (((), dividend),):
            value = c
            for b in monomial:
                value *= self.in_lane(b, lane)
            total += value
        return total // by


def _own(a: tuple[list[int], int] | None, b: tuple[list[int], int] | None) -> bool:
    """Whether no two lanes meet, one in each of two places."""
    if a is None or b is None:
        return False
    modulus = gcd(a[1], b[1])
    lanes: dict[int, set[int]] = {}
    for lane, place in enumerate(a[0]):
        lanes.setdefault(place % modulus if modulus else place, set()).add(lane)
    return all(lanes.get(place % modulus if modulus else place, {lane}) == {lane} for lane, place in enumerate(b[0]))


def _together(body: Sequence[Statement], sites: Mapping[tuple[int, ...], Sequence[int]]) -> set[tuple[int, int]]:
    """Pairs of accesses that some way through a kernel has with no barrier in between, or two lanes on two ways."""
    pairs: set[tuple[int, int]] = set()

    def come(here: tuple[int, ...], since: frozenset[int]) -> frozenset[int]:
        own = sites.get(here, ())
        since = since.union(own)
        pairs.update((min(k, m), max(k, m)) for k in own for m in since)
        return since

    def block(body: Sequence[Statement], path: tuple[int, ...], since: frozenset[int]) -> frozenset[int]:
        for k, s in enumerate(body):
            here = (*path, k)
            since = come(here, since)
            if isinstance(s, Barrier):
                since = frozenset()
            elif isinstance(s, If):
                yes = block(s.then, (*here, 0), since)
                both = since.union(*(sites[p] for p in sites if p[: len(here) + 1] == (*here, 0)))
                since = yes | block(s.otherwise, (*here, 1), both)
            elif isinstance(s, For | While):
                while (more := since | block(s.body, here, come(here, since))) != since:
                    since = more
        return since

    block(body, (), frozenset())
    return pairs
