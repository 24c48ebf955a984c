"""Every registered op, compiled: against its reference, in the dtypes it takes, for any size and memory layout.

One function computes all cases of an op: its samples in several dtypes. It is compiled from the graph as the whole
pipeline leaves it, and from the graph with no rule applied, so that what rules usually rewrite is lowered too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import symgraph as sg
from symgraph.errors import CheckError, DTypeError, SizeError, SymgraphError
from symgraph.graph import Variable
from symgraph.op import OPS, Op, apply_node
from symgraph.ops.elementwise import Elementwise
from symgraph.runtime.interpreter import interpret
from symgraph.testing import samples_of
from symgraph.types import dim, tensor_type

Array = NDArray[Any]

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


# -- the table -------------------------------------------------------------------------------------------------------

NAMES = sorted(OPS)


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
    found = [c for c in symbolic(name) if any(n > 1 for a in c.arrays for n in a.shape)]
    for c in found:
        fn = sg.function(c.inputs, c.outputs)
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
