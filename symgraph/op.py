"""What an operation is, and the registry of all of them.

An op states each of its facts once: its type rule (``infer``), its meaning (``reference``, in NumPy), its derivative,
its batching rule, and its lowering. Everything else follows from these: both modes of differentiation, vectorization,
the interpreter, the kernels of every target, and the test suite, which runs over the registry.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, TypeAlias, TypeVar, dataclass_transform

import numpy as np
from numpy.typing import NDArray

from symgraph import source
from symgraph.errors import (
    DisconnectedError,
    DTypeError,
    FormatError,
    NotDifferentiableError,
    RankError,
    SymgraphError,
)
from symgraph.graph import Apply, Constant, Variable, current_interner
from symgraph.types import Dim, TensorType, as_dtype, is_float, normalize_axes, normalize_axis

if TYPE_CHECKING:
    from symgraph.ops.series import Series


class Absence:
    """Why there is no cotangent or tangent: it is zero, or there is no dependence at all. Two different answers."""

    __slots__ = ("label",)

    def __init__(self, label: str) -> None:
        self.label = label

    def __repr__(self) -> str:
        return self.label


ZERO: Final = Absence("ZERO")
"""The derivative exists and is zero everywhere it exists (``floor``, ``sign``, comparisons)."""
DISCONNECTED: Final = Absence("DISCONNECTED")
"""The result does not depend on the value of this input as a real number (indices, ``stop_gradient``)."""


class Undefined(Absence):
    """The derivative in this input does not exist: an error only where it is needed. Rules return it per input."""

    __slots__ = ("why",)

    def __init__(self, why: str) -> None:
        super().__init__("UNDEFINED")
        self.why = why


Derivative: TypeAlias = Variable | Absence
Arrays: TypeAlias = Sequence[NDArray[Any]]


@dataclasses.dataclass(frozen=True)
class Sample:
    """Inputs on which the test suite runs an op: arrays, plus the op itself for a structured op."""

    op: Op
    inputs: tuple[NDArray[Any], ...]
    differentiable: bool = True


class Op:
    """Base of all operations. Instances are immutable and compare by value."""

    name: str = ""
    n_outputs: ClassVar[int] = 1
    pure: bool = True  # two applications to the same inputs are the same value
    host: str = ""  # "numpy": the reference itself runs, as a step of its own; "numba": what `jitted` gives does
    stops: ClassVar[bool] = False  # no derivative flows through: transformations need not look behind it
    parameters: ClassVar[tuple[str, ...]] = ()  # names of the fields of a structured op
    linear: Literal["no", "jointly", "each"] = "no"
    """``jointly``: linear in all inputs together (concatenate); ``each``: in each float input for fixed others."""

    # Ops take as many operands as they have: to a type checker, `*inputs: Any, **none: Any` admits every signature.
    # -- facts that each op states ------------------------------------------------------------------------------------

    # An op takes the operands that it has: `*inputs: Any, **none: Any` admits every signature to the type checker.

    def infer(self, *inputs: Any, **none: Any) -> TensorType | tuple[TensorType, ...]:
        """Output type or types. Raises where inputs do not fit; the caller adds operand types and the user's line."""
        raise NotImplementedError(f"{self.name} has no type rule")

    def reference(self, *inputs: Any, **none: Any) -> Any:
        """The meaning of the op, in NumPy: an array, or a tuple of arrays for several outputs."""
        raise NotImplementedError(f"{self.name} has no reference")

    def transpose(self, ct: Variable, inputs: Sequence[Variable]) -> Sequence[Derivative]:
        """For a linear op: the cotangent of each input, given the cotangent ``ct`` of the output."""
        raise self.undefined("no derivative rule is stated")

    def vjp(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], cts: Sequence[Derivative]
    ) -> Sequence[Derivative]:
        """Jacobian-transpose product: the cotangent of each input, given those of the outputs (``ZERO``: unused)."""
        (ct,) = cts
        return self.transpose(ct, inputs) if isinstance(ct, Variable) else [ct] * len(inputs)

    def jvp(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], tangents: Sequence[Derivative]
    ) -> Sequence[Derivative]:
        """Jacobian product: the tangent of each output, given those of the inputs. Follows from linearity if stated."""
        if self.linear == "jointly":
            if not any(isinstance(t, Variable) for t in tangents):
                return [ZERO]
            return [
                apply(
                    self,
                    *(zeros_like(x) if isinstance(t, Absence) else t for x, t in zip(inputs, tangents, strict=True)),
                )
            ]
        if self.linear == "each":
            terms = [
                apply(self, *inputs[:i], t, *inputs[i + 1 :]) for i, t in enumerate(tangents) if isinstance(t, Variable)
            ]
            return [accumulate(terms)]
        raise self.undefined("no derivative rule is stated")

    def series(self, k: int, inputs: Sequence[Series], outputs: Sequence[Series]) -> Sequence[Derivative] | None:
        """Coefficients ``k >= 1`` of the outputs' Taylor series, from the inputs' and from lower ones of the outputs.

        Stated only where a recurrence beats what follows from the jvp; ``None``: it does not.
        """
        return None

    def batch(self, inputs: Sequence[Variable], batched: Sequence[bool]) -> Sequence[Variable]:
        """The op over a new leading axis: inputs flagged in ``batched`` have it, all outputs get it."""
        raise NotImplementedError(f"{self.name} has no batching rule")

    def lower(self, *args: Any, **none: Any) -> Any:
        """The index form: the scalar expression of the output at ``index`` (see :mod:`symgraph.index`)."""
        raise NotImplementedError(f"{self.name} has no lowering")

    # -- what follows from them ---------------------------------------------------------------------------------------

    def bprop(self, inputs: Sequence[Variable], X: int | Variable, G: TensorLike | Sequence[TensorLike]) -> Derivative:
        """The contribution to the gradient on one input: the graph of the Jacobian-transpose product. [6.5.6]

        Args:
            inputs: the variables that the op is applied to.
            X: which of them the gradient is wanted on: its position, or the variable where it appears once.
            G: the gradient on the op's output, of the output's type; a list of them for an op with several outputs.

        For ``A @ B`` that is ``G @ B.T`` on A, and ``A.T @ G`` on B. Inputs are distinct even where they are the same
        variable: ``multiply.bprop([x, x], 0, G)`` is ``x * G``, and the sum over both positions is the derivative of
        the square. The result is a variable of the input's type, or ``ZERO`` or ``DISCONNECTED``.

        Raises :class:`~symgraph.errors.RankError` for a position that does not exist,
        :class:`~symgraph.errors.DisconnectedError` for a variable that is not among the inputs,
        :class:`~symgraph.errors.FormatError` for one that is so several times, an error for a ``G`` that does not fit,
        and :class:`~symgraph.errors.NotDifferentiableError` where the derivative is undefined.
        """
        from symgraph.autodiff.arguments import checked, matching, show

        line = source.show(source.current())
        operands = [as_variable(v) for v in inputs]
        places = [X] if type(X) is int else [i for i, v in enumerate(operands) if v is X]
        if not places:
            given = show(X) if isinstance(X, Variable) else repr(X)
            raise DisconnectedError(f"{self.name}: {given} is not an operand  {line}")
        if len(places) > 1:
            raise FormatError(
                f"{self.name}: {show(operands[places[0]])} is {len(places)} of the operands; give a position  {line}"
            )
        if not -len(operands) <= places[0] < len(operands):
            raise RankError(f"{self.name}: there are {len(operands)} operands, got position {places[0]}  {line}")
        node = apply_node(self, operands)
        smooth = [v for v in node.outputs if differentiable(v)]
        cts = iter(matching(f"{self.name}: the gradient", G, smooth, G))
        found = self.vjp(operands, node.outputs, [next(cts) if differentiable(v) else ZERO for v in node.outputs])
        result = checked(node, "vjp", found, operands)[places[0]]
        if isinstance(result, Undefined):
            raise self.undefined(result.why)
        return result

    def statics(self) -> dict[str, Any]:
        """The static parameters by name, as the text of a graph has them."""
        stated: Any = self
        fields = dataclasses.fields(stated) if dataclasses.is_dataclass(stated) else ()
        return {f.name: getattr(self, f.name) for f in fields}

    def undefined(self, why: str) -> NotDifferentiableError:
        """The error for a derivative that does not exist."""
        return NotDifferentiableError(f"{self.name}: the derivative is not defined: {why}")

    def samples(self) -> list[Sample]:
        """Inputs for the test suite."""
        return []

    def __str__(self) -> str:
        if not self.parameters:
            return self.name
        return f"{self.name}{{{', '.join(f'{p}={getattr(self, p)!r}' for p in self.parameters)}}}"

    __repr__ = __str__


