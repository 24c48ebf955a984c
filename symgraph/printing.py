"""Graphs as text: a printer, its inverse, and a tree for reading.

The text is canonical: it depends on the structure of a graph alone, so two graphs are equal where their texts are.

    %0 'x': float64[batch, 64] = input
    %1: float64[] = constant 0.5
    %2: float64[batch, 64] = broadcast{shape=(batch, 64), axes=()} %1   # model.py:12
    %3: float64[batch, 64] = multiply %0, %2   # model.py:12
    return %3
"""

from __future__ import annotations

import ast
import base64
import keyword
import re
import sys
import zlib
from collections.abc import Iterable, Sequence
from typing import IO, Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from symgraph import source
from symgraph.errors import FormatError, ParseError, SymgraphError
from symgraph.graph import Apply, Constant, Graph, SharedVariable, Variable
from symgraph.op import OPS, USER_OPS, Op
from symgraph.types import (
    DTYPES,
    Atom,
    Dim,
    Shape,
    Size,
    TensorType,
    as_dtype,
    atoms,
    dim,
    floordiv,
    size_max,
    size_min,
    total_text,
    unify,
)

_INLINE = 32  # constants of more elements are printed as compressed bytes


class _Printer:
    """Numbers variables and anonymous sizes in the order in which they appear."""

    def __init__(self, lines: bool, data: bool) -> None:
        self.lines = lines
        self.data = data
        self.numbers: dict[Variable, int] = {}
        self.unknowns: dict[Atom, int] = {}

    # -- sizes and static parameters

    def atom(self, atom: Atom) -> str:
        if atom.fn == "floordiv":
            return f"({self.size(atom.args[0])})//({self.size(atom.args[1])})"
        if atom.fn:
            return f"{atom.fn}({', '.join(self.size(a) for a in atom.args)})"
        if atom.name is None:
            return f"?{self.unknowns.setdefault(atom, len(self.unknowns))}"
        plain = atom.name.isidentifier() and not keyword.iskeyword(atom.name)
        return atom.name if plain else f"dim({atom.name!r})"

    def size(self, size: Size) -> str:
        if not isinstance(size, Dim):
            return str(int(size))
        for a in sorted(atoms(size), key=lambda a: a.serial):
            if a.name is None and not a.fn:
                self.unknowns.setdefault(a, len(self.unknowns))
        # By label, not by serial number, which depends on what else this process has made.
        terms = [(sorted(self.atom(a) for a in monomial), c) for monomial, c in size.terms]
        return total_text((c, factors) for factors, c in sorted(terms, key=lambda t: (-len(t[0]), t[0])))

    def type(self, type: TensorType) -> str:
        return f"{type.dtype.name}[{', '.join(self.size(s) for s in type.shape)}]"

    def value(self, value: Any) -> str:
        if isinstance(value, Dim):
            return self.size(value)
        if value is None or isinstance(value, bool | str):
            return repr(value)
        if isinstance(value, int | np.integer):
            return str(int(value))
        if isinstance(value, float):
            return repr(value) if np.isfinite(value) else f"float('{value}')"
        if isinstance(value, tuple):
            return f"({', '.join(map(self.value, value))}{',' * (len(value) == 1)})"
        if isinstance(value, slice):
            return f"slice({', '.join(map(self.value, (value.start, value.stop, value.step)))})"
        if isinstance(value, np.dtype):
            return repr(value.name)
        if isinstance(value, Op):
            return f"op({self.op(value)!r})"
        raise FormatError(f"a static parameter of type {type(value).__name__} has no text: {value!r}")

    def op(self, op: Op) -> str:
        fields = ", ".join(f"{name}={self.value(value)}" for name, value in op.statics().items())
        return f"{op.name}{{{fields}}}" if fields else str(op.name)

    # -- lines

    def declare(self, v: Variable) -> str:
        number = self.numbers.setdefault(v, len(self.numbers))
        return f"%{number}{f' {v.name!r}' if v.name is not None else ''}: {self.type(v.type)}"

    def leaf(self, v: Variable, inputs: set[Variable]) -> str:
        kind = "input" if v in inputs else "free"
        if isinstance(v, Constant) and v not in inputs:
            kind = f"constant {self.array(v.data)}"
        elif isinstance(v, SharedVariable):
            kind = "shared" if v not in inputs else "shared input"
        return self.line(f"{self.declare(v)} = {kind}", v.sources if not isinstance(v, Constant) else frozenset())

    def node(self, node: Apply) -> str:
        args = ", ".join(f"%{self.numbers[v]}" for v in node.inputs)
        left = ", ".join(self.declare(v) for v in node.outputs)
        return self.line(f"{left} = {self.op(node.op)} {args}".rstrip(), node.sources)

    def line(self, text: str, sources: source.Sources) -> str:
        return f"{text}   # {', '.join(map(str, sorted(sources)))}" if self.lines and sources else text

    def array(self, a: NDArray[Any]) -> str:
        if a.size > _INLINE:
            if not self.data:
                return "..."
            packed = base64.b64encode(zlib.compress(np.ascontiguousarray(a).tobytes())).decode()
            return f"data {packed}"

        def nested(a: NDArray[Any]) -> str:
            return _scalar(a[()]) if a.ndim == 0 else f"[{', '.join(nested(b) for b in a)}]"

        return nested(a)


