"""The functions of docs/orders.md: all ten orders against mpmath, and the sizes that the page promises."""

from __future__ import annotations

import time

import numpy as np
import pytest

import symgraph as sg
from symgraph.graph import Variable, toposort
from symgraph.runtime.interpreter import interpret

pytest.importorskip("benchmarks", reason="benchmarks are in the checkout only")

from benchmarks.orders import SAMPLES, Found, document, exact, section
from benchmarks.rows.orders import COLD, FUNCTIONS, ORDERS, ROW, X

AT = X[list(SAMPLES)]
RTOL = 1e-13


def of(name: str) -> tuple[Variable, Variable]:
    x = sg.vector("x", shape="n")
    return x, FUNCTIONS[name][0](sg, x)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_ten_orders_against_mpmath(name: str) -> None:
    x, y = of(name)
    wanted = exact(name)
    taylor = [sg.derivative(y, x, n) for n in ORDERS]
    repeated = [y]
    for _ in range(4):
        repeated.append(sg.grad(sg.sum(repeated[-1]), x))
    found = {
        "derivative": interpret(taylor, {x: AT}),
        "derivative, compiled": sg.function([x], [taylor[0], taylor[9]])(AT),
        "grad": interpret(repeated[1:], {x: AT}),
    }
    orders = {"derivative, compiled": [1, 10]}
    for how, values in found.items():
        for n, got in zip(orders.get(how, ORDERS), values, strict=False):
            error = np.max(np.abs(got - wanted[n])) / np.max(np.abs(wanted[n]))
            assert error < RTOL, f"{how}, order {n}: {error}"


def test_tenth_order_of_a_quotient_is_small_and_quick() -> None:
    x, y = of("exp(sin x)/(1 + x²)")
    start = time.perf_counter()
    d = sg.derivative(y, x, 10)
    assert time.perf_counter() - start < 1
    assert len(toposort([d])) < 250
    assert len(sg.function([x], d).optimized.nodes) < 250


def test_sixth_order_by_repeated_grad_is_small() -> None:
    x, y = of("exp(sin x)/(1 + x²)")
    for _ in range(6):
        y = sg.grad(sg.sum(y), x)
    assert len(toposort([y])) < 1000


def test_elementwise_functions_are_one_kernel_at_every_order() -> None:
    for name in FUNCTIONS:
        if "W₂" not in name:  # which has matrix products
            x, y = of(name)
            for n in (1, 5, 10):
                assert sg.function([x], sg.derivative(y, x, n)).cost.kernels == 1, (name, n)


def test_a_page_keeps_what_is_not_measured_again() -> None:
    one = Found(
        facts={"compile": 1.0, "nodes": 3, "left": 2, "flops": 4.0, "error": 1e-16, "run": 2e-5, "median": 3e-5}
    )
    far = Found(facts={**one.facts, "error": 1e-3, "run": 4e-5})
    row = {"derivative": one, "grad": one, "jax.grad": far, "jet": Found("fails")}
    text = section("softplus x", [row] * len(ORDERS))
    assert "| 0.50  |" in text
    assert "fails" in text
    assert "**1e-03**" in text
    name = "sin(sin(sin x))"
    page = document("", {"softplus x": text}, "Machine: a.")
    both = document(page, {name: section(name, [row] * len(ORDERS))}, "Machine: a.")
    assert both.index(f"## {name}") < both.index("## softplus x")
    assert "softplus x\n" not in document(page, {name: section(name, [row] * len(ORDERS))}, "Machine: b.")
    assert len(ROW.cases) == len(FUNCTIONS) * len(ORDERS) + len(COLD)
