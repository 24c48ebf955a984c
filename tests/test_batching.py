"""Batched graphs against loops over their elements."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import symgraph as sg
from symgraph.autodiff import grad, hvp, jvp, vjp
from symgraph.batching import vectorize, vmap
from symgraph.errors import DTypeError, RankError, RuleError, SizeError
from symgraph.graph import Variable, toposort
from symgraph.op import Op, apply
from symgraph.runtime.interpreter import interpret
from symgraph.testing import random_program
from symgraph.testing.programs import from_hypothesis
from symgraph.types import TensorType

rng = np.random.default_rng(0)


def value(v: Variable, givens: dict[Variable, Any]) -> NDArray[Any]:
    (out,) = interpret(v, givens)
    return out


def test_vectorize_has_the_structure_of_outputs() -> None:
    x, w = sg.vector("x", shape=(3,)), sg.vector("w", shape=(3,))
    X = sg.matrix("X", shape=("n", 3))
    y, z = sg.sum(x * w), sg.exp(w)
    one = vectorize(y, {x: X})
    assert str(one.type) == "float64[n]"
    both = vectorize((y, z), {x: X})
    assert isinstance(both, tuple)
    assert [str(v.type) for v in both] == ["float64[n]", "float64[n, 3]"]
    a, b = rng.normal(size=(4, 3)), rng.normal(size=3)
    np.testing.assert_allclose(value(both[0], {X: a, w: b}), a @ b)
    np.testing.assert_allclose(value(both[1], {X: a, w: b}), np.tile(np.exp(b), (4, 1)))


def test_what_does_not_depend_on_the_batch_is_computed_once() -> None:
    x, w = sg.vector("x", shape=(3,)), sg.vector("w", shape=(3,))
    shared = sg.exp(w)
    batched = vectorize(x * shared, {x: sg.matrix("X", shape=(5, 3))})
    (exp,) = [n for n in toposort([batched]) if n.op.name == "exp"]
    assert exp.outputs[0] is shared


def test_replacing_intermediate_variables() -> None:
    x = sg.scalar("x")
    h = sg.exp(x)
    H = sg.vector("H", shape=(3,))
    batched = vectorize(h * x, {h: H})
    np.testing.assert_allclose(value(batched, {H: [1.0, 2.0, 3.0], x: 2.0}), [2, 4, 6])


def test_static_sizes_in_ops() -> None:
    x = sg.matrix("x", shape=(4, 6))
    y = sg.reshape(sg.transpose(x), (3, 8))[::-1, 1:5]
    X = sg.tensor("X", shape=("n", 4, 6))
    a = rng.normal(size=(2, 4, 6))
    want = np.stack([e.T.reshape(3, 8)[::-1, 1:5] for e in a])
    np.testing.assert_array_equal(value(vectorize(y, {x: X}), {X: a}), want)


def test_vmap_axes() -> None:
    a, b = rng.normal(size=(3, 4)), rng.normal(size=(4, 5))
    A, B = sg.matrix("A", shape=(3, 4)), sg.matrix("B", shape=(4, 5))
    outer = vmap(lambda x, y: x * sg.sum(y), in_axes=(1, 0))(A, B)
    np.testing.assert_allclose(value(outer, {A: a, B: b}), np.stack([a[:, i] * b[i].sum() for i in range(4)]))
    last = vmap(lambda x, y: x * sg.sum(y), in_axes=(-1, None), out_axes=-1)(A, B)
    np.testing.assert_allclose(value(last, {A: a, B: b}), a * b.sum())
    pair = vmap(lambda x: (x, sg.sum(x)), out_axes=(1, 0))(A)
    assert isinstance(pair, tuple)
    np.testing.assert_allclose(value(pair[0], {A: a}), a.T)
    np.testing.assert_allclose(value(pair[1], {A: a}), a.sum(axis=1))


def test_vmap_nested_and_of_constants() -> None:
    a, b = rng.normal(size=3), rng.normal(size=4)
    A, B = sg.vector("A", shape=(3,)), sg.vector("B", shape=("m",))
    table = vmap(lambda x: vmap(lambda y: sg.sin(x) * y + x)(B))(A)
    assert str(table.type) == "float64[3, m]"
    np.testing.assert_allclose(value(table, {A: a, B: b}), np.sin(a)[:, None] * b + a[:, None])
    np.testing.assert_array_equal(value(vmap(lambda x: sg.constant(7.0))(A), {A: a}), [7, 7, 7])


def test_vmap_of_derivatives_and_derivatives_of_vmap() -> None:
    X = sg.matrix("X", shape=("n", 3))
    w = sg.vector("w", shape=(3,))
    a, b = rng.normal(size=(4, 3)), rng.normal(size=3)

    def loss(x: Variable) -> Variable:
        return sg.tanh(sg.sum(x * w)) ** 2

    per_example = vmap(lambda x: grad(loss(x), w))(X)
    t = np.tanh(a @ b)
    want = (2 * t * (1 - t * t))[:, None] * a
    np.testing.assert_allclose(value(per_example, {X: a, w: b}), want)
    total = grad(sg.sum(vmap(loss)(X)), w)
    np.testing.assert_allclose(value(total, {X: a, w: b}), want.sum(axis=0))


def test_jacobian_and_hessian_by_batching() -> None:
    x = sg.vector("x", shape=(3,))
    y = sg.sin(x) * sg.prod(x)
    at = np.array([0.5, -1.0, 2.0])
    reverse = vmap(lambda u: vjp(y, x, u))(sg.constant(np.eye(3)))
    forward = vmap(lambda v: jvp(y, x, v), out_axes=1)(sg.constant(np.eye(3)))
    a, b = value(reverse, {x: at}), value(forward, {x: at})
    np.testing.assert_allclose(a, b, rtol=1e-13)
    want = np.outer(np.sin(at), at.prod() / at) + np.diag(np.cos(at) * at.prod())
    np.testing.assert_allclose(a, want, rtol=1e-12)
    cost = sg.sum(y * y)
    hessian = value(vmap(lambda v: hvp(cost, x, v))(sg.constant(np.eye(3))), {x: at})
    np.testing.assert_allclose(hessian, hessian.T, rtol=1e-10)


def test_chain_without_recursion() -> None:
    x = sg.scalar("x")
    y = x
    for _ in range(20_000):
        y = sg.sin(y)
    batched = vectorize(y, {x: sg.vector("X", shape=("n",))})
    assert len(toposort([batched])) == 20_000


def test_empty_batch() -> None:
    x = sg.vector("x", shape=(3,))
    X = sg.matrix("X", shape=("n", 3))
    assert value(vectorize(sg.sum(x), {x: X}), {X: np.zeros((0, 3))}).shape == (0,)


def test_bad_replacements() -> None:
    x, y = sg.vector("x", shape=(3,)), sg.scalar("y")
    out = sg.sum(x) * y
    with pytest.raises(DTypeError, match=r"batch for x.*float32\[5, 3\].*test_batching.py"):
        vectorize(out, {x: sg.matrix(dtype="float32", shape=(5, 3))})
    with pytest.raises(RankError, match="one axis more"):
        vectorize(out, {x: sg.vector(shape=(3,))})
    with pytest.raises(SizeError, match="sizes behind the first axis differ"):
        vectorize(out, {x: sg.matrix(shape=(5, 4))})
    with pytest.raises(SizeError, match="batch sizes 5 and 6 differ"):
        vectorize(out, {x: sg.matrix(shape=(5, 3)), y: sg.vector(shape=(6,))})
    with pytest.raises(SizeError, match="at least one"):
        vectorize(out, {})
    with pytest.raises(RankError, match="axis 2 does not exist"):
        vmap(sg.exp, in_axes=2)(sg.matrix(shape=(2, 2)))
    with pytest.raises(RankError, match="1 entries for 2"):
        vmap(sg.add, in_axes=(0,))(x, x)
    with pytest.raises(SizeError, match="no argument is mapped"):
        vmap(sg.exp, in_axes=None)(x)
    with pytest.raises(SizeError, match="batch sizes"):
        vmap(sg.add)(x, sg.vector(shape=(4,)))


def test_vmap_on_arrays_compiles_on_first_use() -> None:
    calls = []

    def f(x: Any, y: Any) -> Any:
        calls.append(1)
        return sg.sum(sg.sin(x) * y)

    rng = np.random.default_rng(5)
    a, b = rng.normal(size=(4, 3)), rng.normal(size=(3,))
    mapped = vmap(f, in_axes=(0, None))
    np.testing.assert_allclose(mapped(a, b), np.sin(a) @ b)
    np.testing.assert_allclose(mapped(a[:2], b), np.sin(a[:2]) @ b)
    assert len(calls) == 1  # sizes are free
    assert mapped(a.astype("float32"), b.astype("float32")).dtype == np.float32
    np.testing.assert_allclose(vmap(f, in_axes=(1, 0))(a.T, a), (np.sin(a) * a).sum(1))
    assert repr(mapped) == "<vmap(f)>"
    per_example = vmap(sg.grad(f), in_axes=(0, None))(a, b)
    np.testing.assert_allclose(per_example, np.cos(a) * b)
    of_batch = sg.grad(lambda x: sg.sum(vmap(f, in_axes=(0, None))(x, sg.constant(b))))(a)
    np.testing.assert_allclose(of_batch, np.cos(a) * b)
    twice = vmap(vmap(lambda x, y: x * y, in_axes=(None, 0)), in_axes=(0, None))(a[0], b)
    np.testing.assert_allclose(twice, np.outer(a[0], b))
    np.testing.assert_allclose(vmap(sg.hessian(lambda x: sg.sum(x**3)))(a), 6 * a[:, :, None] * np.eye(3))
    np.testing.assert_array_equal(vmap(lambda k: k * 2)([1, 2, 3]), [2, 4, 6])
    assert vmap(lambda k: k * 2)(np.arange(0)).shape == (0,)


def test_vmap_of_nested_structures() -> None:
    rng = np.random.default_rng(6)
    p = {"w": rng.normal(size=(5, 3)), "b": rng.normal(size=3)}
    x = rng.normal(size=(4, 3))

    def layer(p: Any, x: Any, kind: str, scale: Any) -> Any:
        assert kind == "tanh"
        y = sg.tanh(p["w"] @ x if p["w"].type.ndim > 1 else p["w"] * x + p["b"]) * scale
        return {"y": y, "pair": (x, y)}

    shared = vmap(layer, in_axes=(None, 0, None))
    out = shared(p, x, "tanh", scale=np.arange(4.0))
    np.testing.assert_allclose(out["y"], np.tanh(x @ p["w"].T) * np.arange(4.0)[:, None])
    np.testing.assert_allclose(out["pair"][0], x)
    each = vmap(layer, in_axes=({"w": 0, "b": None}, None, None), out_axes={"y": 1, "pair": 0})
    out = each(p, x[0], "tanh", scale=np.ones(5))
    np.testing.assert_allclose(out["y"].T, np.tanh(p["w"] * x[0] + p["b"]))
    assert out["pair"][1].shape == (5, 3)
    assert [v.type.ndim for v in vmap(lambda *v: list(v))(sg.vector(), sg.matrix())] == [1, 2]


def test_vmap_refuses_what_does_not_fit() -> None:
    x = sg.matrix("x", shape=(2, 3))
    with pytest.raises(DTypeError, match=r"vmap: wanted a function, got .*test_batching"):
        vmap(x)  # type: ignore[arg-type]
    with pytest.raises(RankError, match=r"axis 0 does not exist in a tensor of 0 axes"):
        vmap(lambda x: x)(2.0)
    with pytest.raises(RankError, match=r"in_axes has \(0, 1\) for a tensor.*test_batching"):
        vmap(sg.exp, in_axes=((0, 1),))(x)
    with pytest.raises(RankError, match=r"in_axes has entries \['v'\] for \['w'\].*test_batching"):
        vmap(lambda p: p["w"], in_axes=({"v": 0},))({"w": x})
    with pytest.raises(RankError, match=r"in_axes has 1 entries for 2 tensors"):
        vmap(lambda p: p[0], in_axes=((0,),))((x, x))
    with pytest.raises(RankError, match=r"out_axes has 3 entries for 2 tensors|out_axes has 3 entries for 2 results"):
        vmap(lambda v: (v, v), out_axes=(0, 0, 0))(x)
    with pytest.raises(RankError, match=r"an axis is an int, got None"):
        vmap(lambda v: v, out_axes=None)(x)
    with pytest.raises(SizeError):
        vmap(lambda a, b: a + b)(np.ones(3), np.ones(4))
    with pytest.raises(SizeError, match="no argument is mapped"):
        vmap(lambda a: a, in_axes=None)(np.ones(3))


def test_rules_that_are_missing_or_wrong_are_named() -> None:
    class NoRule(Op):
        name = "no_rule"

        def infer(self, *inputs: TensorType) -> TensorType:
            return inputs[0]

    class Wrong(NoRule):
        name = "wrong_rule"

        def batch(self, inputs: Sequence[Variable], batched: Sequence[bool]) -> Sequence[Variable]:
            return [sg.sum(inputs[0])]

    x, X = sg.scalar("x"), sg.vector("X", shape=(3,))
    with pytest.raises(RuleError, match=r"no_rule has no batching rule.*test_batching.py"):
        vectorize(apply(NoRule(), x), {x: X})
    with pytest.raises(RuleError, match=r"wrong_rule: .*returned float64\[\], wanted float64\[3\]"):
        vectorize(apply(Wrong(), x), {x: X})


@settings(max_examples=60)
@given(st.data())
def test_random_programs_and_their_gradients(data: st.DataObject) -> None:
    program = random_program(from_hypothesis(data.draw), steps=8)
    outputs = [*program.outputs, *program.gradients()]
    size = 3
    flags = [data.draw(st.booleans()) for _ in program.inputs]
    flags[0] = True
    stacks = [
        np.stack([np.roll(v, k) * (1 - 0.25 * k) for k in range(size)]).astype(v.dtype) if f else v
        for v, f in zip(program.values, flags, strict=True)
    ]
    batched = [
        Variable(TensorType(v.type.dtype, (size, *v.type.shape))) if f else v
        for v, f in zip(program.inputs, flags, strict=True)
    ]
    replace = {v: X for v, X, f in zip(program.inputs, batched, flags, strict=True) if f}
    got = interpret(vectorize(outputs, replace), dict(zip(batched, stacks, strict=True)))
    for i, k in itertools.product(range(size), range(len(outputs))):
        element = [s[i] if f else s for s, f in zip(stacks, flags, strict=True)]
        want = value(outputs[k], dict(zip(program.inputs, element, strict=True)))
        np.testing.assert_allclose(got[k][i], want, rtol=1e-9, atol=1e-11)
