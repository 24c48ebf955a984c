"""Groups of nodes: named scopes and source lines; and pictures in which groups are closed into one box each."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from symgraph.source import Origin
from symgraph.viz.model import Edge, Group, Node, Picture

FEW = 40
"""Boxes up to which a picture is shown with all groups open."""


def grouped(
    nodes: Sequence[Node], edges: Sequence[Edge], origins: Mapping[str, Origin]
) -> tuple[list[Node], list[Group]]:
    """The nodes with their groups, and the groups: named scopes, one for each order of derivative.

    In a graph of more than :data:`FEW` nodes, those in no scope are grouped by the line of the user's code. Such a
    group is a run in topological order: closing all of them cannot make a cycle.
    """
    groups: dict[str, Group] = {}
    home: dict[str, str] = {}
    line, run = ("", ""), ""
    for n in nodes:
        origin = origins.get(n.id)
        if origin is None:
            continue
        if origin.scope:
            home[n.id] = _scope(origin, groups)
            line = ("", "")
        elif len(nodes) > FEW and n.lines:
            here = (", ".join(n.lines), str(n.order))
            if here != line:
                line, run = here, f"l{n.id}"
                groups[run] = Group(run, "line", here[0], "", n.order, n.lines)
            home[n.id] = run
    # A group of one says nothing that the box itself does not say.
    size: dict[str, int] = {}
    for g in home.values():
        size[g] = size.get(g, 0) + 1
    home = {id: g for id, g in home.items() if groups[g].kind != "line" or size[g] > 1}
    kept = {g: x for g, x in groups.items() if x.kind != "line" or size.get(g, 0) > 1}
    # Constants, and what is made of them alone, stand with whoever uses them first.
    known = {n.id: n for n in nodes}
    fixed = _fixed(nodes, edges)
    for e in reversed(edges):
        if e.source in fixed and (e.target in home or e.target not in fixed):
            home.pop(e.source, None)
            if e.target in home and known[e.target].kind != "output":
                home[e.source] = home[e.target]
    return [replace(n, group=home[n.id]) if n.id in home else n for n in nodes], list(kept.values())


def _fixed(nodes: Iterable[Node], edges: Iterable[Edge]) -> set[str]:
    """Constants, and what is made of them alone."""
    behind: dict[str, list[str]] = {}
    for e in edges:
        behind.setdefault(e.target, []).append(e.source)
    fixed = {n.id for n in nodes if n.kind == "constant"}
    for n in nodes:
        sources = behind.get(n.id, ())
        if n.kind == "op" and n.label in ("broadcast", "cast") and sources and all(s in fixed for s in sources):
            fixed.add(n.id)
    return fixed


def _scope(origin: Origin, groups: dict[str, Group]) -> str:
    """The id of the group of a scope, made with those around it where it is new."""
    parent = path = ""
    for name in origin.scope.split("/"):
        path = f"{path}/{name}" if path else name
        id = f"s{origin.order}/{path}"
        if id not in groups:
            groups[id] = Group(id, "scope", name, parent, origin.order)
        parent = id
    return parent


def forms(picture: Picture) -> dict[str, str]:
    """A text for each group that is equal where groups are: same ops of the same types, linked in the same way."""
    parents = {g.id: g.parent for g in picture.groups}
    place: dict[str, dict[str, int]] = {g.id: {} for g in picture.groups}
    parts: dict[str, list[str]] = {g.id: [] for g in picture.groups}
    around: dict[str, list[str]] = {}
    for n in picture.nodes:
        around[n.id] = chain = []
        g = n.group
        while g:
            chain.append(g)
            place[g][n.id] = len(place[g])
            parts[g].append(f"{n.op or n.kind} {n.types}")
            g = parents[g]
    for e in picture.edges:
        for g in around[e.target]:
            a = place[g].get(e.source)
            parts[g].append(f"{'' if a is None else a}.{e.source_port} {place[g][e.target]}.{e.target_port}")
    return {g: hashlib.sha1("\n".join(p).encode()).hexdigest()[:12] for g, p in parts.items()}


def closed(picture: Picture, opened: Collection[str] = ()) -> Picture:
    """The picture with every group closed into one box, but for those whose ids are in ``opened``.

    Groups that repeat in a row, three times or more, are one box with the number of them, where that makes no cycle; so
    are the inputs and outputs that only such boxes have. Nodes that are not in a closed group keep their ids; a box of
    a group has the group's id, and one that stands for several has that of the first.
    """
    groups = {g.id: g for g in picture.groups}
    top: dict[str, str] = {}  # for each group, the outermost closed group around it

    def outermost(g: str) -> str:
        chain = []
        while g and g not in top:
            chain.append(g)
            g = groups[g].parent
        found = top[g] if g else ""
        for x in reversed(chain):
            found = top[x] = found or ("" if x in opened else x)
        return found

    box = {n.id: (outermost(n.group) if n.group else "") or n.id for n in picture.nodes}
    members: dict[str, list[Node]] = {}
    for n in picture.nodes:
        if box[n.id] != n.id:
            members.setdefault(box[n.id], []).append(n)
    # A constant that several groups use stands in one of them. No line is drawn from there to the others: it would tie
    # the groups to each other, against the order that they have, where each might have a constant of its own.
    fixed = {id for id in _fixed(picture.nodes, picture.edges) if box[id] != id}
    apart = [e for e in picture.edges if e.source not in fixed or box[e.source] == box[e.target]]
    picture = replace(picture, edges=tuple(apart))
    rows = _rows(picture, members, box)
    merged = {g: row[0] for row, _ in rows for g in row}
    box = {id: merged.get(b, b) for id, b in box.items()}
    ends = _ends(picture, box, {row[0] for row, _ in rows})
    single = {n.id for n in picture.nodes if box[n.id] == n.id and n.id not in ends}
    box.update((id, row[0].id) for id, row in ends.items())
    whole = {row[0]: (row, times) for row, times in rows}
    nodes: list[Node] = []
    seen: set[str] = set()
    for n in picture.nodes:
        b = box[n.id]
        if b in seen:
            continue
        seen.add(b)
        if n.id in ends:
            row = ends[n.id]
            nodes.append(replace(n, label=_from_to(row[0].label, row[-1].label), detail="", repeat=len(row)))
        elif b == n.id:
            nodes.append(n)
        else:
            nodes.append(_box(groups, members, *whole.get(b, ([b], 1))))
    keep = {g.id for g in picture.groups if not outermost(g.id)}
    return replace(
        picture,
        nodes=tuple(nodes),
        edges=tuple(_bundled(picture.edges, box, single)),
        groups=tuple(g for g in picture.groups if g.id in keep),
    )


def _from_to(first: str, last: str) -> str:
    return first if first == last else f"{first} … {last}"


def _box(groups: Mapping[str, Group], members: Mapping[str, Sequence[Node]], row: Sequence[str], times: int) -> Node:
    """The box that stands for ``times`` repetitions of a sequence of groups."""
    period = len(row) // times
    first, last = groups[row[0]], groups[row[-1]]
    if period == 1 and first.kind == "scope":
        label = _from_to(first.label, last.label)
    else:
        # Of kernels that repeat, the numbers of their steps say nothing.
        names = [groups[g].label for g in row[:period]]
        label = " · ".join(name.partition(": ")[2] or name if times > 1 else name for name in names)
    ops = [n for g in row for n in members[g] if n.kind == "op"]
    each = len(ops) // times
    derived = next((n.provenance for n in ops if n.provenance), "") if first.order else ""
    return Node(
        row[0], "group", label, f"{each} node{'s' * (each != 1)}{' each' * (times > 1)}",
        lines=tuple(dict.fromkeys(line for n in ops for line in n.lines)), order=first.order, provenance=derived,
        group=first.parent, count=len(ops), repeat=times,
    )  # fmt: skip


def _bundled(edges: Sequence[Edge], box: Mapping[str, str], single: Collection[str]) -> list[Edge]:
    """The edges between boxes; several tensors from one closed box to another are one edge."""
    out: dict[tuple[str, str, int, int], list[Edge]] = {}
    for e in edges:
        a, b = box[e.source], box[e.target]
        if a != b:
            ports = (e.source_port if e.source in single else -1, e.target_port if e.target in single else -1)
            out.setdefault((a, b, *ports), []).append(e)
    made = []
    for (a, b, p, q), several in out.items():
        tensors = {(e.source, e.source_port) for e in several}
        kinds = dict.fromkeys(e.label for e in several)
        label = next(iter(kinds)) if len(kinds) == 1 else f"{len(tensors)} tensors"
        made.append(Edge(a, b, max(p, 0), max(q, 0), label, len(tensors)))
    return made


# -- what repeats ------------------------------------------------------------------------------------------------------

_PERIOD = 8
_TIMES = 3


def _rows(
    picture: Picture, members: Mapping[str, Sequence[Node]], box: Mapping[str, str]
) -> list[tuple[list[str], int]]:
    """Sequences of closed groups that repeat in a row, and how often."""
    if len(members) < _TIMES:
        return []
    form, groups = forms(picture), {g.id: g for g in picture.groups}
    ids = list(members)
    keys = [(form[g], groups[g].parent, groups[g].order, groups[g].kind) for g in ids]
    rows: list[tuple[list[str], int]] = []
    i = 0
    while i < len(ids):
        best, times = 0, 1
        for p in range(1, _PERIOD + 1):
            r = 1
            while keys[i + r * p : i + (r + 1) * p] == keys[i : i + p]:
                r += 1
            if r >= _TIMES and p * r > best * times:
                best, times = p, r
        if best:
            rows.append((ids[i : i + best * times], times))
        i += max(1, best * times)
    if not rows or _acyclic(picture, box, rows) or not _acyclic(picture, box, []):
        return rows
    kept: list[tuple[list[str], int]] = []
    for row in rows[:20]:
        if _acyclic(picture, box, [*kept, row]):
            kept.append(row)
    return kept


def _ends(picture: Picture, box: Mapping[str, str], rows: Collection[str]) -> dict[str, list[Node]]:
    """Inputs, constants and outputs of equal type that have the same neighbours, among them a box that repeats."""
    near: dict[str, set[str]] = {}
    for e in picture.edges:
        near.setdefault(e.source, set()).add(box[e.target])
        near.setdefault(e.target, set()).add(box[e.source])
    alike: dict[tuple[object, ...], list[Node]] = {}
    for n in picture.nodes:
        around = near.get(n.id, set())
        if box[n.id] == n.id and n.kind in ("input", "shared", "constant", "output") and not around.isdisjoint(rows):
            alike.setdefault((n.kind, n.types, n.order, n.group, frozenset(around)), []).append(n)
    return {n.id: several for several in alike.values() if len(several) >= _TIMES for n in several}


def _acyclic(picture: Picture, box: Mapping[str, str], rows: Sequence[tuple[list[str], int]]) -> bool:
    """Whether the picture with these boxes has no cycle. (Kahn's algorithm)"""
    merged = {g: row[0] for row, _ in rows for g in row}
    at = {id: merged.get(b, b) for id, b in box.items()}
    links = {(at[e.source], at[e.target]) for e in picture.edges if at[e.source] != at[e.target]}
    waiting: dict[str, int] = dict.fromkeys(at.values(), 0)
    after: dict[str, list[str]] = {}
    for a, b in links:
        waiting[b] += 1
        after.setdefault(a, []).append(b)
    ready = [b for b, n in waiting.items() if not n]
    done = 0
    while ready:
        done += 1
        for b in after.get(ready.pop(), ()):
            waiting[b] -= 1
            if not waiting[b]:
                ready.append(b)
    return done == len(waiting)
