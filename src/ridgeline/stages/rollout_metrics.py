"""What a rollout measures, as (sum, count) pairs."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ridgeline.schema.run_folder import Metrics
from ridgeline.stages.drawing import Group
from ridgeline.stages.judging import rewards_tensor


def rollout_metrics(sampled: Sequence[Group]) -> Metrics:
    """Means over everything that was sampled: groups with signal alone would misrepresent the policy."""
    samples = [sample for group in sampled for sample in group.samples]
    rewards_PG = rewards_tensor(samples, len(sampled))
    count = float(len(samples))
    known_PG = ~rewards_PG.isnan()
    metrics: Metrics = {
        "reward": (float(rewards_PG.nan_to_num().sum()), float(known_PG.sum())),
        "reward_spread": (float(_spread(rewards_PG).sum()), float(len(rewards_PG))),
        "length": (float(sum(len(sample.completion_ids) for sample in samples)), count),
        "stopped": (float(sum(not sample.truncated for sample in samples)), count),
    }
    for name in samples[0].rewards:
        values = [value for sample in samples if (value := sample.rewards.get(name)) is not None]
        metrics[f"reward/{name}"] = (float(sum(values)), float(len(values)))
    return metrics


def resampling_metrics(sampled: Sequence[Group], kept: Sequence[Group], wanted: int) -> Metrics:
    """Groups without signal, those drawn in place of them, and those still missing after the last attempt."""
    return {
        "dead_groups": (float(len(sampled) - len(kept)), float(len(sampled))),
        "resampled_groups": (float(len(sampled) - wanted), 1.0),
        "unfilled_groups": (float(wanted - len(kept)), 1.0),
    }


def _spread(rewards_PG: torch.Tensor) -> torch.Tensor:
    """Deviation of the rewards within each group ``[P]``; nan counts as the group's mean."""
    filled = torch.where(rewards_PG.isnan(), rewards_PG.nanmean(-1, keepdim=True).nan_to_num(), rewards_PG)
    return filled.std(-1, correction=0)