def _scalar(x: Any) -> str:
    """Text that reads back to exactly this value, nan's bits included."""
    x = np.asarray(x)
    if x.dtype.kind == "f" and np.isnan(x) and x.tobytes() != np.array(np.nan, x.dtype).tobytes():
        return f"nan:{x.tobytes()[::-1].hex() if sys.byteorder == 'little' else x.tobytes().hex()}"
    return str(x[()])


def print_graph(graph: Graph | Variable | Sequence[Variable], lines: bool = True, data: bool = True) -> str:
    """The graph as text, one line per node, which :func:`parse_graph` reads back.

    Args:
        graph: a graph, or the output or outputs that define one.
        lines: whether each node is followed by the lines of the user's code that it comes from.
        data: whether constants of many elements are printed; without them the text does not read back.
    """
    if not isinstance(graph, Graph):
        graph = Graph((), [graph] if isinstance(graph, Variable) else list(graph))
    printer = _Printer(lines, data)
    inputs = set(graph.inputs)
    out = [printer.leaf(v, inputs) for v in dict.fromkeys(graph.inputs)]

    def known(variables: Iterable[Variable]) -> None:
        out.extend(printer.leaf(v, inputs) for v in dict.fromkeys(variables) if v not in printer.numbers)

    for node in graph.nodes:
        known(node.inputs)
        out.append(printer.node(node))
    known(graph.outputs)
    out.append(f"return {', '.join(f'%{printer.numbers[v]}' for v in graph.outputs)}".rstrip())
    return "\n".join(out)


def graphs_equal(a: Graph | Variable | Sequence[Variable], b: Graph | Variable | Sequence[Variable]) -> bool:
    """Whether two graphs have the same structure: ops, types, names, constants bit by bit, and what is shared.

    Source lines do not count, nor the identity of unknown sizes, only where they are equal.
    """
    return print_graph(a, lines=False) == print_graph(b, lines=False)


# -- reading ----------------------------------------------------------------------------------------------------------

