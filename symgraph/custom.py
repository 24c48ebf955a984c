"""Operations of the user's own: a NumPy or Numba function, with its type rule, derivative and batching as graphs.

A NumPy function is a *host step* of the compiled program: it is called with arrays, under the interpreter lock, between
the kernels. A function that Numba compiles (``@numba.njit``) is a native step like any other.
"""

from __future__ import annotations

import inspect
import pickle
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from symgraph import source
from symgraph.autodiff.arguments import checked
from symgraph.autodiff.custom import transposed
from symgraph.batching import vectorize
from symgraph.errors import (
    AmbiguousNameError,
    DTypeError,
    FormatError,
    NotDifferentiableError,
    RuleError,
    SymgraphError,
)
from symgraph.graph import Apply, Variable
from symgraph.op import (
    DISCONNECTED,
    OPS,
    USER_OPS,
    ZERO,
    Absence,
    Derivative,
    Op,
    TensorLike,
    apply_node,
    as_variable,
    constant,
    differentiable,
    zeros_like,
)
from symgraph.ops.batched import Batched, Jitted
from symgraph.ops.elementwise import broadcast_unbatched, cast
from symgraph.ops.shape import broadcast_operands
from symgraph.types import Dim, TensorType, atoms, dim

Batching: TypeAlias = Literal["loop", "leading"] | Callable[..., Any]
Params: TypeAlias = tuple[tuple[str, Any], ...]

_REQUIRED: Final = object()
_checking: ContextVar[bool] = ContextVar("symgraph_checking_custom_op", default=False)


@overload
def custom_op(
    fn: Callable[..., Any],
    *,
    name: str | None = ...,
    elementwise: bool = ...,
    infer: Callable[..., Any] | None = ...,
    vjp: Callable[..., Any] | None = ...,
    jvp: Callable[..., Any] | None = ...,
    batch: Batching = ...,
    pure: bool = ...,
) -> CustomOp: ...
@overload
def custom_op(
    fn: None = ...,
    *,
    name: str | None = ...,
    elementwise: bool = ...,
    infer: Callable[..., Any] | None = ...,
    vjp: Callable[..., Any] | None = ...,
    jvp: Callable[..., Any] | None = ...,
    batch: Batching = ...,
    pure: bool = ...,
) -> Callable[[Callable[..., Any]], CustomOp]: ...
def custom_op(
    fn: Callable[..., Any] | None = None,
    *,
    name: str | None = None,
    elementwise: bool = False,
    infer: Callable[..., Any] | None = None,
    vjp: Callable[..., Any] | None = None,
    jvp: Callable[..., Any] | None = None,
    batch: Batching = "loop",
    pure: bool = True,
) -> CustomOp | Callable[[Callable[..., Any]], CustomOp]:
    """An operation of your own, out of a function of arrays; also a decorator, with or without options.

    Args:
        fn: a NumPy function, ``fn(*arrays, **params)``, which returns an array, or a tuple of them. The arrays are
            copies: it may keep or change them. Or a function compiled by Numba (``@numba.njit``): ``elementwise``, it
            goes from scalars to a scalar or a tuple of them; else it is ``fn(*inputs, *outputs, **params)``, writes
            the outputs, and gets an input without axes as a scalar. Keyword-only parameters are static: numbers,
            strings, sizes, or tuples of these.
        elementwise: each element of the result follows from the elements at its place. Operands are converted to their
            common float dtype and broadcast, and batching follows.
        infer: the type rule: from the operands' :class:`~symgraph.types.TensorType` s, and the params, to the type of
            the result, or to a tuple of types. By default the result has the type of the first operand.
        vjp: ``vjp(*inputs, out, ct, **params)`` returns the cotangent of each input as a graph, ``None`` where it is
            zero; ``out`` and ``ct`` are tuples where there are several results.
        jvp: ``jvp(*inputs, out, *tangents, **params)``, with a tangent for each float input, returns the tangent of
            each result. Of the two modes the one that is not stated is the transpose of the other.
        batch: what batching does where the op is not elementwise. ``"loop"``: calls ``fn`` for each element, in one
            step; ``"leading"``: ``fn`` takes any number of leading axes, as ``numpy.linalg`` does; or a rule
            ``batch(*inputs, batched=(True, False, ...), **params)`` that returns the results as graphs.
        pure: equal inputs give equal results, so equal applications are one. Say ``False`` for what draws random
            numbers or counts calls.

    Returns a :class:`CustomOp`, which is called with variables and static parameters by keyword. Nothing is run when
    a graph is built; rules are asked once for each combination of operand types, and one that returns the wrong number,
    types or sizes raises :class:`~symgraph.errors.RuleError` on the line that applies the op. What ``fn`` raises in a
    call comes as :class:`~symgraph.errors.HostError` with the user's line, and the original exception as its cause.
    :func:`symgraph.testing.check_custom_op` checks all that an op states.
    """
    if fn is None:
        return lambda f: CustomOp(f, name, elementwise, infer, vjp, jvp, batch, pure)
    return CustomOp(fn, name, elementwise, infer, vjp, jvp, batch, pure)


