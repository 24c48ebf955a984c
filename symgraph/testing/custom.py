"""The check of a user's own operation: all that it states, on samples that the user gives."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from symgraph import source
from symgraph.custom import CustomOp
from symgraph.errors import CheckError, DTypeError, FormatError, SymgraphError
from symgraph.graph import Variable
from symgraph.op import Sample, as_variable, differentiable
from symgraph.runtime.checks import agree, describe_difference
from symgraph.runtime.function import function
from symgraph.runtime.interpreter import interpret
from symgraph.testing.checks import check_batch, check_symbolic, check_text, variables_for
from symgraph.testing.grads import check_grads


def check_custom_op(op: CustomOp, *samples: Any, order: int = 2, **params: Any) -> None:
    """Check an operation made by :func:`symgraph.custom_op` against its own function.

    Args:
        op: the operation.
        samples: for each check a tuple of operands: arrays or numbers, at points where the function is smooth.
        order: the highest order of derivatives that is checked, 0 for none; those of an op with neither ``vjp`` nor
            ``jvp`` are not checked.
        params: static parameters of the operation.

    On each sample: the types of the results against the type rule; the compiled step against the function run by
    Python; derivatives of both modes against differences, up to ``order``; batching of each choice of operands against
    a loop, nested batches too; named sizes in place of numbers; and the text of the graph, read back.
    Raises :class:`~symgraph.errors.CheckError`, which names the op, the sample, the check, and what differs.
    """
    line = source.show(source.current())
    if not isinstance(op, CustomOp):
        raise DTypeError(f"check_custom_op: wanted an operation made by sg.custom_op, got {op!r}  {line}")
    if not samples:
        raise FormatError(f"check_custom_op: {op.name}: wanted samples, tuples of operands, got none  {line}")
    for k, given in enumerate(samples):
        operands = list(given) if isinstance(given, tuple | list) else [given]
        stage = "type rule"
        try:
            arrays = _operands(op, operands)
            smooth = order > 0 and (op.vjp is not None or op.jvp is not None)
            sample = Sample(op.op(**params), tuple(arrays), smooth and _has_derivative(op, arrays, params))
            _check_step(op, arrays, params)
            stage = "derivatives"
            if sample.differentiable:
                check_grads(lambda *xs: op(*xs, **params), arrays, order)
            stage = "batching"
            if arrays:
                check_batch(sample)
            stage = "symbolic sizes"
            check_symbolic(sample)
            stage = "text"
            check_text(sample)
        except SymgraphError as error:
            raise CheckError(f"{op.name}: sample {k}: {stage}: {error}") from error


def _operands(op: CustomOp, given: list[Any]) -> list[NDArray[Any]]:
    """The operands as the op takes them."""
    return interpret(op.convert([as_variable(a) for a in given]))


def _has_derivative(op: CustomOp, arrays: list[NDArray[Any]], params: dict[str, Any]) -> bool:
    inputs = variables_for(arrays)
    found = op(*inputs, **params)
    outputs = found if isinstance(found, tuple) else (found,)
    return any(map(differentiable, inputs)) and any(map(differentiable, outputs))


def _check_step(op: CustomOp, arrays: list[NDArray[Any]], params: dict[str, Any]) -> None:
    """The types that the function gives, and the compiled step against it."""
    inputs: list[Variable] = variables_for(arrays)
    found = op(*inputs, **params)
    outputs = list(found) if isinstance(found, tuple) else [found]
    wanted = interpret(outputs, dict(zip(inputs, arrays, strict=True)))
    got = function(inputs, outputs)(*arrays)
    for number, (a, b) in enumerate(zip(got, wanted, strict=True)):
        if not agree(np.asarray(a), b):
            raise CheckError(
                f"result {number}: the compiled step and the function run by Python differ {describe_difference(a, b)}"
            )
