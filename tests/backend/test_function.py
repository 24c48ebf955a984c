"""What a compiled function promises its caller: forms of calls and results, state, memory, threads, copies, errors."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import symgraph as sg
from symgraph import index as ix
from symgraph import pipeline
from symgraph.errors import CheckError, IndexRangeError, SizeError
from symgraph.graph import Apply, Graph
from symgraph.ops import elementwise
from symgraph.passes import Context
from symgraph.pipeline import GRAPH_PASSES, Pass, run_pipeline
from symgraph.runtime.cache import kernel_cache
from symgraph.runtime.sizes import bind_sizes
from symgraph.types import tensor_type

Array = NDArray[Any]
targets = pytest.mark.parametrize("target", ["cpu", "numpy"])


def line() -> int:
    """The line that calls this."""
    return sys._getframe(1).f_lineno


def at(*numbers: int) -> str:
    """A pattern for places in this file in a message."""
    return r"\(.*" + ".*".join(rf"\btest_function\.py:{n}\b" for n in numbers) + r".*\)"


# -- calls and results -----------------------------------------------------------------------------------------------


@targets
def test_forms_of_results(target: str) -> None:
    x = sg.vector("x")
    a = np.array([1.0, 2.0])
    one = sg.function([x], x * 2, target=target)(a)
    assert isinstance(one, np.ndarray)
    several = sg.function([x], [x * 2, x + 1], target=target)(a)
    assert isinstance(several, list)
    assert [v.tolist() for v in several] == [[2, 4], [2, 3]]
    assert [v.tolist() for v in sg.function([x], (x * 2,), target=target)(a)] == [[2, 4]]
    assert sg.function([x], [], target=target)(a) == []
    assert sg.function([x], target=target)(a) is None
    assert sg.function([x], None, target=target)(a) is None
    scalar = sg.function([x], sg.sum(x), target=target)(a)
    assert isinstance(scalar, np.ndarray)
    assert scalar.shape == ()
    assert float(scalar) == 3


@targets
def test_calls_by_position_and_keyword(target: str) -> None:
    x, y, z = sg.scalar("x"), sg.scalar("y"), sg.scalar()
    f = sg.function([x, z, y], x - y * z, target=target)
    assert f(7, 3, 2) == f(7, 3, y=2) == 1
    g = sg.function([x, y], x - y, target=target)
    assert g(7, y=2) == g(y=2, x=7) == g(x=7, y=2) == 5
    w = sg.shared(1.0, "w")
    h = sg.function([x, y], x - y + w, updates={w: w + x}, target=target)
    assert h(y=1, x=3) == 3
    assert h(3, y=1) == 6
    assert w.get_value() == 7


@targets
def test_inputs_that_are_not_used(target: str) -> None:
    x, y = sg.vector("x", shape="n"), sg.matrix("y", shape=("n", "m"))
    f = sg.function([x, y], x + 1, target=target)
    assert f(np.zeros(2), np.zeros((2, 5))).tolist() == [1, 1]
    with pytest.raises(SizeError):
        f(np.zeros(2), np.zeros((3, 5)))


@targets
def test_outputs_that_are_not_computed(target: str) -> None:
    """Inputs, constants, state, the same thing twice: results are arrays of their own."""
    x, w = sg.vector("x", shape="n"), sg.shared(np.array([5.0, 6.0]), "w")
    c = sg.constant(np.arange(3.0))
    y = x * 2
    f = sg.function([x], [x, x, y, y, c, w, sg.reshape(x, (1, -1)), x[:], sg.stop_gradient(x), y + 0], target=target)
    a = np.array([1.0, 2.0])
    got = f(a)
    assert [v.tolist() for v in got] == [
        *([[1, 2]] * 2), *([[2, 4]] * 2), [0, 1, 2], [5, 6], [[1, 2]], [1, 2], [1, 2], [2, 4],
    ]  # fmt: skip
    owned = [a, c.data, w._value, *got]
    assert not any(np.shares_memory(p, q) for i, p in enumerate(owned) for q in owned[:i])
    assert all(v.flags.writeable and v.flags.c_contiguous for v in got)
    for v in got:
        v[...] = -1
    assert [v.tolist() for v in f(a)][:3] == [[1, 2], [1, 2], [2, 4]]
    assert w.get_value().tolist() == [5, 6]
    assert a.tolist() == [1, 2]


def test_results_of_one_call_outlive_the_next_and_the_function() -> None:
    x = sg.vector("x")
    f = sg.function([x], [sg.exp(x), sg.sum(sg.exp(x))])
    first = f(np.zeros(1000))
    second = f(np.ones(1000))
    del f
    gc.collect()
    np.testing.assert_array_equal(first[0], np.ones(1000))
    np.testing.assert_allclose(second[1], 1000 * np.e)


def test_arguments_are_never_written() -> None:
    """Also where an operand's buffer would be free to be overwritten."""
    x, W = sg.matrix("x", shape=("n", 4)), sg.matrix("W", shape=(4, 4))
    y = sg.tanh(sg.exp(x) @ W + x)
    f = sg.function([x, W], [y, *sg.grad(sg.sum(y), [x, W])])
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(30, 4)), rng.normal(size=(4, 4))
    kept = a.copy(), b.copy()
    layouts: list[Callable[[Array], Array]] = [np.array, np.asfortranarray, lambda v: np.repeat(v, 2, 0)[::2]]
    wanted = f(a, b)
    for layout in layouts:
        p, q = layout(a), layout(b)
        p.flags.writeable = q.flags.writeable = False
        for g, w in zip(f(p, q), wanted, strict=True):
            np.testing.assert_array_equal(g, w)
        np.testing.assert_array_equal(p, kept[0])
        np.testing.assert_array_equal(q, kept[1])