class CustomOp:
    """An operation of the user's: called with variables, it gives variables. Made by :func:`symgraph.custom_op`."""

    def __init__(
        self,
        fn: Callable[..., Any],
        name: str | None,
        elementwise: bool,
        infer: Callable[..., Any] | None,
        vjp: Callable[..., Any] | None,
        jvp: Callable[..., Any] | None,
        batch: Batching,
        pure: bool,
        module: str | None = None,
        line: str | None = None,
    ) -> None:
        line = line or source.show(source.current())
        if not callable(fn):
            raise DTypeError(f"custom_op: wanted a function of arrays, got {fn!r}  {line}")
        for what, rule in (("infer", infer), ("vjp", vjp), ("jvp", jvp)):
            if rule is not None and not callable(rule):
                raise DTypeError(f"custom_op: {what} must be a function, got {rule!r}  {line}")
        if not callable(batch) and batch not in ("loop", "leading"):
            raise FormatError(f"custom_op: batch is 'loop', 'leading' or a rule, got {batch!r}  {line}")
        self.name = _checked_name(fn, name, line)
        self.fn, self.infer, self.vjp, self.jvp, self.batch = fn, infer, vjp, jvp, batch
        self.elementwise, self.pure = elementwise, pure
        self.host = "numba" if hasattr(fn, "py_func") else "numpy"
        self.python: Callable[..., Any] = getattr(fn, "py_func", fn)
        self.__doc__ = getattr(self.python, "__doc__", None)
        self.__name__ = self.name
        self.line = line
        self.module = module or _module()
        self.least, self.most, self.defaults = _signature(self.python)
        self._verified: set[Any] = set()
        self._register()

    def _register(self) -> None:
        known = USER_OPS.get(self.name)
        owner = getattr(known, "__self__", None)
        if isinstance(owner, CustomOp) and owner.module != self.module:
            raise AmbiguousNameError(
                f"custom_op: {self.name!r} is defined by the module {owner.module} {owner.line} already; give another "
                f"name=  {self.line}"
            )
        USER_OPS[self.name] = self.op

    def op(self, **params: Any) -> UserOp:
        """The :class:`~symgraph.op.Op` of these static parameters, which is what nodes of graphs hold."""
        line = source.show(source.current())
        unknown = [k for k in params if k not in self.defaults]
        if unknown:
            known = ", ".join(self.defaults) or "none"
            raise FormatError(f"{self.name}: no static parameter is called {unknown[0]!r}; there are: {known}  {line}")
        given = {k: params.get(k, default) for k, default in self.defaults.items()}
        missing = [k for k, v in given.items() if v is _REQUIRED]
        if missing:
            raise FormatError(f"{self.name}: the static parameter {missing[0]!r} is not given  {line}")
        return UserOp(self, tuple((k, _static(f"{self.name}: {k}", v, line)) for k, v in given.items()))

    def __call__(self, *operands: TensorLike, **params: Any) -> Any:
        """Apply to operands: a variable, or a tuple of them where the type rule gives a tuple."""
        op = self.op(**params)
        self._check_count(len(operands))
        ready = self.convert(operands)
        node = apply_node(op, ready)
        self._verify(node)
        return node.outputs if op.several([v.type for v in ready]) else node.outputs[0]

    def _check_count(self, given: int) -> None:
        if self.host == "numba" and not self.elementwise:
            return  # the results are among the function's parameters, and the type rule has to say how many
        if given < self.least or (self.most is not None and given > self.most):
            wanted = str(self.least) if self.least == self.most else f"{self.least} to {self.most or 'any number'}"
            raise DTypeError(f"{self.name}: wanted {wanted} operands, got {given}  {source.show(source.current())}")

    def convert(self, operands: Sequence[TensorLike]) -> list[Variable]:
        """Operands as the op takes them: elementwise, of one float dtype and one shape, else as they are.

        Python numbers take the dtype of the others."""
        if not self.elementwise:
            return [as_variable(x) for x in operands]
        weak = [type(x) in (int, float) for x in operands]
        given: list[Any] = [x if w else as_variable(x) for x, w in zip(operands, weak, strict=True)]
        dtype = np.result_type(*[x.type.dtype if isinstance(x, Variable) else x for x in given])
        dtype = dtype if dtype.kind == "f" else np.dtype("float64")
        ready = [cast(x, dtype) if isinstance(x, Variable) else constant(x, dtype) for x in given]
        return broadcast_operands(self.name, ready)

    def _verify(self, node: Apply) -> None:
        """Ask each rule once for these types, so that a wrong one is found where it is used.

        Not while a rule is asked: what it is made of may be the op itself, with other parameters, without an end.
        """
        key = (node.op, tuple(v.type for v in node.inputs))
        if key in self._verified or _checking.get():
            return
        op = node.op
        assert isinstance(op, UserOp)
        floats = [v for v in node.inputs if differentiable(v)]
        with _asking():
            if floats and any(map(differentiable, node.outputs)):
                if self.vjp is not None:
                    cts = [Variable(v.type) if differentiable(v) else ZERO for v in node.outputs]
                    _tried(node, "vjp", lambda: op.vjp(node.inputs, node.outputs, cts), node.inputs)
                if self.jvp is not None:
                    tangents = [Variable(v.type) if differentiable(v) else DISCONNECTED for v in node.inputs]
                    _tried(node, "jvp", lambda: op.jvp(node.inputs, node.outputs, tangents), node.outputs)
            if self.batch != "loop" and not self.elementwise and node.inputs:
                size = dim(f"batch of {self.name}")  # named, so that it is equal to no other size
                vectorize(list(node.outputs), {v: Variable(_with_leading(v.type, size)) for v in node.inputs})
        if len(self._verified) < 4096:
            self._verified.add(key)

    def __repr__(self) -> str:
        return f"<custom op {self.name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """By the name of a global variable that holds it, as functions are; else by its parts."""
        names = vars(sys.modules[self.module]) if self.module in sys.modules else {}
        found = next((k for k, v in names.items() if v is self), None)
        if found is not None:
            return _global, (self.module, found)
        parts = {"fn": self.fn, "infer": self.infer, "vjp": self.vjp, "jvp": self.jvp, "batch": self.batch}
        for what, part in parts.items():
            try:
                pickle.dumps(part)
            except Exception as error:
                raise FormatError(
                    f"custom op {self.name} cannot be pickled: its {what}, {part!r}, is not at the top level of a "
                    f"module, and neither is the op itself  {self.line}"
                ) from error
        options = (
            self.name,
            self.elementwise,
            self.infer,
            self.vjp,
            self.jvp,
            self.batch,
            self.pure,
            self.module,
            self.line,
        )
        return CustomOp, (self.fn, *options)

    def __deepcopy__(self, memo: object) -> CustomOp:
        return self


@dataclass(frozen=True, eq=False, repr=False)
class UserOp(Op):
    """A user's operation with its static parameters: what a node of a graph holds."""

    definition: CustomOp
    params: Params

    def __post_init__(self) -> None:
        d = self.definition
        for name, value in (("name", d.name), ("pure", d.pure), ("host", d.host), ("__doc__", d.__doc__ or d.name)):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "_key", (d, _key(self.params)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UserOp) and self._key == other._key  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash(self._key)  # type: ignore[attr-defined]

    def __reduce__(self) -> tuple[Any, ...]:
        return UserOp, (self.definition, self.params)

    def statics(self) -> dict[str, Any]:
        return dict(self.params)

    def __str__(self) -> str:
        return self.name + (f"{{{', '.join(f'{k}={v!r}' for k, v in self.params)}}}" if self.params else "")

    __repr__ = __str__

    # -- facts --------------------------------------------------------------------------------------------------------

    def infer(self, *inputs: TensorType) -> TensorType | tuple[TensorType, ...]:
        d = self.definition
        if d.infer is not None:
            found = _asked(self, "type rule", lambda: d.infer(*inputs, **self.statics()))  # type: ignore[misc]
        elif inputs:
            found = inputs[0]
        else:
            raise RuleError(f"{self}: without operands, it needs a type rule: infer=")
        items = tuple(found) if isinstance(found, list | tuple) else (found,)
        if not items or not all(isinstance(t, TensorType) for t in items):
            raise RuleError(f"{self}: its type rule returned {found!r}, wanted a TensorType or a tuple of them")
        known = {a for t in inputs for s in t.shape for a in atoms(s)}
        known.update(a for _, v in self.params for a in _parameter_atoms(v))
        for t in items:
            if any(a not in known for s in t.shape for a in atoms(s) if not a.fn):
                raise RuleError(
                    f"{self}: its type rule returned {t}, with a size that is not made of the operands': the sizes "
                    "of results are known before the function runs"
                )
            if d.elementwise and inputs and t.shape != inputs[0].shape:
                raise RuleError(
                    f"{self}: its type rule returned {t}, but an elementwise result has the operands' shape"
                )
        return tuple(items) if isinstance(found, list | tuple) else items[0]

    def several(self, inputs: Sequence[TensorType]) -> bool:
        """Whether the results are a tuple."""
        return isinstance(self.infer(*inputs), tuple)

    def reference(self, *inputs: NDArray[Any]) -> Any:
        d, params = self.definition, self.statics()
        types = [TensorType(a.dtype, a.shape) for a in inputs]
        found = self.infer(*types)
        wanted = found if isinstance(found, tuple) else (found,)
        with np.errstate(all="ignore"):
            if d.host == "numpy":
                out = d.python(*[np.array(a) for a in inputs], **params)
                results = out if isinstance(found, tuple) and isinstance(out, list | tuple) else (out,)
                results = tuple(_weak(r, t) for r, t in zip(results, wanted, strict=False)) + tuple(
                    results[len(wanted) :]
                )
            else:
                results = self._in_python(inputs, wanted)
        return tuple(results) if isinstance(found, tuple) or len(results) != 1 else results[0]

    def _in_python(self, inputs: Sequence[NDArray[Any]], wanted: Sequence[TensorType]) -> tuple[NDArray[Any], ...]:
        """What a function for Numba gives when Python runs it."""
        d, params = self.definition, self.statics()
        outputs = tuple(np.empty([int(s) for s in t.shape], t.dtype) for t in wanted)
        if not d.elementwise:
            d.python(*[a if a.ndim else a[()] for a in inputs], *outputs, **params)
            return outputs
        for at in np.ndindex(outputs[0].shape):
            found = d.python(*[a[at] for a in inputs], **params)
            for out, value in zip(outputs, found if isinstance(found, tuple) else (found,), strict=True):
                out[at] = value
        return outputs

    def jitted(self) -> Jitted:
        """The function that Numba compiles."""
        d = self.definition
        symbolic = next((k for k, v in self.params if any(True for _ in _parameter_atoms(v))), None)
        if symbolic is not None:
            raise FormatError(
                f"{self}: {symbolic} is a symbolic size, which is no static parameter of a function compiled by Numba: "
                "pass it as an operand, sg.size_of(...)"
            )
        return Jitted(d.name, d.fn, d.elementwise, self.params)

    # -- derivatives --------------------------------------------------------------------------------------------------

    def vjp(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], cts: Sequence[Derivative]
    ) -> Sequence[Derivative]:
        given = [zeros_like(v) if isinstance(ct, Absence) else ct for v, ct in zip(outputs, cts, strict=True)]
        d = self.definition
        if d.vjp is not None:
            found = self._pulled(inputs, outputs, given)
        elif d.jvp is not None:
            floats = [v for v in inputs if differentiable(v)]
            back = iter(
                transposed(
                    self.name,
                    "vjp",
                    lambda seeds: self._pushed(inputs, outputs, seeds),
                    floats,
                    given,
                    {*inputs, *outputs, *given},
                )
            )
            found = [next(back) if differentiable(v) else DISCONNECTED for v in inputs]
        else:
            raise self._no_derivative()
        pairs = zip(inputs, found, strict=True)
        return [r if differentiable(v) or isinstance(r, Variable) else DISCONNECTED for v, r in pairs]

    def jvp(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], tangents: Sequence[Derivative]
    ) -> Sequence[Derivative]:
        if not any(isinstance(t, Variable) for t in tangents):
            return [ZERO] * len(outputs)
        pairs = [(v, t) for v, t in zip(inputs, tangents, strict=True) if differentiable(v)]
        given = [zeros_like(v) if isinstance(t, Absence) else t for v, t in pairs]
        d = self.definition
        if d.jvp is not None:
            return self._pushed(inputs, outputs, given)
        if d.vjp is None:
            raise self._no_derivative()
        floats = [v for v in outputs if differentiable(v)]

        def pull(seeds: Sequence[Variable]) -> list[Derivative]:
            of = iter(seeds)
            cts = [next(of) if differentiable(v) else zeros_like(v) for v in outputs]
            found = self._pulled(inputs, outputs, cts)
            return [r for v, r in zip(inputs, found, strict=True) if differentiable(v)]

        forth = iter(transposed(self.name, "jvp", pull, floats, given, {*inputs, *outputs, *given}))
        return [next(forth) if differentiable(v) else ZERO for v in outputs]

    def _pulled(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], cts: Sequence[Variable]
    ) -> list[Derivative]:
        rule = self.definition.vjp
        assert rule is not None
        several = self.several([v.type for v in inputs])
        pair = (tuple(outputs), tuple(cts)) if several else (outputs[0], cts[0])
        found = _asked(self, "vjp", lambda: rule(*inputs, *pair, **self.statics()))
        return _results(self, "vjp", found, len(inputs))

    def _pushed(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], tangents: Sequence[Variable]
    ) -> list[Derivative]:
        rule = self.definition.jvp
        assert rule is not None
        out = tuple(outputs) if self.several([v.type for v in inputs]) else outputs[0]
        found = _asked(self, "jvp", lambda: rule(*inputs, out, *tangents, **self.statics()))
        return _results(self, "jvp", found, len(outputs))

    def _no_derivative(self) -> NotDifferentiableError:
        return self.undefined(
            f"custom_op was given neither vjp= nor jvp=, and what is inside a function of arrays is not known "
            f"{self.definition.line}"
        )

    # -- batching -----------------------------------------------------------------------------------------------------

    def batch(self, inputs: Sequence[Variable], batched: Sequence[bool]) -> Sequence[Variable]:
        d = self.definition
        if d.elementwise or d.batch == "leading":
            return apply_node(self, broadcast_unbatched(inputs, batched)).outputs
        if not callable(d.batch):
            return apply_node(Batched(self, tuple(batched)), inputs).outputs
        rule = d.batch
        found = _asked(self, "batching rule", lambda: rule(*inputs, batched=tuple(batched), **self.statics()))
        return [as_variable(v) for v in (found if isinstance(found, list | tuple) else [found])]


