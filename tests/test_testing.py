"""The helpers that tests are made of: that they find what is wrong."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import CheckError, DTypeError, FormatError
from symgraph.graph import Graph, Variable, toposort
from symgraph.op import Derivative, Op, Sample, apply
from symgraph.printing import graphs_equal
from symgraph.runtime.interpreter import interpret
from symgraph.testing import CHECKS, check_grads, check_op, random_program
from symgraph.testing.programs import STEPS
from symgraph.types import TensorType


class Cube(Op):
    """x ** 3 of each element."""

    name = "cube"

    def infer(self, *inputs: TensorType) -> TensorType:
        return inputs[0]

    def reference(self, *inputs: Any) -> Any:
        return inputs[0] ** 3 if inputs[0].dtype != bool else inputs[0]

    def vjp(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], cts: Sequence[Derivative]
    ) -> Sequence[Derivative]:
        assert isinstance(cts[0], Variable)
        return [cts[0] * self.slope(inputs[0])]

    def jvp(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], tangents: Sequence[Derivative]
    ) -> Sequence[Derivative]:
        return self.vjp(inputs, outputs, tangents)

    def slope(self, x: Variable) -> Variable:
        return 3 * x * x

    def batch(self, inputs: Sequence[Variable], batched: Sequence[bool]) -> Sequence[Variable]:
        return [apply(self, inputs[0])]

    def samples(self) -> list[Sample]:
        return [Sample(self, (np.array([[0.5, -1.0], [2.0, 3.0]]),))]


WITHOUT_TEXT = tuple(c for c in CHECKS if c != "text")  # which needs a registered op


def test_a_right_op_passes() -> None:
    check_op(Cube(), checks=WITHOUT_TEXT)


def test_a_wrong_slope_is_found_and_located() -> None:
    class Wrong(Cube):
        """x ** 3, with a derivative that is wrong at one element."""

        def slope(self, x: Variable) -> Variable:
            return sg.where(x > 2.5, 2 * x * x, 3 * x * x)

    with pytest.raises(CheckError, match=r"cube: sample 0: check 'vjp'.*differ most at element \[1, 1\]: "):
        check_op(Wrong(), checks=["vjp"])


def test_a_slope_whose_own_derivative_is_wrong_is_found() -> None:
    class Wrong(Cube):
        """x ** 3, with a derivative that stops where the second one should flow."""

        def slope(self, x: Variable) -> Variable:
            return 3 * sg.stop_gradient(x) * x

    check_op(Wrong(), checks=["vjp"])
    with pytest.raises(CheckError, match="check 'second-order'"):
        check_op(Wrong(), checks=["second-order"])


def test_modes_that_disagree_are_found() -> None:
    class Wrong(Cube):
        """x ** 3, with a jvp of its own."""

        def jvp(
            self, inputs: Sequence[Variable], outputs: Sequence[Variable], tangents: Sequence[Derivative]
        ) -> Sequence[Derivative]:
            assert isinstance(tangents[0], Variable)
            return [tangents[0] * inputs[0]]

    with pytest.raises(CheckError, match="check 'jvp'"):
        check_op(Wrong(), checks=["jvp"])


def test_a_wrong_type_rule_and_a_wrong_batching_rule_are_found() -> None:
    class WrongType(Cube):
        """x ** 3, said to be of another dtype."""

        def infer(self, *inputs: TensorType) -> TensorType:
            return inputs[0].with_dtype("float32")

    with pytest.raises(CheckError, match=r"check 'forward'.*the reference gives float64"):
        check_op(WrongType(), checks=["forward"])

    class WrongBatch(Cube):
        """x ** 3, in another order over a batch."""

        def batch(self, inputs: Sequence[Variable], batched: Sequence[bool]) -> Sequence[Variable]:
            return [apply(self, inputs[0][::-1])]

    with pytest.raises(CheckError, match=r"check 'batch'.*batch element 0"):
        check_op(WrongBatch(), checks=["batch"])


def test_an_op_without_samples_or_docstring_fails() -> None:
    class Bare(Cube):
        def samples(self) -> list[Sample]:
            return []

    with pytest.raises(CheckError, match="has no samples"):
        check_op(Bare())
    Bare.__doc__ = None
    with pytest.raises(CheckError, match="has no docstring"):
        check_op(Bare(), samples=Cube().samples())


# -- check_grads ------------------------------------------------------------------------------------------------------


def test_check_grads_of_a_function() -> None:
    at = [np.array([0.5, 1.5]), np.array(2.0), np.array([1, 2])]
    report = check_grads(lambda x, y, k: sg.sum(sg.sin(x * y) ** 2 * k), at, order=3)
    assert (report.order, report.inputs, report.modes) == (3, 3, ("fwd", "rev"))
    assert len(report.comparisons) == 3 * 2 * 2  # orders, modes, float inputs
    assert report.worst is not None
    assert report.worst.relative_error < 1e-9
    assert "order 3  reverse  input 1 (y)" in str(report)


def test_check_grads_names_what_differs_most() -> None:
    def half(x: Variable, y: Variable) -> Variable:
        return sg.sum(y) + sg.sum(sg.where(np.array([False, True]), sg.stop_gradient(x) * x, x * x))

    here = sys._getframe().f_lineno - 2
    args = (np.array([0.5, 3.0]), np.ones(2))
    for mode, word in (("rev", "reverse"), ("fwd", "forward")):
        with pytest.raises(AssertionError) as caught:
            check_grads(half, args, modes=[mode])
        text = str(caught.value)
        assert isinstance(caught.value, CheckError)
        for part in (
            f"check_grads(half): order 1, {word} mode: the derivative",
            "in input 0 (x) differs most at element [1]: wanted 6 by central differences, got 3 (relative error 0.5)",
            f"the operation whose derivative differs from its value's: stop_gradient (test_testing.py:{here})",
            f"(test_testing.py:{sys._getframe().f_lineno - 7})",
        ):
            assert part in text, text


@pytest.mark.parametrize("mode", ["fwd", "rev"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_check_grads_finds_a_wrong_rule_in_its_own_order(order: int, mode: str) -> None:
    """exp, of which the derivatives below ``order`` are right."""

    def made(depth: int) -> Any:
        if depth == 0:
            return lambda x: sg.exp(x) * 1.001
        return sg.custom_vjp(lambda x: sg.exp(x), lambda x, out, ct: ct * made(depth - 1)(x))

    if order > 1:
        check_grads(made(order), [np.array([0.1, 0.4])], order - 1, [mode])
    with pytest.raises(CheckError, match=rf"order {order}, .* input 0 \(x\).*relative error 0.001"):
        check_grads(lambda x: made(order)(x), [np.array([0.1, 0.4])], order, [mode])


def test_check_grads_finds_one_element_of_many() -> None:
    bad = sg.custom_vjp(sg.sin, lambda x, out, ct: ct * sg.cos(x) * sg.where(sg.equal(x, 1.5), 1.5, 1.0))
    with pytest.raises(CheckError, match=r"element \[1, 50\]: .*value's: custom_vjp"):
        check_grads(lambda x: sg.sum(bad(x)), [np.arange(300.0).reshape(3, 100) / 100], modes="rev")


def test_check_grads_takes_structures_numbers_and_narrow_dtypes() -> None:
    rng = np.random.default_rng(0)
    p = {"w": rng.normal(size=(3, 2)), "b": np.zeros(2)}
    report = check_grads(lambda p, x: {"y": sg.tanh(x @ p["w"] + p["b"])}, (p, rng.normal(size=(4, 3))))
    assert {c.input for c in report.comparisons} == {"input 0 (p['w'])", "input 1 (p['b'])", "input 2 (x)"}
    check_grads(lambda x: x**3, (2.0,), order=3)
    check_grads(lambda x: sg.sum(x**2), [[2.0, 3.0]])
    for dtype in ("float32", "float16"):
        report = check_grads(sg.exp, (np.array([0.5, 1.0], dtype),))
        assert report.worst is not None
        assert report.worst.relative_error > 1e-9  # the derivatives are those of the narrow graph
        with pytest.raises(CheckError, match="order 1"):
            check_grads(lambda x: x * sg.stop_gradient(x), (np.array([0.5, 1.0], dtype),))
    check_grads(lambda x: sg.cast(sg.exp(sg.cast(x, "float32")), "float64"), (np.array([1.0, 2.0]),))
    # Where nothing is, nothing differs; and what does not depend on an input has the derivative 0.
    check_grads(lambda x, y: sg.sum(x), (np.ones((0, 3)), np.ones(2)))
    check_grads(sg.log, (np.array([1e-3, 1.0, 1e6]),))


def test_check_grads_of_kinks_edges_and_jumps() -> None:
    at = np.array([1.0, 0.0, 2.0])
    cases: list[tuple[Any, Any, str]] = [
        (
            sg.relu,
            at,
            r"relu\): order 1, .* along element \[1\] of input 0 the function has a kink, of slope 0 on the ",
        ),
        (sg.absolute, at, r"order 2, .* along element \[1\] of input 0 the derivative of order 1 jumps"),
        (sg.sqrt, at, r"order 1, .* element \[1\] .* no finite value beside this point, at the edge"),
        (sg.floor, at, r"order 1, .* element \[0\] .* the function jumps"),
        (sg.max, np.ones(2), r"cannot be checked at this point"),
        (sg.log, at - 1, r"cannot be checked at this point: element \[0\] of result 0 is -inf|nan"),
    ]
    for fn, point, message in cases:
        with pytest.raises(CheckError, match=message):
            check_grads(fn, [point])
        check_grads(fn, [np.array([0.3, 1.3, 2.4])])


def test_check_grads_is_told_what_to_admit() -> None:
    bad = sg.custom_jvp(sg.sin, lambda x, out, t: t * sg.cos(x) * 1.001)
    with pytest.raises(CheckError):
        check_grads(bad, (np.array([0.5, 1.0]),), 1)
    check_grads(bad, (np.array([0.5, 1.0]),), 1, rtol=0.01)
    check_grads(bad, (np.array([0.5, 1.0]),), 1, atol=0.01)
    with pytest.raises(CheckError):
        check_grads(sg.sin, (np.array([0.5, 1.0]),), 1, rtol=0, atol=1e-40)
    check_grads(lambda x: sg.sin(300 * x), (np.array([0.5, 1.0]),), 2, eps=1e-3)


def test_check_grads_of_what_it_does_not_take() -> None:
    x = np.ones(2)
    for wrong, kind, message in (
        ((np.sin(1.0), (x,)), DTypeError, "fn must be a function"),
        ((sg.exp, (np.ones(2, int),)), DTypeError, r"no argument is a float array.*int64\[2\]"),
        ((sg.argmax, (x,)), DTypeError, "no result is of a float dtype"),
        ((sg.exp, (x,), 0), FormatError, "order must be an integer, 1 or more, got 0"),
        ((sg.exp, (x,), 1.0), FormatError, "order must be an integer"),
        ((sg.exp, (x,), 1, ("fwd", "reverse")), FormatError, "modes are 'fwd' and 'rev'"),
        ((sg.exp, (x,), 1, ()), FormatError, "modes are"),
    ):
        call: Any = check_grads
        with pytest.raises(kind, match=rf"{message}.*test_testing\.py:{sys._getframe().f_lineno + 1}\)"):
            call(*wrong)
    with pytest.raises(FormatError, match="eps must be"):
        check_grads(sg.exp, (x,), eps=0)


def test_random_programs_are_reproducible_and_of_every_kind() -> None:
    first, second = (random_program(np.random.default_rng(7), steps=20) for _ in range(2))
    assert graphs_equal(Graph(first.inputs, first.outputs), Graph(second.inputs, second.outputs))
    assert first.steps == second.steps
    seen: set[str] = set()
    for seed in range(60):
        program = random_program(np.random.default_rng(seed), steps=20, dtypes=("float64", "float32"))
        seen.update(program.steps)
        values = interpret(program.graph, program.givens)
        assert all(np.all(np.isfinite(v)) for v in values), (seed, program.steps)
    assert seen == set(STEPS)


def test_random_programs_from_chosen_steps() -> None:
    program = random_program(np.random.default_rng(1), steps=10, names=["unary"])
    assert set(program.steps) == {"unary"}
    assert len(toposort(program.outputs)) >= 1
