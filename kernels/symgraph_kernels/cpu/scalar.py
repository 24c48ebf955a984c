"""The scalar functions of kernel source: one Numba callable for each name, in `SCALARS`.

All are `@intrinsic`s with explicit result types. Operands have one dtype (float32, float64, an integer or boolean where
that makes sense) and the result has it too, except predicates, which are boolean. Semantics are NumPy's. What is not
vector math of our own (`vecmath`) is an LLVM intrinsic, or a call of libm by its plain C name, so that compiled objects
link in any process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.errors import TypingError
from numba.extending import intrinsic

from symgraph_kernels.cpu.vecmath import VECTOR
from symgraph_kernels.cpu.vecmath_lane import I1, Lane, Value

Codegen = Callable[[Any, Any, Any, Any], Value]
Emit = Callable[[Any, Any, Any, list[Value]], Value]

# Numba's own annotations are partial: without this, mypy takes the call for one of an untyped function
_unliteral: Callable[[Any], Any] = types.unliteral

FLOATS = "f"
INTEGERS = "i"
BOOLEANS = "b"


def _kind(t: Any) -> str:
    if t in (types.float32, types.float64):
        return FLOATS
    if isinstance(t, types.Boolean):
        return BOOLEANS
    if isinstance(t, types.Integer):
        return INTEGERS
    return ""


def _operand(name: str, given: tuple[Any, ...], kinds: str) -> Any:
    """The one type of all operands, or a typing error that says what was given."""
    plain = [_unliteral(t) for t in given]
    if any(t != plain[0] for t in plain) or not (kind := _kind(plain[0])) or kind not in kinds:
        raise TypingError(f"{name}: operands must be of one dtype among {kinds!r}, got {', '.join(map(str, plain))}")
    return plain[0]


def define(name: str, arity: int, emit: Emit, kinds: str = FLOATS, result: Any = None) -> Any:
    """A Numba callable `name` of `arity` operands of one type; `emit(context, builder, type, args)` writes its code.

    The result has the operands' type, or `result`.
    """

    def finish(*given: Any) -> tuple[Any, Codegen]:
        operand = _operand(name, given, kinds)
        signature = (operand if result is None else result)(*[operand] * arity)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Value:
            return emit(context, builder, operand, list(args))

        return signature, codegen

    def unary(typingctx: Any, a: Any) -> tuple[Any, Codegen]:
        return finish(a)

    def binary(typingctx: Any, a: Any, b: Any) -> tuple[Any, Codegen]:
        return finish(a, b)

    typing: Callable[..., tuple[Any, Codegen]] = unary if arity == 1 else binary
    typing.__name__ = typing.__qualname__ = name
    return intrinsic(typing)


# libm and LLVM by name


def _libm(symbol: str) -> Emit:
    def emit(context: Any, builder: Any, t: Any, args: list[Value]) -> Value:
        ty = args[0].type
        suffixed = symbol if t == types.float64 else symbol + "f"
        fn = builder.module.globals.get(suffixed)
        if fn is None:
            fn = ir.Function(builder.module, ir.FunctionType(ty, [ty] * len(args)), name=suffixed)
            fn.attributes.add("nounwind")
        return builder.call(fn, args)

    return emit


def _llvm(name: str) -> Emit:
    def emit(context: Any, builder: Any, t: Any, args: list[Value]) -> Value:
        return Lane(context, builder, t.bitwidth).intrinsic(name, *args)

    return emit


def _lane(write: Callable[..., Value]) -> Emit:
    def emit(context: Any, builder: Any, t: Any, args: list[Value]) -> Value:
        return write(Lane(context, builder, t.bitwidth), *args)

    return emit


# floating point


def _float_sign(f: Lane, x: Value) -> Value:
    return f.select(f.cmp(">", x, 0.0), 1.0, f.select(f.cmp("<", x, 0.0), -1.0, f.add(x, 0.0)))


def _float_remainder(f: Lane, a: Value, b: Value) -> Value:
    """NumPy's: the sign of the divisor, a zero too."""
    r = f.b.frem(a, b)
    differ = f.b.xor(f.cmp("<", r, 0.0), f.cmp("<", b, 0.0))
    moved = f.select(f.and_(differ, f.cmp_or_nan("!=", r, 0.0)), f.add(r, b), r)
    return f.select(f.and_(f.cmp("==", r, 0.0), f.cmp_or_nan("!=", b, 0.0)), f.copysign(0.0, b), moved)


