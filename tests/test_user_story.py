"""The first page of the manual, line by line: a graph, its gradients, a compiled step, values of any part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import symgraph as sg


@dataclass
class Story:
    """The variables of the example."""

    x: sg.Variable
    y: sg.Variable
    W: sg.SharedVariable
    b: sg.SharedVariable
    loss: sg.Variable
    gW: sg.Variable
    gb: sg.Variable


@pytest.fixture
def story() -> Story:
    x = sg.matrix("x", shape=("batch", 64))
    y = sg.vector("y", dtype="int64", shape=("batch",))
    W = sg.shared(np.zeros((64, 10)), name="W")
    b = sg.shared(np.zeros(10), name="b")
    loss = -sg.mean(sg.take_along_axis(sg.log_softmax(x @ W + b, axis=1), y[:, None], axis=1))
    gW, gb = sg.grad(loss, [W, b])
    return Story(x, y, W, b, loss, gW, gb)


def batch(n: int, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    return rng.uniform(0, 1, (n, 64)), rng.integers(0, 10, n)


def expected(
    images: NDArray[np.float64], labels: NDArray[np.int64], W: NDArray[np.float64], b: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Loss and gradients, by hand."""
    z = images @ W + b
    z = z - z.max(1, keepdims=True)
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    n = len(labels)
    loss = -np.log(p[np.arange(n), labels]).mean()
    p[np.arange(n), labels] -= 1
    return float(loss), images.T @ p / n, p.sum(0) / n


def test_types_are_known_before_anything_runs(story: Story) -> None:
    assert str(story.x.type) == "float64[batch, 64]"
    assert str(story.y.type) == "int64[batch]"
    assert story.loss.type == sg.TensorType(np.dtype("float64"), ())
    assert story.gW.type == story.W.type
    assert story.gb.type == story.b.type


@pytest.mark.parametrize("target", ["cpu", "numpy"])
def test_a_training_step_for_any_batch_size(story: Story, target: str) -> None:
    W, b = story.W, story.b
    step = sg.function(
        [story.x, story.y], story.loss, updates={W: W - 0.1 * story.gW, b: b - 0.1 * story.gb}, target=target
    )
    W0, b0 = W.get_value(), b.get_value()
    for k, n in enumerate((32, 1, 7, 32, 0x101)):
        images, labels = batch(n, k)
        loss, gW, gb = expected(images, labels, W0, b0)
        np.testing.assert_allclose(step(images, labels), loss, rtol=1e-12)
        W0, b0 = W0 - 0.1 * gW, b0 - 0.1 * gb
        np.testing.assert_allclose(W.get_value(), W0, rtol=1e-10, atol=1e-15)
        np.testing.assert_allclose(b.get_value(), b0, rtol=1e-10, atol=1e-15)


