"""A lean Numba target: kernels and nothing else.

Numba's own CPU target installs thousands of typings (arrays, strings, containers, ...) before it compiles its first
function, tries many of them at every operator, and wraps the result for Python. Kernels need none of that. Here
Numba's front end (bytecode to Numba IR) and type inference run with a table of some eighty callables, and the typed
IR is lowered straight to one LLVM function with the C signature ``int64 (int64 *args, int64 lo, int64 hi)``.

The loops of ``vector_range`` carry ``llvm.loop.parallel_accesses``: the accesses in them, tagged with the loop's
``llvm.access.group``, have no dependence between iterations, so the vectorizer needs neither alias analysis nor
run-time checks (LLVM Language Reference, "llvm.loop.parallel_accesses").
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Iterable, Mapping
from types import FunctionType
from typing import Any

from llvmlite import ir as llvm_ir
from numba.core import bytecode, errors, interpreter, ir, typeinfer, types
from numba.core.analysis import compute_cfg_from_blocks
from numba.core.base import BaseContext
from numba.core.target_extension import target_registry
from numba.core.typing.context import BaseContext as BaseTypingContext
from numba.extending import models, register_model

from symgraph_kernels.cpu.memory import I64, POINTERS, Definition
from symgraph_kernels.cpu.operators import OPERATORS


class KernelCallable(types.Callable):
    """The Numba type of one callable of the vocabulary: a :data:`Definition` and the lowerings it has given."""

    def __init__(self, name: str, definition: Definition) -> None:
        self.definition = definition
        self.found: dict[Any, Any] = {}
        self.lowerings: dict[Any, Any] = {}
        super().__init__(name)

    @property
    def key(self) -> Any:
        return self.name, id(self.definition)

    def get_call_type(self, context: Any, args: Any, kws: Any) -> Any:
        """Return the signature for the argument types, None if there is none."""
        if kws:
            return None
        key = tuple(map(types.unliteral, args))
        if key not in self.found:
            try:
                result = self.definition(context, *key)
            except TypeError:
                if _takes(self.definition, 1 + len(key)):
                    raise
                return None
            if result is None:
                return None
            signature, lowering = result
            self.lowerings[signature.args] = lowering
            self.found[key] = signature
        return self.found[key]

    def get_call_signatures(self) -> tuple[list[Any], bool]:
        """Return no list of signatures: they are computed."""
        return [], True

    def get_impl_key(self, sig: Any) -> Any:
        """Return the lowering for a signature that :meth:`get_call_type` returned."""
        return self.lowerings[sig.args]


def _takes(function: Any, count: int) -> bool:
    """Return whether a function can be called with ``count`` positional arguments."""
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        return False
    return True


@register_model(KernelCallable)
class KernelCallableModel(models.OpaqueModel):
    """Callables have no value at run time."""


class TypingContext(BaseTypingContext):
    """Types constants and the callables of the vocabulary, and refuses everything else."""

    def init(self) -> None:
        self.callables: dict[Any, KernelCallable] = {}
        for key, definition in OPERATORS.items():
            self.callables[key] = KernelCallable(getattr(key, "__name__", str(key)), definition)

    def refresh(self) -> None:
        """Install nothing: the table is complete from the start."""

    def add(self, vocabulary: Mapping[str, Any]) -> None:
        """Make the intrinsics of a vocabulary callable."""
        for name, value in vocabulary.items():
            definition = getattr(value, "__wrapped__", None)
            if value not in self.callables and definition is not None:
                self.callables[value] = KernelCallable(name, definition)

    def resolve_value_type(self, val: Any) -> Any:
        """Return the Numba type of a global or a constant."""
        kind = type(val)
        if kind is bool:
            return types.boolean
        if kind is int and -(2**63) <= val < 2**63:
            return types.int64
        if kind is float:
            return types.float64
        try:
            return self.callables[val]
        except (KeyError, TypeError):
            raise ValueError(f"{val!r} is not part of the vocabulary of kernels") from None

    def resolve_function_type(self, func: Any, args: Any, kws: Any) -> Any:
        """Return the signature of a call."""
        callee = func if isinstance(func, KernelCallable) else self.callables.get(func)
        return None if callee is None else callee.get_call_type(self, args, kws)


class Context(BaseContext):
    """What lowerings see as Numba's target context: value types and constants."""

    def refresh(self) -> None:
        """Install nothing: kernels use no registry."""

    def get_constant_generic(self, builder: Any, ty: Any, val: Any) -> Any:
        """Return a scalar constant."""
        return llvm_ir.Constant(self.get_value_type(ty), val)

    def cast(self, builder: Any, val: Any, fromty: Any, toty: Any) -> Any:
        """Return ``val``: nothing converts implicitly but a literal, which is its type's value already."""
        if types.unliteral(fromty) != types.unliteral(toty):
            raise errors.LoweringError(f"no implicit conversion of {fromty} to {toty}")
        return val


