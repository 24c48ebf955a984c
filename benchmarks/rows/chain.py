"""A chain of sines and its derivative: does building, differentiating and compiling grow with the length?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.harness import Case, Clock, Measures, Row, use_jax, use_torch

X = 0.5


def measured(
    case: Case, build: Callable[[int], Any], differentiate: Callable[[Any], Any], compile: Callable[[Any, Any], Any]
) -> Measures:
    """``compile`` includes a first call, which returns the derivative."""
    n = case["n"]
    clock = Clock()
    y = build(n)
    built = clock.lap()
    g = differentiate(y)
    differentiated = clock.lap()
    f = compile(y, g)
    value = np.asarray(f(X))
    compiled = clock.lap()
    f(X)
    columns = {
        "all": built + differentiated + compiled,
        "build": built,
        "differentiate": differentiated,
        "compile": compiled,
        "run": 1e3 * clock.lap(),
    }
    return Measures(columns, [value.reshape(())])


def sines(sin: Callable[[Any], Any], x: Any, n: int) -> Any:
    for _ in range(n):
        x = sin(x)
    return x


def symgraph(case: Case) -> Measures:
    import symgraph as sg

    x = sg.scalar("x")
    return measured(
        case, lambda n: sines(sg.sin, x, n), lambda y: sg.grad(y, x), lambda y, g: sg.function([x], g, threads=1)
    )


def jax(case: Case) -> Measures:
    jax = use_jax()

    def build(n: int) -> Any:
        return lambda x: sines(jax.numpy.sin, x, n)

    return measured(case, build, jax.grad, lambda y, g: jax.jit(g))


def pytensor(case: Case) -> Measures:
    import pytensor
    import pytensor.tensor as pt

    x = pt.scalar("x", dtype="float64")
    return measured(
        case,
        lambda n: sines(pt.sin, x, n),
        lambda y: pytensor.grad(y, x),
        lambda y, g: pytensor.function([x], g, trust_input=False),
    )


def casadi(case: Case) -> Measures:
    import casadi

    x = casadi.SX.sym("x")
    return measured(
        case,
        lambda n: sines(casadi.sin, x, n),
        lambda y: casadi.gradient(y, x),
        lambda y, g: casadi.Function("g", [x], [g]),
    )


def torch_eager(case: Case) -> Measures:
    torch = use_torch()

    def run(value: float) -> Any:
        x = torch.tensor(value, dtype=torch.float64, requires_grad=True)
        return torch.autograd.grad(sines(torch.sin, x, case["n"]), x)[0].numpy()

    return measured(case, lambda n: None, lambda y: None, lambda y, g: run)


ROW = Row(
    key="chain",
    title="chain of sines with its derivative: seconds to build, differentiate, compile",
    target="10,000 in at most 15 s; growth linear to 100,000",
    cases=[Case(f"{n:,} sines", {"n": n}) for n in (1_000, 10_000, 100_000)],
    once={"symgraph": symgraph, "jax": jax, "pytensor": pytensor, "casadi": casadi, "torch": torch_eager},
    columns={"all": "s", "build": "s", "differentiate": "s", "compile": "s", "run": "ms"},
    floors=("casadi", "torch"),
    threads=1,
    text="CasADi interprets scalar expressions and compiles nothing; PyTorch builds nothing ahead of a call.",
)
