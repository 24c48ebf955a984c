"""What a program costs, known without running it: operations, bytes, and kernels, per step, per node, and in total.

The figures are counted from the fused steps (see :mod:`symgraph.loop.count` and :mod:`symgraph.loop.traffic`); nothing
is compiled. They are exact: numbers where sizes are numbers, polynomials where sizes are symbols.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from symgraph import source
from symgraph.errors import UnknownInputError
from symgraph.graph import Apply, Constant, Graph, Variable, leaves
from symgraph.loop.count import count, flops, transcendentals
from symgraph.loop.lower import Lowered, lower
from symgraph.loop.region import Env, bound
from symgraph.loop.traffic import Accesses, traffic
from symgraph.op import OPS
from symgraph.passes.fuse import Kernel, Step, separate
from symgraph.passes.library import LibraryCall
from symgraph.types import Atom, Size, atoms, product

if TYPE_CHECKING:
    from symgraph.runtime.program import Program

Bind: TypeAlias = "Callable[[Sequence[Any], dict[Atom, int]], Env]"
"""From the arrays of a call, and the sizes that are known besides, to the sizes behind all symbols."""


@dataclass(frozen=True, eq=False)
class Figures:
    """What something costs. Sizes that are not known are symbols in the figures.

    Attributes:
        operations: how often each floating-point operation is done, by its name.
        bytes_read: of the distinct elements that are read.
        bytes_written: of the distinct elements that are written.
        kernels: how many kernels and matrix products run.
        exact: false where a figure is an upper bound, since it depends on data (``take``) or on a condition that is
            too involved.
    """

    operations: Mapping[str, Size]
    bytes_read: Size
    bytes_written: Size
    kernels: int
    exact: bool

    @property
    def flops(self) -> Size:
        """Additions, subtractions, products, quotients, remainders, roots, maxima and minima, one each."""
        return flops(self.operations)

    @property
    def transcendentals(self) -> Size:
        """Evaluations of functions such as ``exp`` and ``tanh``: one each, and apart from ``flops``."""
        return transcendentals(self.operations)

    @property
    def work(self) -> Size:
        """All operations in units of one addition; each counts what its op states as ``flops`` (``exp`` 12)."""
        total: Size = 0
        for fn, n in self.operations.items():
            total = total + n * weight(fn)
        return total

    @property
    def bytes(self) -> Size:
        """Bytes read and written."""
        return self.bytes_read + self.bytes_written


def weight(fn: str) -> int:
    """What one evaluation of a scalar function costs, relative to an addition."""
    found: int = getattr(OPS.get(fn), "flops", 1)
    return found


@dataclass(frozen=True, eq=False)
class StepCost(Figures):
    """What one step costs: a kernel or a matrix product.

    Attributes:
        name: of the kernel, as in the program.
        what: the operations that it consists of, as in the program.
        reads, writes: bytes by tensor.
        nodes: of the optimized graph that it computes.
    """

    name: str
    what: str
    step: Step
    reads: Mapping[Variable, Size]
    writes: Mapping[Variable, Size]
    nodes: tuple[Apply, ...]

    @property
    def sources(self) -> source.Sources:
        """The user's lines that it computes."""
        return frozenset().union(*[n.sources for n in self.nodes])


@dataclass(frozen=True, eq=False)
class NodeCost(Figures):
    """What one node of the optimized graph costs, over all steps that it has become part of.

    What several nodes share is put down to one of them: the costs of the nodes add up to the total. ``kernels`` is in
    how many steps it takes part.
    """

    node: Apply

    @property
    def sources(self) -> source.Sources:
        """The user's lines that it stems from."""
        return self.node.sources


