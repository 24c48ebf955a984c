# mypy: disable-error-code="no-untyped-call"
"""The threads of a launch and their cooperation: which lane of which group a thread is, and what groups do together.

A block is ``blockDim.y`` groups of ``blockDim.x`` lanes, a power of two. Groups of at most 32 lanes lie side by side in
warps; a group of more is a whole block. ``gridDim.x`` blocks deal out groups; where groups do not cooperate, the lanes
of a group go on in ``gridDim.y`` blocks.

``THREADS`` maps names of kernel source to callables: ``lane() lanes() group() groups() thread() threads() barrier()``,
``atomic_add(buffer, at, value)``, ``fetch_2 fetch_4 put_2 put_4 aligned`` of
:mod:`~symgraph_kernels.cuda.memory`, and ``group_<function>_<dtype>(value, scratch)``, the combination of the lanes'
values, the same in every lane and in an order that is always the same; ``group_prefix_<function>_<dtype>`` is the
combination of the lanes up to this one, and that of all. Lanes exchange values by warp shuffles, and
warps through ``scratch`` in shared memory; in the simulator, which has no shuffles, all goes through shared memory.
"""

from __future__ import annotations

from typing import Any

from numba import cuda

from symgraph_kernels.cuda.define import MEMORY, SIMULATED, TYPES, device
from symgraph_kernels.cuda.scalar import SCALARS

# Bound when functions are made.
int64: Any = None
half: Any = None
single: Any = None
join: Any = None
pack: Any = None
unpack: Any = None


def lane():  # type: ignore[no-untyped-def]
    """This thread's number in its group."""
    # The mask changes nothing, and says that there is no sign: indices of shared memory are tested for one.
    return (int64(cuda.blockIdx.y) * cuda.blockDim.x + cuda.threadIdx.x) & 0x7FFFFFFF


def lanes():  # type: ignore[no-untyped-def]
    """How many lanes a group has."""
    return int64(cuda.gridDim.y) * cuda.blockDim.x


def group():  # type: ignore[no-untyped-def]
    """The number of this thread's group."""
    return int64(cuda.blockIdx.x) * cuda.blockDim.y + cuda.threadIdx.y


def groups():  # type: ignore[no-untyped-def]
    """How many groups there are."""
    return int64(cuda.gridDim.x) * cuda.blockDim.y


def thread():  # type: ignore[no-untyped-def]
    """This thread's number in the launch."""
    return int64(cuda.blockIdx.x) * cuda.blockDim.x + cuda.threadIdx.x


def threads():  # type: ignore[no-untyped-def]
    """How many threads there are."""
    return int64(cuda.gridDim.x) * cuda.blockDim.x


def rounded(x):  # type: ignore[no-untyped-def]
    """``x`` rounded to half precision, as registers hold it."""
    return single(half(x))


# -- on the device -----------------------------------------------------------------------------------------------------


def mask():  # type: ignore[no-untyped-def]
    """The lanes of this thread's group, as bits of its warp."""
    width = cuda.blockDim.x
    if width >= 32:
        return 0xFFFFFFFF
    return ((1 << width) - 1) << (cuda.laneid & ~(width - 1))


def barrier():  # type: ignore[no-untyped-def]
    """Wait for the lanes of the group, and see what they stored."""
    if cuda.blockDim.x > 32:
        cuda.syncthreads()
    else:
        cuda.syncwarp(mask())


def combine(value, scratch):  # type: ignore[no-untyped-def]
    """By a butterfly of shuffles in each warp, then the warps' results in order."""
    width = cuda.blockDim.x
    members = mask()
    step = min(width, 32) >> 1
    while step > 0:
        value = join(value, unpack(cuda.shfl_xor_sync(members, pack(value), step)))
        step = step >> 1
    if width > 32:
        cuda.syncthreads()
        if cuda.laneid == 0:
            scratch[cuda.threadIdx.x >> 5] = value
        cuda.syncthreads()
        value = unpack(scratch[0])
        for warp in range(1, width >> 5):
            value = join(value, unpack(scratch[warp]))
    return value


def prefix(value, scratch):  # type: ignore[no-untyped-def]
    """By shuffles from lanes below, in steps of 1, 2, 4, ...; then what the warps before have, in order."""
    width = cuda.blockDim.x
    near = min(width, 32)
    members = mask()
    place = cuda.laneid & (near - 1)
    step = 1
    while step < near:
        below = unpack(cuda.shfl_up_sync(members, pack(value), step))
        if place >= step:
            value = join(below, value)
        step = step << 1
    if width <= 32:
        return value, unpack(cuda.shfl_sync(members, pack(value), cuda.laneid | (near - 1)))
    own = cuda.threadIdx.x >> 5
    cuda.syncthreads()
    if place == 31:
        scratch[own] = value
    cuda.syncthreads()
    total = unpack(scratch[0])
    for warp in range(1, width >> 5):
        if warp == own:
            value = join(total, value)
        total = join(total, unpack(scratch[warp]))
    return value, total


# -- in the simulator --------------------------------------------------------------------------------------------------


def barrier_simulated():  # type: ignore[no-untyped-def]
    """Wait for the block, which is one group."""
    cuda.syncthreads()


def combine_simulated(value, scratch):  # type: ignore[no-untyped-def]
    """Through shared memory, in the order of the lanes."""
    if cuda.blockDim.x == 1:
        return value
    cuda.syncthreads()
    scratch[cuda.threadIdx.x] = value
    cuda.syncthreads()
    value = unpack(scratch[0])
    for other in range(1, cuda.blockDim.x):
        value = join(value, unpack(scratch[other]))
    return value


