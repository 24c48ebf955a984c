"""The memory plan: replayed step by step, every tensor still lies where it was written when it is read.

Programs are planned and not compiled: what is checked are the table of steps and the offsets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

import symgraph as sg
from symgraph import index as ix
from symgraph.graph import Constant, Graph, Variable
from symgraph.passes.fuse import Kernel, Step
from symgraph.passes.library import HostCall, LibraryCall
from symgraph.passes.memory import ALIGNMENT, assign_offsets, liveness_bound
from symgraph.pipeline import run_pipeline
from symgraph.runtime.function import _own_outputs
from symgraph.runtime.program import Program, build
from symgraph.runtime.sizes import bind_sizes, resolve
from symgraph.testing import random_program
from symgraph.testing.programs import from_hypothesis
from symgraph.types import Atom

Env = Mapping[Atom, int]
Lifetimes = list[tuple[int, int, int]]


def planned(inputs: Sequence[Variable], outputs: Sequence[Variable]) -> Program:
    """The program that a function makes of a graph, without its kernels."""
    graph, _ = run_pipeline(Graph(inputs, outputs))
    final = _own_outputs(graph)
    return build(final, final.outputs, {}, [], threads=2)


def lifetimes(program: Program, env: Env) -> Lifetimes:
    return [(b.first, b.last, resolve(b.size, env)) for b in program.memory.buffers if not b.output]


def replay(program: Program, env: Env) -> None:
    """Walk the steps, and keep account of whose bytes lie where."""
    memory = program.memory
    given, outputs = set(program.arguments), set(program.outputs)  # `in` a tuple would compare values
    inside = [b for b in memory.buffers if not b.output]
    offsets, arena = assign_offsets([(b.first, b.last, resolve(b.size, env)) for b in inside])
    start = dict(zip(inside, offsets, strict=True))
    assert all(k % ALIGNMENT == 0 for k in offsets)
    assert not set(memory.of) & given
    outside = [b for b in memory.buffers if b.output]
    assert {v for b in outside for v in b.variables} >= outputs
    assert not {v for b in inside for v in b.variables} & outputs
    for b in outside:
        assert len(outputs & set(b.variables)) == 1, "two outputs in one array"

    def place(v: Variable) -> tuple[object, int, int] | None:
        """The memory, and the range in it, of a tensor that the program computes."""
        b = memory.of.get(v)
        if b is None:
            assert v in given or isinstance(v, Constant), f"{v!r} has no memory"
            return None
        size = resolve(v.type.size, env) * v.type.dtype.itemsize
        assert size <= resolve(b.size, env)
        if b.output:
            return b, 0, size
        assert start[b] + size <= arena
        return "arena", start[b], start[b] + size

    held: dict[Variable, tuple[object, int, int]] = {}
    written: set[Variable] = set()
    for k, s in enumerate(program.steps):
        step = s.step
        reads = dict.fromkeys(step.inputs if isinstance(step, Kernel) else step.reads)
        writes = dict.fromkeys(step.outputs if isinstance(step, Kernel) else step.writes)
        for v in reads:
            if place(v) is not None and v not in writes:
                assert v in written, f"step {k} reads {v!r} before it is written"
                assert v in held, f"step {k} reads {v!r}, whose memory holds something else by now"
        for v in writes:
            where = place(v)
            assert where is not None
            for u, there in list(held.items()):
                if u is v or not overlap(where, there):
                    continue
                if u in reads:
                    assert memory.of[u] is memory.of[v], f"step {k} writes {v!r} into the memory of its operand {u!r}"
                    assert may_overwrite(step, u, v), f"step {k} writes {v!r} over {u!r}, which it still needs"
                del held[u]
            held[v] = where
            written.add(v)
        if isinstance(step, LibraryCall) and step.accumulates:
            total, out = step.node.inputs[0], step.node.outputs[0]
            assert memory.of.get(total) is memory.of[out], f"step {k} adds to {total!r}, which lies elsewhere"
    for v in program.outputs:
        assert v in held, f"output {v!r} is overwritten"


def overlap(a: tuple[object, int, int], b: tuple[object, int, int]) -> bool:
    return a[0] is b[0] and a[1] < b[2] and b[1] < a[2]


def may_overwrite(step: Step, u: Variable, v: Variable) -> bool:
    """Whether every element of ``u`` is read for the last time before the element of ``v`` at its place is written."""
    if isinstance(step, HostCall):
        return False
    if isinstance(step, LibraryCall):
        return step.accumulates and u is step.node.inputs[0] and u not in {step.matrices.a.base, step.matrices.b.base}
    same_place = u.type.shape == v.type.shape and u.type.dtype.itemsize == v.type.dtype.itemsize
    whole = all(r.write is None and len(r.shape) == step.depth for r in step.roots)
    return (
        same_place
        and whole
        and all(tuple(map(ix.resolve, a.args)) == r.indices for r in step.roots for a in r.inputs if a.variable is u)
    )


# -- programs ----------------------------------------------------------------------------------------------------------


def network() -> list[Variable]:
    x = sg.matrix("x", shape=("batch", 64))
    y = sg.vector("y", dtype="int64", shape=("batch",))
    W1, b1 = sg.matrix("W1", shape=(64, 96)), sg.vector("b1", shape=96)
    W2, b2 = sg.matrix("W2", shape=(96, 10)), sg.vector("b2", shape=10)
    z = sg.tanh(x @ W1 + b1) @ W2 + b2
    loss = -sg.mean(sg.take_along_axis(sg.log_softmax(z, axis=1), y[:, None], axis=1))
    return [loss, *sg.grad(loss, [W1, b1, W2, b2])]


def attention() -> list[Variable]:
    q, k, v = (sg.tensor(name, shape=("heads", "length", 16)) for name in "qkv")
    weights = sg.softmax(q @ sg.swapaxes(k, 1, 2) / 4.0, axis=2)
    loss = sg.sum(sg.square(weights @ v))
    return [loss, *sg.grad(loss, [q, k, v])]


def products_of_one_matrix() -> list[Variable]:
    W = sg.matrix("W", shape=("n", "n"))
    xs = [sg.matrix(f"x{k}", shape=(8, "n")) for k in range(12)]
    loss = sg.sum(sum((sg.sum(sg.tanh(x @ W)) for x in xs[1:]), sg.sum(sg.tanh(xs[0] @ W))))
    return [loss, sg.grad(loss, W)]


def normalization() -> list[Variable]:
    x, g = sg.matrix("x", shape=("n", "m")), sg.vector("g", shape="m")
    centered = x - sg.mean(x, axis=1, keepdims=True)
    y = centered / sg.sqrt(sg.mean(sg.square(centered), axis=1, keepdims=True) + 1e-5) * g
    loss = sg.sum(sg.sin(y))
    return [y, *sg.grad(loss, [x, g])]


def columns() -> list[Variable]:
    """Stages that cannot fuse into one kernel."""
    x = sg.matrix("x", shape=("n", "n"))
    for _ in range(6):
        x = sg.tanh(x - sg.sum(x, axis=0)) * sg.sum(x, axis=1, keepdims=True)
    return [x]


def recurrence() -> list[Variable]:
    W, h = sg.matrix("W", shape=("n", "n")), sg.matrix("h0", shape=("m", "n"))
    for _ in range(8):
        h = sg.tanh(h @ W + h)
    return [sg.sum(h), sg.grad(sg.sum(h), W)]


GRAPHS: dict[str, Callable[[], list[Variable]]] = {
    f.__name__: f for f in (network, attention, products_of_one_matrix, normalization, columns, recurrence)
}


def sized(outputs: Sequence[Variable]) -> tuple[Program, list[Env]]:
    """The program of a graph's outputs, and numbers for its sizes: small, large, uneven, one, none."""
    inputs = [v for v in sg.graph.leaves(outputs) if not isinstance(v, Constant)]
    program = planned(inputs, outputs)
    atoms = list(dict.fromkeys(a for v in inputs for s in v.type.shape for a in sg.types.atoms(s)))
    return program, [
        {a: n + k * step for k, a in enumerate(atoms)} for n, step in ((7, 2), (300, 0), (33, 91), (1, 0), (0, 0))
    ]


