"""The order of steps: a valid one, and one that keeps less in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.graph import Graph, Variable
from symgraph.ops.checkpoint import After
from symgraph.passes.fuse import Step, fuse
from symgraph.passes.schedule import reads, schedule, writes
from symgraph.pipeline import run_pipeline


def _network(layers: int = 8, wrap: Callable[[Any], Any] = lambda f: f) -> tuple[list[Variable], list[Variable]]:
    x = sg.matrix("x", shape=(32, 16))
    ws = [sg.matrix(f"w{k}", shape=(16, 16)) for k in range(layers)]
    layer = wrap(lambda h, w: sg.tanh(h @ w))
    h: Any = x
    for w in ws:
        h = layer(h, w)
    cost = sg.mean(sg.square(h))
    return [x, *ws], [cost, *sg.grad(cost, ws)]


def _table() -> tuple[list[Variable], list[Variable]]:
    table, k = sg.matrix("t", shape=(9, 4)), sg.vector("k", "int64", shape=(5,))
    rows = sg.take(table, k, axis=0)
    cost = sg.sum(sg.softmax(rows @ rows.T, axis=1) @ sg.sin(rows))
    return [table, k], [cost, sg.grad(cost, table), sg.grad(sg.sum(sg.square(sg.grad(cost, table))), table)]


def _symbolic() -> tuple[list[Variable], list[Variable]]:
    x, w = sg.matrix("x", shape=("n", "k")), sg.matrix("w", shape=("k", "k"))
    y = sg.sum(sg.logsumexp(sg.concatenate([x @ w, x], axis=0), axis=1))
    return [x, w], [y, *sg.grad(y, [x, w]), sg.hessian(y, x)]


PROGRAMS: dict[str, Callable[[], tuple[list[Variable], list[Variable]]]] = {
    "network": _network,
    "checkpoints": lambda: _network(wrap=sg.checkpoint),
    "table": _table,
    "symbolic": _symbolic,
}


def _valid(steps: list[Step], order: list[Step]) -> None:
    assert len(order) == len(steps)
    assert set(order) == set(steps)
    place = {step: k for k, step in enumerate(order)}
    stored = {step: set(writes(step)) for step in steps}
    for k, step in enumerate(steps):
        for earlier in steps[:k]:
            if not stored[earlier].isdisjoint({*reads(step), *writes(step)}):
                assert place[earlier] < place[step]


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_step_comes_after_what_it_needs(name: str) -> None:
    inputs, outputs = PROGRAMS[name]()
    graph, _ = run_pipeline(Graph(inputs, outputs))
    steps = fuse(graph)
    _valid(steps, schedule(steps, graph.outputs))


def _arena(inputs: list[Variable], outputs: list[Variable], shapes: dict[str, int]) -> int:
    fn = sg.function(inputs, outputs, threads=1)
    fn(*[np.ones([shapes.get(str(s), s) for s in v.type.shape]) for v in inputs])
    plan = fn.program.last_plan
    assert plan is not None
    return plan.arena


def test_gradients_of_weights_do_not_keep_activations_alive() -> None:
    """One activation for each layer, and the cotangent that goes back: not the cotangent of each layer too."""
    one = 32 * 16 * 8
    assert _arena(*_network(), {}) <= (8 + 3) * one


def test_updates_do_not_either() -> None:
    """A weight's gradient that is needed for an update only is stored for one step."""
    inputs, (cost, *grads) = _network()
    new = [w - 0.1 * g for w, g in zip(inputs[1:], grads, strict=True)]
    assert _arena(inputs, [cost, *new], {}) <= (8 + 3) * 32 * 16 * 8


def test_an_order_that_is_no_better_is_left_alone() -> None:
    x, w = sg.matrix("x", shape=(8, 8)), sg.matrix("w", shape=(8, 8))
    h = sg.tanh(x @ w)
    graph, _ = run_pipeline(Graph([x, w], [sg.sum(h, axis=0), h @ w]))
    steps = fuse(graph)
    assert schedule(steps, graph.outputs) == steps


def test_what_is_only_waited_for_is_not_computed() -> None:
    x, w = sg.matrix("x", shape=(8, 8)), sg.matrix("w", shape=(8, 8))
    graph, _ = run_pipeline(Graph([x, w], [sg.apply(After(), x, sg.tanh(x @ w)) @ w]))
    assert len(schedule(fuse(graph), graph.outputs)) == 1


@pytest.mark.parametrize("stored", [True, False])
def test_nothing_runs_before_what_it_waits_for(stored: bool) -> None:
    """Also where that is computed inside its consumers, and where the waiting step would free memory at once."""
    x, w = sg.matrix("x", shape=(64, 64)), sg.matrix("w", shape=(64, 64))
    first = x @ w
    second = first @ w
    awaited = second @ w if stored else sg.negative(second)
    late = sg.apply(After(), first, awaited) @ sg.apply(After(), w, awaited)
    graph, _ = run_pipeline(Graph([x, w], [late, sg.sum(sg.tanh(awaited))]))
    order = schedule(fuse(graph), graph.outputs)
    place = {v: k for k, s in enumerate(order) for v in writes(s)}
    wait = graph.outputs[0].owner
    assert wait is not None
    after = wait.inputs[0].owner
    assert after is not None
    assert isinstance(after.op, After)
    token = after.inputs[1]
    behind = token if token in place else token.owner.inputs[0]  # type: ignore[union-attr]
    assert place[graph.outputs[0]] > place[behind]
