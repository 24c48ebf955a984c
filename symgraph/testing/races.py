"""Kernels of GPUs run lane by lane, in plain Python, to see what they must not do.

::

    run(source, name, grid, block, args) -> list[Fault]      runs a launch on NumPy arrays, and says what was wrong

What :mod:`symgraph.loop.check` proves of loops for all sizes is looked for here in one run, of whatever text:

* *bounds*: a load or store outside its buffer, below 0 too; a vector of elements that is not aligned.
* *race*: two lanes touch one element, one of them stores, and no barrier of their group lies in between: never between
  groups, so over the whole launch. Atomic additions may meet each other.
* *barrier*: some lanes of a group wait where others do not: these have ended, or wait elsewhere.
* *unwritten*: a load of shared memory, or of a buffer that is given as new, before anything is stored there.

``barrier()`` and the group functions of :mod:`symgraph_kernels.cuda.threads` become ``yield`` in the text, so that each
lane is a generator that is run from one barrier to the next, and the lanes of a group take turns. Groups run one after
the other, blocks too: where no fault is found, their order makes no difference. Combining the lanes' values orders no
memory here, since warp shuffles do not.

Scalar functions are those of Numba's CUDA simulator: ``NUMBA_ENABLE_CUDASIM=1``.
"""

from __future__ import annotations
import __future__ as future

import ast
import sys
from collections.abc import Callable, Collection, Generator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symgraph.emit.numba_cuda import simulated, vocabulary
from symgraph.errors import MissingDeviceError
from symgraph.loop.ir import Param
from symgraph.runtime.arrays import Span
from symgraph.runtime.launch import Dimensions, Limits
from symgraph.runtime.simulated import SimulatedDevice, _Kernel

Lane = Generator[tuple[str, int, tuple[Any, ...]], Any, None]
WARP = 32
_MANY = -1
"""More than one lane, or more than one group."""


@dataclass(frozen=True)
class Fault:
    """Something that a kernel must not do.

    Attributes:
        kind: ``bounds``, ``race``, ``barrier`` or ``unwritten``.
        what: which element and which lanes.
        line: of the kernel's text, the first of which is 1.
    """

    kind: str
    what: str
    line: int


@dataclass(frozen=True)
class New:
    """An argument of a kernel: a buffer in which nothing has been stored. ``stored``: 1 for each element that has."""

    array: NDArray[Any]
    stored: NDArray[np.uint8] | None = None


def run(
    source: str,
    name: str,
    grid: tuple[int, int],
    block: tuple[int, int],
    args: Sequence[Any],
    alike: Collection[int] = (),
) -> list[Fault]:
    """Run the launch of a kernel on flat arrays and numbers, which it changes, and return what was wrong, each once.

    Args:
        source: of the kernel, in Python.
        name: of its function.
        grid, block: of the launch; ``block[0]`` lanes are a group, a power of two.
        args: of the kernel: NumPy arrays of one axis, :class:`New`, numbers. Arrays may share memory.
        alike: the numbers of arguments in which lanes may store the same value at the same time.

    Raises:
        MissingDeviceError: Numba's simulator does not run in this process.
        ValueError: the lanes of a block are no power of two.
    """
    if block[0] & (block[0] - 1) or block[0] < 1:
        raise ValueError(f"{name}: {block[0]} lanes: wanted a power of two")
    launch = _Launch(source, name, grid, block)
    with np.errstate(all="ignore"):
        launch.run([_argument(launch, k, a, k in alike) for k, a in enumerate(args)])
    return list(launch.faults)


def _argument(launch: _Launch, number: int, a: Any, alike: bool) -> Any:
    if isinstance(a, New):
        stored = np.zeros(a.array.size, np.uint8) if a.stored is None else a.stored
        return _Watched(launch, a.array, launch.names[number], launch.cells, stored, alike)
    return _Watched(launch, a, launch.names[number], launch.cells, None, alike) if isinstance(a, np.ndarray) else a


# -- memory ------------------------------------------------------------------------------------------------------------


class _Cell:
    """Who stored an element last, and who loaded it: lane, group, and how many barriers the group had met."""

    __slots__ = ("atomic", "read_epoch", "read_group", "reader", "write_epoch", "write_group", "writer")

    def __init__(self) -> None:
        self.writer: int | None = None
        self.write_group = self.write_epoch = 0
        self.atomic = False
        self.reader: int | None = None
        self.read_group = self.read_epoch = 0


