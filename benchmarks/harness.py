"""What a row of the table is made of: cases, and for each contender a function that prepares one.

A contender runs in a process of its own. Its module imports nothing of a peer at the top: peers are imported inside the
functions, and one that is missing is skipped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Case:
    """One size or dtype of a row's work."""

    name: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, key: str) -> Any:
        return self.facts[key]


@dataclass(frozen=True)
class Work:
    """A contender made ready: ``call`` does the work once, ``values`` turns what it returned into arrays to compare.

    ``facts`` are figures that it found while it was made ready.
    """

    call: Callable[[], Any]
    values: Callable[[Any], list[Array]]
    facts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Measures:
    """What one run in a fresh process found: numbers by column, and values to compare."""

    columns: Mapping[str, float]
    values: Sequence[Array] = ()
    note: str = ""


@dataclass(frozen=True)
class Row:
    """A row of the table.

    ``timed``: contenders by name, each a function from a case to its :class:`Work`; they are timed in turns.
    ``once``: contenders that measure themselves in a fresh process, a function from a case to :class:`Measures`.
    ``floors`` are contenders shown beside the peers but not counted as one of them.
    """

    key: str
    title: str
    target: str
    cases: Sequence[Case]
    timed: Mapping[str, Callable[[Case], Work]] = field(default_factory=dict)
    once: Mapping[str, Callable[[Case], Measures]] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)  # of `once`: unit by column; the first one is compared
    floors: Sequence[str] = ()
    ratios: bool = True  # of the first column, to those of the others
    threads: int = 2
    platform: str = "cpu"  # or "cuda"
    rtol: float = 1e-9
    calls: int = 1  # in one timing
    repeats: int = 1  # of `once`: the least of each column counts
    text: str = ""


class Clock:
    """Seconds between marks."""

    def __init__(self) -> None:
        self.last = time.perf_counter()

    def lap(self) -> float:
        now = time.perf_counter()
        seconds, self.last = now - self.last, now
        return seconds


def as_arrays(values: Any) -> list[Array]:
    """NumPy arrays of what a peer returned."""
    return [np.asarray(v) for v in values]


def threads_now() -> int:
    """How many threads the contender of this process may use."""
    import os

    return int(os.environ["OMP_NUM_THREADS"])


def use_torch() -> Any:
    """PyTorch with as many threads as the row admits."""
    import torch

    torch.set_num_threads(threads_now())
    return torch


def use_jax() -> Any:
    """JAX in double precision (single where the inputs are single), on the CPU or where the row says."""
    import os

    import jax

    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_platforms", os.environ.get("JAX_PLATFORMS", "cpu"))
    return jax
