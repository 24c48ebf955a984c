"""Large operations become the graphs of simple ones that are compiled."""

from __future__ import annotations

from typing import Any, Final

from symgraph.graph import Apply, Graph, Variable
from symgraph.op import Op, apply
from symgraph.ops.nn import Softmax
from symgraph.ops.shape import Concatenate
from symgraph.passes import Context
from symgraph.passes.rules import apply_rules
from symgraph.rewrite.canonicalize import CANONICALIZE
from symgraph.rewrite.pattern import RULES, Rule, structural
from symgraph.types import tensor_type

_first = len(RULES)

# A concatenation is a chain of conditions in the kernel that reads it; beyond this many, parts are put together first.
_LONGEST: Final = 8


def _parts(count: int) -> Variable:
    return apply(Concatenate(0), *[Variable(tensor_type("float64", (2,))) for _ in range(count)])


@structural(Op, examples=lambda: [apply(Softmax(0), Variable(tensor_type("float64", (3,))))])
def parts_of_operation(node: Apply) -> Any:
    """op(x) -> op.decompose(x)    real-equal"""
    decompose = getattr(node.op, "decompose", None)
    return None if decompose is None else decompose(*node.inputs)


@structural(Concatenate, examples=lambda: [_parts(9), _parts(70)])
def concatenate_in_groups(node: Apply) -> Variable | None:
    """concatenate(x, y, ..) of many -> concatenate(concatenate(x, ..), concatenate(y, ..), ..)    exact"""
    parts = node.inputs
    if len(parts) <= _LONGEST:
        return None
    groups = [parts[k : k + _LONGEST] for k in range(0, len(parts), _LONGEST)]
    return apply(node.op, *[apply(node.op, *g) if len(g) > 1 else g[0] for g in groups])


DECOMPOSE: Final[tuple[Rule, ...]] = tuple(RULES[_first:])
# What these undo is left alone from here on.
_UNDOING: Final = frozenset(("concatenates", "accumulate_of_few"))
AFTERWARDS: Final[tuple[Rule, ...]] = tuple(r for r in CANONICALIZE if r.name not in _UNDOING)


def legalize(graph: Graph) -> Graph:
    """Decompose, and nothing else: what has to be done where the pipeline was stopped before."""
    return apply_rules(graph, Context(), (), always=DECOMPOSE) if _needed(graph) else graph


def _needed(graph: Graph) -> bool:
    return any(
        hasattr(node.op, "decompose") or (isinstance(node.op, Concatenate) and len(node.inputs) > _LONGEST)
        for node in graph.nodes
    )


def decompose(graph: Graph, context: Context) -> Graph:
    """Replace operations that state a decomposition by it, and bring the result into canonical form."""
    return apply_rules(graph, context, AFTERWARDS, always=DECOMPOSE) if _needed(graph) else graph
