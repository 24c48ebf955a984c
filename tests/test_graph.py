"""The graph language: variables, apply nodes, traversal, interning, and running any part of a graph."""

from __future__ import annotations

import pickle
import sys
import types
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph import source
from symgraph.errors import (
    CheckError,
    CycleError,
    DTypeError,
    MissingInputError,
    RankError,
    SizeError,
    SymbolicValueError,
)
from symgraph.graph import Apply, Constant, Graph, Interner, Variable, interning, leaves, toposort
from symgraph.op import Op, apply
from symgraph.runtime.interpreter import interpret
from symgraph.runtime.sizes import bind_sizes, substitute_sizes
from symgraph.types import TensorType, atoms, dim, floordiv, size_max, size_min, tensor_type


def test_operation_inputs_and_consumers() -> None:
    x, y = sg.scalar("x"), sg.scalar("y")
    h = x * y
    out = h + h
    assert sg.get_operation(x) is None
    assert sg.get_operation(h) is sg.multiply
    assert sg.get_inputs(x) == ()
    assert [v is w for v, w in zip(sg.get_inputs(h), (x, y), strict=True)] == [True, True]
    for graph in (out, [out], Graph([x, y], [out])):
        (consumer,) = sg.get_consumers(h, graph)
        assert consumer is out
        (consumer,) = sg.get_consumers(x, graph)
        assert consumer is h
        assert sg.get_consumers(out, graph) == []


def test_consumers_of_ops_with_several_outputs() -> None:
    x = sg.vector("x", shape=(3,))
    largest, where = sg.max_and_argmax(x)
    found = sg.get_consumers(x, [largest])
    assert [v.index for v in found] == [0, 1]
    assert found[0].owner is found[1].owner
    assert where.type.dtype == np.int64


def test_toposort_is_deterministic_and_stops() -> None:
    x, y = sg.scalar("x"), sg.scalar("y")
    a, b = sg.exp(x), sg.sin(y)
    c = a * b
    assert [n.op.name for n in toposort([c])] == ["exp", "sin", "multiply"]
    assert [n.op.name for n in toposort([c], [a])] == ["sin", "multiply"]
    assert toposort([a], [a]) == []
    found = leaves([c], [a])
    assert {id(v) for v in found} == {id(a), id(y)}


def test_a_cycle_is_an_error() -> None:
    x = sg.scalar("x")
    a = sg.exp(x)
    b = sg.sin(a)
    assert a.owner is not None
    a.owner.inputs = (b,)
    with pytest.raises(CycleError, match=r"cycle.*test_graph.py"):
        toposort([b])
    with pytest.raises(CycleError):
        sg.grad(b, a)


def test_long_chains_and_ladders_without_recursion() -> None:
    x = sg.scalar("x")
    y = x
    for _ in range(100_000):
        y = y + y
    assert len(toposort([y])) == 100_000
    assert len(Interner([y])._nodes) == 100_000


def test_lines_of_variables() -> None:
    x = sg.scalar("x")
    y = sg.exp(x) * 2
    assert [line.file for line in x.sources] == [__file__]
    (a,), (b,) = x.sources, y.sources
    assert b.number == a.number + 1


def test_interning_makes_equal_nodes_one() -> None:
    x = sg.scalar("x")
    a = sg.exp(x) + 1.0
    assert sg.exp(x) is not sg.exp(x)
    with interning(Interner([a])):
        assert sg.exp(x) is sg.exp(x)
        assert sg.exp(x) + 1.0 is a
        assert sg.exp(x) + 2.0 is not a
        assert sg.exp(x) + 0.0 is not sg.exp(x) + -0.0
        once = sg.exp(x) + float("nan")
        assert sg.exp(x) + float("nan") is once


def test_interning_of_a_graph_that_has_duplicates() -> None:
    x = sg.scalar("x")
    a, b = sg.exp(x), sg.exp(x)
    interner = Interner([a, b])
    assert interner.canonical(b) is interner.canonical(a)
    with interning(interner):
        assert sg.sin(a) is sg.sin(b)


def test_ops_that_must_not_merge() -> None:
    class Counter(Op):
        name = "counter"
        pure = False

        def infer(self, *inputs: TensorType) -> TensorType:
            return tensor_type("int64")

    with interning(Interner()):
        assert apply(Counter()) is not apply(Counter())


@pytest.mark.parametrize(
    "use",
    [bool, float, int, np.asarray, complex, lambda x: [1, 2][x], lambda x: 1 if x > 0 else 2],
    ids=["bool", "float", "int", "asarray", "complex", "index", "if"],
)
def test_symbols_have_no_numbers(use: Any) -> None:
    with pytest.raises(SymbolicValueError, match=r"symbolic variable.*function.*eval"):
        use(sg.scalar("x"))


def test_comparison_builds_graph_and_identity_is_is() -> None:
    x, y = sg.scalar("x"), sg.scalar("y")
    assert str((x == y).type) == "bool[]"
    assert len({x, y, x}) == 2
    assert {x: 1}[x] == 1


