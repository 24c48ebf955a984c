"""Every rule: both sides evaluated, on special values where it says that it is exact; and that it fires."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from symgraph.graph import Graph, Interner, Variable
from symgraph.op import as_variable, constant
from symgraph.ops.shape import broadcast_to
from symgraph.passes import Context
from symgraph.passes.decompose import AFTERWARDS
from symgraph.passes.intern import intern
from symgraph.pipeline import LEVELS
from symgraph.rewrite.engine import Engine, RuleSet
from symgraph.rewrite.pattern import RULES, TAGS, Rule
from symgraph.runtime.interpreter import interpret
from symgraph.types import tensor_type

assert AFTERWARDS, "importing it defines the last rules"

EQUATIONS = [r for r in RULES if r.sides is not None]
STRUCTURAL = [r for r in RULES if r.sides is None]
DTYPES = {"f": ("float64", "float32", "float16"), "i": ("int64", "int8"), "u": ("uint8",), "b": ("bool",)}
NUMBERS = (0.25, -2.0, 3.0, 1.5)


def special(dtype: str) -> np.ndarray[Any, Any]:
    d = np.dtype(dtype)
    if d.kind == "f":
        i = np.finfo(d)
        values = [0.0, -0.0, 1.0, -1.0, 2.5, -3.25, math.inf, -math.inf, math.nan]
        values += [float(i.max), -float(i.max), float(i.tiny), -float(i.tiny), float(i.smallest_subnormal), 0.1]
        return np.array(values, d)
    if d.kind == "b":
        return np.array([False, True])
    info = np.iinfo(d)
    return np.array([0, 1, 7, 100, info.max, info.min, info.max - 1], d)


def same_bits(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if a.dtype.kind != "f":
        return np.asarray(a == b)
    return np.asarray(((a == b) & (np.signbit(a) == np.signbit(b))) | (np.isnan(a) & np.isnan(b)))


def kinds_of(rule: Rule) -> list[str]:
    """The dtypes on which an equation is tried: those that all of its operands but the boolean ones share."""
    general = [k for k in rule.kinds if k not in ("", "b")]
    allowed = set("fiub").intersection(*general) if general else set("f" if "" in rule.kinds else "b")
    return [d for kind in sorted(allowed) for d in DTYPES[kind]]


CASES = [pytest.param(r, d, id=f"{r.name}-{d}") for r in EQUATIONS for d in kinds_of(r)]


def operands(rule: Rule, dtype: str, numbers: Sequence[float], n: int) -> list[Variable]:
    given = iter(numbers)
    out: list[Variable] = []
    for k in rule.kinds:
        if k == "":
            out.append(constant(next(given), dtype))
        else:
            out.append(Variable(tensor_type("bool" if k == "b" else dtype, (n,)), name=f"x{len(out)}"))
    return out


def values(rule: Rule, dtype: str) -> list[np.ndarray[Any, Any]]:
    slots = ["bool" if k == "b" else dtype for k in rule.kinds if k != ""]
    if rule.tag == "exact":
        columns = zip(*itertools.product(*[special(d) for d in slots]), strict=True)
        return [np.array(c, d) for c, d in zip(columns, slots, strict=True)]
    rng = np.random.default_rng(0)
    lo, hi = rule.domain or (-3.0, 3.0)
    out = []
    for d in slots:
        if np.dtype(d).kind == "f":
            out.append(rng.uniform(lo, hi, 200).astype(d))
        else:
            out.append(rng.integers(0, 2 if d == "bool" else 5, 200).astype(d))
    return out


def run(outputs: Sequence[Variable], given: dict[Variable, np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
    return interpret(outputs, given)


def rewritten(
    rule: Rule, left: Variable, inputs: Sequence[Variable], extra: Sequence[Rule] = ()
) -> tuple[Variable, int]:
    context = Context(levels=frozenset(LEVELS), strict=True)
    graph = intern(Graph(inputs, [left]), context)
    engine = Engine(RuleSet([rule, *extra]), context.interner, strict=True)
    return engine.run(graph).outputs[0], engine.fired[rule.name]


def close(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> bool:
    if a.dtype.kind != "f":
        return bool(np.array_equal(a, b))
    finite = np.isfinite(a)
    tolerance = 64 * float(np.finfo(a.dtype).eps)
    x, y = a[finite].astype(float), b[finite].astype(float)
    return bool(np.all(np.abs(x - y) <= tolerance * (1 + np.abs(x))))


@pytest.mark.parametrize(("rule", "dtype"), CASES)
def test_both_sides_of_an_equation_are_equal_and_it_fires(rule: Rule, dtype: str) -> None:
    given = values(rule, dtype)
    scalars = rule.kinds.count("")
    fired = 0
    for numbers in itertools.product(NUMBERS if np.dtype(dtype).kind == "f" else (2, 3), repeat=scalars):
        slots = operands(rule, dtype, numbers, len(given[0]) if given else 3)
        left, right = rule.function(*slots)
        free = [v for v in slots if v.type.ndim]
        table = dict(zip(free, given, strict=True))
        if rule.when is not None and not rule.when(*slots):
            continue
        right = right if isinstance(right, Variable) else as_variable(right, left.type.dtype)
        right = broadcast_to(right, left.type.shape)
        assert right.type == left.type
        a, b = run([left, right], table)
        made, count = rewritten(rule, left, free)
        fired += count
        (c,) = run([made], table)
        if rule.tag == "exact":
            wrong = ~(same_bits(a, b) & same_bits(a, c))
            at = [x[wrong][:5] for x in given]
            assert not wrong.any(), f"{rule.doc} at {at}: {a[wrong][:5]} and {b[wrong][:5]}"
        else:
            assert close(a, b)
            assert close(a, c)
    assert fired


@pytest.mark.parametrize("rule", STRUCTURAL, ids=lambda r: r.name)
def test_a_structural_rule_fires_on_its_examples(rule: Rule) -> None:
    assert rule.examples is not None
    rng = np.random.default_rng(0)
    for left in rule.examples():
        free = [v for v in _leaves(left) if v.owner is None]
        table = {}
        for v in free:
            x = rng.uniform(-3, 3, [s if isinstance(s, int) else 2 for s in v.type.shape])
            table[v] = np.asarray(x > 0 if v.type.dtype == bool else x.astype(v.type.dtype))
        # Rules are written for canonical forms; the other rules bring an example there.
        made, fired = rewritten(rule, left, free)
        assert fired, left
        assert made.type == left.type
        a, b = run([left, made], table)
        if rule.tag == "exact":
            assert same_bits(a, b).all()
        else:
            assert close(a, b)


def _leaves(v: Variable) -> list[Variable]:
    from symgraph.graph import Constant, leaves

    return [x for x in leaves([v]) if not isinstance(x, Constant)]


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.name)
def test_a_rule_has_a_name_of_its_own_a_tag_and_a_level(rule: Rule) -> None:
    assert rule.tag in TAGS
    assert rule.level in LEVELS
    assert sum(r.name == rule.name for r in RULES) == 1
    assert "->" in rule.doc


def test_an_interner_is_all_that_an_engine_needs() -> None:
    x = Variable(tensor_type("float64", (3,)))
    assert Engine(RuleSet([]), Interner()).run(Graph([x], [x])).outputs == (x,)
