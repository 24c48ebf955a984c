"""Taylor mode: derivatives of high order along a direction, as one series pushed through the graph.

Every node has coefficients of its value along ``x + t v``. They come from the op's own ``series`` rule if it states
one; from Cauchy's product where the op is linear in each input; and else from what every op has, its jvp: the series of
the result is the integral of the series of ``jvp(inputs(t), inputs'(t))``, of which the coefficient k needs only lower
ones. So each op costs a number of products that is polynomial in the order: quadratic where the derivative rule of an
op uses the op itself, one factor of the order more where it leads to ever new ones (a power with a real exponent).
Griewank and Walther, Evaluating Derivatives, 2nd ed., chapter 13; Bettencourt et al. 2019 (Taylor-mode in JAX).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from symgraph import source
from symgraph.autodiff.arguments import (
    Disconnected,
    check_distinct,
    check_floats,
    check_option,
    final,
    like,
    matching,
    several,
    show,
)
from symgraph.autodiff.forward import push
from symgraph.autodiff.reverse import connected
from symgraph.errors import FormatError
from symgraph.graph import Apply, Interner, Variable, interning, toposort
from symgraph.op import DISCONNECTED, ZERO, Derivative, accumulate, apply_node, differentiable, zeros_like
from symgraph.ops.series import weighted
from symgraph.retake import retakable

_ACCEPTED = "disconnected='zero' or 'none' accepts that"


@retakable
def taylor(y: Any, x: Any, direction: Any, order: int, disconnected: Disconnected = "raise") -> Any:
    """The derivatives of ``y`` along a line: ``d^k/dt^k y(x + t * direction)`` at t = 0, for k from 0 to ``order``.

    These are derivatives, not coefficients: the k-th coefficient of the Taylor polynomial is the k-th of them divided
    by k!.

    Args:
        y: a variable of a float dtype and any shape, or a list or tuple of them.
        x: a variable of a float dtype, any variable of the graph, or a list or tuple of distinct ones.
        direction: for each ``x``, a tensor of its type. It stays what it is along the line, also where its own graph
            contains ``x``.
        order: 0 or more.
        disconnected: what to return for derivatives of a ``y`` that depends on no ``x``, as in
            :func:`~symgraph.autodiff.forward.jvp`.

    Returns a list of ``order + 1`` variables of the type of ``y``, the first of which is ``y``; for several ``y``, one
    such list for each, in the structure of ``y``. The cost is polynomial in the order, where repeated differentiation
    may be exponential. Intermediate results are derivatives divided by k!: of functions whose derivatives do not grow
    they underflow beyond order 170 in float64, 30 in float32 and 7 in float16, and the derivatives are then too small.
    Raises :class:`~symgraph.errors.FormatError` for another ``order``, and what
    :func:`~symgraph.autodiff.forward.jvp` raises.
    """
    check_option(disconnected)
    outputs, sources = several("taylor: y", y), several("taylor: x", x)
    check_floats("taylor: y", outputs)
    check_floats("taylor: x", sources)
    check_distinct("taylor: x", sources)
    line = source.show(source.current())
    if type(order) is not int or order < 0:
        raise FormatError(f"taylor: the order must be an integer, 0 or more, got {order!r}  {line}")
    directions = matching("taylor: the direction", direction, sources, x)
    # As in grad: of log(1 + exp(x)) as it stands, all derivatives are inf / inf for large x.
    from symgraph.rewrite.stable import stable_form  # not needed to build a graph

    stable = stable_form(outputs, sources)
    on_path = connected(toposort(stable), sources)
    with interning(Interner([*stable, *directions])):
        expansion = Expansion(dict(zip(sources, directions, strict=True)))
        expansion.fill(stable, order)
        results = []
        for given, v in zip(outputs, stable, strict=True):
            why = f"taylor: {show(given)} does not depend on {', '.join(map(show, sources))} as a real function"
            derivatives: list[Variable | None] = [given]
            for k in range(1, order + 1):
                d = _derivative(expansion(v, k), k) if v in on_path else DISCONNECTED
                with source.attributed_to(v.sources, v.origin.derived("tangent", v.serial)._replace(order=k)):
                    derivatives.append(final(d, v, disconnected, why, line))
            results.append(derivatives)
    return like(y, results)


def _derivative(coefficient: Derivative, k: int) -> Derivative:
    """``k!`` times a coefficient."""
    if not isinstance(coefficient, Variable):
        return coefficient
    factor = math.factorial(k)
    if factor <= float(np.finfo(coefficient.type.dtype).max):
        return weighted(factor, coefficient)
    for j in range(2, k + 1):  # the factorial itself would be infinite
        coefficient = weighted(j, coefficient)
    return coefficient


class Expansion:
    """Series along a direction, for variables of a graph and for what rules build on them. Filled on demand."""

    def __init__(self, directions: Mapping[Variable, Variable]) -> None:
        self.directions = directions
        self._made: dict[tuple[Variable, int], Derivative] = {}
        # Derivatives dv/dt as symbols in the graphs of jvps: by v, and back.
        self._rates: dict[Variable, Variable] = {}
        self._rated: dict[Variable, Variable] = {}
        self._flows: dict[Apply, Sequence[Derivative]] = {}
        # Whether a variable varies with t; and whether its value is itself an expression in rates, so that its
        # coefficient 0 has to be made from theirs.
        self._facts: dict[Variable, tuple[bool, bool]] = dict.fromkeys(directions, (True, False))

    def fill(self, outputs: Iterable[Variable], order: int) -> None:
        """Compute what ``outputs`` need, producers first, so that nothing recurses over the depth of the graph."""
        for node in toposort(outputs, self.directions):
            for k in range(1, order + 1):
                for v in node.outputs:
                    self(v, k)

    def __call__(self, v: Variable, k: int) -> Derivative:
        """The coefficient of order ``k``."""
        key = (v, k)
        found = self._made.get(key)
        if found is None:
            at = source.Origin(v.origin.scope, v.origin.order + k, "coefficient" if k else v.origin.mode, v.serial)
            with source.attributed_to(v.sources, at):
                self._made.update(self._make(v, k))
            found = self._made[key]
        return found

    def _make(self, v: Variable, k: int) -> dict[tuple[Variable, int], Derivative]:
        if v in self.directions:
            return {(v, k): v if k == 0 else self.directions[v] if k == 1 else ZERO}
        if v in self._rated:
            return {(v, k): weighted(k + 1, self(self._rated[v], k + 1))}
        varies, of_rates = self._look(v)
        node = v.owner
        if k == 0 and of_rates and node is not None:
            values = [self(u, 0) for u in node.inputs]
            filled = [zeros_like(u) if c is ZERO else c for u, c in zip(node.inputs, values, strict=True)]
            made = apply_node(node.op, [c for c in filled if isinstance(c, Variable)]).outputs
            return {(u, 0): c for u, c in zip(node.outputs, made, strict=True)}
        if k == 0 or not varies or node is None:
            return {(v, k): v if k == 0 else ZERO}
        found = self._rule(node, k)
        return {(u, k): c if isinstance(c, Variable) else ZERO for u, c in zip(node.outputs, found, strict=True)}

    def _look(self, v: Variable) -> tuple[bool, bool]:
        """The facts of ``v``, and of everything behind it that has none yet."""
        facts = self._facts
        stack = [v]
        while stack:
            u = stack[-1]
            if u in facts:
                stack.pop()
                continue
            inputs = u.owner.inputs if u.owner is not None else ()
            waiting = [i for i in inputs if i not in facts]
            if waiting:
                stack.extend(waiting)
                continue
            flows = u.owner is not None and not u.owner.op.stops and differentiable(u)
            facts[u] = (flows and any(facts[i][0] for i in inputs), any(facts[i][1] for i in inputs))
            stack.pop()
        return facts[v]

    def _rule(self, node: Apply, k: int) -> Sequence[Derivative]:
        """Coefficients of order ``k`` of a node's outputs."""
        op, inputs = node.op, node.inputs
        stated = op.series(k, [_Of(self, v) for v in inputs], [_Of(self, v) for v in node.outputs])
        if stated is not None:
            return stated
        varying = [i for i, v in enumerate(inputs) if self._look(v)[0]]
        if op.linear == "jointly":
            return push(node, [self(v, k) if i in varying else DISCONNECTED for i, v in enumerate(inputs)])
        if op.linear == "each":
            values = [self(v, 0) for v in inputs]
            return [accumulate([*self._products(node, values, varying, k), ZERO])]
        return [weighted(1 / k, self(d, k - 1)) if isinstance(d, Variable) else d for d in self._flow(node)]

    def _products(
        self, node: Apply, operands: list[Derivative], varying: Sequence[int], k: int
    ) -> Iterable[Derivative]:
        """Products of coefficients whose orders add up to ``k``."""
        if not varying:
            if k == 0 and all(isinstance(c, Variable) for c in operands):
                yield apply_node(node.op, [c for c in operands if isinstance(c, Variable)]).outputs[0]
            return
        i, *rest = varying
        for j in range(k + 1) if rest else [k]:
            c = self(node.inputs[i], j)
            if isinstance(c, Variable):
                yield from self._products(node, [*operands[:i], c, *operands[i + 1 :]], rest, k - j)

    def _flow(self, node: Apply) -> Sequence[Derivative]:
        """The jvp of a node along the rates of its inputs."""
        found = self._flows.get(node)
        if found is None:
            found = push(node, [self._rate(v) if self._look(v)[0] else DISCONNECTED for v in node.inputs])
            self._flows[node] = found
        return found

    def _rate(self, v: Variable) -> Variable:
        """The symbol for dv/dt: its coefficient k is (k + 1) times the coefficient k + 1 of ``v``."""
        rate = self._rates.get(v)
        if rate is None:
            rate = self._rates[v] = Variable(v.type)
            self._rated[rate] = v
            self._facts[rate] = (True, True)
        return rate


class _Of:
    """The series of one variable, for rules."""

    __slots__ = ("expansion", "variable")

    def __init__(self, expansion: Expansion, variable: Variable) -> None:
        self.expansion = expansion
        self.variable = variable

    def __call__(self, k: int) -> Derivative:
        return self.expansion(self.variable, k)

    def of(self, variable: Variable) -> _Of:
        """The series of another variable."""
        return _Of(self.expansion, variable)
