"""The viewer's file, opened from disk with the network off, as a person uses it."""

from __future__ import annotations

import html
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph import viz
from symgraph.viz.build import Subject
from symgraph.viz.viewer import packed

Visit = Callable[..., Any]
Shoot = Callable[[Any, str], Path]
NASTY = ("<img src=x onerror=alert(1)>", "</script><script>alert(2)</script>", "変数", "__proto__")


@pytest.fixture(scope="session")
def step() -> Any:
    """A training step of a small network, with named layers."""
    x, y = sg.matrix("x", shape=("batch", 64)), sg.matrix("y", shape=("batch", 10))
    w1, b1 = sg.shared(np.zeros((64, 32)), "W1"), sg.shared(np.zeros(32), "b1")
    w2 = sg.shared(np.zeros((32, 10)), "W2")
    with sg.scope("layer1"):
        h = np.tanh(x @ w1 + b1)
    with sg.scope("layer2"):
        out = sg.log_softmax(h @ w2, axis=1)
    loss = -sg.mean(sg.sum(out * y, axis=1))
    parameters = [w1, b1, w2]
    gradients = sg.grad(loss, parameters)
    return sg.function([x, y], loss, updates=[(p, p - 0.1 * g) for p, g in zip(parameters, gradients, strict=True)])


