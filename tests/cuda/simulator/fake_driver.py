"""A driver without a GPU: what ``cuda.bindings.driver`` has, over the host's memory and Numba's simulator.

Work on a stream waits until somebody waits for it, so what is ordered by luck only fails. Memory that was given back is
gone, each call has to have as many arguments as the real function, and a GPU has to be current where one is needed.
"""

from __future__ import annotations

import ctypes
import re
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from cuda.bindings import driver as real

from symgraph.emit.numba_cuda import simulate
from symgraph.loop.ir import Param
from symgraph.runtime.simulated import Elements

LEGACY, PER_THREAD = 1, 2
OK = real.CUresult.CUDA_SUCCESS
ATTRIBUTES = {
    "CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR": 9,
    "CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR": 0,
    "CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT": 2,
    "CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED": 1,
    "CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS_USES_HOST_PAGE_TABLES": 0,
}
ANYWHERE = ("cuInit", "cuDriver", "cuDevice", "cuCtxP", "cuMemPool", "cuPointer", "cuGetError")
"""How the names of those functions begin that need no current context; others do, or have a stream that does."""
Work = Callable[[], object]


class Event:
    """A place in a stream: how much of its work came before."""

    def __init__(self) -> None:
        self.stream = 0
        self.at = -1


class FakeDriver:
    """Stands in for the module. ``calls`` are the names of what was called."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.pinned: set[int] = set()  # where memory of the host begins that the driver reads when it comes to it
        self.blocks: dict[int, np.ndarray[Any, Any]] = {}
        self.queues: dict[int, deque[Work]] = {LEGACY: deque(), PER_THREAD: deque()}
        self.done: dict[int, int] = {}  # how much of a stream's work has been done
        self.capturing: dict[int, list[Work]] = {}
        self.sources: dict[str, tuple[str, tuple[Param, ...]]] = {}
        self.graphs: dict[int, list[Work]] = {}
        self.depth = 0
        self.fails: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("cu") or not hasattr(FakeDriver, f"_{name}"):
            return getattr(real, name)  # enumerations and structures
        run = getattr(self, f"_{name}")
        header = next(line for line in str(getattr(real, name).__doc__).splitlines() if line.startswith(name))
        wanted = header.count(",") + 1 if re.search(r"\(\s*\)", header) is None else 0

        def call(*args: Any) -> Any:
            assert len(args) == wanted, f"{header}: got {args}"
            assert self.depth or name.startswith(ANYWHERE), f"{name}: no GPU is the thread's current one"
            self.calls.append(name)
            if name in self.fails:
                return self.fails[name], None
            value = run(*args)
            if isinstance(value, real.CUresult):
                return (value,) if wanted == 1 else (value, None)
            return (OK,) if value is None else (OK, value)

        return call

    # -- the device ---------------------------------------------------------------------------------------------------

    def _cuInit(self, flags: int) -> None: ...

    def _cuDriverGetVersion(self) -> int:
        return 13050

    def _cuDeviceGet(self, number: int) -> int:
        return number

    def _cuDeviceGetCount(self) -> int:
        return 1

    def _cuDeviceGetName(self, length: int, device: int) -> bytes:
        return b"fake\0\0"

    def _cuDevicePrimaryCtxRetain(self, device: int) -> int:
        return 7

    def _cuDeviceGetAttribute(self, which: Any, device: int) -> int:
        return ATTRIBUTES[which.name]

    def _cuCtxPushCurrent(self, context: int) -> None:
        self.depth += 1

    def _cuCtxPopCurrent(self) -> int:
        self.depth -= 1
        assert self.depth >= 0
        return 7

    def _cuPointerGetAttribute(self, which: Any, address: int) -> Any:
        if which == real.CUpointer_attribute.CU_POINTER_ATTRIBUTE_MEMORY_TYPE and address not in self.pinned:
            return real.CUresult.CUDA_ERROR_INVALID_VALUE
        return 0

    def _cuGetErrorName(self, status: Any) -> bytes:
        return str(status.name).encode()

    def _cuGetErrorString(self, status: Any) -> bytes:
        return b"it is said so"

    # -- memory -------------------------------------------------------------------------------------------------------

    def _cuMemPoolCreate(self, wanted: Any) -> int:
        assert wanted.location.type == real.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
        return 3

    def _cuMemPoolSetAttribute(self, pool: int, which: Any, value: Any) -> None:
        assert int(value) == 2**64 - 1

    def _cuMemAllocFromPoolAsync(self, nbytes: int, pool: int, stream: int) -> Any:
        raw = np.full(nbytes + 256, 0xCD, np.uint8)
        address = int(raw.ctypes.data) + -raw.ctypes.data % 256
        self.blocks[address] = raw
        return real.CUdeviceptr(address)

    def _cuMemFreeAsync(self, address: int, stream: int) -> None:
        self.put(stream, lambda: self.blocks.pop(address) is None)

    def _cuMemcpyHtoDAsync(self, address: int, source: int, nbytes: int, stream: int) -> None:
        if source in self.pinned:
            self.put(stream, lambda: ctypes.memmove(self.there(address), source, nbytes))
            return
        data = ctypes.string_at(source, nbytes)  # copied before the call returns
        self.put(stream, lambda: ctypes.memmove(self.there(address), data, nbytes))

    def _cuMemcpyDtoHAsync(self, to: int, address: int, nbytes: int, stream: int) -> None:
        self.put(stream, lambda: ctypes.memmove(to, self.there(address), nbytes))

    def _cuMemsetD8Async(self, address: int, value: int, nbytes: int, stream: int) -> None:
        self.put(stream, lambda: ctypes.memset(self.there(address), value, nbytes))

    def there(self, address: int) -> int:
        self.block(address)
        return address

    def block(self, address: int) -> tuple[int, int]:
        """Where the allocation that has this address begins and ends."""
        for start, raw in self.blocks.items():
            if start <= address < start + raw.size - 256:
                return start, start + raw.size - 256
        raise AssertionError(f"address {address} is not allocated")

    # -- kernels ------------------------------------------------------------------------------------------------------

    def _cuModuleLoadData(self, code: int) -> int:
        return code

    def _cuModuleGetFunction(self, module: int, name: bytes) -> str:
        return name.decode()

    def _cuFuncGetAttribute(self, which: Any, function: str) -> int:
        return 512

    def _cuOccupancyMaxActiveBlocksPerMultiprocessor(self, function: str, threads: int, shared: int) -> int:
        return {64: 16, 128: 8, 256: 3, 512: 1}[threads]

    def _cuLaunchKernel(
        self, name: str, gx: int, gy: int, gz: int, bx: int, by: int, bz: int, shared: int, stream: int, at: int, e: int
    ) -> None:
        assert (gz, bz, shared, e) == (1, 1, 0, 0)
        source, params = self.sources[name]
        pointers = (ctypes.c_void_p * len(params)).from_address(at)
        words = [ctypes.string_at(p or 0, 8) for p in pointers]  # as they are when the call is made

        def run() -> None:
            args = [self.argument(name, p, w) for p, w in zip(params, words, strict=True)]
            simulate(source, name, (gx, gy), (bx, by), args)

        self.put(stream, run)

    def argument(self, name: str, param: Param, word: bytes) -> Any:
        if param.kind == "buffer":
            dtype = np.dtype(np.uint8) if param.dtype == bool else param.dtype
            address = int.from_bytes(word, "little")
            if not address:
                return Elements(np.empty(0, dtype), name)
            try:
                _, end = self.block(address)
            except AssertionError:
                end = address + 4096  # an argument of another library
            memory: Any = (ctypes.c_char * ((end - address) // dtype.itemsize * dtype.itemsize)).from_address(address)
            return Elements(np.frombuffer(memory, dtype), f"{name}, {param.name}")
        dtype = np.dtype(np.float32) if param.dtype == np.float16 else param.dtype
        value = np.frombuffer(word[: dtype.itemsize], dtype)[0]
        return int(value) if param.kind == "size" else value

    # -- streams ------------------------------------------------------------------------------------------------------

    def put(self, stream: Any, work: Work) -> None:
        stream = int(stream)
        if stream in self.capturing:
            self.capturing[stream].append(work)
        else:
            self.queues[stream].append(work)

    def run(self, stream: int, upto: int | None = None) -> None:
        queue = self.queues[stream]
        while queue and (upto is None or self.done.get(stream, 0) < upto):
            self.done[stream] = self.done.get(stream, 0) + 1
            queue.popleft()()

    def new_stream(self) -> int:
        stream = 100 + len(self.queues)
        self.queues[stream] = deque()
        return stream

    def _cuStreamCreate(self, flags: int) -> Any:
        return real.CUstream(self.new_stream())

    def _cuStreamDestroy(self, stream: Any) -> None: ...

    def _cuStreamSynchronize(self, stream: Any) -> None:
        self.run(int(stream))

    def _cuCtxSynchronize(self) -> None:
        for stream in list(self.queues):
            self.run(stream)

    def _cuEventCreate(self, flags: int) -> Event:
        return Event()

    def _cuEventDestroy(self, event: Event) -> None: ...

    def _cuEventRecord(self, event: Event, stream: int) -> None:
        event.stream, event.at = int(stream), self.done.get(stream, 0) + len(self.queues[stream])

    def _cuEventSynchronize(self, event: Event) -> None:
        self.run(event.stream, event.at)

    def _cuEventQuery(self, event: Event) -> Any:
        return OK if self.done.get(event.stream, 0) >= event.at else real.CUresult.CUDA_ERROR_NOT_READY

    def _cuEventElapsedTime(self, start: Event, end: Event) -> float:
        assert self.done[end.stream] >= end.at > start.at  # as many milliseconds as there was work in between
        return float(end.at - start.at)

    def _cuStreamWaitEvent(self, stream: int, event: Event, flags: int) -> None:
        first, at = event.stream, event.at
        self.put(stream, lambda: self.run(first, at))

    def _cuStreamBeginCapture(self, stream: Any, mode: Any) -> None:
        assert int(stream) != LEGACY
        self.capturing[int(stream)] = []

    def _cuStreamEndCapture(self, stream: Any) -> list[Work]:
        return self.capturing.pop(int(stream))

    def _cuGraphInstantiate(self, graph: list[Work], flags: int) -> Any:
        return list(graph)

    def _cuGraphDestroy(self, graph: Any) -> None: ...

    def _cuGraphExecDestroy(self, graph: Any) -> None: ...

    def _cuGraphLaunch(self, graph: list[Work], stream: int) -> None:
        for work in graph:
            self.put(stream, work)
