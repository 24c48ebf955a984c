"""Graphs as networkx graphs."""

from __future__ import annotations

import networkx

import symgraph as sg


def test_nodes_edges_and_attributes() -> None:
    x = sg.vector("x", shape=("n",))
    w = sg.shared([1.0, 2.0], name="w")
    value, place = sg.max_and_argmax(x * x + 1, axis=0)
    g = sg.to_networkx([value, place, sg.sum(w)])
    kinds = networkx.get_node_attributes(g, "kind")
    assert sorted(kinds.values()).count("apply") == 5  # multiply, broadcast of 1, add, max_and_argmax, sum
    assert networkx.is_directed_acyclic_graph(g)
    ops = networkx.get_node_attributes(g, "op")
    (multiply,) = [n for n, op in ops.items() if op == "multiply"]
    (start,) = [n for n, name in networkx.get_node_attributes(g, "name").items() if name == "x"]
    assert sorted(g[start][multiply]) == [0, 1]  # x twice: two edges, told apart by their places
    (pair,) = [n for n, op in ops.items() if op.startswith("max_and_argmax")]
    assert [k for _, _, k in g.out_edges(pair, keys=True)] == [0, 1]
    assert g.nodes[start]["shape"] == "[n]"
    assert g.nodes[start]["source"].startswith("(test_export.py:")


def test_formats_can_hold_it() -> None:
    x = sg.matrix("x", shape=("n", 3))
    text = "\n".join(networkx.generate_graphml(sg.to_networkx(sg.grad(sg.sum(sg.tanh(x)), x))))
    assert "tanh" in text
