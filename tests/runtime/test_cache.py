"""The kernel cache: what it reuses, what it costs, and that nothing on disk can hurt it."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from symgraph.runtime import cache as cache_module
from symgraph.runtime.cache import KernelCache, default_directory

SOURCE = """
def double(args, lo, hi):
    x = pointer_float64(args[0])
    for i in vector_range(lo, hi):
        x[i] = x[i] + x[i]
    return 0
"""


def check(address: int) -> None:
    x = np.arange(11.0)
    args = np.array([x.ctypes.data])
    native = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(address)
    assert native(args.ctypes.data, 0, 11) == 0
    np.testing.assert_array_equal(x, 2.0 * np.arange(11))


def numbered(number: int) -> tuple[str, str]:
    return f"def k{number}(args, lo, hi):\n    return {number}\n", f"k{number}"


def entries(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.kernel"))


def test_second_call_is_answered_from_memory(tmp_path: Path) -> None:
    cache = KernelCache(tmp_path)
    first = cache.get(SOURCE, ["double"])
    assert cache.get(SOURCE, ["double"]) == first
    assert cache.compiled == 1
    check(first["double"])


def test_second_cache_reads_from_disk(tmp_path: Path) -> None:
    KernelCache(tmp_path).get(SOURCE, ["double"])
    cache = KernelCache(tmp_path)
    check(cache.get(SOURCE, ["double"])["double"])
    assert cache.compiled == 0


def test_many_kernels_have_an_entry_each(tmp_path: Path) -> None:
    kernels = [numbered(k) for k in range(3)]
    cache = KernelCache(tmp_path)
    addresses = cache.get_many([*kernels, kernels[0]])
    assert addresses[3] == addresses[0]
    assert len(set(addresses)) == 3
    assert len(entries(tmp_path)) == 3
    again = KernelCache(tmp_path)
    again.get_many([numbered(1), numbered(7)])
    assert again.compiled == 1


def test_source_name_and_fingerprint_are_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = numbered(1)[0] + numbered(2)[0]
    KernelCache(tmp_path).get(both, ["k1"])
    KernelCache(tmp_path).get(both, ["k2"])
    KernelCache(tmp_path).get(both + "\n", ["k1"])
    assert len(entries(tmp_path)) == 3
    monkeypatch.setattr(cache_module, "fingerprint", lambda: "another machine")
    cache = KernelCache(tmp_path)
    cache.get(both, ["k1"])
    assert cache.compiled == 1
    assert len(entries(tmp_path)) == 4


@pytest.mark.parametrize("damage", ["empty", "truncated", "flipped", "longer", "text", "foreign", "directory"])
def test_damaged_entry_is_compiled_anew(tmp_path: Path, damage: str) -> None:
    KernelCache(tmp_path).get_many([numbered(1), numbered(2)])
    one, other = entries(tmp_path)
    content = one.read_bytes()
    if damage == "directory":
        for path in (one, other):
            path.unlink()
            path.mkdir()
    elif damage == "foreign":  # entries exchanged: each is whole, and not the one that is asked for
        exchanged = other.read_bytes()
        other.write_bytes(content)
        one.write_bytes(exchanged)
    else:
        for path in (one, other):
            content = path.read_bytes()
            half = len(content) // 2
            path.write_bytes(
                {
                    "empty": b"",
                    "truncated": content[:half],
                    "flipped": content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :],
                    "longer": content + b"\0",
                    "text": b"nothing of the kind\n" * 100,
                }[damage]
            )
    cache = KernelCache(tmp_path)
    addresses = cache.get_many([numbered(1), numbered(2)])
    for value, address in enumerate(addresses, 1):
        native = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(address)
        assert native(0, 0, 0) == value
    assert cache.compiled == 2
    if damage != "directory":
        repaired = KernelCache(tmp_path)
        repaired.get_many([numbered(1), numbered(2)])
        assert repaired.compiled == 0
    assert not list(tmp_path.glob("*.tmp"))


UNLINKABLE = """
import sys
from pathlib import Path
from symgraph.runtime.cache import KernelCache, envelope
kernel = "def k(args, lo, hi):\\n    return 5\\n", ("k",)
cache = KernelCache(Path(sys.argv[1]))
path, key = cache._path(*kernel)
cache._write(path, envelope(key, b"not object code"))
assert cache.get(*kernel)["k"]
print(cache.compiled)
"""


def test_entry_that_does_not_link_is_compiled_anew(tmp_path: Path) -> None:
    command = [sys.executable, "-c", UNLINKABLE, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run(command, env=environment, capture_output=True, text=True).stdout.split() == ["1"]


def test_directory_that_cannot_be_written_costs_nothing_but_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = KernelCache(tmp_path / "file" / "kernels")  # permissions would not stop a superuser
    check(cache.get(SOURCE, ["double"])["double"])


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="permissions do not bind this user")
def test_read_only_directory(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    check(KernelCache(tmp_path).get(SOURCE, ["double"])["double"])
    assert entries(tmp_path) == []


def test_size_is_bounded_and_the_oldest_go(tmp_path: Path) -> None:
    probe = KernelCache(tmp_path)
    probe.get_many([numbered(0)])
    size = entries(tmp_path)[0].stat().st_size
    KernelCache(tmp_path).get_many([numbered(k) for k in range(1, 6)])
    for age, path in enumerate(entries(tmp_path)):
        os.utime(path, (1000 + age, 1000 + age))
    used = KernelCache(tmp_path)
    used.get_many([numbered(3)])  # becomes the newest
    KernelCache(tmp_path, limit=int(2.5 * size)).get_many([numbered(9)])
    survivors = KernelCache(tmp_path)
    survivors.get_many([numbered(3), numbered(9)])
    assert survivors.compiled == 0
    assert sum(path.stat().st_size for path in entries(tmp_path)) <= 3.5 * size


def test_threads_share_one_compilation(tmp_path: Path) -> None:
    cache = KernelCache(tmp_path)
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(cache.get(SOURCE, ["double"])["double"])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert cache.compiled == 1


def test_fingerprint_names_versions_machine_and_vocabulary() -> None:
    text = cache_module.fingerprint()
    for part in (
        "numba/_version.py ",
        "llvmlite/_version.py ",
        "memory.py ",
        "operators.py ",
        "scalar.py ",
        "numba_target.py ",
    ):
        assert part in text


def test_no_disk_cache_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYMGRAPH_CACHE_DIR", "")
    assert default_directory() is None
    check(KernelCache().get(SOURCE, ["double"])["double"])


def test_directory_is_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYMGRAPH_CACHE_DIR", str(tmp_path))
    KernelCache().get(SOURCE, ["double"])
    assert len(entries(tmp_path / "kernels")) == 1
    monkeypatch.delenv("SYMGRAPH_CACHE_DIR")
    default = default_directory()
    assert default is not None
    assert "symgraph" in str(default)


CHILD = """
import sys
from symgraph.runtime.cache import kernel_cache
cache = kernel_cache()
cache.get_many([(f"def k{k}(args, lo, hi):\\n    return {k}\\n", f"k{k}") for k in range(4)])
print(cache.compiled, "numba" in sys.modules)
"""


def child(directory: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "SYMGRAPH_CACHE_DIR": str(directory), "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen([sys.executable, "-c", CHILD], env=environment, stdout=subprocess.PIPE, text=True)


def test_second_process_compiles_nothing_and_imports_no_numba(tmp_path: Path) -> None:
    assert child(tmp_path).communicate()[0].split() == ["4", "True"]
    assert child(tmp_path).communicate()[0].split() == ["0", "False"]


def test_concurrent_processes_end_with_whole_entries(tmp_path: Path) -> None:
    running = [child(tmp_path) for _ in range(3)]
    assert all(process.communicate()[0] and process.returncode == 0 for process in running)
    assert len(entries(tmp_path / "kernels")) == 4
    assert not list((tmp_path / "kernels").glob("*.tmp"))
    assert child(tmp_path).communicate()[0].split() == ["0", "False"]
