"""The tiled matrix product by itself: compiled and assembled for GPUs. The simulator's tests are in tests/cuda."""

from __future__ import annotations

import pytest

from symgraph_kernels.cuda.matmul import LARGE, MEDIUM, SMALL, Tiles, count_tiles


def test_tiles() -> None:
    assert MEDIUM.threads == LARGE.threads == 256
    assert SMALL.threads == 4
    assert count_tiles(65, 64, 2, 3, MEDIUM) == 12
    with pytest.raises(ValueError, match="do not share the tiles evenly"):
        Tiles(64, 64, 3, 4, 4)
    with pytest.raises(ValueError, match="power of two"):
        Tiles(12, 8, 6, 4, 4)
