"""Kernels of the registry, proved: bounds, races, barriers. And wrong kernels, which are found out."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from benchmarks.cuda_table import graphs
from symgraph.errors import HostError
from symgraph.graph import Variable
from symgraph.index import Expr, size_value
from symgraph.loop import ir
from symgraph.loop.check import check
from symgraph.loop.ir import (
    Assign,
    Atomic,
    Barrier,
    Combine,
    Fetch,
    For,
    If,
    Let,
    LoopKernel,
    Param,
    Prefix,
    Put,
    Statement,
    Store,
)
from symgraph.runtime.lowered import Lowering
from symgraph.runtime.program import ProgramStep
from symgraph.testing.proofs import findings, is_text, shared, text_findings
from symgraph.types import dim, tensor_type
from tests.backend.table import NAMES, cases, gradients, symbolic


def programs(name: str, target: str) -> Iterator[Lowering]:
    for some in [cases(name), *([c] for c in symbolic(name)), gradients(name, 1), gradients(name, 2)]:
        if some:
            try:
                yield sg.lower([v for c in some for v in c.inputs], [v for c in some for v in c.outputs], target)
            except HostError:
                continue


def decided(programs: Iterable[tuple[str, Lowering]]) -> int:
    """How many kernels there are; each has to be proved, with each way in which its buffers share memory."""
    seen: set[Any] = set()
    for what, made in programs:
        for s in made.program.steps:
            if s.loops is not None and s.loops.body and (key := (s.name, *shared(s, made).items())) not in seen:
                seen.add(key)
                assert findings(s, made) == [], f"{what}: {ir.show(s.loops)}"
            if s.loops is not None and is_text(s) and (key := proof_of(s)) not in seen:
                seen.add(key)
                assert text_findings(s, made) == [], f"{what}: {s.source}"
    return len(seen)


def proof_of(step: ProgramStep) -> Any:
    """What the proof of a text is about: its dtypes do not matter, and the sizes of what it works on do."""
    sizes = [b.type.shape if isinstance(b, Variable) else str(b) for b in step.bindings]
    return re.sub(r"(?:u?int|float)\d+|bool", "dtype", step.source), *sizes


@pytest.mark.timeout(900)  # with those of texts
@pytest.mark.parametrize("target", ["cuda", "cpu"])
def test_registry(target: str) -> None:
    assert decided((name, made) for name in NAMES for made in programs(name, target)) > 1000


@pytest.mark.timeout(900)
def test_benchmarks() -> None:
    """The programs of the benchmarks' rows, in the sizes that they have there; but for a chain that takes long."""
    rows = [(what, inputs, outputs) for what, _, inputs, outputs in graphs() if what != "chain, 10,000 sines"]
    assert len(rows) >= 14
    for target, least in (("cuda", 60), ("cpu", 40)):
        assert decided((what, sg.lower(inputs, outputs, target)) for what, inputs, outputs in rows) > least


# -- wrong kernels -----------------------------------------------------------------------------------------------------


def example(target: str = "cuda") -> Iterator[tuple[ProgramStep, Lowering]]:
    x, y = sg.matrix("x", shape=("n", 6)), sg.vector("y", shape=("k",))
    i = sg.vector("i", dtype="int64", shape=("m",))
    outputs = [sg.sum(x, axis=1), sg.logsumexp(x, axis=1), sg.tanh(y) + 1, sg.take(x, i, axis=0), sg.sum(x, axis=0)]
    made = sg.lower([x, y, i], [*outputs, sg.softmax(sg.reshape(y, (y.shape[0],)), axis=0)], target)
    for s in made.program.steps:
        yield s, made


def changed(body: list[Statement], change: Callable[[Statement], list[Statement]]) -> list[Statement]:
    out: list[Statement] = []
    for s in body:
        if isinstance(s, For):
            s = dataclasses.replace(s, body=changed(s.body, change))
        elif isinstance(s, If):
            s = If(s.condition, changed(s.then, change), changed(s.otherwise, change))
        out += change(s)
    return out


def caught(change: Callable[[Statement], list[Statement]], kind: str, target: str = "cuda") -> int:
    """How many kernels of the example the change is made to; each has to be found out."""
    count = 0
    for s, made in example(target):
        assert s.loops is not None
        before = ir.show(s.loops)
        kernel = LoopKernel(s.loops.params, changed(s.loops.body, change))
        if ir.show(kernel) != before:
            count += 1
            assert kind in {f.kind for f in findings(s, made, kernel)}, ir.show(kernel)
    return count


def test_the_example_is_proved() -> None:
    for target in ("cuda", "cpu"):
        assert not any(findings(s, made) for s, made in example(target))


