"""From fused steps to a native program: kernels compiled, buffers assigned, tables of words laid out.

The program's structure is fixed when the function is made. What depends on sizes (extents, strides, offsets in the
arena, how a loop is split over threads) is a *plan*, computed when a call brings sizes that were not seen before.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symgraph.collector import collector_paused
from symgraph.emit.python import CUDA, emit
from symgraph.errors import IndexRangeError, SizeError
from symgraph.graph import Apply, Constant, Graph, Variable
from symgraph.loop.ir import If, LoopKernel, Store, walk
from symgraph.loop.lower import INDEX_ERROR, Lowered, lower
from symgraph.loop.schedule import ErrorWord, Launch, deal_out
from symgraph.passes.epilogue import epilogues
from symgraph.passes.fuse import MAX_WEIGHT, Kernel, Step, fuse
from symgraph.passes.library import HostCall, LibraryCall
from symgraph.passes.memory import Buffer, MemoryPlan, assign_offsets, plan_memory
from symgraph.passes.schedule import schedule
from symgraph.runtime import products, sorts
from symgraph.runtime.blas import Blas, gemm
from symgraph.runtime.checks import SizeCheck, lines
from symgraph.runtime.cublas import Gemm, Workspace
from symgraph.runtime.host import HostCode
from symgraph.runtime.interrupts import uninterrupted
from symgraph.runtime.sizes import Env, bind_sizes, resolve, settle
from symgraph.types import Atom, Dim, Size

GRAIN = 30_000.0
"""Nanoseconds of work below which waking another thread costs more than it saves."""
GPU_REGISTERS = 224
"""Registers of a thread, of 255, that a kernel's values may take; the others are for addresses and what functions need.
At 240 the fourth derivative of a product of six functions spills, at 232 nothing that was tried."""
MAX_PLANS = 512
"""Sets of sizes whose plans a program keeps."""
HOST_ELEMENT = 2.0
"""Nanoseconds taken for an element of what a user's compiled function reads or writes: what it does is not known."""
GEMM_GRAIN = 1e6
"""FLOPs of a matrix product below which one thread does it."""


@dataclass(eq=False)
class ProgramStep:
    """A line of the program: a kernel or a library call, its argument words, and the extent of its parallel axis."""

    name: str
    step: Step
    bindings: list[Variable | Size | np.generic | _Raw | _Choice | ErrorWord | Turn | Workspace]
    extent: Size | _Choice
    work: tuple[Size, ...]
    source: str = ""
    checks: Sequence[Apply] = ()
    host: HostCode | None = None
    gemm: Gemm | None = None  # a call of cuBLAS
    loops: LoopKernel | None = None
    launch: Launch | None = None  # on a GPU
    workspace: tuple[Variable, ...] = ()  # what it stores for later launches of the same step
    repeat: Callable[[Env], int] | None = None  # how often it is launched, where that depends on sizes
    zeroed: tuple[Variable, ...] = ()  # what has to be zeros before


@dataclass(frozen=True)
class Turn:
    """A word that counts the launches of a step that is repeated: 0, 1, 2, ..."""


@dataclass(frozen=True)
class _Raw:
    """A word that is known when the program is built: a flag, an address, the bits of a scalar."""

    word: int


@dataclass(frozen=True)
class _Choice:
    """A word of a matrix product that its plan decides: the axis to split, its extent, or into how many parts."""

    what: str
    call: LibraryCall


@dataclass
class Plan:
    """A program for one set of sizes."""

    env: Env
    arena: int
    offsets: dict[Buffer, int]
    intermediates: int  # bytes of all intermediate tensors, had each its own memory
    workspace: int = 0  # bytes that cuBLAS works in


@dataclass(eq=False)
class Program:
    """An immutable table of steps, and what they work on. ``print(program)`` shows steps, buffers, and offsets."""

    graph: Graph
    arguments: tuple[Variable, ...]
    outputs: tuple[Variable, ...]
    destinations: dict[Variable, int]  # output variable -> argument number that it is written into
    steps: list[ProgramStep]
    memory: MemoryPlan
    checks: list[SizeCheck]
    threads: int
    target: str = "cpu"
    plans: dict[tuple[int, ...], Plan] = field(default_factory=dict)
    last_plan: Plan | None = None

    @property
    def kernels(self) -> dict[str, str]:
        """Source by name of the distinct kernels."""
        return {s.name: s.source for s in self.steps if s.source}

    def __str__(self) -> str:
        from symgraph.runtime.describe import describe

        return describe(self)


