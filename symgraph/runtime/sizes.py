"""Numbers behind symbolic sizes: found from the shapes of a call's arrays, and put into the ops that hold sizes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from symgraph import source
from symgraph.errors import SizeError
from symgraph.graph import Variable
from symgraph.op import Op
from symgraph.types import Atom, Dim, Monomial, Size, atoms, evaluate

Env = dict[Atom, int]


def label(variable: Variable, position: int) -> str:
    """The name of an input, or its position where it has none, for messages."""
    return variable.name or f"input {position}"


def bind_sizes(inputs: Sequence[Variable], arrays: Sequence[NDArray[Any]]) -> Env:
    """The number behind each symbolic size that the shapes of ``arrays`` determine.

    A size that is linear in one unknown determines it (``2*n + 1`` against 7 gives 3). Raises
    :class:`~symgraph.errors.SizeError` where an array does not fit its variable's type, or sizes contradict each
    other; it names the input, the axis, and the sizes wanted and got.
    """
    env: Env = {}
    origin: dict[Atom, str] = {}
    pending: list[tuple[Dim, int, str]] = []
    for k, (v, a) in enumerate(zip(inputs, arrays, strict=True)):
        name = label(v, k)
        if a.ndim != v.type.ndim:
            raise SizeError(
                f"{name}: wanted {v.type}, got an array of {a.ndim} axes, {list(a.shape)}  {source.show(v.sources)}"
            )
        for axis, (want, got) in enumerate(zip(v.type.shape, a.shape, strict=True)):
            if isinstance(want, Dim):
                pending.append((want, got, f"{name} axis {axis}"))
            elif want != got:
                raise SizeError(f"{name}: axis {axis} of {v.type}: wanted {want}, got {got}  {source.show(v.sources)}")
    while pending:
        waiting = []
        for want, got, place in pending:
            if not _learn(want, got, place, env, origin):
                waiting.append((want, got, place))
        if len(waiting) == len(pending):
            break  # the rest is not determined by these shapes; whoever needs it will say so
        pending = waiting
    return env


def _learn(want: Dim, got: int, place: str, env: Env, origin: dict[Atom, str]) -> bool:
    """Check the equation ``want == got``, or solve it for its one unknown. False where more must be known first."""
    unknown = {a for a in atoms(want) if not a.fn and a not in env}
    if not unknown:
        value = evaluate(want, env)
        if value != got:
            bound = ", ".join(f"{a} = {env[a]} from {origin[a]}" for a in dict.fromkeys(atoms(want)) if a in origin)
            raise SizeError(f"{place}: wanted {want} = {value}, got {got} ({bound})")
        return True
    if len(unknown) > 1:
        return False
    (atom,) = unknown
    slope = rest = 0
    for monomial, c in want.terms:
        others = [a for a in monomial if a is not atom]
        if len(monomial) - len(others) > 1 or any(atom in atoms(Dim((((a,), 1),))) for a in others if a.fn):
            return False
        value = evaluate(_monomial(tuple(others), c), env)
        if len(others) == len(monomial):
            rest += value
        else:
            slope += value
    if slope == 0:
        return False
    value, remainder = divmod(got - rest, slope)
    if remainder or value < 0:
        raise SizeError(f"{place}: no size {atom} makes {want} equal to {got}")
    env[atom] = value
    origin[atom] = place
    return True


def settle(equations: Sequence[tuple[Size, Size]], env: Env) -> None:
    """Add to ``env`` the sizes that equations ``known == unknown`` determine: those of inputs replaced by ``givens``.

    What the equations contradict is left to be checked when all is known.
    """
    pending = [(got, wanted) for got, wanted in equations if isinstance(wanted, Dim)]
    while pending:
        waiting = []
        for got, wanted in pending:
            if any(a not in env for a in atoms(got) if not a.fn):
                waiting.append((got, wanted))
                continue
            known = all(a in env for a in atoms(wanted) if not a.fn)
            if not known and not _learn(wanted, resolve(got, env), str(got), env, {}):
                waiting.append((got, wanted))
        if len(waiting) == len(pending):
            break
        pending = waiting


def _monomial(monomial: Monomial, coefficient: int) -> Size:
    return Dim(((monomial, coefficient),)) if monomial else coefficient


def resolve(size: Size, env: Mapping[Atom, int]) -> int:
    """The number behind ``size``; raises :class:`~symgraph.errors.SizeError` where no input determines it."""
    if isinstance(size, int):
        return size
    try:
        return evaluate(size, env)
    except KeyError as error:
        raise SizeError(f"the size {error.args[0]} is not determined by the shapes of the values given") from None
    except ZeroDivisionError:
        raise SizeError(f"the size {size} divides by a size that is 0") from None


O = TypeVar("O", bound=Op)  # noqa: E741


def substitute_sizes(op: O, env: Mapping[Atom, int]) -> O:
    """``op`` with numbers in place of the symbolic sizes in its static parameters."""
    needed = parameter_atoms(op)
    if not needed:
        return op
    missing = [a for a in needed if a not in env]
    if missing:
        raise SizeError(f"{op.name}: the size {missing[0]} is not determined by the shapes of the values given")
    substituted: O = _substituted(op, tuple((a, env[a]) for a in needed))
    return substituted


@lru_cache(maxsize=4096)
def parameter_atoms(op: Op) -> tuple[Atom, ...]:
    """The sizes that the static parameters of ``op`` are made of."""
    found = {a for size in _sizes(op) for a in atoms(size) if not a.fn}
    return tuple(sorted(found, key=lambda a: a.order))


@lru_cache(maxsize=4096)
def _substituted(op: Op, values: tuple[tuple[Atom, int], ...]) -> Any:
    return _replace(op, dict(values))


def _sizes(value: object) -> Iterator[Dim]:
    if isinstance(value, Dim):
        yield value
    elif isinstance(value, tuple | list):
        for v in value:
            yield from _sizes(v)
    elif isinstance(value, slice):
        yield from _sizes((value.start, value.stop, value.step))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for f in dataclasses.fields(value):
            yield from _sizes(getattr(value, f.name))


def _replace(value: Any, env: Env) -> Any:
    if isinstance(value, Dim):
        return resolve(value, env)
    if isinstance(value, tuple | list):
        return type(value)(_replace(v, env) for v in value)
    if isinstance(value, slice):
        return slice(*_replace((value.start, value.stop, value.step), env))
    if dataclasses.is_dataclass(value) and not isinstance(value, type) and any(True for _ in _sizes(value)):
        return dataclasses.replace(
            value, **{f.name: _replace(getattr(value, f.name), env) for f in dataclasses.fields(value)}
        )
    return value


def shape_of(shape: Sequence[Size], env: Mapping[Atom, int]) -> tuple[int, ...]:
    """A shape as numbers."""
    return tuple(resolve(s, env) for s in shape)


def as_array(variable: Variable, value: object, name: str) -> NDArray[Any]:
    """``value`` as an array of the variable's dtype. Only conversions that lose nothing are made.

    Raises :class:`~symgraph.errors.DTypeError`, and :class:`~symgraph.errors.RankError` for the wrong number of axes.
    """
    from symgraph.errors import DTypeError, RankError

    want = variable.type.dtype
    weak = not isinstance(value, np.ndarray | np.generic)
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise DTypeError(f"{name}: wanted {variable.type}, got something that is not an array: {error}") from None
    got = array.dtype
    if got != want:
        order = "biuf".find
        # Python numbers have no width of their own: they convert within or up the kinds, like NumPy's weak promotion.
        kinds = (
            weak
            and got.kind in "biuf"
            and (array.size == 0 or order(got.kind) <= order(want.kind) or got.kind + want.kind == "iu")
        )
        if not (kinds or (got.kind != "O" and np.can_cast(got, want, "safe"))):
            raise DTypeError(f"{name}: wanted {variable.type}, got dtype {got}  {source.show(variable.sources)}")
        converted = array.astype(want)
        if weak and got.kind in "iu" and want.kind in "iu" and not np.array_equal(converted, array):
            raise DTypeError(f"{name}: {value!r} does not fit into {want}  {source.show(variable.sources)}")
        array = converted
    if array.ndim != variable.type.ndim:
        raise RankError(
            f"{name}: wanted {variable.type}, got an array of shape {list(array.shape)}  "
            f"{source.show(variable.sources)}"
        )
    return array
