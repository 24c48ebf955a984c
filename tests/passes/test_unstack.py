"""Stacks that are only reduced along the stack are kept as their parts; others stay as they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.graph import Graph, Variable
from symgraph.pipeline import run_pipeline
from symgraph.runtime.interpreter import interpret

AT = np.array([[-1.5, 0.25, 2.0, 800.0], [0.5, -np.inf, 3.0, -900.0], [1.0, 2.0, np.nan, 0.0]])


def optimized(inputs: list[Variable], output: Variable) -> tuple[Graph, list[str]]:
    made, _ = run_pipeline(Graph(inputs, [output]), check=True)
    return made, [node.op.name for node in made.nodes]


def inputs(dtype: str = "float64") -> list[Variable]:
    return [sg.vector(name, shape="n", dtype=dtype) for name in "abc"]


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(
    "reduce",
    [
        sg.logsumexp,
        sg.max,
        sg.min,
        sg.prod,
        lambda s, axis: sg.sum(sg.exp(s) * 2 + s, axis=axis),
        lambda s, axis: sg.sum(sg.cast(s * s, "float32"), axis=axis),
        lambda s, axis: sg.grad(sg.sum(sg.logsumexp(s, axis=axis)), s)[(slice(None),) * axis + (1,)],
    ],
)
def test_a_stack_that_is_reduced_is_never_there(reduce: Any, axis: int) -> None:
    given = inputs()
    y = reduce(sg.stack(given, axis=axis), axis=axis)
    made, ops = optimized(given, y)
    assert "concatenate" not in ops
    assert not {"sum", "max", "min", "prod"} & set(ops)
    at = dict(zip(given, AT, strict=True))
    (want,) = interpret([y], at)
    (got,) = interpret(made, dict(zip(made.inputs, AT, strict=True)))
    np.testing.assert_allclose(got, want, rtol=1e-14)
    np.testing.assert_allclose(sg.function(given, y)(*AT), want, rtol=1e-14)


def test_derivatives_of_any_order_are_one_kernel() -> None:
    x = sg.vector("x", shape="n")
    y = sg.logsumexp(sg.stack([x, 2 * x, x * x], axis=1), axis=1)
    for order in (1, 3, 6):
        f = sg.function([x], sg.derivative(y, x, order))
        assert f.cost.kernels == 1


def test_derivatives_by_repeated_grad_are_one_kernel_too() -> None:
    given = inputs()
    y = sg.logsumexp(sg.stack(given, axis=0), axis=0)
    for _ in range(3):
        y = sg.grad(sg.sum(y * sg.arange(given[0].shape[0])), given[1])
    f = sg.function(given, y)
    assert f.cost.kernels == 1
    at = np.random.default_rng(0).normal(size=(3, 50))
    (want,) = interpret([y], dict(zip(given, at, strict=True)))
    np.testing.assert_allclose(f(*at), want, rtol=1e-12)


@pytest.mark.parametrize("k", [0, 2])
def test_a_part_among_zeros_is_a_stack(k: int) -> None:
    x, c = sg.matrix("x", shape=("n", 3)), sg.vector("c", shape="n")
    among = sg.grad(sg.sum(x[:, k] * c), x)  # zeros but in one column
    made, ops = optimized([c], sg.sum(sg.cos(among) * sg.expand_dims(c, 1), axis=1))
    assert "unslice" not in ops
    (got,) = interpret(made, {made.inputs[0]: AT[0]})
    np.testing.assert_allclose(got, (2 + np.cos(AT[0])) * AT[0], rtol=1e-14)


def test_what_is_wanted_whole_stays() -> None:
    given = inputs()
    s = sg.exp(sg.stack(given, axis=1))
    made, _ = run_pipeline(Graph(given, [s / sg.sum(s, axis=1, keepdims=True)]), check=True)
    assert [node.op.name for node in made.nodes].count("sum") == 1
    product, _ = run_pipeline(Graph(given, [sg.sum(s, axis=1), s @ np.arange(6.0).reshape(3, 2)]), check=True)
    assert "concatenate" in [node.op.name for node in product.nodes]


def test_long_stacks_and_other_axes_stay() -> None:
    a, b, c = inputs()
    assert "sum" in optimized([a], sg.sum(sg.exp(sg.stack([k * a for k in range(2, 12)], axis=0)), axis=0))[1]
    assert "sum" in optimized([a, b, c], sg.sum(sg.exp(sg.stack([a, b, c], axis=0)), axis=1))[1]
    assert "sum" in optimized([a, b], sg.sum(sg.exp(sg.concatenate([a, b], axis=0)), axis=0))[1]


def test_what_varies_along_the_stack_stays_with_it() -> None:
    given = inputs()
    w = sg.vector("w", shape=(3,))
    y = sg.sum(sg.stack(given, axis=1) * sg.tanh(w), axis=1)
    made, _ = optimized([*given, w], y)
    at = [*AT, np.array([1.0, -2.0, 0.5])]
    (want,) = interpret([y], dict(zip([*given, w], at, strict=True)))
    np.testing.assert_allclose(interpret(made, dict(zip(made.inputs, at, strict=True)))[0], want, rtol=1e-14)


def test_half_precision_is_added_up_in_single() -> None:
    given = inputs("float16")
    assert "sum" in optimized(given, sg.sum(sg.stack(given, axis=0) * 2, axis=0))[1]
