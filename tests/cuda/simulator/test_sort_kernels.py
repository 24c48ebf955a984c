"""The sorting kernels by themselves, run lane by lane: against NumPy's stable sort, and without races."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from symgraph.testing.races import Fault, New, run
from symgraph.types import DTYPES
from symgraph_kernels.cuda import sort
from symgraph_kernels.cuda.sort import LARGE, SMALL, Tile

TILES = (SMALL.tiles[0], Tile(4, 3))


Change = Callable[[str], str]


def order(
    x: NDArray[Any], axis: int, tile: Tile, change: Change = str, faults: list[Fault] | None = None
) -> NDArray[Any]:
    """``np.argsort(x, axis, stable=True)`` by tiles and merges, whose texts are changed first."""
    found: list[Fault] = [] if faults is None else faults
    dtype, n = x.dtype.name, x.shape[axis]
    wide = sort.wide(dtype)
    words: dict[str, Any] = {"x": x.view(np.uint8).ravel() if x.dtype == bool else x.ravel(), "n": n,
        "inner": math.prod(x.shape[axis + 1 :]), "outer": math.prod(x.shape[:axis]),
        **{p: empty(x.size, of) for p, of in (("out", "uint64"), ("keys", "uint64"), ("places", "uint32"),
                                             ("others", "uint32"))}}  # fmt: skip

    def launch(text: str, parameters: Any) -> None:
        found.extend(run(change(text), "kernel", (2, 1), (tile.threads, 1), [words[p] for p, *_ in parameters]))

    launch(sort.tiles("kernel", dtype, tile), sort.tile_parameters(wide))
    for turn in range(sort.passes(n, tile)):
        words["turn"] = turn
        launch(sort.merging("kernel", wide, tile), sort.merge_parameters(wide))
    assert faults is not None or found == []
    return positions(words["out"], x)


def count(x: NDArray[Any], axis: int) -> NDArray[Any]:
    """``np.argsort(x, axis, stable=True)`` by counting."""
    out = empty(x.size, "uint64")
    sizes = [x.shape[axis], math.prod(x.shape[axis + 1 :]), math.prod(x.shape[:axis])]
    flat = x.view(np.uint8).ravel() if x.dtype == bool else x.ravel()
    assert run(sort.counting("kernel", x.dtype.name), "kernel", (2, 1), (2, 1), [flat, *sizes, out]) == []
    return positions(out, x)


def empty(size: int, dtype: str) -> New:
    """Memory in which nothing is stored."""
    return New(np.full(size, 77, dtype), np.zeros(size, np.uint8))


def positions(out: New, x: NDArray[Any]) -> NDArray[Any]:
    """What is stored, everywhere."""
    assert out.stored is not None
    assert out.stored.all()
    found: NDArray[Any] = out.array.astype(np.int64).reshape(x.shape)
    return found


def values(dtype: str, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[Any]:
    """With ties, and with what is special in the dtype."""
    kind = np.dtype(dtype)
    some: list[Any] = [0, 1]
    if kind.kind == "f":
        tiny = float(np.finfo(kind).smallest_subnormal)
        some = [0.0, -0.0, 1.5, -1.5, np.inf, -np.inf, np.nan, -np.nan, tiny, -tiny, float(np.finfo(kind).max)]
    elif kind.kind in "iu":
        some = [np.iinfo(kind).min, np.iinfo(kind).max, 0, 1, 2, np.iinfo(kind).max // 2, np.iinfo(kind).max // 2 + 1]
    return rng.choice(np.array(some, kind), shape)


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_ties_and_special_values(dtype: str, tile: Tile) -> None:
    rng = np.random.default_rng(0)
    for shape, axis in (((17,), 0), ((2, 9), 1), ((5, 3), 0)):
        x = values(dtype, shape, rng)
        want = np.argsort(x, axis, stable=True)
        np.testing.assert_array_equal(order(x, axis, tile), want)
        np.testing.assert_array_equal(count(x, axis), want)


@pytest.mark.parametrize("dtype", ["float32", "int64"])
def test_sizes_around_tiles_and_their_doubles(dtype: str) -> None:
    rng = np.random.default_rng(1)
    tile = TILES[0]
    edges = {k * tile.size + d for k in (0, 1, 2, 3, 4, 8, 16) for d in (-1, 0, 1)} - {-1}
    for n in sorted(edges):
        x = rng.integers(0, 6, n).astype(dtype)
        np.testing.assert_array_equal(order(x, 0, tile), np.argsort(x, stable=True), err_msg=str(n))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_axes(axis: int) -> None:
    x = np.random.default_rng(2).normal(size=(3, 5, 4)).astype("float32")
    want = np.argsort(x, axis, stable=True)
    np.testing.assert_array_equal(order(x, axis, Tile(2, 1)), want)
    np.testing.assert_array_equal(count(x, axis), want)


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (1, 1), (2, 0, 2)])
def test_empty(shape: tuple[int, ...]) -> None:
    for axis in range(len(shape)):
        assert order(np.zeros(shape), axis, TILES[0]).shape == shape
        assert count(np.zeros(shape), axis).shape == shape


def test_runs_in_any_order() -> None:
    """Sorted, reversed, all equal, and one run all of it before the other."""
    n, tile = 19, TILES[0]
    for x in (np.arange(n), np.arange(n)[::-1], np.zeros(n), np.roll(np.arange(n), n // 2), np.arange(n) % 2):
        for dtype in ("int32", "float64"):
            a = np.ascontiguousarray(x.astype(dtype))
            np.testing.assert_array_equal(order(a, 0, tile), np.argsort(a, stable=True))


ARRAYS = hnp.arrays(
    st.sampled_from([np.float16, np.float32, np.float64, np.int8, np.int64, np.uint64, np.bool_]),
    hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=6),
)


@settings(max_examples=150, deadline=None)
@given(ARRAYS, st.integers(0, 2), st.sampled_from([Tile(2, 1), Tile(2, 2), Tile(4, 1)]))
def test_as_numpy(a: NDArray[Any], axis: int, tile: Tile) -> None:
    axis = min(axis, a.ndim - 1)
    want = np.argsort(a, axis, stable=True)
    np.testing.assert_array_equal(order(a, axis, tile), want)
    np.testing.assert_array_equal(count(a, axis), want)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("tile", LARGE.tiles)
def test_the_tiles_of_a_gpu(tile: Tile, dtype: str) -> None:
    rng = np.random.default_rng(3)
    for n in (tile.size - 1, 2 * tile.size + 5):
        x = rng.integers(0, n // 3, n).astype(dtype)
        np.testing.assert_array_equal(order(x, 0, tile), np.argsort(x, stable=True))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_barrier_is_needed(dtype: str) -> None:
    tile, x = Tile(4, 3), np.random.default_rng(4).integers(0, 9, 70).astype(dtype)
    texts = [sort.tiles("kernel", dtype, tile), sort.merging("kernel", sort.wide(dtype), tile)]
    for text in texts:
        lines = text.splitlines()
        places = [k for k, line in enumerate(lines) if line.strip() == "barrier()"]
        assert len(places) == 5 if text is texts[0] else 4
        for k in places:
            changed = "\n".join([*lines[:k], lines[k].replace("barrier()", "pass"), *lines[k + 1 :]])
            faults: list[Fault] = []
            order(x, 0, tile, partial(swapped, text, changed), faults)
            assert {f.kind for f in faults} & {"race", "unwritten"}, (k, text)


def swapped(old: str, new: str, text: str) -> str:
    return new if text == old else text


def test_how_often_runs_are_merged() -> None:
    tile = Tile(4, 3)
    for n in range(200):
        run, often = tile.size, 0
        while run < n:
            run, often = 2 * run, often + 1
        assert sort.passes(n, tile) == often


def test_bad_tiles() -> None:
    for threads in (0, 1, 3, 6):
        with pytest.raises(ValueError, match="wanted a power of two"):
            Tile(threads, 2)
