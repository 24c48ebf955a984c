"""Arrays in the memory of a GPU: what calls return, what shared variables are, and what other libraries hand in.

Memory is allocated and released in the order of a stream: it is given back behind the work that used it last.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from symgraph import source
from symgraph.errors import DTypeError, FormatError, RankError
from symgraph.graph import Variable
from symgraph.loop.ir import Param
from symgraph.runtime.dlpack import CUDA, CUDA_MANAGED, Taken, contiguous, give
from symgraph.runtime.launch import Dimensions, Limits

LEGACY = 1
"""The default stream, which waits for all streams that were not made to be independent, and which they wait for."""
PER_THREAD = 2
"""The default stream of the calling thread: the same handle is another stream in another thread."""
_HOST = (np.ndarray, np.generic, int, float, list, tuple)


class Stream(int):
    """The handle of a stream, and the object that has the stream: many destroy it when nobody has them any more."""

    owner: Any

    def __new__(cls, number: int, owner: Any) -> Stream:
        """A number that keeps ``owner``."""
        made = super().__new__(cls, number)
        made.owner = owner
        return made


class Span(NamedTuple):
    """Bytes in the memory of a device."""

    address: int
    nbytes: int


class Device(Protocol):
    """What programs need of a GPU. Streams are handles, as numbers; work on a stream is done in order.

    Attributes:
        number: which GPU it is.
        dlpack: its type and number in DLPack.
    """

    number: int
    dlpack: tuple[int, int]

    def allocate(self, nbytes: int, stream: int) -> int:
        """Memory that ``stream`` may use from here on; raises :class:`~symgraph.errors.DeviceError`."""

    def release(self, address: int, stream: int) -> None:
        """Give memory back when ``stream`` has come to here."""

    def upload(self, address: int, array: NDArray[Any], stream: int) -> None:
        """Copy a C-contiguous array to the device. The array may change afterwards."""

    def download(self, array: NDArray[Any], address: int, stream: int) -> None:
        """Copy to a C-contiguous array; it is there after :meth:`synchronize`."""

    def clear(self, span: Span, stream: int) -> None:
        """Set bytes to zero."""

    def load(self, source: str, name: str, params: tuple[Param, ...]) -> Any:
        """A kernel, compiled."""

    def limits(self, kernel: Any) -> Limits:
        """What launches of a kernel may use."""

    def launch(self, kernel: Any, where: Dimensions, values: list[Any], stream: int) -> None:
        """Start a kernel: a :class:`Span` for a buffer, numbers for sizes and constants."""

    def capture(self, record: Any) -> Any:
        """The launches that ``record(stream)`` starts, as one graph; they do not run. ``None``: it was interrupted."""

    def replay(self, graph: Any, stream: int) -> None:
        """Start a graph."""

    def synchronize(self, stream: int | None) -> None:
        """Wait for a stream, or for all."""

    def order(self, first: int, then: int) -> None:
        """What comes on stream ``then`` waits for what is on ``first`` now."""

    def hold(self, things: Any, stream: int) -> None:
        """Keep ``things`` until ``stream`` has come to here, and until the device is used once more after that."""

    def seconds(self, work: Any, stream: int) -> float:
        """How long the device takes for what ``work`` starts on ``stream``, by its own clock. Waits for it."""

    def owner(self, address: int) -> int:
        """The number of the GPU that memory lies on."""

    def name(self) -> str:
        """What it is, in words."""

    def current(self) -> Any:
        """A context manager: this GPU is the thread's current one."""


class Memory:
    """Memory on a device, given back behind the work of the stream that used it last."""

    __slots__ = ("_stream", "_thread", "address", "device", "nbytes")

    def __init__(self, device: Device, nbytes: int, stream: int) -> None:
        self.device = device
        self.nbytes = nbytes
        self._stream, self._thread = stream, threading.get_ident()
        self.address = 0
        self.address = device.allocate(max(nbytes, 1), stream)

    @property
    def stream(self) -> int:
        """The stream that used it last; for another thread's default stream the legacy one, which waits for that."""
        if self._stream == PER_THREAD and self._thread != threading.get_ident():
            return LEGACY
        return self._stream

    def use(self, stream: int) -> None:
        """``stream`` is going to use it: after the stream that did so last."""
        last = self.stream
        if stream != last:
            self.device.order(last, stream)
            self._stream, self._thread = stream, threading.get_ident()

    def __del__(self) -> None:
        if self.address:
            try:
                self.device.release(self.address, self.stream)
            except Exception:  # the interpreter ends, or the device has failed: there is nothing to give back
                self.address = 0


