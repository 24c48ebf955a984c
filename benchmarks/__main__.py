"""Measure symgraph beside its peers; print tables, and write them to docs/benchmarks.md.

python -m benchmarks [--only row] [--contender name] [--quick] [--threads n] [--no-write]

The page keeps what is not measured again; with --contender, --case or --threads it is not written.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Array, Row
from benchmarks.processes import ROOT, Failed, Missing, Process
from benchmarks.report import Line, Table, document, machine, markdown, section
from benchmarks.rows import ROWS

PAGE = ROOT / "docs" / "benchmarks.md"
PATIENCE = 15.0
"""Seconds after which what is measured once per process is not repeated."""
TIMED = {"fastest": "time", "median": "time", "processor": "time", "prepared": "time"}


class Runner:
    """What is asked for on the command line."""

    def __init__(self, options: argparse.Namespace, log: Any) -> None:
        self.options = options
        self.log = log
        self.rounds: int = options.rounds or (3 if options.quick else 9)
        self.budget = 0.1 if options.quick else 0.25  # seconds of a contender in one round
        self.limit: float = options.limit or (30.0 if options.quick else 150.0)

    def chosen(self, names: Sequence[str]) -> list[str]:
        wanted = self.options.contender
        return [n for n in names if not wanted or n in wanted]

    def threads(self, row: Row) -> int:
        return self.options.threads or row.threads

    # -- timed in turns -----------------------------------------------------------------------------------------------

    def timed(self, row: Row) -> list[Table]:
        tables = [Table(row, case.name, TIMED) for case in row.cases]
        with ExitStack() as stack:
            live: dict[str, Process] = {}
            for name in self.chosen(list(row.timed)):
                live[name] = Process(row, name, self.threads(row), self.log)
                stack.callback(live[name].end)
            for k, table in enumerate(tables):
                if self.skipped(k):
                    continue
                self.case(k, table, live)
                print(f"\n{row.title}: {table.case}\n\n{markdown(table)}", flush=True)
        return [t for t in tables if t.lines]

    def skipped(self, case: int) -> bool:
        return self.options.case is not None and case not in self.options.case

    def case(self, k: int, table: Table, live: dict[str, Process]) -> None:
        row = table.row
        lines: dict[str, Line] = {}
        values: dict[str, list[Array]] = {}
        prepared: dict[str, float] = {}
        for name, process in list(live.items()):
            lines[name] = Line(name)
            try:
                prepared[name] = process.ask("prepare", k, limit=self.limit)["seconds"]
                values[name] = process.values()[1]
            except Failed as e:
                lines[name].note = _note(e)
                if isinstance(e, Missing):
                    process.end()
                    del live[name]
        for name, note in compared(row, values).items():
            lines[name].note = note
        running = [n for n in values if not lines[n].note.startswith("wrong")]
        seconds: dict[str, list[float]] = {n: [] for n in running}
        cpu: dict[str, list[float]] = {n: [] for n in running}
        number: dict[str, int] = {}
        for _ in range(self.rounds):
            for name in running:
                if name not in number:
                    first = live[name].ask("time", 3)["seconds"]
                    number[name] = max(2, min(2000, int(self.budget / row.calls / min(first))))
                answer = live[name].ask("time", number[name])
                seconds[name] += answer["seconds"]
                cpu[name].append(answer["cpu"])
        for name in running:
            s = seconds[name]
            figures = (min(s), statistics.median(s), min(cpu[name]), prepared[name])
            lines[name].columns = dict(zip(TIMED, figures, strict=True))
        table.lines = list(lines.values())

    # -- once per process ---------------------------------------------------------------------------------------------

    def once(self, row: Row) -> list[Table]:
        tables = [Table(row, case.name, row.columns) for case in row.cases]
        given_up: dict[str, str] = {}
        with ExitStack() as stack:
            shared = {n: stack.enter_context(tempfile.TemporaryDirectory()) for n in self.chosen(list(row.once))}
            for k, table in enumerate(tables):
                if self.skipped(k):
                    continue
                values: dict[str, list[Array]] = {}
                for name in shared:
                    line = Line(name)
                    table.lines.append(line)
                    if name in given_up:
                        line.note = given_up[name]
                        continue
                    try:
                        line.columns, values[name], line.note = self.best(row, name, k, shared[name])
                    except Failed as e:
                        line.note = _note(e)
                        given_up[name] = f"not tried: {line.note}" if not isinstance(e, Missing) else line.note
                for name, note in compared(row, values).items():
                    line = next(x for x in table.lines if x.contender == name)
                    line.note = "; ".join(filter(None, (line.note, note)))
                    if note.startswith("wrong"):
                        line.columns = {}
                print(f"\n{row.title}: {table.case}\n\n{markdown(table)}", flush=True)
        return [t for t in tables if t.lines]

    def best(self, row: Row, name: str, case: int, kept: str) -> tuple[dict[str, float], list[Array], str]:
        """The least of each column over fresh processes."""
        columns: dict[str, float] = {}
        start = time.perf_counter()
        for repeat in range(1 if self.options.quick else row.repeats):
            if repeat and time.perf_counter() - start > PATIENCE:
                break
            with ExitStack() as stack:
                keep = row.cases[case].facts.get("cache")
                caches = kept if keep else stack.enter_context(tempfile.TemporaryDirectory())
                if keep == "empty":  # and full afterwards, for the case that comes next
                    shutil.rmtree(caches)
                    Path(caches).mkdir()
                process = Process(row, name, self.threads(row), self.log, caches)
                stack.callback(process.end)
                answer, values = process.values(("measure", case), limit=self.limit)
            for key, value in answer["columns"].items():
                columns[key] = min(value, columns.get(key, value))
        return columns, values, answer["note"]


def _note(e: Failed) -> str:
    return "not installed" if isinstance(e, Missing) else str(e).replace("|", "/")


def compared(row: Row, values: dict[str, list[Array]]) -> dict[str, str]:
    """What to note of each contender's values: those that differ from the first one's that the majority agrees with."""
    given = {n: v for n, v in values.items() if v}
    agree = {n: [o for o, w in given.items() if _close(v, w, row.rtol)] for n, v in given.items()}
    if not agree:
        return {}
    reference = max(agree, key=lambda n: len(agree[n]))
    notes = {}
    for name, v in given.items():
        if name not in agree[reference]:
            notes[name] = f"wrong values: {_difference(v, given[reference]):.1e} from {reference}'s"
    return notes


def _difference(a: list[Array], b: list[Array]) -> float:
    if len(a) != len(b) or any(x.shape != y.shape for x, y in zip(a, b, strict=True)):
        return float("inf")
    parts = [np.max(np.abs(x - y)) / max(float(np.max(np.abs(y))), 1e-300) for x, y in zip(a, b, strict=True) if x.size]
    return float(max(parts, default=0.0))


def _close(a: list[Array], b: list[Array], rtol: float) -> bool:
    return _difference(a, b) <= rtol


def main() -> None:
    """Parse, run, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=list(ROWS), metavar="ROW", help=f"rows: {', '.join(ROWS)}")
    parser.add_argument("--contender", nargs="+", metavar="NAME", help="these contenders only")
    parser.add_argument("--case", nargs="+", type=int, metavar="K", help="these cases of a row only, counted from 0")
    parser.add_argument(
        "--quick", action="store_true", help="few rounds, and little patience with peers that compile long"
    )
    parser.add_argument("--threads", type=int, help="in place of what the row says")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--limit", type=float, help="seconds a contender may take to prepare or measure")
    parser.add_argument("--no-write", action="store_true", help="leave docs/benchmarks.md as it is")
    parser.add_argument("--log", type=Path, help="where what contenders print goes; nowhere by default")
    options = parser.parse_args()
    print(machine())
    sections: dict[str, str] = {}
    with (options.log or Path("/dev/null")).open("w") as log:
        runner = Runner(options, log)
        for key in options.only or ROWS:
            row, load = ROWS[key], os.getloadavg()[0]
            tables = runner.timed(row) if row.timed else runner.once(row)
            if tables:
                sections[row.title] = section(tables, runner.rounds, load)
    partial = options.contender or options.case or options.threads or options.no_write
    if not partial:
        old = PAGE.read_text() if PAGE.exists() else ""
        PAGE.write_text(document(old, ROWS.values(), sections))
        print(f"Written to {PAGE.relative_to(ROOT)}", file=sys.stderr)


if __name__ == "__main__":
    main()
