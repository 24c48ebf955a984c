"""Reductions in parts: which are cut, where atomic additions are asked for, and what machine code they become."""

from __future__ import annotations

import re
from typing import Any

import pytest

import symgraph as sg
from benchmarks.cuda_table import Row, launches
from symgraph.emit.numba_cuda import simulated
from symgraph.errors import FormatError
from symgraph.graph import Variable
from symgraph.runtime.lowered import LoweredKernel, Lowering
from symgraph.testing.ptx import CCS, find_ptxas, resources
from symgraph.types import evaluate

needs_ptxas = pytest.mark.skipif(
    simulated() or find_ptxas() is None, reason="needs ptxas (symgraph-compiler[cuda-test])"
)


def rows(shape: Any, dtype: str = "float32") -> Variable:
    return sg.matrix("x", dtype=dtype, shape=shape)


def parts(made: Lowering, **sizes: int) -> list[int]:
    """How many the workspaces have, for each row."""
    env = {a: sizes[a.name] for v in made.graph.inputs for a in atoms_of(v)}
    found = [s for s in made.program.steps if s.repeat is None or s.repeat(env)]
    return [evaluate(w.type.shape[-1], env) for s in found for w in s.workspace]


def atoms_of(v: Variable) -> list[Any]:
    from symgraph.types import atoms

    return [a for size in v.type.shape for a in atoms(size)]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((4, 10_000_000), 256),
        ((4, 100_000), 12),
        ((512, 1_000_000), 2),
        ((513, 1_000_000), 1),
        ((1000, 100), 1),
        ((4, 16_383), 1),
        ((4, 16_384), 2),
        ((1, 20_000_000), 1024),
    ],
)
def test_how_many_parts_a_row_has(shape: tuple[int, int], expected: int) -> None:
    """The same whether sizes are known before or at the call."""
    n, m = shape
    x, y = rows(("n", "m")), rows(shape)
    for_all = sg.lower([x], sg.sum(x, axis=1), "cuda")
    assert parts(for_all, n=n, m=m) == ([expected] if expected > 1 else [])
    for_these = sg.lower([y], sg.sum(y, axis=1), "cuda")
    assert len(for_these.program.steps) == 1 + (expected > 1)
    if n > 1:  # an axis of one is none
        assert parts(for_these) == ([expected] if expected > 1 else [])


def test_rows_known_to_be_short_have_one_way() -> None:
    for shape in [("n", 10_000), (1000, "m")]:
        x = rows(shape)
        made = sg.lower([x], [sg.softmax(x, axis=1), sg.sum(x, axis=1)], "cuda")
        assert not any(s.repeat or s.workspace for s in made.program.steps)


def test_a_program_says_which_launches_are_for_which_sizes() -> None:
    x = rows(("n", "m"))
    text = str(sg.lower([x], sg.sum(x, axis=1), "cuda", atomics=True))
    assert text.count("], if $0 = 1") == 1
    assert text.count("], if $0 > 1, adds to zeros") == 1
    assert text.count("$0 = max(1, min((1024)//(max(1, n)), (max(1, m))//(8192)))") == 1


def test_atomics_are_for_gpus() -> None:
    x = rows(("n", "m"))
    message = "atomics=True: only target 'cuda' takes it, got target '{}'"
    for target in ("cpu", "numpy"):
        with pytest.raises(FormatError, match=message.format(target)):
            sg.function([x], sg.sum(x), target=target, atomics=True)
    with pytest.raises(FormatError, match=message.format("cpu")):
        sg.lower([x], sg.sum(x), atomics=True)
    sg.function([x], sg.sum(x), atomics=False)


def test_atomics_change_nothing_where_nothing_is_cut() -> None:
    x = rows((30, 100))
    for out in (sg.tanh(x), sg.softmax(x, axis=1), sg.sum(x, axis=1), sg.max(x), x @ x.T, sg.cumsum(x, axis=1)):
        names = [[k.name for k in sg.lower([x], out, "cuda", atomics=a).kernels] for a in (False, True)]
        assert names[0] == names[1]


def kernels(atomics: bool) -> list[LoweredKernel]:
    found: dict[str, LoweredKernel] = {}
    for dtype in ("float32", "float64", "int64"):
        x, v = rows(("n", "m"), dtype), sg.vector("v", dtype=dtype, shape=("n",))
        outputs = [sg.sum(x, axis=1), sg.sum(x * x, axis=0), sg.sum(v), sg.max(x, axis=1), sg.argmax(x, axis=1)]
        if dtype != "int64":
            outputs += [sg.softmax(x, axis=1), sg.logsumexp(x, axis=1), sg.mean(v)]
        made = sg.lower([x, v], outputs, "cuda", atomics=atomics)
        wanted = {s.name for s in made.program.steps if (s.zeroed if atomics else s.repeat)}
        found |= {k.name: k for k in made.kernels if k.name in wanted}
    return list(found.values())


@needs_ptxas
@pytest.mark.parametrize("atomics", [False, True])
def test_nothing_is_spilled(atomics: bool) -> None:
    given = kernels(atomics)
    assert len(given) >= (8 if atomics else 24)
    got = resources(given, CCS if atomics else [(9, 0)], processes=1)
    for cc, of in got.items():
        assert {name: r.spills for name, r in of.items() if r.spills} == {}, cc


@needs_ptxas
def test_rows_in_parts_on_every_gpu() -> None:
    x = rows((4, 10_000_000))
    made = sg.lower([x], [sg.softmax(x, axis=1), sg.sum(x, axis=1)], "cuda").kernels
    got = resources(made, CCS, processes=1)
    for cc, of in got.items():
        assert {name: r.spills for name, r in of.items() if r.spills} == {}, cc
    assert sum(r.wide_stores > 0 for r in got[9, 0].values()) == 2  # what is stored of parts, 16 bytes at once


@needs_ptxas
@pytest.mark.parametrize(
    ("dtype", "instruction"), [("float32", "add.f32"), ("float64", "add.f64"), ("int64", "add.u64")]
)
def test_one_atomic_addition_for_each_part(dtype: str, instruction: str) -> None:
    x = sg.vector("x", dtype=dtype, shape=("n",))
    (kernel,) = sg.lower([x], sg.sum(x), "cuda", atomics=True).kernels
    lines = [line for line in kernel.ptx().splitlines() if re.search(r"\b(red|atom)\.global", line)]
    assert len(lines) == 1
    assert instruction in lines[0]


def test_launches_are_those_of_one_way() -> None:
    x = rows(("n", "m"))
    row = Row("sum", {}, sg.lower([x], sg.sum(x, axis=1), "cuda"))
    assert [launches(row, {"n": 4, "m": m}) for m in (1000, 10**7)] == [1, 2]
