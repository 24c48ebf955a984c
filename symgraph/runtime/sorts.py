"""Sorts on a GPU: the launches of an ``argsort``, and which of them there are for rows of which length.

The kernels are ``symgraph_kernels.cuda.sort``; where that is left out, the sort is a step of NumPy's on the processor.
Which kernel suits depends on the length of a row. Where that is a symbol, all kernels are steps of the program, and
each is launched, or not, by the length that a call brings.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from types import ModuleType
from typing import Any

import numpy as np

from symgraph import source
from symgraph.emit.numba_cuda import in_simulator
from symgraph.errors import SizeError
from symgraph.graph import Apply, Variable
from symgraph.loop.ir import LoopKernel, Param
from symgraph.loop.schedule import Launch
from symgraph.ops.sort import ArgSort
from symgraph.passes.library import HostCall
from symgraph.runtime.sizes import Env, resolve
from symgraph.types import Size, floordiv, product, size_min, tensor_type

LONGEST = 2**32 - 1
"""Elements of a row: a position has 32 bits on its way."""


@dataclass(frozen=True)
class Lengths:
    """How often a launch for rows of ``least`` to ``most`` elements is made at the sizes of a call: once, or not."""

    node: Apply
    n: Size
    least: int
    most: int

    def __call__(self, env: Env) -> int:
        return int(self.least <= length(self.node, self.n, env) <= self.most)

    def __str__(self) -> str:
        return f"if {self.n} >= {self.least}" if self.most == LONGEST else f"if {self.least} <= {self.n} <= {self.most}"


@dataclass(frozen=True)
class Doublings:
    """How often runs of ``tile`` elements are doubled until one is a row."""

    node: Apply
    n: Size
    tile: Any

    def __call__(self, env: Env) -> int:
        kernels = _kernels()
        assert kernels is not None
        often: int = kernels.passes(length(self.node, self.n, env), self.tile)
        return often

    def __str__(self) -> str:
        return f"{self({})} times" if isinstance(self.n, int) else f"until {self.tile.size} << times >= {self.n}"


def length(node: Apply, n: Size, env: Env) -> int:
    """The elements of a row. Raises :class:`~symgraph.errors.SizeError` for too many."""
    found = resolve(n, env)
    if found > LONGEST:
        raise SizeError(
            f"{node.op}: wanted at most {LONGEST:,} elements along the axis, got {found:,}   "
            f"{source.show(node.sources)}"
        )
    return found


@dataclass(frozen=True, eq=False)
class SortLaunch:
    """A launch of a sort.

    Attributes:
        name, text, loops: the kernel; of the loops there are parameters only.
        bindings: what its parameters are bound to.
        launch: over what it is dealt out.
        repeat: how often it is launched at the sizes of a call; ``None``: once.
        workspace: what it stores for the launches after it.
    """

    name: str
    text: str
    loops: LoopKernel
    bindings: list[Any]
    launch: Launch
    repeat: Callable[[Env], int] | None
    workspace: tuple[Variable, ...] = ()


@cache
def _kernels() -> ModuleType | None:
    try:
        from symgraph_kernels.cuda import sort
    except ImportError:
        return None
    return sort


def accepts(call: HostCall) -> bool:
    """Whether a step that runs an op's own code on the processor is a sort that there are kernels for."""
    return isinstance(call.node.op, ArgSort) and _kernels() is not None


def launches(call: HostCall, turn: object) -> list[SortLaunch]:
    """The launches of a sort that :func:`accepts` takes; ``turn`` is what counts the launches of one that is repeated.

    Raises :class:`~symgraph.errors.SizeError` at the call for rows of more than :data:`LONGEST` elements.
    """
    return _Sort(call.node, turn).launches()


class _Sort:
    def __init__(self, node: Apply, turn: object) -> None:
        kernels = _kernels()
        assert isinstance(node.op, ArgSort)
        assert kernels is not None
        self.node, self.kernels = node, kernels
        (x,), (out,), axis = node.inputs, node.outputs, node.op.axis
        self.dtype = x.type.dtype
        self.wide: bool = kernels.wide(self.dtype.name)
        self.n: Size = x.type.shape[axis]
        outer, inner = product(x.type.shape[:axis]), product(x.type.shape[axis + 1 :])
        self.rows = outer * inner
        self.words: dict[str, Any] = {
            "x": x, "n": self.n, "inner": inner, "outer": outer, "out": out, "turn": turn,
        }  # fmt: skip

    def launches(self) -> list[SortLaunch]:
        kernels, dtype, wide = self.kernels, self.dtype.name, self.wide
        shapes = kernels.SMALL if in_simulator() else kernels.LARGE
        largest, least = shapes.tiles[-1], shapes.few + 1
        scratch = self.scratch(largest.size)
        # By length: the kernel, its parameters, and the tile that it is dealt out in.
        ways: list[tuple[int, int, Callable[[], str], Any, Any]] = [
            (0, shapes.few, lambda: kernels.counting("{}", dtype), kernels.COUNTING, None)
        ]
        for tile in shapes.tiles:
            most = LONGEST if tile is largest else tile.size
            ways.append((least, most, partial(kernels.tiles, "{}", dtype, tile), kernels.tile_parameters(wide), tile))
            least = most + 1
        out = []
        for least, most, text, parameters, tile in ways:
            if not isinstance(self.n, int) or least <= self.n <= most or (self.n > LONGEST and tile is largest):
                always = isinstance(self.n, int) and self.n <= LONGEST
                repeat = None if always else Lengths(self.node, self.n, least, most)
                out.append(self.launch(text(), parameters, tile, repeat, scratch if tile is largest else ()))
        if scratch:
            merging, parameters = kernels.merging("{}", wide, largest), kernels.merge_parameters(wide)
            out.append(self.launch(merging, parameters, largest, Doublings(self.node, self.n, largest)))
        return out

    def scratch(self, longest: int) -> tuple[Variable, ...]:
        """Scratch memory, where rows may be longer than a tile. It is empty where a call's are not."""
        longer = size_min(floordiv(self.n, longest + 1), 1)
        made = []
        for p, kind, of in self.kernels.tile_parameters(self.wide):
            if kind == "buffer" and p not in self.words:
                if longer == 0:
                    self.words[p] = self.words["out"]  # of the right width or narrower, and not used
                else:
                    self.words[p] = Variable(tensor_type(of, (longer * product((self.n, self.rows)),)))
                    made.append(self.words[p])
        return tuple(made)

    def launch(
        self,
        text: str,
        parameters: Sequence[tuple[str, str, str]],
        tile: Any,
        repeat: Callable[[Env], int] | None,
        workspace: tuple[Variable, ...] = (),
    ) -> SortLaunch:
        name = f"sort_{hashlib.sha256(text.encode()).hexdigest()[:12]}"
        params = [
            Param(p, "buffer" if kind == "buffer" else "size", np.dtype(of or self.dtype)) for p, kind, of in parameters
        ]
        if tile is None:
            launch = Launch("grid", 1, self.rows * self.n)
        else:
            pieces = floordiv(self.n + tile.size - 1, tile.size)
            launch = Launch("groups", self.rows * pieces, tile.threads, cooperates=True, width=tile.threads)
        bindings = [self.words[p.name] for p in params]
        return SortLaunch(name, text.replace("{}", name, 1), LoopKernel(params), bindings, launch, repeat, workspace)