def test_the_same_array_for_two_inputs() -> None:
    x, y = sg.vector("x", shape="n"), sg.vector("y", shape="n")
    a = np.arange(4.0)
    assert sg.function([x, y], sg.exp(x - y) * x)(a, a).tolist() == [0, 1, 2, 3]
    assert sg.function([x, y], x - y)(a, a[::-1]).tolist() == [-3, -1, 1, 3]


def test_subclasses_and_things_that_become_arrays() -> None:
    x = sg.matrix("x", shape=("n", 2))
    f = sg.function([x], sg.sum(x, axis=0))
    f(np.zeros((1, 2)))
    values = [[1, 2], [3.5, 4]]
    for given in (values, tuple(values), np.array(values), np.ma.array(values), np.asarray(values).view(Named)):
        got = f(given)
        assert type(got) is np.ndarray
        assert got.tolist() == [4.5, 6]


class Named(np.ndarray[Any, np.dtype[Any]]):
    """A subclass of arrays."""


# -- any size, without compiling -------------------------------------------------------------------------------------


def step_of(threads: int | None = None) -> sg.Function:
    x, W = sg.matrix("x", shape=("n", "m")), sg.matrix("W", shape=("m", 5))
    y = sg.softmax(sg.tanh(x @ W), axis=1)
    cost = sg.sum(sg.log(sg.sum(sg.square(y), axis=0)))
    return sg.function([x, W], [cost, *sg.grad(cost, [x, W])], threads=threads)


def reference_of(x: Array, W: Array) -> float:
    z = np.tanh(x @ W)
    y = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    return float(np.log((y**2).sum(0)).sum())


def test_any_size_without_compiling() -> None:
    f = step_of()
    compiled = kernel_cache().compiled
    rng = np.random.default_rng(0)
    for n, m in [(3, 2), (1, 1), (200, 7), (3, 2), (2, 200), *((k, 1 + k % 3) for k in range(1, 100))]:
        x, W = rng.normal(size=(n, m)), rng.normal(size=(m, 5))
        np.testing.assert_allclose(f(x, W)[0], reference_of(x, W), rtol=1e-10, err_msg=f"{n}, {m}")
    assert kernel_cache().compiled == compiled


def test_plans_of_the_latest_sizes_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans are forgotten while calls in other threads use them."""
    monkeypatch.setattr("symgraph.runtime.program.MAX_PLANS", 20)
    x = sg.vector("x")
    f = sg.function([x], sg.sum(sg.tile(x * 2, 3)) / 3)

    def work(seed: int) -> None:
        for n in np.random.default_rng(seed).integers(1, 60, 200):
            assert f(np.ones(n)) == 2 * n

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work, seed) for seed in range(4)]:
            done.result()
    assert 0 < len(f.program.plans) <= 20


def test_a_plan_may_be_forgotten_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look at the plans and the call, other threads bring other sizes, each time the call comes again."""
    monkeypatch.setattr("symgraph.runtime.program.MAX_PLANS", 1)
    x = sg.vector("x")
    f = sg.function([x], sg.sum(sg.tile(x * 2, 3)) / 3)
    held = f._executable
    entry, prepare = held.entry, held._prepare
    others = iter(range(5))

    def plan(n: int) -> None:
        held.plan((n,), bind_sizes(f.program.arguments, [np.ones(n)]))

    def late(*args: Any) -> Any:
        if next(others, None) is not None:
            plan(9)
        return entry(*args)

    def prepared(args: tuple[Any, ...]) -> Any:
        plan(4)
        return prepare(args)

    monkeypatch.setattr(held, "entry", late)
    monkeypatch.setattr(held, "_prepare", prepared)
    assert f(np.ones(4)) == 8
    assert next(others, None) is None


