"""Preference losses of the margin alone: a difference of log-ratios, then a link (sigmoid, hinge, square).

Everywhere: chosen, rejected, ref_chosen, ref_rejected `[pairs]` are log-probs in nats of whole completions
(sums over tokens); l_c = chosen - ref_chosen, l_r = rejected - ref_rejected, h = l_c - l_r is the margin and
beta l the implicit reward. Results are `[pairs]`, unreduced. Options out of range and tensors of different
shapes raise ValueError. Defaults are those of `pair_axes.PAIR_LOSSES`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, relu, softplus

from ridgeline.objectives.pair_traits import PAIR_LOSSES, check_options
from ridgeline.objectives.preference_links import (
    bernoulli_kl,
    either_way,
    fitted,
    log_loss,
    log_ratios,
    margin_of,
    per_token,
)

_DEFAULTS = {name: loss.options for name, loss in PAIR_LOSSES.items()}


def dpo(
    chosen: Tensor,
    rejected: Tensor,
    ref_chosen: Tensor,
    ref_rejected: Tensor,
    *,
    beta: float = _DEFAULTS["dpo"]["beta"],
    label: Tensor | None = None,
) -> Tensor:
    """-log sigma(beta h). With a soft label p: -p log sigma(beta h) - (1 - p) log sigma(-beta h).

    label: `[pairs]` in [0, 1], the probability that chosen is better; 0.5 for a tie, None means 1. At least
    0; log 2 where policy = reference. Raises ValueError for labels outside [0, 1]. Source: Rafailov et
    al. 2023, equation 7.
    """
    check_options("dpo", beta=beta)
    return either_way(log_loss, beta * margin_of(chosen, rejected, ref_chosen, ref_rejected), label)


def dpo_margin(
    chosen: Tensor,
    rejected: Tensor,
    ref_chosen: Tensor,
    ref_rejected: Tensor,
    *,
    margin: Tensor,
    beta: float = _DEFAULTS["dpo_margin"]["beta"],
) -> Tensor:
    """-log sigma(beta h - m): DPO that asks for more where annotators were surer.

    margin: `[pairs]` in units of the implicit reward beta l. At least 0. Source: Amini et al. 2024, with the
    offset given; Llama 2, Touvron et al. 2023, for the reward model.
    """
    check_options("dpo_margin", beta=beta)
    return log_loss(beta * margin_of(chosen, rejected, ref_chosen, ref_rejected) - fitted(margin, chosen))


def cdpo(
    chosen: Tensor,
    rejected: Tensor,
    ref_chosen: Tensor,
    ref_rejected: Tensor,
    *,
    beta: float = _DEFAULTS["cdpo"]["beta"],
    label_smoothing: float = _DEFAULTS["cdpo"]["label_smoothing"],
    label: Tensor | None = None,
) -> Tensor:
    """-(1 - e) log sigma(beta h) - e log sigma(-beta h): DPO that expects a share e of labels to be wrong.

    label_smoothing: e in [0, 0.5). label: as in `dpo`; then the target is p (1 - e) + (1 - p) e. Lowest at
    beta h = log((1 - e) / e), and it rises beyond. Source: Mitchell 2023, "A note on DPO with noisy
    preferences".
    """
    check_options("cdpo", beta=beta, label_smoothing=label_smoothing)

    def smoothed(x: Tensor) -> Tensor:
        return (1 - label_smoothing) * log_loss(x) + label_smoothing * log_loss(-x)

    return either_way(smoothed, beta * margin_of(chosen, rejected, ref_chosen, ref_rejected), label)


def robust_dpo(
    chosen: Tensor,
    rejected: Tensor,
    ref_chosen: Tensor,
    ref_rejected: Tensor,
    *,
    beta: float = _DEFAULTS["robust_dpo"]["beta"],
    label_smoothing: float = _DEFAULTS["robust_dpo"]["label_smoothing"],
    label: Tensor | None = None,
) -> Tensor:
    """[-(1 - e) log sigma(beta h) + e log sigma(-beta h)] / (1 - 2 e): unbiased if a share e of labels flips.

    label_smoothing: e in [0, 0.5). label: as in `dpo`. Falls with the margin throughout and has no lower
    bound. Source: Chowdhury et al. 2024.
    """
    check_options("robust_dpo", beta=beta, label_smoothing=label_smoothing)

    def debiased(x: Tensor) -> Tensor:
        kept = (1 - label_smoothing) * log_loss(x) - label_smoothing * log_loss(-x)
        return kept / (1 - 2 * label_smoothing)

    return either_way(debiased, beta * margin_of(chosen, rejected, ref_chosen, ref_rejected), label)


def dpo_norm(
    chosen: Tensor,
    rejected: Tensor,
    ref_chosen: Tensor,
    ref_rejected: Tensor,
    *,
    chosen_lengths: Tensor,
    rejected_lengths: Tensor,
    beta: float = _DEFAULTS["dpo_norm"]["beta"],
    label: Tensor | None = None,
) -> Tensor:
    """-log sigma(beta [l_c / |y_c| - l_r / |y_r|]): DPO on averages per token, hence the larger beta.

    chosen_lengths, rejected_lengths: `[pairs]` tokens. label: as in `dpo`. Source: Lambert et al. 2024
    (Tulu 3), section 5.
    """
    check_options("dpo_norm", beta=beta)
    l_c, l_r = log_ratios(chosen, rejected, ref_chosen, ref_rejected)
    margin = per_token(l_c, chosen_lengths) - per_token(l_r, rejected_lengths)
    return either_way(log_loss, beta * margin, label)


def ipo(
    chosen: Tensor,
    rejected: Tensor,
    ref_chosen: Tensor,
    ref_rejected: Tensor,
    *,
    beta: float = _DEFAULTS["ipo"]["beta"],
    label: Tensor | None = None,
) -> Tensor:
    """(h - 1 / (2 beta))^2 in nats^2: the margin is drawn to a finite target, not to infinity.

    On sums over tokens, as equation 17 has it; pass averages per token to obtain what some libraries call
    "ipo". label: as in `dpo`. Starts at 1 / (4 beta^2), so compare by accuracy and margin. Source: Azar et
    al. 2023, equation 17, beta for their tau.
    """
    check_options("ipo", beta=beta)
    target = 1 / (2 * beta)
    margin = margin_of(chosen, rejected, ref_chosen, ref_rejected)
    return either_way(lambda h: (h - target).square(), margin, label)


def hinge(
    chosen: Tensor,
    rejected: Tensor,
    ref_chosen: Tensor,
    ref_rejected: Tensor,
    *,
    beta: float = _DEFAULTS["hinge"]["beta"],
    label: Tensor | None = None,
) -> Tensor:
    """max(0, 1 - beta h): no gradient once the margin reaches 1 / beta nats.

    label: as in `dpo`. 1 where policy = reference. Source: Zhao et al. 2023 with the reference as in Liu et
    al. 2023 (RSO).
    """
    check_options("hinge", beta=beta)
    margin = margin_of(chosen, rejected, ref_chosen, ref_rejected)
    return either_way(lambda x: relu(1 - x), beta * margin, label)


def odpo(
    chosen: Tensor,
    rejected: Tensor,
    ref_chosen: Tensor,
    ref_rejected: Tensor,
    *,
    chosen_rewards: Tensor,
    rejected_rewards: Tensor,
    beta: float = _DEFAULTS["odpo"]["beta"],
    alpha: float = _DEFAULTS["odpo"]["alpha"],
) -> Tensor:
    """-log sigma(beta h - Delta), Delta = alpha log(score_c - score_r).

    chosen_rewards, rejected_rewards: `[pairs]` scores. alpha: at least 0. The loss tends to 0 with the
    difference of scores: equal scores teach nothing when alpha > 0. Raises ValueError where the rejected
    completion has the higher score. Source: Amini et al. 2024.
    """
    check_options("odpo", beta=beta, alpha=alpha)
    gap = fitted(chosen_rewards, chosen) - fitted(rejected_rewards, chosen)
    if bool((gap < 0).any()):
        raise ValueError(
            "odpo needs chosen_rewards of at least rejected_rewards; swap pairs that are the other way round"
        )
    # The smallest number instead of 0: alpha = 0 then is plain DPO, not 0 times infinity.
    offset = alpha * gap.clamp(min=torch.finfo(gap.dtype).tiny).log()
    losses = log_loss(beta * margin_of(chosen, rejected, ref_chosen, ref_rejected) - offset)
    return losses if alpha == 0 else torch.where(gap > 0, losses, 0.0)


def exo(
    chosen: Tensor,
    rejected: Tensor,
    ref_chosen: Tensor,
    ref_rejected: Tensor,
    *,
    beta: float = _DEFAULTS["exo"]["beta"],
    label_smoothing: float = _DEFAULTS["exo"]["label_smoothing"],
) -> Tensor:
    """KL( (s, 1 - s) || (1 - e, e) ) with s = sigma(beta h): the reverse KL where DPO has the forward one.

    label_smoothing: e in (0, 0.5). At least 0; lowest at beta h = log((1 - e) / e). Not convex: the gradient
    vanishes for pairs far on the wrong side. Source: Ji et al. 2024, equation 16.
    """
    check_options("exo", beta=beta, label_smoothing=label_smoothing)
    x = beta * margin_of(chosen, rejected, ref_chosen, ref_rejected)
    target = torch.logit(torch.tensor(1 - label_smoothing, dtype=x.dtype, device=x.device))
    return bernoulli_kl(x, target)


def discopop(
    chosen: Tensor,
    rejected: Tensor,
    ref_chosen: Tensor,
    ref_rejected: Tensor,
    *,
    beta: float = _DEFAULTS["discopop"]["beta"],
    tau: float = _DEFAULTS["discopop"]["tau"],
) -> Tensor:
    """(1 - w) log(1 + e^-x) + w e^-x with x = beta h, w = sigma(x / tau): found by search over programs.

    tau: temperature of the blend in (0, 1]. At least 0; not monotone around x = 0. Source: Lu et al. 2024,
    equation 5.
    """
    check_options("discopop", beta=beta, tau=tau)
    x = beta * margin_of(chosen, rejected, ref_chosen, ref_rejected)
    # One exponent: apart, e^-x overflows where w has long vanished.
    exponential = torch.exp(logsigmoid(x / tau) - x)
    return torch.sigmoid(-x / tau) * softplus(-x) + exponential


def rpo(
    chosen: Tensor,
    rejected: Tensor,
    ref_chosen: Tensor,
    ref_rejected: Tensor,
    *,
    chosen_rewards: Tensor,
    rejected_rewards: Tensor,
    beta: float = _DEFAULTS["rpo"]["beta"],
    eta: float = _DEFAULTS["rpo"]["eta"],
) -> Tensor:
    """KL( sigma(b) || sigma(a) ), a = beta h, b = eta (r_c - r_r): the margin imitates the gap of rewards.

    chosen_rewards, rejected_rewards: `[pairs]` reward units; eta: nats per reward unit. At least 0 (up to
    rounding), 0 where a = b, so the loss rises again beyond the gap. DPO plus an NLL term, also called RPO,
    is a mixture instead. Source: Nvidia 2024 (Nemotron-4 340B), section 3.3.
    """
    check_options("rpo", beta=beta, eta=eta)
    gap = eta * (fitted(chosen_rewards, chosen) - fitted(rejected_rewards, chosen))
    return bernoulli_kl(gap, beta * margin_of(chosen, rejected, ref_chosen, ref_rejected))


def rebel(
    chosen: Tensor,
    rejected: Tensor,
    ref_chosen: Tensor,
    ref_rejected: Tensor,
    *,
    chosen_rewards: Tensor,
    rejected_rewards: Tensor,
    beta: float = _DEFAULTS["rebel"]["beta"],
) -> Tensor:
    """(beta h - (r_c - r_r))^2: regression of relative rewards, beta = 1 / eta.

    The reference is the previous iterate of the policy. chosen_rewards, rejected_rewards: `[pairs]`; the
    result is in reward units squared. Source: Gao et al. 2024 (REBEL).
    """
    check_options("rebel", beta=beta)
    gap = fitted(chosen_rewards, chosen) - fitted(rejected_rewards, chosen)
    return (beta * margin_of(chosen, rejected, ref_chosen, ref_rejected) - gap).square()
