"""Nests of loops, and what is in them: questions that dealing loops out to threads asks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from symgraph import index as ix
from symgraph.loop import ir
from symgraph.loop.ir import Assign, Atomic, Check, Declare, For, If, Let, Statement, Store
from symgraph.loop.lower import Lowered
from symgraph.types import Dim, Size, product


@dataclass(eq=False)
class Level:
    """A loop of a nest, and the statements before it."""

    before: list[Statement]
    loop: For


def nest(body: Sequence[Statement], kind: str | None) -> tuple[list[Level], list[Statement]]:
    """The loops of ``kind`` around each other with only definitions in between, and what the last one contains."""
    chain: list[Level] = []
    while body and isinstance(body[-1], For) and (kind is None or body[-1].kind == kind):
        before = list(body[:-1])
        if any(not isinstance(s, Let | Check) for s in before):
            break
        chain.append(Level(before, body[-1]))
        body = body[-1].body
    return chain, list(body)


def walk(body: Iterable[Statement]) -> Iterator[Statement]:
    """All statements, outer before inner."""
    return ir.walk(list(body))


def values(s: Statement) -> list[ix.Expr]:
    """The expressions of one statement, without those of the statements in it."""
    if isinstance(s, For):
        return [s.start, s.stop]
    if isinstance(s, Store | Atomic):
        return [s.at, s.value]
    if isinstance(s, If | Check):
        return [s.condition]
    return [s.value] if isinstance(s, Let | Declare | Assign) else []


def expressions(body: Iterable[Statement]) -> Iterator[ix.Expr]:
    """Every expression in ``body``, with all that are in it."""
    return within(e for s in walk(body) for e in values(s))


def within(given: Iterable[ix.Expr]) -> Iterator[ix.Expr]:
    """The expressions ``given``, with all that are in them."""
    stack = list(given)
    while stack:
        e = stack.pop()
        yield e
        stack.extend(e.args)


def loads(body: Iterable[Statement]) -> Iterator[ix.Expr]:
    """The loads in ``body``."""
    return (e for e in expressions(body) if e.fn == "load")


def slope(e: ix.Expr, index: str, lets: Mapping[str, ix.Expr]) -> int | None:
    """By how much ``e`` grows with ``index``; ``None`` where that is not known to be 0 or 1."""
    if e.fn == "name":
        name = str(e.attr)
        return 1 if name == index else slope(lets[name], index, lets) if name in lets else 0
    parts = [slope(a, index, lets) for a in e.args]
    if all(p == 0 for p in parts):
        return 0
    if e.fn == "add" and sorted(map(str, parts)) == ["0", "1"]:
        return 1
    return None


def call(fn: str, *args: ix.Expr, dtype: np.dtype[Any] = ix.INT) -> ix.Expr:
    """A scalar function of values in registers."""
    return ix.Expr(fn, args, dtype, None, frozenset())


def around(chain: Sequence[Level], inner: Sequence[Statement]) -> list[Statement]:
    """A nest again: the loops of ``chain`` around ``inner``."""
    body = list(inner)
    for level in reversed(chain):
        s = level.loop
        body = [*level.before, For(s.index, s.start, s.stop, s.kind, body, s.total)]
    return body


def flattened(loops: Sequence[For], name: str, kind: Any, body: Sequence[Statement]) -> For:
    """One loop over all that ``loops`` run over together; ``body`` uses their indices."""
    if len(loops) == 1:
        (s,) = loops
        return For(s.index, s.start, s.stop, kind, list(body), s.total)
    lets: list[Statement] = []
    index, inner = ir.name(name, ix.INT), None
    for loop in reversed(loops):
        at = index if inner is None else call("floor_divide", index, inner)
        lets.append(Let(loop.index, at if loop is loops[0] else call("remainder", at, loop.stop)))
        inner = loop.stop if inner is None else call("multiply", loop.stop, inner)
    assert inner is not None
    return For(name, ix.size_value(0), inner, kind, [*reversed(lets), *body])


def sums(loop: For) -> dict[str, ix.Expr]:
    """What a loop gathers: names from outside that it assigns to, each as ``fn(name, term)``."""
    own = {s.name for s in walk([loop]) if isinstance(s, Declare)}
    return {s.name: s.value for s in walk([loop]) if isinstance(s, Assign) and s.name not in own}


def extents(lowered: Lowered) -> dict[str, Size]:
    """The parameters that are sizes."""
    pairs = zip(lowered.loops.params, lowered.bindings, strict=True)
    return {p.name: b for p, b in pairs if p.kind == "size" and isinstance(b, int | Dim)}


def size_of(e: ix.Expr, sizes: Mapping[str, Size]) -> Size:
    """The size that a loop's bound is."""
    if e.fn == "const":
        return int(e.attr)
    if e.fn == "multiply":
        return product(size_of(a, sizes) for a in e.args)
    return sizes[str(e.attr)]
