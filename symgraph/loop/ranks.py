"""Ranks: places of elements in the order of a row, found by counting those that come before.

Each element of a row counts the elements in front of it that are not above it, and those behind that are below it. Its
own place is then its rank by value and position, and as no two elements have both in common, no two have one rank.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from symgraph.index import Expr
from symgraph.loop import ir
from symgraph.loop.prove import Integers, linear
from symgraph.types import Atom, Dim, Size


@dataclass(frozen=True)
class Count:
    """A loop that counts the turns in which something holds.

    Attributes:
        index, start, stop: of the loop.
        condition: what is counted.
        entry: the number before it.
    """

    index: Atom
    start: Size
    stop: Size
    condition: Expr
    entry: Size


def count(name: str, last: Expr, integers: Integers) -> Expr | None:
    """The condition, where a loop's body makes ``name`` one more if it holds, and leaves it else."""
    value = integers.named(last)
    if value.fn != "where":
        return None
    more, same = integers.named(value.args[1]), value.args[2]
    if ir.expression(more) != f"add({name}, 1)" or ir.expression(same) != name:
        return None
    return integers.named(value.args[0])


def ranked(
    second: Count, counts: Mapping[Atom, Count], integers: Integers, stores: Callable[[str], bool]
) -> Atom | None:
    """The index of the element that a number is the rank of, in its row; ``None`` where it is no rank.

    ``second`` counts behind the element, and ``counts`` has what is counted in front. ``stores`` says whether there are
    stores to a buffer.
    """
    first = counts.get(second.entry.atom) if isinstance(second.entry, Dim) and second.entry.atom else None
    if first is None or first.entry != 0 or first.start != 0 or not isinstance(first.stop, Dim):
        return None
    own = first.stop.atom
    if own is None or second.start != first.stop + 1:
        return None
    before = _compared(first, "less_equal", integers)
    if before is None or before != _compared(second, "less", integers) or stores(before[1]):
        return None
    _, _, step, rest, mine = before
    if own in integers.made_of((second.stop, step, rest)) or mine != step * first.stop + rest:
        return None
    return own


def _compared(counted: Count, fn: str, integers: Integers) -> tuple[str, str, Size, Size, Size] | None:
    """By which function, and of which buffer, a turn's element is compared with one's own; and where these lie.

    Of a turn's, the step from one turn to the next, and the rest.
    """
    if counted.condition.fn != fn:
        return None
    a, b = (integers.named(x) for x in counted.condition.args)
    # Ordinals are unsigned numbers: they have an order, which floating-point numbers have not.
    if a.fn != b.fn or not a.fn.startswith("ordinal_") or len(a.args) != 1:
        return None
    (x,), (y,) = a.args, b.args
    kinds = []
    while x.fn == y.fn and x.fn != "load" and len(x.args) and x.args[1:] == y.args[1:] == ():
        kinds.append(x.fn)
        (x,), (y,) = x.args, y.args
    if x.fn != "load" or y.fn != "load" or x.attr != y.attr:
        return None
    at, mine = integers.value(x.args[0]), integers.value(y.args[0])
    split = linear(at, counted.index) if at is not None else None
    if split is None or mine is None:
        return None
    return f"{a.fn} {kinds}", str(x.attr), *split, mine