@dataclass(frozen=True, eq=False)
class Cost(Figures):
    """What a program costs in total; ``steps`` and ``nodes`` have the parts. Printed, it is a table of the steps."""

    steps: tuple[StepCost, ...]
    nodes: tuple[NodeCost, ...]
    _parts: tuple[_Part, ...] = field(repr=False)
    _bind: Bind = field(repr=False)
    _env: Mapping[Atom, Size] = field(repr=False)

    def at(self, *arrays: Any, **sizes: int) -> Cost:
        """The cost for given sizes: by the arrays of a call, in its order, or by name: ``cost.at(batch=32)``.

        Raises:
            UnknownInputError: for a name that no size of the program has.
            SizeError: for arrays that do not fit.
        """
        env: dict[Atom, int] = {}
        for name, value in sizes.items():
            found = [a for a in self._atoms() if a.name == name]
            if not found:
                known = sorted({a.name for a in self._atoms() if a.name is not None})
                raise UnknownInputError(
                    f"cost: no size is called {name!r}; there are {', '.join(known) or 'none with a name'}"
                )
            env[found[0]] = value
        return self.bound(self._bind(arrays, env))

    def bound(self, env: Env) -> Cost:
        """The cost with the sizes of ``env`` in place of their atoms; the others stay symbols."""
        return _evaluate(self._parts, self._bind, {**self._env, **env})

    def _atoms(self) -> list[Atom]:
        found: dict[Atom, None] = {}
        for part in self._parts:
            for size in part.sizes():
                found.update(dict.fromkeys(a for a in atoms(size) if not a.fn))
        return list(found)

    def table(self, by: str = "step") -> str:
        """The parts as a table, by ``"step"`` or by ``"node"``, with the user's lines."""
        rows: list[tuple[str, Figures, str, source.Sources]]
        if by == "step":
            rows = [(f"{k} {s.name}", s, s.what, s.sources) for k, s in enumerate(self.steps)]
        else:
            rows = [(str(k), n, n.node.op.name, n.sources) for k, n in enumerate(self.nodes)]
        cells = [[by, "flops", "transcendentals", "bytes read", "written", "what"]]
        for label, f, what, lines in rows:
            what = what if len(what) <= 40 else what[:37] + "..."
            cells.append([label, *_numbers(f), f"{what}  {source.show(lines)}".rstrip()])
        cells.append(["total", *_numbers(self), ""])
        widths = [max(len(row[k]) for row in cells) for k in range(5)]
        return "\n".join(
            "  ".join([row[0].ljust(widths[0]), *(row[k].rjust(widths[k]) for k in range(1, 5)), row[5]]).rstrip()
            for row in cells
        )

    def __str__(self) -> str:
        kernels = f"{self.kernels} kernel{'s' if self.kernels != 1 else ''}"
        most = "" if self.exact else "; some figures are upper bounds"
        return f"cost: {kernels}{most}\n{self.table()}"


def _number(n: Size) -> str:
    return f"{n:,}" if isinstance(n, int) else str(n)


def _numbers(f: Figures) -> list[str]:
    return [_number(n) for n in (f.flops, f.transcendentals, f.bytes_read, f.bytes_written)]


# -- counting ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Part:
    """A step, and what its figures are computed from once sizes are known."""

    name: str
    step: Step
    operations: Mapping[tuple[Apply, str], Size]
    exact: bool
    reads: Mapping[Variable, Accesses]
    writes: Mapping[Variable, Accesses]

    def sizes(self) -> Iterable[Size]:
        yield from self.operations.values()
        for v in (*self.reads, *self.writes):
            yield v.type.size


def cost_of(
    steps: Sequence[Step],
    names: Sequence[str] = (),
    bind: Bind | None = None,
    lowering: Callable[[Kernel], Lowered] = lower,
) -> Cost:
    """The cost of fused steps.

    Args:
        steps: in the order in which they run.
        names: what to call each.
        bind: from the arrays of a call, and the sizes that are known besides, to the sizes behind all symbols.
        lowering: from a kernel to the loops that are run.
    """
    parts = [_part(s, name, lowering) for s, name in zip(steps, names or [""] * len(steps), strict=True)]
    return _evaluate(tuple(parts), bind or _no_arrays, {})


def _no_arrays(arrays: Sequence[Any], env: dict[Atom, int]) -> Env:
    if arrays:
        raise UnknownInputError("cost: give sizes by name: these steps have no inputs")
    return env


def _part(step: Step, name: str, lowering: Callable[[Kernel], Lowered]) -> _Part:
    moved = traffic(step)
    counts: dict[tuple[Apply, str], Size] = {}
    exact = True
    loops = step.epilogue if isinstance(step, LibraryCall) else step
    if isinstance(step, LibraryCall):
        x = step.matrices
        n = x.m * x.n * x.k * product(b[0] for b in x.batch)
        counts = {(step.node, "multiply"): n, (step.node, "add"): n}
        name = name or "matrix product"
    elif not isinstance(step, Kernel):
        name, exact = name or "host call", False  # nobody knows what it computes
    if isinstance(loops, Kernel):
        found = count(lowering(loops))
        exact = found.exact
        for (node, fn), n in found.counts.items():
            key = (node or loops.nodes[0], fn)
            counts[key] = counts.get(key, 0) + n
    return _Part(name or "kernel", step, counts, exact, moved.reads, moved.writes)


