"""Products that are finite although their factors are not: the derivatives of what :mod:`symgraph.rewrite.stabilize`
repairs.

Differentiating ``log(exp(x) / sum(exp(x)))`` as it is written gives products of ``exp(x)``, of reciprocals of sums of
it, and of reciprocals of quotients of both. They are looked at as a whole, whatever the order in which the factors
were multiplied: a product is taken apart into factors and divisors, pairs of which have a bounded form, and put
together again.
"""

from __future__ import annotations

from typing import Any, Final

from symgraph.graph import Apply, Constant, Graph, Variable
from symgraph.op import apply, constant
from symgraph.ops.elementwise import (
    Accumulate,
    add,
    divide,
    exp,
    expm1,
    multiply,
    negative,
    reciprocal,
    sigmoid,
    softplus,
    square,
    subtract,
    tanh,
)
from symgraph.ops.nn import Softmax
from symgraph.ops.reduce import Sum, spread
from symgraph.ops.shape import Broadcast, broadcast_to
from symgraph.rewrite.pattern import RULES, Rule, scalar_value, structural
from symgraph.rewrite.stabilize import LEVEL, softmax_over, sum_of_exp
from symgraph.types import tensor_type

_first = len(RULES)

# A product is looked at as far as this many nodes: the cost of a long chain of products stays linear.
_FARTHEST: Final = 16

Axes = tuple[int, ...]
Factor = tuple[Variable, Axes]
"""A factor: a tensor, and where its axes lie in the product's shape."""


class Product:
    """A product in pieces: ``sign * prod(above) / prod(below)``, with what is read on the way in ``nodes``."""

    __slots__ = ("above", "below", "negative", "shape", "type")

    def __init__(self, v: Variable) -> None:
        self.type = v.type
        self.negative = False
        self.above: list[Factor] = []
        self.below: list[Factor] = []
        stack: list[tuple[Variable, Axes, bool]] = [(v, tuple(range(v.type.ndim)), True)]
        read = 0
        while stack:
            x, axes, up = stack.pop()
            node = x.owner
            if node is not None and read < _FARTHEST:
                read += 1
                op, inputs = node.op, node.inputs
                if op is multiply:
                    stack += [(inputs[1], axes, up), (inputs[0], axes, up)]
                    continue
                if op is divide:
                    stack += [(inputs[1], axes, not up), (inputs[0], axes, up)]
                    continue
                if op is reciprocal:
                    stack.append((inputs[0], axes, not up))
                    continue
                if op is negative:
                    self.negative = not self.negative
                    stack.append((inputs[0], axes, up))
                    continue
                if op is square:
                    stack += [(inputs[0], axes, up), (inputs[0], axes, up)]
                    # Both copies change the sign, or neither does.
                    continue
                if type(op) is Broadcast:
                    stack.append((inputs[0], tuple(axes[a] for a in op.axes), up))
                    continue
            c = scalar_value(x)
            if c is None or c.data.item() != 1:
                (self.above if up else self.below).append((x, axes))

    def at(self, factor: Factor) -> Variable:
        """A factor in the product's shape."""
        x, axes = factor
        return x if x.type.shape == self.type.shape else apply(Broadcast(self.type.shape, axes), x)

    def _together(self, factors: list[Factor]) -> Variable | None:
        out: Variable | None = None
        for f in factors:
            v = self.at(f)
            out = v if out is None else multiply(out, v)
        return out

    def build(self) -> Variable:
        """The product, multiplied from the left."""
        top, bottom = self._together(self.above), self._together(self.below)
        if top is None:
            out = broadcast_to(constant(1, self.type.dtype), self.type.shape) if bottom is None else reciprocal(bottom)
        else:
            out = top if bottom is None else divide(top, bottom)
        return negative(out) if self.negative else out


def opposite(a: Variable, b: Variable) -> bool:
    """Whether ``a`` is ``-b`` by the way they are written."""
    p, q = a.owner, b.owner
    if p is not None and p.op is negative and p.inputs[0] is b:
        return True
    if q is not None and q.op is negative and q.inputs[0] is a:
        return True
    if p is None or q is None or p.op is not q.op:
        return False
    if p.op is subtract:
        return p.inputs[0] is q.inputs[1] and p.inputs[1] is q.inputs[0]
    if p.op is multiply:
        for k in (0, 1):
            for j in (0, 1):
                c, d = scalar_value(p.inputs[k]), scalar_value(q.inputs[j])
                if c is not None and d is not None and p.inputs[1 - k] is q.inputs[1 - j]:
                    return bool(c.data == -d.data)
    return False


