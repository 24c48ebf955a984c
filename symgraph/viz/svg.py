"""Pictures as SVG: one self-contained text, for light and dark pages, that needs no script and no font of its own."""

from __future__ import annotations

from collections.abc import Sequence

from symgraph.viz.glyphs import escape, number, text_width
from symgraph.viz.labels import order_name, short
from symgraph.viz.layout import HEADER, Box, Engine, Frame, Layout, Point, Rect, layout
from symgraph.viz.model import Group, Node, Picture

LABEL, DETAIL, TAIL = 12.5, 10.5, 9.5  # font sizes
MARGIN = 18.0
COLORS = 6
"""Orders of derivative with a color of their own; further ones begin again."""

# Fill and border, light and dark, by order of derivative.
_PALETTE = (
    ("#eaf2fb", "#3b6ea5", "#1b2a3a", "#6fa3d8"),
    ("#fdeedd", "#bf6413", "#3a2a18", "#e59a4d"),
    ("#e6f5e8", "#2f8a44", "#1a3020", "#6cc283"),
    ("#f2eafb", "#7a46b3", "#2c2140", "#b48be0"),
    ("#fde8ef", "#b83263", "#3b1c29", "#e87fa5"),
    ("#e0f4f4", "#157f86", "#143031", "#58bfc5"),
)
FONT = "system-ui, 'Segoe UI', Roboto, 'Helvetica Neue', 'Noto Sans', Arial, sans-serif"
MONO = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'Liberation Mono', 'DejaVu Sans Mono', monospace"


def style() -> str:
    """The style sheet of all pictures."""
    light = [f".o{k} .b{{fill:{a};stroke:{b}}}.o{k} .bar{{fill:{b}}}" for k, (a, b, _, _) in enumerate(_PALETTE)]
    dark = [f".o{k} .b{{fill:{a};stroke:{b}}}.o{k} .bar{{fill:{b}}}" for k, (_, _, a, b) in enumerate(_PALETTE)]
    frames = [f".o{k} .f{{stroke:{b};fill:{a};fill-opacity:.35}}" for k, (a, b, _, _) in enumerate(_PALETTE)]
    dark_frames = [f".o{k} .f{{stroke:{b};fill:{a}}}" for k, (_, _, a, b) in enumerate(_PALETTE)]
    return "".join(
        (
            f"text{{font-family:{FONT};fill:#1d232b}}",
            f".m{{font-family:{MONO}}}",
            f".l{{font-size:{LABEL}px;font-weight:600}}.d{{font-size:{DETAIL}px;fill:#55606d}}",
            f".t{{font-size:{TAIL}px;fill:#55606d;paint-order:stroke;stroke:#fff;stroke-width:4px}}",
            ".g{font-size:11px;font-weight:600;fill:#55606d}.h{font-size:14px;font-weight:600}",
            ".bg{fill:#fff}.b{stroke-width:1.3}.e{fill:none;stroke:#8a95a3;stroke-width:1.1}.a{fill:#8a95a3}",
            *light, *frames, ".f{stroke-dasharray:4 3}.kernel .f{stroke-dasharray:none}",
            ".leaf .b{fill:#fff;stroke:#6b7785}.const .b{fill:#f4f5f7;stroke:#c3c9d1}.const .l{font-weight:400}",
            ".out .b{fill:#343c47;stroke:#fff}.out .l{fill:#fff}.out .d{fill:#d5dae1}",
            "@media (prefers-color-scheme:dark){",
            "text{fill:#e6eaef}.d,.t,.g{fill:#a9b3bf}.t{stroke:#14181d}.bg{fill:#14181d}.e{stroke:#77828f}.a{fill:#77828f}",
            *dark, *dark_frames,
            ".leaf .b{fill:#1c2127;stroke:#8a95a3}.const .b{fill:#1f242a;stroke:#4b5560}",
            ".out .b{fill:#d9dee5;stroke:#14181d}.out .l{fill:#14181d}.out .d{fill:#3d4650}}",
        )
    )  # fmt: skip


def draw(picture: Picture, engine: Engine = "auto") -> str:
    """The picture as an SVG document."""
    tails = _tails(picture)
    sizes = {n.id: _size(n, tails.get(n.id, "")) for n in picture.nodes}
    boxes = [Box(n.id, *sizes[n.id], n.group) for n in picture.nodes]
    frames = [Frame(g.id, g.parent, text_width(_title(g), 11, bold=True)) for g in picture.groups]
    edges = [(e.source, e.target) for e in picture.edges]
    placed = layout(boxes, edges, frames, engine)
    legend = _legend(picture)
    heading = " · ".join(x for x in (picture.title, picture.level) if x)
    width = max(placed.width, _legend_width(legend), text_width(heading, 14, bold=True)) + 2 * MARGIN
    top = MARGIN + 26
    height = top + placed.height + (32 if legend else 0) + MARGIN
    count = f"{len(picture.nodes)} boxes, {len(picture.edges)} edges"
    out = [
        *opening(width, height, f"{heading}: {count}"),
        f'<text class="h" x="{number(MARGIN)}" y="{number(MARGIN + 12)}">{escape(heading)}</text>',
        f'<g transform="translate({number((width - placed.width) / 2)} {number(top)})">',
    ]
    out += [_frame(g, placed.groups[g.id]) for g in _outer_first(picture, placed)]
    heights = {n.id: _height(n) for n in picture.nodes}
    for e, line in zip(picture.edges, placed.edges, strict=True):
        out.append(_edge(line, placed.boxes[e.source], heights[e.source], placed.boxes[e.target], e.source == e.target))
    out += [_node(n, placed.boxes[n.id], tails.get(n.id, "")) for n in picture.nodes]
    out.append("</g>")
    out += _draw_legend(legend, height - MARGIN - 12)
    out.append("</svg>\n")
    return "\n".join(x for x in out if x)


