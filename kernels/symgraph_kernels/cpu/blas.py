"""Matrix products by SciPy's BLAS, with the kernel ABI `int64 kernel(const int64 *args, int64 lo, int64 hi)`.

`gemm_f64` and `gemm_f32` compute, for every index of two batch axes,

    C[m, n] = alpha * op(A)[m, k] @ op(B)[k, n] + beta * C[m, n]

on row-major matrices whose rows are contiguous; beta == 0 means that C is not read. `[lo, hi)` is a range of the axis
that `Gemm.SPLIT` names: of the outer batch axis, or of the rows or columns of every C; parts may run in different
threads.
`Gemm` numbers the argument words. Result: 0, or TOO_LARGE when a size or a leading dimension is more than
BLAS's 32-bit integers hold.

    addresses = load(ir_text(), NAMES)     # compile and link: any means will do
    table_address("f64")                   # for Gemm.TABLE: addresses of BLAS functions

BLAS functions are taken by address from the OpenBLAS of SciPy's wheel, or else from scipy.linalg.cython_blas, whatever
library is behind it.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.machinery
import importlib.util
import os
import sys
from enum import IntEnum
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = [
    "NAMES",
    "TOO_LARGE",
    "Gemm",
    "Split",
    "get_blas_threads",
    "ir_text",
    "set_blas_threads",
    "source_key",
    "table_address",
]

NAMES = ("gemm_f32", "gemm_f64")
TOO_LARGE = 1

# Below this many multiplications a plain loop nest beats the call of BLAS.
SMALL = 64


class Gemm(IntEnum):
    """The argument words of gemm_f32 and gemm_f64. Offsets, leading dimensions and strides count elements."""

    TABLE = 0  # table_address(...)
    TRANS_A = 1  # 0: A is stored [m, k]; 1: [k, m]
    TRANS_B = 2  # 0: B is stored [k, n]; 1: [n, k]
    M = 3
    N = 4
    K = 5
    ALPHA = 6  # bits of a scalar of the matrices' dtype
    BETA = 7
    A = 8
    A_OFFSET = 9
    LDA = 10  # elements from one stored row to the next; not looked at when there is one row
    B = 11
    B_OFFSET = 12
    LDB = 13
    C = 14
    C_OFFSET = 15
    LDC = 16
    INNER = 17  # number of matrices on the inner batch axis
    A_OUTER = 18  # strides of the batch axes; 0 repeats a matrix
    A_INNER = 19
    B_OUTER = 20
    B_INNER = 21
    C_OUTER = 22
    C_INNER = 23
    THREADS = 24  # threads that BLAS may use in this call; 0 leaves it its own choice
    OUTER = 25  # number of matrices on the outer batch axis; not looked at where that axis is split
    SPLIT = 26  # what [lo, hi) counts: a member of `Split`


class Split(IntEnum):
    """The axis that a range of the kernel is of."""

    BATCH = 0
    ROWS = 1
    COLUMNS = 2


class Table(IntEnum):
    """Words of a table of BLAS functions. The last ones are state, shared by all calls."""

    GEMM = 0
    GEMV = 1
    DOT = 2
    STATE = 3  # address of the words of `State`


class State(IntEnum):
    """For calls that limit BLAS's threads: a spin lock, how many such calls are under way, and what to go back to."""

    LOCK = 0
    DEPTH = 1
    SAVED = 2
    GET_THREADS = 3  # addresses; 0 where the library has no such function
    SET_THREADS = 4


# ---------------------------------------------------------------------------------------------------------------------
# BLAS by address


@cache
def _cython_blas() -> ModuleType:
    """The extension module scipy.linalg.cython_blas, alone: importing the package scipy.linalg takes 0.1 s more."""
    name = "scipy.linalg.cython_blas"
    if name in sys.modules:
        return sys.modules[name]
    package = importlib.util.find_spec("scipy")
    for folder in (package.submodule_search_locations or ()) if package else ():
        for suffix in importlib.machinery.EXTENSION_SUFFIXES:
            path = os.path.join(folder, "linalg", "cython_blas" + suffix)
            if os.path.exists(path):
                try:
                    return _load_alone(name, path)
                except ImportError:
                    break
    return importlib.import_module(name)


