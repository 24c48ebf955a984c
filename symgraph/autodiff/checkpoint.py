"""Checkpoints set by hand: functions whose intermediate results are computed again in reverse mode, not kept."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from symgraph import source
from symgraph.callables import OnArrays, flatten, is_function, is_variable, symbolic, unflatten
from symgraph.errors import DTypeError
from symgraph.graph import Constant, Graph, Variable, _serial
from symgraph.op import apply_node, as_variable
from symgraph.ops.checkpoint import Checkpoint
from symgraph.substitute import substitute


def checkpoint(fn: Callable[..., Any]) -> OnArrays:
    """``fn``, whose intermediate results reverse mode computes again where it needs them, instead of keeping them.

    Of ``checkpoint(fn)(x, w)`` the backward pass needs ``x``, ``w`` and the cotangent of the result. When the cotangent
    is there, ``fn`` is computed once more, and then its derivative. Split a chain of n like layers into segments of
    about sqrt(n), each a checkpoint, and a gradient keeps O(sqrt(n)) results for one more evaluation of each layer
    [Chen et al. 2016].

    Args:
        fn: takes variables, or nested lists, tuples and dicts of them, and returns such. Other variables that it uses
            count as arguments: their gradients are right, and they are kept.

    Returns a function of variables, or arrays, on which it compiles and runs; it serves as a decorator. Values and
    derivatives are those of ``fn``, of every order and in every mode, and derivatives of derivatives recompute in turn.
    Checkpoints nest. Forward mode keeps nothing and recomputes nothing. What depends on no result of the forward pass
    need not wait for it: where the cotangent is a constant or an input of the graph, nothing is recomputed.
    Operations that must not be repeated, such as draws of random numbers, are not: their results are kept.

    Raises :class:`~symgraph.errors.DTypeError` for what is no function, or returns what is no tensor.
    """
    if not is_function(fn):
        raise DTypeError(f"checkpoint: wanted a function, got {fn!r}  {source.show(source.current())}")
    label = f"checkpoint({getattr(fn, '__name__', type(fn).__name__)})"
    return OnArrays("checkpoint", fn, lambda args, kwargs: _checkpointed(label, fn, args, kwargs))


def _checkpointed(label: str, fn: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    oldest = next(_serial)
    leaves, structure = flatten((args, kwargs))
    given = {Variable(v.type, name=v.name): v for v in map(as_variable, filter(is_variable, leaves))}
    own = iter(given)
    inside = [next(own) if is_variable(v) else symbolic(v) for v in leaves]
    own_args, own_kwargs = unflatten(structure, iter(inside))
    found, form = flatten(fn(*own_args, **own_kwargs))
    try:
        results = [as_variable(v) for v in found]
    except DTypeError:
        line = source.show(source.current())
        raise DTypeError(
            f"{label}: the function returned {unflatten(form, iter(found))!r}, wanted tensors  {line}"
        ) from None
    if not results:
        raise DTypeError(f"{label}: the function returned no tensor  {source.show(source.current())}")
    others = _others(results, given, oldest)
    # The body is a function of symbols of its own: of what was used, one thing may depend on another.
    symbols = {v: Variable(v.type, name=v.name) for v in others}
    body = Graph([*given, *symbols.values()], substitute(results, symbols))
    made = substitute([*results, *others], given)
    n = len(results)
    node = apply_node(Checkpoint(label, n, body), [*made[:n], *given.values(), *made[n:]])
    return unflatten(form, iter(node.outputs))


def _others(results: Iterable[Variable], given: Collection[Variable], oldest: int) -> list[Variable]:
    """What a function used beside its arguments: variables older than its call, and what must not be made twice."""
    found: dict[Variable, None] = {}
    seen: set[Variable] = set()
    stack = list(results)
    while stack:
        v = stack.pop()
        if v in seen or v in given or isinstance(v, Constant):
            continue
        seen.add(v)
        if v.serial < oldest or v.owner is None or not v.owner.op.pure:
            found[v] = None
        else:
            stack.extend(v.owner.inputs)
    return list(found)


__all__ = ["checkpoint"]
