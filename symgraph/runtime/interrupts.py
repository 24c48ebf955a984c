"""Stretches that an interrupt does not cut in two."""

from __future__ import annotations

import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import repeat
from typing import Any

__all__ = ["set_all", "uninterrupted"]


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let an interrupt (Ctrl-C) that comes in this block take effect after it.

    For the making of one piece of code, some 0.1 s. An import of a large package that is cut off leaves modules behind
    that are half made, and no later import of the package succeeds in this process; LLVM's objects, cut off between two
    of their owner's lines, are freed twice or never. Interrupts reach the main thread only; elsewhere it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler):  # ignored, default of the system, or not Python's
        yield
        return
    came: list[tuple[int, Any]] = []
    signal.signal(signal.SIGINT, lambda number, frame: came.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if came:
            handler(*came[0])


def set_all(objects: Iterable[object], name: str, values: Iterable[object]) -> None:
    """Set an attribute of each of several objects; an interrupt comes before all of it or after.

    Python looks for signals between its own instructions. The loop here runs in C: ``setattr`` of a slot has none.
    """
    deque(map(setattr, objects, repeat(name), values), maxlen=0)
