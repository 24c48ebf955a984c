"""The graph language: variables, the applications of operations that make them, and graphs of both.

Terms: a *variable* is a value of a :class:`~symgraph.types.TensorType`; an *apply* node is one use of an operation on
variables; an input, constant or shared variable has no owner.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from symgraph import source
from symgraph.errors import CycleError
from symgraph.operators import Operators
from symgraph.types import TensorType

if TYPE_CHECKING:
    from symgraph.op import Op

_serial = itertools.count()


class Variable(Operators):
    """A symbolic tensor. Made by :func:`symgraph.tensor` and by operations, not by hand."""

    __slots__ = ("__weakref__", "index", "name", "owner", "serial", "sources", "type")

    def __init__(
        self,
        type: TensorType,
        owner: Apply | None = None,
        index: int = 0,
        name: str | None = None,
        sources: source.Sources | None = None,
    ) -> None:
        self.type = type
        self.owner = owner
        self.index = index
        self.name = name
        self.sources = source.current() if sources is None else sources
        self.serial = next(_serial)

    @property
    def variable(self) -> Variable:
        """The variable itself; what else stands for a variable has one of its own here."""
        return self

    @property
    def origin(self) -> source.Origin:
        """The scope that the variable was made in, and what it is the derivative of."""
        return source.NOWHERE if self.owner is None else self.owner.origin

    def __repr__(self) -> str:
        label = self.name or (f"{self.owner.op.name} result" if self.owner else "variable")
        return f"<{label}: {self.type}>"


class Constant(Variable):
    """A variable whose value is known when the graph is built."""

    __slots__ = ("data", "key")

    def __init__(self, data: NDArray[Any], name: str | None = None, sources: source.Sources | None = None) -> None:
        super().__init__(TensorType(data.dtype, data.shape), name=name, sources=sources)
        self.data = data
        # Equal constants are one node after interning. NaNs and signed zeros are told apart by their bytes.
        self.key = (data.dtype.char, data.shape, data.tobytes() if data.size <= 64 else id(data))

    def __repr__(self) -> str:
        return f"<constant {self.name or ''}{self.data if self.data.ndim == 0 else ''}: {self.type}>"


class SharedVariable(Variable):
    """A variable with a value that lives across calls and that ``updates`` replace."""

    __slots__ = ("_value", "lock", "spare")

    def __init__(self, value: NDArray[Any], type: TensorType, name: str | None = None) -> None:
        import threading

        super().__init__(type, name=name)
        self._value: Any = value  # an array of NumPy's, or on a device
        self.spare: Any = None  # the buffer that the next update is written into
        self.lock = threading.RLock()

    def get_value(self) -> NDArray[Any]:
        """A copy of the value."""
        with self.lock:
            return np.array(self._value)

    def to_host(self) -> NDArray[Any]:
        """The value itself, brought into the memory of the host where a function on a device has it."""
        with self.lock:
            if type(self._value) is not np.ndarray:
                self._value = np.asarray(self._value)
                self.spare = None
            value: NDArray[Any] = self._value
            return value

    def set_value(self, value: object) -> None:
        """Replace the value by a copy of ``value``, converted to the dtype where that loses nothing.

        Raises :class:`~symgraph.errors.UpdateError` where dtype, rank or a static size does not fit.
        """
        from symgraph.errors import DTypeError, RankError, UpdateError
        from symgraph.runtime.sizes import as_array

        name = self.name or "shared variable"
        try:
            array = np.array(as_array(self, value, name), order="C")
        except (DTypeError, RankError) as error:
            raise UpdateError(str(error)) from None
        if any(isinstance(want, int) and want != got for want, got in zip(self.type.shape, array.shape, strict=True)):
            raise UpdateError(
                f"{name}: wanted {self.type}, got {array.dtype.name}{list(array.shape)}  "
                f"{source.show(source.current())}"
            )
        with self.lock:
            self._value = array
            self.spare = None

    def __repr__(self) -> str:
        return f"<shared {self.name or ''}: {self.type}>"


class Apply:
    """One use of an operation: ``op(*inputs) -> outputs``."""

    __slots__ = ("__weakref__", "inputs", "op", "origin", "outputs", "sources")

    def __init__(
        self,
        op: Op,
        inputs: tuple[Variable, ...],
        types: Sequence[TensorType],
        sources: source.Sources | None = None,
        origin: source.Origin | None = None,
    ) -> None:
        self.op = op
        self.inputs = inputs
        self.sources = source.current() if sources is None else sources
        self.origin = source.origin() if origin is None else origin
        self.outputs = tuple(Variable(t, self, i, sources=self.sources) for i, t in enumerate(types))

    def __repr__(self) -> str:
        return f"{self.op}({', '.join(str(v.type) for v in self.inputs)})"


def toposort(outputs: Iterable[Variable], stop: Iterable[Variable] = ()) -> list[Apply]:
    """Apply nodes that ``outputs`` need, producers first, not looking behind ``stop``.

    Iterative, linear, deterministic. Raises :class:`~symgraph.errors.CycleError` for a graph with a cycle.
    """
    order: list[Apply] = []
    state: dict[Apply, bool] = {}  # False: entered, True: done
    stopped = set(stop)
    stack: list[tuple[Apply, bool]] = [
        (v.owner, False) for v in reversed(list(outputs)) if v.owner is not None and v not in stopped
    ]
    while stack:
        node, leaving = stack.pop()
        if leaving:
            state[node] = True
            order.append(node)
            continue
        seen = state.get(node)
        if seen:
            continue
        if seen is False:
            # Entered but not left, and met again as a pending entry: a duplicate push, unless it is its own ancestor.
            continue
        state[node] = False
        stack.append((node, True))
        for v in reversed(node.inputs):
            owner = v.owner
            if owner is None or v in stopped:
                continue
            seen = state.get(owner)
            if seen is None:
                stack.append((owner, False))
            elif seen is False:
                raise CycleError(f"the graph contains a cycle through {owner.op.name}  {source.show(owner.sources)}")
    return order


def leaves(outputs: Iterable[Variable], stop: Iterable[Variable] = ()) -> list[Variable]:
    """Variables without owner (and those of ``stop``) that ``outputs`` depend on, in order of first use."""
    outputs = list(outputs)
    stopped = set(stop)
    found: dict[Variable, None] = {}
    for node in toposort(outputs, stopped):
        for v in node.inputs:
            if v.owner is None or v in stopped:
                found[v] = None
    for v in outputs:
        if v.owner is None or v in stopped:
            found[v] = None
    return list(found)


class Graph:
    """A graph: ``outputs`` as a function of ``inputs``, with apply nodes in topological order."""

    def __init__(self, inputs: Sequence[Variable], outputs: Sequence[Variable]) -> None:
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.nodes = toposort(self.outputs, self.inputs)
        self._consumers: dict[Variable, list[Apply]] | None = None

    @property
    def consumers(self) -> Mapping[Variable, Sequence[Apply]]:
        """For each variable, the apply nodes that use it, in topological order, once each."""
        if self._consumers is None:
            table: dict[Variable, list[Apply]] = {}
            for node in self.nodes:
                for v in dict.fromkeys(node.inputs):
                    table.setdefault(v, []).append(node)
            self._consumers = table
        return self._consumers

    def __iter__(self) -> Iterator[Apply]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)

    def __repr__(self) -> str:
        ends = [", ".join(v.name or str(v.type) for v in vs[:8]) + (", …" if len(vs) > 8 else "")
                for vs in (self.inputs, self.outputs)]  # fmt: skip
        return f"<graph of {len(self.nodes)} operations: {ends[0] or 'nothing'} -> {ends[1] or 'nothing'}>"

    def _repr_html_(self) -> str:
        from symgraph.viz.notebook import mimebundle

        return mimebundle(self)["text/html"]

    def __str__(self) -> str:
        from symgraph.printing import print_graph

        return print_graph(self)


def get_operation(variable: Variable) -> Op | None:
    """The operation that computes ``variable``; ``None`` for inputs, constants and shared variables. [6.5.6]"""
    return None if variable.owner is None else variable.owner.op


def get_inputs(variable: Variable) -> tuple[Variable, ...]:
    """The variables that ``variable`` is computed from directly: its parents in the graph. [6.5.6]"""
    return () if variable.owner is None else variable.owner.inputs


def get_consumers(variable: Variable, graph: Graph | Variable | Sequence[Variable]) -> list[Variable]:
    """The variables of ``graph`` that are computed from ``variable`` directly: its children. [6.5.6]

    ``graph`` is a :class:`Graph`, or the output or outputs that define one.
    """
    if not isinstance(graph, Graph):
        outputs = [graph] if isinstance(graph, Variable) else list(graph)
        graph = Graph((), outputs)
    return [out for node in graph.consumers.get(variable, ()) for out in node.outputs]


class Interner:
    """Makes equal nodes one node. ``canonical`` maps every variable met to the one that stands for it."""

    def __init__(self, outputs: Iterable[Variable] = ()) -> None:
        self._nodes: dict[tuple[Any, ...], Apply] = {}
        self._constants: dict[Any, Constant] = {}
        self._canonical: dict[Variable, Variable] = {}
        for node in toposort(outputs):
            found = self.find(node.op, node.inputs)
            if found is None:
                self.add(node)
            else:
                for old, new in zip(node.outputs, found.outputs, strict=True):
                    self._canonical[old] = new

    def canonical(self, variable: Variable) -> Variable:
        """The variable that stands for ``variable``."""
        if isinstance(variable, Constant):
            return self._constants.setdefault(variable.key, variable)
        return self._canonical.get(variable, variable)

    def _key(self, op: Op, inputs: Sequence[Variable]) -> tuple[Any, ...]:
        return (op, *[self.canonical(v) for v in inputs])

    def find(self, op: Op, inputs: Sequence[Variable]) -> Apply | None:
        """The node that applies ``op`` to equal inputs, if there is one; never for an op that must not merge."""
        return self._nodes.get(self._key(op, inputs)) if op.pure else None

    def add(self, node: Apply) -> None:
        """Remember a new node."""
        if node.op.pure:
            self._nodes[self._key(node.op, node.inputs)] = node


_interner: ContextVar[Interner | None] = ContextVar("symgraph_interner", default=None)


def current_interner() -> Interner | None:
    """The interner that nodes are made through at present, if any."""
    return _interner.get()


@contextmanager
def interning(interner: Interner) -> Iterator[Interner]:
    """Nodes made in this block are interned: an equal node that exists is used again."""
    token = _interner.set(interner)
    try:
        yield interner
    finally:
        _interner.reset(token)
