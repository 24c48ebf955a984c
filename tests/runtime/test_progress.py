"""Progress lines: where somebody is looking, and nowhere else."""

from __future__ import annotations

import io
import subprocess
import sys
import time

import pytest

import symgraph as sg
from symgraph.runtime import progress as module


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def terminal_of(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal as standard error. Made in the test itself: pytest sets the stream anew after fixtures."""
    made = Terminal()
    monkeypatch.setattr(sys, "stderr", made)
    monkeypatch.delenv("CI", raising=False)
    return made


def test_silent_in_pipes_and_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_of(monkeypatch)
    assert module.watched()
    monkeypatch.setenv("CI", "true")
    assert not module.watched()
    with sg.progress(range(3), text="training") as bar:
        for _ in bar:
            bar.set_postfix(loss=1.0)
    with sg.progress(total=2) as bar:
        bar.update()
        bar.close()
    assert list(sg.progress([1, 2])) == [1, 2]
    assert list(sg.progress(iter("ab"))) == ["a", "b"]
    assert terminal.getvalue() == ""
    monkeypatch.delenv("CI")
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert not module.watched()


def test_a_loop_in_a_terminal_has_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_of(monkeypatch)
    pytest.importorskip("tqdm")
    bar = sg.progress(range(3), text="training")
    assert list(bar) == [0, 1, 2]
    assert "training" in terminal.getvalue()


def test_without_tqdm_a_loop_runs_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_of(monkeypatch)
    monkeypatch.setattr(module, "_tqdm", lambda: None)
    assert list(sg.progress(range(3))) == [0, 1, 2]
    assert terminal.getvalue() == ""


def test_only_long_compilations_have_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_of(monkeypatch)
    with module.compiling("quick"):
        module.note("kernel 1")
    assert terminal.getvalue() == ""
    monkeypatch.setattr(module, "PATIENCE", 0.01)
    with module.compiling("<step>\x1b[31m"), module.compiling("inner"):
        module.note("kernel 1")
        time.sleep(0.1)
        module.note("kernel 2")
    text = terminal.getvalue()
    assert "compiling <step>\\x1b[31m: kernel 2" in text
    assert "inner" not in text
    assert text.endswith("\r")
    assert text.rpartition("\r")[0].rpartition("\r")[2].strip() == "", "the line is wiped out"
    module.note("after it")
    assert terminal.getvalue() == text


def test_functions_say_that_they_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_of(monkeypatch)
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    x = sg.vector("x")
    sg.function([x], sg.exp(x) + 0.123456, name="noted")
    assert "compiling noted" in terminal.getvalue()


def test_a_stream_that_is_closed_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_of(monkeypatch)
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    with module.compiling("f"):
        terminal.close()
        module.note("kernel 1")
    monkeypatch.setattr(sys, "stderr", closed := io.StringIO())
    closed.close()
    assert not module.watched()


def test_nothing_of_it_is_imported_with_symgraph() -> None:
    code = "import symgraph, sys; print([m for m in ('tqdm', 'rich', 'IPython') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
