"""What is written naively runs in the stable form: values, gradients and second derivatives, at ±10,000."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.graph import Graph, Variable
from symgraph.pipeline import run_pipeline
from symgraph.rewrite.stable import stable_form
from symgraph.runtime.interpreter import interpret

F = Callable[[Any], Any]

POINTS = np.array([-1e4, -800.0, -30.0, -1.0, 0.0, 0.5, 30.0, 800.0, 1e4])
LOGITS = np.array([[1e4, -1e4, 0.0], [1.0, 2.0, -1e4], [-1e4, -1e4, -1e4], [0.3, -0.2, 0.1]])
W = np.array([1.0, 0.0, 0.3, 1.0, 0.5, 0.0, 0.7, 1.0, 0.2])
Y = np.array([[0.0, 1.0, 0.0], [0.2, 0.3, 0.5], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
CLASSES = np.array([[1], [2], [0], [2]])


def softmax(z: Any) -> Any:
    e = sg.exp(z)
    return e / sg.sum(e, axis=1, keepdims=True)


def softmax_shifted(z: Any) -> Any:
    e = sg.exp(z - sg.max(z, axis=1, keepdims=True))
    return e / sg.sum(e, axis=1, keepdims=True)


def cross_entropy(p: Any) -> Any:
    return -W * sg.log(p) - (1 - W) * sg.log(1 - p)


def stable_cross_entropy(x: Any) -> Any:
    return W * sg.softplus(-x) + (1 - W) * sg.softplus(x)


VECTORS: dict[str, tuple[F, F]] = {
    "softplus": (lambda x: sg.log(1 + sg.exp(x)), sg.softplus),
    "softplus of -x": (lambda x: sg.log1p(sg.exp(-x)), lambda x: sg.softplus(-x)),
    "log sigmoid": (lambda x: sg.log(sg.sigmoid(x)), lambda x: -sg.softplus(-x)),
    "log sigmoid by hand": (lambda x: sg.log(1 / (1 + sg.exp(-x))), lambda x: -sg.softplus(-x)),
    "log of 1 - sigmoid": (lambda x: sg.log(1 - sg.sigmoid(x)), lambda x: -sg.softplus(x)),
    "sigmoid": (lambda x: 1 / (1 + sg.exp(-x)), sg.sigmoid),
    "sigmoid, other form": (lambda x: sg.exp(x) / (1 + sg.exp(x)), sg.sigmoid),
    "sigmoid as a power": (lambda x: (1 + sg.exp(-x)) ** -1, sg.sigmoid),
    "cross entropy": (lambda x: cross_entropy(sg.sigmoid(x)), stable_cross_entropy),
    "cross entropy by hand": (lambda x: cross_entropy(1 / (1 + sg.exp(-x))), stable_cross_entropy),
    "tanh": (lambda x: (sg.exp(x) - sg.exp(-x)) / (sg.exp(x) + sg.exp(-x)), sg.tanh),
    "tanh, other form": (lambda x: (1 - sg.exp(-2 * x)) / (1 + sg.exp(-2 * x)), sg.tanh),
    "root of a square": (lambda x: sg.sqrt(x * x), sg.absolute),
    "logarithm of exp": (lambda x: sg.log(sg.exp(x) * 2.0), lambda x: x + np.log(2.0)),
}
MATRICES: dict[str, tuple[F, F]] = {
    "log softmax": (lambda z: Y * sg.log(sg.softmax(z, axis=1)), lambda z: Y * sg.log_softmax(z, axis=1)),
    "log softmax by hand": (lambda z: Y * sg.log(softmax(z)), lambda z: Y * sg.log_softmax(z, axis=1)),
    "log softmax, shifted": (lambda z: Y * sg.log(softmax_shifted(z)), lambda z: Y * sg.log_softmax(z, axis=1)),
    "of the class": (
        lambda z: sg.log(sg.take_along_axis(softmax(z), CLASSES, axis=1)),
        lambda z: sg.take_along_axis(sg.log_softmax(z, axis=1), CLASSES, axis=1),
    ),
    "one column": (lambda z: sg.log(softmax(z)[:, 1]), lambda z: sg.log_softmax(z, axis=1)[:, 1]),
    "softmax": (lambda z: Y * softmax(z), lambda z: Y * sg.softmax(z, axis=1)),
    "logsumexp": (lambda z: sg.log(sg.sum(sg.exp(z), axis=1)), lambda z: sg.logsumexp(z, axis=1)),
    "logsumexp of all": (lambda z: sg.log(sg.sum(sg.exp(z))), sg.logsumexp),
    "log of a mean": (
        lambda z: sg.log(sg.mean(sg.exp(z), axis=1)),
        lambda z: sg.logsumexp(z, axis=1) - np.log(3.0),
    ),
    "less logsumexp": (
        lambda z: Y * (z - sg.log(sg.sum(sg.exp(z), axis=1, keepdims=True))),
        lambda z: Y * sg.log_softmax(z, axis=1),
    ),
}
CASES = [
    *(pytest.param(*f, POINTS, id=k) for k, f in VECTORS.items()),
    *(pytest.param(*f, LOGITS, id=k) for k, f in MATRICES.items()),
]


def optimized(outputs: list[Variable], x: Variable, at: Any) -> list[Any]:
    made, _ = run_pipeline(Graph([x], outputs), check=True)
    return interpret(made, {made.inputs[0]: at})


def cost(f: F, x: Variable) -> Variable:
    y = f(x)
    weights = 1 + np.arange(int(y.type.size)).reshape(y.type.shape) / 10
    return sg.sum(y * weights)


def direction(g: Variable) -> Variable:
    return sg.sum(g * (1 + np.cos(np.arange(int(g.type.size))).reshape(g.type.shape)))


@pytest.mark.parametrize(("naive", "stable", "at"), CASES)
def test_values(naive: F, stable: F, at: Any) -> None:
    x = sg.tensor("x", shape=at.shape)
    (got,) = optimized([naive(x)], x, at)
    (wanted,) = interpret(stable(x), {x: at})
    np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-12)
    assert np.isfinite(got).all()


# Patterns reach the first derivative of what was differentiated as written; a few forms need the stable form first.
NEED_STABLE_FORM = {"sigmoid as a power", "of the class", "one column", "root of a square"}


@pytest.mark.parametrize(("naive", "stable", "at"), [c for c in CASES if c.id not in NEED_STABLE_FORM])
def test_gradients_of_expressions_as_written(naive: F, stable: F, at: Any) -> None:
    x = sg.tensor("x", shape=at.shape)
    (got,) = optimized([sg.grad(cost(naive, x), x)], x, at)
    (wanted,) = interpret(sg.grad(cost(stable, x), x), {x: at})
    np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("naive", "stable", "at"), CASES)
def test_first_and_second_derivatives_of_the_stable_form(naive: F, stable: F, at: Any) -> None:
    x = sg.tensor("x", shape=at.shape)

    def derivatives(f: F) -> list[Variable]:
        (c,) = stable_form([cost(f, x)], [x])
        g = sg.grad(c, x)
        (d,) = stable_form([direction(g)], [x])
        return [g, sg.grad(d, x, disconnected="zero")]

    got = optimized(derivatives(naive), x, at)
    wanted = optimized(derivatives(stable), x, at)
    for a, b in zip(got, wanted, strict=True):
        assert np.isfinite(a).all()
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


def test_the_stable_form_shares_what_needs_no_repair() -> None:
    x = sg.vector("x", shape=(3,))
    y = sg.sin(x)
    y.name = "y"
    z = sg.log(1 + sg.exp(y))
    lines = y.owner.sources if y.owner else None
    (s,) = stable_form([z], [x])
    assert s.owner is not None
    assert s.owner.op is sg.softplus
    assert s.owner.inputs[0] is y
    assert y.owner is not None
    assert y.owner.sources == lines
    assert stable_form([sg.cos(y)], [x])[0].owner is not None
    (same,) = stable_form([y], [x])
    assert same is y


def test_what_is_kept_stays_between() -> None:
    x = sg.vector("x", shape=(3,))
    e = sg.exp(x)
    (s,) = stable_form([sg.log(1 + e)], [e])
    # With respect to e, this is no softplus of x.
    assert s.owner is not None
    assert s.owner.op is sg.log1p
    assert s.owner.inputs[0] is e
