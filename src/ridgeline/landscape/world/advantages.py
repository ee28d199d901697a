"""Advantages of walked paths, by the estimators of `objectives.advantages`: an action takes a token's place.

Groups are start-major: row p * G + g is path g from start p, as completions are of prompts.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ridgeline.landscape.world.settings import GROUPED, Settings
from ridgeline.objectives import advantages as formulas
from ridgeline.objectives.axes import PolicyObjective
from ridgeline.objectives.kl import ESTIMATORS
from ridgeline.objectives.shaping import sequence_rewards, token_rewards


class Estimates(NamedTuple):
    """What a batch of paths says about its actions.

    advantages_BT: constants. returns_BT: the critic's targets, None without values. mask_BT: 1 where an
    action takes part. dead: share of groups whose paths all earned the same; None without groups.
    """

    advantages_BT: Tensor
    returns_BT: Tensor | None
    mask_BT: Tensor
    dead: float | None


def estimate(
    rewards_BT: Tensor,
    logp_BT: Tensor,
    ref_logp_BT: Tensor,
    values_BT: Tensor | None,
    objective: PolicyObjective,
    settings: Settings,
) -> Estimates:
    """The advantage that the objective names, KL charged to the reward where the objective places it.

    rewards_BT: altitudes stepped on. logp_BT, ref_logp_BT: nats, of the policy that walked and the reference.
    values_BT: V at the states acted from, needed by "gae". settings: resolved.
    """
    mask_BT = torch.ones_like(rewards_BT)
    charged = objective.kl_placement == "reward" and objective.kl_coefficient > 0
    kl_BT = ESTIMATORS[objective.kl_estimator](logp_BT, ref_logp_BT) if charged else 0 * rewards_BT
    if settings.algorithm in GROUPED:
        return _per_path(rewards_BT, kl_BT, mask_BT, objective, settings)
    assert settings.gamma is not None
    shaped_BT = rewards_BT + token_rewards(
        rewards_BT.new_zeros(len(mask_BT)), kl_BT, mask_BT, _charge(objective)
    )
    returns_BT = None
    if objective.advantage == "gae":
        assert values_BT is not None
        lam = objective.lam
        advantages_BT, returns_BT = formulas.gae(shaped_BT, values_BT, mask_BT, settings.gamma, lam)
    else:
        advantages_BT = formulas.rewards_to_go(shaped_BT, mask_BT, settings.gamma)
        if settings.baseline == "time":  # each step compares the paths: a "prompt" per step
            advantages_BT = formulas.leave_one_out(advantages_BT.T).T
    if objective.whiten:
        advantages_BT = formulas.batch_whiten(advantages_BT, mask_BT)
    return Estimates(advantages_BT, returns_BT, mask_BT, None)


def _per_path(
    rewards_BT: Tensor, kl_BT: Tensor, mask_BT: Tensor, objective: PolicyObjective, settings: Settings
) -> Estimates:
    """One number per path, from its discounted return compared with its group's."""
    assert settings.gamma is not None
    steps_T = torch.arange(rewards_BT.shape[1], dtype=rewards_BT.dtype)
    returns_B = (rewards_BT * settings.gamma**steps_T).sum(-1)
    shaped_B = sequence_rewards(returns_B, kl_BT, mask_BT, _charge(objective))
    by_group = formulas.REWARD_ADVANTAGES[objective.advantage](shaped_B.view(-1, settings.group))
    alive_P = (by_group != 0).any(-1)
    if settings.filter_dead:
        mask_BT = mask_BT * alive_P.repeat_interleave(settings.group)[:, None]
    advantages_BT = by_group.flatten()[:, None] * mask_BT
    if objective.whiten:
        advantages_BT = formulas.batch_whiten(advantages_BT, mask_BT)
    return Estimates(advantages_BT, None, mask_BT, float((~alive_P).double().mean()))


def _charge(objective: PolicyObjective) -> float:
    return objective.kl_coefficient if objective.kl_placement == "reward" else 0.0
