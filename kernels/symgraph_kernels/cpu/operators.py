"""What Python's operators, indexing and ``range`` mean in a kernel.

:data:`OPERATORS` maps what Numba's front end calls (``operator.add``, ``operator.getitem``, ``range``, ``"getiter"``,
...) to a :data:`~symgraph_kernels.cpu.memory.Definition`. Both operands of an arithmetic operator have one type,
which is also the type of the result: nothing is promoted. Integers wrap; floats follow IEEE 754 with no fast-math
flag.

``//`` and ``%`` are for sizes and indices: rounded down as in Python, the divisor never zero. Divisions of user data
go through ``floor_divide`` and ``remainder``, which define division by zero.

``range`` and :data:`vector_range` yield int64. ``vector_range`` states in addition that no iteration of the loop
reads or writes memory that another one writes: such a loop vectorizes without run-time checks of aliasing. Buffers
that are one and the same, read and written at the same index in one iteration, are fine; a loop that adds into memory
which does not move with its index is not.
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.typing.templates import signature
from numba.extending import models, register_model

from symgraph_kernels.cpu.memory import DTYPES, I1, I64, REGISTERS, Definition, Lowering, Pointer, load, store


class VectorRange:
    """The marker that kernels know as ``vector_range``: a range whose iterations are independent in memory."""

    def __repr__(self) -> str:
        return "vector_range"


vector_range = VectorRange()


class Range(types.SimpleIterableType):
    """A range of int64; ``vector`` states that its iterations are independent in memory."""

    def __init__(self, vector: bool) -> None:
        self.vector = vector
        super().__init__("vector_range" if vector else "range", RangeIterator(vector))


class RangeIterator(types.SimpleIteratorType):
    """The iterator of a :class:`Range`."""

    def __init__(self, vector: bool) -> None:
        self.vector = vector
        super().__init__("vector_range_iterator" if vector else "range_iterator", types.int64)


@register_model(Range)
class RangeModel(models.StructModel):
    """Start, stop, step."""

    def __init__(self, dmm: Any, fe_type: Range) -> None:
        super().__init__(dmm, fe_type, [("start", types.int64), ("stop", types.int64), ("step", types.int64)])


@register_model(RangeIterator)
class RangeIteratorModel(models.StructModel):
    """Slot of the next value, stop, step."""

    def __init__(self, dmm: Any, fe_type: RangeIterator) -> None:
        super().__init__(
            dmm, fe_type, [("slot", types.CPointer(types.int64)), ("stop", types.int64), ("step", types.int64)]
        )


RANGES = {vector: Range(vector) for vector in (False, True)}


def _range(vector: bool) -> Definition:
    def define(typingctx: Any, *bounds: Any) -> tuple[Any, Lowering] | None:
        if not 1 <= len(bounds) <= 3 or any(types.unliteral(bound) != types.int64 for bound in bounds):
            return None

        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            start = ir.Constant(I64, 0) if len(args) == 1 else args[0]
            stop = args[0] if len(args) == 1 else args[1]
            step = args[2] if len(args) == 3 else ir.Constant(I64, 1)
            value = ir.Constant(context.get_value_type(sig.return_type), ir.Undefined)
            for position, field in enumerate((start, stop, step)):
                value = builder.insert_value(value, field, position)
            return value

        return signature(RANGES[vector], *(types.int64 for _ in bounds)), lower

    return define


def _getiter(typingctx: Any, iterable: Any) -> tuple[Any, Lowering] | None:
    if not isinstance(iterable, Range):
        return None

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        with builder.goto_entry_block():
            slot = builder.alloca(I64)
        builder.store(builder.extract_value(args[0], 0), slot)
        value = ir.Constant(context.get_value_type(sig.return_type), ir.Undefined)
        value = builder.insert_value(value, slot, 0)
        for position in (1, 2):
            value = builder.insert_value(value, builder.extract_value(args[0], position), position)
        return value

    return signature(iterable.iterator_type, iterable), lower


def _iternext(typingctx: Any, iterator: Any) -> tuple[Any, Lowering] | None:
    if not isinstance(iterator, RangeIterator):
        return None

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        slot, stop, step = (builder.extract_value(args[0], position) for position in range(3))
        current = builder.load(slot, typ=I64)
        # nsw: the induction variable stays within the int64 range, so trip counts are exact.
        builder.store(builder.add(current, step, flags=["nsw"]), slot)
        upwards = builder.icmp_signed("<", current, stop)
        downwards = builder.icmp_signed(">", current, stop)
        more = builder.select(builder.icmp_signed(">", step, ir.Constant(I64, 0)), upwards, downwards)
        value = ir.Constant(context.get_value_type(sig.return_type), ir.Undefined)
        return builder.insert_value(builder.insert_value(value, current, 0), more, 1)

    return signature(types.Pair(types.int64, types.boolean), iterator), lower


def _getitem(typingctx: Any, pointer: Any, index: Any) -> tuple[Any, Lowering] | None:
    if not isinstance(pointer, Pointer) or types.unliteral(index) != types.int64:
        return None

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return load(builder, args[0], args[1], pointer.dtype)

    return signature(DTYPES[pointer.dtype], pointer, types.int64), lower


def _setitem(typingctx: Any, pointer: Any, index: Any, value: Any) -> tuple[Any, Lowering] | None:
    if not isinstance(pointer, Pointer) or types.unliteral(index) != types.int64:
        return None
    if types.unliteral(value) != DTYPES[pointer.dtype]:
        return None

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        store(builder, args[0], args[1], args[2], pointer.dtype)

    return signature(types.void, pointer, types.int64, DTYPES[pointer.dtype]), lower


def _operand(*operands: Any) -> Any:
    """Return the one register type of the operands, or None."""
    first = types.unliteral(operands[0])
    same = all(types.unliteral(other) == first for other in operands[1:])
    return first if same and first in REGISTERS else None


def _arithmetic(floating: str | None, integral: str | None, boolean: str | None = None) -> Definition:
    """Define a binary operator by the builder's methods for floats, integers and bools."""

    def define(typingctx: Any, left: Any, right: Any) -> tuple[Any, Lowering] | None:
        ty = _operand(left, right)
        method = floating if isinstance(ty, types.Float) else integral if isinstance(ty, types.Integer) else boolean
        if ty is None or method is None:
            return None

        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return getattr(builder, method)(*args)

        return signature(ty, ty, ty), lower

    return define


