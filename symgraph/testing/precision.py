"""How far the derivatives of an operation are from the true ones: of orders 1 to 3, in every mode, batched and not.

Elementwise operations are compared with their function at 50 digits (:mod:`symgraph.testing.exact`); all others with
extrapolated central differences of the next lower order. Both go through the reference interpreter.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symgraph.autodiff import jvp, vjp
from symgraph.autodiff.taylor import taylor
from symgraph.batching import vectorize
from symgraph.errors import CheckError
from symgraph.graph import Interner, Variable, interning
from symgraph.op import Sample, apply_node
from symgraph.ops.elementwise import Elementwise
from symgraph.runtime.interpreter import interpret
from symgraph.testing.numeric import extrapolated
from symgraph.types import is_float, tensor_type

Array = NDArray[Any]
Errors = dict[tuple[str, int], float]
"""The relative error by column and order."""

COLUMNS = ("vjp", "jvp", "series", "batch", "nested batch")
ORDERS = (1, 2, 3)
ADMITTED = {True: 1e-12, False: 1e-8}
"""The relative error that passes: of the derivative against 50 digits, and against differences."""
POINTS = 3  # of an elementwise sample, in each combination of signs where the function is defined


def measure(sample: Sample, exact: Callable[..., Any] | None = None) -> Errors:
    """The relative errors of all derivatives on a sample, which has to be differentiable.

    ``exact`` is the operation's function on numbers of any precision, if it is elementwise.
    """
    case = _Case(sample)
    if not case.targets or not case.outputs:
        return {}
    return _elementwise(case, exact) if exact is not None else _structured(case)


def verify(sample: Sample, exact: Callable[..., Any] | None = None) -> Errors:
    """:func:`measure`; raises :class:`~symgraph.errors.CheckError` that names op, column and order where one fails."""
    errors = measure(sample, exact)
    limit, against = ADMITTED[exact is not None], "50 digits" if exact is not None else "differences"
    for (column, order), error in errors.items():
        if not error <= limit:
            raise CheckError(
                f"{sample.op}: {column}, order {order}: the relative error against {against} is {error:.2g}, more than "
                f"{limit:.0e}"
            )
    return errors


def exact_function(sample: Sample) -> Callable[..., Any] | None:
    """The function of an elementwise op at any precision; ``None`` for other ops."""
    if not isinstance(sample.op, Elementwise):
        return None
    from symgraph.testing.exact import EXACT  # needs mpmath

    return EXACT.get(sample.op.name)


class _Case:
    """A sample in float64: the graph, the point, and what is differentiated."""

    def __init__(self, sample: Sample) -> None:
        arrays = [np.asarray(a) for a in sample.inputs]
        self.arrays = [_wide(a) for a in arrays]
        if isinstance(sample.op, Elementwise):
            self.arrays = _points(sample.op, self.arrays)
        self.inputs = [Variable(tensor_type(a.dtype, a.shape), name=f"x{k}") for k, a in enumerate(self.arrays)]
        self.outputs = [v for v in apply_node(sample.op, self.inputs).outputs if is_float(v.type.dtype)]
        self.targets = [v for v in self.inputs if is_float(v.type.dtype)]
        self.seeds: dict[Variable, Array] = {}
        self.rng = np.random.default_rng(0)

    def seed(self, values: Sequence[Array]) -> list[Variable]:
        """Symbols for cotangents or tangents, which get batched with the point."""
        made = [Variable(tensor_type(a.dtype, a.shape)) for a in values]
        self.seeds.update(zip(made, values, strict=True))
        return made

    def run(self, outputs: Sequence[Variable], values: Sequence[Array] | None = None) -> list[Array]:
        with np.errstate(all="ignore"):
            point = dict(zip(self.inputs, self.arrays if values is None else values, strict=True))
            return interpret(list(outputs), {**point, **self.seeds})

    def moved(self, directions: Sequence[Array], t: float) -> list[Array]:
        moves = iter(directions)
        return [a + t * next(moves) if a.dtype.kind == "f" else a for a in self.arrays]

    def random(self, shapes: Sequence[tuple[int, ...]]) -> list[Array]:
        return [self.rng.uniform(0.5, 1.5, s) * self.rng.choice([-1.0, 1.0], s) for s in shapes]

    def directions(self) -> list[Array]:
        return self.random([a.shape for a in self.arrays if a.dtype.kind == "f"])

    def batched(self, outputs: Sequence[Variable], nested: bool) -> list[Array]:
        """``outputs`` over a batch of points, or a batch of batches, of which one element is the point."""
        found, inputs, stacks = list(outputs), [*self.inputs, *self.seeds], [*self.arrays, *self.seeds.values()]
        for size in (2, 3) if nested else (3,):
            stacks = [np.stack([np.roll(a, k) for k in reversed(range(size))]) for a in stacks]
            larger = [Variable(tensor_type(a.dtype, a.shape)) for a in stacks]
            found, inputs = vectorize(found, dict(zip(inputs, larger, strict=True))), larger
        with np.errstate(all="ignore"):
            values = interpret(found, dict(zip(inputs, stacks, strict=True)))
        return [a[-1, -1] if nested else a[-1] for a in values]


def _wide(a: Array) -> Array:
    return np.asarray(a, "float64") if a.dtype.kind == "f" else a


def _points(op: Elementwise, arrays: Sequence[Array]) -> list[Array]:
    """Some elements of the operands with all combinations of signs, those where the function has a finite value."""
    few = [a.reshape(-1)[:POINTS] for a in arrays]
    signs = itertools.product(*[(1.0, -1.0) if a.dtype.kind == "f" else (None,) for a in few])
    columns = [[a if s is None else s * a for a, s in zip(few, chosen, strict=True)] for chosen in signs]
    points = [np.concatenate([c[k] for c in columns]) for k in range(len(few))]
    inside = np.isfinite(op.reference(*points))
    return [a[inside] for a in points]


def _error(got: Sequence[Array], want: Sequence[Array], scale: Sequence[Array] | None = None) -> float:
    """The largest error, relative to what was wanted, and where that is 0 absolute."""
    worst = 0.0
    for k, (g, w) in enumerate(zip(got, want, strict=True)):
        if not w.size:
            continue
        same = (np.isnan(g) & np.isnan(w)) | (g == w)
        size = np.where(w == 0, 1.0, np.abs(w)) if scale is None else np.maximum(scale[k], np.abs(w))
        with np.errstate(all="ignore"):
            gap = np.where(same, 0.0, np.abs(g - w) / np.where(size == 0, 1.0, size))
        worst = max(worst, float(np.max(np.nan_to_num(gap, nan=np.inf))))
    return worst


# -- elementwise: every partial derivative against 50 digits -----------------------------------------------------------


def _elementwise(case: _Case, exact: Callable[..., Any]) -> Errors:
    from symgraph.testing.exact import along, indices, partial

    errors: Errors = {}
    (y,) = case.outputs
    ones = case.seed([np.ones(a.shape) for a in case.arrays if a.dtype.kind == "f"])
    made: dict[str, dict[tuple[int, ...], Variable]] = {"vjp": {(): y}, "jvp": {(): y}}
    directions = case.directions()
    with interning(Interner([y])):
        series = taylor(y, case.targets, case.seed(directions), max(ORDERS), disconnected="zero")
    for order in ORDERS:
        wanted = {}
        for index in indices(len(case.targets), order):
            *before, last = index
            target = case.targets[last]
            with interning(Interner([y])):
                made["vjp"][index] = vjp(made["vjp"][tuple(before)], target, ones[last], disconnected="zero")
                made["jvp"][index] = jvp(made["jvp"][tuple(before)], target, ones[last], disconnected="zero")
            wanted[index] = partial(exact, case.arrays, [index.count(k) for k in range(len(case.targets))])
        want = list(wanted.values())
        for mode in ("vjp", "jvp"):
            errors[mode, order] = _error(case.run([made[mode][i] for i in wanted]), want)
        line = [along(exact, case.arrays, directions, order)]
        # A sum over the operands may cancel, so its error is relative to the largest one.
        errors["series", order] = _error(case.run([series[order]]), line, _sizes(line))
        for column in ("batch", "nested batch"):
            both = [made[mode][i] for mode in ("vjp", "jvp") for i in wanted]
            found = case.batched([*both, series[order]], column != "batch")
            errors[column, order] = max(_error(found[:-1], [*want, *want]), _error(found[-1:], line, _sizes(line)))
    return errors


# -- all others: each order against differences of the one before ------------------------------------------------------


def _structured(case: _Case) -> Errors:
    errors: Errors = {}
    directions = [case.directions() for _ in ORDERS]
    along = [case.seed(d) for d in directions]
    backward, forward = list(case.outputs), list(case.outputs)
    with interning(Interner(case.outputs)):
        series = [taylor(y, case.targets, along[0], max(ORDERS), disconnected="zero") for y in case.outputs]
    for order in ORDERS:
        cts = case.random([a.shape for a in case.run(backward)])
        with interning(Interner([*backward, *forward])):
            back = vjp(backward, case.targets, case.seed(cts), disconnected="zero")
            forth = jvp(forward, case.targets, along[order - 1], disconnected="zero")
        errors["vjp", order] = _against(case, backward, directions[order - 1], back, cts)
        errors["jvp", order] = _against(case, forward, directions[order - 1], forth)
        lower, upper = [s[order - 1] for s in series], [s[order] for s in series]
        errors["series", order] = _against(case, lower, directions[0], upper)
        both = [*back, *forth, *upper]
        want = case.run(both)
        for column in ("batch", "nested batch"):
            errors[column, order] = _error(case.batched(both, column != "batch"), want, _sizes(want))
        backward, forward = list(back), list(forth)
    return errors


def _against(
    case: _Case,
    before: Sequence[Variable],
    directions: Sequence[Array],
    derivative: Sequence[Variable],
    cts: Sequence[Array] | None = None,
) -> float:
    """Derivatives along a direction, those of a jvp or the products with a vjp's, against differences of ``before``."""
    found = case.run(derivative)

    def f(t: float) -> list[Array]:
        y = case.run(before, case.moved(directions, t))
        return y if cts is None else [np.array(_inner(y, cts))]

    got = found if cts is None else [np.array(_inner(found, directions))]
    sizes = _sizes(f(0.0)) if cts is None else [np.array(_inner(map(np.abs, f(0.0)), [np.ones(())]))]
    best = np.inf
    # Smaller steps where the first ones cross a kink of the sample.
    for step in (2.0**-4, 2.0**-10):
        want, _ = extrapolated(f, step)
        scale = [np.maximum(s, w) for s, w in zip(sizes, _sizes(want), strict=True)]
        best = min(best, _error(got, want, scale))
        if best < 1e-10:
            break
    return best


def _inner(a: Any, b: Any) -> float:
    return float(sum(np.sum(x * y) for x, y in zip(a, b, strict=True)))


def _sizes(values: Sequence[Array]) -> list[Array]:
    """The largest finite magnitude in each array: what sums of its elements are exact to."""
    return [np.max(np.abs(a), initial=0.0, where=np.isfinite(a)) for a in values]
