"""Common subexpressions: equal nodes become one node."""

from __future__ import annotations

from symgraph.graph import Apply, Constant, Graph, Variable
from symgraph.passes import Context
from symgraph.rewrite.constants import constant_of
from symgraph.rewrite.engine import own
from symgraph.rewrite.pattern import COMMUTATIVE


def intern(graph: Graph, context: Context) -> Graph:
    """Copy the graph, with equal nodes as one node.

    The copy belongs to the pipeline: the user's own graph stays as it was written. Nodes are equal where op and
    inputs are, in either order for an op that gives the same bits for both. An input that is itself computed from
    others (a value given
    for a variable in the middle of a graph) becomes a variable of its own, at the same position; uniform constants
    become one number that is broadcast.
    """
    interner = context.interner
    new: dict[Variable, Variable] = {}
    inputs: list[Variable] = []
    for v in graph.inputs:
        if v not in new:
            new[v] = v if v.owner is None else Variable(v.type, name=v.name, sources=v.sources)
        inputs.append(new[v])

    def leaf(v: Variable) -> Variable:
        if type(v) is Constant and v.data.ndim and v.data.size:
            found = constant_of(v.data, v.sources, v.name)
            if found.owner is None:
                return interner.canonical(v)
            known = interner.find(found.owner.op, [interner.canonical(x) for x in found.owner.inputs])
            if known is not None:
                return known.outputs[0]
            interner.add(found.owner)
            return found
        return interner.canonical(v)

    for node in graph.nodes:
        arguments = []
        for v in node.inputs:
            at = new.get(v)
            if at is None:
                at = new[v] = leaf(v)
            arguments.append(at)
        found = interner.find(node.op, arguments)
        if found is None and node.op in COMMUTATIVE:
            found = interner.find(node.op, arguments[::-1])
        if found is None:
            found = Apply(node.op, tuple(arguments), [v.type for v in node.outputs], node.sources, node.origin)
            interner.add(found)
        elif not node.sources <= found.sources:
            own(found, node.sources)
        for old, made in zip(node.outputs, found.outputs, strict=True):
            new.setdefault(old, made)
            if made.name is None:
                made.name = old.name
    return Graph(inputs, [new[v] if v in new else leaf(v) for v in graph.outputs])
