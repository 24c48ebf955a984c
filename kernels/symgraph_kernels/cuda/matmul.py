"""Matrix products in tiles of shared memory, for NVIDIA GPUs: C[m, n] (+)= op(A)[m, k] op(B)[k, n], batched.

::

    source(name, dtype, trans_a, trans_b, tiles, epilogue, parameters) -> str     a kernel, in Python for Numba-CUDA
    PARAMETERS: (name, kind) of what every kernel takes, in order
    STORE, ADD: epilogues that store C, or add to it
    count_tiles(m, n, outer, inner, tiles) -> int                                 groups that have work

A group is a block of ``tiles.threads`` lanes, and computes a tile of C: it goes through k in steps of ``tiles.k``, for
each of which its lanes bring a piece of A and a piece of B into shared memory, 16 bytes at once where that is aligned.
A lane has ``tiles.each_m`` × ``tiles.each_n`` elements of C in registers, in strides, so that neighbouring lanes read
neighbouring words of shared memory and write neighbouring elements of C. The tiles of BLAS's ``gemm`` and of CUTLASS:
Goto and van de Geijn, "Anatomy of high-performance matrix multiplication" (2008), one level lower.

What is done with each element of C is the *epilogue*: lines of Python, in which ``value`` is the element, ``i`` and
``j`` are its row and its column, ``p`` and ``q`` the outer and the inner index of its matrix in the batch, and ``at``
is where it lies, or would lie, in C. It may use parameters of its own, and new names: letters and a number.

Sums are in the order of k, with fused multiply-adds, whatever the sizes of tiles: the result depends on nothing else.
Matrices are row-major: ``lda``, ``ldb``, ``ldc`` are the distances between stored rows. There are two batch axes, with
a stride for each operand. Needs nothing but text: the vocabulary is that of :mod:`~symgraph_kernels.cuda.threads`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from math import gcd


@dataclass(frozen=True)
class Tiles:
    """Sizes of tiles.

    Attributes:
        m, n: of C, for a block.
        k: of A and B in shared memory.
        each_m, each_n: elements of C of one thread.
    """

    m: int = 64
    n: int = 64
    k: int = 16
    each_m: int = 4
    each_n: int = 4

    def __post_init__(self) -> None:
        lanes = self.threads
        if self.m % self.each_m or self.n % self.each_n or self.m * self.k % lanes or self.n * self.k % lanes:
            raise ValueError(f"{self}: {lanes} threads do not share the tiles evenly")
        if lanes & (lanes - 1):
            raise ValueError(f"{self}: {lanes} threads: wanted a power of two")

    @property
    def threads(self) -> int:
        """Of a block."""
        return (self.m // self.each_m) * (self.n // self.each_n)

    def shared(self, itemsize: int) -> int:
        """Bytes of shared memory."""
        return self.k * (self.m + 1 + self.n + 1) * itemsize


MEDIUM = Tiles()
"""Enough blocks for products of some hundred rows and columns."""
LARGE = Tiles(128, 128, 8, 8, 8)
"""Each word from shared memory is used eight times: arithmetic and shared memory are then equally busy."""
SMALL = Tiles(4, 4, 4, 2, 2)
"""Four threads: for the simulator."""

PARAMETERS: tuple[tuple[str, str], ...] = (
    ("m", "size"), ("n", "size"), ("k", "size"),
    ("a", "buffer"), ("a_offset", "size"), ("lda", "size"),
    ("b", "buffer"), ("b_offset", "size"), ("ldb", "size"),
    ("ldc", "size"),
    ("outer", "size"), ("inner", "size"),
    ("a_outer", "size"), ("a_inner", "size"), ("b_outer", "size"), ("b_inner", "size"),
    ("c_outer", "size"), ("c_inner", "size"),
)  # fmt: skip
"""Those of the epilogue follow: ``c``, a buffer, unless it is said."""

STORE = ("c[at] = value",)
ADD = ("c[at] = c[at] + value",)


def count_tiles(m: int, n: int, outer: int, inner: int, tiles: Tiles) -> int:
    """How many tiles C has, over all matrices of the batch."""
    return -(-m // tiles.m) * -(-n // tiles.n) * outer * inner


def source(
    name: str,
    dtype: str,
    trans_a: bool = False,
    trans_b: bool = False,
    tiles: Tiles = MEDIUM,
    epilogue: Sequence[str] = STORE,
    parameters: Sequence[str] | None = None,
) -> str:
    """A kernel's text. ``dtype`` is ``float32`` or ``float64``.

    ``epilogue``: what is done with each element; ``parameters``: what it takes, as ``"name: type"``.
    """
    t, lanes = tiles, tiles.threads
    across, down = t.n // t.each_n, t.m // t.each_m  # lanes along n and m
    word = {"size": "int64", "buffer": f"pointer_{dtype}"}
    own = [f"c: {word['buffer']}"] if parameters is None else parameters
    lines = [f"def {name}({', '.join([*(f'{p}: {word[kind]}' for p, kind in PARAMETERS), *own])}):"]

    def put(depth: int, *texts: str) -> None:
        lines.extend("    " * depth + text for text in texts)

    itemsize = 4 if dtype == "float32" else 8
    pieces = (
        _Piece("a", "row", "m", t.m, t.k, not trans_a, lanes, itemsize),
        _Piece("b", "column", "n", t.n, t.k, trans_b, lanes, itemsize),
    )
    wide_a, wide_b = (piece.wide for piece in pieces)
    sums = [[f"r{i}_{j}" for j in range(t.each_n)] for i in range(t.each_m)]
    put(1, f"sa = cuda.shared.array({t.k * wide_a}, memory_{dtype})",
        f"sb = cuda.shared.array({t.k * wide_b}, memory_{dtype})",
        "me = lane()", f"y = me // {across}", f"x = me % {across}")  # fmt: skip
    put(1, *(line for piece in pieces for line in piece.places()))
    put(1, f"zero = {dtype}(0)",
        f"high = (m + {t.m - 1}) // {t.m}", f"wide = (n + {t.n - 1}) // {t.n}",
        "tile = group()",
        "while tile < wide * high * inner * outer:")  # fmt: skip
    # The digits of the tile's number, written as loops that are dealt out have them, for checkers that read the text.
    put(2, "p = tile // (wide * high * inner)", "q = tile // (wide * high) % inner",
        "tile_row = tile // wide % high", "tile_column = tile % wide",
        f"row = tile_row * {t.m}", f"column = tile_column * {t.n}",
        "first_a = a_offset + p * a_outer + q * a_inner", "first_b = b_offset + p * b_outer + q * b_inner")  # fmt: skip
    put(2, *(line for piece in pieces for line in piece.flag()))
    put(2, *(f"{r} = zero" for of_row in sums for r in of_row))
    put(2, "step = 0", "while step < k:")
    # All loads before all stores: lanes wait for memory once.
    put(3, *(line for piece in pieces for line in piece.loads()))
    put(3, *(line for piece in pieces for line in piece.stores()))
    put(3, "barrier()", "z = 0", f"while z < {t.k}:")
    put(4, *(f"u_{i} = sa[z * {wide_a} + y + {i * down}]" for i in range(t.each_m)))
    put(4, *(f"w_{j} = sb[z * {wide_b} + x + {j * across}]" for j in range(t.each_n)))
    put(4, *(f"{r} = fma_{dtype}(u_{i}, w_{j}, {r})" for i, of_row in enumerate(sums) for j, r in enumerate(of_row)))
    put(4, "z += 1")
    put(3, "barrier()", f"step += {t.k}")
    # Loops, in which the sums move up: the epilogue is compiled once, and unrolled by the compiler where it is short.
    put(2, f"for turn in range({t.each_m}):")
    put(3, f"i = row + y + turn * {down}", f"for along in range({t.each_n}):")
    put(4, f"j = column + x + along * {across}", "value = r0_0", "if (i < m) & (j < n):")
    put(5, "at = p * c_outer + q * c_inner + i * ldc + j", *epilogue)
    put(4, *(f"{r} = {following}" for r, following in pairwise(r for of_row in sums for r in of_row)))
    put(2, "tile += groups()")
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class _Piece:
    """What a block brings of A or B in one step: lines of its kernel. Element ``(e, f)`` goes to ``f * wide + e``.

    A lane brings ``count`` neighbouring elements of a stored row in each of its ``turns``: by one load where these are
    aligned and all in the matrix, else one by one, with zeros where the matrix ends.

    Attributes:
        matrix: ``a`` or ``b``.
        start, end: along m or n, names of where the piece begins and of where the matrix ends.
        size, depth: of the piece, along m or n and along k.
        along: whether stored rows go along k.
        lanes: of a block.
        itemsize: bytes of an element.
    """

    matrix: str
    start: str
    end: str
    size: int
    depth: int
    along: bool
    lanes: int
    itemsize: int

    @property
    def wide(self) -> int:
        """One word more than there are elements: lanes that go along k then meet different banks."""
        return self.size + 1

    @property
    def row(self) -> int:
        """Elements of a stored row in the piece."""
        return self.depth if self.along else self.size

    @property
    def count(self) -> int:
        """As many as 16 bytes have; fewer, where rows do not divide by that, or lanes would not all bring as many."""
        count = 16 // self.itemsize
        while self.row % count or self.size * self.depth % (count * self.lanes):
            count //= 2
        return count

    @property
    def turns(self) -> range:
        return range(self.size * self.depth // (self.count * self.lanes))

    def element(self, turn: int, k: int) -> tuple[str, str]:
        """Where the ``k``-th element of a turn lies in the piece."""
        e, f = f"e{self.matrix}_{turn}", f"f{self.matrix}_{turn}"
        more = f" + {k}" if k else ""
        return (e, f + more) if self.along else (e + more, f)

    def value(self, turn: int, k: int) -> str:
        return f"v{self.matrix}_{turn * self.count + k}"

    def address(self, turn: int) -> str:
        """Of the first element of a turn, in the matrix."""
        e, f = self.element(turn, 0)
        far, near = (f"{self.start} + {e}", f"step + {f}") if self.along else (f"step + {f}", f"{self.start} + {e}")
        return f"first_{self.matrix} + ({far}) * ld{self.matrix} + {near}"

    def places(self) -> Iterator[str]:
        """The first element of each turn.

        Neighbouring lanes go along 128 bytes of a row, a line of the cache, then along as much of the next row. Stores
        of a warp, in steps of ``count``, then meet all banks where rows do not go along k, and half of them elsewhere.
        """
        line = gcd(self.row, 128 // self.itemsize)
        rows = self.size * self.depth // self.row
        for turn in self.turns:
            number = f"(me + {turn * self.lanes})" if turn else "me"
            across = line // self.count
            near = f"{number} % {across}" + (f" * {self.count}" if self.count > 1 else "")
            far = f"{number} // {across}"
            if line < self.row:
                near += f" + {number} // {across * rows} * {line}"
                far += f" % {rows}"
            e, f = self.element(turn, 0)
            yield f"{e} = {far if self.along else near}"
            yield f"{f} = {near if self.along else far}"

    def flag(self) -> Iterator[str]:
        """Whether all loads of several elements are aligned, in a tile."""
        if self.count > 1:
            x, count = self.matrix, self.count
            yield f"wide_{x} = aligned({x}, first_{x}, {count}) & (ld{x} % {count} == 0)"

    def loads(self) -> Iterator[str]:
        for turn in self.turns:
            yield f"at = {self.address(turn)}"
            single = [line for k in range(self.count) for line in self.load(turn, k)]
            if self.count == 1:
                yield from single
                continue
            values = ", ".join(self.value(turn, k) for k in range(self.count))
            yield f"if wide_{self.matrix} & {self.inside(turn, self.count - 1)}:"
            yield f"    {values} = fetch_{self.count}({self.matrix}, at)"
            yield "else:"
            yield from (f"    {line}" for line in single)

    def load(self, turn: int, k: int) -> Iterator[str]:
        """One element, by itself."""
        value = self.value(turn, k)
        yield f"{value} = zero"
        yield f"if {self.inside(turn, k)}:"
        yield f"    {value} = {self.matrix}[at{f' + {k}' if k else ''}]"

    def inside(self, turn: int, k: int) -> str:
        """Whether the matrix has an element."""
        e, f = self.element(turn, k)
        return f"({self.start} + {e} < {self.end}) & (step + {f} < k)"

    def stores(self) -> Iterator[str]:
        for turn, k in product(self.turns, range(self.count)):
            e, f = self.element(turn, k)
            far = f"({f})" if self.along and k else f
            yield f"s{self.matrix}[{far} * {self.wide} + {e}] = {self.value(turn, k)}"
