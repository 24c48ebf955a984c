"""Random well-typed programs, for properties that must hold of every program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from symgraph.graph import Graph, Variable
from symgraph.types import TensorType, dim, is_float, tensor_type

T = TypeVar("T")


class Draw(Protocol):
    """Where choices come from: an integer from ``low`` to ``high``, both included."""

    def __call__(self, low: int, high: int) -> int: ...


def from_rng(rng: np.random.Generator) -> Draw:
    """Choices from a random generator."""
    return lambda low, high: int(rng.integers(low, high + 1))


def from_hypothesis(draw: Callable[[Any], Any]) -> Draw:
    """Choices from hypothesis, which shrinks them: ``from_hypothesis(draw)`` inside a composite strategy."""
    from hypothesis import strategies as st

    return lambda low, high: int(draw(st.integers(low, high)))


@dataclass
class Program:
    """A random program: inputs, a value for each, and outputs, of which some are of float dtypes."""

    inputs: list[Variable]
    values: list[NDArray[Any]]
    outputs: list[Variable]
    steps: list[str] = field(default_factory=list)

    @property
    def graph(self) -> Graph:
        """The program as a graph."""
        return Graph(self.inputs, self.outputs)

    @property
    def givens(self) -> dict[Variable, NDArray[Any]]:
        """The values by input."""
        return dict(zip(self.inputs, self.values, strict=True))

    def cost(self) -> Variable:
        """A scalar that depends on every float output: the sum of their means, of float64."""
        import symgraph as sg

        terms = [sg.sum(sg.tanh(sg.cast(v, "float64"))) for v in self.outputs if is_float(v.type.dtype)]
        total: Variable = sg.constant(0.0)
        for t in terms:
            total = sg.add(total, t)
        return total

    def gradients(self) -> list[Variable]:
        """The gradient of the cost on each float input, zeros where it does not depend on one."""
        from symgraph.autodiff import grad

        return grad(self.cost(), [v for v in self.inputs if is_float(v.type.dtype)], disconnected="zero")


def random_program(
    source: Draw | np.random.Generator,
    steps: int = 12,
    dtypes: Sequence[str] = ("float64",),
    symbolic: bool = True,
    names: Sequence[str] | None = None,
) -> Program:
    """A random program of about ``steps`` operations over two to four inputs of up to three axes.

    Args:
        source: where choices come from: a random generator, or :func:`~symgraph.testing.programs.from_hypothesis`.
        steps: how many operations are applied to what there is.
        dtypes: the float dtypes that inputs and casts take.
        symbolic: whether sizes of inputs are named rather than numbers.
        names: operations to choose from, by the keys of :data:`~symgraph.testing.programs.STEPS`; all by default.

    Values are moderate: inputs lie in [-1, 1], and steps that could grow are damped, so that results of reordered sums
    stay comparable.
    """
    draw = from_rng(source) if isinstance(source, np.random.Generator) else source
    sizes = [_pick(draw, [1, 2, 3, 5]) for _ in range(3)]
    named = [dim(f"d{k}") if symbolic and n > 1 and draw(0, 1) else n for k, n in enumerate(sizes)]
    seed = draw(0, 2**20)
    rng = np.random.default_rng(seed)
    program = Program([], [], [])
    for k in range(draw(2, 4)):
        axes = [draw(0, 2) for _ in range(draw(0, 3))]
        type = tensor_type(_pick(draw, list(dtypes)), [named[a] for a in axes])
        program.inputs.append(Variable(type, name=f"x{k}"))
        program.values.append(rng.uniform(-1, 1, [sizes[a] for a in axes]).astype(type.dtype))
    pool = list(program.inputs)
    chosen = list(STEPS) if names is None else list(names)
    for _ in range(steps):
        name = _pick(draw, chosen)
        made = STEPS[name](_Builder(draw, pool, list(dtypes)))
        if made is not None and made.type.ndim <= 4:
            pool.append(made)
            program.steps.append(name)
    program.outputs = [pool[-1], *[_pick(draw, pool) for _ in range(draw(0, 2))]]
    program.outputs = list(dict.fromkeys(program.outputs))
    return program


def _pick(draw: Draw, items: Sequence[T]) -> T:
    return items[draw(0, len(items) - 1)]


@dataclass
class _Builder:
    """What a step chooses from."""

    draw: Draw
    pool: list[Variable]
    dtypes: list[str]

    def choose(self, items: Sequence[T]) -> T:
        return _pick(self.draw, items)

    def any(self) -> Variable:
        # Recent results more often, so that programs are deep.
        recent = self.pool[-4:] if self.draw(0, 2) else self.pool
        return self.choose(recent)

    def real(self) -> Variable:
        found = self.like(is_float_type)
        return self.pool[0] if found is None else found

    def like(self, accept: Callable[[TensorType], bool]) -> Variable | None:
        fitting = [v for v in self.pool if accept(v.type)]
        return self.choose(fitting[-4:] if self.draw(0, 2) else fitting) if fitting else None

    def axis(self, v: Variable) -> int:
        return self.draw(0, v.type.ndim - 1)


def is_float_type(type: TensorType) -> bool:
    """Whether derivatives flow through this type."""
    return is_float(type.dtype)


Step = Callable[[_Builder], Variable | None]
STEPS: dict[str, Step] = {}
"""The steps of random programs by name. Each makes a variable from those in the pool, or ``None`` where none fits."""


def step(fn: Step) -> Step:
    """Register a step."""
    STEPS[fn.__name__.strip("_")] = fn
    return fn


_UNARY = (
    *("sin", "cos", "tanh", "sigmoid", "softplus", "relu", "negative", "absolute", "square", "arctan", "arcsinh"),
    *("erf", "expm1", "sign", "floor", "log1p_square", "sqrt_one", "exp_negative", "reciprocal_one"),
)


@step
def _unary(b: _Builder) -> Variable | None:
    import symgraph as sg

    name, x = b.choose(_UNARY), b.real()
    match name:
        case "log1p_square":
            return sg.log1p(sg.square(x))
        case "sqrt_one":
            return sg.sqrt(sg.square(x) + 1)
        case "exp_negative":
            return sg.exp(-sg.absolute(x))
        case "reciprocal_one":
            return 1 / (1 + sg.square(x))
        case "square" | "expm1":
            return getattr(sg, name)(sg.tanh(x))  # type: ignore[no-any-return]
    return getattr(sg, name)(x)  # type: ignore[no-any-return]


def _broadcastable(b: _Builder) -> tuple[Variable, Variable]:
    x = b.real()

    def fits(type: TensorType) -> bool:
        if not is_float(type.dtype):
            return False
        pairs = zip(reversed(type.shape), reversed(x.type.shape), strict=False)
        return all(p == q or p == 1 or q == 1 for p, q in pairs)

    y = b.like(fits)
    return x, y if y is not None else x


@step
def _binary(b: _Builder) -> Variable | None:
    import symgraph as sg

    name = b.choose(["add", "subtract", "multiply", "maximum", "minimum", "divide", "power", "logaddexp", "arctan2"])
    x, y = _broadcastable(b)
    match name:
        case "multiply":
            return sg.tanh(x) * y
        case "divide":
            return x / (1 + y * y)
        case "power":
            return (1 + sg.tanh(x) ** 2) ** sg.tanh(y)
        case "arctan2":
            return sg.arctan2(x, 2 + sg.tanh(y))
    return getattr(sg, name)(x, y)  # type: ignore[no-any-return]


@step
def _constant(b: _Builder) -> Variable | None:
    x = b.real()
    c = b.choose([2, 0.5, -1.0, 0, 1])
    match b.draw(0, 3):
        case 0:
            return x * c
        case 1:
            return x + c
        case 2:
            return c - x
    return x**2 if c == 2 else x / (c or 3)


@step
def _select(b: _Builder) -> Variable | None:
    import symgraph as sg

    x, y = _broadcastable(b)
    match b.draw(0, 2):
        case 0:
            return sg.where(x < y, x, y * 2)
        case 1:
            return sg.where(sg.greater(x, 0.25), y, 0)
    return sg.clip(x, -0.5, 0.5)


@step
def _reduce(b: _Builder) -> Variable | None:
    import symgraph as sg

    x = b.like(lambda t: is_float(t.dtype) and t.ndim > 0)
    if x is None:
        return None
    name = b.choose(["mean", "sum", "max", "min", "prod", "logsumexp"])
    axis: Any = b.choose([None, b.axis(x), b.axis(x)])
    keepdims = bool(b.draw(0, 1))
    if name == "prod":
        x = sg.tanh(x)
    made: Variable = getattr(sg, name)(x, axis=axis, keepdims=keepdims)
    return made


@step
def _shape(b: _Builder) -> Variable | None:
    import symgraph as sg

    x = b.real()
    choices: list[Callable[[], Variable]] = [lambda: sg.expand_dims(x, b.draw(0, x.type.ndim)), lambda: sg.ravel(x)]
    if x.type.ndim > 1:
        choices += [lambda: sg.transpose(x), lambda: sg.swapaxes(x, 0, b.axis(x))]
    if x.type.ndim:
        choices += [lambda: sg.concatenate([x, x * 2], b.axis(x)), lambda: sg.squeeze(x)]
    choices.append(lambda: sg.broadcast_to(x, (b.draw(1, 3), *x.type.shape)))
    return b.choose(choices)()


@step
def _slice(b: _Builder) -> Variable | None:
    x = b.like(lambda t: is_float(t.dtype) and t.ndim > 0 and all(isinstance(s, int) and s > 1 for s in t.shape))
    if x is None:
        return None
    keys: list[Any] = [slice(1, None), slice(None, -1), slice(None, None, -1), slice(None, None, 2), 0, -1]
    return x[tuple(b.choose(keys) for _ in range(b.draw(1, x.type.ndim)))]


@step
def _matmul(b: _Builder) -> Variable | None:
    import symgraph as sg

    x = b.like(lambda t: is_float(t.dtype) and t.ndim in (1, 2, 3))
    if x is None:
        return None

    def fits(t: TensorType) -> bool:
        return is_float(t.dtype) and t.ndim in (1, 2) and t.shape[0] == x.type.shape[-1]

    y = b.like(fits)
    if y is None:
        y = sg.transpose(x) if x.type.ndim < 3 else None
    return None if y is None else sg.tanh(sg.matmul(x, y))


@step
def _softmax(b: _Builder) -> Variable | None:
    import symgraph as sg

    x = b.like(lambda t: is_float(t.dtype) and t.ndim > 0)
    if x is None:
        return None
    return b.choose([sg.softmax, sg.log_softmax])(x, axis=b.axis(x))


@step
def _take(b: _Builder) -> Variable | None:
    import symgraph as sg

    x = b.like(lambda t: is_float(t.dtype) and t.ndim > 0 and all(s != 0 for s in t.shape))
    if x is None:
        return None
    return sg.take(x, np.array([0, -1, 0]), axis=b.axis(x))


@step
def _cast(b: _Builder) -> Variable | None:
    import symgraph as sg

    return sg.cast(b.real(), b.choose(b.dtypes))


@step
def _stop(b: _Builder) -> Variable | None:
    import symgraph as sg

    x = b.real()
    return x * sg.stop_gradient(sg.tanh(x))
