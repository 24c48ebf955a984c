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

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from symgraph.graph import Variable
from symgraph.index import Expr
from symgraph.loop import ir
from symgraph.loop.digits import injective
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
)
from symgraph.loop.prove import (
    Integers,
    Scope,
    atom_of,
    factors,
    fresh,
    linear,
    narrowed,
    quotient,
)
from symgraph.loop.region import bound
from symgraph.ops.reduce import positions_below
from symgraph.types import Atom, Dim, Size, atoms

SHARED = frozenset(("parallel", "vector", "grid", "group", "lane"))
"""Kinds of loops whose iterations run at the same time."""
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


@dataclass(frozen=True)
class _Site:
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


def check(
    kernel: LoopKernel,
    bindings: Sequence[Any],
    one: bool = False,
    extent: Size | None = None,
    equations: Sequence[tuple[Size, Size]] = (),
    shares: Mapping[str, str] | None = None,
) -> list[Finding]:
    """What could not be proved of ``kernel``, whose parameters are bound to ``bindings``.

    Args:
        kernel: the loops.
        bindings: the tensor or size of each parameter.
        one: a single thread runs it.
        extent: that of the parallel loop, which a CPU's threads divide between them.
        equations: sizes that are equal, as the program's checks make sure.
        shares: buffers that lie in the memory of another one, and that one.
    """
    known: dict[Atom, Size] = {}
    for a, b in equations:
        one_atom = a.atom if isinstance(a, Dim) and a.atom is not None else b.atom if isinstance(b, Dim) else None
        if one_atom is not None and not one_atom.fn and one_atom not in known:
            known[one_atom] = b if isinstance(a, Dim) and a.atom is one_atom else a
    return _Checker(kernel, bindings, one, extent, known, shares or {}).run()


