"""From a fresh process to the network's first step: compiled anew, from the disk cache, at another batch size."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.harness import Array, Case, Clock, Measures, Row, as_arrays, use_torch
from benchmarks.rows import network

DTYPE, BATCH, OTHER = "float32", 32, 48


def _steady(call: Callable[[], Any]) -> float:
    times = []
    for _ in range(5):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def measured(
    case: Case, modules: Sequence[str], build: Callable[[], Any], values: Callable[[Any], list[Array]] = as_arrays
) -> Measures:
    """Import, build, compile, call; then a batch size that was not seen before."""
    clock = Clock()
    for name in modules:
        importlib.import_module(name)
    imported = clock.lap()
    before = time.process_time()
    f = build()
    small, large = network.draw(BATCH, DTYPE), network.draw(OTHER, DTYPE)
    first = f(*small)
    ready = clock.lap()
    cpu = time.process_time() - before
    f(*large)
    new = clock.lap()
    columns = {
        "first result": ready,
        "processor": cpu,
        "with imports": imported + ready,
        "new batch size": max(0.0, new - _steady(lambda: f(*large))),
    }
    return Measures(columns, values(first))


def symgraph(case: Case) -> Measures:
    # What compiles is imported when it is first needed: it is given to the imports where it is needed at all.
    lazy = ["symgraph.runtime.function", "symgraph.autodiff.reverse"]
    if case["cache"] == "empty":
        lazy += ["symgraph.emit.numba_cpu", "symgraph_kernels.cpu.gemm_ir"]
    return measured(case, ["symgraph", *lazy], lambda: network.build(DTYPE))


def jax(case: Case) -> Measures:
    def build() -> Any:
        import jax

        f = network.build_jax()
        return lambda x, y, *w: jax.block_until_ready(f(list(w), x, y))

    return measured(case, ["jax", "jax.numpy", "jax.scipy"], build, lambda r: as_arrays([r[0], *r[1]]))


def pytensor(case: Case) -> Measures:
    return measured(case, ["pytensor", "pytensor.tensor"], lambda: network.build_pytensor(DTYPE))


def torch_compile(case: Case) -> Measures:
    def build() -> Any:
        torch = use_torch()
        step = torch.compile(network.torch_step(torch))

        def call(x: Array, y: Array, *weights: Array) -> Any:
            held = [torch.from_numpy(w.T.copy()).requires_grad_() for w in weights]
            loss = step(torch.from_numpy(x), torch.from_numpy(y), *held)
            return [loss.detach(), *torch.autograd.grad(loss, held)]

        return call

    return measured(case, ["torch"], build, lambda r: [v.numpy().T for v in r])


ROW = Row(
    key="cold",
    title="cold compile of the network's step (784-256-256-10, batch 32, float32)",
    target="at most 2 s; from disk at most 0.2 s; nothing for a new batch size",
    cases=[Case("empty cache", {"cache": "empty"}), Case("from disk", {"cache": "keep"})],
    once={"symgraph": symgraph, "jax": jax, "torch.compile": torch_compile, "pytensor": pytensor},
    columns={"first result": "s", "processor": "s", "with imports": "s", "new batch size": "s"},
    rtol=1e-4,
    repeats=3,
    text=(
        "First result: build, differentiate, compile and the first call, after the imports; processor: of that. "
        "New batch size: what the first call with batch 48 takes longer than later ones."
    ),
)
