"""Derivatives of derivatives: values to high order, both modes mixed, and random programs."""

from __future__ import annotations

from collections.abc import Callable

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import symgraph as sg
from symgraph.autodiff import grad, hvp, jvp
from symgraph.graph import Variable, toposort
from symgraph.runtime.interpreter import interpret
from symgraph.testing import check_grads, random_program
from symgraph.testing.programs import from_hypothesis

FUNCTIONS: dict[str, tuple[Callable[[Variable], Variable], Callable[[mpmath.mpf], mpmath.mpf]]] = {
    "exp(sin x)/(1+x^2)": (
        lambda x: sg.exp(sg.sin(x)) / (1 + x * x),
        lambda x: mpmath.exp(mpmath.sin(x)) / (1 + x * x),
    ),
    "tanh(sin x exp(-x^2) + cos 3x)": (
        lambda x: sg.tanh(sg.sin(x) * sg.exp(-(x**2)) + sg.cos(3 * x)),
        lambda x: mpmath.tanh(mpmath.sin(x) * mpmath.exp(-(x**2)) + mpmath.cos(3 * x)),
    ),
    "sin(sin(sin x))": (lambda x: sg.sin(sg.sin(sg.sin(x))), lambda x: mpmath.sin(mpmath.sin(mpmath.sin(x)))),
    "softplus": (sg.softplus, lambda x: mpmath.log(1 + mpmath.exp(x))),
    "log-sum-exp": (
        lambda x: sg.logsumexp(sg.stack([x, 2 * x, x * x])),
        lambda x: mpmath.log(mpmath.exp(x) + mpmath.exp(2 * x) + mpmath.exp(x * x)),
    ),
    "power": (lambda x: (2 + sg.sin(x)) ** x, lambda x: (2 + mpmath.sin(x)) ** x),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_repeated_derivatives_against_mpmath(name: str) -> None:
    fn, exact = FUNCTIONS[name]
    x = sg.scalar("x")
    reverse = [fn(x)]
    forward = [fn(x)]
    for _ in range(5):
        reverse.append(grad(reverse[-1], x))
        forward.append(jvp(forward[-1], x, 1.0))
    with mpmath.workdps(50):
        for at in (0.3, -1.2):
            want = [float(c * mpmath.factorial(k)) for k, c in enumerate(mpmath.taylor(exact, mpmath.mpf(at), 5))]
            np.testing.assert_allclose(np.array(interpret(reverse, {x: at})), want, rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(np.array(interpret(forward, {x: at})), want, rtol=1e-9, atol=1e-9)


def test_sixth_derivative_does_not_explode() -> None:
    x = sg.scalar("x")
    y = sg.exp(sg.sin(x)) / (1 + x * x)
    sizes = []
    for _ in range(6):
        y = grad(y, x)
        sizes.append(len(toposort([y])))
    assert sizes[-1] < 4000, sizes


def test_hessian_of_an_intermediate_and_mixed_partials() -> None:
    x, y = sg.scalar("x"), sg.scalar("y")
    cost = sg.sin(x * y) * sg.exp(x) + y**3
    at = {x: 0.4, y: 0.9}
    xy = grad(grad(cost, x), y)
    yx = grad(grad(cost, y), x)
    a, b = interpret([xy, yx], at)
    assert a == pytest.approx(float(b), rel=1e-13)


@pytest.mark.parametrize(
    ("fn", "shapes"),
    [
        (lambda x, w: sg.mean(sg.tanh(sg.sum(sg.expand_dims(x, 2) * w, axis=1))), [(4, 3), (3, 2)]),
        (lambda x: sg.log_softmax(x, axis=-1), [(2, 3)]),
        (lambda x: sg.softmax(x, axis=0) * x, [(3, 2)]),
        (lambda x: sg.var(x, axis=0) + sg.std(x), [(4, 3)]),
        (lambda x, y: sg.where(x > y, x * y, sg.exp(y)), [(3,), (3,)]),
        (lambda x: sg.concatenate([x[::-1], x[:1] ** 2]) * sg.prod(x), [(4,)]),
        (lambda x: sg.take(x, np.array([2, 0, 0]), axis=1), [(2, 3)]),
        (lambda x: sg.gelu(x) + sg.silu(x) + sg.log_sigmoid(x), [(5,)]),
        (lambda x: sg.max_and_argmax(x, axis=1)[0] ** 2, [(3, 4)]),
    ],
)
def test_functions_of_several_ops(fn: Callable[..., Variable], shapes: list[tuple[int, ...]]) -> None:
    rng = np.random.default_rng(3)
    report = check_grads(fn, [rng.normal(size=s) for s in shapes], order=3)
    assert report.order == 3


@settings(max_examples=60)
@given(st.data())
def test_random_programs(data: st.DataObject) -> None:
    """Forward over reverse agrees with reverse over reverse, and the gradient with the directional derivative."""
    program = random_program(from_hypothesis(data.draw), steps=8)
    cost = program.cost()
    targets = list(program.inputs)
    gradients = grad(cost, targets, disconnected="zero")
    rng = np.random.default_rng(0)
    directions = [rng.normal(size=v.shape) for v in program.values]
    tangents = [Variable(v.type) for v in targets]
    along = jvp(cost, targets, tangents, disconnected="zero")
    values = interpret(gradients, program.givens)
    (slope,) = interpret(along, {**program.givens, **dict(zip(tangents, directions, strict=True))})
    total = sum(float(np.sum(g * d)) for g, d in zip(values, directions, strict=True))
    assert total == pytest.approx(float(slope), rel=1e-9, abs=1e-9)
    assert all(g.dtype == v.dtype and g.shape == v.shape for g, v in zip(values, program.values, strict=True))


def test_hvp_of_a_random_network() -> None:
    rng = np.random.default_rng(5)
    x, w = sg.matrix("x", shape=("n", 3)), sg.matrix("w", shape=(3, 2))
    z = sg.sum(sg.expand_dims(x, 2) * w, axis=1)
    cost = -sg.mean(sg.log_softmax(z, axis=1)[:, 0])
    v = rng.normal(size=(3, 2))
    at = {x: rng.normal(size=(5, 3)), w: rng.normal(size=(3, 2))}
    (got,) = interpret(hvp(cost, w, v), at)
    p, X = np.exp(interpret(sg.log_softmax(z, axis=1), at)[0]), at[x]
    u = X @ v
    want = X.T @ (p * u - p * np.sum(p * u, axis=1, keepdims=True)) / 5
    np.testing.assert_allclose(got, want, rtol=1e-12)
