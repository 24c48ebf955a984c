"""Host steps: an op's own code as a kernel, ``int64 kernel(const int64 *args, int64 lo, int64 hi)``.

A NumPy step is a callback that takes the interpreter lock by itself: it lends the function read-only views of the
step's operands and copies the results in. A step that Numba compiled runs without the lock, like any kernel.

In a program for a GPU the operands are copied to the host and the results back (:meth:`HostCode.run_on`), which waits
for all that was started before.
"""

from __future__ import annotations

import ctypes
import math
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from symgraph.errors import HostError
from symgraph.graph import Apply, Variable
from symgraph.ops.batched import Jitted
from symgraph.passes.library import HostCall
from symgraph.runtime.checks import lines
from symgraph.runtime.interpreter import run_node
from symgraph.runtime.interrupts import uninterrupted
from symgraph.runtime.sizes import parameter_atoms, shape_of
from symgraph.types import Atom, Dim, Size, atoms

if TYPE_CHECKING:
    from symgraph.runtime.arrays import Device

FAILED: Final = 1
_ALIGNED: Final = 16
_CALLBACK: Final = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)


class HostCode:
    """What runs a host step: the words it wants, and, once it is loaded, its address."""

    def __init__(self, call: HostCall) -> None:
        self.node: Apply = call.node
        self.tensors: tuple[Variable, ...] = (*self.node.inputs, *self.node.outputs)
        self.jitted: Jitted | None = self.node.op.jitted() if self.node.op.host == "numba" else None  # type: ignore[attr-defined]
        self.atoms: list[Atom] = [] if self.jitted else _atoms(self.node)
        sizes = (
            [s for v in self.tensors for s in v.type.shape] if self.jitted else [Dim((((a,), 1),)) for a in self.atoms]
        )
        self.bindings: list[Variable | Size] = [*self.tensors, *sizes]
        self.extent: Size = self.jitted.extent(self.node) if self.jitted else 1
        self._raised = threading.local()
        self._keep: Any = None
        self.address = 0

    def load(self) -> int:
        """Compile or wrap the code; its address is valid as long as this object lives."""
        if self.jitted is not None:
            from symgraph.emit.numba_host import compile_step

            with uninterrupted():
                self.address, self._keep = compile_step(self.jitted, self.node)
        else:
            self._keep = _CALLBACK(self._run)
            self.address = ctypes.cast(self._keep, ctypes.c_void_p).value or 0
        return self.address

    def run_on(self, device: Device, extent: int, values: Sequence[Any], stream: int) -> None:
        """Run the step for operands in the memory of ``device``: copies them here, and the results back.

        ``values`` are what :attr:`bindings` stand for, a :class:`~symgraph.runtime.arrays.Span` for each tensor.
        Raises what :meth:`fail` returns.
        """
        spans = values[: len(self.tensors)]
        arrays = [np.empty(-(-s.nbytes // _ALIGNED), np.complex128) for s in spans]  # aligned for any dtype
        count = len(self.node.inputs)
        for span, array in zip(spans[:count], arrays, strict=False):
            if span.nbytes:
                device.download(array.view(np.uint8)[: span.nbytes], span.address, stream)
        device.synchronize(stream)
        words = (ctypes.c_int64 * len(values))(*(a.ctypes.data for a in arrays), *values[len(spans) :])
        if _CALLBACK(self.address)(ctypes.addressof(words), 0, extent):
            raise self.fail()
        for span, array in zip(spans[count:], arrays[count:], strict=True):
            if span.nbytes:
                device.upload(span.address, array.view(np.uint8)[: span.nbytes], stream)

    def _run(self, words: int, low: int, high: int) -> int:
        # No exception may pass through native code: it is kept, and raised by `fail` when the program has ended.
        try:
            self._compute((ctypes.c_int64 * len(self.bindings)).from_address(words)[:])
        except BaseException as error:
            self._raised.error = error
            return FAILED
        return 0

    def _compute(self, words: Sequence[int]) -> None:
        node, count = self.node, len(self.node.inputs)
        env = dict(zip(self.atoms, words[len(self.tensors) :], strict=True))
        given = [_view(v, a, shape_of(v.type.shape, env)) for v, a in zip(node.inputs, words[:count], strict=True)]
        for array, address in zip(run_node(node, given, env), words[count : len(self.tensors)], strict=True):
            ready = np.ascontiguousarray(array)
            ctypes.memmove(address, ready.ctypes.data, ready.nbytes)

    def fail(self) -> BaseException:
        """The error of the call that has just failed in this thread."""
        error: BaseException | None = self._raised.__dict__.pop("error", None)
        if error is not None:
            return error
        return HostError(
            f"{self.node.op}: the compiled function raised an exception; with target='numpy' it runs in Python, which "
            f"tells which and where   {lines([self.node])}"
        )


def _atoms(node: Apply) -> list[Atom]:
    """The sizes that the types and the static parameters of a node are made of."""
    found = {a: None for v in (*node.inputs, *node.outputs) for s in v.type.shape for a in atoms(s) if not a.fn}
    found.update(dict.fromkeys(parameter_atoms(node.op)))
    return list(found)


def _view(v: Variable, address: int, shape: tuple[int, ...]) -> NDArray[Any]:
    """The elements at ``address``, read-only and only valid during the call."""
    nbytes = math.prod(shape) * v.type.dtype.itemsize
    if not nbytes:
        return np.empty(shape, v.type.dtype)
    memory: Any = (ctypes.c_char * nbytes).from_address(address)
    array: NDArray[Any] = np.frombuffer(memory, v.type.dtype).reshape(shape)
    array.flags.writeable = False
    return array
