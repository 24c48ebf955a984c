"""Replace variables of a graph by others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import overload

from symgraph import source
from symgraph.errors import DTypeError, FormatError, SizeError
from symgraph.graph import Apply, Variable, toposort
from symgraph.op import TensorLike, apply, as_variable
from symgraph.ops.elementwise import cast
from symgraph.ops.shape import AssertShape
from symgraph.retake import carried


@overload
def substitute(outputs: Variable, replace: Mapping[Variable, TensorLike]) -> Variable: ...
@overload
def substitute(outputs: Sequence[Variable], replace: Mapping[Variable, TensorLike]) -> list[Variable]: ...
def substitute(
    outputs: Variable | Sequence[Variable], replace: Mapping[Variable, TensorLike]
) -> Variable | list[Variable]:
    """``outputs`` with each key of ``replace`` replaced by its value, which must fit its type.

    ``outputs`` is a variable, or a sequence of them, for which the result is a list. A key may be any variable of the
    graph; a value is a variable or what becomes a constant, of the key's rank and sizes. What does not depend on a
    replaced variable is shared with the graph as it was.
    Raises :class:`~symgraph.errors.DTypeError` and :class:`~symgraph.errors.SizeError` where a value does not fit.
    """
    if isinstance(outputs, Variable):
        return substitute([outputs], replace)[0]
    line = source.show(source.current())
    if not isinstance(replace, Mapping):
        raise FormatError(f"substitute: replace must be a mapping from variables to values, got {replace!r}  {line}")
    for what, given in (("outputs", outputs), ("a key of replace", replace)):
        for v in given:
            if not isinstance(v, Variable):
                raise DTypeError(f"substitute: {what} must be a variable of a graph, got {v!r}  {line}")
    new: dict[Variable, Variable] = {}
    for old, value in replace.items():
        v = as_variable(value)
        if v.type.dtype != old.type.dtype:
            if not isinstance(value, Variable):
                v = cast(v, old.type.dtype)
            else:
                raise DTypeError(
                    f"substitute: {old!r} is to be replaced by a value of {v.type}  {source.show(source.current())}"
                )
        if v.type.ndim != old.type.ndim:
            raise SizeError(
                f"substitute: {old!r} is to be replaced by a value of {v.type}  {source.show(source.current())}"
            )
        differ = [(a, b) for a, b in zip(v.type.shape, old.type.shape, strict=True) if a != b]
        if any(isinstance(a, int) and isinstance(b, int) for a, b in differ):
            raise SizeError(
                f"substitute: {old!r} is to be replaced by a value of {v.type}  {source.show(source.current())}"
            )
        # A symbolic size of what is replaced, named or not, takes the replacement's: each call checks that they agree.
        new[old] = apply(AssertShape(old.type.shape), v) if differ else v
    copies: list[Apply] = []
    for node in toposort(outputs, replace):
        if any(v in new for v in node.inputs):
            made = Apply(
                node.op,
                tuple(new.get(v, v) for v in node.inputs),
                [v.type for v in node.outputs],
                node.sources,
                node.origin,
            )
            copies.append(made)
            for old, fresh in zip(node.outputs, made.outputs, strict=True):
                fresh.name = old.name
                new.setdefault(old, fresh)
                carried(old, fresh, lambda v: substitute(v, replace))
    moved = {old.serial: v.serial for old, v in new.items()}
    for made in copies:
        if made.origin.of in moved:
            made.origin = made.origin._replace(of=moved[made.origin.of])
    return [new.get(v, v) for v in outputs]
