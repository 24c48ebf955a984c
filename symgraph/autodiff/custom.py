"""Functions with derivatives of their own: what is computed is a graph, and so is the rule for its derivative."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Sequence
from functools import update_wrapper
from typing import Any, TypeAlias

from symgraph import source
from symgraph.autodiff.arguments import checked, like, several
from symgraph.autodiff.reverse import vjp as reverse_vjp
from symgraph.batching import vmap
from symgraph.errors import DTypeError, NotDifferentiableError, RuleError
from symgraph.graph import Apply, Variable, leaves, toposort
from symgraph.op import ZERO, Absence, Derivative, apply, apply_node, as_variable, differentiable, zeros_like
from symgraph.ops.checkpoint import After, Checkpoint, Computed
from symgraph.ops.shape import broadcast_to

Rule: TypeAlias = Callable[[Sequence[Variable], Sequence[Variable], Sequence[Variable]], list[Derivative]]
"""From inputs, outputs and (co)tangents, none of them absent, to (co)tangents."""


class Custom(Computed):
    """The first ``count`` operands, which were computed from the others, with a rule for their derivative in these.

    Stated is either the vjp or the jvp; the other one is its transpose, which exists where the rule is linear.
    """

    def __init__(self, name: str, count: int, rule: Rule, forward: bool) -> None:
        self.name = name
        self.count = count
        self.rule = rule
        self.forward = forward
        self._batched: Custom | None = None

    def vjp(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], cts: Sequence[Derivative]
    ) -> Sequence[Derivative]:
        arguments = inputs[self.count :]
        given = [zeros_like(v) if isinstance(ct, Absence) else ct for v, ct in zip(outputs, cts, strict=True)]
        if self.forward:
            found = self._transposed(arguments, outputs, [v for v in arguments if differentiable(v)], given)
            results = iter(found)
            found = [next(results) if differentiable(v) else ZERO for v in arguments]
        else:
            found = self.rule(arguments, outputs, given)
        # Nothing flows through what was computed: the rule stands for all of it.
        return [*[ZERO] * self.count, *found]

    def jvp(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], tangents: Sequence[Derivative]
    ) -> Sequence[Derivative]:
        arguments = inputs[self.count :]
        along = tangents[self.count :]
        if not any(isinstance(t, Variable) for t in along):
            return [ZERO] * self.count
        given = [
            zeros_like(v) if isinstance(t, Absence) else t
            for v, t in zip(arguments, along, strict=True)
            if differentiable(v)
        ]
        if self.forward:
            return self.rule(arguments, outputs, given)
        return self._transposed(arguments, outputs, list(outputs), given)

    def _transposed(
        self,
        arguments: Sequence[Variable],
        outputs: Sequence[Variable],
        seeded: Sequence[Variable],
        given: Sequence[Variable],
    ) -> list[Derivative]:
        """The transpose of the rule, a linear map from tensors like ``seeded``, at ``given``."""

        def push(seeds: list[Variable]) -> list[Derivative]:
            return self._float_only(self.rule(arguments, outputs, seeds), arguments)

        mode = "vjp" if self.forward else "jvp"
        return transposed(self.name, mode, push, seeded, given, {*arguments, *outputs, *given})

    def _float_only(self, pushed: Sequence[Derivative], arguments: Sequence[Variable]) -> list[Derivative]:
        """Of a vjp's results, those for arguments that have derivatives."""
        if self.forward:
            return list(pushed)
        return [p for p, v in zip(pushed, arguments, strict=True) if differentiable(v)]

    def batch(self, inputs: Sequence[Variable], batched: Sequence[bool]) -> Sequence[Variable]:
        size = next(v.type.shape[0] for v, b in zip(inputs, batched, strict=True) if b)
        ready = [v if b else broadcast_to(v, (size, *v.type.shape)) for v, b in zip(inputs, batched, strict=True)]
        if self._batched is None:
            self._batched = Custom(self.name, self.count, _over_elements(self.rule), self.forward)
        return apply_node(self._batched, ready).outputs


