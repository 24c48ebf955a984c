"""Reductions in parts on Numba's CUDA simulator: long rows, and sums that are added atomically."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import IndexRangeError
from symgraph.graph import Constant, Variable, leaves
from symgraph.loop import split
from symgraph.runtime import device as devices
from symgraph.runtime.interpreter import interpret
from symgraph.runtime.launch import Limits
from symgraph.testing.races import CheckingDevice
from symgraph.types import evaluate
from tests.backend.table import NAMES, cases, compare, compare_symbolic, gradients, same
from tests.cuda.simulator.test_programs import REDUCTIONS


@pytest.fixture(autouse=True)
def cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reductions of a few terms are cut into parts, and up to four rows of more than six."""
    small = {"MANY": 1, "PART": 3, "PARTS": 8, "COLUMN": 2, "LONGEST": 5, "ROW": 3}
    for name, value in small.items():
        monkeypatch.setattr(split, name, value)


def check(outputs: Variable | Sequence[Variable], *arrays: Any, atomics: bool = False) -> sg.Function:
    """Compare a function of all leaves, in the order in which they were made, with the interpreter; call it twice."""
    wanted = [outputs] if isinstance(outputs, Variable) else list(outputs)
    inputs = sorted((v for v in leaves(wanted) if not isinstance(v, Constant)), key=lambda v: v.serial)
    fn = sg.function(inputs, wanted, target="cuda", atomics=atomics)
    given = [np.asarray(a, v.type.dtype) for a, v in zip(arrays, inputs, strict=True)]
    with np.errstate(all="ignore"):
        expected = interpret(wanted, dict(zip(inputs, given, strict=True)))
    for _ in range(3):  # launches, a graph that is made, and its replay
        for k, (got, want) in enumerate(zip(fn(*given), expected, strict=True)):
            same(got, want, f"output {k}")
    return fn


def launches(fn: sg.Function) -> int:
    """How many there were in the last call."""
    plan = fn.program.last_plan
    assert plan is not None
    return sum(1 if s.repeat is None else s.repeat(plan.env) for s in fn.program.steps)


def parts(fn: sg.Function) -> list[int]:
    """Of the last call, by workspace, among those that it used."""
    plan = fn.program.last_plan
    assert plan is not None
    used = [s for s in fn.program.steps if s.repeat is None or s.repeat(plan.env)]
    return [evaluate(v.type.shape[-1], plan.env) for s in used for v in s.workspace]


def layernorm(x: Variable) -> Variable:
    centred = x - sg.mean(x, axis=1, keepdims=True)
    return centred / sg.sqrt(sg.mean(centred * centred, axis=1, keepdims=True) + 1e-5)


def statistics(x: Variable) -> list[Variable]:
    """Results of the row, and of its elements, of reductions that depend on each other and that do not."""
    mean, high = sg.mean(x, axis=1), sg.max(x, axis=1)
    return [mean, high, sg.exp(x - high[:, None]), sg.sum((x - mean[:, None]) ** 2, axis=1)]


def log_softmax_gradient(x: Variable) -> Variable:
    return sg.grad(sg.sum(sg.log_softmax(x, axis=1)[:, 0]), x)


def weighted(x: Variable) -> Variable:
    """Two axes of a row that are stepped through apart."""
    by = sg.constant(np.arange(1.0, 4.0))
    y = sg.reshape(x, (x.shape[0], -1, 3)) * by
    return y - sg.sum(y, axis=(1, 2), keepdims=True)


ROWS: dict[str, tuple[Callable[[Variable], Any], int, int]] = {
    "sum": (lambda x: sg.sum(x, axis=1), 1, 2),
    "mean": (lambda x: sg.mean(x, axis=1), 1, 2),
    "max": (lambda x: sg.max(x, axis=1), 1, 2),
    "argmax": (lambda x: sg.argmax(x, axis=1), 1, 3),
    "log_sum_exp": (lambda x: sg.logsumexp(x, axis=1), 1, 3),
    "softmax": (lambda x: sg.softmax(x, axis=1), 1, 4),
    "layernorm": (layernorm, 1, 4),
    "several": (statistics, 1, 3),
    "gradient": (log_softmax_gradient, 3, 6),
    "weighted": (weighted, 2, 3),
}
"""Of a matrix; with how many launches there are for whole rows, and for rows in parts."""


