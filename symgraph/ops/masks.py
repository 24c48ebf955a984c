"""Masks of cotangents: a cotangent that is 0 because a branch was not taken stays 0, whatever it is multiplied by.

``where(c, f(x), y)`` masks the cotangent of ``f(x)``, but ``0 * f'(x)`` would still be nan where ``f'(x)`` is nan or
infinite. So a product with a masked cotangent is masked in turn: ``where(c, g, 0) * p`` becomes ``where(c, g * p, 0)``,
to any order, since the derivative of this is masked by the same ``c``. Masks are looked for where a product is made,
through ops that only move elements.

A sum of products, such as a matrix product, is masked where the mask does not vary along the axes that are summed: of
``where(c[:, None], f(x @ w), 0)`` the rows of ``x`` that ``c`` excludes have no part in the gradients. A mask that
differs from element to element of the product cannot be had from one matrix product, and ``0 * nan`` is nan there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from symgraph.graph import Constant, Variable
from symgraph.op import apply, constant
from symgraph.ops.shape import AssertShape, Broadcast, Reshape, Slice, Transpose, Unslice, assert_shape
from symgraph.types import Shape

MOVES = (AssertShape, Broadcast, Reshape, Slice, Transpose, Unslice)
DEPTH = 6  # of ops that are looked through: a bound that keeps differentiation linear
LOOKED_AT = 16  # nodes of a mask, at most, for the same reason


def mask_of(ct: Variable, depth: int = DEPTH) -> Variable | None:
    """Where ``ct`` may be other than 0, as far as its own graph says it; ``None`` where it says nothing."""
    from symgraph.ops.elementwise import Accumulate, Cast, logical_and, logical_not, negative, where
    from symgraph.ops.reduce import Sum

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
    if isinstance(node.op, Sum):
        return _of_sum(node.inputs[0], node.op.axes, ct.type.shape, depth - 1)
    return _union(node.inputs, depth - 1) if isinstance(node.op, Accumulate) else None


def _of_sum(x: Variable, axes: tuple[int, ...], shape: Shape, depth: int) -> Variable | None:
    """Where the sum of ``x`` over ``axes`` may be other than 0: masks of whole rows remain."""
    from symgraph.ops.elementwise import logical_and

    mask = mask_of(x, depth)
    kept = [a for a in range(x.type.ndim) if a not in axes]
    total: Variable | None = None
    for r in [] if mask is None else _conjuncts(mask, depth):
        if set(r.axes) <= set(kept):
            wide = r.over(shape, [kept.index(a) for a in r.axes])
            total = wide if total is None else logical_and(total, wide)
    return total


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


@dataclass(frozen=True, eq=False)
class RowMask:
    """A mask that varies along some axes of a tensor only: ``mask[i]`` holds for all elements at ``i`` of ``axes``."""

    mask: Variable
    axes: tuple[int, ...]

    def over(self, shape: Shape, places: Sequence[int]) -> Variable:
        """The mask of a tensor of ``shape``, of which ``places`` are the axes that are those of the mask."""
        order = tuple(sorted(range(len(places)), key=lambda k: places[k]))
        mask = self.mask if order == tuple(range(len(order))) else apply(Transpose(order), self.mask)
        mask = assert_shape(mask, tuple(shape[a] for a in sorted(places)))
        return mask if len(places) == len(shape) else apply(Broadcast(shape, tuple(sorted(places))), mask)

    def onto(self, x: Variable, places: Sequence[int]) -> Variable:
        """``x``, and 0 where the mask excludes it."""
        from symgraph.ops.elementwise import where

        return where(self.over(x.type.shape, places), x, constant(0, x.type.dtype))


def row_masks(ct: Variable) -> list[RowMask]:
    """Masks that all hold where ``ct`` may be other than 0, and by which whole rows of it are 0.

    One that varies along all axes of ``ct`` is among them only where it comes from no product of tensors: for the sign
    of a product, the mask of ``relu``, to look at whole rows would cost more than the product.
    """
    mask = mask_of(ct)
    found = [] if mask is None else _conjuncts(mask, DEPTH)
    return [r for r in found if len(r.axes) < ct.type.ndim or _given(r.mask)]


def _conjuncts(mask: Variable, depth: int) -> list[RowMask]:
    """Masks that all hold where ``mask`` does, each along the axes that it has before it is broadcast."""
    from symgraph.ops.elementwise import logical_and, logical_not, logical_or

    node = mask.owner
    if node is not None and depth:
        inner = node.inputs[0]
        if node.op is logical_and:
            return [r for v in node.inputs for r in _conjuncts(v, depth - 1)]
        if node.op is logical_or:
            first, second = ({(r.mask, r.axes): r for r in _conjuncts(v, depth - 1)} for v in node.inputs)
            common = [r for key, r in first.items() if key in second]
            if common:
                return common  # c or (c and d)
        if isinstance(node.op, AssertShape):
            return _conjuncts(inner, depth - 1)
        if isinstance(node.op, Broadcast):
            axes = node.op.axes
            return [RowMask(r.mask, tuple(axes[a] for a in r.axes)) for r in _conjuncts(inner, depth - 1)]
        if isinstance(node.op, Transpose):
            order = node.op.permutation
            return [RowMask(r.mask, tuple(order.index(a) for a in r.axes)) for r in _conjuncts(inner, depth - 1)]
        if node.op is logical_not and inner.owner is not None and isinstance(inner.owner.op, Broadcast):
            return [RowMask(logical_not(inner.owner.inputs[0]), inner.owner.op.axes)]
    return [RowMask(mask, tuple(range(mask.type.ndim)))]


def _given(mask: Variable) -> bool:
    """Whether a mask is computed in a few steps and from no product of tensors."""
    from symgraph.ops.contract import Contract

    stack, seen = [mask], 0
    while stack:
        node = stack.pop().owner
        if node is None:
            continue
        seen += 1
        if seen > LOOKED_AT or isinstance(node.op, Contract):
            return False
        stack.extend(node.inputs)
    return True


def masked_rows(ct: Variable, result: Variable, axis: int) -> Variable:
    """``result``, of the shape of ``ct``, and 0 in rows along ``axis`` that are masked in ``ct`` as a whole."""
    for r in row_masks(ct):
        if axis not in r.axes:
            result = r.onto(result, r.axes)
    return result


def masked(ct: Variable, product: Callable[[Variable], Variable]) -> Variable:
    """``product(ct)``, and 0 where ``ct`` is masked, whatever the other factor is there."""
    from symgraph.ops.elementwise import where

    mask = mask_of(ct)
    if mask is None:
        return product(ct)
    # The branch of a `where` that made this very mask need not be masked before the product as well.
    bare = ct.owner is not None and ct.owner.op is where and ct.owner.inputs[0] is mask
    return where(mask, product(ct.owner.inputs[1] if bare and ct.owner else ct), constant(0, ct.type.dtype))
