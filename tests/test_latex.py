"""Formulas: what they look like, that they are LaTeX, and that names are text."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable

import numpy as np
import pytest

import symgraph as sg
from symgraph import OPS
from symgraph.errors import FormatError
from symgraph.graph import Variable
from symgraph.notation import NOTATION
from symgraph.op import apply_node
from symgraph.testing.checks import samples_of, variables_for
from symgraph.testing.programs import random_program
from symgraph.texpieces import name, number

x, y = sg.vector("x", shape="n"), sg.vector("y", shape="n")
s, alpha = sg.scalar("s"), sg.scalar("alpha")
X, w, b = sg.matrix("X", shape=("n", 3)), sg.vector("w_1", shape=3), sg.scalar("b")
A, B = sg.matrix("A", shape=("n", "n")), sg.matrix("B", shape=("n", "n"))
at = sg.vector("k", dtype="int64", shape="n")
NASTY = (
    "<img src=x onerror=alert(1)>",
    "</script>",
    "変数",
    "$x$",
    r"\undefined{",
    "a&b %c #d _e ^f ~g",
    "'\"`",
    "}{",
    "",
)

FORMULAS: list[tuple[Callable[[], Variable], str]] = [
    (lambda: sg.grad(sg.sum(sg.softplus(x)), x), r"\sigma(x)"),
    (lambda: sg.grad(sg.softplus(s), s), r"\sigma(s)"),
    (lambda: sg.grad(sg.sum(sg.log(1 + sg.exp(x))), x), r"\sigma(x)"),
    (lambda: sg.grad(sg.sum(sg.tanh(x)), x), r"1 - \tanh^{2}(x)"),
    (lambda: sg.grad(sg.sum(sg.sigmoid(x) ** 2), x), r"2 \, \sigma^{2}(x) \odot \sigma(-x)"),
    (lambda: sg.mean((X @ w + b - y) ** 2), r"\frac{\left\lVert X w_{1} + b - y \right\rVert^{2}}{n}"),
    (lambda: sg.grad(sg.mean((X @ w + b - y) ** 2), w), r"\frac{2}{n} \, X^{\top} (X w_{1} + b - y)"),
    (lambda: sg.sqrt(sg.sum(x**2)), r"\left\lVert x \right\rVert"),
    (lambda: sg.sum(x * y), r"\sum_{i} x_{i} \, y_{i}"),
    (lambda: sg.sum(sg.exp(A), axis=1), r"\sum_{j} e^{A_{ij}}"),
    (lambda: sg.mean(X, axis=0), r"\frac{1}{n} \, \sum_{i} X_{ij}"),
    (lambda: sg.sum(X), r"\sum_{i,j} X_{ij}"),
    (lambda: sg.max(w), r"\max_{i} w_{1,i}"),
    (lambda: sg.argmax(X, axis=1), r"\operatorname{argmax}_{j} X_{ij}"),
    (lambda: sg.max_and_argmax(x, axis=0)[1], r"\operatorname{argmax}_{i} x_{i}"),
    (lambda: A @ B, "A B"),
    (lambda: A.T @ B, r"A^{\top} B"),
    (lambda: A @ B.T, r"A B^{\top}"),
    (lambda: (A @ B).T, r"B^{\top} A^{\top}"),
    (lambda: A.T.T, "A"),
    (lambda: x @ A, r"A^{\top} x"),
    (lambda: x @ y, r"x^{\top} y"),
    (lambda: sg.outer(x, y), r"x y^{\top}"),
    (lambda: (A + B) @ x, "(A + B) x"),
    (lambda: (2 * A) @ (x / 3), r"\frac{2 \, A x}{3}"),
    (lambda: sg.einsum("ijk,kl->lij", sg.tensor("T", shape=(2, 3, "n")), A),
     r"\operatorname{einsum}_{ijk,kl \to lij}(T, A)"),
    (lambda: alpha * x - (s - b) - (-s), r"\alpha \, x - (s - b) - (-s)"),
    (lambda: x - y - s, "x - y - s"),
    (lambda: x + (-y), "x - y"),
    (lambda: (x + y) * s, r"s \, (x + y)"),
    (lambda: -(x + y), "-(x + y)"),
    (lambda: x * y, r"x \odot y"),
    (lambda: 2 * x / 3, r"\frac{2 \, x}{3}"),
    (lambda: (x + y) ** 2, "(x + y)^{2}"),
    (lambda: (x / y) ** 2, r"\left(\frac{x}{y}\right)^{2}"),
    (lambda: (x**s) ** s, "(x^{s})^{s}"),
    (lambda: sg.exp(x) ** s, "(e^{x})^{s}"),
    (lambda: sg.abs(x + 1), r"\left| x + 1 \right|"),
    (lambda: 1 / x, r"\frac{1}{x}"),
    (lambda: 1e-5 * x, r"10^{-5} \, x"),
    (lambda: sg.where(x > 0, x, 0.0),
     r"\begin{cases} x & \text{if } x \gt 0 \\ 0 & \text{otherwise} \end{cases}"),
    (lambda: (x > 0) & (y < 1), r"x \gt 0 \land y \lt 1"),
    (lambda: sg.cast(x > 0, "float64"), r"\left[ x \gt 0 \right]"),
    (lambda: sg.softmax(X), r"\operatorname{softmax}(X)"),
    (lambda: sg.softmax(X, axis=0), r"\operatorname{softmax}_{\text{axis }0}(X)"),
    (lambda: sg.cumsum(X, axis=0), r"\operatorname{cumsum}_{\text{axis }0}(X)"),
    (lambda: sg.grad(sg.sum(sg.cumsum(x) * y), x), r"\operatorname{cumsum}^{\leftarrow}(y)"),
    (lambda: X[1:, 0], "X_{1:,0}"),
    (lambda: x[:3], "x_{:3}"),
    (lambda: X + w, "X + w_{1}"),
    (lambda: sg.copysign(x, y), r"\operatorname{copysign}(x, y)"),
    (lambda: sg.constant([1.0, 2.0]) + s, "(1, 2) + s"),
    (lambda: -sg.mean(sg.take_along_axis(sg.log_softmax(X), at[:, None], axis=1)),
     r"-\frac{1}{n} \, \sum_{i} (\log \operatorname{softmax}(X))_{i,k_{i}}"),
    (lambda: sg.sum(sg.take(x, at)), r"\sum_{i} x_{k_{i}}"),
    (lambda: sg.custom_vjp(sg.sin, lambda a, out, ct: ct)(x), r"\sin(x)"),
    (lambda: x, "x"),
    (lambda: sg.constant(2.5), "2.5"),
    (lambda: sg.shared(1.0) + sg.scalar(), r"\mathrm{shared}_{1} + \mathrm{input}_{2}"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "want"), FORMULAS, ids=[want for _, want in FORMULAS])
def test_formulas_read_as_a_person_would_write_them(make: Callable[[], Variable], want: str) -> None:
    assert sg.latex(make()) == want


def test_a_formula_ends_at_named_variables_and_has_its_own_name() -> None:
    z = X @ w
    z.name = "z"
    loss = sg.sum(sg.exp(z))
    assert sg.latex(loss) == r"\sum_{i} e^{z_{i}}"
    assert sg.latex(z) == "z = X w_{1}"
    assert sg.latex(sg.grad(loss, w)) == r"X^{\top} e^{z}"


def test_shared_parts_have_lines_of_their_own() -> None:
    t = sg.scalar("t")
    part = sg.sin(t + 1) * sg.cos(t + 2)
    text = sg.latex(part / (1 + part))
    assert text.splitlines() == [
        r"\begin{aligned}",
        r"& \frac{s_{1}}{1 + s_{1}} \\",
        r"\text{where } s_{1} &= \sin(t + 1) \, \cos(t + 2)",
        r"\end{aligned}",
    ], "a letter that no name has"


def test_letters_have_one_subscript() -> None:
    W, c = sg.shared(np.ones((3, 4)), "W"), sg.shared(np.zeros(4), "c")
    p = sg.log_softmax(sg.tanh(X @ W + c))
    loss = -sg.mean(sg.take_along_axis(p, at[:, None], axis=1))
    text = sg.latex(sg.grad(loss, W))
    assert r"\sum_{j} t_{1,ij}" in text
    check(text)


def test_long_graphs_are_elided_and_quick() -> None:
    v: Variable = s
    for k in range(10_000):
        v = sg.sin(v) * (v + k)
    start = time.perf_counter()
    text = sg.latex(v)
    assert time.perf_counter() - start < 2
    assert len(text.splitlines()) <= 25 + 2
    assert r"\vdots" in text or r"\cdots" in text
    assert len(text) < 10_000
    assert len(sg.latex(v, lines=5).splitlines()) <= 5 + 2
    check(text)


def test_notebooks_show_type_and_formula() -> None:
    assert X._repr_latex_() == r"$\displaystyle X \qquad {\small \in \mathtt{float64}^{n \times 3}}$"
    assert s._repr_latex_().endswith(r"{\small \in \mathtt{float64}}$")
    part = sg.sin(s + 1) * sg.cos(s + 2)
    many = (part / (1 + part))._repr_latex_()
    assert many.startswith("$$\\begin{aligned}\n")
    assert many.endswith("\\end{aligned}$$")
    assert many.count(r"\mathtt{float64}") == 1


def test_what_is_no_variable_is_refused() -> None:
    with pytest.raises(FormatError, match=r"latex: wanted a variable, got list  \(test_latex.py:"):
        sg.latex([x])  # type: ignore[arg-type]


def test_names() -> None:
    assert [name(t) for t in ("x", "w_1", "W1", "alpha", "alpha_0", "loss", "x_train_1", "Lambda")] == [
        "x", "w_{1}", "W_{1}", r"\alpha", r"\alpha_{0}", r"\mathrm{loss}", r"x_{\mathrm{train},1}", r"\Lambda",
    ]  # fmt: skip
    assert name("velocity of W1") == r"\text{velocity of W1}"
    assert name("a_") == r"\text{a}\_"


def test_numbers() -> None:
    values = (2.0, -1.5, 1e-5, -2e10, 1e300, float("inf"), -float("inf"), 0.1 + 0.2)
    assert [number(v).text for v in values] == [
        "2", "-1.5", "10^{-5}", r"-2 \times 10^{10}", "10^{300}", r"\infty", r"-\infty", "0.3",
    ]  # fmt: skip


# -- validity ----------------------------------------------------------------------------------------------------------


def everything() -> dict[str, str]:
    """A formula of each sample of each op, of the formulas above, and of nasty names."""
    found = {}
    for op_name in OPS:
        for k, sample in enumerate(samples_of(op_name)):
            for j, out in enumerate(apply_node(sample.op, variables_for(list(sample.inputs))).outputs):
                found[f"{op_name} {k} {j}"] = sg.latex(out)
    for k, (make, _) in enumerate(FORMULAS):
        found[f"formula {k}"] = make()._repr_latex_().strip("$")
    for seed in range(40):
        for j, out in enumerate(random_program(np.random.default_rng(seed)).outputs):
            found[f"program {seed} {j}"] = sg.latex(out)
    V = sg.matrix("V", shape=(3, 4))
    q = sg.log_softmax(sg.tanh(X @ V))
    loss = -sg.mean(sg.take_along_axis(q, at[:, None], axis=1))
    found["gradient"] = sg.latex(sg.grad(loss, V))
    for text in NASTY:
        v = sg.vector(text, shape="n")
        z = sg.exp(v * v[::-1]) ** 2
        z.name = text
        found[text] = z._repr_latex_().strip("$")
        found[text + " index"] = sg.latex(sg.sum(v + sg.vector(text, shape=sg.dim("n"))))
    return found


def check(text: str) -> None:
    """What every piece of LaTeX has: balanced braces and pairs, and nothing that HTML reads."""
    depth = 0
    for token in re.findall(r"\\.|[{}]", text, re.DOTALL):
        depth += {"{": 1, "}": -1}.get(token, 0)
        assert depth >= 0, text
    assert depth == 0, text
    assert len(re.findall(r"\\left(?![a-z])|\\left\\", text)) == len(re.findall(r"\\right(?![a-z])|\\right\\", text)), (
        text
    )
    assert re.findall(r"\\begin\{(\w+)\}", text).sort() == re.findall(r"\\end\{(\w+)\}", text).sort()
    assert not set("<>") & set(text), text
    assert "\ue000" not in text
    assert "None" not in text
    assert not re.search(r"[_^]\{\}", text), text
    assert not re.search(r"_\{[^{}]*\}_\{", text.replace(r"\}", "")), f"two subscripts: {text}"


def test_every_operation_prints_something_valid() -> None:
    for text in everything().values():
        check(text)


def test_the_table_names_operations_that_exist() -> None:
    assert set(NOTATION) <= set(OPS), set(NOTATION) - set(OPS)


def test_katex_takes_everything() -> None:
    node = shutil.which("node")
    if node is None or subprocess.run([node, "-e", "require('katex')"], capture_output=True, check=False).returncode:
        pytest.skip("needs node and katex (npm install katex, NODE_PATH)")
    program = """
        const all = JSON.parse(require('fs').readFileSync(0, 'utf8')), katex = require('katex'), bad = {};
        for (const k in all)
            try { katex.renderToString(all[k], {throwOnError: true, strict: 'error', displayMode: true}) }
            catch (e) { if (!/unicodeTextInMathMode|unknownSymbol/.test(e.message)) bad[k] = [all[k], e.message] }
        console.log(JSON.stringify(bad));
    """
    done = subprocess.run(
        [node, "-e", program],
        input=json.dumps(everything()),
        capture_output=True,
        text=True,
        check=True,
        env=os.environ,
    )
    assert json.loads(done.stdout) == {}


def test_values_of_constants_of_every_dtype() -> None:
    for dtype in sg.DTYPES:
        check(sg.latex(sg.constant(np.ones((), dtype))))
        check(sg.latex(sg.constant(np.ones(3, dtype))))
