"""The BLAS kernels of symgraph_kernels, compiled, kept on disk and linked as all native code is."""

from __future__ import annotations

import os
import threading

from symgraph.runtime.interrupts import uninterrupted
from symgraph.runtime.objects import load_cached

_lock = threading.Lock()
_addresses: dict[str, int] = {}


def blas_kernels(cache_dir: str | os.PathLike[str] | None = None) -> dict[str, int]:
    """Addresses of gemm_f32 and gemm_f64 (see symgraph_kernels.cpu.blas.Gemm for their argument words).

    The first call of the process loads them, from `cache_dir` where their object code is there.
    """
    from symgraph_kernels.cpu import blas

    with _lock, uninterrupted():
        if not _addresses:
            _addresses.update(load_cached(cache_dir, "blas", blas.source_key(), blas.ir_text, blas.NAMES, opt=0))
    return dict(_addresses)
