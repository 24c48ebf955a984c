"""Sets of index values in formulas, against the same sets element by element."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from symgraph.loop import region
from symgraph.loop.region import (
    Box,
    Conditions,
    Range,
    Reach,
    Regions,
    compare,
    distinct,
    divides,
    split,
    symbol,
    volume,
)
from symgraph.types import Atom, Size, evaluate


def points(box: Box) -> list[dict[Atom, int]]:
    values = [[int(r.start) + int(r.step) * j for j in range(int(r.count))] for r in box.values()]
    return [dict(zip(box, at, strict=True)) for at in itertools.product(*values)]


@pytest.mark.parametrize("seed", range(40))
def test_distinct_by_formula(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a formula claims to be exact, it is; never is it too small."""
    monkeypatch.setattr(region, "SMALL", 0)  # no counting one by one
    rng = np.random.default_rng(seed)
    a, b, c = Atom(None), Atom(None), Atom(None)
    reaches, met = [], set()
    for _ in range(int(rng.integers(1, 4))):
        box = {x: Range(int(rng.integers(0, 2)), int(rng.integers(1, 5)), int(rng.integers(1, 3))) for x in (a, b, c)}
        s, t, u = (int(k) for k in rng.integers(1, 5, 3))
        index: tuple[Size, ...] = (s * symbol(a) + t * symbol(b) + 1, u * symbol(c) + int(rng.integers(0, 2)))
        reaches.append(Reach(index, tuple(box.items())))
        met |= {tuple(evaluate(p, at) for p in index) for at in points(box)}
    n, exact = distinct(reaches, (64, 64), {})
    assert isinstance(n, int)
    assert n == len(met) if exact else n >= len(met)


def test_windows() -> None:
    """i + j, as in a convolution: neighbouring windows overlap."""
    i, j = Atom(None), Atom(None)
    reach = Reach((symbol(i) + symbol(j),), ((i, Range(0, 10)), (j, Range(0, 3))))
    assert distinct([reach], (100,), {}) == (12, True)


@pytest.mark.parametrize("seed", range(40))
def test_split(seed: int) -> None:
    """What holds and what fails are disjoint, and together everything."""
    rng = np.random.default_rng(seed)
    a, b = Atom(None), Atom(None)
    box: Box = {a: Range(0, 6), b: Range(0, 5)}
    tests: list[Size] = []
    for x in (a, b):
        low, high = sorted(int(k) for k in rng.integers(-1, 8, 2))
        tests += [int(rng.integers(1, 3)) * symbol(x) - high, low - symbol(x)]
    step = int(rng.integers(2, 4)) if seed % 2 else 1

    def parse(box: Box) -> Conditions:
        out = Conditions()
        for p in tests:
            compare(out, p, box)
        if step > 1:
            divides(out, symbol(a) - 1, step, box)
        return out

    def holds(at: dict[Atom, int]) -> bool:
        return all(evaluate(p, at) < 0 for p in tests) and (at[a] - 1) % step == 0

    yes, no = split(Regions([box]), parse)
    inside = [tuple(at.values()) for part in yes.boxes for at in points(part)]
    outside = [tuple(at.values()) for part in no.boxes for at in points(part)]
    wanted = [tuple(at.values()) for at in points(box) if holds(at)]
    assert sorted(inside) == sorted(wanted)
    assert yes.volume == len(wanted)
    if no.exact:
        assert sorted(outside) == sorted(tuple(at.values()) for at in points(box) if not holds(at))
        assert volume(box) == len(inside) + len(outside)
    else:
        assert len(outside) >= 30 - len(wanted)
