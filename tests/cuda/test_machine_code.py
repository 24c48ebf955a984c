"""Machine code for GPUs: made without one, and kept on disk by source, versions and compute capability."""

from __future__ import annotations

from pathlib import Path

import pytest

from symgraph.emit import numba_cuda
from symgraph.runtime.driver import CubinCache
from symgraph.runtime.gpu import _packing

if numba_cuda.simulated():
    pytest.skip("the simulator compiles nothing", allow_module_level=True)

SOURCE, NAME, PARAMS = _packing(2, 4)


def test_code_is_made_once_and_found_again(tmp_path: Path) -> None:
    first = CubinCache((9, 0), tmp_path)
    code = first.code(SOURCE, NAME, PARAMS)
    assert code.startswith(b"\x7fELF")
    assert NAME.encode() in code
    again = CubinCache((9, 0), tmp_path)
    assert again.code(SOURCE, NAME, PARAMS) == code
    assert (first.compiled, again.compiled) == (1, 0)
    other = CubinCache((7, 5), tmp_path)
    assert other.code(SOURCE, NAME, PARAMS) != code
    assert other.compiled == 1
    (entry,) = [p for p in tmp_path.iterdir() if code in p.read_bytes()]
    entry.write_bytes(entry.read_bytes()[:-1])
    broken = CubinCache((9, 0), tmp_path)
    assert broken.code(SOURCE, NAME, PARAMS).startswith(b"\x7fELF")
    assert broken.compiled == 1
