"""Canonical forms of contractions: what only names, repeats or negates goes into the labels or out of the product."""

from __future__ import annotations

from typing import Any, Final

from symgraph.graph import Apply, Variable
from symgraph.op import apply
from symgraph.ops.contract import Contract, Labels
from symgraph.ops.elementwise import multiply, negative
from symgraph.ops.reduce import Sum
from symgraph.ops.shape import Broadcast, Transpose
from symgraph.rewrite.pattern import RULES, Rule, structural
from symgraph.rewrite.structure import broadcasted, made_by, repeated_number, reshaped
from symgraph.types import tensor_type

_first = len(RULES)


def _var(*shape: Any, dtype: str = "float64") -> Variable:
    return Variable(tensor_type(dtype, shape), name="x")


def _matmul(a: Variable, b: Variable) -> Variable:
    return apply(Contract((0, 1), (1, 2), (0, 2)), a, b)


def contracted(a: Variable, lhs: Labels, b: Variable, rhs: Labels, out: Labels) -> Variable:
    """The contraction, where labels of an operand may stand alone: over these it is summed first."""
    a, lhs = _alone_summed(a, lhs, {*rhs, *out})
    b, rhs = _alone_summed(b, rhs, {*lhs, *out})
    return apply(Contract(lhs, rhs, out), a, b)


def _alone_summed(v: Variable, labels: Labels, wanted: set[int]) -> tuple[Variable, Labels]:
    alone = tuple(a for a, k in enumerate(labels) if k not in wanted)
    return (apply(Sum(alone), v), tuple(k for k in labels if k in wanted)) if alone else (v, labels)


@structural(
    Contract,
    examples=lambda: [
        _matmul(apply(Transpose((1, 0)), _var(3, 2)), _var(3, 4)),
        _matmul(_var(2, 3), apply(Transpose((1, 0)), _var(4, 3))),
    ],
)
def contract_of_transpose(node: Apply) -> Variable | None:
    """contract(transpose(x), y) -> contract(x, y), with the labels in another order    exact"""
    op = node.op
    assert isinstance(op, Contract)
    (a, b), labels = node.inputs, [op.lhs, op.rhs]
    operands = [a, b]
    for k in (0, 1):
        inner = made_by(operands[k], Transpose)
        if inner is not None:
            operands[k] = inner[1]
            back = dict(zip(inner[0].permutation, labels[k], strict=True))
            labels[k] = tuple(back[axis] for axis in range(len(back)))
    if operands[0] is a and operands[1] is b:
        return None
    return apply(Contract(labels[0], labels[1], op.out), *operands)


@structural(Transpose, examples=lambda: [apply(Transpose((1, 0)), _matmul(_var(2, 3), _var(3, 4)))])
def transpose_of_contract(node: Apply) -> Variable | None:
    """transpose(contract(x, y)) -> contract(x, y), with the labels in another order    exact"""
    op = node.op
    assert isinstance(op, Transpose)
    inner = node.inputs[0].owner
    if inner is None or type(inner.op) is not Contract:
        return None
    old = inner.op
    return apply(Contract(old.lhs, old.rhs, tuple(old.out[p] for p in op.permutation)), *inner.inputs)


@structural(
    Contract,
    examples=lambda: [
        _matmul(negative(_var(2, 3)), _var(3, 4)),
        _matmul(_var(2, 3), negative(_var(3, 4))),
    ],
)
def contract_of_negative(node: Apply) -> Variable | None:
    """contract(-x, y) -> -contract(x, y)    real-equal"""
    a, b = node.inputs
    if a.owner is not None and a.owner.op is negative:
        return negative(apply(node.op, a.owner.inputs[0], b))
    if b.owner is not None and b.owner.op is negative:
        return negative(apply(node.op, a, b.owner.inputs[0]))
    return None


@structural(
    Contract,
    examples=lambda: [_matmul(multiply(_var(2, 3), 2.5), _var(3, 4)), _matmul(_var(2, 3), multiply(_var(3, 4), 2.5))],
)
def contract_of_multiple(node: Apply) -> Variable | None:
    """contract(c * x, y) -> c * contract(x, y)    reassociates"""
    for k in (0, 1):
        owner = node.inputs[k].owner
        if owner is None or owner.op is not multiply:
            continue
        for c, x in (owner.inputs, owner.inputs[::-1]):
            number = repeated_number(c)
            if number is not None:
                operands = list(node.inputs)
                operands[k] = x
                return multiply(number, apply(node.op, *operands))
    return None


