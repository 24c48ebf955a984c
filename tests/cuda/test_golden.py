"""What is printed for CUDA for the same small graphs as for the CPU: the program, its loops, and the source."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import symgraph as sg
from symgraph.graph import Constant, Variable, leaves
from tests.backend.test_golden import GRAPHS


def lowered(name: str) -> sg.Lowering:
    made = GRAPHS[name]()
    outputs = [made] if isinstance(made, Variable) else list(made)
    inputs = [v for v in leaves(outputs) if not isinstance(v, Constant)]
    return sg.lower(sorted(inputs, key=lambda v: v.serial), outputs, target="cuda")


@pytest.mark.parametrize("name", GRAPHS)
def test_printed(name: str, golden: Callable[[str, str], None]) -> None:
    low = lowered(name)
    loops = "\n".join(f"# {k.name}\n{k.loops}" for k in low.kernels)
    golden(f"{name}.txt", f"{low}\n\n{loops}")
    golden(f"{name}.py.txt", "\n".join(k.source for k in low.kernels))


@pytest.mark.parametrize("name", GRAPHS)
def test_source_is_python(name: str) -> None:
    for k in lowered(name).kernels:
        compile(k.source, k.name, "exec")
