"""The engine: rules applied bottom-up, in one sweep over the graph in topological order, each node until none fires.

A replacement is itself brought to normal form before its consumers are looked at, so one sweep is enough. Nothing
here is recursive, and the cost of a node on which no rule fires is a few dictionary look-ups: rules are found by the
root operation and by what stands directly below it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

from symgraph import source
from symgraph.errors import RuleError
from symgraph.graph import Apply, Graph, Interner, Variable, _serial, interning
from symgraph.op import Op
from symgraph.ops.elementwise import Elementwise
from symgraph.ops.shape import broadcast_to
from symgraph.rewrite.constants import folded_outputs
from symgraph.rewrite.pattern import (
    COMMUTATIVE,
    Call,
    Number_,
    Result,
    Rule,
    Slot,
    Template,
    build,
    matches,
    same_number,
    scalar_value,
    splat,
)

# A rule set that never comes to rest is a mistake; this many firings for each node of the graph are not one.
_FIRINGS_PER_NODE: Final = 50

# What a rule tries on a node: the rule, and for an equation one left side with its operands in one order.
Candidate = tuple[Rule, Call | None]


class RuleSet:
    """Rules, indexed by the operation at their root and by what stands below it."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = tuple(rules)
        self._by_root: dict[Any, list[Candidate]] = {}
        self._numbers: dict[Any, list[Any]] = {}
        for rule in self.rules:
            for left in rule.lefts:
                self._by_root.setdefault(left.op, []).append((rule, left))
            for root in rule.roots:
                self._by_root.setdefault(root, []).append((rule, None))
        self._order = {rule: i for i, rule in enumerate(self.rules)}
        self._found: dict[Op | type[Op], list[Candidate]] = {}
        self._narrowed: dict[tuple[Any, ...], list[Candidate]] = {}

    def for_root(self, op: Op) -> list[Candidate]:
        """What to try on a node of ``op``, in the order in which the rules stand."""
        key = op if isinstance(op, Elementwise) else type(op)
        found = self._found.get(key)
        if found is None:
            found = (
                [c for k in (op, *type(op).__mro__) for c in self._by_root.get(k, ())]
                if key is op
                else [c for k in type(op).__mro__ for c in self._by_root.get(k, ())]
            )
            found.sort(key=lambda c: self._order[c[0]])
            self._found[key] = found
            self._numbers[key] = [
                a.value for _, left in found if left is not None for a in left.args if type(a) is Number_
            ]
        return found

    def candidates(self, node: Apply) -> list[Candidate]:
        """What is worth trying on ``node``, judged by its operation and those of its operands."""
        op = node.op
        rules = self.for_root(op)
        if not rules or not isinstance(op, Elementwise):
            return rules
        numbers = self._numbers[op]
        key: list[Any] = [op]
        for v in node.inputs:
            owner = v.owner
            if owner is not None and isinstance(owner.op, Elementwise):
                key.append(owner.op)
                continue
            c = scalar_value(v)
            if c is None:
                key.append(None)
            else:
                value = c.data.item()
                key.append(next((i for i, n in enumerate(numbers) if same_number(value, n)), -1))
        full = tuple(key)
        found = self._narrowed.get(full)
        if found is None:
            found = [
                (rule, left)
                for rule, left in rules
                if left is None or all(self._plausible(a, k, numbers) for a, k in zip(left.args, full[1:], strict=True))
            ]
            self._narrowed[full] = found
        return found

    @staticmethod
    def _plausible(template: Template, below: Any, numbers: Sequence[Any]) -> bool:
        if type(template) is Slot:
            return bool(template.kinds) or isinstance(below, int)
        if type(template) is Number_:
            return isinstance(below, int) and below >= 0 and same_number(numbers[below], template.value)
        assert type(template) is Call
        return below is template.op


