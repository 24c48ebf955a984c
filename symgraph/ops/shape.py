"""Operations on shapes: broadcast, reshape, transpose, slice, pad, concatenate, and what is made of them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symgraph import index as ix
from symgraph.errors import RankError, SizeError
from symgraph.graph import Constant, Variable
from symgraph.op import (
    Derivative,
    Op,
    Sample,
    TensorLike,
    apply,
    as_variable,
    axes_of,
    axis_of,
    constant,
    located,
    op,
)
from symgraph.types import (
    Dim,
    Shape,
    Size,
    TensorType,
    as_size,
    floordiv,
    product,
    unify,
)


def concrete(shape: Shape) -> tuple[int, ...]:
    """A shape as ints, for NumPy; the interpreter substitutes sizes before it asks an op's reference."""
    return tuple(int(s) for s in shape)


@op
class Broadcast(Op):
    """``y[i] = x[i at axes]``: new axes are repeated; ``axes[k]`` is the place of x's axis k.   x: T[..] -> T[shape]"""

    shape: Shape
    axes: tuple[int, ...]
    linear = "each"

    def infer(self, x: TensorType) -> TensorType:
        if len(self.axes) != x.ndim or any(self.shape[a] != s for a, s in zip(self.axes, x.shape, strict=False)):
            raise SizeError(f"broadcast: {x} does not fit into {list(self.shape)} at axes {self.axes}")
        return x.with_shape(self.shape)

    def reference(self, x: NDArray[Any]) -> NDArray[Any]:
        shape = concrete(self.shape)
        place = [shape[a] if a in self.axes else 1 for a in range(len(shape))]
        return np.broadcast_to(x.reshape(place), shape)

    def transpose(self, ct: Variable, inputs: Sequence[Variable]) -> Sequence[Derivative]:
        from symgraph.ops.reduce import Sum

        return [apply(Sum(tuple(a for a in range(len(self.shape)) if a not in self.axes)), ct)]

    def batch(self, inputs: Sequence[Variable], batched: Sequence[bool]) -> Sequence[Variable]:
        (x,) = inputs
        return [apply(Broadcast((x.type.shape[0], *self.shape), (0, *(a + 1 for a in self.axes))), x)]

    def lower(self, index: ix.Index, x: ix.Tensor) -> ix.Expr:
        return x[[index[a] for a in self.axes]]

    def samples(self) -> list[Sample]:
        x = np.arange(6.0).reshape(2, 3)
        return [
            Sample(Broadcast((2, 4, 3), (0, 2)), (x,)),
            Sample(Broadcast((3,), ()), (np.array(2.0),)),
            Sample(Broadcast((2, 0, 3), (0, 2)), (x,)),
        ]


@op
class AssertShape(Op):
    """x, whose unknown sizes equal those of ``shape``: checked before a call runs.   x: T[S] -> T[shape]"""

    shape: Shape
    linear = "each"

    def infer(self, x: TensorType) -> TensorType:
        return x.with_shape(self.shape)

    def reference(self, x: NDArray[Any]) -> NDArray[Any]:
        if x.shape != concrete(self.shape):
            raise SizeError(f"sizes differ: wanted {list(self.shape)}, got {list(x.shape)}")
        return x

    def transpose(self, ct: Variable, inputs: Sequence[Variable]) -> Sequence[Derivative]:
        return [assert_shape(ct, inputs[0].type.shape)]

    def batch(self, inputs: Sequence[Variable], batched: Sequence[bool]) -> Sequence[Variable]:
        return [assert_shape(inputs[0], (inputs[0].type.shape[0], *self.shape))]

    def lower(self, index: ix.Index, x: ix.Tensor) -> ix.Expr:
        return x[index]

    def samples(self) -> list[Sample]:
        return [Sample(AssertShape((2, 3)), (np.arange(6.0).reshape(2, 3),))]


