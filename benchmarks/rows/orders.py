"""Derivatives of orders 1 to 10: Taylor mode and repeated grad, beside nested jax.grad and jax.experimental.jet."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.harness import Case, Row, Work, as_arrays, use_jax

POINTS = 10_000
X = np.linspace(-2, 2, POINTS)
ORDERS = range(1, 11)
HIDDEN = 16

_rng = np.random.default_rng(0)
W1, B1, B2, W3 = _rng.normal(size=(4, HIDDEN))
W2 = _rng.normal(size=(HIDDEN, HIDDEN)) / np.sqrt(HIDDEN)

# Each function of one variable twice: of a vector of points, in symgraph; and of one point, in jax.numpy.
FUNCTIONS: dict[str, tuple[Callable[[Any, Any], Any], Callable[[Any, Any], Any]]] = {
    "tanh(sin x · exp(−x²) + cos 3x)": (
        lambda m, x: m.tanh(m.sin(x) * m.exp(-x * x) + m.cos(3 * x)),
        lambda jax, x: jax.numpy.tanh(jax.numpy.sin(x) * jax.numpy.exp(-x * x) + jax.numpy.cos(3 * x)),
    ),
    "exp(sin x)/(1 + x²)": (
        lambda m, x: m.exp(m.sin(x)) / (1 + x * x),
        lambda jax, x: jax.numpy.exp(jax.numpy.sin(x)) / (1 + x * x),
    ),
    "sin(sin(sin x))": (
        lambda m, x: m.sin(m.sin(m.sin(x))),
        lambda jax, x: jax.numpy.sin(jax.numpy.sin(jax.numpy.sin(x))),
    ),
    "softplus x": (lambda m, x: m.softplus(x), lambda jax, x: jax.nn.softplus(x)),
    "w₃ · tanh(W₂ tanh(w₁ x + b₁) + b₂)": (
        lambda m, x: m.tanh(m.tanh(m.expand_dims(x, 1) * W1 + B1) @ W2 + B2) @ W3,
        lambda jax, x: jax.numpy.tanh(jax.numpy.tanh(x * W1 + B1) @ W2 + B2) @ W3,
    ),
    "log-sum-exp of (x, 2x, x²)": (
        lambda m, x: m.logsumexp(m.stack([x, 2 * x, x * x], axis=1), axis=1),
        lambda jax, x: jax.nn.logsumexp(jax.numpy.stack([x, 2 * x, x * x])),
    ),
}
# jet has no rule for what jax.nn.softplus is made of.
JET = {"softplus x": lambda jax, x: jax.numpy.log1p(jax.numpy.exp(x))}


def _symgraph(case: Case, derive: Callable[[Any, Any, Any, int], Any]) -> Work:
    import symgraph as sg

    if not case["cold"]:  # what is imported when it is first needed is not part of compiling this
        v = sg.vector("v")
        sg.function([v], sg.derivative(v, v, 1) + sg.grad(sg.sum(v), v), threads=1)(X)
    start = time.perf_counter()
    x = sg.vector("x", shape="n")
    y = derive(sg, FUNCTIONS[case["function"]][0](sg, x), x, case["order"])
    f = sg.function([x], y, threads=1)
    f(X)
    seconds = time.perf_counter() - start
    cost = f.cost.at(n=POINTS)
    facts = {
        "compile": seconds,
        "nodes": len(sg.Graph([x], [y]).nodes),
        "left": len(f.optimized.nodes),
        "flops": (int(cost.flops) + int(cost.transcendentals)) / POINTS,
    }
    return Work(lambda: f(X), lambda r: as_arrays([r]), facts)


def taylor(case: Case) -> Work:
    return _symgraph(case, lambda sg, y, x, n: sg.derivative(y, x, n))


def repeated(case: Case) -> Work:
    def derive(sg: Any, y: Any, x: Any, n: int) -> Any:
        for _ in range(n):
            y = sg.grad(sg.sum(y), x)
        return y

    return _symgraph(case, derive)


def _jax(case: Case, derive: Callable[[Any, Callable[[Any], Any], int], Callable[[Any], Any]], of: Any) -> Work:
    jax = use_jax()
    at = jax.device_put(X)
    if not case["cold"]:
        jax.block_until_ready(jax.jit(lambda v: v + 1)(at))
    start = time.perf_counter()
    each = jax.vmap(derive(jax, lambda x: of(jax, x), case["order"]))
    f = jax.jit(each)
    jax.block_until_ready(f(at))
    facts = {"compile": time.perf_counter() - start, "nodes": _equations(jax.make_jaxpr(each)(at).jaxpr)}
    return Work(lambda: jax.block_until_ready(f(at)), lambda r: as_arrays([r]), facts)


def _equations(jaxpr: Any) -> int:
    """Of a jaxpr, with those of the functions that it calls."""
    total = 0
    for equation in jaxpr.eqns:
        inner = [p for p in equation.params.values() if hasattr(p, "jaxpr")]
        total += sum(_equations(p.jaxpr) for p in inner) or 1
    return total


def nested(case: Case) -> Work:
    def derive(jax: Any, f: Callable[[Any], Any], n: int) -> Callable[[Any], Any]:
        for _ in range(n):
            f = jax.grad(f)
        return f

    return _jax(case, derive, FUNCTIONS[case["function"]][1])


def jet(case: Case) -> Work:
    def derive(jax: Any, f: Callable[[Any], Any], n: int) -> Callable[[Any], Any]:
        from jax.experimental.jet import jet

        return lambda x: jet(f, (x,), ((1.0, *[0.0] * (n - 1)),))[1][-1]

    return _jax(case, derive, JET.get(case["function"], FUNCTIONS[case["function"]][1]))


CONTENDERS = {"derivative": taylor, "grad": repeated, "jax.grad": nested, "jet": jet}
QUOTIENT = "exp(sin x)/(1 + x²)"
COLD = ((10, ("derivative", "jet")), (6, ("grad", "jax.grad")))
"""Orders of the quotient that are also compiled as the first thing that a process does, and by which ways."""
ROW = Row(
    key="orders",
    title="derivatives of orders 1 to 10",
    target="no slower than the better of the two ways of JAX",
    cases=[
        *(
            Case(f"{name}, order {n}", {"function": name, "order": n, "cold": False})
            for name in FUNCTIONS
            for n in ORDERS
        ),
        *(Case(f"cold: order {n}", {"function": QUOTIENT, "order": n, "cold": True}) for n, _ in COLD),
    ],
    timed=CONTENDERS,
    threads=1,
)
