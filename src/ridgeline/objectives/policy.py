"""Policy-gradient losses per token: one function for every point of the space in `objectives.axes`."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ridgeline.objectives.aggregate import aggregate
from ridgeline.objectives.axes import PRESETS, PolicyObjective
from ridgeline.objectives.kl import ESTIMATORS
from ridgeline.objectives.ratios import (
    masked_importance_weight,
    sequence_ratio,
    token_ratio,
    truncated_importance_weight,
)

__all__ = ["PRESETS", "PolicyObjective", "PolicyTerms", "policy_loss", "total_loss", "value_loss"]


class PolicyTerms(NamedTuple):
    """What `policy_loss` returns, everything `[B, T]`, unreduced, and 0 or False outside the mask.

    loss_BT: the policy part, importance weight included; minimised.
    kl_BT: the chosen KL estimate in nats, or None without reference log-probs. It carries gradient only where
        the objective places the KL in the loss.
    clipped_BT: the clipped branch is strictly the active one, so the token has no gradient (with bounding
        "weight": the weight was clipped, the gradient remains).
    outside_BT: the ratio lies outside the interval, whatever the sign of the advantage. The field calls
        either fraction "clip fraction"; log both.
    ratio_BT: current / old, per token or per sequence as the objective has it, detached; 1 on-policy.
    """

    loss_BT: Tensor
    kl_BT: Tensor | None
    clipped_BT: Tensor
    outside_BT: Tensor
    ratio_BT: Tensor


def policy_loss(
    logp: Tensor,
    old_logp: Tensor,
    advantages: Tensor,
    mask: Tensor,
    objective: PolicyObjective,
    *,
    ref_logp: Tensor | None = None,
    sampler_logp: Tensor | None = None,
) -> PolicyTerms:
    """The loss per token of one policy-gradient algorithm, with rho the ratio, A the advantage, w the weight:

        ratio "none"        -w A logp                                              (REINFORCE, RLOO)
        bounding "none"     -w A rho
        bounding "clip"      w max(-A rho, -A clip(rho, 1 - low, 1 + high))        (PPO, GRPO, DAPO; GSPO)
        bounding "weight"   -w sg(clip(rho, 1 - low, 1 + high)) A logp             (CISPO)

    logp, old_logp, ref_logp, sampler_logp: `[B, T]` nats of the same tokens under the current, the old
    (learner at rollout), the reference and the sampling policy. Only logp receives gradient.
    advantages: `[B]` or `[B, T]`, taken as constants. mask: `[B, T]`, 1 on tokens the policy generated; what
    the other positions hold (nan included) reaches neither value nor gradient.
    Form the total with `total_loss`. Raises ValueError for shapes that do not fit, and when the objective
    needs reference or sampler log-probs that are missing.
    Sources: Williams 1992; Schulman et al. 2017 (equation 7); Shao et al. 2024 (equation 3); Zheng et al.
    2025 (equation 5); MiniMax 2025 (equation 4); Yao et al. 2025 for the importance weight.
    """
    valid = mask != 0
    if objective.kl_placement == "loss" and objective.needs_reference and ref_logp is None:
        raise ValueError("this objective has a KL term in the loss and needs ref_logp")
    current = _within(valid, logp, "logp")
    old = _within(valid, old_logp, "old_logp")
    if advantages.shape == valid.shape[:1]:
        advantages = advantages.unsqueeze(-1).expand(valid.shape)
    advantages_BT = _within(valid, advantages.detach(), "advantages")
    if objective.ratio == "sequence":
        ratio = sequence_ratio(current, old, valid).expand(valid.shape)
    else:
        ratio = token_ratio(current, old)
    loss, clipped, outside = _bounded(current, ratio, advantages_BT, objective)
    weight = _importance(valid, old, sampler_logp, objective)
    loss = loss if weight is None else loss * weight
    return PolicyTerms(
        loss_BT=torch.where(valid, loss, 0.0),
        kl_BT=_kl(valid, current, ref_logp, objective),
        clipped_BT=clipped & valid,
        outside_BT=outside & valid,
        ratio_BT=torch.where(valid, ratio.detach(), 0.0),
    )


def total_loss(
    terms: PolicyTerms,
    mask: Tensor,
    objective: PolicyObjective,
    *,
    kl_coefficient: float | None = None,
    count: int | float | Tensor | None = None,
) -> Tensor:
    """aggregate(loss_BT + coefficient * kl_BT), the KL only where the objective places it in the loss.

    kl_coefficient: overrides the objective's own (an `AdaptiveCoefficient`). count: as in `aggregate`, of the
    whole optimizer step. With a critic add value_coefficient * aggregate(value_loss(...), mask). Raises
    ValueError when aggregation is "fixed" and the objective has no length yet
    (`dataclasses.replace(objective, length=...)`).
    """
    per_token = terms.loss_BT
    coefficient = objective.kl_coefficient if kl_coefficient is None else kl_coefficient
    if objective.kl_placement == "loss" and coefficient > 0:
        if terms.kl_BT is None:
            raise ValueError("the KL term is placed in the loss, but policy_loss was called without ref_logp")
        per_token = per_token + coefficient * terms.kl_BT
    return aggregate(per_token, mask, objective.aggregation, objective.length, count)


def value_loss(values: Tensor, old_values: Tensor, returns: Tensor, clip: float | None = None) -> Tensor:
    """max((V - R)^2, (V_clip - R)^2) / 2 per token, V_clip = clamp(V, V_old - clip, V_old + clip).

    values, old_values (as of the rollout), returns: `[B, T]` reward units; only values receives gradient.
    Without clip it is the plain squared error, halved. Raises ValueError when clip is not above 0. Source:
    Schulman et al. 2017 as implemented in OpenAI baselines (Huang et al. 2022, detail 9).
    """
    targets = returns.detach()
    plain = (values - targets).square()
    if clip is None:
        return plain / 2
    if not clip > 0:
        raise ValueError(f"clip = {clip} must be above 0; leave it out to not clip")
    anchor = old_values.detach()
    near = values.clamp(anchor - clip, anchor + clip)
    return torch.maximum(plain, (near - targets).square()) / 2


def _within(valid: Tensor, tensor: Tensor, name: str) -> Tensor:
    """The tensor with 0 at invalid positions, before anything non-linear turns them into a nan gradient."""
    if tensor.shape != valid.shape:
        raise ValueError(f"{name} {list(tensor.shape)} and mask {list(valid.shape)} must have the same shape")
    return torch.where(valid, tensor, 0.0)


def _bounded(
    logp: Tensor, ratio: Tensor, advantages: Tensor, objective: PolicyObjective
) -> tuple[Tensor, Tensor, Tensor]:
    """(loss, clipped, outside) per token."""
    nowhere = torch.zeros_like(ratio, dtype=torch.bool)
    if objective.ratio == "none":
        return -advantages * logp, nowhere, nowhere
    if objective.clip_low is None or objective.clip_high is None:
        return -advantages * ratio, nowhere, nowhere
    low, high = 1 - objective.clip_low, 1 + objective.clip_high
    bounded = ratio.clamp(low, high)
    outside = (ratio < low) | (ratio > high)
    if objective.bounding == "weight":
        return -bounded.detach() * advantages * logp, outside, outside
    free, held = -advantages * ratio, -advantages * bounded
    return torch.maximum(free, held), held > free, outside


def _importance(
    valid: Tensor, old: Tensor, sampler_logp: Tensor | None, objective: PolicyObjective
) -> Tensor | None:
    if objective.importance == "none":
        return None
    if sampler_logp is None:
        raise ValueError(
            f"importance '{objective.importance}' needs sampler_logp, the log-probs of the sampler"
        )
    sampler = _within(valid, sampler_logp, "sampler_logp")
    assert objective.importance_high is not None
    if objective.importance == "truncated":
        return truncated_importance_weight(old, sampler, objective.importance_high)
    assert objective.importance_low is not None
    return masked_importance_weight(old, sampler, objective.importance_low, objective.importance_high)


def _kl(valid: Tensor, logp: Tensor, ref_logp: Tensor | None, objective: PolicyObjective) -> Tensor | None:
    if ref_logp is None:
        return None
    reference = _within(valid, ref_logp, "ref_logp").detach()
    estimate = ESTIMATORS[objective.kl_estimator](logp, reference)
    return estimate if objective.kl_placement == "loss" else estimate.detach()
