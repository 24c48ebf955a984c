"""Python functions as callables of CUDA kernels, with the types of operands and result stated.

Numba-CUDA compiles a function called by a kernel for the GPU that is there. Here there may be none: so the callables
are intrinsics, which compile the function in the course of the kernel, for the kernel's compute capability.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any

from numba import cuda
from numba.cuda import types

SIMULATED: bool = bool(cuda.config.ENABLE_CUDASIM)
"""Whether Numba's CUDA simulator runs the kernels of this process."""

TYPES: dict[str, Any] = {
    "bool": types.boolean,
    **{f"{sign}int{bits}": getattr(types, f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)},
    "float16": types.float32,
    "float32": types.float32,
    "float64": types.float64,
}
"""dtype name -> Numba type of a value in a register: half precision is computed in float32, and rounded."""

MEMORY: dict[str, Any] = {**TYPES, "bool": types.uint8, "float16": types.float16}
"""dtype name -> Numba type of an element in memory."""


def specialized(function: Callable[..., Any], names: Mapping[str, Any]) -> FunctionType:
    """Return ``function`` with other globals: what it is written in, for one dtype."""
    assert isinstance(function, FunctionType)
    made = FunctionType(function.__code__, {"__builtins__": __builtins__, **names}, function.__name__)
    made.__module__ = function.__module__
    return made


def device(
    function: Callable[..., Any],
    result: Callable[..., Any] | str,
    names: Mapping[str, Any],
    accepts: Callable[..., bool] | None = None,
) -> Any:
    """Return a callable for kernels that runs ``function``, whose globals are ``names``.

    ``result`` is the dtype of the result, or a function from the operands' Numba types to it; ``None``: no result.
    """
    body = specialized(function, names)
    if SIMULATED:
        # The simulator puts the running launch in the place of `cuda` among a function's globals.
        return cuda.jit(device=True)(body) if "cuda" in names else body
    from numba.cuda.extending import intrinsic

    def finish(*operands: Any) -> Any:
        plain = [types.unliteral(t) for t in operands]
        made = TYPES[result] if isinstance(result, str) else result(*plain)

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return context.compile_internal(builder, body, signature, args)

        return made(*plain), codegen

    count = function.__code__.co_argcount
    typing = _TYPINGS[count](finish)
    typing.__name__ = typing.__qualname__ = function.__name__
    return intrinsic(typing)


# Numba takes the number of operands from the signature of the typing function.
_TYPINGS: list[Callable[[Any], Any]] = [
    lambda finish: lambda typing_context: finish(),
    lambda finish: lambda typing_context, a: finish(a),
    lambda finish: lambda typing_context, a, b: finish(a, b),
    lambda finish: lambda typing_context, a, b, c: finish(a, b, c),
]
