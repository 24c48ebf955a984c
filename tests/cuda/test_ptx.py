"""Kernels compiled for real, by NVVM to PTX and by ptxas to machine code: a sample of the registry, by its hashes.

The whole registry, for all compute capabilities, is what ``make cuda-table`` compiles.
"""

from __future__ import annotations

import operator
import re
from functools import reduce

import pytest

import symgraph as sg
from benchmarks.cuda_table import registry, rows
from symgraph.emit.numba_cuda import ptx, ptx_of_each
from symgraph.errors import MissingDeviceError
from symgraph.loop.wide import MOST
from symgraph.ops.elementwise import Elementwise
from symgraph.passes.fuse import MAX_WEIGHT, Kernel, moves_only
from symgraph.runtime.lowered import LoweredKernel
from symgraph.runtime.program import ProgramStep
from symgraph.testing import ptx as assembling
from symgraph.testing.ptx import CCS, AssemblerError, assemble, find_ptxas, moves, resources

pytest.importorskip("numba_cuda")
needs_ptxas = pytest.mark.skipif(find_ptxas() is None, reason="needs ptxas (symgraph-compiler[cuda-test])")

SHARE = 16
"""Of the registry's kernels one in so many is assembled for 9.0, and one in eight times as many for the others."""


def number(k: LoweredKernel) -> int:
    return int(k.name.rpartition("_")[2], 16)


@needs_ptxas
def test_registry() -> None:
    found = registry()
    assert len(found.kernels) > 1500
    first: dict[str, LoweredKernel] = {}
    for name, k in found.kernels.items():
        first.setdefault(found.families[name], k)
    sample = [k for k in found.kernels.values() if number(k) % SHARE == 0]
    few = [k for k in sample if number(k) % (8 * SHARE) == 0]
    got = resources([*first.values(), *sample], [(9, 0)], processes=1)
    got |= resources(few, [cc for cc in CCS if cc != (9, 0)], processes=1)
    assert len(got[9, 0]) > 60
    for cc, of in got.items():
        for name, r in of.items():
            assert r.spills == 0, (cc, name, found.kernels[name].source)
            assert 0 < r.registers <= 255
            assert r.shared <= 48 * 1024


def elementwise(s: ProgramStep) -> bool:
    return isinstance(s.step, Kernel) and all(isinstance(n.op, Elementwise) or moves_only(n.op) for n in s.step.nodes)


@needs_ptxas
def test_elementwise_kernels_of_the_benchmarks() -> None:
    """However much is fused, its values stay in registers."""
    found: dict[str, LoweredKernel] = {}
    for row in rows():
        wanted = {s.name for s in row.made.program.steps if elementwise(s)}
        found |= {k.name: k for k in row.made.kernels if k.name in wanted}
        weights = [s.step.weight for s in row.made.program.steps if isinstance(s.step, Kernel)]
        assert max(weights) <= MAX_WEIGHT
    assert len(found) > 15
    got = resources(found.values(), [(9, 0)], processes=1)[9, 0]
    assert {name: r.spills for name, r in got.items() if r.spills} == {}


@needs_ptxas
def test_derivatives_of_high_order() -> None:
    """Hundreds of values that are used again and again: as many are in one kernel as registers hold."""
    x = sg.vector("x", shape=("n",))
    product = sg.log(1 + x * x) * sg.sin(sg.sqrt(1 + x * x)) / (2 + sg.cos(x) * sg.exp(-x * x))
    found: dict[str, LoweredKernel] = {}
    for d, order, launches in ((product, 4, 2), (sg.exp(sg.sin(x)) / (1 + x * x), 6, 3)):
        for _ in range(order):
            d = sg.grad(sg.sum(d), x)
        made = sg.lower([x], d, "cuda")
        assert len(made.program.steps) == launches
        found |= {k.name: k for k in made.kernels}
    for got in resources(found.values(), [(9, 0), (12, 0)], processes=1).values():
        assert max(r.registers for r in got.values()) > 160
        assert {name: r.spills for name, r in got.items() if r.spills} == {}


