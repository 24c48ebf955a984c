"""Vector math on one core: accuracy in ulp, and billions of results a second against NumPy and libm.

    python benchmarks/vecmath.py            # prints, and writes the table into docs/vecmath.md

Contenders take turns within one process, the best of several rounds counts, arrays stay in the second-level cache.
NumPy is its own ufunc (scipy.special's where it has none), libm a Numba loop that calls the C function. Accuracy of
float64 is against the C library's long double (erf and erfc: mpmath), which must be wider than float64, of float32
against float64; over many more points than the tests have.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mpmath
import numba
import numpy as np
from llvmlite import binding
from numba import types
from scipy import special

from symgraph_kernels.cpu import SCALARS

Array = np.ndarray[Any, Any]
SIZE = 8192
MARK = "<!-- table: written by benchmarks/vecmath.py -->"

# name -> (interval that is timed, C function or None)
FUNCTIONS: dict[str, tuple[float, float, str | None]] = {
    "exp": (-3, 3, "exp"),
    "exp2": (-3, 3, "exp2"),
    "expm1": (-3, 3, "expm1"),
    "log": (0.01, 100, "log"),
    "log2": (0.01, 100, "log2"),
    "log10": (0.01, 100, "log10"),
    "log1p": (-0.9, 10, "log1p"),
    "sin": (-3, 3, "sin"),
    "cos": (-3, 3, "cos"),
    "tan": (-3, 3, "tan"),
    "arcsin": (-1, 1, "asin"),
    "arccos": (-1, 1, "acos"),
    "arctan": (-3, 3, "atan"),
    "arctan2": (-3, 3, "atan2"),
    "hypot": (-3, 3, "hypot"),
    "arcsinh": (-3, 3, "asinh"),
    "arccosh": (1, 10, "acosh"),
    "arctanh": (-1, 1, "atanh"),
    "sinh": (-3, 3, "sinh"),
    "cosh": (-3, 3, "cosh"),
    "tanh": (-3, 3, "tanh"),
    "sigmoid": (-3, 3, None),
    "softplus": (-3, 3, None),
    "logaddexp": (-3, 3, None),
    "erf": (-3, 3, "erf"),
    "erfc": (-3, 3, "erfc"),
    "power": (0.01, 10, "pow"),
    "cbrt": (-3, 3, "cbrt"),
}
BINARY = ("power", "logaddexp", "arctan2", "hypot")

NUMPY: dict[str, Callable[..., Any]] = {
    "sigmoid": special.expit,
    "softplus": lambda x, out: np.logaddexp(x, 0, out=out),
    "erf": special.erf,
    "erfc": special.erfc,
}


def by_mpmath(f: Callable[..., Any]) -> Any:
    """`f` of each element, to more digits than a long double has."""
    return np.frompyfunc(lambda v: np.longdouble(mpmath.nstr(f(mpmath.mpf(float(v))), 25)), 1, 1)


def exact_sigmoid(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    return np.asarray(np.where(x < 0, e, 1) / (1 + e))


EXACT: dict[str, Callable[..., Any]] = {
    "sigmoid": exact_sigmoid,
    "softplus": lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),
    "erf": by_mpmath(mpmath.erf),
    "erfc": by_mpmath(mpmath.erfc),
}


def loop_of(f: Any, arity: int) -> Any:
    def unary(x: Any, out: Any) -> None:
        for i in range(len(x)):
            out[i] = f(x[i])

    def binary(x: Any, y: Any, out: Any) -> None:
        for i in range(len(x)):
            out[i] = f(x[i], y[i])

    return numba.njit(error_model="numpy")(unary if arity == 1 else binary)


def libm(symbol: str, arity: int, dtype: Any) -> Any:
    t = types.float64 if dtype == np.float64 else types.float32
    return types.ExternalFunction(symbol + ("" if dtype == np.float64 else "f"), t(*[t] * arity))


def points(name: str, dtype: Any, count: int) -> tuple[Array, ...]:
    rng = np.random.default_rng(3)
    double = dtype == np.float64
    top = 709.0 if double else 88.0
    parts: list[Array] = [rng.uniform(-1, 1, count), rng.uniform(-20, 20, count), 10.0 ** rng.uniform(-17, 1, count)]
    if name in ("exp", "expm1", "sinh", "cosh", "sigmoid", "softplus"):
        parts.append(rng.uniform(-1.05 * top, top, count))
    if name.startswith("log") and name != "logaddexp":
        parts += [rng.uniform(0.6, 1.5, count), 10.0 ** rng.uniform(-300 if double else -44, 38, count)]
    if name in ("sin", "cos", "tan"):
        parts += [rng.uniform(-1e5, 1e5, count), rng.integers(1, 2**30, count) * (np.pi / 2)]
    if name in ("erf", "erfc"):
        parts = [p[: count // 40] for p in parts] + [rng.uniform(0.8, 1.4, count // 20)]
    if name == "erfc":
        parts.append(rng.uniform(0.5, 26 if double else 9, count // 20))
    if name in ("arcsin", "arccos", "arctanh"):
        parts = [p[np.abs(p) <= 1] for p in parts] + [1 - 10.0 ** rng.uniform(-15, 0, count)]
    if name == "arccosh":
        parts = [1 + np.abs(p) for p in parts]
    x = np.concatenate(parts).astype(dtype)
    if name == "power":
        x = np.exp(rng.uniform(-3, 3, count)).astype(dtype)
        y = rng.uniform(-1, 1, count) * top / np.maximum(np.abs(np.log(x.astype(np.float64))), 1e-9)
        return x, y.astype(dtype)
    if name == "logaddexp":
        x = np.abs(x)
    if name in BINARY:
        return x, x[::-1].copy()
    if name in ("log", "log2", "log10"):
        return (x[x > 0],)
    return (x[x > -1],) if name == "log1p" else (x,)


def ulp_error(name: str, dtype: Any, loop: Any) -> float:
    operands = points(name, dtype, 200_000)
    got = np.empty_like(operands[0])
    loop(*operands, got)
    wide = np.longdouble if dtype == np.float64 or name in ("power", "erf", "erfc") else np.float64
    with np.errstate(all="ignore"):
        exact: Any = np.asarray((EXACT.get(name) or getattr(np, name))(*(o.astype(wide) for o in operands))).astype(
            wide
        )
        rounded = np.abs(exact).astype(dtype)
        # a value just below a power of two rounds up to it, where the spacing is double
        below = rounded.astype(wide) > np.abs(exact)
        unit = np.spacing(np.where(below, np.nextafter(rounded, dtype(0)), rounded))
        error = np.abs(got.astype(wide) - exact) / unit.astype(wide)
    return float(error[np.isfinite(rounded) & np.isfinite(error)].max())


def rates(calls: list[Callable[[], Any] | None]) -> list[float]:
    """Results a second, in billions; 0 where there is no contender."""
    best = [float("inf")] * len(calls)
    for _ in range(9):
        for i, call in enumerate(calls):
            if call is None:
                continue
            start = time.perf_counter()
            for _ in range(12):
                call()
            best[i] = min(best[i], (time.perf_counter() - start) / 12)
    return [SIZE / b / 1e9 if b < float("inf") else 0.0 for b in best]


def row(name: str, dtype: Any) -> list[float]:
    low, high, symbol = FUNCTIONS[name]
    arity = 2 if name in BINARY else 1
    rng = np.random.default_rng(5)
    x = rng.uniform(low, high, SIZE).astype(dtype)
    out = np.empty_like(x)
    operands = (x, rng.uniform(-3, 3, SIZE).astype(dtype)) if arity == 2 else (x,)
    ours = loop_of(SCALARS[name], arity)
    ours(*operands, out)
    numpy = NUMPY.get(name) or getattr(np, name)
    slow = loop_of(libm(symbol, arity, dtype), arity) if symbol else None
    if slow:
        slow(*operands, out)
    timed = rates(
        [
            lambda: ours(*operands, out),
            lambda: numpy(*operands, out=out),
            (lambda: slow(*operands, out)) if slow else None,
        ]
    )
    return [ulp_error(name, dtype, ours), *timed]


def machine() -> str:
    features = binding.get_host_cpu_features()
    vectors = next((n for n, f in (("AVX-512", "avx512f"), ("AVX2", "avx2")) if features.get(f, False)), "no AVX2")
    versions = f"NumPy {np.__version__}, Numba {numba.__version__}"
    return f"{binding.get_host_cpu_name()}, {vectors}, {platform.system()}, {versions}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", help="functions to measure (all, and the table is written)")
    parser.add_argument("--document", type=Path, default=Path(__file__).parent.parent / "docs" / "vecmath.md")
    arguments = parser.parse_args()
    lines = ["| function | dtype | max ulp | Gresults/s | NumPy | libm |", "|---|---|---|---|---|---|"]
    print("\n".join(lines))
    for name in arguments.names or FUNCTIONS:
        for dtype in (np.float64, np.float32):
            ulp, *speed = row(name, dtype)
            cells = [f"{s:.2f}" if s else "" for s in speed]
            lines.append(f"| {name} | {np.dtype(dtype).name} | {ulp:.2f} | {' | '.join(cells)} |")
            print(lines[-1], flush=True)
    if not arguments.names and arguments.document.exists():
        text = arguments.document.read_text(encoding="utf-8").split(MARK)[0]
        arguments.document.write_text(
            f"{text}{MARK}\n\nOne core of {machine()}.\n\n" + "\n".join(lines) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
