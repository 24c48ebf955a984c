"""Entry and executor, on programs made by hand: what is checked, what is called, what comes back."""

from __future__ import annotations

import ctypes
import gc
import sys
import tracemalloc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from symgraph.runtime import native_layout
from symgraph.runtime.native import Argument, NativeProgram, Output, load
from tests.runtime.native_programs import (
    PythonKernel,
    affine,
    bits,
    install_affine,
    kernels,
    planned_affine,
    unexpected,
)

ENTRIES: list[Callable[[NativeProgram], Callable[..., Any]]] = [lambda p: p.entry, lambda p: p.entry_python]
both_entries = pytest.mark.parametrize("entry_of", ENTRIES, ids=["native", "python"])


def test_layout_is_recognised_on_this_interpreter() -> None:
    assert native_layout.recognised()
    assert load().layout_recognised
    assert type(affine().entry).__name__ == "builtin_function_or_method"


@both_entries
@pytest.mark.parametrize("release_gil", [True, False])
def test_runs_steps_through_the_arena(entry_of: Callable[..., Any], release_gil: bool) -> None:
    program = affine()
    install_affine(program, 5, release_gil=release_gil)
    x = np.arange(5.0)
    y = entry_of(program)(x)
    assert type(y) is np.ndarray
    assert y.dtype == np.float64
    assert y.flags.owndata
    assert y.flags.c_contiguous
    assert y.flags.writeable
    np.testing.assert_array_equal(y, (x + 1) * 2)


@both_entries
def test_each_size_has_its_plan_and_slow_is_called_once_for_each(entry_of: Callable[..., Any]) -> None:
    calls: list[int] = []

    def slow(args: tuple[Any, ...]) -> Any:
        calls.append(args[0].size)
        install_affine(program, args[0].size)
        return entry(*args)

    program = affine(slow)
    entry = entry_of(program)
    for size in [3, 4, 3, 0, 4, 100, 0, 3, 100, *range(20), *range(20)]:
        x = np.linspace(0, 1, size)
        np.testing.assert_array_equal(entry(x), (x + 1) * 2)
    assert sorted(calls) == sorted({3, 4, 0, 100, *range(20)})


@both_entries
def test_a_later_plan_for_the_same_sizes_takes_the_place_of_the_first(entry_of: Callable[..., Any]) -> None:
    program = affine()
    install_affine(program, 3)
    install_affine(program, 4)
    program.install_plan((3,), [0, 0, 0, 3, 1, bits(5.0), bits(2.0)], 24, [2])
    np.testing.assert_array_equal(entry_of(program)(np.zeros(4)), np.full(4, 2.0))
    np.testing.assert_array_equal(entry_of(program)(np.zeros(3)), np.full(3, 10.0))


class Subclass(np.ndarray):
    pass


def _readonly() -> np.ndarray[Any, Any]:
    x = np.zeros(4)
    x.flags.writeable = False
    return x


UNUSUAL: dict[str, Callable[[], tuple[Any, ...]]] = {
    "no argument": tuple,
    "two arguments": lambda: (np.zeros(4), np.zeros(4)),
    "list": lambda: ([1.0, 2.0, 3.0, 4.0],),
    "float": lambda: (1.0,),
    "None": lambda: (None,),
    "subclass": lambda: (np.zeros(4).view(Subclass),),
    "dtype": lambda: (np.zeros(4, np.float32),),
    "byte order": lambda: (np.zeros(4, ">f8"),),
    "rank 0": lambda: (np.zeros(()),),
    "rank 2": lambda: (np.zeros((4, 1)),),
    "strided": lambda: (np.zeros(8)[::2],),
    "reversed": lambda: (np.zeros(4)[::-1],),
    "misaligned": lambda: (np.zeros(33, np.uint8)[1:].view(np.float64),),
    "no plan": lambda: (np.zeros(5),),
}


@both_entries
@pytest.mark.parametrize("name", UNUSUAL)
def test_the_unusual_goes_to_slow_with_the_very_arguments(entry_of: Callable[..., Any], name: str) -> None:
    seen: list[tuple[Any, ...]] = []

    def slow(args: tuple[Any, ...]) -> str:
        seen.append(args)
        return "from slow"

    program = affine(slow)
    install_affine(program, 4)
    args = UNUSUAL[name]()
    assert entry_of(program)(*args) == "from slow"
    assert len(seen[0]) == len(args)
    assert all(a is b for a, b in zip(seen[0], args, strict=True))


@both_entries
def test_an_exception_of_slow_passes_through(entry_of: Callable[..., Any]) -> None:
    def slow(args: tuple[Any, ...]) -> Any:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        entry_of(affine(slow))(np.zeros(3))


