"""Checks of an op against its own facts, through the reference interpreter."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symgraph.autodiff import jvp, vjp
from symgraph.autodiff.taylor import taylor
from symgraph.batching import vectorize
from symgraph.errors import CheckError, DTypeError, SymgraphError
from symgraph.graph import Graph, Variable
from symgraph.op import OPS, Op, Sample, apply_node, as_variable
from symgraph.printing import graphs_equal, parse_graph, print_graph
from symgraph.runtime.interpreter import interpret
from symgraph.runtime.sizes import bind_sizes, substitute_sizes
from symgraph.substitute import substitute
from symgraph.testing.numeric import STEPS, close, directional, inner
from symgraph.types import DTYPES, Size, TensorType, dim, is_float, tensor_type

Array = NDArray[Any]


def variables_for(arrays: Sequence[Array]) -> list[Variable]:
    """An input for each array, of its type."""
    return [Variable(tensor_type(a.dtype, a.shape), name=f"x{k}") for k, a in enumerate(arrays)]


def samples_of(name: str) -> list[Sample]:
    """The samples of a registered op. Those of an op with static parameters belong to its class, not to an instance."""
    registered = OPS[name]
    return registered.samples() if isinstance(registered, Op) else list(object.__new__(registered).samples())


def _as_float64(sample: Sample) -> list[Array]:
    return [np.asarray(a, "float64") if np.asarray(a).dtype.kind == "f" else np.asarray(a) for a in sample.inputs]


def _built(op: Op, arrays: Sequence[Array]) -> tuple[list[Variable], list[Variable]]:
    inputs = variables_for(arrays)
    return inputs, list(apply_node(op, inputs).outputs)


def _fail(op: Op, what: str) -> CheckError:
    return CheckError(f"{op}: {what}")


# -- forward ----------------------------------------------------------------------------------------------------------


def check_forward(sample: Sample) -> None:
    """The reference gives what the type rule says, in every dtype that the op accepts."""
    op = sample.op
    arrays = [np.asarray(a) for a in sample.inputs]
    accepted = 0
    for dtypes in _dtype_choices(arrays):
        values = [_converted(a, d) for a, d in zip(arrays, dtypes, strict=True)]
        try:
            inputs, outputs = _built(op, values)
        except DTypeError:
            continue
        accepted += 1
        interpret(outputs, dict(zip(inputs, values, strict=True)))  # compares with the inferred types
    if not accepted:
        raise _fail(op, f"accepts no dtypes for its own sample: {[str(a.dtype) for a in arrays]}")


def _dtype_choices(arrays: Sequence[Array]) -> list[tuple[np.dtype[Any], ...]]:
    """The sample's dtypes, and all others in place of its most general one."""
    own = tuple(a.dtype for a in arrays)
    if not own:
        return [own]
    main = max(own, key=lambda d: ("biuf".find(d.kind), d.itemsize))
    choices = [own]
    for name in DTYPES:
        choice = tuple(np.dtype(name) if d == main else d for d in own)
        if choice not in choices:
            choices.append(choice)
    return choices


def _converted(a: Array, dtype: np.dtype[Any]) -> Array:
    with np.errstate(all="ignore"):
        return (np.abs(a) if dtype.kind in "ub" else a).astype(dtype)


# -- derivatives ------------------------------------------------------------------------------------------------------


@dataclass
class _Case:
    """A graph over float64 inputs, and a point."""

    what: str
    inputs: list[Variable]
    arrays: list[Array]
    outputs: list[Variable]
    rng: np.random.Generator

    @property
    def floats(self) -> list[int]:
        return [k for k, v in enumerate(self.inputs) if is_float(v.type.dtype)]

    def run(self, outputs: Sequence[Variable], arrays: Sequence[Array] | None = None, **extra: Any) -> list[Array]:
        values = dict(zip(self.inputs, self.arrays if arrays is None else arrays, strict=True))
        with np.errstate(all="ignore"):
            return interpret(list(outputs), {**values, **extra.get("more", {})})

    def moved(self, k: int, direction: Array, t: float) -> list[Array]:
        return [a + t * direction if i == k else a for i, a in enumerate(self.arrays)]

    def random(self, like: Sequence[Array]) -> list[Array]:
        return [self.rng.normal(size=a.shape) for a in like]


def _float_outputs(outputs: Sequence[Variable]) -> list[Variable]:
    return [v for v in outputs if is_float(v.type.dtype)]


