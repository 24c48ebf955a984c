"""The pipeline of graph passes: read :data:`GRAPH_PASSES` to know what the compiler does to a graph, in what order."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from symgraph import source
from symgraph.collector import collector_paused
from symgraph.errors import CheckError, FormatError, SymgraphError
from symgraph.graph import Graph, Interner, Variable
from symgraph.passes import Context
from symgraph.passes.accumulate import accumulate
from symgraph.passes.contractions import contractions
from symgraph.passes.dce import dce
from symgraph.passes.decompose import decompose
from symgraph.passes.fold import fold
from symgraph.passes.intern import intern
from symgraph.passes.rules import apply_rules
from symgraph.passes.sizes import sizes
from symgraph.passes.unstack import unstack
from symgraph.rewrite.canonicalize import CANONICALIZE, EXACT, SPELLINGS
from symgraph.rewrite.products import products_of
from symgraph.rewrite.stabilize import STABILIZE
from symgraph.runtime.progress import note


class Pass(NamedTuple):
    """A pass, and the reason why it stands where it stands."""

    run: Callable[[Graph, Context], Graph]
    reason: str

    @property
    def name(self) -> str:
        """What ``stop_after`` and the trace call it."""
        return self.run.__name__

    @property
    def doc(self) -> str:
        """What it does, in a line."""
        return (self.run.__doc__ or "").strip().splitlines()[0]


def canonicalize(graph: Graph, context: Context) -> Graph:
    """Bring expressions into one of the several forms in which they can be written."""
    return apply_rules(graph, context, EXACT)


def stabilize(graph: Graph, context: Context) -> Graph:
    """Replace expressions that overflow, underflow or cancel by ones that do not."""
    return apply_rules(graph, context, STABILIZE + products_of(graph) + SPELLINGS)


def specialize(graph: Graph, context: Context) -> Graph:
    """Replace expressions by cheaper ones of equal value over the reals."""
    return apply_rules(graph, context, STABILIZE + products_of(graph) + CANONICALIZE)


GRAPH_PASSES: Final[tuple[Pass, ...]] = (
    Pass(intern, "first, so that every later pass does its work once for equal expressions, on a copy of its own"),
    Pass(sizes, "before the rules, which compare types; statements about sizes would stand in their way"),
    Pass(fold, "before the rules, which look for numbers"),
    Pass(canonicalize, "before the rules that look for larger forms, so that they need to know one spelling only"),
    Pass(stabilize, "before anything is decomposed: it looks for softmax and its kin as the user wrote them"),
    Pass(
        specialize,
        "after stabilization, which needs quotients and exponentials where the user or a derivative put them",
    ),
    Pass(decompose, "after stabilization, which knows the large operations; before the sums are gathered"),
    Pass(unstack, "after softmax and its kin are reductions; before the sums are gathered, of which it makes more"),
    Pass(accumulate, "after all rewriting, which knows sums of two; it depends on what uses each sum"),
    Pass(contractions, "after all rules, since none knows the forms that a library wants"),
    Pass(dce, "last, when nothing is rewritten any more"),
)

# -- levels ------------------------------------------------------------------------------------------------------------

LEVELS: Final[Mapping[str, str]] = {
    "exact": "rules that keep every bit",
    "stabilize": "rules that replace an expression by one that overflows, underflows or cancels less",
    "real-equal": "rules that save work; equal over the reals, and rounded no more often than what was written",
    "reassociates": "rules that change the order of additions or multiplications",
    "widens domain": "rules that hold where the values are finite: x - x is 0, also where x is infinite",
}
"""Every named level of rules and what it means."""

DEFAULT_LEVELS: Final = frozenset({"exact", "stabilize", "real-equal"})
FAST_LEVELS: Final = frozenset(LEVELS)


def chosen_levels(levels: Iterable[str] | None, fast_math: bool) -> frozenset[str]:
    """The levels that are on. Raises :class:`~symgraph.errors.FormatError` for a name that is none."""
    if levels is None:
        return FAST_LEVELS if fast_math else DEFAULT_LEVELS
    found = frozenset(levels)
    if found - LEVELS.keys():
        raise FormatError(f"levels: {sorted(found - LEVELS.keys())} are not among {list(LEVELS)}")
    return found | FAST_LEVELS if fast_math else found


# -- running it --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PassRecord:
    """What one pass did.

    Attributes:
        name: of the pass.
        nodes_before, nodes_after: numbers of apply nodes.
        seconds: wall time.
        fired: how often each rule fired.
        log: each firing with the user's lines, in order.
        graph: the graph after the pass.
    """

    name: str
    nodes_before: int
    nodes_after: int
    seconds: float
    fired: Mapping[str, int]
    log: Sequence[tuple[str, source.Sources]]
    graph: Graph


class Trace(tuple[PassRecord, ...]):
    """The records of the passes that ran, in order. Printed, it is a table."""

    __slots__ = ()

    def __str__(self) -> str:
        rows = [("pass", "nodes before", "after", "ms", "rules fired")]
        for r in self:
            fired = ", ".join(
                f"{name} {n}" for name, n in sorted(r.fired.items(), key=lambda item: (-item[1], item[0]))
            )
            rows.append((r.name, str(r.nodes_before), str(r.nodes_after), f"{1000 * r.seconds:.1f}", fired))
        widths = [max(len(row[k]) for row in rows) for k in range(4)]
        lines = []
        for row in rows:
            cells = [row[0].ljust(widths[0]), *(row[k].rjust(widths[k]) for k in (1, 2, 3)), row[4]]
            lines.append("  ".join(cells).rstrip())
        return "\n".join(lines)


def run_pipeline(
    graph: Graph,
    *,
    stop_after: str | None = None,
    check: bool = False,
    levels: Iterable[str] | None = None,
    fast_math: bool = False,
    examples: Sequence[Any] | None = None,
) -> tuple[Graph, Trace]:
    """Run the graph passes.

    Args:
        graph: as the user wrote it; it is not changed.
        stop_after: the name of the last pass to run.
        check: validate the graph after every pass, and make a rule of wrong type an error.
        levels: the named levels of rules that are on (see :data:`LEVELS`).
        fast_math: all levels.
        examples: in checked mode, a value for each input: after every pass the graph is run on them and compared with
        the
            graph as written.

    Returns:
        The optimized graph, and the trace. The graph's inputs stand at the same positions; an input that had an owner
        is replaced by a variable of its own, and outputs have the types they had.

    Raises:
        FormatError: for a name that is no pass or no level.
        CheckError: where a pass broke the graph or changed a value; it names the pass.
    """
    names = [p.name for p in GRAPH_PASSES]
    if stop_after is not None and stop_after not in names:
        raise FormatError(f"stop_after: no graph pass is called {stop_after!r}; there are {', '.join(names)}")
    context = Context(Interner(), chosen_levels(levels, fast_math), strict=check)
    expected = _values(graph, examples) if check and examples is not None else None
    with collector_paused(len(graph.nodes)):
        records = _run(graph, context, stop_after, check, expected, examples)
    return records[-1].graph, Trace(records)


def _run(
    graph: Graph,
    context: Context,
    stop_after: str | None,
    check: bool,
    expected: Sequence[np.ndarray[Any, Any]] | None,
    examples: Sequence[Any] | None,
) -> list[PassRecord]:
    records: list[PassRecord] = []
    for p in GRAPH_PASSES:
        context.fired, context.log = Counter(), []
        note(p.name)
        start = time.perf_counter()
        made = p.run(graph, context)
        seconds = time.perf_counter() - start
        if check:
            _validate(p.name, graph, made, first=not records)
            if expected is not None:
                _compare(p.name, expected, _values(made, examples), made)
        records.append(PassRecord(p.name, len(graph.nodes), len(made.nodes), seconds, context.fired, context.log, made))
        graph = made
        if p.name == stop_after:
            break
    return records


# -- checked mode ------------------------------------------------------------------------------------------------------


def _validate(name: str, before: Graph, after: Graph, first: bool) -> None:
    if len(before.inputs) != len(after.inputs) or any(
        a is not b and not (first and a.owner is not None and a.type == b.type)
        for a, b in zip(before.inputs, after.inputs, strict=True)
    ):
        raise CheckError(f"pass {name} changed the inputs")
    if [v.type for v in before.outputs] != [v.type for v in after.outputs]:
        raise CheckError(
            f"pass {name} changed the types of the outputs from {[str(v.type) for v in before.outputs]} "
            f"to {[str(v.type) for v in after.outputs]}"
        )
    for node in after.nodes:
        line = source.show(node.sources)
        try:
            found = node.op.infer(*[v.type for v in node.inputs])
        except SymgraphError as error:
            raise CheckError(f"pass {name} made a node that does not type: {node}: {error}  {line}") from error
        types = found if isinstance(found, tuple) else (found,)
        if types != tuple(v.type for v in node.outputs):
            raise CheckError(
                f"pass {name} made {node} of types {[str(v.type) for v in node.outputs]}, not {types}  {line}"
            )


def _values(graph: Graph, examples: Sequence[Any] | None) -> list[np.ndarray[Any, Any]]:
    from symgraph.runtime.interpreter import interpret

    return interpret(graph, dict(zip(graph.inputs, examples or (), strict=True)))


def _compare(name: str, expected: Sequence[Any], got: Sequence[Any], graph: Graph) -> None:
    for k, (a, b, v) in enumerate(zip(expected, got, graph.outputs, strict=True)):
        if not agree(a, b):
            raise CheckError(
                f"pass {name} changed the value of output {k} ({v!r})  {source.show(v.sources)}:\n{a}\n{b}"
            )


def agree(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> bool:
    """Whether two values are equal up to rounding; what is not finite on the left may be anything on the right."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.dtype.kind != "f" or not a.size:
        return bool(np.array_equal(a, b))
    finite = np.isfinite(a)
    x, y = a[finite].astype(float), b[finite].astype(float)
    scale = np.max(np.abs(x), initial=1.0)
    eps = float(np.finfo(a.dtype).eps) ** 0.75
    return bool(np.all(np.abs(x - y) <= eps * (scale + np.abs(x))))


def graph_variables(graph: Graph) -> list[Variable]:
    """Every variable of the graph: inputs, then outputs of nodes in order."""
    return [*graph.inputs, *(v for node in graph.nodes for v in node.outputs)]
