"""Pictures in the languages of other tools: DOT, Mermaid, GraphML, JSON, and as plain text. Each takes linear time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from symgraph.viz.glyphs import clean, escape
from symgraph.viz.labels import order_name
from symgraph.viz.model import Edge, Group, Node, Picture, Timeline

_FILL = ("#eaf2fb", "#fdeedd", "#e6f5e8", "#f2eafb", "#fde8ef", "#e0f4f4")
_LEAF = ("input", "shared", "constant", "output")


def _label(n: Node) -> list[str]:
    """The lines in a box."""
    return [n.label + (f" × {n.repeat}" if n.repeat > 1 else ""), *([n.detail] if n.detail else [])]


def _tree(picture: Picture) -> tuple[dict[str, list[Group]], dict[str, list[Node]]]:
    """Groups by their parent, and nodes by their group."""
    inner: dict[str, list[Group]] = {}
    for g in picture.groups:
        inner.setdefault(g.parent, []).append(g)
    nodes: dict[str, list[Node]] = {}
    for n in picture.nodes:
        nodes.setdefault(n.group, []).append(n)
    return inner, nodes


def _nested(picture: Picture) -> Iterable[tuple[int, str, Any]]:
    """``(depth, "open" | "close" | "node", group or node)`` in the order of a text with blocks."""
    inner, nodes = _tree(picture)
    stack: list[tuple[int, str, Any]] = [(0, "inside", "")]
    while stack:
        depth, what, x = stack.pop()
        if what == "inside":
            for n in nodes.get(x, ()):
                yield depth, "node", n
            for g in reversed(inner.get(x, ())):
                stack += [(depth, "close", g), (depth + 1, "inside", g.id), (depth, "open", g)]
        else:
            yield depth, what, x


# -- DOT ---------------------------------------------------------------------------------------------------------------


def _quoted(text: str) -> str:
    """A string of DOT. A backslash would begin an escape of labels."""
    return '"' + clean(text).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def dot(picture: Picture) -> str:
    """The picture in Graphviz's language."""
    out = [
        f"digraph {_quoted(picture.title or 'graph')} {{",
        '  rankdir=TB; node [shape=box, style="rounded,filled", fontname="sans-serif", fontsize=11];',
        '  edge [fontname="monospace", fontsize=9];',
    ]
    numbers = {g.id: k for k, g in enumerate(picture.groups)}
    for depth, what, x in _nested(picture):
        pad = "  " * (depth + 1)
        if what == "open":
            out.append(f"{pad}subgraph cluster_{numbers[x.id]} {{ label={_quoted(x.label)}; style=rounded;")
        elif what == "close":
            out.append(f"{pad}}}")
        else:
            text = "\\n".join(_quoted(line)[1:-1] for line in _label(x))
            kind = ", shape=box, peripheries=2" if x.kind in ("group", "shared") else ""
            fill = "#ffffff" if x.kind in _LEAF else _FILL[x.order % len(_FILL)]
            tip = _quoted(", ".join((*x.types, *x.lines)))
            out.append(f'{pad}{_quoted(x.id)} [label="{text}", fillcolor="{fill}", tooltip={tip}{kind}];')
    out += [f"  {_quoted(e.source)} -> {_quoted(e.target)} [label={_quoted(e.label)}];" for e in picture.edges]
    return "\n".join([*out, "}", ""])


# -- Mermaid -----------------------------------------------------------------------------------------------------------


def _entities(text: str) -> str:
    """Text within quotes of Mermaid: whatever could be markup is an entity, which it writes with ``#``."""
    return "".join(c if c.isalnum() or c in " _.,:+-=/|·×…→" else f"#{ord(c)};" for c in clean(text))


