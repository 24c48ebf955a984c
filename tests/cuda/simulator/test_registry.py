"""Every registered op on Numba's CUDA simulator: values in the dtypes it takes, gradients, and their gradients."""

from __future__ import annotations

import pytest

from symgraph.testing import samples_of
from tests.backend.table import NAMES as ALL
from tests.backend.table import cases, compare, compare_symbolic, gradients

NAMES = [name for name in ALL if not any(s.op.host for s in samples_of(name))]
"""All but what runs on the processor, which the target refuses."""


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
