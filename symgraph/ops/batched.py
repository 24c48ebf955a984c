"""Any op over a batch, where no rule of its own says how: a loop over the elements, inside one step of the program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symgraph.errors import RankError, SizeError
from symgraph.graph import Apply, Variable
from symgraph.op import OPS, Absence, Derivative, Op, Sample, apply_node, op
from symgraph.types import Size, TensorType, product, tensor_type


@dataclass(frozen=True)
class Jitted:
    """A function for Numba, as a step of a program runs it.

    ``elementwise``: from scalars to scalars; else from arrays, the results' included, which it writes. ``levels`` says
    for each loop over a batch around it, outermost first, which operands have that axis.
    """

    name: str
    function: Callable[..., Any]
    elementwise: bool
    params: tuple[tuple[str, Any], ...]
    levels: tuple[tuple[bool, ...], ...] = ()

    def extent(self, node: Apply) -> Size:
        """How many independent parts the step has: elements, or members of the batch."""
        shape = node.outputs[0].type.shape
        return product(shape if self.elementwise else shape[: len(self.levels)])


@op
class Batched(Op):
    """``inner`` for each index of a leading axis of the inputs flagged.   x: T[b, S], y: U[R] -> V[b, ...]

    A loop over the batch, with the op's own code in it: what ``vmap`` makes of an op that has no batching rule.
    """

    inner: Op
    flags: tuple[bool, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "host", self.inner.host or "numpy")
        object.__setattr__(self, "pure", self.inner.pure)

    def infer(self, *inputs: TensorType) -> TensorType | tuple[TensorType, ...]:
        batched = [t for t, flag in zip(inputs, self.flags, strict=True) if flag]
        if any(not t.ndim for t in batched):
            raise RankError(f"{self.name}: an operand that is batched has no axes")
        size = batched[0].shape[0]
        if any(t.shape[0] != size for t in batched):
            raise SizeError(f"{self.name}: batch sizes differ: {', '.join(str(t.shape[0]) for t in batched)}")
        found = self.inner.infer(*[_element(t) if f else t for t, f in zip(inputs, self.flags, strict=True)])
        outputs = [TensorType(t.dtype, (size, *t.shape)) for t in (found if isinstance(found, tuple) else (found,))]
        return tuple(outputs) if isinstance(found, tuple) else outputs[0]

    def reference(self, *inputs: NDArray[Any]) -> Any:
        size = next(len(a) for a, flag in zip(inputs, self.flags, strict=True) if flag)
        several = self.infer(*[tensor_type(a.dtype, a.shape) for a in inputs])
        if not size:
            empty = [np.empty([int(n) for n in t.shape], t.dtype) for t in _types(several)]
            return tuple(empty) if isinstance(several, tuple) else empty[0]
        rows = []
        for k in range(size):
            found = self.inner.reference(*[a[k] if f else a for a, f in zip(inputs, self.flags, strict=True)])
            rows.append(found if isinstance(several, tuple) else (found,))
        stacked = [np.stack([np.asarray(a) for a in column]) for column in zip(*rows, strict=True)]
        return tuple(stacked) if isinstance(several, tuple) else stacked[0]

    def jitted(self) -> Jitted:
        """The function that Numba compiles, in one more loop."""
        within: Jitted = self.inner.jitted()  # type: ignore[attr-defined]
        return Jitted(within.name, within.function, False, within.params, (self.flags, *within.levels))

    def vjp(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], cts: Sequence[Derivative]
    ) -> Sequence[Derivative]:
        from symgraph.ops.reduce import sum as sum_over

        found = self._each(self.inner.vjp, inputs, self.flags, outputs, cts, (True,) * len(outputs))
        return [
            sum_over(d, axis=0) if isinstance(d, Variable) and not flag else d
            for d, flag in zip(found, self.flags, strict=True)
        ]

    def jvp(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], tangents: Sequence[Derivative]
    ) -> Sequence[Derivative]:
        return self._each(self.inner.jvp, inputs, self.flags, outputs, tangents, self.flags)

    def _each(
        self,
        rule: Callable[..., Sequence[Derivative]],
        inputs: Sequence[Variable],
        flags: Sequence[bool],
        outputs: Sequence[Variable],
        given: Sequence[Derivative],
        given_flags: Sequence[bool],
    ) -> Sequence[Derivative]:
        """A rule of ``inner`` on one element, over the batch."""
        from symgraph.batching import vectorize

        replace: dict[Variable, Variable] = {}

        def element(v: Derivative, flag: bool) -> Any:
            if isinstance(v, Absence) or not flag:
                return v
            one = Variable(_element(v.type))
            replace[one] = v
            return one

        one_in = [element(v, f) for v, f in zip(inputs, flags, strict=True)]
        one_out = [element(v, True) for v in outputs]
        found = rule(one_in, one_out, [element(v, f) for v, f in zip(given, given_flags, strict=True)])
        results = iter(vectorize([d for d in found if isinstance(d, Variable)], replace))
        return [next(results) if isinstance(d, Variable) else d for d in found]

    def batch(self, inputs: Sequence[Variable], batched: Sequence[bool]) -> Sequence[Variable]:
        return apply_node(Batched(self, tuple(batched)), inputs).outputs

    def samples(self) -> list[Sample]:
        from symgraph.ops.reduce import Sum

        x = np.linspace(-1.0, 2.0, 6).reshape(2, 3)
        multiply: Any = OPS["multiply"]
        return [
            Sample(Batched(Sum((0,)), (True,)), (x,)),
            Sample(Batched(multiply, (True, True)), (x, x[::-1] + 1)),
            Sample(Batched(multiply, (False, True)), (x[0], x)),
            Sample(Batched(Batched(multiply, (True, False)), (False, True)), (x, x + 1)),
            Sample(Batched(multiply, (True, False)), (x[:0], x[0])),
        ]


def _types(found: TensorType | tuple[TensorType, ...]) -> tuple[TensorType, ...]:
    return found if isinstance(found, tuple) else (found,)


def _element(type: TensorType) -> TensorType:
    return type.without((0,))
