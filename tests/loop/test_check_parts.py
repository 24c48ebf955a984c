"""Kernels of reductions in parts, proved; and wrong ones, which are found out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import symgraph as sg
from symgraph.graph import Constant, Variable, leaves
from symgraph.index import size_value
from symgraph.loop.check import Finding
from symgraph.loop.ir import Atomic, If, Let, LoopKernel, Statement, Store
from symgraph.loop.nest import call
from symgraph.runtime.lowered import Lowering
from symgraph.testing.proofs import findings
from tests.loop.test_check import changed


def layernorm(x: Variable) -> Variable:
    centred = x - sg.mean(x, axis=1, keepdims=True)
    return centred / sg.sqrt(sg.mean(centred * centred, axis=1, keepdims=True) + 1e-5)


def taken(x: Variable) -> Variable:
    i = sg.vector("i", dtype="int64", shape=("k",))
    return sg.sum(sg.take(x, i, axis=0), axis=1)


GRAPHS: dict[str, Callable[[Variable], Variable]] = {
    "sum": lambda x: sg.sum(x, axis=1),
    "argmax": lambda x: sg.argmax(x, axis=1),
    "log_sum_exp": lambda x: sg.logsumexp(x, axis=1),
    "softmax": lambda x: sg.softmax(x, axis=1),
    "layernorm": layernorm,
    "gradient": lambda x: sg.grad(sg.sum(sg.log_softmax(x, axis=1) * x), x),
    "taken": taken,
    "columns": lambda x: sg.sum(x, axis=0),
    "mean": lambda x: sg.mean(sg.reshape(x, (-1,))),
}


def lowered(name: str, shape: Any, atomics: bool) -> Lowering:
    x = sg.matrix("x", dtype="float32", shape=shape)
    out = GRAPHS[name](x)
    inputs = sorted((v for v in leaves([out]) if not isinstance(v, Constant)), key=lambda v: v.serial)
    return sg.lower(inputs, out, "cuda", atomics=atomics)


@pytest.mark.parametrize("shape", [("n", "m"), (4, "m"), (3, 100_001)])
@pytest.mark.parametrize("name", GRAPHS)
def test_proved(name: str, shape: Any) -> None:
    seen: set[str] = set()
    for atomics in (False, True):
        made = lowered(name, shape[::-1] if name == "columns" else shape, atomics)
        assert any(s.workspace or s.zeroed for s in made.program.steps)
        assert [f for s in made.program.steps if s.name not in seen for f in findings(s, made)] == []
        seen |= {s.name for s in made.program.steps}


def wrong(name: str, atomics: bool, change: Callable[[Statement], list[Statement]]) -> Iterator[Finding]:
    made = lowered(name, ("n", "m"), atomics)
    for s in made.program.steps:
        if s.loops is not None:
            yield from findings(s, made, LoopKernel(s.loops.params, changed(s.loops.body, change)))


def test_a_sum_that_all_lanes_add_is_found() -> None:
    def unguarded(s: Statement) -> list[Statement]:
        return list(s.then) if isinstance(s, If) and isinstance(s.then[0], Atomic) else [s]

    for name in ("sum", "mean"):
        found = set(wrong(name, True, unguarded))
        assert {f.kind for f in found} == {"race"}
        assert all("all lanes store it" in f.what for f in found)


def test_parts_that_overlap_are_found() -> None:
    def closer(s: Statement) -> list[Statement]:
        if isinstance(s, Let) and s.name.startswith("begin") and s.value.fn == "multiply" and s.name.count("_"):
            part, length = s.value.args
            return [Let(s.name, call("multiply", part, call("subtract", length, size_value(1))))]
        return [s]

    assert any(f.kind == "race" for f in wrong("softmax", False, closer))


def test_parts_that_go_on_beyond_the_row_are_found() -> None:
    def longer(s: Statement) -> list[Statement]:
        if isinstance(s, Let) and s.name.startswith("stop"):
            return [Let(s.name, s.value.args[0])]
        return [s]

    found = list(wrong("softmax", False, longer))
    assert {"bounds", "race"} <= {f.kind for f in found}


def test_a_partial_result_in_the_place_of_another_one_is_found() -> None:
    def shared(s: Statement) -> list[Statement]:
        if isinstance(s, Store) and s.buffer.startswith("w"):
            return [dataclasses.replace(s, at=s.at.args[1])]  # the part, without the row
        return [s]

    assert any(f.kind == "race" for f in wrong("sum", False, shared))
