"""What a call costs: x + 1 on three floats through the native entry, beside NumPy, ctypes and the Python entry.

python benchmarks/call_overhead.py
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

from symgraph.runtime.native import Argument, NativeProgram, Output, load
from symgraph.runtime.objects import emit_object, load_object

KERNEL = """
define i64 @add_one(ptr %args, i64 %lo, i64 %hi) {
entry:
  %x = load ptr, ptr %args
  %p = getelementptr i64, ptr %args, i64 1
  %y = load ptr, ptr %p
  br label %head
head:
  %i = phi i64 [ %lo, %entry ], [ %j, %body ]
  %more = icmp slt i64 %i, %hi
  br i1 %more, label %body, label %done
body:
  %a = getelementptr double, ptr %x, i64 %i
  %b = getelementptr double, ptr %y, i64 %i
  %v = load double, ptr %a
  %w = fadd double %v, 1.0
  store double %w, ptr %b
  %j = add i64 %i, 1
  br label %head
done:
  ret i64 0
}
"""


def add_one(release_gil: bool) -> NativeProgram:
    """y = x + 1, with x: float64[n] and a plan for n = 3. Frame: x, y, n, one."""

    def refuse(*args: object) -> None:
        raise AssertionError(args)

    address = load_object(emit_object(KERNEL), ["add_one"])["add_one"]
    program = NativeProgram(
        steps=[[address, 2, 0, 2, 3]],
        argwords=[0, 1],
        arguments=[Argument(np.float64, ((1, 0),), 0)],
        outputs=[Output(np.float64, (2,), 1)],
        returns=0,
        slow=refuse,
        failed=refuse,
    )
    program.install_plan((3,), [0, 0, 3, 1], 0, release_gil=release_gil)
    return program


def microseconds(call: Callable[[], object], repeat: int = 7, number: int = 100_000) -> float:
    """The fastest of `repeat` runs of a loop, in microseconds per call, the empty loop taken off."""

    def loop(function: Callable[[], object]) -> float:
        start = time.perf_counter()
        for _ in range(number):
            function()
        return time.perf_counter() - start

    return min(loop(call) for _ in range(repeat)) / number * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=100_000, help="calls per timing")
    number = parser.parse_args().number
    start = time.perf_counter()
    load()
    print(f"runtime built without a cache           {1e3 * (time.perf_counter() - start):8.1f} ms")
    x = np.arange(3.0)
    held, released = add_one(False), add_one(True)
    np.testing.assert_array_equal(held.entry(x), x + 1)
    rows: list[tuple[str, Callable[[], object]]] = [
        ("native entry, GIL kept", lambda e=held.entry: e(x)),  # type: ignore[misc]
        ("native entry, GIL released", lambda e=released.entry: e(x)),  # type: ignore[misc]
        ("Python entry", lambda e=held.entry_python: e(x)),  # type: ignore[misc]
        ("NumPy x + 1", lambda: x + 1),
        ("np.empty(3)", lambda: np.empty(3)),
        ("empty lambda (included in all)", lambda: None),
    ]
    for name, call in rows:
        print(f"{name:<38}{microseconds(call, number=number):8.3f} us")


if __name__ == "__main__":
    main()
