"""Reductions with few results and many terms, in two launches: partial results, and what they combine to.

On a GPU a launch is the only point where all threads meet. A reduction to one number, or over leading axes to a few
columns, would keep a few threads busy. Its terms are cut into parts; a first kernel reduces each part into a workspace,
and a second one, the kernel as it was, reduces over the parts. How many parts there are follows from sizes alone:
results do not depend on the device, and are the same from run to run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from symgraph import index as ix
from symgraph.graph import Variable
from symgraph.loop import ir
from symgraph.loop.ir import Assign, Declare, For, If, Let, LoopKernel, Param, Statement, Store
from symgraph.loop.lower import Lowered
from symgraph.loop.nest import (
    Level,
    around,
    call,
    expressions,
    extents,
    flattened,
    loads,
    nest,
    size_of,
    sums,
    walk,
)
from symgraph.types import Size, floordiv, product, size_max, size_min, tensor_type

FEW = 1 << 15
"""Results from which on each thread has one, and all terms of it."""
MANY = 2048
"""Terms up to which a reduction is not cut."""
PART = 4096
"""Terms of a part of a reduction to one number: sixteen for each lane of a block."""
PARTS = 1024
"""Parts of a reduction to one number, unless they would have more than :data:`LONGEST` terms."""
LONGEST = 1 << 18
"""Terms of a part, at most: 1,024 for each lane of a block, so that errors stay those of a block of terms."""
COLUMN = 64
"""Terms that one thread adds up at least, in reductions over leading axes."""


@dataclass(eq=False)
class Part:
    """A kernel that is to be dealt out, and the workspace that it writes.

    Attributes:
        lowered: its loops and parameters.
        rowwise: whether lanes share the inner loops, where that is known.
        workspace: what it stores for the kernel after it.
    """

    lowered: Lowered
    rowwise: bool | None = None
    workspace: tuple[Variable, ...] = ()


def split(lowered: Lowered, rowwise: bool) -> list[Part]:
    """The kernels to run one after the other; one, if nothing is cut. ``rowwise``: the lanes share inner loops."""
    parts: list[Part] = []
    done: set[For] = set()  # loops over parts
    while True:
        made = _cut(lowered, rowwise, len(parts), done)
        if made is None:
            return [*parts, Part(lowered)]
        first, lowered = made
        parts.append(first)


def _cut(lowered: Lowered, rowwise: bool, serial: int, done: set[For]) -> tuple[Part, Lowered] | None:
    """The partial results of all reductions that depend on no other, and the kernel that uses them."""
    chain, inner = nest(lowered.loops.body, "parallel")
    sizes = extents(lowered)
    results = product(size_of(c.loop.stop, sizes) for c in chain)
    if (rowwise and chain) or (isinstance(results, int) and results >= FEW):
        return None
    waiting = [s for s in inner if isinstance(s, For) and s.kind != "parallel" and s not in done and sums(s)]
    found: list[For] = []
    tainted: set[str] = set()
    for s in inner:
        if isinstance(s, For) and s in waiting and not reads([s]) & tainted and _long(s, sizes):
            found.append(s)
            tainted |= writes([s])
        elif reads([s]) & tainted:
            tainted |= writes([s])
    if not found:
        return None
    needed = slice_of(inner, {name for s in found for name in sums(s)} | set().union(*[reads([s]) for s in found]))
    stored = {t.buffer for t in walk(inner) if isinstance(t, Store)}
    if any(str(e.attr) in stored for e in loads(needed)):
        return None
    return _Cut(lowered, chain, inner, found, needed, results, serial, done).run()


def _long(loop: For, sizes: dict[str, Size]) -> bool:
    chain, _ = nest([loop], None)
    terms = product(size_of(c.loop.stop, sizes) for c in chain)
    return not isinstance(terms, int) or terms > MANY


class _Cut:
    def __init__(
        self,
        lowered: Lowered,
        chain: Sequence[Level],
        inner: Sequence[Statement],
        found: Sequence[For],
        needed: Sequence[Statement],
        results: Size,
        serial: int,
        done: set[For],
    ) -> None:
        self.lowered, self.chain, self.inner, self.found, self.needed = lowered, chain, inner, found, needed
        self.results, self.serial, self.done = results, serial, done
        self.sizes = extents(lowered)
        self.params = list(lowered.loops.params)
        self.bindings = list(lowered.bindings)
        self.workspace: dict[str, Variable] = {}

    def size(self, name: str, size: Size) -> ix.Expr:
        """A parameter for a size."""
        name = f"{name}{self.serial}"
        self.params.append(Param(name, "size", ix.INT))
        self.bindings.append(size)
        self.sizes[name] = size
        return ir.name(name, ix.INT)

    def run(self) -> tuple[Part, Lowered]:
        loops = {s: s if self.chain else self.flat(s, k) for k, s in enumerate(self.found)}
        terms: Size = 1
        for s in loops.values():
            terms = size_max(terms, size_of(s.stop, self.sizes))
        count = _parts(terms, self.results, bool(self.chain))
        parts = self.size("np", count)
        index = f"p{self.serial}"
        row = ir.name(index, ix.INT)
        place = self.place()
        rows = _product([c.loop.stop for c in self.chain])
        partial: list[Statement] = []
        whole: dict[For, list[Statement]] = {}
        for k, (s, loop) in enumerate(loops.items()):
            length = self.size(f"nt{k}_", floordiv(size_of(loop.stop, self.sizes) + count - 1, count))
            partial += self.part(loop, row, length, k)
            accs = sums(s)
            turn = ir.name(f"q{self.serial}_{k}", ix.INT)
            inside: list[Statement] = []
            for name, value in accs.items():
                w = self.buffer(name, value)
                at = _at(row, rows, place)
                partial.append(Store(w, at, ir.name(name, value.dtype)))
                old = ix.Expr("load", (_at(turn, rows, place),), value.dtype, w, frozenset())
                inside.append(Assign(name, call(value.fn, value.args[0], old, dtype=value.dtype)))
            over = For(str(turn.attr), ix.size_value(0), parts, "vector", inside)
            self.done.add(over)
            whole[s] = [over]
        before = [t for t in self.needed if t not in self.found]
        first = around(self.chain, [*before, *partial])
        first = [For(index, ix.size_value(0), parts, "parallel", first)]
        second: list[Statement] = []
        for t in self.inner:
            second += whole[t] if isinstance(t, For) and t in whole else [t]
        made = Part(self.made(first), not self.chain, tuple(self.workspace.values()))
        return made, self.made(around(self.chain, second))

    def flat(self, loop: For, k: int) -> For:
        """A nest of loops over terms as one loop."""
        chain, inner = nest([loop], None)
        before = [s for level in chain[1:] for s in level.before]
        return flattened([c.loop for c in chain], f"f{self.serial}_{k}", "vector", [*before, *inner])

    def made(self, body: list[Statement]) -> Lowered:
        return replace(self.lowered, loops=LoopKernel(self.params, body), bindings=self.bindings)

    def part(self, loop: For, row: ix.Expr, length: ix.Expr, k: int) -> list[Statement]:
        """The loop over the terms of part ``row``."""
        at, begin, stop = (ir.name(f"{prefix}{self.serial}_{k}", ix.INT) for prefix in ("o", "begin", "stop"))
        body = [Let(loop.index, call("add", begin, at)), *loop.body]
        return [
            Let(str(begin.attr), call("multiply", row, length)),
            Let(str(stop.attr), call("minimum", length, call("subtract", loop.stop, begin))),
            For(str(at.attr), ix.size_value(0), stop, loop.kind, body, length),
        ]

    def buffer(self, acc: str, value: ix.Expr) -> str:
        name = f"w{self.serial}_{len(self.workspace)}"
        parts = self.sizes[f"np{self.serial}"]
        shape = (parts, *[size_of(c.loop.stop, self.sizes) for c in self.chain])
        v = Variable(tensor_type(value.dtype, shape), name=f"partial {acc}")
        self.workspace[name] = v
        self.params.append(Param(name, "buffer", value.dtype))
        self.bindings.append(v)
        return name

    def place(self) -> ix.Expr | None:
        """The number of the result, from the indices of the loops over results."""
        total: ix.Expr | None = None
        for c in self.chain:
            index = ir.name(c.loop.index, ix.INT)
            total = index if total is None else call("add", call("multiply", total, c.loop.stop), index)
        return total


def _parts(terms: Size, results: Size, columns: bool) -> Size:
    """Into how many parts a reduction is cut."""
    if columns:
        wanted = floordiv(FEW - 1 + size_max(results, 1), size_max(results, 1))
        return size_max(1, size_min(wanted, floordiv(terms + COLUMN - 1, COLUMN)))
    most = size_max(PARTS, floordiv(terms + LONGEST - 1, LONGEST))
    return size_max(1, size_min(most, floordiv(terms + PART - 1, PART)))


def _product(factors: Sequence[ix.Expr]) -> ix.Expr | None:
    out: ix.Expr | None = None
    for e in factors:
        out = e if out is None else call("multiply", out, e)
    return out


def _at(part: ix.Expr, rows: ix.Expr | None, place: ix.Expr | None) -> ix.Expr:
    """Where the partial result of a part lies: parts one after the other, results side by side."""
    if rows is None or place is None:
        return part
    return call("add", call("multiply", part, rows), place)


# -- what depends on what ----------------------------------------------------------------------------------------------


def reads(body: Iterable[Statement]) -> set[str]:
    """The names that ``body`` uses."""
    return {str(e.attr) for e in expressions(body) if e.fn == "name"}


def writes(body: Iterable[Statement]) -> set[str]:
    """The names that ``body`` gives values to."""
    return {s.name for s in walk(body) if isinstance(s, Let | Declare | Assign)}


def slice_of(body: Sequence[Statement], names: set[str]) -> list[Statement]:
    """The statements of ``body`` that ``names`` depend on, stores aside."""
    wanted = set(names)
    kept: list[Statement] = []
    for s in reversed(body):
        if isinstance(s, Let | Declare | Assign | For | If) and writes([s]) & wanted:
            kept.append(s)
            wanted |= reads([s])
    kept.reverse()
    return kept
