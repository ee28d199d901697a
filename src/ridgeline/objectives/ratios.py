"""Importance ratios between two sets of log-probs of the same tokens.

Three sets must not be confused: sampler (recorded at rollout), old (the learner at rollout), current (the
learner now). Token and sequence ratios compare current with old and carry gradient; importance weights
compare the learner at rollout with the sampler, and are constants.
"""

from __future__ import annotations

import torch
from torch import Tensor

LOG_RATIO_LIMIT = 20.0
LOG_WEIGHT_LIMIT = 10.0


def token_ratio(logp: Tensor, old_logp: Tensor) -> Tensor:
    """exp(logp - old_logp) per token, `[...]` in [e^-20, e^20].

    The log-ratio is clamped to +-20 nats (zero gradient beyond), so that a ratio is never inf. `old_logp` is
    taken as a constant; the gradient flows through `logp` only.
    """
    return (logp - old_logp.detach()).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp()


def sequence_ratio(logp: Tensor, old_logp: Tensor, mask: Tensor) -> Tensor:
    """Geometric mean of the token ratios of a sequence: exp((1/|a|) sum_t m_t (logp_t - old_logp_t)).

    logp, old_logp, mask: `[B, T]`. Returns `[B, 1]`, which broadcasts against `[B, T]`; 1 for a sequence
    without a valid token. Clamped and differentiated as `token_ratio`. Source: GSPO, Zheng et al. 2025,
    equation 7.
    """
    valid = mask != 0
    log_ratio = torch.where(valid, logp - old_logp.detach(), 0.0).sum(-1, keepdim=True)
    mean = log_ratio / valid.sum(-1, keepdim=True).clamp(min=1)
    return mean.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp()


def truncated_importance_weight(learner_logp: Tensor, sampler_logp: Tensor, cap: float = 2.0) -> Tensor:
    """min(exp(clamp(learner_logp - sampler_logp, -10, 10)), cap) per token, detached; `[...]` in (0, cap].

    learner_logp: the learner's log-probs at rollout (the old policy), sampler_logp: those recorded by the
    sampler.
    Raises ValueError when cap is not above 0. Source: Yao et al. 2025, truncated importance sampling.
    """
    if not cap > 0:
        raise ValueError(f"cap = {cap} must be above 0")
    return _weight(learner_logp, sampler_logp).clamp(max=cap)


def masked_importance_weight(learner_logp: Tensor, sampler_logp: Tensor, low: float, high: float) -> Tensor:
    """The importance weight where it lies in [low, high] and 0 elsewhere, per token, detached.

    Tokens on which sampler and learner disagree too much are dropped rather than clipped (IcePop, Ling team
    2025).
    Raises ValueError unless 0 <= low < high.
    """
    if not 0 <= low < high:
        raise ValueError(f"low = {low} and high = {high} must satisfy 0 <= low < high")
    weight = _weight(learner_logp, sampler_logp)
    return torch.where((weight >= low) & (weight <= high), weight, 0.0)


def _weight(learner_logp: Tensor, sampler_logp: Tensor) -> Tensor:
    gap = learner_logp.detach() - sampler_logp.detach()
    return gap.clamp(-LOG_WEIGHT_LIMIT, LOG_WEIGHT_LIMIT).exp()
