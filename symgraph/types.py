"""Types of tensors: a dtype and a shape whose sizes are known, named, or unknown.

A *size* is an ``int`` or a :class:`Dim`. A ``Dim`` is a polynomial with integer coefficients over *atoms*: a named size
("batch"), an anonymous unknown, or an opaque function of sizes (floor division, maximum, minimum). Polynomials are kept
in a normal form and interned, so equal sizes are the same object: ``(n + 1) - 1 is n``.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from symgraph import source
from symgraph.errors import DTypeError, RankError, SizeError

DTYPES: tuple[str, ...] = (
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float16",
    "float32",
    "float64",
)
_DTYPE_OBJECTS = {name: np.dtype(name) for name in DTYPES}
_SUPPORTED = frozenset(_DTYPE_OBJECTS.values())

_serial = itertools.count()


class Atom:
    """An indivisible unknown size: named, anonymous (``name is None``), or ``fn`` of other sizes.

    ``order`` decides where it stands among others. Of named sizes it follows from the name, and of functions of sizes
    from these: what is printed does not depend on what else there was before.
    """

    __slots__ = ("args", "fn", "name", "order", "serial")

    def __init__(self, name: str | None, fn: str = "", args: tuple[Size, ...] = ()) -> None:
        self.name = name
        self.fn = fn
        self.args = args
        self.serial = next(_serial)
        self.order: tuple[Any, ...]
        if fn:
            self.order = (1, fn, *map(_size_order, args))
        else:
            self.order = (0, name) if name is not None else (2, self.serial)

    def __repr__(self) -> str:
        if self.fn == "floordiv":
            return f"({self.args[0]})//({self.args[1]})"
        if self.fn:
            return f"{self.fn}({', '.join(map(str, self.args))})"
        return self.name if self.name is not None else f"?{self.serial}"

    def __reduce__(self) -> tuple[Any, ...]:
        # Named and opaque atoms are interned again where they arrive; an anonymous one stays one within one pickle.
        if self.fn:
            return _opaque_atom, (self.fn, self.args)
        if self.name is not None:
            return _named_atom, (self.name,)
        return Atom, (None,)


Monomial: TypeAlias = tuple[Atom, ...]
Terms: TypeAlias = tuple[tuple[Monomial, int], ...]


def _order(monomial: Monomial) -> tuple[int, tuple[Any, ...]]:
    return len(monomial), tuple(a.order for a in monomial)


def _size_order(size: Size) -> tuple[Any, ...]:
    return tuple((_order(m), c) for m, c in _terms(size))


class Dim:
    """A symbolic size: an interned polynomial over atoms. Supports ``+ - * // %`` with ints and other sizes."""

    __slots__ = ("anonymous", "terms")
    terms: Terms
    anonymous: bool

    def __new__(cls, terms: Terms) -> Dim:
        found = _dims.get(terms)
        if found is None:
            found = object.__new__(cls)
            found.terms = terms
            found.anonymous = any(a.name is None for a in atoms(found) if not a.fn)
            found = _dims.setdefault(terms, found)
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        return Dim, (self.terms,)

    @property
    def atom(self) -> Atom | None:
        """The atom, where the size is a single one."""
        if len(self.terms) == 1 and self.terms[0][1] == 1 and len(self.terms[0][0]) == 1:
            return self.terms[0][0][0]
        return None

    def __add__(self, other: Size) -> Size:
        return _linear(self, other, 1)

    def __radd__(self, other: int) -> Size:
        return _linear(self, other, 1)

    def __sub__(self, other: Size) -> Size:
        return _linear(self, other, -1)

    def __rsub__(self, other: int) -> Size:
        return _linear(other, self, -1)

    def __neg__(self) -> Size:
        return _linear(0, self, -1)

    def __mul__(self, other: Size) -> Size:
        if not isinstance(other, int | Dim):
            return NotImplemented
        out: dict[Monomial, int] = {}
        for (m1, c1), (m2, c2) in itertools.product(_terms(self), _terms(other)):
            m = tuple(sorted(m1 + m2, key=lambda a: a.order))
            out[m] = out.get(m, 0) + c1 * c2
        return _normal(out)

    __rmul__ = __mul__

    def __floordiv__(self, other: Size) -> Size:
        return floordiv(self, other)

    def __mod__(self, other: Size) -> Size:
        return self - floordiv(self, other) * other

    def __repr__(self) -> str:
        return total_text((c, [str(a) for a in monomial]) for monomial, c in self.terms)

    def __bool__(self) -> bool:
        raise SizeError(f"the truth of the symbolic size {self} is not known while the graph is built{_line()}")

    def __int__(self) -> int:
        raise SizeError(f"the symbolic size {self} is not known while the graph is built{_line()}")

    __index__ = __int__


Size: TypeAlias = int | Dim
Shape: TypeAlias = tuple[Size, ...]

_dims: dict[Terms, Dim] = {}
_named: dict[str, Atom] = {}
_opaque: dict[tuple[str, tuple[Size, ...]], Atom] = {}


