"""Named scopes, and what a node of a derivative knows of what it is the derivative of."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

import symgraph as sg
from symgraph.graph import Apply, Graph
from symgraph.pipeline import run_pipeline
from symgraph.source import Origin


def network() -> tuple[sg.Variable, sg.Variable]:
    x, w = sg.matrix("x", shape=("n", 4)), sg.matrix("w", shape=(4, 4))
    h = x
    with sg.scope("net"):
        for k in range(2):
            with sg.scope(f"layer{k}"):
                h = sg.tanh(h @ w)
    return sg.sum(h), w


def nodes(*outputs: sg.Variable) -> list[Apply]:
    return Graph((), outputs).nodes


def test_nested() -> None:
    cost, _ = network()
    assert [n.origin.scope for n in nodes(cost)] == ["net/layer0", "net/layer0", "net/layer1", "net/layer1", ""]


def test_kept_by_derivatives_which_know_their_primal() -> None:
    cost, w = network()
    forward = {v.serial: v for n in nodes(cost) for v in (*n.inputs, *n.outputs)}
    gradient = sg.grad(cost, w)
    made = [n for n in nodes(gradient) if n.outputs[0].serial not in forward]
    assert {n.origin.order for n in made} == {1}
    assert {n.origin.mode for n in made} == {"adjoint"}
    assert {n.origin.scope for n in made} >= {"net/layer0", "net/layer1"}
    for n in made:
        assert forward[n.origin.of].origin.scope == n.origin.scope
    second = sg.grad(sg.sum(gradient), w)
    assert max(n.origin.order for n in nodes(second)) == 2
    tangent = sg.jvp(cost, w, sg.matrix("v", shape=(4, 4)))
    assert {n.origin.mode for n in nodes(tangent)} == {"", "tangent"}


def test_kept_by_the_compiler() -> None:
    cost, w = network()
    graph, _ = run_pipeline(Graph([w], [cost, sg.grad(cost, w)]))
    found = {(n.origin.scope, n.origin.order) for n in graph.nodes}
    assert found >= {(f"net/layer{k}", order) for k in (0, 1) for order in (0, 1)}


def test_taylor_has_an_order_for_each_coefficient() -> None:
    x = sg.scalar("x")
    derivatives = sg.taylor(sg.exp(sg.sin(x)), x, 1.0, 3)
    assert {n.origin.order for n in nodes(*derivatives)} >= {0, 1, 2, 3}


def test_kept_by_batching_and_substitution() -> None:
    cost, w = network()
    batch = sg.tensor("W", dtype="float64", shape=(5, 4, 4))
    assert {n.origin.scope for n in nodes(sg.vectorize(cost, {w: batch}))} >= {"net/layer0", "net/layer1"}
    other = sg.matrix("other", shape=(4, 4))
    gradient = sg.grad(cost, w)
    replaced = sg.substitute([cost, gradient], {w: other})
    shared = set(nodes(gradient))  # what does not depend on w is not copied
    serials = {v.serial for n in nodes(*replaced) for v in (*n.inputs, *n.outputs)}
    assert {n.origin.of for n in nodes(*replaced) if n.origin.order and n not in shared} <= serials


def test_pickled_functions_keep_them() -> None:
    x = sg.vector("x", shape="n")
    with sg.scope("here"):
        y = sg.sum(sg.exp(x))
    f = pickle.loads(pickle.dumps(sg.function([x], sg.grad(y, x), target="numpy")))
    made = f.graph.nodes
    assert {n.origin.scope for n in made} == {"here"}
    serials = {v.serial for n in made for v in (*n.inputs, *n.outputs)}
    assert any(n.origin.of in serials for n in made)


def test_errors_leave_the_scope() -> None:
    with pytest.raises(sg.errors.SizeError), sg.scope("s"):
        sg.vector("a", shape=2) + sg.vector("b", shape=3)
    assert (sg.scalar("x") + 1).origin == Origin()


@pytest.mark.parametrize("name", ["", "/", 3, None])
def test_bad_names(name: Any) -> None:
    with pytest.raises(sg.errors.FormatError, match=r"scope: wanted a name, got .*\(test_scopes.py:"), sg.scope(name):
        pass


def test_a_name_may_be_anything() -> None:
    with sg.scope("<img onerror=…>"), sg.scope("変数"):
        y = sg.exp(sg.scalar("x"))
    assert y.origin.scope == "<img onerror=…>/変数"