@op
class Transpose(Op):
    """Axes in another order: output axis k is input axis ``permutation[k]``.   x: T[S] -> T[S permuted]"""

    permutation: tuple[int, ...]
    linear = "each"

    def infer(self, x: TensorType) -> TensorType:
        if sorted(self.permutation) != list(range(x.ndim)):
            raise RankError(f"transpose: {self.permutation} is not a permutation of the axes of {x}")
        return x.with_shape(x.shape[p] for p in self.permutation)

    def reference(self, x: NDArray[Any]) -> NDArray[Any]:
        return np.transpose(x, self.permutation)

    def transpose(self, ct: Variable, inputs: Sequence[Variable]) -> Sequence[Derivative]:
        return [apply(Transpose(inverse_permutation(self.permutation)), ct)]

    def batch(self, inputs: Sequence[Variable], batched: Sequence[bool]) -> Sequence[Variable]:
        return [apply(Transpose((0, *(p + 1 for p in self.permutation))), inputs[0])]

    def lower(self, index: ix.Index, x: ix.Tensor) -> ix.Expr:
        return x[[index[p] for p in inverse_permutation(self.permutation)]]

    def samples(self) -> list[Sample]:
        x = np.arange(24.0).reshape(2, 3, 4)
        return [
            Sample(Transpose((2, 0, 1)), (x,)),
            Sample(Transpose((1, 0)), (x[0],)),
            Sample(Transpose(()), (x[0, 0, 0],)),
        ]


def inverse_permutation(permutation: Sequence[int]) -> tuple[int, ...]:
    """The permutation that undoes ``permutation``."""
    return tuple(sorted(range(len(permutation)), key=permutation.__getitem__))


@op
class Reshape(Op):
    """The same elements in C order under another shape.   x: T[S] -> T[shape], with equal numbers of elements"""

    shape: Shape
    linear = "each"

    def infer(self, x: TensorType) -> TensorType:
        if unify(x.size, product(self.shape)) is None:
            raise SizeError(f"reshape: {x} of {x.size} elements does not fit into {list(self.shape)}")
        return x.with_shape(self.shape)

    def reference(self, x: NDArray[Any]) -> NDArray[Any]:
        return np.reshape(x, concrete(self.shape))

    def transpose(self, ct: Variable, inputs: Sequence[Variable]) -> Sequence[Derivative]:
        return [apply(Reshape(inputs[0].type.shape), ct)]

    def batch(self, inputs: Sequence[Variable], batched: Sequence[bool]) -> Sequence[Variable]:
        return [apply(Reshape((inputs[0].type.shape[0], *self.shape)), inputs[0])]

    def lower(self, index: ix.Index, x: ix.Tensor) -> ix.Expr:
        # Runs of axes with equal products map among themselves; only inside a run is an index taken apart by division.
        out: list[ix.Expr] = []
        for inner, outer in reshape_groups(x.shape, self.shape):
            flat = ix.size_value(0)
            for a in outer:
                flat = flat * self.shape[a] + index[a] if self.shape[a] != 1 else flat
            for k, a in enumerate(inner):
                rest = product(x.shape[b] for b in inner[k + 1 :])
                position = flat // rest
                out.append(position if k == 0 else position % x.shape[a] if x.shape[a] != 1 else ix.size_value(0))
        return x[out]

    def samples(self) -> list[Sample]:
        x = np.arange(24.0).reshape(2, 3, 4)
        return [
            Sample(Reshape((6, 4)), (x,)),
            Sample(Reshape((4, 1, 6)), (x,)),
            Sample(Reshape(()), (x[:1, :1, 0],)),
            Sample(Reshape((1, 1)), (x[0, 0, 0],)),
            Sample(Reshape((0, 5)), (x[:0],)),
        ]


def reshape_groups(old: Shape, new: Shape) -> list[tuple[list[int], list[int]]]:
    """Split the axes of two shapes of equal size into runs with equal products, as short as possible."""
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) or j < len(new):
        a, b = [i] if i < len(old) else [], [j] if j < len(new) else []
        if a and old[i] == 1 and not (b and new[j] == 1):
            groups.append((a, []))
            i += 1
            continue
        if b and new[j] == 1 and not (a and old[i] == 1):
            groups.append(([], b))
            j += 1
            continue
        i, j = i + len(a), j + len(b)
        p, q = product(old[k] for k in a), product(new[k] for k in b)
        while p != q:
            grow_old = j >= len(new) or (
                i < len(old) and (p < q if isinstance(p, int) and isinstance(q, int) else _contains(q, p))
            )
            if grow_old and i < len(old):
                a.append(i)
                p, i = p * old[i], i + 1
            elif j < len(new):
                b.append(j)
                q, j = q * new[j], j + 1
            else:  # zero sizes or sizes equal only at run time: one run of all that is left
                break
        groups.append((a, b))
    return groups


