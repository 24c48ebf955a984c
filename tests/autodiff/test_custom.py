"""Functions with derivatives of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import symgraph as sg
from symgraph.errors import DTypeError, NotDifferentiableError, RuleError
from symgraph.graph import Variable
from symgraph.runtime.interpreter import interpret
from symgraph.testing import check_grads

RNG = np.random.default_rng(0)


def value(v: Variable, givens: dict[Variable, Any]) -> NDArray[Any]:
    (out,) = interpret(v, givens)
    return out


norm = sg.custom_vjp(
    lambda x: sg.sqrt(sg.sum(x * x)), lambda x, out, ct: ct * sg.where(out > 0, x / out, sg.zeros_like(x))
)
log1pexp = sg.custom_jvp(lambda x: sg.log(1 + sg.exp(x)), lambda x, out, t: t * sg.sigmoid(x))


def test_the_rule_is_what_counts() -> None:
    x = sg.vector("x", shape=(2,))
    g = sg.grad(norm(x), x)
    np.testing.assert_allclose(value(g, {x: np.array([3.0, 4.0])}), [0.6, 0.8])
    np.testing.assert_array_equal(value(g, {x: np.zeros(2)}), [0, 0])  # where the derivative of sqrt is infinite
    f = sg.function([x], [norm(x), g])
    np.testing.assert_allclose(f(np.array([3.0, 4.0]))[0], 5.0)
    np.testing.assert_array_equal(f(np.zeros(2))[1], [0, 0])
    tripled = sg.custom_vjp(sg.sin, lambda x, out, ct: 3 * ct)
    np.testing.assert_array_equal(value(sg.grad(sg.sum(tripled(x)), x), {x: np.ones(2)}), [3, 3])


@pytest.mark.parametrize("fn", [norm, log1pexp])
def test_both_modes_to_third_order(fn: Any) -> None:
    check_grads(fn, [RNG.normal(size=3)], order=3)


def test_higher_orders_are_of_the_rule() -> None:
    x = sg.scalar("x")
    at: dict[Variable, Any] = {x: 800.0}  # where exp overflows
    np.testing.assert_allclose(value(sg.grad(log1pexp(x), x), at), 1.0)
    np.testing.assert_allclose(value(sg.grad(sg.grad(log1pexp(x), x), x), at), 0.0)
    got, want = (interpret(sg.taylor(f(x), x, 1.0, 4), {x: 0.3}) for f in (log1pexp, sg.softplus))
    np.testing.assert_allclose(np.array(got), np.array(want))


def test_several_inputs_and_outputs() -> None:
    def pair(x: Variable, k: Variable, n: Variable) -> tuple[Variable, Variable]:
        return x * k, x + k + n

    made = sg.custom_vjp(pair, lambda x, k, n, out, ct: (ct[0] * k + ct[1], None, None))
    x, k, n = sg.scalar("x"), sg.scalar("k"), sg.scalar("n", dtype="int64")
    a, b = made(x, k, n)
    at: dict[Variable, Any] = {x: 2.0, k: 5.0, n: 1}
    assert [float(v) for v in interpret([a, b], at)] == [10.0, 8.0]
    assert float(value(sg.grad(a + 10 * b, x), at)) == 15.0
    assert float(value(sg.grad(a, x), at)) == 5.0  # the cotangent of the other one is zero
    assert float(value(sg.grad(a, k), at)) == 0.0  # stated as zero
    along = sg.custom_jvp(pair, lambda x, k, n, out, tx, tk: (tx * k + x * tk, None))
    a, b = along(x, k, n)
    assert float(value(sg.grad(a + 10 * b, x), at)) == 5.0
    assert float(value(sg.jvp(a, [x, k], [1.0, 2.0]), at)) == 9.0


def test_batches_keep_the_rule() -> None:
    X = sg.matrix("X", shape=("n", 2))
    at: dict[Variable, Any] = {X: np.array([[3.0, 4.0], [0.0, 0.0], [1.0, 0.0]])}
    want = np.array([[0.6, 0.8], [0, 0], [1, 0]])
    inside = sg.vmap(lambda x: sg.grad(norm(x), x))(X)
    outside = sg.grad(sg.sum(sg.vmap(norm)(X)), X)
    for g in (inside, outside):
        np.testing.assert_allclose(value(g, at), want)
        np.testing.assert_allclose(sg.function([X], g)(at[X]), want)
    twice = sg.vmap(sg.vmap(norm))(sg.expand_dims(X, 1))
    np.testing.assert_allclose(value(sg.grad(sg.sum(twice), X), at), want)
    np.testing.assert_allclose(value(sg.jacobian(norm(X[0]), X, mode="forward"), at)[0], want[0])


def test_a_rule_that_is_not_linear_has_no_transpose() -> None:
    clipped = sg.custom_vjp(lambda x: x * x, lambda x, out, ct: sg.clip(2 * x * ct, -1, 1))
    x = sg.scalar("x")
    assert float(value(sg.grad(clipped(x), x), {x: 3.0})) == 1.0
    with pytest.raises(NotDifferentiableError, match="not linear"):
        sg.jvp(clipped(x), x, 1.0)


def test_forward_mode_of_a_rule_with_a_checkpoint() -> None:
    """The recomputation in the rule waits for the cotangent, and yet the rule is linear in it."""
    inner = sg.checkpoint(lambda x: sg.sin(x) * sg.sum(x))
    outer = sg.custom_vjp(inner, lambda x, out, ct: sg.vjp(inner)(x, cotangent=ct)[1])
    plain = lambda x: sg.sin(x) * sg.sum(x)  # noqa: E731
    at = np.array([0.3, -0.4, 0.7])
    np.testing.assert_allclose(sg.jvp(outer)(at, tangent=at)[1], sg.jvp(plain)(at, tangent=at)[1])
    costs = [lambda x, f=f: sg.sum(f(x) ** 2) for f in (outer, plain)]
    np.testing.assert_allclose(*[sg.hessian(f)(at) for f in costs])
    np.testing.assert_allclose(
        sg.taylor(outer, order=3)(at, direction=at)[3], sg.taylor(plain, order=3)(at, direction=at)[3]
    )


@pytest.mark.parametrize(
    "rule",
    [
        lambda x, y, out, ct: ct,  # one result for two inputs
        lambda x, y, out, ct: (ct, ct, ct),
        lambda x, y, out, ct: (sg.sum(ct), ct),
        lambda x, y, out, ct: (sg.cast(ct, "float32"), ct),
        lambda x, y, out, ct: (ct[:2], ct),
    ],
)
def test_wrong_rules_are_found_when_they_are_used(rule: Any) -> None:
    def product(x: Variable, y: Variable) -> Variable:
        return x * y

    x = sg.vector("x", shape=(3,))
    with pytest.raises(RuleError, match=r"custom_vjp\(product\).*test_custom.py"):
        sg.custom_vjp(product, rule)(x, x)


def test_wrong_arguments() -> None:
    with pytest.raises(DTypeError):
        sg.custom_vjp(sg.sin, sg.scalar("x"))  # type: ignore[arg-type]
    with pytest.raises(DTypeError):
        sg.custom_jvp(lambda x: 3.0, lambda x, out, t: t)(sg.scalar("x"))
