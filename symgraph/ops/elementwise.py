"""Elementwise operations: one row each.

A row names the function, its meaning in NumPy, and its partial derivatives; the type rule is NumPy's own, and the jvp,
the vjp, the batching rule and the lowering follow. Operands are cast and broadcast explicitly before the op is applied,
so inside the graph all operands of an elementwise op have the same shape.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from symgraph import index as ix
from symgraph.errors import DTypeError
from symgraph.graph import Constant, Variable
from symgraph.op import (
    DISCONNECTED,
    OPS,
    ZERO,
    Absence,
    Derivative,
    Op,
    Sample,
    TensorLike,
    accumulate,
    apply,
    as_variable,
    constant,
    differentiable,
    located,
    op,
)
from symgraph.ops import series as recurrences
from symgraph.ops.series import Series, SeriesRule
from symgraph.ops.shape import broadcast_operands, broadcast_to
from symgraph.types import TensorType, as_dtype, is_float

Partial: TypeAlias = Variable | Absence | int | float
"""A partial derivative: a variable, a number, or an absence.

A boolean variable is a mask: the cotangent passes where it holds, and what it stops cannot leak a nan."""

Resolver: TypeAlias = Callable[[tuple[Any, ...]], tuple[np.dtype[Any], ...]]


class Elementwise(Op):
    """``out[i] = f(x[i], y[i], ...)``: operands of equal shapes."""

    def __init__(
        self,
        name: str,
        reference: Callable[..., Any],
        partials: Callable[..., Sequence[Partial]],
        resolve: Resolver,
        arity: int,
        doc: str,
        domain: Sequence[tuple[float, float]],
        flops: int,
        jointly_linear: bool,
        compose: Callable[..., ix.Expr] | None,
        recurrence: SeriesRule | None,
    ) -> None:
        self.name = name
        self.function = reference
        self.partials = partials
        self.resolve = resolve
        self.arity = arity
        self.__doc__ = doc
        self.domain = domain
        self.flops = flops
        self.compose = compose
        self.recurrence = recurrence
        if jointly_linear:
            self.linear = "jointly"

    def __reduce__(self) -> str | tuple[Any, ...]:
        return _registered, (self.name,)

    def infer(self, *inputs: TensorType) -> TensorType:
        if len(inputs) != self.arity:
            raise DTypeError(f"{self.name} takes {self.arity} operands, got {len(inputs)}")
        *wanted, out = self.resolve(tuple(t.dtype for t in inputs))
        for t, dtype in zip(inputs, wanted, strict=True):
            if t.dtype != dtype or t.shape != inputs[0].shape:
                raise DTypeError(f"{self.name}: operands are not of one shape and of dtypes {wanted}")
        return TensorType(out, inputs[0].shape)

    def reference(self, *inputs: NDArray[Any]) -> Any:
        with np.errstate(all="ignore"):
            return self.function(*inputs)

    def _partials(self, inputs: Sequence[Variable], outputs: Sequence[Variable]) -> Sequence[Partial]:
        return self.partials(*inputs, outputs[0])

    def vjp(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], cts: Sequence[Derivative]
    ) -> Sequence[Derivative]:
        (ct,) = cts
        return [
            scale(ct, p) if differentiable(x) else DISCONNECTED
            for x, p in zip(inputs, self._partials(inputs, outputs), strict=True)
        ]

    def jvp(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], tangents: Sequence[Derivative]
    ) -> Sequence[Derivative]:
        partials = self._partials(inputs, outputs)
        return [accumulate([scale(t, p) for t, p in zip(tangents, partials, strict=True)])]

    def series(self, k: int, inputs: Sequence[Series], outputs: Sequence[Series]) -> Sequence[Derivative] | None:
        found = None if self.recurrence is None else self.recurrence(k, *inputs, outputs[0])
        return None if found is None else [found]

    def batch(self, inputs: Sequence[Variable], batched: Sequence[bool]) -> Sequence[Variable]:
        return [apply(self, *broadcast_unbatched(inputs, batched))]

    def lower(self, index: ix.Index, *inputs: ix.Tensor) -> ix.Expr:
        args = [x[index] for x in inputs]
        if self.compose is not None:
            return self.compose(*args)
        return ix.call(self.name, *args, dtype=self.resolve(tuple(a.dtype for a in args))[-1])

    def samples(self) -> list[Sample]:
        rng = np.random.default_rng(zlib.crc32(self.name.encode()))
        if not self.domain:  # of integers only; shifts by small numbers
            integers = [rng.integers(0, 8, (3, 4)) for _ in range(self.arity)]
            return [Sample(self, tuple(integers), False), Sample(self, tuple(a[0, 0] for a in integers), False)]
        dtypes = self.resolve((np.dtype("float64"),) * self.arity)
        drawn = [rng.uniform(lo, hi, (3, 4)) for lo, hi in self.domain]
        arrays: list[NDArray[Any]] = [
            (a > 0) if d.kind == "b" else np.rint(a * 3).astype(d) if d.kind != "f" else a
            for a, d in zip(drawn, dtypes, strict=False)
        ]
        # Truth values stay what they are along a line; integers that stand for floats do not.
        kinds = {a.dtype.kind for a in arrays}
        floats = "f" in kinds and kinds <= {"f", "b"}
        return [
            Sample(self, tuple(arrays), floats),
            Sample(self, tuple(a[0, 0] for a in map(np.asarray, arrays)), floats),
        ]

    def takes(self, dtypes: tuple[np.dtype[Any], ...]) -> bool:
        """Whether operands of these dtypes need no conversion."""
        try:
            return self.resolve(dtypes)[:-1] == dtypes
        except DTypeError:
            return False

    def __call__(self, *operands: TensorLike) -> Variable:
        """Apply to operands of NumPy's kinds: they are cast to NumPy's result dtype and broadcast."""
        if len(operands) != self.arity:
            raise DTypeError(f"{self.name} takes {self.arity} operands, got {len(operands)}")
        first = operands[0]
        if isinstance(first, Variable) and all(isinstance(x, Variable) and x.type == first.type for x in operands):
            # What derivative rules mostly do: one type, and an op that takes it as it is.
            dtypes = (first.type.dtype,) * self.arity
            if self.takes(dtypes):
                return apply(self, *operands)  # type: ignore[arg-type]
        # A Python number has no dtype of its own and adapts to the others (NumPy 2's promotion).
        kinds = tuple(type(x) if type(x) in (int, float) else None for x in operands)
        if all(kinds):
            kinds = (None,) * len(kinds)
        converted = [x if k is not None else as_variable(x) for x, k in zip(operands, kinds, strict=True)]
        given = tuple(v.type.dtype if isinstance(v, Variable) else type(v) for v in converted)
        try:
            *wanted, _ = self.resolve(given)
        except DTypeError as error:
            raise located(error, [v for v in converted if isinstance(v, Variable)]) from None
        ready = [
            cast(v, d) if isinstance(v, Variable) else constant(v, d) for v, d in zip(converted, wanted, strict=True)
        ]
        return apply(self, *broadcast_operands(self.name, ready))


def _registered(name: str) -> Any:
    return OPS[name]


def scale(ct: Derivative, partial: Partial) -> Derivative:
    """``ct * partial``, absences and masks understood: a cotangent that a mask made 0 stays 0 whatever the partial."""
    if isinstance(ct, Absence):
        return ct
    if isinstance(partial, Absence):
        return partial
    if isinstance(partial, Variable):
        if partial.type.dtype == bool:
            return where(partial, ct, constant(0, ct.type.dtype))
        from symgraph.ops.masks import masked

        return masked(ct, lambda g: multiply(g, partial))
    if partial == 1:
        return ct
    return negative(ct) if partial == -1 else multiply(ct, constant(partial, ct.type.dtype))


def broadcast_unbatched(inputs: Sequence[Variable], batched: Sequence[bool]) -> list[Variable]:
    """Inputs with the batch axis in front, added by broadcasting where it is missing."""
    size = next(x.type.shape[0] for x, b in zip(inputs, batched, strict=True) if b)
    return [x if b else broadcast_to(x, (size, *x.type.shape)) for x, b in zip(inputs, batched, strict=True)]


# -- type rules: NumPy's -----------------------------------------------------------------------------------------------


def _ufunc(ufunc: np.ufunc) -> Resolver:
    """The dtypes of a ufunc's loop, as NumPy 2 promotes; Python numbers are weak."""

    @cache
    def resolve(dtypes: tuple[Any, ...]) -> tuple[np.dtype[Any], ...]:
        try:
            found = ufunc.resolve_dtypes((*dtypes, *(None,) * ufunc.nout))
        except TypeError as error:
            names = ", ".join(d.__name__ if isinstance(d, type) else d.name for d in dtypes)
            raise DTypeError(f"{ufunc.__name__} is not defined for {names}") from error
        return tuple(as_dtype(d) for d in found)

    return resolve


