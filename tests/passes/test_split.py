"""What is too much for one kernel is cut into as few parts as possible, wherever the limit is."""

from __future__ import annotations

import cProfile
import random
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.graph import Graph
from symgraph.passes import split
from symgraph.passes.fuse import Kernel, fuse
from symgraph.passes.schedule import reads
from symgraph.passes.split import HEAVY_WORDS, Bounds, Value, cuts
from symgraph.pipeline import run_pipeline
from symgraph.runtime import program
from symgraph.runtime.program import GPU_REGISTERS

LIMITS = (*range(130, 400, 10), *range(400, 1100, 25), 1280, 1536, 2048)

# -- cuts --------------------------------------------------------------------------------------------------------------


def fits(weights: list[int], values: list[Value], bounds: Bounds, first: int, last: int) -> bool:
    """Whether one part can have operations ``first`` to ``last``, by definition."""
    inside = range(first, last)
    met = [v for v in values if any(t in inside for t in v.places)]
    if sum(weights[first:last]) + sum(v.weight for v in met) > bounds.weight:
        return False
    if bounds.words is None:
        return True
    for t in inside:
        total = HEAVY_WORDS if weights[t] >= bounds.heavy else 0
        for v in met:
            places = [p for p in v.places if p in inside]
            begin = v.places[0] if v.made and v.places[0] in inside else first
            total += v.words if begin <= t <= places[-1] else 0
        if total > bounds.words:
            return False
    return True


def sequence(rng: random.Random) -> tuple[list[int], list[Value]]:
    n = rng.randrange(1, 40)
    weights = [rng.choice([0, 1, 1, 1, 2, 4, 32]) for _ in range(n)]
    values = []
    for k in range(n):
        uses = sorted(rng.sample(range(k + 1, n), min(rng.choice([0, 1, 1, 2, 3]), n - k - 1)))
        values.append(Value(rng.choice([1, 2]), (k, *uses), made=True, stored=rng.random() < 0.1))
    for _ in range(rng.randrange(8)):
        places = tuple(sorted(rng.sample(range(n), min(n, rng.randrange(1, 4)))))
        again = rng.choice([0, 0, 3])
        values.append(Value(0 if again else 2, places, made=False, weight=again))
    return weights, values


@pytest.mark.parametrize("seed", range(150))
def test_parts_fit_and_are_as_few_as_possible(seed: int) -> None:
    rng = random.Random(seed)
    weights, values = sequence(rng)
    bounds = Bounds(rng.choice([8, 40, 70, 10_000]), rng.choice([None, 12, 20, 40]), heavy=32)
    n = len(weights)
    starts = [0, *cuts(weights, values, bounds), n]
    assert starts == sorted(set(starts))
    parts = list(pairwise(starts))
    assert all(last - first == 1 or fits(weights, values, bounds, first, last) for first, last in parts)
    fewest = [0] + [n + 1] * n
    for last in range(1, n + 1):
        for first in range(last):
            if last - first == 1 or fits(weights, values, bounds, first, last):
                fewest[last] = min(fewest[last], fewest[first] + 1)
    assert len(parts) == fewest[n]


def test_a_cut_is_made_where_little_is_stored() -> None:
    """Six operations in two groups of three, of which only the last result is used by the next."""
    values = [Value(2, (0, 1), True), Value(2, (1, 2), True), Value(2, (0, 2), True), Value(2, (2, 3), True)]
    values += [Value(2, (3, 4), True), Value(2, (3, 5), True), Value(2, (4, 5), True)]
    assert cuts([1] * 6, values, Bounds(5)) == [3]
    assert cuts([1] * 6, values, Bounds(6)) == []


# -- kernels -----------------------------------------------------------------------------------------------------------


def chain(links: int, rank: int, value: bool) -> tuple[Any, Any]:
    x: Any = sg.vector("x", shape=("n",)) if rank else sg.scalar("x")
    y = x
    for _ in range(links):
        y = sg.sin(y)
    g = sg.grad(sg.sum(y), x)
    return [x], [y, g] if value else [g]


def derivative(order: int) -> tuple[Any, Any]:
    x = sg.vector("x", shape=("n",))
    d = sg.exp(sg.sin(x)) / (1 + x * x)
    for _ in range(order):
        d = sg.grad(sg.sum(d), x)
    return [x], [d]


PROGRAMS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "chain of vectors": lambda: chain(60, 1, False),
    "chain of scalars": lambda: chain(60, 0, False),
    "chain and its gradient": lambda: chain(60, 1, True),
    "sixth derivative": lambda: derivative(6),
}


@cache
def optimized(name: str) -> Graph:
    return run_pipeline(Graph(*PROGRAMS[name]()))[0]


