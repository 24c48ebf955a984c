"""What happens around kernels, twice: on the simulator's device, and on the real one's code over a fake driver."""

from __future__ import annotations

import ctypes
import gc
import pickle
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from numpy.typing import NDArray

import symgraph as sg
from symgraph.emit.numba_cuda import simulated
from symgraph.errors import (
    DeviceError,
    DTypeError,
    FormatError,
    HostError,
    IndexRangeError,
    MissingInputError,
    RankError,
    SizeError,
)
from symgraph.loop.ir import Param
from symgraph.runtime import device as devices
from symgraph.runtime.arrays import LEGACY, PER_THREAD, DeviceArray, Memory, handle
from symgraph.runtime.driver import CubinCache, HardwareDevice
from symgraph.runtime.profile import roof
from symgraph.runtime.simulated import SimulatedDevice
from symgraph.testing import random_program

if simulated():
    from tests.cuda.simulator.fake_driver import FakeDriver

Array = NDArray[Any]
njit: Any = numba.njit


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDriver]:
    if not simulated():
        pytest.skip("the real driver is there")
    made = FakeDriver()

    def code(self: CubinCache, source: str, name: str, params: tuple[Param, ...]) -> bytes:
        made.sources[name] = (source, params)
        return name.encode()

    monkeypatch.setattr("cuda.bindings.driver", made)
    monkeypatch.setattr(CubinCache, "code", code)
    # In the simulator a block is one group.
    monkeypatch.setattr(HardwareDevice, "limits", lambda self, kernel: SimulatedDevice().limits(kernel))
    yield made
    assert made.depth == 0  # whoever made the GPU current left it as it was


@pytest.fixture(params=["simulator", "driver"])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The device that functions run on."""
    if not simulated():
        if request.param == "simulator":
            pytest.skip("on hardware")
        return devices.the_device()
    if request.param == "driver":
        request.getfixturevalue("fake")
        made: Any = HardwareDevice(0)
    else:
        made = SimulatedDevice()
    monkeypatch.setattr(devices, "the_device", lambda: made)
    return made


class Lent:
    """An array of another library: what ``protocol`` says of memory that it has on the device."""

    def __init__(self, device: Any, values: Array, protocol: str, stream: int | None = LEGACY) -> None:
        base = values if values.base is None else np.asarray(values.base)
        with device.current():
            self.address = device.allocate(max(base.nbytes, 1), LEGACY)
            device.upload(self.address, np.ascontiguousarray(base), LEGACY)
            device.synchronize(LEGACY)
        first = values.__array_interface__["data"][0] - base.__array_interface__["data"][0]
        self.asked: list[Any] = []
        self.number = device.number
        entry = {
            "shape": values.shape,
            "typestr": values.dtype.str,
            "data": (self.address + first, False),
            "strides": values.strides,
            "version": 3,
            "stream": stream,
        }
        if protocol == "cuda array interface":
            self.__cuda_array_interface__ = entry
        else:
            self.values, self.first = values, first
            self.__dlpack_device__ = lambda: (2, self.number)
            self.__dlpack__ = self.export

    def export(self, *, stream: Any, max_version: Any = None) -> object:
        if type(stream) is not int:  # as PyTorch
            raise TypeError(stream)
        self.asked.append(stream)
        capsule = self.values.__dlpack__(max_version=max_version)
        from symgraph.runtime import dlpack

        taken = dlpack._pointer(id(capsule), dlpack._NAME_VERSIONED if max_version else dlpack._NAME)
        tensor = (dlpack._Versioned if max_version else dlpack._Managed).from_address(taken).tensor
        tensor.data, tensor.byte_offset = self.address, self.first
        return capsule


PROTOCOLS = pytest.mark.parametrize("protocol", ["cuda array interface", "dlpack"])


def scaled(**options: Any) -> tuple[sg.Function, sg.Function]:
    x = sg.matrix("x", shape=("n", "m"))
    y = x * 2.0 + sg.sum(x, axis=1, keepdims=True)
    return sg.function([x], y, target="cuda", **options), sg.function([x], y, target="numpy")


A = np.random.default_rng(0).normal(size=(6, 8))


def test_what_the_benchmarks_time(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No GPU is the current one of their process but inside of calls."""
    harness = pytest.importorskip("benchmarks.harness", reason="benchmarks are in the checkout only")
    from benchmarks.rows.gpu import JOBS, _symgraph

    monkeypatch.setattr(devices, "require", lambda target, **options: None)
    case = harness.Case("small", {"shape": (3, 5), "dtype": "float64"})
    work = _symgraph(JOBS["gpu-sum"], case)
    (values,) = JOBS["gpu-sum"].values(case)
    for _ in range(3):
        (got,) = work.values(work.call())
    np.testing.assert_allclose(got, np.sum(values))


