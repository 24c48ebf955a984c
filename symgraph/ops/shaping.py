"""Operations that change gradients and nothing else: the identity, with a derivative that is stated instead of true."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from symgraph import index as ix
from symgraph import source
from symgraph.errors import DTypeError, FormatError, RankError, SizeError
from symgraph.graph import Variable
from symgraph.op import (
    DISCONNECTED,
    ZERO,
    Derivative,
    Op,
    Sample,
    TensorLike,
    apply,
    as_variable,
    constant,
    located,
    op,
)
from symgraph.ops.create import zeros
from symgraph.ops.elementwise import _clip_op, absolute, cast, divide, greater, multiply, sqrt, square, where
from symgraph.ops.reduce import Max, Sum
from symgraph.ops.shape import Broadcast, broadcast_to, concatenate, reshape
from symgraph.types import TensorType, at_least, is_float, product


class Shaping(Op):
    """Base: the value of x, and further operands of its dtype that its first axes have.

    x: float[S], parameters: float[first axes of S] -> float[S]
    """

    parameters_taken: ClassVar[int] = 0

    def infer(self, x: TensorType, *more: TensorType) -> TensorType:
        if not is_float(x.dtype):
            raise DTypeError(f"{self.name}: wanted floats, got {x}")
        if len(more) != self.parameters_taken:
            raise DTypeError(f"{self.name} takes {1 + self.parameters_taken} operands, got {1 + len(more)}")
        for t in more:
            if t.dtype != x.dtype:
                raise DTypeError(f"{self.name}: operands are of different dtypes")
            if t.ndim > x.ndim:
                raise RankError(f"{self.name}: {t} has more axes than {x}")
            if t.shape != x.shape[: t.ndim]:
                raise SizeError(f"{self.name}: {t} does not fit the first axes of {x}")
        return x

    def reference(self, x: NDArray[Any], *more: NDArray[Any]) -> NDArray[Any]:
        return x

    def shaped(self, ct: Variable, *more: Variable) -> Derivative:
        """What becomes of a cotangent; ``more`` are the parameters."""
        raise NotImplementedError

    def vjp(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], cts: Sequence[Derivative]
    ) -> Sequence[Derivative]:
        (ct,), (_, *more) = cts, inputs
        return [self.shaped(ct, *more) if isinstance(ct, Variable) else ct, *[DISCONNECTED] * len(more)]

    def jvp(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], tangents: Sequence[Derivative]
    ) -> Sequence[Derivative]:
        return [tangents[0]]

    def batch(self, inputs: Sequence[Variable], batched: Sequence[bool]) -> Sequence[Variable]:
        size = next(v.type.shape[0] for v, b in zip(inputs, batched, strict=True) if b)
        # A parameter gets the new axis too: it is each element's own.
        ready = [v if b else broadcast_to(v, (size, *v.type.shape)) for v, b in zip(inputs, batched, strict=True)]
        return [apply(self, *ready)]

    def lower(self, index: ix.Index, x: ix.Tensor, *more: ix.Tensor) -> ix.Expr:
        return x[index]

    def _samples(self, *parameters: float) -> list[Sample]:
        """With parameters that change no derivative of the samples, so that it is the identity's; and with others."""
        x = np.random.default_rng(17).normal(size=(3, 2))
        steep = np.array([[1.0, np.inf], [2.0, 3.0]])
        out = [Sample(self, (x, *(np.full(x.shape[:k], p) for p in parameters))) for k in range(2) if parameters]
        out += [Sample(self, (x[0, 0], *map(np.array, parameters)))] if parameters else []
        return [*out, Sample(self, (steep, *(np.array(float(k)) for k in range(len(parameters)))), False)]


def _over(parameter: Variable, v: Variable) -> Variable:
    """A parameter over all elements of ``v``."""
    if parameter.type.ndim == v.type.ndim:
        return parameter
    return apply(Broadcast(v.type.shape, tuple(range(parameter.type.ndim))), parameter)


@op
class ZeroGradient(Shaping):
    """The identity with a derivative of zero, in both modes.   x: float[S] -> float[S]"""

    def shaped(self, ct: Variable, *more: Variable) -> Derivative:
        return ZERO

    def jvp(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], tangents: Sequence[Derivative]
    ) -> Sequence[Derivative]:
        return [ZERO]

    def samples(self) -> list[Sample]:
        return self._samples()


@op
class ScaleGradient(Shaping):
    """The identity with a derivative of ``factor``, in both modes.   x: float[S], factor: float[first axes of S]"""

    parameters_taken = 1

    def shaped(self, ct: Variable, *more: Variable) -> Derivative:
        return multiply(ct, _over(more[0], ct))

    def jvp(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], tangents: Sequence[Derivative]
    ) -> Sequence[Derivative]:
        t = tangents[0]
        return [self.shaped(t, inputs[1]) if isinstance(t, Variable) else t]

    def samples(self) -> list[Sample]:
        return self._samples(1.0)


