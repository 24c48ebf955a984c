"""Running reductions against NumPy: compiled, on rows and columns of all lengths, and their derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

import symgraph as sg
from symgraph.errors import RankError
from symgraph.op import apply, as_variable
from symgraph.ops.cumulative import CumMax, CumProd, CumSum, Running
from symgraph.passes.fuse import Kernel

ARRAYS = hnp.arrays(
    st.sampled_from([np.float32, np.float64, np.int16, np.uint8, np.bool_]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5),
)
RUNNING: dict[str, Callable[..., Any]] = {
    "cumsum": np.cumsum,
    "cumprod": np.cumprod,
    "cummax": lambda a, axis: np.maximum.accumulate(np.ravel(a) if axis is None else a, 0 if axis is None else axis),
    "cummin": lambda a, axis: np.minimum.accumulate(np.ravel(a) if axis is None else a, 0 if axis is None else axis),
}


@pytest.mark.parametrize("name", RUNNING)
@given(ARRAYS, st.integers(-3, 2) | st.none())
def test_as_numpy(name: str, a: NDArray[Any], axis: int | None) -> None:
    if axis is not None and not -a.ndim <= axis < a.ndim:
        axis = None
    x = sg.tensor("x", a.dtype, (None,) * a.ndim)
    got = sg.function([x], getattr(sg, name)(x, axis), target="numpy")(a)
    with np.errstate(all="ignore"):
        want = RUNNING[name](a, axis=axis)
    np.testing.assert_array_equal(got, want)
    assert got.dtype == want.dtype


SHAPES = [(4, 20), (3, 3), (0, 40), (4, 0), (1, 1), (50, 70), (2, 3000)]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(
    ("kind", "dtype"), [(CumSum, "float64"), (CumSum, "float16"), (CumProd, "int32"), (CumMax, "float32")]
)
def test_compiled_for_any_size(kind: type[Running], axis: int, reverse: bool, dtype: str) -> None:
    x = sg.tensor("x", dtype, ("n", "m"))
    op = kind(axis, reverse)  # type: ignore[call-arg]
    f = sg.function([x], apply(op, x))
    for shape in SHAPES:
        a = (10 * np.random.default_rng(1).normal(size=shape)).astype(dtype)
        np.testing.assert_array_equal(f(a), op.reference(a))  # the order of additions is NumPy's


@pytest.mark.parametrize("reverse", [False, True])
def test_terms_in_blocks(reverse: bool) -> None:
    x = sg.matrix("x", shape=("n", "m"))
    op = CumMax(1, reverse)
    f = sg.function([x], apply(op, sg.exp(x) * sg.arange(x.shape[1])))
    assert "vector_range" in "".join(f.program.kernels.values())
    for shape in ((3, 2500), (2, 1024), (0, 4), (4, 0)):
        a = np.random.default_rng(4).normal(size=shape)
        np.testing.assert_allclose(f(a), op.reference(np.exp(a) * np.arange(shape[1])), rtol=1e-14)
    a = np.array([[1.0, np.nan, 2.0], [-np.inf, -np.inf, np.nan]])
    np.testing.assert_array_equal(sg.function([x], apply(op, x))(a), op.reference(a))


def test_the_sign_of_zero() -> None:
    a = np.array([-0.0, 0.0])
    np.testing.assert_array_equal(np.signbit(sg.vmap(sg.cumsum)(a[None])[0]), np.signbit(np.cumsum(a)))


def test_what_comes_before_is_computed_on_the_way() -> None:
    x = sg.matrix("x", shape=("n", "m"))
    made = sg.lower([x], sg.cumsum(sg.exp(x) * 2, axis=1))
    (step,) = made.program.steps
    assert isinstance(step.step, Kernel)
    made = sg.lower([x], sg.cumsum(sg.sum(x, axis=1)))
    assert len(made.kernels) == 2  # all threads add up rows, one of them goes on


def test_axes() -> None:
    x = sg.matrix("x", shape=(3, 4))
    assert sg.cumsum(x).type.shape == (12,)
    assert sg.cumsum(sg.vector("i", dtype="int8", shape=3), 0).type.dtype == np.int64
    assert sg.cumsum(sg.vector("i", dtype="int8", shape=3), 0, dtype="int8").type.dtype == np.int8
    a = np.arange(12.0).reshape(3, 4) - 5
    for got in (np.cumsum(x, axis=1), x.cumsum(1), np.add.accumulate(x, axis=1)):
        np.testing.assert_array_equal(as_variable(got).eval({x: a}), np.cumsum(a, axis=1))
    np.testing.assert_array_equal(as_variable(np.maximum.accumulate(x)).eval({x: -a}), np.maximum.accumulate(-a))
    np.testing.assert_array_equal(x.cumprod().eval({x: a}), np.cumprod(a))
    with pytest.raises(RankError, match=r"cumsum: axis 2 .*test_cumulative\.py"):
        sg.cumsum(x, axis=2)


def test_the_derivative_of_a_sum_runs_backwards() -> None:
    x, w = sg.vector("x", shape=(4,)), np.array([1.0, 2.0, 3.0, 4.0])
    g = sg.grad(sg.sum(sg.cumsum(x) * w), x)
    np.testing.assert_array_equal(g.eval({x: np.zeros(4)}), [10, 9, 7, 4])
    sg.testing.check_grads(lambda x: sg.sum(sg.cumsum(x * x) ** 2 * w), (np.array([3.0, -1.0, 0.0, 0.5]),), order=3)


def test_the_derivative_of_a_product_at_zeros() -> None:
    w = np.array([1.0, 2.0, 3.0, 4.0])
    for a in ([0.0, 2.0, 3.0, 0.5], [1.0, 0.0, 3.0, 0.0], [0.0, 0.0, 0.0, 1.0]):
        sg.testing.check_grads(lambda x: sg.sum(sg.sin(sg.cumprod(x)) * w), (np.array(a),), order=3)
    x = sg.vector("x", shape=("n",))
    g = sg.function([x], sg.grad(sg.cumprod(x)[-1], x))
    np.testing.assert_array_equal(g(np.array([2.0, 0.0, 3.0])), [0, 6, 0])


def test_the_derivative_of_an_extremum_goes_where_it_was_found() -> None:
    w = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    x = sg.vector("x", shape=(5,))
    a = np.array([2.0, 1.0, 3.0, 3.0, 0.0])
    np.testing.assert_array_equal(sg.function([x], sg.grad(sg.sum(sg.cummax(x) * w), x))(a), [3, 0, 4, 24, 0])
    np.testing.assert_array_equal(sg.function([x], sg.grad(sg.sum(sg.cummin(x) * w), x))(a), [1, 14, 0, 0, 16])
    sg.testing.check_grads(lambda x: sg.sum(sg.cummax(sg.sin(x)) ** 3 * w), (a + np.arange(5) / 10,), order=3)
    got = sg.vmap(lambda x: sg.cummax(x), in_axes=1, out_axes=1)(np.stack([a, -a], 1))
    np.testing.assert_array_equal(got, np.maximum.accumulate(np.stack([a, -a], 1), 0))
