"""Variables as LaTeX, the way a person would write them.

A formula goes back to named variables and inputs. What is large and used more than once, or too large for a line, gets
a letter of its own and a line under "where". What is written is the graph in canonical form: equal parts found,
products with one and sums with zero gone, exactly equal to what was built. Only the part of a graph that a few lines
can show is looked at, so a chain of any length takes the same time; the rest is dots.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from symgraph import source
from symgraph.errors import FormatError
from symgraph.graph import Apply, Constant, Graph, SharedVariable, Variable
from symgraph.notation import NOTATION, REDUCTIONS, indices, transposed, unknown
from symgraph.ops.elementwise import Elementwise
from symgraph.texpieces import ATOM, POWER, Tex, name, number, shape, subscript
from symgraph.types import TensorType

MAX_NODES: Final = 300
"""Nodes nearest to the result that are looked at."""
MAX_SIZE: Final = 40
"""Symbols of a formula beyond which its parts get lines of their own."""
SHARED_SIZE: Final = 5
"""Symbols of a part that is used more than once from which it gets a line of its own."""


def latex(x: Variable, lines: int = 25) -> str:
    r"""The formula of a variable as LaTeX, to stand between dollar signs.

    Args:
        x: what to write: a leaf is its name; a variable with a name is an equation.
        lines: how many lines there may be; what does not fit is dots.

    Several lines are an ``aligned`` environment. What users name is text, whatever characters it has.
    """
    v = getattr(x, "variable", x)
    if not isinstance(v, Variable):
        raise FormatError(f"latex: wanted a variable, got {type(x).__name__}  {source.show(source.current())}")
    return _Writer(v).write(lines)


def typed_latex(x: Variable) -> str:
    """The formula and the type, between dollar signs, as notebooks show it."""
    shown = latex(x)
    mark = rf"\qquad {{\small {type_latex(x.type)}}}"
    if shown.startswith(r"\begin{aligned}"):
        first, rest = shown.split("\n", 2)[1], shown.split("\n", 2)[2]
        return f"$$\\begin{{aligned}}\n{first.removesuffix(chr(92) * 2)} {mark} \\\\\n{rest}$$"
    return rf"$\displaystyle {shown} {mark}$"


def type_latex(t: TensorType) -> str:
    """A type: the dtype, and the sizes as a product."""
    sizes = rf"^{{{shape(t.shape)}}}" if t.ndim else ""
    return rf"\in \mathtt{{{t.dtype.name}}}{sizes}"


_MARK = re.compile("\ue000(\\d+)\ue001(?:_\\{([^{}]*)\\})?")  # a letter, and its index


class _Writer:
    def __init__(self, x: Variable) -> None:
        self.x = x
        labels: dict[Variable, Tex] = {}
        graph = _near(x, labels)
        from symgraph.pipeline import run_pipeline

        made, _ = run_pipeline(graph, stop_after="canonicalize")
        self.labels = {new: labels[old] for old, new in zip(graph.inputs, made.inputs, strict=True)}
        self.graph = made
        self.found: dict[Variable, Tex] = {}
        self.hoisted: dict[int, Tex] = {}  # the formulas of letters, by number

    def write(self, lines: int) -> str:
        (out,) = self.graph.outputs
        uses = _uses(self.graph)
        for node in self.graph.nodes:
            for v in node.outputs:
                self._enter(v, node, uses, out)
        root = self._operand(out, None).text
        left = name(self.x.name) if self.x.name and self.x.owner is not None else ""
        first = f"{left} = {root}" if left else root
        order = self._order(first)
        if not order:
            return first
        letter = _free_letter([t.text for t in self.labels.values()] + [left])
        number_of = {k: i for i, k in enumerate(order, 1)}

        def numbered(text: str) -> str:
            return _MARK.sub(lambda m: f"{letter}_{{{number_of[int(m[1])]}{',' + m[2] if m[2] else ''}}}", text)

        shown = order if len(order) < lines else order[: max(0, lines - 2)]
        rows = [f"{left} &= {root}" if left else f"& {root}"]
        for i, k in enumerate(shown):
            where = r"\text{where } " if not i else ""
            rows.append(f"{where}{letter}_{{{number_of[k]}}} &= {self.hoisted[k].text}")
        if len(shown) < len(order):
            rows.append(r"&\;\;\vdots")
        body = " \\\\\n".join(map(numbered, rows))
        return f"\\begin{{aligned}}\n{body}\n\\end{{aligned}}"

    # -- formulas -----------------------------------------------------------------------------------------------------

    def _enter(self, v: Variable, node: Apply, uses: Mapping[Variable, int], out: Variable) -> None:
        """The formula of one variable, whose operands have theirs."""
        if node.op.name in REDUCTIONS:
            made = self._reduced(node)
        else:
            made = NOTATION.get(node.op.name, unknown)(node, [self._operand(a, node) for a in node.inputs])
        if len(node.outputs) > 1:
            if node.op.name == "max_and_argmax" and v.index == 1:
                made = replace(made, text=made.text.replace(r"\max", r"\operatorname{argmax}", 1))
            elif node.op.name != "max_and_argmax":
                made = subscript(made, str(v.index))
        made = replace(made, ndim=v.type.ndim)
        again = uses.get(v, 0) > 1 and made.size >= SHARED_SIZE
        if v is not out and (again or made.size > MAX_SIZE):
            k = len(self.hoisted)
            self.hoisted[k] = made
            made = Tex(f"\ue000{k}\ue001", ATOM, 1, v.type.ndim)
        self.found[v] = made

    def _operand(self, v: Variable, user: Apply | None) -> Tex:
        """``v`` as an operand of ``user``. Elementwise, what is only repeated along axes stands for itself."""
        if user is None or isinstance(user.op, Elementwise) or user.op.name in ("accumulate", "broadcast", "reshape"):
            row = user is not None and _is_row(v, user)
            v = _core(v)
            if row:
                return transposed(self._operand(v, None))
        found = self.found.get(v)
        if found is not None:
            if v.owner is not None and v.owner.op.name == "broadcast":
                source = _core(v)
                if isinstance(source, Constant) and not source.type.ndim:
                    one = Tex(r"\mathbf{1}", ndim=v.type.ndim)
                    value = float(source.data)
                    return one if value == 1 else replace(number(value), ndim=v.type.ndim)
            return found
        return self._leaf(v)

    def _leaf(self, v: Variable) -> Tex:
        if v in self.labels:
            return self.labels[v]
        if isinstance(v, Constant):
            return _constant(v)
        return Tex(name(v.name) if v.name else r"\square", ndim=v.type.ndim)

    def _reduced(self, node: Apply) -> Tex:
        """A reduction; sums of squares are norms, and elementwise operands are written at their indices."""
        (x,) = node.inputs
        op = x.owner.op.name if x.owner is not None else ""
        square = op == "square" or (
            op in ("multiply", "power") and x.owner is not None and _is_square(x.owner.inputs, op)
        )
        if node.op.name == "sum" and not node.outputs[0].type.ndim and square and not self._letter(x):
            assert x.owner is not None
            inner = self._operand(x.owner.inputs[0], x.owner)
            norm = rf"\left\lVert {inner.text} \right\rVert"
            return Tex(f"{norm}^{{2}}", POWER, inner.size + 1)
        letters = list(indices(x.type.ndim)) if x.type.ndim <= 8 else [str(k) for k in range(x.type.ndim)]
        return NOTATION[node.op.name](node, [self._at(x, letters)])

    def _letter(self, v: Variable) -> bool:
        found = self.found.get(v)
        return found is not None and found.text.startswith("\ue000")

    def _at(self, v: Variable, letters: Sequence[str]) -> Tex:
        """``v`` at indices. The recursion ends with the formula, whose size is limited, not with the graph."""
        owner = v.owner
        if owner is not None and v in self.found and not self._letter(v):
            if owner.op.name in ("cast", "assert_shape"):
                return NOTATION[owner.op.name](owner, [self._at(owner.inputs[0], letters)])
            if owner.op.name == "broadcast":
                return self._at(owner.inputs[0], [letters[a] for a in owner.op.axes])  # type: ignore[attr-defined]
            if owner.op.name == "reshape" and _silent(owner):
                named = iter([c for c, n in zip(letters, v.type.shape, strict=True) if n != 1])
                inner = [next(named) if n != 1 else "0" for n in owner.inputs[0].type.shape]
                return self._at(owner.inputs[0], inner)
            if owner.op.name == "gather":
                return self._gathered(owner, letters)
            if isinstance(owner.op, Elementwise) or owner.op.name == "accumulate":
                args = [self._at(a, letters) for a in owner.inputs]
                return replace(NOTATION.get(owner.op.name, unknown)(owner, args), ndim=0)
        x = self._operand(v, None)
        if not v.type.ndim:
            return x
        if isinstance(v, Constant) and x.number is not None:
            return x
        return subscript(x, "".join(letters) if all(len(c) == 1 for c in letters) else ",".join(letters))

    def _gathered(self, node: Apply, letters: Sequence[str]) -> Tex:
        """``x`` at indices that are looked up: ``p_{i,y_i}``."""
        op: Any = node.op
        at = dict(zip(op.out, letters, strict=True))
        places = []
        for entry in op.x_axes:
            if entry >= 0:
                places.append(at[entry])
            else:
                places.append(self._at(node.inputs[-entry], [at[k] for k in op.index_axes[-1 - entry]]).text)
        return subscript(self._operand(node.inputs[0], None), ",".join(places))

    def _order(self, text: str) -> list[int]:
        """The numbers of letters in the order in which they are met, from the first line down."""
        order: dict[int, None] = {}
        pending = [text]
        for text in pending:
            for m in _MARK.finditer(text):
                k = int(m[1])
                if k not in order:
                    order[k] = None
                    pending.append(self.hoisted[k].text)
        return list(order)


def _near(x: Variable, labels: dict[Variable, Tex]) -> Graph:
    """The part of the graph of ``x`` that is written, and what to write for its inputs."""
    inputs: dict[Variable, None] = {}
    seen = {x.owner} if x.owner is not None else set()
    pending: list[Apply] = list(seen)
    if x.owner is None and not isinstance(x, Constant):
        inputs[x] = None
    for node in pending:
        for v in node.inputs:
            if isinstance(v, Constant):
                continue
            if v.owner is None or v.name:
                inputs[v] = None
            elif v.owner not in seen:
                if len(seen) >= MAX_NODES:
                    inputs[v] = None
                else:
                    seen.add(v.owner)
                    pending.append(v.owner)
    unnamed = 0
    for v in inputs:
        if v.name:
            text = name(v.name)
        elif v.owner is not None:
            text = r"\cdots"
        else:
            unnamed += 1
            text = rf"\mathrm{{{'shared' if isinstance(v, SharedVariable) else 'input'}}}_{{{unnamed}}}"
        labels[v] = Tex(text, ATOM, 1, v.type.ndim)
    return Graph(list(inputs), [x])


def _uses(graph: Graph) -> dict[Variable, int]:
    """How often each variable is written as an operand; through what is not written itself."""
    uses: dict[Variable, int] = {}
    for node in graph.nodes:
        if _silent(node):
            continue
        for v in node.inputs:
            v = _core(v)
            uses[v] = uses.get(v, 0) + 1
    return uses


def _silent(node: Apply) -> bool:
    """Whether elementwise users of a node see through it: it only repeats along axes, or adds axes of size 1."""
    if node.op.name in ("broadcast", "positive", "assert_shape") or _has_stated_derivative(node):
        return True
    if node.op.name == "cast":
        a, b = node.inputs[0].type.dtype.kind, node.outputs[0].type.dtype.kind
        return a != "b" and b != "b" and not (a == "f" and b in "iu")
    if node.op.name == "reshape":
        x, y = node.inputs[0].type.shape, node.outputs[0].type.shape
        return [n for n in x if n != 1] == [n for n in y if n != 1]
    return False


def _has_stated_derivative(node: Apply) -> bool:
    """Whether a node only attaches a derivative to its first operand."""
    from symgraph.autodiff.custom import Custom

    return isinstance(node.op, Custom) and len(node.outputs) == 1 and node.outputs[0].type == node.inputs[0].type


def _core(v: Variable) -> Variable:
    while v.owner is not None and _silent(v.owner):
        v = v.owner.inputs[0]
    return v


def _is_row(v: Variable, user: Apply) -> bool:
    """Whether ``v`` is a vector that lies along the columns of a matrix which no operand of ``user`` is by itself."""
    core = _core(v)
    if not isinstance(user.op, Elementwise) or v.type.ndim != 2 or core.type.ndim != 1:
        return False
    if any(_core(x).type.ndim > 1 for x in user.inputs):
        return False  # a matrix and a vector: x W + b
    place = 1  # of the axis of v that the vector may lie along
    while v is not core and v.owner is not None:
        (inner, *_), op = v.owner.inputs, v.owner.op
        if op.name == "broadcast":
            axes: tuple[int, ...] = op.axes  # type: ignore[attr-defined]
            if place not in axes:
                return False
            place = axes.index(place)
        elif op.name == "reshape":  # of axes of size 1 only
            if v.type.shape[place] == 1:
                return False
            rank = sum(n != 1 for n in v.type.shape[:place])
            place = [k for k, n in enumerate(inner.type.shape) if n != 1][rank]
        v = inner
    return True


def _is_square(operands: Sequence[Variable], op: str) -> bool:
    a, b = operands
    if op == "multiply":
        return a is b
    exponent = _core(b)
    return isinstance(exponent, Constant) and not exponent.type.ndim and exponent.data.item() == 2


def _constant(v: Constant) -> Tex:
    if v.name:
        return Tex(name(v.name), ndim=v.type.ndim)
    if not v.type.ndim:
        if v.data.dtype.kind == "b":
            return Tex(r"\mathrm{true}" if v.data.item() else r"\mathrm{false}")
        return number(float(v.data.item()))
    if v.type.ndim == 1 and 0 < v.data.size <= 6:
        return Tex(f"({', '.join(number(float(a)).text for a in v.data)})", ATOM, v.data.size, 1)
    return Tex(rf"\mathrm{{const}}_{{{shape(v.type.shape)}}}", ndim=v.type.ndim)


def _free_letter(texts: Sequence[str]) -> str:
    """A letter for shared parts that no name begins with."""
    return next((c for c in "tsrvz" if not any(t == c or t.startswith(c + "_") for t in texts)), r"\tau")
