"""Where boxes go: from sizes, edges and groups to positions, by ``graphlay`` where it is installed, or by own code.

The built-in layout: longest-path layers, within them an order by barycenters, and positions that are nearest to the
neighbours' for that order (pool adjacent violators, Ayer et al. 1955). Groups are laid out from the inside out, each as
one box of the group around it. Both are deterministic; all coordinates are pixels, y grows downwards.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Literal, NamedTuple, TypeAlias

from symgraph.errors import FormatError

Engine: TypeAlias = Literal["auto", "graphlay", "builtin"]
Point: TypeAlias = tuple[float, float]

LAYER_GAP, NODE_GAP = 30.0, 22.0
PADDING, HEADER = 14.0, 18.0  # of groups
MANY = 120
"""Boxes up to which graphlay is quick on graphs with edges over many layers, as from a forward to its adjoint part."""


class Box(NamedTuple):
    """Something to place: its size, and the id of the group that it is in, or empty."""

    id: str
    width: float
    height: float
    group: str = ""


class Frame(NamedTuple):
    """A group to draw around what is in it, and around a title of ``width``."""

    id: str
    parent: str = ""
    width: float = 0.0


class Rect(NamedTuple):
    """A rectangle: its left upper corner and its size."""

    x: float
    y: float
    width: float
    height: float


@dataclass
class Layout:
    """Rectangles of boxes and of groups, outer ones first; a line for each edge, from border to border; the size."""

    boxes: dict[str, Rect] = field(default_factory=dict)
    groups: dict[str, Rect] = field(default_factory=dict)
    edges: list[list[Point]] = field(default_factory=list)
    width: float = 0.0
    height: float = 0.0


def layout(
    boxes: Sequence[Box], edges: Sequence[tuple[str, str]], frames: Sequence[Frame] = (), engine: Engine = "auto"
) -> Layout:
    """Place ``boxes`` from top to bottom along ``edges`` (pairs of ids). Cycles are legal: some edges then go up.

    Args:
        boxes: with distinct ids.
        edges: in any order, several between the same boxes too, and from a box to itself.
        frames: the groups that boxes are in; one that is empty is left out.
        engine: ``"graphlay"``, ``"builtin"``, or ``"auto"``: the first where it is installed and quick.
    """
    if engine not in ("auto", "graphlay", "builtin"):
        raise FormatError(f"engine: {engine!r} is not among auto, graphlay, builtin")
    used = _used(boxes, frames)
    if not boxes:
        return Layout()
    if engine == "graphlay" or (
        engine == "auto" and len(boxes) <= MANY and len(edges) <= 2 * MANY and find_spec("graphlay") is not None
    ):
        found = _graphlay(boxes, edges, used)
    else:
        found = _builtin(boxes, edges, used)
    found.boxes = {b.id: found.boxes[b.id] for b in boxes}
    return _at_origin(found)


def _used(boxes: Sequence[Box], frames: Sequence[Frame]) -> list[Frame]:
    """The frames that have something in them, outer ones first."""
    known = {f.id: f for f in frames}
    depth: dict[str, int] = {}
    for b in boxes:
        chain = []
        g = b.group
        while g and g not in depth:
            chain.append(g)
            g = known[g].parent
        depth.update(zip(reversed(chain), itertools.count(depth.get(g, -1) + 1), strict=False))
    return sorted((f for f in frames if f.id in depth), key=lambda f: depth[f.id])


def _at_origin(found: Layout) -> Layout:
    """Everything moved so that it begins at (0, 0), in tenths of a pixel: texts of equal layouts are equal."""
    rects = [*found.boxes.values(), *found.groups.values()]
    points = [p for line in found.edges for p in line]
    left = min([r.x for r in rects] + [p[0] for p in points])
    top = min([r.y for r in rects] + [p[1] for p in points])

    def move(r: Rect) -> Rect:
        return Rect(_tenth(r.x - left), _tenth(r.y - top), _tenth(r.width), _tenth(r.height))

    return Layout(
        {k: move(r) for k, r in found.boxes.items()},
        {k: move(r) for k, r in found.groups.items()},
        [[(_tenth(x - left), _tenth(y - top)) for x, y in line] for line in found.edges],
        _tenth(max([r.x + r.width for r in rects] + [p[0] for p in points]) - left),
        _tenth(max([r.y + r.height for r in rects] + [p[1] for p in points]) - top),
    )


def _tenth(x: float) -> float:
    return round(x, 1) + 0.0


# -- graphlay ----------------------------------------------------------------------------------------------------------


def _graphlay(boxes: Sequence[Box], edges: Sequence[tuple[str, str]], frames: Sequence[Frame]) -> Layout:
    from graphlay import _native

    place = {id: k for k, id in enumerate([*(b.id for b in boxes), *(f.id for f in frames)])}
    shapes = [(b.width, b.height, b.group) for b in boxes]
    shapes += [(f.width + 2 * PADDING, 1.0, f.parent) for f in frames]
    nodes: list[dict[str, Any]] = []
    for width, height, around in shapes:
        nodes.append({"size": {"width": width, "height": height}, "shape": "box", "key": str(len(nodes))})
        if around:
            nodes[-1]["parent"] = place[around]
    request = {
        "graph": {
            "nodes": nodes,
            "edges": [{"source": place[a], "target": place[b], "weight": 1.0} for a, b in edges],
        },
        "preset": "layered",
        "options": {
            "direction": "topbottom",
            "spacing": {
                "layer_gap": LAYER_GAP, "node_gap": NODE_GAP, "dummy_gap": 12.0, "port_gap": 10.0,
                "compound_padding": PADDING, "compound_header": HEADER,
            },
            "routing": {"merge_edges": "forks", "port_sides": "facing_only"},
            "effort": "balanced" if len(boxes) <= 500 else "fast",
        },
    }  # fmt: skip
    raw = json.loads(_native.layout(json.dumps(request)))
    out = Layout()
    rects = []
    for n in raw["nodes"]:
        w, h = n["size"]["width"], n["size"]["height"]
        rects.append(Rect(n["center"]["x"] - w / 2, n["center"]["y"] - h / 2, w, h))
    out.boxes = {b.id: rects[k] for k, b in enumerate(boxes)}
    out.groups = {f.id: rects[k] for k, f in enumerate(frames, len(boxes))}
    out.edges = [[(p["x"], p["y"]) for p in e["points"]] for e in raw["edges"]]
    return out


# -- built in ----------------------------------------------------------------------------------------------------------


def _builtin(boxes: Sequence[Box], edges: Sequence[tuple[str, str]], frames: Sequence[Frame]) -> Layout:
    parent = {f.id: f.parent for f in frames}
    titles = {f.id: f.width for f in frames}
    inside: dict[str, list[Box]] = {"": [], **{f.id: [] for f in frames}}
    paths: dict[str, list[str]] = {}
    for b in boxes:
        inside[b.group].append(b)
        path, g = [b.id], b.group
        while g:
            path.append(g)
            g = parent[g]
        paths[b.id] = path[::-1]
    # Each edge belongs to the innermost group that holds both its ends; there it goes from one item to another.
    lifted: dict[str, list[tuple[str, str]]] = {}
    for start, end in edges:
        p, q = paths[start], paths[end]
        k = 0
        while k < len(p) - 1 and k < len(q) - 1 and p[k] == q[k]:
            k += 1
        if p[k] != q[k]:
            lifted.setdefault(p[k - 1] if k else "", []).append((p[k], q[k]))
    relative: dict[str, dict[str, Point]] = {}
    sizes: dict[str, tuple[float, float]] = {b.id: (b.width, b.height) for b in boxes}
    for f in [*reversed(frames), Frame("")]:
        relative[f.id], (w, h) = _layers([x.id for x in inside[f.id]], sizes, lifted.get(f.id, ()))
        if f.id:
            sizes[f.id] = (max(w, titles[f.id]) + 2 * PADDING, h + 2 * PADDING + HEADER)
            inside[f.parent].append(Box(f.id, *sizes[f.id]))
    out = Layout()
    corner: dict[str, Point] = {"": (0.0, 0.0)}
    for f in (Frame(""), *frames):
        x0, y0 = corner[f.id]
        for id, (x, y) in relative[f.id].items():
            rect = Rect(x0 + x, y0 + y, *sizes[id])
            if id in parent:
                out.groups[id] = rect
                corner[id] = (rect.x + PADDING, rect.y + PADDING + HEADER)
            else:
                out.boxes[id] = rect
    out.groups = {f.id: out.groups[f.id] for f in frames}
    out.edges = _lines(out.boxes, edges)
    return out


def _layers(
    ids: Sequence[str], sizes: Mapping[str, tuple[float, float]], edges: Sequence[tuple[str, str]]
) -> tuple[dict[str, Point], tuple[float, float]]:
    """Left upper corners of ``ids``, relative to the first, and the size of all."""
    after: dict[str, dict[str, None]] = {id: {} for id in ids}
    before: dict[str, dict[str, None]] = {id: {} for id in ids}
    for a, b in edges:
        if a != b and a not in after[b]:  # of two edges in opposite directions, the first decides
            after[a][b] = None
            before[b][a] = None
    rank = _ranks(ids, before, after)
    rows: list[list[str]] = [[] for _ in range(max(rank.values(), default=-1) + 1)]
    for id in ids:
        rows[rank[id]].append(id)
    at = {id: float(k) for row in rows for k, id in enumerate(row)}
    for sweep in range(6):
        near = before if sweep % 2 == 0 else after
        for row in rows if sweep % 2 == 0 else reversed(rows):
            # Places relative to the length of the row, so that rows of different lengths compare.
            row.sort(key=lambda id: _mean([at[x] for x in near[id]], at[id]))
            for k, id in enumerate(row):
                at[id] = (k + 0.5) / len(row)
    center = dict.fromkeys(ids, 0.0)
    for row in rows:
        _settle(row, sizes, center, dict.fromkeys(row, 0.0))
    for sweep in range(8):
        near = before if sweep % 2 == 0 else after
        for row in rows if sweep % 2 == 0 else reversed(rows):
            wish = {id: _mean([center[x] for x in near[id]], center[id]) for id in row}
            _settle(row, sizes, center, wish)
    left = min((center[id] - sizes[id][0] / 2 for id in ids), default=0.0)
    right = max((center[id] + sizes[id][0] / 2 for id in ids), default=0.0)
    out: dict[str, Point] = {}
    y = 0.0
    for row in rows:
        height = max((sizes[id][1] for id in row), default=0.0)
        for id in row:
            out[id] = (center[id] - sizes[id][0] / 2 - left, y + (height - sizes[id][1]) / 2)
        y += height + LAYER_GAP + 10
    return out, (right - left, max(0.0, y - LAYER_GAP - 10))


def _ranks(
    ids: Sequence[str], before: Mapping[str, Mapping[str, None]], after: Mapping[str, Mapping[str, None]]
) -> dict[str, int]:
    """The longest path to each id; in a cycle, the id that stands first begins. What has no inputs goes to its user."""
    waiting = {id: len(before[id]) for id in ids}
    rank = dict.fromkeys(ids, 0)
    done: dict[str, None] = {}
    ready = [id for id in reversed(ids) if not waiting[id]]
    rest = iter(ids)
    while len(done) < len(ids):
        if not ready:
            ready.append(next(id for id in rest if id not in done))
        a = ready.pop()
        if a in done:
            continue
        done[a] = None
        for b in after[a]:
            if b in done:
                continue
            rank[b] = max(rank[b], rank[a] + 1)
            waiting[b] -= 1
            if not waiting[b]:
                ready.append(b)
    for a in reversed(done):
        below = [rank[b] for b in after[a] if rank[b] > rank[a]]
        if below and not before[a]:
            rank[a] = min(below) - 1
    return rank


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _settle(
    row: Sequence[str],
    sizes: Mapping[str, tuple[float, float]],
    center: dict[str, float],
    wish: Mapping[str, float],
) -> None:
    """Centers nearest to what is wished, in the sense of least squares, in this order and without overlap."""
    offset, offsets = 0.0, []
    for k, id in enumerate(row):
        if k:
            offset += (sizes[row[k - 1]][0] + sizes[id][0]) / 2 + NODE_GAP
        offsets.append(offset)
    blocks: list[tuple[float, int]] = []  # sum of wishes less offsets, and how many
    for id, d in zip(row, offsets, strict=True):
        total, n = wish[id] - d, 1
        while blocks and blocks[-1][0] / blocks[-1][1] >= total / n:
            t, m = blocks.pop()
            total, n = total + t, n + m
        blocks.append((total, n))
    k = 0
    for total, n in blocks:
        for _ in range(n):
            center[row[k]] = total / n + offsets[k]
            k += 1


def _lines(boxes: Mapping[str, Rect], edges: Sequence[tuple[str, str]]) -> list[list[Point]]:
    """From the middle of each box's lower side to the other's upper side, where edges enter side by side."""
    entering: dict[str, list[int]] = {}
    for k, (_, b) in enumerate(edges):
        entering.setdefault(b, []).append(k)
    share: dict[int, float] = {}
    for b, several in entering.items():
        several.sort(key=lambda k: boxes[edges[k][0]].x + boxes[edges[k][0]].width / 2)
        for j, k in enumerate(several, 1):
            share[k] = boxes[b].x + boxes[b].width * j / (len(several) + 1)
    lines = []
    for k, (a, b) in enumerate(edges):
        p, q = boxes[a], boxes[b]
        if a == b:
            x, y = p.x + p.width, p.y + p.height / 2
            lines.append([(x, y + 6), (x + 10, y + 6), (x + 10, y - 6), (x, y - 6)])
        else:
            lines.append([(p.x + p.width / 2, p.y + p.height), (share[k], q.y)])
    return lines
