"""Epilogues of matrix products: which maps join a product, in which order, in which memory, at which cost."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

import symgraph as sg
from symgraph.graph import Constant, Variable, leaves
from symgraph.loop.check import check
from symgraph.passes import epilogue
from symgraph.passes.epilogue import epilogues
from symgraph.passes.fuse import fuse
from symgraph.passes.library import LibraryCall
from symgraph.runtime import products
from symgraph.runtime.lowered import Lowering
from symgraph.runtime.program import ProgramStep

N, M, K = 256, 128, 64
X, W, B = sg.matrix("x", shape=(N, K)), sg.matrix("W", shape=(K, M)), sg.vector("b", shape=(M,))
P, Q = sg.matrix("P", shape=(N, N)), sg.matrix("Q", shape=(N, N))


def lowered(outputs: Variable | Sequence[Variable]) -> Lowering:
    wanted = [outputs] if isinstance(outputs, Variable) else list(outputs)
    inputs = sorted((v for v in leaves(wanted) if not isinstance(v, Constant)), key=lambda v: v.serial)
    return sg.lower(inputs, wanted, "cuda")


def calls(made: Lowering) -> list[LibraryCall]:
    return [s.step for s in made.program.steps if isinstance(s.step, LibraryCall)]


def proved(made: Lowering) -> bool:
    equations = [(c.got, c.wanted) for c in made.program.checks if not c.at_least]

    def findings(s: ProgramStep) -> bool:
        assert s.loops is not None
        return bool(check(s.loops, s.bindings, equations=equations))

    return not any(findings(s) for s in made.program.steps)


def test_dense_layer_is_one_launch_that_shows_what_it_is() -> None:
    made = lowered(sg.tanh(X @ W + B))
    (step,) = made.program.steps
    text = str(made)
    assert "out0 <- x, W, b  contract+broadcast+add+tanh" in text
    assert "@0" not in text
    assert step.loops is not None
    assert made.kernels[0].loops.splitlines()[-6:] == [
        "          var value = product(p, q, i, j)",
        "          let at = add(add(add(multiply(p, c_outer), multiply(q, c_inner)), multiply(i, ldc)), j)",
        "          let i0 = i",
        "          let v0 = multiply(i0, n0)",
        "          let i1 = j",
        "          x2[add(v0, i1)] := tanh(add(value, x1[i1]))",
    ]
    assert "x2[v0 + i1] = tanh_float64(value + x1[i1])\n" in step.source
    assert proved(made)


def test_cost() -> None:
    made = lowered(sg.tanh(X @ W + B))
    assert made.cost.flops == 2 * N * M * K + N * M
    assert made.cost.transcendentals == N * M
    assert made.cost.bytes_read == 8 * (N * K + K * M + M)
    assert made.cost.bytes_written == 8 * N * M
    assert made.cost.kernels == 1
    assert {n.node.op.name: n.flops for n in made.cost.nodes if n.flops} == {"contract": 2 * N * M * K, "add": N * M}
    kept = lowered([sg.exp(X @ W), X @ W])
    assert kept.cost.bytes_written == 2 * 8 * N * M
    added = lowered(P + sg.tanh(P @ Q) + sg.transpose(P, (1, 0)))  # read as a tile, and in the epilogue, twice
    assert added.cost.kernels == 1
    assert added.cost.bytes_read == 2 * 8 * N * N
    summed = lowered(sg.tanh(X @ W + sg.sin(X) @ sg.sin(W)))
    assert summed.cost.flops == 4 * N * M * K


def test_the_product_has_a_buffer_where_it_is_read() -> None:
    z = P @ Q
    made = lowered(sg.exp(z) @ Q)
    first, _ = calls(made)
    assert not first.keeps
    assert first.product not in made.memory_plan.of
    made = lowered([sg.exp(z) @ Q, sg.sum(sg.sin(z), axis=0)])
    assert calls(made)[0].keeps
    assert calls(made)[0].product in made.memory_plan.of


def test_in_place_of_a_residual_but_not_of_an_operand() -> None:
    z = sg.exp(P)
    made = lowered((z + sg.tanh(sg.sin(z @ Q) @ P)) @ Q)
    _, call = (c for c in calls(made) if c.epilogue is not None)
    (result,) = call.writes
    assert len(made.memory_plan.of[result].variables) == 2
    made = lowered((z + sg.tanh(z @ Q)) @ Q)
    (call,) = (c for c in calls(made) if c.epilogue is not None)
    (result,) = call.writes
    assert len(made.memory_plan.of[result].variables) == 1


def test_in_place_of_the_sum_so_far() -> None:
    made = lowered(sg.exp(P @ Q + sg.sin(P) @ Q) @ P)
    call = next(c for c in calls(made) if c.accumulates)
    assert call.epilogue is not None
    assert not call.keeps
    (result,) = call.writes
    assert made.memory_plan.of[result] is made.memory_plan.of[call.node.inputs[0]]


def test_order_around_what_stands_between() -> None:
    """What the map needs comes before the product, what reads the product after it."""
    z = X @ W
    graph = lowered([sg.sum(sg.sin(z), axis=0), sg.exp(z) * sg.sum(sg.cos(W), axis=0)]).program.graph
    product, total, factor, scaled = fuse(graph)
    assert epilogues([product, total, factor, scaled], graph.outputs, products.accepts) == [factor, product, total]
    assert isinstance(product, LibraryCall)
    assert product.epilogue is scaled
    assert product.keeps


def test_no_map_that_needs_what_is_computed_from_the_product() -> None:
    z = X @ W
    made = lowered(sg.exp(z) / sg.sum(sg.exp(z), axis=0))
    (call,) = calls(made)
    assert call.epilogue is None


def test_long_maps_stay_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    made = lowered(sg.tanh(X @ W + B))
    (call,) = calls(made)
    assert call.epilogue is not None
    monkeypatch.setattr(epilogue, "MAX_WEIGHT", call.epilogue.weight - 1)
    assert len(lowered(sg.tanh(X @ W + B)).program.steps) == 2


def test_products_that_take_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "takes_epilogue", lambda call: False)
    assert len(lowered(sg.tanh(X @ W + B)).program.steps) == 2


def test_on_a_cpu_products_are_calls() -> None:
    assert len(sg.lower([X, W, B], sg.tanh(X @ W + B)).program.steps) == 2


@pytest.mark.parametrize("sizes", [(7, 5, 32, 48), ("b", "t", "k", "m")])
def test_indices_by_division_where_axes_are_taken_apart(sizes: tuple[int | str, ...]) -> None:
    b, t, k, m = sizes
    h, w = sg.tensor("h", shape=(b, t, k)), sg.matrix("w", shape=(k, m))
    bias, table, scale = sg.vector("bias", shape=(m,)), sg.matrix("table", shape=(t, m)), sg.vector("s", shape=(b,))
    made = lowered(sg.tanh(h @ w + bias))
    assert "//" not in made.kernels[0].source.partition("value = r0_0")[2]
    assert proved(made)
    made = lowered(sg.tanh(h @ w + table) * scale[:, None, None])
    assert len(made.program.steps) == 1
    tail = made.kernels[0].source.partition("value = r0_0")[2]
    assert (tail.count("//"), tail.count("%")) == (1, 1)  # of the row: which matrix, and which row of it
    assert proved(made)
    f = sg.tensor("f", shape=(b, k, m))
    made = lowered(sg.tanh(h @ f + table) * scale[:, None, None])
    assert len(made.program.steps) == 1
    assert "//" not in made.kernels[0].source.partition("value = r0_0")[2]
    assert proved(made)


def test_deep_networks_take_linear_time() -> None:
    h = X
    square = [sg.matrix(f"W{k}", shape=(K, K)) for k in range(200)]
    for w in square:
        h = sg.tanh(h @ w)
    made = lowered([h, *sg.grad(sg.sum(h), square)])
    found = calls(made)
    assert len(found) == 200 + 199 * 2 + 1
    assert sum(c.epilogue is not None for c in found) == 200 + 199


def test_pictures_know_the_step() -> None:
    made = lowered(sg.tanh(X @ W + B))
    kernels = sg.viz.picture(made, level="kernels")
    assert [(g.kind, g.label) for g in kernels.groups] == [("kernel", "step 0: contract + add + tanh")]
    assert {n.label for n in kernels.nodes if n.group == kernels.groups[0].id} >= {
        "contract",
        "broadcast",
        "add",
        "tanh",
    }
    steps = sg.viz.picture(made, level="program")
    assert [n.label for n in steps.nodes] == ["x", "W", "b", "contract + add + tanh", "output"]
    assert "step" in sg.viz.text(made, level="kernels")
