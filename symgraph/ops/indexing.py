"""Indexing as NumPy has it: ``x[...]``, take, take_along_axis, and the additions that are their transposes.

Slices of symbolic axes are exact for every size that the axis may have, 0 included: ``x[1:]`` of an axis of size n has
size ``max(0, n - 1)``, and so has ``x[:-1]``: the same size object, so that the two can be subtracted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from symgraph.errors import DTypeError, FormatError, IndexRangeError, RankError, SizeError
from symgraph.graph import Constant, Variable
from symgraph.op import TensorLike, apply, as_variable, axis_of, constant, located
from symgraph.ops.create import size_of
from symgraph.ops.elementwise import add, cast, clip, remainder
from symgraph.ops.gather import Gather
from symgraph.ops.shape import Slice, broadcast_to, ravel, reshape
from symgraph.types import Dim, Size, at_least, floordiv, size_max, size_min, unify

# -- slices ------------------------------------------------------------------------------------------------------------


def slice_extent(bounds: slice, n: Size) -> tuple[Size, Size, int]:
    """Start, size and step of a Python slice of an axis of size ``n``, exact for every value of a symbolic ``n``.

    A negative int counts from the end. A bound that is a symbolic size is a position: below 0 it stands for 0 (for -1
    where the step is negative), it does not count from the end. Raises :class:`~symgraph.errors.DTypeError` for another
    bound.
    """
    step = 1 if bounds.step is None else bounds.step
    if isinstance(step, bool) or not isinstance(step, int | np.integer):
        raise DTypeError(f"a slice's step is an int, got {step!r}")
    step = int(step)
    if step == 0:
        raise SizeError("a slice's step must not be 0")
    if bounds.start is None and bounds.stop is None:  # no axis has a size below 0, whatever its formula could give
        return (0 if step > 0 else n - 1), floordiv(n + (abs(step) - 1), abs(step)), step
    default = (0, n) if step > 0 else (n - 1, -1)
    s, e = (_bound(b, n, d) for b, d in zip((bounds.start, bounds.stop), default, strict=True))
    if step > 0:
        # From max(s, 0) to min(e, n): the least of the four differences, without those that cannot be it.
        starts, stops = [s] if at_least(s, 0) else [s, 0], [e] if at_least(n - e, 0) else [e, n]
        span = _least([b - a for a in starts for b in stops])
        return size_max(s, 0), floordiv(span + (step - 1), step), step
    starts, stops = [s] if at_least(n - 1 - s, 0) else [s, n - 1], [e] if at_least(e, -1) else [e, -1]
    span = _least([a - b for a in starts for b in stops])
    return size_min(s, n - 1), floordiv(span + (-step - 1), -step), step


def _bound(bound: Any, n: Size, default: Size) -> Size:
    if bound is None:
        return default
    if isinstance(bound, Dim):
        return bound
    if isinstance(bound, int | np.integer) and not isinstance(bound, bool):
        return int(bound) if bound >= 0 else n + int(bound)
    raise DTypeError(
        f"a slice's bounds are ints or sizes, got {bound!r}: the size of the result must be known before values are; "
        "to read from a computed position, use take(x, start + arange(size))"
    )


def _least(sizes: Sequence[Size]) -> Size:
    """The least of ``sizes``, and no less than 0."""
    out = sizes[0]
    for s in sizes[1:]:
        out = size_min(out, s)
    return size_max(out, 0)


# -- x[key] ------------------------------------------------------------------------------------------------------------


def getitem(x: TensorLike, key: Any) -> Variable:
    """``x[key]``: ints, slices, None, Ellipsis, and integer arrays or variables (NumPy's advanced indexing).

    Raises :class:`~symgraph.errors.IndexRangeError` for an int or a constant array outside a static axis, when the
    graph is built; other indices are checked when it runs, where the result has elements. Raises
    :class:`~symgraph.errors.RankError` for too many indices, and
    :class:`~symgraph.errors.DTypeError` for what is not an index; boolean masks are none, since the size of the result
    would depend on values.
    """
    v = as_variable(x)
    try:
        return _getitem(v, list(key) if isinstance(key, tuple) else [key])
    except (DTypeError, RankError, SizeError, IndexRangeError) as error:
        raise located(error, [v]) from None


def _getitem(v: Variable, key: list[Any]) -> Variable:
    key = [_item(item) for item in key]
    used = sum(item is not None and item is not Ellipsis for item in key)
    ellipses = sum(item is Ellipsis for item in key)
    if used > v.type.ndim:
        raise RankError(f"getitem: {used} indices for {v.type.ndim} axes")
    if ellipses > 1:
        raise RankError("getitem: an index can have only one ellipsis")
    if not ellipses:
        key = [*key, Ellipsis]

    # What the result's axes are, in order: an axis of x, a new one (-1), or the place of the advanced indices (-2).
    layout: list[int] = []
    starts: list[Size] = []
    sizes: list[Size] = []
    steps: list[int] = []
    gathered: dict[int, Variable] = {}
    dropped: list[int] = []
    advanced = any(isinstance(item, Variable) for item in key)
    for item in key:
        if item is None:
            layout.append(-1)
            continue
        for part in [slice(None)] * (v.type.ndim - used) if item is Ellipsis else [item]:
            a = len(starts)
            n = v.type.shape[a]
            start, size, step = slice_extent(part if isinstance(part, slice) else slice(None), n)
            if isinstance(part, slice):
                layout.append(a)
            else:
                layout.append(-2)
                position = _static_position(part, n, a)
                if position is not None:
                    start, size = position, 1
                    dropped.append(a)
                else:
                    gathered[a] = as_variable(part)
            starts.append(start)
            sizes.append(size)
            steps.append(step)
        if item is Ellipsis and v.type.ndim == used:
            layout.append(-3)  # it separates advanced indices even where it stands for no axis
    if tuple(sizes) != v.type.shape or any(s != 0 for s in starts) or any(s != 1 for s in steps):
        v = apply(Slice(tuple(starts), tuple(sizes), tuple(steps)), v)

    places = [k for k, entry in enumerate(layout) if entry == -2]
    first = places[0] if places else 0
    # NumPy's rule: indices that stand apart put their axes in front.
    if not advanced or places == list(range(first, first + len(places))):
        before, after = layout[:first], layout[first:]
    else:
        before, after = [], layout
    before, after = ([e for e in part if e not in (-2, -3)] for part in (before, after))

    if dropped:
        v = reshape(v, [s for a, s in enumerate(v.type.shape) if a not in dropped])
    new_axes: list[Size] = []
    if gathered:
        kept = [a for a in range(len(starts)) if a not in dropped]
        operands, index_axes, shape = _broadcast_labels(list(gathered.values()), len(starts))
        slots = {a: -1 - k for k, a in enumerate(gathered)}
        labels = tuple(range(len(starts), len(starts) + len(shape)))
        out = (*[a for a in before if a >= 0], *labels, *[a for a in after if a >= 0])
        v = apply(Gather(tuple(slots.get(a, a) for a in kept), index_axes, out), v, *operands)
        new_axes = list(shape)
    if -1 in layout:
        remaining = iter(v.type.shape)
        pattern = [*before, *[0] * len(new_axes), *after]
        v = reshape(v, [1 if entry == -1 else next(remaining) for entry in pattern])
    return v


def _item(item: Any) -> Any:
    """An index as an int, a slice, None, Ellipsis, or an integer variable."""
    if item is None or item is Ellipsis or isinstance(item, slice):
        return item
    if isinstance(item, int | np.integer) and not isinstance(item, bool):
        return int(item)
    index = constant(item, "int64") if isinstance(item, list) and not item else as_variable(item)
    if index.type.dtype == bool:
        raise DTypeError(
            "getitem: a boolean mask selects a number of elements that is known only with its values; "
            "use where(mask, x, other), which keeps the shape"
        )
    if index.type.dtype.kind not in "iu":
        raise DTypeError(f"getitem: an index is an int, a slice, None, Ellipsis or an integer tensor, got {index.type}")
    if isinstance(index, Constant) and index.type.ndim == 0:
        return int(index.data)
    return index


def _static_position(item: Any, n: Size, axis: int) -> Size | None:
    """The position of an int index that certainly exists; ``None`` for an index to be checked when the graph runs."""
    if isinstance(item, Variable):
        if isinstance(item, Constant) and isinstance(n, int):
            check_range("getitem", item, n, axis)
        return None
    position = item if item >= 0 else n + item
    if at_least(position, 0) and at_least(n - 1 - position, 0):
        return position  # type: ignore[no-any-return]
    if isinstance(n, int):
        raise IndexRangeError(f"getitem: index {item} lies outside axis {axis} of size {n}")
    return None


def check_range(what: str, index: Constant, n: int, axis: int) -> None:
    """Raise where a constant index lies outside an axis of static size."""
    bad = (index.data < -n) | (index.data >= n)
    if bad.any():
        raise IndexRangeError(f"{what}: index {index.data[bad][0]} lies outside axis {axis} of size {n}")


def _broadcast_labels(
    indices: Sequence[Variable], base: int
) -> tuple[list[Variable], tuple[tuple[int, ...], ...], tuple[Size, ...]]:
    """Index operands broadcast among themselves: without stretched axes, their labels from ``base`` on, the shape."""
    ndim = max(v.type.ndim for v in indices)
    shape: list[Size] = [1] * ndim
    for v in indices:
        for k, size in enumerate(v.type.shape, ndim - v.type.ndim):
            if size == 1:
                continue
            both = size if shape[k] == 1 else unify(shape[k], size)
            if both is None:
                raise SizeError(f"getitem: index arrays of sizes {shape[k]} and {size} do not broadcast")
            shape[k] = both
    operands, labels = [], []
    given: set[int] = set()
    for v in indices:
        offset = ndim - v.type.ndim
        kept = [
            k
            for k in range(v.type.ndim)
            if v.type.shape[k] != 1 or (shape[k + offset] == 1 and k + offset not in given)
        ]
        given |= {k + offset for k in kept}
        operands.append(_with_sizes(v, kept, [shape[k + offset] for k in kept]))
        labels.append(tuple(base + k + offset for k in kept))
    return operands, tuple(labels), tuple(shape)


def _with_sizes(v: Variable, kept: Sequence[int], sizes: Sequence[Size]) -> Variable:
    """``v`` with its ``kept`` axes only (the others have size 1), whose unknown sizes are stated to be ``sizes``."""
    return broadcast_to(reshape(v, [v.type.shape[k] for k in kept]), sizes)


# -- take and its kin --------------------------------------------------------------------------------------------------


def _index(what: str, indices: TensorLike) -> Variable:
    index = constant(indices, "int64") if isinstance(indices, list) and not indices else as_variable(indices)
    if index.type.dtype.kind not in "iu":
        raise located(DTypeError(f"{what}: indices are integers, got {index.type}"), [index])
    return index


def _check_constant(what: str, v: Variable, index: Variable, axis: int) -> None:
    n = v.type.shape[axis]
    if isinstance(index, Constant) and isinstance(n, int):
        try:
            check_range(what, index, n, axis)
        except IndexRangeError as error:
            raise located(error, [v]) from None


def take(x: TensorLike, indices: TensorLike, axis: int | None = None, mode: str = "raise") -> Variable:
    """Elements of ``x`` along ``axis`` (of the flattened x by default) at ``indices``, as ``numpy.take``.

    x: T[A.., n, B..], indices: int[I..] -> T[A.., I.., B..]. ``mode``: ``raise`` (negative indices count from the end;
    others outside raise :class:`~symgraph.errors.IndexRangeError`), ``wrap`` (modulo n), or ``clip`` (to 0 .. n - 1).
    """
    v, index = as_variable(x), _index("take", indices)
    if axis is None:
        v, axis = ravel(v), 0
    axis = axis_of("take", v, axis)
    n = v.type.shape[axis]
    if mode == "wrap":
        index = remainder(cast(index, "int64"), size_of(n))
    elif mode == "clip":
        index = clip(cast(index, "int64"), 0, size_of(n - 1))
    elif mode != "raise":
        raise FormatError(f"take: mode is 'raise', 'wrap' or 'clip', got {mode!r}")
    else:
        _check_constant("take", v, index, axis)
    ndim = v.type.ndim
    labels = tuple(range(ndim, ndim + index.type.ndim))
    x_axes = (*range(axis), -1, *range(axis + 1, ndim))
    return apply(Gather(x_axes, (labels,), (*range(axis), *labels, *range(axis + 1, ndim))), v, index)


def take_along_axis(x: TensorLike, indices: TensorLike, axis: int | None = -1) -> Variable:
    """``y[.., i, ..] = x[.., indices[.., i, ..], ..]``, as ``numpy.take_along_axis``; the other axes broadcast.

    Raises :class:`~symgraph.errors.RankError` where ranks differ, :class:`~symgraph.errors.SizeError` where sizes do.
    """
    v, index = as_variable(x), _index("take_along_axis", indices)
    if axis is None:
        v, axis = ravel(v), 0
    axis = axis_of("take_along_axis", v, axis)
    if index.type.ndim != v.type.ndim:
        raise located(RankError("take_along_axis: x and indices must have equally many axes"), [v, index])
    sizes: dict[int, Size] = {}
    for a, (s, t) in enumerate(zip(v.type.shape, index.type.shape, strict=True)):
        both = t if a == axis or s == 1 else s if t == 1 else unify(s, t)
        if both is None:
            raise located(SizeError(f"take_along_axis: sizes {s} and {t} differ on axis {a}"), [v, index])
        sizes[a] = both
    in_x = [a for a in sizes if a == axis or v.type.shape[a] != 1 or sizes[a] == 1]
    in_index = [a for a in sizes if index.type.shape[a] != 1 or sizes[a] == 1]
    n = v.type.shape[axis]
    _check_constant("take_along_axis", v, index, axis)
    v = _with_sizes(v, in_x, [n if a == axis else sizes[a] for a in in_x])
    index = _with_sizes(index, in_index, [sizes[a] for a in in_index])
    x_axes = tuple(-1 if a == axis else a for a in in_x)
    return apply(Gather(x_axes, (tuple(in_index),), tuple(sizes)), v, index)


# -- additions at indices ----------------------------------------------------------------------------------------------


def _add_where(what: str, x: TensorLike, values: TensorLike, read: Callable[[Variable], Variable]) -> Variable:
    """``x`` plus the transpose of the linear function ``read`` at ``values``."""
    v = as_variable(x)
    # A variable of its own, so that nothing on the way from it is folded or shared.
    probe = Variable(v.type)
    y = read(probe)
    given = cast(values, v.type.dtype)
    try:
        ct = broadcast_to(given, y.type.shape)
    except SizeError:
        message = f"{what}: values of {given.type} do not broadcast to the indexed {list(y.type.shape)}"
        raise located(SizeError(message), [v]) from None
    while y is not probe:
        assert y.owner is not None
        back = y.owner.op.transpose(ct, y.owner.inputs)[0]
        assert isinstance(back, Variable)
        ct, y = back, y.owner.inputs[0]
    return add(v, ct)


def add_at(x: TensorLike, key: Any, values: TensorLike) -> Variable:
    """``x`` with ``values`` added at ``x[key]``; an element indexed several times gets all values, as ``numpy.add.at``.

    ``key`` is anything that indexing takes; ``values`` broadcast to the shape of ``x[key]`` and take the dtype of x.
    On a GPU float32 and float64 are added in no fixed order: such sums differ within rounding from call to call.
    """
    return _add_where("add_at", x, values, lambda probe: getitem(probe, key))


def add_along_axis(x: TensorLike, indices: TensorLike, values: TensorLike, axis: int = -1) -> Variable:
    """``x`` with ``values`` added where :func:`take_along_axis` would read: the adding ``numpy.put_along_axis``.

    On a GPU in no fixed order, as :func:`add_at`.
    """
    v = as_variable(x)
    axis = axis_of("add_along_axis", v, axis)
    return _add_where("add_along_axis", v, values, lambda probe: take_along_axis(probe, indices, axis))


__all__ = ["add_along_axis", "add_at", "getitem", "take", "take_along_axis"]
