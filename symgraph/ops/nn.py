"""Functions of neural networks: softmax and its kin, in forms that neither overflow nor cancel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symgraph.errors import DTypeError, RankError
from symgraph.graph import Variable
from symgraph.op import (
    Absence,
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
from symgraph.ops.create import Iota, full
from symgraph.ops.elementwise import add as add_
from symgraph.ops.elementwise import (
    cast,
    divide,
    equal,
    erfc,
    exp,
    greater,
    isfinite,
    log,
    multiply,
    negative,
    scale,
    sigmoid,
    softplus,
    subtract,
    where,
)
from symgraph.ops.masks import masked_rows
from symgraph.ops.reduce import Axes, Max, OverAxes, Sum, spread
from symgraph.ops.shape import expand_dims
from symgraph.types import Size, TensorType, as_dtype, as_size, is_float


def _floats(what: str, x: TensorType) -> None:
    if not is_float(x.dtype):
        raise DTypeError(f"{what}: wanted floats, got {x}")


def _single(x: Variable) -> Variable:
    """Half precision is computed in single."""
    return cast(x, "float32") if x.type.dtype == np.float16 else x


def _wide(x: NDArray[Any]) -> NDArray[Any]:
    return x.astype("float32") if x.dtype == np.float16 else x


def _finite_or_zero(m: Variable) -> Variable:
    return where(isfinite(m), m, constant(0, m.type.dtype))


class AlongAxis(Op):
    """Base of the normalizations along ``axis``, which keep x's type."""

    axis: int

    def infer(self, x: TensorType) -> TensorType:
        _floats(self.name, x)
        if not 0 <= self.axis < x.ndim:
            raise RankError(f"{self.name}: axis {self.axis} does not exist in {x}")
        return x

    def _total(self, y: Variable) -> Variable:
        """The sum along the axis, repeated along it."""
        return spread(apply(Sum((self.axis,)), y), y.type.shape, (self.axis,))

    def _largest(self, x: Variable) -> Variable:
        return apply(Max((self.axis,)), x)

    def batch(self, inputs: Sequence[Variable], batched: Sequence[bool]) -> Sequence[Variable]:
        return [apply(type(self)(self.axis + 1), inputs[0])]  # type: ignore[call-arg]

    def samples(self) -> list[Sample]:
        make: Any = type(self)
        x = np.random.default_rng(7).normal(size=(3, 4, 2))
        large = np.array([[1000.0, 1001.0, -1000.0], [-np.inf, 0.0, 1.0]])
        cases = [(1, x), (2, x), (0, x[0, :, 0]), (1, x[:0]), (1, x[:, :0])]
        return [*[Sample(make(axis), (a,)) for axis, a in cases], Sample(make(1), (large,), False)]


@op
class Softmax(AlongAxis):
    """``exp(x) / sum(exp(x))`` along ``axis``, without overflow. [6.2.2.3]   x: float[S] -> float[S]

    The derivative is ``y * (ct - sum(y * ct))``, and the same in forward mode: the Jacobian is symmetric.
    """

    axis: int

    def reference(self, x: NDArray[Any]) -> NDArray[Any]:
        if not x.size:
            return x
        with np.errstate(all="ignore"):
            wide = _wide(x)
            e = np.exp(wide - np.max(wide, axis=self.axis, keepdims=True))
            return np.asarray(e / np.sum(e, axis=self.axis, keepdims=True)).astype(x.dtype)

    def _product(self, y: Variable, d: Derivative) -> Derivative:
        if isinstance(d, Absence):
            return d
        return masked_rows(d, multiply(y, subtract(d, self._total(multiply(y, d)))), self.axis)

    def vjp(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], cts: Sequence[Derivative]
    ) -> Sequence[Derivative]:
        return [self._product(outputs[0], cts[0])]

    def jvp(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], tangents: Sequence[Derivative]
    ) -> Sequence[Derivative]:
        return [self._product(outputs[0], tangents[0])]

    def decompose(self, x: Variable) -> Variable:
        """The graph that is compiled: the largest element is subtracted first, so exp cannot overflow."""
        if x.type.shape[self.axis] == 0:
            return x
        wide = _single(x)
        e = exp(subtract(wide, spread(self._largest(wide), x.type.shape, (self.axis,))))
        return cast(divide(e, self._total(e)), x.type.dtype)


