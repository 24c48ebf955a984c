"""The memory that Python and the native code share, word by word.

Everything is tables of 64-bit words. Python writes them (native.py), emitted code reads them (native_execute.py,
native_entry.py). An enum's members are word indices; sizes are at the end of each enum's name list.
"""

from __future__ import annotations

import ctypes
import sys
import sysconfig
from enum import IntEnum
from typing import Any

import numpy as np

WORD = 8


class Table(IntEnum):
    """One per process: addresses that the emitted code calls or compares with."""

    ARRAY_TYPE = 0  # &PyArray_Type
    NEW_FROM_DESCR = 1  # PyArray_NewFromDescr
    FLOAT_TYPE = 2  # &PyFloat_Type
    FLOAT64_TYPE = 3  # type object of numpy.float64
    INC_REF = 4
    DEC_REF = 5
    SAVE_THREAD = 6
    RESTORE_THREAD = 7
    TUPLE_NEW = 8
    TUPLE_SET = 9
    LIST_NEW = 10
    LIST_SET = 11
    LONG = 12  # PyLong_FromLongLong
    CALL = 13  # PyObject_CallObject
    CALL_ONE = 14  # PyObject_CallOneArg
    NO_MEMORY = 15  # PyErr_NoMemory
    MALLOC = 16  # PyMem_RawMalloc
    FREE = 17
    NONE = 18
    START_POOL = 19  # Python callable: start the workers of this process
    POOL = 20  # the current pool
    LOCK = 21  # pthread_mutex_lock; zero where there are no POSIX threads
    UNLOCK = 22
    WAIT = 23
    SIGNAL = 24
    BROADCAST = 25


class Function(IntEnum):
    """One per NativeProgram."""

    TABLE = 0
    NARGS = 1
    ARGS = 2
    NOUTS = 3
    OUTS = 4
    NSTEPS = 5
    STEPS = 6
    ARGWORDS = 7
    SCRATCH = 8  # words a call needs beside its frame to gather kernel arguments or the sizes of an output
    NDIMS = 9
    DIMS = 10  # dim values of the call being entered; only used while the GIL is held
    PLAN = 11  # newest-used plan, 0 when there is none
    BLOCK = 12  # memory kept for the next call
    BLOCK_BYTES = 13
    NRETURNS = 14  # -1: RETURNS[0] is the result itself; -2: None; else a list
    RETURNS = 15  # k >= 0: output k; -1 - i: argument i itself
    SLOW = 16
    FAILED = 17


class Arg(IntEnum):
    """One per positional argument."""

    TYPE = 0  # NumPy type number
    ALIAS = 1  # another type number of the same kind and size (long and long long), else TYPE again
    NDIM = 2
    FLAGS = 3  # NumPy flags it must have
    WORD = 4  # frame word for its data pointer, -1: none
    AXES = 5  # (kind, value) for each axis
    SCALAR = 6  # 1: a Python float or numpy.float64 will do: its value lies in the object


class Out(IntEnum):
    """One per allocated output."""

    DESCR = 0
    NDIM = 1
    SIZES = 2  # frame words that hold its sizes
    WORD = 3  # frame word for its data pointer


class Plan(IntEnum):
    """One per tuple of dim values."""

    NEXT = 0
    DIMS = 1
    TEMPLATE = 2
    NWORDS = 3
    BYTES = 4  # of the whole block: frame, scratch, outputs, arena
    HEAD = 5  # bytes before the arena
    NRELOCATIONS = 6
    RELOCATIONS = 7  # frame words to which the arena's address is added
    RELEASE = 8  # release the GIL while the steps run
    PARALLEL = 9  # some step has several chunks


class Pool(IntEnum):
    """Threads waiting for chunks. Words that different threads write lie in different cache lines."""

    TICKET = 0  # job number << 32 | next chunk; CLOSED while a job is written
    DONE = 8  # chunks finished
    SLEEPING = 16  # workers in pthread_cond_wait
    BUSY = 24  # a caller owns the pool
    WAITING = 32  # the caller sleeps until the last chunk is done
    STOP = 33
    WORKERS = 34
    WANTED = 35
    TABLE = 36
    KERNEL = 40
    ARGS = 41
    EXTENT = 42
    CHUNKS = 43
    ERROR = 44
    MUTEX = 48  # pthread_mutex_t takes at most 64 bytes, pthread_cond_t 48
    WORK = 64
    DONE_COND = 80