def _float_floor_divide(f: Lane, a: Value, b: Value) -> Value:
    """NumPy's: (a - fmod(a, b)) / b, lowered by one where the signs of remainder and divisor differ, then snapped."""
    r = f.b.frem(a, b)
    quotient = f.div(f.sub(a, r), b)
    differ = f.b.xor(f.cmp("<", r, 0.0), f.cmp("<", b, 0.0))
    lower = f.and_(differ, f.cmp_or_nan("!=", r, 0.0))
    quotient = f.select(lower, f.sub(quotient, 1.0), quotient)
    whole = f.intrinsic("floor", quotient)
    whole = f.select(f.cmp(">", f.sub(quotient, whole), 0.5), f.add(whole, 1.0), whole)
    plain = f.div(a, b)
    whole = f.select(f.cmp("==", quotient, 0.0), f.copysign(0.0, plain), whole)
    return f.select(f.cmp("==", b, 0.0), plain, whole)


def _gamma(f: Lane, x: Value) -> Value:
    symbol = _libm("tgamma")(f.context, f.b, types.float64 if f.double else types.float32, [x])
    return f.select(f.cmp("==", x, float("-inf")), float("nan"), symbol)


def _square(context: Any, builder: Any, t: Any, args: list[Value]) -> Value:
    return builder.fmul(args[0], args[0]) if _kind(t) == FLOATS else builder.mul(args[0], args[0])


def _reciprocal(f: Lane, x: Value) -> Value:
    return f.div(1.0, x)


# predicates


def _isnan(context: Any, builder: Any, t: Any, args: list[Value]) -> Value:
    if _kind(t) != FLOATS:
        return ir.Constant(I1, 0)
    return builder.fcmp_unordered("uno", args[0], args[0])


def _isinf(context: Any, builder: Any, t: Any, args: list[Value]) -> Value:
    if _kind(t) != FLOATS:
        return ir.Constant(I1, 0)
    f = Lane(context, builder, t.bitwidth)
    return f.cmp("==", f.abs(args[0]), float("inf"))


def _isfinite(context: Any, builder: Any, t: Any, args: list[Value]) -> Value:
    if _kind(t) != FLOATS:
        return ir.Constant(I1, 1)
    f = Lane(context, builder, t.bitwidth)
    return f.cmp("<", f.abs(args[0]), float("inf"))


def _signbit(context: Any, builder: Any, t: Any, args: list[Value]) -> Value:
    f = Lane(context, builder, t.bitwidth)
    return builder.icmp_signed("<", f.to_bits(args[0]), f.ci(0))


# integers


def _zero_safe(builder: Any, t: Any, a: Value, b: Value) -> tuple[Value, Value, Value]:
    """(is zero, is minus one, a divisor that does not trap): x86 traps on both 0 and lowest // -1."""
    zero = ir.Constant(b.type, 0)
    is_zero = builder.icmp_signed("==", b, zero)
    minus = builder.icmp_signed("==", b, ir.Constant(b.type, -1)) if t.signed else ir.Constant(I1, 0)
    return is_zero, minus, builder.select(builder.or_(is_zero, minus), ir.Constant(b.type, 1), b)


def _floor_divide(context: Any, builder: Any, t: Any, args: list[Value]) -> Value:
    if _kind(t) == FLOATS:
        return _float_floor_divide(Lane(context, builder, t.bitwidth), *args)
    a, b = args
    zero = ir.Constant(b.type, 0)
    is_zero, minus, divisor = _zero_safe(builder, t, a, b)
    if not t.signed:
        return builder.select(is_zero, zero, builder.udiv(a, divisor))
    q = builder.sdiv(a, divisor)
    r = builder.sub(a, builder.mul(q, divisor))
    differ = builder.icmp_signed("<", builder.xor(r, divisor), zero)
    lower = builder.and_(differ, builder.icmp_signed("!=", r, zero))
    q = builder.sub(q, builder.zext(lower, b.type))
    return builder.select(is_zero, zero, builder.select(minus, builder.neg(a), q))


