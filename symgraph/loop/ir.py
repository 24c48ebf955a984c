"""Loop IR: the nest of loops that computes a kernel. Independent of the target; one page of grammar.

    kernel    := name, params, body
    statement := For(index, start, stop, kind, body)     kind: parallel | vector | serial; on a GPU grid | group | lane;
                                                           lanes: of a text;
                                                           running: serial, before loops are dealt out to threads
               | Let(name, value)                        a new name, never assigned again
               | Declare(name, value)                    a new name that Assign may change
               | Assign(name, value)
               | Store(buffer, at, value)                one flat offset
               | If(condition, then, otherwise)
               | While(condition, body)                  turns as long as the condition holds
               | Check(condition, code)                  leave the kernel with an error code where the condition fails
               | Alloc(name, space, dtype, size)         scratch memory: shared by a block, or a thread's own
               | Combine(name, fn, scratch)              name = fn over its values in the lanes of the group
               | Prefix(name, total, fn, scratch)        name = fn over its values up to this lane, total = over all
               | Barrier()                               the lanes of the group wait for each other's stores
               | Atomic(buffer, at, value)               add to an element that other threads add to
               | Fetch(names, buffer, at)                new names for neighbouring elements, loaded at once
               | Put(buffer, at, values)                 neighbouring elements, stored at once
    value     := index.Expr with fn in: const | name | word | load | cast | lane | lanes | aligned | a scalar function

A CPU runs a ``parallel`` loop in pieces, a ``vector`` loop in vector registers. Each step of a ``running`` loop assigns
``fn(acc, term)`` to one name, and stores that. On a GPU, threads are the lanes of groups
(:mod:`symgraph.loop.schedule`): the iterations of a ``grid`` loop are dealt out to all threads, those of a ``group``
loop to the groups, those of a ``lane`` loop to the lanes of a group. Combine, Prefix and Barrier are reached by all
lanes of a group or by none. A kernel that is text has one ``lanes`` loop, of an iteration for each lane, which meet at
barriers in it (:mod:`symgraph.loop.text`).

Parameters are 64-bit words: buffers, sizes and scalar constants. A kernel is thus specialised on structure and dtypes
only, and equal structures are one kernel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np

from symgraph.index import Expr


@dataclass(eq=False)
class For:
    """A loop over ``[start, stop)``. Iterations of a parallel or vector loop touch no common memory.

    Where the bounds depend on the index of the loop around it, ``total`` is the number of iterations of all its turns:
    the index then takes each value below ``total`` once.
    """

    index: str
    start: Expr
    stop: Expr
    kind: Literal["parallel", "vector", "serial", "running", "grid", "group", "lane", "lanes"]
    body: list[Statement]
    total: Expr | None = None


@dataclass(eq=False)
class Let:
    """``name = value``, once."""

    name: str
    value: Expr


@dataclass(eq=False)
class Declare:
    """``name = value``, to be assigned again."""

    name: str
    value: Expr


@dataclass(eq=False)
class Assign:
    """A new value for a declared name."""

    name: str
    value: Expr


@dataclass(eq=False)
class Store:
    """``buffer[at] = value``; the value has the buffer's dtype."""

    buffer: str
    at: Expr
    value: Expr

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the buffer's elements."""
        return self.value.dtype


@dataclass(eq=False)
class If:
    """A branch."""

    condition: Expr
    then: list[Statement]
    otherwise: list[Statement]


@dataclass(eq=False)
class While:
    """A loop that goes on as long as ``condition`` holds. What it changes is assigned at the end of its body."""

    condition: Expr
    body: list[Statement]


@dataclass(eq=False)
class Check:
    """Return ``code`` from the kernel unless ``condition`` holds."""

    condition: Expr
    code: int


@dataclass(eq=False)
class Alloc:
    """``size`` elements of scratch memory under a name."""

    name: str
    space: Literal["shared", "local"]
    dtype: np.dtype[Any]
    size: int


@dataclass(eq=False)
class Combine:
    """``name`` gets, in every lane of the group, ``fn`` over the values that the lanes have for it. In fixed order."""

    name: str
    fn: str
    dtype: np.dtype[Any]
    scratch: str


@dataclass(eq=False)
class Prefix:
    """``name`` gets, in each lane, ``fn`` over its values in the lanes up to this one; ``total``, new, over all."""

    name: str
    total: str
    fn: str
    dtype: np.dtype[Any]
    scratch: str


@dataclass(eq=False)
class Barrier:
    """No lane of the group goes on before all have come here; each then sees what the others stored."""


