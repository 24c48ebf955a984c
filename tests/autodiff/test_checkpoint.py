"""Checkpoints: the same values and derivatives from less memory, as the memory plan says."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import DTypeError
from symgraph.graph import Graph, toposort
from symgraph.ops.checkpoint import After, Checkpoint
from symgraph.passes.fuse import Kernel, fuse
from symgraph.pipeline import run_pipeline

LAYERS, ROWS, WIDTH = 32, 64, 64


def _close(a: Any, b: Any) -> None:
    np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def _block(h: Any, *weights: Any) -> Any:
    for w in weights:
        h = sg.tanh(h @ w)
    return h


def _chain(segment: int | None, inner: int | None = None) -> tuple[Any, list[np.ndarray[Any, Any]], sg.Function]:
    """The cost and the gradients of a chain of layers, in segments that are checkpoints; and the function."""
    x = sg.matrix("x", shape=(ROWS, WIDTH))
    weights = [sg.matrix(f"w{k}", shape=(WIDTH, WIDTH)) for k in range(LAYERS)]

    def nested(h: Any, *ws: Any) -> Any:
        assert inner is not None
        for k in range(0, len(ws), inner):
            h = sg.checkpoint(_block)(h, *ws[k : k + inner])
        return h

    h: Any = x
    for k in range(0, LAYERS, segment or LAYERS):
        ws = weights[k : k + (segment or LAYERS)]
        if segment is None:
            h = _block(h, *ws)
        else:
            h = sg.checkpoint(_block if inner is None else nested)(h, *ws)
    cost = sg.mean(sg.square(h))
    fn = sg.function([x, *weights], [cost, *sg.grad(cost, weights)], threads=1)
    rng = np.random.default_rng(0)
    values = [rng.normal(size=w.type.shape) / np.sqrt(WIDTH) for w in weights]
    return cost, fn(rng.normal(size=(ROWS, WIDTH)), *values), fn


def _arena(fn: sg.Function) -> float:
    """Bytes of the arena, in activations."""
    plan = fn.program.last_plan
    assert plan is not None
    return plan.arena / (ROWS * WIDTH * 8)


def test_a_chain_of_layers_needs_the_memory_of_its_segments() -> None:
    _, plain, stored = _chain(None)
    _, again, recomputed = _chain(6)  # about sqrt(32): five results between segments, and one segment's own six
    assert all(np.array_equal(a, b) for a, b in zip(plain, again, strict=True))
    assert LAYERS <= _arena(stored) <= LAYERS + 3
    assert _arena(recomputed) <= 12
    # What it costs: each layer but the last segment's last is computed once more, a product and a kernel.
    extra = len(recomputed.program.steps) - len(stored.program.steps)
    assert 2 * (LAYERS - 6) <= extra <= 2 * LAYERS
    # A step of training has three products for each layer; recomputing makes it four, less what is not needed again.
    flops = [fn.cost.flops for fn in (stored, recomputed)]
    assert all(isinstance(n, int) for n in flops)
    assert 1.2 < int(str(flops[1])) / int(str(flops[0])) < 1.35


def test_nested_checkpoints_need_less_and_compute_more() -> None:
    _, plain, _ = _chain(None)
    _, _, one = _chain(16)
    _, again, two = _chain(16, 4)
    assert all(np.array_equal(a, b) for a, b in zip(plain, again, strict=True))
    assert _arena(two) < 0.7 * _arena(one)
    assert len(two.program.steps) > len(one.program.steps)


def test_elementwise_layers_are_not_merged_with_the_forward_pass() -> None:
    def arena(wrap: Callable[..., Any]) -> float:
        x = sg.matrix("x", shape=(ROWS, WIDTH))
        h: Any = x

        def segment(h: Any) -> Any:
            for _ in range(4):
                h = sg.sin(h + sg.mean(h, axis=0))
            return h

        for _ in range(4):
            h = wrap(segment)(h)
        cost = sg.mean(sg.square(h))
        fn = sg.function([x], [cost, sg.grad(cost, x)], threads=1)
        fn(np.ones((ROWS, WIDTH)))
        return _arena(fn)

    assert arena(sg.checkpoint) < 0.7 * arena(lambda f: f)


def test_waiting_costs_no_copy() -> None:
    x, u = sg.vector("x", shape=(5,)), sg.vector("u", shape=(5,))
    late = sg.apply(After(), x, sg.tanh(u) * sg.sum(u))
    fn = sg.function([x, u], sg.sin(late) * late)
    assert len(fn.program.steps) == 1
    A, B = sg.matrix("A", shape=(4, 5)), sg.matrix("B", shape=(5, 6))
    late = sg.apply(After(), A, sg.tanh(B))
    product = sg.function([A, B], late @ B)
    assert [s.name for s in product.program.steps] == ["gemm_f64"]


def test_a_kernel_waits_for_what_it_does_not_read() -> None:
    x = sg.matrix("x", shape=(64, 64))
    early = sg.sin(x)
    ready = sg.cumsum(early, axis=0) if hasattr(sg, "cumsum") else early @ early
    late = sg.sin(sg.apply(After(), x, ready))
    graph, _ = run_pipeline(Graph([x], [sg.sum(early), ready, late]))
    steps = fuse(graph)
    place = {v: k for k, s in enumerate(steps) for v in (s.outputs if isinstance(s, Kernel) else s.writes)}
    assert place[graph.outputs[2]] > place[graph.outputs[1]]


def _value(x: Any, w: Any) -> Any:
    return sg.sum(sg.log1p(sg.square(sg.tanh(x @ w) * w)))


X = np.random.default_rng(1).normal(size=(3, 3))
W = np.random.default_rng(2).normal(size=(3, 3))
TRANSFORMED: Sequence[Callable[[Any], Any]] = [
    lambda f: sg.value_and_grad(f)(X, W)[0],
    lambda f: sg.grad(f)(X, W),
    lambda f: sg.grad(f, argnums=(0, 1))(X, W)[1],
    lambda f: sg.hessian(f)(X, W),
    lambda f: sg.jacobian(sg.grad(f), mode="reverse")(X, W),
    lambda f: sg.jacobian(sg.grad(f), mode="forward")(X, W),
    lambda f: sg.jvp(f)(X, W, tangent=W)[1],
    lambda f: sg.grad(lambda x, w: sg.jvp(f)(x, w, tangent=w)[1])(X, W),
    lambda f: sg.grad(lambda x, w: sg.sum(sg.sin(sg.grad(f)(x, w))))(X, W),
    lambda f: sg.hvp(lambda x, w: sg.sum(sg.square(sg.grad(f, argnums=1)(x, w))))(X, W, v=W),
    lambda f: sg.vmap(f, in_axes=(0, None))(np.stack([X, W, X + W]), W),
    lambda f: sg.vmap(sg.grad(f), in_axes=(0, None))(np.stack([X, W, X + W]), W),
    lambda f: sg.grad(lambda x, w: sg.sum(sg.square(sg.vmap(f, in_axes=(0, None))(x, w))), argnums=1)(
        np.stack([X, W]), W
    ),
]


@pytest.mark.parametrize("k", range(len(TRANSFORMED)))
def test_every_transformation_of_a_checkpointed_function_is_right(k: int) -> None:
    transform = TRANSFORMED[k]
    inner = sg.checkpoint(lambda x, w: sg.square(sg.tanh(x @ w) * w))
    nested = sg.checkpoint(lambda x, w: sg.sum(sg.log1p(inner(x, w))))
    for f in (sg.checkpoint(_value), nested):
        _close(transform(f), transform(_value))


def test_derivatives_of_high_order() -> None:
    x = sg.scalar("x")
    f = sg.checkpoint(lambda x: sg.exp(sg.sin(x)) * x)
    given, plain = f(x), sg.exp(sg.sin(x)) * x
    _close(*[sg.function([x], sg.taylor(y, x, 1.0, 6))(0.7) for y in (given, plain)])
    nested = []
    for y in (given, plain):
        for _ in range(4):
            y = sg.grad(y, x)
        nested.append(sg.function([x], y)(0.7))
    _close(*nested)


def test_several_results_unused_results_and_integers() -> None:
    @sg.checkpoint
    def f(p: dict[str, Any], k: Any) -> dict[str, Any]:
        y = sg.sin(p["a"]) * p["b"]
        return {"y": y, "unused": sg.exp(y), "index": sg.argmax(y), "same": p["a"], "taken": sg.take(y, k)}

    a, b, k = sg.vector("a", shape=(4,)), sg.vector("b", shape=(4,)), sg.scalar("k", "int64")
    out = f({"a": a, "b": b}, k)
    cost = sg.sum(out["y"] * out["same"]) + out["taken"]
    grads = sg.function([a, b, k], [*sg.grad(cost, [a, b]), out["index"]])
    va, vb = np.array([0.1, 0.2, 0.3, 0.4]), np.array([1.0, 2.0, 3.0, 4.0])
    da, db, index = grads(va, vb, 2)
    one = np.eye(4)[2]
    _close(da, np.cos(va) * vb * (va + one) + np.sin(va) * vb)
    _close(db, np.sin(va) * (va + one))
    assert index == 3


def test_variables_that_the_function_uses_without_taking_them_get_gradients() -> None:
    x, w, s = sg.vector("x"), sg.vector("w"), sg.shared(np.array([1.0, 2.0]), "s")
    h = sg.exp(w)  # computed outside: an argument in all but name
    y = sg.checkpoint(lambda x: sg.tanh(x * h + w) * s)(x)
    plain = sg.tanh(x * h + w) * s
    values = np.array([0.3, -0.2]), np.array([0.5, 0.1])
    for wrt in ([x, w, s], [h]):
        pair = [sg.function([x, w], sg.grad(sg.sum(sg.square(v)), wrt))(*values) for v in (y, plain)]
        for a, b in zip(*pair, strict=True):
            _close(a, b)
    alone = sg.checkpoint(lambda: sg.sum(sg.sin(w)))()
    _close(sg.function([w], sg.grad(alone, w))(values[1]), np.cos(values[1]))


def test_the_same_variable_twice_and_no_dependence() -> None:
    x, w = sg.vector("x"), sg.vector("w")
    y = sg.checkpoint(lambda a, b: sg.sum(sg.sin(a) * b))(x, x)
    v = np.array([0.3, 0.7])
    _close(sg.function([x], sg.grad(y, x))(v), np.cos(v) * v + np.sin(v))
    y = sg.checkpoint(lambda a, b: sg.sum(sg.sin(a)) + sg.sum(sg.stop_gradient(b)))(x, w)
    with pytest.raises(sg.errors.DisconnectedError):
        sg.grad(y, w)
    constant = sg.checkpoint(lambda a: sg.ones(2))(x)
    assert sg.grad(sg.sum(constant), x, disconnected="none") is None


def test_second_order_recomputes_in_turn() -> None:
    """The gradient of a gradient of a checkpoint waits for the cotangents of both."""
    x, w = sg.matrix("x", shape=(4, 4)), sg.matrix("w", shape=(4, 4))
    y = sg.checkpoint(_block)(x, w, w)
    g = sg.grad(sg.sum(sg.square(y)), w)
    assert any(isinstance(n.op, Checkpoint) for n in toposort([g]))
    count = [sum(isinstance(n.op, After) for n in toposort([v])) for v in (g, sg.grad(sg.sum(sg.square(g)), w))]
    assert 0 < count[0] < count[1]


def test_a_cotangent_that_is_there_at_once_recomputes_nothing() -> None:
    x, w, u = sg.matrix("x", shape=(4, 4)), sg.matrix("w", shape=(4, 4)), sg.matrix("u", shape=(4, 4))
    y = sg.checkpoint(_block)(x, w, w)
    plain = _block(x, w, w)
    for cost in (sg.sum, sg.mean):
        lengths = [len(sg.function([x, w], [cost(v), sg.grad(cost(v), w)]).program.steps) for v in (y, plain)]
        assert lengths[0] == lengths[1]
    assert len({len(sg.function([x, w, u], [v, sg.vjp(v, w, u)]).program.steps) for v in (y, plain)}) == 1


def test_forward_mode_recomputes_nothing() -> None:
    x, t = sg.matrix("x", shape=(4, 4)), sg.matrix("t", shape=(4, 4))
    w = sg.constant(W[:1, :1] * np.ones((4, 4)))
    makes: list[Callable[[Any], Any]] = [lambda v: sg.jvp(v, x, t), lambda v: sg.taylor(v, x, t, 3)[3]]
    for make in makes:
        sizes = [
            len(run_pipeline(Graph([x, t], [make(v)]))[0]) for v in (sg.checkpoint(_block)(x, w, w), _block(x, w, w))
        ]
        assert sizes[0] == sizes[1]


def test_nothing_is_left_of_it_without_derivatives() -> None:
    z = sg.vector("z", shape=(3,))
    y = sg.log(sg.checkpoint(sg.softmax)(z))
    graph, _ = run_pipeline(Graph([z], [y]))
    plain, _ = run_pipeline(Graph([z], [sg.log(sg.softmax(z))]))
    assert [n.op.name for n in graph] == [n.op.name for n in plain]  # stabilization sees through it
    for stop in ("intern", "canonicalize"):
        assert np.isfinite(sg.function([z], y, stop_after=stop)(np.array([0.0, 1.0, 2.0]))).all()


def test_on_arrays_as_the_other_transformations() -> None:
    calls = []

    @sg.checkpoint
    def f(x: Any, scale: float = 2.0) -> Any:
        calls.append(1)
        return {"y": sg.tanh(x) * scale}

    x = np.array([0.1, 0.2])
    _close(f(x)["y"], 2 * np.tanh(x))
    _close(f(x, scale=3.0)["y"], 3 * np.tanh(x))
    f(np.arange(5.0))
    assert len(calls) == 2  # sizes are free
    assert f.__name__ == "checkpoint(f)"
    _close(sg.grad(lambda v: sg.sum(f(v)["y"]))(x), 2 / np.cosh(x) ** 2)


def test_checkpoints_and_their_derivatives_can_be_pickled() -> None:
    x = sg.vector("x")
    y = sg.sum(sg.square(sg.checkpoint(lambda v: sg.tanh(v * v))(x)))
    fn = sg.function([x], [y, sg.grad(y, x)])
    again = pickle.loads(pickle.dumps(fn))
    v = np.array([0.2, 0.5])
    for a, b in zip(fn(v), again(v), strict=True):
        _close(a, b)
    op = next(n.op for n in toposort([y]) if isinstance(n.op, Checkpoint))
    loaded = pickle.loads(pickle.dumps(op))
    assert loaded.name == op.name
    assert len(loaded.body) == len(op.body)


def test_what_is_no_function_of_tensors() -> None:
    with pytest.raises(DTypeError, match=r"checkpoint: wanted a function, got 3 .*test_checkpoint"):
        sg.checkpoint(3)  # type: ignore[arg-type]
    with pytest.raises(DTypeError, match=r"returned no tensor.*test_checkpoint"):
        sg.checkpoint(lambda x: ())(sg.vector("x"))
    with pytest.raises(DTypeError):
        sg.checkpoint(lambda x: None)(sg.vector("x"))
