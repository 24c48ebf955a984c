"""Maps that move 16 bytes at once: arguments that are aligned and not, and sizes that leave a rest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import symgraph as sg


def placed(a: NDArray[Any], shift: int) -> NDArray[Any]:
    """A C-contiguous copy that starts ``shift`` elements after a multiple of 64 bytes."""
    raw = np.empty(a.nbytes + 128, np.uint8)
    start = -raw.ctypes.data % 64 + shift * a.itemsize
    out = raw[start : start + a.nbytes].view(a.dtype).reshape(a.shape)
    out[...] = a
    return out


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "uint64"])
def test_vectors(dtype: str) -> None:
    x, y = sg.vector("x", dtype=dtype, shape=("n",)), sg.vector("y", dtype=dtype, shape=("n",))
    fn = sg.function([x, y], [x * y + x, sg.arange(x.shape[0]) * 1.0], target="cuda")
    assert "fetch_" in "".join(fn.program.kernels.values())
    rng = np.random.default_rng(0)
    for n in (0, 1, 3, 4, 8, 21):
        a, b = (rng.integers(0, 50, size=n).astype(dtype) for _ in range(2))
        for shifts in ((0, 0), (1, 0), (0, 3), (2, 2)):
            got, count = fn(placed(a, shifts[0]), placed(b, shifts[1]))
            np.testing.assert_array_equal(got, a * b + a)
            np.testing.assert_array_equal(count, np.arange(n) * 1.0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows(dtype: str) -> None:
    """Whether a row is aligned depends on its number."""
    x, b = sg.matrix("x", dtype=dtype, shape=("n", "m")), sg.vector("b", dtype=dtype, shape=("m",))
    fn = sg.function([x, b], [x * 2 + b, sg.softmax(x, axis=1)], target="cuda")
    rng = np.random.default_rng(0)
    for shape in ((1, 4), (3, 8), (2, 7), (3, 1), (0, 4), (2, 0)):
        a, c = rng.normal(size=shape).astype(dtype), rng.normal(size=shape[1]).astype(dtype)
        for shift in (0, 1, 2):
            got, weights = fn(placed(a, shift), placed(c, 0))
            np.testing.assert_array_equal(got, a * 2 + c)
            e = np.exp(a - a.max(axis=1, keepdims=True, initial=-np.inf))
            np.testing.assert_allclose(weights, e / e.sum(axis=1, keepdims=True), rtol=1e-5)


def test_several_dtypes() -> None:
    """As many elements as 16 bytes hold of the widest."""
    x, y = sg.vector("x", dtype="float32", shape=("n",)), sg.vector("y", shape=("n",))
    fn = sg.function([x, y], [sg.cast(x, "float64") * y, sg.cast(y, "float32") + x], target="cuda")
    assert all("fetch_2" in text for text in fn.program.kernels.values())
    a, b = np.arange(9, dtype="float32"), np.arange(9.0)
    for shift in (0, 1):
        one, two = fn(placed(a, shift), placed(b, 0))
        np.testing.assert_array_equal(one, a * b)
        np.testing.assert_array_equal(two, a + b)
