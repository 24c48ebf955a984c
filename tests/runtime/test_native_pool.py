"""Chunks, threads and processes."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from symgraph.runtime.native import NativeProgram, load
from tests.runtime.native_programs import PythonKernel, affine, install_affine, kernels, planned_affine, unexpected


@pytest.fixture
def four_threads() -> Iterator[None]:
    pool = load().pool
    before = pool.threads
    pool.set_threads(4)
    yield
    pool.set_threads(before)


def python_program(kernel: Any, extent: int, chunks: int, failed: Any = unexpected) -> NativeProgram:
    """One step of a kernel written in Python. Frame: extent, chunks."""
    program = NativeProgram(
        steps=[[kernel.address, 0, 0, 0, 1]],
        argwords=[],
        arguments=[],
        outputs=[],
        returns=None,
        slow=unexpected,
        failed=failed,
        keep=[kernel],
    )
    program.install_plan((), [extent, chunks], 0)
    return program


@pytest.mark.usefixtures("four_threads")
@pytest.mark.parametrize(("extent", "chunks"), [(10, 3), (2, 5), (1000, 7), (1, 2), (10**12, 64)])
def test_chunks_cover_the_range_once(extent: int, chunks: int) -> None:
    seen: list[tuple[int, int]] = []

    @PythonKernel
    def note(args: Any, lo: int, hi: int) -> int:
        seen.append((lo, hi))
        return 0

    program = python_program(note, extent, chunks)
    for entry in (program.entry, program.entry_python):
        seen.clear()
        entry()
        assert sorted(seen) == [(extent * i // chunks, extent * (i + 1) // chunks) for i in range(chunks)]


@pytest.mark.usefixtures("four_threads")
def test_several_threads_take_part() -> None:
    barrier = threading.Barrier(4)

    @PythonKernel
    def meet(args: Any, lo: int, hi: int) -> int:
        barrier.wait(20)  # would break if fewer than four chunks ran at once
        return 0

    program = python_program(meet, 4, 4)
    for _ in range(50):
        program.entry()
    time.sleep(0.01)  # the workers have gone to sleep
    program.entry()
    assert load().pool.workers == 3


@pytest.mark.usefixtures("four_threads")
def test_an_error_in_any_chunk_stops_the_program() -> None:
    codes: list[tuple[int, int]] = []

    @PythonKernel
    def fail_late(args: Any, lo: int, hi: int) -> int:
        return 7 if hi == 100 else 0

    program = python_program(fail_late, 100, 8, lambda step, code, args: codes.append((step, code)))
    for _ in range(20):
        program.entry()
    assert codes == [(0, 7)] * 20


@pytest.mark.usefixtures("four_threads")
def test_many_small_jobs_are_right() -> None:
    program = planned_affine(chunks=5)
    for i in range(20_000):
        x = np.full(40, float(i))
        assert program.entry(x)[39] == (i + 1) * 2
    for size in range(1, 50):
        x = np.arange(float(size))
        np.testing.assert_array_equal(program.entry(x), (x + 1) * 2)


@pytest.mark.usefixtures("four_threads")
@pytest.mark.parametrize("chunks", [1, 3])
def test_eight_python_threads_in_one_entry(chunks: int) -> None:
    program = planned_affine(chunks)
    wrong: list[Any] = []

    def work(seed: int) -> None:
        try:
            rng = np.random.default_rng(seed)
            for _ in range(1000):
                x = rng.standard_normal(int(rng.integers(0, 60)))
                if not np.array_equal(program.entry(x), (x + 1) * 2):
                    wrong.append(x)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_pool_can_change_its_size_while_programs_run() -> None:
    pool = load().pool
    before = pool.threads
    program = planned_affine(chunks=4)
    stop = threading.Event()
    wrong: list[Any] = []

    def work() -> None:
        x = np.arange(100.0)
        while not stop.is_set():
            if not np.array_equal(program.entry(x), (x + 1) * 2):
                wrong.append(1)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for size in (1, 3, 2, 1, 4, 2):
            pool.set_threads(size)
            assert pool.threads == size
            time.sleep(0.02)
    finally:
        stop.set()
        thread.join()
        pool.set_threads(before)
    assert not wrong
    with pytest.raises(ValueError, match="at least one"):
        pool.set_threads(0)
    deadline = time.monotonic() + 20
    while sum(t.name.startswith("symgraph-") for t in threading.enumerate()) > pool.threads - 1:
        assert time.monotonic() < deadline, "threads of pools that were replaced have not ended"
        time.sleep(0.01)


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    pool = load().pool
    before = pool.threads
    x = np.random.default_rng(0).standard_normal(1001)
    results = []
    try:
        for threads in (1, 2, 4):
            pool.set_threads(threads)
            results.append(planned_affine(chunks=6).entry(x))
    finally:
        pool.set_threads(before)
    for result in results:
        np.testing.assert_array_equal(result, results[0])


def run_python(code: str) -> str:
    """Run a script that may import this test's helpers; its output. Fails on a hang or a bad exit."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    path = os.pathsep.join([root, os.path.join(root, "kernels"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout


START = """
    import os, sys, threading, warnings
    import numpy as np
    from symgraph.runtime.native import load
    from tests.runtime.native_programs import planned_affine
    pool = load().pool
    pool.set_threads(3)
    program = planned_affine(chunks=6)
    x = np.arange(100.0)
    assert np.array_equal(program.entry(x), (x + 1) * 2)
    assert pool.workers == 2
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_starts_its_own_threads() -> None:
    code = (
        START
        + """
    warnings.simplefilter("ignore", DeprecationWarning)  # Python's own warning about threads and fork
    busy, stop = planned_affine(chunks=6), threading.Event()
    def work():
        while not stop.is_set():
            busy.entry(x)
    thread = threading.Thread(target=work)
    thread.start()
    for _ in range(10):
        child = os.fork()
        if child == 0:
            ok = pool.workers == 0
            for _ in range(100):
                ok = ok and np.array_equal(program.entry(x), (x + 1) * 2)
            ok = ok and pool.workers == 2
            os._exit(0 if ok else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    stop.set()
    thread.join()
    assert np.array_equal(program.entry(x), (x + 1) * 2)
    print("done")
    """
    )
    assert run_python(code) == "done\n"


@pytest.mark.parametrize(
    "ending",
    [
        "",
        "sys.exit(0)",
        "threading.Thread(target=lambda: [program.entry(x) for _ in range(10**6)], daemon=True).start()",
        "import atexit; atexit.register(lambda: program.entry(np.arange(7.0)))",
        "pool.set_threads(2)\n    import atexit; atexit.register(lambda: program.entry(np.arange(7.0)))",
    ],
    ids=["end", "exit", "daemon thread in a call", "call at exit", "first parallel call at exit"],
)
def test_the_interpreter_exits_cleanly(ending: str) -> None:
    run_python(START + "    " + ending)


def test_numba_is_not_imported() -> None:
    code = (
        START
        + """
    from symgraph.runtime import native_blas
    native_blas.blas_kernels()
    print("numba" in sys.modules, "scipy.linalg" in sys.modules)
    """
    )
    assert run_python(code) == "False False\n"


def test_a_chunked_step_in_a_program_that_keeps_the_gil_releases_it() -> None:
    """Else a worker that needs the GIL and the caller that holds it would wait for each other."""
    program = affine()
    install_affine(program, 10, chunks=4, release_gil=False)
    assert program._state.plans[(10,)].release_gil
    np.testing.assert_array_equal(program.entry(np.zeros(10)), np.full(10, 2.0))
    assert kernels()
