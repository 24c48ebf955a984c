"""Loops dealt out to the threads of a GPU.

The threads of a launch are the lanes of groups: ``lanes()`` neighbouring threads are a group, and a group is a part of
a warp or a block of its own, so that all lanes of a group meet whenever one waits. How many lanes there are, and how
many groups, is decided at the launch (:class:`Launch`): it is no part of the code.

* A *map*, a nest of loops over the results and no reduction to share: one ``grid`` loop, or a ``group`` loop over the
  rows around a ``lane`` loop along the last axis. Neighbouring threads work on neighbouring elements.
* A *row kernel*, with reductions or further loops inside the common ones: one ``group`` loop over the rows. The lanes
  of the group share each inner loop; what they have added up is combined, in fixed order; what one stores and another
  loads has a barrier in between. Values of the whole row are computed by all lanes alike, and stored by lane 0.
* Reductions with few results, of few long rows for one, become several launches before (:mod:`symgraph.loop.split`).
* A *running reduction* goes through a row in tiles (:mod:`symgraph.loop.prefix`).
* A reduction that walks memory along the results' last axis (sums over leading axes, products of matrices) is a map in
  which each thread adds up its own.
* A *scatter* that adds does so atomically where the GPU can (32 and 64 bits): in no fixed order, and with
  subnormal numbers of float32 as zeros, which is how GPUs add in memory, whatever the compiler is told. Narrower
  dtypes are added up in order: threads share the axes of the result that the scatter walks along, and each goes
  through the rest.

Loops that move or add up neighbouring elements move 16 bytes at once (:mod:`symgraph.loop.wide`).

An index out of range writes its error code into a word of the launch, and what depends on it is not computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from symgraph import index as ix
from symgraph.graph import Apply, Variable
from symgraph.loop import ir
from symgraph.loop.ir import (
    Alloc,
    Assign,
    Atomic,
    Barrier,
    Check,
    Combine,
    Declare,
    For,
    If,
    Let,
    LoopKernel,
    Param,
    Statement,
    Store,
)
from symgraph.loop.lower import BLOCK, Lowered
from symgraph.loop.nest import (
    Level,
    call,
    expressions,
    extents,
    flattened,
    loads,
    nest,
    size_of,
    slope,
    sums,
    walk,
)
from symgraph.loop.prefix import parted, running_loop, split_running, tiles
from symgraph.loop.split import ATOMIC, Only, split
from symgraph.loop.wide import widened
from symgraph.types import Size, floordiv, product, size_max

LANE = ix.Expr("lane", (), ix.INT, None, frozenset())
LANES = ix.Expr("lanes", (), ix.INT, None, frozenset())
ERROR = Param("error", "buffer", np.dtype("int32"))
WARPS = 32
"""The most warps that a block has: one word of scratch for each."""


@dataclass(frozen=True)
class ErrorWord:
    """What the parameter ``error`` is bound to: the word of the step that an error code goes to."""


@dataclass(frozen=True)
class Launch:
    """Over how much a kernel's threads are dealt out.

    Attributes:
        kind: ``one`` thread; ``grid``: ``lanes`` iterations over all threads; ``groups``: ``groups`` rows of ``lanes``.
        cooperates: whether the lanes of a group wait for each other. The lanes of a group that does not may lie in
            several blocks.
        width: how many lanes a group has to have; 0: as many as suit.
        taken: how many iterations a lane of a group takes at once.
    """

    kind: Literal["one", "grid", "groups"]
    groups: Size = 1
    lanes: Size = 1
    cooperates: bool = False
    width: int = 0
    taken: int = 1


@dataclass(eq=False)
class Stage:
    """One launch: loops dealt out to threads, and what the parameters are bound to."""

    loops: LoopKernel
    bindings: list[Variable | Size | np.generic | ErrorWord]
    launch: Launch
    checks: list[Apply]
    workspace: tuple[Variable, ...] = ()  # what it stores for the launches after it alone
    zeroed: tuple[Variable, ...] = ()  # what has to be zeros before
    only: Only | None = None  # for which sizes it is launched; None: all


def deal_out(lowered: Lowered, scatters: bool, atomics: bool = False) -> list[Stage]:
    """The launches that run a kernel, lowered ``flat``, on a GPU.

    Args:
        lowered: the kernel.
        scatters: whether its stores are a scatter's.
        atomics: whether parts of a reduction may be added in no fixed order.
    """
    if scatters:
        return [_Scheduler(lowered).scatters()]
    chain, inner = nest(lowered.loops.body, "parallel")
    parts = split_running(lowered) if running_loop(lowered) else split(lowered, rowwise(chain, inner), atomics)
    stages = [_Scheduler(p.lowered, p.workspace).run(p.rowwise) for p in parts]
    return [replace(s, zeroed=p.zeroed, only=p.only) for s, p in zip(stages, parts, strict=True)]


class _Scheduler:
    def __init__(self, lowered: Lowered, workspace: tuple[Variable, ...] = ()) -> None:
        self.lowered = lowered
        self.workspace = workspace
        self.sizes = extents(lowered)
        self.serials: dict[str, int] = {}
        self.scratch: dict[np.dtype[Any], Alloc] = {}
        self.cooperates = False
        self.widest: list[Size] = []

    # -- names and extents --------------------------------------------------------------------------------------------

    def fresh(self, prefix: str, dtype: np.dtype[Any] = ix.INT) -> ix.Expr:
        n = self.serials[prefix] = self.serials.get(prefix, -1) + 1
        return ir.name(f"{prefix}{n}", dtype)

    def extent(self, loop: For) -> Size:
        """How far a loop runs at most, as a size."""
        return size_of(loop.stop if loop.total is None else loop.total, self.sizes)

    # -- kernels ------------------------------------------------------------------------------------------------------

    def run(self, shared: bool | None = None) -> Stage:
        """``shared``: whether the lanes of a group share the inner loops, where that is decided already."""
        body = self.lowered.loops.body
        chain, inner = nest(body, "parallel")
        loops = any(isinstance(s, For) for s in walk(inner))
        if not chain and not loops:
            return self.stage(body, Launch("one"))
        if chain and (not loops or not (rowwise(chain, inner) if shared is None else shared)):
            return self.stage(*self.map(chain))
        return self.stage(*self.rows(chain, inner))

    def stage(self, body: Sequence[Statement], launch: Launch) -> Stage:
        made = [*self.scratch.values(), *guarded(body)]
        params, bindings = used(self.lowered, made)
        made, width = widened(made, self.sizes)
        if launch.kind == "grid":
            launch = replace(launch, lanes=floordiv(launch.lanes + width - 1, width))
        elif launch.kind == "groups":
            launch = replace(launch, taken=width)
        return Stage(LoopKernel(params, made), bindings, launch, self.lowered.checks, self.workspace)

    def map(self, chain: Sequence[Level]) -> tuple[list[Statement], Launch]:
        *outer, last = chain
        inside = [compensated(s, self) if isinstance(s, For) else [s] for s in last.loop.body]
        leaf = [s for group in inside for s in group]
        along = self.extent(last.loop)
        if not outer:
            loop = For(last.loop.index, last.loop.start, last.loop.stop, "grid", leaf)
            return [*last.before, loop], Launch("grid", 1, along)
        top, *levels = outer
        lane = For(last.loop.index, last.loop.start, last.loop.stop, "lane", leaf)
        row = [s for level in (*levels, last) for s in level.before]
        made = self.flattened([c.loop for c in outer], "group", [*row, lane])
        rows = product(self.extent(c.loop) for c in outer)
        return [*top.before, made], Launch("groups", rows, along)

    def rows(self, chain: Sequence[Level], inner: Sequence[Statement]) -> tuple[list[Statement], Launch]:
        row = self.shared(inner)
        lanes: Size = 1
        for extent in self.widest:
            lanes = size_max(lanes, extent)
        if not chain:
            return row, Launch("groups", 1, lanes, self.cooperates)
        before = [s for level in chain[1:] for s in level.before]
        loop = self.flattened([c.loop for c in chain], "group", [*before, *row])
        rows = product(self.extent(c.loop) for c in chain)
        return [*chain[0].before, loop], Launch("groups", rows, lanes, self.cooperates)

    def scatters(self) -> Stage:
        """Stores at computed places: each thread has some of them."""
        body = self.lowered.loops.body
        chain, inner = nest(body, None)
        added = [s for s in walk(body) if isinstance(s, Atomic)]
        if any(s.value.dtype.kind == "b" for s in added):
            # Whoever stores true first: the others store the same.
            inner = [_raised(s) for s in inner]
        elif any(s.value.dtype.name not in ATOMIC for s in added):
            return self.ordered(chain, inner, {name for s in added for name in s.own})
        if not chain:
            return self.stage(inner, Launch("one"))
        loops = [c.loop for c in chain]
        before = [s for level in chain[1:] for s in level.before]
        made = self.flattened(loops, "grid", [*before, *inner])
        launch = Launch("grid", 1, product(self.extent(s) for s in loops))
        return self.stage([*chain[0].before, made], launch)

    def ordered(self, chain: Sequence[Level], inner: Sequence[Statement], own: set[str]) -> Stage:
        """A scatter in order: threads share the loops whose iterations never meet, and each runs the others."""
        body = list(inner)
        for level in reversed(chain):
            s = level.loop
            around_it = body if s.index in own else [For(s.index, s.start, s.stop, "serial", body)]
            body = [*level.before, *around_it]
        shared = [c.loop for c in chain if c.loop.index in own]
        body = in_order(body)
        if not shared:
            return self.stage(body, Launch("one"))
        launch = Launch("grid", 1, product(self.extent(s) for s in shared))
        return self.stage([self.flattened(shared, "grid", body)], launch)

    # -- loops over rows, and loops within a row ----------------------------------------------------------------------

    def flattened(self, loops: Sequence[For], kind: Any, body: Sequence[Statement]) -> For:
        """One loop over all that ``loops`` run over together; ``body`` uses their indices."""
        prefix = {"group": "r", "lane": "l", "grid": "q"}[kind]
        return flattened(loops, "" if len(loops) == 1 else str(self.fresh(prefix).attr), kind, body)

    def shared(self, body: Sequence[Statement]) -> list[Statement]:
        """What the lanes of a group do for a row: inner loops are dealt out to them."""
        out: list[Statement] = []
        stored: set[str] = set()
        last = max((k for k, s in enumerate(body) if isinstance(s, For)), default=-1)
        for k, s in enumerate(body):
            if stored & {str(e.attr) for e in loads([s])}:
                out.append(Barrier())
                self.cooperates = True
                stored = set()
            if isinstance(s, For) and s.kind == "running":
                out += self.running(s, body)
            elif isinstance(s, For):
                out += self.dealt(s)
                stored |= {t.buffer for t in walk([s]) if isinstance(t, Store)}
            elif isinstance(s, If) and any(isinstance(t, For) for t in walk([s])):
                out.append(If(s.condition, self.shared(s.then), self.shared(s.otherwise)))
                stored |= {t.buffer for t in walk([s]) if isinstance(t, Store)}
            elif isinstance(s, Store | Atomic):
                first = If(call("equal", LANE, ix.size_value(0), dtype=ix.BOOL), [s], [])
                if k < last:
                    # Lanes may still have to load what this overwrites, or to load it.
                    out += [Barrier(), first, Barrier()]
                    self.cooperates = True
                else:
                    out.append(first)
            else:
                out.append(s)
        return out

    def dealt(self, s: For) -> list[Statement]:
        """A loop within a row, dealt out to the lanes of the group; what it adds up is combined."""
        chain, inner = nest([s], s.kind if s.kind == "parallel" else None)
        loops = [c.loop for c in chain]
        before = [t for level in chain[1:] for t in level.before]
        added = sums(s)
        loop = self.flattened(loops, "lane", [*before, *inner])
        self.widest.append(self.extent(loop))
        out: list[Statement] = list(compensated(loop, self)) if added else [loop]
        for name, value in added.items():
            self.cooperates = True
            out.append(Combine(name, value.fn, value.dtype, self.words(value.dtype).name))
        return out

    def running(self, s: For, body: Sequence[Statement]) -> list[Statement]:
        """A loop that carries a value, in tiles of the group's lanes."""
        self.cooperates = True
        self.widest.append(self.extent(s))
        _, assign, _ = parted(s)
        start = next(t.value for t in body if isinstance(t, Declare) and t.name == assign.name)
        return tiles(s, start, self.fresh, self.words(assign.value.dtype).name)

    def words(self, dtype: np.dtype[Any]) -> Alloc:
        """The block's scratch for values of ``dtype``, as registers hold them."""
        held = np.dtype({"b": "uint8"}.get(dtype.kind, "float32" if dtype.name == "float16" else dtype.name))
        if held not in self.scratch:
            self.scratch[held] = Alloc(f"s{len(self.scratch)}", "shared", held, WARPS)
        return self.scratch[held]