_STRING = r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*\""""
_DECLARATION = re.compile(rf"\s*%(\d+)\s*({_STRING})?\s*:\s*(\w+)\[")
_OPERANDS = re.compile(r"\s*(%\d+(\s*,\s*%\d+)*)?\s*$")


class _Reader:
    def __init__(self, text: str, shared: dict[str, SharedVariable]) -> None:
        self.variables: dict[int, Variable] = {}
        self.shared = shared
        self.unknowns: dict[int, Size] = {
            k: dim() for k in range(1 + max(map(int, re.findall(r"\?(\d+)", text)), default=-1))
        }
        self.inputs: list[Variable] = []

    def line(self, text: str) -> list[Variable] | None:
        """Read one line; the outputs where it is the last."""
        text, sources = _split_comment(text)
        if text.startswith("return"):
            return self.operands(text[len("return") :])
        declared: list[tuple[int, str | None, TensorType]] = []
        at = 0
        while True:
            found = _DECLARATION.match(text, at)
            if not found:
                raise ParseError("expected %number: dtype[sizes]")
            end = _closing(text, found.end() - 1)
            number, name, dtype = found.groups()
            if dtype not in DTYPES:
                raise ParseError(f"not a dtype: {dtype}")
            type = TensorType(as_dtype(dtype), self.shape(text[found.end() : end]))
            if int(number) in self.variables:
                raise ParseError(f"%{number} is declared twice")
            declared.append((int(number), None if name is None else ast.literal_eval(name), type))
            at = end + 1
            rest = text[at:].lstrip()
            if not rest.startswith(","):
                break
            at = text.index(",", at) + 1
        if not rest.startswith("="):
            raise ParseError("expected = after the type")
        for (number, name, _), v in zip(declared, self.define(rest[1:].strip(), declared, sources), strict=True):
            v.name = name
            self.variables[number] = v
        return None

    def define(
        self, right: str, declared: Sequence[tuple[int, str | None, TensorType]], sources: source.Sources
    ) -> Sequence[Variable]:
        _, name, type = declared[0]
        word, _, rest = right.partition(" ")
        if word == "constant":
            return [Constant(_read_array(rest.strip(), type), name, sources)]
        if word in ("input", "free"):
            v: Variable = Variable(type, name=name, sources=sources)
            if word == "input":
                self.inputs.append(v)
            return [v]
        if word == "shared":
            zeros = np.zeros([s if isinstance(s, int) else 0 for s in type.shape], type.dtype)
            v = self.shared[name] if name in self.shared else SharedVariable(zeros, type, name)
            if rest.strip() == "input":
                self.inputs.append(v)
            return [v]
        op, end = self.op(right)
        inputs = self.operands(right[end:])
        types = [t for _, _, t in declared]
        _check_types(op, inputs, types)
        return Apply(op, tuple(inputs), types, sources).outputs

    def operands(self, text: str) -> list[Variable]:
        if not _OPERANDS.match(text):
            raise ParseError(f"expected operands, got {text.strip()!r}")
        out = []
        for number in re.findall(r"%(\d+)", text):
            if int(number) not in self.variables:
                raise ParseError(f"%{number} is used before it is declared")
            out.append(self.variables[int(number)])
        return out

    def op(self, text: str) -> tuple[Op, int]:
        """The operation that ``text`` begins with, and where it ends."""
        found = re.match(r"[\w.]+", text)
        registered = OPS.get(found.group(), USER_OPS.get(found.group())) if found else None
        if found is None or registered is None:
            raise ParseError(f"no operation is called {found.group() if found else text}")
        end = found.end()
        if isinstance(registered, Op):
            return registered, end
        if text[end : end + 1] != "{":
            return registered(), end
        close = _closing(text, end)
        call = self.tree(f"_({text[end + 1 : close]})")
        assert isinstance(call, ast.Call)
        return registered(**{str(k.arg): self.value(k.value) for k in call.keywords}), close + 1

    def shape(self, text: str) -> Shape:
        tree = self.tree(f"({text},)" if text.strip() else "()")
        value = self.value(tree)
        if not isinstance(value, tuple) or not all(isinstance(s, int | Dim) for s in value):
            raise ParseError(f"not a shape: [{text}]")
        return value

    def tree(self, text: str) -> ast.expr:
        plain = re.sub(rf"({_STRING})|\?(\d+)", lambda m: m.group(1) or f"unknown({m.group(2)})", text)
        try:
            return ast.parse(plain, mode="eval").body
        except SyntaxError:
            raise ParseError(f"cannot read {text!r}") from None

    def value(self, node: ast.expr) -> Any:
        """The value of a static parameter or size; nothing but what the printer writes is understood."""
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name):
                return dim(name)
            case ast.Tuple(elts=items):
                return tuple(self.value(i) for i in items)
            case ast.UnaryOp(op=ast.USub(), operand=x):
                return -self.value(x)
            case ast.BinOp(left=a, op=kind, right=b):
                x, y = self.value(a), self.value(b)
                match kind:
                    case ast.Add():
                        return x + y
                    case ast.Sub():
                        return x - y
                    case ast.Mult():
                        return x * y
                    case ast.FloorDiv():
                        return floordiv(x, y)
            case ast.Call(func=ast.Name(id="op"), args=[ast.Constant(value=str(text))]):
                return self.op(text)[0]
            case ast.Call(func=ast.Name(id=name), args=args):
                functions: dict[str, Any] = {
                    "unknown": self.unknowns.__getitem__,
                    "dim": dim,
                    "float": float,
                    "slice": slice,
                    "max": size_max,
                    "min": size_min,
                }
                if name in functions:
                    return functions[name](*[self.value(a) for a in args])
        raise ParseError(f"cannot read {ast.unparse(node)!r}")


def parse_graph(text: str, shared: Sequence[SharedVariable] = ()) -> Graph:
    """The graph that :func:`print_graph` printed as ``text``.

    Constants have exactly their values, unknown sizes are new ones, equal where the text says so. A shared variable is
    taken from ``shared`` by its name, or made anew, with zeros for a value. Raises
    :class:`~symgraph.errors.ParseError`, which names the line.
    """
    reader = _Reader(text, {v.name: v for v in shared if v.name is not None})
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            outputs = reader.line(line.strip())
        except ParseError as error:
            raise ParseError(f"line {number}: {error}: {line.strip()[:100]}") from None
        except (SymgraphError, TypeError, ValueError) as error:
            raise ParseError(f"line {number}: {error}: {line.strip()[:100]}") from error
        if outputs is not None:
            return Graph(reader.inputs, outputs)
    raise ParseError("the text does not end with a line that returns the outputs")


def _check_types(op: Op, inputs: Sequence[Variable], declared: Sequence[TensorType]) -> None:
    found = op.infer(*[v.type for v in inputs])
    inferred = found if isinstance(found, tuple) else (found,)
    for want, got in zip(inferred, declared, strict=False):
        same = want.dtype == got.dtype and want.ndim == got.ndim
        if not same or any(unify(a, b) is None for a, b in zip(want.shape, got.shape, strict=True)):
            raise ParseError(f"{op.name} makes {want}, but the text says {got}")
    if len(inferred) != len(declared):
        raise ParseError(f"{op.name} has {len(inferred)} outputs, but the text says {len(declared)}")


def _split_comment(text: str) -> tuple[str, source.Sources]:
    """The text before ``#``, and the source lines after it."""
    bare = re.sub(_STRING, lambda m: "_" * len(m.group()), text)
    at = bare.find("#")
    if at < 0:
        return text, frozenset()
    lines = [part.strip().rpartition(":") for part in text[at + 1 :].split(",")]
    found = frozenset(source.Line(file, int(number)) for file, _, number in lines if number.isdigit())
    return text[:at].rstrip(), found