TRUTH, F64 = np.dtype(bool), np.dtype("float64")


def plus(e: Expr, n: int) -> Expr:
    return Expr("add", (e, size_value(n)), e.dtype, None, frozenset())


@pytest.mark.parametrize("by", [1, -1])
@pytest.mark.parametrize("target", ["cuda", "cpu"])
def test_a_shifted_store(by: int, target: str) -> None:
    def change(s: Statement) -> list[Statement]:
        return (
            [dataclasses.replace(s, at=plus(s.at, by))] if isinstance(s, Store | Put) and s.buffer != "error" else [s]
        )

    assert caught(change, "bounds", target) >= 4


def test_a_shifted_load() -> None:
    def change(s: Statement) -> list[Statement]:
        return [dataclasses.replace(s, at=plus(s.at, 1))] if isinstance(s, Fetch) else [s]

    assert caught(change, "bounds") >= 1


def test_a_loop_that_goes_too_far() -> None:
    def change(s: Statement) -> list[Statement]:
        return [dataclasses.replace(s, stop=plus(s.stop, 1))] if isinstance(s, For) and s.kind == "grid" else [s]

    assert caught(change, "bounds") >= 1


def test_an_index_that_is_not_checked() -> None:
    def change(s: Statement) -> list[Statement]:
        unguarded = isinstance(s, If) and any(isinstance(t, Store) and t.buffer == "error" for t in s.otherwise)
        return s.then if isinstance(s, If) and unguarded else [s]

    assert caught(change, "bounds") == 1


def test_a_reduction_in_parallel() -> None:
    """Lanes that add up without combining; and a loop within a thread that is dealt out to all."""

    def combine(s: Statement) -> list[Statement]:
        return [] if isinstance(s, Combine) else [s]

    assert caught(combine, "race") >= 1

    def deal(s: Statement) -> list[Statement]:
        return [dataclasses.replace(s, kind="grid")] if isinstance(s, For) and s.kind in ("vector", "serial") else [s]

    assert caught(deal, "race") >= 1


def test_lanes_that_all_store() -> None:
    def change(s: Statement) -> list[Statement]:
        return s.then if isinstance(s, If) and s.condition.args[0].fn == "lane" else [s]

    assert caught(change, "race") >= 1


def test_a_barrier_that_not_all_reach() -> None:
    def change(s: Statement) -> list[Statement]:
        return [dataclasses.replace(s, body=[*s.body, Barrier()])] if isinstance(s, For) and s.kind == "lane" else [s]

    assert caught(change, "barrier") >= 2


def soft() -> tuple[ProgramStep, Lowering]:
    """A kernel whose lanes store what others load."""
    x = sg.matrix("x", shape=(8, 40))
    made = sg.lower([x], sg.softmax(x, axis=1), "cuda")
    (s,) = made.program.steps
    assert s.loops is not None
    assert findings(s, made) == []
    return s, made


def waits(change: Callable[[Statement], list[Statement]]) -> set[str]:
    """What is found where the barriers of a kernel are changed."""
    s, made = soft()
    assert s.loops is not None
    kernel = LoopKernel(s.loops.params, changed(s.loops.body, lambda t: change(t) if isinstance(t, Barrier) else [t]))
    assert ir.show(kernel) != ir.show(s.loops)
    return {f.kind for f in findings(s, made, kernel)}


def test_a_barrier_that_is_left_out() -> None:
    assert "race" in waits(lambda t: [])


def test_a_barrier_on_some_ways() -> None:
    """One in a branch, or in a loop that may have no turn, is none for what comes after."""
    some = Expr(
        "less", (size_value(1), Expr("lanes", (), size_value(0).dtype, None, frozenset())), TRUTH, None, frozenset()
    )
    assert waits(lambda t: [If(some, [t], [])]) == {"race"}
    assert waits(lambda t: [For("again", size_value(0), ir.name("n0", size_value(0).dtype), "serial", [t])]) == {"race"}


def test_combining_is_no_barrier() -> None:
    s, _ = soft()
    assert s.loops is not None
    combine = next(t for t in ir.walk(s.loops.body) if isinstance(t, Combine))
    assert waits(lambda t: [combine]) == {"race"}


@pytest.mark.parametrize("other", ["another lane", "all others"])
def test_lanes_that_store_what_one_should(other: str) -> None:
    def change(s: Statement) -> list[Statement]:
        if not isinstance(s, If) or s.condition.args[0].fn != "lane":
            return [s]
        if other == "all others":
            return [If(s.condition, [], s.then)]
        one = Expr("equal", (s.condition.args[0], size_value(1)), TRUTH, None, frozenset())
        return [If(one, s.then, [])]

    assert caught(change, "race") >= 1


