"""Preference losses one pair at a time, with plain probabilities, as the papers print them.

c, r: log-prob of the chosen and the rejected completion; rc, rr: under the reference.
"""

from __future__ import annotations

import math


def sigma(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def nll(x: float) -> float:
    return -math.log(sigma(x))


def margin(c: float, r: float, rc: float, rr: float) -> float:
    """Rafailov et al. 2023, equation 7, without beta: log of a ratio of ratios."""
    return math.log((math.exp(c) / math.exp(rc)) / (math.exp(r) / math.exp(rr)))


def dpo(c: float, r: float, rc: float, rr: float, *, beta: float, label: float = 1.0) -> float:
    """Rafailov et al. 2023, equation 7; in expectation over who wins."""
    h = margin(c, r, rc, rr)
    return label * nll(beta * h) + (1 - label) * nll(-beta * h)


def dpo_margin(c: float, r: float, rc: float, rr: float, *, beta: float, margin: float) -> float:
    """Amini et al. 2024 with Delta given."""
    return nll(beta * ((c - rc) - (r - rr)) - margin)


def cdpo(
    c: float, r: float, rc: float, rr: float, *, beta: float, label_smoothing: float, label: float = 1.0
) -> float:
    """Mitchell 2023: the target probability is 1 - e instead of 1."""
    target = label * (1 - label_smoothing) + (1 - label) * label_smoothing
    return dpo(c, r, rc, rr, beta=beta, label=target)


def robust_dpo(
    c: float, r: float, rc: float, rr: float, *, beta: float, label_smoothing: float, label: float = 1.0
) -> float:
    """Chowdhury et al. 2024: the loss whose expectation under flips with probability e is the clean loss."""
    e = label_smoothing
    right, wrong = dpo(c, r, rc, rr, beta=beta), dpo(r, c, rr, rc, beta=beta)
    of_chosen = ((1 - e) * right - e * wrong) / (1 - 2 * e)
    of_rejected = ((1 - e) * wrong - e * right) / (1 - 2 * e)
    return label * of_chosen + (1 - label) * of_rejected


def dpo_norm(
    c: float,
    r: float,
    rc: float,
    rr: float,
    *,
    beta: float,
    chosen_lengths: float,
    rejected_lengths: float,
    label: float = 1.0,
) -> float:
    """Lambert et al. 2024 (Tulu 3), section 5."""
    h = beta / chosen_lengths * (c - rc) - beta / rejected_lengths * (r - rr)
    return label * nll(h) + (1 - label) * nll(-h)


def ipo(c: float, r: float, rc: float, rr: float, *, beta: float, label: float = 1.0) -> float:
    """Azar et al. 2023, equation 17."""
    h = margin(c, r, rc, rr)
    return label * (h - 1 / (2 * beta)) ** 2 + (1 - label) * (-h - 1 / (2 * beta)) ** 2


def hinge(c: float, r: float, rc: float, rr: float, *, beta: float, label: float = 1.0) -> float:
    """Liu et al. 2023 (RSO): hinge-norm."""
    h = margin(c, r, rc, rr)
    return label * max(0.0, 1 - beta * h) + (1 - label) * max(0.0, 1 + beta * h)


def odpo(
    c: float,
    r: float,
    rc: float,
    rr: float,
    *,
    beta: float,
    alpha: float,
    chosen_rewards: float,
    rejected_rewards: float,
) -> float:
    """Amini et al. 2024: Delta = alpha log(score difference)."""
    offset = alpha * math.log(chosen_rewards - rejected_rewards)
    return nll(beta * margin(c, r, rc, rr) - offset)


def exo(c: float, r: float, rc: float, rr: float, *, beta: float, label_smoothing: float) -> float:
    """Ji et al. 2024, equation 16: reverse KL to the smoothed label distribution."""
    weights = [math.exp(beta * (c - rc)), math.exp(beta * (r - rr))]
    policy = [w / sum(weights) for w in weights]
    target = [1 - label_smoothing, label_smoothing]
    return sum(p * math.log(p / q) for p, q in zip(policy, target, strict=True))


def discopop(c: float, r: float, rc: float, rr: float, *, beta: float, tau: float) -> float:
    """Lu et al. 2024, equation 5: log-ratio modulated loss."""
    rho = beta * margin(c, r, rc, rr)
    blend = sigma(rho / tau)
    return (1 - blend) * math.log(1 + math.exp(-rho)) + blend * math.exp(-rho)


def rpo(
    c: float,
    r: float,
    rc: float,
    rr: float,
    *,
    beta: float,
    eta: float,
    chosen_rewards: float,
    rejected_rewards: float,
) -> float:
    """Nvidia 2024 (Nemotron-4): D[a || b] = s(b) log(s(b)/s(a)) + (1-s(b)) log((1-s(b))/(1-s(a)))."""
    a, b = sigma(beta * margin(c, r, rc, rr)), sigma(eta * (chosen_rewards - rejected_rewards))
    return b * math.log(b / a) + (1 - b) * math.log((1 - b) / (1 - a))


def rebel(
    c: float,
    r: float,
    rc: float,
    rr: float,
    *,
    beta: float,
    chosen_rewards: float,
    rejected_rewards: float,
) -> float:
    """Gao et al. 2024, with eta = 1 / beta."""
    eta = 1 / beta
    return (margin(c, r, rc, rr) / eta - (chosen_rewards - rejected_rewards)) ** 2


def nca(c: float, r: float, rc: float, rr: float, *, beta: float) -> float:
    """Chen et al. 2024: -log s(r_w) - 1/2 sum over both of log s(-r)."""
    rewards = [beta * (c - rc), beta * (r - rr)]
    return -math.log(sigma(rewards[0])) - sum(0.5 * math.log(sigma(-x)) for x in rewards)


def bco_pair(c: float, r: float, rc: float, rr: float, *, beta: float, shift: float = 0.0) -> float:
    """Jung et al. 2024: -log s(r_w - d) - log s(-(r_l - d))."""
    return -math.log(sigma(beta * (c - rc) - shift)) - math.log(sigma(-(beta * (r - rr) - shift)))


def sppo(c: float, r: float, rc: float, rr: float, *, beta: float, label: float = 1.0) -> float:
    """Wu et al. 2024, equation 4.7, with eta = 1 / beta, for both completions."""
    eta = 1 / beta
    return (c - rc - eta * (label - 0.5)) ** 2 + (r - rr - eta * ((1 - label) - 0.5)) ** 2


def cal_dpo(c: float, r: float, rc: float, rr: float, *, beta: float) -> float:
    """Xiao et al. 2024: contrastive term without beta, plus two calibration terms."""
    target = 1 / (2 * beta)
    return nll(margin(c, r, rc, rr)) + (c - rc - target) ** 2 + (r - rr + target) ** 2


def apo_zero(c: float, r: float, rc: float, rr: float, *, beta: float) -> float:
    """D'Oosterlinck et al. 2024, equation 7, plus 1."""
    return 1 - sigma(beta * (c - rc)) + sigma(beta * (r - rr))


def apo_down(c: float, r: float, rc: float, rr: float, *, beta: float) -> float:
    """D'Oosterlinck et al. 2024, equation 8, plus 1."""
    return 1 + sigma(beta * (c - rc)) - sigma(beta * ((c - rc) - (r - rr)))


def simpo(
    c: float, r: float, *, beta: float, gamma: float, chosen_lengths: float, rejected_lengths: float
) -> float:
    """Meng et al. 2024, equation 6."""
    return nll(beta / chosen_lengths * c - beta / rejected_lengths * r - gamma)


def alphapo(
    c: float,
    r: float,
    *,
    beta: float,
    gamma: float,
    alpha: float,
    chosen_lengths: float,
    rejected_lengths: float,
) -> float:
    """Gupta et al. 2025: r = beta (1 - p^-alpha) / alpha of the length-normalised probability."""
    p_c, p_r = math.exp(c) ** (1 / chosen_lengths), math.exp(r) ** (1 / rejected_lengths)

    def reward(p: float) -> float:
        return beta * math.log(p) if alpha == 0 else beta * (1 - p**-alpha) / alpha

    return nll(reward(p_c) - reward(p_r) - gamma)


def cpo(c: float, r: float, *, beta: float) -> float:
    """Xu et al. 2024: L_prefer."""
    return nll(beta * c - beta * r)


def orpo(c: float, r: float, *, beta: float, chosen_lengths: float, rejected_lengths: float) -> float:
    """Hong et al. 2024, equation 6: L_SFT + lambda L_OR."""
    p_c, p_r = math.exp(c / chosen_lengths), math.exp(r / rejected_lengths)
    odds_ratio = (p_c / (1 - p_c)) / (p_r / (1 - p_r))
    return -c / chosen_lengths + beta * nll(math.log(odds_ratio))


def slic(c: float, r: float, *, delta: float) -> float:
    """Zhao et al. 2023: max(0, delta - log P(y+) + log P(y-))."""
    return max(0.0, delta - c + r)


def tpo(c: float, r: float, *, gold: float, gold_lengths: float, beta: float, nll_weight: float) -> float:
    """Saeidi et al. 2024: preference term plus likelihood of the gold completion."""
    return cpo(c, r, beta=beta) - nll_weight * gold / gold_lengths


def tpo_l(
    c: float,
    r: float,
    *,
    chosen_lengths: float,
    rejected_lengths: float,
    gold: float,
    gold_lengths: float,
    beta: float,
    gamma: float,
    nll_weight: float,
) -> float:
    """Saeidi et al. 2024, TPO-L."""
    contrast = simpo(
        c, r, beta=beta, gamma=gamma, chosen_lengths=chosen_lengths, rejected_lengths=rejected_lengths
    )
    return contrast - nll_weight * gold / gold_lengths


def sft_chosen(c: float, *, chosen_lengths: float) -> float:
    """Pang et al. 2024: - log pi(y_w) / |y_w|."""
    return -c / chosen_lengths


def sft_chosen_sum(c: float) -> float:
    return -c


def aot(c: list[float], r: list[float], rc: list[float], rr: list[float], *, beta: float) -> float:
    """Melnyk et al. 2024, paired: sum over quantiles of the sorted margins."""
    policy = sorted(a - b for a, b in zip(c, r, strict=True))
    reference = sorted(a - b for a, b in zip(rc, rr, strict=True))
    return sum(nll(beta * (a - b)) for a, b in zip(policy, reference, strict=True))


def aot_unpaired(c: list[float], r: list[float], rc: list[float], rr: list[float], *, beta: float) -> float:
    """Melnyk et al. 2024, unpaired: sum over quantiles of the sorted log-ratios of either kind."""
    good = sorted(a - b for a, b in zip(c, rc, strict=True))
    bad = sorted(a - b for a, b in zip(r, rr, strict=True))
    return sum(nll(beta * (a - b)) for a, b in zip(good, bad, strict=True))
