"""What a kernel must not do, proved from its loops: leave a buffer, race, or wait where not all threads come.

``check(kernel, bindings, launch)`` returns what it could *not* prove, as :class:`Finding` s; none means that

* *bounds*: each load and store is inside its buffer, for all sizes. Offsets are polynomials in loop indices and sizes,
  and an index is eliminated by the bounds of its loop: with a coefficient that is never negative it is largest at the
  loop's end. An index from data is bounded by the check that it passed.
* *race*: two iterations of a loop that threads or vector lanes share never store to one element; what one stores and
  another loads has a barrier in between; a sum over such a loop is combined before it is used. Atomic additions may
  meet.
* *barrier*: each Barrier and Combine is reached by all lanes of a group or by none: it is in no loop that lanes share,
  and under no condition that differs between them.

Index arithmetic is taken not to overflow, nor a cast of an index to lose bits. Buffers are taken to be distinct; those
that the memory plan lets share memory are read and written element for element.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
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
    Put,
    Statement,
    Store,
)
from symgraph.loop.region import bound
from symgraph.types import Atom, Dim, Size, atoms, floordiv

SHARED = frozenset(("parallel", "vector", "grid", "group", "lane"))
"""Kinds of loops whose iterations run at the same time."""
DEPTH = 12
"""Eliminations in one proof."""
TRIES = 400
"""Steps of one proof, over all ways that were tried."""
CASES = 16


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
class _Scope:
    """Where a statement stands: bounds of the values there, what holds, and the shared loops around it."""

    lower: Mapping[Atom, tuple[Size, ...]] = field(default_factory=dict)
    upper: Mapping[Atom, tuple[Size, ...]] = field(default_factory=dict)  # inclusive
    order: tuple[Atom, ...] = ()
    facts: tuple[Size, ...] = ()  # each at least 0
    loops: tuple[tuple[str, tuple[Atom, ...]], ...] = ()  # kinds and indices, outermost first
    positive: frozenset[Atom] = frozenset()
    alone: bool = False  # one lane of the group only
    same: tuple[Expr, ...] = ()  # conditions that hold


@dataclass(frozen=True)
class _Site:
    """One store or load."""

    buffer: str
    at: Size | None
    scope: _Scope
    path: tuple[int, ...]
    writes: bool
    width: int
    phase: int
    text: str
    atomic: bool = False
    alike: bool = False  # whoever stores, stores the same


def check(
    kernel: LoopKernel,
    bindings: Sequence[Any],
    one: bool = False,
    extent: Size | None = None,
    equations: Sequence[tuple[Size, Size]] = (),
) -> list[Finding]:
    """What could not be proved of ``kernel``, whose parameters are bound to ``bindings``.

    Args:
        kernel: the loops.
        bindings: the tensor or size of each parameter.
        one: a single thread runs it.
        extent: that of the parallel loop, which a CPU's threads divide between them.
        equations: sizes that are equal, as the program's checks make sure.
    """
    known: dict[Atom, Size] = {}
    for a, b in equations:
        one_atom = a.atom if isinstance(a, Dim) and a.atom is not None else b.atom if isinstance(b, Dim) else None
        if one_atom is not None and not one_atom.fn and one_atom not in known:
            known[one_atom] = b if isinstance(a, Dim) and a.atom is one_atom else a
    return _Checker(kernel, bindings, one, extent, known).run()


class _Checker:
    def __init__(
        self, kernel: LoopKernel, bindings: Sequence[Any], one: bool, extent: Size | None, known: Mapping[Atom, Size]
    ) -> None:
        self.kernel, self.one, self.extent = kernel, one, extent
        self.found: dict[Finding, None] = {}
        self.sizes: dict[str, Size] = {}
        self.values: dict[str, Size | None] = {}  # of names that are integers
        self.exprs: dict[str, Expr] = {}
        self.defined: dict[Atom, tuple[str, tuple[Size, ...]]] = {}
        self.extra_lower: dict[Atom, tuple[Size, ...]] = {}
        self.extra_upper: dict[Atom, tuple[Size, ...]] = {}
        self.extra_facts: list[Size] = []
        self.made: dict[Any, Size] = {}
        self.sites: list[_Site] = []
        self.gpu = any(isinstance(s, For) and s.kind in ("grid", "group", "lane") for s in ir.walk(kernel.body))
        self.varies: set[str] = set()  # names that differ between the lanes of a group
        self.declared: dict[str, int] = {}
        self.phase = 0
        for p, b in zip(kernel.params, bindings, strict=True):
            if p.kind == "buffer":
                self.sizes[p.name] = bound(b.type.size, known) if isinstance(b, Variable) else 1
            elif p.kind == "size":
                self.values[p.name] = bound(b, known) if isinstance(b, int | Dim) else None

    def run(self) -> list[Finding]:
        self.block(self.kernel.body, _Scope(), ())
        self.races()
        return list(self.found)

    def report(self, kind: str, what: str) -> None:
        self.found[Finding(kind, what)] = None

    # -- values -------------------------------------------------------------------------------------------------------

    def value(self, e: Expr) -> Size | None:
        """An integer expression as a polynomial; ``None`` where it is none."""
        if e.fn == "const":
            return int(e.attr) if e.dtype.kind in "iu" else None
        if e.fn == "name":
            name = str(e.attr)
            if name not in self.values and e.dtype.kind in "iu":
                self.values[name] = _fresh()
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

    def opaque(self, e: Expr, low: Size | None = None) -> Size:
        key = ir.expression(e)
        if key not in self.made:
            self.made[key] = _fresh()
            if low is not None:
                self.extra_lower[_atom(self.made[key])] = (low,)
        return self.made[key]

    def arithmetic(self, fn: str, args: list[Size], e: Expr) -> Size:
        if fn == "negative":
            return args[0] * -1
        if fn == "where":
            return self.bounded(("where", ir.expression(e.args[0]), *args), e, args)
        a, b = args
        if fn in ("add", "subtract", "multiply"):
            return {"add": lambda: a + b, "subtract": lambda: a - b, "multiply": lambda: a * b}[fn]()
        if fn in ("minimum", "maximum"):
            if isinstance(a, int) and isinstance(b, int):
                return min(a, b) if fn == "minimum" else max(a, b)
            out = self.made.setdefault((fn, a, b), _fresh())
            at = _atom(out)
            (self.extra_upper if fn == "minimum" else self.extra_lower)[at] = (a, b)
            other = self.extra_lower if fn == "minimum" else self.extra_upper
            self.defined[at] = (fn, (a, b))
            other.setdefault(at, ())
            return out
        # Quotients and remainders by sizes: a = q b + r with 0 <= r < b.
        if isinstance(a, int) and isinstance(b, int) and b:
            return a // b if fn == "floor_divide" else a % b
        q = self.made.setdefault(("quotient", a, b), _fresh())
        r = a - q * b
        at = _atom(q)
        if at not in self.defined:
            self.defined[at] = ("quotient", (a, b))
            self.extra_facts += [r, b - 1 - r]
        return q if fn == "floor_divide" else r

    def bounded(self, key: Any, e: Expr, branches: Sequence[Size]) -> Size:
        """One of two values: by cases."""
        out = self.made.setdefault(key, _fresh())
        self.defined.setdefault(_atom(out), ("where", tuple(branches)))
        self.exprs[str(id(_atom(out)))] = e.args[0]
        return out

    # -- conditions ---------------------------------------------------------------------------------------------------

    def holds(self, e: Expr, truth: bool = True) -> list[Size]:
        """Polynomials that are at least 0 where ``e`` is ``truth``; not all there are."""
        if e.fn == "name" and str(e.attr) in self.exprs:
            return self.holds(self.exprs[str(e.attr)], truth)
        if e.fn in ("logical_and", "bitwise_and") and truth:
            return [p for a in e.args for p in self.holds(a, True)]
        if e.fn in ("logical_or", "bitwise_or") and not truth:
            return [p for a in e.args for p in self.holds(a, False)]
        if e.fn in ("logical_not", "bitwise_invert"):
            return self.holds(e.args[0], not truth)
        if e.fn not in _COMPARISONS or e.args[0].dtype.kind not in "iu":
            return []
        a, b = (self.value(x) for x in e.args)
        if a is None or b is None:
            return []
        fn = e.fn if truth else _NEGATED[e.fn]
        return {
            "less": [b - a - 1], "less_equal": [b - a], "greater": [a - b - 1], "greater_equal": [a - b],
            "equal": [a - b, b - a], "not_equal": [],
        }[fn]  # fmt: skip

    # -- walking ------------------------------------------------------------------------------------------------------

    def block(self, body: Sequence[Statement], scope: _Scope, path: tuple[int, ...]) -> None:
        for k, s in enumerate(body):
            here = (*path, k)
            for e in _values(s):
                self.loads(e, scope, here)
            if isinstance(s, Let | Declare | Assign):
                self.name(s, scope, here)
            elif isinstance(s, For):
                self.loop(s, scope, here)
            elif isinstance(s, If):
                self.branch(s, scope, here)
            elif isinstance(s, Check):
                scope = _with(scope, facts=self.holds(s.condition))
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
                    self.values[n] = _fresh()
            elif isinstance(s, Alloc):
                self.sizes[s.name] = s.size
            elif isinstance(s, Barrier | Combine):
                self.meets(s, scope)

    def inside(self, scope: _Scope) -> bool:
        """Whether lanes have work of their own here."""
        return not self.gpu or self.one or any(kind in ("lane", "grid") for kind, _ in scope.loops)

    def name(self, s: Let | Declare | Assign, scope: _Scope, path: tuple[int, ...]) -> None:
        if isinstance(s, Declare):
            self.declared[s.name] = len(scope.loops)
        if isinstance(s, Let):
            self.values[s.name] = self.value(s.value)
            self.exprs[s.name] = s.value
        else:
            self.values[s.name] = _fresh()
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

    def meets(self, s: Barrier | Combine, scope: _Scope) -> None:
        what = f"combine {s.name}" if isinstance(s, Combine) else "barrier"
        if any(kind in ("lane", "grid") for kind, _ in scope.loops) or scope.alone:
            self.report("barrier", f"{what} where not all lanes of the group come")
        if isinstance(s, Combine):
            self.varies.discard(s.name)
        self.phase += 1

    def branch(self, s: If, scope: _Scope, path: tuple[int, ...]) -> None:
        lane = s.condition.fn == "equal" and s.condition.args[0].fn == "lane"
        varies = self.differs(s.condition) and not self.inside(scope)
        for number, (body, truth) in enumerate(((s.then, True), (s.otherwise, False))):
            inner = _with(scope, facts=self.holds(s.condition, truth), same=(s.condition,) if truth else ())
            if varies:
                inner = _with(inner, alone=True)
            if varies and not lane and any(isinstance(t, Store | For) for t in ir.walk(list(body))):
                self.report("race", f"a branch on {ir.expression(s.condition)}, which differs between lanes, stores")
            self.block(body, inner, (*path, number))

    def loop(self, s: For, scope: _Scope, path: tuple[int, ...]) -> None:
        alike = s.kind in ("grid", "lane") or not (self.differs(s.start) or self.differs(s.stop))
        if not alike and any(isinstance(t, Barrier | Combine) for t in ir.walk(s.body)):
            self.report("barrier", f"in a loop over {s.index}, whose bounds differ between lanes")
        at = _fresh()
        atom = _atom(at)
        self.values[s.index] = at
        start, stops = self.value(s.start), self.least(s.stop)
        if self.extent is not None and s.start.fn == "name" and s.start.attr == "lo":
            start, stops = 0, [self.extent]
        if start is not None and any(self.proves(start - stop, scope) for stop in stops):
            return  # it has no iterations
        lower = (start,) if start is not None else ()
        positive = {a for stop in stops for a in _factors(stop)} if start == 0 else set()
        if s.kind in ("lane", "grid", "vector", "parallel", "group"):
            self.varies |= {s.index} if s.kind in ("lane", "grid") and self.gpu else set()
        inner = _Scope(
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

    def digits(self, s: For, at: Size, start: Size | None, stops: list[Size], scope: _Scope, path: Any) -> None:
        """The body of a loop. The index of several loops made one is written in their indices."""
        found: list[tuple[str, Size]] = []  # names and moduli, innermost first
        inner: Size = 1
        whole: str | None = None
        count = 0
        for t in reversed(_leading(s.body)):
            high = t.value.args[0] if t.value.fn == "remainder" else t.value
            divided = high.fn == "floor_divide"
            base = high.args[0] if divided else high
            divisor = self.value(high.args[1]) if divided else 1
            if base.fn != "name" or base.attr != s.index or divisor != inner:
                break
            count += 1
            if t.value.fn == "remainder":
                modulus = self.value(t.value.args[1])
                if modulus is None:
                    break
                found.append((t.name, modulus))
                inner = inner * modulus
                continue
            whole = t.name
            break
        rest = None
        if whole is not None and found and start == 0 and len(stops) == 1:
            rest = _quotient(stops[0], inner)
        if rest is None or whole is None:
            self.block(s.body, scope, path)
            return
        lower, upper, order = dict(scope.lower), dict(scope.upper), list(scope.order[:-1])
        total: Size = 0
        step: Size = 1
        atoms_of: list[Atom] = []
        positive = set(scope.positive)
        for name, extent in (*found, (whole, rest)):
            one = _fresh()
            self.values[name] = one
            self.varies |= {name} if s.kind in ("lane", "grid") and self.gpu else set()
            total = total + one * step
            step = step * extent
            lower[_atom(one)], upper[_atom(one)] = (0,), (extent - 1,)
            order.append(_atom(one))
            atoms_of.append(_atom(one))
            positive |= set(_factors(extent))
        self.values[s.index] = total
        loops = (*scope.loops[:-1], (s.kind, tuple(atoms_of)))
        made = _Scope(lower, upper, tuple(order), scope.facts, loops, frozenset(positive), scope.alone, scope.same)
        self.block(s.body[count:], made, path)

    def least(self, e: Expr) -> list[Size]:
        """What ``e`` is no more than."""
        if e.fn == "name" and str(e.attr) in self.exprs:
            e = self.exprs[str(e.attr)]
        if e.fn == "minimum":
            return [p for a in e.args for p in self.least(a)]
        found = self.value(e)
        return [found] if found is not None else []

    def loads(self, e: Expr, scope: _Scope, path: tuple[int, ...]) -> None:
        stack: list[tuple[Expr, _Scope]] = [(e, scope)]
        while stack:
            e, here = stack.pop()
            if e.fn == "load":
                self.access(str(e.attr), e.args[0], here, path, False, 1)
            stack.extend((a, here) for a in e.args)

    # -- bounds -------------------------------------------------------------------------------------------------------

    def access(
        self,
        buffer: str,
        at: Expr,
        scope: _Scope,
        path: tuple[int, ...],
        writes: bool,
        width: int,
        atomic: bool = False,
        alike: bool = False,
    ) -> None:
        text = f"{buffer}[{ir.expression(at)}]"
        place = self.value(at)
        size = self.sizes.get(buffer)
        if place is None or size is None:
            self.report("bounds", text)
        else:
            if not self.proves(place, scope):
                self.report("bounds", f"{text} below 0")
            if not self.proves(size - width - place, scope):
                self.report("bounds", f"{text} beyond {size}")
        if buffer != "error":
            self.sites.append(_Site(buffer, place, scope, path, writes, width, self.phase, text, atomic, alike))

    def proves(self, goal: Size, scope: _Scope) -> bool:
        """Whether ``goal`` is at least 0 wherever ``scope`` is."""
        return _Proof(self, scope).run(goal)

    # -- races --------------------------------------------------------------------------------------------------------

    def races(self) -> None:
        stored = {s.buffer for s in self.sites if s.writes}
        for site in self.sites:
            if site.writes and not site.atomic and not site.alike:
                self.distinct(site)
        for buffer in stored:
            of = [s for s in self.sites if s.buffer == buffer]
            for k, a in enumerate(of):
                for b in of[k + 1 :]:
                    if (a.writes or b.writes) and not (a.atomic and b.atomic) and not (a.alike and b.alike):
                        self.apart(a, b)

    def distinct(self, site: _Site) -> None:
        """No two iterations store to one element."""
        scope = site.scope
        if self.gpu and not self.one:
            kinds = [kind for kind, _ in scope.loops]
            if "grid" not in kinds and "lane" not in kinds and not scope.alone:
                self.report("race", f"{site.text}: all lanes store it")
        shared = [a for kind, group in scope.loops if kind in SHARED for a in group]
        if shared and (site.at is None or not self.injective(site.at, shared, site.width, scope)):
            self.report("race", f"{site.text}: two iterations may store it")

    def injective(self, at: Size, shared: Sequence[Atom], width: int, scope: _Scope) -> bool:
        """Whether the offset is a number whose digits are the indices: each step as large as all below it together."""
        used: list[tuple[Atom, Size]] = []
        for a in scope.order:
            split = _linear(at, a)
            if split is None:
                return False
            if split[0] != 0:
                used.append((a, split[0]))
        if any(a not in {u for u, _ in used} and not self.proves(0 - _span(scope, a), scope) for a in shared):
            return False
        return self.digit(used, width - 1, scope)

    def digit(self, left: Sequence[tuple[Atom, Size]], reach: Size, scope: _Scope) -> bool:
        """Whether the next digit, and those after it, are above what the digits before add up to: ``reach`` at most."""
        if not left:
            return True
        for k, (a, c) in enumerate(left):
            spans = _spans(scope, a)
            if not spans or not self.proves(_positive(c) - reach - 1, scope):
                continue
            span = next((s for s in spans if not any(x in scope.lower for x in atoms(s))), spans[0])
            if self.digit([*left[:k], *left[k + 1 :]], reach + _positive(c) * span, scope):
                return True
        return False

    def apart(self, a: _Site, b: _Site) -> None:
        """Two accesses to one buffer, of which one stores: of one thread, in phases with a barrier, or disjoint."""
        if a.at is None or b.at is None:
            self.report("race", f"{a.text} and {b.text}")
            return
        if a.at == b.at and a.scope.loops == b.scope.loops and a.width == b.width:
            return  # the same thread
        if self.one or not any(kind in SHARED for kind, _ in (*a.scope.loops, *b.scope.loops)):
            return
        common = 0
        for x, y in zip(a.scope.loops, b.scope.loops, strict=False):
            if x != y:
                break
            common += 1
        own = [i for kind, group in a.scope.loops[:common] if kind in SHARED for i in group]
        rows = not own or (self.in_rows(a, own) and self.in_rows(b, own))
        if not self.gpu and rows:
            return  # one after the other
        apart = a.phase != b.phase and not any(kind == "serial" for kind, _ in a.scope.loops[:common])
        serial = all(kind == "serial" for kind, _ in (*a.scope.loops[common:], *b.scope.loops[common:]))
        if rows and (apart or (serial and a.scope.alone and b.scope.alone)):
            return
        if rows and serial and common and any(kind in ("grid", "lane") for kind, _ in a.scope.loops[:common]):
            return
        if self.separate(a, b, common) and rows:
            return
        self.report("race", f"{a.text} and {b.text}")

    def in_rows(self, site: _Site, own: Sequence[Atom]) -> bool:
        """Whether what an iteration of the common loops touches is touched by no other one."""
        assert site.at is not None
        rest = site.at
        smallest: Size | None = None
        for i in own:
            split = _linear(rest, i)
            if split is None or split[0] == 0:
                return self.proves(0 - _span(site.scope, i), site.scope)
            smallest, rest = split[0], split[1]
        steps = [_linear(site.at, i) for i in own]
        for step in steps:
            assert step is not None
        coefficients = [s[0] for s in steps if s is not None]
        least = next((c for c in coefficients if all(self.proves(d - c, site.scope) for d in coefficients)), smallest)
        return (
            least is not None
            and self.injective(site.at - rest, own, 1, site.scope)
            and self.proves(rest, site.scope)
            and self.proves(least - site.width - rest, site.scope)
        )

    def separate(self, a: _Site, b: _Site, common: int) -> bool:
        """Whether one of the two lies wholly before the other, in the same iteration of the common loops."""
        assert a.at is not None
        assert b.at is not None
        scope = _Scope(
            {**a.scope.lower, **b.scope.lower},
            {**a.scope.upper, **b.scope.upper},
            tuple(dict.fromkeys((*a.scope.order, *b.scope.order))),
            (*a.scope.facts, *b.scope.facts),
            (),
            a.scope.positive | b.scope.positive,
        )
        return self.proves(b.at - a.at - a.width, scope) or self.proves(a.at - b.at - b.width, scope)


# -- proofs ------------------------------------------------------------------------------------------------------------


class _Proof:
    """That a polynomial is at least 0: its indices are eliminated one by one, by their bounds."""

    def __init__(self, checker: _Checker, scope: _Scope) -> None:
        self.checker, self.scope, self.tries = checker, scope, TRIES
        self.rank = {a: k for k, a in enumerate(scope.order)}
        self.facts = [*scope.facts, *checker.extra_facts]

    def run(self, goal: Size) -> bool:
        return self.attempt(goal, (), DEPTH)

    def split(self, goal: Size, kinds: tuple[str, ...], facts: tuple[Size, ...], depth: int) -> bool | None:
        """By cases of a choice that the goal has in it; ``None`` where there is none."""
        for a in list(atoms(goal)):
            what, parts = self.checker.defined.get(a, ("", ()))
            if what not in kinds:
                continue
            if what == "where":
                condition = self.checker.exprs[str(id(a))]
                known = [self.checker.holds(condition, truth) for truth in (True, False)]
            else:
                less = parts[1] - parts[0] if what == "minimum" else parts[0] - parts[1]
                known = [[less], [less * -1]]
            return all(
                self.attempt(_replaced(goal, a, p), (*facts, *more), depth - 1)
                for p, more in zip(parts, known, strict=True)
            )
        return None

    def attempt(self, goal: Size, facts: tuple[Size, ...], depth: int) -> bool:
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
            split = _linear(goal, a)
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
            if set(atoms(fact)) & set(atoms(goal)) and len(set(atoms(fact))) > 1 and self.obvious(goal - fact):
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
        return a in self.rank or a in self.checker.extra_lower or a in self.checker.extra_upper or (
            not a.fn and a.name is None and any(a in atoms(f) for f in (*facts, *self.facts))
        )  # fmt: skip

    def bounds(self, a: Atom, low: bool, facts: tuple[Size, ...]) -> Iterable[Size]:
        """What ``a`` is at least, or at most."""
        scope, extra = (
            (self.scope.lower, self.checker.extra_lower) if low else (self.scope.upper, self.checker.extra_upper)
        )
        yield from scope.get(a, ())
        yield from extra.get(a, ())
        for fact in (*facts, *self.facts):
            split = _linear(fact, a)
            if split is not None and split[0] == (1 if low else -1):
                yield split[1] * -1 if low else split[1]
        what, parts = self.checker.defined.get(a, ("", ()))
        if what == "quotient" and low and self.obvious(parts[0]):
            yield 0
        if what == "quotient":
            dividend, divisor = parts
            if low:
                yield 0 if self.attempt(dividend, facts, 3) else -1
            else:
                for most in self.most(dividend):
                    found = _quotient(most + 1, divisor)
                    if found is not None:
                        yield found - 1

    def most(self, e: Size) -> Iterable[Size]:
        """Upper bounds of ``e`` without indices."""
        inner = [a for a in atoms(e) if a in self.rank]
        if not inner:
            yield e
            return
        a = max(inner, key=lambda a: self.rank[a])
        split = _linear(e, a)
        if split is not None and self.obvious(split[0]):
            for upper in self.scope.upper.get(a, ()):
                yield from self.most(split[1] + split[0] * upper)

    def obvious(self, goal: Size) -> bool:
        """Whether no coefficient is negative, with sizes counted from the least that they are."""
        if isinstance(goal, int):
            return goal >= 0
        for a in list(atoms(goal)):
            if a in self.scope.positive:
                goal = _replaced(goal, a, _symbol(a) + 1)
                if isinstance(goal, int):
                    return goal >= 0
        return all(c >= 0 and all(self.natural(a) for a in monomial) for monomial, c in goal.terms)

    def natural(self, a: Atom) -> bool:
        """Whether an atom is at least 0 by itself: a size, or an index of a loop that starts at 0."""
        if a in self.scope.lower:
            return any(isinstance(b, int) and b >= 0 for b in self.scope.lower[a])
        if any(isinstance(b, int) and b >= 0 for b in self.checker.extra_lower.get(a, ())):
            return True
        return a not in _made


# -- polynomials -------------------------------------------------------------------------------------------------------

_made: set[Atom] = set()
_ARITHMETIC = frozenset(
    ("add", "subtract", "multiply", "floor_divide", "remainder", "minimum", "maximum", "negative", "where")
)
_COMPARISONS = frozenset(("less", "less_equal", "greater", "greater_equal", "equal", "not_equal"))
_NEGATED = {
    "less": "greater_equal", "less_equal": "greater", "greater": "less_equal", "greater_equal": "less",
    "equal": "not_equal", "not_equal": "equal",
}  # fmt: skip
_REDUCERS = frozenset(
    (
        "add", "add_reassoc", "multiply", "mul_reassoc", "maximum", "minimum", "logical_or", "logical_and",
        "bitwise_or", "bitwise_and", "bitwise_xor",
    )
)  # fmt: skip


def _fresh() -> Size:
    a = Atom(None)
    _made.add(a)
    return _symbol(a)


def _symbol(a: Atom) -> Size:
    return Dim((((a,), 1),))


def _atom(size: Size) -> Atom:
    assert isinstance(size, Dim)
    assert size.atom is not None
    return size.atom


def _linear(p: Size, a: Atom) -> tuple[Size, Size] | None:
    """``p`` as ``c * a + rest``; ``None`` where ``a`` occurs in another way."""
    if isinstance(p, int):
        return 0, p
    c: Size = 0
    rest: Size = 0
    for monomial, n in p.terms:
        times = monomial.count(a)
        if times > 1 or any(x.fn and a in atoms(_symbol(x)) for x in monomial):
            return None
        term: Size = n
        for x in monomial:
            if x is not a:
                term = term * _symbol(x)
        if times:
            c = c + term
        else:
            rest = rest + term
    return c, rest


def _replaced(p: Size, a: Atom, by: Size) -> Size:
    if isinstance(p, int):
        return p
    total: Size = 0
    for monomial, n in p.terms:
        term: Size = n
        for x in monomial:
            term = term * (by if x is a else _symbol(x))
        total = total + term
    return total


def _quotient(p: Size, d: Size) -> Size | None:
    """``p / d`` where ``d`` divides ``p`` as a polynomial of one term."""
    if p == d:
        return 1
    if isinstance(p, int) and isinstance(d, int):
        return p // d if d and p % d == 0 else None
    found = floordiv(p, d)
    return found if found * d == p else None


def _factors(p: Size) -> list[Atom]:
    """The atoms of a product: each is at least 1 where the product is."""
    if isinstance(p, Dim) and len(p.terms) == 1 and p.terms[0][1] > 0:
        return [a for a in p.terms[0][0] if a not in _made]
    return []


def _positive(c: Size) -> Size:
    negative = c < 0 if isinstance(c, int) else all(n < 0 for _, n in c.terms)
    return c * -1 if negative else c


def _spans(scope: _Scope, a: Atom) -> list[Size]:
    lows = scope.lower.get(a) or (0,)
    return [high - lows[0] for high in scope.upper.get(a, ())]


def _span(scope: _Scope, a: Atom) -> Size:
    found = _spans(scope, a)
    return found[0] if found else 1


def _with(scope: _Scope, facts: Iterable[Size] = (), same: tuple[Expr, ...] = (), alone: bool = False) -> _Scope:
    return _Scope(
        scope.lower,
        scope.upper,
        scope.order,
        (*scope.facts, *facts),
        scope.loops,
        scope.positive,
        scope.alone or alone,
        (*scope.same, *same),
    )


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
