"""The scalar vocabulary against NumPy: values, special values, result types; reductions that vectorize; imports."""

import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np
import pytest
from llvmlite import binding
from numba.core.errors import TypingError
from scipy import special

from symgraph_kernels.cpu import SCALARS

Array = np.ndarray[Any, Any]

NAMES = [
    "exp",
    "exp2",
    "expm1",
    "log",
    "log2",
    "log10",
    "log1p",
    "sin",
    "cos",
    "tan",
    "arcsin",
    "arccos",
    "arctan",
    "arctan2",
    "sinh",
    "cosh",
    "tanh",
    "arcsinh",
    "arccosh",
    "arctanh",
    "sqrt",
    "cbrt",
    "power",
    "hypot",
    "floor",
    "ceil",
    "trunc",
    "rint",
    "sign",
    "absolute",
    "isnan",
    "isinf",
    "isfinite",
    "signbit",
    "copysign",
    "fmod",
    "remainder",
    "floor_divide",
    "sigmoid",
    "softplus",
    "erf",
    "erfc",
    "gammaln",
    "gamma",
    "lgamma",
    "tgamma",
    "logaddexp",
    "square",
    "reciprocal",
    "minimum",
    "maximum",
    "select",
    "add_reassoc",
    "mul_reassoc",
]

UNARY = [
    "tan",
    "arcsin",
    "arccos",
    "arctan",
    "arcsinh",
    "arccosh",
    "arctanh",
    "sqrt",
    "cbrt",
    "floor",
    "ceil",
    "trunc",
    "rint",
    "sign",
    "absolute",
    "isnan",
    "isinf",
    "isfinite",
    "signbit",
    "gammaln",
    "gamma",
    "erfc",
    "square",
    "reciprocal",
]
BINARY = ["arctan2", "hypot", "copysign", "fmod", "remainder", "floor_divide", "minimum", "maximum"]
INTEGER_BINARY = ["floor_divide", "remainder", "fmod", "power", "minimum", "maximum", "add_reassoc", "mul_reassoc"]
# other than NumPy's of the same name
REFERENCE: dict[str, Callable[..., Array]] = {
    "gammaln": special.gammaln,
    "gamma": special.gamma,
    "erfc": special.erfc,
    "add_reassoc": np.add,
    "mul_reassoc": np.multiply,
}
VALUES = (0.0, 1.0, 0.5, 0.1, 1.5, 2.5, 2.0, 3.0, 7.25, 1e-310, 1e-40, 1e17, 3e38, np.inf)
INTEGERS = (np.int8, np.int32, np.int64, np.uint8, np.uint64)


@cache
def looped(name: str, arity: int) -> Any:
    f = SCALARS[name]

    def unary(x: Any, out: Any) -> None:
        for i in range(len(x)):
            out[i] = f(x[i])

    def binary(x: Any, y: Any, out: Any) -> None:
        for i in range(len(x)):
            out[i] = f(x[i], y[i])

    return numba.njit(error_model="numpy")(unary if arity == 1 else binary)


def result_of(name: str, *operands: Array) -> tuple[Array, Array]:
    """(ours, NumPy's)."""
    with np.errstate(all="ignore"):
        expected = np.asarray((REFERENCE.get(name) or getattr(np, name))(*operands))
    out = np.empty_like(expected)
    looped(name, len(operands))(*operands, out)
    return out, expected


def check_floats(name: str, *operands: Array) -> None:
    got, expected = result_of(name, *operands)
    if expected.dtype == np.bool_:
        np.testing.assert_array_equal(got, expected)
        return
    assert got.dtype == operands[0].dtype
    with np.errstate(all="ignore"):
        # gamma and gammaln are as good as libm's, which SciPy does not use
        close = np.abs(got - expected) <= (16 if "gamma" in name else 2) * np.finfo(got.dtype).eps * np.abs(expected)
    close |= (got == expected) & (np.signbit(got) == np.signbit(expected)) | (np.isnan(got) & np.isnan(expected))
    wrong = [(*(o[i] for o in operands), got[i], expected[i]) for i in np.flatnonzero(~close)]
    assert not wrong


def test_every_name_is_there() -> None:
    assert set(NAMES) <= set(SCALARS)


def test_numba_is_imported_late() -> None:
    code = "import sys, symgraph_kernels.cpu; assert not {'numba', 'llvmlite'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", UNARY)
def test_unary(name: str, dtype: Any) -> None:
    with np.errstate(all="ignore"):
        values = np.array([*VALUES, *(-v for v in VALUES), np.nan], dtype)
    if name == "gamma":
        # at the poles SciPy and libm differ in what they answer
        values = values[~((values <= 0) & (values == np.floor(values)))]
    check_floats(name, values)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", BINARY)
