"""Reductions over axes: sum, prod, extrema and where they are, any, all, and the moments."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from symgraph import index as ix
from symgraph.errors import DTypeError, RankError, SizeError
from symgraph.graph import Variable
from symgraph.op import (
    DISCONNECTED,
    ZERO,
    Absence,
    Derivative,
    Op,
    Sample,
    TensorLike,
    apply,
    apply_node,
    as_variable,
    axes_of,
    axis_of,
    constant,
    differentiable,
    op,
)
from symgraph.ops.create import Iota, size_of
from symgraph.ops.elementwise import cast, divide, equal, maximum, multiply, scale, sqrt, square, subtract, where
from symgraph.ops.shape import (
    Broadcast,
    broadcast_to,
    concatenate,
    expand_dims,
    inverse_permutation,
    reshape,
    transpose,
)
from symgraph.types import Shape, Size, TensorType, is_float, product

Axes: TypeAlias = "int | Sequence[int] | None"


def spread(y: Variable, shape: Shape, axes: tuple[int, ...]) -> Variable:
    """``y``, the result of a reduction over ``axes``, repeated over them to the ``shape`` that was reduced."""
    if not axes:
        return y
    return apply(Broadcast(shape, tuple(a for a in range(len(shape)) if a not in axes)), y)


def _work_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    # Half precision is summed in single: 2048 + 1 is 2048 in half.
    return np.dtype("float32") if dtype == np.float16 else dtype


class OverAxes(Op):
    """Base of what takes a set of ``axes`` that the result does not have."""

    axes: tuple[int, ...]
    nonempty: ClassVar[bool] = False  # there is no neutral element

    def infer(self, x: TensorType) -> TensorType:
        if list(self.axes) != sorted(set(self.axes)) or builtins.any(not 0 <= a < x.ndim for a in self.axes):
            raise RankError(f"{self.name}: {self.axes} are not sorted axes of {x}")
        if self.nonempty:
            check_nonempty(self.name, x, self.axes)
        return x.without(self.axes)

    def batch(self, inputs: Sequence[Variable], batched: Sequence[bool]) -> Sequence[Variable]:
        return [apply(type(self)(tuple(a + 1 for a in self.axes)), inputs[0])]  # type: ignore[call-arg]

    def samples(self) -> list[Sample]:
        x = np.random.default_rng(3).uniform(-2, 2, (3, 4, 2))
        make: Any = type(self)
        out = [Sample(make((1,)), (x,)), Sample(make((0, 2)), (x,)), Sample(make((0, 1, 2)), (x,))]
        return [*out, Sample(make(()), (x[0, 0, 0],)), Sample(make((1,)), (x[:0],))]


class Reduction(OverAxes):
    """Base of the reductions by one associative function."""

    kind: ClassVar[str]

    def lower(self, index: ix.Index, x: ix.Tensor) -> ix.Expr:
        return reduced(self.kind, index, x, self.axes)


def check_nonempty(what: str, x: TensorType, axes: Sequence[int]) -> None:
    """Raise for an extremum over no elements, as NumPy does; a result without elements needs none."""
    if builtins.any(x.shape[a] == 0 for a in axes) and not builtins.any(
        s == 0 for a, s in enumerate(x.shape) if a not in axes
    ):
        raise SizeError(f"{what}: a reduction over no elements has no result: {x} over axes {list(axes)}")


def reduced(kind: str, index: ix.Index, x: ix.Tensor, axes: Sequence[int]) -> ix.Expr:
    """The index form of a reduction of ``x`` over ``axes``."""
    if not axes:
        return x[index]

    def body(inner: ix.Index) -> ix.Expr:
        outer, summed = iter(index), iter(inner)
        return x[[next(summed) if a in axes else next(outer) for a in range(len(x.shape))]]

    work = _work_dtype(x.dtype) if kind in ("add", "multiply") else x.dtype
    kind = _BOOLEAN.get(kind, kind) if x.dtype == bool else kind
    out = ix.reduce(kind, [x.shape[a] for a in axes], lambda inner: ix.cast(body(inner), work))
    return ix.cast(out, x.dtype)


# The extrema of truth values are their disjunction and conjunction.
_BOOLEAN = {"maximum": "logical_or", "minimum": "logical_and"}


@op
class Sum(Reduction):
    """Sum of x over ``axes``; float16 is summed in float32.   x: T[S] -> T[S without axes]"""

    axes: tuple[int, ...]
    kind = "add"
    linear = "each"

    def infer(self, x: TensorType) -> TensorType:
        if x.dtype == bool:
            raise DTypeError("sum: truth values are counted as int64; cast them first")
        return Reduction.infer(self, x)

    def reference(self, x: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(np.sum(x, axis=self.axes, dtype=_work_dtype(x.dtype))).astype(x.dtype)

    def transpose(self, ct: Variable, inputs: Sequence[Variable]) -> Sequence[Derivative]:
        return [spread(ct, inputs[0].type.shape, self.axes)]


@op
class Prod(Reduction):
    """Product of x over ``axes``; float16 is multiplied in float32.   x: T[S] -> T[S without axes]

    The derivative multiplies the cotangent with the product of the *other* elements. That is itself a product, so the
    rule is closed, and exact where elements are zero, to every order. It takes work in proportion to n for a static
    size n, and to n² for a symbolic one (without storing n² factors, once fused).
    """

    axes: tuple[int, ...]
    kind = "multiply"

    def infer(self, x: TensorType) -> TensorType:
        if x.dtype == bool:
            raise DTypeError("prod: truth values are multiplied as int64; cast them first")
        return Reduction.infer(self, x)

    def reference(self, x: NDArray[Any]) -> NDArray[Any]:
        with np.errstate(all="ignore"):
            return np.asarray(np.prod(x, axis=self.axes, dtype=_work_dtype(x.dtype))).astype(x.dtype)

    def _others(self, x: Variable) -> Variable:
        """For each element, the product of all others that go into the same result."""
        shape = x.type.shape
        kept = [a for a in range(len(shape)) if a not in self.axes]
        order = (*kept, *self.axes)
        front = tuple(shape[a] for a in kept)
        rows = reshape(transpose(x, order), (*front, product(shape[a] for a in self.axes)))
        back = reshape(_others_in_rows(rows), [shape[a] for a in order])
        return transpose(back, inverse_permutation(order))

    def vjp(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], cts: Sequence[Derivative]
    ) -> Sequence[Derivative]:
        (x,), (ct,) = inputs, cts
        if not differentiable(x):
            return [DISCONNECTED]
        if isinstance(ct, Absence) or not self.axes:
            return [ct]
        return [scale(spread(ct, x.type.shape, self.axes), self._others(x))]

    def jvp(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], tangents: Sequence[Derivative]
    ) -> Sequence[Derivative]:
        (x,), (t,) = inputs, tangents
        if isinstance(t, Absence) or not self.axes:
            return [t]
        return [apply(Sum(self.axes), multiply(t, self._others(x)))]

    def samples(self) -> list[Sample]:
        zeros = np.array([[0.0, 2.0, 3.0], [0.0, 0.0, 3.0], [1.0, -2.0, 0.5]])
        return [*Reduction.samples(self), Sample(Prod((1,)), (zeros,))]


# Below this size the quadratic form is one fused loop, and cheaper than slices.
_HALVE_ABOVE = 16


def _others_in_rows(x: Variable) -> Variable:
    """For each element of the last axis, the product of the others on it."""
    *front, n = x.type.shape
    axis = len(front)
    if isinstance(n, int) and n > _HALVE_ABOVE:
        # With c = a * b of the two halves, the others of a_i are b_i and the others of c_i.
        half = n // 2
        rest = n - 2 * half
        before = (slice(None),) * axis
        a, b = x[(*before, slice(0, half))], x[(*before, slice(half, 2 * half))]
        c = multiply(a, b)
        if rest:
            c = concatenate([c, x[(*before, slice(2 * half, n))]], axis)
        others = _others_in_rows(c)
        paired = others[(*before, slice(0, half))]
        parts = [multiply(paired, b), multiply(paired, a)]
        return concatenate([*parts, others[(*before, slice(half, half + rest))]] if rest else parts, axis)
    shape = (*front, n, n)
    same = equal(apply(Iota(shape, axis, "int64")), apply(Iota(shape, axis + 1, "int64")))
    factors = where(same, constant(1, x.type.dtype), spread(x, shape, (axis,)))
    return apply(Prod((axis + 1,)), factors)


class Extremum(Reduction):
    """Base of Max and Min: nan if any element is, and elements at a tie share the derivative equally."""

    nonempty = True

    def _winners(self, x: Variable, out: Variable) -> tuple[Variable, Variable]:
        """Which elements equal the result, and how many do."""
        mask = equal(x, spread(out, x.type.shape, self.axes))
        count = apply(Sum(self.axes), cast(mask, x.type.dtype))
        # No element equals a nan result; a count of 1 keeps infinities out of the masked branch's derivatives.
        return mask, maximum(count, constant(1, x.type.dtype))

    def vjp(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], cts: Sequence[Derivative]
    ) -> Sequence[Derivative]:
        (x,), (out,), (ct,) = inputs, outputs, cts
        if not differentiable(x):
            return [DISCONNECTED]
        if isinstance(ct, Absence) or not self.axes:
            return [ct]
        mask, count = self._winners(x, out)
        return [where(mask, spread(divide(ct, count), x.type.shape, self.axes), constant(0, ct.type.dtype))]

    def jvp(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], tangents: Sequence[Derivative]
    ) -> Sequence[Derivative]:
        (x,), (out,), (t,) = inputs, outputs, tangents
        if isinstance(t, Absence) or not self.axes:
            return [t]
        mask, count = self._winners(x, out)
        return [divide(apply(Sum(self.axes), where(mask, t, constant(0, t.type.dtype))), count)]

    def samples(self) -> list[Sample]:
        ties = np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0], [np.nan, 1.0, np.inf], [-np.inf, -1.0, -2.0]])
        return [*Reduction.samples(self), Sample(type(self)((1,)), (ties,), False)]  # type: ignore[call-arg]


@op
class Max(Extremum):
    """Largest element of x over ``axes``; nan if any is. Ties share the derivative.   x: T[S] -> T[S without axes]"""

    axes: tuple[int, ...]
    kind = "maximum"

    def reference(self, x: NDArray[Any]) -> NDArray[Any]:
        check_nonempty(self.name, TensorType(x.dtype, x.shape), self.axes)
        with np.errstate(all="ignore"):
            return np.asarray(np.max(x, axis=self.axes))


@op
class Min(Extremum):
    """Smallest element of x over ``axes``; nan if any is. Ties share the derivative.   x: T[S] -> T[S without axes]"""

    axes: tuple[int, ...]
    kind = "minimum"

    def reference(self, x: NDArray[Any]) -> NDArray[Any]:
        check_nonempty(self.name, TensorType(x.dtype, x.shape), self.axes)
        with np.errstate(all="ignore"):
            return np.asarray(np.min(x, axis=self.axes))


class Logical(Reduction):
    """Base of Any and All: reductions of truth values."""

    def infer(self, x: TensorType) -> TensorType:
        if x.dtype != bool:
            raise DTypeError(f"{self.name}: wanted truth values, got {x}")
        return Reduction.infer(self, x)

    def vjp(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], cts: Sequence[Derivative]
    ) -> Sequence[Derivative]:
        return [DISCONNECTED]

    def jvp(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], tangents: Sequence[Derivative]
    ) -> Sequence[Derivative]:
        return [DISCONNECTED]

    def samples(self) -> list[Sample]:
        return [Sample(s.op, (np.asarray(s.inputs[0] > 1.5),), False) for s in Reduction.samples(self)]


@op
class Any_(Logical):
    """Whether any element over ``axes`` is true.   x: bool[S] -> bool[S without axes]"""

    axes: tuple[int, ...]
    kind = "logical_or"
    name = "any"

    def reference(self, x: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(np.any(x, axis=self.axes))


@op
class All(Logical):
    """Whether all elements over ``axes`` are true.   x: bool[S] -> bool[S without axes]"""

    axes: tuple[int, ...]
    kind = "logical_and"

    def reference(self, x: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(np.all(x, axis=self.axes))


# -- where the extremum is ---------------------------------------------------------------------------------------------


def located_extremum(kind: str, index: ix.Index, x: ix.Tensor, axis: int) -> ix.Expr:
    """The index form of argmax and argmin along one axis."""

    def body(inner: ix.Index) -> ix.Expr:
        value = x[(*index[:axis], inner[0], *index[axis:])]
        return ix.cast(value, "uint8") if x.dtype == bool else value

    return ix.reduce(kind, [x.shape[axis]], body, dtype="int64")


class Located(Op):
    """Base of ops that say where along ``axis`` elements are: no real numbers, so they have no derivative.

    Their results are at least 0, and less than the operand's size along the axis: whatever is indexed by them along
    an axis of that size needs no check.
    """

    axis: int

    def vjp(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], cts: Sequence[Derivative]
    ) -> Sequence[Derivative]:
        return [ZERO if differentiable(inputs[0]) else DISCONNECTED]

    def jvp(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], tangents: Sequence[Derivative]
    ) -> Sequence[Derivative]:
        return [ZERO if differentiable(inputs[0]) else DISCONNECTED]

    def batch(self, inputs: Sequence[Variable], batched: Sequence[bool]) -> Sequence[Variable]:
        return [apply(type(self)(self.axis + 1), inputs[0])]  # type: ignore[call-arg]


def positions_below(v: Variable) -> Size | None:
    """What the elements of ``v`` are less than, where they are positions that an op has found; they are at least 0."""
    node = v.owner
    return node.inputs[0].type.shape[node.op.axis] if node is not None and isinstance(node.op, Located) else None


class Position(Located):
    """Base of ArgMax and ArgMin: the first position of the extremum along ``axis``, or of the first nan."""

    kind: ClassVar[str]

    def infer(self, x: TensorType) -> TensorType:
        if not 0 <= self.axis < x.ndim:
            raise RankError(f"{self.name}: axis {self.axis} does not exist in {x}")
        check_nonempty(self.name, x, (self.axis,))
        return x.without((self.axis,)).with_dtype("int64")

    def lower(self, index: ix.Index, x: ix.Tensor) -> ix.Expr:
        return located_extremum(self.kind, index, x, self.axis)

    def samples(self) -> list[Sample]:
        make: Any = type(self)
        return [Sample(make(axis), (x,), False) for axis, x in _position_cases()]


def _position_cases() -> list[tuple[int, NDArray[Any]]]:
    x = np.random.default_rng(5).uniform(-2, 2, (3, 4, 2))
    ties = np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0], [1.0, np.nan, np.nan], [-np.inf, np.inf, np.inf]])
    return [(0, x), (1, x), (2, x), (0, x[0, :, 0]), (1, x[:0]), (1, ties)]


@op
class ArgMax(Position):
    """First position of the largest element along ``axis``, or of the first nan.   x: T[S] -> int64[S without axis]"""

    axis: int
    kind = "argmax"

    def reference(self, x: NDArray[Any]) -> NDArray[Any]:
        check_nonempty(self.name, TensorType(x.dtype, x.shape), (self.axis,))
        return np.asarray(np.argmax(x, axis=self.axis), dtype="int64")


@op
class ArgMin(Position):
    """First position of the smallest element along ``axis``, or of the first nan.   x: T[S] -> int64[S without axis]"""

    axis: int
    kind = "argmin"

    def reference(self, x: NDArray[Any]) -> NDArray[Any]:
        check_nonempty(self.name, TensorType(x.dtype, x.shape), (self.axis,))
        return np.asarray(np.argmin(x, axis=self.axis), dtype="int64")


@op
class MaxAndArgmax(Op):
    """The largest element along ``axis`` and its first position, in one pass.   x: T[S] -> T[S'], int64[S']

    S' is S without ``axis``. At a tie the first of the largest elements has the derivative.
    """

    axis: int
    n_outputs = 2

    def infer(self, x: TensorType) -> tuple[TensorType, TensorType]:
        position = ArgMax.infer(self, x)  # type: ignore[arg-type]
        return position.with_dtype(x.dtype), position

    def reference(self, x: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        check_nonempty(self.name, TensorType(x.dtype, x.shape), (self.axis,))
        position = np.expand_dims(np.argmax(x, axis=self.axis), self.axis)
        value = np.take_along_axis(x, position, self.axis)
        return np.squeeze(value, self.axis), np.squeeze(position, self.axis).astype("int64")

    def _winner(self, x: Variable, position: Variable) -> Variable:
        shape = x.type.shape
        return equal(apply(Iota(shape, self.axis, "int64")), spread(position, shape, (self.axis,)))

    def vjp(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], cts: Sequence[Derivative]
    ) -> Sequence[Derivative]:
        (x,), (_, position), (ct, _) = inputs, outputs, cts
        if not differentiable(x):
            return [DISCONNECTED]
        if isinstance(ct, Absence):
            return [ZERO]
        spreaded = spread(ct, x.type.shape, (self.axis,))
        return [where(self._winner(x, position), spreaded, constant(0, ct.type.dtype))]

    def jvp(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], tangents: Sequence[Derivative]
    ) -> Sequence[Derivative]:
        (x,), (_, position), (t,) = inputs, outputs, tangents
        if isinstance(t, Absence):
            return [t, t]
        masked = where(self._winner(x, position), t, constant(0, t.type.dtype))
        return [apply(Sum((self.axis,)), masked), ZERO]

    def batch(self, inputs: Sequence[Variable], batched: Sequence[bool]) -> Sequence[Variable]:
        return apply_node(MaxAndArgmax(self.axis + 1), inputs).outputs

    def lower(self, index: ix.Index, x: ix.Tensor) -> tuple[ix.Expr, ix.Expr]:
        position = located_extremum("argmax", index, x, self.axis)
        return ix.cast(ix.extremum(position), x.dtype), position

    def samples(self) -> list[Sample]:
        return [Sample(MaxAndArgmax(axis), (x,), bool(np.isfinite(x).all())) for axis, x in _position_cases()]


# -- public functions --------------------------------------------------------------------------------------------------


def _reduce(make: type[Op], v: Variable, axis: Axes, keepdims: bool) -> Variable:
    axes = axes_of(make.name, v, axis)
    # Over no axes, every one of these is the identity.
    out = apply(make(axes), v) if axes else v  # type: ignore[call-arg]
    return expand_dims(out, axes) if keepdims and axes else out


def _total_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """What NumPy sums and multiplies small integers in."""
    if dtype.kind in "bi":
        return np.dtype("int64")
    return np.dtype("uint64") if dtype.kind == "u" else dtype


def sum(x: TensorLike, axis: Axes = None, dtype: Any = None, keepdims: bool = False) -> Variable:
    """Sum over ``axis`` (an int, several, or all), as ``numpy.sum``.

    Integers and truth values give int64 (unsigned ones uint64), floats their own dtype; ``dtype`` converts first.
    """
    v = as_variable(x)
    return _reduce(Sum, cast(v, _total_dtype(v.type.dtype) if dtype is None else dtype), axis, keepdims)


def prod(x: TensorLike, axis: Axes = None, dtype: Any = None, keepdims: bool = False) -> Variable:
    """Product over ``axis``, as ``numpy.prod``; dtypes as of :func:`sum`. Derivatives are exact at zeros."""
    v = as_variable(x)
    return _reduce(Prod, cast(v, _total_dtype(v.type.dtype) if dtype is None else dtype), axis, keepdims)


def max(x: TensorLike, axis: Axes = None, keepdims: bool = False) -> Variable:
    """Largest element over ``axis``, as ``numpy.max``: nan if any is. Elements at a tie share the derivative equally.

    Raises :class:`~symgraph.errors.SizeError` over an axis of size 0.
    """
    return _reduce(Max, as_variable(x), axis, keepdims)


def min(x: TensorLike, axis: Axes = None, keepdims: bool = False) -> Variable:
    """Smallest element over ``axis``, as ``numpy.min``: nan if any is. Elements at a tie share the derivative equally.

    Raises :class:`~symgraph.errors.SizeError` over an axis of size 0.
    """
    return _reduce(Min, as_variable(x), axis, keepdims)


def any(x: TensorLike, axis: Axes = None, keepdims: bool = False) -> Variable:
    """Whether any element over ``axis`` is true (not 0), as ``numpy.any``."""
    return _reduce(Any_, cast(x, bool), axis, keepdims)


def all(x: TensorLike, axis: Axes = None, keepdims: bool = False) -> Variable:
    """Whether all elements over ``axis`` are true (not 0), as ``numpy.all``."""
    return _reduce(All, cast(x, bool), axis, keepdims)


def _one_axis(what: str, x: TensorLike, axis: int | None) -> tuple[Variable, int, Sequence[int]]:
    """x, the axis to search, and the axes that keepdims restores; all elements are searched as one axis."""
    v = as_variable(x)
    if axis is None:
        return reshape(v, (-1,)), 0, range(v.type.ndim)
    axis = axis_of(what, v, axis)
    return v, axis, (axis,)


def argmax(x: TensorLike, axis: int | None = None, keepdims: bool = False) -> Variable:
    """First position of the largest element along ``axis`` (of the flattened x by default): int64."""
    v, axis, gone = _one_axis("argmax", x, axis)
    out = apply(ArgMax(axis), v)
    return expand_dims(out, gone) if keepdims else out


def argmin(x: TensorLike, axis: int | None = None, keepdims: bool = False) -> Variable:
    """First position of the smallest element along ``axis`` (of the flattened x by default): int64."""
    v, axis, gone = _one_axis("argmin", x, axis)
    out = apply(ArgMin(axis), v)
    return expand_dims(out, gone) if keepdims else out


def max_and_argmax(x: TensorLike, axis: int | None = None, keepdims: bool = False) -> tuple[Variable, Variable]:
    """The largest element along ``axis`` and its first position, in one pass. At a tie the first has the derivative."""
    v, axis, gone = _one_axis("max_and_argmax", x, axis)
    value, position = apply_node(MaxAndArgmax(axis), (v,)).outputs
    return (expand_dims(value, gone), expand_dims(position, gone)) if keepdims else (value, position)


def _moment_dtypes(v: Variable, dtype: Any) -> tuple[np.dtype[Any], np.dtype[Any]]:
    """What a moment is computed in, and what it is returned in."""
    out = np.dtype(dtype) if dtype is not None else v.type.dtype if is_float(v.type.dtype) else np.dtype("float64")
    return _work_dtype(out), out


def _count(v: Variable, axes: Sequence[int], dtype: np.dtype[Any]) -> Variable:
    return cast(size_of(product(v.type.shape[a] for a in axes)), dtype)


def mean(x: TensorLike, axis: Axes = None, dtype: Any = None, keepdims: bool = False) -> Variable:
    """Arithmetic mean over ``axis``, as ``numpy.mean``: float64 for integers; float16 is summed in float32."""
    v = as_variable(x)
    work, out = _moment_dtypes(v, dtype)
    axes = axes_of("mean", v, axis)
    total = sum(cast(v, work), axes, keepdims=keepdims)
    return cast(divide(total, _count(v, axes, work)), out)


def var(x: TensorLike, axis: Axes = None, dtype: Any = None, ddof: int | float = 0, keepdims: bool = False) -> Variable:
    """Variance over ``axis``, as ``numpy.var``: the sum of squared deviations from the mean, over n - ``ddof``."""
    v = as_variable(x)
    work, out = _moment_dtypes(v, dtype)
    axes = axes_of("var", v, axis)
    v = cast(v, work)
    deviation = subtract(v, broadcast_to(mean(v, axes, keepdims=True), v.type.shape))
    freedom = maximum(subtract(_count(v, axes, work), ddof), 0) if ddof else _count(v, axes, work)
    return cast(divide(sum(square(deviation), axes, keepdims=keepdims), freedom), out)


def std(x: TensorLike, axis: Axes = None, dtype: Any = None, ddof: int | float = 0, keepdims: bool = False) -> Variable:
    """Standard deviation over ``axis``: the square root of :func:`var`."""
    return sqrt(var(x, axis, dtype, ddof, keepdims))
