"""What NumPy users expect of a tensor: operators, indexing, methods, and NumPy's functions on symbols."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol, cast

from symgraph.errors import DTypeError, SymbolicValueError

if TYPE_CHECKING:
    import numpy as np

    from symgraph.graph import Variable
    from symgraph.op import TensorLike
    from symgraph.types import Shape, TensorType


class _Functions(Protocol):
    """The module ``symgraph``, as far as operators need it: functions that make a variable."""

    def __getattr__(self, name: str) -> Callable[..., Variable]: ...


@cache
def _sg() -> _Functions:
    # Late, since the operations are built on variables.
    import symgraph

    return cast(_Functions, symgraph)


# NumPy's names that differ from ours.
_ALIASES = {
    "true_divide": "divide",
    "conjugate": "positive",
    "amax": "max",
    "amin": "min",
    "concat": "concatenate",
    "pow": "power",
    "acos": "arccos",
    "asin": "arcsin",
    "atan": "arctan",
    "permute_dims": "transpose",
    "round": "rint",
    "fabs": "absolute",
    "abs": "absolute",
}
_RUNNING = {"add": "cumsum", "multiply": "cumprod", "maximum": "cummax", "minimum": "cummin"}
_REDUCTIONS = {
    "add": "sum",
    "multiply": "prod",
    "maximum": "max",
    "minimum": "min",
    "logical_and": "all",
    "logical_or": "any",
}


class Operators:
    """Operators and methods of :class:`~symgraph.graph.Variable`: each is the function of that name in ``symgraph``."""

    __slots__ = ()
    __array_priority__ = 1000
    type: TensorType
    name: str | None

    # -- type ---------------------------------------------------------------------------------------------------------

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the elements."""
        return self.type.dtype

    @property
    def shape(self) -> Shape:
        """Sizes of the axes: ints, and :class:`~symgraph.types.Dim` where symbolic."""
        return self.type.shape

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.type.ndim

    @property
    def size(self) -> Any:
        """Number of elements: an int or a :class:`~symgraph.types.Dim`."""
        return self.type.size

    def __len__(self) -> int:
        if not self.type.shape:
            raise TypeError("len() of a 0-d tensor")
        return int(self.type.shape[0])

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    # -- no numbers behind symbols ------------------------------------------------------------------------------------

    def _symbolic(self, wanted: str) -> SymbolicValueError:
        from symgraph import source

        return SymbolicValueError(
            f"{wanted} of the symbolic variable {self!r}: it has no value until it is evaluated; "
            f"use symgraph.function([...], variable), or variable.eval({{...}})  {source.show(source.current())}"
        )

    def __bool__(self) -> bool:
        raise self._symbolic("the truth")

    def __float__(self) -> float:
        raise self._symbolic("float()")

    def __int__(self) -> int:
        raise self._symbolic("int()")

    def __index__(self) -> int:
        raise self._symbolic("an index")

    def __complex__(self) -> complex:
        raise self._symbolic("complex()")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        raise self._symbolic("a NumPy array")

    def eval(self, givens: Mapping[Any, Any] | None = None, **options: Any) -> Any:
        """The value, from values for any set of variables: ``loss.eval({x: images, y: labels})``.

        Keys are variables of the graph, inputs or not, or names of inputs; only what is needed runs. Options are those
        of :func:`symgraph.function`. Raises :class:`~symgraph.errors.MissingInputError` where a needed input has no
        value.
        """
        from symgraph.runtime.function import evaluate

        return evaluate(cast("Variable", self), givens or {}, **options)

    # -- operators ----------------------------------------------------------------------------------------------------

    def __add__(self, other: TensorLike) -> Variable:
        return _sg().add(self, other)

    def __radd__(self, other: TensorLike) -> Variable:
        return _sg().add(other, self)

    def __sub__(self, other: TensorLike) -> Variable:
        return _sg().subtract(self, other)

    def __rsub__(self, other: TensorLike) -> Variable:
        return _sg().subtract(other, self)

    def __mul__(self, other: TensorLike) -> Variable:
        return _sg().multiply(self, other)

    def __rmul__(self, other: TensorLike) -> Variable:
        return _sg().multiply(other, self)

    def __truediv__(self, other: TensorLike) -> Variable:
        return _sg().divide(self, other)

    def __rtruediv__(self, other: TensorLike) -> Variable:
        return _sg().divide(other, self)

    def __floordiv__(self, other: TensorLike) -> Variable:
        return _sg().floor_divide(self, other)

    def __rfloordiv__(self, other: TensorLike) -> Variable:
        return _sg().floor_divide(other, self)

    def __mod__(self, other: TensorLike) -> Variable:
        return _sg().remainder(self, other)

    def __rmod__(self, other: TensorLike) -> Variable:
        return _sg().remainder(other, self)

    def __divmod__(self, other: TensorLike) -> tuple[Variable, Variable]:
        return self // other, self % other

    def __pow__(self, other: TensorLike) -> Variable:
        return _sg().power(self, other)

    def __rpow__(self, other: TensorLike) -> Variable:
        return _sg().power(other, self)

    def __matmul__(self, other: TensorLike) -> Variable:
        return _sg().matmul(self, other)

    def __rmatmul__(self, other: TensorLike) -> Variable:
        return _sg().matmul(other, self)

    def __neg__(self) -> Variable:
        return _sg().negative(self)

    def __pos__(self) -> Variable:
        return _sg().positive(self)

    def __abs__(self) -> Variable:
        return _sg().absolute(self)

    def __invert__(self) -> Variable:
        return _sg().bitwise_invert(self)

    def __and__(self, other: TensorLike) -> Variable:
        return _sg().bitwise_and(self, other)

    __rand__ = __and__

    def __or__(self, other: TensorLike) -> Variable:
        return _sg().bitwise_or(self, other)

    __ror__ = __or__

    def __xor__(self, other: TensorLike) -> Variable:
        return _sg().bitwise_xor(self, other)

    __rxor__ = __xor__

    def __lshift__(self, other: TensorLike) -> Variable:
        return _sg().left_shift(self, other)

    def __rshift__(self, other: TensorLike) -> Variable:
        return _sg().right_shift(self, other)

    def __lt__(self, other: TensorLike) -> Variable:
        return _sg().less(self, other)

    def __le__(self, other: TensorLike) -> Variable:
        return _sg().less_equal(self, other)

    def __gt__(self, other: TensorLike) -> Variable:
        return _sg().greater(self, other)

    def __ge__(self, other: TensorLike) -> Variable:
        return _sg().greater_equal(self, other)

    def __eq__(self, other: object) -> Variable:  # type: ignore[override]
        return _sg().equal(self, other)

    def __ne__(self, other: object) -> Variable:  # type: ignore[override]
        return _sg().not_equal(self, other)

    __hash__ = object.__hash__  # identity: variables are keys of dictionaries

    def __getitem__(self, key: Any) -> Variable:
        return _sg().getitem(self, key)

    # -- methods, as of ndarray ----------------------------------------------------------------------------------------

    @property
    def T(self) -> Variable:
        """The transpose: axes in reverse order."""
        return _sg().transpose(self)

    @property
    def mT(self) -> Variable:
        """The matrix transpose: the last two axes exchanged."""
        return _sg().matrix_transpose(self)

    def sum(self, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Variable:
        """See :func:`symgraph.sum`."""
        return _sg().sum(self, axis=axis, dtype=dtype, keepdims=keepdims)

    def mean(self, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Variable:
        """See :func:`symgraph.mean`."""
        return _sg().mean(self, axis=axis, dtype=dtype, keepdims=keepdims)

    def prod(self, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Variable:
        """See :func:`symgraph.prod`."""
        return _sg().prod(self, axis=axis, dtype=dtype, keepdims=keepdims)

    def max(self, axis: Any = None, keepdims: bool = False) -> Variable:
        """See :func:`symgraph.max`."""
        return _sg().max(self, axis=axis, keepdims=keepdims)

    def min(self, axis: Any = None, keepdims: bool = False) -> Variable:
        """See :func:`symgraph.min`."""
        return _sg().min(self, axis=axis, keepdims=keepdims)

    def any(self, axis: Any = None, keepdims: bool = False) -> Variable:
        """See :func:`symgraph.any`."""
        return _sg().any(self, axis=axis, keepdims=keepdims)

    def all(self, axis: Any = None, keepdims: bool = False) -> Variable:
        """See :func:`symgraph.all`."""
        return _sg().all(self, axis=axis, keepdims=keepdims)

    def argmax(self, axis: Any = None, keepdims: bool = False) -> Variable:
        """See :func:`symgraph.argmax`."""
        return _sg().argmax(self, axis=axis, keepdims=keepdims)

    def argmin(self, axis: Any = None, keepdims: bool = False) -> Variable:
        """See :func:`symgraph.argmin`."""
        return _sg().argmin(self, axis=axis, keepdims=keepdims)

    def cumsum(self, axis: int | None = None, dtype: Any = None) -> Variable:
        """See :func:`symgraph.cumsum`."""
        return _sg().cumsum(self, axis=axis, dtype=dtype)

    def cumprod(self, axis: int | None = None, dtype: Any = None) -> Variable:
        """See :func:`symgraph.cumprod`."""
        return _sg().cumprod(self, axis=axis, dtype=dtype)

    def dot(self, other: TensorLike) -> Variable:
        """See :func:`symgraph.dot`."""
        return _sg().dot(self, other)

    def clip(self, min: TensorLike | None = None, max: TensorLike | None = None) -> Variable:
        """See :func:`symgraph.clip`."""
        return _sg().clip(self, min, max)

    def astype(self, dtype: Any) -> Variable:
        """See :func:`symgraph.cast`."""
        return _sg().cast(self, dtype)

    def reshape(self, *shape: Any) -> Variable:
        """See :func:`symgraph.reshape`."""
        return _sg().reshape(self, shape[0] if len(shape) == 1 and isinstance(shape[0], list | tuple) else shape)

    def ravel(self) -> Variable:
        """All elements in one axis, in C order."""
        return _sg().reshape(self, (-1,))

    flatten = ravel

    def transpose(self, *axes: Any) -> Variable:
        """See :func:`symgraph.transpose`."""
        if not axes or axes == (None,):
            return _sg().transpose(self)
        return _sg().transpose(self, axes[0] if len(axes) == 1 and isinstance(axes[0], list | tuple) else axes)

    def swapaxes(self, a: int, b: int) -> Variable:
        """See :func:`symgraph.swapaxes`."""
        return _sg().swapaxes(self, a, b)

    def squeeze(self, axis: Any = None) -> Variable:
        """See :func:`symgraph.squeeze`."""
        return _sg().squeeze(self, axis)

    def take(self, indices: TensorLike, axis: int | None = None) -> Variable:
        """See :func:`symgraph.take`."""
        return _sg().take(self, indices, axis=axis)

    def _repr_latex_(self) -> str:
        """Formula and type, as notebooks show a variable; see :func:`symgraph.latex`."""
        from symgraph.tex import typed_latex

        return typed_latex(cast("Variable", self))

    # -- NumPy's functions on symbols ----------------------------------------------------------------------------------

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        name = str(ufunc.__name__)
        options = {k: v for k, v in kwargs.items() if k == "axis" or k == "keepdims"}
        if method == "reduce" and name in _REDUCTIONS and len(options) == len(kwargs):
            return getattr(_sg(), _REDUCTIONS[name])(*inputs, **{"axis": 0, **options})
        if method == "accumulate" and name in _RUNNING and set(kwargs) <= {"axis"}:
            return getattr(_sg(), _RUNNING[name])(*inputs, **{"axis": 0, **kwargs})
        if method == "__call__" and not kwargs:
            found = _find(name)
            if found is not None:
                return found(*inputs)
        detail = f".{method}" if method != "__call__" else ""
        raise DTypeError(f"numpy.{name}{detail} with {sorted(kwargs) or 'these arguments'} has no symbolic counterpart")

    def __array_function__(self, func: Any, types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if func.__name__ in ("shape", "ndim", "size") and len(args) == 1 and not kwargs:
            return getattr(args[0], func.__name__)
        found = _find(func.__name__)
        if found is None:
            raise DTypeError(f"numpy.{func.__name__} has no symbolic counterpart")
        return found(*args, **kwargs)


def _find(name: str) -> Callable[..., Any] | None:
    import symgraph as sg

    name = _ALIASES.get(name, name)
    found = getattr(sg, name, None) if name in sg.__all__ else None
    return found if callable(found) else None
