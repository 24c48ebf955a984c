"""Derivatives of Python functions: on arrays, on symbols, nested."""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import numpy as np
import pytest

import symgraph as sg
from symgraph.autodiff.functional import Transformed
from symgraph.callables import KEPT, flatten, unflatten
from symgraph.errors import (
    CostError,
    DisconnectedError,
    DTypeError,
    FormatError,
    MissingInputError,
    RankError,
    SizeError,
)
from symgraph.graph import Variable
from symgraph.runtime.interpreter import interpret

RNG = np.random.default_rng(0)


def cube(x: Variable) -> Variable:
    """The sum of cubes."""
    return sg.sum(x**3)


def network(params: dict[str, Any], x: Variable) -> Variable:
    return sg.sum(sg.tanh(x @ params["W"] + params["b"]) ** 2)


PARAMS = {"W": RNG.normal(size=(3, 2)), "b": RNG.normal(size=2)}
X = RNG.normal(size=(5, 3))


def network_gradient() -> dict[str, Any]:
    h = np.tanh(X @ PARAMS["W"] + PARAMS["b"])
    g = 2 * h * (1 - h * h)
    return {"W": X.T @ g, "b": g.sum(axis=0)}


def test_arrays_in_arrays_out() -> None:
    df = sg.grad(cube)
    assert isinstance(df, Transformed)
    assert repr(df) == "<grad(cube)>"
    assert df.__doc__ == "The sum of cubes."
    for n in (2, 5, 2):
        x = RNG.normal(size=n)
        np.testing.assert_allclose(df(x), 3 * x**2)
    assert len(df._compiled) == 1  # sizes are free
    got = df(np.ones(3, "float32"))
    assert got.dtype == np.float32
    np.testing.assert_allclose(df(RNG.normal(size=(2, 2))).shape, (2, 2))
    assert len(df._compiled) == 3


def test_numbers_and_lists() -> None:
    assert float(sg.grad(lambda x: x * x)(3)) == 6.0
    assert float(sg.grad(lambda x, n: x**n)(3.0, 2)) == 6.0
    np.testing.assert_allclose(sg.grad(cube)([1.0, 2.0]), [3, 12])
    scaled = sg.grad(lambda x, k: sg.sum(k * x))(np.ones(2, "float32"), 3.0)
    assert scaled.dtype == np.float32  # a Python number has no width of its own
    assert float(sg.grad(lambda x, kind: sg.sin(x) if kind == "sin" else sg.cos(x))(0.0, kind="sin")) == 1.0


def test_structures() -> None:
    value, gradient = sg.value_and_grad(network)(PARAMS, X)
    assert float(value) == pytest.approx(float(np.sum(np.tanh(X @ PARAMS["W"] + PARAMS["b"]) ** 2)))
    assert list(gradient) == ["W", "b"]
    for k, want in network_gradient().items():
        np.testing.assert_allclose(gradient[k], want, rtol=1e-12)
    both = sg.grad(network, argnums=(0, 1))(PARAMS, X)
    assert isinstance(both, tuple)
    assert both[1].shape == X.shape
    np.testing.assert_allclose(both[0]["b"], gradient["b"])
    np.testing.assert_allclose(sg.grad(network, 1)(PARAMS, X), both[1])


class Pair(NamedTuple):
    a: Any
    b: Any


def test_flatten() -> None:
    nested = {"p": [1.0, (2.0, Pair(3.0, [[4.0]]))], "q": np.ones(2)}
    leaves, structure = flatten(nested)
    assert len(leaves) == 5
    back = unflatten(structure, iter(leaves))
    assert isinstance(back["p"][1][1], Pair)
    assert back["p"] == nested["p"]
    hash(structure)


def test_symbols_in_graphs_out() -> None:
    x, y = sg.vector("x", shape="n"), sg.vector("y", shape="n")
    g = sg.grad(cube)(sg.sin(x))
    assert isinstance(g, Variable)
    at = RNG.normal(size=3)
    np.testing.assert_allclose(interpret(g, {x: at})[0], 3 * np.sin(at) ** 2)
    z = sg.vector("z", shape=(3,))
    mixed = sg.grad(lambda a, b: sg.sum(a * b.reshape(-1)))(z, np.array([[1.0, 2.0, 3.0]]))
    np.testing.assert_allclose(interpret(mixed, {z: at})[0], [1, 2, 3])
    value, parts = sg.value_and_grad(lambda p: sg.sum(p[0] * p[1]))([x, y])
    assert isinstance(value, Variable)
    assert [p.type for p in parts] == [x.type, y.type]


def test_only_the_argument_counts() -> None:
    x = sg.scalar("x")
    closed = sg.grad(lambda a: a * x)(x)  # x in the function is another thing than its argument
    assert float(interpret(closed, {x: 5.0})[0]) == 5.0
    first = sg.grad(lambda a, b: a * a * b)(x, x)
    assert float(interpret(first, {x: 5.0})[0]) == 50.0
    second = sg.grad(sg.grad(lambda a, b: a * a * a * b))(x, x)
    assert float(interpret(second, {x: 2.0})[0]) == 24.0
    assert float(interpret(sg.hessian(lambda a, b: a**3 * b)(x, x), {x: 2.0})[0]) == 24.0


