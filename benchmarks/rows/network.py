"""A network 784-256-256-10 (tanh, tanh, softmax cross-entropy): its loss and the gradient of all weights."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks.harness import Array, Case, Row, Work, as_arrays, threads_now, use_jax, use_torch

SIZES = (784, 256, 256, 10)


def draw(batch: int, dtype: str) -> list[Array]:
    """images, labels, and W, b of each layer."""
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(batch, SIZES[0])).astype(dtype)
    y = rng.integers(0, SIZES[-1], size=batch)
    values: list[Array] = [x, y]
    for m, n in pairwise(SIZES):
        values += [(rng.normal(size=(m, n)) / np.sqrt(m)).astype(dtype), (0.1 * rng.normal(size=n)).astype(dtype)]
    return values


def graph(dtype: str) -> tuple[list[Any], list[Any]]:
    """symgraph's inputs and outputs, for any batch size."""
    import symgraph as sg

    x = sg.matrix("x", dtype=dtype, shape=("batch", SIZES[0]))
    y = sg.vector("y", dtype="int64", shape=("batch",))
    weights: list[Any] = []
    h: Any = x
    for k, (m, n) in enumerate(pairwise(SIZES)):
        W, b = sg.matrix(f"W{k}", dtype=dtype, shape=(m, n)), sg.vector(f"b{k}", dtype=dtype, shape=(n,))
        weights += [W, b]
        z = h @ W + b
        h = sg.tanh(z) if n != SIZES[-1] else z
    loss = -sg.mean(sg.take_along_axis(sg.log_softmax(h, axis=1), y[:, None], axis=1))
    return [x, y, *weights], [loss, *sg.grad(loss, weights)]


@cache
def build(dtype: str) -> Any:
    """symgraph's function, for any batch size."""
    import symgraph as sg

    return sg.function(*graph(dtype), threads=threads_now())


def symgraph(case: Case) -> Work:
    f, values = build(case["dtype"]), draw(case["batch"], case["dtype"])
    return Work(lambda: f(*values), as_arrays)


@cache
def build_jax() -> Any:
    """JAX's function; it compiles for each batch size and dtype anew."""
    jax = use_jax()
    jnp = jax.numpy

    def loss(weights: Any, x: Any, y: Any) -> Any:
        h = x
        for k in range(0, len(weights), 2):
            z = h @ weights[k] + weights[k + 1]
            h = jnp.tanh(z)
        logp = jax.nn.log_softmax(z, axis=1)
        return -jnp.mean(jnp.take_along_axis(logp, y[:, None], axis=1))

    return jax.jit(jax.value_and_grad(loss))


def jax(case: Case) -> Work:
    f, (x, y, *weights) = build_jax(), draw(case["batch"], case["dtype"])
    import jax

    x, y, weights = jax.device_put((x, y, weights))
    return Work(lambda: jax.block_until_ready(f(weights, x, y)), lambda r: as_arrays([r[0], *r[1]]))


def torch_step(torch: Any) -> Any:
    """Loss and gradients as PyTorch computes them."""
    linear, entropy = torch.nn.functional.linear, torch.nn.functional.cross_entropy

    def step(x: Any, y: Any, *weights: Any) -> Any:
        h = torch.tanh(linear(x, weights[0], weights[1]))
        h = torch.tanh(linear(h, weights[2], weights[3]))
        return entropy(linear(h, weights[4], weights[5]), y)

    return step


def _torch(case: Case, compiled: bool) -> Work:
    torch = use_torch()
    x, y, *weights = draw(case["batch"], case["dtype"])
    # PyTorch's layer holds W transposed.
    held = [torch.from_numpy(np.ascontiguousarray(w.T)).requires_grad_() for w in weights]
    tx, ty = torch.from_numpy(x), torch.from_numpy(y)
    step = torch.compile(torch_step(torch)) if compiled else torch_step(torch)

    def call() -> Any:
        loss = step(tx, ty, *held)
        return [loss, *torch.autograd.grad(loss, held)]

    return Work(call, lambda r: [v.detach().numpy().T for v in r])


def torch_eager(case: Case) -> Work:
    return _torch(case, compiled=False)


def torch_compile(case: Case) -> Work:
    return _torch(case, compiled=True)


@cache
def build_pytensor(dtype: str) -> Any:
    """PyTensor's function, in its default mode."""
    import pytensor
    import pytensor.tensor as pt

    x, y = pt.matrix("x", dtype=dtype), pt.vector("y", dtype="int64")
    weights: list[Any] = []
    h: Any = x
    for _ in SIZES[1:]:
        W, b = pt.matrix(dtype=dtype), pt.vector(dtype=dtype)
        weights += [W, b]
        z = h @ W + b
        h = pt.tanh(z)
    logp = pt.special.log_softmax(z, axis=1)
    loss = -pt.mean(logp[pt.arange(y.shape[0]), y])
    return pytensor.function([x, y, *weights], [loss, *pytensor.grad(loss, weights)], trust_input=True)


def pytensor(case: Case) -> Work:
    f, values = build_pytensor(case["dtype"]), draw(case["batch"], case["dtype"])
    return Work(lambda: f(*values), as_arrays)


def blas(case: Case) -> Work:
    """Nothing but the eight matrix products, into buffers that exist: no step is faster on this BLAS."""
    from scipy.linalg import blas as lib

    x, _, *weights = draw(case["batch"], case["dtype"])
    gemm = lib.dgemm if case["dtype"] == "float64" else lib.sgemm
    calls: list[tuple[Array, Array, Array]] = []

    def product(a: Array, b: Array) -> Array:
        out = np.zeros((a.shape[0], b.shape[1]), a.dtype)
        # BLAS reads column by column: the transposed product, of operands that are passed as they lie.
        calls.append((b.T, a.T, out.T))
        return out

    h, layers = x, []
    for W in weights[::2]:
        layers.append((h, W))
        h = product(h, W)
    for k, (h_in, W) in reversed(list(enumerate(layers))):
        product(h_in.T, np.zeros((x.shape[0], W.shape[1]), x.dtype))
        if k:
            product(np.zeros((x.shape[0], W.shape[1]), x.dtype), W.T)
    prepared = []
    for a, b, c in calls:
        ta, tb = not a.flags.f_contiguous, not b.flags.f_contiguous
        prepared.append((a.T if ta else a, b.T if tb else b, c, int(ta), int(tb)))

    def call() -> None:
        for a, b, c, ta, tb in prepared:
            gemm(1.0, a, b, beta=0.0, c=c, trans_a=ta, trans_b=tb, overwrite_c=1)

    return Work(call, lambda _: [])


ROW = Row(
    key="network",
    title="network 784-256-256-10, loss and gradient",
    target="at most the best peer; at batch 256 at most 1.2 times the bare BLAS calls",
    cases=[
        Case(f"batch {batch}, {dtype}", {"batch": batch, "dtype": dtype})
        for dtype in ("float64", "float32")
        for batch in (32, 256)
    ],
    timed={
        "symgraph": symgraph,
        "jax": jax,
        "torch": torch_eager,
        "torch.compile": torch_compile,
        "pytensor": pytensor,
        "bare BLAS": blas,
    },
    floors=("bare BLAS",),
    rtol=1e-4,
)
