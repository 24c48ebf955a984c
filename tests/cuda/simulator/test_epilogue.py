"""Epilogues on Numba's CUDA simulator: what follows a tiled matrix product is computed by the product's kernel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import symgraph as sg
from symgraph.emit.numba_cuda import simulated
from symgraph.graph import Constant, Variable, leaves
from symgraph.passes.library import LibraryCall
from symgraph.runtime import device as devices
from symgraph.runtime.launch import Limits
from symgraph.testing.races import CheckingDevice
from tests.cuda.simulator.test_programs import check

X, W, B = sg.matrix("x", shape=("n", "k")), sg.matrix("W", shape=("k", "m")), sg.vector("b", shape=("m",))
R, S, SCALE = sg.matrix("R", shape=("n", "m")), sg.vector("S", shape=("n",)), sg.scalar("scale")
H, F = sg.tensor("H", shape=("b", "t", "k")), sg.tensor("F", shape=("b", "k", "m"))
V, G = sg.matrix("V", shape=("t", "m")), sg.vector("G", shape=("b",))
P, Q = sg.matrix("P", shape=("n", "n")), sg.matrix("Q", shape=("n", "n"))
SHAPES: dict[Variable, tuple[int, ...]] = {
    X: (5, 3), W: (3, 6), B: (6,), R: (5, 6), S: (5,), SCALE: (), H: (2, 5, 3), F: (2, 3, 6), V: (5, 6), G: (2,),
    P: (5, 5), Q: (5, 5),
}  # fmt: skip


@pytest.fixture(autouse=True)
def checking(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In the simulator, lane by lane: no access out of bounds, no race, where results lie in place of operands too."""
    if not simulated():
        yield
        return
    made = CheckingDevice(Limits(8, 3))
    monkeypatch.setattr(devices, "the_device", lambda: made)
    yield
    assert made.faults == {}
    assert made.kernels


def run(outputs: Variable | Sequence[Variable], **given: Any) -> list[str]:
    """Compare with the interpreter, and say what each launch computes: ``+map`` with an epilogue, ``!`` is stored."""
    rng = np.random.default_rng(0)
    wanted = [outputs] if isinstance(outputs, Variable) else list(outputs)
    inputs = sorted((v for v in leaves(wanted) if not isinstance(v, Constant)), key=lambda v: v.serial)
    arrays = [given[str(v.name)] if v.name in given else rng.normal(size=SHAPES[v]) for v in inputs]
    return said(check(wanted, *arrays))


def said(fn: sg.Function) -> list[str]:
    return [
        "product" + "+map" * (s.step.epilogue is not None) + "!" * s.step.keeps
        if isinstance(s.step, LibraryCall)
        else "kernel"
        for s in fn.program.steps
    ]


def test_dense_layer() -> None:
    """One launch; with numbers from NumPy itself."""
    fn = sg.function([X, W, B], sg.tanh(X @ W + B), target="cuda")
    assert said(fn) == ["product+map"]
    rng = np.random.default_rng(1)
    for n, k, m in ((5, 3, 6), (1, 4, 4), (4, 0, 3), (0, 2, 2), (3, 2, 0)):
        x, w, b = rng.normal(size=(n, k)), rng.normal(size=(k, m)), rng.normal(size=m)
        np.testing.assert_allclose(fn(x, w, b), np.tanh(x @ w + b), rtol=1e-13)


def test_gradients() -> None:
    y = sg.tanh(X @ W + B)
    assert run([y, *sg.grad(sg.sum(y), [W, B])])[:2] == ["product+map", "product!"]
    found = run(sg.grad(sg.sum(sg.square(y)), [W, B, X]))
    assert found.count("product+map") == 1
    assert found.count("product!") == 2


def test_second_order() -> None:
    y = sg.tanh(X @ W + B)
    along = sg.sum(sg.square(sg.grad(sg.sum(sg.square(y)), W)))
    assert sum("+map" in s for s in run(sg.grad(along, [W, B, X]))) >= 3


def test_residual_rows_columns_and_scalars() -> None:
    assert run(sg.maximum(X @ W, 0) * SCALE + R * S[:, None] - B) == ["product+map"]


def test_in_place_of_a_residual() -> None:
    """A result goes where the residual lies, but for one that is an operand of the product too."""
    z = sg.exp(Q)
    apart = [sg.sin(z @ P) @ Q, (z + sg.tanh(P @ P)) @ Q]
    assert run(apart).count("product+map") == 2
    assert run([sg.sin(z @ P) @ Q, (z + sg.tanh(z @ Q)) @ Q]).count("product+map") == 2


def test_the_product_is_read_elsewhere() -> None:
    z = X @ W
    assert run([sg.exp(z), z]) == ["product+map!"]
    assert run([sg.exp(z), sg.sum(sg.sin(z), axis=0)])[0] == "product+map!"


def test_several_results_of_several_dtypes() -> None:
    z = X @ W + B
    made = [sg.tanh(z), z > 0, sg.cast(z, "float32"), sg.cast(sg.floor(z), "int8"), sg.cast(z, "float16")]
    assert run(made) == ["product+map"]


