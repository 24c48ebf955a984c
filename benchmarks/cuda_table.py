"""Every CUDA kernel of the registry table and of the benchmark rows, compiled and assembled, and a model of their time.

The tables of docs/cuda.md, which ``python -m benchmarks.cuda_page`` writes. Needs no GPU; it needs numba-cuda and ptxas
(``pip install 'symgraph-compiler[cuda-test]'``).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import symgraph as sg
from symgraph.op import OPS
from symgraph.ops.elementwise import Elementwise
from symgraph.runtime.lowered import LoweredKernel, Lowering
from symgraph.runtime.occupancy import occupancy
from symgraph.testing.ptx import CC, CCS, Resources, resources
from symgraph.types import atoms

THREADS = 256
"""Of a block, for occupancy: what a launch has unless rows are short."""


@dataclass
class Found:
    """Distinct kernels by name, and where each was met first."""

    kernels: dict[str, LoweredKernel] = field(default_factory=dict)
    families: dict[str, str] = field(default_factory=dict)

    def add(self, family: str, made: Lowering) -> None:
        for k in made.kernels:
            self.kernels.setdefault(k.name, k)
            self.families.setdefault(k.name, family)

    def of(self, family: str) -> list[LoweredKernel]:
        return [k for name, k in self.kernels.items() if self.families[name] == family]


def family(name: str) -> str:
    """Of an op: the module that defines it."""
    op = OPS[name]
    if isinstance(op, Elementwise):
        return "elementwise"
    return (op if isinstance(op, type) else type(op)).__module__.rpartition(".")[2]


# -- the registry ------------------------------------------------------------------------------------------------------


def registry(names: Sequence[str] | None = None) -> Found:
    """The kernels of the registry table: values in all dtypes, symbolic sizes, gradients and their gradients."""
    from tests.backend.table import NAMES, cases, gradients, symbolic

    found = Found()
    for name in NAMES if names is None else names:
        work = [cases(name), *([c] for c in symbolic(name)), gradients(name, 1), gradients(name, 2)]
        for some in work:
            if not some:
                continue
            inputs, outputs = [v for c in some for v in c.inputs], [v for c in some for v in c.outputs]
            made = sg.lower(inputs, outputs, "cuda", blas="tiles")
            found.add(family(name), made)
    return found


# -- the rows of the benchmarks ----------------------------------------------------------------------------------------


class _Captured(Exception):
    """What a row gave to ``sg.function``."""

    def __init__(self, inputs: Any, outputs: Any) -> None:
        super().__init__()
        self.inputs, self.outputs = inputs, outputs


LONGEST = 10_000
"""Nodes of the longest chain that is taken: longer ones are cut into the same kernels."""


def graphs() -> Iterator[tuple[str, Mapping[str, Any], Any, Any]]:
    """Row and case, facts of the case, and inputs and outputs of the functions of the benchmark rows."""
    from benchmarks.rows import ROWS

    def capture(inputs: Any, outputs: Any, **_: Any) -> Any:
        raise _Captured(inputs, outputs)

    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the rows ask for it
    for key, row in ROWS.items():
        make: Callable[[Any], Any] | None = row.timed.get("symgraph") or row.once.get("symgraph")
        if make is None:
            continue
        for case in row.cases:
            if key == "chain" and case["n"] > LONGEST:
                continue
            with patch.object(sg, "function", capture):
                try:
                    make(case)
                except _Captured as c:
                    yield f"{key}, {case.name}", case.facts, c.inputs, c.outputs


@dataclass
class Row:
    """A benchmark row's program for a GPU, and the sizes of its case."""

    what: str
    facts: Mapping[str, Any]
    made: Lowering


def rows() -> list[Row]:
    """The programs of the benchmark rows for a GPU."""
    return [
        Row(what, facts, sg.lower(inputs, outputs, "cuda", blas="tiles")) for what, facts, inputs, outputs in graphs()
    ]


# -- tables ------------------------------------------------------------------------------------------------------------

HOPPER = (9, 0)


def _cells(numbers: Sequence[object]) -> str:
    return "/".join(map(str, numbers))


def _percent(share: float) -> str:
    return f"{100 * share:.0f}"