def _check_reverse(case: _Case, order: int) -> None:
    """vjp against directional central differences, in each input by itself; then the same for the gradient graph."""
    outputs = _float_outputs(case.outputs)
    if not outputs or not case.floats:
        return
    cts = case.random(case.run(outputs))
    seeds = [as_variable(c) for c in cts]
    targets = [case.inputs[k] for k in case.floats]
    gradients = vjp(outputs, targets, seeds, disconnected="zero")
    values = case.run(gradients)
    for k, g in zip(case.floats, values, strict=True):
        if not case.arrays[k].size:
            continue  # nothing to move; that the gradient has its type was checked when it was computed
        (d,) = case.random([case.arrays[k]])

        def along(t: float, k: int = k, d: Array = d) -> float:
            return inner(case.run(outputs, case.moved(k, d, t)), cts)

        symbolic, scale = inner([g], [d]), abs(along(0.0))
        found = [directional(along, step) for step in STEPS]
        if not any(close(symbolic, numeric, scale, error) for numeric, error in found):
            raise CheckError(
                f"{case.what}: the derivative in input {k} along a random direction is {found[0][0]:.10g} by central "
                f"differences, and {symbolic:.10g} by the vjp{_worst(case, outputs, cts, k, g)}"
            )
    if order > 1:
        deeper = dataclasses.replace(case, what=f"{case.what}: gradient", outputs=list(gradients))
        _check_reverse(deeper, order - 1)


def _worst(case: _Case, outputs: Sequence[Variable], cts: Sequence[Array], k: int, g: Array) -> str:
    """The element of input ``k`` whose derivatives differ most."""
    if case.arrays[k].size > 200:
        return ""
    numeric = np.zeros(case.arrays[k].shape)
    for at in np.ndindex(numeric.shape):
        unit = np.zeros(numeric.shape)
        unit[at] = 1.0
        numeric[at], _ = directional(lambda t, u=unit: inner(case.run(outputs, case.moved(k, u, t)), cts))  # type: ignore[misc]
    gap = np.abs(numeric - g)
    at = tuple(map(int, np.unravel_index(int(np.argmax(np.nan_to_num(gap, nan=np.inf))), gap.shape)))
    return f"; they differ most at element {list(at)}: {numeric[at]:.10g} and {g[at]:.10g}"


def _check_duality(case: _Case) -> None:
    """<u, J v> = <Jᵀ u, v>: the jvp and the vjp are of one linear map."""
    outputs = _float_outputs(case.outputs)
    if not outputs or not case.floats:
        return
    cts = case.random(case.run(outputs))
    directions = case.random([case.arrays[k] for k in case.floats])
    targets = [case.inputs[k] for k in case.floats]
    back = case.run(vjp(outputs, targets, [as_variable(c) for c in cts], disconnected="zero"))
    forth = case.run(jvp(outputs, targets, [as_variable(d) for d in directions], disconnected="zero"))
    a, b = inner(cts, forth), inner(back, directions)
    scale = inner([np.abs(c) for c in cts], [np.abs(f) for f in forth])
    if not abs(a - b) <= 1e-10 * max(scale, 1e-300):
        raise CheckError(f"{case.what}: <u, jvp(v)> = {a!r}, <vjp(u), v> = {b!r}")


def _case(sample: Sample) -> _Case:
    arrays = _as_float64(sample)
    inputs, outputs = _built(sample.op, arrays)
    return _Case(str(sample.op), inputs, arrays, outputs, np.random.default_rng(0))


def check_vjp(sample: Sample) -> None:
    """The vjp against central differences of the reference."""
    if sample.differentiable:
        _check_reverse(_case(sample), 1)


def check_jvp(sample: Sample) -> None:
    """The jvp against the vjp."""
    if sample.differentiable:
        _check_duality(_case(sample))


def check_second_order(sample: Sample) -> None:
    """The gradient of the gradient graph against its central differences; and its jvp."""
    if sample.differentiable:
        _check_order(_case(sample), 2)


def check_third_order(sample: Sample) -> None:
    """The third derivative against central differences of the second; and its jvp."""
    if sample.differentiable:
        _check_order(_case(sample), 3)


def _check_order(case: _Case, order: int) -> None:
    """The derivative of this order, of which those of lower orders have been checked."""
    for _ in range(order - 1):
        floats = _float_outputs(case.outputs)
        if not floats or not case.floats:
            return
        cts = [as_variable(c) for c in case.random(case.run(floats))]
        deeper = vjp(floats, [case.inputs[k] for k in case.floats], cts, disconnected="zero")
        case = dataclasses.replace(case, what=f"{case.what}: gradient", outputs=list(deeper))
    _check_reverse(case, 1)
    _check_duality(case)


