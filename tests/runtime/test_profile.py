"""Profiles: times of steps, their costs, and that profiling changes nothing."""

from __future__ import annotations

import base64
import re
import xml.etree.ElementTree as ElementTree
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import symgraph as sg
from symgraph.errors import FormatError, IndexRangeError, MissingInputError, SizeError
from symgraph.runtime import profile as module
from symgraph.runtime.cost import weight
from symgraph.runtime.profile import Roof


@pytest.fixture(autouse=True)
def quick_roof(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Roof("with 1 threads", 1e10, {"float32": 1e11, "float64": 5e10})
    monkeypatch.setattr(module, "roof", lambda threads, target: made)


def test_each_step_has_its_time_cost_and_line() -> None:
    x, W = sg.matrix("x", shape=("n", 64)), sg.shared(np.ones((64, 32)), "W")
    f = sg.function([x], sg.sum(sg.tanh(x @ W), axis=1), name="layer")
    found = f.profile(np.ones((100, 64)), seconds=0.02)
    assert len(found) == len(f.program.steps) == 2
    product, reduced = found
    assert (product.operations, product.flops) == ("contract", 2 * 100 * 64 * 32)
    assert product.bytes == 8 * (100 * 64 + 64 * 32 + 100 * 32)
    assert "tanh" in reduced.operations
    assert reduced.bytes == 8 * (100 * 32 + 100)
    for s in found:
        assert 0 < s.seconds <= s.median
        assert s.gflops == pytest.approx(s.flops / s.seconds / 1e9)
        assert s.of_roof == pytest.approx(max(s.flops / 5e10, s.bytes / 1e10) / s.seconds)
        assert {line.file for line in s.sources} == {__file__}
    assert sum(s.share for s in found) == pytest.approx(1)
    assert found.seconds > 0
    assert found.repeats >= 3
    text = str(found)
    assert text.splitlines()[0].split()[:4] == ["step", "kernel", "operations", "µs"]
    assert "test_profile.py:" in text
    assert "layer: " in text
    assert "10 GB/s, 100 GFLOP/s in float32" in text


def test_a_training_loop_goes_on_as_if_nothing_had_been() -> None:
    def run(profiled: bool) -> list[float]:
        x, w = sg.vector("x", shape="n"), sg.shared(np.array([0.5, 2.0]), "w")
        loss = sg.sum(sg.sum(w) * x) ** 2
        step = sg.function([x], loss, updates={w: w - 0.001 * sg.grad(loss, w)})
        values = []
        for _ in range(3):
            values.append(float(step(np.array([1.0, 2.0]))))
            if profiled:
                step.profile(np.array([1.0, 2.0]), seconds=0.0)
                step.profile(x=np.arange(5.0), seconds=0.0)
        return [*values, *w.get_value()]

    assert run(True) == run(False)


def test_threads_share_a_step_as_in_a_call() -> None:
    x = sg.vector("x", shape="n")
    f = sg.function([x], sg.exp(x), threads=2)
    assert f.profile(np.zeros(3), seconds=0.0)[0].flops == 3 * weight("exp")
    (step,) = f.profile(np.zeros(300_000), seconds=0.0)
    assert step.bytes == 2 * 8 * 300_000
    np.testing.assert_array_equal(f(np.zeros(3)), np.ones(3))


def test_a_step_of_the_users_own_code() -> None:
    calls = []

    def counting(x: NDArray[Any]) -> NDArray[Any]:
        calls.append(1)
        return x + 1

    v = sg.vector("v", shape="n")
    op = sg.custom_op(counting)
    f = sg.function([v], sg.exp(op(v)))
    found = f.profile(np.zeros(5), seconds=0.0)
    assert len(found) == 2
    assert len(calls) >= 2 * found.repeats
    assert found[0].seconds > 0


def test_no_size_no_steps_and_scalars() -> None:
    x, k = sg.vector("x", shape="n"), sg.scalar("k")
    f = sg.function([x, k], x * k)
    (step,) = f.profile(np.zeros(0), 2, seconds=0.0)
    assert step.flops == 0
    assert "0 steps" in str(sg.function([], []).profile(seconds=0.0))


def test_errors_are_those_of_a_call() -> None:
    x, i = sg.vector("x", shape="n"), sg.vector("i", dtype="int64")
    f = sg.function([x, i], sg.exp(sg.take(x, i)))
    with pytest.raises(IndexRangeError, match=r"gather: an index is out of range"):
        f.profile(np.zeros(2), [5])
    with pytest.raises(MissingInputError, match="no value for i"):
        f.profile(np.zeros(2))
    y = sg.vector("y", shape="n")
    with pytest.raises(SizeError):
        sg.function([x, y], x + y).profile(np.zeros(2), np.zeros(3))
    with pytest.raises(FormatError, match="has no program"):
        sg.function([x], x + 1, target="numpy").profile(np.zeros(2))


def test_pictures_hold_text_only() -> None:
    x = sg.vector("<img src=x onerror=alert(1)>", shape="n")
    f = sg.function([x], [sg.exp(x), sg.sum(x @ x)], name="</script>$x$")
    found = f.profile(np.zeros(9), seconds=0.0)
    page = found._repr_html_()
    (data,) = re.findall(r'src="data:image/svg\+xml;base64,([^"]*)"', page)
    picture = ElementTree.fromstring(base64.b64decode(data))
    bars = [e for e in picture.iter() if e.tag.endswith("rect")]
    assert len(bars) == 1 + 2 * len(found)
    assert "</script>" not in page
    assert "&lt;/script&gt;$x$" in page


def test_long_programs_print_their_slowest_steps() -> None:
    x = sg.vector("x", shape="n")
    f = sg.function([x], [sg.sum(x * float(k)) for k in range(2)])
    (one, *_) = f.profile(np.zeros(9), seconds=0.0)
    many = module.Profile("f", [one] * 50, 1.0, Roof("with 1 threads", 1e10, {"float64": 1e10}), 3)
    assert len(str(many).splitlines()) == module.MAX_ROWS + 5
    assert "20 more steps take" in str(many)


def test_the_roof_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    found = module.roof(1)
    assert found is module.roof(1)
    assert 1e9 < found.bandwidth < 2e12
    assert 1e8 < found.peak["float64"] < found.peak["float32"] * 1.5