@cache
def _same(dtypes: tuple[Any, ...]) -> tuple[np.dtype[Any], ...]:
    """All operands and the result of one dtype."""
    examples = [d(0) if isinstance(d, type) else d for d in dtypes]
    common = as_dtype(np.result_type(*examples))
    return (common,) * (len(dtypes) + 1)


@cache
def _select(dtypes: tuple[Any, ...]) -> tuple[np.dtype[Any], ...]:
    return (np.dtype(bool), *_same(dtypes[1:]))


def _floats(arity: int) -> Resolver:
    return _ufunc(np.exp if arity == 1 else np.logaddexp)


REAL, POSITIVE, UNIT, ABOVE_ONE = (-2.0, 2.0), (0.2, 3.0), (-0.9, 0.9), (1.2, 4.0)


def elementwise(
    name: str,
    reference: Callable[..., Any],
    partials: Callable[..., Sequence[Partial]],
    *,
    domain: Sequence[tuple[float, float]] | None = None,
    resolve: Resolver | None = None,
    arity: int | None = None,
    doc: str = "",
    flops: int = 1,
    jointly_linear: bool = False,
    compose: Callable[..., ix.Expr] | None = None,
    recurrence: SeriesRule | None = None,
) -> Elementwise:
    """Make and register an elementwise op.

    Args:
        name: NumPy's name; also the name of the scalar function in kernels.
        reference: the function in NumPy; where it is a ufunc, its type rule is taken too.
        partials: from the operands and the result to one partial derivative per operand.
        domain: where the test suite draws each operand from.
        resolve: the type rule, where ``reference`` is not a ufunc.
        flops: cost of one element, relative to an addition.
        compose: the scalar function in terms of others, where kernels have none of this name.
        recurrence: the coefficients of its Taylor series, where they are cheaper than those that follow from the
            partial derivatives.
    """
    if isinstance(reference, np.ufunc):
        resolve, arity = resolve or _ufunc(reference), reference.nin
    if resolve is None or arity is None:
        raise DTypeError(f"{name}: a function that is not a ufunc needs resolve and arity")
    doc = doc or f"``numpy.{getattr(reference, '__name__', name)}`` of each element."
    made = Elementwise(
        name,
        reference,
        partials,
        resolve,
        arity,
        doc,
        (REAL,) * arity if domain is None else domain,
        flops,
        jointly_linear,
        compose,
        recurrence,
    )
    OPS[name] = made
    return made


