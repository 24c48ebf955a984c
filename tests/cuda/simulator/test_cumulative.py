"""Running reductions on GPUs: rows in tiles of a group's lanes, columns by threads, and both in parts."""

from __future__ import annotations

import numpy as np
import pytest

import symgraph as sg
from symgraph.loop.split import COLUMN, PART
from symgraph.op import apply
from symgraph.ops.cumulative import CumMax, CumSum, Running


@pytest.mark.parametrize("op", [CumSum(0), CumSum(0, True), CumMax(0)], ids=str)
def test_one_row(op: Running) -> None:
    x = sg.vector("x", shape=("n",))
    fn = sg.function([x], apply(op, x), target="cuda")
    assert len(fn.program.steps) == 2
    for n in (0, 1, 31, 33, 700, 2 * PART + 77):
        a = np.random.default_rng(n).normal(size=n)
        np.testing.assert_allclose(fn(a), op.reference(a), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("shape", "axis"), [((3, 100), 1), ((2, PART + 5), 1), ((2 * COLUMN + 5, 3), 0)])
@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_rows_and_columns(shape: tuple[int, int], axis: int, symbolic: bool, reverse: bool) -> None:
    x = sg.matrix("x", shape=("n", "m") if symbolic else shape)
    op = CumSum(axis, reverse)
    fn = sg.function([x], apply(op, 2 * x), target="cuda")
    assert len(fn.program.steps) == (1 if shape == (3, 100) and not symbolic else 2)
    a = np.random.default_rng(1).normal(size=shape)
    np.testing.assert_allclose(fn(a), op.reference(2 * a), rtol=1e-11, atol=1e-11)


def test_three_axes() -> None:
    a = np.random.default_rng(2).normal(size=(2, 2 * COLUMN, 3))
    x = sg.tensor("x", "float64", ("n", "m", "k"))
    for reverse in (False, True):
        op = CumSum(1, reverse)
        np.testing.assert_allclose(
            sg.function([x], apply(op, x), target="cuda")(a), op.reference(a), rtol=1e-11, atol=1e-11
        )


def test_an_index_out_of_range() -> None:
    x, i = sg.vector("x", shape=("n",)), sg.vector("i", dtype="int64", shape=("m",))
    fn = sg.function([x, i], sg.cumsum(sg.take(x, i)), target="cuda")
    a, at = np.arange(5.0), np.array([4, 0, -1, 2])
    np.testing.assert_array_equal(fn(a, at), np.cumsum(a[at]))
    with pytest.raises(IndexError, match=r"test_cumulative\.py"):
        fn(a, np.array([1, 5]))
