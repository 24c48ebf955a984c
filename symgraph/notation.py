"""How each operation is written in mathematics: one table, by name. What is not in it is written as a function."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from symgraph.graph import Apply
from symgraph.texpieces import (
    ADD,
    APPLY,
    ATOM,
    BIG,
    CASES,
    LETTERS,
    LOGIC,
    MATRIX,
    POWER,
    RELATION,
    SIGN,
    TALL,
    Factors,
    Tex,
    factors,
    number,
    over,
    parens,
    power,
    product,
    shape,
    size,
    subscript,
    times,
)
from symgraph.types import size_max, size_min

Notation = Callable[[Apply, Sequence[Tex]], Tex]


def _ndim(node: Apply, args: Sequence[Tex]) -> int:
    return max((a.ndim for a in args), default=0)


def _size(args: Sequence[Tex]) -> int:
    return 1 + sum(a.size for a in args)


def applied(head: str) -> Notation:
    """A function of its operands: ``\\sin(x)``."""

    def write(node: Apply, args: Sequence[Tex]) -> Tex:
        return Tex(head + parens(", ".join(a.text for a in args)), APPLY, _size(args), _ndim(node, args), head)

    return write


def unknown(node: Apply, args: Sequence[Tex]) -> Tex:
    """Any operation, by its name."""
    return applied(rf"\operatorname{{{_operator(node.op.name)}}}")(node, args)


def _operator(text: str) -> str:
    return "".join(c if c.isascii() and c.isalnum() else r"\_" if c == "_" else "?" for c in text)


def between(sign: str, binds: int) -> Notation:
    """``a < b``, not associative."""

    def write(node: Apply, args: Sequence[Tex]) -> Tex:
        a, b = (x.within(binds + 1) for x in args)
        return Tex(f"{a} {sign} {b}", binds, _size(args), _ndim(node, args))

    return write


def bits(logical: str, sign: str) -> Notation:
    """An operation on bits, which on truth values is one of logic."""

    def write(node: Apply, args: Sequence[Tex]) -> Tex:
        chosen = logical if node.outputs[0].type.dtype == np.bool_ else sign
        return between(chosen, LOGIC)(node, args)

    return write


def around(left: str, right: str) -> Notation:
    """``|x|``."""

    def write(node: Apply, args: Sequence[Tex]) -> Tex:
        return Tex(rf"\left{left} {args[0].text} \right{right}", ATOM, _size(args), _ndim(node, args))

    return write


def _add(node: Apply, args: Sequence[Tex]) -> Tex:
    text = args[0].within(ADD)
    for x in args[1:]:
        if x.binds == SIGN and x.text.startswith("-"):
            text += f" - {x.text[1:]}"
        else:
            text += f" + {x.within(ADD) if not x.text.startswith('-') else parens(x.text)}"
    return Tex(text, ADD, _size(args), _ndim(node, args))


def _subtract(node: Apply, args: Sequence[Tex]) -> Tex:
    a, b = args
    return Tex(f"{a.within(ADD)} - {b.within(BIG)}", ADD, _size(args), _ndim(node, args))


def _exp(node: Apply, args: Sequence[Tex]) -> Tex:
    (x,) = args
    if x.size > 8 or TALL.search(x.text) or x.text.count("^"):
        return applied(r"\exp")(node, args)
    return Tex(f"e^{{{x.text}}}", POWER, x.size + 1, x.ndim)


def _power(node: Apply, args: Sequence[Tex]) -> Tex:
    x, n = args
    made = power(x, n.text, n.size + 1)
    return replace(made, ndim=_ndim(node, args))


def _sqrt(node: Apply, args: Sequence[Tex]) -> Tex:
    norm = re.fullmatch(r"(\\left\\lVert .* \\right\\rVert)\^\{2\}", args[0].text)
    if norm and args[0].binds == POWER:
        return Tex(norm[1], ATOM, args[0].size)
    return Tex(rf"\sqrt{{{args[0].text}}}", ATOM, _size(args), args[0].ndim)


def _where(node: Apply, args: Sequence[Tex]) -> Tex:
    c, a, b = (x.text for x in args)
    text = rf"\begin{{cases}} {a} & \text{{if }} {c} \\ {b} & \text{{otherwise}} \end{{cases}}"
    return Tex(text, CASES, _size(args), _ndim(node, args))


def _cast(node: Apply, args: Sequence[Tex]) -> Tex:
    (x,) = args
    if node.inputs[0].type.dtype == np.bool_:
        return Tex(rf"\left[ {x.text} \right]", ATOM, x.size + 1, x.ndim)  # Iverson's bracket
    if node.outputs[0].type.dtype == np.bool_:
        return Tex(rf"{x.within(ADD)} \ne 0", RELATION, x.size + 1, x.ndim)
    if node.outputs[0].type.dtype.kind in "iu" and node.inputs[0].type.dtype.kind == "f":
        return applied(r"\operatorname{int}")(node, args)
    return x


def _transpose(node: Apply, args: Sequence[Tex]) -> Tex:
    order: tuple[int, ...] = node.op.permutation  # type: ignore[attr-defined]
    n = len(order)
    if n >= 2 and order == (*range(n - 2), n - 1, n - 2):
        return transposed(args[0])
    axes = ",".join(map(str, order))
    return applied(rf"\operatorname{{transpose}}_{{{axes}}}")(node, args)


def transposed(x: Tex) -> Tex:
    """The matrix transpose."""
    if x.binds == POWER and x.text.endswith(r"^{\top}"):
        return replace(x, text=x.text.removesuffix(r"^{\top}"), binds=ATOM)
    return Tex(rf"{x.within(ATOM)}^{{\top}}", POWER, x.size, max(x.ndim, 1))


def _reshape(node: Apply, args: Sequence[Tex]) -> Tex:
    head = rf"\operatorname{{reshape}}_{{{shape(node.outputs[0].type.shape)}}}"
    made = applied(head)(node, args)
    return replace(made, ndim=node.outputs[0].type.ndim)


def _contract(node: Apply, args: Sequence[Tex]) -> Tex:
    op: Any = node.op
    ndim = node.outputs[0].type.ndim
    a, b = (factors(x) for x in args)
    inner = [_tensor_part(x, f) for x, f in zip(args, (a, b), strict=True)]
    main = matrix_product(op.lhs, op.rhs, op.out, inner, ndim)
    own = (main,) if ndim else ()
    scalar = () if ndim else (main,)
    made = Factors(a.number * b.number, a.below * b.below, (*a.scalars, *b.scalars, *scalar), (*a.under, *b.under), own)
    return product(made, ndim, _size(args))


def _tensor_part(x: Tex, f: Factors) -> Tex:
    """``x`` without its number and scalars, which go out of anything linear."""
    if not f.tensors:
        return Tex(r"\mathbf{1}", ndim=x.ndim)
    return product(Factors(tensors=f.tensors), x.ndim, x.size)


def matrix_product(
    lhs: tuple[int, ...], rhs: tuple[int, ...], out: tuple[int, ...], args: Sequence[Tex], ndim: int
) -> Tex:
    """A contraction as a product of matrices and vectors, where it is one; else in Einstein's notation."""
    a, b = args
    shared = 0  # leading axes that both have: products of stacks of matrices are written as those of matrices
    while shared < min(len(lhs), len(rhs), len(out)) and lhs[shared] == rhs[shared] == out[shared]:
        shared += 1
    left, right, result = lhs[shared:], rhs[shared:], out[shared:]
    common = [k for k in left if k in right and k not in result]
    plain_ones = len(common) == 1 and 1 <= len(left) <= 2 and 1 <= len(right) <= 2
    if plain_ones and sorted(result) == sorted(k for k in (*left, *right) if k != common[0]):
        k = common[0]
        if len(left) == 2 and len(right) == 2 and result[0] in right:
            (a, b), (left, right) = (b, a), (right, left)
        if len(left) == 1 and len(right) == 2:
            # vector times matrix, written as a matrix times a vector
            (a, b), (left, right) = (b, a), (right, left)
        x = a if len(left) == 1 or left[-1] == k else transposed(a)
        y = b if len(right) == 1 or right[0] == k else transposed(b)
        if len(left) == 1 and len(right) == 1:
            x = transposed(a)
        return Tex(f"{_matrix(x)} {_matrix(y, last=True)}", MATRIX, a.size + b.size + 1, ndim)
    if not common and len(left) == len(right) == 1 and sorted(result) == sorted((*left, *right)):
        if result[0] == right[0]:
            a, b = b, a
        return Tex(rf"{_matrix(a)} {_matrix(transposed(b), last=True)}", MATRIX, a.size + b.size + 1, ndim)
    letters: dict[int, str] = {}
    for k in (*lhs, *rhs, *out):
        letters.setdefault(k, LETTERS[len(letters) % len(LETTERS)])
    left_, right_, out_ = ("".join(letters[k] for k in labels) for labels in (lhs, rhs, out))
    head = rf"\operatorname{{einsum}}_{{{left_},{right_} \to {out_}}}"
    return Tex(head + parens(f"{a.text}, {b.text}"), APPLY, a.size + b.size + 1, ndim, head)


