"""Contractions as calls of BLAS: which strided matrices they work on.

An operand is used where it lies: transposes, slices, and reshapes of it are expressed in strides and leading
dimensions, so that no copy is made. Sizes and strides may be symbolic.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from itertools import product as choices
from typing import TYPE_CHECKING, Any

from symgraph import index as ix
from symgraph.graph import Apply, Constant, Variable
from symgraph.op import Op
from symgraph.ops.contract import Contract
from symgraph.ops.shape import reshape_groups
from symgraph.types import Shape, Size, TensorType, product

if TYPE_CHECKING:
    from symgraph.passes.fuse import Kernel


@dataclass(frozen=True)
class ContractAdd(Op):
    """``c + contract(a, b)``, added up in the buffer of ``c``. Made from :class:`Accumulate` by the pipeline only."""

    contract: Contract
    name = "contract_add"

    def infer(self, c: TensorType, a: TensorType, b: TensorType) -> TensorType:
        return c

    def reference(self, c, a, b):  # type: ignore[no-untyped-def]
        return c + self.contract.reference(a, b)

    def lower(self, index: ix.Index, c: ix.Tensor, a: ix.Tensor, b: ix.Tensor) -> ix.Expr:
        return ix.call("add", c[index], self.contract.lower(index, a, b), dtype=c.dtype)

    def __str__(self) -> str:
        return f"contract_add{{{self.contract}}}"


@dataclass(frozen=True)
class View:
    """Elements of ``base``'s buffer: at ``offset`` plus index times ``strides``, in elements."""

    base: Variable
    offset: Size
    shape: Shape
    strides: Shape


@dataclass(frozen=True)
class Matrices:
    """A batched matrix product on row-major matrices: C[m, n] (+)= op(A)[m, k] op(B)[k, n].

    ``axes`` are those of the result that are its rows, its columns, and each axis of the batch, but some of size 1.
    """

    m: Size
    n: Size
    k: Size
    a: View
    b: View
    trans_a: bool
    trans_b: bool
    lda: Size
    ldb: Size
    ldc: Size
    batch: tuple[tuple[Size, Size, Size, Size], ...]  # (count, stride in A, in B, in C), outer first; at most two
    axes: tuple[tuple[int, ...], ...]

    def words(self) -> dict[str, Any]:
        """What a library works on, variables and sizes, by the names that BLAS has for them; all but C itself."""
        batch = [(1, 0, 0, 0)] * (2 - len(self.batch)) + list(self.batch)
        out: dict[str, Any] = {
            "m": self.m, "n": self.n, "k": self.k,
            "a": self.a.base, "a_offset": self.a.offset, "lda": self.lda,
            "b": self.b.base, "b_offset": self.b.offset, "ldb": self.ldb,
            "ldc": self.ldc,
        }  # fmt: skip
        for axis, steps in zip(("outer", "inner"), batch, strict=True):
            out |= zip((axis, f"a_{axis}", f"b_{axis}", f"c_{axis}"), steps, strict=True)
        return out


@dataclass(eq=False)
class LibraryCall:
    """A step that a library computes: a matrix product.

    Attributes:
        epilogue: what is computed from each element of the product where it is made (:mod:`symgraph.passes.epilogue`).
        keeps: whether the product itself is stored.
    """

    node: Apply
    matrices: Matrices
    position: int = 0
    epilogue: Kernel | None = None
    keeps: bool = True

    @property
    def accumulates(self) -> bool:
        return isinstance(self.node.op, ContractAdd)

    @property
    def product(self) -> Variable:
        return self.node.outputs[0]

    @property
    def reads(self) -> list[Variable]:
        first = [self.node.inputs[0]] if self.accumulates else []
        own = {self.product, *self.writes}
        after = [v for v in self.epilogue.inputs if v not in own] if self.epilogue is not None else []
        return [*first, self.matrices.a.base, self.matrices.b.base, *after]

    @property
    def writes(self) -> list[Variable]:
        return [*([self.product] if self.keeps else []), *(self.epilogue.outputs if self.epilogue is not None else [])]

    @property
    def nodes(self) -> list[Apply]:
        return [*(self.epilogue.nodes if self.epilogue is not None else []), self.node]


