"""The entry in Python: the same checks, frames and results as the native one, for interpreters and NumPy builds whose
objects are laid out otherwise (free-threaded and debug builds, PyPy). Steps still run natively."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from symgraph.runtime.native import Argument, InstalledPlan, State
    from symgraph.runtime.native_layout import Handle


@dataclass
class Call:
    """The memory of one call: its frame and arena, and the arrays that the frame points into."""

    block: npt.NDArray[np.uint8]
    frame: npt.NDArray[np.int64]
    scratch: int  # address of the words behind the frame
    held: list[npt.NDArray[Any]]
    outputs: list[npt.NDArray[Any]]

    @property
    def address(self) -> int:
        """Of the frame."""
        return int(self.block.ctypes.data)


def lay_out(state: State, plan: InstalledPlan, args: Sequence[Any]) -> Call:
    """The frame of a call with arguments that :func:`bind` takes, all words set, and its outputs, not yet computed."""
    block = np.empty(plan.bytes + 64, np.uint8)
    block = block[-block.ctypes.data % 64 :]
    frame = block[: 8 * plan.template.size].view(np.int64)
    frame[:] = plan.template
    frame[plan.relocations] += block.ctypes.data + plan.head
    held = [np.asarray(value, argument.dtype) for argument, value in zip(state.arguments, args, strict=True)]
    for argument, array in zip(state.arguments, held, strict=True):
        if argument.word >= 0:
            frame[argument.word] = array.ctypes.data
    outputs = [np.empty([int(frame[word]) for word in output.sizes], output.dtype) for output in state.outputs]
    for output, array in zip(state.outputs, outputs, strict=True):
        if output.word >= 0:
            frame[output.word] = array.ctypes.data
    return Call(block, frame, int(block.ctypes.data) + 8 * plan.template.size, held, outputs)


def entry_python(handle: Handle) -> Callable[..., Any]:
    """entry(*args) for the program whose state the handle keeps."""

    def entry(*args: Any) -> Any:
        state: State = handle.keep
        dims = bind(state.arguments, args)
        plan = None if dims is None else state.plans.get(dims)
        if plan is None:
            return state.slow(args)
        if plan.parallel:
            state.runtime.pool.start()
        call = lay_out(state, plan, args)
        execute = state.runtime.execute if plan.release_gil else state.runtime.execute_with_gil
        code = execute(state.address, call.address, call.scratch)
        if code:
            step = int(call.block[8 * plan.template.size :][:8].view(np.int64)[0])
            return state.failed(step, code, args)
        if state.returns is None:
            return None
        chosen = (state.returns,) if isinstance(state.returns, int) else state.returns
        results = [call.outputs[k] if k >= 0 else args[-1 - k] for k in chosen]
        return results[0] if isinstance(state.returns, int) else results

    return entry


def bind(arguments: tuple[Argument, ...], args: tuple[Any, ...]) -> tuple[int, ...] | None:
    """The dim values, or None when an argument is not as the program wants it."""
    if len(args) != len(arguments):
        return None
    slots: dict[int, int] = {}
    for argument, value in zip(arguments, args, strict=True):
        dtype = np.dtype(argument.dtype)
        if (
            not argument.axes
            and not argument.destination
            and dtype == np.float64
            and type(value) in (float, np.float64)
        ):
            continue
        if type(value) is not np.ndarray or value.dtype != dtype or value.ndim != len(argument.axes):
            return None
        if not (value.flags.c_contiguous and value.flags.aligned) or (
            argument.destination and not value.flags.writeable
        ):
            return None
        for size, (kind, wanted) in zip(value.shape, argument.axes, strict=True):
            if kind == 1:
                slots[wanted] = size
            elif size != (wanted if kind == 0 else slots[wanted]):
                return None
    return tuple(slots[i] for i in range(len(slots)))
