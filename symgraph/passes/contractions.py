"""Contractions and sums, brought into the form that the library computes: late, when no rule looks at them any more."""

from __future__ import annotations

from collections.abc import Sequence

from symgraph.graph import Apply, Graph, Variable, interning
from symgraph.op import apply
from symgraph.ops.contract import Contract
from symgraph.ops.elementwise import Accumulate, Cast, Elementwise, add, multiply
from symgraph.ops.reduce import Sum
from symgraph.ops.shape import Broadcast, Transpose
from symgraph.passes import Context
from symgraph.passes.fuse import moves_only
from symgraph.passes.library import ContractAdd, library_call
from symgraph.source import attributed_to
from symgraph.types import Size, product


def contractions(graph: Graph, context: Context) -> Graph:
    """Bring matrix products into a layout that BLAS takes, and sums of them into products that add into one buffer.

    - A sum of all elements of a matrix is a sum of its rows' sums, which threads share.
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
            with attributed_to(node.sources, node.origin):
                if isinstance(node.op, Contract):
                    outputs: Sequence[Variable] = [_contract(node.op, args, given)]
                elif isinstance(node.op, Sum) and _worth_rows(node.op, args[0]):
                    rows = apply(Sum(node.op.axes[1:]), *args)
                    outputs = [apply(Sum((0,)), rows)]
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


ROW = 64
"""Elements of a row from which a sum of rows is as fast as one over all elements."""


def _worth_rows(op: Sum, x: Variable) -> bool:
    rest = product(x.type.shape[1:])
    return x.type.ndim > 1 and len(op.axes) == x.type.ndim and (not isinstance(rest, int) or rest >= ROW)


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
    """A sum as a chain: the products, each into the buffer of those before, then what is no product."""
    products: list[Apply] = []
    others: list[Variable] = []
    for x, old in zip(args, node.inputs, strict=True):
        if x.owner is not None and isinstance(x.owner.op, Contract) and uses[old] == 1 and library_call(x.owner, ()):
            products.append(x.owner)
        else:
            others.append(x)
    terms = others
    if len(products) > 1 or (products and others):
        # Nodes of their own, which nothing else shares: the buffer that is added into is this sum's alone.
        (total,) = Apply(products[0].op, products[0].inputs, [node.outputs[0].type], products[0].sources).outputs
        for p in products[1:]:
            contract = p.op
            assert isinstance(contract, Contract)
            made = Apply(ContractAdd(contract), (total, *p.inputs), [total.type], p.sources)
            (total,) = made.outputs
        terms = [total, *others]
    elif products:
        terms = [products[0].outputs[0]]
    if all(x.owner is None or _pointwise(x.owner) or isinstance(x.owner.op, Contract | ContractAdd) for x in terms):
        return apply(Accumulate(), *terms) if len(terms) > 1 else terms[0]  # one loop needs no buffer for any of them
    out = terms[0]
    for x in terms[1:]:
        out = add(out, x)
    return out


def _pointwise(node: Apply) -> bool:
    return isinstance(node.op, Elementwise | Cast | Accumulate) or moves_only(node.op)
