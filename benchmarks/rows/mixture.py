"""A Gaussian mixture's objective and its gradient: the formula of ADBench (Microsoft, MIT license).

    f = -N D log(2π)/2 + Σᵢ logsumexpₖ(αₖ + Σ qₖ - ||Lₖ (xᵢ - μₖ)||²/2) - N logsumexp(α)
        + Σₖ (γ² (||exp qₖ||² + ||lₖ||²)/2 - m Σ qₖ) - K C
    C = n' D (log γ - log(2)/2) - logΓ_D(n'/2),   n' = D + m + 1

A row of ``icf`` holds q (logarithms of the diagonal of the lower triangular L) and then l (below it, column by column).
"""

from __future__ import annotations

from functools import cache
from math import lgamma, log, pi
from typing import Any

import numpy as np

from benchmarks.harness import Array, Case, Row, Work, as_arrays, threads_now, use_jax, use_torch

GAMMA, M = 1.0, 0


def draw(case: Case) -> list[Array]:
    """alpha, mu, icf, x."""
    d, k, n = case["d"], case["k"], case["n"]
    rng = np.random.default_rng(0)
    icf = 0.3 * rng.normal(size=(k, d + d * (d - 1) // 2))
    return [rng.normal(size=k), rng.uniform(size=(k, d)), icf, rng.normal(size=(n, d))]


def places(d: int) -> Array:
    """Where element (i, j) of L comes from in the row (exp q, l, 0)."""
    at = np.full((d, d), d + d * (d - 1) // 2)
    at[np.diag_indices(d)] = np.arange(d)
    columns, rows = np.triu_indices(d, 1)  # below the diagonal, column by column
    at[rows, columns] = np.arange(d, d + len(rows))
    return at.reshape(-1)


def constant(d: int, k: int, n: int, gamma: float = GAMMA, m: int = M) -> float:
    """The part of the objective that depends on sizes only."""
    wide = d + m + 1
    log_gamma = d * (d - 1) / 4 * log(pi) + sum(lgamma((wide - j) / 2) for j in range(d))
    return -n * d / 2 * log(2 * pi) - k * (wide * d * (log(gamma) - log(2) / 2) - log_gamma)


def formula(m: Any, at: Any, zero: Any, parameters: Any, x: Any, gamma: float = GAMMA, wish: int = M) -> Any:
    """In the functions of ``m``; ``zero`` is a column of zeros, ``at`` what :func:`places` returns."""
    alpha, mu, icf = parameters
    k, d = mu.shape
    n = x.shape[0]
    q, low = icf[:, :d], icf[:, d:]
    spread = m.exp(q)
    L = m.take(m.concatenate([spread, low, zero], 1), at, 1).reshape((k, d, d))
    y = m.einsum("kij,nkj->nki", L, x[:, None, :] - mu[None, :, :])
    inner = alpha + m.sum(q, 1) - 0.5 * m.sum(y * y, 2)
    prior = 0.5 * gamma**2 * (m.sum(spread * spread) + m.sum(low * low)) - wish * m.sum(q)
    return m.sum(m.logsumexp(inner, 1)) - n * m.logsumexp(alpha, 0) + prior


def graph(d: int, k: int, n: Any, gamma: float = GAMMA, m: int = M) -> tuple[list[Any], list[Any]]:
    """symgraph's inputs (alpha, mu, icf, x) and outputs: the objective without its constant, its gradient but for x."""
    import symgraph as sg

    alpha = sg.vector("alpha", shape=(k,))
    mu = sg.matrix("mu", shape=(k, d))
    icf = sg.matrix("icf", shape=(k, d + d * (d - 1) // 2))
    x = sg.matrix("x", shape=(n, d))
    f = formula(sg, places(d), np.zeros((k, 1)), [alpha, mu, icf], x, gamma, m)
    return [alpha, mu, icf, x], [f, *sg.grad(f, [alpha, mu, icf])]


def build(d: int, k: int, n: Any, gamma: float = GAMMA, m: int = M, threads: int | None = None) -> Any:
    """symgraph's function of what :func:`graph` says."""
    import symgraph as sg

    return sg.function(*graph(d, k, n, gamma, m), threads=threads)


def symgraph(case: Case) -> Work:
    f, values = build(case["d"], case["k"], case["n"], threads=threads_now()), draw(case)
    return Work(lambda: f(*values), as_arrays)


class _Jax:
    """jax.numpy with logsumexp."""

    def __init__(self, jax: Any) -> None:
        self.numpy, self.logsumexp = jax.numpy, jax.scipy.special.logsumexp

    def __getattr__(self, name: str) -> Any:
        return getattr(self.numpy, name)


def jax(case: Case) -> Work:
    jax = use_jax()
    at, zero = places(case["d"]), np.zeros((case["k"], 1))
    f = jax.jit(jax.value_and_grad(lambda p, x: formula(_Jax(jax), at, zero, p, x)))
    *parameters, x = jax.device_put(draw(case))
    return Work(lambda: jax.block_until_ready(f(parameters, x)), lambda r: as_arrays([r[0], *r[1]]))


class _Torch:
    """PyTorch under NumPy's names."""

    def __init__(self, torch: Any) -> None:
        self.torch = torch
        self.exp, self.sum, self.einsum, self.logsumexp = torch.exp, torch.sum, torch.einsum, torch.logsumexp

    def concatenate(self, parts: Any, axis: int) -> Any:
        return self.torch.cat(parts, axis)

    def take(self, x: Any, at: Any, axis: int) -> Any:
        return self.torch.index_select(x, axis, at)


def _torch(case: Case, compiled: bool) -> Work:
    torch = use_torch()
    at, zero = torch.from_numpy(places(case["d"])), torch.zeros((case["k"], 1), dtype=torch.float64)
    *parameters, x = (torch.from_numpy(v) for v in draw(case))
    for p in parameters:
        p.requires_grad_()

    def objective(alpha: Any, mu: Any, icf: Any) -> Any:
        return formula(_Torch(torch), at, zero, [alpha, mu, icf], x)

    f = torch.compile(objective) if compiled else objective

    def call() -> Any:
        value = f(*parameters)
        return [value, *torch.autograd.grad(value, parameters)]

    return Work(call, lambda r: [v.detach().numpy() for v in r])


def torch_eager(case: Case) -> Work:
    return _torch(case, compiled=False)


def torch_compile(case: Case) -> Work:
    return _torch(case, compiled=True)


@cache
def _pytensor_names() -> Any:
    import pytensor.tensor as pt

    class Names:
        def __getattr__(self, name: str) -> Any:
            return getattr(pt, name)

        def concatenate(self, parts: Any, axis: int) -> Any:
            return pt.concatenate(parts, axis=axis)

        def take(self, x: Any, at: Any, axis: int) -> Any:
            return pt.take(x, at, axis=axis)

    return Names()


def pytensor(case: Case) -> Work:
    import pytensor
    import pytensor.tensor as pt

    d, k, n = case["d"], case["k"], case["n"]
    shapes = [(k,), (k, d), (k, d + d * (d - 1) // 2), (n, d)]
    inputs = [pt.tensor(dtype="float64", shape=s) for s in shapes]
    f = formula(_pytensor_names(), places(d), np.zeros((k, 1)), inputs[:3], inputs[3])
    g = pytensor.function(inputs, [f, *pytensor.grad(f, inputs[:3])], trust_input=True)
    values = draw(case)
    return Work(lambda: g(*values), as_arrays)


def autograd(case: Case) -> Work:
    import autograd
    import autograd.numpy as anp
    from autograd.scipy.special import logsumexp

    class Names:
        def __getattr__(self, name: str) -> Any:
            return getattr(anp, name)

        def take(self, x: Any, at: Any, axis: int) -> Any:
            return x[:, at]

        def logsumexp(self, x: Any, axis: int) -> Any:
            return logsumexp(x, axis)

    names = Names()
    at, zero = places(case["d"]), np.zeros((case["k"], 1))
    *parameters, x = draw(case)
    f = autograd.value_and_grad(lambda p: formula(names, at, zero, p, x))
    return Work(lambda: f(tuple(parameters)), lambda r: as_arrays([r[0], *r[1]]))


ROW = Row(
    key="mixture",
    title="Gaussian mixture, objective and gradient, n = 1000",
    target="at most the best peer",
    cases=[Case(f"d = {d}, K = 25", {"d": d, "k": 25, "n": 1000}) for d in (10, 32)],
    timed={
        "symgraph": symgraph,
        "jax": jax,
        "torch": torch_eager,
        "torch.compile": torch_compile,
        "pytensor": pytensor,
        "autograd": autograd,
    },
    threads=1,
    rtol=1e-9,
)
