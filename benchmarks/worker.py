"""The process of one contender: reads commands, one JSON list a line, and answers each with one JSON object.

    ["prepare", case]        make the case ready; seconds taken
    ["values", file]         run once, save the values
    ["time", repetitions]    seconds of each repetition, and the processor seconds of all
    ["measure", case, file]  run a contender that measures itself; save its values

A failure is answered by its last line, and the process goes on.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.harness import Row, Work
from benchmarks.rows import GPU, PAGES, ROWS


class _Worker:
    def __init__(self, row: Row, contender: str) -> None:
        self.row, self.contender = row, contender
        self.work: Work | None = None

    def prepare(self, case: int) -> dict[str, Any]:
        self.work = None
        gc.collect()
        start = time.perf_counter()
        self.work = self.row.timed[self.contender](self.row.cases[case])
        self.work.call()
        return {"seconds": time.perf_counter() - start, "facts": dict(self.work.facts)}

    def values(self, file: str) -> dict[str, Any]:
        assert self.work is not None
        np.savez(file, *self.work.values(self.work.call()))
        return {}

    def time(self, repetitions: int) -> dict[str, Any]:
        assert self.work is not None
        call, calls, clock = self.work.call, range(self.row.calls), time.perf_counter
        call()
        seconds = []
        gc.disable()
        cpu = time.process_time()
        for _ in range(repetitions):
            start = clock()
            for _ in calls:
                call()
            seconds.append((clock() - start) / len(calls))
        cpu = time.process_time() - cpu
        gc.enable()
        return {"seconds": seconds, "cpu": cpu / repetitions / len(calls)}

    def measure(self, case: int, file: str) -> dict[str, Any]:
        found = self.row.once[self.contender](self.row.cases[case])
        np.savez(file, *found.values)
        return {"columns": dict(found.columns), "note": found.note}


def main() -> None:
    """Serve until the input ends. What peers print goes to the standard error."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    worker = _Worker({**ROWS, **PAGES, **GPU}[sys.argv[1]], sys.argv[2])
    for line in sys.stdin:
        name, *args = json.loads(line)
        command: Callable[..., dict[str, Any]] = getattr(worker, name)
        try:
            answer = command(*args)
        except ImportError as e:
            answer = {"missing": str(e)}
        except Exception as e:
            traceback.print_exc()
            answer = {"failed": f"{type(e).__name__}: {str(e).strip().splitlines()[0] if str(e).strip() else ''}"[:200]}
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    main()
