"""Where nodes come from: each knows the lines of the user's code, its named scope, and what it is the derivative of."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from types import FrameType
from typing import NamedTuple

import numpy as np

from symgraph.errors import FormatError


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


class Origin(NamedTuple):
    """Where a node comes from, beside its lines. One node has one: unlike lines, origins are not united.

    ``scope`` is the path of names of :func:`scope` (``"net/layer1"``). A node of a derivative (``order`` >= 1) is an
    ``"adjoint"`` (reverse mode), ``"tangent"`` (forward mode) or ``"coefficient"`` (Taylor mode) of the variable with
    the serial number ``of``.
    """

    scope: str = ""
    order: int = 0
    mode: str = ""
    of: int = -1

    def derived(self, mode: str, of: int) -> Origin:
        """The origin of what is made to differentiate the variable ``of``, whose own origin this is."""
        return Origin(self.scope, self.order + 1, mode, of)


NOWHERE = Origin()

_lines: dict[tuple[str, int], Sources] = {}
_stated: ContextVar[tuple[Sources | None, Origin]] = ContextVar("symgraph_sources", default=(None, NOWHERE))


def origin() -> Origin:
    """The origin of nodes that are made now."""
    return _stated.get()[1]


def scope(name: str) -> AbstractContextManager[None]:
    """``with scope("layer1"):`` nodes made in the block belong to that scope, which pictures draw as one group.

    Scopes nest (``"net/layer1"``), are kept by derivatives and by the compiler, and mean nothing to what is computed.
    Raises :class:`~symgraph.errors.FormatError` for a name that is not text, or empty.
    """
    given: object = name
    if not (isinstance(given, str) and name.strip("/")):
        raise FormatError(f"scope: wanted a name, got {name!r}  {show(current())}")
    return _scoped(name.strip("/"))


@contextmanager
def _scoped(name: str) -> Iterator[None]:
    sources, outer = _stated.get()
    path = f"{outer.scope}/{name}" if outer.scope else name
    token = _stated.set((sources, outer._replace(scope=path)))
    try:
        yield
    finally:
        _stated.reset(token)


def current() -> Sources:
    """The line of the innermost frame that is the user's, or what :func:`attributed_to` says."""
    stated = _stated.get()[0]
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
def attributed_to(sources: Sources, origin: Origin = NOWHERE) -> Iterator[None]:
    """Nodes made in this block belong to ``sources`` and ``origin``: those of what they are derived from."""
    token = _stated.set((sources, origin))
    try:
        yield
    finally:
        _stated.reset(token)


def attribute(sources: Sources, origin: Origin) -> None:
    """Within an :func:`attributed_to` block: let what is made from here on belong to ``sources`` and ``origin``."""
    _stated.set((sources, origin))


def show(sources: Sources) -> str:
    """``(model.py:12)``, or several lines, for the end of a message."""
    if not sources:
        return ""
    return f"({', '.join(str(line) for line in sorted(sources))})"
