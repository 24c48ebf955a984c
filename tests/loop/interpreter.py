"""An interpreter of the loop language: it runs a program's kernels, and counts what is done and which words are met."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symgraph.graph import Constant, Variable
from symgraph.index import Expr
from symgraph.loop import ir
from symgraph.loop.count import function_of
from symgraph.loop.lower import Lowered, lower
from symgraph.op import OPS
from symgraph.passes.fuse import Kernel
from symgraph.passes.library import LibraryCall, view_of
from symgraph.runtime.program import Program
from symgraph.runtime.sizes import bind_sizes, resolve, settle

Array = NDArray[Any]
_NAMES = {"add_reassoc": "add", "mul_reassoc": "multiply"}


@dataclass
class Tally:
    """What running a step did: operations by name, and the distinct words met, by variable.

    A word that the step itself has stored before is not read where it is loaded again.
    """

    operations: Counter[str] = field(default_factory=Counter)
    loaded: dict[Any, set[int]] = field(default_factory=dict)
    stored: dict[Any, set[int]] = field(default_factory=dict)


class _Run:
    def __init__(self, lowered: Lowered, words: Mapping[str, Any]) -> None:
        self.loops = lowered.loops
        self.words = dict(words)
        self.tally = Tally()

    def run(self) -> Tally:
        self.block(self.loops.body)
        return self.tally

    def block(self, body: list[ir.Statement]) -> None:
        for s in body:
            if isinstance(s, ir.For):
                for k in range(int(self.value(s.start)), int(self.value(s.stop))):
                    self.words[s.index] = np.int64(k)
                    self.block(s.body)
            elif isinstance(s, ir.If):
                self.block(s.then if self.value(s.condition) else s.otherwise)
            elif isinstance(s, ir.Check):
                assert self.value(s.condition)
            elif isinstance(s, ir.Store):
                at, value = int(self.value(s.at)), self.value(s.value)
                self.words[s.buffer][at] = value
                self.tally.stored.setdefault(s.buffer, set()).add(at)
            else:
                assert isinstance(s, ir.Let | ir.Declare | ir.Assign), "a statement of the CPU's loops"
                self.words[s.name] = self.value(s.value)

    def value(self, e: Expr) -> Any:
        if e.fn == "const":
            return e.dtype.type(e.attr)
        if e.fn == "name":
            return self.words[e.attr]
        args = [self.value(a) for a in e.args]
        if e.fn == "load":
            at = int(args[0])
            if at not in self.tally.stored.get(e.attr, ()):
                self.tally.loaded.setdefault(e.attr, set()).add(at)
            return self.words[e.attr][at]
        if e.fn == "cast":
            return np.asarray(args[0]).astype(e.dtype)[()]
        fn = function_of(e)
        if fn is not None:
            self.tally.operations[fn] += 1
        name = _NAMES.get(e.fn, e.fn)
        with np.errstate(all="ignore"):
            if name == "where":
                return args[1] if args[0] else args[2]
            ufunc = getattr(np, name, None) or OPS[name].reference
            return np.asarray(ufunc(*args)).astype(e.dtype)[()]


def run_program(program: Program, arrays: Sequence[Array]) -> tuple[list[Array], list[Tally]]:
    """The outputs of a program, and a tally for each step. Words met are keyed by variable."""
    env = bind_sizes(program.arguments, arrays)
    settle([(c.got, c.wanted) for c in program.checks if not c.at_least], env)
    stored: dict[Variable, Array] = {
        v: np.array(a, dtype=v.type.dtype).reshape(-1) for v, a in zip(program.arguments, arrays, strict=True)
    }

    def buffer(v: Variable) -> Array:
        if v not in stored:
            data = v.data if isinstance(v, Constant) else np.empty(resolve(v.type.size, env), v.type.dtype)
            stored[v] = np.array(data, dtype=v.type.dtype).reshape(-1)
        return stored[v]

    def tensor(v: Variable) -> Array:
        if v in stored or isinstance(v, Constant):
            return buffer(v).reshape([resolve(s, env) for s in v.type.shape])
        view = view_of(v, set(program.arguments))
        shape, strides = ([resolve(s, env) for s in xs] for xs in (view.shape, view.strides))
        base = buffer(view.base)[resolve(view.offset, env) :] if 0 not in shape else buffer(view.base)
        return np.lib.stride_tricks.as_strided(base, shape, [s * base.itemsize for s in strides])

    tallies = []
    for s in program.steps:
        if isinstance(s.step, LibraryCall):
            out = s.step.node.op.reference(*[tensor(v) for v in s.step.node.inputs])
            stored[s.step.node.outputs[0]] = np.ascontiguousarray(out).reshape(-1)
            tallies.append(Tally())
            continue
        assert isinstance(s.step, Kernel)
        lowered = lower(s.step)
        words: dict[str, Any] = {"lo": 0, "hi": resolve(lowered.extent, env)}
        names: dict[str, Variable] = {}
        for p, b in zip(lowered.loops.params, lowered.bindings, strict=True):
            if isinstance(b, Variable):
                words[p.name], names[p.name] = buffer(b), b
            else:
                words[p.name] = b if isinstance(b, np.generic) else np.int64(resolve(b, env))
        tally = _Run(lowered, words).run()
        tally.loaded = {names[n]: at for n, at in tally.loaded.items()}
        tally.stored = {names[n]: at for n, at in tally.stored.items()}
        tallies.append(tally)
    return [tensor(v) for v in program.outputs], tallies
