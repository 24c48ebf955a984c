"""A user's Numba function as a step of a program: an adapter around it that takes the step's argument words.

Numba's own CPU target compiles it, since the function may use whatever Numba knows: arrays, calls of other functions,
random numbers. The operands come as read-only arrays, so that no step can write what belongs to others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numba
from numba import types
from numba.core.errors import NumbaError
from numba.extending import intrinsic
from numba.np import numpy_support

from symgraph import source
from symgraph.errors import HostError, RuleError
from symgraph.graph import Apply, Variable
from symgraph.ops.batched import Jitted

_KEPT = 256
_compiled: dict[Any, Any] = {}
_SIGNATURE = types.int64(types.CPointer(types.int64), types.int64, types.int64)


@intrinsic
def _pointer(typing: Any, address: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(types.voidptr))

    return types.voidptr(types.int64), generate


@intrinsic
def _read_only(typing: Any, array: Any) -> Any:
    frozen = types.Array(array.dtype, array.ndim, array.layout, readonly=True)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return args[0]  # the same struct; the caller owns no reference

    return frozen(array), generate


def compile_step(jitted: Jitted, node: Apply) -> tuple[int, Any]:
    """The address of the adapter's native code, and what keeps it alive.

    Raises :class:`~symgraph.errors.HostError` where Numba cannot compile the function for the operands' types, and
    :class:`~symgraph.errors.RuleError` where an elementwise one returns other types than stated; both name the op and
    the user's line.
    """
    text, names = _source(jitted, node)
    types_ = tuple((v.type.dtype.name, v.type.ndim) for v in (*node.inputs, *node.outputs))
    key = (jitted.function, types_, text, repr(jitted.params))
    if key not in _compiled:
        exec(compile(text, f"<adapter of {jitted.name}>", "exec"), names)
        try:
            if jitted.elementwise:
                _check_results(jitted, node)
            made = numba.cfunc(_SIGNATURE)(names["adapter"])
        except NumbaError as error:
            operands = ", ".join(str(v.type) for v in node.inputs)
            line = source.show(node.sources)
            raise HostError(f"{node.op}: Numba cannot compile it: {_cause(error)} :: {operands}   {line}") from error
        if len(_compiled) >= _KEPT:
            _compiled.pop(next(iter(_compiled)))  # programs that use it hold it
        _compiled[key] = made
    return int(_compiled[key].address), _compiled[key]


def _cause(error: NumbaError) -> str:
    """What Numba says, without the advice around it."""
    said = [s.strip() for s in str(error).splitlines() if s.strip() and not s.startswith(("Failed in", "During"))]
    return " ".join(said[:4]) or type(error).__name__


def _check_results(jitted: Jitted, node: Apply) -> None:
    operands = tuple(numpy_support.from_dtype(v.type.dtype) for v in node.inputs)
    function: Any = jitted.function
    *_, folded, _ = function.get_call_template(operands, {k: numba.typeof(v) for k, v in jitted.params})
    overload = function.overloads.get(tuple(folded))
    if overload is None:
        return
    got = overload.signature.return_type
    items = tuple(got) if isinstance(got, types.BaseTuple) else (got,)
    wanted = tuple(numpy_support.from_dtype(v.type.dtype) for v in node.outputs)
    if items != wanted:
        raise RuleError(
            f"{node.op}: its function returns {got}, its type rule says {', '.join(map(str, wanted))} :: "
            f"{', '.join(str(v.type) for v in node.inputs)}   {source.show(node.sources)}"
        )


def _source(jitted: Jitted, node: Apply) -> tuple[str, dict[str, Any]]:
    """The adapter as Python text, and the names that it uses."""
    tensors: Sequence[Variable] = (*node.inputs, *node.outputs)
    n = len(node.inputs)
    names: dict[str, Any] = {"carray": numba.carray, "pointer": _pointer, "read_only": _read_only}
    names["function"] = jitted.function
    names |= {f"dtype{k}": v.type.dtype for k, v in enumerate(tensors)}
    names |= {f"param_{name}": value for name, value in jitted.params}
    static = "".join(f", {name}=param_{name}" for name, _ in jitted.params)
    lines: list[str] = []
    body: list[str] = []
    if jitted.elementwise:
        # A loop from 0, whose index LLVM sees is not negative: else each access has a branch, and nothing vectorizes.
        for k, v in enumerate(tensors):
            address = f"words[{k}] + low * {v.type.dtype.itemsize}"
            lines.append(f"t{k} = carray(pointer({address}), (high - low,), dtype{k})")
        lines.append("for i in range(high - low):")
        results = ", ".join(f"t{k}[i]" for k in range(n, len(tensors)))
        body.append(f"{results} = function({', '.join(f't{k}[i]' for k in range(n))}{static})")
    else:
        word, sizes = len(tensors), []
        for v in tensors:
            sizes.append([f"words[{word + axis}]" for axis in range(v.type.ndim)])
            word += v.type.ndim
        levels = jitted.levels
        lines.append("for i in range(low, high):")
        body.append("rest = i")
        for j in reversed(range(len(levels))):  # the place of the element in each loop, of which the last runs fastest
            body.append(f"i{j} = rest % {sizes[n][j]}")
            body.append(f"rest = rest // {sizes[n][j]}")
        for k, v in enumerate(tensors):
            own = [j for j, flags in enumerate(levels) if k >= n or flags[k]]
            place = "0"
            for axis, j in enumerate(own):
                place = f"({place} * {sizes[k][axis]} + i{j})"
            inside = sizes[k][len(own) :]
            start = " * ".join([place, *inside, str(v.type.dtype.itemsize)])
            shape = f"({''.join(f'{s}, ' for s in inside)})"
            array = f"carray(pointer(words[{k}] + {start}), {shape}, dtype{k})"
            body.append(f"t{k} = {array}" if k >= n else f"t{k} = read_only({array}){'' if inside else '[()]'}")
        body.append(f"function({', '.join(f't{k}' for k in range(len(tensors)))}{static})")
    inner = [f"        {line}" for line in lines] + [f"            {line}" for line in body]
    text = [
        "def adapter(words, low, high):",
        "    try:",
        *inner,
        "    except Exception:",
        "        return 1",
        "    return 0",
    ]
    return "\n".join(text) + "\n", names
