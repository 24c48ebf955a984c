"""Object code: emitted from LLVM IR, kept on disk, linked into this process.

Shared by the native runtime, the BLAS trampolines and the kernel cache. Nothing here knows what the code does.

    data = emit_object(ir_text)                        # LLVM IR -> optimized machine code for this CPU
    addresses = load_object(data, ("f", "g"))          # link it here; {"f": 140..., "g": 140...}
    data = cached_object(directory, "native", key, make)   # read from disk, or make() and write
    addresses = load_cached(directory, "native", key, make_ir, ("f",))     # all of it

Linked code stays for the life of the process: function pointers to it are handed out freely, and nobody counts them.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm

__all__ = ["cached_object", "emit_object", "load_cached", "load_object", "target_key"]

_MAGIC = b"symgraph object 1\n"
_lock = threading.Lock()
_numbers = itertools.count()
_loaded: list[Any] = []  # trackers: dropping one would unload its code


@cache
def _initialize() -> None:
    try:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        llvm.initialize_native_asmparser()  # inline assembly (the spin hint)
    except RuntimeError:  # several entry points are deprecated no-ops in some releases of llvmlite
        if llvm.llvm_version_info[0] < 20:
            raise


@cache
def _host() -> tuple[str, str, str]:
    """Triple, CPU name and CPU features of this machine."""
    return llvm.get_process_triple(), llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()


def target_key() -> str:
    """What object code depends on beside its source: the compiler's version and the machine."""
    return "\n".join((llvmlite.__version__, *map(str, llvm.llvm_version_info), *_host()))


def emit_object(ir_text: str, *, cpu: str | None = None, features: str | None = None, opt: int = 3) -> bytes:
    """Object code of a module given as LLVM IR text.

    `cpu` and `features` are LLVM's names; None means this machine's. `opt` is LLVM's level, 0 to 3; 0 still brings
    variables into registers, which is all that control code gains from, and takes a quarter of the time of 3.
    Raises RuntimeError when the text does not parse or verify.
    """
    _initialize()
    triple, host_cpu, host_features = _host()
    module = llvm.parse_assembly(ir_text)
    module.triple = triple
    machine = llvm.Target.from_triple(triple).create_target_machine(
        cpu=host_cpu if cpu is None else cpu,
        features=host_features if features is None else features,
        opt=max(opt, 1),
        reloc="pic",
        codemodel="default",
        jit=True,
    )
    module.data_layout = str(machine.target_data)
    module.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=max(opt, 1))
    options.loop_vectorization = opt > 1
    options.slp_vectorization = opt > 1
    builder = llvm.create_pass_builder(machine, options)
    if opt:
        passes = builder.getModulePassManager()
    else:
        passes = llvm.create_new_module_pass_manager()
        passes.add_sroa_pass()
        passes.add_instruction_combine_pass()
        passes.add_simplify_cfg_pass()
    passes.run(module, builder)
    return bytes(machine.emit_object(module))


@cache
def _engine() -> Any:
    _initialize()
    # JITLink places all sections of an object together; the older linker may put them out of each other's reach.
    return llvm.create_lljit_compiler(use_jit_link=sys.platform != "win32")


def load_object(data: bytes, names: Iterable[str], externals: Mapping[str, int] | None = None) -> dict[str, int]:
    """Link object code into this process and return the addresses of `names`.

    `externals` gives addresses for symbols that the process does not export; all others (libc, libm) are looked up
    in the process. The code is never unloaded. Raises RuntimeError when a symbol is missing or the data are no object.
    """
    names = tuple(names)
    library = llvm.JITLibraryBuilder().add_object_img(data).add_current_process()
    for name, address in (externals or {}).items():
        library.import_symbol(name, address)
    for name in names:
        library.export_symbol(name)
    with _lock:
        tracker = library.link(_engine(), f"symgraph_{next(_numbers)}")  # a name is used up even by a failure
        _loaded.append(tracker)
    return {name: tracker[name] for name in names}


def cached_object(directory: str | os.PathLike[str] | None, stem: str, key: str, make: Callable[[], bytes]) -> bytes:
    """The object code for `key`: read from `directory`, else made and written there.

    A missing, broken or foreign file is made anew; a directory that cannot be written costs time and nothing else.
    `directory` None keeps nothing.
    """
    if directory is None:
        return make()
    digest = hashlib.sha256(f"{target_key()}\n{key}".encode()).hexdigest()
    path = Path(directory) / f"{stem}-{digest[:32]}.o"
    header = _MAGIC + digest.encode() + b"\n"
    try:
        content = path.read_bytes()
    except OSError:
        content = b""
    start = len(header) + 32
    if content.startswith(header) and hashlib.sha256(content[start:]).digest() == content[len(header) : start]:
        return content[start:]
    data = make()
    _write(path, header + hashlib.sha256(data).digest() + data)
    return data


def _write(path: Path, content: bytes) -> None:
    """Write a file so that no reader ever sees a part of it; failure is no error."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=path.name, suffix=".tmp", dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except OSError:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def load_cached(
    directory: str | os.PathLike[str] | None,
    stem: str,
    key: str,
    make_ir: Callable[[], str],
    names: Iterable[str],
    opt: int = 3,
) -> dict[str, int]:
    """Addresses of `names` in the module whose IR text `make_ir` gives, which is made only if no object is on disk."""
    return load_object(cached_object(directory, stem, key, lambda: emit_object(make_ir(), opt=opt)), names)
