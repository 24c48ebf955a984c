"""Measure symgraph on an NVIDIA GPU beside JAX, torch.compile and CuPy, and print tables.

python -m benchmarks.gpu [--only row] [--contender name] [--quick]

First the device's own figures: bytes per second of a copy, and FLOPs per second of cuBLAS. Then each row: times,
ratios to the best peer, and what share of the device's figures symgraph's time stands for. The bytes and FLOPs are
those of symgraph's own program (``fn.cost``).
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any

from benchmarks.__main__ import Runner
from benchmarks.harness import Case, Row
from benchmarks.report import Table
from benchmarks.rows import GPU
from benchmarks.rows.gpu import JOBS, ROOF


def work(row: Row, case: Case) -> tuple[float, float, str]:
    """Bytes, FLOPs and the dtype of what symgraph's program for a case moves and computes. Needs no GPU."""
    import symgraph as sg

    job = JOBS[row.key]
    inputs, outputs = job.graph(case)
    found = sg.lower(inputs, outputs, target="cuda").cost.at(*job.values(case))
    sizes: list[tuple[Any, Any]] = [(s.bytes, s.work) for s in found.steps]
    moved, flops = (float(sum(column)) for column in zip(*sizes, strict=True))
    floats = [v.type.dtype.name for v in inputs if v.type.dtype.kind == "f"]
    return moved, flops, floats[0]


def roof(tables: list[Table]) -> dict[str, float]:
    """Bytes per second, and FLOPs per second by dtype: the best of whoever measured them."""
    out: dict[str, float] = {}
    for table, case in zip(tables, ROOF.cases, strict=True):
        times = [line.columns["fastest"] for line in table.lines if "fastest" in line.columns]
        if times:
            key = "bytes" if "bytes" in case.facts else str(case["dtype"])
            out[key] = case.facts.get("bytes", case.facts.get("flops")) / min(times)
    return out


def shares(row: Row, table: Table, limits: dict[str, float]) -> str:
    """What share of the device's bandwidth and arithmetic symgraph's fastest call stands for."""
    time = next((x.columns.get("fastest") for x in table.lines if x.contender == "symgraph"), None)
    case = next(c for c in row.cases if c.name == table.case)
    if time is None:
        return ""
    moved, flops, dtype = work(row, case)
    parts = []
    for name, amount, limit, unit in (
        ("bandwidth", moved, limits.get("bytes", math.nan), "GB/s"),
        (f"{dtype} arithmetic", flops, limits.get(dtype, math.nan), "GFLOP/s"),
    ):
        share = "" if math.isnan(limit) else f", {amount / time / limit:.0%} of the measured {name}"
        parts.append(f"{amount / time / 1e9:,.0f} {unit}{share}")
    return "; ".join(parts)


def main() -> int:
    """Parse, look for a GPU, run, print."""
    names = [key for key in GPU if key != ROOF.key]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=names, metavar="ROW", help=f"rows: {', '.join(names)}")
    parser.add_argument("--contender", nargs="+", metavar="NAME", help="these contenders only")
    parser.add_argument("--quick", action="store_true", help="few rounds")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--limit", type=float, help="seconds a contender may take to prepare or measure")
    parser.add_argument("--log", type=Path, help="where what contenders print goes; nowhere by default")
    parser.set_defaults(case=None, threads=None)
    options = parser.parse_args()
    from symgraph.errors import SymgraphError
    from symgraph.runtime.device import require, the_device

    try:
        require("cuda")
        print(the_device().name())
    except SymgraphError as error:
        print(error, file=sys.stderr)
        return 1
    with (options.log or Path("/dev/null")).open("w") as log:
        everyone, options.contender = options.contender, None
        limits = roof(Runner(options, log).timed(ROOF))
        options.contender = everyone
        for key, value in limits.items():
            print(f"measured: {value / 1e9:,.0f} {'GB/s' if key == 'bytes' else f'GFLOP/s in {key}'}")
        runner = Runner(options, log)
        for key in options.only or names:
            row = GPU[key]
            for table in runner.timed(row) if row.timed else runner.once(row):
                said = [table.verdict, shares(row, table, limits) if row.timed else ""]
                print(
                    f"{row.title}, {table.case}: {'; '.join(filter(None, said)) or 'nothing was measured'}", flush=True
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
