"""The native runtime: programs that run without Python between their steps. Needs llvmlite, never Numba.

    runtime = load(cache_dir)         # once per process, later calls return the same; None keeps nothing on disk
    runtime.pool.set_threads(n)       # threads of the pool, the caller counted; runtime.pool.threads
    runtime.layout_recognised         # False: entries are Python functions (entry_python), slower, same results

    program = NativeProgram(
        steps=...,      # int64[nsteps, 5]: kernel address, number of args, offset in argwords,
                        #                   frame word of the extent, frame word of the number of chunks
        argwords=...,   # int32[...]: frame words
        arguments=[Argument(dtype, axes=((kind, value), ...), word=frame word or -1, destination=False), ...],
        outputs=[Output(dtype, sizes=(frame word, ...), word=frame word or -1), ...],
        returns=...,    # k: output k; -1 - i: argument i itself; a sequence of these: a list; None: None
        slow=...,       # slow(args) -> result, called when an argument or the plan is not ready for native code
        failed=...,     # failed(step, code, args): raises
        keep=(...),     # objects that must live as long as the program (owners of kernel code)
    )
    program.install_plan(dims, template, arena_bytes, relocations, release_gil=True, keep=(constants, ...))
    program.entry(*arrays)            # a builtin; holds everything it needs: may outlive `program`
    program.free()                    # give back the memory kept for the next call

`axes` kinds: 0 the size is the constant `value`; 1 it defines dim slot `value`; 2 it equals dim slot `value`. Plan
`dims` are the values of slots 0, 1, ... A float64 argument of rank 0 may also be a Python float or a numpy.float64.
`release_gil=False` is for programs so short that releasing costs more; it is ignored when a step has several chunks.
Whether a destination overlaps an argument is not looked at. A program made before `load` loads the runtime without a
cache. The matrix product kernels are in native_blas.py.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from symgraph.runtime import native_layout as layout
from symgraph.runtime.interrupts import uninterrupted
from symgraph.runtime.native_layout import Arg, Function, Out, Plan, Table
from symgraph.runtime.native_pool import ThreadPool
from symgraph.runtime.objects import load_cached

__all__ = ["Argument", "NativeProgram", "Output", "Runtime", "load"]

Words = npt.NDArray[np.int64]
Slow = Callable[[tuple[Any, ...]], Any]
Failed = Callable[[int, int, tuple[Any, ...]], Any]

METH_FASTCALL = 0x0080
PUBLIC = ("entry", "execute", "worker", "link", "release")
SOURCES = ("native_layout.py", "native_ir.py", "native_execute.py", "native_entry.py", "native.py")


@dataclass(frozen=True)
class Argument:
    """What a positional argument has to be: an aligned C-contiguous array of this dtype, rank and these sizes."""

    dtype: npt.DTypeLike
    axes: tuple[tuple[int, int], ...]
    word: int = -1
    destination: bool = False


@dataclass(frozen=True)
class Output:
    """An array allocated at each call."""

    dtype: npt.DTypeLike
    sizes: tuple[int, ...]
    word: int = -1


class _MethodDef(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("method", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


class Runtime:
    """The native code of this process, its table of addresses and its thread pool."""

    def __init__(self, cache_dir: str | os.PathLike[str] | None) -> None:
        addresses = load_cached(cache_dir, "native", _source_key(), _emit, PUBLIC, opt=0)
        self.layout_recognised = layout.recognised()
        self.table = (ctypes.c_int64 * len(Table))()
        self._fill_table()
        self.pool = ThreadPool(self.table, addresses["worker"])
        self._start = self.pool.start
        self.table[Table.START_POOL] = id(self._start)
        word = ctypes.c_int64
        self.execute = ctypes.CFUNCTYPE(word, word, word, word)(addresses["execute"])
        self.execute_with_gil = ctypes.PYFUNCTYPE(word, word, word, word)(addresses["execute"])
        self.link = ctypes.PYFUNCTYPE(word, word, word)(addresses["link"])
        self.release = ctypes.PYFUNCTYPE(word, word)(addresses["release"])
        self._method = _MethodDef(b"program", addresses["entry"], METH_FASTCALL, None)
        new = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)
        self._new_builtin = new(("PyCFunction_NewEx", ctypes.pythonapi))

    def builtin(self, handle: layout.Handle) -> Callable[..., Any]:
        """The native entry, bound to a program's tables."""
        entry: Callable[..., Any] = self._new_builtin(ctypes.addressof(self._method), handle, None)
        return entry

    def _fill_table(self) -> None:
        python = {
            Table.INC_REF: "Py_IncRef",
            Table.DEC_REF: "Py_DecRef",
            Table.SAVE_THREAD: "PyEval_SaveThread",
            Table.RESTORE_THREAD: "PyEval_RestoreThread",
            Table.TUPLE_NEW: "PyTuple_New",
            Table.TUPLE_SET: "PyTuple_SetItem",
            Table.LIST_NEW: "PyList_New",
            Table.LIST_SET: "PyList_SetItem",
            Table.LONG: "PyLong_FromLongLong",
            Table.CALL: "PyObject_CallObject",
            Table.CALL_ONE: "PyObject_CallOneArg",
            Table.NO_MEMORY: "PyErr_NoMemory",
            Table.MALLOC: "PyMem_RawMalloc",
            Table.FREE: "PyMem_RawFree",
        }
        for word, name in python.items():
            self.table[word] = ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value or 0
        for word, constant in (
            (Table.ARRAY_TYPE, np.ndarray),
            (Table.FLOAT_TYPE, float),
            (Table.FLOAT64_TYPE, np.float64),
            (Table.NONE, None),
        ):
            self.table[word] = id(constant)
        self.table[Table.NEW_FROM_DESCR] = layout.array_api()[layout.API_NEW_FROM_DESCR]


