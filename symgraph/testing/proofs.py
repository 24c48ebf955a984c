"""Proofs of a program's kernels, of those that are text too: bounds, races and barriers, for all sizes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from symgraph.graph import Variable
from symgraph.loop.check import Finding, check
from symgraph.loop.ir import LoopKernel, Param
from symgraph.loop.text import read
from symgraph.passes.memory import Buffer
from symgraph.runtime.lowered import Lowering
from symgraph.runtime.program import ProgramStep
from symgraph.runtime.sorts import LONGEST, Doublings, Lengths
from symgraph.types import Dim, Size, dim, floordiv, product, size_min, tensor_type
from symgraph_kernels.cuda.sort import LARGE


def findings(step: ProgramStep, made: Lowering, kernel: LoopKernel | None = None) -> list[Finding]:
    """What could not be proved of a step's loops, or of ``kernel`` in their place."""
    kernel = step.loops if kernel is None else kernel
    assert kernel is not None
    extent: Any = None if step.launch is not None else step.extent
    one = step.launch is not None and step.launch.kind == "one"
    return check(kernel, step.bindings, one, extent, _equations(made), shared(step, made))


def is_text(step: ProgramStep) -> bool:
    """Whether a step's kernel is a text of :mod:`symgraph_kernels.cuda`, and not printed from its loops."""
    return step.launch is not None and step.name.startswith(("matmul_", "sort_"))


def text_findings(step: ProgramStep, made: Lowering) -> list[Finding]:
    """What could not be proved of the text of a step's kernel, at the sizes for which it is launched.

    Raises :class:`~symgraph.loop.text.UnreadableError` where the text has what there is no loop IR for.
    """
    assert step.loops is not None
    assert step.launch is not None
    if step.name.startswith("sort_"):
        return _sort_findings(step)
    equations, memory = _equations(made), shared(step, made)
    return [
        f
        for kernel in read(step.source, step.loops.params, step.launch.width)
        for f in check(kernel, step.bindings, False, None, equations, memory, text=True)
    ]


def _sort_findings(step: ProgramStep) -> list[Finding]:
    """Of a sort: for rows of any length that it is launched for, in a tensor of any shape.

    That the step's tensors are of such a shape is asked of the step.
    """
    assert step.loops is not None
    assert step.launch is not None
    given = {p.name: b for p, b in zip(step.loops.params, step.bindings, strict=True)}
    n, inner, outer = (b for p in ("n", "inner", "outer") if isinstance(b := given[p], int | Dim))
    elements = product((outer, n, inner))
    largest = LARGE.tiles[-1].size
    sizes = (elements, elements * size_min(floordiv(n, largest + 1), 1))  # scratch is there for rows longer than a tile
    found = [
        Finding("bounds", f"{name}: {b.type.size} elements")
        for name, b in given.items()
        if isinstance(b, Variable) and b.type.size not in sizes[: 1 if name in ("x", "out") else 2]
    ]
    least, most = 0, LONGEST
    if isinstance(step.repeat, Lengths):
        least, most = step.repeat.least, step.repeat.most
    elif isinstance(step.repeat, Doublings):
        least = step.repeat.tile.size + 1
    # What an element is does not matter to a proof.
    text = re.sub(r"uint8\((x\[[^]]*\]) != 0\)|(?<!_)float32\((x\[[^]]*\])\)", r"\1\2", step.source.partition("(")[2])
    text = re.sub(r"(?<=ordinal_|pointer_)\w+", "uint64", text)
    return [*found, *_sorts(f"def kernel({text}", step.loops.params, step.launch.width or 1, least, most)]


_proved: dict[Any, list[Finding]] = {}


def _sorts(text: str, params: Sequence[Param], lanes: int, least: int, most: int) -> list[Finding]:
    """Of a text, for rows of ``least`` to ``most`` elements, once."""
    key = text, lanes, least, most
    if key not in _proved:
        sizes = {p.name: dim(p.name) for p in params if p.kind == "size"}
        n = sizes["n"]
        elements = tensor_type("uint64", (sizes["outer"], n, sizes["inner"]))
        bindings = [sizes[p.name] if p.kind == "size" else Variable(elements) for p in params]
        facts = [n - least, most - n]
        _proved[key] = [
            f for kernel in read(text, params, lanes) for f in check(kernel, bindings, facts=facts, text=True)
        ]
    return _proved[key]


def _equations(made: Lowering) -> list[tuple[Size, Size]]:
    return [(c.got, c.wanted) for c in made.program.checks if not c.at_least]


def shared(step: ProgramStep, made: Lowering) -> dict[str, str]:
    """Which buffers of a step lie in the memory of which."""
    assert step.loops is not None
    first: dict[Buffer, str] = {}
    bound = [(p.name, b) for p, b in zip(step.loops.params, step.bindings, strict=True) if isinstance(b, Variable)]
    memory = [(name, made.program.memory.of.get(v)) for name, v in bound]
    return {name: first.setdefault(b, name) for name, b in memory if b is not None}
