"""Peak memory of the gradient of one matrix that twelve products use: a recurrent network's weights, unrolled."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Array, Case, Measures, Row, as_arrays, threads_now, use_jax, use_torch

STEPS, BATCH = 12, 16
SMALL = 64


def draw(n: int) -> list[Array]:
    """h, W."""
    rng = np.random.default_rng(0)
    return [rng.normal(size=(BATCH, n)), rng.normal(size=(n, n)) / np.sqrt(n)]


def formula(m: Any, h: Any, W: Any) -> Any:
    for _ in range(STEPS):
        h = m.tanh(h @ W)
    return m.sum(h * h)


def _status(key: str) -> float:
    """MB of a line of this process's status."""
    text = Path("/proc/self/status").read_text()
    return int(text.split(f"{key}:")[1].split()[0]) / 1024


def measured(case: Case, call: Callable[[Array, Array], Any], values: Callable[[Any], list[Array]]) -> Measures:
    """Peak of a first call with the large matrix over what the process held before; small ones have warmed all up."""
    n = case["n"]
    call(*draw(SMALL))
    h, W = draw(n)
    gc.collect()
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts anew
    result = call(h, W)
    peak = _status("VmHWM")
    loss, g = values(result)
    return Measures(
        {"peak": peak - before, "peak / matrix": (peak - before) / (W.nbytes / 2**20)},
        [loss, g[::31, ::37].copy(), np.asarray(np.linalg.norm(g))],
    )


def graph() -> tuple[list[Any], list[Any]]:
    """symgraph's inputs and outputs."""
    import symgraph as sg

    h, W = sg.matrix("h", shape=(BATCH, "n")), sg.matrix("W", shape=("n", "n"))
    loss = formula(sg, h, W)
    return [h, W], [loss, sg.grad(loss, W)]


def symgraph(case: Case) -> Measures:
    import symgraph as sg

    f = sg.function(*graph(), threads=threads_now())
    return measured(case, f, as_arrays)


def jax(case: Case) -> Measures:
    jax = use_jax()
    f = jax.jit(jax.value_and_grad(lambda W, h: formula(jax.numpy, h, W)))
    h, W = draw(case["n"])
    ready = f.lower(W, h).compile()

    def call(h: Array, W: Array) -> Any:
        small = len(W) == SMALL
        return jax.block_until_ready((f if small else ready)(W, h))

    return measured(case, call, as_arrays)


def torch_eager(case: Case) -> Measures:
    torch = use_torch()

    def call(h: Array, W: Array) -> Any:
        w = torch.from_numpy(W).requires_grad_()
        loss = formula(torch, torch.from_numpy(h), w)
        return [loss.detach(), *torch.autograd.grad(loss, [w])]

    return measured(case, call, lambda r: [v.numpy() for v in r])


def pytensor(case: Case) -> Measures:
    import pytensor
    import pytensor.tensor as pt

    h, W = pt.matrix("h", dtype="float64"), pt.matrix("W", dtype="float64")
    loss = formula(pt, h, W)
    f = pytensor.function([h, W], [loss, pytensor.grad(loss, W)], trust_input=True)
    return measured(case, f, as_arrays)


ROW = Row(
    key="memory",
    title="peak memory of the gradient of one 61 MB matrix that 12 products use",
    target="at most 1.5 times the matrix",
    cases=[Case("2828 × 2828 float64", {"n": 2828})],
    once={"symgraph": symgraph, "jax": jax, "torch": torch_eager, "pytensor": pytensor},
    columns={"peak": "MB", "peak / matrix": ""},
    text="Resident memory at its peak during a call less that before it; the result (one matrix) counts.",
)