@pytest.mark.parametrize("name", GRAPHS)
def test_named_graphs(name: str) -> None:
    program, sizes = sized(GRAPHS[name]())
    for env in sizes:
        replay(program, env)
        found = lifetimes(program, env)
        _, arena = assign_offsets(found)
        assert liveness_bound(found) <= arena <= 1.1 * liveness_bound(found)


def test_memory_is_shared() -> None:
    """The arena of the stages is a few of their matrices; the gradient of a shared matrix is summed in one buffer."""
    program, sizes = sized(columns())
    stages = 6 * 300 * 300 * 8
    assert assign_offsets(lifetimes(program, sizes[1]))[1] < stages / 2
    program, sizes = sized(products_of_one_matrix())
    matrix = 300 * 300 * 8
    assert assign_offsets(lifetimes(program, sizes[1]))[1] < matrix
    accumulating = [s for s in program.steps if isinstance(s.step, LibraryCall) and s.step.accumulates]
    assert len(accumulating) == 11


@hypothesis.settings(max_examples=120)
@hypothesis.given(st.data())
def test_random_programs(data: Any) -> None:
    program = random_program(from_hypothesis(data.draw), 14)
    env = bind_sizes(program.inputs, program.values)
    for outputs in (program.outputs, [program.cost(), *program.gradients()]):
        replay(planned(program.inputs, outputs), env)


