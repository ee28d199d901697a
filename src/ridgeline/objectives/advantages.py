"""Advantages: from rewards to the constant that multiplies each token's gradient.

Group rewards are `[prompts, samples]`, prompt-major, in reward units. A nan reward means "not applicable": it
is left out of its group's statistics and gets advantage 0. Integer rewards are taken as float32. Results are
constants (detached), of the same shape. A group whose rewards are all equal gets exactly 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

STD_EPSILON = 1e-4


def group_centred(rewards: Tensor) -> Tensor:
    """r_i - mean of the group. `[P, G]`. Source: Dr. GRPO, Liu et al. 2025."""
    rewards, valid = _prepare(rewards)
    return _centre(rewards, valid, dim=-1)


def group_zscore(rewards: Tensor) -> Tensor:
    """(r_i - mean) / (std + 1e-4) with the sample standard deviation of the group (divisor n - 1). `[P, G]`.

    0 in a group of one. Source: GRPO, Shao et al. 2024.
    """
    rewards, valid = _prepare(rewards)
    centred = _centre(rewards, valid, dim=-1)
    return centred / (_sample_std(centred, valid, dim=-1) + STD_EPSILON)


def leave_one_out(rewards: Tensor) -> Tensor:
    """r_i - mean of the other samples of the prompt = n/(n-1) (r_i - mean). `[P, G]`, unbiased.

    A prompt with a single applicable reward gets 0. Raises ValueError for fewer than 2 samples per prompt.
    Source: RLOO, Kool et al. 2019; Ahmadian et al. 2024.
    """
    rewards, valid = _prepare(rewards)
    if rewards.shape[-1] < 2:
        raise ValueError(
            f"leave_one_out needs at least 2 samples per prompt to compare, got {rewards.shape[-1]}; "
            "raise the samples per prompt or choose another advantage"
        )
    n = valid.sum(-1, keepdim=True)
    return _centre(rewards, valid, dim=-1) * n / (n - 1).clamp(min=1)


def max_rl(rewards: Tensor) -> Tensor:
    """(b_i - mean) / mean for rewards b that are 0 or 1; 0 where no sample succeeds. `[P, G]`.

    Raises ValueError for any other reward. Source: maximum likelihood RL (MaxRL), 2026.
    """
    rewards, valid = _prepare(rewards)
    if not bool(((rewards == 0) | (rewards == 1)).all()):
        raise ValueError("max_rl needs rewards that are 0 or 1; choose group_centred for graded rewards")
    mean = _mean(rewards, valid, dim=-1)
    return _centre(rewards, valid, dim=-1) / torch.where(mean > 0, mean, 1.0)


def optimal_value(rewards: Tensor, beta: float) -> Tensor:
    """r_i - V*, the value of the KL-regularised optimum V* = beta log mean_j exp(r_j / beta). `[P, G]`.

    beta: reward units per nat; large values tend to the mean of the group, small ones to its maximum. V* is
    exact for samples of the reference policy, and is estimated from the group. Raises ValueError when beta is
    not above 0. Source: A*-PO, Brantley et al. 2025.
    """
    if not beta > 0:
        raise ValueError(f"beta = {beta} must be above 0")
    rewards, valid = _prepare(rewards)
    top = rewards.masked_fill(~valid, -torch.inf).amax(-1, keepdim=True)
    gap = torch.where(valid, rewards - torch.where(top.isfinite(), top, 0.0), 0.0)
    weights = torch.where(valid, (gap / beta).exp(), 0.0)
    mean = _mean(weights, valid, dim=-1)
    return torch.where(valid, gap - beta * torch.where(mean > 0, mean, 1.0).log(), 0.0)


def process_zscore(step_rewards: Tensor) -> Tensor:
    """(r - mean) / (std + 1e-4) over all step rewards of all samples of a prompt. `[P, G, S]`, nan: no step.

    `following_steps` makes token advantages of them. Source: GRPO with process supervision, Shao et al. 2024,
    section 4.1.3.
    """
    return group_zscore(step_rewards.flatten(1)).view_as(step_rewards)


def following_steps(values: Tensor, ends: Tensor, mask: Tensor) -> Tensor:
    """sum_{j: end_j >= t} value_j: what the steps that end at or after a token earned. `[B, T]`.

    values: `[B, S]`, 0 where there is no step; ends: `[B, S]`, the last token of each step, 0 to T - 1;
    mask: `[B, T]`, outside of which the result is 0. Source: Shao et al. 2024, section 4.1.3.
    """
    at_ends = values.new_zeros(mask.shape).scatter_add(-1, ends, values.detach())
    return torch.where(mask != 0, at_ends.flip(-1).cumsum(-1).flip(-1), 0.0)


def separate_components(rewards: Tensor, weights: Tensor, advantage: Callable[[Tensor], Tensor]) -> Tensor:
    """The advantage of every reward by itself, their weighted sum, scaled to unit deviation over the step.

        A_i = sum_c weights_c advantage(r_c)_i / (std over the step + 1e-4)

    rewards: `[P, G, C]`, weights: `[C]`; returns `[P, G]`. The step's mean is 0 by construction, as each
    advantage is centred in its group. Different mixtures of rewards keep different advantages, where the
    z-score of their sum would let them collapse. Source: GDPO, Liu et al. 2026.
    """
    parts = torch.stack([advantage(part) for part in rewards.unbind(-1)], -1)
    summed = (parts * weights).sum(-1)
    known = ~rewards.isnan().all(-1)
    flat = known.flatten()
    deviation = _sample_std(torch.where(flat, summed.flatten(), 0.0), flat, dim=0)
    return summed / (deviation + STD_EPSILON)


def greedy_baseline(rewards: Tensor, greedy_rewards: Tensor) -> Tensor:
    """r_i - reward of the greedy completion of the same prompt. rewards `[P, G]`, greedy_rewards `[P]`.

    0 where either is nan. Raises ValueError when the number of prompts differs. Source: ReMax, Li 2023.
    """
    if greedy_rewards.shape != rewards.shape[:-1]:
        raise ValueError(
            f"greedy_rewards {list(greedy_rewards.shape)} need one entry per prompt "
            f"of rewards {list(rewards.shape)}"
        )
    rewards, valid = _prepare(rewards)
    baseline, known = _prepare(greedy_rewards.unsqueeze(-1))
    return torch.where(valid & known, rewards - baseline, 0.0)


def batch_centred(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """v - mean over every valid entry of the whole optimizer step; 0 elsewhere. Any shape.

    The batch-mean baseline of REINFORCE (Williams 1992). mask, where given, has the shape of the values.
    """
    values, valid = _prepare(values, mask)
    return _centre(values.flatten(), valid.flatten(), dim=0).view_as(values)


def batch_whiten(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """(v - mean) / (std + 1e-4) over the valid entries of the whole optimizer step; 0 elsewhere. Any shape.

    Sample standard deviation; 0 with a single valid entry. mask, where given, has the shape of the values,
    and what masked entries hold does not matter. Source: PPO as implemented for language models, Huang et al.
    2024.
    """
    values, valid = _prepare(values, mask)
    flat = valid.flatten()
    centred = _centre(values.flatten(), flat, dim=0)
    return (centred / (_sample_std(centred, flat, dim=0) + STD_EPSILON)).view_as(values)


def rewards_to_go(rewards: Tensor, mask: Tensor, gamma: float) -> Tensor:
    """sum_{k >= t} gamma^(k - t) r_k over the valid tokens: the return without a baseline. `[B, T]`.

    Arguments as `gae`. Source: Williams 1992; REINFORCE++ (Hu et al. 2025) whitens it over the step.
    """
    return gae(rewards, torch.zeros_like(rewards), mask, gamma, 1.0)[0]


def length_adaptive_lam(mask: Tensor, alpha: float) -> Tensor:
    """max(0, 1 - 1 / (alpha |a|)) of every row of mask `[B, T]`: long completions decay more slowly. `[B]`.

    Source: VAPO, Yue et al. 2025.
    """
    tokens = (mask != 0).sum(-1).clamp(min=1)
    return (1 - 1 / (alpha * tokens)).clamp(min=0)


def gae(
    rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float | Tensor
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation, by the backward recursion.

        A_t = sum_l (gamma lam)^l delta_{t+l},    delta_t = r_t + gamma V_{t+1} - V_t

    rewards, values, mask: `[B, T]`; rewards and values in reward units, values as of the rollout. lam: one
    number, or one for each row `[B]`. The last valid token of a row is terminal. Positions outside the mask
    are skipped as if they were cut out (the next valid token follows directly), so tool output inside a
    completion neither discounts nor earns; rewards there are ignored.
    Returns (advantages, returns), both `[B, T]`, detached and 0 outside the mask; returns = advantages +
    values are the critic's targets. Raises ValueError when gamma or lam leave [0, 1]. Source: Schulman et al.
    2016, equation 16.
    """
    decay = torch.as_tensor(lam, dtype=values.dtype, device=values.device)
    if not (0 <= gamma <= 1 and bool(((decay >= 0) & (decay <= 1)).all())):
        raise ValueError(f"gamma = {gamma} and lam = {lam} must lie between 0 and 1")
    valid = mask != 0
    rewards_BT = torch.where(valid, rewards.detach(), 0.0)
    values_BT = torch.where(valid, values.detach(), 0.0)
    advantages_BT = torch.zeros_like(values_BT)
    next_value = next_advantage = values_BT.new_zeros(values_BT.shape[0])
    for t in reversed(range(values_BT.shape[1])):
        delta = rewards_BT[:, t] + gamma * next_value - values_BT[:, t]
        advantage = delta + gamma * decay * next_advantage
        advantages_BT[:, t] = torch.where(valid[:, t], advantage, 0.0)
        next_advantage = torch.where(valid[:, t], advantage, next_advantage)
        next_value = torch.where(valid[:, t], values_BT[:, t], next_value)
    return advantages_BT, advantages_BT + values_BT