POOL_WORDS = 96
STEP_WORDS = 5
CLOSED = 0xFFFFFFFF
MAX_CHUNKS = 1 << 20

# Offsets in objects. CPython's header (reference count, type) and NumPy's public structs (PyArrayObject_fields and
# PyArray_Descr in numpy/ndarraytypes.h); the same in every release of NumPy 2 on 64-bit builds with the GIL.
OBJECT_TYPE = 8
OBJECT_VALUE = 16  # first field after the header: PyFloatObject.ob_fval, the first slot of a class with __slots__
ARRAY_DATA = 16
ARRAY_NDIM = 24
ARRAY_SHAPE = 32
ARRAY_STRIDES = 40
ARRAY_DESCR = 56
ARRAY_FLAGS = 64
DESCR_BYTEORDER = 26
DESCR_TYPE = 28

FLAG_C_CONTIGUOUS = 0x0001
FLAG_ALIGNED = 0x0100
FLAG_WRITEABLE = 0x0400


class Handle:
    """What an entry is bound to. Its first slot is read natively, the second keeps everything alive and visible to
    the garbage collector."""

    __slots__ = ("data", "keep")  # slots are laid out by name

    data: Any
    keep: Any

    def __init__(self, data: Any, keep: Any) -> None:
        self.data = data
        self.keep = keep


def array_api() -> Any:
    """NumPy's table of C functions, as an array of pointers."""
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype = ctypes.c_void_p
    get.argtypes = [ctypes.py_object, ctypes.c_char_p]
    capsule = np._core.multiarray._ARRAY_API  # type: ignore[attr-defined]
    return ctypes.cast(get(capsule, None), ctypes.POINTER(ctypes.c_void_p))


API_ARRAY_TYPE = 2
API_NEW_FROM_DESCR = 94


def recognised() -> bool:
    """Whether the objects of this interpreter and this NumPy lie in memory as assumed above."""
    if sys.implementation.name != "cpython" or sys.byteorder != "little" or ctypes.sizeof(ctypes.c_void_p) != WORD:
        return False
    if sysconfig.get_config_var("Py_GIL_DISABLED") or hasattr(sys, "gettotalrefcount"):
        return False
    base = np.arange(24, dtype=np.float64).reshape(2, 3, 4)
    samples = [base, base[:, ::2], base.T, base.astype(">f4"), np.zeros((), np.int8), np.zeros((0, 5), np.bool_)]
    return array_api()[API_ARRAY_TYPE] == id(np.ndarray) and all(map(_array_as_assumed, samples)) and _rest_as_assumed()


def _array_as_assumed(array: np.ndarray[Any, Any]) -> bool:
    address, dtype = id(array), array.dtype
    size, number = ctypes.c_int64.from_address, ctypes.c_int32.from_address
    return (
        size(address + OBJECT_TYPE).value == id(np.ndarray)
        and size(address + ARRAY_DATA).value == array.ctypes.data
        and number(address + ARRAY_NDIM).value == array.ndim
        and _sizes(size(address + ARRAY_SHAPE).value, array.ndim) == array.shape
        and _sizes(size(address + ARRAY_STRIDES).value, array.ndim) == array.strides
        and size(address + ARRAY_DESCR).value == id(dtype)
        and number(address + ARRAY_FLAGS).value == array.flags.num
        and ctypes.c_char.from_address(id(dtype) + DESCR_BYTEORDER).value == dtype.byteorder.encode()
        and number(id(dtype) + DESCR_TYPE).value == dtype.num
    )


def _sizes(address: int, count: int) -> tuple[int, ...]:
    return tuple((ctypes.c_int64 * count).from_address(address)) if count else ()


def _rest_as_assumed() -> bool:
    handle, number, scalar = Handle([1], [2]), 1.5, np.float64(2.5)
    value = ctypes.c_double.from_address
    return (
        ctypes.c_int64.from_address(id(handle) + OBJECT_VALUE).value == id(handle.data)
        and value(id(number) + OBJECT_VALUE).value == number
        and value(id(scalar) + OBJECT_VALUE).value == scalar
        and ctypes.c_int64.from_address(id(number) + OBJECT_TYPE).value == id(float)
    )
