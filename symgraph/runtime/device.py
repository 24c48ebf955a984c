"""Where a program runs: the executable for its target, and what has to be there for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from numpy.typing import NDArray

from symgraph.errors import MissingDeviceError
from symgraph.runtime.program import Executable, Program

Prepare = Callable[[tuple[Any, ...]], list[NDArray[Any]]]


class Runs(Protocol):
    """A program that can be called."""

    @property
    def entry(self) -> Callable[..., Any]:
        """Run on arrays: the inputs, shared variables, and the arrays that updates are written into."""

    def free(self) -> None:
        """Give back the memory that is kept for the next call."""


def require(target: str) -> None:
    """Raise :class:`~symgraph.errors.MissingDeviceError` where ``target`` cannot run: it says what is missing."""
    if target != "cuda":
        return
    from symgraph.emit.numba_cuda import simulated

    if simulated():
        return
    missing = _missing()
    if missing:
        raise MissingDeviceError(f"target 'cuda': {missing}; target='cpu' runs the same graph on the processor")


def _missing() -> str:
    """What keeps CUDA programs from running here, and what to install; empty where nothing does."""
    from numba import cuda

    try:
        available = cuda.is_available()
    except Exception as error:  # whatever a broken driver raises
        return f"the CUDA driver does not start: {error}"
    if not available:
        reason = str(getattr(cuda, "cuda_error", lambda: "")() or "")
        if "cannot be found" in reason:
            return "there is no NVIDIA driver: install the driver of your GPU (version 580 or later)"
        return f"there is no NVIDIA GPU that the driver can use ({' '.join(reason.split())})"
    return ""


def executable(program: Program, prepare: Prepare, single: bool) -> Runs:
    """What runs ``program``. ``single``: a call returns one array, not a list."""
    if program.target == "cpu":
        return Executable(program, prepare, single)
    from symgraph.emit.numba_cuda import simulated

    if simulated():
        from symgraph.runtime.simulated import SimulatedExecutable

        return SimulatedExecutable(program, prepare, single)
    raise MissingDeviceError("target 'cuda' runs in Numba's simulator only so far (NUMBA_ENABLE_CUDASIM=1)")