# -- arrays in and out -------------------------------------------------------------------------------------------------


@PROTOCOLS
@pytest.mark.parametrize("layout", ["C", "transposed", "every other", "backwards", "offset"])
def test_arrays_of_other_libraries_are_taken_where_they_lie(device: Any, protocol: str, layout: str) -> None:
    base = A.copy()
    given = {"C": base, "transposed": base.T, "every other": base[::2, ::3], "backwards": base[::-1, ::-1],
             "offset": base[2:]}[layout]  # fmt: skip
    fn, reference = scaled()
    out = fn(Lent(device, given, protocol))
    assert isinstance(out, DeviceArray)
    np.testing.assert_allclose(out.numpy(), reference(given), rtol=1e-12, atol=1e-14)


def test_numpy_in_means_numpy_out_unless_it_is_said_otherwise(device: Any) -> None:
    fn, reference = scaled()
    assert type(fn(A)) is np.ndarray
    there = scaled(device_outputs=True)[0](A)
    assert isinstance(there, DeviceArray)
    assert (there.shape, there.dtype, there.ndim, there.size, len(there)) == ((6, 8), np.dtype(float), 2, 48, 6)
    assert "float64[6, 8]" in repr(there)
    assert type(scaled(device_outputs=False)[0](there)) is np.ndarray
    np.testing.assert_allclose(np.asarray(fn(there)), reference(reference(A)), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(fn(A.T[:, ::-1].astype(">f8")), reference(A.T[:, ::-1]), rtol=1e-12, atol=1e-14)


def test_results_are_handed_on_by_both_protocols(device: Any) -> None:
    fn, reference = scaled(device_outputs=True)
    out = fn(A)
    entry = out.__cuda_array_interface__
    assert (entry["version"], entry["stream"], entry["strides"], entry["shape"]) == (3, LEGACY, None, (6, 8))
    assert entry["data"] == (out.memory.address, False)
    assert out.__dlpack_device__() == device.dlpack
    with pytest.raises(BufferError, match="shares memory"):
        out.__dlpack__(copy=True)
    if isinstance(device, SimulatedDevice):
        shared = np.from_dlpack(out)
        assert shared.ctypes.data == out.memory.address
        address = out.memory.address
        del out
        gc.collect()
        assert address in device.blocks  # the view still has it
        np.testing.assert_allclose(shared, reference(A), rtol=1e-12, atol=1e-14)
        del shared
        gc.collect()
        assert address not in device.blocks


def test_a_capsule_that_nobody_takes_gives_the_memory_back(device: Any) -> None:
    from symgraph.runtime.dlpack import _given

    out = scaled(device_outputs=True)[0](A)
    before = len(_given)
    capsule = out.__dlpack__()
    assert len(_given) == before + 1
    del capsule
    assert len(_given) == before


@PROTOCOLS
def test_what_does_not_fit_is_refused(device: Any, protocol: str) -> None:
    fn, _ = scaled()
    with pytest.raises(DTypeError, match=r"x: wanted float64\[n, m\], got dtype float32: arrays on a device are not"):
        fn(Lent(device, A.astype("f4"), protocol))
    with pytest.raises(RankError, match=r"x: wanted float64\[n, m\], got an array of shape \[8\]"):
        fn(Lent(device, A[0].copy(), protocol))
    if protocol == "dlpack":
        elsewhere = Lent(device, A, protocol)
        elsewhere.number = 3
        with pytest.raises(FormatError, match="x: wanted an array on GPU 0, got one on GPU 3"):
            fn(elsewhere)
    with pytest.raises(MissingInputError, match="no value for x"):
        fn()


def test_a_tensor_that_its_library_keeps(device: Any) -> None:
    class Tensor:
        def __dlpack_device__(self) -> tuple[int, int]:
            return 2, 0

        def __dlpack__(self, **options: Any) -> object:
            raise BufferError("it needs a gradient")

    with pytest.raises(FormatError, match="x: Tensor does not hand out its memory: it needs a gradient"):
        scaled()[0](Tensor())


def test_sizes_of_zero_and_many_sizes(device: Any) -> None:
    fn, reference = scaled()
    for shape in [(0, 8), (3, 0), (1, 1), (5, 40), (2, 3), (5, 40)]:
        a = np.random.default_rng(1).normal(size=shape)
        np.testing.assert_allclose(fn(a), reference(a), rtol=1e-13)
    assert len(fn._executable._sized) == 5
    x, y = sg.vector("x", shape="n"), sg.vector("y", shape="n")
    with pytest.raises(SizeError, match="n"):
        sg.function([x, y], x + y, target="cuda")(np.ones(3), np.ones(4))


# -- shared variables --------------------------------------------------------------------------------------------------


def test_shared_variables_stay_on_the_device_and_come_back(device: Any) -> None:
    w = sg.shared(np.zeros(3), name="w")
    x = sg.vector("x", shape=3)
    step = sg.function([x], sg.sum(w), updates={w: w + x}, target="cuda")
    here = sg.function([x], sg.sum(w), updates={w: w - x})
    read = sg.function([], w * 1.0, target="cuda")
    places = set()
    for k in range(6):
        assert step(np.ones(3)) == 3.0 * k
        assert isinstance(w._value, DeviceArray)
        places.add(w._value.memory.address)
    assert len(places) == 2  # two buffers take turns
    value = w.get_value()
    np.testing.assert_array_equal(value, np.full(3, 6.0))
    value[:] = 0  # a copy
    assert here(np.ones(3)) == 18.0
    assert type(w._value) is np.ndarray
    np.testing.assert_array_equal(read(), np.full(3, 5.0))
    w.set_value([1.0, 2.0, 3.0])
    assert step(np.ones(3)) == 6.0
    again = pickle.loads(pickle.dumps(step))
    assert again(np.ones(3)) == 9.0
    np.testing.assert_array_equal(w.get_value(), [2.0, 3.0, 4.0])


def test_a_call_that_fails_changes_nothing(device: Any) -> None:
    w, steps = sg.shared(np.arange(4.0), name="w"), sg.shared(0, name="steps")
    i = sg.vector("i", dtype="int64", shape="k")
    fn = sg.function([i], sg.sum(w[i]), updates={w: w + sg.sum(w[i]), steps: steps + 1}, target="cuda")
    assert fn(np.array([1, 2])) == 3.0
    for _ in range(3):  # with and without a graph
        with pytest.raises(IndexRangeError, match=r"gather: an index is out of range: .*test_runtime.py"):
            fn(np.array([1, 9]))
        np.testing.assert_array_equal(w.get_value(), np.arange(4.0) + 3.0)
        assert steps.get_value() == 1
    assert fn(np.array([0, 0])) == 6.0


def test_updates_see_the_values_before(device: Any) -> None:
    a, b = sg.shared(np.array([1.0]), name="a"), sg.shared(np.array([2.0]), name="b")
    swap = sg.function([], None, updates={a: b, b: a}, target="cuda")
    for _ in range(5):
        assert swap() is None
    assert (a.get_value()[0], b.get_value()[0]) == (2.0, 1.0)


def test_checked_modes(device: Any) -> None:
    x = sg.vector("x", shape=2)
    w = sg.shared(np.ones(2), name="w")
    fn = sg.function([x], sg.exp(x) * w, updates={w: w + x}, target="cuda", check=True)
    np.testing.assert_allclose(fn(np.ones(2)), np.exp(np.ones(2)))
    np.testing.assert_allclose(fn(np.ones(2)), 2 * np.exp(np.ones(2)))
    with pytest.raises(sg.errors.NonFiniteError, match="log"):
        sg.function([x], sg.log(x) * 2, target="cuda", check="nan")(np.array([1.0, -1.0]))


# -- host steps --------------------------------------------------------------------------------------------------------


@sg.custom_op
def norms_vjp(x: Array, ct: Array) -> Array:
    made: Array = x * (ct / np.sqrt(np.sum(x * x, axis=1)))[:, None]
    return made


@sg.custom_op(infer=lambda x: x.without((1,)), vjp=lambda x, out, ct: norms_vjp(x, ct))
def norms(x: Array) -> Array:
    """A NumPy function between kernels."""
    if not np.isfinite(x).all():
        raise ValueError("not finite")
    made: Array = np.sqrt(np.sum(x * x, axis=1))
    return made


halved = sg.custom_op(njit(lambda x: x / 2), name="halved", elementwise=True)


def test_host_steps_between_launches(device: Any) -> None:
    x = sg.matrix("x", shape=("n", "m"))
    y = norms(sg.exp(x)) * 2.0 + sg.sum(x, axis=1)
    outputs = [y, sg.grad(sg.sum(y * y), x), halved(x + 1.0)]
    fn, reference = (sg.function([x], outputs, target=target) for target in ("cuda", "numpy"))
    assert "3 host steps, for cuda" in str(fn.program)
    for k in range(4):  # launched, captured, replayed
        for a, b in zip(fn(A + k), reference(A + k), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)
    there = sg.to_device(A)
    for a, b in zip(fn(there), reference(A), strict=True):
        assert isinstance(a, DeviceArray)
        np.testing.assert_allclose(a.numpy(), b, rtol=1e-12)
    assert [p.host for p in parts(fn)].count(True) == 3
    assert captured(fn) > 0
    empty = np.empty((0, 4))
    for a, b in zip(fn(empty), reference(empty), strict=True):
        assert a.shape == b.shape


def test_a_host_step_that_fails(device: Any) -> None:
    w = sg.shared(np.ones(6), name="w")
    x = sg.matrix("x", shape=("n", "m"))
    fn = sg.function([x], norms(x * 2.0), updates={w: w + 1.0}, target="cuda")
    for _ in range(3):
        with pytest.raises(HostError, match=r"norms: ValueError: not finite.*test_runtime\.py"):
            fn(np.full((6, 8), np.nan))
    np.testing.assert_array_equal(w.get_value(), np.ones(6))
    fn(A)
    np.testing.assert_array_equal(w.get_value(), np.full(6, 2.0))


def test_a_host_step_does_not_see_what_a_wrong_index_left(device: Any) -> None:
    x = sg.matrix("x", shape=("n", "m"))
    i = sg.vector("i", dtype="int64", shape="k")
    seen: list[Array] = []

    @sg.custom_op
    def look(x: Array) -> Array:
        seen.append(x.copy())
        return x.copy()

    fn = sg.function([x, i], look(sg.take(x, i, axis=0)) * 2.0, target="cuda")
    np.testing.assert_array_equal(fn(A, [1, 2]), A[[1, 2]] * 2.0)
    for _ in range(3):
        with pytest.raises(IndexRangeError, match="gather: an index is out of range"):
            fn(A, [1, 99])
    assert len(seen) == 1


# -- graphs and streams ------------------------------------------------------------------------------------------------


def two_steps(**options: Any) -> sg.Function:
    x = sg.vector("x", shape="n")
    return sg.function([x], [sg.sum(x * x), x * 2.0], target="cuda", **options)


def parts(fn: sg.Function) -> list[Any]:
    return [p for sized in fn._executable._sized.values() for p in sized.parts]


def captured(fn: sg.Function) -> int:
    return sum(g is not None for p in parts(fn) for g in p.graphs.values())


def test_calls_are_captured_once_and_replayed(device: Any) -> None:
    fn, plain = two_steps(), two_steps(graphs=False)
    for k in range(5):
        x = np.arange(4.0) + k
        for f in (fn, plain):
            total, twice = f(x)
            assert total == np.sum(x * x)
            np.testing.assert_array_equal(twice, x * 2)
        assert captured(fn) == (k > 0)
    assert captured(plain) == 0
    fn(np.arange(7.0))
    fn(np.arange(4.0))
    assert captured(fn) == 1
    fn.free()
    assert captured(fn) == 0
    assert fn(np.arange(3.0))[0] == 5.0


def test_a_graph_belongs_to_its_addresses(device: Any) -> None:
    fn = two_steps(device_outputs=True)
    kept = []
    for k in range(12):
        x = np.arange(4.0) * k
        kept.append((x, fn(x)))  # results are kept: each call has new places
    assert len(parts(fn)[0].graphs) <= 8
    for x, (total, twice) in kept:
        assert float(total) == np.sum(x * x)
        np.testing.assert_array_equal(np.asarray(twice), x * 2)


def test_streams_are_ordered(device: Any) -> None:
    """Results of one stream are arguments on another; shared variables, too."""
    streams = [LEGACY, LEGACY, LEGACY]
    if isinstance(device, HardwareDevice):
        d: Any = device._driver
        streams[1:] = [d.new_stream(), d.new_stream()] if simulated() else [
            int(device._check(d.cuStreamCreate(1))) for _ in range(2)
        ]  # fmt: skip
    w = sg.shared(np.zeros(4), name="w")
    x = sg.vector("x", shape=4)
    add = sg.function([x], w + x, updates={w: w + x}, target="cuda", device_outputs=True)
    double = sg.function([x], x * 2.0, target="cuda", stream=streams[1])
    for k in range(9):
        on = streams[k % 3]
        out = double.on(streams[(k + 1) % 3])(add.on(on)(np.ones(4)))
        assert out.memory.stream == streams[(k + 1) % 3]
        np.testing.assert_array_equal(np.asarray(out), np.full(4, 2.0 * (k + 1)))
    np.testing.assert_array_equal(w.get_value(), np.full(4, 9.0))


def test_the_stream_of_an_argument_comes_first_and_may_go_on_after(fake: FakeDriver, monkeypatch: Any) -> None:
    made = HardwareDevice(0)
    monkeypatch.setattr(devices, "the_device", lambda: made)
    theirs = fake.new_stream()
    fn, reference = scaled()
    lent = Lent(made, A, "cuda array interface", theirs)
    late = A + 1.0
    fake.put(theirs, lambda: ctypes.memmove(lent.address, late.ctypes.data, late.nbytes) and None)
    fake.calls.clear()
    out = fn(lent)
    assert fake.calls.count("cuStreamWaitEvent") == 2  # we wait for them, then they for us
    np.testing.assert_allclose(out.numpy(), reference(late), rtol=1e-12, atol=1e-14)
    asked = Lent(made, A, "dlpack")
    fn.on(theirs)(asked)
    assert asked.asked == [theirs]
    consumer = fake.new_stream()
    fake.calls.clear()
    capsule = out.__dlpack__(stream=consumer)
    assert fake.calls.count("cuStreamWaitEvent") == 1
    del capsule
    assert "cuCtxSynchronize" in fake.calls


def test_strided_arguments_are_given_back_to_their_stream(fake: FakeDriver, monkeypatch: Any) -> None:
    made = HardwareDevice(0)
    monkeypatch.setattr(devices, "the_device", lambda: made)
    fn, reference = scaled()
    fake.calls.clear()
    out = fn(Lent(made, A.T, "cuda array interface", fake.new_stream()))
    assert fake.calls.count("cuStreamWaitEvent") == 2
    np.testing.assert_allclose(out.numpy(), reference(A.T), rtol=1e-12, atol=1e-14)


@PROTOCOLS
def test_what_others_lend_is_held_until_the_work_is_done(fake: FakeDriver, monkeypatch: Any, protocol: str) -> None:
    made = HardwareDevice(0)
    monkeypatch.setattr(devices, "the_device", lambda: made)
    fn, reference = scaled()
    values = A.copy()
    lent = Lent(made, values, protocol, None)
    known = weakref.ref(values if protocol == "dlpack" else lent)
    out = fn(lent)
    del lent, values
    gc.collect()
    assert known() is not None
    np.testing.assert_allclose(out.numpy(), reference(A), rtol=1e-12, atol=1e-14)
    gc.collect()
    assert known() is None


def test_pinned_memory_may_change_after_the_call(fake: FakeDriver, monkeypatch: Any) -> None:
    made = HardwareDevice(0)
    monkeypatch.setattr(devices, "the_device", lambda: made)
    fn, reference = scaled(device_outputs=True)
    x = A.copy()
    fake.pinned.add(x.ctypes.data)
    out = fn(x)
    x[:] = 7.0
    np.testing.assert_allclose(out.numpy(), reference(A), rtol=1e-12, atol=1e-14)


def test_streams_live_as_long_as_memory_that_is_given_back_on_them(fake: FakeDriver, monkeypatch: Any) -> None:
    made = HardwareDevice(0)
    monkeypatch.setattr(devices, "the_device", lambda: made)

    class Owner:
        def __init__(self) -> None:
            self.ptr = fake.new_stream()

    fn, reference = scaled(device_outputs=True)
    first = Owner()
    known = weakref.ref(first)
    out = fn.on(first)(A)
    del first
    gc.collect()
    assert known() is not None
    assert type(out.__cuda_array_interface__["stream"]) is int
    np.testing.assert_allclose(fn.on(Owner())(out).numpy(), reference(reference(A)), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(fn.on(Owner())(Lent(made, A, "dlpack")).numpy(), reference(A), rtol=1e-12, atol=1e-14)
    fn.free()
    gc.collect()
    assert known() is None  # its results have gone on to another stream


def test_memory_that_another_thread_took_along_waits_for_this_call(fake: FakeDriver, monkeypatch: Any) -> None:
    made = HardwareDevice(0)
    monkeypatch.setattr(devices, "the_device", lambda: made)
    fn, reference = scaled(device_outputs=True)
    given = [sg.to_device(A)]
    mine, theirs = fake.new_stream(), fake.new_stream()
    executable: Any = fn._executable
    run = executable._run

    def slowly(*args: Any) -> None:
        given[0].memory.use(theirs)  # a call in another thread, in between
        run(*args)

    monkeypatch.setattr(executable, "_run", slowly)
    out = fn.on(mine)(given[0])
    given.clear()
    gc.collect()
    fake.run(theirs)  # where the argument is given back
    assert not fake.queues[mine]
    np.testing.assert_allclose(out.numpy(), reference(A), rtol=1e-12, atol=1e-14)


def test_the_default_stream_of_another_thread_is_waited_for_by_the_legacy_one(fake: FakeDriver) -> None:
    made = HardwareDevice(0)
    with made.current():
        memory = Memory(made, 8, PER_THREAD)
        fake.calls.clear()
        memory.use(PER_THREAD)
    assert (memory.stream, fake.calls) == (PER_THREAD, ["cuCtxPopCurrent"])
    seen: list[int] = []

    def elsewhere() -> None:
        seen.append(memory.stream)
        with made.current():
            memory.use(PER_THREAD)
        seen.append(memory.stream)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [LEGACY, PER_THREAD]
    assert fake.calls.count("cuStreamWaitEvent") == 1
    assert memory.stream == LEGACY


def test_a_spoilt_capture_is_no_error(fake: FakeDriver, monkeypatch: Any) -> None:
    """As another library does that waits for the whole device meanwhile."""
    made = HardwareDevice(0)
    monkeypatch.setattr(devices, "the_device", lambda: made)
    fn = two_steps()
    x = np.arange(4.0)
    fake.fails["cuStreamEndCapture"] = fake.CUresult.CUDA_ERROR_STREAM_CAPTURE_INVALIDATED
    for _ in range(3):
        assert fn(x)[0] == 14.0
        fake.capturing.clear()
    assert captured(fn) == 0
    fake.fails.clear()
    assert fn(x)[0] == 14.0
    assert captured(fn) == 1


def test_nobody_waits_for_the_device_while_there_is_a_capture(fake: FakeDriver) -> None:
    made = HardwareDevice(0)

    def wait() -> None:
        with made.current():
            made.synchronize(None)

    waiter = threading.Thread(target=wait)
    collects: list[bool] = []

    def record(stream: int) -> None:
        collects.append(gc.isenabled())
        waiter.start()
        waiter.join(0.1)
        assert "cuCtxSynchronize" not in fake.calls

    with made.current():
        made.capture(record)
    waiter.join()
    assert "cuCtxSynchronize" in fake.calls
    assert (collects, gc.isenabled()) == ([False], True)


def test_an_array_may_go_while_the_device_is_waited_for(fake: FakeDriver, monkeypatch: Any) -> None:
    made = HardwareDevice(0)
    waits = iter(range(2))

    def wait() -> None:
        if next(waits) == 0:
            made.synchronize(None)

    monkeypatch.setattr(fake, "_cuCtxSynchronize", wait, raising=False)
    with made.current():
        thread = threading.Thread(target=made.synchronize, args=(None,), daemon=True)
        thread.start()
        thread.join(10.0)
    assert not thread.is_alive()


def test_handles_of_streams() -> None:
    class Torch:
        cuda_stream = 12

    class Cupy:
        ptr = 0

    class Core:
        def __cuda_stream__(self) -> tuple[int, int]:
            return 0, 34

    assert [handle(s) for s in (None, 0, 1, 2, 77, Torch(), Cupy(), Core())] == [1, 1, 1, 2, 77, 12, 1, 34]
    with pytest.raises(FormatError, match="stream: wanted a CUDA stream or its handle, got str"):
        handle("fast")


def test_options_of_a_gpu_are_refused_elsewhere() -> None:
    x = sg.vector("x", shape="n")
    for option in ({"stream": 1}, {"device_outputs": True}, {"graphs": False}):
        with pytest.raises(FormatError, match="only target 'cuda' takes it, got target 'cpu'"):
            sg.function([x], x, **option)
    with pytest.raises(FormatError, match="only target 'cuda' takes it"):
        sg.function([x], x + 1.0).on(2)


# -- the driver --------------------------------------------------------------------------------------------------------


def test_launches_follow_from_occupancy(fake: FakeDriver) -> None:
    """2 multiprocessors; 8 blocks of 128 threads are resident on each, and that is the most threads."""
    x = sg.vector("x", shape="n")
    kernel = sg.lower([x], sg.exp(x), target="cuda").kernels[0]
    limits = HardwareDevice(0).load(kernel.source, kernel.name, kernel.params).limits
    assert (limits.threads, limits.blocks, limits.alone) == (128, 2 * 8 * 4, False)


def test_failures_of_the_driver_are_said(fake: FakeDriver, monkeypatch: Any) -> None:
    made = HardwareDevice(0)
    monkeypatch.setattr(devices, "the_device", lambda: made)
    fn, _ = scaled()
    fake.fails["cuMemAllocFromPoolAsync"] = fake.CUresult.CUDA_ERROR_OUT_OF_MEMORY
    with pytest.raises(DeviceError, match=r"GPU 0: it is said so \(CUDA_ERROR_OUT_OF_MEMORY\): wanted 384 bytes more"):
        fn(A)
    del fake.fails["cuMemAllocFromPoolAsync"]
    fake.fails["cuGraphInstantiate"] = fake.CUresult.CUDA_ERROR_UNKNOWN
    steps = two_steps()
    steps(np.ones(3))
    with pytest.raises(DeviceError, match="CUDA_ERROR_UNKNOWN"):
        steps(np.ones(3))
    assert not fake.capturing
    fake.fails.clear()
    assert steps(np.ones(3))[0] == 3.0


@pytest.mark.parametrize("seed", range(6))
def test_random_programs_over_the_driver(fake: FakeDriver, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    made = HardwareDevice(0)
    monkeypatch.setattr(devices, "the_device", lambda: made)
    program = random_program(np.random.default_rng(1000 + seed))
    fn = sg.function(program.inputs, program.outputs, target="cuda")
    reference = sg.function(program.inputs, program.outputs, target="numpy")
    for _ in range(3):
        for got, want in zip(fn(*program.values), reference(*program.values), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)
    del fn
    gc.collect()
    fake.run(LEGACY)
    assert not fake.blocks  # all memory is given back


# -- on hardware, where a program takes no time ------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [] if simulated() else range(300))
def test_random_programs_and_their_gradients_on_hardware(seed: int) -> None:
    program = random_program(np.random.default_rng(2000 + seed), dtypes=("float32", "float64"))
    outputs = [*program.outputs, *program.gradients()]
    fn = sg.function(program.inputs, outputs, target="cuda")
    reference = sg.function(program.inputs, outputs, target="numpy")
    with np.errstate(all="ignore"):
        wanted = reference(*program.values)
    for _ in range(3):
        for got, want in zip(fn(*program.values), wanted, strict=True):
            rtol = 1e-4 if want.dtype == np.float32 else 1e-9
            np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol)


def test_looking_at_functions_on_a_device(device: Any) -> None:
    w = sg.shared(np.ones(8), name="w")
    x = sg.matrix("x", shape=("n", 8))
    fn = sg.function([x], sg.softmax(x * w, axis=1), updates={w: w * 2.0}, target="cuda", device_outputs=True)
    there = sg.to_device(A)
    fn(there)
    values = fn.trace(there)
    assert {type(v.value) for v in values} == {np.ndarray}
    np.testing.assert_array_equal(values["w"].value, np.full(8, 2.0))
    assert "on cuda" in str(fn.summary()).split("program")[1].splitlines()[0]
    text = str(fn.program)
    assert "for cuda, no host steps" in text
    assert "[n rows of 8]" in text
    assert "arena: " in text


def test_profile(device: Any) -> None:
    roof.cache_clear()
    w = sg.shared(np.ones(8), name="w")
    x = sg.matrix("x", shape=("n", 8))
    i = sg.vector("i", dtype="int64", shape="k")
    y = norms(sg.exp(sg.take(x * w, i, axis=0))) * 2.0
    fn = sg.function([x, i], y, updates={w: w * 2.0}, target="cuda")
    for there in (A, sg.to_device(A)):
        made = fn.profile(there, np.array([0, 2]), seconds=0.0)
        assert len(made) == len(fn.program.steps) > 3
        assert made.repeats >= 3
        assert "norms" in {s.operations for s in made}
        assert all(s.seconds > 0 for s in made)
        assert str(made).count("test_runtime.py") == len(made)
        assert f"on {device.name()}" in str(made)
    np.testing.assert_array_equal(w.get_value(), np.ones(8))  # no update is made
    with pytest.raises(IndexRangeError, match="gather"):
        fn.profile(A, np.array([0, 9]), seconds=0.0)
    with pytest.raises(FormatError, match="target 'numpy' has no program"):
        sg.function([x], x * 2.0, target="numpy").profile(A)


def test_the_examples_of_the_guide(device: Any) -> None:
    guide = Path(__file__).parents[3] / "docs" / "guide.md"
    section = guide.read_text().split("\n## On a GPU\n")[1].split("\n## ")[0]
    names: dict[str, Any] = {"sg": sg, "np": np}
    blocks = [part.split("```")[0] for part in section.split("```python\n")[1:]]
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, str(guide), "exec"), names)
    assert isinstance(names["y"], DeviceArray)
    np.testing.assert_allclose(names["y"].numpy(), np.full((2, 3), 1 / 3), rtol=1e-6)
    np.testing.assert_allclose(names["w"].get_value(), [-0.1, -0.2, -0.3])


def test_arrays_put_on_the_device() -> None:
    there = sg.to_device(A.T)
    assert isinstance(there, DeviceArray)
    np.testing.assert_array_equal(there.numpy(), A.T)
    assert sg.to_device([1, 2]).dtype == np.int64
    fn, reference = scaled()
    np.testing.assert_allclose(np.asarray(fn(there)), reference(A.T), rtol=1e-12, atol=1e-14)
    with pytest.raises(DTypeError):
        sg.to_device(np.array(["a"]))