def _is(v: Variable, op: Any) -> Variable | None:
    return v.owner.inputs[0] if v.owner is not None and v.owner.op is op else None


def positive(v: Variable) -> bool:
    """Whether ``v`` is positive over the reals by the way it is written, so that v / v is 1."""
    node = v.owner
    if node is None:
        return False
    op = node.op
    if op is exp or op is sigmoid or op is softplus or type(op) is Softmax:
        return True
    if op is add:
        return all(_is(x, exp) is not None or ((c := scalar_value(x)) is not None and c.data > 0) for x in node.inputs)
    return sum_of_exp(v) is not None


def _exp_over_sum(e: Factor, s: Factor) -> Variable | None:
    """``exp(x) / s`` for s a sum of exp(x) with others: a softmax, or a sigmoid for two terms."""
    x = _is(e[0], exp)
    if x is None:
        return None
    found = sum_of_exp(s[0])
    if found is not None:
        back = tuple(axis for a, axis in enumerate(e[1]) if a not in found[2])
        return softmax_over(x, found[2]) if found[1] is e[0] and back == s[1] else None
    node = s[0].owner
    if node is not None and node.op is add and e[1] == s[1]:
        for k in (0, 1):
            if node.inputs[k] is e[0]:
                y = _is(node.inputs[1 - k], exp)
                if y is not None:
                    # The two are often exp(x) and exp(-x).
                    return sigmoid(multiply(x, 2) if opposite(x, y) else subtract(x, y))
    return None


def _bounded_product(f: Factor, g: Factor) -> Variable | None:
    """``f * g`` for an exponential and a sigmoid that together stay bounded."""
    if f[1] != g[1]:
        return None
    y = _is(g[0], sigmoid)
    if y is None:
        return None
    x = _is(f[0], exp)
    if x is not None and opposite(x, y):
        return sigmoid(x)
    x = _is(f[0], expm1)
    if x is not None and opposite(x, y):
        return tanh(multiply(x, 0.5))
    return None


def _bounded_quotient(f: Factor, g: Factor) -> Variable | None:
    """``f / g`` where it stays bounded, or is itself positive and can cancel further."""
    found = _exp_over_sum(f, g)
    if found is not None or f[1] != g[1]:
        return found
    x, y = _is(f[0], sigmoid), _is(g[0], exp)
    if x is not None and y is x:
        return sigmoid(negative(x))
    return None


def _simplify(p: Product) -> bool:
    """Cancel and combine the factors of ``p``; whether anything was found."""
    changed = False
    again = True
    while again:
        again = False
        for i, f in enumerate(p.above):
            for j, g in enumerate(p.below):
                if f[0] is g[0] and f[1] == g[1] and positive(f[0]):
                    del p.above[i], p.below[j]
                    again = changed = True
                    break
                found = _bounded_quotient(f, g)
                if found is not None:
                    p.above[i] = (found, f[1])
                    del p.below[j]
                    again = changed = True
                    break
            if again:
                break
            for j, g in enumerate(p.above):
                if i == j:
                    continue
                found = _bounded_product(f, g)
                if found is None and i < j and f[1] == g[1]:
                    x, y = _is(f[0], exp), _is(g[0], exp)
                    if x is not None and y is not None and opposite(x, y):
                        found = constant(1, p.type.dtype)
                if found is None:
                    continue
                if type(found) is Constant:
                    del p.above[max(i, j)], p.above[min(i, j)]
                else:
                    p.above[i] = (found, f[1])
                    del p.above[j]
                again = changed = True
                break
            if again:
                break
    return changed


_ACTIVE: Final = frozenset((exp, expm1, sigmoid, softplus))


def _active(f: Factor) -> bool:
    """Whether a factor can be one of a pair that becomes bounded, or cancels."""
    node = f[0].owner
    return node is not None and (node.op in _ACTIVE or type(node.op) is Softmax or positive(f[0]))


def _terms(v: Variable) -> tuple[Variable, ...]:
    node = v.owner
    if node is not None and (node.op is add or node.op is subtract or type(node.op) is Accumulate):
        return node.inputs
    return ()


def _var(*shape: Any, dtype: str = "float64") -> Variable:
    return Variable(tensor_type(dtype, shape), name="x")


