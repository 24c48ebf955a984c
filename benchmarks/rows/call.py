"""What a call costs: x + 1 on three floats."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.harness import Case, Row, Work, as_arrays, use_jax, use_torch

X = np.arange(3.0)


def _one(r: Any) -> Any:
    return as_arrays([r])


def symgraph(case: Case) -> Work:
    import symgraph as sg

    x = sg.vector("x", shape=("n",))
    f = sg.function([x], x + 1)
    return Work(lambda: f(X), _one)


def numpy(case: Case) -> Work:
    return Work(lambda: X + 1, _one)


def numba(case: Case) -> Work:
    import numba

    f = numba.njit(lambda x: x + 1)
    return Work(lambda: f(X), _one)


def jax(case: Case) -> Work:
    jax = use_jax()
    f = jax.jit(lambda x: x + 1)
    a = jax.device_put(X)
    return Work(lambda: f(a).block_until_ready(), _one)


def torch_eager(case: Case) -> Work:
    torch = use_torch()
    a = torch.from_numpy(X)
    return Work(lambda: a + 1, _one)


def pytensor(case: Case) -> Work:
    import pytensor
    import pytensor.tensor as pt

    x = pt.vector("x", dtype="float64")
    f = pytensor.function([x], x + 1, trust_input=True)
    return Work(lambda: f(X), _one)


def casadi(case: Case) -> Work:
    import casadi

    x = casadi.SX.sym("x", 3)
    f = casadi.Function("f", [x], [x + 1])
    return Work(lambda: f(X), lambda r: [np.asarray(r).ravel()])


ROW = Row(
    key="call",
    title="x + 1 on three floats",
    target="at most 1 µs",
    cases=[Case("float64[3]")],
    timed={
        "symgraph": symgraph,
        "numpy": numpy,
        "numba": numba,
        "torch": torch_eager,
        "pytensor": pytensor,
        "jax": jax,
        "casadi": casadi,
    },
    threads=1,
    calls=5_000,
)