def _closing(text: str, start: int) -> int:
    """The position of the bracket that closes the one at ``start``."""
    bare = re.sub(_STRING, lambda m: "_" * len(m.group()), text)
    depth = 0
    for k in range(start, len(bare)):
        depth += (bare[k] in "[{(") - (bare[k] in "]})")
        if depth == 0:
            return k
    raise ParseError(f"{text[start]} is not closed")


def _read_array(text: str, type: TensorType) -> NDArray[Any]:
    shape = tuple(int(s) for s in type.shape)
    if text.startswith("data "):
        flat = np.frombuffer(zlib.decompress(base64.b64decode(text[5:])), type.dtype).copy()
    else:
        flat = np.array([_read_scalar(word, type.dtype) for word in re.findall(r"[^\s\[\],]+", text)], type.dtype)
    if flat.size != np.prod(shape, dtype=int):
        raise ParseError(f"{flat.size} elements do not fill {type}")
    out = flat.reshape(shape)
    out.flags.writeable = False
    return out


def _read_scalar(word: str, dtype: np.dtype[Any]) -> Any:
    if word.startswith("nan:"):
        raw = bytes.fromhex(word[4:])
        return np.frombuffer(raw[::-1] if sys.byteorder == "little" else raw, dtype)[0]
    if dtype.kind == "b":
        return {"True": True, "False": False}[word]
    return dtype.type(word)