def check_series(sample: Sample) -> None:
    """Taylor mode along a curve against nested forward mode, to third order."""
    if not sample.differentiable:
        return
    case = _case(sample)
    targets = [case.inputs[k] for k in case.floats]
    outputs = _float_outputs(case.outputs)
    if not targets or not outputs:
        return
    # The inputs are quadratic in the line's parameter, so that coefficients of theirs beyond the first count.
    curve = {v: v + 0.3 * v * v for v in targets}
    directions = [as_variable(d) for d in case.random([case.arrays[k] for k in case.floats])]
    for number, y in enumerate(substitute(outputs, curve)):
        derivatives = taylor(y, targets, directions, 3, disconnected="zero")
        nested = y
        for k in range(1, 4):
            nested = jvp(nested, targets, directions, disconnected="zero")
            got, want = case.run([derivatives[k], nested])
            scale = float(np.max(np.abs(want), initial=1.0, where=np.isfinite(want)))
            if not np.allclose(got, want, rtol=1e-9, atol=1e-11 * scale, equal_nan=True):
                raise CheckError(
                    f"{sample.op}: output {number}: its derivative {k} along a line is {got} by series, and {want} "
                    f"by repeated jvps"
                )


# -- batching ---------------------------------------------------------------------------------------------------------


def check_batch(sample: Sample) -> None:
    """The batching rule against a loop over elements, for every choice of batched inputs, nested too."""
    op, arrays = sample.op, [np.asarray(a) for a in sample.inputs]
    inputs, outputs = _built(op, arrays)
    n = len(arrays)
    choices = [c for c in itertools.product((False, True), repeat=n) if any(c)] if n <= 3 else []
    if n > 3:
        choices = [tuple(i == k for i in range(n)) for k in range(n)] + [(True,) * n]
    for flags in choices:
        _compare_batched(sample, inputs, outputs, arrays, flags)
    if n:
        _compare_nested(sample, inputs, outputs, arrays)


def variants(a: Array, count: int) -> list[Array]:
    """``count`` arrays like ``a`` with its elements in other places, so that they stay in the op's domain."""
    return [np.roll(a, k) for k in range(count)]


def _compare_batched(
    sample: Sample, inputs: list[Variable], outputs: list[Variable], arrays: list[Array], flags: Sequence[bool]
) -> None:
    size = 3
    stacks = [np.stack(variants(a, size)) if f else a for a, f in zip(arrays, flags, strict=True)]
    batched = [
        Variable(tensor_type(a.dtype, a.shape)) if f else v for v, a, f in zip(inputs, stacks, flags, strict=True)
    ]
    replace = {v: X for v, X, f in zip(inputs, batched, flags, strict=True) if f}
    got = interpret(vectorize(outputs, replace), dict(zip(batched, stacks, strict=True)))
    for i in range(size):
        element = [s[i] if f else s for s, f in zip(stacks, flags, strict=True)]
        want = interpret(outputs, dict(zip(inputs, element, strict=True)))
        for k, (g, w) in enumerate(zip(got, want, strict=True)):
            _same(g[i], w, f"{sample.op}: output {k} of batch element {i}, with inputs batched {list(flags)}")


def _compare_nested(sample: Sample, inputs: list[Variable], outputs: list[Variable], arrays: list[Array]) -> None:
    """The first input batched inside, all of them outside."""
    inner_size, outer_size = 2, 3
    stacks = [np.stack([np.stack(variants(a, inner_size))] * outer_size) for a in arrays[:1]]
    stacks[0] = np.stack([np.roll(s, k) for k, s in enumerate(stacks[0])])
    rest = [np.stack(variants(a, outer_size)) for a in arrays[1:]]
    middle = Variable(tensor_type(arrays[0].dtype, (inner_size, *arrays[0].shape)))
    once = vectorize(outputs, {inputs[0]: middle})
    outer = [Variable(tensor_type(a.dtype, a.shape)) for a in [*stacks, *rest]]
    twice = vectorize(once, dict(zip([middle, *inputs[1:]], outer, strict=True)))
    got = interpret(twice, dict(zip(outer, [*stacks, *rest], strict=True)))
    for i, j in itertools.product(range(outer_size), range(inner_size)):
        want = interpret(outputs, dict(zip(inputs, [stacks[0][i, j], *(r[i] for r in rest)], strict=True)))
        for k, (g, w) in enumerate(zip(got, want, strict=True)):
            _same(g[i, j], w, f"{sample.op}: output {k} of nested batch element {i}, {j}")


def _same(got: Array, want: Array, what: str) -> None:
    if got.dtype != want.dtype or got.shape != want.shape:
        raise CheckError(f"{what}: got {got.dtype}{list(got.shape)}, wanted {want.dtype}{list(want.shape)}")
    if not np.allclose(got, want, rtol=1e-10 if want.dtype.itemsize == 8 else 1e-3, atol=1e-12, equal_nan=True):
        raise CheckError(f"{what}: got {got}, wanted {want}")


