"""What a nest of loops computes: the floating-point operations in it, by node and function, times their iterations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from symgraph.graph import Apply
from symgraph.index import Expr
from symgraph.loop import ir
from symgraph.loop.lower import Lowered
from symgraph.loop.region import Box, Conditions, Regions, as_polynomial, parse, split
from symgraph.types import Atom, Dim, Size

FREE: Final = frozenset(
    (
        *("load", "cast", "where", "negative", "positive", "absolute", "sign", "copysign", "signbit"),
        *("floor", "ceil", "trunc", "rint", "isnan", "isinf", "isfinite"),
        *("less", "less_equal", "greater", "greater_equal", "equal", "not_equal"),
        *("logical_and", "logical_or", "logical_xor", "logical_not"),
    )
)
"""What moves, compares, selects, rounds or changes a sign: no operation."""
ARITHMETIC: Final = frozenset(
    (
        *("add", "subtract", "multiply", "divide", "square", "reciprocal", "sqrt", "maximum", "minimum"),
        *("fmod", "remainder", "floor_divide"),
    )
)
"""What is one FLOP. Any other function of floating-point numbers is a transcendental."""
_SPELLED: Final = {"add_reassoc": "add", "mul_reassoc": "multiply"}


@dataclass
class Operations:
    """Numbers of operations by node and function; ``exact`` is false where they may be too large."""

    counts: dict[tuple[Apply | None, str], Size] = field(default_factory=dict)
    exact: bool = True


def function_of(e: Expr) -> str | None:
    """The floating-point operation that computing ``e`` from its operands is; ``None`` where it is none."""
    if not e.args or e.fn in FREE or not (e.dtype.kind == "f" or any(a.dtype.kind == "f" for a in e.args)):
        return None
    return _SPELLED.get(e.fn, e.fn)


def count(lowered: Lowered) -> Operations:
    """The operations of a kernel that one thread runs.

    Each operation is counted where lowering put it, as often as the loops around it run: what fusion computes again is
    counted again, and what was moved out of a loop is counted once. Index arithmetic is no operation.
    """
    return _Counter(lowered).run()


class _Counter:
    def __init__(self, lowered: Lowered) -> None:
        self.lowered = lowered
        self.out = Operations()
        self.values: dict[str, Size | None] = {"lo": 0, "hi": lowered.extent}
        for p, b in zip(lowered.loops.params, lowered.bindings, strict=True):
            if p.kind == "size" and isinstance(b, int | Dim):
                self.values[p.name] = b
        self.lets: dict[str, Expr] = {}
        self.memo: dict[Expr, Size | None] = {}

    def run(self) -> Operations:
        self.block(self.lowered.loops.body, Regions([{}]), None)
        return self.out

    def size(self, e: Expr) -> Size | None:
        return as_polynomial(e, self.leaf, self.memo)

    def leaf(self, e: Expr) -> Size | None:
        return self.values.get(str(e.attr)) if e.fn == "name" else None

    def define(self, e: Expr) -> Expr:
        while e.fn == "name" and str(e.attr) in self.lets:
            e = self.lets[str(e.attr)]
        return e

    def block(self, body: list[ir.Statement], regions: Regions, around: Atom | None) -> None:
        """Count ``body``; ``around`` is the index of the loop that it is the body of."""
        for s in body:
            if isinstance(s, ir.For):
                self.loop(s, regions, around)
            elif isinstance(s, ir.If):
                self.add(s.condition, regions)
                yes, no = split(regions, partial(self.conditions, s.condition))
                self.block(s.then, yes, None)
                self.block(s.otherwise, no, None)
            elif isinstance(s, ir.Check):
                self.add(s.condition, regions)
            elif isinstance(s, ir.Let | ir.Declare | ir.Assign | ir.Store):
                self.add(s.value, regions)
                if isinstance(s, ir.Let) and s.value.dtype.kind in "iub":
                    self.lets[s.name] = s.value
                    self.values[s.name] = self.size(s.value)

    def conditions(self, test: Expr, box: Box) -> Conditions:
        return parse(test, box, self.size, self.define)

    def loop(self, s: ir.For, regions: Regions, around: Atom | None) -> None:
        if s.total is not None:
            # The turns of this loop make one pass together: the loop around it does not multiply.
            boxes: list[Box] = [{a: r for a, r in box.items() if a is not around} for box in regions.boxes]
            regions, extent = Regions(boxes, regions.exact), self.size(s.total)
        else:
            start, stop = self.size(s.start), self.size(s.stop)
            extent = stop - start if start is not None and stop is not None else None
        assert extent is not None, f"the extent of the loop over {s.index} is not known"
        atom = Atom(None)
        self.values[s.index] = Dim((((atom,), 1),))
        self.block(s.body, regions.within(atom, extent), atom)

    def add(self, e: Expr, regions: Regions) -> None:
        counts, times = self.out.counts, None
        stack = [e]
        while stack:
            top = stack.pop()
            stack.extend(top.args)
            fn = function_of(top)
            if fn is not None:
                if times is None:
                    times = regions.volume
                    self.out.exact &= regions.exact
                key = (top.origin, fn)
                counts[key] = counts.get(key, 0) + times


def flops(counts: Mapping[str, Size]) -> Size:
    """The arithmetic among them, one each."""
    total: Size = 0
    for fn, n in counts.items():
        total = total + n if fn in ARITHMETIC else total
    return total


def transcendentals(counts: Mapping[str, Size]) -> Size:
    """The functions among them, one each."""
    total: Size = 0
    for fn, n in counts.items():
        total = total if fn in ARITHMETIC else total + n
    return total
