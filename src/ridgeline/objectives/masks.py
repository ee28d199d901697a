"""Which tokens and sequences learn: by divergence from the sampler, by staleness, by entropy.

All of them are constants: no gradient flows through the choice.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

Measure = Literal["total_variation", "binary_kl"]


def binary_divergence(logp: Tensor, sampler_logp: Tensor, measure: Measure) -> Tensor:
    """Divergence of (this token, any other token) between sampler mu and policy pi, detached, `[...]` >= 0.

        total_variation  |mu(a) - pi(a)|, at most 1
        binary_kl        mu log(mu / pi) + (1 - mu) log((1 - mu) / (1 - pi)), nats

    A lower bound on the divergence of the whole next-token distribution, from the sampled token alone.
    Source: DPPO, Qi et al. 2026, binary approximation.
    """
    pi, mu = logp.detach().exp(), sampler_logp.detach().exp()
    if measure == "total_variation":
        return (mu - pi).abs()
    tiny = torch.finfo(pi.dtype).eps
    rest_pi, rest_mu = (1 - pi).clamp(min=tiny), (1 - mu).clamp(min=tiny)
    here = mu * (sampler_logp.detach() - logp.detach())
    return (here + rest_mu * (rest_mu / rest_pi).log()).clamp(min=0)


def divergence_mask(
    logp: Tensor, sampler_logp: Tensor, advantages: Tensor, limit: float, *, measure: Measure
) -> tuple[Tensor, Tensor]:
    """(dropped, outside), both boolean `[B, T]`.

    outside: the divergence exceeds limit. dropped: outside, and the update would push further out: A > 0 with
    the token more likely than at sampling, or A < 0 with the token less likely. Source: DPPO, Qi et al. 2026.
    """
    outside = binary_divergence(logp, sampler_logp, measure) > limit
    drift = torch.sign(logp.detach() - sampler_logp.detach())
    return outside & (drift * torch.sign(advantages) > 0), outside


def off_policy_mask(logp: Tensor, old_logp: Tensor, advantages: Tensor, mask: Tensor, limit: float) -> Tensor:
    """What is kept, boolean `[B, T]`: all but tokens with A < 0 in sequences that have become off-policy.

    A sequence has, when (1/|a|) sum_t (old_logp_t - logp_t), which estimates KL(old || current) in nats per
    token, exceeds limit. What the policy once did wrong and would hardly do again teaches little and pushes
    hard. Source: DeepSeek-V3.2 2025, off-policy sequence masking.
    """
    valid = mask != 0
    gap = torch.where(valid, old_logp.detach() - logp.detach(), 0.0).sum(-1, keepdim=True)
    divergence = gap / valid.sum(-1, keepdim=True).clamp(min=1)
    return (advantages >= 0) | (divergence <= limit)


def top_entropy_mask(entropy: Tensor, mask: Tensor, share: float) -> Tensor:
    """The ceil(share * valid tokens) valid tokens of highest entropy, boolean, ties included. Any shape.

    To be taken over a whole optimizer step. Raises ValueError unless 0 < share <= 1. Source: Wang et al.
    2025, "Beyond the 80/20 rule".
    """
    if not 0 < share <= 1:
        raise ValueError(f"share = {share} must lie in (0, 1]")
    valid = mask != 0
    values = entropy.detach()[valid]
    if values.numel() == 0:
        return valid
    kept = math.ceil(share * values.numel())
    threshold = values.sort(descending=True).values[kept - 1]
    return valid & (torch.where(valid, entropy.detach(), 0.0) >= threshold)
