"""Pages of keys and values as the attention in tiles reads them (attend_tiles.h)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ridgeline.models.kernels.call import kernel, pointers
from ridgeline.models.kernels.decode import DEEP, EDGE
from ridgeline.models.kernels.mapped import mapped
from ridgeline.models.kernels.texts import Texts


@dataclass
class TilePages:
    """``count`` pages of one layer, of ``capacity`` positions each (a multiple of DEEP); bfloat16.

    keys: ``[count, kv_heads, capacity / EDGE, ceil(size / DEEP), DEEP / 2, EDGE, 2]``, pairs of numbers of
    EDGE neighbouring positions. values: ``[count, kv_heads, capacity / DEEP, ceil(size / EDGE), DEEP / 2,
    EDGE, 2]``, pairs of neighbouring positions of EDGE numbers. Zeros fill the last tiles of what is written.
    """

    keys: torch.Tensor
    values: torch.Tensor
    size: int

    @staticmethod
    def of_layers(layers: int, count: int, kv_heads: int, capacity: int, size: int) -> list[TilePages]:
        """For each layer, room for ``capacity`` positions or more."""
        blocks = -(-max(capacity, 1) // DEEP)

        def tiles(*shape: int) -> torch.Tensor:
            return mapped((layers, count, kv_heads, *shape, DEEP // 2, EDGE, 2), torch.bfloat16)

        keys, values = tiles(blocks * (DEEP // EDGE), -(-size // DEEP)), tiles(blocks, -(-size // EDGE))
        return [TilePages(*layer, size) for layer in zip(keys, values, strict=True)]

    @property
    def capacity(self) -> int:
        return self.values.shape[2] * DEEP

    def write(self, page: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Fill ``page`` from its start with ``[kv_heads, T, size]``."""
        keys, values = _padded(keys, EDGE, DEEP), _padded(values, DEEP, EDGE)
        keys = keys.unflatten(2, (-1, DEEP // 2, 2)).unflatten(1, (-1, EDGE)).permute(0, 1, 3, 4, 2, 5)
        values = values.unflatten(2, (-1, EDGE)).unflatten(1, (-1, DEEP // 2, 2)).permute(0, 1, 4, 2, 5, 3)
        self.keys[page, :, : keys.shape[1]] = keys
        self.values[page, :, : values.shape[1]] = values

    def write_texts(self, qkv: torch.Tensor, texts: Texts, pages: Sequence[int]) -> None:
        """As `Pages.write_texts`."""
        count, kv_heads = self.keys.shape[:2]
        assert len(pages) == len(texts.spans) and min(pages) >= 0 and max(pages) < count
        assert texts.longest <= self.capacity
        run = kernel("store_texts", qkv)
        assert run is not None
        heads = qkv.shape[1] // self.size - 2 * kv_heads
        where = np.array(pages, dtype=np.int64)
        sizes = (len(pages), heads, kv_heads, self.size, self.capacity)
        run(*pointers(qkv, self.keys, self.values, texts.spans, where), *sizes)

    def read(self, page: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values ``[kv_heads, length, size]``; the inverse of ``write``."""
        keys = self.keys[page].permute(0, 1, 4, 2, 3, 5).flatten(3).flatten(1, 2)
        values = self.values[page].permute(0, 1, 3, 5, 2, 4).flatten(4).flatten(1, 3)
        return keys[:, :length, : self.size], values.flatten(2)[:, :length, : self.size]


def _padded(x: torch.Tensor, positions: int, numbers: int) -> torch.Tensor:
    return torch.nn.functional.pad(x, (0, -x.shape[2] % numbers, 0, -x.shape[1] % positions))
