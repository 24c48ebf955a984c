"""The rows of ``make bench-gpu``, as far as a machine without a GPU runs them: same values, shares of a roof."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("benchmarks", reason="benchmarks are in the checkout only")

import symgraph as sg
from benchmarks.gpu import roof, shares, work
from benchmarks.harness import Array, Case, Row
from benchmarks.report import Line, Table
from benchmarks.rows import GPU
from benchmarks.rows.gpu import JOBS, ROOF, flat

SMALL: dict[str, dict[str, Any]] = {
    "gpu-elementwise": {"shape": (50,), "dtype": "float64"},
    "gpu-softmax": {"shape": (5, 7), "dtype": "float64"},
    "gpu-sum": {"shape": (5, 7), "dtype": "float64"},
    "gpu-call": {"shape": (3,), "dtype": "float64"},
    "gpu-sixth": {"n": 9},
    "gpu-chain": {"n": 9, "links": 7},
    "gpu-matmul": {"shape": (6, 6), "dtype": "float64"},
    "gpu-network": {"batch": 3, "dtype": "float64"},
    "gpu-mixture": {"d": 3, "k": 4, "n": 10},
    "gpu-hessian": {"parameters": 4, "rows": 9},
    "gpu-memory": {"n": 12},
}


def expected(key: str, case: Case) -> list[Array]:
    inputs, outputs = JOBS[key].graph(case)
    return [np.asarray(v) for v in flat(sg.function(inputs, outputs)(*JOBS[key].values(case)))]


def agree(got: Any, want: list[Array]) -> None:
    for g, w in zip(flat(got), want, strict=True):
        np.testing.assert_allclose(np.asarray(g), w, rtol=1e-9, atol=1e-12)


def test_every_row_has_a_small_case() -> None:
    assert {*SMALL, "gpu-roof", "gpu-peak"} == set(GPU)


@pytest.mark.parametrize("key", SMALL)
def test_jax_computes_the_same(key: str) -> None:
    jax = pytest.importorskip("jax")
    case = Case("small", SMALL[key])
    with jax.enable_x64(True):
        got = JOBS[key].jax(jax, case)(*[jax.numpy.asarray(v) for v in JOBS[key].values(case)])
        agree(got, expected(key, case))


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")  # PyTorch's own use of it
@pytest.mark.parametrize("key", [k for k in SMALL if k != "gpu-mixture"])  # whose constants are put on the GPU
def test_torch_computes_the_same(key: str) -> None:
    torch = pytest.importorskip("torch")
    case = Case("small", SMALL[key])
    got = JOBS[key].torch(torch, case)(*map(torch.from_numpy, JOBS[key].values(case)))
    agree([v.detach().numpy() for v in flat(got)], expected(key, case))


@pytest.mark.parametrize("key", [k for k in SMALL if JOBS[k].cupy is not None])
def test_what_cupy_computes_by_hand(key: str) -> None:
    by_hand = JOBS[key].cupy
    assert by_hand is not None
    case = Case("small", SMALL[key])
    agree(by_hand(np, case)(*JOBS[key].values(case)), expected(key, case))


def test_shares_of_what_was_measured() -> None:
    tables = [Table(ROOF, case.name, {"fastest": "time"}) for case in ROOF.cases]
    tables[0].lines = [Line("cupy", {"fastest": 2e-3}), Line("torch", {"fastest": 1e-3}), Line("x", note="missing")]
    limits = roof(tables)
    assert limits == {"bytes": 2**31 / 1e-3}
    case = Case("small", {"shape": (1000, 1000), "dtype": "float32"})
    row = Row("gpu-sum", "sum", "", [case])
    moved, flops, dtype = work(row, case)
    assert dtype == "float32"
    assert 4e6 <= moved <= 4.1e6
    assert 1e6 <= flops <= 1.1e6
    table = Table(row, case.name, {"fastest": "time"}, [Line("symgraph", {"fastest": moved / limits["bytes"] * 2})])
    assert "GB/s, 50% of the measured bandwidth; " in shares(row, table, limits)
    assert "not measured of the measured" not in shares(row, table, limits)
    assert shares(row, Table(row, case.name, {}, [Line("symgraph", note="failed")]), limits) == ""
