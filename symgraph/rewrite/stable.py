"""Expressions in stable form, for those who build on them before the pipeline runs: derivatives above all."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from symgraph.graph import Graph, Interner, Variable, _serial
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


@lru_cache(maxsize=1)
def _rules() -> RuleSet:
    return RuleSet([*STABILIZE, *PRODUCTS, *(r for r in SPELLINGS if r.name in _SPELLINGS)])


def stable_form(outputs: Sequence[Variable], keep: Sequence[Variable]) -> list[Variable]:
    """``outputs`` with what is unstable in them replaced, as a graph that still depends on each of ``keep``.

    Differentiating the stable form gives stable derivatives to every order; the pipeline brings the expression itself
    into the same form, so the two share their nodes. What needs no repair stays the same variables.
    """
    graph = Graph(keep, outputs)
    if not any(node.op.name in _NEEDED for node in graph.nodes):
        return list(outputs)
    # What is kept is a boundary that no rule may look behind: where it is itself computed, an input stands for it.
    proxies = {v: Variable(v.type, name=v.name, sources=v.sources) for v in keep if v.owner is not None}
    if proxies:
        graph = Graph([proxies.get(v, v) for v in keep], substitute(outputs, proxies))
    engine = Engine(_rules(), Interner(), oldest=next(_serial))
    made = list(engine.run(graph).outputs)
    return substitute(made, {p: v for v, p in proxies.items()}) if proxies else made