OPS: dict[str, Op | type[Op]] = {}
"""The registry: every op by name; an instance for elementwise ops, a class for ops with static parameters."""

USER_OPS: dict[str, Callable[..., Op]] = {}
"""Operations that users define, apart from ours: by name, what makes the op from its static parameters."""

AnyOp = TypeVar("AnyOp", bound=Op)


@dataclass_transform(frozen_default=True)
def op(cls: type[AnyOp]) -> type[AnyOp]:
    """Register a structured op: a frozen dataclass whose fields are its static parameters."""
    made = dataclasses.dataclass(frozen=True, eq=True, repr=False)(cls)
    made.name = made.__dict__.get("name") or _snake(cls.__name__)
    made.parameters = tuple(f.name for f in dataclasses.fields(made))  # type: ignore[arg-type]
    OPS[made.name] = made
    return made


def _snake(name: str) -> str:
    return "".join(("_" + c.lower()) if c.isupper() and i else c.lower() for i, c in enumerate(name))


def apply_node(op: Op, inputs: Sequence[Variable]) -> Apply:
    """The node ``op(*inputs)``: interned where an interner is active, else new. Adds operands and line to errors."""
    interner = current_interner()
    if interner is not None:
        found = interner.find(op, inputs)
        if found is not None:
            return found
    try:
        types = op.infer(*[v.type for v in inputs])
    except SymgraphError as error:
        raise located(error, inputs) from None
    node = Apply(op, tuple(inputs), types if isinstance(types, tuple) else (types,))
    if interner is not None:
        interner.add(node)
    return node