def _matrix(x: Tex, last: bool = False) -> str:
    text = x.within(MATRIX)
    return parens(text) if last and (text[:1].isdigit()) else text


def indices(ndim: int) -> str:
    """``ij`` for two axes."""
    return LETTERS[:ndim] if ndim <= len(LETTERS) else r"\dots"


def reduction(sign: str) -> Notation:
    """``\\sum_{i}`` over the axes of the op; the operand is given at its indices."""

    def write(node: Apply, args: Sequence[Tex]) -> Tex:
        op: Any = node.op
        ndim = node.inputs[0].type.ndim
        axes = getattr(op, "axes", None) or ((op.axis,) if hasattr(op, "axis") else tuple(range(ndim)))
        over_ = ",".join(indices(ndim)[a] if ndim <= len(LETTERS) else str(a) for a in axes)
        (x,) = args
        below = f"_{{{over_}}}" if over_ else ""
        return Tex(f"{sign}{below} {x.within(BIG)}", BIG, x.size + 1, node.outputs[0].type.ndim)

    return write


def _sum(node: Apply, args: Sequence[Tex]) -> Tex:
    (x,) = args
    if x.factors is None:
        return reduction(r"\sum")(node, args)
    # Numbers go out of the sum.
    f = x.factors
    if f.tensors or f.scalars:
        inner = product(Factors(scalars=f.scalars, under=f.under, tensors=f.tensors), x.ndim, x.size)
    else:
        inner = Tex("1")
    made = reduction(r"\sum")(node, [inner])
    own = Factors(f.number, f.below, tensors=(made,)) if made.ndim else Factors(f.number, f.below, scalars=(made,))
    return product(own, made.ndim, x.size + 1)


