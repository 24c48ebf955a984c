"""The memory plan over the steps of a program: what lies where in the arena, and when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from symgraph import source
from symgraph.errors import PictureError
from symgraph.printing import _Printer as Printer
from symgraph.runtime.program import Program
from symgraph.runtime.sizes import Env, resolve
from symgraph.types import Dim, atoms
from symgraph.viz.glyphs import bytes_text, escape, number, text_width
from symgraph.viz.labels import short
from symgraph.viz.model import Bar, Timeline
from symgraph.viz.svg import COLORS, MARGIN, TAIL, opening


def timeline(program: Program, sizes: Mapping[str, int] | None = None, title: str = "") -> Timeline:
    """The memory plan for ``sizes`` (by name: ``{"batch": 32}``), or for those of the last call.

    Raises :class:`~symgraph.errors.PictureError` where a size is known from neither.
    """
    from symgraph.passes.memory import assign_offsets
    from symgraph.viz.build import step_label

    env: Env = dict(program.last_plan.env) if program.last_plan is not None and not sizes else {}
    given = dict(sizes or {})
    buffers = program.memory.buffers
    unknown: dict[str, None] = {}
    for b in buffers:
        if isinstance(b.size, Dim):
            for a in atoms(b.size):
                if not a.fn and a not in env:
                    if a.name in given:
                        env[a] = given[a.name]
                    else:
                        unknown[a.name or "an anonymous size"] = None
    if unknown:
        raise PictureError(
            f"memory: offsets depend on {', '.join(unknown)}: call the function once, or give sizes="
            f"{{{', '.join(f'{name!r}: ...' for name in unknown)}}}  {source.show(source.current())}"
        )
    bytes = [resolve(b.size, env) for b in buffers]
    inside = [k for k, b in enumerate(buffers) if not b.output]
    offsets, arena = assign_offsets([(buffers[k].first, buffers[k].last, bytes[k]) for k in inside])
    where = dict(zip(inside, offsets, strict=True))
    printer = Printer(False, False)
    bars = []
    for k, b in enumerate(buffers):
        v = b.variables[0]
        names = dict.fromkeys(x.name or (x.owner.op.name if x.owner is not None else "tensor") for x in b.variables)
        types = dict.fromkeys(printer.type(x.type) for x in b.variables)
        lines = tuple(str(line) for line in sorted(v.sources))
        offset = where.get(k, -1)
        bars.append(Bar(" → ".join(names), tuple(types), b.first, b.last, offset, bytes[k], lines, v.origin.order))
    steps = tuple(step_label(s, k) for k, s in enumerate(program.steps))
    total = sum(resolve(v.type.size, env) * v.type.dtype.itemsize for v, b in program.memory.of.items() if not b.output)
    return Timeline(title, steps, tuple(bars), arena, total)


def draw_timeline(plan: Timeline) -> str:
    """The plan as an SVG document: steps from left to right, offsets upwards, one bar for each buffer."""
    left, top, tall = 76.0, 70.0, 320.0
    steps = max(1, len(plan.steps))
    wide = max(560.0, min(1600.0, 46.0 * steps))
    rows = _rows([b for b in plan.bars if b.offset < 0])
    strip = 20.0
    width, height = left + wide + MARGIN, top + tall + 46 + strip * len(rows) + MARGIN
    of = f"memory plan: arena of {bytes_text(plan.arena)} for {bytes_text(plan.intermediates)} of intermediate tensors"
    heading = f"{plan.title} · {of}" if plan.title else of

    def x(step: float) -> float:
        return left + wide * step / steps

    def y(offset: float) -> float:
        return top + tall - tall * offset / max(1, plan.arena)

    width = max(width, text_width(heading, 14, bold=True) + 2 * MARGIN)
    out = [
        *opening(width, height, f"{heading}; {len(plan.bars)} buffers, {len(plan.steps)} steps"),
        f'<text class="h" x="{number(MARGIN)}" y="{number(MARGIN + 12)}">{escape(heading)}</text>',
        f'<text class="d" x="{number(MARGIN)}" y="{number(top - 14)}">offset in the arena</text>',
    ]
    for k in range(5):
        at = plan.arena * k // 4
        out.append(f'<path class="e" stroke-opacity=".35" d="M{number(left)} {number(y(at))}H{number(left + wide)}"/>')
        label = f'x="{number(left - 8)}" y="{number(y(at) + 3.5)}" text-anchor="end"'
        out.append(f'<text class="d" {label}>{escape(bytes_text(at))}</text>')
    every = -(-steps // max(1, int(wide // 40)))
    for k, what in enumerate(plan.steps):
        if k % every == 0:
            place = f'x="{number((x(k) + x(k + 1)) / 2)}" y="{number(top + tall + 16)}" text-anchor="middle"'
            out.append(f'<text class="d" {place}>{k}<title>{escape(what)}</title></text>')
    place = f'x="{number(left + wide / 2)}" y="{number(top + tall + 34)}" text-anchor="middle"'
    out.append(f'<text class="d" {place}>step</text>')
    for b in plan.bars:
        if b.offset >= 0:
            end = y(b.offset + b.bytes)
            out.append(_bar(b, x(b.first), end, x(b.last + 1) - x(b.first), y(b.offset) - end))
    if rows:
        label = f'x="{number(left - 8)}" y="{number(top + tall + 58)}" text-anchor="end"'
        out.append(f'<text class="d" {label}>result{"s" if sum(map(len, rows)) > 1 else ""}</text>')
    for k, row in enumerate(rows):
        above = top + tall + 46 + strip * k
        out += [_bar(b, x(b.first), above, x(b.last + 1) - x(b.first), strip - 4) for b in row]
    return "\n".join([*out, "</svg>", ""])


def _rows(bars: Sequence[Bar]) -> list[list[Bar]]:
    """Bars in as few rows as they need: those of a row follow one another."""
    rows: list[list[Bar]] = []
    for b in sorted(bars, key=lambda b: b.first):
        free = next((row for row in rows if row[-1].last < b.first), None)
        if free is None:
            rows.append([b])
        else:
            free.append(b)
    return rows


def _bar(b: Bar, x: float, y: float, width: float, height: float) -> str:
    place = "result" if b.offset < 0 else f"offset {b.offset}"
    steps = f"steps {b.first} to {b.last}" if b.first != b.last else f"step {b.first}"
    tip = "\n".join([b.label, ", ".join(b.types), f"{bytes_text(b.bytes)}, {place}, {steps}", ", ".join(b.lines)])
    size = (
        f'x="{number(x + 1)}" y="{number(y + 0.5)}" width="{number(width - 2)}" height="{number(max(height - 1, 0.8))}"'
    )
    out = f'<g class="o{b.order % COLORS}"><title>{escape(tip)}</title><rect class="b" {size} rx="2"/>'
    room = int((width - 8) / (0.75 * TAIL))
    if height >= 12 and room >= 3:
        middle = f'x="{number(x + width / 2)}" y="{number(y + height / 2 + 3.2)}" text-anchor="middle"'
        out += f'<text class="d" style="font-size:{TAIL}px" {middle}>{escape(short(b.label, room))}</text>'
    return out + "</g>"
