"""How many threads of a kernel a streaming multiprocessor holds at once: from registers and shared memory.

Limits are those of the CUDA C++ Programming Guide, section "Compute Capabilities", table "Technical Specifications per
Compute Capability"; how registers and shared memory are dealt out is what ``cuda_occupancy.h`` of the CUDA toolkit
computes, which a test compares with this.
"""

from __future__ import annotations

from dataclasses import dataclass

WARP = 32
PARTITIONS = 4
"""Parts of a multiprocessor: each has a quarter of its registers."""
REGISTER_UNIT = 256
"""Registers that a warp gets at once."""
REGISTERS = 65_536
"""Of a multiprocessor, and the most that a block may have."""
REGISTERS_PER_THREAD = 255
SHARED_UNIT = 128
"""Bytes of shared memory that a block gets at once."""
KIB = 1024


@dataclass(frozen=True)
class Multiprocessor:
    """Limits of one compute capability.

    Attributes:
        threads: resident at once.
        blocks: resident at once.
        shared: bytes of shared memory.
        reserved: bytes of shared memory that the system takes for each block.
    """

    threads: int
    blocks: int
    shared: int
    reserved: int = KIB


MULTIPROCESSORS: dict[tuple[int, int], Multiprocessor] = {
    (7, 5): Multiprocessor(1024, 16, 64 * KIB, reserved=0),
    (8, 0): Multiprocessor(2048, 32, 164 * KIB),
    (8, 6): Multiprocessor(1536, 16, 100 * KIB),
    (8, 9): Multiprocessor(1536, 24, 100 * KIB),
    (9, 0): Multiprocessor(2048, 32, 228 * KIB),
    (10, 0): Multiprocessor(2048, 32, 228 * KIB),
    (12, 0): Multiprocessor(1536, 24, 100 * KIB),
}


def resident_blocks(cc: tuple[int, int], threads: int, registers: int, shared: int = 0) -> int:
    """Blocks of ``threads`` threads that a multiprocessor of compute capability ``cc`` holds at once.

    ``registers`` are those of one thread, ``shared`` the bytes of a block. 0: such a block cannot run.
    """
    m = MULTIPROCESSORS[cc]
    warps = -(-threads // WARP)
    by_threads = m.threads // WARP // warps
    by_shared, by_registers = m.blocks, m.blocks
    if shared or m.reserved:
        by_shared = m.shared // _up(shared + m.reserved, SHARED_UNIT)
    if registers:
        of_warp = _up(registers * WARP, REGISTER_UNIT)
        if registers > REGISTERS_PER_THREAD or of_warp * _up(warps, PARTITIONS) > REGISTERS:
            return 0
        by_registers = REGISTERS // PARTITIONS // of_warp * PARTITIONS // warps
    return min(m.blocks, by_threads, by_shared, by_registers)


def occupancy(cc: tuple[int, int], threads: int, registers: int, shared: int = 0) -> float:
    """The share of a multiprocessor's threads that blocks of ``threads`` threads keep resident."""
    blocks = resident_blocks(cc, threads, registers, shared)
    return blocks * _up(threads, WARP) / MULTIPROCESSORS[cc].threads


def _up(n: int, unit: int) -> int:
    return -(-n // unit) * unit
