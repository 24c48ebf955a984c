"""The viewer's page, without a browser: its size, what is in it, and that everything in it is data."""

from __future__ import annotations

import hashlib
import json
import re
from base64 import b64decode, b64encode
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph import viz
from symgraph.cli import main
from symgraph.errors import FormatError, PictureError
from symgraph.viz import viewer
from symgraph.viz.build import Subject
from symgraph.viz.model import Edge, Node, Picture, Stage
from symgraph.viz.union import plane, unite
from tests.viz import graphs


def data(page: str) -> Any:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(text)


@pytest.fixture(scope="module")
def step() -> Any:
    inputs, outputs = graphs.network(4)
    return sg.function(inputs, outputs, name="network")


class Tags(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.urls: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.urls += [v or "" for k, v in attrs if k in ("src", "href", "srcset", "data", "action")]


def test_a_hundred_nodes_with_all_stages_and_native_code_take_at_most_150_kb() -> None:
    inputs, outputs = graphs.network(8)
    f = sg.function(inputs, outputs)
    assert 80 <= len(Subject(f).stages[0].picture.nodes) <= 130
    page = viz.html(f)
    assert len(page.encode()) <= viewer.BUDGET == 150_000
    found = data(page)
    assert any("llvm" in texts for texts in found["code"].values())
    for name, texts in found["code"].items():
        assert {"loops", "python"} <= texts.keys()
        assert "llvm" in texts or "native=True" in found["native"][name], "what is left out is said to be"
    assert len(viz.html(f, native=False)) < 125_000


def test_native_code_on_request(step: Any) -> None:
    found = data(viz.html(step, native=True))
    assert all(f"@{name}(" in texts["llvm"] for name, texts in found["code"].items())
    assert not found["native"]


def test_the_page_needs_nothing_else(step: Any) -> None:
    page = viz.html(step, title="<network> & co")
    tags = Tags(page)
    assert tags.urls == []
    assert tags.tags == [
        "html", "head", "meta", "meta", "meta", "meta", "title", "style", "body", "noscript", "script", "script",
    ]  # fmt: skip
    assert "//" not in re.sub(r"(?m)^\s*//.*$|; // .*$|\{ // .*$|[,\])] // .*$", "", viewer._script())
    assert not re.search(r"url\(|@import", page)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|localStorage|fetch\(", page)
    (policy,) = re.findall(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', page)
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    for tag in ("script", "style"):
        (body,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        assert f"{tag}-src 'sha256-{b64encode(hashlib.sha256(body.encode()).digest()).decode()}'" in policy


def test_names_are_data() -> None:
    page = viz.html(graphs.nasty(), title="</title><script>alert(1)</script>", native=False)
    assert Tags(page).tags.count("script") == 2
    assert "<img" not in page
    assert "alert(1)</script>" not in page
    found = data(page)
    labels = set(found["strings"])
    for name in graphs.NASTY:
        assert " ".join(name.split()) in {" ".join(s.split()) for s in labels}
    page.encode("utf-8")


def test_same_input_same_bytes(step: Any) -> None:
    assert viz.html(step, native=False) == viz.html(step, native=False)


def decoded(found: Any) -> list[dict[str, tuple[str, str, list[str]]]]:
    """The nodes of each stage, as the script finds them: label, detail and types by id."""
    text = found["strings"]
    shown: list[dict[int, int]] = [{} for _ in found["planes"]]
    out = []
    for s in found["stages"]:
        state = shown[s["plane"]]
        for k in s.get("drop", []):
            del state[k]
        put = s.get("put", [])
        state.update(zip(put[::2], put[1::2], strict=True))
        ids = found["planes"][s["plane"]]["id"]
        rows = {}
        for k, r in state.items():
            record = found["records"][16 * r : 16 * r + 16]
            rows[text[ids[k]]] = (text[record[1]], text[record[2]], text[record[5]].split("\n"))
        out.append(rows)
    return out


def test_every_stage_is_in_it(step: Any) -> None:
    found = data(viz.html(step, native=False))
    stages = Subject(step).stages
    assert [found["strings"][s["name"]] for s in found["stages"]] == Subject(step).levels
    for rows, stage in zip(decoded(found), stages, strict=True):
        assert rows.keys() == {n.id for n in stage.picture.nodes}
        for n in stage.picture.nodes:
            label, detail, types = rows[n.id]
            assert n.label.startswith(label.rstrip("…"))
            assert n.detail.startswith(detail.rstrip("…"))
            assert types == list(n.types or [""])


def test_a_node_has_one_place_in_all_passes(step: Any) -> None:
    pictures = [s.picture for s in Subject(step).stages[:-2]]
    union = unite(pictures)
    assert len({n.id for n in union.nodes}) == len(union.nodes)
    assert {n.id for n in union.nodes} == {n.id for p in pictures for n in p.nodes}
    made = plane(pictures, "builtin")
    rects = list(made.opened.boxes.values())
    for k, a in enumerate(rects):
        for b in rects[k + 1 :]:
            apart = a.x + a.width <= b.x or b.x + b.width <= a.x or a.y + a.height <= b.y or b.y + b.height <= a.y
            assert apart
    groups = {g.id for g in union.groups}
    assert all(g.parent in groups or not g.parent for g in union.groups)
    assert {n.group for n in union.nodes} <= groups | {""}


def test_the_profile_is_shown_by_step(step: Any) -> None:
    inputs = [np.zeros((3, 8)), np.zeros((3, 8)), *(np.zeros((8, 8)) for _ in range(4))]
    profile = step.profile(*inputs, seconds=0.01)
    found = data(viz.html(step, profile=profile, native=False))["profile"]
    assert len(found["steps"]) == len(step.program.steps)
    assert found["steps"][0][0] == pytest.approx(profile[0].seconds * 1e6, rel=1e-3)
    assert found["steps"][0][2] == pytest.approx(profile[0].of_roof, rel=1e-3)
    with pytest.raises(FormatError, match=r"profile: wanted what fn.profile\(...\) returns, got float .*test_html"):
        viz.html(step, profile=3.5)


def test_too_many_nodes_are_refused_with_advice() -> None:
    x = sg.vector("x")
    v: Any = x
    for k in range(10):
        with sg.scope(f"part{k}"):
            for _ in range(700):
                v = sg.sin(v)
    with pytest.raises(PictureError, match=r"7,00\d boxes are more than the viewer can show \(6,000\). Collapse.*py:"):
        viz.html(v)
    stages = [Subject(v).stage("written")]
    assert len(data(viz.html(stages, collapse=True))["planes"][0]["id"]) < 20


def test_cuda_kernels_have_ptx() -> None:
    pytest.importorskip("numba_cuda")
    x = sg.vector("x", shape="n", dtype="float32")
    page = viz.html(sg.lower([x], sg.exp(x) * 2, target="cuda"))
    ((texts),) = data(page)["code"].values()
    assert ".visible .entry" in texts["ptx"]
    assert "grid" in texts["loops"]


def test_a_cycle_is_drawn() -> None:
    nodes = [Node("a", "op", "a"), Node("b", "op", "b"), Node("c", "op", "c")]
    edges = [Edge("a", "b"), Edge("b", "c"), Edge("c", "a"), Edge("c", "c")]
    page = viz.html([Stage("written", "", Picture("loop", "written", tuple(nodes), tuple(edges)))])
    assert len(data(page)["planes"][0]["lines"]) == 4


def test_saved_stages_give_the_same_file(step: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = tmp_path / "graph.json"
    viz.json(step, saved, level="all")
    assert main(["view", str(saved)]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'graph.html'}\n"
    assert (tmp_path / "graph.html").read_text() == viz.html(step, native=False)
    viz.json(step, saved, title="one level", level="kernels")
    assert main(["view", str(saved), "-o", str(tmp_path / "one.html")]) == 0
    assert len(data((tmp_path / "one.html").read_text())["stages"]) == 1


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (None, "cannot read"),
        ("{", "is no JSON"),
        ("[1]", "has another form"),
        ('{"nodes": []}', "has another form: KeyError"),
        ('{"level": "memory", "bars": []}', "memory plan"),
        ('{"stages": [{"name": 3}]}', "another form"),
    ],
)
def test_view_of_something_else(
    text: str | None, what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.json"
    if text is not None:
        path.write_text(text)
    assert main(["view", str(path)]) == 1
    error = capsys.readouterr().err
    assert what in error
    assert error.startswith("view: ")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda p: p["nodes"][0].update(kind="ghost"), "of the kind 'ghost'"),
        (lambda p: p["nodes"][0].update(colour="red"), "no field is called colour"),
        (lambda p: p["nodes"][0].update(label=None), "wanted text, got None"),
        (lambda p: p["nodes"].append(p["nodes"][0]), "twice"),
        (lambda p: p["edges"][0].update(source="nobody"), "'nobody'"),
        (lambda p: p["nodes"][0].update(group="nowhere"), "'nowhere'"),
    ],
)
def test_a_saved_picture_that_was_spoilt(change: Any, what: str, tmp_path: Path) -> None:
    from symgraph.viz.saved import load

    picture = json.loads(viz.json(graphs.small()))
    change(picture)
    path = tmp_path / "x.json"
    path.write_text(json.dumps(picture))
    with pytest.raises(PictureError, match=re.escape(what)):
        load(path)


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match=r"cannot write .*: .*test_html.py"):
        viz.save(graphs.small(), tmp_path / "no folder" / "a.html", native=False)


def test_packed_pages_unpack_to_the_same() -> None:
    import zlib

    page = viz.html(graphs.small(), native=False)
    packed = viewer.packed(page)
    assert len(packed) < len(page) / 2
    (body,) = re.findall(r'type="text/plain">([^<]*)<', packed)
    assert zlib.decompress(b64decode(body)).decode() == page
