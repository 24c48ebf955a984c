"""Derivatives cost a small multiple of what they are derivatives of: in operations, which no clock disturbs.

A gradient, computed together with the function, is to cost at most 4 times the function, and a Hessian-vector product
at most 3 times the gradient. ``python tests/autodiff/test_cost_bounds.py`` prints the figures of docs/cost.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import symgraph as sg
from symgraph.graph import Constant, Graph, Variable, leaves
from symgraph.passes.decompose import legalize
from symgraph.passes.fuse import fuse
from symgraph.pipeline import run_pipeline
from symgraph.runtime.cost import Cost, Figures, cost_of

Made = tuple[Variable, list[Variable], dict[str, int]]
"""A scalar, what it is differentiated by, and sizes to evaluate it for."""
CASES: dict[str, Callable[[], Made]] = {}


def case(fn: Callable[[], Made]) -> Callable[[], Made]:
    CASES[fn.__name__] = fn
    return fn


def matrix(name: str, *shape: str) -> Variable:
    return sg.tensor(name, shape=shape)


@case
def rosenbrock() -> Made:
    x = matrix("x", "n")
    return sg.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2), [x], {"n": 1000}


@case
def logistic_regression() -> Made:
    X, y, w = matrix("X", "n", "d"), matrix("y", "n"), matrix("w", "d")
    return sg.sum(sg.softplus(-y * (X @ w))), [w], {"n": 800, "d": 400}


@case
def softmax_cross_entropy() -> Made:
    X, y, W = matrix("X", "n", "d"), matrix("y", "n", "k"), matrix("W", "d", "k")
    return -sg.mean(sg.sum(y * sg.log_softmax(X @ W, axis=1), axis=1)), [W], {"n": 500, "d": 100, "k": 10}


@case
def tanh_network() -> Made:
    X, Y = matrix("X", "n", "d"), matrix("Y", "n", "k")
    W, b, V, c = matrix("W", "d", "h"), matrix("b", "h"), matrix("V", "h", "k"), matrix("c", "k")
    loss = sg.mean((sg.tanh(X @ W + b) @ V + c - Y) ** 2)
    return loss, [W, b, V, c], {"n": 500, "d": 50, "h": 64, "k": 10}


@case
def gaussian_with_learned_precision() -> Made:
    """The precision is L' L, with the exponentials of q on the diagonal of L."""
    x, mu, L, q = matrix("x", "n", "d"), matrix("mu", "d"), matrix("L", "d", "d"), matrix("q", "d")
    z = (x - mu) @ sg.tril(L, -1).T + (x - mu) * sg.exp(q)
    return 0.5 * sg.sum(z * z) - 500 * sg.sum(q), [mu, L, q], {"n": 500, "d": 20}


@case
def mixture_density_network() -> Made:
    x, y, W = matrix("x", "n", "d"), matrix("y", "n"), matrix("W", "d", "h")
    A, M, S = matrix("A", "h", "k"), matrix("M", "h", "k"), matrix("S", "h", "k")
    h = sg.tanh(x @ W)
    weights, means, precisions = sg.log_softmax(h @ A, axis=1), h @ M, h @ S
    parts = weights + precisions - 0.5 * ((y[:, None] - means) * sg.exp(precisions)) ** 2
    return -sg.mean(sg.logsumexp(parts, axis=1)), [W, A, M, S], {"n": 500, "d": 8, "h": 32, "k": 5}


@case
def log_sum_exp() -> Made:
    x = matrix("x", "n")
    return sg.logsumexp(x), [x], {"n": 1000}


@case
def matrix_factorization() -> Made:
    U, V, R, known = matrix("U", "n", "r"), matrix("V", "m", "r"), matrix("R", "n", "m"), matrix("known", "n", "m")
    loss = sg.sum((known * (R - U @ V.T)) ** 2) + 0.1 * (sg.sum(U * U) + sg.sum(V * V))
    return loss, [U, V], {"n": 100, "m": 80, "r": 10}


@case
def kernel_ridge() -> Made:
    """Gaussian kernel with a length for each feature; the coefficients and the lengths are learned."""
    x, y, a, g = matrix("x", "n", "d"), matrix("y", "n"), matrix("a", "n"), matrix("g", "d")
    s = x * sg.exp(g)
    r = sg.sum(s * s, axis=1)
    fitted = sg.exp(-(r[:, None] + r[None, :] - 2 * (s @ s.T))) @ a
    return sg.sum((y - fitted) ** 2) + 0.1 * sg.sum(a * fitted), [a, g], {"n": 200, "d": 10}


