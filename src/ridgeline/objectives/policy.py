"""Policy-gradient losses per token: one function for every point of the space in `objectives.axes`."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ridgeline.objectives.aggregate import aggregate
from ridgeline.objectives.axes import PolicyObjective
from ridgeline.objectives.bounding import Inputs, bounded_loss
from ridgeline.objectives.kl import ESTIMATORS
from ridgeline.objectives.masks import off_policy_mask
from ridgeline.objectives.presets import PRESETS
from ridgeline.objectives.ratios import masked_importance_weight, token_ratio, truncated_importance_weight

__all__ = ["PRESETS", "PolicyObjective", "PolicyTerms", "policy_loss", "total_loss", "value_loss"]


class PolicyTerms(NamedTuple):
    """What `policy_loss` returns, everything `[B, T]`, unreduced, and 0 or False outside the mask.

    loss_BT: the policy part, importance weight included; minimised.
    kl_BT: the chosen KL estimate in nats, or None without reference log-probs. It carries gradient only where
        the objective places the KL in the loss.
    clipped_BT: the clipped branch is strictly the active one, so the token has no gradient (with bounding
        "weight" and "taper": the weight was clipped, the gradient remains).
    outside_BT: the ratio (or the divergence) lies outside its interval, whatever the sign of the advantage.
        The field calls either fraction "clip fraction"; log both.
    ratio_BT: current / old, per token or per sequence as the objective has it, detached; 1 on-policy.
    weight_BT: the constant that corrects for the sampler; 1 where it agrees with the learner, 0 where a mask
        dropped the token.
    """

    loss_BT: Tensor
    kl_BT: Tensor | None
    clipped_BT: Tensor
    outside_BT: Tensor
    ratio_BT: Tensor
    weight_BT: Tensor


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

        ratio "none"             -w A logp                                         (REINFORCE, RLOO)
        bounding "none"          -w A rho
        bounding "clip"           w max(-A rho, -A clip(rho, 1 - low, 1 + high))   (PPO, GRPO, DAPO; GSPO)
        bounding "clip_tokens"   -w A geometric mean of the clipped token ratios   (GMPO)
        bounding "weight"        -w sg(clip(rho, 1 - low, 1 + high)) A logp        (CISPO)
        bounding "soft"          -w (4 / tau) sigmoid(tau (rho - 1)) A             (SAPO)
        bounding "taper"         -w A logp, for A < 0 times sg(min(rho, 1))        (TOPR)
        bounding "gamma"         -w sg(rho^k e^(lambda (1 - rho))) A logp          (VESPO)
        "total_variation", "binary_kl"   -w A rho, dropped where sampler and policy parted (DPPO)
        bounding "regression"     w (A - beta log rho)^2 / (2 beta |a|)            (A2PO, mirror descent)

    logp, old_logp, ref_logp, sampler_logp: `[B, T]` nats of the same tokens under the current, the old
    (learner at rollout), the reference and the sampling policy. Only logp receives gradient.
    advantages: `[B]` or `[B, T]`, taken as constants. mask: `[B, T]`, 1 on tokens the policy generated; what
    the other positions hold (nan included) reaches neither value nor gradient.
    Form the total with `total_loss`. Raises ValueError for shapes that do not fit, and when the objective
    needs reference or sampler log-probs that are missing.
    Sources: Williams 1992; Schulman et al. 2017 (equation 7); Shao et al. 2024 (equation 3); Zheng et al.
    2025 (equation 5); Zhao et al. 2025 (GMPO); MiniMax 2025 (equation 4); Gao et al. 2025 (SAPO); Le Roux et
    al. 2025 (TOPR); VESPO 2026; Qi et al. 2026 (DPPO); Kimi 2025 (k1.5, section 2.3.2); Brantley et al. 2025
    (A2PO); Yao et al. 2025 for the importance weight; INTELLECT-2 2025 for clip_delta.
    """
    valid = mask != 0
    if objective.kl_placement == "loss" and objective.kl_coefficient > 0 and ref_logp is None:
        raise ValueError("this objective has a KL term in the loss and needs ref_logp")
    current = _within(valid, logp, "logp")
    old = _within(valid, old_logp, "old_logp").detach()
    if advantages.shape == valid.shape[:1]:
        advantages = advantages.unsqueeze(-1).expand(valid.shape)
    advantages_BT = _within(valid, advantages.detach(), "advantages")
    sampler = None if sampler_logp is None else _within(valid, sampler_logp, "sampler_logp")
    reference = None if ref_logp is None else _within(valid, ref_logp, "ref_logp").detach()
    parts = bounded_loss(Inputs(current, old, advantages_BT, valid, sampler, reference), objective)
    weight = _importance(valid, old, sampler, objective)
    if objective.off_policy_limit is not None:
        kept = off_policy_mask(current, old, advantages_BT, valid, objective.off_policy_limit)
        weight = torch.where(kept, weight, 0.0)
    return PolicyTerms(
        loss_BT=torch.where(valid, parts.loss_BT * weight, 0.0),
        kl_BT=_kl(current, old, reference, objective),
        clipped_BT=parts.clipped_BT & valid,
        outside_BT=parts.outside_BT & valid,
        ratio_BT=torch.where(valid, parts.ratio_BT.detach(), 0.0),
        weight_BT=torch.where(valid, weight, 0.0),
    )