@needs_ptxas
@pytest.mark.parametrize(("tensors", "wide"), [(MOST - 1, True), (MOST, False), (109, False)])
def test_many_tensors(tensors: int, wide: bool) -> None:
    """Elements of many tensors are taken one at a time: several of each would not fit into registers."""
    xs = [sg.vector(f"x{k}", dtype="float64", shape=("n",)) for k in range(tensors)]
    total = reduce(operator.add, xs)
    out = reduce(sg.maximum, [total * x for x in xs])  # each is used again when all were loaded
    (kernel,) = sg.lower(xs, out, "cuda").kernels
    (r,) = resources([kernel], [(9, 0)], processes=1)[9, 0].values()
    assert (r.wide_loads > 0) == (r.wide_stores > 0) == wide
    assert r.spills == 0


def vector_map(dtype: str) -> LoweredKernel:
    x, y = sg.vector("x", dtype=dtype, shape=("n",)), sg.vector("y", dtype=dtype, shape=("n",))
    (kernel,) = sg.lower([x, y], sg.exp(x) * y + x, "cuda").kernels
    return kernel


@pytest.mark.parametrize(("dtype", "width"), [("float32", "v4.f32"), ("float64", "v2.f64")])
def test_16_bytes_at_once(dtype: str, width: str) -> None:
    text = vector_map(dtype).ptx((8, 0))
    assert len(re.findall(rf"ld\.global\.{width}", text)) >= 2  # NVVM may unroll the loop
    assert len(re.findall(rf"st\.global\.{width}", text)) >= 1
    assert moves(text)["wide_loads"] >= 2
    assert moves(text)["wide_stores"] >= 1
    assert moves(text)["loads"] > 2


@needs_ptxas
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_reductions_load_16_bytes_at_once(dtype: str) -> None:
    """Each loop over a row does, by one instruction for each operand; single loads are for what is not aligned."""
    x, w = sg.matrix("x", dtype=dtype, shape=("n", "m")), sg.vector("w", dtype=dtype, shape=("m",))
    outputs = {"sum": (sg.sum(x, axis=1), 1), "softmax": (sg.softmax(x, axis=1), 4), "dot": (sg.sum(x * w, axis=1), 2)}
    found = {what: (sg.lower([x, w], out, "cuda").kernels[0], loads) for what, (out, loads) in outputs.items()}
    for cc, got in resources([k for k, _ in found.values()], [(7, 5), (9, 0)], processes=1).items():
        for what, (k, loads) in found.items():
            r = got[k.name]
            assert (r.wide_loads, r.spills) == (loads, 0), (cc, what)
            assert r.loads > 2 * loads
            assert r.registers <= 80


@needs_ptxas
def test_one_front_end_for_all_compute_capabilities() -> None:
    """NVVM gets the same from Numba whichever compute capability it is made for."""
    k = vector_map("float64")
    each = ptx_of_each(k.source, k.name, k.params, CCS)
    for cc in CCS:
        assert each[cc] == ptx(k.source, k.name, k.params, cc) or assemble({k.name: each[cc]}, cc) == assemble(
            {k.name: k.ptx(cc)}, cc
        )


@needs_ptxas
def test_refused() -> None:
    k = vector_map("float32")
    with pytest.raises(AssemblerError, match="ptxas for"):
        assemble({k.name: k.ptx((9, 0)).replace("add.rn.f32", "add.wrong")}, (9, 0))


@needs_ptxas
def test_kernels_with_the_same_function_of_libdevice_are_apart() -> None:
    x = sg.vector("x")
    kernels = [sg.lower([x], y, target="cuda").kernels[0] for y in (sg.sin(x), sg.cos(x), sg.tan(x), sg.exp(x))]
    texts = {k.name: k.ptx((9, 0)) for k in kernels}
    assert sum(".func" in text for text in texts.values()) >= 2
    apart = {name: assemble({name: text}, (9, 0))[name] for name, text in texts.items()}
    assert assemble(texts, (9, 0)) == apart


def test_without_ptxas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembling, "find_ptxas", lambda: None)
    with pytest.raises(MissingDeviceError, match=r"pip install 'symgraph-compiler\[cuda-test\]'"):
        assemble({}, (9, 0))


