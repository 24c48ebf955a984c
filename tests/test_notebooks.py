"""The notebooks as they are committed: run from top to bottom, readable on the web, nothing of the machine in them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))

pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason="distributions come without notebooks")


def cells(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return found


def test_there_are_six() -> None:
    assert [p.name[:2] for p in NOTEBOOKS] == ["01", "02", "03", "04", "05", "06"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_outputs_are_those_of_one_run(path: Path) -> None:
    code = [c for c in cells(path) if c["cell_type"] == "code"]
    assert [c["execution_count"] for c in code] == list(range(1, len(code) + 1))
    kinds = [(o["output_type"], o.get("name")) for c in code for o in c["outputs"]]
    assert not [k for k in kinds if k[0] == "error" or k[1] == "stderr"]
    assert any(k[0] in ("display_data", "execute_result") for k in kinds)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_nothing_of_the_machine_is_in_it(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.encode()) < 600_000, "the web shows no larger ones"
    for cell in cells(path):
        assert cell["metadata"] == {}, "times and the state of an editor are stripped by `make notebooks`"
        for output in cell.get("outputs", ()):
            plain = "".join(output.get("text", output.get("data", {}).get("text/plain", "")))
            assert not re.search(r"(?<![\w.<])/(?:\w+/)+\w+|0x[0-9a-f]{8}|<string>", plain), "a path or an address"
    assert not re.search(r"/(home|root|tmp|work|Users)/", text)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_images_are_seen_where_scripts_and_frames_are_stripped(path: Path) -> None:
    for cell in cells(path):
        for output in cell.get("outputs", ()):
            page = "".join(output.get("data", {}).get("text/html", ""))
            if "<iframe" in page:
                assert re.search(r'<img alt="[^"]+" [^>]*src="data:image/svg\+xml;base64,', page)
