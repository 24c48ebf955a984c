"""The first notebook in JupyterLab, as a person uses it: run, looked at, and opened by somebody who has not run it."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

Visit = Callable[..., Any]
Shoot = Callable[[Any, str], Path]

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "notebooks" / "01_graph_derivative_kernels.ipynb"
SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},  # every cell is in the page, seen or not
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}

pytestmark = [
    pytest.mark.skipif(find_spec("jupyterlab") is None, reason="needs jupyterlab: make test-browser"),
    pytest.mark.skipif(not NOTEBOOK.exists(), reason="distributions come without notebooks"),
]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """JupyterLab on loopback, in a folder of its own, with nothing of the user's. The URL by notebook.

    ``fresh.ipynb`` has no outputs; ``received.ipynb`` is as it was committed, and this server has not run it.
    """
    folder = tmp_path_factory.mktemp("lab")
    book = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    (folder / "received.ipynb").write_text(json.dumps(book), encoding="utf-8")
    for cell in book["cells"]:
        if cell["cell_type"] == "code":
            cell.update(outputs=[], execution_count=None)
    (folder / "fresh.ipynb").write_text(json.dumps(book), encoding="utf-8")
    own = {f"JUPYTER_{what}_DIR": str(folder / what.lower()) for what in ("CONFIG", "DATA", "RUNTIME")}
    own |= {f"JUPYTERLAB_{what}_DIR": str(folder / what.lower()) for what in ("SETTINGS", "WORKSPACES")}
    for name, values in SETTINGS.items():
        path = folder / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values), encoding="utf-8")
    token = secrets.token_hex(16)
    options = {
        "ServerApp.ip": "127.0.0.1", "ServerApp.port": "0", "ServerApp.root_dir": str(folder),
        "ServerApp.open_browser": "False", "IdentityProvider.token": token, "ServerApp.allow_root": "True",
        "ServerApp.allow_remote_access": "False", "LabApp.extension_manager": "readonly",
    }  # fmt: skip
    paths = [str(ROOT), str(ROOT / "kernels"), os.environ.get("PYTHONPATH", "")]
    own["CI"] = "1"  # no line of progress
    own["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    log = (folder / "server.log").open("w")
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", *(f"--{name}={value}" for name, value in options.items())],
        cwd=folder, env={**os.environ, **own}, stdout=log, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        address = _address(server, folder / "runtime", folder / "server.log")
        # A workspace for each: in a common one, the tab of the notebook before would come back, and hide this one.
        yield lambda name: f"{address}lab/workspaces/{Path(name).stem}/tree/{name}?token={token}"
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
        log.close()


def _address(server: subprocess.Popen[bytes], runtime: Path, log: Path) -> str:
    """Where the server answers, when it does."""
    for _ in range(600):
        assert server.poll() is None, log.read_text()[-3000:]
        for info in runtime.glob("jpserver-*.json"):
            try:
                url: str = json.loads(info.read_text())["url"]
                urllib.request.urlopen(f"{url}api", timeout=5).close()
            except (OSError, ValueError, KeyError):  # half written, or not yet listening
                continue
            return url
        time.sleep(0.1)
    raise AssertionError(log.read_text()[-3000:])


@pytest.fixture
def opened(lab: Callable[[str], str], visit: Visit) -> Callable[[str], Any]:
    """``opened(name)``: the page of a notebook, when its cells are there. JupyterLab's own console is not ours."""

    def at(name: str) -> Any:
        page = visit(lab(name), noise=("",), offline=False, viewport={"width": 1400, "height": 1000})
        page.locator(".jp-Notebook .jp-MarkdownOutput h1").first.wait_for(timeout=60_000)
        return page

    return at


def run_all(page: Any) -> None:
    """Run every cell by the menu, and wait for the last."""
    page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for(timeout=60_000)
    cells = page.locator(".jp-CodeCell")
    for _ in range(3):  # a kernel that is just starting may not take it
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        page.wait_for_timeout(3000)
        if cells.first.locator(".jp-InputPrompt").inner_text().strip() != "[ ]:":
            break
    last = cells.nth(cells.count() - 1).locator(".jp-InputPrompt")
    wrong = page.locator("[data-mime-type='application/vnd.jupyter.error']")
    for _ in range(600):
        if re.fullmatch(r"\[\d+\]:", last.inner_text().strip()):
            return
        assert wrong.count() == 0, wrong.first.inner_text()
        page.wait_for_timeout(100)
    raise AssertionError(f"the last cell has not run: {last.inner_text()}")


def seen(image: Any) -> bool:
    """Whether an image was drawn, with a size that can be seen."""
    image.scroll_into_view_if_needed()
    for _ in range(50):
        if image.evaluate("i => i.complete && i.naturalWidth > 50 && i.clientWidth > 50 && i.clientHeight > 50"):
            return True
        image.page.wait_for_timeout(100)
    return False


