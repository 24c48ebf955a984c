"""How many threads a launch has, and how they are grouped: decided at the call, from sizes and the device.

Blocks are two-dimensional: ``x`` the lanes of a group, a power of two, ``y`` the groups of a block (see
:mod:`symgraph_kernels.cuda.threads`). Grids: ``x`` deals out groups, ``y`` the lanes of groups that do not cooperate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from symgraph.loop.schedule import Launch
from symgraph.runtime.sizes import resolve
from symgraph.types import Atom

WARP = 32
WARP_ROW = 1024
"""The longest row that one warp works on; longer ones take a block."""
LANE_WORK = 4
"""Elements that a lane of a block has at least."""
GRID_Y = 65_535


@dataclass(frozen=True)
class Limits:
    """What a launch may use.

    Attributes:
        threads: in a block: a power of two, by the occupancy that the kernel's registers allow.
        blocks: in the grid: as many as are resident on the device at once, times a few.
        alone: whether a block is one group (in the simulator, whose barriers know blocks only).
    """

    threads: int = 256
    blocks: int = 2048
    alone: bool = False


@dataclass(frozen=True)
class Dimensions:
    """Of a launch: ``grid`` and ``block``."""

    grid: tuple[int, int]
    block: tuple[int, int]


def dimensions(launch: Launch, env: Mapping[Atom, int], limits: Limits) -> Dimensions:
    """The grid and block of a launch for these sizes. Results do not depend on ``limits`` but in the order of sums."""
    if launch.kind == "one":
        return Dimensions((1, 1), (1, 1))
    rows, lanes = max(1, resolve(launch.groups, env)), max(1, resolve(launch.lanes, env))
    few = _power(rows)  # one row is one group: there is no loop then that would leave others out
    if launch.width:
        return Dimensions((min(limits.blocks, rows), 1), (launch.width, 1))
    if launch.kind == "grid":
        width = min(limits.threads, _power(lanes))
        return Dimensions((min(limits.blocks, -(-lanes // width)), 1), (width, 1))
    if launch.cooperates:
        width = min(WARP, limits.threads, _power(-(-lanes // launch.taken)))
        if lanes > WARP_ROW or (limits.alone and lanes > WARP):
            width = min(limits.threads, _power(-(-lanes // LANE_WORK)))
        high = 1 if limits.alone or width >= WARP * 2 else max(1, min(limits.threads // width, few))
        return Dimensions((min(limits.blocks, -(-rows // high)), 1), (width, high))
    lanes = -(-lanes // launch.taken)
    width = min(limits.threads, _power(lanes))
    high = max(1, min(limits.threads // width, few))
    across = min(limits.blocks, -(-rows // high))
    along = min(max(1, limits.blocks // across), -(-lanes // width), GRID_Y)
    return Dimensions((across, along), (width, high))


def _power(n: int) -> int:
    """The least power of two that is no less than ``n``."""
    return 1 << (n - 1).bit_length()
