"""Where the time of a call goes: each step of the program timed by itself, against the measured roof of this machine.

The steps run one after the other on one frame, as in a call, through the same native executor, each from a table of
its own that has that one step. So the values, the splitting over threads and what the caches hold are those of a call;
the passage through Python between two steps is measured with an empty table and taken off.

The roof is that of the roofline model (Williams, Waterman, Patterson 2009): a step that does F operations and moves B
bytes takes at least max(F / peak, B / bandwidth), and its share of the roof is that bound over its time.

On a GPU each launch is timed by events of the device, around it alone, and those of one step are added up; a call in
one go may be a CUDA graph.
"""

from __future__ import annotations

import base64
import html
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from symgraph import source
from symgraph.graph import Apply, Variable
from symgraph.passes.fuse import Kernel, Step
from symgraph.runtime.native_layout import STEP_WORDS
from symgraph.runtime.native_layout import Function as Words
from symgraph.runtime.native_python import bind, lay_out
from symgraph.runtime.program import Executable
from symgraph.runtime.sizes import bind_sizes, resolve
from symgraph.runtime.table import Table, printable, quantity

if TYPE_CHECKING:
    from symgraph.runtime.function import Function

__all__ = ["Profile", "Roof", "StepTime", "profile", "roof"]

MAX_ROWS = 30
"""Steps that are printed at most, those that take longest."""
MAX_REPEATS = 1000


@dataclass(frozen=True)
class Roof:
    """What this machine was measured to do: bytes and operations a second.

    ``by`` says what did it: how many threads, or which GPU.
    """

    by: str
    bandwidth: float
    peak: Mapping[str, float]  # by dtype

    def bound(self, flops: float, moved: float, dtype: str) -> tuple[float, str]:
        """The least time in seconds, and whether ``memory`` or ``compute`` sets it."""
        by_memory, by_compute = moved / self.bandwidth, flops / self.peak.get(dtype, self.peak["float64"])
        return (by_memory, "memory") if by_memory >= by_compute else (by_compute, "compute")

    def __str__(self) -> str:
        peaks = ", ".join(f"{quantity(f, 'FLOP/s')} in {dtype}" for dtype, f in self.peak.items())
        return f"{quantity(self.bandwidth, 'B/s')}, {peaks}, {self.by}"


@dataclass(frozen=True, eq=False)
class StepTime:
    """The time of one step, in seconds, beside what it does.

    ``flops`` are operations in units of one addition (an ``exp`` counts 12), ``bytes`` those of the distinct elements
    that it reads and writes, both as ``fn.cost`` counts them for the sizes of the call; of what a step of a user's own
    code computes nothing is known.
    """

    number: int
    name: str
    nodes: tuple[Apply, ...]
    outputs: tuple[Variable, ...]
    seconds: float  # the shortest of all repetitions
    median: float
    flops: float
    bytes: float
    share: float  # of the time of all steps
    of_roof: float  # the least time that the roof admits, over `seconds`
    bound: str  # what that least time is set by: "memory" or "compute"

    @property
    def operations(self) -> str:
        """The operations of the user's graph that the step computes."""
        return "+".join(dict.fromkeys(n.op.name for n in reversed(self.nodes)))

    @property
    def sources(self) -> source.Sources:
        """The user's lines that it comes from."""
        return frozenset().union(*[n.sources for n in self.nodes])

    @property
    def gbytes(self) -> float:
        """GB/s."""
        return self.bytes / self.seconds / 1e9 if self.seconds else 0.0

    @property
    def gflops(self) -> float:
        """GFLOP/s."""
        return self.flops / self.seconds / 1e9 if self.seconds else 0.0


