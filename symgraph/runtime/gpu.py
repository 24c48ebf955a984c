"""A program on a GPU: arguments in, launches or a replayed graph, results out.

What a call does, in order:

1. Arrays that are on the device stay where they are; NumPy's are copied into memory that the program keeps.
2. Sizes that were not seen before get a plan: where everything lies in the arena, and how each kernel is launched.
3. The launches go to the stream. Where every address is one that was there before, they have been captured as one CUDA
   graph, and the graph is replayed. A host step, an operation that runs on the processor, waits for what was started
   before it; what is between two host steps is a graph of its own.
4. Results stay on the device if an argument was there, and are copied to NumPy arrays if none was. Only the copies
   wait for the device, and programs that check indices, which wait for what the checks found.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symgraph import source
from symgraph.errors import DeviceError, SizeError
from symgraph.graph import Constant, SharedVariable, Variable
from symgraph.loop.ir import Param
from symgraph.loop.schedule import ErrorWord, Launch
from symgraph.passes.memory import assign_offsets
from symgraph.runtime.arrays import Device, DeviceArray, Memory, Span, View, handle, on_device, uploaded, view
from symgraph.runtime.cublas import Workspace, library
from symgraph.runtime.launch import dimensions
from symgraph.runtime.program import MAX_PLANS, Plan, Program, ProgramStep, Turn, index_error
from symgraph.runtime.sizes import Env, as_array, bind_sizes, label, resolve, settle, shape_of
from symgraph.types import Dim

MAX_GRAPHS = 8
"""Captured graphs kept for one set of sizes: results and updated variables take turns in a few places."""
ERROR = np.dtype(np.int32)

Prepare = Callable[[tuple[Any, ...]], list[NDArray[Any]]]
Slot = tuple[int, int, int]
"""Of the table of addresses, an offset in bytes, and how many bytes there are."""


@dataclass(frozen=True)
class Options:
    """What a caller decides.

    Attributes:
        stream: the handle of the stream that a call's work goes to.
        device_outputs: whether results stay on the device; ``None``: if an argument is there.
        graphs: whether calls are captured as CUDA graphs and replayed.
    """

    stream: Any = None
    device_outputs: bool | None = None
    graphs: bool = True


Action = Callable[[list[Any], int], None]
"""What a step does with its values, a :class:`Span` or a number for each word, on a stream."""


@dataclass
class _Ready:
    """A step with its sizes known."""

    action: Action
    words: list[Any]  # a Slot, a Span, or a number
    number: int = -1  # of the step in the program; none of it, if it is negative

    def run(self, addresses: tuple[int, ...], stream: int) -> None:
        self.action([Span(addresses[w[0]] + w[1], w[2]) if type(w) is tuple else w for w in self.words], stream)


@dataclass
class _Part:
    """Steps that one graph can hold, or one step that waits for the device."""

    steps: list[_Ready]
    host: bool = False
    graphs: OrderedDict[tuple[int, ...], Any] = field(default_factory=OrderedDict)  # None: seen once


@dataclass
class _Sized:
    """The program for one set of sizes."""

    plan: Plan
    parts: list[_Part]
    shapes: list[tuple[int, ...]]  # of what is returned
    updated: list[tuple[int, ...]]


class GpuExecutable:
    """A program on a GPU. One call at a time: calls from several threads take turns."""

    def __init__(self, program: Program, prepare: Prepare, single: bool, device: Device, options: Options) -> None:
        self.program = program
        self.device = device
        self.options = options
        self._prepare = prepare
        self._single = single
        self._lock = threading.RLock()
        self._stream = handle(options.stream)
        self._given = sum(not isinstance(v, SharedVariable) for v in program.arguments)
        self._returned = [v for v in program.outputs if v not in program.destinations]
        outside = [*program.arguments, *program.destinations, *self._returned]
        self._slots: dict[Any, int] = {v: k for k, v in enumerate(outside)}
        self._arena, self._errors, self._workspace = range(len(outside), len(outside) + 3)
        self._working = 0  # bytes that cuBLAS works in
        self._checks = [k for k, s in enumerate(program.steps) if any(isinstance(b, ErrorWord) for b in s.bindings)]
        self._sized: OrderedDict[tuple[tuple[int, ...], ...], _Sized] = OrderedDict()
        self._kept: dict[Any, Memory] = {}
        self._constants: dict[Variable, DeviceArray] = {}
        with device.current():
            self._kernels = [self._load(s) for s in program.steps]
            for v in dict.fromkeys(b for s in program.steps for b in s.bindings if isinstance(b, Constant)):
                self._constants[v] = uploaded(v.data, device, self._stream)

    def _load(self, s: ProgramStep) -> Any:
        if s.host is not None:
            s.host.load()
            return None
        if s.gemm is not None:
            found = library(self.device)
            self._working = found.workspace
            return found
        assert s.loops is not None
        return self.device.load(s.source, s.name, tuple(s.loops.params))

    # -- a call -------------------------------------------------------------------------------------------------------

    def entry(self, *args: Any) -> Any:
        """Run on arrays: the inputs, shared variables, and the arrays that updates are written into."""
        return self.on(self._stream, args)

    def on(self, stream: int, args: tuple[Any, ...]) -> Any:
        """As :meth:`entry`, on a stream."""
        count = len(self.program.arguments)
        if len(args) != count + len(self.program.destinations):
            self._prepare(args)  # says which are missing
        with self._lock, self.device.current():
            device_outputs = self.options.device_outputs
            if device_outputs is None:
                device_outputs = any(map(on_device, args[: self._given]))
            views, sized, results, addresses = self._bound(args, device_outputs, stream)
            self._run(sized, addresses, stream)
            self._look(sized, stream)
            for v in views:
                # Whoever writes there next, or gives it back, comes after this call: a call in another thread may have
                # taken the memory to its own stream before this one had started.
                last = v.keep.stream if isinstance(v.keep, Memory) else v.stream
                if last is not None and last != stream:
                    self.device.order(stream, last)
            lent = [v.keep for v in views if not isinstance(v.keep, Memory)]
            if lent:  # their libraries know nothing of work on our stream: they would use the memory for something else
                self.device.hold(lent, stream)
            if not device_outputs:
                results = self._copied(results, stream)
            del views, lent
        return results[0] if self._single else results

    def times(
        self, args: tuple[Any, ...], seconds: float, least: int, most: int
    ) -> tuple[list[list[float]], list[float], Env]:
        """Times of each step and of whole calls, in seconds by the device's clock, and the sizes of the call.

        ``args`` as of :meth:`entry`. It goes on for some ``seconds``, ``least`` to ``most`` times.
        """
        stream = self._stream
        with self._lock, self.device.current():
            views, sized, results, addresses = self._bound(args, True, stream)
            steps = [s for part in sized.parts for s in part.steps if s.number >= 0]
            each: list[list[float]] = [[] for _ in self.program.steps]
            whole: list[float] = []
            for _ in range(2):  # the second makes graphs
                self._run(sized, addresses, stream)
            self._look(sized, stream)
            end = time.perf_counter() + seconds
            while len(whole) < least or (time.perf_counter() < end and len(whole) < most):
                whole.append(self.device.seconds(partial(self._run, sized, addresses, stream), stream))
                took = [0.0] * len(each)
                for s in steps:
                    took[s.number] += self.device.seconds(partial(s.run, addresses, stream), stream)
                for k, t in enumerate(took):
                    each[k].append(t)
            del views, results
        return each, whole, sized.plan.env

    def _bound(
        self, args: tuple[Any, ...], device_outputs: bool, stream: int
    ) -> tuple[list[View], _Sized, list[Any], tuple[int, ...]]:
        """What a call works on: views of its arguments, the plan, arrays for the results, and where all of it lies."""
        count = len(self.program.arguments)
        views = [self._argument(k, a, stream) for k, a in enumerate(args[:count])]
        sized = self._for_sizes(views)
        written = self._destinations(sized, args[count:], stream)
        results, addresses = self._results(sized, device_outputs, stream)
        arena = self._keep("arena", sized.plan.arena, stream)
        errors = self._keep("errors", ERROR.itemsize * len(self.program.steps), stream)
        workspace = self._keep("workspace", self._working, stream).address if self._working else 0
        for array in self._constants.values():
            array.memory.use(stream)
        lent = (*(v.address for v in views), *(m.address for m in written), *addresses)
        return views, sized, results, (*lent, arena.address, errors.address, workspace)

    def _argument(self, k: int, value: Any, stream: int) -> View:
        v = self.program.arguments[k]
        if on_device(value):
            found = view(v, label(v, k), value, self.device, stream)
            return found if found.strides is None else self._packed(k, found, stream)
        array = np.require(as_array(v, value, label(v, k)), requirements=["C", "A"])
        array = np.asarray(array, dtype=array.dtype.newbyteorder("="))
        memory = self._keep(("argument", k), array.nbytes, stream)
        if array.nbytes:
            self.device.upload(memory.address, array, stream)
        return View(memory.address, array.shape, array.dtype, None, memory)

    def _destinations(self, sized: _Sized, arrays: tuple[Any, ...], stream: int) -> list[Memory]:
        for v, array, shape in zip(self.program.destinations, arrays, sized.updated, strict=True):
            if array.shape != shape:
                raise SizeError(
                    f"updates: the new value has shape {list(shape)}, the shared variable {list(array.shape)}   "
                    f"{source.show(v.sources)}"
                )
            array.memory.use(stream)
        return [a.memory for a in arrays]

    def _results(self, sized: _Sized, device_outputs: bool, stream: int) -> tuple[list[Any], list[int]]:
        """Arrays for the results, and where they lie."""
        out = []
        for k, (v, shape) in enumerate(zip(self._returned, sized.shapes, strict=True)):
            nbytes = int(np.prod(shape, dtype=np.int64)) * v.type.dtype.itemsize
            memory = (
                Memory(self.device, nbytes, stream) if device_outputs else self._keep(("result", k), nbytes, stream)
            )
            out.append(DeviceArray(shape, v.type.dtype, memory))
        return out, [a.memory.address for a in out]

    def _copied(self, results: list[DeviceArray], stream: int) -> list[NDArray[Any]]:
        out = [np.empty(a.shape, a.dtype) for a in results]
        for array, a in zip(out, results, strict=True):
            if array.nbytes:
                self.device.download(array, a.memory.address, stream)
        self.device.synchronize(stream)
        return out

    # -- launches -----------------------------------------------------------------------------------------------------

    def _run(self, sized: _Sized, addresses: tuple[int, ...], stream: int) -> None:
        for part in sized.parts:
            if part.host:
                self._look(sized, stream)  # the operation should not see what a wrong index left
                part.steps[0].run(addresses, stream)
            else:
                self._start(part, addresses, stream)

    def _start(self, part: _Part, addresses: tuple[int, ...], stream: int) -> None:
        """Launch, or replay the launches as a graph."""

        def launch(on: int) -> None:
            for s in part.steps:
                s.run(addresses, on)

        if not self.options.graphs or len(part.steps) < 2:
            return launch(stream)
        graphs = part.graphs
        graph = graphs.get(addresses)
        if graph is not None:
            graphs.move_to_end(addresses)
            return self.device.replay(graph, stream)
        # A graph costs more to make than to launch once: it is made when the same addresses come again.
        if addresses not in graphs:
            graphs[addresses] = None
            if len(graphs) > MAX_GRAPHS:
                graphs.popitem(last=False)
            return launch(stream)
        graph = self.device.capture(launch)
        if graph is None:
            return launch(stream)
        graphs[addresses] = graph
        self.device.replay(graph, stream)

    def _look(self, sized: _Sized, stream: int) -> None:
        """Raise for an index that was out of range. This waits for the device."""
        if not self._checks:
            return
        codes = np.empty(len(self.program.steps), ERROR)
        self.device.download(codes, self._kept["errors"].address, stream)
        self.device.synchronize(stream)
        for k in self._checks:
            if codes[k]:
                raise index_error(self.program.steps[k], int(codes[k]), sized.plan.env)

    # -- plans --------------------------------------------------------------------------------------------------------

    def _for_sizes(self, views: list[View]) -> _Sized:
        key = tuple(v.shape for v in views)
        found = self._sized.get(key)
        if found is None:
            found = self._sized[key] = self._plan(views)
            if len(self._sized) > MAX_PLANS:
                self._sized.popitem(last=False)
        self.program.last_plan = found.plan
        return found

    def _plan(self, views: list[Any]) -> _Sized:
        program = self.program
        env = bind_sizes(program.arguments, views)
        settle([(c.got, c.wanted) for c in program.checks if not c.at_least], env)
        for check in program.checks:
            check.verify(env)
        buffers = [b for b in program.memory.buffers if not b.output]
        sizes = [resolve(b.size, env) for b in buffers]
        offsets, total = assign_offsets([(b.first, b.last, n) for b, n in zip(buffers, sizes, strict=True)])
        tensors = sum(resolve(v.type.size, env) * v.type.dtype.itemsize for v in program.memory.of)
        plan = Plan(env, total, dict(zip(buffers, offsets, strict=True)), tensors, self._working)
        parts = [_Part([])]
        if self._checks:
            parts[-1].steps.append(_Ready(self._clear, [(self._errors, 0, ERROR.itemsize * len(program.steps))]))
        for k, s in enumerate(program.steps):
            made = [*self._zeros(k, plan), *self._ready(k, plan)]
            if s.host is not None:
                parts += [_Part(made, host=True), _Part([])]
            else:
                parts[-1].steps += made
        shapes, updated = (
            [shape_of(v.type.shape, env) for v in group] for group in (self._returned, program.destinations)
        )
        return _Sized(plan, [p for p in parts if p.steps], shapes, updated)

    def _ready(self, step: int, plan: Plan) -> list[_Ready]:
        """A step of the program as what is done for these sizes: once, or as often as it is repeated."""
        s, kernel = self.program.steps[step], self._kernels[step]
        action: Action
        if s.host is not None:
            action = partial(s.host.run_on, self.device, resolve(s.host.extent, plan.env))
        elif s.gemm is not None:
            action = partial(kernel.multiply, s.gemm, self.device.clear)
        else:
            action = partial(
                self.device.launch, kernel, dimensions(_launch_of(s), plan.env, self.device.limits(kernel))
            )
        turns = 1 if s.repeat is None else s.repeat(plan.env)
        return [_Ready(action, [self._word(b, step, plan, turn) for b in s.bindings], step) for turn in range(turns)]

    def _zeros(self, step: int, plan: Plan) -> list[_Ready]:
        """What makes zeros of that which a step adds to."""
        s = self.program.steps[step]
        used = s.repeat is None or s.repeat(plan.env)
        return [_Ready(self._clear, [self._word(v, step, plan)]) for v in s.zeroed if used]

    def _clear(self, values: list[Any], stream: int) -> None:
        if values[0].nbytes:
            self.device.clear(values[0], stream)

    def _word(self, bound: Any, step: int, plan: Plan, turn: int = 0) -> Any:
        if isinstance(bound, Constant):
            array = self._constants[bound]
            return Span(array.memory.address, array.nbytes)
        if isinstance(bound, Variable):
            nbytes = resolve(bound.type.size, plan.env) * bound.type.dtype.itemsize
            buffer = self.program.memory.of.get(bound)
            if buffer is None:
                return self._slots[bound], 0, nbytes
            outside = next((u for u in buffer.variables if u in self._slots), None)
            return (self._arena, plan.offsets[buffer], nbytes) if outside is None else (self._slots[outside], 0, nbytes)
        if isinstance(bound, ErrorWord):
            return self._errors, ERROR.itemsize * step, ERROR.itemsize
        if isinstance(bound, Workspace):
            return self._workspace, 0, self._working
        if isinstance(bound, Turn):
            return turn
        if isinstance(bound, int | Dim):
            return resolve(bound, plan.env)
        return np.float32(bound) if bound.dtype == np.float16 else bound

    # -- memory -------------------------------------------------------------------------------------------------------

    def resident(self, s: SharedVariable) -> DeviceArray:
        """The value of a shared variable, moved to the device where it is not there."""
        value: Any = s._value
        if isinstance(value, DeviceArray) and value.memory.device is self.device:
            return value
        with s.lock:
            found: Any = s._value
            if not (isinstance(found, DeviceArray) and found.memory.device is self.device):
                found = uploaded(np.asarray(found), self.device, self._stream)
                s._value = found
                s.spare = None
        made: DeviceArray = found
        return made

    def spare(self, s: SharedVariable, before: Any) -> DeviceArray:
        """Memory for the new value of ``s``: that of the value ``before`` last, where it fits."""
        value = self.resident(s)
        if isinstance(before, DeviceArray) and before.shape == value.shape and before.memory.device is self.device:
            return before
        with self.device.current():
            return DeviceArray(value.shape, value.dtype, Memory(self.device, value.nbytes, self._stream))

    def _keep(self, key: Any, nbytes: int, stream: int) -> Memory:
        """Memory that the program keeps from call to call, of at least so many bytes."""
        found = self._kept.get(key)
        if found is None or found.nbytes < nbytes:
            found = self._kept[key] = Memory(self.device, nbytes, stream)
        found.use(stream)
        return found

    def free(self) -> None:
        """Give back the memory that is kept for the next call."""
        with self._lock, self.device.current():
            self._kept.clear()
            for part in (p for sized in self._sized.values() for p in sized.parts):
                part.graphs.clear()

    # -- arguments that are not contiguous ----------------------------------------------------------------------------

    def _packed(self, k: int, given: View, stream: int) -> View:
        """A copy of a strided array, made on the device."""
        assert given.strides is not None
        item = given.dtype.itemsize
        if any(s % item for s in given.strides) or given.ndim > 8:
            raise DeviceError(f"{label(self.program.arguments[k], k)}: strides {given.strides} are not taken")
        size = int(np.prod(given.shape, dtype=np.int64))
        memory = self._keep(("argument", k), size * item, stream)
        steps = [s // item for s in given.strides]
        low = sum(min(0, s * (n - 1)) for s, n in zip(steps, given.shape, strict=True))
        high = sum(max(0, s * (n - 1)) for s, n in zip(steps, given.shape, strict=True))
        kernel = self.device.load(*_packing(given.ndim, item))
        where = dimensions(Launch("grid", 1, size), {}, self.device.limits(kernel))
        extents = [n for pair in zip(given.shape, steps, strict=True) for n in pair]
        first = Span(given.address + low * item, (high - low + 1) * item)
        values = [Span(memory.address, size * item), first, -low, size, *extents]
        self.device.launch(kernel, where, values, stream)
        return View(memory.address, given.shape, given.dtype, None, given.keep, given.stream)


def _launch_of(s: ProgramStep) -> Launch:
    assert s.launch is not None
    return s.launch


def _packing(ndim: int, itemsize: int) -> tuple[str, str, tuple[Param, ...]]:
    """The kernel that copies an array of any strides into one that is contiguous: source, name and parameters."""
    name, word = f"pack_{ndim}_{8 * itemsize}", np.dtype(f"uint{8 * itemsize}")
    sizes = ["first", "size", *(f"{what}{k}" for k in range(ndim) for what in "ns")]
    lines = [f"def {name}(to, of, {', '.join(sizes)}):", "    i = thread()", "    while i < size:", "        rest = i"]
    lines.append("        at = first")
    for k in reversed(range(ndim)):
        lines += [f"        at += (rest % n{k}) * s{k}", f"        rest = rest // n{k}"]
    lines += ["        to[i] = of[at]", "        i += threads()", ""]
    params = [Param("to", "buffer", word), Param("of", "buffer", word)]
    return "\n".join(lines), name, tuple(params + [Param(s, "size", np.dtype(np.int64)) for s in sizes])


__all__ = ["GpuExecutable", "Options"]
