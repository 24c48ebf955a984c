"""Graphs as text and back."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

import symgraph as sg
from symgraph.autodiff import grad
from symgraph.errors import ParseError
from symgraph.graph import Constant, Graph, SharedVariable, Variable, leaves
from symgraph.printing import debugprint, graphs_equal, parse_graph, print_graph
from symgraph.runtime.interpreter import interpret
from symgraph.testing import random_program
from symgraph.testing.programs import from_hypothesis
from symgraph.types import DTYPES, Size, atoms, dim, evaluate, floordiv, size_max, size_min, tensor_type


def round_trip(graph: Graph) -> Graph:
    text = print_graph(graph)
    back = parse_graph(text)
    assert print_graph(back) == text
    assert graphs_equal(back, graph)
    return back


def test_looks_like_this() -> None:
    x = sg.matrix("x", shape=("batch", 3))
    w = sg.shared(np.zeros(3), name="w")
    y = sg.tanh(x * w)
    largest, where = sg.max_and_argmax(y, axis=1)
    largest.name = "largest"
    text = print_graph(Graph([x], [largest, where]), lines=False)
    assert text.splitlines() == [
        "%0 'x': float64[batch, 3] = input",
        "%1 'w': float64[3] = shared",
        "%2: float64[batch, 3] = broadcast{shape=(batch, 3), axes=(1,)} %1",
        "%3: float64[batch, 3] = multiply %0, %2",
        "%4: float64[batch, 3] = tanh %3",
        "%5 'largest': float64[batch], %6: int64[batch] = max_and_argmax{axis=1} %4",
        "return %5, %6",
    ]
    (line,) = y.sources
    assert str(Graph([x], [y])).splitlines()[-2].endswith(f"tanh %3   # test_printing.py:{line.number}")


def test_inputs_that_are_not_used_and_outputs_that_are_inputs() -> None:
    x, y = sg.scalar("x"), sg.scalar("y")
    back = round_trip(Graph([x, y], [x, x, sg.exp(x)]))
    assert len(back.inputs) == 2
    assert back.outputs[0] is back.inputs[0] is back.outputs[1]


def test_intermediate_variables_as_inputs() -> None:
    x = sg.scalar("x")
    h = sg.exp(x)
    back = round_trip(Graph([h], [h * h]))
    assert [n.op.name for n in back.nodes] == ["multiply"]


def test_variables_that_are_no_inputs_stay_free() -> None:
    x, y = sg.scalar("x"), sg.scalar("y")
    back = round_trip(Graph([x], [x + y]))
    assert len(back.inputs) == 1
    assert "free" in print_graph(back)


def test_names_of_any_kind() -> None:
    names = ["a b", "it's", 'quo"te', "# no comment", "", "%1", "line\nbreak", "é", "back\\slash", "{[("]
    xs = [Variable(tensor_type("float32", ("batch size", "lambda", None)), name=n) for n in names]
    back = round_trip(Graph(xs, xs))
    assert [v.name for v in back.inputs] == names
    assert back.inputs[0].type.shape[0] is dim("batch size")
    assert back.inputs[0].type.shape[1] is dim("lambda")
    assert len({v.type.shape[2] for v in back.inputs}) == len(names)


@pytest.mark.parametrize(
    "size",
    [
        dim("n") + 1,
        2 * dim("n") * dim("m") - dim("n") + 3,
        floordiv(dim("n") + 1, 2),
        size_max(dim("n"), dim("m")) * 2,
        size_min(dim("n") - 1, 5),
        floordiv(dim("n") * dim("n"), dim("m")),
        -dim("n") + 7,
    ],
    ids=str,
)
def test_sizes(size: Size) -> None:
    back = round_trip(Graph([x := Variable(tensor_type("int8", [size, size]))], [x]))
    assert back.inputs[0].type == x.type


def test_unknown_sizes_keep_where_they_are_equal() -> None:
    a, b = dim(), dim()
    first, second = Variable(tensor_type("float64", [b, a])), Variable(tensor_type("float64", [a * b + a, b + b]))
    back = round_trip(Graph([first, second], [first, second]))
    q, p = back.inputs[0].type.shape
    assert back.inputs[1].type.shape == (p * q + p, q + q)
    assert p is not a


@settings(max_examples=200)
@given(st.data())
def test_constants_keep_every_bit(data: st.DataObject) -> None:
    dtype = np.dtype(data.draw(st.sampled_from(DTYPES)))
    array = data.draw(npst.arrays(dtype, npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=7)))
    back = round_trip(Graph((), [Constant(array, name=data.draw(st.none() | st.text(max_size=5)))])).outputs[0]
    assert isinstance(back, Constant)
    assert back.data.dtype == array.dtype
    assert back.data.shape == array.shape
    assert back.data.tobytes() == array.tobytes()


def test_nan_payloads_and_signed_zeros() -> None:
    odd = np.array([0x7FF8000000000001, 0xFFF8000000000000, 0x7FF8000000000000, 1 << 63], dtype="uint64").view(
        "float64"
    )
    back = round_trip(Graph((), [Constant(odd)])).outputs[0]
    assert isinstance(back, Constant)
    assert back.data.tobytes() == odd.tobytes()
    assert not graphs_equal(sg.constant(0.0), sg.constant(-0.0))


def test_large_constants_can_be_left_out() -> None:
    c = sg.constant(np.arange(1000.0))
    assert "data " in print_graph(c)
    assert print_graph(c, data=False).splitlines()[0] == "%0: float64[1000] = constant ..."


def test_shared_variables_are_taken_by_name() -> None:
    w = sg.shared(np.ones(3), name="w")
    text = print_graph(Graph((), [w * 2]))
    back = parse_graph(text, shared=[w])
    assert any(v is w for n in back.nodes for v in n.inputs)
    (made,) = [v for v in leaves(parse_graph(text).outputs) if v.name == "w"]
    assert isinstance(made, SharedVariable)
    assert made.get_value().tolist() == [0, 0, 0]


@settings(max_examples=60)
@given(st.data())
def test_random_programs_and_their_gradients(data: st.DataObject) -> None:
    program = random_program(from_hypothesis(data.draw), steps=8, dtypes=("float64", "float32"))
    graph = Graph(program.inputs, [*program.outputs, *program.gradients()])
    back = round_trip(graph)
    for a, b in zip(
        interpret(graph, program.givens),
        interpret(back, dict(zip(back.inputs, program.values, strict=True))),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


def test_long_chains() -> None:
    x = sg.scalar("x")
    y = x
    for _ in range(20_000):
        y = sg.sin(y)
    assert len(round_trip(Graph([x], [y])).nodes) == 20_000


def test_products_with_quotients_of_sizes_read_back() -> None:
    x = sg.matrix("x", shape=("n", "m"))
    few = x[::4]
    twice, flat = sg.concatenate([few, few], axis=0), sg.reshape(x[::4, ::4], (-1,))
    back = round_trip(Graph([x], [twice, flat, x[1:]]))
    assert [v.type for v in back.outputs] == [twice.type, flat.type, x[1:].type]


def test_sizes_are_what_python_computes_from_their_text() -> None:
    n, m = dim("n"), dim("m")
    env = {"n": 6, "m": 7}
    for size in (
        m * (n + 3 * m) // 4,
        -1 * ((n + 3) // 4),
        3 - ((n + 3) // 4) * ((m + 3) // 4),
        n * m - m,
        2 * (n // 4),
    ):
        v = Variable(tensor_type("float64", (size,)))
        for text in (str(size), print_graph(Graph([v], [v])).partition("[")[2].partition("]")[0]):
            assert eval(text, dict(env)) == evaluate(size, {a: env[a.name or ""] for a in atoms(size) if not a.fn}), (
                text
            )
    assert str(n * n - n) == "n*n - n"


def test_source_lines_come_back() -> None:
    x = sg.scalar("x")
    y = sg.exp(x)
    back = parse_graph(print_graph(Graph([x], [y])))
    (line,) = back.outputs[0].sources
    assert str(line) == str(next(iter(y.sources)))


def test_equality_of_graphs() -> None:
    x, y = sg.scalar("x"), sg.scalar("x")
    assert graphs_equal(sg.sin(x) + 1, sg.sin(y) + 1)
    assert not graphs_equal(sg.sin(x) + 1, sg.sin(y) + 2)
    assert not graphs_equal(sg.sin(x), sg.cos(x))
    s = sg.sin(x)
    assert not graphs_equal(s + s, sg.sin(x) + sg.sin(x))  # what is shared counts
    assert not graphs_equal(sg.exp(sg.scalar("a")), sg.exp(sg.scalar("b")))
    assert not graphs_equal(sg.exp(sg.scalar("a")), sg.exp(sg.scalar("a", dtype="float32")))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "does not end"),
        ("%0: float64[] = input", "does not end"),
        ("%0: complex[] = input\nreturn %0", "line 1: not a dtype: complex"),
        ("%0: float64[ = input\nreturn %0", "line 1: .*not closed"),
        ("%0: float64[] = nonsense\nreturn %0", "line 1: no operation is called nonsense"),
        ("%0: float64[] = exp %1\nreturn %0", "line 1: %1 is used before it is declared"),
        ("%0: float64[] = input\n%0: float64[] = input\nreturn %0", "line 2: %0 is declared twice"),
        (
            "%0: float64[3] = input\n%1: float64[4] = exp %0\nreturn %1",
            r"line 2: exp makes float64\[3\], but the text says",
        ),
        ("%0: float64[3] = input\n%1: float64[3] = add %0\nreturn %1", "line 2: add takes 2 operands"),
        ("%0: float64[2] = constant [1.0]\nreturn %0", "line 1: 1 elements do not fill"),
        ("%0: float64[] = constant one\nreturn %0", "line 1"),
        ("%0: float64[] = input\n%1: float64[] = reshape{shape=open('x')} %0\nreturn %1", "line 2: cannot read"),
        ("%0: float64[] = input\n%1: float64[] = reshape{size=()} %0\nreturn %1", "line 2"),
        ("%0: float64[] = input\nreturn %0 %0", "line 2: expected operands"),
        ("float64 x", "line 1: expected %number"),
    ],
)
def test_text_that_is_no_graph(text: str, message: str) -> None:
    with pytest.raises(ParseError, match=message):
        parse_graph(text)


def test_debugprint() -> None:
    x = sg.vector("x", shape=("n",))
    h = sg.exp(x)
    h.name = "h"
    y = sg.sum(h * h + 1)
    text = debugprint(y, file="str", sources=False)
    assert text.splitlines() == [
        "sum{axes=(0,)}: float64[]",
        "└─ add: float64[n]",
        "   ├─ multiply: float64[n]",
        "   │  ├─ h = exp: float64[n] [1]",
        "   │  │  └─ x: float64[n]",
        "   │  └─ h = exp: float64[n] -> [1]",
        "   └─ broadcast{shape=(n,), axes=()}: float64[n]",
        "      └─ 1.0: float64[]",
    ]
    assert "(test_printing.py:" in debugprint(y, file="str")
    stream = io.StringIO()
    assert debugprint([y, x], file=stream) is None
    assert stream.getvalue().splitlines()[-1] == "x: float64[n]"
    assert debugprint(y, file="str", depth=1, sources=False).splitlines()[2] == "   └─ ..."


def test_debugprint_of_long_chains_and_ladders(capsys: pytest.CaptureFixture[str]) -> None:
    x = sg.scalar("x")
    y = x
    for _ in range(3000):
        y = sg.tanh(y + y)
    debugprint(grad(y, x))
    assert len(capsys.readouterr().out.splitlines()) < 5000
