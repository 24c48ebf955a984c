"""Every transformation by its names: order of arguments, several variables, any rank, symbolic sizes, batches."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import symgraph as sg
from symgraph.op import DISCONNECTED, ZERO
from symgraph.runtime.interpreter import interpret

SIGNATURES = {
    "grad": ("cost", "wrt", "disconnected", "known"),
    "vjp": ("y", "x", "cotangent"),
    "jvp": ("y", "x", "tangent"),
    "linearize": ("y", "x"),
    "jacobian": ("y", "x", "mode"),
    "hessian": ("cost", "wrt"),
    "hvp": ("cost", "wrt", "v"),
    "ggn_vp": ("cost", "outputs", "wrt", "v"),
    "laplacian": ("y", "x"),
    "vmap": ("fn", "in_axes", "out_axes"),
    "vectorize": ("outputs", "replace"),
    "substitute": ("outputs", "replace"),
    "taylor": ("y", "x", "direction", "order"),
    "derivative": ("y", "x", "n"),
    "value_and_grad": ("fn", "argnums"),
    "custom_vjp": ("fn",),
    "custom_jvp": ("fn",),
    "checkpoint": ("fn",),
    "stop_gradient": ("x",),
    "zero_gradient": ("x",),
    "scale_gradient": ("x", "factor"),
    "clip_gradient": ("x",),
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_names_and_order_of_arguments(name: str) -> None:
    found = tuple(inspect.signature(getattr(sg, name)).parameters)
    assert found[: len(SIGNATURES[name])] == SIGNATURES[name]
    assert name in sg.__all__
    assert (getattr(sg, name).__doc__ or "").strip()


def test_check_grads_has_its_signature() -> None:
    parameters = inspect.signature(sg.testing.check_grads).parameters
    assert [(p.name, p.default) for p in parameters.values()][:4] == [
        ("fn", inspect.Parameter.empty),
        ("args", inspect.Parameter.empty),
        ("order", 2),
        ("modes", ("fwd", "rev")),
    ]


# -- one function, of which all derivatives are known ------------------------------------------------------------------


def energy(x: Any, w: Any) -> Any:
    """sum(w * x**3): gradient 3 w x**2 in x and x**3 in w; Hessian diag(6 w x), diag(3 x**2), 0."""
    return sg.sum(w * x**3)


SHAPES: list[tuple[int, ...]] = [(), (3,), (2, 3), (2, 1, 3)]


@pytest.fixture(params=[(s, named) for s in SHAPES for named in (False, True)], ids=str)
def point(request: pytest.FixtureRequest) -> tuple[Any, Any, dict[Any, NDArray[Any]]]:
    shape, named = request.param
    rng = np.random.default_rng(0)
    sizes = [f"n{k}" if named and n > 1 else n for k, n in enumerate(shape)]
    x, w = sg.tensor("x", shape=sizes), sg.tensor("w", shape=sizes)
    return x, w, {x: rng.normal(size=shape), w: rng.normal(size=shape)}


def diagonal(a: NDArray[Any]) -> NDArray[Any]:
    return np.diag(a.ravel()).reshape((*a.shape, *a.shape))


def same(got: Any, values: dict[Any, NDArray[Any]], want: Any) -> None:
    (found,) = interpret(got, values)
    assert found.shape == np.shape(want)
    np.testing.assert_allclose(found, want, rtol=1e-12, atol=1e-13)


def test_any_rank_lists_and_symbolic_sizes(point: Any) -> None:
    x, w, at = point
    a, b = at[x], at[w]
    d, ones = 2 * w + 1, sg.ones_like(x)
    y, z = w * x**3, x * w
    cost = energy(x, w)

    same(sg.grad(cost=cost, wrt=x), at, 3 * b * a**2)
    for got, want in zip(sg.grad(cost, [x, w]), (3 * b * a**2, a**3), strict=True):
        same(got, at, want)
    same(sg.grad(cost, wrt=x, known={cost: 2.0}), at, 6 * b * a**2)
    same(sg.vjp(y=y, x=x, cotangent=x), at, 3 * b * a**3)
    for got, want in zip(sg.vjp([y, z], [x, w], [x, w]), (3 * b * a**3 + b**2, a**4 + a * b), strict=True):
        same(got, at, want)
    same(sg.jvp(y=y, x=x, tangent=w), at, 3 * b**2 * a**2)
    for got, want in zip(sg.jvp((y, z), (x, w), (w, x)), (3 * b**2 * a**2 + a**4, b**2 + a**2), strict=True):
        same(got, at, want)
    value, product = sg.linearize([y, z], [x, w])
    assert value == [y, z]
    for got, want in zip(product([w, x]), (3 * b**2 * a**2 + a**4, b**2 + a**2), strict=True):
        same(got, at, want)
    for mode in ("auto", "forward", "reverse"):
        same(sg.jacobian(y=y, x=x, mode=mode), at, diagonal(3 * b * a**2))
        rows = sg.jacobian([y, z], [x, w], mode)
        for row, wants in zip(rows, ((3 * b * a**2, a**3), (b, a)), strict=True):
            for got, want in zip(row, wants, strict=True):
                same(got, at, diagonal(want))
    same(sg.hessian(cost=cost, wrt=x), at, diagonal(6 * b * a))
    blocks = sg.hessian(cost, [x, w])
    for row, wants in zip(blocks, ((6 * b * a, 3 * a**2), (3 * a**2, 0 * a)), strict=True):
        for got, want in zip(row, wants, strict=True):
            same(got, at, diagonal(want))
    same(sg.hvp(cost=cost, wrt=x, v=w), at, 6 * b**2 * a)
    for got, want in zip(sg.hvp(cost, [x, w], [w, x]), (6 * b**2 * a + 3 * a**3, 3 * a**2 * b), strict=True):
        same(got, at, want)
    # The cost sum(y**2) of y = w x**3: JᵀHJ = 2 J**2.
    same(sg.ggn_vp(sg.sum(y * y), y, x, w), at, 2 * (3 * b * a**2) ** 2 * b)
    both = sg.ggn_vp(sg.sum(y * y), [y], [x, w], [w, x])
    forward = 3 * b * a**2 * b + a**3 * a
    for got, want in zip(both, (2 * 3 * b * a**2 * forward, 2 * a**3 * forward), strict=True):
        same(got, at, want)
    same(sg.laplacian(y=cost, x=x), at, np.sum(6 * b * a))
    same(sg.laplacian(cost, [x, w]), at, np.sum(6 * b * a))
    for k, want in enumerate((b * a**3, 3 * b * a**2, 6 * b * a, 6 * b)):
        same(sg.taylor(y=y, x=x, direction=ones, order=3)[k], at, want)
        same(sg.taylor([z, y], [x], [ones], 3)[1][k], at, want)
        same(sg.derivative(y=y, x=x, n=k), at, want)
    same(sg.substitute(outputs=y, replace={x: d}), at, b * (2 * b + 1) ** 3)


TRANSFORMED: dict[str, tuple[Callable[[Any, Any], Any], Callable[[NDArray[Any], NDArray[Any]], Any]]] = {
    "grad": (lambda x, w: sg.grad(energy)(x, w), lambda a, b: 3 * b * a**2),
    "grad of both": (lambda x, w: sg.grad(energy, argnums=(0, 1))(x, w)[1], lambda a, b: a**3),
    "value_and_grad": (lambda x, w: sg.value_and_grad(energy)(x, w)[1], lambda a, b: 3 * b * a**2),
    "jacobian": (lambda x, w: sg.jacobian(sg.grad(energy), argnums=1)(x, w), lambda a, b: diagonal(3 * a**2)),
    "hessian": (lambda x, w: sg.hessian(energy)(x, w), lambda a, b: diagonal(6 * b * a)),
    "laplacian": (lambda x, w: sg.laplacian(energy)(x, w), lambda a, b: np.sum(6 * b * a)),
    "hvp": (lambda x, w: sg.hvp(energy)(x, w, v=w), lambda a, b: 6 * b**2 * a),
    "vjp": (lambda x, w: sg.vjp(lambda x, w: w * x**3)(x, w, cotangent=x)[1], lambda a, b: 3 * b * a**3),
    "jvp": (lambda x, w: sg.jvp(lambda x, w: w * x**3)(x, w, tangent=w)[1], lambda a, b: 3 * b**2 * a**2),
    "taylor": (
        lambda x, w: sg.taylor(lambda x, w: w * x**3, order=2)(x, w, direction=w)[2],
        lambda a, b: 6 * b * a * b**2,
    ),
    "linearize": (lambda x, w: sg.linearize(lambda x, w: w * x**3)(x, w)[1](w), lambda a, b: 3 * b**2 * a**2),
    "ggn_vp": (
        lambda x, w: sg.ggn_vp(lambda y: sg.sum(y * y), lambda x, w: w * x**3)(x, w, v=w),
        lambda a, b: 2 * (3 * b * a**2) ** 2 * b,
    ),
    "derivative": (lambda x, w: sg.derivative(lambda x: x**4, n=2)(x), lambda a, b: 12 * a**2),
}


@pytest.mark.parametrize("name", TRANSFORMED)
def test_functions_of_symbols_and_their_batches(name: str) -> None:
    made, want = TRANSFORMED[name]
    rng = np.random.default_rng(1)
    for shape in [()] if name == "derivative" else [(), (3,), (2, 3)]:
        a, b = rng.normal(size=(2, 4, *shape))
        x, w = sg.tensor("x", shape=shape), sg.tensor("w", shape=shape)
        same(made(x, w), {x: a[0], w: b[0]}, want(a[0], b[0]))
        X, W = sg.tensor("X", shape=("batch", *shape)), sg.tensor("W", shape=("batch", *shape))
        batched = np.stack([want(p, q) for p, q in zip(a, b, strict=True)])
        same(sg.vmap(made)(X, W), {X: a, W: b}, batched)
        same(sg.vectorize(outputs=made(x, w), replace={x: X, w: W}), {X: a, W: b}, batched)


@pytest.mark.parametrize("name", TRANSFORMED)
def test_functions_of_arrays(name: str) -> None:
    made, want = TRANSFORMED[name]
    a, b = np.random.default_rng(2).normal(size=(2, 3))
    if name == "derivative":
        a, b = a[0], b[0]
    np.testing.assert_allclose(made(a, b), want(a, b), rtol=1e-12)


def test_taylor_linearize_and_ggn_of_structures() -> None:
    def model(p: Any, x: Any) -> Any:
        return {"y": p["w"] * x, "z": [x * x]}

    p, x = {"w": np.array([2.0, 3.0])}, np.array([1.0, 4.0])
    zeroth, first = sg.taylor(model, order=1, disconnected="zero")(p, x, direction={"w": np.ones(2)})
    np.testing.assert_array_equal(zeroth["y"], [2, 12])
    np.testing.assert_array_equal(first["y"], [1, 4])
    np.testing.assert_array_equal(first["z"][0], [0, 0])
    value, product = sg.linearize(lambda p, x: p["w"] * x)(p, x)
    np.testing.assert_array_equal(value, [2, 12])
    np.testing.assert_array_equal(product({"w": np.ones(2)}), [1, 4])
    got = sg.ggn_vp(lambda y: sg.sum(y * y), lambda p, x: p["w"] * x)(p, x, v={"w": np.ones(2)})
    np.testing.assert_array_equal(got["w"], [2, 32])


# -- bprop ------------------------------------------------------------------------------------------------------------


def test_bprop_of_a_matrix_product() -> None:
    A, B, G = sg.matrix("A", shape=("m", "k")), sg.matrix("B", shape=("k", "n")), sg.matrix("G", shape=("m", "n"))
    product = sg.get_operation(A @ B)
    assert product is not None
    rng = np.random.default_rng(0)
    at = {A: rng.normal(size=(2, 3)), B: rng.normal(size=(3, 4)), G: rng.normal(size=(2, 4))}
    for by_position in (False, True):
        same(product.bprop([A, B], 0 if by_position else A, G), at, at[G] @ at[B].T)
        same(product.bprop([A, B], 1 if by_position else B, G), at, at[A].T @ at[G])
    # The square of a matrix: its inputs are distinct though they are one variable.
    S, H = sg.matrix("S", shape=(3, 3)), sg.matrix("H", shape=(3, 3))
    square = sg.get_operation(S @ S)
    assert square is not None
    s, h = rng.normal(size=(2, 3, 3))
    first, second = (square.bprop([S, S], k, H) for k in (0, 1))
    same(first, {S: s, H: h}, h @ s.T)
    same(second, {S: s, H: h}, s.T @ h)
    same(sg.vjp(S @ S, S, H), {S: s, H: h}, h @ s.T + s.T @ h)


def test_bprop_of_other_ops() -> None:
    x, n = sg.vector("x", shape=(3,)), sg.vector("n", shape=(3,), dtype="int64")
    at = {x: np.array([1.0, 5.0, 2.0])}
    same(sg.sin.bprop([x], x, np.ones(3)), at, np.cos(at[x]))
    assert sg.floor.bprop([x], x, x) is ZERO
    assert sg.where.bprop([x > 0, x, x], 0, x) is DISCONNECTED
    taken = sg.get_operation(sg.take(x, n))
    assert taken is not None
    assert taken.bprop([x, n], n, x) is DISCONNECTED
    # Several outputs: a gradient for each that can have one.
    both = sg.get_operation(sg.max_and_argmax(x, axis=0)[0])
    assert both is not None
    same(both.bprop([x], 0, [sg.constant(3.0)]), at, [0.0, 3.0, 0.0])
    same(both.bprop([x], 0, 3.0), at, [0.0, 3.0, 0.0])