def build(
    graph: Graph,
    outputs: Sequence[Variable],
    destinations: Mapping[Variable, int],
    checks: Sequence[SizeCheck],
    threads: int,
    target: str = "cpu",
    atomics: bool = False,
    blas: str = "tiles",
) -> Program:
    """Fuse, lower and plan an optimized graph for ``"cpu"`` or ``"cuda"``. Compiles nothing and needs no device.

    ``atomics``: parts of reductions may be added in no fixed order, on a GPU. ``blas``: who computes products of
    matrices there (:mod:`symgraph.runtime.blas`).
    """
    cpu, by = target == "cpu", Blas(blas)
    launches = partial(_launches, atomics=atomics, blas=by)
    made, accepts, registers = (_made, None, None) if cpu else (launches, by.accepts, GPU_REGISTERS)
    with collector_paused(len(graph.nodes)):
        fused = fuse(graph, accepts, MAX_WEIGHT, registers)
        if not cpu:
            fused = epilogues(fused, outputs, by.takes_epilogue)
        steps = [made_step for s in schedule(fused, outputs) for made_step in made(s)]
    apart = {v for s in steps for v in (*s.zeroed, *_by_one_lane(s))}
    memory = plan_memory([s.step for s in steps], outputs, graph.inputs, apart)
    for k, s in enumerate(steps):
        for v in s.workspace:
            last = max(j for j, t in enumerate(steps) if t.step is s.step)
            memory.of[v] = Buffer([v], k, last)
            memory.buffers.append(memory.of[v])
    return Program(
        graph, graph.inputs, tuple(outputs), dict(destinations), steps, memory, list(checks), threads, target
    )


def _by_one_lane(s: ProgramStep) -> list[Variable]:
    """Results that one lane of a group stores, when others may still have to read an operand in their place."""
    if s.loops is None or s.launch is None:
        return []
    first = [t for t in walk(s.loops.body) if isinstance(t, If) and t.condition.fn == "equal"]
    names = {u.buffer for t in first if t.condition.args[0].fn == "lane" for u in walk(t.then) if isinstance(u, Store)}
    bound = zip(s.loops.params, s.bindings, strict=True)
    return [b for p, b in bound if p.name in names and isinstance(b, Variable)]


def _launches(step: Step, atomics: bool, blas: Blas) -> list[ProgramStep]:
    """A step on a GPU: one launch or several, one after the other."""
    if isinstance(step, LibraryCall) and blas.by_cublas(step):
        call, words = gemm(step)
        return [ProgramStep(call.name, step, list(words), 1, (), gemm=call)]
    if isinstance(step, LibraryCall):
        name, text, loops, bindings, launch = products.product(step)
        return [ProgramStep(name, step, list(bindings), 1, (), text, loops=loops, launch=launch)]
    if isinstance(step, HostCall):
        return _sort(step) if sorts.accepts(step) else [_host(step)]
    lowered = lower(step, flat=True)
    out = []
    for stage in deal_out(lowered, any(r.write for r in step.roots), atomics):
        name, text = emit(stage.loops, CUDA)
        made = ProgramStep(
            name,
            step,
            list(stage.bindings),
            1,
            lowered.work,
            text,
            stage.checks,
            loops=stage.loops,
            launch=stage.launch,
            workspace=stage.workspace,
            repeat=stage.only,
            zeroed=stage.zeroed,
        )
        out.append(made)
    return out


def _made(step: Step) -> list[ProgramStep]:
    if isinstance(step, HostCall):
        return [_host(step)]
    return [_kernel(step) if isinstance(step, Kernel) else _gemm(step)]


def _host(call: HostCall) -> ProgramStep:
    code = HostCode(call)
    op = call.node.op
    work = tuple(v.type.size for v in code.tensors) if op.host == "numba" else ()
    return ProgramStep(f"{op.host}_{op.name}", call, list(code.bindings), code.extent, work, host=code)


