"""Checkpoints once there is nothing left to differentiate: what they leave is the order that recomputing needs."""

from __future__ import annotations

from typing import Any, Final

from symgraph.graph import Apply, Constant, Graph, Variable
from symgraph.op import apply, apply_node, constant
from symgraph.ops.checkpoint import After, Checkpoint
from symgraph.ops.elementwise import tanh
from symgraph.ops.masks import MOVES
from symgraph.ops.shape import broadcast_to
from symgraph.rewrite.pattern import RULES, Rule, structural
from symgraph.types import tensor_type

_first = len(RULES)
_LOOKED_AT: Final = 16  # nodes of a cotangent's graph, at most


def _vector() -> Variable:
    return Variable(tensor_type("float64", (3,)))


def _checkpoint() -> Variable:
    x = _vector()
    return apply_node(Checkpoint("checkpoint", 1, Graph([x], [tanh(x)])), [tanh(x), x]).outputs[0]


@structural(Checkpoint, examples=lambda: [_checkpoint()])
def checkpoint_is_identity(node: Apply) -> Any:
    """checkpoint(y, .., x, ..) -> y, .., once there is nothing left to differentiate    exact"""
    return node.inputs[: len(node.outputs)]


@structural(
    After,
    examples=lambda: [
        apply(After(), _vector(), constant(1.0)),
        apply(After(), _vector(), broadcast_to(constant(1.0), (3,)), tanh(_vector())),
        apply(After(), _vector(), _vector()),
    ],
)
def after_what_is_there(node: Apply) -> Variable | None:
    """after(x, u, v, ..) -> after(x, v, ..), or x, where the forward pass has no part in u    exact"""
    x, *others = node.inputs
    waiting = [v for v in dict.fromkeys(others) if not _there(v)]
    if isinstance(x, Constant) or not waiting:
        return x
    return apply(After(), x, *waiting) if len(waiting) < len(others) else None


def _there(v: Variable) -> bool:
    """Whether ``v`` is an input, rearranged at most, or made of constants and sizes alone."""
    while v.owner is not None and isinstance(v.owner.op, MOVES):
        v = v.owner.inputs[0]
    if v.owner is None:
        return True
    stack, seen = [v.owner], 0
    while stack:
        node = stack.pop()
        seen += 1
        if seen > _LOOKED_AT or any(u.owner is None and not isinstance(u, Constant) for u in node.inputs):
            return False
        stack.extend(u.owner for u in node.inputs if u.owner is not None)
    return True


CHECKPOINTS: Final[tuple[Rule, ...]] = tuple(RULES[_first:])
