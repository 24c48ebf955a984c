"""What is drawn, as plain data: boxes, edges with ports, groups of boxes, and the stages of a compilation.

Everything that shows a graph (pictures, exports, the viewer, notebooks) is made from a :class:`Picture`, and from
nothing else. Its text is text: whoever writes a format escapes it for that format.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

NodeKind: TypeAlias = Literal["input", "shared", "constant", "op", "call", "kernel", "group", "output"]
GroupKind: TypeAlias = Literal["scope", "line", "kernel", "call"]


@dataclass(frozen=True, slots=True)
class Node:
    """A box.

    Attributes:
        id: of the node, the same in every stage of one compilation while it stands for the same node.
        kind: an input, shared variable or constant; an op; a library call or kernel as one box (in the program); a
            group that is drawn closed; or an output.
        label: the first line in the box: an op's or variable's name.
        detail: the second line: static parameters, a value, or what a closed group holds. May be empty.
        number: of the variable, as :func:`symgraph.print_graph` counts them in the graph as written: ``%12``. -1 for
            what is not in that graph.
        op: the operation with all of its static parameters; empty for leaves.
        types: of the node's outputs, or of the variable itself.
        lines: of the user's code, ``model.py:12``.
        order: 0 for what the user wrote, 1 for its derivative, 2 for the derivative of that, ...
        provenance: ``adjoint of %12 multiply``; empty for what is no derivative.
        group: the id of the innermost group that it is in, or empty.
        flops, bytes: work and traffic in terms of the sizes (``2*batch*640``), or empty where they are not known.
        count: how many nodes stand behind a closed group; 1 for any other.
        repeat: how often a closed group with this content occurs in a row.
    """

    id: str
    kind: NodeKind
    label: str
    detail: str = ""
    number: int = -1
    op: str = ""
    types: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    order: int = 0
    provenance: str = ""
    group: str = ""
    flops: str = ""
    bytes: str = ""
    count: int = 1
    repeat: int = 1


@dataclass(frozen=True, slots=True)
class Edge:
    """A tensor from an output of one node to an input of another. ``label`` is its type: dtype and sizes."""

    source: str
    target: str
    source_port: int = 0
    target_port: int = 0
    label: str = ""
    count: int = 1  # edges that this one stands for, where groups are closed


@dataclass(frozen=True, slots=True)
class Group:
    """Boxes that belong together: a named scope, the nodes of a source line, a kernel, a library call.

    ``parent`` is the id of the group around it, or empty; ``code`` the key of ``Picture.code`` that shows it.
    ``form`` is equal for groups of equal structure.
    """

    id: str
    kind: GroupKind
    label: str
    parent: str = ""
    order: int = 0
    lines: tuple[str, ...] = ()
    code: str = ""
    form: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """One graph at one level: nodes in topological order (as far as there is one), edges, groups.

    ``code`` has, by kernel name, its texts by language (``"python"``, ``"loops"``).
    """

    title: str
    level: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    groups: tuple[Group, ...] = ()
    code: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The picture as plain dictionaries and lists; what has its default is left out of nodes, edges, groups."""
        return {
            "title": self.title,
            "level": self.level,
            "nodes": [_plain(n) for n in self.nodes],
            "edges": [_plain(e) for e in self.edges],
            "groups": [_plain(g) for g in self.groups],
            "code": {k: dict(v) for k, v in self.code.items()},
        }


@dataclass(frozen=True, slots=True)
class Stage:
    """A picture in the row of stages that a graph goes through.

    Attributes:
        name: ``"written"``, the name of a pass, ``"kernels"`` or ``"program"``: what ``level=`` takes.
        about: what was done to arrive here, in a line.
        fired: how often each rule fired, by its name; the most frequent first.
        changed: ids of nodes that are new here, or have other inputs than in the stage before.
        removed: ids of nodes of the stage before that are gone.
        rules: for a changed node, the rules that fired on its lines.
    """

    name: str
    about: str
    picture: Picture
    fired: tuple[tuple[str, int], ...] = ()
    changed: frozenset[str] = frozenset()
    removed: tuple[str, ...] = ()
    rules: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The stage as plain dictionaries and lists."""
        return {
            "name": self.name,
            "about": self.about,
            "picture": self.picture.as_dict(),
            "fired": [list(f) for f in self.fired],
            "changed": sorted(self.changed),
            "removed": list(self.removed),
            "rules": {k: list(v) for k, v in self.rules.items()},
        }


@dataclass(frozen=True, slots=True)
class Bar:
    """A buffer of the memory plan: alive from step ``first`` to ``last``, ``bytes`` long at ``offset`` in the arena.

    ``offset`` is -1 for an array that is handed to the caller, which does not lie in the arena.
    """

    label: str
    types: tuple[str, ...]
    first: int
    last: int
    offset: int
    bytes: int
    lines: tuple[str, ...] = ()
    order: int = 0


@dataclass(frozen=True, slots=True)
class Timeline:
    """The memory plan of a program for one set of sizes.

    ``arena`` is the size of the arena in bytes, ``intermediates`` the sum of the tensors that are in it.
    """

    title: str
    steps: tuple[str, ...]
    bars: tuple[Bar, ...]
    arena: int
    intermediates: int

    def as_dict(self) -> dict[str, Any]:
        """The plan as plain dictionaries and lists."""
        return {
            "title": self.title,
            "level": "memory",
            "steps": list(self.steps),
            "bars": [_plain(b) for b in self.bars],
            "arena": self.arena,
            "intermediates": self.intermediates,
        }


def _plain(x: Any) -> dict[str, Any]:
    """The fields of a dataclass that have not their default."""
    out: dict[str, Any] = {}
    for f in dataclasses.fields(x):
        value = getattr(x, f.name)
        if f.default is dataclasses.MISSING or value != f.default:
            out[f.name] = list(value) if isinstance(value, tuple) else value
    return out
