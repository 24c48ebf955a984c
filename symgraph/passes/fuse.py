"""Fusion: which tensors are kept in memory, and which exist only inside a kernel.

Fusing is substitution of index forms. The nodes are visited from the outputs to the inputs; every use of a tensor is
recorded as an access at an index. A tensor whose uses are all cheap to compute in place is inlined there: the access
is replaced by its op's index form, whose own accesses are uses of the op's inputs. Any other tensor is the *root* of a
kernel that stores it. At last, kernels that run over the same leading axes are merged where that saves reading a
tensor again.

A kernel grown this way can depend on another only through stored tensors, and a merge keeps the order of steps, so no
cycle can arise.

What becomes too much for one kernel is cut into parts (:mod:`symgraph.passes.split`), and all is done again: a tensor
is then inlined and merged within its part only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, TypeAlias

from symgraph import index as ix
from symgraph.graph import Apply, Constant, Graph, Variable
from symgraph.op import Op
from symgraph.ops.checkpoint import After
from symgraph.ops.contract import Contract
from symgraph.passes import split
from symgraph.passes.library import ContractAdd, HostCall, LibraryCall, library_call
from symgraph.types import Size

MAX_WEIGHT = 1024
"""What is fused into one kernel at most (see :func:`weight`): compile time grows faster than the kernel."""
CHEAP = 4
"""FLOPs per element up to which computing again is no dearer than loading."""
SHORT = 32
"""Elements of a row that are too few for a loop of its own inside that over rows: vector units would be idle."""
WORDS = 8
"""More than a node adds to the words of 4 bytes that are in use at once: its operands and its result."""
ROUNDS = 4
"""How often kernels are cut. One round does, unless a part computes again what others have."""


@dataclass(eq=False)
class Root:
    """Tensors that one nest of loops stores: the outputs of one node, at ``indices``."""

    node: Apply | None
    variables: tuple[Variable, ...]
    indices: ix.Index
    values: tuple[ix.Expr, ...]
    accumulates: bool = False  # the value is a reduction over leading axes, added up in memory
    runs: int | None = None  # the value is a running reduction along this axis
    inputs: list[ix.Access] = field(default_factory=list)  # loads, after inlining
    write: ix.Write | None = None  # for scatters: where the value goes
    fill: bool = False
    space: Any = None  # the same for roots of one part over the same indices: what they share is computed once

    def __post_init__(self) -> None:
        self.space = self if self.space is None else self.space

    @property
    def shape(self) -> tuple[Size, ...]:
        return self.write.space if self.write else self.variables[0].type.shape


@dataclass(eq=False)
class Kernel:
    """Roots computed in one kernel; their first ``depth`` axes are common loops."""

    position: int
    roots: list[Root]
    nodes: list[Apply]
    depth: int
    flops: int = 0
    weight: int = 0
    earliest: int = -1  # the position of what it has to wait for, though it does not read it
    part: int | None = None  # of what was too much for one kernel
    short: int = 0  # axes up to the last one with too few elements for a loop of its own

    def __post_init__(self) -> None:
        shape = self.roots[0].shape
        self.short = max((k + 1 for k, s in enumerate(shape) if isinstance(s, int) and s < SHORT), default=0)
        # Once, not over all roots at each use: before it is cut, a kernel can have thousands.
        self.mergeable = not any(r.accumulates or r.write or r.runs is not None for r in self.roots)

    @property
    def shape(self) -> tuple[Size, ...]:
        return self.roots[0].shape[: self.depth]

    @property
    def outputs(self) -> list[Variable]:
        return list(dict.fromkeys(v for r in self.roots for v in r.variables))

    @property
    def inputs(self) -> list[Variable]:
        """Tensors loaded, in order of first use, its own outputs included where a later root loads them."""
        return list(dict.fromkeys(a.variable for r in self.roots for a in r.inputs))


Step: TypeAlias = Kernel | LibraryCall | HostCall
Accepts: TypeAlias = Callable[[LibraryCall], bool]


@dataclass(eq=False)
class _Use:
    access: ix.Access
    root: Root


def flops(op: Op) -> int:
    """FLOPs per element of the output's (for a reduction: the input's) space."""
    found: int = getattr(op, "flops", 1)
    return found


def weight(op: Op) -> int:
    """What compiling one use of ``op`` costs, relative to an addition."""
    n = flops(op)
    return n if n <= CHEAP else 2 * n


def moves_only(op: Op) -> bool:
    """Whether the op only says where elements come from, at no cost but index arithmetic."""
    return op.name in _MOVES


_MOVES = frozenset(
    (
        "broadcast",
        "transpose",
        "slice",
        "reshape",
        "assert_shape",
        "iota",
        "size_of",
        "stop_gradient",
        "positive",
        "after",
    )
)
_CHECKED = frozenset(("gather", "scatter_add"))
_BRANCHING = frozenset(("unslice", "concatenate", "gather"))


def reduced_axes(op: Op) -> tuple[int, ...] | None:
    """The axes that a reduction removes; ``None`` for an op that does not reduce."""
    axes = getattr(op, "axes", None)
    if op.name in _REDUCTIONS:
        return axes if axes is not None else (op.axis,)  # type: ignore[attr-defined]
    return None


_LOCATING = frozenset(("arg_max", "arg_min", "max_and_argmax"))
_REDUCTIONS = frozenset(("sum", "prod", "max", "min", "any", "all")) | _LOCATING


def running_axis(op: Op) -> int | None:
    """The axis along which an op carries a value from each element to the next; ``None`` for other ops."""
    return op.axis if op.name in _RUNNING else None  # type: ignore[attr-defined]


_RUNNING = frozenset(("cum_sum", "cum_prod", "cum_max", "cum_min"))


def trailing(node: Apply) -> bool:
    """Whether a reduction removes the last axes of its operand: what it adds up then lies side by side."""
    axes, rank = reduced_axes(node.op) or (), node.inputs[0].type.ndim
    return axes == tuple(range(rank - len(axes), rank))


class _Fuser:
    """``parts``: the part that a node belongs to, where what it was fused into was too much for one kernel. ``limit``:
    the weight at which a kernel takes no more, where it is not parts that bound it."""

    def __init__(
        self,
        graph: Graph,
        separately: bool = False,
        accepts: Accepts | None = None,
        parts: Mapping[Apply, int] | None = None,
        limit: int | None = None,
    ) -> None:
        self.graph = graph
        self.accepts = accepts
        self.parts = parts or {}
        self.limit = limit
        self.separately = separately
        self.position = {node: k for k, node in enumerate(graph.nodes)}
        self.uses: dict[Variable, list[_Use]] = {}
        self.stored: set[Variable] = {v for v in graph.outputs if v.owner is not None}
        self.steps: list[Step] = []
        self.kernel_of: dict[Root, Kernel] = {}
        self.keys: dict[tuple[Any, ...], int] = {}
        self.indices: dict[Any, ix.Index] = {}  # of parts' roots, by part and shape

    def run(self) -> list[Step]:
        given = set(self.graph.inputs)
        for node in reversed(self.graph.nodes):
            if not any(v in self.uses or v in self.stored for v in node.outputs):
                continue
            call = HostCall(node) if node.op.host else library_call(node, given)
            if isinstance(call, LibraryCall) and self.accepts is not None and not self.accepts(call):
                call = None
            if call is not None:
                self.stored.update(v for v in call.reads if v.owner is not None and v not in given)
                self.steps.append(call)
                call.position = self.position[node]
                self.load_all(node.outputs)
            elif hasattr(node.op, "writes"):
                self.scatter(node)
            elif self.inlinable(node):
                self.inline(node)
            else:
                self.root(node)
        self.steps.reverse()
        return self.steps if self.separately else _merge(self.steps, self.limit)

    # -- roots and inlining --------------------------------------------------------------------------------------------

    def root(self, node: Apply) -> None:
        axes = reduced_axes(node.op)
        part = self.parts.get(node)
        shape = node.outputs[0].type.shape
        rank = len(shape)
        columns = bool(axes) and not trailing(node) and node.op.name not in _LOCATING
        runs = running_axis(node.op)
        space = None if part is None or columns or runs is not None else (part, shape)
        indices = tuple(ix.loop_index() for _ in range(rank))
        if space is not None:
            indices = self.indices.setdefault(space, indices)
        root = Root(node, node.outputs, indices, (), columns, runs, space=space)
        self.kernel_of[root] = kernel = Kernel(
            self.position[node], [root], [node], rank, flops(node.op), weight(node.op), part=part
        )
        # The index that a running reduction goes along is bound by itself.
        scope = indices if runs is None else (*indices[:runs], *indices[runs + 1 :])
        root.values = self.lower(node, indices, root, scope)
        self.steps.append(kernel)
        self.load_all(node.outputs)

    def scatter(self, node: Apply) -> None:
        """Zeros, then one nest for each write of the node, all into the node's output."""
        (out,) = node.outputs
        base = tuple(ix.loop_index() for _ in range(out.type.ndim))
        zero = Root(None, (out,), base, (ix.const(0, out.type.dtype),), fill=True)
        first = Kernel(self.position[node], [zero], [node], len(base), 1)
        self.kernel_of[zero] = first
        kernels = [first]
        cell: list[tuple[Root, ix.Index]] = []
        tensors = [self.tensor(v, cell) for v in node.inputs]
        for write in node.op.writes(*tensors):  # type: ignore[attr-defined]
            indices = tuple(ix.loop_index() for _ in write.space)
            root = Root(None, (out,), indices, (), write=write)
            self.kernel_of[root] = kernel = Kernel(self.position[node], [root], [node], 0, 2, part=self.parts.get(node))
            cell.append((root, indices))
            with ix.made_for(node):
                root.values = (*write.at(indices), write.value(indices))
            _claim(root.values, node)
            cell.pop()
            kernels.append(kernel)
        self.steps.extend(reversed(kernels))
        self.load_all(node.outputs)

    def tensor(self, v: Variable, cell: list[tuple[Root, ix.Index]]) -> ix.Tensor:
        def access(index: ix.Index) -> ix.Expr:
            if isinstance(v, Constant) and v.type.ndim == 0:
                return ix.const(v.data[()], v.type.dtype)
            root, scope = cell[-1]
            a = ix.Access(v, index, (*scope, *ix.enclosing()))
            self.uses.setdefault(v, []).append(_Use(a, root))
            return a

        return ix.Tensor(access, v.type.dtype, v.type.shape)

    def lower(self, node: Apply, index: ix.Index, root: Root, scope: ix.Index) -> tuple[ix.Expr, ...]:
        cell = [(root, scope)]
        with ix.made_for(node):
            out = node.op.lower(index, *[self.tensor(v, cell) for v in node.inputs])
        values = out if isinstance(out, tuple) else (out,)
        if node.op.name in _CHECKED:
            _claim(values, node)
        return values

    def load_all(self, outputs: Sequence[Variable]) -> None:
        for v in outputs:
            self.uses.pop(v, None)  # accesses stay loads

    def inline(self, node: Apply) -> None:
        made: dict[Any, tuple[ix.Expr, ...]] = {}
        for k, v in enumerate(node.outputs):
            for use in self.uses.pop(v, ()):
                kernel = self.kernel_of[use.root]
                key = self.context(use)
                if key not in made:
                    made[key] = self.lower(node, use.access.args, use.root, use.access.scope)
                    kernel.nodes.append(node)
                    kernel.flops += flops(node.op)
                    kernel.weight += weight(node.op)
                    kernel.earliest = max(kernel.earliest, self.awaited(node))
                use.access.target = made[key][k]

    def awaited(self, node: Apply) -> int:
        if not isinstance(node.op, After):
            return -1
        return max((self.position[v.owner] for v in node.inputs[1:] if v.owner is not None), default=-1)

    def context(self, use: _Use) -> Any:
        """Uses of a tensor in one context are one computation."""
        return use.root.space, self.key(use.access.args)

    def key(self, index: Sequence[ix.Expr]) -> tuple[int, ...]:
        return tuple(self.number(e) for e in index)

    def number(self, e: ix.Expr) -> int:
        """Equal index expressions have equal numbers."""
        if isinstance(e, ix.Access):
            return id(e)
        key = (e.fn, e.attr if e.fn != "reduce" else id(e), *[self.number(a) for a in e.args])
        return self.keys.setdefault(key, len(self.keys))

    def inlinable(self, node: Apply) -> bool:
        op = node.op
        if any(v in self.stored for v in node.outputs) or len(node.outputs) > 1 or running_axis(op) is not None:
            return False
        if self.accepts is not None and isinstance(op, Contract | ContractAdd):
            return False  # a product of matrices inside another's loops would be computed over and over
        (v,) = node.outputs
        uses = self.uses[v]
        part = self.parts.get(node)
        if part is not None and any(self.kernel_of[u.root].part != part for u in uses):
            return False
        if self.limit is not None and any(self.kernel_of[u.root].weight + weight(op) > self.limit for u in uses):
            return False
        contexts = {self.context(u): u for u in uses} if len(uses) > 1 else {None: uses[0]}
        if moves_only(op) and (len(contexts) <= 8 or op.name == "after"):
            return True
        if self.separately:
            return False
        if reduced_axes(op) is not None:
            # Computed once per iteration of outer loops only: not inside the loops that use it.
            if not trailing(node) or len(contexts) > 1 or op.name in _LOCATING:
                return False
            (use,) = contexts.values()
            index = use.access.args
            # A root without axes has one thread: rows that it adds up are better computed before, by all.
            return (
                bool(index)
                and bool(use.root.indices)
                and not use.root.accumulates
                and use.root.runs is None
                and index == use.access.scope[: len(index)]
            )
        if getattr(op, "lower", None) is None:
            return False
        if flops(op) <= CHEAP and op.name not in _BRANCHING:
            wide = [x for x in node.inputs if x.type.ndim and not _spread_scalar(x)]
            return len(contexts) == 1 or len(wide) <= 1
        return len(contexts) == 1 and not _repeated(next(iter(contexts.values())).access)


