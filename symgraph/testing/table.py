"""The published table of derivatives: what every registered op states, and how far it is from the truth."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from symgraph.autodiff import vjp
from symgraph.graph import Variable
from symgraph.op import DISCONNECTED, OPS, ZERO, Derivative, Op, Sample, apply_node
from symgraph.ops.elementwise import Elementwise, cast
from symgraph.testing.checks import samples_of, variables_for
from symgraph.testing.kinks import kinks_table
from symgraph.testing.precision import COLUMNS, ORDERS, Errors, exact_function, verify
from symgraph.types import is_float

HEADER = """# Derivatives of every operation

Made from the registry (`make golden` writes it anew), which the suite compares with this page.

1. [Absences](#absences) · 2. [Kinks](#kinks) · 3. [Rules](#rules) · 4. [Errors](#errors) ·
5. [Operations without a derivative](#operations-without-a-derivative)

## Absences

Zero, disconnected and undefined are three different answers, and none of them is silent.

| | when | `grad`, `vjp`, `jvp`, `taylor` give |
|---|---|---|
| zero | there is a derivative, and it is 0 wherever it exists (`floor`, `sign`) | zeros |
| disconnected | no dependence as a real number (integers, conditions, `stop_gradient`) | `DisconnectedError`; \
with `disconnected="zero"` zeros, with `"none"` `None` |
| undefined | the operation has no derivative, and it is needed | `NotDifferentiableError` with its name and your line |

Integers and booleans cannot be differentiated in (`DTypeError`); an operation of both has the derivative in its floats.
One variable in several places has the sum of the derivatives in each. Of an empty tensor the derivative is empty.

## Kinks

At a point where the derivative does not exist, or the formula for it breaks down, every mode takes the same value,
which is a constant of this table and tested line by line (`symgraph/testing/kinks.py`). Several arguments have one
derivative each. Where there is a bounded choice, it is one of the one-sided derivatives or their middle; where there is
none, the result is infinite or nan, and a `where` or a `custom_vjp` says what shall be taken instead.

"""

RULES = """
## Rules

What each input gets from reverse mode (`∂` a graph; `0` the derivative is zero wherever it exists; `·` there is no
dependence as a real number), how the derivative is stated, and where the coefficients of its Taylor series come from.
Everything else follows from these.

"""

ERRORS = """
## Errors

The largest relative error of the derivatives of orders 1, 2 and 3, over all samples of the operation, in float64
through the reference interpreter. The suite fails where one is above 1e-12 (against 50 digits) or 1e-8 (against
differences), and where one is well above what stands here.

- *50 digits*: every partial derivative, mixed ones too, of the function in mpmath at 50 digits, at points of all
  combinations of signs where the function is defined. The error of a series is relative to the largest derivative.
- *differences*: central differences of the derivative of the next lower order, extrapolated (Ridders), relative to the
  largest element. So their own error counts, and the figure says less about the operation than about them.
- *batch* and *nested batch*: the same derivatives of all modes, over a batch of points and seeds, and a batch of these.

| operation | against | vjp | jvp | series | batch | nested batch | samples |
|---|---|---|---|---|---|---|---|
"""

WITHOUT = """
## Operations without a derivative

What a gradient through the operation alone gives, and why.

| operation | gradient | why |
|---|---|---|
"""


def derivatives_table(measured: bool = True) -> str:
    """The page as Markdown. Measuring every operation takes some seconds; without that, figures are left out."""
    rules = ["| operation | inputs | stated as | series |", "|---|---|---|---|"]
    rules += [f"| {' | '.join(row)} |" for row in _rules()]
    errors = [error_row(name, measured) for name in sorted(OPS) if smooth_samples(name)]
    without = [f"| {' | '.join(row)} |" for row in _without()]
    text = HEADER + kinks_table() + RULES + _lines(rules) + ERRORS + _lines(errors) + WITHOUT + _lines(without)
    return text


def _lines(rows: Sequence[str]) -> str:
    return "\n".join(rows) + "\n"


# -- rules


def smooth_samples(name: str) -> list[Sample]:
    """The samples of an op on which there is something to differentiate in something."""
    return [s for s in samples_of(name) if s.differentiable and any(_marks(s).count(m) for m in "∂0")]


def _rules() -> Iterator[tuple[str, ...]]:
    for name in sorted(OPS):
        samples = smooth_samples(name)
        if samples:
            op, marks = samples[0].op, _marks(samples[0])
            yield name, marks, _stated(op), _series(op, marks.count("∂"))


def _marks(sample: Sample) -> str:
    """What each input gets, where a result is a real number; else nothing."""
    inputs = variables_for(list(sample.inputs))
    outputs = apply_node(sample.op, inputs).outputs
    if sample.op.stops or not any(is_float(v.type.dtype) for v in outputs):
        return ""
    cts = [Variable(v.type) if is_float(v.type.dtype) else ZERO for v in outputs]
    return ", ".join(_mark(d) for d in sample.op.vjp(inputs, outputs, cts))


def _mark(d: Derivative) -> str:
    return "∂" if isinstance(d, Variable) else "0" if d is ZERO else "·" if d is DISCONNECTED else "undefined"


def _stated(op: Op) -> str:
    if isinstance(op, Elementwise):
        return "partial derivatives"
    cls = type(op)
    return "transpose" if cls.vjp is Op.vjp and cls.transpose is not Op.transpose else "vjp and jvp"


def _series(op: Op, count: int) -> str:
    """Where coefficients come from, for an op with derivatives in ``count`` inputs."""
    if not count:
        return ""
    if isinstance(op, Elementwise) and op.recurrence is not None:
        return "recurrence"
    if op.linear == "no":
        return "from the jvp"
    return "each coefficient by itself" if op.linear == "jointly" or count == 1 else "products of coefficients"


# -- errors


def error_row(name: str, measured: bool = True) -> str:
    """The line of an op in the table of errors; raises :class:`~symgraph.errors.CheckError` where one is too large."""
    samples = smooth_samples(name)
    worst: Errors = {}
    for sample in samples if measured else ():
        for key, error in verify(sample, exact_function(sample)).items():
            worst[key] = max(worst.get(key, 0.0), error)
    against = "50 digits" if exact_function(samples[0]) is not None else "differences"
    cells = [", ".join(_figure(worst[column, k]) if worst else "" for k in ORDERS) for column in COLUMNS]
    return f"| {name} | {against} | {' | '.join(cells)} | {len(samples)} |"


def _figure(error: float) -> str:
    return f"{error:.0e}".replace("e-0", "e-") if error else "0"


FIGURE = re.compile(r"(?<= )(\d+e-?\d+|0)(?=,| \|)")


def figures(row: str) -> list[float]:
    """The errors in a line of the table."""
    return [float(f) for f in FIGURE.findall(row)]


def without_figures(text: str) -> str:
    """The page with the errors left out: they differ a little from machine to machine."""
    before, heading, rest = text.partition(ERRORS)
    table, after, end = rest.partition(WITHOUT)
    return before + heading + FIGURE.sub("", table) + after + end


# -- no derivative


def _without() -> Iterator[tuple[str, str, str]]:
    for name in sorted(OPS):
        marks = {m for s in samples_of(name) for m in _marks(s).split(", ")}
        if not marks & {"∂", "undefined"}:
            yield name, *_answer(samples_of(name)[0])


def _answer(sample: Sample) -> tuple[str, str]:
    """What ``vjp`` says of the first input that could have a derivative, and why."""
    inputs = variables_for(list(sample.inputs))
    if not inputs:
        return "none can be asked for", "it takes no tensor"
    floats = [v for v in inputs if is_float(v.type.dtype)]
    if not floats:
        kinds = "booleans" if all(v.type.dtype == bool for v in inputs) else "integers"
        return "none can be asked for", f"it takes {kinds}, and gives these"
    y = apply_node(sample.op, inputs).outputs[0]
    smooth = y if is_float(y.type.dtype) else cast(y, "float64")
    found = vjp(smooth, floats[0], Variable(smooth.type), disconnected="none")
    if found is not None:
        return "zero", "constant between its steps" if isinstance(sample.op, Elementwise) else "it is there to say so"
    if sample.op.stops:
        return "disconnected", "it is there to stop derivatives"
    return "disconnected", f"{'a truth value' if y.type.dtype == bool else 'an index'} is no real number"
