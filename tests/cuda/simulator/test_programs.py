"""Programs on Numba's CUDA simulator: what the table of single operations does not reach."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import IndexRangeError
from symgraph.graph import Constant, Variable, leaves
from symgraph.loop import schedule, split
from symgraph.runtime import simulated
from symgraph.runtime.interpreter import interpret
from symgraph.runtime.launch import Limits
from symgraph.testing import random_program
from symgraph.types import evaluate
from tests.backend.table import NAMES, cases, compare, compare_symbolic, same

REDUCTIONS = (
    *("sum", "prod", "max", "min", "any", "all", "arg_max", "arg_min", "max_and_argmax"),
    *("log_sum_exp", "softmax", "contract"),
)


def check(outputs: Variable | Sequence[Variable], *arrays: Any) -> sg.Function:
    """Compare a function of all leaves, in the order in which they were made, with the interpreter."""
    wanted = [outputs] if isinstance(outputs, Variable) else list(outputs)
    inputs = sorted((v for v in leaves(wanted) if not isinstance(v, Constant)), key=lambda v: v.serial)
    fn = sg.function(inputs, wanted, target="cuda")
    given = [np.asarray(a, v.type.dtype) for a, v in zip(arrays, inputs, strict=True)]
    with np.errstate(all="ignore"):
        expected = interpret(wanted, dict(zip(inputs, given, strict=True)))
    for k, (got, want) in enumerate(zip(fn(*given), expected, strict=True)):
        same(got, want, f"output {k}")
    return fn


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reductions of a few terms are cut into parts."""
    for name, value in (("MANY", 1), ("PART", 3), ("PARTS", 4), ("COLUMN", 2), ("LONGEST", 5)):
        monkeypatch.setattr(split, name, value)


@pytest.mark.usefixtures("cut")
@pytest.mark.parametrize("name", [n for n in NAMES if n in REDUCTIONS])
def test_reductions_in_parts(name: str) -> None:
    compare(cases(name), target="cuda")
    compare_symbolic(name, target="cuda")


@pytest.mark.usefixtures("cut")
def test_parts_are_several_and_meet_in_one_launch() -> None:
    x = sg.matrix("x", shape=("n", "m"))
    a = np.random.default_rng(0).normal(size=(9, 5))
    fn = check([sg.sum(x, axis=0), sg.argmax(sg.ravel(x)), sg.max(x, axis=0)], a)
    plan = fn.program.last_plan
    assert plan is not None
    parts = [evaluate(v.type.shape[0], plan.env) for s in fn.program.steps for v in s.workspace]
    assert parts == [5, 9, 9, 5]  # of the sum, of argmax twice, of max


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_long_sums_are_compensated(axis: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "BLOCK", 4)
    x = sg.matrix("x", dtype="float32", shape=("n", "m"))
    a = np.full((4000, 1) if axis == 0 else (1, 4000), 0.1, np.float32)
    got = sg.function([x], sg.sum(x, axis=axis), target="cuda")(a)
    assert abs(float(np.squeeze(got)) / (4000 * float(np.float32(0.1))) - 1) < 3e-7


def layernorm(x: Variable) -> Variable:
    centred = x - sg.mean(x, axis=1, keepdims=True)
    return centred / sg.sqrt(sg.mean(centred * centred, axis=1, keepdims=True) + 1e-5)


def reversed_rows(x: Variable) -> list[Variable]:
    """Lanes load what other lanes of the group have stored."""
    y = sg.exp(x - sg.max(x, axis=1, keepdims=True))
    return [y, y[:, ::-1] * 2.0 + sg.sum(y, axis=1, keepdims=True)]


def sums_between(x: Variable) -> list[Variable]:
    """Results of the whole row between loops over it."""
    total = sg.sum(x, axis=1)
    return [total, x / total[:, None], sg.sum(x / total[:, None], axis=1)]


def cross_entropy(x: Variable) -> list[Variable]:
    cost = -sg.sum(sg.log_softmax(x, axis=1)[sg.arange(x.shape[0]), sg.argmin(x, axis=1)])
    return [cost, sg.grad(cost, x)]


def network(x: Variable) -> list[Variable]:
    w = sg.constant(np.random.default_rng(1).normal(size=(7, 4)))
    y = sg.tanh(x @ w)
    return [y, sg.grad(sg.sum(y * y), x)]


def embedding(x: Variable) -> list[Variable]:
    rows = sg.constant(np.array([0, 2, 2, -1, 0]))
    taken = sg.take(x, rows, axis=0)
    return [taken, sg.grad(sg.sum(sg.sin(taken)), x)]


