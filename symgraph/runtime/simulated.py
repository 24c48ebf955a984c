"""A GPU as Numba's CUDA simulator has it: each thread of a launch is a thread of Python. For tests: a few suffice.

Memory is the host's, addresses are real ones, and whatever is asked for is done at once, so streams order nothing.
"""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symgraph.emit.numba_cuda import simulate
from symgraph.errors import DeviceError
from symgraph.loop.ir import Param
from symgraph.runtime.arrays import Span
from symgraph.runtime.dlpack import CPU
from symgraph.runtime.launch import Dimensions, Limits

Work = Callable[[], object]
LIMITS = Limits(threads=4, blocks=2, alone=True)
"""Few threads, and more than one of each kind."""
ALIGNMENT = 256
"""Bytes, as on a device."""


class Elements:
    """What a pointer to a buffer's elements is in the simulator, which copies arrays: two that are one would part.

    An index that no element has, a negative one among them, is an error.
    """

    __slots__ = ("array", "label")

    def __init__(self, array: NDArray[Any], label: str) -> None:
        self.array = array
        self.label = label

    def __getitem__(self, at: int) -> Any:
        self._check(at)
        return self.array[at]

    def __setitem__(self, at: int, value: Any) -> None:
        self._check(at)
        self.array[at] = value

    def _check(self, at: int) -> None:
        if not 0 <= at < self.array.size:
            raise IndexError(f"{self.label}: no element {at} of {self.array.size}")


@dataclass(frozen=True)
class _Kernel:
    source: str
    name: str
    params: tuple[Param, ...]


class SimulatedDevice:
    """The GPU of the simulator; a :class:`symgraph.runtime.arrays.Device`."""

    number = 0
    dlpack = (CPU, 0)

    def __init__(self) -> None:
        self.blocks: dict[int, NDArray[Any]] = {}
        self._recorded: list[Work] | None = None

    def allocate(self, nbytes: int, stream: int) -> int:
        """Memory of the host."""
        raw = np.empty(nbytes + ALIGNMENT, np.uint8)
        address = int(raw.ctypes.data) + -raw.ctypes.data % ALIGNMENT
        self.blocks[address] = raw
        return address

    def release(self, address: int, stream: int) -> None:
        """Forget it; what refers to it is an error from here on."""
        del self.blocks[address]

    def upload(self, address: int, array: NDArray[Any], stream: int) -> None:
        """Copy in."""
        ctypes.memmove(address, array.ctypes.data, array.nbytes)

    def download(self, array: NDArray[Any], address: int, stream: int) -> None:
        """Copy out."""
        ctypes.memmove(array.ctypes.data, address, array.nbytes)

    def clear(self, span: Span, stream: int) -> None:
        """Zeros, or a note of them."""
        self.start(lambda: ctypes.memset(span.address, 0, span.nbytes))

    def start(self, work: Work) -> None:
        """Do it, or note it."""
        if self._recorded is not None:
            self._recorded.append(work)
        else:
            work()

    def load(self, source: str, name: str, params: tuple[Param, ...]) -> _Kernel:
        """The source; there is nothing to compile."""
        return _Kernel(source, name, params)

    def limits(self, kernel: _Kernel) -> Limits:
        """A few threads."""
        return LIMITS

    def launch(self, kernel: _Kernel, where: Dimensions, values: list[Any], stream: int) -> None:
        """Run a kernel to its end, or note it."""

        def run() -> None:
            args = [
                _elements(kernel, p, v) if isinstance(v, Span) else v
                for p, v in zip(kernel.params, values, strict=True)
            ]
            with _quick_switches():
                simulate(kernel.source, kernel.name, where.grid, where.block, args)

        self.start(run)

    def capture(self, record: Callable[[int], None]) -> list[Work]:
        """What is noted."""
        made: list[Work] = []
        self._recorded = made
        try:
            record(0)
        finally:
            self._recorded = None
        return made

    def replay(self, graph: list[Work], stream: int) -> None:
        """Do what was noted."""
        for work in graph:
            work()

    def synchronize(self, stream: int | None) -> None:
        """All is done."""

    def order(self, first: int, then: int) -> None:
        """It is in order."""

    def hold(self, things: object, stream: int) -> None:
        """All is done."""

    def seconds(self, work: Callable[[], None], stream: int) -> float:
        """How long ``work`` takes here."""
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    def owner(self, address: int) -> int:
        """There is one device."""
        return self.number

    def name(self) -> str:
        """What it is, in words."""
        return "Numba's CUDA simulator"

    def current(self) -> AbstractContextManager[None]:
        """It is the only one."""
        return nullcontext()


def _elements(kernel: _Kernel, param: Param, span: Span) -> Elements:
    dtype = np.dtype(np.uint8) if param.dtype == bool else param.dtype
    if span.nbytes % dtype.itemsize:
        raise DeviceError(f"{kernel.name}, {param.name}: {span.nbytes} bytes are no whole number of {dtype}")
    if not span.nbytes:
        return Elements(np.empty(0, dtype), f"{kernel.name}, {param.name}")
    memory: Any = (ctypes.c_char * span.nbytes).from_address(span.address)
    return Elements(np.frombuffer(memory, dtype), f"{kernel.name}, {param.name}")


@contextmanager
def _quick_switches() -> Iterator[None]:
    """The simulator polls its threads: what waits for the interpreter lock should not wait long."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
