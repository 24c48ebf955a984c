"""Sorts as steps of GPU programs: rows of every length by one program, their derivatives, and their memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

import symgraph as sg
from symgraph.emit.numba_cuda import simulated
from symgraph.errors import SizeError
from symgraph.passes.library import HostCall
from symgraph.runtime import device as devices
from symgraph.runtime import sorts
from symgraph.runtime.interpreter import interpret
from symgraph.runtime.launch import Limits
from symgraph.runtime.program import Turn
from symgraph.runtime.sizes import resolve
from symgraph.testing.races import CheckingDevice

Array = NDArray[Any]


@pytest.fixture
def checking(monkeypatch: pytest.MonkeyPatch) -> CheckingDevice:
    """The device that functions run on: lane by lane."""
    if not simulated():
        pytest.skip("on hardware")
    made = CheckingDevice(Limits(4, 2))
    monkeypatch.setattr(devices, "the_device", lambda: made)
    return made


def test_one_program_for_rows_of_every_length(checking: CheckingDevice) -> None:
    x = sg.matrix("x", dtype="float32", shape=("n", "m"))
    fn = sg.function([x], [sg.sort(x, 0), sg.argsort(x, 1), sg.sort(x, None)], target="cuda")
    rng = np.random.default_rng(0)
    for shape in ((5, 3), (1, 1), (1, 25), (6, 7), (25, 2), (0, 4), (3, 0), (13, 12)):
        a = rng.integers(-3, 4, shape).astype("float32")
        for _ in range(3):  # launched, captured, replayed
            down, across, flat = fn(a)
            np.testing.assert_array_equal(down, np.sort(a, axis=0))
            np.testing.assert_array_equal(across, np.argsort(a, axis=1, stable=True))
            np.testing.assert_array_equal(flat, np.sort(a, axis=None))
    assert checking.faults == {}


ARRAYS = hnp.arrays(
    st.sampled_from([np.float16, np.float32, np.float64, np.int16, np.int64, np.uint8, np.bool_]),
    hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=14),
)


@settings(max_examples=60, deadline=None)
@given(ARRAYS, st.integers(-3, 2) | st.none())
def test_as_numpy(a: Array, axis: int | None) -> None:
    if axis is not None and not -a.ndim <= axis < a.ndim:
        axis = -1
    made = CheckingDevice(Limits(4, 2))
    with pytest.MonkeyPatch.context() as patch:
        if simulated():
            patch.setattr(devices, "the_device", lambda: made)
        x = sg.tensor("x", a.dtype, a.shape)
        got, places = sg.function([x], [sg.sort(x, axis), sg.argsort(x, axis)], target="cuda")(a)
    np.testing.assert_array_equal(got, np.sort(a, axis=axis))
    np.testing.assert_array_equal(places, np.argsort(a, axis=axis, stable=True))
    assert made.faults == {}


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize(("shape", "axis"), [((9,), 0), ((2, 13), 1), ((5, 3), 0)])
def test_derivatives(shape: tuple[int, ...], axis: int, order: int) -> None:
    x = sg.tensor("x", "float64", (None,) * len(shape))
    w = sg.constant(np.random.default_rng(1).normal(size=shape))
    cost = sg.sum(sg.sin(sg.sort(sg.cos(x), axis)) * w + sg.sort(x, axis) ** 3 * w)
    found: list[sg.Variable] = [cost]
    for _ in range(order):
        found.append(sg.grad(sg.sum(sg.cos(found[-1])), x))
    a = np.random.default_rng(2).integers(-4, 5, shape) / 3.0  # with ties
    got = sg.function([x], found, target="cuda")(a)
    for one, other in zip(got, interpret(found, {x: a}), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-11)


def test_the_simulator_s_threads() -> None:
    """Barriers of threads that run at the same time."""
    if not simulated():
        pytest.skip("on hardware")
    x = sg.matrix("x", dtype="float64", shape=("n", "m"))
    fn = sg.function([x], sg.argsort(x, 1), target="cuda")
    a = np.random.default_rng(3).integers(0, 5, (2, 27)).astype("float64")
    np.testing.assert_array_equal(fn(a), np.argsort(a, axis=1, stable=True))


def launched(shape: tuple[Any, ...], axis: int, dtype: str = "float32") -> list[sorts.SortLaunch]:
    x = sg.tensor("x", dtype, shape)
    node = sg.argsort(x, axis).owner
    assert node is not None
    inner = node if node.op.name == "arg_sort" else node.inputs[0].owner
    assert inner is not None
    call = HostCall(inner)
    assert sorts.accepts(call)
    return sorts.launches(call, Turn())


def test_as_many_launches_as_rows_ask_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a GPU's tiles: up to 64 elements by counting, up to 448 and 1,792 in a tile."""
    monkeypatch.setattr(sorts, "in_simulator", lambda: False)
    for n, often in ((0, [1]), (64, [1]), (65, [1]), (1792, [1]), (1793, [1, 1]), (10**6, [1, 10])):
        found = launched((3, n), 1)
        assert [1 if s.repeat is None else s.repeat({}) for s in found] == often
        assert [len(s.workspace) for s in found] == ([1, 0] if n > 1792 else [0])
    for n, often in ((2, [1, 0, 0, 0]), (448, [0, 1, 0, 0]), (449, [0, 0, 1, 0]), (3585, [0, 0, 1, 2])):
        found = launched((3, "n"), 1, "int64")
        atom = sg.dim("n").atom
        assert atom is not None
        assert [s.repeat({atom: n}) for s in found if s.repeat is not None] == often
        assert [len(s.workspace) for s in found] == [0, 0, 3, 0]
        words = {v.type.dtype.name for s in found for v in s.workspace}
        assert words == {"uint64", "uint32"}


