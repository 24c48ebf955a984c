"""The tiled matrix product by itself: compiled and assembled for GPUs. The simulator's tests are in tests/cuda."""

from __future__ import annotations

import re
from itertools import product

import pytest

from symgraph_kernels.cuda.matmul import LARGE, MEDIUM, SMALL, Tiles, count_tiles, source


def test_tiles() -> None:
    assert MEDIUM.threads == LARGE.threads == 256
    assert SMALL.threads == 4
    assert count_tiles(65, 64, 2, 3, MEDIUM) == 12
    with pytest.raises(ValueError, match="do not share the tiles evenly"):
        Tiles(64, 64, 3, 4, 4)
    with pytest.raises(ValueError, match="power of two"):
        Tiles(12, 8, 6, 4, 4)


def elements(text: str, matrix: str, lanes: int) -> list[list[tuple[int, int, int, int]]]:
    """What lanes store to shared memory at once, instruction by instruction: where in the tile and at which word."""
    stores = re.findall(rf"s{matrix}\[(.*)\] = v{matrix}_(\d+)", text)
    places = re.findall(rf"([ef]{matrix}_\d+ = .*)", text.split("zero =")[0])
    out = []
    for word, _ in stores:
        far, wide, near = re.fullmatch(r"(.*) \* (\d+) \+ (.*)", word).groups()  # type: ignore[union-attr]
        together = []
        for me in range(lanes):
            names: dict[str, int] = {"me": me}
            for place in places:
                exec(place, {}, names)
            e, f = eval(near, {}, names), eval(far, {}, names)
            together.append((me, e, f, f * int(wide) + e))
        out.append(together)
    return out


def transactions(words: list[int], itemsize: int) -> int:
    """In how many goes 32 lanes store these words of shared memory, which has 32 banks of four bytes."""
    half = 128 // itemsize
    goes = 0
    for at in range(0, 32, half):
        banks = [w % half for w in words[at : at + half]]
        goes += max(banks.count(b) for b in banks)
    return goes


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("tiles", [MEDIUM, LARGE])
def test_pieces(tiles: Tiles, dtype: str) -> None:
    """Lanes bring each element once, by loads of 16 bytes, and meet few others at the banks of shared memory."""
    itemsize = 4 if dtype == "float32" else 8
    for trans_a, trans_b in product((False, True), repeat=2):
        text = source("kernel", dtype, trans_a, trans_b, tiles)
        for matrix, size, along in (("a", tiles.m, not trans_a), ("b", tiles.n, trans_b)):
            found = elements(text, matrix, tiles.threads)
            assert sorted((e, f) for x in found for _, e, f, _ in x) == [*product(range(size), range(tiles.k))]
            for x in found:
                words = [word for *_, word in x]
                least = 32 * itemsize // 128
                worst = max(transactions(words[at : at + 32], itemsize) for at in range(0, tiles.threads, 32))
                assert worst <= least * (2 if along else 1)
        assert f"fetch_{16 // itemsize}(a, at)" in text
        assert f"fetch_{16 // itemsize}(b, at)" in text


def test_tiles_that_are_too_small_for_16_bytes() -> None:
    text = source("kernel", "float32", tiles=Tiles(4, 8, 2, 2, 4))
    assert "fetch_2(a, at)" in text
    assert "fetch_4(b, at)" in text
    assert "fetch" not in source("kernel", "float32", True, False, Tiles(4, 4, 2, 1, 2))
