"""Preference losses without a reference, and the likelihood term that mixtures add.

Everywhere: chosen, rejected `[pairs]` are log-probs in nats of whole completions (sums over tokens), lengths
`[pairs]` are in tokens, and avg = log-prob / length. Results are `[pairs]`, unreduced. Options out of range
and tensors of different shapes raise ValueError. Defaults are those of `pair_axes.PAIR_LOSSES`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, relu

from ridgeline.objectives.log_ratios import power_ratio
from ridgeline.objectives.pair_traits import PAIR_LOSSES, check_options
from ridgeline.objectives.preference_links import per_token

_DEFAULTS = {name: loss.options for name, loss in PAIR_LOSSES.items()}


def simpo(
    chosen: Tensor,
    rejected: Tensor,
    *,
    chosen_lengths: Tensor,
    rejected_lengths: Tensor,
    beta: float = _DEFAULTS["simpo"]["beta"],
    gamma: float = _DEFAULTS["simpo"]["gamma"],
) -> Tensor:
    """-log sigma(beta avg_c - beta avg_r - gamma).

    gamma: the target margin, at least 0, in units of beta avg. Code that takes the ratio gamma / beta
    subtracts beta * ratio: gamma = beta * ratio converts. Source: Meng et al. 2024, equation 6.
    """
    check_options("simpo", beta=beta, gamma=gamma)
    margin = per_token(chosen, chosen_lengths) - per_token(rejected, rejected_lengths)
    return -logsigmoid(beta * margin - gamma)


def alphapo(
    chosen: Tensor,
    rejected: Tensor,
    *,
    chosen_lengths: Tensor,
    rejected_lengths: Tensor,
    beta: float = _DEFAULTS["alphapo"]["beta"],
    gamma: float = _DEFAULTS["alphapo"]["gamma"],
    alpha: float = _DEFAULTS["alphapo"]["alpha"],
) -> Tensor:
    """-log sigma(r_c - r_r - gamma), r = beta (1 - exp(-alpha avg)) / alpha.

    alpha bends the reward; 0 is SimPO. gamma as in `simpo`. Beyond exp(-alpha avg) = e^30 the reward goes on
    along its tangent. Source: Gupta et al. 2025.
    """
    check_options("alphapo", beta=beta, gamma=gamma, alpha=alpha)
    reward_c = power_ratio(per_token(chosen, chosen_lengths), alpha)
    reward_r = power_ratio(per_token(rejected, rejected_lengths), alpha)
    return -logsigmoid(beta * (reward_c - reward_r) - gamma)


def cpo(chosen: Tensor, rejected: Tensor, *, beta: float = _DEFAULTS["cpo"]["beta"]) -> Tensor:
    """-log sigma(beta [log pi(y_c) - log pi(y_r)]): the contrastive term of CPO.

    CPO as published adds the likelihood of the chosen completion: `PAIR_PRESETS["cpo"]` is that mixture.
    Source: Xu et al. 2024.
    """
    check_options("cpo", beta=beta)
    return -logsigmoid(beta * _difference(chosen, rejected))


def orpo(
    chosen: Tensor,
    rejected: Tensor,
    *,
    chosen_lengths: Tensor,
    rejected_lengths: Tensor,
    beta: float = _DEFAULTS["orpo"]["beta"],
) -> Tensor:
    """-avg_c - beta log sigma(log odds_c - log odds_r), odds = p / (1 - p), p = exp(avg).

    beta is the paper's lambda, the weight of the odds ratio; the likelihood term is part of the loss. Source:
    Hong et al. 2024, equation 6.
    """
    check_options("orpo", beta=beta)
    avg_c, avg_r = per_token(chosen, chosen_lengths), per_token(rejected, rejected_lengths)
    return -avg_c - beta * logsigmoid(_log_odds(avg_c) - _log_odds(avg_r))


def slic(chosen: Tensor, rejected: Tensor, *, delta: float = _DEFAULTS["slic"]["delta"]) -> Tensor:
    """max(0, delta - log pi(y_c) + log pi(y_r)): the ranking term of SLiC-HF.

    delta: margin in nats. The regulariser - lambda log pi(y_sft) is the term `sft_chosen_sum` of a mixture.
    Source: Zhao et al. 2023 (SLiC-HF).
    """
    check_options("slic", delta=delta)
    return relu(delta - _difference(chosen, rejected))


def tpo(
    chosen: Tensor,
    rejected: Tensor,
    *,
    gold: Tensor,
    gold_lengths: Tensor,
    beta: float = _DEFAULTS["tpo"]["beta"],
    nll_weight: float = _DEFAULTS["tpo"]["nll_weight"],
) -> Tensor:
    """-log sigma(beta [log pi(y_c) - log pi(y_r)]) - nll_weight * avg_gold.

    gold: `[pairs]` log-prob of a third, gold completion of the same prompt, imitated per token; gold_lengths:
    `[pairs]`. nll_weight: the paper's alpha. Source: Saeidi et al. 2024, section 3 (TPO).
    """
    check_options("tpo", beta=beta, nll_weight=nll_weight)
    return cpo(chosen, rejected, beta=beta) - nll_weight * per_token(gold, gold_lengths)


def tpo_l(
    chosen: Tensor,
    rejected: Tensor,
    *,
    chosen_lengths: Tensor,
    rejected_lengths: Tensor,
    gold: Tensor,
    gold_lengths: Tensor,
    beta: float = _DEFAULTS["tpo_l"]["beta"],
    gamma: float = _DEFAULTS["tpo_l"]["gamma"],
    nll_weight: float = _DEFAULTS["tpo_l"]["nll_weight"],
) -> Tensor:
    """-log sigma(beta [avg_c - avg_r] - gamma) - nll_weight * avg_gold: TPO with SimPO's margin.

    gold, gold_lengths, nll_weight as in `tpo`; gamma as in `simpo`. Source: Saeidi et al. 2024, section 3
    (TPO-L).
    """
    check_options("tpo_l", beta=beta, gamma=gamma, nll_weight=nll_weight)
    margin = per_token(chosen, chosen_lengths) - per_token(rejected, rejected_lengths)
    return -logsigmoid(beta * margin - gamma) - nll_weight * per_token(gold, gold_lengths)


def sft_chosen(chosen: Tensor, *, chosen_lengths: Tensor) -> Tensor:
    """-log pi(y_c) / |y_c|: likelihood of the chosen completion per token, each pair alike.

    The term that DPO + NLL and CPO add. Source: Pang et al. 2024 (their alpha is the weight).
    """
    return -per_token(chosen, chosen_lengths)


def sft_chosen_sum(chosen: Tensor) -> Tensor:
    """-log pi(y_c): likelihood of the chosen completion, long completions weigh more."""
    return -chosen


def _difference(chosen: Tensor, rejected: Tensor) -> Tensor:
    if chosen.shape != rejected.shape:
        raise ValueError(
            f"chosen {list(chosen.shape)} and rejected {list(rejected.shape)} must have the same shape"
        )
    return chosen - rejected


def _log_odds(logp: Tensor) -> Tensor:
    """log(p / (1 - p)) given log p."""
    # A completion of certain tokens has p = 1 and infinite odds; one rounding step below keeps them finite.
    held = logp.clamp(max=-torch.finfo(logp.dtype).eps)
    return held - torch.log(-torch.expm1(held))
