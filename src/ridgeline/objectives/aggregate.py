"""From per-token losses to one number: the only reduction in the library."""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor

from ridgeline.objectives.axes import Aggregation


def aggregate(
    values: Tensor,
    mask: Tensor,
    how: Aggregation = "token",
    length: int | None = None,
    count: int | float | Tensor | None = None,
) -> Tensor:
    """Reduce per-token values to a scalar over the valid positions.

        token     sum_{i,t} v / tokens                                  (DAPO, PPO; long answers weigh more)
        sequence  sum_i (1/|a_i|) sum_t v / sequences                   (GRPO; every answer weighs the same)
        fixed     sum_i (1/length) sum_t v / sequences                  (Dr. GRPO; every token has one scale)

    values, mask: `[B, T]`; a position is valid where the mask is not zero. One-dimensional values (a loss per
    pair) reduce with "token". What invalid positions hold, nan and inf included, reaches neither the result
    nor the gradient.
    count: the denominator of the whole optimizer step (`denominator` summed over its micro-batches), so that
    the results of micro-batches add up to the result of the whole; without it the batch counts itself. A
    sequence without a valid token contributes 0 and is not counted. Without any valid token the result is 0
    with a zero gradient.
    length: tokens, for "fixed" only, constant over a run.

    Raises ValueError for an unknown `how`, for shapes that differ, for a missing, useless or non-positive
    length.
    Sources: Shao et al. 2024 (GRPO), Yu et al. 2025 (DAPO), Liu et al. 2025 (Dr. GRPO).
    """
    _check(values, mask, how, length)
    valid = mask != 0
    kept = torch.where(valid, values, 0.0)
    if how == "token":
        total = kept.sum()
    elif how == "sequence":
        total = (kept.sum(-1) / valid.sum(-1).clamp(min=1)).sum()
    else:
        assert length is not None
        total = kept.sum() / length
    if count is None:
        count = denominator(mask, how)
    if isinstance(count, Tensor):
        divisor = count.to(total)
        return total / torch.where(divisor == 0, 1.0, divisor)
    return total / (count if count != 0 else 1)


def denominator(mask: Tensor, how: Aggregation = "token") -> int:
    """What one batch adds to the `count` of an optimizer step.

    Its valid tokens for "token", its sequences with at least one valid token for "sequence" and "fixed".
    mask: `[B, T]`, or `[N]` with "token". Raises ValueError for an unknown `how`.
    """
    _check(mask, mask, how, 1 if how == "fixed" else None)
    valid = mask != 0
    return int(valid.sum() if how == "token" else valid.any(-1).sum())


def _check(values: Tensor, mask: Tensor, how: Aggregation, length: int | None) -> None:
    if how not in get_args(Aggregation):
        raise ValueError(f"unknown aggregation '{how}'; choose one of: {', '.join(get_args(Aggregation))}")
    if values.shape != mask.shape:
        raise ValueError(f"values {list(values.shape)} and mask {list(mask.shape)} must have the same shape")
    if how != "token" and values.dim() != 2:
        raise ValueError(f"aggregation '{how}' needs [batch, length] values, got shape {list(values.shape)}")
    if how == "fixed" and (length is None or length < 1):
        raise ValueError(f"aggregation 'fixed' needs a length of at least 1 token, got {length}")
    if how != "fixed" and length is not None:
        raise ValueError(f"length = {length} does nothing with aggregation '{how}'; it needs 'fixed'")