def test_binary(name: str, dtype: Any) -> None:
    with np.errstate(all="ignore"):
        values = np.array([*VALUES, *(-v for v in VALUES), np.nan], dtype)
    x, y = (g.ravel().copy() for g in np.meshgrid(values, values))
    if name in ("minimum", "maximum"):
        # which of two zeros NumPy answers depends on their order; ours is -0 < +0
        both = (x == 0) & (y == 0)
        x, y = x[~both], y[~both]
    check_floats(name, x, y)


def test_zeros_are_ordered() -> None:
    x, y = np.array([0.0, -0.0]), np.array([-0.0, 0.0])
    for name, sign in (("minimum", True), ("maximum", False)):
        out = np.empty(2)
        looped(name, 2)(x, y, out)
        assert (np.signbit(out) == sign).all()


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers(dtype: Any) -> None:
    info = np.iinfo(dtype)
    values = [v for v in (info.min, info.min + 1, info.max, info.max - 1, *range(-7, 9), 100) if info.min <= v]
    some = np.array(values, dtype)
    for name in ("sign", "absolute", "square", "isnan", "isinf", "isfinite"):
        got, expected = result_of(name, some)
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected)
    x, y = (g.ravel().copy() for g in np.meshgrid(some, some))
    for name in INTEGER_BINARY:
        # NumPy refuses negative exponents
        operands = (x[y >= 0], y[y >= 0]) if name == "power" else (x, y)
        got, expected = result_of(name, *operands)
        assert got.dtype == dtype
        np.testing.assert_array_equal(got, expected)


def test_integer_power_of_negative_exponent_truncates() -> None:
    x = np.array([0, 1, -1, -1, 2, -5, 7], np.int64)
    y = np.array([-1, -3, -2, -3, -1, -3, np.iinfo(np.int64).min], np.int64)
    out = np.empty_like(x)
    looped("power", 2)(x, y, out)
    np.testing.assert_array_equal(out, [0, 1, 1, -1, 0, 0, 0])


def test_booleans() -> None:
    x, y = np.array([False, False, True, True]), np.array([False, True, False, True])
    for name, expected in (("minimum", x & y), ("maximum", x | y), ("add_reassoc", x | y), ("mul_reassoc", x & y)):
        out = np.empty(4, np.bool_)
        looped(name, 2)(x, y, out)
        np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int8, np.uint64, np.bool_])
def test_select(dtype: Any) -> None:
    select = SCALARS["select"]

    def loop(c: Any, a: Any, b: Any, out: Any) -> None:
        for i in range(len(c)):
            out[i] = select(c[i], a[i], b[i])

    choose = numba.njit(error_model="numpy")(loop)
    c, a, b = np.array([True, False]), np.array([1, 1], dtype), np.array([0, 0], dtype)
    out = np.empty(2, dtype)
    choose(c, a, b, out)
    np.testing.assert_array_equal(out, np.where(c, a, b))


def test_operands_of_two_types_are_refused() -> None:
    power = SCALARS["power"]

    def loop(x: Any, y: Any) -> Any:
        return power(x, y)

    mixed = numba.njit(error_model="numpy")(loop)
    with pytest.raises(TypingError, match="operands must be of one dtype"):
        mixed(np.float64(1), np.float32(1))


@pytest.mark.skipif(
    not binding.get_host_cpu_features().get("avx2", False), reason="vector code is recognized on AVX2 and AVX-512 only"
)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", ["add_reassoc", "mul_reassoc", "minimum", "maximum"])
def test_reductions_vectorize(name: str, dtype: str) -> None:
    combine = SCALARS[name]

    def loop(x: Any) -> Any:
        acc = x[0]
        for i in range(1, len(x)):
            acc = combine(acc, x[i])
        return acc

    reduce = numba.njit(error_model="numpy")(loop)
    x = np.linspace(0.9, 1.1, 1001).astype(dtype)
    x[500] = np.nan if "imum" in name else 1
    numpy_name = {"add_reassoc": np.add, "mul_reassoc": np.multiply, "minimum": np.minimum, "maximum": np.maximum}[name]
    np.testing.assert_allclose(reduce(x), numpy_name.reduce(x), rtol=1e-4 if dtype == "float32" else 1e-12)
    (assembly,) = reduce.inspect_asm().values()
    suffix = "pd" if dtype == "float64" else "ps"
    assert re.search(rf"v(add|mul|min|max){suffix}\s.*%[yz]mm", assembly)


def test_sums_without_the_flag_keep_their_order() -> None:
    def loop(x: Any) -> Any:
        acc = 0.0
        for i in range(len(x)):
            acc = acc + x[i]
        return acc

    ordered = numba.njit(error_model="numpy")(loop)
    x = np.random.default_rng(1).standard_normal(1000) * 10.0 ** (np.arange(1000) % 17)
    expected = 0.0
    for v in x.tolist():
        expected += v
    assert ordered(x) == expected
