"""`Lane`: a thin layer over an llvmlite builder in which one scalar lane of a vectorizable function is written.

Everything a `Lane` emits is straight-line code without calls, so LLVM's loop vectorizer widens it.

Contraction policy. `mad` is `llvm.fmuladd`: fused where the target has the instruction, a multiplication and an
addition elsewhere; it stands where either gives the accuracy stated. `fma` is for error-free steps and is always (as
good as) fused: `llvm.fma` where the target has it, and otherwise Dekker's product and Knuth's sum, since `llvm.fma`
would there become a call of libm. Nothing depends on vector width or on position in the array: the same input gives the
same bits on one kind of machine.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import cache
from typing import Any

from llvmlite import binding, ir
from numba.core import config

Value = Any  # an llvmlite value; llvmlite has no stubs

I64 = ir.IntType(64)
I32 = ir.IntType(32)
I1 = ir.IntType(1)
F64 = ir.DoubleType()
F32 = ir.FloatType()


@cache
def target_has(feature: str) -> bool:
    """Whether the x86 machine that Numba compiles for has this feature of LLVM's; False on other machines."""
    if not target_is_x86():
        return False
    features, name = getattr(config, "CPU_FEATURES", None), getattr(config, "CPU_NAME", None)
    if features is not None:
        return f"+{feature}" in str(features).split(",")
    if name not in (None, "host", binding.get_host_cpu_name()):
        return False
    return bool(binding.get_host_cpu_features().get(feature, False))


def target_is_x86() -> bool:
    return str(binding.get_process_triple()).startswith(("x86_64", "i686", "i386", "amd64"))


def target_has_fma() -> bool:
    """Whether a fused multiplication and addition is an instruction: everywhere but on old x86."""
    return not target_is_x86() or target_has("fma") or target_has("avx512f")