def total_loss(
    terms: PolicyTerms,
    mask: Tensor,
    objective: PolicyObjective,
    *,
    kl_coefficient: float | None = None,
    entropy: Tensor | None = None,
    entropy_coefficient: float | None = None,
    count: int | float | Tensor | None = None,
) -> Tensor:
    """aggregate(loss_BT + c_kl * kl_BT - c_entropy * entropy), the KL only where it is placed in the loss.

    kl_coefficient, entropy_coefficient: override the objective's own (controllers). entropy: `[B, T]` nats
    with gradient, needed where its coefficient is above 0. count: as in `aggregate`, of the whole optimizer
    step. With a critic add value_coefficient * aggregate(value_loss(...), mask). Raises ValueError when
    aggregation is "fixed" and the objective has no length yet (`dataclasses.replace(objective, length=...)`),
    and for a missing KL or entropy.
    """
    per_token = terms.loss_BT
    coefficient = objective.kl_coefficient if kl_coefficient is None else kl_coefficient
    if objective.kl_placement == "loss" and coefficient > 0:
        if terms.kl_BT is None:
            raise ValueError("the KL term is placed in the loss, but policy_loss was called without ref_logp")
        per_token = per_token + coefficient * terms.kl_BT
    bonus = objective.entropy_coefficient if entropy_coefficient is None else entropy_coefficient
    if bonus > 0:
        if entropy is None:
            raise ValueError(f"entropy_coefficient = {bonus} needs the entropy of every token, with gradient")
        per_token = per_token - bonus * torch.where(mask != 0, entropy, 0.0)
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


def _importance(valid: Tensor, old: Tensor, sampler: Tensor | None, objective: PolicyObjective) -> Tensor:
    if objective.importance == "none":
        return torch.ones_like(old)
    if sampler is None:
        raise ValueError(
            f"importance '{objective.importance}' needs sampler_logp, the log-probs of the sampler"
        )
    level, high = objective.importance_level, objective.importance_high
    assert high is not None
    if objective.importance == "truncated":
        weight = truncated_importance_weight(old, sampler, high, level=level, mask=valid)
    else:
        assert objective.importance_low is not None
        low = objective.importance_low
        weight = masked_importance_weight(old, sampler, low, high, level=level, mask=valid)
    return weight.expand(valid.shape)


def _kl(logp: Tensor, old: Tensor, reference: Tensor | None, objective: PolicyObjective) -> Tensor | None:
    if reference is None:
        return None
    estimate = ESTIMATORS[objective.kl_estimator](logp, reference)
    if objective.kl_corrected:
        estimate = estimate * token_ratio(logp, old)
    return estimate if objective.kl_placement == "loss" else estimate.detach()
