"""The memory plan: which tensors share a buffer, how long each buffer lives, and where in the arena it lies.

Which tensors share a buffer is decided once, from the structure: a kernel may write over an operand that it reads last,
element for element. Offsets depend on sizes and are computed for each new set of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from symgraph import index as ix
from symgraph.errors import CheckError
from symgraph.graph import Constant, Variable
from symgraph.passes.fuse import Kernel, Step
from symgraph.passes.library import HostCall, LibraryCall
from symgraph.types import Size

ALIGNMENT = 64
"""Bytes: a cache line, and the widest vector."""


@dataclass(eq=False)
class Buffer:
    """Memory of one or several tensors that live one after the other. ``first`` and ``last`` are step numbers."""

    variables: list[Variable]
    first: int
    last: int
    output: bool = False  # lies in an array handed to the caller, not in the arena

    @property
    def size(self) -> Size:
        """Bytes."""
        t = self.variables[0].type
        return t.size * t.dtype.itemsize


@dataclass
class MemoryPlan:
    """Buffers by the tensor that they hold."""

    buffers: list[Buffer] = field(default_factory=list)
    of: dict[Variable, Buffer] = field(default_factory=dict)


def plan_memory(
    steps: Sequence[Step],
    outputs: Collection[Variable],
    given: Collection[Variable],
    apart: Collection[Variable] = (),
) -> MemoryPlan:
    """Assign each stored tensor a buffer.

    Args:
        steps: in the order in which they run.
        outputs: leave the program.
        given: inputs, never written.
        apart: results that are in place of no operand: something is stored there before operands are read.
    """
    last: dict[Variable, int] = {}
    for k, step in enumerate(steps):
        for v in _reads(step):
            last[v] = k
        for v in _writes(step):
            last[v] = max(last.get(v, k), k)
    plan = MemoryPlan()
    outside = set(outputs)
    fixed = set(given)
    for k, step in enumerate(steps):
        replaceable = _replaceable(step)
        for v in _writes(step):
            if v in plan.of:  # a scatter into a buffer that was filled by an earlier step
                plan.of[v].last = last[v]
                continue
            for u in replaceable(v) if v not in apart else ():
                b = plan.of.get(u)
                if b is None or u in fixed or u in outside or last[u] != k or b.last != k:
                    continue
                if u.type.shape == v.type.shape and u.type.dtype.itemsize == v.type.dtype.itemsize and not b.output:
                    b.variables.append(v)
                    b.last = last[v]
                    b.output = v in outside
                    plan.of[v] = b
                    break
            else:
                if isinstance(step, LibraryCall) and step.accumulates and v is step.product:
                    raise CheckError(f"{step.node}: the buffer that it adds into is still in use")
                plan.of[v] = b = Buffer([v], k, last[v], v in outside)
                plan.buffers.append(b)
    return plan


def _reads(step: Step) -> list[Variable]:
    return step.inputs if isinstance(step, Kernel) else step.reads


def _writes(step: Step) -> list[Variable]:
    return step.outputs if isinstance(step, Kernel) else step.writes


def _replaceable(step: Step) -> Callable[[Variable], list[Variable]]:
    """For each result, the operands that ``step`` may overwrite with it: read only where, and before, it is written."""
    if isinstance(step, LibraryCall):
        c, operands = step.node.inputs[0], {step.matrices.a.base, step.matrices.b.base}
        own_sum = [c] if step.accumulates and c not in operands else []
        if step.epilogue is None:
            return lambda out: own_sum
        loaded = _replaceable(step.epilogue)
        kept = {step.product, *operands}  # operands are read by other tiles, at any time
        added = own_sum if not step.keeps else []
        return lambda out: own_sum if out is step.product else [*added, *(u for u in loaded(out) if u not in kept)]
    if isinstance(step, HostCall):
        return lambda out: []
    first, own = step.roots[0], set(step.outputs)
    if not step.mergeable or any(len(r.shape) != step.depth or r.shape != first.shape for r in step.roots):
        return lambda out: []
    common = first.indices
    reader: dict[Variable, int] = {}  # the first root that reads an operand; -1 where one reads it at another place
    writer: dict[Variable, int] = {}
    for k, r in enumerate(step.roots):
        writer.update(dict.fromkeys(r.variables, k))
        same = dict(zip(r.indices, common, strict=True))
        for a in r.inputs:
            at = tuple(same.get(e, e) for e in map(ix.resolve, a.args))
            if at != common:
                reader[a.variable] = -1
            else:
                reader.setdefault(a.variable, k)
    usable = [(u, k) for u, k in reader.items() if k >= 0 and u not in own and not isinstance(u, Constant)]
    return lambda out: [u for u, k in usable if k <= writer[out]]


def assign_offsets(lifetimes: Sequence[tuple[int, int, int]]) -> tuple[list[int], int]:
    """Offsets in one arena for buffers given as (first step, last step, bytes), and the arena's size.

    Two buffers whose lifetimes share a step never overlap. Large buffers are placed first, each at the lowest free
    offset; beyond a few hundred buffers, in the order of time, in the tightest gap.
    """
    if len(lifetimes) <= 400:
        found = [_by_size(lifetimes), _by_time(lifetimes)]
        return min(found, key=lambda p: p[1])
    return _by_time(lifetimes)


def _round(n: int) -> int:
    return -(-n // ALIGNMENT) * ALIGNMENT


def _by_size(lifetimes: Sequence[tuple[int, int, int]]) -> tuple[list[int], int]:
    offsets = [0] * len(lifetimes)
    placed: list[tuple[int, int, int, int]] = []  # offset, end, first, last; sorted by offset
    peak = 0
    for k in sorted(range(len(lifetimes)), key=lambda k: -lifetimes[k][2]):
        first, last, size = lifetimes[k]
        size, at = _round(size), 0
        for lo, hi, f, t in placed:
            if f <= last and first <= t:
                if at + size <= lo:
                    break
                at = max(at, hi)
        offsets[k] = at
        placed.append((at, at + size, first, last))
        placed.sort()
        peak = max(peak, at + size)
    return offsets, peak


def _by_time(lifetimes: Sequence[tuple[int, int, int]]) -> tuple[list[int], int]:
    offsets = [0] * len(lifetimes)
    order = sorted(range(len(lifetimes)), key=lambda k: lifetimes[k][0])
    ending: dict[int, list[int]] = {}
    for k in order:
        ending.setdefault(lifetimes[k][1], []).append(k)
    ends = sorted(ending)
    free: list[tuple[int, int]] = []  # (offset, size), sorted by offset
    peak, e = 0, 0
    for k in order:
        first, _, size = lifetimes[k]
        while e < len(ends) and ends[e] < first:
            for j in ending[ends[e]]:
                _give_back(free, offsets[j], _round(lifetimes[j][2]))
            e += 1
        size = _round(size)
        fits = [(s, o) for o, s in free if s >= size]
        if fits:
            s, o = min(fits)
            free.remove((o, s))
            if s > size:
                free.append((o + size, s - size))
                free.sort()
        elif free and free[-1][0] + free[-1][1] == peak:
            o, s = free.pop()
            peak = o + size
        else:
            o = peak
            peak += size
        offsets[k] = o
    return offsets, peak


def _give_back(free: list[tuple[int, int]], offset: int, size: int) -> None:
    if size == 0:
        return
    free.append((offset, size))
    free.sort()
    merged: list[tuple[int, int]] = []
    for o, s in free:
        if merged and merged[-1][0] + merged[-1][1] == o:
            merged[-1] = (merged[-1][0], merged[-1][1] + s)
        else:
            merged.append((o, s))
    free[:] = merged


def liveness_bound(lifetimes: Sequence[tuple[int, int, int]]) -> int:
    """The most bytes alive at one step: no plan can need less."""
    change: dict[int, int] = {}
    for first, last, size in lifetimes:
        change[first] = change.get(first, 0) + _round(size)
        change[last + 1] = change.get(last + 1, 0) - _round(size)
    alive = most = 0
    for step in sorted(change):
        alive += change[step]
        most = max(most, alive)
    return most