def test_nesting() -> None:
    third = sg.grad(sg.grad(sg.grad(lambda t: sg.exp(2 * t))))
    assert float(third(0.5)) == pytest.approx(8 * np.exp(1.0))
    v = RNG.normal(size=4)
    product = sg.grad(lambda x, d: sg.sum(sg.grad(cube)(x) * d))
    np.testing.assert_allclose(product(v, np.ones(4)), 6 * v)
    X = sg.matrix("X", shape=("n", 4))
    rows = sg.vmap(sg.grad(cube))(X)
    at = RNG.normal(size=(3, 4))
    np.testing.assert_allclose(interpret(rows, {X: at})[0], 3 * at**2)


def test_jacobian_hessian_laplacian_derivative() -> None:
    x = RNG.normal(size=3)
    np.testing.assert_allclose(sg.jacobian(lambda x: x * sg.sum(x))(x), np.eye(3) * x.sum() + x[:, None])
    np.testing.assert_allclose(sg.hessian(cube)(x), np.diag(6 * x), atol=1e-12)
    assert float(sg.laplacian(cube)(x)) == pytest.approx(float(np.sum(6 * x)))
    np.testing.assert_allclose(sg.derivative(sg.sin, n=3)(x), -np.cos(x))
    blocks = sg.hessian(network)(PARAMS, X)
    assert blocks["W"]["b"].shape == (3, 2, 2)
    np.testing.assert_allclose(np.moveaxis(blocks["b"]["W"], 0, 2), blocks["W"]["b"], rtol=1e-10, atol=1e-12)
    rows = sg.jacobian(lambda x, y: (x * y, sg.sum(y)), argnums=(0, 1), disconnected="zero")(x, x)
    assert [[b.shape for b in row] for row in rows] == [[(3, 3), (3, 3)], [(3,), (3,)]]


def test_products() -> None:
    x, t = RNG.normal(size=3), RNG.normal(size=3)
    value, slope = sg.jvp(sg.exp)(x, tangent=t)
    np.testing.assert_allclose(value, np.exp(x))
    np.testing.assert_allclose(slope, np.exp(x) * t)
    value, back = sg.vjp(lambda x, y: x * y, argnums=(0, 1))(x, 2.0, cotangent=t)
    np.testing.assert_allclose(value, 2 * x)
    np.testing.assert_allclose(back[0], 2 * t)
    assert float(back[1]) == pytest.approx(float(x @ t))
    np.testing.assert_allclose(sg.hvp(cube)(x, v=t), 6 * x * t)
    outputs, slopes = sg.jvp(lambda p: {"s": sg.sum(p["a"]), "e": sg.exp(p["a"])})({"a": x}, tangent={"a": t})
    assert float(slopes["s"]) == pytest.approx(float(t.sum()))
    np.testing.assert_allclose(outputs["e"], np.exp(x))


def test_axes_of_size_one_broadcast() -> None:
    f = sg.grad(lambda x, y: sg.sum(x * y))
    np.testing.assert_allclose(f(np.ones((2, 1)), np.ones((2, 3))), [[3.0], [3.0]])
    np.testing.assert_allclose(f(np.ones((2, 3)), np.ones((2, 3))), np.ones((2, 3)))


def test_graph_signatures_are_as_before() -> None:
    x = sg.vector("x", shape=(3,))
    assert isinstance(sg.grad(cube(x), x), Variable)
    assert sg.grad(None, wrt=x, known={x: np.ones(3)}).type == x.type
    assert sg.vjp(x * x, x, np.ones(3)).type == sg.jvp(x * x, x, np.ones(3)).type == x.type
    assert sg.hvp(cost=cube(x), wrt=x, v=np.ones(3)).type == x.type


def test_errors() -> None:
    x = np.ones(3)
    with pytest.raises(CostError):
        sg.grad(lambda x: x * 2)(x)
    with pytest.raises(CostError):
        sg.grad(lambda x: (sg.sum(x), 1))(x)
    with pytest.raises(DTypeError, match="argument 0"):
        sg.grad(cube)(np.ones(3, "int64"))
    with pytest.raises(DTypeError):
        sg.grad(cube)(np.array(["a"]))
    with pytest.raises(RankError):
        sg.grad(cube, argnums=-1)
    with pytest.raises(MissingInputError):
        sg.grad(cube, argnums=1)(x)
    with pytest.raises(MissingInputError, match="tangent"):
        sg.jvp(sg.exp)(x)
    with pytest.raises(DisconnectedError):
        sg.grad(lambda x, y: sg.sum(x), argnums=1)(x, x)
    assert float(sg.grad(lambda x, y: sg.sum(x), argnums=1, disconnected="zero")(x, 2.0)) == 0.0
    with pytest.raises(SizeError):
        sg.grad(lambda x, y: sg.sum(x * y))(x, np.ones(4))
    with pytest.raises(DTypeError):
        sg.value_and_grad(sg.scalar("x"))  # type: ignore[arg-type]


