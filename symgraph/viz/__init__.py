"""Pictures of graphs, at every stage of compilation, with no program but Python.

``svg``, ``dot``, ``mermaid``, ``graphml``, ``json`` and ``text`` return the picture as text; ``html`` returns the page
of the interactive viewer. Each takes a variable, a list of variables, a :class:`~symgraph.graph.Graph` or a compiled
function, and these options:

* ``level``: ``"written"`` (the default), the name of a graph pass (see ``fn.passes``), ``"kernels"``, ``"program"``, or
  ``"memory"``, the memory plan over time, which is an SVG or JSON.
* ``collapse``: draw named scopes, source lines and kernels as one box each. ``None``: where there are more than a few
  dozen boxes (never in an export that a person does not look at: GraphML, JSON).
* ``expand``: names of groups that stay open where others are collapsed.
* ``sizes``: for the memory plan, numbers for named sizes; without them, those of the last call.

With ``path``, the text is also written there. :func:`save` chooses the format by the suffix of the path.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from symgraph import source
from symgraph.errors import FormatError, PictureError
from symgraph.viz import formats
from symgraph.viz.build import Drawable, Subject
from symgraph.viz.groups import FEW, closed
from symgraph.viz.layout import Engine
from symgraph.viz.model import Bar, Edge, Group, Node, Picture, Stage, Timeline
from symgraph.viz.notebook import Drawing
from symgraph.viz.svg import draw

MOST = 3000
"""Boxes that a picture has at most."""


def picture(
    x: Drawable, level: str = "written", collapse: bool | None = None, expand: Sequence[str] = (), title: str = ""
) -> Picture:
    """The data that is drawn. Raises :class:`~symgraph.errors.PictureError` for what is no graph, and
    :class:`~symgraph.errors.FormatError` for a level or a group that does not exist."""
    return _shown(Subject(x, title), level, collapse, expand)


def _shown(subject: Subject, level: str, collapse: bool | None, expand: Sequence[str]) -> Picture:
    full = subject.stage(level).picture
    if collapse or (collapse is None and len(full.nodes) > FEW) or expand:
        return closed(full, _opened(full, expand))
    return full


def _opened(full: Picture, names: Sequence[str]) -> set[str]:
    """The groups that ``names`` mean, and those around them."""
    groups = {g.id: g for g in full.groups}
    paths = {id: g.label for id, g in groups.items()}
    for g in full.groups:  # parents stand before their children
        if g.parent:
            paths[g.id] = f"{paths[g.parent]}/{g.label}"
    out: set[str] = set()
    for name in names:
        found = [id for id, g in groups.items() if name in (id, g.label, paths[id])]
        if not found:
            there = ", ".join(dict.fromkeys(paths.values())) or "none"
            raise FormatError(
                f"expand: no group is called {name!r}; there are {there}  {source.show(source.current())}"
            )
        for id in found:
            while id:
                out.add(id)
                id = groups[id].parent
    return out


def timeline(x: Drawable, sizes: Mapping[str, int] | None = None, title: str = "") -> Timeline:
    """The data of the memory plan, for ``sizes`` or for those of the last call."""
    from symgraph.viz import memory

    subject = Subject(x, title)
    return memory.timeline(subject.program, sizes, subject.title)


def svg(
    x: Drawable,
    path: str | os.PathLike[str] | None = None,
    *,
    level: str = "written",
    collapse: bool | None = None,
    expand: Sequence[str] = (),
    sizes: Mapping[str, int] | None = None,
    title: str = "",
    engine: Engine = "auto",
) -> Drawing:
    """The picture as SVG, for light and dark pages; a notebook shows it. See the module for the options.

    ``engine`` lays it out: ``"graphlay"`` where that is installed, or ``"builtin"``. Raises
    :class:`~symgraph.errors.PictureError` for more than :data:`MOST` boxes.
    """
    if level == "memory":
        from symgraph.viz.memory import draw_timeline

        return Drawing(_written(draw_timeline(timeline(x, sizes, title)), path))
    subject = Subject(x, title)
    if collapse is False:  # at least as many boxes: what is refused is not built first
        _drawable(len(subject.graph.nodes) if level == "written" else 0)
    drawn = _shown(subject, level, collapse, expand)
    _drawable(len(drawn.nodes))
    return Drawing(_written(draw(drawn, engine), path))


def _drawable(boxes: int) -> None:
    if boxes > MOST:
        raise PictureError(
            f"svg: {boxes:,} boxes are more than a picture can show ({MOST:,}). Collapse: name parts with sg.scope and "
            "leave collapse=None or True; or export with dot, graphml or json, which have no limit  "
            f"{source.show(source.current())}"
        )


def dot(x: Drawable, path: str | os.PathLike[str] | None = None, **options: Any) -> str:
    """The picture in Graphviz's language. See the module for the options."""
    return _written(formats.dot(_picture("dot", x, options)), path)


