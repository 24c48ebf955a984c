"""Stable sorting of the rows of a tensor, for NVIDIA GPUs: the positions that put each row in ascending order.

::

    counting(name, dtype) -> str            rows of a few elements: one launch
    tiles(name, dtype, tile) -> str         rows that fit into a tile: one launch; tiles of longer rows, in order
    merging(name, wide, tile) -> str        pairs of runs merged: launched until a run is the row
    COUNTING, tile_parameters(wide), merge_parameters(wide): (name, kind, dtype) of what they take, in order

*Order.* An element becomes an unsigned number, its ordinal (``ordinal_<dtype>`` of
:mod:`~symgraph_kernels.cuda.scalar`): -0.0 is 0.0, nan is the largest. Of dtypes of at most 32 bits, ordinal and
position are one word of 64 bits, the ordinal in front: no two words are equal, and to compare words is to compare
elements and then positions. Of *wide* dtypes, those of 64 bits, the ordinal is the word, and the position, 32 bits, is
moved along; runs are merged so that of equal words those of the run in front come first.

*Counting.* A thread has an element, and counts those that come before it.

*Tiles.* A group is a block of ``tile.threads`` lanes. A lane sorts ``tile.each`` elements in registers, and then runs
of twice as many lanes are merged through shared memory until one is the tile.

*Merging.* A group makes ``tile.size`` neighbouring elements of a merged run. Where these begin and end in both runs is
found by bisection, on the *merge path* of Odeh, Green, Mwassi, Shmueli and Birk, "Merge path: parallel merging made
simple" (2012); the two pieces are brought to shared memory, and the lanes merge them there, by the same search. So any
number of groups works on a row, and all have the same to do.

Runs go to and fro between two places: scratch memory, and the memory of the result, whose elements have the width of a
word. The launch of number ``turn`` reads scratch if an odd number of launches is left, itself included: the last one
reads scratch and writes positions. How many there are follows from the length of a row, in each thread.

There are ``outer * inner`` rows: row ``o * inner + q`` begins at ``o * n * inner + q`` and goes on in steps of
``inner``, since the axis that is sorted need not be the last. Groups go through the rows first: neighbouring rows,
whose elements are neighbours then, are brought by groups that run at the same time, and share what comes from memory.
Scratch holds each row in one piece. Bounds hold whatever is loaded: a search ends between the ends that it began with.

Rows have at most 2**32 - 1 elements. Needs nothing but text: the vocabulary is that of
:mod:`~symgraph_kernels.cuda.threads`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Tile:
    """The elements that a block sorts in shared memory.

    Attributes:
        threads: of the block, a power of two.
        each: elements of one thread; an odd number, so that lanes that write theirs meet different banks.
    """

    threads: int
    each: int

    def __post_init__(self) -> None:
        if self.threads < 2 or self.threads & (self.threads - 1):
            raise ValueError(f"{self}: wanted a power of two, of at least two threads")

    @property
    def size(self) -> int:
        """Elements."""
        return self.threads * self.each


@dataclass(frozen=True)
class Shapes:
    """Which rows are sorted how: up to ``few`` elements by counting, others in the first tile that they fit into.

    Attributes:
        few: elements.
        tiles: in ascending order; the last is that of rows that fit into none, and of merging.
    """

    few: int
    tiles: tuple[Tile, ...]


LARGE = Shapes(64, (Tile(64, 7), Tile(256, 7)))
"""By count, 64 elements read 64 each, from a cache; a tile's lanes would be idle and have ten barriers for each row."""
SMALL = Shapes(1, (Tile(2, 2), Tile(2, 3)))
"""Two threads: for the simulator."""

Parameter = tuple[str, str, str]
"""Name, ``buffer`` or ``size``, and dtype; ``""`` is the dtype of what is sorted."""

_SIZES: tuple[Parameter, ...] = (("n", "size", "int64"), ("inner", "size", "int64"), ("outer", "size", "int64"))
_KEYS: tuple[Parameter, ...] = (("out", "buffer", "uint64"), ("keys", "buffer", "uint64"))
_PLACES: tuple[Parameter, ...] = (("places", "buffer", "uint32"), ("others", "buffer", "uint32"))