def test_directions_are_matched_by_key() -> None:
    def f(p: dict[str, Any]) -> dict[str, Any]:
        return {"u": p["a"] * 1, "v": p["b"] * 2}

    def cost(p: dict[str, Any]) -> Any:
        return sg.sum(p["a"] ** 2 + 3 * p["b"] ** 2)

    at = {"a": np.ones(2), "b": np.ones(2)}
    swapped = {"b": np.full(2, 10.0), "a": np.ones(2)}
    _, along = sg.jvp(f)(at, tangent=swapped)
    _, back = sg.vjp(f)(at, cotangent={"v": np.full(2, 10.0), "u": np.ones(2)})
    for got in (along["u"], back["a"]):
        np.testing.assert_array_equal(got, [1, 1])
    for got in (along["v"], back["b"], sg.taylor(f, order=1)(at, direction=swapped)[1]["v"]):
        np.testing.assert_array_equal(got, [20, 20])
    for product in (
        sg.hvp(cost)(at, v=swapped),
        sg.ggn_vp(lambda q: cost({"a": q["u"], "b": q["v"]}), f)(at, v=swapped),
    ):
        np.testing.assert_array_equal(product["a"], [2, 2])
    np.testing.assert_array_equal(sg.hvp(cost)(at, v=swapped)["b"], [60, 60])
    np.testing.assert_array_equal(sg.linearize(f)(at)[1](swapped)["v"], [20, 20])


def test_directions_that_are_not_nested_like_the_arguments() -> None:
    def f(p: Any) -> Any:
        return p["a"] * 2

    at, ones = {"a": np.ones(2)}, np.ones(2)
    for tangent in ({"b": ones}, {"a": ones, "b": ones}, {}, ones):
        with pytest.raises(FormatError, match=r"jvp: the tangent: wanted a dict of \['a'\], got.*test_functional\.py"):
            sg.jvp(f)(at, tangent=tangent)
    with pytest.raises(FormatError, match=r"hvp: v: wanted a dict of \['a'\]"):
        sg.hvp(lambda p: sg.sum(p["a"]))(at, v={"b": ones})
    with pytest.raises(FormatError, match=r"vjp: the cotangent: wanted 2, got"):
        sg.vjp(lambda x: [x, x])(ones, cotangent=ones)
    with pytest.raises(RankError, match=r"vjp: the cotangent: wanted 2, got 1"):
        sg.vjp(lambda x: [x, x])(ones, cotangent=[ones])


def test_errors_name_the_argument_and_the_line() -> None:
    def squares(x: Any) -> Any:
        return sum(v**2 for v in x)

    with pytest.raises(DisconnectedError, match=r"does not depend on argument 1: float64.*test_functional\.py"):
        sg.grad(lambda x, y: sg.sum(x), argnums=1)(np.ones(2), np.ones(2))
    with pytest.raises(DTypeError, match=r"the tangent of argument 0: float64\[.*got int64.*test_functional\.py"):
        sg.jvp(sg.sin)(np.ones(2), tangent=np.array([1, 0]))
    with pytest.raises(
        SizeError, match=r"symbolic size .* is not known while the graph is built .*test_functional\.py"
    ):
        sg.grad(squares)(np.ones(2))


def test_none_for_what_is_disconnected() -> None:
    def f(p: dict[str, Any], y: Any) -> Any:
        return sg.sum(p["a"] ** 2)

    at, ones = {"a": np.ones(2), "b": np.ones(2)}, np.ones(2)
    for gradient in (
        sg.grad(f, disconnected="none")(at, ones),
        sg.value_and_grad(f, disconnected="none")(at, ones)[1],
        sg.jacobian(f, disconnected="none")(at, ones),
    ):
        assert gradient["b"] is None
        np.testing.assert_array_equal(gradient["a"], [2, 2])
    x = sg.vector("x", shape=(2,))
    on_symbols = sg.grad(f, argnums=(0, 1), disconnected="none")({"a": x, "b": x}, x)
    assert on_symbols[0]["b"] is None
    assert on_symbols[1] is None
    assert sg.vjp(f, argnums=1, disconnected="none")(at, ones, cotangent=1.0)[1] is None
    assert sg.jvp(f, argnums=1, disconnected="none")(at, ones, tangent=ones)[1] is None


def test_kept_functions_are_bounded() -> None:
    f = sg.grad(lambda x, k: sg.sum(x))
    for k in range(KEPT + 3):
        f._compiled[k] = None
    f(np.ones(2), 1.0)
    assert len(f._compiled) == KEPT


def test_threads() -> None:
    f, found = sg.grad(cube), []

    def work(k: int) -> None:
        found.append((k, f(np.full(4, float(k)))))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for k, g in found:
        np.testing.assert_array_equal(g, np.full(4, 3.0 * k * k))
    assert len(f._compiled) == 1
