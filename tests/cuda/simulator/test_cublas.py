"""Products by cuBLAS, over a fake of nvmath-python's bindings: by themselves, and as steps of programs."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from symgraph.emit.numba_cuda import simulated
from symgraph.errors import DeviceError
from symgraph.runtime.arrays import LEGACY, Memory, Span
from symgraph.runtime.cublas import VALUES, Axis, Gemm, Library, batches
from symgraph.runtime.simulated import SimulatedDevice
from tests.cuda.simulator.fake_cublas import FakeCublas

if not simulated():
    pytest.skip("the real cuBLAS is there, or none", allow_module_level=True)

Array = NDArray[Any]


def on(device: SimulatedDevice) -> FakeCublas:
    """The bindings for a device."""

    def where(address: int) -> tuple[int, int]:
        for start, raw in device.blocks.items():
            end = int(raw.ctypes.data) + raw.size
            if start <= address < end:
                return start, end
        raise AssertionError(f"address {address} is not allocated")

    return FakeCublas(lambda stream, work: device.start(work), where)


class Bench:
    """A device, the library on it, and its workspace."""

    def __init__(self) -> None:
        self.device = SimulatedDevice()
        self.bindings = on(self.device)
        self.library = Library(self.bindings, (9, 0))
        self.workspace = Memory(self.device, self.library.workspace, LEGACY)

    def put(self, values: Array) -> Memory:
        made = Memory(self.device, values.nbytes, LEGACY)
        self.device.upload(made.address, values, LEGACY)
        return made

    def run(self, gemm: Gemm, a: Array, b: Array, c: Array, **words: int) -> Array:
        """The memory of C afterwards. ``a``, ``b`` and ``c`` are the memory of the operands."""
        kept = {"a": self.put(a), "b": self.put(b), "c": self.put(c)}
        given: dict[str, Any] = dict.fromkeys(VALUES, 0) | {"outer": 1, "inner": 1} | words
        given |= {name: Span(m.address, m.nbytes) for name, m in kept.items()}
        values = [given[name] for name in VALUES]
        self.library.multiply(
            gemm, self.device.clear, [*values, Span(self.workspace.address, self.workspace.nbytes)], 1
        )
        out = np.empty_like(c)
        self.device.download(out, kept["c"].address, LEGACY)
        return out

    def named(self, *names: str) -> list[Any]:
        """What was called of these, without their arguments but the last."""
        return [call for call in self.bindings.calls if call[0] in names]


# -- by itself ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("accumulates", [False, True])
def test_transposes_leading_dimensions_and_offsets(dtype: str, accumulates: bool) -> None:
    rng = np.random.default_rng(0)
    bench = Bench()
    shapes = [(5, 6, 7), (1, 9, 2), (4, 1, 3), (3, 2, 1), (1, 1, 1)]
    for (m, n, k), trans_a, trans_b in itertools.product(shapes, (False, True), (False, True)):
        a, b = rng.normal(size=(m, k)).astype(dtype), rng.normal(size=(k, n)).astype(dtype)
        # Operands lie inside of larger memory, with rows further apart than they are long.
        stored = []
        for x, transposed in ((a, trans_a), (b, trans_b)):
            x = x.T if transposed else x
            wide = np.full((x.shape[0], x.shape[1] + 3), np.nan, dtype)
            wide[:, : x.shape[1]] = x
            stored.append(np.concatenate([np.full(2, np.nan, dtype), wide.ravel()]))
        c = rng.normal(size=(m, n + 1)).astype(dtype) if accumulates else np.full((m, n + 1), np.nan, dtype)
        got = bench.run(
            Gemm(dtype, trans_a, trans_b, accumulates), stored[0], stored[1], c, m=m, n=n, k=k, a_offset=2, b_offset=2,
            lda=(m if trans_a else k) + 3, ldb=(k if trans_b else n) + 3, ldc=n + 1,
        )  # fmt: skip
        want = a @ b + (c[:, :n] if accumulates else 0)
        np.testing.assert_allclose(got[:, :n], want, rtol=1e-5 if dtype == "float32" else 1e-12)
        np.testing.assert_array_equal(got[:, n], c[:, n])  # what is not of C is left
    letter = {"float32": "s", "float64": "d"}[dtype]
    assert {c[0] for c in bench.bindings.calls if "gemm" in c[0]} == {f"{letter}gemm_64"}


def test_sizes_of_one_need_no_leading_dimension() -> None:
    """The plan's is then what strides of one row happen to be: 1, for one."""
    bench = Bench()
    a, b = np.arange(3.0), np.arange(12.0).reshape(3, 4)
    got = bench.run(Gemm("float64", False, False, False), a, b, np.zeros(4), m=1, n=4, k=3, lda=1, ldb=4, ldc=1)
    np.testing.assert_array_equal(got, a @ b)
    column = np.arange(3.0)
    got = bench.run(Gemm("float64", False, True, False), b.T.copy(), column, np.zeros(4), m=4, n=1, k=3, lda=3, ldb=1,
                    ldc=1)  # fmt: skip
    np.testing.assert_array_equal(got, b.T @ column)


