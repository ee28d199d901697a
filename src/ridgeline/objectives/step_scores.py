"""From logits after every token, or at the end of every step, to one probability per completion."""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ridgeline.schema.reward_kinds import ScoreAggregate


def aggregate_scores(logits: Tensor, mask: Tensor, how: ScoreAggregate, last_m: int | None = None) -> Tensor:
    """The probability of a completion from those of its tokens or steps, p_i = sigma(w_i), i = 1..n.

        last         p_n
        mean         sum_i p_i / n
        min          min_i p_i                          (one bad step spoils the answer)
        product      prod_i p_i = exp sum_i log p_i     (all steps right, were they independent)
        mean_last_m  mean of the last m
        late         sum_i i p_i / sum_i i              (later ones weigh more)
        pooled       sigma( sum_i w_i / n )             (as `reward.pooled_outcome_bce` is trained)

    logits, mask: `[B, N]`; a position counts where the mask is not zero. last_m: tokens or steps, for
    "mean_last_m" only. Returns `[B]` in [0, 1]; 0 for a row without a valid position. What invalid positions
    hold, nan included, reaches neither the result nor the gradient.
    Raises ValueError for an unknown `how`, shapes that differ, or a missing, useless or non-positive last_m.
    Sources: Cobbe et al. 2021 (last), Lightman et al. 2023 (product, min).
    """
    _check(logits, mask, how, last_m)
    valid = mask != 0
    kept = torch.where(valid, logits, 0.0)
    if logits.shape[-1] == 0:
        return kept.sum(-1)
    count_B = valid.sum(-1).clamp(min=1)
    place_BN = valid.cumsum(-1)
    if how == "pooled":
        result_B = torch.sigmoid(kept.sum(-1) / count_B)
    elif how == "product":
        result_B = torch.where(valid, logsigmoid(kept), 0.0).sum(-1).exp()
    elif how == "min":
        result_B = torch.where(valid, torch.sigmoid(kept), 1.0).amin(-1)
    else:
        weights_BN = torch.where(valid, _weights(how, place_BN, count_B[:, None], last_m), 0).to(logits.dtype)
        total_B = weights_BN.sum(-1).clamp(min=1)
        result_B = (weights_BN * torch.sigmoid(kept)).sum(-1) / total_B
    return torch.where(valid.any(-1), result_B, 0.0)


def _weights(how: ScoreAggregate, place_BN: Tensor, count_B1: Tensor, last_m: int | None) -> Tensor:
    """What each position weighs, by its place from 1 to the count."""
    if how == "late":
        return place_BN
    if how == "mean":
        return torch.ones_like(place_BN)
    kept = 1 if how == "last" else last_m
    assert kept is not None
    return (place_BN > count_B1 - kept).long()


def not_bad_logit(logits: Tensor) -> Tensor:
    """log-odds of a step that is neutral or good against one that is bad: log(e^w0 + e^w1) - w_-1.

    logits: `[..., 3]` for the classes -1, 0, +1 in this order. Returns `[...]` nats. A neutral step spoils
    nothing, so it counts as right (Lightman et al. 2023, appendix on how solutions are scored).
    """
    return torch.logsumexp(logits[..., 1:], -1) - logits[..., 0]


def _check(logits: Tensor, mask: Tensor, how: ScoreAggregate, last_m: int | None) -> None:
    if how not in get_args(ScoreAggregate):
        raise ValueError(f"unknown aggregation '{how}'; choose one of: {', '.join(get_args(ScoreAggregate))}")
    if logits.shape != mask.shape or logits.ndim != 2:
        raise ValueError(
            f"logits {list(logits.shape)} and mask {list(mask.shape)} must both be [completions, positions]"
        )
    if how == "mean_last_m" and (last_m is None or last_m < 1):
        raise ValueError(f"aggregation 'mean_last_m' needs last_m of at least 1, got {last_m}")
    if how != "mean_last_m" and last_m is not None:
        raise ValueError(f"last_m = {last_m} does nothing with aggregation '{how}'; it needs 'mean_last_m'")
