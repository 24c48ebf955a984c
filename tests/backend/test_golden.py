"""What the backend prints for a dozen small graphs: the program, its loops, and the source that is compiled.

A change of the backend shows here in full. Read the difference, then write the files anew with `make golden`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

import symgraph as sg
from symgraph.graph import Constant, Variable, leaves
from symgraph.loop import ir
from symgraph.loop.lower import lower
from symgraph.passes.fuse import Kernel

Graphs = Callable[[], Variable | Sequence[Variable]]


def map_() -> Variable:
    x, y = sg.vector("x", shape="n"), sg.vector("y", shape="n")
    return sg.exp(-sg.square(x)) * y + 0.5


def broadcast() -> Variable:
    x, b = sg.matrix("x", shape=("n", "m")), sg.vector("b", shape="m")
    return sg.tanh(x + b) * sg.vector("c", shape="n")[:, None]


def row_softmax() -> Variable:
    return sg.softmax(sg.matrix("x", shape=("n", 10)), axis=1)


def column_sum() -> Variable:
    x = sg.matrix("x", shape=("n", "m"))
    return sg.sum(sg.square(x), axis=0)


def full_sum() -> list[Variable]:
    x = sg.matrix("x", shape=("n", "m"))
    return [sg.mean(x), sg.max(x)]


def gather_scatter() -> list[Variable]:
    x, i = sg.matrix("x", shape=("n", 4)), sg.vector("i", dtype="int64", shape="k")
    taken = sg.take(x, i, axis=0)
    return [taken * 2, sg.grad(sg.sum(sg.sin(taken)), x)]


def concatenate_pad() -> list[Variable]:
    x, y = sg.vector("x", shape="n"), sg.vector("y", shape="m")
    return [sg.concatenate([x, 2 * y, x[::-1]]), sg.pad(x, (1, 2))]


def arg_max() -> list[Variable]:
    x = sg.matrix("x", shape=("n", "m"))
    return [sg.argmax(x, axis=1), *sg.max_and_argmax(x, axis=0)]


def dense_layer() -> list[Variable]:
    x, W, b = sg.matrix("x", shape=("n", 8)), sg.matrix("W", shape=(8, 3)), sg.vector("b", shape=3)
    y = sg.tanh(x @ W + b)
    return [y, *sg.grad(sg.sum(y), [W, b])]


def accumulate_chain() -> Variable:
    W = sg.matrix("W", shape=("n", "n"))
    xs = [sg.matrix(f"x{k}", shape=(2, "n")) for k in range(3)]
    return sg.grad(sg.sum(sg.sin(xs[0] @ W)) + sg.sum(sg.sin(xs[1] @ W)) + sg.sum(sg.sin(xs[2] @ W)), W)


def running() -> list[Variable]:
    x = sg.matrix("x", shape=("rows", "columns"))
    return [sg.cumsum(x * x, axis=1), sg.cummax(x, axis=0)]


def half() -> list[Variable]:
    x = sg.vector("x", dtype="float16", shape="n")
    return [sg.exp(x) * x, sg.sum(x)]


def integers() -> list[Variable]:
    a, b = sg.vector("a", dtype="int32", shape="n"), sg.vector("b", dtype="uint8", shape="n")
    return [a // (b + 1), (a % 7) & 3, (a > 2) | (b == 0), sg.sum(b), sg.cast(a, "int8")]


def triangle() -> Variable:
    return sg.tril(sg.matrix("x", shape=("n", "n"))) @ sg.vector("v", shape="n")


GRAPHS: dict[str, Graphs] = {
    f.__name__.strip("_"): f
    for f in (
        *(map_, broadcast, row_softmax, column_sum, full_sum, gather_scatter, concatenate_pad, arg_max, dense_layer),
        *(accumulate_chain, half, integers, running, triangle),
    )
}


@pytest.fixture(params=GRAPHS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def function(name: str) -> sg.Function:
    made = GRAPHS[name]()
    outputs = [made] if isinstance(made, Variable) else list(made)
    inputs = [v for v in leaves(outputs) if not isinstance(v, Constant)]
    return sg.function(sorted(inputs, key=lambda v: v.serial), outputs, threads=2)


def test_printed(name: str, golden: Callable[[str, str], None]) -> None:
    fn = function(name)
    loops = {s.name: ir.show(lower(s.step).loops) for s in fn.program.steps if isinstance(s.step, Kernel)}
    parts = [str(fn.program), "", *(f"# {name}\n{text}" for name, text in loops.items())]
    golden(f"{name}.txt", "\n".join(parts))
    golden(f"{name}.py.txt", fn.source())


def test_source_is_the_same_for_equal_structures() -> None:
    """Names, sizes and constants are no part of a kernel."""
    x, y = sg.vector("x", shape="n"), sg.vector("other", shape=7)
    assert sg.function([x], sg.exp(x * 2.0) + 1.0).source() == sg.function([y], sg.exp(y * 3.0) + 5.0).source()
    z = sg.vector("z", dtype="float32", shape="n")
    assert sg.function([x], sg.exp(x)).source() != sg.function([z], sg.exp(z)).source()


def test_source_is_python(name: str) -> None:
    for text in function(name).kernels.values():
        compile(text, "kernel", "exec")


def test_printed_program_knows_sizes_after_a_call() -> None:
    fn = function("column_sum")
    assert "offset" not in str(fn.program)
    fn(np.ones((3, 4)))
    assert "arena: " in str(fn.program)
