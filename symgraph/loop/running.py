"""Running reductions as loops: a value is carried along an axis, and stored at each step.

* Along the last axis, each row is a loop of its own: ``acc = f(acc, x[row, t]); out[row, t] = acc``.
* Along any other, memory is walked in its order: ``out[t, column] = f(out[t - 1, column], x[t, column])``, with the
  columns in vector registers. What is carried is the row of results before.
* For targets that order loops themselves (``flat``), each row or column is one loop of kind ``running``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from symgraph import index as ix
from symgraph.loop.ir import Assign, For, Let, Store
from symgraph.loop.lower import _Block, _call, _combine, _neutral
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
        self.lowering, self.root = lowering, root
        e = ix.resolve(root.values[0])
        self.value = ix.resolve(e.args[0]) if e.fn == "cast" else e
        self.kind, _, _, self.reverse = self.value.attr
        self.dtype = self.value.dtype
        (self.out,) = root.variables
        self.index = root.indices[root.runs]
        self.outer = lowering.live(root.indices[: root.runs])
        self.inner = lowering.live(root.indices[root.runs + 1 :])

    def run(self, top: _Block) -> None:
        lw = self.lowering
        columns = product(lw.extents[i] for i in self.inner)
        narrow = isinstance(columns, int) and columns < NARROW
        if lw.flat or narrow or self.dtype != self.out.type.dtype or self.index in lw.axes.units:
            lw.loops([*self.outer, *self.inner], top, self.row, outermost=True, innermost=False)
        else:
            lw.loops(self.outer, top, self.columns, outermost=True, innermost=False)

    def place(self, t: ix.Expr, block: _Block, name: str = "i") -> ix.Expr:
        """The index that step ``t`` is at."""
        if not self.reverse:
            return t
        lw = self.lowering
        n = lw.size(lw.extents[self.index])
        made = lw.fresh(name, ix.INT)
        block.body.append(Let(str(made.attr), _call("subtract", _call("subtract", n, ix.size_value(1)), t)))
        return made

    def term(self, block: _Block) -> ix.Expr:
        return self.lowering.value(self.value.args[0], block)

    def store(self, value: ix.Expr, block: _Block) -> None:
        lw = self.lowering
        at = lw.offset(self.out, self.root.indices, block)
        block.body.append(Store(lw.buffer(self.out), at, ix.cast(value, self.out.type.dtype)))

    def row(self, block: _Block) -> None:
        """One row, or column, with the value in a register."""
        lw = self.lowering
        if self.index in lw.axes.units:
            self.store(self.term(block), block)
            return
        acc, t = lw.fresh("acc", self.dtype), lw.fresh("j", ix.INT)
        lw.declare(acc, neutral(self.kind, self.dtype), block)
        inner = _Block(block, (self.index,))
        lw.loop_names[self.index] = self.place(t, inner)
        term = self.term(inner)
        inner.body.append(Assign(str(acc.attr), _combine(self.kind, acc, term, self.dtype, ordered=True)))
        self.store(acc, inner)
        size = lw.size(lw.extents[self.index])
        kind: Any = "running" if lw.flat else "serial"
        block.body.append(For(str(t.attr), ix.size_value(0), size, kind, inner.body))

    def columns(self, block: _Block) -> None:
        """All columns, step by step; the first step has nothing before it."""
        lw = self.lowering
        split = not self.outer
        extent = lw.extents[self.index]
        size, one, zero = lw.size(extent), ix.size_value(1), ix.size_value(0)
        first_stop = one if isinstance(extent, int) and extent else _call("minimum", size, one)
        for start, stop in ((zero, first_stop), (one, size)):
            t = lw.fresh("j", ix.INT)
            before = ix.loop_index()
            step = _Block(block, (self.index, before))
            lw.loop_names[self.index] = self.place(t, step)
            if start is one:
                back = _call("subtract", t, one)
                lw.loop_names[before] = name = lw.fresh("before", ix.INT)
                lw_before = self.place(back, step) if self.reverse else back
                step.body.append(Let(str(name.attr), lw_before))

            def element(inner: _Block, carries: bool = start is one, before: ix.Expr = before) -> None:
                term = self.term(inner)
                if carries:
                    index = list(self.root.indices)
                    assert self.root.runs is not None
                    index[self.root.runs] = before
                    at = lw.offset(self.out, index, inner)
                    old = ix.Expr("load", (at,), self.dtype, lw.buffer(self.out), frozenset())
                    term = _combine(self.kind, old, term, self.dtype, ordered=True)
                self.store(term, inner)

            lw.loops(self.inner, step, element, split, True)
            block.body.append(For(str(t.attr), start, stop, "serial", step.body))