def test_a_value_that_one_lane_stores_and_all_load() -> None:
    """Without a barrier: of one buffer, or of two in the same memory."""
    index = size_value(0).dtype
    lane = Expr("lane", (), index, None, frozenset())
    first = Expr("equal", (lane, size_value(0)), TRUTH, None, frozenset())
    i, n = ir.name("i", index), ir.name("n", index)
    value = Expr("load", (i,), F64, "x", frozenset())
    body: list[Statement] = [Let("v", value), If(first, [Store("y", i, ir.name("v", F64))], [])]
    rows = For("i", size_value(0), n, "group", body)
    kernel = LoopKernel([Param("n", "size", index), Param("x", "buffer", F64), Param("y", "buffer", F64)], [rows])
    size = dim("rows")
    bindings = [size, *(Variable(tensor_type(F64, (size,)), name=v) for v in "xy")]
    assert check(kernel, bindings) == []
    assert {f.kind for f in check(kernel, bindings, shares={"y": "x"})} == {"race"}


@pytest.mark.parametrize("what", ["remainder", "minimum", "where", "loaded", "sum with loaded", "difference"])
def test_places_that_two_iterations_may_have(what: str) -> None:
    index = size_value(0).dtype

    def call(fn: str, *args: Expr) -> Expr:
        return Expr(fn, args, TRUTH if fn in ("less", "greater_equal") else index, None, frozenset())

    n, i = ir.name("n", index), ir.name("i", index)
    loaded = Expr("load", (i,), index, "y", frozenset())
    at = {
        "remainder": call("remainder", i, size_value(3)),
        "minimum": call("minimum", i, size_value(1)),
        "where": call("where", call("less", i, size_value(1)), i, size_value(0)),
        "loaded": loaded,
        "sum with loaded": call("add", i, loaded),
        "difference": call("subtract", plus(n, -1), i),
    }[what]
    both = call("less", at, n), call("greater_equal", at, size_value(0))
    inside = Expr("logical_and", both, TRUTH, None, frozenset())
    one = Expr("const", (), F64, 1.0, frozenset())
    body: list[Statement] = [If(inside, [Store("x", at, one)], [])]
    params = [Param("n", "size", index), Param("x", "buffer", F64), Param("y", "buffer", index)]
    size = dim("rows")
    bindings = [size, *(Variable(tensor_type(dtype, (size,)), name="v") for dtype in (F64, index))]
    found = check(LoopKernel(params, [For("i", size_value(0), n, "grid", body)]), bindings)
    assert {f.kind for f in found} == (set() if what == "difference" else {"race"})


def test_additions_and_a_load() -> None:
    """Threads may add to one element, and not load it meanwhile."""
    index = size_value(0).dtype
    n = ir.name("n", index)
    first = size_value(0)
    add = Atomic("x", first, Expr("const", (), F64, 1.0, frozenset()))
    load = Let("v", Expr("load", (first,), F64, "x", frozenset()))
    params = [Param("n", "size", index), Param("x", "buffer", F64)]
    bindings = [dim("rows"), Variable(tensor_type(F64, (1,)), name="x")]
    alone: list[Statement] = [add]
    for body, kinds in ((alone, set()), ([*alone, load], {"race"})):
        kernel = LoopKernel(params, [For("i", size_value(0), n, "grid", body)])
        assert {f.kind for f in check(kernel, bindings)} == kinds


@pytest.mark.parametrize(("step", "wrong"), [(4, False), (5, False), (3, True), (0, False)])
def test_turns_that_overlap(step: int, wrong: bool) -> None:
    """An element that one lane stores in one turn is another lane's in the next, if they overlap and start apart."""
    index = size_value(0).dtype
    turn, i, n = (ir.name(v, index) for v in ("turn", "i", "n"))
    start = Expr("multiply", (turn, size_value(step)), index, None, frozenset())
    store = Store("x", i, Expr("const", (), F64, 1.0, frozenset()))
    inner = For("i", start, plus(start, 4), "lane", [store])
    size = dim("turns")
    bindings = [size, Variable(tensor_type(F64, (size * 5 + 4,)), name="x")]
    params = [Param("n", "size", index), Param("x", "buffer", F64)]
    found = check(LoopKernel(params, [For("turn", size_value(0), n, "serial", [inner])]), bindings)
    assert {f.kind for f in found} == ({"race"} if wrong else set())