_runtime: Runtime | None = None
_load_lock = threading.Lock()


def load(cache_dir: str | os.PathLike[str] | None = None) -> Runtime:
    """The runtime of this process. The first call loads it, from `cache_dir` where its object code is there."""
    global _runtime
    if _runtime is None:
        with _load_lock, uninterrupted():
            if _runtime is None:
                _runtime = Runtime(cache_dir)
    return _runtime


def _source_key() -> str:
    """The text of the files that emit the native code: what they emit changes only with them."""
    here = Path(__file__).parent
    return "".join((here / name).read_text(encoding="utf-8") for name in SOURCES)


def _emit() -> str:
    from symgraph.runtime import native_entry, native_execute, native_ir  # not needed when the object is on disk

    module = native_ir.new_module("symgraph_native")
    run_job = native_execute.emit_pool(module)
    native_entry.emit_entry(module, native_execute.emit_execute(module, run_job))
    native_entry.emit_link(module)
    native_entry.emit_release(module)
    return native_ir.module_text(module)


class _Packer:
    """Tables laid one after the other in one array of words; words may point at tables."""

    def __init__(self, head: int) -> None:
        self._parts: list[Words] = [np.zeros(head, np.int64)]
        self._size = head
        self._pointers: list[tuple[int, int]] = []

    def add(self, words: npt.ArrayLike) -> int:
        """Append a table; returns its offset in words."""
        part = np.ascontiguousarray(words, np.int64).reshape(-1)
        offset = self._size
        self._parts.append(part)
        self._size += part.size
        return offset

    def point(self, word: int, offset: int) -> None:
        """Word number `word` shall hold the address of the table at `offset`."""
        self._pointers.append((word, offset))

    def finish(self, head: dict[int, int]) -> Words:
        words = np.concatenate([*self._parts, np.zeros(1, np.int64)])  # so that no table lies behind the end
        for word, value in head.items():
            words[word] = value
        for word, offset in self._pointers:
            words[word] = words.ctypes.data + 8 * offset
        return words


@dataclass
class State:
    """All that a program's native code points at. Belongs to the entry's handle, and so lives as long as it."""

    runtime: Runtime
    words: Words
    arguments: tuple[Argument, ...]
    outputs: tuple[Output, ...]
    returns: int | tuple[int, ...] | None
    slow: Slow
    failed: Failed
    scratch: int
    chunk_words: npt.NDArray[np.int64]
    keep: list[Any]
    plans: dict[tuple[int, ...], InstalledPlan] = field(default_factory=dict)
    address: int = 0  # of `words`; as a number, since `words.ctypes` imports, which fails when the interpreter ends


@dataclass
class InstalledPlan:
    words: Words
    template: Words
    relocations: Words
    head: int
    bytes: int
    release_gil: bool
    parallel: bool
    keep: tuple[Any, ...]


class _Handle(layout.Handle):
    __slots__ = ()

    def __del__(self) -> None:
        state = self.keep
        state.runtime.release(state.address)