def _contains(whole: Size, part: Size) -> bool:
    """Whether ``whole`` is a multiple of ``part`` as a polynomial, so that ``part`` is the one to grow."""
    quotient = floordiv(whole, part) if part != 0 else whole
    return quotient * part == whole and quotient != 1


@op
class Slice(Op):
    """``y[i] = x[start + i*step]`` along each axis, for ``size`` elements.   x: T[S] -> T[sizes]"""

    starts: Shape
    sizes: Shape
    steps: tuple[int, ...]
    linear = "each"

    def infer(self, x: TensorType) -> TensorType:
        if not len(self.starts) == len(self.sizes) == len(self.steps) == x.ndim:
            raise RankError(f"slice: {x} needs {x.ndim} starts, sizes and steps")
        return x.with_shape(self.sizes)

    def reference(self, x: NDArray[Any]) -> NDArray[Any]:
        key = []
        for start, size, step in zip(concrete(self.starts), concrete(self.sizes), self.steps, strict=True):
            stop = start + size * step
            key.append(slice(start, stop if stop >= 0 else None, step) if size else slice(0, 0))
        return x[tuple(key)]

    def transpose(self, ct: Variable, inputs: Sequence[Variable]) -> Sequence[Derivative]:
        return [apply(Unslice(inputs[0].type.shape, self.starts, self.steps), ct)]

    def batch(self, inputs: Sequence[Variable], batched: Sequence[bool]) -> Sequence[Variable]:
        (x,) = inputs
        return [apply(Slice((0, *self.starts), (x.type.shape[0], *self.sizes), (1, *self.steps)), x)]

    def lower(self, index: ix.Index, x: ix.Tensor) -> ix.Expr:
        return x[[i * step + start for i, start, step in zip(index, self.starts, self.steps, strict=True)]]

    def samples(self) -> list[Sample]:
        x = np.arange(20.0).reshape(4, 5)
        return [
            Sample(Slice((1, 0), (2, 3), (1, 2)), (x,)),
            Sample(Slice((3, 4), (4, 2), (-1, -3)), (x,)),
            Sample(Slice((0, 0), (0, 5), (1, 1)), (x,)),
        ]


@op
class Unslice(Op):
    """Zeros of ``shape``, with x at ``start + i*step``: the transpose of a slice.   x: T[S] -> T[shape]"""

    shape: Shape
    starts: Shape
    steps: tuple[int, ...]
    linear = "each"

    def infer(self, x: TensorType) -> TensorType:
        if not len(self.starts) == len(self.shape) == len(self.steps) == x.ndim:
            raise RankError(f"unslice: {x} needs {x.ndim} sizes, starts and steps")
        return x.with_shape(self.shape)

    def reference(self, x: NDArray[Any]) -> NDArray[Any]:
        out = np.zeros(concrete(self.shape), x.dtype)
        key = []
        for start, size, step in zip(concrete(self.starts), x.shape, self.steps, strict=True):
            stop = start + size * step
            key.append(slice(start, stop if stop >= 0 else None, step) if size else slice(0, 0))
        out[tuple(key)] = x
        return out

    def transpose(self, ct: Variable, inputs: Sequence[Variable]) -> Sequence[Derivative]:
        return [apply(Slice(self.starts, inputs[0].type.shape, self.steps), ct)]

    def batch(self, inputs: Sequence[Variable], batched: Sequence[bool]) -> Sequence[Variable]:
        (x,) = inputs
        return [apply(Unslice((x.type.shape[0], *self.shape), (0, *self.starts), (1, *self.steps)), x)]

    def lower(self, index: ix.Index, x: ix.Tensor) -> ix.Expr:
        conditions, inner = [], []
        for i, start, step, size, full in zip(index, self.starts, self.steps, x.shape, self.shape, strict=True):
            if start == 0 and step == 1 and size == full:
                inner.append(i)
                continue
            offset = i - start if step > 0 else start - i
            stride = step if step > 0 else -step
            position = offset // stride
            conditions += [ix.greater_equal(offset, 0), ix.less(position, size)]
            if stride != 1:
                conditions.append(ix.equal(offset % stride, 0))
            inner.append(position)
        if not conditions:
            return x[inner]
        return ix.guard(ix.both(*conditions), x[inner], ix.const(0, x.dtype))

    def samples(self) -> list[Sample]:
        x = np.arange(6.0).reshape(2, 3)
        return [
            Sample(Unslice((4, 5), (1, 0), (1, 2)), (x,)),
            Sample(Unslice((4, 5), (3, 4), (-2, -2)), (x,)),
            Sample(Unslice((2, 3), (0, 0), (1, 1)), (x[:0],)),
        ]