class _Checker:
    def __init__(
        self,
        kernel: LoopKernel,
        bindings: Sequence[Any],
        one: bool,
        extent: Size | None,
        known: Mapping[Atom, Size],
        shares: Mapping[str, str],
    ) -> None:
        self.kernel, self.one, self.extent, self.shares = kernel, one, extent, shares
        self.found: dict[Finding, None] = {}
        self.sizes: dict[str, Size] = {}
        self.positions: dict[str, Size] = {}  # what the elements of some buffers are less than
        self.integers = Integers()
        self.sites: list[_Site] = []
        self.gpu = any(isinstance(s, For) and s.kind in ("grid", "group", "lane") for s in ir.walk(kernel.body))
        self.varies: set[str] = set()  # names that differ between the lanes of a group
        self.declared: dict[str, int] = {}
        self.barriers: list[tuple[int, ...]] = []  # their paths
        for p, b in zip(kernel.params, bindings, strict=True):
            if p.kind == "buffer":
                self.sizes[p.name] = bound(b.type.size, known) if isinstance(b, Variable) else 1
                below = positions_below(b) if isinstance(b, Variable) else None
                if below is not None:
                    self.positions[p.name] = bound(below, known)
            elif p.kind == "size":
                self.integers.values[p.name] = bound(b, known) if isinstance(b, int | Dim) else None

    def run(self) -> list[Finding]:
        self.block(self.kernel.body, Scope(), ())
        self.races()
        return list(self.found)

    def report(self, kind: str, what: str) -> None:
        self.found[Finding(kind, what)] = None

    # -- walking ------------------------------------------------------------------------------------------------------

    def block(self, body: Sequence[Statement], scope: Scope, path: tuple[int, ...]) -> None:
        for k, s in enumerate(body):
            here = (*path, k)
            for e in _values(s):
                self.loads(e, scope, here)
            if isinstance(s, Let | Declare | Assign):
                self.name(s, scope, here)
                if isinstance(s, Let) and s.value.fn == "load" and s.value.attr in self.positions:
                    value = self.integers.values[s.name]
                    assert value is not None
                    scope = narrowed(scope, facts=[value, self.positions[s.value.attr] - 1 - value])
            elif isinstance(s, For):
                self.loop(s, scope, here)
            elif isinstance(s, If):
                self.branch(s, scope, here)
            elif isinstance(s, Check):
                scope = narrowed(scope, facts=self.integers.holds(s.condition))
            elif isinstance(s, Store | Atomic):
                alike = isinstance(s, Store) and any(ir.expression(c) == ir.expression(s.value) for c in scope.same)
                if isinstance(s, Store) and not self.inside(scope) and self.differs(s.value) and s.buffer != "error":
                    self.report("race", f"{s.buffer}[{ir.expression(s.at)}]: its value differs between lanes")
                self.access(s.buffer, s.at, scope, here, True, 1, isinstance(s, Atomic), alike)
            elif isinstance(s, Put):
                self.access(s.buffer, s.at, scope, here, True, len(s.values))
            elif isinstance(s, Fetch):
                self.access(s.buffer, s.at, scope, here, False, len(s.names))
                for n in s.names:
                    self.integers.values[n] = fresh()
            elif isinstance(s, Alloc):
                self.sizes[s.name] = s.size
            elif isinstance(s, Barrier | Combine | Prefix):
                self.meets(s, scope, here)

    def inside(self, scope: Scope) -> bool:
        """Whether lanes have work of their own here."""
        return not self.gpu or self.one or any(kind in ("lane", "grid") for kind, _ in scope.loops)

    def name(self, s: Let | Declare | Assign, scope: Scope, path: tuple[int, ...]) -> None:
        if isinstance(s, Declare):
            self.declared[s.name] = len(scope.loops)
        if isinstance(s, Let):
            self.integers.values[s.name] = self.integers.value(s.value)
            self.integers.exprs[s.name] = s.value
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
        stack = [e]
        while stack:
            e = stack.pop()
            if e.fn == "lane" or (e.fn == "name" and str(e.attr) in self.varies):
                return True
            stack.extend(e.args)
        return False

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
        for number, (body, truth) in enumerate(((s.then, True), (s.otherwise, False))):
            inner = narrowed(scope, facts=self.integers.holds(s.condition, truth), same=(s.condition,) if truth else ())
            if varies:
                inner = narrowed(inner, alone=True)
            if varies and not (first and truth) and any(isinstance(t, Store | For) for t in ir.walk(list(body))):
                self.report("race", f"a branch on {ir.expression(s.condition)}, which differs between lanes, stores")
            self.block(body, inner, (*path, number))

    def loop(self, s: For, scope: Scope, path: tuple[int, ...]) -> None:
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
            return  # it has no iterations
        stores = self.gpu and s.kind in ("lane", "grid") and any(isinstance(t, Store | Put) for t in ir.walk(s.body))
        if stores and not self.advances(start, stops, scope):
            self.report("race", f"{s.index}: which lane an iteration falls to depends on the turn of a loop around")
        lower = (start,) if start is not None else ()
        positive: set[Atom] = set()
        if start is not None and self.integers.proves(start, scope):
            positive = {a for stop in stops for a in self.integers.positive(stop, scope)}
        if s.kind in ("lane", "grid", "vector", "parallel", "group"):
            self.varies |= {s.index} if s.kind in ("lane", "grid") and self.gpu else set()
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
        self.digits(s, at, start, stops, inner, path)

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

    def digits(self, s: For, at: Size, start: Size | None, stops: list[Size], scope: Scope, path: Any) -> None:
        """The body of a loop. The index of several loops made one is written in their indices."""
        found: list[tuple[str, Size]] = []  # names and moduli, innermost first
        inner: Size = 1
        whole: str | None = None
        count = 0
        for t in reversed(_leading(s.body)):
            high = t.value.args[0] if t.value.fn == "remainder" else t.value
            divided = high.fn == "floor_divide"
            base = high.args[0] if divided else high
            divisor = self.integers.value(high.args[1]) if divided else 1
            if base.fn != "name" or base.attr != s.index or divisor != inner:
                break
            count += 1
            if t.value.fn == "remainder":
                modulus = self.integers.value(t.value.args[1])
                if modulus is None:
                    break
                found.append((t.name, modulus))
                inner = inner * modulus
                continue
            whole = t.name
            break
        rest = None
        if whole is not None and found and start == 0 and len(stops) == 1:
            rest = quotient(stops[0], inner)
        if rest is None or whole is None:
            self.block(s.body, scope, path)
            return
        lower, upper, order = dict(scope.lower), dict(scope.upper), list(scope.order[:-1])
        total: Size = 0
        step: Size = 1
        atoms_of: list[Atom] = []
        positive = set(scope.positive)
        for name, extent in (*found, (whole, rest)):
            one = fresh()
            self.integers.values[name] = one
            self.varies |= {name} if s.kind in ("lane", "grid") and self.gpu else set()
            total = total + one * step
            step = step * extent
            lower[atom_of(one)], upper[atom_of(one)] = (0,), (extent - 1,)
            order.append(atom_of(one))
            atoms_of.append(atom_of(one))
            positive |= set(factors(extent))
        self.integers.values[s.index] = total
        loops = (*scope.loops[:-1], (s.kind, tuple(atoms_of)))
        made = Scope(lower, upper, tuple(order), scope.facts, loops, frozenset(positive), scope.alone, scope.same)
        self.block(s.body[count:], made, path)

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
            self.sites.append(_Site(memory, place, scope, path, writes, width, text, atomic, alike))

    # -- races --------------------------------------------------------------------------------------------------------

    def races(self) -> None:
        stored = {s.buffer for s in self.sites if s.writes}
        for site in self.sites:
            if site.writes and not site.alike:
                self.distinct(site)
        for buffer in stored:
            of = [s for s in self.sites if s.buffer == buffer]
            for k, a in enumerate(of):
                for b in of[k + 1 :]:
                    if (a.writes or b.writes) and not (a.atomic and b.atomic) and not (a.alike and b.alike):
                        self.apart(a, b)

    def distinct(self, site: _Site) -> None:
        """No two iterations store to one element, nor all lanes of a group what is stored or added once."""
        scope = site.scope
        if self.gpu and not self.one:
            kinds = [kind for kind, _ in scope.loops]
            if "grid" not in kinds and "lane" not in kinds and not scope.alone:
                self.report("race", f"{site.text}: all lanes store it")
        if site.atomic:
            return
        shared = [a for kind, group in scope.loops if kind in SHARED for a in group]
        if shared and (site.at is None or not injective(self.integers, site.at, shared, site.width, scope)):
            self.report("race", f"{site.text}: two iterations may store it")

    def apart(self, a: _Site, b: _Site) -> None:
        """Two accesses to one buffer, of which one stores: of one thread, in phases with a barrier, or disjoint."""
        if a.at is None or b.at is None:
            self.report("race", f"{a.text} and {b.text}")
            return
        alike = self.inside(a.scope) or (a.scope.alone and b.scope.alone)
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
        self.report("race", f"{a.text} and {b.text}")

    def parted(self, a: _Site, b: _Site) -> bool:
        """Whether each way from one to the other goes by a barrier: one that is in no branch or loop of its own."""
        for *block, k in self.barriers:
            depth = len(block)
            if list(a.path[:depth]) == block == list(b.path[:depth]):
                first, last = sorted((a.path[depth], b.path[depth]))
                if first < k < last:
                    return True
        return False

    def follows(self, a: _Site, b: _Site) -> bool:
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

    def rows(self, site: _Site, own: Sequence[Atom]) -> Size | None:
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

    def separate(self, a: _Site, b: _Site, common: int) -> bool:
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
