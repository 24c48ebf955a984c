"""Occupancy against ``cuda_occupancy.h`` of the CUDA toolkit, compiled by the C compiler of the machine."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

from symgraph.runtime.occupancy import KIB, MULTIPROCESSORS, occupancy, resident_blocks

THREADS = (32, 64, 96, 128, 256, 512, 1024)
REGISTER_COUNTS = (16, 24, 32, 33, 40, 64, 65, 80, 96, 128, 168, 200, 255)
SHARED = (0, 128, 384, 1000, 16 * KIB, 33 * KIB, 48 * KIB)

PROGRAM = """
#include <stdio.h>
#include <string.h>
#include <limits.h>
#include <stddef.h>
#define __OCC_INLINE inline
#include "cuda_occupancy.h"
int main(void) {
    int major, minor, threads, registers;
    size_t shared, sm_threads, sm_shared, reserved;
    while (scanf("%d %d %d %d %zu %zu %zu %zu", &major, &minor, &threads, &registers, &shared, &sm_threads, &sm_shared,
                 &reserved) == 8) {
        cudaOccDeviceProp p; memset(&p, 0, sizeof p);
        cudaOccFuncAttributes a; memset(&a, 0, sizeof a);
        cudaOccDeviceState s; memset(&s, 0, sizeof s);
        cudaOccResult r;
        p.computeMajor = major; p.computeMinor = minor; p.maxThreadsPerBlock = 1024;
        p.maxThreadsPerMultiprocessor = sm_threads; p.regsPerBlock = p.regsPerMultiprocessor = 65536; p.warpSize = 32;
        p.sharedMemPerBlock = 49152; p.sharedMemPerMultiprocessor = sm_shared; p.numSms = 1;
        p.sharedMemPerBlockOptin = sm_shared - reserved; p.reservedSharedMemPerBlock = reserved;
        a.maxThreadsPerBlock = 1024; a.numRegs = registers; a.sharedSizeBytes = shared;
        s.carveoutConfig = 100;
        int e = cudaOccMaxActiveBlocksPerMultiprocessor(&r, &p, &a, &s, threads, 0);
        printf("%d\\n", e ? -e : r.activeBlocksPerMultiprocessor);
    }
}
"""


def header() -> Path | None:
    spec = find_spec("nvidia")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for found in Path(folder).glob("cu*/include/cuda_occupancy.h"):
            return found
    return None


@pytest.mark.skipif(header() is None or shutil.which("g++") is None, reason="needs CUDA's headers and a C compiler")
def test_against_the_toolkit(tmp_path: Path) -> None:
    found = header()
    assert found is not None
    (tmp_path / "main.cpp").write_text(PROGRAM)
    command = ["g++", "-w", f"-I{found.parent}", "-o", str(tmp_path / "main"), str(tmp_path / "main.cpp")]
    subprocess.run(command, check=True)
    cases = list(itertools.product(MULTIPROCESSORS, THREADS, REGISTER_COUNTS, SHARED))
    lines = []
    for cc, threads, registers, shared in cases:
        m = MULTIPROCESSORS[cc]
        lines.append(f"{cc[0]} {cc[1]} {threads} {registers} {shared} {m.threads} {m.shared} {m.reserved}")
    done = subprocess.run([tmp_path / "main"], input="\n".join(lines), text=True, capture_output=True, check=True)
    assert [int(n) for n in done.stdout.split()] == [resident_blocks(*c) for c in cases]


def test_what_limits() -> None:
    assert occupancy((9, 0), 256, 32) == 1.0
    assert occupancy((9, 0), 256, 64) == 0.5  # registers
    assert resident_blocks((9, 0), 32, 16) == 32  # blocks: half of the threads
    assert occupancy((9, 0), 32, 16) == 0.5
    assert resident_blocks((7, 5), 128, 16, 32 * KIB) == 2  # shared memory
    assert resident_blocks((9, 0), 1024, 255) == 0  # more registers than there are
    assert occupancy((8, 0), 48, 16) == occupancy((8, 0), 64, 16)  # whole warps