@dataclass(eq=False)
class Atomic:
    """``buffer[at] += value``, where other threads may do the same at the same time. In no fixed order.

    ``own`` are indices of loops that are coordinates of the element: iterations that differ in one never meet.
    """

    buffer: str
    at: Expr
    value: Expr
    own: tuple[str, ...] = ()


@dataclass(eq=False)
class Fetch:
    """``names = buffer[at], buffer[at + 1], ...``, each new, from an address that ``aligned`` is true of."""

    names: tuple[str, ...]
    buffer: str
    at: Expr
    dtype: np.dtype[Any]


@dataclass(eq=False)
class Put:
    """``buffer[at], buffer[at + 1], ... = values``; ``at`` as of :class:`Fetch`."""

    buffer: str
    at: Expr
    values: tuple[Expr, ...]


Statement: TypeAlias = (
    "For | Let | Declare | Assign | Store | If | While | Check | Alloc | Combine | Prefix | Barrier | Atomic | "
    "Fetch | Put"
)


@dataclass(frozen=True)
class Param:
    """One argument word: a buffer's pointer, a size, or a scalar constant of a dtype."""

    name: str
    kind: Literal["buffer", "size", "const"]
    dtype: np.dtype[Any]


@dataclass(eq=False)
class LoopKernel:
    """A kernel: parameters and body. ``lo`` and ``hi`` bound the parallel loop."""

    params: list[Param] = field(default_factory=list)
    body: list[Statement] = field(default_factory=list)


def name(text: str, dtype: np.dtype[Any]) -> Expr:
    """A reference to a name."""
    return Expr("name", (), dtype, text, frozenset())


def walk(body: list[Statement]) -> Iterator[Statement]:
    """All statements, outer before inner."""
    for s in body:
        yield s
        if isinstance(s, For | While):
            yield from walk(s.body)
        elif isinstance(s, If):
            yield from walk(s.then)
            yield from walk(s.otherwise)


def show(kernel: LoopKernel) -> str:
    """The kernel as text, for golden files and for reading."""
    lines = [f"kernel({', '.join(f'{p.name}: {p.kind} {p.dtype.name}' for p in kernel.params)})"]

    def block(body: list[Statement], depth: int) -> None:
        pad = "  " * depth
        for s in body:
            if isinstance(s, For):
                lines.append(f"{pad}{s.kind} {s.index} in [{expression(s.start)}, {expression(s.stop)}):")
                block(s.body, depth + 1)
            elif isinstance(s, If):
                lines.append(f"{pad}if {expression(s.condition)}:")
                block(s.then, depth + 1)
                if s.otherwise:
                    lines.append(f"{pad}else:")
                    block(s.otherwise, depth + 1)
            elif isinstance(s, While):
                lines.append(f"{pad}while {expression(s.condition)}:")
                block(s.body, depth + 1)
            elif isinstance(s, Check):
                lines.append(f"{pad}check {expression(s.condition)} else {s.code}")
            elif isinstance(s, Store):
                lines.append(f"{pad}{s.buffer}[{expression(s.at)}] := {expression(s.value)}")
            elif isinstance(s, Atomic):
                lines.append(f"{pad}{s.buffer}[{expression(s.at)}] +:= {expression(s.value)}")
            elif isinstance(s, Alloc):
                lines.append(f"{pad}{s.space} {s.name}: {s.dtype.name}[{s.size}]")
            elif isinstance(s, Combine):
                lines.append(f"{pad}combine {s.name} by {s.fn}")
            elif isinstance(s, Prefix):
                lines.append(f"{pad}prefix {s.name}, {s.total} by {s.fn}")
            elif isinstance(s, Barrier):
                lines.append(f"{pad}barrier")
            elif isinstance(s, Fetch):
                lines.append(f"{pad}let {', '.join(s.names)} = {s.buffer}[{expression(s.at)}...]")
            elif isinstance(s, Put):
                lines.append(f"{pad}{s.buffer}[{expression(s.at)}...] := {', '.join(map(expression, s.values))}")
            else:
                sign = {Let: "let ", Declare: "var ", Assign: ""}[type(s)]
                lines.append(f"{pad}{sign}{s.name} = {expression(s.value)}")

    block(kernel.body, 1)
    return "\n".join(lines) + "\n"


def expression(e: Expr) -> str:
    """A value as text, operators written as functions."""
    if e.fn == "const":
        return repr(e.attr)
    if e.fn == "name":
        return str(e.attr)
    if e.fn == "load":
        return f"{e.attr}[{expression(e.args[0])}]"
    if e.fn == "aligned":
        return f"aligned({e.attr}[{expression(e.args[0])}], {expression(e.args[1])})"
    if e.fn == "cast":
        return f"{e.dtype.name}({expression(e.args[0])})"
    return f"{e.fn}({', '.join(expression(a) for a in e.args)})"