def test_sums_of_products() -> None:
    """The map follows the last product of a chain that adds into one buffer."""
    assert run(sg.tanh(X @ W + sg.exp(X) @ sg.cos(W) + B)) == ["product!", "kernel", "kernel", "product+map"]
    y = sg.tanh(X @ W + B) + sg.tanh(X @ (W + 1.0))
    d = sg.grad(sg.sum(y), X)
    assert run([sg.exp(d), d])[-1] == "product+map!"
    assert run(sg.exp(d) * X)[-1] == "product+map"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_batches_and_axes_taken_together(dtype: str) -> None:
    def as_given(*vs: Variable) -> list[Variable]:
        return [sg.cast(v, dtype) for v in vs]

    h, f, w, b, v, g = as_given(H, F, W, B, V, G)
    outputs = [
        sg.tanh(h @ w + b),  # the rows are two axes together
        sg.tanh(h @ w + v),  # which are taken apart
        sg.tanh(h @ w) * g[:, None, None],
        sg.tanh(h @ f + v) * g[:, None, None],
        sg.einsum("btk,bku->but", h, f) * g[:, None, None] + sg.sum(v, axis=1),  # transposed
        sg.tanh(sg.einsum("btk,bkm->tbm", h, f) * g[:, None]),  # the batch between rows and columns
    ]
    for out in outputs:
        assert any("product+map" in s for s in run(out)), out


def test_indices_as_values() -> None:
    x, w = sg.matrix("x", shape=(17, "k")), sg.matrix("w", shape=("k", 16))
    SHAPES.update({x: (17, 3), w: (3, 16)})
    row, column = sg.cast(sg.arange(17), "float64"), sg.cast(sg.arange(16), "float64")
    chosen = sg.where(row[:, None] > column, x @ w, row[:, None] * column)
    assert run([chosen, sg.triu(X @ W) * 2.0]) == ["product+map", "product+map"]


def test_axes_of_one_element() -> None:
    x, w = sg.tensor("x", shape=("n", 1, "k")), sg.tensor("w", shape=(1, "k", "m"))
    SHAPES.update({x: (5, 1, 3), w: (1, 3, 6)})
    assert run(sg.tanh(sg.einsum("nbk,bkm->nbm", x, w) + R[:, None, :]))[0] == "product+map"


def test_no_elements() -> None:
    """Axes of the batch that are no neighbours seem to be one: their strides are 0."""
    h, f = sg.tensor("h", shape=(2, 0, "m", "k")), sg.tensor("f", shape=(2, 0, "k", "n"))
    r = sg.tensor("r", shape=("m", 1, "n"))
    SHAPES.update({h: (2, 0, 5, 3), f: (2, 0, 3, 6), r: (5, 1, 6)})
    assert run(sg.tanh(sg.einsum("xymk,xykn->xmyn", h, f) + r)) == ["product+map"]


def test_what_is_no_map_stays_apart() -> None:
    z = P @ Q
    assert run(z + sg.exp(z).T) == ["product!", "kernel"]
    assert run(z[::-1, ::-1] * z)[0] == "product!"
    assert "product+map" not in run(sg.softmax(z, axis=1))
    total = sg.sum(sg.exp(z), axis=0)
    assert run(sg.exp(z) / total)[0] == "product!"  # what the map reads comes after the product


OPERANDS = (B, R, S[:, None], SCALE, sg.exp(R))
UNARY = (sg.tanh, sg.exp, sg.sin, lambda v: sg.maximum(v, 0), lambda v: v > 0.1, sg.square, sg.negative)
BINARY = (sg.add, sg.subtract, sg.multiply, sg.maximum, lambda a, b: sg.where(a > b, a, b))


@st.composite
def followed(draw: st.DrawFn) -> tuple[list[Variable], NDArray[np.int64]]:
    """A few results that are computed from one product."""
    z = X @ W
    pool = [z]
    for _ in range(draw(st.integers(1, 5))):
        v = draw(st.sampled_from(pool))
        if draw(st.booleans()):
            v = draw(st.sampled_from(UNARY))(v)
        else:
            v = draw(st.sampled_from(BINARY))(v, draw(st.sampled_from((*pool, *OPERANDS))))
        pool.append(v if v.type.dtype == "float64" else sg.cast(v, "float64"))
    results = draw(st.lists(st.sampled_from(pool[1:]), min_size=1, max_size=3, unique_by=id))
    return results, np.array([draw(st.integers(1, 6)) for _ in range(3)])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(followed())
def test_any_map(made: tuple[list[Variable], NDArray[np.int64]]) -> None:
    outputs, (n, k, m) = made
    rng = np.random.default_rng(0)
    x = {"x": (n, k), "W": (k, m), "b": (m,), "R": (n, m), "S": (n,), "scale": ()}
    found = run(outputs, **{name: rng.normal(size=shape) for name, shape in x.items()})
    assert found.count("kernel") <= 1  # what is computed of R alone
    assert any("product" in s for s in found)