# -- running any part of a graph (values for any set of variables)


def test_values_for_inputs_and_for_any_other_variable() -> None:
    x, y = sg.scalar("x"), sg.scalar("y")
    h = sg.exp(x)
    out = h * y + x
    assert interpret(out, {x: 1.0, y: 2.0})[0] == pytest.approx(2 * np.e + 1)
    assert interpret(out, {x: 1.0, y: 2.0, h: 10.0})[0] == 21.0
    assert interpret([h, out], {x: 1.0, y: 2.0, h: 10.0}) == [10.0, 21.0]
    assert interpret(h * 2, {h: 4.0})[0] == 8.0
    assert interpret(sg.constant(3.0))[0] == 3.0


def test_only_what_is_needed_runs() -> None:
    ran: list[str] = []
    x, y = sg.scalar("x"), sg.scalar("y")
    h = sg.exp(x)
    out = h * 2
    unused = sg.log(y) + h

    def observe(v: Variable, a: Any) -> None:
        assert v.owner is not None
        ran.append(v.owner.op.name)

    interpret(out, {x: 1.0}, observe=observe)
    assert ran == ["exp", "multiply"]
    assert unused is not None


def test_constants_and_shared_variables_can_be_given_values() -> None:
    c, w = sg.constant(2.0), sg.shared(np.ones(3), name="w")
    out = sg.sum(w) * c
    assert interpret(out)[0] == 6.0
    assert interpret(out, {c: 10.0})[0] == 30.0
    assert interpret(out, {w: np.zeros(3)})[0] == 0.0
    w.set_value(np.full(3, 5.0))
    assert interpret(out)[0] == 30.0


def test_results_are_fresh_arrays_of_the_inferred_dtype() -> None:
    x = sg.vector("x", dtype="float32", shape=("n",))
    at = np.array([1, 2], "float32")
    same, turned, spread = interpret([x, sg.transpose(sg.stack([x, x])), sg.broadcast_to(x, (2, *x.shape))], {x: at})
    for a in (same, turned, spread):
        assert not np.shares_memory(a, at)
        assert a.flags.c_contiguous
        assert a.flags.writeable
        assert a.dtype == np.float32
    assert isinstance(interpret(sg.sum(x), {x: at})[0], np.ndarray)


def test_python_numbers_and_lists_take_the_dtype() -> None:
    x, k = sg.vector("x", dtype="float32", shape=("n",)), sg.scalar("k", dtype="int8")
    assert interpret(x, {x: [1, 2.5]})[0].dtype == np.float32
    assert interpret(k, {k: 7})[0].dtype == np.int8
    assert interpret(x, {x: np.array([1, 2], "int8")})[0].dtype == np.float32
    with pytest.raises(DTypeError, match="k: 300 does not fit into int8"):
        interpret(k, {k: 300})
    with pytest.raises(DTypeError, match=r"k: wanted int8\[\], got dtype float64"):
        interpret(k, {k: 1.0})
    with pytest.raises(DTypeError, match=r"x: wanted float32\[n\], got dtype float64"):
        interpret(x, {x: np.zeros(2)})
    with pytest.raises(DTypeError, match="not an array"):
        interpret(x, {x: [[1.0], [1.0, 2.0]]})
    with pytest.raises(RankError, match=r"x: wanted float32\[n\], got an array of shape \[1, 1\]"):
        interpret(x, {x: [[1.0]]})


def test_a_missing_value_is_named() -> None:
    x, y = sg.scalar("x"), sg.vector("y", shape=("n",))
    with pytest.raises(
        MissingInputError, match=r"no value was given for y: float64\[n\], which exp uses.*test_graph.py"
    ):
        interpret(x * sg.exp(y), {x: 1.0})


def test_a_reference_that_contradicts_the_type_rule_is_named() -> None:
    class Lies(Op):
        name = "lies"

        def infer(self, *inputs: TensorType) -> TensorType:
            return inputs[0]

        def reference(self, *inputs: Any) -> Any:
            return inputs[0].astype("float32")

    x = sg.scalar("x")
    with pytest.raises(CheckError, match=r"lies: the reference gives float32\[\].*float64\[\].*test_graph.py"):
        interpret(apply(Lies(), x), {x: 1.0})


def test_an_error_inside_an_op_carries_the_line() -> None:
    x, i = sg.vector("x", shape=("n",)), sg.vector("i", dtype="int64", shape=("k",))
    with pytest.raises(IndexError, match=r"test_graph.py"):
        interpret(sg.take(x, i), {x: [1.0, 2.0], i: [5]})


# -- sizes