class Lane:
    """Emits arithmetic on one float type (`bits` is 32 or 64) at the builder's position."""

    def __init__(self, context: Any, builder: Any, bits: int) -> None:
        self.context = context
        self.b = builder
        self.bits = bits
        self.double = bits == 64
        self.type = F64 if self.double else F32
        self.int = I64 if self.double else I32
        self.mantissa = 52 if self.double else 23
        self.bias = 1023 if self.double else 127
        self.has_fma = target_has_fma()

    def wide(self) -> Lane:
        """The same position, in float64."""
        return Lane(self.context, self.b, 64)

    # constants

    def c(self, value: float) -> Value:
        return ir.Constant(self.type, float(value))

    def ci(self, value: int) -> Value:
        return ir.Constant(self.int, value)

    @property
    def magic(self) -> float:
        """1.5 * 2**mantissa: adding it rounds to an integer, to even, and leaves that integer in the low bits."""
        return 1.5 * 2.0**self.mantissa

    def float_bits(self, value: float) -> int:
        if self.double:
            return int(struct.unpack("<q", struct.pack("<d", value))[0])
        return int(struct.unpack("<i", struct.pack("<f", value))[0])

    def _v(self, value: Value | float) -> Value:
        return self.c(value) if isinstance(value, int | float) else value

    # arithmetic

    def add(self, a: Value | float, b: Value | float) -> Value:
        return self.b.fadd(self._v(a), self._v(b))

    def sub(self, a: Value | float, b: Value | float) -> Value:
        return self.b.fsub(self._v(a), self._v(b))

    def mul(self, a: Value | float, b: Value | float) -> Value:
        return self.b.fmul(self._v(a), self._v(b))

    def div(self, a: Value | float, b: Value | float) -> Value:
        return self.b.fdiv(self._v(a), self._v(b))

    def neg(self, a: Value) -> Value:
        return self.b.fneg(a)

    def intrinsic(self, name: str, *args: Value | float) -> Value:
        """Call `llvm.<name>` on operands of this lane's type."""
        fnty = ir.FunctionType(self.type, [self.type] * len(args))
        fn = self.b.module.declare_intrinsic(f"llvm.{name}", (self.type,), fnty)
        return self.b.call(fn, [self._v(a) for a in args])

    def abs(self, a: Value) -> Value:
        return self.intrinsic("fabs", a)

    def copysign(self, a: Value | float, b: Value) -> Value:
        return self.intrinsic("copysign", a, b)

    def mad(self, a: Value | float, b: Value | float, c: Value | float) -> Value:
        """a * b + c, fused if that is cheap."""
        return self.intrinsic("fmuladd", a, b, c)

    def two_sum(self, a: Value | float, b: Value | float) -> tuple[Value, Value]:
        """a + b exactly, as rounded sum and error (Knuth; any order of magnitudes)."""
        s = self.add(a, b)
        t = self.sub(s, a)
        return s, self.add(self.sub(a, self.sub(s, t)), self.sub(b, t))

    def fast_two_sum(self, a: Value | float, b: Value | float) -> tuple[Value, Value]:
        """a + b exactly where |a| >= |b| (Dekker)."""
        s = self.add(a, b)
        return s, self.sub(b, self.sub(s, a))

    def _split(self, a: Value | float) -> tuple[Value, Value]:
        t = self.mul(a, 134217729.0 if self.double else 4097.0)
        high = self.sub(t, self.sub(t, a))
        return high, self.sub(a, high)

    def two_product(self, a: Value | float, b: Value | float) -> tuple[Value, Value]:
        """a * b exactly, as rounded product and error."""
        p = self.mul(a, b)
        if self.has_fma:
            return p, self.intrinsic("fma", a, b, self.neg(p))
        ah, al = self._split(a)
        bh, bl = self._split(b)
        error = self.sub(self.mul(ah, bh), p)
        error = self.add(self.add(error, self.mul(ah, bl)), self.mul(al, bh))
        return p, self.add(error, self.mul(al, bl))

    def fma(self, a: Value | float, b: Value | float, c: Value | float) -> Value:
        """a * b + c with a single rounding (without hardware: within 2**-50 of one, and exact where the result is)."""
        if self.has_fma:
            return self.intrinsic("fma", a, b, c)
        p, e = self.two_product(a, b)
        s, t = self.two_sum(p, c)
        return self.add(s, self.add(t, e))

    def horner(self, x: Value, coefficients: Sequence[float]) -> Value:
        """The polynomial with these coefficients, constant term first."""
        acc: Value = self.c(coefficients[-1])
        for c in reversed(coefficients[:-1]):
            acc = self.mad(acc, x, c)
        return acc

    def horner2(self, x: Value, x2: Value, coefficients: Sequence[float]) -> Value:
        """The same, even and odd parts apart: half the latency for one more operation."""
        if len(coefficients) < 5:
            return self.horner(x, coefficients)
        return self.mad(self.horner(x2, coefficients[1::2]), x, self.horner(x2, coefficients[0::2]))

    # comparison and choice

    def cmp(self, op: str, a: Value, b: Value | float) -> Value:
        """Ordered comparison (false with a nan)."""
        return self.b.fcmp_ordered(op, a, self._v(b))

    def cmp_or_nan(self, op: str, a: Value, b: Value | float) -> Value:
        """Unordered comparison (true with a nan)."""
        return self.b.fcmp_unordered(op, a, self._v(b))

    def select(self, condition: Value, a: Value | float, b: Value | float) -> Value:
        return self.b.select(condition, self._v(a), self._v(b))

    def at_most(self, x: Value, limit: float) -> Value:
        """min(x, limit) that lets a nan through."""
        return self.select(self.cmp(">", x, limit), limit, x)

    def at_least(self, x: Value, limit: float) -> Value:
        """max(x, limit) that lets a nan through."""
        return self.select(self.cmp("<", x, limit), limit, x)

    def and_(self, a: Value, b: Value) -> Value:
        return self.b.and_(a, b)

    def or_(self, a: Value, b: Value) -> Value:
        return self.b.or_(a, b)

    # bits

    def to_bits(self, x: Value) -> Value:
        return self.b.bitcast(x, self.int)

    def from_bits(self, x: Value) -> Value:
        return self.b.bitcast(x, self.type)

    def power_of_two(self, rounded: Value) -> Value:
        """2**k for a value `magic + k`, k within the normal exponents."""
        shifted = self.b.shl(self.to_bits(rounded), self.ci(self.mantissa))
        return self.from_bits(self.b.add(shifted, self.ci(self.bias << self.mantissa)))
