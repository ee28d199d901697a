"""Memory that comes from the system and goes back to it, for what is large and lives briefly."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from math import prod

import torch

# Shared memory, which is what a mapping is unless one asks, comes in small pages.
_PRIVATE = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}


def mapped(shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """Zeros of ``shape``, in a mapping of their own that ends with the last tensor that shares it.

    From the heap the same would leave holes between blocks that stay, as nothing is given back from there
    while a run lasts (`training.allocator`). In large pages where the system has them.
    """
    if not prod(shape):
        return torch.zeros(tuple(shape), dtype=dtype)
    mapping = mmap.mmap(-1, prod(shape) * dtype.itemsize, **_PRIVATE)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        mapping.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(mapping, dtype=dtype).view(tuple(shape))