def located(error: SymgraphError, inputs: Sequence[Variable]) -> SymgraphError:
    """``error`` with the operands' names and types and the user's line at its end, once."""
    message = str(error)
    if " :: " not in message:
        operands = ", ".join(f"{v.name or f'operand {i}'}: {v.type}" for i, v in enumerate(inputs))
        line = source.show(source.current())
        message = f"{message.removesuffix(line).rstrip()} :: {operands}   {line}"
    return type(error)(message)


def axis_of(what: str, v: Variable, axis: int, new: int = 0) -> int:
    """``axis`` of ``v`` with ``new`` axes more, counted from the front.

    Raises :class:`~symgraph.errors.RankError`, with the variable and the user's line, where it does not exist.
    """
    try:
        return normalize_axis(axis, v.type.ndim + new, what)
    except RankError as error:
        raise located(error, [v]) from None


def axes_of(what: str, v: Variable, axes: int | Sequence[int] | None, new: int = 0) -> tuple[int, ...]:
    """As :func:`axis_of`, for several axes, sorted; ``None`` stands for all."""
    try:
        return normalize_axes(axes, v.type.ndim + new, what)
    except RankError as error:
        raise located(error, [v]) from None


def apply(op: Op, *inputs: Variable) -> Variable:
    """The single output of ``op`` on ``inputs``, which must be of exactly the types it takes."""
    return apply_node(op, inputs).outputs[0]


# -- operands ----------------------------------------------------------------------------------------------------------

TensorLike: TypeAlias = "Variable | Dim | np.ndarray[Any, Any] | np.generic | bool | int | float | Sequence[Any]"


def constant(value: object, dtype: Any = None, name: str | None = None) -> Constant:
    """A constant of the graph. Python numbers take NumPy's default dtypes unless ``dtype`` is given."""
    try:
        array = np.array(value, dtype=None if dtype is None else as_dtype(dtype), order="C")
    except OverflowError as error:
        raise DTypeError(f"{value!r} does not fit into {dtype}  {source.show(source.current())}") from error
    except ValueError as error:
        raise DTypeError(f"not a tensor: {value!r}: {error}  {source.show(source.current())}") from error
    array = array.astype(as_dtype(array.dtype), copy=False)
    array.flags.writeable = False
    return Constant(array, name)


def as_variable(value: object, dtype: Any = None) -> Variable:
    """``value`` as a variable of the graph; arrays and numbers become constants."""
    found = getattr(value, "variable", value)  # a Parameter, say, carries its variable
    if isinstance(found, Variable):
        return found
    if isinstance(value, Dim):
        from symgraph.ops.create import size_of

        return size_of(value)
    if isinstance(value, list | tuple) and any(isinstance(v, Variable | Dim) for v in value):
        from symgraph.ops.shape import stack

        return stack([as_variable(v) for v in value])
    return constant(value, dtype)


# -- derivatives of sums -----------------------------------------------------------------------------------------------


def zeros_like(x: Variable) -> Variable:
    """Zeros of the type of ``x``."""
    from symgraph.ops.create import full

    return full(x.type.shape, 0, x.type.dtype)


def accumulate(terms: Sequence[Derivative]) -> Derivative:
    """The sum of contributions to one cotangent or tangent: one n-ary node, which the backend adds up in one buffer."""
    for t in terms:
        if isinstance(t, Undefined):
            return t
    given = [t for t in terms if isinstance(t, Variable)]
    if not given:
        return ZERO if any(t is ZERO for t in terms) else DISCONNECTED
    if len(given) == 1:
        return given[0]
    from symgraph.ops.elementwise import Accumulate

    return apply(Accumulate(), *given)


def differentiable(v: Variable) -> bool:
    """Whether derivatives can flow through ``v``: it is of a float dtype."""
    return is_float(v.type.dtype)
