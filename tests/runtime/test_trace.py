"""Values inside a call, and the first that is not finite, on both targets."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import AmbiguousNameError, FormatError, NonFiniteError, UnknownInputError

TARGETS = ("numpy", "cpu")


@pytest.mark.parametrize("target", TARGETS)
def test_every_intermediate_is_there_with_its_statistics(target: str) -> None:
    x, w = sg.vector("x", shape=2), sg.shared(np.array([2.0, 4.0]), "w")
    p = x * w
    p.name = "p"
    q = sg.sqrt(p)
    f = sg.function([x], sg.sum(q), updates={w: w + 1.0}, target=target)
    found = f.trace(np.array([-1.0, 4.0]))
    assert [v.op for v in found] == ["input", "shared", "multiply", "sqrt", "sum", "broadcast", "add"]
    assert found["p"] is found[p] is found[2]
    assert (found[p].min, found[p].max, found[p].mean, found[p].nans, found[p].infs) == (-2.0, 16.0, 7.0, 0, 0)
    assert (found[q].min, found[q].max, found[q].mean, found[q].nans) == (4.0, 4.0, 4.0, 1)
    assert found[q].value.shape == (2,)
    assert not found[q].finite
    first = found.first_non_finite
    assert first is not None
    assert first.variable is q
    assert "test_trace.py" in first.line
    np.testing.assert_array_equal(w.get_value(), [2.0, 4.0], "no update is made")
    assert len(found) == len(list(found)) == 7


@pytest.mark.parametrize("target", TARGETS)
def test_other_dtypes_empty_tensors_and_inner_inputs(target: str) -> None:
    x = sg.vector("x", shape="n", dtype="int64")
    y = x * 2
    top, where = sg.max_and_argmax(y, axis=0)
    f = sg.function([x], [top, where, y > 2, y[:0]], target=target)
    found = f.trace([1, 5])
    assert (found[top].min, found[where].max, found[y].nans) == (10, 1, 0)
    assert any(v.min is None and v.mean is None for v in found), "of nothing there is no minimum"
    inner = sg.function([x, y], y + x, target=target).trace([1, 2], [5, 5])
    assert inner[y].op == "multiply"
    assert inner[y].value.tolist() == [5, 5]
    assert inner[-1].value.tolist() == [6, 7]


def test_infinities_alone_have_no_mean_and_sums_do_not_overflow_silently() -> None:
    x = sg.vector("x")
    found = sg.function([x], -x, target="numpy").trace([np.inf, -np.inf])
    assert (found["x"].min, found["x"].max, found["x"].mean, found["x"].infs) == (-np.inf, np.inf, None, 2)


def test_what_is_asked_for_and_is_not_there() -> None:
    x, other = sg.scalar("x"), sg.scalar("other")
    y, z = x + 1, x + 2
    y.name = z.name = "same"
    found = sg.function([x], y * z, target="numpy").trace(1.0)
    with pytest.raises(UnknownInputError, match="'w' is not in the graph; names in it: same, x"):
        found["w"]
    with pytest.raises(UnknownInputError, match="other"):
        found[other]
    with pytest.raises(AmbiguousNameError, match="2 variables are called 'same'"):
        found["same"]


@pytest.mark.parametrize("name", ["<img src=x onerror=alert(1)>", "</script>", "変数", "$x$", "a\x1b[31m\nb", "[bold]"])
def test_names_are_text(name: str) -> None:
    x = sg.scalar(name)
    found = sg.function([x], x + 1, target="numpy").trace(1.0)
    html = found._repr_html_()
    assert "<img" not in html
    assert "</script" not in html
    assert "\x1b" not in html
    assert "\x1b" not in str(found)
    assert len(str(found).splitlines()) == 1 + len(found)
    if name.isprintable():
        assert name in str(found)


def test_the_table_for_rich() -> None:
    rich = pytest.importorskip("rich.console")
    x = sg.scalar("[red]x")
    found = sg.function([x], x + 1, target="numpy").trace(1.0)
    console = rich.Console(width=200, color_system=None)
    with console.capture() as capture:
        console.print(found)
    assert "[red]x" in capture.get()


def boom(target: str, **options: Any) -> tuple[sg.Function, sg.SharedVariable]:
    x, w = sg.vector("x", shape="n"), sg.shared(1.0, "w")
    root = sg.sqrt(x)
    root.name = "root"
    return sg.function([x], sg.sum(root), updates={w: w + 1}, check="nan", target=target, **options), w


@pytest.mark.parametrize("target", TARGETS)
def test_the_first_nan_is_named_with_its_operands_and_line(target: str) -> None:
    f, w = boom(target, name="step")
    assert f(np.array([1.0, 4.0])) == 3.0
    with pytest.raises(NonFiniteError) as caught:
        f(np.array([1.0, -4.0, 9.0]))
    message = str(caught.value)
    assert message.startswith("step: sqrt makes root: float64[n] with 1 nan among 3 elements, the first at [1]")
    assert "x: float64[n] is finite" in message
    assert "test_trace.py:" in message
    assert w.get_value() == 2.0, "a call that fails changes nothing"
    assert f(np.array([1.0])) == 1.0, "and the function goes on"
    assert isinstance(caught.value, FloatingPointError)


@pytest.mark.parametrize("target", TARGETS)
def test_the_first_in_order_is_what_makes_it_not_what_passes_it_on(target: str) -> None:
    x = sg.vector("x", shape=(2,))
    f = sg.function([x], sg.exp(1 / x) * 0.0, check="nan", target=target)
    with pytest.raises(NonFiniteError, match=r"(divide|reciprocal) makes a float64\[2\] with 1 inf"):
        f(np.array([0.0, 1.0]))


@pytest.mark.parametrize("target", TARGETS)
def test_infinities_that_are_given_are_no_fault(target: str) -> None:
    x, keep = sg.vector("x", shape="n"), sg.vector("keep", shape="n", dtype="bool")
    f = sg.function([x, keep], sg.softmax(sg.where(keep, x, -np.inf)), check="nan", target=target)
    np.testing.assert_allclose(f([1.0, 1.0, 5.0], [True, True, False]), [0.5, 0.5, 0.0])
    with pytest.raises(NonFiniteError):
        f([1.0, 1.0, 5.0], [False, False, False])


@pytest.mark.parametrize("target", TARGETS)
def test_a_nan_that_is_given_is_named_at_once(target: str) -> None:
    x, w = sg.vector("x"), sg.shared(np.array([0.0, np.nan]), "w")
    f = sg.function([x], x * 2, check="nan", target=target)
    with pytest.raises(NonFiniteError, match=r"input x: .* has 1 nan of 2 elements, the first at \[1\]"):
        f(np.array([1.0, np.nan]))
    with pytest.raises(NonFiniteError, match="shared w"):
        sg.function([], w + 1, check="nan", target=target)()


def test_what_the_compiler_makes_stable_is_not_reported() -> None:
    x = sg.vector("x")
    y = sg.log(1 + sg.exp(x))
    assert sg.function([x], y, check="nan")(np.array([1000.0]))[0] == 1000
    with pytest.raises(NonFiniteError, match="exp makes"):
        sg.function([x], y, check="nan", target="numpy")(np.array([1000.0]))


def test_watched_functions_give_the_same_in_every_form() -> None:
    x, n = sg.matrix("x", shape=("n", 2)), sg.shared(0, "n")
    y = sg.tanh(x @ x.T)
    values = np.random.default_rng(0).normal(size=(3, 2))
    for outputs in (y, [y, y, x], None):
        plain = sg.function([x], outputs, updates={n: n + 1})(values)
        f = sg.function([x], outputs, updates={n: n + 1}, check="nan")
        found = pickle.loads(pickle.dumps(f))(values)
        if outputs is None:
            assert plain is found is None
        else:
            for a, b in zip(*([v] if isinstance(v, np.ndarray) else v for v in (plain, found)), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-14)
    assert n.get_value() == 3, "functions that were pickled have states of their own"


def test_an_option_that_is_none() -> None:
    x = sg.scalar("x")
    with pytest.raises(FormatError, match="check: 'inf' is not among False, True, 'nan'"):
        sg.function([x], x, check="inf")
