"""Importance ratios between two sets of log-probs of the same tokens.

Three sets must not be confused: sampler (recorded at rollout), old (the learner at rollout), current (the
learner now). Ratios compare current with old and carry gradient; importance weights compare the learner at
rollout with the sampler, and are constants. Either exists per token, and per sequence as the geometric mean
("sequence") or the product of its tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ridgeline.objectives.axes import Level

LOG_RATIO_LIMIT = 20.0
LOG_WEIGHT_LIMIT = 10.0


def token_ratio(logp: Tensor, old_logp: Tensor) -> Tensor:
    """exp(logp - old_logp) per token, `[...]` in [e^-20, e^20].

    The log-ratio is clamped to +-20 nats (zero gradient beyond), so that a ratio is never inf. `old_logp` is
    taken as a constant; the gradient flows through `logp` only.
    """
    return _exp(logp - old_logp.detach())


def sequence_ratio(logp: Tensor, old_logp: Tensor, mask: Tensor) -> Tensor:
    """Geometric mean of the token ratios of a sequence: exp((1/|a|) sum_t m_t (logp_t - old_logp_t)).

    logp, old_logp, mask: `[B, T]`. Returns `[B, 1]`, which broadcasts against `[B, T]`; 1 for a sequence
    without a valid token. Clamped and differentiated as `token_ratio`. Source: GSPO, Zheng et al. 2025,
    equation 7.
    """
    return _exp(_over_sequence(logp - old_logp.detach(), mask, "sequence"))


def sequence_token_ratio(logp: Tensor, old_logp: Tensor, mask: Tensor) -> Tensor:
    """sg(sequence ratio) * pi_t / sg(pi_t): the value of the sequence, the gradient of the token. `[B, T]`.

    Arguments as `sequence_ratio`. Source: GSPO-token, Zheng et al. 2025, equation 14.
    """
    return sequence_ratio(logp, old_logp, mask).detach() * (logp - logp.detach()).exp()


def product_ratio(logp: Tensor, old_logp: Tensor, mask: Tensor) -> Tensor:
    """pi(sequence) / pi_old(sequence), the product of the token ratios. `[B, 1]`, arguments and limits as
    `sequence_ratio`.
    """
    return _exp(_over_sequence(logp - old_logp.detach(), mask, "product"))


def truncated_importance_weight(
    learner_logp: Tensor,
    sampler_logp: Tensor,
    cap: float = 2.0,
    *,
    level: Level = "token",
    mask: Tensor | None = None,
) -> Tensor:
    """min(exp(clamp(learner_logp - sampler_logp, -10, 10)), cap), detached, in (0, cap].

    learner_logp: the learner's log-probs at rollout (the old policy), sampler_logp: those recorded by the
    sampler. level: per token, `[...]`, or one weight per sequence over the valid tokens of mask, `[B, 1]`.
    Raises ValueError when cap is not above 0. Source: Yao et al. 2025, truncated importance sampling.
    """
    if not cap > 0:
        raise ValueError(f"cap = {cap} must be above 0")
    return _weight(learner_logp, sampler_logp, level, mask).clamp(max=cap)


def masked_importance_weight(
    learner_logp: Tensor,
    sampler_logp: Tensor,
    low: float,
    high: float,
    *,
    level: Level = "token",
    mask: Tensor | None = None,
) -> Tensor:
    """The importance weight where it lies in [low, high] and 0 elsewhere, detached; level as above.

    Tokens or sequences on which sampler and learner disagree too much are dropped rather than clipped.
    Raises ValueError unless 0 <= low < high. Source: IcePop, Ling team 2025.
    """
    if not 0 <= low < high:
        raise ValueError(f"low = {low} and high = {high} must satisfy 0 <= low < high")
    weight = _weight(learner_logp, sampler_logp, level, mask)
    return torch.where((weight >= low) & (weight <= high), weight, 0.0)


def _weight(learner_logp: Tensor, sampler_logp: Tensor, level: Level, mask: Tensor | None) -> Tensor:
    gap = learner_logp.detach() - sampler_logp.detach()
    if level != "token":
        if mask is None:
            raise ValueError(f"level '{level}' runs over the valid tokens of a sequence and needs their mask")
        gap = _over_sequence(gap, mask, level)
    return gap.clamp(-LOG_WEIGHT_LIMIT, LOG_WEIGHT_LIMIT).exp()


def _over_sequence(gap: Tensor, mask: Tensor, level: Level) -> Tensor:
    """Sum over the valid tokens, or their mean; `[B, 1]`."""
    valid = mask != 0
    total = torch.where(valid, gap, 0.0).sum(-1, keepdim=True)
    return total if level == "product" else total / valid.sum(-1, keepdim=True).clamp(min=1)


def _exp(log_ratio: Tensor) -> Tensor:
    return log_ratio.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp()