@op
class ClipGradient(Shaping):
    """The identity whose cotangent is limited to ``[lo, hi]``, element by element.

    x: float[S], lo, hi: float[first axes of S] -> float[S]. Tangents pass: there is nothing to clip going forward.
    """

    parameters_taken = 2

    def shaped(self, ct: Variable, *more: Variable) -> Derivative:
        return _clip_op(ct, *(_over(p, ct) for p in more))

    def samples(self) -> list[Sample]:
        return self._samples(-1e30, 1e30)


@op
class ClipGradientNorm(Shaping):
    """The identity whose cotangent is scaled down to a Euclidean norm of at most ``limit``. [10.11.1]

    x: float[S], limit: float[first axes of S] -> float[S]; the norm is taken over the other axes. Tangents pass.
    """

    parameters_taken = 1

    def shaped(self, ct: Variable, *more: Variable) -> Derivative:
        (limit,) = more
        axes = tuple(range(limit.type.ndim, ct.type.ndim))
        if any(ct.type.shape[a] == 0 for a in axes):
            return ct
        dtype = ct.type.dtype
        largest = absolute(ct)
        if not all(at_least(ct.type.shape[a], 1) for a in axes):  # there may be no element: then 0 is the largest
            lead, rest = limit.type.shape, ct.type.shape[limit.type.ndim :]
            largest = concatenate([reshape(largest, (*lead, product(rest))), zeros((*lead, 1), dtype)], -1)
            largest = apply(Max((limit.type.ndim,)), largest)
        elif axes:
            largest = apply(Max(axes), largest)
        # Elements are divided by the largest first: a gradient that has exploded must not overflow in its square.
        unit = where(greater(largest, 0), largest, constant(1, dtype))
        squares = square(divide(ct, _over(unit, ct)))
        norm = multiply(unit, sqrt(apply(Sum(axes), squares) if axes else squares))
        return multiply(ct, _over(where(greater(norm, limit), divide(limit, norm), constant(1, dtype)), ct))

    def samples(self) -> list[Sample]:
        return self._samples(1e30)


# -- public functions --------------------------------------------------------------------------------------------------


def _float(what: str, x: TensorLike) -> Variable:
    v = as_variable(x)
    if not is_float(v.type.dtype):
        raise located(DTypeError(f"{what}: wanted floats, got {v.type}"), [v])
    return v


def _parameter(what: str, value: TensorLike, x: Variable) -> Variable:
    v = cast(as_variable(value), x.type.dtype)
    if v.type.ndim:
        raise located(RankError(f"{what}: wanted a number or a scalar, got {v.type}"), [x])
    return v


def zero_gradient(x: TensorLike) -> Variable:
    """``x``, with a derivative of zero: gradients through it are zeros.

    Unlike :func:`~symgraph.stop_gradient`, after which a result counts as not depending on ``x`` at all, which ``grad``
    reports as an error. Raises :class:`~symgraph.errors.DTypeError` for integers.
    """
    return apply(ZeroGradient(), _float("zero_gradient", x))


def scale_gradient(x: TensorLike, factor: TensorLike) -> Variable:
    """``x``, with ``factor`` times the derivative, in reverse and in forward mode; -1 reverses gradients.

    ``factor`` is a number or a scalar of the graph, through which no derivative flows (Ganin and Lempitsky,
    arXiv:1409.7495, section 3, for -λ). Raises :class:`~symgraph.errors.DTypeError` for integers ``x``,
    :class:`~symgraph.errors.RankError` for a factor with axes.
    """
    v = _float("scale_gradient", x)
    return apply(ScaleGradient(), v, _parameter("scale_gradient", factor, v))


def clip_gradient(
    x: TensorLike, min: TensorLike | None = None, max: TensorLike | None = None, *, norm: TensorLike | None = None
) -> Variable:
    """``x``, whose gradient is limited: each element to ``[min, max]``, or the whole to a Euclidean norm. [10.11.1]

    Bounds are numbers or scalars of the graph, through which no derivative flows; ``None``: no bound. A gradient of
    larger ``norm`` is scaled down to it, without overflow. Tangents of forward mode are not changed. Raises
    :class:`~symgraph.errors.FormatError` for both kinds of bounds, for none, or for a negative norm,
    :class:`~symgraph.errors.DTypeError` for integers ``x``, :class:`~symgraph.errors.RankError` for bounds with axes.
    """
    v = _float("clip_gradient", x)
    if isinstance(norm, int | float) and not norm >= 0:
        raise FormatError(f"clip_gradient: norm must be 0 or more, got {norm}  {source.show(source.current())}")
    if (norm is None) == (min is None and max is None):
        raise FormatError(f"clip_gradient: wanted either min, max or both, or norm  {source.show(source.current())}")
    if norm is not None:
        return apply(ClipGradientNorm(), v, _parameter("clip_gradient: norm", norm, v))
    lo = _parameter("clip_gradient: min", -math.inf if min is None else min, v)
    hi = _parameter("clip_gradient: max", math.inf if max is None else max, v)
    return apply(ClipGradient(), v, lo, hi)
