"""Indexing against NumPy's, with static and with symbolic sizes; errors at build and at run time."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import DTypeError, IndexRangeError, RankError, SizeError


def evaluate(y: sg.Variable, values: dict[sg.Variable, Any]) -> Any:
    return y.eval(values, target="numpy")


def random_slice(rng: random.Random, n: int) -> slice:
    bounds = [None, *range(-n - 2, n + 3)]
    return slice(rng.choice(bounds), rng.choice(bounds), rng.choice([None, 1, 2, -1, -2, 3]))


def random_item(rng: random.Random, n: int) -> Any:
    def indices(*shape: int) -> Any:
        return np.array([rng.randrange(-n, n) for _ in range(int(np.prod(shape)))]).reshape(shape)

    kind = rng.choice("ssssiiinabl") if n else rng.choice("sssn")
    match kind:
        case "s":
            return random_slice(rng, n)
        case "i":
            return rng.randrange(-n, n)
        case "n":
            return None
        case "a":
            return indices(2)
        case "b":
            return indices(3, rng.choice([1, 2]))
        case _:
            return indices(2).tolist()


def random_key(rng: random.Random, shape: tuple[int, ...]) -> tuple[Any, ...]:
    key: list[Any] = []
    axis = 0
    while axis < len(shape) and rng.random() < 0.8:
        key.append(random_item(rng, shape[axis]))
        axis += key[-1] is not None
    if rng.random() < 0.3:
        key.insert(rng.randrange(len(key) + 1), Ellipsis)
    return tuple(key)


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_random_keys(seed: int, symbolic: bool) -> None:
    rng = random.Random(seed)
    for _ in range(60):
        shape = tuple(rng.choice([0, 1, 2, 3, 4]) for _ in range(rng.randrange(5)))
        value = np.random.default_rng(seed).normal(size=shape)
        key = random_key(rng, shape)
        x = sg.tensor("x", shape=[f"n{k}" for k in range(len(shape))] if symbolic else shape)
        try:
            want = value[key]
        except (IndexError, DeprecationWarning):  # of a key that NumPy before 2.1 only warns of
            continue
        np.testing.assert_array_equal(evaluate(x[key], {x: value}), want, err_msg=f"{shape} {key}", strict=True)


def test_sizes_of_slices_are_exact_and_agree() -> None:
    x = sg.vector("x", shape=("n",))
    differences = x[1:] - x[:-1]
    assert differences.shape == x[1:].shape
    assert (x[2:] - 2 * x[1:-1] + x[:-2]).ndim == 1
    assert x[-3:].shape == x[:3].shape
    assert x[::-1].shape == x.shape
    for n in range(5):
        value = np.arange(n, dtype=float) ** 2
        np.testing.assert_array_equal(evaluate(differences, {x: value}), value[1:] - value[:-1])
        np.testing.assert_array_equal(evaluate(x[-3:] + x[:3], {x: value}), value[-3:] + value[:3])


def test_a_size_as_bound_is_a_position() -> None:
    x = sg.vector("x", shape=("n",))
    n: Any = x.shape[0]
    assert x[: n - 1].shape == x[:-1].shape
    np.testing.assert_array_equal(evaluate(x[n - 3 :], {x: np.arange(2.0)}), [0, 1])


def test_indices_that_are_variables() -> None:
    x, i = sg.matrix("x"), sg.tensor("i", dtype="int32")
    value = np.arange(6.0).reshape(2, 3)
    for k in (-2, -1, 0, 1):
        np.testing.assert_array_equal(evaluate(x[i], {x: value, i: np.int32(k)}), value[k])
        np.testing.assert_array_equal(evaluate(x[:, i], {x: value, i: np.int32(k)}), value[:, k])


@pytest.mark.parametrize("key", [3, -4, (0, 4), (slice(None), np.array([0, 7]))])
def test_out_of_a_static_axis_is_an_error_at_build(key: Any) -> None:
    x = sg.matrix("x", shape=(3, 4))
    with pytest.raises(IndexRangeError, match=r"getitem: index -?. lies outside axis . of size . :: x: float64"):
        x[key]


@pytest.mark.parametrize("k", [3, -4])
@pytest.mark.parametrize("target", ["numpy", "cpu"])
def test_out_of_a_symbolic_axis_is_an_error_at_run_time(k: int, target: str) -> None:
    x = sg.vector("x")
    with pytest.raises(IndexRangeError):
        x[k].eval({x: np.zeros(3)}, target=target)


def test_what_is_no_index() -> None:
    x = sg.matrix("x", shape=(3, 4))
    with pytest.raises(DTypeError, match="where"):
        x[x > 0]
    with pytest.raises(DTypeError, match="integer tensor"):
        x[1.5]
    with pytest.raises(DTypeError, match="bounds are ints or sizes"):
        x[sg.argmax(x) :]
    with pytest.raises(RankError, match="3 indices for 2 axes"):
        x[0, 0, 0]
    with pytest.raises(RankError, match="one ellipsis"):
        x[..., ...]
    with pytest.raises(SizeError, match="step"):
        x[::0]


def test_take() -> None:
    x = sg.matrix("x", shape=("n", 4))
    value, idx = np.random.default_rng(0).normal(size=(3, 4)), np.array([[0, 2], [-1, 1]])
    for axis in (None, 0, 1, -1):
        np.testing.assert_array_equal(evaluate(sg.take(x, idx, axis), {x: value}), np.take(value, idx, axis))
    for mode in ("wrap", "clip"):
        got = evaluate(sg.take(x, idx * 7 - 3, 0, mode), {x: value})
        np.testing.assert_array_equal(got, np.take(value, idx * 7 - 3, 0, mode=mode))
    with pytest.raises(IndexRangeError, match="take: index 9"):
        sg.take(x, [9], axis=1)


@pytest.mark.parametrize(
    ("x_shape", "i_shape", "axis"), [((3, 4), (2, 4), 0), ((3, 4), (1, 2), 1), ((1, 4), (3, 2), 1)]
)
def test_take_along_axis(x_shape: tuple[int, int], i_shape: tuple[int, int], axis: int) -> None:
    rng = np.random.default_rng(1)
    value, index = rng.normal(size=x_shape), rng.integers(-x_shape[axis], x_shape[axis], i_shape)
    x, i = sg.tensor("x", shape=x_shape), sg.tensor("i", dtype="int64", shape=i_shape)
    got = evaluate(sg.take_along_axis(x, i, axis), {x: value, i: index})
    np.testing.assert_array_equal(got, np.take_along_axis(value, index, axis), strict=True)


@pytest.mark.parametrize(
    "key",
    [(slice(None), 1), (np.array([0, 0, 2]),), (slice(None, None, -2), np.array([[1], [1]])), (0, 0), (..., None)],
)
def test_add_at(key: Any) -> None:
    x = sg.matrix("x", shape=("n", 4))
    value = np.random.default_rng(2).normal(size=(3, 4))
    want = value.copy()
    np.add.at(want, key, 2.5)
    np.testing.assert_allclose(evaluate(sg.add_at(x, key, 2.5), {x: value}), want, rtol=1e-15)


def test_a_slice_without_bounds_keeps_the_size_of_its_axis() -> None:
    n = sg.dim("n")
    x = sg.matrix("x", shape=(n - 8, 9))  # as sliding windows have it: its formula alone could be below 0
    assert x[:, 4:5].shape == (n - 8, 1)
    assert x[::-1].shape == (n - 8, 9)
    assert (x - x[:, 4:5]).shape == (n - 8, 9)
