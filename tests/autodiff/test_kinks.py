"""Points where a function has no derivative, or a formula breaks down: what docstrings promise there. [6.3]"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import symgraph as sg
from symgraph.autodiff import grad, jvp
from symgraph.graph import Variable
from symgraph.runtime.interpreter import interpret

inf, nan = np.inf, np.nan


def derivatives(fn: Callable[..., Variable], *points: float, order: int = 1) -> list[float]:
    """The ``order``-th derivative of a function of scalars in each argument, at a point."""
    xs = [sg.scalar(f"x{k}") for k in range(len(points))]
    out = []
    for x in xs:
        y = fn(*xs)
        for _ in range(order):
            y = grad(y, x, disconnected="zero")
        out.append(float(interpret(y, dict(zip(xs, points, strict=True)))[0]))
    return out


def gradient(fn: Callable[[Variable], Variable], at: Any) -> NDArray[Any]:
    x = sg.tensor("x", shape=np.shape(at))
    return interpret(grad(fn(x), x), {x: np.asarray(at, float)})[0]


@pytest.mark.parametrize(
    ("fn", "at", "want"),
    [
        (sg.relu, 0.0, 0.0),
        (sg.relu, -0.0, 0.0),
        (sg.relu, 1e-300, 1.0),
        (sg.absolute, 0.0, 0.0),
        (sg.absolute, -2.0, -1.0),
        (lambda x: sg.clip(x, -1.0, 1.0), 1.0, 1.0),
        (lambda x: sg.clip(x, -1.0, 1.0), -1.0, 1.0),
        (lambda x: sg.clip(x, -1.0, 1.0), 1.0000001, 0.0),
        (lambda x: sg.clip(x, -1.0, 1.0), -2.0, 0.0),
        (lambda x: sg.clip(x, None, 1.0), 2.0, 0.0),
        (sg.sign, 0.0, 0.0),
        (sg.floor, 2.0, 0.0),
        (sg.sqrt, 0.0, inf),
        (sg.log, 0.0, inf),
    ],
)
def test_first_derivative(fn: Callable[[Variable], Variable], at: float, want: float) -> None:
    assert derivatives(fn, at) == [want]


@pytest.mark.parametrize("fn", [sg.maximum, sg.minimum])
def test_a_tie_is_shared(fn: Callable[..., Variable]) -> None:
    assert derivatives(fn, 1.5, 1.5) == [0.5, 0.5]
    assert sum(derivatives(fn, 1.5, 2.0)) == 1.0
    x = sg.scalar("x")
    # The same variable twice: max(x, x) is x.
    assert interpret(grad(fn(x, x), x), {x: 3.0})[0] == 1.0


def test_bounds_of_clip_have_derivatives() -> None:
    clip3 = lambda x, lo, hi: sg.clip(x, lo, hi)  # noqa: E731
    assert derivatives(clip3, 0.0, -1.0, 1.0) == [1, 0, 0]
    assert derivatives(clip3, -2.0, -1.0, 1.0) == [0, 1, 0]
    assert derivatives(clip3, 2.0, -1.0, 1.0) == [0, 0, 1]
    assert derivatives(clip3, 0.0, 2.0, 1.0) == [0, 0, 1]  # bounds that cross: hi wins, as in NumPy


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0, 3.0, 0.5, -1.0])
def test_power_in_its_base_at_zero(order: int, exponent: float) -> None:
    # d^k/dx^k x**n = n (n-1) ... (n-k+1) x**(n-k), where a factor of 0 is 0 whatever stands behind it.
    factor = float(np.prod([exponent - k for k in range(order)]))
    with np.errstate(divide="ignore"):
        want = 0.0 if factor == 0 else factor * float(np.power(0.0, exponent - order))
    x, n = sg.scalar("x"), sg.scalar("n")
    for e in (n, exponent):
        y = x**e
        for _ in range(order):
            y = grad(y, x, disconnected="zero")
        assert interpret(y, {x: 0.0, n: exponent})[0] == want, (order, exponent)


def test_power_in_its_exponent() -> None:
    assert derivatives(sg.power, 0.0, 2.0)[1] == 0.0
    assert derivatives(sg.power, 0.0, 0.0)[1] == 0.0
    with np.errstate(all="ignore"):
        assert np.isnan(derivatives(sg.power, -2.0, 2.0)[1])
    assert derivatives(sg.power, -2.0, 2.0)[0] == -4.0


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("mode", ["reverse", "forward"])
def test_where_masks_the_branch_not_taken(order: int, mode: str) -> None:
    x = sg.vector("x", shape=(4,))
    # Each branch not taken is nan, infinite, or has a derivative that is.
    y = sg.where(x > 0, sg.sqrt(sg.where(x > 0, x, x)), x * x * x)
    safe = sg.where(x > 0, sg.log(x), sg.exp(1e3 * x) * 0 + x**4)
    total = sg.sum(y + safe)
    g: Variable = total
    for _ in range(order):
        g = grad(sg.sum(g), x) if mode == "reverse" else jvp(g, x, np.ones(4))
    at = np.array([1.0, 4.0, -1.0, -2.0])
    p, q = at[:2], at[2:]
    with np.errstate(all="ignore"):
        (got,) = interpret(g, {x: at})
    upper = {
        1: 0.5 * p**-0.5 + 1 / p,
        2: -0.25 * p**-1.5 - 1 / p**2,
        3: 0.375 * p**-2.5 + 2 / p**3,
    }[order]
    lower = {1: 3 * q**2 + 4 * q**3, 2: 6 * q + 12 * q**2, 3: 6 + 24 * q}[order]
    want = np.concatenate([upper, lower])
    np.testing.assert_allclose(got, want if mode == "reverse" else want.sum(), rtol=1e-12)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_relu_and_clip_do_not_leak_what_they_stop(order: int) -> None:
    x = sg.scalar("x")
    for y in (sg.relu(sg.sqrt(x) - 1), sg.clip(sg.sqrt(x), 1.0, 2.0)):
        for _ in range(order):
            y = grad(y, x)
        # At 0, where the derivative of the square root is infinite, the mask is closed.
        assert interpret(y, {x: 0.25})[0] == 0.0


def test_ties_of_max_and_min() -> None:
    for reduce in (sg.max, sg.min):
        g = gradient(lambda x, reduce=reduce: reduce(x), [2.0, 2.0, 2.0])  # type: ignore[misc]
        assert g.sum() == pytest.approx(1.0)
        g = gradient(lambda x, reduce=reduce: sg.sum(reduce(x, axis=1)), [[1.0, 1.0], [3.0, 0.0]])  # type: ignore[misc]
        np.testing.assert_allclose(g.sum(axis=1), [1, 1])
    x = [1.0, 7.0, 7.0, 3.0]
    g = gradient(lambda x: sg.max_and_argmax(x, axis=0)[0], x)
    assert g.sum() == pytest.approx(1.0)
    assert g[0] == g[3] == 0.0


@pytest.mark.parametrize("zeros", [0, 1, 2, 3])
@pytest.mark.parametrize("order", [1, 2])
def test_product_with_zeros(zeros: int, order: int) -> None:
    at = np.array([2.0, -3.0, 0.5, 4.0])
    at[:zeros] = 0.0
    others = np.array([np.prod(np.delete(at, i)) for i in range(4)])
    if order == 1:
        np.testing.assert_allclose(gradient(sg.prod, at), others)
        return
    pairs = np.array([[0.0 if i == j else np.prod(np.delete(at, [i, j])) for j in range(4)] for i in range(4)])
    v = np.array([1.0, 2.0, 3.0, 4.0])
    got = gradient(lambda x: sg.sum(grad(sg.prod(x), x) * v), at)
    np.testing.assert_allclose(got, pairs @ v)


def test_extreme_arguments_of_units_stay_finite() -> None:
    cases: list[tuple[Callable[..., Variable], float, float]] = [
        (sg.sigmoid, 1e4, 0.0),
        (sg.sigmoid, -1e4, 0.0),
        (sg.softplus, 1e4, 1.0),
        (sg.softplus, -1e4, 0.0),
        (sg.tanh, 1e4, 0.0),
        (sg.logsumexp, 1e4, 1.0),
    ]
    for fn, at, want in cases:
        (first,), (second,) = derivatives(fn, at), derivatives(fn, at, order=2)
        assert first == want
        assert second == 0.0
    assert derivatives(sg.logaddexp, 1e4, -1e4) == [1.0, 0.0]
    z = np.array([1e4, 0.0, -1e4])
    np.testing.assert_array_equal(gradient(lambda x: sg.sum(sg.softmax(x) * np.array([1.0, 2.0, 3.0])), z), [0, 0, 0])
    np.testing.assert_array_equal(gradient(lambda x: sg.log_softmax(x)[1], z), [-1, 1, 0])


def test_softplus_and_sigmoid_derivatives_do_not_cancel() -> None:
    # sigma'(x) = sigma(x) sigma(-x) ~ exp(-x): with 1 - sigma(x) it would be 0 from x = 37 on.
    (got,) = derivatives(sg.sigmoid, 40.0)
    assert got == pytest.approx(np.exp(-40.0), rel=1e-12)
