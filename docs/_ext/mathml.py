"""Formulas as MathML, which browsers draw themselves: no script, no font, and nothing from a network."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from docutils.utils.math import latex2mathml
from sphinx.util import logging

_log = logging.getLogger(__name__)
_SIZES = re.compile(r"\\(small|displaystyle)\b")  # docutils does not know them, and they change no meaning
_FRACTION = re.compile(r"(\\[dt]?frac)\s*(\d)\s*(\d)")  # which docutils takes for one number of two digits


def _formula(self: Any, node: nodes.Element, block: bool) -> None:
    tex = _FRACTION.sub(r"\1{\2}{\3}", _SIZES.sub("", node.astext()))
    try:
        made = latex2mathml.tex2mathml(tex, as_block=block)
    except Exception as error:  # docutils raises whatever a formula that it does not know runs into
        _log.warning("no MathML for %r: %s", tex, error, location=node)
        made = f"<code>{self.encode(tex)}</code>"
    self.body.append(f'<div class="math">{made}</div>\n' if block else made)
    raise nodes.SkipNode


def _inline(self: Any, node: nodes.Element) -> None:
    _formula(self, node, block=False)


def _block(self: Any, node: nodes.Element) -> None:
    _formula(self, node, block=True)


def setup(app: Any) -> dict[str, Any]:
    """Register the renderer ``mathml``."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