def _sort(call: HostCall) -> list[ProgramStep]:
    return [
        ProgramStep(s.name, call, s.bindings, 1, (), s.text, loops=s.loops, launch=s.launch, workspace=s.workspace,
                    repeat=s.repeat)
        for s in sorts.launches(call, Turn())
    ]  # fmt: skip


def _kernel(kernel: Kernel) -> ProgramStep:
    lowered: Lowered = lower(kernel)
    name, text = emit(lowered.loops)
    return ProgramStep(
        name, kernel, list(lowered.bindings), lowered.extent, lowered.work, text, lowered.checks, loops=lowered.loops
    )


def _gemm(call: LibraryCall) -> ProgramStep:
    from symgraph_kernels.cpu.blas import Gemm, table_address

    x = call.matrices
    kind = "f32" if call.node.outputs[0].type.dtype == np.float32 else "f64"
    one = np.float32(1) if kind == "f32" else np.float64(1)
    (out,) = call.node.outputs
    words: dict[str, Any] = {
        **x.words(),
        "table": _Raw(table_address(kind)),
        "trans_a": _Raw(int(x.trans_a)),
        "trans_b": _Raw(int(x.trans_b)),
        "alpha": one,
        "beta": one if call.accumulates else one * 0,
        "c": out,
        "c_offset": 0,
        "threads": _Raw(1),  # the program's own threads share the work: two pools would fight for the cores
        "split": _Choice("split", call),
    }
    return ProgramStep(f"gemm_{kind}", call, [words[w.name.lower()] for w in Gemm], _Choice("extent", call), ())


class _Frame:
    """The layout of a call's frame: one word for each thing that steps refer to."""

    def __init__(self) -> None:
        self.words: dict[Any, int] = {}

    def word(self, key: Any) -> int:
        return self.words.setdefault(key, len(self.words))