def _remainder(context: Any, builder: Any, t: Any, args: list[Value]) -> Value:
    if _kind(t) == FLOATS:
        return _float_remainder(Lane(context, builder, t.bitwidth), *args)
    a, b = args
    zero = ir.Constant(b.type, 0)
    is_zero, minus, divisor = _zero_safe(builder, t, a, b)
    if not t.signed:
        return builder.select(is_zero, zero, builder.urem(a, divisor))
    r = builder.srem(a, divisor)
    differ = builder.icmp_signed("<", builder.xor(r, divisor), zero)
    moved = builder.select(builder.and_(differ, builder.icmp_signed("!=", r, zero)), builder.add(r, divisor), r)
    return builder.select(builder.or_(is_zero, minus), zero, moved)


def _fmod(context: Any, builder: Any, t: Any, args: list[Value]) -> Value:
    a, b = args
    if _kind(t) == FLOATS:
        return builder.frem(a, b)
    is_zero, minus, divisor = _zero_safe(builder, t, a, b)
    r = builder.srem(a, divisor) if t.signed else builder.urem(a, divisor)
    return builder.select(builder.or_(is_zero, minus), ir.Constant(b.type, 0), r)


def _integer_power(builder: Any, t: Any, base: Value, exponent: Value) -> Value:
    """By repeated squaring, wrapping around; a negative exponent gives the truncated reciprocal (0, 1 or -1)."""
    ty = base.type
    zero, one = ir.Constant(ty, 0), ir.Constant(ty, 1)
    if t.signed:
        negative = builder.icmp_signed("<", exponent, zero)
        unit = builder.icmp_unsigned("<=", builder.add(base, one), ir.Constant(ty, 2))
        unit = builder.and_(unit, builder.icmp_signed("!=", base, zero))
        base = builder.select(builder.and_(negative, builder.not_(unit)), zero, base)
        # only the parity of the exponent matters to 1 and -1, and negation keeps it; 0 needs any exponent above 0
        exponent = builder.select(negative, builder.or_(builder.neg(exponent), builder.shl(one, one)), exponent)
    before = builder.block
    loop = builder.append_basic_block("power.loop")
    done = builder.append_basic_block("power.done")
    builder.branch(loop)
    builder.position_at_end(loop)
    acc, sq, e = builder.phi(ty), builder.phi(ty), builder.phi(ty)
    odd = builder.icmp_signed("!=", builder.and_(e, one), zero)
    next_acc = builder.select(odd, builder.mul(acc, sq), acc)
    next_sq = builder.mul(sq, sq)
    next_e = builder.lshr(e, one)
    for phi, start, following in ((acc, one, next_acc), (sq, base, next_sq), (e, exponent, next_e)):
        phi.add_incoming(start, before)
        phi.add_incoming(following, loop)
    builder.cbranch(builder.icmp_unsigned("!=", next_e, zero), loop, done)
    builder.position_at_end(done)
    return next_acc


def _power(context: Any, builder: Any, t: Any, args: list[Value]) -> Value:
    if _kind(t) == FLOATS:
        return VECTOR["power"](Lane(context, builder, t.bitwidth), *args)
    return _integer_power(builder, t, *args)


def _sign(context: Any, builder: Any, t: Any, args: list[Value]) -> Value:
    (x,) = args
    if _kind(t) == FLOATS:
        return _float_sign(Lane(context, builder, t.bitwidth), x)
    zero, one = ir.Constant(x.type, 0), ir.Constant(x.type, 1)
    if not t.signed:
        return builder.select(builder.icmp_unsigned(">", x, zero), one, zero)
    below = builder.select(builder.icmp_signed("<", x, zero), ir.Constant(x.type, -1), zero)
    return builder.select(builder.icmp_signed(">", x, zero), one, below)


def _absolute(context: Any, builder: Any, t: Any, args: list[Value]) -> Value:
    (x,) = args
    if _kind(t) == FLOATS:
        return Lane(context, builder, t.bitwidth).abs(x)
    if _kind(t) == BOOLEANS or not t.signed:
        return x
    return builder.select(builder.icmp_signed("<", x, ir.Constant(x.type, 0)), builder.neg(x), x)


