"""Reverse mode: the table-filling algorithm, from graph to graph. [6.5.6]

One slot per variable holds the contributions to its gradient. Nodes are visited once, consumers first, so a slot is
complete when its variable's producer is reached; there the contributions become one
:class:`~symgraph.ops.elementwise.Accumulate`, and the op's own rule turns the sum into contributions to the op's
inputs. The cost is linear in the edges of the graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, overload

from symgraph import source
from symgraph.autodiff.arguments import (
    Disconnected,
    check_floats,
    check_option,
    checked,
    final,
    like,
    matching,
    several,
    show,
)
from symgraph.errors import CostError, FormatError, NotDifferentiableError
from symgraph.graph import Apply, Interner, Variable, interning, toposort
from symgraph.op import DISCONNECTED, ZERO, Derivative, TensorLike, Undefined, accumulate, constant, differentiable
from symgraph.retake import retakable


@overload
def grad(
    cost: Variable | None,
    wrt: Variable,
    disconnected: Literal["raise", "zero"] = ...,
    known: Mapping[Variable, TensorLike] | None = ...,
) -> Variable: ...
@overload
def grad(
    cost: Variable | None,
    wrt: list[Variable],
    disconnected: Literal["raise", "zero"] = ...,
    known: Mapping[Variable, TensorLike] | None = ...,
) -> list[Variable]: ...
@overload
def grad(
    cost: Variable | None,
    wrt: tuple[Variable, ...],
    disconnected: Literal["raise", "zero"] = ...,
    known: Mapping[Variable, TensorLike] | None = ...,
) -> tuple[Variable, ...]: ...
@overload
def grad(
    cost: Variable | None,
    wrt: Any,
    disconnected: Disconnected = ...,
    known: Mapping[Variable, TensorLike] | None = ...,
) -> Any: ...
@retakable
def grad(
    cost: Variable | None,
    wrt: Any,
    disconnected: Disconnected = "raise",
    known: Mapping[Variable, TensorLike] | None = None,
) -> Any:
    """The gradient of a scalar cost: for each variable of ``wrt``, a variable of its type. [6.5.6]

    Args:
        cost: a scalar of a float dtype. ``None`` where the gradient starts from ``known`` alone.
        wrt: a variable of a float dtype, any variable of the graph, or a list or tuple of them; the result has the same
            structure.
        disconnected: what to return for a variable that the cost does not depend on, or only through integers,
            conditions or ``stop_gradient``: ``"raise"`` an error, ``"zero"``s, or ``"none"`` (``None``). A derivative
            that exists and is zero (``floor``) is zeros always.
        known: gradients of variables of the graph that are given instead of computed.

    Raises :class:`~symgraph.errors.CostError` for a cost that is not a float scalar,
    :class:`~symgraph.errors.DTypeError` for a target without derivative, :class:`~symgraph.errors.DisconnectedError`,
    :class:`~symgraph.errors.NotDifferentiableError` where the derivative of an op on the way is undefined.
    """
    check_option(disconnected)
    targets = several("grad: wrt", wrt)
    check_floats("grad: wrt", targets)
    line = source.show(source.current())
    if known is not None and not isinstance(known, Mapping):
        raise FormatError(f"grad: known must be a mapping from variables to gradients, got {known!r}  {line}")
    seeds: list[tuple[Variable, Derivative]] = []
    if cost is not None:
        found = getattr(cost, "variable", None)
        if not isinstance(found, Variable):
            raise CostError(f"grad: the cost must be a variable, got {cost!r} of type {type(cost).__name__}  {line}")
        if found.type.ndim:
            raise CostError(
                f"grad: the cost must be a scalar, got {show(found)}; sum it, or use vjp for a product "
                f"with its Jacobian  {line}"
            )
        if not differentiable(found):
            raise CostError(f"grad: the cost must be of a float dtype, got {show(found)}  {line}")
        # What is written naively is differentiated in its stable form: a derivative of log(1 + exp(x)) as it stands
        # is inf / inf for large x, and no rule could repair all that later derivatives would make of it.
        from symgraph.rewrite.stable import stable_form  # not needed to build a graph

        (found,) = stable_form([found], [*targets, *(known or {})])
        with source.attributed_to(found.sources, found.origin.derived("adjoint", found.serial)):
            seeds.append((found, constant(1, found.type.dtype)))
    elif not known:
        raise CostError(f"grad: needs a cost, or known gradients to start from  {line}")
    fixed: dict[Variable, Variable] = {}
    for v, g in (known or {}).items():
        check_floats("grad: known", several("grad: a key of known", v))
        (fixed[v],) = matching("grad: the known gradient", g, [v], v)
    return like(wrt, _backward("grad", seeds, fixed, targets, disconnected))


@overload
def vjp(y: Any, x: Variable, cotangent: Any, disconnected: Literal["raise", "zero"] = ...) -> Variable: ...
@overload
def vjp(y: Any, x: list[Variable], cotangent: Any, disconnected: Literal["raise", "zero"] = ...) -> list[Variable]: ...
@overload
def vjp(
    y: Any, x: tuple[Variable, ...], cotangent: Any, disconnected: Literal["raise", "zero"] = ...
) -> tuple[Variable, ...]: ...
@overload
def vjp(y: Any, x: Any, cotangent: Any, disconnected: Disconnected = ...) -> Any: ...
@retakable
def vjp(y: Any, x: Any, cotangent: Any, disconnected: Disconnected = "raise") -> Any:
    """The vector-Jacobian product ``cotangentᵀ · dy/dx``: for each variable of ``x``, a variable of its type.

    Args:
        y: a variable of a float dtype and any shape, or a list or tuple of them.
        x: a variable of a float dtype, or a list or tuple of them; the result has the same structure.
        cotangent: for each ``y``, a tensor of its type.
        disconnected: as in :func:`grad`.
    """
    check_option(disconnected)
    outputs, targets = several("vjp: y", y), several("vjp: x", x)
    check_floats("vjp: y", outputs)
    check_floats("vjp: x", targets)
    cts = matching("vjp: the cotangent", cotangent, outputs, y)
    from symgraph.rewrite.stable import stable_form  # not needed to build a graph

    stable = stable_form(outputs, targets)  # as in grad
    return like(x, _backward("vjp", list(zip(stable, cts, strict=True)), {}, targets, disconnected))


def _backward(
    what: str,
    seeds: Sequence[tuple[Variable, Derivative]],
    fixed: Mapping[Variable, Variable],
    targets: Sequence[Variable],
    disconnected: Disconnected,
) -> list[Variable | None]:
    starts = [*dict.fromkeys(v for v, _ in seeds), *fixed]
    order = toposort(starts)
    on_path = connected(order, targets)
    with interning(Interner([*starts, *(g for _, g in seeds if isinstance(g, Variable)), *fixed.values()])):
        table: dict[Variable, list[Derivative]] = {}
        for v, g in seeds:
            table.setdefault(v, []).append(g)

        def slot(v: Variable) -> Derivative:
            if v in fixed:
                return fixed[v]
            terms = table.get(v)
            if terms is None:
                return DISCONNECTED
            if len(terms) > 1:
                with source.attributed_to(v.sources, v.origin.derived("adjoint", v.serial)):
                    table[v] = terms = [accumulate(terms)]
            return terms[0]

        for node in reversed(order):
            if not any(v in on_path for v in node.inputs):
                continue
            contributions = _visit(node, [slot(v) for v in node.outputs], on_path)
            for v, d in zip(node.inputs, contributions, strict=True):
                if d is not DISCONNECTED and v in on_path:
                    table.setdefault(v, []).append(d)
        in_graph = {v for node in order for v in node.inputs} | set(starts)
        results = []
        for v in targets:
            with source.attributed_to(v.sources, v.origin.derived("adjoint", v.serial)):
                d = slot(v)
            if v in in_graph:
                why = f"the result depends on {show(v)} only through integers, conditions or stop_gradient"
            else:
                why = f"the result does not depend on {show(v)}"
            results.append(final(d, v, disconnected, f"{what}: {why}", source.show(source.current())))
        return results


def connected(order: Sequence[Apply], targets: Iterable[Variable]) -> set[Variable]:
    """The variables that depend on ``targets`` through float variables, targets included; ``order`` is topological."""
    out = {v for v in targets if differentiable(v)}
    for node in order:
        if not node.op.stops and any(v in out for v in node.inputs):
            out.update(v for v in node.outputs if differentiable(v))
    return out


def _visit(node: Apply, cts: Sequence[Derivative], on_path: set[Variable]) -> Sequence[Derivative]:
    """Contributions of one node to the gradients of its inputs."""
    if not any(isinstance(ct, Variable) for ct in cts):
        absent = ZERO if any(ct is ZERO for ct in cts) and not node.op.stops else DISCONNECTED
        return [absent if differentiable(v) else DISCONNECTED for v in node.inputs]
    # An output that nothing differentiable uses contributes nothing: to a rule, its cotangent is zero.
    given = [ZERO if ct is DISCONNECTED else ct for ct in cts]
    with source.attributed_to(node.sources, node.origin.derived("adjoint", node.outputs[0].serial)):
        try:
            found = node.op.vjp(node.inputs, node.outputs, given)
        except NotDifferentiableError as error:
            raise located(error, node) from None
        results = checked(node, "vjp", found, node.inputs)
    for v, d in zip(node.inputs, results, strict=True):
        if isinstance(d, Undefined) and v in on_path:
            raise located(node.op.undefined(d.why), node)
    return results


def located(error: NotDifferentiableError, node: Apply) -> NotDifferentiableError:
    """``error`` with the operands and the line of the node where it arose."""
    operands = ", ".join(f"{v.name or f'operand {i}'}: {v.type}" for i, v in enumerate(node.inputs))
    return NotDifferentiableError(f"{error} :: {operands}   {source.show(node.sources)}")
