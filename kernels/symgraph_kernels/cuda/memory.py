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


# -- several neighbouring elements at once -----------------------------------------------------------------------------


def _vector(context: Any, builder: Any, buffer: Any, pointer: Any, index: Any, count: int) -> Any:
    """The address of element ``index`` as that of a vector of ``count`` elements, and its alignment in bytes."""
    element = context.get_data_type(buffer.dtype)
    where = builder.gep(pointer, [index], inbounds=True)
    bits = buffer.dtype.bitwidth
    return builder.bitcast(where, ir.VectorType(element, count).as_pointer()), count * bits // 8


def _fetch(count: int) -> Any:
    def fetch(typing_context: Any, buffer: Any, at: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            pointer, index = args
            where, align = _vector(context, builder, buffer, pointer, index, count)
            loaded = builder.load(where)
            loaded.align = align
            parts = [builder.extract_element(loaded, ir.Constant(ir.IntType(32), k)) for k in range(count)]
            return context.make_tuple(builder, signature.return_type, parts)

        return types.UniTuple(buffer.dtype, count)(buffer, types.int64), codegen

    return intrinsic(fetch)


def _put_codegen(count: int, buffer: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer, index, *values = args
        where, align = _vector(context, builder, buffer, pointer, index, count)
        vector = ir.Constant(where.type.pointee, ir.Undefined)
        for k, value in enumerate(values):
            vector = builder.insert_element(vector, value, ir.Constant(ir.IntType(32), k))
        builder.store(vector, where).align = align
        return ir.Constant(ir.IntType(8).as_pointer(), None)

    return codegen


def _put_2(typing_context: Any, buffer: Any, at: Any, a: Any, b: Any) -> Any:
    return types.void(buffer, types.int64, *[buffer.dtype] * 2), _put_codegen(2, buffer)


def _put_4(typing_context: Any, buffer: Any, at: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    return types.void(buffer, types.int64, *[buffer.dtype] * 4), _put_codegen(4, buffer)


def _aligned(typing_context: Any, buffer: Any, at: Any, count: Any) -> Any:
    """Whether ``count`` elements from ``buffer[at]`` on can be moved at once: a power of two."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer, index, n = args
        word = ir.IntType(64)
        address = builder.ptrtoint(builder.gep(pointer, [index], inbounds=True), word)
        low = builder.sub(builder.mul(n, ir.Constant(word, buffer.dtype.bitwidth // 8)), ir.Constant(word, 1))
        return builder.icmp_unsigned("==", builder.and_(address, low), ir.Constant(word, 0))

    return types.boolean(buffer, types.int64, types.int64), codegen


fetch_2, fetch_4, put_2, put_4 = _fetch(2), _fetch(4), intrinsic(_put_2), intrinsic(_put_4)
aligned: Any = intrinsic(_aligned)
"""``a, b = fetch_2(buffer, at)``, ``put_2(buffer, at, a, b)``, ``aligned(buffer, at, count)``"""