def kernel_table(of: Sequence[Row], got: Mapping[CC, Mapping[str, Resources]]) -> str:
    """One line for each distinct kernel of the rows, at its first row."""
    lines = [
        "| row | kernel | computes | registers | occupancy, % | spills | shared | 16-byte loads | 16-byte stores |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    seen: set[str] = set()
    for row in of:
        for s in row.made.program.steps:
            if s.name in seen:
                continue
            seen.add(s.name)
            all_of = [got[cc][s.name] for cc in CCS]
            r = got[HOPPER][s.name]
            ops = "+".join(dict.fromkeys(n.op.name for n in reversed(s.step.nodes)))
            ops = ops if len(ops) <= 44 else f"{ops[:41]}..."
            registers = _cells([x.registers for x in all_of])
            shares = _cells(
                [_percent(occupancy(cc, THREADS, x.registers, x.shared)) for cc, x in zip(CCS, all_of, strict=True)]
            )
            lines.append(
                f"| {row.what} | `{s.name}` | {ops} | {registers} | {shares} | {sum(x.spills for x in all_of)} | "
                f"{r.shared} | {r.wide_loads} of {r.loads} | {r.wide_stores} of {r.stores} |"
            )
    return "\n".join(lines) + "\n"


def family_table(found: Found, got: Mapping[CC, Mapping[str, Resources]]) -> str:
    """One line for each family of the registry's operations."""
    lines = [
        "| family | kernels | most registers | spills | most local memory | least occupancy, % | with 16-byte moves |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in [*sorted(set(found.families.values())), "all"]:
        of = [k.name for k in (found.kernels.values() if name == "all" else found.of(name))]
        most = _cells([max(got[cc][k].registers for k in of) for cc in CCS])
        spills = sum(got[cc][k].spills for cc in CCS for k in of)
        stack = _cells([max(got[cc][k].stack for k in of) for cc in CCS])
        least = _cells(
            [_percent(min(occupancy(cc, THREADS, got[cc][k].registers, got[cc][k].shared) for k in of)) for cc in CCS]
        )
        wide = sum(bool(got[HOPPER][k].wide_loads or got[HOPPER][k].wide_stores) for k in of)
        lines.append(f"| {name} | {len(of)} | {most} | {spills} | {stack} | {least} | {wide} |")
    return "\n".join(lines) + "\n"


# -- a model -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Device:
    """Peaks of a GPU, from its maker's data sheet."""

    name: str
    bandwidth: float  # bytes a second
    flops: Mapping[str, float]  # by dtype, a second, not on tensor cores


DEVICES = (
    Device("H100 SXM", 3.35e12, {"float32": 67e12, "float64": 34e12}),
    Device("RTX 4090", 1.008e12, {"float32": 82.6e12, "float64": 1.29e12}),
)
ALIASES = {"n": "rows", "d": "parameters"}
"""Sizes by the names that the cases of some rows give them."""


def bound(row: Row, device: Device) -> tuple[float, float] | None:
    """The least seconds for a call, by the model: the sum over steps; and the part of steps that bandwidth bounds.

    ``None`` where the row's case does not say all sizes.
    """
    facts = {**{k: row.facts[v] for k, v in ALIASES.items() if v in row.facts}, **row.facts}
    cost = row.made.cost
    names = {str(a.name) for a in cost._atoms()}
    if not names <= facts.keys():
        return None
    total = moving = 0.0
    for s in cost.at(**{n: facts[n] for n in names}).steps if names else cost.steps:
        if not isinstance(s.bytes, int) or not isinstance(s.flops, int):
            return None
        double = any(v.type.dtype == "float64" for n in s.nodes for v in (*n.inputs, *n.outputs))
        arithmetic = s.flops / device.flops["float64" if double else "float32"]
        movement = s.bytes / device.bandwidth
        total += max(arithmetic, movement)
        moving += movement if movement >= arithmetic else 0.0
    return total, moving


def launches(row: Row, sizes: Mapping[str, Any]) -> int:
    """How many there are in a call: of two ways to do a step, those of one."""
    program = row.made.program
    sized = {a for v in program.arguments for size in v.type.shape for a in atoms(size)}
    env = {a: sizes[a.name] for a in sized if a.name is not None and a.name in sizes}
    return sum(1 if s.repeat is None else s.repeat(env) for s in program.steps)


def model_table(of: Sequence[Row]) -> str:
    """One line for each row whose case says all sizes."""
    lines = [
        "| row | launches | FLOPs | transcendentals | bytes | " + " | ".join(f"{d.name}, µs" for d in DEVICES) + " |",
        "|---|---|---|---|---|" + "---|" * len(DEVICES),
    ]
    for row in of:
        found = [bound(row, d) for d in DEVICES]
        if any(f is None for f in found):
            continue
        facts = {**{k: row.facts[v] for k, v in ALIASES.items() if v in row.facts}, **row.facts}
        names = {str(a.name) for a in row.made.cost._atoms()}
        cost = row.made.cost.at(**{n: facts[n] for n in names}) if names else row.made.cost
        times = " | ".join(f"{1e6 * f[0]:.3g} ({100 * f[1] / f[0] if f[0] else 0:.0f} %)" for f in found if f)
        lines.append(
            f"| {row.what} | {launches(row, facts)} | {cost.flops:.3g} | {cost.transcendentals:.3g} "
            f"| {cost.bytes:.3g} | {times} |"
        )
    return "\n".join(lines) + "\n"


def survey(of: Sequence[Row], found: Found, processes: int = 2) -> dict[CC, dict[str, Resources]]:
    """Compile and assemble all kernels of rows and registry for all compute capabilities."""
    return resources([*(k for r in of for k in r.made.kernels), *found.kernels.values()], CCS, processes)