# -- structured elementwise ops ----------------------------------------------------------------------------------------


@op
class Cast(Op):
    """Conversion of each element to ``dtype``, as ``numpy.astype``.   x: T[S] -> dtype[S]"""

    dtype: str

    def infer(self, x: TensorType) -> TensorType:
        return x.with_dtype(self.dtype)

    def reference(self, x: NDArray[Any]) -> NDArray[Any]:
        with np.errstate(all="ignore"):
            return x.astype(self.dtype)

    def vjp(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], cts: Sequence[Derivative]
    ) -> Sequence[Derivative]:
        (x,), (ct,) = inputs, cts
        if not differentiable(x):
            return [DISCONNECTED]
        if not differentiable(outputs[0]):
            return [ZERO]  # a step function of x
        return [cast(ct, x.type.dtype) if isinstance(ct, Variable) else ct]

    def jvp(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], tangents: Sequence[Derivative]
    ) -> Sequence[Derivative]:
        (t,) = tangents
        if not differentiable(outputs[0]):
            return [ZERO if differentiable(inputs[0]) else DISCONNECTED]
        return [cast(t, self.dtype) if isinstance(t, Variable) else t]

    def batch(self, inputs: Sequence[Variable], batched: Sequence[bool]) -> Sequence[Variable]:
        return [apply(self, inputs[0])]

    def lower(self, index: ix.Index, x: ix.Tensor) -> ix.Expr:
        return ix.cast(x[index], self.dtype)

    def samples(self) -> list[Sample]:
        x = np.array([[-2.5, -0.5, 0.0], [0.75, 1.5, 100.0]])
        out = [
            Sample(Cast(d), (x.astype(s),), False)
            for d in ("int8", "int64", "bool")
            for s in ("float64", "int32", "bool")
        ]
        return [
            Sample(Cast("float32"), (x,), False),
            Sample(Cast("float64"), (x,)),
            Sample(Cast("float16"), (x,), False),
            *out,
        ]