def test_keywords_are_refused() -> None:
    with pytest.raises(TypeError, match="keyword"):
        affine().entry(x=np.zeros(3))


@both_entries
def test_read_only_arguments_are_fine(entry_of: Callable[..., Any]) -> None:
    program = affine()
    install_affine(program, 4)
    np.testing.assert_array_equal(entry_of(program)(_readonly()), np.full(4, 2.0))


@both_entries
def test_dims_across_arguments(entry_of: Callable[..., Any]) -> None:
    """x: [n, m, 3], y: [m, n]: constants, definitions and repetitions of dims."""
    seen: list[int] = []
    program = NativeProgram(
        steps=np.zeros((0, 5)),
        argwords=[],
        arguments=[
            Argument(np.int32, ((1, 0), (1, 1), (0, 3))),
            Argument(np.bool_, ((2, 1), (2, 0))),
        ],
        outputs=[Output(np.int16, (0, 1))],
        returns=0,
        slow=lambda args: seen.append(1),
        failed=unexpected,
    )
    program.install_plan((2, 5), [2, 5], 0)
    entry = entry_of(program)
    assert entry(np.zeros((2, 5, 3), np.int32), np.zeros((5, 2), bool)).shape == (2, 5)
    assert not seen
    for shapes in [((2, 5, 4), (5, 2)), ((2, 5, 3), (2, 5)), ((2, 5, 3), (5, 3)), ((5, 2, 3), (2, 5))]:
        entry(np.zeros(shapes[0], np.int32), np.zeros(shapes[1], bool))
    assert len(seen) == 4


@both_entries
def test_type_numbers_of_one_type_are_one(entry_of: Callable[..., Any]) -> None:
    program = NativeProgram(
        steps=np.zeros((0, 5)),
        argwords=[],
        arguments=[Argument(np.int64, ((1, 0),))],
        outputs=[],
        returns=-1,
        slow=unexpected,
        failed=unexpected,
    )
    program.install_plan((2,), [], 0)
    for letter in "lqiLQ":
        dtype = np.dtype(letter)
        if dtype == np.int64:
            x = np.zeros(2, dtype)
            assert entry_of(program)(x) is x


@both_entries
def test_scalars_of_rank_0_float64_are_read_where_they_lie(entry_of: Callable[..., Any]) -> None:
    program = NativeProgram(
        steps=[[kernels()["add"], 3, 0, 2, 3]],
        argwords=[0, 1, 4],
        arguments=[Argument(np.float64, (), 0)],
        outputs=[Output(np.float64, (), 1)],
        returns=0,
        slow=lambda args: "slow",
        failed=unexpected,
    )
    program.install_plan((), [0, 0, 1, 1, bits(1.0)], 0)
    values: list[Any] = [1.5, np.float64(1.5), np.array(1.5)]
    for value in values:
        result = entry_of(program)(value)
        assert type(result) is np.ndarray
        assert result.shape == ()
        assert result == 2.5
    values = [1, True, np.float32(1.5), "1.5", np.array(1.5, np.float32)]
    for value in values:
        assert entry_of(program)(value) == "slow"


DTYPES: list[type[np.generic]] = [np.float16, np.float32, np.float64, np.int8, np.int16, np.int32, np.int64]
DTYPES += [np.uint8, np.uint16, np.uint32, np.uint64, np.bool_]


@both_entries
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (3,), (0,), (2, 3), (2, 0, 3), (1, 2, 1, 2, 1)])
def test_outputs_of_every_dtype_and_rank(
    entry_of: Callable[..., Any], dtype: type[np.generic], shape: tuple[int, ...]
) -> None:
    """A kernel in Python fills the output with ones through the pointer that the frame holds."""
    count = int(np.prod(shape)) * np.dtype(dtype).itemsize

    @PythonKernel
    def fill(args: Any, lo: int, hi: int) -> int:
        ctypes.memset(args[0], 1, args[1])
        return 0

    rank = len(shape)
    program = NativeProgram(
        steps=[[fill.address, 2, 0, rank + 2, rank + 2]],
        argwords=[rank, rank + 1],
        arguments=[],
        outputs=[Output(dtype, tuple(range(rank)), rank)],
        returns=0,
        slow=unexpected,
        failed=unexpected,
        keep=[fill],
    )
    program.install_plan((), [*shape, 0, count, 1], 0)
    result = entry_of(program)()
    assert result.shape == shape
    assert result.dtype == np.dtype(dtype)
    assert result.flags.owndata
    assert result.ctypes.data % 16 == 0
    np.testing.assert_array_equal(np.atleast_1d(result).view(np.uint8), 1)