def _claim(values: Sequence[ix.Expr], node: Apply) -> None:
    """Let the checks of indices in ``values`` know the node that they are of, for the error that they may end in."""
    stack = list(values)
    while stack:
        e = stack.pop()
        if e.fn == "checked_index" and e.attr is None:
            e.attr = node
        stack.extend(e.args)


def _spread_scalar(v: Variable) -> bool:
    """Whether all elements of ``v`` are one scalar: it costs nothing to load."""
    return v.owner is not None and v.owner.op.name == "broadcast" and v.owner.inputs[0].type.ndim == 0


def _repeated(access: ix.Access) -> bool:
    """Whether the access meets the same element again in an inner loop that does not leave it in a register."""
    used = frozenset().union(*[e.free for e in access.args]) if access.args else frozenset()
    last = max((k for k, i in enumerate(access.scope) if i in used), default=-1)
    return any(i not in used for i in access.scope[: last + 1])


# -- merging -----------------------------------------------------------------------------------------------------------


def collect_loads(root: Root) -> list[ix.Access]:
    """The accesses that stayed loads, in order."""
    found: dict[ix.Access, None] = {}
    seen: set[ix.Expr] = set()
    stack = list(reversed(root.values))
    while stack:
        e = stack.pop()
        if e in seen:
            continue
        seen.add(e)
        if isinstance(e, ix.Access):
            if e.target is not None:
                stack.append(e.target)
                continue
            found[e] = None
        stack.extend(reversed(e.args))
    return list(found)


