"""Sorting: where the elements go is an op; that they go there is a gather, and so has its derivative."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from symgraph.errors import RankError
from symgraph.graph import Variable
from symgraph.op import Sample, TensorLike, apply, op
from symgraph.ops.indexing import take_along_axis
from symgraph.ops.reduce import Located
from symgraph.ops.shape import along
from symgraph.types import TensorType


@op
class ArgSort(Located):
    """Positions along ``axis`` in ascending order of the elements, nan last, equal ones in the order they have.

    x: T[S] -> int64[S]. A stable sort of O(n log n): a step of NumPy's on the processor, launches of
    ``symgraph_kernels.cuda.sort`` on a GPU.
    """

    axis: int
    host = "numpy"

    def infer(self, x: TensorType) -> TensorType:
        if not 0 <= self.axis < x.ndim:
            raise RankError(f"{self.name}: axis {self.axis} does not exist in {x}")
        return x.with_dtype("int64")

    def reference(self, x: NDArray[Any]) -> NDArray[Any]:
        return np.argsort(x, axis=self.axis, stable=True).astype("int64", copy=False)

    def samples(self) -> list[Sample]:
        x = np.random.default_rng(6).uniform(-2, 2, (3, 4, 2))
        ties = np.array([[1.0, 3.0, 1.0, -np.inf], [np.nan, 2.0, np.inf, 2.0], [0.0, -0.0, 0.0, -0.0]])
        cases = [(0, x), (1, x), (2, x), (0, x[0, :, 0]), (1, x[:0]), (0, x[:0]), (1, ties)]
        return [Sample(ArgSort(axis), (a,), False) for axis, a in cases]


def argsort(x: TensorLike, axis: int | None = -1) -> Variable:
    """Positions that sort ``x`` along ``axis``, ascending, as ``numpy.argsort``: int64 of the shape of ``x``.

    ``None`` sorts the flattened ``x``. nan are last; elements that are equal keep their order. Raises
    :class:`~symgraph.errors.RankError` for an axis that does not exist.
    """
    v, axis = along("argsort", x, axis)
    return apply(ArgSort(axis), v)


def sort(x: TensorLike, axis: int | None = -1) -> Variable:
    """The elements of ``x`` along ``axis`` in ascending order, nan last, as ``numpy.sort``.

    ``None`` sorts the flattened ``x``. The derivative moves with the elements; of those that are equal, the one that
    comes first in ``x`` has the derivative of the first place, and so on. Raises
    :class:`~symgraph.errors.RankError` for an axis that does not exist.
    """
    v, axis = along("sort", x, axis)
    return take_along_axis(v, apply(ArgSort(axis), v), axis)
