"""The rows of ``make bench-gpu``: the same work as the CPU's rows, with arrays that are on the GPU from the start.

A call ends when the device has finished it. Products of matrices are taken in full precision by all contenders.

Two of the CPU's rows have none here: ``cold``, since every row says what it took to prepare it, and ``layout``, since
arrays on a GPU that are not contiguous are packed by one more launch, whoever lends them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from benchmarks.harness import Array, Case, Measures, Row, Work, use_jax
from benchmarks.rows import chain, elementwise, hessian, memory, mixture, network, sixth


@dataclass(frozen=True)
class Job:
    """What the contenders of a row compute.

    ``values`` are the arguments of a case; ``graph`` symgraph's inputs and outputs for it; ``jax`` and ``torch`` take
    the library and the case and return a function of the arguments; ``cupy`` is such a function by hand.
    """

    values: Callable[[Case], Sequence[Array]]
    graph: Callable[[Case], tuple[list[Any], Any]]
    jax: Callable[[Any, Case], Callable[..., Any]]
    torch: Callable[[Any, Case], Callable[..., Any]]
    cupy: Callable[[Any, Case], Callable[..., Any]] | None = None


def flat(result: Any) -> list[Any]:
    """A result as a list of arrays, whatever it is nested in."""
    return [v for part in result for v in flat(part)] if isinstance(result, list | tuple) else [result]


def _symgraph(job: Job, case: Case, blas: str = "auto") -> Work:
    import symgraph as sg
    from symgraph.runtime.arrays import LEGACY
    from symgraph.runtime.device import require, the_device

    require("cuda")
    fn = sg.function(*job.graph(case), target="cuda", device_outputs=True, blas=blas)
    values = [sg.to_device(v) for v in job.values(case)]
    device: Any = the_device()

    def call() -> Any:
        out = fn(*values)
        with device.current():
            device.synchronize(LEGACY)
        return out

    return Work(call, lambda r: [np.asarray(v) for v in flat(r)])


def _jax(job: Job, case: Case) -> Work:
    jax = use_jax()
    jax.config.update("jax_default_matmul_precision", "highest")
    f, values = jax.jit(job.jax(jax, case)), jax.device_put(list(job.values(case)))
    return Work(lambda: jax.block_until_ready(f(*values)), lambda r: [np.asarray(v) for v in flat(r)])


def _torch(job: Job, case: Case, compiled: bool) -> Work:
    import torch

    made = job.torch(torch, case)
    f = torch.compile(made) if compiled else made
    values = [torch.from_numpy(v).cuda() for v in job.values(case)]

    def call() -> Any:
        out = f(*values)
        torch.cuda.synchronize()
        return out

    return Work(call, lambda r: [v.detach().cpu().numpy() for v in flat(r)])


def _cupy(job: Job, case: Case) -> Work:
    import cupy

    assert job.cupy is not None
    f, values = job.cupy(cupy, case), [cupy.asarray(v) for v in job.values(case)]
    device = cupy.cuda.Device()

    def call() -> Any:
        out = f(*values)
        device.synchronize()
        return out

    return Work(call, lambda r: [cupy.asnumpy(v) for v in flat(r)])


WAYS = {"symgraph, tiles": "tiles", "symgraph, cuBLAS": "cublas"}
"""symgraph with one way to compute products of matrices; by itself, it chooses."""


def contenders(job: Job, products: bool) -> Mapping[str, Callable[[Case], Work]]:
    """All of a row. ``products``: it has products of matrices."""
    made: dict[str, Callable[[Case], Work]] = {
        "symgraph": partial(_symgraph, job),
        **{name: partial(_symgraph, job, blas=blas) for name, blas in WAYS.items() if products},
        "jax": partial(_jax, job),
        "torch": partial(_torch, job, compiled=False),
        "torch.compile": partial(_torch, job, compiled=True),
    }
    if job.cupy is not None:
        made["cupy"] = partial(_cupy, job)
    return made


# -- elementwise, softmax, sum -----------------------------------------------------------------------------------------


def _numbers(case: Case, count: int = 1) -> list[Array]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=case["shape"]).astype(case["dtype"]) for _ in range(count)]


def _variables(case: Case, count: int = 1) -> list[Any]:
    import symgraph as sg

    shape = [f"n{k}" for k in range(len(case["shape"]))]
    return [sg.tensor(f"x{k}", dtype=case["dtype"], shape=shape) for k in range(count)]


def _elementwise(case: Case) -> tuple[list[Any], Any]:
    import symgraph as sg

    x, y = _variables(case, 2)
    return [x, y], elementwise.formula(sg, x, y)


def _plain(library: Any, case: Case) -> Callable[..., Any]:
    m = getattr(library, "numpy", library)  # jax.numpy; PyTorch and CuPy have the names themselves
    return partial(elementwise.formula, m)


def _softmax(case: Case) -> tuple[list[Any], Any]:
    import symgraph as sg

    (x,) = _variables(case)
    return [x], sg.softmax(x, axis=1)


def _softmax_cupy(cupy: Any, case: Case) -> Callable[..., Any]:
    def f(x: Any) -> Any:
        e = cupy.exp(x - x.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    return f


def _sum(case: Case) -> tuple[list[Any], Any]:
    import symgraph as sg

    (x,) = _variables(case)
    return [x], sg.sum(x)


def _matmul(case: Case) -> tuple[list[Any], Any]:
    import symgraph as sg

    n = sg.dim("n")
    x, y = (sg.tensor(name, dtype=case["dtype"], shape=(n, n)) for name in "xy")
    return [x, y], x @ y


# -- small calls, high orders, long chains -----------------------------------------------------------------------------


def _one_more(case: Case) -> tuple[list[Any], Any]:
    (x,) = _variables(case)
    return [x], x + 1


def _plus_one(library: Any, case: Case) -> Callable[..., Any]:
    return lambda x: x + 1


def _points(case: Case) -> list[Array]:
    return [np.linspace(-2, 2, case["n"])]


def _sixth(case: Case) -> tuple[list[Any], Any]:
    import symgraph as sg

    x = sg.vector("x", shape=("n",))
    d = sixth.formula(sg, x)
    for _ in range(sixth.ORDER):
        d = sg.grad(sg.sum(d), x)
    return [x], d


def _sixth_by(grad: Callable[..., Any], vmap: Callable[..., Any], m: Any) -> Callable[..., Any]:
    g: Callable[..., Any] = partial(sixth.formula, m)
    for _ in range(sixth.ORDER):
        g = grad(g)
    made: Callable[..., Any] = vmap(g)
    return made


def _chain(case: Case) -> tuple[list[Any], Any]:
    import symgraph as sg

    x = sg.vector("x", shape=("n",))
    return [x], sg.grad(sg.sum(chain.sines(sg.sin, x, case["links"])), x)


def _chain_by(grad: Callable[..., Any], m: Any, case: Case) -> Callable[..., Any]:
    made: Callable[..., Any] = grad(lambda x: m.sum(chain.sines(m.sin, x, case["links"])))
    return made


def _chain_cupy(cupy: Any, case: Case) -> Callable[..., Any]:
    def f(x: Any) -> Any:
        product = cupy.ones_like(x)
        for _ in range(case["links"]):
            product, x = product * cupy.cos(x), cupy.sin(x)
        return product

    return f


# -- with gradients ----------------------------------------------------------------------------------------------------


def _network_jax(jax: Any, case: Case) -> Callable[..., Any]:
    f = network.build_jax()
    return lambda x, y, *weights: f(list(weights), x, y)


def _network_torch(torch: Any, case: Case) -> Callable[..., Any]:
    entropy = torch.nn.functional.cross_entropy

    def loss(weights: Any, x: Any, y: Any) -> Any:
        h = torch.tanh(x @ weights[0] + weights[1])
        h = torch.tanh(h @ weights[2] + weights[3])
        return entropy(h @ weights[4] + weights[5], y)

    f = torch.func.grad_and_value(loss)

    def call(x: Any, y: Any, *weights: Any) -> Any:
        gradients, value = f(list(weights), x, y)
        return [value, *gradients]

    return call


def _mixture_jax(jax: Any, case: Case) -> Callable[..., Any]:
    at, zero = mixture.places(case["d"]), np.zeros((case["k"], 1))
    f = jax.value_and_grad(lambda p, x: mixture.formula(mixture._Jax(jax), at, zero, p, x))
    return lambda alpha, mu, icf, x: f([alpha, mu, icf], x)


def _mixture_torch(torch: Any, case: Case) -> Callable[..., Any]:
    at = torch.from_numpy(mixture.places(case["d"])).cuda()
    zero = torch.zeros((case["k"], 1), dtype=torch.float64, device="cuda")
    f = torch.func.grad_and_value(lambda p, x: mixture.formula(mixture._Torch(torch), at, zero, p, x))

    def call(alpha: Any, mu: Any, icf: Any, x: Any) -> Any:
        gradients, value = f([alpha, mu, icf], x)
        return [value, *gradients]

    return call


def _hessian_jax(jax: Any, case: Case) -> Callable[..., Any]:
    f = jax.hessian(lambda w, X, y: jax.numpy.sum(jax.nn.softplus(-y * (X @ w))))
    return lambda X, y, w: f(w, X, y)


def _hessian_torch(torch: Any, case: Case) -> Callable[..., Any]:
    f = torch.func.hessian(lambda w, X, y: torch.nn.functional.softplus(-y * (X @ w)).sum())
    return lambda X, y, w: f(w, X, y)


def _hessian_cupy(cupy: Any, case: Case) -> Callable[..., Any]:
    def f(X: Any, y: Any, w: Any) -> Any:
        p = 1 / (1 + cupy.exp(-(X @ w)))
        return X.T @ (X * (p * (1 - p))[:, None])

    return f


def _memory_jax(jax: Any, case: Case) -> Callable[..., Any]:
    f = jax.value_and_grad(lambda W, h: memory.formula(jax.numpy, h, W))
    return lambda h, W: f(W, h)


def _memory_torch(torch: Any, case: Case) -> Callable[..., Any]:
    f = torch.func.grad_and_value(lambda W, h: memory.formula(torch, h, W))

    def call(h: Any, W: Any) -> Any:
        gradient, value = f(W, h)
        return [value, gradient]

    return call


JOBS: dict[str, Job] = {
    "gpu-elementwise": Job(partial(_numbers, count=2), _elementwise, _plain, _plain, _plain),
    "gpu-softmax": Job(
        _numbers, _softmax, lambda jax, case: jax.nn.softmax, lambda torch, case: partial(torch.softmax, dim=1),
        _softmax_cupy,
    ),
    "gpu-sum": Job(
        _numbers, _sum, lambda jax, case: jax.numpy.sum, lambda torch, case: torch.sum, lambda cupy, case: cupy.sum
    ),
    "gpu-matmul": Job(
        partial(_numbers, count=2), _matmul, lambda jax, case: jax.numpy.matmul, lambda torch, case: torch.matmul,
        lambda cupy, case: cupy.matmul,
    ),
    "gpu-call": Job(_numbers, _one_more, _plus_one, _plus_one, _plus_one),
    "gpu-sixth": Job(
        _points, _sixth, lambda jax, case: _sixth_by(jax.grad, jax.vmap, jax.numpy),
        lambda torch, case: _sixth_by(torch.func.grad, torch.func.vmap, torch),
    ),
    "gpu-chain": Job(
        _points, _chain, lambda jax, case: _chain_by(jax.grad, jax.numpy, case),
        lambda torch, case: _chain_by(torch.func.grad, torch, case), _chain_cupy,
    ),
    "gpu-network": Job(
        lambda case: network.draw(case["batch"], case["dtype"]), lambda case: network.graph(case["dtype"]),
        _network_jax, _network_torch,
    ),
    "gpu-mixture": Job(
        mixture.draw, lambda case: mixture.graph(case["d"], case["k"], "n"), _mixture_jax, _mixture_torch
    ),
    "gpu-hessian": Job(hessian.draw, lambda case: hessian.graph(), _hessian_jax, _hessian_torch, _hessian_cupy),
    "gpu-memory": Job(
        lambda case: memory.draw(case["n"]), lambda case: memory.graph(), _memory_jax, _memory_torch
    ),
}  # fmt: skip


# -- peak memory -------------------------------------------------------------------------------------------------------


def _peak_symgraph(job: Job, case: Case) -> Measures:
    import symgraph as sg

    fn = sg.function(*job.graph(case), target="cuda", device_outputs=True)
    values = [sg.to_device(v) for v in job.values(case)]
    out = fn(*values)
    plan = fn.program.last_plan
    assert plan is not None
    return _peak(case, plan.arena + plan.workspace + sum(v.nbytes for v in out), [np.asarray(v) for v in out])


def _peak_jax(job: Job, case: Case) -> Measures:
    jax = use_jax()
    jax.config.update("jax_default_matmul_precision", "highest")
    f, values = jax.jit(job.jax(jax, case)), jax.device_put(list(job.values(case)))
    ready = f.lower(*values).compile()
    sizes = ready.memory_analysis()
    out = flat(ready(*values))
    return _peak(case, sizes.temp_size_in_bytes + sizes.output_size_in_bytes, [np.asarray(v) for v in out])


def _peak_torch(job: Job, case: Case, compiled: bool) -> Measures:
    import torch

    made = job.torch(torch, case)
    f = torch.compile(made) if compiled else made
    values = [torch.from_numpy(v).cuda() for v in job.values(case)]
    f(*values)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    out = flat(f(*values))
    torch.cuda.synchronize()
    return _peak(case, torch.cuda.max_memory_allocated() - before, [v.detach().cpu().numpy() for v in out])


def _peak(case: Case, nbytes: float, values: Sequence[Array]) -> Measures:
    matrix = case["n"] ** 2 * 8
    return Measures({"peak": nbytes / 2**20, "peak / matrix": nbytes / matrix}, values)


# -- the roof ----------------------------------------------------------------------------------------------------------


def _copied(library: Any, case: Case) -> Callable[..., Any]:
    return lambda x: x.copy() if hasattr(x, "copy") else x.clone()


ROOF_JOBS = {
    "copy": Job(_numbers, _sum, _plain, _copied, _copied),
    "product": JOBS["gpu-matmul"],
}


def _roof(kind: Callable[[Job, Case], Work], case: Case) -> Work:
    made = kind(ROOF_JOBS[case["what"]], case)
    return Work(made.call, lambda r: [])


def _product(n: int, dtype: str) -> Case:
    facts = {"what": "product", "shape": (n, n), "dtype": dtype, "flops": 2 * n**3}
    return Case(f"product of {n} × {n}, {dtype}", facts)


ROOF = Row(
    key="gpu-roof",
    title="what the device does: a copy (bytes read and written), and cuBLAS",
    target="",
    cases=[
        Case("copy of 1 GiB", {"what": "copy", "shape": (2**28,), "dtype": "float32", "bytes": 2**31}),
        _product(8192, "float32"),
        _product(4096, "float64"),
    ],
    timed={"cupy": partial(_roof, _cupy), "torch": partial(_roof, partial(_torch, compiled=False))},
    platform="cuda",
)


def _row(name: str, title: str, target: str, cases: Sequence[Case], rtol: float, products: bool = False) -> Row:
    key, floors = f"gpu-{name}", tuple(WAYS) if products else ()
    timed = contenders(JOBS[key], products)
    return Row(key, title, target, cases, timed, floors=floors, platform="cuda", rtol=rtol)


def _sized(*cases: tuple[tuple[int, ...], str]) -> list[Case]:
    return [Case(f"{' × '.join(map(str, s))}, {d}", {"shape": s, "dtype": d}) for s, d in cases]


BEST = "at most the best peer"
SQUARE = (2048, 2048)
ROWS: tuple[Row, ...] = (
    ROOF,
    _row(
        "elementwise",
        elementwise.ROW.title.removesuffix(", float64"),
        "at most 1.1 times the time of a copy",
        _sized(((10_000_000,), "float32"), ((10_000_000,), "float64")),
        1e-4,
    ),
    _row("softmax", "softmax of rows", BEST, _sized(((8192, 1024), "float32"), ((64, 500_000), "float32")), 1e-4),
    _row("sum", "sum of all elements", BEST, _sized(((100_000_000,), "float32"), ((1000, 1000), "float64")), 1e-3),
    _row("call", "x + 1 on three floats", BEST, _sized(((3,), "float64")), 1e-12),
    _row(
        "sixth",
        "the sixth derivative of exp(sin x)/(1 + x²), by differentiating six times",
        BEST,
        [Case(f"{n:,} points", {"n": n}) for n in (1000, 1_000_000)],
        1e-8,
    ),
    _row("chain", "derivative of a chain of sines", BEST, [Case("1,000 sines", {"n": 100_000, "links": 1000})], 1e-8),
    _row("matmul", "product of two matrices", BEST, _sized((SQUARE, "float32"), (SQUARE, "float64")), 1e-3, True),
    _row(
        "network",
        network.ROW.title,
        BEST,
        [Case(f"batch {b}, float32", {"batch": b, "dtype": "float32"}) for b in (256, 4096)],
        1e-3,
        products=True,
    ),
    _row(
        "mixture",
        "Gaussian mixture, objective and gradient",
        BEST,
        [Case(f"d = 32, K = 25, n = {n}", {"d": 32, "k": 25, "n": n}) for n in (1000, 20_000)],
        1e-8,
        products=True,
    ),
    _row("hessian", hessian.ROW.title, BEST, hessian.ROW.cases, 1e-8, products=True),
    _row("memory", "gradient of one 61 MB matrix that 12 products use", BEST, memory.ROW.cases, 1e-8, products=True),
    Row(
        "gpu-peak",
        "peak memory of the gradient of one 61 MB matrix that 12 products use",
        memory.ROW.target,
        memory.ROW.cases,
        once={
            "symgraph": partial(_peak_symgraph, JOBS["gpu-memory"]),
            "jax": partial(_peak_jax, JOBS["gpu-memory"]),
            "torch": partial(_peak_torch, JOBS["gpu-memory"], compiled=False),
            "torch.compile": partial(_peak_torch, JOBS["gpu-memory"], compiled=True),
        },
        columns=memory.ROW.columns,
        platform="cuda",
        rtol=1e-8,
    ),
)
