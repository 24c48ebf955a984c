"""What notebooks are given: an image that survives, the viewer where it may run, and never too much."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph import viz
from symgraph.errors import FormatError
from symgraph.viz import notebook
from symgraph.viz.notebook import LIMIT, mimebundle
from symgraph.viz.viewer import packed

NASTY = "<img src=x onerror=alert(1)></script>$x$変数"


@pytest.fixture
def graph() -> sg.Graph:
    x = sg.vector(NASTY, shape="n")
    return sg.Graph([x], [sg.exp(x)])


@pytest.fixture
def draws(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def install(svg: Any = None, page: Any = None) -> None:
        monkeypatch.setattr(viz, "svg", svg, raising=False)
        monkeypatch.setattr(viz, "html", page, raising=False)

    return install


def small(x: Any) -> str:
    return '<svg xmlns="http://www.w3.org/2000/svg"/>'


def viewer(x: Any, **options: Any) -> str:
    return '<!doctype html><script>const a = "</p>" && 1</script>'


def test_the_picture_is_an_image(graph: sg.Graph, draws: Callable[..., None]) -> None:
    draws(small)
    page = graph._repr_html_()
    (data,) = re.findall(r'<img alt="[^"]*" style="[^"]*" src="data:image/svg\+xml;base64,([^"]*)"/>', page)
    assert base64.b64decode(data).decode() == small(None)
    assert "<style" not in page, "nothing hides it where there is no viewer"
    assert html.escape(NASTY) in page
    assert page.count("<img") == 1


def test_the_viewer_stands_in_front_and_what_sanitizers_strip_leaves_the_image(
    graph: sg.Graph, draws: Callable[..., None]
) -> None:
    draws(small, viewer)
    page = mimebundle(graph)["text/html"]
    (frame,) = re.findall(r"<iframe ([^>]*)>", page)
    assert 'sandbox="allow-scripts"' in frame, "scripts in a frame of their own origin, and nothing else"
    (inner,) = re.findall(r"srcdoc='([^']*)'", frame)
    assert html.unescape(inner) == packed(viewer(None))
    (rule,) = re.findall(r"<style>(.*?)</style>", page)
    (name,) = re.findall(r'<div class="([^"]*)">', page)
    assert rule == f".{name}>img{{display:none}}"
    stripped = re.sub(r"<style>.*?</style>|<iframe .*?</iframe>|<script.*?</script>", "", page)
    assert re.fullmatch(r'<div class="[^"]*"><img [^>]*/></div>', stripped)
    assert mimebundle(graph)["text/html"] != page, "two cells do not hide each other's images"


def test_a_cell_has_a_limit(graph: sg.Graph, draws: Callable[..., None]) -> None:
    draws(small, lambda x, **options: np.random.default_rng(0).bytes(LIMIT).hex())
    assert "<iframe" not in mimebundle(graph)["text/html"]
    assert "<img" in mimebundle(graph)["text/html"]
    draws(lambda x: "x" * LIMIT, viewer)
    page = mimebundle(graph)["text/html"]
    assert "<img" not in page
    assert "sg.viz.save" in page
    assert len(page) < LIMIT
    x = sg.vector("x")
    v: sg.Variable = x
    for _ in range(5000):
        v = sg.sin(v)
    draws()
    assert len(mimebundle(sg.Graph([x], [v]))["text/html"]) < 10_000


def test_a_graph_that_cannot_be_drawn_says_why(graph: sg.Graph, draws: Callable[..., None]) -> None:
    def refuse(x: Any, **options: Any) -> str:
        raise FormatError("too large: <collapse> it")

    draws(refuse)
    assert mimebundle(graph)["text/html"] == "<pre>too large: &lt;collapse&gt; it</pre>"
    draws(small, refuse)
    assert "<img" in mimebundle(graph)["text/html"]


def test_functions_have_a_summary_with_the_picture_folded_under_it(draws: Callable[..., None]) -> None:
    draws(small, viewer)
    x = sg.vector(NASTY, shape="n")
    f = sg.function([x], sg.exp(x), name=NASTY)
    f(np.zeros(3))
    page = f._repr_html_()
    assert page.index("<table>") < page.index("<details>") < page.index("<iframe")
    assert len(page.encode()) <= LIMIT
    outside = re.sub(r"srcdoc='[^']*'", "", page)
    assert "<script" not in outside
    assert outside.count("<img") == 1
    assert mimebundle(f)["text/plain"] == repr(f)


def test_what_the_package_draws_is_used_by_name() -> None:
    assert notebook._from_viz("no such picture") is None


def test_a_graph_in_a_terminal(graph: sg.Graph) -> None:
    assert repr(graph) == f"<graph of 1 operations: {NASTY} -> float64[n]>"


def test_a_drawing_is_text_that_notebooks_show(graph: sg.Graph) -> None:
    for drawn in (viz.svg(graph), viz.svg(graph, level="memory", sizes={"n": 3})):
        (data,) = re.findall(
            r'^<img alt="[^"<]+" style="[^"]*" src="data:image/svg\+xml;base64,([^"]*)"/>$', drawn._repr_html_()
        )
        assert base64.b64decode(data).decode() == drawn
        said: list[str] = []
        drawn._repr_pretty_(SimpleNamespace(text=said.append), False)
        assert re.fullmatch(r"<(written: 3 boxes, 2 edges|memory plan: .*)>", "".join(said))
