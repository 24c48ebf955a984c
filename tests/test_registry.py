"""The table: every registered op, on each of its samples, against everything that it states about itself.

Columns through the reference interpreter stand here; those that compile stand in `test_registry_cpu.py`.
"""

from __future__ import annotations

import numpy as np
import pytest

from symgraph.graph import Constant
from symgraph.op import OPS, Op, Sample, as_variable
from symgraph.testing import CHECKS, samples_of
from symgraph.types import is_float

ROWS = [(f"{name}-{k}", sample) for name in sorted(OPS) for k, sample in enumerate(samples_of(name))]
TABLE = pytest.mark.parametrize("sample", [pytest.param(sample, id=label) for label, sample in ROWS])


@pytest.mark.parametrize("name", sorted(OPS))
def test_is_whole(name: str) -> None:
    registered = OPS[name]
    cls = type(registered) if isinstance(registered, Op) else registered
    assert registered.name == name
    assert (registered.__doc__ or "").strip(), "no docstring"
    assert samples_of(name), "no samples"
    assert cls.infer is not Op.infer, "no type rule"
    assert cls.reference is not Op.reference, "no reference"
    assert cls.batch is not Op.batch, "no batching rule"
    assert not (cls.lower is not Op.lower and hasattr(cls, "decompose")), "both lower and decompose"


@pytest.mark.parametrize("check", [c for c in CHECKS if c != "symbolic"])
@TABLE
def test_check(sample: Sample, check: str) -> None:
    CHECKS[check](sample)


@pytest.mark.parametrize(
    "sample", [pytest.param(s, id=label) for label, s in ROWS if any(n > 1 for a in s.inputs for n in np.shape(a))]
)
def test_symbolic(sample: Sample) -> None:
    if CHECKS["symbolic"](sample) is False:
        pytest.skip("no symbolic form of this sample")


@TABLE
def test_differentiable_is_said_of_what_is(sample: Sample) -> None:
    """Only samples in which no float64 input leads to a float64 output are excluded, those with nan and infinities, and
    ops that stop derivatives."""
    if sample.differentiable or sample.op.stops or not all(np.all(np.isfinite(a)) for a in sample.inputs):
        return
    inputs = [as_variable(a) for a in sample.inputs]
    assert all(isinstance(v, Constant) for v in inputs)
    found = sample.op.infer(*[v.type for v in inputs])
    outputs = found if isinstance(found, tuple) else (found,)
    flows = any(v.type.dtype == np.float64 for v in inputs) and any(t.dtype == np.float64 for t in outputs)
    assert not flows or any(not is_float(v.type.dtype) for v in inputs)
