"""The stable form that derivatives are taken of: it still goes through the variables of the graph as written."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import symgraph as sg
from symgraph.graph import Variable
from symgraph.rewrite.stable import stable_form
from symgraph.runtime.interpreter import interpret

ROWS = np.array([[0.5, -0.6, 0.9], [1.0, 2.0, 3.0]])
FUNCTIONS: dict[str, Callable[[Variable], Variable]] = {
    "nothing to repair": lambda v: sg.sum(sg.exp(v)),
    "repaired behind it": lambda v: sg.log(sg.sum(sg.exp(v))),
    "repaired beside it": lambda v: sg.sum(sg.exp(v)) + sg.log(1 + sg.exp(sg.sum(v))),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_later_derivative_is_in_any_variable_of_the_graph(name: str) -> None:
    """``u`` has a simpler spelling, which what is differentiated first must not be moved to."""
    f = FUNCTIONS[name]
    x, t, free = sg.vector("x", shape=(3,)), sg.scalar("t"), sg.vector("u", shape=(3,))
    at = np.array([0.1, 0.2, 0.3])
    u = sg.constant(ROWS)[0] * x
    found = [
        sg.grad(sg.grad(f(u * sg.cos(t)), t), u),
        sg.taylor(sg.derivative(f(u * sg.cos(t)), t, 1), u, np.ones(3), 2)[2],
    ]
    wanted = [
        sg.grad(sg.grad(f(free * sg.cos(t)), t), free),
        sg.taylor(sg.derivative(f(free * sg.cos(t)), t, 1), free, np.ones(3), 2)[2],
    ]
    got = interpret(found, {x: at, t: 0.7})
    for a, b in zip(got, interpret(wanted, {free: ROWS[0] * at, t: 0.7}), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13)


def test_what_needs_no_repair_stays_the_same_variables() -> None:
    x = sg.vector("x", shape=(3,))
    y = sg.exp((x * 1)[::-1] * 2)
    assert stable_form([y], [x])[0] is y
    (again,) = stable_form([sg.log(1 + sg.exp(sg.sum(x))) * y], [x])
    assert again.owner is not None
    assert any(v is y for v in again.owner.inputs)
