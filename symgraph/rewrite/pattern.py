"""Rules: equations between expressions, and structural rules in code.

An equation is a function of pattern variables that returns ``(left, right)``, both written with the ordinary
operations::

    @rewrite
    def multiply_by_one(x: Any) -> Sides:
        \"\"\"x * 1 -> x    exact\"\"\"
        return x * 1, x

It is called once, on placeholders, and both sides are kept as templates. A template is free of rank, size and dtype: an
operand of the left side matches whatever stands there, and a number matches a constant of that value, also behind the
broadcast that the front end puts in. A parameter annotated :data:`Float`, :data:`Integer`, :data:`Boolean` or
:data:`Number` matches operands of these dtypes only, and one annotated :data:`Scalar` constants only.

The last word or words of the docstring's first line say what the rule promises:

* ``exact``: the same bits, NaN being NaN whatever its payload;
* ``real-equal``: equal over the real numbers; rounding may differ;
* ``reassociates``: equal over the real numbers, by another order of additions or multiplications;
* ``widens domain``: equal where the left side is finite; the right side may be finite where the left is not.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, TypeAlias, get_args, get_origin, get_type_hints, overload

import numpy as np

from symgraph import source
from symgraph.errors import RuleError
from symgraph.graph import Apply, Constant, Variable
from symgraph.op import OPS, Op, constant
from symgraph.ops.elementwise import Elementwise
from symgraph.ops.shape import Broadcast, broadcast_to
from symgraph.types import TensorType

Sides: TypeAlias = tuple[Any, Any]
Float: TypeAlias = Annotated[Any, "f"]
Integer: TypeAlias = Annotated[Any, "iu"]
Boolean: TypeAlias = Annotated[Any, "b"]
Number: TypeAlias = Annotated[Any, "fiu"]
Signed: TypeAlias = Annotated[Any, "fi"]
Scalar: TypeAlias = Annotated[Any, "constant"]

TAGS: Final = ("exact", "real-equal", "reassociates", "widens domain")


# -- templates ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Slot:
    """A pattern variable: ``kinds`` are the dtype kinds that it matches, empty for a constant of any dtype."""

    position: int
    kinds: str


@dataclass(frozen=True, slots=True)
class Number_:
    """A number of a template."""

    value: Any


@dataclass(frozen=True, slots=True)
class Call:
    """An operation of a template."""

    op: Elementwise
    args: tuple[Template, ...]


Template: TypeAlias = Slot | Number_ | Call

# x + y and y + x are the same bits (a NaN is a NaN); maximum and minimum are not among them, for max(0.0, -0.0) may
# be either.
COMMUTATIVE: Final = frozenset(
    OPS[name]
    for name in (
        *("add", "multiply", "equal", "not_equal", "hypot", "logaddexp"),
        *("logical_and", "logical_or", "logical_xor", "bitwise_and", "bitwise_or", "bitwise_xor"),
    )
)
# Either operand may come first in a pattern; the sides need not be exchangeable bit by bit.
_SYMMETRIC: Final = COMMUTATIVE | {OPS["maximum"], OPS["minimum"]}


def scalar_value(v: Variable) -> Constant | None:
    """The 0-d constant that ``v`` is or repeats, if it is one. (Interning gives every uniform constant this form.)"""
    while v.owner is not None:
        if type(v.owner.op) is not Broadcast:
            return None
        v = v.owner.inputs[0]
    return v if type(v) is Constant and v.data.ndim == 0 else None


def same_number(a: Any, b: Any) -> bool:
    """Equality of numbers that tells the zeros apart and finds NaN equal to itself."""
    if a != b:
        return bool(a != a and b != b)
    return bool(a != 0 or isinstance(a, int) or isinstance(b, int) or math.copysign(1, a) == math.copysign(1, b))


def matches(template: Template, v: Variable, bound: list[Variable | None], path: list[Apply]) -> bool:
    """Whether ``v`` has the form of ``template``; fills ``bound`` and notes the nodes matched in ``path``."""
    if type(template) is Slot:
        at = template.position
        if not template.kinds:
            found = scalar_value(v)
            if found is None:
                return False
            v = found
        elif v.type.dtype.kind not in template.kinds:
            return False
        known = bound[at]
        if known is None:
            bound[at] = v
            return True
        return known is v or (type(known) is Constant and type(v) is Constant and known.key == v.key)
    if type(template) is Number_:
        found = scalar_value(v)
        return found is not None and same_number(found.data.item(), template.value)
    assert type(template) is Call
    node = v.owner
    if node is None or node.op is not template.op:
        return False
    path.append(node)
    return all(matches(arg, x, bound, path) for arg, x in zip(template.args, node.inputs, strict=True))


def variants(template: Template) -> list[Template]:
    """The template with operands of symmetric operations in every order."""
    if type(template) is not Call:
        return [template]
    out: list[Template] = []
    orders = [template.args]
    if template.op in _SYMMETRIC and template.args[0] != template.args[1]:
        orders.append(template.args[::-1])
    for order in orders:
        out += [Call(template.op, args) for args in itertools.product(*map(variants, order))]
    return out


def build(template: Template, bound: Sequence[Variable | None]) -> Any:
    """The expression of a template, by the public functions; a bare number stays a Python number."""
    if type(template) is Slot:
        return bound[template.position]
    if type(template) is Number_:
        return template.value
    assert type(template) is Call
    return template.op(*[build(a, bound) for a in template.args])


def splat(value: Any, type: TensorType) -> Variable:
    """A tensor of one value."""
    return broadcast_to(constant(value, type.dtype), type.shape)


def _template(v: Any, slots: dict[Variable, Slot]) -> Template:
    if isinstance(v, Variable) and v in slots:
        return slots[v]
    if isinstance(v, Constant) or not isinstance(v, Variable):
        value = v.data.item() if isinstance(v, Constant) else v
        # A whole number stands for itself in every dtype: 1 matches 1.0, and x * 1 is of the dtype of x.
        if isinstance(value, float) and value.is_integer() and not (value == 0 and math.copysign(1, value) < 0):
            value = int(value)
        return Number_(value)
    if v.owner is None or not isinstance(v.owner.op, Elementwise):
        raise RuleError(f"an equation is made of elementwise operations, parameters and numbers; got {v!r}")
    return Call(v.owner.op, tuple(_template(x, slots) for x in v.owner.inputs))


# -- rules -------------------------------------------------------------------------------------------------------------

Result: TypeAlias = "Variable | Sequence[Variable] | None"


@dataclass(eq=False)
class Rule:
    """A rewrite rule: what it is called, what it promises, and how it is tried on a node."""

    name: str
    doc: str
    tag: str
    level: str
    function: Callable[..., Any]
    # an equation
    sides: tuple[Call, Template] | None = None
    kinds: tuple[str, ...] = ()
    when: Callable[..., bool] | None = None
    domain: tuple[float, float] | None = None
    # a structural rule
    roots: tuple[Any, ...] = ()
    examples: Callable[[], Sequence[Variable]] | None = None
    exact_on: str = ""
    lefts: list[Call] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"<rule {self.name}: {self.doc}>"


RULES: list[Rule] = []
"""Every rule, in the order of definition."""


def _header(function: Callable[..., Any]) -> tuple[str, str]:
    doc = (function.__doc__ or "").strip().splitlines()
    first = doc[0].strip() if doc else ""
    tag = next((t for t in TAGS if first.endswith(t)), None)
    if tag is None:
        raise RuleError(f"rule {function.__name__}: the docstring's first line ends with one of {', '.join(TAGS)}")
    return first.removesuffix(tag).strip(), tag


def _kinds(hint: Any) -> str:
    if get_origin(hint) is Annotated:
        kinds = str(get_args(hint)[1])
        return "" if kinds == "constant" else kinds
    return "fiub"


@overload
def rewrite(function: Callable[..., Sides], /) -> Rule: ...
@overload
def rewrite(
    *, level: str = ..., when: Callable[..., bool] | None = ..., domain: tuple[float, float] | None = ...
) -> Callable[[Callable[..., Sides]], Rule]: ...
def rewrite(
    function: Callable[..., Sides] | None = None,
    /,
    *,
    level: str = "",
    when: Callable[..., bool] | None = None,
    domain: tuple[float, float] | None = None,
) -> Rule | Callable[[Callable[..., Sides]], Rule]:
    """Make a rule of a function from pattern variables to ``(left, right)``.

    Args:
        level: the named level that switches the rule; by default its tag.
        when: a further condition on what the pattern variables are bound to.
        domain: where the tests draw floats from, for rules that are not exact.
    """
    if function is None:
        return lambda f: _equation(f, level, when, domain)
    return _equation(function, level, when, domain)


def _equation(
    function: Callable[..., Sides], level: str, when: Callable[..., bool] | None, domain: tuple[float, float] | None
) -> Rule:
    doc, tag = _header(function)
    hints = get_type_hints(function, include_extras=True)
    hints.pop("return", None)
    kinds = tuple(_kinds(h) for h in hints.values())
    # Constants beside integers are integers, and whatever else has no kind of its own is a float.
    examples = {"iu": np.dtype("int64"), "b": np.dtype("bool")}
    if "iu" in kinds:
        examples[""] = examples["iu"]
    with source.attributed_to(frozenset()):
        slots = [Variable(TensorType(examples.get(k, np.dtype("float64")), ())) for k in kinds]
        left, right = function(*slots)
    table = {v: Slot(i, k) for i, (v, k) in enumerate(zip(slots, kinds, strict=True))}
    pattern = _template(left, table)
    if type(pattern) is not Call:
        raise RuleError(f"rule {function.__name__}: the left side is not an operation")
    rule = Rule(
        function.__name__,
        doc,
        tag,
        level or tag,
        function,
        sides=(pattern, _template(right, table)),
        kinds=kinds,
        when=when,
        domain=domain,
    )
    rule.lefts = [v for v in variants(pattern) if type(v) is Call]
    RULES.append(rule)
    return rule


def structural(
    *roots: Op | type[Op], examples: Callable[[], Sequence[Variable]], level: str = ""
) -> Callable[[Callable[[Apply], Result]], Rule]:
    """Make a rule of a function from a node to its replacement, or ``None`` where it does not apply.

    Args:
        roots: the operations, or classes of operations, on whose nodes the rule is tried.
        examples: expressions on which the rule must fire; the tests evaluate them before and after.
        level: the named level that switches the rule; by default its tag.
    """

    def make(function: Callable[[Apply], Result]) -> Rule:
        doc, tag = _header(function)
        rule = Rule(function.__name__, doc, tag, level or tag, function, roots=roots, examples=examples)
        RULES.append(rule)
        return rule

    return make
