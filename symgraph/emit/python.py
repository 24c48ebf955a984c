"""Loop IR as Python source. One printer for all targets; a target adds a small table."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

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
    """What differs between targets."""

    name: str
    loops: Mapping[str, str]  # kind of loop -> the name of its range
    functions: Mapping[str, str] = field(default_factory=dict)  # scalar functions of another name


CPU = Target("cpu", {"parallel": "range", "serial": "range", "vector": "vector_range"}, {"where": "select"})


class _Printer:
    def __init__(self, target: Target) -> None:
        self.target = target

    def value(self, e: Expr, inner: bool = False) -> str:
        fn, args = e.fn, e.args
        if fn == "const":
            return f"{e.dtype.name}({e.attr!r})" if e.dtype.name != "int64" else repr(e.attr)
        if fn == "name":
            return str(e.attr)
        if fn == "load":
            return f"{e.attr}[{self.value(args[0])}]"
        if fn == "cast":
            name = "boolean" if e.dtype == bool else e.dtype.name
            return f"{name}({self.value(args[0])})"
        booleans = bool(args) and args[-1].dtype == bool
        if booleans and fn in _BOOLEAN:
            text = f"{self.value(args[0], True)} {_BOOLEAN[fn]} {self.value(args[1], True)}"
            return f"({text})" if inner else text
        if fn in ("logical_and", "logical_or", "logical_xor", "logical_not"):
            truths = [
                f"({self.value(a, True)} != {_zero(a)})" if a.dtype != bool else self.value(a, True) for a in args
            ]
            text = f" {_BOOLEAN[fn]} ".join(truths) if fn != "logical_not" else f"~{truths[0]}"
            return f"({text})" if inner else text
        if fn in _INFIX:
            text = f"{self.value(args[0], True)} {_INFIX[fn]} {self.value(args[1], True)}"
            return self._half(e, f"({text})" if inner else text)
        if fn in ("floor_divide", "remainder") and e.dtype.name == "int64" and self._positive(args[1]):
            text = f"{self.value(args[0], True)} {'//' if fn == 'floor_divide' else '%'} {self.value(args[1], True)}"
            return f"({text})" if inner else text
        if fn in ("negative", "bitwise_invert"):
            text = ("-" if fn == "negative" else "~") + self.value(args[0], True)
            return self._half(e, f"({text})" if inner else text)
        name = self.target.functions.get(fn, fn)
        return self._half(e, f"{name}({', '.join(self.value(a) for a in args)})")

    @staticmethod
    def _positive(e: Expr) -> bool:
        # Sizes are what index arithmetic divides by; user data goes through the functions that define division by zero.
        return e.fn == "const" or (e.fn == "name" and str(e.attr).startswith("n"))

    @staticmethod
    def _half(e: Expr, text: str) -> str:
        """NumPy rounds every float16 result; registers hold float32."""
        return f"float16({text})" if e.dtype.name == "float16" and e.fn not in ("where", "maximum", "minimum") else text

    def block(self, body: list[ir.Statement], depth: int, lines: list[str]) -> None:
        pad = "    " * depth
        for s in body:
            if isinstance(s, ir.For):
                start, stop = self.value(s.start), self.value(s.stop)
                bounds = stop if start == "0" else f"{start}, {stop}"
                lines.append(f"{pad}for {s.index} in {self.target.loops[s.kind]}({bounds}):")
                self.block(s.body, depth + 1, lines)
            elif isinstance(s, ir.If):
                lines.append(f"{pad}if {self.value(s.condition)}:")
                self.block(s.then, depth + 1, lines)
                lines.append(f"{pad}else:")
                self.block(s.otherwise, depth + 1, lines)
            elif isinstance(s, ir.Check):
                lines += [f"{pad}if not ({self.value(s.condition)}):", f"{pad}    return {s.code}"]
            elif isinstance(s, ir.Store):
                lines.append(f"{pad}{s.buffer}[{self.value(s.at)}] = {self.value(s.value)}")
            else:
                lines.append(f"{pad}{s.name} = {self.value(s.value)}")
        if not body:
            lines.append(f"{pad}pass")


def _zero(e: Expr) -> str:
    return f"{'float32' if e.dtype.name == 'float16' else e.dtype.name}(0)"


def emit(kernel: ir.LoopKernel, target: Target = CPU) -> tuple[str, str]:
    """Name and source of a kernel. Equal structures give equal sources, hence equal names."""
    printer = _Printer(target)
    lines: list[str] = []
    for k, p in enumerate(kernel.params):
        if p.kind == "buffer":
            lines.append(f"    {p.name} = pointer_{p.dtype.name}(args[{k}])")
        elif p.kind == "size":
            lines.append(f"    {p.name} = args[{k}]")
        else:
            lines.append(f"    {p.name} = word_{p.dtype.name}(args[{k}])")
    printer.block(kernel.body, 1, lines)
    lines.append("    return 0")
    text = "\n".join(lines) + "\n"
    name = f"k_{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    return name, f"def {name}(args, lo, hi):\n{text}"
