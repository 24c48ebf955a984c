"""Recomputing instead of storing: results that know how to be computed again, and the order that makes it worth while.

A checkpoint is the identity on what was computed. Its cotangent rule does not look at the intermediate results: it
computes them again from the arguments, which stand behind :class:`After`, so that no pass takes the second computation
for the first and none moves it to a place before the cotangent. Griewank and Walther, Evaluating Derivatives, 2nd ed.,
chapter 12; Chen et al. 2016 (Training deep nets with sublinear memory cost).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from symgraph import index as ix
from symgraph.errors import DTypeError
from symgraph.graph import Graph, Variable
from symgraph.op import DISCONNECTED, Derivative, Op, Sample, apply, apply_node, differentiable, op
from symgraph.ops.shape import broadcast_to
from symgraph.substitute import substitute
from symgraph.types import TensorType

if TYPE_CHECKING:
    from symgraph.ops.series import Series


@op
class After(Op):
    """``x``, for what is to be computed only once the other operands are there.   x: T[S], others: any -> T[S]

    It costs nothing: what uses it reads ``x`` where it lies. It is no other value than ``x`` to a kernel, and another
    one to every pass that looks for equal expressions.
    """

    def infer(self, *inputs: TensorType) -> TensorType:
        if not inputs:
            raise DTypeError("after takes one or more tensors")
        return inputs[0]

    def reference(self, *inputs: NDArray[Any]) -> NDArray[Any]:
        return inputs[0]

    def vjp(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], cts: Sequence[Derivative]
    ) -> Sequence[Derivative]:
        return [cts[0], *[DISCONNECTED] * (len(inputs) - 1)]

    def jvp(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], tangents: Sequence[Derivative]
    ) -> Sequence[Derivative]:
        return [tangents[0]]

    def series(self, k: int, inputs: Sequence[Series], outputs: Sequence[Series]) -> Sequence[Derivative]:
        return [inputs[0](k)]

    def batch(self, inputs: Sequence[Variable], batched: Sequence[bool]) -> Sequence[Variable]:
        late = apply(self, *inputs)
        if batched[0]:
            return [late]
        size = next(v.type.shape[0] for v, b in zip(inputs, batched, strict=True) if b)
        return [broadcast_to(late, (size, *late.type.shape))]

    def lower(self, index: ix.Index, *inputs: ix.Tensor) -> ix.Expr:
        return inputs[0][index]

    def samples(self) -> list[Sample]:
        x = np.arange(6.0).reshape(2, 3)
        return [Sample(self, (x, np.array([1.0, 2.0]))), Sample(self, (x, x, np.array(3.0))), Sample(self, (x[:0],))]


class Computed(Op):
    """The first ``count`` operands, which were computed from the others: a place for a derivative of one's own."""

    count: int

    def infer(self, *inputs: TensorType) -> TensorType | tuple[TensorType, ...]:
        return inputs[0] if self.count == 1 else inputs[: self.count]

    def reference(self, *inputs: NDArray[Any]) -> Any:
        return inputs[0] if self.count == 1 else tuple(inputs[: self.count])

    def decompose(self, *inputs: Variable) -> Any:
        """The graph that is compiled: what was computed."""
        return inputs[0] if self.count == 1 else tuple(inputs[: self.count])


