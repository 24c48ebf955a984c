"""Kernels that are text, read as loops and proved, for all sizes. And wrong ones, each of which is found out."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from symgraph.graph import Variable
from symgraph.loop import ir
from symgraph.loop.check import Finding, check
from symgraph.loop.ir import Param
from symgraph.loop.linear import contradict, follows, lowest, value
from symgraph.loop.text import UnreadableError, read
from symgraph.types import Size, dim, tensor_type
from symgraph_kernels.cuda import matmul, sort
from symgraph_kernels.cuda.matmul import ADD, LARGE, MEDIUM, SMALL, STORE, Tiles
from symgraph_kernels.cuda.sort import Tile

INT = np.dtype("int64")
OTHER = Tiles(4, 8, 2, 2, 4)


def kinds(found: Sequence[Finding]) -> set[str]:
    return {f.kind for f in found}


# -- reading -----------------------------------------------------------------------------------------------------------

ROWS = """
def kernel(x: pointer_float64, y: pointer_float64, n: int64):
    s = cuda.shared.array(8, memory_float64)
    me = lane()
    row = group()
    while row < n:
        s[me] = x[row * 8 + me]
        barrier()
        y[row * 8 + me] = s[7 - me]
        barrier()
        row += groups()
"""


def rows(text: str, lanes: int = 8) -> list[Finding]:
    """Of a text that reads and stores rows of eight elements."""
    F64 = np.dtype("float64")
    params = [Param("x", "buffer", F64), Param("y", "buffer", F64), Param("n", "size", INT)]
    n = dim("n")
    bindings = [Variable(tensor_type("float64", (n, 8))), Variable(tensor_type("float64", (n, 8))), n]
    return [f for kernel in read(text, params, lanes) for f in check(kernel, bindings, text=True)]


def test_as_loops() -> None:
    params = [Param("x", "buffer", np.dtype("float64")), Param("n", "size", INT)]
    (kernel,) = read(
        """
def kernel(x: pointer_float64, n: int64):
    me = lane()
    total = n - me
    if total > 4:
        total = 4
    k = 0
    low = 0
    while k < total:
        low = low + k
        if x[low] < 1.0:
            low = 0
        k += 2
    width = 1
    while width < 4:
        x[width + low] = 0.0
        width = width * 2
