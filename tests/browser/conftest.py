"""Chromium, driven by Playwright: Debian's, with the network off. Without either of them these tests are skipped."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

SHOTS = Path(__file__).parents[2] / "build" / "screenshots"
NAMES = ("chromium", "chromium-browser", "google-chrome")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("browser")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """The browser, started once."""
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright: make test-browser")
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Any) -> Iterator[Callable[..., Any]]:
    """``visit(url, **options)``: a page in a window of its own, offline unless ``offline=False``.

    When the test is over, its console has to be empty and no dialog may have come up. ``noise``: what may be there.
    """
    contexts: list[Any] = []
    said: list[str] = []

    def open_page(url: str, noise: tuple[str, ...] = (), **options: Any) -> Any:
        options = {"offline": True, "viewport": {"width": 1280, "height": 800}, **options}
        context = chromium.new_context(**options)
        contexts.append(context)
        page = context.new_page()

        def note(text: str) -> None:
            if not any(n in text for n in noise):
                said.append(text)

        def dialog(d: Any) -> None:
            note(f"dialog: {d.message}")
            d.dismiss()

        page.on("console", lambda message: note(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: note(f"error: {error}"))
        page.on("dialog", dialog)
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not said


@pytest.fixture
def shoot() -> Callable[[Any, str], Path]:
    """``shoot(page, name)`` keeps a screenshot below ``build/screenshots``."""

    def shot(page: Any, name: str) -> Path:
        SHOTS.mkdir(parents=True, exist_ok=True)
        path = SHOTS / f"{name}.png"
        page.screenshot(path=path)
        return path

    return shot
