"""The numbers inside a call: every intermediate value, summarized; and the first that is not finite.

On the target ``numpy`` these are the values that the interpreter computes, in its order. On ``cpu`` a program of the
same options is compiled that returns every variable of the graph as written. Each of them is there as the compiler
would compute it were it an output: ``log(1 + exp(x))`` at 1000 is 1000, while ``exp(x)``, asked for itself, is
infinite. What is fused and never stored in the real program is stored here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from symgraph import source
from symgraph.errors import AmbiguousNameError, NonFiniteError, UnknownInputError
from symgraph.graph import Constant, Graph, SharedVariable, Variable
from symgraph.runtime.interpreter import interpret
from symgraph.runtime.table import Table, number, printable
from symgraph.types import is_float

if TYPE_CHECKING:
    from symgraph.runtime.function import Function

__all__ = ["NonFinite", "Value", "Values", "computed_floats", "trace"]


@dataclass(frozen=True, eq=False)
class Value:
    """A variable and what it was in a call.

    ``min`` and ``max`` are over what is not nan, ``mean`` over what is finite, in float64; all three are ``None`` where
    there is nothing to take them over. ``nans`` and ``infs`` count elements. ``value`` is the array itself.
    """

    variable: Variable
    value: NDArray[Any]
    min: Any
    max: Any
    mean: float | None
    nans: int
    infs: int

    @property
    def name(self) -> str | None:
        """What the user calls the variable."""
        return self.variable.name

    @property
    def op(self) -> str:
        """The operation that computes it, or ``input`` or ``shared``."""
        return operation(self.variable)

    @property
    def line(self) -> str:
        """The user's line, or lines."""
        return source.show(self.variable.sources)

    @property
    def finite(self) -> bool:
        """Whether every element is a finite number."""
        return not (self.nans or self.infs)


def operation(v: Variable) -> str:
    """What makes a variable, in a word."""
    if v.owner is not None:
        return v.owner.op.name
    return "shared" if isinstance(v, SharedVariable) else "constant" if isinstance(v, Constant) else "input"


def counts(a: NDArray[Any]) -> tuple[int, int]:
    """How many elements are nan, and how many infinite."""
    if a.dtype.kind not in "fc" or bool(np.isfinite(a).all()):
        return 0, 0
    return int(np.isnan(a).sum()), int(np.isinf(a).sum())


def summarize(v: Variable, a: NDArray[Any]) -> Value:
    """The summary of one value."""
    nans, infs = counts(a)
    known = a[~np.isnan(a)] if nans else a
    finite = a[np.isfinite(a)] if nans or infs else a
    if not known.size:
        return Value(v, a, None, None, None, nans, infs)
    with np.errstate(over="ignore"):
        mean = float(np.mean(finite, dtype=np.float64)) if finite.size else None
    return Value(v, a, known.min().item(), known.max().item(), mean, nans, infs)


class Values(Table):
    """Every value of a call, in the order of execution: iterable, indexed by variable or by name; printed, a table."""

    columns = ("name<", "operation<", "type<", "min", "max", "mean", "nan", "inf", "line<")

    def __init__(self, values: Sequence[Value]) -> None:
        self._values = list(values)
        self._by_variable = {x.variable: x for x in self._values}

    def __iter__(self) -> Iterator[Value]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, key: Variable | str | int) -> Value:
        """The value of a variable, of the variable of a name, or at a place in the order.

        Raises :class:`~symgraph.errors.UnknownInputError` for what is not in the graph, and
        :class:`~symgraph.errors.AmbiguousNameError` for a name that several variables have.
        """
        if isinstance(key, int):
            return self._values[key]
        if isinstance(key, str):
            found = [x for x in self._values if x.name == key]
            if len(found) > 1:
                raise AmbiguousNameError(f"trace: {len(found)} variables are called {key!r}; give the variable itself")
        else:
            found = [x for x in (self._by_variable.get(getattr(key, "variable", key)),) if x is not None]
        if not found:
            names = sorted({x.name for x in self._values if x.name})
            raise UnknownInputError(f"trace: {key!r} is not in the graph; names in it: {', '.join(names) or 'none'}")
        return found[0]

    @property
    def first_non_finite(self) -> Value | None:
        """The first value in order that has a nan or an infinity; ``None`` where all are finite."""
        return next((x for x in self._values if not x.finite), None)

    def _rows(self) -> list[list[str]]:
        return [
            [
                _short(x.name or ""), x.op, f"{x.value.dtype.name}{list(x.value.shape)}",
                *("" if s is None else number(s) for s in (x.min, x.max, x.mean)),
                str(x.nans or ""), str(x.infs or ""), x.line,
            ]
            for x in self._values
        ]  # fmt: skip


