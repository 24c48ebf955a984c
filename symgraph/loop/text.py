"""Kernels that are text, as loop IR: what :mod:`symgraph.loop.check` proves of loops, it proves of these.

``read(source, params, lanes)`` takes the text of one kernel, in the vocabulary of the GPUs' printer, and returns loops
that do the same. All lanes of a group run all of the text, so what follows ``me = lane()`` is the body of a loop of
kind ``lanes``, in which there may be barriers.

*Names.* Each assignment makes a new name, and where two ways meet the value is a choice between theirs. What a loop
changes is declared before it, and assigned at the end of its body.

*Loops.* ``while x < stop`` with ``x += groups()`` or ``threads()`` last is a loop over groups or threads, with another
step a loop over turns. One whose condition is known is unrolled. All others are as they stand, :class:`While`.

*Buffers under other names.* Where a condition decides which buffer a name is, there are loops for either case.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from symgraph.index import BOOL, INT, Expr
from symgraph.loop import ir
from symgraph.loop.ir import (
    Alloc,
    Assign,
    Atomic,
    Barrier,
    Check,
    Declare,
    Fetch,
    For,
    If,
    Let,
    LoopKernel,
    Param,
    Put,
    Statement,
    Store,
    While,
)

TURNS = 64
"""Turns of a loop that is unrolled."""
_DATA = np.dtype("float64")
"""Of values that no index is made of, where the text does not say it."""

_BINARY: Mapping[type[ast.operator], str] = {
    ast.Add: "add", ast.Sub: "subtract", ast.Mult: "multiply", ast.Div: "divide", ast.FloorDiv: "floor_divide",
    ast.Mod: "remainder", ast.LShift: "left_shift", ast.RShift: "right_shift", ast.BitAnd: "bitwise_and",
    ast.BitOr: "bitwise_or", ast.BitXor: "bitwise_xor",
}  # fmt: skip
_COMPARED: Mapping[type[ast.cmpop], str] = {
    ast.Lt: "less", ast.LtE: "less_equal", ast.Gt: "greater", ast.GtE: "greater_equal", ast.Eq: "equal",
    ast.NotEq: "not_equal",
}  # fmt: skip
_UNARY: Mapping[type[ast.unaryop], str] = {
    ast.USub: "negative", ast.Invert: "bitwise_invert", ast.Not: "logical_not",
}  # fmt: skip
_DEALT: Mapping[str, tuple[str, Literal["group", "grid"]]] = {
    "group": ("groups", "group"), "thread": ("threads", "grid"),
}  # fmt: skip
"""Where a loop starts that is dealt out: its step, and its kind."""


class UnreadableError(ValueError):
    """A statement of a kernel's text that there is no loop IR for."""


def read(source: str, params: Sequence[Param], lanes: int) -> list[LoopKernel]:
    """The loops of a kernel's text, one for each choice of buffers.

    Args:
        source: of one function, in Python.
        params: its parameters.
        lanes: of a group.

    Raises:
        UnreadableError: a statement is none that kernels are made of.
    """
    (function,) = ast.parse(source).body
    if not isinstance(function, ast.FunctionDef) or len(function.args.args) != len(params):
        raise UnreadableError(f"wanted one function of {len(params)} parameters, got {source.splitlines()[0]}")
    named = [Param(a.arg, p.kind, p.dtype) for a, p in zip(function.args.args, params, strict=True)]
    found: list[LoopKernel] = []
    waiting: list[dict[str, bool]] = [{}]
    while waiting:
        assumed = waiting.pop()
        try:
            found.append(_Reader(function, named, lanes, assumed).kernel())
        except _UndecidedError as undecided:
            waiting += [{**assumed, undecided.test: truth} for truth in (False, True)]
    return found


class _UndecidedError(Exception):
    """A condition decides which buffer a name is."""

    def __init__(self, test: str) -> None:
        self.test = test


@dataclass(frozen=True)
class _Buffer:
    """What a name stands for that is no value."""

    name: str
    dtype: np.dtype[np.generic]


_Env = dict[str, "Expr | _Buffer"]


