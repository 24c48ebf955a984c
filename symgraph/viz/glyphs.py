"""Text in pictures: how wide it is, about, and what of it XML can hold."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

# Advance widths in em of DejaVu Sans Bold, the widest of the common sans-serif fonts: the reader's font is not known.
_WIDTHS = {
    **dict.fromkeys("ijlI'|", 0.36), **dict.fromkeys(" .,:;·", 0.4), **dict.fromkeys("()[]/-!f", 0.46),
    **dict.fromkeys("trJ_", 0.52), **dict.fromkeys("scvxyz*", 0.66), **dict.fromkeys("+=<>×→~±", 0.84),
    **dict.fromkeys("mwMW@%—…", 1.06),
}  # fmt: skip
_MONO, _REGULAR = 0.62, 0.9
# What XML 1.0 cannot hold, not even escaped.
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@lru_cache(maxsize=4096)
def text_width(text: str, size: float, mono: bool = False, bold: bool = False) -> float:
    """Pixels that ``text`` takes at most, about, in a font of ``size`` pixels."""
    total = 0.0
    for c in text:
        if unicodedata.east_asian_width(c) in "WF":
            total += 1.05
        elif mono:
            total += _MONO
        else:
            total += _WIDTHS.get(c, 0.8 if c.isupper() else 0.7) * (1 if bold else _REGULAR)
    return total * size


def clean(text: str) -> str:
    """``text`` with what XML cannot hold replaced by U+FFFD."""
    return _ILLEGAL.sub("\ufffd", text)


def escape(text: str) -> str:
    """``text`` as character data or attribute value of XML."""
    out = clean(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return out.replace('"', "&quot;").replace("'", "&#39;")


def number(x: float) -> str:
    """A coordinate, in as few characters as it takes."""
    return f"{x:.1f}".rstrip("0").rstrip(".")


def bytes_text(n: int) -> str:
    """``12.3 kB``."""
    value = float(n)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{n} B" if unit == "B" else f"{value:.3g} {unit}"
        value /= 1000
    raise AssertionError
