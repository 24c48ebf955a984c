"""Derivatives that are taken again where a later one needs more of the graph than they were made of.

A derivative is made of the stable form of an expression, and that form need not go through every variable of the graph
as written: log(1 + e) with e = exp(x) becomes softplus(x). When a later derivative is in ``e``, the earlier ones that
bypass it are taken once more, of a form that keeps it. So each derivative that was made of a repaired expression
remembers how it was made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any, TypeVar
from weakref import finalize

from symgraph.callables import flatten
from symgraph.graph import Apply, Variable, _serial, toposort

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, eq=False)
class _Recipe:
    """How a derivative was made: of which expressions as written, what was kept of them, and how to do it again."""

    roots: tuple[Variable, ...]
    kept: frozenset[Variable]
    again: Callable[[], Variable]


class _Repairs:
    """What was repaired while a derivative was being made."""

    def __init__(self) -> None:
        self.roots: list[Variable] = []
        self.kept: set[Variable] | None = None


_recipes: dict[int, _Recipe] = {}  # by the serial number of a derivative that is still there
_open: ContextVar[tuple[_Repairs, ...]] = ContextVar("_open", default=())
_also_kept: ContextVar[tuple[Variable, ...]] = ContextVar("_also_kept", default=())


def retakable(transform: F) -> F:
    """``transform``, whose results can be made again. It is a pure function of its arguments."""

    @wraps(transform)
    def taken(*args: Any, **kwargs: Any) -> Any:
        oldest, repairs = next(_serial), _Repairs()
        token = _open.set((*_open.get(), repairs))
        try:
            result = transform(*args, **kwargs)
        finally:
            _open.reset(token)
        if repairs.roots:
            for k, v in enumerate(flatten(result)[0]):
                if isinstance(v, Variable) and v.serial > oldest:
                    again = partial(_leaf, k, taken, args, kwargs)
                    _remember(v, _Recipe(tuple(repairs.roots), frozenset(repairs.kept or ()), again))
        return result

    return taken  # type: ignore[return-value]


def _leaf(k: int, transform: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Variable:
    found: Variable = flatten(transform(*args, **kwargs))[0][k]
    return found


def _remember(v: Variable, recipe: _Recipe) -> None:
    if v.serial not in _recipes:
        finalize(v, _recipes.pop, v.serial, None).atexit = False
    _recipes[v.serial] = recipe


def repaired(outputs: Iterable[Variable], keep: Iterable[Variable]) -> None:
    """Let the derivatives that are being made know that ``outputs`` were, and that only ``keep`` is sure to be left."""
    for repairs in _open.get():
        repairs.roots.extend(outputs)
        repairs.kept = set(keep) if repairs.kept is None else repairs.kept & set(keep)


def inherited(nodes: Iterable[Apply]) -> None:
    """Let the derivatives that are being made know that earlier ones among the outputs of ``nodes`` go into them."""
    if _open.get() and _recipes:
        found = [_recipes[v.serial] for node in nodes for v in node.outputs if v.serial in _recipes]
        for recipe in dict.fromkeys(found):
            repaired(recipe.roots, recipe.kept)


def kept(keep: Sequence[Variable]) -> list[Variable]:
    """``keep``, and what has to be kept besides, because a derivative is being taken again."""
    return list(dict.fromkeys((*keep, *_also_kept.get())))


def bypassed(v: Variable, inside: Sequence[Variable]) -> list[Variable]:
    """Those of ``inside`` that a derivative ``v`` may bypass."""
    recipe = _recipes.get(v.serial)
    if recipe is None:
        return []
    wanted = [v for v in inside if v not in recipe.kept]
    if not wanted:
        return []
    below = {v for node in toposort(recipe.roots) for v in node.outputs}
    return [v for v in wanted if v in below]


def again(v: Variable, keep: Iterable[Variable]) -> Variable:
    """The derivative ``v``, of a form that keeps ``keep``."""
    with _keeping(keep):
        return _recipes[v.serial].again()


@contextmanager
def _keeping(variables: Iterable[Variable]) -> Iterator[None]:
    token = _also_kept.set(tuple(dict.fromkeys((*_also_kept.get(), *variables))))
    try:
        yield
    finally:
        _also_kept.reset(token)


def carried(v: Variable, copy: Variable, move: Callable[[Variable], Variable]) -> None:
    """``copy`` is what ``move`` makes of ``v``: a derivative that is taken again is moved again."""
    recipe = _recipes.get(v.serial)
    if recipe is not None and copy is not v:
        _remember(copy, _Recipe(recipe.roots, recipe.kept, partial(_moved, move, recipe)))


def _moved(move: Callable[[Variable], Variable], recipe: _Recipe) -> Variable:
    return move(recipe.again())
