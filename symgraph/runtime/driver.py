"""A real GPU, through the driver's own interface (``cuda.bindings.driver``): memory, streams, launches, graphs.

Facts that this rests on are those of the CUDA Driver API's reference: stream-ordered memory (section "Stream Ordered
Memory Allocator"), capture ("Stream Management", ``cuStreamBeginCapture``), special stream handles 1 (legacy default)
and 2 (per thread), and kernel parameters as an array of pointers (``cuLaunchKernel``). Everything happens in the
device's primary context, which CuPy, PyTorch, JAX and Numba use too.
"""

from __future__ import annotations

import ctypes
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from symgraph.collector import collector_paused
from symgraph.errors import DeviceError
from symgraph.loop.ir import Param
from symgraph.runtime.arrays import LEGACY, Span
from symgraph.runtime.cache import KernelCache
from symgraph.runtime.dlpack import CUDA
from symgraph.runtime.launch import Dimensions, Limits

WAVES = 4
"""Blocks of a grid for each that is resident at once: where rows differ in length, others take over."""
SIZES = (256, 512, 128, 1024, 64)
"""Threads of a block, in the order of preference where as many threads are resident."""
_WORD: Final = 8


@dataclass(frozen=True, eq=False)
class Kernel:
    """A kernel that the driver has loaded."""

    name: str
    function: Any
    limits: Limits


