"""From a fused kernel in index form to a nest of loops.

Every expression is placed in the outermost loop that binds all indices it depends on, once: this is where common
subexpressions and loop-invariant code are dealt with. Reductions become loops at the level of their free indices.
Adjacent axes that all tensors step through together become one loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from symgraph import index as ix
from symgraph.graph import Apply, Variable
from symgraph.loop import ir
from symgraph.loop.axes import analyse
from symgraph.loop.ir import Assign, Atomic, Check, Declare, For, If, Let, LoopKernel, Param, Store
from symgraph.ops.reduce import positions_below
from symgraph.passes.fuse import Kernel, Root
from symgraph.types import Size, product

BLOCK = 1024
"""Terms that one partial sum adds up. Partial sums are added with compensation: the error stays that of one block."""
INDEX_ERROR = 1
"""Base of the error codes for indices out of range."""


@dataclass(eq=False)
class Lowered:
    """A kernel's loops, and what each of its parameters is bound to."""

    loops: LoopKernel
    bindings: list[Variable | Size | np.generic]
    extent: Size  # of the parallel axis; 1 where there is none
    checks: list[Apply]  # the node whose index is out of range, by error code
    work: tuple[Size, ...]  # numbers of iterations of its nests; the largest is what takes the time


class _Block:
    """Statements under construction. ``vars`` are the loop indices it binds; a fenced block keeps what is in it."""

    def __init__(self, parent: _Block | None, vars: Iterable[ix.Expr] = (), fence: bool = False) -> None:
        self.parent = parent
        self.vars = frozenset(vars)
        self.fence = fence
        self.body: list[ir.Statement] = []
        self.names: dict[Any, ix.Expr] = {}