class DeviceArray:
    """An array in the memory of a GPU, C-contiguous, of which NumPy, CuPy, PyTorch, JAX and Numba take the elements.

    ``np.asarray(a)`` and ``a.numpy()`` copy to the host; ``torch.from_dlpack(a)``, ``cupy.from_dlpack(a)`` and
    whatever knows ``__cuda_array_interface__`` or DLPack share the memory.
    """

    __slots__ = ("__weakref__", "dtype", "memory", "shape")

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], memory: Memory) -> None:
        self.shape = shape
        self.dtype = dtype
        self.memory = memory

    @property
    def ndim(self) -> int:
        """How many axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """How many elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.size * self.dtype.itemsize

    def numpy(self) -> NDArray[Any]:
        """A copy in the memory of the host, when all work on the array is done."""
        out = np.empty(self.shape, self.dtype)
        if out.nbytes:
            device, memory = self.memory.device, self.memory
            with device.current():
                device.download(out, memory.address, memory.stream)
                device.synchronize(memory.stream)
        return out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("an array on a device becomes a NumPy array by a copy only")
        out = self.numpy()
        return out if dtype is None else out.astype(dtype, copy=False)

    def __float__(self) -> float:
        return float(self.numpy())

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("an array without axes has no length")
        return self.shape[0]

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.memory.address if self.nbytes else 0, False),
            "strides": None,
            "version": 3,
            "stream": int(self.memory.stream),
        }

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.memory.device.dlpack

    def __dlpack__(
        self, *, stream: int | None = None, max_version: Any = None, dl_device: Any = None, copy: bool | None = None
    ) -> object:
        memory, device = self.memory, self.memory.device
        if copy or (dl_device is not None and tuple(dl_device) != device.dlpack):
            raise BufferError("DLPack: wanted a copy, or another device; this shares memory on its own device only")
        consumer = LEGACY if stream is None else stream
        with device.current():
            if consumer not in (-1, memory.stream):
                device.order(memory.stream, consumer)

        def done() -> None:
            # The consumer's stream may be gone by now, with work still to do: so all of the device is waited for.
            if consumer != memory.stream:
                with device.current():
                    device.synchronize(None)

        return give(memory.address if self.nbytes else 0, self.shape, self.dtype, device.dlpack, done)

    def __repr__(self) -> str:
        return f"<array on a device: {self.dtype.name}{list(self.shape)}>"


def uploaded(value: NDArray[Any], device: Device, stream: int) -> DeviceArray:
    """A copy on the device."""
    ready = np.ascontiguousarray(value).reshape(value.shape)
    with device.current():
        made = DeviceArray(ready.shape, ready.dtype, Memory(device, ready.nbytes, stream))
        if ready.nbytes:
            device.upload(made.memory.address, ready, stream)
    return made


@dataclass
class View:
    """An argument of a call that is on the device already.

    Attributes:
        strides: in bytes; ``None``: C-contiguous.
        keep: what keeps the memory; a :class:`Memory` is told of the stream that uses it.
        stream: on which its elements were made, where that is known and is not said by ``keep``.
    """

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    strides: tuple[int, ...] | None
    keep: Any
    stream: int | None = None

    @property
    def ndim(self) -> int:
        """How many axes."""
        return len(self.shape)


def on_device(value: object) -> bool:
    """Whether ``value`` is an array in the memory of a GPU, by the protocols that it has."""
    if isinstance(value, _HOST):
        return False
    if isinstance(value, DeviceArray):
        return True
    where = getattr(value, "__dlpack_device__", None)
    if where is not None and where()[0] in (CUDA, CUDA_MANAGED):
        return True
    return getattr(value, "__cuda_array_interface__", None) is not None


