"""Reward shaping: how a KL per token, a score per completion and its length become one reward."""

from __future__ import annotations

import torch
from torch import Tensor


def sequence_rewards(scores: Tensor, kl: Tensor, mask: Tensor, coefficient: float) -> Tensor:
    """score - coefficient * sum_t kl_t over the completion: the reward of REINFORCE and RLOO with KL.

    scores: `[B]`; kl, mask: `[B, T]`, kl in nats per token. The sum, not the mean, so that a coefficient
    means the same at every length. Returns `[B]`, detached; a nan score ("not applicable") stays nan. Source:
    Ouyang et al. 2022.
    """
    penalty = torch.where(mask != 0, kl.detach(), 0.0).sum(-1)
    return scores.detach() - coefficient * penalty


def token_rewards(scores: Tensor, kl: Tensor, mask: Tensor, coefficient: float) -> Tensor:
    """-coefficient * kl_t per token, plus the score at the last valid token: the reward of PPO with a critic.

    scores: `[B]`; kl, mask: `[B, T]`. Returns `[B, T]`, detached, 0 outside the mask. A row without a valid
    token gets no score; a row whose score is nan ("not applicable") must be masked out by the caller. Source:
    Ziegler et al. 2019.
    """
    valid = mask != 0
    shaped = torch.where(valid, -coefficient * kl.detach(), 0.0)
    is_last = valid & (valid.long().flip(-1).cumsum(-1).flip(-1) == 1)
    return torch.where(is_last, shaped + scores.detach().unsqueeze(-1), shaped)


def overlong_penalty(lengths: Tensor, limit: int, buffer: int) -> Tensor:
    """0 up to limit - buffer tokens, then falling linearly to -1 at limit, and -1 beyond it.

        0 if |y| <= L_max - L_c;    (L_max - L_c - |y|) / L_c in between;    -1 if |y| > L_max

    lengths: any shape, tokens. limit: L_max, buffer: L_c, tokens. Raises ValueError unless 0 < buffer <=
    limit. Source: DAPO, Yu et al. 2025, equation 13.
    """
    if not 0 < buffer <= limit:
        raise ValueError(f"buffer = {buffer} must lie between 1 and the limit of {limit} tokens")
    return ((limit - buffer - lengths) / buffer).clamp(-1.0, 0.0)
