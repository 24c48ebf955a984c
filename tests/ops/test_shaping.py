"""Operations that change gradients and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import symgraph as sg
from symgraph.errors import DTypeError, FormatError, RankError
from symgraph.graph import Variable
from symgraph.runtime.interpreter import interpret

RNG = np.random.default_rng(0)


def value(v: Variable, givens: dict[Variable, Any]) -> NDArray[Any]:
    (out,) = interpret(v, givens)
    return out


def test_values_are_unchanged() -> None:
    x = sg.vector("x", shape="n")
    made = [
        sg.zero_gradient(x),
        sg.scale_gradient(x, -1),
        sg.clip_gradient(x, -1, 1),
        sg.clip_gradient(x, norm=0.1),
    ]
    f = sg.function([x], made)
    assert not any("gradient" in node.op.name for node in f.optimized.nodes if node.op.name != "stop_gradient")
    at = RNG.normal(size=5)
    for got in [*interpret(made, {x: at}), *f(at)]:
        np.testing.assert_array_equal(got, at)


def test_zero() -> None:
    x = sg.vector("x", shape=(3,))
    y = sg.sum(sg.zero_gradient(x) * x)
    at = {x: RNG.normal(size=3)}
    np.testing.assert_array_equal(value(sg.grad(y, x), at), at[x])
    np.testing.assert_array_equal(value(sg.grad(sg.sum(sg.zero_gradient(x)), x), at), np.zeros(3))  # not disconnected
    np.testing.assert_array_equal(value(sg.jvp(sg.zero_gradient(x), x, np.ones(3)), at), np.zeros(3))


def test_scale() -> None:
    x, k = sg.vector("x", shape=(3,), dtype="float32"), sg.scalar("k")
    at: dict[Variable, Any] = {x: RNG.normal(size=3).astype("float32"), k: -0.5}
    y = sg.sum(sg.scale_gradient(x, k) ** 2)
    got = value(sg.grad(y, x), at)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, -0.5 * 2 * at[x])
    np.testing.assert_allclose(value(sg.jvp(sg.scale_gradient(x, k), x, np.ones(3, "float32")), at), -0.5 * np.ones(3))
    # It is differentiable again: the gradient is a graph like any other.
    np.testing.assert_allclose(value(sg.hvp(y, x, np.ones(3, "float32")), at), 0.25 * 2 * np.ones(3))


def test_clip_by_value() -> None:
    x = sg.vector("x", shape=(4,))
    at = {x: np.array([0.1, 3.0, -4.0, 0.5])}
    both = sg.grad(sg.sum(sg.clip_gradient(x, -1, 2) ** 2), x)
    np.testing.assert_allclose(value(both, at), [0.2, 2.0, -1.0, 1.0])
    np.testing.assert_allclose(value(sg.grad(sg.sum(sg.clip_gradient(x, max=1.0) ** 2), x), at), [0.2, 1, -8, 1])
    np.testing.assert_allclose(value(sg.jvp(sg.clip_gradient(x, -1, 1), x, 5 * np.ones(4)), at), 5 * np.ones(4))
    second = sg.hvp(sg.sum(sg.clip_gradient(x, -1, 2) ** 2), x, np.ones(4))
    np.testing.assert_allclose(value(second, at), [2, 0, 0, 2])  # of the clipped gradient


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e200])
def test_clip_by_norm(size: float) -> None:
    x = sg.matrix("x", shape=(3, 2))
    g = RNG.normal(size=(3, 2))
    y = sg.sum(sg.clip_gradient(x, norm=1.0) * g * size)
    got, norm = value(sg.grad(y, x), {x: np.zeros((3, 2))}), float(np.linalg.norm(g)) * size
    np.testing.assert_allclose(got, g * size * (1.0 / norm if norm > 1 else 1.0), rtol=1e-12)
    compiled = sg.function([x], sg.grad(y, x))
    np.testing.assert_allclose(compiled(np.zeros((3, 2))), got, rtol=1e-12)


def test_clip_by_norm_of_nothing_and_of_zero() -> None:
    x, empty = sg.vector("x", shape=(3,)), sg.vector("e", shape=(0,))
    np.testing.assert_array_equal(
        value(sg.grad(sg.sum(sg.clip_gradient(x, norm=1.0) * 0.0), x), {x: np.ones(3)}), np.zeros(3)
    )
    assert value(sg.grad(sg.sum(sg.clip_gradient(empty, norm=1.0)), empty), {empty: np.zeros(0)}).shape == (0,)


def test_batched_norms_are_of_each_element() -> None:
    x = sg.matrix("x", shape=("n", 3))
    rows = sg.vmap(lambda v: sg.grad(sg.sum(sg.clip_gradient(v, norm=1.0) ** 2), v))(x)
    at = np.array([[0.1, 0.2, 0.2], [3.0, 0.0, 4.0]])
    want = np.array([2 * at[0], at[1] / 5])
    np.testing.assert_allclose(value(rows, {x: at}), want)
    # And where the batch is made before the derivative is taken.
    clipped = sg.vmap(lambda v: sg.clip_gradient(v, norm=1.0))(x)
    np.testing.assert_allclose(value(sg.grad(sg.sum(clipped**2), x), {x: at}), want)


@pytest.mark.parametrize("target", ["numpy", "cpu"])
def test_norm_of_what_may_be_empty(target: str) -> None:
    x = sg.matrix("x", shape=("n", "m"))
    f = sg.function([x], sg.grad(sg.sum(sg.clip_gradient(x, norm=1.0) ** 2), x), target=target)
    assert f(np.zeros((0, 3))).shape == (0, 3)
    assert f(np.zeros((3, 0))).shape == (3, 0)
    np.testing.assert_allclose(f(np.array([[3.0, 4.0]])), [[0.6, 0.8]])
    batch = sg.tensor("batch", shape=("k", "n", "m"))
    rows = sg.vmap(sg.grad(lambda v: sg.sum(sg.clip_gradient(v, norm=1.0) ** 2)))(batch)
    g = sg.function([batch], rows, target=target)
    assert g(np.zeros((2, 0, 3))).shape == (2, 0, 3)
    np.testing.assert_allclose(g(np.array([[[3.0, 4.0]], [[0.1, 0.1]]])), [[[0.6, 0.8]], [[0.2, 0.2]]])


def test_no_rewriting_before_the_derivative() -> None:
    x = sg.scalar("x")
    spread = sg.clip_gradient(sg.broadcast_to(x, (4,)), -1, 1)
    y = sg.sum(sg.log(1 + sg.exp(spread)) + 5 * spread)
    assert float(value(sg.grad(y, x), {x: 0.0})) == 4.0  # each of the four cotangents is clipped, not their sum


def test_errors() -> None:
    x, i = sg.vector("x"), sg.vector("i", dtype="int64")
    for make in (sg.zero_gradient, lambda v: sg.scale_gradient(v, 2), lambda v: sg.clip_gradient(v, norm=1)):
        with pytest.raises(DTypeError):
            make(i)
    with pytest.raises(FormatError):
        sg.clip_gradient(x)
    with pytest.raises(FormatError):
        sg.clip_gradient(x, 0, 1, norm=1)
    for norm in (-1, float("nan")):
        with pytest.raises(FormatError, match=r"norm must be 0 or more.*test_shaping\.py"):
            sg.clip_gradient(x, norm=norm)
    with pytest.raises(RankError):
        sg.scale_gradient(x, x)