@pytest.mark.parametrize(("stride", "length", "kinds"), [(4, 3, set()), (4, 5, {"race"}), (3, 3, {"race"})])
def test_rows_that_others_load(stride: int, length: int, kinds: set[str]) -> None:
    """Groups store rows of three elements, four apart, and load theirs again after a barrier: or parts of others."""
    index = size_value(0).dtype
    group, i, k = (ir.name(v, index) for v in ("group", "i", "k"))

    def place(step: int, at: Expr) -> Expr:
        row = Expr("multiply", (group, size_value(step)), index, None, frozenset())
        return Expr("add", (row, at), index, None, frozenset())

    store = Store("x", place(4, i), Expr("const", (), F64, 1.0, frozenset()))
    load = Let("v", Expr("load", (place(stride, k),), F64, "x", frozenset()))
    body: list[Statement] = [For("i", size_value(0), size_value(3), "lane", [store]), Barrier()]
    body.append(For("k", size_value(0), size_value(length), "lane", [load]))
    size = dim("rows")
    params = [Param("n", "size", index), Param("x", "buffer", F64)]
    bindings = [size, Variable(tensor_type(F64, (size * 4 + 1,)), name="x")]
    kernel = LoopKernel(params, [For("group", size_value(0), ir.name("n", index), "group", body)])
    assert {f.kind for f in check(kernel, bindings)} == kinds


def test_sizes_that_may_be_zero() -> None:
    """What a quotient says of its divisor holds where it is computed, and nowhere else."""
    index = size_value(0).dtype
    n, i = ir.name("n", index), ir.name("i", index)
    over = For("i", size_value(0), n, "serial", [Let("r", Expr("remainder", (i, n), index, None, frozenset()))])
    one = Expr("const", (), F64, 1.0, frozenset())
    last = Store("x", plus(n, -1), one)
    params = [Param("n", "size", index), Param("x", "buffer", F64)]
    size = dim("rows")
    bindings = [size, Variable(tensor_type(F64, (size,)), name="x")]
    assert check(LoopKernel(params, [over]), bindings, True) == []
    assert [f.what for f in check(LoopKernel(params, [over, last]), bindings, True)] == ["x[add(n, -1)] below 0"]
    outside: list[Statement] = [*over.body, last]
    found = check(LoopKernel(params, [Let("i", size_value(3)), *outside]), bindings, True)
    assert {f.what for f in found} == {"remainder(i, n): divides by 0", "x[add(n, -1)] below 0"}


def test_results_that_one_lane_stores_are_in_no_operands_place() -> None:
    x, y, z = sg.matrix("x", shape=(3, 2)), sg.vector("y", shape=3), sg.vector("z", shape=3)
    t = sg.exp(y)
    made = sg.lower([x, y, z], [sg.sum(t) + sg.sum(sg.exp(sg.sum(x * x, axis=1) / t))], "cuda")
    assert decided([("rows", made)]) >= 1


# -- running reductions ------------------------------------------------------------------------------------------------


def running(axis: int, target: str, change: Callable[[Statement], list[Statement]] | None = None) -> set[str]:
    """What is found of the last kernel of a running sum of rows or columns."""
    x = sg.tensor("x", "float64", ("a", "b", "c"))
    made = sg.lower([x], sg.cumsum(x, axis), target)
    s = made.program.steps[-1]
    assert s.loops is not None
    kernel = s.loops if change is None else LoopKernel(s.loops.params, changed(s.loops.body, change))
    assert change is None or ir.show(kernel) != ir.show(s.loops)
    return {f.kind for f in findings(s, made, kernel)}


def test_running_reductions() -> None:
    for axis in (0, 1, 2):
        assert running(axis, "cuda") == running(axis, "cpu") == set()

    def together(s: Statement) -> list[Statement]:  # each part begins where the row does
        return [Let(s.name, size_value(0))] if isinstance(s, Let) and s.name == "begin0_0" else [s]

    def further(s: Statement) -> list[Statement]:  # a part as long as the others, where the row ends
        if isinstance(s, Let) and s.name == "stop0_0":
            return [dataclasses.replace(s, value=s.value.args[0])]
        return [s]

    for axis in (0, 1, 2):
        assert "race" in running(axis, "cuda", together)
        assert "bounds" in running(axis, "cuda", further)

    def inside(s: Statement) -> list[Statement]:  # lanes that have a term exchange it
        if isinstance(s, For) and s.kind == "lane" and any(isinstance(t, Assign) for t in s.body):
            exchanged = Prefix("term0", "all0", "add", np.dtype("float64"), "s0")
            return [dataclasses.replace(s, body=[*s.body, exchanged])]
        return [s]

    assert "barrier" in running(2, "cuda", inside)

    def at_once(s: Statement) -> list[Statement]:  # steps that wait for no other
        return [dataclasses.replace(s, kind="parallel")] if isinstance(s, For) and s.kind == "serial" else [s]

    assert "race" in running(0, "cpu", at_once)
    assert "race" in running(2, "cpu", at_once)