def test_arguments_that_the_entry_refuses_for_no_reason_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    x = sg.vector("x")
    f = sg.function([x], x + 1)
    held = f._executable
    monkeypatch.setattr(held, "entry", lambda *args: held._slow(args))
    with pytest.raises(SizeError, match="refuses arguments that were prepared"):
        f(np.ones(3))


def test_threads_change_no_value() -> None:
    """Elementwise, gathered, scattered, reduced both ways, and products: large enough to be shared."""
    x, i = sg.matrix("x", shape=("n", "m")), sg.vector("i", dtype="int64", shape="n")
    W = sg.matrix("W", shape=("m", "m"))
    rows = sg.take(x, i, axis=0)
    y = sg.sin(rows) * sg.exp(-sg.square(x))
    outputs = [y, sg.sum(y, axis=0), sg.sum(y, axis=1), sg.max(y), sg.mean(y), sg.argmax(y, axis=1), y @ W]
    outputs += sg.grad(sg.sum(sg.tanh(y @ W)), [x, W])
    rng = np.random.default_rng(0)
    n, m = 900, 150
    values = rng.normal(size=(n, m)), rng.integers(-n, n, n), rng.normal(size=(m, m))
    alone = sg.function([x, i, W], outputs, threads=1)(*values)
    reference = sg.function([x, i, W], outputs, target="numpy")(*values)
    for threads in (2, 3):
        shared = sg.function([x, i, W], outputs, threads=threads)
        first = shared(*values)
        for k, (a, b, c, again) in enumerate(zip(alone, first, reference, shared(*values), strict=True)):
            np.testing.assert_array_equal(b, again, err_msg=f"output {k} is not deterministic")
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11, err_msg=f"output {k}")
            np.testing.assert_allclose(b, c, rtol=1e-9, atol=1e-10, err_msg=f"output {k}")


def test_many_threads_call_one_function_with_different_sizes() -> None:
    f = step_of()
    rng = np.random.default_rng(0)
    cases = [(rng.normal(size=(n, m)), rng.normal(size=(m, 5))) for n in (1, 4, 33, 150) for m in (2, 9, 40)]
    wanted = [reference_of(*c) for c in cases]
    start = threading.Barrier(8)

    def work(seed: int) -> None:
        start.wait()
        for k in np.random.default_rng(seed).integers(0, len(cases), 60):
            np.testing.assert_allclose(f(*cases[k])[0], wanted[k], rtol=1e-10)

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(work, seed) for seed in range(8)]:
            done.result()


# -- state -----------------------------------------------------------------------------------------------------------


@targets
def test_updates_use_the_values_before(target: str) -> None:
    a, b = sg.shared(np.array([1.0, 2.0]), "a"), sg.shared(np.array([3.0, 4.0]), "b")
    swap = sg.function([], a - b, updates={a: b, b: a}, target=target)
    assert swap().tolist() == [-2, -2]
    assert (a.get_value().tolist(), b.get_value().tolist()) == ([3, 4], [1, 2])
    assert swap().tolist() == [2, 2]
    assert (a.get_value().tolist(), b.get_value().tolist()) == ([1, 2], [3, 4])
    rotate = sg.function([], updates={a: a + b, b: a[::-1]}, target=target)
    rotate()
    assert (a.get_value().tolist(), b.get_value().tolist()) == ([4, 6], [2, 1])
    rotate()
    assert (a.get_value().tolist(), b.get_value().tolist()) == ([6, 7], [6, 4])