""",
        params,
        4,
    )
    assert ir.show(kernel).splitlines()[1:] == [
        "  lanes me in [0, 4):",
        "    let total = subtract(n, me)",
        "    let holds = greater(total, 4)",
        "    if holds:",
        "    let total.2 = where(holds, 4, total)",
        "    var low = 0",
        "    serial turn in [0, floor_divide(add(subtract(total.2, 0), 1), 2)):",
        "      let k = add(0, multiply(turn, 2))",
        "      check less(k, total.2) else 0",
        "      let low.2 = add(low, k)",
        "      let holds.2 = less(x[low.2], 1.0)",
        "      if holds.2:",
        "      let low.3 = where(holds.2, 0, low.2)",
        "      low = low.3",
        "    x[add(1, low)] := 0.0",
        "    x[add(2, low)] := 0.0",
    ]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("return", "return"),
        ("n.stop()", "n.stop"),
        ("a, b = x, y", "a, b"),
        ("z[0] = 1.0", "z"),
        ("break", "break"),
        ("q = n if n < 3 < 4 else 0", "n < 3 < 4"),
        ("while n < 5: n = n", "more than"),
    ],
)
def test_what_is_not_read(line: str, what: str) -> None:
    text = ROWS.replace("        s[me] =", f"        {line}\n        s[me] =")
    if line.startswith("while"):
        text = text.replace("n < 5: n = n", "0 < 5: n = n")
    with pytest.raises(UnreadableError, match=what.replace("(", "\\(")):
        rows(text)


def test_what_goes_on_from_row_to_row_is_not_read() -> None:
    text = ROWS.replace("    row = group()", "    last = 0\n    row = group()").replace("= x[row * 8", "= x[last * 8")
    with pytest.raises(UnreadableError, match=r"\['last'\] go on to the next turn"):
        rows(text.replace("        row +=", "        last = row\n        row +="))


def test_buffers_by_other_names() -> None:
    """One kernel for either; what decides it is not changed afterwards."""
    chosen = "    to = y\n    if n > 9:\n        to = x\n"
    text = ROWS.replace("    me = lane()\n", chosen + "    me = lane()\n").replace("        y[row", "        to[row")
    params = [Param("x", "buffer", np.dtype("float64")), Param("y", "buffer", np.dtype("float64"))]
    kernels = read(text, [*params, Param("n", "size", INT)], 8)
    assert [[s.buffer for s in ir.walk(k.body) if isinstance(s, ir.Store)] for k in kernels] == [["s", "x"], ["s", "y"]]
    assert rows(text) == []
    with pytest.raises(UnreadableError, match="n > 9"):
        rows(
            text.replace("    row = group()", "    n = n + 1\n    row = group()").replace(
                "    to = y", "    n = n - 1\n    to = y"
            )
        )


def test_rows_are_proved() -> None:
    assert rows(ROWS) == []


TURNS = "        k = 0\n        while k < LESS:\n            barrier()\n            k += 1\n        y"
HALVES = "        k = me\n        while k > 0:\n            barrier()\n            k = k >> 1\n        y"


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        ("y[row * 8 + me]", "y[row * 8 + me + 1]", "bounds"),
        ("s[7 - me]", "s[6 - me]", "bounds"),
        ("array(8", "array(7", "bounds"),
        ("y[row * 8 + me] =", "y[row * 8 + me // 2] =", "race"),
        ("y[row * 8 + me] =", "y[me] =", "race"),
        ("        barrier()\n        y", "        y", "race"),
        ("        barrier()\n        row", "        row", "race"),
        ("        barrier()\n        y", "        if me < 4:\n            barrier()\n        y", "barrier"),
        ("        barrier()\n        y", TURNS.replace("LESS", "me"), "barrier"),
        ("        barrier()\n        y", HALVES, "barrier"),
        ("        barrier()\n        y", TURNS.replace("LESS", "n - row"), "race"),  # perhaps it has no turn
        ("while row < n", "while row < n + me", "barrier"),
        ("s[7 - me]", "s[me - me % 2 + (me + 1) % 2]", ""),
        ("s[me] = x[row * 8 + me]", "s[(me * 3) % 8] = x[row * 8 + me]", ""),
        ("s[me] = x[row * 8 + me]", "s[(me * 2) % 8] = x[row * 8 + me]", "race"),
    ],
)  # fmt: skip
def test_a_wrong_row(before: str, after: str, kind: str) -> None:
    assert ROWS.count(before) == 1
    found = kinds(rows(ROWS.replace(before, after)))
    assert kind in found if kind else not found


EXCHANGE = ROWS.replace(
    "        y[row * 8 + me] = s[7 - me]", "        k = cut[1]\n        y[row * 8 + k] = 1.0"
).replace("        s[me] = x[row * 8 + me]", "        if me < 2:\n            cut[me] = me * 2 + 3").replace(
    "    s = cuda.shared.array(8, memory_float64)", "    cut = cuda.shared.array(2, memory_int64)"
)  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after", "bounded"),
    [
        ("me * 2 + 3", "me * 2 + 3", True),
        ("me * 2 + 3", "me * 2 + 6", False),  # of lane 1 it is 8
        ("if me < 2:", "if me < 1:", False),  # lane 1 stores nothing
        ("if me < 2:", "if x[me] < 2.0:", False),  # perhaps it stores nothing
        ("        barrier()\n        k", "        k", False),
        ("            cut[me] = me * 2 + 3", "            cut[me] = me * 2 + 3\n            cut[1] = 9", False),
        ("cut[me] =", "cut[1 - me] =", False),  # another lane's: not known
        ("        if me < 2:", "        while n < row:\n          if me < 2:", False),  # perhaps there is no turn
    ],
)
def test_what_a_lane_gives_to_others(before: str, after: str, bounded: bool) -> None:
    assert EXCHANGE.count(before) == 1
    found = rows(EXCHANGE.replace(before, after))
    assert any(f.what.startswith("y[add(multiply(row, 8), k)] beyond") for f in found) is not bounded
    assert "race" in kinds(found)  # all lanes store it


@pytest.mark.parametrize(
    ("body", "least", "most"),
    [
        ("low = middle + 1", 0, 7),
        ("low = middle", 0, 7),
        ("low = middle + 2", 0, None),  # it passes the end
        ("low = middle - 1", None, 7),
    ],
)
def test_what_a_loop_keeps(body: str, least: int | None, most: int | None) -> None:
    """Of a bisection: both ends stay between what they were."""
    text = ROWS.replace(
        "        s[me] = x[row * 8 + me]\n",
        f"""        low = 0
        high = 7
        while low < high:
            middle = (low + high) >> 1
            if x[row * 8 + middle] < 1.0:
                {body}
            else:
                high = middle
        s[me] = x[row * 8 + low]
