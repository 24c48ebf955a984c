"""Running reductions dealt out to the threads of a GPU: in one launch, or in parts, with the parts' totals before.

Along the last axis a group takes a row in tiles of its lanes. Each lane has a term; what the terms add up to, lane by
lane (:class:`~symgraph.loop.ir.Prefix`), goes on what the tiles before have added up to. So each element has a lane of
its own, and 16 bytes are not moved at once (:mod:`symgraph.loop.wide`). Along any other axis neighbouring threads have
neighbouring columns, and each goes down its own.

Where rows or columns are too few to keep a GPU busy, they are cut into parts. The first launch, left out where there is
one part, reduces each but the last to its total, into a workspace; in the second, each part starts from the totals
before it, combined in fixed order. Terms are computed twice, and results stored once. How many parts there
are follows from sizes alone, so results do not depend on the device, and are the same from run to run
(reduce-then-scan: Merrill and Grimshaw 2009, "Parallel Scan for Stream Architectures").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from symgraph import index as ix
from symgraph.graph import Variable
from symgraph.loop import ir
from symgraph.loop.ir import Assign, Declare, For, Let, LoopKernel, Param, Prefix, Statement, Store
from symgraph.loop.lower import Lowered
from symgraph.loop.nest import around, call, extents, nest, size_of, slope, walk, within
from symgraph.loop.split import COLUMN, FEW, MANY, PART, Only, Part, slice_of, some
from symgraph.types import Size, floordiv, product, size_max, size_min, tensor_type

GROUPS = 1024
"""Parts of all rows together, at most: more groups than a GPU has at work at once."""
MOST = 256
"""Parts of a column: each thread goes through the totals before its part by itself."""
WARP = 32
"""What parts of rows are a multiple of, so that each begins where the row of a warp's loads does."""
ZERO, ONE = ix.size_value(0), ix.size_value(1)
LANES = ix.Expr("lanes", (), ix.INT, None, frozenset())


def running_loop(lowered: Lowered) -> For | None:
    """The loop that carries a value, in a kernel that is a running reduction."""
    _, inner = nest(lowered.loops.body, "parallel")
    last = inner[-1] if inner else None
    return last if isinstance(last, For) and last.kind == "running" else None


def split_running(lowered: Lowered) -> list[Part]:
    """The kernels of a running reduction, to be run one after the other."""
    return _Cut(lowered).run()


def reducer(value: ix.Expr) -> str:
    """The function that ``acc = fn(acc, term)`` reduces by, free in its order."""
    free = value.dtype.kind == "f"
    return {"add": "add_reassoc", "multiply": "mul_reassoc"}.get(value.fn, value.fn) if free else value.fn


def parted(loop: For) -> tuple[list[Statement], Assign, Store]:
    """What a step computes before, what it assigns to the running value, and what it stores."""
    *_, store = loop.body
    assert isinstance(store, Store)
    carried = str(store.value.attr if store.value.fn == "name" else store.value.args[0].attr)
    (assign,) = (s for s in loop.body if isinstance(s, Assign) and s.name == carried)
    return [s for s in loop.body if s is not assign and s is not store], assign, store


