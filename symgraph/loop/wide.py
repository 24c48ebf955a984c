"""Maps that move 16 bytes at once: loops over neighbouring elements, taken two or four at a time.

A ``grid`` or ``lane`` loop that loads and stores at its index becomes two: one over whole groups of elements, whose
loads and stores are one instruction each, and the loop as it was over the rest. Where a pointer that the launch gets is
not aligned, the first loop has no iterations. What is computed for an element is the same in both.

A loop with much to compute for each byte gains nothing, and one over many tensors would not find the registers: both
stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

from symgraph import index as ix
from symgraph.loop import ir
from symgraph.loop.ir import Fetch, For, If, Let, Put, Statement, Store
from symgraph.loop.nest import call, expressions, loads
from symgraph.op import OPS

BYTES = 16
"""What one thread moves at once."""
MOVED = ("float32", "float64", "int32", "int64", "uint32", "uint64")
"""Dtypes whose registers and memory are the same."""
INTENSITY = 10
"""FLOPs for a byte that is moved, from which on arithmetic takes the time: an H100 does 20 float32 or 10 float64."""
MOST = 16
"""Places that a loop taken several elements at a time moves from or to: 16 bytes of each are 64 of 255 registers."""


def widened(body: Sequence[Statement]) -> tuple[list[Statement], int]:
    """``body`` with its loops taken several elements at a time, and how many the last ``grid`` loop takes."""
    taken, serial = 1, 0

    def block(body: Sequence[Statement]) -> list[Statement]:
        nonlocal taken, serial
        made: list[Statement] = []
        for s in body:
            if isinstance(s, If):
                made.append(If(s.condition, block(s.then), block(s.otherwise)))
            elif isinstance(s, For):
                width = _width(s)
                if width > 1:
                    made += _several(s, width, serial)
                    serial += 1
                    taken = width if s.kind == "grid" else taken
                else:
                    made.append(For(s.index, s.start, s.stop, s.kind, block(s.body), s.total))
            else:
                made.append(s)
        return made

    return block(body), taken


def _width(loop: For) -> int:
    """How many elements of ``loop`` may be taken at once; 1 where it does not qualify."""
    if loop.kind not in ("grid", "lane") or loop.start.fn != "const" or loop.start.attr != 0:
        return 1
    if any(not isinstance(s, Let | Store) for s in loop.body):
        return 1
    varying = {loop.index}
    for s in loop.body:
        if isinstance(s, Let) and _uses(s.value, varying):
            varying.add(s.name)
    moved = {}
    for e in loads(loop.body):
        if _uses(e.args[0], varying):
            if _start(e.args[0], loop.index, varying) is None:
                return 1
            moved[str(e.attr), e.args[0]] = e.dtype
    stored = {}
    for s in loop.body:
        if isinstance(s, Store):
            if _start(s.at, loop.index, varying) is None:
                return 1
            stored[s.buffer, s.at] = s.dtype
    both = [*moved.values(), *stored.values()]
    if len(both) > MOST:
        return 1
    if not stored or {b for b, _ in stored} & {b for b, _ in moved} or any(d.name not in MOVED for d in both):
        return 1
    work = sum(int(getattr(OPS.get(e.fn), "flops", 0)) for e in expressions(loop.body))
    if work > INTENSITY * sum(d.itemsize for d in both):
        return 1
    return BYTES // max(d.itemsize for d in both)


def _uses(e: ix.Expr, names: set[str]) -> bool:
    stack = [e]
    while stack:
        e = stack.pop()
        if e.fn == "name" and str(e.attr) in names:
            return True
        stack.extend(e.args)
    return False


def _start(at: ix.Expr, index: str, varying: set[str]) -> ix.Expr | None:
    """``at`` without the index, where it is the index plus what does not vary with it."""
    if at.fn == "name" and str(at.attr) == index:
        return ix.size_value(0)
    if at.fn == "add":
        for one, other in (at.args, at.args[::-1]):
            if one.fn == "name" and str(one.attr) == index and not _uses(other, varying):
                return other
    return None


def _several(loop: For, width: int, serial: int) -> list[Statement]:
    varying = {loop.index} | {s.name for s in loop.body if isinstance(s, Let)}
    group, first, count = (ir.name(f"{prefix}{serial}", ix.INT) for prefix in ("y", "first", "nwide"))
    body: list[Statement] = [Let(str(first.attr), call("multiply", group, ix.size_value(width)))]
    fetched: dict[tuple[str, str], list[ix.Expr]] = {}
    tests: dict[tuple[str, str], ix.Expr] = {}

    def place(at: ix.Expr) -> ix.Expr:
        start = _start(at, loop.index, {loop.index})
        assert start is not None
        return first if start.fn == "const" and start.attr == 0 else call("add", start, first)

    def test(buffer: str, at: ix.Expr) -> None:
        start = _start(at, loop.index, {loop.index})
        assert start is not None
        size = ix.size_value(width)
        tests[buffer, ir.expression(at)] = ix.Expr("aligned", (start, size), ix.BOOL, buffer, frozenset())

    wide = [e for e in loads(loop.body) if _start(e.args[0], loop.index, {loop.index}) is not None]
    for e in reversed(wide):  # found last to first
        key = (str(e.attr), ir.expression(e.args[0]))
        if key not in fetched:
            parts = fetched[key] = [ir.name(f"f{serial}_{len(fetched)}_{k}", e.dtype) for k in range(width)]
            test(key[0], e.args[0])
            body.append(Fetch(tuple(str(n.attr) for n in parts), key[0], place(e.args[0]), e.dtype))
    values: dict[tuple[str, str], tuple[ix.Expr, list[ix.Expr]]] = {}
    for k in range(width):
        names = {n: f"{n}_{k}" for n in varying}
        if any(e.fn == "name" and e.attr == loop.index for s in loop.body for e in _values_but(s, fetched)):
            body.append(Let(names[loop.index], call("add", first, ix.size_value(k)) if k else first))
        for s in loop.body:
            if isinstance(s, Let):
                body.append(Let(names[s.name], _renamed(s.value, names, fetched, k)))
            elif isinstance(s, Store):
                value = _renamed(s.value, names, fetched, k)
                values.setdefault((s.buffer, ir.expression(s.at)), (s.at, []))[1].append(value)
    for (buffer, _), (at, all_parts) in values.items():
        test(buffer, at)
        body.append(Put(buffer, place(at), tuple(all_parts)))
    aligned: ix.Expr | None = None
    for t in tests.values():
        aligned = t if aligned is None else call("logical_and", aligned, t, dtype=ix.BOOL)
    assert aligned is not None
    whole = call("floor_divide", loop.stop, ix.size_value(width))
    rest = call("multiply", count, ix.size_value(width))
    return [
        Let(str(count.attr), call("where", aligned, whole, ix.size_value(0))),
        For(str(group.attr), ix.size_value(0), count, loop.kind, body),
        For(loop.index, rest, loop.stop, loop.kind, loop.body, loop.total),
    ]


def _values_but(s: Statement, fetched: dict[tuple[str, str], list[ix.Expr]]) -> list[ix.Expr]:
    """What the values of ``s`` are made of, offsets of what is fetched and stored left out."""
    assert isinstance(s, Let | Store)
    found: list[ix.Expr] = []
    stack = [s.value]
    while stack:
        e = stack.pop()
        if e.fn == "load" and (str(e.attr), ir.expression(e.args[0])) in fetched:
            continue
        found.append(e)
        stack.extend(e.args)
    return found


def _renamed(e: ix.Expr, names: dict[str, str], fetched: dict[tuple[str, str], list[ix.Expr]], k: int) -> ix.Expr:
    """``e`` for the ``k``-th of the elements. Expressions of loops are a few operations deep."""
    if e.fn == "load" and (found := fetched.get((str(e.attr), ir.expression(e.args[0])))) is not None:
        return found[k]
    if e.fn == "name":
        return ir.name(names.get(str(e.attr), str(e.attr)), e.dtype)
    if not e.args:
        return e
    return ix.Expr(e.fn, tuple(_renamed(a, names, fetched, k) for a in e.args), e.dtype, e.attr, frozenset())
