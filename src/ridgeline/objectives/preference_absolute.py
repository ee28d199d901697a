"""Preference losses that act on each log-ratio by itself, so that likelihoods cannot both drift away.

Everywhere: chosen, rejected, ref_chosen, ref_rejected `[pairs]` are log-probs in nats of whole completions
(sums over tokens); l_c = chosen - ref_chosen, l_r = rejected - ref_rejected, h = l_c - l_r is the margin and
beta l the implicit reward. Results are `[pairs]`, unreduced. Options out of range and tensors of different
shapes raise ValueError. Defaults are those of `pair_axes.PAIR_LOSSES`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ridgeline.objectives.pair_traits import PAIR_LOSSES, check_options
from ridgeline.objectives.preference_links import checked_label, log_loss, log_ratios

_DEFAULTS = {name: loss.options for name, loss in PAIR_LOSSES.items()}


def nca(
    chosen: Tensor,
    rejected: Tensor,
    ref_chosen: Tensor,
    ref_rejected: Tensor,
    *,
    beta: float = _DEFAULTS["nca"]["beta"],
) -> Tensor:
    """-log sigma(beta l_c) - [log sigma(-beta l_c) + log sigma(-beta l_r)] / 2.

    Acts on absolute likelihoods: lowest at sigma(beta l_c) = 2/3. 2 log 2 where policy = reference. Source:
    Chen et al. 2024, equation for pairs (NCA).
    """
    check_options("nca", beta=beta)
    l_c, l_r = log_ratios(chosen, rejected, ref_chosen, ref_rejected)
    return log_loss(beta * l_c) + (log_loss(-beta * l_c) + log_loss(-beta * l_r)) / 2


def bco_pair(
    chosen: Tensor,
    rejected: Tensor,
    ref_chosen: Tensor,
    ref_rejected: Tensor,
    *,
    shift: Tensor | float = 0.0,
    beta: float = _DEFAULTS["bco_pair"]["beta"],
) -> Tensor:
    """-log sigma(beta l_c - d) - log sigma(-(beta l_r - d)): a binary classifier of completions.

    shift: d in units of the implicit reward, a number or `[pairs]`: the (running) mean of beta l over chosen
    and rejected of whole steps (`whole_step_inputs`, `unpaired.bco_shift`); taken as a constant. 2 log 2
    where policy = reference and d = 0. Source: Jung et al. 2024 (BCO).
    """
    check_options("bco_pair", beta=beta)
    l_c, l_r = log_ratios(chosen, rejected, ref_chosen, ref_rejected)
    d = shift.detach() if isinstance(shift, Tensor) else shift
    return log_loss(beta * l_c - d) + log_loss(d - beta * l_r)


def sppo(
    chosen: Tensor,
    rejected: Tensor,
    ref_chosen: Tensor,
    ref_rejected: Tensor,
    *,
    beta: float = _DEFAULTS["sppo"]["beta"],
    label: Tensor | None = None,
) -> Tensor:
    """(l_c - (p - 1/2) / beta)^2 + (l_r - (1/2 - p) / beta)^2 in nats^2, p = 1 without labels ("hard").

    label: `[pairs]` in [0, 1], the estimated probability p that chosen beats rejected. beta = 1 / eta.
    1 / (2 beta^2) where policy = reference. Source: Wu et al. 2024, equation 4.7.
    """
    check_options("sppo", beta=beta)
    l_c, l_r = log_ratios(chosen, rejected, ref_chosen, ref_rejected)
    target = (0.5 if label is None else checked_label(label, chosen) - 0.5) / beta
    return (l_c - target).square() + (l_r + target).square()


def cal_dpo(
    chosen: Tensor,
    rejected: Tensor,
    ref_chosen: Tensor,
    ref_rejected: Tensor,
    *,
    beta: float = _DEFAULTS["cal_dpo"]["beta"],
) -> Tensor:
    """-log sigma(h) + (l_c - 1 / (2 beta))^2 + (l_r + 1 / (2 beta))^2: rewards calibrated to +-1/2.

    The first term has no beta; it enters through the targets, as the paper has it. The calibration keeps the
    likelihood of chosen completions from falling. Source: Xiao et al. 2024 (Cal-DPO).
    """
    check_options("cal_dpo", beta=beta)
    l_c, l_r = log_ratios(chosen, rejected, ref_chosen, ref_rejected)
    target = 1 / (2 * beta)
    return log_loss(l_c - l_r) + (l_c - target).square() + (l_r + target).square()


def apo_zero(
    chosen: Tensor,
    rejected: Tensor,
    ref_chosen: Tensor,
    ref_rejected: Tensor,
    *,
    beta: float = _DEFAULTS["apo_zero"]["beta"],
) -> Tensor:
    """1 - sigma(beta l_c) + sigma(beta l_r): chosen up, rejected down; for data better than the model.

    Between 0 and 2; 1 where policy = reference. Source: D'Oosterlinck et al. 2024, equation 7.
    """
    check_options("apo_zero", beta=beta)
    l_c, l_r = log_ratios(chosen, rejected, ref_chosen, ref_rejected)
    return torch.sigmoid(-beta * l_c) + torch.sigmoid(beta * l_r)


def apo_down(
    chosen: Tensor,
    rejected: Tensor,
    ref_chosen: Tensor,
    ref_rejected: Tensor,
    *,
    beta: float = _DEFAULTS["apo_down"]["beta"],
) -> Tensor:
    """sigma(beta l_c) + 1 - sigma(beta h): both down, rejected faster; for a model better than the data.

    Between 0 and 2; 1 where policy = reference. Source: D'Oosterlinck et al. 2024, equation 8.
    """
    check_options("apo_down", beta=beta)
    l_c, l_r = log_ratios(chosen, rejected, ref_chosen, ref_rejected)
    return torch.sigmoid(beta * l_c) + torch.sigmoid(-beta * (l_c - l_r))
