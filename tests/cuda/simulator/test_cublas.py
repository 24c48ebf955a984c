"""Products by cuBLAS: by themselves, and as steps of programs.

On the simulator, over a fake of nvmath-python's bindings; on hardware, over the real ones, where they are installed.
"""

from __future__ import annotations

import ctypes
import itertools
import pickle
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.linalg import cython_blas

import symgraph as sg
from symgraph.emit.numba_cuda import simulated
from symgraph.errors import DeviceError, FormatError, MissingDeviceError
from symgraph.loop.ir import Param
from symgraph.runtime import blas, cublas
from symgraph.runtime import device as devices
from symgraph.runtime.arrays import LEGACY, Memory, Span
from symgraph.runtime.cublas import VALUES, Axis, Gemm, Library, batches
from symgraph.runtime.driver import CubinCache, HardwareDevice
from symgraph.runtime.simulated import SimulatedDevice
from symgraph.testing import random_program
from tests.backend.table import cases, compare, compare_symbolic, gradients
from tests.cuda.simulator.fake_cublas import FakeCublas

if simulated():
    from tests.cuda.simulator.fake_driver import FakeDriver

Array = NDArray[Any]


def on(device: SimulatedDevice) -> FakeCublas:
    """The bindings for a device."""

    def where(address: int) -> tuple[int, int]:
        for start, raw in list(device.blocks.items()):  # the collector may give blocks back meanwhile
            end = int(raw.ctypes.data) + raw.size
            if start <= address < end:
                return start, end
        raise AssertionError(f"address {address} is not allocated")

    return FakeCublas(lambda stream, work: device.start(work), where)


class Recorded:
    """The real bindings. ``calls`` are as the fake's."""

    def __init__(self) -> None:
        real, why = cublas._found()
        if why:
            pytest.skip(why)
        self.real = real
        self.calls: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.real, name)
        if not name.islower() or name == "get_property":
            return found

        def call(*args: Any) -> Any:
            shown = args[1:]
            if "gemm" in name:
                shown = args[1:6] + args[17:]  # and how many there are in a batch
            self.calls.append((name, *shown))
            return found(*args)

        return call


Bindings = FakeCublas | Recorded
only_simulated = pytest.mark.skipif(not simulated(), reason="of the fake")


class Bench:
    """A device, the library on it, and its workspace."""

    def __init__(self) -> None:
        self.device: Any
        self.bindings: Any
        if simulated():
            self.device = SimulatedDevice()
            self.bindings = on(self.device)
        else:
            self.device = devices.the_device()
            self.bindings = Recorded()
        with self.device.current():
            self.library = Library(self.bindings, (9, 0))
            self.workspace = Memory(self.device, self.library.workspace, LEGACY)

    def put(self, values: Array) -> Memory:
        made = Memory(self.device, values.nbytes, LEGACY)
        if values.nbytes:
            self.device.upload(made.address, values, LEGACY)
        return made

    def run(self, gemm: Gemm, a: Array, b: Array, c: Array, **words: int) -> Array:
        """The memory of C afterwards. ``a``, ``b`` and ``c`` are the memory of the operands."""
        with self.device.current():
            kept = {"a": self.put(a), "b": self.put(b), "c": self.put(c)}
            given: dict[str, Any] = dict.fromkeys(VALUES, 0) | {"outer": 1, "inner": 1} | words
            given |= {name: Span(m.address, m.nbytes) for name, m in kept.items()}
            values = [*(given[name] for name in VALUES), Span(self.workspace.address, self.workspace.nbytes)]
            self.library.multiply(gemm, self.device.clear, values, LEGACY)
            out = np.empty_like(c)
            self.device.download(out, kept["c"].address, LEGACY)
            self.device.synchronize(LEGACY)
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
    assert re.fullmatch(r"\d+\.\d+\.\d+", bench.library.version)
    with bench.device.current():
        assert (bench.library.workspace, Library(bench.bindings, (8, 9)).workspace) == (32 * 2**20, 4 * 2**20)
    bench = Bench()
    a = np.eye(2)
    for _ in range(2):
        bench.run(Gemm("float64", False, False, False), a, a, a, m=2, n=2, k=2, lda=2, ldb=2, ldc=2)
    assert [c[0] for c in bench.bindings.calls[3:]] == ["set_stream", "set_workspace", "dgemm_64"] * 2
    assert bench.bindings.calls[4][1:] == (bench.workspace.address, 32 * 2**20)


