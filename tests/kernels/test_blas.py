"""Matrix product kernels against NumPy, through the kernel ABI alone."""

from __future__ import annotations

import ctypes
import itertools
import subprocess
import sys
import threading
from functools import cache
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest

from symgraph_kernels.cpu import blas
from symgraph_kernels.cpu.blas import SMALL, TOO_LARGE, Gemm, Split

DTYPES: dict[str, Any] = {"f32": np.float32, "f64": np.float64}
KERNEL = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)


@cache
def kernels() -> dict[str, Any]:
    """Both kernels, built with llvmlite alone, as anybody may who has no symgraph."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    jit = llvm.create_lljit_compiler()
    library = llvm.JITLibraryBuilder().add_ir(blas.ir_text()).add_current_process()
    for name in blas.NAMES:
        library.export_symbol(name)
    tracker = library.link(jit, "blas")
    return {"keep": (jit, tracker)} | {name[-3:]: KERNEL(tracker[name]) for name in blas.NAMES}


def words(kind: str, m: int, n: int, k: int, alpha: float = 1.0, beta: float = 0.0, **others: int) -> Any:
    """Argument words of one product; `others` by lower-case names of Gemm."""
    w = np.zeros(len(Gemm), np.int64)
    w[[Gemm.TABLE, Gemm.M, Gemm.N, Gemm.K, Gemm.INNER, Gemm.OUTER]] = blas.table_address(kind), m, n, k, 1, 1
    for word, value in ((Gemm.ALPHA, alpha), (Gemm.BETA, beta)):
        w[word : word + 1].view(DTYPES[kind])[0] = value
    for name, value in others.items():
        w[Gemm[name.upper()]] = value
    return w


def run(kind: str, w: Any, low: int = 0, high: int = 1) -> int:
    return int(kernels()[kind](w.ctypes.data, low, high))


def matrix(rng: np.random.Generator, kind: str, rows: int, columns: int, pad: int) -> Any:
    """A matrix in the middle of a larger one, whose other elements are nan."""
    whole = np.full((rows + 2, columns + pad), np.nan, DTYPES[kind])
    inside = whole[1 : rows + 1, :columns]
    inside[...] = rng.standard_normal((rows, columns))
    return whole, inside


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize("trans", list(itertools.product([0, 1], repeat=2)))
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (1.0, 1.0), (-1.5, 0.0), (2.0, -0.5), (0.0, 1.0), (0.0, 0.0)])
def test_products_of_all_small_and_medium_sizes(kind: str, trans: tuple[int, int], alpha: float, beta: float) -> None:
    rng = np.random.default_rng(0)
    sizes = [0, 1, 2, 3, 7, 24]
    for (m, n, k), pad in itertools.product(itertools.product(sizes, repeat=3), (0, 3)):
        a_whole, a = matrix(rng, kind, *((k, m) if trans[0] else (m, k)), pad)
        b_whole, b = matrix(rng, kind, *((n, k) if trans[1] else (k, n)), pad)
        c_whole, c = matrix(rng, kind, m, n, pad)
        left, right = a.T if trans[0] else a, b.T if trans[1] else b
        expected = alpha * (left.astype(float) @ right.astype(float))
        if beta:
            expected = expected + beta * c.astype(float)
        else:
            c[...] = np.nan  # must not be read
        untouched = c_whole.copy()
        w = words(
            kind, m, n, k, alpha, beta,
            trans_a=trans[0], trans_b=trans[1],
            a=a_whole.ctypes.data, a_offset=a_whole.shape[1], lda=a_whole.shape[1],
            b=b_whole.ctypes.data, b_offset=b_whole.shape[1], ldb=b_whole.shape[1],
            c=c_whole.ctypes.data, c_offset=c_whole.shape[1], ldc=c_whole.shape[1],
        )  # fmt: skip
        assert run(kind, w) == 0
        tolerance = 30 * np.finfo(DTYPES[kind]).eps
        np.testing.assert_allclose(c, expected, rtol=tolerance, atol=tolerance * 30, err_msg=str((m, n, k, pad)))
        untouched[1 : m + 1, :n] = c
        np.testing.assert_array_equal(c_whole, untouched)


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize("shape", [(200, 300, 250), (1, 2000, 700), (2000, 1, 700), (1, 1, 100_000), (400, 500, 1)])
def test_large_products(kind: str, shape: tuple[int, int, int]) -> None:
    m, n, k = shape
    rng = np.random.default_rng(1)
    a, b = (rng.standard_normal(s).astype(DTYPES[kind]) for s in ((m, k), (k, n)))
    c = np.full((m, n), np.nan, DTYPES[kind])
    w = words(kind, m, n, k, a=a.ctypes.data, lda=k, b=b.ctypes.data, ldb=n, c=c.ctypes.data, ldc=n)
    assert run(kind, w) == 0
    tolerance = 100 * np.finfo(DTYPES[kind]).eps
    np.testing.assert_allclose(c, a.astype(float) @ b.astype(float), rtol=tolerance, atol=tolerance * np.sqrt(k))


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize("size", [2, 9])
def test_two_batch_axes_with_repeated_operands(kind: str, size: int) -> None:
    """C[o, i] = A[o] @ B[i]: a stride of 0 repeats; the outer axis may be split."""
    rng = np.random.default_rng(2)
    outer, inner = 5, 3
    a, b = (rng.standard_normal((count, size, size)).astype(DTYPES[kind]) for count in (outer, inner))
    c = np.full((outer, inner, size, size), np.nan, DTYPES[kind])
    area = size * size
    w = words(
        kind, size, size, size, inner=inner,
        a=a.ctypes.data, lda=size, a_outer=area, b=b.ctypes.data, ldb=size, b_inner=area,
        c=c.ctypes.data, ldc=size, c_outer=inner * area, c_inner=area,
    )  # fmt: skip
    assert run(kind, w, 0, 2) == 0
    assert np.isnan(c[2:]).all()
    assert run(kind, w, 2, 2) == 0
    assert np.isnan(c[2:]).all()
    assert run(kind, w, 2, 5) == 0
    np.testing.assert_allclose(c, a[:, None] @ b[None], rtol=1e-4 if kind == "f32" else 1e-12, atol=1e-5)


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize("trans", list(itertools.product([0, 1], repeat=2)))
@pytest.mark.parametrize("split", [Split.ROWS, Split.COLUMNS])
def test_rows_and_columns_in_parts(kind: str, trans: tuple[int, int], split: Split) -> None:
    """Ranges of rows or columns together make the whole product, for every matrix of the batch."""
    rng = np.random.default_rng(5)
    batch, m, n, k = 2, 21, 18, 11
    a = rng.standard_normal((batch, *((k, m) if trans[0] else (m, k)))).astype(DTYPES[kind])
    b = rng.standard_normal((batch, *((n, k) if trans[1] else (k, n)))).astype(DTYPES[kind])
    c = np.full((batch, m, n), np.nan, DTYPES[kind])
    w = words(
        kind, m, n, k, split=split, outer=batch, trans_a=trans[0], trans_b=trans[1],
        a=a.ctypes.data, lda=a.shape[2], a_outer=m * k, b=b.ctypes.data, ldb=b.shape[2], b_outer=n * k,
        c=c.ctypes.data, ldc=n, c_outer=m * n,
    )  # fmt: skip
    extent = m if split == Split.ROWS else n
    for low, high in ((0, 1), (1, 8), (8, extent)):
        assert run(kind, w, low, high) == 0
    expected = (a.swapaxes(1, 2) if trans[0] else a) @ (b.swapaxes(1, 2) if trans[1] else b)
    tolerance = 1e-4 if kind == "f32" else 1e-12
    np.testing.assert_allclose(c, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kind", DTYPES)
def test_leading_dimensions_that_blas_would_refuse(kind: str) -> None:
    """One row: any leading dimension. Several rows with a leading dimension of 0: one row repeated."""
    rng = np.random.default_rng(3)
    n = k = 20
    row, b = (rng.standard_normal(s).astype(DTYPES[kind]) for s in ((1, k), (k, n)))
    for m, lda in ((1, 0), (1, 1), (1, 5), (30, 0)):
        c = np.full((m, n), np.nan, DTYPES[kind])
        w = words(
            kind, m, n, k, a=row.ctypes.data, lda=lda, b=b.ctypes.data, ldb=n, c=c.ctypes.data, ldc=n if m > 1 else 0
        )
        assert run(kind, w) == 0
        np.testing.assert_allclose(c, np.repeat(row, m, 0) @ b, rtol=1e-3 if kind == "f32" else 1e-11, atol=1e-5)


def test_sizes_that_blas_cannot_hold_are_an_error() -> None:
    for name in ("m", "n", "k"):
        w = words("f64", *(2**31 if name == other else 2 for other in ("m", "n", "k")), lda=2, ldb=2, ldc=2)
        assert run("f64", w) == TOO_LARGE
    assert run("f64", words("f64", 9, 9, 9, lda=2**31, ldb=9, ldc=9)) == TOO_LARGE
    assert run("f64", words("f64", 0, 2**31, 2, lda=2, ldb=2, ldc=2)) == 0  # nothing to do


def test_nan_and_inf_take_part_below_and_above_the_limit_of_loops() -> None:
    for size in (2, 4, 5, 30):
        assert (size**3 <= SMALL) == (size <= 4)
        a, b = np.zeros((size, size)), np.zeros((size, size))
        a[0, 1], b[0, 0] = np.inf, np.nan
        c = np.full((size, size), np.nan)
        w = words(
            "f64", size, size, size, a=a.ctypes.data, lda=size, b=b.ctypes.data, ldb=size, c=c.ctypes.data, ldc=size
        )
        assert run("f64", w) == 0
        with np.errstate(invalid="ignore"):
            np.testing.assert_array_equal(np.isnan(c), np.isnan(a @ b))


needs_threads = pytest.mark.skipif(blas.get_blas_threads() is None, reason="this BLAS has no control of threads")


@needs_threads
def test_the_number_of_threads_can_be_set() -> None:
    before = blas.set_blas_threads(1)
    assert before is not None
    assert blas.get_blas_threads() == 1
    assert blas.set_blas_threads(before) == 1
    assert blas.get_blas_threads() == before


@needs_threads
def test_a_call_that_limits_threads_goes_back_to_the_number_before() -> None:
    before = blas.set_blas_threads(2)
    assert before is not None
    a = np.ones((64, 64))

    def work() -> None:
        c = np.empty((64, 64))
        w = words(
            "f64", 64, 64, 64, threads=1, a=a.ctypes.data, lda=64, b=a.ctypes.data, ldb=64, c=c.ctypes.data, ldc=64
        )
        for _ in range(200):
            assert run("f64", w) == 0

    try:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert blas.get_blas_threads() == 2
    finally:
        blas.set_blas_threads(before)


def test_scipy_can_be_imported_before_and_after() -> None:
    code = """
    import sys
    import symgraph_kernels.cpu.blas as blas
    if "first" in sys.argv: import scipy.linalg.cython_blas
    blas.table_address("f64")
    assert "first" in sys.argv or "scipy.linalg" not in sys.modules
    import scipy.linalg, scipy.linalg.cython_blas
    assert "dgemm" in scipy.linalg.cython_blas.__pyx_capi__
    assert abs(scipy.linalg.det([[2.0, 0.0], [0.0, 3.0]]) - 6.0) < 1e-12
    assert "symgraph" not in sys.modules and "numba" not in sys.modules
    """
    lines = "\n".join(line.strip() for line in code.splitlines())
    for argument in ("first", "last"):
        done = subprocess.run([sys.executable, "-c", lines, argument], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_addresses_without_the_library_of_a_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blas, "_wheel_library", lambda: None)
    assert blas._address("dgemm") != 0
