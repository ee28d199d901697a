"""What holds the ratio near 1: every form of `PolicyObjective.bounding`, per token.

Notation: A the advantage, rho the ratio, sg a stopped gradient; low and high the ends of the interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

from ridgeline.objectives.axes import PolicyObjective
from ridgeline.objectives.masks import divergence_mask
from ridgeline.objectives.ratios import (
    product_ratio,
    sequence_ratio,
    sequence_token_ratio,
    token_ratio,
)


class Bounded(NamedTuple):
    """Loss, ratio and where it was held, `[B, T]`; see `policy.PolicyTerms` for the fields of that name."""

    loss_BT: Tensor
    ratio_BT: Tensor
    clipped_BT: Tensor
    outside_BT: Tensor


@dataclass(frozen=True)
class Inputs:
    """All `[B, T]`, 0 outside `valid`; only logp carries gradient. Those not needed may be None."""

    logp: Tensor
    old: Tensor
    advantages: Tensor
    valid: Tensor
    sampler: Tensor | None = None
    reference: Tensor | None = None


def bounded_loss(inputs: Inputs, objective: PolicyObjective) -> Bounded:
    """The loss per token, before importance weights."""
    if objective.ratio == "none":
        ratio = token_ratio(inputs.logp, inputs.old)
        nowhere = torch.zeros_like(inputs.valid)
        return Bounded(-inputs.advantages * inputs.logp, ratio, nowhere, nowhere)
    ratio = _ratio(inputs, objective).expand(inputs.valid.shape)
    loss, clipped, outside = _FORMS[objective.bounding](inputs, ratio, objective)
    return Bounded(loss, ratio, clipped, outside)


def _ratio(inputs: Inputs, objective: PolicyObjective) -> Tensor:
    if objective.ratio == "token":
        return token_ratio(inputs.logp, inputs.old)
    form = {
        "sequence": sequence_ratio,
        "sequence_token": sequence_token_ratio,
        "product": product_ratio,
    }[objective.ratio]
    return form(inputs.logp, inputs.old, inputs.valid)


Parts = tuple[Tensor, Tensor, Tensor]
"""(loss, clipped, outside)."""


def _none(inputs: Inputs, ratio: Tensor, objective: PolicyObjective) -> Parts:
    nowhere = torch.zeros_like(inputs.valid)
    return -inputs.advantages * ratio, nowhere, nowhere


def _interval(objective: PolicyObjective) -> tuple[float, float]:
    assert objective.clip_low is not None
    assert objective.clip_high is not None
    return 1 - objective.clip_low, 1 + objective.clip_high


def _clip(inputs: Inputs, ratio: Tensor, objective: PolicyObjective) -> Parts:
    """max(-A min(rho, delta), -A clip(rho, low, high)); without delta the first ratio is free."""
    low, high = _interval(objective)
    outside = (ratio < low) | (ratio > high)
    free = ratio if objective.clip_delta is None else ratio.clamp(max=objective.clip_delta)
    losses = -inputs.advantages * free, -inputs.advantages * ratio.clamp(low, high)
    clipped = losses[1] > losses[0]
    if objective.clip_delta is not None:
        clipped |= (inputs.advantages != 0) & (ratio > objective.clip_delta)
    return torch.maximum(*losses), clipped, outside


def _clip_tokens(inputs: Inputs, ratio: Tensor, objective: PolicyObjective) -> Parts:
    """-A times the geometric mean of the token ratios, each clipped where clipping makes the loss larger."""
    low, high = _interval(objective)
    log_ratio = inputs.logp - inputs.old
    log_low = math.log(low) if low > 0 else -math.inf
    held = log_ratio.clamp(log_low, math.log(high))
    lower, upper = torch.minimum(log_ratio, held), torch.maximum(log_ratio, held)
    pessimistic = torch.where(inputs.advantages > 0, lower, upper)
    mean = sequence_ratio(pessimistic, torch.zeros_like(pessimistic), inputs.valid)
    outside = (log_ratio < log_low) | (log_ratio > math.log(high))
    clipped = (pessimistic != log_ratio) & (inputs.advantages != 0)
    return -inputs.advantages * mean, clipped, outside


def _weight(inputs: Inputs, ratio: Tensor, objective: PolicyObjective) -> Parts:
    """-sg(clip(rho, low, high)) A logp."""
    low, high = _interval(objective)
    outside = (ratio < low) | (ratio > high)
    return _weighted(inputs, ratio.clamp(low, high)), outside, outside


def _soft(inputs: Inputs, ratio: Tensor, objective: PolicyObjective) -> Parts:
    """-(4 / tau) sigmoid(tau (rho - 1)) A: slope 1 at rho = 1, fading to 0 on both sides."""
    (tau,) = _shapes(inputs, objective)
    nowhere = torch.zeros_like(inputs.valid)
    return -(4 / tau) * torch.sigmoid(tau * (ratio - 1)) * inputs.advantages, nowhere, nowhere


def _taper(inputs: Inputs, ratio: Tensor, objective: PolicyObjective) -> Parts:
    """-w A logp with w = 1 for A > 0 and sg(min(rho, 1)) elsewhere."""
    weight = torch.where(inputs.advantages > 0, 1.0, ratio.clamp(max=1.0))
    # On-policy the product of many ratios is 1 up to rounding, which is no cut.
    cut = (inputs.advantages < 0) & (ratio > 1 + 1e-4)
    return _weighted(inputs, weight), cut, cut


def _gamma(inputs: Inputs, ratio: Tensor, objective: PolicyObjective) -> Parts:
    """-sg(phi) A logp with phi = rho^k exp(lambda (1 - rho)): 1 at rho = 1, falling to 0 on both sides."""
    k, rate = _shapes(inputs, objective)
    phi = (k * ratio.detach().log() + rate * (1 - ratio.detach())).exp()
    nowhere = torch.zeros_like(inputs.valid)
    return _weighted(inputs, phi), nowhere, nowhere


def _divergence(inputs: Inputs, ratio: Tensor, objective: PolicyObjective) -> Parts:
    """-A rho, without the tokens that moved too far from the sampler and would be pushed further."""
    if inputs.sampler is None:
        raise ValueError(f"bounding '{objective.bounding}' needs sampler_logp, the log-probs of the sampler")
    assert objective.divergence_limit is not None
    assert objective.bounding in ("total_variation", "binary_kl")
    dropped, outside = divergence_mask(
        inputs.logp,
        inputs.sampler,
        inputs.advantages,
        objective.divergence_limit,
        measure=objective.bounding,
    )
    return torch.where(dropped, 0.0, -inputs.advantages * ratio), dropped, outside


def _regression(inputs: Inputs, ratio: Tensor, objective: PolicyObjective) -> Parts:
    """(A - beta L)^2 / (2 beta) of the sequence, L its log-ratio to the anchor, in equal parts per token.

    The factor makes the gradient at L = 0 that of -A log pi.
    """
    anchor = inputs.reference if objective.anchor == "reference" else inputs.old
    if anchor is None:
        raise ValueError("anchor 'reference' needs ref_logp")
    assert objective.regression_beta is not None
    log_ratio = (inputs.logp - anchor.detach()).sum(-1, keepdim=True)
    error = inputs.advantages - objective.regression_beta * log_ratio
    tokens = inputs.valid.sum(-1, keepdim=True).clamp(min=1)
    nowhere = torch.zeros_like(inputs.valid)
    return error.square() / (2 * objective.regression_beta) / tokens, nowhere, nowhere


def _weighted(inputs: Inputs, weight: Tensor) -> Tensor:
    return -weight.detach() * inputs.advantages * inputs.logp


def _shapes(inputs: Inputs, objective: PolicyObjective) -> tuple[Tensor, ...]:
    """The numbers of the form, per token by the sign of its advantage."""
    assert objective.shape_positive is not None
    assert objective.shape_negative is not None
    pairs = zip(objective.shape_positive, objective.shape_negative, strict=True)
    zeros = torch.zeros_like(inputs.advantages)
    return tuple(torch.where(inputs.advantages > 0, zeros + up, zeros + down) for up, down in pairs)


_FORMS: Mapping[str, Callable[[Inputs, Tensor, PolicyObjective], Parts]] = MappingProxyType(
    {
        "none": _none,
        "clip": _clip,
        "clip_tokens": _clip_tokens,
        "weight": _weight,
        "soft": _soft,
        "taper": _taper,
        "gamma": _gamma,
        "total_variation": _divergence,
        "binary_kl": _divergence,
        "regression": _regression,
    }
)
