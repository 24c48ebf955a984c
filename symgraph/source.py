"""The user's source lines: each node of a graph knows which line, or lines, of the user's code it comes from."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType
from typing import NamedTuple

import numpy as np


class Line(NamedTuple):
    """A line of the user's code."""

    file: str
    number: int

    def __str__(self) -> str:
        return f"{_cell(self.file) or os.path.basename(self.file)}:{self.number}"


def _cell(file: str) -> str | None:
    """``cell 3`` for a file that is a cell of a running notebook: their file names are hashes."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    number = getattr(getattr(shell, "compile", None), "_filename_map", {}).get(file)
    return None if number is None else f"cell {number}"


Sources = frozenset[Line]

# Frames of these folders are not the user's: ours, and NumPy's dispatch of its functions to us.
_INTERNAL = (
    os.path.dirname(os.path.abspath(__file__)) + os.sep,
    os.path.dirname(os.path.abspath(np.__file__)) + os.sep,
)

_lines: dict[tuple[str, int], Sources] = {}
_override: ContextVar[Sources | None] = ContextVar("symgraph_sources", default=None)


def current() -> Sources:
    """The line of the innermost frame that is the user's, or what :func:`attributed_to` says."""
    stated = _override.get()
    if stated is not None:
        return stated
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith(_INTERNAL):
            key = (file, frame.f_lineno)
            found = _lines.get(key)
            if found is None:
                found = _lines[key] = frozenset((Line(*key),))
            return found
        frame = frame.f_back
    return frozenset()


@contextmanager
def attributed_to(sources: Sources) -> Iterator[None]:
    """Nodes made in this block belong to ``sources``: the lines of what they are derived from."""
    token = _override.set(sources)
    try:
        yield
    finally:
        _override.reset(token)


def attribute(sources: Sources) -> None:
    """Within an :func:`attributed_to` block: let what is made from here on belong to ``sources``."""
    _override.set(sources)


def show(sources: Sources) -> str:
    """``(model.py:12)``, or several lines, for the end of a message."""
    if not sources:
        return ""
    return f"({', '.join(str(line) for line in sorted(sources))})"
