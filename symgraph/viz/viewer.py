"""The interactive viewer: one HTML file with its own script, style and data, which needs no network and no server.

The page's data is JSON, columns of numbers that point into one table of strings; ``viewer*.js`` draws from it. Nothing
of a graph is ever markup: ``<`` is escaped in the JSON, and the script makes text nodes only. The page's security
policy admits this script and this style, by their hashes, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, get_args

from symgraph import source
from symgraph.errors import FormatError, PictureError
from symgraph.viz.build import Drawable, Subject
from symgraph.viz.glyphs import escape
from symgraph.viz.groups import FEW, closed
from symgraph.viz.labels import short
from symgraph.viz.layout import Engine, Point
from symgraph.viz.model import GroupKind, Node, NodeKind, Picture, Stage
from symgraph.viz.svg import _height
from symgraph.viz.union import Plane, plane

if TYPE_CHECKING:
    from symgraph.runtime.profile import Profile
    from symgraph.runtime.program import Program

MOST = 6000
"""Boxes that the viewer shows at most in a stage."""
BUDGET = 150_000
"""Bytes of a page up to which native code is put in without being asked for."""

KINDS = get_args(NodeKind)
GROUP_KINDS = get_args(GroupKind)


def html(
    x: Drawable | Sequence[Stage],
    *,
    title: str = "",
    collapse: bool | None = None,
    profile: Profile | None = None,
    native: bool | None = None,
    engine: Engine = "auto",
) -> str:
    """The viewer of a graph through all stages, as a page.

    Args:
        x: what :func:`symgraph.viz.svg` takes, or stages.
        title: of the page; the function's name by default.
        collapse: show scopes, source lines and kernels as one box each at first; by default where there are more than a
            few dozen boxes. ``True`` leaves out what is inside where that is too much to show.
        profile: of the function, for the times of its steps.
        native: include LLVM IR, or PTX for CUDA, of the kernels. ``None``: as far as the page stays below 150 kB.
        engine: of the layout, as of :func:`symgraph.viz.svg`.

    Raises:
        PictureError: there are more than :data:`MOST` boxes in a stage.
    """
    program: Program | None = None
    if isinstance(x, list | tuple) and x and isinstance(x[0], Stage):
        stages: list[Stage] = list(x)
        title = title or stages[0].picture.title
    else:
        subject = Subject(x, title)  # type: ignore[arg-type]
        if not collapse:
            _check_size(len(subject.graph.nodes))
        stages, title, program = subject.stages, subject.title, subject.program
    planes, homes = _planes(stages, collapse, engine)
    code = kernel_code(stages, program)
    data = _Encoder().encode(title or "graph", stages, planes, homes, _start(planes, collapse))
    data["profile"] = _profile(profile)
    data["code"] = code
    data["native"] = {}
    if program is not None and native is not False:
        _add_native(data, program, None if native else BUDGET, title)
    return page(data, title or "graph")


def _check_size(boxes: int) -> None:
    if boxes > MOST:
        raise PictureError(
            f"html: {boxes:,} boxes are more than the viewer can show ({MOST:,}). Collapse: name parts with sg.scope, "
            f"and give collapse=True; or export with dot, graphml or json, which have no limit  "
            f"{source.show(source.current())}"
        )


def _planes(stages: list[Stage], collapse: bool | None, engine: Engine) -> tuple[list[Plane], list[int]]:
    """The planes, and for each stage the number of its own: stages that share ids of nodes and groups share a plane."""
    kinds = ["kernels" if s.name in ("kernels", "program") else "" for s in stages]
    runs: list[list[int]] = []
    for k in range(len(stages)):
        if k and not kinds[k] and not kinds[k - 1]:
            runs[-1].append(k)
        else:
            runs.append([k])
    if collapse and max(len(s.picture.nodes) for s in stages) > MOST:
        for k, s in enumerate(stages):
            stages[k] = replace(s, picture=replace(closed(s.picture), groups=()), changed=frozenset())
    _check_size(max(len(s.picture.nodes) for s in stages))
    homes = [0] * len(stages)
    for number, run in enumerate(runs):
        for k in run:
            homes[k] = number
    return [plane([stages[k].picture for k in run], engine) for run in runs], homes


def _start(planes: Sequence[Plane], collapse: bool | None) -> bool:
    """Whether groups are closed at first."""
    return bool(collapse) or (collapse is None and max(len(p.picture.nodes) for p in planes) > FEW)


# -- code --------------------------------------------------------------------------------------------------------------


def kernel_code(stages: Sequence[Stage], program: Program | None) -> dict[str, dict[str, str]]:
    """The texts of each kernel by language, those that cost nothing to have."""
    code: dict[str, dict[str, str]] = {}
    for s in stages:
        for name, texts in s.picture.code.items():
            code.setdefault(name, {}).update(texts)
    if program is not None:
        from symgraph.loop.ir import show

        for step in program.steps:
            if step.loops is not None and step.name in code:
                code[step.name] = {"loops": show(step.loops), **code[step.name]}
    return code


def _add_native(data: dict[str, Any], program: Program, budget: int | None, title: str) -> None:
    """Add native code of kernels to ``data``, the shortest source first, as far as the page stays below ``budget``."""
    room = None if budget is None else budget - len(page(data, title).encode()) - 110 * len(data["code"])
    language = "ptx" if program.target == "cuda" else "llvm"
    kernels = {s.name: s for s in program.steps if s.source and s.loops is not None}
    misses = 0
    for name, step in sorted(kernels.items(), key=lambda k: (len(k[1].source), k[0])):
        left_out = f"{language.upper()} is left out to keep the page small: native=True includes it"
        # Compiling takes a while, and hardly any kernel is shorter than this: what will not fit is not tried.
        if room is not None and (room < 3000 or misses == 2):
            data["native"][name] = left_out
            continue
        text = _llvm(step.source, name) if language == "llvm" else _ptx(step)
        if text is None:
            data["native"][name] = "PTX needs numba-cuda, which is not installed"
            continue
        size = len(_script_json(text)) + 12
        if room is not None and size > room:
            data["native"][name] = left_out
            misses += 1
            continue
        data["code"][name][language] = text
        room = None if room is None else room - size


def _llvm(text: str, name: str) -> str:
    """Optimized LLVM IR of a kernel, without what all modules have in common."""
    from symgraph.emit.numba_cpu import llvm_ir

    module = llvm_ir(text, name, optimized=True)
    kept = [
        re.sub(r", !llvm\.access\.group !\d+|, !llvm\.loop !\d+|, !prof !\d+| +; preds = .*", "", line)
        for line in module.splitlines()
        if not re.match(r"; ModuleID|source_filename|target |attributes |!|declare |; Function Attrs", line)
    ]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip() + "\n"


def _ptx(step: Any) -> str | None:
    from symgraph.emit.numba_cuda import ptx
    from symgraph.errors import MissingDeviceError

    try:
        return ptx(step.source, step.name, step.loops.params, (9, 0))
    except MissingDeviceError:
        return None


def _profile(profile: Profile | None) -> dict[str, Any] | None:
    """Times by number of the step: µs, share of all steps, share of the roof, what bounds it, GB/s, GFLOP/s."""
    if profile is None:
        return None
    steps = getattr(profile, "steps", None)
    if steps is None:
        raise FormatError(
            f"html: profile: wanted what fn.profile(...) returns, got {type(profile).__name__}  "
            f"{source.show(source.current())}"
        )
    rows = [
        [_digits(s.seconds * 1e6), _digits(s.share), _digits(s.of_roof), s.bound, _digits(s.gbytes), _digits(s.gflops)]
        for s in steps
    ]
    return {"us": _digits(profile.seconds * 1e6), "steps": rows}


def _digits(x: float) -> float:
    return float(f"{x:.4g}")


# -- data --------------------------------------------------------------------------------------------------------------


class _Encoder:
    """Stages and planes as numbers, and strings that are each there once."""

    def __init__(self) -> None:
        self.strings: dict[str, int] = {}
        self.records: dict[tuple[int, ...], int] = {}

    def s(self, text: str) -> int:
        return self.strings.setdefault(text, len(self.strings))

    def encode(
        self, title: str, stages: Sequence[Stage], planes: Sequence[Plane], homes: Sequence[int], start: bool
    ) -> dict[str, Any]:
        made = [self.plane(p) for p in planes]
        rows: list[dict[str, Any]] = []
        states = [_State(p.picture) for p in planes]
        for stage, home in zip(stages, homes, strict=True):
            rows.append(self.stage(stage, home, states[home]))
        return {
            "title": title,
            "collapsed": start,
            "planes": made,
            "stages": rows,
            "records": [x for r in self.records for x in r],
            "strings": list(self.strings),
        }

    def plane(self, p: Plane) -> dict[str, Any]:
        nodes = {n.id: k for k, n in enumerate(p.picture.nodes)}
        groups = {g.id: k for k, g in enumerate(p.picture.groups)}
        rects = [x for n in p.picture.nodes for x in _ints(p.opened.boxes[n.id])]
        edges = [
            x
            for e in p.picture.edges
            for x in (nodes[e.source], nodes[e.target], e.source_port, e.target_port, self.s(e.label))
        ]
        number = {n.id: k for k, (n, _) in enumerate(p.boxes)}
        return {
            "id": [self.s(n.id) for n in p.picture.nodes],
            "rect": rects,
            "home": [groups.get(n.group, -1) for n in p.picture.nodes],
            "groups": [
                [
                    self.s(g.id), self.s(g.label), groups.get(g.parent, -1), GROUP_KINDS.index(g.kind), g.order,
                    self.s("\n".join(g.lines)), self.s(g.code), *(_int(x) for x in p.sizes.get(g.id, (0.0, 0.0))),
                ]
                for g in p.picture.groups
            ],
            "edges": edges,
            "lines": [_points(line) for line in p.opened.edges],
            "boxes": [
                [self.s(n.label), n.repeat, int(n.id in groups), *_ints(p.closed.boxes[n.id]),
                 *([groups[g] for g in behind] if n.id in groups else [nodes[m] for m in behind or (n.id,)])]
                for n, behind in p.boxes
            ],
            "links": [
                [number[e.source], number[e.target], *_points(line)]
                for e, line in zip(p.edges, p.closed.edges, strict=True)
            ],
        }  # fmt: skip

    def record(self, n: Node, costs: tuple[str, str]) -> int:
        of_id = re.fullmatch(r"n(\d+)", n.id)  # the node stands for this variable of the graph as written
        number = n.number if n.number >= 0 or of_id is None else int(of_id[1])
        row = (
            KINDS.index(n.kind), self.s(short(n.label, 42)), self.s(short(n.detail, 46)), number, self.s(n.op),
            self.s("\n".join(n.types)), self.s("\n".join(n.lines)), n.order, self.s(n.provenance),
            self.s(n.flops or costs[0]), self.s(n.bytes or costs[1]), _int(_height(n)), n.count, n.repeat,
            self.s(n.label if len(n.label) > 42 else ""), self.s(n.detail if len(n.detail) > 46 else ""),
        )  # fmt: skip
        return self.records.setdefault(row, len(self.records))

    def stage(self, stage: Stage, home: int, state: _State) -> dict[str, Any]:
        """A stage as what is other than in the one before on the same plane."""
        drop, put, rules = [], [], []
        present = set()
        for n in stage.picture.nodes:
            k = state.nodes[n.id]
            present.add(k)
            key = (n.op, n.types)
            costs = state.costs.get(k, (key, ("", "")))
            made = self.record(n, costs[1] if costs[0] == key else ("", ""))
            if n.flops or n.bytes:
                state.costs[k] = (key, (n.flops, n.bytes))
            if state.shown.get(k) != made:
                put += [k, made]
                state.shown[k] = made
        for k in [k for k in state.shown if k not in present]:
            drop.append(k)
            del state.shown[k]
        linked = {state.edges[e.source, e.target, e.source_port, e.target_port] for e in stage.picture.edges}
        added, gone = sorted(linked - state.linked), sorted(state.linked - linked)
        state.linked = linked
        for id, names in sorted(stage.rules.items()):
            if id in state.nodes:
                rules.append([state.nodes[id], *(self.s(r) for r in names)])
        out: dict[str, Any] = {
            "name": self.s(stage.name),
            "about": self.s(stage.about),
            "plane": home,
            "fired": [x for rule, times in stage.fired for x in (self.s(rule), times)],
            "drop": drop,
            "put": put,
            "unlink": gone,
            "link": _ranges(added),
            "changed": sorted(state.nodes[id] for id in stage.changed if id in state.nodes),
            "removed": len(stage.removed),
            "rules": rules,
        }
        return {k: v for k, v in out.items() if v or k in ("name", "plane")}


class _State:
    """What of a plane is shown, while its stages are written."""

    def __init__(self, picture: Picture) -> None:
        self.nodes = {n.id: k for k, n in enumerate(picture.nodes)}
        self.edges = {(e.source, e.target, e.source_port, e.target_port): k for k, e in enumerate(picture.edges)}
        self.shown: dict[int, int] = {}
        self.linked: set[int] = set()
        self.costs: dict[int, tuple[Any, tuple[str, str]]] = {}


def _int(x: float) -> int:
    return round(x)


def _ints(rect: Iterable[float]) -> list[int]:
    return [_int(x) for x in rect]


def _points(line: Sequence[Point]) -> list[int]:
    return [_int(x) for point in line for x in point]


def _ranges(numbers: Sequence[int]) -> list[int]:
    """Ascending numbers as pairs of first and count."""
    out: list[int] = []
    for n in numbers:
        if out and out[-2] + out[-1] == n:
            out[-1] += 1
        else:
            out += [n, 1]
    return out


# -- the page ----------------------------------------------------------------------------------------------------------


def _script_json(x: Any) -> str:
    """JSON in ASCII that can stand in a script element: it has no ``<``, ``>`` or ``&``."""
    text = json.dumps(x, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@cache
def _asset(name: str) -> str:
    return (files("symgraph.viz") / name).read_text(encoding="utf-8")


@cache
def _script() -> str:
    parts = (_asset(name) for name in ("viewer_layout.js", "viewer_draw.js", "viewer_panel.js", "viewer.js"))
    return '"use strict";\n(() => {\n' + "\n".join(parts) + "})();\n"


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def page(data: Mapping[str, Any], title: str) -> str:
    """The page that shows ``data``."""
    script, css = _script(), _asset("viewer.css")
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src '{_hash(script)}'",
            f"style-src '{_hash(css)}'",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    name = escape(short(title, 80))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{name}</title>\n<style>{css}</style>\n</head>\n<body>\n"
        "<noscript>This page draws a graph with its own script, which is switched off here.</noscript>\n"
        f'<script type="application/json" id="data">{_script_json(data)}</script>\n'
        f"<script>{script}</script>\n</body>\n</html>\n"
    )


def packed(made: str) -> str:
    """A page as a smaller one that unpacks it when it is opened: for a notebook, which is full of pages."""
    body = base64.b64encode(zlib.compress(made.encode(), 9)).decode()
    return (
        f'<!doctype html><meta charset="utf-8"><script id="page" type="text/plain">{body}</script><script>'
        "new Response(new Blob([Uint8Array.from(atob(document.getElementById('page').textContent),c=>c.charCodeAt())])"
        ".stream().pipeThrough(new DecompressionStream('deflate'))).text()"
        ".then(t=>{document.open();document.write(t);document.close()})</script>"
    )
