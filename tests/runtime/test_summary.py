"""Summaries of functions, as text and in notebooks."""

from __future__ import annotations

import numpy as np
import pytest

import symgraph as sg


def test_the_lines_of_a_summary() -> None:
    x, w = sg.matrix("x", shape=("batch", 3)), sg.shared(np.ones((3, 2)), "w")
    z = sg.tanh(x @ w)
    f = sg.function([x], [sg.sum(z, axis=0), z.mean()], updates={w: w * 0.5}, name="layer", threads=1)
    rows = f.summary().rows
    assert rows["inputs"] == "x: float64[batch, 3]"
    assert rows["outputs"] == "float64[2], float64[]"
    assert rows["shared"] == "w: float64[3, 2]"
    assert rows["updates"] == "w"
    assert rows["graph"].startswith(f"{len(f.graph)} operations as written, {len(f.optimized)} when optimized")
    assert rows["program"].startswith(f"{len(f.program.steps)} steps: ")
    assert rows["program"].endswith("and 1 by libraries or code of yours, 1 thread")
    assert rows["memory"] == "known when it has been called"
    assert rows["made in"].startswith(f"{sum(f.seconds.values()):.3f} s (build ")
    f(np.ones((5, 3)))
    plan = f.program.last_plan
    assert plan is not None
    assert f.summary().rows["memory"].startswith(f"an arena of {plan.arena} B for tensors of {plan.intermediates} B")
    assert "(batch 5)" in f.summary().rows["memory"]
    text = str(f.summary())
    assert text.splitlines()[0].split() == ["layer", "on", "cpu"]
    assert len(text.splitlines()) == 1 + len(rows)


def test_kernels_that_the_cache_has_are_counted() -> None:
    x = sg.vector("x")

    def make() -> sg.Function:
        return sg.function([x], sg.sin(x) * 3.25 + sg.cosh(x))

    make()
    again = make()
    assert again.compiled == 0
    assert again.summary().rows["cache"] == "1 of 1 kernel found, 0 compiled"


def test_many_inputs_are_not_all_named() -> None:
    xs = [sg.scalar(f"x{k}") for k in range(30)]
    f = sg.function(xs, sum(xs[1:], xs[0]), target="numpy")
    assert f.summary().rows["inputs"].endswith(", … (30 in all)")
    assert "program" not in f.summary().rows
    assert sg.function([], []).summary().rows["inputs"] == "none"


@pytest.mark.parametrize("name", ["<img src=x onerror=alert(1)>", "</script>", "変数", "$x$"])
def test_names_are_text(name: str) -> None:
    x = sg.scalar(name)
    f = sg.function([x], x + 1, name=name, target="numpy")
    page = f._repr_html_()
    assert "<img src=x" not in page
    assert "</script" not in page
    assert name in str(f.summary())
