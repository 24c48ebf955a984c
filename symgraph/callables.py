"""Python functions of tensors that take symbols or arrays: called with variables they build a graph, called with arrays
they compile on first use and run."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symgraph import source
from symgraph.errors import FormatError, RankError
from symgraph.graph import Variable
from symgraph.op import as_variable
from symgraph.types import TensorType, as_dtype, dim

KEPT = 64
"""Compiled functions that are kept for each transformed function, by structure, dtypes and ranks of the arguments."""

Structure = Any
"""``None`` for a leaf, or the type of a container with the structures of its items."""

# -- nested structures of tensors --------------------------------------------------------------------------------------


def flatten(value: Any) -> tuple[list[Any], Structure]:
    """The leaves of nested lists, tuples and dicts, in order, and the structure that they stand in."""
    leaves: list[Any] = []
    return leaves, _structure(value, leaves)


def _structure(value: Any, leaves: list[Any]) -> Structure:
    if isinstance(value, list | tuple) and not _numbers(value):
        return (type(value), tuple(_structure(v, leaves) for v in value))
    if isinstance(value, dict):
        return (dict, tuple((k, _structure(v, leaves)) for k, v in value.items()))
    leaves.append(value)
    return None


def _numbers(value: Any) -> bool:
    """Whether this is an array written as a list: numbers, or lists of them."""
    return isinstance(value, list) and bool(value) and all(isinstance(v, int | float) or _numbers(v) for v in value)


def unflatten(structure: Structure, leaves: Iterator[Any]) -> Any:
    """The inverse of :func:`flatten`."""
    if structure is None:
        return next(leaves)
    kind, parts = structure
    if kind is dict:
        return {k: unflatten(s, leaves) for k, s in parts}
    items = [unflatten(s, leaves) for s in parts]
    # A named tuple takes its fields one by one.
    return kind(*items) if hasattr(kind, "_fields") else kind(items)


def flatten_like(what: str, value: Any, structure: Structure) -> list[Any]:
    """The leaves of ``value``, in the order of ``structure``: dicts by their keys, lists and tuples by position.

    Raises :class:`~symgraph.errors.FormatError` where ``value`` is not nested like it.
    """
    if structure is None:
        return [value]
    kind, parts = structure
    if kind is dict:
        keys = [k for k, _ in parts]
        if not isinstance(value, dict) or {*value} != {*keys}:
            got = f"one of {[*value]}" if isinstance(value, dict) else repr(value)
            raise FormatError(f"{what}: wanted a dict of {keys}, got {got}  {source.show(source.current())}")
        return [v for k, s in parts for v in flatten_like(what, value[k], s)]
    if not isinstance(value, list | tuple):
        raise FormatError(f"{what}: wanted {len(parts)}, got {value!r}  {source.show(source.current())}")
    if len(value) != len(parts):
        raise RankError(f"{what}: wanted {len(parts)}, got {len(value)}  {source.show(source.current())}")
    return [v for item, s in zip(value, parts, strict=True) for v in flatten_like(what, item, s)]


def is_variable(v: Any) -> bool:
    """Whether ``v`` is a variable, or stands for one."""
    return isinstance(getattr(v, "variable", v), Variable)


def is_function(first: object) -> bool:
    """Whether a transformation got a function, not variables."""
    return callable(first) and not is_variable(first)


def is_tensor(v: Any) -> bool:
    """Whether ``v`` is an array or a number: strings, booleans and functions are passed on as they are."""
    return isinstance(v, np.ndarray | np.generic | int | float | list) and not isinstance(v, bool)


def symbolic(value: Any) -> Any:
    """``value`` with arrays as variables: a function sees the same kinds of things however it is called."""
    leaves, structure = flatten(value)
    return unflatten(structure, iter([as_variable(v) if isinstance(v, np.ndarray | list) else v for v in leaves]))


# -- functions of symbols or arrays ------------------------------------------------------------------------------------


class OnArrays:
    """A function that builds a graph: called with variables it does that, called with arrays it compiles and runs.

    Arrays, numbers, and nested lists, tuples and dicts of them are taken; Python numbers take the float dtype of the
    arrays, and strings, booleans and functions are passed on as they are. The first call with a new structure, or new
    dtypes or ranks, builds and compiles; sizes are free, but which axes have size 1, and so broadcast, is compiled in.
    Compiled functions are kept. Calls are thread-safe.
    """

    def __init__(
        self, name: str, fn: Callable[..., Any], graph: Callable[[Sequence[Any], Mapping[str, Any]], Any]
    ) -> None:
        self.fn = fn
        self._graph = graph
        self._compiled: OrderedDict[Any, Any] = OrderedDict()
        self._lock = threading.Lock()
        self.__name__ = f"{name}({getattr(fn, '__name__', type(fn).__name__)})"
        self.__doc__ = fn.__doc__
        self.__wrapped__ = fn

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """On variables: a graph. On arrays: arrays, in the same structure."""
        leaves, structure = flatten((args, kwargs))
        if any(is_variable(v) for v in leaves) or not any(is_tensor(v) for v in leaves):
            return self._graph(args, kwargs)
        static = [None if is_tensor(v) else (v,) for v in leaves]
        given = [v for v, s in zip(leaves, static, strict=True) if s is None]
        arrays = _arrays(given, self._smooth(args, kwargs))
        key = (structure, tuple(static), *((a.dtype, tuple(n == 1 for n in a.shape)) for a in arrays))
        with self._lock:
            entry = self._compiled.get(key)
            if entry is None:
                entry = self._compiled[key] = self._compile(structure, static, arrays)
                while len(self._compiled) > KEPT:
                    self._compiled.popitem(last=False)
            else:
                self._compiled.move_to_end(key)
        function, results, absent = entry
        found = iter(function(*arrays))
        return unflatten(results, iter([None if a else next(found) for a in absent]))

    def _smooth(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[bool]:
        """For each tensor among the arguments, whether it has to be a float, also where it is written as an integer."""
        return [False for v in flatten((args, kwargs))[0] if is_tensor(v)]

    def _compile(
        self, structure: Structure, static: Sequence[Any], arrays: Sequence[NDArray[Any]]
    ) -> tuple[Any, Structure, list[bool]]:
        from symgraph.runtime.function import function

        inputs = [Variable(TensorType(a.dtype, tuple(1 if n == 1 else dim() for n in a.shape))) for a in arrays]
        symbols = iter(inputs)
        args, kwargs = unflatten(structure, iter([next(symbols) if s is None else s[0] for s in static]))
        found, results = flatten(self._graph(args, kwargs))
        outputs = [as_variable(v) for v in found if v is not None]
        return function(inputs, outputs, name=self.__name__), results, [v is None for v in found]

    def __repr__(self) -> str:
        return f"<{self.__name__}>"


def _arrays(leaves: Sequence[Any], smooth: Sequence[bool]) -> list[NDArray[Any]]:
    """The leaves as arrays: Python numbers of the arrays' float dtype, integers only where none is needed."""
    arrays = [np.asarray(v) for v in leaves]
    own = [isinstance(v, np.ndarray | np.generic) for v in leaves]
    floats = [a.dtype for a, o in zip(arrays, own, strict=True) if o and a.dtype.kind == "f"]
    common = np.result_type(*floats) if floats else np.dtype("float64")
    out = []
    for a, o, wanted in zip(arrays, own, smooth, strict=True):
        if not o and (a.dtype.kind == "f" or (wanted and a.dtype.kind in "iu")):
            a = a.astype(common)
        out.append(np.asarray(a, as_dtype(a.dtype)))
    return out
