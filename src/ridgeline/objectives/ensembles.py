"""Several scores of one completion as one: optimistic agreement counts less than doubt.

The members of an ensemble have to be on one scale (each with mean 0 and deviation 1 over the same
completions, say): pairs leave the level of each member's scores free, and a spread of levels is no doubt.
"""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor

from ridgeline.schema.reward_kinds import Combine


def combine(scores: Tensor, how: Combine, spread_weight: float = 1.0) -> Tensor:
    """One score from those of K members.

        mean               mean_k r_k
        min                min_k r_k                            (the worst case)
        mean_minus_spread  mean_k r_k - spread_weight * spread  (the policy pays for going where they differ)

    scores: `[..., K]` in units of reward. Returns `[...]`; with one member, or members that agree, all three
    are that score. spread_weight: at least 0, for "mean_minus_spread" only. Raises ValueError for an unknown
    `how`, no member, or a negative weight.
    Source: Coste et al. 2023 (mean, worst-case and uncertainty-weighted optimisation; they subtract the
    variance, which grows with the square of the scale of the scores, so the deviation stands here).
    """
    _check(scores)
    if how not in get_args(Combine):
        raise ValueError(f"unknown combination '{how}'; choose one of: {', '.join(get_args(Combine))}")
    if spread_weight < 0:
        raise ValueError(f"spread_weight = {spread_weight} would reward doubt; it must be at least 0")
    if how == "min":
        return scores.amin(-1)
    mean = scores.mean(-1)
    return mean if how == "mean" else mean - spread_weight * spread(scores)


def spread(scores: Tensor) -> Tensor:
    """Deviation of the members around their mean: sqrt( mean_k (r_k - mean)^2 ).

    scores: `[..., K]` in units of reward. Returns `[...]` of at least 0; 0 with a zero gradient where all
    members agree. Raises ValueError for no member.
    """
    _check(scores)
    variance = scores.var(-1, correction=0)
    # The root has no slope at 0: members that agree must not give a nan gradient.
    differ = variance > 0
    return torch.where(differ, torch.where(differ, variance, 1.0).sqrt(), 0.0)


def _check(scores: Tensor) -> None:
    if scores.ndim == 0 or scores.shape[-1] == 0:
        raise ValueError(f"an ensemble needs at least one member, got scores of shape {list(scores.shape)}")