@both_entries
@pytest.mark.parametrize(
    ("returns", "expected"),
    [(None, None), (1, 1), (-2, -2), ((), []), ((0, 1, 2), [0, 1, 2]), ((2, -1, 2), [2, -1, 2])],
)
def test_what_is_returned(entry_of: Callable[..., Any], returns: Any, expected: Any) -> None:
    """Three outputs of lengths 0, 1, 2 and two arguments: outputs by number, arguments by -1 - number."""
    program = NativeProgram(
        steps=np.zeros((0, 5)),
        argwords=[],
        arguments=[Argument(np.float64, ((0, 7),)), Argument(np.float64, ((0, 8),))],
        outputs=[Output(np.float32, (i,)) for i in range(3)],
        returns=returns,
        slow=unexpected,
        failed=unexpected,
    )
    program.install_plan((), [0, 1, 2], 0)
    args = (np.zeros(7), np.zeros(8))

    def matches(value: Any, number: int) -> bool:
        return value.shape == (number,) and value.dtype == np.float32 if number >= 0 else value is args[-1 - number]

    result = entry_of(program)(*args)
    if expected is None:
        assert result is None
    elif isinstance(expected, int):
        assert matches(result, expected)
    else:
        assert type(result) is list
        assert len(result) == len(expected)
        assert all(map(matches, result, expected))


@both_entries
def test_destinations_are_written_and_returned(entry_of: Callable[..., Any]) -> None:
    refused: list[Any] = []
    program = affine(refused.append, destination=True)
    install_affine(program, 4)
    x, y = np.arange(4.0), np.full(4, np.nan)
    assert entry_of(program)(x, y) is y
    np.testing.assert_array_equal(y, (x + 1) * 2)
    assert not refused
    for unfit in (_readonly(), np.zeros(8)[::2], np.zeros(5), np.zeros(4, np.float32), [0.0] * 4, 1.0):
        entry_of(program)(x, unfit)
    assert len(refused) == 6


@both_entries
@pytest.mark.parametrize("chunks", [1, 4])
def test_an_error_code_is_reported_with_its_step(entry_of: Callable[..., Any], chunks: int) -> None:
    seen: list[Any] = []

    def failed(step: int, code: int, args: tuple[Any, ...]) -> Any:
        seen.append((step, code, args))
        raise ValueError("of the user")

    fail = kernels()["fail"]
    program = NativeProgram(
        steps=[[fail, 1, 0, 0, 1], [fail, 1, 1, 0, 1], [fail, 1, 1, 0, 1]],
        argwords=[2, 3],
        arguments=[Argument(np.float64, ((1, 0),))],
        outputs=[Output(np.float64, (0,)), Output(np.float64, (0,))],
        returns=(0, 1),
        slow=unexpected,
        failed=failed,
    )
    program.install_plan((9,), [9, chunks, 0, 41], 64)
    x = np.zeros(9)
    before = sys.getrefcount(x)
    for _ in range(3):
        with pytest.raises(ValueError, match="of the user"):
            entry_of(program)(x)
    assert [s[:2] for s in seen] == [(1, 41)] * 3
    assert all(s[2][0] is x for s in seen)
    seen.clear()
    assert sys.getrefcount(x) == before


def test_steps_without_extent_are_skipped() -> None:
    program = NativeProgram(
        steps=[[kernels()["fail"], 1, 0, 0, 1]],
        argwords=[0],
        arguments=[],
        outputs=[],
        returns=None,
        slow=unexpected,
        failed=unexpected,
    )
    program.install_plan((), [0, 1], 0)
    assert program.entry() is None


def test_the_arena_is_aligned_and_kept_for_the_next_call() -> None:
    seen: list[int] = []

    @PythonKernel
    def note(args: Any, lo: int, hi: int) -> int:
        seen.append(args[0])
        ctypes.memset(args[0], 255, 1000)
        return 0

    program = NativeProgram(
        steps=[[note.address, 1, 0, 1, 1]],
        argwords=[0],
        arguments=[],
        outputs=[],
        returns=None,
        slow=unexpected,
        failed=unexpected,
        keep=[note],
    )
    program.install_plan((), [64, 1], 1064, [0])
    for _ in range(3):
        program.entry()
    assert len(set(seen)) == 1
    assert all(address % 64 == 0 for address in seen)
    program.free()
    program.free()
    program.entry()
    assert len(seen) == 4


