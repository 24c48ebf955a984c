"""The stable form that derivatives are taken of: it still goes through the variables of the graph as written."""

from __future__ import annotations

import gc
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


FIRST: dict[str, Callable[[Variable, Variable], Variable]] = {
    "grad": lambda y, t: sg.grad(y, t),
    "vjp": lambda y, t: sg.vjp(y, t, 1.0),
    "jvp": lambda y, t: sg.jvp(y, t, 1.0),
    "derivative": lambda y, t: sg.derivative(y, t, 2),
    "taylor": lambda y, t: sg.taylor(y, t, 1.0, 2)[2],
    "hessian": lambda y, t: sg.hessian(y, t),
    "twice": lambda y, t: sg.grad(sg.grad(y, t), t),
    "substitute": lambda y, t: sg.substitute(sg.grad(y, t), {t: t + 0.25}) * t,
    "vmap": lambda y, t: sg.sum(sg.vectorize(sg.grad(y, t), {t: sg.stack([t, 2 * t])})),
}
SECOND: dict[str, Callable[[Variable, Variable], Variable]] = {
    "grad": lambda g, e: sg.grad(g, e),
    "jvp": lambda g, e: sg.jvp(g, e, 1.0),
    "taylor": lambda g, e: sg.taylor(g, e, 1.0, 2)[2],
    "jacobian": lambda g, e: sg.jacobian(g, e),
}


@pytest.mark.parametrize("second", SECOND)
@pytest.mark.parametrize("first", FIRST)
def test_a_later_derivative_is_in_a_variable_that_the_stable_form_bypasses(first: str, second: str) -> None:
    """log(t + e) with e = exp(x) becomes a function of t and x; so do the derivatives of it in t."""
    x, t, free = sg.scalar("x"), sg.scalar("t"), sg.scalar("e")
    e = sg.exp(x)

    def y(e: Variable) -> Variable:
        return t**3 * sg.log(1 + t * e) * sg.sigmoid(t * sg.log(e)) + t**2 * e

    found = SECOND[second](FIRST[first](y(e), t) * 2, e)
    wanted = SECOND[second](FIRST[first](y(free), t) * 2, free)
    for at in (0.3, -0.7):
        (got,) = interpret([found], {x: at, t: 0.8})
        np.testing.assert_allclose(got, interpret([wanted], {free: np.exp(at), t: 0.8})[0], rtol=1e-12)


def test_derivatives_of_functions_are_taken_again() -> None:
    x, t, free = sg.scalar("x"), sg.scalar("t"), sg.scalar("e")
    e = sg.exp(x)

    def slope(e: Variable) -> Variable:
        slopes: Variable = sg.grad(
            lambda t: t * sg.log(1 + e) + sg.grad(lambda u: u**2 * sg.log(1 + u * e))(t) + t * e
        )(t)
        return slopes

    got = interpret([sg.grad(slope(e), e)], {x: 0.3, t: 0.8})
    wanted = interpret([sg.grad(slope(free), free)], {free: np.exp(0.3), t: 0.8})
    np.testing.assert_allclose(got, wanted, rtol=1e-12)


def test_what_a_derivative_was_made_of_goes_with_it() -> None:
    from symgraph import retake

    gc.collect()
    before = len(retake._recipes)
    x, t = sg.scalar("x"), sg.scalar("t")
    g = sg.grad(sg.grad(t * sg.log(1 + sg.exp(x * t)), t), t)
    assert len(retake._recipes) > before
    del g
    gc.collect()
    assert len(retake._recipes) <= before


def test_what_needs_no_repair_stays_the_same_variables() -> None:
    x = sg.vector("x", shape=(3,))
    y = sg.exp((x * 1)[::-1] * 2)
    assert stable_form([y], [x])[0] is y
    (again,) = stable_form([sg.log(1 + sg.exp(sg.sum(x))) * y], [x])
    assert again.owner is not None
    assert any(v is y for v in again.owner.inputs)
