"""The order of steps: what frees memory runs as soon as it can; what was asked to wait does not run before its time.

Fusion leaves the steps in the order in which the outputs need them, one output after the other. In a network the
gradients of the weights are such outputs, and each of them is the last use of an activation: left to the end, they keep
all of them alive.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from symgraph.graph import Variable
from symgraph.ops.checkpoint import After
from symgraph.passes.fuse import Kernel, Step, moves_only
from symgraph.passes.library import LibraryCall
from symgraph.types import Atom, Size, evaluate

_UNKNOWN: Final = 64
"""What a size that is not known counts for where orders are compared."""


class _Unknown(dict[Atom, int]):
    def __missing__(self, atom: Atom) -> int:
        return _UNKNOWN


def reads(step: Step) -> list[Variable]:
    """The tensors that a step reads from memory."""
    return step.inputs if isinstance(step, Kernel) else step.reads


def writes(step: Step) -> list[Variable]:
    """The tensors that a step stores."""
    return step.outputs if isinstance(step, Kernel) else step.writes


def schedule(steps: Sequence[Step], outputs: Collection[Variable]) -> list[Step]:
    """The steps in an order that keeps less in memory, or as they are where none was found.

    A step that frees at least what it stores, or whose only reader does, runs as soon as its operands are there; all
    others keep their order. ``outputs`` lie in memory of the caller's, and cost nothing.
    """
    if len(steps) < 3:
        return list(steps)
    order = _Scheduler(steps, outputs)
    found = order.run()
    before, after = order.peak(range(len(steps))), order.peak(found)
    return [steps[k] for k in found] if after < before else list(steps)


def dependencies(steps: Sequence[Step]) -> list[set[int]]:
    """For each step, by their numbers, the steps that have to run before it."""
    writers: dict[Variable, list[int]] = {}
    readers: dict[Variable, list[int]] = {}
    for k, step in enumerate(steps):
        for v in dict.fromkeys(reads(step)):
            readers.setdefault(v, []).append(k)
        for v in dict.fromkeys(writes(step)):
            writers.setdefault(v, []).append(k)
    made = {**{s.product: [k] for k, s in enumerate(steps) if isinstance(s, LibraryCall)}, **writers}
    out: list[set[int]] = []
    for k, step in enumerate(steps):
        found = {j for v in reads(step) for j in writers.get(v, ()) if j < k}
        for v in writes(step):
            # What writes into a buffer comes after what wrote, or read, there before.
            found.update(j for j in (*writers[v], *readers.get(v, ())) if j < k)
        stack = _awaited(step, made)
        seen = set(stack)
        while stack:
            v = stack.pop()
            if v in made:
                found.update(j for j in made[v] if j < k)
            elif v.owner is not None:  # it is computed where it is used
                more = [u for u in v.owner.inputs if u not in seen]
                seen.update(more)
                stack.extend(more)
        out.append(found)
    return out


def _awaited(step: Step, made: Collection[Variable]) -> list[Variable]:
    """What a step has to wait for, though it does not read it."""
    inside = step.epilogue if isinstance(step, LibraryCall) else step
    found: list[Variable] = []
    if isinstance(inside, Kernel):
        found += [v for node in inside.nodes if isinstance(node.op, After) for v in node.inputs[1:]]
    if not isinstance(step, Kernel):
        for v in step.node.inputs:
            while v.owner is not None and v.owner.inputs and v not in made and moves_only(v.owner.op):
                found.extend(v.owner.inputs[1:])
                v = v.owner.inputs[0]
    return found


class _Scheduler:
    def __init__(self, steps: Sequence[Step], outputs: Collection[Variable]) -> None:
        self.writers: dict[Variable, list[int]] = {}
        self.readers: dict[Variable, list[int]] = {}
        self.reads = [list(dict.fromkeys(reads(s))) for s in steps]
        self.writes = [list(dict.fromkeys(writes(s))) for s in steps]
        for k in range(len(steps)):
            for v in self.reads[k]:
                self.readers.setdefault(v, []).append(k)
            for v in self.writes[k]:
                self.writers.setdefault(v, []).append(k)
        outside = set(outputs)
        unknown = _Unknown()
        self.bytes = {v: 0 if v in outside else _bytes(v, unknown) for v in self.writers}
        needs = dependencies(steps)
        self.missing = [set(n) for n in needs]
        self.dependents: list[list[int]] = [[] for _ in steps]
        for k, n in enumerate(needs):
            for j in n:
                self.dependents[j].append(k)
        self.left = {v: {r for r in self.readers.get(v, ()) if r not in self.writers[v]} for v in self.writers}

    def run(self) -> list[int]:
        count = len(self.reads)
        self.done = [False] * count
        self.urgent: list[int] = []
        self.order: list[int] = []
        for k in range(count):
            self._consider(k)
        for k in range(count):
            while self.urgent:
                self._take(heapq.heappop(self.urgent))
            self._take(k)
        return self.order

    def _take(self, k: int) -> None:
        if self.done[k]:
            return
        self.done[k] = True
        self.order.append(k)
        touched: set[int] = set()
        for d in self.dependents[k]:
            self.missing[d].discard(k)
            touched.add(d)
            if len(self.missing[d]) == 1:
                touched |= self.missing[d]
        for v in self.reads[k]:
            left = self.left.get(v)
            if left is not None:
                left.discard(k)
                if len(left) == 1:
                    touched |= left
        for d in touched:
            self._consider(d)

    def _consider(self, k: int) -> None:
        """Put a step that is ready and costs no memory among those that run next."""
        if self.done[k] or self.missing[k]:
            return
        cost = self._cost(k)
        if cost > 0 and len(self.dependents[k]) == 1:
            (reader,) = self.dependents[k]
            if self.missing[reader] == {k}:
                cost += self._cost(reader)
        if cost <= 0:
            heapq.heappush(self.urgent, k)

    def _cost(self, k: int) -> int:
        """Bytes that a step stores, less those that nothing reads after it."""
        stored = sum(self.bytes[v] for v in self.writes[k] if self.writers[v][0] == k)
        return stored - sum(self.bytes[v] for v in self.reads[k] if v in self.left and self.left[v] == {k})

    def peak(self, order: Sequence[int]) -> int:
        """The most bytes alive at one step."""
        place = {k: at for at, k in enumerate(order)}
        change = [0] * (len(place) + 1)
        for v, size in self.bytes.items():
            at = [place[k] for k in (*self.writers[v], *self.readers.get(v, ()))]
            change[min(at)] += size
            change[max(at) + 1] -= size
        alive = most = 0
        for c in change:
            alive += c
            most = max(most, alive)
        return most


def _bytes(v: Variable, sizes: Mapping[Atom, int]) -> int:
    size: Size = v.type.size
    try:
        return (size if isinstance(size, int) else max(0, evaluate(size, sizes))) * v.type.dtype.itemsize
    except ZeroDivisionError:
        return 0
