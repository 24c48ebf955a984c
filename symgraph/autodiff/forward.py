"""Forward mode: tangents pushed through a graph by each op's ``jvp``, from graph to graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from symgraph import source
from symgraph.autodiff.arguments import (
    Disconnected,
    check_distinct,
    check_floats,
    check_option,
    checked,
    final,
    like,
    matching,
    several,
    show,
)
from symgraph.autodiff.reverse import connected, grad, located
from symgraph.errors import NotDifferentiableError
from symgraph.graph import Apply, Interner, Variable, interning, toposort
from symgraph.op import DISCONNECTED, ZERO, Derivative, Undefined
from symgraph.retake import retakable


@retakable
def jvp(y: Any, x: Any, tangent: Any, disconnected: Disconnected = "raise") -> Any:
    """The Jacobian-vector product ``dy/dx · tangent``: for each variable of ``y``, a variable of its type.

    Args:
        y: a variable of a float dtype and any shape, or a list or tuple of them; the result has the same structure.
        x: a variable of a float dtype, any variable of the graph, or a list or tuple of distinct ones.
        tangent: for each ``x``, a tensor of its type: the direction.
        disconnected: what to return for a ``y`` that depends on no ``x``: ``"raise"`` an error, ``"zero"``s, or
            ``"none"`` (``None``).

    The stable form of ``y`` is differentiated, as by :func:`~symgraph.autodiff.reverse.grad`. Raises what that raises.
    """
    check_option(disconnected)
    outputs, sources = several("jvp: y", y), several("jvp: x", x)
    check_floats("jvp: y", outputs)
    check_floats("jvp: x", sources)
    check_distinct("jvp: x", sources)
    line = source.show(source.current())
    tangents = matching("jvp: the tangent", tangent, sources, x)
    # As in grad: the tangent of log(1 + exp(x)) as it stands is inf / inf for large x.
    from symgraph.rewrite.stable import stable_form  # not needed to build a graph

    stable = stable_form(outputs, sources)
    order = toposort(stable)
    on_path = connected(order, sources)
    needed = _needed(order, stable)
    fixed = dict(zip(sources, tangents, strict=True))
    table: dict[Variable, Derivative] = {**fixed}
    with interning(Interner([*stable, *tangents])):
        for node in order:
            if not any(v in on_path for v in node.inputs) or not any(v in needed for v in node.outputs):
                continue
            results = push(node, [table.get(v, DISCONNECTED) for v in node.inputs])
            table.update((v, d) for v, d in zip(node.outputs, results, strict=True) if v not in fixed)
        found: list[Variable | None] = []
        for given, v in zip(outputs, stable, strict=True):
            d = table.get(v, DISCONNECTED)
            why = f"jvp: {show(given)} does not depend on {', '.join(map(show, sources))} as a real function"
            with source.attributed_to(v.sources, v.origin.derived("tangent", v.serial)):
                found.append(final(d, v, disconnected, why, line))
        return like(y, found)


def _needed(order: Sequence[Apply], outputs: Sequence[Variable]) -> set[Variable]:
    """Variables whose tangents ``outputs`` need: what they are computed from, up to ops that stop derivatives."""
    out = set(outputs)
    for node in reversed(order):
        if not node.op.stops and any(v in out for v in node.outputs):
            out.update(node.inputs)
    return out


def push(node: Apply, tangents: Sequence[Derivative]) -> Sequence[Derivative]:
    """Tangents of one node's outputs, given those of its inputs."""
    if not any(isinstance(t, Variable) for t in tangents):
        absent = ZERO if any(t is ZERO for t in tangents) and not node.op.stops else DISCONNECTED
        return [absent] * len(node.outputs)
    with source.attributed_to(node.sources, node.origin.derived("tangent", node.outputs[0].serial)):
        try:
            found = node.op.jvp(node.inputs, node.outputs, tangents)
        except NotDifferentiableError as error:
            raise located(error, node) from None
        results = checked(node, "jvp", found, node.outputs)
    for d in results:
        if isinstance(d, Undefined):
            raise located(node.op.undefined(d.why), node)
    return results


def hvp(cost: Variable, wrt: Any, v: Any) -> Any:
    """The Hessian-vector product: the directional derivative of the gradient along ``v``, never the matrix. [6.5.10]

    ``wrt`` is a variable or a list or tuple of them, ``v`` the direction, a tensor for each; the result has the
    structure of ``wrt``. Where the gradient does not depend on ``wrt`` (a linear cost) the result is zeros.
    """
    return jvp(grad(cost, wrt), wrt, v, disconnected="zero")