# -- offsets -----------------------------------------------------------------------------------------------------------

lives = st.tuples(st.integers(0, 30), st.integers(0, 12), st.integers(0, 5000)).map(lambda t: (t[0], t[0] + t[1], t[2]))


def check_offsets(found: Lifetimes) -> int:
    offsets, arena = assign_offsets(found)
    assert len(offsets) == len(found)
    for i, (f, t, n) in enumerate(found):
        assert offsets[i] >= 0
        assert offsets[i] % ALIGNMENT == 0
        assert offsets[i] + n <= arena
        for j, (g, u, m) in enumerate(found[:i]):
            if f <= u and g <= t and n and m:
                assert offsets[i] + n <= offsets[j] or offsets[j] + m <= offsets[i], (found[i], found[j])
    assert arena >= liveness_bound(found)
    return arena


@hypothesis.settings(max_examples=150)
@hypothesis.given(st.lists(lives, max_size=25))
def test_offsets_never_overlap(found: Lifetimes) -> None:
    check_offsets(found)


@pytest.mark.parametrize("count", [3, 20, 100, 399])
def test_offsets_are_near_the_bound(count: int) -> None:
    """Within 10% of the most bytes alive at once, which no plan can do without, for nearly all random lifetimes."""
    near, worst = 0, 1.0
    for seed in range(40):
        ratio = ratio_of(random_lifetimes(seed, count))
        near += ratio <= 1.1
        worst = max(worst, ratio)
    assert near >= 36
    assert worst <= 1.25


def test_offsets_of_many_buffers() -> None:
    found = random_lifetimes(0, 1500)
    check_offsets(found)
    assert ratio_of(found) <= 1.25
    chain = [(k, k + 1, 4096) for k in range(20_000)]
    offsets, arena = assign_offsets(chain)
    assert arena == 2 * 4096
    assert set(offsets) == {0, 4096}


def test_no_buffers() -> None:
    assert assign_offsets([]) == ([], 0)
    assert liveness_bound([]) == 0


def random_lifetimes(seed: int, count: int) -> Lifetimes:
    rng = np.random.default_rng(seed)
    starts = np.sort(rng.integers(0, count, count))
    spans = rng.geometric(0.2, count)
    sizes = np.exp(rng.uniform(np.log(100), np.log(1e6), count)).astype(int)
    return [(int(f), int(f + d), int(n)) for f, d, n in zip(starts, spans, sizes, strict=True)]


def ratio_of(found: Lifetimes) -> float:
    return assign_offsets(found)[1] / liveness_bound(found)
