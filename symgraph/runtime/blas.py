"""Who computes a matrix product on a GPU: cuBLAS, symgraph's own kernel of tiles, or a kernel like any reduction's.

A function's option ``blas`` decides: ``"tiles"`` never calls cuBLAS, ``"cublas"`` gives it every product of matrices in
float32 and float64, and ``"auto"``, where it is installed, those that a model on paper says it computes sooner. Nothing
of the model was measured. Its figures are an H100's, and time is counted in bytes that memory could have moved:

* A product of m n k takes ``2 m n k / (20 r)``, or its bytes where they are more: an H100 does 67 TFLOP/s, float64 on
  tensor cores, and moves 3.35 TB/s, that is 20 FLOPs a byte. cuBLAS reaches them, r = 1.
* The tiles reach half in float32, r = 0.5: a thread reads 8 words of shared memory for 16 multiply-adds, and a
  multiprocessor reads 32 words a clock and starts 128 of those. In float64 r = 0.25, since they use no tensor cores.
  Their m and n are whole tiles, and of 132 multiprocessors those have work that have a tile.
* What follows element by element is part of the tiles' kernel. After cuBLAS it is a pass, which reads and writes the
  result, and a launch: 2 µs, or 7 MB.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from symgraph.errors import FormatError
from symgraph.graph import Variable
from symgraph.passes.library import LibraryCall
from symgraph.runtime import cublas, products
from symgraph.runtime.checks import lines
from symgraph.runtime.cublas import Gemm, Workspace
from symgraph.types import Size

OPTIONS = ("auto", "cublas", "tiles")
RIDGE = 20.0
"""FLOPs for each byte that memory moves meanwhile."""
REACHED = {"float32": 0.5, "float64": 0.25}
"""The share of the arithmetic that tiles can reach."""
TILE = 64
"""Rows and columns of a tile."""
PROCESSORS = 132
LAUNCH = 7e6
"""Bytes that memory moves while a kernel starts."""
UNKNOWN = 4096
"""What a size that is not known counts as."""


@dataclass(frozen=True)
class Blas:
    """Who computes which product. ``option`` is one of :data:`OPTIONS`."""

    option: str = "tiles"

    def by_cublas(self, call: LibraryCall) -> bool:
        """Whether cuBLAS computes a product."""
        if self.option == "auto":
            return worth_cublas(call) and not cublas.missing()
        return self.option == "cublas"

    def accepts(self, call: LibraryCall) -> bool:
        """Whether a product is a step of its own."""
        return self.by_cublas(call) or products.accepts(call)

    def takes_epilogue(self, call: LibraryCall) -> bool:
        """Whether what follows the product, element by element, can be computed by the product's own kernel."""
        return not self.by_cublas(call) and products.takes_epilogue(call)


def check_blas(blas: str) -> None:
    """Raise :class:`~symgraph.errors.FormatError` for an option that there is not."""
    if blas not in OPTIONS:
        raise FormatError(f"blas: {blas!r} is not among {', '.join(map(repr, OPTIONS))}")


def require_blas(blas: str) -> None:
    """As :func:`check_blas`; and raise :class:`~symgraph.errors.MissingDeviceError` where it cannot be used here."""
    check_blas(blas)
    if blas == "cublas":
        cublas.require()


def worth_cublas(call: LibraryCall) -> bool:
    """Whether cuBLAS is likely to compute a product sooner than tiles, with what follows it."""
    x, dtype = call.matrices, call.product.type.dtype
    m, n, k = (s if isinstance(s, int) else UNKNOWN for s in (x.m, x.n, x.k))
    count = math.prod(b[0] if isinstance(b[0], int) else UNKNOWN for b in x.batch)
    if min(m, n) < products.LEAST or not k * count:
        return False
    result = m * n * count * dtype.itemsize
    moved = result + (m * k + k * n) * count * dtype.itemsize
    tiles = math.ceil(m / TILE) * math.ceil(n / TILE) * count
    busy = min(1.0, tiles / PROCESSORS)
    by_tiles = max(moved, 2 * tiles * TILE**2 * k / (RIDGE * REACHED[dtype.name] * busy))
    by_cublas = max(moved, 2 * m * n * k * count / RIDGE) + 2 * result + LAUNCH
    return by_cublas < by_tiles


def gemm(call: LibraryCall) -> tuple[Gemm, list[Variable | Size | Workspace]]:
    """A product as a call of cuBLAS: what is fixed, and what its words are bound to."""
    x = call.matrices
    words = {**x.words(), "c": call.product}
    made = Gemm(call.product.type.dtype.name, x.trans_a, x.trans_b, call.accumulates, lines(call.nodes))
    return made, [*(words[name] for name in cublas.VALUES), Workspace()]
