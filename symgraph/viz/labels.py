"""Names as a reader wants them in a box: short, and with what matters."""

from __future__ import annotations

from typing import Any

from symgraph.graph import Apply

# Parameters that the types of operands and results say already.
_SILENT = frozenset(
    (
        "broadcast",
        "reshape",
        "assert_shape",
        "full",
        "iota",
        "size_of",
        "accumulate",
        "cast",
        "stop_gradient",
        "gather",
        "scatter_add",
    )
)
_LETTERS = "ijklmnpqrstuvwxyzabcdefgh"


def op_label(node: Apply, text: str) -> tuple[str, str]:
    """The name of a node's op, and its static parameters; ``text`` is the op as :class:`Printer` prints it."""
    op: Any = node.op
    name = op.name
    if name == "contract":
        return "contract", _einsum(op)
    if name == "contract_add":
        return "contract add", _einsum(op.contract)
    if name in _SILENT or name == text:
        return name, ""
    inside = text.removeprefix(name).strip("{}")
    return name, short(inside.replace("axes=", "axes ").replace("axis=", "axis "), 32)


def _einsum(contract: Any) -> str:
    used: dict[int, str] = {}

    def letters(labels: tuple[int, ...]) -> str:
        return "".join(used.setdefault(x, _LETTERS[len(used) % len(_LETTERS)]) for x in labels)

    return f"{letters(contract.lhs)}, {letters(contract.rhs)} → {letters(contract.out)}"


def short(text: str, length: int) -> str:
    """``text``, cut to ``length`` characters."""
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 1] + "…"


def order_name(order: int, mode: str = "") -> str:
    """What a derivative of an order is called in a legend."""
    if order == 0:
        return "as written"
    return ("derivative", "second derivative", "third derivative")[order - 1] if order <= 3 else f"{order}th derivative"