class Executable:
    """A compiled program: its native entry, and the plans for the sizes seen so far."""

    def __init__(
        self, program: Program, prepare: Callable[[tuple[Any, ...]], list[NDArray[Any]]], single: bool = False
    ) -> None:
        with uninterrupted():
            from symgraph.runtime import native
            from symgraph.runtime.cache import default_directory, kernel_cache
            from symgraph.runtime.native_blas import blas_kernels

        self.program = program
        self._prepare = prepare
        self._lock = threading.Lock()
        self._forgotten = 0  # how often all plans were
        self._prepared = threading.local()  # `_forgotten` and arguments, of the call that this thread is preparing
        directory = default_directory()
        cache = kernel_cache()
        sources = program.kernels
        addresses = dict(zip(sources, cache.get_many([(text, name) for name, text in sources.items()]), strict=True))
        if any(isinstance(s.step, LibraryCall) for s in program.steps):
            addresses.update(blas_kernels(directory))
        runtime = native.load(directory)
        if runtime.pool.threads < program.threads:
            runtime.pool.set_threads(program.threads)
        self._layout(addresses)
        self.native = native.NativeProgram(
            steps=self.table,
            argwords=self.argwords,
            arguments=[self._argument(k, native) for k in range(len(program.arguments) + len(program.destinations))],
            outputs=[
                native.Output(
                    v.type.dtype, tuple(self.frame.word(("size", s)) for s in v.type.shape), self.frame.word(v)
                )
                for v in self.returned
            ],
            returns=0 if single else list(range(len(self.returned))),
            slow=self._slow,
            failed=self._failed,
            keep=tuple(self.constants.values()),
        )
        self.entry: Callable[..., Any] = self.native.entry

    def free(self) -> None:
        """Give back the memory that is kept for the next call."""
        self.native.free()

    # -- layout -------------------------------------------------------------------------------------------------------

    def _layout(self, addresses: Mapping[str, int]) -> None:
        program = self.program
        self.frame = frame = _Frame()
        self.outside = frozenset(program.outputs)
        self.one = frame.word(("one",))
        self.returned = [v for v in program.outputs if v not in program.destinations]
        rows: list[tuple[int, int, int, int, int]] = []
        argwords: list[int] = []
        self.chunk_words: list[tuple[int, ProgramStep]] = []
        for s in program.steps:
            offset = len(argwords)
            argwords += [self._word(b) for b in s.bindings]
            extent = self._word(s.extent)
            chunks = self.one
            if isinstance(s.extent, _Choice):
                chunks = frame.word(_Choice("chunks", s.extent.call))
            elif program.threads > 1 and s.extent != 1:
                chunks = frame.word(("chunks", len(rows)))
                self.chunk_words.append((chunks, s))
            address = addresses[s.name] if s.host is None else s.host.load()
            rows.append((address, len(s.bindings), offset, extent, chunks))
        for v in self.returned:
            self._word(v)
            for size in v.type.shape:
                self._word(size)
        self.constants = {v: np.ascontiguousarray(v.data) for v in frame.words if isinstance(v, Constant)}
        self.table = np.array(rows, np.int64).reshape(-1, 5)
        self.argwords = np.array(argwords, np.int32)
        # Sizes that arguments determine: a slot for each axis whose size is not an int.
        self.slots: dict[Any, int] = {}
        self.slot_sizes: list[Size] = []
        self.axes: list[tuple[tuple[int, int], ...]] = []
        for v in (*program.arguments, *program.destinations):
            axes = []
            for size in v.type.shape:
                if isinstance(size, int):
                    axes.append((0, size))
                elif size in self.slots:
                    axes.append((2, self.slots[size]))
                else:
                    self.slots[size] = len(self.slots)
                    self.slot_sizes.append(size)
                    axes.append((1, self.slots[size]))
            self.axes.append(tuple(axes))

    def _word(self, bound: Any) -> int:
        if isinstance(bound, Variable):
            buffer = self.program.memory.of.get(bound)
            if buffer is not None:
                out = next((v for v in buffer.variables if v in self.outside), None)
                return self.frame.word(out if out is not None else buffer)
            return self.frame.word(bound)
        if isinstance(bound, int | Dim):
            return self.frame.word(("size", bound))
        if isinstance(bound, _Choice):
            return self.frame.word(bound)
        if isinstance(bound, _Raw):
            return self.frame.word(("raw", bound.word))
        return self.frame.word(("const", bound.dtype, bound.tobytes()))

    def _argument(self, k: int, native: Any) -> Any:
        count = len(self.program.arguments)
        if k < count:
            v = self.program.arguments[k]
            return native.Argument(v.type.dtype, self.axes[k], self.frame.words.get(v, -1))
        v = list(self.program.destinations)[k - count]
        return native.Argument(v.type.dtype, self.axes[k], self.frame.words.get(v, -1), destination=True)

    # -- plans --------------------------------------------------------------------------------------------------------

    def plan(self, dims: tuple[int, ...], env: Env) -> Plan:
        """Make and install the plan for these sizes, after the checks that the graph states."""
        program = self.program
        settle([(c.got, c.wanted) for c in program.checks if not c.at_least], env)
        for check in program.checks:
            check.verify(env)
        template = np.zeros(max(1, len(self.frame.words)), np.int64)
        relocations: list[int] = []
        arena_buffers = [b for b in program.memory.buffers if not b.output]
        sizes = [resolve(b.size, env) for b in arena_buffers]
        offsets, arena = assign_offsets([(b.first, b.last, n) for b, n in zip(arena_buffers, sizes, strict=True)])
        where = dict(zip(arena_buffers, offsets, strict=True))
        for key, word in self.frame.words.items():
            if isinstance(key, Buffer):
                template[word] = where[key]
                relocations.append(word)
            elif isinstance(key, Constant):
                template[word] = self.constants[key].ctypes.data
            elif isinstance(key, _Choice):
                template[word] = choices(key.call, env, program.threads)[key.what]
            elif isinstance(key, tuple):
                if key[0] == "size":
                    template[word] = resolve(key[1], env)
                elif key[0] == "raw":
                    template[word] = key[1]
                elif key[0] == "const":
                    template[word] = int.from_bytes(key[2].ljust(8, b"\0"), "little", signed=True)
        template[self.one] = 1
        total = 0.0
        for word, s in self.chunk_words:
            cost = step_cost(s, env)
            total += cost
            template[word] = max(1, min(program.threads, int(cost / GRAIN)))
        work = total if self.chunk_words else sum(step_cost(s, env) for s in program.steps if s.source)
        quick = work < 5_000 and all(isinstance(s.step, Kernel) for s in program.steps)
        made = Plan(
            env, arena, where, sum(resolve(v.type.size, env) * v.type.dtype.itemsize for v in program.memory.of)
        )
        with self._lock:
            if len(program.plans) >= MAX_PLANS:
                self.native.forget_plans()
                program.plans.clear()
                self._forgotten += 1
            if dims not in program.plans:
                self.native.install_plan(dims, template, arena, relocations, release_gil=not quick)
                program.plans[dims] = made
            program.last_plan = made
        return made

    def _slow(self, args: tuple[Any, ...]) -> Any:
        arrays = self._prepare(args)
        count = len(self.program.arguments)
        env = bind_sizes(self.program.arguments, arrays[:count])
        dims = tuple(resolve(s, env) for s in self.slot_sizes)
        with self._lock:
            forgotten, planned = self._forgotten, dims in self.program.plans
        if not planned:
            self.plan(dims, env)
        before = getattr(self._prepared, "value", (-1, ()))
        # Other threads may have had the plan forgotten between the look and the call, any number of times.
        same = len(args) == len(before[1]) and all(a is b for a, b in zip(args, before[1], strict=True))
        if planned and same and before[0] == forgotten:
            raise SizeError("the native entry refuses arguments that were prepared for it")
        self._prepared.value = (forgotten, arrays)
        try:
            return self.entry(*arrays)
        finally:
            self._prepared.value = before

    def _failed(self, step: int, code: int, args: tuple[Any, ...]) -> Any:
        s = self.program.steps[step]
        if s.host is not None:
            raise s.host.fail()
        if isinstance(s.step, LibraryCall):
            raise SizeError(f"matrix product: a size exceeds what BLAS takes (2**31 - 1)  {lines(s.step.nodes)}")
        env = bind_sizes(self.program.arguments, args[: len(self.program.arguments)])
        settle([(c.got, c.wanted) for c in self.program.checks if not c.at_least], env)
        raise index_error(s, code, env)