def _compare(sign: str) -> Definition:
    def define(typingctx: Any, left: Any, right: Any) -> tuple[Any, Lowering] | None:
        ty = _operand(left, right)
        if ty is None:
            return None

        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            if isinstance(ty, types.Float):
                return (builder.fcmp_unordered if sign == "!=" else builder.fcmp_ordered)(sign, *args)
            signed = isinstance(ty, types.Integer) and ty.signed
            return (builder.icmp_signed if signed else builder.icmp_unsigned)(sign, *args)

        return signature(types.boolean, ty, ty), lower

    return define


def _divide(remainder: bool) -> Definition:
    """Floor division of integers by a divisor that is not zero."""

    def define(typingctx: Any, left: Any, right: Any) -> tuple[Any, Lowering] | None:
        ty = _operand(left, right)
        if not isinstance(ty, types.Integer):
            return None

        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            left, right = args
            if not ty.signed:
                return builder.urem(left, right) if remainder else builder.udiv(left, right)
            rest = builder.srem(left, right)
            zero = ir.Constant(left.type, 0)
            opposite = builder.icmp_signed("<", builder.xor(rest, right), zero)
            correct = builder.and_(builder.icmp_signed("!=", rest, zero), opposite)
            if remainder:
                return builder.add(rest, builder.select(correct, right, zero))
            return builder.sub(builder.sdiv(left, right), builder.zext(correct, left.type))

        return signature(ty, ty, ty), lower

    return define


def _shift(left_shift: bool) -> Definition:
    """Shift as NumPy does: by the width or more (or by a negative count), every bit of the operand leaves."""

    def define(typingctx: Any, value: Any, count: Any) -> tuple[Any, Lowering] | None:
        ty = _operand(value, count)
        if not isinstance(ty, types.Integer):
            return None

        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            value, count = args
            inside = builder.icmp_unsigned("<", count, ir.Constant(count.type, ty.bitwidth))
            count = builder.select(inside, count, ir.Constant(count.type, ty.bitwidth - 1))
            if not left_shift and ty.signed:
                return builder.ashr(value, count)
            shifted = builder.shl(value, count) if left_shift else builder.lshr(value, count)
            return builder.select(inside, shifted, ir.Constant(value.type, 0))

        return signature(ty, ty, ty), lower

    return define


def _unary(operation: str) -> Definition:
    def define(typingctx: Any, value: Any) -> tuple[Any, Lowering] | None:
        ty = _operand(value)
        if ty is None or (isinstance(ty, types.Float) and operation == "~"):
            return None
        if isinstance(ty, types.Boolean) and operation in "+-":
            return None

        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            (value,) = args
            if operation == "+":
                return value
            if operation == "~":
                return builder.not_(value)
            return builder.fneg(value) if isinstance(ty, types.Float) else builder.neg(value)

        return signature(ty, ty), lower

    return define


def _truth(negate: bool) -> Definition:
    def define(typingctx: Any, value: Any) -> tuple[Any, Lowering] | None:
        ty = _operand(value)
        if not isinstance(ty, types.Boolean):
            return None

        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return builder.xor(args[0], ir.Constant(I1, 1)) if negate else args[0]

        return signature(types.boolean, types.boolean), lower

    return define


OPERATORS: dict[Any, Definition] = {
    range: _range(vector=False),
    vector_range: _range(vector=True),
    "getiter": _getiter,
    "iternext": _iternext,
    operator.getitem: _getitem,
    operator.setitem: _setitem,
    operator.add: _arithmetic("fadd", "add"),
    operator.sub: _arithmetic("fsub", "sub"),
    operator.mul: _arithmetic("fmul", "mul"),
    operator.truediv: _arithmetic("fdiv", None),
    operator.and_: _arithmetic(None, "and_", "and_"),
    operator.or_: _arithmetic(None, "or_", "or_"),
    operator.xor: _arithmetic(None, "xor", "xor"),
    operator.floordiv: _divide(remainder=False),
    operator.mod: _divide(remainder=True),
    operator.lshift: _shift(left_shift=True),
    operator.rshift: _shift(left_shift=False),
    operator.lt: _compare("<"),
    operator.le: _compare("<="),
    operator.gt: _compare(">"),
    operator.ge: _compare(">="),
    operator.eq: _compare("=="),
    operator.ne: _compare("!="),
    operator.pos: _unary("+"),
    operator.neg: _unary("-"),
    operator.invert: _unary("~"),
    operator.not_: _truth(negate=True),
    bool: _truth(negate=False),
}
"""What Numba's front end calls -> how it types and lowers in a kernel."""

for _name in ("add", "sub", "mul", "truediv", "and", "or", "xor", "floordiv", "mod", "lshift", "rshift"):
    # Registers do not change: `x += y` is `x = x + y`.
    OPERATORS[getattr(operator, f"i{_name}")] = OPERATORS[getattr(operator, f"__{_name}__")]