class Profile(Table):
    """The times of a program's steps, iterable in the order of the program; printed, those that take longest first.

    ``seconds`` is the shortest time of all steps in one go, as a call runs them; ``roof`` what they are held against.
    """

    columns = ("step", "kernel<", "operations<", "µs", "median", "share", "GB/s", "GFLOP/s", "of roof", "line<")

    def __init__(self, label: str, steps: Sequence[StepTime], seconds: float, roof: Roof, repeats: int) -> None:
        self.label = label
        self.steps = list(steps)
        self.seconds = seconds
        self.roof = roof
        self.repeats = repeats

    def __iter__(self) -> Iterator[StepTime]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, number: int) -> StepTime:
        return self.steps[number]

    def slowest(self) -> list[StepTime]:
        """The steps, those that take longest first."""
        return sorted(self.steps, key=lambda s: -s.seconds)

    def _rows(self) -> list[list[str]]:
        rows = [
            [
                str(s.number), s.name, _short(s.operations, 40), _us(s.seconds), _us(s.median), f"{s.share:.0%}",
                f"{s.gbytes:.3g}", f"{s.gflops:.3g}", f"{s.of_roof:.0%} {s.bound}", _lines(s.sources),
            ]
            for s in self.slowest()[:MAX_ROWS]
        ]  # fmt: skip
        total = sum(s.seconds for s in self.steps)
        flops, moved = sum(s.flops for s in self.steps), sum(s.bytes for s in self.steps)
        least = sum(s.of_roof * s.seconds for s in self.steps)
        rate = [f"{x / total / 1e9:.3g}" if total else "" for x in (moved, flops)]
        share = f"{least / total:.0%}" if total else ""
        median = sum(s.median for s in self.steps)
        rows.append(["", "total", f"{len(self)} steps", _us(total), _us(median), "100%", *rate, share, ""])
        return rows

    def _notes(self) -> list[str]:
        rest = self.slowest()[MAX_ROWS:]
        left = [f"{len(rest)} more steps take {sum(s.share for s in rest):.1%} of the time."] if rest else []
        return [
            *left,
            f"{self.label}: {_us(self.seconds)} µs in one go; shortest and median of {self.repeats} repetitions.",
            f"Roof as measured here: {self.roof}. What stays in caches can be above it.",
        ]

    def svg(self) -> str:
        """A bar for each step, as long as its time; the filled part is what the roof would leave of it."""
        chosen = self.slowest()[:MAX_ROWS]
        longest = max((s.seconds for s in chosen), default=0.0) or 1.0
        left, wide, row = 280, 360, 20
        height = row * len(chosen) + 30
        width = left + wide + 90
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" ',
            f'viewBox="0 0 {width} {height}" ',
            'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="#fff"/>',
        ]
        for k, s in enumerate(chosen):
            y, length = row * k + 4, wide * s.seconds / longest
            filled = length * min(1.0, s.of_roof)
            name = html.escape(f"{s.number} {_short(s.operations, 30)}")
            parts.append(
                f'<text x="{left - 6}" y="{y + 12}" text-anchor="end" fill="#222">{name}</text>'
                f'<rect x="{left}" y="{y}" width="{length:.1f}" height="{row - 5}" fill="#c6d4e8"/>'
                f'<rect x="{left}" y="{y}" width="{filled:.1f}" height="{row - 5}" fill="#3a6ea5"/>'
                f'<text x="{left + length + 5:.1f}" y="{y + 12}" fill="#222">{_us(s.seconds)} µs</text>'
            )
        parts.append(
            f'<text x="{left}" y="{height - 8}" fill="#555">time of a step; dark: the least that the roof admits</text>'
        )
        return "".join(parts) + "</svg>"

    def _repr_html_(self) -> str:
        data = base64.b64encode(self.svg().encode()).decode()
        return f'{super()._repr_html_()}<img alt="time of each step" src="data:image/svg+xml;base64,{data}"/>'


def profile(fn: Function, args: tuple[Any, ...], kwargs: Mapping[str, Any], seconds: float) -> Profile:
    """Time the steps of ``fn`` on these arguments for some ``seconds``. No update is made."""
    launches = fn.program.steps
    each, whole, env = _measure(fn, args, kwargs, seconds)
    costs = {c.step: c for c in fn.cost.bound(env).steps}
    limits = roof(fn.program.threads, fn.target)
    taken: dict[Step, list[tuple[float, ...]]] = {}  # on a GPU a step may be several launches
    numbers: dict[Step, int] = {}
    for k, (launch, times) in enumerate(zip(launches, each, strict=True)):
        taken.setdefault(launch.step, []).append(tuple(times))
        numbers.setdefault(launch.step, k)
    seconds_of = {step: [sum(t) for t in zip(*times, strict=True)] for step, times in taken.items()}
    total = sum(map(min, seconds_of.values())) or 1.0
    rows = []
    for step, times in seconds_of.items():
        best, cost = min(times), costs[step]
        flops, moved = (float(resolve(n, env)) for n in (cost.work, cost.bytes))
        outputs = tuple(step.outputs if isinstance(step, Kernel) else step.writes)
        bound, by = limits.bound(flops, moved, outputs[0].type.dtype.name if outputs else "float64")
        rows.append(
            StepTime(
                numbers[step], cost.name, tuple(step.nodes), outputs, best, statistics.median(times), flops, moved,
                best / total, bound / best if best else 0.0, by,
            )
        )  # fmt: skip
    return Profile(fn._label, rows, min(whole), limits, len(whole))


