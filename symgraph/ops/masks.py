"""Masks of cotangents: a cotangent that is 0 because a branch was not taken stays 0, whatever it is multiplied by.

``where(c, f(x), y)`` masks the cotangent of ``f(x)``, but ``0 * f'(x)`` would still be nan where ``f'(x)`` is nan or
infinite. So a product with a masked cotangent is masked in turn: ``where(c, g, 0) * p`` becomes ``where(c, g * p, 0)``,
to any order, since the derivative of this is masked by the same ``c``. Masks are looked for where a product is made,
through ops that only move elements.
"""

from __future__ import annotations

from collections.abc import Callable

from symgraph.graph import Constant, Variable
from symgraph.op import apply, constant
from symgraph.ops.shape import AssertShape, Broadcast, Reshape, Slice, Transpose, Unslice

MOVES = (AssertShape, Broadcast, Reshape, Slice, Transpose, Unslice)
DEPTH = 6  # of ops that are looked through: a bound that keeps differentiation linear


def mask_of(ct: Variable, depth: int = DEPTH) -> Variable | None:
    """Where ``ct`` may be other than 0, as far as its own graph says it; ``None`` where it says nothing."""
    from symgraph.ops.elementwise import Accumulate, Cast, logical_and, logical_not, negative, where

    node = ct.owner
    if node is None or depth == 0:
        return None
    if node.op is where:
        c, x, y = node.inputs
        if _is_zero(y):
            inner = mask_of(x, depth - 1)
            return c if inner is None or inner is c else logical_and(c, inner)
        return logical_not(c) if _is_zero(x) else None
    if node.op is negative or isinstance(node.op, Cast):
        return mask_of(node.inputs[0], depth - 1)
    if isinstance(node.op, MOVES):
        mask = mask_of(node.inputs[0], depth - 1)
        return None if mask is None else apply(node.op, mask)
    return _union(node.inputs, depth - 1) if isinstance(node.op, Accumulate) else None


def _union(terms: tuple[Variable, ...], depth: int) -> Variable | None:
    from symgraph.ops.elementwise import logical_not, logical_or

    masks: dict[Variable, None] = {}
    for t in terms:
        mask = mask_of(t, depth)
        if mask is None:
            return None
        masks[mask] = None
    for m in masks:
        if m.owner is not None and m.owner.op is logical_not and m.owner.inputs[0] in masks:
            return None  # two branches of one condition: together they are everywhere
    first, *others = masks
    for m in others:
        first = logical_or(first, m)
    return first


def _is_zero(v: Variable) -> bool:
    while v.owner is not None and isinstance(v.owner.op, Broadcast):
        v = v.owner.inputs[0]
    return isinstance(v, Constant) and v.data.size == 1 and not v.data.any()


def masked(ct: Variable, product: Callable[[Variable], Variable]) -> Variable:
    """``product(ct)``, and 0 where ``ct`` is masked, whatever the other factor is there."""
    from symgraph.ops.elementwise import where

    mask = mask_of(ct)
    if mask is None:
        return product(ct)
    # The branch of a `where` that made this very mask need not be masked before the product as well.
    bare = ct.owner is not None and ct.owner.op is where and ct.owner.inputs[0] is mask
    return where(mask, product(ct.owner.inputs[1] if bare and ct.owner else ct), constant(0, ct.type.dtype))
