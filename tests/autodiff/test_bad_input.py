"""What the transformations do not take: one clear error class for each cause, with the user's line."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import (
    CostError,
    DisconnectedError,
    DTypeError,
    FormatError,
    MissingInputError,
    RankError,
    RuleError,
    SizeError,
    SymgraphError,
)

loose: Any = sg  # for what a type checker would refuse

x, v3 = sg.scalar("x"), sg.vector("v3", shape=(3,))
m = sg.matrix("m", shape=(2, 3))
i3 = sg.vector("i3", shape=(3,), dtype="int64")
f3 = sg.vector("f3", shape=(3,), dtype="float32")
other = sg.vector("other", shape=(3,))
cost = sg.sum(v3 * v3)
ones3 = np.ones(3)


def cube(x: Any) -> Any:
    return sg.sum(x**3)


def same(x: Any) -> Any:
    return x * x


Case = tuple[Callable[[], Any], type[SymgraphError], str]

NOT_SCALAR: list[Case] = [
    (lambda: sg.grad(v3 * 2, v3), CostError, r"grad: .*scalar.*float64\[3\]"),
    (lambda: sg.hvp(v3 * 2, v3, ones3), CostError, r"scalar.*float64\[3\]"),
    (lambda: sg.hessian(v3 * 2, v3), CostError, r"scalar.*float64\[3\]"),
    (lambda: sg.ggn_vp(v3 * 2, v3, v3, ones3), CostError, r"scalar.*float64\[3\]"),
    (lambda: sg.grad(sg.sum(i3), v3), CostError, r"float.*int64"),
    (lambda: loose.grad(3.0, v3), CostError, r"must be a variable, got 3\.0"),
    (lambda: loose.hessian(3.0, v3), CostError, r"must be a variable, got 3\.0"),
    (lambda: loose.hvp(3.0, v3, ones3), CostError, r"must be a variable, got 3\.0"),
    (lambda: loose.ggn_vp(3.0, v3, v3, ones3), CostError, r"must be a variable, got 3\.0"),
    (lambda: loose.vjp(3.0, v3, 1.0), DTypeError, r"vjp: y must be a variable of a graph, got 3\.0"),
    (lambda: loose.jvp(3.0, v3, ones3), DTypeError, r"jvp: y must be a variable of a graph, got 3\.0"),
    (lambda: loose.taylor(3.0, v3, ones3, 2), DTypeError, r"taylor: y must be a variable of a graph"),
    (lambda: loose.jacobian(3.0, v3), DTypeError, r"jacobian: y must be a variable of a graph"),
    (lambda: loose.laplacian(3.0, v3), DTypeError, r"laplacian: y must be a variable of a graph"),
    (lambda: loose.linearize(3.0, v3), DTypeError, r"linearize: y must be a variable of a graph"),
    (lambda: loose.derivative(3.0, v3), DTypeError, r"derivative: y must be a variable of a graph"),
    (lambda: sg.grad(same)(v3), CostError, r"scalar.*float64\[3\]"),
    (lambda: sg.grad(same)(ones3), CostError, r"scalar"),
    (lambda: sg.value_and_grad(same)(ones3), CostError, r"scalar"),
    (lambda: sg.hessian(same)(ones3), CostError, r"scalar"),
    (lambda: sg.hvp(same)(ones3, v=ones3), CostError, r"scalar"),
    (lambda: sg.grad(lambda x: 3.0)(ones3), CostError, r"must return a scalar variable, got 3\.0"),
    (lambda: sg.grad(lambda x: None)(ones3), CostError, r"must return a scalar variable, got None"),
    (lambda: sg.derivative(lambda x: (x, x))(ones3), CostError, r"derivative: the function must return one variable"),
    (lambda: sg.laplacian(lambda x: (x, x))(ones3), CostError, r"laplacian: the function must return one variable"),
    (lambda: sg.grad(lambda x: [sg.sum(x)])(ones3), CostError, r"must return a scalar variable"),
]

WRT: list[Case] = [
    (lambda: sg.grad(cost, other), DisconnectedError, r"does not depend on other: float64\[3\]"),
    (lambda: sg.grad(cost, [v3, other]), DisconnectedError, r"does not depend on other"),
    (lambda: sg.vjp(cost, other, 1.0), DisconnectedError, r"does not depend on other"),
    (lambda: sg.jvp(cost, other, ones3), DisconnectedError, r"jvp: .*does not depend"),
    (lambda: sg.hvp(cost, other, ones3), DisconnectedError, r"does not depend on other"),
    (lambda: sg.jacobian(v3 * 2, other), DisconnectedError, r"does not depend"),
    (lambda: sg.jacobian(v3 * 2, other, mode="reverse"), DisconnectedError, r"does not depend on other"),
    (lambda: sg.hessian(cost, other), DisconnectedError, r"does not depend on other"),
    (lambda: sg.laplacian(cost, other), DisconnectedError, r"does not depend"),
    (lambda: sg.linearize(cost, other), DisconnectedError, r"does not depend"),
    (lambda: sg.taylor(cost, other, ones3, 2), DisconnectedError, r"taylor: .*does not depend"),
    (lambda: sg.derivative(v3 * 2, other, 2), DisconnectedError, r"does not depend"),
    (lambda: sg.grad(lambda a, b: cube(a), argnums=1)(ones3, ones3), DisconnectedError, r"does not depend"),
    (lambda: loose.grad(cost, None), DTypeError, r"grad: wrt must be a variable of a graph, got None"),
    (lambda: loose.grad(cost, "v3"), DTypeError, r"got 'v3' of type str"),
    (lambda: loose.grad(cost, [v3, ones3]), DTypeError, r"ndarray at position 1"),
    (lambda: loose.hessian(cost, "v3"), DTypeError, r"hessian: wrt must be a variable"),
    (lambda: loose.hvp(cost, "v3", ones3), DTypeError, r"wrt must be a variable"),
    (lambda: loose.vjp(cost, "v3", 1.0), DTypeError, r"vjp: x must be a variable"),
    (lambda: loose.jvp(cost, "v3", ones3), DTypeError, r"jvp: x must be a variable"),
    (lambda: loose.jacobian(cost, "v3"), DTypeError, r"jacobian: x must be a variable"),
    (lambda: loose.laplacian(cost, "v3"), DTypeError, r"laplacian: x must be a variable"),
    (lambda: loose.linearize(cost, "v3"), DTypeError, r"linearize: x must be a variable"),
    (lambda: loose.taylor(cost, "v3", ones3, 1), DTypeError, r"taylor: x must be a variable"),
    (lambda: loose.derivative(x, "x", 1), DTypeError, r"derivative: x must be a variable"),
    (lambda: loose.derivative([x, x], x, 1), FormatError, r"derivative: y must be one variable"),
    (lambda: loose.ggn_vp(cost, "v3", v3, ones3), DTypeError, r"ggn_vp: outputs must be a variable"),
    (lambda: loose.ggn_vp(cost, v3 * 2, v3, ones3), DisconnectedError, r"does not depend"),
    (lambda: sg.ggn_vp(cost, v3, other, ones3), DisconnectedError, r"does not depend on other: float64\[3\]"),
    (lambda: sg.ggn_vp(cost, v3, [v3, other], [ones3, ones3]), DisconnectedError, r"does not depend on other"),
    (lambda: sg.grad(sg.sum(v3 * i3), i3), DTypeError, r"i3: int64\[3\] is not of a float dtype"),
    (lambda: sg.vjp(v3 * i3, i3, ones3), DTypeError, r"i3: int64\[3\] is not of a float dtype"),
    (lambda: sg.jvp(v3 * i3, i3, ones3), DTypeError, r"i3: int64\[3\] is not of a float dtype"),
    (lambda: sg.taylor(v3 * i3, i3, ones3, 1), DTypeError, r"i3: int64\[3\] is not of a float dtype"),
    (lambda: sg.jacobian(v3 * i3, i3), DTypeError, r"i3: int64\[3\] is not of a float dtype"),
    (lambda: sg.hessian(sg.sum(v3 * i3), i3), DTypeError, r"i3: int64\[3\] is not of a float dtype"),
    (lambda: sg.laplacian(sg.sum(v3 * i3), i3), DTypeError, r"i3: int64\[3\] is not of a float dtype"),
    (lambda: sg.linearize(sg.sum(v3 * i3), i3), DTypeError, r"i3: int64\[3\] is not of a float dtype"),
    (lambda: sg.derivative(v3 * i3, i3), DTypeError, r"i3: int64\[3\] is not of a float dtype"),
    (lambda: sg.vjp(i3 * 2, v3, ones3), DTypeError, r"vjp: y: .*int64\[3\] is not of a float dtype"),
    (lambda: sg.jvp([v3, v3], [v3, v3], [ones3, ones3]), FormatError, r"jvp: x: v3: float64\[3\] is given twice"),
    (lambda: sg.taylor(v3, [v3, v3], [ones3, ones3], 1), FormatError, r"taylor: x: v3: float64\[3\] is given twice"),
    (lambda: sg.grad(cube)(np.ones(3, "int64")), DTypeError, r"argument 0 is int64\["),
    (lambda: sg.grad(cube, argnums=1)(ones3), MissingInputError, r"there is no argument 1"),
    (lambda: sg.grad(cube, argnums=-1)(ones3), RankError, r"argnums .*-1"),
    (lambda: sg.grad(cube, argnums=())(ones3), RankError, r"argnums .*\(\)"),
    (lambda: loose.jacobian(cube, "a")(ones3), RankError, r"argnums .*'a'"),
    (lambda: sg.grad(cube)(np.array(["a"])), DTypeError, r"."),
    (lambda: sg.hessian(cube)("text"), DTypeError, r"text"),
]

SEEDS: list[Case] = [
    (lambda: sg.vjp(v3, v3, f3), DTypeError, r"cotangent of v3: float64\[3\]: wanted float64\[3\], got float32\[3\]"),
    (lambda: sg.vjp(v3, v3, m), RankError, r"cotangent of v3.*wanted float64\[3\], got float64\[2, 3\]"),
    (lambda: sg.vjp(v3, v3, np.ones(4)), SizeError, r"cotangent of v3.*wanted float64\[3\], got float64\[4\]"),
    (lambda: sg.vjp(v3, v3, 1.0), RankError, r"cotangent of v3.*wanted float64\[3\], got float64\[\]"),
    (lambda: sg.vjp([v3, v3], v3, [ones3]), RankError, r"vjp: the cotangent: wanted 2, got 1"),
    (lambda: sg.vjp(v3, v3, None), DTypeError, r"cotangent"),
    (lambda: sg.vjp(v3, v3, "text"), DTypeError, r"text"),
    (lambda: sg.vjp(v3, v3, i3), DTypeError, r"cotangent of v3.*got int64\[3\]"),
    (lambda: sg.jvp(v3, v3, f3), DTypeError, r"tangent of v3: float64\[3\]: wanted float64\[3\], got float32\[3\]"),
    (lambda: sg.jvp(v3, v3, m), RankError, r"tangent of v3.*wanted float64\[3\], got float64\[2, 3\]"),
    (lambda: sg.jvp(v3, v3, np.ones(4)), SizeError, r"tangent of v3.*wanted float64\[3\], got float64\[4\]"),
    (lambda: sg.jvp(v3, [v3, other], [ones3]), RankError, r"jvp: the tangent: wanted 2, got 1"),
    (lambda: sg.jvp(v3, v3, None), DTypeError, r"tangent"),
    (lambda: sg.hvp(cost, v3, f3), DTypeError, r"of v3.*got float32\[3\]"),
    (lambda: sg.hvp(cost, v3, np.ones(4)), SizeError, r"of v3.*got float64\[4\]"),
    (lambda: sg.ggn_vp(cost, v3, v3, np.ones(4)), SizeError, r"of v3.*got float64\[4\]"),
    (lambda: sg.taylor(v3, v3, np.ones(4), 2), SizeError, r"direction of v3.*got float64\[4\]"),
    (lambda: sg.taylor(v3, v3, f3, 2), DTypeError, r"direction of v3.*got float32\[3\]"),
    (lambda: sg.taylor(v3, v3, None, 2), DTypeError, r"direction"),
    (lambda: sg.linearize(v3, v3)[1](np.ones(4)), SizeError, r"tangent of v3.*got float64\[4\]"),
    (lambda: sg.linearize(v3, v3)[1](m), RankError, r"tangent of v3.*got float64\[2, 3\]"),
    (lambda: sg.grad(cost, v3, known={other: f3}), DTypeError, r"float32\[3\]"),
    (lambda: sg.grad(None, v3), CostError, r"cost|known"),
    (lambda: loose.grad(cost, v3, known=[1]), FormatError, r"known"),
    (lambda: sg.vjp(same)(ones3, cotangent=np.ones(4)), SizeError, r"."),
    (lambda: sg.vjp(same)(ones3), MissingInputError, r"cotangent="),
    (lambda: sg.jvp(same)(ones3, tangent=np.ones((2, 3))), RankError, r"."),
    (lambda: sg.jvp(same)(ones3), MissingInputError, r"tangent="),
    (lambda: sg.jvp(same)(v3, tangent=f3), DTypeError, r"float32\[3\]"),
    (lambda: sg.hvp(cube)(ones3), MissingInputError, r"v="),
    (lambda: sg.ggn_vp(cube, same)(ones3), MissingInputError, r"v="),
    (lambda: sg.taylor(same, order=2)(ones3), MissingInputError, r"direction="),
    (lambda: sg.taylor(same, order=2)(v3, direction=np.ones(4)), SizeError, r"direction of v3.*got float64\[4\]"),
    (lambda: sg.linearize(same)(v3)[1](np.ones(4)), SizeError, r"tangent of v3.*got float64\[4\]"),
    (lambda: sg.hvp(cube)(v3, v=np.ones(4)), SizeError, r"."),
]

NAMES: list[Case] = [
    (lambda: loose.grad(cost, v3, disconnected="never"), FormatError, r"disconnected is .*got 'never'"),
    (lambda: loose.vjp(cost, v3, 1.0, disconnected="never"), FormatError, r"disconnected is .*got 'never'"),
    (lambda: loose.jvp(cost, v3, ones3, disconnected=None), FormatError, r"disconnected is .*got None"),
    (lambda: loose.taylor(cost, v3, ones3, 1, disconnected="x"), FormatError, r"disconnected is"),
    (lambda: loose.hessian(cost, v3, disconnected="x"), FormatError, r"disconnected is"),
    (lambda: loose.laplacian(cost, v3, disconnected="x"), FormatError, r"disconnected is"),
    (lambda: loose.hessian(cost, [v3, other], disconnected="none"), FormatError, r"is 'raise' or 'zero', got 'none'"),
    (lambda: loose.laplacian(cost, other, disconnected="none"), FormatError, r"is 'raise' or 'zero', got 'none'"),
    (lambda: sg.jacobian(v3, v3, mode="sideways"), FormatError, r"mode is .*got 'sideways'"),
    (lambda: loose.jacobian(v3, v3, mode=None), FormatError, r"mode is .*got None"),
    (lambda: sg.jacobian(same, mode="sideways")(ones3), FormatError, r"mode is .*got 'sideways'"),
    (lambda: sg.taylor(v3, v3, ones3, -1), FormatError, r"order .*got -1"),
    (lambda: loose.taylor(v3, v3, ones3, 1.0), FormatError, r"order .*got 1\.0"),
    (lambda: loose.taylor(v3, v3, ones3, None), FormatError, r"order .*got None"),
    (lambda: loose.taylor(v3, v3, ones3, True), FormatError, r"order .*got True"),
    (lambda: sg.derivative(v3, v3, -1), FormatError, r"n must be .*got -1"),
    (lambda: loose.derivative(v3, v3, 0.5), FormatError, r"n must be .*got 0\.5"),
    (lambda: sg.derivative(sg.sum(v3), v3), RankError, r"one shape"),
    (lambda: sg.derivative(sg.concatenate([v3, v3]), v3), SizeError, r"one shape"),
    (lambda: sg.taylor(same)(ones3, direction=ones3), FormatError, r"order .*got None"),
    (lambda: sg.taylor(same, order=-2)(ones3, direction=ones3), FormatError, r"order .*got -2"),
    (lambda: loose.ggn_vp(same, v3), DTypeError, r"ggn_vp: .*wanted a second one"),
    (lambda: sg.derivative(same, n=-1)(ones3), FormatError, r"n must be .*got -1"),
    (lambda: loose.value_and_grad(v3), DTypeError, r"wanted a function"),
]

AXES: list[Case] = [
    (lambda: sg.vmap(sg.exp, in_axes=1)(v3), RankError, r"axis 1 does not exist.*v3: float64\[3\]"),
    (lambda: sg.vmap(sg.exp, in_axes=-2)(v3), RankError, r"axis -2 does not exist"),
    (lambda: sg.vmap(sg.exp)(x), RankError, r"axis 0 does not exist"),
    (lambda: sg.vmap(sg.exp, out_axes=1)(v3), RankError, r"axis 1 does not exist"),
    (lambda: sg.vmap(sg.exp, out_axes=-3)(m), RankError, r"axis -3 does not exist"),
    (lambda: sg.vmap(lambda a, b: a * b, in_axes=(0, 5))(v3, v3), RankError, r"axis 5 does not exist"),
    (lambda: sg.vmap(sg.add, in_axes=(0,))(v3, v3), RankError, r"in_axes has 1 entries for 2"),
    (lambda: sg.vmap(lambda a: (a, a), out_axes=(0,))(v3), RankError, r"out_axes has 1 entries for 2"),
    (lambda: sg.vmap(sg.exp, in_axes=None)(v3), SizeError, r"no argument is mapped"),
    (lambda: sg.vmap(sg.add)(v3, sg.vector(shape=(4,))), SizeError, r"batch sizes .*3.*4"),
    (lambda: loose.vmap(sg.exp, in_axes="a")(v3), RankError, r"an axis is an int, got 'a'"),
    (lambda: loose.vmap(sg.exp, in_axes=1.0)(m), RankError, r"an axis is an int, got 1\.0"),
    (lambda: loose.vmap(sg.exp, out_axes=None)(m), RankError, r"out_axes: an axis is an int, got None"),
    (lambda: loose.vmap(v3), DTypeError, r"vmap: wanted a function"),
    (lambda: sg.vmap(lambda a: "text")(v3), DTypeError, r"text"),
    (lambda: sg.vmap(lambda a: None)(v3), DTypeError, r"None"),
    (lambda: sg.vmap(sg.exp)(), SizeError, r"no argument is mapped"),
    (lambda: sg.vectorize(cost, {}), SizeError, r"at least one variable"),
    (lambda: loose.vectorize(cost, None), FormatError, r"replace"),
    (lambda: loose.vectorize(cost, {"v3": m}), DTypeError, r"'v3'"),
    (lambda: loose.vectorize("cost", {v3: m}), DTypeError, r"vectorize: outputs must be a variable"),
    (lambda: sg.vectorize(cost, {v3: v3}), RankError, r"one axis more.*float64\[3\]"),
    (lambda: sg.vectorize(cost, {v3: sg.matrix(shape=(2, 4))}), SizeError, r"sizes behind the first axis"),
    (lambda: sg.vectorize(cost, {v3: sg.matrix(shape=(2, 3), dtype="float32")}), DTypeError, r"float32\[2, 3\]"),
    (lambda: sg.substitute(cost, {v3: m}), SizeError, r"v3.*float64\[2, 3\]"),
    (lambda: sg.substitute(cost, {v3: sg.vector(shape=(4,))}), SizeError, r"v3.*float64\[4\]"),
    (lambda: sg.substitute(cost, {v3: f3}), DTypeError, r"v3.*float32\[3\]"),
    (lambda: loose.substitute(cost, None), FormatError, r"replace"),
    (lambda: loose.substitute(cost, {"v3": v3}), DTypeError, r"'v3'"),
    (lambda: loose.substitute("cost", {v3: v3}), DTypeError, r"substitute: outputs must be a variable"),
]

OF_OPS: dict[str, Callable[[Any], Any]] = {
    "flip": lambda axis: sg.flip(m, axis),
    "roll": lambda axis: sg.roll(m, 1, axis),
    "repeat": lambda axis: sg.repeat(m, 2, axis),
    "diagonal": lambda axis: sg.diagonal(m, axis1=axis),
    "transpose": lambda axis: sg.transpose(m, (0, axis)),
    "swapaxes": lambda axis: sg.swapaxes(m, 0, axis),
    "moveaxis": lambda axis: sg.moveaxis(m, axis, 0),
    "expand_dims": lambda axis: sg.expand_dims(m, axis),
    "squeeze": lambda axis: sg.squeeze(m, axis),
    "concatenate": lambda axis: sg.concatenate([m, m], axis),
    "stack": lambda axis: sg.stack([m, m], axis),
    "split": lambda axis: sg.split(m, 2, axis),
    "tensordot": lambda axis: sg.tensordot(m, m, ((axis,), (0,))),
    "vecdot": lambda axis: sg.vecdot(m, m, axis),
    "sum": lambda axis: sg.sum(m, axis),
    "argmax": lambda axis: sg.argmax(m, axis),
    "softmax": lambda axis: sg.softmax(m, axis),
    "logsumexp": lambda axis: sg.logsumexp(m, axis),
    "take": lambda axis: sg.take(m, 0, axis),
    "take_along_axis": lambda axis: sg.take_along_axis(m, np.zeros((2, 3), "int64"), axis),
    "add_along_axis": lambda axis: sg.add_along_axis(m, np.zeros((2, 3), "int64"), m, axis),
}


@pytest.mark.parametrize("name", OF_OPS)
def test_an_op_along_an_axis_that_does_not_exist(name: str) -> None:
    found = rf"{name}: axis 7 does not exist in a tensor of . axes :: m: float64\[2, 3\].*\(test_bad_input\.py:\d+\)"
    with pytest.raises(RankError, match=found):
        OF_OPS[name](7)


def product(a: Any, b: Any) -> Any:
    return a * b


def pair(a: Any) -> Any:
    return a * 2, sg.sum(a)


RULES: list[Case] = [
    (lambda: sg.custom_vjp(product, lambda a, b, o, ct: ct)(v3, v3), RuleError, r"product\).*1 results, wanted 2"),
    (
        lambda: sg.custom_vjp(product, lambda a, b, o, ct: (ct,) * 3)(v3, v3),
        RuleError,
        r"product\).*3 results, wanted 2",
    ),
    (lambda: sg.custom_vjp(same, lambda a, o, ct: sg.cast(ct, "float32"))(v3), RuleError, r"same\).*float32\[3\]"),
    (
        lambda: sg.custom_vjp(same, lambda a, o, ct: sg.sum(ct))(v3),
        RuleError,
        r"same\).*wanted float64\[3\], got float64\[\]",
    ),
    (
        lambda: sg.custom_vjp(same, lambda a, o, ct: ct[:2])(v3),
        RuleError,
        r"same\).*wanted float64\[3\], got float64\[2\]",
    ),
    (lambda: sg.custom_vjp(same, lambda a, o, ct: "text")(v3), RuleError, r"same\).*'text'"),
    (lambda: sg.custom_vjp(product, lambda a, b, o, ct: (ct, ct))(v3, i3), RuleError, r"product\).*int64\[3\]"),
    (lambda: sg.custom_vjp(same, lambda a, ct: ct)(v3), RuleError, r"same\).*arguments"),
    (lambda: sg.custom_vjp(pair, lambda a, o, ct: (ct[0], ct[1]))(v3), RuleError, r"pair\).*2 results, wanted 1"),
    (lambda: sg.custom_jvp(same, lambda a, o, t: (t, t))(v3), RuleError, r"same\).*2 results, wanted 1"),
    (lambda: sg.custom_jvp(pair, lambda a, o, t: t)(v3), RuleError, r"pair\).*1 results, wanted 2"),
    (
        lambda: sg.custom_jvp(pair, lambda a, o, t: (t, t))(v3),
        RuleError,
        r"pair\).*wanted float64\[\], got float64\[3\]",
    ),
    (lambda: sg.custom_jvp(same, lambda a, o, t: sg.cast(t, "float32"))(v3), RuleError, r"same\).*float32\[3\]"),
    (lambda: sg.custom_jvp(same, lambda a, o, t: t[1:])(v3), RuleError, r"same\).*got float64\[2\]"),
    (lambda: sg.custom_jvp(same, lambda a, t: t)(v3), RuleError, r"same\).*arguments"),
    (lambda: sg.custom_jvp(same, lambda a, o, t: object())(v3), RuleError, r"same\).*object"),
    (lambda: loose.custom_vjp(same, 3), DTypeError, r"custom_vjp: wanted two functions, got 3"),
    (lambda: loose.custom_jvp(v3, same), DTypeError, r"custom_jvp: wanted two functions"),
    (lambda: sg.custom_vjp(lambda a: 3.0, lambda a, o, ct: ct)(v3), DTypeError, r"the result must be a variable"),
    (lambda: sg.multiply.bprop([v3, v3], 2, v3), RankError, r"multiply: there are 2 operands, got position 2"),
    (lambda: sg.multiply.bprop([v3, v3], other, v3), DisconnectedError, r"other: float64\[3\] is not an operand"),
    (lambda: sg.multiply.bprop([v3, v3], v3, v3), FormatError, r"v3: float64\[3\] is 2 of the operands"),
    (lambda: sg.multiply.bprop([v3, v3], 0, m), RankError, r"multiply.*wanted float64\[3\], got float64\[2, 3\]"),
    (lambda: sg.multiply.bprop([v3, v3], 0, f3), DTypeError, r"multiply.*wanted float64\[3\], got float32\[3\]"),
    (lambda: sg.scale_gradient(i3, 2.0), DTypeError, r"int64\[3\]"),
    (lambda: sg.zero_gradient(i3), DTypeError, r"int64\[3\]"),
    (lambda: sg.clip_gradient(i3, norm=1.0), DTypeError, r"int64\[3\]"),
    (lambda: sg.clip_gradient(v3), FormatError, r"clip_gradient"),
    (lambda: sg.clip_gradient(v3, norm=1.0, min=-1.0), FormatError, r"clip_gradient"),
    (lambda: loose.checkpoint(v3), DTypeError, r"checkpoint: wanted a function"),
    (lambda: loose.checkpoint(lambda a: None)(v3), DTypeError, r"checkpoint\(.*returned None, wanted tensors"),
    (lambda: sg.add_at(v3, ([0, 1],), ones3), SizeError, r"add_at: values of float64\[3\].*\[2\].*v3: float64\[3\]"),
    (lambda: sg.broadcast_to(v3, (2, 4)), SizeError, r"float64\[3\] does not broadcast to \[2, 4\]"),
]

CASES = [*NOT_SCALAR, *WRT, *SEEDS, *NAMES, *AXES, *RULES]


@pytest.mark.parametrize("case", CASES, ids=lambda c: str(c[0].__code__.co_firstlineno))
def test_one_error_with_the_line(case: Case) -> None:
    made, error, message = case
    with pytest.raises(error) as caught:
        made()
    text = str(caught.value)
    assert type(caught.value) is error, text
    assert re.search(message, text, re.DOTALL), text
    lines = [int(n) for n in re.findall(r"test_bad_input\.py:(\d+)", text)]
    assert made.__code__.co_firstlineno in lines, text
    assert len(lines) == len(set(lines)), text
