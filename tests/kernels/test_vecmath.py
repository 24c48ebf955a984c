"""Vector math: accuracy against mpmath, special values against NumPy, the same bits everywhere, and vector code."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import mpmath
import numba
import numpy as np
import pytest
from llvmlite import binding
from mpmath import mpf
from scipy import special

from symgraph_kernels.cpu import SCALARS

Array = np.ndarray[Any, Any]
Points = Callable[[np.random.Generator, int], Array]

BINARY = ("power", "logaddexp", "arctan2", "hypot")

# what reduces its argument, and calls libm for the hugest
TRIGONOMETRIC = ("sin", "cos", "tan")

# greatest error in ulp, in float64 and float32
BOUNDS: dict[str, tuple[float, float]] = {
    "exp": (1.1, 1.1),
    "exp2": (1.3, 1.3),
    "expm1": (2.0, 2.0),
    "log": (0.9, 0.9),
    "log2": (0.9, 0.9),
    "log10": (0.8, 0.8),
    "log1p": (0.95, 0.95),
    "sin": (0.95, 0.95),
    "cos": (0.95, 0.95),
    "tan": (2.4, 2.4),
    "arcsin": (2.5, 2.5),
    "arccos": (1.3, 1.3),
    "arctan": (2.0, 2.0),
    "arctan2": (2.5, 2.5),
    "hypot": (1.3, 1.3),
    "arcsinh": (1.8, 1.8),
    "arccosh": (2.6, 2.6),
    "arctanh": (2.0, 2.0),
    "sinh": (2.5, 2.5),
    "cosh": (1.6, 1.6),
    "tanh": (2.7, 2.7),
    "sigmoid": (2.4, 2.4),
    "softplus": (2.7, 2.7),
    "erf": (1.4, 1.4),
    "erfc": (4.5, 4.0),
    "power": (1.3, 0.6),
    "cbrt": (0.7, 0.7),
}

EXACT: dict[str, Callable[..., Any]] = {
    "exp": mpmath.exp,
    "exp2": lambda x: mpf(2) ** x,
    "expm1": mpmath.expm1,
    "log": mpmath.log,
    "log2": lambda x: mpmath.log(x) / mpmath.ln2,
    "log10": mpmath.log10,
    "log1p": mpmath.log1p,
    "sin": mpmath.sin,
    "cos": mpmath.cos,
    "tan": mpmath.tan,
    "arcsin": mpmath.asin,
    "arccos": mpmath.acos,
    "arctan": mpmath.atan,
    "arctan2": mpmath.atan2,
    "hypot": mpmath.hypot,
    "arcsinh": mpmath.asinh,
    "arccosh": mpmath.acosh,
    "arctanh": mpmath.atanh,
    "sinh": mpmath.sinh,
    "cosh": mpmath.cosh,
    "tanh": mpmath.tanh,
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "softplus": lambda x: mpmath.log1p(mpmath.exp(x)),
    "erf": mpmath.erf,
    # mpmath overflows for the hugest arguments
    "erfc": lambda x: mpmath.erfc(x) if x < 30 else mpf(0),
    "power": lambda x, y: x**y,
    "cbrt": lambda x: mpmath.sign(x) * mpmath.cbrt(abs(x)),
}

REFERENCE: dict[str, Callable[..., Array]] = {
    # SciPy's expit loses what is subnormal
    "sigmoid": lambda x: np.where(x < 0, np.exp(x), 1) / (1 + np.exp(-np.abs(x))),
    "softplus": lambda x: np.logaddexp(x, np.zeros_like(x)),
    "erf": special.erf,
    "erfc": special.erfc,
}


@cache
def looped(name: str) -> Any:
    """A loop of the function over arrays: `loop(x, out)` or `loop(x, y, out)`."""
    f = SCALARS[name]

    def unary(x: Any, out: Any) -> None:
        for i in range(len(x)):
            out[i] = f(x[i])

    def binary(x: Any, y: Any, out: Any) -> None:
        for i in range(len(x)):
            out[i] = f(x[i], y[i])

    return numba.njit(error_model="numpy")(binary if name in BINARY else unary)


def apply(name: str, *operands: Array) -> Array:
    out = np.empty_like(operands[0])
    looped(name)(*operands, out)
    return out


def ulps(got: float, exact: Any, dtype: Any) -> float:
    """The distance in units of the last place of the exact value; of what overflows, of the greatest finite one."""
    info = np.finfo(dtype)
    digits, lowest = (52, -1022) if dtype == np.float64 else (23, -126)
    if exact == 0 or mpmath.isinf(exact):
        return 0.0 if got == float(exact) else float("inf")
    exponent = min(max(int(mpmath.floor(mpmath.log(abs(exact), 2))), lowest), -lowest + 1)
    unit = mpf(2) ** (exponent - digits)
    if np.isinf(got):
        return 0.0 if abs(exact) >= mpf(float(info.max)) + unit / 2 and (exact > 0) == (got > 0) else float("inf")
    return float(abs(mpf(float(got)) - exact) / unit)


def domain(name: str, dtype: Any, count: int) -> tuple[Array, ...]:
    """Operands over the whole domain: every magnitude, dense where it is hard, and the thresholds."""
    rng = np.random.default_rng(7)
    double = dtype == np.float64
    largest = 709.0 if double else 88.0
    every = 10.0 ** rng.uniform(-307 if double else -44, 308 if double else 38, count) * rng.choice([-1, 1], count)
    parts = [rng.uniform(-1, 1, count), rng.uniform(-20, 20, count), 10.0 ** rng.uniform(-17, 1, count), every]
    parts.append(-parts[2])
    if name in ("exp", "expm1", "sinh", "cosh", "sigmoid", "softplus"):
        parts.append(rng.uniform(-1.06 * largest, largest, count))
    if name == "exp2":
        parts.append(rng.uniform(-1075, 1024, count) if double else rng.uniform(-150, 128, count))
    if name in ("log", "log2", "log10"):
        parts += [1 + rng.uniform(-0.4, 0.5, 2 * count), 1 + parts[2], np.array([5e-324, 2e-45, 2e-310, 1e-39])]
        parts = [np.abs(p) for p in parts]
    if name == "log1p":
        parts = [p[p > -1] for p in parts] + [10.0 ** rng.uniform(-15, 0, count) - 1]
    if name in TRIGONOMETRIC:
        multiples = rng.integers(1, 2**20, count) * (np.pi / 2)
        parts += [multiples, rng.uniform(-1e4, 1e4, count), 2.0 ** rng.uniform(10, 60, count)]
    if name == "erfc":
        parts += [rng.uniform(0.4, 28 if double else 10.3, 2 * count)]
    if name == "erf":
        parts += [rng.uniform(0.8, 1.4, 2 * count), rng.uniform(1, 6, count)]
    if name in ("arcsin", "arccos", "arctanh"):
        edge = 1 - 10.0 ** rng.uniform(-15, 0, count)
        parts = [p[np.abs(p) <= 1] for p in parts] + [edge, -edge]
    if name == "arccosh":
        parts = [1 + np.abs(p) for p in parts]
    if name in ("arctan2", "hypot"):
        small = 10.0 ** rng.uniform(-320, 307, count) if double else 10.0 ** rng.uniform(-44, 38, count)
        x, y = np.concatenate([parts[1], small, parts[0]]), np.concatenate([parts[1][::-1], small[::-1], parts[4]])
        return x.astype(dtype), y.astype(dtype)
    if name == "power":
        x = np.concatenate([np.exp(rng.uniform(-3, 3, 2 * count)), 1 + rng.uniform(-1e-3, 1e-3, count), np.abs(every)])
        x = x.astype(dtype)
        y = rng.uniform(-1.05, 1.05, x.size) * largest / np.maximum(np.abs(np.log(x.astype(np.float64))), 1e-12)
        y[:count] = rng.uniform(-5, 5, count)
        return x[x > 0], y.astype(dtype)[x > 0]
    with np.errstate(all="ignore"):
        x = np.concatenate(parts).astype(dtype)
    x = x[np.isfinite(x)]
    return (x[x > 0] if name in ("log", "log2", "log10") else x[x > -1] if name == "log1p" else x,)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", BOUNDS)
def test_accuracy(name: str, dtype: Any) -> None:
    operands = domain(name, dtype, 250)
    got = apply(name, *operands)
    with mpmath.workprec(120):
        errors = [ulps(g, EXACT[name](*map(mpf, map(float, at))), dtype) for g, *at in zip(got, *operands, strict=True)]
    worst = int(np.argmax(errors))
    at = [o[worst] for o in operands]
    assert errors[worst] <= BOUNDS[name][dtype == np.float32], f"{name}{tuple(at)} = {got[worst]!r}"


@pytest.mark.parametrize("name", [n for n in BOUNDS if n not in BINARY])
def test_accuracy_of_float32_on_a_dense_grid(name: str) -> None:
    (x,) = domain(name, np.float32, 10_000)
    got = apply(name, x)
    wide = x.astype(np.float64)
    with np.errstate(all="ignore"):
        exact = (REFERENCE.get(name) or getattr(np, name))(wide)
        unit = np.maximum(np.spacing(np.abs(exact).astype(np.float32)).astype(np.float64), 2.0**-149)
        error = np.abs(got - exact) / unit
    error = error[np.isfinite(got) & (np.abs(exact) < 3.4e38)]
    # at a power of two the spacing above is twice that below
    assert error.max() <= BOUNDS[name][1] * 1.02


SPECIAL = (0.0, 1.0, 0.5, 1.5, 2.0, 3.0, 4.0, 7.25, 1e-310, 1e-40, 1e300, 709.0, 745.0, 89.0, 104.0, np.inf)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", [*BOUNDS, "logaddexp"])
def test_special_values(name: str, dtype: Any) -> None:
    with np.errstate(all="ignore"):
        values = np.array([*SPECIAL, *(-v for v in SPECIAL), np.nan], dtype)
        operands = [values]
        if name in BINARY:
            operands = [g.ravel().copy() for g in np.meshgrid(values, values)]
        expected = (REFERENCE.get(name) or getattr(np, name))(*operands)
        got = apply(name, *operands)
        close = np.abs(got - expected) <= 4 * np.finfo(dtype).eps * np.maximum(np.abs(expected), 0)
        close |= np.abs(got - expected) <= 2 * float(np.finfo(dtype).smallest_subnormal)
        if name == "logaddexp":
            close |= np.abs(got - expected) <= np.finfo(dtype).eps
        same = (got == expected) & (np.signbit(got) == np.signbit(expected))
        special_case = np.isinf(expected) | np.isnan(expected) | (expected == 0)
    good = np.where(special_case, same | (np.isnan(got) & np.isnan(expected)), close)
    wrong = [(*(o[i] for o in operands), got[i], expected[i]) for i in np.flatnonzero(~good)]
    assert not wrong


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", [*BOUNDS, "logaddexp"])
def test_thresholds_and_exact_values(name: str, dtype: Any) -> None:
    t = dtype

    def at(*values: Any) -> Any:
        return apply(name, *(np.array([v], dtype) for v in values))[0]

    double = dtype == np.float64
    if name == "exp":
        assert np.isfinite(at(709.78 if double else 88.72))
        assert at(709.79 if double else 88.73) == np.inf
        assert at(-745.13 if double else -103.97) == np.finfo(dtype).smallest_subnormal
        assert at(-745.14 if double else -103.98) == 0
    elif name == "exp2":
        whole = np.arange(-1074 if double else -149, 1024 if double else 128).astype(dtype)
        np.testing.assert_array_equal(apply(name, whole), np.ldexp(np.ones_like(whole), whole.astype(np.int32)))
    elif name == "log2":
        whole = np.arange(-1074 if double else -149, 1024 if double else 128)
        np.testing.assert_array_equal(apply(name, np.ldexp(np.ones(whole.size, dtype), whole)), whole)
    elif name == "log10":
        for power in range(23 if double else 11):
            assert at(10.0**power) == power
    elif name == "power":
        assert at(-2, 3) == -8
        assert at(-8, t(1) / 3) != at(-8, t(1) / 3)
        for x in (2.0, 3.0, 5.0, 10.0, -3.0):
            for n in range(8):
                assert at(x, n) == x**n
    elif name in ("expm1", "log1p", "sin", "tan", "tanh", "sinh", "arcsin", "arctan", "arcsinh", "arctanh"):
        tiny = np.finfo(dtype).smallest_subnormal
        assert at(tiny) == tiny
        assert at(-3 * tiny) == -3 * tiny
        assert np.signbit(at(-0.0))
    elif name == "logaddexp":
        assert at(1.0, -np.inf) == 1


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", TRIGONOMETRIC)
def test_every_magnitude_of_angle(name: str, dtype: Any) -> None:
    info = np.finfo(dtype)
    x = np.ldexp(np.ones(info.maxexp - 1, dtype), np.arange(1, info.maxexp)) * dtype(1.4142135)
    with mpmath.workprec(1200):
        exact = [EXACT[name](mpf(float(v))) for v in x]
        errors = [ulps(g, e, dtype) for g, e in zip(apply(name, x), exact, strict=True)]
    assert max(errors) <= (2.3 if name == "tan" else 1.0)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", [*BOUNDS, "logaddexp"])
def test_same_bits_at_any_position(name: str, dtype: Any) -> None:
    operands = domain(name, dtype, 17) if name != "logaddexp" else domain("power", dtype, 17)
    if name in TRIGONOMETRIC:
        operands = (np.concatenate([operands[0], np.array([1e30, np.inf, 2.0], dtype)]),)
    whole = apply(name, *operands)
    one_by_one = np.concatenate([apply(name, *(o[i : i + 1] for o in operands)) for i in range(whole.size)])
    np.testing.assert_array_equal(whole.view(np.uint8), one_by_one.view(np.uint8))
    for start in range(1, 9):
        shifted = apply(name, *(o[start : -start or None] for o in operands))
        np.testing.assert_array_equal(shifted.view(np.uint8), whole[start : -start or None].view(np.uint8))


def has_avx2() -> bool:
    return bool(binding.get_host_cpu_features().get("avx2", False))


@pytest.mark.skipif(not has_avx2(), reason="what vector code looks like is known for AVX2 and AVX-512 only")
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", [*BOUNDS, "logaddexp"])
def test_loop_is_vector_code(name: str, dtype: Any) -> None:
    loop = looped(name)
    array = numba.from_dtype(np.dtype(dtype))[::1]
    signature = (array,) * (3 if name in BINARY else 2)
    loop.compile(signature)
    assembly = loop.inspect_asm(signature)
    suffix = "pd" if dtype == np.float64 or name == "power" else "ps"
    assert re.search(rf"vfn?m(add|sub)\w*{suffix}\s.*%[yz]mm", assembly)
    if name not in TRIGONOMETRIC:
        assert not re.search(rf"\b{name}f?\b(?!.*:)", re.sub(r"_Z\w+|#.*", "", assembly))


@pytest.mark.skipif(binding.get_process_triple().split("-")[0] != "x86_64", reason="x86-64 has machines without fma")
def test_accuracy_without_fma() -> None:
    environment = {**os.environ, "NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": ""}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib", __file__]
    command += ["-k", "test_accuracy and not grid and not without_fma and (float64 or sin or log10)"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
