"""The sixth derivative of exp(sin x)/(1 + x²), by differentiating six times."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.harness import Array, Case, Clock, Measures, Row, use_jax

X = np.linspace(-2, 2, 1000)
ORDER = 6


def formula(m: Any, x: Any) -> Any:
    return m.exp(m.sin(x)) / (1 + x * x)


def measured(build: Callable[[], Any], compile: Callable[[Any], Callable[[Array], Any]], count: Any = None) -> Measures:
    """``compile`` and a first call on X."""
    clock = Clock()
    built = build()
    seconds = clock.lap()
    f = compile(built)
    values = np.asarray(f(X)).reshape(-1)
    compiled = clock.lap()
    f(X)
    run = clock.lap()
    columns = {"all": seconds + compiled, "build": seconds, "compile": compiled, "run": 1e3 * run}
    if count:
        columns |= count(built, f)
    return Measures(columns, [values])


def symgraph(case: Case) -> Measures:
    import symgraph as sg

    x = sg.vector("x", shape=("n",))

    def build() -> Any:
        d = formula(sg, x)
        for _ in range(ORDER):
            d = sg.grad(sg.sum(d), x)
        return d

    def count(d: Any, f: Any) -> dict[str, float]:
        return {"nodes built": len(sg.Graph([x], [d]).nodes), "nodes left": len(f.optimized.nodes)}

    return measured(build, lambda d: sg.function([x], d, threads=1), count)


def jax(case: Case) -> Measures:
    jax = use_jax()

    def build() -> Any:
        g: Any = lambda x: formula(jax.numpy, x)  # noqa: E731
        for _ in range(ORDER):
            g = jax.grad(g)
        return jax.vmap(g)

    def count(g: Any, f: Any) -> dict[str, float]:
        return {"nodes built": len(jax.make_jaxpr(g)(X).eqns)}

    return measured(build, jax.jit, count)


def pytensor(case: Case) -> Measures:
    import pytensor
    import pytensor.tensor as pt

    x = pt.vector("x", dtype="float64")

    def build() -> Any:
        d = formula(pt, x)
        for _ in range(ORDER):
            d = pytensor.grad(pt.sum(d), x)
        return d

    return measured(build, lambda d: pytensor.function([x], d))


def casadi(case: Case) -> Measures:
    import casadi

    x = casadi.SX.sym("x")

    def build() -> Any:
        d = formula(casadi, x)
        for _ in range(ORDER):
            d = casadi.gradient(d, x)
        return d

    def compile(d: Any) -> Any:
        f = casadi.Function("f", [x], [d])
        return lambda v: f(v.reshape(1, -1))

    return measured(build, compile, lambda d, f: {"nodes built": casadi.Function("f", [x], [d]).n_nodes()})


def autograd(case: Case) -> Measures:
    import autograd
    import autograd.numpy as anp

    def build() -> Any:
        g: Any = lambda x: formula(anp, x)  # noqa: E731
        for _ in range(ORDER):
            g = autograd.elementwise_grad(g)
        return g

    return measured(build, lambda g: g)


ROW = Row(
    key="sixth",
    title="sixth derivative of exp(sin x)/(1 + x²) by repeated grad",
    target="at most 3 s",
    cases=[Case("1000 points")],
    once={"symgraph": symgraph, "jax": jax, "pytensor": pytensor, "casadi": casadi, "autograd": autograd},
    columns={"all": "s", "build": "s", "compile": "s", "run": "ms", "nodes built": "", "nodes left": ""},
    floors=("casadi", "autograd"),
    threads=1,
    text="CasADi interprets scalar expressions and compiles nothing; autograd builds nothing ahead of a call.",
    rtol=1e-6,
)
