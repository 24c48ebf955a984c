"""Products of tensors summed over shared axes: one op, of which matmul, dot, outer, tensordot and einsum are made."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symgraph import index as ix
from symgraph.errors import DTypeError, FormatError, RankError, SizeError
from symgraph.graph import Variable
from symgraph.op import Derivative, Op, Sample, TensorLike, apply, as_variable, axis_of, located, op
from symgraph.ops.elementwise import cast, multiply
from symgraph.ops.gather import Gather
from symgraph.ops.masks import RowMask, row_masks
from symgraph.ops.reduce import sum as sum_over
from symgraph.ops.shape import assert_shape, broadcast_to, ravel, reshape, transpose
from symgraph.types import Size, TensorType, unify

Labels = tuple[int, ...]


@op
class Contract(Op):
    """``y[out] = sum over the other labels of a[lhs] * b[rhs]``: labels are numbers that name axes.

    a: T[sizes of lhs], b: T[sizes of rhs] -> T[sizes of out]. The labels of an operand are distinct, and each label
    belongs to at least two of lhs, rhs, out, so the transpose in either operand is a contraction again. float16 is
    summed in float32; for truth values, product and sum are "and" and "or".
    """

    lhs: Labels
    rhs: Labels
    out: Labels
    linear = "each"

    def infer(self, a: TensorType, b: TensorType) -> TensorType:
        if a.dtype != b.dtype:
            raise DTypeError(f"contract: operands of different dtypes: {a} and {b}")
        if len(self.lhs) != a.ndim or len(self.rhs) != b.ndim:
            raise RankError(f"contract: labels {self.lhs} and {self.rhs} do not fit {a} and {b}")
        groups = [set(labels) for labels in (self.lhs, self.rhs, self.out)]
        if [len(g) for g in groups] != [a.ndim, b.ndim, len(self.out)]:
            raise RankError(f"contract: a label appears twice in one of {self.lhs}, {self.rhs}, {self.out}")
        sizes: dict[int, Size] = {}
        for label, size in zip(self.lhs + self.rhs, a.shape + b.shape, strict=True):
            if sizes.setdefault(label, size) != size:
                raise SizeError(f"contract: sizes {sizes[label]} and {size} of one label differ")
        if any(builtins.sum(label in g for g in groups) < 2 for label in set().union(*groups)):
            raise RankError(f"contract: a label stands alone in {self.lhs}, {self.rhs}, {self.out}")
        return a.with_shape(sizes[label] for label in self.out)

    def reference(self, a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
        # As one stack of matrix products, which NumPy has for every dtype.
        stacked = [k for k in self.out if k in self.lhs and k in self.rhs]
        rows = [k for k in self.out if k not in self.rhs]
        columns = [k for k in self.out if k not in self.lhs]
        summed = [k for k in self.lhs if k not in self.out]
        sizes = dict(zip(self.lhs + self.rhs, a.shape + b.shape, strict=True))

        def arranged(x: NDArray[Any], labels: Labels, *groups: list[int]) -> NDArray[Any]:
            wide = x.astype("float32") if x.dtype == np.float16 else x
            order = [labels.index(k) for group in (stacked, *groups) for k in group]
            shape = [sizes[k] for k in stacked] + [int(np.prod([sizes[k] for k in group])) for group in groups]
            return wide.transpose(order).reshape(shape)

        with np.errstate(all="ignore"):
            product = np.matmul(arranged(a, self.lhs, rows, summed), arranged(b, self.rhs, summed, columns))
        made = (*stacked, *rows, *columns)
        product = product.reshape([sizes[k] for k in made]).transpose([made.index(k) for k in self.out])
        return np.asarray(product.astype(a.dtype))

    def transpose(self, ct: Variable, inputs: Sequence[Variable]) -> Sequence[Derivative]:
        a, b = inputs
        rows = row_masks(ct)
        left, right = self._unmasked(rows, a, self.lhs, self.rhs), self._unmasked(rows, b, self.rhs, self.lhs)
        return [
            self._masked(rows, apply(Contract(self.out, self.rhs, self.lhs), ct, right), self.lhs),
            self._masked(rows, apply(Contract(self.lhs, self.out, self.rhs), left, ct), self.rhs),
        ]

    def _unmasked(self, rows: Sequence[RowMask], x: Variable, own: Labels, result: Labels) -> Variable:
        """The operand ``x`` without rows of which the cotangent is 0, or 0 times nan would get into every sum."""
        for r in rows:
            labels = [self.out[k] for k in r.axes]
            if set(labels) <= set(own) and not set(labels) <= set(result):
                x = r.onto(x, [own.index(k) for k in labels])
        return x

    def _masked(self, rows: Sequence[RowMask], d: Variable, own: Labels) -> Variable:
        """The cotangent ``d``, and 0 in the rows in which that of the product is."""
        for r in rows:
            labels = [self.out[k] for k in r.axes]
            if set(labels) <= set(own):
                d = r.onto(d, [own.index(k) for k in labels])
        return d

    def batch(self, inputs: Sequence[Variable], batched: Sequence[bool]) -> Sequence[Variable]:
        label = max((*self.lhs, *self.rhs), default=-1) + 1
        lhs, rhs = ((label, *k) if flag else k for k, flag in zip((self.lhs, self.rhs), batched, strict=True))
        return [apply(Contract(lhs, rhs, (label, *self.out)), *inputs)]

    def lower(self, index: ix.Index, a: ix.Tensor, b: ix.Tensor) -> ix.Expr:
        kept = dict(zip(self.out, index, strict=True))
        sizes = dict(zip(self.lhs, a.shape, strict=True))
        summed = [k for k in self.lhs if k not in kept]
        work = np.dtype("float32") if a.dtype == np.float16 else a.dtype
        times, plus = ("logical_and", "logical_or") if a.dtype == bool else ("multiply", "add")

        def term(inner: ix.Index) -> ix.Expr:
            at = {**kept, **dict(zip(summed, inner, strict=True))}
            x, y = a[[at[k] for k in self.lhs]], b[[at[k] for k in self.rhs]]
            return ix.call(times, ix.cast(x, work), ix.cast(y, work), dtype=work)

        total = ix.reduce(plus, [sizes[k] for k in summed], term) if summed else term(())
        return ix.cast(total, a.dtype)

    def samples(self) -> list[Sample]:
        rng = np.random.default_rng(11)
        cases = [
            ((0, 1), (1, 2), (0, 2), (3, 4), (4, 2)),  # matrix times matrix
            ((1, 0), (2, 1), (2, 0), (4, 3), (2, 4)),  # both and the result transposed
            ((0, 1, 2), (0, 2, 3), (0, 1, 3), (2, 3, 4), (2, 4, 2)),  # a stack
            ((0,), (0,), (), (5,), (5,)),  # inner
            ((0,), (1,), (1, 0), (3,), (2,)),  # outer
            ((0, 1), (1, 0), (), (3, 2), (2, 3)),
            ((0, 1), (1,), (1, 0), (3, 2), (2,)),  # columns scaled
            ((), (0,), (0,), (), (3,)),
            ((0, 1), (1, 2), (0, 2), (3, 0), (0, 2)),  # a sum of nothing
            ((0, 1), (1, 2), (0, 2), (0, 3), (3, 2)),
        ]
        return [Sample(Contract(*k[:3]), (rng.normal(size=k[3]), rng.normal(size=k[4]))) for k in cases]


# -- two operands ------------------------------------------------------------------------------------------------------


def contract(what: str, a: Variable, lhs: Labels, b: Variable, rhs: Labels, out: Labels) -> Variable:
    """The contraction of any operands: cast to one dtype, static sizes of 1 stretched, lone labels summed first."""
    sizes: dict[int, Size] = {}
    for label, size in zip(lhs + rhs, a.type.shape + b.type.shape, strict=True):
        known = sizes.get(label, 1)
        both = size if known == 1 else known if size == 1 else unify(known, size)
        if both is None:
            inner = "inner " if label not in out else ""
            raise located(SizeError(f"{what}: {inner}sizes differ: {known} and {size}"), [a, b])
        sizes[label] = both
    dtype = np.result_type(a.type.dtype, b.type.dtype)
    a, lhs = _reduced(cast(a, dtype), lhs, {*rhs, *out}, sizes)
    b, rhs = _reduced(cast(b, dtype), rhs, {*lhs, *out}, sizes)
    # A label stretched in one operand may now be the other's alone.
    a, lhs = _reduced(a, lhs, {*rhs, *out}, sizes)
    found = tuple(k for k in out if k in lhs or k in rhs)
    return _restored(apply(Contract(lhs, rhs, found), a, b), found, out, sizes)


def _reduced(v: Variable, labels: Labels, wanted: set[int], sizes: dict[int, Size]) -> tuple[Variable, Labels]:
    """``v`` without stretched axes, summed over the labels that nothing else has; unknown sizes are made known."""
    kept = [k for k, s in zip(labels, v.type.shape, strict=True) if s != 1 or sizes[k] == 1]
    if len(kept) < len(labels):
        v = reshape(v, [s for k, s in zip(labels, v.type.shape, strict=True) if k in kept])
    v = assert_shape(v, tuple(sizes[k] for k in kept))
    alone = [a for a, k in enumerate(kept) if k not in wanted]
    if alone:
        v = _sum(v, alone)
    return v, tuple(k for k in kept if k in wanted)


def _sum(v: Variable, axes: list[int]) -> Variable:
    return cast(sum_over(v, axes), bool) if v.type.dtype == bool else sum_over(v, axes, dtype=v.type.dtype)


def _restored(v: Variable, labels: Labels, out: Labels, sizes: dict[int, Size]) -> Variable:
    """``v`` with axes for the labels of ``out`` that it lacks, along which it is the same."""
    if labels == out:
        return v
    v = reshape(v, [sizes[k] if k in labels else 1 for k in out])
    return broadcast_to(v, [sizes[k] for k in out])


def matmul(x: TensorLike, y: TensorLike) -> Variable:
    """``x @ y``, as ``numpy.matmul``: x: T[B.., m, k], y: T[B.., k, n] -> T[B.., m, n].

    A 1-D operand is a row on the left and a column on the right, whose axis the result does not have; leading axes
    broadcast. Raises :class:`~symgraph.errors.SizeError` where inner sizes differ, and
    :class:`~symgraph.errors.RankError` for a 0-d operand.
    """
    a, b = as_variable(x), as_variable(y)
    if a.type.ndim == 0 or b.type.ndim == 0:
        raise located(RankError("matmul: a 0-d operand: multiply instead"), [a, b])
    stack = max(a.type.ndim, b.type.ndim)
    # Labels: 0, 1, 2 are rows, the inner axis and columns; the stack's axes count from the right.
    lead = tuple(range(stack, 2, -1))
    lhs = (*lead[len(lead) - a.type.ndim + 2 :], 0, 1) if a.type.ndim > 1 else (1,)
    rhs = (*lead[len(lead) - b.type.ndim + 2 :], 1, 2) if b.type.ndim > 1 else (1,)
    shared = lead[len(lead) - max(a.type.ndim, b.type.ndim, 2) + 2 :]
    out = (*shared, *((0,) if a.type.ndim > 1 else ()), *((2,) if b.type.ndim > 1 else ()))
    _check_inner("matmul", a, -1, b, -2 if b.type.ndim > 1 else -1)
    return contract("matmul", a, lhs, b, rhs, out)


def _check_inner(what: str, a: Variable, axis_a: int, b: Variable, axis_b: int) -> None:
    """Sizes to be summed over are equal: here 1 does not stretch."""
    m, n = a.type.shape[axis_a], b.type.shape[axis_b]
    if unify(m, n) is None:
        raise located(SizeError(f"{what}: inner sizes differ: {m} and {n}"), [a, b])


def tensordot(x: TensorLike, y: TensorLike, axes: int | Sequence[Any] = 2) -> Variable:
    """Sum of products over pairs of axes, as ``numpy.tensordot``: the last ``axes`` of x, the first of y, or pairs."""
    a, b = as_variable(x), as_variable(y)
    m, n = a.type.ndim, b.type.ndim
    if isinstance(axes, int | np.integer):
        if not 0 <= axes <= min(m, n):
            raise located(RankError(f"tensordot: {axes} axes to sum over"), [a, b])
        left, right = list(range(m - int(axes), m)), list(range(int(axes)))
    else:
        left, right = (
            [axis_of("tensordot", v, k) for k in ([part] if isinstance(part, int) else part)]
            for part, v in zip(axes, (a, b), strict=True)
        )
    if len(left) != len(right) or len(set(left)) != len(left) or len(set(right)) != len(right):
        raise located(RankError(f"tensordot: axes {left} and {right} are not pairs"), [a, b])
    for k, j in zip(left, right, strict=True):
        _check_inner("tensordot", a, k, b, j)
    lhs = tuple(range(m))
    rhs = tuple(left[right.index(k)] if k in right else m + k for k in range(n))
    out = tuple(k for k in (*lhs, *rhs) if k >= m or k not in left)
    return contract("tensordot", a, lhs, b, rhs, out)


def dot(x: TensorLike, y: TensorLike) -> Variable:
    """``numpy.dot``: the product for a 0-d operand, else the sum over x's last and y's last but one, or only, axis."""
    a, b = as_variable(x), as_variable(y)
    if a.type.ndim == 0 or b.type.ndim == 0:
        return multiply(x, y)
    axis = b.type.ndim - 2 if b.type.ndim > 1 else 0
    _check_inner("dot", a, -1, b, axis)
    return tensordot(a, b, ([a.type.ndim - 1], [axis]))


def inner(x: TensorLike, y: TensorLike) -> Variable:
    """``numpy.inner``: the product for a 0-d operand, else the sum over both last axes."""
    a, b = as_variable(x), as_variable(y)
    if a.type.ndim == 0 or b.type.ndim == 0:
        return multiply(x, y)
    _check_inner("inner", a, -1, b, -1)
    return tensordot(a, b, ([a.type.ndim - 1], [b.type.ndim - 1]))


def outer(x: TensorLike, y: TensorLike) -> Variable:
    """Products of each element of x with each of y, as ``numpy.outer``: T[m], T[n] -> T[m, n], flattened first."""
    return contract("outer", ravel(x), (0,), ravel(y), (1,), (0, 1))


def vecdot(x: TensorLike, y: TensorLike, axis: int = -1) -> Variable:
    """Inner products along ``axis`` of both, as ``numpy.vecdot``; other axes broadcast."""
    a, b = as_variable(x), as_variable(y)
    if a.type.ndim == 0 or b.type.ndim == 0:
        raise located(RankError("vecdot: a 0-d operand: multiply instead"), [a, b])
    places = [axis_of("vecdot", v, axis) for v in (a, b)]
    _check_inner("vecdot", a, places[0], b, places[1])
    # Labels of the other axes count from the right, among themselves.
    operands = []
    for v, place in zip((a, b), places, strict=True):
        labels = list(range(v.type.ndim - 1, 0, -1))
        labels.insert(place, 0)
        operands.append(tuple(labels))
    out = max(operands, key=len)
    return contract("vecdot", a, operands[0], b, operands[1], tuple(k for k in out if k != 0))


# -- any number of operands --------------------------------------------------------------------------------------------


def einsum(subscripts: str, *operands: TensorLike, optimize: object = None) -> Variable:
    """Sums of products in Einstein's notation, as ``numpy.einsum``: ``einsum("bij,bjk->bik", x, y)``.

    Any number of operands; repeated labels take diagonals, ``...`` stands for axes that broadcast, and without ``->``
    the result has the labels that appear once, in alphabetical order. Operands are contracted two at a time, the pair
    first whose result is the smallest against what it replaces; ``optimize`` is accepted for NumPy's sake and ignored.
    Raises :class:`~symgraph.errors.FormatError` for subscripts that cannot be read.
    """
    variables = [as_variable(v) for v in operands]
    terms, out = _parse(subscripts, variables)
    dtype = np.result_type(*[v.type.dtype for v in variables])
    work = [_diagonals(cast(v, dtype), labels) for v, labels in zip(variables, terms, strict=True)]
    sizes: dict[int, Size] = {}
    for v, labels in work:
        for label, size in zip(labels, v.type.shape, strict=True):
            known = sizes.get(label, 1)
            both = size if known == 1 else known if size == 1 else unify(known, size)
            if both is None:
                raise located(
                    SizeError(f"einsum {subscripts!r}: sizes {known} and {size} of one label differ"), variables
                )
            sizes[label] = both
    missing = [label for label in out if label not in sizes]
    if missing:
        raise located(FormatError(f"einsum {subscripts!r}: the result has a label that no operand has"), variables)
    ready = []
    for k, (v, labels) in enumerate(work):
        others = {label for j, (_, more) in enumerate(work) if j != k for label in more}
        ready.append(_reduced(v, labels, {*out, *others}, sizes))
    while len(ready) > 1:
        i, j = _next_pair(ready, out, sizes)
        (b, rhs), (a, lhs) = ready.pop(j), ready.pop(i)
        rest = {*out}.union(*[labels for _, labels in ready])
        made = tuple(k for k in dict.fromkeys((*lhs, *rhs)) if k in rest)
        if not ready:
            made = tuple(k for k in out if k in made)
        ready.append((contract("einsum", a, lhs, b, rhs, made), made))
    ((v, labels),) = ready
    v, labels = _reduced(v, labels, set(out), sizes)
    found = tuple(k for k in out if k in labels)
    return _restored(transpose(v, [labels.index(k) for k in found]), found, out, sizes)


def _parse(subscripts: str, operands: Sequence[Variable]) -> tuple[list[Labels], Labels]:
    """Labels of operands and result: characters by code, the ellipsis's axes negative, counted from the right."""

    def fail(why: str) -> FormatError:
        return FormatError(str(located(FormatError(f"einsum {subscripts!r}: {why}"), operands)))

    if not isinstance(subscripts, str):
        raise FormatError(f"einsum: wanted subscripts as a string, got {subscripts!r}")
    left, arrow, right = subscripts.replace(" ", "").partition("->")
    parts = left.split(",")
    if len(parts) != len(operands):
        raise fail(f"{len(parts)} terms for {len(operands)} operands")

    def labels(part: str, ellipsis: Labels | None) -> Labels:
        head, dots, tail = part.partition("...")
        if not all(c.isalpha() for c in head + tail):
            raise fail(f"labels are letters, got {part!r}")
        if dots and ellipsis is None:
            raise fail("the result has an ellipsis that no operand has")
        return (*map(ord, head), *((ellipsis or ()) if dots else ()), *map(ord, tail))

    terms, widest = [], 0
    for part, v in zip(parts, operands, strict=True):
        count = v.type.ndim - len(part.replace("...", "", 1))
        if count < 0 or (count > 0 and "..." not in part):
            raise fail(f"{part!r} does not fit the {v.type.ndim} axes of {v.type}")
        terms.append(labels(part, tuple(range(-count, 0))))
        widest = max(widest, count if "..." in part else 0)
    dots = tuple(range(-widest, 0))
    if arrow:
        out = labels(right, dots if "..." in left else None)
        if len(set(out)) != len(out):
            raise fail("a label appears twice in the result")
        return terms, out
    letters = left.replace(",", "").replace(".", "")
    return terms, (*dots, *sorted(ord(c) for c in set(letters) if letters.count(c) == 1))


