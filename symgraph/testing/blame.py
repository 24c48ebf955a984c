"""Which operation of a graph has a derivative that is not that of its value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symgraph import source
from symgraph.autodiff import vjp
from symgraph.autodiff.custom import Custom
from symgraph.errors import SymgraphError
from symgraph.graph import Apply, SharedVariable, Variable, toposort
from symgraph.runtime.interpreter import interpret
from symgraph.testing.numeric import extrapolated
from symgraph.types import is_float

Array = NDArray[Any]
NODES = 400  # of larger graphs nobody waits for the answer


def blame(outputs: Sequence[Variable], values: Mapping[Variable, Array], rng: np.random.Generator) -> list[str] | None:
    """Names and lines of the operations whose vjp differs from differences of their reference; ``None``: not looked.

    ``values`` gives the inputs of the graph. Derivatives of float64 alone are looked at.
    """
    nodes = toposort(outputs)
    if len(nodes) > NODES:
        return None
    known = list(dict.fromkeys(v for n in nodes for v in (*n.inputs, *n.outputs)))
    with np.errstate(all="ignore"):
        table = {**values, **dict(zip(known, interpret(known, values), strict=True))}
    guilty = []
    for node in nodes:
        try:
            if not _agrees(node, table, rng):
                guilty.append(f"{node.op.name} {source.show(node.sources)}")
        except SymgraphError:
            continue  # of what is not defined, or runs at certain sizes only, nothing is known
    return list(dict.fromkeys(guilty))


def _agrees(node: Apply, values: Mapping[Variable, Array], rng: np.random.Generator) -> bool:
    """Whether the vjp of a node is that of its reference, or of the graph behind it for a derivative that is stated."""
    stated = node.op.count if isinstance(node.op, Custom) else 0
    symbols = [Variable(v.type) for v in node.inputs]
    made = Apply(node.op, tuple(symbols), [v.type for v in node.outputs], node.sources).outputs
    point = dict(zip(symbols, (values[v] for v in node.inputs), strict=True))
    real = [k for k, v in enumerate(node.outputs) if is_float(v.type.dtype)]
    floats = [i for i, v in enumerate(node.inputs) if i >= stated and is_float(v.type.dtype) and values[v].size]
    narrow = any(is_float(v.type.dtype) and v.type.dtype.itemsize < 8 for v in (*node.inputs, *node.outputs))
    if not real or not floats or narrow:
        return True
    cts = [np.asarray(rng.uniform(0.5, 1.5, values[node.outputs[k]].shape)) for k in real]
    gradients = vjp([made[k] for k in real], [symbols[i] for i in floats], cts, disconnected="zero")
    with np.errstate(all="ignore"):
        found = interpret(gradients, point)
    for i, g in zip(floats, found, strict=True):
        d = np.asarray(rng.uniform(0.5, 1.5, g.shape))

        def f(t: float, i: int = i, d: Array = d) -> list[Array]:
            if stated:
                moved = {
                    v: values[v] + t * d if n == i else values[v] for n, v in enumerate(node.inputs) if n >= stated
                }
                y = interpret([node.inputs[k] for k in real], {**_leaves(values), **moved})
            else:
                y = interpret([made[k] for k in real], {**point, symbols[i]: point[symbols[i]] + t * d})
            return [np.array([sum(float(np.sum(a * c)) for a, c in zip(y, cts, strict=True))])]

        (wanted,), (error,) = extrapolated(f, 2.0**-6)
        got = float(np.sum(g * d))
        if not abs(got - float(wanted[0])) <= 1e-6 * max(abs(got), abs(float(wanted[0])), 1e-2) + float(error[0]):
            return False
    return True


def _leaves(values: Mapping[Variable, Array]) -> dict[Variable, Array]:
    return {v: a for v, a in values.items() if v.owner is None and not isinstance(v, SharedVariable)}
