"""KL in the reward: how a penalty per token and a score per completion become one reward."""

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
