"""Nodes whose value is known when the graph is built."""

from __future__ import annotations

from typing import Final

import numpy as np

from symgraph import source
from symgraph.graph import Apply, Constant, Variable
from symgraph.op import constant
from symgraph.ops.shape import AssertShape, Broadcast, broadcast_to

# Larger values are folded only where they are no larger than what they are made of: a program must not grow by folding.
LARGEST_BYTES: Final = 1 << 16
_WORD: Final = 8


def folded_outputs(node: Apply) -> list[Variable] | None:
    """The outputs of a node of constants as constants, or ``None`` where they are not to be computed now.

    Never for a broadcast (its point is not to be written out), for an op that must not merge, where a size is
    symbolic or the result is large, and where the computation fails: then the error belongs to the run.
    """
    op = node.op
    given = 0
    for v in node.inputs:
        if type(v) is not Constant:
            return None
        given += v.data.nbytes
    if not op.pure or type(op) is Broadcast or type(op) is AssertShape:
        return None
    wanted = 0
    for v in node.outputs:
        size = v.type.size
        if not isinstance(size, int) or not all(isinstance(s, int) for s in v.type.shape):
            return None
        wanted += size * v.type.dtype.itemsize
    # An array that follows from its sizes alone is made where it is used.
    if wanted > (max(LARGEST_BYTES, given) if node.inputs else _WORD):
        return None
    try:
        with np.errstate(all="ignore"):
            made = op.reference(*[v.data for v in node.inputs if isinstance(v, Constant)])
    except Exception:  # whatever a reference raises, a user's op's included
        return None
    arrays = made if isinstance(made, tuple) else (made,)
    out: list[Variable] = []
    for array, v in zip(arrays, node.outputs, strict=True):
        array = np.asarray(array)
        if array.dtype != v.type.dtype or array.shape != v.type.shape:
            return None
        out.append(constant_of(array, node.sources, v.name))
    return out


def constant_of(
    array: np.ndarray[tuple[int, ...], np.dtype[np.generic]], sources: source.Sources, name: str | None
) -> Variable:
    """A constant in normal form: where all elements are the same bits, one number that is broadcast."""
    with source.attributed_to(sources, source.origin()):
        if array.ndim and array.size:
            first = array.reshape(-1)[:1]
            bits = np.dtype(f"V{array.dtype.itemsize}")
            if np.all(np.ascontiguousarray(array).view(bits) == first.view(bits)):
                return broadcast_to(constant(first[0], name=name), array.shape)
        return constant(array, name=name)
