"""Tables of text for terminals and notebooks. What users name is shown as text, whatever it contains."""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table as RichTable

__all__ = ["Table", "number", "printable", "quantity"]


class Table:
    """What has columns, rows and lines of notes: as text, as HTML, and for the package ``rich`` where it is used.

    Columns are headers; one that ends in ``<`` is flush left, the others are flush right.
    """

    columns: tuple[str, ...] = ()

    def _rows(self) -> Sequence[Sequence[str]]:
        raise NotImplementedError

    def _notes(self) -> Sequence[str]:
        """Lines under the table."""
        return ()

    def __str__(self) -> str:
        rows = [[c.removesuffix("<") for c in self.columns], *([printable(c) for c in row] for row in self._rows())]
        widths = [max(_width(row[k]) for row in rows) for k in range(len(self.columns))]
        lines = []
        for row in rows:
            cells = []
            for cell, header, width in zip(row, self.columns, widths, strict=True):
                fill = " " * (width - _width(cell))
                cells.append(cell + fill if header.endswith("<") else fill + cell)
            lines.append("  ".join(cells).rstrip())
        return "\n".join([*lines, *map(printable, self._notes())])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        sides = ["left" if c.endswith("<") else "right" for c in self.columns]

        def cells(tag: str, row: Sequence[str]) -> str:
            return "".join(
                f'<{tag} style="text-align:{side}">{html.escape(printable(c))}</{tag}>'
                for side, c in zip(sides, row, strict=True)
            )

        head = cells("th", [c.removesuffix("<") for c in self.columns])
        body = "".join(f"<tr>{cells('td', row)}</tr>" for row in self._rows())
        notes = "".join(f"<div>{html.escape(printable(n))}</div>" for n in self._notes())
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{notes}"

    def __rich__(self) -> RichTable:
        from rich.table import Table as Made
        from rich.text import Text

        made = Made(caption=Text("\n".join(map(printable, self._notes()))) if self._notes() else None)
        for c in self.columns:
            made.add_column(c.removesuffix("<"), justify="left" if c.endswith("<") else "right")
        for row in self._rows():
            made.add_row(*(Text(printable(c)) for c in row))  # Text: rich reads [brackets] in strings as markup
        return made


def printable(text: str) -> str:
    """``text`` with what would steer a terminal (escapes, line ends) written out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def number(x: Any) -> str:
    """A number in at most some ten characters."""
    return str(x) if isinstance(x, int) and abs(x) < 10**9 else f"{float(x):.4g}"


def quantity(x: float, unit: str) -> str:
    """``12.3 MB``: three digits and a decimal prefix."""
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(x) >= 0.9995 * factor:
            return f"{x / factor:.3g} {prefix}{unit}"
    return f"{x:.3g} {unit}"


def _width(text: str) -> int:
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