def index_error(step: ProgramStep, code: int, env: Env) -> IndexRangeError:
    """The error for the code that a kernel ended with: the user's expression and line, with the actual sizes."""
    node = step.checks[code - INDEX_ERROR]
    types = ", ".join(
        f"{v.name or 'operand'}: {v.type.dtype.name}{[resolve(s, env) for s in v.type.shape]}" for v in node.inputs
    )
    return IndexRangeError(f"{node.op.name}: an index is out of range: {types}   {lines([node])}")


def choices(call: LibraryCall, env: Mapping[Atom, int], threads: int) -> dict[str, int]:
    """How a matrix product is shared by threads: along the batch, the rows, or the columns."""
    from symgraph_kernels.cpu.blas import Split

    x = call.matrices
    m, n, k = (resolve(s, env) for s in (x.m, x.n, x.k))
    counts = [resolve(b[0], env) for b in x.batch]
    outer = counts[0] if len(counts) == 2 else 1
    parts = min(threads, int(2.0 * m * n * k * math.prod(counts) / GEMM_GRAIN))
    if parts <= 1:
        return {"split": Split.BATCH, "extent": outer, "chunks": 1}
    split, extent = max(((Split.ROWS, m), (Split.COLUMNS, n), (Split.BATCH, outer)), key=lambda s: s[1])
    return {"split": split, "extent": extent, "chunks": min(parts, extent)}


def step_cost(s: ProgramStep, env: Mapping[Atom, int]) -> float:
    """A rough estimate of a kernel's time on one core, in nanoseconds: enough to decide about threads."""
    if isinstance(s.step, LibraryCall):
        return 0.0
    elements = max((resolve(w, env) for w in s.work), default=0)
    return elements * (0.2 + 0.05 * s.step.flops if isinstance(s.step, Kernel) else HOST_ELEMENT)
