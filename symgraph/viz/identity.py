"""Which node of a graph is which node of the graph before a pass: ids that stay the same while one steps through."""

from __future__ import annotations

from typing import Any

from symgraph import source
from symgraph.graph import Apply, Constant, Graph, Variable


class Identity:
    """Ids of nodes through the stages of one compilation.

    A node of the graph as written has the number that :func:`symgraph.print_graph` gives its first output: ``n12``. In
    a later stage a node keeps an id where it is the same object, or the same op on operands of the same ids, or else
    where op name, types, lines and origin are the same, in order of appearance. Any other node is new.
    """

    def __init__(self, written: Graph) -> None:
        self.numbers: dict[Variable, int] = {}
        self.by_serial: dict[int, tuple[int, Variable]] = {}
        for v in written.inputs:
            self._number(v)
        for node in written.nodes:
            for v in (*node.inputs, *node.outputs):
                self._number(v)
        for v in written.outputs:
            self._number(v)
        self._leaves: dict[Any, str] = {}
        self._inputs = written.inputs
        self._made = 0
        self._before: dict[Apply, str] = {}
        self._keys: dict[tuple[Any, ...], str] = {}
        self._alike: dict[tuple[Any, ...], list[str]] = {}
        self._all: set[str] = set()

    def _number(self, v: Variable) -> None:
        if v not in self.numbers:
            self.numbers[v] = len(self.numbers)
            self.by_serial[v.serial] = (self.numbers[v], v)

    def leaf(self, v: Variable) -> str:
        """The id of a variable that nothing computes."""
        key: Any = v.key if isinstance(v, Constant) and v not in self.numbers else v
        found = self._leaves.get(key)
        if found is None:
            found = self._leaves[key] = f"n{self.numbers[v]}" if v in self.numbers else self._new("c")
            if isinstance(v, Constant):
                self._leaves.setdefault(v.key, found)
        return found

    def _new(self, prefix: str) -> str:
        self._made += 1
        return f"{prefix}{self._made}"

    def provenance(self, node: Apply) -> str:
        """``adjoint of %12 multiply``, or ``adjoint of multiply`` where that node is not in the graph as written."""
        origin = node.origin
        if not origin.order:
            return ""
        times = f" (order {origin.order})" if origin.order > 1 else ""
        found = self.by_serial.get(origin.of)
        if found is None:
            return f"{origin.mode}{times} of a node that was rewritten"
        number, v = found
        what = v.name or (v.owner.op.name if v.owner is not None else "input")
        lines = ", ".join(str(line) for line in sorted(v.sources))
        return f"{origin.mode}{times} of %{number} {what}{', ' + lines if lines else ''}"

    def follow(self, graph: Graph) -> dict[Apply, str]:
        """The ids of the nodes of the next stage."""
        ids: dict[Apply, str] = {}
        places: dict[Variable, tuple[str, int]] = {}
        # Inputs stand at the same positions in every stage, whatever they were replaced by.
        for old, new in zip(self._inputs, graph.inputs, strict=False):
            self._leaves.setdefault(new, self.leaf(old))
        taken = {self._before[node] for node in graph.nodes if node in self._before}
        keys: dict[tuple[Any, ...], str] = {}
        alike: dict[tuple[Any, ...], list[str]] = {}
        position: dict[tuple[Any, ...], int] = {}
        for node in graph.nodes:
            for v in node.inputs:
                if v not in places:
                    places[v] = (self.leaf(v), 0)
            key = (node.op, *[places[v] for v in node.inputs])
            like = _likeness(node)
            id = self._before.get(node)
            if id is None and (found := self._keys.get(key)) is not None and found not in taken:
                id = found
            if id is None:
                # Candidates in order: a position that moves on keeps this linear.
                candidates = self._alike.get(like, [])
                k = position.get(like, 0)
                while k < len(candidates) and candidates[k] in taken:
                    k += 1
                position[like] = k
                if k < len(candidates):
                    id = candidates[k]
            if id is None:
                number = self.numbers.get(node.outputs[0])
                id = f"n{number}" if number is not None and f"n{number}" not in self._all else self._new("m")
            taken.add(id)
            ids[node] = id
            keys.setdefault(key, id)
            alike.setdefault(like, []).append(id)
            places.update((v, (id, k)) for k, v in enumerate(node.outputs))
        self._before, self._keys, self._alike = ids, keys, alike
        self._all.update(ids.values())
        return ids


def _likeness(node: Apply) -> tuple[Any, ...]:
    return (node.op.name, tuple(v.type for v in node.outputs), node.sources, _scope(node.origin))


def _scope(origin: source.Origin) -> tuple[str, int]:
    return origin.scope, origin.order
