"""Every registered op on Numba's CUDA simulator: values in the dtypes it takes, gradients, and their gradients."""

from __future__ import annotations

import pytest

from tests.backend.table import NAMES, cases, compare, compare_symbolic, gradients


@pytest.mark.parametrize("name", NAMES)
def test_op(name: str) -> None:
    found = cases(name)
    assert found
    compare(found, target="cuda")


@pytest.mark.parametrize("name", NAMES)
def test_op_with_symbolic_sizes(name: str) -> None:
    compare_symbolic(name, target="cuda")


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_gradient(name: str, order: int) -> None:
    found = gradients(name, order)
    if found:
        compare(found, target="cuda")
