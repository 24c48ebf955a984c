"""Logistic regression by Newton's method, whose linear systems are solved by conjugate gradients. [6.5.10]

The Hessian of the 650 parameters is never formed: conjugate gradients need its product with a vector only, and that is
the gradient of ``gradient · vector``. (Nocedal and Wright, Numerical Optimization, 2nd ed., algorithm 7.1.)
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

import symgraph as sg
from symgraph.demo.digits import Digits

PENALTY = 1e-3
Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Objective:
    """Functions of the parameters, a vector of 650 numbers; the data are shared variables."""

    value_and_gradient: sg.Function
    hessian_product: sg.Function
    size: int
    seconds: float


@dataclass(frozen=True)
class Step:
    """One outer step: where it started, how many products the linear system took, and how far it went."""

    value: float
    gradient: float  # norm, relative to the first
    products: int
    length: float


@dataclass(frozen=True)
class Fitted:
    """The course of the method."""

    steps: list[Step]
    value: float
    gradient: float
    accuracy: float
    seconds: float


def build(data: Digits, threads: int | None = None) -> Objective:
    """The penalized negative log-likelihood, its gradient, and the product of its Hessian with a vector."""
    start = time.perf_counter()
    x, y = sg.shared(data.train_x, "x"), sg.shared(data.train_y, "y")
    size = 64 * 10 + 10
    t, v = sg.vector("t", shape=size), sg.vector("v", shape=size)
    W, b = t[: 64 * 10].reshape(64, 10), t[64 * 10 :]
    log_p = sg.log_softmax(x @ W + b, axis=1)
    value = -sg.mean(sg.take_along_axis(log_p, y[:, None], axis=1)) + 0.5 * PENALTY * sg.sum(t**2)
    gradient = sg.grad(value, t)
    product = sg.grad(sg.sum(gradient * v), t)
    seconds = time.perf_counter() - start
    return Objective(
        value_and_gradient=sg.function([t], [value, gradient], name="value_and_gradient", threads=threads),
        hessian_product=sg.function([t, v], product, name="hessian_product", threads=threads),
        size=size,
        seconds=seconds,
    )


def fit(objective: Objective, data: Digits, tolerance: float = 1e-6, most: int = 30) -> Fitted:
    """Minimize from zero until the gradient's norm is below ``tolerance`` of the first, in at most ``most`` steps."""
    start = time.perf_counter()
    t = np.zeros(objective.size)
    value, gradient = objective.value_and_gradient(t)
    first = float(np.linalg.norm(gradient))
    relative = 1.0
    steps: list[Step] = []
    while relative > tolerance and len(steps) < most:
        # Solving to min(1/2, sqrt(norm)) of the norm makes the method converge superlinearly (the book's theorem 7.2).
        residual = min(0.5, np.sqrt(relative)) * relative * first
        direction, products = conjugate_gradients(partial(objective.hessian_product, t), -gradient, residual)
        slope = float(gradient @ direction)
        length = 1.0
        while True:  # halve until the decrease is enough (Armijo's condition); a descent direction always gets there
            new_value, new_gradient = objective.value_and_gradient(t + length * direction)
            if new_value <= value + 1e-4 * length * slope or length < 1e-10:
                break
            length /= 2
        steps.append(Step(float(value), relative, products, length))
        t, value, gradient = t + length * direction, new_value, new_gradient
        relative = float(np.linalg.norm(gradient)) / first
    seconds = time.perf_counter() - start
    logits = data.test_x @ t[: 64 * 10].reshape(64, 10) + t[64 * 10 :]
    accuracy = float(np.mean(logits.argmax(1) == data.test_y))
    return Fitted(steps, float(value), relative, accuracy, seconds)


def conjugate_gradients(product: Callable[[Vector], Vector], b: Vector, residual: float) -> tuple[Vector, int]:
    """``x`` with ``|product(x) - b| <= residual``, product positive definite; and how many products it took."""
    x = np.zeros_like(b)
    r, p, n = b.copy(), b.copy(), 0
    rr = float(r @ r)
    while np.sqrt(rr) > residual and n < 10 * len(b):
        hp = product(p)
        n += 1
        alpha = rr / float(p @ hp)
        x += alpha * p
        r -= alpha * hp
        rr, last = float(r @ r), rr
        p = r + (rr / last) * p
    return x, n