class Engine:
    """One sweep of a rule set over a graph. ``fired`` counts firings by rule; ``log`` says on which lines.

    Nodes older than the serial number ``oldest`` are the user's: they are used again, but get no names and no source
    lines.
    """

    def __init__(self, rules: RuleSet, interner: Interner, *, strict: bool = False, oldest: int = 0) -> None:
        self.rules = rules
        self.interner = interner
        self.strict = strict
        self.fired: Counter[str] = Counter()
        self.log: list[tuple[str, source.Sources]] = []
        self._normal: dict[Variable, Variable] = {}  # from a variable to its normal form
        self._forward: dict[Variable, Variable] = {}  # from a variable to what replaces it, not yet in normal form
        self._fuel = 0
        self._oldest = oldest

    def run(self, graph: Graph) -> Graph:
        """``graph`` in normal form: the same inputs, and outputs of the same types."""
        self._fuel = _FIRINGS_PER_NODE * len(graph.nodes) + 1000
        for v in graph.inputs:
            self._normal[v] = v
        with interning(self.interner), source.attributed_to(frozenset()):
            for node in graph.nodes:
                for v in node.outputs:
                    if v not in self._normal:
                        self._normalize(v)
        outputs = [self.normal(v) for v in graph.outputs]
        return Graph(graph.inputs, outputs)

    def normal(self, v: Variable) -> Variable:
        """The normal form of ``v``, a variable of the graph that was run."""
        found = self._normal.get(v)
        return self.interner.canonical(v) if found is None else found

    # -- the sweep ----------------------------------------------------------------------------------------------------

    def _normalize(self, root: Variable) -> None:
        """Find the normal form of ``root``, with an explicit stack of what has to be known first."""
        normal, forward = self._normal, self._forward
        stack = [root]
        while stack:
            v = stack[-1]
            if v in normal:
                stack.pop()
                continue
            target = forward.get(v)
            if target is not None:
                known = normal.get(target)
                if known is None:
                    self._fuel -= 1
                    if self._fuel < 0:
                        last = ", ".join(dict.fromkeys(name for name, _ in self.log[-20:]))
                        raise RuleError(f"rules do not come to rest; the last to fire were {last}")
                    stack.append(target)
                    continue
                normal[v] = known
                self._keep_name(v, known)
                stack.pop()
                continue
            node = v.owner
            if node is None:
                normal[v] = self.interner.canonical(v)
                stack.pop()
                continue
            missing = [x for x in node.inputs if x not in normal]
            if missing:
                stack.extend(missing)
                continue
            rebuilt = self._rebuild(node, tuple([normal[x] for x in node.inputs]))
            if rebuilt is not node and rebuilt.outputs[0] in normal:
                for old, new in zip(node.outputs, rebuilt.outputs, strict=True):
                    normal[old] = normal[new]
                    self._keep_name(old, normal[new])
                stack.pop()
                continue
            if rebuilt is not node and rebuilt.outputs[0] in forward:
                for old, new in zip(node.outputs, rebuilt.outputs, strict=True):
                    forward[old] = new
                continue
            replacement = self._step(rebuilt)
            if replacement is None:
                for old, new in zip(node.outputs, rebuilt.outputs, strict=True):
                    normal[old] = normal[new] = new
                    self._keep_name(old, new)
                stack.pop()
                continue
            for old, new, to in zip(node.outputs, rebuilt.outputs, replacement, strict=True):
                forward[old] = to
                if new is not old:
                    forward[new] = to

    def _rebuild(self, node: Apply, inputs: tuple[Variable, ...]) -> Apply:
        """The node on other inputs: an equal one that exists, itself where nothing changed, or a new one."""
        same = True
        for a, b in zip(inputs, node.inputs, strict=True):
            if a is not b:
                same = False
                break
        if same and not node.op.pure:
            return node
        op = node.op
        found = self.interner.find(op, inputs)
        if found is None and op in COMMUTATIVE:
            found = self.interner.find(op, inputs[::-1])
        if found is None:
            if same:
                self.interner.add(node)
                return node
            # Normal forms have the types of what they replace, so the type rule would give the same types again.
            found = Apply(node.op, inputs, [v.type for v in node.outputs], node.sources, node.origin)
            self.interner.add(found)
        elif found is not node and not node.sources <= found.sources:
            self._own_lines(found, node.sources)
        return found

    def _step(self, node: Apply) -> Sequence[Variable] | None:
        """Try the rules on a node; what replaces its outputs, if one fired."""
        folded = folded_outputs(node)
        if folded is not None:
            self.fired["fold"] += 1
            return [self.interner.canonical(v) for v in folded]
        candidates = self.rules.candidates(node)
        if not candidates:
            return None
        start = next(_serial)  # whatever a rule makes has a higher number
        source.attribute(node.sources, node.origin)
        for rule, left in candidates:
            path: list[Apply] = []
            result: Result
            if left is None:
                result = rule.function(node)
            else:
                result = self._equation(rule, left, node, path)
            if result is None:
                continue
            outputs = (result,) if isinstance(result, Variable) else tuple(result)
            wrong = len(outputs) != len(node.outputs) or any(
                a.type != b.type for a, b in zip(outputs, node.outputs, strict=True)
            )
            if wrong:
                if self.strict:
                    raise RuleError(
                        f"rule {rule.name} replaced {[v.type for v in node.outputs]} by {[v.type for v in outputs]}"
                        f"  {source.show(node.sources)}"
                    )
                continue
            if all(a is b for a, b in zip(outputs, node.outputs, strict=True)):
                continue
            self._own(node, outputs, path, start)
            self.fired[rule.name] += 1
            self.log.append((rule.name, node.sources))
            return outputs
        return None

    @staticmethod
    def _equation(rule: Rule, left: Call, node: Apply, path: list[Apply]) -> Result:
        bound: list[Variable | None] = [None] * len(rule.kinds)
        if not matches(left, node.outputs[0], bound, path):
            return None
        if rule.when is not None and not rule.when(*bound):
            return None
        assert rule.sides is not None
        made = build(rule.sides[1], bound)
        if not isinstance(made, Variable):
            return splat(made, node.outputs[0].type)
        # What is made of numbers alone has no axes yet.
        return made if made.type.shape == node.outputs[0].type.shape else broadcast_to(made, node.outputs[0].type.shape)

    def _own(self, node: Apply, outputs: Sequence[Variable], path: Sequence[Apply], start: int) -> None:
        """Give the source lines of everything that is replaced to what replaces it."""
        made: list[Apply] = []
        stack = [v.owner for v in outputs if v.owner is not None]
        kept: set[Variable] = set(outputs)
        while stack:
            new = stack.pop()
            if new.outputs[0].serial < start or new in made:
                continue
            made.append(new)
            kept.update(new.inputs)
            stack += [v.owner for v in new.inputs if v.owner is not None]
        replaced = list(path) if path else [node]
        if not path:
            # A structural rule does not say what it looked at: all from its root down to what the replacement uses.
            frontier = [v for v in node.inputs if v not in kept]
            while frontier and len(replaced) < 16:
                owner = frontier.pop().owner
                if owner is not None and owner not in replaced:
                    replaced.append(owner)
                    frontier += [v for v in owner.inputs if v not in kept]
        sources = frozenset().union(*[n.sources for n in replaced])
        for new in made:
            own(new, sources)
        for v in outputs:
            if v.owner is not None:
                self._own_lines(v.owner, sources)

    def _own_lines(self, node: Apply, sources: source.Sources) -> None:
        if node.outputs[0].serial >= self._oldest:
            own(node, sources)

    def _keep_name(self, old: Variable, new: Variable) -> None:
        if old.name is not None and new.name is None and new.owner is not None and new.serial >= self._oldest:
            new.name = old.name


def own(node: Apply, sources: source.Sources) -> None:
    """Let ``node`` belong to further source lines. (Only nodes of the pipeline's own copy of a graph ever change.)"""
    if not sources <= node.sources:
        node.sources = node.sources | sources
        for v in node.outputs:
            v.sources = node.sources