ARGUMENTS = (POINTERS["int64"], types.int64, types.int64)
FUNCTION_TYPE = llvm_ir.FunctionType(I64, [I64.as_pointer(), I64, I64])


class MetadataReference:
    """A numbered metadata node whose text is appended to the module."""

    def __init__(self, number: int) -> None:
        self.number = number

    def get_reference(self) -> str:
        """Return the node's name in LLVM assembly."""
        return f"!{self.number}"


class Target:
    """Lowers kernels into LLVM assembly. Not thread-safe: callers hold Numba's compiler lock."""

    def __init__(self, vocabulary: Mapping[str, Any]) -> None:
        self.typing_context = TypingContext()
        self.typing_context.add(vocabulary)
        self.context = Context(self.typing_context, "cpu")

    def assembly(
        self, functions: Iterable[FunctionType], triple: str, data_layout: str, attributes: Iterable[str]
    ) -> str:
        """Return the text of one LLVM module with a C function for each Python function, under its own name."""
        module = llvm_ir.Module("kernels")
        module.triple, module.data_layout = triple, data_layout
        notes: list[str] = []
        for function in functions:
            _Lowering(self, module, function, notes).run(attributes)
        return f"{module}\n" + "\n".join(notes) + "\n"

    def infer(self, func_ir: Any) -> tuple[Any, Any]:
        """Return the type of each variable and the signature of each call of a kernel."""
        warnings = errors.WarningsFixer(errors.NumbaWarning)
        infer = typeinfer.TypeInferer(self.typing_context, func_ir, warnings)
        with (
            self.typing_context.callstack.register(target_registry["cpu"], infer, func_ir.func_id, ARGUMENTS),
            warnings,
        ):
            for index, (name, ty) in enumerate(zip(func_ir.arg_names, ARGUMENTS, strict=True)):
                infer.seed_argument(name, index, ty)
            infer.seed_return(types.int64)
            infer.build_constraint()
            infer.propagate()
            typemap, _, calltypes = infer.unify()
        return typemap, calltypes