def view(variable: Variable, name: str, value: Any, device: Device, stream: int) -> View:
    """An array on the device as an argument, ready for ``stream``. Nothing is copied or converted.

    Raises :class:`~symgraph.errors.DTypeError`, :class:`~symgraph.errors.RankError`, and
    :class:`~symgraph.errors.FormatError` for memory of another GPU or a tensor that its library does not hand out.
    """
    if isinstance(value, DeviceArray):
        found = View(value.memory.address, value.shape, value.dtype, None, value.memory)
        number = value.memory.device.number
    else:
        found, number = _foreign(name, value, device, stream)
    where = source.show(variable.sources)
    if number != device.number:
        raise FormatError(f"{name}: wanted an array on GPU {device.number}, got one on GPU {number}  {where}")
    if found.dtype != variable.type.dtype:
        raise DTypeError(
            f"{name}: wanted {variable.type}, got dtype {found.dtype}: arrays on a device are not converted  {where}"
        )
    if found.ndim != variable.type.ndim:
        raise RankError(f"{name}: wanted {variable.type}, got an array of shape {list(found.shape)}  {where}")
    if isinstance(found.keep, Memory):
        found.keep.use(stream)
    elif found.stream is not None and found.stream != stream:
        device.order(found.stream, stream)
    return found


def _foreign(name: str, value: Any, device: Device, stream: int) -> tuple[View, int]:
    """An array of another library, and the number of its GPU. DLPack first: PyTorch says no stream by the other."""
    if hasattr(value, "__dlpack_device__") and value.__dlpack_device__()[0] in (CUDA, CUDA_MANAGED):
        number = int(value.__dlpack_device__()[1])
        try:
            try:
                capsule = value.__dlpack__(stream=int(stream), max_version=(1, 0))  # PyTorch takes no class of int
            except TypeError:  # before DLPack 1.0
                capsule = value.__dlpack__(stream=int(stream))
            taken = Taken(capsule)
        except (BufferError, RuntimeError, ValueError) as error:
            raise FormatError(f"{name}: {type(value).__name__} does not hand out its memory: {error}") from error
        strides = _strided(taken.shape, taken.strides, taken.dtype)
        return View(taken.address, taken.shape, taken.dtype, strides, taken), number
    entry = value.__cuda_array_interface__
    if entry.get("mask") is not None:
        raise FormatError(f"{name}: masked arrays are not taken")
    shape, dtype = tuple(entry["shape"]), np.dtype(entry["typestr"])
    address = int(entry["data"][0])
    strides = entry.get("strides") or contiguous(shape, dtype.itemsize)
    found = View(address, shape, dtype, _strided(shape, tuple(strides), dtype), value, entry.get("stream"))
    return found, device.owner(address) if address else device.number


def _strided(shape: tuple[int, ...], strides: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[int, ...] | None:
    """Strides where they matter."""
    plain = contiguous(shape, dtype.itemsize)
    same = all(n == 1 or a == b for n, a, b in zip(shape, strides, plain, strict=True))
    return None if same or 0 in shape else strides


def handle(stream: Any) -> int:
    """The handle of a stream as a number: of CuPy, PyTorch, Numba, cuda.core, a number, or ``None``, the default.

    The number keeps the stream: memory is given back on it that may live longer than all else that knows of it.

    Raises :class:`~symgraph.errors.FormatError` for anything else.
    """
    if stream is None:
        return LEGACY
    if isinstance(stream, int) and not isinstance(stream, bool):
        return stream or LEGACY
    protocol = getattr(stream, "__cuda_stream__", None)
    if protocol is not None:
        return Stream(int((protocol() if callable(protocol) else protocol)[1]) or LEGACY, stream)
    for name in ("cuda_stream", "ptr", "handle"):  # of PyTorch, CuPy, Numba
        found = getattr(stream, name, None)
        if found is not None:
            return Stream(int(getattr(found, "value", found) or 0) or LEGACY, stream)
    raise FormatError(f"stream: wanted a CUDA stream or its handle, got {type(stream).__name__}")
