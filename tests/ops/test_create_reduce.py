"""Inputs, ranges, reductions and rearrangements against NumPy's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import special

import symgraph as sg
from symgraph.errors import DTypeError, RankError, SizeError


def compare(f: Callable[..., Any], g: Callable[..., Any], *arrays: Any, rtol: float = 1e-12) -> None:
    with np.errstate(all="ignore"):
        want = np.asarray(g(*arrays))
    for symbolic in (False, True):
        inputs = [
            sg.tensor(f"x{k}", dtype=a.dtype, shape=[s if s == 1 or not symbolic else f"n{s}" for s in a.shape])
            for k, a in enumerate(arrays)
        ]
        got = f(*inputs).eval(dict(zip(inputs, arrays, strict=True)), target="numpy")
        np.testing.assert_allclose(got, want, rtol=2e-3 if want.dtype == np.float16 else rtol, atol=1e-14, strict=True)


X = np.random.default_rng(0).normal(size=(3, 4))
Y = np.random.default_rng(1).normal(size=(2, 3, 5)) * 2
DTYPES = ["float64", "float32", "float16", "int8", "int32", "int64", "uint8", "uint64", "bool"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["sum", "prod", "max", "min", "any", "all", "mean", "var", "std"])
def test_reductions(name: str, dtype: str) -> None:
    value = np.abs(Y).astype(dtype) if dtype.startswith("u") else Y.astype(dtype)
    rtol = 1e-5 if dtype == "float32" else 1e-12
    for axis in (None, 0, (0, 2), -1, ()):
        for keepdims in (False, True):
            numpy: Any = getattr(np, name)

            def g(a: Any, axis: Any = axis, keepdims: bool = keepdims, numpy: Any = numpy) -> Any:
                return numpy(a, axis=axis, keepdims=keepdims)

            def f(a: Any, axis: Any = axis, keepdims: bool = keepdims) -> Any:
                return getattr(sg, name)(a, axis=axis, keepdims=keepdims)

            compare(f, g, value, rtol=rtol)
            compare(g, g, value, rtol=rtol)  # NumPy's function on a symbol


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_positions(name: str, dtype: str) -> None:
    value = np.abs(Y).astype(dtype)
    for axis in (None, 0, -1):
        for keepdims in (False, True):
            compare(
                lambda a, axis=axis, keepdims=keepdims: getattr(sg, name)(a, axis, keepdims=keepdims),
                lambda a, axis=axis, keepdims=keepdims: getattr(np, name)(a, axis, keepdims=keepdims),
                value,
            )


def test_half_precision_is_summed_in_single() -> None:
    x = sg.vector("x", dtype="float16")
    value = np.ones(5000, "float16")
    assert sg.sum(x).eval({x: value}, target="numpy") == 5000
    assert sg.mean(x).eval({x: np.full(5000, 60000, "float16")}, target="numpy") == np.float16(60000)


def test_reductions_over_nothing() -> None:
    with pytest.raises(SizeError, match="no elements"):
        sg.max(sg.zeros((0, 3)), axis=0)
    assert sg.max(sg.zeros((0, 3)), axis=1).shape == (0,)
    x = sg.vector("x")
    for f in (sg.max, sg.min, sg.argmax, sg.argmin):
        with pytest.raises(SizeError, match="no elements"):
            f(x).eval({x: np.zeros(0)}, target="numpy")
    for target in ("numpy", "cpu"):
        assert sg.logsumexp(x).eval({x: np.zeros(0)}, target=target) == -np.inf
        assert sg.sum(x).eval({x: np.zeros(0)}, target=target) == 0
        assert sg.prod(x).eval({x: np.zeros(0)}, target=target) == 1


def test_an_error_names_the_function_and_the_operand() -> None:
    x = sg.matrix("x", shape=(3, 4))
    with pytest.raises(RankError, match=r"mean: axis 7 does not exist in a tensor of 2 axes :: x: float64\[3, 4\]"):
        sg.mean(x, axis=7)
    with pytest.raises(RankError, match="argmax: axis 5"):
        sg.argmax(x, axis=5)


@pytest.mark.parametrize("zeros", [(0,), (0, 1), (0, 1, 2)])
def test_derivatives_of_a_product_with_zeros_are_exact(zeros: tuple[int, ...]) -> None:
    x = sg.vector("x", shape=(4,))
    value = np.array([2.0, 3.0, 4.0, 5.0])
    value[list(zeros)] = 0
    first = sg.grad(sg.prod(x), x)
    second = [sg.grad(first[i], x) for i in range(4)]

    def others(*gone: int) -> float:
        return float(np.prod(np.delete(value, gone))) if len(set(gone)) == len(gone) else 0.0

    for i in range(4):
        assert first[i].eval({x: value}, target="numpy") == others(i)
        for j in range(4):
            assert second[i][j].eval({x: value}, target="numpy") == others(i, j)
            third = sg.grad(second[i][j], x).eval({x: value}, target="numpy")
            np.testing.assert_array_equal(third, [others(i, j, k) for k in range(4)])


def test_derivative_of_a_long_product() -> None:
    x = sg.vector("x", shape=(1001,))
    value = np.linspace(0.9, 1.1, 1001)
    value[500] = 0
    got = sg.grad(sg.prod(x), x).eval({x: value}, target="numpy")
    assert np.flatnonzero(got).tolist() == [500]
    np.testing.assert_allclose(got[500], np.prod(np.delete(value, 500)), rtol=1e-12)


def test_ties_share_or_the_first_has_it() -> None:
    x = sg.vector("x")
    values = {x: np.array([1.0, 3.0, 3.0, 3.0])}

    def slopes(y: sg.Variable) -> Any:
        return sg.grad(y, x).eval(values, target="numpy")

    np.testing.assert_array_equal(slopes(sg.max(x)), [0, 1 / 3, 1 / 3, 1 / 3])
    np.testing.assert_array_equal(slopes(sg.min(-x)), [0, -1 / 3, -1 / 3, -1 / 3])
    np.testing.assert_array_equal(slopes(sg.max_and_argmax(x)[0]), [0, 1, 0, 0])


# -- inputs and ranges -------------------------------------------------------------------------------------------------


def test_inputs() -> None:
    x = sg.matrix("x", shape=("batch", 64))
    assert str(x.type) == "float64[batch, 64]"
    assert sg.vector("v", shape="batch").shape[0] is x.shape[0]
    assert sg.scalar("s", dtype="int8").type.dtype == np.int8
    assert sg.matrix("a").shape[0] is not sg.matrix("a").shape[0]
    with pytest.raises(RankError, match="matrix: wanted 2 sizes"):
        sg.matrix("x", shape=(3,))
    with pytest.raises(DTypeError, match="complex128"):
        sg.tensor("x", dtype="complex128")
    with pytest.raises(SizeError):
        sg.vector("x", shape=(-1,))


def test_shared_copies_its_value() -> None:
    value = np.zeros(3)
    s = sg.shared(value, name="s")
    value[0] = 1
    np.testing.assert_array_equal(s.get_value(), [0, 0, 0])
    assert s.shape == (3,)


@pytest.mark.parametrize(
    "bounds", [(0.0, 1.0, 0.1), (1, 2.5, 0.3), (5,), (2, 10, 3), (10, 2, -3), (3.5,), (1, 0), (0,)]
)
@pytest.mark.parametrize("dtype", [None, "float32"])
def test_arange(bounds: tuple[Any, ...], dtype: Any) -> None:
    ours: Any = sg.arange
    numpys: Any = np.arange
    compare(lambda: ours(*bounds, dtype=dtype), lambda: numpys(*bounds, dtype=dtype))


def test_arange_to_a_symbolic_size() -> None:
    x = sg.vector("x")
    n: Any = x.shape[0]
    cases: list[tuple[sg.Variable, Callable[[int], Any]]] = [
        (sg.arange(n), lambda n: np.arange(n)),
        (sg.arange(1, n, 2), lambda n: np.arange(1, n, 2)),
        (sg.arange(n, -1, -2), lambda n: np.arange(n, -1, -2)),
    ]
    for y, g in cases:
        for size in range(5):
            np.testing.assert_array_equal(y.eval({x: np.zeros(size)}, target="numpy"), g(size), strict=True)


def test_linspace_and_eye() -> None:
    for case in [(0, 1, 7), (2, -3, 5, False), (0, 1, 1), (0, 1, 0), (1, 1, 3)]:
        compare(lambda case=case: sg.linspace(*case), lambda case=case: np.linspace(*case))
    for k in (-2, 0, 1, 9):
        compare(lambda a, k=k: sg.eye(a.shape[0], 4, k), lambda a, k=k: np.eye(3, 4, k), X)


# -- rearrangements ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "symmetric", "wrap"])
def test_pad(mode: Any) -> None:
    for width in (1, (1, 2), ((1, 2), (0, 3)), ((7, 9), (11, 0))):
        compare(lambda a, w=width: sg.pad(a, w, mode), lambda a, w=width: np.pad(a, w, mode), X)
    compare(lambda a: sg.pad(a, 3, mode), lambda a: np.pad(a, 3, mode), X[:1])


def test_pad_with_constants() -> None:
    width, values = ((1, 2), (3, 0)), ((1, 2), (3, 4))
    compare(lambda a: sg.pad(a, width, constant_values=values), lambda a: np.pad(a, width, constant_values=values), X)
    compare(lambda a: sg.pad(a, 1, constant_values=np.inf), lambda a: np.pad(a, 1, constant_values=np.inf), X)


@pytest.mark.parametrize("k", [-6, -1, 0, 2, 9])
def test_rolls_and_diagonals(k: int) -> None:
    compare(lambda a: sg.roll(a, k), lambda a: np.roll(a, k), X)
    compare(lambda a: sg.roll(a, (k, 1), (0, 1)), lambda a: np.roll(a, (k, 1), (0, 1)), X)
    compare(lambda a: sg.roll(a, k, 0), lambda a: np.roll(a, k, 0), X[:0])
    for name in ("diagonal", "trace", "tril", "triu", "diag"):
        f, g = getattr(sg, name), getattr(np, name)
        compare(lambda a, f=f: f(a, k), lambda a, g=g: g(a, k), X)
    compare(lambda a: sg.diag(a, k), lambda a: np.diag(a, k), X[0])
    compare(lambda a: sg.diagonal(a, k, 2, 0), lambda a: np.diagonal(a, k, 2, 0), Y)


def test_flip_repeat_tile() -> None:
    for axis in (None, 0, -1, (0, 2)):
        compare(lambda a, axis=axis: sg.flip(a, axis), lambda a, axis=axis: np.flip(a, axis), Y)
    compare(lambda a: sg.repeat(a, 3), lambda a: np.repeat(a, 3), X)
    compare(lambda a: sg.repeat(a, 2, 1), lambda a: np.repeat(a, 2, 1), X)
    for reps in (2, (2, 3), (2, 1, 3), (1,), 0):
        compare(lambda a, reps=reps: sg.tile(a, reps), lambda a, reps=reps: np.tile(a, reps), X)


# -- units -------------------------------------------------------------------------------------------------------------


EDGES = np.array([[np.inf, 0.0], [-np.inf, -np.inf], [1000, 1000], [-1000, -np.inf], [np.nan, 1]])


@pytest.mark.parametrize("value", [X, EDGES], ids=["ordinary", "edges"])
@pytest.mark.parametrize("axis", [0, 1])
def test_softmax_and_its_kin(value: Any, axis: int) -> None:
    compare(lambda a: sg.softmax(a, axis), lambda a: special.softmax(a, axis), value)
    compare(lambda a: sg.log_softmax(a, axis), lambda a: special.log_softmax(a, axis), value)
    compare(lambda a: sg.logsumexp(a, axis, True), lambda a: special.logsumexp(a, axis, keepdims=True), value)


def test_a_masked_row_of_logsumexp_has_no_slope() -> None:
    x = sg.matrix("x")
    got = sg.grad(sg.sum(sg.logsumexp(x, axis=1)), x).eval({x: EDGES[[1, 3]]}, target="numpy")
    np.testing.assert_array_equal(got, [[0, 0], [1, 0]])


def test_other_units() -> None:
    compare(sg.gelu, lambda a: a * special.ndtr(a), X)
    compare(sg.silu, lambda a: a * special.expit(a), X)
    compare(sg.log_sigmoid, special.log_expit, X)
    compare(lambda a: sg.one_hot(a, 4), lambda a: np.eye(4)[a], np.array([0, 3, 1]))