@op
class LogSoftmax(AlongAxis):
    """``x - log(sum(exp(x)))`` along ``axis``, without overflow or cancellation. [6.2.2.3]   x: float[S] -> float[S]

    The derivative is ``ct - exp(y) * sum(ct)``.
    """

    axis: int

    def reference(self, x: NDArray[Any]) -> NDArray[Any]:
        if not x.size:
            return x
        with np.errstate(all="ignore"):
            wide = _wide(x)
            m = np.max(wide, axis=self.axis, keepdims=True)
            shifted = wide - np.where(np.isfinite(m), m, m.dtype.type(0))
            return np.asarray(shifted - np.log(np.sum(np.exp(shifted), axis=self.axis, keepdims=True))).astype(x.dtype)

    def vjp(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], cts: Sequence[Derivative]
    ) -> Sequence[Derivative]:
        (y,), (ct,) = outputs, cts
        if isinstance(ct, Absence):
            return [ct]
        return [masked_rows(ct, subtract(ct, multiply(exp(y), self._total(ct))), self.axis)]

    def jvp(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], tangents: Sequence[Derivative]
    ) -> Sequence[Derivative]:
        (y,), (t,) = outputs, tangents
        return [t if isinstance(t, Absence) else subtract(t, self._total(multiply(exp(y), t)))]

    def decompose(self, x: Variable) -> Variable:
        """The graph that is compiled: the largest element is subtracted first, so exp cannot overflow."""
        if x.type.shape[self.axis] == 0:
            return x
        axes, shape, wide = (self.axis,), x.type.shape, _single(x)
        shifted = subtract(wide, spread(_finite_or_zero(self._largest(wide)), shape, axes))
        return cast(subtract(shifted, spread(log(apply(Sum(axes), exp(shifted))), shape, axes)), x.type.dtype)


@op
class LogSumExp(OverAxes):
    """``log(sum(exp(x)))`` over ``axes``, without overflow. [6.2.2.3]   x: float[S] -> float[S without axes]

    The largest element is subtracted first (0 where it is infinite, so that infinities come out as they went in). The
    derivative is ``exp(x - y) * ct``; it is 0 where all elements are -inf. Over no elements the result is -inf.
    """

    axes: tuple[int, ...]

    def infer(self, x: TensorType) -> TensorType:
        _floats(self.name, x)
        return OverAxes.infer(self, x)

    def reference(self, x: NDArray[Any]) -> NDArray[Any]:
        with np.errstate(all="ignore"):
            wide = _wide(x)
            m = np.max(wide, axis=self.axes, keepdims=True, initial=-np.inf)
            m = np.where(np.isfinite(m), m, m.dtype.type(0))
            total = np.log(np.sum(np.exp(wide - m), axis=self.axes, keepdims=True)) + m
            return np.asarray(np.squeeze(total, self.axes)).astype(x.dtype)

    def _weights(self, x: Variable, y: Variable) -> Variable:
        return exp(subtract(x, spread(_finite_or_zero(y), x.type.shape, self.axes)))

    def vjp(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], cts: Sequence[Derivative]
    ) -> Sequence[Derivative]:
        (x,), (y,), (ct,) = inputs, outputs, cts
        if isinstance(ct, Absence):
            return [ct]
        return [scale(spread(ct, x.type.shape, self.axes), self._weights(x, y))]

    def jvp(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], tangents: Sequence[Derivative]
    ) -> Sequence[Derivative]:
        (x,), (y,), (t,) = inputs, outputs, tangents
        if isinstance(t, Absence) or not self.axes:
            return [t]
        return [apply(Sum(self.axes), multiply(self._weights(x, y), t))]

    def decompose(self, x: Variable) -> Variable:
        """The graph that is compiled."""
        if not self.axes:
            return x
        if any(x.type.shape[a] == 0 for a in self.axes):
            return full(x.type.without(self.axes).shape, -math.inf, x.type.dtype)
        wide = _single(x)
        m = _finite_or_zero(apply(Max(self.axes), wide))
        e = exp(subtract(wide, spread(m, x.type.shape, self.axes)))
        return cast(add_(log(apply(Sum(self.axes), e)), m), x.type.dtype)

    def samples(self) -> list[Sample]:
        edges = np.array([[np.inf, 0.0], [-np.inf, -np.inf], [1000.0, 1000.0], [-1000.0, -np.inf], [np.nan, 1.0]])
        return [
            *OverAxes.samples(self),
            Sample(LogSumExp((1,)), (edges,), False),
        ]


