"""Passes: functions from a graph to one with the same inputs and outputs of the same types, one to a file."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from symgraph.graph import Apply, Interner, Variable
from symgraph.op import Op
from symgraph.source import Sources


@dataclass
class Context:
    """What the passes of one run share.

    Attributes:
        interner: makes equal nodes one node, from the first pass to the last.
        levels: the named levels of rules that are on.
        strict: whether a rule that returns the wrong type is an error (in checked mode) or merely not applied.
        fired: how often each rule fired, in the pass that runs.
        log: which rule fired on the user's lines, in order, in the pass that runs.
    """

    interner: Interner = field(default_factory=Interner)
    levels: frozenset[str] = frozenset()
    strict: bool = False
    fired: Counter[str] = field(default_factory=Counter)
    log: list[tuple[str, Sources]] = field(default_factory=list)

    def make(self, op: Op, inputs: tuple[Variable, ...], like: Apply) -> Apply:
        """The node ``op(*inputs)`` with the types and source lines of ``like``, or an equal one that exists."""
        found = self.interner.find(op, inputs)
        if found is None:
            found = Apply(op, inputs, [v.type for v in like.outputs], like.sources, like.origin)
            self.interner.add(found)
        return found
