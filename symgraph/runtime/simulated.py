"""CUDA programs in Numba's simulator: each thread of a launch is a thread of Python. For tests: a few threads suffice.

Arrays are NumPy's. Intermediate results lie in one arena, where the memory plan puts them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symgraph.emit.numba_cuda import simulate
from symgraph.graph import Constant, Variable
from symgraph.loop.schedule import ErrorWord
from symgraph.passes.memory import ALIGNMENT, Buffer, assign_offsets
from symgraph.runtime.launch import Limits, dimensions
from symgraph.runtime.program import Plan, Program, ProgramStep, index_error
from symgraph.runtime.sizes import Env, bind_sizes, resolve, settle, shape_of
from symgraph.types import Dim

LIMITS = Limits(threads=4, blocks=2, alone=True)
"""Few threads, and more than one of each kind."""


class Elements:
    """What a pointer to a buffer's elements is in the simulator, which copies arrays: two that are one would part.

    An index that no element has, a negative one among them, is an error.
    """

    __slots__ = ("array", "label")

    def __init__(self, array: NDArray[Any], label: str) -> None:
        self.array = array
        self.label = label

    def __getitem__(self, at: int) -> Any:
        self._check(at)
        return self.array[at]

    def __setitem__(self, at: int, value: Any) -> None:
        self._check(at)
        self.array[at] = value

    def _check(self, at: int) -> None:
        if not 0 <= at < self.array.size:
            raise IndexError(f"{self.label}: no element {at} of {self.array.size}")


class SimulatedExecutable:
    """A program that Numba's CUDA simulator runs."""

    def __init__(
        self, program: Program, prepare: Callable[[tuple[Any, ...]], list[NDArray[Any]]], single: bool
    ) -> None:
        self.program = program
        self._prepare = prepare
        self._single = single

    def entry(self, *args: Any) -> Any:
        """Run on arrays: the inputs, shared variables, and the arrays that updates are written into."""
        program = self.program
        arrays = self._prepare(args)
        count = len(program.arguments)
        env = bind_sizes(program.arguments, arrays[:count])
        settle([(c.got, c.wanted) for c in program.checks if not c.at_least], env)
        for check in program.checks:
            check.verify(env)
        values: dict[Any, NDArray[Any]] = dict(zip(program.arguments, arrays[:count], strict=True))
        values |= zip(program.destinations, arrays[count:], strict=True)
        returned = [v for v in program.outputs if v not in program.destinations]
        for v in returned:
            values[v] = np.empty(shape_of(v.type.shape, env), v.type.dtype)
        values |= self._arena(env)
        with _quick_switches():
            for s in program.steps:
                self._step(s, values, env)
        if self._single:
            return values[returned[0]]
        return [values[v] for v in returned]

    def free(self) -> None:
        """Nothing is kept."""

    def _arena(self, env: Env) -> dict[Buffer, NDArray[Any]]:
        buffers = [b for b in self.program.memory.buffers if not b.output]
        sizes = [resolve(b.size, env) for b in buffers]
        offsets, total = assign_offsets([(b.first, b.last, n) for b, n in zip(buffers, sizes, strict=True)])
        raw = np.empty(total + ALIGNMENT, np.uint8)
        start = -raw.ctypes.data % ALIGNMENT
        tensors = sum(resolve(v.type.size, env) * v.type.dtype.itemsize for v in self.program.memory.of)
        self.program.last_plan = Plan(env, total, dict(zip(buffers, offsets, strict=True)), tensors)
        return {b: raw[start + o : start + o + n] for b, o, n in zip(buffers, offsets, sizes, strict=True)}

    def _step(self, s: ProgramStep, values: dict[Any, NDArray[Any]], env: Env) -> None:
        assert s.launch is not None
        assert s.loops is not None
        error = np.zeros(1, np.int32)
        where = dimensions(s.launch, env, LIMITS)
        pairs = zip(s.loops.params, s.bindings, strict=True)
        args = [self._word(s, p.name, b, values, env, error) for p, b in pairs]
        simulate(s.source, s.name, where.grid, where.block, args)
        if error[0]:
            raise index_error(s, int(error[0]), env)

    def _word(
        self, s: ProgramStep, name: str, bound: Any, values: dict[Any, NDArray[Any]], env: Env, error: NDArray[Any]
    ) -> Any:
        if isinstance(bound, Variable):
            flat = self._array(bound, values).reshape(-1).view(bound.type.dtype)
            return Elements(flat.view(np.uint8) if bound.type.dtype == bool else flat, f"{s.name}, {name}")
        if isinstance(bound, ErrorWord):
            return Elements(error, f"{s.name}, {name}")
        if isinstance(bound, int | Dim):
            return resolve(bound, env)
        return np.float32(bound) if bound.dtype == np.float16 else bound

    def _array(self, v: Variable, values: dict[Any, NDArray[Any]]) -> NDArray[Any]:
        if isinstance(v, Constant):
            return np.ascontiguousarray(v.data)
        buffer = self.program.memory.of.get(v)
        if buffer is None:
            return values[v]
        outside = next((u for u in buffer.variables if u in values), None)
        return values[buffer if outside is None else outside]


@contextmanager
def _quick_switches() -> Iterator[None]:
    """The simulator polls its threads: what waits for the interpreter lock should not wait long."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