class _Reader:
    def __init__(
        self, function: ast.FunctionDef, params: Sequence[Param], lanes: int, assumed: Mapping[str, bool]
    ) -> None:
        self.function, self.params, self.lanes, self.assumed = function, params, lanes, assumed
        self.serial = {p.name: 1 for p in params}

    def kernel(self) -> LoopKernel:
        env: _Env = {
            p.name: _Buffer(p.name, p.dtype) if p.kind == "buffer" else ir.name(p.name, p.dtype) for p in self.params
        }
        body: list[Statement] = []
        rest = list(self.function.body)
        while rest:
            s = rest.pop(0)
            if isinstance(s, ast.Assign) and ast.unparse(s.value) == "lane()":
                (target,) = s.targets
                assert isinstance(target, ast.Name)
                inner: list[Statement] = []
                index = self.fresh(target.id)
                body.append(For(index, _number(0), _number(self.lanes), "lanes", inner))
                env[target.id] = ir.name(index, INT)
                self.block(rest, env, inner)
                break
            self.statement(s, env, body)
        return LoopKernel(list(self.params), body)

    def fresh(self, name: str) -> str:
        """A new name like ``name``; the first is that itself."""
        self.serial[name] = number = self.serial.get(name, 0) + 1
        return name if number == 1 else f"{name}.{number}"

    # -- statements ---------------------------------------------------------------------------------------------------

    def block(self, body: Iterable[ast.stmt], env: _Env, out: list[Statement]) -> None:
        for s in body:
            self.statement(s, env, out)

    def statement(self, s: ast.stmt, env: _Env, out: list[Statement]) -> None:
        if isinstance(s, ast.Assign) and len(s.targets) == 1:
            self.assign(s.targets[0], s.value, env, out)
        elif isinstance(s, ast.AugAssign) and isinstance(s.target, ast.Name):
            read = ast.BinOp(ast.Name(s.target.id, ast.Load()), s.op, s.value)
            self.assign(s.target, read, env, out)
        elif isinstance(s, ast.Expr) and isinstance(s.value, ast.Call):
            self.call(s.value, env, out)
        elif isinstance(s, ast.If):
            self.branch(s, env, out)
        elif isinstance(s, ast.While) and not s.orelse:
            self.loop(s, env, out)
        elif isinstance(s, ast.For) and isinstance(s.target, ast.Name) and isinstance(s.iter, ast.Call):
            bounds = [self.value(a, env) for a in s.iter.args]
            start, stop = bounds if len(bounds) == 2 else (_number(0), bounds[0])
            name = self.fresh(s.target.id)
            self.turns(name, start, stop, {s.target.id: ir.name(name, INT)}, s.body, None, env, out)
        elif not isinstance(s, ast.Pass):
            raise _unreadable(s)

    def assign(self, target: ast.expr, value: ast.expr, env: _Env, out: list[Statement]) -> None:
        if isinstance(target, ast.Name):
            call = ast.unparse(value.func) if isinstance(value, ast.Call) else ""
            if isinstance(value, ast.Name) and isinstance(env.get(value.id), _Buffer):
                env[target.id] = env[value.id]
            elif isinstance(value, ast.Call) and call in ("cuda.shared.array", "cuda.local.array"):
                size, kind = value.args
                dtype = np.dtype(ast.unparse(kind).removeprefix("memory_"))
                name = self.fresh(target.id)
                out.append(
                    Alloc(name, "shared" if call == "cuda.shared.array" else "local", dtype, self.known(size, env))
                )
                env[target.id] = _Buffer(name, dtype)
            elif call in _DEALT:
                env[target.id] = Expr(call, (), INT, None, frozenset())
            else:
                env[target.id] = self.bind(target.id, self.value(value, env), out)
        elif isinstance(target, ast.Subscript):
            buffer = self.buffer(target.value, env)
            out.append(Store(buffer.name, self.value(target.slice, env), self.value(value, env)))
        elif isinstance(target, ast.Tuple) and isinstance(value, ast.Call) and _name(value.func).startswith("fetch_"):
            buffer, at = self.buffer(value.args[0], env), self.value(value.args[1], env)
            fetched = [(_name(t), self.fresh(_name(t))) for t in target.elts]
            out.append(Fetch(tuple(new for _, new in fetched), buffer.name, at, buffer.dtype))
            env.update({old: ir.name(new, buffer.dtype) for old, new in fetched})
        else:
            raise _unreadable(target)

    def bind(self, name: str, value: Expr, out: list[Statement]) -> Expr:
        """A new name for a value, unless it is a number or has one."""
        if value.fn in ("const", "name"):
            return value
        new = self.fresh(name)
        out.append(Let(new, value))
        return ir.name(new, value.dtype)

    def call(self, call: ast.Call, env: _Env, out: list[Statement]) -> None:
        name = _name(call.func)
        if name == "barrier":
            out.append(Barrier())
            return
        if len(call.args) < 3:
            raise _unreadable(call)
        buffer = self.buffer(call.args[0], env)
        at, *values = (self.value(a, env) for a in call.args[1:])
        if name == "atomic_add":
            out.append(Atomic(buffer.name, at, values[0]))
        elif name.startswith("put_"):
            out.append(Put(buffer.name, at, tuple(values)))
        else:
            raise _unreadable(call)

    def branch(self, s: ast.If, env: _Env, out: list[Statement]) -> None:
        condition = self.value(s.test, env)
        text = ast.unparse(s.test)
        truth = bool(condition.attr) if condition.fn == "const" else self.assumed.get(text)
        if truth is None and any(self.renames(t, env) for part in (s.body, s.orelse) for t in part):
            raise _UndecidedError(text)
        if condition.fn != "const" and text in self.assumed and self.often(s.test):
            raise _unreadable(s)  # what was assumed may be true no more
        if truth is not None:
            if condition.fn != "const":
                holds = condition if truth else Expr("logical_not", (condition,), BOOL, None, frozenset())
                out.append(Check(holds, 0))
            self.block(s.body if truth else s.orelse, env, out)
            return
        condition = self.bind("holds", condition, out)
        ways: list[tuple[_Env, list[Statement]]] = []
        for part in (s.body, s.orelse):
            own, made = dict(env), list[Statement]()
            self.block(part, own, made)
            ways.append((own, made))
        (yes, then), (no, otherwise) = ways
        out.append(If(condition, then, otherwise))
        for name in yes:
            a, b = yes[name], no.get(name)
            if a is not b and isinstance(a, Expr) and isinstance(b, Expr):
                env[name] = self.bind(name, Expr("where", (condition, a, b), a.dtype, None, frozenset()), out)

    def often(self, test: ast.expr) -> bool:
        """Whether a name in a condition is assigned more than once in the kernel, or memory is asked."""
        stored = [x.id for x in ast.walk(self.function) if isinstance(x, ast.Name) and isinstance(x.ctx, ast.Store)]
        times = [stored.count(n.id) for n in ast.walk(test) if isinstance(n, ast.Name)]
        return any(k > 1 for k in times) or any(isinstance(x, ast.Subscript | ast.Call) for x in ast.walk(test))

    def renames(self, s: ast.stmt, env: _Env) -> bool:
        """Whether a statement says which buffer a name is."""
        return any(
            isinstance(t, ast.Assign) and isinstance(t.value, ast.Name) and isinstance(env.get(t.value.id), _Buffer)
            for t in ast.walk(s)
        )

    # -- loops --------------------------------------------------------------------------------------------------------

    def loop(self, s: ast.While, env: _Env, out: list[Statement]) -> None:
        last = s.body[-1]
        if (
            isinstance(last, ast.AugAssign)
            and isinstance(s.test, ast.Compare)
            and self.counts(s.test, last, s.body[:-1])
        ):
            self.counted(s, s.test, last, env, out)
            return
        turns = 0
        before, length, serial = dict(env), len(out), dict(self.serial)
        while (condition := self.value(s.test, env)).fn == "const":
            if not condition.attr:
                return
            turns += 1
            if turns > TURNS:
                raise UnreadableError(f"line {s.lineno}: more than {TURNS} turns")
            self.block(s.body, env, out)
        if turns:  # what it goes on for is not known for long
            env.clear()
            env.update(before)
            del out[length:]
            self.serial = serial
        self.until(s, env, out)

    def counts(self, test: ast.Compare, last: ast.AugAssign, body: Sequence[ast.stmt]) -> bool:
        """Whether a loop's last statement, and no other, brings its index nearer to where it stops."""
        name = _name(test.left)
        steps = isinstance(test.ops[0], ast.Lt) and isinstance(last.op, ast.Add) and _name(last.target) == name != ""
        stop = test.comparators[0]
        loads = any(isinstance(x, ast.Subscript) for e in (stop, last.value) for x in ast.walk(e))
        return (
            steps
            and not loads
            and name not in _changed(body)
            and not (_read(stop) | _read(last.value)) & _changed(body)
        )

    def counted(self, s: ast.While, test: ast.Compare, last: ast.AugAssign, env: _Env, out: list[Statement]) -> None:
        """A loop over groups, threads or turns."""
        name, body = _name(test.left), s.body[:-1]
        first = env[name]
        assert isinstance(first, Expr)
        stop = self.value(test.comparators[0], env)
        if first.fn in _DEALT:
            step, kind = _DEALT[first.fn]
            if ast.unparse(last.value) != f"{step}()":
                raise _unreadable(last)
            if _changed(body) & _exposed(body):
                raise UnreadableError(
                    f"line {s.lineno}: {sorted(_changed(body) & _exposed(body))} go on to the next turn"
                )
            new, inner = self.fresh(name), list[Statement]()
            out.append(For(new, _number(0), stop, kind, inner))
            own = dict(env)
            own[name] = ir.name(new, INT)
            self.block(body, own, inner)
            return
        by = self.value(last.value, env)
        if by.fn == "const" and by.attr == 1:
            new = self.fresh(name)
            self.turns(new, first, stop, {name: ir.name(new, INT)}, body, None, env, out)
            return
        turn = ir.name(self.fresh("turn"), INT)
        left = _call("subtract", stop, first)
        count = _call("floor_divide", _call("add", left, _call("subtract", by, _number(1))), by)
        at = ir.name(self.fresh(name), INT)
        here = Let(str(at.attr), _call("add", first, _call("multiply", turn, by)))
        self.turns(str(turn.attr), _number(0), count, {name: at}, body, here, env, out, _call("less", at, stop))

    def turns(
        self,
        index: str,
        start: Expr,
        stop: Expr,
        names: Mapping[str, Expr],
        body: Sequence[ast.stmt],
        first: Let | None,
        env: _Env,
        out: list[Statement],
        holds: Expr | None = None,
    ) -> None:
        """A loop over turns; ``first`` and ``holds`` are a definition and what is true at the beginning of each."""
        inner: list[Statement] = [first] if first is not None else []
        if holds is not None:
            inner.append(Check(holds, 0))
        own, changed = self.carried(body, [], env, out)
        own.update(names)
        self.block(body, own, inner)
        self.assigned(changed, own, inner)
        out.append(For(index, start, stop, "serial", inner))
        for name in names:
            env.pop(name, None)  # its last value is not used

    def until(self, s: ast.While, env: _Env, out: list[Statement]) -> None:
        """A loop that goes on as long as something holds."""
        own, changed = self.carried(s.body, [ast.Expr(s.test)], env, out)
        inner: list[Statement] = []
        condition = self.value(s.test, own)
        self.block(s.body, own, inner)
        self.assigned(changed, own, inner)
        out.append(While(condition, inner))

    def carried(
        self, body: Sequence[ast.stmt], test: Sequence[ast.stmt], env: _Env, out: list[Statement]
    ) -> tuple[_Env, dict[str, Expr]]:
        """The names at the beginning of a loop's body, and those that a turn gets from the turn before.

        The others that the body changes are its own, and have no value after the loop.
        """
        changed: dict[str, Expr] = {}
        exposed = _exposed([*test, *body])
        for name in sorted(_changed(body)):
            value = env.pop(name, None) if name not in exposed else env.get(name)
            if isinstance(value, Expr) and name in exposed:
                new = self.fresh(name)
                out.append(Declare(new, value))
                env[name] = changed[name] = ir.name(new, value.dtype)
        return dict(env), changed

    def assigned(self, changed: Mapping[str, Expr], own: _Env, out: list[Statement]) -> None:
        """The last statements of a loop's body."""
        values: list[tuple[str, Expr]] = []
        for name, declared in changed.items():
            value = own[name]
            assert isinstance(value, Expr)
            if value is not declared and any(value is other for other in changed.values()):
                copy = self.fresh(name)  # before that one is assigned
                out.append(Let(copy, value))
                value = ir.name(copy, value.dtype)
            values.append((str(declared.attr), self.bind(name, value, out)))
        out += [Assign(name, value) for name, value in values]

    # -- values -------------------------------------------------------------------------------------------------------

    def buffer(self, e: ast.expr, env: _Env) -> _Buffer:
        found = env.get(_name(e))
        if not isinstance(found, _Buffer):
            raise _unreadable(e)
        return found

    def known(self, e: ast.expr, env: _Env) -> int:
        """A number that the text has."""
        found = self.value(e, env)
        if found.fn != "const":
            raise _unreadable(e)
        return int(found.attr)

    def value(self, e: ast.expr, env: _Env) -> Expr:
        """An expression. Those of kernels are a few operations deep."""
        if isinstance(e, ast.Constant):
            dtype = BOOL if isinstance(e.value, bool) else INT if isinstance(e.value, int) else _DATA
            return Expr("const", (), dtype, e.value, frozenset())
        if isinstance(e, ast.Name):
            found = env.get(e.id)
            if not isinstance(found, Expr):
                raise _unreadable(e)
            return found
        if isinstance(e, ast.BinOp):
            return _call(_BINARY[type(e.op)], self.value(e.left, env), self.value(e.right, env))
        if isinstance(e, ast.Compare) and len(e.ops) == 1:
            operands = self.value(e.left, env), self.value(e.comparators[0], env)
            return _call(_COMPARED[type(e.ops[0])], *operands, dtype=BOOL)
        if isinstance(e, ast.UnaryOp):
            return _call(_UNARY[type(e.op)], self.value(e.operand, env))
        if isinstance(e, ast.IfExp):
            test, yes, no = (self.value(x, env) for x in (e.test, e.body, e.orelse))
            return Expr("where", (test, yes, no), yes.dtype, None, frozenset())
        if isinstance(e, ast.Subscript):
            buffer = self.buffer(e.value, env)
            return Expr("load", (self.value(e.slice, env),), buffer.dtype, buffer.name, frozenset())
        if isinstance(e, ast.Call):
            return self.function_of(_name(e.func), e, env)
        raise _unreadable(e)

    def function_of(self, name: str, e: ast.Call, env: _Env) -> Expr:
        if name in ("lane", "lanes"):
            return Expr(name, (), INT, None, frozenset()) if name == "lane" else _number(self.lanes)
        if name == "aligned":
            at, count = (self.value(a, env) for a in e.args[1:])
            return Expr("aligned", (at, count), BOOL, self.buffer(e.args[0], env).name, frozenset())
        args = tuple(self.value(a, env) for a in e.args)
        if name in _CASTS:
            return Expr("cast", args, _CASTS[name], None, frozenset())
        fn, _, dtype = name.rpartition("_")
        kind = np.dtype(dtype) if dtype in _CASTS else _DATA
        return Expr("where" if fn == "select" else name, args, kind, None, frozenset())