REWARD_ADVANTAGES: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType(
    {
        "batch_centred": batch_centred,
        "batch_whiten": batch_whiten,
        "group_centred": group_centred,
        "group_zscore": group_zscore,
        "leave_one_out": leave_one_out,
        "max_rl": max_rl,
    }
)
"""Those that need nothing but rewards `[P, G]`, by their name in `PolicyObjective.advantage`."""


def _prepare(rewards: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Constant floating rewards with 0 at invalid entries, and which entries are valid."""
    floating = rewards.detach() if rewards.is_floating_point() else rewards.float()
    valid = ~floating.isnan()
    if mask is not None:
        if mask.shape != rewards.shape:
            raise ValueError(
                f"values {list(rewards.shape)} and mask {list(mask.shape)} must have the same shape"
            )
        valid = valid & (mask != 0)
    return torch.where(valid, floating, 0.0), valid


def _mean(rewards: Tensor, valid: Tensor, dim: int) -> Tensor:
    return rewards.sum(dim, keepdim=True) / valid.sum(dim, keepdim=True).clamp(min=1)


def _centre(rewards: Tensor, valid: Tensor, dim: int) -> Tensor:
    centred = rewards - _mean(rewards, valid, dim)
    if rewards.numel() == 0:
        return centred
    # The mean of equal rewards may round away from them; a later division by 1e-4 would turn that into a
    # signal.
    highest = rewards.masked_fill(~valid, -torch.inf).amax(dim, keepdim=True)
    lowest = rewards.masked_fill(~valid, torch.inf).amin(dim, keepdim=True)
    return torch.where(valid & (highest > lowest), centred, 0.0)


def _sample_std(centred: Tensor, valid: Tensor, dim: int) -> Tensor:
    n = valid.sum(dim, keepdim=True)
    return (centred.square().sum(dim, keepdim=True) / (n - 1).clamp(min=1)).sqrt()
