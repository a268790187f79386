"""How much memory there is, and what of it keys and values may take."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

ROWS_SHARE = 0.35
"""Share of the free memory for rows that run."""

CACHE_SHARE = 0.2
"""Share of the free memory for prefixes that are kept."""


@dataclass(frozen=True)
class MemoryPlan:
    """What keys and values may take.

    Attributes:
        row_tokens: Tokens of rows that run.
        cache_bytes: Prefixes that are kept.
    """

    row_tokens: int
    cache_bytes: int


def plan_memory(
    device: torch.device, token_bytes: int, cache_bytes: int | None = None
) -> MemoryPlan:
    """Divide the memory that is free now.

    Args:
        device: Where keys and values lie.
        token_bytes: Of one token over all layers; 0 when unknown.
        cache_bytes: A limit for kept prefixes that was asked for.
    """
    free = free_bytes(device)
    kept = int(free * CACHE_SHARE) if cache_bytes is None else cache_bytes
    return MemoryPlan(int(free * ROWS_SHARE) // max(token_bytes, 1), kept)


def free_bytes(device: torch.device) -> int:
    """Return the bytes that this process may still take on a device."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + int(kept)
    if device.type == "mps":
        taken = torch.mps.driver_allocated_memory()
        return max(int(torch.mps.recommended_max_memory()) - int(taken), 0)
    import psutil

    return min(int(psutil.virtual_memory().available), _container_bytes())


def empty_caches() -> None:
    """Give back what torch keeps of an accelerator's memory for later."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


def _container_bytes() -> int:
    """Return what a container leaves of its limit; very many without one (Linux)."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit = (folder / "memory.max").read_text(encoding="ascii").strip()
        used = (folder / "memory.current").read_text(encoding="ascii").strip()
    except OSError:
        return 2**62  # No such files: another system, or no container.
    if not limit.isdigit() or not used.isdigit():
        return 2**62
    reclaimable = 0
    if os.access(folder / "memory.stat", os.R_OK):
        for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines():
            name, _, value = line.partition(" ")
            if name == "inactive_file":
                reclaimable = int(value)
    return max(int(limit) - int(used) + reclaimable, 0)
