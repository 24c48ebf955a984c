"""Fit the polynomials of vector math and write `symgraph_kernels/cpu/polynomials.py`.

    python kernels/tools/fit_polynomials.py > kernels/symgraph_kernels/cpu/polynomials.py

Each is a weighted minimax polynomial by Remez exchange in 50-digit arithmetic (mpmath), its coefficients then rounded
to the target format.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from mpmath import asin, atan, atanh, cbrt, cos, erf, erfc, expm1, log, mp, mpf, pi, sin, sqrt

mp.dps = 50
Function = Callable[[Any], Any]


def to_float32(x: Any) -> float:
    return float(struct.unpack("<f", struct.pack("<f", float(x)))[0])


def solve(points: list[int], xs: list[Any], fs: list[Any], ws: list[Any], count: int) -> list[Any]:
    """Coefficients of x**0 ... x**(count-1), then the levelled error."""
    a = mp.matrix(count + 1, count + 1)
    rhs = mp.matrix(count + 1, 1)
    for row, i in enumerate(points):
        for j in range(count):
            a[row, j] = xs[i] ** j * ws[i]
        a[row, count] = (-1) ** row
        rhs[row] = fs[i] * ws[i]
    return list(mp.lu_solve(a, rhs))


def exchange(error: list[Any], count: int) -> list[int]:
    """One extremum of each run of equal sign; the least at either end dropped until count + 1 remain."""
    peaks: list[int] = []
    for i, e in enumerate(error):
        if peaks and (error[peaks[-1]] > 0) == (e > 0):
            if abs(e) > abs(error[peaks[-1]]):
                peaks[-1] = i
        else:
            peaks.append(i)
    while len(peaks) > count + 1:
        peaks.pop(0 if abs(error[peaks[0]]) < abs(error[peaks[-1]]) else -1)
    return peaks


def remez(xs: list[Any], fs: list[Any], ws: list[Any], count: int) -> list[Any]:
    n = len(xs) - 1
    points = [round(float((1 - cos(pi * i / count)) / 2 * n)) for i in range(count + 1)]
    best: list[Any] = []
    for _ in range(12):
        best = solve(points, xs, fs, ws, count)[:count]
        error = [(f - mp.polyval(best[::-1], x)) * w for f, x, w in zip(fs, xs, ws, strict=True)]
        points, previous = exchange(error, count), points
        if points == previous or len(points) < count + 1:
            break
    return best


def fit(f: Function, weight: Function, a: float, b: float, count: int, single: bool) -> tuple[list[float], float]:
    """`count` coefficients for f on [a, b], and log2 of the greatest weighted error of the rounded polynomial."""
    n = 24 * count
    xs = [a + (b - mpf(a)) * (1 - cos(pi * (2 * i + 1) / (2 * n))) / 2 for i in range(n)]
    fs, ws = [f(x) for x in xs], [weight(x) for x in xs]
    rounded = [to_float32(c) if single else float(c) for c in remez(xs, fs, ws, count)]
    error = max(abs((g - mp.polyval(rounded[::-1], x)) * w) for g, x, w in zip(fs, xs, ws, strict=True))
    return rounded, float(log(error, 2))


def log1p_tail(z: Any) -> Any:
    """(2 atanh(s) - 2 s) / s**3 with z = s**2."""
    s = sqrt(z)
    return 2 * (atanh(s) - s) / (s * z)


def log_tail5(z: Any) -> Any:
    """(2 atanh(s) - 2 s - 2 s**3 / 3) / s**5 with z = s**2."""
    s = sqrt(z)
    return 2 * (atanh(s) - s - s * z / 3) / (s * z * z)


def erfcx_of(center: float) -> Function:
    """exp(x**2) erfc(x) (x + center) as a function of t = (x - center) / (x + center)."""

    def f(t: Any) -> Any:
        x = center * (1 + t) / (1 - t)
        return mp.exp(x * x) * erfc(x) * (x + center)

    return f


HALF_LN2 = 0.34658  # ln 2 / 2, and room for the rounding of the reduction
ATANH = 0.029439  # ((sqrt 2 - 1) / (sqrt 2 + 1))**2
QUARTER = 0.6170  # (pi / 4)**2
ERF_SPLIT = 1.0

# name, what it is, f, weight of the error, interval, coefficients in float64 and in float32 (0: none)
TABLE: list[tuple[str, str, Function, Function, float, float, int, int]] = [
    (
        "EXP",
        "(exp(r) - 1 - r) / r**2, |r| <= ln(2)/2; error relative to expm1(r)",
        lambda r: (expm1(r) - r) / r**2,
        lambda r: r**2 / abs(expm1(r)),
        -HALF_LN2,
        HALF_LN2,
        11,
        6,
    ),
    (
        "EXP2",
        "(2**r - 1) / r, |r| <= 1/2; error relative to 2**r",
        lambda r: expm1(r * log(2)) / r,
        lambda r: abs(r) / mpf(2) ** r,
        -0.5001,
        0.5001,
        11,
        7,
    ),
    (
        "EXP2_SHORT",
        "the same, for float32 results out of float64 arithmetic",
        lambda r: expm1(r * log(2)) / r,
        lambda r: abs(r) / mpf(2) ** r,
        -0.5001,
        0.5001,
        6,
        0,
    ),
    (
        "LOG",
        "(2 atanh(s) - 2 s) / s**3 in z = s**2, |s| <= 0.1716; error relative to log",
        log1p_tail,
        lambda z: z / 2,
        1e-12,
        ATANH,
        7,
        3,
    ),
    (
        "LOG2_SHORT",
        "2 atanh(s) / (s ln 2) in z = s**2, |s| <= 0.1716, for float32 results out of float64 arithmetic",
        lambda z: 2 * atanh(sqrt(z)) / sqrt(z) / log(2),
        lambda z: log(2) / 2,
        1e-12,
        ATANH,
        5,
        0,
    ),
    (
        "LOG2_TAIL",
        "(2 atanh(s) - 2 s - 2 s**3 / 3) / (s**5 ln 2) in z = s**2, for the double-double logarithm",
        lambda z: log_tail5(z) / log(2),
        lambda z: z * z * log(2) / 2,
        1e-9,
        ATANH,
        7,
        0,
    ),
    (
        "LOG1P_UNIT",
        "(2 atanh(s) - 2 s) / s**3 in z = s**2, 0 <= s <= 1/3: log(1 + e) for e in [0, 1]",
        log1p_tail,
        lambda z: z / 2,
        1e-12,
        0.11112,
        11,
        5,
    ),
    (
        "CBRT",
        "cube root of m, sqrt(1/2) <= m <= sqrt(2), to start from; relative error",
        cbrt,
        lambda m: 1 / cbrt(m),
        0.7071,
        1.4143,
        6,
        4,
    ),
    (
        "SIN",
        "(sin(r) - r) / r**3 in z = r**2, |r| <= pi/4; error relative to sin(r)",
        lambda z: (sin(sqrt(z)) - sqrt(z)) / (z * sqrt(z)),
        lambda z: z * sqrt(z) / sin(sqrt(z)),
        1e-12,
        QUARTER,
        6,
        4,
    ),
    (
        "COS",
        "(cos(r) - 1 + r**2 / 2) / r**4 in z = r**2, |r| <= pi/4; error relative to cos(r)",
        lambda z: (cos(sqrt(z)) - 1 + z / 2) / z**2,
        lambda z: z**2 / cos(sqrt(z)),
        1e-6,
        QUARTER,
        6,
        3,
    ),
    (
        "ATAN",
        "(atan(t) - t) / t**3 in z = t**2, |t| <= tan(pi/8); error relative to atan(t)",
        lambda z: (atan(sqrt(z)) - sqrt(z)) / (z * sqrt(z)),
        lambda z: z * sqrt(z) / atan(sqrt(z)),
        1e-12,
        0.17158,
        11,
        5,
    ),
    (
        "ASIN",
        "(asin(s) - s) / s**3 in z = s**2, |s| <= 1/2; error relative to asin(s)",
        lambda z: (asin(sqrt(z)) - sqrt(z)) / (z * sqrt(z)),
        lambda z: z * sqrt(z) / asin(sqrt(z)),
        1e-12,
        0.25,
        13,
        5,
    ),
    (
        "ERF",
        "erf(x) / x - 1 in z = x**2, |x| <= 1; error relative to erf(x)",
        lambda z: erf(sqrt(z)) / sqrt(z) - 1,
        lambda z: sqrt(z) / erf(sqrt(z)),
        1e-12,
        ERF_SPLIT**2,
        13,
        7,
    ),
    (
        "LOG_ERFC",
        "-log(erfc(1 + u)), 0 <= u <= 5; error relative to erf(1 + u)",
        lambda u: -log(erfc(u + ERF_SPLIT)),
        lambda u: erfc(u + ERF_SPLIT) / erf(u + ERF_SPLIT),
        0.0,
        5.0,
        17,
        0,
    ),
    (
        "LOG_ERFC",
        "-log(erfc(1 + u)), 0 <= u <= 3",
        lambda u: -log(erfc(u + ERF_SPLIT)),
        lambda u: erfc(u + ERF_SPLIT) / erf(u + ERF_SPLIT),
        0.0,
        3.0,
        0,
        8,
    ),
    (
        "ERFCX",
        "exp(x**2) erfc(x) (x + 4) in t = (x - 4) / (x + 4), 0.79 <= x <= 28; relative error",
        erfcx_of(4.0),
        lambda t: 1 / erfcx_of(4.0)(t),
        -3.21 / 4.79,
        24 / 32,
        23,
        0,
    ),
    (
        "ERFCX",
        "exp(x**2) erfc(x) (x + 2) in t = (x - 2) / (x + 2), 0.79 <= x <= 10.5",
        erfcx_of(2.0),
        lambda t: 1 / erfcx_of(2.0)(t),
        -1.21 / 2.79,
        8.5 / 12.5,
        0,
        10,
    ),
]


# name, what it is, value, bits of each part but the last; the last part has all the bits of its format
PARTS: list[tuple[str, str, Any, tuple[int, ...], bool]] = [
    ("LN2", "ln 2, the first part short enough for exact products with an exponent", log(2), (41,), False),
    ("LN2_F32", "ln 2, float32", log(2), (15,), True),
    ("LOG2_E", "1 / ln 2", 1 / log(2), (53,), False),
    ("LOG2_E_F32", "1 / ln 2, float32", 1 / log(2), (24,), True),
    ("LOG10_E", "1 / ln 10", 1 / log(10), (53,), False),
    ("LOG10_E_F32", "1 / ln 10, float32", 1 / log(10), (24,), True),
    ("LOG10_2", "log10 of 2, the first part short", log(2) / log(10), (41,), False),
    ("LOG10_2_F32", "log10 of 2, float32", log(2) / log(10), (15,), True),
    ("TWO_LOG2_E", "2 / ln 2", 2 / log(2), (53,), False),
    ("TWO_THIRDS_LOG2_E", "2 / (3 ln 2)", 2 / (3 * log(2)), (53,), False),
    ("HALF_PI", "pi / 2 in three parts of full precision", pi / 2, (53, 53), False),
    ("QUARTER_PI", "pi / 4, the first part short enough for exact products with 0 to 4", pi / 4, (50,), False),
    ("QUARTER_PI_F32", "pi / 4, float32", pi / 4, (21,), True),
    ("HALF_PI_F32", "pi / 2 in three parts of full precision, float32", pi / 2, (24, 24), True),
]


def parts(value: Any, bits: tuple[int, ...], single: bool) -> list[float]:
    """`value` as a sum of floats, each but the last rounded to so many bits."""
    result = list[float]()
    rest = +value
    for b in (*bits, 24 if single else 53):
        with mp.workprec(b):
            part = +rest
        result.append(float(part))
        rest = rest - part
    return result


def main() -> None:
    print('"""Constants of vector math, polynomials constant term first.')
    print()
    print(
        "Written by `kernels/tools/fit_polynomials.py`: do not edit. The number after a polynomial's description is the"
    )
    print("greatest weighted error of the rounded coefficients, as a power of two.")
    print('"""')
    for name, text, value, bits, single in PARTS:
        print()
        print(f"# {text}")
        print(f"{name} = ({', '.join(map(repr, parts(value, bits, single)))})")
    for name, text, f, weight, a, b, doubles, singles in TABLE:
        for count, single in ((doubles, False), (singles, True)):
            if not count:
                continue
            description = f"{text}, float32" if single and not doubles else "as above, float32" if single else text
            coefficients, error = fit(f, weight, a, b, count, single)
            print()
            print(f"# {description}: 2**{error:.1f}")
            print(f"{name}{'_F32' if single else ''} = (")
            for c in coefficients:
                print(f"    {c!r},")
            print(")")


if __name__ == "__main__":
    main()
