"""A real kernel of Jupyter: what its cells show, and that errors name cell and line."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.util import find_spec
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(
    any(find_spec(m) is None for m in ("nbclient", "nbformat", "ipykernel")), reason="needs a kernel of Jupyter"
)

NASTY = "<img src=x onerror=alert(1)>"
CELLS = [
    "import numpy as np\nimport symgraph as sg",
    "x = sg.vector('x', shape=3)\ns = sg.scalar('s')\nsg.grad(sg.softplus(s), s)",
    "f = sg.function([x], sg.exp(x), target='numpy')\nf",
    "f.trace(np.ones(3))",
    f"v = sg.vector({NASTY!r})\nsg.Graph([v], [v + 1])",
    "# the next line is wrong\nsg.vector('a', shape=3) + sg.vector('b', shape=4)",
    "g = sg.function([x], sg.sqrt(x), check='nan', target='numpy')\ng(-np.ones(3))",
    "print(sg.latex(x), [k for k in sg.progress(range(2))])",
]
RUN = """
import json, sys
import nbclient, nbformat
book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in json.load(sys.stdin)])
nbclient.NotebookClient(book, timeout=120, allow_errors=True, kernel_name="python3").execute()
page = ""
try:
    import nbconvert
    page = nbconvert.HTMLExporter().from_notebook_node(book)[0]
except ImportError:
    pass
json.dump([[c.outputs for c in book.cells], page], sys.stdout)
"""


@pytest.fixture(scope="module")
def ran() -> tuple[list[list[dict[str, Any]]], str]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RUN],
        input=json.dumps(CELLS),
        capture_output=True,
        text=True,
        timeout=200,
    )
    if done.returncode and "No such kernel" in done.stderr:
        pytest.skip("no kernel called python3 is installed")
    assert done.returncode == 0, done.stderr[-2000:]
    outputs, page = json.loads(done.stdout)
    return outputs, page


def test_cells_show_formulas_summaries_tables_and_pictures(ran: tuple[list[list[dict[str, Any]]], str]) -> None:
    outputs, _ = ran
    assert outputs[1][0]["data"]["text/latex"] == r"$\displaystyle \sigma(s) \qquad {\small \in \mathtt{float64}}$"
    assert outputs[2][0]["data"]["text/html"].startswith("<table>")
    assert "<td" in outputs[3][0]["data"]["text/html"]
    assert outputs[3][0]["data"]["text/plain"].startswith("name")
    graph = outputs[4][0]["data"]["text/html"]
    assert re.search(r"<img [^>]*src=\"data:image/svg\+xml;base64,|<pre>", graph)
    assert NASTY not in graph
    assert "onerror=alert(1)&gt;" in graph


def test_errors_name_cell_and_line(ran: tuple[list[list[dict[str, Any]]], str]) -> None:
    outputs, _ = ran
    error = outputs[5][-1]
    assert error["ename"] == "SizeError"
    assert error["evalue"].endswith("(cell 6:2)")
    error = outputs[6][-1]
    assert error["ename"] == "NonFiniteError"
    assert error["evalue"].endswith("(cell 7:1)")


def test_loops_run_with_a_line_of_progress(ran: tuple[list[list[dict[str, Any]]], str]) -> None:
    outputs, _ = ran
    text = "".join(o.get("text", "") for o in outputs[7] if o.get("name") == "stdout")
    assert text.strip() == "x [0, 1]"


def test_exported_pages_hold_names_as_text(ran: tuple[list[list[dict[str, Any]]], str]) -> None:
    _, page = ran
    if not page:
        pytest.skip("needs nbconvert")
    source_cells = page.count("onerror=alert(1)")
    assert source_cells
    assert NASTY not in re.sub(r"srcdoc='[^']*'", "", page)
