"""What a kernel must not do, proved from its loops: leave a buffer, race, or wait where not all threads come.

``check(kernel, bindings, launch)`` returns what it could *not* prove, as :class:`Finding` s; none means that

* *bounds*: each load and store is inside its buffer, for all sizes. Offsets are polynomials in loop indices and sizes
  (:mod:`symgraph.loop.prove`). An index from data is bounded by the check that it passed.
* *race*: two iterations of a loop that threads or vector lanes share never store to one element; what one stores and
  another loads has a barrier in between; a sum over such a loop is combined before it is used. Atomic additions may
  meet.
* *barrier*: each Barrier, Combine and Prefix is reached by all lanes of a group or by none: it is in no loop that lanes
  share, and under no condition that differs between them.

Index arithmetic is taken not to overflow, nor a cast of an index to lose bits; that it divides by nothing that may be 0
is proved. Buffers are distinct, but for those that are said to share memory. Where there is no loop over groups there
is one group, as :mod:`symgraph.runtime.launch` makes sure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from symgraph.graph import Variable
from symgraph.index import Expr
from symgraph.loop import ir
from symgraph.loop.ir import (
    Alloc,
    Assign,
    Atomic,
    Barrier,
    Check,
    Combine,
    Declare,
    Fetch,
    For,
    If,
    Let,
    LoopKernel,
    Prefix,
    Put,
    Statement,
    Store,
    While,
)
from symgraph.loop.lanes import exchanged, of_lane, spread
from symgraph.loop.meet import SHARED, Meetings, Site, works
from symgraph.loop.prove import (
    Integers,
    Proof,
    Scope,
    atom_of,
    factors,
    fresh,
    linear,
    narrowed,
    quotient,
)
from symgraph.loop.ranks import Count, count
from symgraph.loop.region import bound, symbol
from symgraph.loop.sums import Sums
from symgraph.ops.reduce import positions_below
from symgraph.types import Atom, Dim, Size, atoms

_REDUCERS = frozenset(
    (
        "add", "add_reassoc", "multiply", "mul_reassoc", "maximum", "minimum", "logical_or", "logical_and",
        "bitwise_or", "bitwise_and", "bitwise_xor",
    )
)  # fmt: skip
"""What may add up over a loop that lanes share."""


@dataclass(frozen=True)
class Finding:
    """Something that was not proved.

    Attributes:
        kind: ``bounds``, ``race`` or ``barrier``.
        what: of the kernel's text.
    """

    kind: str
    what: str


def check(
    kernel: LoopKernel,
    bindings: Sequence[Any],
    one: bool = False,
    extent: Size | None = None,
    equations: Sequence[tuple[Size, Size]] = (),
    shares: Mapping[str, str] | None = None,
    facts: Sequence[Size] = (),
    text: bool = False,
) -> list[Finding]:
    """What could not be proved of ``kernel``, whose parameters are bound to ``bindings``.

    Args:
        kernel: the loops.
        bindings: the tensor or size of each parameter.
        one: a single thread runs it.
        extent: that of the parallel loop, which a CPU's threads divide between them.
        equations: sizes that are equal, as the program's checks make sure.
        shares: buffers that lie in the memory of another one, and that one.
        facts: what is at least 0 wherever the kernel is launched.
        text: the loops are those of a text (:mod:`symgraph.loop.text`), of which proofs are harder to find.
    """
    known: dict[Atom, Size] = {}
    for a, b in equations:
        one_atom = a.atom if isinstance(a, Dim) and a.atom is not None else b.atom if isinstance(b, Dim) else None
        if one_atom is not None and not one_atom.fn and one_atom not in known:
            known[one_atom] = b if isinstance(a, Dim) and a.atom is one_atom else a
    return _Checker(kernel, bindings, one, extent, known, shares or {}, text).run(Scope(facts=tuple(facts)))


class _Checker:
    def __init__(
        self,
        kernel: LoopKernel,
        bindings: Sequence[Any],
        one: bool,
        extent: Size | None,
        known: Mapping[Atom, Size],
        shares: Mapping[str, str],
        text: bool,
    ) -> None:
        self.kernel, self.one, self.extent, self.shares = kernel, one, extent, shares
        self.found: dict[Finding, None] = {}
        self.sizes: dict[str, Size] = {}
        self.positions: dict[str, Size] = {}  # what the elements of some buffers are less than
        self.text, self.integers = text, Integers(Sums if text else Proof)
        self.sites: list[Site] = []
        kinds = {s.kind for s in ir.walk(kernel.body) if isinstance(s, For)}
        self.gpu = not kinds.isdisjoint(("grid", "group", "lane", "lanes"))
        self.varies: set[str] = set()  # names that differ between the lanes of a group
        self.apart: set[str] = set()  # the same, in a text: whatever is assigned to them
        self.lanes: list[tuple[Atom, int, int]] = []  # of a text: digits of a lane's number, by divisor and modulus
        self.scratch: set[str] = set()  # shared memory
        self.counts: dict[Atom, Count] = {}
        self.declared: dict[str, int] = {}
        self.barriers: list[tuple[int, ...]] = []  # their paths
        for p, b in zip(kernel.params, bindings, strict=True):
            if p.kind == "buffer":
                size = bound(b.type.size, known) if isinstance(b, Variable) else 1
                self.sizes[p.name] = self.integers.size(size) if text else size
                below = positions_below(b) if isinstance(b, Variable) else None
                if below is not None:
                    self.positions[p.name] = bound(below, known)
            elif p.kind == "size":
                self.integers.values[p.name] = bound(b, known) if isinstance(b, int | Dim) else None

    def run(self, scope: Scope) -> list[Finding]:
        self.block(self.kernel.body, scope, ())
        meetings = Meetings(
            self.kernel, self.integers, self.sites, self.barriers, self.lanes, self.scratch, self.counts
        )
        for what in meetings.races(self.gpu, self.one):
            self.report("race", what)
        return list(self.found)

    def report(self, kind: str, what: str) -> None:
        self.found[Finding(kind, what)] = None

    # -- walking ------------------------------------------------------------------------------------------------------

    def block(self, body: Sequence[Statement], scope: Scope, path: tuple[int, ...], first: int = 0) -> Scope:
        """Statements from the one numbered ``first`` on; what holds after them."""
        for k, s in enumerate(body[first:], first):
            here = (*path, k)
            for e in _values(s):
                self.loads(e, scope, here)
            if isinstance(s, Let | Declare | Assign):
                self.name(s, scope, here)
                if isinstance(s, Let) and s.value.fn == "load" and s.value.attr in self.positions:
                    value = self.integers.values[s.name]
                    assert value is not None
                    scope = narrowed(scope, facts=[value, self.positions[s.value.attr] - 1 - value])
                elif isinstance(s, Let) and s.value.fn == "load" and s.value.attr in self.scratch:
                    scope = narrowed(scope, facts=self.stored(s, scope, here))
                elif isinstance(s, Let) and s.value.fn == "where" and self.lanes:
                    # Seen once, and not by cases again in each proof that needs it.
                    value = self.integers.values[s.name]
                    if value is not None and self.integers.proves(value, scope):
                        scope = narrowed(scope, facts=[value])
            elif isinstance(s, For):
                scope = self.loop(s, scope, here)
            elif isinstance(s, While):
                scope = self.until(s, scope, here)
            elif isinstance(s, If):
                self.branch(s, scope, here)
            elif isinstance(s, Check):
                scope = narrowed(scope, facts=self.integers.holds(s.condition))
            elif isinstance(s, Store | Atomic):
                alike = isinstance(s, Store) and any(ir.expression(c) == ir.expression(s.value) for c in scope.same)
                if isinstance(s, Store) and not self.inside(scope) and self.differs(s.value) and s.buffer != "error":
                    self.report("race", f"{s.buffer}[{ir.expression(s.at)}]: its value differs between lanes")
                self.access(s.buffer, s.at, scope, here, True, 1, isinstance(s, Atomic), alike, s.value)
            elif isinstance(s, Put):
                self.access(s.buffer, s.at, scope, here, True, len(s.values))
            elif isinstance(s, Fetch):
                self.access(s.buffer, s.at, scope, here, False, len(s.names))
                for n in s.names:
                    self.integers.values[n] = fresh()
            elif isinstance(s, Alloc):
                self.sizes[s.name] = s.size
                self.scratch |= {s.name} if s.space == "shared" else set()
            elif isinstance(s, Barrier | Combine | Prefix):
                self.meets(s, scope, here)
        return scope

    def inside(self, scope: Scope) -> bool:
        """Whether lanes have work of their own here."""
        return not self.gpu or self.one or works(scope)

    def name(self, s: Let | Declare | Assign, scope: Scope, path: tuple[int, ...]) -> None:
        if isinstance(s, Declare):
            self.declared[s.name] = len(scope.loops)
        if isinstance(s, Let):
            self.integers.values[s.name] = self.integers.value(s.value)
            self.integers.exprs[s.name] = s.value
        elif isinstance(s, Declare):
            value = self.integers.value(s.value)
            self.integers.values[s.name] = fresh() if value is None else value
        else:
            self.integers.values[s.name] = fresh()
        if isinstance(s, Assign):
            level = self.declared.get(s.name, 0)
            crossed = [kind for kind, _ in scope.loops[level:] if kind in SHARED]
            own = s.value.args[0] if s.value.args else s.value
            reduces = own.fn == "name" and str(own.attr) == s.name and s.value.fn in _REDUCERS
            if any(kind in ("parallel", "grid", "group") for kind in crossed):
                self.report("race", f"{s.name} is shared by the iterations of a {crossed[0]} loop")
            elif crossed and not reduces:
                self.report("race", f"{s.name}: a {crossed[0]} loop computes more than a reduction")
            if "lane" in crossed or self.differs(s.value):
                self.varies.add(s.name)
            elif not scope.alone:
                self.varies.discard(s.name)
        elif self.differs(s.value):
            self.varies.add(s.name)
        else:
            self.varies.discard(s.name)

    def differs(self, e: Expr) -> bool:
        """Whether a value may differ between the lanes of a group."""
        return of_lane(e, self.varies) or of_lane(e, self.apart)

    def meets(self, s: Barrier | Combine | Prefix, scope: Scope, path: tuple[int, ...]) -> None:
        what = "barrier" if isinstance(s, Barrier) else f"{type(s).__name__.lower()} {s.name}"
        if any(kind in ("lane", "grid") for kind, _ in scope.loops) or scope.alone:
            self.report("barrier", f"{what} where not all lanes of the group come")
        if isinstance(s, Combine):
            self.varies.discard(s.name)
        elif isinstance(s, Prefix):
            self.varies.add(s.name)
            self.varies.discard(s.total)
        else:
            self.barriers.append(path)  # lanes that combine exchange registers, and order no memory

    def branch(self, s: If, scope: Scope, path: tuple[int, ...]) -> None:
        first = ir.expression(s.condition) == "equal(lane(), 0)"
        varies = self.differs(s.condition) and not self.inside(scope)
        parts = self.lanes and self.differs(s.condition)  # of a text: not all lanes go there
        negated = Expr("logical_not", (s.condition,), s.condition.dtype, None, frozenset())
        for number, (body, truth) in enumerate(((s.then, True), (s.otherwise, False))):
            same = s.condition if truth else negated
            inner = narrowed(scope, facts=self.integers.holds(s.condition, truth), same=(same,))
            if varies or parts:
                inner = narrowed(inner, alone=True)
            if varies and not (first and truth) and any(isinstance(t, Store | For) for t in ir.walk(list(body))):
                self.report("race", f"a branch on {ir.expression(s.condition)}, which differs between lanes, stores")
            self.block(body, inner, (*path, number))

    def loop(self, s: For, scope: Scope, path: tuple[int, ...]) -> Scope:
        alike = s.kind in ("grid", "lane") or not (self.differs(s.start) or self.differs(s.stop))
        if not alike and any(isinstance(t, Barrier | Combine | Prefix) for t in ir.walk(s.body)):
            self.report("barrier", f"in a loop over {s.index}, whose bounds differ between lanes")
        at = fresh()
        atom = atom_of(at)
        self.integers.values[s.index] = at
        start, stops = self.integers.value(s.start), self.integers.least(s.stop)
        if self.extent is not None and s.start.fn == "name" and s.start.attr == "lo":
            start, stops = 0, [self.extent]
        if start is not None and any(self.integers.proves(start - stop, scope) for stop in stops):
            return scope  # it has no iterations
        stores = self.gpu and s.kind in ("lane", "grid") and any(isinstance(t, Store | Put) for t in ir.walk(s.body))
        if stores and not self.advances(start, stops, scope):
            self.report("race", f"{s.index}: which lane an iteration falls to depends on the turn of a loop around")
        lower = (start,) if start is not None else ()
        positive: set[Atom] = set()
        if start is not None and self.integers.proves(start, scope):
            positive = {a for stop in stops for a in self.integers.positive(stop, scope)}
        if s.kind in ("lane", "grid", "lanes") and self.gpu:
            self.varies.add(s.index)
        if s.kind == "lanes":
            self.together(s, atom)
        inner = Scope(
            {**scope.lower, atom: lower},
            {**scope.upper, atom: tuple(stop - 1 for stop in stops)},
            (*scope.order, atom),
            scope.facts,
            (*scope.loops, (s.kind, (atom,))),
            scope.positive | positive,
            scope.alone and s.kind != "lane",
            scope.same,
        )
        entry = self.entering(s.body)
        heads, facts = self.invariants(
            entry, s, lambda here: self.digits(s, at, start, stops, here, path), scope, inner, at, start
        )
        self.digits(s, at, start, stops, narrowed(inner, facts(heads, at)), path)
        self.integers.values.update(heads)
        if self.text and start is not None and len(stops) == 1 and s.kind == "serial":
            for t in s.body:
                before = entry.get(t.name) if isinstance(t, Assign) else None
                if isinstance(t, Assign) and before is not None and (c := count(t.name, t.value, self.integers)):
                    self.counts[atom_of(heads[t.name])] = Count(atom, start, stops[0], c, before)
        last = next((b for b in stops if start is not None and entry and self.integers.proves(b - start, scope)), None)
        return narrowed(scope, facts(heads, last))

    def until(self, s: While, scope: Scope, path: tuple[int, ...]) -> Scope:
        if self.differs(s.condition) and any(isinstance(t, Barrier | Combine | Prefix) for t in ir.walk(s.body)):
            self.report("barrier", f"in a loop while {ir.expression(s.condition)}, which differs between lanes")

        def turn(here: Scope) -> Scope:
            self.loads(s.condition, here, path)
            return self.block(s.body, narrowed(here, facts=self.integers.holds(s.condition)), path)

        heads, facts = self.invariants(self.entering(s.body), s, turn, scope, scope)
        turn(narrowed(scope, facts(heads, None)))
        self.integers.values.update(heads)
        return narrowed(scope, [*facts(heads, None), *self.integers.holds(s.condition, False)])

    def together(self, s: For, atom: Atom) -> None:
        """The loop over the lanes that run a text: their number, and the names that differ between them."""
        count = self.integers.value(s.stop)
        assert isinstance(count, int)
        self.lanes = [(atom, 1, count)]
        self.apart = spread(s)

    # -- what loops keep ----------------------------------------------------------------------------------------------

    def entering(self, body: Sequence[Statement]) -> dict[str, Size | None]:
        """The integers that a loop changes, and what they are before it."""
        changed = {s.name for s in ir.walk(list(body)) if isinstance(s, Assign) and s.value.dtype.kind in "iu"}
        return {n: self.integers.values.get(n) for n in sorted(changed) if n in self.declared}

    def invariants(
        self,
        entry: Mapping[str, Size | None],
        s: For | While,
        walk: Callable[[Scope], Scope],
        before: Scope,
        scope: Scope,
        at: Size | None = None,
        start: Size | None = None,
    ) -> tuple[dict[str, Size], Callable[[Mapping[str, Size], Size | None], list[Size]]]:
        """The values of integers that a loop changes when a turn begins, and what is at least 0 then, given these.

        Of what may be said of them, that is kept which each turn keeps (Flanagan and Leino, "Houdini, an annotation
        assistant", 2001): that they do not fall below what they were before, nor rise above, nor pass each other, nor
        rise by more than one in a turn. ``walk`` goes through a turn, and returns what holds at its end; ``before`` is
        the loop, ``scope`` its turns.
        """
        heads = {n: fresh() for n in entry}
        self.integers.values.update(heads)
        last = {t.name: t.value for t in s.body if isinstance(t, Assign)}
        firsts = {n: v for n, v in entry.items() if v is not None and n in last}
        # A text assigns what a loop changes once, at the end of its body, to values that have names there.
        said: list[_Saying] = []
        if self.text and (isinstance(s, While) or s.kind == "serial"):
            said = _sayings(firsts, start, lambda p: self.integers.proves(p, before))

        def facts(now: Mapping[str, Size], turn: Size | None) -> list[Size]:
            return [f for one in said if (f := one(now, turn)) is not None]

        while said:
            found, sites, barriers = dict(self.found), len(self.sites), len(self.barriers)
            after = walk(narrowed(scope, facts(heads, at)))
            self.found = found
            del self.sites[sites:], self.barriers[barriers:]
            self.integers.values.update(heads)
            now = {n: v for n in firsts if (v := self.integers.value(last[n])) is not None}
            turn = None if at is None else at + 1
            kept = [
                one
                for one in said
                if len(now) == len(firsts) and (f := one(now, turn)) is not None and self.integers.proves(f, after)
            ]
            if len(kept) == len(said):
                break
            said[:] = kept
        return heads, facts

    def stored(self, s: Let, scope: Scope, path: tuple[int, ...]) -> list[Size]:
        """What holds of a word of shared memory that a lane has stored, alone to do so and before all lanes met."""
        place, value = self.integers.value(s.value.args[0]), self.integers.values[s.name]
        buffer = str(s.value.attr)
        stores = [t for t in ir.walk(self.kernel.body) if isinstance(t, Store | Put | Atomic) and t.buffer == buffer]
        sites = [x for x in self.sites if x.buffer == buffer and x.writes]
        if len(stores) != 1 or len(sites) != 1 or len(self.lanes) != 1 or not isinstance(place, int) or value is None:
            return []
        (site,), ((lane, _, count),) = sites, self.lanes
        depth = 2 * (len(site.scope.same) - len(scope.same))  # each branch is a number of a statement and one of a way
        met = any(
            site.path[: len(b) - 1] == b[:-1] == path[: len(b) - 1]
            and site.path[len(b) - 1] < b[-1] < path[len(b) - 1]
            and len(site.path) == len(b) + depth
            for b in self.barriers
        )
        if not met or site.value is None or site.at != symbol(lane) or not 0 <= place < count:
            return []
        alike = [v for n, v in self.integers.values.items() if n not in self.varies | self.apart]
        return exchanged(self.integers, lane, place, (site.value, site.scope), (value, scope), alike)

    def advances(self, start: Size | None, stops: Sequence[Size], scope: Scope) -> bool:
        """Whether each iteration of a loop is one lane's in all turns of the serial loops around: none comes twice.

        Where it starts varies with one turn at most, and then it starts no earlier than the turn before has ended.
        """
        turns = [a for kind, group in scope.loops if kind == "serial" for a in group]
        if start is None or not turns:
            return not turns
        varying = [a for a in dict.fromkeys(atoms(start)) if a in turns or self.integers.differs(a)]
        if not varying:
            return True
        if len(varying) > 1 or varying[0] not in turns:
            return False
        split = linear(start, varying[0])
        return split is not None and any(
            self.integers.proves(start + split[0] - stop, scope) and self.integers.proves(stop - start, scope)
            for stop in stops
        )

    def digits(self, s: For, at: Size, start: Size | None, stops: list[Size], scope: Scope, path: Any) -> Scope:
        """The body of a loop. The index of several loops made one is written in their indices."""
        leading = _leading(s.body)
        stop = stops[0] if start == 0 and len(stops) == 1 else None
        ways = (self.digits_of(leading[:end], s.index, stop) for end in range(len(leading), 1, -1))
        found = next((way for way in ways if way), None)
        if found is None:
            return self.block(s.body, scope, path)
        lower, upper, order = dict(scope.lower), dict(scope.upper), list(scope.order[:-1])
        total: Size = 0
        step: Size = 1
        atoms_of: list[Atom] = []
        of_lanes: list[tuple[Atom, int, int]] = []
        positive = set(scope.positive)
        for name, extent in found:
            one = fresh()
            self.integers.values[name] = one
            self.varies |= {name} if s.kind in ("lane", "grid", "lanes") and self.gpu else set()
            if isinstance(step, int) and isinstance(extent, int):
                of_lanes.append((atom_of(one), step, extent))
            total = total + one * step
            step = step * extent
            lower[atom_of(one)], upper[atom_of(one)] = (0,), (extent - 1,)
            order.append(atom_of(one))
            atoms_of.append(atom_of(one))
            positive |= set(factors(extent))
        self.integers.values[s.index] = total
        if s.kind == "lanes":
            self.lanes = of_lanes
        loops = (*scope.loops[:-1], (s.kind, tuple(atoms_of)))
        made = Scope(lower, upper, tuple(order), scope.facts, loops, frozenset(positive), scope.alone, scope.same)
        return self.block(s.body, made, path, len(found))

    def digits_of(self, leading: Sequence[Let], index: str, stop: Size | None) -> list[tuple[str, Size]]:
        """Names and extents, innermost first, if definitions are all digits of an index below ``stop``, in order."""
        found: list[tuple[str, Size]] = []
        inner: Size = 1
        for k, t in reversed(list(enumerate(leading))):
            high = t.value.args[0] if t.value.fn == "remainder" else t.value
            divided = high.fn == "floor_divide"
            base = high.args[0] if divided else high
            divisor = self.integers.value(high.args[1]) if divided else 1
            if base.fn != "name" or base.attr != index or divisor != inner:
                return []
            if k == 0:
                rest = quotient(stop, inner) if stop is not None and t.value.fn == "floor_divide" else None
                return [] if rest is None else [*found, (t.name, rest)]
            modulus = self.integers.value(t.value.args[1]) if t.value.fn == "remainder" else None
            if modulus is None:
                return []
            found.append((t.name, modulus))
            inner = inner * modulus
        return []

    def loads(self, e: Expr, scope: Scope, path: tuple[int, ...]) -> None:
        stack: list[tuple[Expr, Scope]] = [(e, scope)]
        while stack:
            e, here = stack.pop()
            if e.fn == "load":
                self.access(str(e.attr), e.args[0], here, path, False, 1)
            elif e.fn in ("floor_divide", "remainder") and e.dtype.kind in "iu":
                divisor = self.integers.value(e.args[1])
                used = divisor is not None and self.integers.divides(divisor)  # data may be anything
                if used and divisor is not None and not self.integers.proves(divisor - 1, here):
                    self.report("bounds", f"{ir.expression(e)}: divides by 0")
            stack.extend((a, here) for a in e.args)

    # -- bounds -------------------------------------------------------------------------------------------------------

    def access(
        self,
        buffer: str,
        at: Expr,
        scope: Scope,
        path: tuple[int, ...],
        writes: bool,
        width: int,
        atomic: bool = False,
        alike: bool = False,
        stored: Expr | None = None,
    ) -> None:
        text = f"{buffer}[{ir.expression(at)}]"
        place = self.integers.value(at)
        size = self.sizes.get(buffer)
        if place is None or size is None:
            self.report("bounds", text)
        else:
            if not self.integers.proves(place, scope):
                self.report("bounds", f"{text} below 0")
            if not self.integers.proves(size - width - place, scope):
                self.report("bounds", f"{text} beyond {size}")
        if buffer != "error":
            memory = self.shares.get(buffer, buffer)
            value = self.integers.value(stored) if stored is not None else None
            self.sites.append(Site(memory, place, scope, path, writes, width, text, atomic, alike, value))


_Saying = Callable[[Mapping[str, Size], Size | None], Size | None]
"""What may be at least 0, by the values of names and the number of the turn."""


def _sayings(firsts: Mapping[str, Size], start: Size | None, proves: Callable[[Size], bool]) -> list[_Saying]:
    """What is true of names before a loop, where they have the values ``firsts``, and may be true in it."""

    def above(n: str, v: Size) -> _Saying:
        return lambda now, _: now[n] - v

    def below(n: str, v: Size) -> _Saying:
        return lambda now, _: v - now[n]

    def counted(n: str, v: Size, first: Size) -> _Saying:
        return lambda now, turn: None if turn is None else turn - first - (now[n] - v)

    def ordered(n: str, other: str) -> _Saying:
        return lambda now, _: now[other] - now[n]

    out: list[_Saying] = []
    for n, v in firsts.items():
        out += [above(n, v), below(n, v)]
        if start is not None:
            out.append(counted(n, v, start))
        out += [ordered(n, other) for other, w in firsts.items() if other != n and proves(w - v)]
    return out


def _leading(body: Sequence[Statement]) -> list[Let]:
    out: list[Let] = []
    for s in body:
        if not isinstance(s, Let) or (s.value.fn not in ("floor_divide", "remainder")):
            break
        out.append(s)
    return out


def _values(s: Statement) -> list[Expr]:
    if isinstance(s, For):
        return [s.start, s.stop]
    if isinstance(s, Store | Atomic):
        return [s.at, s.value]
    if isinstance(s, Fetch):
        return [s.at]
    if isinstance(s, Put):
        return [s.at, *s.values]
    if isinstance(s, If | Check):
        return [s.condition]
    return [s.value] if isinstance(s, Let | Declare | Assign) else []
