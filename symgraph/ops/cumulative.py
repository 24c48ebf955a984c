"""Running reductions along an axis: sums, products and extrema of all elements up to each one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from symgraph import index as ix
from symgraph.errors import DTypeError, RankError
from symgraph.graph import Variable
from symgraph.op import Derivative, Op, Sample, TensorLike, apply, as_variable, axis_of, op
from symgraph.ops.elementwise import cast
from symgraph.ops.reduce import _total_dtype, _work_dtype
from symgraph.ops.shape import ravel
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
        cases = [(0, x), (1, x), (2, x), (0, x[0, :, 0]), (1, x[:, :0]), (0, x[:0]), (1, x[:, :1])]
        return [Sample(make(axis, reverse), (a,)) for axis, a in cases for reverse in (False, True)]


@op
class CumSum(Running):
    """Sum of the elements of ``axis`` up to each one, or from each one on; float16 in float32.   x: T[S] -> T[S]"""

    axis: int
    reverse: bool = False
    kind = "add"
    linear = "each"

    def transpose(self, ct: Variable, inputs: Sequence[Variable]) -> Sequence[Derivative]:
        return [apply(CumSum(self.axis, not self.reverse), ct)]


def _along(what: str, x: TensorLike, axis: int | None) -> tuple[Variable, int]:
    v = as_variable(x)
    return (ravel(v), 0) if axis is None else (v, axis_of(what, v, axis))


def cumsum(x: TensorLike, axis: int | None = None, dtype: Any = None) -> Variable:
    """Sum of the elements of ``axis`` up to each one, as ``numpy.cumsum``: of the shape of ``x``.

    ``None`` takes the flattened ``x``. Integers and truth values give int64 (unsigned ones uint64), floats their own
    dtype; float16 is added up in float32. ``dtype`` converts first. Raises :class:`~symgraph.errors.RankError` for an
    axis that does not exist.
    """
    v, axis = _along("cumsum", x, axis)
    return apply(CumSum(axis), cast(v, _total_dtype(v.type.dtype) if dtype is None else dtype))
