"""Contenders as processes: started with the same threads and fresh caches, told what to do over pipes."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Array, Row

ROOT = Path(__file__).resolve().parent.parent


class Failed(Exception):
    """A contender could not do it."""


class Missing(Failed):
    """A peer that is not installed."""


class TimedOut(Failed):
    """A contender took longer than the limit; its process is ended."""


def environment(threads: int, caches: str | None, platform: str = "cpu") -> dict[str, str]:
    """Environment variables for a contender: all the same for all.

    ``caches`` is a directory for everything that a contender compiles; None: where each keeps it by default.
    """
    env = dict(os.environ)
    # Settings for another OpenBLAS than the one in NumPy's wheels slow it down.
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
        env.pop(name, None)
    for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "NUMBA"):
        env[f"{name}_NUM_THREADS"] = str(threads)
    env["NPROC"] = str(threads)  # XLA's pool of threads
    if threads == 1:
        env["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    env["TF_CPP_MIN_LOG_LEVEL"] = "2"
    env["JAX_PLATFORMS"] = platform
    env["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # contenders share a GPU's memory
    env["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "kernels"), env.get("PYTHONPATH", "")]).rstrip(
        os.pathsep
    )
    if caches is not None:
        env["SYMGRAPH_CACHE_DIR"] = str(Path(caches, "symgraph"))
        env["PYTENSOR_FLAGS"] = f"base_compiledir={Path(caches, 'pytensor')}"
        env["TORCHINDUCTOR_CACHE_DIR"] = str(Path(caches, "torch"))
        env["TRITON_CACHE_DIR"] = str(Path(caches, "triton"))
        env["NUMBA_CACHE_DIR"] = str(Path(caches, "numba"))
        env["JAX_COMPILATION_CACHE_DIR"] = str(Path(caches, "jax"))
        env["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    return env


class Process:
    """A contender of a row, in its own process."""

    def __init__(self, row: Row, contender: str, threads: int, log: Any, caches: str | None = None) -> None:
        self.contender = contender
        self._child = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", row.key, contender],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
            cwd=ROOT, env=environment(threads, caches, row.platform),
        )  # fmt: skip
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            self._lines.put(line)
        self._lines.put("")

    def ask(self, *command: Any, limit: float = 600.0) -> dict[str, Any]:
        """Send a command, wait for its answer. Raises Failed."""
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(json.dumps(command) + "\n")
            self._child.stdin.flush()
            line = self._lines.get(timeout=limit)
        except queue.Empty:
            self.end()
            raise TimedOut(f"more than {limit:.0f} s") from None
        except BrokenPipeError:
            line = ""
        if not line:
            raise Failed(f"the process ended with {self._child.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "missing" in answer:
            raise Missing(answer["missing"])
        if "failed" in answer:
            raise Failed(answer["failed"])
        return answer

    def values(self, command: Sequence[Any] = ("values",), limit: float = 600.0) -> tuple[dict[str, Any], list[Array]]:
        """An answer that comes with arrays."""
        with tempfile.TemporaryDirectory() as folder:
            file = str(Path(folder, "values.npz"))
            answer = self.ask(*command, file, limit=limit)
            with np.load(file) as saved:
                return answer, [saved[f"arr_{k}"] for k in range(len(saved.files))]

    def end(self) -> None:
        """End the process."""
        self._child.kill()
        self._child.wait()
        self._reader.join()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