_CASTS = {
    d: np.dtype(d)
    for d in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64")
}


def _number(value: int) -> Expr:
    return Expr("const", (), INT, value, frozenset())


def _call(fn: str, *args: Expr, dtype: np.dtype[np.generic] | None = None) -> Expr:
    """``fn`` of values; a number where they are numbers."""
    dtype = args[-1].dtype if dtype is None else dtype
    if all(a.fn == "const" and isinstance(a.attr, int) for a in args) and fn in _FOLDED:
        return Expr("const", (), dtype, _FOLDED[fn](*(a.attr for a in args)), frozenset())
    return Expr(fn, args, dtype, None, frozenset())


_FOLDED: Mapping[str, Callable[..., int]] = {
    "add": int.__add__, "subtract": int.__sub__, "multiply": int.__mul__, "floor_divide": int.__floordiv__,
    "remainder": int.__mod__, "left_shift": int.__lshift__, "right_shift": int.__rshift__, "negative": int.__neg__,
    "bitwise_and": int.__and__, "bitwise_or": int.__or__, "less": int.__lt__, "less_equal": int.__le__,
    "greater": int.__gt__, "greater_equal": int.__ge__, "equal": int.__eq__, "not_equal": int.__ne__,
}  # fmt: skip


def _name(e: ast.expr) -> str:
    return e.id if isinstance(e, ast.Name) else ""


