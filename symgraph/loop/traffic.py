"""Which elements of stored tensors a kernel reads and writes: each once, however often the loops come to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from symgraph import index as ix
from symgraph.graph import Apply, Variable
from symgraph.loop.region import (
    Box,
    Conditions,
    Env,
    Range,
    Reach,
    Regions,
    as_polynomial,
    distinct,
    parse,
    split,
    symbol,
)
from symgraph.passes.fuse import Kernel, Root, Step
from symgraph.passes.library import HostCall, LibraryCall, View, row_major
from symgraph.types import Atom, Size, atoms, product, size_min


@dataclass
class Accesses:
    """The accesses to a tensor of ``shape``, and the node on whose behalf it is accessed first."""

    node: Apply | None
    shape: tuple[Size, ...]
    reaches: list[Reach] = field(default_factory=list)

    def elements(self, env: Env) -> tuple[Size, bool]:
        """How many elements they reach, each once, and whether that is exact or at most."""
        return distinct(self.reaches, self.shape, env)


@dataclass
class Traffic:
    """What a kernel loads and stores. What it stores itself is not counted as read where it reads it back."""

    reads: dict[Variable, Accesses] = field(default_factory=dict)
    writes: dict[Variable, Accesses] = field(default_factory=dict)


def traffic(step: Step) -> Traffic:
    """The tensors that a step reads and writes, with the elements that it reaches."""
    if isinstance(step, Kernel):
        return _Walk(step).run()
    return _product(step) if isinstance(step, LibraryCall) else _whole(step)


def _whole(call: HostCall) -> Traffic:
    out = Traffic()
    for table, variables in ((out.reads, call.reads), (out.writes, call.writes)):
        for v in variables:
            _view(table, View(v, 0, v.type.shape, row_major(v.type.shape)), call.node)
    return out


def _product(call: LibraryCall) -> Traffic:
    out = Traffic()
    sums = [call.node.inputs[0]] if call.accumulates else []
    there, result = (
        [View(v, 0, v.type.shape, row_major(v.type.shape)) for v in vs] for vs in (sums, [call.product])
    )  # fmt: skip
    for view in result if call.keeps else []:
        _view(out.writes, view, call.node)
    for view in (call.matrices.a, call.matrices.b, *there):
        _view(out.reads, view, call.node)
    if call.epilogue is not None:
        after = _Walk(call.epilogue).run()
        out.writes |= after.writes
        for v, accesses in after.reads.items():
            if v is call.product:
                continue  # it is in a register
            if v in out.reads:
                out.reads[v].reaches += [_flat(r, accesses.shape) for r in accesses.reaches]
            else:
                out.reads[v] = accesses
    return out


def _flat(reach: Reach, shape: Sequence[Size]) -> Reach:
    """The same elements, by how far they are from the first."""
    at: Size = 0
    for i, n in zip(reach.index, shape, strict=True):
        at = at * n + i
    return Reach((at,), reach.box, reach.exact)


def _view(table: dict[Variable, Accesses], view: View, node: Apply) -> None:
    axes = [(Atom(None), n) for n in view.shape]
    at = view.offset
    for (atom, _), stride in zip(axes, view.strides, strict=True):
        at = at + symbol(atom) * stride
    accesses = table.setdefault(view.base, Accesses(node, (view.base.type.size,)))
    accesses.reaches.append(Reach((at,), tuple((atom, Range(0, n)) for atom, n in axes)))


class _Walk:
    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.out = Traffic()
        self.atoms: dict[ix.Expr, Atom] = {}
        self.data: dict[Atom, tuple[Size, frozenset[ix.Expr]]] = {}  # indices computed from data: their range, loops
        self.memo: dict[ix.Expr, Size | None] = {}

    def run(self) -> Traffic:
        own = {v for r in self.kernel.roots if r.write is None for v in r.variables}
        for r in self.kernel.roots:
            self.root(r)
        self.out.reads = {v: a for v, a in self.out.reads.items() if v not in own}
        return self.out

    def root(self, r: Root) -> None:
        regions = Regions([{}])
        for i, n in zip(r.indices, r.shape, strict=True):
            regions = regions.within(self.atom(i), n)
        self.values(r.values, regions)
        node = r.node or self.kernel.nodes[0]
        at = r.indices if r.write is None else r.values[:-1]
        for v in r.variables:
            self.record(self.out.writes, v, node, at, regions)
            if r.write is not None and r.write.mode == "add":
                self.record(self.out.reads, v, node, at, regions)

    # -- index expressions --------------------------------------------------------------------------------------------

    def atom(self, e: ix.Expr) -> Atom:
        found = self.atoms.get(e)
        if found is None:
            found = self.atoms[e] = Atom(None)
        return found

    def size(self, e: ix.Expr) -> Size | None:
        return as_polynomial(ix.resolve(e), self.leaf, self.memo)

    def leaf(self, e: ix.Expr) -> Size | None:
        if e.fn == "index":
            return symbol(self.atom(e))
        if e.fn == "size":
            return e.attr  # type: ignore[no-any-return]
        if isinstance(e, ix.Access) and e.target is not None:
            return self.size(e)
        if e.fn == "checked_index":
            below = self.size(e.args[1])
            assert below is not None, "the size of an axis is a size"
            return self.opaque(e, below)
        return None

    def opaque(self, e: ix.Expr, below: Size) -> Size:
        """A symbol for an index that depends on data."""
        atom = self.atom(e)
        self.data[atom] = below, e.free
        return symbol(atom)

    # -- accesses -----------------------------------------------------------------------------------------------------

    def values(self, roots: ix.Index, regions: Regions) -> None:
        """Record what is loaded below ``roots``; conditions and reductions change what it is loaded for."""
        stack = [(e, regions) for e in reversed(roots)]
        seen: dict[tuple[ix.Expr, int], Regions] = {}  # holds the regions, so that their ids stay theirs
        while stack:
            e, where = stack.pop()
            e = ix.resolve(e)
            if (e, id(where)) in seen:
                continue
            seen[e, id(where)] = where
            if e.fn == "guard":
                test, inside, outside = e.args
                yes, no = split(where, partial(self.conditions, test))
                stack += [(outside, no), (inside, yes), (test, where)]
            elif e.fn == "running":
                _, j, size, _ = e.attr
                stack.append((e.args[0], where.within(self.atom(j), size)))
            elif e.fn == "reduce":
                _, indices, sizes = e.attr
                for i, n in zip(indices, sizes, strict=True):
                    where = where.within(self.atom(i), n)
                stack.append((e.args[0], where))
            else:
                if isinstance(e, ix.Access):
                    self.record(self.out.reads, e.variable, e.origin, e.args, where)
                stack.extend((a, where) for a in reversed(e.args))

    def conditions(self, test: ix.Expr, box: Box) -> Conditions:
        return parse(test, box, self.size, ix.resolve)

    def record(
        self, table: dict[Variable, Accesses], v: Variable, node: Apply | None, at: ix.Index, where: Regions
    ) -> None:
        accesses = table.setdefault(v, Accesses(node, v.type.shape))
        index = []
        for e, n in zip(at, v.type.shape, strict=True):
            p = self.size(e)
            index.append(self.opaque(ix.resolve(e), n) if p is None else p)
        for box in where.boxes:
            accesses.reaches.append(self.reach(tuple(index), box, where.exact))

    def reach(self, index: tuple[Size, ...], box: Box, exact: bool) -> Reach:
        used = {a for p in index for a in atoms(p)}
        whole = dict(box)
        for atom in used & self.data.keys():
            below, loops = self.data[atom]
            times = product(box[self.atom(i)].count for i in loops)
            whole[atom] = Range(0, size_min(below, times))
        return Reach(index, tuple(whole.items()), exact and not used & self.data.keys())