class _Lowering:
    """``flat``: for targets that order reductions themselves, every reduction is one plain nest of loops."""

    def __init__(self, kernel: Kernel, flat: bool) -> None:
        self.kernel = kernel
        self.flat = flat
        self.params: dict[Any, Param] = {}
        self.bindings: list[Variable | Size | np.generic] = []
        self.serials: dict[str, int] = {}
        self.checks: list[Apply] = []
        self.axes = analyse(kernel)
        self.same = self.axes.same
        self.extents = self.axes.extents
        self.loop_names: dict[ix.Expr, ix.Expr] = {}
        self.numbers: dict[Any, int] = {}
        self.numbered: dict[ix.Expr, int] = {}
        self.counts: dict[int, int] = {}
        self.parallel: Size = 1

    # -- parameters and names -----------------------------------------------------------------------------------------

    def param(self, key: Any, prefix: str, kind: Any, dtype: np.dtype[Any], bound: Any) -> ix.Expr:
        found = self.params.get(key)
        if found is None:
            number = sum(p.kind == kind for p in self.params.values())
            found = self.params[key] = Param(f"{prefix}{number}", kind, dtype)
            self.bindings.append(bound)
        return ir.name(found.name, dtype)

    def buffer(self, v: Variable) -> str:
        return str(self.param(v, "x", "buffer", v.type.dtype, v).attr)

    def size(self, size: Size) -> ix.Expr:
        if isinstance(size, int) and size in (0, 1):
            return ix.size_value(size)
        return self.param(("size", size), "n", "size", ix.INT, size)

    def const(self, e: ix.Expr) -> ix.Expr:
        value = e.dtype.type(e.attr)
        return self.param(("const", e.dtype, value.tobytes()), "c", "const", e.dtype, value)

    def fresh(self, prefix: str, dtype: np.dtype[Any]) -> ix.Expr:
        n = self.serials[prefix] = self.serials.get(prefix, -1) + 1
        return ir.name(f"{prefix}{n}", dtype)

    # -- equality and counts ------------------------------------------------------------------------------------------

    def number(self, e: ix.Expr) -> int:
        """Equal expressions have equal numbers."""
        e = self.canonical(e)
        stack = [e]
        while stack:  # an expression is as deep as the kernel is long
            top = stack[-1]
            if top not in self.numbered:
                args = [] if top.fn in ("index", "reduce") else [self.canonical(a) for a in top.args]
                waiting = [a for a in args if a not in self.numbered]
                if waiting:
                    stack.extend(waiting)
                    continue
                self.numbered[top] = self.numbers.setdefault(self.key(top, args), len(self.numbers))
            stack.pop()
        return self.numbered[e]

    def canonical(self, e: ix.Expr) -> ix.Expr:
        """What an access was replaced by; for a root's index, the kernel's."""
        e = ix.resolve(e)
        return self.same.get(e, e)

    def key(self, e: ix.Expr, args: Sequence[ix.Expr]) -> Any:
        if e.fn in ("index", "reduce"):
            return e
        numbers = [self.numbered[a] for a in args]
        if isinstance(e, ix.Access):
            return (e.variable, *numbers)
        return (e.fn, e.dtype, repr(e.attr) if e.fn == "const" else e.attr, *numbers)

    def count(self, e: ix.Expr) -> None:
        """Count the uses of each expression below ``e``."""
        stack = [e]
        while stack:
            e = ix.resolve(stack.pop())
            n = self.number(e)
            self.counts[n] = self.counts.get(n, 0) + 1
            if self.counts[n] == 1:
                stack.extend(e.args)

    def live(self, indices: Iterable[ix.Expr]) -> list[ix.Expr]:
        """Those that become loops of their own."""
        return [i for i in indices if i not in self.axes.folded and i not in self.axes.units]

    # -- values -------------------------------------------------------------------------------------------------------

    def place(self, e: ix.Expr, block: _Block) -> _Block:
        free = {self.same.get(i, i) for i in e.free}
        while block.parent is not None and not block.fence and not (block.vars & free):
            block = block.parent
        return block

    def value(self, e: ix.Expr, block: _Block) -> ix.Expr:
        """``e`` as a tree over names; statements that it needs are put where they belong."""
        e = self.canonical(e)
        stack = [e]
        visited: set[ix.Expr] = set()
        while stack:  # operands first, without recursion: an expression is as deep as the kernel is long
            top = stack[-1]
            # What reductions, branches and indices contain is written in blocks of their own.
            closed = top.fn in ("reduce", "guard", "extremum") or isinstance(top, ix.Access)
            if not closed and top not in visited:
                visited.add(top)
                waiting = [a for a in map(self.canonical, top.args) if a.args and a not in visited]
                stack.extend(a for a in reversed(waiting) if self.known(a, block) is None)
                if stack[-1] is not top:
                    continue
            self.one(stack.pop(), block)
        return self.one(e, block)

    def known(self, e: ix.Expr, block: _Block) -> ix.Expr | None:
        """What ``e`` was written as before, where that can be seen from ``block``."""
        number = self.number(e)
        at: _Block | None = self.place(e, block)
        while at is not None:
            if number in at.names:
                return at.names[number]
            at = at.parent
        return None

    def one(self, e: ix.Expr, block: _Block) -> ix.Expr:
        """:meth:`value`, of an expression whose operands are written already."""
        if e.fn == "index":
            return ix.size_value(0) if e in self.axes.units else self.loop_names[e]
        if e.fn == "const":
            return (
                e
                if e.dtype == ix.INT and e.attr in (0, 1)
                else self.size(e.attr)
                if e.dtype == ix.INT
                else self.const(e)
            )
        if e.fn == "size":
            return self.size(e.attr)
        found = self.known(e, block)
        if found is not None:
            return found
        number, home = self.number(e), self.place(e, block)
        with ix.made_for(e.origin):
            return self.write(e, number, home, block)

    def write(self, e: ix.Expr, number: int, home: _Block, block: _Block) -> ix.Expr:
        if e.fn == "reduce":
            made = self.reduce(e, home)
        elif e.fn == "extremum":
            self.value(e.args[0], block)
            made = home.names["extremum", self.number(e.args[0])]
        elif e.fn == "guard":
            made = self.guard(e, home)
        elif e.fn == "checked_index":
            made = self.checked(e, home)
        elif isinstance(e, ix.Access):
            made = self.load(e, home)
        else:
            args = tuple(self.one(self.canonical(a), home) for a in e.args)
            made = ix.Expr(e.fn, args, e.dtype, e.attr, frozenset())
        if made.fn not in ("name", "const") and (self.counts.get(number, 1) > 1 or home is not block or _deep(made)):
            made = self.let(made, home)
        home.names[number] = made
        return made

    def let(self, e: ix.Expr, block: _Block) -> ix.Expr:
        name = self.fresh("v", e.dtype)
        block.body.append(Let(str(name.attr), e))
        return name

    def offset(self, v: Variable, index: Sequence[ix.Expr], block: _Block) -> ix.Expr:
        """The flat offset of an element: index times row-major strides."""
        shape = v.type.shape
        total: ix.Expr = ix.size_value(0)
        for k, e in enumerate(index):
            e = self.canonical(e)
            if e in self.axes.folded or (shape[k] == 1 and e.fn in ("index", "const")):
                continue
            term = ix.as_index(e) * ix.size_value(product(shape[k + 1 :]))
            total = total + term
        return self.value(total, block)

    def load(self, e: ix.Access, block: _Block) -> ix.Expr:
        return ix.Expr("load", (self.offset(e.variable, e.args, block),), e.dtype, self.buffer(e.variable), frozenset())

    def guard(self, e: ix.Expr, block: _Block) -> ix.Expr:
        condition, inside, outside = e.args
        out = self.fresh("g", e.dtype)
        then, otherwise = _Block(block, fence=True), _Block(block, fence=True)
        test = self.value(condition, block)
        block.body.append(Declare(str(out.attr), ix.cast(self.value(ix.const(0, e.dtype), block), e.dtype)))
        then.body.append(Assign(str(out.attr), self.value(inside, then)))
        otherwise.body.append(Assign(str(out.attr), self.value(outside, otherwise)))
        block.body.append(If(test, then.body, otherwise.body))
        return out

    def checked(self, e: ix.Expr, block: _Block) -> ix.Expr:
        i, n = (self.value(a, block) for a in e.args)
        i = self.let(i, block) if i.fn != "name" else i
        found = ix.resolve(e.args[0])
        if isinstance(found, ix.Access) and positions_below(found.variable) == e.args[1].attr:
            return i
        low = _call("greater_equal", i, _call("negative", n), dtype=ix.BOOL)
        inside = _call("logical_and", low, _call("less", i, n, dtype=ix.BOOL), dtype=ix.BOOL)
        block.body.append(Check(inside, INDEX_ERROR + len(self.checks)))
        self.checks.append(e.attr)
        wraps = _call("less", i, ix.size_value(0), dtype=ix.BOOL)
        return _call("where", wraps, _call("add", i, n), i)

    # -- reductions ---------------------------------------------------------------------------------------------------

    def reduce(self, e: ix.Expr, block: _Block) -> ix.Expr:
        kind, indices, _ = e.attr
        if kind in ("argmax", "argmin"):
            return self.argreduce(e, block)
        loops = self.live(indices)
        acc = self.fresh("acc", e.dtype)
        self.declare(acc, _neutral(kind, e.dtype), block)
        innermost = self.extents[loops[-1]] if loops else 1
        short = isinstance(innermost, int) and innermost <= BLOCK
        if kind == "add" and e.dtype.kind == "f" and not short and not self.flat:
            return self.blocked_sum(e, loops, acc, block)

        def step(inner: _Block) -> None:
            term = ix.cast(self.value(e.args[0], inner), e.dtype)
            inner.body.append(Assign(str(acc.attr), _combine(kind, acc, term, e.dtype)))

        self.nest(loops, block, step)
        return acc

    def blocked_sum(self, e: ix.Expr, loops: list[ix.Expr], acc: ix.Expr, block: _Block) -> ix.Expr:
        """Sums of BLOCK terms, free in their order, added up with Neumaier's compensation."""
        last = loops[-1]
        lost = self.fresh("lost", e.dtype)
        self.declare(lost, 0, block)
        n = self.size(self.extents[last])

        def rows(outer: _Block) -> None:
            start, step = self.fresh("b", ix.INT), self.size(BLOCK)
            part, total = self.fresh("part", e.dtype), self.fresh("t", e.dtype)
            chunk = _Block(outer)
            self.declare(part, 0, chunk)
            begin = self.let(_call("multiply", start, step), chunk)
            end = _call("minimum", _call("add", begin, step), n)
            index = self.fresh("k", ix.INT)
            self.loop_names[last] = index
            inner = _Block(chunk, (last,))
            term = ix.cast(self.value(e.args[0], inner), e.dtype)
            inner.body.append(Assign(str(part.attr), _combine("add", part, term, e.dtype)))
            chunk.body.append(For(str(index.attr), begin, end, "vector", inner.body, total=n))
            chunk.body.append(Let(str(total.attr), _call("add", acc, part)))
            bigger = _call("greater_equal", _call("absolute", acc), _call("absolute", part), dtype=ix.BOOL)
            one = _call("add", _call("subtract", acc, total), part)
            two = _call("add", _call("subtract", part, total), acc)
            chunk.body.append(Assign(str(lost.attr), _call("add", lost, _call("where", bigger, one, two))))
            chunk.body.append(Assign(str(acc.attr), total))
            blocks = _call("floor_divide", _call("add", n, self.size(BLOCK - 1)), step)
            outer.body.append(For(str(start.attr), ix.size_value(0), blocks, "serial", chunk.body))

        self.nest(loops[:-1], block, rows)
        # An infinite sum makes the compensation inf - inf; it is then left out.
        whole = _call("equal", lost, lost, dtype=ix.BOOL)
        return self.let(_call("where", whole, _call("add", acc, lost), acc), block)

    def argreduce(self, e: ix.Expr, block: _Block) -> ix.Expr:
        """The extremum first, then the least index that has it: two loops that vectorize, where one would not."""
        kind, (index,), (extent,) = e.attr
        dtype = e.args[0].dtype
        best, at = self.fresh("best", dtype), self.fresh("at", ix.INT)
        reducer = "maximum" if kind == "argmax" else "minimum"
        self.declare(best, _neutral(reducer, dtype), block)
        block.body.append(Declare(str(at.attr), self.size(extent)))

        def extremum(inner: _Block) -> None:
            term = self.value(e.args[0], inner)
            inner.body.append(Assign(str(best.attr), _combine(reducer, best, term, dtype)))

        def place(inner: _Block) -> None:
            v = self.let(self.value(e.args[0], inner), inner)
            found = _call("equal", v, best, dtype=ix.BOOL)
            if dtype.kind == "f":  # the first nan wins, as in NumPy
                found = _call("logical_or", found, _call("not_equal", v, v, dtype=ix.BOOL), dtype=ix.BOOL)
            here = _call("where", found, self.value(index, inner), self.size(extent))
            inner.body.append(Assign(str(at.attr), _combine("minimum", at, here, ix.INT)))

        self.nest(self.live((index,)), block, extremum)
        self.nest(self.live((index,)), block, place)
        block.names["extremum", self.number(e)] = best
        return at

    def declare(self, name: ix.Expr, value: Any, block: _Block) -> None:
        block.body.append(Declare(str(name.attr), self.value(ix.const(value, name.dtype), block)))

    def nest(self, loops: Sequence[ix.Expr], block: _Block, inside: Callable[[_Block], None]) -> None:
        """Serial loops over ``loops`` around what ``inside`` writes; the innermost may vectorize."""
        if not loops:
            inside(block)
            return
        head, *rest = loops
        name = self.loop_names[head] = self.fresh("k", ix.INT)
        inner = _Block(block, (head,))
        self.nest(rest, inner, inside)
        kind: Any = "serial" if rest else "vector"
        block.body.append(For(str(name.attr), ix.size_value(0), self.size(self.extents[head]), kind, inner.body))

    # -- kernels ------------------------------------------------------------------------------------------------------

    def run(self) -> Lowered:
        from symgraph.loop import running  # it is made of what is in this file

        for r in self.kernel.roots:
            for e in r.values:
                self.count(e)
        top = _Block(None)
        first = self.kernel.roots[0]
        if first.accumulates and ix.resolve(first.values[0]).fn == "reduce" and not self.flat:
            self.column(first, top)
        elif first.runs is not None:
            running.lower(self, first, top)
        else:
            common = self.live(first.indices[: self.kernel.depth])
            single = self.kernel.depth == len(first.shape) and all(
                len(r.shape) == len(first.shape) for r in self.kernel.roots
            )
            self.loops(common, top, self.roots, outermost=True, innermost=single)
        loops = LoopKernel(list(self.params.values()), top.body)
        return Lowered(loops, self.bindings, self.parallel, self.checks, tuple(dict.fromkeys(self.axes.work)))

    def loops(
        self,
        indices: Sequence[ix.Expr],
        block: _Block,
        inside: Callable[[_Block], None],
        outermost: bool,
        innermost: bool,
    ) -> None:
        """Loops over output axes; the outermost one is the kernel's parallel axis."""
        if not indices:
            inside(block)
            return
        head, *rest = indices
        name = self.loop_names[head] = self.fresh("i", ix.INT)
        inner = _Block(block, (head,))
        self.loops(rest, inner, inside, False, innermost)
        extent = self.extents[head]
        start, stop = ir.name("lo", ix.INT), ir.name("hi", ix.INT)
        if outermost:
            self.parallel = extent
        if self.flat or not outermost:
            start, stop = ix.size_value(0), self.size(extent)
        leaf = innermost and not rest and not any(isinstance(s, For) for s in inner.body)
        kind: Any = "vector" if leaf else "parallel" if outermost else "serial"
        kind = "parallel" if self.flat else kind
        block.body.append(For(str(name.attr), start, stop, kind, inner.body))

    def roots(self, block: _Block) -> None:
        for r in self.kernel.roots:
            if r.write is not None:
                self.nest(self.live(r.indices), block, partial(self.scatter, r))
                _serialize(block.body)
                continue
            rest = self.live(r.indices[self.kernel.depth :])
            self.loops(rest, block, partial(self.store, r), False, True)

    def store(self, r: Root, block: _Block) -> None:
        values = [self.value(e, block) for e in r.values]
        values = [
            self.let(v, block) if v.fn not in ("name", "const") and len(self.kernel.roots) > 1 else v for v in values
        ]
        for v, value in zip(r.variables, values, strict=True):
            block.body.append(Store(self.buffer(v), self.offset(v, r.indices, block), ix.cast(value, v.type.dtype)))
            if value.fn in ("name", "const") and value.dtype == v.type.dtype:
                # Later roots that load this element find it in a register.
                key = (v, *[self.number(i) for i in r.indices])
                block.names[self.numbers.setdefault(key, len(self.numbers))] = value

    def scatter(self, r: Root, block: _Block) -> None:
        assert r.write is not None
        (out,) = r.variables
        value = self.value(r.values[-1], block)
        value = self.let(value, block) if value.fn != "name" else value
        at = self.offset(out, r.values[:-1], block)
        at = self.let(at, block) if at.fn not in ("name", "const") else at
        if r.write.mode == "add" and self.flat:
            coordinates = (self.canonical(e) for e in r.values[:-1])
            own = tuple(str(self.loop_names[e].attr) for e in coordinates if e in self.loop_names)
            block.body.append(Atomic(self.buffer(out), at, value, own))
            return
        if r.write.mode == "add":
            old = ix.Expr("load", (at,), out.type.dtype, self.buffer(out), frozenset())
            value = _combine("add", old, value, out.type.dtype, ordered=True)
        block.body.append(Store(self.buffer(out), at, value))

    def column(self, r: Root, top: _Block) -> None:
        """A reduction over leading axes, added up in memory row by row, so that memory is walked in its order."""
        e = ix.resolve(r.values[0])
        kind, reduced, _ = e.attr
        (out,) = r.variables
        axes = r.node.op.axes  # type: ignore[union-attr]
        rank = len(r.indices) + len(axes)
        kept = iter(r.indices)
        order = [(a in axes) for a in range(rank)]
        sequence = [(flag, next(kept) if not flag else None) for flag in order]
        lead = order.index(True)
        outer = self.live([i for _, i in sequence[:lead] if i is not None])
        inner = self.live([i for _, i in sequence[lead:] if i is not None])
        last_kept = max(a for a in range(rank) if not order[a])
        head = [k for k, a in zip(reduced, sorted(axes), strict=True) if a < last_kept]
        tail = [k for k, a in zip(reduced, sorted(axes), strict=True) if a > last_kept]
        head, tail = self.live(head), self.live(tail)
        neutral = ix.const(_neutral(kind, e.dtype), e.dtype)

        def element(block: _Block) -> ix.Expr:
            return ix.Expr("load", (self.offset(out, r.indices, block),), e.dtype, self.buffer(out), frozenset())

        def clear(block: _Block) -> None:
            at = self.offset(out, r.indices, block)
            block.body.append(Store(self.buffer(out), at, self.value(neutral, block)))

        def add(block: _Block) -> None:
            if tail:
                acc = self.fresh("acc", e.dtype)
                self.declare(acc, _neutral(kind, e.dtype), block)

                def step(deep: _Block) -> None:
                    term = ix.cast(self.value(e.args[0], deep), e.dtype)
                    deep.body.append(Assign(str(acc.attr), _combine(kind, acc, term, e.dtype)))

                self.nest(tail, block, step)
                term = acc
            else:
                term = ix.cast(self.value(e.args[0], block), e.dtype)
            at = self.offset(out, r.indices, block)
            block.body.append(Store(self.buffer(out), at, _combine(kind, element(block), term, e.dtype, ordered=True)))

        def rows(block: _Block) -> None:
            split = not outer
            self.loops(inner, block, clear, split, True)
            self.sweep(head, block, lambda b: self.loops(inner, b, add, split, not tail))

        self.loops(outer, top, rows, True, False)

    def sweep(self, loops: Sequence[ix.Expr], block: _Block, inside: Callable[[_Block], None]) -> None:
        self.nest(loops, block, inside)
        _serialize(block.body[-1:])


