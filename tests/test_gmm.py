"""A Gaussian mixture, objective and gradient: against the numbers of ADBench, a plain formula, and complex steps.

``TINY`` and ``EXPECTED`` are the test instance of ADBench (https://github.com/microsoft/ADBench, MIT license,
copyright Microsoft Corporation) and the values that it states for it.
"""

from __future__ import annotations

from itertools import product
from math import lgamma, log, pi
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import symgraph as sg

Array = NDArray[Any]

ALPHA = [-0.649014, 1.181166, -0.758453]
MU = [[0.092339, 0.186260], [0.345561, 0.396767], [0.538817, 0.419195]]
ICF = [[0.586443, -0.851887, 0.800321], [-1.509405, 0.875874, -0.242790], [0.166813, -1.965419, -1.270071]]
TINY = [np.array(v) for v in (ALPHA, MU, ICF, [[1.175171, 2.029160]])]
EXPECTED = 8.073804080049758
GRADIENT = """
0.10866285550865246 -0.7412700395238985 0.6326071840152461 1.1169257653278701 0.16333301355145527 -0.021998982407119314
0.2277782922542361 1.2096302561283219 -0.060637592073395634 2.5852999405116224 0.11263269452421379 0.3857443098496118
0.07351805731823055 5.418363627155952 -0.32149440967744647 1.7189230977500494 0.8600910907908669 -0.9946409304663228
"""


def constant(d: int, k: int, n: int, gamma: float, m: int) -> float:
    """The part of the objective that depends on sizes only."""
    wide = d + m + 1
    log_gamma = d * (d - 1) / 4 * log(pi) + sum(lgamma((wide - j) / 2) for j in range(d))
    return -n * d / 2 * log(2 * pi) - k * (wide * d * (log(gamma) - log(2) / 2) - log_gamma)


def plain(parameters: list[Array], x: Array, gamma: float, m: int) -> Any:
    """The formula term by term; complex numbers pass through it."""
    alpha, mu, icf = parameters
    (n, d), k = x.shape, len(alpha)
    value: Any = constant(d, k, n, gamma, m)
    terms = np.zeros((n, k), np.result_type(alpha, mu, icf))
    for j in range(k):
        q, low = icf[j, :d], iter(icf[j, d:])
        L = np.diag(np.exp(q))
        for column, row in product(range(d), range(d)):
            if row > column:
                L[row, column] = next(low)
        for i in range(n):
            y = L @ (x[i] - mu[j])
            terms[i, j] = alpha[j] + np.sum(q) - 0.5 * np.sum(y * y)
        value += 0.5 * gamma**2 * (np.sum(np.exp(q) ** 2) + np.sum(icf[j, d:] ** 2)) - m * np.sum(q)
    return value + np.sum(np.log(np.sum(np.exp(terms), axis=1))) - n * np.log(np.sum(np.exp(alpha)))


def compiled(d: int, k: int, gamma: float, m: int, **options: Any) -> Any:
    """The same in symgraph's operations on whole arrays, for any number of points."""
    alpha, mu = sg.vector("alpha", shape=(k,)), sg.matrix("mu", shape=(k, d))
    icf, x = sg.matrix("icf", shape=(k, d + d * (d - 1) // 2)), sg.matrix("x", shape=("n", d))
    places = np.full((d, d), icf.shape[1])  # the column of zeros
    places[np.diag_indices(d)] = np.arange(d)
    columns, rows = np.triu_indices(d, 1)
    places[rows, columns] = np.arange(d, d + len(rows))
    q, low = icf[:, :d], icf[:, d:]
    spread = sg.exp(q)
    L = sg.take(sg.concatenate([spread, low, np.zeros((k, 1))], axis=1), places, axis=1)
    y = sg.einsum("kij,nkj->nki", L, x[:, None, :] - mu)
    terms = alpha + sg.sum(q, axis=1) - 0.5 * sg.sum(y * y, axis=2)
    prior = 0.5 * gamma**2 * (sg.sum(spread**2) + sg.sum(low**2)) - m * sg.sum(q)
    f = sg.sum(sg.logsumexp(terms, axis=1)) - sg.size_of(x.shape[0]) * sg.logsumexp(alpha) + prior
    return sg.function([alpha, mu, icf, x], [f, *sg.grad(f, [alpha, mu, icf])], **options)


@pytest.mark.parametrize("target", ["cpu", "numpy"])
def test_the_benchmarks_own_numbers(target: str) -> None:
    value, *gradient = compiled(2, 3, 1.0, 0, target=target)(*TINY)
    assert value + constant(2, 3, 1, 1.0, 0) == pytest.approx(EXPECTED, rel=1e-8)
    flat = np.concatenate([g.reshape(-1) for g in gradient])
    np.testing.assert_allclose(flat, np.array(GRADIENT.split(), float), rtol=1e-8)


def test_the_plain_formula_is_the_same() -> None:
    assert plain(TINY[:3], TINY[3], 1.0, 0) == pytest.approx(EXPECTED, rel=1e-12)


def test_gradient_against_complex_steps() -> None:
    d, k, n, gamma, m = 3, 4, 7, 1.3, 2
    rng = np.random.default_rng(5)
    parameters = [rng.normal(size=k), rng.normal(size=(k, d)), 0.3 * rng.normal(size=(k, d * (d + 1) // 2))]
    x = rng.normal(size=(n, d))
    f = compiled(d, k, gamma, m)
    value, *gradient = f(*parameters, x)
    assert value + constant(d, k, n, gamma, m) == pytest.approx(plain(parameters, x, gamma, m), rel=1e-12)
    for p, g in zip(range(3), gradient, strict=True):
        for at in np.ndindex(parameters[p].shape):
            moved = [v.astype(complex) for v in parameters]
            moved[p][at] += 1e-30j
            assert g[at] == pytest.approx(plain(moved, x, gamma, m).imag / 1e-30, rel=1e-9, abs=1e-12)


def test_points_far_from_every_component() -> None:
    """Densities that underflow leave logarithms and gradients finite."""
    value, *gradient = compiled(2, 3, 1.0, 0)(*TINY[:3], np.array([[1e3, -1e3], [2e5, 0.0]]))
    assert np.isfinite(value)
    assert all(np.isfinite(g).all() for g in gradient)
