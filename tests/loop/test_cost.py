"""What a program costs: against hand counts, and against an interpreter of its loops that counts what it does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import symgraph as sg
from symgraph.errors import SizeError, UnknownInputError
from symgraph.graph import Constant, Graph, Variable, leaves
from symgraph.passes.decompose import legalize
from symgraph.passes.library import LibraryCall
from symgraph.pipeline import run_pipeline
from symgraph.runtime.checks import agree, size_checks
from symgraph.runtime.cost import Cost, cost_of, program_cost
from symgraph.runtime.function import _own_outputs
from symgraph.runtime.interpreter import interpret
from symgraph.runtime.program import Program, build
from symgraph.testing.programs import from_hypothesis, random_program
from symgraph.types import Size, dim
from tests.loop.interpreter import run_program


def program(graph: Graph) -> Program:
    """The program of a graph, not compiled."""
    final = _own_outputs(legalize(run_pipeline(graph)[0]))
    return build(final, final.outputs, {}, size_checks(graph), 1)


def cost(*outputs: Variable) -> Cost:
    """The cost of the program that computes ``outputs``."""
    given = [v for v in leaves(outputs) if not isinstance(v, Constant)]
    return program_cost(program(Graph(given, outputs)))


def number(size: Size) -> int:
    """A size that is known."""
    assert isinstance(size, int)
    return size


# -- against an interpreter --------------------------------------------------------------------------------------------


@st.composite
def graphs(draw: Any) -> tuple[Graph, list[Any]]:
    p = random_program(from_hypothesis(draw), steps=10)
    return Graph(p.inputs, [*p.outputs, *(p.gradients() if draw(st.booleans()) else ())]), p.values


def compare(graph: Graph, values: list[Any]) -> Cost:
    """Interpret the loops of a graph's program: values, operations and words met are those of the cost."""
    made = program(graph)
    outputs, tallies = run_program(made, values)
    for a, b in zip(outputs, interpret(graph, dict(zip(graph.inputs, values, strict=True))), strict=True):
        assert agree(np.asarray(a), b), "the interpreter of loops is wrong"
    counted = program_cost(made).at(*values)
    for s, tally in zip(counted.steps, tallies, strict=True):
        if isinstance(s.step, LibraryCall):
            continue
        met = [{v: len(at) for v, at in table.items()} for table in (tally.loaded, tally.stored)]
        said = [{v: n // v.type.dtype.itemsize for v, n in t.items() if n} for t in (s.reads, s.writes)]
        if s.exact:
            assert s.operations == dict(tally.operations)
            assert said == met
        else:
            assert all(number(s.operations[fn]) >= n for fn, n in tally.operations.items())
            assert all(number(a[v]) >= n for a, b in zip(said, met, strict=True) for v, n in b.items())
    return counted


@settings(max_examples=150, deadline=None)
@given(graphs())
def test_random_programs(case: tuple[Graph, list[Any]]) -> None:
    compare(*case)


def test_inexact_is_rare() -> None:
    """Where nothing depends on data, an upper bound is the exception."""
    names = ["unary", "binary", "constant", "select", "reduce", "shape", "slice", "matmul", "softmax", "cast", "stop"]
    found = []
    for seed in range(60):
        p = random_program(np.random.default_rng(seed), names=names)
        found.append(compare(Graph(p.inputs, [*p.outputs, *p.gradients()]), p.values).exact)
    assert sum(found) >= 58


def x_(*shape: Any) -> Variable:
    return sg.tensor(name="x", dtype="float64", shape=shape)


SHAPES: dict[str, Callable[[Variable], Variable]] = {
    "strides": lambda x: x[::2, 1:] + 2 * x[::2, :-1],
    "backwards": lambda x: x[::-1, ::-3] * 2,
    "window": lambda x: x[2:] - 2 * x[1:-1] + x[:-2],
    "diagonal": lambda x: sg.sum(sg.diagonal(x)),
    "flat": lambda x: sg.ravel(x)[3:-2] * 3,
    "flat pieces": lambda x: sg.concatenate([sg.ravel(x)[:5], sg.ravel(sg.exp(x))[7:]]) + 1,
    "tiles": lambda x: sg.tile(x, (2, 3)) + 1,
    "repeats": lambda x: sg.repeat(x, 3, axis=0) + 1,
    "padded": lambda x: sg.pad(sg.sin(x), ((1, 2), (0, 3))),
    "joined": lambda x: sg.concatenate([sg.exp(x), x[:2] * 2, sg.tanh(x)], axis=0),
    "joined backwards": lambda x: sg.concatenate([sg.exp(x), x[:2] * 2], axis=0)[::-1] + 1,
    "strided gradient": lambda x: sg.grad(sg.sum(sg.exp(x[1::2, ::3])), x),
    "backward gradient": lambda x: sg.grad(sg.sum(sg.exp(x[::-2])), x),
    "position": lambda x: sg.argmax(x, axis=1),
    "interleaved": lambda x: x[::2].T @ x[1::2] if x.type.shape == (8, 8) else x,
    "every third and every other": lambda x: sg.sum(x[::3]) + sg.sum(x[::2]),
    "triangle": lambda x: sg.tril(x) * 2,
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("shape", [(8, 8), ("n", "m")])
def test_shapes(name: str, shape: tuple[Any, ...]) -> None:
    """Conditions and indices that are computed: exact for numbers, where no data decides."""
    x = x_(*shape)
    counted = compare(Graph([x], [SHAPES[name](x)]), [np.random.default_rng(0).normal(size=(8, 8))])
    assert counted.exact


def test_long_sums() -> None:
    """Sums in blocks: the last block is shorter, and the blocks are put together with compensation."""
    x = sg.vector("x", shape="n")
    for n in (1, 1023, 1024, 1025, 2500):
        counted = compare(Graph([x], [sg.sum(sg.square(x))]), [np.ones(n)])
        assert counted.operations["square"] == n
        assert counted.flops == 2 * n + 6 * -(-n // 1024) + 1


# -- by hand -----------------------------------------------------------------------------------------------------------

n, m, k = dim("n"), dim("m"), dim("k")
X, Y = sg.matrix("X", shape=(n, m)), sg.matrix("Y", shape=(m, k))
u, v, w = (sg.vector(name, shape=n) for name in "uvw")
h, i = sg.vector("h", dtype="float32", shape=n), sg.vector("i", dtype="int64", shape=n)
Z = sg.tensor(name="Z", dtype="float64", shape=(n, 8))
A, B = sg.tensor(name="A", dtype="float64", shape=(5, 2, 3)), sg.tensor(name="B", dtype="float64", shape=(5, 3, 4))

HAND: dict[str, tuple[Any, Any, Any, Any, Any, int]] = {
    # outputs, flops, transcendentals, bytes read, bytes written, kernels
    "fused": (u * v + w, 2 * n, 0, 24 * n, 8 * n, 1),
    "read once": (u * u + u, 2 * n, 0, 8 * n, 8 * n, 1),
    "exp": (sg.exp(-u) / 2, n, n, 8 * n, 8 * n, 1),
    "signs and choices are free": (sg.where(u < v, -u, sg.abs(v)), 0, 0, 16 * n, 8 * n, 1),
    "integers are no FLOPs": (i * 3 + i, 0, 0, 8 * n, 8 * n, 1),
    "float32": (h * h, n, 0, 4 * n, 4 * n, 1),
    "cast": (sg.cast(h, "float64") * u, n, 0, 12 * n, 8 * n, 1),
    "broadcast": (X * u[:, None], n * m, 0, 8 * n * m + 8 * n, 8 * n * m, 1),
    "invariants once for a row": (X * sg.exp(u)[:, None], n * m, n, 8 * n * m + 8 * n, 8 * n * m, 1),
    "rows": (sg.sum(Z, axis=1), 8 * n, 0, 64 * n, 8 * n, 1),
    "columns": (sg.sum(Z * Z, axis=0), 16 * n, 0, 64 * n, 64, 1),
    "maximum": (sg.max(Z, axis=1), 8 * n, 0, 64 * n, 8 * n, 1),
    "product": (X @ Y, 2 * n * m * k, 0, 8 * n * m + 8 * m * k, 8 * n * k, 1),
    "transposed product": (X.T @ X, 2 * n * m * m, 0, 8 * n * m, 8 * m * m, 1),
    "batched product": (A @ B, 2 * 5 * 2 * 3 * 4, 0, 8 * (30 + 60), 320, 1),
    "slice": (Z[:, 2:4] * 2, 2 * n, 0, 16 * n, 16 * n, 1),
    "every other": (Z[:, ::2] * 2, 4 * n, 0, 32 * n, 32 * n, 1),
    "overlap": (Z[:, 1:] - Z[:, :-1], 7 * n, 0, 64 * n, 56 * n, 1),
    "two parts": (sg.concatenate([sg.exp(u), v * 2]), n, n, 16 * n, 16 * n, 1),
    "nothing to do": (sg.zeros((3, 4)) + 1, 0, 0, 0, 96, 1),
}


@pytest.mark.parametrize("name", HAND)
def test_by_hand(name: str) -> None:
    output, flops, functions, read, written, kernels = HAND[name]
    c = cost(output)
    assert (c.flops, c.transcendentals, c.bytes_read, c.bytes_written) == (flops, functions, read, written)
    assert c.kernels == kernels
    assert c.exact


def test_recomputation_is_counted() -> None:
    """A cheap value that two loops use is computed in both, and counts twice."""
    shifted = X + 1
    once, twice = [sg.max(shifted, axis=0)], [sg.max(shifted, axis=0), sg.prod(shifted, axis=1)]
    assert cost(*once).operations["add"] == n * m
    assert cost(*twice).operations["add"] == 2 * n * m


def test_data_dependent_indices_are_bounded() -> None:
    """An access by index reads no more elements than there are indices, nor than there are elements."""
    table, rows = sg.matrix("table", shape=(50, 4)), sg.vector("rows", dtype="int64", shape="r")
    c = cost(sg.take(table, rows, axis=0))
    assert not c.exact
    (step,) = c.steps
    assert step.reads[rows] == 8 * dim("r")
    assert c.at(r=7).steps[0].reads[table] == 7 * 4 * 8
    assert c.at(r=70).steps[0].reads[table] == 50 * 4 * 8


# -- the object --------------------------------------------------------------------------------------------------------


def test_at() -> None:
    x, a = sg.matrix("x", shape=("batch", 64)), sg.matrix("a", shape=(64, 32))
    f = sg.function([x, a], sg.tanh(x @ a))
    assert f.cost.flops == 2 * 64 * 32 * dim("batch")
    assert f.cost.transcendentals == 32 * dim("batch")
    by_name, by_arrays = f.cost.at(batch=32), f.cost.at(np.ones((32, 64)), np.ones((64, 32)))
    assert by_name.flops == by_arrays.flops == 2 * 64 * 32 * 32
    assert by_name.work == 2 * 64 * 32 * 32 + 18 * 32 * 32
    assert [s.kernels for s in by_name.steps] == [1, 1]
    assert f.cost is f.cost
    with pytest.raises(UnknownInputError, match="no size is called 'n'; there are batch"):
        f.cost.at(n=3)
    with pytest.raises(SizeError, match="axis 1"):
        f.cost.at(np.ones((32, 63)))
    with pytest.raises(UnknownInputError, match="wanted at most 2 arrays, got 3"):
        f.cost.at(1, 2, 3)


def test_parts_add_up() -> None:
    x, y = sg.matrix("x", shape=("n", 10)), sg.matrix("y", shape=("n", 10))
    loss = -sg.mean(sg.sum(y * sg.log_softmax(x, axis=1), axis=1))
    c = cost(loss, sg.grad(loss, x))
    for parts in (c.steps, c.nodes):
        assert sum((p.flops for p in parts), 0) == c.flops
        assert sum((p.transcendentals for p in parts), 0) == c.transcendentals
        assert sum((p.bytes_read for p in parts), 0) == c.bytes_read
        assert sum((p.bytes_written for p in parts), 0) == c.bytes_written
    assert c.kernels == len(c.steps)
    by_op: dict[str, Any] = {}
    for node in c.nodes:
        by_op[node.node.op.name] = by_op.get(node.node.op.name, 0) + node.transcendentals
    assert by_op["exp"] == c.operations["exp"]
    assert all("test_cost.py" in str(s.sources) for s in c.steps)


def test_table() -> None:
    x = sg.vector("x", shape="n")
    c = cost(sg.exp(x) * 2)
    assert str(c).splitlines()[0] == "cost: 1 kernel"
    assert "multiply" in c.table("node")
    assert "1,000" in str(c.at(n=1000))
    assert "test_cost.py" in str(c)
    assert "upper bounds" in str(cost(sg.take(x, sg.vector("i", dtype="int64", shape="r"))))


def test_a_graph_as_written() -> None:
    """Nothing is rewritten or fused: a kernel for each operation, and each intermediate goes through memory."""
    c = sg.cost(u * v + w)
    assert (c.kernels, c.flops, c.bytes_read, c.bytes_written) == (2, 2 * n, 32 * n, 16 * n)
    assert sg.cost([X @ Y, X.T @ X]).flops == 2 * n * m * k + 2 * n * m * m
    assert sg.cost(sg.softmax(Z, axis=1)).transcendentals == 8 * n
    reference = sg.function([u, v, w], u * v + w, target="numpy")
    assert reference.cost.kernels == 2
    assert reference.cost.at(*np.ones((3, 5))).bytes_read == 32 * 5


def test_steps_alone() -> None:
    """The cost of steps needs neither a program nor names."""
    steps = [s.step for s in program(Graph([u, v], [u * v])).steps]
    c = cost_of(steps)
    assert (c.steps[0].name, c.flops) == ("kernel", n)
    with pytest.raises(UnknownInputError, match="by name"):
        c.at(np.ones(3))
    assert c.at(n=3).flops == 3


def test_sizes_of_replaced_inputs() -> None:
    """Where ``givens`` replace an input, its sizes are known from what replaces it."""
    data, rows = sg.shared(np.ones((10, 4)), "data"), sg.vector("rows", dtype="int64", shape="r")
    x = sg.matrix("x", shape=("b", 4))
    f = sg.function([rows], sg.sum(x * 2, axis=1), givens={x: sg.take(data, rows, axis=0)})
    assert f.cost.at(np.array([1, 2, 3])).flops == f.cost.at(r=3).flops == 2 * 4 * 3


def test_custom_ops() -> None:
    """What a function of the user's does is not known: its operations count nothing, and the cost says so."""
    double = sg.custom_op(lambda x: 2 * x, name="double_for_cost")
    c = cost(double(sg.exp(u)) + v)
    (call,) = [s for s in c.steps if "double_for_cost" in s.what]
    assert (call.flops, call.bytes_read, call.bytes_written, call.exact) == (0, 8 * n, 8 * n, False)
    assert (c.flops, c.transcendentals, c.exact) == (n, n, False)
