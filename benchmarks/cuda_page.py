"""docs/cuda.md: how kernels for GPUs are made and what they need, from the compiler as it is.

    python -m benchmarks.cuda_page            compiles every kernel for every compute capability, and writes the page
    python -m benchmarks.cuda_page --check    the same, but only fails where a kernel is refused or spills

Needs no GPU; some minutes on two cores. ``make cuda-table``, ``make check-cuda``
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import symgraph as sg
from benchmarks.cuda_table import Found, Row, family_table, kernel_table, model_table, registry, rows, survey
from symgraph import index as ix
from symgraph.passes.fuse import Kernel
from symgraph.testing.ptx import CC, CCS, Resources, find_ptxas

PAGE = Path(__file__).parent.parent / "docs" / "cuda.md"
NAMES = "/".join(f"{a}.{b}" for a, b in CCS)

HEAD = f"""# Kernels for GPUs

Made by `make cuda-table` from what the compiler makes now.

1. [What has run, and where](#what-has-run-and-where) · 2. [One kernel's way](#one-kernels-way) ·
3. [Kernels of the benchmarks](#kernels-of-the-benchmarks) · 4. [Kernels of the registry](#kernels-of-the-registry) ·
5. [What is proved](#what-is-proved) · 6. [A model of time](#a-model-of-time)

## What has run, and where

On a GPU: nothing yet. No figure on this page is a time that was measured.

Without a GPU, by `.ci/run`: every operation of the registry (values, gradients and their gradients) on Numba's
CUDA simulator, where each thread of a launch is a thread of Python; all of them lane by lane, watched for races;
[proofs](#what-is-proved) about their loops; and every kernel of this page compiled to PTX by NVVM, and assembled to
machine code by `ptxas`, for compute capabilities {NAMES.replace("/", ", ")} (`make check-cuda`).

What this cannot show: that shuffles within warps, which the simulator replaces by shared memory, do what is meant;
that results agree with the CPU's beyond what the same operations in the same order give; and how long anything
takes. Products of matrices are here the tiles of shared memory, which use no tensor cores; where cuBLAS is installed, a
function gives it the large ones (`blas="auto"`), of which this page says nothing.

"""

PROVED = """## What is proved

`symgraph.loop.check` proves for each kernel, for both targets and for all values of symbolic sizes: loads and
stores stay within their buffers, and indices are divided by nothing that may be 0; two iterations that run at the same
time never store to one element, nor does one load what another stores without a barrier in between, atomic additions
aside, also where the memory plan puts two tensors into one buffer; barriers are reached by all lanes of a group or by
none. Warp shuffles count as no barrier, nor does a barrier in a branch or in a loop that may have no turn. The suite
does it for every kernel of the registry and of the rows of the benchmarks (of chains up to 1,000 long), and none is
left undecided; kernels made wrong on purpose are each found out (`tests/loop/test_check.py`).

Products and sorts are not printed from loops: their kernels are text (`symgraph_kernels.cuda`). `symgraph.loop.text`
reads what runs, line by line, as loops in which the lanes of a group go side by side and meet at barriers, and these
are proved in the same way: matrices of all sizes, strides and batches that the suite's programs bring, and rows of all
lengths. What lanes touch in shared memory between two barriers is compared lane by lane, which is exact, since it does
not depend on sizes. Ends of a bisection, and what a loop counts, are bounded by what each turn keeps; that no two
elements of a short row are sorted to one place, by their being ranks in an order. Inequalities among sizes are sums of
known ones, found by linear programs and then summed up in fractions (`tests/loop/test_text.py`).

What is checked by running, and so for the sizes that are run: `symgraph.testing.races` runs a kernel's text lane by
lane in plain Python, from barrier to barrier, and reports accesses outside of buffers, two lanes that touch one element
of which one stores, with no barrier between them, lanes that wait where others do not, loads of memory that nothing
stored, and vectors that are not aligned. Matrix products are run by themselves, at every combination of sizes around
the edges of tiles (0, 1, one less and one more than a tile, a tile, two and one), of transposed operands and of
accumulation, with offsets, strides and batches; sorts in the same manner. With a barrier or a bound left out each is
found out. Every program of the registry is run so too, as a second opinion: it found a result that lay in the place
of an operand which other lanes had still to read, and a launch whose groups did one row several times; the proofs had
taken both for granted, and look at them now.

"""

MODEL = """## A model of time

Not a measurement: the least time that each row could take, step by step the longer of bytes over bandwidth and
FLOPs over peak, nothing for launches. Bytes are of distinct elements, FLOPs as in [cost.md](cost.md),
transcendental functions not counted. In parentheses the part of the time that steps take which bandwidth bounds.
Peaks, without tensor cores, are those of *NVIDIA H100 Tensor Core GPU Datasheet* (SXM: 3.35 TB/s, 67 TFLOP/s in
float32, 34 in float64) and *NVIDIA Ada GPU Architecture* (whitepaper; RTX 4090: 1,008 GB/s, 82.6 TFLOP/s in
float32, of which 1/64 in float64). Small rows take as long as their launches, some microseconds each; and an H100
has 50 MB of cache, an RTX 4090 72, in which whatever is smaller may stay.

"""


def index_form(step: Kernel) -> str:
    """The kernel's roots, ``out[i0] = expression``."""
    lines = []
    for r in step.roots:
        names = {e: f"i{k}" for k, e in enumerate(r.indices)}

        def show(e: ix.Expr, names: Mapping[ix.Expr, str] = names) -> str:
            e = ix.resolve(e)
            if e.fn == "index":
                return names.get(e, "k")
            if isinstance(e, ix.Access):
                return f"{e.variable.name or 'v'}[{', '.join(map(show, e.args))}]"
            if e.fn in ("const", "size"):
                return str(e.attr)
            return f"{e.fn}({', '.join(map(show, e.args))})"

        for v, value in zip(r.variables, r.values, strict=True):
            at = ", ".join(names[i] for i in r.indices)
            lines.append(f"{v.name or 'out'}[{at}] = {show(value)}")
    return "\n".join(lines)


def way() -> str:
    """One kernel, from the graph to machine code."""
    x, y = sg.vector("x", dtype="float32", shape=("n",)), sg.vector("y", dtype="float32", shape=("n",))
    made = sg.lower([x, y], sg.exp(x) * y + x, "cuda")
    (kernel,) = made.kernels
    (step,) = made.program.steps
    assert isinstance(step.step, Kernel)
    ptx = kernel.ptx((9, 0))
    moves = [line for line in ptx.splitlines() if re.search(r"(ld|st)\.global", line)]
    start = next(k for k, line in enumerate(ptx.splitlines()) if ".global.v4" in line)
    excerpt = "\n".join(line.strip() for line in ptx.splitlines()[start : start + 14])
    parts = [
        ("The optimized graph", str(made.graph)),
        ("Its index form", index_form(step.step)),
        ("Loops: 16 bytes at once where pointers are aligned, then the rest", kernel.loops.rstrip()),
        ("Source, for Numba-CUDA", kernel.source.rstrip()),
        (f"PTX for compute capability 9.0: the first lines of the wide loop, of {len(moves)} moves in all", excerpt),
        ("What `ptxas -v` says", assembled(ptx)),
    ]
    text = '## One kernel\'s way\n\n`sg.lower([x, y], sg.exp(x) * y + x, target="cuda")`, of float32 vectors.\n\n'
    return text + "\n".join(f"{title}:\n\n```\n{body}\n```\n" for title, body in parts) + "\n"


def assembled(ptx: str) -> str:
    """The lines of ``ptxas -v`` about the kernel."""
    ptxas = find_ptxas()
    assert ptxas is not None
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder, "kernel.ptx")
        where.write_text(ptx)
        command = [str(ptxas), "-arch=sm_90", "-v", "-o", str(where.with_suffix(".cubin")), str(where)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    keep = [
        line for line in (done.stderr + done.stdout).splitlines() if "gmem" not in line and "ompile time" not in line
    ]
    return "\n".join(line.replace("ptxas info    : ", "") for line in keep)


ROWS = f"""## Kernels of the benchmarks

Each distinct kernel at its first row. Registers and occupancy (of blocks of 256 threads, from registers and shared
memory: `symgraph.runtime.occupancy`) for compute capabilities {NAMES}; spills are bytes over all of them; shared
memory in bytes, and moves between registers and global memory, for 9.0. Loops of few operations for each byte move 16
bytes at once, and have the same loop again for what is left over.

"""

REGISTRY = """
## Kernels of the registry

Every operation in all dtypes that it takes, with sizes as symbols, its gradients and their gradients: {count:,}
distinct kernels, assembled for {names}. Local memory, in bytes, is that of libdevice's reduction of large arguments of
sines and cosines. {spills}

"""


def page(of: Sequence[Row], found: Found, got: Mapping[CC, Mapping[str, Resources]]) -> str:
    """The page as Markdown."""
    rows_that_spill = sorted(
        {row.what for row in of for k in row.made.kernels if any(got[cc][k.name].spills for cc in CCS)}
    )
    none = not any(got[cc][k].spills for cc in CCS for k in found.kernels)
    spills = "None of them spills registers." if none else "Some spill registers, which none should."
    if rows_that_spill:
        spills += f" Of the benchmarks' kernels those of {', '.join(rows_that_spill)} do, which fuse too much into one."
    registry_text = REGISTRY.format(count=len(found.kernels), names=NAMES, spills=spills)
    tables = (kernel_table(of, got), registry_text, family_table(found, got))
    return "".join((HEAD, way(), ROWS, *tables, "\n", PROVED, MODEL, model_table(of)))


def write(text: str) -> None:
    """To docs/cuda.md."""
    PAGE.write_text(text)


def spilling(got: Mapping[CC, Mapping[str, Resources]]) -> list[str]:
    """Kernels that move values between registers and memory for want of registers, in words."""
    return [
        f"{name} for {cc[0]}.{cc[1]}: {r.spills} bytes" for cc, of in got.items() for name, r in of.items() if r.spills
    ]


def main(check: bool) -> int:
    """Write the page, or say whether every kernel assembles and none spills. Returns an exit status."""
    of, found = rows(), registry()
    got = survey(of, found)
    if not check:
        write(page(of, found, got))
        return 0
    bad = spilling(got)
    count = len(got[CCS[0]])
    print(f"{count:,} kernels, assembled for {NAMES}: {len(bad) or 'none'} spill{'s' * (not bad)}", *bad, sep="\n  ")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