@op
class Concatenate(Op):
    """Tensors one after another along ``axis``.   x_1 .. x_k: T[.., n_i, ..] -> T[.., sum n_i, ..]"""

    axis: int
    linear = "jointly"

    def infer(self, *inputs: TensorType) -> TensorType:
        first = inputs[0]
        for t in inputs:
            if t.without((self.axis,)) != first.without((self.axis,)):
                raise SizeError(f"concatenate: sizes off axis {self.axis} differ: {first} and {t}")
        total: Size = 0
        for t in inputs:
            total = total + t.shape[self.axis]
        return first.with_shape((*first.shape[: self.axis], total, *first.shape[self.axis + 1 :]))

    def reference(self, *inputs: NDArray[Any]) -> NDArray[Any]:
        return np.concatenate(inputs, axis=self.axis)

    def transpose(self, ct: Variable, inputs: Sequence[Variable]) -> Sequence[Derivative]:
        out: list[Derivative] = []
        start: Size = 0
        for x in inputs:
            starts: list[Size] = [0] * x.type.ndim
            starts[self.axis] = start
            out.append(apply(Slice(tuple(starts), x.type.shape, (1,) * x.type.ndim), ct))
            start = start + x.type.shape[self.axis]
        return out

    def batch(self, inputs: Sequence[Variable], batched: Sequence[bool]) -> Sequence[Variable]:
        from symgraph.ops.elementwise import broadcast_unbatched

        return [apply(Concatenate(self.axis + 1), *broadcast_unbatched(inputs, batched))]

    def lower(self, index: ix.Index, *inputs: ix.Tensor) -> ix.Expr:
        # A chain of guards from the last input to the first.
        axis, starts = self.axis, [0 * inputs[0].shape[self.axis]]
        for x in inputs:
            starts.append(starts[-1] + x.shape[axis])

        def element(k: int) -> ix.Expr:
            at = list(index)
            at[axis] = at[axis] - starts[k]
            return inputs[k][at]

        out = element(len(inputs) - 1)
        for k in range(len(inputs) - 2, -1, -1):
            out = ix.guard(ix.less(index[axis], starts[k + 1]), element(k), out)
        return out

    def samples(self) -> list[Sample]:
        x = np.arange(6.0).reshape(2, 3)
        return [
            Sample(Concatenate(0), (x, x[:1] + 7, x[:0])),
            Sample(Concatenate(1), (x, x[:, 1:])),
            Sample(Concatenate(0), (x[0],)),
        ]


# -- broadcasting, as NumPy has it -------------------------------------------------------------------------------------


def broadcast_to(x: TensorLike, shape: Sequence[Any]) -> Variable:
    """``x`` repeated to ``shape``, as ``numpy.broadcast_to``: static 1s stretch, missing axes are added in front."""
    v, target = as_variable(x), tuple(as_size(s) for s in shape)
    if v.type.shape == target:
        return v
    offset = len(target) - v.type.ndim
    fits = offset >= 0
    known = list(target)
    if fits:
        for a, s in enumerate(v.type.shape):
            if s != 1:
                both = unify(s, target[a + offset])
                fits = fits and both is not None
                known[a + offset] = both if both is not None else s
    if not fits:
        raise located(SizeError(f"broadcast_to: {v.type} does not broadcast to {list(target)}"), [v])
    target = tuple(known)
    kept = [a for a, s in enumerate(v.type.shape) if s != 1 or target[a + offset] == 1]
    if len(kept) < v.type.ndim:
        v = reshape(v, [v.type.shape[a] for a in kept])
    v = assert_shape(v, tuple(target[a + offset] for a in kept))
    if v.type.shape == target:
        return v
    return apply(Broadcast(target, tuple(a + offset for a in kept)), v)


def assert_shape(x: Variable, shape: Shape) -> Variable:
    """``x`` with unknown sizes stated to be those of ``shape``; a static contradiction is an error at once."""
    if x.type.shape == shape:
        return x
    if len(shape) != x.type.ndim or any(unify(a, b) is None for a, b in zip(x.type.shape, shape, strict=False)):
        raise located(SizeError(f"wanted sizes {list(shape)}, got {x.type}"), [x])
    return apply(AssertShape(shape), x)


