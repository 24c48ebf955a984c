"""Contractions and sums, brought into the form that the library computes: late, when no rule looks at them any more."""

from __future__ import annotations

from collections.abc import Sequence

from symgraph.graph import Apply, Graph, Variable, interning
from symgraph.op import Op, apply
from symgraph.ops.contract import Contract
from symgraph.ops.elementwise import Accumulate, Cast, Elementwise, add, multiply
from symgraph.ops.shape import Broadcast, Transpose
from symgraph.passes import Context
from symgraph.passes.fuse import moves_only
from symgraph.passes.library import ContractAdd, library_call
from symgraph.source import attributed_to
from symgraph.types import Size


def contractions(graph: Graph, context: Context) -> Graph:
    """Bring matrix products into a layout that BLAS takes, and sums of them into products that add into one buffer.

    - A product without a sum (an outer product) is an elementwise product of broadcasts, which fuses.
    - A product whose operands no strides can express gets transposed copies.
    - ``accumulate(a, x @ y, ..)`` becomes a chain in which each product adds into the buffer of the sum so far.
    """
    new: dict[Variable, Variable] = {v: v for v in graph.inputs}
    given = set(graph.inputs)
    uses: dict[Variable, int] = {}
    for node in graph.nodes:
        for v in node.inputs:
            uses[v] = uses.get(v, 0) + 1
    for v in graph.outputs:
        uses[v] = uses.get(v, 0) + 2

    with interning(context.interner):
        for node in graph.nodes:
            args = [new.get(v, v) for v in node.inputs]
            with attributed_to(node.sources):
                if isinstance(node.op, Contract):
                    outputs: Sequence[Variable] = [_contract(node.op, args, given)]
                elif isinstance(node.op, Accumulate):
                    outputs = [_chain(node, args, uses)]
                elif all(a is b for a, b in zip(args, node.inputs, strict=True)):
                    outputs = node.outputs
                else:
                    found = context.interner.find(node.op, args)
                    if found is None:
                        found = Apply(node.op, tuple(args), [v.type for v in node.outputs], node.sources)
                        context.interner.add(found)
                    outputs = found.outputs
            for old, made in zip(node.outputs, outputs, strict=True):
                new[old] = made
                if made.name is None:
                    made.name = old.name
    return Graph(graph.inputs, [new.get(v, v) for v in graph.outputs])


def _contract(op: Contract, args: Sequence[Variable], given: set[Variable]) -> Variable:
    a, b = args
    sizes: dict[int, Size] = {
        **dict(zip(op.lhs, a.type.shape, strict=True)),
        **dict(zip(op.rhs, b.type.shape, strict=True)),
    }
    shape = tuple(sizes[x] for x in op.out)
    if not set(op.lhs) - set(op.out) and a.type.dtype != bool:
        return multiply(_spread(a, op.lhs, op.out, shape), _spread(b, op.rhs, op.out, shape))
    made = apply(op, a, b)
    if a.type.dtype.name not in ("float32", "float64") or (made.owner and library_call(made.owner, given)):
        return made
    batch = [x for x in op.out if x in op.lhs and x in op.rhs]
    rows = [x for x in op.out if x in op.lhs and x not in op.rhs]
    columns = [x for x in op.out if x in op.rhs and x not in op.lhs]
    inner = [x for x in op.lhs if x not in op.out]
    left, right, out = (*batch, *rows, *inner), (*batch, *inner, *columns), (*batch, *rows, *columns)
    canonical = Contract(left, right, out)
    result = apply(canonical, _permute(a, op.lhs, left), _permute(b, op.rhs, right))
    return _permute(result, out, op.out)


def _permute(x: Variable, have: Sequence[int], want: Sequence[int]) -> Variable:
    order = tuple(list(have).index(label) for label in want)
    return x if order == tuple(range(len(order))) else apply(Transpose(order), x)


def _spread(x: Variable, labels: Sequence[int], out: Sequence[int], shape: tuple[Size, ...]) -> Variable:
    ordered = sorted(labels, key=list(out).index)
    x = _permute(x, labels, ordered)
    axes = tuple(list(out).index(label) for label in ordered)
    return x if x.type.shape == shape else apply(Broadcast(shape, axes), x)


def _chain(node: Apply, args: Sequence[Variable], uses: dict[Variable, int]) -> Variable:
    """A sum as a chain: first what is not a product, in its order, then each product into the buffer of the sum."""
    products: list[Variable] = []
    others: list[Variable] = []
    total: Variable | None = None
    for x, old in zip(args, node.inputs, strict=True):
        if x.owner is not None and isinstance(x.owner.op, Contract) and uses[old] == 1:
            products.append(x)
        else:
            others.append(x)
    if not products and all(x.owner is None or _pointwise(x.owner) for x in others):
        return apply(Accumulate(), *others)  # fuses into one loop, which needs no buffer for any of them
    for x in others:
        total = x if total is None else add(total, x)
    for x in products:
        assert x.owner is not None
        contract: Op = x.owner.op
        if total is None:
            total = x
        elif isinstance(contract, Contract) and library_call(x.owner, ()) and _fresh(total, args, uses, node):
            total = apply(ContractAdd(contract), total, *x.owner.inputs)
        else:
            total = add(total, x)
    assert total is not None
    return total


def _pointwise(node: Apply) -> bool:
    return isinstance(node.op, Elementwise | Cast | Accumulate) or moves_only(node.op)


def _fresh(total: Variable, args: Sequence[Variable], uses: dict[Variable, int], node: Apply) -> bool:
    """Whether the buffer of ``total`` is this sum's own: nothing else reads it afterwards."""
    if total.owner is None:
        return False
    for x, old in zip(args, node.inputs, strict=True):
        if x is total:
            return uses[old] == 1
    return True
