"""One fused elementwise expression over a million numbers: exp(-t²)(1 - t²) + log(1 + exp(x - y)), t = tanh(2x + y)."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.harness import Array, Case, Row, Work, as_arrays, threads_now, use_jax, use_torch


def draw(case: Case) -> list[Array]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=case["n"]) for _ in range(2)]


def formula(m: Any, x: Any, y: Any) -> Any:
    """In the functions of ``m``, which are NumPy's by name everywhere."""
    t = m.tanh(2 * x + y)
    return m.exp(-t * t) * (1 - t * t) + m.log(1 + m.exp(x - y))


def symgraph(case: Case) -> Work:
    import symgraph as sg

    x, y = sg.vector("x", shape=("n",)), sg.vector("y", shape=("n",))
    f, (a, b) = sg.function([x, y], formula(sg, x, y), threads=threads_now()), draw(case)
    return Work(lambda: f(a, b), lambda r: as_arrays([r]))


def numpy(case: Case) -> Work:
    a, b = draw(case)
    return Work(lambda: formula(np, a, b), lambda r: [r])


def jax(case: Case) -> Work:
    jax = use_jax()
    f = jax.jit(lambda x, y: formula(jax.numpy, x, y))
    a, b = jax.device_put(tuple(draw(case)))
    return Work(lambda: f(a, b).block_until_ready(), lambda r: as_arrays([r]))


def _torch(case: Case, compiled: bool) -> Work:
    torch = use_torch()

    def f(x: Any, y: Any) -> Any:
        return formula(torch, x, y)

    g = torch.compile(f) if compiled else f
    a, b = (torch.from_numpy(v) for v in draw(case))

    def call() -> Any:
        with torch.no_grad():
            return g(a, b)

    return Work(call, lambda r: [r.numpy()])


def torch_eager(case: Case) -> Work:
    return _torch(case, compiled=False)


def torch_compile(case: Case) -> Work:
    return _torch(case, compiled=True)


def pytensor(case: Case) -> Work:
    import pytensor
    import pytensor.tensor as pt

    x, y = pt.vector("x", dtype="float64"), pt.vector("y", dtype="float64")
    f, (a, b) = pytensor.function([x, y], formula(pt, x, y), trust_input=True), draw(case)
    return Work(lambda: f(a, b), lambda r: [r])


def numexpr(case: Case) -> Work:
    import numexpr

    numexpr.set_num_threads(threads_now())
    x, y = draw(case)
    text = "exp(-tanh(2*x+y)**2)*(1-tanh(2*x+y)**2)+log(1+exp(x-y))"
    return Work(lambda: numexpr.evaluate(text, {"x": x, "y": y}), lambda r: [r])


ROW = Row(
    key="elementwise",
    title="exp(-t²)(1 - t²) + log(1 + exp(x - y)), t = tanh(2x + y), float64",
    target="at most 0.7 times torch.compile",
    cases=[Case("10⁶ elements", {"n": 1_000_000})],
    timed={
        "symgraph": symgraph,
        "torch.compile": torch_compile,
        "jax": jax,
        "torch": torch_eager,
        "numexpr": numexpr,
        "pytensor": pytensor,
        "numpy": numpy,
    },
    rtol=1e-11,
)
