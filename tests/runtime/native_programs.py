"""Hand-made kernels and programs for the tests of the native runtime."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from symgraph.runtime.native import Argument, NativeProgram, Output
from symgraph.runtime.objects import emit_object, load_object

_KERNEL = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.POINTER(ctypes.c_int64), ctypes.c_int64, ctypes.c_int64)


class PythonKernel:
    """A kernel(args, lo, hi) written in Python; it takes the GIL, in whatever thread it is called."""

    def __init__(self, function: Callable[[Any, int, int], int]) -> None:
        self.callback = _KERNEL(function)
        self.address = ctypes.cast(self.callback, ctypes.c_void_p).value or 0


LOOP = """
define i64 @{name}(ptr %args, i64 %lo, i64 %hi) {{
entry:
  %x = load ptr, ptr %args
  %q = getelementptr i64, ptr %args, i64 1
  %y = load ptr, ptr %q
  %r = getelementptr i64, ptr %args, i64 2
  %c = load double, ptr %r
  br label %head
head:
  %i = phi i64 [ %lo, %entry ], [ %j, %body ]
  %more = icmp slt i64 %i, %hi
  br i1 %more, label %body, label %done
body:
  %a = getelementptr double, ptr %x, i64 %i
  %b = getelementptr double, ptr %y, i64 %i
  %v = load double, ptr %a
  %w = {operation} double %v, %c
  store double %w, ptr %b
  %j = add i64 %i, 1
  br label %head
done:
  ret i64 0
}}
"""

FAIL = """
define i64 @fail(ptr %args, i64 %lo, i64 %hi) {
  %code = load i64, ptr %args
  ret i64 %code
}
"""


@cache
def kernels() -> dict[str, int]:
    """add and scale: y[i] = x[i] + c, x[i] * c, with words x, y, c. fail: returns its first word."""
    text = LOOP.format(name="add", operation="fadd") + LOOP.format(name="scale", operation="fmul") + FAIL
    return load_object(emit_object(text), ["add", "scale", "fail"])


def bits(value: float) -> int:
    return int(np.float64(value).view(np.int64))


def unexpected(*args: Any) -> Any:
    raise AssertionError(f"neither slow nor failed was to be called: {args}")


def affine(
    slow: Callable[..., Any] = unexpected, failed: Callable[..., Any] = unexpected, *, destination: bool = False
) -> NativeProgram:
    """y = (x + 1) * 2 for x: float64[n], by way of the arena; with `destination` into a second argument.

    Frame: 0 x, 1 y, 2 temporary, 3 n, 4 chunks, 5 one, 6 two.
    """
    add, scale = kernels()["add"], kernels()["scale"]
    arguments = [Argument(np.float64, ((1, 0),), 0)]
    if destination:
        arguments.append(Argument(np.float64, ((2, 0),), 1, destination=True))
    return NativeProgram(
        steps=[[add, 3, 0, 3, 4], [scale, 3, 3, 3, 4]],
        argwords=[0, 2, 5, 2, 1, 6],
        arguments=arguments,
        outputs=[] if destination else [Output(np.float64, (3,), 1)],
        returns=-2 if destination else 0,
        slow=slow,
        failed=failed,
    )


def install_affine(program: NativeProgram, n: int, chunks: int = 1, release_gil: bool = True) -> None:
    program.install_plan((n,), [0, 0, 0, n, chunks, bits(1.0), bits(2.0)], 8 * n, [2], release_gil)


def planned_affine(chunks: int = 1, release_gil: bool = True) -> NativeProgram:
    """The same program with a `slow` that makes the plan for any array and calls the entry again."""
    program: NativeProgram

    def slow(args: tuple[Any, ...]) -> Any:
        (x,) = args
        x = np.ascontiguousarray(x, np.float64)
        install_affine(program, x.size, chunks, release_gil)
        return program.entry(x)

    program = affine(slow)
    return program
