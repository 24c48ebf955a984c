"""Python's garbage collector, paused while graphs and programs are built, or a GPU's launches are noted."""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

LARGE: Final = 2000
"""Nodes of a graph from which on the collector is paused. Graphs are cycles of references that live: it would look
through all of them over and over."""


@contextmanager
def collector_paused(nodes: float = math.inf) -> Iterator[None]:
    """Collect no garbage inside; for a graph of so many ``nodes``, if it is large."""
    if nodes <= LARGE or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