@pytest.mark.parametrize("name", ROWS)
def test_few_long_rows_are_cut_and_others_are_not(name: str) -> None:
    build, whole, several = ROWS[name]
    rng = np.random.default_rng(0)
    x = sg.matrix("x", shape=("n", "m"))
    fn = check(build(x), rng.normal(size=(3, 12)))
    assert launches(fn) == several
    assert set(parts(fn)) == {2}
    for shape in [(5, 12), (3, 3), (1, 3)]:
        fn(rng.normal(size=shape))
        assert (launches(fn), parts(fn)) == (whole, [])
    fn(rng.normal(size=(1, 60)))
    assert (launches(fn), set(parts(fn))) == (several, {8})


@pytest.mark.parametrize("name", ROWS)
def test_sizes_that_are_known_leave_one_way(name: str) -> None:
    build, _, _ = ROWS[name]
    a = np.random.default_rng(0).normal(size=(3, 12))
    fn = check(build(sg.matrix("x", shape=(3, 12))), a)
    assert all(s.repeat is None for s in fn.program.steps)
    assert any(s.workspace for s in fn.program.steps)
    for shape in [(5, 12), (3, 3)]:
        low = sg.lower([x := sg.matrix("x", shape=shape)], build(x), target="cuda")
        assert not any(s.workspace or s.repeat for s in low.program.steps)


def test_rows_in_parts_are_the_same_from_call_to_call() -> None:
    x = sg.matrix("x", dtype="float32", shape=("n", "m"))
    a = np.random.default_rng(0).normal(size=(2, 13)).astype(np.float32)
    fn = sg.function([x], [sg.sum(x, axis=1), sg.softmax(x, axis=1), sg.sum(x)], target="cuda")
    first = [np.copy(y) for y in fn(a)]
    for _ in range(5):
        for got, want in zip(fn(a), first, strict=True):
            assert got.tobytes() == want.tobytes()


def test_index_out_of_range_in_a_long_row() -> None:
    x, i = sg.matrix("x", shape=("n", "m")), sg.vector("i", dtype="int64", shape="k")
    for atomics in (False, True):
        fn = sg.function([x, i], sg.sum(sg.take(x, i, axis=0), axis=1), target="cuda", atomics=atomics)
        a = np.random.default_rng(0).normal(size=(4, 12))
        same(fn(a, np.array([2, -1])), a[[2, -1]].sum(axis=1), "rows")
        assert launches(fn) == 2 - atomics
        with pytest.raises(IndexRangeError):
            fn(a, np.array([2, 4]))


# -- sums that are added atomically ------------------------------------------------------------------------------------

SUMS: dict[str, tuple[Callable[[Variable], Variable | list[Variable]], int, int]] = {
    "all": (sg.sum, 1, 1),
    "mean": (sg.mean, 1, 1),
    "negative": (lambda x: -sg.sum(x * x), 1, 1),
    "two": (lambda x: [sg.sum(x), sg.sum(x) / 2], 1, 1),
    "max": (sg.max, 1, 2),
    "product": (sg.prod, 1, 2),
    "root": (lambda x: sg.sqrt(sg.sum(x * x)), 1, 2),
    "and one more": (lambda x: sg.sum(x) + 1, 1, 2),
    "both": (lambda x: [sg.sum(x), sg.max(x)], 1, 2),
    "rows": (lambda x: sg.sum(x, axis=1), 2, 1),
    "mean of a row": (lambda x: sg.mean(x, axis=1) * 3, 2, 1),
    "columns": (lambda x: sg.sum(x, axis=0), 2, 1),
    "softmax": (lambda x: sg.softmax(x, axis=1), 2, 4),
}
"""Of a vector or a matrix, with the launches of one step: one where they are added, two that combine parts."""


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64"])
@pytest.mark.parametrize("name", SUMS)
def test_sums_that_are_added_atomically(name: str, dtype: str) -> None:
    build, axes, count = SUMS[name]
    if dtype == "int64" and name in ("softmax", "mean", "root", "mean of a row", "two"):
        return
    x = sg.tensor("x", dtype=dtype, shape=("n", "m")[:axes])
    a = np.random.default_rng(0).normal(size=(3, 12) if axes == 2 else 12) * (4 if dtype == "int64" else 1)
    fn = check(build(x), a, atomics=True)
    added = [s for s in fn.program.steps if s.zeroed]
    assert bool(added) == (count == 1)
    assert not (added and any(s.workspace for s in fn.program.steps))
    assert launches(fn) == count
    assert launches(check(build(x), a)) == max(2, count)