class _Lowering:
    """One function on its way from bytecode to LLVM."""

    def __init__(self, target: Target, module: Any, function: FunctionType, notes: list[str]) -> None:
        func_id = bytecode.FunctionIdentity.from_function(function)
        func_ir = interpreter.Interpreter(func_id).interpret(bytecode.ByteCode(func_id))
        self.context, self.callables = target.context, target.typing_context.callables
        self.typemap, self.calltypes = target.infer(func_ir)
        self.arguments: list[str] = list(func_ir.arg_names)
        self.blocks: dict[int, Any] = dict(sorted(func_ir.blocks.items()))
        self.notes = notes
        self.function = llvm_ir.Function(module, FUNCTION_TYPE, name=function.__name__)
        self.values: dict[str, Any] = {}
        self.slots: dict[str, Any] = {}
        self.cfg = compute_cfg_from_blocks(self.blocks)

    def run(self, attributes: Iterable[str]) -> None:
        for attribute in attributes:
            # llvmlite's own `add` refuses attributes of the form "key"="value".
            set.add(self.function.attributes, attribute)
        entry = self.function.append_basic_block("entry")
        self.llvm_blocks = {offset: self.function.append_basic_block(f"B{offset}") for offset in self.blocks}
        self.builder = llvm_ir.IRBuilder(entry)
        self.make_slots()
        self.make_loops()
        entry_end = self.builder.block
        made = len(self.function.blocks)
        for offset, block in self.blocks.items():
            if offset in self.cfg.dead_nodes():
                self.builder.position_at_end(self.llvm_blocks[offset])
                self.builder.unreachable()
                continue
            self.builder.position_at_end(self.llvm_blocks[offset])
            for statement in block.body:
                self.statement(statement)
            emitted = [self.llvm_blocks[offset], *self.function.blocks[made:]]
            made = len(self.function.blocks)
            self.tag(offset, emitted)
        self.builder.position_at_end(entry_end)
        self.builder.branch(self.llvm_blocks[min(self.blocks)])

    # --- loops without dependences ---------------------------------------------------------------------------------

    def make_loops(self) -> None:
        """Make an access group for each vector loop, and a node for each loop with properties (by header)."""
        self.groups: dict[int, MetadataReference] = {}
        self.nodes: dict[int, MetadataReference] = {}
        loops = self.cfg.loops()
        for header in loops:
            block = self.blocks[header]
            while isinstance(block.body[0], ir.Jump):  # the jump over a long body is a block of its own
                block = self.blocks[block.body[0].target]
            iterators = block.find_exprs(op="iternext")
            if any(getattr(self.typemap[e.value.name], "vector", False) for e in iterators):
                self.groups[header] = self.note("distinct !{}")
        for header, loop in loops.items():
            inner = [other for other in loops if other in loop.body]
            properties = []
            if header in self.groups:
                groups = ", ".join(self.groups[other].get_reference() for other in inner if other in self.groups)
                properties.append(self.note(f'!{{!"llvm.loop.parallel_accesses", {groups}}}'))
            if len(inner) > 1:
                # Unrolling a loop around other loops multiplies the code, and the time to compile it, for nothing.
                properties.append(self.note('!{!"llvm.loop.unroll.disable"}'))
            if properties:
                listed = ", ".join(reference.get_reference() for reference in properties)
                self.nodes[header] = self.note(f"distinct !{{SELF, {listed}}}")

    def note(self, text: str) -> MetadataReference:
        """Add a metadata node to the module; SELF stands for the node's own name."""
        # Numbers of their own range: llvmlite counts its nodes from 0.
        reference = MetadataReference(1_000_000 + len(self.notes))
        name = reference.get_reference()
        self.notes.append(f"{name} = {text.replace('SELF', name)}")
        return reference

    def tag(self, offset: int, emitted: list[Any]) -> None:
        """Tag a block's accesses with the group of its innermost vector loop, a jump back with the loop's node."""
        headers = [loop.header for loop in self.cfg.in_loops(offset)]
        group = next((self.groups[header] for header in headers if header in self.groups), None)
        for block in emitted if group is not None else ():
            for instruction in block.instructions:
                if instruction.opname in ("load", "store"):
                    instruction.set_metadata("llvm.access.group", group)
        for successor, _ in self.cfg.successors(offset):
            if successor in headers and successor in self.nodes:
                emitted[-1].terminator.set_metadata("llvm.loop", self.nodes[successor])

    # --- variables -------------------------------------------------------------------------------------------------

    def make_slots(self) -> None:
        """Give a stack slot to each variable that is not one value: assigned twice, or before it is known to be set."""
        assigned: dict[str, int] = {}
        slotted: set[str] = set()
        for offset, block in self.blocks.items():
            dominators = self.cfg.dominators().get(offset, ())
            for statement in block.body:
                for used in _uses(statement):
                    if assigned.get(used.name) not in dominators:
                        slotted.add(used.name)
                if isinstance(statement, ir.Assign):
                    if statement.target.name in assigned:
                        slotted.add(statement.target.name)
                    assigned[statement.target.name] = offset
        for name in sorted(slotted & assigned.keys()):
            self.slots[name] = self.builder.alloca(self.context.get_value_type(self.typemap[name]), name=name)

    def get(self, variable: Any) -> Any:
        slot = self.slots.get(variable.name)
        if slot is not None:
            return self.builder.load(slot, typ=self.context.get_value_type(self.typemap[variable.name]))
        return self.values[variable.name]

    def set(self, name: str, value: Any) -> None:
        if name in self.slots:
            self.builder.store(value, self.slots[name])
        else:
            self.values[name] = value

    # --- statements and expressions --------------------------------------------------------------------------------

    def statement(self, statement: Any) -> None:
        if isinstance(statement, ir.Assign):
            self.set(statement.target.name, self.value(statement))
        elif isinstance(statement, ir.SetItem):
            self.call(
                self.callables[operator.setitem],
                self.calltypes[statement],
                [statement.target, statement.index, statement.value],
            )
        elif isinstance(statement, ir.Jump):
            self.builder.branch(self.llvm_blocks[statement.target])
        elif isinstance(statement, ir.Branch):
            condition = self.get(statement.cond)
            self.builder.cbranch(condition, self.llvm_blocks[statement.truebr], self.llvm_blocks[statement.falsebr])
        elif isinstance(statement, ir.Return):
            self.builder.ret(self.get(statement.value))
        elif not isinstance(statement, (ir.Del, ir.PopBlock)):
            raise errors.UnsupportedError(f"not a statement of kernels: {statement}", loc=statement.loc)

    def value(self, assign: Any) -> Any:
        """Emit the right-hand side of an assignment."""
        value = assign.value
        if isinstance(value, ir.Var):
            return self.copy(value, assign.target)
        if isinstance(value, ir.Arg):
            return self.function.args[value.index]
        if isinstance(value, (ir.Const, ir.Global, ir.FreeVar)):
            ty = self.typemap[assign.target.name]
            return (
                None
                if isinstance(ty, types.Callable)
                else self.context.get_constant_generic(self.builder, ty, value.value)
            )
        if value.op == "cast":
            return self.copy(value.value, assign.target)
        return self.expression(value)

    def copy(self, source: Any, target: Any) -> Any:
        """Emit an assignment of one variable to another; the two must be of one type."""
        types_of = self.typemap[source.name], self.typemap[target.name]
        return self.context.cast(self.builder, self.get(source), *types_of)

    def call(self, callee: KernelCallable, signature: Any, operands: list[Any]) -> Any:
        values = [
            self.context.cast(self.builder, self.get(operand), self.typemap[operand.name], wanted)
            for operand, wanted in zip(operands, signature.args, strict=True)
        ]
        return callee.get_impl_key(signature)(self.context, self.builder, signature, values)

    def expression(self, value: Any) -> Any:
        operation = value.op
        if operation == "call":
            return self.call(self.typemap[value.func.name], self.calltypes[value], list(value.args))
        if operation in ("pair_first", "pair_second"):
            return self.builder.extract_value(self.get(value.value), int(operation == "pair_second"))
        if operation in ("binop", "inplace_binop"):
            callee, operands = value.fn, [value.lhs, value.rhs]
        elif operation == "unary":
            callee, operands = value.fn, [value.value]
        elif operation in ("getiter", "iternext"):
            callee, operands = operation, [value.value]
        elif operation == "getitem":
            callee, operands = operator.getitem, [value.value, value.index]
        else:
            raise errors.UnsupportedError(f"not an expression of kernels: {value}", loc=value.loc)
        return self.call(self.callables[callee], self.calltypes[value], operands)


def _uses(statement: Any) -> list[Any]:
    """Return the variables a statement reads."""
    if not isinstance(statement, ir.Assign):
        return list(statement.list_vars())
    value = statement.value
    return [value] if isinstance(value, ir.Var) else list(value.list_vars()) if isinstance(value, ir.Expr) else []
