"""Epilogues: what follows a matrix product element by element becomes part of the product's step.

A product that a kernel of tiles computes has each element in a register when its sum is complete. Where a map loads the
product at its own index only, it is computed there: one launch and a round trip through memory less. The product itself
is stored only where another step, or the caller, reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from symgraph import index as ix
from symgraph.graph import Variable
from symgraph.passes.fuse import Kernel, Step
from symgraph.passes.library import LibraryCall
from symgraph.passes.schedule import dependencies, reads

MAX_WEIGHT = 256
"""The largest weight of an epilogue (see :func:`symgraph.passes.fuse.weight`): its values share the registers with the
sums of a tile. At 307 a fourth derivative in float64 takes 178 registers, where the product alone has 163; at 513 the
fifth spills."""
_LEFT_OUT = frozenset(("reduce", "extremum", "running", "checked_index"))
"""What an epilogue does not contain: loops of its own, and checks, whose failure leaves out the rest of the work."""


def epilogues(steps: Sequence[Step], outputs: Collection[Variable], takes: Callable[[LibraryCall], bool]) -> list[Step]:
    """The steps, in an order in which they can run, with maps of products made part of their steps.

    ``takes``: which products can have an epilogue. Kernels that are fused into products change in no other way.
    """
    if not any(isinstance(s, LibraryCall) for s in steps):
        return list(steps)
    return _Joiner(steps, outputs).run(takes)


class _Joiner:
    def __init__(self, steps: Sequence[Step], outputs: Collection[Variable]) -> None:
        self.order = list(steps)
        self.outputs = set(outputs)
        self.needs: dict[Step, set[Step]] = {
            s: {self.order[j] for j in n} for s, n in zip(steps, dependencies(steps), strict=True)
        }
        self.readers: dict[Variable, list[Step]] = {}
        for s in steps:
            for v in dict.fromkeys(reads(s)):
                self.readers.setdefault(v, []).append(s)

    def run(self, takes: Callable[[LibraryCall], bool]) -> list[Step]:
        at = 0
        while at < len(self.order):
            call = self.order[at]
            if not isinstance(call, LibraryCall) or not takes(call) or not self.join(at, call):
                at += 1
        return self.order

    def join(self, at: int, call: LibraryCall) -> bool:
        """Make the first map that can be the epilogue of ``call``, the step at ``at``, part of it."""
        if call.epilogue is not None:
            return False
        found = [k for k in self.readers.get(call.product, ()) if isinstance(k, Kernel) and fits(call, k)]
        for kernel in found:
            after: set[Step] = {call}  # the product, and what runs after it
            for end in range(at + 1, len(self.order)):
                step = self.order[end]
                waits = bool(self.needs[step] & after)
                if step is kernel:
                    break
                if waits:
                    after.add(step)
            if self.needs[kernel] & (after - {call}):
                continue  # it reads what is computed from the product in between
            between = self.order[at + 1 : end]
            first = [s for s in between if s not in after]
            self.order[at : end + 1] = [*first, call, *(s for s in between if s in after)]
            self.merge(call, kernel)
            return True
        return False

    def merge(self, call: LibraryCall, kernel: Kernel) -> None:
        readers = [s for s in self.readers[call.product] if s is not kernel]
        call.epilogue = kernel
        call.keeps = bool(readers) or call.product in self.outputs
        self.needs[call] |= self.needs.pop(kernel) - {call}
        for needed in self.needs.values():
            if kernel in needed:
                needed.discard(kernel)
                needed.add(call)
        for v in kernel.inputs:
            if v in self.readers:
                self.readers[v] = list(dict.fromkeys(call if s is kernel else s for s in self.readers[v]))


def fits(call: LibraryCall, kernel: Kernel) -> bool:
    """Whether ``kernel`` is a map over the elements of the product that loads it at its own index only."""
    shape = call.product.type.shape
    if kernel.weight > MAX_WEIGHT or kernel.depth != len(shape) or not kernel.mergeable:
        return False
    if call.accumulates and call.node.inputs[0] in set(kernel.inputs):
        return False  # the sum so far is gone when the product is stored
    for r in kernel.roots:
        if r.shape != shape or r.fill or not _maps(r.values):
            return False
        for access in r.inputs:
            if access.variable is call.product:
                at = tuple(map(ix.resolve, access.args))
                if any(e is not i and n != 1 for e, i, n in zip(at, r.indices, shape, strict=True)):
                    return False
    return True


def _maps(values: Sequence[ix.Expr]) -> bool:
    """Whether expressions are computed from elements alone."""
    seen: set[ix.Expr] = set()
    stack = list(values)
    while stack:
        e = ix.resolve(stack.pop())
        if e not in seen:
            if e.fn in _LEFT_OUT:
                return False
            seen.add(e)
            stack.extend(e.args)
    return True
