"""One rollout: sample, score, compare with the reference, assign advantages; and held-out evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ridgeline.data.order import batch_indices
from ridgeline.models.batch import Row, Unit, completion_row
from ridgeline.objectives.axes import PolicyObjective
from ridgeline.rewards.combine import RewardSet
from ridgeline.rollout.request import PromptRequest
from ridgeline.rollout.store import read_samples, write_samples
from ridgeline.schema.records import Sample
from ridgeline.schema.run_folder import Metrics, StageFolder
from ridgeline.schema.stages import RlStage
from ridgeline.stages.judging import rewards_tensor
from ridgeline.stages.measuring import measurements
from ridgeline.training.advantages import assign_advantages
from ridgeline.training.local import LocalEngine
from ridgeline.training.observer import Observer


@dataclass
class Collected:
    """A rollout ready to learn from: a unit per prompt, which of them carry signal, and what was measured."""

    units: list[Unit]
    signal: list[bool]
    metrics: Metrics


@dataclass
class Collector:
    """Everything between the weights and a batch to learn from."""

    engine: LocalEngine
    config: RlStage
    objective: PolicyObjective
    rewards: RewardSet
    train: Sequence[PromptRequest]
    heldout: Sequence[PromptRequest]
    seed: int
    folder: StageFolder
    observer: Observer

    def collect(self, rollout: int, *, kl_coefficient: float, reused: bool) -> Collected:
        """Rollout number ``rollout``; ``reused`` when several optimizer steps will use it.

        The old policy's log-probs are computed by the learner only then: with one step per rollout the old
        policy is the current one, and its log-probs come out of the training pass itself.
        """
        requests = self._requests(rollout)
        samples = self._recorded(rollout) or self._sampled(requests, rollout)
        rewards_PG = rewards_tensor(samples, len(requests))
        greedy_P = self._greedy_rewards(requests, rollout)
        if self.config.whiten_rewards:
            deviation = _deviation(rewards_PG)
            rewards_PG = rewards_PG / deviation
            greedy_P = None if greedy_P is None else greedy_P / deviation
        rows = [completion_row(sample.prompt_ids, sample.completion_ids) for sample in samples]
        group = self.config.samples_per_prompt
        units = [rows[start : start + group] for start in range(0, len(rows), group)]
        self._log_probs(rows, units, samples, reused)
        signal_P = assign_advantages(
            rows, rewards_PG, self.objective, kl_coefficient=kl_coefficient, greedy_rewards_P=greedy_P
        )
        metrics = _rollout_metrics(samples, rewards_PG, signal_P)
        return Collected(units, signal_P.tolist(), metrics)

    def _requests(self, rollout: int) -> list[PromptRequest]:
        per_step = min(self.config.prompts_per_step, len(self.train))
        chosen = batch_indices(len(self.train), per_step, rollout, self.seed)
        return [self.train[index] for index in chosen]

    def _file(self, rollout: int) -> Path:
        return self.folder.samples / f"step-{rollout:06d}.parquet"

    def _recorded(self, rollout: int) -> list[Sample] | None:
        """The rollout as an interrupted run left it, rewards included.

        Tokens would come out the same again, but a reward that timed out then might not time out now.
        """
        path = self._file(rollout)
        if not path.is_file():
            return None
        samples = read_samples(path)
        current = self.engine.versions()["policy"]
        return samples if all(sample.weight_version == current for sample in samples) else None

    def _sampled(self, requests: Sequence[PromptRequest], rollout: int) -> list[Sample]:
        self.observer.phase("sampling")
        samples = self.engine.sample("policy", requests, self.config.sampling, seed=self.seed, step=rollout)
        self.observer.phase("scoring")
        self._score(samples)
        write_samples(self._file(rollout), samples)
        return samples

    def _score(self, samples: list[Sample]) -> None:
        """Every reward by name, and the total that the policy is trained on."""
        self.rewards.score(samples)
        if self.config.truncation == "penalty":
            for sample in samples:
                if sample.truncated:
                    sample.rewards["total"] = self.config.truncation_reward

    def _greedy_rewards(self, requests: Sequence[PromptRequest], rollout: int) -> torch.Tensor | None:
        if self.objective.advantage != "greedy_baseline":
            return None
        single = [replace(request, samples=1) for request in requests]
        sampling = self.config.sampling.model_copy(update={"temperature": 0.0})
        samples = self.engine.sample("policy", single, sampling, seed=self.seed, step=rollout)
        self._score(samples)
        return rewards_tensor(samples, len(requests))[:, 0]

    def _log_probs(
        self, rows: Sequence[Row], units: Sequence[Unit], samples: Sequence[Sample], reused: bool
    ) -> None:
        for row, sample in zip(rows, samples, strict=True):
            row.fields["sampler_logp"] = np.asarray(sample.logprobs, dtype=np.float32)
        self.observer.phase("comparing with the reference")
        for row, score in zip(rows, self.engine.score("reference", units), strict=True):
            row.fields["ref_logp"] = score["logp"]
        if reused:
            for row, score in zip(rows, self.engine.score("policy", units), strict=True):
                row.fields["old_logp"] = score["logp"]
        if self.objective.needs_critic:
            for row, score in zip(rows, self.engine.score("critic", units), strict=True):
                row.fields["old_values"] = score["values"]

    def evaluate(self, rollout: int) -> dict[str, Any]:
        """Held-out rewards, KL to the reference (k1, nats per completion), length and stop share.

        Intervals are over prompts. Every evaluation uses the same draws, so two of them differ by the policy
        only.
        """
        if not self.heldout:
            return {}
        samples = self.engine.sample("policy", self.heldout, self.config.sampling, seed=self.seed ^ 1, step=0)
        self.rewards.score(samples)
        write_samples(self.folder.samples / f"evaluation-{rollout:06d}.parquet", samples)
        return {
            "rollout": rollout,
            "samples": len(samples),
            **measurements(self.engine, "policy", samples),
        }


def _rollout_metrics(samples: Sequence[Sample], rewards_PG: torch.Tensor, signal_P: torch.Tensor) -> Metrics:
    count = float(len(samples))
    known_PG = ~rewards_PG.isnan()
    metrics: Metrics = {
        "reward": (float(rewards_PG.nan_to_num().sum()), float(known_PG.sum())),
        "reward_spread": (float(_spread(rewards_PG).sum()), float(len(rewards_PG))),
        "dead_groups": (float((~signal_P).sum()), float(len(signal_P))),
        "length": (float(sum(len(sample.completion_ids) for sample in samples)), count),
        "stopped": (float(sum(not sample.truncated for sample in samples)), count),
    }
    for name in samples[0].rewards:
        values = [value for sample in samples if (value := sample.rewards.get(name)) is not None]
        metrics[f"reward/{name}"] = (float(sum(values)), float(len(values)))
    return metrics


def _deviation(rewards_PG: torch.Tensor) -> torch.Tensor:
    """What the known rewards of a rollout are divided by to have unit variance."""
    known = rewards_PG[~rewards_PG.isnan()]
    return known.std().clamp_min(1e-6) if len(known) > 1 else torch.ones(())


def _spread(rewards_PG: torch.Tensor) -> torch.Tensor:
    """Deviation of the rewards within each group ``[P]``; nan counts as the group's mean."""
    filled = torch.where(rewards_PG.isnan(), rewards_PG.nanmean(-1, keepdim=True).nan_to_num(), rewards_PG)
    return filled.std(-1, correction=0)