@dataclass(eq=False)
class HostCall:
    """A step that runs an op's own code, NumPy or compiled by Numba, on whole tensors that are stored."""

    node: Apply
    position: int = 0

    @property
    def reads(self) -> list[Variable]:
        return list(dict.fromkeys(self.node.inputs))

    @property
    def writes(self) -> list[Variable]:
        return list(self.node.outputs)

    @property
    def nodes(self) -> list[Apply]:
        return [self.node]


def row_major(shape: Shape) -> Shape:
    """Strides, in elements, of a C-contiguous tensor."""
    return tuple(product(shape[k + 1 :]) for k in range(len(shape)))


def _buffer(v: Variable) -> View:
    return View(v, 0, v.type.shape, row_major(v.type.shape))


def view_of(v: Variable, given: Collection[Variable]) -> View:
    """``v`` as a view of the tensor that it is a rearrangement of, as far back as strides can express."""
    chain: list[Apply] = []
    base = v
    while base.owner is not None and base not in given and base.owner.op.name in _VIEWS:
        chain.append(base.owner)
        base = base.owner.inputs[0]
    if isinstance(base, Constant) and base.type.ndim == 0:
        return _buffer(v)
    view = _buffer(base)
    for node in reversed(chain):
        nxt = _VIEWS[node.op.name](view, node)
        view = nxt if nxt is not None else _buffer(node.outputs[0])
    return view


def _same(view: View, node: Apply) -> View:
    return View(view.base, view.offset, node.outputs[0].type.shape, view.strides)


def _transpose(view: View, node: Apply) -> View:
    order = node.op.permutation  # type: ignore[attr-defined]
    return View(view.base, view.offset, node.outputs[0].type.shape, tuple(view.strides[p] for p in order))


def _slice(view: View, node: Apply) -> View:
    op, offset = node.op, view.offset
    for start, stride in zip(op.starts, view.strides, strict=True):  # type: ignore[attr-defined]
        offset = offset + start * stride
    strides = tuple(s * step for s, step in zip(view.strides, op.steps, strict=True))  # type: ignore[attr-defined]
    return View(view.base, offset, node.outputs[0].type.shape, strides)


def _reshape(view: View, node: Apply) -> View | None:
    new = node.outputs[0].type.shape
    strides: list[Size] = [0] * len(new)
    for inner, outer in reshape_groups(view.shape, new):
        inner = [a for a in inner if view.shape[a] != 1]
        for a, b in pairwise(inner):
            if view.strides[a] != view.strides[b] * view.shape[b]:
                return None
        stride: Size = view.strides[inner[-1]] if inner else 1
        for a in reversed(outer):
            strides[a] = stride
            stride = stride * new[a]
    return View(view.base, view.offset, new, tuple(strides))


_VIEWS = {
    "transpose": _transpose,
    "slice": _slice,
    "reshape": _reshape,
    "assert_shape": _same,
    "stop_gradient": _same,
    "after": _same,
    "positive": _same,
}

Strides = Mapping[int, Size]


def library_call(node: Apply, given: Collection[Variable]) -> LibraryCall | None:
    """The matrix product that computes ``node``, or ``None`` where it is no contraction or its layout does not fit."""
    op = node.op
    contract = op.contract if isinstance(op, ContractAdd) else op
    if not isinstance(contract, Contract):
        return None
    a, b = node.inputs[-2:]
    if a.type.dtype.name not in ("float32", "float64"):
        return None
    for one, two in choices((True, False), repeat=2):
        found = matrices(contract, view_of(a, given) if one else _buffer(a), view_of(b, given) if two else _buffer(b))
        if found is not None:
            return LibraryCall(node, found)
    return None