@pytest.mark.parametrize("registers", [None, GPU_REGISTERS])
@pytest.mark.parametrize("name", PROGRAMS)
def test_number_of_kernels_is_smooth_in_the_limit(name: str, registers: int | None) -> None:
    graph = optimized(name)
    (whole,) = fuse(graph, limit=10**9)
    assert isinstance(whole, Kernel)
    before = None
    for limit in LIMITS[:: 1 if "chain" in name else 4]:
        steps = fuse(graph, limit=limit, registers=registers)
        weights = [s.weight for s in steps if isinstance(s, Kernel)]
        assert len(weights) == len(steps)
        assert max(weights) <= limit
        if registers is None or "chain" in name:
            # A part is full but for less than one sine or cosine, of weight 32, and what moves.
            assert whole.weight / limit <= len(steps) <= whole.weight / (limit - 40) + 1
        assert before is None or len(steps) <= before
        before = len(steps)


def test_launches_of_a_long_chain() -> None:
    for target in ("cpu", "cuda"):
        x, g = chain(1000, 1, False)
        made = sg.lower(x, g, target)
        assert len(made.program.steps) == 64
        assert len(made.kernels) <= 5


def test_launches_of_a_sixth_derivative() -> None:
    assert len(sg.lower(*derivative(6), "cpu").program.steps) == 1
    assert len(sg.lower(*derivative(6), "cuda").program.steps) == 3


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_no_other_part_reads_is_not_stored(name: str) -> None:
    graph = optimized(name)
    steps = fuse(graph, limit=256)
    assert len(steps) > 3
    for k, s in enumerate(steps):
        assert isinstance(s, Kernel)
        read = {v for other in steps[k + 1 :] for v in reads(other)}
        assert set(s.outputs) <= read | set(graph.outputs)


# -- values ------------------------------------------------------------------------------------------------------------


def layers() -> tuple[Any, Any]:
    x, w, b = sg.matrix("x", shape=("n", 40)), sg.matrix("w", shape=(40, 40)), sg.vector("b", shape=(40,))
    h: Any = x
    for _ in range(3):
        h = sg.tanh(h @ w + b)
        h = (h - sg.mean(h, axis=1, keepdims=True)) / sg.sqrt(1 + sg.sum(h * h, axis=1, keepdims=True))
    p = sg.softmax(h, axis=1)
    cost = sg.sum(sg.log(p) * sg.cos(h)) + sg.sum(sg.exp(sg.mean(p, axis=0)))
    return [x, w, b], [cost, *sg.grad(cost, [x, w, b]), p]


def transposed() -> tuple[Any, Any]:
    x = sg.matrix("x", shape=("n", "n"))
    y = sg.sin(x)
    z = sg.exp(y) * sg.cos(y.T) + sg.tanh(x.T) * y
    z = sg.sin(z) + sg.sqrt(1 + z * z).T * sg.sum(y, axis=0)
    return [x], [z, sg.grad(sg.sum(z * sg.exp(-y)), x), sg.cumsum(z, axis=1) * y]


def scattered() -> tuple[Any, Any]:
    x, k = sg.vector("x", shape=("n",)), sg.vector("k", "int64", shape=("m",))
    y = sg.exp(sg.sin(x)) * sg.cos(x)
    z = sg.take(y, k) * sg.sin(sg.take(x, k)) + sg.sum(sg.tanh(y))
    return [x, k], [z, sg.grad(sg.sum(sg.exp(sg.sin(z))), x)]


@pytest.mark.parametrize("limit", [1, 20, 45, 90, 200])
@pytest.mark.parametrize("make", [layers, transposed, scattered, lambda: derivative(4), lambda: chain(9, 1, True)])
def test_values(make: Callable[[], tuple[Any, Any]], limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same numbers from however many kernels they come."""
    inputs, outputs = make()
    rng = np.random.default_rng(3)
    sizes = {"n": 40, "m": 7}
    arrays = [
        rng.integers(0, 40, 7) if v.type.dtype.kind == "i" else rng.uniform(-1, 1, [_size(s, sizes) for s in v.shape])
        for v in inputs
    ]
    whole = sg.function(inputs, outputs, threads=1)
    monkeypatch.setattr(program, "MAX_WEIGHT", limit)
    parts = sg.function(inputs, outputs, threads=1)
    for a, b in zip(whole(*arrays), parts(*arrays), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)


def _size(size: Any, sizes: dict[str, int]) -> int:
    return size if isinstance(size, int) else sizes[str(size)]


def test_growth_is_linear(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what is looked at to cut a chain, for one ten times as long."""
    looked = [0]
    take_in = split._Part.fits

    def counted(part: Any, at: int) -> bool:
        looked[0] += 1
        return take_in(part, at)

    monkeypatch.setattr(split._Part, "fits", counted)
    found = []
    for links in (100, 1000):
        looked[0] = 0
        fuse(run_pipeline(Graph(*chain(links, 1, False)))[0], registers=GPU_REGISTERS)
        found.append(looked[0])
    assert found[1] < 12 * found[0]


def test_calls_grow_linearly() -> None:
    """All that Python does to fuse a chain, for one four times as long: before it is cut it is a single kernel."""
    found = []
    for links in (1000, 4000):
        graph = run_pipeline(Graph(*chain(links, 0, True)))[0]
        profiler = cProfile.Profile()
        profiler.enable()
        fuse(graph)
        profiler.disable()
        found.append(sum(entry.callcount for entry in profiler.getstats()))
    assert found[1] < 4.4 * found[0]
