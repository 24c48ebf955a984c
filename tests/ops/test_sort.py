"""sort and argsort against NumPy: compiled, with ties and nan, and their derivatives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

import symgraph as sg
from symgraph.errors import IndexRangeError, RankError
from symgraph.loop.check import check

ARRAYS = hnp.arrays(
    st.sampled_from([np.float32, np.float64, np.int16, np.bool_]),
    hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=5),
)


@given(ARRAYS, st.integers(-3, 2) | st.none())
def test_as_numpy(a: NDArray[Any], axis: int | None) -> None:
    if axis is not None and not -a.ndim <= axis < a.ndim:
        axis = -1
    x = sg.tensor("x", a.dtype, (None,) * a.ndim)
    got, places = sg.function([x], [sg.sort(x, axis), sg.argsort(x, axis)], target="numpy")(a)
    np.testing.assert_array_equal(got, np.sort(a, axis=axis))
    np.testing.assert_array_equal(places, np.argsort(a, axis=axis, stable=True))


def test_compiled_for_any_size_within_a_program() -> None:
    x = sg.matrix("x", shape=("n", "m"))
    f = sg.function([x], sg.sum(sg.sort(sg.sin(x), axis=0) * sg.sort(x), axis=1))
    for shape in ((4, 3), (1, 7), (0, 2)):
        a = np.random.default_rng(1).normal(size=shape)
        np.testing.assert_allclose(f(a), np.sum(np.sort(np.sin(a), axis=0) * np.sort(a), axis=1))


def test_the_derivative_goes_where_the_elements_went() -> None:
    weights = np.arange(5.0)
    sg.testing.check_grads(
        lambda x: sg.sum(sg.sort(x) ** 2 * weights), (np.array([3.0, -1.0, 2.5, 0.5, 9.0]),), order=3
    )
    x = sg.vector("x", shape=(5,))
    g = sg.grad(sg.sum(sg.sort(x) * weights), x)
    np.testing.assert_array_equal(g.eval({x: np.array([2.0, 1.0, 2.0, 1.0, 2.0])}), [2, 0, 3, 1, 4])
    median = sg.sort(x)[2]
    np.testing.assert_array_equal(sg.grad(median, x).eval({x: np.array([5.0, 1.0, 4.0, 2.0, 3.0])}), [0, 0, 0, 0, 1])


def test_batches_and_axes() -> None:
    a = np.random.default_rng(2).normal(size=(3, 4, 5))
    np.testing.assert_array_equal(sg.vmap(lambda x: sg.sort(x, axis=0), in_axes=1, out_axes=1)(a), np.sort(a, axis=0))
    with pytest.raises(RankError, match=r"sort: axis 2 .*test_sort\.py"):
        sg.sort(sg.matrix("x"), axis=2)


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_positions_need_no_check(target: str) -> None:
    """Loops that are indexed by them are proved without one; where sizes differ, indices are checked."""
    x, y = sg.matrix("x", shape=("n", "m")), sg.vector("y", shape=("k",))
    outputs = [sg.sort(x, 0), sg.grad(sg.sum(sg.sort(x, 1) ** 2), x), sg.take(y, sg.argsort(y)[::-1], axis=0)]
    made = sg.lower([x, y], outputs, target).program
    assert not any(s.checks for s in made.steps)
    for s in made.steps:
        if s.loops is not None and s.loops.body:
            gpu = s.launch is not None
            assert check(s.loops, s.bindings, gpu and s.launch.kind == "one", None if gpu else s.extent) == []  # type: ignore[arg-type, union-attr]
    other = sg.take(x, sg.argsort(y), axis=0)
    assert any(s.checks for s in sg.lower([x, y], other, target).program.steps)
    assert any(s.checks for s in sg.lower([y], sg.take(y, sg.argsort(y) + 1), target).program.steps)
    if target == "cpu":
        with pytest.raises(IndexRangeError):
            sg.function([x, y], other)(np.ones((2, 2)), np.ones(3))


def test_positions_that_are_given_are_checked() -> None:
    """An input may be what an op has found elsewhere: its values are the caller's."""
    x, y = sg.vector("x", shape="n"), sg.vector("y", shape="n")
    found = sg.argsort(y)
    f = sg.function([x, found], sg.take(x, found) * 2.0)
    np.testing.assert_array_equal(f(np.arange(3.0), np.array([2, 0, 1])), [4.0, 0.0, 2.0])
    with pytest.raises(IndexRangeError):
        f(np.arange(3.0), np.array([2, 0, 50_000_000]))