# -- for reading ------------------------------------------------------------------------------------------------------


@overload
def debugprint(
    v: Variable | Sequence[Variable], file: Literal["str"], depth: int = ..., sources: bool = ...
) -> str: ...
@overload
def debugprint(
    v: Variable | Sequence[Variable], file: IO[str] | None = ..., depth: int = ..., sources: bool = ...
) -> None: ...
def debugprint(
    v: Variable | Sequence[Variable],
    file: IO[str] | Literal["str"] | None = None,
    depth: int = 60,
    sources: bool = True,
) -> str | None:
    """Print how a variable is computed, as a tree with the variable at its root.

    A node that is used more than once has a number, is shown where it is met first, and is referred to afterwards.

    Args:
        v: the variable or variables.
        file: where to print, standard output by default; ``"str"`` returns the text.
        depth: levels below the root that are shown.
        sources: whether the lines of the user's code are shown.
    """
    roots = [v] if isinstance(v, Variable) else list(v)
    graph = Graph((), roots)
    uses: dict[Apply, int] = {}
    for x in [x for node in graph.nodes for x in node.inputs] + roots:
        if x.owner is not None:
            uses[x.owner] = uses.get(x.owner, 0) + 1
    printer = _Printer(False, False)
    numbers: dict[Apply, int] = {}
    lines: list[str] = []
    stack: list[tuple[Variable, str, str, int]] = [(x, "", "", 0) for x in reversed(roots)]
    while stack:
        x, first, rest, level = stack.pop()
        node = x.owner
        text = _describe(x, printer)
        if node is None:
            lines.append(first + text)
            continue
        if node in numbers:
            lines.append(f"{first}{text} -> [{numbers[node]}]")
            continue
        if uses[node] > 1:
            numbers[node] = len(numbers) + 1
            text += f" [{numbers[node]}]"
        if sources and node.sources:
            text += f"   {source.show(node.sources)}"
        lines.append(first + text)
        if node.inputs and level == depth:
            lines.append(f"{rest}└─ ...")
            continue
        last = len(node.inputs) - 1
        for k in range(last, -1, -1):
            branch, below = ("└─ ", "   ") if k == last else ("├─ ", "│  ")
            stack.append((node.inputs[k], rest + branch, rest + below, level + 1))
    text = "\n".join(lines)
    if file == "str":
        return text
    print(text, file=file)
    return None


def _describe(v: Variable, printer: _Printer) -> str:
    name = f"{v.name} = " if v.name and v.owner else ""
    if v.owner is not None:
        which = f".{v.index}" if len(v.owner.outputs) > 1 else ""
        return f"{name}{printer.op(v.owner.op)}{which}: {printer.type(v.type)}"
    if isinstance(v, Constant):
        return f"{v.name or printer.array(v.data)}: {printer.type(v.type)}"
    kind = "shared " if isinstance(v, SharedVariable) else ""
    return f"{kind}{v.name or 'input'}: {printer.type(v.type)}"