@structural(
    Contract,
    examples=lambda: [
        _matmul(apply(Broadcast((2, 3), (1,)), _var(3)), _var(3, 4)),
        _matmul(apply(Broadcast((2, 3), (0,)), _var(2)), _var(3, 4)),
        _matmul(_var(2, 3), apply(Broadcast((3, 4), ()), _var())),
        apply(Contract((0, 1), (0, 1), (0, 1)), apply(Broadcast((2, 3), (1,)), _var(3)), _var(2, 3)),
    ],
)
def contract_of_broadcast(node: Apply) -> Variable | None:
    """contract(broadcast(x), y) -> contract(x, y) without the repeated labels    real-equal"""
    op = node.op
    assert isinstance(op, Contract)
    labels, operands = [op.lhs, op.rhs], list(node.inputs)
    if operands[0].type.dtype.kind == "b":
        return None  # sums of truth values are not Sum's
    dropped = False
    for k in (0, 1):
        inner = made_by(operands[k], Broadcast)
        if inner is not None:
            labels[k], operands[k] = tuple(labels[k][a] for a in inner[0].axes), inner[1]
            dropped = True
    if not dropped:
        return None
    left = {*labels[0], *labels[1]}
    out = tuple(label for label in op.out if label in left)
    sizes = dict(zip(op.lhs + op.rhs, node.inputs[0].type.shape + node.inputs[1].type.shape, strict=True))
    gone = [s for label, s in sizes.items() if label not in left and label not in op.out]
    made = contracted(operands[0], labels[0], operands[1], labels[1], out)
    if gone:  # both operands are the same all along a summed axis
        made = apply(
            Sum(tuple(range(len(gone)))),
            broadcasted(made, (*gone, *made.type.shape), range(len(gone), len(gone) + made.type.ndim)),
        )
    place = {label: a for a, label in enumerate(op.out)}
    return broadcasted(made, node.outputs[0].type.shape, [place[label] for label in out])


@structural(
    Contract,
    examples=lambda: [
        _matmul(_var(2, 1), _var(1, 4)),
        _matmul(_var(1, 3), _var(3, 4)),
        _matmul(_var(1, 1), _var(1, 1)),
    ],
)
def contract_of_ones(node: Apply) -> Variable | None:
    """contract(x, y) -> reshape(contract(x, y)) without labels of size 1    exact"""
    op = node.op
    assert isinstance(op, Contract)
    a, b = node.inputs
    ones = {k for k, s in zip(op.lhs + op.rhs, a.type.shape + b.type.shape, strict=True) if s == 1}
    if not ones:
        return None
    a = reshaped(a, tuple(s for s in a.type.shape if s != 1))
    b = reshaped(b, tuple(s for s in b.type.shape if s != 1))
    lhs, rhs, out = (tuple(k for k in labels if k not in ones) for labels in (op.lhs, op.rhs, op.out))
    return reshaped(apply(Contract(lhs, rhs, out), a, b), node.outputs[0].type.shape)


@structural(
    Sum,
    examples=lambda: [
        apply(Sum((0,)), _matmul(_var(2, 3), _var(3, 4))),
        apply(Sum((0, 1)), _matmul(_var(2, 3), _var(3, 4))),
        apply(Sum((0,)), apply(Contract((0, 1), (0, 1), (0, 1)), _var(2, 3), _var(2, 3))),
    ],
)
def sum_of_contract(node: Apply) -> Variable | None:
    """sum(contract(x, y)) -> contract(sum(x), y), or over one label more    real-equal"""
    op = node.op
    assert isinstance(op, Sum)
    inner = node.inputs[0].owner
    if inner is None or type(inner.op) is not Contract or node.inputs[0].type.dtype.name == "float16":
        return None
    old = inner.op
    out = tuple(k for a, k in enumerate(old.out) if a not in op.axes)
    return contracted(inner.inputs[0], old.lhs, inner.inputs[1], old.rhs, out)


@structural(
    Contract,
    examples=lambda: [
        apply(Contract((0,), (1,), (1, 0)), _var(3), _var(2)),
        apply(Contract((0, 1), (1,), (1, 0)), _var(3, 2), _var(2)),
        apply(Contract((), (0,), (0,)), _var(), _var(3)),
    ],
)
def contract_without_sum(node: Apply) -> Variable | None:
    """contract(x, y) that sums over nothing -> x * y    exact"""
    # As a product it fuses with what stands around it.
    op = node.op
    assert isinstance(op, Contract)
    if any(k not in op.out for k in op.lhs) or node.outputs[0].type.dtype.kind == "b":
        return None
    place = {label: a for a, label in enumerate(op.out)}
    shape = node.outputs[0].type.shape
    operands = [
        broadcasted(v, shape, [place[k] for k in labels])
        for v, labels in zip(node.inputs, (op.lhs, op.rhs), strict=True)
    ]
    return multiply(*operands)


CONTRACTIONS: Final[tuple[Rule, ...]] = tuple(RULES[_first:])