""",
    )
    found = {f.what for f in rows(text)}
    after = {w for w in found if w.startswith("x[add(multiply(row, 8), low")}
    assert any("below" in w for w in after) is (least is None)
    assert any("beyond" in w for w in after) is (most is None)


def test_a_loop_of_no_turns() -> None:
    """What is so where there is a turn need not be so after none."""
    text = ROWS.replace(
        "        s[me] = x[row * 8 + me]\n",
        """        low = 0
        high = n - 1
        k = 1
        while k < n:
            low = low + 0
            high = high + 0
            k += 1
        s[me] = x[row * 8 + high - low - FEWER]
""",
    )
    assert not any("below" in f.what for f in rows(text.replace("FEWER", "0")))
    assert any("below" in f.what for f in rows(text.replace("FEWER", "1")))


# -- sums --------------------------------------------------------------------------------------------------------------


def test_sums_of_facts() -> None:
    a, b, c = (dim(name) for name in "abc")
    assert follows(a + b - 2, [a - 1, b - 1])
    assert follows(c - b, [c * 3 - a - b * 2, a - b])
    assert not follows(a - b, [a, b])
    assert follows(c - 1 - b, [a + c - b * 2, c - 1 - a])  # above -1 is 0, among integers
    assert not follows(c - 2 - b, [a + c - b * 2, c - 1 - a])
    assert follows(a * b - 3, [a * b - b, b - 3])  # a product is one thing
    assert follows(5, [])
    assert not follows(-1, [a])


def test_facts_that_contradict_each_other() -> None:
    a, b = dim("a"), dim("b")
    assert contradict([a * 1792 - b * 1793, b - 1, a * -1])
    assert not contradict([a - b, b - a])
    at = lowest(a - b, [a - 3, 7 - b])
    assert value(a - b, at) == -4
    assert value(a * b, at) is None


# -- matrix products ---------------------------------------------------------------------------------------------------


def product(text: str, tiles: Tiles, trans_a: bool, trans_b: bool, dtype: str = "float32") -> list[Finding]:
    """Of batches of matrices of any size, which fill their buffers."""
    kind = np.dtype(dtype)
    params = [Param(p, "buffer" if of == "buffer" else "size", kind if of == "buffer" else INT) for p, of in WORDS]
    m, n, k, outer, inner = (dim(name) for name in ("m", "n", "k", "outer", "inner"))
    words: dict[str, Any] = {
        "m": m, "n": n, "k": k, "lda": m if trans_a else k, "ldb": k if trans_b else n, "ldc": n,
        "a": buffer(dtype, outer, inner, m, k), "b": buffer(dtype, outer, inner, n, k),
        "c": buffer(dtype, outer, inner, m, n), "a_offset": 0, "b_offset": 0, "outer": outer, "inner": inner,
        "a_outer": inner * m * k, "a_inner": m * k, "b_outer": inner * n * k, "b_inner": n * k,
        "c_outer": inner * m * n, "c_inner": m * n,
    }  # fmt: skip
    bindings = [words[p.name] for p in params]
    return [f for kernel in read(text, params, tiles.threads) for f in check(kernel, bindings, text=True)]


WORDS = (*matmul.PARAMETERS, ("c", "buffer"))


def buffer(dtype: str, *shape: Size) -> Variable:
    return Variable(tensor_type(dtype, shape))


@pytest.mark.parametrize("tiles", [SMALL, OTHER, MEDIUM, LARGE])
def test_products_of_all_sizes(tiles: Tiles) -> None:
    either = (False, True)
    for trans_a, trans_b, adds in itertools.product(either, either, either):
        for dtype in ("float32", "float64"):
            text = matmul.source("kernel", dtype, trans_a, trans_b, tiles, ADD if adds else STORE)
            assert product(text, tiles, trans_a, trans_b, dtype) == []


WRONG_PRODUCTS = {
    "the first barrier": ("            barrier()\n            z", "            z", "race"),
    "the second barrier": ("            barrier()\n            step", "            step", "race"),
    "a row too many": ("row + ea_0 < m", "row + ea_0 <= m", "bounds"),
    "a column too many": ("column + eb_0 + 3 < n", "column + eb_0 + 2 < n", "bounds"),
    "a term too many": ("step + fa_0 + 3 < k", "step + fa_0 + 2 < k", "bounds"),
    "no bound for rows": ("if (i < m) & (j < n)", "if (j < n)", "bounds"),
    "no bound for columns": ("if (i < m) & (j < n)", "if (i < m)", "race"),
    "the result's rows": ("i * ldc + j", "i * (ldc - 3) + j", "race"),
    "the other batch": ("q * c_inner", "p * c_inner", "race"),
    "a shared store at the wrong place": ("sa[(fa_0 + 1) * 5 + ea_0]", "sa[(fa_0 + 1) * 3 + ea_0]", "race"),
    "a shared load at the wrong place": ("sa[z * 5 + y + 2]", "sa[z * 5 + y + 4]", "bounds"),
    "shared memory that is too small": ("sa = cuda.shared.array(20", "sa = cuda.shared.array(17", "bounds"),
    "lanes that go on": ("while step < k", "while step < k + me", "barrier"),
    "below the first": ("first_a = a_offset", "first_a = a_offset - 1", "bounds"),
    "tiles that two groups have": ("tile_column = tile % wide", "tile_column = tile % wide // 2", "race"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG_PRODUCTS)
def test_a_wrong_product(what: str) -> None:
    before, after, kind = WRONG_PRODUCTS[what]
    text = matmul.source("kernel", "float32", tiles=SMALL)
    assert before in text
    assert kind in kinds(product(text.replace(before, after), SMALL, False, False))


# -- sorts -------------------------------------------------------------------------------------------------------------


def sorted_rows(
    text: str, parameters: Sequence[sort.Parameter], lanes: int, least: int = 0, ways: int | None = None
) -> list[Finding]:
    """Of rows of ``least`` elements and more, along any axis of a tensor; in so many choices of buffers, or all."""
    params = [Param(p, "buffer" if of == "buffer" else "size", np.dtype(d or "float32")) for p, of, d in parameters]
    sizes = {p.name: dim(p.name) for p in params if p.kind == "size"}
    n = sizes["n"]
    elements = sizes["outer"], n, sizes["inner"]
    bindings = [sizes[p.name] if p.kind == "size" else buffer("float32", *elements) for p in params]
    facts = [n - least]
    return [f for kernel in read(text, params, lanes)[:ways] for f in check(kernel, bindings, facts=facts, text=True)]


def counting(change: Callable[[str], str] = str) -> list[Finding]:
    return sorted_rows(change(sort.counting("kernel", "float32")), sort.COUNTING, 1)


def tiles(tile: Tile, dtype: str = "float32", change: Callable[[str], str] = str) -> list[Finding]:
    return sorted_rows(change(sort.tiles("kernel", dtype, tile)), sort.tile_parameters(sort.wide(dtype)), tile.threads)


def merging(
    tile: Tile, wide: bool = False, change: Callable[[str], str] = str, ways: int | None = None
) -> list[Finding]:
    text = change(sort.merging("kernel", wide, tile))
    return sorted_rows(text, sort.merge_parameters(wide), tile.threads, tile.size + 1, ways)


def test_counting() -> None:
    assert counting() == []


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        ("<= mine", "< mine", "race"),  # equal ones have one rank
        ("< mine", "<= mine", "race"),
        ("j = i + 1", "j = i + 2", "race"),
        ("j = i + 1", "j = i", "bounds"),
        ("ordinal_float32(x[at + j * inner]) < mine", "x[at + j * inner] < mine", "race"),  # nan has no place
        ("place = 0", "place = 1", "bounds"),
        ("place += 1", "place += 2", "bounds"),
        ("out[at + place * inner]", "out[at + place]", "race"),
        ("mine = ordinal_float32(x[e])", "mine = ordinal_float32(x[at])", "race"),
    ],
)
def test_a_wrong_count(before: str, after: str, kind: str) -> None:
    found = counting(lambda text: text.replace(before, after, 1) if before in text else "")
    assert kind in kinds(found)


# Those of float64 that a GPU runs are in test_check.py, with the registry.
@pytest.mark.parametrize(
    ("tile", "dtype"), [(Tile(4, 3), "float64"), *((tile, "float32") for tile in (Tile(4, 3), *sort.LARGE.tiles))]
)
def test_tiles_of_all_lengths(tile: Tile, dtype: str) -> None:
    assert tiles(tile, dtype) == []


@pytest.mark.parametrize(("tile", "wide"), [(Tile(4, 3), False), (Tile(4, 3), True), (sort.LARGE.tiles[-1], False)])
def test_merging_of_all_lengths(tile: Tile, wide: bool) -> None:
    assert merging(tile, wide) == []


@pytest.mark.parametrize("kernel", ["tiles", "merging"])
def test_every_barrier_is_needed(kernel: str) -> None:
    tile = Tile(4, 3)
    text = sort.tiles("kernel", "float32", tile) if kernel == "tiles" else sort.merging("kernel", False, tile)
    lines = text.splitlines()
    for k in (k for k, line in enumerate(lines) if line.strip() == "barrier()"):
        changed = "\n".join([*lines[:k], lines[k].replace("barrier()", "pass"), *lines[k + 1 :]])
        if kernel == "tiles":
            found = sorted_rows(changed, sort.tile_parameters(False), tile.threads, ways=1)
        else:
            found = sorted_rows(changed, sort.merge_parameters(False), tile.threads, tile.size + 1, ways=1)
        assert "race" in kinds(found), k


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        ("        if n - pair < la:\n            la = n - pair\n", "", "bounds"),
        ("        if me < 2:", "        if me < 3:", "bounds"),
        ("            la = 0\n", "            la = -1\n", "bounds"),
        ("                low = d - lb\n", "                low = d - lb - 1\n", "bounds"),
        ("e < total", "e <= total", "bounds"),
        ("at = o * (n * inner) + q", "at = o * (n * inner) + q // 2", "race"),
        ("start = piece * 12", "start = piece * 11", "race"),
        ("e += 4", "e += 3", "race"),
        ("if left & 1:", "if left & 3:", ""),  # any choice of places is safe
    ],
)
def test_a_wrong_merge(before: str, after: str, kind: str) -> None:
    def change(text: str) -> str:
        assert before in text.replace("elif", "if")
        return text.replace(before, after).replace(f"el{before}", f"el{after}")

    found = kinds(merging(Tile(4, 3), False, change, ways=1))
    assert kind in found if kind else not found
