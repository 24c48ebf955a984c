"""Kernels run lane by lane: texts at the edges of their tiles, and those of the registry. And wrong ones."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import symgraph as sg
from symgraph.runtime import device as devices
from symgraph.runtime.launch import Limits
from symgraph.testing.races import CheckingDevice, Fault, New, run
from symgraph_kernels.cuda.matmul import ADD, PARAMETERS, SMALL, STORE, Tiles, source
from tests.backend.table import NAMES, cases, compare, compare_symbolic, gradients

Array = NDArray[Any]


def kinds(found: list[Fault]) -> set[str]:
    return {f.kind for f in found}


# -- one fault each ----------------------------------------------------------------------------------------------------

GOOD = """
def kernel(x, y, n):
    s = cuda.shared.array(8, memory_float64)
    row = group()
    while row < n:
        s[lane()] = x[row * lanes() + lane()]
        barrier()
        y[row * lanes() + lane()] = s[lanes() - 1 - lane()]
        barrier()
        row += groups()
"""
WRONG = {
    "bounds, above": ("y[row * lanes() + lane()]", "y[row * lanes() + lane() + 1]", "bounds"),
    "bounds, below": ("s[lanes() - 1 - lane()]", "s[lanes() - 2 - lane()]", "bounds"),
    "bounds, of shared memory": ("array(8", "array(7", "bounds"),
    "lanes store one element": ("y[row * lanes() + lane()] =", "y[row * lanes() + lane() // 2] =", "race"),
    "groups store one element": ("y[row * lanes() + lane()] =", "y[lane()] =", "race"),
    "what is stored is not there yet": ("        barrier()\n        y", "        y", "race"),
    "what is loaded is stored over": ("        barrier()\n        row", "        row", "race"),
    "one element for all": ("s[lanes() - 1 - lane()]", "s[0]", ""),
    "shared memory that nobody stored": ("        s[lane()] =", "        if lane(): s[lane()] =", "unwritten"),
    "memory that nobody stored": ("= s[lanes()", "= y[row * lanes() + lane()] + s[lanes()", "unwritten"),
    "a barrier that some reach": ("        barrier()\n        y", "        if lane(): barrier()\n        y", "barrier"),
    "lanes that go": ("        barrier()\n        y", "        if lane(): return\n        barrier(); y", "barrier"),
    "more turns than others": ("while row < n", "while row < n + lane()", "barrier"),
}  # fmt: skip


def launch(
    text: str, grid: tuple[int, int] = (2, 1), block: tuple[int, int] = (8, 1)
) -> tuple[list[Fault], Array, Array]:
    x, y = np.arange(24.0), np.full(24, np.nan)
    return run(text, "kernel", grid, block, [x, New(y), 3]), x, y


def test_a_kernel_without_fault() -> None:
    found, x, y = launch(GOOD)
    assert found == []
    np.testing.assert_array_equal(y.reshape(3, 8), x.reshape(3, 8)[:, ::-1])


@pytest.mark.parametrize("what", WRONG)
def test_a_fault(what: str) -> None:
    before, after, kind = WRONG[what]
    assert GOOD.count(before) == 1
    found = launch(GOOD.replace(before, after))[0]
    assert kind in kinds(found) if kind else not found


def test_groups_that_share_a_block_share_its_memory() -> None:
    text = GOOD.replace("n:", "2 * n:")
    x, y = np.arange(24.0), np.full(24, np.nan)
    assert "race" in kinds(run(text, "kernel", (1, 1), (4, 2), [x, New(y), 3]))


def test_groups_of_a_block_or_of_a_warp_wait() -> None:
    text = "def kernel(x):\n    barrier()\n"
    for grid, block, fine in (((2, 1), (64, 1), True), ((2, 1), (64, 2), False), ((1, 2), (8, 1), False)):
        assert bool(run(text, "kernel", grid, block, [np.zeros(1)])) is not fine
    with pytest.raises(ValueError, match="6 lanes: wanted a power of two"):
        run(text, "kernel", (1, 1), (6, 1), [np.zeros(1)])


def test_combining() -> None:
    """All lanes get what the lanes have together; it orders no memory."""
    text = """
def kernel(x, y, n):
    s = cuda.shared.array(SIZE, memory_float64)
    y[lane()] = group_add_float64(x[lane()], s)
    below, every = group_prefix_add_float64(x[lane()], s)
    y[lanes() + lane()] = below + every
