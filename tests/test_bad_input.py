"""Bad input: one clear error of its own class, with the user's line, and no state half-updated."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import (
    AmbiguousNameError,
    CheckError,
    CostError,
    DisconnectedError,
    DTypeError,
    FormatError,
    IndexRangeError,
    MissingInputError,
    RankError,
    SizeError,
    UnknownInputError,
    UpdateError,
)

targets = pytest.mark.parametrize("target", ["cpu", "numpy"])


def line() -> int:
    """The line that calls this."""
    return sys._getframe(1).f_lineno


def at(number: int) -> str:
    """A pattern for the place of a line of this file in a message."""
    return rf"\(.*\btest_bad_input\.py:{number}\b.*\)"


# -- when a function is made -----------------------------------------------------------------------------------------


def test_an_input_that_is_used_and_not_given() -> None:
    here = line() + 1
    x, y = sg.vector("x"), sg.vector("y")
    with pytest.raises(MissingInputError, match=rf"need y: float64\[.*\].*{at(here)}"):
        sg.function([x], x + y)
    with pytest.raises(MissingInputError, match="need y"):
        (x + y).eval({x: [1.0]})
    state = sg.shared(np.zeros(3))
    with pytest.raises(MissingInputError, match="need y"):
        sg.function([x], x, updates={state: state + sg.sum(y)})


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (lambda x: x, "must be a list"),
        (lambda x: [x, x], "given twice"),
        (lambda x: [x, 3.0], "not a variable"),
        (lambda x: [x, sg.constant(1.0)], "not a variable"),
        (lambda x: [x, "x"], "not a variable"),
    ],
)
def test_inputs_that_are_none(inputs: Callable[[sg.Variable], Any], message: str) -> None:
    x = sg.vector("x")
    with pytest.raises(UnknownInputError, match=message):
        sg.function(inputs(x), x * 2)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (lambda w: sg.cast(w, "float32"), r"w: wanted float64\[3\], got float32\[3\]"),
        (lambda w: sg.sum(w), r"w: wanted float64\[3\], got float64\[\]"),
        (lambda w: w[:2], r"w: wanted float64\[3\], got float64\[2\]"),
        (lambda w: sg.expand_dims(w, 0), r"w: wanted float64\[3\], got float64\[1, 3\]"),
    ],
)
def test_updates_of_the_wrong_type(value: Callable[[sg.Variable], sg.Variable], message: str) -> None:
    w = sg.shared(np.zeros(3), "w")
    new = value(w)
    here = line() + 2
    with pytest.raises(UpdateError, match=f"{message}.*{at(here)}"):
        sg.function([], [], updates={w: new})


def test_updates_of_what_is_not_shared() -> None:
    x, w = sg.vector("x"), sg.shared(np.zeros(3), "w")
    with pytest.raises(UpdateError, match="not a shared variable"):
        sg.function([x], x, updates={x: x + 1})  # type: ignore[dict-item]
    with pytest.raises(UpdateError, match="updated twice"):
        sg.function([], [], updates=[(w, w + 1), (w, w + 2)])


def test_what_is_neither_an_output_nor_an_update() -> None:
    x, w = sg.vector("x"), sg.shared(np.zeros(3), "w")
    for outputs in (3.0, {"a": x}, "x"):
        with pytest.raises(FormatError, match="outputs must be a variable, a list of variables or None"):
            sg.function([x], outputs)  # type: ignore[arg-type]
    updates: list[Any] = [[w], [(w, w, w)], {w: None}, {w: "text"}]
    for wrong in updates:
        with pytest.raises(UpdateError, match="wanted"):
            sg.function([x], x, updates=wrong)


def test_options_that_do_not_exist() -> None:
    x = sg.vector("x")
    for options in ({"target": "gpu"}, {"threads": 0}, {"stop_after": "nothing"}, {"levels": ["fast"]}):
        with pytest.raises(FormatError):
            sg.function([x], x + 1, **options)


# -- when a graph is built -------------------------------------------------------------------------------------------


def test_operands_that_do_not_fit() -> None:
    a, b = sg.matrix("a", shape=(3, 4)), sg.matrix("b", shape=(5, 6))
    here = line() + 2
    with pytest.raises(SizeError, match=rf"matmul.*a: float64\[3, 4\].*b: float64\[5, 6\].*{at(here)}"):
        a @ b
    with pytest.raises(SizeError, match=r"add.*a: float64\[3, 4\].*b: float64\[5, 6\]"):
        a + b
    with pytest.raises(RankError, match="axis 2"):
        sg.sum(a, axis=2)
    with pytest.raises(SizeError):
        sg.reshape(a, (5, 5))
    with pytest.raises(IndexRangeError, match="index 7 lies outside axis 0 of size 3"):
        a[7]
    with pytest.raises(RankError, match="3 indices for 2 axes"):
        a[0, 0, 0]
    with pytest.raises(DTypeError):
        a[a > 0]


def test_two_names_are_two_sizes() -> None:
    a, b = sg.vector("a", shape="n"), sg.vector("b", shape="m")
    with pytest.raises(SizeError, match=r"a: float64\[n\].*b: float64\[m\]"):
        a + b


def test_costs_and_targets_of_grad() -> None:
    x, k = sg.vector("x"), sg.scalar("k", dtype="int64")
    with pytest.raises(CostError, match="scalar"):
        sg.grad(x * 2, x)
    with pytest.raises(CostError, match="float"):
        sg.grad(k * 2, x)
    with pytest.raises(DTypeError, match="k"):
        sg.grad(sg.sum(x) * k, k)
    with pytest.raises(DisconnectedError, match="does not depend on"):
        sg.grad(sg.sum(x), sg.vector("z"))


# -- when a function is called ---------------------------------------------------------------------------------------


@pytest.fixture(params=["cpu", "numpy"])
def scaled(request: pytest.FixtureRequest) -> sg.Function:
    x, k = sg.matrix("x", shape=("batch", 4)), sg.vector("k", dtype="int32", shape=("batch",))
    return sg.function([x, k], x * k[:, None], target=request.param)


def test_missing_and_unknown_values(scaled: sg.Function) -> None:
    x, k = np.ones((2, 4)), np.ones(2, np.int32)
    np.testing.assert_array_equal(scaled(x, k=k), x)
    np.testing.assert_array_equal(scaled(k=k, x=x), x)
    cases: list[tuple[tuple[Any, ...], dict[str, Any], type[Exception], str]] = [
        ((), {}, MissingInputError, r"no value for x, k; inputs are x: float64\[batch, 4\], k: int32\[batch\]"),
        ((x,), {}, MissingInputError, "no value for k"),
        ((), {"k": k}, MissingInputError, "no value for x"),
        ((x, k, k), {}, UnknownInputError, "wanted 2 inputs, got 3"),
        ((x, k), {"z": k}, UnknownInputError, "no input is called 'z'"),
        ((x, k), {"x": x}, UnknownInputError, "'x' is given twice"),
    ]
    for args, kwargs, error, message in cases:
        with pytest.raises(error, match=message):
            scaled(*args, **kwargs)


def test_wrong_values(scaled: sg.Function) -> None:
    x, k = np.ones((2, 4)), np.ones(2, np.int32)
    for args, error, message in [
        ((x, np.ones(2)), DTypeError, r"k: wanted int32\[batch\], got dtype float64"),
        ((x, np.ones(2, np.int64)), DTypeError, r"k: wanted int32\[batch\], got dtype int64"),
        ((x.astype(complex), k), DTypeError, r"x: wanted float64\[batch, 4\], got dtype complex128"),
        ((x.astype(object), k), DTypeError, r"x: .*object"),
        (("text", k), DTypeError, "x: "),
        (([[1.0], [1.0, 2.0]], k), DTypeError, "x: .*not an array"),
        ((None, k), DTypeError, "x: "),
        ((x[0], k), RankError, r"x: wanted float64\[batch, 4\], got an array of shape \[4\]"),
        ((x[:, :3], k), SizeError, r"x: axis 1 of float64\[batch, 4\]: wanted 4, got 3"),
        ((x, k[:1]), SizeError, r"k axis 0: wanted batch = 2, got 1 \(batch = 2 from x axis 0\)"),
        ((x, [1, 2**40]), DTypeError, "k: .*does not fit into int32"),
    ]:
        with pytest.raises(error, match=message):
            scaled(*args)
    # What loses nothing is converted.
    np.testing.assert_array_equal(scaled(x.astype(np.float32), [3, 4]), x * [[3], [4]])
    np.testing.assert_array_equal(scaled(x.astype(">f8"), k.astype(np.int16)), x)
    assert scaled(np.ones((0, 4)), np.ones(0, np.int32)).shape == (0, 4)


def test_two_inputs_of_one_name() -> None:
    a, b = sg.scalar("x"), sg.scalar("x")
    f = sg.function([a, b], a - b)
    assert f(3.0, 1.0) == 2
    with pytest.raises(AmbiguousNameError, match="2 inputs are called 'x'; give them by position"):
        f(3.0, x=1.0)
    with pytest.raises(AmbiguousNameError, match="'x'"):
        (a - b).eval({"x": 1.0})
    assert (a - b).eval({a: 3.0, b: 1.0}) == 2
    with pytest.raises(UnknownInputError, match="'z'"):
        (a - b).eval({"z": 1.0})


@targets
def test_sizes_that_only_a_call_knows(target: str) -> None:
    a, b = sg.vector("a"), sg.vector("b")
    here = line() + 1
    y = a + b
    f = sg.function([a, b], y, target=target)
    np.testing.assert_array_equal(f(np.ones(3), np.ones(3)), np.full(3, 2.0))
    with pytest.raises(SizeError, match=at(here)):
        f(np.ones(3), np.ones(4))
    with pytest.raises(SizeError, match=at(here)):
        f(np.ones(3), np.ones(1))  # a size that is not statically 1 does not broadcast


@targets
def test_a_reshape_that_does_not_fit(target: str) -> None:
    a = sg.vector("a")
    here = line() + 1
    y = sg.reshape(a, (-1, 4))
    f = sg.function([a], y, target=target)
    assert f(np.ones(8)).shape == (2, 4)
    with pytest.raises(SizeError, match=at(here)):
        f(np.ones(9))


@targets
def test_indices_out_of_range(target: str) -> None:
    x, i = sg.matrix("x", shape=("n", 3)), sg.vector("i", dtype="int64")
    taken = line() + 1
    rows = sg.take(x, i, axis=0)
    f = sg.function([x, i], sg.exp(rows) + 1, target=target)
    assert f(np.zeros((5, 3)), np.array([4, -5])).shape == (2, 3)
    for bad in (5, -6, 2**62):
        with pytest.raises(IndexRangeError, match=at(taken)):
            f(np.zeros((5, 3)), np.array([0, bad]))
    with pytest.raises(IndexRangeError):
        f(np.zeros((0, 3)), np.array([0]))
    taken = line() + 1
    labels = sg.take_along_axis(x, i[:, None], axis=1)
    g = sg.function([x, i], sg.grad(sg.sum(labels), x), target=target)
    with pytest.raises(IndexRangeError, match=at(taken)):
        g(np.zeros((2, 3)), np.array([0, 3]))


@targets
def test_state_is_as_it_was_after_a_call_that_failed(target: str) -> None:
    w, count = sg.shared(np.arange(5.0), "w"), sg.shared(0, "count")
    i, x = sg.vector("i", dtype="int64"), sg.vector("x", shape="n")
    step = sg.function(
        [i, x], sg.sum(w[i]), updates={count: count + 1, w: w * 2 + sg.sum(w[i]) + sg.sum(x)}, target=target
    )
    good = (np.array([1]), np.zeros(2))
    bad: list[tuple[type[Exception], tuple[Any, ...]]] = [
        (IndexRangeError, (np.array([5]), np.zeros(2))),
        (RankError, (np.array([1]), np.zeros((2, 2)))),
        (DTypeError, (np.array([1.5]), np.zeros(2))),
        (MissingInputError, (np.array([1]),)),
    ]
    for error, args in bad:
        before = w.get_value()
        with pytest.raises(error):
            step(*args)
        np.testing.assert_array_equal(w.get_value(), before)
    assert count.get_value() == 0
    step(*good)
    np.testing.assert_array_equal(w.get_value(), np.arange(5.0) * 2 + 1)
    assert count.get_value() == 1
    for error, args in bad:  # the spare buffers hold the values before last now
        before = w.get_value()
        with pytest.raises(error):
            step(*args)
        np.testing.assert_array_equal(w.get_value(), before)
    assert count.get_value() == 1
    step(*good)
    np.testing.assert_array_equal(w.get_value(), (np.arange(5.0) * 2 + 1) * 2 + 3)


def test_values_for_shared_variables() -> None:
    w = sg.shared(np.zeros((2, 3), np.float32), "w")
    for bad in (np.zeros((2, 4), np.float32), np.zeros((2, 3)), np.zeros(3, np.float32)):
        with pytest.raises(UpdateError, match=r"w: wanted float32\[2, 3\], got"):
            w.set_value(bad)
    with pytest.raises(UpdateError, match="w: "):
        w.set_value("text")
    w.set_value([[1, 2, 3], [4, 5, 6]])
    given = w.get_value()
    w.set_value(given)
    given[:] = 0
    assert w.get_value()[1, 2] == 6
    n = sg.shared(0, "n")
    n.set_value(3)
    assert n.get_value() == 3
    with pytest.raises(UpdateError, match=r"n: wanted int64\[\], got"):
        n.set_value(1.5)


def test_checked_mode_names_the_variable_that_differs() -> None:
    x = sg.vector("x")
    y = sg.exp(x) * 2
    f = sg.function([x], y + 1, check=True)
    np.testing.assert_allclose(f(np.zeros(2)), [3, 3])

    def wrong(a: Any) -> Any:
        return np.exp(a) + 0.1

    operation = sg.get_operation(sg.exp(x))
    assert operation is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(operation), "reference", lambda self, *a: wrong(*a) if self.name == "exp" else 2 * a[0])
        with pytest.raises(CheckError, match=r"test_bad_input\.py"):
            f(np.zeros(2))
