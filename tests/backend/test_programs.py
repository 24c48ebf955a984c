"""Random programs: compiled and optimized, they are what the interpreter makes of the graph as written.

Values and gradients, for several sizes through one function. To look for counterexamples for longer::

    pytest tests/backend/test_programs.py --hypothesis-profile=explore
"""

from __future__ import annotations

from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from numpy.typing import NDArray

import symgraph as sg
from symgraph.errors import SizeError, SymgraphError
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


@hypothesis.settings(max_examples=80)
@hypothesis.given(programs())
def test_values(program: Program) -> None:
    check(program, program.outputs)


@hypothesis.settings(max_examples=40)
@hypothesis.given(programs(8))
def test_gradients(program: Program) -> None:
    check(program, [program.cost(), *program.gradients()])


@hypothesis.settings(max_examples=25)
@hypothesis.given(programs(10, ("float32", "float64", "float16")))
def test_mixed_precision(program: Program) -> None:
    check(program, program.outputs, worst="float16")


@hypothesis.settings(max_examples=12)
@hypothesis.given(programs(8), st.sampled_from([p.name for p in GRAPH_PASSES]))
def test_stopped_anywhere(program: Program, stop_after: str) -> None:
    decomposed = [n.op.name for n in program.graph.nodes if hasattr(n.op, "decompose")]
    hypothesis.assume(not decomposed)
    check(program, program.outputs, sizes=1, stop_after=stop_after)


@hypothesis.settings(max_examples=12)
@hypothesis.given(programs(8))
def test_fast_math(program: Program) -> None:
    check(program, program.outputs, sizes=2, fast_math=True)


@hypothesis.settings(max_examples=15)
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


# The sum so far is interned, and may turn out to be an operand of the product that is added to it.
ALIASED = (
    "an operand of the product is the sum so far",
    "the same, beside other products",
    "a sum that is used again",
)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.xfail] if n in ALIASED else []) for n in sums_of_products()]
)
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