def _measure(
    fn: Function, args: tuple[Any, ...], kwargs: Mapping[str, Any], seconds: float, least: int = 3
) -> tuple[list[list[float]], list[float], dict[Any, int]]:
    """Times of each step and of all in one go, in seconds, and the sizes of the call."""
    executable = fn._executable
    if fn.target == "cuda":
        with fn._locked():
            values = [*fn._values(), *(executable.spare(s, None) for s in fn.updates)]
            found: tuple[list[list[float]], list[float], dict[Any, int]] = executable.times(
                (*fn._bound(args, kwargs), *values), seconds, least, MAX_REPEATS
            )
        return found
    assert isinstance(executable, Executable)
    program, state = executable.program, executable.native._state
    with fn._locked():
        kept = [s.to_host() for s in fn.shared]  # values are replaced by updates, never written while they are current
        fresh = [np.empty(s._value.shape, s._value.dtype) for s in fn.updates]
        arrays = [np.array(a) for a in executable._prepare((*fn._bound(args, kwargs), *kept, *fresh))]
    env = bind_sizes(program.arguments, arrays[: len(program.arguments)])
    dims = tuple(resolve(size, env) for size in executable.slot_sizes)
    if dims not in program.plans:
        executable.plan(dims, env)
    assert bind(state.arguments, tuple(arrays)) == dims
    plan = state.plans[dims]
    if plan.parallel:
        state.runtime.pool.start()
    call = lay_out(state, plan, arrays)
    count = len(program.steps)
    heads = np.tile(state.words[: len(Words)], (count + 1, 1))
    heads[:, Words.NSTEPS] = 1
    heads[count, Words.NSTEPS] = 0
    heads[:count, Words.STEPS] += 8 * STEP_WORDS * np.arange(count)
    execute, clock = state.runtime.execute, time.perf_counter
    tables = [int(heads.ctypes.data) + heads.strides[0] * k for k in range(count + 1)]

    frame, scratch = call.address, call.scratch

    def timed(table: int, first: int = 0) -> float:
        start = clock()
        code = execute(table, frame, scratch)
        took = clock() - start
        if code:
            state.failed(first + int(call.block[scratch - frame :][:8].view(np.int64)[0]), code, tuple(arrays))
        return took

    passage = min(timed(tables[count]) for _ in range(50))
    each: list[list[float]] = [[] for _ in program.steps]
    whole: list[float] = []
    end = clock() + seconds
    while len(whole) < least or (clock() < end and len(whole) < MAX_REPEATS):
        whole.append(max(0.0, timed(state.address) - passage))
        for k in range(count):
            each[k].append(max(0.0, timed(tables[k], k) - passage))
    return each, whole, program.plans[dims].env if dims in program.plans else env


@cache
def roof(threads: int, target: str = "cpu") -> Roof:
    """Measure what the machine does with so many threads, or its GPU, once in a process, in about half a second.

    The bandwidth is that of ``c = a + 3·b`` over arrays of 32 MB, with the bytes of the three counted once (McCalpin's
    STREAM triad); the peak that of matrix products of 256 by 256, with one thread too, or of 1,024 by 1,024, whichever
    is fastest: on a busy machine the small ones find a quiet moment more easily. On a GPU it is arrays of 256 MB, and
    products of 4,096 by 4,096.
    """
    from symgraph.emit.numba_cuda import simulated
    from symgraph.ops.create import shared
    from symgraph.runtime.device import the_device
    from symgraph.runtime.function import Function

    length, sizes, by = 2**22, {(256, 1), (256, threads), (1024, threads)}, f"with {threads} threads"
    if target == "cuda":
        device = the_device()
        length, sizes, by = 2**25, {(4096, 1)}, f"on {device.name()}"
        if simulated():  # whose threads are Python's: nothing is learned from it
            length, sizes = 2**6, {(4, 1)}
    a, b, c = (shared(np.zeros(length)) for _ in range(3))
    triad = Function([], None, updates={c: a + 3.0 * b}, threads=threads, target=target)
    bandwidth = 3 * 8 * length / min(_measure(triad, (), {}, 0.1)[1])
    peak = {}
    for dtype in ("float32", "float64"):
        rates = []
        for n, using in sizes:
            x, y = (shared(np.zeros((n, n), dtype)) for _ in range(2))
            product = Function([], None, updates={y: x @ x}, threads=using, target=target)
            rates.append(2 * n**3 / min(_measure(product, (), {}, 0.05)[1]))
        peak[dtype] = max(rates)
    return Roof(by, bandwidth, peak)


def _us(seconds: float) -> str:
    us = 1e6 * seconds
    return f"{us:,.0f}" if us >= 100 else f"{us:.1f}"


def _short(text: str, most: int) -> str:
    text = printable(text)
    return text if len(text) <= most else text[: most - 1] + "…"


def _lines(sources: source.Sources) -> str:
    """At most three lines of the user's."""
    shown = sorted(sources)
    more = f", … {len(shown) - 3} more" if len(shown) > 3 else ""
    return f"({', '.join(map(str, shown[:3]))}{more})" if shown else ""