class _Tally:
    """Figures under construction."""

    def __init__(self) -> None:
        self.operations: dict[str, Size] = {}
        self.read: Size = 0
        self.written: Size = 0
        self.kernels = 0
        self.exact = True

    def add(self, fn: str, n: Size) -> None:
        self.operations[fn] = self.operations.get(fn, 0) + n

    def figures(self) -> dict[str, Any]:
        return {
            "operations": {fn: n for fn, n in self.operations.items() if n != 0},
            "bytes_read": self.read, "bytes_written": self.written, "kernels": self.kernels, "exact": self.exact,
        }  # fmt: skip


def _evaluate(parts: tuple[_Part, ...], bind: Bind, env: Mapping[Atom, Size]) -> Cost:
    total = _Tally()
    by_node: dict[Apply, _Tally] = {}
    steps = []
    for part in parts:
        one = _Tally()
        one.kernels, one.exact = 1, part.exact
        nodes = tuple(dict.fromkeys((*part.step.nodes, *(node for node, _ in part.operations))))
        for node in nodes:
            tally = by_node.setdefault(node, _Tally())
            tally.kernels += 1
            tally.exact &= part.exact
        for (node, fn), n in part.operations.items():
            known = bound(n, env)
            for tally in (one, by_node[node], total):
                tally.add(fn, known)
        bytes_by: list[dict[Variable, Size]] = []
        for table in (part.reads, part.writes):
            moved: dict[Variable, Size] = {}
            for v, accesses in table.items():
                n, exact = accesses.elements(env)
                moved[v] = n * v.type.dtype.itemsize
                node = accesses.node if accesses.node in by_node else nodes[0]
                for tally in (one, by_node[node], total):
                    tally.exact &= exact
                    if table is part.reads:
                        tally.read = tally.read + moved[v]
                    else:
                        tally.written = tally.written + moved[v]
            bytes_by.append(moved)
        total.kernels += 1
        total.exact &= one.exact
        what = "+".join(dict.fromkeys(n.op.name for n in reversed(part.step.nodes)))
        steps.append(StepCost(**one.figures(), name=part.name, what=what, step=part.step, reads=bytes_by[0],
                              writes=bytes_by[1], nodes=nodes))  # fmt: skip
    made = tuple(NodeCost(**t.figures(), node=node) for node, t in by_node.items())
    return Cost(**total.figures(), steps=tuple(steps), nodes=made, _parts=parts, _bind=bind, _env=env)


# -- whole graphs ------------------------------------------------------------------------------------------------------


def binder(inputs: Sequence[Variable], equations: Sequence[tuple[Size, Size]] = ()) -> Bind:
    """From the arrays for ``inputs`` to the sizes that their shapes determine, and ``equations`` with them."""

    def bind(arrays: Sequence[Any], env: dict[Atom, int]) -> Env:
        from symgraph.runtime.sizes import bind_sizes, settle

        if len(arrays) > len(inputs):
            raise UnknownInputError(f"cost: wanted at most {len(inputs)} arrays, got {len(arrays)}")
        found = {**bind_sizes(inputs[: len(arrays)], [np.asarray(a) for a in arrays]), **env}
        settle(equations, found)
        return found

    return bind


def cost(outputs: Variable | Sequence[Variable]) -> Cost:
    """What computing ``outputs`` node by node would cost, as the graph is written: nothing is rewritten or fused.

    Broadcasts, transposes, slices and reshapes are views and cost nothing. The cost of the program that is compiled is
    ``fn.cost``, of a function made by :func:`symgraph.function`.
    """
    wanted = [outputs] if isinstance(outputs, Variable) else list(outputs)
    given = [v for v in leaves(wanted) if not isinstance(v, Constant)]
    return graph_cost(Graph(given, wanted))


def graph_cost(graph: Graph) -> Cost:
    """:func:`cost` of a graph; :meth:`Cost.at` takes arrays for its inputs."""
    from symgraph.passes.decompose import legalize

    return cost_of(separate(legalize(graph)), bind=binder(graph.inputs))


def program_cost(program: Program) -> Cost:
    """The cost of a program's steps; :meth:`Cost.at` takes arrays for the function's inputs, in its order."""
    equations = [(c.got, c.wanted) for c in program.checks if not c.at_least]
    # On a GPU a step may be several launches, one after the other: it is counted once.
    steps = {s.step: s for s in program.steps}
    return cost_of(list(steps), [s.name for s in steps.values()], binder(program.arguments, equations))