def rowwise(chain: Sequence[Level], inner: Sequence[Statement]) -> bool:
    """Whether inner loops step through memory one by one more often than the last of the common loops does."""
    if not chain or any(isinstance(s, For) and s.kind == "parallel" for s in inner):
        return True
    lets = {s.name: s.value for s in walk([*(s for c in chain for s in c.before), *inner]) if isinstance(s, Let)}
    votes = 0
    for top in inner:
        if not isinstance(top, For):
            continue
        last = [s.index for s in walk([top]) if isinstance(s, For)][-1]
        for e in loads([top]):
            along, across = (slope(e.args[0], i, lets) == 1 for i in (last, chain[-1].loop.index))
            votes += along - across
    return votes > 0


def used(lowered: Lowered, body: Sequence[Statement]) -> tuple[list[Param], list[Any]]:
    """The parameters that ``body`` needs, and what they are bound to."""
    names = {str(e.attr) for e in expressions(body) if e.fn in ("name", "load")}
    names |= {s.buffer for s in walk(body) if isinstance(s, Store | Atomic)}
    found: list[tuple[Param, Any]] = [
        (p, b) for p, b in zip(lowered.loops.params, lowered.bindings, strict=True) if p.name in names
    ]
    if ERROR.name in names:
        found.append((ERROR, ErrorWord()))
    return [p for p, _ in found], [b for _, b in found]


