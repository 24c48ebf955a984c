"""Loops taken several elements at a time: which are, what becomes of them, and the order of what they add up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import reduce
from itertools import chain, pairwise
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.graph import Variable
from symgraph.index import BOOL, INT, Expr, const, size_value
from symgraph.loop import ir
from symgraph.loop.ir import Assign, Declare, Fetch, For, Let, Prefix, Put, Statement, Store
from symgraph.loop.nest import call
from symgraph.loop.wide import widened
from symgraph.types import Size, dim

F32, F64 = np.dtype("float32"), np.dtype("float64")
N, START, K, ACC = ir.name("n0", INT), ir.name("v0", INT), ir.name("k0", INT), ir.name("acc0", F32)
SIZES: dict[str, Size] = {"n0": dim("n"), "v0": dim("first"), "begin": dim("begin")}


def load(at: Expr, dtype: np.dtype[Any] = F32, buffer: str = "x0") -> Expr:
    return Expr("load", (at,), dtype, buffer, frozenset())


def added(value: Expr, acc: str = "acc0") -> Assign:
    return Assign(acc, call("add", ir.name(acc, value.dtype), value, dtype=value.dtype))


def lane_loop(body: Sequence[Statement], start: Expr | None = None, stop: Expr = N) -> For:
    return For("k0", size_value(0) if start is None else start, stop, "lane", list(body), N)


SUM = [added(load(call("add", START, K)))]


def made(*body: Statement, sizes: Mapping[str, Size] | None = None) -> list[Statement]:
    return widened(body, SIZES if sizes is None else sizes)[0]


def fetches(body: list[Statement]) -> list[Fetch]:
    return [s for s in ir.walk(body) if isinstance(s, Fetch)]


# -- in which order a lane adds up ------------------------------------------------------------------------------------


class Lane:
    """One lane of a group, which notes the elements that it adds up."""

    def __init__(self, lane: int, lanes: int, aligned: bool, words: Mapping[str, int]) -> None:
        self.lane, self.lanes, self.aligned, self.words = lane, lanes, aligned, dict(words)
        self.terms: list[int] = []

    def run(self, body: list[Statement]) -> list[int]:
        for s in body:
            if isinstance(s, For):
                first, step = (self.lane, self.lanes) if s.kind == "lane" else (0, 1)
                for k in range(self.value(s.start) + first, self.value(s.stop), step):
                    self.words[s.index] = k
                    self.run(s.body)
            elif isinstance(s, Fetch):
                assert self.aligned
                self.words |= {name: self.value(s.at) + k for k, name in enumerate(s.names)}
            elif isinstance(s, Assign):
                self.terms.append(self.value(s.value.args[1]))
            else:
                assert isinstance(s, Let)
                self.words[s.name] = self.value(s.value)
        return self.terms

    def value(self, e: Expr) -> int:
        """A number; of an element, where it is."""
        if e.fn == "const":
            return int(e.attr)
        if e.fn == "name":
            return self.words[str(e.attr)]
        if e.fn == "aligned":
            return int(self.aligned)
        args = [self.value(a) for a in e.args]
        functions: dict[str, Callable[..., int]] = {
            "load": lambda at: at,
            "add": lambda a, b: a + b,
            "subtract": lambda a, b: a - b,
            "multiply": lambda a, b: a * b,
            "floor_divide": lambda a, b: a // b,
            "minimum": min,
            "where": lambda test, a, b: a if test else b,
        }
        return functions[e.fn](*args)


def ways(body: list[Statement], lanes: int, words: Mapping[str, int]) -> Iterator[list[list[int]]]:
    """What each lane adds up, where the first element is aligned and where it is not."""
    for aligned in (True, False):
        yield [Lane(lane, lanes, aligned, words).run(body) for lane in range(lanes)]


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("lanes", [1, 2, 4])
@pytest.mark.parametrize("begin", [0, 8])
def test_the_order_does_not_depend_on_alignment(dtype: np.dtype[Any], lanes: int, begin: int) -> None:
    """Nor on which instructions load: each lane has whole groups, in order, and its share of the rest."""
    width = 16 // dtype.itemsize
    body: list[Statement] = [added(load(call("add", START, K), dtype))]
    first, step, last = (ir.name(n, INT) for n in ("begin", "nstep", "end"))
    words = {"v0": 100, "b": begin, "nstep": 1000}
    if begin:
        ends: list[Statement] = [
            Let("begin", call("multiply", ir.name("b", INT), size_value(width))),
            Let("end", call("minimum", call("add", first, step), N)),
        ]
        loops = made(*ends, lane_loop(body, first, last))
    else:
        loops = made(lane_loop(body))
    assert len(fetches(loops)) == 1
    for n in range(begin * width, begin * width + 6 * width):
        at_once, singly = ways(loops, lanes, words | {"n0": n})
        assert at_once == singly
        assert sorted(chain(*at_once)) == list(range(100 + begin * width, 100 + n))
        for terms in at_once:
            groups = terms[: len(terms) // width * width]
            assert all(b - a == 1 for k, (a, b) in enumerate(pairwise(groups)) if (k + 1) % width)
            assert len(terms) - len(groups) <= -(-(width - 1) // lanes)


def test_values_of_one_element_stay_apart() -> None:
    """What is defined in the loop has a name for each element; what is not used goes."""
    here = call("add", ir.name("begin", INT), K)
    body: list[Statement] = [
        Let("at", here),
        Let("v1", load(call("add", START, ir.name("at", INT)))),
        added(call("multiply", ir.name("v1", F32), ir.name("v1", F32), dtype=F32)),
        Assign("best", call("minimum", ir.name("best", INT), K)),
    ]
    loops = made(lane_loop(body))
    (wide,) = (s for s in loops if isinstance(s, For) and any(isinstance(t, Fetch) for t in s.body))
    lets = [s.name for s in wide.body if isinstance(s, Let)]
    assert lets == ["first0", "k0_0", "v1_0", "k0_1", "v1_1", "k0_2", "v1_2", "k0_3", "v1_3"]
    (fetch,) = fetches(loops)
    assert ir.expression(fetch.at) == "add(add(v0, begin), first0)"
    assert [s.name for s in wide.body if isinstance(s, Assign)] == ["acc0", "best"] * 4


def test_a_map_needs_no_twin() -> None:
    x = load(call("add", START, K))
    mapped = made(lane_loop([Store("x1", call("add", START, K), x)]))
    assert [s.kind for s in ir.walk(mapped) if isinstance(s, For)] == ["lane", "lane"]
    assert [s.buffer for s in ir.walk(mapped) if isinstance(s, Put)] == ["x1"]
    summed = made(lane_loop(SUM))
    assert [s.kind for s in ir.walk(summed) if isinstance(s, For)] == ["lane", "lane", "serial", "lane"]


# -- which loops ------------------------------------------------------------------------------------------------------


def kept(*body: Statement, sizes: Mapping[str, Size] | None = None) -> bool:
    loops = made(*body, sizes=sizes)
    return ir.show(ir.LoopKernel([], loops)) == ir.show(ir.LoopKernel([], list(body)))


def test_tiles_of_running_reductions_are_left_alone() -> None:
    """Which lane has which element matters there."""
    term = ir.name("term0", F32)
    tile: list[Statement] = [
        Declare("term0", const(0, F32)),
        lane_loop([added(load(K), "term0")]),
        Prefix("term0", "all0", "add", F32, "s0"),
        lane_loop([Store("x1", K, term)]),
    ]
    assert kept(*tile)
    assert not kept(*(s for s in tile if not isinstance(s, Prefix)))


@pytest.mark.parametrize(
    ("length", "wide"), [(1000, True), (1002, False), (1001, False), (dim("m"), True), (dim("m") * 4, True)]
)
def test_rows_that_are_rarely_aligned(length: Size, wide: bool) -> None:
    """Where rows begin is known by their length."""
    start = Let("v0", call("multiply", ir.name("i0", INT), ir.name("n1", INT)))
    assert kept(start, lane_loop(SUM), sizes={"n0": 1000, "n1": length}) is not wide


def test_neighbours_are_never_both_aligned() -> None:
    assert kept(lane_loop([added(load(K)), added(load(call("add", K, size_value(1))))]))


@pytest.mark.parametrize(
    "value",
    {
        "one in two": load(call("multiply", K, size_value(2))),
        "an element that the data says": load(load(K, INT, "x1")),
        "no element": call("cast", K, dtype=F32),
        "bytes": load(K, np.dtype("int8")),
        "much to compute": reduce(lambda e, _: call("exp", e, dtype=F32), range(4), load(K)),
        "truth": call("where", load(K, BOOL), const(1, F32), const(0, F32), dtype=F32),
    }.values(),
)
def test_what_stays(value: Expr) -> None:
    assert kept(lane_loop([added(value)]))


# -- programs ---------------------------------------------------------------------------------------------------------


def kernels(out: Variable, *inputs: Variable) -> list[str]:
    return [k.source for k in sg.lower(list(inputs), out, "cuda").kernels]


def test_columns_are_left_alone() -> None:
    """Neighbouring threads have neighbouring columns: their loads are side by side as they are."""
    x = sg.matrix("x", dtype="float32", shape=(64, 100_000))
    assert not any("fetch_" in text for text in kernels(sg.sum(x, axis=0), x))


def test_rows_of_known_sizes() -> None:
    found = {}
    for m in (4, 10, 128, 1000, 1001, 100_000):
        x = sg.matrix("x", dtype="float32", shape=(1000, m))
        found[m] = sum(text.count("fetch_") for text in kernels(sg.sum(x, axis=1), x))
    assert found == {4: 1, 10: 0, 128: 1, 1000: 1, 1001: 0, 100_000: 1}


def test_how_many_elements_a_lane_takes() -> None:
    """As many as the loop that takes least: groups of short rows have no more lanes than there is work for."""
    wide, other = lane_loop(SUM), lane_loop([added(load(call("multiply", K, size_value(2))))])
    assert [widened(body, SIZES)[1] for body in ([wide], [wide, other], [])] == [4, 1, 1]
    x = sg.matrix("x", dtype="float32", shape=("n", "m"))
    taken = {}
    for what, out in {"softmax": sg.softmax(x, axis=1), "running": sg.cumsum(x, axis=1)}.items():
        step = sg.lower([x], out, "cuda").program.steps[-1 if what == "running" else 0]
        assert step.launch is not None
        taken[what] = step.launch.taken
    assert taken == {"softmax": 4, "running": 1}


def test_a_running_reduction_reads_the_totals_of_its_parts() -> None:
    """16 bytes at once in the launch that adds up parts alone."""
    x = sg.vector("x", dtype="float32", shape=(1_000_000,))
    totals, second = kernels(sg.cumsum(x), x)
    assert totals.count("fetch_4(x") == 1
    assert "fetch_4(x" not in second
