"""Orders 1 to 10 of six functions beside JAX: size, FLOPs, compile time, run time, error; written to docs/orders.md.

python -m benchmarks.orders [--section k] [--limit seconds] [--no-write]

The page keeps the sections that are not measured again.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import mpmath
import numpy as np

from benchmarks.harness import Array
from benchmarks.processes import ROOT, Failed, Process
from benchmarks.report import duration, machine
from benchmarks.rows.orders import B1, B2, COLD, FUNCTIONS, ORDERS, POINTS, QUOTIENT, ROW, W1, W2, W3, X

PAGE = ROOT / "docs" / "orders.md"
ROUNDS, BUDGET = 7, 0.05  # seconds of a contender in one round
SAMPLES = range(0, POINTS, POINTS // 7)
"""Points at which values are compared with mpmath's."""
TOLERANCE = 1e-9
"""Of errors, relative to the largest value: what exceeds it is marked."""
COLD_RUNS = 3
FIRST = "From a fresh process"
INTRODUCTION = """\
Written by `python -m benchmarks.orders`. Derivatives of six functions at 10⁴ points from -2 to 2, in float64, on one
thread, made in four ways: `sg.derivative` (Taylor mode), `sg.grad` repeated (each time of the sum), `jax.grad` nested
under `jax.vmap`, and `jax.experimental.jet` (of `log1p(exp x)` for softplus: it has no rule for what
`jax.nn.softplus` is made of).

- *Compile*: differentiate, compile, and the first call, with empty caches, in a process that has compiled something
  else before. A way that took longer than {limit:.0f} s, or failed, is not tried at higher orders (–).
- *Run*: the fastest call. Contenders take turns, each in a process of its own. *Ratio*: of `sg.derivative` to the
  better of the two ways of JAX.
- *Size*: nodes of the graph as built (as optimized); equations of JAX's jaxpr, with those of the functions it calls.
- *FLOPs*: at one point, from `fn.cost`; a transcendental function counts as one.
- *Error*: the largest difference from mpmath (60 digits) at {samples} points, divided by the largest value there."""


def exact(name: str) -> list[Array]:
    """Derivatives of orders 0 to 10 at the samples, by mpmath."""
    m = mpmath

    def network(x: Any) -> Any:
        first = [m.tanh(m.mpf(float(w)) * x + m.mpf(float(b))) for w, b in zip(W1, B1, strict=True)]
        second = [
            m.tanh(m.fsum(m.mpf(float(w)) * h for w, h in zip(column, first, strict=True)) + m.mpf(float(b)))
            for column, b in zip(W2.T, B2, strict=True)
        ]
        return m.fsum(m.mpf(float(w)) * h for w, h in zip(W3, second, strict=True))

    by_hand: dict[str, Callable[[Any], Any]] = {
        "softplus x": lambda x: m.log(1 + m.exp(x)),
        "w₃ · tanh(W₂ tanh(w₁ x + b₁) + b₂)": network,
        "log-sum-exp of (x, 2x, x²)": lambda x: m.log(m.exp(x) + m.exp(2 * x) + m.exp(x * x)),
    }
    f = by_hand.get(name, lambda x: FUNCTIONS[name][0](m, x))
    with m.workdps(60):
        series = [m.taylor(f, m.mpf(float(X[k])), max(ORDERS)) for k in SAMPLES]
        return [np.array([float(s[n] * m.factorial(n)) for s in series]) for n in range(max(ORDERS) + 1)]


class Found:
    """What one contender has found at one order."""

    def __init__(self, note: str = "", facts: Mapping[str, float] | None = None) -> None:
        self.note = note
        self.facts = dict(facts or {})

    def cell(self, key: str, show: Callable[[float], str]) -> str:
        value = self.facts.get(key)
        return self.note if value is None else show(value)


def measured(name: str, limit: float, log: Any) -> list[dict[str, Found]]:
    """All contenders at all orders of one function."""
    wanted = exact(name)
    first = list(FUNCTIONS).index(name) * len(ORDERS)
    table: list[dict[str, Found]] = []
    stopped: dict[str, str] = {}
    with ExitStack() as stack:
        live: dict[str, Process] = {}
        for contender in ROW.timed:
            caches = stack.enter_context(tempfile.TemporaryDirectory())
            live[contender] = Process(ROW, contender, ROW.threads, log, caches)
            stack.callback(live[contender].end)
        for k, order in enumerate(ORDERS):
            found = {c: prepared(live[c], c, first + k, limit, stopped) for c in live}
            running = [c for c in live if not found[c].note]
            for c in running:
                values = live[c].values()[1][0].reshape(-1)[list(SAMPLES)]
                error = np.max(np.abs(values - wanted[order])) / np.max(np.abs(wanted[order]))
                found[c].facts["error"] = float(error)
            timed(found, {c: live[c] for c in running})
            for c in running:
                if found[c].facts["compile"] > limit:
                    stopped[c] = "–"
            table.append(found)
            print(name, order, {c: {**f.facts, "note": f.note} for c, f in found.items()}, flush=True)
    return table


def prepared(process: Process, contender: str, case: int, limit: float, stopped: dict[str, str]) -> Found:
    if contender in stopped:
        return Found(stopped[contender])
    try:
        answer = process.ask("prepare", case, limit=10 * limit)
    except Failed as e:
        print(contender, e, file=sys.stderr)
        stopped[contender] = "–"
        return Found("fails" if "more than" not in str(e) else f"> {10 * limit:.0f} s")
    return Found("", answer["facts"])


