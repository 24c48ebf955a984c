"""Expressions in stable form, for those who build on them before the pipeline runs: derivatives above all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

from symgraph.graph import Apply, Graph, Interner, Variable, _serial, interning
from symgraph.retake import again, bypassed, inherited, kept, repaired
from symgraph.rewrite.canonicalize import SPELLINGS
from symgraph.rewrite.engine import Engine, RuleSet
from symgraph.rewrite.products import PRODUCTS
from symgraph.rewrite.stabilize import STABILIZE
from symgraph.substitute import substitute

# Whatever else the pipeline does about spelling, a derivative keeps as the user wrote it.
_SPELLINGS: Final = frozenset(
    (
        *("multiply_by_one", "divide_by_one", "subtract_zero", "multiply_by_minus_one", "negative_of_negative"),
        *("one_over", "power_one", "power_two", "power_minus_one", "power_half", "power_minus_half"),
        "multiply_by_itself",
        *("assertions", "reshapes", "broadcasts", "reshape_of_broadcast", "reduction_over_ones"),
        *("elementwise_of_broadcasts", "elementwise_of_moves"),
    )
)
# Without one of these in a graph, no rule of stabilization applies.
_NEEDED: Final = frozenset(("exp", "log", "log1p", "sqrt", "sigmoid", "softplus", "logsumexp"))
_REPAIRS: Final = frozenset(r.name for r in (*STABILIZE, *PRODUCTS))


@lru_cache(maxsize=1)
def _rules() -> RuleSet:
    return RuleSet([*STABILIZE, *PRODUCTS, *(r for r in SPELLINGS if r.name in _SPELLINGS)])


def stable_form(outputs: Sequence[Variable], keep: Sequence[Variable]) -> list[Variable]:
    """``outputs`` with what is unstable in them replaced, as a graph that still depends on each of ``keep``.

    Differentiating the stable form gives stable derivatives to every order; the pipeline brings the expression itself
    into the same form, so the two share their nodes. What needs no repair stays the same variables.
    """
    keep = kept(keep)
    outputs = _retaken(outputs, keep)
    graph = Graph(keep, outputs)
    inherited(graph.nodes)
    if not any(node.op.name in _NEEDED for node in graph.nodes):
        return list(outputs)
    # What is kept is a boundary that no rule may look behind: where it is itself computed, an input stands for it.
    proxies = {v: Variable(v.type, name=v.name, sources=v.sources) for v in keep if v.owner is not None}
    if proxies:
        graph = Graph([proxies.get(v, v) for v in keep], substitute(outputs, proxies))
    made = _repaired(graph)
    if made is None:
        return list(outputs)
    repaired(outputs, keep)
    if not proxies:
        return made
    with interning(Interner(outputs)):  # what is as it was is the same variable again
        return substitute(made, {p: v for v, p in proxies.items()})


def _retaken(outputs: Sequence[Variable], keep: Sequence[Variable]) -> list[Variable]:
    """``outputs`` with earlier derivatives taken again where they bypass what is kept."""
    inside = [v for v in keep if v.owner is not None]
    found = list(outputs)
    while inside:
        # The last first: it takes those that it was made of again by itself.
        made = [v for node in reversed(Graph(inside, found).nodes) for v in node.outputs]
        missing = next(((v, lost) for v in made if (lost := bypassed(v, inside))), None)
        if missing is None:
            break
        v, lost = missing
        found = substitute(found, {v: again(v, lost)})
    return found


class _Repairing(Engine):
    """An engine that knows what it repaired, and leaves what it is told to as it is."""

    def __init__(self, kept: Iterable[Apply] = ()) -> None:
        interner = Interner()
        super().__init__(_rules(), interner, oldest=next(_serial))
        for node in kept:
            interner.add(node)
            self._normal.update((v, v) for v in node.outputs)
        self.repaired: set[Variable] = set()

    def _normalize(self, root: Variable) -> None:
        before = len(self.log)
        super()._normalize(root)
        if any(name in _REPAIRS for name, _ in self.log[before:]):
            self.repaired.add(root)


def _repaired(graph: Graph) -> list[Variable] | None:
    """The stable outputs; ``None`` where they are stable as they stand.

    A later derivative may be in any variable of the graph, and a new spelling of it, or of what uses it, need not go
    through that variable: only what is repaired, or computed from such, is spelled anew, if that is enough to find it.
    """
    first = _Repairing()
    made = first.run(graph)
    if not first.repaired:
        return None
    changed = set(first.repaired)
    kept = []
    for node in graph.nodes:
        if any(v in changed for v in (*node.inputs, *node.outputs)):
            changed.update(node.outputs)
        else:
            kept.append(node)
    second = _Repairing(kept)
    again = second.run(graph)
    return list((again if len(second.repaired) >= len(first.repaired) else made).outputs)
