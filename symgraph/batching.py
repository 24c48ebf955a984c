"""Batching: a graph over one element becomes the graph over a whole axis of them, by each op's batching rule.

The result is made of the same ops on larger tensors, never of a loop, so a batch of products is one product.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from symgraph import source
from symgraph.callables import OnArrays, Structure, flatten, is_function, is_tensor, is_variable, symbolic, unflatten
from symgraph.errors import DTypeError, FormatError, RankError, RuleError, SizeError
from symgraph.graph import Apply, Interner, Variable, interning, toposort
from symgraph.op import as_variable, axis_of
from symgraph.ops.shape import assert_shape, broadcast_to, moveaxis
from symgraph.retake import carried
from symgraph.types import Size, TensorType, normalize_axis, unify


def vectorize(outputs: Any, replace: Mapping[Variable, Variable]) -> Any:
    """``outputs`` over a new axis in front: ``replace={x: X}`` gives each ``x`` a tensor ``X`` of its elements.

    Args:
        outputs: a variable, or a list or tuple of them; the result has the same structure.
        replace: for variables of the graph (any, not only inputs), tensors of their types with one more axis in
            front, all of the same size there.

    Every output of the result has the new axis in front; one that depends on no replaced variable is repeated along it.
    Raises :class:`~symgraph.errors.RankError`, :class:`~symgraph.errors.DTypeError` or
    :class:`~symgraph.errors.SizeError` where a tensor does not fit, :class:`~symgraph.errors.RuleError` where an op's
    rule returns the wrong types.
    """
    from symgraph.autodiff.arguments import like, several

    wanted = several("vectorize: outputs", outputs)
    table, size = _replacements(replace)
    order = toposort(wanted, table)
    with interning(Interner([*wanted, *table.values()])):
        for node in order:
            flags = [v in table for v in node.inputs]
            if any(flags):
                results = _visit(node, [table.get(v, v) for v in node.inputs], flags, size)
                for v, r in zip(node.outputs, results, strict=True):
                    if v not in replace:
                        table[v] = r
                        carried(v, r, lambda u: vectorize(u, replace))
        results = []
        for v in wanted:
            with source.attributed_to(v.sources, v.origin):
                results.append(table[v] if v in table else broadcast_to(v, (size, *v.type.shape)))
    return like(outputs, results)


def _replacements(replace: Mapping[Variable, Variable]) -> tuple[dict[Variable, Variable], Size]:
    """The batched variables, all of one batch size, and that size."""
    line = source.show(source.current())
    if not isinstance(replace, Mapping):
        raise FormatError(f"vectorize: replace must be a mapping from variables to batches, got {replace!r}  {line}")
    if not replace:
        raise SizeError(f"vectorize: needs at least one variable to replace  {line}")
    size: Size | None = None
    given: dict[Variable, Variable] = {}
    for v, value in replace.items():
        if not isinstance(v, Variable):
            raise DTypeError(f"vectorize: a key of replace must be a variable of a graph, got {v!r}  {line}")
        X = as_variable(value)
        what = f"vectorize: the batch for {v.name or 'variable'}: {v.type}"
        if X.type.dtype != v.type.dtype:
            raise DTypeError(f"{what} has type {X.type}  {line}")
        if X.type.ndim != v.type.ndim + 1:
            raise RankError(f"{what} must have one axis more, in front, got {X.type}  {line}")
        if any(unify(a, b) is None for a, b in zip(X.type.shape[1:], v.type.shape, strict=True)):
            raise SizeError(f"{what} has type {X.type}: sizes behind the first axis differ  {line}")
        both = X.type.shape[0] if size is None else unify(size, X.type.shape[0])
        if both is None:
            raise SizeError(f"{what}: batch sizes {size} and {X.type.shape[0]} differ  {line}")
        size, given[v] = both, X
    assert size is not None
    return {v: assert_shape(X, (size, *v.type.shape)) for v, X in given.items()}, size


def _visit(node: Apply, inputs: Sequence[Variable], flags: Sequence[bool], size: Size) -> list[Variable]:
    """The batched outputs of one node."""
    name, line = node.op.name, source.show(node.sources)
    with source.attributed_to(node.sources, node.origin):
        try:
            found = list(node.op.batch(inputs, flags))
        except NotImplementedError:
            raise RuleError(f"{name} has no batching rule  {line}") from None
        if len(found) != len(node.outputs):
            raise RuleError(
                f"{name}: its batching rule returned {len(found)} results, wanted {len(node.outputs)}  {line}"
            )
        for k, (r, v) in enumerate(zip(found, node.outputs, strict=True)):
            want = TensorType(v.type.dtype, (size, *v.type.shape))
            if r.type == want:
                continue
            fits = r.type.dtype == want.dtype and r.type.ndim == want.ndim
            if not fits or any(unify(a, b) is None for a, b in zip(r.type.shape, want.shape, strict=True)):
                raise RuleError(f"{name}: its batching rule returned {r.type}, wanted {want}  {line}")
            found[k] = assert_shape(r, want.shape)
        return found


def vmap(fn: Callable[..., Any], in_axes: Any = 0, out_axes: Any = 0) -> OnArrays:
    """``fn`` over an axis of its arguments: ``vmap(f)(X)`` stacks ``f(X[i])``, without a loop.

    Args:
        fn: takes and returns variables, or nested lists, tuples and dicts of them; other variables that it uses are
            shared by all elements.
        in_axes: the axis to map: one for all positional arguments or, as a tuple or list, one for each, which again is
            one for all that is in the argument, or nested like it. ``None`` for what is not mapped. Keyword arguments
            are mapped over their first axis. Strings, booleans and functions are passed on as they are.
        out_axes: where the axis goes in the results, for all or nested like the result.

    Returns a function that builds a graph of variables, and compiles on first use and runs on arrays. It raises
    :class:`~symgraph.errors.RankError` for an axis that does not exist or axes that are not nested like the arguments,
    and :class:`~symgraph.errors.SizeError` where mapped axes differ in size. Calls nest, and mix with derivatives.
    """
    if not is_function(fn):
        raise DTypeError(f"vmap: wanted a function, got {fn!r}  {source.show(source.current())}")
    return OnArrays("vmap", fn, lambda args, kwargs: _mapped(fn, args, kwargs, in_axes, out_axes))


def _mapped(fn: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], in_axes: Any, out_axes: Any) -> Any:
    leaves, structure = flatten((tuple(args), dict(kwargs)))
    _, (of_args, of_kwargs) = structure
    axes = [*_axes("in_axes", in_axes, of_args, "arguments"), *_axes("in_axes", 0, of_kwargs, "")]
    replace: dict[Variable, Variable] = {}
    elements: list[Any] = []
    for value, axis in zip(leaves, axes, strict=True):
        if axis is None or not (is_variable(value) or is_tensor(value)):
            elements.append(symbolic(value))
            continue
        v = as_variable(value)
        axis = axis_of("vmap", v, axis)
        element = Variable(v.type.without((axis,)), name=v.name)
        replace[element] = moveaxis(v, axis, 0)
        elements.append(element)
    if not replace:
        raise SizeError(f"vmap: no argument is mapped  {source.show(source.current())}")
    own_args, own_kwargs = unflatten(structure, iter(elements))
    results, form = flatten(fn(*own_args, **own_kwargs))
    stacked = vectorize([_result(r) for r in results], replace)
    places = _axes("out_axes", out_axes, form, "results")
    return unflatten(form, iter([_placed(r, a) for r, a in zip(stacked, places, strict=True)]))


def _result(value: Any) -> Variable:
    try:
        return as_variable(value)
    except DTypeError:
        line = source.show(source.current())
        raise DTypeError(f"vmap: the function returned {value!r}, wanted tensors  {line}") from None


def _placed(result: Variable, axis: Any) -> Variable:
    """A result with its first axis where it is wanted."""
    try:
        return moveaxis(result, 0, normalize_axis(axis, result.type.ndim, "vmap: out_axes"))
    except RankError as error:
        raise RankError(f"{error}  {source.show(source.current())}") from None


def _axes(what: str, axes: Any, structure: Structure, of: str) -> list[Any]:
    """An axis for each leaf of ``structure``."""
    if structure is None:
        if isinstance(axes, list | tuple | dict):
            raise RankError(f"vmap: {what} has {axes!r} for a tensor  {source.show(source.current())}")
        return [axes]
    kind, parts = structure
    if kind is dict:
        each = axes if isinstance(axes, dict) else dict.fromkeys([k for k, _ in parts], axes)
        if {*each} != {k for k, _ in parts}:
            line = source.show(source.current())
            raise RankError(f"vmap: {what} has entries {[*each]} for {[k for k, _ in parts]}  {line}")
        return [a for k, s in parts for a in _axes(what, each[k], s, "tensors")]
    given = axes if isinstance(axes, list | tuple) else [axes] * len(parts)
    if isinstance(axes, dict) or len(given) != len(parts):
        line = source.show(source.current())
        raise RankError(f"vmap: {what} has {len(given)} entries for {len(parts)} {of}  {line}")
    return [a for x, s in zip(given, parts, strict=True) for a in _axes(what, x, s, "tensors")]
