"""What a user gets for a mistake: one class per cause, what was wanted, what came, and the user's own line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.autodiff import grad, hvp, jvp, vjp
from symgraph.errors import (
    CostError,
    DisconnectedError,
    DTypeError,
    FormatError,
    IndexRangeError,
    RankError,
    SizeError,
    SymgraphError,
    UpdateError,
)
from symgraph.graph import SharedVariable, Variable

x, y = sg.matrix("x", shape=(3, 4)), sg.matrix("y", shape=(5, 6))
n, s, k = sg.vector("n", shape=("n",)), sg.scalar("s"), sg.vector("k", dtype="int64", shape=(3,))
m = sg.vector("m", shape=("m",))

BUILDING: list[tuple[str, Callable[[], Any], type[SymgraphError], str]] = [
    ("sizes differ", lambda: x + y, SizeError, r"add: sizes .* differ.*x: float64\[3, 4\], y: float64\[5, 6\]"),
    ("names differ", lambda: n + m, SizeError, r"add: sizes .* differ.*n: float64\[n\], m: float64\[m\]"),
    ("a name and a number", lambda: n + np.zeros(3), SizeError, r"add: sizes"),
    ("dtype of an operand", lambda: sg.exp(sg.scalar("b", dtype="bool")) & 1.5, DTypeError, "bitwise_and"),
    ("bits of floats", lambda: s | 1, DTypeError, "bitwise_or is not defined for float64"),
    ("axis of a sum", lambda: sg.sum(x, axis=2), RankError, r"sum: axis 2 does not exist.*x: float64\[3, 4\]"),
    ("an axis twice", lambda: sg.sum(x, axis=(0, -2)), RankError, "twice"),
    ("reshape", lambda: sg.reshape(x, (5, 2)), SizeError, r"reshape: .*12 elements does not fit into \[5, 2\]"),
    ("two free sizes", lambda: sg.reshape(x, (-1, -1)), SizeError, "only one size can be -1"),
    ("broadcast", lambda: sg.broadcast_to(x, (3, 5)), SizeError, "broadcast_to"),
    ("squeeze", lambda: sg.squeeze(x, 0), SizeError, "squeeze: axis 0 has size 3"),
    ("concatenate", lambda: sg.concatenate([x, y]), SizeError, "concatenate: sizes on axis 1 differ"),
    ("concatenate ranks", lambda: sg.concatenate([x, n]), RankError, "concatenate: ranks differ"),
    ("split", lambda: sg.split(x, 5), SizeError, "split: 3 elements do not split into 5"),
    ("transpose", lambda: sg.transpose(x, (0, 0)), RankError, "transpose"),
    ("too many indices", lambda: x[0, 0, 0], RankError, r"x: float64\[3, 4\]"),
    ("index out of range", lambda: x[7], IndexRangeError, r"x: float64\[3, 4\]"),
    ("index of floats", lambda: x[s], SymgraphError, "index"),
    ("take of floats", lambda: sg.take(x, s), DTypeError, "take"),
    ("a dtype that is none", lambda: sg.scalar("q", dtype="complex128"), DTypeError, "complex128 is not supported"),
    ("a size that is none", lambda: sg.tensor("q", shape=(-1,)), SizeError, "must not be negative"),
    ("rank of a vector", lambda: sg.vector("q", shape=(2, 2)), RankError, "vector"),
    ("not a tensor", lambda: sg.add(x, [[1.0], [1.0, 2.0]]), DTypeError, "not a tensor"),
    ("objects", lambda: sg.add(x, np.array([object()])), DTypeError, "dtype object is not supported"),
    ("a number that does not fit", lambda: sg.scalar("u", dtype="uint8") + 300, DTypeError, "300"),
    ("where without a condition", lambda: sg.where(s, x, x) + y, SizeError, "add"),
    ("max of nothing", lambda: sg.max(sg.zeros((0,))), SizeError, "max"),
]


@pytest.mark.parametrize(("make", "error", "message"), [c[1:] for c in BUILDING], ids=[c[0] for c in BUILDING])
def test_building(make: Callable[[], Any], error: type[SymgraphError], message: str) -> None:
    with pytest.raises(error, match=message) as found:
        make()
    assert "test_errors.py:" in str(found.value), str(found.value)


DERIVATIVES: list[tuple[str, Callable[[], Any], type[SymgraphError], str]] = [
    (
        "a cost with axes",
        lambda: grad(x * 2, x),
        CostError,
        r"must be a scalar, got result of multiply: float64\[3, 4\]",
    ),
    ("a cost of integers", lambda: grad(sg.sum(k), s), CostError, r"of a float dtype, got result of sum: int64\[\]"),
    ("a cost of booleans", lambda: grad(s > 0, s), CostError, "float dtype, got result of greater"),
    ("a cost that is no variable", lambda: grad(3.0, s), CostError, "must be a variable, got 3.0 of type float"),  # type: ignore[call-overload]
    ("no cost", lambda: grad(None, s), CostError, "needs a cost, or known gradients"),
    ("wrt a number", lambda: grad(s, 3.0), DTypeError, "wrt must be a variable of a graph, got 3.0 of type float"),
    ("wrt a list with a number", lambda: grad(s, [s, "s"]), DTypeError, "got 's' of type str at position 1"),
    ("wrt integers", lambda: grad(sg.sum(k * s), k), DTypeError, r"k: int64\[3\] is not of a float dtype"),
    (
        "wrt what it does not depend on",
        lambda: grad(s, [s, x]),
        DisconnectedError,
        r"does not depend on x: float64\[3, 4\]",
    ),
    ("an option", lambda: grad(s, s, disconnected="ignore"), FormatError, "'raise', 'zero' or 'none', got 'ignore'"),  # type: ignore[call-overload]
    ("known of another type", lambda: grad(None, s, known={sg.sum(x): x}), RankError, "known gradient"),
    ("known of another dtype", lambda: grad(None, s, known={s: np.float32(1)}), DTypeError, "known gradient"),
    ("cotangent of another size", lambda: vjp(x, x, y), SizeError, r"wanted float64\[3, 4\], got float64\[5, 6\]"),
    ("cotangent of another rank", lambda: vjp(x, x, s), RankError, r"wanted float64\[3, 4\], got float64\[\]"),
    ("cotangent of another dtype", lambda: vjp(x, x, sg.cast(x, "float32")), DTypeError, "got float32"),
    ("too few cotangents", lambda: vjp([x, s], x, [x]), RankError, "wanted 2, got 1"),
    ("vjp of integers", lambda: vjp(k, s, k), DTypeError, r"vjp: y: k: int64\[3\]"),
    ("tangent of another size", lambda: jvp(x, x, y), SizeError, "jvp: the tangent of x"),
    ("too many tangents", lambda: jvp(x, x, [x, x]), SymgraphError, "tangent"),
    ("jvp in integers", lambda: jvp(s, k, k), DTypeError, "jvp: x"),
    ("jvp of what it does not depend on", lambda: jvp(x * 2, s, 1.0), DisconnectedError, "jvp"),
    ("hvp of a matrix", lambda: hvp(x, x, x), CostError, "scalar"),
]


@pytest.mark.parametrize(("make", "error", "message"), [c[1:] for c in DERIVATIVES], ids=[c[0] for c in DERIVATIVES])
def test_differentiating(make: Callable[[], Any], error: type[SymgraphError], message: str) -> None:
    with pytest.raises(error, match=message) as found:
        make()
    assert "test_errors.py:" in str(found.value), str(found.value)


def test_operands_appear_once_in_a_message() -> None:
    with pytest.raises(SizeError) as found:
        x + y
    assert str(found.value).count("float64[3, 4]") == 1


def test_shared_variables_refuse_values_of_other_types() -> None:
    w = sg.shared(np.zeros((2, 3)), name="w")
    assert isinstance(w, SharedVariable)
    for value in (np.zeros((3, 2)), np.zeros(6), np.zeros((2, 3), "complex64")):
        with pytest.raises(UpdateError, match=r"w: wanted float64\[2, 3\], got"):
            w.set_value(value)
    np.testing.assert_array_equal(w.get_value(), np.zeros((2, 3)))


def test_errors_are_also_of_the_builtin_class_that_fits() -> None:
    assert issubclass(SizeError, ValueError)
    assert issubclass(DTypeError, TypeError)
    assert issubclass(IndexRangeError, IndexError)
    assert isinstance(x, Variable)