def mermaid(picture: Picture) -> str:
    """The picture as a Mermaid flowchart."""
    ids = {n.id: f"n{k}" for k, n in enumerate(picture.nodes)}
    groups = {g.id: f"g{k}" for k, g in enumerate(picture.groups)}
    out = ["flowchart TB"]
    for depth, what, x in _nested(picture):
        pad = "  " * (depth + 1)
        if what == "open":
            out.append(f'{pad}subgraph {groups[x.id]}["{_entities(x.label)}"]')
        elif what == "close":
            out.append(f"{pad}end")
        else:
            left, right = ("([", "])") if x.kind in _LEAF else ("[[", "]]") if x.kind == "group" else ("[", "]")
            text = "<br/>".join(_entities(line) for line in _label(x))
            out.append(
                f'{pad}{ids[x.id]}{left}"{text}"{right}:::o{x.order % len(_FILL) if x.kind not in _LEAF else "L"}'
            )
    out += [f'  {ids[e.source]} -->|"{_entities(e.label)}"| {ids[e.target]}' for e in picture.edges]
    used = sorted({n.order % len(_FILL) for n in picture.nodes if n.kind not in _LEAF})
    out += [f"  classDef o{k} fill:{_FILL[k]},stroke:#556,color:#1d232b" for k in used]
    return "\n".join([*out, "  classDef oL fill:#ffffff,stroke:#889,color:#1d232b", ""])


# -- GraphML -----------------------------------------------------------------------------------------------------------

_NODE_KEYS = (
    ("kind", "string"), ("label", "string"), ("detail", "string"), ("op", "string"), ("types", "string"),
    ("lines", "string"), ("order", "int"), ("provenance", "string"), ("group", "string"), ("flops", "string"),
    ("bytes", "string"), ("count", "int"), ("repeat", "int"),
)  # fmt: skip
_EDGE_KEYS = (("source_port", "int"), ("target_port", "int"), ("label", "string"))


def graphml(picture: Picture) -> str:
    """The picture as GraphML: flat, since few readers know nested graphs. Tuples are joined by ``"; "``."""
    out = ['<?xml version="1.0" encoding="UTF-8"?>', '<graphml xmlns="http://graphml.graphdrawing.org/xmlns">']
    for of, keys in (("node", _NODE_KEYS), ("edge", _EDGE_KEYS)):
        out += [f'  <key id="{of}_{k}" for="{of}" attr.name="{k}" attr.type="{t}"/>' for k, t in keys]
    out.append('  <graph edgedefault="directed">')
    for n in picture.nodes:
        out.append(f'    <node id="{escape(n.id)}">{_data("node", n, _NODE_KEYS)}</node>')
    for k, e in enumerate(picture.edges):
        ends = f'source="{escape(e.source)}" target="{escape(e.target)}"'
        out.append(f'    <edge id="e{k}" {ends}>{_data("edge", e, _EDGE_KEYS)}</edge>')
    return "\n".join([*out, "  </graph>", "</graphml>", ""])


def _data(of: str, x: Node | Edge, keys: Sequence[tuple[str, str]]) -> str:
    out = ""
    for key, _ in keys:
        value = getattr(x, key)
        text = "; ".join(value) if isinstance(value, tuple) else str(value)
        if text:
            out += f'<data key="{of}_{key}">{escape(text)}</data>'
    return out


# -- JSON and text -----------------------------------------------------------------------------------------------------


def as_json(picture: Picture | Timeline) -> str:
    """The picture's data as JSON in ASCII, without ``<``, ``>`` and ``&``: it can stand in a page's script as it is."""
    return dump(picture.as_dict())


def dump(data: Mapping[str, Any]) -> str:
    """Data as JSON in ASCII, without ``<``, ``>`` and ``&``."""
    text = json.dumps(data, ensure_ascii=True, indent=1, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026") + "\n"


def text(picture: Picture) -> str:
    """The boxes in topological order, each with where its inputs come from, in their groups."""
    inputs: dict[str, list[Edge]] = {}
    for e in picture.edges:
        inputs.setdefault(e.target, []).append(e)
    out = [" · ".join(x for x in (picture.title, picture.level) if x)]
    groups = {g.id: g for g in picture.groups}
    before = ""
    for n in picture.nodes:
        if n.group != before and n.group:
            g = groups[n.group]
            out.append(f"-- {g.label}{f' ({order_name(g.order)})' if g.order else ''}")
        elif n.group != before:
            out.append("--")
        before = n.group
        sources = [e.source + (f".{e.source_port}" if e.source_port else "") for e in inputs.get(n.id, ())]
        rest = [
            f"{n.id}: {(', ' if n.kind == 'group' else ' ').join(_label(n))}",
            f"<- {', '.join(sources)}" if sources else "",
            ", ".join(n.types),
            f"[{n.provenance}]" if n.provenance else "",
            f"({', '.join(n.lines)})" if n.lines else "",
        ]
        out.append("  " + "  ".join(r for r in rest if r))
    return "\n".join([*(clean(line) for line in out), ""])
