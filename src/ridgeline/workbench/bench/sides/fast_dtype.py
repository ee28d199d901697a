"""The number format that a peer's user would take on this processor."""

from __future__ import annotations

import time

import torch


def fast_dtype() -> torch.dtype:
    """bfloat16, unless this CPU multiplies float32 faster."""
    best = dict.fromkeys((torch.float32, torch.bfloat16), float("inf"))
    for _ in range(12):
        for dtype in best:
            left, right = torch.ones(256, 512, dtype=dtype), torch.ones(512, 512, dtype=dtype)
            start = time.perf_counter()
            torch.mm(left, right)
            best[dtype] = min(best[dtype], time.perf_counter() - start)
    return torch.bfloat16 if best[torch.bfloat16] < best[torch.float32] else torch.float32
