"""``sg.lower``: the program that a function would run, without compiling or running it. Needs no device."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from symgraph.errors import FormatError
from symgraph.graph import Graph, Variable
from symgraph.loop import ir
from symgraph.op import as_variable
from symgraph.passes.decompose import legalize
from symgraph.passes.memory import MemoryPlan
from symgraph.pipeline import PassRecord, run_pipeline
from symgraph.runtime.blas import check_blas
from symgraph.runtime.checks import size_checks
from symgraph.runtime.cost import Cost, program_cost
from symgraph.runtime.device import require
from symgraph.runtime.function import _checked_inputs, _needed, _own_outputs
from symgraph.runtime.program import Program, build

TARGETS = ("cpu", "cuda")


@dataclass(frozen=True, eq=False)
class LoweredKernel:
    """One kernel.

    Attributes:
        name: the hash of what it is.
        loops: its loop IR as text.
        source: its source, in Python, as Numba compiles it.
        target: ``"cpu"`` or ``"cuda"``.
    """

    name: str
    loops: str
    source: str
    target: str
    _kernel: ir.LoopKernel

    def ptx(self, cc: tuple[int, int] = (9, 0), fma: bool = False) -> str:
        """The kernel in PTX for a compute capability, compiled by Numba-CUDA and NVVM. No GPU is needed.

        ``fma`` lets the compiler contract products and sums, which changes results within a rounding.

        Raises:
            FormatError: the target is not ``"cuda"``, or the compiler knows no such compute capability.
            MissingDeviceError: numba-cuda is not installed, or its simulator is in its place.
        """
        if self.target != "cuda":
            raise FormatError(f"{self.name}: ptx: wanted target 'cuda', got {self.target!r}")
        from symgraph.emit.numba_cuda import capabilities, ptx

        known = capabilities()
        if cc not in known:
            among = ", ".join(f"({a}, {b})" for a, b in known)
            raise FormatError(f"{self.name}: ptx: cc: {cc!r} is not among {among}")
        return ptx(self.source, self.name, self._kernel.params, cc, fma)

    @property
    def params(self) -> tuple[ir.Param, ...]:
        """The parameters, in order."""
        return tuple(self._kernel.params)

    def __repr__(self) -> str:
        return f"<kernel {self.name} for {self.target}>"


@dataclass(frozen=True, eq=False)
class Lowering:
    """A program that is not compiled. ``print`` shows its steps and buffers.

    Attributes:
        graph: the optimized graph.
        program: the steps; matrix products on the CPU, and those by cuBLAS, are calls of a library, and no kernels.
        kernels: the distinct kernels, in the order in which they run first.
        written: the graph as it was given.
        passes: what each pass made of it.
    """

    graph: Graph
    program: Program
    kernels: tuple[LoweredKernel, ...]
    written: Graph
    passes: Sequence[PassRecord]

    @property
    def memory_plan(self) -> MemoryPlan:
        """Which tensors share a buffer, and how long each buffer lives."""
        return self.program.memory

    @property
    def cost(self) -> Cost:
        """Operations, bytes and kernels, per step and in total."""
        return program_cost(self.program)

    def __str__(self) -> str:
        return str(self.program)


def lower(
    inputs: Sequence[Variable],
    outputs: Variable | Sequence[Variable],
    target: str = "cpu",
    *,
    fast_math: bool = False,
    levels: Sequence[str] | None = None,
    atomics: bool = False,
    blas: str = "auto",
) -> Lowering:
    """The program that ``sg.function(inputs, outputs, target=target)`` runs: kernels, memory plan and cost.

    Nothing is compiled or run, and no device is needed.

    Args:
        inputs: as of :func:`symgraph.function`.
        outputs: a variable or several.
        target: ``"cpu"`` or ``"cuda"``.
        fast_math, levels, atomics: as of :func:`symgraph.function`.
        blas: as there. ``"cublas"`` shows what cuBLAS would be given where it is not installed, too.

    Raises:
        FormatError: there is no such target, or it has no use for ``atomics`` or ``blas``, or no such ``blas``.
        MissingInputError: the outputs need an input that is not given.
    """
    if target not in TARGETS:
        raise FormatError(f"lower: target: {target!r} is not among {', '.join(TARGETS)}")
    check_blas(blas)
    if target != "cuda":
        require(target, atomics=atomics or None, blas=None if blas == "auto" else blas)
    given = _checked_inputs(inputs)
    found: Any = getattr(outputs, "variable", outputs)
    wanted = [as_variable(v) for v in ([found] if isinstance(found, Variable) else found)]
    graph = Graph([*given, *_needed(wanted, given)], wanted)
    optimized, passes = run_pipeline(graph, levels=levels, fast_math=fast_math)
    final = _own_outputs(legalize(optimized))
    threads = 1 if target == "cuda" else os.cpu_count() or 1
    program = build(final, final.outputs, {}, size_checks(graph), threads, target, atomics, blas)
    kernels: dict[str, LoweredKernel] = {}
    for s in program.steps:
        if s.loops is not None:
            kernels.setdefault(s.name, LoweredKernel(s.name, ir.show(s.loops), s.source, target, s.loops))
    return Lowering(optimized, program, tuple(kernels.values()), graph, passes)