class _Watched:
    """A buffer in which each access is looked at. Elements are known by their addresses: buffers may share memory."""

    __slots__ = ("address", "alike", "array", "cells", "item", "label", "launch", "size", "stored")

    def __init__(
        self,
        launch: _Launch,
        array: NDArray[Any],
        label: str,
        cells: dict[int, _Cell],
        stored: NDArray[np.uint8] | None,
        alike: bool = False,
    ) -> None:
        self.launch, self.array, self.label, self.cells, self.stored, self.alike = (
            launch, array, label, cells, stored, alike,
        )  # fmt: skip
        self.size, self.item = array.size, array.itemsize
        self.address = int(array.ctypes.data)

    def inside(self, at: int, what: str) -> bool:
        if 0 <= at < self.size:
            return True
        self.launch.report("bounds", f"{what} {self.label}[{at}] of {self.size} elements")
        return False

    def __getitem__(self, at: int) -> Any:
        if not self.inside(at, "loads"):
            return self.array.dtype.type(0)
        if self.stored is not None and not self.stored[at]:
            self.launch.report("unwritten", f"loads {self.label}[{at}]")
        now, cell = self.launch, self.cell(at)
        lane, group, epoch = now.lane, now.group, now.epoch
        if cell.writer is not None and cell.writer != lane and (cell.write_group != group or cell.write_epoch == epoch):
            now.report("race", f"lane {lane} loads {self.label}[{at}], which lane {cell.writer} stores")
        if cell.reader is None:
            cell.reader, cell.read_group, cell.read_epoch = lane, group, epoch
        elif cell.read_group != group:
            cell.read_group = _MANY
        elif cell.read_epoch != epoch:
            cell.reader, cell.read_epoch = lane, epoch
        elif cell.reader != lane:
            cell.reader = _MANY
        return self.array[at]

    def __setitem__(self, at: int, value: Any) -> None:
        if self.inside(at, "stores"):
            self.note(at, False, self.alike and self.array[at] == value)
            self.array[at] = value

    def add(self, at: int, value: Any) -> None:
        """An atomic addition."""
        if self.inside(at, "adds to"):
            if self.stored is not None and not self.stored[at]:
                self.launch.report("unwritten", f"adds to {self.label}[{at}]")
            self.note(at, True, False)
            self.array[at] += value

    def note(self, at: int, atomic: bool, alike: bool) -> None:
        """That the running lane stores an element. ``alike``: what it has already."""
        now, cell = self.launch, self.cell(at)
        lane, group, epoch = now.lane, now.group, now.epoch
        meets = cell.writer is not None and cell.writer != lane and (
            cell.write_group != group or cell.write_epoch == epoch
        )  # fmt: skip
        if meets and not (atomic and cell.atomic) and not alike:
            now.report("race", f"lanes {cell.writer} and {lane} store {self.label}[{at}]")
        seen = cell.reader is not None and (
            cell.read_group != group or (cell.read_epoch == epoch and cell.reader != lane)
        )  # fmt: skip
        if seen:
            who = "other lanes load" if _MANY in (cell.reader, cell.read_group) else f"lane {cell.reader} loads"
            now.report("race", f"lane {lane} stores {self.label}[{at}], which {who}")
        cell.writer, cell.write_group, cell.write_epoch, cell.atomic = lane, group, epoch, atomic
        if self.stored is not None:
            self.stored[at] = 1

    def cell(self, at: int) -> _Cell:
        key = self.address + int(at) * self.item
        found = self.cells.get(key)
        if found is None:
            found = self.cells[key] = _Cell()
        return found

    def several(self, at: int, count: int) -> None:
        """``count`` neighbouring elements are moved at once."""
        if not self.aligned(at, count):
            self.launch.report("bounds", f"{count} elements from {self.label}[{at}] on are not aligned")

    def aligned(self, at: int, count: int) -> bool:
        return (self.address + int(at) * self.item) % (count * self.item) == 0


# -- lanes -------------------------------------------------------------------------------------------------------------


