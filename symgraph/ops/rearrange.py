"""Elements in other places: flip, roll, pad, repeat, tile, diagonals, triangles; of slices, gathers and broadcasts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from symgraph.errors import FormatError, RankError, SizeError
from symgraph.graph import Variable
from symgraph.op import TensorLike, apply, as_variable, axes_of, axis_of, constant, located
from symgraph.ops.create import Iota, full, size_of
from symgraph.ops.elementwise import (
    add,
    cast,
    clip,
    greater_equal,
    less_equal,
    maximum,
    minimum,
    remainder,
    subtract,
    where,
)
from symgraph.ops.gather import Gather, ScatterAdd
from symgraph.ops.indexing import getitem, take
from symgraph.ops.reduce import sum as sum_over
from symgraph.ops.shape import Slice, Unslice, along, broadcast_to, concatenate, ravel, reshape
from symgraph.types import Dim, Size, size_max, size_min


def flip(x: TensorLike, axis: int | Sequence[int] | None = None) -> Variable:
    """Elements in reverse order along ``axis`` (along all axes by default), as ``numpy.flip``."""
    v = as_variable(x)
    axes = axes_of("flip", v, axis)
    return getitem(v, tuple(slice(None, None, -1) if a in axes else slice(None) for a in range(v.type.ndim)))


def roll(x: TensorLike, shift: Any, axis: int | Sequence[int] | None = None) -> Variable:
    """Elements moved by ``shift`` places, those that leave one end entering at the other, as ``numpy.roll``.

    Without ``axis``, x is rolled as if flat. ``shift`` is an int, a size, a 0-d integer variable, or one per axis.
    """
    v = as_variable(x)
    if axis is None:
        return reshape(roll(ravel(v), shift, 0), v.type.shape)
    axes = [axis] if isinstance(axis, int) else list(axis)
    shifts = list(shift) if isinstance(shift, list | tuple) else [shift] * len(axes)
    axes = axes * len(shifts) if len(axes) == 1 else axes
    if len(axes) != len(shifts):
        raise located(RankError(f"roll: {len(shifts)} shifts for {len(axes)} axes"), [v])
    for a, s in zip(axes, shifts, strict=True):
        v = _rolled(v, s, axis_of("roll", v, a))
    return v


def _rolled(v: Variable, shift: Any, axis: int) -> Variable:
    n = v.type.shape[axis]
    if isinstance(n, int) and isinstance(shift, int | np.integer):
        if n == 0 or shift % n == 0:
            return v
        before = (slice(None),) * axis
        cut = n - int(shift) % n
        return concatenate([getitem(v, (*before, slice(cut, None))), getitem(v, (*before, slice(0, cut)))], axis)
    places = subtract(apply(Iota((n,), 0, "int64")), cast(as_variable(shift), "int64"))
    return take(v, remainder(places, size_of(n)), axis)


# -- pad ---------------------------------------------------------------------------------------------------------------

# Where the padded axis's element i, counted from x's first, is found in x of size n.
_PAD_SOURCES: dict[str, Callable[[Variable, Variable], Variable]] = {
    "edge": lambda i, n: clip(i, 0, n - 1),
    "wrap": remainder,
    # Mirrored with and without the edge itself repeated: waves of periods 2n and 2(n - 1).
    "symmetric": lambda i, n: _wave(i, 2 * n, 2 * n - 1),
    "reflect": lambda i, n: _wave(i, maximum(2 * (n - 1), 1), 2 * (n - 1)),
}


def _wave(i: Variable, period: Variable, top: Variable) -> Variable:
    place = remainder(i, period)
    return minimum(place, top - place)


def pad(x: TensorLike, pad_width: Any, mode: str = "constant", constant_values: Any = 0) -> Variable:
    """``x`` with elements added before and after each axis, as ``numpy.pad``.

    Args:
        pad_width: ``n``, ``(before, after)``, or one such pair per axis; ints or sizes.
        mode: ``constant``, ``edge``, ``reflect`` (mirrored at the edge element), ``symmetric`` (mirrored, the edge
            repeated), or ``wrap`` (periodic).
        constant_values: for ``constant``: a value, or values before and after, or such a pair per axis.

    Raises :class:`~symgraph.errors.SizeError` for negative widths, and where there is nothing to repeat.
    """
    v = as_variable(x)
    widths: list[tuple[Any, Any]] = _pairs("pad", pad_width, v)
    for pair in widths:
        for w in pair:
            if not isinstance(w, int | np.integer | Dim) or isinstance(w, bool) or (not isinstance(w, Dim) and w < 0):
                raise located(SizeError(f"pad: widths are ints that are not negative, or sizes, got {w!r}"), [v])
    if mode == "constant":
        values = _pairs("pad", constant_values, v)
        if all(isinstance(c, int | float) and c == 0 for pair in values for c in pair):
            shape = [s + lo + hi for s, (lo, hi) in zip(v.type.shape, widths, strict=True)]
            if tuple(shape) == v.type.shape:
                return v
            return apply(Unslice(tuple(shape), tuple(lo for lo, _ in widths), (1,) * v.type.ndim), v)
        for a, (pair, cs) in enumerate(zip(widths, values, strict=True)):
            sides = []
            for w, c in zip(pair, cs, strict=True):
                sides.append(full((*v.type.shape[:a], w, *v.type.shape[a + 1 :]), c, v.type.dtype))
            v = concatenate([sides[0], v, sides[1]], a)
        return v
    if mode not in _PAD_SOURCES:
        raise located(FormatError(f"pad: mode is 'constant', {', '.join(map(repr, _PAD_SOURCES))}, got {mode!r}"), [v])
    for a, (lo, hi) in enumerate(widths):
        n = v.type.shape[a]
        if lo == 0 and hi == 0:
            continue
        if n == 0:
            raise located(SizeError(f"pad: axis {a} is empty, so there is nothing to repeat"), [v])
        i = subtract(apply(Iota((n + lo + hi,), 0, "int64")), size_of(lo))
        v = take(v, _PAD_SOURCES[mode](i, size_of(n)), a)
    return v


def _pairs(what: str, given: Any, v: Variable) -> list[tuple[Any, Any]]:
    """NumPy's forms of a pair per axis: one value, one pair, or a pair for each."""
    if isinstance(given, np.ndarray):
        given = given.tolist()
    if not isinstance(given, list | tuple):
        return [(given, given)] * v.type.ndim
    items = list(given)
    if items and not any(isinstance(item, list | tuple) for item in items):
        items = [items]
    pairs = [tuple(item) * 2 if len(item) == 1 else tuple(item) for item in items if isinstance(item, list | tuple)]
    pairs = pairs * v.type.ndim if len(pairs) == 1 else pairs
    if len(pairs) != v.type.ndim or any(len(p) != 2 for p in pairs):
        raise located(RankError(f"{what}: {given!r} is not a pair for each of {v.type.ndim} axes"), [v])
    return pairs


