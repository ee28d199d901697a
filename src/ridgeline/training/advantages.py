"""From the rewards of a rollout to the per-token fields that the policy learns from.

The no-grad pass over the whole step: whatever needs more than one row (group baselines, whitening, GAE,
quantiles) is settled here, before rows are cut into micro-batches. Groups are prompt-major: row p * G + g is
sample g of prompt p.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch

from ridgeline.models.batch import MicroBatch, Row
from ridgeline.objectives import advantages as formulas
from ridgeline.objectives.axes import PolicyObjective
from ridgeline.objectives.kl import ESTIMATORS
from ridgeline.objectives.masks import top_entropy_mask
from ridgeline.objectives.shaping import sequence_rewards, token_rewards


@dataclass
class Extras:
    """What some advantages need besides one reward per row.

    greedy_P: rewards of the greedy completions. components_PGC, weights_C: every reward by itself, and its
    weight in the sum. steps: for each row the rewards of its steps, as (token that ends the step, reward).
    """

    greedy_P: torch.Tensor | None = None
    components_PGC: torch.Tensor | None = None
    weights_C: torch.Tensor | None = None
    steps: Sequence[Sequence[tuple[int, float]]] | None = None


def assign_advantages(
    rows: Sequence[Row],
    rewards_PG: torch.Tensor,
    objective: PolicyObjective,
    *,
    kl_coefficient: float,
    extras: Extras | None = None,
) -> torch.Tensor:
    """Write ``advantage`` (and with a critic ``returns``) into every row; return which groups carry signal.

    ``rewards_PG`` holds one reward per row, nan for "not applicable". Rows need ``sampler_logp`` and
    ``ref_logp`` for a KL in the reward, ``old_values`` for GAE, ``entropy`` for an entropy share below 1. The
    value ``positive`` of a row says whether its reward is above 0. Returns ``[P]`` booleans: a group without
    signal (all advantages 0) teaches the policy nothing.
    """
    batch = MicroBatch.of([[row] for row in rows])
    extras = extras or Extras()
    known_BN = batch.mask_BN & ~rewards_PG.isnan().flatten()[:, None]
    for row, reward in zip(rows, rewards_PG.flatten().tolist(), strict=True):
        row.values["positive"] = float(reward > 0)
    if objective.advantage in ("gae", "rewards_to_go"):
        advantages_BN = _per_token(batch, rewards_PG.flatten(), known_BN, objective, kl_coefficient)
    elif objective.advantage == "process_zscore":
        advantages_BN = _per_step(batch, rewards_PG, extras)
    else:
        advantages_PG = _per_completion(batch, rewards_PG, objective, kl_coefficient, extras)
        advantages_BN = advantages_PG.flatten()[:, None] * batch.mask_BN
    if objective.whiten:
        advantages_BN = formulas.batch_whiten(advantages_BN, known_BN)
    if objective.entropy_share < 1:
        top_BN = top_entropy_mask(batch.field("entropy"), batch.mask_BN, objective.entropy_share)
        advantages_BN = torch.where(top_BN, advantages_BN, 0.0)
    _write(batch, "advantage", advantages_BN)
    return (advantages_BN != 0).any(1).view(rewards_PG.shape).any(1)


def _per_completion(
    batch: MicroBatch,
    rewards_PG: torch.Tensor,
    objective: PolicyObjective,
    coefficient: float,
    extras: Extras,
) -> torch.Tensor:
    """``[P, G]``, the KL charged as a sum over the completion."""
    if objective.components == "separate":
        if extras.components_PGC is None or extras.weights_C is None:
            raise ValueError("components 'separate' needs every reward by itself, and the weights")
        advantage = formulas.REWARD_ADVANTAGES[objective.advantage]
        return formulas.separate_components(extras.components_PGC, extras.weights_C, advantage)
    kl_BN = _kl_in_reward(batch, objective, coefficient)
    shaped_B = sequence_rewards(rewards_PG.flatten(), kl_BN, batch.mask_BN, coefficient)
    shaped_PG = shaped_B.view_as(rewards_PG)
    if objective.advantage == "greedy_baseline":
        if extras.greedy_P is None:
            raise ValueError("advantage 'greedy_baseline' needs the rewards of greedy completions")
        return formulas.greedy_baseline(shaped_PG, extras.greedy_P)
    if objective.advantage == "optimal_value":
        assert objective.optimal_beta is not None
        return formulas.optimal_value(shaped_PG, objective.optimal_beta)
    return formulas.REWARD_ADVANTAGES[objective.advantage](shaped_PG)


def _kl_in_reward(batch: MicroBatch, objective: PolicyObjective, coefficient: float) -> torch.Tensor:
    """The estimate per token ``[B, N]``; zero where the KL is not charged to the reward."""
    if objective.kl_placement != "reward" or coefficient == 0:
        return torch.zeros(batch.mask_BN.shape)
    learner = "old_logp" if "old_logp" in batch.rows[0].fields else "sampler_logp"
    return ESTIMATORS[objective.kl_estimator](batch.field(learner), batch.field("ref_logp"))


def _per_token(
    batch: MicroBatch,
    rewards_B: torch.Tensor,
    known_BN: torch.Tensor,
    objective: PolicyObjective,
    coefficient: float,
) -> torch.Tensor:
    """The KL charged token by token; a row whose reward is nan teaches neither policy nor critic."""
    kl_BN = _kl_in_reward(batch, objective, coefficient)
    shaped_BN = token_rewards(rewards_B.nan_to_num(), kl_BN, known_BN, coefficient)
    if objective.advantage == "rewards_to_go":
        return formulas.rewards_to_go(shaped_BN, known_BN, objective.gamma)
    values_BN = batch.field("old_values")
    estimate = partial(formulas.gae, shaped_BN, values_BN, known_BN, objective.gamma)
    lam: float | torch.Tensor = objective.lam
    if objective.lam_length is not None:
        lam = formulas.length_adaptive_lam(known_BN, objective.lam_length)
    advantages_BN, returns_BN = estimate(lam)
    if objective.critic_lam is not None:
        _, returns_BN = estimate(objective.critic_lam)
    _write(batch, "returns", torch.where(known_BN, returns_BN, values_BN))
    return advantages_BN


def _per_step(batch: MicroBatch, rewards_PG: torch.Tensor, extras: Extras) -> torch.Tensor:
    """Step rewards compared within the prompt; a token earns the steps that end at or after it."""
    if extras.steps is None:
        raise ValueError("advantage 'process_zscore' needs the rewards of every step")
    width = max(1, *(len(steps) for steps in extras.steps))
    rewards_BS = torch.full((len(batch.rows), width), torch.nan)
    ends_BS = torch.zeros(len(batch.rows), width, dtype=torch.long)
    for number, steps in enumerate(extras.steps):
        for place, (end, reward) in enumerate(steps):
            ends_BS[number, place], rewards_BS[number, place] = end, reward
    normalised = formulas.process_zscore(rewards_BS.view(*rewards_PG.shape, width)).view_as(rewards_BS)
    return formulas.following_steps(normalised, ends_BS, batch.mask_BN)


def _write(batch: MicroBatch, name: str, values_BN: torch.Tensor) -> None:
    for number, row in enumerate(batch.rows):
        row.fields[name] = values_BN[number, : len(row.targets)].float().numpy().copy()
