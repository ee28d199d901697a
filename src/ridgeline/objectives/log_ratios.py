"""From token log-probs to what preference losses compare: sums, means, f-divergences, weights."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ridgeline.objectives.pair_traits import Divergence, check_divergence

# Far beyond any useful gradient, yet squares of e^30 times a log-ratio of 1e4 still fit into float32.
_STEEPEST = 30.0


def sequence_logp(logp_BN: Tensor, mask_BN: Tensor, how: Literal["sum", "mean"] = "sum") -> Tensor:
    """log pi(y|x) = sum_t log pi(y_t|x, y_<t) over valid tokens, or its mean per token.

    logp_BN, mask_BN: `[B, N]`, nats and 1 on completion tokens; what other positions hold (nan included)
    reaches neither value nor gradient. Returns `[B]` nats (per token with "mean"); 0 for a row without a
    valid token. Raises ValueError for another `how`.
    """
    valid_BN = mask_BN != 0
    total_B = torch.where(valid_BN, logp_BN, 0.0).sum(-1)
    if how == "sum":
        return total_B
    if how == "mean":
        return total_B / valid_BN.sum(-1).clamp(min=1)
    raise ValueError(f"unknown how '{how}'; choose one of: sum, mean")


def length_desensitised(logp_BN: Tensor, mask_BN: Tensor, public_B: Tensor, alpha: float) -> Tensor:
    """sum_{t <= l_p} log pi(y_t) + alpha * sum_{t > l_p} log pi(y_t): a longer answer's excess counts less.

    logp_BN, mask_BN: `[B, N]` as in `sequence_logp`. public_B: `[B]`, the public length l_p of the pair in
    valid tokens, min(|y_c|, |y_r|). alpha: in [0, 1]; 1 is the plain sum. Use it for policy and reference
    alike. Returns `[B]` nats. Raises ValueError for alpha outside [0, 1]. Source: LD-DPO, Liu et al. 2024.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha = {alpha} must lie between 0 (ignore the excess) and 1 (the plain sum)")
    valid_BN = mask_BN != 0
    is_excess_BN = valid_BN.long().cumsum(-1) > public_B.unsqueeze(-1)
    kept_BN = torch.where(valid_BN, logp_BN, 0.0)
    return torch.where(is_excess_BN, alpha * kept_BN, kept_BN).sum(-1)


def divergence_ratio(log_ratio: Tensor, divergence: Divergence, alpha: float | None = None) -> Tensor:
    """f'(u) of the ratio u = pi / ref, given as log u: what takes the place of the log-ratio in f-DPO.

        reverse_kl   log u                      (plain DPO)
        forward_kl   1 - 1/u
        js           log(2 u / (1 + u))
        alpha        (1 - u^-alpha) / alpha     (0 < alpha < 1: between reverse and forward KL)

    Each is shifted to 0 at u = 1; a margin does not see the constant. log_ratio: any shape, nats.
    Then `dpo(chosen, rejected, 0, 0)` on the results is f-DPO. Where 1/u or u^-alpha exceeds e^30 the curve
    goes on along its tangent, so that value and gradient stay finite and the order of ratios is kept.
    Raises ValueError for an unknown divergence, and for alpha missing, outside (0, 1) or without use. Source:
    Wang et al. 2023 (f-DPO; their alpha).
    """
    check_divergence(divergence, alpha)
    if divergence == "forward_kl":
        return power_ratio(log_ratio, 1.0)
    if divergence == "js":
        return logsigmoid(log_ratio) + math.log(2.0)
    if divergence == "alpha":
        assert alpha is not None
        return power_ratio(log_ratio, alpha)
    return log_ratio


def power_ratio(log_u: Tensor, alpha: float) -> Tensor:
    """(1 - u^-alpha) / alpha given log u; log u itself at alpha = 0; the tangent beyond u^-alpha = e^30."""
    if alpha == 0:
        return log_u
    exponent = -alpha * log_u
    held = exponent.clamp(max=_STEEPEST)
    return -(torch.expm1(held) + torch.exp(held) * (exponent - held)) / alpha


def wpo_weight(logp_BN: Tensor, collision_BN: Tensor, mask_BN: Tensor) -> Tensor:
    """exp(mean_t [log pi(y_t) - log sum_v pi(v)^2]): how likely the policy is to write this completion.

    logp_BN, mask_BN: `[B, N]` as in `sequence_logp`. collision_BN: `[B, N]`, log sum_v pi(v)^2 in nats, the
    expected probability of a token sampled from the policy itself, so that a completion sampled from the
    policy weighs about 1. Returns `[B]`, at least 0, detached; 1 for a row without a valid token. A pair
    weighs `wpo_pair_weight`. Source: WPO, Zhou et al. 2024, equation 2 with sampled alignment.
    """
    return sequence_logp(logp_BN.detach() - collision_BN.detach(), mask_BN, "mean").exp()


def wpo_pair_weight(chosen_weight: Tensor, rejected_weight: Tensor) -> Tensor:
    """min(1, w_c w_r): the weight of a pair from those of its completions, `[pairs]`, detached."""
    return (chosen_weight * rejected_weight).detach().clamp(max=1.0)