@targets
def test_state_is_no_one_elses_memory(target: str) -> None:
    x, w = sg.vector("x", shape=3), sg.shared(np.zeros(3), "w")
    put = sg.function([x], [x, w], updates={w: x}, target=target)
    a = np.array([1.0, 2.0, 3.0])
    out = put(a)
    out[0][:] = a[:] = 9
    assert w.get_value().tolist() == [1, 2, 3]
    old = put(a)[1]
    assert old.tolist() == [1, 2, 3]
    put(np.zeros(3))
    put(np.ones(3))
    assert old.tolist() == [1, 2, 3]


@targets
def test_two_functions_share_state(target: str) -> None:
    w, x = sg.shared(np.zeros((2, 2)), "w"), sg.scalar("x")
    add = sg.function([x], updates={w: w + x}, target=target)
    double = sg.function([], w, updates={w: w * 2}, target=target)
    read = sg.function([], sg.sum(w), target=target)
    add(1.0)
    assert read() == 4
    assert double().tolist() == [[1, 1], [1, 1]]
    add(0.5)
    assert read() == 10
    w.set_value(np.ones((2, 2)))
    assert (read(), double().tolist(), read()) == (4, [[1, 1], [1, 1]], 8)


@targets
def test_state_of_symbolic_size_may_change_its_size(target: str) -> None:
    w = sg.SharedVariable(np.zeros(2), tensor_type("float64", ("n",)), "w")
    grow = sg.function([], sg.sum(w), updates={w: w + 1}, target=target)
    grow()
    w.set_value(np.full(5, 2.0))
    assert grow() == 10
    assert w.get_value().tolist() == [3] * 5


def test_a_call_that_fails_leaves_all_state() -> None:
    """The failing step is the last one: everything else has been computed."""
    a, b = sg.shared(np.arange(4.0), "a"), sg.shared(np.ones((3, 3)), "b")
    i = sg.vector("i", dtype="int64", shape="k")
    good, bad = np.array([0, 1]), np.array([0, 4])
    step = sg.function([i], sg.sum(sg.take(a, i)), updates={b: b @ b, a: a + sg.sum(b)})
    for _ in range(3):
        before = a.get_value(), b.get_value()
        for _ in range(2):
            with pytest.raises(IndexRangeError):
                step(bad)
            np.testing.assert_array_equal(a.get_value(), before[0])
            np.testing.assert_array_equal(b.get_value(), before[1])
        step(good)
        np.testing.assert_array_equal(a.get_value(), before[0] + before[1].sum())
        np.testing.assert_array_equal(b.get_value(), before[1] @ before[1])


def test_updates_from_many_threads_lose_nothing() -> None:
    n = sg.shared(0, "n")
    w = sg.shared(np.zeros(50_000), "w")
    step = sg.function([], n, updates={n: n + 1, w: w + 1})
    read = sg.function([], [sg.min(w), sg.max(w), w])
    seen: list[int] = []

    def update() -> None:
        seen.extend(int(step()) for _ in range(25))

    def look() -> None:
        for _ in range(60):
            low, high, whole = read()
            # All of one moment: no element of a later or earlier state.
            assert low == high == whole[0]
            assert (whole == low).all()

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(update) for _ in range(5)] + [pool.submit(look) for _ in range(3)]:
            done.result()
    assert sorted(seen) == list(range(125))
    assert n.get_value() == 125
    np.testing.assert_array_equal(w.get_value(), np.full(50_000, 125.0))


def test_free() -> None:
    x, w = sg.matrix("x", shape=("n", "n")), sg.shared(np.zeros(()), "w")
    f = sg.function([x], sg.sum(sg.tanh(x @ x), axis=0), updates={w: w + sg.sum(x)})
    a = np.eye(20)
    wanted = f(a)
    for _ in range(3):
        f.free()
        f.free()
        np.testing.assert_array_equal(f(a), wanted)
    assert w.get_value() == 80


# -- givens, parts ---------------------------------------------------------------------------------------------------


@targets
def test_givens(target: str) -> None:
    x, y = sg.vector("x", shape="n"), sg.vector("y", shape="n")
    z = sg.exp(x) * y
    a = np.array([0.0, 1.0])
    f = sg.function([y], z, givens={x: y * 0}, target=target)
    assert f(a).tolist() == [0, 1]
    middle = sg.exp(x)
    g = sg.function([y], middle * y, givens={middle: y + 1}, target=target)
    assert g(a).tolist() == [0, 2]
    w, v = sg.shared(np.array([1.0, 2.0]), "w"), sg.vector("v", shape=2)
    h = sg.function([v], v * 10, updates={w: w + v * 10}, givens={v: w * v}, target=target)
    assert h(a).tolist() == [0, 20]
    assert w.get_value().tolist() == [1, 22]
    # Both are replaced at once, not one after the other.
    swapped = sg.function([x, y], x - y, givens={x: y, y: x}, target=target)
    assert swapped(a, a + 1).tolist() == [1, 1]