@pytest.fixture(scope="session")
def network(step: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("viewer") / "network.html"
    profile = step.profile(np.ones((8, 64)), np.eye(10)[:8], seconds=0.05)
    viz.html(step, path, title="network step", profile=profile)
    return path.as_uri()


def settled(page: Any) -> Any:
    """The page, when nothing moves any more. (``wait_for_function`` needs ``eval``, which the page forbids.)"""
    for _ in range(200):
        if not page.evaluate("viewer.state().moving"):
            return page
        page.wait_for_timeout(20)
    raise AssertionError("it does not come to rest")


def boxes(page: Any) -> dict[str, dict[str, Any]]:
    found: list[dict[str, Any]] = settled(page).evaluate("viewer.boxes()")
    return {b["key"]: b for b in found}


def named(page: Any, label: str) -> dict[str, Any]:
    return next(b for b in boxes(page).values() if b["label"] == label)


def click(page: Any, box: dict[str, Any]) -> None:
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    settled(page)


def go(page: Any, stage: str) -> None:
    page.locator(".strip button", has=page.get_by_text(stage, exact=True)).click()
    settled(page)


def overlaps(page: Any) -> list[tuple[str, str]]:
    found = sorted(boxes(page).values(), key=lambda b: b["y"])
    pairs = []
    for k, a in enumerate(found):
        for b in found[k + 1 :]:
            if b["y"] >= a["y"] + a["height"] - 0.01:
                break
            if a["x"] + a["width"] > b["x"] + 0.01 and b["x"] + b["width"] > a["x"] + 0.01:
                pairs.append((a["key"], b["key"]))
    return pairs


def painted(page: Any) -> float:
    """The part of the canvas that is not its ground."""
    share: float = settled(page).evaluate(
        """() => {
            const from = document.querySelector("canvas"), c = document.createElement("canvas");
            c.width = from.width;
            c.height = from.height;
            const to = c.getContext("2d", { willReadFrequently: true });
            to.drawImage(from, 0, 0);
            const d = to.getImageData(0, 0, c.width, c.height).data;
            let n = 0;
            for (let k = 0; k < d.length; k += 4) {
                n += Math.abs(d[k] - d[0]) + Math.abs(d[k + 1] - d[1]) + Math.abs(d[k + 2] - d[2]) > 24;
            }
            return 4 * n / d.length;
        }"""
    )
    return share


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_stage_is_drawn_and_no_boxes_overlap(
    network: str, step: Any, visit: Visit, shoot: Shoot, scheme: str
) -> None:
    page = visit(network, color_scheme=scheme)
    for stage in Subject(step).levels:
        go(page, stage)
        for what in ("collapse", "expand"):
            page.click(f"#{what}")
            assert len(boxes(page)) > 5
            assert not overlaps(page)
            assert painted(page) > 0.01
            if stage in ("written", "decompose", "kernels", "program"):
                shoot(page, f"viewer-{scheme}-{stage}-{what}")


def test_stepping_through_the_passes(network: str, step: Any, visit: Visit) -> None:
    page = visit(network)
    page.click("#expand")
    before: dict[str, dict[str, Any]] = {}
    for k, stage in enumerate(Subject(step).stages):
        button = page.locator(".strip button").nth(k)
        button.click()
        assert button.get_attribute("aria-current") == "step"
        assert page.locator("aside h2").inner_text() == stage.name
        now = boxes(page)
        assert set(now) == {n.id for n in stage.picture.nodes}
        assert {key for key, b in now.items() if b["changed"]} == set(stage.changed if k else ())
        nothing = k > 0 and stage.name not in ("kernels", "program") and not (stage.changed or stage.removed)
        assert ("same" in (button.get_attribute("class") or "")) == (nothing and not stage.fired)
        fired = page.locator(".fired li").all_inner_texts()
        assert fired == [f"{rule} × {times}" for rule, times in stage.fired]
        if stage.name not in ("kernels", "program"):  # whatever stays keeps its place among the others
            kept = [key for key in now if key in before]
            for axis in ("x", "y"):
                old, new = (np.array([where[key][axis] for key in kept]) for where in (before, now))
                assert not ((old[:, None] < old - 1) & (new[:, None] > new + 1)).any()
        before = now


def test_a_pass_that_changes_nothing_moves_nothing(network: str, visit: Visit) -> None:
    page = visit(network)
    go(page, "intern")
    before = boxes(page)
    go(page, "sizes")
    assert {k: (b["x"], b["y"]) for k, b in boxes(page).items()} == {k: (b["x"], b["y"]) for k, b in before.items()}


def test_search_by_name_operation_and_dtype(network: str, visit: Visit) -> None:
    page = visit(network)
    for words, least in (("W1", 1), ("log_softmax", 1), ("float64[batch, 10]", 3), ("int64", 1), ("%5", 1)):
        page.fill("#search", words)
        count = int(page.locator("#live").inner_text().split()[0])
        assert count >= least
        assert page.locator("#found li").count() == min(count, 60)
        assert any(b["found"] for b in boxes(page).values())
    page.fill("#search", "no such thing")
    assert page.locator("#live").inner_text().startswith("0 of ")
    assert page.locator("#found").is_hidden()
    page.fill("#search", "tanh")
    page.keyboard.press("ArrowDown")
    assert page.locator("#found [aria-selected=true]").count() == 1
    page.keyboard.press("Enter")
    assert page.locator("aside h2").inner_text() == "tanh"
    assert named(page, "tanh"), "the group around it was opened"
    page.keyboard.press("Escape")
    assert page.input_value("#search") == ""


def test_groups_close_and_open(network: str, visit: Visit, shoot: Shoot) -> None:
    page = visit(network)
    page.click("#collapse")
    closed = boxes(page)
    layer = named(page, "layer1")
    assert layer["kind"] == "group"
    assert layer["detail"] == "4 nodes"
    click(page, layer)
    page.get_by_role("button", name="Open this group").click()
    assert not overlaps(page)
    assert named(page, "tanh")
    shoot(page, "viewer-one-group-open")
    (frame,) = (f for f in page.evaluate("viewer.frames()") if f["label"] == "layer1")
    for key, box in boxes(page).items():
        inside = frame["x"] < box["x"] < frame["x"] + frame["width"] and (
            frame["y"] < box["y"] < frame["y"] + frame["height"]
        )
        assert inside == (key not in closed)
    page.mouse.click(frame["x"] + 30, frame["y"] + 10)
    assert set(boxes(page)) == set(closed)
    page.click("#expand")
    assert not any(b["kind"] == "group" for b in boxes(page).values())
    page.keyboard.press("c")
    assert set(boxes(page)) == set(closed)


def test_a_node_says_what_it_is(network: str, step: Any, visit: Visit, shoot: Shoot) -> None:
    page = visit(network)
    page.click("#expand")
    stage = Subject(step).stages[0]
    derived = next(n for n in stage.picture.nodes if n.provenance and n.flops)
    page.fill("#search", f"%{derived.number}")
    page.keyboard.press("Enter")
    assert settled(page).evaluate("viewer.state().selected") == derived.id
    terms = dict(zip(page.locator("dl dt").all_inner_texts(), page.locator("dl dd").all_inner_texts(), strict=True))
    assert terms["type"] == "\n".join(derived.types)
    assert terms["FLOPs"] == derived.flops
    assert terms["bytes"] == derived.bytes
    assert terms["provenance"] == derived.provenance
    assert terms["line"].startswith("test_viewer.py:")
    page.fill("#search", "")
    page.fill("#search", "tanh")
    page.keyboard.press("Enter")
    page.fill("#search", "")
    shoot(page, "viewer-node")
    above = {"x", "W1", "b1", "add", "broadcast", "contract", "tanh"}
    cone = {b["label"] for b in boxes(page).values() if b["cone"]}
    assert above < cone
    assert "y" not in cone
    assert "W2" not in cone


def test_a_kernel_shows_its_code_and_its_time(network: str, step: Any, visit: Visit, shoot: Shoot) -> None:
    page = visit(network)
    go(page, "program")
    kernel = next(s for s in step.program.steps if s.source)
    (box,) = (b for b in boxes(page).values() if kernel.name in b["detail"] and b["detail"].startswith("step 1 "))
    click(page, box)
    assert "for" in page.locator("pre").inner_text() or "parallel" in page.locator("pre").inner_text()
    page.get_by_role("tab", name="Python").click()
    assert page.locator("pre").inner_text().strip() == kernel.source.strip()
    page.get_by_role("tab", name="LLVM").click()
    assert f"define noundef i64 @{kernel.name}" in page.locator("pre").inner_text()
    assert "µs" in page.locator(".time b").inner_text()
    assert "of the roof" in page.locator(".time span").inner_text()
    shoot(page, "viewer-kernel")
    go(page, "kernels")
    page.click("#collapse")
    click(page, next(b for b in boxes(page).values() if b["label"].startswith("step 1:")))
    assert page.get_by_role("tab", name="LLVM").get_attribute("aria-selected") == "true", "the language stays chosen"
    assert "µs" in page.locator(".time b").inner_text()


def test_names_are_text_everywhere(tmp_path: Path, visit: Visit, shoot: Shoot) -> None:
    inputs = [sg.vector(name, shape="n") for name in NASTY]
    with sg.scope(NASTY[0]):
        y = sg.exp(inputs[0]) * inputs[1]
    z = y + inputs[2] * inputs[3]
    z.name = NASTY[1]
    path = tmp_path / "names.html"
    viz.html(z, path, title=NASTY[1], collapse=True)
    page = visit(path.as_uri())
    assert page.locator("h1").inner_text() == NASTY[1]
    assert page.title().startswith("</script>")
    for what in ("#collapse", "#expand"):
        page.click(what)
        for box in list(boxes(page).values()):
            click(page, box)
            assert page.locator("aside h2").inner_text().startswith(box["label"][:20])
    for name in NASTY:
        page.fill("#search", name)
        assert any(name in t for t in page.locator("#found b").all_inner_texts())
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 2
    shoot(page, "viewer-names")


def test_the_keyboard_reaches_everything(network: str, visit: Visit) -> None:
    page = visit(network)
    page.click("#expand")
    seen = []
    page.locator("#search").focus()
    for _ in range(12):
        seen.append(page.evaluate("document.activeElement.tagName + ' ' + (document.activeElement.textContent || '')"))
        page.keyboard.press("Tab")
    assert seen[0].startswith("INPUT")
    assert "BUTTON Fit" in seen
    assert any(s.startswith("BUTTON written") for s in seen)
    assert any(s.startswith("CANVAS") for s in seen)
    page.locator("canvas").focus()
    page.keyboard.press("ArrowDown")
    first = page.evaluate("viewer.state().selected")
    page.keyboard.press("ArrowDown")
    second = page.evaluate("viewer.state().selected")
    assert first != second
    assert page.locator("#live").inner_text()
    page.keyboard.press("ArrowUp")
    assert page.evaluate("viewer.state().selected") in boxes(page)
    page.keyboard.press("Escape")
    assert page.evaluate("viewer.state().selected") is None
    before = page.evaluate("viewer.state().zoom")
    page.keyboard.press("+")
    assert page.evaluate("viewer.state().zoom") > before
    page.keyboard.press(".")
    assert page.evaluate("viewer.state().stage") == "intern"
    page.locator(".strip [aria-current]").focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("viewer.state().stage") == "sizes"
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "search"
    unnamed = page.locator("button").evaluate_all(
        "all => all.filter(b => !(b.getAttribute('aria-label') || b.textContent).trim()).length"
    )
    assert unnamed == 0


def test_dark_and_light_can_be_switched(network: str, visit: Visit) -> None:
    page = visit(network)
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.get_by_role("button", name="Dark or light").click()
    dark = page.evaluate(ground)
    assert dark != light
    assert painted(page) > 0.01
    page.get_by_role("button", name="Dark or light").click()
    assert page.evaluate(ground) == light


def test_zooming_and_moving(network: str, visit: Visit) -> None:
    page = visit(network)
    box = named(page, "x")
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.wheel(0, -200)
    page.wait_for_timeout(200)
    after = named(page, "x")
    assert after["width"] > 1.1 * box["width"]
    assert abs(after["x"] + after["width"] / 2 - x) < 1, "what is under the pointer stays there"
    page.mouse.move(400, 700)
    page.mouse.down()
    page.mouse.move(430, 650, steps=4)
    page.mouse.up()
    assert named(page, "x")["x"] - after["x"] == pytest.approx(30)
    page.get_by_role("button", name="Show all of it").click()
    for b in boxes(page).values():
        assert 0 < b["x"] < 950
        assert 80 < b["y"] < 800


def test_in_a_sandboxed_frame(step: Any, tmp_path: Path, visit: Visit, shoot: Shoot) -> None:
    frame = f'<iframe sandbox="allow-scripts" srcdoc="{html.escape(packed(viz.html(step, native=False)))}"></iframe>'
    path = tmp_path / "frame.html"
    path.write_text(f"<!doctype html><style>iframe{{width:900px;height:480px}}</style>{frame}")
    page = visit(path.as_uri())
    inner = page.frame_locator("iframe")
    inner.locator(".strip button", has_text="decompose").click()
    assert inner.locator("aside h2").inner_text() == "decompose"
    shoot(page, "viewer-frame")


def test_a_small_window(network: str, visit: Visit, shoot: Shoot) -> None:
    page = visit(network, viewport={"width": 420, "height": 760})
    assert painted(page) > 0.01
    assert page.evaluate("document.documentElement.scrollWidth") <= 420
    shoot(page, "viewer-small")


def test_five_thousand_nodes_are_fluid(tmp_path: Path, visit: Visit) -> None:
    x = sg.vector("x", shape="n")
    h: Any = x
    for k in range(50):
        with sg.scope(f"block{k}"):
            for _ in range(21):
                h = np.tanh(h) * h + np.exp(h) - x
    graph = sg.Graph([x], [h])
    assert len(graph.nodes) > 5000
    path = tmp_path / "large.html"
    viz.html([Subject(graph).stage("written")], path)
    page = visit(path.as_uri())
    page.click("#expand")
    assert len(boxes(page)) > 5000
    near = page.evaluate("viewer.time(10)")
    page.get_by_role("button", name="Show all of it").click()
    far = page.evaluate("viewer.time(10)")
    print(f"{near:.1f} ms a frame from near, {far:.1f} ms with all in view")
    assert max(near, far) < 60  # 3 to 9 ms on an idle machine