def _merge(steps: Sequence[Step], limit: int | None) -> list[Step]:
    """Join kernels over the same leading axes where the later reads what the earlier reads or stores, and those of a
    part."""
    out: list[Step] = []
    place: dict[Variable, int] = {}  # the step, by its place in `out`, that stores a variable last
    readers: dict[Variable, int] = {}  # the last kernel that reads a variable
    parts: dict[int, int] = {}  # the last kernel of a part
    for step in steps:
        if not isinstance(step, Kernel):
            for v in step.writes:
                place[v] = len(out)
            out.append(step)
            continue
        for r in step.roots:
            r.inputs = collect_loads(r)
        target = None
        reads = step.inputs
        if step.mergeable:
            latest = max((place[v] for v in reads if v in place), default=-1)
            later = {readers[v] for v in reads if readers.get(v, -1) > latest}
            if step.part is not None and parts.get(step.part, -1) > latest:
                later.add(parts[step.part])
            for k in [latest, *sorted(later, reverse=True)]:
                if k >= 0 and _join(out[k], step, {v for v in reads if place.get(v) == k}, limit):
                    target = k
                    break
        if target is None:
            target = len(out)
            out.append(step)
        for v in step.outputs:
            place[v] = target
        for v in reads:
            readers[v] = max(readers.get(v, -1), target)
        if step.part is not None:
            parts[step.part] = target
    return out


