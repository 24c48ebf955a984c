"""The index form: the scalar expression of a tensor's element at an index.

An op lowers by saying what its output is at ``index``, given its inputs as functions from indices to expressions;
fusing two ops is calling one's function inside the other's. Expressions are scalar, typed, and free of loops but for
:func:`reduce` and :func:`running`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from symgraph.types import Dim, Size, as_dtype

_serial = itertools.count()

INT = np.dtype("int64")
BOOL = np.dtype("bool")

_origin: ContextVar[Any] = ContextVar("symgraph_origin", default=None)


@contextmanager
def made_for(node: Any) -> Iterator[None]:
    """Expressions made inside are of ``node``: what they cost is put down to it."""
    token = _origin.set(node)
    try:
        yield
    finally:
        _origin.reset(token)


class Expr:
    """A scalar expression: ``fn`` of ``args``. ``free`` holds the loop indices that it depends on.

    ``origin`` is the node of the graph that it is part of, where one is known (see :func:`made_for`).
    """

    __slots__ = ("args", "attr", "dtype", "fn", "free", "origin")
    free: frozenset[Expr]

    def __init__(
        self,
        fn: str,
        args: tuple[Expr, ...],
        dtype: np.dtype[Any],
        attr: Any = None,
        free: frozenset[Expr] | None = None,
    ) -> None:
        self.fn = fn
        self.args = args
        self.dtype = dtype
        self.attr = attr
        self.origin = _origin.get()
        if free is None:
            free = args[0].free if len(args) == 1 else frozenset().union(*[a.free for a in args])
        self.free = free

    # Index arithmetic. Values are combined by `call`, with one dtype.
    def __add__(self, other: Expr | Size) -> Expr:
        return _arith("add", self, other)

    def __sub__(self, other: Expr | Size) -> Expr:
        return _arith("subtract", self, other)

    def __mul__(self, other: Expr | Size) -> Expr:
        return _arith("multiply", self, other)

    def __floordiv__(self, other: Expr | Size) -> Expr:
        return _arith("floor_divide", self, other)

    def __mod__(self, other: Expr | Size) -> Expr:
        return _arith("remainder", self, other)

    def __rsub__(self, other: Expr | Size) -> Expr:
        return _arith("subtract", as_index(other), self)

    __radd__ = __add__
    __rmul__ = __mul__

    def __repr__(self) -> str:
        inside = ", ".join(map(repr, self.args))
        return f"{self.fn}{'' if self.attr is None else f'<{self.attr}>'}({inside})"


Index: TypeAlias = tuple[Expr, ...]
Accessor: TypeAlias = Callable[[Index], Expr]


@dataclass(frozen=True, eq=False)
class Tensor:
    """An op's input, as seen by its lowering: call it with an index; it knows its type."""

    access: Accessor
    dtype: np.dtype[Any]
    shape: tuple[Size, ...]

    def __getitem__(self, index: Sequence[Expr]) -> Expr:
        return self.access(tuple(index))


def size_value(size: Size) -> Expr:
    """A size as an expression."""
    if isinstance(size, int):
        return Expr("const", (), INT, size, frozenset())
    return Expr("size", (), INT, size, frozenset())


def const(value: Any, dtype: Any) -> Expr:
    """A scalar constant of a dtype."""
    return Expr("const", (), as_dtype(dtype), np.dtype(dtype).type(value).item(), frozenset())


def as_index(value: Expr | Size) -> Expr:
    """An index expression from a size."""
    return size_value(value) if isinstance(value, int | Dim) else value


class Access(Expr):
    """The element of ``variable`` at an index: a load, or, once fusion has set ``target``, that expression.

    ``scope`` are the loops around it, outermost first.
    """

    __slots__ = ("scope", "target", "variable")

    def __init__(self, variable: Any, index: Index, scope: Index) -> None:
        free = frozenset().union(*[e.free for e in index]) if index else frozenset()
        super().__init__("access", tuple(index), variable.type.dtype, None, free)
        self.variable = variable
        self.scope = scope
        self.target: Expr | None = None


def resolve(e: Expr) -> Expr:
    """``e``, with inlined accesses followed to what they stand for."""
    while isinstance(e, Access) and e.target is not None:
        e = e.target
    return e


def loop_index() -> Expr:
    """A new loop index, distinct from all others."""
    e = Expr("index", (), INT, next(_serial), frozenset())
    e.free = frozenset((e,))
    return e