class HardwareDevice:
    """A GPU; a :class:`symgraph.runtime.arrays.Device`. ``number`` counts those that the driver shows.

    Raises :class:`~symgraph.errors.DeviceError` wherever the driver refuses.
    """

    def __init__(self, number: int) -> None:
        from cuda.bindings import driver

        self.number = number
        self.dlpack = (CUDA, number)
        self._driver = d = driver
        self._check(d.cuInit(0))
        self._handle = self._check(d.cuDeviceGet(number))
        self._context = self._check(d.cuDevicePrimaryCtxRetain(self._handle))
        attribute = d.CUdevice_attribute
        self.cc = (
            self._attribute(attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR),
            self._attribute(attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR),
        )
        self.multiprocessors = self._attribute(attribute.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)
        if not self._attribute(attribute.CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED):
            raise DeviceError(f"GPU {number} has no memory pools, which this needs")
        self._cubins = CubinCache(self.cc)
        # Of such GPUs the copy engine reads all memory of the host where it lies, and need not take a copy first.
        self._reads_host = bool(
            self._attribute(attribute.CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS_USES_HOST_PAGE_TABLES)
        )
        self._capturing = threading.RLock()  # an array may go, and wait, while this is taken
        self._held: deque[tuple[Any, Any]] = deque()
        self._kernels: dict[str, Kernel] = {}
        self._lock = threading.Lock()
        with self.current():
            self._pool = self._new_pool()

    def _check(self, result: Any) -> Any:
        """What a function of the driver returned beside its status."""
        status, *values = result if isinstance(result, tuple) else (result,)
        if int(status):
            raise DeviceError(f"GPU {self.number}: {self._said(status)}")
        return values[0] if len(values) == 1 else tuple(values) if values else None

    def _said(self, status: Any) -> str:
        name, text = (f(status)[1] for f in (self._driver.cuGetErrorName, self._driver.cuGetErrorString))
        return f"{text.decode() if text else 'unknown error'} ({name.decode() if name else int(status)})"

    def _attribute(self, which: Any) -> int:
        return int(self._check(self._driver.cuDeviceGetAttribute(which, self._handle)))

    @contextmanager
    def current(self) -> Iterator[None]:
        """This GPU is the thread's current one inside, whichever was before."""
        self._check(self._driver.cuCtxPushCurrent(self._context))
        try:
            yield
        finally:
            self._check(self._driver.cuCtxPopCurrent())

    # -- memory -------------------------------------------------------------------------------------------------------

    def _new_pool(self) -> Any:
        """A pool of our own that keeps what is given back: others decide how the device's default pool behaves."""
        d = self._driver
        wanted = d.CUmemPoolProps()
        wanted.allocType = d.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
        wanted.handleTypes = d.CUmemAllocationHandleType.CU_MEM_HANDLE_TYPE_NONE
        wanted.location.type = d.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
        wanted.location.id = self.number
        pool = self._check(d.cuMemPoolCreate(wanted))
        threshold = d.CUmemPool_attribute.CU_MEMPOOL_ATTR_RELEASE_THRESHOLD
        self._check(d.cuMemPoolSetAttribute(pool, threshold, d.cuuint64_t(2**64 - 1)))
        return pool

    def allocate(self, nbytes: int, stream: int) -> int:
        """Memory of the pool, in the order of ``stream``."""
        try:
            return int(self._check(self._driver.cuMemAllocFromPoolAsync(nbytes, self._pool, stream)))
        except DeviceError as error:
            raise DeviceError(f"{error}: wanted {nbytes} bytes more") from None

    def release(self, address: int, stream: int) -> None:
        """Back to the pool, in the order of ``stream``."""
        with self.current():
            self._check(self._driver.cuMemFreeAsync(address, stream))

    def upload(self, address: int, array: NDArray[Any], stream: int) -> None:
        """Copy in. Memory that is pinned is read later, by the device: that is waited for."""
        d, at = self._driver, array.ctypes.data
        self._check(d.cuMemcpyHtoDAsync(address, at, array.nbytes, stream))
        status, *_ = d.cuPointerGetAttribute(d.CUpointer_attribute.CU_POINTER_ATTRIBUTE_MEMORY_TYPE, at)
        if self._reads_host or not int(status):  # the driver knows no memory of the host but what is pinned
            self._check(d.cuStreamSynchronize(stream))

    def download(self, array: NDArray[Any], address: int, stream: int) -> None:
        """Copy out."""
        self._check(self._driver.cuMemcpyDtoHAsync(array.ctypes.data, address, array.nbytes, stream))

    def clear(self, span: Span, stream: int) -> None:
        """Zeros."""
        self._check(self._driver.cuMemsetD8Async(span.address, 0, span.nbytes, stream))

    def owner(self, address: int) -> int:
        """The number of the GPU that memory lies on."""
        which = self._driver.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
        return int(self._check(self._driver.cuPointerGetAttribute(which, address)))

    # -- kernels ------------------------------------------------------------------------------------------------------

    def load(self, source: str, name: str, params: tuple[Param, ...]) -> Kernel:
        """A kernel, compiled where neither this process nor the cache on disk has it."""
        with self._lock:
            if source not in self._kernels:
                d = self._driver
                code = np.frombuffer(self._cubins.code(source, name, params), np.uint8)
                with self.current():
                    module = self._check(d.cuModuleLoadData(code.ctypes.data))
                    function = self._check(d.cuModuleGetFunction(module, name.encode()))
                    self._kernels[source] = Kernel(name, function, self._occupancy(function))
            return self._kernels[source]

    def _occupancy(self, function: Any) -> Limits:
        """The block size that keeps the most threads resident, by the kernel's registers and shared memory."""
        d = self._driver
        most = self._check(
            d.cuFuncGetAttribute(d.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, function)
        )
        blocks = {
            n: int(self._check(d.cuOccupancyMaxActiveBlocksPerMultiprocessor(function, n, 0)))
            for n in SIZES
            if n <= most
        }
        threads = max(blocks, key=lambda n: n * blocks[n])
        return Limits(threads, max(1, blocks[threads]) * self.multiprocessors * WAVES)

    def limits(self, kernel: Kernel) -> Limits:
        """Found when the kernel was loaded."""
        return kernel.limits

    def launch(self, kernel: Kernel, where: Dimensions, values: list[Any], stream: int) -> None:
        """Start a kernel."""
        words = (ctypes.c_uint64 * len(values))(*map(_bits, values))
        first = ctypes.addressof(words)
        pointers = (ctypes.c_void_p * len(values))(*range(first, first + _WORD * len(values), _WORD))
        self._check(
            self._driver.cuLaunchKernel(
                kernel.function, *where.grid, 1, *where.block, 1, 0, stream, ctypes.addressof(pointers), 0
            )
        )

    # -- streams and graphs -------------------------------------------------------------------------------------------

    def capture(self, record: Callable[[int], None]) -> _Graph | None:
        """What ``record`` starts, as a graph. It gets a stream of its own: the default stream cannot be captured.

        While there is a capture nobody may wait for the whole device: that would fail, and spoil the capture. So other
        threads of ours wait until it is over, and no array goes by the garbage collector in this one. Where another
        library has spoilt it, there is no graph: ``None``.
        """
        with self._capturing, collector_paused():
            return self._captured(record)

    def _captured(self, record: Callable[[int], None]) -> _Graph | None:
        d = self._driver
        stream = self._check(d.cuStreamCreate(int(d.CUstream_flags.CU_STREAM_NON_BLOCKING)))
        try:
            self._check(d.cuStreamBeginCapture(stream, d.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED))
            error = None
            try:
                record(int(stream))
            except DeviceError as found:
                error = found
            finally:
                ended = d.cuStreamEndCapture(stream)  # whatever happened: a stream must not be left capturing
            if ended[0] == d.CUresult.CUDA_ERROR_STREAM_CAPTURE_INVALIDATED:
                return None
            if error is not None:
                raise error
            graph = self._check(ended)
            try:
                return _Graph(self, self._check(d.cuGraphInstantiate(graph, 0)))
            finally:
                self._check(d.cuGraphDestroy(graph))
        finally:
            self._check(d.cuStreamDestroy(stream))

    def replay(self, graph: _Graph, stream: int) -> None:
        """Start a graph."""
        self._check(self._driver.cuGraphLaunch(graph.handle, stream))

    def synchronize(self, stream: int | None) -> None:
        """Wait for a stream, or for all; an error of the work that was waited for is raised."""
        if stream is None:
            with self._capturing:
                self._check(self._driver.cuCtxSynchronize())
        else:
            self._check(self._driver.cuStreamSynchronize(stream))
        self._drop()

    def order(self, first: int, then: int) -> None:
        """What comes on ``then`` waits for what is on ``first``: by an event."""
        d = self._driver
        event = self._check(d.cuEventCreate(int(d.CUevent_flags.CU_EVENT_DISABLE_TIMING)))
        try:
            self._check(d.cuEventRecord(event, first))
            self._check(d.cuStreamWaitEvent(then, event, 0))
        finally:
            self._check(d.cuEventDestroy(event))  # the driver keeps it until it has come

    def hold(self, things: Any, stream: int) -> None:
        """Keep ``things`` until ``stream`` has come to here: by an event, which is asked for whenever we come by."""
        d = self._driver
        self._drop()
        event = self._check(d.cuEventCreate(int(d.CUevent_flags.CU_EVENT_DISABLE_TIMING)))
        self._check(d.cuEventRecord(event, stream))
        self._held.append((event, things))

    def _drop(self) -> None:
        """Let go of what was held for work that is done."""
        d = self._driver
        for _ in range(len(self._held)):
            try:
                event, things = self._held.popleft()
            except IndexError:  # another thread was faster
                return
            (status,) = d.cuEventQuery(event)
            if status == d.CUresult.CUDA_ERROR_NOT_READY:
                self._held.append((event, things))
            else:  # done, or failed
                d.cuEventDestroy(event)

    def seconds(self, work: Callable[[], None], stream: int = LEGACY) -> float:
        """How long the device takes for what ``work`` starts on ``stream``, by its own clock."""
        d = self._driver
        with self.current():
            start, end = (self._check(d.cuEventCreate(0)) for _ in range(2))
            try:
                self._check(d.cuEventRecord(start, stream))
                work()
                self._check(d.cuEventRecord(end, stream))
                self._check(d.cuEventSynchronize(end))
                return float(self._check(d.cuEventElapsedTime(start, end))) / 1e3
            finally:
                for event in (start, end):
                    self._check(d.cuEventDestroy(event))

    def name(self) -> str:
        """The model, its compute capability and the driver's version, in words."""
        d = self._driver
        model = self._check(d.cuDeviceGetName(128, self._handle)).split(b"\0")[0].decode()
        version = int(self._check(d.cuDriverGetVersion()))
        capability = f"compute capability {self.cc[0]}.{self.cc[1]}"
        return f"{model}, {capability}, driver for CUDA {version // 1000}.{version % 1000 // 10}"


