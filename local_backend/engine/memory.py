"""How much memory a job may take here, and giving back what it has left unused."""

from __future__ import annotations

import ctypes
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

_CGROUP = Path("/sys/fs/cgroup")
_CGROUP_NAMES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
)
"""Limit, use, and what of it are droppable files, as version 2 and version 1 of control groups name them."""
_MEMINFO = Path("/proc/meminfo")


def available_bytes(device: torch.device) -> int:
    """Memory that could still be taken: of the GPU, or of the machine and the container that this process is in."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    machine = _machine_bytes()
    container = _container_bytes()
    return machine if container is None else min(machine, container)


def give_back_unused() -> None:
    """Return free pages within the C library's heap to the system, where the library can (glibc).

    Chunks of the loss differ in size, so one seldom fits into the gaps that another has left; where the head trains,
    these were seen to add up to 300 MiB.
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@lru_cache(maxsize=1)
def _malloc_trim() -> Any:
    return getattr(ctypes.CDLL(None), "malloc_trim", None)


def _machine_bytes() -> int:
    if _MEMINFO.is_file():
        for line in _MEMINFO.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _container_bytes() -> int | None:
    """What the container's limit leaves, if it has one; files that the kernel could drop count as free."""
    for limit_name, used_name, droppable_name in _CGROUP_NAMES:
        limit, used = (_number(_CGROUP / name) for name in (limit_name, used_name))
        if limit is not None and used is not None:
            return max(
                0, limit - used + _droppable_bytes((_CGROUP / used_name).with_name("memory.stat"), droppable_name)
            )
    return None


def _droppable_bytes(stat: Path, name: str) -> int:
    lines = stat.read_text(encoding="ascii").splitlines() if stat.is_file() else []
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name} ")), 0)


def _number(file: Path) -> int | None:
    """Return what stands in a file of the kernel's; None for `max` or no such file."""
    text = file.read_text(encoding="ascii").strip() if file.is_file() else ""
    return int(text) if text.isdigit() else None
