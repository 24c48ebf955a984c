"""Reductions with few results and many terms, in several launches: partial results, and what they combine to.

On a GPU a launch is the only point where all threads meet. A reduction to one number, of a few long rows, or over
leading axes to a few columns, would keep a few threads busy. Its terms are cut into parts; a first kernel reduces each
part into a workspace, and the next one, which needs the result, reduces over the parts before anything else.

* What depends on no reduction is in the first launch, what depends on those is in the second, and so on: softmax of
  long rows is four launches. Loops that store a row go over its parts too; what is stored once for a row comes last.
* How many parts there are follows from sizes alone: results do not depend on the device, and are the same from run to
  run. Rows are cut where there are few of them and they are long. Where sizes are symbols, that is known when they are:
  there are two ways then, one launch and several, and each launch says which it belongs to (:class:`Only`).
* With ``atomics``, what a part adds up goes into the result itself, which is zeros before. This saves the workspace and
  the launch that combines, where that would do nothing else, and the order of additions is not fixed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from symgraph import index as ix
from symgraph.graph import Variable
from symgraph.loop import ir
from symgraph.loop.ir import Assign, Atomic, Check, Declare, For, If, Let, LoopKernel, Param, Statement, Store
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
from symgraph.types import Atom, Size, evaluate, floordiv, product, size_max, size_min, tensor_type

ATOMIC = ("int32", "int64", "uint32", "uint64", "float32", "float64")
"""Dtypes that the GPU adds atomically."""
FEW = 1 << 15
"""Results from which on each thread has one, and all terms of it."""
MANY = 2048
"""Terms up to which a reduction is not cut."""
PART = 4096
"""Terms of a part of a reduction to one number: sixteen for each lane of a block."""
PARTS = 1024
"""Parts of all rows together; of a reduction to one number, unless they would have more than :data:`LONGEST` terms."""
LONGEST = 1 << 18
"""Terms of a part, at most: 1,024 for each lane of a block, so that errors stay those of a block of terms."""
ROW = 8192
"""Terms of a part of a row, at least: a row of less than two such parts takes one block about as long as a launch."""
COLUMN = 64
"""Terms that one thread adds up at least, in reductions over leading axes."""
EVEN = 4
"""What parts that lanes share are a multiple of: elements that are moved at once."""


@dataclass(frozen=True)
class Only:
    """Which of two ways a launch belongs to: ``several`` launches if there are more parts than one, or one launch.

    Called with sizes, it says how often the launch is made.
    """

    parts: Size
    several: bool

    def __call__(self, env: Mapping[Atom, int]) -> int:
        return int((evaluate(self.parts, env) > 1) == self.several)

    def __str__(self) -> str:
        return f"{self.parts} {'>' if self.several else '='} 1"


@dataclass(eq=False)
class Part:
    """A kernel that is to be dealt out, and the workspace that it writes.

    Attributes:
        lowered: its loops and parameters.
        rowwise: whether lanes share the inner loops, where that is known.
        workspace: what it stores for the kernels after it.
        zeroed: what has to be zeros before: it is added to.
        only: for which sizes it is launched; ``None``: all.
    """

    lowered: Lowered
    rowwise: bool | None = None
    workspace: tuple[Variable, ...] = ()
    zeroed: tuple[Variable, ...] = ()
    only: Only | None = None


def split(lowered: Lowered, rowwise: bool, atomics: bool = False) -> list[Part]:
    """The kernels to run one after the other; one, if nothing is cut.

    Args:
        lowered: the kernel.
        rowwise: the lanes of a group share inner loops.
        atomics: parts may be added in no fixed order.
    """
    whole = [Part(lowered)]
    chain, inner = nest(lowered.loops.body, "parallel")
    sizes = extents(lowered)
    results = product(size_of(c.loop.stop, sizes) for c in chain)
    rows = rowwise and bool(chain)
    if chain and not rows and isinstance(results, int) and results >= FEW:
        return whole
    levels = _levels(inner, sizes)
    if levels is None:
        return whole
    if not rows:
        return _Split(lowered, chain, inner, levels, results).run(atomics)
    longest: Size = 1
    for s in (s for loops in levels for s in loops if sums(s)):
        longest = size_max(longest, _terms(s, sizes))
    count = _row_parts(longest, results)
    if count == 1:
        return whole
    parts = _Split(lowered, chain, inner, levels, results, count).run(atomics)
    if isinstance(count, int):
        return parts
    return [replace(p, only=Only(count, p is not whole[0])) for p in (*whole, *parts)]


def _levels(inner: Sequence[Statement], sizes: Mapping[str, Size]) -> list[list[For]] | None:
    """The loops that are cut, by the launch that they are in; ``None`` where there is nothing to cut, or no way to."""
    if {s.buffer for s in inner if isinstance(s, Store)} & _loaded(inner):
        return None
    ready: dict[str, int] = {}  # the number of launches after which a name has its value, or a buffer is stored
    levels: list[list[For]] = []
    for s in inner:
        level = max((ready.get(n, 0) for n in reads([s]) | _loaded([s])), default=0)
        stored = _stored([s])
        if stored and not isinstance(s, Store) and (not isinstance(s, For) or s.kind != "parallel" or sums(s)):
            return None
        if isinstance(s, For) and (stored or _long(s, sizes)):
            level += 1
            levels += [[] for _ in range(level - len(levels))]
            levels[level - 1].append(s)
        for n in writes([s]) | stored:
            ready[n] = max(level, ready.get(n, 0))
    return levels if any(sums(s) for loops in levels for s in loops) else None


def _long(loop: For, sizes: Mapping[str, Size]) -> bool:
    """Whether it is a reduction of many terms."""
    terms = _terms(loop, sizes)
    return loop.kind != "parallel" and bool(sums(loop)) and not (isinstance(terms, int) and terms <= MANY)


def _terms(loop: For, sizes: Mapping[str, Size]) -> Size:
    chain, _ = nest([loop], loop.kind if loop.kind == "parallel" else None)
    return product(size_of(c.loop.stop, sizes) for c in chain)


class _Split:
    """One kernel as several. ``count``: how many parts rows have; parts of other reductions are counted by launch."""

    def __init__(
        self,
        lowered: Lowered,
        chain: Sequence[Level],
        inner: Sequence[Statement],
        levels: Sequence[Sequence[For]],
        results: Size,
        count: Size | None = None,
    ) -> None:
        self.lowered, self.chain, self.inner, self.levels = lowered, chain, inner, levels
        self.results, self.count = results, count
        self.columns = bool(chain) and count is None
        self.sizes = extents(lowered)
        self.params = list(lowered.loops.params)
        self.bindings = list(lowered.bindings)
        self.rows = _product([c.loop.stop for c in chain])
        self.place = _place(chain)

    def run(self, atomics: bool) -> list[Part]:
        if atomics and (zeroed := self.additive()):
            return [self.added(zeroed)]
        parts: list[Part] = []
        inner = list(self.inner)
        for serial, loops in enumerate(self.levels):
            made, inner = self.launch(serial, loops, inner)
            parts.append(made)
        last = [s for s in inner if isinstance(s, Store)]
        if last:
            needed = slice_of([s for s in inner if not _stored([s])], reads(last))
            final = [s for s in inner if s in needed or s in last]
            parts.append(Part(self.made(around(self.chain, final)), None if self.count is None else True))
        return parts

    def launch(self, serial: int, loops: Sequence[For], inner: Sequence[Statement]) -> tuple[Part, list[Statement]]:
        """The launch of ``loops`` over parts, and the statements of a row with what takes their place."""
        parts, count = self.parts(serial, loops)
        row = ir.name(f"p{serial}", ix.INT)
        cut = {s for level in self.levels for s in level}
        body: list[Statement] = slice_of([s for s in inner if s not in cut], reads(loops))
        workspace: list[Variable] = []
        instead: dict[Statement, list[Statement]] = {}
        for k, s in enumerate(loops):
            body += self.part(s, serial, k, row, count)
            turn = ir.name(f"q{serial}_{k}", ix.INT)
            inside: list[Statement] = []
            for name, value in sums(s).items():
                w = self.buffer(f"w{serial}_{len(workspace)}", name, value, count)
                workspace.append(w[1])
                body.append(Store(w[0], self.at(row, parts), ir.name(name, value.dtype)))
                old = ix.Expr("load", (self.at(turn, parts),), value.dtype, w[0], frozenset())
                inside.append(Assign(name, call(value.fn, value.args[0], old, dtype=value.dtype)))
            instead[s] = [For(str(turn.attr), ix.size_value(0), parts, "vector", inside)] if inside else []
        first: list[Statement] = [For(str(row.attr), ix.size_value(0), parts, "parallel", around(self.chain, body))]
        made = Part(self.made(first), not self.columns, tuple(workspace))
        return made, [t for s in inner for t in instead.get(s, [s])]

    def parts(self, serial: int, loops: Sequence[For]) -> tuple[ix.Expr, Size]:
        """How many parts the loops of a launch have: a parameter, and its value."""
        terms: Size = 1
        for s in loops:
            terms = size_max(terms, size_of(s.stop, self.sizes) if self.columns else _terms(s, self.sizes))
        count = _parts(terms, self.results, self.columns) if self.count is None else self.count
        return self.size(f"np{serial}", count), count

    def part(self, s: For, serial: int, k: int, row: ix.Expr, count: Size) -> list[Statement]:
        """The loop over part ``row`` of what ``s`` goes over."""
        loop = s if self.columns else self.flat(s, f"f{serial}_{k}")
        whole = size_of(loop.stop, self.sizes)
        even = 1 if self.columns else EVEN
        step = count * even
        length = self.size(f"nt{serial}_{k}", floordiv(whole + step - 1, step) * even)
        at, begin, stop = (ir.name(f"{prefix}{serial}_{k}", ix.INT) for prefix in ("o", "begin", "stop"))
        body = [Let(loop.index, call("add", begin, at)), *loop.body]
        made = For(str(at.attr), ix.size_value(0), stop, loop.kind, body, length)
        return [
            Let(str(begin.attr), call("multiply", row, length)),
            Let(str(stop.attr), call("minimum", length, call("subtract", loop.stop, begin))),
            made if self.columns else some(made, str(begin.attr), loop.stop),
        ]

    def flat(self, s: For, name: str) -> For:
        """A nest of loops as one loop."""
        parallel = s.kind == "parallel"
        chain, inner = nest([s], s.kind if parallel else None)
        before = [t for level in chain[1:] for t in level.before]
        return flattened([c.loop for c in chain], name, "parallel" if parallel else "vector", [*before, *inner])

    # -- parts that are added atomically ------------------------------------------------------------------------------

    def additive(self) -> tuple[Variable, ...]:
        """The results, if each is a sum of what its parts give, and a dtype that is added atomically; else none."""
        (loops, *more) = self.levels
        stores = [s for s in self.inner if isinstance(s, Store)]
        found = [value for s in loops for value in sums(s).values()]
        if more or any(_stored([s]) for s in loops) or any(v.fn not in ("add", "add_reassoc") for v in found):
            return ()
        known = {p.name: False for p, b in zip(self.params, self.bindings, strict=True) if _factor(p, b)}
        known |= {name: True for s in loops for name in sums(s)}
        for s in (*(t for c in self.chain for t in c.before), *self.inner):
            if isinstance(s, Let) and (linear := _linear(s.value, known)) is not None:
                known[s.name] = linear
        if any(s.dtype.name not in ATOMIC or not _linear(s.value, known) for s in stores):
            return ()
        names = [s.buffer for s in stores]
        pairs = zip(self.params, self.bindings, strict=True)
        bound = {p.name: b for p, b in pairs if isinstance(b, Variable)}
        return tuple(bound[n] for n in names) if len(set(names)) == len(names) else ()

    def added(self, zeroed: tuple[Variable, ...]) -> Part:
        """The kernel with its reductions over parts, which adds what it stored."""
        (loops,) = self.levels
        parts, count = self.parts(0, loops)
        row = ir.name("p0", ix.INT)
        body: list[Statement] = []
        for s in self.inner:
            if isinstance(s, For) and s in loops:
                body += self.part(s, 0, loops.index(s), row, count)
            else:
                body.append(Atomic(s.buffer, s.at, s.value) if isinstance(s, Store) else s)
        first: list[Statement] = [For(str(row.attr), ix.size_value(0), parts, "parallel", around(self.chain, body))]
        return Part(self.made(first), not self.columns, (), zeroed)

    # -- parameters ---------------------------------------------------------------------------------------------------

    def size(self, name: str, size: Size) -> ix.Expr:
        """A parameter for a size."""
        self.params.append(Param(name, "size", ix.INT))
        self.bindings.append(size)
        self.sizes[name] = size
        return ir.name(name, ix.INT)

    def buffer(self, name: str, acc: str, value: ix.Expr, count: Size) -> tuple[str, Variable]:
        """A parameter for partial results: those of a row side by side, or those of a part, for columns."""
        own = [size_of(c.loop.stop, self.sizes) for c in self.chain]
        shape = (count, *own) if self.columns else (*own, count)
        v = Variable(tensor_type(value.dtype, shape), name=f"partial {acc}")
        self.params.append(Param(name, "buffer", value.dtype))
        self.bindings.append(v)
        return name, v

    def at(self, part: ix.Expr, parts: ix.Expr) -> ix.Expr:
        """Where the partial result of a part lies."""
        if self.rows is None or self.place is None:
            return part
        if self.columns:
            return call("add", call("multiply", part, self.rows), self.place)
        return call("add", call("multiply", self.place, parts), part)

    def made(self, body: list[Statement]) -> Lowered:
        return replace(self.lowered, loops=LoopKernel(self.params, body), bindings=self.bindings)


def _parts(terms: Size, results: Size, columns: bool) -> Size:
    """Into how many parts a reduction is cut."""
    if columns:
        wanted = floordiv(FEW - 1 + size_max(results, 1), size_max(results, 1))
        return size_max(1, size_min(wanted, floordiv(terms + COLUMN - 1, COLUMN)))
    most = size_max(PARTS, floordiv(terms + LONGEST - 1, LONGEST))
    return size_max(1, size_min(most, floordiv(terms + PART - 1, PART)))


def _row_parts(terms: Size, rows: Size) -> Size:
    """Into how many parts each row is cut: 1 where there are many, or where they are short."""
    most = floordiv(PARTS, size_max(rows, 1))
    fit = floordiv(terms, ROW)
    if any(isinstance(n, int) and n <= 1 for n in (most, fit)):
        return 1
    return size_max(1, size_min(most, fit))


def _product(factors: Sequence[ix.Expr]) -> ix.Expr | None:
    out: ix.Expr | None = None
    for e in factors:
        out = e if out is None else call("multiply", out, e)
    return out


def _place(chain: Sequence[Level]) -> ix.Expr | None:
    """The number of the result, from the indices of the loops over results."""
    total: ix.Expr | None = None
    for c in chain:
        index = ir.name(c.loop.index, ix.INT)
        total = index if total is None else call("add", call("multiply", total, c.loop.stop), index)
    return total


def some(loop: Statement, begin: str, end: ix.Expr) -> Statement:
    """The loop over a part, if there is anything in it: the last parts of a row may begin beyond its end.

    Lanes that share the loop take its extent for a size.
    """
    return If(call("less", ir.name(begin, ix.INT), end, dtype=ix.BOOL), [loop], [])


# -- expressions -------------------------------------------------------------------------------------------------------


def _factor(param: Param, bound: object) -> bool:
    """Whether a parameter is a number that a sum may be multiplied with part by part: finite, and not 0."""
    if param.kind == "size":
        return True
    return param.kind == "const" and bool(np.isfinite(bound)) and bool(bound)  # type: ignore[call-overload]


def _linear(e: ix.Expr, known: Mapping[str, bool]) -> bool | None:
    """Whether ``e`` is a sum of names that are ``True``, with factors; ``False`` if it has none, ``None`` if neither.

    Then the value of a sum is the sum of the values of its parts.
    """
    if e.fn == "name":
        return known.get(str(e.attr))
    found = [_linear(a, known) for a in e.args]
    if e.fn in ("load", "lane", "lanes") or None in found:
        return None
    if not any(found):
        return False
    if e.fn == "negative" or (e.fn in ("add", "subtract") and all(found)) or (e.fn == "multiply" and not all(found)):
        return True
    return True if e.fn == "divide" and e.dtype.kind == "f" and found == [True, False] else None


# -- what depends on what ----------------------------------------------------------------------------------------------


def reads(body: Iterable[Statement]) -> set[str]:
    """The names that ``body`` uses."""
    return {str(e.attr) for e in expressions(body) if e.fn == "name"}


def writes(body: Iterable[Statement]) -> set[str]:
    """The names that ``body`` gives values to."""
    return {s.name for s in walk(body) if isinstance(s, Let | Declare | Assign)}


def _loaded(body: Iterable[Statement]) -> set[str]:
    return {str(e.attr) for e in loads(body)}


def _stored(body: Iterable[Statement]) -> set[str]:
    return {s.buffer for s in walk(body) if isinstance(s, Store | Atomic)}


def slice_of(body: Sequence[Statement], names: set[str]) -> list[Statement]:
    """The statements of ``body`` that ``names`` depend on, stores aside, with all checks."""
    wanted = set(names)
    kept: list[Statement] = []
    for s in reversed(body):
        if isinstance(s, Check) or (isinstance(s, Let | Declare | Assign | For | If) and writes([s]) & wanted):
            kept.append(s)
            wanted |= reads([s])
    kept.reverse()
    return kept
