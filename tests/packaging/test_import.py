"""What importing symgraph and building a graph brings in: NumPy, and nothing that is slow to import."""

import subprocess
import sys

import pytest

SLOW = {"llvmlite", "networkx", "numba", "scipy", "sklearn", "symgraph_kernels", "tqdm"}

IMPORT = "import symgraph as sg"
BUILD = """
x = sg.matrix("x", shape=("n", 3))
w = sg.shared([1.0, 2.0, 3.0], name="w")
sg.grad(sg.sum(sg.tanh(x * w)), [w])
sg.vmap
"""


@pytest.mark.parametrize("program", [IMPORT, IMPORT + BUILD], ids=["import", "build"])
def test_needs_numpy_only(program: str) -> None:
    listing = "import sys\nprint(*{name.partition('.')[0] for name in sys.modules})"
    command = [sys.executable, "-W", "error", "-c", f"{program}\n{listing}"]
    loaded = set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    assert "symgraph" in loaded
    assert not loaded & SLOW