@pytest.mark.parametrize("size", [(5, 7), (1, 7), (3, 7), (2, 7)])
@pytest.mark.parametrize("build", [layernorm, reversed_rows, sums_between, cross_entropy, network, embedding])
def test_program(build: Callable[[Variable], Any], size: tuple[int, int]) -> None:
    if build is embedding and size[0] < 3:
        return
    x = sg.matrix("x", shape=("n", 7))
    check(build(x), np.random.default_rng(size[0]).normal(size=size))


def test_result_of_a_row_is_in_place_of_nothing_that_all_lanes_load() -> None:
    z, x = sg.matrix("z", shape=("k", "n")), sg.matrix("x", shape=("n", 9))
    scale = sg.sum(z * z, axis=0)
    outputs = [sg.sum(x, axis=1) + scale, sg.sum(sg.exp(x * scale[:, None]), axis=1)]
    rng = np.random.default_rng(0)
    fn = check(outputs, rng.normal(size=(3, 4)), rng.normal(size=(4, 9)))
    assert not fn.program.memory.of[fn.program.outputs[0]].variables[1:]  # where the scale lies would be the place


@pytest.mark.parametrize("seed", range(30))
def test_random_program(seed: int) -> None:
    made = random_program(np.random.default_rng(seed))
    fn = sg.function(made.inputs, made.outputs, target="cuda")
    with np.errstate(all="ignore"):
        expected = interpret(made.outputs, dict(zip(made.inputs, made.values, strict=True)))
    for k, (got, want) in enumerate(zip(fn(*made.values), expected, strict=True)):
        same(got, want, f"output {k}")


def test_index_out_of_range_is_reported_with_its_line() -> None:
    x, i = sg.matrix("x", shape=("n", 3)), sg.vector("i", dtype="int64", shape="k")
    fn = sg.function([x, i], [sg.take(x, i, axis=0) * 2, sg.grad(sg.sum(sg.take(x, i, axis=0) ** 2), x)], target="cuda")
    fn(np.ones((4, 3)), np.array([0, -1, 3]))
    with pytest.raises(IndexRangeError, match=r"gather: .*float64\[4, 3\].*int64\[2\].*test_programs.py"):
        fn(np.ones((4, 3)), np.array([0, 4]))


def test_index_out_of_range_in_a_row_that_is_reduced() -> None:
    """The lanes of a group leave out what depends on the index together."""
    x, i = sg.matrix("x", shape=("n", "m")), sg.vector("i", dtype="int64", shape="n")
    rows = sg.take_along_axis(sg.log_softmax(x, axis=1), i[:, None], axis=1)
    fn = sg.function([x, i], rows, target="cuda")
    a = np.random.default_rng(0).normal(size=(3, 6))
    same(fn(a, np.array([0, 5, 1])), sg.function([x, i], rows)(a, np.array([0, 5, 1])), "rows")
    with pytest.raises(IndexRangeError):
        fn(a, np.array([0, 6, 1]))


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_results_do_not_depend_on_the_launch(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x = sg.matrix("x", shape=("n", "m"))
    outputs = [sg.softmax(x, axis=1), sg.sum(x * x, axis=0), sg.max(x), sg.tanh(x) + x[0]]
    monkeypatch.setattr(simulated, "LIMITS", Limits(threads, 3, True))
    check(outputs, np.random.default_rng(0).normal(size=(5, 11)))


@pytest.mark.parametrize("dtype", ["float16", "int8", "bool"])
def test_scatters_that_no_atomic_addition_serves(dtype: str) -> None:
    """In order; threads share the columns, which never meet."""
    rows = sg.vector("rows", dtype="int64", shape="k")
    values = sg.matrix("values", dtype=dtype, shape=("k", "m"))
    out = sg.add_at(sg.zeros((4, values.shape[1]), dtype), rows, values)
    rng = np.random.default_rng(0)
    given = np.asarray(rng.integers(0, 2, (6, 5)) if dtype == "bool" else rng.integers(-3, 4, (6, 5)), dtype)
    fn = check(out, np.array([0, 3, 3, -1, 0, 3]), given)
    launch = fn.program.steps[-1].launch
    assert launch is not None
    assert launch.kind == "grid"


def test_updates_and_shared_variables() -> None:
    w = sg.shared(np.ones(3), name="w")
    x = sg.vector("x", shape=3)
    step = sg.function([x], sg.sum(w * x), updates={w: w - 0.1 * x}, target="cuda")
    assert step(np.arange(3.0)) == 3.0
    np.testing.assert_allclose(w.get_value(), 1 - 0.1 * np.arange(3.0))
