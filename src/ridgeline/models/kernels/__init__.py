"""Fused kernels of a decoding step: C where a compiler is at hand, torch otherwise."""

from ridgeline.models.kernels.build import kernel_library, kernels_note
from ridgeline.models.kernels.ops import (
    attend,
    draw,
    gate,
    norm_heads,
    rms_norm,
    rotate_and_store,
)

__all__ = [
    "attend",
    "draw",
    "gate",
    "kernel_library",
    "kernels_note",
    "norm_heads",
    "rms_norm",
    "rotate_and_store",
]
