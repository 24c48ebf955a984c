"""Taylor series of elementwise operations, where a recurrence of their own beats the one that follows from the jvp.

With ``x(t) = x_0 + x_1 t + x_2 t² + ..``, a rule gives the coefficient ``k >= 1`` of the result from those of the
operands and from lower ones of the result (Griewank and Walther, Evaluating Derivatives, 2nd ed., section 13.2).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

import numpy as np

from symgraph.graph import Constant, Variable
from symgraph.op import ZERO, Absence, Derivative, accumulate, constant
from symgraph.ops.shape import Broadcast


class Series(Protocol):
    """The coefficients of a variable, by order; ``ZERO`` for one that is zero whatever the inputs are."""

    variable: Variable

    def __call__(self, k: int) -> Derivative: ...

    def of(self, variable: Variable) -> Series:
        """The coefficients of another variable that a rule has built."""
        ...


SeriesRule: TypeAlias = Callable[..., "Derivative | None"]
"""From the order, the series of the operands and that of the result to a coefficient; ``None``: nothing special."""


def times(a: Derivative, b: Derivative) -> Derivative:
    """``a * b``, with absences, and without products by 1."""
    from symgraph.ops.elementwise import multiply

    if isinstance(a, Absence) or isinstance(b, Absence):
        return ZERO
    if _is_one(a):
        return b
    return a if _is_one(b) else multiply(a, b)


def weighted(factor: float, v: Derivative) -> Derivative:
    """A multiple of ``v``, in its dtype."""
    from symgraph.ops.elementwise import multiply, negative

    if isinstance(v, Absence) or factor == 1:
        return v
    return negative(v) if factor == -1 else multiply(v, constant(factor, v.type.dtype))


def minus(a: Derivative, b: Derivative) -> Derivative:
    """``a - b``, with absences."""
    from symgraph.ops.elementwise import subtract

    if isinstance(b, Absence):
        return a
    return weighted(-1, b) if isinstance(a, Absence) else subtract(a, b)


def _is_one(v: Variable) -> bool:
    while v.owner is not None and isinstance(v.owner.op, Broadcast):
        v = v.owner.inputs[0]
    return isinstance(v, Constant) and v.data.size == 1 and bool(np.all(v.data == 1))


def convolve(k: int, x: Series, y: Series, first: int = 0, last: int | None = None) -> Derivative:
    """The sum of ``x_j y_(k-j)`` for j from ``first`` to ``last``, k by default: Cauchy's product."""
    last = k if last is None else last
    if x.variable is y.variable and first == k - last:  # equal pairs from both ends
        pairs = [times(x(j), x(k - j)) for j in range(first, (first + last + 1) // 2)]
        middle = [times(x(k // 2), x(k // 2))] if k % 2 == 0 and first <= last else []
        return accumulate([weighted(2, accumulate([*pairs, ZERO])), *middle, ZERO])
    return accumulate([*(times(x(j), y(k - j)) for j in range(first, last + 1)), ZERO])


def multiply_series(k: int, x: Series, y: Series, out: Series) -> Derivative:
    """Cauchy's product."""
    return convolve(k, x, y)


def square_series(k: int, x: Series, out: Series) -> Derivative:
    """Cauchy's product of a series with itself."""
    return convolve(k, x, x)


def divide_series(k: int, x: Series, y: Series, out: Series) -> Derivative:
    """From ``x = y * out``."""
    from symgraph.ops.elementwise import divide, reciprocal

    bottom = y(0)
    assert isinstance(bottom, Variable)
    known = convolve(k, y, out, first=1)
    if isinstance(known, Absence):
        top = x(k)
        return ZERO if isinstance(top, Absence) else divide(top, bottom)
    return times(minus(x(k), known), reciprocal(bottom))


def reciprocal_series(k: int, x: Series, out: Series) -> Derivative:
    """From ``1 = x * out``."""
    return weighted(-1, times(convolve(k, x, out, first=1), out(0)))


def sqrt_series(k: int, x: Series, out: Series) -> Derivative:
    """From ``x = out * out``."""
    from symgraph.ops.elementwise import divide

    root = out(0)
    assert isinstance(root, Variable)
    rest = minus(x(k), convolve(k, out, out, first=1, last=k - 1))
    return ZERO if isinstance(rest, Absence) else times(rest, divide(constant_like(0.5, root), root))


def constant_like(value: float, v: Variable) -> Variable:
    """``value`` repeated to the type of ``v``."""
    from symgraph.ops.create import full

    return full(v.type.shape, value, v.type.dtype)


def sigmoid_series(k: int, x: Series, out: Series) -> Derivative | None:
    """``sigmoid(-u) = 1 - sigmoid(u)``: what the derivative of ``sigmoid(u)`` is made of comes back to it."""
    from symgraph.ops.elementwise import negative, sigmoid

    node = x.variable.owner
    if node is None or node.op is not negative:
        return None
    return weighted(-1, x.of(sigmoid(node.inputs[0]))(k))


def power_series(k: int, x: Series, y: Series, out: Series) -> Derivative | None:
    """Integer exponents become products, which hold at 0 too; 1/2 becomes a root."""
    from symgraph.ops.elementwise import reciprocal, sqrt

    exponent = y.variable
    while exponent.owner is not None and isinstance(exponent.owner.op, Broadcast):
        exponent = exponent.owner.inputs[0]
    if not isinstance(exponent, Constant) or exponent.data.size != 1:
        return None
    n = float(exponent.data.reshape(()))
    if n == 0.5:
        return x.of(sqrt(x.variable))(k)
    if not n.is_integer() or abs(n) > 64:
        return None
    if n == 0:
        return ZERO
    product = _integer_power(x.variable, int(abs(n)))
    return x.of(reciprocal(product) if n < 0 else product)(k)


def _integer_power(v: Variable, n: int) -> Variable:
    """``v ** n`` by squaring, for n from 1."""
    from symgraph.ops.elementwise import multiply

    out: Variable | None = None
    while n:
        if n % 2:
            out = v if out is None else multiply(out, v)
        n //= 2
        v = multiply(v, v) if n else v
    assert out is not None
    return out


def where_series(k: int, c: Series, x: Series, y: Series, out: Series) -> Derivative:
    """The coefficient of the branch that is taken: what the other one is does not matter."""
    from symgraph.ops.elementwise import where

    condition, a, b = c(0), x(k), y(k)
    assert isinstance(condition, Variable)
    if isinstance(a, Absence) and isinstance(b, Absence):
        return ZERO
    zero = constant(0, out.variable.type.dtype)
    return where(condition, zero if isinstance(a, Absence) else a, zero if isinstance(b, Absence) else b)
