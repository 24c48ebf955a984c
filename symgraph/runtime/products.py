"""Matrix products on a GPU: which are computed in tiles of shared memory, by which kernel, and on what.

The kernel is ``symgraph_kernels.cuda.matmul``. Where that is left out, and for products that would leave most of a tile
empty, the index form is dealt out to threads like any other reduction.
"""

from __future__ import annotations

import hashlib
from functools import cache
from types import ModuleType

import numpy as np

from symgraph.emit.numba_cuda import in_simulator
from symgraph.emit.python import CUDA, statements, typed
from symgraph.graph import Variable
from symgraph.loop.epilogue import epilogue, loops
from symgraph.loop.ir import LoopKernel, Param
from symgraph.loop.schedule import Launch
from symgraph.passes.library import LibraryCall
from symgraph.types import Size, floordiv
from symgraph.types import product as product_of

LEAST = 16
"""Rows and columns from which on tiles are used: fewer would keep a quarter of a tile's threads busy."""
LEAST_INNER = 4
"""Terms of a sum from which on tiles are used."""
MANY = 1024
"""Rows and columns from which on there are enough large tiles for all multiprocessors."""
INT = np.dtype("int64")


@cache
def _kernels() -> ModuleType | None:
    try:
        from symgraph_kernels.cuda import matmul
    except ImportError:
        return None
    return matmul


def accepts(call: LibraryCall) -> bool:
    """Whether a matrix product is worth tiles, as far as sizes are known."""
    x = call.matrices
    wanted = ((x.m, LEAST), (x.n, LEAST), (x.k, LEAST_INNER))
    return _kernels() is not None and all(not isinstance(n, int) or n >= least for n, least in wanted)


def takes_epilogue(call: LibraryCall) -> bool:
    """Whether what follows the product, element by element, can be computed by the product's own kernel."""
    return accepts(call)


def product(
    call: LibraryCall,
) -> tuple[str, str, LoopKernel, list[Variable | Size | np.generic], Launch]:
    """Name, source, loops and what their parameters are bound to, and launch of a product that :func:`accepts` takes.

    The loops are those over all elements, without what a tile is made of.
    """
    kernels = _kernels()
    assert kernels is not None
    x = call.matrices
    dtype = call.product.type.dtype
    large = dtype == np.float32 and all(isinstance(n, int) and n >= MANY for n in (x.m, x.n))
    tiles = kernels.SMALL if in_simulator() else kernels.LARGE if large else kernels.MEDIUM
    after = epilogue(call)
    lines, own = statements(after.body, CUDA), [typed(p) for p in after.params]
    text = kernels.source("{}", dtype.name, x.trans_a, x.trans_b, tiles, lines, own)
    name = f"matmul_{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    values = x.words()
    params = [Param(p, kind, dtype if kind == "buffer" else INT) for p, kind in kernels.PARAMETERS]
    matrices = product_of(b[0] for b in x.batch)
    groups = floordiv(x.m + tiles.m - 1, tiles.m) * floordiv(x.n + tiles.n - 1, tiles.n) * matrices
    launch = Launch("groups", groups, tiles.threads, cooperates=True, width=tiles.threads)
    bindings = [*(values[p.name] for p in params), *after.bindings]
    return name, text.replace("{}", name, 1), loops(call, after, params), bindings, launch