@pytest.mark.parametrize("layout", ["even", "outer shared", "inner shared", "backward", "uneven", "one each"])
def test_batches(layout: str) -> None:
    """Two axes are one where steps are even; otherwise the shorter is gone through by calls."""
    bench = Bench()
    rng = np.random.default_rng(0)
    outer, inner = (1, 1) if layout == "one each" else (2, 3)
    m, n, k = 2, 4, 3
    a, b = rng.normal(size=(2, 3, m, k)), rng.normal(size=(2, 3, k, n))
    item = (m * k, k * n, m * n)
    steps = {w: [s * times for s in item] for w, times in (("outer", 3), ("inner", 1))}
    first, then = a[:outer, :inner], b[:outer, :inner]
    offset = 0
    if layout == "outer shared":
        steps["outer"][0], first = 0, a[:1]
    if layout == "inner shared":
        steps["inner"][1], then = 0, b[:, :1]
    if layout == "backward":
        steps["inner"][0], offset, first = -item[0], 2 * item[0], a[:, ::-1]
    if layout == "uneven":
        steps["outer"][0], steps["inner"][0], first = item[0], 2 * item[0], a.reshape(6, m, k)[[[0, 2, 4], [1, 3, 5]]]
    words = {f"{v}_{w}": steps[w][j] for w in steps for j, v in enumerate("abc")}
    got = bench.run(
        Gemm("float64", False, False, False), a, b, np.full((outer, inner, m, n), np.nan), m=m, n=n, k=k, lda=k, ldb=n,
        ldc=n, outer=outer, inner=inner, a_offset=offset, **words,
    )  # fmt: skip
    np.testing.assert_allclose(got, first @ then, rtol=1e-13)
    one, many = bench.named("dgemm_64"), bench.named("dgemm_strided_batched_64")
    assert (len(one), [c[-1] for c in many]) == {
        "even": (0, [6]),
        "outer shared": (0, [3, 3]),
        "inner shared": (0, [3, 3]),
        "backward": (6, []),
        "uneven": (0, [3, 3]),
        "one each": (1, []),
    }[layout]


def test_axes_of_a_batch() -> None:
    none = Axis(1, 0, 0, 0)
    assert batches(none, Axis(5, 1, 2, 3)) == ([(0, 0, 0)], Axis(5, 1, 2, 3))
    assert batches(Axis(5, 1, 2, 3), none) == ([(0, 0, 0)], Axis(5, 1, 2, 3))
    assert batches(Axis(5, 7, 0, 3), Axis(2, 1, 1, 1)) == ([(0, 0, 0), (1, 1, 1)], Axis(5, 7, 0, 3))
    assert batches(Axis(4, 6, 0, 12), Axis(2, 3, 0, 6)) == ([(0, 0, 0)], Axis(8, 3, 0, 6))


@pytest.mark.parametrize("accumulates", [False, True])
def test_sizes_of_zero(accumulates: bool) -> None:
    """No elements of C: nothing. No terms: zeros, or what is there."""
    bench = Bench()
    empty, c = np.empty(0), np.arange(6.0) + 1
    sums = Gemm("float64", False, False, accumulates)
    for words in ({"m": 0, "n": 3, "k": 2}, {"m": 2, "n": 0, "k": 2}, {"m": 2, "n": 3, "k": 4, "inner": 0}):
        np.testing.assert_array_equal(bench.run(sums, empty, empty, c, **words), c)
    got = bench.run(sums, empty, empty, c, m=2, n=3, k=0, lda=0, ldb=3, ldc=3)
    np.testing.assert_array_equal(got, c if accumulates else np.zeros(6))
    assert not bench.named("set_stream", "dgemm_64")


def test_a_handle_is_set_up_once_and_each_call_sets_stream_and_workspace() -> None:
    bench = Bench()
    assert [c[0] for c in bench.bindings.calls] == ["create", "set_pointer_mode", "set_math_mode"]
    assert bench.library.version == "13.1.0"
    assert (bench.library.workspace, Library(on(bench.device), (8, 9)).workspace) == (32 * 2**20, 4 * 2**20)
    a = np.eye(2)
    for _ in range(2):
        bench.run(Gemm("float64", False, False, False), a, a, a, m=2, n=2, k=2, lda=2, ldb=2, ldc=2)
    assert [c[0] for c in bench.bindings.calls[3:]] == ["set_stream", "set_workspace", "dgemm_64"] * 2
    assert bench.bindings.calls[4][1:] == (bench.workspace.address, 32 * 2**20)


def test_what_cublas_refuses_is_said() -> None:
    bench = Bench()
    a = np.eye(2)
    bench.bindings.fails = "dgemm_64"
    with pytest.raises(DeviceError, match=r"^cuBLAS: NOT_SUPPORTED \(15\).*   here$"):
        bench.run(Gemm("float64", False, False, False, "here"), a, a, a, m=2, n=2, k=2, lda=2, ldb=2, ldc=2)
    bench.bindings.fails = ""
    with pytest.raises(DeviceError, match=r"INVALID_VALUE \(7\)"):
        bench.run(Gemm("float64", False, False, False), a, a, a, m=2, n=2, k=2, lda=1, ldb=2, ldc=2)
    bench.bindings.fails = "create"
    with pytest.raises(DeviceError, match=r"cuBLAS does not start: NOT_INITIALIZED.*; blas='tiles' does without it"):
        Library(bench.bindings, (9, 0))
