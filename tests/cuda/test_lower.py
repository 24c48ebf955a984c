"""``sg.lower`` and what target cuda says where there is no GPU. Needs none."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import FormatError, MissingDeviceError, MissingInputError
from symgraph.loop.schedule import Launch
from symgraph.runtime.launch import Limits, dimensions
from symgraph.types import dim

CAPABILITIES = [(7, 5), (8, 0), (9, 0), (10, 0), (12, 0)]


def rows() -> sg.Lowering:
    x = sg.matrix("x", dtype="float32", shape=("n", "m"))
    return sg.lower([x], [sg.softmax(x, axis=1), sg.sum(x * x)], target="cuda")


@pytest.mark.parametrize("cc", CAPABILITIES)
def test_ptx(cc: tuple[int, int]) -> None:
    for k in rows().kernels:
        text = k.ptx(cc=cc)
        assert re.search(rf"^\.target sm_{cc[0]}{cc[1]}", text, re.MULTILINE)
        assert f".entry {k.name}(" in text
        if "group_" in k.source:
            assert "shfl.sync.bfly" in text
            assert "bar.sync" in text


@pytest.mark.parametrize("cc", [(5, 0), (9, 5), (9,), "9.0", 90])
def test_compute_capabilities_that_there_are_not(cc: Any) -> None:
    with pytest.raises(FormatError, match=rf"ptx: cc: {re.escape(repr(cc))} is not among \(7, 5\), \(8, 0\), "):
        rows().kernels[0].ptx(cc)


def test_products_and_sums_are_not_contracted() -> None:
    x, y = sg.vector("x", dtype="float32", shape="n"), sg.vector("y", dtype="float32", shape="n")
    (k,) = sg.lower([x, y], x * y + x, target="cuda").kernels
    assert "fma.rn.f32" not in k.ptx()
    assert "fma.rn.f32" in k.ptx(fma=True)


def test_lowering_shows_everything_without_running() -> None:
    low = rows()
    assert low.program.target == "cuda"
    assert str(low).startswith("program: ")
    assert low.memory_plan.buffers
    assert int(low.cost.at(n=3, m=4).bytes_written) == 3 * 4 * 4 * 2 + 3 * 4 + 4
    for k in low.kernels:
        assert k.loops.startswith("kernel(")
        assert k.source.startswith(f"def {k.name}(")


def test_lowering_for_the_cpu_is_what_a_function_compiles() -> None:
    x = sg.matrix("x", shape=("n", "m"))
    low = sg.lower([x], sg.tanh(x) * 2)
    assert {k.name: k.source for k in low.kernels} == sg.function([x], sg.tanh(x) * 2).kernels
    with pytest.raises(FormatError, match="ptx: wanted target 'cuda', got 'cpu'"):
        low.kernels[0].ptx()


def test_bad_requests() -> None:
    x = sg.vector("x", shape="n")
    with pytest.raises(FormatError, match="target: 'tpu' is not among cpu, cuda"):
        sg.lower([x], x + 1, target="tpu")
    with pytest.raises(MissingInputError, match="the outputs need x"):
        sg.lower([], x + 1)


def test_no_device_is_said_when_a_function_is_made() -> None:
    from numba import cuda

    if cuda.is_available():
        pytest.skip("there is a GPU")
    x = sg.vector("x", shape="n")
    with pytest.raises(MissingDeviceError, match=r"target 'cuda': there is no .*target='cpu' runs the same graph"):
        sg.function([x], x + 1, target="cuda")


@pytest.mark.parametrize("target", ["function", "ptx"])
def test_numba_cuda_that_is_not_installed(target: str) -> None:
    made = "sg.function([x], x + 1, target='cuda')"
    if target == "ptx":
        made = "sg.lower([x], x + 1, target='cuda').kernels[0].ptx()"
    program = (
        "import sys; sys.modules['numba.cuda'] = None; import symgraph as sg; x = sg.vector('x', shape='n')\n"
        f"try: {made}\nexcept sg.errors.MissingDeviceError as e: print(e)"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=os.environ)
    assert "numba-cuda, which is not installed: pip install 'symgraph-compiler[cuda]'" in out.stdout


@pytest.mark.parametrize("rows", [1, 3, 1000, 10**7])
@pytest.mark.parametrize("lanes", [1, 3, 32, 33, 1000, 5000, 10**8])
@pytest.mark.parametrize("cooperates", [False, True])
@pytest.mark.parametrize("limits", [Limits(), Limits(64, 7), Limits(1024, 132), Limits(4, 2, True)])
@pytest.mark.parametrize("taken", [1, 4])
def test_dimensions(rows: int, lanes: int, cooperates: bool, limits: Limits, taken: int) -> None:
    n, m = dim("n"), dim("m")
    assert n.atom is not None
    assert m.atom is not None
    launch = Launch("groups", n, m, cooperates, taken=taken)
    made = dimensions(launch, {n.atom: rows, m.atom: lanes}, limits)
    width, high = made.block
    assert width & (width - 1) == 0
    assert width * high <= limits.threads
    assert 1 <= made.grid[0] <= limits.blocks
    assert 1 <= made.grid[1] <= 65_535
    if cooperates:
        assert made.grid[1] == 1  # the lanes of a group are in one block
        assert high == 1 or (width <= 32 and not limits.alone)
    if rows == 1:
        assert made.grid[0] * high == 1  # its kernel has no loop over rows: a second group would do the row again


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("lanes", [3, 32, 64, 65, 1024, 1025])
def test_short_rows_have_no_more_lanes_than_work(lanes: int, together: bool) -> None:
    """Four elements to a lane, and several rows to a warp; long rows have a warp or a block as they had."""
    apart = {3: 1, 32: 8, 64: 16, 65: 32, 1024: 256, 1025: 256}
    width = apart[lanes] if not together or lanes != 1024 else 32
    made = dimensions(Launch("groups", 1000, lanes, together, taken=4), {}, Limits())
    assert made.block == (width, 256 // width)


def test_empty_launches_have_a_block() -> None:
    assert dimensions(Launch("grid", 1, 0), {}, Limits()).grid == (1, 1)
    assert dimensions(Launch("groups", 0, 5, True), {}, Limits()).grid == (1, 1)


def test_constants_and_sizes_are_arguments() -> None:
    x, y = sg.vector("x", shape="n"), sg.vector("y", shape=7)
    a = sg.lower([x], sg.exp(x * 2.0) + 1.0, target="cuda").kernels[0]
    b = sg.lower([y], sg.exp(y * 3.0) + np.float64(5.0), target="cuda").kernels[0]
    assert (a.name, a.source) == (b.name, b.source)
    z = sg.vector("z", dtype="float32", shape="n")
    assert sg.lower([z], sg.exp(z * 2.0) + 1.0, target="cuda").kernels[0].name != a.name