# -- what users' rules return ------------------------------------------------------------------------------------------


@contextmanager
def _asking() -> Iterator[None]:
    token = _checking.set(True)
    try:
        yield
    finally:
        _checking.reset(token)


def _asked(op: UserOp, what: str, call: Callable[[], Any]) -> Any:
    try:
        return call()
    except SymgraphError:
        raise
    except Exception as error:
        line = source.show(source.current())
        raise RuleError(f"{op}: its {what} failed: {type(error).__name__}: {error}  {line}") from error


def _results(op: UserOp, what: str, found: Any, wanted: int) -> list[Derivative]:
    items = list(found) if isinstance(found, list | tuple) else [found]
    if len(items) != wanted:
        raise RuleError(
            f"{op}: its {what} returned {len(items)} results, wanted {wanted}  {source.show(source.current())}"
        )
    return [ZERO if d is None else d if isinstance(d, Absence) else as_variable(d) for d in items]


def _tried(node: Apply, what: str, call: Callable[[], Sequence[Derivative]], like: Sequence[Variable]) -> None:
    with suppress(NotDifferentiableError):  # an answer that a rule may give: raised where the derivative is asked for
        checked(node, what, call(), like)


def _weak(value: Any, wanted: TensorType) -> Any:
    """Python numbers take the dtype wanted, where that loses nothing."""
    kinds = {bool: "biuf", int: "iuf", float: "f"}.get(type(value), "")
    return np.asarray(value, wanted.dtype) if wanted.dtype.kind in kinds else value


