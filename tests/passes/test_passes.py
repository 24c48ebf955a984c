"""What each pass does, the trace, checked mode, and that the cost is linear."""

from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import CheckError, FormatError
from symgraph.graph import Apply, Constant, Graph, Variable
from symgraph.op import apply
from symgraph.ops.contract import Contract
from symgraph.ops.elementwise import Accumulate
from symgraph.ops.gather import Gather
from symgraph.ops.shape import AssertShape, Broadcast, Concatenate
from symgraph.passes import Context
from symgraph.passes.accumulate import accumulate
from symgraph.passes.decompose import decompose
from symgraph.passes.fold import fold
from symgraph.passes.intern import intern
from symgraph.passes.sizes import sizes
from symgraph.pipeline import DEFAULT_LEVELS, GRAPH_PASSES, Pass, run_pipeline
from symgraph.runtime.interpreter import interpret


def context() -> Context:
    return Context(levels=DEFAULT_LEVELS, strict=True)


def ops(graph: Graph) -> list[str]:
    return [node.op.name for node in graph.nodes]


# -- intern ------------------------------------------------------------------------------------------------------------


def test_equal_nodes_become_one_and_own_the_lines_of_both() -> None:
    x, y = sg.vector("x", shape=(3,)), sg.vector("y", shape=(3,))
    a = sg.sin(x + y)
    b = sg.sin(y + x)
    made = intern(Graph([x, y], [a, b]), context())
    assert made.outputs[0] is made.outputs[1]
    assert ops(made) == ["add", "sin"]
    assert a.owner is not None
    assert b.owner is not None
    assert made.nodes[-1].sources == a.owner.sources | b.owner.sources
    assert a.owner.sources != b.owner.sources  # the user's graph is as it was


def test_names_survive() -> None:
    x = sg.vector("x", shape=(3,))
    y = sg.sin(x) * 1
    y.name = "y"
    made, _ = run_pipeline(Graph([x], [y]))
    assert made.outputs[0].name == "y"
    assert ops(made) == ["sin"]


def test_nothing_looks_behind_an_input() -> None:
    x = sg.vector("x", shape=(3,))
    e = sg.exp(x)
    made, _ = run_pipeline(Graph([e, x], [sg.log(e) + sg.log(sg.exp(x))]), check=True)
    assert [v.owner for v in made.inputs] == [None, None]
    (got,) = interpret(made, dict(zip(made.inputs, [np.ones(3), np.full(3, 2.0)], strict=True)))
    np.testing.assert_array_equal(got, [2.0, 2.0, 2.0])


def test_uniform_constants_are_numbers() -> None:
    x = sg.matrix("x", shape=(2, 3))
    made, _ = run_pipeline(Graph([x], [x * np.ones((2, 3))]))
    assert made.outputs == (x,)


# -- fold --------------------------------------------------------------------------------------------------------------


def test_small_constants_are_computed() -> None:
    x = sg.vector("x", shape=(3,))
    c = sg.constant([1.0, 2.0, 3.0])
    made = fold(intern(Graph([x], [x + sg.exp(sg.sin(c))]), context()), context())
    assert ops(made) == ["add"]
    assert any(isinstance(v, Constant) for v in made.nodes[0].inputs)


def test_large_and_failing_constants_are_left_to_the_run() -> None:
    c = sg.constant(np.arange(4.0))
    outer = apply(Contract((0,), (1,), (0, 1)), sg.constant(np.arange(1000.0)), sg.constant(np.arange(1000.0)))
    bad = apply(Gather((-1,), ((0,),), (0,)), c, sg.constant([7]))
    made = fold(intern(Graph([], [outer, bad]), context()), context())
    assert [v.owner is None for v in made.outputs] == [False, False]


# -- sizes -------------------------------------------------------------------------------------------------------------


def test_statements_about_sizes_remain_on_inputs_only() -> None:
    x, y, w = sg.matrix("x"), sg.vector("y"), sg.matrix("w", shape=(4, 3))
    out = sg.sum(sg.tanh(x @ w + 1) * sg.expand_dims(y, 1))
    made = sizes(intern(Graph([x, y, w], [out, *sg.grad(out, [w, y])]), context()), context())
    stated = [node for node in made.nodes if isinstance(node.op, AssertShape)]
    inner = [node for node in stated if node.inputs[0].owner is not None]
    assert [v.type for v in made.outputs][1] == w.type
    outputs = set(made.outputs)
    assert all(node.outputs[0] in outputs for node in inner)
    assert made.inputs == (x, y, w)


# -- accumulate --------------------------------------------------------------------------------------------------------


def test_sums_of_products_are_one_node_in_order() -> None:
    x = sg.matrix("x", shape=(3, 3))
    ws = [sg.matrix(f"w{k}", shape=(3, 3)) for k in range(3)]
    total: Any = x
    for w in ws:
        total = total + x @ w
    made = accumulate(intern(Graph([x, *ws], [total]), context()), context())
    node = made.nodes[-1]
    assert isinstance(node.op, Accumulate)
    assert node.inputs[0] is x
    assert [v.owner.inputs[1].name for v in node.inputs if v.owner is not None] == ["w0", "w1", "w2"]


def test_a_sum_that_something_else_uses_is_not_taken_over() -> None:
    x, w = sg.matrix("x", shape=(3, 3)), sg.matrix("w", shape=(3, 3))
    part = x @ w + w @ x
    total = part + w @ w
    made = accumulate(intern(Graph([x, w], [total, part]), context()), context())
    assert ops(made).count("accumulate") == 1
    assert ops(made).count("add") == 1