def test_another_batch_size_compiles_nothing(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    step = sg.function([story.x, story.y], [story.loss, story.gW])
    step(*batch(5))

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("compiled in a call")

    from symgraph.runtime.cache import kernel_cache

    monkeypatch.setattr(kernel_cache(), "get_many", refuse)
    for n in (1, 6, 500):
        step(*batch(n))
    images, labels = batch(8)
    np.testing.assert_array_equal(step(np.asfortranarray(images), labels)[1], step(images, labels)[1])
    wide = np.zeros((16, 128))
    wide[::2, ::2] = images
    np.testing.assert_array_equal(step(wide[::2, ::2], labels)[1], step(images, labels)[1])
    images.flags.writeable = False
    step(images, labels)


def test_values_of_any_part_from_any_values(story: Story) -> None:
    images, labels = batch(4)
    loss, gW, _ = expected(images, labels, np.zeros((64, 10)), np.zeros(10))
    np.testing.assert_allclose(story.loss.eval({story.x: images, story.y: labels}), loss, rtol=1e-12)
    np.testing.assert_allclose(story.loss.eval({"x": images, "y": labels}), loss, rtol=1e-12)
    np.testing.assert_allclose(story.gW.eval({story.x: images, story.y: labels}), gW, rtol=1e-10, atol=1e-15)
    # A value for a shared variable, and for one in the middle: what it is computed from is not needed.
    W = np.random.default_rng(1).normal(size=(64, 10))
    loss, _, _ = expected(images, labels, W, np.zeros(10))
    np.testing.assert_allclose(story.loss.eval({story.x: images, story.y: labels, story.W: W}), loss, rtol=1e-12)
    h = sg.tanh(story.x)
    np.testing.assert_array_equal((h + h).eval({h: images}), images + images)


@pytest.mark.parametrize("target", ["cpu", "numpy"])
def test_data_that_stay_in_the_program(story: Story, target: str) -> None:
    """Minibatches by ``givens``: symbolic sizes, named or not, take those of what is given."""
    images, labels = batch(40)
    X, Y, k = sg.shared(images), sg.shared(labels), sg.scalar("k", dtype="int64")
    rows = 8 * k + sg.arange(8)
    f = sg.function([k], [story.loss, story.gW], givens={story.x: X[rows], story.y: Y[rows]}, target=target)
    for n in (0, 4):
        part = slice(8 * n, 8 * n + 8)
        loss, gW, _ = expected(images[part], labels[part], np.zeros((64, 10)), np.zeros(10))
        got = f(n)
        np.testing.assert_allclose(got[0], loss, rtol=1e-12)
        np.testing.assert_allclose(got[1], gW, rtol=1e-10, atol=1e-15)
    v, w = sg.vector("v"), sg.vector("w")
    g = sg.function([w], sg.sum(v * 2) / v.shape[0], givens={v: w[1:]}, target=target)
    np.testing.assert_allclose(g(np.array([5.0, 1.0, 2.0])), 3.0)
    with pytest.raises(sg.errors.SizeError):
        sg.function([], story.loss, givens={story.x: images[:, :63], story.y: labels})
    mixed = sg.function([story.y], story.loss, givens={story.x: images}, target=target)
    mixed(labels)
    with pytest.raises(sg.errors.SizeError):
        mixed(labels[:-1])


def test_derivatives_of_derivatives() -> None:
    t = sg.scalar("t")
    f = sg.exp(sg.sin(t)) / (1 + t**2)
    H = sg.grad(sg.grad(f, t), t)
    assert H.type == t.type
    a, h = 0.7, 1e-4

    def value(t: float) -> float:
        return float(np.exp(np.sin(t)) / (1 + t**2))

    second = (-value(a + 2 * h) + 16 * value(a + h) - 30 * value(a) + 16 * value(a - h) - value(a - 2 * h)) / (
        12 * h**2
    )
    np.testing.assert_allclose(H.eval({t: a}), second, rtol=1e-6)


def test_newton_on_a_symbol() -> None:
    t = sg.scalar("t")
    f = (t - 2) ** 2 + sg.cosh(t)
    g = sg.grad(f, t)
    newton = sg.function([t], t - g / sg.grad(g, t))
    at = 5.0
    for _ in range(8):
        at = float(newton(at))
    assert abs(2 * (at - 2) + np.sinh(at)) < 1e-14


def test_newton_as_an_update() -> None:
    t = sg.shared(3.0, "t")
    f = t**2 - 2
    step = sg.function([], f, updates={t: t - f / sg.grad(f, t)})
    for _ in range(6):
        step()
    np.testing.assert_allclose(t.get_value(), np.sqrt(2), rtol=1e-15)


def test_hessian_vector_product_is_the_gradient_of_a_product() -> None:
    rng = np.random.default_rng(0)
    A = rng.normal(size=(5, 5))
    t, v = sg.vector("t", shape=5), sg.vector("v", shape=5)
    f = sg.sum(sg.exp(sg.tanh(A @ t)))
    product = sg.grad(sg.sum(sg.grad(f, t) * v), t)
    gradient = sg.function([t], sg.grad(f, t))
    a, d, h = rng.normal(size=5), rng.normal(size=5), 1e-5
    difference = (gradient(a + h * d) - gradient(a - h * d)) / (2 * h)
    np.testing.assert_allclose(product.eval({t: a, v: d}), difference, rtol=1e-8, atol=1e-9)


def test_numpy_functions_and_operators_build_graph(story: Story) -> None:
    images, _ = batch(3)
    for made, wanted in [
        (np.exp(story.x) + 1, np.exp(images) + 1),
        (1 - np.tanh(story.x), 1 - np.tanh(images)),
        (np.ones(64) * story.x, images),
        (np.float64(2) ** story.x, 2.0**images),
        (np.sum(story.x, axis=1), images.sum(1)),
        (np.mean(story.x), images.mean()),
        (np.maximum(story.x, 0.5), np.maximum(images, 0.5)),
        (np.where(story.x > 0.5, story.x, 0.0), np.where(images > 0.5, images, 0.0)),
        (np.concatenate([story.x, images[:2]]), np.concatenate([images, images[:2]])),
        (np.transpose(story.x), images.T),
        (images[:2] @ story.x.T, images[:2] @ images.T),
        (story.x[-1, ::2], images[-1, ::2]),
    ]:
        assert isinstance(made, sg.Variable)
        got = made.eval({story.x: images})
        assert got.dtype == wanted.dtype
        np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-14)


def test_what_a_symbol_is_not() -> None:
    x = sg.vector("x")
    uses: list[Any] = [bool, np.asarray, lambda v: [1, 2][v], lambda v: 1 if v > 0 else 2]
    for use in uses:
        with pytest.raises(sg.errors.SymbolicValueError, match=r"eval.*test_user_story\.py"):
            use(x)
    with pytest.raises(sg.errors.SymbolicValueError):
        float(sg.scalar())


def test_graph_questions(story: Story) -> None:
    op = sg.get_operation(story.loss)
    assert op is not None
    assert op.name == "negative"
    (inner,) = sg.get_inputs(story.loss)
    assert story.loss in sg.get_consumers(inner, story.loss)
    assert sg.get_operation(story.x) is None
    assert sg.get_inputs(story.x) == ()


def test_looking_inside(story: Story) -> None:
    step = sg.function([story.x, story.y], [story.loss, story.gW])
    step(*batch(3))
    assert "intern" in str(step.passes)
    assert "def k_" in step.source()
    assert "arena" in str(step.program)
    assert "log_softmax" in str(sg.debugprint(story.loss, file="str"))
    assert set(step.seconds) >= {"build", "optimize", "compile"}


# -- optimizers are updates ------------------------------------------------------------------------------------------


def test_updates_see_the_old_values() -> None:
    a, b = sg.shared(1.0, "a"), sg.shared(2.0, "b")
    swap = sg.function([], a + b, updates={a: b, b: a})
    assert swap() == 3
    assert [float(v.get_value()) for v in (a, b)] == [2, 1]
    assert swap() == 3
    assert [float(v.get_value()) for v in (a, b)] == [1, 2]


def test_momentum_in_updates() -> None:
    w, v = sg.shared(np.array([1.0, -2.0]), "w"), sg.shared(np.zeros(2), "v")
    new_v = 0.9 * v - 0.1 * sg.grad(sg.sum(w**2), w)
    step = sg.function([], sg.sum(w**2), updates={v: new_v, w: w + new_v})
    W, V = w.get_value(), v.get_value()
    for _ in range(5):
        step()
        V = 0.9 * V - 0.2 * W
        W = W + V
    np.testing.assert_allclose(w.get_value(), W, rtol=1e-14)
