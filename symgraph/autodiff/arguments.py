"""What the transformations take: one variable or several, and values that match them; results have that structure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

from symgraph import source
from symgraph.errors import DisconnectedError, DTypeError, FormatError, RankError, RuleError, SizeError
from symgraph.graph import Apply, Variable
from symgraph.op import Absence, Derivative, as_variable, zeros_like
from symgraph.types import is_float, unify

Disconnected: TypeAlias = Literal["raise", "zero", "none"]


def several(what: str, given: object) -> list[Variable]:
    """The variables in ``given``: one, or a list or tuple of them."""
    items = given if isinstance(given, list | tuple) else [given]
    out = []
    for k, item in enumerate(items):
        v = getattr(item, "variable", None)
        if not isinstance(v, Variable):
            where = f" at position {k}" if items is given else ""
            raise DTypeError(
                f"{what} must be a variable of a graph, got {item!r} of type {type(item).__name__}{where}  "
                f"{source.show(source.current())}"
            )
        out.append(v)
    return out


def like(given: object, results: Sequence[Any]) -> Any:
    """``results`` in the structure of ``given``."""
    if isinstance(given, list):
        return list(results)
    return tuple(results) if isinstance(given, tuple) else results[0]


def check_floats(what: str, variables: Sequence[Variable]) -> None:
    """Raise :class:`~symgraph.errors.DTypeError` for a variable through which derivatives cannot flow."""
    for v in variables:
        if not is_float(v.type.dtype):
            raise DTypeError(
                f"{what}: {show(v)} is not of a float dtype, so it has no derivative  {source.show(source.current())}"
            )


def check_distinct(what: str, variables: Sequence[Variable]) -> None:
    """Raise :class:`~symgraph.errors.FormatError` for a variable that is given twice: it has one direction."""
    seen: set[Variable] = set()
    for v in variables:
        if v in seen:
            raise FormatError(f"{what}: {show(v)} is given twice  {source.show(source.current())}")
        seen.add(v)


def show(v: Variable) -> str:
    """A variable's name and type, for messages."""
    op = f"result of {v.owner.op.name}" if v.owner else "variable"
    return f"{v.name or op}: {v.type}"


def matching(what: str, values: object, like_: Sequence[Variable], given: object) -> list[Variable]:
    """``values`` as variables of the types of ``like_``; numbers take the dtype, unknown sizes are asserted."""
    items = list(values) if isinstance(given, list | tuple) and isinstance(values, list | tuple) else [values]
    line = source.show(source.current())
    if len(items) != len(like_):
        raise RankError(f"{what}: wanted {len(like_)}, got {len(items)}  {line}")
    out = []
    for item, v in zip(items, like_, strict=True):
        weak = isinstance(item, int | float) and not isinstance(item, bool)
        try:
            tensor = as_variable(item, v.type.dtype if weak else None)
        except DTypeError:
            raise DTypeError(f"{what} of {show(v)}: wanted {v.type}, got {item!r}  {line}") from None
        out.append(conform(tensor, v, f"{what} of {show(v)}"))
    return out


def conform(given: Variable, primal: Variable, what: str) -> Variable:
    """``given``, as a variable of exactly the type of ``primal``; raises where dtype, rank or sizes differ."""
    if given.type == primal.type:
        return given
    line = source.show(source.current())
    if given.type.dtype != primal.type.dtype:
        raise DTypeError(f"{what}: wanted {primal.type}, got {given.type}  {line}")
    if given.type.ndim != primal.type.ndim:
        raise RankError(f"{what}: wanted {primal.type}, got {given.type}  {line}")
    if any(unify(a, b) is None for a, b in zip(given.type.shape, primal.type.shape, strict=True)):
        raise SizeError(f"{what}: wanted {primal.type}, got {given.type}  {line}")
    from symgraph.ops.shape import assert_shape

    return assert_shape(given, primal.type.shape)


def checked(node: Apply, rule: str, results: Sequence[Derivative], primals: Sequence[Variable]) -> list[Derivative]:
    """What a rule returned, of the right number and types; else raises :class:`~symgraph.errors.RuleError`."""
    name, line = node.op.name, source.show(node.sources)
    try:
        out = list(results)
    except TypeError:
        raise RuleError(f"{name}: its {rule} returned {results!r}, not a sequence  {line}") from None
    if len(out) != len(primals):
        raise RuleError(f"{name}: its {rule} returned {len(out)} results, wanted {len(primals)}  {line}")
    for k, (d, v) in enumerate(zip(out, primals, strict=True)):
        if isinstance(d, Absence):
            continue
        if not isinstance(d, Variable):
            raise RuleError(f"{name}: its {rule} returned {d!r} at position {k}, wanted a variable of {v.type}  {line}")
        if not is_float(v.type.dtype):
            raise RuleError(
                f"{name}: its {rule} returned {d.type} at position {k} for {v.type}, which has no derivative  {line}"
            )
        if d.type != v.type:
            try:
                out[k] = conform(d, v, f"{name}: its {rule} at position {k}")
            except (DTypeError, RankError, SizeError) as error:
                raise RuleError(f"{str(error).removesuffix(line).rstrip()}  {line}") from None
    return out


def final(d: Derivative, v: Variable, disconnected: Disconnected, message: str, line: str) -> Variable | None:
    """A result for the user: absences become zeros, ``None`` or an error, as asked."""
    from symgraph.op import ZERO

    if isinstance(d, Variable):
        return d
    if d is ZERO or disconnected == "zero":
        return zeros_like(v)
    if disconnected == "none":
        return None
    raise DisconnectedError(f"{message}; disconnected='zero' or 'none' accepts that  {line}")


def check_option(disconnected: object, none: bool = True) -> None:
    """Raise :class:`~symgraph.errors.FormatError` for an answer to disconnected inputs that does not exist."""
    if disconnected not in ("raise", "zero", *(["none"] if none else [])):
        answers = "'raise', 'zero' or 'none'" if none else "'raise' or 'zero'"
        raise FormatError(f"disconnected is {answers}, got {disconnected!r}  {source.show(source.current())}")