# -- static parameters and names ---------------------------------------------------------------------------------------


def _static(what: str, value: Any, line: str) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, list | tuple):
        return tuple(_static(what, v, line) for v in value)
    if value is None or isinstance(value, bool | int | float | str | Dim):
        return value
    hint = "; tensors are operands, by position" if hasattr(value, "variable") or isinstance(value, np.ndarray) else ""
    raise FormatError(
        f"{what}: a static parameter is a number, a string, a size, None or a tuple of these, got "
        f"{type(value).__name__}{hint}  {line}"
    )


def _key(value: Any) -> Any:
    """What tells static parameters apart: 1, 1.0 and True are three, and so are 0.0 and -0.0."""
    if isinstance(value, tuple):
        return tuple(map(_key, value))
    return (type(value).__name__, value.hex() if isinstance(value, float) else value)


def _parameter_atoms(value: Any) -> Iterator[Any]:
    if isinstance(value, tuple):
        for v in value:
            yield from _parameter_atoms(v)
    elif isinstance(value, Dim):
        yield from atoms(value)


def _with_leading(type: TensorType, size: Any) -> TensorType:
    return TensorType(type.dtype, (size, *type.shape))


def _checked_name(fn: Callable[..., Any], name: str | None, line: str) -> str:
    found = getattr(fn, "__name__", "") if name is None else name
    if not isinstance(found, str) or not all(part.isidentifier() for part in found.split(".")):
        raise FormatError(f"custom_op: {found!r} is no name for an operation: give name=, an identifier  {line}")
    if found in OPS:
        raise AmbiguousNameError(f"custom_op: {found!r} is the name of an operation of symgraph: give name=  {line}")
    return found


def _signature(fn: Callable[..., Any]) -> tuple[int, int | None, dict[str, Any]]:
    """The least and the largest number of operands, and the static parameters with their defaults."""
    if isinstance(fn, np.ufunc):
        return fn.nin, fn.nin, {}
    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):  # a function of C without a signature
        return 0, None, {}
    operands = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    static = {p.name: _REQUIRED if p.default is p.empty else p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    return sum(p.default is p.empty for p in operands), None if variadic else len(operands), static


def _module() -> str:
    """The module of the user's that defines the op."""
    frame = sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).partition(".")[0] == "symgraph":
        frame = frame.f_back
    return str(frame.f_globals.get("__name__", "__main__"))


def _global(module: str, name: str) -> Any:
    from importlib import import_module

    return getattr(import_module(module), name)


__all__ = ["CustomOp", "UserOp", "custom_op"]