def _max_and_argmax(node: Apply, args: Sequence[Tex]) -> Tex:
    return reduction(r"\max")(node, args)


def _slice(node: Apply, args: Sequence[Tex]) -> Tex:
    op: Any = node.op
    parts = []
    for start, n, step, whole in zip(op.starts, op.sizes, op.steps, node.inputs[0].type.shape, strict=True):
        if start == 0 and n == whole and step == 1:
            parts.append(":")
        elif n == 1:
            parts.append(size(start))
        elif step == 1 and n in (whole - start, size_max(0, whole - start)):
            parts.append(f"{size(start)}:")
        elif step == 1:
            first = re.match(r"min\((\d+), ", str(n))  # x[:3] has min(3, n) elements
            cut = int(first[1]) if first and start == 0 and n == size_min(int(first[1]), whole) else start + n
            parts.append(f"{size(start)}:{size(cut)}".removeprefix("0"))
        else:
            parts.append(f"{size(start)}::{step}")
    x = subscript(args[0], ",".join(parts)) if parts else args[0]
    return replace(x, ndim=args[0].ndim)


def _gather(node: Apply, args: Sequence[Tex]) -> Tex:
    op: Any = node.op
    x, *at = args
    x_axes: tuple[int, ...] = op.x_axes
    index = [":" if entry >= 0 else at[-1 - entry].text for entry in x_axes]  # see Gather
    return Tex(subscript(x, ",".join(index)).text, ATOM, _size(args), node.outputs[0].type.ndim)


