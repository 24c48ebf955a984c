"""Gather and its transpose, the adding scatter, in label form: both are closed under differentiation and batching.

A *label* is a number that names an axis of the result. Each axis of ``x`` is walked either by a label or by an index
operand; each axis of an index operand is walked by a label. ``take`` of a matrix's rows, ``out[1, 0] = x[idx[1], 0]``,
has ``x_axes=(-1, 0)`` (the entry ``-1 - k`` stands for index operand ``k``), ``index_axes=((1,),)``, ``out=(1, 0)``. A
label that walks two axes of ``x`` takes a diagonal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symgraph import index as ix
from symgraph.errors import DTypeError, IndexRangeError, RankError, SizeError
from symgraph.graph import Variable
from symgraph.op import DISCONNECTED, Derivative, Op, Sample, apply, op
from symgraph.ops.shape import broadcast_to, concrete
from symgraph.types import Shape, Size, TensorType

Labels = tuple[int, ...]


def _label_sizes(
    what: str, shape: Shape, x_axes: Labels, index_axes: Sequence[Labels], indices: Sequence[TensorType]
) -> dict[int, Size]:
    """The size behind each label; raises where operands and labels do not fit together."""
    if len(shape) != len(x_axes) or len(indices) != len(index_axes):
        raise RankError(f"{what}: {list(shape)} and {len(indices)} indices do not fit {x_axes} and {index_axes}")
    if sorted(-1 - e for e in x_axes if e < 0) != list(range(len(indices))):
        raise RankError(f"{what}: each index operand indexes one axis: {x_axes}")
    walked = [(e, s) for e, s in zip(x_axes, shape, strict=True) if e >= 0]
    for t, axes in zip(indices, index_axes, strict=True):
        if t.dtype.kind not in "iu":
            raise DTypeError(f"{what}: indices are integers, got {t}")
        if len(axes) != t.ndim or len(set(axes)) != t.ndim:
            raise RankError(f"{what}: labels {axes} do not fit index {t}")
        walked += zip(axes, t.shape, strict=True)
    sizes: dict[int, Size] = {}
    for label, size in walked:
        if sizes.setdefault(label, size) != size:
            raise SizeError(f"{what}: sizes {sizes[label]} and {size} differ")
    return sizes


def _positions(
    what: str,
    shape: tuple[int, ...],
    x_axes: Labels,
    index_axes: Sequence[Labels],
    out: Labels,
    sizes: Sequence[int],
    indices: Sequence[NDArray[Any]],
) -> tuple[NDArray[Any], ...]:
    """For each axis of x, where each element of ``out`` is found, as arrays that broadcast to ``sizes``."""
    found = []
    for a, entry in enumerate(x_axes):
        axes: Labels
        if entry >= 0:
            axes, positions = (entry,), np.arange(shape[a])
        else:
            axes, positions = index_axes[-1 - entry], np.asarray(indices[-1 - entry]).astype("int64")
            bad = (positions < -shape[a]) | (positions >= shape[a])
            if bad.any() and 0 not in sizes:
                raise IndexRangeError(f"{what}: index {positions[bad][0]} lies outside axis {a} of size {shape[a]}")
            positions = np.where(positions < 0, positions + shape[a], positions)
        order = sorted(range(len(axes)), key=lambda k, axes=axes: out.index(axes[k]))  # type: ignore[misc]
        place = [n if label in axes else 1 for label, n in zip(out, sizes, strict=True)]
        found.append(positions.transpose(order).reshape(place))
    return tuple(found)


def _element(
    index: ix.Index,
    shape: Shape,
    x_axes: Labels,
    index_axes: Sequence[Labels],
    out: Labels,
    indices: Sequence[ix.Tensor],
) -> ix.Index:
    """Where in x the element ``index`` of ``out`` is found, as index expressions."""
    at = dict(zip(out, index, strict=True))
    found = []
    for entry, size in zip(x_axes, shape, strict=True):
        if entry >= 0:
            found.append(at[entry])
        else:
            k = -1 - entry
            found.append(ix.gather_index(indices[k][[at[label] for label in index_axes[k]]], size))
    return tuple(found)


@op
class Gather(Op):
    """``y[out] = x[for each axis a label or an index operand]``; see the module for the labels.

    x: T[S], indices: int[..] -> T[sizes of ``out``]. Negative indices count from the end; one out of range raises
    :class:`~symgraph.errors.IndexRangeError` when the graph runs.
    """

    x_axes: Labels
    index_axes: tuple[Labels, ...]
    out: Labels
    linear = "each"

    def infer(self, x: TensorType, *indices: TensorType) -> TensorType:
        sizes = _label_sizes(self.name, x.shape, self.x_axes, self.index_axes, indices)
        if set(sizes) != set(self.out) or len(set(self.out)) != len(self.out):
            raise RankError(f"gather: the result's labels {self.out} are not those of the operands")
        return x.with_shape(sizes[label] for label in self.out)

    def reference(self, x: NDArray[Any], *indices: NDArray[Any]) -> NDArray[Any]:
        types = [TensorType(i.dtype, i.shape) for i in indices]
        sizes = _label_sizes(self.name, x.shape, self.x_axes, self.index_axes, types)
        shape = concrete(tuple(sizes[label] for label in self.out))
        if 0 in shape:
            return np.zeros(shape, x.dtype)
        at = _positions(self.name, x.shape, self.x_axes, self.index_axes, self.out, shape, indices)
        return np.asarray(x[at])

    def transpose(self, ct: Variable, inputs: Sequence[Variable]) -> Sequence[Derivative]:
        x, *indices = inputs
        scatter = ScatterAdd(x.type.shape, self.x_axes, self.index_axes, self.out)
        return [apply(scatter, ct, *indices), *[DISCONNECTED] * len(indices)]

    def batch(self, inputs: Sequence[Variable], batched: Sequence[bool]) -> Sequence[Variable]:
        label = max(self.out, default=-1) + 1
        x_axes = (label, *self.x_axes) if batched[0] else self.x_axes
        index_axes = tuple(
            (label, *axes) if flag else axes for axes, flag in zip(self.index_axes, batched[1:], strict=True)
        )
        return [apply(Gather(x_axes, index_axes, (label, *self.out)), *inputs)]

    def lower(self, index: ix.Index, x: ix.Tensor, *indices: ix.Tensor) -> ix.Expr:
        return x[_element(index, x.shape, self.x_axes, self.index_axes, self.out, indices)]

    def samples(self) -> list[Sample]:
        return [Sample(Gather(*labels), (x, *indices)) for labels, x, indices in _cases()]


@op
class ScatterAdd(Op):
    """Zeros of ``shape``, with ct's elements added where a gather would have read: the transpose of :class:`Gather`.

    ct: T[sizes of ``labels``], indices: int[..] -> T[shape]. Elements that meet are added up. Indices as of Gather.
    """

    shape: Shape
    x_axes: Labels
    index_axes: tuple[Labels, ...]
    labels: Labels
    linear = "each"

    def infer(self, ct: TensorType, *indices: TensorType) -> TensorType:
        sizes = _label_sizes(self.name, self.shape, self.x_axes, self.index_axes, indices)
        if len(self.labels) != ct.ndim or set(sizes) != set(self.labels):
            raise RankError(f"scatter_add: labels {self.labels} do not fit {ct}")
        if any(sizes[label] != s for label, s in zip(self.labels, ct.shape, strict=True)):
            raise SizeError(f"scatter_add: {ct} does not have the sizes {[sizes[label] for label in self.labels]}")
        return ct.with_shape(self.shape)

    def reference(self, ct: NDArray[Any], *indices: NDArray[Any]) -> NDArray[Any]:
        shape = concrete(self.shape)
        # Half precision is added up in single, as in sums.
        out = np.zeros(shape, "float32" if ct.dtype == np.float16 else ct.dtype)
        if ct.size:
            at = _positions(self.name, shape, self.x_axes, self.index_axes, self.labels, ct.shape, indices)
            with np.errstate(all="ignore"):
                np.add.at(out, at, ct)
        return out.astype(ct.dtype)

    def transpose(self, ct: Variable, inputs: Sequence[Variable]) -> Sequence[Derivative]:
        indices = inputs[1:]
        gather = Gather(self.x_axes, self.index_axes, self.labels)
        return [apply(gather, ct, *indices), *[DISCONNECTED] * len(indices)]

    def batch(self, inputs: Sequence[Variable], batched: Sequence[bool]) -> Sequence[Variable]:
        ct, *indices = inputs
        size = next(v.type.shape[0] for v, flag in zip(inputs, batched, strict=True) if flag)
        if not batched[0]:
            ct = broadcast_to(ct, (size, *ct.type.shape))
        label = max(self.labels, default=-1) + 1
        index_axes = tuple(
            (label, *axes) if flag else axes for axes, flag in zip(self.index_axes, batched[1:], strict=True)
        )
        scatter = ScatterAdd((size, *self.shape), (label, *self.x_axes), index_axes, (label, *self.labels))
        return [apply(scatter, ct, *indices)]

    def writes(self, ct: ix.Tensor, *indices: ix.Tensor) -> list[ix.Write]:
        """The scatter's stores, into an output of zeros: one for each element of ct."""

        def at(index: ix.Index) -> ix.Index:
            return _element(index, self.shape, self.x_axes, self.index_axes, self.labels, indices)

        # Without index operands every element of ct has a place of its own.
        return [ix.Write(ct.shape, at, lambda index: ct[index], "add" if indices else "set")]

    def samples(self) -> list[Sample]:
        out = []
        for labels, x, indices in _cases():
            like = np.asarray(Gather(*labels).reference(x, *indices))
            ct = np.arange(1.0, like.size + 1).reshape(like.shape)
            out.append(Sample(ScatterAdd(x.shape, *labels), (ct, *indices)))
        return out


def _cases() -> list[tuple[tuple[Labels, tuple[Labels, ...], Labels], NDArray[Any], tuple[NDArray[Any], ...]]]:
    x = np.arange(12.0).reshape(4, 3) ** 1.5
    pair = np.array([[0, 3], [-1, 3]])
    return [
        (((-1, 0), ((1, 2),), (1, 2, 0)), x, (pair,)),  # rows, with repetition
        (((0, -1), ((0, 1),), (0, 1)), x, (np.array([[0, 2], [1, 1], [-3, 0], [2, 2]], "int32"),)),  # along an axis
        (((-1, -2), ((0, 1), (1,)), (1, 0)), x, (pair, np.array([2, -2], "int8"))),  # two, broadcast
        (((-1, 0), ((),), (0,)), x, (np.array(-2),)),  # one row
        (((-1, 0), ((1,),), (0, 1)), x, (np.array([], "int64"),)),  # nothing
        (((0, 0), (), (0,)), x[:3], ()),  # the diagonal
        (((), (), ()), x[0, 0], ()),
    ]
