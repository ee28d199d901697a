"""One rollout: sample, score, compare with the reference, assign advantages; and held-out evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ridgeline.models.batch import Row, Unit, completion_row
from ridgeline.objectives.axes import PolicyObjective
from ridgeline.rollout.request import PromptRequest
from ridgeline.rollout.store import recorded_samples, write_samples
from ridgeline.schema.errors import UsageError
from ridgeline.schema.records import Sample
from ridgeline.schema.run_folder import Metrics, StageFolder
from ridgeline.schema.stages import RlStage
from ridgeline.stages.drawing import Group, Prompts, carries_signal, gather, reward_columns
from ridgeline.stages.judging import rewards_tensor
from ridgeline.stages.measuring import measurements
from ridgeline.stages.recording import Recorder, key_of
from ridgeline.stages.rollout_metrics import resampling_metrics, rollout_metrics
from ridgeline.stages.shaped_rewards import ShapedRewards
from ridgeline.training.advantages import Extras, assign_advantages
from ridgeline.training.engine import RowScores
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
    rewards: ShapedRewards
    prompts: Prompts
    heldout: Sequence[PromptRequest]
    seed: int
    folder: StageFolder
    observer: Observer
    recorder: Recorder

    def collect(self, rollout: int, *, kl_coefficient: float, reused: bool) -> Collected:
        """Rollout number ``rollout``; ``reused`` when several optimizer steps will use it.

        The old policy's log-probs are computed by the learner only then: with one step per rollout the old
        policy is the current one, and its log-probs come out of the training pass itself.
        """
        sampled = self._groups(rollout)
        groups, metrics = sampled, rollout_metrics(sampled)
        if self.config.max_resampling:
            groups = [group for group in sampled if self._carries_signal(group)]
            metrics |= resampling_metrics(sampled, groups, self._wanted)
        if not groups:
            self._record(rollout, sampled, [], [])
            return Collected([], [], metrics)
        samples = [sample for group in groups for sample in group.samples]
        rewards_PG, extras = self._rewards(groups, samples, rollout)
        rows = [completion_row(sample.prompt_ids, sample.completion_ids) for sample in samples]
        size = self.config.samples_per_prompt
        units = [rows[start : start + size] for start in range(0, len(rows), size)]
        known = self._log_probs(rows, units, samples, reused)
        signal_P = assign_advantages(
            rows, rewards_PG, self.objective, kl_coefficient=kl_coefficient, extras=extras
        )
        for scores, row in zip(known, rows, strict=True):
            scores["advantage"] = row.fields["advantage"]
        self._record(rollout, sampled, samples, known)
        if not self.config.max_resampling:
            metrics["dead_groups"] = (float((~signal_P).sum()), float(len(signal_P)))
        return Collected(units, signal_P.tolist(), metrics)

    @property
    def _wanted(self) -> int:
        return min(self.config.prompts_per_step, len(self.prompts.requests))

    def _carries_signal(self, group: Group) -> bool:
        return carries_signal(group, self.objective, list(self.rewards.weights()))

    def _groups(self, rollout: int) -> list[Group]:
        """All groups of the rollout, sampled and scored, or as an interrupted run left them on disk."""
        recorded = recorded_samples(self._file(rollout), self.engine.versions()["policy"])
        everything: list[Sample] = []

        def ask(requests: list[PromptRequest]) -> list[Sample]:
            if recorded is None:
                samples = self._sampled(requests, rollout)
            else:
                first = len(everything)
                samples = recorded[first : first + sum(request.samples for request in requests)]
            everything.extend(samples)
            return samples

        groups = gather(self.prompts, self._wanted, self.config.max_resampling, ask, self._carries_signal)
        if recorded is None:
            write_samples(self._file(rollout), everything)
        return groups

    def _file(self, rollout: int) -> Path:
        return self.folder.samples / f"{_name(rollout)}.parquet"

    def _sampled(self, requests: Sequence[PromptRequest], rollout: int) -> list[Sample]:
        self.observer.phase("sampling")
        samples = self.engine.sample("policy", requests, self.config.sampling, seed=self.seed, step=rollout)
        self.observer.phase("scoring")
        self.rewards.score(samples)
        return samples

    def _rewards(
        self, groups: Sequence[Group], samples: Sequence[Sample], rollout: int
    ) -> tuple[torch.Tensor, Extras]:
        """One reward per sample, ``[P, G]``, and what else the advantage needs."""
        rewards_PG = rewards_tensor(samples, len(groups))
        if self.objective.advantage == "max_rl" and not all(
            sample.rewards["total"] in (None, 0, 1) for sample in samples
        ):
            raise UsageError(
                f"stage '{self.config.name}': advantage max_rl needs rewards that are 0 or 1; "
                "choose group_centred for graded rewards."
            )
        extras = Extras(greedy_P=self._greedy_rewards(groups, rollout))
        if self.objective.components == "separate":
            weights = self.rewards.weights()
            extras.components_PGC = reward_columns(groups, list(weights))
            extras.weights_C = torch.tensor(list(weights.values()))
        if self.objective.advantage == "process_zscore":
            extras.steps = [
                [(end, reward) for end, reward in sample.step_rewards if reward is not None]
                for sample in samples
            ]
        if self.config.whiten_rewards:
            deviation = _deviation(rewards_PG)
            rewards_PG = rewards_PG / deviation
            extras.greedy_P = None if extras.greedy_P is None else extras.greedy_P / deviation
        return rewards_PG, extras

    def _greedy_rewards(self, groups: Sequence[Group], rollout: int) -> torch.Tensor | None:
        if self.objective.advantage != "greedy_baseline":
            return None
        single = [replace(group.request, samples=1, first=0) for group in groups]
        sampling = self.config.sampling.model_copy(update={"temperature": 0.0})
        samples = self.engine.sample("policy", single, sampling, seed=self.seed, step=rollout)
        self.rewards.score(samples)
        return rewards_tensor(samples, len(groups))[:, 0]

    def _log_probs(
        self, rows: Sequence[Row], units: Sequence[Unit], samples: Sequence[Sample], reused: bool
    ) -> list[RowScores]:
        """Write what the objective reads into the rows; return all that was scored, a trace per row."""
        for row, sample in zip(rows, samples, strict=True):
            row.fields["sampler_logp"] = np.asarray(sample.logprobs, dtype=np.float32)
        self.observer.phase("comparing with the reference")
        known = self._scores("reference", units, logp="ref_logp", states="states")
        selects = self.objective.entropy_share < 1
        if reused or selects:
            own = self._scores("policy", units, logp="old_logp", entropy="entropy")
            known = [seen | more for seen, more in zip(known, own, strict=True)]
        if self.objective.needs_critic:
            values = self._scores("critic", units, values="value")
            known = [seen | more for seen, more in zip(known, values, strict=True)]
        read = {"ref_logp": True, "old_logp": reused, "entropy": selects}
        for row, scores in zip(rows, known, strict=True):
            row.fields |= {name: scores[name] for name, needed in read.items() if needed}
            if "value" in scores:
                row.fields["old_values"] = scores["value"]
        return known

    def _scores(self, role: str, units: Sequence[Unit], **names: str) -> list[RowScores]:
        """Scores of ``role`` under the names that traces have for them."""
        scored = self.engine.score(role, units)
        return [{names[name]: value for name, value in row.items() if name in names} for row in scored]

    def _record(
        self,
        rollout: int,
        sampled: Sequence[Group],
        samples: Sequence[Sample],
        known: Sequence[RowScores],
    ) -> None:
        """Everything that was sampled; ``samples`` are those that are learned from."""
        by_key = {key_of(sample): scores for sample, scores in zip(samples, known, strict=True)}
        everything = [sample for group in sampled for sample in group.samples]
        dead = {key_of(sample): "dead group" for sample in everything if key_of(sample) not in by_key}
        self.recorder.save(_name(rollout), everything, by_key, dead)

    def evaluate(self, rollout: int) -> dict[str, Any]:
        """Held-out rewards, KL to the reference (k1, nats per completion), length and stop share.

        Intervals are over prompts. Every evaluation uses the same draws, so two of them differ by the policy
        only.
        """
        if not self.heldout:
            return {}
        samples = self.engine.sample("policy", self.heldout, self.config.sampling, seed=self.seed ^ 1, step=0)
        self.rewards.rewards.score(samples)
        name = f"evaluation-{rollout:06d}"
        write_samples(self.folder.samples / f"{name}.parquet", samples)
        return {
            "rollout": rollout,
            "samples": len(samples),
            **measurements(self.engine, "policy", samples, save=partial(self.recorder.save, name, samples)),
        }


def _name(rollout: int) -> str:
    return f"step-{rollout:06d}"


def _deviation(rewards_PG: torch.Tensor) -> torch.Tensor:
    """What the known rewards of a rollout are divided by to have unit variance."""
    known = rewards_PG[~rewards_PG.isnan()]
    return known.std().clamp_min(1e-6) if len(known) > 1 else torch.ones(())
