"""Functions: a graph compiled for a target, called with arrays."""

from __future__ import annotations

import os
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from symgraph import source
from symgraph.errors import (
    AmbiguousNameError,
    CheckError,
    DTypeError,
    FormatError,
    MissingInputError,
    UnknownInputError,
    UpdateError,
)
from symgraph.graph import Apply, Constant, Graph, SharedVariable, Variable, leaves
from symgraph.op import TensorLike, as_variable
from symgraph.ops.elementwise import StopGradient
from symgraph.passes.decompose import legalize
from symgraph.pipeline import Trace, run_pipeline
from symgraph.runtime.blas import require_blas
from symgraph.runtime.checks import agree, describe_difference, size_checks
from symgraph.runtime.device import executable, require
from symgraph.runtime.interpreter import interpret
from symgraph.runtime.interrupts import set_all
from symgraph.runtime.program import Program, build
from symgraph.runtime.progress import compiling
from symgraph.runtime.sizes import as_array, label
from symgraph.runtime.trace import NonFinite, computed_floats
from symgraph.substitute import substitute
from symgraph.types import unify

if TYPE_CHECKING:
    from symgraph.runtime.cost import Cost
    from symgraph.runtime.profile import Profile
    from symgraph.runtime.summary import Summary
    from symgraph.runtime.trace import Values

TARGETS = ("cpu", "cuda", "numpy")
CHECKS: tuple[bool | str, ...] = (False, True, "nan")


def function(
    inputs: Sequence[Variable],
    outputs: Variable | Sequence[Variable] | None = None,
    updates: Mapping[SharedVariable, TensorLike] | Sequence[tuple[SharedVariable, TensorLike]] | None = None,
    givens: Mapping[Variable, TensorLike] | None = None,
    *,
    name: str | None = None,
    target: str = "cpu",
    check: bool | str = False,
    stop_after: str | None = None,
    threads: int | None = None,
    fast_math: bool = False,
    levels: Sequence[str] | None = None,
    stream: Any = None,
    device_outputs: bool | None = None,
    graphs: bool = True,
    atomics: bool = False,
    blas: str = "auto",
) -> Function:
    """Compile a graph into a function of arrays.

    Args:
        inputs: variables that a call gives values to, in order; any variables of the graph, not only its leaves.
        outputs: what a call returns: an array for a variable, a list of arrays for a sequence, ``None`` for ``None``.
        updates: new values of shared variables, computed from the old ones and stored when a call has succeeded.
        givens: variables to be replaced by others before anything is compiled.
        target: ``"cpu"``: kernels compiled by Numba; ``"cuda"``: the same graph on an NVIDIA GPU, by Numba-CUDA;
            ``"numpy"``: the reference interpreter, op by op.
        check: validate the graph after each pass, and at each call compare with the interpreter: a difference raises
            :class:`~symgraph.errors.CheckError`, which names the first variable that differs and the user's line.
            ``"nan"``: look at every value that a call computes: the first nan, or infinity made of finite values,
            raises :class:`~symgraph.errors.NonFiniteError`, which names the variable, the operation, the state of its
            operands and the user's line. Both store what would otherwise be fused: they are for finding faults.
        stop_after: the last graph pass to run (see :data:`symgraph.pipeline.GRAPH_PASSES`).
        threads: how many threads a call may use; all cores by default.
        fast_math: allow rewrites that are equal over the reals but not bit for bit.
        levels: the named levels of rewrite rules that are on (see :data:`symgraph.pipeline.LEVELS`).
        stream: for target ``"cuda"``: the CUDA stream that calls work on, of CuPy, PyTorch, Numba, cuda.core, or its
            handle; by default the default stream. ``fn.on(stream)(...)`` is one call on another.
        device_outputs: for target ``"cuda"``: whether results stay on the device, as
            :class:`~symgraph.runtime.arrays.DeviceArray`; by default if an argument is there.
        graphs: for target ``"cuda"``: whether calls are captured as CUDA graphs, which are replayed.
        atomics: for target ``"cuda"``: sums that are cut into parts add them atomically where that saves a launch. The
            order of additions is then not fixed: sums of floats differ within rounding from call to call. By default
            parts are combined in fixed order.
        blas: for target ``"cuda"``: who computes products of matrices: ``"tiles"``, symgraph's own kernels;
            ``"cublas"``, all of them in float32 and float64; ``"auto"``, those that arithmetic bounds, where
            nvmath-python and cuBLAS are installed.

    No call compiles anything: a function takes arrays of any size and memory layout that its types allow.
    Results are deterministic for a fixed number of threads, and on a GPU, but for one thing: scatters that add floats
    (:func:`symgraph.add_at`, gradients of indexing) do it atomically there, in no fixed order, whatever ``atomics`` is.
    Functions are thread-safe and can be pickled.

    Raises:
        MissingInputError: the outputs need an input that is not given.
        MissingDeviceError: there is no GPU for target ``"cuda"``, or no cuBLAS for ``blas="cublas"``; the message says
            what is missing and what to install.
        UpdateError: an update of something that is not shared, or of another type.
    """
    with compiling(name or "function"):
        return Function(
            inputs, outputs, updates, givens, name=name, target=target, check=check, stop_after=stop_after,
            threads=threads, fast_math=fast_math, levels=levels, stream=stream, device_outputs=device_outputs,
            graphs=graphs, atomics=atomics, blas=blas,
        )  # fmt: skip


