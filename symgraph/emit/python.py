"""Loop IR as Python source. One printer for all targets; a target adds a small table."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from symgraph.index import Expr
from symgraph.loop import ir

_INFIX = {
    "add": "+",
    "subtract": "-",
    "multiply": "*",
    "divide": "/",
    "less": "<",
    "less_equal": "<=",
    "greater": ">",
    "greater_equal": ">=",
    "equal": "==",
    "not_equal": "!=",
    "bitwise_and": "&",
    "bitwise_or": "|",
    "bitwise_xor": "^",
    "left_shift": "<<",
    "right_shift": ">>",
}
_SHIFTS = ("left_shift", "right_shift")
_BOOLEAN = {
    "add": "|",
    "multiply": "&",
    "logical_and": "&",
    "logical_or": "|",
    "logical_xor": "^",
    "maximum": "|",
    "minimum": "&",
}


@dataclass(frozen=True)
class Target:
    """What differs between targets: a table, and whether values carry their types by themselves.

    Attributes:
        name: of the target.
        header: the first line of a kernel, by its name and parameters.
        loops: the lines before a loop's body, and after it, by the kind of the loop. ``{bounds}`` are those of a range.
        functions: scalar functions of another name.
        typed: whether the name of a scalar function carries the dtype of its last operand.
        loads, stores: how an element is read and written, by dtype, where that is not as it stands.
        rounded: what makes a result of arithmetic a value of its dtype again, where it is not.
        casts: how a conversion prints, by the expression and its operand's text, where not as a call of the dtype.
        inverted: the negation of a truth value.
        end: the last lines of a kernel.
    """

    name: str
    header: Callable[[str, Sequence[ir.Param]], list[str]]
    loops: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]
    functions: Mapping[str, str] = field(default_factory=dict)
    typed: bool = False
    loads: Mapping[str, str] = field(default_factory=dict)
    stores: Mapping[str, str] = field(default_factory=dict)
    rounded: Mapping[str, str] = field(default_factory=dict)
    casts: Callable[[Expr, str], str] | None = None
    inverted: str = "~{}"
    end: tuple[str, ...] = ()


def _words(name: str, params: Sequence[ir.Param]) -> list[str]:
    """Parameters are words of an array."""
    lines = [f"def {name}(args, lo, hi):"]
    for k, p in enumerate(params):
        if p.kind == "buffer":
            lines.append(f"    {p.name} = pointer_{p.dtype.name}(args[{k}])")
        elif p.kind == "size":
            lines.append(f"    {p.name} = args[{k}]")
        else:
            lines.append(f"    {p.name} = word_{p.dtype.name}(args[{k}])")
    return lines


def typed(p: ir.Param) -> str:
    """A parameter of a GPU's kernel: a pointer to elements, or a scalar."""
    kind = f"pointer_{p.dtype.name}" if p.kind == "buffer" else "float32" if p.dtype == "float16" else p.dtype.name
    return f"{p.name}: {kind}"


def _typed(name: str, params: Sequence[ir.Param]) -> list[str]:
    """Parameters are typed: pointers to elements, and scalars."""
    return [f"def {name}({', '.join(map(typed, params))}):"]