@only_simulated
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


@only_simulated
def test_the_fake_is_blas() -> None:
    """cuBLAS's ``gemm`` is BLAS's, by its reference: the same arguments give what SciPy's gives."""
    capsule = cython_blas.__pyx_capi__["dgemm"]
    python = ctypes.pythonapi
    python.PyCapsule_GetName.restype, python.PyCapsule_GetName.argtypes = ctypes.c_char_p, [ctypes.py_object]
    python.PyCapsule_GetPointer.restype = ctypes.c_void_p
    python.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    pointer = python.PyCapsule_GetPointer(capsule, python.PyCapsule_GetName(capsule))
    dgemm = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 13)(pointer)
    fake = FakeCublas(lambda stream, work: work(), lambda address: (0, 2**62))
    handle = fake.create()
    fake.set_stream(handle, LEGACY)
    memory = np.zeros(2**22 + 32)
    fake.set_workspace(handle, int(memory.ctypes.data) + -memory.ctypes.data % 256, 4 * 2**20)
    rng = np.random.default_rng(0)
    for ta, tb, beta in itertools.product((0, 1), (0, 1), (0.0, 1.0, 0.5)):
        m, n, k, lda, ldb, ldc = 4, 5, 3, 7, 6, 8
        a, b, c = (rng.normal(size=64) for _ in range(3))
        want, scalars = c.copy(), np.array([2.0, beta])
        alpha, of_beta = int(scalars.ctypes.data), int(scalars.ctypes.data) + 8
        sizes = np.array([m, n, k, lda, ldb, ldc], np.int32)
        pm, pn, pk, pa, pb, pc = (int(sizes.ctypes.data) + 4 * i for i in range(6))
        flags = [ctypes.c_char(b"T" if t else b"N") for t in (ta, tb)]
        dgemm(*map(ctypes.addressof, flags), pm, pn, pk, alpha, a.ctypes.data, pa, b.ctypes.data, pb, of_beta,
              want.ctypes.data, pc)  # fmt: skip
        at = [int(x.ctypes.data) for x in (a, b, c)]
        fake.dgemm_64(handle, ta, tb, m, n, k, alpha, at[0], lda, at[1], ldb, of_beta, at[2], ldc)
        np.testing.assert_allclose(c, want, rtol=1e-13)


# -- as steps of programs ----------------------------------------------------------------------------------------------


