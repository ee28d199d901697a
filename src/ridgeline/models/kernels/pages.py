"""The cache of keys and values: a page per prompt or completion, laid out for the attention kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ridgeline.models.kernels.texts import Texts

LANES = 16
"""Positions whose scores are formed side by side; as in kernels.c."""


@dataclass
class Pages:
    """``count`` pages of one layer, of ``capacity`` positions each (a multiple of LANES).

    keys: ``[count, kv_heads, capacity / LANES, size, LANES]``, so that one load brings one number of LANES
    neighbouring keys. values: ``[count, kv_heads, capacity, size]``.
    """

    keys: torch.Tensor
    values: torch.Tensor

    @staticmethod
    def empty(count: int, kv_heads: int, capacity: int, size: int, dtype: torch.dtype) -> Pages:
        """Room for ``capacity`` positions or more; zeros, as lanes beyond a page's end are computed with."""
        blocks = -(-max(capacity, 1) // LANES)
        return Pages(
            torch.zeros(count, kv_heads, blocks, size, LANES, dtype=dtype),
            torch.zeros(count, kv_heads, blocks * LANES, size, dtype=dtype),
        )

    @property
    def kv_heads(self) -> int:
        return self.values.shape[1]

    @property
    def capacity(self) -> int:
        return self.values.shape[2]

    @property
    def size(self) -> int:
        return self.values.shape[3]

    def write(self, page: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Fill ``page`` from its start with ``[kv_heads, T, size]``."""
        length = keys.shape[1]
        blocks = -(-length // LANES)
        padded = torch.nn.functional.pad(keys, (0, 0, 0, blocks * LANES - length))
        self.keys[page, :, :blocks] = padded.unflatten(1, (blocks, LANES)).transpose(2, 3)
        self.values[page, :, :length] = values

    def write_texts(self, qkv: torch.Tensor, texts: Texts, pages: Sequence[int]) -> None:
        """Fill a page for each of ``texts`` from its start; qkv ``[T, W]``: queries, keys, values of all."""
        parts = [qkv.shape[1] // self.size - 2 * self.kv_heads, self.kv_heads, self.kv_heads]
        _, keys, values = qkv.unflatten(1, (-1, self.size)).transpose(0, 1).split(parts)
        for page, (start, length, *_) in zip(pages, texts.spans.tolist(), strict=True):
            self.write(page, keys[:, start : start + length], values[:, start : start + length])

    def read(self, page: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values ``[kv_heads, length, size]``; the inverse of ``write``."""
        keys = self.keys[page].transpose(2, 3).flatten(1, 2)
        return keys[:, :length], self.values[page, :, :length]