def _terms(size: Size) -> Terms:
    return size.terms if isinstance(size, Dim) else (((), int(size)),)


def _normal(terms: Mapping[Monomial, int]) -> Size:
    kept = {m: c for m, c in terms.items() if c != 0}
    if not kept:
        return 0
    if len(kept) == 1 and () in kept:
        return kept[()]
    return Dim(tuple(sorted(kept.items(), key=lambda item: _order(item[0]), reverse=True)))


def _linear(a: object, b: object, sign: int) -> Size:
    if not isinstance(b, int | Dim) or not isinstance(a, int | Dim):
        return NotImplemented  # type: ignore[no-any-return]
    out = dict(_terms(a))
    for m, c in _terms(b):
        out[m] = out.get(m, 0) + sign * c
    return _normal(out)


def _named_atom(name: str) -> Atom:
    return _named.get(name) or _named.setdefault(name, Atom(name))


def _opaque_atom(fn: str, args: tuple[Size, ...]) -> Atom:
    return _opaque.get((fn, args)) or _opaque.setdefault((fn, args), Atom(None, fn, args))


def total_text(terms: Iterable[tuple[int, Sequence[str]]]) -> str:
    """A polynomial as Python reads it, from coefficients and the texts of factors."""
    parts = []
    for c, factors in terms:
        # A quotient is the only factor that begins so; // binds as tightly as *, and would take what stands before it.
        alone = len(factors) == 1 and c == 1
        texts = [f"({f})" if f.startswith("(") and not alone else f for f in factors]
        sign = "-" if c < 0 else ""
        parts.append(sign + "*".join([str(abs(c))] * (abs(c) != 1 or not factors) + texts))
    return " + ".join(parts).replace("+ -", "- ")


def _atom_size(atom: Atom) -> Dim:
    return Dim((((atom,), 1),))


def dim(name: str | None = None) -> Dim:
    """The size called ``name``: the same name is the same size everywhere. Without a name, a new unknown size."""
    return _atom_size(_named_atom(name) if name is not None else Atom(None))


