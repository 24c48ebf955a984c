"""Programs cut into small kernels by what is in use at once, on the simulator: the values of the CPU's single one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import symgraph as sg
from symgraph.graph import Variable
from symgraph.runtime import program


def many_values(x: Variable) -> Variable:
    d = sg.exp(sg.sin(x)) / (1 + x * x)
    for _ in range(3):
        d = sg.grad(sg.sum(d), x)
    return d


def rows_and_columns(x: Variable) -> Variable:
    y = sg.exp(sg.sin(x)) * sg.cos(x)
    z = y / sg.sum(y, axis=1, keepdims=True) + sg.tanh(sg.sum(y, axis=0))
    return sg.grad(sg.sum(sg.sqrt(1 + z * z) * y), x)


@pytest.mark.parametrize("words", [12, 40])
@pytest.mark.parametrize("build", [many_values, rows_and_columns])
def test_values(build: Callable[[Variable], Variable], words: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x = sg.matrix("x", shape=("n", "m"))
    out = build(x)
    a = np.random.default_rng(1).uniform(-1, 1, (3, 5))
    wanted = sg.function([x], out)(a)
    monkeypatch.setattr(program, "GPU_REGISTERS", words)
    monkeypatch.setattr(program, "MAX_WEIGHT", 100)
    fn = sg.function([x], out, target="cuda")
    np.testing.assert_allclose(np.asarray(fn(a)), wanted, rtol=1e-12, atol=1e-13)