# -- repetition --------------------------------------------------------------------------------------------------------


def repeat(x: TensorLike, repeats: Size, axis: int | None = None) -> Variable:
    """Each element ``repeats`` times, along ``axis`` (of the flattened x by default), as ``numpy.repeat``."""
    v, axis = along("repeat", x, axis)
    before, n, after = v.type.shape[:axis], v.type.shape[axis], v.type.shape[axis + 1 :]
    wide = broadcast_to(reshape(v, (*before, n, 1, *after)), (*before, n, repeats, *after))
    return reshape(wide, (*before, n * repeats, *after))


def tile(x: TensorLike, reps: Size | Sequence[Size]) -> Variable:
    """``x`` side by side with itself ``reps`` times along each axis, as ``numpy.tile``."""
    v = as_variable(x)
    counts = list(reps) if isinstance(reps, list | tuple) else [reps]
    ndim = max(v.type.ndim, len(counts))
    counts = [1] * (ndim - len(counts)) + counts
    shape = (1,) * (ndim - v.type.ndim) + v.type.shape
    apart = [s for n in shape for s in (1, n)]
    wide = broadcast_to(reshape(v, apart), [s for c, n in zip(counts, shape, strict=True) for s in (c, n)])
    return reshape(wide, [c * n for c, n in zip(counts, shape, strict=True)])


# -- diagonals and triangles -------------------------------------------------------------------------------------------


def diagonal(x: TensorLike, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Variable:
    """The ``offset``-th diagonal of two axes, as the last axis of the result, as ``numpy.diagonal``."""
    v = as_variable(x)
    if v.type.ndim < 2:
        raise located(RankError("diagonal: wanted two axes at least"), [v])
    a, b = (axis_of("diagonal", v, k) for k in (axis1, axis2))
    if a == b:
        raise located(RankError(f"diagonal: axis {a} twice"), [v])
    down, right = max(-offset, 0), max(offset, 0)
    size = size_max(size_min(v.type.shape[a] - down, v.type.shape[b] - right), 0)
    starts = tuple(down if k == a else right if k == b else 0 for k in range(v.type.ndim))
    sizes = tuple(size if k in (a, b) else s for k, s in enumerate(v.type.shape))
    if any(starts) or sizes != v.type.shape:
        v = apply(Slice(starts, sizes, (1,) * v.type.ndim), v)
    others = [k for k in range(v.type.ndim) if k not in (a, b)]
    walk = tuple(a if k == b else k for k in range(v.type.ndim))
    return apply(Gather(walk, (), (*others, a)), v)


def trace(x: TensorLike, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Variable:
    """The sum of a diagonal, as ``numpy.trace``."""
    return sum_over(diagonal(x, offset, axis1, axis2), -1)


def diag(x: TensorLike, k: int = 0) -> Variable:
    """The ``k``-th diagonal of a matrix, or the matrix with a given one, zeros elsewhere, as ``numpy.diag``."""
    v = as_variable(x)
    if v.type.ndim == 2:
        return diagonal(v, k)
    if v.type.ndim != 1:
        raise located(RankError("diag: wanted one axis or two"), [v])
    made = apply(ScatterAdd(v.type.shape * 2, (0, 0), (), (0,)), v)
    lo, hi = (max(-k, 0), max(k, 0)), (max(k, 0), max(-k, 0))
    return pad(made, (lo, hi)) if k else made


def tril(x: TensorLike, k: int = 0) -> Variable:
    """``x`` with zeros above the ``k``-th diagonal of its last two axes, as ``numpy.tril``."""
    return _triangle("tril", x, lambda row, column: less_equal(column, add(row, k)))


def triu(x: TensorLike, k: int = 0) -> Variable:
    """``x`` with zeros below the ``k``-th diagonal of its last two axes, as ``numpy.triu``."""
    return _triangle("triu", x, lambda row, column: greater_equal(column, add(row, k)))


def _triangle(what: str, x: TensorLike, keep: Callable[[Variable, Variable], Variable]) -> Variable:
    v = as_variable(x)
    if v.type.ndim < 2:
        raise located(RankError(f"{what}: wanted two axes at least"), [v])
    shape, ndim = v.type.shape, v.type.ndim
    mask = keep(apply(Iota(shape, ndim - 2, "int64")), apply(Iota(shape, ndim - 1, "int64")))
    return where(mask, v, constant(0, v.type.dtype))


__all__ = ["diag", "diagonal", "flip", "pad", "repeat", "roll", "tile", "trace", "tril", "triu"]
