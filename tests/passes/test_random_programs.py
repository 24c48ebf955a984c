"""Random well-typed programs: the optimized graph gives the values of the graph as written, after every pass."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import symgraph as sg
from symgraph.graph import Graph, Variable
from symgraph.pipeline import LEVELS, agree, run_pipeline
from symgraph.runtime.interpreter import interpret
from symgraph.types import Dim, evaluate, unify

UNARY = [
    *(
        sg.exp,
        sg.tanh,
        sg.sigmoid,
        sg.softplus,
        sg.square,
        sg.negative,
        sg.absolute,
        sg.sin,
        sg.relu,
        sg.sign,
        sg.log1p,
    ),
    *(sg.reciprocal, sg.sqrt, sg.floor, sg.positive, sg.stop_gradient, sg.expm1),
]
BINARY = [sg.add, sg.subtract, sg.multiply, sg.divide, sg.maximum, sg.minimum, sg.hypot, sg.logaddexp]
NUMBERS = [0.0, -0.0, 1.0, -1.0, 2.0, 0.5, 3.0, -2.5]


def may_be_equal(a: Variable, b: Variable, inputs: list[Variable]) -> bool:
    """Whether the sizes are equal in every run of the test, and can be stated to be."""
    env = {}
    for v in inputs:
        for s, k in zip(v.type.shape, (3, 4)[-v.type.ndim :], strict=False):
            if isinstance(s, Dim) and s.atom is not None:
                env[s.atom] = k
    pairs = list(zip(a.type.shape, b.type.shape, strict=False))
    return a.type.ndim == b.type.ndim and all(
        evaluate(p, env) == evaluate(q, env) and unify(p, q) is not None for p, q in pairs
    )


def step(draw: Any, made: list[Variable], inputs: list[Variable]) -> Any:
    """One more expression of what is there; every matrix is 3 × 4 or transposed, so that much fits together."""
    x = draw(st.sampled_from(made))
    kind = draw(st.integers(0, 13))
    if kind <= 1:
        return draw(st.sampled_from(UNARY))(x)
    if kind <= 4:
        same = [v for v in made if may_be_equal(v, x, inputs)]
        return draw(st.sampled_from(BINARY))(x, draw(st.sampled_from(same)))
    if kind == 5:
        c = draw(st.sampled_from(NUMBERS))
        f = draw(st.sampled_from([sg.add, sg.subtract, sg.multiply, sg.divide]))
        return f(x, c) if draw(st.booleans()) else f(c, x)
    if kind == 6:
        return sg.transpose(x)
    if kind == 7 and x.type.ndim:
        axis = draw(st.integers(0, x.type.ndim - 1))
        keep = draw(st.booleans())
        out = draw(st.sampled_from([sg.sum, sg.max, sg.mean, sg.logsumexp]))(x, axis=axis, keepdims=keep)
        return x - out if keep else out
    if kind == 8 and x.type.ndim:
        return draw(st.sampled_from([sg.softmax, sg.log_softmax]))(x, axis=draw(st.integers(0, x.type.ndim - 1)))
    if kind == 9 and x.type.ndim == 2:
        return sg.matmul(x, sg.transpose(draw(st.sampled_from([v for v in made if v.type.shape == x.type.shape]))))
    if kind == 10 and x.type.ndim:
        return sg.concatenate([x, x])[: x.type.shape[0]]
    if kind == 11:
        return sg.broadcast_to(x, (2, *x.type.shape))[draw(st.integers(0, 1))]
    if kind == 12:
        same = [v for v in made if v.type.shape == x.type.shape]
        return sg.where(x > draw(st.sampled_from(same)), x, draw(st.sampled_from(NUMBERS)))
    return sg.reshape(sg.reshape(x, (-1,)), x.type.shape)


@st.composite
def programs(draw: Any) -> tuple[list[Variable], list[Variable]]:
    n: Any = draw(st.sampled_from([3, "n", None]))
    inputs = [
        sg.matrix("x", shape=(n, 4)),
        sg.matrix("y", shape=(n, n and 4)),  # beside x, unknown sizes are stated to be equal
        *(sg.vector("v", shape=(4,)), sg.scalar("s")),
    ]
    made = list(inputs)
    for _ in range(draw(st.integers(1, 12))):
        made.append(step(draw, made, inputs))
    return inputs, made[-2:]


def values(inputs: list[Variable]) -> list[np.ndarray[Any, Any]]:
    rng = np.random.default_rng(1)
    return [
        rng.uniform(-2, 2, [s if isinstance(s, int) else 3 + k for k, s in enumerate(v.type.shape)]) for v in inputs
    ]


@settings(max_examples=150)
@given(programs())
def test_every_pass_keeps_the_values_of_a_random_program(program: tuple[list[Variable], list[Variable]]) -> None:
    inputs, outputs = program
    run_pipeline(Graph(inputs, outputs), check=True, examples=values(inputs))


@settings(max_examples=75)
@given(programs())
def test_every_pass_keeps_the_gradient_of_a_random_program(program: tuple[list[Variable], list[Variable]]) -> None:
    inputs, outputs = program
    cost = sg.sum(sg.tanh(outputs[-1]))
    gradients = sg.grad(cost, inputs, disconnected="zero")
    run_pipeline(Graph(inputs, [cost, *gradients]), check=True, examples=values(inputs))


@settings(max_examples=50)
@given(programs())
def test_no_level_changes_finite_values(program: tuple[list[Variable], list[Variable]]) -> None:
    inputs, outputs = program
    given_values = values(inputs)
    graph = Graph(inputs, outputs)
    expected = interpret(graph, dict(zip(inputs, given_values, strict=True)))
    if not all(np.isfinite(a).all() for a in expected):
        return
    made, _ = run_pipeline(graph, check=True, fast_math=True)
    for a, b in zip(expected, interpret(made, dict(zip(made.inputs, given_values, strict=True))), strict=True):
        assert agree(a, b)


@settings(max_examples=75)
@given(programs())
def test_exact_rules_alone_keep_every_bit(program: tuple[list[Variable], list[Variable]]) -> None:
    inputs, outputs = program
    given_values = values(inputs)
    graph = Graph(inputs, outputs)
    made, _ = run_pipeline(graph, stop_after="canonicalize", check=True, levels=["exact"])
    for a, b in zip(
        interpret(graph, dict(zip(inputs, given_values, strict=True))),
        interpret(made, dict(zip(made.inputs, given_values, strict=True))),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


def test_levels_are_known() -> None:
    assert {"exact", "stabilize", "real-equal", "reassociates", "widens domain"} == set(LEVELS)
    x = sg.scalar("x")
    with pytest.raises(ValueError, match="levels"):
        run_pipeline(Graph([x], [x]), levels=["fast"])
