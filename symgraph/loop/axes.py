"""Which axes of a kernel become loops: neighbouring axes that all tensors step through together become one."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

from symgraph import index as ix
from symgraph.passes.fuse import Kernel
from symgraph.types import Size, product

Access = tuple[tuple[ix.Expr, ...], tuple[Size, ...]]
"""An index, and the shape of what is indexed."""


@dataclass
class Axes:
    """The indices of a kernel and of the reductions in it.

    Attributes:
        same: a later root's index over a common axis, and the first root's, which stands for it.
        folded: indices that are folded into that of the next axis, which then runs over both.
        units: indices of axes of size 1: always 0.
        extents: how far each index runs, folding included.
        work: numbers of iterations of the nests, before folding.
    """

    same: dict[ix.Expr, ix.Expr] = field(default_factory=dict)
    folded: set[ix.Expr] = field(default_factory=set)
    units: set[ix.Expr] = field(default_factory=set)
    extents: dict[ix.Expr, Size] = field(default_factory=dict)
    work: list[Size] = field(default_factory=lambda: [1])


def analyse(kernel: Kernel) -> Axes:
    """The axes of ``kernel``."""
    axes = Axes()
    accesses: list[Access] = []
    taken: set[ix.Expr] = set()  # used as a value, or in arithmetic
    common = kernel.roots[0].indices[: kernel.depth]
    groups = [common]
    seen: set[ix.Expr] = set()
    stack: list[ix.Expr] = []
    for r in kernel.roots:
        axes.work.append(product(r.shape))
        axes.same.update(zip(r.indices[: kernel.depth], common, strict=False))
        groups.append(r.indices[kernel.depth :])
        axes.extents.update(zip(r.indices, r.shape, strict=True))
        if r.write is None:
            accesses.append((tuple(axes.same.get(i, i) for i in r.indices), r.shape))
            stack.extend(r.values)
        else:
            accesses.append((tuple(ix.resolve(e) for e in r.values[:-1]), r.variables[0].type.shape))
            stack.append(r.values[-1])
    stack.extend(e for index, _ in accesses for e in index if e.fn != "index")
    while stack:
        e = ix.resolve(stack.pop())
        if e in seen:
            continue
        seen.add(e)
        if e.fn == "index":
            taken.add(axes.same.get(e, e))
        elif isinstance(e, ix.Access):
            entries = tuple(ix.resolve(a) for a in e.args)
            accesses.append((tuple(axes.same.get(a, a) for a in entries), e.variable.type.shape))
            stack.extend(a for a in entries if a.fn != "index")
        else:
            if e.fn == "running":
                (_, j, size, _), at = e.attr, ix.resolve(e.args[1])
                axes.same[j], axes.extents[j] = at, size  # each step of the loop is a result
            elif e.fn == "reduce":
                kind, indices, sizes = e.attr
                axes.work.append(product((*sizes, *[axes.extents.get(i, 1) for i in e.free])))
                axes.extents.update(zip(indices, sizes, strict=True))
                if kind not in ("argmax", "argmin"):
                    groups.append(indices)
            stack.extend(e.args)
    axes.units.update(i for i, n in axes.extents.items() if n == 1)
    _fold(axes, groups, [_without_units(*a) for a in accesses], taken, kernel.roots[0].accumulates)
    return axes


def _fold(
    axes: Axes, groups: list[tuple[ix.Expr, ...]], accesses: list[Access], taken: set[ix.Expr], fixed: bool
) -> None:
    """Fold neighbours; ``fixed``: the kernel's own axes stay as they are."""
    for number, group in enumerate(groups):
        live = [i for i in group if i not in axes.units]
        for x, y in pairwise(live):
            if x in taken or y in taken or (fixed and number == 0):
                continue
            if all(_neighbours(index, shape, x, y, axes.extents[y]) for index, shape in accesses):
                axes.folded.add(x)
        extent: Size = 1
        for x in live:
            extent = extent * axes.extents[x]
            if x not in axes.folded:
                axes.extents[x] = extent
                extent = 1


def _without_units(index: tuple[ix.Expr, ...], shape: tuple[Size, ...]) -> tuple[tuple[ix.Expr, ...], tuple[Size, ...]]:
    """An access without the axes of size 1, where nothing is indexed."""
    kept = [(e, s) for e, s in zip(index, shape, strict=True) if s != 1 or e.fn not in ("index", "const")]
    return tuple(e for e, _ in kept), tuple(s for _, s in kept)


def _neighbours(access: tuple[ix.Expr, ...], shape: tuple[Size, ...], x: ix.Expr, y: ix.Expr, extent: Size) -> bool:
    """Whether an access uses neither index, or both side by side and the whole of the second axis."""
    at = [k for k, e in enumerate(access) if e is x]
    after = [k for k, e in enumerate(access) if e is y]
    return (not at and not after) or (len(at) == 1 and after == [at[0] + 1] and shape[after[0]] == extent)