def _join(a: Step, b: Kernel, stored: Collection[Variable], limit: int | None) -> bool:
    """Whether ``a``, which stores ``stored``, takes in ``b``."""
    if not isinstance(a, Kernel) or not a.mergeable or a.part != b.part:
        return False
    if limit is not None and a.weight + b.weight > limit:
        return False
    if a.position < b.earliest:
        return False  # it would compute again what the forward pass still has
    full = a.roots[0].shape == b.roots[0].shape == a.shape
    depth = 0
    for s, t in zip(a.shape, b.roots[0].shape, strict=False):
        if s != t:
            break
        depth += 1
    linked = False
    for access in b.roots[0].inputs:
        if access.variable in stored:
            linked = True
            same = 0
            for e, i in zip(access.args, b.roots[0].indices, strict=False):
                if e is not i:
                    break
                same += 1
            depth = min(depth, same)
    scalars = full and not a.shape  # such as what is computed from the result of a full reduction
    if (depth == 0 and not scalars) or (not full and not linked):
        return False
    if depth < max(len(a.roots[0].shape), len(b.roots[0].shape)) and depth < max(a.short, b.short):
        return False
    a.depth = depth
    a.short = max(a.short, b.short)
    a.roots += b.roots
    a.nodes += b.nodes
    a.flops += b.flops
    a.weight += b.weight
    return True


