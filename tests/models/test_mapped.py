from __future__ import annotations

import gc
import os
from pathlib import Path

import torch

from ridgeline.models.kernels.mapped import mapped


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_zeros_of_any_shape() -> None:
    tensor = mapped((3, 5, 7), torch.bfloat16)
    assert torch.equal(tensor, torch.zeros(3, 5, 7, dtype=torch.bfloat16))
    assert mapped((0, 5), torch.float32).shape == (0, 5)


def test_it_goes_back_to_the_system_with_the_last_view() -> None:
    before, size = resident(), 64 * 2**20
    part = mapped((4, size // 16), torch.float32).fill_(1)[2]
    gc.collect()
    assert resident() - before > 0.9 * size
    assert part.sum() == size // 16
    del part
    gc.collect()
    assert resident() - before < 0.1 * size
