"""A completion as points: hidden states averaged over its beginnings, up to the whole of it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from ridgeline.models.batch import MicroBatch

FRACTIONS = (0.25, 0.5, 0.75, 1.0)
"""Shares of a completion's tokens; the last one is the completion."""


def running_means(hidden_TH: torch.Tensor, fractions: Sequence[float] = FRACTIONS) -> torch.Tensor:
    """``[T, H] -> [F, H]`` float32: row f is the mean of the first ceil(fractions[f] * T) states.

    A running mean, so the path of a completion ends exactly at the completion's own point. Without any state
    (T = 0) there is no value: nan.
    """
    ends = [math.ceil(fraction * len(hidden_TH)) for fraction in fractions]
    return torch.stack([hidden_TH[:end].float().mean(0) for end in ends])


def completion_states(
    flat_hidden: torch.Tensor, token_index: Sequence[torch.Tensor], batch: MicroBatch
) -> torch.Tensor:
    """``running_means`` over the scored tokens of every row, ``[B, F, H]``.

    ``flat_hidden`` ``[R * L, H]`` is what enters the head, ``token_index`` says where each row's tokens are
    in it. The state of a token is the one that has read it.
    """
    rows = zip(token_index, batch.rows, strict=True)
    return torch.stack(
        [running_means(flat_hidden[index[torch.from_numpy(row.targets)]]) for index, row in rows]
    )