# -- what is too much for one kernel -----------------------------------------------------------------------------------


class _Parts:
    """The part of each node that belongs to one."""

    def __init__(self, graph: Graph, bounds: split.Bounds) -> None:
        self.position = {node: k for k, node in enumerate(graph.nodes)}
        self.bounds = bounds
        self.of: dict[Apply, int] = {}
        self.count = 0

    def cut(self, steps: Sequence[Step]) -> bool:
        """Give parts to the nodes of kernels that are too much. Whether there was one that could be cut."""
        kernels = [s for s in steps if isinstance(s, Kernel)]
        large = [k for k in kernels if self.may_exceed(k)]
        counts = Counter(node for k in kernels for node in k.nodes) if large else Counter()
        found = [self.cut_one(k, counts) for k in large]
        return any(found)

    def may_exceed(self, k: Kernel) -> bool:
        words = self.bounds.words
        return k.weight > self.bounds.weight or (words is not None and len(k.nodes) * WORDS > words)

    def cut_one(self, kernel: Kernel, counts: Mapping[Apply, int]) -> bool:
        own = Counter(kernel.nodes)
        nodes = sorted(own, key=self.position.__getitem__)
        rooted = {r.node or kernel.nodes[0] for r in kernel.roots}
        # What is computed in several places goes with what uses it, as do moves.
        bound = {n for n in nodes if n in rooted or (counts[n] == 1 and not moves_only(n.op))}
        weights = [weight(n.op) * own[n] if n in bound else 0 for n in nodes]
        starts = split.cuts(weights, _values(nodes, bound, kernel), self.bounds)
        for first, last in pairwise([0, *starts, len(nodes)] if starts else []):
            self.of.update((n, self.count) for n in nodes[first:last] if n in bound)
            self.count += 1
        return bool(starts)


def _values(nodes: Sequence[Apply], bound: Collection[Apply], kernel: Kernel) -> list[split.Value]:
    """What ``nodes`` compute and load. What uses a node that is not bound uses its operands too."""
    stored = set(kernel.outputs)
    made = {v for n in nodes for v in n.outputs}
    places: dict[Variable, list[int]] = {}
    behind: dict[Variable, tuple[Variable, ...]] = {}  # what is not bound, and all that it is made of
    for k, node in enumerate(nodes):
        data = node.inputs[:1] if isinstance(node.op, After) else node.inputs
        reads = dict.fromkeys(w for v in data for w in behind.get(v, (v,)))
        if node not in bound:
            behind[node.outputs[0]] = (node.outputs[0], *reads)
            continue
        for v in (*reads, *node.outputs):
            if not (isinstance(v, Constant) and v.type.ndim == 0):
                places.setdefault(v, []).append(k)
    out = []
    for v, ks in places.items():
        if v in behind:
            out.append(split.Value(0, tuple(ks), made=False, weight=weight(v.owner.op)))  # type: ignore[union-attr]
        else:
            out.append(split.Value(max(1, v.type.dtype.itemsize // 4), tuple(ks), v in made, v in stored))
    return out


def fuse(
    graph: Graph, accepts: Accepts | None = None, limit: int = MAX_WEIGHT, registers: int | None = None
) -> list[Step]:
    """The kernels and library calls that compute ``graph``, in an order in which they can run.

    ``accepts``: which matrix products the target's library takes, where not all; the others are kernels of their own.
    ``limit``: the largest weight of a kernel (see :func:`weight`). ``registers``: how many words of 4 bytes a kernel's
    values may take at once, where the target keeps all in registers.
    """
    parts = _Parts(graph, split.Bounds(limit, registers, 2 * (CHEAP + 1)))
    for _ in range(ROUNDS):
        steps = _Fuser(graph, accepts=accepts, parts=parts.of).run()
        if not parts.cut(steps):
            return steps
    return _Fuser(graph, accepts=accepts, parts=parts.of, limit=limit).run()


def separate(graph: Graph) -> list[Step]:
    """A kernel or library call for each node that computes something: what runs where nothing is fused."""
    return _Fuser(graph, separately=True).run()