class _Graph:
    """A graph that can be launched."""

    def __init__(self, device: HardwareDevice, handle: Any) -> None:
        self.device = device
        self.handle = handle

    def __del__(self) -> None:
        try:
            with self.device.current():
                self.device._driver.cuGraphExecDestroy(self.handle)
        except Exception:  # the interpreter ends, or the device has failed
            self.handle = None


def _bits(value: Any) -> int:
    """A kernel's parameter in the low bytes of a word: an address, a size, or a constant."""
    if isinstance(value, Span):
        return value.address
    if isinstance(value, int):
        return value & (2**64 - 1)
    return int.from_bytes(value.tobytes(), "little")


class CubinCache(KernelCache):
    """Machine code by source, kept on disk beside the CPU's. What is kept in memory here is the code itself."""

    def __init__(self, cc: tuple[int, int], directory: Path | None = None) -> None:
        super().__init__(directory)
        self.cc = cc
        self._params: dict[str, tuple[Param, ...]] = {}

    def code(self, source: str, name: str, params: tuple[Param, ...]) -> bytes:
        """The machine code of a kernel."""
        self._params[source] = params
        made: Any = self.get(source, [name])[name]
        assert isinstance(made, bytes)
        return made

    def fingerprint(self) -> str:
        """Return what the code depends on beside its source."""
        return f"{_versions()}\nsm_{self.cc[0]}{self.cc[1]}"

    def build(self, source: str, names: tuple[str, ...]) -> bytes:
        """Compile: Python to PTX by Numba and NVVM, PTX to machine code by nvJitLink."""
        from symgraph.emit.numba_cuda import ptx

        (name,) = names
        return machine_code(ptx(source, name, self._params[source], self.cc), name, self.cc)

    def load(self, code: bytes, names: tuple[str, ...]) -> dict[str, Any]:
        """The code, which is loaded by the device."""
        return dict.fromkeys(names, code)


def machine_code(ptx: str, name: str, cc: tuple[int, int]) -> bytes:
    """PTX, assembled by nvJitLink: it runs on any driver of the same major version. Needs no GPU."""
    from cuda.core import Program, ProgramOptions

    made: bytes = Program(ptx, "ptx", ProgramOptions(arch=f"sm_{cc[0]}{cc[1]}", name=name)).compile("cubin").code
    return made


@cache
def _versions() -> str:
    """The versions of what makes machine code, and the text of our own part."""
    import hashlib
    from importlib.util import find_spec

    import numba
    import numba_cuda
    from cuda.bindings import nvjitlink, nvvm

    parts = [numba.__version__, numba_cuda.__version__, str(nvvm.version()), str(nvjitlink.version())]
    root = Path(__file__).resolve().parent.parent
    files = [root / "emit" / "numba_cuda.py"]
    found = find_spec("symgraph_kernels")
    for location in found.submodule_search_locations or () if found is not None else ():
        files += sorted((Path(location) / "cuda").glob("*.py"))
    return "\n".join([*parts, *(hashlib.sha256(f.read_bytes()).hexdigest() for f in files)])