@pytest.fixture(params=["simulator", "driver"])
def bindings(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """cuBLAS, as if it was installed: on the simulator's device, or on the real one's code over a fake driver."""
    device: Any
    made: Bindings
    if not simulated():
        if request.param == "simulator":
            pytest.skip("on hardware")
        device, made = devices.the_device(), Recorded()
        monkeypatch.setattr(cublas, "_libraries", {})  # a handle that is made now
    elif request.param == "driver":
        fake = FakeDriver()

        def code(self: CubinCache, source: str, name: str, params: tuple[Param, ...]) -> bytes:
            fake.sources[name] = (source, params)
            return name.encode()

        monkeypatch.setattr("cuda.bindings.driver", fake)
        monkeypatch.setattr(CubinCache, "code", code)
        monkeypatch.setattr(HardwareDevice, "limits", lambda self, kernel: SimulatedDevice().limits(kernel))
        device = HardwareDevice(0)
        made = FakeCublas(fake.put, fake.block)
    else:
        device = SimulatedDevice()
        made = on(device)
    monkeypatch.setattr(devices, "the_device", lambda: device)
    monkeypatch.setattr(cublas, "_found", lambda: (made, ""))
    monkeypatch.setattr(cublas, "missing", lambda: "")
    return made


def steps(fn: sg.Function) -> list[str]:
    return [s.name for s in fn.program.steps if s.gemm is not None]


def test_views_batches_and_sums_of_products(bindings: Any) -> None:
    """Transposes, slices and batches are read where they lie; sums of products have one buffer."""
    x, W = sg.matrix("x", shape=("n", "m")), sg.matrix("W", shape=("m", "k"))
    S = sg.tensor("S", dtype="float32", shape=(3, "n", "m"))
    T = sg.tensor("T", dtype="float32", shape=(3, "k", "m"))
    U = sg.tensor("U", shape=(2, 3, "n", "m"))
    outputs = [sg.tanh(x @ W), W.T @ x.T, x @ W[:, 1:], S @ sg.transpose(T, (0, 2, 1)), x.T @ sg.tanh(x)]
    outputs += [U @ W, sg.transpose(U, (1, 0, 2, 3)) @ W, U[:, ::-1] @ W, W.T @ x[0], sg.ravel(x) @ sg.ravel(x)]
    h = sg.tanh(x @ W)
    outputs.append(sg.grad(sg.sum(h @ sg.transpose(h, (1, 0))) + sg.sum(x @ W @ W.T), W))
    inputs = [x, W, S, T, U]
    fn = sg.function(inputs, outputs, target="cuda", blas="cublas")
    want = sg.function(inputs, outputs, target="numpy")
    assert len(steps(fn)) >= 11
    assert not any(s.name.startswith("matmul") for s in fn.program.steps)
    rng = np.random.default_rng(0)
    for n, m, k in ((5, 3, 6), (1, 4, 2), (4, 0, 3), (2, 1, 1)):
        arrays = [rng.normal(size=s) for s in ((n, m), (m, k))]
        arrays += [rng.normal(size=s).astype("float32") for s in ((3, n, m), (3, k, m))]
        arrays.append(rng.normal(size=(2, 3, n, m)))
        for _ in range(3):  # launched, captured, replayed
            for g, w in zip(fn(*arrays), want(*arrays), strict=True):
                np.testing.assert_allclose(g, w, rtol=1e-5, atol=1e-5 if g.dtype == "float32" else 1e-12)
    assert {"sgemm_strided_batched_64", "dgemm_strided_batched_64", "dgemm_64"} <= {c[0] for c in bindings.calls}


def network() -> tuple[list[sg.Variable], list[sg.Variable]]:
    x, t = sg.matrix("x", shape=("n", 5)), sg.matrix("t", shape=("n", 3))
    W, b, V = sg.matrix("W", shape=(5, 4)), sg.vector("b", shape=4), sg.matrix("V", shape=(4, 3))
    loss = sg.mean((sg.tanh(x @ W + b) @ V - t) ** 2)
    return [x, t, W, b, V], [loss, *sg.grad(loss, [W, b, V])]


def test_a_network_and_its_gradient_are_captured_with_their_workspace(bindings: Any) -> None:
    inputs, outputs = network()
    fn = sg.function(inputs, outputs, target="cuda", blas="cublas")
    want = sg.function(inputs, outputs, target="numpy")
    rng = np.random.default_rng(0)
    for call in range(4):
        arrays = [rng.normal(size=s) for s in ((6, 5), (6, 3), (5, 4), (4,), (4, 3))]
        for g, w in zip(fn(*arrays), want(*arrays), strict=True):
            np.testing.assert_allclose(g, w, rtol=1e-10)
        assert len([c for c in bindings.calls if "gemm" in c[0]]) == len(steps(fn)) * min(call + 1, 2)
    assert {c[1] for c in bindings.calls if c[0] == "set_workspace"} == {fn._executable._kept["workspace"].address}
    plan = fn.program.last_plan
    assert plan is not None
    assert f"; cuBLAS works in {plan.workspace} bytes" in str(fn.program)
    fn.free()
    np.testing.assert_allclose(fn(*arrays)[0], want(*arrays)[0], rtol=1e-10)


def test_programs_share_a_handle_and_no_workspace(bindings: Any) -> None:
    a = sg.matrix("a", shape=("n", "n"))
    fns = [sg.function([a], y, target="cuda", blas="cublas") for y in (a @ a, a.T @ a)]
    faked = simulated() and isinstance(devices.the_device(), HardwareDevice)
    threads = 1 if faked else 4  # the fake driver has no lock
    with ThreadPoolExecutor(threads) as pool:
        values = [np.random.default_rng(k).normal(size=(4 + k % 2, 4 + k % 2)) for k in range(24)]
        got = list(pool.map(lambda k: fns[k % 2](values[k]), range(24)))
    for k, v in enumerate(values):
        np.testing.assert_allclose(got[k], (v.T if k % 2 else v) @ v, rtol=1e-12, atol=1e-12)
    assert [c[0] for c in bindings.calls].count("create") == 1
    assert len({c[1] for c in bindings.calls if c[0] == "set_workspace"}) == 2


def test_other_streams(bindings: Any) -> None:
    a = sg.matrix("a", shape=(3, 3))
    fn = sg.function([a], a @ a, target="cuda", blas="cublas", graphs=False)
    device: Any = devices.the_device()
    stream = 7
    if isinstance(device, HardwareDevice):
        d = device._driver
        stream = d.new_stream() if simulated() else int(device._check(d.cuStreamCreate(1)))
    value = np.arange(9.0).reshape(3, 3)
    np.testing.assert_allclose(fn(value), value @ value)
    np.testing.assert_allclose(fn.on(stream)(value), value @ value)
    assert [c[1] for c in bindings.calls if c[0] == "set_stream"] == [LEGACY, stream]


@only_simulated
def test_a_failure_names_the_line(bindings: Any) -> None:
    a = sg.matrix("a", shape=(3, 3))
    fn = sg.function([a], a @ a, target="cuda", blas="cublas")
    bindings.fails = "dgemm_64"
    with pytest.raises(DeviceError, match=r"cuBLAS: NOT_SUPPORTED .*test_cublas\.py"):
        fn(np.ones((3, 3)))


def test_the_table(bindings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry's cases of contractions, and their derivatives."""
    monkeypatch.setattr(blas, "worth_cublas", lambda call: True)
    compare(cases("contract"), target="cuda")
    compare_symbolic("contract", target="cuda")
    for order in (1, 2):
        compare(gradients("contract", order), target="cuda")
    assert any("gemm" in c[0] for c in bindings.calls)


@pytest.mark.parametrize("seed", range(6 if simulated() else 200))
def test_random_programs_and_their_gradients(bindings: Any, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setattr(blas, "worth_cublas", lambda call: True)
    program = random_program(np.random.default_rng(3000 + seed), dtypes=("float32", "float64"))
    outputs = [*program.outputs, *program.gradients()]
    fn = sg.function(program.inputs, outputs, target="cuda")
    with np.errstate(all="ignore"):
        wanted = sg.function(program.inputs, outputs, target="numpy")(*program.values)
    for got, want in zip(fn(*program.values), wanted, strict=True):
        rtol = 1e-4 if want.dtype == np.float32 else 1e-9
        np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol)


# -- who computes what -------------------------------------------------------------------------------------------------


def product(m: Any, n: Any, k: Any, batch: int | None = None, dtype: str = "float32", **options: Any) -> str:
    """The name of the step that a product becomes."""
    lead = () if batch is None else (batch,)
    a, b = sg.tensor("a", dtype=dtype, shape=(*lead, m, k)), sg.tensor("b", dtype=dtype, shape=(*lead, k, n))
    return sg.lower([a, b], a @ b, "cuda", **options).program.steps[0].name


def test_products_go_to_cublas_by_their_sizes(bindings: Any) -> None:
    assert product(1024, 1024, 1024) == product("m", "n", "k") == product("m", 256, 784) == "cublas_sgemm"
    assert product("m", "n", "k", dtype="float64") == "cublas_dgemm"
    assert product(64, 64, 100_000) == "cublas_sgemm"  # one tile would go through all of k
    assert product(16, "n", "k") == "cublas_sgemm"  # most of a tile would be empty
    for tiles in (
        product(64, 64, 64),  # shorter than a launch
        product("m", "n", 64),  # the pass after it takes longer than what is saved
        product("m", "n", 40, dtype="float64"),
        product(4, 4, 100, batch=64),
        product(1024, 1024, 1024, blas="tiles"),
    ):
        assert "cublas" not in tiles
    assert product("m", 1, "k") != "cublas_sgemm"
    assert product(2, 2, 2, blas="cublas") == "cublas_sgemm"
    assert product(0, "n", "k") != "cublas_sgemm"
    assert product("m", "n", "k", dtype="float16") != "cublas_sgemm"


def test_what_follows_is_part_of_tiles_only(bindings: Any) -> None:
    x, W = sg.matrix("x", shape=("n", 784)), sg.matrix("W", shape=(784, 256))
    by = {b: sg.lower([x, W], sg.tanh(x @ W), "cuda", blas=b) for b in ("cublas", "tiles", "auto")}
    assert [len(low.program.steps) for low in by.values()] == [2, 1, 2]
    assert "cublas_dgemm" in str(by["auto"])
    assert [k.name.startswith("matmul") for k in by["tiles"].kernels] == [True]
    assert by["cublas"].cost.at(n=10).flops == by["tiles"].cost.at(n=10).flops


@only_simulated
def test_without_cublas(monkeypatch: pytest.MonkeyPatch) -> None:
    """``"auto"`` does without; who asks for it is told what to install, but for ``sg.lower``, which runs nothing."""
    a = sg.matrix("a", shape=("n", "n"))
    monkeypatch.setattr(cublas, "missing", lambda: cublas._found()[1])
    for why in ("nvmath-python is not installed: pip install 'symgraph-compiler[cublas]'", cublas.missing()):
        monkeypatch.setattr(cublas, "_found", lambda why=why: (None, why))
        assert sg.function([a], a @ a, target="cuda").program.steps[0].gemm is None
        with pytest.raises(MissingDeviceError, match="^blas='cublas': " + re.escape(why) + "; blas='tiles' computes"):
            sg.function([a], a @ a, target="cuda", blas="cublas")
        assert product("n", "n", "n", blas="cublas") == "cublas_sgemm"
    assert why == "Numba's simulator has no cuBLAS"


def test_the_option_is_checked() -> None:
    a = sg.matrix("a", shape=("n", "n"))
    for make in (sg.function, sg.lower):
        with pytest.raises(FormatError, match="blas: 'mkl' is not among 'auto', 'cublas', 'tiles'"):
            make([a], a @ a, target="cuda", blas="mkl")
        with pytest.raises(FormatError, match="blas='tiles': only target 'cuda' takes it, got target 'cpu'"):
            make([a], a @ a, blas="tiles")


def test_functions_are_pickled_with_their_choice(bindings: Any) -> None:
    a = sg.matrix("a", shape=("n", "n"))
    again = pickle.loads(pickle.dumps(sg.function([a], a @ a, target="cuda", blas="cublas")))
    assert steps(again) == ["cublas_dgemm"]
    np.testing.assert_array_equal(again(np.eye(3)), np.eye(3))
