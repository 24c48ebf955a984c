"""The scalar functions of CUDA kernels against NumPy, on special values: what is written out, not libdevice's own."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy import special

from symgraph_kernels.cpu import SCALARS as CPU
from symgraph_kernels.cuda.scalar import SCALARS
from symgraph_kernels.cuda.threads import VOCABULARY

FLOATS = ("float32", "float64")
SIGNED = ("int8", "int16", "int32", "int64")
UNSIGNED = ("uint8", "uint16", "uint32", "uint64")

REFERENCE: dict[str, Callable[..., Any]] = {
    "sigmoid": lambda x: special.expit(x.astype("float64")).astype(x.dtype),
    "softplus": lambda x: np.logaddexp(x, np.zeros_like(x)),
    "gamma": special.gamma,
    "square": np.square,
}
UNARY = ("sigmoid", "softplus", "sign", "gamma", "reciprocal", "square", "isnan", "isinf", "isfinite", "signbit")
BINARY = ("logaddexp", "maximum", "minimum", "floor_divide", "remainder", "add", "multiply")
VALUES = (0.0, 1.0, 0.5, 0.1, 1.5, 2.5, 3.0, 7.25, 90.0, 800.0, 1e-40, 1e17, 3e38, np.inf)


def reference(name: str) -> Callable[..., Any]:
    return REFERENCE.get(name) or getattr(np, name)


def check(name: str, dtype: str, operands: Any, rtol: float = 0.0) -> None:
    f, want = SCALARS[f"{name}_{dtype}"], reference(name)
    with np.errstate(all="ignore"):
        for values in operands:
            got, wanted = f(*values), want(*values)
            if isinstance(wanted, np.floating):
                assert np.asarray(got).dtype == wanted.dtype, (name, values)
                np.testing.assert_allclose(got, wanted, rtol=rtol, err_msg=f"{name}{values}")
                if wanted == 0:
                    assert np.signbit(got) == np.signbit(wanted), (name, values)
            else:
                assert got == wanted, (name, values, got, wanted)


def floats(dtype: str) -> list[Any]:
    made = [np.dtype(dtype).type(v) for v in VALUES]
    return [*made, *[-v for v in made], np.dtype(dtype).type(np.nan)]


@pytest.mark.parametrize(("name", "dtype"), list(product(UNARY, FLOATS)))
def test_function_of_a_float(name: str, dtype: str) -> None:
    values = [v for v in floats(dtype) if not (name == "gamma" and v < 0 and v == np.floor(v))]
    check(name, dtype, [(v,) for v in values], 4e-7 if dtype == "float32" else 1e-14)


@pytest.mark.parametrize(("name", "dtype"), list(product(BINARY, FLOATS)))
def test_function_of_two_floats(name: str, dtype: str) -> None:
    pairs = list(product(floats(dtype), repeat=2))
    if name in ("maximum", "minimum"):  # the sign of a zero among zeros is not NumPy's to say
        pairs = [(a, b) for a, b in pairs if a or b]
    check(name, dtype, pairs, 1e-6 if dtype == "float32" else 1e-14)


def integers(dtype: str) -> list[Any]:
    info = np.iinfo(dtype)
    found = {0, 1, 2, 3, 5, 7, 8, 31, 63, info.max, info.max - 1, info.min}
    if info.min < 0:
        found |= {-1, -2, -3, -7, -8, info.min + 1}
    return [np.dtype(dtype).type(v) for v in sorted(found) if info.min <= v <= info.max]


@pytest.mark.parametrize("dtype", SIGNED + UNSIGNED)
@pytest.mark.parametrize("name", ["floor_divide", "remainder", "fmod", "maximum", "minimum", "add", "multiply"])
def test_function_of_two_integers(name: str, dtype: str) -> None:
    lowest = np.iinfo(dtype).min
    pairs = [
        (a, b) for a, b in product(integers(dtype), repeat=2) if not (name == "floor_divide" and a == lowest < 0 > b)
    ]
    check(name, dtype, pairs)


@pytest.mark.parametrize("dtype", SIGNED)
def test_the_lowest_number_divided_by_minus_one_wraps_around(dtype: str) -> None:
    lowest, minus = np.dtype(dtype).type(np.iinfo(dtype).min), np.dtype(dtype).type(-1)
    with np.errstate(over="ignore"):
        assert SCALARS[f"floor_divide_{dtype}"](lowest, minus) == lowest
        assert SCALARS[f"remainder_{dtype}"](lowest, minus) == 0


@pytest.mark.parametrize("dtype", SIGNED + UNSIGNED)
@pytest.mark.parametrize("name", ["square", "absolute", "sign"])
def test_function_of_an_integer(name: str, dtype: str) -> None:
    check(name, dtype, [(v,) for v in integers(dtype)])


@pytest.mark.parametrize("dtype", SIGNED + UNSIGNED)
def test_power_of_integers(dtype: str) -> None:
    f = SCALARS[f"power_{dtype}"]
    with np.errstate(all="ignore"):
        for base, exponent in product(integers(dtype), repeat=2):
            if exponent < 0:
                whole = {1: 1, -1: -1 if int(exponent) % 2 else 1}.get(int(base), 0)
                assert f(base, exponent) == whole, (base, exponent)
            else:
                assert f(base, exponent) == np.power(base, exponent), (base, exponent)


@pytest.mark.parametrize("dtype", SIGNED + UNSIGNED)
def test_shifts(dtype: str) -> None:
    """By more than the width too: all zeros, or all sign."""
    for value, count in product(integers(dtype), integers(dtype)):
        assert SCALARS[f"left_shift_{dtype}"](value, count) == np.left_shift(value, count), (value, count)
        assert SCALARS[f"right_shift_{dtype}"](value, count) == np.right_shift(value, count), (value, count)


@pytest.mark.parametrize("dtype", FLOATS)
def test_floats_as_uint64(dtype: str) -> None:
    """As on the CPU: what fits in 64 bits wraps around."""
    f = SCALARS[f"uint64_of_{dtype}"]
    for value, want in ((0.0, 0), (1.9, 1), (-1.0, 2**64 - 1), (2.0**63, 2**63), (2.0**63 + 2.0**40, 2**63 + 2**40)):
        assert int(f(np.dtype(dtype).type(value))) == want


def test_half_precision_is_rounded_once() -> None:
    just_above = 1 + 2.0**-11 + 2.0**-40  # float32 rounds it to the middle of two halves, and from there down
    assert VOCABULARY["float16"](np.float64(just_above)) == np.float32(np.float16(just_above)) == 1 + 2.0**-10


def test_every_function_of_the_cpu_is_there() -> None:
    spelled = {"add_reassoc": "add", "mul_reassoc": "multiply", "lgamma": "gammaln", "abs": "absolute"}
    for name in CPU:
        for dtype in FLOATS:
            assert f"{spelled.get(name, name)}_{dtype}" in SCALARS, name