def _load_alone(name: str, path: str) -> ModuleType:
    if sys.platform == "win32":
        importlib.import_module("scipy")  # makes the library's own folder known; elsewhere the module names it itself
    loader = importlib.machinery.ExtensionFileLoader(name, path)
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    if spec is None:
        raise ImportError(name)
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    # Cython enters it here; a later `import scipy.linalg.cython_blas` must still bind it in its package.
    sys.modules.pop(name, None)
    return module


@cache
def _wheel_library() -> ctypes.CDLL | None:
    """The OpenBLAS that SciPy's wheels for Linux bring, loaded without importing SciPy, which takes longer than all
    else that a cached program needs. None where it is not found, or where it is another BLAS."""
    package = importlib.util.find_spec("scipy")
    for folder in (package.submodule_search_locations or ()) if package else ():
        for path in sorted((Path(folder).parent / "scipy.libs").glob("libscipy_openblas-*.so")):
            try:
                library = ctypes.CDLL(str(path))
            except OSError:
                continue
            if hasattr(library, "scipy_dgemm_"):  # without the 64 that names the functions of 64-bit integers
                return library
    return None


def _address(function: str) -> int:
    """The address of a BLAS function that takes 32-bit integers. Raises RuntimeError for any other build."""
    library = _wheel_library()
    found = None if library is None else getattr(library, f"scipy_{function}_", None)
    if found is not None:
        return ctypes.cast(found, ctypes.c_void_p).value or 0
    capsule = _cython_blas().__pyx_capi__[function]
    get_name, get_pointer = ctypes.pythonapi.PyCapsule_GetName, ctypes.pythonapi.PyCapsule_GetPointer
    get_name.restype, get_name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    get_pointer.restype, get_pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    signature: bytes = get_name(capsule)
    if b"int *" not in signature:
        raise RuntimeError(f"scipy.linalg.cython_blas.{function} has an unknown signature: {signature.decode()}")
    address: int = get_pointer(capsule, signature)
    return address


@cache
def _thread_functions() -> tuple[Any, Any] | None:
    """OpenBLAS's functions to read and to set its number of threads, found through the libraries that the extension
    module itself links to; None for another BLAS."""
    try:
        library = _wheel_library() or ctypes.CDLL(str(_cython_blas().__file__))
    except OSError:
        return None
    for prefix in ("scipy_openblas", "openblas"):
        for suffix in ("", "64_"):
            get = getattr(library, f"{prefix}_get_num_threads{suffix}", None)
            put = getattr(library, f"{prefix}_set_num_threads{suffix}", None)
            if get is not None and put is not None:
                get.restype, get.argtypes = ctypes.c_int, []
                put.restype, put.argtypes = None, [ctypes.c_int]
                return get, put
    return None


def get_blas_threads() -> int | None:
    """The number of threads BLAS uses for large products; None when the library does not tell."""
    functions = _thread_functions()
    return None if functions is None else int(functions[0]())


def set_blas_threads(threads: int) -> int | None:
    """Set the number of threads BLAS uses, for the whole process. Returns the number before; None: it cannot be set."""
    functions = _thread_functions()
    if functions is None:
        return None
    before = int(functions[0]())
    functions[1](threads)
    return before


@cache
def _state() -> Any:
    words = (ctypes.c_int64 * len(State))()
    functions = _thread_functions()
    if functions is not None:
        for word, function in zip((State.GET_THREADS, State.SET_THREADS), functions, strict=True):
            words[word] = ctypes.cast(function, ctypes.c_void_p).value or 0
    return words


@cache
def _table(dtype: str) -> Any:
    letter = {"f32": "s", "f64": "d"}[dtype]
    words = (ctypes.c_int64 * len(Table))()
    for word, function in ((Table.GEMM, "gemm"), (Table.GEMV, "gemv"), (Table.DOT, "dot")):
        words[word] = _address(letter + function)
    words[Table.STATE] = ctypes.addressof(_state())
    return words


def table_address(dtype: str) -> int:
    """The address of the table of BLAS functions for "f32" or "f64"; it stays valid."""
    return ctypes.addressof(_table(dtype))


def ir_text() -> str:
    """The kernels as LLVM IR, by llvmlite. It depends on the text of this package alone: see `source_key`."""
    from symgraph_kernels.cpu.gemm_ir import ir_text as text

    return text()


def source_key() -> str:
    """The text of the files that `ir_text` depends on, to name object code by."""
    here = Path(__file__).parent
    return "".join((here / name).read_text(encoding="utf-8") for name in ("blas.py", "gemm_ir.py"))
