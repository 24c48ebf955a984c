"""What importing symgraph and building a graph brings in: NumPy, and nothing that is slow to import."""

import subprocess
import sys

import pytest

SLOW = {"graphlay", "llvmlite", "networkx", "numba", "scipy", "sklearn", "symgraph_kernels", "tqdm"}

IMPORT = "import symgraph as sg"
BUILD = """
x = sg.matrix("x", shape=("n", 3))
w = sg.shared([1.0, 2.0, 3.0], name="w")
sg.grad(sg.sum(sg.tanh(x * w)), [w])
sg.vmap
"""


@pytest.mark.parametrize("program", [IMPORT, IMPORT + BUILD], ids=["import", "build"])
def test_needs_numpy_only(program: str) -> None:
    listing = "import sys\nprint(*{name.partition('.')[0] for name in sys.modules}, *sys.modules)"
    command = [sys.executable, "-W", "error", "-c", f"{program}\n{listing}"]
    loaded = set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    assert "symgraph" in loaded
    assert not loaded & SLOW
    assert "symgraph.viz" not in loaded


def test_viz_is_there_when_it_is_asked_for() -> None:
    program = "import symgraph as sg\nprint(len(sg.viz.svg(sg.scalar('x'), engine='builtin')))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, capture_output=True, text=True)
    assert int(done.stdout) > 1000