def _arith(fn: str, a: Expr, b: Expr | Size) -> Expr:
    b = as_index(b)
    if b.fn == "const":
        if (fn in ("add", "subtract") and b.attr == 0) or (fn in ("multiply", "floor_divide") and b.attr == 1):
            return a
        if a.fn == "const" and fn in ("add", "subtract", "multiply"):
            return size_value({"add": a.attr + b.attr, "subtract": a.attr - b.attr, "multiply": a.attr * b.attr}[fn])
    if a.fn == "const" and a.attr == 0:
        if fn == "add":
            return b
        if fn in ("multiply", "floor_divide", "remainder"):
            return a
    if fn == "multiply" and b.fn == "const" and b.attr == 0:
        return b
    if fn == "multiply" and a.fn == "const" and a.attr == 1:
        return b
    return Expr(fn, (a, b), INT)


def call(fn: str, *args: Expr, dtype: Any) -> Expr:
    """A scalar function of values; ``fn`` is a name of the scalar vocabulary (NumPy's names)."""
    return Expr(fn, args, as_dtype(dtype))


def cast(x: Expr, dtype: Any) -> Expr:
    """Conversion with NumPy's ``astype`` semantics."""
    return x if x.dtype == dtype else Expr("cast", (x,), as_dtype(dtype))


def less(a: Expr, b: Expr | Size) -> Expr:
    """``a < b``."""
    return Expr("less", (a, as_index(b)), BOOL)


def greater_equal(a: Expr, b: Expr | Size) -> Expr:
    """``a >= b``."""
    return Expr("greater_equal", (a, as_index(b)), BOOL)


def equal(a: Expr, b: Expr | Size) -> Expr:
    """``a == b``."""
    return Expr("equal", (a, as_index(b)), BOOL)


def both(*conditions: Expr) -> Expr:
    """Conjunction."""
    out = conditions[0]
    for c in conditions[1:]:
        out = Expr("logical_and", (out, c), BOOL)
    return out


def guard(condition: Expr, value: Expr, otherwise: Expr) -> Expr:
    """``value`` where ``condition`` holds, else ``otherwise``; only that one of the two is evaluated."""
    return Expr("guard", (condition, value, otherwise), value.dtype)


def gather_index(i: Expr, size: Size) -> Expr:
    """A user's index into an axis of ``size``: negative ones count from the end; one out of range stops the kernel."""
    return Expr("checked_index", (cast(i, INT), as_index(size)), INT)


_enclosing: ContextVar[Index] = ContextVar("symgraph_enclosing", default=())


def enclosing() -> Index:
    """The indices of the reductions that a body is being written for, outermost first."""
    return _enclosing.get()


def reduce(kind: str, sizes: Sequence[Size], body: Callable[[Index], Expr], dtype: Any = None) -> Expr:
    """The reduction of ``body(index)`` over all indices below ``sizes``.

    Kinds: ``add multiply maximum minimum logical_and logical_or`` with the obvious neutral elements (the first element
    for maximum and minimum), and ``argmax argmin`` over one axis, which give the first position of the extremum (of the
    first NaN, if any).
    """
    indices = tuple(loop_index() for _ in sizes)
    outer = _enclosing.get()
    token = _enclosing.set((*outer, *indices))
    try:
        inner = body(indices)
    finally:
        _enclosing.reset(token)
    out = as_dtype(dtype) if dtype is not None else inner.dtype
    return Expr("reduce", (inner,), out, (kind, indices, tuple(sizes)), inner.free - frozenset(indices))


def running(kind: str, at: Expr, size: Size, body: Callable[[Expr], Expr], reverse: bool = False) -> Expr:
    """The reduction of ``body(j)`` over all j below ``size`` from 0 to ``at``; ``reverse``: from ``at`` to the end.

    Kinds: ``add multiply maximum minimum``. ``at`` is an index of the result, along which values are computed together.
    """
    j = loop_index()
    token = _enclosing.set((*_enclosing.get(), j))
    try:
        inner = body(j)
    finally:
        _enclosing.reset(token)
    free = (inner.free - {j}) | at.free
    return Expr("running", (inner, at), inner.dtype, (kind, j, size, reverse), free)


def extremum(position: Expr) -> Expr:
    """The value at the position that a reduction of kind ``argmax`` or ``argmin`` finds: known with it."""
    return Expr("extremum", (position,), position.args[0].dtype)


@dataclass(frozen=True, eq=False)
class Write:
    """A scatter's stores: for each ``index`` into ``space``, ``value(index)`` goes to the output at ``at(index)``.

    The output starts as zeros. ``mode`` is ``add`` where several indices may meet in one element, and ``set`` where
    none do.
    """

    space: tuple[Size, ...]
    at: Callable[[Index], Index]
    value: Callable[[Index], Expr]
    mode: Literal["set", "add"] = "add"