def timed(found: Mapping[str, Found], live: Mapping[str, Process]) -> None:
    """The fastest and the median call of each, in turns."""
    seconds: dict[str, list[float]] = {c: [] for c in live}
    number = {c: max(3, min(500, int(BUDGET / min(p.ask("time", 3)["seconds"])))) for c, p in live.items()}
    for _ in range(ROUNDS):
        for c, process in live.items():
            seconds[c] += process.ask("time", number[c])["seconds"]
    for c, s in seconds.items():
        found[c].facts |= {"run": min(s), "median": statistics.median(s)}


def section(name: str, table: Iterable[Mapping[str, Found]]) -> str:
    """Two tables of one function, and the range of the ratios."""
    ours, peers = ("derivative", "grad"), ("jax.grad", "jet")
    sizes = [["order", *(f"size: `{c}`" for c in (*ours, *peers)), *(f"FLOPs: `{c}`" for c in ours)]]
    sizes[0] += [f"error: `{c}`" for c in (*ours, *peers)]
    times = [["order", *(f"compile: `{c}`" for c in (*ours, *peers)), *(f"run: `{c}`" for c in (*ours, *peers))]]
    times[0] += ["ratio"]
    ratios: list[float] = []
    for order, found in zip(ORDERS, table, strict=True):
        row = [str(order)]
        row += [_nodes(found[c]) for c in ours]
        row += [found[c].cell("nodes", lambda n: f"{n:,.0f}") for c in peers]
        row += [found[c].cell("flops", lambda n: f"{n:,.0f}") for c in ours]
        row += [found[c].cell("error", _error) for c in (*ours, *peers)]
        sizes.append(row)
        row = [str(order), *(found[c].cell("compile", duration) for c in (*ours, *peers))]
        row += [found[c].cell("run", duration) for c in (*ours, *peers)]
        best = min((found[c].facts["run"] for c in peers if "run" in found[c].facts), default=None)
        if best is not None:
            ratios.append(found["derivative"].facts["run"] / best)
        row.append("" if best is None else f"{ratios[-1]:.2f}")
        times.append(row)
    least, most = f"{min(ratios):.2f}", f"{max(ratios):.2f}"
    verdict = f"`sg.derivative` takes {least} to {most} times as long as the better of the two ways of JAX."
    return f"## {name}\n\n{verdict}\n\n{_table(times)}\n\n{_table(sizes)}"


def _nodes(found: Found) -> str:
    return found.cell("nodes", lambda n: f"{n:,.0f} ({found.facts['left']:,.0f})")


def _error(e: float) -> str:
    return f"{e:.0e}" if e <= TOLERANCE else f"**{e:.0e}**"


def _table(rows: list[list[str]]) -> str:
    widths = [max(len(r[k]) for r in rows) for k in range(len(rows[0]))]
    lines = [rows[0], ["-" * w for w in widths], *rows[1:]]
    return "\n".join("| " + " | ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) + " |" for r in lines)


def cold(limit: float, log: Any) -> str:
    """The section of what is compiled first thing in a process."""
    rows = [["order", "way", "size", "seconds"]]
    for k, (order, ways) in enumerate(COLD):
        for way in ways:
            found = []
            for _ in range(COLD_RUNS):
                with ExitStack() as stack:
                    caches = stack.enter_context(tempfile.TemporaryDirectory())
                    process = Process(ROW, way, ROW.threads, log, caches)
                    stack.callback(process.end)
                    found.append(process.ask("prepare", len(FUNCTIONS) * len(ORDERS) + k, limit=10 * limit)["facts"])
            best = min(f["compile"] for f in found)
            rows.append([str(order), f"`{way}`", f"{found[0]['nodes']:,.0f}", f"{best:.2f}"])
    return (
        f"## {FIRST}\n\n{QUOTIENT}, as the first thing that a process does after importing symgraph or JAX, with empty "
        f"caches: seconds to differentiate, compile and call, the least of {COLD_RUNS} processes.\n\n{_table(rows)}"
    )


def document(old: str, new: Mapping[str, str], head: str) -> str:
    """The page: new sections in the place of old ones. Figures of another machine are not kept."""
    kept = {text.split("\n", 1)[0]: f"## {text}".strip() for text in old.split("\n## ")[1:]} if head in old else {}
    sections = {**kept, **new}
    order = [n for n in (FIRST, *FUNCTIONS) if n in sections]
    return "\n\n".join(["# Orders of derivatives", head, *[sections[n] for n in order]]) + "\n"


def main() -> None:
    """Parse, run, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.orders", description=(__doc__ or "").splitlines()[0])
    sections = [FIRST, *FUNCTIONS]
    numbered = ", ".join(f"{k}: {name}" for k, name in enumerate(sections))
    parser.add_argument("--section", nargs="+", type=int, metavar="K", help=f"these only; {numbered}")
    parser.add_argument("--limit", type=float, default=5.0, help="seconds that a compilation may take")
    parser.add_argument("--no-write", action="store_true", help="leave docs/orders.md as it is")
    options = parser.parse_args()
    chosen = [sections[k] for k in options.section] if options.section else sections
    introduction = INTRODUCTION.format(limit=options.limit, samples=len(SAMPLES))
    head = f"{introduction}\n\nMachine: {machine()}."
    with Path("/dev/null").open("w") as log:
        for name in chosen:
            text = cold(options.limit, log) if name == FIRST else section(name, measured(name, options.limit, log))
            print(f"\n{text}\n", flush=True)
            if not options.no_write:
                old = PAGE.read_text() if PAGE.exists() else ""
                PAGE.write_text(document(old, {name: text}, head))
    print(f"load average: {os.getloadavg()[0]:.1f}", file=sys.stderr)


if __name__ == "__main__":
    main()
