"""Kernels for the CPU. `SCALARS` maps the name of each scalar function of kernel source to its Numba callable.

Numba is imported when `SCALARS` is first asked for, not when this package is imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from symgraph_kernels.cpu.scalar import SCALARS as SCALARS

__all__ = ["SCALARS"]


def __getattr__(name: str) -> Any:
    if name == "SCALARS":
        from symgraph_kernels.cpu.scalar import SCALARS

        globals()["SCALARS"] = SCALARS
        return SCALARS
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
