"""Who computes a matrix product on a GPU: cuBLAS, symgraph's own kernel of tiles, or a kernel like any reduction's.

A function's option ``blas`` decides: ``"tiles"`` never calls cuBLAS, ``"cublas"`` gives it every product of matrices,
and ``"auto"``, where it is installed, those that arithmetic bounds. Arithmetic on paper (nothing was measured), for a
multiprocessor that starts 128 fused multiply-adds of float32 a clock and reads 32 words of shared memory:

* The tiles read 8 words for 16 multiply-adds, so they reach half of the float32 peak, and in float64 a quarter of the
  peak of tensor cores, which cuBLAS uses on compute capability 8.0 and 9.0. They are bound by memory, as cuBLAS would
  be, below 10 FLOPs a byte of float32 and 5 of float64 (an H100's 67 TFLOP/s and 3.35 TB/s). With
  2 m n k FLOPs on s (m k + k n + m n) bytes, both are 1 / (1/m + 1/n + 1/k) = 20.
* What follows element by element is computed in the tiles' own kernel, and is a pass of its own after cuBLAS: 2 s m n
  bytes. That is more time than cuBLAS saves where k is below 80 in float32, and 53 in float64.
* A product with fewer tiles than the GPU has multiprocessors takes the tiles 64 clocks or more for each of k terms,
  however small it is. Up to 128 terms that is 5 µs, about what a launch and the pass after it cost. Beyond, cuBLAS has
  smaller tiles, and shares k out.
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
DENSE = 20.0
"""Of 1 / (1/m + 1/n + 1/k), from which on arithmetic bounds the tiles."""
DEEP = 80
"""Terms of a sum from which on cuBLAS makes up for a pass over the result."""
FEW = 2**19
"""Elements of results that some 130 tiles have: one for each multiprocessor."""
LONG = 128
"""Terms of a sum up to which one tile is done before a launch would be."""


@dataclass(frozen=True)
class Blas:
    """Who computes which product. ``option`` is one of :data:`OPTIONS`."""

    option: str = "tiles"

    def by_cublas(self, call: LibraryCall) -> bool:
        """Whether cuBLAS computes a product. Sizes that are not known count as large."""
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
    """Whether cuBLAS is likely to compute a product sooner, with what follows it."""
    x = call.matrices
    m, n, k = sizes = [s if isinstance(s, int) else math.inf for s in (x.m, x.n, x.k)]
    if not min(sizes):
        return False
    if m * n * math.prod(b[0] if isinstance(b[0], int) else math.inf for b in x.batch) <= FEW:
        return k > LONG and min(m, n) >= products.LEAST
    return k >= DEEP and 1 / m + 1 / n + 1 / k <= 1 / DENSE


def gemm(call: LibraryCall) -> tuple[Gemm, list[Variable | Size | Workspace]]:
    """A product as a call of cuBLAS: what is fixed, and what its words are bound to."""
    x = call.matrices
    out = call.node.outputs[0]
    batch = [(1, 0, 0, 0)] * (2 - len(x.batch)) + list(x.batch)
    (outer, a_outer, b_outer, c_outer), (inner, a_inner, b_inner, c_inner) = batch
    words: dict[str, Variable | Size] = {
        "m": x.m, "n": x.n, "k": x.k,
        "a": x.a.base, "a_offset": x.a.offset, "lda": x.lda,
        "b": x.b.base, "b_offset": x.b.offset, "ldb": x.ldb,
        "c": out, "ldc": x.ldc,
        "outer": outer, "inner": inner,
        "a_outer": a_outer, "a_inner": a_inner, "b_outer": b_outer, "b_inner": b_inner,
        "c_outer": c_outer, "c_inner": c_inner,
    }  # fmt: skip
    made = Gemm(out.type.dtype.name, x.trans_a, x.trans_b, call.accumulates, lines(call.nodes))
    return made, [*(words[name] for name in cublas.VALUES), Workspace()]