# -- text and symbolic sizes ------------------------------------------------------------------------------------------


def check_text(sample: Sample) -> None:
    """The op, and its gradient graph, printed, read back, and printed again."""
    inputs, outputs = _built(sample.op, _as_float64(sample))
    found = list(outputs)
    targets = [v for v in inputs if is_float(v.type.dtype)]
    if sample.differentiable and targets and _float_outputs(outputs):
        floats = _float_outputs(outputs)
        found += vjp(floats, targets, floats, disconnected="zero")
    graph = Graph(inputs, found)
    text = print_graph(graph)
    back = parse_graph(text)
    if print_graph(back) != text or not graphs_equal(graph, back):
        raise _fail(sample.op, f"printing, reading and printing again changes the text:\n{text}\n{print_graph(back)}")


def check_symbolic(sample: Sample) -> bool:
    """The sample with named sizes in place of numbers gives the same values; False where the op takes only numbers."""
    op, arrays = sample.op, _as_float64(sample)
    dims: dict[int, Size] = {n: dim(f"s{n}") for a in arrays for n in a.shape if n > 1}
    if not dims:
        return False
    types = [TensorType(a.dtype, tuple(dims[n] if n > 1 else n for n in a.shape)) for a in arrays]
    inputs = [Variable(t, name=f"x{k}") for k, t in enumerate(types)]
    env = bind_sizes(inputs, arrays)
    for candidate in _symbolic_ops(op, dims):
        if substitute_sizes(candidate, env) != op:
            continue
        try:
            outputs = list(apply_node(candidate, inputs).outputs)
            break
        except SymgraphError:
            continue
    else:
        return False
    static = _case(sample)
    symbolic = dataclasses.replace(static, inputs=inputs, outputs=outputs)
    got, want = symbolic.run(outputs), static.run(static.outputs)
    for k, (g, w) in enumerate(zip(got, want, strict=True)):
        _same(g, w, f"{op}: output {k} with symbolic sizes")
    if sample.differentiable and static.floats and _float_outputs(outputs):
        seeds = [as_variable(c) for c in static.random(static.run(_float_outputs(static.outputs)))]
        pair = []
        for case in (symbolic, static):
            targets = [case.inputs[k] for k in case.floats]
            floats = _float_outputs(case.outputs)
            cts = [Variable(v.type) for v in floats]
            gradients = vjp(floats, targets, cts, disconnected="zero")
            data = {c: s.data for c, s in zip(cts, seeds, strict=True)}  # type: ignore[attr-defined]
            pair.append(case.run(gradients, more=data))
        for k, (g, w) in enumerate(zip(*pair, strict=True)):
            _same(g, w, f"{op}: gradient {k} with symbolic sizes")
    return True


def _symbolic_ops(op: Op, dims: dict[int, Any]) -> list[Op]:
    """The op with named sizes for numbers in its fields of sizes: all of them, or all but those that count elements."""

    def renamed(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(renamed(v) for v in value)
        return dims.get(value, value) if isinstance(value, int) and not isinstance(value, bool) else value

    stated: Any = op
    fields = dataclasses.fields(stated) if dataclasses.is_dataclass(stated) else ()
    changed = {f.name: renamed(getattr(op, f.name)) for f in fields if "Shape" in str(f.type) or "Size" in str(f.type)}
    return [dataclasses.replace(stated, **changed), op] if changed else [op]


CHECKS: dict[str, Callable[[Sample], object]] = {
    "forward": check_forward,
    "vjp": check_vjp,
    "jvp": check_jvp,
    "second-order": check_second_order,
    "third-order": check_third_order,
    "series": check_series,
    "batch": check_batch,
    "text": check_text,
    "symbolic": check_symbolic,
}
"""Checks that every op passes on every sample."""


def check_op(op: Op, samples: Sequence[Sample] | None = None, checks: Sequence[str] = tuple(CHECKS)) -> None:
    """Check an op on samples, its own by default: type rule, derivatives, batching, text, symbolic sizes.

    Raises :class:`~symgraph.errors.CheckError` that names the op, the sample and what differs.
    """
    found = op.samples() if samples is None else list(samples)
    if not found:
        raise _fail(op, "has no samples")
    if not type(op).__doc__ and not op.__doc__:
        raise _fail(op, "has no docstring")
    for k, sample in enumerate(found):
        for name in checks:
            try:
                CHECKS[name](sample)
            except SymgraphError as error:
                raise CheckError(f"{op}: sample {k}: check {name!r}: {error}") from error
