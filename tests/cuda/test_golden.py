"""What is printed for CUDA for the same small graphs as for the CPU: the program, its loops, and the source."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import symgraph as sg
from symgraph.graph import Constant, Variable, leaves
from tests.backend.test_golden import GRAPHS


def long_rows() -> sg.Lowering:
    """Four rows of ten million elements: two launches, one of 1,024 parts and one of 4 rows."""
    x = sg.matrix("x", dtype="float32", shape=(4, 10_000_000))
    return sg.lower([x], sg.sum(x, axis=1), target="cuda")


def long_softmax() -> sg.Lowering:
    """One way for whole rows, one for rows in parts."""
    x = sg.matrix("x", dtype="float32", shape=("n", "m"))
    return sg.lower([x], sg.softmax(x, axis=1), target="cuda")


def atomic_sum() -> sg.Lowering:
    """Two launches, of which each adds to zeros: to one number, and to a row."""
    x, y = sg.vector("x", shape=("n",)), sg.matrix("y", dtype="int64", shape=("n", "m"))
    return sg.lower([x, y], [sg.mean(x), sg.sum(y, axis=0)], target="cuda", atomics=True)


def dense_tiles() -> sg.Lowering:
    """A layer whose product is computed in tiles, with gradients: bias, tanh and its derivative are in its launch."""
    x, W, b = sg.matrix("x", shape=("n", 64)), sg.matrix("W", shape=(64, 32)), sg.vector("b", shape=32)
    y = sg.tanh(x @ W + b)
    return sg.lower([x, W, b], [y, *sg.grad(sg.sum(y), [W, b])], target="cuda")


OWN = {f.__name__: f for f in (long_rows, long_softmax, atomic_sum, dense_tiles)}
"""Programs that are of interest on a GPU alone."""
NAMES = [*GRAPHS, *OWN]


def lowered(name: str) -> sg.Lowering:
    if name in OWN:
        return OWN[name]()
    made = GRAPHS[name]()
    outputs = [made] if isinstance(made, Variable) else list(made)
    inputs = [v for v in leaves(outputs) if not isinstance(v, Constant)]
    return sg.lower(sorted(inputs, key=lambda v: v.serial), outputs, target="cuda")


@pytest.mark.parametrize("name", NAMES)
def test_printed(name: str, golden: Callable[[str, str], None]) -> None:
    low = lowered(name)
    loops = "\n".join(f"# {k.name}\n{k.loops}" for k in low.kernels)
    golden(f"{name}.txt", f"{low}\n\n{loops}")
    golden(f"{name}.py.txt", "\n".join(k.source for k in low.kernels))


@pytest.mark.parametrize("name", NAMES)
def test_source_is_python(name: str) -> None:
    for k in lowered(name).kernels:
        compile(k.source, k.name, "exec")
