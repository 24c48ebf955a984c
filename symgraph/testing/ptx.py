"""Kernels for GPUs, assembled by ``ptxas``: what each needs of a multiprocessor. Needs no GPU.

::

    assemble({name: ptx, ...}, cc=(9, 0)) -> {name: Resources}
    resources(kernels, ccs) -> {cc: {name: Resources}}          from source, several processes at once

``ptxas`` is that of the package ``nvidia-cuda-nvcc``, which has to be of the same version as NVVM
(``nvidia-nvvm``): an older one refuses what NVVM writes. ``pip install 'symgraph-compiler[cuda-test]'`` gets both.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Protocol

from symgraph.errors import MissingDeviceError, SymgraphError
from symgraph.loop.ir import Param

CCS = ((7, 5), (8, 0), (9, 0), (10, 0), (12, 0))
"""Compute capabilities that every kernel is assembled for: Turing, Ampere, Hopper, and Blackwell twice."""
BATCH = 24
"""Kernels that one run of ptxas assembles."""

CC = tuple[int, int]


class AssemblerError(SymgraphError):
    """``ptxas`` refused a kernel."""


@dataclass(frozen=True)
class Resources:
    """What a kernel needs, as ``ptxas`` says, and what its PTX has.

    Attributes:
        registers: of a thread.
        spills: bytes that a thread moves between registers and memory for want of registers, stores and loads.
        stack: bytes of local memory of a thread.
        shared: bytes of shared memory of a block.
        wide_loads, wide_stores: instructions that move 16 bytes between registers and global memory.
        loads, stores: all instructions that move between registers and global memory; not counted are those from
            tables of libdevice, which are read through the cache for constants.
    """

    registers: int
    spills: int
    stack: int
    shared: int
    wide_loads: int
    wide_stores: int
    loads: int
    stores: int


class Source(Protocol):
    """A kernel before it is compiled, such as those of :func:`symgraph.lower`."""

    @property
    def name(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def params(self) -> Sequence[Param]: ...


def find_ptxas() -> Path | None:
    """The ``ptxas`` of the package ``nvidia-cuda-nvcc``, where that is installed."""
    spec = find_spec("nvidia")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for found in sorted(Path(folder).glob("cu*/bin/ptxas"), reverse=True):
            return found
    return None


# -- reading -----------------------------------------------------------------------------------------------------------

_ENTRY = re.compile(r"Compiling entry function '(\w+)'")
_SPILL = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers")
_SHARED = re.compile(r"(\d+) bytes smem")
_MOVES = re.compile(r"^\s*(?:@!?%p\d+ )?(ld|st)\.global(?!\.nc)\S*?(?:\.(v[248]))?\.[bfsu](8|16|32|64)\s", re.MULTILINE)
_UNUSED = re.compile(r"^\.common .* _ZN08NumbaEnv\w+;\n", re.MULTILINE)


def moves(ptx: str) -> dict[str, int]:
    """How many instructions of a kernel move elements from or to global memory, and how many of these 16 bytes."""
    found = dict.fromkeys(("loads", "stores", "wide_loads", "wide_stores"), 0)
    for kind, vector, bits in _MOVES.findall(ptx):
        key = "loads" if kind == "ld" else "stores"
        found[key] += 1
        found[f"wide_{key}"] += int(vector[1:] or 1) * int(bits) == 128 if vector else 0
    return found


def body(ptx: str) -> str:
    """PTX without the head of a module, and without Numba's words for exceptions, which no kernel refers to."""
    return _UNUSED.sub("", ptx[ptx.index(".address_size 64") + len(".address_size 64") :])


def head(ptx: str) -> str:
    """The head of a module: version, target, and size of addresses."""
    return ptx[: ptx.index(".address_size 64") + len(".address_size 64")]


# -- assembling --------------------------------------------------------------------------------------------------------


def assemble(texts: Mapping[str, str], cc: CC) -> dict[str, Resources]:
    """Assemble PTX to machine code for compute capability ``cc``; texts and results by the name of the kernel.

    Raises:
        MissingDeviceError: there is no ``ptxas``.
        AssemblerError: a kernel is refused.
    """
    ptxas = find_ptxas()
    if ptxas is None:
        raise MissingDeviceError("ptxas is not installed: pip install 'symgraph-compiler[cuda-test]'")
    out: dict[str, Resources] = {}
    names = list(texts)
    for at in range(0, len(names), BATCH):
        found = _together(ptxas, names[at : at + BATCH], texts, cc)
        out.update((n, Resources(**f, **moves(texts[n]))) for n, f in found.items())
    return out


def _together(ptxas: Path, names: Sequence[str], texts: Mapping[str, str], cc: CC) -> dict[str, dict[str, int]]:
    """One module of several kernels: a process for each would take longer than the work.

    Kernels that bring the same function of libdevice cannot be in one, and are parted.
    """
    module = "\n".join([head(texts[names[0]]), *(body(texts[n]) for n in names)])
    try:
        found = _run(ptxas, module, cc)
    except AssemblerError:
        if len(names) == 1:
            raise
        half = len(names) // 2
        return {**_together(ptxas, names[:half], texts, cc), **_together(ptxas, names[half:], texts, cc)}
    return {n: found[n] for n in names}


def _run(ptxas: Path, module: str, cc: CC) -> dict[str, dict[str, int]]:
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder, "module.ptx")
        where.write_text(module)
        command = [str(ptxas), f"-arch=sm_{cc[0]}{cc[1]}", "-v", "-o", str(Path(folder, "module.cubin")), str(where)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssemblerError(f"ptxas for {cc}: {done.stdout}{done.stderr}")
    found: dict[str, dict[str, int]] = {}
    for chunk in _ENTRY.split(done.stderr + done.stdout)[1:]:
        if re.fullmatch(r"\w+", chunk):
            found[chunk] = current = {"registers": 0, "spills": 0, "stack": 0, "shared": 0}
            continue
        # Functions that are called by the kernel come with it.
        for stack, stores, loads in _SPILL.findall(chunk):
            current["stack"] = max(current["stack"], int(stack))
            current["spills"] += int(stores) + int(loads)
        current["registers"] = max(map(int, _USED.findall(chunk)), default=0)
        current["shared"] = max(map(int, _SHARED.findall(chunk)), default=0)
    return found


# -- from source -------------------------------------------------------------------------------------------------------


def resources(kernels: Iterable[Source], ccs: Sequence[CC] = CCS, processes: int = 2) -> dict[CC, dict[str, Resources]]:
    """Compile and assemble kernels for several compute capabilities; equal ones (by name) once."""
    jobs = [(k.name, k.source, tuple(k.params)) for k in {k.name: k for k in kernels}.values()]
    # Dealt out in turns: kernels of one operation, and so of one size, stand side by side.
    count = max(1, min(len(jobs), processes * 8))
    parts = [jobs[k::count] for k in range(count)]
    out: dict[CC, dict[str, Resources]] = {cc: {} for cc in ccs}
    if processes == 1:
        done = [_compiled(p, ccs) for p in parts]
    else:
        with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
            done = list(pool.map(_compiled, parts, [ccs] * len(parts)))
    for found in done:
        for cc in ccs:
            out[cc].update(found[cc])
    return out


def _compiled(jobs: Sequence[tuple[str, str, tuple[Param, ...]]], ccs: Sequence[CC]) -> dict[CC, dict[str, Resources]]:
    from symgraph.emit.numba_cuda import ptx_of_each

    texts = {name: ptx_of_each(source, name, params, ccs) for name, source, params in jobs}
    return {cc: assemble({name: t[cc] for name, t in texts.items()}, cc) for cc in ccs}
