"""Kernels by their source: compiled once per process, and once per machine with the disk cache.

::

    KernelCache(directory=None, limit=512 * 2**20)
        .get(source, names) -> dict[str, int]                   addresses of the kernels of one source
        .get_many([(source, name), ...]) -> list[int]           one address for each pair
        .compiled                                               how many kernels this cache has had compiled
    kernel_cache() -> KernelCache                               the process's own, in the user's cache directory

The entry of a source is the object code of all its names; one kernel per source gives the best reuse. The key hashes
the source with all that shapes its code: versions of Numba, llvmlite, LLVM and symgraph, the text of the vocabulary
and of the compile driver, the CPU and its features.

``directory`` is by default ``$SYMGRAPH_CACHE_DIR`` or the user's cache directory (platformdirs); an empty
``SYMGRAPH_CACHE_DIR`` means no disk cache. Entries are written to a temporary file and renamed, and carry their key
and a checksum: an entry that is broken, foreign, half written or not writable costs a compilation and is never an
error. ``limit`` bounds the bytes on disk; the entries used least recently go first.

A hit imports neither Numba nor the vocabulary. Safe under threads and concurrent processes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import threading
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from symgraph.runtime.interrupts import uninterrupted
from symgraph.runtime.objects import load_object, target_key
from symgraph.runtime.progress import note

__all__ = ["KernelCache", "default_directory", "kernel_cache"]

_MAGIC = b"symgraph kernel 1\n"
_DIGEST = hashlib.sha256().digest_size
_TRIM_EVERY = 64
"""Entries a process writes between two looks at the size of the directory."""


def default_directory() -> Path | None:
    """Return where kernels are kept on disk, None for nowhere."""
    named = os.environ.get("SYMGRAPH_CACHE_DIR")
    if named is not None:
        return Path(named) / "kernels" if named else None
    from platformdirs import user_cache_dir

    try:
        return Path(user_cache_dir("symgraph", appauthor=False)) / "kernels"
    except (OSError, RuntimeError):  # a user without a home
        return None


@cache
def fingerprint() -> str:
    """Return what a kernel's object code depends on beside its source."""
    parts = [target_key()]
    emit = Path(__file__).resolve().parent.parent / "emit"
    files = [emit / "numba_cpu.py", emit / "numba_target.py"]
    # Versions by the files that state them: importlib.metadata takes longer to import than all kernels to load.
    # find_spec of a top-level package imports nothing.
    for package in ("numba", "llvmlite"):
        spec = find_spec(package)
        files += [Path(location) / "_version.py" for location in spec.submodule_search_locations or ()] if spec else []
    spec = find_spec("symgraph_kernels")
    for location in spec.submodule_search_locations or () if spec is not None else ():
        files += sorted((Path(location) / "cpu").glob("*.py"))
    # The sources of the vocabulary and of the driver stand for symgraph's own version: more precise, also in a
    # checkout.
    for file in files:
        with contextlib.suppress(OSError):
            parts.append(f"{file.parent.name}/{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()}")
    return "\n".join(parts)


def envelope(key: bytes, code: bytes) -> bytes:
    """Return the content of an entry: what it is, whose it is, a checksum, the object code."""
    return _MAGIC + key + hashlib.sha256(key + code).digest() + code


class KernelCache:
    """Addresses of compiled kernels by their source, kept in memory and on disk."""

    def __init__(self, directory: Path | None = None, limit: int = 512 * 2**20) -> None:
        self.directory = default_directory() if directory is None else directory
        self.limit = limit
        self.compiled = 0
        self._addresses: dict[tuple[str, tuple[str, ...]], dict[str, int]] = {}
        self._lock = threading.Lock()
        self._written = 0

    def get(self, source: str, names: Iterable[str]) -> dict[str, int]:
        """Return the address of each kernel of ``source`` among ``names``."""
        wanted = tuple(names)
        found = self._addresses.get((source, wanted))
        if found is None:
            with self._lock:
                self._fill([(source, wanted)])
                found = self._addresses[source, wanted]
        return dict(found)

    def get_many(self, kernels: Sequence[tuple[str, str]]) -> list[int]:
        """Return the address of each kernel, given as its source and its name."""
        keys = [(source, (name,)) for source, name in kernels]
        if not all(key in self._addresses for key in keys):
            with self._lock:
                self._fill(keys)
        return [self._addresses[key][key[1][0]] for key in keys]

    def _fill(self, keys: Iterable[tuple[str, tuple[str, ...]]]) -> None:
        for k, key in enumerate(dict.fromkeys(keys), 1):
            if key not in self._addresses:
                note(f"kernel {k}")
                with uninterrupted():
                    self._addresses[key] = self._from_disk(*key) or self._compile(*key)

    def _path(self, source: str, names: tuple[str, ...]) -> tuple[Path, bytes] | None:
        if self.directory is None:
            return None
        digest = hashlib.sha256("\0".join((source, *names, self.fingerprint())).encode())
        return self.directory / f"{digest.hexdigest()}.kernel", digest.digest()

    def _from_disk(self, source: str, names: tuple[str, ...]) -> dict[str, int] | None:
        place = self._path(source, names)
        if place is None:
            return None
        path, key = place
        try:
            content = path.read_bytes()
            start = len(_MAGIC) + 2 * _DIGEST
            code = content[start:]
            if content != envelope(key, code):
                return None
            addresses = self.load(code, names)
        except (OSError, RuntimeError):
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # least recently used goes first
        return addresses

    def _compile(self, source: str, names: tuple[str, ...]) -> dict[str, int]:
        code = self.build(source, names)
        self.compiled += len(names)
        addresses = self.load(code, names)
        place = self._path(source, names)
        if place is not None:
            path, key = place
            self._write(path, envelope(key, code))
        return addresses

    def fingerprint(self) -> str:
        """Return what the code depends on beside its source."""
        return fingerprint()

    def build(self, source: str, names: tuple[str, ...]) -> bytes:
        """Compile the kernels of a source."""
        from symgraph.emit.numba_cpu import compile_kernels

        return compile_kernels(source, names)

    def load(self, code: bytes, names: tuple[str, ...]) -> dict[str, int]:
        """Return the address of each kernel, loaded into this process."""
        return load_object(code, names)

    def _write(self, path: Path, content: bytes) -> None:
        """Write an entry so that no reader sees a part of it; a directory that refuses is no error."""
        temporary = None
        try:
            # Code that runs unasked: a directory made here is its owner's alone.
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._written % _TRIM_EVERY == 0:
                self._trim(path.parent)
            self._written += 1
            descriptor, temporary = tempfile.mkstemp(prefix=path.stem[:16], suffix=".tmp", dir=path.parent)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            os.replace(temporary, path)
        except OSError:
            if temporary is not None:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)

    def _trim(self, directory: Path) -> None:
        """Remove the entries used least recently until nine tenths of the limit are left."""
        entries = []
        with os.scandir(directory) as scan:
            for entry in scan:
                if entry.name.endswith((".kernel", ".tmp")):
                    with contextlib.suppress(OSError):  # another process has removed it
                        status = entry.stat()
                        entries.append((status.st_mtime_ns, status.st_size, entry.path))
        total = sum(size for _, size, _ in entries)
        if total <= self.limit:
            return
        for _, size, path in sorted(entries):
            if total <= 0.9 * self.limit:
                break
            with contextlib.suppress(OSError):
                os.unlink(path)
            total -= size


@cache
def kernel_cache() -> KernelCache:
    """Return the process's kernel cache."""
    return KernelCache()
