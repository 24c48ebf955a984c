"""The entry in Python: the same checks, frames and results as the native one, for interpreters and NumPy builds whose
objects are laid out otherwise (free-threaded and debug builds, PyPy). Steps still run natively."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from symgraph.runtime.native import Argument, State
    from symgraph.runtime.native_layout import Handle


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
        scratch = block.ctypes.data + 8 * plan.template.size
        execute = state.runtime.execute if plan.release_gil else state.runtime.execute_with_gil
        code = execute(state.address, block.ctypes.data, scratch)
        if code:
            step = int(block[8 * plan.template.size :][:8].view(np.int64)[0])
            return state.failed(step, code, args)
        if state.returns is None:
            return None
        chosen = (state.returns,) if isinstance(state.returns, int) else state.returns
        results = [outputs[k] if k >= 0 else args[-1 - k] for k in chosen]
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
