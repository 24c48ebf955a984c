"""The table of derivatives: what every registered op states, and what the suite checks of it."""

from __future__ import annotations

from collections.abc import Iterator

from symgraph.graph import Variable
from symgraph.op import DISCONNECTED, OPS, ZERO, Derivative, Op, Sample, apply_node
from symgraph.ops.elementwise import Elementwise
from symgraph.testing.checks import samples_of, variables_for
from symgraph.types import is_float

HEADER = """# Derivatives of every operation

Made from the registry (`make golden` writes it anew). For each operation: what one of its inputs gets from reverse mode
(`∂` a graph; `0` the derivative is zero wherever it exists; `·` there is no dependence as a real number), how the
derivative is stated, and where the coefficients of its Taylor series come from. Everything else follows from these.

The suite checks, on every sample of every operation with a derivative, through the reference interpreter:

| column | against |
|---|---|
| vjp, of orders 1 to 3 | central differences of fourth order of the next lower order |
| jvp, of orders 1 to 3 | the vjp: ⟨u, J v⟩ = ⟨Jᵀ u, v⟩ |
| series, to order 3 | nested jvps, along a curve |
| batch, for every choice of batched inputs, and nested | a loop over the elements |

At kinks the derivative is one of the one-sided ones, or what they share (`tests/autodiff/test_kinks.py`):

| where | derivative |
|---|---|
| `relu`, `abs`, `sign` at 0 | 0 |
| `maximum`, `minimum` at a tie | 1/2 for each operand |
| `max`, `min` over axes, at ties | shared equally by the elements at the tie |
| `clip` at a bound | 1 in the tensor, 0 in the bound |
| `power` in its base at 0 | the limit; in its exponent 0, and nan for a negative base |
| `sqrt` at 0 | infinite; behind a `where` or a `custom_vjp` what these say |
| `where` | the branch that is not taken passes nothing, whatever its value or derivative, to any order |

"""


def derivatives_table() -> str:
    """The table as Markdown."""
    lines = ["| operation | inputs | stated as | series | checked samples |", "|---|---|---|---|---|"]
    lines += [f"| {' | '.join(row)} |" for row in _rows()]
    return HEADER + "\n".join(lines) + "\n"


def _rows() -> Iterator[tuple[str, ...]]:
    for name in sorted(OPS):
        samples = samples_of(name)
        smooth = [s for s in samples if s.differentiable]
        shown = (smooth or samples)[0]
        inputs = variables_for(list(shown.inputs))
        outputs = apply_node(shown.op, inputs).outputs
        if shown.op.stops:
            yield name, "·", "stops every derivative", "", ""
        elif not any(is_float(v.type.dtype) for v in outputs):
            yield name, "·" if not any(is_float(v.type.dtype) for v in inputs) else "0", "no real result", "", ""
        elif not any(is_float(v.type.dtype) for v in inputs):
            yield name, "·" if inputs else "", "no real input", "", ""
        else:
            marks = _inputs(shown, inputs, outputs)
            yield name, marks, _stated(shown.op), _series(shown.op, marks.count("∂")), str(len(smooth))


def _inputs(sample: Sample, inputs: list[Variable], outputs: tuple[Variable, ...]) -> str:
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
