"""The text that student and teacher are compared on: given, or written by the student on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ridgeline.data.order import batch_indices
from ridgeline.models.batch import Row, Unit, completion_row
from ridgeline.models.distributions import DistillForward, is_students
from ridgeline.rewards.combine import RewardSet
from ridgeline.rollout.draws import text_key
from ridgeline.rollout.request import PromptRequest
from ridgeline.rollout.store import recorded_samples, write_samples
from ridgeline.schema.records import Sample
from ridgeline.schema.run_folder import Metrics, StageFolder
from ridgeline.schema.stages.distill import DistillStage
from ridgeline.stages.privileged import PrivilegedView
from ridgeline.training.distillation import assign_sampled, mean_of
from ridgeline.training.local import LocalEngine
from ridgeline.training.observer import Observer


@dataclass
class Batch:
    """Units to learn from, and what was measured while they were made."""

    units: list[Unit]
    metrics: Metrics


class TextSource(Protocol):
    """Batches of units as a pure function of (seed, number, weights)."""

    def collect(self, number: int) -> Batch: ...


@dataclass
class GivenText:
    """Rows of demonstrations, or of what the teacher wrote."""

    units: Sequence[Unit]
    rows_per_step: int
    seed: int

    def collect(self, number: int) -> Batch:
        chosen = batch_indices(len(self.units), self.rows_per_step, number, self.seed)
        return Batch([self.units[index] for index in chosen], {})


@dataclass
class StudentText:
    """Completions that the student writes (from ``sampler``, a role of the engine) at the moment it learns.

    ``demonstrations``: as many as requests where a share of the rows is taken from data, else none.
    """

    engine: LocalEngine
    config: DistillStage
    forward: DistillForward
    requests: Sequence[PromptRequest]
    demonstrations: Sequence[Row]
    sampler: str
    view: PrivilegedView | None
    rewards: RewardSet | None
    seed: int
    folder: StageFolder
    observer: Observer

    def collect(self, number: int) -> Batch:
        per_step = min(self.config.rows_per_step, len(self.requests))
        chosen = batch_indices(len(self.requests), per_step, number, self.seed)
        own = [index for index in chosen if self._student_writes(index, number)]
        samples = self._samples([self.requests[index] for index in own], number)
        units, metrics = self.units(samples, number)
        if self.config.mode == "policy_gradient":
            metrics |= self._assign(units, samples)
        if self.config.on_policy_share < 1:
            metrics["on_policy"] = (float(len(own)), float(len(chosen)))
            units += [[self.demonstrations[index]] for index in chosen if index not in own]
        return Batch(units, metrics)

    def _student_writes(self, index: int, number: int) -> bool:
        """A draw of its own for every row of every batch (Agarwal et al. 2024 draw one for the batch)."""
        draw = text_key(f"{self.seed}/share/{number}/{self.requests[index].id}") / 2**64
        return draw < self.config.on_policy_share

    def _samples(self, requests: Sequence[PromptRequest], number: int) -> list[Sample]:
        """Sampled and scored, or as an interrupted run left them, rewards included."""
        if not requests:
            return []
        path = self.folder.samples / f"step-{number:06d}.parquet"
        version = self.engine.versions()["policy"]
        if (recorded := recorded_samples(path, version)) is not None:
            return recorded
        self.observer.phase("sampling")
        samples = self.engine.sample(
            self.sampler, requests, self.config.sampling, seed=self.seed, step=number
        )
        for sample in samples:
            sample.weight_version = version
        if self.rewards is not None:
            self.observer.phase("scoring")
            self.rewards.score(samples)
        write_samples(path, samples)
        return samples

    def units(self, samples: Sequence[Sample], number: int) -> tuple[list[Unit], Metrics]:
        """A unit per prompt, with the teacher's view where it has one of its own; prompts it has nothing to
        say about are left out and counted."""
        size = self.config.samples_per_prompt
        groups = [samples[start : start + size] for start in range(0, len(samples), size)]
        if self.view is None:
            made = [
                [completion_row(each.prompt_ids, each.completion_ids) for each in group] for group in groups
            ]
        else:
            made = [self.view.unit(group, number) for group in groups]
        metrics = sample_metrics(samples)
        if self.view is not None:
            metrics["skipped_prompts"] = (float(sum(not unit for unit in made)), float(len(groups)))
        return [unit for unit in made if unit], metrics

    def _assign(self, units: Sequence[Unit], samples: Sequence[Sample]) -> Metrics:
        """Fields of the policy gradient, and the exact divergence where the tokens were sampled."""
        self.observer.phase("asking the teacher")
        scores = self.engine.score("policy", units, forward=self.forward)
        rows = [row for unit in units for row in unit]
        assign_sampled(rows, scores, reused=self.config.updates_per_rollout > 1)
        for row, sample in zip(rows, samples, strict=True):
            row.fields["sampler_logp"] = np.asarray(sample.logprobs, dtype=np.float32)
        tokens = float(sum(len(row.targets) for row in rows if is_students(row)))
        return {"divergence": (tokens * mean_of(scores, rows, "divergence"), tokens)}


def sample_metrics(samples: Sequence[Sample]) -> Metrics:
    """Length in tokens, share that stopped, and every reward."""
    if not samples:
        return {}
    count = float(len(samples))
    metrics: Metrics = {
        "length": (float(sum(len(sample.completion_ids) for sample in samples)), count),
        "stopped": (float(sum(not sample.truncated for sample in samples)), count),
    }
    for name in samples[0].rewards:
        values = [value for sample in samples if (value := sample.rewards.get(name)) is not None]
        metrics[f"reward/{name}"] = (float(sum(values)), float(len(values)))
    return metrics
