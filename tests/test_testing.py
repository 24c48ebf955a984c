"""The helpers that tests are made of: that they find what is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import CheckError
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


def test_check_grads_of_a_function() -> None:
    at = [np.array([0.5, 1.5]), np.array(2.0), np.array([1, 2])]
    report = check_grads(lambda x, y, k: sg.sum(sg.sin(x * y) ** 2 * k), at, order=3)
    assert (report.order, report.inputs) == (3, 3)

    def wrong(x: Variable) -> Variable:
        return sg.stop_gradient(x) * x

    with pytest.raises(CheckError, match=r"wrong: the derivative in input 0 .* differ most at element \[1\]"):
        check_grads(wrong, [np.array([0.5, 3.0])], modes=["rev"])


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