def _serialize(body: Sequence[ir.Statement]) -> None:
    """Loops that add into memory which other iterations add into as well do not vectorize."""
    for s in body:
        if isinstance(s, For) and s.kind == "vector" and s.index.startswith("k"):
            s.kind = "serial"
        if isinstance(s, For) and s.index.startswith("k"):
            _serialize(s.body)


def _call(fn: str, *args: ix.Expr, dtype: np.dtype[Any] | None = None) -> ix.Expr:
    return ix.Expr(fn, args, dtype if dtype is not None else args[-1].dtype, None, frozenset())


def _deep(e: ix.Expr, limit: int = 6) -> bool:
    return limit == 0 or any(_deep(a, limit - 1) for a in e.args)


def _neutral(kind: str, dtype: np.dtype[Any]) -> Any:
    if kind in ("maximum", "minimum"):
        if dtype.kind == "b":
            return kind == "minimum"
        if dtype.kind == "f":
            return -np.inf if kind == "maximum" else np.inf
        info = np.iinfo(dtype)
        return info.min if kind == "maximum" else info.max
    return {"add": 0, "multiply": 1, "logical_and": True, "logical_or": False}[kind]


def _combine(kind: str, acc: ix.Expr, term: ix.Expr, dtype: np.dtype[Any], ordered: bool = False) -> ix.Expr:
    if kind in ("add", "multiply") and dtype.kind == "f" and not ordered:
        return _call({"add": "add_reassoc", "multiply": "mul_reassoc"}[kind], acc, term, dtype=dtype)
    if dtype.kind == "b":
        kind = {"add": "logical_or", "multiply": "logical_and", "maximum": "logical_or", "minimum": "logical_and"}.get(
            kind, kind
        )
    return _call(kind, acc, term, dtype=dtype)


def lower(kernel: Kernel, flat: bool = False) -> Lowered:
    """The loops of a fused kernel.

    ``flat``: before any order is chosen. Each reduction is one nest of loops and is not cut into blocks, loops over the
    results are all ``parallel`` and run from 0, and scatters add with ``Atomic``.
    """
    return _Lowering(kernel, flat).run()