def floordiv(a: Size, b: Size) -> Size:
    """``a // b``, exact where every coefficient of ``a`` is a multiple of ``b`` or ``b`` is a factor of ``a``."""
    if isinstance(a, int) and isinstance(b, int):
        return a // b
    if isinstance(b, int):
        if all(c % b == 0 for _, c in _terms(a)):
            return _normal({m: c // b for m, c in _terms(a)})
    elif len(b.terms) == 1:
        (factor, c0), out = b.terms[0], {}
        for m, c in _terms(a):
            rest = list(m)
            for atom in factor:
                if atom not in rest:
                    break
                rest.remove(atom)
            else:
                if c % c0 == 0:
                    out[tuple(rest)] = c // c0
                    continue
            break
        else:
            return _normal(out)
    elif a is b:
        return 1
    return _atom_size(_opaque_atom("floordiv", (a, b)))


def size_max(a: Size, b: Size) -> Size:
    """The larger of two sizes, as a size."""
    return _extremum("max", a, b)


def size_min(a: Size, b: Size) -> Size:
    """The smaller of two sizes, as a size."""
    return _extremum("min", a, b)


def _extremum(fn: str, a: Size, b: Size) -> Size:
    difference = a - b
    if at_least(difference, 0):
        return a if fn == "max" else b
    if at_least(b - a, 0):
        return b if fn == "max" else a
    for one, other in ((a, b), (b, a)):
        inner = other.atom if isinstance(other, Dim) else None
        if inner is not None and inner.fn in ("max", "min") and one in inner.args:
            return other if inner.fn == fn else one
    # One order of the operands, so that equal extrema are one atom.
    first, second = sorted((a, b), key=_size_order)
    return _atom_size(_opaque_atom(fn, (first, second)))


def at_least(size: Size, bound: int) -> bool:
    """Whether ``size`` is certainly no smaller than ``bound``: named and unknown sizes are at least 0."""
    lowest = lower_bound(size)
    return lowest is not None and lowest >= bound


def lower_bound(size: Size) -> int | None:
    """A number that ``size`` is never below, or ``None`` where none is known."""
    total = 0
    for monomial, c in _terms(size):
        least = c
        for atom in monomial:
            low = _atom_lower_bound(atom)
            if low is None or low < 0 or c < 0:
                return None
            least *= low
        total += least
    return total


def _atom_lower_bound(atom: Atom) -> int | None:
    if not atom.fn:
        return 0
    lows = [lower_bound(a) for a in atom.args]
    known = [low for low in lows if low is not None]
    if atom.fn == "max":
        return max(known, default=None)
    if len(known) < len(lows):
        return None
    if atom.fn == "min":
        return min(known)
    return 0 if known[0] >= 0 and known[1] >= 1 else None


def atoms(size: Size) -> Iterable[Atom]:
    """The atoms that a size is computed from, those inside opaque functions included."""
    if isinstance(size, Dim):
        for monomial, _ in size.terms:
            for atom in monomial:
                yield atom
                for arg in atom.args:
                    yield from atoms(arg)


_FUNCTIONS: dict[str, Callable[[int, int], int]] = {"floordiv": operator.floordiv, "max": max, "min": min}


def evaluate(size: Size, env: Mapping[Atom, int]) -> int:
    """The number behind ``size``, given those behind its atoms. Raises ``KeyError`` for an atom not in ``env``."""
    if isinstance(size, int):
        return size
    total = 0
    for monomial, c in size.terms:
        for atom in monomial:
            if atom.fn:
                args = [evaluate(a, env) for a in atom.args]
                c *= _FUNCTIONS[atom.fn](*args)
            else:
                c *= env[atom]
        total += c
    return total


def product(sizes: Iterable[Size]) -> Size:
    """The product of sizes: the number of elements of a shape."""
    out: Size = 1
    for s in sizes:
        out = out * s
    return out


def _line() -> str:
    """The user's line, for the end of a message."""
    return f"   {source.show(source.current())}"


def as_size(value: object) -> Size:
    """``value`` as a size: an int, a name, ``None`` for a new unknown, or a size already."""
    if isinstance(value, Dim):
        return value
    if value is None or isinstance(value, str):
        if value == "":
            raise SizeError(f"a size's name must not be empty{_line()}")
        return dim(value)
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        if value < 0:
            raise SizeError(f"a size must not be negative, got {value}{_line()}")
        return int(value)
    raise SizeError(f"a size is an int, a name, None or a Dim, got {value!r} of type {type(value).__name__}{_line()}")


def as_dtype(dtype: Any) -> np.dtype[Any]:
    """``dtype`` as a NumPy dtype that symgraph has; raises :class:`DTypeError` for any other."""
    try:
        found: np.dtype[Any] = np.dtype(dtype)
    except TypeError as error:
        raise DTypeError(f"not a dtype: {dtype!r}{_line()}") from error
    found = found.newbyteorder("=") if not found.isnative else found
    if found not in _SUPPORTED:
        raise DTypeError(f"dtype {found} is not supported; supported are {', '.join(DTYPES)}{_line()}")
    return found


def is_float(dtype: np.dtype[Any]) -> bool:
    """Whether derivatives can flow through values of this dtype."""
    return dtype.kind == "f"


@dataclass(frozen=True, slots=True)
class TensorType:
    """The type of a tensor: ``float64[batch, 64]``."""

    dtype: np.dtype[Any]
    shape: Shape

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> Size:
        """Number of elements."""
        return product(self.shape)

    def with_shape(self, shape: Iterable[Size]) -> TensorType:
        """This dtype with another shape."""
        return TensorType(self.dtype, tuple(shape))

    def with_dtype(self, dtype: Any) -> TensorType:
        """This shape with another dtype."""
        return TensorType(as_dtype(dtype), self.shape)

    def without(self, axes: Sequence[int]) -> TensorType:
        """This type without some axes."""
        return TensorType(self.dtype, tuple(s for i, s in enumerate(self.shape) if i not in axes))

    def __str__(self) -> str:
        return f"{self.dtype.name}[{', '.join(map(str, self.shape))}]"


def tensor_type(dtype: Any, shape: Iterable[object] = ()) -> TensorType:
    """A type from anything that names a dtype and sizes."""
    return TensorType(as_dtype(dtype), tuple(as_size(s) for s in shape))


def normalize_axis(axis: int, ndim: int, what: str) -> int:
    """``axis`` counted from the front; raises :class:`RankError` where it does not exist."""
    if isinstance(axis, bool) or not isinstance(axis, int | np.integer):
        raise RankError(f"{what}: an axis is an int, got {axis!r}")
    if not -ndim <= axis < ndim:
        raise RankError(f"{what}: axis {axis} does not exist in a tensor of {ndim} axes")
    return int(axis) % ndim


def normalize_axes(axes: int | Sequence[int] | None, ndim: int, what: str) -> tuple[int, ...]:
    """Sorted, distinct axes counted from the front; ``None`` stands for all."""
    if axes is None:
        return tuple(range(ndim))
    given = (axes,) if isinstance(axes, int | np.integer) else tuple(axes)
    out = tuple(sorted(normalize_axis(a, ndim, what) for a in given))
    if len(set(out)) != len(out):
        raise RankError(f"{what}: an axis appears twice in {given}")
    return out


def unify(a: Size, b: Size) -> Size | None:
    """The better known of two sizes that must be equal at run time; ``None`` where they differ, if only by name.

    Only an anonymous unknown may turn out equal to something else: a name stands for one size, so two names never
    unify.
    """
    if a is b or a == b:
        return a
    if isinstance(a, Dim) and a.anonymous:
        if isinstance(b, Dim) and b.anonymous and a.atom is None:
            return a if b.atom is not None else b
        return b
    if isinstance(b, Dim) and b.anonymous:
        return a
    return None