def guarded(body: Sequence[Statement]) -> list[Statement]:
    """``body``, in which a failing check writes its code and leaves out the rest of its block."""
    out: list[Statement] = []
    for k, s in enumerate(body):
        if isinstance(s, Check):
            code = ix.Expr("const", (), ERROR.dtype, s.code, frozenset())
            failed: list[Statement] = [Store(ERROR.name, ix.size_value(0), code)]
            return [*out, If(s.condition, guarded(body[k + 1 :]), failed)]
        if isinstance(s, For):
            s = For(s.index, s.start, s.stop, s.kind, guarded(s.body), s.total)
        elif isinstance(s, If):
            s = If(s.condition, guarded(s.then), guarded(s.otherwise))
        out.append(s)
    return out


def in_order(body: Sequence[Statement]) -> list[Statement]:
    """``body`` for one thread: additions to memory load and store."""

    def plain(s: Statement) -> Statement:
        if isinstance(s, For):
            return For(s.index, s.start, s.stop, "serial", in_order(s.body))
        if isinstance(s, Atomic):
            old = ix.Expr("load", (s.at,), s.value.dtype, s.buffer, frozenset())
            return Store(s.buffer, s.at, call("add", old, s.value, dtype=s.value.dtype))
        return s

    return [plain(s) for s in body]


