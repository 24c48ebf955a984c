"""cuBLAS without a GPU: what ``nvmath.bindings.cublas`` has of it, over memory of the host, as its reference says.

Matrices are column-major. What the reference asks for is asked for here: a workspace given after the stream, leading
dimensions that are large enough, memory that is allocated. The workspace is written over, as the real one is.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

Work = Callable[[], object]
Start = Callable[[int, Work], object]
Where = Callable[[int], tuple[int, int]]


class Operation(IntEnum):
    """Of the real module: the tests compare them."""

    N = 0
    T = 1


class PointerMode(IntEnum):
    """As above."""

    HOST = 0


class Math(IntEnum):
    """As above."""

    DEFAULT_MATH = 0


class cuBLASError(Exception):
    """As above."""


class FakeCublas:
    """Stands in for the module. ``calls`` are names and arguments, without the handle.

    ``start(stream, work)`` puts work on a stream; ``where(address)`` says where the allocation of an address begins and
    ends.
    """

    Operation, PointerMode, Math, cuBLASError = Operation, PointerMode, Math, cuBLASError

    def __init__(self, start: Start, where: Where) -> None:
        self._start, self._where = start, where
        self.calls: list[tuple[Any, ...]] = []
        self.fails = ""
        self.handle = 0
        self.stream = -1
        self.workspace: tuple[int, int] | None = None

    def _called(self, name: str, handle: int, *args: Any) -> None:
        if self.fails == name:
            raise cuBLASError("NOT_SUPPORTED (15): the functionality requested is not supported")
        assert handle == self.handle != 0, "no handle"
        self.calls.append((name, *args))

    # The names of the parameters are the real ones': a test compares them.

    def create(self) -> int:
        """One for a device."""
        if self.fails == "create":
            raise cuBLASError("NOT_INITIALIZED (1): the library was not initialized")
        self.calls.append(("create",))
        self.handle += 77
        return self.handle

    def get_property(self, type: int) -> int:
        """Of the version: major, minor, patch."""
        return (13, 1, 0)[type]

    def set_pointer_mode(self, handle: int, mode: int) -> None:
        """Scalars lie in the memory of the host."""
        self._called("set_pointer_mode", handle, mode)
        assert mode == PointerMode.HOST

    def set_math_mode(self, handle: int, mode: int) -> None:
        """No less precision than asked for."""
        self._called("set_math_mode", handle, mode)
        assert mode == Math.DEFAULT_MATH

    def set_stream(self, handle: int, stream_id: int) -> None:
        """Takes the workspace away."""
        self._called("set_stream", handle, stream_id)
        self.stream, self.workspace = stream_id, None

    def set_workspace(self, handle: int, workspace: int, workspace_size_in_bytes: int) -> None:
        """Memory of the device's."""
        self._called("set_workspace", handle, workspace, workspace_size_in_bytes)
        assert workspace % 256 == 0
        assert workspace_size_in_bytes >= 4 * 2**20
        assert workspace + workspace_size_in_bytes <= self._where(workspace)[1]
        self.workspace = workspace, workspace_size_in_bytes

    def sgemm_64(
        self, handle: int, transa: int, transb: int, m: int, n: int, k: int, alpha: int, a: int, lda: int, b: int,
        ldb: int, beta: int, c: int, ldc: int,
    ) -> None:  # fmt: skip
        """One product of float32."""
        self._called("sgemm_64", handle, transa, transb, m, n, k)
        self._gemm("f4", transa, transb, m, n, k, alpha, a, lda, 0, b, ldb, 0, beta, c, ldc, 0, 1)

    def dgemm_64(
        self, handle: int, transa: int, transb: int, m: int, n: int, k: int, alpha: int, a: int, lda: int, b: int,
        ldb: int, beta: int, c: int, ldc: int,
    ) -> None:  # fmt: skip
        """One product of float64."""
        self._called("dgemm_64", handle, transa, transb, m, n, k)
        self._gemm("f8", transa, transb, m, n, k, alpha, a, lda, 0, b, ldb, 0, beta, c, ldc, 0, 1)

    def sgemm_strided_batched_64(
        self, handle: int, transa: int, transb: int, m: int, n: int, k: int, alpha: int, a: int, lda: int,
        stride_a: int, b: int, ldb: int, stride_b: int, beta: int, c: int, ldc: int, stride_c: int, batch_count: int,
    ) -> None:  # fmt: skip
        """Products of float32."""
        self._called("sgemm_strided_batched_64", handle, transa, transb, m, n, k, batch_count)
        self._gemm("f4", transa, transb, m, n, k, alpha, a, lda, stride_a, b, ldb, stride_b, beta, c, ldc, stride_c,
                   batch_count)  # fmt: skip

    def dgemm_strided_batched_64(
        self, handle: int, transa: int, transb: int, m: int, n: int, k: int, alpha: int, a: int, lda: int,
        stride_a: int, b: int, ldb: int, stride_b: int, beta: int, c: int, ldc: int, stride_c: int, batch_count: int,
    ) -> None:  # fmt: skip
        """Products of float64."""
        self._called("dgemm_strided_batched_64", handle, transa, transb, m, n, k, batch_count)
        self._gemm("f8", transa, transb, m, n, k, alpha, a, lda, stride_a, b, ldb, stride_b, beta, c, ldc, stride_c,
                   batch_count)  # fmt: skip

    def _gemm(
        self, dtype: str, transa: int, transb: int, m: int, n: int, k: int, alpha: int, a: int, lda: int,
        stride_a: int, b: int, ldb: int, stride_b: int, beta: int, c: int, ldc: int, stride_c: int, count: int,
    ) -> None:  # fmt: skip
        given = (m, n, k, alpha, a, lda, stride_a, b, ldb, stride_b, beta, c, ldc, stride_c, count)
        assert all(type(x) is int for x in given), given
        assert self.workspace is not None, "no workspace since the stream was set"
        assert min(m, n, k, count) > 0
        assert min(stride_a, stride_b, stride_c) >= 0
        rows_a, rows_b = (k if transa else m), (n if transb else k)
        if lda < rows_a or ldb < rows_b or ldc < m:
            raise cuBLASError("INVALID_VALUE (7): an unsupported value or parameter was passed to the function")
        assert count == 1 or stride_c >= ldc * (n - 1) + m, "matrices of C overlap"
        x, y = (float(np.frombuffer(ctypes.string_at(p, np.dtype(dtype).itemsize), dtype)[0]) for p in (alpha, beta))
        at, nbytes = self.workspace

        def run() -> None:
            assert not any(at <= p < at + nbytes for p in (a, b, c)), "the workspace is not free"
            ctypes.memset(at, 0xFF, min(nbytes, 4096))
            first = self._matrices(a, dtype, rows_a, m if transa else k, lda, stride_a, count)
            then = self._matrices(b, dtype, rows_b, k if transb else n, ldb, stride_b, count)
            out = self._matrices(c, dtype, m, n, ldc, stride_c, count)
            made = x * np.matmul(first.swapaxes(1, 2) if transa else first, then.swapaxes(1, 2) if transb else then)
            out[...] = made + y * out if y else made

        self._start(self.stream, run)

    def _matrices(
        self, address: int, dtype: str, rows: int, columns: int, leading: int, stride: int, count: int
    ) -> NDArray[Any]:
        item = np.dtype(dtype).itemsize
        extent = ((count - 1) * stride + (columns - 1) * leading + rows) * item
        start, end = self._where(address)
        assert start <= address <= address + extent <= end, "outside of what is allocated"
        memory: Any = (ctypes.c_char * extent).from_address(address)
        base = np.frombuffer(memory, dtype)
        return as_strided(base, (count, rows, columns), (stride * item, item, leading * item))