class _Launch:
    """A launch, and which of its lanes is running."""

    def __init__(self, source: str, name: str, grid: tuple[int, int], block: tuple[int, int]) -> None:
        self.grid, self.block = grid, block
        self.file = f"<{name}, lane by lane>"
        self.faults: dict[Fault, None] = {}
        self.places: set[tuple[str, int]] = set()
        self.cells: dict[int, _Cell] = {}
        self.shared: dict[int, _Watched] = {}  # of the running block, by the line that asks for it
        self.lane = self.group = self.epoch = 0
        self.at: tuple[int, ...] = (0, 0, 0, 0)  # block and thread of the running lane
        code, self.names = _generator(source, name, self.file)
        made: dict[str, Any] = {**vocabulary(), **self.words()}
        exec(code, made)
        self.kernel: Callable[..., Lane] = made[name]

    def report(self, kind: str, what: str) -> None:
        frame: Any = sys._getframe(1)
        while frame is not None and frame.f_code.co_filename != self.file:
            frame = frame.f_back
        self.fault(kind, what, frame.f_lineno if frame is not None else 0)

    def fault(self, kind: str, what: str, line: int) -> None:
        """Note what was wrong: the first of its kind at each line."""
        if (kind, line) not in self.places:
            self.places.add((kind, line))
            self.faults[Fault(kind, what, line)] = None

    # -- what kernels call --------------------------------------------------------------------------------------------

    def words(self) -> dict[str, Any]:
        """The vocabulary of threads."""
        (high, deep), (width, tall) = self.grid, self.block
        return {
            "lane": lambda: self.at[1] * width + self.at[2],
            "lanes": lambda: deep * width,
            "group": lambda: self.at[0] * tall + self.at[3],
            "groups": lambda: high * tall,
            "thread": lambda: self.at[0] * width + self.at[2],
            "threads": lambda: high * width,
            "atomic_add": lambda buffer, at, value: buffer.add(at, value),
            "aligned": lambda buffer, at, count: buffer.aligned(at, count),
            "fetch_2": lambda buffer, at: _fetched(buffer, at, 2),
            "fetch_4": lambda buffer, at: _fetched(buffer, at, 4),
            "put_2": _put,
            "put_4": _put,
            "cuda": SimpleNamespace(
                shared=SimpleNamespace(array=self.shared_array), local=SimpleNamespace(array=self.local_array)
            ),
        }

    def shared_array(self, size: int, dtype: Any) -> _Watched:
        line = sys._getframe(1).f_lineno
        if line not in self.shared:
            array = np.empty(size, np.dtype(dtype))
            array.view(np.uint8)[...] = 0xA5  # what was there before
            self.shared[line] = _Watched(self, array, f"shared, line {line}: ", {}, np.zeros(size, np.uint8))
        return self.shared[line]

    def local_array(self, size: int, dtype: Any) -> _Watched:
        line = sys._getframe(1).f_lineno
        return _Watched(self, np.zeros(size, np.dtype(dtype)), f"local, line {line}: ", {}, np.zeros(size, np.uint8))

    # -- running ------------------------------------------------------------------------------------------------------

    def run(self, args: Sequence[Any]) -> None:
        number = 0
        for x in range(self.grid[0]):
            for y in range(self.grid[1]):
                self.shared = {}
                for tall in range(self.block[1]):
                    lanes = [(number + k, (x, y, k, tall)) for k in range(self.block[0])]
                    self.together(lanes, args)
                    number += len(lanes)
                    self.group += 1

    def together(self, lanes: Sequence[tuple[int, tuple[int, ...]]], args: Sequence[Any]) -> None:
        """The lanes of a group, from barrier to barrier."""
        self.epoch = 0
        running = [(who, at, self.kernel(*args)) for who, at in lanes]
        answers: list[Any] = [None] * len(running)
        while True:
            asked: list[tuple[str, int, tuple[Any, ...]]] = []
            ended = 0
            for (who, at, body), answer in zip(running, answers, strict=True):
                self.lane, self.at = who, at
                try:
                    asked.append(body.send(answer))
                except StopIteration:
                    ended += 1
            if not asked:
                return
            what, line, _ = asked[0]
            if ended:
                return self.fault("barrier", f"{what}: {ended} lanes of {len(lanes)} have ended", line)
            if len({a[:2] for a in asked}) > 1:
                return self.fault("barrier", f"{what}: lanes wait at lines {sorted({a[1] for a in asked})}", line)
            width, tall = self.block
            if self.grid[1] > 1 or (width > WARP and tall > 1):
                return self.fault("barrier", f"{what}: the lanes of a group are not one block or part of a warp", line)
            answers = self.answers(what, line, [a[2] for a in asked])

    def answers(self, what: str, line: int, given: Sequence[tuple[Any, ...]]) -> list[Any]:
        """What a barrier or a function of a group returns to each lane."""
        if what == "barrier":
            self.epoch += 1
            return [None] * len(given)
        scratch = given[0][1]
        if len(given) > WARP and scratch.size < len(given) // WARP:
            self.fault("bounds", f"{what}: {scratch.size} words of scratch for {len(given) // WARP} warps", line)
        join = vocabulary()[what.removeprefix("group_").removeprefix("prefix_")]
        so_far = list(accumulate([value for value, _ in given], join))
        total = so_far[-1]
        return [(one, total) if what.startswith("group_prefix_") else total for one in so_far]


