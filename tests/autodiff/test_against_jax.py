"""Transformations nested at random, in every order, against JAX where it is installed (the bench environment)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import symgraph as sg
from symgraph.runtime.interpreter import interpret

jax = pytest.importorskip("jax")
jnp = jax.numpy

PROGRAMS, AT_ONCE = 1000, 25
N = 3
Function = Callable[[Any], Any]
Array = NDArray[Any]


class Peer:
    """What a program is written in: the functions and transformations of one of the two libraries."""

    def __init__(self, ours: bool) -> None:
        self.ours = ours
        self.np: Any = sg if ours else jnp

    def softmax(self, x: Any) -> Any:
        return sg.softmax(x) if self.ours else jax.nn.softmax(x)

    def logsumexp(self, x: Any) -> Any:
        return sg.logsumexp(x) if self.ours else jax.nn.logsumexp(x)

    def stop(self, x: Any) -> Any:
        return sg.stop_gradient(x) if self.ours else jax.lax.stop_gradient(x)

    def grad(self, f: Function) -> Function:
        made: Function = sg.grad(f, disconnected="zero") if self.ours else jax.grad(f)
        return made

    def jvp(self, f: Function, v: Array) -> Function:
        if self.ours:
            return lambda x: sg.jvp(f, disconnected="zero")(x, tangent=v)[1]
        return lambda x: jax.jvp(f, (x,), (jnp.asarray(v),))[1]

    def vjp(self, f: Function, u: Array) -> Function:
        if self.ours:
            return lambda x: sg.vjp(f, disconnected="zero")(x, cotangent=u)[1]
        return lambda x: jax.vjp(f, x)[1](jnp.asarray(u))[0]

    def jacobian(self, f: Function, mode: str) -> Function:
        if self.ours:
            found: Function = sg.jacobian(f, mode=mode, disconnected="zero")
            return found
        peer: Function = (jax.jacfwd if mode == "forward" else jax.jacrev)(f)
        return peer

    def hessian(self, f: Function) -> Function:
        made: Function = sg.hessian(f, disconnected="zero") if self.ours else jax.hessian(f)
        return made

    def laplacian(self, f: Function) -> Function:
        return sg.laplacian(f, disconnected="zero") if self.ours else lambda x: jnp.trace(jax.hessian(f)(x))

    def vmap(self, f: Function, axis: int) -> Function:
        made: Function = sg.vmap(f, axis, axis) if self.ours else jax.vmap(f, axis, axis)
        return made


# From the program so far, a vector of N to a vector of N, to another one. `c` has constants.
Step = Callable[[Peer, Any, Array], Any]
STEPS: list[Step] = [
    lambda p, x, c: p.np.sin(x) * x,
    lambda p, x, c: p.np.exp(0.3 * x) - 1,
    lambda p, x, c: p.np.tanh(p.np.matmul(c, x)),
    lambda p, x, c: x / (1 + x * x),
    lambda p, x, c: p.softmax(x) + 0.1 * x,
    lambda p, x, c: p.logsumexp(x) * c[0] + x,
    lambda p, x, c: x[::-1] * c[1],
    lambda p, x, c: p.np.where(x > 0.1, p.np.sqrt(p.np.where(x > 0.1, x, 1.0)), x * x),
    lambda p, x, c: p.np.concatenate([x[1:], x[:1] * p.np.cos(x[2:])]),
    lambda p, x, c: p.np.sum(x) * c[2] + p.np.max(x),
    lambda p, x, c: p.stop(p.np.tanh(x)) * x,
    lambda p, x, c: p.np.mean(p.np.einsum("i,j->ij", x, p.np.cos(x)), axis=0),
]
Transformation = Callable[[Peer, Function, Array], Function]
TRANSFORMATIONS: dict[str, Transformation] = {
    "grad": lambda p, f, c: p.grad(lambda x: p.np.sum(p.np.sin(f(x)) * c[0])),
    "jvp": lambda p, f, c: p.jvp(f, c[1]),
    "vjp": lambda p, f, c: p.vjp(f, c[2]),
    "jacfwd": lambda p, f, c: lambda x: p.np.matmul(p.jacobian(f, "forward")(x), c[0]),
    "jacrev": lambda p, f, c: lambda x: p.np.matmul(c[0], p.jacobian(f, "reverse")(x)),
    "hessian": lambda p, f, c: lambda x: p.np.matmul(p.hessian(lambda y: p.np.sum(p.np.tanh(f(y))))(x), c[1]),
    "laplacian": lambda p, f, c: lambda x: p.laplacian(lambda y: p.np.sum(p.np.tanh(f(y))))(x) * x,
    "vmap 0": lambda p, f, c: lambda x: p.np.sum(p.vmap(f, 0)(c * x), axis=0) / N,
    "vmap 1": lambda p, f, c: lambda x: p.np.sum(p.vmap(f, 1)(c * x), axis=1) / N,
}
HEAVY = ("hessian", "laplacian")


def build(p: Peer, seed: int) -> tuple[Function, list[str]]:
    """The program of this seed, in one of the libraries."""
    rng = np.random.default_rng(seed)
    f: Function = lambda x: x  # noqa: E731
    names: list[str] = []
    depth = int(rng.integers(1, 5))
    for _ in range(depth):
        for k in rng.integers(0, len(STEPS), int(rng.integers(1, 3))):
            f = _after(p, f, STEPS[k], rng.uniform(-1, 1, (N, N)))
            names.append(str(k))
        allowed = [n for n in TRANSFORMATIONS if n not in HEAVY or not set(HEAVY) & set(names)]
        name = allowed[int(rng.integers(len(allowed)))]
        f = TRANSFORMATIONS[name](p, f, rng.uniform(-1, 1, (N, N)))
        names.append(name)
    return f, names


def _after(p: Peer, f: Function, step: Step, c: Array) -> Function:
    constants = c if p.ours else jnp.asarray(c)
    return lambda x: step(p, f(x), constants)


@pytest.mark.parametrize("first", range(0, PROGRAMS, AT_ONCE))
def test_nested_transformations(first: int) -> None:
    for seed in range(first, first + AT_ONCE):
        at = np.random.default_rng([seed, 1]).uniform(-1, 1, N)
        f, names = build(Peer(True), seed)
        x = sg.vector("x", shape=(N,))
        (got,) = interpret(f(x) + 0 * x, {x: at})
        with jax.enable_x64(True):
            want = np.asarray(jax.jit(build(Peer(False), seed)[0])(jnp.asarray(at)))
        scale = float(np.max(np.abs(want), initial=1.0))
        np.testing.assert_allclose(got, want, rtol=1e-8, atol=1e-10 * scale, err_msg=f"seed {seed}: {names}")
