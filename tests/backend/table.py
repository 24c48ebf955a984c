"""The table's driver: the cases of every registered op, and a function of all of them against the reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import symgraph as sg
from symgraph.autodiff import vjp
from symgraph.errors import CheckError, DTypeError, SizeError, SymgraphError
from symgraph.graph import Variable
from symgraph.op import OPS, apply_node
from symgraph.runtime.interpreter import interpret
from symgraph.testing import samples_of
from symgraph.types import dim, is_float, tensor_type

Array = NDArray[Any]

NAMES = sorted(OPS)

# Elementwise ops take the other integers too: `test_registry_cpu` goes through all of them.
DTYPES = ("float32", "float16", "int32", "uint8", "bool")

# The kernels' vector math is within a few units in the last place of NumPy's; sums are in another order.
TOLERANCE = {"float64": 2e-13, "float32": 2e-5, "float16": 4e-3}


@dataclass
class Case:
    """One application of an op."""

    label: str
    inputs: list[Variable]
    outputs: list[Variable]
    arrays: list[Array]

    def want(self) -> list[Array]:
        with np.errstate(all="ignore"):
            return interpret(self.outputs, dict(zip(self.inputs, self.arrays, strict=True)))


def converted(a: Array, dtype: np.dtype[Any]) -> Array:
    with np.errstate(all="ignore"):
        return np.asarray((np.abs(a) if dtype.kind in "ub" else a), dtype)


def choices(arrays: Sequence[Array]) -> Iterator[tuple[np.dtype[Any], ...]]:
    """The sample's own dtypes, then others in place of its most general one."""
    own = tuple(a.dtype for a in arrays)
    yield own
    if own:
        main = max(own, key=lambda d: ("biuf".find(d.kind), d.itemsize))
        for name in DTYPES:
            yield tuple(np.dtype(name) if d == main else d for d in own)


def cases(name: str) -> list[Case]:
    out: dict[str, Case] = {}
    for k, sample in enumerate(samples_of(name)):
        given = [np.asarray(a) for a in sample.inputs]
        for dtypes in choices(given):
            arrays = [converted(a, d) for a, d in zip(given, dtypes, strict=True)]
            inputs = [Variable(tensor_type(a.dtype, a.shape), name=f"x{i}") for i, a in enumerate(arrays)]
            label = f"{sample.op} sample {k} of {', '.join(str(v.type) for v in inputs)}"
            try:
                node = apply_node(sample.op, inputs)
            except DTypeError:
                continue
            out.setdefault(label, Case(label, inputs, list(node.outputs), arrays))
    return list(out.values())


def same(got: Array, want: Array, what: str) -> None:
    assert got.dtype == want.dtype, what
    assert got.shape == want.shape, what
    if want.dtype.kind != "f":
        np.testing.assert_array_equal(got, want, err_msg=what)
        return
    rtol = TOLERANCE[want.dtype.name]
    scale = np.max(np.abs(want), initial=0.0, where=np.isfinite(want))
    np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol * float(scale), err_msg=what)


def compare(found: Sequence[Case], layouts: Sequence[str] = ("C",), **options: Any) -> None:
    """All cases in one function."""
    inputs = [v for c in found for v in c.inputs]
    outputs = [v for c in found for v in c.outputs]
    fn = sg.function(inputs, outputs, **options)
    wanted = [(c.label, w) for c in found for w in c.want()]
    for layout in layouts:
        got = fn(*[LAYOUTS[layout](a) for c in found for a in c.arrays])
        for g, (label, w) in zip(got, wanted, strict=True):
            same(g, w, f"{label}, arguments in layout {layout}")


def gradients(name: str, order: int) -> list[Case]:
    """The gradients of an op's samples, or of their gradients and so on, in all real inputs and cotangents."""
    out = []
    for k, sample in enumerate(samples_of(name)):
        if not sample.differentiable:
            continue
        arrays = [np.asarray(a) for a in sample.inputs]
        inputs = [Variable(tensor_type(a.dtype, a.shape), name=f"x{i}") for i, a in enumerate(arrays)]
        outputs = [v for v in apply_node(sample.op, inputs).outputs if is_float(v.type.dtype)]
        for _ in range(order):
            targets = [v for v in inputs if is_float(v.type.dtype)]
            if not outputs or not targets:
                break
            cts = [Variable(v.type, name=f"ct{i}") for i, v in enumerate(outputs)]
            rng = np.random.default_rng(len(arrays))
            outputs = vjp(outputs, targets, cts, disconnected="zero")
            inputs = [*inputs, *cts]
            arrays += [np.asarray(rng.normal(size=v.type.shape), v.type.dtype) for v in cts]
        else:
            out.append(Case(f"order {order} of {sample.op} sample {k}", inputs, outputs, arrays))
    return out


def symbolic(name: str) -> Iterator[Case]:
    """The samples of an op in their own dtypes, with equal numbers above 1 as one named size; where the op allows."""
    for k, sample in enumerate(samples_of(name)):
        arrays = [np.asarray(a) for a in sample.inputs]
        inputs = [
            Variable(tensor_type(a.dtype, [dim(f"s{n}") if n > 1 else n for n in a.shape]), name=f"x{i}")
            for i, a in enumerate(arrays)
        ]
        try:
            outputs = apply_node(sample.op, inputs).outputs
            interpret(outputs, dict(zip(inputs, arrays, strict=True)))
        except SymgraphError:
            continue  # sizes are among the op's static parameters
        yield Case(f"{sample.op} sample {k}", inputs, list(outputs), arrays)


def compare_symbolic(name: str, **options: Any) -> None:
    """An op on sizes known at the call only, zero among them. Where the reference refuses, so does the function."""
    found = [c for c in symbolic(name) if any(n > 1 for a in c.arrays for n in a.shape)]
    for c in found:
        fn = sg.function(c.inputs, c.outputs, **options)
        named = sorted({n for a in c.arrays for n in a.shape if n > 1})
        for vanishing in (None, *named):
            part = [a[tuple(slice(0, 0) if n == vanishing else slice(None) for n in a.shape)] for a in c.arrays]
            what = f"{c.label} on shapes {[a.shape for a in part]}"
            try:
                want = Case(c.label, c.inputs, c.outputs, part).want()
            except CheckError:
                assert vanishing is not None
                continue  # a slice of fixed size beyond the end: the front end makes none
            except (SymgraphError, ValueError):
                with pytest.raises((SizeError, IndexError)):
                    fn(*part)
                continue
            for g, w in zip(fn(*part), want, strict=True):
                same(g, w, what)


# -- memory layouts --------------------------------------------------------------------------------------------------


def strided(a: Array) -> Array:
    wide = np.zeros([2 * n for n in a.shape], a.dtype)
    view = np.asarray(wide[tuple(slice(None, None, 2) for _ in a.shape)])
    view[...] = a
    return view


def reversed_(a: Array) -> Array:
    turned = tuple(slice(None, None, -1) for _ in a.shape)
    return np.array(a[turned])[turned] if a.ndim else a


def read_only(a: Array) -> Array:
    out = a.copy()
    out.flags.writeable = False
    return out


def misaligned(a: Array) -> Array:
    raw = np.zeros(a.nbytes + 1, np.uint8)
    view = raw[1:].view(a.dtype).reshape(a.shape)
    view[...] = a
    return view


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "C": np.array,
    "Fortran": lambda a: np.array(a, order="F"),
    "strided": strided,
    "reversed": reversed_,
    "read-only": read_only,
    "misaligned": misaligned,
    "byte-swapped": lambda a: a.astype(a.dtype.newbyteorder()),
}