@targets
def test_any_part_from_any_values(target: str) -> None:
    x, y = sg.matrix("x", shape=("n", 2)), sg.vector("y", shape=2)
    h = sg.tanh(x @ y)
    cost = sg.sum(sg.square(h) + h)
    a, b = np.arange(6.0).reshape(3, 2), np.array([0.5, -0.5])
    t = np.tanh(a @ b)
    np.testing.assert_allclose(h.eval({x: a, y: b}, target=target), t, rtol=1e-14)
    np.testing.assert_allclose(cost.eval({h: t}, target=target), (t * t + t).sum(), rtol=1e-14)
    np.testing.assert_allclose(cost.eval({"x": a, "y": b}, target=target), (t * t + t).sum(), rtol=1e-14)
    f = sg.function([h, y], [cost, y * 2], target=target)
    np.testing.assert_allclose(f(t, b)[0], (t * t + t).sum(), rtol=1e-14)
    g = sg.grad(cost, h)
    np.testing.assert_allclose(g.eval({h: t}, target=target), 2 * t + 1, rtol=1e-14)
    np.testing.assert_allclose(g.eval({x: a, y: b, h: t + 1}, target=target), 2 * t + 3, rtol=1e-14)
    assert sg.constant(3.0).eval() == 3


# -- copies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("duplicate", [lambda f: pickle.loads(pickle.dumps(f)), copy.copy, copy.deepcopy])
def test_copies_have_state_of_their_own(duplicate: Callable[[sg.Function], sg.Function]) -> None:
    x, w = sg.matrix("x", shape=("n", 3)), sg.shared(np.ones(3), "w")
    b = sg.shared(np.zeros(()), "b")
    f = sg.function([x], [x @ w + b, w], updates={w: w + sg.sum(x, axis=0), b: b - 1}, name="step")
    a = np.arange(6.0).reshape(2, 3)
    f(a)
    g = duplicate(f)
    assert g.name == "step"
    assert str(g.graph.inputs[0].type) == "float64[n, 3]"
    for _ in range(2):
        for p, q in zip(f(a), g(x=a), strict=True):
            np.testing.assert_array_equal(p, q)
    g(a[:1])
    assert b.get_value() == -3
    (own,) = [s for s in g.updates if s.name == "b"]
    assert own.get_value() == -4


def test_a_copy_keeps_what_it_was_compiled_with() -> None:
    x = sg.vector("x", shape="n")
    y = sg.log(1 + sg.exp(x))
    a = np.array([0.0, 800.0])
    choices: list[dict[str, Any]] = [{"target": "numpy"}, {"levels": ["exact"]}, {"fast_math": True}, {"threads": 1}]
    for options in choices:
        f = sg.function([x], y, **options)
        g = pickle.loads(pickle.dumps(f))
        with np.errstate(over="ignore"):
            np.testing.assert_array_equal(f(a), g(a))
        assert repr(f) == repr(g)
        assert g.target == f.target
    here = line() + 1
    z = sg.take(x, i := sg.vector("i", dtype="int64"))
    h = pickle.loads(pickle.dumps(sg.function([x, i], z)))
    with pytest.raises(IndexRangeError, match=at(here)):
        h(a, i=[2])


def test_a_deep_graph_is_pickled() -> None:
    v = x = sg.scalar("x")
    for _ in range(20_000):
        v = sg.sin(v)
    f = sg.function([x], v, target="numpy")
    g = pickle.loads(pickle.dumps(f))
    assert len(g.graph.nodes) == 20_000
    assert g(0.0) == 0


# -- checked mode ----------------------------------------------------------------------------------------------------


