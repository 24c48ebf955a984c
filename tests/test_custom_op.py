"""Operations of the user's own: host steps in NumPy and in Numba, with their rules."""

from __future__ import annotations

import pickle
import re
import sys
import threading
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import pytest
from numpy.typing import NDArray

import symgraph as sg
from symgraph.errors import (
    AmbiguousNameError,
    CheckError,
    DTypeError,
    FormatError,
    HostError,
    NotDifferentiableError,
    RuleError,
    SizeError,
    SymgraphError,
)
from symgraph.graph import Variable
from symgraph.printing import parse_graph, print_graph
from symgraph.runtime.lowered import lower
from symgraph.testing import check_custom_op, check_grads
from symgraph.types import TensorType

Array = NDArray[Any]
RNG = np.random.default_rng(0)
targets = pytest.mark.parametrize("target", ["cpu", "numpy"])
njit: Any = numba.njit


def line() -> int:
    """The line that calls this."""
    return sys._getframe(1).f_lineno


def sine_vjp(x: Variable, out: Variable, ct: Variable, *, n: int) -> Any:
    return ct * sine(x, n=n + 1)


@sg.custom_op(elementwise=True, vjp=sine_vjp)
def sine(x: Array, *, n: int = 0) -> Array:
    """The n-th derivative of the sine: each derivative is the same op with another parameter, without an end."""
    return np.asarray(np.sin(x + n * np.pi / 2))


@sg.custom_op(jvp=lambda x, out, t: 2 * running(x) * running(t))
def squared_sums(x: Array) -> Array:
    return np.cumsum(x) ** 2


def running(x: Variable) -> Variable:
    n = x.type.shape[0]
    return sg.einsum("ij,j->i", sg.tril(sg.ones((n, n))), x)


def solve_type(a: TensorType, b: TensorType) -> TensorType:
    return b


def solve_vjp(a: Variable, b: Variable, x: Variable, ct: Variable) -> tuple[Variable, Variable]:
    back = solve(sg.matrix_transpose(a), ct)
    return -sg.expand_dims(back, -1) * sg.expand_dims(x, -2), back


@sg.custom_op(infer=solve_type, vjp=solve_vjp, batch="leading")
def solve(a: Array, b: Array) -> Array:
    return np.asarray(np.linalg.solve(a, b[..., None])[..., 0])


def _sine_and_cosine(x: float) -> tuple[float, float]:
    return np.sin(x), np.cos(x)


sine_and_cosine = sg.custom_op(
    njit(_sine_and_cosine),
    name="sine_and_cosine",
    elementwise=True,
    infer=lambda x: (x, x),
    vjp=lambda x, out, ct: ct[0] * out[1] - ct[1] * out[0],
)


def parts_type(a: TensorType, c: TensorType) -> tuple[TensorType, TensorType]:
    return a.without((0,)), a.without((0, 1)).with_dtype("int64")


def parts_vjp(a: Variable, c: Variable, out: Any, ct: Any) -> tuple[Variable, Variable]:
    return sg.broadcast_to(c * ct[0], a.type.shape), sg.sum(a * ct[0])


def _column_sums(a: Array, c: float, sums: Array, best: Array) -> None:
    """Sums of columns times c, and the column with the largest."""
    top = 0
    for j in range(a.shape[1]):
        sums[j] = c * a[:, j].sum()
        if sums[j] > sums[top]:
            top = j
    best[()] = top


column_sums = sg.custom_op(njit(_column_sums), name="column_sums", infer=parts_type, vjp=parts_vjp)


SAMPLES: list[tuple[sg.CustomOp, tuple[Any, ...], dict[str, Any]]] = [
    (sine, (RNG.normal(size=(2, 3)),), {"n": 2}),
    (squared_sums, (RNG.normal(size=3),), {}),
    (solve, (RNG.normal(size=(3, 3)) + 4 * np.eye(3), RNG.normal(size=3)), {}),
    (sine_and_cosine, (RNG.normal(size=(2, 2)),), {}),
    (column_sums, (RNG.normal(size=(2, 3)), 1.5), {}),
]


@pytest.mark.parametrize(("op", "sample", "params"), [pytest.param(*s, id=s[0].name) for s in SAMPLES])
def test_all_that_is_stated(op: sg.CustomOp, sample: tuple[Any, ...], params: dict[str, Any]) -> None:
    check_custom_op(op, sample, **params)


