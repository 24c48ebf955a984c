"""The table's columns that compile: the kernel of every op, and of its gradient, against its reference.

Arguments come as the sample has them, strided, in Fortran order, reversed, and read-only; elementwise ops also of every
dtype that they accept, empty, and without axes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import symgraph as sg
from symgraph.autodiff import vjp
from symgraph.errors import DTypeError
from symgraph.graph import Variable
from symgraph.op import OPS, Sample, apply_node
from symgraph.ops.elementwise import Elementwise
from symgraph.runtime.interpreter import interpret
from symgraph.testing import samples_of
from symgraph.types import DTYPES, is_float, tensor_type
from tests.backend.table import same

ROWS = [(f"{name}-{k}", sample) for name in sorted(OPS) for k, sample in enumerate(samples_of(name))]
TABLE = pytest.mark.parametrize("sample", [pytest.param(sample, id=label) for label, sample in ROWS])


def layouts(arrays: Sequence[NDArray[Any]]) -> dict[str, list[NDArray[Any]]]:
    """The same values in other memory layouts."""

    def strided(a: NDArray[Any]) -> NDArray[Any]:
        if not a.ndim:
            return a
        wide = np.zeros([2 * n for n in a.shape], a.dtype)
        view = wide[tuple(slice(None, None, 2) for _ in a.shape)]
        view[...] = a
        return view

    def backward(a: NDArray[Any]) -> NDArray[Any]:
        if not a.ndim:
            return a
        turned = tuple(slice(None, None, -1) for _ in a.shape)
        return np.ascontiguousarray(a[turned])[turned]

    def read_only(a: NDArray[Any]) -> NDArray[Any]:
        out = a.copy()
        out.flags.writeable = False
        return out

    if not any(a.ndim for a in arrays):
        return {"0-d": list(arrays)}

    def fortran(a: NDArray[Any]) -> NDArray[Any]:
        return np.array(a, order="F")

    kinds: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
        "C": np.array,
        "Fortran": fortran,
        "strided": strided,
        "reversed": backward,
        "read-only": read_only,
    }
    return {name: [np.asarray(make(a)) for a in arrays] for name, make in kinds.items()}


def compare(outputs: Sequence[Variable], inputs: Sequence[Variable], arrays: Sequence[NDArray[Any]]) -> None:
    fn = sg.function(list(inputs), list(outputs))
    with np.errstate(all="ignore"):
        want = interpret(list(outputs), dict(zip(inputs, arrays, strict=True)))
    for name, values in layouts(arrays).items():
        for k, (g, w) in enumerate(zip(fn(*values), want, strict=True)):
            same(g, w, f"output {k}, arguments in layout {name}")


@TABLE
def test_kernel(sample: Sample) -> None:
    arrays = [np.asarray(a) for a in sample.inputs]
    inputs = [Variable(tensor_type(a.dtype, a.shape), name=f"x{k}") for k, a in enumerate(arrays)]
    compare(apply_node(sample.op, inputs).outputs, inputs, arrays)


@pytest.mark.parametrize("sample", [pytest.param(s, id=label) for label, s in ROWS if s.differentiable])
def test_kernel_of_gradient(sample: Sample) -> None:
    arrays = [np.asarray(a) for a in sample.inputs]
    inputs = [Variable(tensor_type(a.dtype, a.shape), name=f"x{k}") for k, a in enumerate(arrays)]
    outputs = [v for v in apply_node(sample.op, inputs).outputs if is_float(v.type.dtype)]
    targets = [v for v in inputs if is_float(v.type.dtype)]
    if not outputs or not targets:
        return
    rng = np.random.default_rng(0)
    cts = [Variable(v.type, name=f"ct{k}") for k, v in enumerate(outputs)]
    seeds = [rng.normal(size=[int(n) for n in v.type.shape]).astype(v.type.dtype) for v in outputs]
    gradients = vjp(outputs, targets, cts, disconnected="zero")
    compare(gradients, [*inputs, *cts], [*arrays, *seeds])


def accepted(op: Elementwise) -> list[str]:
    out = []
    for dtype in DTYPES:
        try:
            *operands, _ = op.resolve((np.dtype(dtype),) * op.arity)
        except DTypeError:
            continue
        if all(d.name in (dtype, "bool") for d in operands):
            out.append(dtype)
    return out


ELEMENTWISE = {name: op for name, op in OPS.items() if isinstance(op, Elementwise)}


@pytest.mark.parametrize(
    ("name", "dtype"), [pytest.param(n, d, id=f"{n}-{d}") for n, op in ELEMENTWISE.items() for d in accepted(op)]
)
def test_kernel_of_elementwise_in_every_dtype(name: str, dtype: str) -> None:
    op = ELEMENTWISE[name]
    *operands, _ = op.resolve((np.dtype(dtype),) * op.arity)
    sample = samples_of(name)[0]
    values = []
    for a, d in zip(sample.inputs, operands, strict=True):
        whole = np.rint(np.asarray(a) * 3) if d.kind in "iu" and a.dtype.kind == "f" else np.asarray(a)
        # NumPy has no negative powers of integers.
        values.append(
            (np.abs(whole) if d.kind in "ub" or (name == "power" and d.kind == "i") else whole).astype(d).reshape(-1)
        )
    inputs = [Variable(tensor_type(d, ("n",)), name=f"x{k}") for k, d in enumerate(operands)]
    output = apply_node(op, inputs).outputs[0]
    fn = sg.function(inputs, output)
    for n in (12, 5, 1, 0):
        given = [v[:n] for v in values]
        same(fn(*given), interpret(output, dict(zip(inputs, given, strict=True)))[0], f"size {n}")
    spaced = [np.repeat(v, 3)[::3] for v in values]
    same(fn(*spaced), interpret(output, dict(zip(inputs, spaced, strict=True)))[0], "strided")
