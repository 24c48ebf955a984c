"""Pieces of LaTeX: their text, and how tightly it binds.

Parentheses are set by comparing bindings, so there are none that are not needed. Products keep their factors apart
until they are written: numbers and scalars are collected in front, as one fraction.

Everything here stays clear of ``<``, ``>`` and of bare text of the user's: what users name is set in ``\\text`` with
every character that means something to TeX or to HTML replaced (:func:`name`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from symgraph.types import Dim, Size

# How tightly pieces bind, from cases to single symbols.
CASES, LOGIC, RELATION, ADD, SIGN, BIG, MUL, MATRIX, FRACTION, APPLY, POWER, ATOM = range(12)

LETTERS: Final = "ijklmnpq"  # for indices
GREEK: Final = frozenset(
    ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu", "xi",
     "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega", "Gamma", "Delta", "Theta", "Lambda", "Xi",
     "Pi", "Sigma", "Upsilon", "Phi", "Psi", "Omega")
)  # fmt: skip


@dataclass(frozen=True)
class Factors:
    """A product: a number over a number, scalars over scalars, and tensors that are multiplied element by element."""

    number: float = 1.0
    below: float = 1.0
    scalars: tuple[Tex, ...] = ()
    under: tuple[Tex, ...] = ()
    tensors: tuple[Tex, ...] = ()


@dataclass(frozen=True)
class Tex:
    """A piece of LaTeX."""

    text: str
    binds: int = ATOM
    size: int = 1
    ndim: int = 0
    head: str = ""  # of a function application: text == head + arguments
    factors: Factors | None = None
    number: float | None = None

    def within(self, least: int) -> str:
        """The text where something is needed that binds at least so tightly."""
        return self.text if self.binds >= least else parens(self.text)


TALL = re.compile(r"\\(frac|sum|prod|begin|left|bigvee|bigwedge)")


def parens(text: str) -> str:
    """In parentheses, of the height of what they hold."""
    return rf"\left({text}\right)" if TALL.search(text) else f"({text})"


# -- names, numbers, sizes ---------------------------------------------------------------------------------------------

_SPECIAL: Final = {
    "<": r"{\lt}", ">": r"{\gt}", "&": r"\&", "$": r"\$", "#": r"\#", "%": r"\%", "_": r"\_", "{": r"\{", "}": r"\}",
    "\\": r"\backslash{}", "~": r"{\sim}", "^": r"{\wedge}", "|": r"{\vert}", "`": r"{\prime}", '"': r"{\prime\prime}",
    "'": r"{\prime}",
}  # fmt: skip


def plain(text: str) -> str:
    """Any text as itself in math mode, at most 40 characters of it."""
    text = text if len(text) <= 40 else text[:39] + "…"
    out = ""
    for run in re.findall(r"[^<>&$#%_{}\\~^|`\"']+|.", text, re.DOTALL):
        if run in _SPECIAL:
            out += _SPECIAL[run]
        else:
            run = "".join(c if c.isprintable() else "\ufffd" for c in run)
            out += rf"\text{{{run}}}"
    return out


def name(text: str) -> str:
    """What users call a thing, as mathematics writes it: ``w_1`` and ``W1`` with subscripts, ``alpha`` as a letter."""
    parts = re.fullmatch(r"([A-Za-z]+)(\d*)((?:_[A-Za-z0-9]+)*)", text)
    if parts is None or len(text) > 40:
        return plain(text)
    word, digits, rest = parts.groups()
    below = [digits] if digits else []
    below += [_word(p) for p in rest.split("_")[1:]]
    return _word(word) + (f"_{{{','.join(below)}}}" if below else "")


def _word(text: str) -> str:
    if text in GREEK:
        return "\\" + text
    return text if len(text) == 1 or text.isdigit() else rf"\mathrm{{{text}}}"


def number(x: float) -> Tex:
    """A number in at most six digits."""
    if math.isnan(x):
        return Tex(r"\mathrm{nan}", number=x)
    if math.isinf(x):
        return Tex(r"\infty" if x > 0 else r"-\infty", ATOM if x > 0 else SIGN, number=x)
    text = str(int(x)) if float(x).is_integer() and abs(x) < 1e7 else f"{x:.6g}"
    binds = SIGN if text.startswith("-") else ATOM
    if "e" in text:
        mantissa, exponent = text.split("e")
        ten = f"10^{{{int(exponent)}}}"
        text = ten if mantissa == "1" else "-" + ten if mantissa == "-1" else rf"{mantissa} \times {ten}"
        binds = SIGN if text.startswith("-") else POWER if mantissa == "1" else MUL
    return Tex(text, binds, number=float(x))


def size(n: Size) -> str:
    """A size: a number, a name, or the formula of it that the graph prints."""
    if not isinstance(n, Dim):
        return str(int(n))
    text = str(n)
    return name(text) if re.fullmatch(r"\w+", text) else plain(text)


def shape(sizes: Sequence[Size]) -> str:
    """Sizes with crosses between them."""
    return r" \times ".join(size(n) for n in sizes)


def subscript(x: Tex, index: str) -> Tex:
    """``x`` at an index; an index that is there already goes before it."""
    found = re.fullmatch(r"(.*[^\\])_\{([^{}]*)\}", x.text) if x.binds == ATOM else None
    inner = x.within(ATOM)
    if re.search(r"[^\\]_\{.*\}$", inner):
        inner = f"{{{inner}}}"  # TeX takes one subscript
    text = f"{found[1]}_{{{found[2]},{index}}}" if found else f"{inner}_{{{index}}}"
    return Tex(text, ATOM, x.size + 1)


# -- products ----------------------------------------------------------------------------------------------------------


def factors(x: Tex) -> Factors:
    """What ``x`` is the product of."""
    if x.factors is not None:
        return x.factors
    if x.number is not None and math.isfinite(x.number):
        return Factors(number=x.number)
    return Factors(tensors=(x,)) if x.ndim else Factors(scalars=(x,))


def times(a: Tex, b: Tex, ndim: int) -> Tex:
    """The product, element by element."""
    f, g = factors(a), factors(b)
    made = Factors(
        f.number * g.number, f.below * g.below, f.scalars + g.scalars, f.under + g.under, f.tensors + g.tensors
    )
    return product(made, ndim, a.size + b.size)


def over(a: Tex, b: Tex, ndim: int) -> Tex:
    """The quotient, element by element."""
    f, g = factors(a), factors(b)
    if g.tensors:
        return Tex(rf"\frac{{{a.text}}}{{{b.text}}}", FRACTION, a.size + b.size + 1, ndim)
    made = Factors(f.number * g.below, f.below * g.number, f.scalars + g.under, f.under + g.scalars, f.tensors)
    return product(made, ndim, a.size + b.size + 1)


def product(f: Factors, ndim: int, size: int) -> Tex:
    """A product as it is written: sign, fraction of numbers and scalars, then the tensors."""
    negative = (f.number < 0) != (f.below < 0)
    top, below = abs(f.number), abs(f.below)
    if below not in (0.0, 1.0) and (top / below).is_integer():
        top, below = top / below, 1.0
    scalars, under, behind = (_gathered(x) for x in (f.scalars, f.under, f.tensors))
    if not behind and scalars and scalars[-1].binds == BIG:
        scalars, behind = scalars[:-1], scalars[-1:]  # a sum stands behind the fraction, not in it
    divided = below != 1.0 or bool(under)
    if divided and not scalars and len(behind) == 1 and behind[0].size <= 8 and behind[0].binds != BIG:
        scalars, behind = behind, ()
    pieces: list[Tex] = []
    if divided:
        pieces.append(Tex(rf"\frac{{{_row(top, scalars).text}}}{{{_row(below, under).text}}}", FRACTION))
    elif top != 1.0 or scalars:
        pieces.append(_row(top, scalars))
    if len(behind) == 1:
        pieces.append(behind[0])
    elif behind:
        pieces.append(Tex(r" \odot ".join(x.within(MATRIX) for x in behind), MUL))
    whole = _juxtaposed(pieces) if pieces else number(1.0)
    text, binds = (f"-{whole.within(BIG)}", SIGN) if negative else (whole.text, whole.binds)
    return Tex(text, binds, size, ndim, whole.head if not negative else "", f)


def power(x: Tex, exponent: str, size: int = 1) -> Tex:
    """``x`` to a power; that of a function goes behind its name."""
    if x.head.startswith("\\") and re.fullmatch(r"\d+", exponent) and x.binds == APPLY and "^" not in x.head:
        head = f"{x.head}^{{{exponent}}}"
        return Tex(head + x.text[len(x.head) :], APPLY, x.size + size, x.ndim, head)
    return Tex(f"{x.within(ATOM)}^{{{exponent}}}", POWER, x.size + size, x.ndim)


def _gathered(items: Sequence[Tex]) -> tuple[Tex, ...]:
    """Factors that are equal, as powers."""
    times: dict[str, int] = {}
    for x in items:
        times[x.text] = times.get(x.text, 0) + 1
    first = {x.text: x for x in reversed(items)}
    return tuple(first[t] if n == 1 else power(first[t], str(n)) for t, n in times.items())


def _row(value: float, items: Sequence[Tex]) -> Tex:
    return _juxtaposed([number(value), *items] if value != 1.0 or not items else items)


def _juxtaposed(pieces: Sequence[Tex]) -> Tex:
    """Factors side by side; a dot where a number would run into what stands before it."""
    if len(pieces) == 1:
        return pieces[0]
    text = ""
    for k, x in enumerate(pieces):
        last = k == len(pieces) - 1
        t = x.within(BIG if last else MUL)
        text += ("" if not k else r" \cdot " if t[:1].isdigit() else r" \, ") + t
    return Tex(text, BIG if pieces[-1].binds == BIG else MUL)
