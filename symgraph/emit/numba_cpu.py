"""Compile kernels for the host's CPU: Python source in, object code out.

::

    compile_kernels(source: str, names: Iterable[str]) -> bytes     object code that defines each name
    llvm_ir(source: str, name: str, optimized=False) -> str         LLVM assembly, before or after optimization
    assembly(source: str, name: str) -> str                         the host's assembly
    vocabulary() -> Mapping[str, object]                            the names kernels may use

A source is a module's text; each kernel in it is ``def name(args, lo, hi)`` returning an int64. Floating point is
IEEE strict: no fast-math flag, no contraction, but for what the vocabulary's names say (``add_reassoc``). Raises
:class:`KernelError` for a source that does not compile. Thread-safe; compilations run one at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from types import FunctionType, MappingProxyType
from typing import Any

import llvmlite.binding as llvm
from numba.core.compiler_lock import global_compiler_lock
from numba.core.errors import NumbaError

from symgraph.emit.numba_target import Target
from symgraph.errors import SymgraphError
from symgraph_kernels.cpu.memory import MEMORY_VOCABULARY
from symgraph_kernels.cpu.operators import vector_range


class KernelError(SymgraphError, RuntimeError):
    """The source of a kernel does not compile: a defect of the compiler or of a kernel written by hand."""


@cache
def vocabulary() -> Mapping[str, Any]:
    """Return the names that kernels may use."""
    from symgraph_kernels.cpu.scalar import SCALARS

    return MappingProxyType({"range": range, "vector_range": vector_range, **MEMORY_VOCABULARY, **SCALARS})


class _Machine:
    """LLVM's view of the host, and the lean Numba target."""

    def __init__(self) -> None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        features = llvm.get_host_cpu_features()
        self.triple = llvm.get_process_triple()
        self.machine = llvm.Target.from_triple(self.triple).create_target_machine(
            cpu=llvm.get_host_cpu_name(), features=features.flatten(), opt=3, reloc="pic", codemodel="small"
        )
        self.data_layout = str(self.machine.target_data)
        self.attributes = ["nounwind"]
        if features.get("avx512f"):
            # LLVM prefers 256 bits on some hosts; vector math gains by 512.
            self.attributes.append('"prefer-vector-width"="512"')
        self.target = Target(vocabulary())

    def optimize(self, module: Any) -> None:
        options = llvm.create_pipeline_tuning_options(speed_level=3)
        options.loop_vectorization = options.slp_vectorization = options.loop_interleaving = options.loop_unrolling = (
            True
        )
        builder = llvm.create_pass_builder(self.machine, options)
        builder.getModulePassManager().run(module, builder)


@cache
def _machine() -> _Machine:
    return _Machine()


def _module_text(source: str, names: Iterable[str]) -> str:
    namespace: dict[str, Any] = dict(vocabulary())
    try:
        exec(compile(source, "<kernels>", "exec"), namespace)
        functions: list[FunctionType] = [namespace[name] for name in names]
        machine = _machine()
        return machine.target.assembly(functions, machine.triple, machine.data_layout, machine.attributes)
    except (NumbaError, KeyError, SyntaxError, NameError) as error:
        raise KernelError(f"{error}\nin the source\n{source}") from error


def _optimized(source: str, names: Iterable[str]) -> Any:
    # A context of its own: LLVM's global one keeps every type and constant it has ever seen.
    module = llvm.parse_assembly(_module_text(source, names), llvm.create_context())
    _machine().optimize(module)
    return module


def compile_kernels(source: str, names: Iterable[str]) -> bytes:
    """Return object code for the host that defines each of ``names`` with the kernel ABI."""
    with global_compiler_lock:
        code: bytes = _machine().machine.emit_object(_optimized(source, names))
    return code


def llvm_ir(source: str, name: str, optimized: bool = False) -> str:
    """Return a kernel's LLVM assembly."""
    with global_compiler_lock:
        return str(_optimized(source, [name])) if optimized else _module_text(source, [name])


def assembly(source: str, name: str) -> str:
    """Return a kernel's assembly for the host."""
    with global_compiler_lock:
        text: str = _machine().machine.emit_assembly(_optimized(source, [name]))
    return text