def transposed(
    name: str,
    mode: str,
    push: Callable[[list[Variable]], Sequence[Derivative]],
    seeded: Sequence[Variable],
    given: Sequence[Variable],
    known: Collection[Variable],
) -> list[Derivative]:
    """The transpose of ``push``, a linear map from tensors like ``seeded``, at ``given``: the other ``mode`` of a rule.

    ``known`` is what the result may depend on. Raises :class:`~symgraph.errors.NotDifferentiableError` where it depends
    on what is pushed, since the map is not linear then.
    """
    seeds = [Variable(v.type) for v in seeded]
    linear = [(p, g) for p, g in zip(push(seeds), given, strict=True) if isinstance(p, Variable)]
    if not linear:
        return [ZERO] * len(seeds)
    pushed = _without_waiting([p for p, _ in linear], seeds)
    back = reverse_vjp(pushed, seeds, [g for _, g in linear], disconnected="none")
    behind = leaves([b for b in back if b is not None], known)
    if not set(seeds).isdisjoint(behind):
        stated = "tangents" if mode == "vjp" else "cotangent"
        raise NotDifferentiableError(f"{name}: the {mode} is not defined: the rule is not linear in the {stated}")
    return [ZERO if b is None else b for b in back]


def _without_waiting(outputs: Sequence[Variable], seeds: Collection[Variable]) -> list[Variable]:
    """``outputs``, in which nothing waits for ``seeds``, as checkpoints in a rule do: the transpose has none."""
    later = set(seeds)
    new: dict[Variable, Variable] = {}
    for node in toposort(outputs):
        if later.isdisjoint(node.inputs):
            continue
        later.update(node.outputs)
        inputs = [new.get(v, v) for v in node.inputs]
        with source.attributed_to(node.sources, node.origin):
            if isinstance(node.op, After):
                waits = [v for v, given in zip(inputs[1:], node.inputs[1:], strict=True) if given not in later]
                new[node.outputs[0]] = apply(node.op, inputs[0], *waits) if waits else inputs[0]
            elif isinstance(node.op, Checkpoint):
                new.update(zip(node.outputs, inputs, strict=False))  # its first operands are what it computed
            elif any(v in new for v in node.inputs):
                new.update(zip(node.outputs, apply_node(node.op, inputs).outputs, strict=True))
    return [new.get(v, v) for v in outputs]


def _over_elements(rule: Rule) -> Rule:
    """``rule`` for a batch of everything."""

    def batched(inputs: Sequence[Variable], outputs: Sequence[Variable], given: Sequence[Variable]) -> list[Derivative]:
        m, n = len(inputs), len(outputs)
        absent: list[Absence | None] = []

        def element(*values: Variable) -> list[Variable]:
            found = rule(values[:m], values[m : m + n], values[m + n :])
            absent.extend(d if isinstance(d, Absence) else None for d in found)
            return [d for d in found if isinstance(d, Variable)]

        results = iter(vmap(element)(*inputs, *outputs, *given))
        return [next(results) if a is None else a for a in absent]

    return batched


def custom_vjp(fn: Callable[..., Any], vjp: Callable[..., Any]) -> Callable[..., Any]:
    """``fn`` with a derivative of its own in reverse mode.

    Args:
        fn: takes variables, and returns a variable or a list or tuple of them.
        vjp: called as ``vjp(*inputs, out, ct)`` with ``fn``'s inputs, its result and the cotangent of the result
            (tuples, where ``fn`` returns several). It returns the cotangent of the input, or for several inputs a
            tuple: variables of the inputs' types, or ``None`` for zero (integers have no other).

    Returns a function of variables. What it computes is ``fn``'s graph, which is optimized and compiled with the rest.
    The rule is a graph too: derivatives of any order come out of it, batches are batches of the rule, and forward mode
    is its transpose where it is linear in ``ct`` (:class:`~symgraph.errors.NotDifferentiableError` where it is not).
    Nothing flows to variables that ``fn`` uses without taking them as inputs. Raises
    :class:`~symgraph.errors.RuleError`, when the function is called, for a rule that returns the wrong number, types or
    sizes.
    """
    return _with_rule("custom_vjp", fn, vjp, forward=False)


