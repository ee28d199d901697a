"""Which device and which number format to work in, by looking at the machine and timing it once."""

from __future__ import annotations

import functools
import platform
import time
from pathlib import Path

import torch

from ridgeline.schema.errors import UsageError

VERIFIED_DEVICES = ("cpu",)
"""Devices the test suite has run on; the others share the code and are labelled unverified."""


def resolve_device(name: str) -> torch.device:
    """``auto`` takes cuda, then mps, then cpu.

    Raises:
        UsageError: the device asked for is not there.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return torch.device(next(device for device, there in available.items() if there))
    if not available[name]:
        raise UsageError(f"device = '{name}' is not available on this machine; use device = \"auto\".")
    return torch.device(name)


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """``auto`` takes bfloat16 where the device multiplies it clearly faster than float32."""
    if name == "auto":
        fast = bfloat16_speedup() > 1.3 if device.type == "cpu" else device.type == "cuda"
        return torch.bfloat16 if fast else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]


@functools.cache
def bfloat16_speedup() -> float:
    """Time of a float32 matrix product over the same in bfloat16 on this CPU (about 50 ms).

    Timing beats reading CPU flags: oneDNN may be told to use less than the CPU has (ONEDNN_MAX_CPU_ISA). The
    two formats take turns and the best time of each counts, so other work on the machine decides nothing.
    """
    best = dict.fromkeys((torch.float32, torch.bfloat16), float("inf"))
    for _ in range(12):
        for dtype in best:
            best[dtype] = min(best[dtype], _product_seconds(dtype))
    return best[torch.float32] / best[torch.bfloat16]


def _product_seconds(dtype: torch.dtype) -> float:
    left, right = torch.ones(256, 512, dtype=dtype), torch.ones(512, 512, dtype=dtype)
    start = time.perf_counter()
    torch.mm(left, right)
    return time.perf_counter() - start


def cpu_name() -> str:
    """The processor as it calls itself; on Linux ``platform`` does not know."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def describe(device: torch.device, dtype: torch.dtype) -> dict[str, str | int | float | bool]:
    """What ``environment.json`` records about the machine."""
    return {
        "device": str(device),
        "device_verified": device.type in VERIFIED_DEVICES,
        "dtype": str(dtype).removeprefix("torch."),
        "cpu": cpu_name(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "bfloat16_speedup": round(bfloat16_speedup(), 2) if device.type == "cpu" else 0.0,
        "threads": torch.get_num_threads(),
    }
