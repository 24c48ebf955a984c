"""Elements of buffers: what NumPy's arrays do by themselves, and pointers on a device do not."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.cuda import nvvmutils, types
from numba.cuda.extending import intrinsic


def _atomic_add(typing_context: Any, buffer: Any, at: Any, value: Any) -> Any:
    """``buffer[at] += value`` in one step."""
    element = buffer.dtype

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer, index, added = args
        where = builder.gep(pointer, [index], inbounds=True)
        if element == types.float32:
            builder.call(nvvmutils.declare_atomic_add_float32(builder.module), (where, added))
        elif element == types.float64:
            builder.call(nvvmutils.declare_atomic_add_float64(builder.module), (where, added))
        else:
            builder.atomic_rmw("add", where, added, "monotonic")
        return ir.Constant(ir.IntType(8).as_pointer(), None)

    return types.void(buffer, types.int64, element), codegen


atomic_add: Any = intrinsic(_atomic_add)
"""``atomic_add(buffer, at, value)``"""
