"""This machine: a short timing of its matrix products, and its free memory."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import torch

FORWARD_SHARE = 0.7
TRAIN_SHARE = 0.55
DECODE_SHARE = 0.25
"""Shares of the plain matrix-product rate that whole passes reach.

Rough: the embedded model in the quickstart, on two idle cores with AVX512 bfloat16 (forward 0.5, training
0.37, sampling 0.15 TFLOP/s, where plain products reach 0.6 to 1). Where products are much faster (AMX) the
rest of a pass weighs more and the shares are about a third; a machine that is busy while it is timed promises
less.
"""


@dataclass(frozen=True)
class Speed:
    """Matrix products per second as floating-point operations, on ``device`` in ``dtype``."""

    flops: float
    device: str
    dtype: str

    def forward(self, operations: float) -> float:
        """Seconds of a forward pass."""
        return operations / (self.flops * FORWARD_SHARE)

    def train(self, operations: float) -> float:
        """Seconds of forward and backward passes."""
        return operations / (self.flops * TRAIN_SHARE)

    def decode(self, operations: float) -> float:
        """Seconds of sampling token by token."""
        return operations / (self.flops * DECODE_SHARE)

    def as_dict(self) -> dict[str, float | str]:
        return {"flops": self.flops, "device": self.device, "dtype": self.dtype}


def measure_speed(
    device: torch.device, dtype: torch.dtype, *, hidden: int, intermediate: int, seconds: float = 0.3
) -> Speed:
    """Time ``[512, hidden] x [hidden, intermediate]`` for about ``seconds``; the fastest one counts."""
    left = torch.ones(512, hidden, dtype=dtype, device=device)
    right = torch.ones(hidden, intermediate, dtype=dtype, device=device)
    torch.mm(left, right)
    end = time.perf_counter() + seconds
    best = float("inf")
    while time.perf_counter() < end:
        start = time.perf_counter()
        product = torch.mm(left, right)
        if device.type != "cpu":
            product[0, 0].item()
        best = min(best, time.perf_counter() - start)
    rate = 2.0 * 512 * hidden * intermediate / best
    return Speed(rate, str(device), str(dtype).removeprefix("torch."))


def available_memory(device: torch.device) -> int | None:
    """Bytes that can be taken now: of the device, or of the machine or container; None: unknown."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = _meminfo_available()
    limit = _cgroup_room()
    known = [value for value in (free, limit) if value is not None]
    return min(known) if known else None


def _meminfo_available() -> int | None:
    path = Path("/proc/meminfo")
    if not path.is_file():
        return None
    for line in path.read_text().splitlines():
        if line.startswith("MemAvailable:"):
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
