"""The tiled matrix product on Numba's CUDA simulator: by itself, and as steps of programs."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.emit.numba_cuda import simulate
from symgraph.runtime import products
from symgraph_kernels.cuda.matmul import ADD, PARAMETERS, SMALL, Tiles, source

TILES = (SMALL, Tiles(4, 8, 2, 2, 4), Tiles(8, 4, 4, 4, 4))


def run(text: str, tiles: Tiles, blocks: int = 2, **words: Any) -> None:
    names = [p for p, _ in PARAMETERS]
    own = [n for n in words if n not in names]
    simulate(text, "kernel", (blocks, 1), (tiles.threads, 1), [words[n] for n in (*names, *own)])


@pytest.mark.parametrize("tiles", TILES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_alone(tiles: Tiles, dtype: str) -> None:
    rng = np.random.default_rng(0)
    shapes, either = [(5, 6, 7), (4, 8, 4), (8, 12, 8), (1, 9, 2)], (False, True)
    for (m, n, k), ta, tb in itertools.product(shapes, either, either):
        a, b = rng.normal(size=(2, m, k)).astype(dtype), rng.normal(size=(2, k, n)).astype(dtype)
        stored_a = np.ascontiguousarray(a.swapaxes(1, 2) if ta else a)
        stored_b = np.ascontiguousarray(b.swapaxes(1, 2) if tb else b)
        c = np.full((2, m, n), np.nan, dtype)
        sizes = {"m": m, "n": n, "k": k, "lda": stored_a.shape[2], "ldb": stored_b.shape[2], "ldc": n}
        words: dict[str, Any] = {**sizes, "a": stored_a.ravel(),
                 "b": stored_b.ravel(), "c": c.reshape(-1), "a_offset": 0,
                 "b_offset": 0, "outer": 1, "inner": 2, "a_outer": 0, "b_outer": 0, "c_outer": 0, "a_inner": m * k,
                 "b_inner": k * n, "c_inner": m * n}  # fmt: skip
        run(source("kernel", dtype, ta, tb, tiles=tiles), tiles, **words)
        np.testing.assert_allclose(words["c"].reshape(c.shape), a @ b, rtol=1e-5 if dtype == "float32" else 1e-13,
                                   atol=1e-6)  # fmt: skip


def test_adds_to_what_there_is() -> None:
    rng = np.random.default_rng(0)
    a, b, c, bias = (rng.normal(size=s) for s in ((5, 3), (3, 6), (5, 6), (6,)))
    out, sums = c.reshape(-1).copy(), np.full(30, np.nan)
    batch = ("outer", "inner", "a_outer", "a_inner", "b_outer", "b_inner", "c_outer", "c_inner")
    words: dict[str, Any] = {"m": 5, "n": 6, "k": 3, "a": a.ravel(), "b": b.ravel(), "a_offset": 0, "b_offset": 0,
             "lda": 3, "ldb": 6, "ldc": 6, **dict(zip(batch, (1, 1, 0, 0, 0, 0, 0, 0), strict=True))}  # fmt: skip
    run(source("kernel", "float64", tiles=SMALL, epilogue=ADD), SMALL, **words, c=out)
    np.testing.assert_allclose(out.reshape(5, 6), a @ b + c, rtol=1e-13)
    lines = ["v0 = tanh_float64(value + x0[j])", "x1[at] = v0 * float64(i)"]
    text = source(
        "kernel", "float64", tiles=SMALL, epilogue=lines, parameters=["x0: pointer_float64", "x1: pointer_float64"]
    )
    run(text, SMALL, **words, x0=bias, x1=sums)
    np.testing.assert_allclose(sums.reshape(5, 6), np.tanh(a @ b + bias) * np.arange(5)[:, None], rtol=1e-13)


def test_in_programs() -> None:
    """Transposes, slices and batches are read where they lie; sums of products have one buffer."""
    x, W = sg.matrix("x", shape=("n", "m")), sg.matrix("W", shape=("m", "k"))
    S = sg.tensor("S", dtype="float32", shape=(3, "n", "m"))
    T = sg.tensor("T", dtype="float32", shape=(3, "k", "m"))
    outputs = [sg.tanh(x @ W), W.T @ x.T, x @ W[:, 1:], S @ sg.transpose(T, (0, 2, 1)), x.T @ sg.tanh(x)]
    h = sg.tanh(x @ W)
    outputs.append(sg.grad(sg.sum(h @ sg.transpose(h, (1, 0))) + sg.sum(x @ W @ W.T), W))
    fn = sg.function([x, W, S, T], outputs, target="cuda")
    want = sg.function([x, W, S, T], outputs, target="numpy")
    assert sum(s.name.startswith("matmul") for s in fn.program.steps) >= 6
    rng = np.random.default_rng(0)
    for n, m, k in ((5, 3, 6), (1, 4, 2), (4, 0, 3), (0, 2, 2)):
        arrays = [rng.normal(size=s) for s in ((n, m), (m, k))]
        arrays += [rng.normal(size=s).astype("float32") for s in ((3, n, m), (3, k, m))]
        for g, w in zip(fn(*arrays), want(*arrays), strict=True):
            np.testing.assert_allclose(g, w, rtol=1e-5, atol=1e-5 if g.dtype == "float32" else 1e-12)


def test_small_products_are_dealt_out_like_reductions(monkeypatch: pytest.MonkeyPatch) -> None:
    a, v, b = sg.matrix("a", shape=("n", "m")), sg.vector("v", shape=("m",)), sg.matrix("b", shape=("m", 3))
    fn = sg.function([a, v, b], [a @ v, a @ b], target="cuda")
    assert not any(s.name.startswith("matmul") for s in fn.program.steps)
    monkeypatch.setattr(products, "_kernels", lambda: None)
    assert "matmul" not in str(sg.lower([a], a.T @ a, "cuda"))
