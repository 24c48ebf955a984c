"""The operations, one file per family. Importing this registers all of them in :data:`symgraph.op.OPS`."""

from symgraph.ops import create, elementwise, gather, indexing, nn, reduce, shape

__all__ = ["create", "elementwise", "gather", "indexing", "nn", "reduce", "shape"]