def test_rows_that_fit_into_a_tile_need_no_scratch() -> None:
    x = sg.matrix("x", shape=("n", "m"))
    fn = sg.function([x], sg.argsort(x, 0), target="cuda")
    for n, wanted in ((6, [0, 0, 0]), (7, [70 * 8, 70 * 4, 70 * 4])):
        fn(np.zeros((n, 10)))
        plan = fn.program.last_plan
        assert plan is not None
        assert [resolve(b.size, plan.env) for b in fn.program.memory.buffers if not b.output] == wanted


def test_a_program_says_when_it_is_launched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sorts, "in_simulator", lambda: False)
    x, y = sg.matrix("x", shape=(3, "n")), sg.vector("y", shape=(100_000,))
    text = str(sg.lower([x, y], [sg.argsort(x), sg.argsort(y)], "cuda"))
    assert "[threads for 3*n], if 0 <= n <= 64\n" in text
    assert "rows of 64], if 65 <= n <= 448\n" in text
    assert "rows of 256], if n >= 449\n" in text
    assert "rows of 256], until 1792 << times >= n\n" in text
    assert "[56 rows of 256]\n" in text
    assert "[56 rows of 256], 6 times\n" in text


def test_rows_that_are_too_long() -> None:
    (*_, last) = launched((3, "n"), 1)
    atom = sg.dim("n").atom
    assert atom is not None
    assert last.repeat is not None
    assert last.repeat({atom: 2**32 - 1}) > 1
    with pytest.raises(SizeError, match=r"arg_sort\{axis=1\}: wanted at most 4,294,967,295 .* got 4,294,967,296"):
        last.repeat({atom: 2**32})


def test_without_the_kernels_a_sort_is_a_step_of_numpy_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sorts, "_kernels", lambda: None)
    x = sg.vector("x", shape="n")
    fn = sg.function([x], sg.sort(x), target="cuda")
    assert "1 host steps" in str(fn.program)
    np.testing.assert_array_equal(fn(np.array([3.0, 1.0, 2.0])), [1.0, 2.0, 3.0])


def test_the_launches_of_a_sort_are_one_line_of_a_profile() -> None:
    x = sg.vector("x", dtype="float32", shape="n")
    fn = sg.function([x], [sg.sort(x), sg.sum(x)], target="cuda")
    found = fn.profile(np.arange(9, dtype="float32")[::-1], seconds=0.0)
    assert [s.operations for s in found] == [s.what for s in fn.cost.steps]
    assert found[0].bytes == 9 * (4 + 8)
    assert all(s.seconds > 0 for s in found)