@op
class Accumulate(Op):
    """The sum of any number of tensors of one type, added up in one buffer.   x_1 .. x_k: T[S] -> T[S]"""

    linear = "jointly"

    def infer(self, *inputs: TensorType) -> TensorType:
        if not inputs or any(t != inputs[0] for t in inputs):
            raise DTypeError("accumulate takes one or more tensors of one type")
        return inputs[0]

    def reference(self, *inputs: NDArray[Any]) -> NDArray[Any]:
        out = np.array(inputs[0])
        for x in inputs[1:]:
            out += x
        return out

    def transpose(self, ct: Variable, inputs: Sequence[Variable]) -> Sequence[Derivative]:
        return [ct] * len(inputs)

    def jvp(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], tangents: Sequence[Derivative]
    ) -> Sequence[Derivative]:
        return [accumulate(tangents)]

    def batch(self, inputs: Sequence[Variable], batched: Sequence[bool]) -> Sequence[Variable]:
        return [apply(self, *broadcast_unbatched(inputs, batched))]

    def lower(self, index: ix.Index, *inputs: ix.Tensor) -> ix.Expr:
        total = inputs[0][index]
        for x in inputs[1:]:
            total = ix.call("add", total, x[index], dtype=total.dtype)
        return total

    def samples(self) -> list[Sample]:
        rng = np.random.default_rng(0)
        return [Sample(self, tuple(rng.normal(size=(3, 4)) for _ in range(k))) for k in (1, 2, 5)]


@op
class StopGradient(Op):
    """The identity, through which no derivative flows.   x: T[S] -> T[S]"""

    stops = True

    def infer(self, x: TensorType) -> TensorType:
        return x

    def reference(self, x: NDArray[Any]) -> NDArray[Any]:
        return x

    def vjp(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], cts: Sequence[Derivative]
    ) -> Sequence[Derivative]:
        return [DISCONNECTED]

    def jvp(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], tangents: Sequence[Derivative]
    ) -> Sequence[Derivative]:
        return [DISCONNECTED]

    def batch(self, inputs: Sequence[Variable], batched: Sequence[bool]) -> Sequence[Variable]:
        return [apply(self, inputs[0])]

    def lower(self, index: ix.Index, x: ix.Tensor) -> ix.Expr:
        return x[index]

    def samples(self) -> list[Sample]:
        return [Sample(self, (np.array([1.0, 2.0]),), False)]


def cast(x: TensorLike, dtype: Any) -> Variable:
    """``x`` with elements of ``dtype``, as ``numpy.astype`` converts. Derivatives flow between float dtypes."""
    v, dtype = as_variable(x), as_dtype(dtype)
    if v.type.dtype == dtype:
        return v
    if isinstance(v, Constant):
        with np.errstate(all="ignore"):
            return constant(v.data.astype(dtype), name=v.name)
    return apply(Cast(dtype.name), v)


def stop_gradient(x: TensorLike) -> Variable:
    """``x``, through which no derivative flows: gradients treat it as a constant."""
    return apply(StopGradient(), as_variable(x))


def _rounded(name: str) -> Callable[[ix.Expr], ix.Expr]:
    """The rounding of that name; integers are whole, and NumPy leaves them as they are."""
    return lambda x: ix.call(name, x, dtype=x.dtype) if x.dtype.kind == "f" else x


# -- arithmetic --------------------------------------------------------------------------------------------------------

