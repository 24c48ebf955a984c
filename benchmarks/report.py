"""Tables: printed as they are measured, and written to docs/benchmarks.md."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.harness import Row

PACKAGES = ("numpy", "scipy", "numba", "llvmlite", "jax", "torch", "pytensor", "numexpr", "casadi", "autograd")
INTRODUCTION = """\
Written by `make bench` (`python -m benchmarks`). Each contender has its own process; all get the same inputs, and
values are compared before anything is timed. Contenders take turns: the columns are the fastest
call, the median of all calls, the processor time of a call (of all threads; the least round), and what it took to
prepare, the first call included. What can be measured once per process only (compiling, memory) runs in a fresh process
with empty caches. Ratios belong to one run; absolute times to the machine."""
UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))


@dataclass
class Line:
    """One contender on one case."""

    contender: str
    columns: Mapping[str, float] = field(default_factory=dict)
    note: str = ""


@dataclass
class Table:
    """One case of a row: a line for each contender."""

    row: Row
    case: str
    units: Mapping[str, str]
    lines: list[Line] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """symgraph's first column, and its ratios to the best peer's and to the floors'."""
        key, unit = next(iter(self.units.items()))
        found = {x.contender: x.columns[key] for x in self.lines if key in x.columns}
        mine = found.pop("symgraph", None)
        if mine is None:
            return ""
        parts = [f"symgraph {cell(mine, unit)}"]
        peers = {name: v for name, v in found.items() if name not in self.row.floors and v > 0}
        if not self.row.ratios:
            return parts[0]
        if peers:
            best = min(peers, key=lambda name: peers[name])
            parts.append(f"{mine / peers[best]:.2f} × the best peer ({best})")
        parts += [f"{mine / found[f]:.2f} × {f}" for f in self.row.floors if found.get(f, 0) > 0]
        return "; ".join(parts)


def duration(seconds: float) -> str:
    """Seconds in a unit that suits them."""
    scale, unit = next((u for u in UNITS if abs(seconds) >= u[0]), UNITS[-1])
    return f"{seconds / scale:.3g} {unit}"


def cell(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    if unit == "time":
        return duration(value)
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{text} {unit}".rstrip()


def markdown(table: Table) -> str:
    """A table of Markdown, which is what is printed, too."""
    rows = [["contender", *table.units, "note"]]
    rows += [[x.contender, *[cell(x.columns.get(c), u) for c, u in table.units.items()], x.note] for x in table.lines]
    widths = [max(len(r[k]) for r in rows) for k in range(len(rows[0]))]
    rows.insert(1, ["-" * w for w in widths])
    text = "\n".join("| " + " | ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) + " |" for r in rows)
    return f"{text}\n\n{table.verdict}\n" if table.verdict else f"{text}\n"


def machine() -> str:
    """What the figures depend on."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        found = [x.split(":", 1)[1].strip() for x in info.read_text().splitlines() if x.startswith("model name")]
        model = f"{found[0]}, {len(found)} cores" if found else model
    versions = []
    for name in PACKAGES:
        try:
            versions.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            versions.append(f"{name} not installed")
    return (
        f"{model}; {platform.system()} {platform.release()}; Python {platform.python_version()}; {', '.join(versions)}"
    )


def section(tables: Sequence[Table], rounds: int, load: float) -> str:
    """A row of the table, with all its cases. ``load`` is how many processes wanted to run when it began."""
    row = tables[0].row
    facts = [f"To reach: {row.target}.", f"Threads: {row.threads}.", f"Rounds: {rounds}." if row.timed else ""]
    facts += [f"Load average when it began: {load:.1f}.", row.text]
    parts = [f"## {row.title}", " ".join(filter(None, facts))]
    for t in tables:
        parts += [f"### {t.case}", markdown(t).rstrip()]
    return "\n\n".join(parts)


def document(old: str, rows: Iterable[Row], new: Mapping[str, str]) -> str:
    """The page: sections by title, new ones in the place of old ones. Figures of another machine are not kept."""
    head = f"Machine: {machine()}."
    sections = {f"## {text}".split("\n", 1)[0]: f"## {text}".strip() for text in old.split("\n## ")[2:]}
    if head not in old:
        sections = {}
    sections |= {f"## {title}": text for title, text in new.items()}
    kept = [sections[f"## {row.title}"] for row in rows if f"## {row.title}" in sections]
    return "\n\n".join(["# Benchmarks", INTRODUCTION, head, summary(kept), *kept]) + "\n"


def summary(sections: Sequence[str]) -> str:
    """The verdicts of all sections in one table."""
    lines = ["## Summary", "", "| work | figure | to reach |", "| --- | --- | --- |"]
    for text in sections:
        title, target, rest = text.split("\n\n", 2)
        target = target.removeprefix("To reach: ").split(". ")[0]
        for case in f"\n\n{rest}".split("\n\n### ")[1:]:
            name, *_, verdict = case.strip().split("\n\n")
            if verdict.startswith("symgraph "):
                lines.append(f"| {title[3:]}: {name} | {verdict} | {target} |")
    return "\n".join(lines)