def broadcast_operands(what: str, operands: Sequence[Variable]) -> list[Variable]:
    """Operands of one shape: NumPy's broadcasting, in which only a static 1 stretches."""
    shapes = [v.type.shape for v in operands]
    if all(s == shapes[0] for s in shapes[1:]):
        return list(operands)
    ndim = max(len(s) for s in shapes)
    target: list[Size] = [1] * ndim
    for s in shapes:
        for k, size in enumerate(s):
            a = k + ndim - len(s)
            if size == 1:
                continue
            both = size if target[a] == 1 else unify(target[a], size)
            if both is None:
                raise located(SizeError(f"{what}: sizes {target[a]} and {size} differ on axis {a - ndim}"), operands)
            target[a] = both
    return [broadcast_to(v, target) for v in operands]


# -- public functions --------------------------------------------------------------------------------------------------


def reshape(x: TensorLike, shape: Sequence[Any] | Any, order: str = "C") -> Variable:
    """The same elements in C order under another shape; one size may be -1.

    Raises :class:`~symgraph.errors.SizeError` where the numbers of elements differ.
    """
    v = as_variable(x)
    given = tuple(shape) if isinstance(shape, list | tuple) else (shape,)
    if order != "C":
        raise located(SizeError(f"reshape: only C order is supported, got {order!r}"), [v])
    free = [k for k, s in enumerate(given) if isinstance(s, int | np.integer) and s == -1]
    sizes: list[Size] = [1 if k in free else as_size(s) for k, s in enumerate(given)]
    if free:
        if len(free) > 1:
            raise located(SizeError(f"reshape: only one size can be -1, got {given}"), [v])
        rest = product(sizes)
        if rest == 0:
            raise located(SizeError(f"reshape: -1 is ambiguous beside a size of 0 in {given}"), [v])
        sizes[free[0]] = floordiv(v.type.size, rest)
        if isinstance(sizes[free[0]], int) and sizes[free[0]] * rest != v.type.size:
            raise located(SizeError(f"reshape: {v.type} does not fit into {given}"), [v])
        if product(sizes) != v.type.size:
            # Divisibility of a symbolic size is known at run time only.
            v = flatten_to(v, product(sizes))
    out = tuple(sizes)
    if v.type.shape == out:
        return v
    if isinstance(v, Constant) and v.data.size == 1 and all(isinstance(s, int) for s in out):
        return constant(v.data.reshape(concrete(out)), name=v.name)
    try:
        return apply(Reshape(out), v)
    except SizeError as error:
        raise located(error, [v]) from None


def flatten_to(x: Variable, size: Size) -> Variable:
    """``x`` as one axis, of a size that must prove equal at run time."""
    flat = apply(Reshape((x.type.size,)), x)
    return flat if flat.type.shape == (size,) else apply(AssertShape((size,)), flat)


def ravel(x: TensorLike) -> Variable:
    """All elements in one axis, in C order."""
    return reshape(x, (-1,))


def along(what: str, x: TensorLike, axis: int | None) -> tuple[Variable, int]:
    """The tensor and the axis that ``what`` works along: ``None`` is the only axis of the flattened ``x``."""
    v = as_variable(x)
    return (ravel(v), 0) if axis is None else (v, axis_of(what, v, axis))


def transpose(x: TensorLike, axes: Sequence[int] | None = None) -> Variable:
    """Axes in another order, reversed by default, as ``numpy.transpose``."""
    v = as_variable(x)
    if axes is None:
        order = tuple(reversed(range(v.type.ndim)))
    else:
        order = tuple(axis_of("transpose", v, a) for a in axes)
    if order == tuple(range(v.type.ndim)):
        return v
    return apply(Transpose(order), v)


def matrix_transpose(x: TensorLike) -> Variable:
    """The last two axes exchanged."""
    return swapaxes(x, -1, -2)


def swapaxes(x: TensorLike, axis1: int, axis2: int) -> Variable:
    """Two axes exchanged."""
    v = as_variable(x)
    a, b = (axis_of("swapaxes", v, k) for k in (axis1, axis2))
    order = list(range(v.type.ndim))
    order[a], order[b] = order[b], order[a]
    return transpose(v, order)