@needs_ptxas
def test_products() -> None:
    """The matrix product in tiles keeps its sums in registers, and is brought 16 bytes at once."""
    for dtype in ("float32", "float64"):
        A, B = sg.matrix("A", dtype=dtype, shape=("m", "k")), sg.matrix("B", dtype=dtype, shape=("n", "k"))
        (kernel,) = sg.lower([A, B], A @ B.T, "cuda").kernels
        assert kernel.name.startswith("matmul_")
        (r,) = resources([kernel], [(8, 0)], processes=1)[8, 0].values()
        assert r.spills == r.stack == 0
        assert r.shared == 16 * 2 * 65 * (4 if dtype == "float32" else 8)
        assert r.wide_loads == (2 if dtype == "float32" else 4)
        # Between the barriers are loads from shared memory, at constant distances, and what is done with these.
        lines = kernel.ptx((8, 0)).split("bar.sync")[1].splitlines()
        assert sum(".shared" in line or "fma.rn" in line for line in lines) > 0.7 * len(lines)


@needs_ptxas
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sorts(dtype: str) -> None:
    """A lane's elements stay in registers, and two blocks of 256 lanes fit into a multiprocessor."""
    x = sg.matrix("x", dtype=dtype, shape=("n", "m"))
    kernels = sg.lower([x], sg.argsort(x, 0), "cuda").kernels
    assert len(kernels) == 4
    for cc, got in resources(kernels, CCS, processes=1).items():
        for r in got.values():
            assert r.spills == r.stack == 0
            assert r.shared <= 1792 * (8 if dtype == "float32" else 12) + 16
            assert r.registers <= 128, cc  # 65,536 / 512


@needs_ptxas
@pytest.mark.parametrize(("dtype", "size"), [("float32", None), ("float64", None), ("float32", 2048)])
def test_epilogues(dtype: str, size: int | None) -> None:
    """A dense layer is one kernel, and what follows the product takes no registers that the tile would need."""
    n, k, m = ("n", "k", "m") if size is None else (size,) * 3
    x, w = sg.matrix("x", dtype=dtype, shape=(n, k)), sg.matrix("W", dtype=dtype, shape=(k, m))
    b = sg.vector("b", dtype=dtype, shape=(m,))
    y = sg.tanh(x @ w + b)
    (layer,) = sg.lower([x, w, b], y, "cuda").kernels
    (plain,) = sg.lower([x, w], x @ w, "cuda").kernels
    first, *_ = sg.lower([x, w, b], [y, sg.grad(sg.sum(sg.square(y)), w)], "cuda").kernels
    got = resources([layer], CCS, processes=1)
    assert len(got) == 5
    got[9, 0] |= resources([plain, first], [(9, 0)], processes=1)[9, 0]
    for of in got.values():
        assert {r.spills for r in of.values()} == {r.stack for r in of.values()} == {0}
    registers = {name: r.registers for name, r in got[9, 0].items()}
    assert max(registers[layer.name], registers[first.name]) <= registers[plain.name] + 8


@needs_ptxas
def test_running_reductions() -> None:
    """Values carried from tile to tile, and from one launch to the next, stay in registers."""
    found: dict[str, LoweredKernel] = {}
    for dtype in ("float16", "float64"):
        x = sg.tensor("x", dtype, ("n", "m"))
        for axis in (0, 1):
            made = sg.lower([x], [sg.cumsum(x, axis, dtype), sg.cummax(x, axis)], "cuda")
            found |= {k.name: k for k in made.kernels}
    x = sg.vector("x", shape=("n",))
    made = sg.lower([x], sg.grad(sg.sum(sg.tanh(sg.cumsum(sg.exp(x)))), x), "cuda")
    found |= {k.name: k for k in made.kernels}
    assert any("group_prefix_maximum_float32" in k.source for k in found.values())  # what holds float16
    for cc, of in resources(found.values(), CCS, processes=1).items():
        assert {name: (cc, r) for name, r in of.items() if r.spills or r.stack} == {}
