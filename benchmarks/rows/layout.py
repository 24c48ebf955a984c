"""The first call with an argument of another memory layout: does anything compile, and what does the call cost?"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.harness import Array, Case, Measures, Row, as_arrays, threads_now, use_jax

SHAPE, COLUMNS = (512, 784), 64


def draw() -> list[Array]:
    """x, W."""
    rng = np.random.default_rng(0)
    return [rng.normal(size=SHAPE), rng.normal(size=(SHAPE[1], COLUMNS)) / 28]


def formula(m: Any, x: Any, W: Any) -> Any:
    return m.sum(m.tanh(x @ W) ** 2)


def measured(case: Case, call: Callable[[Array, Array], Any]) -> Measures:
    """Milliseconds of first calls over those of a usual call."""
    x, W = draw()
    values = as_arrays(call(x, W))

    def seconds(a: Array) -> float:
        start = time.process_time()
        call(a, W)
        return time.process_time() - start

    usual = min(seconds(x) for _ in range(7))
    wide = np.zeros((SHAPE[0], 2 * SHAPE[1]))
    wide[:, ::2] = x
    locked = x.copy()
    locked.flags.writeable = False
    turned = np.asfortranarray(x)
    start = time.process_time()
    back = np.ascontiguousarray(turned)
    copy = time.process_time() - start
    del back
    return Measures(
        {
            "Fortran": 1e3 * (seconds(turned) - usual),
            "strided": 1e3 * (seconds(wide[:, ::2]) - usual),
            "read-only": 1e3 * (seconds(locked) - usual),
            "usual call": 1e3 * usual,
            "a copy": 1e3 * copy,
        },
        values,
    )


def symgraph(case: Case) -> Measures:
    import symgraph as sg

    x, W = sg.matrix("x", shape=("n", "m")), sg.matrix("W", shape=("m", "k"))
    loss = formula(sg, x, W)
    return measured(case, sg.function([x, W], [loss, sg.grad(loss, W)], threads=threads_now()))


def jax(case: Case) -> Measures:
    jax = use_jax()
    f = jax.jit(jax.value_and_grad(lambda W, x: formula(jax.numpy, x, W)))
    return measured(case, lambda x, W: jax.block_until_ready(f(W, x)))


def pytensor(case: Case) -> Measures:
    import pytensor
    import pytensor.tensor as pt

    x, W = pt.matrix("x", dtype="float64"), pt.matrix("W", dtype="float64")
    loss = formula(pt, x, W)
    return measured(case, pytensor.function([x, W], [loss, pytensor.grad(loss, W)]))


ROW = Row(
    key="layout",
    title="first call with an argument that is Fortran-ordered, strided, or read-only: ms over a usual call",
    target="no compilation, at most a copy",
    cases=[Case("tanh(x W), x 512 × 784")],
    once={"symgraph": symgraph, "jax": jax, "pytensor": pytensor},
    columns={"Fortran": "ms", "strided": "ms", "read-only": "ms", "usual call": "ms", "a copy": "ms"},
    ratios=False,
    threads=1,
    repeats=3,
    text="Processor time, which other processes disturb least. A copy: of the Fortran-ordered array, to C order.",
)
