"""What is checked about a call: sizes that the graph states, and values against the reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symgraph import source
from symgraph.errors import SizeError
from symgraph.graph import Apply, Graph
from symgraph.ops.shape import AssertShape, Reshape
from symgraph.passes.fuse import reduced_axes
from symgraph.runtime.sizes import Env, resolve
from symgraph.types import Size, product

EXTREMA = ("max", "min", "arg_max", "arg_min", "max_and_argmax")


@dataclass(frozen=True)
class SizeCheck:
    """What the graph states about a size, checked when it is known: that it equals another, or is that at least."""

    got: Size
    wanted: Size
    message: str
    at_least: bool = False

    def verify(self, env: Env) -> None:
        """Raise :class:`~symgraph.errors.SizeError` where the numbers do not hold what the graph states."""
        got, wanted = resolve(self.got, env), resolve(self.wanted, env)
        if got < wanted if self.at_least else got != wanted:
            raise SizeError(self.message.format(got=got, wanted=wanted))


def lines(nodes: Sequence[Apply]) -> str:
    """The user's lines of nodes."""
    return source.show(frozenset().union(*[n.sources for n in nodes]))


def size_checks(graph: Graph) -> list[SizeCheck]:
    """What the graph states about sizes that only a call can verify."""
    checks = []
    for node in graph.nodes:
        (x, *_), (out, *_) = (node.inputs or (None,)), node.outputs
        if x is None:
            continue
        if isinstance(node.op, AssertShape):
            for axis, (got, wanted) in enumerate(zip(x.type.shape, out.type.shape, strict=True)):
                if got != wanted:
                    message = (
                        f"sizes on axis {axis} of {x.name or x.type} differ: {got} = {{got}}, {wanted} = {{wanted}}"
                    )
                    checks.append(SizeCheck(got, wanted, f"{message}  {_escaped(lines([node]))}"))
        elif isinstance(node.op, Reshape) and x.type.size != product(out.type.shape):
            message = f"reshape: {x.type} of {{got}} elements does not fit into {list(out.type.shape)} of {{wanted}}"
            checks.append(SizeCheck(x.type.size, product(out.type.shape), f"{message}  {_escaped(lines([node]))}"))
        elif node.op.name in EXTREMA:
            for axis in reduced_axes(node.op) or ():
                if not isinstance(x.type.shape[axis], int):
                    message = f"{node.op.name} of no elements: axis {axis} of {x.name or x.type} has size {{got}}"
                    checks.append(
                        SizeCheck(x.type.shape[axis], 1, f"{message}  {_escaped(lines([node]))}", at_least=True)
                    )
    return checks


def _escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def agree(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Whether compiled and reference values are equal up to what reordered sums and other approximations explain."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.dtype.kind != "f":
        return bool(np.array_equal(a, b))
    tolerance = {2: 2e-2, 4: 2e-4, 8: 1e-8}[a.dtype.itemsize]
    scale = float(np.max(np.abs(b[np.isfinite(b)]), initial=0.0)) if b.size else 0.0
    return bool(np.allclose(a, b, rtol=tolerance, atol=tolerance * scale, equal_nan=True))


def describe_difference(a: NDArray[Any], b: NDArray[Any]) -> str:
    """The place and values of the largest difference."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return f"{a.dtype}{list(a.shape)} and {b.dtype}{list(b.shape)}"
    with np.errstate(all="ignore"):
        far = np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64))
    far = np.where(np.isnan(far), np.where(np.isnan(a) == np.isnan(b), 0, np.inf), far) if a.dtype.kind == "f" else far
    at = np.unravel_index(int(np.argmax(far)), far.shape) if far.size else ()
    return f"at {[int(k) for k in at]}: {a[at]!r} and {b[at]!r}"
