"""What a matrix product's kernel does with each element of the product, as statements over names that the kernel has.

The kernel (``symgraph_kernels.cuda.matmul``) computes tiles, and is no loop IR; it has names for an element, ``value``,
for its row ``i``, its column ``j``, the outer and the inner index of its matrix in the batch, ``p`` and ``q``, and for
where it lies, ``at``. The map that follows is lowered like any other kernel. Then its loops go, and their indices get
values: a row or a column as it is, several axes together by multiplication, a part of them by division.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from symgraph import index as ix
from symgraph.graph import Variable
from symgraph.loop import ir
from symgraph.loop.axes import analyse
from symgraph.loop.ir import Assign, Declare, For, If, Let, Param, Statement, Store
from symgraph.loop.lower import lower
from symgraph.loop.nest import call as made
from symgraph.loop.nest import expressions, walk
from symgraph.passes.fuse import Kernel
from symgraph.passes.library import LibraryCall
from symgraph.types import Size, product

AT = ir.name("at", ix.INT)


@dataclass(eq=False)
class Epilogue:
    """Statements for one element, the parameters that they need besides the product's, and what those are bound to."""

    body: list[Statement]
    params: list[Param]
    bindings: list[Variable | Size | np.generic]


def epilogue(call: LibraryCall) -> Epilogue:
    """What is done with each element of a product: added to what there is, stored, put into the map that follows."""
    dtype = call.product.type.dtype
    value = ir.name("value", dtype)
    body: list[Statement] = []
    params: list[Param] = []
    bindings: list[Variable | Size | np.generic] = []
    if call.accumulates:
        there = ix.Expr("load", (AT,), dtype, "c", frozenset())
        body.append(Assign("value", made("add", there, value, dtype=dtype)))
    if call.keeps:
        body.append(Store("c", AT, value))
    if call.accumulates or call.keeps:
        params.append(Param("c", "buffer", dtype))
        bindings.append(call.product if call.keeps else call.node.inputs[0])
    if call.epilogue is not None:
        after = _Map(call, call.epilogue, value)
        body += after.body
        names = {str(e.attr) for e in expressions(body) if e.fn in ("name", "load")}
        names |= {s.buffer for s in walk(body) if isinstance(s, Store)}
        for p, b in zip(after.params, after.bindings, strict=True):
            if p.name in names:
                params.append(p)
                bindings.append(b)
    return Epilogue(body, params, bindings)


class _Map:
    """The map ``kernel`` at one element of the product."""

    def __init__(self, call: LibraryCall, kernel: Kernel, value: ix.Expr) -> None:
        self.call, self.value = call, value
        lowered = lower(kernel, flat=True)
        self.params = list(lowered.loops.params)
        self.bindings: list[Variable | Size | np.generic] = list(lowered.bindings)
        self.own = next(
            (p.name for p, b in zip(self.params, self.bindings, strict=True) if b is call.product), None
        )  # fmt: skip
        self.shape = call.product.type.shape
        self.axes = [a for a, n in enumerate(self.shape) if n != 1]
        self.body: list[Statement] = []
        body = lowered.loops.body
        for group in self.groups(kernel):
            *before, loop = body
            assert isinstance(loop, For)
            self.body += [*self.with_value(before), Let(loop.index, self.index(group))]
            body = loop.body
        self.body += self.with_value(body)

    # -- indices ------------------------------------------------------------------------------------------------------

    def groups(self, kernel: Kernel) -> list[list[int]]:
        """The axes that each loop of the kernel runs over."""
        axes = analyse(kernel)
        out: list[list[int]] = []
        going_on = False
        for a in self.axes:
            out = [*out[:-1], [*out[-1], a]] if going_on else [*out, [a]]
            going_on = kernel.roots[0].indices[a] in axes.folded
        return out

    def index(self, group: Sequence[int]) -> ix.Expr:
        """The index over the axes ``group`` together, from what the product's kernel has.

        Axes that are rows together, or columns, are neighbours: else their strides fit only where there is no element.
        """
        if list(group) == self.axes:
            return AT
        names = ("i", "j", *("pq"[2 - len(self.call.matrices.batch) :]))
        total: ix.Expr | None = None
        for run, name in sorted(zip(self.call.matrices.axes, names, strict=True)):
            axes = [a for a in run if self.shape[a] != 1]
            common = [a for a in axes if a in group]
            if not common:
                continue
            part = ir.name(name, ix.INT)
            behind = [a for a in axes if a > common[-1]]
            if behind:
                part = made("floor_divide", part, self.size(behind))
            if common[0] != axes[0]:
                part = made("remainder", part, self.size(common))
            total = part if total is None else made("add", made("multiply", total, self.size(common)), part)
        assert total is not None
        return total

    def size(self, axes: Sequence[int]) -> ix.Expr:
        """A parameter for the product of the sizes of axes."""
        size = product(self.shape[a] for a in axes)
        for p, b in zip(self.params, self.bindings, strict=True):
            if p.kind == "size" and b == size:
                return ir.name(p.name, ix.INT)
        self.params.append(Param(f"n{sum(p.kind == 'size' for p in self.params)}", "size", ix.INT))
        self.bindings.append(size)
        return ir.name(self.params[-1].name, ix.INT)

    # -- the product's own element ------------------------------------------------------------------------------------

    def with_value(self, body: Sequence[Statement]) -> list[Statement]:
        """``body`` with ``value`` in place of the loads of the product."""
        out: list[Statement] = []
        for s in body:
            if isinstance(s, If):
                out.append(If(self.known(s.condition), self.with_value(s.then), self.with_value(s.otherwise)))
            elif isinstance(s, Store):
                out.append(replace(s, at=self.known(s.at), value=self.known(s.value)))
            else:
                assert isinstance(s, Let | Declare | Assign)
                out.append(replace(s, value=self.known(s.value)))
        return out

    def known(self, e: ix.Expr) -> ix.Expr:
        """``e``, which is no deeper than what stands in one line, with ``value`` in place of the product's element."""
        if e.fn == "load" and e.attr == self.own:
            return self.value
        args = tuple(map(self.known, e.args))
        if all(a is b for a, b in zip(args, e.args, strict=True)):
            return e
        return ix.Expr(e.fn, args, e.dtype, e.attr, frozenset())


def loops(call: LibraryCall, after: Epilogue, params: Sequence[Param]) -> ir.LoopKernel:
    """A product with its epilogue as loops over all elements, to be read and checked; ``params`` are the kernel's."""
    dtype = call.product.type.dtype
    indices = [ir.name(i, ix.INT) for i in "pqij"]
    value = Declare("value", ix.Expr("product", tuple(indices), dtype, None, frozenset()))
    at: ix.Expr | None = None
    for index, stride in zip(indices[:3], ("c_outer", "c_inner", "ldc"), strict=True):
        term = made("multiply", index, ir.name(stride, ix.INT))
        at = term if at is None else made("add", at, term)
    assert at is not None
    body: list[Statement] = [value, Let("at", made("add", at, indices[3])), *after.body]
    kinds: list[tuple[str, str, Any]] = [
        ("j", "n", "lane"),
        ("i", "m", "group"),
        ("q", "inner", "group"),
        ("p", "outer", "group"),
    ]
    for index_name, stop, kind in kinds:
        body = [For(index_name, ix.size_value(0), ir.name(stop, ix.INT), kind, body)]
    return ir.LoopKernel([*params, *after.params], body)
