"""Jacobians, Hessians and their kin, against closed forms and central differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import symgraph as sg
from symgraph.errors import CostError, DisconnectedError, DTypeError, FormatError, RankError, SizeError
from symgraph.graph import Variable, toposort
from symgraph.ops.contract import Contract
from symgraph.runtime.interpreter import interpret

RNG = np.random.default_rng(0)


def value(v: Variable, givens: dict[Variable, Any]) -> NDArray[Any]:
    (out,) = interpret(v, givens)
    return out


def differences(y: Variable, x: Variable, givens: dict[Variable, Any], h: float = 1e-5) -> NDArray[Any]:
    """The Jacobian by central differences of second order."""
    at = np.asarray(givens[x], "float64")
    out = np.zeros((*value(y, givens).shape, *at.shape))
    for k in np.ndindex(at.shape):
        step = np.zeros(at.shape)
        step[k] = h
        up, down = value(y, {**givens, x: at + step}), value(y, {**givens, x: at - step})
        out[(..., *k)] = (up - down) / (2 * h)
    return out


FUNCTIONS: dict[str, Callable[[Variable], Variable]] = {
    "elementwise": lambda x: sg.tanh(x) * x,
    "sum of all": lambda x: sg.sum(sg.sin(x) ** 2),
    "rows": lambda x: sg.logsumexp(x, axis=1),
    "softmax": lambda x: sg.softmax(x, axis=0),
    "product": lambda x: x @ sg.transpose(x),
    "product with a constant": lambda x: sg.exp(x @ np.linspace(0, 1, 8).reshape(4, 2)),
    "contraction to a scalar": lambda x: sg.einsum("ij,ij->", x, x * x),
    "indexing": lambda x: sg.concatenate([x[::-1, 1], sg.take(x, np.array([2, 0]), axis=1)[1]]),
    "broadcast to three axes": lambda x: sg.expand_dims(x, 0) * np.ones((2, 1, 1)) * x[0],
}


@pytest.mark.parametrize("mode", ["auto", "forward", "reverse"])
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("symbolic", [False, True])
def test_jacobians_of_matrices(name: str, mode: str, symbolic: bool) -> None:
    x = sg.matrix("x", shape=("n", 4) if symbolic else (3, 4))
    y = FUNCTIONS[name](x)
    J = sg.jacobian(y, x, mode=mode)
    assert J.type.ndim == y.type.ndim + 2
    assert J.type.dtype == y.type.dtype
    at: dict[Variable, Any] = {x: RNG.normal(size=(3, 4))}
    got = value(J, at)
    assert got.shape == (*value(y, at).shape, 3, 4)
    np.testing.assert_allclose(got, differences(y, x, at), rtol=1e-6, atol=1e-7)


def test_scalars_on_either_side() -> None:
    t, v = sg.scalar("t"), sg.vector("v", shape="n")
    at: dict[Variable, Any] = {t: 0.3, v: RNG.normal(size=3)}
    np.testing.assert_allclose(value(sg.jacobian(sg.sin(t), t), at), np.cos(0.3))
    np.testing.assert_allclose(value(sg.jacobian(sg.sin(t * v), t), at), np.cos(0.3 * at[v]) * at[v])
    for mode in ("forward", "reverse"):
        np.testing.assert_allclose(value(sg.jacobian(sg.sum(v**2), v, mode=mode), at), 2 * at[v])
    assert sg.jacobian(sg.sum(v**2), v).type == v.type


def test_auto_chooses_the_smaller_side() -> None:
    x = sg.vector("x", shape=(2,))
    wide = sg.concatenate([x * x, sg.sin(x), x])
    for J, size in ((sg.jacobian(wide, x), 2), (sg.jacobian(sg.sum(wide * wide[::-1]) * x, wide), 2)):
        bases = [n.outputs[0].type.shape for n in toposort([J]) if n.op.name == "equal"]
        assert bases == [(size, size)]


def test_empty_and_float32() -> None:
    x = sg.vector("x", shape="n", dtype="float32")
    J = sg.jacobian(sg.exp(x), x)
    assert J.type.dtype == np.float32
    assert value(J, {x: np.zeros(0, "float32")}).shape == (0, 0)


def test_structure_of_several() -> None:
    x, y = sg.vector("x", shape=(3,)), sg.scalar("y")
    f, g = sg.sin(x) * y, sg.sum(x * x) + y
    blocks = sg.jacobian([f, g], (x, y))
    assert isinstance(blocks, list)
    assert all(isinstance(row, tuple) for row in blocks)
    assert [[b.type.shape for b in row] for row in blocks] == [[(3, 3), (3,)], [(3,), ()]]
    at: dict[Variable, Any] = {x: RNG.normal(size=3), y: 0.7}
    for out, row in zip((f, g), blocks, strict=True):
        for source, block in zip((x, y), row, strict=True):
            np.testing.assert_allclose(value(block, at), differences(out, source, at), rtol=1e-6, atol=1e-8)


def test_intermediate_variables() -> None:
    x = sg.vector("x", shape=(3,))
    h = sg.exp(x)
    J = sg.jacobian(h * h, h)
    np.testing.assert_allclose(value(J, {x: np.zeros(3)}), 2 * np.eye(3))


def test_products_with_the_identity_are_not_computed() -> None:
    X, w = sg.matrix("X", shape=("n", "d")), sg.vector("w", shape="d")
    H = sg.hessian(sg.sum(sg.softplus(X @ w)), w)
    products = [n for n in toposort([H]) if isinstance(n.op, Contract)]
    assert len(products) == 2, products  # X @ w, and the one with Xᵀ that the closed form has too
    at: dict[Variable, Any] = {X: RNG.normal(size=(6, 3)), w: RNG.normal(size=3)}
    p = 1 / (1 + np.exp(-at[X] @ at[w]))
    np.testing.assert_allclose(value(H, at), at[X].T @ (at[X] * (p * (1 - p))[:, None]), rtol=1e-12)


def test_jacobian_of_a_network_in_its_matrices() -> None:
    X, W, V = sg.matrix("X", shape=("n", 3)), sg.matrix("W", shape=(3, 4)), sg.matrix("V", shape=(4, 2))
    y = sg.tanh(X @ W) @ V
    at: dict[Variable, Any] = {X: RNG.normal(size=(5, 3)), W: RNG.normal(size=(3, 4)), V: RNG.normal(size=(4, 2))}
    for mode in ("forward", "reverse"):
        for u in (X, W, V):
            J = sg.jacobian(y, u, mode=mode)
            np.testing.assert_allclose(value(J, at), differences(y, u, at), rtol=1e-6, atol=1e-7)


def test_hessian_blocks() -> None:
    X, W, b = sg.matrix("X", shape=("n", 3)), sg.matrix("W", shape=(3, 2)), sg.vector("b", shape=(2,))
    cost = -sg.mean(sg.log_softmax(X @ W + b, axis=1)[:, 0])
    blocks = sg.hessian(cost, [W, b])
    at: dict[Variable, Any] = {X: RNG.normal(size=(5, 3)), W: RNG.normal(size=(3, 2)), b: RNG.normal(size=2)}
    for i, u in enumerate((W, b)):
        g = sg.grad(cost, u)
        for j, v in enumerate((W, b)):
            assert blocks[i][j].type.shape == (*u.type.shape, *v.type.shape)
            np.testing.assert_allclose(value(blocks[i][j], at), differences(g, v, at), rtol=1e-6, atol=1e-8)
    linear = sg.hessian(sg.sum(b) * 2.0, b)
    np.testing.assert_array_equal(value(linear, at), np.zeros((2, 2)))
    scalar = sg.scalar("s")
    assert float(value(sg.hessian(scalar**3, scalar), {scalar: 2.0})) == 12.0


def test_hessian_products_agree() -> None:
    x = sg.vector("x", shape=(4,))
    cost = sg.sum(sg.sin(x) * x[::-1]) + sg.prod(x)
    at: dict[Variable, Any] = {x: RNG.normal(size=4)}
    H, v = value(sg.hessian(cost, x), at), RNG.normal(size=4)
    np.testing.assert_allclose(H, H.T, rtol=1e-12)
    np.testing.assert_allclose(value(sg.hvp(cost, x, v), at), H @ v, rtol=1e-12)


def test_gauss_newton() -> None:
    X, W = sg.matrix("X", shape=("n", 3)), sg.matrix("W", shape=(3, 2))
    z = sg.tanh(X @ W)
    cost = -sg.mean(sg.log_softmax(z, axis=1)[:, 0])
    v = RNG.normal(size=(3, 2))
    at: dict[Variable, Any] = {X: RNG.normal(size=(5, 3)), W: RNG.normal(size=(3, 2))}
    got = value(sg.ggn_vp(cost, z, W, v), at)
    J, H = value(sg.jacobian(z, W), at).reshape(10, 6), value(sg.hessian(cost, z), at).reshape(10, 10)
    np.testing.assert_allclose(got.ravel(), J.T @ (H @ (J @ v.ravel())), rtol=1e-12, atol=1e-14)
    (several,) = sg.ggn_vp(cost, [z], [W], [v])
    np.testing.assert_allclose(value(several, at), got)
    flat = sg.ggn_vp(sg.sum(z), z, W, v)  # a linear cost has no curvature
    np.testing.assert_array_equal(value(flat, at), np.zeros((3, 2)))


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_laplacian(shape: tuple[int, ...]) -> None:
    x = sg.tensor("x", shape=shape)
    y = sg.prod(sg.sin(x)) + sg.sum(x**4)
    at: dict[Variable, Any] = {x: RNG.normal(size=shape)}
    n = int(np.prod(shape))
    want = np.trace(value(sg.hessian(y, x), at).reshape(n, n))
    np.testing.assert_allclose(value(sg.laplacian(y, x), at), want, rtol=1e-12)


def test_laplacian_of_several_and_of_vectors() -> None:
    x, t = sg.vector("x", shape="n"), sg.scalar("t")
    r2 = sg.sum(x * x)
    at: dict[Variable, Any] = {x: RNG.normal(size=3), t: 0.4}
    np.testing.assert_allclose(value(sg.laplacian(r2 ** (-0.5), x), at), 0, atol=1e-12)  # 1/r is harmonic
    np.testing.assert_allclose(value(sg.laplacian(sg.stack([r2, r2 * r2]), x), at), [6, 20 * float(at[x] @ at[x])])
    np.testing.assert_allclose(value(sg.laplacian(r2 * t**2, [x, t]), at), 6 * 0.16 + 2 * float(at[x] @ at[x]))
    np.testing.assert_array_equal(value(sg.laplacian(sg.sum(x), x), at), 0)


def test_linearize_shares_the_primal() -> None:
    x = sg.vector("x", shape=(3,))
    y, push = sg.linearize(sg.exp(sg.sin(x)), x)
    a, b = push(np.ones(3)), push(sg.vector("t", shape=(3,)))
    assert set(toposort([y])) <= set(toposort([a]))
    extra = set(toposort([b])) - set(toposort([a]))
    assert len(extra) <= 2  # the products with the tangent; cos(x) is there already
    at: dict[Variable, Any] = {x: np.array([0.1, 0.2, 0.3])}
    np.testing.assert_allclose(value(a, at), np.exp(np.sin(at[x])) * np.cos(at[x]))
    with pytest.raises(SizeError):
        push(np.ones(4))


def test_derivative() -> None:
    x, t = sg.vector("x", shape="n"), sg.scalar("t")
    at: dict[Variable, Any] = {x: RNG.normal(size=3), t: 0.4}
    np.testing.assert_allclose(value(sg.derivative(sg.sin(x), x, 3), at), -np.cos(at[x]))
    np.testing.assert_allclose(value(sg.derivative(sg.sin(t * x), t, 2), at), -np.sin(0.4 * at[x]) * at[x] ** 2)
    np.testing.assert_array_equal(value(sg.derivative(x**2, x, 4), at), np.zeros(3))
    assert sg.derivative(x, x, 0) is x


def test_substitute() -> None:
    x, y = sg.vector("x", shape="n"), sg.vector("y", shape="n")
    h = sg.exp(x)
    one = sg.substitute(h * h, {x: sg.sin(y)})
    np.testing.assert_allclose(value(one, {y: np.array([0.5])}), np.exp(2 * np.sin([0.5])))
    a, b = sg.substitute([h * h, y], {h: y})
    np.testing.assert_allclose(value(a, {y: np.array([3.0])}), [9.0])
    assert b is y


def test_errors() -> None:
    x, i = sg.vector("x", shape=(3,)), sg.vector("i", shape=(3,), dtype="int64")
    other = sg.scalar("other")
    with pytest.raises(FormatError, match="mode"):
        sg.jacobian(x * x, x, mode="sideways")
    with pytest.raises(DTypeError):
        sg.jacobian(x * x, i)
    with pytest.raises(DisconnectedError):
        sg.jacobian(x * x, other)
    assert sg.jacobian(x * x, other, disconnected="none") is None
    assert sg.jacobian(x * x, other, disconnected="zero").type.shape == (3,)
    with pytest.raises(CostError):
        sg.hessian(x * x, x)
    with pytest.raises(FormatError):
        sg.derivative(x, x, -1)
    with pytest.raises(RankError):
        sg.derivative(sg.sum(x), x)
    with pytest.raises(SizeError):
        sg.derivative(sg.concatenate([x, x]), x)
    with pytest.raises(DisconnectedError):
        sg.laplacian(x, other)


def test_compiled() -> None:
    x = sg.matrix("x", shape=("n", 4))
    J = sg.jacobian(sg.softmax(x, axis=1), x)
    f = sg.function([x], J)
    for n in (1, 3):
        at: dict[Variable, Any] = {x: RNG.normal(size=(n, 4))}
        np.testing.assert_allclose(f(at[x]), value(J, at), rtol=1e-12, atol=1e-15)
