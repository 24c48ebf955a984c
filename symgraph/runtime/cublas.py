"""Matrix products by cuBLAS, through nvmath-python's bindings (``nvmath.bindings.cublas``), where both are installed.

::

    missing() -> str                          what keeps cuBLAS from being used here; empty where nothing does
    library(device) -> Library                cuBLAS on a device, one for all programs
    Library.multiply(gemm, clear, values, stream)

Facts of the cuBLAS reference that this rests on: matrices are column-major, so that of row-major ones the product of
the swapped operands is computed; ``cublasSetStream`` takes the workspace away, which ``cublasSetWorkspace`` gives after
it; a workspace lies at a multiple of 256 bytes, and two streams must not work in one at the same time; with a workspace
of the caller's nothing is allocated while a graph is captured, and results are the same from run to run; with pointers
to host memory, ``alpha`` and ``beta`` are read when the call is made; the math mode "default" computes float32 in
float32, without TF32, and float64 on tensor cores where the GPU has them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from symgraph.errors import DeviceError, MissingDeviceError
from symgraph.runtime.arrays import Device, Span

INSTALL = "pip install 'symgraph-compiler[cublas]'"
VALUES = (
    "m", "n", "k", "a", "a_offset", "lda", "b", "b_offset", "ldb", "c", "ldc", "outer", "inner",
    "a_outer", "a_inner", "b_outer", "b_inner", "c_outer", "c_inner",
)  # fmt: skip
"""What a product works on, in order, row-major, in elements: those of ``symgraph_kernels.cuda.matmul``. The workspace
is last."""
LETTERS = {"float32": "s", "float64": "d"}
_SCALARS = {name: (np.zeros(1, name), np.ones(1, name)) for name in LETTERS}

Clear = Callable[[Span, int], None]
"""Sets bytes to zero, on a stream."""


@dataclass(frozen=True)
class Gemm:
    """What is known of a product when the program is made.

    Attributes:
        dtype: ``"float32"`` or ``"float64"``.
        trans_a, trans_b: whether the operands are stored transposed.
        accumulates: whether the product is added to what C has.
        line: the user's line, for errors.
    """

    dtype: str
    trans_a: bool
    trans_b: bool
    accumulates: bool
    line: str = ""

    @property
    def name(self) -> str:
        """Of the step in a program."""
        return f"cublas_{LETTERS[self.dtype]}gemm"


class Workspace:
    """A word that stands for the workspace of the program."""


@cache
def _found() -> tuple[Any, str]:
    """The bindings with cuBLAS loaded, or what is missing."""
    from symgraph.emit.numba_cuda import simulated

    try:
        if simulated():
            return None, "Numba's simulator has no cuBLAS"
    except MissingDeviceError as absent:
        return None, str(absent)
    if find_spec("nvmath") is None:
        return None, f"nvmath-python is not installed: {INSTALL}"
    try:
        # First, and by the loader of the bindings: theirs needs a driver, and a program is lowered without one.
        import_module("cuda.pathfinder").load_nvidia_dynamic_lib("cublas")
    except (ImportError, RuntimeError):
        return None, f"the library cuBLAS is not found: {INSTALL}"
    try:
        return import_module("nvmath.bindings.cublas"), ""
    except (ImportError, RuntimeError) as broken:
        return None, f"nvmath-python does not load ({_first(broken)}): {INSTALL}"


def _first(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]


def missing() -> str:
    """What keeps cuBLAS from being used here, and what to install; empty where nothing does. Needs no GPU."""
    return str(_found()[1])


def require() -> None:
    """Raise :class:`~symgraph.errors.MissingDeviceError` where cuBLAS cannot be used: it says what is missing."""
    if missing():
        raise MissingDeviceError(
            f"blas='cublas': {missing()}; blas='tiles' computes products by symgraph's own kernels"
        )


def described(device: Device) -> str:
    """Whether cuBLAS can be used on a device, in words: its version, or what is missing."""
    if missing():
        return f"no cuBLAS: {missing()}"
    with device.current():
        return f"cuBLAS {library(device).version}"


_libraries: WeakKeyDictionary[Device, Library] = WeakKeyDictionary()
_lock = threading.Lock()


def library(device: Device) -> Library:
    """cuBLAS on a device, which has to be the thread's current one. Made by the first program that needs it.

    Raises:
        DeviceError: it does not start.
    """
    with _lock:
        found = _libraries.get(device)
        if found is None:
            found = _libraries[device] = Library(_found()[0], getattr(device, "cc", (0, 0)))
        return found


class Library:
    """cuBLAS on a device: one handle, which threads take turns with.

    Attributes:
        workspace: bytes that a program gives it to work in: what the reference recommends, 32 MiB from compute
            capability 9.0 on, and 4 MiB before.
        version: of the library, such as ``"13.1.0"``.
    """

    def __init__(self, bindings: Any, cc: tuple[int, int]) -> None:
        self._b = b = bindings
        self._turn = threading.Lock()
        self.workspace = (32 if cc >= (9, 0) else 4) * 2**20
        try:
            self._handle = b.create()
            b.set_pointer_mode(self._handle, int(b.PointerMode.HOST))
            b.set_math_mode(self._handle, int(b.Math.DEFAULT_MATH))
            self.version = ".".join(str(b.get_property(part)) for part in range(3))
        except Exception as error:  # the bindings raise classes of their own, with no common base
            raise DeviceError(f"cuBLAS does not start: {_first(error)}; blas='tiles' does without it") from error
        # With sizes of 64 bits, which cuBLAS has had since its version 12, the oldest that the bindings load.
        self._one = {"float32": b.sgemm_64, "float64": b.dgemm_64}
        self._many = {"float32": b.sgemm_strided_batched_64, "float64": b.dgemm_strided_batched_64}

    def multiply(self, gemm: Gemm, clear: Clear, values: Sequence[Any], stream: int) -> None:
        """Start C (+)= op(A) op(B) for a batch. ``values`` are those of :data:`VALUES` and the workspace.

        Raises:
            DeviceError: cuBLAS refuses.
        """
        *words, workspace = values
        x = dict(zip(VALUES, words, strict=True))
        m, n, k, c = x["m"], x["n"], x["k"], x["c"]
        if not (m and n and x["outer"] and x["inner"]):
            return
        if not k:  # C is a whole tensor
            if not gemm.accumulates:
                clear(c, stream)
            return
        zero, one = _SCALARS[gemm.dtype]
        alpha, beta = one.ctypes.data, (one if gemm.accumulates else zero).ctypes.data
        item = one.itemsize
        a, b = (x[v].address + x[f"{v}_offset"] * item for v in "ab")
        lda = _leading(x["lda"], k, m) if gemm.trans_a else _leading(x["lda"], m, k)
        ldb = _leading(x["ldb"], n, k) if gemm.trans_b else _leading(x["ldb"], k, n)
        ldc = _leading(x["ldc"], m, n)
        plain, transposed = int(self._b.Operation.N), int(self._b.Operation.T)
        # What is row-major is the transpose to cuBLAS: C' = op(B)' op(A)'.
        shape = transposed if gemm.trans_b else plain, transposed if gemm.trans_a else plain, n, m, k
        turns, along = batches(*(Axis(x[w], *(x[f"{v}_{w}"] for v in "abc")) for w in ("outer", "inner")))
        try:
            with self._turn:
                self._b.set_stream(self._handle, stream)
                self._b.set_workspace(self._handle, *workspace)
                for of_a, of_b, of_c in turns:
                    to_a, to_b, to_c = a + of_a * item, b + of_b * item, c.address + of_c * item
                    if along.size == 1:  # the function that everybody calls, and the vendor tunes first
                        self._one[gemm.dtype](self._handle, *shape, alpha, to_b, ldb, to_a, lda, beta, to_c, ldc)
                    else:
                        self._many[gemm.dtype](
                            self._handle, *shape, alpha, to_b, ldb, along.b, to_a, lda, along.a,
                            beta, to_c, ldc, along.c, along.size,
                        )  # fmt: skip
        except Exception as error:  # as above
            raise DeviceError(f"cuBLAS: {_first(error)}   {gemm.line}".rstrip()) from error


class Axis(NamedTuple):
    """An axis of a batch: how many matrices, and the distances between those of A, B and C, in elements."""

    size: int
    a: int
    b: int
    c: int


def batches(outer: Axis, inner: Axis) -> tuple[list[tuple[int, int, int]], Axis]:
    """Two axes as several calls that go along one: where A, B and C begin in each, and that axis.

    Two axes of even steps are one axis. Otherwise there is a call for each place on the shorter one. The reference does
    not say that matrices may lie in backward order: each then has a call.
    """
    if outer[1:] == tuple(inner.size * step for step in inner[1:]):
        outer, inner = Axis(1, 0, 0, 0), Axis(outer.size * inner.size, *inner[1:])
    few, along = sorted((outer, inner), key=lambda axis: axis.size)
    turns = [_steps(few, i) for i in range(few.size)]
    if min(along[1:]) < 0:
        rest = [_steps(along, i) for i in range(along.size)]
        turns = [(a + da, b + db, c + dc) for a, b, c in turns for da, db, dc in rest]
        along = Axis(1, 0, 0, 0)
    return turns, along


def _steps(axis: Axis, n: int) -> tuple[int, int, int]:
    return axis.a * n, axis.b * n, axis.c * n


def _leading(stored: int, rows: int, width: int) -> int:
    """The leading dimension of a matrix that is stored in so many rows: with one row, it means nothing and has to be
    large enough all the same."""
    return stored if rows > 1 else max(stored, width)
