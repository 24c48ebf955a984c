"""Whether iterations of loops have places of their own: offsets as numbers whose digits are the loops' indices."""

from __future__ import annotations

from collections.abc import Sequence

from symgraph.loop.prove import Integers, Scope, absolute, linear, span_of, spans_of
from symgraph.loop.region import symbol
from symgraph.types import Atom, Size, atoms

_Digit = tuple[Atom, Size]
"""An index, and by how much it moves a place."""


def injective(integers: Integers, at: Size, shared: Sequence[Atom], width: int, scope: Scope, rest: Size = 0) -> bool:
    """Whether no two iterations of the loops ``shared`` have a place in common, of ``width`` from ``at`` on.

    The offset is then a number whose digits are the indices: each step as large as all below it together. What
    else may differ from one iteration to another, such as a quotient or what is loaded, is a digit too. ``rest`` is
    below all digits: iterations do not meet, whatever it is in each.
    """
    used: list[tuple[Atom, Size]] = []
    others = [a for a in dict.fromkeys(atoms(at)) if a not in scope.order and integers.differs(a)]
    for a in (*scope.order, *others):
        split = linear(at, a)
        if split is None:
            return False
        if split[0] != 0:
            used.append((a, split[0]))
    if any(a not in {u for u, _ in used} and not integers.proves(0 - span_of(scope, a), scope) for a in shared):
        return False
    used.sort(key=lambda digit: _degree(digit[1]))
    return _digit(integers, used, (), width, scope, rest)


def _degree(step: Size) -> tuple[int, int]:
    """By which steps are tried in turn: those of few sizes first, and of these small ones."""
    if isinstance(step, int):
        return 0, abs(step)
    return max(len(m) for m, _ in step.terms), max(abs(c) for _, c in step.terms)


def _digit(
    integers: Integers, left: Sequence[_Digit], below: Sequence[_Digit], width: int, scope: Scope, rest: Size
) -> bool:
    """Whether the next digit, and those after it, are above what the digits ``below`` add up to."""
    if not left:
        return True
    for k, (a, c) in enumerate(left):
        more = [*left[:k], *left[k + 1 :]]
        fits = _above(integers, absolute(c), below, width, scope, rest)
        if fits and _digit(integers, more, (*below, (a, c)), width, scope, rest):
            return True
    return False


def _above(integers: Integers, step: Size, below: Sequence[_Digit], width: int, scope: Scope, rest: Size) -> bool:
    """Whether ``step`` is above what the digits ``below`` add up to: one by one, or those of one sign together.

    Together they may be bounded as they are not one by one, such as parts of a row and what is in a part.
    """
    for sign in (None, True, False) if rest == 0 else (None, True):
        together: Size = rest
        others: Size = width - 1
        for a, c in below:
            spans = spans_of(scope, a)
            if (absolute(c) == c) is sign:
                together = together + absolute(c) * symbol(a)
            elif spans:
                span = next((s for s in spans if not any(x in scope.lower for x in atoms(s))), spans[0])
                others = others + absolute(c) * span
            else:
                break  # that one by itself may be anything
        else:
            if integers.proves(step - others - together - 1, scope) and integers.proves(together, scope):
                return True
    return False
