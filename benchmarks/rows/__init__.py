"""The rows of the table, in its order."""

from __future__ import annotations

from benchmarks.harness import Row
from benchmarks.rows import (
    call,
    chain,
    cold,
    elementwise,
    gpu,
    hessian,
    layout,
    memory,
    mixture,
    network,
    orders,
    sixth,
)

ROWS: dict[str, Row] = {
    m.ROW.key: m.ROW for m in (memory, network, mixture, hessian, elementwise, cold, call, layout, chain, sixth)
}
PAGES: dict[str, Row] = {orders.ROW.key: orders.ROW}
"""Rows with a page and a runner of their own."""
GPU: dict[str, Row] = {row.key: row for row in gpu.ROWS}
"""Rows of ``make bench-gpu``."""
