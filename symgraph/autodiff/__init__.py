"""Derivatives, from graph to graph: one file for each way. :mod:`symgraph.autodiff.functional` takes functions, too."""

from symgraph.autodiff.forward import hvp, jvp
from symgraph.autodiff.reverse import grad, vjp

__all__ = ["grad", "hvp", "jvp", "vjp"]