class Function:
    """A compiled function. Made by :func:`symgraph.function`; call it with arrays.

    Attributes:
        inputs: the variables that a call gives values to.
        outputs: what a call computes.
        shared: the shared variables that a call reads.
        updates: the new value of each shared variable that a call changes.
        graph: as written.
        optimized: the graph after all passes.
        passes: what each pass did, see :data:`symgraph.pipeline.GRAPH_PASSES`.
        seconds: how long each stage took, by its name.
        compiled: how many kernels the cache did not have; ``None`` on targets that have no such cache.
        target: ``"cpu"``, ``"cuda"`` or ``"numpy"``.
    """

    def __init__(
        self,
        inputs: Sequence[Variable],
        outputs: Variable | Sequence[Variable] | None,
        updates: Any = None,
        givens: Mapping[Variable, TensorLike] | None = None,
        *,
        name: str | None = None,
        target: str = "cpu",
        check: bool | str = False,
        stop_after: str | None = None,
        threads: int | None = None,
        fast_math: bool = False,
        levels: Sequence[str] | None = None,
        stream: Any = None,
        device_outputs: bool | None = None,
        graphs: bool = True,
        atomics: bool = False,
        blas: str = "auto",
    ) -> None:
        start = time.perf_counter()
        if target not in TARGETS:
            raise FormatError(f"target: {target!r} is not among {', '.join(TARGETS)}")
        unusual = {
            "graphs": None if graphs else graphs,
            "atomics": atomics or None,
            "blas": None if blas == "auto" else blas,
        }
        require(target, stream=stream, device_outputs=device_outputs, **unusual)
        require_blas(blas)
        if threads is not None and threads < 1:
            raise FormatError(f"threads: wanted at least 1, got {threads}")
        if check not in CHECKS:
            raise FormatError(f"check: {check!r} is not among {', '.join(map(repr, CHECKS))}")
        self.name = name
        self.target = target
        self._options: dict[str, Any] = {
            "name": name, "target": target, "check": check, "stop_after": stop_after, "threads": threads,
            "fast_math": fast_math, "levels": levels, "stream": stream, "device_outputs": device_outputs,
            "graphs": graphs, "atomics": atomics, "blas": blas,
        }  # fmt: skip
        self._form: str = "none" if outputs is None else "one" if isinstance(outputs, Variable) else "list"
        outputs = getattr(outputs, "variable", outputs)
        if not (outputs is None or isinstance(outputs, Variable | list | tuple)):
            raise FormatError(
                f"function: outputs must be a variable, a list of variables or None, got {type(outputs).__name__}  "
                f"{source.show(source.current())}"
            )
        wanted = [] if outputs is None else [outputs] if isinstance(outputs, Variable) else list(outputs)
        wanted = [as_variable(v) for v in wanted]
        self.inputs = _checked_inputs(inputs)
        pairs = _checked_updates(updates)
        if givens:
            replaced = substitute([*wanted, *pairs.values()], givens)
            wanted, pairs = replaced[: len(wanted)], dict(zip(pairs, replaced[len(wanted) :], strict=True))
        self.outputs = tuple(wanted)
        self.updates = pairs
        self.shared = _needed([*wanted, *pairs.values()], self.inputs)
        self.graph = Graph([*self.inputs, *self.shared], [*wanted, *pairs.values()])
        self._names: dict[str, list[int]] = {}
        for k, v in enumerate(self.inputs):
            if v.name:
                self._names.setdefault(v.name, []).append(k)
        self.seconds = {"build": time.perf_counter() - start}
        self._check = check is True
        self._watch = check == "nan"
        self._entry: Any = None
        self._cost: Cost | None = None
        self._inside: Function | None = None
        self.compiled: int | None = None  # kernels that the cache did not have
        self._state: tuple[SharedVariable, ...] = tuple(dict.fromkeys((*self.shared, *pairs)))
        if target == "numpy":
            self.optimized, self.passes = self.graph, Trace()
            self._program: Program | None = None
            return
        start = time.perf_counter()
        self.optimized, self.passes = run_pipeline(
            self.graph, stop_after=stop_after, check=check is True, levels=levels, fast_math=fast_math
        )
        final = legalize(self.optimized)
        inside = [v for v in computed_floats(final) if v not in set(final.outputs)] if self._watch else []
        final = _own_outputs(Graph(final.inputs, [*final.outputs, *inside]))
        self.seconds["optimize"] = time.perf_counter() - start
        start = time.perf_counter()
        count = len(wanted)
        destinations = {v: k for k, v in enumerate(final.outputs[count : count + len(pairs)])}
        self._program = build(
            final, final.outputs, destinations, size_checks(self.graph), threads or os.cpu_count() or 1, target,
            atomics, blas,
        )  # fmt: skip
        self.seconds["fuse and lower"] = time.perf_counter() - start
        start = time.perf_counter()
        plain = not self._state and not check and self._form != "none"
        from symgraph.runtime.cache import kernel_cache

        cache = kernel_cache()
        before = cache.compiled
        self._executable = executable(
            self._program, self._prepare, plain and self._form == "one",
            stream=stream, device_outputs=False if check else device_outputs, graphs=graphs,
        )  # fmt: skip
        self.seconds["compile"] = time.perf_counter() - start
        self.compiled = cache.compiled - before if target == "cpu" else None
        if plain:
            self._entry = self._executable.entry

    # -- calling ------------------------------------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run on arrays, in the order of ``inputs`` or by their names."""
        if self._entry is not None and not kwargs:
            return self._entry(*args)
        return self._call(self._bound(args, kwargs))

    def _bound(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
        if kwargs:
            values: list[Any] = [*args, *[_MISSING] * (len(self.inputs) - len(args))]
            for key, value in kwargs.items():
                places = self._names.get(key, [])
                if not places:
                    raise UnknownInputError(f"{self._label}: no input is called {key!r}; inputs are {self._signature}")
                if len(places) > 1:
                    raise AmbiguousNameError(
                        f"{self._label}: {len(places)} inputs are called {key!r}; give them by position"
                    )
                if places[0] < len(args):
                    raise UnknownInputError(f"{self._label}: input {key!r} is given twice")
                values[places[0]] = value
            args = tuple(values)
        if len(args) > len(self.inputs):
            raise UnknownInputError(
                f"{self._label}: wanted {len(self.inputs)} inputs, got {len(args)}: {self._signature}"
            )
        missing = [k for k in range(len(self.inputs)) if k >= len(args) or args[k] is _MISSING]
        if missing:
            names = ", ".join(label(self.inputs[k], k) for k in missing)
            raise MissingInputError(f"{self._label}: no value for {names}; inputs are {self._signature}")
        return args

    def on(self, stream: Any) -> Callable[..., Any]:
        """This function with its work on another CUDA stream: ``fn.on(stream)(x)``. For target ``"cuda"``."""
        from symgraph.runtime.arrays import handle

        require(self.target, stream=stream)
        on = handle(stream)

        def call(*args: Any, **kwargs: Any) -> Any:
            return self._call(self._bound(args, kwargs), lambda *given: self._executable.on(on, given))

        return call

    def _call(self, args: tuple[Any, ...], entry: Any = None) -> Any:
        if self.target == "numpy":
            arrays = self._prepare_inputs(args)
            with self._locked():
                given = dict(zip(self.inputs, arrays, strict=True))
                state: dict[Variable, Any] = {s: np.asarray(s._value) for s in self.shared}
                look = NonFinite(self._label, {**given, **state}) if self._watch else None
                values = interpret(self.graph, given, look)
                for s in self.updates:
                    s.spare = None
                set_all(self.updates, "_value", values[len(self.outputs) :])
            return self._returned(values[: len(self.outputs)])
        entry = entry or self._executable.entry
        if self._entry is not None:
            return entry(*args)
        if not self.updates:
            expected = self._expected(args) if self._check else None
            out = entry(*args, *self._values())
            if expected is not None:
                self._compare(args, out, expected)
            if self._watch:
                self._look(args, out, ())
            return self._returned(out)
        with self._locked():
            expected = self._expected(args) if self._check else None
            spares = [self._spare(s) for s in self.updates]
            out = entry(*args, *self._values(), *spares)
            if expected is not None:
                self._compare(args, [*out, *map(np.asarray, spares)], expected)
            if self._watch:
                self._look(args, out, [*map(np.asarray, spares)])
            # Only now, when all has succeeded, do the new values become the state.
            old = [s._value for s in self.updates]
            set_all(self.updates, "_value", spares)
            for s, value in zip(self.updates, old, strict=True):
                s.spare = value
        return self._returned(out)

    def _values(self) -> list[Any]:
        """The values of the shared variables where the target computes."""
        return [self._executable.resident(s) if self.target == "cuda" else s._value for s in self.shared]

    def _spare(self, s: SharedVariable) -> Any:
        return self._executable.spare(s, _kept(s)) if self.target == "cuda" else _spare(s)

    def _locked(self) -> ExitStack:
        stack = ExitStack()
        for s in sorted(self._state, key=lambda s: s.serial):
            stack.enter_context(s.lock)
        return stack

    def _returned(self, values: Sequence[Any]) -> Any:
        return None if self._form == "none" else values[0] if self._form == "one" else list(values[: len(self.outputs)])

    def _prepare_inputs(self, args: tuple[Any, ...]) -> list[NDArray[Any]]:
        args = self._bound(args, {})
        return [as_array(v, a, label(v, k)) for k, (v, a) in enumerate(zip(self.inputs, args, strict=True))]

    def _prepare(self, args: tuple[Any, ...]) -> list[NDArray[Any]]:
        """Arguments as kernels take them: of the inputs' dtypes, C-contiguous, aligned. Copies only where needed."""
        extra = len(self.shared) + len(self.updates)
        given = args[: len(args) - extra] if extra else args
        arrays = self._prepare_inputs(given)
        ready = [np.require(a, requirements=["C", "A"]) for a in arrays]
        state = list(args[len(args) - extra :] if extra else ())
        for k, s in enumerate(self.shared):
            if type(state[k]) is not np.ndarray:  # a function on a device has it
                state[k] = s.to_host()
        return [np.asarray(a, dtype=a.dtype.newbyteorder("=")) for a in ready] + state

    @property
    def _label(self) -> str:
        return self.name or "function"

    @property
    def _signature(self) -> str:
        return ", ".join(f"{label(v, k)}: {v.type}" for k, v in enumerate(self.inputs)) or "none"

    # -- checked mode -------------------------------------------------------------------------------------------------

    def _expected(self, args: tuple[Any, ...]) -> list[NDArray[Any]]:
        arrays = self._prepare_inputs(args)
        return interpret(self.graph, dict(zip(self.inputs, arrays, strict=True)))

    def _compare(self, args: tuple[Any, ...], got: Sequence[NDArray[Any]], expected: Sequence[NDArray[Any]]) -> None:
        if all(agree(a, b) for a, b in zip(got, expected, strict=True)):
            return
        wrong = next(k for k, (a, b) in enumerate(zip(got, expected, strict=True)) if not agree(a, b))
        arrays = dict(zip(self.inputs, self._prepare_inputs(args), strict=True))
        everything = self._everything()
        inside, compiled = everything.outputs, everything(*arrays.values())
        reference = interpret(Graph([*self.inputs, *self.shared], inside), arrays)
        found = next((k for k, (a, b) in enumerate(zip(compiled, reference, strict=True)) if not agree(a, b)), None)
        v, a, b = (
            (self.graph.outputs[wrong], got[wrong], expected[wrong])
            if found is None
            else (inside[found], compiled[found], reference[found])
        )
        how = "" if found is not None else ", in fused form only"
        raise CheckError(
            f"{v.owner.op.name if v.owner else 'input'} {v.name or ''}: {v.type}: compiled and reference values "
            f"differ{how}: {describe_difference(a, b)}  {source.show(v.sources)}"
        )

    def _look(self, args: tuple[Any, ...], out: Sequence[NDArray[Any]], spares: Sequence[NDArray[Any]]) -> None:
        graph, into = self.program.graph, self.program.destinations
        arrays = [*self._prepare_inputs(args), *[np.asarray(s._value) for s in self.shared]]
        look = NonFinite(self._label, dict(zip(graph.inputs, arrays, strict=True)))
        values = dict(zip([*(v for v in graph.outputs if v not in into), *into], [*out, *spares], strict=True))
        for v in computed_floats(graph):
            look(v, values[v])

    # -- looking inside -----------------------------------------------------------------------------------------------

    def _everything(self) -> Function:
        """A function of all variables that are computed, with the options of this one and without updates and checks.

        Compiled on first use and kept.
        """
        if self._inside is None:
            given = set(self.inputs)
            inside = [v for node in self.graph.nodes for v in node.outputs if v not in given]
            host = False if self.target == "cuda" else None  # what is looked at is looked at here
            self._inside = Function(self.inputs, inside, **{**self._options, "check": False, "device_outputs": host})
        return self._inside

    def trace(self, *args: Any, **kwargs: Any) -> Values:
        """Every value inside a call with these arguments: minimum, maximum, mean, how many are nan or infinite.

        The result is a table that is iterated, or indexed by a variable or its name; each row also has the array, as
        ``value``. Updates are computed and not made. See :mod:`symgraph.runtime.trace` for what the values are on the
        target ``cpu``, where the first use compiles.
        """
        from symgraph.runtime.trace import trace

        return trace(self, args, kwargs)

    def profile(self, *args: Any, seconds: float = 0.5, **kwargs: Any) -> Profile:
        """The time of each step of a call with these arguments: a table, and in a notebook a bar plot beside it.

        For every kernel and library call: shortest and median time, GB/s, GFLOP/s, the share of what this machine was
        measured to be able to do, operations and lines. Repeats for some ``seconds``. No update is made, so it can
        stand in a training loop. On a GPU times are those of the device's clock.

        Raises :class:`~symgraph.errors.FormatError` for a target that has no program.
        """
        from symgraph.runtime.profile import profile

        return profile(self, args, kwargs, seconds)

    def summary(self) -> Summary:
        """Inputs and outputs, kernels, memory, seconds by stage, and what the cache had: a table of a few lines."""
        from symgraph.runtime.summary import Summary

        return Summary(self)

    def _repr_html_(self) -> str:
        from symgraph.viz.notebook import mimebundle

        return mimebundle(self)["text/html"]

    @property
    def program(self) -> Program:
        """The steps, buffers and offsets; print it."""
        if self._program is None:
            raise FormatError(f"{self._label}: target {self.target!r} has no program")
        return self._program

    @property
    def kernels(self) -> dict[str, str]:
        """The source of each distinct kernel, by its name."""
        return self.program.kernels

    @property
    def cost(self) -> Cost:
        """Operations, bytes and kernels, per step, per node, and in total; print it. Symbolic where sizes are.

        ``fn.cost.at(batch=32)`` or ``fn.cost.at(x, y)`` gives the numbers. For the reference interpreter, which fuses
        nothing, it is the cost of the graph as written.
        """
        if self._cost is None:
            from symgraph.runtime.cost import graph_cost, program_cost

            self._cost = graph_cost(self.graph) if self._program is None else program_cost(self._program)
        return self._cost

    def source(self) -> str:
        """The generated kernels, as Python source."""
        return "\n".join(self.kernels.values())

    def free(self) -> None:
        """Give back the memory that is kept for the next call."""
        if self._program is not None:
            self._executable.free()
        for s in self._state:
            s.spare = None

    def __repr__(self) -> str:
        return f"<{self._label}({self._signature}) on {self.target}>"

    def __reduce__(self) -> tuple[Any, ...]:
        from symgraph.serialize import dump

        leaves_ = [*self.inputs, *self.updates]
        state = dump(leaves_, [*self.outputs, *self.updates.values()])
        options = {**self._options, "stream": None}  # a stream belongs to its process
        return _restore, (state, len(self.inputs), len(self.outputs), self._form, options)


_MISSING: Any = object()


def _restore(state: Any, n_inputs: int, n_outputs: int, form: str, options: dict[str, Any]) -> Function:
    from symgraph.serialize import load

    inputs, values = load(state)
    outputs = values[:n_outputs]
    updates = dict(zip(inputs[n_inputs:], values[n_outputs:], strict=True))
    wanted = None if form == "none" else outputs[0] if form == "one" else outputs
    return Function(inputs[:n_inputs], wanted, updates or None, **options)


def _references() -> int:
    """What ``sys.getrefcount`` says of an array that one local variable holds: releases of Python differ."""
    array = np.empty(0)
    return sys.getrefcount(array)


_ALONE = _references()


def _spare(s: SharedVariable) -> NDArray[Any]:
    """A buffer for the new value of ``s``: the one before last, unless a call in another thread still reads it."""
    spare, s.spare = s.spare, None
    if type(spare) is not np.ndarray or sys.getrefcount(spare) > _ALONE:
        spare = np.empty(s._value.shape, s._value.dtype)
    return spare


def _kept(s: SharedVariable) -> Any:
    """The buffer of the value of ``s`` before last, or ``None`` where a call in another thread still reads it."""
    spare, s.spare = s.spare, None
    return None if spare is None or sys.getrefcount(spare) > _ALONE else spare


def _checked_inputs(inputs: Sequence[Variable]) -> tuple[Variable, ...]:
    if not isinstance(inputs, list | tuple):
        raise UnknownInputError(f"function: inputs must be a list of variables, got {type(inputs).__name__}")
    found: list[Variable] = []
    for k, v in enumerate(inputs):
        v = getattr(v, "variable", v)
        if not isinstance(v, Variable) or isinstance(v, Constant):
            raise UnknownInputError(f"function: input {k} is {v!r}, not a variable  {source.show(source.current())}")
        if any(v is u for u in found):
            raise UnknownInputError(f"function: input {k}, {v!r}, is given twice  {source.show(source.current())}")
        found.append(v)
    return tuple(found)


def _checked_updates(updates: Any) -> dict[SharedVariable, Variable]:
    pairs: dict[SharedVariable, Variable] = {}
    if not isinstance(updates, Mapping):
        for pair in updates or ():
            if not isinstance(pair, list | tuple) or len(pair) != 2:
                raise UpdateError(
                    f"updates: wanted pairs of a shared variable and its new value, got {pair!r}  "
                    f"{source.show(source.current())}"
                )
    for target, value in updates.items() if isinstance(updates, Mapping) else updates or ():
        target = getattr(target, "variable", target)
        where = source.show(source.current())
        if not isinstance(target, SharedVariable):
            raise UpdateError(f"updates: {target!r} is not a shared variable  {where}")
        if target in pairs:
            raise UpdateError(f"updates: {target!r} is updated twice  {where}")
        try:
            new = as_variable(value)
        except DTypeError as error:
            raise UpdateError(f"updates: {target.name or 'shared variable'}: wanted {target.type}: {error}") from None
        fits = new.type.ndim == target.type.ndim and all(
            unify(a, b) is not None for a, b in zip(new.type.shape, target.type.shape, strict=True)
        )
        if new.type.dtype != target.type.dtype or not fits:
            raise UpdateError(
                f"updates: {target.name or 'shared variable'}: wanted {target.type}, got {new.type}  {where}"
            )
        if new.type != target.type:
            from symgraph.ops.shape import assert_shape

            new = assert_shape(new, target.type.shape)
        pairs[target] = new
    return pairs


def _needed(outputs: Sequence[Variable], inputs: Sequence[Variable]) -> tuple[SharedVariable, ...]:
    """The shared variables that ``outputs`` depend on; raises for anything else that has no value."""
    shared: list[SharedVariable] = []
    given = set(inputs)
    for v in leaves(outputs, inputs):
        if v in given or isinstance(v, Constant):
            continue
        if isinstance(v, SharedVariable):
            shared.append(v)
            continue
        raise MissingInputError(
            f"the outputs need {v.name or 'a variable'}: {v.type}, which is not among the inputs  "
            f"{source.show(v.sources)}"
        )
    return tuple(shared)


def _own_outputs(graph: Graph) -> Graph:
    """The graph with outputs that are computed, each by itself: an input, a constant or a second use is copied."""
    seen: set[Variable] = set(graph.inputs)
    outputs = []
    for v in graph.outputs:
        if v.owner is None or v in seen:
            (v,) = Apply(StopGradient(), (v,), [v.type], v.sources).outputs
        seen.add(v)
        outputs.append(v)
    return Graph(graph.inputs, outputs)


_evaluated: OrderedDict[tuple[Any, ...], Function] = OrderedDict()


def evaluate(outputs: Variable | Sequence[Variable], givens: Mapping[Any, Any], **options: Any) -> Any:
    """Values of variables from values for any set of others; see :meth:`Variable.eval`."""
    wanted = [outputs] if isinstance(outputs, Variable) else list(outputs)
    by_name: dict[str, list[Variable]] = {}
    if any(isinstance(k, str) for k in givens):
        for v in leaves(wanted):
            if v.name and not isinstance(v, Constant):
                by_name.setdefault(v.name, []).append(v)
    inputs: list[Variable] = []
    for key in givens:
        if isinstance(key, str):
            found = by_name.get(key, [])
            if not found:
                raise UnknownInputError(
                    f"eval: no input is called {key!r}; there are {sorted(by_name) or 'none with a name'}"
                )
            if len(found) > 1:
                raise AmbiguousNameError(f"eval: {len(found)} inputs are called {key!r}; give the variable itself")
            inputs.append(found[0])
        else:
            inputs.append(key)
    cache_key = (tuple(wanted), tuple(inputs), tuple(sorted((k, repr(v)) for k, v in options.items())))
    fn = _evaluated.get(cache_key)
    if fn is None:
        fn = Function(inputs, outputs, **options)
        _evaluated[cache_key] = fn
        while len(_evaluated) > 32:
            _evaluated.popitem(last=False)
    else:
        _evaluated.move_to_end(cache_key)
    return fn(*givens.values())
