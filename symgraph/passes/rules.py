"""What the rewriting passes share: one sweep of the engine with the rules whose levels are on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from symgraph.graph import Graph
from symgraph.passes import Context
from symgraph.rewrite.engine import Engine, RuleSet
from symgraph.rewrite.pattern import Rule


@lru_cache(maxsize=64)
def rule_set(rules: tuple[Rule, ...], levels: frozenset[str], always: tuple[Rule, ...]) -> RuleSet:
    """``always``, and the rules whose levels are on, indexed."""
    return RuleSet([*always, *(r for r in rules if r.level in levels)])


def apply_rules(graph: Graph, context: Context, rules: Sequence[Rule], always: Sequence[Rule] = ()) -> Graph:
    """One sweep over the graph, of ``rules`` as far as their levels are on, and of ``always``."""
    found = rule_set(tuple(rules), context.levels, tuple(always))
    engine = Engine(found, context.interner, strict=context.strict)
    out = engine.run(graph)
    context.fired.update(engine.fired)
    context.log.extend(engine.log)
    return out
