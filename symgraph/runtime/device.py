"""Where a program runs: the executable for its target, and what has to be there for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from symgraph.errors import FormatError, MissingDeviceError
from symgraph.runtime.program import Executable, Program

if TYPE_CHECKING:
    from symgraph.runtime.arrays import Device, DeviceArray

Prepare = Callable[[tuple[Any, ...]], list[NDArray[Any]]]
DRIVERS = {12: "525", 13: "580"}
"""The oldest driver that runs what is made for a major version of CUDA (CUDA Compatibility, "Minor version")."""
CAPABILITIES = {12: (7, 0), 13: (7, 5)}
"""The oldest GPU that each makes code for."""


class Runs(Protocol):
    """A program that can be called."""

    @property
    def entry(self) -> Callable[..., Any]:
        """Run on arrays: the inputs, shared variables, and the arrays that updates are written into."""

    def free(self) -> None:
        """Give back the memory that is kept for the next call."""


def require(target: str, **gpu_only: Any) -> None:
    """Raise :class:`~symgraph.errors.MissingDeviceError` where ``target`` cannot run: it says what is missing.

    ``gpu_only`` are options that other targets have no use for: a :class:`~symgraph.errors.FormatError` where they are
    given to one.
    """
    if target != "cuda":
        given = [f"{name}={value!r}" for name, value in gpu_only.items() if value is not None]
        if given:
            raise FormatError(f"{', '.join(given)}: only target 'cuda' takes it, got target {target!r}")
        return
    from symgraph.emit.numba_cuda import simulated

    if simulated():
        return
    missing = _missing()
    if missing:
        raise MissingDeviceError(f"target 'cuda': {missing}; target='cpu' runs the same graph on the processor")


def _missing() -> str:
    """What keeps CUDA programs from running here, and what to install; empty where nothing does."""
    from symgraph.emit.numba_cuda import INSTALL

    try:
        from cuda.bindings import __version__, driver, nvjitlink, nvvm
    except ImportError as absent:
        return f"the Python bindings of CUDA are not installed ({absent}): {INSTALL}"
    major = int(__version__.split(".")[0])
    wanted = DRIVERS.get(major, DRIVERS[max(DRIVERS)])
    install = f"install NVIDIA's driver {wanted} or later"
    try:
        status, version = driver.cuDriverGetVersion()
    except RuntimeError:  # the library of the driver is not found
        return f"there is no NVIDIA driver: {install}"
    if int(status) or version // 1000 < major:
        has = f"CUDA {version // 1000}.{version % 1000 // 10}"
        return f"the NVIDIA driver is too old: it has {has}, wanted CUDA {major}.0: {install}"
    (status,) = driver.cuInit(0)
    if status == driver.CUresult.CUDA_ERROR_NO_DEVICE:
        return "there is no NVIDIA GPU that the driver can use (CUDA_VISIBLE_DEVICES hides those that it does not name)"
    if int(status):
        return f"the NVIDIA driver does not start: {driver.cuGetErrorString(status)[1].decode()}: {install}"
    _, count = driver.cuDeviceGetCount()
    if not count:
        return "there is no NVIDIA GPU that the driver can use (CUDA_VISIBLE_DEVICES hides those that it does not name)"
    attribute = driver.CUdevice_attribute
    found = tuple(
        driver.cuDeviceGetAttribute(which, driver.cuDeviceGet(0)[1])[1]
        for which in (
            attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
            attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
        )
    )
    least = CAPABILITIES.get(major, CAPABILITIES[max(CAPABILITIES)])
    if found < least:
        return (
            f"the GPU is too old: compute capability {found[0]}.{found[1]}, and CUDA {major} makes code for "
            f"{least[0]}.{least[1]} and later"
        )
    try:
        nvvm.version(), nvjitlink.version()
    except RuntimeError as broken:
        return f"NVVM or nvJitLink, which make the machine code, are not installed ({_first(broken)}): {INSTALL}"
    return ""


def _first(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:120]


@cache
def the_device() -> Device:
    """The GPU that programs run on: the simulator's, or the first that the driver shows."""
    from symgraph.emit.numba_cuda import simulated

    if simulated():
        from symgraph.runtime.simulated import SimulatedDevice

        return SimulatedDevice()
    from symgraph.runtime.driver import HardwareDevice

    return HardwareDevice(0)


def to_device(value: Any, stream: Any = None) -> DeviceArray:
    """A copy of an array in the memory of the GPU, for functions of target ``"cuda"``.

    Args:
        value: anything that ``numpy.asarray`` takes.
        stream: the stream that works with it first, as of :func:`symgraph.function`.

    Raises:
        MissingDeviceError: there is no GPU.
        DTypeError: there are no graphs of this dtype.
    """
    from symgraph.runtime.arrays import handle, uploaded
    from symgraph.types import as_dtype

    require("cuda")
    array = np.asarray(value)
    return uploaded(np.asarray(array, as_dtype(array.dtype)), the_device(), handle(stream))


def executable(program: Program, prepare: Prepare, single: bool, **options: Any) -> Any:
    """What runs ``program``, a :class:`Runs`. ``single``: a call returns one array, not a list.

    ``options`` are those of a GPU: :class:`symgraph.runtime.gpu.Options`.
    """
    if program.target == "cpu":
        return Executable(program, prepare, single)
    from symgraph.runtime.gpu import GpuExecutable, Options

    return GpuExecutable(program, prepare, single, the_device(), Options(**options))
