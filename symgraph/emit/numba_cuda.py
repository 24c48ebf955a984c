"""Compile kernels for NVIDIA GPUs with Numba-CUDA: Python source in, PTX out. Needs no GPU.

::

    ptx(source, name, params, cc=(9, 0)) -> str        PTX for a compute capability
    ptx_of_each(source, name, params, ccs) -> dict     PTX for several
    capabilities() -> list                             the compute capabilities that there is PTX for
    python_kernel(source, name) -> function            the kernel as Numba's simulator runs it
    simulated() -> bool                                whether the simulator runs the kernels of this process
    in_simulator() -> bool                             the same, and no error where numba-cuda is not installed
    vocabulary() -> Mapping[str, object]               the names that kernels may use

A kernel's parameters are typed: pointers to the elements of C-contiguous buffers, sizes (int64), and constants.
Floating point is IEEE strict: no fast-math, and no contraction of a product and a sum into one operation, so that
results differ from the CPU's only where libdevice's functions and the order of reductions do. Raises
:class:`KernelError` for a source that does not compile.
"""

from __future__ import annotations
import __future__ as future

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from types import FunctionType, MappingProxyType
from typing import Any

import numpy as np

from symgraph.errors import MissingDeviceError
from symgraph.loop.ir import Param

INSTALL = "pip install 'symgraph-compiler[cuda]'"


def _cuda() -> Any:
    """The module ``numba.cuda`` of the package numba-cuda; raises where it is not installed."""
    try:
        import numba_cuda as _  # noqa: F401  it takes the place of Numba's own numba.cuda, which lacks what is used here
        from numba import cuda
    except ImportError as error:
        raise MissingDeviceError(f"target 'cuda' needs numba-cuda, which is not installed: {INSTALL}") from error
    return cuda


def simulated() -> bool:
    """Whether Numba's CUDA simulator runs the kernels of this process (``NUMBA_ENABLE_CUDASIM=1``)."""
    return bool(_cuda().config.ENABLE_CUDASIM)


@cache
def in_simulator() -> bool:
    """As :func:`simulated`; and ``False`` where numba-cuda is not installed."""
    try:
        return simulated()
    except MissingDeviceError:
        return False


@cache
def vocabulary() -> Mapping[str, Any]:
    """Return the names that kernels may use."""
    _cuda()
    from symgraph_kernels.cuda.threads import VOCABULARY

    return MappingProxyType(VOCABULARY)


def python_kernel(source: str, name: str) -> FunctionType:
    """Return the kernel as a Python function, whose globals are the vocabulary."""
    namespace: dict[str, Any] = dict(vocabulary())
    flags = future.annotations.compiler_flag  # the types in the header are for the reader
    exec(compile(source, f"<{name}>", "exec", flags=flags, dont_inherit=True), namespace)
    made: FunctionType = namespace[name]
    return made


def signature(params: Sequence[Param]) -> tuple[Any, ...]:
    """Return the Numba types of a kernel's parameters."""
    from numba.cuda import types

    from symgraph_kernels.cuda.define import MEMORY, TYPES

    return tuple(types.CPointer(MEMORY[p.dtype.name]) if p.kind == "buffer" else TYPES[p.dtype.name] for p in params)


def capabilities() -> list[tuple[int, int]]:
    """The compute capabilities that NVVM knows."""
    if simulated():
        raise MissingDeviceError("the simulator compiles nothing: unset NUMBA_ENABLE_CUDASIM for PTX")
    from numba.cuda.cudadrv.nvrtc import get_supported_ccs

    return list(get_supported_ccs())


def ptx(source: str, name: str, params: Sequence[Param], cc: tuple[int, int], fma: bool = False) -> str:
    """Return a kernel's PTX for compute capability ``cc``. ``fma``: contract products and sums."""
    return ptx_of_each(source, name, params, (cc,), fma)[cc]


def ptx_of_each(
    source: str, name: str, params: Sequence[Param], ccs: Sequence[tuple[int, int]], fma: bool = False
) -> dict[tuple[int, int], str]:
    """Return a kernel's PTX for each of several compute capabilities, from 7.0 on, at the cost of one and a bit.

    What Numba makes for NVVM is the same for all of these, so only NVVM runs once for each.
    """
    _cuda()
    from numba.core.errors import NumbaError
    from numba.cuda import compiler, types
    from numba.cuda.core.errors import NumbaError as CudaError

    from symgraph.emit.numba_cpu import KernelError

    if simulated():
        raise MissingDeviceError("the simulator compiles nothing: unset NUMBA_ENABLE_CUDASIM for PTX")
    try:
        # As numba.cuda.compile, which has no way to say fma=False.
        made = compiler.compile_cuda(
            python_kernel(source, name),
            types.void,
            signature(params),
            nvvm_options={"opt": 3, "fma": int(fma)},
            cc=ccs[0],
            abi_info={"abi_name": name},
        )
        library = made.library
        kernel = library.get_function(made.fndesc.llvm_func_name)
        library._entry_name = kernel.name
        compiler.kernel_fixup(kernel, False)
        texts = {cc: library.get_asm_str(cc=cc) for cc in ccs}
    except (NumbaError, CudaError, SyntaxError, NameError) as error:
        raise KernelError(f"{error}\nin the source\n{source}") from error
    return {cc: text.replace(kernel.name, name) for cc, text in texts.items()}


@cache
def _launcher(source: str, name: str) -> Any:
    from numba import cuda

    kernel = python_kernel(source, name)
    kernel.__globals__["np"] = np

    def launch(*args: Any) -> None:
        with np.errstate(all="ignore"):  # in each thread: the state of one is not inherited
            kernel(*args)

    # The simulator puts the running launch in the place of `cuda` in the globals of the function that it starts.
    return cuda.jit(FunctionType(launch.__code__, kernel.__globals__, name, None, launch.__closure__))


def simulate(source: str, name: str, grid: tuple[int, int], block: tuple[int, int], args: Sequence[Any]) -> None:
    """Run a kernel in Numba's simulator, on flat NumPy arrays and scalars."""
    run: Callable[..., None] = _launcher(source, name)[grid, block]
    run(*args)