def _concatenate(node: Apply, args: Sequence[Tex]) -> Tex:
    body = ", ".join(a.text for a in args)
    made = Tex(rf"\left[ {body} \right]", ATOM, _size(args), _ndim(node, args))
    axis: int = node.op.axis  # type: ignore[attr-defined]
    return made if axis == 0 else replace(made, text=f"{made.text}_{{{axis}}}")


def _iota(node: Apply, args: Sequence[Tex]) -> Tex:
    n = node.outputs[0].type.shape[node.op.axis]  # type: ignore[attr-defined]
    last = str(n - 1) if isinstance(n, int) else f"{size(n)} - 1"
    return Tex(rf"(0, \dots, {last})", ATOM, 2, 1)


def along(head: str) -> Notation:
    """A function along an axis, which is stated unless it is the last."""

    def write(node: Apply, args: Sequence[Tex]) -> Tex:
        op: Any = node.op
        axes = tuple(op.axes) if hasattr(op, "axes") else (op.axis,)
        last = axes == (node.inputs[0].type.ndim - 1,)
        where = "" if last else rf"_{{\text{{axis }}{','.join(map(str, axes))}}}"
        made = applied(head + where)(node, args)
        return replace(made, ndim=node.outputs[0].type.ndim)

    return write


def running(name: str) -> Notation:
    """A running reduction along an axis; with an arrow where it runs from the end."""

    def write(node: Apply, args: Sequence[Tex]) -> Tex:
        arrow = r"^{\leftarrow}" if node.op.reverse else ""  # type: ignore[attr-defined]
        return along(rf"\operatorname{{{name}}}{arrow}")(node, args)

    return write


def _product(node: Apply, args: Sequence[Tex]) -> Tex:
    ndim = node.outputs[0].type.ndim
    if ndim == 2 and [a.ndim for a in args] == [1, 1]:
        rows = [a for a in args if a.text.endswith(r"^{\top}")]
        columns = [a for a in args if a not in rows]
        if len(rows) == 1:
            return Tex(f"{columns[0].within(MATRIX)} {rows[0].within(MATRIX)}", MATRIX, _size(args), 2)
    return times(args[0], args[1], ndim)


def _minus(node: Apply, args: Sequence[Tex]) -> Tex:
    return times(number(-1.0), args[0], args[0].ndim)


def _divide(node: Apply, args: Sequence[Tex]) -> Tex:
    return over(args[0], args[1], _ndim(node, args))


def _bool_not(node: Apply, args: Sequence[Tex]) -> Tex:
    return Tex(rf"\lnot {args[0].within(APPLY)}", APPLY, _size(args), args[0].ndim)


def _invert(node: Apply, args: Sequence[Tex]) -> Tex:
    return (_bool_not if node.outputs[0].type.dtype == np.bool_ else unknown)(node, args)


def _named(text: str) -> Notation:
    return applied(rf"\operatorname{{{text}}}")


def _through(node: Apply, args: Sequence[Tex]) -> Tex:
    return args[0]


