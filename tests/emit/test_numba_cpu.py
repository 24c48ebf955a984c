"""Kernels from source to machine code: meaning of the vocabulary, strictness, vectorization."""

from __future__ import annotations

import ctypes
import operator
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from symgraph.emit.numba_cpu import KernelError, assembly, compile_kernels, llvm_ir
from symgraph.runtime.objects import load_object

INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
FLOATS = ("float16", "float32", "float64")
DTYPES = ("bool", *INTEGERS, *FLOATS)

Kernel = Callable[..., int]
_kernels: dict[str, Kernel] = {}


def kernel(source: str, name: str = "f") -> Kernel:
    """Compile a kernel; call it with arrays, ints and NumPy scalars for its words, and with ``lo`` and ``hi``."""
    if source not in _kernels:
        address = load_object(compile_kernels(source, [name]), [name])[name]
        native = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(address)

        def call(*words: Any, lo: int = 0, hi: int) -> int:
            args = np.array([_word(word) for word in words], np.int64)
            return int(native(args.ctypes.data, lo, hi))

        _kernels[source] = call
    return _kernels[source]


def _word(value: Any) -> int:
    if isinstance(value, np.ndarray):
        return value.ctypes.data
    if isinstance(value, np.generic):
        return int.from_bytes(value.tobytes().ljust(8, b"\0"), "little", signed=True)
    return int(value)


def cast(dtype: str) -> str:
    """The name of a dtype's cast in kernel source."""
    return "boolean" if dtype == "bool" else dtype


def elementwise(expression: str, inputs: tuple[str, ...], output: str) -> Kernel:
    """A kernel ``out[i] = expression`` of ``x`` and ``y``."""
    names = ("x", "y")[: len(inputs)]
    operands = enumerate(zip(names, inputs, strict=True))
    lines = [f"    p{name} = pointer_{dtype}(args[{k}])" for k, (name, dtype) in operands]
    loads = [f"        {name} = p{name}[i]" for name in names]
    source = ["def f(args, lo, hi):", *lines, f"    out = pointer_{output}(args[{len(names)}])"]
    source += ["    for i in vector_range(lo, hi):", *loads, f"        out[i] = {expression}", "    return 0", ""]
    return kernel("\n".join(source))