def test_third_order_and_taylor() -> None:
    check_grads(lambda x: sine(x), [RNG.normal(size=3)], order=3)
    x = sg.scalar("x")
    got = sg.function([x], list(sg.taylor(sine(x * x), x, 1.0, 5)))(0.3)
    want = sg.function([x], list(sg.taylor(sg.sin(x * x), x, 1.0, 5)))(0.3)
    np.testing.assert_allclose(np.array(got), np.array(want), rtol=1e-12)


# -- in a program ------------------------------------------------------------------------------------------------------


def test_a_step_among_kernels() -> None:
    x = sg.vector("x", shape=("n",))
    y = sg.sum(sg.exp(sine(2 * x)))
    f = sg.function([x], [y, sg.grad(y, x)])
    for n in (5, 1, 0):
        a = RNG.normal(size=n)
        value, gradient = f(a)
        np.testing.assert_allclose(value, np.sum(np.exp(np.sin(2 * a))))
        np.testing.assert_allclose(gradient, np.exp(np.sin(2 * a)) * np.cos(2 * a) * 2)
    text = str(f.program)
    assert "2 host steps" in text
    assert re.search(r"numpy_sine +@0 <- @\d +sine\{n=0\}|numpy_sine .*sine\{n=0\}", text)
    # What comes before is stored, what comes after is fused: no kernel computes again across the step.
    assert len(f.program.steps) <= 6


@targets
def test_layouts_broadcasting_and_dtypes(target: str) -> None:
    m, v = sg.matrix("m", dtype="float32", shape=("n", 3)), sg.vector("v", dtype="int64", shape=(3,))
    out = product(m.T, 2) * 0 + product(v, m).T
    assert out.type.dtype == np.float64  # int64 and float32 have this common float dtype
    f = sg.function([m, v], [product(m.T, 2), product(v, m)], target=target)
    a = RNG.normal(size=(4, 6)).astype("float32")[:, ::2]
    twice, scaled = f(a, np.arange(3))
    assert twice.dtype == np.float32
    np.testing.assert_array_equal(twice, a.T * 2)
    np.testing.assert_allclose(scaled, np.arange(3) * a)


@sg.custom_op(elementwise=True)
def product(x: Array, y: Array) -> Array:
    return np.asarray(x * y)