def _quotient(x: Variable, axis: int) -> Variable:
    return spread(apply(Sum((axis,)), exp(x)), x.type.shape, (axis,))


def _examples() -> list[Variable]:
    x, y, z = _var(4), _var(4), _var(2, 3)
    p = apply(Softmax(1), z)
    return [
        multiply(multiply(y, exp(x)), sigmoid(negative(x))),
        multiply(divide(y, sigmoid(x)), multiply(sigmoid(x), sigmoid(negative(x)))),
        multiply(exp(z), divide(z, _quotient(z, 1))),
        multiply(exp(z), spread(reciprocal(apply(Sum((1,)), exp(z))), z.type.shape, (1,))),
        divide(sigmoid(x), exp(x)),
        multiply(divide(z, p), p),
        multiply(exp(x), divide(y, add(exp(x), exp(y)))),
        multiply(y, multiply(exp(x), exp(negative(x)))),
    ]


def _sum_examples() -> list[Variable]:
    z, y = _var(2, 3), _var(2, 3)
    p = apply(Softmax(1), z)
    s = sigmoid(_var(3))
    return [
        multiply(exp(z), subtract(divide(y, _quotient(z, 1)), divide(z, _quotient(z, 1)))),
        multiply(p, add(divide(y, p), z)),
        multiply(multiply(s, _var(3)), add(divide(_var(3), s), _var(3))),
    ]


@structural(multiply, divide, level=LEVEL, examples=lambda: [*_examples(), *_sum_examples()])
def bounded_product(node: Apply) -> Variable | None:
    """exp(x) * y / sum(exp(x)) -> y * softmax(x), exp(x) * y * sigmoid(-x) -> y * sigmoid(x), ..    widens domain

    A sum among the factors is multiplied out where one of its terms becomes bounded by it.
    """
    p = Product(node.outputs[0])
    if len(p.above) + len(p.below) < 2 or not any(map(_active, p.above)):
        return None
    return p.build() if _simplify(p) else _multiplied_out(p)


def _multiplied_out(p: Product) -> Variable | None:
    for k, f in enumerate(p.above):
        terms = _terms(f[0])
        if not terms or positive(f[0]):
            continue
        rest = p.above[:k] + p.above[k + 1 :]
        if not any(_meets(rest, Product(t), f[1]) for t in terms):
            continue
        made = []
        for t in terms:
            p.above = [*rest, (t, f[1])]
            made.append(p.build())
        assert f[0].owner is not None
        return apply(f[0].owner.op, *made)
    return None


def _meets(rest: list[Factor], term: Product, axes: Axes) -> bool:
    """Whether a factor of the product and one of the term make something bounded."""
    for f in rest:
        if not _active(f):
            continue
        for x, inner in term.below:
            g = (x, tuple(axes[a] for a in inner))
            if (f[0] is x and f[1] == g[1] and positive(x)) or _bounded_quotient(f, g) is not None:
                return True
        for x, inner in term.above:
            g = (x, tuple(axes[a] for a in inner))
            if _bounded_product(f, g) is not None or _bounded_product(g, f) is not None:
                return True
    return False


@structural(Sum, level=LEVEL, examples=lambda: [apply(Sum((1,)), divide(_var(2, 3), _quotient(_var(2, 3), 1)))])
def divisor_out_of_sum(node: Apply) -> Variable | None:
    """sum(y / s) -> sum(y) / s, for s a sum of exponentials that is the same all along the sum    real-equal"""
    op, (x,) = node.op, node.inputs
    assert isinstance(op, Sum)
    p = Product(x)
    for k, (s, axes) in enumerate(p.below):
        if sum_of_exp(s) is None or any(a in op.axes for a in axes):
            continue
        del p.below[k]
        left = [a for a in range(x.type.ndim) if a not in op.axes]
        shape = node.outputs[0].type.shape
        place = tuple(left.index(a) for a in axes)
        divisor = s if s.type.shape == shape else apply(Broadcast(shape, place), s)
        return divide(apply(op, p.build()), divisor)
    return None


PRODUCTS: Final[tuple[Rule, ...]] = tuple(RULES[_first:])


def products_of(graph: Graph) -> tuple[Rule, ...]:
    """These rules, where there is anything in ``graph`` that they look for."""
    found = any(node.op in _ACTIVE or type(node.op) is Softmax for node in graph.nodes)
    return PRODUCTS if found else ()