def test_sizes_are_bound_and_checked() -> None:
    x, y = sg.matrix("x", shape=("batch", 3)), sg.vector("y", shape=("batch",))
    env = bind_sizes([x, y], [np.zeros((4, 3)), np.zeros(4)])
    assert {a.name: n for a, n in env.items()} == {"batch": 4}
    with pytest.raises(SizeError, match=r"y axis 0: wanted batch = 4, got 5 \(batch = 4 from x axis 0\)"):
        bind_sizes([x, y], [np.zeros((4, 3)), np.zeros(5)])
    with pytest.raises(SizeError, match=r"x: axis 1 of float64\[batch, 3\]: wanted 3, got 2"):
        bind_sizes([x], [np.zeros((4, 2))])
    with pytest.raises(SizeError, match=r"x: wanted float64\[batch, 3\], got an array of 1 axes"):
        bind_sizes([x], [np.zeros(4)])


def test_sizes_that_are_computed_from_one_unknown_are_solved() -> None:
    n, m = dim("n"), dim("m")
    x = Variable(tensor_type("float64", [2 * n + 1]), name="x")
    assert list(bind_sizes([x], [np.zeros(7)]).values()) == [3]
    with pytest.raises(SizeError, match="no size n makes 2\\*n \\+ 1 equal to 6"):
        bind_sizes([x], [np.zeros(6)])
    with pytest.raises(SizeError, match="no size n"):
        bind_sizes([Variable(tensor_type("float64", [n + 5]))], [np.zeros(4)])
    y = Variable(tensor_type("float64", [n * m, n]))
    assert sorted(bind_sizes([y], [np.zeros((12, 3))]).values()) == [3, 4]
    z = Variable(tensor_type("float64", [floordiv(n, 2), n]), name="z")
    assert list(bind_sizes([z], [np.zeros((2, 5))]).values()) == [5]
    with pytest.raises(SizeError, match="z axis 0"):
        bind_sizes([z], [np.zeros((3, 5))])


def test_sizes_that_nothing_determines() -> None:
    n = dim("n")
    out = sg.zeros((n,))
    with pytest.raises(SizeError, match="size n is not determined"):
        interpret(out)
    (atom,) = atoms(n)
    assert interpret(out, env={atom: 3})[0].shape == (3,)


def test_sizes_are_substituted_in_ops_and_cached() -> None:
    n = dim("n")
    x = Variable(tensor_type("float64", [n]))
    y = sg.broadcast_to(x, (n + 1, n))
    assert y.owner is not None
    (atom,) = set(atoms(n))
    once = substitute_sizes(y.owner.op, {atom: 3})
    assert once.shape == (4, 3)  # type: ignore[attr-defined]
    assert substitute_sizes(y.owner.op, {atom: 3}) is once
    assert substitute_sizes(sg.exp, {}) is sg.exp


def test_unknown_sizes_that_turn_out_different() -> None:
    x, y = sg.vector("x"), sg.vector("y")
    out = x + y
    np.testing.assert_array_equal(interpret(out, {x: [1.0, 2.0], y: [3.0, 4.0]})[0], [4, 6])
    with pytest.raises(SizeError, match=r"test_graph.py"):
        interpret(out, {x: [1.0, 2.0], y: [3.0]})


def test_constants_are_read_only() -> None:
    c = sg.constant([1.0, 2.0])
    assert isinstance(c, Constant)
    with pytest.raises(ValueError, match="read-only"):
        c.data[0] = 5.0


def test_sizes_survive_pickling() -> None:
    n = dim("n")
    for size in (n, 2 * n + 1, floordiv(n, 3)):
        assert pickle.loads(pickle.dumps(size)) is size


def test_apply_nodes_say_what_they_are() -> None:
    x = sg.scalar("x")
    node = sg.sum(sg.stack([x, x])).owner
    assert isinstance(node, Apply)
    assert "sum" in repr(node)
    assert "x: float64[]" in repr(x)


def test_lines_of_a_notebook_name_the_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    shell = types.SimpleNamespace(compile=types.SimpleNamespace(_filename_map={"folder/77.py": 3}))
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    assert str(source.Line("folder/77.py", 4)) == "cell 3:4"
    assert str(source.Line("folder/model.py", 4)) == "model.py:4"


def test_sizes_print_alike_whatever_was_there_before() -> None:
    later, sooner = dim("b_later"), dim("a_sooner")  # in the order of names, not in that of their making
    assert str(later * sooner) == "a_sooner*b_later"
    assert str(sooner + later) == str(later + sooner) == "b_later + a_sooner"
    assert str(size_max(later, sooner)) == "max(a_sooner, b_later)"
    assert str(size_min(size_max(later, 3), size_max(sooner, 3))) == "min(max(3, a_sooner), max(3, b_later))"


def test_an_extremum_of_an_extremum_that_has_it() -> None:
    n = dim("n")
    assert size_max(n, size_max(1, n)) is size_max(1, n)
    assert size_min(size_min(n, 7), 7) is size_min(n, 7)
    assert size_min(n, size_max(5, n)) is size_max(n, size_min(5, n)) is n
