"""Object code: emission, linking, and files that may be broken, foreign or concurrent."""

from __future__ import annotations

import ctypes
import os
import threading
from pathlib import Path

import pytest

from symgraph.runtime.objects import cached_object, emit_object, load_cached, load_object

TWICE = "define double @twice(double %x) {\n %y = fadd double %x, %x\n ret double %y\n}\n"
OUTSIDE = """
declare double @cos(double)
declare i64 @of_ours(i64)
define double @cosine(double %x) {
  %y = call double @cos(double %x)
  ret double %y
}
define i64 @ask(i64 %x) {
  %y = call i64 @of_ours(i64 %x)
  ret i64 %y
}
"""
DOUBLE = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)
WORD = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)


@pytest.mark.parametrize("opt", [0, 1, 2, 3])
def test_emit_and_load(opt: int) -> None:
    assert DOUBLE(load_object(emit_object(TWICE, opt=opt), ["twice"])["twice"])(1.25) == 2.5


def test_the_same_name_may_be_loaded_often() -> None:
    data = emit_object(TWICE)
    addresses = {load_object(data, ["twice"])["twice"] for _ in range(5)}
    assert len(addresses) == 5
    assert all(DOUBLE(address)(2.0) == 4.0 for address in addresses)


def test_symbols_of_the_process_and_symbols_given() -> None:
    given = WORD(lambda x: x + 1)
    externals = {"of_ours": ctypes.cast(given, ctypes.c_void_p).value or 0}
    addresses = load_object(emit_object(OUTSIDE), ["cosine", "ask"], externals)
    assert DOUBLE(addresses["cosine"])(0.0) == 1.0
    assert WORD(addresses["ask"])(41) == 42


def test_what_is_no_ir_or_no_object_is_refused() -> None:
    with pytest.raises(RuntimeError):
        emit_object("define nonsense")
    with pytest.raises(RuntimeError):
        load_object(b"no object", ["f"])


def test_code_for_a_lesser_machine() -> None:
    assert DOUBLE(load_object(emit_object(TWICE, cpu="", features=""), ["twice"])["twice"])(1.0) == 2.0


class Counter:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> bytes:
        self.calls += 1
        return b"content of the object"


def test_the_second_time_comes_from_disk(tmp_path: Path) -> None:
    make = Counter()
    folder = tmp_path / "not" / "yet"
    for _ in range(3):
        assert cached_object(folder, "stem", "key", make) == make()[:0] + b"content of the object"
    assert make.calls == 4  # three of them this test's own
    assert len(list(folder.iterdir())) == 1
    cached_object(folder, "stem", "another key", make)
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("damage", [b"", b"short", None])
def test_a_damaged_file_is_made_anew(tmp_path: Path, damage: bytes | None) -> None:
    make = Counter()
    cached_object(tmp_path, "stem", "key", make)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"?" if damage is None else damage)
    assert cached_object(tmp_path, "stem", "key", make) == b"content of the object"
    assert make.calls == 2
    assert path.read_bytes() == whole


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    make = Counter()
    (tmp_path / "file").write_text("in the way")
    assert cached_object(tmp_path / "file", "stem", "key", make) == b"content of the object"
    assert cached_object(None, "stem", "key", make) == b"content of the object"
    assert make.calls == 2


def test_threads_may_load_the_same_object_at_once(tmp_path: Path) -> None:
    results: list[float] = []

    def work() -> None:
        address = load_cached(tmp_path, "twice", "key", lambda: TWICE, ["twice"])["twice"]
        results.append(DOUBLE(address)(3.0))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [6.0] * 8
    assert [name for name in os.listdir(tmp_path) if name.endswith(".tmp")] == []