def trace(fn: Function, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Values:
    """The values of all variables of ``fn``'s graph in a call with these arguments. No update is made."""
    arrays = fn._prepare_inputs(fn._bound(args, kwargs))
    given: dict[Variable, NDArray[Any]] = dict(zip(fn.inputs, arrays, strict=True))
    with fn._locked():
        given |= {s: s.get_value() for s in fn.shared}
        if fn.target == "numpy":
            found: dict[Variable, NDArray[Any]] = {}
            interpret(fn.graph, given, found.__setitem__)
        else:
            everything = fn._everything()
            found = dict(zip(everything.outputs, everything(*arrays), strict=True))
    return Values([summarize(v, a) for v, a in (given | found).items()])


class NonFinite:
    """Looks at values in the order of execution, and raises at the first that is not finite.

    That is a nan anywhere, and an infinity that an operation makes of finite operands. An infinity that was given (the
    ``-inf`` of a mask) or that comes of one is no fault by itself.
    """

    def __init__(self, label: str, given: Mapping[Variable, NDArray[Any]]) -> None:
        self._label = label
        self._counts: dict[Variable, tuple[int, int]] = {}
        for v, a in given.items():
            self._counts[v] = nans, infs = counts(a)
            if nans:
                raise NonFiniteError(
                    f"{label}: {operation(v)} {_name(v)} has {_amount(nans, infs)} of {a.size} elements, "
                    f"the first at {_first(np.isnan(a))}  {source.show(v.sources)}"
                )

    def __call__(self, v: Variable, a: NDArray[Any]) -> None:
        """Look at the value of ``v``."""
        self._counts[v] = nans, infs = counts(a)
        if not (nans or infs) or v.owner is None:
            return
        if not nans and any(any(self._of(x)) for x in v.owner.inputs):
            return
        where = _first(np.isnan(a) if nans else np.isinf(a))
        operands = "; ".join(f"{self._operand(x, k)} {self._state(x)}" for k, x in enumerate(v.owner.inputs))
        raise NonFiniteError(
            f"{self._label}: {v.owner.op.name} makes {_name(v)} with {_amount(nans, infs)} among {a.size} elements, "
            f"the first at {where}{': ' if operands else ''}{operands}  {source.show(v.sources)}"
        )

    def _of(self, v: Variable) -> tuple[int, int]:
        if v not in self._counts and isinstance(v, Constant):
            self._counts[v] = counts(v.data)
        return self._counts.get(v, (0, 0))

    def _operand(self, v: Variable, position: int) -> str:
        return _name(v) if v.name else f"operand {position} ({operation(v)}: {v.type})"

    def _state(self, v: Variable) -> str:
        nans, infs = self._of(v)
        return f"has {_amount(nans, infs)}" if nans or infs else "is finite"


def computed_floats(graph: Graph) -> list[Variable]:
    """What checked mode looks at: every float that is computed, in order."""
    return [v for node in graph.nodes for v in node.outputs if is_float(v.type.dtype)]


def _name(v: Variable) -> str:
    return f"{printable(v.name)}: {v.type}" if v.name else f"a {v.type}"


def _amount(nans: int, infs: int) -> str:
    return " and ".join(f"{n} {what}" for n, what in ((nans, "nan"), (infs, "inf")) if n)


def _first(mask: NDArray[Any]) -> str:
    return str([int(k) for k in np.unravel_index(int(np.argmax(mask)), mask.shape)])


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:39] + "…"