def mermaid(x: Drawable, path: str | os.PathLike[str] | None = None, **options: Any) -> str:
    """The picture as a Mermaid flowchart. See the module for the options."""
    return _written(formats.mermaid(_picture("mermaid", x, options)), path)


def graphml(x: Drawable, path: str | os.PathLike[str] | None = None, **options: Any) -> str:
    """The graph as GraphML, all of it unless ``collapse=True``. See the module for the options."""
    return _written(formats.graphml(_picture("graphml", x, {"collapse": False, **options})), path)


def json(x: Drawable, path: str | os.PathLike[str] | None = None, **options: Any) -> str:
    """The graph's data as JSON, all of it unless ``collapse=True``. See the module for the options.

    ``level="all"`` is every stage, of which ``symgraph view`` makes the viewer.
    """
    if options.get("level") == "all":
        from symgraph.viz.saved import all_stages

        return _written(formats.dump(all_stages(x, options.get("title", ""))), path)
    if options.get("level") == "memory":
        plan = timeline(x, options.get("sizes"), options.get("title", ""))
        return _written(formats.as_json(plan), path)
    return _written(formats.as_json(_picture("json", x, {"collapse": False, **options})), path)


def text(x: Drawable, path: str | os.PathLike[str] | None = None, **options: Any) -> str:
    """The boxes as lines of text, in their groups. See the module for the options."""
    return _written(formats.text(_picture("text", x, options)), path)


def html(x: Drawable | Sequence[Stage], path: str | os.PathLike[str] | None = None, **options: Any) -> str:
    """The interactive viewer of all stages as one HTML file, which needs no network.

    The options are those of :func:`symgraph.viz.viewer.html`.
    """
    from symgraph.viz.viewer import html as page

    return _written(page(x, **options), path)


def _picture(what: str, x: Drawable, options: Mapping[str, Any]) -> Picture:
    if options.get("level") == "memory":
        raise FormatError(
            f"{what}: the memory plan is no graph; it can be svg or json  {source.show(source.current())}"
        )
    wrong = options.keys() - {"level", "collapse", "expand", "title"}
    if wrong:
        raise FormatError(
            f"{what}: no option is called {', '.join(sorted(wrong))}; there are level, collapse, expand and title  "
            f"{source.show(source.current())}"
        )
    return picture(x, **options)


_SUFFIXES: dict[str, Callable[..., str]] = {
    ".svg": svg,
    ".dot": dot,
    ".gv": dot,
    ".mmd": mermaid,
    ".mermaid": mermaid,
    ".graphml": graphml,
    ".json": json,
    ".txt": text,
    ".html": html,
}


def save(x: Drawable, path: str | os.PathLike[str], **options: Any) -> None:
    """Write a picture in the format that the suffix of ``path`` names: svg, html, dot, mmd, graphml, json or txt.

    The options are those of the format. Raises :class:`~symgraph.errors.FormatError` for any other suffix, and
    :class:`~symgraph.errors.PictureError` where the file cannot be written.
    """
    suffix = os.path.splitext(os.fspath(path))[1].lower()
    if suffix not in _SUFFIXES:
        raise FormatError(
            f"save: no format has the suffix {suffix!r} of {os.fspath(path)!r}; there are {', '.join(_SUFFIXES)}  "
            f"{source.show(source.current())}"
        )
    _SUFFIXES[suffix](x, path, **options)


def _written(made: str, path: str | os.PathLike[str] | None) -> str:
    if path is not None:
        try:
            with open(path, "w", encoding="utf-8", newline="\n") as file:
                file.write(made)
        except OSError as error:
            raise PictureError(
                f"cannot write {os.fspath(path)!r}: {error.strerror or error}  {source.show(source.current())}"
            ) from error
    return made


__all__ = [
    "Bar",
    "Drawable",
    "Drawing",
    "Edge",
    "Group",
    "Node",
    "Picture",
    "Stage",
    "Subject",
    "Timeline",
    "dot",
    "graphml",
    "html",
    "json",
    "mermaid",
    "picture",
    "save",
    "svg",
    "text",
    "timeline",
]
