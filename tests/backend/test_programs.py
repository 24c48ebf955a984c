"""Random programs: compiled and optimized, they are what the interpreter makes of the graph as written.

Values and gradients, for several sizes through one function. To look for counterexamples for longer::

    pytest tests/backend/test_programs.py --hypothesis-profile=explore
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from numpy.typing import NDArray

import symgraph as sg
from symgraph.errors import IndexRangeError, SizeError, SymgraphError
from symgraph.graph import Graph, SharedVariable, Variable
from symgraph.op import apply
from symgraph.ops.elementwise import Accumulate
from symgraph.pipeline import GRAPH_PASSES, graph_variables
from symgraph.runtime.cache import kernel_cache
from symgraph.runtime.interpreter import interpret
from symgraph.runtime.sizes import bind_sizes
from symgraph.testing import Program, random_program
from symgraph.testing.programs import from_hypothesis
from symgraph.types import Dim, atoms

Array = NDArray[Any]

# Programs of a dozen steps: rounding differs at each, and reordered sums cancel differently.
TOLERANCE = {"float64": 1e-9, "float32": 2e-3, "float16": 2e-1}


def examples(count: int) -> hypothesis.settings:
    """``count`` examples under the profile that the suite runs with, ten times as many to explore."""
    return hypothesis.settings(max_examples=count * hypothesis.settings().max_examples // 100)


@st.composite
def programs(draw: Any, steps: int = 12, dtypes: tuple[str, ...] = ("float64",)) -> Program:
    return random_program(from_hypothesis(draw), steps, dtypes)


def same(got: Array, want: Array, what: str, worst: str | None = None) -> None:
    assert got.dtype == want.dtype, what
    assert got.shape == want.shape, what
    if want.dtype.kind != "f":
        np.testing.assert_array_equal(got, want, err_msg=what)
        return
    rtol = TOLERANCE[worst or want.dtype.name]
    scale = np.max(np.abs(want), initial=1.0, where=np.isfinite(want))
    np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol * float(scale), err_msg=what)


def describe(program: Program) -> str:
    return "\n" + sg.print_graph(program.graph)


def resized(program: Program, rng: np.random.Generator) -> list[Array]:
    """Values for the same inputs, of other sizes wherever a size is named."""
    named = {a for v in program.inputs for s in v.type.shape for a in atoms(s)}
    new = {a: int(rng.integers(1, 7)) for a in named}

    def size(s: Any) -> int:
        return new[s.atom] if isinstance(s, Dim) and s.atom is not None else int(s)

    return [rng.uniform(-1, 1, [size(s) for s in v.type.shape]).astype(v.type.dtype) for v in program.inputs]


def check(program: Program, outputs: list[Variable], worst: str | None = None, sizes: int = 3, **options: Any) -> None:
    """One function for several sizes, without compiling anything after the first."""
    fn = sg.function(program.inputs, outputs, **options)
    compiled = kernel_cache().compiled
    rng = np.random.default_rng(0)
    for k in range(sizes):
        values = program.values if k == 0 else resized(program, rng)
        before = [a.copy() for a in values]
        with np.errstate(all="ignore"):
            try:
                want = interpret(outputs, dict(zip(program.inputs, values, strict=True)))
            except SymgraphError:
                assert k > 0  # a size that the program's own reshapes and concatenations exclude
                with pytest.raises(SizeError):
                    fn(*values)
                continue
        got = fn(*values)
        for j, (g, w) in enumerate(zip(got, want, strict=True)):
            same(g, w, f"output {j}, sizes {k}{describe(program)}", worst)
        for a, b in zip(values, before, strict=True):
            np.testing.assert_array_equal(a, b)
    assert kernel_cache().compiled == compiled


@examples(80)
@hypothesis.given(programs())
def test_values(program: Program) -> None:
    check(program, program.outputs)


@examples(40)
@hypothesis.given(programs(8))
def test_gradients(program: Program) -> None:
    check(program, [program.cost(), *program.gradients()])


@examples(25)
@hypothesis.given(programs(10, ("float32", "float64", "float16")))
def test_mixed_precision(program: Program) -> None:
    check(program, program.outputs, worst="float16")


@examples(12)
@hypothesis.given(programs(8), st.sampled_from([p.name for p in GRAPH_PASSES]))
def test_stopped_anywhere(program: Program, stop_after: str) -> None:
    decomposed = [n.op.name for n in program.graph.nodes if hasattr(n.op, "decompose")]
    hypothesis.assume(not decomposed)
    check(program, program.outputs, sizes=1, stop_after=stop_after)


@examples(12)
@hypothesis.given(programs(8))
def test_fast_math(program: Program) -> None:
    check(program, program.outputs, sizes=2, fast_math=True)


@examples(15)
@hypothesis.given(programs(10), st.integers(0, 2**20))
def test_updates(program: Program, seed: int) -> None:
    """Inputs as state: each call replaces them by what the program says, from the values before."""
    rng = np.random.default_rng(seed)
    state = {v: SharedVariable(a.copy(), v.type, v.name) for v, a in zip(program.inputs, program.values, strict=True)}
    chosen = {v: s for v, s in state.items() if rng.integers(2)}
    left = [v for v in program.inputs if v not in chosen]
    target: dict[SharedVariable, Variable] = {}
    for s in chosen.values():
        fitting = [v for v in graph_variables(program.graph) if v.type == s.type]
        target[s] = fitting[int(rng.integers(len(fitting)))]
    fn = sg.function(left, program.outputs, target, givens=dict(chosen))
    values = dict(program.givens)
    for _ in range(3):
        with np.errstate(all="ignore"):
            want = interpret([*program.outputs, *target.values()], values)
        got = fn(*[values[v] for v in left])
        for g, w in zip(got, want, strict=False):
            same(g, w, f"output{describe(program)}")
        names = {s: v for v, s in state.items()}
        for s, w in zip(target, want[len(program.outputs) :], strict=True):
            same(s.get_value(), w, f"state {s.name}{describe(program)}")
            values[names[s]] = s.get_value()


# -- programs of shapes, indices and integers --------------------------------------------------------------------------

Moves = Callable[["Maker"], Variable]


@dataclass
class Maker:
    """What is there so far, and how to choose from it."""

    draw: Callable[[int, int], int]
    pool: list[Variable]

    def pick(self, items: Sequence[Any]) -> Any:
        return items[self.draw(0, len(items) - 1)]

    def any(self) -> Variable:
        found: Variable = self.pick(self.pool[-5:] if self.draw(0, 1) else self.pool)
        return found

    def real(self) -> Variable:
        found: Variable = self.pick([v for v in self.pool if v.type.dtype.kind == "f"][-5:])
        return found

    def whole(self) -> Variable:
        found: Variable = self.pick([v for v in self.pool if v.type.dtype.kind in "iu"][-5:])
        return found

    def wide(self) -> Variable:
        """One with axes."""
        found: Variable = self.pick([v for v in self.pool if v.type.ndim][-6:])
        return found

    def axis(self, v: Variable) -> int:
        return self.draw(0, v.type.ndim - 1)


def _slice(m: Maker) -> Variable:
    x = m.wide()
    keys = [slice(None, None, -1), slice(1, None), slice(None, -1), slice(None, None, 2), slice(1, 2), None]
    return x[tuple(m.pick(keys) for _ in range(x.type.ndim))]


def _reduce(m: Maker) -> Variable:
    x = m.wide()
    name = m.pick(["sum", "sum", "max", "min", "any", "all"])
    axis = m.pick([None, m.axis(x), tuple(range(x.type.ndim))[:2]])
    made: Variable = getattr(sg, name)(x, axis=axis, keepdims=bool(m.draw(0, 1)))
    return made


def _take(m: Maker) -> Variable:
    x, i = m.wide(), m.whole()
    return sg.take(x, i % 2 - 1 if i.type.dtype.kind == "i" else i % 1, axis=m.axis(x))


def _integers(m: Maker) -> Variable:
    i, j = m.whole(), m.draw(1, 5)
    made: Variable = m.pick([i // j, i % j, i * i, i & 3, -i, abs(i), i + j, sg.cast(i, "int8"), sg.cast(i, "float64")])
    return made


def _gradient(m: Maker) -> Variable:
    x = m.real()
    leaf: Variable = m.pick([v for v in m.pool if v.owner is None and v.type.dtype.kind == "f"])
    return sg.grad(sg.sum(sg.sin(x)), leaf, disconnected="zero")


def _pad(m: Maker) -> Variable:
    x = m.any()
    return sg.pad(x, [(m.draw(0, 2), m.draw(0, 2)) for _ in range(x.type.ndim)])


def _along(make: Callable[..., Variable], *args: int) -> Moves:
    def move(m: Maker) -> Variable:
        x = m.wide()
        return make(x, *args, m.axis(x))

    return move


def _gram(m: Maker) -> Variable:
    x = m.real()
    return sg.tanh(x @ sg.swapaxes(x, -1, -2)) if x.type.ndim > 1 else sg.tanh(sg.dot(x, x))


MOVES: list[Moves] = [
    *(_slice, _slice, _reduce, _reduce, _take, _integers, _gradient, _pad, _gram),
    _along(lambda x, axis: sg.concatenate([x, x[::-1]], axis)),
    _along(sg.roll, 1),
    _along(lambda x, axis: sg.softmax(sg.cast(x, "float64"), axis)),
    _along(lambda x, axis: sg.moveaxis(x, axis, 0)),
    lambda m: sg.tril(m.real(), m.draw(-1, 1)),
    lambda m: sg.diagonal(m.real()),
    lambda m: sg.where(m.any() > 0, m.real(), m.real()),
    lambda m: sg.reshape(m.any(), (-1,)),
    lambda m: sg.broadcast_to(x := m.any(), (2, *x.type.shape)),
    lambda m: (x := m.real()) * m.real() + sg.sin(x),
    lambda m: sg.tanh(m.real() @ m.real()),
]

SHAPES: list[tuple[Any, ...]] = [
    (),
    ("n",),
    ("m",),
    ("n", "m"),
    ("m", "n"),
    ("n", "n"),
    (2, "n", "m"),
    (1, "m"),
    ("n", 1),
]


@st.composite
def wide_programs(draw: Any, steps: int = 10) -> tuple[list[Variable], list[Variable]]:
    m = Maker(from_hypothesis(draw), [])
    inputs = [sg.tensor(f"x{k}", dtype="float64", shape=m.pick(SHAPES)) for k in range(m.draw(1, 2))]
    inputs += [sg.tensor(f"i{k}", dtype=m.pick(["int64", "int32", "uint8"]), shape=m.pick(SHAPES)) for k in range(2)]
    inputs.append(sg.tensor("v", dtype="float64", shape="n"))
    m.pool += inputs
    for _ in range(steps):
        try:
            made = m.pick(MOVES)(m)
        except SymgraphError:
            continue  # it does not fit: another one
        if made.type.ndim <= 4:
            m.pool.append(made)
    return inputs, list(dict.fromkeys([m.pool[-1], m.any(), m.any(), m.any()]))


@examples(60)
@hypothesis.given(wide_programs())
def test_shapes_indices_and_integers(program: tuple[list[Variable], list[Variable]]) -> None:
    """Sizes of 0 and 1 among them. A program is refused only where something in it is empty."""
    inputs, outputs = program
    fn = sg.function(inputs, outputs)
    rng = np.random.default_rng(0)
    for n, m in ((3, 4), (5, 2), (1, 1), (1, 6), (0, 3), (40, 33)):
        values = []
        for v in inputs:
            shape = [s if isinstance(s, int) else n if str(s) == "n" else m for s in v.type.shape]
            low = 0 if v.type.dtype.kind == "u" else -4
            values.append(rng.uniform(-1, 1, shape) if v.type.dtype.kind == "f" else rng.integers(low, 5, shape))
        values = [a.astype(v.type.dtype) for v, a in zip(inputs, values, strict=True)]
        text = f"sizes {n}, {m}\n{sg.print_graph(Graph(inputs, outputs))}"
        counts = {a.size for a in values}
        try:
            with np.errstate(all="ignore"):
                given = dict(zip(inputs, values, strict=True))
                want = interpret(outputs, given, observe=lambda v, a, counts=counts: counts.add(a.size))  # type: ignore[misc]
        except (SymgraphError, ValueError):
            assert 0 in counts, text
            continue
        try:
            got = fn(*values)
        except IndexRangeError:
            assert 0 in counts, text  # indices into an empty axis, where the result is empty too
            continue
        for g, w in zip(got, want, strict=True):
            same(g, w, text)


def test_programs_have_sizes_to_vary() -> None:
    """The property above is not empty: most programs have named sizes, and gradients that are not zero."""
    named = gradients = 0
    for seed in range(40):
        program = random_program(np.random.default_rng(seed), 8)
        named += bool(bind_sizes(program.inputs, program.values))
        floats = program.gradients()
        with np.errstate(all="ignore"):
            gradients += any(np.any(g) for g in interpret(Graph(program.inputs, floats), program.givens))
    assert named > 20
    assert gradients > 20


def sums_of_products() -> dict[str, Any]:
    x, a, w = (sg.matrix(name, shape=(4, 4)) for name in "xaw")
    s, t = x + a, sg.tanh(x)
    product = t @ w

    def total(terms: list[Variable]) -> Variable:
        return apply(Accumulate(), *terms)

    return {
        "an operand of the product is the sum so far": s @ w + x + a,
        "the same, beside other products": total([x, a, s @ w, w @ s]),
        "an input first": total([x, x @ w]),
        "a stored tensor first": total([sg.exp(s), s @ w, w @ sg.exp(s)]),
        "transposed": total([sg.exp(s), s.T @ w, w @ sg.exp(s).T]),
        "a product that another product reads": total([product, product @ w]),
        "one product twice": total([a @ w, a @ w]),
        "a sum that is used again": sg.tanh(total([t, a, s @ w])) + total([t, a]),
        "into columns": total([sg.sum(s, axis=0), x[0] @ w, a[1] @ w]),
        "batched": total([sg.exp(s)[None], (s @ w)[None], sg.expand_dims(x, 0) @ w]),
    }


@pytest.mark.parametrize("name", sums_of_products())
def test_sums_of_products(name: str) -> None:
    """Products add into the buffer of a sum only where nothing else reads it."""
    v = sums_of_products()[name]
    inputs = sorted((u for u in sg.graph.leaves([v]) if u.name), key=lambda u: str(u.name))
    values = [np.random.default_rng(k).normal(size=(4, 4)) for k in range(len(inputs))]
    inner = [u for u in graph_variables(Graph(inputs, [v])) if u.owner is not None]
    for outputs in ([v], [v, *inner[::-1]]):
        want = interpret(outputs, dict(zip(inputs, values, strict=True)))
        for g, w in zip(sg.function(inputs, outputs)(*values), want, strict=True):
            same(g, w, name)