def custom_jvp(fn: Callable[..., Any], jvp: Callable[..., Any]) -> Callable[..., Any]:
    """``fn`` with a derivative of its own in forward mode, and its transpose in reverse mode.

    Args:
        fn: takes variables, and returns a variable or a list or tuple of them.
        jvp: called as ``jvp(*inputs, out, *tangents)`` with ``fn``'s inputs, its result (a tuple, where ``fn`` returns
            several), and a tangent for each input of a float dtype. It returns the tangent of the result (a tuple for
            several), a variable of its type, or ``None`` for zero. It is linear in the tangents.

    Otherwise as :func:`custom_vjp`.
    """
    return _with_rule("custom_jvp", fn, jvp, forward=True)


def _with_rule(what: str, fn: Callable[..., Any], stated: Callable[..., Any], forward: bool) -> Callable[..., Any]:
    for f in (fn, stated):
        if not callable(f):
            raise DTypeError(f"{what}: wanted two functions, got {f!r}  {source.show(source.current())}")
    label = f"{what}({getattr(fn, '__name__', type(fn).__name__)})"
    ops: dict[Any, Custom] = {}

    def called(*args: Any) -> Any:
        arguments = [as_variable(a) for a in args]
        results = fn(*arguments)
        outputs = several(f"{label}: the result", results)
        form = type(results) if isinstance(results, list | tuple) else None
        key = (form, len(outputs), len(arguments))
        op = ops.get(key)
        if op is None:
            seeds = sum(map(differentiable, arguments)) if forward else 1
            _check_signature(label, stated, len(arguments) + 1 + seeds)
            op = ops[key] = Custom(label, len(outputs), _rule(label, stated, form, forward), forward)
        node = apply_node(op, [*outputs, *arguments])
        _check(node, op)
        return like(results, node.outputs)

    update_wrapper(called, fn, updated=())
    return called


def _rule(label: str, stated: Callable[..., Any], form: type | None, forward: bool) -> Rule:
    """The user's rule on flat sequences."""

    def rule(inputs: Sequence[Variable], outputs: Sequence[Variable], given: Sequence[Variable]) -> list[Derivative]:
        out = outputs[0] if form is None else tuple(outputs)
        if forward:
            found, single = stated(*inputs, out, *given), form is None
        else:
            found, single = stated(*inputs, out, given[0] if form is None else tuple(given)), len(inputs) == 1
        items = list(found) if isinstance(found, list | tuple) else [found]
        wanted = len(outputs) if forward else len(inputs)
        if len(items) != wanted or (not single and not isinstance(found, list | tuple)):
            raise RuleError(
                f"{label}: its rule returned {len(items)} results, wanted {wanted}  {source.show(source.current())}"
            )
        return [ZERO if d is None else _tensor(label, d) for d in items]

    return rule


def _tensor(label: str, result: Any) -> Variable:
    try:
        return as_variable(result)
    except DTypeError:
        raise RuleError(f"{label}: its rule returned {result!r}  {source.show(source.current())}") from None


def _check_signature(label: str, stated: Callable[..., Any], count: int) -> None:
    try:
        signature = inspect.signature(stated)
    except (TypeError, ValueError):  # of some functions that are not written in Python
        return
    try:
        signature.bind(*range(count))
    except TypeError as error:
        line = source.show(source.current())
        raise RuleError(f"{label}: its rule is called with {count} arguments: {error}  {line}") from None


def _check(node: Apply, op: Custom) -> None:
    """Ask the rule once, so that a wrong one is found where it is used and not where it is differentiated."""
    arguments = node.inputs[op.count :]
    floats = [v for v in arguments if differentiable(v)]
    if not floats or not all(differentiable(v) for v in node.outputs):
        return
    if op.forward:
        checked(node, "jvp", op.rule(arguments, node.outputs, [Variable(v.type) for v in floats]), node.outputs)
    else:
        checked(node, "vjp", op.rule(arguments, node.outputs, [Variable(v.type) for v in node.outputs]), arguments)


__all__ = ["custom_jvp", "custom_vjp"]
