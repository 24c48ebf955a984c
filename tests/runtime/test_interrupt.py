"""Interrupts, by a real signal: at any moment of a compilation or a call, everything stays usable and consistent."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.runtime.cache import KernelCache

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals to a process of its own are POSIX's")


def interrupted(work: Callable[[], Any], after: float) -> bool:
    """Whether a signal, sent after so many seconds, ended ``work``."""
    done = threading.Event()
    armed = [True]

    def interrupt(number: int, frame: FrameType | None) -> None:
        # Once, and only while `work` runs: a signal that comes late must not end the test run.
        if armed:
            armed.clear()
            raise KeyboardInterrupt

    def send() -> None:
        if not done.wait(after):
            os.kill(os.getpid(), signal.SIGINT)

    sender = threading.Thread(target=send)
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        try:
            sender.start()
            work()
            armed.clear()
        except KeyboardInterrupt:
            return True
        finally:
            done.set()
            sender.join()
            time.sleep(0)  # a late signal is taken here, by the handler that ignores it
    finally:
        signal.signal(signal.SIGINT, before)
    return False


def test_an_interrupted_compilation_leaves_nothing_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = KernelCache(tmp_path)
    monkeypatch.setattr("symgraph.runtime.cache.kernel_cache", lambda: cache)
    x = sg.vector("x", shape="n")
    y: Any = x
    for k in range(8):
        y = sg.sin(y * (k + 0.5)) + sg.sum(y)
    want = sg.function([x], y, target="numpy")(np.ones(3))
    hits = 0
    for after in (0.001, 0.01, 0.03, 0.1, 0.2, 0.3):
        hits += interrupted(lambda: sg.function([x], y), after)
        assert gc.isenabled()
    assert hits, "at least one came in time"
    np.testing.assert_allclose(sg.function([x], y)(np.ones(3)), want, rtol=1e-12)
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize("target", ["cpu", "numpy"])
def test_an_interrupted_call_changes_all_of_the_state_or_nothing(target: str) -> None:
    shared = [sg.shared(np.zeros(3), f"s{k}") for k in range(40)]
    step = sg.function([], None, updates={s: s + 1.0 for s in shared}, target=target)
    step()

    def train() -> None:
        for _ in range(200_000):
            step()

    for after in (0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07):
        assert interrupted(train, after)
        values = {float(v) for s in shared for v in s.get_value()}
        assert len(values) == 1, "every variable has made the same number of steps"
    before = float(shared[0].get_value()[0])
    step()
    assert {float(v) for s in shared for v in s.get_value()} == {before + 1}


def test_the_state_changes_in_one_piece() -> None:
    """Interrupts at every instruction of Python that runs in a call, one after the other."""
    shared = [sg.shared(float(k), f"s{k}") for k in range(5)]
    step = sg.function([], None, updates={s: s + 1.0 for s in shared})
    step()
    completed, line = False, 0
    while not completed:
        line += 1
        before = [float(s.get_value()) for s in shared]
        count = 0

        def trace(frame: Any, event: str, arg: Any, stop: int = line) -> Any:
            nonlocal count
            if not frame.f_code.co_filename.endswith("function.py"):
                return None
            frame.f_trace_opcodes = True
            if event == "opcode":
                count += 1
                if count == stop:
                    raise KeyboardInterrupt
            return trace

        try:
            sys.settrace(trace)
            step()
            completed = True
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(None)
        after = [float(s.get_value()) for s in shared]
        moved = {a - b for a, b in zip(after, before, strict=True)}
        assert moved in ({0.0}, {1.0}), f"instruction {line}"
        for s in shared:
            assert s.lock.acquire(blocking=False)
            s.lock.release()
    assert line > 100


def test_code_of_the_users_own_can_be_interrupted() -> None:
    x, n = sg.vector("x"), sg.shared(0, "n")
    stop = True

    def stopped(a: Any) -> Any:
        if stop:
            raise KeyboardInterrupt
        return a

    f = sg.function([x], sg.custom_op(stopped)(x) + 1, updates={n: n + 1})
    with pytest.raises(KeyboardInterrupt):
        f(np.zeros(2))
    assert n.get_value() == 0
    stop = False
    np.testing.assert_array_equal(f(np.zeros(2)), [1.0, 1.0])