def opening(width: float, height: float, about: str) -> list[str]:
    """How every document begins: its size, what it shows in words, the style sheet, the background."""
    size = f'viewBox="0 0 {number(width)} {number(height)}" width="{number(width)}" height="{number(height)}"'
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(about)}">',
        f"<style>{style()}</style>",
        '<rect class="bg" width="100%" height="100%"/>',
    ]


# -- boxes -------------------------------------------------------------------------------------------------------------


def _tails(picture: Picture) -> dict[str, str]:
    """What stands where the edges leave a box: dtype and sizes of the tensor, or how many there are."""
    leaving: dict[str, dict[tuple[int, str], None]] = {}
    for e in picture.edges:
        leaving.setdefault(e.source, {})[e.source_port, e.label] = None
    out: dict[str, str] = {}
    for id, several in leaving.items():
        labels = list(dict.fromkeys(label for _, label in sorted(several)))
        text = " · ".join(labels)
        out[id] = short(text if len(text) <= 44 else f"{len(labels)} kinds of tensors", 48)
    return out


def _lines(n: Node) -> tuple[str, str]:
    label = short(n.label, 42)
    if n.repeat > 1:
        label += f"  × {n.repeat}"
    return label, short(n.detail, 46)


def _height(n: Node) -> float:
    if n.kind == "constant":
        return 32.0 if n.detail else 22.0
    return 40.0 if n.detail else 27.0


def _size(n: Node, tail: str) -> tuple[float, float]:
    """Width and height that a node needs, with the text below it."""
    label, detail = _lines(n)
    around = 26 if n.kind in ("input", "shared", "output") else 20
    width = max(text_width(label, LABEL, bold=True), text_width(detail, DETAIL, not _prose(n))) + around
    if wide(n):
        width = max(width, 120.0)
    return max(width, 40.0, text_width(tail, TAIL, True) + 4), _height(n) + (16 if tail else 0) + 4 * (n.repeat > 1)


def _prose(n: Node) -> bool:
    """Whether the second line is words, and no parameters or numbers."""
    return n.kind in ("kernel", "call", "group")


def wide(n: Node) -> bool:
    """Whether a node is a buffer that several contributions are added into."""
    return n.op.partition("{")[0] in ("accumulate", "contract_add")


def _node(n: Node, at: Rect, tail: str) -> str:
    label, detail = _lines(n)
    h = _height(n)
    x, w, middle = at.x, at.width, at.x + at.width / 2
    kind = {"input": " leaf", "shared": " leaf", "constant": " const", "output": " out"}.get(n.kind, "")
    radius = h / 2 if n.kind in ("input", "shared", "output", "constant") else 6
    corner = f'x="{number(x)}" y="{number(at.y)}" width="{number(w)}" height="{number(h)}" rx="{number(radius)}"'
    out = [f'<g class="node o{n.order % COLORS}{kind}" data-id="{escape(n.id)}"><title>{escape(_tooltip(n))}</title>']
    if n.repeat > 1:  # a stack of boxes
        out.append(f'<rect class="b" {corner} transform="translate(4 4)"/>')
    out.append(f'<rect class="b" {corner}/>')
    if n.kind == "shared":
        inner = f'x="{number(x + 3)}" y="{number(at.y + 3)}" width="{number(w - 6)}" height="{number(h - 6)}"'
        out.append(f'<rect class="b" {inner} rx="{number(radius - 3)}"/>')
    if wide(n):
        out.append(f'<rect class="bar" x="{number(x)}" y="{number(at.y)}" width="{number(w)}" height="4" rx="2"/>')
    y = at.y + h / 2 + (4.4 if not detail else -2.2)
    out.append(f'<text class="l" x="{number(middle)}" y="{number(y)}" text-anchor="middle">{escape(label)}</text>')
    if detail:
        at_middle = f'x="{number(middle)}" y="{number(y + 14)}" text-anchor="middle"'
        out.append(f'<text class="{"d" if _prose(n) else "d m"}" {at_middle}>{escape(detail)}</text>')
    if tail:
        y = at.y + h + 12 + 4 * (n.repeat > 1)
        out.append(f'<text class="t m" x="{number(middle)}" y="{number(y)}" text-anchor="middle">{escape(tail)}</text>')
    out.append("</g>")
    return "".join(out)