"""
    x, y = np.arange(64.0), np.full(128, np.nan)
    assert run(text.replace("SIZE", "2"), "kernel", (1, 1), (64, 1), [x, New(y), 0]) == []
    np.testing.assert_array_equal(y, [*[x.sum()] * 64, *(np.cumsum(x) + x.sum())])
    assert kinds(run(text.replace("SIZE", "1"), "kernel", (1, 1), (64, 1), [x, New(y), 0])) == {"bounds"}
    late = text.replace("below + every", "y[lanes() - 1 - lane()]").replace("SIZE", "2")
    assert kinds(run(late, "kernel", (1, 1), (64, 1), [x, New(y), 0])) == {"race"}


def test_atomic_additions_meet_each_other_alone() -> None:
    text = "def kernel(x):\n    atomic_add(x, 0, 1.0)\n"
    x = np.zeros(1)
    assert run(text, "kernel", (3, 1), (4, 1), [x]) == []
    assert x[0] == 12
    assert kinds(run(text + "    x[0] = 1.0\n", "kernel", (3, 1), (4, 1), [x])) == {"race"}
    assert kinds(run(text + "    y = x[0]\n", "kernel", (3, 1), (4, 1), [x])) == {"race"}


def test_the_same_value() -> None:
    """Where that is said, lanes may store the same; not different values."""
    text = "def kernel(x):\n    x[0] = VALUE\n"
    x = np.zeros(1)
    for value, fine in (("1.0", True), ("1.0 * lane()", False)):
        assert (run(text.replace("VALUE", value), "kernel", (1, 1), (4, 1), [x], alike=[0]) == []) is fine
    assert kinds(run(text.replace("VALUE", "1.0"), "kernel", (1, 1), (4, 1), [x])) == {"race"}


def test_buffers_that_share_memory() -> None:
    text = "def kernel(x, y):\n    y[lane()] = x[lanes() - 1 - lane()]\n"
    x = np.arange(8.0)
    assert run(text, "kernel", (1, 1), (8, 1), [x, np.zeros(8)]) == []
    assert kinds(run(text, "kernel", (1, 1), (8, 1), [x, x])) == {"race"}


def test_vectors_lie_where_they_can_be_moved() -> None:
    text = "def kernel(x, y):\n    a, b = fetch_2(x, FIRST)\n    put_2(y, 0, a, b)\n"
    raw = np.zeros(8)
    x = raw[int(raw.ctypes.data) % 16 // 8 :][:4]
    y = x.copy()
    y = np.zeros(8)[int(y.ctypes.data) % 16 // 8 :] if int(y.ctypes.data) % 16 else y
    for first, fine in (("0", True), ("1", False), ("2", True), ("4", False)):
        found = run(text.replace("FIRST", first), "kernel", (1, 1), (1, 1), [x, y])
        assert {f.line for f in found if f.line == 2} == (set() if fine else {2})


# -- matrix products ---------------------------------------------------------------------------------------------------

Case = tuple[tuple[int, int, int], bool, bool, bool, tuple[int, int], int, tuple[bool, bool]]
OTHER = Tiles(4, 8, 2, 2, 4)
LONG = Tiles(64, 4, 4, 16, 2)
"""Stored rows of a piece are longer than a line of the cache."""


def product(text: str, tiles: Tiles, case: Case, dtype: str = "float32") -> list[Fault]:
    """Run a product, of small whole numbers: results are exact. All memory that belongs to no matrix is nan."""
    (m, n, k), trans_a, trans_b, adds, batch, blocks, aligned = case
    rng = np.random.default_rng(0)

    def stored(shape: tuple[int, int], flip: bool, offset: int, even: bool) -> tuple[Array, Array, int, int]:
        """A batch of matrices, in rows that are longer than they are wide; where it lies, and its strides.

        ``even``: rows begin at multiples of 16 bytes, where ``offset`` is a multiple of four elements.
        """
        values = rng.integers(-3, 4, (*batch, *shape)).astype(dtype)
        rows = values.swapaxes(2, 3) if flip else values
        high, width = rows.shape[2:]
        wide = -(-width // 4) * 4 + 4 if even else width + 2
        padded = np.full((*batch, high, wide), np.nan, dtype)
        padded[..., :width] = rows
        size = max(0, padded.size - wide + width)  # a buffer ends with the last element
        raw = np.full(offset + size + 4, np.nan, dtype)
        memory = raw[-int(raw.ctypes.data) % 16 // raw.itemsize :][: offset + size]
        memory[offset:] = padded.ravel()[:size]
        return values, memory, wide, high * wide

    at_a, at_b = (offset + even for offset, even in zip((3, 7), aligned, strict=True))
    a, of_a, lda, size_a = stored((m, k), trans_a, at_a, aligned[0])
    b, of_b, ldb, size_b = stored((k, n), trans_b, at_b, aligned[1])
    c, of_c, ldc, size_c = stored((m, n), False, 0, False)
    words: dict[str, Any] = {
        "m": m, "n": n, "k": k, "a": of_a, "a_offset": at_a, "lda": lda, "b": of_b, "b_offset": at_b, "ldb": ldb,
        "ldc": ldc, "outer": batch[0], "inner": batch[1], "a_outer": batch[1] * size_a, "a_inner": size_a,
        "b_outer": batch[1] * size_b, "b_inner": size_b, "c_outer": batch[1] * size_c, "c_inner": size_c,
    }  # fmt: skip
    args = [*(words[p] for p, _ in PARAMETERS), of_c if adds else New(of_c)]
    found = run(text, "kernel", (blocks, 1), (tiles.threads, 1), args)
    if not found:
        want = np.full((*batch, m, ldc), np.nan, dtype)
        whole = a.astype("int64") @ b.astype("int64")  # without a processor's flags, which others' nans may have set
        want[..., :n] = whole + (c if adds else 0)
        np.testing.assert_array_equal(of_c, want.ravel()[: of_c.size], err_msg=str(case))
    return found


def edges(tile: int) -> tuple[int, ...]:
    return 0, 1, tile - 1, tile, tile + 1, 2 * tile + 1


def products(tiles: Tiles) -> Iterator[Case]:
    """Every combination of sizes and transposes, aligned and not; the rest by chance."""
    rng = random.Random(0)
    m, n, k = (sorted(set(edges(t))) for t in (tiles.m, tiles.n, tiles.k))
    either = (False, True)
    for size in itertools.product(m, n, k):
        for trans_a, trans_b, aligned in itertools.product(either, either, either):
            batch, blocks = rng.choice(((1, 1), (2, 1), (1, 2), (2, 3))), rng.choice((1, 2, 3))
            one = rng.choice(((False, False), (False, True), (True, False)))
            yield size, trans_a, trans_b, rng.choice(either), batch, blocks, (True, True) if aligned else one


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("tiles", [SMALL, OTHER])
def test_products_at_the_edges_of_tiles(tiles: Tiles, dtype: str) -> None:
    """With offsets, strides, batches and blocks; elements come one by one and several at once."""
    for case in products(tiles):
        _, trans_a, trans_b, adds, *_ = case
        text = source("kernel", dtype, trans_a, trans_b, tiles, ADD if adds else STORE)
        assert product(text, tiles, case, dtype) == [], case


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products_whose_rows_are_brought_line_by_line(dtype: str) -> None:
    for m, even, (trans_a, trans_b) in itertools.product((61, 64, 67), (False, True), ((True, False), (False, True))):
        text = source("kernel", dtype, trans_a, trans_b, LONG)
        assert (" // 32 * " in text or " // 64 * " in text) is trans_a
        assert product(text, LONG, ((m, 5, 6), trans_a, trans_b, False, (1, 1), 2, (even, even)), dtype) == []


WRONG_PRODUCTS = {
    "the first barrier": ("            barrier()\n            z", "            z", 1, {"race", "unwritten"}),
    "the second barrier": ("            barrier()\n            step", "            step", 1, {"race"}),
    "a row too many": ("row + ea_0 < m", "row + ea_0 <= m", 5, {"bounds"}),
    "a column too many": ("column + eb_0 + 2 < n", "column + eb_0 + 2 <= n", 1, {"bounds"}),
    "a term too many": ("step + fa_0 + 3 < k", "step + fa_0 + 3 <= k", 2, {"bounds"}),
    "the last of several columns too many": ("wide_b & (column + eb_0 + 3 < n)",
                                             "wide_b & (column + eb_0 + 1 < n)", 1, {"bounds"}),
    "the last of several terms too many": ("wide_a & (row + ea_0 < m) & (step + fa_0 + 3 < k)",
                                           "wide_a & (row + ea_0 < m) & (step + fa_0 + 2 < k)", 1, {"bounds"}),
    "several where they are not aligned": ("aligned(a, first_a, 4) & (lda % 4 == 0)", "(lda > 0)", 1, {"bounds"}),
    "several where one row is aligned": (" & (lda % 4 == 0)", "", 1, {"bounds"}),
    "several from elsewhere": ("fetch_4(b, at)", "fetch_4(b, at + ldb)", 1, {"bounds"}),
    "no bound for rows": ("if (i < m) & (j < n)", "if (j < n)", 1, {"bounds"}),
    "no bound for columns": ("if (i < m) & (j < n)", "if (i < m)", 1, {"bounds", "race"}),
    "the result's rows": ("i * ldc + j", "i * (ldc - 3) + j", 1, {"race"}),
    "the other batch": ("q * c_inner", "p * c_inner", 1, {"race"}),
    "an element that nobody brings": ("sb[fb_0 * 5 + eb_0] = vb_0\n", "pass\n", 1, {"unwritten"}),
    "a shared store at the wrong place": ("sa[(fa_0 + 1) * 5", "sa[(fa_0 + 1) * 4", 1, {"race", "unwritten"}),
    "a shared load at the wrong place": ("sa[z * 5 + y + 2]", "sa[z * 5 + y + 3]", 1, {"unwritten", "bounds"}),
    "shared memory that is too small": ("sa = cuda.shared.array(20", "sa = cuda.shared.array(17", 1, {"bounds"}),
    "tiles of lanes": ("tile = group()", "tile = group() + lane() // 2", 1, {"barrier", "race"}),
    "lanes that go on": ("while step < k", "while step < k + me", 1, {"barrier"}),
    "below the first": ("first_a = a_offset", "first_a = -a_offset", 1, {"bounds"}),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG_PRODUCTS)
def test_a_wrong_product(what: str) -> None:
    before, after, count, wanted = WRONG_PRODUCTS[what]
    text = source("kernel", "float32", tiles=SMALL)
    assert text.count(before) >= count
    found: set[str] = set()
    cases: list[Case] = []
    for even in ((False, False), (True, True)):
        cases.append(((5, 6, 7), False, False, False, (2, 3), 3, even))
        cases.append(((4, 4, 4), False, False, False, (1, 1), 1, even))
    for case in cases:
        try:
            found |= kinds(product(text.replace(before, after), SMALL, case))
        except AssertionError:
            continue  # a wrong value, and no fault
    assert found & wanted, found


# -- programs ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def checking(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> CheckingDevice:
    """The device that functions run on: three blocks of eight threads, or what is asked for."""
    made = CheckingDevice(getattr(request, "param", Limits(8, 3)))
    monkeypatch.setattr(devices, "the_device", lambda: made)
    return made


@pytest.mark.parametrize("name", NAMES)
def test_registry(name: str, checking: CheckingDevice) -> None:
    """Values, symbolic sizes, gradients and their gradients; memory is shared as in every program."""
    compare(cases(name), target="cuda")
    compare_symbolic(name, target="cuda")
    for order in (1, 2):
        if found := gradients(name, order):
            compare(found, target="cuda")
    assert checking.faults == {}


@pytest.mark.parametrize("checking", [Limits(64, 2), Limits(64, 2, True), Limits(128, 3), Limits(1, 1)], indirect=True)
def test_widths(checking: CheckingDevice) -> None:
    """Groups that are blocks of several warps, warps side by side in a block, and one thread."""
    x, y = sg.matrix("x", shape=("n", "m")), sg.vector("y", shape=("n",))
    outputs = [sg.softmax(x, axis=1), sg.sum(x, axis=0), sg.sum(x), sg.logsumexp(x, axis=1) * y, sg.max(x * 2)]
    outputs += [sg.grad(sg.sum(sg.log_softmax(x, axis=1) * x), x), sg.argmax(x, axis=1)]
    fn = sg.function([x, y], outputs, target="cuda")
    want = sg.function([x, y], outputs, target="numpy")
    rng = np.random.default_rng(0)
    for n, m in ((3, 300), (2, 33), (5, 7), (1, 1100)):
        arrays = rng.normal(size=(n, m)), rng.normal(size=n)
        for g, w in zip(fn(*arrays), want(*arrays), strict=True):
            np.testing.assert_allclose(g, w, rtol=1e-10, atol=1e-12)
    assert checking.faults == {}
    assert len(checking.kernels) >= 5
