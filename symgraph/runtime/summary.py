"""A compiled function in a few lines: what it takes and gives, what it became, its memory, and where the time went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from symgraph.graph import Variable
from symgraph.runtime.sizes import label, resolve
from symgraph.runtime.table import Table, quantity

if TYPE_CHECKING:
    from symgraph.runtime.function import Function

__all__ = ["Summary"]

MOST = 8
"""Variables of a kind that are named; of more, the number is given."""


class Summary(Table):
    """Lines about a function, by what they are about: ``rows`` as a dict, printed as a table."""

    def __init__(self, fn: Function) -> None:
        self.columns = (f"{fn._label}<", f"on {fn.target}<")
        self.rows: dict[str, str] = {
            "inputs": _list([f"{label(v, k)}: {v.type}" for k, v in enumerate(fn.inputs)]),
            "outputs": _list([_named(v) for v in fn.outputs]),
        }
        if fn.shared:
            self.rows["shared"] = _list([_named(v) for v in fn.shared])
        if fn.updates:
            self.rows["updates"] = _list([v.name or str(v.type) for v in fn.updates])
        self.rows["graph"] = f"{_count(len(fn.graph), 'operation')} as written"
        if fn._program is None:
            return
        program = fn._program
        self.rows["graph"] += f", {len(fn.optimized)} when optimized"
        kernels = sum(bool(s.source) for s in program.steps)
        others = len(program.steps) - kernels
        where = _count(program.threads, "thread") if program.target == "cpu" else f"on {program.target}"
        self.rows["program"] = (
            f"{_count(len(program.steps), 'step')}: {_count(kernels, 'kernel')} ({len(program.kernels)} distinct)"
            f"{f' and {others} by libraries or code of yours' if others else ''}, {where}"
        )
        self.rows["memory"] = _memory(fn)
        self.rows["made in"] = _seconds(fn.seconds)
        if fn.compiled is not None:
            hits = len(program.kernels) - fn.compiled
            self.rows["cache"] = f"{hits} of {_count(len(program.kernels), 'kernel')} found, {fn.compiled} compiled"

    def _rows(self) -> Sequence[Sequence[str]]:
        return list(self.rows.items())


def _named(v: Variable) -> str:
    return f"{v.name}: {v.type}" if v.name else str(v.type)


def _list(items: Sequence[str]) -> str:
    shown = ", ".join(items[:MOST]) or "none"
    return f"{shown}, … ({len(items)} in all)" if len(items) > MOST else shown


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _seconds(stages: Mapping[str, float]) -> str:
    parts = ", ".join(f"{name} {seconds:.3f}" for name, seconds in stages.items())
    return f"{sum(stages.values()):.3f} s ({parts})"


def _memory(fn: Function) -> str:
    program = fn.program
    plan = program.last_plan
    if plan is None:
        return "known when it has been called"
    every = sum(resolve(v.type.size, plan.env) * v.type.dtype.itemsize for n in fn.graph for v in n.outputs)
    sizes = ", ".join(f"{atom.name} {n}" for atom, n in plan.env.items() if atom.name)
    return (
        f"an arena of {quantity(plan.arena, 'B')} for tensors of {quantity(plan.intermediates, 'B')}; all "
        f"intermediates as written {quantity(every, 'B')}{f' ({sizes})' if sizes else ''}"
    )
