"""Sums of several products become one node, which the backend adds up in one buffer."""

from __future__ import annotations

from typing import Final

from symgraph.graph import Graph, Variable
from symgraph.op import Op
from symgraph.ops.contract import Contract
from symgraph.ops.elementwise import Accumulate, add
from symgraph.ops.gather import ScatterAdd
from symgraph.ops.shape import Unslice
from symgraph.passes import Context
from symgraph.rewrite.engine import own
from symgraph.source import Sources

# What can add its result to a buffer that exists, at no cost.
ADDING: Final[tuple[type[Op], ...]] = (Contract, ScatterAdd, Unslice)


def accumulate(graph: Graph, context: Context) -> Graph:
    """Make one n-ary sum of additions that nothing else uses, where contractions or scatters are among the terms.

    Terms keep their order and their association from the left, so every bit stays; a nested ``Accumulate``, whose
    order is ours to define, is merged wherever it stands.
    """
    outputs = set(graph.outputs)
    uses: dict[Variable, int] = {}
    for node in graph.nodes:
        for v in node.inputs:
            uses[v] = uses.get(v, 0) + 1
    # The terms of each sum, found producers first. A sum that another takes over is never built.
    terms: dict[Variable, list[Variable]] = {}
    sources: dict[Variable, Sources] = {}
    for node in graph.nodes:
        if node.op is not add and type(node.op) is not Accumulate:
            continue
        out = node.outputs[0]
        found: list[Variable] = []
        lines = node.sources
        inputs = node.inputs
        if node.op is add and inputs[0] not in terms and inputs[1] in terms:
            inputs = inputs[::-1]  # x + y and y + x are the same bits
        for k, v in enumerate(inputs):
            inner = terms.get(v)
            ours = v.owner is not None and type(v.owner.op) is Accumulate
            # Chains of plain additions are taken over in one piece, not term by term: the cost stays linear.
            if inner is not None and (k == 0 or ours) and uses[v] == 1 and v not in outputs:
                if k == 0:
                    found = inner
                else:
                    found.extend(inner)
                lines = lines | sources[v]
                del terms[v]
            else:
                found.append(v)
        terms[out], sources[out] = found, lines
    wanted = {}
    for v, found in terms.items():
        adding = sum(t.owner is not None and type(t.owner.op) in ADDING for t in found)
        assert v.owner is not None
        if (adding and len(found) > 2) or adding > 1 or type(v.owner.op) is Accumulate:
            if type(v.owner.op) is Accumulate and len(found) == len(v.owner.inputs):
                continue  # as it stands
            wanted[v] = found
    if not wanted:
        return graph
    new: dict[Variable, Variable] = {}
    for node in graph.nodes:
        out = node.outputs[0]
        merged = wanted.get(out)
        if merged is not None:
            made = context.make(Accumulate(), tuple([new.get(v, v) for v in merged]), node)
            own(made, sources[out])
            context.fired["accumulate"] += 1
        elif any(v in new for v in node.inputs):
            made = context.make(node.op, tuple([new.get(v, v) for v in node.inputs]), node)
        else:
            continue
        for old, v in zip(node.outputs, made.outputs, strict=True):
            if old is not v:
                new[old] = v
                if v.name is None:
                    v.name = old.name
    return Graph(graph.inputs, [new.get(v, v) for v in graph.outputs])
