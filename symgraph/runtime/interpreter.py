"""The reference interpreter: a graph run op by op in NumPy. It is the oracle of the tests and the target ``numpy``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symgraph import source
from symgraph.errors import CheckError, HostError, IndexRangeError, MissingInputError, SymgraphError
from symgraph.graph import Apply, Constant, Graph, SharedVariable, Variable, toposort
from symgraph.ops.shape import AssertShape
from symgraph.runtime.sizes import Env, as_array, bind_sizes, label, settle, shape_of, substitute_sizes
from symgraph.types import Atom, Size

Observer = Callable[[Variable, NDArray[Any]], None]


def interpret(
    graph: Graph | Variable | Sequence[Variable],
    values: Mapping[Variable, Any] | None = None,
    observe: Observer | None = None,
    env: Mapping[Atom, int] | None = None,
) -> list[NDArray[Any]]:
    """The values of the outputs of ``graph``, from values for any set of its variables.

    Args:
        graph: a graph, or the output or outputs that define one.
        values: a value for each variable that has none of its own: inputs, or any others, in which case what they are
            computed from does not run. Shared variables have their own value unless one is given here.
        observe: called with every variable that is computed and its value, in order.
        env: numbers behind sizes that no value determines.

    Returns fresh arrays of exactly the inferred dtypes and shapes. Raises
    :class:`~symgraph.errors.MissingInputError` where a value is needed and not given,
    :class:`~symgraph.errors.SizeError` where sizes contradict each other, and
    :class:`~symgraph.errors.CheckError` where an op's reference disagrees with its type rule.
    """
    outputs = _outputs(graph)
    given = {v: as_array(v, a, label(v, k)) for k, (v, a) in enumerate((values or {}).items())}
    nodes = toposort(outputs, given)
    table: dict[Variable, NDArray[Any]] = dict(given)
    uses: dict[Variable, int] = {}
    for node in nodes:
        for v in node.inputs:
            uses[v] = uses.get(v, 0) + 1
    for v in outputs:
        uses[v] = uses.get(v, 0) + 1
    shared: dict[Variable, NDArray[Any]] = {}
    for v in uses:
        if v.owner is None and v not in table:
            table[v] = _own_value(v, nodes)
            if isinstance(v, SharedVariable):
                shared[v] = table[v]
    sized = {**given, **shared}
    sizes: Env = bind_sizes(list(sized), list(sized.values()))
    sizes.update(env or {})
    settle([pair for n in nodes if isinstance(n.op, AssertShape) for pair in _stated(n)], sizes)
    for node in nodes:
        results = run_node(node, [table[v] for v in node.inputs], sizes)
        for v in node.inputs:
            uses[v] -= 1
            if not uses[v]:
                del table[v]
        for v, a in zip(node.outputs, results, strict=True):
            if v in given:
                continue
            if observe is not None:
                observe(v, a)
            if uses.get(v):
                table[v] = a
    return [np.array(table[v], order="C") for v in outputs]


def run_node(node: Apply, arrays: Sequence[NDArray[Any]], sizes: Mapping[Atom, int]) -> list[NDArray[Any]]:
    """The outputs of one node from the values of its inputs, by its op's reference, checked against their types."""
    try:
        found = substitute_sizes(node.op, sizes).reference(*arrays)
    except Exception as error:
        line = source.show(node.sources)
        if node.op.host:  # whatever a user's function raises
            types = ", ".join(
                f"{v.name or 'operand'}: {a.dtype.name}{list(a.shape)}"
                for v, a in zip(node.inputs, arrays, strict=True)
            )
            raise HostError(f"{node.op}: {type(error).__name__}: {error} :: {types}   {line}") from error
        if isinstance(error, SymgraphError):
            raise type(error)(f"{error}  {line}" if line not in str(error) else str(error)) from error
        if isinstance(error, IndexError):
            raise IndexRangeError(f"{node.op.name}: {error}  {line}") from error
        raise
    results = [np.asarray(a) for a in (found if isinstance(found, tuple | list) else (found,))]
    who = "its function" if node.op.host else "the reference"
    if len(results) != len(node.outputs):
        line = source.show(node.sources)
        raise CheckError(f"{node.op}: {who} gives {len(results)} results, the type rule {len(node.outputs)}  {line}")
    for v, a in zip(node.outputs, results, strict=True):
        shape = shape_of(v.type.shape, sizes)
        if a.dtype != v.type.dtype or a.shape != shape:
            operands, line = ", ".join(f"{x.type}" for x in node.inputs), source.show(node.sources)
            raise CheckError(
                f"{node.op}: {who} gives {a.dtype.name}{list(a.shape)}, the type rule says "
                f"{v.type} = {v.type.dtype.name}{list(shape)} :: {operands}  {line}"
            )
    return results


def _stated(node: Apply) -> list[tuple[Size, Size]]:
    return list(zip(node.inputs[0].type.shape, node.outputs[0].type.shape, strict=True))


def _outputs(graph: Graph | Variable | Sequence[Variable]) -> list[Variable]:
    if isinstance(graph, Graph):
        return list(graph.outputs)
    return [graph] if isinstance(graph, Variable) else list(graph)


def _own_value(v: Variable, nodes: Sequence[Apply]) -> NDArray[Any]:
    if isinstance(v, Constant):
        return v.data
    if isinstance(v, SharedVariable):
        return v.get_value()
    user = next((n for n in nodes if any(x is v for x in n.inputs)), None)
    where = f", which {user.op.name} uses {source.show(user.sources)}" if user is not None else ""
    raise MissingInputError(f"no value was given for {v.name or 'an input'}: {v.type}{where}  {source.show(v.sources)}")
