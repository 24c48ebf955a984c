"""The Hessian of logistic regression, by differentiating twice, beside the closed form X' D X written by hand."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.harness import Array, Case, Row, Work, as_arrays, threads_now, use_jax, use_torch


def draw(case: Case) -> list[Array]:
    """X, labels of -1 and 1, and weights."""
    n, d = case["rows"], case["parameters"]
    rng = np.random.default_rng(0)
    return [rng.normal(size=(n, d)), rng.choice([-1.0, 1.0], n), 0.1 * rng.normal(size=d)]


def graph() -> tuple[list[Any], Any]:
    """symgraph's inputs and output."""
    import symgraph as sg

    X, y, w = sg.matrix("X", shape=("n", "d")), sg.vector("y", shape="n"), sg.vector("w", shape="d")
    loss = sg.sum(sg.softplus(-y * (X @ w)))
    return [X, y, w], sg.hessian(loss, w)


def symgraph(case: Case) -> Work:
    import symgraph as sg

    f, values = sg.function(*graph(), threads=threads_now()), draw(case)
    return Work(lambda: f(*values), lambda r: as_arrays([r]))


def closed_form(case: Case) -> Work:
    """NumPy: with p = σ(Xw), the Hessian is X' diag(p (1 - p)) X, and does not depend on the labels."""
    X, _, w = draw(case)

    def call() -> Array:
        p = 1 / (1 + np.exp(-(X @ w)))
        made: Array = X.T @ (X * (p * (1 - p))[:, None])
        return made

    return Work(call, lambda r: as_arrays([r]))


def jax(case: Case) -> Work:
    jax = use_jax()
    X, y, w = jax.device_put(draw(case))
    f = jax.jit(jax.hessian(lambda w, X, y: jax.numpy.sum(jax.nn.softplus(-y * (X @ w)))))
    return Work(lambda: jax.block_until_ready(f(w, X, y)), lambda r: as_arrays([r]))


def torch(case: Case) -> Work:
    torch = use_torch()
    X, y, w = (torch.from_numpy(v) for v in draw(case))
    loss = lambda w: torch.nn.functional.softplus(-y * (X @ w)).sum()  # noqa: E731
    f = torch.func.hessian(loss)
    return Work(lambda: f(w), lambda r: as_arrays([r]))


def pytensor(case: Case) -> Work:
    import pytensor
    import pytensor.tensor as pt

    X, y, w = pt.dmatrix(), pt.dvector(), pt.dvector()
    loss: Any = pt.softplus(-y * (X @ w)).sum()
    # Vectorized over the rows of the identity: the better of its two ways (the other is a loop of products).
    g = pytensor.gradient.grad(loss, w)
    f = pytensor.function([X, y, w], pytensor.gradient.jacobian(g, w, vectorize=True), trust_input=True)
    values = draw(case)
    return Work(lambda: f(*values), lambda r: as_arrays([r]))


ROW = Row(
    key="hessian",
    title="Hessian of logistic regression",
    target="at most 1.2 times the closed form in NumPy",
    cases=[Case("400 parameters, 800 rows, float64", {"parameters": 400, "rows": 800})],
    timed={"symgraph": symgraph, "jax": jax, "torch": torch, "pytensor": pytensor, "closed form": closed_form},
    floors=("closed form",),
    threads=2,
    rtol=1e-9,
)
