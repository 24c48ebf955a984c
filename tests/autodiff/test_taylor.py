"""Taylor mode of functions of many ops. (Each op by itself: the column "series" of the table in `test_registry.py`.)"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import symgraph as sg
from symgraph.errors import CheckError, DisconnectedError, DTypeError, FormatError
from symgraph.graph import Variable, toposort
from symgraph.op import Derivative, Op, apply
from symgraph.ops.series import Series, times
from symgraph.runtime.interpreter import interpret
from symgraph.testing import check_op, random_program
from symgraph.testing.programs import from_hypothesis


def nested(y: Variable, x: list[Variable], direction: list[Any], order: int) -> list[Variable]:
    """Derivatives along a line by repeated forward mode."""
    out = [y]
    for _ in range(order):
        out.append(sg.jvp(out[-1], x, direction, disconnected="zero"))
    return out


def agree(got: NDArray[Any], want: NDArray[Any], what: str) -> None:
    finite = want[np.isfinite(want)]
    scale = float(np.max(np.abs(finite))) if finite.size else 1.0
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-11 * max(scale, 1.0), err_msg=what)


FUNCTIONS: dict[str, tuple[Callable[[Variable], Variable], Callable[[mpmath.mpf], mpmath.mpf]]] = {
    "exp(sin x)/(1+x^2)": (
        lambda x: sg.exp(sg.sin(x)) / (1 + x**2),
        lambda x: mpmath.exp(mpmath.sin(x)) / (1 + x**2),
    ),
    "tanh(sin x exp(-x^2) + cos 3x)": (
        lambda x: sg.tanh(sg.sin(x) * sg.exp(-(x**2)) + sg.cos(3 * x)),
        lambda x: mpmath.tanh(mpmath.sin(x) * mpmath.exp(-(x**2)) + mpmath.cos(3 * x)),
    ),
    "sin(sin(sin x))": (lambda x: sg.sin(sg.sin(sg.sin(x))), lambda x: mpmath.sin(mpmath.sin(mpmath.sin(x)))),
    "softplus": (sg.softplus, lambda x: mpmath.log(1 + mpmath.exp(x))),
    "sigmoid(-x)": (lambda x: sg.sigmoid(-x), lambda x: 1 / (1 + mpmath.exp(x))),
    "log-sum-exp": (
        lambda x: sg.logsumexp(sg.stack([x, 2 * x, x * x])),
        lambda x: mpmath.log(mpmath.exp(x) + mpmath.exp(2 * x) + mpmath.exp(x * x)),
    ),
    "variable power": (lambda x: (2 + sg.sin(x)) ** x, lambda x: (2 + mpmath.sin(x)) ** x),
    "real power": (lambda x: (2 + x) ** 2.5, lambda x: (2 + x) ** mpmath.mpf(2.5)),
    "negative power": (lambda x: (2 + x) ** -3, lambda x: (2 + x) ** -3),
    "roots": (lambda x: sg.sqrt(2 + x) * sg.cbrt(3 + x), lambda x: mpmath.sqrt(2 + x) * mpmath.cbrt(3 + x)),
    "arcs": (
        lambda x: sg.arctan(x) + sg.arcsin(x / 2) + sg.arctanh(x / 3),
        lambda x: mpmath.atan(x) + mpmath.asin(x / 2) + mpmath.atanh(x / 3),
    ),
    "erf, log": (
        lambda x: sg.erf(x) * sg.log(2 + x) - sg.log1p(x * x),
        lambda x: mpmath.erf(x) * mpmath.log(2 + x) - mpmath.log(1 + x * x),
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_tenth_order_against_mpmath(name: str) -> None:
    fn, exact = FUNCTIONS[name]
    x = sg.scalar("x")
    derivatives = sg.taylor(fn(x), x, 1.0, 10)
    with mpmath.workdps(50):
        for at in (0.3, -0.7):
            found = mpmath.taylor(exact, mpmath.mpf(at), 10)
            want = np.array([float(c * mpmath.factorial(k)) for k, c in enumerate(found)])
            got = np.array(interpret(derivatives, {x: at}))
            # Of each order by itself: the tenth derivative is some million times the first.
            scale = np.maximum(np.abs(want), [float(mpmath.factorial(k)) * 1e-3 for k in range(11)])
            np.testing.assert_allclose(got / scale, want / scale, rtol=0, atol=1e-10)


def test_direction_scales_derivatives() -> None:
    x, v = sg.vector("x", shape=(3,)), np.array([0.5, -1.0, 2.0])
    at = np.array([0.1, 0.2, 0.3])
    for k, d in enumerate(interpret(sg.taylor(sg.exp(2 * x), x, v, 6), {x: at})):
        np.testing.assert_allclose(d, np.exp(2 * at) * (2 * v) ** k, rtol=1e-12)


def test_size_and_time_of_the_tenth_derivative() -> None:
    x = sg.vector("x", shape="n")
    start = time.perf_counter()
    y = sg.derivative(sg.exp(sg.sin(x)) / (1 + x**2), x, 10)
    assert time.perf_counter() - start < 1
    assert len(toposort([y])) < 250


def test_cost_is_polynomial_in_the_order() -> None:
    x = sg.scalar("x")
    for fn, _ in FUNCTIONS.values():
        sizes = [len(toposort(sg.taylor(fn(x), x, 1.0, k))) for k in (4, 8, 16)]
        assert sizes[2] < 12 * sizes[1], sizes  # 2**3.6 for twice the order; exponential growth would be 2**8 or more


def test_tensors_and_products() -> None:
    rng = np.random.default_rng(1)
    X, W = sg.matrix("X", shape=(4, 3)), sg.matrix("W", shape=(3, 2))
    y = sg.log_softmax(sg.tanh(X @ W) @ sg.transpose(W), axis=1)
    at = {X: rng.normal(size=(4, 3)), W: rng.normal(size=(3, 2))}
    directions = [rng.normal(size=(3, 2)), rng.normal(size=(4, 3))]
    got = interpret(sg.taylor(y, [W, X], directions, 5), at)
    want = interpret(nested(y, [W, X], directions, 5), at)
    for k, (g, w) in enumerate(zip(got, want, strict=True)):
        agree(g, w, f"derivative {k}")


def test_intermediate_variables_and_several_outputs() -> None:
    t = sg.scalar("t")
    h = sg.exp(t)
    pair = sg.taylor((h * h, sg.sin(t) * h), h, 1.0, 2)
    assert isinstance(pair, tuple)
    values = [interpret(d, {t: 0.5}) for d in pair]
    np.testing.assert_allclose(values[0], [np.exp(1.0), 2 * np.exp(0.5), 2.0])
    np.testing.assert_allclose(values[1], [np.sin(0.5) * np.exp(0.5), np.sin(0.5), 0.0])


def test_at_kinks_and_zeros() -> None:
    x = sg.vector("x", shape=(3,))
    at = {x: np.array([0.0, -1.0, 2.0])}
    np.testing.assert_array_equal(interpret(sg.derivative(x**3, x, 2), at)[0], [0.0, -6.0, 12.0])
    np.testing.assert_array_equal(interpret(sg.derivative(x**3, x, 4), at)[0], np.zeros(3))
    safe = sg.where(x > 0, sg.sqrt(x), 0.0)
    np.testing.assert_allclose(interpret(sg.derivative(safe, x, 2), at)[0], [0, 0, -0.25 * 2**-1.5])
    np.testing.assert_array_equal(interpret(sg.derivative(sg.relu(x) * x, x, 2), at)[0], [0, 0, 2])
    np.testing.assert_array_equal(interpret(sg.derivative(sg.floor(x) * x, x, 2), at)[0], np.zeros(3))
    np.testing.assert_allclose(
        interpret(sg.derivative(sg.sigmoid(x), x, 2), {x: np.full(3, 40.0)})[0], -np.exp(-40.0), rtol=1e-12
    )


def test_naive_expressions_are_stable_first() -> None:
    x = sg.scalar("x")
    naive = sg.log(1 + sg.exp(x))
    assert sg.taylor(naive, x, 1.0, 2)[0] is naive
    for at in (30.0, 800.0):
        got = interpret(sg.taylor(naive, x, 1.0, 4)[1:], {x: at})
        want = interpret(sg.taylor(sg.softplus(x), x, 1.0, 4)[1:], {x: at})
        np.testing.assert_allclose(np.array(got), np.array(want), rtol=1e-12)


def test_dtypes_stay() -> None:
    x = sg.vector("x", dtype="float32")
    for d in sg.taylor(sg.exp(x) * sg.cast(sg.cast(x, "float64") ** 2, "float32"), x, np.ones(2, "float32"), 4):
        assert d.type.dtype == np.float32
    half = sg.vector("h", dtype="float16")
    (top,) = interpret(sg.derivative(half * half, half, 12), {half: np.ones(2, "float16")})
    np.testing.assert_array_equal(top, np.zeros(2))


def test_a_rule_of_a_users_op() -> None:
    calls: list[int] = []

    class Cube(Op):
        """x³"""

        name = "cube_with_series"

        def infer(self, x: sg.TensorType) -> sg.TensorType:
            return x

        def reference(self, x: NDArray[Any]) -> NDArray[Any]:
            return np.asarray(x**3)

        def series(self, k: int, inputs: Any, outputs: Any) -> list[Derivative]:
            calls.append(k)
            (x,) = inputs
            found: Series = x.of(x.variable * x.variable * x.variable)
            return [times(found(k), sg.ones_like(x.variable))]

    x = sg.scalar("x")
    values = interpret(sg.taylor(apply(Cube(), sg.sin(x)), x, 1.0, 3), {x: 0.4})
    np.testing.assert_allclose(values, interpret(sg.taylor(sg.sin(x) ** 3, x, 1.0, 3), {x: 0.4}))
    assert calls == [1, 2, 3]


def test_a_wrong_rule_is_found() -> None:
    class Wrong(type(sg.square)):  # type: ignore[misc]
        def series(self, k: int, inputs: Any, outputs: Any) -> list[Derivative]:
            return [inputs[0](k)]

    wrong = object.__new__(Wrong)
    wrong.__dict__.update(sg.square.__dict__)
    with pytest.raises(CheckError, match="series"):
        check_op(wrong)


def test_deep_graphs_and_high_orders() -> None:
    x = sg.scalar("x")
    y = x
    for _ in range(3000):
        y = sg.sin(y) + 0.001
    assert len(sg.taylor(y, x, 1.0, 2)) == 3
    z = sg.derivative(sg.softplus(sg.tanh(x)), x, 40)
    assert np.isfinite(interpret(z, {x: 0.3})[0])


def test_errors() -> None:
    x, other = sg.scalar("x"), sg.scalar("other")
    with pytest.raises(FormatError, match="order"):
        sg.taylor(x, x, 1.0, -1)
    with pytest.raises(DisconnectedError):
        sg.taylor(sg.exp(x), other, 1.0, 2)
    assert sg.taylor(sg.exp(x), other, 1.0, 2, disconnected="none")[1:] == [None, None]
    with pytest.raises(DTypeError):
        sg.taylor(sg.exp(x), x, np.float32(1), 2)


@settings(max_examples=40)
@given(st.data())
def test_random_programs(data: st.DataObject) -> None:
    program = random_program(from_hypothesis(data.draw), steps=8)
    cost = program.cost()
    rng = np.random.default_rng(0)
    tangents = [Variable(v.type) for v in program.inputs]
    at = {**program.givens, **{t: rng.normal(size=v.shape) for t, v in zip(tangents, program.values, strict=True)}}
    got = interpret(sg.taylor(cost, program.inputs, tangents, 3, disconnected="zero"), at)
    want = interpret(nested(cost, program.inputs, tangents, 3), at)
    for k, (g, w) in enumerate(zip(got, want, strict=True)):
        agree(g, w, f"derivative {k}")


def test_compiled() -> None:
    x = sg.vector("x", shape="n")
    f = sg.function([x], sg.derivative(sg.exp(sg.sin(x)) / (1 + x**2), x, 10))
    assert len(f.program.kernels) == 1
    at = np.linspace(-1, 1, 7)
    want = [float(mpmath.diff(lambda t: mpmath.exp(mpmath.sin(t)) / (1 + t * t), a, 10)) for a in at]
    np.testing.assert_allclose(f(at), want, rtol=1e-7)


def test_orders_beyond_the_largest_factorial() -> None:
    """36! is no float32. Coefficients of 1 / (1 - x) are all 1 at 0, so its derivatives become infinite there."""
    x = sg.scalar("x", dtype="float32")
    (got,) = interpret(sg.derivative(1 / (1 - x), x, 36), {x: 0.0})
    assert got.dtype == np.float32
    assert np.isinf(got)
    (got,) = interpret(sg.derivative(1 / (20 - x), x, 36), {x: 0.0})
    assert 0 <= got < 1e-4
