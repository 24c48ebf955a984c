"""Loops that move 16 bytes at once: arguments that are aligned and not, and sizes that leave a rest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import symgraph as sg
from symgraph.runtime import device as devices
from symgraph.runtime.launch import Limits
from symgraph.testing.races import CheckingDevice
from tests.cuda.simulator.test_runtime import Lent


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> CheckingDevice:
    """Two lanes to a group: a block of a sum is 2,048 terms."""
    made = CheckingDevice(Limits(2, 3))
    monkeypatch.setattr(devices, "the_device", lambda: made)
    return made


def placed(device: CheckingDevice, a: NDArray[Any], shift: int) -> Lent:
    """An array on the device that starts ``shift`` elements after a multiple of 256 bytes.

    What is on the host is copied to where it is aligned.
    """
    base = np.empty(a.size + shift, a.dtype)
    base[shift:] = a.ravel()
    return Lent(device, base[shift:].reshape(a.shape), "cuda array interface")


def host(results: Any) -> list[NDArray[Any]]:
    return [np.asarray(r.numpy()) for r in results]


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "uint64"])
def test_vectors(dtype: str, device: CheckingDevice) -> None:
    x, y = sg.vector("x", dtype=dtype, shape=("n",)), sg.vector("y", dtype=dtype, shape=("n",))
    fn = sg.function([x, y], [x * y + x, sg.arange(x.shape[0]) * 1.0], target="cuda")
    assert "fetch_" in "".join(fn.program.kernels.values())
    rng = np.random.default_rng(0)
    for n in (0, 1, 3, 4, 8, 21):
        a, b = (rng.integers(0, 50, size=n).astype(dtype) for _ in range(2))
        for shifts in ((0, 0), (1, 0), (0, 3), (2, 2)):
            got, count = host(fn(placed(device, a, shifts[0]), placed(device, b, shifts[1])))
            np.testing.assert_array_equal(got, a * b + a)
            np.testing.assert_array_equal(count, np.arange(n) * 1.0)
    assert device.faults == {}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows(dtype: str, device: CheckingDevice) -> None:
    """Whether a row is aligned depends on its number."""
    x, b = sg.matrix("x", dtype=dtype, shape=("n", "m")), sg.vector("b", dtype=dtype, shape=("m",))
    fn = sg.function([x, b], [x * 2 + b, sg.softmax(x, axis=1)], target="cuda")
    rng = np.random.default_rng(0)
    for shape in ((1, 4), (3, 8), (2, 7), (3, 1), (0, 4), (2, 0)):
        a, c = rng.normal(size=shape).astype(dtype), rng.normal(size=shape[1]).astype(dtype)
        for shift in (0, 1, 2):
            got, weights = host(fn(placed(device, a, shift), placed(device, c, 0)))
            np.testing.assert_array_equal(got, a * 2 + c)
            e = np.exp(a - a.max(axis=1, keepdims=True, initial=-np.inf))
            np.testing.assert_allclose(weights, e / e.sum(axis=1, keepdims=True), rtol=1e-5)
    assert device.faults == {}


def test_several_dtypes(device: CheckingDevice) -> None:
    """As many elements as 16 bytes hold of the widest."""
    x, y = sg.vector("x", dtype="float32", shape=("n",)), sg.vector("y", shape=("n",))
    fn = sg.function([x, y], [sg.cast(x, "float64") * y, sg.cast(y, "float32") + x], target="cuda")
    assert all("fetch_2" in text for text in fn.program.kernels.values())
    a, b = np.arange(9, dtype="float32"), np.arange(9.0)
    for shift in (0, 1):
        one, two = host(fn(placed(device, a, shift), placed(device, b, 0)))
        np.testing.assert_array_equal(one, a * b)
        np.testing.assert_array_equal(two, a + b)
    assert device.faults == {}


# -- reductions --------------------------------------------------------------------------------------------------------

FLOATS = {
    "sum": lambda x: sg.sum(x, axis=1),
    "mean": lambda x: sg.mean(x * x, axis=1),
    "softmax": lambda x: sg.softmax(x, axis=1),
    "logsumexp": lambda x: sg.logsumexp(x, axis=1),
    "prod": lambda x: sg.prod(1 + x / 64, axis=1),
    "full": lambda x: sg.sum(x),
    "cumsum": lambda x: sg.cumsum(x, axis=1),
}
EXACT = {
    "max": lambda x: sg.max(x, axis=1),
    "argmax": lambda x: sg.argmax(x, axis=1),
    "any": lambda x: sg.any(x > 2, axis=1),
    "all": lambda x: sg.all(x < 2, axis=1),
}
EDGES = ((1, 0), (2, 1), (3, 2), (3, 3), (2, 4), (3, 5), (2, 7), (2, 8), (3, 9), (2, 17))
"""Of groups of elements."""
BLOCKS = ((1, 2047), (1, 2048), (1, 2049), (2, 2051), (1, 4099))
"""Of the blocks of a sum."""


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("what", [*FLOATS, *EXACT])
def test_bits_do_not_depend_on_alignment(what: str, dtype: str, device: CheckingDevice) -> None:
    x = sg.matrix("x", dtype=dtype, shape=("n", "m"))
    out = (FLOATS | EXACT)[what](x)
    fn, reference = sg.function([x], [out], target="cuda"), sg.function([x], [out], target="numpy")
    wide = [name for name, text in fn.program.kernels.items() if "fetch_" in text]
    assert wide
    rng = np.random.default_rng(0)
    rtol = {"float32": 2e-5, "float64": 1e-12}[dtype]
    for shape in EDGES + (BLOCKS if what in ("sum", "softmax", "full") else ()):
        if shape[1] == 0 and what in ("max", "argmax"):
            continue
        # Where each addition rounds, another order gives other bits.
        a = rng.normal(size=shape).astype(dtype)
        (first,) = host(fn(placed(device, a, 0)))
        (wanted,) = reference(a)
        np.testing.assert_allclose(first, wanted, rtol=rtol, atol=rtol * 50)
        for shift in (1, 2, 3):
            (got,) = host(fn(placed(device, a, shift)))
            assert got.tobytes() == first.tobytes(), (shape, shift)
    assert device.faults == {}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_parts_of_rows(dtype: str, device: CheckingDevice) -> None:
    """Rows that are cut: each part begins where the row's first element would be aligned."""
    x = sg.matrix("x", dtype=dtype, shape=("n", "m"))
    fn = sg.function([x], sg.sum(x, axis=1), target="cuda")
    a = np.random.default_rng(0).normal(size=(1, 16_391)).astype(dtype)
    first, *others = (fn(placed(device, a, shift)).numpy().tobytes() for shift in (0, 1))
    assert others == [first]
    assert device.faults == {}
    assert len(device.kernels) == 2