NOTATION: Final[dict[str, Notation]] = {
    "add": _add, "accumulate": _add, "subtract": _subtract, "multiply": _product, "divide": _divide,
    "negative": _minus, "positive": _through, "assert_shape": _through, "cast": _cast,
    "reciprocal": lambda node, args: over(number(1.0), args[0], args[0].ndim),
    "square": lambda node, args: power(args[0], "2"), "power": _power, "exp": _exp,
    "exp2": lambda node, args: Tex(f"2^{{{args[0].text}}}", POWER, _size(args), args[0].ndim),
    "expm1": lambda node, args: Tex(f"{_exp(node, args).text} - 1", ADD, _size(args) + 1, args[0].ndim),
    "log1p": lambda node, args: Tex(
        r"\log" + parens(f"1 + {args[0].within(ADD)}"), APPLY, _size(args) + 1, args[0].ndim, r"\log"
    ),
    "sqrt": _sqrt, "cbrt": lambda node, args: Tex(rf"\sqrt[3]{{{args[0].text}}}", ATOM, _size(args), args[0].ndim),
    "hypot": lambda node, args: Tex(
        rf"\sqrt{{{power(args[0], '2').text} + {power(args[1], '2').text}}}", ATOM, _size(args), _ndim(node, args)
    ),
    "absolute": around("|", "|"), "floor": around(r"\lfloor", r"\rfloor"), "ceil": around(r"\lceil", r"\rceil"),
    "floor_divide": lambda node, args: Tex(
        rf"\left\lfloor \frac{{{args[0].text}}}{{{args[1].text}}} \right\rfloor", ATOM, _size(args), _ndim(node, args)
    ),
    "remainder": between(r"\bmod", BIG),
    "log": applied(r"\log"), "log2": applied(r"\log_{2}"), "log10": applied(r"\log_{10}"),
    "sin": applied(r"\sin"), "cos": applied(r"\cos"), "tan": applied(r"\tan"),
    "arcsin": applied(r"\arcsin"), "arccos": applied(r"\arccos"), "arctan": applied(r"\arctan"),
    "sinh": applied(r"\sinh"), "cosh": applied(r"\cosh"), "tanh": applied(r"\tanh"),
    "sigmoid": applied(r"\sigma"), "softplus": _named("softplus"), "relu": _named("ReLU"), "sign": _named("sgn"),
    "maximum": applied(r"\max"), "minimum": applied(r"\min"), "rint": _named("round"),
    "where": _where,
    "equal": between("=", RELATION), "not_equal": between(r"\ne", RELATION), "less": between(r"\lt", RELATION),
    "less_equal": between(r"\le", RELATION), "greater": between(r"\gt", RELATION),
    "greater_equal": between(r"\ge", RELATION),
    "logical_and": between(r"\land", LOGIC), "logical_or": between(r"\lor", LOGIC),
    "logical_xor": between(r"\oplus", LOGIC), "logical_not": _bool_not, "bitwise_invert": _invert,
    "bitwise_and": bits(r"\land", r"\mathbin{\&}"), "bitwise_or": bits(r"\lor", r"\mathbin{\vert}"),
    "bitwise_xor": between(r"\oplus", LOGIC), "left_shift": between(r"\ll", LOGIC),
    "right_shift": between(r"\gg", LOGIC),
    "sum": _sum, "prod": reduction(r"\prod"), "max": reduction(r"\max"), "min": reduction(r"\min"),
    "any": reduction(r"\bigvee"), "all": reduction(r"\bigwedge"),
    "arg_max": reduction(r"\operatorname{argmax}"), "arg_min": reduction(r"\operatorname{argmin}"),
    "max_and_argmax": _max_and_argmax,
    "cum_sum": running("cumsum"), "cum_prod": running("cumprod"), "cum_max": running("cummax"),
    "cum_min": running("cummin"),
    "contract": _contract, "transpose": _transpose, "reshape": _reshape, "slice": _slice, "gather": _gather,
    "concatenate": _concatenate, "iota": _iota,
    "size_of": lambda node, args: Tex(size(node.op.size), ATOM if str(node.op.size).isidentifier() else ADD),  # type: ignore[attr-defined]
    "softmax": along(r"\operatorname{softmax}"), "log_softmax": along(r"\log \operatorname{softmax}"),
    "log_sum_exp": along(r"\operatorname{logsumexp}"),
}  # fmt: skip
"""By the name of the op; one that is not here is written as a function of that name."""

REDUCTIONS: Final = frozenset(("sum", "prod", "max", "min", "any", "all", "arg_max", "arg_min", "max_and_argmax"))