def _tooltip(n: Node) -> str:
    rows = [
        f"%{n.number} {n.op or n.label}" if n.number >= 0 else n.op or n.label,
        ", ".join(n.types),
        n.provenance,
        f"{n.flops} FLOPs, {n.bytes} bytes" if n.flops or n.bytes else "",
        ", ".join(n.lines),
    ]
    return "\n".join(r for r in rows if r)


# -- edges and groups --------------------------------------------------------------------------------------------------


def _edge(line: Sequence[Point], source: Rect, height: float, target: Rect, loop: bool) -> str:
    points = list(line)
    if not loop and abs(points[0][1] - (source.y + source.height)) < 1:
        points.insert(0, (points[0][0], source.y + height))  # up to the box, through the text below it
    (x, y), (px, py) = points[-1], points[-2]
    if len(points) <= 3 and abs(x - px) > 1 and abs(y - py) > 1:  # one slanted stroke: a curve
        bend = (y - py) / 2
        start = "".join(f"{'ML'[k > 0]}{number(a)} {number(b)}" for k, (a, b) in enumerate(points[:-1]))
        path = f"{start}C{number(px)} {number(py + bend)} {number(x)} {number(y - bend)} {number(x)} {number(y - 3)}"
        px, py = x, y - 1
    else:
        path = _rounded(points)
    # The head points along the last stroke.
    if abs(y - py) >= abs(x - px):
        s = 1 if y >= py else -1
        head = [(x, y), (x - 3.4, y - 6.5 * s), (x + 3.4, y - 6.5 * s)]
    else:
        s = 1 if x >= px else -1
        head = [(x, y), (x - 6.5 * s, y - 3.4), (x - 6.5 * s, y + 3.4)]
    tip = "L".join(f"{number(a)} {number(b)}" for a, b in head)
    return f'<path class="e" d="{path}"/><path class="a" d="M{tip}Z"/>'


def _rounded(points: Sequence[Point], radius: float = 5.0) -> str:
    """A line with rounded corners."""
    out = f"M{number(points[0][0])} {number(points[0][1])}"
    for k in range(1, len(points) - 1):
        (ax, ay), (bx, by), (cx, cy) = points[k - 1 : k + 2]
        p, q = abs(ax - bx) + abs(ay - by), abs(cx - bx) + abs(cy - by)
        r = min(radius, p / 2, q / 2)
        if r < 0.5:
            out += f"L{number(bx)} {number(by)}"
            continue
        out += f"L{number(bx + (ax - bx) * r / p)} {number(by + (ay - by) * r / p)}"
        out += f"Q{number(bx)} {number(by)} {number(bx + (cx - bx) * r / q)} {number(by + (cy - by) * r / q)}"
    return out + f"L{number(points[-1][0])} {number(points[-1][1])}"


def _outer_first(picture: Picture, placed: Layout) -> list[Group]:
    known = {g.id: g for g in picture.groups}
    return [known[id] for id in placed.groups]


def _title(g: Group) -> str:
    return short(g.label, 60)


def _frame(g: Group, at: Rect) -> str:
    corner = f'x="{number(at.x)}" y="{number(at.y)}" width="{number(at.width)}" height="{number(at.height)}"'
    return (
        f'<g class="group {g.kind} o{g.order % COLORS}" data-id="{escape(g.id)}"><rect class="f" {corner} rx="9"/>'
        f'<text class="g" x="{number(at.x + 10)}" y="{number(at.y + HEADER - 3)}">{escape(_title(g))}</text></g>'
    )


# -- the legend --------------------------------------------------------------------------------------------------------


def _legend(picture: Picture) -> list[tuple[str, str]]:
    """Class and text of what the colors say; nothing where there is one only."""
    inner = [n for n in picture.nodes if n.kind not in ("input", "shared", "constant", "output")]
    orders = sorted({n.order for n in inner} | {g.order for g in picture.groups})
    kinds = {n.kind for n in picture.nodes}
    rows = [(f"o{k % COLORS}", order_name(k)) for k in orders] if len(orders) > 1 or orders[:1] not in ([], [0]) else []
    if rows and "shared" in kinds:
        rows.append(("leaf", "input or shared variable"))
    elif rows and "input" in kinds:
        rows.append(("leaf", "input"))
    return rows


def _legend_width(rows: Sequence[tuple[str, str]]) -> float:
    return sum(text_width(text, DETAIL) + 40 for _, text in rows)


def _draw_legend(rows: Sequence[tuple[str, str]], y: float) -> list[str]:
    out, x = [], MARGIN
    for kind, text in rows:
        out.append(
            f'<g class="{kind}"><rect class="b" x="{number(x)}" y="{number(y)}" width="18" height="12" rx="3"/>'
            f'<text class="d" x="{number(x + 24)}" y="{number(y + 9.8)}">{escape(text)}</text></g>'
        )
        x += text_width(text, DETAIL) + 40
    return out