def _fetched(buffer: _Watched, at: int, count: int) -> tuple[Any, ...]:
    buffer.several(at, count)
    return tuple(buffer[at + k] for k in range(count))


def _put(buffer: _Watched, at: int, *values: Any) -> None:
    buffer.several(at, len(values))
    for k, value in enumerate(values):
        buffer[at + k] = value


# -- text --------------------------------------------------------------------------------------------------------------


class _Waits(ast.NodeTransformer):
    """Calls for which the lanes of a group wait, as ``yield (name, line, operands)``."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if not isinstance(node.func, ast.Name) or not waits(node.func.id):
            return node
        parts = [ast.Constant(node.func.id), ast.Constant(node.lineno), ast.Tuple(node.args, ast.Load())]
        return ast.copy_location(ast.Yield(ast.Tuple(parts, ast.Load())), node)


def waits(name: str) -> bool:
    """Whether the lanes of a group wait for each other in a function of the vocabulary."""
    return name == "barrier" or name.startswith("group_")


@cache
def _generator(source: str, name: str, file: str) -> tuple[Any, tuple[str, ...]]:
    """The kernel as a generator function, as code; and the names of its parameters."""
    if not simulated():
        raise MissingDeviceError("scalar functions are those of Numba's simulator: set NUMBA_ENABLE_CUDASIM=1")
    module = _Waits().visit(ast.parse(source))
    function = next(f for f in module.body if isinstance(f, ast.FunctionDef) and f.name == name)
    function.body.insert(0, ast.If(ast.Constant(False), [ast.Expr(ast.Yield(None))], []))  # it waits nowhere, perhaps
    flags = future.annotations.compiler_flag
    code = compile(ast.fix_missing_locations(module), file, "exec", flags=flags, dont_inherit=True)
    return code, tuple(a.arg for a in function.args.args)


# -- programs ----------------------------------------------------------------------------------------------------------


class CheckingDevice(SimulatedDevice):
    """A GPU whose launches are run lane by lane: what was wrong is in ``faults``, by the name of the kernel.

    Memory is followed from launch to launch: a load of what nothing has stored is a fault, wherever it lies.
    """

    def __init__(self, limits: Limits) -> None:
        super().__init__()
        self.faults: dict[str, list[Fault]] = {}
        self.kernels: set[str] = set()
        self._limits = limits
        self._stored: dict[int, NDArray[np.uint8]] = {}  # a mark for each byte, by the address of the block

    def limits(self, kernel: _Kernel) -> Limits:
        """Those that were asked for."""
        return self._limits

    def allocate(self, nbytes: int, stream: int) -> int:
        """Memory with nothing in it."""
        address = super().allocate(nbytes, stream)
        self._stored[address] = np.zeros(nbytes, np.uint8)
        return address

    def release(self, address: int, stream: int) -> None:
        """Forget it."""
        super().release(address, stream)
        del self._stored[address]

    def upload(self, address: int, array: NDArray[Any], stream: int) -> None:
        """Copy in."""
        super().upload(address, array, stream)
        self.marks(address, array.nbytes)[...] = 1

    def clear(self, span: Span, stream: int) -> None:
        """Zeros."""
        super().clear(span, stream)
        self.marks(span.address, span.nbytes)[...] = 1

    def marks(self, address: int, nbytes: int) -> NDArray[np.uint8]:
        """Of bytes from an address on, whether something was stored there."""
        for base, marks in self._stored.items():
            if base <= address and address + nbytes <= base + marks.size:
                return marks[address - base : address - base + nbytes]
        return np.ones(nbytes, np.uint8)  # somebody else's

    def launch(self, kernel: _Kernel, where: Dimensions, values: list[Any], stream: int) -> None:
        """Run a kernel to its end, lane by lane, or note it."""
        alike = [k for k, p in enumerate(kernel.params) if p.name == "error" or p.dtype == bool]

        def work() -> None:
            args = [self.buffer(p, v) if isinstance(v, Span) else v for p, v in zip(kernel.params, values, strict=True)]
            found = run(kernel.source, kernel.name, where.grid, where.block, args, alike)
            self.kernels.add(kernel.name)
            if found:
                self.faults.setdefault(kernel.name, []).extend(found)

        self.start(work)

    def buffer(self, param: Param, span: Span) -> New:
        """A buffer of a launch: the memory itself, and the marks of its elements."""
        from symgraph.runtime.simulated import _elements

        array = _elements(_Kernel("", "", ()), param, span).array
        return New(array, self.marks(span.address, span.nbytes)[:: array.itemsize])


__all__ = ["CheckingDevice", "Fault", "New", "run", "waits"]