add = elementwise("add", np.add, lambda x, y, out: (1, 1), jointly_linear=True)
subtract = elementwise("subtract", np.subtract, lambda x, y, out: (1, -1), jointly_linear=True)
multiply = elementwise("multiply", np.multiply, lambda x, y, out: (y, x), recurrence=recurrences.multiply_series)
divide = elementwise(
    "divide",
    np.divide,
    lambda x, y, out: _quotient_partials(y, out),
    domain=(REAL, POSITIVE),
    flops=4,
    recurrence=recurrences.divide_series,
)
floor_divide = elementwise(
    "floor_divide", np.floor_divide, lambda x, y, out: (ZERO, ZERO), domain=(REAL, POSITIVE), flops=8
)
remainder = elementwise(
    "remainder", np.remainder, lambda x, y, out: (1, -floor_divide(x, y)), domain=(REAL, POSITIVE), flops=8
)
fmod = elementwise("fmod", np.fmod, lambda x, y, out: (1, -trunc(x / y)), domain=(REAL, POSITIVE), flops=8)
negative = elementwise("negative", np.negative, lambda x, out: (-1,), jointly_linear=True)
positive = elementwise("positive", np.positive, lambda x, out: (1,), jointly_linear=True, flops=0, compose=lambda x: x)
reciprocal: Elementwise = elementwise(
    "reciprocal",
    np.reciprocal,
    lambda x, out: (-out * out,),
    resolve=_floats(1),
    domain=[POSITIVE],
    flops=4,
    recurrence=recurrences.reciprocal_series,
    doc="``1 / x`` of each element. Integers become floats, while ``numpy.reciprocal`` truncates theirs to 0.",
)
square = elementwise("square", np.square, lambda x, out: (2 * x,), recurrence=recurrences.square_series)
absolute = elementwise("absolute", np.absolute, lambda x, out: (sign(x),), domain=[POSITIVE])
absolute.__doc__ = "Absolute value of each element. At 0 the derivative is 0."
sign: Elementwise = elementwise("sign", np.sign, lambda x, out: (ZERO,), domain=[POSITIVE], flops=2)
floor = elementwise("floor", np.floor, lambda x, out: (ZERO,), compose=_rounded("floor"))
ceil = elementwise("ceil", np.ceil, lambda x, out: (ZERO,), compose=_rounded("ceil"))
trunc: Elementwise = elementwise("trunc", np.trunc, lambda x, out: (ZERO,), compose=_rounded("trunc"))
rint = elementwise("rint", np.rint, lambda x, out: (ZERO,))


def _quotient_partials(y: Variable, out: Variable) -> Sequence[Partial]:
    inverse = reciprocal(y)
    return inverse, -out * inverse


def _power_partials(x: Variable, y: Variable, out: Variable) -> Sequence[Partial]:
    # x**y at x = 0: y * x**(y - 1) would be 0 * inf for y = 0, and log(0) * 0 = nan for the exponent's.
    none = equal(y, 0)
    base = where(none, 0, y * power(x, where(none, 1, y - 1)))
    zero = equal(x, 0)
    return base, where(zero, 0, out * log(where(zero, 1, x)))


power = elementwise(
    "power", np.power, _power_partials, domain=(POSITIVE, REAL), flops=30, recurrence=recurrences.power_series
)
power.__doc__ = (
    """``x ** y`` of each element. The derivative in ``y`` is 0 where ``x`` is 0, nan where ``x`` is negative."""
)

# -- exponentials, logarithms, roots -----------------------------------------------------------------------------------

exp = elementwise("exp", np.exp, lambda x, out: (out,), flops=12)
exp2 = elementwise("exp2", np.exp2, lambda x, out: (out * math.log(2),), flops=12)
expm1 = elementwise("expm1", np.expm1, lambda x, out: (out + 1,), flops=16)
log = elementwise("log", np.log, lambda x, out: (reciprocal(x),), domain=[POSITIVE], flops=14)
log2 = elementwise("log2", np.log2, lambda x, out: (1 / (x * math.log(2)),), domain=[POSITIVE], flops=14)
log10 = elementwise("log10", np.log10, lambda x, out: (1 / (x * math.log(10)),), domain=[POSITIVE], flops=14)
log1p = elementwise("log1p", np.log1p, lambda x, out: (reciprocal(1 + x),), domain=[POSITIVE], flops=16)
sqrt = elementwise(
    "sqrt", np.sqrt, lambda x, out: (0.5 / out,), domain=[POSITIVE], flops=6, recurrence=recurrences.sqrt_series
)
cbrt = elementwise("cbrt", np.cbrt, lambda x, out: (1 / (3 * out * out),), domain=[POSITIVE], flops=20)
hypot = elementwise(
    "hypot",
    np.hypot,
    lambda x, y, out: (where(equal(out, 0), 0, x / out), where(equal(out, 0), 0, y / out)),
    domain=(POSITIVE, POSITIVE),
    flops=10,
)
hypot.__doc__ = "``sqrt(x*x + y*y)`` of each element, as ``numpy.hypot``. At (0, 0) both derivatives are 0."
logaddexp = elementwise("logaddexp", np.logaddexp, lambda x, y, out: (sigmoid(x - y), sigmoid(y - x)), flops=30)

