"""Make the pictures of the README, ``docs/images``: the viewer in light and dark, a memory plan, the first notebook.

The notebook's is taken by the browser tests, so they run first (``make screenshots``).
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import symgraph as sg

HERE = Path(__file__).parent
IMAGES = HERE / "images"
SHOTS = HERE.parent / "build" / "screenshots"
NAMES = ("chromium", "chromium-browser", "google-chrome")


def network() -> Any:
    """The cost of a small network, with its gradients."""
    x, y = sg.matrix("x", shape=("batch", 64)), sg.matrix("y", shape=("batch", 10))
    W1, b1 = sg.matrix("W1", shape=(64, 32)), sg.vector("b1", shape=32)
    W2 = sg.matrix("W2", shape=(32, 10))
    with sg.scope("hidden"):
        h = sg.tanh(x @ W1 + b1)
    with sg.scope("loss"):
        cost = sg.mean(sg.square(h @ W2 - y))
    cost.name = "cost"
    gradients = sg.grad(cost, [W1, b1, W2])
    for g, name in zip(gradients, ("dW1", "db1", "dW2"), strict=True):
        g.name = name
    return sg.function([x, y, W1, b1, W2], [cost, *gradients], name="cost and gradients", threads=1)


def chain(layers: int, part: int) -> Any:
    """The gradients of a deep chain whose parts are computed again."""

    def several(h: Any, *weights: Any) -> Any:
        for W in weights:
            h = sg.tanh(h @ W)
        return h

    h = first = sg.matrix("x", shape=("batch", 128))
    weights = [sg.matrix(f"W{k}", shape=(128, 128)) for k in range(layers)]
    for k in range(0, layers, part):
        h = sg.checkpoint(several)(h, *weights[k : k + part])
    return sg.function([first, *weights], sg.grad(sg.mean(h**2), weights), name="16 layers with checkpoints", threads=1)


def choose(page: Any) -> None:
    """Choose a kernel of the program and show its code."""
    page.locator(".strip button", has_text="program").click()
    page.wait_for_timeout(500)
    boxes = page.evaluate("viewer.boxes()")
    kernel = next(b for b in boxes if "tanh" in b["label"])
    page.mouse.click(kernel["x"] + kernel["width"] / 2, kernel["y"] + kernel["height"] / 2)
    page.get_by_role("tab", name="Python").click()
    page.wait_for_timeout(500)


def shoot(browser: Any, fn: Any) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=[64 if isinstance(n, sg.Dim) else n for n in v.shape]) for v in fn.inputs]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "viewer.html"
        sg.viz.html(fn, path, profile=fn.profile(*arrays))
        for scheme in ("light", "dark"):
            page = browser.new_page(viewport={"width": 1080, "height": 720}, color_scheme=scheme)
            page.goto(path.as_uri())
            choose(page)
            page.screenshot(path=IMAGES / f"viewer-{scheme}.png")
            page.close()


def main() -> int:
    from playwright.sync_api import sync_playwright

    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    taken = SHOTS / "jupyterlab-viewer.png"
    if program is None or not taken.exists():
        print("needs Chromium, and the screenshots of `make test-browser`", file=sys.stderr)
        return 1
    IMAGES.mkdir(exist_ok=True)
    sg.viz.svg(chain(16, 4), IMAGES / "memory.svg", level="memory", sizes={"batch": 256})
    shutil.copy(taken, IMAGES / "notebook.png")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        shoot(browser, network())
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
