"""The benchmark runner: contenders in processes of their own, wrong values found, pages renewed section by section."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

pytest.importorskip("benchmarks", reason="benchmarks are in the checkout only")

from benchmarks.__main__ import compared
from benchmarks.harness import Case, Row
from benchmarks.processes import Failed, Process
from benchmarks.report import Line, Table, document, duration, machine, section
from benchmarks.rows import ROWS, call

ROW = Row("one", "a row", "at most 1 s", [Case("small")], timed=call.ROW.timed, floors=("floor",))


@contextmanager
def process(row: str, contender: str) -> Iterator[Process]:
    made = Process(ROWS[row], contender, 1, log=None)
    try:
        yield made
    finally:
        made.end()


@pytest.mark.parametrize("contender", ["symgraph", "numpy"])
def test_a_contender_prepares_and_is_timed(contender: str) -> None:
    with process("call", contender) as p:
        assert p.ask("prepare", 0)["seconds"] > 0
        _, (values,) = p.values()
        np.testing.assert_array_equal(values, [1, 2, 3])
        answer = p.ask("time", 2)
        assert len(answer["seconds"]) == 2
        assert all(s > 0 for s in answer["seconds"])


def test_a_failure_is_told_and_the_process_goes_on() -> None:
    with process("call", "numpy") as p:
        with pytest.raises(Failed, match="IndexError"):
            p.ask("prepare", 99)
        p.ask("prepare", 0)


def test_the_network_of_all_sizes_is_one_function() -> None:
    with process("network", "symgraph") as p:
        for case in range(2):
            p.ask("prepare", case)
            _, values = p.values()
            assert [v.shape for v in values] == [(), (784, 256), (256,), (256, 256), (256,), (256, 10), (10,)]


def test_values_that_differ_are_named() -> None:
    x = np.ones(3)
    notes = compared(ROW, {"a": [x], "b": [x + 1e-12], "c": [x + 0.5], "d": []})
    assert list(notes) == ["c"]
    assert notes["c"].startswith("wrong values")


def table(seconds: float) -> Table:
    lines = [Line("symgraph", {"t": seconds}), Line("peer", {"t": 2.0}), Line("floor", {"t": 0.5})]
    return Table(ROW, "small", {"t": "time"}, lines)


def test_verdict_counts_floors_apart() -> None:
    assert table(1.0).verdict == "symgraph 1 s; 0.50 × the best peer (peer); 2.00 × floor"


def test_a_page_keeps_what_is_not_measured_again() -> None:
    other = Row("two", "another row", "nothing", [Case("small")])
    rows = [ROW, other]
    page = document("", rows, {"a row": section([table(1.0)], 3, 0.0)})
    both = document(
        page, rows, {"another row": section([Table(other, "small", {"t": "time"}, [Line("peer")])], 3, 0.0)}
    )
    assert "## a row" in both
    assert "## another row" in both
    assert "| a row: small | symgraph 1 s; 0.50 × the best peer (peer); 2.00 × floor | at most 1 s |" in both
    renewed = document(both, rows, {"a row": section([table(4.0)], 3, 0.0)})
    assert "symgraph 4 s; 2.00 ×" in renewed
    assert "symgraph 1 s" not in renewed
    foreign = document(both.replace(machine(), "another machine"), rows, {"a row": section([table(4.0)], 3, 0.0)})
    assert "## another row" not in foreign


@pytest.mark.parametrize(("seconds", "text"), [(2.5, "2.5 s"), (0.0123, "12.3 ms"), (4e-7, "0.4 µs")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
