"""Every registered op, compiled: against its reference, in the dtypes it takes, for any size and memory layout.

One function computes all cases of an op: its samples in several dtypes. It is compiled from the graph as the whole
pipeline leaves it, and from the graph with no rule applied, so that what rules usually rewrite is lowered too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.graph import Variable
from symgraph.op import Op, apply_node
from symgraph.ops.elementwise import Elementwise
from symgraph.runtime.interpreter import interpret
from symgraph.testing import samples_of
from symgraph.types import tensor_type
from tests.backend.table import LAYOUTS, NAMES, cases, compare, compare_symbolic, same


@pytest.mark.parametrize("name", NAMES)
def test_op(name: str) -> None:
    found = cases(name)
    assert found
    compare(found, tuple(LAYOUTS))


@pytest.mark.parametrize("name", NAMES)
def test_op_without_rules(name: str) -> None:
    compare(cases(name), levels=())


@pytest.mark.parametrize("name", NAMES)
def test_op_with_symbolic_sizes(name: str) -> None:
    """Sizes known at the call only, zero among them. Where the reference refuses, so does the kernel."""
    compare_symbolic(name)


def test_several_outputs_of_one_node() -> None:
    """Outputs are computed together, whichever of them are wanted."""
    several = [
        (name, s.op, s) for name in NAMES for s in samples_of(name) if s.op.n_outputs > 1 and not isinstance(s.op, type)
    ]
    assert {name for name, _, _ in several} >= {"max_and_argmax"}
    for name, op, sample in several:
        assert isinstance(op, Op)
        assert not isinstance(op, Elementwise)
        arrays = [np.asarray(a) for a in sample.inputs]
        inputs = [Variable(tensor_type(a.dtype, a.shape)) for a in arrays]
        outputs = apply_node(op, inputs).outputs
        values = interpret(outputs, dict(zip(inputs, arrays, strict=True)))
        assert len(values) == op.n_outputs
        for k, v in enumerate(outputs):
            same(sg.function(inputs, v)(*arrays), values[k], f"{name}: output {k} alone")
        backwards = sg.function(inputs, list(outputs[::-1]))
        assert len(backwards.program.steps) == 1
        for g, w in zip(backwards(*arrays), values[::-1], strict=True):
            same(g, w, f"{name}: outputs in reverse")


KEYS: list[Any] = [
    *(slice(a, b, c) for a in (None, 0, 1, -2, 9) for b in (None, 0, 2, -1, 9) for c in (None, 2, -1, -3)),
    (slice(None, None, -1), slice(None, None, -1)),
    (slice(1, None), None, slice(None, -1)),
]


def test_slices_of_sizes_known_at_the_call() -> None:
    x = sg.matrix("x", shape=("n", "m"))
    outputs = [x[key] for key in KEYS]
    back = [sg.grad(sg.sum(sg.sin(v)), x) for v in outputs]
    fn = sg.function([x], outputs)
    gradients = sg.function([x], back)
    for n, m in ((5, 4), (2, 1), (1, 3), (0, 2), (12, 2)):
        a = np.arange(1.0, n * m + 1).reshape(n, m)
        for key, got in zip(KEYS, fn(a), strict=True):
            same(got, a[key], f"x[{key}] of {n} x {m}")
        for key, got in zip(KEYS, gradients(a), strict=True):
            want = np.zeros_like(a)
            want[key] = np.cos(a[key])
            same(got, want, f"gradient of x[{key}] of {n} x {m}")
