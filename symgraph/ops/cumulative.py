"""Running reductions along an axis: sums, products and extrema of all elements up to each one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from symgraph import index as ix
from symgraph.errors import DTypeError, RankError
from symgraph.graph import Variable
from symgraph.op import (
    DISCONNECTED,
    Absence,
    Derivative,
    Op,
    Sample,
    TensorLike,
    apply,
    constant,
    differentiable,
    op,
)
from symgraph.ops.create import Iota
from symgraph.ops.elementwise import cast, equal, less_equal, logical_or, multiply, not_equal, where
from symgraph.ops.indexing import take_along_axis
from symgraph.ops.reduce import Sum, _total_dtype, _work_dtype, spread
from symgraph.ops.shape import along
from symgraph.types import TensorType


class Running(Op):
    """Base of the reductions over the elements of ``axis`` up to each one; ``reverse``: from each one to the last."""

    axis: int
    reverse: bool
    kind: ClassVar[str]

    def infer(self, x: TensorType) -> TensorType:
        if not 0 <= self.axis < x.ndim:
            raise RankError(f"{self.name}: axis {self.axis} does not exist in {x}")
        if x.dtype == bool and self.kind in ("add", "multiply"):
            raise DTypeError(f"{self.name}: truth values are taken as int64; cast them first")
        return x

    def work_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """What the running value is held in."""
        return _work_dtype(dtype) if self.kind in ("add", "multiply") else dtype

    def reference(self, x: NDArray[Any]) -> NDArray[Any]:
        ufunc: np.ufunc = getattr(np, self.kind)
        turned = np.flip(x, self.axis) if self.reverse else x
        with np.errstate(all="ignore"):
            out = ufunc.accumulate(turned, axis=self.axis, dtype=self.work_dtype(x.dtype)).astype(x.dtype)
        return np.flip(out, self.axis) if self.reverse else out

    def batch(self, inputs: Sequence[Variable], batched: Sequence[bool]) -> Sequence[Variable]:
        return [apply(type(self)(self.axis + 1, self.reverse), inputs[0])]  # type: ignore[call-arg]

    def lower(self, index: ix.Index, x: ix.Tensor) -> ix.Expr:
        axis, work = self.axis, self.work_dtype(x.dtype)

        def term(j: ix.Expr) -> ix.Expr:
            return ix.cast(x[(*index[:axis], j, *index[axis + 1 :])], work)

        return ix.cast(ix.running(self.kind, index[axis], x.shape[axis], term, self.reverse), x.dtype)

    def samples(self) -> list[Sample]:
        x = np.random.default_rng(8).uniform(-2, 2, (3, 4, 2))
        make: Any = type(self)
        cases = [(0, x), (1, x), (2, x), (0, x[0, :, 0])]
        both = [Sample(make(axis, reverse), (a,)) for axis, a in cases for reverse in (False, True)]
        return [*both, *[Sample(make(axis), (a,)) for axis, a in ((1, x[:, :0]), (0, x[:0]), (1, x[:, :1]))]]


@op
class CumSum(Running):
    """Sum of the elements of ``axis`` up to each one, or from each one on; float16 in float32.   x: T[S] -> T[S]"""

    axis: int
    reverse: bool = False
    kind = "add"
    linear = "each"

    def transpose(self, ct: Variable, inputs: Sequence[Variable]) -> Sequence[Derivative]:
        return [apply(CumSum(self.axis, not self.reverse), ct)]


@op
class CumProd(Running):
    """Product of the elements of ``axis`` up to each one, or from each one on; float16 in float32.   x: T[S] -> T[S]

    The derivative of the i-th product in the k-th element is the product of the others: the i-th running product of x
    with 1 in the k-th place. So the rule is closed, and exact where elements are zero, to every order. It takes work
    and memory in proportion to n².
    """

    axis: int
    reverse: bool = False
    kind = "multiply"

    def _others(self, x: Variable) -> tuple[Variable, Variable]:
        """For element k and product i, axes ``axis`` and ``axis + 1``: whether k is a factor of i, and all others."""
        axis, shape = self.axis, x.type.shape
        pairs = (*shape[:axis], shape[axis], *shape[axis:])
        element, product = (apply(Iota(pairs, a, "int64")) for a in (axis, axis + 1))
        factors = where(equal(element, product), constant(1, x.type.dtype), spread(x, pairs, (axis,)))
        among = less_equal(product, element) if self.reverse else less_equal(element, product)
        return among, apply(CumProd(axis + 1, self.reverse), factors)

    def vjp(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], cts: Sequence[Derivative]
    ) -> Sequence[Derivative]:
        (x,), (ct,) = inputs, cts
        if not differentiable(x):
            return [DISCONNECTED]
        return [ct if isinstance(ct, Absence) else self._summed(x, ct, self.axis, self.axis + 1)]

    def jvp(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], tangents: Sequence[Derivative]
    ) -> Sequence[Derivative]:
        (x,), (t,) = inputs, tangents
        return [t if isinstance(t, Absence) else self._summed(x, t, self.axis + 1, self.axis)]

    def _summed(self, x: Variable, seed: Variable, repeated: int, summed: int) -> Variable:
        among, others = self._others(x)
        terms = where(among, multiply(spread(seed, others.type.shape, (repeated,)), others), constant(0, x.type.dtype))
        return apply(Sum((summed,)), terms)

    def samples(self) -> list[Sample]:
        zeros = np.array([[0.0, 2.0, 3.0], [0.5, 0.0, 0.0], [1.0, -2.0, 0.0]])
        return [*Running.samples(self), Sample(CumProd(1), (zeros,)), Sample(CumProd(0, True), (zeros,))]


class RunningExtremum(Running):
    """Base of CumMax and CumMin: nan from the first nan on. Among equal elements the latest has the derivative."""

    def _positions(self, x: Variable, out: Variable) -> Variable:
        """Where the extremum up to each element is: at the last element, on the way, that is the extremum up to it."""
        new = logical_or(equal(x, out), not_equal(x, x))  # the first always is
        place = apply(Iota(x.type.shape, self.axis, "int64"))
        if self.reverse:
            return apply(CumMin(self.axis, True), where(new, place, constant(np.iinfo("int64").max)))
        return apply(CumMax(self.axis), where(new, place, constant(0)))

    def _taken(self, x: Variable, out: Variable, source: Variable) -> Variable:
        return take_along_axis(source, self._positions(x, out), self.axis)

    def vjp(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], cts: Sequence[Derivative]
    ) -> Sequence[Derivative]:
        (x,), (out,), (ct,) = inputs, outputs, cts
        if not differentiable(x):
            return [DISCONNECTED]
        if isinstance(ct, Absence):
            return [ct]
        node = self._taken(x, out, x).owner
        assert node is not None
        return [node.op.transpose(ct, node.inputs)[0]]

    def jvp(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], tangents: Sequence[Derivative]
    ) -> Sequence[Derivative]:
        (x,), (out,), (t,) = inputs, outputs, tangents
        return [t if isinstance(t, Absence) else self._taken(x, out, t)]

    def samples(self) -> list[Sample]:
        make: Any = type(self)
        ties = np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0], [-1.0, np.nan, 2.0], [-np.inf, np.inf, np.nan]])
        return [*Running.samples(self), *[Sample(make(1, reverse), (ties,), False) for reverse in (False, True)]]


@op
class CumMax(RunningExtremum):
    """Largest element of ``axis`` up to each one, or from each one on; nan from a nan on.   x: T[S] -> T[S]"""

    axis: int
    reverse: bool = False
    kind = "maximum"


@op
class CumMin(RunningExtremum):
    """Smallest element of ``axis`` up to each one, or from each one on; nan from a nan on.   x: T[S] -> T[S]"""

    axis: int
    reverse: bool = False
    kind = "minimum"


# -- public functions --------------------------------------------------------------------------------------------------


def cumsum(x: TensorLike, axis: int | None = None, dtype: Any = None) -> Variable:
    """Sum of the elements of ``axis`` up to each one, as ``numpy.cumsum``: of the shape of ``x``.

    ``None`` takes the flattened ``x``. Integers and truth values give int64 (unsigned ones uint64), floats their own
    dtype; float16 is added up in float32. ``dtype`` converts first. Raises :class:`~symgraph.errors.RankError` for an
    axis that does not exist.
    """
    v, axis = along("cumsum", x, axis)
    return apply(CumSum(axis), cast(v, _total_dtype(v.type.dtype) if dtype is None else dtype))


def cumprod(x: TensorLike, axis: int | None = None, dtype: Any = None) -> Variable:
    """Product of the elements of ``axis`` up to each one, as ``numpy.cumprod``: of the shape of ``x``.

    Axes and dtypes as of :func:`cumsum`. Derivatives are exact where elements are zero; they take work and memory in
    proportion to the square of the length. Raises :class:`~symgraph.errors.RankError` for an axis that does not exist.
    """
    v, axis = along("cumprod", x, axis)
    return apply(CumProd(axis), cast(v, _total_dtype(v.type.dtype) if dtype is None else dtype))


def cummax(x: TensorLike, axis: int | None = None) -> Variable:
    """Largest element of ``axis`` up to each one, as ``numpy.maximum.accumulate``: nan from the first nan on.

    ``None`` takes the flattened ``x``. Among equal elements the latest has the derivative. Raises
    :class:`~symgraph.errors.RankError` for an axis that does not exist.
    """
    v, axis = along("cummax", x, axis)
    return apply(CumMax(axis), v)


def cummin(x: TensorLike, axis: int | None = None) -> Variable:
    """Smallest element of ``axis`` up to each one, as ``numpy.minimum.accumulate``: nan from the first nan on.

    As :func:`cummax` otherwise.
    """
    v, axis = along("cummin", x, axis)
    return apply(CumMin(axis), v)
