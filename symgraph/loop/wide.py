"""Loops over neighbouring elements that move 16 bytes at once: two or four elements at a time.

A ``grid`` or ``lane`` loop that loads, and stores or adds up, at its index becomes several:

* one over whole groups of elements, whose loads and stores are one instruction each. Where a pointer that the launch
  gets is not aligned, it has no iterations;
* where it adds up, its twin for pointers that are not aligned: each lane goes through the same groups, element by
  element. So the order of a sum, and its last bits, do not depend on where an argument lies;
* the loop as it was, over the rest. Where nothing is added up it takes the part of the twin.

What is computed for an element is the same in all. A loop stays as it is

* where there is much to compute for each byte, since it gains nothing, or where there are many tensors, since it would
  not find the registers;
* where rows are known to begin where few are aligned;
* in a tile of a running reduction: which lane has which element matters there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from symgraph import index as ix
from symgraph.loop import ir
from symgraph.loop.ir import Assign, Fetch, For, If, Let, Prefix, Put, Statement, Store
from symgraph.loop.nest import call, expressions, loads, values, walk, within
from symgraph.op import OPS
from symgraph.types import Size

BYTES = 16
"""What one thread moves at once."""
MOVED = ("float32", "float64", "int32", "int64", "uint32", "uint64")
"""Dtypes whose registers and memory are the same."""
INTENSITY = 10
"""FLOPs for a byte that is moved, from which on arithmetic takes the time: an H100 does 20 float32 or 10 float64."""
MOST = 16
"""Places that a loop taken several elements at a time moves from or to: 16 bytes of each are 64 of 255 registers."""
ZERO = ix.size_value(0)


def widened(body: Sequence[Statement], sizes: Mapping[str, Size]) -> tuple[list[Statement], int]:
    """``body`` with its loops taken several elements at a time, and how many those that threads share take at least.

    Args:
        body: the statements of a kernel, its loops dealt out to threads: such a loop ends no earlier than it begins.
        sizes: the parameters that are sizes, by name.
    """
    widening = _Widening(body, sizes)
    return _needed(widening.block(body), set()), min(widening.taken, default=1)


class _Widening:
    def __init__(self, body: Sequence[Statement], sizes: Mapping[str, Size]) -> None:
        self.sizes = sizes
        self.lets = {s.name: s.value for s in walk(body) if isinstance(s, Let)}
        self.placed = {s.name for s in walk(body) if isinstance(s, Prefix)}  # they belong to one lane and element
        self.taken: list[int] = []
        self.serial = 0

    def block(self, body: Sequence[Statement]) -> list[Statement]:
        made: list[Statement] = []
        for s in body:
            if isinstance(s, If):
                made.append(If(s.condition, self.block(s.then), self.block(s.otherwise)))
            elif isinstance(s, For):
                made += self.several(s) or [For(s.index, s.start, s.stop, s.kind, self.block(s.body), s.total)]
            else:
                made.append(s)
        return made

    def several(self, s: For) -> list[Statement]:
        """What takes the place of a loop; nothing where it stays."""
        if s.kind not in ("grid", "lane"):
            return []
        before, loop = self.from_zero(s)
        width = self.width(loop)
        self.taken.append(width)
        if width == 1:
            return []
        made = _Several(loop, width, self.serial).run()
        self.serial += 1
        return [*before, *made]

    def from_zero(self, loop: For) -> tuple[list[Statement], For]:
        """``loop`` with an index that starts at 0, and what has to be defined for it."""
        if _zero(loop.start):
            return [], loop
        index, extent = (ir.name(f"{prefix}{self.serial}", ix.INT) for prefix in ("e", "extent"))
        body = [Let(loop.index, call("add", loop.start, index)), *loop.body]
        made = For(str(index.attr), ZERO, extent, loop.kind, body, loop.total)
        return [Let(str(extent.attr), self.beyond(loop.stop, loop.start))], made

    def beyond(self, stop: ix.Expr, start: ix.Expr) -> ix.Expr:
        """``stop - start``; where that is ``min(start + a, b) - start``, as ``min(a, b - start)``."""
        value = self.lets.get(str(stop.attr), stop) if stop.fn == "name" else stop
        if value.fn == "minimum" and value.args[0].fn == "add":
            (one, length), other = value.args[0].args, value.args[1]
            if ir.expression(one) == ir.expression(start):
                return call("minimum", length, call("subtract", other, start))
        return call("subtract", stop, start)

    def width(self, loop: For) -> int:
        """How many elements of ``loop`` may be taken at once; 1 where it does not qualify."""
        if any(not isinstance(s, Let | Assign | Store) for s in loop.body):
            return 1
        used = {str(e.attr) for e in expressions(loop.body) if e.fn == "name"}
        if self.placed & (used | {s.name for s in loop.body if isinstance(s, Assign)}):
            return 1
        offsets = _Offsets(loop)
        moved: dict[tuple[str, str], np.dtype[Any]] = {}
        stored: dict[tuple[str, str], np.dtype[Any]] = {}
        starts: list[ix.Expr] = []
        places = [(moved, str(e.attr), e.args[0], e.dtype) for e in loads(loop.body) if offsets.varies(e.args[0])]
        places += [(stored, s.buffer, s.at, s.dtype) for s in loop.body if isinstance(s, Store)]
        for found, buffer, at, dtype in places:
            start = offsets.start(at)
            if start is None:
                return 1
            found[buffer, ir.expression(start)] = dtype
            starts.append(start)
        both = [*moved.values(), *stored.values()]
        if not both or len(both) > MOST or any(d.name not in MOVED for d in both):
            return 1
        if {b for b, _ in stored} & {b for b, _ in moved}:
            return 1
        work = sum(int(getattr(OPS.get(e.fn), "flops", 0)) for e in expressions(loop.body))
        if work > INTENSITY * sum(d.itemsize for d in both):
            return 1
        width = BYTES // max(d.itemsize for d in both)
        return 1 if any(self.multiple(e) % width for e in starts) else width

    def multiple(self, e: ix.Expr) -> int:
        """A number that divides ``e``; 0, which all divide, where sizes are in it that are not known."""
        if e.fn == "const":
            return int(e.attr)
        if e.fn == "name":
            name = str(e.attr)
            if name in self.sizes:
                n = self.sizes[name]
                return n if isinstance(n, int) else 0
            return self.multiple(self.lets[name]) if name in self.lets else 1
        if e.fn in ("add", "subtract"):
            return math.gcd(*(self.multiple(a) for a in e.args))
        return math.prod(self.multiple(a) for a in e.args) if e.fn == "multiply" else 1


class _Offsets:
    """Where a loop loads and stores, as its index and what does not vary with it."""

    def __init__(self, loop: For) -> None:
        self.index = loop.index
        self.own = {s.name: s.value for s in loop.body if isinstance(s, Let)}
        self.varying = {loop.index} | {s.name for s in loop.body if isinstance(s, Assign)}
        for name, value in self.own.items():
            if self.varies(value):
                self.varying.add(name)

    def varies(self, e: ix.Expr) -> bool:
        """Whether ``e`` is another one in each iteration."""
        return any(x.fn == "name" and str(x.attr) in self.varying for x in within([e]))

    def start(self, at: ix.Expr) -> ix.Expr | None:
        """``at`` without the index, where it is the index plus what does not vary."""
        if at.fn == "name":
            name = str(at.attr)
            if name == self.index:
                return ZERO
            return self.start(self.own[name]) if name in self.own else None
        if at.fn == "add":
            for one, other in (at.args, at.args[::-1]):
                if not self.varies(other) and (rest := self.start(one)) is not None:
                    return _sum(other, rest)
        return None


class _Several:
    """The loops that take ``width`` elements of ``loop`` at a time, and those over what is left."""

    def __init__(self, loop: For, width: int, serial: int) -> None:
        self.loop, self.width, self.serial = loop, width, serial
        self.offsets = _Offsets(loop)
        self.names = {loop.index, *self.offsets.own}
        self.fetched: dict[tuple[str, str], list[ix.Expr]] = {}
        self.tests: dict[tuple[str, str], ix.Expr] = {}

    def run(self) -> list[Statement]:
        loop, width = self.loop, ix.size_value(self.width)
        sums = any(isinstance(s, Assign) for s in loop.body)
        group, first, count, wide = (self.name(n) for n in ("y", "first", "ngroup", "nwide"))
        define = Let(str(first.attr), call("multiply", group, width))
        body = [define, *self.at_once(first)]
        aligned: ix.Expr | None = None
        for t in self.tests.values():
            aligned = t if aligned is None else call("logical_and", aligned, t, dtype=ix.BOOL)
        assert aligned is not None
        whole = call("floor_divide", loop.stop, width)
        out: list[Statement] = [Let(str(count.attr), whole)] if sums else []
        out.append(Let(str(wide.attr), call("where", aligned, count if sums else whole, ZERO)))
        out.append(For(str(group.attr), ZERO, wide, loop.kind, body))
        if sums:
            out.append(For(str(group.attr), wide, count, loop.kind, [define, self.one_by_one(first)]))
        rest = call("multiply", count if sums else wide, width)
        out.append(For(loop.index, rest, loop.stop, loop.kind, loop.body, loop.total))
        return out

    def name(self, prefix: str) -> ix.Expr:
        return ir.name(f"{prefix}{self.serial}", ix.INT)

    def one_by_one(self, first: ix.Expr) -> Statement:
        """The elements of a group, each as the loop does it."""
        turn = self.name("u")
        inside: list[Statement] = [Let(self.loop.index, call("add", first, turn)), *self.loop.body]
        return For(str(turn.attr), ZERO, ix.size_value(self.width), "serial", inside)

    def at_once(self, first: ix.Expr) -> list[Statement]:
        """The elements of a group, loaded and stored together."""
        body: list[Statement] = []
        starts = [(e, self.offsets.start(e.args[0])) for e in loads(self.loop.body)]
        for e, start in reversed(starts):  # found last to first
            if start is not None and (key := (str(e.attr), ir.expression(start))) not in self.fetched:
                prefix = f"f{self.serial}_{len(self.fetched)}"
                parts = self.fetched[key] = [ir.name(f"{prefix}_{k}", e.dtype) for k in range(self.width)]
                self.test(key, start)
                body.append(Fetch(tuple(str(n.attr) for n in parts), key[0], _sum(start, first), e.dtype))
        stored: dict[tuple[str, str], tuple[ix.Expr, list[ix.Expr]]] = {}
        for k in range(self.width):
            at = first if k == 0 else call("add", first, ix.size_value(k))
            body.append(Let(f"{self.loop.index}_{k}", at))
            for s in self.loop.body:
                assert isinstance(s, Let | Assign | Store)
                value = self.copied(s.value, k)
                if isinstance(s, Store):
                    start = self.offsets.start(s.at)
                    assert start is not None
                    key = (s.buffer, ir.expression(start))
                    stored.setdefault(key, (start, []))[1].append(value)
                else:
                    body.append(Let(f"{s.name}_{k}", value) if isinstance(s, Let) else Assign(s.name, value))
        for key, (start, parts) in stored.items():
            self.test(key, start)
            body.append(Put(key[0], _sum(start, first), tuple(parts)))
        return body

    def test(self, key: tuple[str, str], start: ix.Expr) -> None:
        """Whether the first group is aligned, and so each."""
        self.tests[key] = ix.Expr("aligned", (start, ix.size_value(self.width)), ix.BOOL, key[0], frozenset())

    def copied(self, e: ix.Expr, k: int) -> ix.Expr:
        """``e`` for the ``k``-th of the elements. Expressions of loops are a few operations deep."""
        if e.fn == "load" and (start := self.offsets.start(e.args[0])) is not None:
            return self.fetched[str(e.attr), ir.expression(start)][k]
        if e.fn == "name":
            return ir.name(f"{e.attr}_{k}", e.dtype) if str(e.attr) in self.names else e
        if not e.args:
            return e
        return ix.Expr(e.fn, tuple(self.copied(a, k) for a in e.args), e.dtype, e.attr, frozenset())


def _zero(e: ix.Expr) -> bool:
    return e.fn == "const" and e.attr == 0


def _sum(a: ix.Expr, b: ix.Expr) -> ix.Expr:
    """``a + b``; 0 is left out."""
    return b if _zero(a) else a if _zero(b) else call("add", a, b)


def _needed(body: Sequence[Statement], used: set[str]) -> list[Statement]:
    """``body`` without definitions that nothing uses. ``used``: names that are used after it; those in it are added."""
    kept: list[Statement] = []
    for s in reversed(body):
        if isinstance(s, Let) and s.name not in used:
            continue
        if isinstance(s, For):
            s = For(s.index, s.start, s.stop, s.kind, _needed(s.body, used), s.total)
        elif isinstance(s, If):
            s = If(s.condition, _needed(s.then, used), _needed(s.otherwise, used))
        kept.append(s)
        read = (s.at, *s.values) if isinstance(s, Put) else (s.at,) if isinstance(s, Fetch) else values(s)
        used |= {str(e.attr) for e in within(read) if e.fn == "name"}
    kept.reverse()
    return kept