class _Cut:
    def __init__(self, lowered: Lowered) -> None:
        self.lowered = lowered
        self.chain, self.inner = nest(lowered.loops.body, "parallel")
        self.sizes = extents(lowered)
        self.params = list(lowered.loops.params)
        self.bindings = list(lowered.bindings)
        loop = running_loop(lowered)
        assert loop is not None
        self.loop = loop
        self.before, self.assign, self.stored = parted(loop)
        self.start = self.inner[:-1]

    def run(self) -> list[Part]:
        terms = size_of(self.loop.stop, self.sizes)
        results = product(size_of(c.loop.stop, self.sizes) for c in self.chain)
        rowwise = self.rowwise()
        count = _row_parts(terms, results) if rowwise else _column_parts(terms, results)
        if count == 1:
            loop = self.loop if rowwise else replace(self.loop, kind="serial")
            return [Part(self.made(around(self.chain, [*self.start, loop])), rowwise)]
        return self.cut(rowwise, terms, count)

    def rowwise(self) -> bool:
        """Whether what is stored along the loop lies side by side: no axis after it is a loop."""
        if not self.chain:
            return True
        lets = {s.name: s.value for s in walk(self.lowered.loops.body) if isinstance(s, Let)}
        return slope(self.stored.at, self.chain[-1].loop.index, lets) != 1

    # -- parts --------------------------------------------------------------------------------------------------------

    def cut(self, rowwise: bool, terms: Size, count: Size) -> list[Part]:
        even = WARP if rowwise else 1
        length = self.size("npart", floordiv(terms + count * even - 1, count * even) * even)
        part = ir.name("p0", ix.INT)
        rows = [c.loop.stop for c in self.chain]
        number = [ir.name(c.loop.index, ix.INT) for c in self.chain]
        acc, dtype = self.assign.name, self.assign.value.dtype
        workspace = Variable(
            tensor_type(dtype, (count - 1, *[size_of(e, self.sizes) for e in rows])), name=f"partial {acc}"
        )
        self.params.append(Param("w0_0", "buffer", dtype))
        self.bindings.append(workspace)
        fn = reducer(self.assign.value)
        own, term = self.assign.value.args
        added = Assign(acc, call(fn, own, term, dtype=dtype))
        *ends, loop = self.steps(part, length, "vector", [*self.before, added])
        total = [*ends, some(loop, "begin0_0", self.loop.stop) if rowwise else loop]
        saved = Store("w0_0", _flat([part, *number], rows), ir.name(acc, dtype))
        first = around(self.chain, [*self.start, *total, saved])
        first = [For("p0", ZERO, self.size("nfull", count - 1), "parallel", first)]
        q = ir.name("q0_0", ix.INT)
        old = ix.Expr("load", (_flat([q, *number], rows),), dtype, "w0_0", frozenset())
        # A sum of totals keeps its order: each is long, and they are few.
        carried = Assign(acc, call(self.assign.value.fn, own, old, dtype=dtype))
        stop = self.size("nparts", count)
        earlier = For("q0_0", ZERO, part, "vector", [carried], stop)
        steps = self.steps(part, length, "running" if rowwise else "serial", self.loop.body)
        second = around(self.chain, [*self.start, earlier, *steps])
        second = [For("p0", ZERO, stop, "parallel", second)]
        only = None if isinstance(count, int) else Only(count, several=True)
        return [Part(self.made(first), rowwise, (workspace,), only=only), Part(self.made(second), rowwise)]

    def steps(self, part: ix.Expr, length: ix.Expr, kind: str, body: Sequence[Statement]) -> list[Statement]:
        """The loop over the steps of one part."""
        at, begin, stop = (ir.name(n, ix.INT) for n in ("o0_0", "begin0_0", "stop0_0"))
        rest = call("subtract", self.loop.stop, begin)
        inside: list[Statement] = [Let(self.loop.index, call("add", begin, at)), *body]
        return [
            Let("begin0_0", call("multiply", part, length)),
            Let("stop0_0", call("minimum", length, rest)),
            For("o0_0", ZERO, stop, kind, inside, length),  # type: ignore[arg-type]
        ]

    def size(self, name: str, size: Size) -> ix.Expr:
        """A parameter for a size."""
        if name not in self.sizes:
            self.params.append(Param(name, "size", ix.INT))
            self.bindings.append(size)
            self.sizes[name] = size
        return ir.name(name, ix.INT)

    def made(self, body: list[Statement]) -> Lowered:
        return replace(self.lowered, loops=LoopKernel(self.params, body), bindings=self.bindings)


def _row_parts(terms: Size, rows: Size) -> Size:
    """Into how many parts rows are cut."""
    if (isinstance(terms, int) and terms <= MANY) or (isinstance(rows, int) and rows >= GROUPS):
        return 1
    rows = size_max(rows, 1)
    return size_max(1, size_min(floordiv(GROUPS - 1 + rows, rows), floordiv(terms + PART - 1, PART)))


def _column_parts(terms: Size, columns: Size) -> Size:
    """Into how many parts columns are cut."""
    if (isinstance(terms, int) and terms <= COLUMN) or (isinstance(columns, int) and columns >= FEW):
        return 1
    columns = size_max(columns, 1)
    wanted = size_min(MOST, floordiv(FEW - 1 + columns, columns))
    return size_max(1, size_min(wanted, floordiv(terms + COLUMN - 1, COLUMN)))


def _flat(index: Sequence[ix.Expr], sizes: Sequence[ix.Expr]) -> ix.Expr:
    """The offset of an element, row by row; ``sizes`` are those of all axes but the first."""
    first, *rest = index
    for i, n in zip(rest, sizes, strict=True):
        first = call("add", call("multiply", first, n), i)
    return first


# -- tiles -------------------------------------------------------------------------------------------------------------


def tiles(loop: For, start: ix.Expr, fresh: Callable[..., ix.Expr], scratch: str) -> list[Statement]:
    """A running loop as the lanes of a group go through it together, tile by tile. ``start``: what changes no value."""
    before, assign, store = parted(loop)
    own, term = assign.value.args
    dtype = assign.value.dtype
    tile, begin, end, lanes = (fresh(n) for n in ("tile", "from", "to", "nlanes"))
    value, total = fresh("term", dtype), fresh("all", dtype)

    def joined(a: ix.Expr, b: ix.Expr) -> ix.Expr:
        return call(assign.value.fn, a, b, dtype=dtype)

    where = slice_of(before, {str(e.attr) for e in within([store.at]) if e.fn == "name"})
    result = joined(own, value)
    result = result if store.value.fn == "name" else ix.Expr("cast", (result,), store.value.dtype, None, frozenset())
    inside: list[Statement] = [
        Let(str(begin.attr), call("multiply", tile, lanes)),
        Let(str(end.attr), call("minimum", call("add", begin, lanes), loop.stop)),
        Declare(str(value.attr), start),
        For(loop.index, begin, end, "lane", [*before, Assign(str(value.attr), joined(value, term))]),
        Prefix(str(value.attr), str(total.attr), assign.value.fn, dtype, scratch),
        For(loop.index, begin, end, "lane", [*where, Store(store.buffer, store.at, result)]),
        Assign(assign.name, joined(own, total)),
    ]
    count = call("floor_divide", call("subtract", call("add", loop.stop, lanes), ONE), lanes)
    return [Let(str(lanes.attr), LANES), For(str(tile.attr), ZERO, count, "serial", inside)]