def test_gradient_of_a_matrix_used_often_is_one_sum() -> None:
    w = sg.matrix("w", shape=(3, 3))
    x: Any = sg.matrix("x", shape=(2, 3))
    y = x
    for _ in range(12):
        y = y @ w
    made, _ = run_pipeline(Graph([x, w], [sg.grad(sg.sum(y), w)]), stop_after="accumulate", check=True)
    sums = [n for n in made.nodes if isinstance(n.op, Accumulate)]
    assert [len(n.inputs) for n in sums] == [12]


# -- decompose ---------------------------------------------------------------------------------------------------------


def test_large_operations_are_decomposed_whatever_the_levels() -> None:
    z = sg.matrix("z", shape=("n", 3))
    graph = Graph([z], [sg.log_softmax(z, axis=1), sg.logsumexp(z)])
    everything: list[list[str] | None] = [None, []]
    for levels in everything:
        made, _ = run_pipeline(graph, levels=levels, check=True, examples=[np.array([[1e4, 0.0, -1e4]])])
        assert not any(hasattr(node.op, "decompose") for node in made.nodes)


def test_long_concatenations_become_trees() -> None:
    parts = [sg.vector(f"x{k}", shape=(2,)) for k in range(70)]
    made = decompose(intern(Graph(parts, [sg.concatenate(parts)]), context()), context())
    joins = [n for n in made.nodes if isinstance(n.op, Concatenate)]
    assert max(len(n.inputs) for n in joins) <= 9
    given = {v: np.array([k, k + 0.5]) for k, v in enumerate(parts)}
    np.testing.assert_array_equal(interpret(made, given)[0], np.arange(140) / 2)


# -- the pipeline ------------------------------------------------------------------------------------------------------


def test_every_pass_has_a_name_a_line_and_a_reason() -> None:
    for p in GRAPH_PASSES:
        assert p.name
        assert p.doc
        assert p.reason
    assert len({p.name for p in GRAPH_PASSES}) == len(GRAPH_PASSES)


def test_stop_after_and_the_trace() -> None:
    x = sg.vector("x", shape=(3,))
    graph = Graph([x], [sg.log(1 + sg.exp(x * 1))])
    made, trace = run_pipeline(graph, stop_after="canonicalize")
    assert [r.name for r in trace][-1] == "canonicalize"
    assert trace[-1].fired["multiply_by_one"] == 1
    assert trace[-1].graph is made
    text = str(trace)
    assert "multiply_by_one 1" in text
    assert text.splitlines()[0].split() == ["pass", "nodes", "before", "after", "ms", "rules", "fired"]
    assert [(name, len(lines)) for name, lines in trace[-1].log] == [("multiply_by_one", 1)]
    with pytest.raises(FormatError, match="stop_after"):
        run_pipeline(graph, stop_after="nothing")


def test_what_replaces_an_expression_owns_its_lines() -> None:
    x = sg.vector("x", shape=(3,))
    e = sg.exp(x)
    s = 1 + e
    y = sg.log(s)
    made, _ = run_pipeline(Graph([x], [y]))
    (node,) = made.nodes
    assert node.op is sg.softplus
    assert [n.owner is not None and n.owner.sources <= node.sources for n in (e, s, y)] == [True] * 3


def test_checked_mode_names_the_guilty_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    x = sg.vector("x", shape=(3,))

    def guilty(graph: Graph, context: Context) -> Graph:
        """Lose the operation."""
        return Graph(graph.inputs, [graph.nodes[0].inputs[0]])

    def broken(graph: Graph, context: Context) -> Graph:
        """Make a node of the wrong type."""
        node = Apply(Broadcast((4,), (0,)), (x,), [x.type])
        return Graph(graph.inputs, [node.outputs[0]])

    for function, what in ((guilty, "changed the value"), (broken, "does not type")):
        monkeypatch.setattr("symgraph.pipeline.GRAPH_PASSES", (Pass(intern, ""), Pass(function, "")))
        with pytest.raises(CheckError, match=what) as error:
            run_pipeline(Graph([x], [sg.sin(x)]), check=True, examples=[np.ones(3)])
        assert function.__name__ in str(error.value)


def test_a_chain_of_100_000_nodes_goes_through() -> None:
    x = sg.vector("x", shape=("n",))
    y: Variable = x
    for k in range(100_000):
        y = sg.sin(y) if k % 2 else -y
    made, trace = run_pipeline(Graph([x], [y]))
    assert len(made) == 100_000
    assert len(trace) == len(GRAPH_PASSES)


def test_a_ladder_stays_as_long_as_it_is() -> None:
    x = sg.scalar("x")
    y: Variable = x
    for _ in range(1000):
        y = sg.sin(y) * sg.sin(y)
    g = sg.grad(y, x)
    made, _ = run_pipeline(Graph([x], [y, g]), check=True)
    assert len(made) < 10_000


def test_the_sixth_derivative_does_not_blow_up() -> None:
    x = sg.scalar("x")
    y: Variable = sg.exp(sg.sin(x)) / (1 + x * x)
    for _ in range(6):
        y = sg.grad(y, x)
    made, _ = run_pipeline(Graph([x], [y]), check=True, examples=[np.array(0.3)])
    assert len(made) < 3000
