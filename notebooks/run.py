"""Run the notebooks of this folder, several at a time: all, to see that they run; ``--inplace`` keeps the outputs.

A cell that raises, or writes to stderr as warnings do, is an error. What is kept has no times, no paths and no facts
about the machine but what the cells print.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

HERE = Path(__file__).parent
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def run(path: Path, keep: bool) -> str:
    """Run a notebook. Returns what went wrong, which is nothing where all went well."""
    book = nbformat.read(path, as_version=4)
    client = NotebookClient(
        book, timeout=120, kernel_name="python3", record_timing=False, coalesce_streams=True,
        resources={"metadata": {"path": str(path.parent)}},
    )  # fmt: skip
    start = time.perf_counter()
    try:
        client.execute()
    except CellExecutionError as error:
        return re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    said = [f"cell {k}: {text}" for k, cell in enumerate(book.cells) for text in _stderr(cell)]
    print(f"{path.name}: {time.perf_counter() - start:.0f} s", flush=True)
    if keep and not said:
        tidy(book)
        nbformat.write(book, path)
    return "\n".join(said)


def _stderr(cell: Any) -> list[str]:
    outputs = cell.get("outputs", ())
    return [o["text"] for o in outputs if o["output_type"] == "stream" and o["name"] == "stderr"]


def tidy(book: Any) -> None:
    """Leave nothing that differs from machine to machine or from run to run without reason."""
    book.metadata = nbformat.from_dict(METADATA)
    for k, cell in enumerate(book.cells):
        cell["id"] = f"cell-{k:02}"
        cell["metadata"] = {}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebooks", nargs="*", type=Path, help="all by default")
    parser.add_argument("--inplace", action="store_true", help="keep the outputs")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at a time; 1 for quiet timings")
    options = parser.parse_args()
    # No lines of progress, plots as images, and the checkout of this script whatever else is installed.
    root = HERE.parent
    paths = [str(root), str(root / "kernels"), os.environ.get("PYTHONPATH", "")]
    os.environ.update(CI="1", MPLBACKEND="module://matplotlib_inline.backend_inline")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    notebooks = [p.resolve() for p in options.notebooks] or sorted(HERE.glob("*.ipynb"))
    with ProcessPoolExecutor(options.jobs) as pool:
        failures = list(pool.map(run, notebooks, [options.inplace] * len(notebooks)))
    for path, failure in zip(notebooks, failures, strict=True):
        if failure:
            print(f"{path.name}:\n{failure}", file=sys.stderr)
    return int(any(failures))


if __name__ == "__main__":
    sys.exit(main())
