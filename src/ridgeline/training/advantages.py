"""From the rewards of a rollout to the per-token fields that the policy learns from.

The no-grad pass over the whole step: whatever needs more than one row (group baselines, whitening, GAE) is
settled here, before rows are cut into micro-batches. Groups are prompt-major: row p * G + g is sample g of
prompt p.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ridgeline.models.batch import MicroBatch, Row
from ridgeline.objectives import advantages as formulas
from ridgeline.objectives.axes import PolicyObjective
from ridgeline.objectives.kl import ESTIMATORS
from ridgeline.objectives.shaping import sequence_rewards, token_rewards


def assign_advantages(
    rows: Sequence[Row],
    rewards_PG: torch.Tensor,
    objective: PolicyObjective,
    *,
    kl_coefficient: float,
    greedy_rewards_P: torch.Tensor | None = None,
) -> torch.Tensor:
    """Write ``advantage`` (and with a critic ``returns``) into every row; return which groups carry signal.

    ``rewards_PG`` holds one reward per row, nan for "not applicable". Rows need ``sampler_logp`` and
    ``ref_logp`` for a KL in the reward, ``old_values`` for GAE. Returns ``[P]`` booleans: a group without
    signal (all advantages 0) teaches the policy nothing.
    """
    batch = MicroBatch.of([[row] for row in rows])
    kl_BN = _kl_in_reward(batch, objective, kl_coefficient)
    rewards_B = rewards_PG.flatten()
    if objective.needs_critic:
        advantages_BN = _generalised(batch, rewards_B, kl_BN, objective, kl_coefficient)
    else:
        shaped_PG = sequence_rewards(rewards_B, kl_BN, batch.mask_BN, kl_coefficient).view_as(rewards_PG)
        if objective.advantage == "greedy_baseline":
            if greedy_rewards_P is None:
                raise ValueError("advantage 'greedy_baseline' needs the rewards of greedy completions")
            advantages_PG = formulas.greedy_baseline(shaped_PG, greedy_rewards_P)
        else:
            advantages_PG = formulas.REWARD_ADVANTAGES[objective.advantage](shaped_PG)
        advantages_BN = advantages_PG.flatten()[:, None] * batch.mask_BN
    if objective.whiten:
        known_BN = batch.mask_BN & ~rewards_B.isnan()[:, None]
        advantages_BN = formulas.batch_whiten(advantages_BN, known_BN)
    _write(batch, "advantage", advantages_BN)
    return (advantages_BN != 0).any(1).view(rewards_PG.shape).any(1)


def _kl_in_reward(batch: MicroBatch, objective: PolicyObjective, coefficient: float) -> torch.Tensor:
    """The estimate per token ``[B, N]``; zero where the KL is not charged to the reward."""
    if objective.kl_placement != "reward" or coefficient == 0:
        return torch.zeros(batch.mask_BN.shape)
    learner = "old_logp" if "old_logp" in batch.rows[0].fields else "sampler_logp"
    return ESTIMATORS[objective.kl_estimator](batch.field(learner), batch.field("ref_logp"))


def _generalised(
    batch: MicroBatch,
    rewards_B: torch.Tensor,
    kl_BN: torch.Tensor,
    objective: PolicyObjective,
    coefficient: float,
) -> torch.Tensor:
    """GAE with the KL charged token by token; a row whose reward is nan teaches neither policy nor critic."""
    known_BN = batch.mask_BN & ~rewards_B.isnan()[:, None]
    shaped_BN = token_rewards(rewards_B.nan_to_num(), kl_BN, known_BN, coefficient)
    values_BN = batch.field("old_values")
    advantages_BN, returns_BN = formulas.gae(shaped_BN, values_BN, known_BN, objective.gamma, objective.lam)
    _write(batch, "returns", torch.where(known_BN, returns_BN, values_BN))
    return advantages_BN


def _write(batch: MicroBatch, name: str, values_BN: torch.Tensor) -> None:
    for number, row in enumerate(batch.rows):
        row.fields[name] = values_BN[number, : len(row.targets)].float().numpy().copy()