def _raised(s: Statement) -> Statement:
    return If(s.value, [Store(s.buffer, s.at, s.value)], []) if isinstance(s, Atomic) else s


def compensated(loop: For, names: _Scheduler) -> list[Statement]:
    """A loop that adds up floating-point numbers, in blocks that are added with Neumaier's compensation.

    As :meth:`symgraph.loop.lower._Lowering.blocked_sum` on the CPU: the error stays that of one block of what one
    thread adds up.
    """
    sums = [s for s in loop.body if isinstance(s, Assign) and s.value.fn == "add_reassoc" and s.value.dtype.kind == "f"]
    extent = names.extent(loop)
    if len(sums) != 1 or (isinstance(extent, int) and extent <= BLOCK):
        return [loop]
    (s,) = sums
    dtype = s.value.dtype
    acc, term = s.value.args
    lost, part, total = (names.fresh(prefix, dtype) for prefix in ("lost", "part", "t"))
    step, block, begin, end = (names.fresh(prefix) for prefix in ("nstep", "b", "begin", "end"))
    zero = ix.const(0, dtype)
    width: ix.Expr = ix.size_value(BLOCK)
    if loop.kind == "lane":
        width = call("multiply", width, LANES)
    added = Assign(str(part.attr), call("add_reassoc", part, term, dtype=dtype))
    body = [added if t is s else t for t in loop.body]
    bigger = call("greater_equal", *(call("absolute", x, dtype=dtype) for x in (acc, part)), dtype=ix.BOOL)

    def add(x: ix.Expr, y: ix.Expr) -> ix.Expr:
        return call("add", x, y, dtype=dtype)

    def less(x: ix.Expr, y: ix.Expr) -> ix.Expr:
        return call("subtract", x, y, dtype=dtype)

    one, two = add(less(acc, total), part), add(less(part, total), acc)
    blocks = call("floor_divide", call("subtract", call("add", loop.stop, step), ix.size_value(1)), step)
    inside: list[Statement] = [
        Declare(str(part.attr), zero),
        Let(str(begin.attr), call("multiply", block, step)),
        Let(str(end.attr), call("minimum", call("add", begin, step), loop.stop)),
        For(loop.index, begin, end, loop.kind, body, loop.stop if loop.total is None else loop.total),
        Let(str(total.attr), add(acc, part)),
        Assign(str(lost.attr), add(lost, call("where", bigger, one, two, dtype=dtype))),
        Assign(s.name, total),
    ]
    # An infinite sum makes the compensation inf - inf; it is then left out.
    whole = call("equal", lost, lost, dtype=ix.BOOL)
    return [
        Declare(str(lost.attr), zero),
        Let(str(step.attr), width),
        For(str(block.attr), ix.size_value(0), blocks, "serial", inside),
        Assign(s.name, call("where", whole, add(acc, lost), acc, dtype=dtype)),
    ]
