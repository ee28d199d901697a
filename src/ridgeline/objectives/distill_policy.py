"""Distillation as a policy gradient: from the log-probs of sampled tokens, and the two terms of MiniLLM.

The dense divergences are in `distill`. Only the student's log-probs receive gradient.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ridgeline.objectives.ratios import token_ratio


def on_policy_advantage(teacher_logp: Tensor, student_logp: Tensor) -> Tensor:
    """A_t = log p_T(a_t) - log p_S(a_t) for tokens **sampled from the student**, a constant (F16.7).

    Both `[...]` nats. An unbiased one-sample estimate of -KL(student || teacher) at that position and, as the
    advantage of a policy gradient, of its gradient: the direction comes from who sampled, not from the sign.
    Per position: a token is not credited for where it leads.
    """
    return (teacher_logp - student_logp).detach()


def importance_weighted_on_policy(
    logp: Tensor, old_logp: Tensor, teacher_logp: Tensor, cap: float | None = None
) -> Tensor:
    """-sg(min(rho, cap) (log p_T - log p_S)) log p_S per token, rho = p_S / p_old: F16.7 for several updates.

    logp: of the student now, the only one with gradient; old_logp: of the student that sampled; teacher_logp;
    all `[...]` nats of the sampled tokens. The advantage is that of the student **now**: with the old one the
    expected gradient would not be that of KL(student || teacher) after the first update. cap: bound of the
    weight, 2 is usual; without it the estimate is unbiased per position (the weight of the prefix is left
    out) and varies more. Returns `[...]`; the value means nothing, its gradient does. Raises ValueError when
    cap is not above 0.
    """
    if cap is not None and not cap > 0:
        raise ValueError(f"cap = {cap} must be above 0; leave it out to not cap")
    weight = token_ratio(logp.detach(), old_logp)
    weight = weight if cap is None else weight.clamp(max=cap)
    return -weight * on_policy_advantage(teacher_logp, logp) * logp


class MiniLlmTerms(NamedTuple):
    """What `minillm` returns, both `[B, T]`, minimised, and 0 outside the mask.

    single_BT: w_t KL(student || teacher) at position t. long_BT: -w_t R_{t+1} log p_S(a_t), what a token
    leads to.
    """

    single_BT: Tensor
    long_BT: Tensor


def minillm(
    divergence: Tensor,
    logp: Tensor,
    teacher_logp: Tensor,
    mask: Tensor,
    *,
    weights: Tensor | None = None,
    normalise: bool = True,
) -> MiniLlmTerms:
    """Policy gradient of the **sequence** KL(student || teacher), with a position's own part taken exactly.

        single_t = w_t KL(p_S || p_T)(t);    long_t = -w_t sg(R_{t+1}) log p_S(a_t)
        R_{t+1}  = sum_{u > t} log (p_T(a_u) / p_S(a_u)), divided by the number of its terms if `normalise`

    On the student's own samples and without normalisation, the expected gradient of the two together is that
    of the sequence KL. Without it a long completion sums more terms, most of them negative, and the student
    learns to end early.
    divergence: `[B, T]`, `reverse_kl` at every position, with gradient. logp, teacher_logp: `[B, T]` nats of
    the sampled tokens. mask: `[B, T]`; what positions outside it hold, nan included, counts for nothing.
    weights: `[B, T]` from `mixture_importance_weight` for teacher-mixed sampling; constants.
    Raises ValueError for shapes that differ. Source: Gu et al. 2024 (MiniLLM), section 2.2; where the paper
    divides the sum by one less than the number of its terms, this takes their mean.
    """
    given = {"divergence": divergence, "logp": logp, "teacher_logp": teacher_logp}
    for name, tensor in {**given, **({} if weights is None else {"weights": weights})}.items():
        if tensor.shape != mask.shape or mask.dim() != 2:
            raise ValueError(f"{name} {list(tensor.shape)} needs the [B, T] of the mask {list(mask.shape)}")
    valid = mask != 0
    weight_BT = torch.ones_like(logp) if weights is None else torch.where(valid, weights.detach(), 0.0)
    rewards_BT = torch.where(valid, on_policy_advantage(teacher_logp, logp), 0.0)
    returns_BT = _after(rewards_BT)
    if normalise:
        returns_BT = returns_BT / _after(valid.to(rewards_BT.dtype)).clamp(min=1)
    single_BT = weight_BT * torch.where(valid, divergence, 0.0)
    long_BT = -weight_BT * returns_BT * torch.where(valid, logp, 0.0)
    return MiniLlmTerms(single_BT, long_BT)


def mixture_importance_weight(logp: Tensor, teacher_logp: Tensor, teacher_share: float) -> Tensor:
    """p_S / (share p_T + (1 - share) p_S) per token, detached, for tokens sampled from that mixture.

    logp, teacher_logp: `[...]` nats of the sampled tokens. teacher_share: in [0, 1), 0.2 in the paper.
    Returns `[...]` in [0, 1 / (1 - share)]. The weight of a position alone, without those of its prefix:
    biased, but bounded. Raises ValueError for another share. Source: Gu et al. 2024, section 2.2.
    """
    if not 0 <= teacher_share < 1:
        raise ValueError(f"teacher_share = {teacher_share} must be at least 0 and below 1")
    gap = (teacher_logp - logp).detach()
    if teacher_share == 0:
        return torch.ones_like(gap)
    return 1 / (teacher_share * gap.exp() + (1 - teacher_share))


def _after(values_BT: Tensor) -> Tensor:
    """The sum of what follows each position, itself excluded."""
    return values_BT.flip(-1).cumsum(-1).flip(-1) - values_BT
