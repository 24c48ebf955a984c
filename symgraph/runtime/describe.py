"""A program as text: steps, buffers, and offsets."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from symgraph.graph import Constant, SharedVariable, Variable
from symgraph.loop.split import Only
from symgraph.passes.fuse import Kernel
from symgraph.passes.memory import Buffer
from symgraph.types import Size, atoms

if TYPE_CHECKING:
    from symgraph.loop.schedule import Launch
    from symgraph.runtime.program import Program, ProgramStep

LONG = 24
"""Characters that a size may have in every place where it stands."""


def _threads(launch: Launch) -> str:
    """Over what a launch on a GPU is dealt out."""
    if launch.kind == "one":
        return "[one thread]"
    return f"[threads for {launch.lanes}]" if launch.kind == "grid" else f"[{launch.groups} rows of {launch.lanes}]"


def _ways(step: ProgramStep) -> str:
    """For which sizes a launch is made, or how often, and whether it adds to zeros."""
    how = "" if step.repeat is None else f", if {step.repeat}" if isinstance(step.repeat, Only) else f", {step.repeat}"
    return how + ", adds to zeros" * bool(step.zeroed)


def _abbreviated(lines: list[str], sizes: Iterable[Size]) -> list[str]:
    """``lines`` with names for the long functions of sizes that come more than once, and what these names are."""
    found = {repr(a) for s in sizes for a in atoms(s) if a.fn}
    named: dict[str, str] = {}
    for long in sorted((f for f in found if len(f) > LONG), key=lambda f: (-len(f), f)):
        if sum(text.count(long) for text in (*lines, *named.values())) > 1:
            name = f"${len(named)}"
            whole = re.compile(rf"(?<!\w)\({re.escape(long)}\)|{re.escape(long)}")  # a name needs no parentheses
            lines = [whole.sub(name, text) for text in lines]
            named = {k: whole.sub(name, text) for k, text in named.items()}
            named[name] = long
    return [*lines, *(["sizes:"] if named else []), *(f"  {name} = {text}" for name, text in named.items())]


def describe(program: Program) -> str:
    """Steps with what they read and write, then buffers with lifetimes and, once sizes are known, bytes and offsets.

    Long sizes that come more than once have a name, ``$0``, and stand at the end.
    """
    names: dict[Variable, str] = {}
    for k, v in enumerate(program.arguments):
        names[v] = v.name or ("shared" if isinstance(v, SharedVariable) else "input") + str(k)
    buffers: dict[Buffer, str] = {}
    for b in program.memory.buffers:
        inside = next((v for v in b.variables if v in set(program.outputs)), None)
        if inside is not None:
            k = next(k for k, v in enumerate(program.outputs) if v is inside)
            buffers[b] = f"out{k}" + (f":{inside.name}" if inside.name else "")
        else:
            buffers[b] = f"@{sum(1 for other in buffers if not other.output)}"
        names.update(dict.fromkeys(b.variables, buffers[b]))

    def label(v: Variable) -> str:
        if v in names:
            return names[v]
        return f"const{list(v.type.shape)}" if isinstance(v, Constant) else repr(v)

    rows = []
    for k, s in enumerate(program.steps):
        if isinstance(s.step, Kernel):
            own = set(s.step.outputs)
            reads = [v for v in s.step.inputs if v not in own]
            writes = s.step.outputs
        else:
            reads, writes = s.step.reads, s.step.writes
        ops = dict.fromkeys(n.op.name for n in reversed(s.step.nodes))
        what = "+".join(ops) if s.host is None else ", ".join(str(n.op) for n in s.step.nodes)
        arrow = f"{', '.join(label(v) for v in writes)} <- {', '.join(label(v) for v in reads)}"
        what = what if len(what) <= 60 else what[:57] + "..."
        rows.append((str(k), s.name, arrow, what if s.launch is None else f"{what}  {_threads(s.launch)}{_ways(s)}"))
    width = [max((len(r[c]) for r in rows), default=0) for c in range(3)]
    hosts = sum(s.host is not None for s in program.steps)
    cpu = program.target == "cpu"
    kinds = f"{len(program.kernels)} distinct kernels" + f", {hosts} host steps" * bool(hosts)
    by = f"{program.threads} threads" if cpu else f"for {program.target}" + ", no host steps" * (not hosts)
    lines = [f"program: {len(program.steps)} steps, {kinds}, {by}"]
    lines += [f"  {r[0]:>{width[0]}}  {r[1]:<{width[1]}}  {r[2]:<{width[2]}}  {r[3]}".rstrip() for r in rows]
    lines.append("buffers:")
    plan = program.last_plan
    for b, name in buffers.items():
        where = ""
        if plan is not None and b in plan.offsets:
            where = f"  offset {plan.offsets[b]}"
        kinds = ", ".join(dict.fromkeys(str(v.type) for v in b.variables))
        shared = f" ({len(b.variables)} tensors in place)" if len(b.variables) > 1 else ""
        lines.append(f"  {name}: {kinds}{shared}, steps {b.first}..{b.last}{where}")
    if plan is not None:
        more = f"; cuBLAS works in {plan.workspace} bytes" if plan.workspace else ""
        lines.append(f"arena: {plan.arena} bytes for {plan.intermediates} bytes of tensors{more}")
    sizes = [size for b in buffers for v in b.variables for size in v.type.shape]
    for s in program.steps:
        sizes += [s.launch.groups, s.launch.lanes] if s.launch is not None else []
        sizes += [s.repeat.parts] if isinstance(s.repeat, Only) else []
    return "\n".join(_abbreviated(lines, sizes))
