"""Rows that a `where` excludes have no part in derivatives, also behind a matrix product, whatever stands in them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.graph import toposort

RNG = np.random.default_rng(0)
X, W, V = RNG.normal(size=(4, 3)), RNG.normal(size=(3, 2)), RNG.normal(size=(2, 2))
VALID = np.array([True, False, True, True])

FUNCTIONS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "rows": lambda x, w, v: sg.sum(sg.where(v[:, None], sg.exp(x @ w), 0)),
    "the other branch": lambda x, w, v: sg.sum(sg.where(sg.logical_not(v)[:, None], 0, sg.exp(x @ w))),
    "two layers": lambda x, w, v: sg.sum(sg.where(v[:, None], sg.exp(sg.relu(x @ w) @ V), 0)),
    "mean of two masks": lambda x, w, v: sg.mean(sg.where(v[:, None], sg.where(x @ w > 0, sg.tanh(x @ w), 0), 0)),
    "logsumexp": lambda x, w, v: sg.sum(sg.where(v, sg.logsumexp(x @ w, axis=1), 0)),
    "softmax": lambda x, w, v: sg.sum(sg.where(v, sg.sum(sg.softmax(x @ w, axis=1) * V[0], axis=1), 0)),
    "log softmax": lambda x, w, v: sg.sum(sg.where(v[:, None], sg.log(sg.softmax(x @ w, axis=1)), 0) * V[0]),
    "square error": lambda x, w, v: sg.sum(sg.where(v, sg.sum(sg.square(x @ w), axis=1), 0)),
    "norm": lambda x, w, v: sg.sum(sg.where(v, sg.sqrt(sg.sum(sg.square(x @ w), axis=1)), 0)),
    "product": lambda x, w, v: sg.sum(sg.where(v, sg.prod(x @ w, axis=1), 0)),
    "a vector of results": lambda x, w, v: sg.sum(sg.where(v, sg.exp(x @ w[:, 0]), 0)),
    "from the left": lambda x, w, v: sg.sum(sg.where(v, sg.exp(w.T @ x.T), 0)),
    "a stack": lambda x, w, v: sg.sum(
        sg.where(v[:, None, None], sg.exp(sg.reshape(x, (4, 1, 3)) @ sg.broadcast_to(w, (4, 3, 2))), 0)
    ),
    "one condition for all": lambda x, w, v: sg.where(v[1], sg.sum(sg.exp(x @ w)), sg.sum(w)),
}
MODES: dict[str, Callable[[Any], Callable[..., Any]]] = {
    "grad of w": lambda f: sg.grad(f, argnums=1),
    "grad of x": lambda f: sg.grad(f),
    "hessian": lambda f: sg.hessian(f, argnums=1),
    "grad of grad": lambda f: sg.grad(lambda x, w, v: sg.sum(sg.square(sg.grad(f, argnums=1)(x, w, v))), argnums=1),
    "jvp": lambda f: lambda x, w, v: sg.jvp(f, argnums=1)(x, w, v, tangent=W)[1],
    "vmap": lambda f: lambda x, w, v: sg.vmap(sg.grad(f, argnums=1), in_axes=(None, 0, None))(x, np.stack([w, -w]), v),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_stands_in_excluded_rows_does_not_matter(name: str, mode: str) -> None:
    derivative = MODES[mode](FUNCTIONS[name])
    expected = derivative(X, W, VALID)
    assert np.isfinite(expected).all()
    for bad in (np.nan, np.inf):
        x = X.copy()
        x[1] = bad
        np.testing.assert_allclose(derivative(x, W, VALID), expected, rtol=1e-12)


def test_columns_too() -> None:
    w = W.copy()
    w[:, 1] = np.nan
    columns = np.array([True, False])

    def f(x: Any, w: Any) -> Any:
        return sg.sum(sg.where(columns, sg.exp(x @ w), 0))

    for k in (0, 1):
        expected = sg.grad(f, argnums=k)(X, W)
        np.testing.assert_allclose(sg.grad(f, argnums=k)(X, w), expected)


def test_a_mask_of_single_elements_is_kept_out_by_a_second_where() -> None:
    """What no matrix product can do, here as elsewhere: each sum needs other rows of the operand."""
    x, w = sg.matrix("x", shape=(4, 3)), sg.matrix("w", shape=(3, 2))
    bad = X.copy()
    bad[1, 0] = np.nan
    product = x @ w
    cost = sg.sum(sg.where(sg.isfinite(product), sg.exp(product), 0))
    g = sg.function([x, w], [cost, sg.grad(cost, w)])
    assert np.isfinite(g(bad, W)[0])
    assert np.isnan(g(bad, W)[1][0]).all()
    safe = sg.where(sg.isfinite(x), x, 0) @ w
    cost = sg.sum(sg.where(sg.isfinite(product), sg.exp(safe), 0))
    rest = [0, 2, 3]
    np.testing.assert_allclose(sg.function([x, w], sg.grad(cost, w))(bad, W), X[rest].T @ np.exp(X[rest] @ W))


def test_the_sign_of_a_product_costs_no_masked_operands() -> None:
    x, w, b = sg.matrix("x", shape=(4, 3)), sg.matrix("w", shape=(3, 2)), sg.vector("b", shape=(2,))
    u = sg.vector("u", shape=(3,))
    for cost in (sg.sum(sg.relu(sg.relu(x @ w + b) @ V)), sg.sum(sg.relu(u @ w))):
        wheres = [n for n in toposort([sg.grad(cost, w)]) if n.op is sg.where]
        assert len(wheres) == str(sg.print_graph(sg.Graph([], [cost]))).count("relu")
