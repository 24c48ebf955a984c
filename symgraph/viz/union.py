"""Several pictures of one graph on one plane: each node has one place, in whatever stage it is seen.

The pictures of a row of stages are united: a node or edge of any stage is in the union once. The union is laid out with
all groups open, and with all groups closed. A stage shows what it has of that and moves the rest together, which keeps
the order of everything along both axes: what stays from one stage to the next stays where it was, or nearly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from symgraph.viz.glyphs import text_width
from symgraph.viz.groups import _box, _ends, _rows, closed
from symgraph.viz.layout import Box, Engine, Frame, Layout, layout
from symgraph.viz.model import Edge, Group, Node, Picture
from symgraph.viz.svg import _size, _tails, _title


@dataclass(frozen=True)
class Plane:
    """The union of some stages, with places.

    Attributes:
        picture: the union.
        opened: places of its nodes and edges with all groups open.
        boxes: with all groups closed: the boxes, each with the ids of the groups, or else of the nodes, that it stands
            for. Empty where there are no groups.
        edges: between those boxes.
        closed: their places.
        sizes: of each group as a closed box.
    """

    picture: Picture
    opened: Layout
    boxes: tuple[tuple[Node, tuple[str, ...]], ...]
    edges: tuple[Edge, ...]
    closed: Layout
    sizes: Mapping[str, tuple[float, float]]


def plane(pictures: Sequence[Picture], engine: Engine = "auto") -> Plane:
    """Unite pictures and lay them out."""
    union = unite(pictures)
    sizes: dict[str, tuple[float, float]] = {}
    for p in pictures:  # a box has room for what it says in any stage
        tails = _tails(p)
        for n in p.nodes:
            w, h = _size(n, tails.get(n.id, ""))
            known = sizes.get(n.id, (0.0, 0.0))
            sizes[n.id] = (max(w, known[0]), max(h, known[1]))
    opened = layout(
        [Box(n.id, *sizes[n.id], n.group) for n in union.nodes],
        [(e.source, e.target) for e in union.edges],
        [Frame(g.id, g.parent, text_width(_title(g), 11, bold=True)) for g in union.groups],
        engine,
    )
    members = _members(union)
    groups = {g.id: g for g in union.groups}
    boxes = {g: _size(_box(groups, members, [g], 1), "float64[batch, 640]") for g in members}
    if not members:
        return Plane(union, opened, (), (), Layout(), {})
    small = closed(union)
    tails = _tails(small)
    placed = layout(
        [Box(n.id, *_size(n, tails.get(n.id, ""))) for n in small.nodes],
        [(e.source, e.target) for e in small.edges],
        (),
        engine,
    )
    stands = _stands_for(union)
    return Plane(
        union, opened, tuple((n, stands.get(n.id, ())) for n in small.nodes), small.edges, placed, boxes
    )  # fmt: skip


def unite(pictures: Sequence[Picture]) -> Picture:
    """The nodes, edges and groups of all pictures, each once; nodes in an order that suits every picture, about.

    A node is in the first group that any picture puts it in. Groups of lines are runs of nodes, which differ from stage
    to stage: those that have a node in common are one.
    """
    if len(pictures) == 1:
        return pictures[0]
    groups: dict[str, Group] = {}
    home: dict[str, str] = {}
    nodes: dict[str, Node] = {}
    after: dict[str, list[str]] = {"": []}
    edges: dict[tuple[str, str, int, int], Edge] = {}
    for p in pictures:
        known = {g.id: g for g in p.groups}
        runs: dict[str, str] = {}
        for n in p.nodes:
            if n.group and n.id in home:
                runs.setdefault(n.group, home[n.id])
        last = ""
        for n in p.nodes:
            if n.group and n.id not in home:
                g = n.group
                if known[g].kind == "line":
                    g = runs.setdefault(g, g if g not in groups else f"{p.level}/{g}")
                home[n.id] = g
                inner = n.group
                while inner and g not in groups:
                    groups[g] = replace(known[inner], id=g)
                    g = inner = known[inner].parent
            if n.id not in nodes:
                nodes[n.id] = n
                after[n.id] = []
                after[last].append(n.id)
            last = n.id
        for e in p.edges:
            edges.setdefault((e.source, e.target, e.source_port, e.target_port), e)
    order: list[str] = []
    stack = [""]
    while stack:  # a node stands right after the one that it was first seen after; what was seen last comes first
        id = stack.pop()
        if id:
            order.append(id)
        stack += after[id]
    first = pictures[0]
    united = tuple(replace(nodes[id], group=home.get(id, "")) for id in order)
    return replace(first, nodes=united, edges=tuple(edges.values()), groups=_parents_first(groups))


def _parents_first(groups: Mapping[str, Group]) -> tuple[Group, ...]:
    out: dict[str, Group] = {}
    for g in groups.values():
        chain = []
        inner: Group | None = g
        while inner is not None and inner.id not in out:
            chain.append(inner)
            inner = groups.get(inner.parent)
        out.update((x.id, x) for x in reversed(chain))
    return tuple(out.values())


def _members(picture: Picture) -> dict[str, list[Node]]:
    """The nodes of each group, with those of the groups inside."""
    parent = {g.id: g.parent for g in picture.groups}
    out: dict[str, list[Node]] = {}
    for n in picture.nodes:
        g = n.group
        while g:
            out.setdefault(g, []).append(n)
            g = parent[g]
    return out


def _stands_for(picture: Picture) -> dict[str, tuple[str, ...]]:
    """The groups behind each box of the picture with all groups closed, or the inputs and outputs that are one box."""
    parent = {g.id: g.parent for g in picture.groups}
    top: dict[str, str] = {}
    for g in parent:  # parents stand before their children
        top[g] = top[parent[g]] if parent[g] else g
    box = {n.id: top[n.group] if n.group else n.id for n in picture.nodes}
    members: dict[str, list[Node]] = {}
    for n in picture.nodes:
        if n.group:
            members.setdefault(box[n.id], []).append(n)
    rows = _rows(picture, members, box)
    merged = {g: row[0] for row, _ in rows for g in row}
    box = {id: merged.get(b, b) for id, b in box.items()}
    ends = _ends(picture, box, {row[0] for row, _ in rows})
    out: dict[str, tuple[str, ...]] = {g: (g,) for g in members}
    out.update((row[0], tuple(row)) for row, _ in rows)
    out.update((several[0].id, tuple(n.id for n in several)) for several in ends.values())
    return out