def test_checked_mode_finds_a_wrong_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    x = sg.vector("x")
    here = line() + 1
    h = sg.arctan(x + 1)
    h.name = "h"
    y = sg.exp(h * 2)
    a = np.array([0.5, 0.25])
    monkeypatch.setattr(elementwise.arctan, "compose", lambda e: ix.call("arcsinh", e, dtype=e.dtype))
    assert not np.allclose(sg.function([x], y)(a), np.exp(2 * np.arctan(a + 1)))
    f = sg.function([x], y, check=True)
    with pytest.raises(CheckError, match=rf"arctan h: float64.*values differ.*at \[0\].*{at(here)}"):
        f(a)
    w = sg.shared(np.zeros(2), "w")
    g = sg.function([x], updates={w: w + y[:2]}, check=True)
    with pytest.raises(CheckError, match=r"arctan h"):
        g(a)
    assert w.get_value().tolist() == [0, 0]


def replaced(graph: Graph, old: str, make: Callable[[Apply], sg.Variable]) -> Graph:
    """The graph with the results of one op replaced."""
    found = {n.outputs[0]: make(n) for n in graph.nodes if n.op.name == old}
    return Graph(graph.inputs, sg.substitute(graph.outputs, found))


def wrong_value(graph: Graph, context: Context) -> Graph:
    """A pass with a mistake in its arithmetic."""
    return replaced(graph, "multiply", lambda n: sg.add(*n.inputs))


def wrong_type(graph: Graph, context: Context) -> Graph:
    """A pass that forgets a conversion."""
    return Graph(graph.inputs, [sg.cast(v, "float32") for v in graph.outputs])


@pytest.mark.parametrize("position", [1, 4, len(GRAPH_PASSES)])
def test_checked_mode_names_the_guilty_pass(monkeypatch: pytest.MonkeyPatch, position: int) -> None:
    x, y = sg.vector("x", shape=3), sg.vector("y", shape=3)
    here = line() + 1
    z = sg.sin(x) * y
    for bad, pattern in ((wrong_type, "pass wrong_type changed the types"), (wrong_value, "pass wrong_value changed")):
        passes = (*GRAPH_PASSES[:position], Pass(bad, "to be found"), *GRAPH_PASSES[position:])
        monkeypatch.setattr(pipeline, "GRAPH_PASSES", passes)
        with pytest.raises(CheckError, match=pattern):
            run_pipeline(Graph([x, y], [z]), check=True, examples=[np.ones(3), np.full(3, 2.0)])
    # Without examples a call finds it, and names the variable.
    f = sg.function([x, y], z, check=True)
    with pytest.raises(CheckError, match=at(here)):
        f(np.ones(3), np.full(3, 3.0))


def test_checked_mode_accepts_what_is_right() -> None:
    f = sg.function([v := sg.matrix("v", shape=("n", 3))], [sg.softmax(v, axis=1), sg.argmax(v, axis=0)], check=True)
    for n in (1, 5):
        a = np.random.default_rng(n).normal(size=(n, 3))
        np.testing.assert_allclose(f(a)[0].sum(1), 1)


PASSES = [p.name for p in GRAPH_PASSES]


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("stop_after", PASSES)
def test_stop_after(stop_after: str, softmax: bool) -> None:
    x, W = sg.matrix("x", shape=("n", 3)), sg.matrix("W", shape=(3, 3))
    y = sg.sigmoid(sg.tanh(x @ W) * 1.0 + 0.0 + x)
    y = sg.softmax(y, axis=1) if softmax else y / sg.sum(y, axis=1, keepdims=True)
    inputs, outputs = [x, W], [y, *sg.grad(sg.sum(sg.log(y)[:, 0]), [x, W])]
    f = sg.function(inputs, outputs, stop_after=stop_after)
    assert f.passes[-1].name == stop_after
    rng = np.random.default_rng(0)
    values = rng.normal(size=(4, 3)), rng.normal(size=(3, 3))
    for g, w in zip(f(*values), sg.function(inputs, outputs, target="numpy")(*values), strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-10, atol=1e-12)


# -- errors of a call ------------------------------------------------------------------------------------------------


def test_an_index_out_of_range_inside_a_fused_kernel() -> None:
    x, i = sg.vector("x", shape="n"), sg.matrix("i", dtype="int32", shape=("k", "l"))
    here = line() + 1
    taken = sg.take(x, i)
    y = sg.exp(sg.sum(sg.tanh(taken * 2) + 1, axis=1))
    for threads in (1, 2):
        f = sg.function([x, i], y, threads=threads)
        indices = np.zeros((400, 300), np.int32)
        a = np.zeros(10)
        good = f(a, indices)
        for bad in (10, -11, 2**31 - 1, -(2**31)):
            indices[399, 299] = bad
            with pytest.raises(IndexRangeError, match=rf"gather: .*x: float64\[10\].*i: int32\[400, 300\].*{at(here)}"):
                f(a, indices)
        indices[399, 299] = -10
        np.testing.assert_array_equal(f(a, indices), good)


