"""What notebooks show: a picture that is seen in every state of a notebook, and the viewer where it may run.

A cell's HTML has both. Fresh, or exported by nbconvert, a style rule hides the picture and the viewer is seen, in a
frame of its own that may run scripts and nothing else. JupyterLab strips styles, frames and inline SVG from a notebook
that it has not run itself, and keeps images: there the picture is what is left.
"""

from __future__ import annotations

import base64
import html
import itertools
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from symgraph.errors import SymgraphError
from symgraph.graph import Graph
from symgraph.viz.viewer import packed

LIMIT: Final = 120_000
"""Bytes of a cell. What is larger is left out: first the viewer, then the picture."""

_number = itertools.count(1)


class Drawing(str):
    """An SVG document. A notebook shows it as an image, which is seen in every state of the notebook."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return image(self, self._label())

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(f"<{self._label()}>")

    def _label(self) -> str:
        found = re.search(r' aria-label="([^"]*)"', self)
        return html.unescape(found[1]) if found else "picture"


def image(drawn: str, text: str) -> str:
    """SVG as an image in HTML, with ``text`` for who cannot see it."""
    data = base64.b64encode(drawn.encode()).decode()
    return f'<img alt="{html.escape(text)}" style="max-width:100%" src="data:image/svg+xml;base64,{data}"/>'


def mimebundle(x: Any) -> dict[str, str]:
    """Text and HTML for a graph or a compiled function.

    The HTML is a summary, for a function, and the picture with the viewer, folded under it.
    """
    if isinstance(x, Graph):
        return {"text/plain": repr(x), "text/html": picture(x)}
    summary = x.summary()
    top = summary._repr_html_()
    shown = picture(x, LIMIT - len(top.encode()) - 200)
    folded = f"<details><summary>graph</summary>{shown}</details>" if shown else ""
    return {"text/plain": repr(x), "text/html": top + folded}


def picture(x: Any, limit: int = LIMIT) -> str:
    """The picture of ``x`` with the viewer in front of it, as far as both fit."""
    try:
        drawn = _draw(x)
    except SymgraphError as error:  # too large to be drawn: it says what to do
        return f"<pre>{html.escape(str(error))}</pre>"
    if drawn is None:
        return f"<pre>{html.escape(_first_lines(x))}</pre>"
    shown = image(drawn, repr(x))
    if len(shown.encode()) > limit:
        note = f"The picture takes {len(drawn) // 1000} kB: sg.viz.save(x, 'graph.html') writes it to a file."
        return f"<pre>{html.escape(_first_lines(x))}\n{html.escape(note)}</pre>"
    for options in ({}, {"native": False}):  # native code of kernels, where there is room for it
        page = _view(x, options)
        if page is None:
            break
        name = f"symgraph-{next(_number)}"
        quoted = html.escape(page, quote=False).replace("'", "&#39;")  # of quotes, a page has mostly double ones
        both = (
            f'<div class="{name}"><style>.{name}>img{{display:none}}</style>{shown}'
            f'<iframe sandbox="allow-scripts" loading="lazy" style="width:100%;height:480px;border:0" '
            f"srcdoc='{quoted}'></iframe></div>"
        )
        if len(both.encode()) <= limit:
            return both
    return shown


def _draw(x: Any) -> str | None:
    """The picture as SVG, where the package draws."""
    draw = _from_viz("svg")
    return None if draw is None else str(draw(x))


def _view(x: Any, options: Mapping[str, Any]) -> str | None:
    """The viewer as a page that needs nothing else, where the package has it: without native code, and packed."""
    view = _from_viz("html")
    if view is None:
        return None
    try:
        return packed(str(view(x, native=False)))
    except SymgraphError:
        return None


def _from_viz(name: str) -> Callable[..., Any] | None:
    from symgraph import viz

    found = getattr(viz, name, None)
    return found if callable(found) else None


def _first_lines(x: Any, most: int = 40) -> str:
    lines = str(x if isinstance(x, Graph) else x.graph).splitlines()
    more = [f"… {len(lines) - most} more lines"] if len(lines) > most else []
    return "\n".join([*lines[:most], *more])