def matrices(op: Contract, a: View, b: View) -> Matrices | None:
    """The contraction of two views as a batched matrix product, if strides allow."""
    sizes = {**dict(zip(op.lhs, a.shape, strict=True)), **dict(zip(op.rhs, b.shape, strict=True))}
    sa, sb = dict(zip(op.lhs, a.strides, strict=True)), dict(zip(op.rhs, b.strides, strict=True))
    sc = dict(zip(op.out, row_major(tuple(sizes[x] for x in op.out)), strict=True))
    rows = [x for x in op.out if x in sa and x not in sb]
    columns = [x for x in op.out if x in sb and x not in sa]
    inner = [x for x in op.lhs if x not in sc]
    shared = [x for x in op.out if x in sa and x in sb]
    if not inner:
        return None
    # The columns of C must be contiguous: else C is computed transposed.
    if columns and rows and _last_stride(columns, sizes, sc) != 1 and _last_stride(rows, sizes, sc) == 1:
        swapped = matrices(Contract(op.rhs, op.lhs, op.out), b, a) if _last_stride(columns, sizes, sc) != 1 else None
        return swapped
    if not columns and rows:
        # A vector of results is one row: C[1, n] = b[1, k] A'[k, n].
        return matrices(Contract(op.rhs, op.lhs, op.out), b, a)
    extra: list[int] = []
    place = op.out.index
    k, ka, kb = _collapse(inner, sizes, sa, sb)
    if k is None:
        return None
    m, ma, mc = _collapse(rows, sizes, sa, sc)
    if m is None:
        extra += rows[:-1]
        rows = rows[-1:]
        m, ma, mc = sizes[rows[0]], sa[rows[0]], sc[rows[0]]
    n, nb, nc = _collapse(columns, sizes, sb, sc)
    if n is None:
        extra += columns[:-1]
        columns = columns[-1:]
        n, nb, nc = sizes[columns[0]], sb[columns[0]], sc[columns[0]]
    if columns and nc != 1 and n != 1:
        return None
    batch: list[tuple[Size, Size, Size, Size]] = []
    axes = [tuple(map(place, rows)), tuple(map(place, columns))]
    for x in sorted((*shared, *extra), key=place):
        entry = (sizes[x], sa.get(x, 0), sb.get(x, 0), sc[x])
        along: tuple[int, ...] = (place(x),)
        if batch and all(batch[-1][j] == entry[j] * entry[0] for j in (1, 2, 3)):
            entry = (batch.pop()[0] * entry[0], *entry[1:])
            along = (*axes.pop(), *along)
        batch.append(entry)
        axes.append(along)
    if len(batch) > 2:
        return None
    left = _stored(m, k, ma, ka)
    right = _stored(k, n, kb, nb)
    if left is None or right is None:
        return None
    ldc = mc if rows else n
    return Matrices(m, n, k, a, b, left[0], right[0], left[1], right[1], ldc, tuple(batch), tuple(axes))


def _last_stride(labels: Sequence[int], sizes: Mapping[int, Size], strides: Strides) -> Size:
    return next((strides[x] for x in reversed(labels) if sizes[x] != 1), 1)


def _collapse(
    labels: Sequence[int], sizes: Mapping[int, Size], s: Strides, t: Strides
) -> tuple[Size | None, Size, Size]:
    """Several labels as one: its size and strides, where both operands step through them evenly."""
    kept = [x for x in labels if sizes[x] != 1]
    if not kept:
        return 1, 1, 1
    for x, y in pairwise(kept):
        if s[x] != s[y] * sizes[y] or t[x] != t[y] * sizes[y]:
            return None, 0, 0
    return product(sizes[x] for x in kept), s[kept[-1]], t[kept[-1]]


def _stored(rows: Size, columns: Size, row_stride: Size, column_stride: Size) -> tuple[bool, Size] | None:
    """How op(X)[rows, columns] lies in memory: (transposed, leading dimension)."""
    if rows == 1 and columns == 1:
        return False, 1
    if column_stride == 1 or columns == 1:
        if rows == 1:
            return False, columns
        return (False, row_stride) if _positive(row_stride) else None
    if row_stride == 1 or rows == 1:
        return (True, column_stride) if _positive(column_stride) else None
    return None


def _positive(stride: Size) -> bool:
    """Whether a stride may serve as a leading dimension: not a repetition and not backwards."""
    return not isinstance(stride, int) or stride > 0