def _strided(first: str, step: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return (f"{{index}} = {{start}}{first}", "while {index} < {stop}:"), (f"    {{index}} += {step}",)


def _cuda_cast(e: Expr, text: str) -> str:
    """Conversions that the GPU's own would do otherwise: see ``symgraph_kernels.cpu.memory.convert``."""
    of, to = e.args[0].dtype, e.dtype
    if to.kind == "b":
        return f"({text} != {_zero(e.args[0])})"
    if of.kind == "f" and to.kind in "iu":
        if to.name == "uint64":
            return f"uint64_of_{_register(of)}({text})"
        return f"{to.name}({text})" if to.itemsize >= 4 and to.kind == "i" else f"{to.name}(int64({text}))"
    return f"{to.name}({text})"


_RANGE = (("for {index} in range({bounds}):",), ())

CPU = Target(
    "cpu",
    _words,
    {"parallel": _RANGE, "serial": _RANGE, "vector": (("for {index} in vector_range({bounds}):",), ())},
    {"where": "select"},
    rounded={"float16": "float16({})"},
    end=("    return 0",),
)

_NARROW = ("int8", "int16", "int32", "uint8", "uint16", "uint32", "uint64", "float16")

CUDA = Target(
    "cuda",
    _typed,
    {
        **dict.fromkeys(("parallel", "serial", "vector"), _RANGE),
        "grid": _strided("thread()", "threads()"),
        "group": _strided("group()", "groups()"),
        "lane": _strided("lane()", "lanes()"),
    },
    {"where": "select", "add_reassoc": "add", "mul_reassoc": "multiply"},
    typed=True,
    loads={"bool": "({} != 0)", "float16": "float32({})"},
    stores={"bool": "uint8({})", "float16": "half({})"},
    rounded={dtype: f"{dtype}({{}})" for dtype in _NARROW},  # what Numba's types for integers promote
    casts=_cuda_cast,
    inverted="(not {})",
)
"""A GPU: ``lane()`` of ``lanes()``, ``group()`` of ``groups()``, ``thread()`` of ``threads()``."""


def _register(dtype: np.dtype[Any]) -> str:
    """The dtype that a value has in a register."""
    return "float32" if dtype.name == "float16" else dtype.name


class _Printer:
    def __init__(self, target: Target) -> None:
        self.target = target

    def value(self, e: Expr, inner: bool = False) -> str:
        fn, args = self.target.functions.get(e.fn, e.fn), e.args
        if fn == "const":
            return f"{e.dtype.name}({e.attr!r})" if e.dtype.name != "int64" else repr(e.attr)
        if fn == "name":
            return str(e.attr)
        if fn == "load":
            return self.target.loads.get(e.dtype.name, "{}").format(f"{e.attr}[{self.value(args[0])}]")
        if fn == "cast":
            if self.target.casts is not None:
                return self.target.casts(e, self.value(args[0], True))
            name = "boolean" if e.dtype == bool else e.dtype.name
            return f"{name}({self.value(args[0])})"
        if fn == "aligned":
            return f"aligned({e.attr}, {self.value(args[0])}, {self.value(args[1])})"
        booleans = bool(args) and args[-1].dtype == bool
        if booleans and fn in _BOOLEAN:
            text = f"{self.value(args[0], True)} {_BOOLEAN[fn]} {self.value(args[1], True)}"
            return f"({text})" if inner else text
        if fn in ("logical_and", "logical_or", "logical_xor", "logical_not"):
            truths = [
                f"({self.value(a, True)} != {_zero(a)})" if a.dtype != bool else self.value(a, True) for a in args
            ]
            text = f" {_BOOLEAN[fn]} ".join(truths) if fn != "logical_not" else self.target.inverted.format(truths[0])
            return f"({text})" if inner else text
        if fn in _INFIX and not (self.target.typed and fn in _SHIFTS):
            text = f"{self.value(args[0], True)} {_INFIX[fn]} {self.value(args[1], True)}"
            return self.rounded(e, f"({text})" if inner else text)
        if fn in ("floor_divide", "remainder") and e.dtype.name == "int64" and self._positive(args[1]):
            text = f"{self.value(args[0], True)} {'//' if fn == 'floor_divide' else '%'} {self.value(args[1], True)}"
            return f"({text})" if inner else text
        if fn == "bitwise_invert" and booleans:
            return self.target.inverted.format(self.value(args[0], True))
        if fn in ("negative", "bitwise_invert"):
            text = ("-" if fn == "negative" else "~") + self.value(args[0], True)
            return self.rounded(e, f"({text})" if inner else text)
        name = f"{fn}_{_register(args[-1].dtype)}" if self.target.typed and args else fn
        text = f"{name}({', '.join(self.value(a) for a in args)})"
        return self.rounded(e, text) if e.dtype.kind == "f" else text

    @staticmethod
    def _positive(e: Expr) -> bool:
        # Sizes are what index arithmetic divides by; user data goes through the functions that define division by zero.
        if e.fn == "multiply":
            return all(_Printer._positive(a) for a in e.args)
        return e.fn == "const" or (e.fn == "name" and str(e.attr).startswith("n"))

    def rounded(self, e: Expr, text: str) -> str:
        """NumPy rounds every float16 result, where registers hold float32; narrow integers wrap around."""
        if e.dtype.name == "float16" and e.fn in ("where", "maximum", "minimum"):
            return text
        return self.target.rounded.get(e.dtype.name, "{}").format(text)

    def block(self, body: list[ir.Statement], depth: int, lines: list[str]) -> None:
        pad = "    " * depth
        for s in body:
            if isinstance(s, ir.For):
                start, stop = self.value(s.start), self.value(s.stop)
                first = "" if start == "0" else f"{self.value(s.start, True)} + "
                words = {"index": s.index, "stop": stop, "start": first}
                words["bounds"] = stop if start == "0" else f"{start}, {stop}"
                before, after = self.target.loops[s.kind]
                lines += [pad + text.format(**words) for text in before]
                self.block(s.body, depth + 1, lines)
                lines += [pad + text.format(**words) for text in after]
            elif isinstance(s, ir.If):
                lines.append(f"{pad}if {self.value(s.condition)}:")
                self.block(s.then, depth + 1, lines)
                if s.otherwise:
                    lines.append(f"{pad}else:")
                    self.block(s.otherwise, depth + 1, lines)
            elif isinstance(s, ir.While):
                lines.append(f"{pad}while {self.value(s.condition)}:")
                self.block(s.body, depth + 1, lines)
            elif isinstance(s, ir.Check):
                lines += [f"{pad}if not ({self.value(s.condition)}):", f"{pad}    return {s.code}"]
            elif isinstance(s, ir.Store):
                value = self.target.stores.get(s.dtype.name, "{}").format(self.value(s.value))
                lines.append(f"{pad}{s.buffer}[{self.value(s.at)}] = {value}")
            elif isinstance(s, ir.Atomic):
                lines.append(f"{pad}atomic_add({s.buffer}, {self.value(s.at)}, {self.value(s.value)})")
            elif isinstance(s, ir.Alloc):
                lines.append(f"{pad}{s.name} = cuda.{s.space}.array({s.size}, memory_{s.dtype.name})")
            elif isinstance(s, ir.Combine):
                fn = f"group_{self.target.functions.get(s.fn, s.fn)}_{_register(s.dtype)}"
                lines.append(f"{pad}{s.name} = {fn}({s.name}, {s.scratch})")
            elif isinstance(s, ir.Prefix):
                fn = f"group_prefix_{s.fn}_{_register(s.dtype)}"
                lines.append(f"{pad}{s.name}, {s.total} = {fn}({s.name}, {s.scratch})")
            elif isinstance(s, ir.Barrier):
                lines.append(f"{pad}barrier()")
            elif isinstance(s, ir.Fetch):
                at = self.value(s.at)
                lines.append(f"{pad}{', '.join(s.names)} = fetch_{len(s.names)}({s.buffer}, {at})")
            elif isinstance(s, ir.Put):
                values = ", ".join(self.value(v) for v in s.values)
                lines.append(f"{pad}put_{len(s.values)}({s.buffer}, {self.value(s.at)}, {values})")
            else:
                lines.append(f"{pad}{s.name} = {self.value(s.value)}")
        if not body:
            lines.append(f"{pad}pass")


def _zero(e: Expr) -> str:
    return f"{'float32' if e.dtype.name == 'float16' else e.dtype.name}(0)"


def statements(body: Sequence[ir.Statement], target: Target) -> list[str]:
    """Statements alone, a line each or more: part of a kernel that is text."""
    lines: list[str] = []
    _Printer(target).block(list(body), 0, lines)
    return lines


def emit(kernel: ir.LoopKernel, target: Target = CPU) -> tuple[str, str]:
    """Name and source of a kernel. Equal structures give equal sources, hence equal names."""
    lines: list[str] = []
    _Printer(target).block(kernel.body, 1, lines)
    header, *words = target.header("{}", kernel.params)
    text = "\n".join([*words, *lines, *target.end]) + "\n"
    own = text if target is CPU else f"{header}\n{text}"  # a kernel's types are part of what it is
    name = f"k_{hashlib.sha256(own.encode()).hexdigest()[:12]}"
    return name, f"{header.format(name)}\n{text}"