def test_an_index_out_of_range_where_a_gradient_scatters() -> None:
    x, i = sg.vector("x", shape="n"), sg.vector("i", dtype="int64", shape="k")
    here = line() + 1
    cost = sg.sum(sg.take(x, i))
    f = sg.function([x, i], sg.grad(cost, x))
    assert f(np.zeros(3), [0, 0, -1]).tolist() == [2, 0, 1]
    with pytest.raises(IndexRangeError, match=at(here)):
        f(np.zeros(3), [0, 3])


def test_sizes_that_contradict_each_other() -> None:
    a, b, c = sg.vector("a"), sg.vector("b"), sg.matrix("c", shape=("n", "n"))
    here = line() + 1
    y = (a + b) * 2
    f = sg.function([a, b, c], [y, sg.sum(c)])
    square = np.zeros((2, 2))
    f(np.zeros(3), np.zeros(3), square)
    with pytest.raises(SizeError, match=rf"= 3.*= 4.*{at(here)}"):
        f(np.zeros(3), np.zeros(4), square)
    with pytest.raises(SizeError, match=r"c axis 1: wanted n = 2, got 3"):
        f(np.zeros(3), np.zeros(3), np.zeros((2, 3)))
    here = line() + 1
    product = sg.outer(a, b) @ sg.concatenate([a, b])
    with pytest.raises(SizeError, match=at(here)):
        sg.function([a, b], product)(np.zeros(2), np.zeros(3))
    f(np.zeros(3), np.zeros(3), square)  # and nothing is broken for the next call


def test_errors_are_the_same_from_many_threads() -> None:
    x, i = sg.vector("x", shape="n"), sg.vector("i", dtype="int64", shape="k")
    f = sg.function([x, i], sg.take(x, i) * 2)
    a = np.arange(5.0)

    def work(seed: int) -> None:
        for k in np.random.default_rng(seed).integers(0, 10, 50):
            if k < 5:
                assert f(a, [k, 0]).tolist() == [2.0 * k, 0]
            else:
                with pytest.raises(IndexRangeError):
                    f(a, [k, 0])

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work, seed) for seed in range(4)]:
            done.result()


# -- a second process ------------------------------------------------------------------------------------------------


def test_a_warm_process_compiles_nothing() -> None:
    script = textwrap.dedent(
        """
        import sys, pickle
        import numpy as np
        import symgraph as sg
        from symgraph.runtime.cache import kernel_cache

        x, W = sg.matrix("x", shape=("n", 4)), sg.shared(np.ones((4, 4)), "W")
        cost = sg.sum(sg.tanh(x @ W) ** 2)
        step = sg.function([x], cost, updates={W: W - 0.1 * sg.grad(cost, W)}, threads=2)
        again = pickle.loads(pickle.dumps(step))
        for f in (step, again):
            print(float(f(np.ones((3, 4)))), float(f(np.ones((300, 4)))))
        print(kernel_cache().compiled, any(m in sys.modules for m in ("numba", "scipy")))
        """
    )
    cold, warm = (
        subprocess.run(
            [sys.executable, "-c", script],
            env=dict(os.environ),
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        ).stdout.splitlines()
        for _ in range(2)
    )
    assert cold[:2] == warm[:2]
    assert cold[0] == cold[1]
    assert warm[2] == "0 False"


def test_the_gather_at_fault_is_named_among_several_in_one_kernel() -> None:
    x = sg.matrix("x")
    i = sg.vector("i", dtype="int64")
    j = sg.vector("j", dtype="int64", shape=i.shape)
    f = sg.function([x, i, j], sg.take(x, i, axis=0) * sg.take(x, j, axis=0))
    assert len(f.program.steps) == 1
    table, good, bad = np.ones((4, 3)), np.array([3]), np.array([-5])
    for first, second, name in ((bad, good, "i"), (good, bad, "j")):
        with pytest.raises(IndexRangeError, match=rf"x: float64\[4, 3\], {name}: int64\[1\] .*test_function.py:\d+"):
            f(table, first, second)
