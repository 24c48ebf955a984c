"""Transformations nested at random, in every order, against JAX: `make test-jax`. Skipped where JAX is not installed.

A program is a function of a vector to a vector, grown by turns: a few operations on its result, then a transformation
of all of it. One generator writes it in both libraries. A disagreement prints the seed and the program.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

import symgraph as sg
from symgraph.runtime.interpreter import interpret

jax = pytest.importorskip("jax")
jnp = jax.numpy

PROGRAMS, AT_ONCE = 1000, 10
COMPILED = 10
"""One program in so many is compiled, too; the others run in the interpreter only."""
ORDERS = 4
"""Derivatives that the transformations of one program take in all, at most: JAX compiles six of them for minutes."""
QUICKLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
"""How XLA compiles: what runs once need not run fast."""
N = 3
Function = Callable[[Any], Any]
Array = NDArray[Any]


class Peer:
    """What a program is written in: the functions and transformations of one of the two libraries."""

    def __init__(self, ours: bool) -> None:
        self.ours = ours
        self.np: Any = sg if ours else jnp
        self.nn: Any = sg if ours else jax.nn
        self.special: Any = sg if ours else jax.scipy.special

    def stop(self, x: Any) -> Any:
        return sg.stop_gradient(x) if self.ours else jax.lax.stop_gradient(x)

    def checkpoint(self, f: Function) -> Function:
        made: Function = sg.checkpoint(f) if self.ours else jax.checkpoint(f)
        return made

    def grad(self, f: Function) -> Function:
        made: Function = sg.grad(f, disconnected="zero") if self.ours else jax.grad(f)
        return made

    def value_and_grad(self, f: Function) -> Function:
        made: Function = sg.value_and_grad(f, disconnected="zero") if self.ours else jax.value_and_grad(f)
        return made

    def jvp(self, f: Function, x: Any, v: Any) -> Any:
        return sg.jvp(f, disconnected="zero")(x, tangent=v)[1] if self.ours else jax.jvp(f, (x,), (v,))[1]

    def vjp(self, f: Function, x: Any, u: Any) -> Any:
        return sg.vjp(f, disconnected="zero")(x, cotangent=u)[1] if self.ours else jax.vjp(f, x)[1](u)[0]

    def linearize(self, f: Function, x: Any) -> Function:
        # Ours differentiates a graph, in any variable of it.
        product: Function = sg.linearize(f(x), x)[1] if self.ours else jax.linearize(f, x)[1]
        return product

    def jacobian(self, f: Function, mode: str) -> Function:
        if self.ours:
            found: Function = sg.jacobian(f, mode=mode, disconnected="zero")
            return found
        peer: Function = (jax.jacfwd if mode == "forward" else jax.jacrev)(f)
        return peer

    def hessian(self, f: Function) -> Function:
        made: Function = sg.hessian(f, disconnected="zero") if self.ours else jax.hessian(f)
        return made

    def hvp(self, f: Function, x: Any, v: Any) -> Any:
        return sg.hvp(f)(x, v=v) if self.ours else jax.jvp(jax.grad(f), (x,), (v,))[1]

    def laplacian(self, f: Function) -> Function:
        return sg.laplacian(f, disconnected="zero") if self.ours else lambda x: jnp.trace(jax.hessian(f)(x))

    def derivative(self, f: Function, t: Any, n: int) -> Any:
        if self.ours:
            return sg.derivative(f, n=n)(t)
        for _ in range(n):
            f = jax.grad(f)
        return f(t)

    def taylor(self, f: Function, x: Any, v: Any, n: int) -> Any:
        if self.ours:
            return sg.taylor(f(x), x, v, n, disconnected="zero")[n]
        for _ in range(n):
            f = _along(f, v)
        return f(x)

    def vmap(self, f: Callable[..., Any], in_axes: Any = 0, out_axes: Any = 0) -> Callable[..., Any]:
        made: Callable[..., Any] = sg.vmap(f, in_axes, out_axes) if self.ours else jax.vmap(f, in_axes, out_axes)
        return made

    def custom_jvp(self, f: Function, rule: Callable[[Any, Any, Any], Any]) -> Function:
        if self.ours:
            return sg.custom_jvp(f, rule)
        stated: Any = jax.custom_jvp(f)

        def forward(primals: Any, tangents: Any) -> Any:
            (x,), (t,) = primals, tangents
            out = stated(x)
            return out, rule(x, out, t)

        stated.defjvp(forward)
        peer: Function = stated
        return peer

    def custom_vjp(self, f: Function, rule: Callable[[Any, Any, Any], Any]) -> Function:
        if self.ours:
            return sg.custom_vjp(f, rule)
        stated: Any = jax.custom_vjp(f)

        def forward(x: Any) -> Any:
            out = stated(x)
            return out, (x, out)

        stated.defvjp(forward, lambda kept, ct: (rule(kept[0], kept[1], ct),))
        peer: Function = stated
        return peer


def _along(f: Function, v: Any) -> Function:
    return lambda x: jax.jvp(f, (x,), (v,))[1]


# From the result of the program so far, a vector of N, to another one. `c` has constants from -1 to 1.
Step = Callable[[Peer, Any, Any], Any]
STEPS: dict[str, Step] = {
    "sin(x) x": lambda p, x, c: p.np.sin(x) * x,
    "exp(0.3 x) - 1": lambda p, x, c: p.np.exp(0.3 * p.np.tanh(x)) - 1,
    "expm1, log1p": lambda p, x, c: p.np.expm1(0.3 * p.np.sin(x)) + p.np.log1p(x * x),
    "tanh(c @ x)": lambda p, x, c: p.np.tanh(p.np.matmul(c, x)),
    "x @ c @ x": lambda p, x, c: p.np.matmul(p.np.cos(x), c) * p.np.matmul(x, c)[0],
    "x / (1 + x²)": lambda p, x, c: x / (1 + x * x),
    "arctan2, hypot": lambda p, x, c: p.np.arctan2(x, 2 + p.np.cos(x)) + p.np.hypot(x, 1 + c[0] * c[0]),
    "power": lambda p, x, c: (1.5 + p.np.sin(x)) ** (1 + 0.5 * c[0]) + x**2 - 0.1 * x**3,
    "power of variables": lambda p, x, c: (1.5 + p.np.sin(x)) ** p.np.tanh(x[::-1]),
    "sqrt(1 + x²)": lambda p, x, c: p.np.sqrt(1 + x * x) * c[0],
    "reciprocal, cbrt": lambda p, x, c: p.np.reciprocal(2 + p.np.sin(x)) - p.np.cbrt(3 + p.np.cos(x)),
    "erf": lambda p, x, c: p.special.erf(x) + c[1],
    "sigmoid, softplus": lambda p, x, c: p.nn.sigmoid(x) * c[0] + p.nn.softplus(x[::-1]),
    "logaddexp": lambda p, x, c: p.np.logaddexp(x, c[0] * x[::-1]),
    "softmax": lambda p, x, c: p.nn.softmax(x) + 0.1 * x,
    "log_softmax": lambda p, x, c: p.nn.log_softmax(c * x, axis=0)[1] + x,
    "logsumexp": lambda p, x, c: p.nn.logsumexp(x) * c[0] + x,
    "logsumexp of rows": lambda p, x, c: p.nn.logsumexp(c * x, axis=1) * x,
    "logsumexp of a stack": lambda p, x, c: p.nn.logsumexp(p.np.stack([x, p.np.sin(x), c[0] * x], axis=1), axis=1),
    "reverse": lambda p, x, c: x[::-1] * c[1],
    "slices": lambda p, x, c: p.np.concatenate([x[1:], x[:1] * p.np.cos(x[2:])]),
    "where sqrt": lambda p, x, c: p.np.where(x > 0.1, p.np.sqrt(p.np.where(x > 0.1, x, 1.0)), x * x),
    "where of rows": lambda p, x, c: p.np.sum(p.np.where(c > 0, x * x, p.np.sin(c * x)), axis=1),
    "relu": lambda p, x, c: p.nn.relu(x) + c[2] * p.np.abs(x),
    "maximum, minimum": lambda p, x, c: p.np.maximum(x, c[0]) * x + p.np.minimum(p.np.sin(x), c[1]),
    "clip": lambda p, x, c: p.np.clip(x, -0.5, 0.6) * p.np.cos(x) + x,
    "sum, max": lambda p, x, c: p.np.sum(x) * c[2] + p.np.max(c[0] * x),
    "prod": lambda p, x, c: p.np.prod(p.np.cos(c * x), axis=0) + 0.2 * x,
    "var": lambda p, x, c: x * p.np.var(x) - p.np.mean(c * x, axis=1),
    "min of rows": lambda p, x, c: p.np.min(c * p.np.sin(x), axis=1) + x,
    "gather": lambda p, x, c: p.np.take(x, np.array([2, 0, 2]), axis=0) * x,
    "gather of rows": lambda p, x, c: p.np.take(c * x, np.array([1, 1, 0]), axis=0)[:, 2] + p.np.sin(x),
    "argmax": lambda p, x, c: x * p.np.take(p.np.tanh(x), p.np.argmax(c[0] * x), axis=0),
    "outer": lambda p, x, c: p.np.mean(p.np.einsum("i,j->ij", x, p.np.cos(x)), axis=0),
    "products": lambda p, x, c: p.np.matmul(p.np.matmul(c * x, p.np.transpose(c)), c + p.np.tanh(x))[1],
    "einsum": lambda p, x, c: p.np.einsum("ij,jk,k->i", c, c * x, p.np.sin(x)),
    "triangle": lambda p, x, c: p.np.matmul(p.np.tril(p.np.einsum("i,j->ji", x, p.np.cos(x))), c[1]),
    "diagonal": lambda p, x, c: p.np.diagonal(c * x) + p.np.trace(p.np.sin(c * x)) * c[0],
    "reshape": lambda p, x, c: p.np.reshape(p.np.swapaxes(p.np.sin(c * x), 0, 1), (N * N,))[2:8:2],
    "roll, pad": lambda p, x, c: p.np.roll(x, 1) * p.np.pad(x, (1, 0))[:N],
    "stop": lambda p, x, c: p.stop(p.np.tanh(x)) * x,
    "sign": lambda p, x, c: p.np.sign(x + 0.05) * x * x + p.np.floor(3 * x) * c[0],
}


class Kind(NamedTuple):
    """A transformation: how many derivatives it takes, and what it makes of a program, with constants ``c``."""

    order: int
    apply: Callable[[Peer, Function, Any], Function]
    reverse: bool = True  # without forward mode, which JAX does not have of a custom_vjp


def _scalar(p: Peer, f: Function) -> Function:
    return lambda y: p.np.sum(p.np.tanh(f(y))) + 0.5 * p.np.sum(p.np.sin(y))


def _in_one(p: Peer, f: Function, x: Any) -> Function:
    """Of a scalar, and of ``x`` from outside."""
    return lambda t: p.np.sum(p.np.tanh(f(x * p.np.cos(t)))) + p.np.sin(t)


def _forward(order: int, apply: Callable[[Peer, Function, Any], Function]) -> Kind:
    return Kind(order, apply, False)


KINDS: dict[str, Kind] = {
    "grad": Kind(1, lambda p, f, c: p.grad(lambda x: p.np.sum(p.np.sin(f(x)) * c[0]))),
    "grad, x outside": Kind(1, lambda p, f, c: lambda x: p.grad(lambda y: p.np.sum(f(y) * x))(c[0] * x)),
    "value_and_grad": Kind(1, lambda p, f, c: lambda x: _product(p.value_and_grad(_scalar(p, f))(x))),
    "vjp": Kind(1, lambda p, f, c: lambda x: p.vjp(f, x, c[2])),
    "vjp, x outside": Kind(1, lambda p, f, c: lambda x: p.vjp(lambda y: f(y) * x, p.np.sin(x), p.np.cos(x))),
    "jacrev": Kind(1, lambda p, f, c: lambda x: p.np.matmul(c[0], p.jacobian(f, "reverse")(x))),
    "vmap 0 0": Kind(0, lambda p, f, c: lambda x: p.np.sum(p.vmap(f, 0, 0)(c * x), axis=0) / N),
    "vmap 1 1": Kind(0, lambda p, f, c: lambda x: p.np.sum(p.vmap(f, 1, 1)(c * x), axis=1) / N),
    "vmap 0 -1": Kind(0, lambda p, f, c: lambda x: p.np.matmul(p.vmap(f, 0, -1)(p.np.sin(c * x)), c[0])),
    "vmap (-1, None) 0": Kind(
        0, lambda p, f, c: lambda x: p.np.matmul(c[1], p.vmap(lambda a, b: f(a) * b, (-1, None), 0)(c * x, x))
    ),
    "vmap (None, 1) 1": Kind(
        0, lambda p, f, c: lambda x: p.np.mean(p.vmap(lambda a, b: f(a * b), (None, 1), 1)(x, c), axis=1)
    ),
    "vmap, x outside": Kind(0, lambda p, f, c: lambda x: p.np.mean(p.vmap(lambda a: f(a * x) + x)(c), axis=0)),
    "vmap vmap": Kind(
        0,
        lambda p, f, c: lambda x: p.np.mean(p.vmap(p.vmap(f, 1, 0), 0, 1)(p.np.einsum("ij,jk->ijk", c * x, c)), (0, 1)),
    ),
    "stop": Kind(0, lambda p, f, c: lambda x: p.stop(f(x)) * x + f(p.stop(c[0] * x)) + p.np.sin(f(x))),
    "checkpoint": Kind(0, lambda p, f, c: lambda x: p.checkpoint(f)(x) * p.np.cos(x)),
    "custom_jvp": Kind(0, lambda p, f, c: p.custom_jvp(f, lambda x, out, t: t * p.np.cos(x) + c[0] * t * out)),
    "jvp": _forward(1, lambda p, f, c: lambda x: p.jvp(f, x, c[1])),
    "jvp, x outside": _forward(1, lambda p, f, c: lambda x: p.jvp(lambda y: f(y) * x, p.np.tanh(x), x * c[0])),
    "linearize": _forward(
        1, lambda p, f, c: lambda x: p.np.sum(p.vmap(p.linearize(lambda y: f(y) + y, x))(c * x), axis=0)
    ),
    "jacfwd": _forward(1, lambda p, f, c: lambda x: p.np.matmul(p.jacobian(f, "forward")(x), c[0])),
    "jacfwd of a matrix": _forward(
        1,
        lambda p, f, c: (
            lambda x: p.np.einsum("ijk,ij->k", p.jacobian(lambda y: p.np.einsum("i,j->ij", f(y), y), "forward")(x), c)
        ),
    ),
    "hessian": _forward(2, lambda p, f, c: lambda x: p.np.matmul(p.hessian(_scalar(p, f))(x), c[1])),
    "hvp": _forward(2, lambda p, f, c: lambda x: p.hvp(_scalar(p, f), x, c[0])),
    "hvp, x outside": _forward(2, lambda p, f, c: lambda x: p.hvp(lambda y: _scalar(p, f)(x * y), p.np.cos(x), x)),
    "laplacian": _forward(2, lambda p, f, c: lambda x: p.laplacian(_scalar(p, f))(x) * x),
    "derivative 1": _forward(1, lambda p, f, c: lambda x: x * p.derivative(_in_one(p, f, x), p.np.mean(x), 1)),
    "derivative 2": _forward(2, lambda p, f, c: lambda x: x * p.derivative(_in_one(p, f, x), x[1], 2)),
    "derivative 3": _forward(3, lambda p, f, c: lambda x: c[0] * p.derivative(_in_one(p, f, x), p.np.sum(x), 3)),
    "taylor 2": _forward(2, lambda p, f, c: lambda x: p.taylor(f, x, c[0], 2)),
    "taylor 3": _forward(3, lambda p, f, c: lambda x: p.np.sin(p.taylor(f, x, c[1], 3))),
}


def _product(pair: Any) -> Any:
    value, gradient = pair
    return value * gradient


def build(p: Peer, seed: int) -> tuple[Function, str]:
    """The program of this seed, in one of the libraries, and in words: the innermost comes first."""
    rng = np.random.default_rng(seed)
    words: list[str] = []
    f: Function = lambda x: x  # noqa: E731
    reverse_only = seed % 8 == 0
    left = ORDERS
    for level in range(int(rng.integers(1, 5))):
        for k in rng.integers(0, len(STEPS), int(rng.integers(1, 4))):
            name = list(STEPS)[int(k)]
            f = _after(p, f, STEPS[name], rng.uniform(-1, 1, (N, N)))
            words.append(name)
        if reverse_only and level == 0:
            f = _custom(p, f, rng.uniform(-1, 1, N))
            words.append("[custom_vjp]")
        allowed = [n for n, kind in KINDS.items() if kind.order <= left and (kind.reverse or not reverse_only)]
        name = allowed[int(rng.integers(len(allowed)))]
        left -= KINDS[name].order
        f = KINDS[name].apply(p, f, _constants(p, rng.uniform(-1, 1, (N, N))))
        words.append(f"[{name}]")
    return f, " | ".join(words)


def _constants(p: Peer, c: Array) -> Any:
    return sg.constant(c) if p.ours else jnp.asarray(c)


def _after(p: Peer, f: Function, step: Step, c: Array) -> Function:
    constants = _constants(p, c)
    return lambda x: step(p, f(x), constants)


def _custom(p: Peer, f: Function, c: Array) -> Function:
    constants = _constants(p, c)
    return p.custom_vjp(f, lambda x, out, ct: constants * ct * p.np.cos(x) + ct * out)


@pytest.mark.parametrize("first", range(0, PROGRAMS, AT_ONCE))
def test_nested_transformations(first: int) -> None:
    for seed in range(first, first + AT_ONCE):
        at = np.random.default_rng([seed, 1]).uniform(-1, 1, N)
        with jax.enable_x64(True):
            f, words = build(Peer(False), seed)
            want = np.asarray(jax.jit(f, compiler_options=QUICKLY)(jnp.asarray(at)))
            if not np.all(np.isfinite(want)):
                # JAX's derivative of a maximum looks for the element that is equal to it. Where XLA computes it twice
                # and rounds in two ways, there is none, and it divides by 0. Operation by operation it does not.
                with jax.disable_jit():
                    want = np.asarray(f(jnp.asarray(at)))
        assert np.all(np.isfinite(want)), f"seed {seed}: {words}: JAX finds {want}"
        x = sg.vector("x", shape=(N,))
        y = build(Peer(True), seed)[0](x)
        found = {"interpreted": interpret([y], {x: at})[0]}
        if seed % COMPILED == 0:
            found["compiled"] = sg.function([x], y)(at)
        scale = float(np.max(np.abs(want), initial=1.0))
        for how, got in found.items():
            what = f"seed {seed}, {how}: {words}, at {at.tolist()}"
            np.testing.assert_allclose(got, want, rtol=1e-8, atol=1e-10 * scale, err_msg=what)