def test_numba_runs_in_pieces_and_nested_batches_are_one_step() -> None:
    x = sg.vector("x", shape=("n",))
    a = RNG.normal(size=300_001)
    f = sg.function([x], list(sine_and_cosine(x)), threads=2)
    for got, want in zip(f(a), (np.sin(a), np.cos(a)), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-14)
    t = sg.tensor("t", shape=("i", "j", "k", "l"))
    c = sg.vector("c", shape=("j",))
    sums, best = sg.vmap(sg.vmap(column_sums, (0, 0)), (0, None))(t, c)
    g = sg.function([t, c], [sums, best], threads=2)
    assert len(g.program.steps) == 1
    b, d = RNG.normal(size=(20, 30, 40, 3)), RNG.normal(size=30)
    want = b.sum(2) * d[:, None]
    got_sums, got_best = g(b, d)
    np.testing.assert_allclose(got_sums, want, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(got_best, want.argmax(-1))


def test_a_scalar_function_vectorizes() -> None:
    from symgraph.emit.numba_host import compile_step

    op = sg.custom_op(njit(_polynomial), elementwise=True)
    node = op(sg.vector("x")).owner
    _, compiled = compile_step(node.op.jitted(), node)
    assert re.search(r"fmul <\d+ x double>", compiled.inspect_llvm())


def _polynomial(x: float) -> float:
    return x * x + 1


def test_second_derivatives_of_a_loop_and_of_a_batch() -> None:
    x = sg.vector("x", shape=(3,))
    y = sg.sum(squared_sums(x))
    lower = np.tril(np.ones((3, 3)))
    np.testing.assert_allclose(sg.function([x], sg.hessian(y, x))(np.ones(3)), 2 * lower.T @ lower)
    m = sg.matrix("m", shape=("b", 3))
    each = sg.vmap(lambda row: sg.hessian(sg.sum(squared_sums(row)), row))(m)
    got = sg.function([m], each)(np.ones((2, 3)))
    np.testing.assert_allclose(got, np.stack([2 * lower.T @ lower] * 2))
    total = sg.sum(sg.vmap(squared_sums)(m))
    np.testing.assert_allclose(sg.function([m], sg.hvp(total, m, m))(np.ones((2, 3)))[0], 2 * lower.T @ lower.sum(1))


def test_a_loop_over_the_batch_is_one_step() -> None:
    calls = []

    def counted(x: Array, y: Array) -> Array:
        calls.append(x.shape)
        return np.asarray(x[::-1] + y)

    op = sg.custom_op(counted, vjp=lambda x, y, out, ct: (ct[::-1], ct))
    x, y = sg.matrix("x", shape=("b", 3)), sg.vector("y", shape=(3,))
    out = sg.vmap(op, (0, None))(x, y)
    f = sg.function([x, y], [out, *sg.grad(sg.sum(out * out), [x, y])])
    a, b = RNG.normal(size=(4, 3)), RNG.normal(size=3)
    value, dx, dy = f(a, b)
    np.testing.assert_allclose(value, a[:, ::-1] + b)
    np.testing.assert_allclose(dx, 2 * value[:, ::-1])
    np.testing.assert_allclose(dy, 2 * value.sum(0))
    assert calls == [(3,)] * 4
    assert f(a[:0], b)[0].shape == (0, 3)


def test_a_batching_rule() -> None:
    def rule(x: Variable, *, batched: tuple[bool, ...]) -> Variable:
        assert batched == (True,)
        return sg.flip(x, 1)

    op = sg.custom_op(lambda x: x[::-1], name="turned", batch=rule)
    x = sg.matrix("x", shape=("b", 3))
    a = RNG.normal(size=(4, 3))
    np.testing.assert_array_equal(sg.function([x], sg.vmap(op)(x))(a), a[:, ::-1])


@targets
def test_sizes_as_parameters(target: str) -> None:
    def first(x: Array, *, count: int) -> Array:
        assert type(count) is int
        return x[:count]

    op = sg.custom_op(first, infer=lambda x, *, count: TensorType(x.dtype, (count,)))
    x, y = sg.vector("x", shape=("n",)), sg.vector("y", shape=("m",))
    f = sg.function([x, y], op(x, count=sg.dim("m")) + y, target=target)
    np.testing.assert_array_equal(f(np.arange(5.0), np.ones(2)), [1, 2])
    np.testing.assert_array_equal(f(np.arange(5.0), np.ones(3)), [1, 2, 3])


def test_parameters_that_differ_in_type_are_different() -> None:
    op = sg.custom_op(lambda x, *, k: x + len(str(k)), name="lengths")
    x = sg.vector("x")
    ops = {op.op(k=k) for k in (1, 1.0, True, -0.0, 0.0, "1")}
    assert len(ops) == 6
    np.testing.assert_array_equal(sg.function([x], op(x, k=1) - op(x, k=1.0))([5.0]), [-2.0])


@targets
def test_arguments_are_the_functions_own(target: str) -> None:
    kept = []

    def greedy(x: Array) -> Array:
        kept.append(x)
        x += 1
        return x

    op = sg.custom_op(greedy)
    x = sg.vector("x")
    y = x * 2
    f = sg.function([x], [op(y), y, op(x)], target=target)
    a = np.arange(3.0)
    results = f(a)
    results[0][:] = 7  # and the results are the caller's
    f(a + 100)
    np.testing.assert_array_equal(a, [0, 1, 2])
    np.testing.assert_array_equal(results[1], [0, 2, 4])
    assert sorted(k.tolist() for k in kept)[:2] == [[1, 2, 3], [1, 3, 5]]


def test_impure_ops_stay_apart() -> None:
    count = iter(range(100))
    for pure, different in ((True, 0.0), (False, 1.0)):
        op = sg.custom_op(lambda x: x * 0 + next(count), name=f"draw{pure}", pure=pure)
        x = sg.scalar("x")
        f = sg.function([x], op(x) - op(x))
        assert abs(f(0.0)) == different


def test_no_operands_and_several_threads() -> None:
    op = sg.custom_op(lambda: np.arange(3), name="three", infer=lambda: TensorType(np.dtype("int64"), (3,)), pure=False)
    np.testing.assert_array_equal(sg.function([], op() * 2)(), [0, 2, 4])
    x = sg.vector("x", shape=("n",))
    f = sg.function([x], sg.sum(sine(x) ** 2 + sine(x, n=1) ** 2))
    wrong: list[Any] = []

    def work(n: int) -> None:
        wrong.extend((n, k) for k in range(1, 50) if not np.isclose(f(np.ones(k)), k))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_a_function_calls_another_inside() -> None:
    x = sg.vector("x")
    inner = sg.function([x], sine(x) * 2)
    op = sg.custom_op(lambda a: inner(a), name="calls")
    outer = sg.function([x], op(x) + 1)
    a = RNG.normal(size=4)
    np.testing.assert_allclose(outer(a), 2 * np.sin(a) + 1)


def test_checked_mode_compares_compiled_with_python() -> None:
    x = sg.vector("x")
    f = sg.function([x], sg.sum(sine_and_cosine(x)[0] * sine(x)), check=True)
    a = RNG.normal(size=4)
    np.testing.assert_allclose(f(a), np.sum(np.sin(a) ** 2))


# -- text and pickling -------------------------------------------------------------------------------------------------


def test_text_reads_back() -> None:
    x = sg.vector("x", shape=("n",))
    y = sg.vmap(squared_sums)(sg.stack([sine(x, n=3), x]))
    text = print_graph(y, lines=False)
    assert "sine{n=3}" in text
    assert "batched{inner=op('squared_sums'), flags=(True,)}" in text
    assert print_graph(parse_graph(text), lines=False) == text


def test_pickles() -> None:
    x = sg.vector("x", shape=("n",))
    f = sg.function([x], [sine(x, n=1), sg.vmap(squared_sums)(sg.stack([x, x]))])
    g = pickle.loads(pickle.dumps(f))
    a = RNG.normal(size=3)
    for got, want in zip(g(a), f(a), strict=True):
        np.testing.assert_array_equal(got, want)
    assert pickle.loads(pickle.dumps(sine)) is sine
    by_parts = sg.custom_op(np.fmod, name="by_parts", vjp=solve_vjp)  # no global variable holds it, but its parts
    again = pickle.loads(pickle.dumps(by_parts))
    assert (again.fn, again.vjp, again.name, again.line) == (np.fmod, solve_vjp, "by_parts", by_parts.line)


def test_a_lambda_is_not_pickled() -> None:
    op = sg.custom_op(np.positive, name="same", vjp=lambda x, out, ct: ct)
    x = sg.vector("x")
    with pytest.raises(
        FormatError, match=r"custom op same cannot be pickled: its vjp, <function .*<lambda>.*test_cust"
    ):
        pickle.dumps(sg.function([x], op(x)))


# -- errors ------------------------------------------------------------------------------------------------------------


@targets
def test_what_the_function_raises(target: str) -> None:
    def fails(x: Array) -> Array:
        if x[0] > 0:
            raise KeyError("nothing")
        return x

    op = sg.custom_op(fails)
    x = sg.vector("x", shape=("n",))
    here = line() + 1
    y = op(x)
    f = sg.function([x], sg.exp(y), target=target)
    with pytest.raises(
        HostError, match=rf"fails: KeyError: 'nothing'.*x: float64\[3\].*test_custom_op\.py:{here}"
    ) as e:
        f(np.ones(3))
    assert isinstance(e.value.__cause__, KeyError)
    np.testing.assert_array_equal(f(np.zeros(3)), np.ones(3))  # and the function works as before


def test_a_failed_call_changes_no_state_and_an_interrupt_passes() -> None:
    def interrupted(x: Array) -> Array:
        raise KeyboardInterrupt

    state = sg.shared(np.zeros(2), name="state")
    f = sg.function([], state * 2, updates={state: sg.custom_op(interrupted)(state + 1)})
    with pytest.raises(KeyboardInterrupt):
        f()
    np.testing.assert_array_equal(state.get_value(), [0, 0])


WRONG: list[tuple[Callable[[Array], Any], str]] = [
    (lambda x: x.astype("float32"), r"its function gives float32\[3\], the type rule says float64\[n\] = float64\[3\]"),
    (lambda x: x[1:], r"its function gives float64\[2\], the type rule says float64\[n\] = float64\[3\]"),
    (lambda x: (x, x), "its function gives 2 results, the type rule 1"),
    (lambda x: None, "its function gives object"),
]


@targets
@pytest.mark.parametrize(("fn", "message"), WRONG)
def test_wrong_values(fn: Callable[[Array], Any], message: str, target: str) -> None:
    x = sg.vector("x", shape=("n",))
    y = sg.custom_op(fn, name="wrong")(x)
    with pytest.raises(CheckError, match=rf"wrong: {message}.*test_custom_op\.py"):
        sg.function([x], y, target=target)(np.ones(3))


def test_python_numbers_take_the_dtype() -> None:
    op = sg.custom_op(lambda x: float(x.sum()), name="total", infer=lambda x: x.without((0,)))
    x = sg.vector("x", dtype="float32")
    assert sg.function([x], op(x))(np.ones(3, "float32")).dtype == np.float32
    integer = sg.custom_op(lambda x: 2.5, name="half", infer=lambda x: x.without((0,)).with_dtype("int64"))
    with pytest.raises(CheckError, match="float64"):
        sg.function([x], integer(x))(np.ones(3, "float32"))


def test_compiled_functions_that_fail() -> None:
    x = sg.vector("x")
    writes = sg.custom_op(njit(_writes))
    with pytest.raises(HostError, match=r"_writes: Numba cannot compile it: .*readonly.*test_custom_op\.py"):
        sg.function([x], writes(x))
    rounds = sg.custom_op(njit(_rounds), elementwise=True)
    with pytest.raises(RuleError, match="_rounds: its function returns int64, its type rule says float64"):
        sg.function([x], rounds(x))
    raises = sg.custom_op(njit(_raises), elementwise=True)
    with pytest.raises(HostError, match="_raises: the compiled function raised an exception; with target='numpy'"):
        sg.function([x], raises(x))(np.arange(4.0))
    with pytest.raises(HostError, match="_raises: ValueError: too large"):
        sg.function([x], raises(x), target="numpy")(np.arange(4.0))


def test_steps_of_a_program_for_a_device() -> None:
    x = sg.vector("x")
    made = lower([x], sine(x * 2) + 1, target="cuda")
    assert "3 steps, 2 distinct kernels, 1 host steps, for cuda\n" in str(made.program)
    assert len(made.kernels) == 2


def _writes(x: Array, out: Array) -> None:
    x[0] = 1.0


def _rounds(x: float) -> int:
    return int(x)


def _raises(x: float) -> float:
    if x > 2:
        raise ValueError("too large")
    return x


def _same(x: Array, y: Array | None = None, *, k: int = 1) -> Array:
    return x


X = sg.vector("x", shape=("n",))
RULES: list[tuple[str, dict[str, Any], str]] = [
    ("too many", {"vjp": lambda x, out, ct: (ct, ct)}, r"same: its vjp returned 2 results, wanted 1"),
    (
        "dtype",
        {"vjp": lambda x, out, ct: sg.cast(ct, "float32")},
        r"vjp at position 0: wanted float64\[n\], got float32",
    ),
    ("size", {"vjp": lambda x, out, ct: sg.sum(ct)}, r"vjp at position 0: wanted float64\[n\], got float64\[\]"),
    ("operands", {"vjp": lambda x, ct: ct}, "its vjp failed: TypeError: .*positional"),
    ("jvp", {"jvp": lambda x, out, t: sg.sum(t)}, r"jvp at position 0: wanted float64\[n\], got float64\[\]"),
    ("not a type", {"infer": lambda x: x.dtype}, "its type rule returned dtype.*wanted a TensorType or a tuple"),
    ("no types", {"infer": lambda x: ()}, r"its type rule returned \(\)"),
    ("type rule", {"infer": lambda x: x.without((x.shape[3],))}, "its type rule failed: IndexError"),
    ("unknown size", {"infer": lambda x: TensorType(x.dtype, (sg.dim(),))}, "not made of the operands'"),
    (
        "another shape",
        {"infer": lambda x: x.without((0,)), "elementwise": True},
        "elementwise result has the operands'",
    ),
    ("batch", {"batch": lambda x, *, batched: sg.sum(x)}, "its batching rule returned float64"),
    ("leading", {"batch": "leading", "infer": lambda x: x.without((0,))}, "its batching rule returned"),
]


@pytest.mark.parametrize(("options", "message"), [pytest.param(*r[1:], id=r[0]) for r in RULES])
def test_a_wrong_rule_is_found_where_the_op_is_used(options: dict[str, Any], message: str) -> None:
    op = sg.custom_op(lambda x: x, name="same", **options)
    here = line() + 2
    with pytest.raises(RuleError, match=message) as e:
        op(X)
    assert f"test_custom_op.py:{here}" in str(e.value)


MAKING: list[tuple[str, Callable[[], Any], type[SymgraphError], str]] = [
    ("no function", lambda: sg.custom_op(3), DTypeError, "wanted a function of arrays, got 3"),  # type: ignore[call-overload]
    ("no rule", lambda: sg.custom_op(_same, vjp=3), DTypeError, "vjp must be a function, got 3"),  # type: ignore[call-overload]
    ("batch", lambda: sg.custom_op(_same, batch="rows"), FormatError, "batch is 'loop', 'leading' or a rule"),  # type: ignore[call-overload]
    ("no name", lambda: sg.custom_op(lambda x: x), FormatError, "'<lambda>' is no name"),
    (
        "our name",
        lambda: sg.custom_op(_same, name="exp"),
        AmbiguousNameError,
        "'exp' is the name of an operation of sym",
    ),
    ("no parameter", lambda: sg.custom_op(_same)(X, j=1), FormatError, "_same: no static parameter is called 'j'.*: k"),
    ("a tensor", lambda: sg.custom_op(_same)(X, k=X), FormatError, "k: a static parameter is.*tensors are operands"),
    ("operands", lambda: sg.custom_op(_same)(X, X, X), DTypeError, "_same: wanted 1 to 2 operands, got 3"),
    ("no operands", lambda: sg.custom_op(_same)(), DTypeError, "_same: wanted 1 to 2 operands, got 0"),
    ("not given", lambda: sine_of()(X), FormatError, "the static parameter 'k' is not given"),
    ("sizes", lambda: product(X, np.ones((2, 3))), SizeError, "product: sizes"),
]


def sine_of() -> sg.CustomOp:
    return sg.custom_op(lambda x, *, k: x, name="sine_of")


@pytest.mark.parametrize(("make", "error", "message"), [pytest.param(*m[1:], id=m[0]) for m in MAKING])
def test_a_wrong_use(make: Callable[[], Any], error: type[SymgraphError], message: str) -> None:
    with pytest.raises(error, match=rf"{message}.*test_custom_op\.py:\d+"):
        make()


def test_one_name_in_two_modules() -> None:
    sg.custom_op(_same, name="mine")
    sg.custom_op(_same, name="mine")  # as when a cell of a notebook runs again
    with pytest.raises(AmbiguousNameError, match=r"'mine' is defined by the module .*test_custom_op"):
        exec("import symgraph as sg\nsg.custom_op(lambda x: x, name='mine')", {"__name__": "another"})


def test_no_derivative_says_so_and_why() -> None:
    with pytest.raises(NotDifferentiableError, match=r"product: .*neither vjp= nor jvp=.*test_custom_op\.py:\d+"):
        sg.grad(sg.sum(product(X, X)), X)
    bent = sg.custom_op(lambda x: x, name="bent", vjp=lambda x, out, ct: ct * ct)
    with pytest.raises(NotDifferentiableError, match="bent: the jvp is not defined: the rule is not linear"):
        sg.jvp(bent(X), X, X)


CHECKED: list[tuple[sg.CustomOp, Any, str]] = [
    (
        sg.custom_op(np.sin, name="slope", vjp=lambda x, out, ct: ct),
        np.ones(3),
        "slope: sample 0: derivatives: .*order 1",
    ),
    (
        sg.custom_op(np.sin, name="second", vjp=lambda x, out, ct: ct * sg.stop_gradient(sg.cos(x))),
        np.ones(3),
        "second: sample 0: derivatives: .*order 2",
    ),
    (sg.custom_op(lambda x: x[:2], name="short"), np.ones(3), "short: sample 0: type rule: .*its function gives"),
    (sg.custom_op(lambda x: x - x.mean(), name="whole", batch="leading"), np.arange(3.0), "whole: sample 0: batching"),
    (sg.custom_op(lambda x: x - x.mean(), name="mixed", elementwise=True), np.arange(3.0), "mixed: sample 0: batching"),
]


@pytest.mark.parametrize(("op", "sample", "message"), [pytest.param(*c, id=c[0].name) for c in CHECKED])
def test_the_check_finds_what_is_wrong(op: sg.CustomOp, sample: Any, message: str) -> None:
    with pytest.raises(CheckError, match=message):
        check_custom_op(op, sample)


def test_the_check_takes_custom_ops_and_samples() -> None:
    with pytest.raises(DTypeError, match="wanted an operation made by"):
        check_custom_op(np.sin, 1.0)  # type: ignore[arg-type]
    with pytest.raises(FormatError, match="sine: wanted samples"):
        check_custom_op(sine)
