"""Where graphs begin: symbolic inputs, shared variables, constants, and tensors made of nothing but sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from symgraph import index as ix
from symgraph import source
from symgraph.errors import DTypeError, FormatError, RankError, SizeError
from symgraph.graph import SharedVariable, Variable
from symgraph.op import DISCONNECTED, Derivative, Op, Sample, TensorLike, apply, as_variable, constant, op
from symgraph.ops.elementwise import add, cast, equal, multiply, where
from symgraph.ops.shape import broadcast_to, concrete
from symgraph.types import Dim, Shape, Size, TensorType, as_dtype, as_size, floordiv, size_max, tensor_type

SizeLike: TypeAlias = "int | str | Dim | None"
ShapeLike: TypeAlias = "SizeLike | Sequence[SizeLike]"


class Nullary(Op):
    """An op without inputs: nothing to differentiate, nothing to batch."""

    def vjp(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], cts: Sequence[Derivative]
    ) -> Sequence[Derivative]:
        return []

    def jvp(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], tangents: Sequence[Derivative]
    ) -> Sequence[Derivative]:
        return [DISCONNECTED]

    def batch(self, inputs: Sequence[Variable], batched: Sequence[bool]) -> Sequence[Variable]:
        return [apply(self)]


@op
class Iota(Nullary):
    """``y[i] = i[axis]``: the position along an axis.   -> dtype[shape]"""

    shape: Shape
    axis: int
    dtype: str

    def infer(self) -> TensorType:
        if not 0 <= self.axis < len(self.shape):
            raise RankError(f"iota: axis {self.axis} does not exist in {list(self.shape)}")
        return TensorType(as_dtype(self.dtype), self.shape)

    def reference(self) -> NDArray[Any]:
        shape = concrete(self.shape)
        place = [n if a == self.axis else 1 for a, n in enumerate(shape)]
        return np.broadcast_to(np.arange(shape[self.axis]).astype(self.dtype).reshape(place), shape)

    def lower(self, index: ix.Index) -> ix.Expr:
        return ix.cast(index[self.axis], self.dtype)

    def samples(self) -> list[Sample]:
        cases = [((5,), 0, "int64"), ((2, 3), 1, "float32"), ((2, 3), 0, "float64"), ((0, 3), 0, "int32")]
        return [Sample(Iota(*case), (), False) for case in cases]


@op
class SizeOf(Nullary):
    """The number behind a size that is known when the graph runs.   -> int64[]"""

    size: Size

    def infer(self) -> TensorType:
        return TensorType(np.dtype("int64"), ())

    def reference(self) -> NDArray[Any]:
        return np.array(int(self.size), dtype="int64")

    def lower(self, index: ix.Index) -> ix.Expr:
        return ix.size_value(self.size)

    def samples(self) -> list[Sample]:
        return [Sample(SizeOf(7), (), False)]


# -- inputs and state --------------------------------------------------------------------------------------------------


def as_shape(shape: Any) -> Shape:
    """A shape from a sequence of sizes, or from a single size."""
    if shape is None or isinstance(shape, int | np.integer | str | Dim):
        shape = (shape,)
    return tuple(as_size(s) for s in shape)


def tensor(name: str | None = None, dtype: Any = "float64", shape: ShapeLike = ()) -> Variable:
    """A symbolic input: a tensor whose value is given when the graph is run.

    Args:
        name: shown in pictures and errors; also the keyword under which a function takes the value.
        dtype: one of :data:`symgraph.DTYPES`.
        shape: one size per axis: an int, a name (``"batch"``: the same name is the same size everywhere), or ``None``
            for an unknown size. 0-d by default.

    Raises :class:`~symgraph.errors.DTypeError` for a dtype that symgraph does not have, and
    :class:`~symgraph.errors.SizeError` for what is not a size.
    """
    if name is not None and not isinstance(name, str):
        raise FormatError(f"tensor: a name is a string, got {name!r}")
    return Variable(tensor_type(dtype, as_shape(shape)), name=name)


def _of_rank(what: str, ndim: int, name: str | None, dtype: Any, shape: ShapeLike | None) -> Variable:
    sizes = (None,) * ndim if shape is None else as_shape(shape)
    if len(sizes) != ndim:
        raise RankError(f"{what}: wanted {ndim} sizes, got shape {shape!r}   {source.show(source.current())}")
    return tensor(name, dtype, sizes)


def scalar(name: str | None = None, dtype: Any = "float64", shape: Sequence[SizeLike] = ()) -> Variable:
    """A symbolic input without axes; see :func:`tensor`."""
    return _of_rank("scalar", 0, name, dtype, shape)


def vector(name: str | None = None, dtype: Any = "float64", shape: ShapeLike | None = None) -> Variable:
    """A symbolic input of one axis, of unknown size unless ``shape`` says it; see :func:`tensor`.

    Raises :class:`~symgraph.errors.RankError` for a shape of another rank.
    """
    return _of_rank("vector", 1, name, dtype, shape)


def matrix(name: str | None = None, dtype: Any = "float64", shape: ShapeLike | None = None) -> Variable:
    """A symbolic input of two axes, of unknown sizes unless ``shape`` says them; see :func:`tensor`.

    Raises :class:`~symgraph.errors.RankError` for a shape of another rank.
    """
    return _of_rank("matrix", 2, name, dtype, shape)


def shared(value: object, name: str | None = None, dtype: Any = None) -> SharedVariable:
    """A variable with a value that lives across calls: parameters, counters. ``value`` is copied; its sizes are static.

    A function's ``updates`` replace the value; ``get_value`` and ``set_value`` read and write it from outside.
    """
    try:
        array = np.array(value, dtype=None if dtype is None else as_dtype(dtype), order="C")
    except ValueError as error:
        raise DTypeError(f"shared: not a tensor: {value!r}: {error}   {source.show(source.current())}") from error
    array = array.astype(as_dtype(array.dtype), copy=False)
    return SharedVariable(array, TensorType(array.dtype, array.shape), name)


def size_of(size: Size) -> Variable:
    """A size as a 0-d int64 tensor: a constant where it is static, else its value when the graph runs."""
    return constant(size, "int64") if isinstance(size, int) else apply(SizeOf(size))


# -- tensors of one value ----------------------------------------------------------------------------------------------


def full(shape: ShapeLike, fill_value: TensorLike, dtype: Any = None) -> Variable:
    """``fill_value`` repeated to ``shape``, as ``numpy.full``; sizes may be symbolic, and the value a variable."""
    value = as_variable(fill_value, dtype)
    return broadcast_to(value if dtype is None else cast(value, dtype), as_shape(shape))


def zeros(shape: ShapeLike, dtype: Any = "float64") -> Variable:
    """Zeros of ``shape``."""
    return full(shape, 0, dtype)


def ones(shape: ShapeLike, dtype: Any = "float64") -> Variable:
    """Ones of ``shape``."""
    return full(shape, 1, dtype)


def full_like(x: TensorLike, fill_value: TensorLike, dtype: Any = None) -> Variable:
    """``fill_value`` repeated to the shape of ``x``, in its dtype unless ``dtype`` is given."""
    v = as_variable(x)
    return full(v.type.shape, fill_value, v.type.dtype if dtype is None else dtype)


def zeros_like(x: TensorLike, dtype: Any = None) -> Variable:
    """Zeros of the shape of ``x``, in its dtype unless ``dtype`` is given."""
    return full_like(x, 0, dtype)


def ones_like(x: TensorLike, dtype: Any = None) -> Variable:
    """Ones of the shape of ``x``, in its dtype unless ``dtype`` is given."""
    return full_like(x, 1, dtype)


# -- ranges ------------------------------------------------------------------------------------------------------------


def arange(
    start: Size | float, stop: Size | float | None = None, step: Size | float = 1, dtype: Any = None
) -> Variable:
    """Evenly spaced numbers from ``start`` up to but without ``stop``, as ``numpy.arange``.

    Bounds are numbers, or symbolic sizes: ``arange(x.shape[0])``. A step beside symbolic bounds is an int. The result
    is int64 where all are ints or sizes, else float64, unless ``dtype`` is given.
    """
    first, last = (0, start) if stop is None else (start, stop)
    given: tuple[Any, ...] = (first, last, step)
    for value in given:
        if not isinstance(value, int | float | np.integer | np.floating | Dim) or isinstance(value, bool):
            raise DTypeError(f"arange: bounds are numbers or sizes, got {value!r}   {source.show(source.current())}")
    if not isinstance(step, Dim) and step == 0:
        raise SizeError(f"arange: the step must not be 0   {source.show(source.current())}")
    count: Size
    if any(isinstance(v, Dim) for v in given):
        if not isinstance(step, int) or isinstance(first, float) or isinstance(last, float):
            raise DTypeError(
                f"arange: beside symbolic sizes, all is ints, got {given}   {source.show(source.current())}"
            )
        span = last - first if step > 0 else first - last
        count = size_max(floordiv(span + (_magnitude(step) - 1), _magnitude(step)), 0)
        dtype = "int64" if dtype is None else dtype
    else:
        count = max(math.ceil((last - first) / step), 0)  # type: ignore[operator]
        if dtype is None:
            dtype = "float64" if any(isinstance(v, float | np.floating) for v in given) else "int64"
    position = apply(Iota((count,), 0, as_dtype(dtype).name))
    if step != 1:
        # NumPy's arithmetic: multiples of the difference of the first two elements, as rounded.
        delta = step if isinstance(first, Dim) else as_dtype(dtype).type(first + step) - as_dtype(dtype).type(first)  # type: ignore[operator]
        position = multiply(position, constant(delta, dtype))
    if isinstance(first, Dim) or first != 0:
        position = add(position, cast(as_variable(first), dtype))
    return position


def _magnitude(step: int) -> int:
    return step if step > 0 else -step


def linspace(
    start: TensorLike, stop: TensorLike, num: SizeLike = 50, endpoint: bool = True, dtype: Any = "float64"
) -> Variable:
    """``num`` evenly spaced numbers from ``start`` to ``stop`` (0-d), ``stop`` itself included if ``endpoint``."""
    count = as_size(num)
    first, last = cast(as_variable(start), dtype), cast(as_variable(stop), dtype)
    parts = size_of(size_max(count - 1 if endpoint else count, 1))
    position = apply(Iota((count,), 0, as_dtype(dtype).name))
    out = add(first, multiply(position, (last - first) / cast(parts, dtype)))
    if not endpoint or count == 1:
        return out
    # The last element is exact, whatever the step's rounding.
    return where(equal(apply(Iota((count,), 0, "int64")), size_of(count - 1)), last, out)


def eye(n: SizeLike, m: SizeLike = None, k: int = 0, dtype: Any = "float64") -> Variable:
    """Ones on the ``k``-th diagonal of an n × m matrix (n × n by default), zeros elsewhere, as ``numpy.eye``."""
    rows = as_size(n)
    shape = (rows, rows if m is None else as_size(m))
    return cast(equal(apply(Iota(shape, 0, "int64")) + k, apply(Iota(shape, 1, "int64"))), dtype)
