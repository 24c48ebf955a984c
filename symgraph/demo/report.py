"""What the demo prints: what the compiler did, how much memory a call takes, and where the time went."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

import symgraph as sg
from symgraph.demo.network import Trained
from symgraph.demo.newton import Fitted
from symgraph.runtime.sizes import resolve


def heading(text: str) -> None:
    """A title, in bold where the terminal can."""
    bold, plain = ("\033[1m", "\033[0m") if sys.stdout.isatty() and not os.environ.get("NO_COLOR") else ("", "")
    rule = "─" if (sys.stdout.encoding or "").lower().startswith("utf") else "-"
    print(f"\n{bold}{text}{plain}\n{rule * len(text)}")


def table(rows: Iterable[tuple[str, ...]], left: int = 1) -> str:
    """Rows as aligned columns: the first ``left`` to the left, the others to the right."""
    rows = list(rows)
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(w) if k < left else cell.rjust(w) for k, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  " + "  ".join(cells).rstrip())
    return "\n".join(lines)


def built(fn: sg.Function) -> str:
    """The passes that a function's graph went through, and what came out."""
    rows = [("pass", "nodes before", "after", "ms", "rules fired")]
    rows += [
        (r.name, str(r.nodes_before), str(r.nodes_after), f"{1000 * r.seconds:.1f}", str(sum(r.fired.values()) or ""))
        for r in fn.passes
    ]
    program = fn.program
    calls = sum(not s.source for s in program.steps)
    loops = len(program.steps) - calls
    return (
        f"{fn.name}: {len(fn.graph)} operations as written and differentiated\n{table(rows)}\n"
        f"  {len(program.steps)} steps: {loops} fused loops ({len(program.kernels)} distinct kernels) "
        f"and {calls} matrix products by BLAS"
    )


def memory(fn: sg.Function) -> str:
    """The memory of a call with the largest sizes so far, against what the tensors would take one by one."""
    plans = fn.program.plans.values()
    if not plans:
        return "  not called yet"
    plan = max(plans, key=lambda p: p.arena)
    every = sum(resolve(v.type.size, plan.env) * v.type.dtype.itemsize for node in fn.graph.nodes for v in node.outputs)
    sizes = ", ".join(f"{atom} {n}" for atom, n in plan.env.items() if atom.name)
    return (
        f"Memory of a call of {fn.name} ({sizes}): one arena of {plan.arena:,} bytes. Its tensors apart\n"
        f"would take {plan.intermediates:,}, all intermediates of the graph as written {every:,}."
    )


def history(trained: Trained) -> str:
    """Some epochs of the training."""
    last = trained.history[-1].number
    chosen = [e for e in trained.history if e.number in {1, 2, 5, 10, 20, 50, 100, last}]
    rows = [("epoch", "training loss", "held-out accuracy")]
    return table([*rows, *((str(e.number), f"{e.loss:.4f}", f"{e.accuracy:.4f}") for e in chosen)])


def newton_steps(fitted: Fitted) -> str:
    """The outer steps of Newton's method."""
    rows = [("step", "value", "gradient / first", "Hessian products", "step length")]
    rows += [
        (str(k), f"{s.value:.8f}", f"{s.gradient:.1e}", str(s.products), f"{s.length:g}")
        for k, s in enumerate(fitted.steps, 1)
    ]
    rows.append(("end", f"{fitted.value:.8f}", f"{fitted.gradient:.1e}", "", ""))
    return table(rows)


def stage(functions: Iterable[sg.Function], name: str) -> float:
    """Seconds that one stage took, over several functions."""
    return sum(fn.seconds.get(name, 0.0) for fn in functions)


def times(stages: dict[str, float]) -> str:
    """Seconds by stage, and their sum."""
    rows = [*stages.items(), ("together", sum(stages.values()))]
    return table((name, f"{seconds:.2f}") for name, seconds in rows)