def viewer(page: Any, number: int) -> Any:
    """The frame of a viewer, when its script runs."""
    frame = page.locator(".jp-OutputArea-output iframe").nth(number)
    frame.scroll_into_view_if_needed()
    inside = frame.element_handle().content_frame()
    inside.locator("#search").wait_for(timeout=20_000)
    frame.evaluate("f => f.scrollIntoView({ block: 'center' })")  # a frame out of sight does not move
    page.wait_for_timeout(300)
    return inside


def settle(frame: Any) -> dict[str, dict[str, Any]]:
    """The boxes of a viewer, by key, when nothing moves any more."""
    for _ in range(200):
        if not frame.evaluate("viewer.state().moving"):
            return {b["key"]: b for b in frame.evaluate("viewer.boxes()")}
        frame.page.wait_for_timeout(20)
    raise AssertionError("it does not come to rest")


def overlapping(boxes: dict[str, dict[str, Any]]) -> list[tuple[str, str]]:
    found = list(boxes.values())
    return [
        (a["key"], b["key"])
        for k, a in enumerate(found)
        for b in found[k + 1 :]
        if a["x"] + a["width"] > b["x"] + 0.01
        and b["x"] + b["width"] > a["x"] + 0.01
        and a["y"] + a["height"] > b["y"] + 0.01
        and b["y"] + b["height"] > a["y"] + 0.01
    ]


def test_run_and_looked_at(opened: Callable[[str], Any], shoot: Shoot) -> None:
    page = opened("fresh.ipynb")
    run_all(page)
    assert page.locator(".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
    page.locator(".jp-Notebook h1").first.scroll_into_view_if_needed()
    page.wait_for_timeout(500)
    shoot(page, "jupyterlab-top")

    formulas = page.locator(".jp-RenderedLatex mjx-container")
    assert formulas.count() == 2
    assert all(f.bounding_box()["width"] > 50 for f in formulas.all())

    pictures = page.locator("img[src^='data:image/svg+xml;base64,']:visible")
    assert pictures.count() >= 8
    assert all(seen(p) for p in pictures.all())
    pictures.nth(1).scroll_into_view_if_needed()
    shoot(page, "jupyterlab-derivative")

    # The graph's viewer, in its frame: passes, search, groups.
    frame = viewer(page, 0)
    assert page.locator("img:visible[alt^='<graph']").count() == 0, "the viewer stands in the place of its picture"
    written = settle(frame)
    assert len(written) == 10
    assert not overlapping(written)
    box = frame.locator("canvas").bounding_box()
    assert box["width"] > 300
    assert box["height"] > 200
    frame.locator(".strip button", has_text="canonicalize").click()
    assert frame.locator("aside h2").inner_text() == "canonicalize"
    assert any("multiply_by_itself" in t for t in frame.locator(".fired li").all_inner_texts())
    assert any(b["label"] == "square" and b["changed"] for b in settle(frame).values())
    frame.locator("#search").fill("tanh")
    frame.locator("#search").press("Enter")
    assert frame.locator("aside h2").inner_text() == "tanh"
    assert "cell 2:4" in frame.locator("dl").inner_text()
    shoot(page.locator(".jp-NotebookPanel"), "jupyterlab-viewer")

    # The function's viewer, folded under its summary: kernels and their code.
    fold = page.locator(".jp-OutputArea-output details")
    for _ in range(3):  # the first click may select the cell, and move what is below the pointer
        fold.locator("summary").click()
        page.wait_for_timeout(300)
        if fold.get_attribute("open") is not None:
            break
    frame = viewer(page, 1)
    frame.locator(".strip button", has_text="kernels").click()
    frame.locator("#collapse").click()
    collapsed = settle(frame)
    frame.locator("#expand").click()
    expanded = settle(frame)
    assert len(collapsed) < len(expanded)
    assert not overlapping(collapsed)
    assert not overlapping(expanded)
    frame.locator(".strip button", has_text="program").click()
    kernel = next(b for b in settle(frame).values() if b["detail"].startswith("step 1 "))
    at = page.locator(".jp-OutputArea-output iframe").nth(1).bounding_box()
    page.mouse.click(at["x"] + kernel["x"] + kernel["width"] / 2, at["y"] + kernel["y"] + kernel["height"] / 2)
    frame.get_by_role("tab", name="Python").click()
    assert "tanh(" in frame.locator("pre").inner_text()
    shoot(page, "jupyterlab-kernel")
    page.keyboard.press("Control+s")


def test_received_and_not_trusted(opened: Callable[[str], Any], shoot: Shoot) -> None:
    page = opened("received.ipynb")
    page.locator("img[src^='data:image/svg+xml;base64,']").first.wait_for(timeout=30_000)
    assert (
        page.locator(".jp-OutputArea-output iframe, .jp-OutputArea-output script, .jp-OutputArea-output style").count()
        == 0
    )
    graph = page.locator("img[alt^='<graph']")
    assert graph.count() == 1
    assert seen(graph), "the picture, which the viewer hid, is what is left"
    shoot(page, "jupyterlab-untrusted")
    pictures = page.locator(".jp-OutputArea-output > img:visible, .jp-OutputArea-output div > img:visible")
    assert pictures.count() >= 9
    assert page.locator(".jp-RenderedLatex mjx-container").count() == 2
