"""Gradients as both sides write them down. Needs torch and numpy only."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

PER_TENSOR = 20_000
"""Entries kept of each tensor, evenly spaced: all of the tiny model, a sample of a larger one."""


def write(path: Path, gradients: Iterable[tuple[str, torch.Tensor]]) -> None:
    """Save a sample of every tensor under its name."""
    kept = {}
    for name, gradient in gradients:
        flat = gradient.detach().flatten()
        kept[name] = flat[:: max(1, -(-len(flat) // PER_TENSOR))].numpy()
    np.savez(path, **kept)


def largest_difference(ours: Path, theirs: Path) -> float:
    """Largest difference of two entries, over the largest entry of all.

    Raises ValueError when the two do not hold the same tensors.
    """
    with np.load(ours) as a, np.load(theirs) as b:
        if set(a) != set(b):
            raise ValueError(f"gradients of different tensors: {sorted(set(a) ^ set(b))[:4]}")
        scale = max(float(np.abs(b[name]).max()) for name in b)
        return max(float(np.abs(a[name] - b[name]).max()) for name in b) / scale