# -- trigonometric and hyperbolic --------------------------------------------------------------------------------------

sin = elementwise("sin", np.sin, lambda x, out: (cos(x),), flops=16)
cos: Elementwise = elementwise("cos", np.cos, lambda x, out: (-sin(x),), flops=16)
tan = elementwise("tan", np.tan, lambda x, out: (1 + out * out,), domain=[UNIT], flops=20)
arcsin = elementwise("arcsin", np.arcsin, lambda x, out: (1 / sqrt((1 - x) * (1 + x)),), domain=[UNIT], flops=20)
arccos = elementwise("arccos", np.arccos, lambda x, out: (-1 / sqrt((1 - x) * (1 + x)),), domain=[UNIT], flops=20)
arctan = elementwise("arctan", np.arctan, lambda x, out: (1 / (1 + x * x),), flops=20)
arctan2 = elementwise(
    "arctan2", np.arctan2, lambda y, x, out: _arctan2_partials(y, x), domain=(REAL, POSITIVE), flops=24
)
sinh = elementwise("sinh", np.sinh, lambda x, out: (cosh(x),), flops=20)
cosh: Elementwise = elementwise("cosh", np.cosh, lambda x, out: (sinh(x),), flops=20)
tanh = elementwise("tanh", np.tanh, lambda x, out: (1 - out * out,), flops=18)
arcsinh = elementwise("arcsinh", np.arcsinh, lambda x, out: (reciprocal(hypot(x, 1)),), flops=24)
arccosh = elementwise(
    "arccosh", np.arccosh, lambda x, out: (reciprocal(sqrt(x - 1) * sqrt(x + 1)),), domain=[ABOVE_ONE], flops=24
)
arctanh = elementwise("arctanh", np.arctanh, lambda x, out: (1 / ((1 - x) * (1 + x)),), domain=[UNIT], flops=24)


def _arctan2_partials(y: Variable, x: Variable) -> Sequence[Partial]:
    r2 = x * x + y * y
    return x / r2, -y / r2


# -- units -------------------------------------------------------------------------------------------------------------


def _sigmoid(x: NDArray[Any]) -> NDArray[Any]:
    # exp of a negative number only, so nothing overflows.
    e = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1, e) / (1 + e), dtype=np.asarray(x).dtype)


def _softplus(x: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))), dtype=np.asarray(x).dtype)


