"""Kernels of the registry, proved: bounds, races, barriers. And wrong kernels, which are found out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import symgraph as sg
from symgraph.errors import HostError
from symgraph.index import Expr, size_value
from symgraph.loop import ir
from symgraph.loop.check import Finding, check
from symgraph.loop.ir import Barrier, Combine, Fetch, For, If, LoopKernel, Put, Statement, Store
from symgraph.runtime.lowered import Lowering
from symgraph.runtime.program import ProgramStep
from tests.backend.table import NAMES, cases, gradients, symbolic

UNPROVED: dict[str, dict[str, int]] = {"cuda": {}, "cpu": {}}
"""Kernels of the registry that the checker cannot decide: rows that are read and stored in turns, where their length is
a symbol; and reshapes that take two quotients of one index apart."""


def findings(step: ProgramStep, made: Lowering, kernel: LoopKernel | None = None) -> list[Finding]:
    kernel = step.loops if kernel is None else kernel
    assert kernel is not None
    gpu = step.launch is not None
    equations = [(c.got, c.wanted) for c in made.program.checks if not c.at_least]
    extent: Any = None if gpu else step.extent
    return check(kernel, step.bindings, step.launch is not None and step.launch.kind == "one", extent, equations)


def programs(name: str, target: str) -> Iterator[Lowering]:
    for some in [cases(name), *([c] for c in symbolic(name)), gradients(name, 1), gradients(name, 2)]:
        if some:
            try:
                yield sg.lower([v for c in some for v in c.inputs], [v for c in some for v in c.outputs], target)
            except HostError:
                continue


@pytest.mark.parametrize("target", ["cuda", "cpu"])
def test_registry(target: str) -> None:
    seen: set[str] = set()
    unproved: dict[str, int] = {}
    for name in NAMES:
        for made in programs(name, target):
            for s in made.program.steps:
                if s.loops is not None and s.loops.body and s.name not in seen:
                    seen.add(s.name)
                    unproved[name] = unproved.get(name, 0) + bool(findings(s, made))
    assert len(seen) > 1000
    assert {name: n for name, n in unproved.items() if n} == UNPROVED[target]


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
        if findings(s, made):
            continue
        before = ir.show(s.loops)
        kernel = LoopKernel(s.loops.params, changed(s.loops.body, change))
        if ir.show(kernel) != before:
            count += 1
            assert kind in {f.kind for f in findings(s, made, kernel)}, ir.show(kernel)
    return count


def test_the_example_is_proved() -> None:
    for target in ("cuda", "cpu"):
        assert sum(bool(findings(s, made)) for s, made in example(target)) <= 1


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


def test_a_barrier_that_is_left_out() -> None:
    x = sg.matrix("x", shape=(8, 40))
    made = sg.lower([x], sg.softmax(x, axis=1), "cuda")
    (s,) = made.program.steps
    assert s.loops is not None
    assert findings(s, made) == []
    kernel = LoopKernel(s.loops.params, changed(s.loops.body, lambda t: [] if isinstance(t, Barrier) else [t]))
    assert ir.show(kernel) != ir.show(s.loops)
    assert "race" in {f.kind for f in findings(s, made, kernel)}
