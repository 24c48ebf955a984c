"""Derivatives of Python functions: callables in, callables out, on symbols or, compiled on first use, on arrays.

The names are those of the transformations of graphs. Given a variable (or several) they are these; given a function,
they return a function.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, Literal, overload

from symgraph import source
from symgraph.autodiff import forward, reverse
from symgraph.autodiff.arguments import Disconnected
from symgraph.callables import (
    OnArrays,
    Structure,
    flatten,
    flatten_like,
    is_function,
    is_tensor,
    is_variable,
    symbolic,
    unflatten,
)
from symgraph.errors import CostError, DTypeError, MissingInputError, RankError
from symgraph.graph import Variable
from symgraph.op import TensorLike, as_variable
from symgraph.substitute import substitute
from symgraph.types import is_float


class Transformed(OnArrays):
    """A derivative of a Python function: called with variables it builds a graph, called with arrays it runs.

    Takes what :class:`~symgraph.callables.OnArrays` does; numbers that are differentiated in are floats.
    """

    def __init__(
        self,
        name: str,
        fn: Callable[..., Any],
        argnums: int | Sequence[int],
        build: Callable[[_Point], Any],
        extra: str | None = None,
    ) -> None:
        super().__init__(name, fn, self._differentiated)
        self.argnums = argnums
        self._name = name
        self._build = build
        self._extra = extra  # the keyword of the tangent or cotangent
        self._numbers = _argnums(name, argnums)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """On variables: a graph. On arrays: arrays, in the same structure."""
        if len(args) <= max(self._numbers):
            raise MissingInputError(
                f"{self.__name__}: there is no argument {max(self._numbers)} to differentiate in  {_line()}"
            )
        if self._extra is not None and self._extra not in kwargs:
            raise MissingInputError(f"{self.__name__}: needs the keyword argument {self._extra}=  {_line()}")
        return super().__call__(*args, **kwargs)

    def _differentiated(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        point = _Point(self._name, self.fn, args, dict(kwargs), self.argnums, self._extra)
        leaves, structure = flatten(self._build(point))
        # None stands for what is disconnected, where that was asked for.
        results = iter(point.at_arguments([as_variable(v) for v in leaves if v is not None]))
        return unflatten(structure, iter([None if v is None else next(results) for v in leaves]))

    def _smooth(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[bool]:
        parts = [(a, k in self._numbers) for k, a in enumerate(args)]
        parts += [(a, name == self._extra) for name, a in kwargs.items()]
        return [smooth for a, smooth in parts for v in flatten(a)[0] if is_tensor(v)]


def _argnums(name: str, argnums: int | Sequence[int]) -> tuple[int, ...]:
    numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    if not numbers or any(type(i) is not int or i < 0 for i in numbers):
        raise RankError(f"{name}: argnums are one or more positions of arguments, got {argnums!r}  {_line()}")
    return numbers


def _line() -> str:
    return source.show(source.current())


class _Point:
    """A function of symbols at a point: its value, and the variables that it is differentiated in."""

    def __init__(
        self,
        name: str,
        fn: Callable[..., Any],
        args: Sequence[Any],
        kwargs: dict[str, Any],
        argnums: int | Sequence[int],
        extra: str | None,
    ) -> None:
        self.name = name
        self.extra = kwargs.pop(extra) if extra is not None else None
        # Symbols of its own for each argument: the derivative is in the argument, not in what else uses a variable
        # that was given, nor in another argument that is the same variable.
        self._given: dict[Variable, Variable] = {}
        own = [symbolic(a) for a in args]
        for i in _argnums(name, argnums):
            leaves, structure = flatten(args[i])
            own[i] = unflatten(structure, iter([self._symbol(i, v) for v in leaves]))
        chosen = own[argnums] if isinstance(argnums, int) else tuple(own[i] for i in argnums)
        self.wrt, self._structure = flatten(chosen)
        self.value = fn(*own, **{k: symbolic(v) for k, v in kwargs.items()})

    def _symbol(self, argument: int, value: Any) -> Variable:
        try:
            v = as_variable(float(value) if type(value) is int else value)
        except DTypeError:
            raise DTypeError(f"{self.name}: argument {argument} is {value!r}, not a tensor  {_line()}") from None
        if not is_float(v.type.dtype):
            raise DTypeError(f"{self.name}: argument {argument} is {v.type}, and has no derivative  {_line()}")
        symbol = Variable(v.type, name=v.name or f"argument {argument}")
        self._given[symbol] = v
        return symbol

    def at_arguments(self, results: Sequence[Variable]) -> list[Variable]:
        """``results`` with what was given in place of the symbols."""
        return substitute(results, self._given)

    def cost(self, wanted: str = "a scalar variable") -> Variable:
        """The value, which has to be a single variable."""
        if not is_variable(self.value):
            raise CostError(f"{self.name}: the function must return {wanted}, got {self.value!r}  {_line()}")
        return as_variable(self.value)

    def outputs(self) -> tuple[list[Variable], Structure]:
        """The value as a flat list, and its structure."""
        leaves, structure = flatten(self.value)
        return [as_variable(v) for v in leaves], structure

    def along(self, what: str) -> list[Any]:
        """The direction that was given, for each variable that is differentiated in."""
        return flatten_like(f"{self.name}: {what}", self.extra, self._structure)

    def like(self, results: Sequence[Any]) -> Any:
        """``results``, one for each variable that is differentiated in, in the structure of the arguments."""
        return unflatten(self._structure, iter(results))


# -- the transformations -----------------------------------------------------------------------------------------------


def _jacobians() -> ModuleType:
    from symgraph.autodiff import jacobians  # a gradient needs none of it

    return jacobians


def _positions(wrt: Any, argnums: int | Sequence[int]) -> int | Sequence[int]:
    # As in JAX, the second argument may be the positions.
    return argnums if wrt is None else wrt


@overload
def grad(
    cost: Callable[..., Any],
    wrt: int | Sequence[int] | None = ...,
    *,
    argnums: int | Sequence[int] = ...,
    disconnected: Disconnected = ...,
) -> Transformed: ...
@overload
def grad(
    cost: Variable | None,
    wrt: Variable,
    disconnected: Literal["raise", "zero"] = ...,
    known: Mapping[Variable, TensorLike] | None = ...,
) -> Variable: ...
@overload
def grad(
    cost: Variable | None,
    wrt: list[Variable],
    disconnected: Literal["raise", "zero"] = ...,
    known: Mapping[Variable, TensorLike] | None = ...,
) -> list[Variable]: ...
@overload
def grad(
    cost: Variable | None,
    wrt: tuple[Variable, ...],
    disconnected: Literal["raise", "zero"] = ...,
    known: Mapping[Variable, TensorLike] | None = ...,
) -> tuple[Variable, ...]: ...
@overload
def grad(
    cost: Variable | None, wrt: Any, disconnected: Disconnected = ..., known: Mapping[Variable, TensorLike] | None = ...
) -> Any: ...
def grad(
    cost: Any,
    wrt: Any = None,
    disconnected: Disconnected = "raise",
    known: Mapping[Variable, TensorLike] | None = None,
    *,
    argnums: int | Sequence[int] = 0,
) -> Any:
    """The gradient of a scalar: a graph for a variable, a function for a function.

    ``grad(cost, wrt)`` is :func:`symgraph.autodiff.reverse.grad`. ``grad(f, argnums=0)`` is a function of ``f``'s
    arguments that returns the gradient in the arguments at the positions ``argnums``: for one position, in the
    structure of that argument (an array, or nested lists, tuples and dicts of arrays), for several, a tuple of these.
    Called with variables it returns graphs, called with arrays it compiles on first use and runs.
    """
    if not is_function(cost):
        return reverse.grad(cost, wrt, disconnected, known)

    def build(point: _Point) -> Any:
        return point.like(reverse.grad(point.cost(), point.wrt, disconnected))

    return Transformed("grad", cost, _positions(wrt, argnums), build)


def value_and_grad(
    fn: Callable[..., Any], argnums: int | Sequence[int] = 0, disconnected: Disconnected = "raise"
) -> Transformed:
    """A function that returns the value of ``fn``, a scalar, and its gradient, as :func:`grad` gives it."""
    if not is_function(fn):
        raise DTypeError(f"value_and_grad: wanted a function, got {fn!r}  {_line()}")

    def build(point: _Point) -> Any:
        return point.value, point.like(reverse.grad(point.cost(), point.wrt, disconnected))

    return Transformed("value_and_grad", fn, argnums, build)


def jacobian(
    y: Any, x: Any = None, mode: str = "auto", disconnected: Disconnected = "raise", *, argnums: int | Sequence[int] = 0
) -> Any:
    """The Jacobian: a graph for variables, see :func:`symgraph.autodiff.jacobians.jacobian`; a function for a function.

    The function returns, in the structure of the results of ``y``, blocks in the structure of the arguments.
    """
    if not is_function(y):
        return _jacobians().jacobian(y, x, mode, disconnected)

    def build(point: _Point) -> Any:
        outputs, structure = point.outputs()
        rows = _jacobians().jacobian(outputs, point.wrt, mode, disconnected)
        return unflatten(structure, iter([point.like(row) for row in rows]))

    return Transformed("jacobian", y, _positions(x, argnums), build)


def hessian(
    cost: Any, wrt: Any = None, disconnected: Literal["raise", "zero"] = "raise", *, argnums: int | Sequence[int] = 0
) -> Any:
    """The Hessian of a scalar: a graph, see :func:`symgraph.autodiff.jacobians.hessian`; or a function."""
    if not is_function(cost):
        return _jacobians().hessian(cost, wrt, disconnected)

    def build(point: _Point) -> Any:
        return point.like([point.like(row) for row in _jacobians().hessian(point.cost(), point.wrt, disconnected)])

    return Transformed("hessian", cost, _positions(wrt, argnums), build)


def laplacian(
    y: Any, x: Any = None, disconnected: Literal["raise", "zero"] = "raise", *, argnums: int | Sequence[int] = 0
) -> Any:
    """The Laplacian: a graph for a variable, see :func:`symgraph.autodiff.jacobians.laplacian`; or a function."""
    if not is_function(y):
        return _jacobians().laplacian(y, x, disconnected)
    return Transformed(
        "laplacian",
        y,
        _positions(x, argnums),
        lambda point: _jacobians().laplacian(point.cost("one variable"), point.wrt, disconnected),
    )


def derivative(y: Any, x: Any = None, n: int = 1) -> Any:
    """The n-th derivative: a graph for a variable, see :func:`symgraph.autodiff.jacobians.derivative`; or a function.

    ``derivative(f, n=3)`` is a function of the arguments of ``f``, differentiated in the first.
    """
    if not is_function(y):
        return _jacobians().derivative(y, x, n)

    def build(point: _Point) -> Any:
        (v,) = point.wrt
        return _jacobians().derivative(point.cost("one variable"), v, n)

    return Transformed("derivative", y, _positions(x, 0), build)


def jvp(
    y: Any,
    x: Any = None,
    tangent: Any = None,
    disconnected: Disconnected = "raise",
    *,
    argnums: int | Sequence[int] = 0,
) -> Any:
    """The product of the Jacobian with a tangent: a graph, see :func:`symgraph.autodiff.forward.jvp`; or a function.

    ``jvp(f)(*arguments, tangent=t)`` returns the value of ``f`` and its derivative along ``t``, which has the structure
    of the arguments at ``argnums``.
    """
    if not is_function(y):
        return forward.jvp(y, x, tangent, disconnected)

    def build(point: _Point) -> Any:
        outputs, structure = point.outputs()
        products = forward.jvp(outputs, point.wrt, point.along("the tangent"), disconnected)
        return point.value, unflatten(structure, iter(products))

    return Transformed("jvp", y, _positions(x, argnums), build, "tangent")


@overload
def vjp(
    y: Callable[..., Any],
    x: int | Sequence[int] | None = ...,
    *,
    argnums: int | Sequence[int] = ...,
    disconnected: Disconnected = ...,
) -> Transformed: ...
@overload
def vjp(y: Any, x: Variable, cotangent: Any, disconnected: Literal["raise", "zero"] = ...) -> Variable: ...
@overload
def vjp(y: Any, x: list[Variable], cotangent: Any, disconnected: Literal["raise", "zero"] = ...) -> list[Variable]: ...
@overload
def vjp(
    y: Any, x: tuple[Variable, ...], cotangent: Any, disconnected: Literal["raise", "zero"] = ...
) -> tuple[Variable, ...]: ...
@overload
def vjp(y: Any, x: Any, cotangent: Any, disconnected: Disconnected = ...) -> Any: ...
def vjp(
    y: Any,
    x: Any = None,
    cotangent: Any = None,
    disconnected: Disconnected = "raise",
    *,
    argnums: int | Sequence[int] = 0,
) -> Any:
    """The product of a cotangent with the Jacobian: a graph, see :func:`symgraph.autodiff.reverse.vjp`; or a function.

    ``vjp(f)(*arguments, cotangent=u)`` returns the value of ``f`` and the product, in the structure of the arguments at
    ``argnums``; ``u`` has the structure of the value.
    """
    if not is_function(y):
        return reverse.vjp(y, x, cotangent, disconnected)

    def build(point: _Point) -> Any:
        outputs, structure = point.outputs()
        cotangents = flatten_like("vjp: the cotangent", point.extra, structure)
        products = reverse.vjp(outputs, point.wrt, cotangents, disconnected)
        return point.value, point.like(products)

    return Transformed("vjp", y, _positions(x, argnums), build, "cotangent")


def hvp(cost: Any, wrt: Any = None, v: Any = None, *, argnums: int | Sequence[int] = 0) -> Any:
    """The product of the Hessian with ``v``: a graph, see :func:`symgraph.autodiff.forward.hvp`; or a function.

    ``hvp(f)(*arguments, v=d)`` returns the product, in the structure of the arguments at ``argnums``, which ``d`` has.
    """
    if not is_function(cost):
        return forward.hvp(cost, wrt, v)

    def build(point: _Point) -> Any:
        return point.like(forward.hvp(point.cost(), point.wrt, point.along("v")))

    return Transformed("hvp", cost, _positions(wrt, argnums), build, "v")


def ggn_vp(cost: Any, outputs: Any, wrt: Any = None, v: Any = None, *, argnums: int | Sequence[int] = 0) -> Any:
    """The Gauss-Newton product: a graph, see :func:`symgraph.autodiff.jacobians.ggn_vp`; or a function of functions.

    ``ggn_vp(cost, model)(*arguments, v=d)`` is that of ``cost(model(*arguments))``, where ``cost`` takes what ``model``
    returns. The product has the structure of the arguments at ``argnums``, which ``d`` has.
    """
    if not is_function(cost):
        return _jacobians().ggn_vp(cost, outputs, wrt, v)
    if not is_function(outputs):
        raise DTypeError(f"ggn_vp: of a function wanted a second one, for the outputs, got {outputs!r}  {_line()}")

    def build(point: _Point) -> Any:
        middle, structure = point.outputs()
        point.value = cost(unflatten(structure, iter(middle)))
        return point.like(_jacobians().ggn_vp(point.cost(), middle, point.wrt, point.along("v")))

    return Transformed("ggn_vp", outputs, _positions(wrt, argnums), build, "v")


def taylor(
    y: Any,
    x: Any = None,
    direction: Any = None,
    order: Any = None,
    disconnected: Disconnected = "raise",
    *,
    argnums: int | Sequence[int] = 0,
) -> Any:
    """Derivatives along a line: graphs, see :func:`symgraph.autodiff.taylor.taylor`; or a function for a function.

    ``taylor(f, order=n)(*arguments, direction=d)`` returns a list of ``n + 1`` values, each in the structure of the
    value of ``f``; ``d`` has the structure of the arguments at ``argnums``.
    """
    from symgraph.autodiff import taylor as series

    if not is_function(y):
        return series.taylor(y, x, direction, order, disconnected)

    def build(point: _Point) -> Any:
        outputs, structure = point.outputs()
        found = series.taylor(outputs, point.wrt, point.along("the direction"), order, disconnected)
        return [unflatten(structure, iter(of_one_order)) for of_one_order in zip(*found, strict=True)]

    return Transformed("taylor", y, _positions(x, argnums), build, "direction")


def linearize(y: Any, x: Any = None, *, argnums: int | Sequence[int] = 0) -> Any:
    """The value and the derivative as a function: of graphs, see :func:`symgraph.autodiff.jacobians.linearize`.

    ``linearize(f)`` is a function of ``f``'s arguments that returns the value of ``f`` and a function from a tangent,
    in the structure of the arguments at ``argnums``, to the derivative along it.
    """
    if not is_function(y):
        return _jacobians().linearize(y, x)
    value = OnArrays("linearize", y, lambda args, kwargs: y(*map(symbolic, args), **symbolic(dict(kwargs))))
    pushed = jvp(y, _positions(x, argnums))

    def linearized(*args: Any, **kwargs: Any) -> tuple[Any, Callable[[Any], Any]]:
        return value(*args, **kwargs), lambda tangent: pushed(*args, **kwargs, tangent=tangent)[1]

    return linearized
