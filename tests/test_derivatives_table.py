"""The published table of derivatives is the registry's, its figures hold, and a wrong rule would not pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import CheckError
from symgraph.graph import Variable
from symgraph.op import OPS, Derivative, Op, Sample, accumulate, apply
from symgraph.ops.elementwise import Elementwise
from symgraph.testing.exact import EXACT
from symgraph.testing.precision import ADMITTED, COLUMNS, ORDERS, measure, verify
from symgraph.testing.table import derivatives_table, error_row, figures, smooth_samples, without_figures
from symgraph.types import TensorType

PUBLISHED = Path(__file__).parent.parent / "docs" / "derivatives.md"


@pytest.mark.golden
def test_is_up_to_date(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--update-golden"):
        PUBLISHED.write_text(derivatives_table(), encoding="utf-8")
    published = without_figures(PUBLISHED.read_text(encoding="utf-8"))
    assert published == derivatives_table(measured=False), "docs/derivatives.md is not the registry's: make golden"


@pytest.mark.parametrize("name", [name for name in sorted(OPS) if smooth_samples(name)])
def test_errors_are_as_published(name: str) -> None:
    """Every entry of an operation against 50 digits or differences; ``error_row`` raises for one that is wrong."""
    text = PUBLISHED.read_text(encoding="utf-8").partition("## Errors")[2].partition("## Operations without")[0]
    (published,) = [line for line in text.splitlines() if line.startswith(f"| {name} |")]
    row = error_row(name)
    found, wanted = figures(row), figures(published)
    assert len(found) == len(wanted) == len(COLUMNS) * len(ORDERS)
    # Machines differ by roundings, and in where the differences are luckiest.
    slack = 1e-14 if "50 digits" in row else 1e-10
    assert all(f <= 10 * w + slack for f, w in zip(found, wanted, strict=True)), f"{row}\n{published}"


@pytest.mark.parametrize("name", sorted(n for n, o in OPS.items() if isinstance(o, Elementwise) and smooth_samples(n)))
def test_elementwise_operations_are_compared_with_50_digits(name: str) -> None:
    assert name in EXACT, "state the function in symgraph/testing/exact.py"


# -- a wrong rule does not pass ----------------------------------------------------------------------------------------


def cubic(partials: Callable[..., Any], recurrence: Callable[..., Any] | None = None) -> Sample:
    """x**2 * y, as a throwaway op with these partial derivatives."""

    def resolve(dtypes: tuple[Any, ...]) -> tuple[Any, ...]:
        return (np.dtype("float64"),) * 3

    op = Elementwise(
        "throwaway",
        lambda x, y: x * x * y,
        partials,
        resolve,
        2,
        "x**2 * y",
        ((0.5, 2.0),) * 2,
        2,
        False,
        None,
        recurrence,
    )
    return op.samples()[0]


def exact(x: Any, y: Any) -> Any:
    return x * x * y


def right(x: Variable, y: Variable, out: Variable) -> Sequence[Any]:
    return 2 * x * y, x * x


def test_a_right_op_passes() -> None:
    errors = verify(cubic(right), exact)
    assert set(errors) == {(column, order) for column in COLUMNS for order in ORDERS}
    assert max(errors.values()) <= ADMITTED[True]


def third_order(x: Variable, y: Variable, out: Variable) -> Sequence[Any]:
    """Right, but for the derivative of the derivative of the derivative."""
    slope = sg.custom_vjp(lambda x: 2 * x, lambda x, out, ct: ct * (2 + (x - sg.stop_gradient(x))))
    return slope(x) * y, x * x


@pytest.mark.parametrize(
    ("partials", "message"),
    [
        (lambda x, y, out: (2 * x * y, x * y), "vjp, order 1"),
        (lambda x, y, out: (2 * x * y * (1 + 1e-11), x * x), "vjp, order 1"),
        (lambda x, y, out: (sg.where(x > 0, 2 * x * y, -2 * x * y), x * x), "vjp, order 1"),  # wrong where x < 0 alone
        (lambda x, y, out: (2 * sg.stop_gradient(x) * y, x * x), "vjp, order 2"),
        (third_order, "vjp, order 3"),
    ],
)
def test_wrong_partials(partials: Callable[..., Any], message: str) -> None:
    with pytest.raises(CheckError, match=rf"throwaway: .*{message}: the relative error against 50 digits is"):
        verify(cubic(partials), exact)


def test_a_wrong_series() -> None:
    def recurrence(k: int, x: Any, y: Any, out: Any) -> Derivative | None:
        if k < 3:
            return None
        return accumulate([sg.constant(1.0) * x.variable])

    with pytest.raises(CheckError, match="throwaway: series, order 3"):
        verify(cubic(right, recurrence), exact)


class Weighted(Op):
    """x * (1, 2, 3): linear, not symmetric under permutations, as a throwaway op."""

    name = "throwaway"
    linear: Any = "each"

    def infer(self, *inputs: TensorType) -> TensorType:
        return inputs[0]

    def reference(self, *inputs: Any) -> Any:
        return inputs[0] * np.array([1.0, 2.0, 3.0])

    def transpose(self, ct: Variable, inputs: Sequence[Variable]) -> Sequence[Derivative]:
        return [apply(self, ct)]

    def batch(self, inputs: Sequence[Variable], batched: Sequence[bool]) -> Sequence[Variable]:
        return [apply(self, inputs[0])]

    @property
    def sample(self) -> Sample:
        return Sample(self, (np.array([0.5, -1.0, 2.0]),))


def test_wrong_structured_rules() -> None:
    class Transposed(Weighted):
        def transpose(self, ct: Variable, inputs: Sequence[Variable]) -> Sequence[Derivative]:
            return [apply(self, ct[::-1])]

    class Pushed(Weighted):
        def jvp(self, inputs: Any, outputs: Any, tangents: Any) -> Sequence[Derivative]:
            return [tangents[0]]

    class Series(Weighted):
        def series(self, k: int, inputs: Any, outputs: Any) -> Sequence[Derivative] | None:
            return [inputs[0](k)]

    class Batched(Weighted):
        def batch(self, inputs: Sequence[Variable], batched: Sequence[bool]) -> Sequence[Variable]:
            return [inputs[0] * np.array([1.0, 2.0, 3.0]) * (2 if inputs[0].type.ndim == 2 else 1)]

    class Nested(Weighted):
        def batch(self, inputs: Sequence[Variable], batched: Sequence[bool]) -> Sequence[Variable]:
            return [apply(self, inputs[0][:, ::-1] if inputs[0].type.ndim == 3 else inputs[0])]

    class Nonlinear(Weighted):
        """x**2, of which the second derivative is wrong."""

        linear: Any = "no"

        def reference(self, *inputs: Any) -> Any:
            return inputs[0] ** 2

        def vjp(self, inputs: Any, outputs: Any, cts: Any) -> Sequence[Derivative]:
            return [2 * sg.stop_gradient(inputs[0]) * cts[0]]

        def jvp(self, inputs: Any, outputs: Any, tangents: Any) -> Sequence[Derivative]:
            return [2 * inputs[0] * tangents[0]]

        def batch(self, inputs: Sequence[Variable], batched: Sequence[bool]) -> Sequence[Variable]:
            return [apply(self, inputs[0])]

    assert max(verify(Weighted().sample).values()) <= ADMITTED[False]
    wrong: Weighted
    for wrong, entries in (
        (Transposed(), {("vjp", 1)}),
        (Pushed(), {("jvp", 1)}),
        (Series(), {("series", 1)}),
        (Nonlinear(), {("vjp", 2)}),
    ):
        with pytest.raises(CheckError, match=r"throwaway: \w+, order \d: the relative error against differences is"):
            verify(wrong.sample)
        errors = measure(wrong.sample)
        assert entries <= {key for key, error in errors.items() if error > 0.1}
    # The jvp of a linear op is the op itself, so its batching rule shows in the batches of its derivatives.
    for wrong, column in ((Batched(), "batch"), (Nested(), "nested batch")):
        with pytest.raises(CheckError, match=f"throwaway: {column}, order 1"):
            verify(wrong.sample)