def samples(dtype: str) -> NDArray[Any]:
    """Values of a dtype with all its special ones, more than two 512-bit vectors of them and an odd number."""
    rng = np.random.default_rng(0)
    if dtype == "bool":
        return rng.random(149) < 0.5
    if dtype in INTEGERS:
        info = np.iinfo(dtype)
        special = np.array([info.min, info.max, 0, 1, info.max // 2, info.min // 2], dtype)
        return np.concatenate([special, rng.integers(info.min, info.max, 143, dtype=dtype, endpoint=True)])
    floats = np.finfo(dtype)
    values = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0]
    values += [float(v) for v in (floats.max, -floats.max, floats.tiny, floats.smallest_subnormal)]
    return np.concatenate([np.array(values, dtype), (rng.standard_normal(138) * 50).astype(dtype)])


def same(got: NDArray[Any], want: NDArray[Any]) -> None:
    np.testing.assert_array_equal(got, want)
    assert got.dtype == want.dtype
    if got.dtype.kind == "f":  # the sign of zero too
        number = ~np.isnan(want)
        np.testing.assert_array_equal(np.signbit(got[number]), np.signbit(want[number]))


# --- memory
# ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_load_and_store_keep_every_value(dtype: str) -> None:
    x = samples(dtype)
    out = np.zeros_like(x)
    assert elementwise("x", (dtype,), dtype)(x, out, hi=x.size) == 0
    same(out, x)


def test_any_nonzero_byte_is_true() -> None:
    x = np.arange(256, dtype=np.uint8)
    out = np.full(256, 9, np.uint8)
    elementwise("x", ("bool",), "bool")(x, out, hi=256)
    np.testing.assert_array_equal(out, (x != 0).astype(np.uint8))


def test_only_the_range_is_written() -> None:
    x, out = np.arange(100.0), np.zeros(100)
    elementwise("x", ("float64",), "float64")(x, out, lo=13, hi=77)
    np.testing.assert_array_equal(out, np.where((x >= 13) & (x < 77), x, 0))


@pytest.mark.parametrize("dtype", DTYPES)
def test_scalars_come_out_of_words(dtype: str) -> None:
    source = f"def f(args, lo, hi):\n    pointer_{dtype}(args[0])[0] = word_{dtype}(args[1])\n    return 0\n"
    run = kernel(source)
    for value in samples(dtype):
        out = np.zeros(1, dtype)
        run(out, value, hi=1)
        same(out, np.array([value]))


@pytest.mark.parametrize("target", DTYPES)
@pytest.mark.parametrize("source", DTYPES)
def test_casts_are_astype(source: str, target: str) -> None:
    x = samples(source)
    if source in FLOATS and target in INTEGERS:
        x = x[np.isfinite(x)]
        info = np.iinfo(target)
        wide = x.astype(np.float64)
        # Outside of the integer's range C leaves the result undefined.
        x = x[(wide > float(info.min) - 1) & (wide < float(info.max)) & (np.abs(wide) < 2.0**62)]
    with np.errstate(all="ignore"):
        want = x.astype(target)
    out = np.zeros_like(want)
    # float16 arrives in a float32 register, and `float16(x)` rounds it.
    elementwise(f"{cast(target)}(x)", (source,), target)(x, out, hi=x.size)
    same(out, want)


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_casts_of_any_values_are_astype(data: st.DataObject) -> None:
    source, target = data.draw(st.sampled_from(DTYPES)), data.draw(st.sampled_from(DTYPES))
    elements = None
    if source in FLOATS and target in INTEGERS:
        info, width = np.iinfo(target), int(source[5:])
        bound = 65504.0 if source == "float16" else 2.0**62
        bounds = max(float(info.min), -bound), min(float(info.max // 2), bound)
        elements = st.floats(*(float(np.dtype(source).type(b)) for b in bounds), width=width)  # type: ignore[arg-type]
    x = data.draw(arrays(source, st.integers(1, 70), elements=elements))
    with np.errstate(all="ignore"):
        want = x.astype(target)
    out = np.zeros_like(want)
    elementwise(f"{cast(target)}(x)", (source,), target)(x, out, hi=x.size)
    same(out, want)


@pytest.mark.parametrize("target", ["uint8", "uint16", "uint32", "uint64", "int8", "int16"])
def test_negative_floats_wrap_to_unsigned_integers(target: str) -> None:
    x = -np.arange(1.0, 130.0)
    out = np.zeros(x.size, target)
    elementwise(f"{target}(x)", ("float64",), target)(x, out, hi=x.size)
    np.testing.assert_array_equal(out, x.astype(np.int64).astype(target))


@given(st.lists(st.floats(width=64), min_size=1, max_size=40))
@settings(max_examples=200, deadline=None)
def test_float64_rounds_once_to_float16(values: list[float]) -> None:
    x = np.array(values)
    with np.errstate(over="ignore"):
        want = x.astype(np.float16)
    out = np.zeros_like(want)
    elementwise("float16(x)", ("float64",), "float16")(x, out, hi=x.size)
    same(out, want)


def test_float64_next_to_a_tie_rounds_once_to_float16() -> None:
    halves = np.arange(0, 0x7BFF, dtype=np.uint16).view(np.float16).astype(np.float64)
    middle = (halves[:-1] + halves[1:]) / 2
    x = np.concatenate([middle, np.nextafter(middle, np.inf), np.nextafter(middle, -np.inf), [65519.99, 65520.0]])
    x = np.concatenate([x, -x])
    with np.errstate(over="ignore"):
        want = x.astype(np.float16)
    out = np.zeros_like(want)
    elementwise("float16(x)", ("float64",), "float16")(x, out, hi=x.size)
    same(out, want)


# --- operators
# ---------------------------------------------------------------------------------------------------------


def pairs(dtype: str) -> tuple[NDArray[Any], NDArray[Any]]:
    x = samples(dtype)
    return x, np.random.default_rng(1).permutation(x)


@pytest.mark.parametrize("dtype", [*INTEGERS, "float32", "float64"])
@pytest.mark.parametrize("sign", ["+", "-", "*"])
def test_arithmetic(sign: str, dtype: str) -> None:
    x, y = pairs(dtype)
    out = np.zeros_like(x)
    elementwise(f"x {sign} y", (dtype, dtype), dtype)(x, y, out, hi=x.size)
    with np.errstate(all="ignore"):
        same(out, {"+": np.add, "-": np.subtract, "*": np.multiply}[sign](x, y))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_division(dtype: str) -> None:
    x, y = pairs(dtype)
    out = np.zeros_like(x)
    elementwise("x / y", (dtype, dtype), dtype)(x, y, out, hi=x.size)
    with np.errstate(all="ignore"):
        same(out, x / y)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sign", ["<", "<=", ">", ">=", "==", "!="])
def test_comparison(sign: str, dtype: str) -> None:
    x, y = pairs(dtype)
    y[::3] = x[::3]
    compare = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq}
    out = np.zeros(x.size, np.bool_)
    elementwise(f"x {sign} y", (dtype, dtype), "bool")(x, y, out, hi=x.size)
    same(out, compare.get(sign, operator.ne)(x, y))


@pytest.mark.parametrize("dtype", ["bool", *INTEGERS])
@pytest.mark.parametrize("sign", ["&", "|", "^"])
def test_bitwise(sign: str, dtype: str) -> None:
    x, y = pairs(dtype)
    out = np.zeros_like(x)
    elementwise(f"x {sign} y", (dtype, dtype), dtype)(x, y, out, hi=x.size)
    same(out, {"&": np.bitwise_and, "|": np.bitwise_or, "^": np.bitwise_xor}[sign](x, y))


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("sign", ["<<", ">>"])
def test_shift(sign: str, dtype: str) -> None:
    x = samples(dtype)
    y = (np.arange(x.size) % (2 * np.iinfo(dtype).bits)).astype(dtype)
    out = np.zeros_like(x)
    elementwise(f"x {sign} y", (dtype, dtype), dtype)(x, y, out, hi=x.size)
    same(out, {"<<": np.left_shift, ">>": np.right_shift}[sign](x, y))


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("sign", ["//", "%"])
def test_floor_division(sign: str, dtype: str) -> None:
    x, y = pairs(dtype)
    y[(y == 0) | (y == np.array(-1).astype(dtype))] = 3
    out = np.zeros_like(x)
    elementwise(f"x {sign} y", (dtype, dtype), dtype)(x, y, out, hi=x.size)
    same(out, {"//": np.floor_divide, "%": np.remainder}[sign](x, y))


@pytest.mark.parametrize("dtype", DTYPES)
def test_unary(dtype: str) -> None:
    x = samples(dtype)
    cases: dict[str, Callable[..., Any]] = {}
    if dtype != "bool":
        cases |= {"-x": np.negative, "+x": np.positive}
    if dtype not in FLOATS:
        cases["~x"] = np.invert
    if dtype == "bool":
        cases["not x"] = np.logical_not
    for expression, reference in cases.items():
        out = np.zeros_like(x)
        elementwise(expression, (dtype,), dtype)(x, out, hi=x.size)
        same(out, reference(x))


# --- control
# -----------------------------------------------------------------------------------------------------------


def test_control_flow() -> None:
    run = kernel(
        """
def f(args, lo, hi):
    x = pointer_float64(args[0])
    out = pointer_float64(args[1])
    limit = word_float64(args[2])
    for i in range(lo, hi):
        if x[i] < limit:
            continue
        elif x[i] > 10.0 * limit:
            out[i] = x[i] if x[i] < 20.0 * limit else -x[i]
        else:
            n = 0
            total = float64(0.0)
            while total < x[i] and n < 100:
                total += limit
                n += 1
            out[i] = float64(n)
        if x[i] != x[i]:
            return i + 1
    return 0
"""
    )
    x, out = np.array([0.5, 2.5, 11.0, 25.0]), np.zeros(4)
    assert run(x, out, np.float64(1.0), hi=4) == 0
    np.testing.assert_array_equal(out, [0.0, 3.0, 11.0, -25.0])
    assert run(np.array([1.0, np.nan, 1.0]), np.zeros(3), np.float64(1.0), hi=3) == 2


@pytest.mark.parametrize(
    ("start", "stop", "step"), [(0, 10, 3), (10, 0, -1), (5, 5, 1), (7, -8, -4), (3, 1, 1), (-4, 4, 2)]
)
def test_range_with_a_step(start: int, stop: int, step: int) -> None:
    run = kernel(
        """
def f(args, lo, hi):
    out = pointer_int64(args[0])
    n = 0
    for i in range(args[1], args[2], args[3]):
        out[n] = i
        n += 1
    return n
"""
    )
    out = np.zeros(16, np.int64)
    count = run(out, start, stop, step, hi=1)
    np.testing.assert_array_equal(out[:count], np.arange(start, stop, step))


def test_variable_that_is_set_on_some_paths_only() -> None:
    run = kernel(
        """
def f(args, lo, hi):
    out = pointer_float64(args[0])
    for i in range(lo, hi):
        if i % 2 == 0:
            last = float64(i)
        if i > 0:
            out[i] = last
    return 0
"""
    )
    out = np.zeros(7)
    run(out, hi=7)
    np.testing.assert_array_equal(out, [0, 0, 2, 2, 4, 4, 6])


def test_nested_loops_over_symbolic_sizes() -> None:
    run = kernel(
        """
def f(args, lo, hi):
    x = pointer_float32(args[0])
    y = pointer_float32(args[1])
    out = pointer_float64(args[2])
    n = args[3]
    k = args[4]
    for i in range(lo, hi):
        for j in vector_range(n):
            out[i * n + j] = float64(0.0)
        for l in range(k):
            for j in vector_range(n):
                out[i * n + j] += float64(x[i * k + l]) * float64(y[l * n + j])
    return 0
"""
    )
    rng = np.random.default_rng(0)
    for m, k, n in [(3, 5, 37), (4, 0, 3), (2, 3, 0), (1, 1, 1)]:
        x, y = rng.random((m, k), np.float32), rng.random((k, n), np.float32)
        out = np.full((m, n), np.nan)
        assert run(x, y, out, n, k, hi=m) == 0
        np.testing.assert_allclose(out, x.astype(np.float64) @ y.astype(np.float64), rtol=1e-13)


# --- aliasing
# ----------------------------------------------------------------------------------------------------------

INPLACE = """
def f(args, lo, hi):
    x = pointer_float64(args[0])
    y = pointer_float64(args[1])
    out = pointer_float64(args[2])
    for i in vector_range(lo, hi):
        out[i] = x[i] * y[i] + x[i]
    return 0
"""


@pytest.mark.parametrize("size", [1, 7, 8, 64, 1001])
def test_in_place_at_the_same_index(size: int) -> None:
    run = kernel(INPLACE)
    rng = np.random.default_rng(size)
    x, y = rng.random(size), rng.random(size)
    want = x * y + x
    for target in (0, 1):
        operands = [x.copy(), y.copy()]
        run(*operands, operands[target], hi=size)
        np.testing.assert_array_equal(operands[target], want)
    z = x.copy()
    run(z, z, z, hi=size)
    np.testing.assert_array_equal(z, x * x + x)


def test_plain_range_obeys_dependences() -> None:
    run = kernel(
        """
def f(args, lo, hi):
    x = pointer_float64(args[0])
    out = pointer_float64(args[1])
    for i in range(lo, hi):
        out[i + 1] = x[i] + 1.0
    return 0
"""
    )
    x = np.zeros(1000)
    run(x, x, hi=999)
    np.testing.assert_array_equal(x, np.arange(1000.0))


# --- machine code
# ------------------------------------------------------------------------------------------------------

FEATURES = llvm.get_host_cpu_features()
avx2 = pytest.mark.skipif(not FEATURES.get("avx2"), reason="the host has no AVX2")
WIDE = "zmm" if FEATURES.get("avx512f") else "ymm"


@avx2
def test_elementwise_loop_vectorizes_without_checks() -> None:
    text = assembly(INPLACE, "f")
    assert f"%{WIDE}" in text
    assert "vmulpd" in text
    optimized = llvm_ir(INPLACE, "f", optimized=True)
    assert "vector.body" in optimized
    assert "vector.memcheck" not in optimized


@avx2
def test_two_dimensional_loop_vectorizes_without_checks() -> None:
    source = """
def f(args, lo, hi):
    x = pointer_float32(args[0])
    y = pointer_float32(args[1])
    out = pointer_float32(args[2])
    n = args[3]
    for i in range(lo, hi):
        for j in vector_range(n):
            out[i * n + j] = sqrt(x[i * n + j]) * y[j]
    return 0
"""
    optimized = llvm_ir(source, "f", optimized=True)
    assert "vector.body" in optimized
    assert "vector.memcheck" not in optimized
    assert "vsqrtps" in assembly(source, "f")


@avx2
def test_reduction_vectorizes_only_where_order_is_free() -> None:
    source = """
def f(args, lo, hi):
    x = pointer_float64(args[0])
    out = pointer_float64(args[1])
    total = float64(0.0)
    for i in range(lo, hi):
        total = {sum}
    out[0] = total
    return 0
"""
    free = llvm_ir(source.format(sum="add_reassoc(total, x[i])"), "f", optimized=True)
    assert "vector.body" in free
    strict = source.format(sum="total + x[i]")
    x = np.random.default_rng(0).standard_normal(1003) * 10.0 ** np.arange(1003 % 20)[0]
    out = np.zeros(1)
    kernel(strict)(x, out, hi=x.size)
    assert out[0] == np.add.accumulate(x)[-1]  # accumulate adds one after the other


def test_products_and_sums_are_not_contracted() -> None:
    x = np.random.default_rng(0).random(500) + 1
    out = np.zeros_like(x)
    elementwise("x * x - y", ("float64", "float64"), "float64")(x, x * x, out, hi=x.size)
    np.testing.assert_array_equal(out, 0)


def test_invariants_survive_inf_and_nan() -> None:
    x = np.array([np.inf, -np.inf, np.nan, -0.0])
    out = np.zeros_like(x)
    elementwise("(x - x) + x * float64(0.0)", ("float64",), "float64")(x, out, hi=4)
    np.testing.assert_array_equal(out, [np.nan, np.nan, np.nan, 0.0])


def test_inspection_shows_the_kernel() -> None:
    assert 'define i64 @"f"' in llvm_ir(INPLACE, "f")
    assert "f:" in assembly(INPLACE, "f")


def test_several_kernels_of_one_source() -> None:
    one = "def {0}(args, lo, hi):\n    pointer_int64(args[0])[0] = {1}\n    return {1}\n"
    source = one.format("g", 3) + one.format("h", 4)
    addresses = load_object(compile_kernels(source, ["g", "h"]), ["g", "h"])
    out = np.zeros(1, np.int64)
    args = np.array([out.ctypes.data])
    for name, value in (("g", 3), ("h", 4)):
        native = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(addresses[name])
        assert native(args.ctypes.data, 0, 1) == value == out[0]


# --- bad source
# --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "return undefined_name",
        "return args[0] + 1.0",
        "return args[0.5]",
        "return lo / hi",
        "args[0] = 1.0",
        "return 1.0",
        "return exp(lo, hi)",
        "return [lo][0]",
        "return print(lo)",
        "return 2**64",
        "yield lo",
        "return (",
    ],
)
def test_source_outside_the_language_is_refused(statement: str) -> None:
    with pytest.raises(KernelError, match="in the source"):
        compile_kernels(f"def f(args, lo, hi):\n    {statement}\n", ["f"])


def test_missing_kernel_is_refused() -> None:
    with pytest.raises(KernelError):
        compile_kernels("def f(args, lo, hi):\n    return 0\n", ["g"])


def test_a_vector_loop_with_a_long_body_is_still_one() -> None:
    # Beyond 255 bytes of bytecode the jump over the body takes an extended argument, which starts a block of its own.
    lines = [f"        v{k + 1} = v{k} * v{k} + v{k}" for k in range(60)]
    body = "\n".join(["        v0 = x[i]", *lines, "        y[i] = v60"])
    source = f"""
def k(args, lo, hi):
    x = pointer_float64(args[0])
    y = pointer_float64(args[1])
    for i in vector_range(lo, hi):
{body}
    return 0
"""
    assert "llvm.loop.parallel_accesses" in llvm_ir(source, "k")