def test_tables_that_contradict_each_other_are_refused() -> None:
    def make(**changes: Any) -> NativeProgram:
        wanted: dict[str, Any] = {
            "steps": [[0, 1, 0, 0, 0]],
            "argwords": [0],
            "arguments": [Argument(np.float64, ((1, 0),))],
            "outputs": [],
            "returns": None,
            "slow": unexpected,
            "failed": unexpected,
        }
        return NativeProgram(**(wanted | changes))

    for changes in (
        {"steps": [[0, 2, 0, 0, 0]]},
        {"returns": 0},
        {"returns": [-2]},
        {"arguments": [Argument(np.float64, ((2, 0),))]},
        {"arguments": [Argument(np.float64, ((3, 0),))]},
        {"arguments": [Argument(np.float64, ((1, 1),))]},
    ):
        with pytest.raises(ValueError):
            make(**changes)
    program = make()
    with pytest.raises(ValueError, match="1 dims"):
        program.install_plan((1, 2), [1], 0)
    with pytest.raises(ValueError, match="chunks"):
        program.install_plan((1,), [1 << 40], 0)


def test_calls_leave_no_reference_and_no_memory_behind() -> None:
    program = planned_affine()
    failing = affine(failed=lambda step, code, args: None)
    entry, x, y = program.entry, np.zeros(3), np.zeros(4)
    strided = np.zeros(6)[::2]
    objects = [entry, x, y, strided, failing, None, np.dtype(np.float64), np.ndarray]
    for _ in range(100):
        entry(x), entry(y), entry(strided)
    gc.collect()
    counts = [sys.getrefcount(o) for o in objects]
    tracemalloc.start()
    try:
        start = tracemalloc.get_traced_memory()[0]
        for _ in range(30_000):
            entry(x)
            entry(y)
        for _ in range(10_000):
            entry(x)[0]
        grown = tracemalloc.get_traced_memory()[0] - start
        entry(strided)
    finally:
        tracemalloc.stop()
    assert grown < 5000
    after = [sys.getrefcount(o) for o in objects]
    # Immortal objects and types may be counted elsewhere meanwhile; a leak would be thousands.
    assert all(abs(a - b) < 50 for a, b in zip(after, counts, strict=True))


def test_blocks_are_freed_with_the_program_and_when_a_larger_one_is_needed() -> None:
    tracemalloc.start()
    try:
        start = tracemalloc.get_traced_memory()[0]
        program = planned_affine()
        for size in (1_000, 100_000, 10_000):
            program.entry(np.zeros(size))
        kept = tracemalloc.get_traced_memory()[0] - start
        assert 800_000 < kept < 900_000
        program.free()
        assert tracemalloc.get_traced_memory()[0] - start < 50_000
        program.entry(np.zeros(100_000))
        del program
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - start < 50_000
    finally:
        tracemalloc.stop()


def test_the_entry_outlives_its_program_and_cycles_are_collected() -> None:
    class Owner:
        """What a compiled function will look like: it owns a program whose slow path is a method of it."""

        def __init__(self) -> None:
            self.program = affine(self.slow, self.failed)
            install_affine(self.program, 3)

        def slow(self, args: tuple[Any, ...]) -> Any:
            return self

        def failed(self, step: int, code: int, args: tuple[Any, ...]) -> Any:
            return self

    owner = Owner()
    entry = owner.program.entry
    alive = weakref.ref(owner)
    del owner
    gc.collect()
    np.testing.assert_array_equal(entry(np.zeros(3)), np.full(3, 2.0))
    assert entry(np.zeros(4)) is alive()
    del entry
    gc.collect()
    assert alive() is None


def test_a_failed_allocation_is_a_memory_error() -> None:
    huge = 1 << 58
    program = NativeProgram(
        steps=np.zeros((0, 5)),
        argwords=[],
        arguments=[],
        outputs=[Output(np.float64, (0,)), Output(np.float64, (1,))],
        returns=(0, 1),
        slow=unexpected,
        failed=unexpected,
    )
    program.install_plan((), [3, huge], 0)
    for _ in range(3):
        with pytest.raises((MemoryError, ValueError)):
            program.entry()
    program.install_plan((), [3, 3], 1 << 60)
    with pytest.raises(MemoryError):
        program.entry()


def test_plans_may_be_installed_while_the_program_runs() -> None:
    """`install_plan` and `free` from inside a kernel: what another thread would do at that time."""
    program: NativeProgram

    @PythonKernel
    def install(args: Any, lo: int, hi: int) -> int:
        program.install_plan((len(sizes),), [0, 1, 1], 0)
        sizes.append(0)
        program.free()
        return 0

    sizes = [0]
    program = NativeProgram(
        steps=[[install.address, 0, 0, 1, 2]],
        argwords=[],
        arguments=[Argument(np.float64, ((1, 0),), 0)],
        outputs=[],
        returns=None,
        slow=unexpected,
        failed=unexpected,
        keep=[install],
    )
    program.install_plan((0,), [0, 1, 1], 0)
    for size in range(10):
        assert program.entry(np.zeros(size)) is None
    assert len(sizes) == 11