def prefix_simulated(value, scratch):  # type: ignore[no-untyped-def]
    """Through shared memory, in the order of the lanes."""
    cuda.syncthreads()
    scratch[cuda.threadIdx.x] = value
    cuda.syncthreads()
    total = unpack(scratch[0])
    for other in range(1, cuda.blockDim.x):
        if other == cuda.threadIdx.x:
            value = join(total, value)
        total = join(total, unpack(scratch[other]))
    return value, total


def atomic_add_simulated(buffer, at, value):  # type: ignore[no-untyped-def]
    """Add to an element of an array."""
    cuda.atomic.add(buffer, at, value)


def fetch_2_simulated(buffer, at):  # type: ignore[no-untyped-def]
    """Two neighbouring elements."""
    return buffer[at], buffer[at + 1]


def fetch_4_simulated(buffer, at):  # type: ignore[no-untyped-def]
    """Four neighbouring elements."""
    return buffer[at], buffer[at + 1], buffer[at + 2], buffer[at + 3]


def put_simulated(buffer, at, *values):  # type: ignore[no-untyped-def]
    """Store neighbouring elements."""
    for k, value in enumerate(values):
        buffer[at + k] = value


def aligned_simulated(buffer, at, count):  # type: ignore[no-untyped-def]
    """Whether ``count`` elements from ``buffer[at]`` on can be moved at once."""
    array = getattr(buffer, "_ary", None)  # first: the simulator's arrays look up other names among their elements
    array = getattr(buffer, "array", buffer) if array is None else array
    return (array.ctypes.data + at * array.itemsize) % (count * array.itemsize) == 0


# -- the table ---------------------------------------------------------------------------------------------------------

_JOINED = ("add", "multiply", "maximum", "minimum")


def _packing(dtype: str) -> dict[str, Any]:
    """What a value is for a shuffle, which moves 32 or 64 bits, and back."""
    if SIMULATED:
        from symgraph_kernels.cuda.simulated import caster

        return {"pack": caster(dtype), "unpack": caster(dtype)}
    wide = {"float32": "float32", "float64": "float64", "int64": "int64", "uint64": "int64"}.get(dtype, "int32")
    return {"pack": TYPES[wide], "unpack": TYPES[dtype]}


def _int64() -> Any:
    return int if SIMULATED else TYPES["int64"]


def _table() -> dict[str, Any]:
    base = {"cuda": cuda, "int64": _int64()}
    table = {f.__name__: device(f, "int64", base) for f in (lane, lanes, group, groups, thread, threads)}
    if SIMULATED:
        both = {"cuda": cuda}
        table["barrier"] = device(barrier_simulated, _none, both)
        table["atomic_add"] = device(atomic_add_simulated, _none, both)
        table |= {"fetch_2": fetch_2_simulated, "fetch_4": fetch_4_simulated, "aligned": aligned_simulated}
        table |= dict.fromkeys(("put_2", "put_4"), put_simulated)
        how, along = combine_simulated, prefix_simulated
    else:
        from symgraph_kernels.cuda import memory

        both = {"cuda": cuda, "mask": device(mask, _mask, {"cuda": cuda})}
        table["barrier"] = device(barrier, _none, both)
        for name in ("atomic_add", "fetch_2", "fetch_4", "put_2", "put_4", "aligned"):
            table[name] = getattr(memory, name)
        how, along = combine, prefix
    for dtype in TYPES:
        if dtype == "float16":
            continue
        for fn in ("logical_or", "logical_and") if dtype == "bool" else _JOINED:
            names = {**both, **_packing(dtype), "join": SCALARS[f"{fn}_{dtype}"]}
            table[f"group_{fn}_{dtype}"] = device(how, dtype, names)
            table[f"group_prefix_{fn}_{dtype}"] = device(along, _pair, names)
    return table


def _none(*operands: Any) -> Any:
    from numba.cuda import types

    return types.void


def _pair(value: Any, scratch: Any) -> Any:
    from numba.cuda import types

    return types.UniTuple(value, 2)


def _mask() -> Any:
    from numba.cuda import types

    return types.uint32


def _casts() -> dict[str, Any]:
    """The names of dtypes as casts of values in registers, and ``half``, a value as half precision has it in memory."""
    if SIMULATED:
        from symgraph_kernels.cuda.simulated import caster

        casts = {dtype: caster(dtype) for dtype in TYPES if dtype not in ("bool", "float16")}
        half, single = caster("float16"), caster("float32")
    else:
        casts = {dtype: kind for dtype, kind in TYPES.items() if dtype not in ("bool", "float16")}
        half, single = MEMORY["float16"], TYPES["float32"]
    return {**casts, "half": half, "float16": device(rounded, "float32", {"half": half, "single": single})}


THREADS: dict[str, Any] = _table()


def _memory() -> dict[str, Any]:
    """``cuda.shared.array``, and the types of its elements."""
    if SIMULATED:
        from symgraph_kernels.cuda.simulated import Cuda

        return {"cuda": Cuda, **{f"memory_{dtype}": dtype for dtype in MEMORY}}
    return {"cuda": cuda, **{f"memory_{dtype}": kind for dtype, kind in MEMORY.items()}}


VOCABULARY: dict[str, Any] = {
    "range": range,
    **SCALARS,
    **THREADS,
    **_casts(),
    **_memory(),
}
"""All names of kernel source; ``memory_<dtype>`` are the types of scratch memory."""
