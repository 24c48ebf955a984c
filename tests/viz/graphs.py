"""Graphs that the tests of pictures draw. Their lines are in the golden files."""

from __future__ import annotations

import symgraph as sg
from symgraph.graph import Variable


def small() -> list[Variable]:
    """A value and its gradient, with a shared variable and a buffer that contributions are added into."""
    x = sg.matrix("x", shape=("n", 3))
    w = sg.shared([1.0, 2.0, 3.0], name="w")
    y = sg.sum(sg.sin(x * w) * w + w)
    y.name = "y"
    return [y, sg.grad(y, w)]


def network(layers: int) -> tuple[list[Variable], list[Variable]]:
    """A network with a named scope for each layer: inputs, and the cost with its gradients."""
    x, y = sg.matrix("x", shape=("batch", 8)), sg.matrix("y", shape=("batch", 8))
    weights = [sg.matrix(f"w{k}", shape=(8, 8)) for k in range(layers)]
    h = x
    for k, w in enumerate(weights):
        with sg.scope(f"layer{k}"):
            h = sg.tanh(h @ w)
    with sg.scope("loss"):
        cost = sg.mean(sg.square(h - y))
    cost.name = "cost"
    return [x, y, *weights], [cost, *sg.grad(cost, weights)]


def orders() -> list[Variable]:
    """A function with its first and second derivative."""
    z = sg.scalar("z")
    y = sg.exp(sg.sin(z)) * z
    first = sg.grad(y, z)
    return [y, first, sg.grad(first, z)]


NASTY = ["<img onerror=alert(1)>", "</script>", "変数", 'a"b\\', "x\ny", "]]>", "&amp;", "\x00\ud800", "a|b", "#quot;"]


def nasty() -> list[Variable]:
    """Names that are markup in some format or other."""
    out = []
    for name in NASTY:
        with sg.scope(name):
            v = sg.vector(name, shape=3)
            r = sg.exp(v) * 2
            r.name = name
            out.append(r)
    return out
