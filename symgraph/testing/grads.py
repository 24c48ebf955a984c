"""Derivatives of a user's function against numeric ones, of both modes and any order, with a report of what differs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symgraph import source
from symgraph.autodiff import jvp, vjp
from symgraph.callables import flatten, unflatten
from symgraph.errors import CheckError, DTypeError, FormatError, SymgraphError
from symgraph.graph import Variable, toposort
from symgraph.op import as_variable
from symgraph.runtime.interpreter import interpret
from symgraph.testing.blame import blame
from symgraph.testing.numeric import extrapolated
from symgraph.types import is_float, tensor_type

Array = NDArray[Any]

MODES = {"fwd": "forward", "rev": "reverse"}
# By the coarsest float dtype on the way: relative and absolute tolerance, and the first step of the differences.
TOLERANCES = {"float64": (1e-6, 1e-8, 2.0**-4), "float32": (2e-3, 1e-4, 2.0**-2), "float16": (1e-1, 2e-2, 0.5)}
ELEMENTS = 256  # that are tried one by one when the one that differs most is looked for


@dataclass(frozen=True)
class Comparison:
    """The derivative of one order and mode in one input, along a random direction."""

    order: int
    mode: str
    input: str
    wanted: float
    got: float

    @property
    def relative_error(self) -> float:
        """The difference over what was wanted."""
        return relative(self.got, self.wanted)

    def __str__(self) -> str:
        return (
            f"order {self.order}  {MODES[self.mode]:7}  {self.input:12}  wanted {self.wanted:<17.10g}  "
            f"got {self.got:<17.10g}  relative error {self.relative_error:.1e}"
        )


@dataclass(frozen=True)
class Report:
    """What :func:`check_grads` compared; its text is a line for each order, mode and input."""

    order: int
    modes: tuple[str, ...]
    inputs: int
    comparisons: tuple[Comparison, ...]

    @property
    def worst(self) -> Comparison | None:
        """The comparison of the largest relative error."""
        return max(self.comparisons, key=lambda c: c.relative_error, default=None)

    def __str__(self) -> str:
        return "\n".join(map(str, self.comparisons))


def relative(got: float, wanted: float) -> float:
    """The relative error; where nothing was wanted, the absolute one."""
    return abs(got - wanted) / abs(wanted) if wanted else abs(got)


def check_grads(
    fn: Callable[..., Any],
    args: Any,
    order: int = 2,
    modes: Sequence[str] = ("fwd", "rev"),
    *,
    atol: float | None = None,
    rtol: float | None = None,
    eps: float | None = None,
    seed: int = 0,
) -> Report:
    """Compare the derivatives of a function of symbols with numeric ones at a point.

    Args:
        fn: takes variables, returns a variable or nested lists, tuples and dicts of them.
        args: a tuple or list of ``fn``'s arguments, the point: arrays, numbers, or nested lists, tuples and dicts of
            them. Float arrays are differentiated in; integers and booleans are passed on as they are.
        order: the highest order that is checked, 1 or more.
        modes: ``"fwd"``, repeated forward mode; ``"rev"``, repeated reverse mode.
        atol, rtol: what is admitted, absolute and in proportion. By default that of the coarsest float dtype between
            arguments and results: 1e-8 and 1e-6 for float64, 1e-4 and 2e-3 for float32, 2e-2 and 1e-1 for float16.
        eps: the first step of the differences, 1/16 for float64; it is halved until they have converged.
        seed: of the random directions and cotangents.

    The derivative of each order is compared with central differences, extrapolated, of the one before it, in each
    argument by itself. These are taken in float64 also where the arguments are narrower, if ``fn`` can be built so.

    Returns a :class:`Report`. Raises :class:`~symgraph.errors.CheckError`, an ``AssertionError``, where a derivative
    differs: it names the order, the mode, the input, the element that differs most, both values, and the operation if
    one alone is to blame; where the function has a kink, a jump or no finite value at the point, it says that instead.
    Raises :class:`~symgraph.errors.DTypeError` where no argument or no result is a float,
    :class:`~symgraph.errors.FormatError` for a mode or an order that does not exist.
    """
    line = source.show(source.current())
    chosen = (modes,) if isinstance(modes, str) else tuple(modes)
    if not callable(fn):
        raise DTypeError(f"check_grads: fn must be a function of variables, got {fn!r}  {line}")
    if type(order) is not int or order < 1:
        raise FormatError(f"check_grads: the order must be an integer, 1 or more, got {order!r}  {line}")
    if not chosen or any(m not in MODES for m in chosen):
        raise FormatError(f"check_grads: modes are 'fwd' and 'rev', got {modes!r}  {line}")
    for name, value in (("atol", atol), ("rtol", rtol), ("eps", eps)):
        if value is not None and not (value >= 0 if name != "eps" else value > 0):
            raise FormatError(f"check_grads: {name} must be a positive number, got {value!r}  {line}")
    checker = _Checker(fn, args, line, (atol, rtol, eps), seed)
    found = [c for mode in chosen for c in checker.run(mode, order)]
    return Report(order, chosen, len(checker.names), tuple(found))


def _named(fn: Callable[..., Any], args: Sequence[Any]) -> list[str]:
    """A name for each leaf of the arguments: ``input 0 (x)``, ``input 1 (params['w'])``."""
    try:
        names = [
            p.name
            for p in inspect.signature(fn).parameters.values()
            if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
    except (TypeError, ValueError):
        names = []
    names += [""] * (len(args) - len(names))
    paths = []
    for name, value in zip(names, args, strict=False):
        paths += [f"{name}{path}" for path in _paths(flatten(value)[1])]
    return [f"input {k} ({p})" if p else f"input {k}" for k, p in enumerate(paths)]


def _name(fn: Callable[..., Any]) -> str:
    return str(getattr(fn, "__name__", None) or getattr(fn, "name", None) or type(fn).__name__)


def _paths(structure: Any) -> Iterator[str]:
    if structure is None:
        yield ""
        return
    kind, parts = structure
    for key, part in parts if kind is dict else enumerate(parts):
        for rest in _paths(part):
            yield f"[{key!r}]{rest}"


@dataclass
class _Level:
    """Derivatives of one order, and the symbols of directions or cotangents that they contain, with values."""

    outputs: list[Variable]
    givens: dict[Variable, Array]


class _Built:
    """``fn`` as a graph over inputs of certain dtypes."""

    def __init__(self, fn: Callable[..., Any], structure: Any, leaves: Sequence[Any], wide: bool) -> None:
        self.inputs: list[Variable] = []
        self.arrays: list[Array] = []
        symbols: list[Any] = []
        for k, leaf in enumerate(leaves):
            if not isinstance(leaf, np.ndarray):
                symbols.append(leaf)
                continue
            a = leaf.astype("float64") if wide and leaf.dtype.kind == "f" else leaf
            self.inputs.append(Variable(tensor_type(a.dtype, a.shape), name=f"x{k}"))
            self.arrays.append(a)
            symbols.append(self.inputs[-1])
        found = flatten(fn(*unflatten(structure, iter(symbols))))[0]
        self.outputs = [v for v in map(as_variable, found) if is_float(v.type.dtype)]
        self.targets = [v for v in self.inputs if is_float(v.type.dtype)]

    def values(
        self, outputs: Sequence[Variable], arrays: Sequence[Array], givens: dict[Variable, Array]
    ) -> list[Array]:
        with np.errstate(all="ignore"):
            return interpret(list(outputs), {**dict(zip(self.inputs, arrays, strict=True)), **givens})


class _Checker:
    def __init__(
        self,
        fn: Callable[..., Any],
        args: Any,
        line: str,
        options: tuple[float | None, float | None, float | None],
        seed: int,
    ) -> None:
        self.what = f"check_grads({_name(fn)})"
        self.line = line
        self.rng = np.random.default_rng(seed)
        arguments = list(args) if isinstance(args, list | tuple) else [args]
        leaves, structure = flatten(tuple(arguments))
        if structure is None:
            leaves, structure = arguments, (tuple, (None,) * len(arguments))
        leaves = [_array(v) for v in leaves]
        self.names = [n for n, v in zip(_named(fn, arguments), leaves, strict=True) if isinstance(v, np.ndarray)]
        self.own = _Built(fn, structure, leaves, wide=False)
        if not self.own.targets:
            given = ", ".join(str(v.type) for v in self.own.inputs) or "none"
            raise DTypeError(f"{self.what}: no argument is a float array, so there is no derivative: {given}  {line}")
        if not self.own.outputs:
            raise DTypeError(f"{self.what}: no result is of a float dtype, so there is no derivative  {line}")
        self.wide = self.own
        if any(v.type.dtype.itemsize < 8 for v in self.own.targets):
            try:
                wide = _Built(fn, structure, leaves, wide=True)
            except SymgraphError:
                wide = self.own  # fn takes these dtypes only
            if [v.type.shape for v in wide.outputs] == [v.type.shape for v in self.own.outputs]:
                self.wide = wide
        rtol, atol, _ = TOLERANCES[_coarsest(self.own)]
        *_, eps = TOLERANCES[_coarsest(self.wide)]
        self.atol = atol if options[0] is None else options[0]
        self.rtol = rtol if options[1] is None else options[1]
        self.eps = eps if options[2] is None else options[2]
        self.floats = [k for k, v in enumerate(self.own.inputs) if is_float(v.type.dtype)]
        for k, y in enumerate(self.own.values(self.own.outputs, self.own.arrays, {})):
            if not np.all(np.isfinite(y)):
                at = _first(~np.isfinite(y))
                raise CheckError(
                    f"{self.what}: cannot be checked at this point: element {at} of result {k} is {y[tuple(at)]}  "
                    f"{line}"
                )

    # -- the chain of derivatives --------------------------------------------------------------------------------------

    def run(self, mode: str, order: int) -> Iterator[Comparison]:
        own = _Level(list(self.own.outputs), {})
        wide = own if self.wide is self.own else _Level(list(self.wide.outputs), {})
        for k in range(1, order + 1):
            seeds, deeper = self._differentiated(self.own, mode, own)
            wide_seeds, wide_deeper = (seeds, deeper) if wide is own else self._differentiated(self.wide, mode, wide)
            step = _Step(self, mode, k, own, wide, seeds, wide_seeds, deeper)
            yield from step.compare()
            own.givens.update(zip(seeds, step.along, strict=True))
            wide.givens.update((s, _like(a, s)) for s, a in zip(wide_seeds, step.along, strict=True))
            own, wide = _Level(deeper, own.givens), _Level(wide_deeper, wide.givens) if wide is not own else own
            if wide.givens is own.givens:
                wide = own

    def _differentiated(self, built: _Built, mode: str, level: _Level) -> tuple[list[Variable], list[Variable]]:
        """Symbols for cotangents or tangents, and the derivatives along them."""
        along = built.targets if mode == "fwd" else level.outputs
        seeds = [Variable(v.type) for v in along]
        if mode == "fwd":
            return seeds, jvp(level.outputs, built.targets, seeds, disconnected="zero")
        return seeds, vjp(level.outputs, built.targets, seeds, disconnected="zero")

    def random(self, v: Variable, shape: tuple[int, ...]) -> Array:
        """A direction of which no element is nearly zero."""
        return np.asarray(self.rng.uniform(0.5, 1.5, shape) * self.rng.choice([-1.0, 1.0], shape), v.type.dtype)


class _Step:
    """One mode and order: the derivative graph against differences of the one before."""

    def __init__(
        self,
        checker: _Checker,
        mode: str,
        order: int,
        own: _Level,
        wide: _Level,
        seeds: list[Variable],
        wide_seeds: list[Variable],
        deeper: list[Variable],
    ) -> None:
        self.c, self.mode, self.order = checker, mode, order
        self.own, self.wide, self.seeds, self.wide_seeds, self.deeper = own, wide, seeds, wide_seeds, deeper
        shapes = (
            [checker.own.arrays[k].shape for k in checker.floats]
            if mode == "fwd"
            else [y.shape for y in checker.own.values(own.outputs, checker.own.arrays, own.givens)]
        )
        self.along = [checker.random(v, s) for v, s in zip(seeds, shapes, strict=True)]
        if mode == "rev" and shapes == [()] and order == 1:
            self.along = [_like(np.ones(()), seeds[0])]  # of one number, the figures in a message are its derivatives

    def compare(self) -> Iterator[Comparison]:
        found = []
        for j, k in enumerate(self.c.floats):
            shape = self.c.own.arrays[k].shape
            if not self.c.own.arrays[k].size:
                continue
            direction = self.along[j] if self.mode == "fwd" else self.c.random(self.c.own.inputs[k], shape)
            wanted, got, bad = self.along_direction(j, direction)
            worst = int(np.argmax(np.where(bad, np.inf, np.abs(wanted - got)))) if wanted.size else -1
            if worst >= 0:
                comparison = Comparison(self.order, self.mode, self.c.names[k], float(wanted[worst]), float(got[worst]))
                found.append((comparison, j, direction, bool(np.any(bad))))
        failed = [f for f in found if f[3]]
        if failed:
            comparison, j, direction, _ = max(failed, key=lambda f: np.nan_to_num(f[0].relative_error, nan=np.inf))
            self.fail(comparison, j, direction)
        yield from (f[0] for f in found)

    # -- one direction -------------------------------------------------------------------------------------------------

    def got(self, j: int, direction: Array) -> Array:
        """The symbolic derivative in the ``j``-th float input along a direction: of each output, or as one number."""
        if self.mode == "rev":
            givens = {**self.own.givens, **dict(zip(self.seeds, self.along, strict=True))}
            (g,) = self.c.own.values([self.deeper[j]], self.c.own.arrays, givens)
            with np.errstate(all="ignore"):
                # An element that does not move does not count, be it nan.
                return np.array([np.sum(np.asarray(g, "float64") * direction, where=direction != 0)])
        tangents = [
            _like(direction, s) if i == j else np.zeros(self.along[i].shape, s.type.dtype)
            for i, s in enumerate(self.seeds)
        ]
        givens = {**self.own.givens, **dict(zip(self.seeds, tangents, strict=True))}
        return _flat(self.c.own.values(self.deeper, self.c.own.arrays, givens))

    def function(self, j: int, direction: Array) -> Callable[[float], list[Array]]:
        """What the derivative is of, along a direction; in reverse mode its product with the cotangents."""
        k = self.c.floats[j]
        arrays, step = self.c.wide.arrays, np.asarray(direction, "float64")
        cotangents = _flat(self.along)

        def f(t: float) -> list[Array]:
            moved = [
                _like(a + t * step, v) if i == k else a
                for i, (a, v) in enumerate(zip(arrays, self.c.wide.inputs, strict=True))
            ]
            y = _flat(self.c.wide.values(self.wide.outputs, moved, self.wide.givens))
            return [y] if self.mode == "fwd" else [np.array([np.dot(y, cotangents)])]

        return f

    def along_direction(self, j: int, direction: Array) -> tuple[Array, Array, Array]:
        """Numeric and symbolic derivatives, and where they differ."""
        got = self.got(j, direction)
        wanted, error, bad = np.full(got.shape, np.nan), np.full(got.shape, np.inf), np.ones(got.shape, bool)
        # Smaller steps where the first ones leave the domain, or cross a kink.
        for step in (self.c.eps, self.c.eps * 1e-4, self.c.eps * 1e-8):
            (fresh,), (size,) = extrapolated(self.function(j, direction), step)
            better = bad & ((size < error) | ~np.isfinite(wanted))
            wanted, error = np.where(better, fresh, wanted), np.where(better, size, error)
            bad = self.differs(wanted, got, error)
            if not np.any(bad):
                break
        return wanted, got, bad

    def differs(self, wanted: Array, got: Array, error: Array) -> Array:
        with np.errstate(all="ignore"):
            size = np.maximum(np.abs(wanted), np.abs(got))
            tolerance = self.c.atol + self.c.rtol * size
            # The differences' own error is admitted as long as it leaves something of the figure.
            known = error <= np.maximum(10 * self.c.atol, 1e-2 * size)
            return np.asarray(~(np.abs(wanted - got) <= tolerance + np.where(known, error, 0)) | ~known)

    # -- what differs --------------------------------------------------------------------------------------------------

    def fail(self, comparison: Comparison, j: int, direction: Array) -> None:
        element, wanted, got, where = self.locate(j, direction)
        name = comparison.input
        head = f"{self.c.what}: order {self.order}, {MODES[self.mode]} mode"
        for e in [element, *(np.ndindex(direction.shape) if direction.size <= ELEMENTS else ())]:
            why = self.kink(j, _unit(direction.shape, e))
            if why:
                raise CheckError(
                    f"{head}: cannot be checked at this point: along element {list(e)} of {name} {why}. Move the "
                    f"point, or test this derivative by itself  {self.c.line}"
                )
        output = f" of result element {where}" if self.mode == "fwd" else ""
        raise CheckError(
            f"{head}: the derivative{output} in {name} differs most at element {list(element)}: wanted "
            f"{wanted:.10g} by central differences, got {got:.10g} (relative error {relative(got, wanted):.3g})"
            f"{self.blamed()}  {self.c.line}"
        )

    def blamed(self) -> str:
        """The operation whose derivative is wrong, as words."""
        values = dict(zip(self.c.own.inputs, self.c.own.arrays, strict=True))
        names = blame(self.own.outputs, {**values, **self.own.givens}, self.c.rng)
        if names is None:
            return ""
        if not names:
            return "; each operation's derivative is right by itself at this point"
        return f"; the operation whose derivative differs from its value's: {', '.join(names)}"

    def locate(self, j: int, direction: Array) -> tuple[tuple[int, ...], float, float, int]:
        """The element of an input whose derivative differs most, both derivatives, and the element of the results."""
        candidates = np.arange(direction.size)
        while len(candidates) > ELEMENTS:  # the half that differs more
            halves = [h for h in np.array_split(candidates, 2) if len(h)]
            gaps = []
            for half in halves:
                part = np.zeros(direction.size)
                part[half] = direction.reshape(-1)[half]
                wanted, got, _ = self.along_direction(j, part.reshape(direction.shape))
                gaps.append(float(np.max(np.nan_to_num(np.abs(wanted - got), nan=np.inf))))
            candidates = halves[int(np.argmax(gaps))]
        worst: tuple[float, int, float, float, int] = (-1.0, int(candidates[0]), np.nan, np.nan, 0)
        for e in map(int, candidates):
            unit = _unit((direction.size,), (e,))
            wanted, got, _ = self.along_direction(j, unit.reshape(direction.shape))
            gap = np.nan_to_num(np.abs(wanted - got), nan=np.inf)
            at = int(np.argmax(gap))
            if gap[at] > worst[0]:
                worst = (float(gap[at]), e, float(wanted[at]), float(got[at]), at)
        _, place, expected, found, output = worst
        return tuple(int(i) for i in np.unravel_index(place, direction.shape)), expected, found, output

    def kink(self, j: int, unit: Array) -> str:
        """Words for a point where the function has no derivative along an axis; empty where it seems to have one."""
        f = self.function(j, unit)
        what = "the function" if self.order == 1 else f"the derivative of order {self.order - 1}"
        with np.errstate(all="ignore"):
            (here,) = f(0.0)
            slopes = []
            for h in (self.c.eps * 2.0**-8, self.c.eps * 2.0**-12):
                (up,), (half_up,), (down,), (half_down,) = (f(s * h) for s in (1.0, 0.5, -1.0, -0.5))
                # One-sided, extrapolated once: 2 s(h/2) - s(h).
                slopes.append(
                    (4 * (here - half_down) / h - (here - down) / h, 4 * (half_up - here) / h - (up - here) / h)
                )
            (l1, r1), (l2, r2) = slopes
            if not np.all(np.isfinite(here)):
                return f"{what} is not finite"
            if not np.all(np.isfinite([l2, r2])):
                return f"{what} has no finite value beside this point, at the edge of where it is defined"
            tiny = 1e3 * self.c.atol
            size, before = np.maximum(np.abs(l2), np.abs(r2)), np.maximum(np.abs(l1), np.abs(r1))
            if np.any((size > 3 * before) & (size > tiny)):
                return f"{what} jumps, or is infinitely steep"
            bent = (np.abs(r2 - l2) > 0.5 * np.abs(r1 - l1)) & (np.abs(r2 - l2) > np.maximum(1e-3 * size, tiny))
        if np.any(bent):
            k = int(np.argmax(bent))
            return f"{what} has a kink, of slope {l2[k]:.6g} on the left and {r2[k]:.6g} on the right"
        return ""


def _array(value: Any) -> Any:
    """Numbers and lists as arrays, of which those of Python floats are float64; other things as they are."""
    if isinstance(value, bool | str) or callable(value) or value is None:
        return value
    return np.asarray(value)


def _coarsest(built: _Built) -> str:
    floats = [v.type.dtype for n in toposort(built.outputs) for v in (*n.inputs, *n.outputs)]
    floats += [v.type.dtype for v in (*built.outputs, *built.targets)]
    return min((d for d in floats if is_float(d)), key=lambda d: d.itemsize).name


def _like(a: Array, v: Variable) -> Array:
    return np.asarray(a, v.type.dtype)


def _flat(arrays: Sequence[Array]) -> Array:
    return np.concatenate([np.asarray(a, "float64").reshape(-1) for a in arrays]) if arrays else np.zeros(0)


def _unit(shape: tuple[int, ...], at: tuple[int, ...]) -> Array:
    unit = np.zeros(shape)
    unit[at] = 1.0
    return unit


def _first(mask: Array) -> list[int]:
    return [int(i) for i in np.argwhere(mask)[0]]