def _relu(x: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(np.maximum(x, np.asarray(x).dtype.type(0)))


def _erf(x: NDArray[Any]) -> NDArray[Any]:
    from scipy.special import erf

    return np.asarray(erf(x), dtype=np.asarray(x).dtype)


def _erfc(x: NDArray[Any]) -> NDArray[Any]:
    from scipy.special import erfc

    return np.asarray(erfc(x), dtype=np.asarray(x).dtype)


sigmoid: Elementwise = elementwise(
    "sigmoid",
    _sigmoid,
    lambda x, out: (out * sigmoid(-x),),  # 1 - out would cancel for large x
    resolve=_floats(1),
    arity=1,
    doc="``1 / (1 + exp(-x))`` of each element, without overflow. [6.2.2.2]",
    flops=16,
    recurrence=recurrences.sigmoid_series,
)
softplus = elementwise(
    "softplus",
    _softplus,
    lambda x, out: (sigmoid(x),),
    resolve=_floats(1),
    arity=1,
    doc="``log(1 + exp(x))`` of each element, without overflow. [6.3.3]",
    flops=26,
)
relu = elementwise(
    "relu",
    _relu,
    lambda x, out: (greater(x, 0),),
    resolve=_same,
    arity=1,
    doc="``max(x, 0)`` of each element. At 0 the derivative is 0, the left one. [6.3.1]",
    compose=lambda x: ix.call("maximum", x, ix.const(0, x.dtype), dtype=x.dtype),
)
erf = elementwise(
    "erf",
    _erf,
    lambda x, out: ((2 / math.sqrt(math.pi)) * exp(-x * x),),
    resolve=_floats(1),
    arity=1,
    doc="The error function of each element, as ``scipy.special.erf``.",
    flops=20,
)
erfc = elementwise(
    "erfc",
    _erfc,
    lambda x, out: ((-2 / math.sqrt(math.pi)) * exp(-x * x),),
    resolve=_floats(1),
    arity=1,
    doc="``1 - erf(x)`` of each element without cancellation, as ``scipy.special.erfc``.",
    flops=30,
)

# -- selection ---------------------------------------------------------------------------------------------------------


def _where(c: NDArray[Any], x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    return np.where(c, x, y)


def _clip(x: NDArray[Any], lo: NDArray[Any], hi: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(np.minimum(np.maximum(x, lo), hi))


def _extremum_partials(x: Variable, y: Variable, wins: Variable) -> Sequence[Partial]:
    tie = equal(x, y)
    return where(tie, 0.5, cast(wins, x.type.dtype)), where(tie, 0.5, cast(logical_not(wins), x.type.dtype))


maximum = elementwise("maximum", np.maximum, lambda x, y, out: _extremum_partials(x, y, greater(x, y)))
maximum.__doc__ = "The larger of two elements; nan if either is. At a tie each operand has derivative 1/2."
minimum = elementwise("minimum", np.minimum, lambda x, y, out: _extremum_partials(x, y, less(x, y)))
minimum.__doc__ = "The smaller of two elements; nan if either is. At a tie each operand has derivative 1/2."
where: Elementwise = elementwise(
    "where",
    _where,
    lambda c, x, y, out: (DISCONNECTED, c, logical_not(c)),
    resolve=_select,
    arity=3,
    doc="``x`` where ``c`` holds, else ``y``. The branch not taken gets the derivative 0, whatever its value.",
    recurrence=recurrences.where_series,
)
_clip_op = elementwise(
    "clip",
    _clip,
    lambda x, lo, hi, out: (
        logical_and(greater_equal(x, lo), less_equal(x, hi)),
        logical_and(less(x, lo), less_equal(lo, hi)),
        greater(maximum(x, lo), hi),
    ),
    resolve=_same,
    arity=3,
    domain=(REAL, (-1.5, -0.5), (0.5, 1.5)),
    doc="``min(max(x, lo), hi)``. At the bounds the derivative in ``x`` is 1.",
    compose=lambda x, lo, hi: ix.call("minimum", ix.call("maximum", x, lo, dtype=x.dtype), hi, dtype=x.dtype),
)


def clip(x: TensorLike, min: TensorLike | None = None, max: TensorLike | None = None) -> Variable:
    """``x`` limited to ``[min, max]``, as ``numpy.clip``; ``None``: no bound. At the bounds the derivative is 1."""
    v = as_variable(x)
    if not is_float(v.type.dtype):
        v = maximum(v, min) if min is not None else v
        return minimum(v, max) if max is not None else v
    return _clip_op(v, -math.inf if min is None else min, math.inf if max is None else max)


copysign: Elementwise = elementwise(
    "copysign",
    np.copysign,
    lambda x, y, out: (copysign(1.0, y) * copysign(1.0, x), ZERO),
    domain=(POSITIVE, POSITIVE),
)

# -- comparison and logic ----------------------------------------------------------------------------------------------


def _predicate(ufunc: np.ufunc) -> Elementwise:
    return elementwise(ufunc.__name__, ufunc, lambda *args: (ZERO,) * ufunc.nin)


equal: Elementwise = _predicate(np.equal)
not_equal = _predicate(np.not_equal)
less: Elementwise = _predicate(np.less)
less_equal: Elementwise = _predicate(np.less_equal)
greater: Elementwise = _predicate(np.greater)
greater_equal: Elementwise = _predicate(np.greater_equal)
isnan = _predicate(np.isnan)
isinf = _predicate(np.isinf)
isfinite = _predicate(np.isfinite)
signbit = _predicate(np.signbit)
logical_and: Elementwise = _predicate(np.logical_and)
logical_or = _predicate(np.logical_or)
logical_xor = _predicate(np.logical_xor)
logical_not: Elementwise = _predicate(np.logical_not)


def _bitwise(name: str, ufunc: np.ufunc) -> Elementwise:
    return elementwise(name, ufunc, lambda *args: (DISCONNECTED,) * ufunc.nin, domain=())


bitwise_and = _bitwise("bitwise_and", np.bitwise_and)
bitwise_or = _bitwise("bitwise_or", np.bitwise_or)
bitwise_xor = _bitwise("bitwise_xor", np.bitwise_xor)
bitwise_invert = _bitwise("bitwise_invert", np.invert)
left_shift = _bitwise("left_shift", np.left_shift)
right_shift = _bitwise("right_shift", np.right_shift)
invert = bitwise_invert
abs = absolute
pow = power
