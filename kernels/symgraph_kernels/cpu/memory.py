"""Words, typed pointers and casts: how a CPU kernel reaches its operands.

Every name here is a Numba ``@intrinsic``, to be called from a kernel with the
signature ``kernel(args, lo, hi)`` where ``args`` is a ``pointer_int64``:

* ``pointer_<dtype>(word)``: a 64-bit word as a pointer. ``p[i]`` loads, ``p[i] = v`` stores; ``i`` is an int64, never
  negative.
* ``word_<dtype>(word)``: the scalar whose bits sit in the low bytes of the word.
* ``<dtype>(x)``: a cast, C's truncation (see :func:`convert`).

A dtype has a *memory* form and a *register* form. They differ for two: ``bool`` is a byte in memory (any nonzero byte
is true) and one bit in a register; ``float16`` is a half in memory and a float32 in a register, which ``float16(x)``
rounds to half precision.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.typing.templates import signature
from numba.extending import intrinsic, models, register_model

DTYPES: dict[str, Any] = {
    "bool": types.boolean,
    "int8": types.int8,
    "int16": types.int16,
    "int32": types.int32,
    "int64": types.int64,
    "uint8": types.uint8,
    "uint16": types.uint16,
    "uint32": types.uint32,
    "uint64": types.uint64,
    "float16": types.float32,
    "float32": types.float32,
    "float64": types.float64,
}
"""dtype name -> Numba type of the register form."""

I1, I8, I32, I64 = ir.IntType(1), ir.IntType(8), ir.IntType(32), ir.IntType(64)
HALF, FLOAT, DOUBLE = ir.HalfType(), ir.FloatType(), ir.DoubleType()

MEMORY: dict[str, ir.Type] = {
    "bool": I8,
    **{f"{sign}int{bits}": ir.IntType(bits) for sign in ("", "u") for bits in (8, 16, 32, 64)},
    "float16": HALF,
    "float32": FLOAT,
    "float64": DOUBLE,
}
"""dtype name -> LLVM type of the memory form."""


class Pointer(types.Type):
    """The Numba type of a pointer to the elements of a C-contiguous buffer."""

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype
        super().__init__(name=f"pointer_{dtype}")


@register_model(Pointer)
class PointerModel(models.PrimitiveModel):
    """A pointer is one LLVM pointer, in registers and in memory."""

    def __init__(self, dmm: Any, fe_type: Pointer) -> None:
        super().__init__(dmm, fe_type, MEMORY[fe_type.dtype].as_pointer())


POINTERS = {dtype: Pointer(dtype) for dtype in DTYPES}

Lowering = Callable[[Any, Any, Any, Any], Any]
Definition = Callable[..., tuple[Any, Lowering] | None]
"""Types and lowers a call: ``(typing_context, *types) -> (signature, lowering)``, or None where it does not apply."""


def load(builder: Any, pointer: Any, index: Any, dtype: str) -> Any:
    """Emit ``pointer[index]``; the result has the register form of ``dtype``."""
    # inbounds: no wrap-around of the address, which is what lets LLVM see consecutive accesses.
    value = builder.load(builder.gep(pointer, [index], inbounds=True, source_etype=MEMORY[dtype]), typ=MEMORY[dtype])
    if dtype == "bool":
        return builder.icmp_unsigned("!=", value, ir.Constant(I8, 0))
    return builder.fpext(value, FLOAT) if dtype == "float16" else value


def store(builder: Any, pointer: Any, index: Any, value: Any, dtype: str) -> None:
    """Emit ``pointer[index] = value``, ``value`` in the register form of ``dtype``."""
    if dtype == "bool":
        value = builder.zext(value, I8)
    elif dtype == "float16":
        value = builder.fptrunc(value, HALF)
    builder.store(value, builder.gep(pointer, [index], inbounds=True, source_etype=MEMORY[dtype]))


def from_word(builder: Any, word: Any, dtype: str) -> Any:
    """Emit the scalar of ``dtype`` (register form) whose bits are the low bytes of ``word``."""
    memory = MEMORY[dtype]
    bits = {"float16": 16, "float32": 32, "float64": 64}.get(dtype) or memory.width
    value = word if bits == 64 else builder.trunc(word, ir.IntType(bits))
    if dtype == "bool":
        return builder.icmp_unsigned("!=", value, ir.Constant(I8, 0))
    if dtype.startswith("float"):
        value = builder.bitcast(value, memory)
    return builder.fpext(value, FLOAT) if dtype == "float16" else value


def _double_to_odd_float(builder: Any, value: Any) -> Any:
    """Round float64 to float32 towards the odd neighbour, so that a second rounding to half is as good as one rounding.

    Boldo and Melquiond, "Emulation of FMA and correctly rounded sums: proved algorithms using rounding to odd", IEEE
    Trans. Comp. 2008.
    """
    nearest = builder.fptrunc(value, FLOAT)
    back = builder.fpext(nearest, DOUBLE)
    magnitude = ir.Constant(I64, (1 << 63) - 1)
    too_large = builder.icmp_unsigned(
        ">",
        builder.and_(builder.bitcast(back, I64), magnitude),
        builder.and_(builder.bitcast(value, I64), magnitude),
    )
    inexact = builder.fcmp_unordered("!=", back, value)
    bits = builder.sub(builder.bitcast(nearest, I32), builder.zext(builder.and_(too_large, inexact), I32))
    return builder.bitcast(builder.or_(bits, builder.zext(inexact, I32)), FLOAT)


def convert(builder: Any, value: Any, source: Any, dtype: str) -> Any:
    """Emit the cast of ``value`` (Numba type ``source``) to the register form of ``dtype``.

    Integers wrap; floats truncate towards zero to integers, and a float outside the range of its integer type
    (undefined in C) wraps where it fits in 64 bits, else gives any value; to bool everything nonzero is true, nan
    too; ``float16`` rounds once.
    """
    target = DTYPES[dtype]
    if isinstance(source, types.Boolean):
        if dtype == "bool":
            return value
        if dtype.startswith("float"):
            return builder.uitofp(value, DOUBLE if dtype == "float64" else FLOAT)
        return builder.zext(value, MEMORY[dtype])
    if isinstance(source, types.Integer):
        if dtype == "bool":
            return builder.icmp_unsigned("!=", value, ir.Constant(value.type, 0))
        if dtype.startswith("float"):
            wide = DOUBLE if dtype == "float64" else FLOAT
            number = builder.sitofp(value, wide) if source.signed else builder.uitofp(value, wide)
            # Beyond 2**24, where float32 rounds integers, a half is infinite anyway: two roundings are one.
            return builder.fpext(builder.fptrunc(number, HALF), FLOAT) if dtype == "float16" else number
        if source.bitwidth == target.bitwidth:
            return value
        if source.bitwidth > target.bitwidth:
            return builder.trunc(value, MEMORY[dtype])
        return builder.sext(value, MEMORY[dtype]) if source.signed else builder.zext(value, MEMORY[dtype])
    if dtype == "bool":
        return builder.fcmp_unordered("!=", value, ir.Constant(value.type, 0.0))
    if dtype == "float64":
        return value if source == types.float64 else builder.fpext(value, DOUBLE)
    if dtype == "float32":
        return value if source == types.float32 else builder.fptrunc(value, FLOAT)
    if dtype == "float16":
        single = value if source == types.float32 else _double_to_odd_float(builder, value)
        return builder.fpext(builder.fptrunc(single, HALF), FLOAT)
    if target.bitwidth < 32:
        return builder.trunc(builder.fptosi(value, I32), MEMORY[dtype])
    if dtype == "uint32":
        return builder.trunc(builder.fptosi(value, I64), I32)
    if dtype == "uint64":
        # Signed conversions only: -1.0 wraps to 2**64 - 1 as in NumPy, which the unsigned instruction would not give.
        half = ir.Constant(value.type, 2.0**63)
        small = builder.fcmp_ordered("<", value, half)
        signed = builder.fptosi(builder.select(small, value, builder.fsub(value, half)), I64)
        return builder.xor(signed, builder.select(small, ir.Constant(I64, 0), ir.Constant(I64, 1 << 63)))
    return builder.fptosi(value, MEMORY[dtype])


def _is_int64(ty: Any) -> bool:
    return bool(types.unliteral(ty) == types.int64)


def _pointer(dtype: str) -> Any:
    def define(typingctx: Any, word: Any) -> tuple[Any, Lowering] | None:
        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return builder.inttoptr(args[0], MEMORY[dtype].as_pointer())

        return (signature(POINTERS[dtype], types.int64), lower) if _is_int64(word) else None

    define.__name__ = f"pointer_{dtype}"
    return intrinsic(define)


def _word(dtype: str) -> Any:
    def define(typingctx: Any, word: Any) -> tuple[Any, Lowering] | None:
        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return from_word(builder, args[0], dtype)

        return (signature(DTYPES[dtype], types.int64), lower) if _is_int64(word) else None

    define.__name__ = f"word_{dtype}"
    return intrinsic(define)


def _cast(dtype: str) -> Any:
    def define(typingctx: Any, value: Any) -> tuple[Any, Lowering] | None:
        source = types.unliteral(value)
        if source not in REGISTERS:
            return None

        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return convert(builder, args[0], source, dtype)

        return signature(DTYPES[dtype], source), lower

    define.__name__ = dtype
    return intrinsic(define)


REGISTERS = frozenset(DTYPES.values())
"""The Numba types a value in a register can have."""

MEMORY_VOCABULARY: dict[str, Any] = {
    **{f"pointer_{dtype}": _pointer(dtype) for dtype in DTYPES},
    **{f"word_{dtype}": _word(dtype) for dtype in DTYPES},
    **{("boolean" if dtype == "bool" else dtype): _cast(dtype) for dtype in DTYPES},
}
"""Name in kernel source -> intrinsic, for pointers, words and casts."""
