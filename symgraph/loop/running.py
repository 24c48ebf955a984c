"""Running reductions as loops: a value is carried along an axis, and stored at each step.

* Along the last axis, each row is a loop of its own: ``acc = f(acc, x[row, t]); out[row, t] = acc``. Terms that take
  more than a few operations are computed block by block before, so that they are vectorized.
* Along any other, memory is walked in its order: ``out[t, column] = f(out[t - 1, column], x[t, column])``, with the
  columns in vector registers. What is carried is the row of results before.
* For targets that order loops themselves (``flat``), each row or column is one loop of kind ``running``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from symgraph import index as ix
from symgraph.loop import ir
from symgraph.loop.ir import Assign, For, Let, Store
from symgraph.loop.lower import BLOCK, _Block, _call, _combine, _neutral
from symgraph.op import OPS
from symgraph.passes.fuse import CHEAP
from symgraph.types import product

if TYPE_CHECKING:
    from symgraph.loop.lower import _Lowering
    from symgraph.passes.fuse import Root

NARROW = 8
"""Columns below which a loop over them is not worth starting at each step."""


def lower(lowering: _Lowering, root: Root, top: _Block) -> None:
    """Write the loops of ``root``, whose value is a running reduction, into ``top``."""
    _Running(lowering, root).run(top)


def neutral(kind: str, dtype: np.dtype[Any]) -> Any:
    """What a running value starts from: with any x it gives x, to the sign of zero."""
    return -0.0 if kind == "add" and dtype.kind == "f" else _neutral(kind, dtype)


class _Running:
    def __init__(self, lowering: _Lowering, root: Root) -> None:
        assert root.runs is not None
        self.lowering, self.root, self.axis = lowering, root, root.runs
        e = ix.resolve(root.values[0])
        self.value = ix.resolve(e.args[0]) if e.fn == "cast" else e
        self.kind, _, _, self.reverse = self.value.attr
        self.dtype = self.value.dtype
        (self.out,) = root.variables
        self.index = root.indices[self.axis]
        self.extent = lowering.axes.extents[self.index]
        self.outer = lowering.live(root.indices[: self.axis])
        self.inner = lowering.live(root.indices[self.axis + 1 :])

    def run(self, top: _Block) -> None:
        lw = self.lowering
        columns = product(lw.extents[i] for i in self.inner)
        narrow = isinstance(columns, int) and columns < NARROW
        held = self.dtype == self.out.type.dtype  # results hold the running value
        if self.index in lw.axes.units:
            lw.loops([*self.outer, *self.inner], top, self.single, outermost=True, innermost=True)
        elif not lw.flat and held and not narrow:
            lw.loops(self.outer, top, self.columns, outermost=True, innermost=False)
        elif not lw.flat and held and heavy(self.value.args[0]):
            lw.loops([*self.outer, *self.inner], top, self.blocks, outermost=True, innermost=False)
        else:
            lw.loops([*self.outer, *self.inner], top, self.row, outermost=True, innermost=False)

    # -- parts of loops -----------------------------------------------------------------------------------------------

    def step(self, block: _Block, prefix: str = "j") -> tuple[str, _Block]:
        """The body of a loop along the axis, and the name of its index: with ``reverse`` it counts from the end."""
        lw = self.lowering
        t = lw.fresh(prefix, ix.INT)
        body = _Block(block, (self.index,))
        lw.loop_names[self.index] = self.place(t, body)
        return str(t.attr), body

    def place(self, t: ix.Expr, block: _Block) -> ix.Expr:
        """The index that step ``t`` is at."""
        if not self.reverse:
            return t
        lw = self.lowering
        made = lw.fresh("i", ix.INT)
        last = _call("subtract", lw.size(self.extent), ix.size_value(1))
        block.body.append(Let(str(made.attr), _call("subtract", last, t)))
        return made

    def term(self, block: _Block) -> ix.Expr:
        return self.lowering.value(self.value.args[0], block)

    def at(self, block: _Block, before: ix.Expr | None = None) -> ix.Expr:
        """Where the result is; ``before``: another index along the axis."""
        index = list(self.root.indices)
        index[self.axis] = self.index if before is None else before
        return self.lowering.offset(self.out, index, block)

    def result(self, at: ix.Expr) -> ix.Expr:
        return ix.Expr("load", (at,), self.dtype, self.lowering.buffer(self.out), frozenset())

    def store(self, value: ix.Expr, block: _Block) -> None:
        at = self.at(block)
        block.body.append(Store(self.lowering.buffer(self.out), at, ix.cast(value, self.out.type.dtype)))

    def start(self, block: _Block) -> ix.Expr:
        acc = self.lowering.fresh("acc", self.dtype)
        self.lowering.declare(acc, neutral(self.kind, self.dtype), block)
        return acc

    def joined(self, acc: ix.Expr, term: ix.Expr, block: _Block) -> ix.Expr:
        """``f(acc, term)``. What takes acc in is as short as it can be: each step waits for the one before."""
        if self.lowering.flat or self.kind not in ("maximum", "minimum") or self.dtype.kind != "f":
            return _combine(self.kind, acc, term, self.dtype, ordered=True)
        new = self.lowering.let(term, block) if term.fn != "name" else term
        further = _call("greater" if self.kind == "maximum" else "less", new, acc, dtype=ix.BOOL)
        nan = _call("not_equal", new, new, dtype=ix.BOOL)
        return _call("where", _call("logical_or", further, nan, dtype=ix.BOOL), new, acc, dtype=self.dtype)

    # -- kernels ------------------------------------------------------------------------------------------------------

    def single(self, block: _Block) -> None:
        """An axis of one element."""
        self.store(self.term(block), block)

    def row(self, block: _Block) -> None:
        """One row, or column, with the value in a register."""
        lw = self.lowering
        acc = self.start(block)
        name, inner = self.step(block)
        inner.body.append(Assign(str(acc.attr), self.joined(acc, self.term(inner), inner)))
        self.store(acc, inner)
        kind: Any = "running" if lw.flat else "serial"
        block.body.append(For(name, ix.size_value(0), lw.size(self.extent), kind, inner.body))

    def blocks(self, block: _Block) -> None:
        """One row, block by block: first the terms, in vector registers, into the results; then what they add up to."""
        lw = self.lowering
        acc, b, width, n = self.start(block), lw.fresh("b", ix.INT), lw.size(BLOCK), lw.size(self.extent)
        part = _Block(block)
        begin = lw.let(_call("multiply", b, width), part)
        end = lw.let(_call("minimum", _call("add", begin, width), n), part)
        name, terms = self.step(part)
        self.store(self.term(terms), terms)
        part.body.append(For(name, begin, end, "vector", terms.body, n))
        name, inner = self.step(part)
        inner.body.append(Assign(str(acc.attr), self.joined(acc, self.result(self.at(inner)), inner)))
        self.store(acc, inner)
        part.body.append(For(name, begin, end, "serial", inner.body, n))
        count = _call("floor_divide", _call("add", n, lw.size(BLOCK - 1)), width)
        block.body.append(For(str(b.attr), ix.size_value(0), count, "serial", part.body))

    def columns(self, block: _Block) -> None:
        """All columns, step by step."""
        lw = self.lowering
        split = not self.outer
        one, n = ix.size_value(1), lw.size(self.extent)
        name, first = self.step(block)  # nothing is before it
        lw.loops(self.inner, first, self.single, split, True)
        some = one if isinstance(self.extent, int) and self.extent else _call("minimum", n, one)
        block.body.append(For(name, ix.size_value(0), some, "serial", first.body))
        name, rest = self.step(block)
        before = ix.loop_index()
        lw.loop_names[before] = self.place(_call("subtract", ir.name(name, ix.INT), one), rest)
        inside = _Block(rest, (before,))

        def add(inner: _Block) -> None:
            term, old = self.term(inner), self.result(self.at(inner, before))
            self.store(_combine(self.kind, old, term, self.dtype, ordered=True), inner)

        lw.loops(self.inner, inside, add, split, True)
        block.body.append(For(name, one, n, "serial", [*rest.body, *inside.body]))


def heavy(e: ix.Expr) -> bool:
    """Whether computing ``e`` takes functions that vector registers are worth a way through memory for."""
    stack, seen = [e], set()
    while stack:
        e = ix.resolve(stack.pop())
        if e not in seen:
            seen.add(e)
            if e.dtype.kind == "f" and int(getattr(OPS.get(e.fn), "flops", 0)) > CHEAP:
                return True
            stack.extend(e.args)
    return False
