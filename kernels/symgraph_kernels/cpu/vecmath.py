"""Vector math: the functions whose loops vectorize, written as straight-line code on a `Lane`.

`VECTOR` maps each name to a writer `(lane, *operands) -> value`; `scalar` makes Numba callables of them.
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from symgraph_kernels.cpu.vecmath_lane import Lane, Value

Writer = Callable[..., Value]


def _call(symbol: str) -> Writer:
    def write(f: Lane, *args: Value) -> Value:
        name = symbol if f.double else symbol + "f"
        fn = f.b.module.globals.get(name)
        if fn is None:
            fn = ir.Function(f.b.module, ir.FunctionType(f.type, [f.type] * len(args)), name=name)
        return f.b.call(fn, args)

    return write


def _sigmoid(f: Lane, x: Value) -> Value:
    e = _call("exp")(f, f.neg(f.abs(x)))
    return f.div(f.select(f.cmp("<", x, 0.0), e, 1.0), f.add(e, 1.0))


def _softplus(f: Lane, x: Value) -> Value:
    e = _call("exp")(f, f.neg(f.abs(x)))
    return f.add(f.select(f.cmp(">", x, 0.0), x, 0.0), _call("log1p")(f, e))


def _logaddexp(f: Lane, a: Value, b: Value) -> Value:
    e = _call("exp")(f, f.neg(f.abs(f.sub(a, b))))
    greater = f.select(f.cmp(">", a, b), a, b)
    return f.select(f.cmp("==", a, b), f.add(a, 0.6931471805599453), f.add(greater, _call("log1p")(f, e)))


VECTOR: dict[str, Writer] = {
    "exp": _call("exp"),
    "exp2": _call("exp2"),
    "expm1": _call("expm1"),
    "log": _call("log"),
    "log2": _call("log2"),
    "log10": _call("log10"),
    "log1p": _call("log1p"),
    "sin": _call("sin"),
    "cos": _call("cos"),
    "sinh": _call("sinh"),
    "cosh": _call("cosh"),
    "tanh": _call("tanh"),
    "sigmoid": _sigmoid,
    "softplus": _softplus,
    "logaddexp": _logaddexp,
    "erf": _call("erf"),
    "erfc": _call("erfc"),
    "power": _call("pow"),
}
