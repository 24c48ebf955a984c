"""Reverse mode: values, structure, cost, and the three kinds of absence."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import symgraph as sg
from symgraph import source
from symgraph.autodiff import grad, vjp
from symgraph.errors import DisconnectedError, NotDifferentiableError, RuleError
from symgraph.graph import Graph, Variable, toposort
from symgraph.op import Absence, Derivative, Op, Undefined, apply, apply_node
from symgraph.ops.elementwise import Accumulate
from symgraph.runtime.interpreter import interpret
from symgraph.types import TensorType


def value(v: Variable, givens: dict[Variable, Any]) -> NDArray[Any]:
    (out,) = interpret(v, givens)
    return out


def nodes(*outputs: Variable) -> int:
    return len(toposort(outputs))


def count(op: str, *outputs: Variable) -> int:
    return sum(node.op.name == op for node in toposort(outputs))


# -- values and structure of results


def test_result_has_the_structure_of_wrt() -> None:
    x, y = sg.scalar("x"), sg.vector("y", shape=(3,))
    cost = x * sg.sum(y * y)
    assert isinstance(grad(cost, x), Variable)
    assert isinstance(grad(cost, [x, y]), list)
    pair = grad(cost, (y, x))
    assert isinstance(pair, tuple)
    assert [v.type for v in pair] == [y.type, x.type]
    assert grad(cost, []) == []


def test_the_same_target_twice_and_an_intermediate_one() -> None:
    x = sg.scalar("x")
    h = sg.sin(x)
    cost = h * h * x
    gh, gx, again = grad(cost, [h, x, x])
    assert again is gx
    at = {x: 0.7}
    assert value(gh, at) == pytest.approx(2 * np.sin(0.7) * 0.7)
    assert value(gx, at) == pytest.approx(np.sin(0.7) ** 2 + 2 * 0.7 * np.sin(0.7) * np.cos(0.7))


def test_cost_is_its_own_target() -> None:
    x = sg.scalar("x")
    assert value(grad(x, x), {x: 3.0}) == 1.0


def test_one_variable_as_several_operands() -> None:
    x = sg.scalar("x")
    assert value(grad(x * x, x), {x: 3.0}) == 6.0
    assert value(grad(x * x * x, x), {x: 3.0}) == 27.0
    assert value(grad(apply(Accumulate(), x, x, x), x), {x: 3.0}) == 3.0
    y = sg.vector("y", shape=(2,))
    both = sg.concatenate([y, y])
    np.testing.assert_array_equal(value(grad(sg.sum(both * np.arange(4.0)), y), {y: [0.0, 0.0]}), [2.0, 4.0])


def test_bprop_treats_operands_as_distinct() -> None:
    x, g = sg.scalar("x"), sg.scalar("g")
    for position in (0, 1):
        d = sg.multiply.bprop([x, x], position, g)
        assert isinstance(d, Variable)
        assert value(d, {x: 3.0, g: 2.0}) == 6.0


def test_contributions_meet_in_one_accumulate() -> None:
    x = sg.vector("x", shape=(4,))
    terms = [sg.sin(x * k) for k in (2.0, 3.0, 4.0, 5.0)]
    cost = sg.sum(sg.stack(terms))
    g = grad(cost, x)
    owner = g.owner
    assert owner is not None
    assert owner.op == Accumulate()
    assert len(owner.inputs) == 4
    assert count("accumulate", g) == 1
    at = np.linspace(-1, 1, 4)
    np.testing.assert_allclose(value(g, {x: at}), sum(k * np.cos(k * at) for k in (2.0, 3.0, 4.0, 5.0)))


def test_several_outputs_of_one_op() -> None:
    x = sg.matrix("x", shape=(2, 3))
    largest, where = sg.max_and_argmax(x, axis=1)
    cost = sg.sum(largest * sg.cast(where, "float64"))
    got = value(grad(cost, x), {x: [[1.0, 5.0, 2.0], [0.0, 1.0, 4.0]]})
    np.testing.assert_array_equal(got, [[0, 1, 0], [0, 0, 2]])


def test_float32_stays_float32() -> None:
    x = sg.vector("x", dtype="float32", shape=("n",))
    g = grad(sg.mean(sg.exp(x) / (1 + x * x)), x)
    assert g.type == x.type
    y = sg.vector("y", dtype="float64", shape=("n",))
    mixed = grad(sg.sum(x * y), [x, y])
    assert [v.type.dtype for v in mixed] == [np.dtype("float32"), np.dtype("float64")]


def test_vjp_of_several_outputs() -> None:
    x = sg.vector("x", shape=(3,))
    A = np.arange(6.0).reshape(2, 3)
    y, z = sg.sum(A * sg.sin(x), axis=1), sg.sum(x * x)
    u = np.array([2.0, -1.0])
    got = value(vjp([y, z], x, [u, 0.5]), {x: [0.1, 0.2, 0.3]})
    at = np.array([0.1, 0.2, 0.3])
    np.testing.assert_allclose(got, (u @ A) * np.cos(at) + at)


def test_vjp_where_an_output_is_given_twice_or_is_the_input() -> None:
    x = sg.scalar("x")
    y = sg.sin(x)
    assert value(vjp([y, y, x], x, [1.0, 2.0, 10.0]), {x: 0.0}) == 13.0


def test_known_gradients_replace_what_is_computed() -> None:
    x = sg.scalar("x")
    h = sg.exp(x)
    g = sg.scalar("g")
    alone = grad(None, x, known={h: g})
    assert value(alone, {x: 0.5, g: 3.0}) == pytest.approx(3 * np.exp(0.5))
    # What flows to h from the cost is not counted; what flows past it is.
    mixed = grad(h * h + x, x, known={h: 3.0})
    assert value(mixed, {x: 0.5}) == pytest.approx(1 + 3 * np.exp(0.5))
    assert value(grad(h * h, h, known={h: 7.0}), {x: 0.5}) == 7.0


# -- cost


def test_chain_of_100000_nodes_without_recursion() -> None:
    x = sg.scalar("x")
    y = x
    for _ in range(100_000):
        y = sg.sin(y)
    start = time.perf_counter()
    g = grad(y, x)
    seconds = time.perf_counter() - start
    assert nodes(g) < 3 * 100_000 + 1
    assert seconds < 120  # a bound against quadratic growth, not a benchmark
    short = x
    for _ in range(50):
        short = sg.sin(short)
    direct = 1.0
    at = 0.5
    for _ in range(50):
        direct *= np.cos(at)
        at = np.sin(at)
    assert value(grad(short, x), {x: 0.5}) == pytest.approx(direct)


def test_ladder_of_exponentially_many_paths() -> None:
    x = sg.scalar("x")
    y = x
    for _ in range(1000):
        y = sg.tanh(y + y * y)
    g = grad(y, x)
    assert nodes(g) < 10 * 1000
    doubled = x
    for _ in range(60):
        doubled = doubled + doubled
    assert value(grad(doubled, x), {x: 1.0}) == 2.0**60


def test_only_nodes_between_target_and_cost_are_visited() -> None:
    visited: list[str] = []

    class Spy(Op):
        name = "spy"

        def __init__(self, label: str) -> None:
            self.label = label

        def infer(self, *inputs: TensorType) -> TensorType:
            return inputs[0]

        def vjp(
            self, inputs: Sequence[Variable], outputs: Sequence[Variable], cts: Sequence[Derivative]
        ) -> Sequence[Derivative]:
            visited.append(self.label)
            return list(cts)

    x, y = sg.scalar("x"), sg.scalar("y")
    on, off, beyond = apply(Spy("on"), x), apply(Spy("off"), y), apply(Spy("beyond"), x)
    apply(Spy("after"), on)
    grad(on * off, x)
    assert visited == ["on"]
    visited.clear()
    grad(on * off + beyond, on)
    assert visited == []


def test_nested_derivatives_share_their_nodes() -> None:
    x = sg.scalar("x")
    y = sg.exp(sg.sin(x))
    orders = [y]
    for _ in range(4):
        orders.append(grad(orders[-1], x))
    alone = sum(nodes(v) for v in orders)
    together = nodes(*orders)
    assert together < alone
    assert together <= 60  # 95 nodes where no order shares anything with another
    again = grad(orders[2], x)
    assert nodes(orders[3], again) <= nodes(orders[3]) * 2
    # The cosine that the first derivative made is the one that the second derivative of the same graph finds.
    assert count("cos", *orders) == 1


# -- absence: zero, disconnected, undefined


def test_zero_is_an_answer() -> None:
    x = sg.vector("x", shape=(3,))
    for mode in ("raise", "zero", "none"):
        g = grad(sg.sum(sg.floor(x) * 2), x, disconnected=mode)
        np.testing.assert_array_equal(value(g, {x: [0.5, 1.5, -2.5]}), [0, 0, 0])


@pytest.mark.parametrize(
    "through",
    [
        lambda x: sg.stop_gradient(x),
        lambda x: sg.cast(sg.argmax(x), "float64"),
        lambda x: sg.where(x > 0, 1.0, 2.0),
        lambda x: sg.cast(sg.cast(x, "int64"), "float64"),
    ],
    ids=["stop_gradient", "argmax", "condition", "integers"],
)
def test_disconnected_is_another(through: Any) -> None:
    x, y = sg.vector("x", shape=(3,)), sg.vector("y", shape=(3,))
    cost = sg.sum(through(x) * 2) + sg.sum(y)
    with pytest.raises(DisconnectedError, match=r"x: float64.*only through integers, conditions or stop_gradient"):
        grad(cost, x)
    gx, gy = grad(cost, [x, y], disconnected="none")
    assert gx is None
    assert value(gy, {y: np.zeros(3)}).tolist() == [1, 1, 1]
    assert value(grad(cost, x, disconnected="zero"), {}).tolist() == [0, 0, 0]


def test_a_variable_that_is_not_in_the_graph() -> None:
    x, y = sg.scalar("x"), sg.scalar("y")
    with pytest.raises(DisconnectedError, match="does not depend on y: float64"):
        grad(x * x, [x, y])
    assert grad(x * x, y, disconnected="none") is None


def test_stop_gradient_lets_the_other_path_through() -> None:
    x = sg.scalar("x")
    assert value(grad(x * sg.stop_gradient(x), x), {x: 3.0}) == 3.0


class OneSided(Op):
    """x + 0*n, differentiable in x only."""

    name = "one_sided"

    def infer(self, *inputs: TensorType) -> TensorType:
        return inputs[0]

    def vjp(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], cts: Sequence[Derivative]
    ) -> Sequence[Derivative]:
        return [cts[0], Undefined("order in n")]

    def jvp(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], tangents: Sequence[Derivative]
    ) -> Sequence[Derivative]:
        return [tangents[0] if isinstance(tangents[1], Absence) else Undefined("order in n")]


def test_undefined_is_an_error_only_where_it_is_needed() -> None:
    x, n = sg.scalar("x"), sg.scalar("n")
    y = apply(OneSided(), x, n)
    assert isinstance(grad(y, x), Variable)
    with pytest.raises(
        NotDifferentiableError, match=r"one_sided: the derivative is not defined: order in n.*n: float64"
    ):
        grad(y, n)
    assert isinstance(sg.jvp(y, x, 1.0), Variable)
    with pytest.raises(NotDifferentiableError, match=r"one_sided.*order in n"):
        sg.jvp(y, n, 1.0)
    # A derivative that nothing differentiable reaches is not needed.
    assert isinstance(grad(apply(OneSided(), x, sg.stop_gradient(n)), x), Variable)
    assert isinstance(grad(sg.stop_gradient(y) + n, n), Variable)


def test_no_rule_is_an_error_that_names_the_op() -> None:
    class Opaque(Op):
        name = "opaque"

        def infer(self, *inputs: TensorType) -> TensorType:
            return inputs[0]

    x = sg.scalar("x")
    with pytest.raises(
        NotDifferentiableError, match=r"opaque: .*no derivative rule is stated.*x: float64.*test_reverse.py"
    ):
        grad(apply(Opaque(), x), x)
    with pytest.raises(NotDifferentiableError, match="opaque"):
        sg.jvp(apply(Opaque(), x), x, 1.0)


@pytest.mark.parametrize(
    ("results", "message"),
    [
        (lambda x, ct: [ct], "returned 1 results, wanted 2"),
        (lambda x, ct: [ct, ct, ct], "returned 3 results, wanted 2"),
        (lambda x, ct: [sg.cast(ct, "float32"), ct], r"wanted float64\[3\], got float32\[3\]"),
        (lambda x, ct: [sg.sum(ct), ct], r"wanted float64\[3\], got float64\[\]"),
        (lambda x, ct: [ct[:2], ct], r"wanted float64\[3\], got float64\[2\]"),
        (lambda x, ct: [None, ct], "returned None at position 0"),
        (lambda x, ct: 5, "not a sequence"),
    ],
)
def test_rules_that_return_the_wrong_thing_are_named(results: Any, message: str) -> None:
    class Wrong(Op):
        name = "wrong"

        def infer(self, *inputs: TensorType) -> TensorType:
            return inputs[0]

        def vjp(
            self, inputs: Sequence[Variable], outputs: Sequence[Variable], cts: Sequence[Derivative]
        ) -> Sequence[Derivative]:
            made: Sequence[Derivative] = results(inputs[0], cts[0])
            return made

    x = sg.vector("x", shape=(3,))
    with pytest.raises(RuleError, match=f"wrong.*{message}.*test_reverse.py"):
        grad(sg.sum(apply(Wrong(), x, x)), x)


def test_a_rule_must_not_give_integers_a_gradient() -> None:
    class Wrong(Op):
        name = "wrong"

        def infer(self, *inputs: TensorType) -> TensorType:
            return inputs[0]

        def vjp(
            self, inputs: Sequence[Variable], outputs: Sequence[Variable], cts: Sequence[Derivative]
        ) -> Sequence[Derivative]:
            return [cts[0], cts[0]]

    x, k = sg.scalar("x"), sg.scalar("k", dtype="int64")
    with pytest.raises(RuleError, match=r"wrong.*position 1 for int64\[\]"):
        grad(apply(Wrong(), x, k), x)


# -- provenance


def test_gradients_belong_to_the_lines_of_their_primals() -> None:
    x = sg.vector("x", shape=(3,))
    h = sg.exp(x)
    cost = sg.sum(h * h)
    (line_of_h,) = h.sources
    (line_of_cost,) = cost.sources
    g = grad(cost, x)
    found = {line for node in toposort([g]) for line in node.sources}
    assert found <= {line_of_h, line_of_cost, *x.sources}
    assert g.sources == h.sources
    assert all(isinstance(line, source.Line) for line in found)


def test_symbolic_sizes() -> None:
    x = sg.matrix("x", shape=("batch", 3))
    w = sg.vector("w", shape=(3,))
    cost = sg.mean(sg.tanh(sg.sum(x * w, axis=1)))
    g = grad(cost, w)
    rng = np.random.default_rng(0)
    for n in (1, 4):
        X, W = rng.normal(size=(n, 3)), rng.normal(size=3)
        want = ((1 - np.tanh(X @ W) ** 2)[:, None] * X).mean(axis=0)
        np.testing.assert_allclose(value(g, {x: X, w: W}), want)


def test_unknown_sizes_are_asserted_where_rules_need_them() -> None:
    x, y = sg.vector("x"), sg.vector("y")
    cost = sg.sum(x * y)
    g = grad(cost, [x, y])
    assert [v.type for v in g] == [x.type, y.type]
    np.testing.assert_array_equal(value(g[0], {x: [1.0, 2.0], y: [3.0, 4.0]}), [3, 4])


def test_empty_tensors() -> None:
    x = sg.vector("x", shape=(0,))
    g = grad(sg.sum(sg.exp(x)), x)
    assert value(g, {x: np.zeros(0)}).shape == (0,)


def test_graph_of_several_gradients() -> None:
    x, y = sg.scalar("x"), sg.scalar("y")
    cost = sg.exp(x * y)
    g = Graph([x, y], [cost, *grad(cost, [x, y])])
    e = np.exp(0.06)
    for got, want in zip(interpret(g, {x: 0.2, y: 0.3}), [e, 0.3 * e, 0.2 * e], strict=True):
        assert got == pytest.approx(want)
    assert len(apply_node(sg.exp, [x]).outputs) == 1
