"""Progress lines: for loops, and for compilations that take longer than half a second.

There is one where somebody is likely to be looking, in a terminal or a notebook, and none in a pipe or under continuous
integration. Drawn by tqdm where it is installed; without it loops show nothing, and compilations a line of text.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Generic, TypeVar

__all__ = ["compiling", "note", "progress", "watched"]

Item = TypeVar("Item")
PATIENCE = 0.5
"""Seconds that a compilation takes before a line appears."""


def watched() -> bool:
    """Whether a person is likely to be looking at what is written to the standard error stream."""
    if os.environ.get("CI"):
        return False
    try:
        return in_notebook() or bool(sys.stderr is not None and sys.stderr.isatty())
    except ValueError:  # a closed stream
        return False


def in_notebook() -> bool:
    """Whether this runs in a kernel of Jupyter."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return type(shell).__name__ == "ZMQInteractiveShell"


class Silent(Generic[Item]):
    """What :func:`progress` gives where nothing is to be shown: the same methods, doing nothing."""

    def __init__(self, iterable: Iterable[Item] = ()) -> None:
        self._iterable = iterable

    def __iter__(self) -> Iterator[Item]:
        return iter(self._iterable)

    def __enter__(self) -> Silent[Item]:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing to close."""

    def update(self, n: float = 1) -> None:
        """So many more steps are done."""

    def set_postfix(self, *args: Any, **values: Any) -> None:
        """Show values behind the bar."""

    def close(self) -> None:
        """Remove the bar."""


def progress(iterable: Iterable[Item] | None = None, total: int | None = None, text: str = "") -> Any:
    """A progress line for a loop: ``for batch in sg.progress(batches):``, with ``set_postfix(loss=...)``.

    Args:
        iterable: what to go through; without it, call ``update()`` for each of ``total`` steps.
        total: how many steps there are, where ``len(iterable)`` does not say.
        text: what stands before the line.

    A ``tqdm`` where tqdm is installed and somebody is looking (a notebook or a terminal, and not in CI), else an object
    with the methods ``update``, ``set_postfix`` and ``close`` that shows nothing. Both are context managers.
    """
    bar = _tqdm() if watched() else None
    if bar is None:
        return Silent(() if iterable is None else iterable)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tqdm on a notebook without widgets: it writes text, which is fine
        return bar(iterable, total=total, desc=text or None, leave=False)


def _tqdm() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from tqdm.auto import tqdm
    except ImportError:
        return None
    return tqdm


# -- compilations ------------------------------------------------------------------------------------------------------

_line: ContextVar[_Line | None] = ContextVar("symgraph_progress", default=None)


class _Line:
    """One line that says what a compilation is doing. It appears when the compilation has taken long enough."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.what = ""
        self.shown = 0  # characters on the line
        self.open = True
        self.lock = threading.Lock()
        self.start = time.perf_counter()
        self.timer = threading.Timer(PATIENCE, self.draw)
        self.timer.daemon = True

    def draw(self) -> None:
        with self.lock:
            if not self.open:
                return
            text = f"compiling {self.label}: {self.what}  {time.perf_counter() - self.start:.1f} s"
            self._write(text)

    def _write(self, text: str, end: str = "") -> None:
        try:
            sys.stderr.write("\r" + text + " " * max(0, self.shown - len(text)) + end)
            sys.stderr.flush()
        except (OSError, ValueError, AttributeError):  # closed, or none
            self.open = False
        self.shown = len(text)

    def close(self) -> None:
        self.timer.cancel()
        with self.lock:
            if self.shown and self.open:
                self._write("", end="\r")
            self.open = False


@contextmanager
def compiling(label: str) -> Iterator[None]:
    """A line about the compilation in this block, if it takes long and somebody is looking."""
    if _line.get() is not None or not watched():
        yield
        return
    from symgraph.runtime.table import printable

    line = _Line(printable(label)[:40])
    token = _line.set(line)
    line.timer.start()
    try:
        yield
    finally:
        _line.reset(token)
        line.close()


def note(what: str) -> None:
    """What the compilation is doing now."""
    line = _line.get()
    if line is not None:
        line.what = what
        if line.shown or time.perf_counter() - line.start > PATIENCE:
            line.draw()
