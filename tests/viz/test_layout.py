"""Where boxes go: no two overlap, groups hold what is theirs and nothing else, and equal input gives equal output."""

from __future__ import annotations

import time
from importlib.util import find_spec

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from symgraph.errors import FormatError
from symgraph.viz.layout import Box, Engine, Frame, Rect, layout

ENGINES: list[Engine] = ["builtin", "graphlay"] if find_spec("graphlay") else ["builtin"]
Input = tuple[list[Box], list[tuple[str, str]], list[Frame]]


@st.composite
def inputs(draw: st.DrawFn) -> Input:
    groups = draw(st.integers(0, 4))
    frames = []
    for k in range(groups):
        parent = draw(st.integers(-1, k - 1))
        frames.append(Frame(f"g{k}", f"g{parent}" if parent >= 0 else "", draw(st.sampled_from((0.0, 60.0, 200.0)))))
    count = draw(st.integers(0, 14))
    boxes = []
    for k in range(count):
        group = draw(st.integers(-1, groups - 1))
        width, height = draw(st.sampled_from(((40.0, 20.0), (120.0, 40.0), (300.0, 60.0))))
        boxes.append(Box(f"n{k}", width, height, f"g{group}" if group >= 0 else ""))
    place = st.integers(0, max(0, count - 1))
    edges = draw(st.lists(st.tuples(place, place), max_size=24)) if count else []
    return boxes, [(f"n{a}", f"n{b}") for a, b in edges], frames


def overlap(a: Rect, b: Rect) -> bool:
    return (
        a.x + a.width > b.x + 0.2
        and b.x + b.width > a.x + 0.2
        and a.y + a.height > b.y + 0.2
        and b.y + b.height > a.y + 0.2
    )


def inside(a: Rect, b: Rect) -> bool:
    return (
        a.x >= b.x - 0.2
        and a.y >= b.y - 0.2
        and a.x + a.width <= b.x + b.width + 0.2
        and a.y + a.height <= b.y + b.height + 0.2
    )


def check(example: Input, engine: Engine) -> None:
    boxes, edges, frames = example
    found = layout(boxes, edges, frames, engine)
    assert list(found.boxes) == [b.id for b in boxes]
    assert len(found.edges) == len(edges)
    parents = {f.id: f.parent for f in frames}
    around: dict[str, set[str]] = {}
    for id, group in [(b.id, b.group) for b in boxes] + list(parents.items()):
        path: set[str] = set()
        outer = group
        while outer:
            path.add(outer)
            outer = parents[outer]
        around[id] = path
    for b in boxes:
        rect = found.boxes[b.id]
        assert (rect.width, rect.height) == (b.width, b.height)
        assert rect.x >= -0.2
        assert rect.y >= -0.2
        assert rect.x + rect.width <= found.width + 0.2
        assert rect.y + rect.height <= found.height + 0.2
    rects = [*found.boxes.items(), *found.groups.items()]
    for k, (one, p) in enumerate(rects):
        for other, q in rects[:k]:
            if other in around[one]:
                assert inside(p, q)
            elif one in around[other]:
                assert inside(q, p)
            else:
                assert not overlap(p, q), (one, other)


@pytest.mark.parametrize("engine", ENGINES)
@given(inputs())
@settings(max_examples=60)
def test_nothing_overlaps(engine: Engine, example: Input) -> None:
    check(example, engine)


@pytest.mark.parametrize("engine", ENGINES)
def test_cycles_loops_and_parts_that_are_not_connected(engine: Engine) -> None:
    boxes = [Box(f"n{k}", 50, 20) for k in range(6)]
    edges = [("n0", "n1"), ("n1", "n2"), ("n2", "n0"), ("n2", "n2"), ("n3", "n4"), ("n4", "n3"), ("n0", "n1")]
    check((boxes, edges, []), engine)


def test_edges_go_down() -> None:
    boxes = [Box(f"n{k}", 50, 20) for k in range(4)]
    found = layout(boxes, [("n0", "n1"), ("n1", "n2"), ("n0", "n3"), ("n3", "n2")], (), "builtin")
    y = {id: r.y for id, r in found.boxes.items()}
    assert y["n0"] < y["n1"] == y["n3"] < y["n2"]


@pytest.mark.parametrize("engine", ["auto", *ENGINES])
def test_empty(engine: Engine) -> None:
    assert layout([], [], [Frame("g")], engine).boxes == {}


def test_a_thousand_boxes_take_about_a_second() -> None:
    boxes = [Box(f"n{k}", 90, 30, f"g{k // 20}") for k in range(1000)]
    edges = [(f"n{max(0, k - 1 - k * k % 7)}", f"n{k}") for k in range(1, 1000)]
    edges += [(f"n{k}", f"n{999 - k}") for k in range(400)]
    start = time.process_time()
    layout(boxes, edges, [Frame(f"g{k}") for k in range(50)])
    assert time.process_time() - start < 3  # measured: 0.1 s


def test_without_graphlay_the_layout_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = [Box(f"n{k}", 50, 20) for k in range(4)]
    edges = [("n0", "n1"), ("n0", "n2"), ("n1", "n3")]
    monkeypatch.setattr("symgraph.viz.layout.find_spec", lambda name: None)
    assert layout(boxes, edges) == layout(boxes, edges, (), "builtin")


def test_an_engine_that_is_not_there() -> None:
    with pytest.raises(FormatError, match="engine: 'dot' is not among"):
        layout([], [], (), "dot")  # type: ignore[arg-type]