class Checkpoint(Computed):
    """The first operands, which ``body`` computes from the others, and computes again for their cotangents.

    Every derivative of a checkpoint is one too, of the body that computes it. Forward mode and series pass through the
    first operands: nothing is recomputed for them.
    """

    def __init__(self, name: str, count: int, body: Graph | Callable[[], Graph]) -> None:
        self.name = name
        self.count = count
        self._body = body
        self._derived: dict[Any, Checkpoint] = {}
        self._pullbacks: dict[tuple[bool, ...], tuple[Checkpoint | None, Sequence[bool]]] = {}

    @property
    def body(self) -> Graph:
        """The graph from the arguments to the results. Made when it is asked for first."""
        if not isinstance(self._body, Graph):
            self._body = self._body()
        return self._body

    def __reduce__(self) -> Any:
        from symgraph.serialize import dump

        return _load, (self.name, dump(self.body.inputs, self.body.outputs))

    def vjp(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], cts: Sequence[Derivative]
    ) -> Sequence[Derivative]:
        arguments = inputs[self.count :]
        given = [ct for ct in cts if isinstance(ct, Variable)]
        flags = tuple(isinstance(ct, Variable) for ct in cts)
        back, wanted = self._backward(flags)
        absent = [DISCONNECTED] * self.count
        if back is None:
            return [*absent, *[DISCONNECTED] * len(arguments)]
        late = [apply(After(), v, *given) for v in arguments]
        found = substitute(back.body.outputs, dict(zip(back.body.inputs, [*late, *given], strict=True)))
        results = iter(apply_node(back, [*found, *arguments, *given]).outputs)
        return [*absent, *[next(results) if w else DISCONNECTED for w in wanted]]

    def jvp(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], tangents: Sequence[Derivative]
    ) -> Sequence[Derivative]:
        arguments = inputs[self.count :]
        found, along = tangents[: self.count], tangents[self.count :]
        made = [t for t in found if isinstance(t, Variable)]
        given = [t for t in along if isinstance(t, Variable)]
        if not made or not given:
            return found
        key = tuple(isinstance(t, Variable) for t in tangents)
        ahead = self._derived.get(("jvp", key))
        if ahead is None:
            ahead = Checkpoint(f"jvp({self.name})", len(made), lambda: self._forward(key))
            self._derived["jvp", key] = ahead
        results = iter(apply_node(ahead, [*made, *arguments, *given]).outputs)
        return [next(results) if isinstance(t, Variable) else t for t in found]

    def series(self, k: int, inputs: Sequence[Series], outputs: Sequence[Series]) -> Sequence[Derivative]:
        return [x(k) for x in inputs[: self.count]]

    def batch(self, inputs: Sequence[Variable], batched: Sequence[bool]) -> Sequence[Variable]:
        size = next(v.type.shape[0] for v, b in zip(inputs, batched, strict=True) if b)
        pairs = list(zip(inputs, batched, strict=True))
        results = [v if b else broadcast_to(v, (size, *v.type.shape)) for v, b in pairs[: self.count]]
        flags = tuple(batched[self.count :])
        if not any(flags):
            return results
        key = ("batch", flags, size)
        over = self._derived.get(key)
        if over is None:
            over = self._derived[key] = Checkpoint(self.name, self.count, lambda: self._stacked(flags, size))
        return apply_node(over, [*results, *inputs[self.count :]]).outputs

    # -- bodies of derived checkpoints --------------------------------------------------------------------------------

    def _backward(self, flags: tuple[bool, ...]) -> tuple[Checkpoint | None, Sequence[bool]]:
        """The checkpoint of the vjp for cotangents of the flagged results, and which arguments it has results for."""
        from symgraph.autodiff.reverse import vjp

        known = self._pullbacks.get(flags)
        if known is not None:
            return known
        body = self.body
        y = [v for v, flag in zip(body.outputs, flags, strict=True) if flag]
        x = [v for v in body.inputs if differentiable(v)]
        seeds = [Variable(v.type) for v in y]
        found = iter(vjp(y, x, seeds, disconnected="none"))
        each = [next(found) if differentiable(v) else None for v in body.inputs]
        made = [d for d in each if d is not None]
        wanted = tuple(d is not None for d in each)
        graph = Graph([*body.inputs, *seeds], made)
        back = Checkpoint(f"vjp({self.name})", len(made), graph) if made else None
        self._pullbacks[flags] = back, wanted
        return back, wanted

    def _forward(self, flags: tuple[bool, ...]) -> Graph:
        """The body of the jvp of the flagged results along tangents of the flagged arguments."""
        from symgraph.autodiff.forward import jvp

        body = self.body
        y = [v for v, flag in zip(body.outputs, flags[: self.count], strict=True) if flag]
        x = [v for v, flag in zip(body.inputs, flags[self.count :], strict=True) if flag]
        seeds = [Variable(v.type) for v in x]
        return Graph([*body.inputs, *seeds], jvp(y, x, seeds, disconnected="zero"))

    def _stacked(self, flags: tuple[bool, ...], size: Any) -> Graph:
        """The body over a new axis in front of the flagged arguments."""
        from symgraph.batching import vectorize

        body = self.body
        stacked = {
            v: Variable(TensorType(v.type.dtype, (size, *v.type.shape)), name=v.name)
            for v, flag in zip(body.inputs, flags, strict=True)
            if flag
        }
        return Graph([stacked.get(v, v) for v in body.inputs], vectorize(body.outputs, stacked))


def _load(name: str, state: Any) -> Checkpoint:
    from symgraph.serialize import load

    inputs, outputs = load(state)
    return Checkpoint(name, len(outputs), Graph(inputs, outputs))