# -- public functions --------------------------------------------------------------------------------------------------


def as_floats(x: TensorLike) -> Variable:
    """``x`` as a float tensor: integers become float64."""
    v = as_variable(x)
    return v if is_float(v.type.dtype) else cast(v, "float64")


def _along(make: type[Op], x: TensorLike, axis: int) -> Variable:
    v = as_floats(x)
    return apply(make(axis_of(make.name, v, axis)), v)  # type: ignore[call-arg]


def softmax(x: TensorLike, axis: int = -1) -> Variable:
    """``exp(x) / sum(exp(x))`` along ``axis``, without overflow. [6.2.2.3]"""
    return _along(Softmax, x, axis)


def log_softmax(x: TensorLike, axis: int = -1) -> Variable:
    """``log(softmax(x))`` along ``axis``, without overflow or cancellation. [6.2.2.3]"""
    return _along(LogSoftmax, x, axis)


def logsumexp(x: TensorLike, axis: Axes = None, keepdims: bool = False) -> Variable:
    """``log(sum(exp(x)))`` over ``axis`` (all axes by default), without overflow, as ``scipy.special.logsumexp``."""
    v = as_floats(x)
    axes = axes_of("logsumexp", v, axis)
    out = apply(LogSumExp(axes), v) if axes else v
    return expand_dims(out, axes) if keepdims and axes else out


def log_sigmoid(x: TensorLike) -> Variable:
    """``log(sigmoid(x))`` of each element, as ``-softplus(-x)``: no overflow."""
    return negative(softplus(negative(as_floats(x))))


def leaky_relu(x: TensorLike, negative_slope: float = 0.01) -> Variable:
    """``x`` where positive, else ``negative_slope * x``. [6.3.1]"""
    v = as_floats(x)
    return where(greater(v, 0), v, multiply(v, negative_slope))


def silu(x: TensorLike) -> Variable:
    """``x * sigmoid(x)`` of each element."""
    v = as_floats(x)
    return multiply(v, sigmoid(v))


def gelu(x: TensorLike) -> Variable:
    """``x * Φ(x)`` of each element, Φ the normal distribution function (Hendrycks and Gimpel, arXiv:1606.08415)."""
    v = as_floats(x)
    # erfc keeps its relative accuracy where 1 + erf cancels.
    return multiply(multiply(v, 0.5), erfc(multiply(v, -math.sqrt(0.5))))


def one_hot(indices: TensorLike, num_classes: Size | str, dtype: Any = "float64") -> Variable:
    """Vectors with a one at each index: int[S] -> dtype[S, num_classes]. An index out of range gives zeros."""
    v = as_variable(indices)
    if v.type.dtype.kind not in "iu":
        raise located(DTypeError("one_hot: indices are integers"), [v])
    shape = (*v.type.shape, as_size(num_classes))
    positions = apply(Iota(shape, v.type.ndim, "int64"))
    return cast(equal(positions, spread(cast(v, "int64"), shape, (v.type.ndim,))), as_dtype(dtype))
