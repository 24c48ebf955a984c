"""Where to cut what is too much for one kernel, seen as a sequence of operations in the order of the graph.

There are as few parts as possible. Each cut has a window: as late as parts filled from the front allow, as early as
parts filled from the back allow. Within its window it is made where the fewest values are stored for it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

HEAVY_WORDS = 16
"""Registers that a function such as ``sin`` or a division takes for itself, beside its operand and its result."""


@dataclass(frozen=True)
class Value:
    """What an operation computes, or a kernel loads.

    Attributes:
        words: of 4 bytes, that it takes while it is in use: in a part, from where it is computed to the last of its
            places, and from the beginning if it is loaded. Assemblers move loads up, to wait for many at once, and do
            not move all of them back where registers run out.
        places: the operations that compute it (the first, where ``made``) or use it, ascending.
        made: whether it is computed here.
        stored: whether it is stored wherever the cuts are.
        weight: of what each part that uses it computes again.
    """

    words: int
    places: tuple[int, ...]
    made: bool
    stored: bool = False
    weight: int = 0


@dataclass(frozen=True)
class Bounds:
    """What one kernel may have.

    Attributes:
        weight: the most, all operations together.
        words: the most in use at once, where that is limited.
        heavy: the least weight of an operation that takes registers of its own, :data:`HEAVY_WORDS`.
    """

    weight: int
    words: int | None = None
    heavy: int = 0


def cuts(weights: Sequence[int], values: Sequence[Value], bounds: Bounds) -> list[int]:
    """The operations that parts begin with, but for the first part's; ``[]`` where all fits into one.

    ``weights`` are the operations'. One that is too much by itself is a part.
    """
    parts = _Parts(weights, values, bounds)
    late = parts.forwards()
    if not late:
        return []
    early = parts.backwards()
    price = _prices(len(weights), values, early, late)
    out: list[int] = []
    start = 0
    for first in early:
        last = parts.end(start)
        start = min(range(last, first - 1, -1), key=price.__getitem__)  # the latest of equals: parts are then alike
        out.append(start)
    return out


def _prices(n: int, values: Sequence[Value], early: Sequence[int], late: Sequence[int]) -> list[int]:
    """How many values a cut at each place stores that might not be stored otherwise.

    What lives throughout a window is stored wherever the cut is made in it, and so has no price anywhere.
    """
    change = [0] * (n + 1)
    for v in values:
        if v.stored or not v.made:
            continue
        start, end = v.places[0], v.places[-1]
        k = bisect_right(early, start)  # the first window that begins after it is computed
        if k < len(late) and late[k] <= end:
            continue
        change[start + 1] += 1
        change[end + 1] -= 1
    return list(accumulate(change))


class _Parts:
    """How far parts can go from a given operation. What is in a part that fits, fits."""

    def __init__(self, weights: Sequence[int], values: Sequence[Value], bounds: Bounds) -> None:
        self.weights, self.values, self.bounds = weights, values, bounds
        self.touched: list[list[int]] = [[] for _ in weights]
        for k, v in enumerate(values):
            if v.weight or (v.words and bounds.words is not None):
                for t in v.places:
                    self.touched[t].append(k)

    def forwards(self) -> list[int]:
        """Where parts begin, but for the first, if each from the front has as many operations as it can."""
        out = []
        at = self.end(0)
        while at < len(self.weights):
            out.append(at)
            at = self.end(at)
        return out

    def backwards(self) -> list[int]:
        """Where parts begin, but for the first, if each from the back has as many operations as it can."""
        out = []
        at = self.begin(len(self.weights))
        while at > 0:
            out.append(at)
            at = self.begin(at)
        return out[::-1]

    def end(self, begin: int) -> int:
        """Behind the last operation of the longest part that begins with ``begin``; it has at least one."""
        part = _Part(self)
        for at in range(begin, len(self.weights)):
            if not part.fits(at) and at > begin:
                return at
        return len(self.weights)

    def begin(self, end: int) -> int:
        """The first operation of the longest part that ends before ``end``; it has at least one."""
        part = _Part(self, backwards=True)
        for at in range(end - 1, -1, -1):
            if not part.fits(at) and at < end - 1:
                return at + 1
        return 0


class _Part:
    """A part that grows by one operation after the other, forwards or backwards."""

    def __init__(self, of: _Parts, backwards: bool = False) -> None:
        self.of = of
        self.is_backwards = backwards
        self.weight = 0
        self.seen: dict[int, int] = {}  # values, and which operation of the part met them last
        self.words: list[int] = []  # in use, by operation
        self.open = 0  # backwards: words of what is used further on and was not computed yet

    def fits(self, at: int) -> bool:
        """Take in operation ``at``; whether that is still not too much."""
        bounds, here = self.of.bounds, len(self.words)
        self.weight += self.of.weights[at]
        self.words.append(HEAVY_WORDS if self.of.weights[at] >= bounds.heavy else 0)
        closed = 0
        for k in self.of.touched[at]:
            v = self.of.values[k]
            made = v.made and v.places[0] == at
            if k not in self.seen:
                self.weight += v.weight
                self.open += v.words
            if self.is_backwards:
                closed += v.words if made else 0
            else:
                for t in range(here if made else self.seen.get(k, -1) + 1, here + 1):
                    self.words[t] += v.words
            self.seen[k] = here
        if self.is_backwards:
            self.words[here] += self.open
            self.open -= closed
        return self.weight <= bounds.weight and (bounds.words is None or max(self.words) <= bounds.words)