@pytest.mark.parametrize("dtype", ["float16", "int16", "bool"])
def test_dtypes_that_are_not_added_atomically(dtype: str) -> None:
    x = sg.matrix("x", dtype=dtype, shape=("n", "m"))
    outputs = [sg.any(x, axis=1)] if dtype == "bool" else [sg.sum(x, axis=1, dtype=dtype)]
    fn = check(outputs, np.random.default_rng(0).integers(0, 2, (3, 12)), atomics=True)
    assert not any(s.zeroed for s in fn.program.steps)
    assert launches(fn) == 2


def test_what_is_added_to_is_in_place_of_no_operand() -> None:
    """The zeros would be there before the operand is read."""
    z, x = sg.matrix("z", shape=("k", 3)), sg.matrix("x", shape=(3, 12))
    scale = sg.max(z, axis=0)
    rng = np.random.default_rng(0)
    out = sg.sum(sg.exp(x * scale[:, None]), axis=1)
    fn = check(out, rng.normal(size=(5, 3)), rng.normal(size=(3, 12)), atomics=True)
    assert fn.program.steps[-1].zeroed


def test_what_is_added_to_is_a_shared_variable() -> None:
    w = sg.shared(np.zeros(3), name="w")
    x = sg.matrix("x", shape=("n", 3))
    step = sg.function([x], None, updates={w: sg.sum(x, axis=0)}, target="cuda", atomics=True)
    a = np.random.default_rng(0).normal(size=(9, 3))
    for k in range(4):
        step(a * k)
        np.testing.assert_allclose(w.get_value(), (a * k).sum(axis=0), atol=1e-12)


def test_sums_of_nothing() -> None:
    x = sg.matrix("x", shape=("n", "m"))
    outputs = [sg.sum(x), sg.sum(x, axis=0), sg.sum(x, axis=1)]
    for atomics in (False, True):
        fn = sg.function([x], outputs, target="cuda", atomics=atomics)
        for shape in [(0, 12), (3, 0), (0, 0)]:
            for got, want in zip(fn(np.zeros(shape)), interpret(outputs, {x: np.zeros(shape)}), strict=True):
                same(got, want, str(shape))


# -- lane by lane ------------------------------------------------------------------------------------------------------


@pytest.fixture
def checking(monkeypatch: pytest.MonkeyPatch) -> CheckingDevice:
    """The device that functions run on: groups of up to eight lanes, several of them in a block."""
    made = CheckingDevice(Limits(8, 3))
    monkeypatch.setattr(devices, "the_device", lambda: made)
    return made


@pytest.mark.parametrize("name", [n for n in NAMES if n in REDUCTIONS])
def test_reductions_of_the_registry(name: str, checking: CheckingDevice) -> None:
    """Parts of rows among them: with nothing out of bounds, no race, and all memory stored before it is loaded."""
    for atomics in (False, True):
        compare(cases(name), target="cuda", atomics=atomics)
        compare_symbolic(name, target="cuda", atomics=atomics)
    if found := gradients(name, 1):
        compare(found, target="cuda")
    assert checking.faults == {}


@pytest.mark.parametrize("shape", [(3, 12), (2, 61), (1, 7), (4, 8), (7, 9)])
def test_rows_lane_by_lane(shape: tuple[int, int], checking: CheckingDevice) -> None:
    x, y = sg.matrix("x", dtype="float32", shape=("n", "m")), sg.vector("y", shape=("n",))
    outputs = [ROWS[name][0](x) for name in ("sum", "softmax", "layernorm", "argmax", "gradient")] + [sg.mean(y)]
    rng = np.random.default_rng(0)
    check(outputs, rng.normal(size=shape), rng.normal(size=shape[0]))
    check(outputs, rng.normal(size=shape), rng.normal(size=shape[0]), atomics=True)
    assert checking.faults == {}
    assert len(checking.kernels) >= 7