COUNTING: tuple[Parameter, ...] = (("x", "buffer", ""), *_SIZES, _KEYS[0])
"""Of :func:`counting`."""


def tile_parameters(wide: bool) -> tuple[Parameter, ...]:
    """Of :func:`tiles`. ``keys``, and of wide dtypes ``places`` and ``others``, are scratch, as long as ``x``."""
    return (("x", "buffer", ""), *_SIZES, *_KEYS, *(_PLACES if wide else ()))


def merge_parameters(wide: bool) -> tuple[Parameter, ...]:
    """Of :func:`merging`."""
    return (("turn", "size", "int64"), *_SIZES, *_KEYS, *(_PLACES if wide else ()))


def wide(dtype: str) -> bool:
    """Whether ordinals of a dtype have 64 bits."""
    return dtype.endswith("64")


def passes(n: int, tile: Tile) -> int:
    """How many launches of :func:`merging` follow on tiles of a row of ``n`` elements."""
    return max(0, -(-n // tile.size) - 1).bit_length()


# -- kernels -----------------------------------------------------------------------------------------------------------


class _Text:
    """Lines of a kernel."""

    def __init__(self, name: str, parameters: Sequence[Parameter], dtype: str = "") -> None:
        kinds = [f"{p}: {'pointer_' * (kind == 'buffer')}{of or dtype}" for p, kind, of in parameters]
        self.lines = [f"def {name}({', '.join(kinds)}):"]

    def put(self, depth: int, *texts: str) -> None:
        self.lines.extend("    " * depth + text for text in texts)

    def __str__(self) -> str:
        return "\n".join(self.lines) + "\n"


def counting(name: str, dtype: str) -> str:
    """Rows of a few elements: each finds its place by counting those before it. Sizes as of :func:`tiles`."""
    t = _Text(name, COUNTING, dtype)
    t.put(1, "e = thread()", "while e < outer * n * inner:")
    t.put(2, "o = e // (n * inner)", "i = e // inner % n", "q = e % inner", _ROW,
          f"mine = {_ordinal(dtype, 'x[e]')}", "place = 0", "j = 0", "while j < i:")  # fmt: skip
    t.put(3, f"if {_ordinal(dtype, 'x[at + j * inner]')} <= mine:", "    place += 1", "j += 1")
    t.put(2, "j = i + 1", "while j < n:")
    t.put(3, f"if {_ordinal(dtype, 'x[at + j * inner]')} < mine:", "    place += 1", "j += 1")
    t.put(2, "out[at + place * inner] = uint64(i)", "e += threads()")
    return str(t)


def tiles(name: str, dtype: str, tile: Tile) -> str:
    """Tiles of rows of ``x``, sorted: positions in ``out`` of rows that fit into one, else runs for :func:`merging`."""
    apart, each, lanes = wide(dtype), tile.each, tile.threads
    parts = _parts(apart)
    t = _Text(name, tile_parameters(apart), dtype)
    _begin(t, parts, tile, "left = passes", *_places(parts, f"n <= {tile.size}"))
    t.put(2, _ROW, *_smaller("total", str(tile.size), "n - start"))
    for k in range(each):
        t.put(2, f"i = start + me + {k * lanes}", f"r{k} = ~uint64(0)", f"if me + {k * lanes} < total:")
        key = f"uint64({_ordinal(dtype, 'x[at + i * inner]')})"
        t.put(3, f"r{k} = {key}" if apart else f"r{k} = ({key} << uint64(32)) | uint64(i)")
        t.put(2, *([f"p{k} = uint32(i)"] if apart else []))
    t.put(2, *_brought(parts, tile))
    t.put(2, "barrier()", *(f"{r}{k} = {s}[me * {each} + {k}]" for k in range(each) for r, s, _ in parts))
    t.put(2, *_sorted(parts, each))
    t.put(2, "wide = 1", f"while wide < {lanes}:")
    t.put(3, "barrier()", *_stored(parts, each), "barrier()", "part = me & (2 * wide - 1)",
          f"base = (me - part) * {each}", f"d = part * {each}", f"la = wide * {each}", "lb = la")  # fmt: skip
    t.put(3, *_merged(parts, each), "wide = wide * 2")
    _end(t, parts, tile, f"n <= {tile.size}")
    return str(t)


def merging(name: str, apart: bool, tile: Tile) -> str:
    """Pairs of runs of ``tile.size << turn`` elements, merged; ``apart``: words of a wide dtype, with positions."""
    each, lanes, size = tile.each, tile.threads, tile.size
    parts = _parts(apart)
    t = _Text(name, merge_parameters(apart))
    _begin(t, parts, tile, "left = passes - turn - 1", f"run = {size} << turn",
           "cut = cuda.shared.array(2, memory_int64)", *_places(parts, "left == 0", True))  # fmt: skip
    t.put(2, f"pair = (piece >> (turn + 1) << (turn + 1)) * {size}", "first = row * n + pair")
    t.put(2, *_smaller("la", "run", "n - pair"), *_smaller("lb", "run", "n - pair - la"), "second = first + la")
    # The first two lanes find where the piece begins and where it ends, at the same time.
    t.put(2, "if me < 2:")
    t.put(3, *_smaller("d", f"start - pair + me * {size}", "la + lb"))
    t.put(3, *_search(lambda at: f"of_sk[first + {at}]", lambda at: f"of_sk[second + {at}]"), "cut[me] = low")
    t.put(2, "barrier()", "a0 = cut[0]", "a1 = cut[1]", "b0 = start - pair - a0")
    # Runs in order are cut in order. The bounds are for others: what is touched does not depend on what is loaded.
    t.put(2, *_smaller("total", str(size), "la + lb - (start - pair)"), *_smaller("la", "a1 - a0", "total"))
    t.put(2, "if la < 0:", "    la = 0", "lb = total - la", "first = first + a0", "second = second + b0 - la")
    for k in range(each):
        t.put(2, f"e = me + {k * lanes}", *(f"{r}{k} = {dtype}(0)" for r, _, dtype in parts), "if e < total:")
        t.put(3, "where = e + (first if e < la else second)", *(f"{r}{k} = of_{s}[where]" for r, s, _ in parts))
    t.put(2, *_brought(parts, tile), "barrier()")
    t.put(2, "base = 0", *_smaller("d", f"me * {each}", "total"), *_merged(parts, each))
    _end(t, parts, tile, "left == 0")
    return str(t)


# -- pieces of kernels -------------------------------------------------------------------------------------------------

Part = tuple[str, str, str]
"""What is moved: the names of registers, and of shared memory, and the dtype."""


def _parts(apart: bool) -> list[Part]:
    return [("r", "sk", "uint64"), *([("p", "sp", "uint32")] if apart else [])]


def _ordinal(dtype: str, element: str) -> str:
    """The ordinal of an element in memory."""
    if dtype == "bool":
        return f"ordinal_uint8(uint8({element} != 0))"
    return f"ordinal_float32(float32({element}))" if dtype == "float16" else f"ordinal_{dtype}({element})"


_ROW = "at = o * (n * inner) + q"
_SCRATCH, _OUT = {"sk": "keys", "sp": "places"}, {"sk": "out", "sp": "others"}
"""Where runs lie between launches, by the shared memory that they come from."""


def _places(parts: Sequence[Part], last: str, reads: bool = False) -> list[str]:
    """Names for where runs are stored, and ``reads`` from where, by the number of launches after this one.

    ``last``: whether there is none.
    """

    def named(to: Mapping[str, str], of: Mapping[str, str]) -> list[str]:
        names = [("to", to), ("of", of)] if reads else [("to", to)]
        return [f"    {name}_{s} = {where[s]}" for name, where in names for _, s, _ in parts]

    to_out, to_scratch = named(_OUT, _SCRATCH), named(_SCRATCH, _OUT)
    return [f"if {last}:", *to_out, "elif left & 1:", *to_scratch, "else:", *to_out]


def _begin(t: _Text, parts: Sequence[Part], tile: Tile, *more: str) -> None:
    """Shared memory, the number of launches that merge, where to store, and the loop over the groups' pieces."""
    size = tile.size
    t.put(1, *(f"{s} = cuda.shared.array({size}, memory_{dtype})" for _, s, dtype in parts))
    t.put(1, "me = lane()", "passes = 0", f"if n > {size}:", f"    longest = {size}", "    while longest < n:",
          "        longest = longest * 2", "        passes += 1", *more, f"pieces = (n + {size - 1}) // {size}",
          "g = group()", "while g < pieces * outer * inner:")  # fmt: skip
    t.put(2, "piece = g // (outer * inner)", "o = g // inner % outer", "q = g % inner", "row = o * inner + q",
          f"start = piece * {size}")  # fmt: skip


def _end(t: _Text, parts: Sequence[Part], tile: Tile, last: str) -> None:
    """Registers to where the next launch reads them; the ``last`` launch stores positions where these belong."""
    apart = len(parts) > 1
    t.put(2, "barrier()", *_stored(parts, tile.each), "barrier()")
    t.put(2, "at = row * n", "step = 1", f"if {last}:", f"    {_ROW}", "    step = inner")
    t.put(2, "e = me", "while e < total:")
    t.put(3, "where = at + (start + e) * step", "key = sk[e]", f"if {last}:")
    t.put(4, "key = uint64(sp[e])" if apart else "key = key & uint64(4294967295)")
    t.put(3, *(["else:", "    to_sp[where] = sp[e]"] if apart else []), "to_sk[where] = key", f"e += {tile.threads}")
    t.put(2, "g += groups()")  # a lane brings the next elements to where it has read itself: no barrier


def _brought(parts: Sequence[Part], tile: Tile) -> list[str]:
    """What neighbouring lanes have of neighbouring elements, to shared memory: all loads are under way before."""
    return [f"{s}[me + {k * tile.threads}] = {r}{k}" for k in range(tile.each) for r, s, _ in parts]


def _smaller(name: str, a: str, b: str) -> list[str]:
    """``name = min(a, b)``"""
    return [f"{name} = {a}", f"if {b} < {name}:", f"    {name} = {b}"]


def _sorted(parts: Sequence[Part], each: int) -> list[str]:
    """Registers in order, by exchanges of neighbours: stable, since equal ones stay where they are."""
    out = []
    for turn in range(each):
        for k in range(turn % 2, each - 1, 2):
            out.append(f"swap = r{k + 1} < r{k}")
            for r, _, dtype in parts:
                out += [f"{r} = select_{dtype}(swap, {r}{k + 1}, {r}{k})",
                        f"{r}{k + 1} = select_{dtype}(swap, {r}{k}, {r}{k + 1})", f"{r}{k} = {r}"]  # fmt: skip
    return out


def _search(a: Callable[[str], str], b: Callable[[str], str]) -> list[str]:
    """``low``: how many of the first ``d`` of two merged runs, of ``la`` and ``lb`` elements, are of the first run."""
    return ["low = 0", "if d > lb:", "    low = d - lb", *_smaller("high", "d", "la"), "while low < high:",
            "    middle = (low + high) >> 1", f"    if {a('middle')} <= {b('d - 1 - middle')}:",
            "        low = middle + 1", "    else:", "        high = middle"]  # fmt: skip


def _merged(parts: Sequence[Part], each: int) -> list[str]:
    """Registers: from ``d`` on of two runs of shared memory, ``la`` elements from ``base``, and ``lb`` after these."""
    out = _search(lambda at: f"sk[base + {at}]", lambda at: f"sk[base + la + {at}]")
    out += ["a = base + low", "a_end = base + la", "b = a_end + d - low", "b_end = a_end + lb"]
    for end in "ab":
        fetched = [f"{r}{end} = {s}[{end}]" for r, s, _ in parts]
        out += [f"{r}{end} = {dtype}(0)" for r, _, dtype in parts]
        out += [f"if {end} < {end}_end:", *(f"    {f}" for f in fetched)]
    for k in range(each):
        out.append("front = (b >= b_end) | ((a < a_end) & (ra <= rb))")
        out += [f"{r}{k} = select_{dtype}(front, {r}a, {r}b)" for r, _, dtype in parts]
        if k == each - 1:
            break
        for head, end in (("if front:", "a"), ("else:", "b")):
            out += [head, f"    {end} += 1", f"    if {end} < {end}_end:"]
            out += [f"        {r}{end} = {s}[{end}]" for r, s, _ in parts]
    return out


def _stored(parts: Sequence[Part], each: int) -> list[str]:
    return [f"{s}[me * {each} + {k}] = {r}{k}" for k in range(each) for r, s, _ in parts]