class NativeProgram:
    """A compiled program: tables of steps, what its arguments and outputs are, and plans for the sizes met so far.

    See the head of this module for the parameters. Raises ValueError when the tables contradict each other.
    Several threads may be in `entry` at once; each call has its own frame and arena.
    """

    def __init__(
        self,
        *,
        steps: npt.ArrayLike,
        argwords: npt.ArrayLike,
        arguments: Sequence[Argument],
        outputs: Sequence[Output],
        returns: int | Sequence[int] | None,
        slow: Slow,
        failed: Failed,
        keep: Iterable[Any] = (),
    ) -> None:
        runtime = load()
        table = np.ascontiguousarray(steps, np.int64).reshape(-1, layout.STEP_WORDS)
        chosen = returns if returns is None or isinstance(returns, int) else tuple(returns)
        state = State(
            runtime=runtime,
            words=np.zeros(0, np.int64),
            arguments=tuple(arguments),
            outputs=tuple(outputs),
            returns=chosen,
            slow=slow,
            failed=failed,
            scratch=max([1, *(int(n) for n in table[:, 1]), *(len(o.sizes) for o in outputs)]),
            chunk_words=np.array(sorted({int(n) for n in table[:, 4]}), np.int64),  # np.unique imports numpy.ma
            keep=list(keep),
        )
        self.ndims = _check(state, table, np.asarray(argwords))
        state.words = _pack(state, table, np.ascontiguousarray(argwords, np.int32), self.ndims)
        state.address = int(state.words.ctypes.data)
        self._state = state
        handle = _Handle(state.words, state)
        if runtime.layout_recognised:
            self.entry = runtime.builtin(handle)
        else:
            from symgraph.runtime.native_python import entry_python

            self.entry = entry_python(handle)

    @cached_property
    def entry_python(self) -> Callable[..., Any]:
        """The same entry in Python, for interpreters whose objects are not laid out as the native one expects."""
        from symgraph.runtime.native_python import entry_python

        return entry_python(_Handle(self._state.words, self._state))

    def install_plan(
        self,
        dims: Sequence[int],
        template: npt.ArrayLike,
        arena_bytes: int,
        relocations: npt.ArrayLike = (),
        release_gil: bool = True,
        keep: Iterable[Any] = (),
    ) -> None:
        """Add the plan for these dim values; it takes the place of an earlier one for the same values.

        `template` (copied) is the frame with all words set but pointers of arguments and outputs; the words listed in
        `relocations` hold offsets in the arena, of which a call gets `arena_bytes` bytes at a 64-byte boundary.
        """
        state = self._state
        values = tuple(int(d) for d in dims)
        if len(values) != self.ndims:
            raise ValueError(f"a plan of this program is for {self.ndims} dims, not {len(values)}")
        frame = np.array(template, np.int64).reshape(-1)
        moved = np.array(relocations, np.int64).reshape(-1)
        chunks = frame[state.chunk_words] if state.chunk_words.size else np.ones(1, np.int64)
        if chunks.max() > layout.MAX_CHUNKS:
            raise ValueError(f"a step may have {layout.MAX_CHUNKS} chunks, not {chunks.max()}")
        parallel = bool(chunks.max() > 1)
        head = -(-8 * (frame.size + state.scratch + len(state.outputs)) // 64) * 64
        packer = _Packer(len(Plan))
        packer.point(Plan.DIMS, packer.add(values))
        packer.point(Plan.TEMPLATE, packer.add(frame))
        packer.point(Plan.RELOCATIONS, packer.add(moved))
        words = packer.finish(
            {
                Plan.NWORDS: frame.size,
                Plan.BYTES: head + arena_bytes,
                Plan.HEAD: head,
                Plan.NRELOCATIONS: moved.size,
                Plan.RELEASE: int(release_gil or parallel),
                Plan.PARALLEL: int(parallel),
            }
        )
        plan = InstalledPlan(
            words, frame, moved, head, head + arena_bytes, release_gil or parallel, parallel, tuple(keep)
        )
        if values in state.plans:
            state.keep.append(state.plans[values])  # a call may be in it
        state.plans[values] = plan
        state.runtime.link(state.address, int(words.ctypes.data))

    def forget_plans(self) -> None:
        """Drop all plans. Calls that are under way go on: they have what they need from theirs."""
        state = self._state
        state.words[Function.PLAN] = 0
        state.plans.clear()
        state.keep[:] = [k for k in state.keep if not isinstance(k, InstalledPlan)]

    def free(self) -> None:
        """Give back the memory that is kept for the next call. The program stays usable."""
        self._state.runtime.release(self._state.address)


def _check(state: State, steps: Words, argwords: npt.NDArray[Any]) -> int:
    """The number of dim slots. Raises ValueError for tables that would make native code read where nothing is."""
    defined: set[int] = set()
    for argument in state.arguments:
        for kind, value in argument.axes:
            if kind == 1:
                defined.add(value)
            elif kind not in (0, 2) or (kind == 2 and value not in defined):
                raise ValueError(f"axis ({kind}, {value}) of an argument: no such kind, or a dim not yet defined")
    if defined != set(range(len(defined))):
        raise ValueError(f"dim slots are not numbered from 0 without gaps: {sorted(defined)}")
    if steps.size and (steps[:, 1].min() < 0 or (steps[:, 1] + steps[:, 2]).max() > argwords.size):
        raise ValueError("a step's arguments lie outside argwords")
    returned = (state.returns,) if isinstance(state.returns, int) else state.returns or ()
    if any(not -len(state.arguments) <= k < len(state.outputs) for k in returned):
        raise ValueError(
            f"returned values {returned} of {len(state.outputs)} outputs, {len(state.arguments)} arguments"
        )
    return len(defined)


def _pack(state: State, steps: Words, argwords: npt.NDArray[np.int32], ndims: int) -> Words:
    packer = _Packer(len(Function))
    args = np.zeros((len(state.arguments), len(Arg)), np.int64)
    outs = np.zeros((len(state.outputs), len(Out)), np.int64)
    args_at, outs_at = packer.add(args), packer.add(outs)
    head: dict[int, int] = {}
    for i, argument in enumerate(state.arguments):
        dtype, at = np.dtype(argument.dtype), args_at + i * len(Arg)
        flags = layout.FLAG_C_CONTIGUOUS | layout.FLAG_ALIGNED | (layout.FLAG_WRITEABLE * argument.destination)
        head[at + Arg.TYPE], head[at + Arg.ALIAS] = dtype.num, _alias(dtype)
        head[at + Arg.NDIM], head[at + Arg.FLAGS] = len(argument.axes), flags
        head[at + Arg.WORD] = argument.word
        head[at + Arg.SCALAR] = int(dtype == np.float64 and not argument.axes and not argument.destination)
        packer.point(at + Arg.AXES, packer.add(argument.axes))
    for i, output in enumerate(state.outputs):
        dtype, at = np.dtype(output.dtype), outs_at + i * len(Out)
        state.keep.append(dtype)
        head[at + Out.DESCR], head[at + Out.NDIM], head[at + Out.WORD] = id(dtype), len(output.sizes), output.word
        packer.point(at + Out.SIZES, packer.add(output.sizes))
    padded = np.zeros(argwords.size + argwords.size % 2, np.int32)
    padded[: argwords.size] = argwords
    returns = (state.returns,) if isinstance(state.returns, int) else state.returns or ()
    packer.point(Function.ARGS, args_at)
    packer.point(Function.OUTS, outs_at)
    packer.point(Function.STEPS, packer.add(steps))
    packer.point(Function.ARGWORDS, packer.add(padded.view(np.int64)))
    packer.point(Function.DIMS, packer.add(np.zeros(ndims, np.int64)))
    packer.point(Function.RETURNS, packer.add(returns))
    head |= {
        Function.TABLE: ctypes.addressof(state.runtime.table),
        Function.NARGS: len(state.arguments),
        Function.NOUTS: len(state.outputs),
        Function.NSTEPS: len(steps),
        Function.SCRATCH: state.scratch,
        Function.NDIMS: ndims,
        Function.NRETURNS: -1 if isinstance(state.returns, int) else -2 if state.returns is None else len(returns),
        Function.SLOW: id(state.slow),
        Function.FAILED: id(state.failed),
    }
    return packer.finish(head)


def _alias(dtype: np.dtype[Any]) -> int:
    """Another type number with the same kind and size: C has two names for most integer sizes."""
    same = (np.dtype(c) for c in "bBhHiIlLqQ")
    return next((d.num for d in same if d.num != dtype.num and d == dtype), dtype.num)