@case
def power_chain() -> Made:
    """A polynomial of degree 32, by Horner's way of squaring."""
    x = matrix("x", "n")
    y = x
    for _ in range(5):
        y = y * y + x
    return sg.sum(y), [x], {"n": 1000}


@case
def layer_norm_gelu() -> Made:
    X, W, g, b = matrix("X", "n", "d"), matrix("W", "d", "h"), matrix("g", "d"), matrix("b", "d")
    centered = X - sg.mean(X, axis=1, keepdims=True)
    normal = centered / sg.sqrt(sg.mean(centered**2, axis=1, keepdims=True) + 1e-5)
    return sg.sum(sg.gelu((normal * g + b) @ W)), [W, g, b], {"n": 200, "d": 64, "h": 128}


@case
def attention() -> Made:
    X, Y = matrix("X", "n", "d"), matrix("Y", "n", "k")
    Q, K, V = matrix("Q", "d", "k"), matrix("K", "d", "k"), matrix("V", "d", "k")
    weights = sg.softmax((X @ Q) @ (X @ K).T / 4.0, axis=1)
    return sg.sum((weights @ (X @ V) - Y) ** 2), [Q, K, V], {"n": 64, "d": 32, "k": 16}


def cost(outputs: list[Variable], sizes: dict[str, int]) -> Cost:
    """The cost of the program that computes ``outputs``, which nobody compiles."""
    inputs = [v for v in leaves(outputs) if not isinstance(v, Constant)]
    found = cost_of(fuse(legalize(run_pipeline(Graph(inputs, outputs))[0]))).at(**sizes)
    assert found.exact
    return found


def costs(made: Made) -> tuple[Cost, Cost, Cost, Cost]:
    """Of the function, of it with its gradient, of the gradient alone, of the Hessian times a vector."""
    f, wrt, sizes = made
    g = sg.grad(f, wrt)
    directions = [Variable(v.type, name=f"v_{v.name}") for v in wrt]
    h = sg.hvp(f, wrt, directions)
    return cost([f], sizes), cost([f, *g], sizes), cost(g, sizes), cost(h, sizes)


MEASURES: dict[str, Callable[[Figures], Any]] = {
    "flops": lambda c: c.flops,
    "operations": lambda c: c.flops + c.transcendentals,
    "work": lambda c: c.work,
}


@pytest.mark.parametrize("name", CASES)
def test_gradients_and_hessian_products(name: str) -> None:
    f, both, g, h = costs(CASES[name]())
    for what, measure in MEASURES.items():
        assert measure(both) <= 4 * measure(f), f"{what}: function and gradient"
        assert measure(h) <= 3 * measure(g), f"{what}: Hessian-vector product"


def closed_form(n: int, d: int) -> int:
    """X'DX, with D from the probabilities: X w, p (1 - p), the rows of X scaled, and the product of matrices."""
    return 2 * n * d + 2 * n + n * d + 2 * n * d * d


def naive(z: Variable, y: Variable) -> Variable:
    p = sg.sigmoid(z)
    return -sg.mean(y * sg.log(p) + (1 - y) * sg.log(1 - p))


LOSSES: dict[str, Callable[[Variable, Variable], Variable]] = {
    "softplus": lambda z, y: sg.sum(sg.softplus(-y * z)),
    "labels of 0 and 1": lambda z, y: sg.mean(sg.softplus(z) - y * z),
    "naive": naive,
}


@pytest.mark.parametrize("loss", LOSSES)
def test_hessian_of_logistic_regression(loss: str) -> None:
    """The Hessian is batched: two products of matrices, as the closed form has, and not d products with vectors."""
    n, d = 800, 400
    X, y, w = matrix("X", "n", "d"), matrix("y", "n"), matrix("w", "d")
    found = cost([sg.hessian(LOSSES[loss](X @ w, y), w)], {"n": n, "d": d})
    done = found.flops + found.transcendentals
    assert isinstance(done, int)
    assert done <= 1.1 * closed_form(n, d)
    assert sum("contract" in s.what for s in found.steps) == 2


def main() -> None:
    """The table of docs/cost.md."""
    heads = ["function", "its FLOPs", *(f"{d}: {m}" for d in ("gradient", "product") for m in MEASURES)]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for name, made in CASES.items():
        f, both, g, h = costs(made())
        ratios = [f"{m(both) / m(f):.2f}" for m in MEASURES.values()] + [
            f"{m(h) / m(g):.2f}" for m in MEASURES.values()
        ]
        print(f"| {name.replace('_', ' ')} | {f.flops:,} | {' | '.join(ratios)} |")


if __name__ == "__main__":
    main()
