"""Points where a function has no derivative, or a formula breaks down: what docstrings promise there. [6.3]"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import symgraph as sg
from symgraph.autodiff import grad, jvp
from symgraph.errors import DisconnectedError, DTypeError, NotDifferentiableError
from symgraph.graph import Variable
from symgraph.op import apply
from symgraph.runtime.interpreter import interpret
from symgraph.testing.kinks import KINKS, Kink

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


# -- every line of the published table --------------------------------------------------------------------------------


def along(k: Kink, argument: int, mode: str) -> tuple[list[Any], list[Any]]:
    """The first and the second derivative in one argument."""
    at = [np.asarray(p, float) for p in k.at]
    xs = [sg.tensor(f"x{i}", shape=p.shape) for i, p in enumerate(at)]
    x, shape = xs[argument], at[argument].shape
    y = sg.sum(k.fn(*xs))
    ones = np.ones(shape)
    units = [np.reshape(u, shape) for u in np.eye(ones.size)]
    if mode == "reverse":
        first = [grad(y, x, disconnected="zero")]
        second = [grad(sg.sum(first[0]), x, disconnected="zero")]
    elif mode == "forward":
        first = [jvp(y, x, u, disconnected="zero") for u in units]
        second = [jvp(jvp(y, x, ones, disconnected="zero"), x, u, disconnected="zero") for u in units]
    else:
        _, f, s = sg.taylor(y, x, ones, 2, disconnected="zero")
        first, second = [f], [s]
    found = interpret([*first, *second], dict(zip(xs, at, strict=True)))
    return found[: len(first)], found[len(first) :]


@pytest.mark.parametrize("mode", ["reverse", "forward", "taylor"])
@pytest.mark.parametrize("k", KINKS, ids=lambda k: k.where)
def test_published(k: Kink, mode: str) -> None:
    with np.errstate(all="ignore"):
        for i in range(len(k.at)):
            found = along(k, i, mode)
            for got, want in zip(found, (k.first, k.second), strict=True):
                if want is not None:
                    wanted = np.sum(want[i]) if mode == "taylor" else np.ravel(want[i])
                    np.testing.assert_allclose(np.ravel(got), np.ravel(wanted), rtol=1e-15, err_msg=f"argument {i}")


def test_the_other_ops_of_a_line() -> None:
    with np.errstate(all="ignore"):
        for step in (sg.ceil, sg.trunc):
            assert derivatives(step, 2.0) == [0.0]
        assert derivatives(sg.fmod, 4.0, 2.0) == [1.0, -2.0]
        assert derivatives(sg.arctanh, 1.0) == [inf]
        assert gradient(sg.min, [1.0, 1.0, 2.0]).tolist() == [0.5, 0.5, 0]


def test_beside_a_kink_the_derivative_is_that_side_s() -> None:
    assert derivatives(sg.relu, 1e-300) == [1.0]
    assert derivatives(sg.absolute, -2.0) == [-1.0]
    clip = lambda x: sg.clip(x, -1.0, 1.0)  # noqa: E731
    assert [derivatives(clip, at)[0] for at in (-2.0, -1.0, 1.0, 1.0000001)] == [0, 1, 1, 0]
    assert derivatives(lambda x: sg.clip(x, None, 1.0), 2.0) == [0.0]
    assert np.isnan(derivatives(sg.hypot, nan, 1.0)).all()


def test_a_tie_is_shared() -> None:
    for fn in (sg.maximum, sg.minimum):
        assert sum(derivatives(fn, 1.5, 2.0)) == 1.0


# -- absences ---------------------------------------------------------------------------------------------------------


class Opaque(sg.Op):
    """The identity, without a rule."""

    name = "opaque"

    def infer(self, *inputs: Any) -> Any:
        return inputs[0]


@pytest.mark.parametrize("mode", ["reverse", "forward", "taylor"])
def test_zero_disconnected_and_undefined_are_three_answers(mode: str) -> None:
    x, other = sg.scalar("x"), sg.scalar("other")

    def derivative(y: Variable, disconnected: Any = "raise") -> Any:
        if mode == "reverse":
            return grad(y, x, disconnected=disconnected)
        if mode == "forward":
            return jvp(y, x, 1.0, disconnected=disconnected)
        return sg.taylor(y, x, 1.0, 1, disconnected=disconnected)[1]

    # zero: there is a derivative, and it is 0, however it is asked for
    for zero in (sg.floor(x), sg.sign(x) * other, sg.zero_gradient(x)):
        for answer in ("raise", "zero", "none"):
            assert interpret(derivative(zero, answer), {x: 0.5, other: 2.0})[0] == 0.0
    # disconnected: nothing to differentiate; an error unless another answer is asked for
    for through in (
        other * 2,
        sg.stop_gradient(x) * 2,
        sg.cast(sg.cast(x, "int64"), "float64"),
        sg.where(x > 0, 1.0, 2.0),
    ):
        with pytest.raises(DisconnectedError, match=r"test_kinks\.py"):
            derivative(through)
        assert derivative(through, "none") is None
        assert interpret(derivative(through, "zero"), {x: 0.5})[0] == 0.0
    # undefined: an error always, which names the operation
    for answer in ("raise", "zero", "none"):
        with pytest.raises(NotDifferentiableError, match=r"opaque: the derivative is not defined.*test_kinks\.py"):
            derivative(apply(Opaque(), x), answer)


def test_integers_have_no_derivative_and_do_not_need_one() -> None:
    x, i = sg.vector("x", shape=(3,)), sg.vector("i", shape=(3,), dtype="int64")
    y = sg.sum(x * i)
    with pytest.raises(DTypeError, match=r"i: int64\[3\] is not of a float dtype.*test_kinks\.py"):
        grad(y, i)
    with pytest.raises(DTypeError, match=r"i: int64\[3\] is not of a float dtype"):
        jvp(y, i, np.ones(3))
    with pytest.raises(DTypeError, match=r"i: int64\[3\] is not of a float dtype"):
        sg.taylor(y, i, np.ones(3), 2)
    assert interpret(grad(y, x), {i: [1, 2, 3]})[0].tolist() == [1, 2, 3]
    assert interpret(jvp(y, x, np.ones(3)), {i: [1, 2, 3]})[0] == 6


def test_unused_inputs() -> None:
    x, unused = sg.scalar("x"), sg.vector("unused", shape=(2,))
    with pytest.raises(DisconnectedError, match="does not depend on unused"):
        grad(x * x, [x, unused])
    got = grad(x * x, [x, unused], disconnected="zero")
    assert [v.tolist() for v in interpret(got, {x: 3.0})] == [6.0, [0.0, 0.0]]
    assert interpret(jvp(x * x, [x, unused], [1.0, np.ones(2)]), {x: 3.0})[0] == 6.0


@pytest.mark.parametrize(
    "fn", [sg.sum, sg.prod, sg.mean, sg.logsumexp, lambda x: sg.sum(sg.softmax(x)), lambda x: x @ x]
)
def test_empty_tensors(fn: Any) -> None:
    x = sg.vector("x", shape=(0,))
    y = fn(x)
    g = grad(y, x)
    h = sg.hessian(y, x, disconnected="zero")
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # NumPy's, of the mean of nothing
        assert interpret(g, {x: np.zeros(0)})[0].shape == (0,)
        assert interpret(h, {x: np.zeros(0)})[0].shape == (0, 0)
        assert interpret(jvp(y, x, np.zeros(0)), {x: np.zeros(0)})[0] in (0.0, pytest.approx(nan, nan_ok=True))
    rows = sg.matrix("rows", shape=(0, 3))
    assert interpret(grad(sg.sum(sg.exp(rows) @ np.ones(3)), rows), {rows: np.zeros((0, 3))})[0].shape == (0, 3)


def test_an_input_that_is_its_own_cotangent_and_direction() -> None:
    x = sg.vector("x", shape=(2,))
    at = {x: np.array([2.0, 3.0])}
    # x' diag(2x) = 2 x**2; and the derivative of that sees both roles of x.
    own = sg.vjp(x * x, x, x)
    assert interpret(own, at)[0].tolist() == [8.0, 18.0]
    assert interpret(grad(sg.sum(own), x), at)[0].tolist() == [8.0, 12.0]
    pushed = jvp(x * x, x, x)
    assert interpret(pushed, at)[0].tolist() == [8.0, 18.0]
    assert interpret(jvp(pushed, x, x), at)[0].tolist() == [16.0, 36.0]
    # In Taylor mode the direction is fixed: the second derivative along it is 2 x**2.
    assert interpret(sg.taylor(x * x, x, x, 2)[2], at)[0].tolist() == [8.0, 18.0]
    # A variable is its own derivative's seed, too.
    assert interpret(sg.vjp(x, x, x), at)[0].tolist() == [2.0, 3.0]


def test_one_variable_twice() -> None:
    x = sg.vector("x", shape=(2,))
    at = {x: np.array([2.0, 3.0])}
    assert interpret(grad(sg.sum(x * x), [x, x]), at)[0].tolist() == [4.0, 6.0]
    assert interpret(sg.vjp([x * x, x * x], x, [np.ones(2), np.ones(2)]), at)[0].tolist() == [8.0, 12.0]
    assert interpret(grad(x @ x, x), at)[0].tolist() == [4.0, 6.0]
    assert interpret(grad(sg.sum(sg.concatenate([x, x]) ** 2), x), at)[0].tolist() == [8.0, 12.0]
    assert interpret(sg.grad(lambda a, b: sg.sum(a * b))(x, x), at)[0].tolist() == [2.0, 3.0]


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
@pytest.mark.parametrize("mode", ["reverse", "forward", "taylor"])
def test_where_masks_the_branch_not_taken(order: int, mode: str) -> None:
    x = sg.vector("x", shape=(4,))
    # Each branch not taken is nan, infinite, or has a derivative that is.
    y = sg.where(x > 0, sg.sqrt(sg.where(x > 0, x, x)), x * x * x)
    safe = sg.where(x > 0, sg.log(x), sg.exp(1e3 * x) * 0 + x**4)
    total = sg.sum(y + safe)
    g: Variable = total
    for _ in range(0 if mode == "taylor" else order):
        g = grad(sg.sum(g), x) if mode == "reverse" else jvp(g, x, np.ones(4))
    if mode == "taylor":
        g = sg.taylor(total, x, np.ones(4), order)[order]
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