def _extremum(which: str) -> Emit:
    """`min` or `max`: a nan in either operand wins, and -0 < +0."""

    def emit(context: Any, builder: Any, t: Any, args: list[Value]) -> Value:
        if _kind(t) == FLOATS:
            return Lane(context, builder, t.bitwidth).intrinsic(f"{which}imum", *args)
        if _kind(t) == BOOLEANS:
            return (builder.and_ if which == "min" else builder.or_)(*args)
        ty = args[0].type
        name = f"llvm.{'s' if t.signed else 'u'}{which}"
        fn = builder.module.declare_intrinsic(name, (ty,), ir.FunctionType(ty, [ty, ty]))
        return builder.call(fn, args)

    return emit


# reductions whose order is free, and choice


def _reassociable(float_op: str, int_op: str, bool_op: str) -> Emit:
    """One operation that carries only LLVM's `reassoc`, so that a reduction by it vectorizes."""

    def emit(context: Any, builder: Any, t: Any, args: list[Value]) -> Value:
        if _kind(t) == FLOATS:
            return getattr(builder, float_op)(*args, flags=("reassoc",))
        return getattr(builder, bool_op if _kind(t) == BOOLEANS else int_op)(*args)

    return emit


def _select(typingctx: Any, condition: Any, a: Any, b: Any) -> tuple[Any, Codegen]:
    operand = _operand("select", (a, b), FLOATS + INTEGERS + BOOLEANS)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Value:
        return builder.select(*args)

    return operand(types.boolean, operand, operand), codegen


def _fma(typingctx: Any, a: Any, b: Any, c: Any) -> tuple[Any, Codegen]:
    operand = _operand("fma", (a, b, c), FLOATS)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Value:
        return Lane(context, builder, operand.bitwidth).fma(*args)

    return operand(operand, operand, operand), codegen


_ALL = FLOATS + INTEGERS + BOOLEANS
_LIBM = {
    "gammaln": ("lgamma", 1),
}
_INTRINSICS = {"sqrt": "sqrt", "floor": "floor", "ceil": "ceil", "trunc": "trunc", "rint": "rint"}


def _table() -> dict[str, Any]:
    table: dict[str, Any] = {}
    for name, (symbol, arity) in _LIBM.items():
        table[name] = define(name, arity, _libm(symbol))
    for name, llvm_name in _INTRINSICS.items():
        table[name] = define(name, 1, _llvm(llvm_name))
    for name, write in VECTOR.items():
        arity = 2 if name in ("power", "logaddexp", "arctan2", "hypot") else 1
        table[name] = define(name, arity, _lane(write))
    table["gamma"] = define("gamma", 1, _lane(_gamma))
    table["copysign"] = define("copysign", 2, _llvm("copysign"))
    table["reciprocal"] = define("reciprocal", 1, _lane(_reciprocal))
    table["square"] = define("square", 1, _square, FLOATS + INTEGERS)
    table["power"] = define("power", 2, _power, FLOATS + INTEGERS)
    for name, predicate in (("isnan", _isnan), ("isinf", _isinf), ("isfinite", _isfinite)):
        table[name] = define(name, 1, predicate, _ALL, types.boolean)
    table["signbit"] = define("signbit", 1, _signbit, FLOATS, types.boolean)
    table["sign"] = define("sign", 1, _sign, FLOATS + INTEGERS)
    table["absolute"] = define("absolute", 1, _absolute, _ALL)
    for name, division in (("floor_divide", _floor_divide), ("remainder", _remainder), ("fmod", _fmod)):
        table[name] = define(name, 2, division, FLOATS + INTEGERS)
    table["minimum"] = define("minimum", 2, _extremum("min"), _ALL)
    table["maximum"] = define("maximum", 2, _extremum("max"), _ALL)
    table["add_reassoc"] = define("add_reassoc", 2, _reassociable("fadd", "add", "or_"), _ALL)
    table["mul_reassoc"] = define("mul_reassoc", 2, _reassociable("fmul", "mul", "and_"), _ALL)
    table["select"] = intrinsic(_select)
    table["fma"] = intrinsic(_fma)
    table["lgamma"] = table["gammaln"]
    table["tgamma"] = table["gamma"]
    table["abs"] = table["absolute"]
    return table


SCALARS: dict[str, Any] = _table()