def moveaxis(x: TensorLike, source: int | Sequence[int], destination: int | Sequence[int]) -> Variable:
    """Axes moved to new places, the others in order, as ``numpy.moveaxis``."""
    v = as_variable(x)
    src = [axis_of("moveaxis", v, a) for a in ([source] if isinstance(source, int) else source)]
    dst = [axis_of("moveaxis", v, a) for a in ([destination] if isinstance(destination, int) else destination)]
    if len(src) != len(dst) or len(set(src)) != len(src) or len(set(dst)) != len(dst):
        raise located(RankError(f"moveaxis: {source} and {destination} must be distinct axes, equally many"), [v])
    order = [a for a in range(v.type.ndim) if a not in src]
    for d, s in sorted(zip(dst, src, strict=True)):
        order.insert(d, s)
    return transpose(v, order)


def expand_dims(x: TensorLike, axis: int | Sequence[int]) -> Variable:
    """New axes of size 1 at ``axis`` of the result."""
    v = as_variable(x)
    given = [axis] if isinstance(axis, int) else list(axis)
    places = axes_of("expand_dims", v, given, len(given))
    sizes = iter(v.type.shape)
    return reshape(v, [1 if a in places else next(sizes) for a in range(v.type.ndim + len(given))])


def squeeze(x: TensorLike, axis: int | Sequence[int] | None = None) -> Variable:
    """Axes of size 1 removed: all of them, or those of ``axis``."""
    v = as_variable(x)
    axes = [a for a, s in enumerate(v.type.shape) if s == 1] if axis is None else axes_of("squeeze", v, axis)
    for a in axes:
        if v.type.shape[a] != 1:
            raise located(SizeError(f"squeeze: axis {a} has size {v.type.shape[a]}, not 1"), [v])
    return reshape(v, [s for a, s in enumerate(v.type.shape) if a not in axes])


def concatenate(tensors: Sequence[TensorLike], axis: int | None = 0) -> Variable:
    """Tensors one after another along ``axis``, as ``numpy.concatenate``; ``None`` ravels them first."""
    from symgraph.ops.elementwise import cast

    variables = [as_variable(t) for t in tensors]
    if not variables:
        raise SizeError("concatenate: needs at least one tensor")
    if axis is None:
        variables, axis = [ravel(v) for v in variables], 0
    dtype = np.result_type(*[v.type.dtype for v in variables])
    variables = [cast(v, dtype) for v in variables]
    first = variables[0]
    axis = axis_of("concatenate", first, axis)
    if any(v.type.ndim != first.type.ndim for v in variables):
        raise located(RankError("concatenate: ranks differ"), variables)
    for a in range(first.type.ndim):
        if a != axis:
            size = first.type.shape[a]
            for v in variables:
                both = unify(size, v.type.shape[a])
                if both is None:
                    raise located(SizeError(f"concatenate: sizes on axis {a} differ"), variables)
                size = both
            variables = [assert_shape(v, (*v.type.shape[:a], size, *v.type.shape[a + 1 :])) for v in variables]
    return variables[0] if len(variables) == 1 else apply(Concatenate(axis), *variables)


def stack(tensors: Sequence[TensorLike], axis: int = 0) -> Variable:
    """Tensors of one shape along a new axis, as ``numpy.stack``."""
    variables = [as_variable(t) for t in tensors]
    if not variables:
        raise SizeError("stack: needs at least one tensor")
    axis = axis_of("stack", variables[0], axis, 1)
    return concatenate([expand_dims(v, axis) for v in variables], axis)


def split(x: TensorLike, indices_or_sections: int | Sequence[Any], axis: int = 0) -> list[Variable]:
    """Parts of ``x`` along ``axis``: equally many elements in each section, or between the given indices."""
    v = as_variable(x)
    axis = axis_of("split", v, axis)
    n = v.type.shape[axis]
    if isinstance(indices_or_sections, int):
        part = floordiv(n, indices_or_sections)
        if part * indices_or_sections != n:
            raise located(SizeError(f"split: {n} elements do not split into {indices_or_sections} equal parts"), [v])
        bounds: list[Size] = [part * k for k in range(indices_or_sections + 1)]
    else:
        bounds = [0, *[k if isinstance(k, Dim) else int(k) for k in indices_or_sections], n]
    from symgraph.ops.indexing import getitem

    before = (slice(None),) * axis
    return [getitem(v, (*before, slice(lo, hi))) for lo, hi in itertools.pairwise(bounds)]