def _changed(body: Sequence[ast.stmt]) -> set[str]:
    """The names that statements assign to."""
    found: set[str] = set()
    for s in body:
        for t in ast.walk(s):
            targets = t.targets if isinstance(t, ast.Assign) else [t.target] if isinstance(t, ast.AugAssign) else []
            for target in targets:
                found |= {_name(x) for x in (target.elts if isinstance(target, ast.Tuple) else [target])}
    return found - {""}


def _exposed(body: Sequence[ast.stmt]) -> set[str]:
    """The names that statements read, unless they surely assign them before."""
    found: set[str] = set()
    given: set[str] = set()
    for s in body:
        if isinstance(s, ast.If):
            parts = _read(s.test), _exposed(s.body), _exposed(s.orelse)
            now = set().union(*parts)
            sure = _sure(s.body) & _sure(s.orelse)
        elif isinstance(s, ast.While):
            now, sure = _read(s.test) | _exposed(s.body), set()
        elif isinstance(s, ast.For):
            now, sure = _read(s.iter) | (_exposed(s.body) - {_name(s.target)}), set()
        else:
            now, sure = _read(s), _sure([s])
        found |= now - given
        given |= sure
    return found


def _sure(body: Sequence[ast.stmt]) -> set[str]:
    """The names that statements assign to, on every way."""
    found: set[str] = set()
    for s in body:
        if isinstance(s, ast.If):
            found |= _sure(s.body) & _sure(s.orelse)
        elif not isinstance(s, ast.For | ast.While):
            found |= _changed([s])
    return found


def _read(node: ast.AST) -> set[str]:
    """The names that a statement or an expression reads."""
    own = {_name(node.target)} if isinstance(node, ast.AugAssign) else set()
    return own | {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}


def _unreadable(node: ast.AST) -> UnreadableError:
    return UnreadableError(f"line {getattr(node, 'lineno', '?')}: {ast.unparse(node)}")
