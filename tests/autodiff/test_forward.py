"""Forward mode, and Hessian-vector products."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import symgraph as sg
from symgraph.autodiff import grad, hvp, jvp, vjp
from symgraph.errors import DisconnectedError
from symgraph.graph import Variable, toposort
from symgraph.runtime.interpreter import interpret


def value(v: Variable, givens: dict[Variable, Any]) -> NDArray[Any]:
    (out,) = interpret(v, givens)
    return out


def test_structure_and_values() -> None:
    x, y = sg.vector("x", shape=(3,)), sg.scalar("y")
    f, g = sg.sin(x) * y, sg.sum(x) * y * y
    t = np.array([1.0, 0.5, -1.0])
    one = jvp(f, x, t)
    assert isinstance(one, Variable)
    both = jvp([f, g], (x, y), (t, 2.0))
    assert isinstance(both, list)
    at: dict[Variable, Any] = {x: [0.1, 0.2, 0.3], y: 3.0}
    a = np.array([0.1, 0.2, 0.3])
    np.testing.assert_allclose(value(one, at), np.cos(a) * t * 3)
    np.testing.assert_allclose(value(both[0], at), np.cos(a) * t * 3 + np.sin(a) * 2)
    assert value(both[1], at) == pytest.approx(t.sum() * 9 + a.sum() * 2 * 3 * 2)


def test_intermediate_variables_as_directions() -> None:
    x = sg.scalar("x")
    h = sg.exp(x)
    y = h * x
    assert value(jvp(y, h, 1.0), {x: 2.0}) == 2.0
    # A given tangent stands; the one that x would give h does not count.
    assert value(jvp(y, [x, h], [1.0, 0.0]), {x: 2.0}) == pytest.approx(np.exp(2.0))
    assert value(jvp(h, h, 5.0), {}) == 5.0


def test_several_outputs_of_one_op_and_integers() -> None:
    x = sg.matrix("x", shape=(2, 3))
    largest, where = sg.max_and_argmax(x, axis=1)
    t = np.arange(6.0).reshape(2, 3)
    got = jvp(largest * sg.cast(where, "float64"), x, t)
    np.testing.assert_array_equal(value(got, {x: [[1.0, 5.0, 2.0], [0.0, 1.0, 4.0]]}), [1.0, 10.0])


def test_absence() -> None:
    x, y = sg.scalar("x"), sg.scalar("y")
    with pytest.raises(DisconnectedError, match="jvp"):
        jvp(sg.sin(y), x, 1.0)
    assert jvp(sg.sin(y), x, 1.0, disconnected="none") is None
    assert value(jvp(sg.sin(y), x, 1.0, disconnected="zero"), {}) == 0.0
    with pytest.raises(DisconnectedError):
        jvp(sg.stop_gradient(x), x, 1.0)
    assert value(jvp(sg.floor(x), x, 1.0), {}) == 0.0
    assert value(jvp(x * sg.stop_gradient(sg.exp(x)), x, 1.0), {x: 1.0}) == pytest.approx(np.e)


def test_linear_ops_have_themselves_for_jvp() -> None:
    x = sg.matrix("x", shape=(2, 3))
    y = sg.sum(sg.transpose(x), axis=0)
    t = sg.matrix("t", shape=(2, 3))
    assert [n.op.name for n in toposort([jvp(y, x, t)])] == ["transpose", "sum"]


def test_chain_without_recursion() -> None:
    x = sg.scalar("x")
    y = x
    for _ in range(20_000):
        y = sg.sin(y)
    assert len(toposort([jvp(y, x, 1.0)])) <= 3 * 20_000


def test_hessian_vector_products_agree() -> None:
    x = sg.vector("x", shape=(4,))
    v = sg.vector("v", shape=(4,))
    cost = sg.sum(sg.exp(sg.sin(x)) * sg.sum(x * x)) + sg.prod(x)
    forward_over_reverse = hvp(cost, x, v)
    reverse_over_reverse = grad(sg.sum(grad(cost, x) * v), x)
    reverse_over_forward = grad(jvp(cost, x, v), x)
    rng = np.random.default_rng(1)
    at = {x: rng.normal(size=4), v: rng.normal(size=4)}
    want = value(reverse_over_reverse, at)
    np.testing.assert_allclose(value(forward_over_reverse, at), want, rtol=1e-12)
    np.testing.assert_allclose(value(reverse_over_forward, at), want, rtol=1e-12)
    h = 1e-5
    g = grad(cost, x)
    up, down = (value(g, {x: at[x] + s * h * at[v]}) for s in (1, -1))
    np.testing.assert_allclose((up - down) / (2 * h), want, rtol=1e-7)


def test_hvp_of_lists_and_of_a_linear_cost() -> None:
    x, y = sg.scalar("x"), sg.scalar("y")
    hx, hy = hvp(x * x * y, [x, y], [1.0, 2.0])
    assert value(hx, {x: 3.0, y: 5.0}) == 2 * 5.0 + 2 * 3.0 * 2.0
    assert value(hy, {x: 3.0, y: 5.0}) == 2 * 3.0
    assert value(hvp(3 * x, x, 1.0), {x: 1.0}) == 0.0


def test_transposed_forward_mode_is_reverse_mode() -> None:
    x, u, v = sg.vector("x", shape=(3,)), sg.vector("u", shape=(2,)), sg.vector("v", shape=(3,))
    A = np.arange(6.0).reshape(2, 3)
    y = sg.tanh(sg.sum(A * sg.sin(x), axis=1))
    # J v is linear in v; its vjp in v is Jᵀ u again.
    twice = vjp(jvp(y, x, v), v, u)
    at = {x: [0.1, 0.2, 0.3], u: [1.0, -2.0]}
    np.testing.assert_allclose(value(twice, at), value(vjp(y, x, u), at), rtol=1e-13)
