"""Derivatives, from graph to graph: reverse mode and forward mode, one file each."""

from symgraph.autodiff.forward import hvp, jvp
from symgraph.autodiff.reverse import grad, vjp

__all__ = ["grad", "hvp", "jvp", "vjp"]
