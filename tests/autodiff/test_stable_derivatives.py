"""Derivatives of what is written naively are stable in every mode, as those of `grad` are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import symgraph as sg
from symgraph.graph import toposort

AT = np.array([-1e4, -800.0, -40.0, -1.0, 0.0, 1.0, 40.0, 800.0, 1e4])
S, T = (np.exp(-np.logaddexp(0, s * AT)) for s in (-1, 1))  # sigmoid(x), and sigmoid(-x)

SOFTPLUS = (S, S * T, S * T * (T - S))
EXPRESSIONS: dict[str, tuple[Callable[[Any], Any], tuple[NDArray[Any], ...]]] = {
    "log(1 + exp(x))": (lambda x: sg.log(1 + sg.exp(x)), SOFTPLUS),
    "log(sigmoid(x))": (lambda x: sg.log(sg.sigmoid(x)), (T, -S * T, -S * T * (T - S))),
    "log(1 / (1 + exp(-x)))": (lambda x: sg.log(1 / (1 + sg.exp(-x))), (T, -S * T, -S * T * (T - S))),
    "-log(1 - sigmoid(x))": (lambda x: -sg.log(1 - sg.sigmoid(x)), SOFTPLUS),
}


def _repeated(step: Callable[[Any, Any], Any]) -> Callable[[Any, Any], list[Any]]:
    def three(y: Any, x: Any) -> list[Any]:
        out = []
        for _ in range(3):
            y = step(y, x)
            out.append(y)
        return out

    return three


ORDERS: dict[str, Callable[[Any, Any], list[Any]]] = {
    "jvp": _repeated(lambda y, x: sg.jvp(y, x, 1.0)),
    "vjp": _repeated(lambda y, x: sg.vjp(y, x, 1.0)),
    "taylor": lambda y, x: sg.taylor(y, x, 1.0, 3)[1:],
    "jvp of grad": lambda y, x: [sg.grad(y, x), sg.hvp(y, x, 1.0), sg.jvp(sg.hvp(y, x, 1.0), x, 1.0)],
    "jacobian": _repeated(lambda y, x: sg.jacobian(y, x, mode="forward")),
}


@pytest.mark.parametrize("mode", ORDERS)
@pytest.mark.parametrize("name", EXPRESSIONS)
def test_three_derivatives_at_large_arguments(name: str, mode: str) -> None:
    f, expected = EXPRESSIONS[name]
    x = sg.scalar("x")
    fn = sg.function([x], ORDERS[mode](f(x), x), target="numpy")
    found = np.array([fn(a) for a in AT]).T
    np.testing.assert_allclose(found, expected, rtol=1e-14, atol=1e-300)


@pytest.mark.parametrize("at", [[1e4, 0.0, -1e4], [0.3, 1.0, 2.0]])
def test_softmax(at: list[float]) -> None:
    z, t = sg.vector("z", shape=(3,)), np.array([1.0, -2.0, 0.5])
    weights = np.array([1.0, 2.0, 3.0])
    a = np.array(at)
    p = np.exp(a - a.max()) / np.exp(a - a.max()).sum()
    mean = p @ t
    var = p @ (t - mean) ** 2
    expected = [
        t - mean,  # of log softmax along t: minus the cumulants of t under p
        np.full(3, -var),
        np.full(3, -(p @ (t - mean) ** 3)),
        np.eye(3) - p,
        -weights.sum() * p * (t - mean),
    ]
    for y in (sg.log(sg.softmax(z)), sg.log(sg.exp(z) / sg.sum(sg.exp(z)))):
        results = _repeated(lambda y, x: sg.jvp(y, x, t))(y, z)
        results += [sg.jacobian(y, z, mode="forward"), sg.hvp(sg.sum(y * weights), z, t)]
        for fn in (sg.function([z], results), sg.function([z], results, target="numpy")):
            for found, want in zip(fn(a), expected, strict=True):
                np.testing.assert_allclose(found, want, rtol=1e-9, atol=1e-12)


def test_what_is_built_is_no_larger() -> None:
    x = sg.scalar("x")
    y = sg.log(1 + sg.exp(x))
    for _ in range(4):
        y = sg.jvp(y, x, 1.0)
    assert len(toposort([y])) <= 35  # 45 of the expression as written


def test_only_what_lies_between_is_rewritten() -> None:
    """A variable that is differentiated in stays a boundary: no rule looks behind it."""
    x = sg.scalar("x")
    h = sg.exp(x)
    y = sg.log(1 + h)
    for d in (sg.jvp(y, h, 1.0), sg.vjp(y, h, 1.0)):
        assert sg.function([x], d)(1.0) == pytest.approx(1 / (1 + np.e))
