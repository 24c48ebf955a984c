"""The operations, one file per family. Importing this registers all of them in :data:`symgraph.OPS`."""

from symgraph.ops import (
    batched,
    checkpoint,
    contract,
    create,
    cumulative,
    elementwise,
    gather,
    indexing,
    nn,
    rearrange,
    reduce,
    shape,
    shaping,
    sort,
)

__all__ = [
    "batched",
    "checkpoint",
    "contract",
    "create",
    "cumulative",
    "elementwise",
    "gather",
    "indexing",
    "nn",
    "rearrange",
    "reduce",
    "shape",
    "shaping",
    "sort",
]
