"""Attention within texts that are laid end to end, one query of one head at a time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Span = tuple[int, int, int, int]


def attend(
    qkv_TW: Tensor, spans: Sequence[Span], kv_heads: int, size: int, scale: float, window: int = 0
) -> Tensor:
    """``[T, (heads + 2 kv_heads) D] -> [T, heads * D]``; tokens of no text get zeros.

    spans: first token and length of the text, first token and length of its prefix.
    """
    heads = qkv_TW.shape[1] // size - 2 * kv_heads
    pieces_THD = qkv_TW.view(len(qkv_TW), -1, size)
    out = [[torch.zeros(size, dtype=qkv_TW.dtype)] * heads for _ in range(len(qkv_TW))]
    for start, length, prefix_start, prefix in spans:
        for at in range(length):
            seen = [*range(prefix_start, prefix_start + prefix), *range(start, start + at + 1)]
            if window:
                seen = seen[-window:]
            for head in range(heads):
                own = heads + head // (heads // kv_heads)
                keys, values = pieces_THD[seen, own], pieces_THD[seen, own + kv_heads]
                weights = torch.softmax(keys @ pieces_THD[start + at, head] * scale, 0)
                out[start + at][head] = weights @ values
    return torch.stack([torch.cat(parts) for parts in out])