def _diagonals(v: Variable, labels: Labels) -> tuple[Variable, Labels]:
    """``v`` with every label once: axes that share one are walked together."""
    once = tuple(dict.fromkeys(labels))
    if len(once) == len(labels):
        return v, labels
    sizes: dict[int, Size] = {}
    for label, size in zip(labels, v.type.shape, strict=True):
        both = unify(sizes.setdefault(label, size), size)
        if both is None:
            raise located(SizeError(f"einsum: a diagonal of axes of sizes {sizes[label]} and {size}"), [v])
        sizes[label] = both
    v = assert_shape(v, tuple(sizes[k] for k in labels))
    walk = {k: a for a, k in enumerate(once)}
    return apply(Gather(tuple(walk[k] for k in labels), (), tuple(range(len(once)))), v), once


# What an unknown size counts for where contractions are ordered.
_UNKNOWN = 64


def _next_pair(ready: Sequence[tuple[Variable, Labels]], out: Labels, sizes: dict[int, Size]) -> tuple[int, int]:
    """The pair whose contraction adds the least to what is stored; among equals, the one of the least work."""

    def extent(labels: set[int]) -> int:
        total = 1
        for k in labels:
            size = sizes[k]
            total *= size if isinstance(size, int) else _UNKNOWN
        return total

    best: tuple[tuple[int, int], int, int] | None = None
    for i in range(len(ready)):
        for j in range(i + 1, len(ready)):
            a, b = set(ready[i][1]), set(ready[j][1])
            rest = set(out).union(*[labels for k, (_, labels) in enumerate(ready) if k not in (i, j)])
            cost = extent((a | b) & rest) - extent(a) - extent(b), extent(a | b)
            if best is None or cost < best[0]:
                best = cost, i, j
    assert best is not None
    return best[1:]


__all__ = ["dot", "einsum", "inner", "matmul", "outer", "tensordot", "vecdot"]
