"""A thin layer over llvmlite's IRBuilder for code that works on tables of 64-bit words.

Every value is an i64; an address is an i64 too, so nothing needs casts or pointer types in the code that uses this.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

I64 = ir.IntType(64)
I32 = ir.IntType(32)
I8 = ir.IntType(8)
POINTER = ir.PointerType()

Value = Any  # an llvmlite value or a Python int


class Code:
    """The body of one function whose arguments and result are i64 words."""

    def __init__(self, module: ir.Module, name: str, nargs: int, *, public: bool = False) -> None:
        self.function = ir.Function(module, ir.FunctionType(I64, [I64] * nargs), name)
        if not public:
            self.function.linkage = "internal"
        self.builder = ir.IRBuilder(self.function.append_basic_block("entry"))
        self.args: tuple[Any, ...] = tuple(self.function.args)
        self._entry = self.function.entry_basic_block

    def const(self, value: Value) -> Any:
        return ir.Constant(I64, int(value)) if isinstance(value, int) else value

    # memory

    def address(self, base: Value, word: Value) -> Any:
        """The address of word number `word` of the table at `base`."""
        if isinstance(word, int):
            return self.builder.add(self.const(base), self.const(8 * word)) if word else self.const(base)
        return self.builder.add(self.const(base), self.builder.shl(word, self.const(3)))

    def pointer(self, address: Value) -> Any:
        return self.builder.inttoptr(self.const(address), POINTER)

    def get(self, base: Value, word: Value) -> Any:
        return self.builder.load(self.pointer(self.address(base, word)), typ=I64)

    def put(self, base: Value, word: Value, value: Value) -> None:
        self.builder.store(self.const(value), self.pointer(self.address(base, word)))

    def get_at(self, base: Value, offset: int, kind: ir.IntType = I64) -> Any:
        """The integer `offset` bytes after `base`, sign-extended."""
        value = self.builder.load(self.pointer(self.builder.add(self.const(base), self.const(offset))), typ=kind)
        return value if kind is I64 else self.builder.sext(value, I64)

    def get_index(self, base: Value, index: Value) -> Any:
        """Entry `index` of an int32 table."""
        offset = self.builder.shl(self.const(index), self.const(2))
        return self.get_at(self.builder.add(self.const(base), offset), 0, I32)

    # arithmetic

    def add(self, a: Value, b: Value) -> Any:
        return self.builder.add(self.const(a), self.const(b))

    def sub(self, a: Value, b: Value) -> Any:
        return self.builder.sub(self.const(a), self.const(b))

    def mul(self, a: Value, b: Value) -> Any:
        return self.builder.mul(self.const(a), self.const(b))

    def div(self, a: Value, b: Value) -> Any:
        return self.builder.sdiv(self.const(a), self.const(b))

    def mask(self, a: Value, b: Value) -> Any:
        """Bitwise and."""
        return self.builder.and_(self.const(a), self.const(b))

    def shift_left(self, a: Value, bits: int) -> Any:
        return self.builder.shl(self.const(a), self.const(bits))

    def shift_right(self, a: Value, bits: int) -> Any:
        return self.builder.lshr(self.const(a), self.const(bits))

    def is_(self, a: Value, relation: str, b: Value) -> Any:
        """An i1, for `when` and friends."""
        return self.builder.icmp_signed(relation, self.const(a), self.const(b))

    # control

    @contextmanager
    def when(self, condition: Any, likely: bool | None = None) -> Iterator[None]:
        with self.builder.if_then(condition, likely=likely):
            yield

    @contextmanager
    def count(self, n: Value, start: Value = 0) -> Iterator[Any]:
        """for index in range(start, n)"""
        index = self.local(start)
        with self.loop(lambda: self.is_(index.value, "<", n)):
            yield index.value
            index.value = self.add(index.value, 1)

    @contextmanager
    def loop(self, condition: Callable[[], Any] | None = None) -> Iterator[None]:
        """while condition(): ...    (None: for ever, until `give`)"""
        head = self.function.append_basic_block("head")
        body = self.function.append_basic_block("body")
        done = self.function.append_basic_block("done")
        self.builder.branch(head)
        self.builder.position_at_end(head)
        if condition is None:
            self.builder.branch(body)
        else:
            self.builder.cbranch(condition(), body, done)
        self.builder.position_at_end(body)
        yield
        if not self.builder.block.is_terminated:
            self.builder.branch(head)
        self.builder.position_at_end(done)
        if condition is None:
            self.builder.unreachable()

    def give(self, value: Value) -> None:
        self.builder.ret(self.const(value))

    def local(self, value: Value) -> Local:
        with self.builder.goto_entry_block():
            slot = self.builder.alloca(I64)
            slot.type = POINTER
        variable = Local(self, slot)
        variable.value = value
        return variable

    # calls

    def call(self, target: Code, *args: Value) -> Any:
        """Call another function of the module."""
        return self.builder.call(target.function, [self.const(a) for a in args])

    def call_address(self, address: Value, *args: Value, signature: ir.FunctionType | None = None) -> Any:
        """Call a function by address; by default all its arguments and its result are words."""
        signature = signature or ir.FunctionType(I64, [I64] * len(args))
        callee = _Callee(self.pointer(address), signature)
        words = [self.const(a) for a in args]
        passed = [self.builder.trunc(w, t) if t in (I32, I8) else w for w, t in zip(words, signature.args, strict=True)]
        return self.builder.call(callee, passed)

    # atomics: all sequentially consistent, since they are few and their order is what the proofs rest on

    def atomic_get(self, base: Value, word: int) -> Any:
        return self.builder.load_atomic(self.pointer(self.address(base, word)), "seq_cst", 8, typ=I64)

    def atomic_put(self, base: Value, word: int, value: Value) -> None:
        self.builder.atomic_rmw("xchg", self.pointer(self.address(base, word)), self.const(value), "seq_cst")

    def atomic_add(self, base: Value, word: int, value: Value) -> Any:
        """Returns the value before."""
        return self.builder.atomic_rmw("add", self.pointer(self.address(base, word)), self.const(value), "seq_cst")

    def atomic_swap(self, base: Value, word: int, old: Value, new: Value) -> Any:
        """Write `new` if the word is `old`; an i1 that says whether it was."""
        pair = self.builder.cmpxchg(
            self.pointer(self.address(base, word)), self.const(old), self.const(new), "seq_cst", "seq_cst"
        )
        return self.builder.extract_value(pair, 1)

    def relax(self) -> None:
        """Tell the processor that this is a spin loop."""
        hint = {"x86_64": "pause", "amd64": "pause", "aarch64": "yield", "arm64": "yield"}.get(
            platform.machine().lower(), ""
        )
        self.builder.asm(ir.FunctionType(ir.VoidType(), []), hint, "~{memory}", [], True)


class _Callee:
    """A function pointer with its signature, which opaque pointers no longer carry."""

    calling_convention = None

    def __init__(self, pointer: Any, signature: ir.FunctionType) -> None:
        self.type = pointer.type
        self.function_type = signature
        self.get_reference = pointer.get_reference


class Local:
    """A mutable variable of a function."""

    def __init__(self, code: Code, slot: Any) -> None:
        self._code, self._slot = code, slot

    @property
    def value(self) -> Any:
        return self._code.builder.load(self._slot, typ=I64)

    @value.setter
    def value(self, value: Value) -> None:
        self._code.builder.store(self._code.const(value), self._slot)


def new_module(name: str) -> ir.Module:
    module = ir.Module(name)
    module.triple = ""
    return module


def module_text(module: ir.Module) -> str:
    """IR text with no word on the target, which whoever emits the object code sets."""
    lines = str(module).splitlines()
    return "\n".join(line for line in lines if not line.startswith(("target triple", "target datalayout"))) + "\n"


__all__ = ["I8", "I32", "I64", "POINTER", "Code", "Local", "Value", "module_text", "new_module"]
