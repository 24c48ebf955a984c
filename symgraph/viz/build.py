"""From graphs and compiled functions to pictures: the graph as written, after each pass, its kernels, its program."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

from symgraph import source
from symgraph.errors import FormatError, PictureError
from symgraph.graph import Apply, Constant, Graph, SharedVariable, Variable, leaves
from symgraph.printing import _Printer as Printer
from symgraph.types import TensorType
from symgraph.viz.groups import grouped
from symgraph.viz.identity import Identity
from symgraph.viz.labels import op_label, short
from symgraph.viz.model import Edge, Group, Node, Picture, Stage

if TYPE_CHECKING:
    from symgraph.pipeline import PassRecord
    from symgraph.runtime.function import Function
    from symgraph.runtime.lowered import Lowering
    from symgraph.runtime.program import Program, ProgramStep

Drawable: TypeAlias = "Graph | Variable | Sequence[Variable] | Function | Lowering"
"""What can be drawn: a graph, the output or outputs that define one, a compiled function, or what sg.lower returns."""

COSTS = 300
"""Nodes of a graph up to which the cost of each is counted: that takes a while for each node."""


class Subject:
    """What is to be drawn, at every level that it has."""

    def __init__(self, x: Drawable, title: str = "") -> None:
        self.function: Function | Lowering | None = None
        given: Any = x
        if isinstance(given, Graph):
            self.graph = given
        elif isinstance(variable := getattr(given, "variable", None), Variable):
            self.graph = Graph(leaves_of([variable]), [variable])
        elif isinstance(given, list | tuple) and given and all(hasattr(v, "variable") for v in given):
            outputs = [v.variable for v in given]
            self.graph = Graph(leaves_of(outputs), outputs)
        elif hasattr(given, "passes") and isinstance(getattr(given, "graph", None), Graph):
            self.function = given
            self.graph = getattr(given, "written", given.graph)
        else:
            raise PictureError(
                "viz: wanted a variable, a list of variables, a Graph or a compiled function, got "
                f"{type(given).__name__}  {source.show(source.current())}"
            )
        self.title = title or getattr(self.function, "name", None) or ""
        self._stages: dict[str, Stage] = {}

    # -- levels -------------------------------------------------------------------------------------------------------

    @cached_property
    def passes(self) -> Sequence[PassRecord]:
        """What each pass did: of the compiled function, or of the default pipeline, run now."""
        if self.function is not None and self.function.passes:
            return self.function.passes
        from symgraph.pipeline import run_pipeline

        return run_pipeline(self.graph)[1]

    @cached_property
    def program(self) -> Program:
        """The program of the compiled function, or the one that it would have: nothing is compiled for it."""
        if self.function is not None and getattr(self.function, "target", "") != "numpy":
            return self.function.program
        from symgraph.passes.decompose import legalize
        from symgraph.runtime.checks import size_checks
        from symgraph.runtime.function import _own_outputs
        from symgraph.runtime.program import build

        final = _own_outputs(legalize(self.passes[-1].graph))
        return build(final, final.outputs, {}, size_checks(self.graph), os.cpu_count() or 1)

    @property
    def levels(self) -> list[str]:
        """The names of all levels, in order."""
        from symgraph.pipeline import GRAPH_PASSES

        compiled = self.function is not None and self.function.passes
        return ["written", *(p.name for p in (self.passes if compiled else GRAPH_PASSES)), "kernels", "program"]

    def stage(self, level: str) -> Stage:
        """The stage of that name. Raises :class:`~symgraph.errors.FormatError` where there is none."""
        if level not in self.levels:
            raise FormatError(
                f"level: {level!r} is not among {', '.join([*self.levels, 'memory'])}  {source.show(source.current())}"
            )
        if level == "written":
            return self._written
        if level == "program":
            return Stage("program", "The steps that run, in order.", self._program_picture())
        return next(s for s in self.stages if s.name == level)

    @cached_property
    def _drawer(self) -> GraphDrawer:
        return GraphDrawer(self.graph)

    @cached_property
    def _written(self) -> Stage:
        picture = self._drawer.picture(self.graph, self.title, "written", node_costs(self.graph))
        return Stage("written", "The graph as it was written.", picture)

    @cached_property
    def stages(self) -> list[Stage]:
        """Every stage, in order: as written, after each pass, the kernels, the program."""
        from symgraph.pipeline import GRAPH_PASSES

        about = {p.name: p.doc for p in GRAPH_PASSES}
        stages = [self._written]
        for record in self.passes:
            picture = self._drawer.picture(record.graph, self.title, record.name)
            fired = tuple(sorted(record.fired.items(), key=lambda f: (-f[1], f[0])))
            stages.append(_compared(stages[-1].picture, picture, about.get(record.name, ""), fired, record.log))
        kernels = self._drawer.kernels(self.program, self.title)
        stages.append(_compared(stages[-1].picture, kernels, "What is computed together, in one pass over memory.", ()))
        stages.append(Stage("program", "The steps that run, in order.", self._program_picture()))
        return stages

    def _program_picture(self) -> Picture:
        return draw_program(self.program, self.title)


def leaves_of(outputs: Sequence[Variable]) -> list[Variable]:
    """The inputs of a graph that is given by its outputs: all leaves that are no constants."""
    return [v for v in leaves(outputs) if not isinstance(v, Constant)]


def node_costs(graph: Graph) -> dict[Apply, tuple[str, str]]:
    """Work (in units of one addition) and bytes of each node by itself, for a graph that is not large."""
    if len(graph.nodes) > COSTS:
        return {}
    from symgraph.runtime.cost import graph_cost

    known: dict[Any, tuple[str, str]] = {}
    out: dict[Apply, tuple[str, str]] = {}
    for node in graph.nodes:
        places = {v: k for k, v in enumerate(node.inputs)}
        key = (node.op, *[(v.type, places[v], type(v)) for v in node.inputs])
        if key not in known:
            given = [v for v in dict.fromkeys(node.inputs) if not isinstance(v, Constant)]
            try:
                total = graph_cost(Graph(given, node.outputs))
                known[key] = (str(total.work), str(total.bytes))
            except NotImplementedError:  # an op that is run by NumPy, or by nothing
                known[key] = ("", "")
        out[node] = known[key]
    return out


def _compared(
    before: Picture,
    after: Picture,
    about: str,
    fired: tuple[tuple[str, int], ...],
    log: Iterable[tuple[str, source.Sources]] = (),
) -> Stage:
    """The stage of ``after``: what is other than ``before``, and by which rules."""

    def inputs(p: Picture) -> dict[str, list[tuple[str, int, int]]]:
        table: dict[str, list[tuple[str, int, int]]] = {n.id: [] for n in p.nodes}
        for e in p.edges:
            table[e.target].append((e.source, e.source_port, e.target_port))
        return table

    old, new = inputs(before), inputs(after)
    ops = {n.id: n.op for n in before.nodes}
    changed = {n.id for n in after.nodes if new[n.id] != old.get(n.id) or n.op != ops[n.id]}
    by_line: dict[str, dict[str, None]] = {}
    for rule, lines in log:
        for line in lines:
            by_line.setdefault(str(line), {})[rule] = None
    rules = {
        n.id: tuple(dict.fromkeys(r for line in n.lines for r in by_line.get(line, ())))
        for n in after.nodes
        if n.id in changed and n.kind == "op"
    }
    removed = tuple(n.id for n in before.nodes if n.id not in new)
    rules = {k: v for k, v in rules.items() if v}
    return Stage(after.level, about, after, fired, frozenset(changed), removed, rules)


# -- graphs ------------------------------------------------------------------------------------------------------------


class GraphDrawer:
    """Pictures of a graph as it goes through the stages; ids are kept from one to the next."""

    def __init__(self, written: Graph) -> None:
        self.identity = Identity(written)

    def picture(
        self, graph: Graph, title: str, level: str, costs: dict[Apply, tuple[str, str]] | None = None
    ) -> Picture:
        """The picture of ``graph``, the next stage after the one drawn before."""
        ids = self.identity.follow(graph)
        make = _Maker(self.identity, costs or {})
        for v in graph.inputs:
            make.leaf(v, given=True)
        for node in graph.nodes:
            for v in node.inputs:
                if v not in make.places:
                    make.leaf(v)
            make.op(node, ids[node])
        make.outputs(graph.outputs)
        nodes, groups = grouped(make.nodes, make.edges, make.origins)
        return Picture(title, level, tuple(nodes), tuple(make.edges), tuple(groups))

    def kernels(self, program: Program, title: str) -> Picture:
        """The nodes that each kernel computes, as groups. What several compute, each for itself, is drawn in each."""
        graph = program.graph
        ids = self.identity.follow(graph)
        make = _Maker(self.identity, {})
        for v in program.arguments:
            make.leaf(v, given=True)
        given = set(program.arguments)
        rank = {node: k for k, node in enumerate(graph.nodes)}
        groups: list[Group] = []
        drawn: dict[str, int] = {}
        final = {node: k for k, s in enumerate(program.steps) for node in s.step.nodes if hasattr(node.op, "writes")}
        zeros: dict[Apply, str] = {}
        last = {s.step: k for k, s in enumerate(program.steps)}  # on a GPU a step may be several launches
        for k, s in enumerate(program.steps):
            if last[s.step] != k:
                continue
            group = f"k{k}"
            inside = {node for node in s.step.nodes if final.get(node, k) == k}
            for node in s.step.nodes:  # a scatter is drawn where it adds; the steps before it fill its buffer
                if final.get(node, k) != k and node not in zeros:
                    zeros[node] = f"{ids[node]}.zeros"
                    make.nodes.append(
                        Node(zeros[node], "op", "zeros", f"for {node.op.name}", group=group, order=node.origin.order)
                    )
            stack = list(inside)
            while stack:  # what is moved, not computed, stands between kernels: it belongs to its reader
                for v in stack.pop().inputs:
                    if v.owner is not None and v not in make.places and v not in given and v.owner not in inside:
                        inside.add(v.owner)
                        stack.append(v.owner)
            nodes = sorted(inside, key=rank.__getitem__)
            outside = {v: make.places.get(v) for node in nodes for v in node.outputs}
            for node in nodes:
                for v in node.inputs:
                    if v not in make.places:
                        make.leaf(v, group=group)
                copy = drawn[ids[node]] = drawn.get(ids[node], -1) + 1
                make.op(node, f"{ids[node]}.{copy}" if copy else ids[node], group)
                if node in zeros:
                    type = make.type(node.outputs[0].type)
                    make.edges.append(Edge(zeros[node], make.nodes[-1].id, 0, len(node.inputs), type))
            stored = set(step_writes(s))
            for v, place in outside.items():  # what the kernel does not store, nobody else sees
                if v not in stored:
                    make.places.pop(v)
                    if place is not None:
                        make.places[v] = place
            lines = sorted({str(line) for node in nodes for line in node.sources})
            order = _order(s.step.nodes)
            kind = "kernel" if s.source else "call"
            groups.append(Group(group, kind, step_label(s, k), "", order, tuple(lines), s.name, ""))  # type: ignore[arg-type]
        make.outputs(program.outputs)
        code = {name: {"python": text} for name, text in program.kernels.items()}
        return Picture(title, "kernels", tuple(make.nodes), tuple(make.edges), tuple(groups), code)


class _Maker:
    """Collects nodes and edges; ``places`` says which node and port a variable comes from."""

    def __init__(self, identity: Identity, costs: dict[Apply, tuple[str, str]]) -> None:
        self.identity = identity
        self.costs = costs
        self.printer = Printer(False, False)
        self.types: dict[TensorType, str] = {}
        self.texts: dict[source.Sources, tuple[str, ...]] = {}
        self.nodes: list[Node] = []
        self.edges: list[Edge] = []
        self.places: dict[Variable, tuple[str, int]] = {}
        self.origins: dict[str, source.Origin] = {}

    def type(self, type: TensorType) -> str:
        found = self.types.get(type)
        if found is None:
            found = self.types[type] = self.printer.type(type)
        return found

    def lines(self, sources: source.Sources) -> tuple[str, ...]:
        found = self.texts.get(sources)
        if found is None:
            found = self.texts[sources] = _lines(sources)
        return found

    def leaf(self, v: Variable, given: bool = False, group: str = "") -> tuple[str, int]:
        found = self.places.get(v)
        if found is not None:
            return found
        place = self.places[v] = (self.identity.leaf(v), 0)
        kind, label, detail = "input", v.name or "input", ""
        if isinstance(v, SharedVariable):
            kind, label = "shared", v.name or "shared"
        elif isinstance(v, Constant) and not given:
            value = short(self.printer.array(v.data), 24)
            kind, label, detail = "constant", v.name or value, value if v.name else ""
        type = self.type(v.type)
        lines = () if kind == "constant" else self.lines(v.sources)
        number = self.identity.numbers.get(v, -1)
        self.nodes.append(
            Node(place[0], kind, label, detail, number, types=(type,), lines=lines, group=group)  # type: ignore[arg-type]
        )
        return place

    def op(self, node: Apply, id: str, group: str = "") -> None:
        try:
            text = self.printer.op(node.op)
        except FormatError:  # a parameter that has no text
            text = node.op.name
        label, detail = op_label(node, text)
        name = next((v.name for v in node.outputs if v.name), None)
        if name:
            detail = f"{name} = {detail}" if detail else f"→ {name}"
        work, traffic = self.costs.get(node, ("", ""))
        types = tuple(self.type(v.type) for v in node.outputs)
        number = self.identity.numbers.get(node.outputs[0], -1)
        made = Node(
            id, "op", label, detail, number, text, types, self.lines(node.sources), node.origin.order,
            self.identity.provenance(node), group, work, traffic,
        )  # fmt: skip
        self.nodes.append(made)
        self.origins[id] = node.origin
        for port, v in enumerate(node.inputs):
            at, k = self.places[v]
            self.edges.append(Edge(at, id, k, port, self.type(v.type)))
        for port, v in enumerate(node.outputs):
            self.places[v] = (id, port)

    def outputs(self, outputs: Sequence[Variable]) -> None:
        for k, v in enumerate(outputs):
            at, port = self.places[v] if v in self.places else self.leaf(v)
            type = self.type(v.type)
            name = v.name if v.owner is not None and v.name else f"output {k}" if len(outputs) > 1 else "output"
            self.nodes.append(Node(f"out{k}", "output", name, types=(type,), order=v.origin.order))
            self.edges.append(Edge(at, f"out{k}", port, 0, type))


def _order(nodes: Iterable[Apply]) -> int:
    """The order of derivative that most of the nodes are of."""
    counts = Counter(node.origin.order for node in nodes)
    return min(counts, key=lambda k: (-counts[k], k), default=0)


def _lines(sources: source.Sources) -> tuple[str, ...]:
    return tuple(str(line) for line in sorted(sources))


# -- programs ----------------------------------------------------------------------------------------------------------


def step_reads(s: ProgramStep) -> list[Variable]:
    """The tensors that a step loads and did not make itself."""
    own = set(step_writes(s))
    found: list[Variable] = getattr(s.step, "reads", None) or getattr(s.step, "inputs", [])
    return [v for v in found if v not in own]


def step_writes(s: ProgramStep) -> list[Variable]:
    """The tensors that a step stores."""
    found: list[Variable] = s.step.outputs if hasattr(s.step, "outputs") else s.step.writes
    return found


def step_label(s: ProgramStep, k: int) -> str:
    """``step 3: exp + sum``: what a step computes, its last operations first."""
    roots = getattr(s.step, "roots", ())
    if roots and all(r.fill for r in roots):
        return f"step {k}: zeros for {s.step.nodes[0].op.name}"
    names = list(dict.fromkeys(node.op.name for node in reversed(s.step.nodes) if node.op.name != "broadcast"))
    if not names:
        names = [node.op.name for node in s.step.nodes[:1]]
    return f"step {k}: {short(' + '.join(names), 40)}"


def draw_program(program: Program, title: str) -> Picture:
    """The steps of a program as boxes, the tensors between them as edges."""
    from symgraph.runtime.cost import program_cost

    printer = Printer(False, False)
    nodes: list[Node] = []
    edges: list[Edge] = []
    places: dict[Variable, tuple[str, int]] = {}
    for k, v in enumerate(program.arguments):
        kind = "shared" if isinstance(v, SharedVariable) else "input"
        places[v] = (f"a{k}", 0)
        label = v.name or f"{kind} {k}"
        nodes.append(Node(f"a{k}", kind, label, types=(printer.type(v.type),), lines=_lines(v.sources)))  # type: ignore[arg-type]
    costs = dict(zip(dict.fromkeys(s.step for s in program.steps), program_cost(program).steps, strict=True))
    for k, s in enumerate(program.steps):
        writes = step_writes(s)
        reads = step_reads(s)
        for v in (*reads, *writes):
            if v.owner is None and v not in places:  # a constant array
                places[v] = (f"c{len(nodes)}", 0)
                nodes.append(Node(places[v][0], "constant", v.name or "constant", types=(printer.type(v.type),)))
        order = _order(s.step.nodes)
        lines = sorted({str(line) for n in s.step.nodes for line in n.sources})
        first, _, what = step_label(s, k).partition(": ")
        made = Node(
            f"s{k}", "kernel" if s.source else "call", what, f"{first} · {s.name}", -1, s.name,
            tuple(printer.type(v.type) for v in writes), tuple(lines), order,
            flops=str(costs[s.step].work), bytes=str(costs[s.step].bytes),
        )  # fmt: skip
        nodes.append(made)
        loaded = set(reads)
        again = [v for v in writes if v in places and v not in loaded]  # a buffer that an earlier step began
        for port, v in enumerate([*dict.fromkeys(reads), *again]):
            at, out = places[v]
            edges.append(Edge(at, f"s{k}", out, port, printer.type(v.type)))
        places.update((v, (f"s{k}", port)) for port, v in enumerate(writes))
    for k, v in enumerate(program.outputs):
        at, out = places[v]
        type = printer.type(v.type)
        update = v in program.destinations
        label = v.name or (f"update {k}" if update else f"output {k}" if len(program.outputs) > 1 else "output")
        nodes.append(Node(f"out{k}", "output", label, types=(type,), order=v.origin.order))
        edges.append(Edge(at, f"out{k}", out, 0, type))
    code = {name: {"python": text} for name, text in program.kernels.items()}
    return Picture(title, "program", tuple(nodes), tuple(edges), (), code)
