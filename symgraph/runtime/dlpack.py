"""DLPack capsules: a tensor's address, shape, strides and dtype, and who frees it, as C structures.

The structures are those of ``dlpack.h``; what a capsule is called, and who renames it, says the Python specification
for DLPack (https://dmlc.github.io/dlpack/latest/python_spec.html). Capsules are given out unversioned, which every
consumer takes, and taken in both forms.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, Final

import numpy as np

CPU: Final = 1
CUDA: Final = 2
CUDA_MANAGED: Final = 13

_CODES: Final = {"i": 0, "u": 1, "f": 2, "b": 6}
_DTYPES: Final = {
    (code, 8 * n): np.dtype(f"{kind}{n}")
    for kind, code in _CODES.items()
    for n in ((1,) if kind == "b" else (2, 4, 8) if kind == "f" else (1, 2, 4, 8))
}


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


_DELETER: Final = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _Managed(ctypes.Structure):
    _fields_ = (("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", _DELETER))


class _Versioned(ctypes.Structure):
    _fields_ = (
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", _DELETER),
        ("flags", ctypes.c_uint64),
        ("tensor", _Tensor),
    )


_NAME, _USED = b"dltensor", b"used_dltensor"
_NAME_VERSIONED, _USED_VERSIONED = b"dltensor_versioned", b"used_dltensor_versioned"

_DESTRUCTOR: Final = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_new = ctypes.pythonapi.PyCapsule_New
_new.restype, _new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, _DESTRUCTOR]
_set_name = ctypes.pythonapi.PyCapsule_SetName
_set_name.restype, _set_name.argtypes = ctypes.c_int, [ctypes.py_object, ctypes.c_char_p]


def _raw(name: str, result: Any) -> Any:
    """A function of the C API on a capsule's address: to a destructor the capsule is no object any more."""
    function = ctypes.PYFUNCTYPE(result, ctypes.c_void_p, ctypes.c_char_p)
    return function((name, ctypes.pythonapi))


_is_valid = _raw("PyCapsule_IsValid", ctypes.c_int)
_pointer = _raw("PyCapsule_GetPointer", ctypes.c_void_p)

# What a capsule shares with its consumer, by the address of the structure: kept until the deleter is called.
_given: dict[int, tuple[Any, ...]] = {}


@_DELETER
def _delete(address: int) -> None:
    done = _given.pop(address)[-1]
    done()


@_DESTRUCTOR
def _unused(capsule: int) -> None:
    if _is_valid(capsule, _NAME):
        _delete(_pointer(capsule, _NAME))


def give(
    address: int, shape: tuple[int, ...], dtype: np.dtype[Any], device: tuple[int, int], done: Callable[[], None]
) -> object:
    """A capsule for C-contiguous elements at ``address``. ``done`` is called when its consumer needs them no more."""
    ndim = len(shape)
    strides = [1] * ndim
    for k in range(ndim - 2, -1, -1):
        strides[k] = strides[k + 1] * max(shape[k + 1], 1)
    axes = ctypes.c_int64 * max(ndim, 1)
    extents, steps = axes(*shape), axes(*strides)
    tensor = _Tensor(
        address, *device, ndim, _CODES[dtype.kind], 8 * dtype.itemsize, 1, extents, steps, 0
    )  # pointers keep the arrays only as long as this object
    made = _Managed(tensor, None, _delete)
    at = ctypes.addressof(made)
    _given[at] = (made, extents, steps, done)
    return _new(at, _NAME, _unused)


class Taken:
    """What a capsule refers to. Its producer is told that it is not needed any more when this object goes.

    Attributes:
        address: of the first element.
        shape, dtype: as of an array.
        strides: in bytes.
        device: type and number.
    """

    def __init__(self, capsule: Any) -> None:
        versioned = bool(_is_valid(id(capsule), _NAME_VERSIONED))
        name, used = (_NAME_VERSIONED, _USED_VERSIONED) if versioned else (_NAME, _USED)
        at = _pointer(id(capsule), name)  # raises ValueError where there is no such capsule
        self._managed = (_Versioned if versioned else _Managed).from_address(at)
        if versioned and self._managed.major != 1:
            raise BufferError(f"DLPack {self._managed.major} is not known; wanted 1")
        t = self._managed.tensor
        dtype = _DTYPES.get((t.code, t.bits)) if t.lanes == 1 else None
        if dtype is None:
            raise BufferError(f"a DLPack dtype of code {t.code}, {t.bits} bits and {t.lanes} lanes has no equal here")
        self.dtype: np.dtype[Any] = dtype
        self.address: int = (t.data or 0) + t.byte_offset
        self.shape: tuple[int, ...] = tuple(t.shape[: t.ndim])
        if t.strides:
            self.strides = tuple(s * dtype.itemsize for s in t.strides[: t.ndim])
        else:
            self.strides = contiguous(self.shape, dtype.itemsize)
        self.device: tuple[int, int] = (t.device_type, t.device_id)
        _set_name(capsule, used)  # from here on the tensor is ours to give back
        self._at: int = at

    def __del__(self) -> None:
        at = getattr(self, "_at", 0)
        if at and self._managed.deleter:
            self._managed.deleter(at)


def contiguous(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """The strides, in bytes, of a C-contiguous array."""
    out = []
    step = itemsize
    for n in reversed(shape):
        out.append(step)
        step *= max(n, 1)
    return tuple(reversed(out))
