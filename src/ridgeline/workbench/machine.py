"""Memory of this machine and of this process."""

from __future__ import annotations

from pathlib import Path

import torch


def available_memory(device: torch.device) -> int | None:
    """Bytes that can be taken now: of the device, or of the machine or container; None: unknown."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = _meminfo_available()
    limit = _cgroup_room()
    known = [value for value in (free, limit) if value is not None]
    return min(known) if known else None


def resident_memory() -> int:
    """Bytes that this process holds now (0: unknown): before any model, Python and its libraries."""
    path = Path("/proc/self/status")
    return _kilobytes(path, "VmRSS:") or 0


def _meminfo_available() -> int | None:
    return _kilobytes(Path("/proc/meminfo"), "MemAvailable:")


def _kilobytes(path: Path, name: str) -> int | None:
    """A line such as ``VmRSS:   1024 kB`` of one of Linux's files, as bytes."""
    if not path.is_file():
        return None
    for line in path.read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    return None


def _cgroup_room() -> int | None:
    """What a container may still take (cgroup 2); page cache counts as taken, so this is low."""
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    try:
        text = limit.read_text().strip()
        return None if text == "max" else int(text) - int(used.read_text())
    except (OSError, ValueError):
        return None
