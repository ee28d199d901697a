"""Two completions of a prompt and which one is better, made on the way and judged by rewards."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ridgeline.data.order import batch_indices
from ridgeline.rewards.combine import TOTAL, RewardSet
from ridgeline.rollout.request import PromptRequest
from ridgeline.rollout.store import recorded_samples, write_samples
from ridgeline.schema.records import Sample
from ridgeline.schema.run_folder import Metrics, StageFolder
from ridgeline.schema.stages.preference import Online
from ridgeline.stages.recording import Key, key_of
from ridgeline.training.local import LocalEngine
from ridgeline.training.observer import Observer


@dataclass(frozen=True)
class Duel:
    """``probability``: how sure the judge is that ``winner`` is better, at least 1/2."""

    winner: Sample
    loser: Sample
    probability: float


@dataclass(frozen=True)
class Round:
    """Everything that was sampled in a step, and the duels it gave."""

    samples: list[Sample]
    duels: list[Duel]
    metrics: Metrics


@dataclass
class Duels:
    """Makes the duels of a step: a pure function of seed, step and weights."""

    engine: LocalEngine
    online: Online
    rewards: RewardSet
    requests: Sequence[PromptRequest]
    seed: int
    folder: StageFolder
    observer: Observer

    def fight(self, step: int) -> Round:
        """At most one duel per prompt; a tie without probabilities teaches nothing and is left out."""
        per_step = min(self.online.prompts_per_step, len(self.requests))
        chosen = batch_indices(len(self.requests), per_step, step, self.seed)
        requests = [self.requests[index] for index in chosen]
        own = None if self._is_self_play else 1
        recorded = recorded_samples(self._file(step), self.engine.versions()["policy"], own)
        samples = recorded or self._sampled(requests, step)
        duels, ties = [], 0
        for _, group in itertools.groupby(samples, key=lambda sample: sample.prompt_id):
            duel = self._duel([sample for sample in group if sample.rewards.get(TOTAL) is not None])
            ties += duel is None
            duels += [] if duel is None else [duel]
        return Round(samples, duels, _metrics(samples, ties, len(requests)))

    def _duel(self, group: list[Sample]) -> Duel | None:
        """The best against the worst."""
        if len(group) < 2:
            return None
        ordered = sorted(group, key=_total)
        loser, winner = ordered[0], ordered[-1]
        gap = _total(winner) - _total(loser)
        if winner.completion_ids == loser.completion_ids:
            return None
        if self.online.temperature is not None:
            return Duel(winner, loser, 1 / (1 + math.exp(-min(gap / self.online.temperature, 500.0))))
        if gap == 0 and self.online.method != "nash_md":
            return None
        return Duel(winner, loser, 1.0 if gap > 0 else 0.5)

    @property
    def _is_self_play(self) -> bool:
        """Both completions are the policy's own; elsewhere only the first one is."""
        return self.online.method in ("dpo", "d2po")

    def _sampled(self, requests: Sequence[PromptRequest], step: int) -> list[Sample]:
        self.observer.phase("sampling")
        if self._is_self_play:
            samples = self.engine.sample("policy", requests, self.online.sampling, seed=self.seed, step=step)
        else:
            own = [replace(request, samples=1) for request in requests]
            other = [replace(request, samples=1, first=1) for request in requests]
            both = [
                self.engine.sample(role, asked, self.online.sampling, seed=self.seed, step=step)
                for role, asked in (("policy", own), ("opponent", other))
            ]
            samples = [sample for pair in zip(*both, strict=True) for sample in pair]
        self.observer.phase("judging")
        self.rewards.score(samples)
        write_samples(self._file(step), samples)
        return samples

    def _file(self, step: int) -> Path:
        return self.folder.samples / f"{step_name(step)}.parquet"


def step_name(step: int) -> str:
    """What the files of a step are called."""
    return f"step-{step:06d}"


def left_out(made: Round, learned: Collection[Key]) -> dict[Key, str]:
    """Why a step learned nothing from a sample that is not in ``learned``."""
    fought = {sample.prompt_id for duel in made.duels for sample in (duel.winner, duel.loser)}
    duellists = {key_of(sample) for duel in made.duels for sample in (duel.winner, duel.loser)}
    reasons: dict[Key, str] = {}
    for sample in made.samples:
        key = key_of(sample)
        if sample.rewards.get(TOTAL) is None:
            reasons[key] = "no reward"
        elif sample.prompt_id not in fought:
            reasons[key] = "no two different completions of different rewards"
        elif key not in duellists:
            reasons[key] = "neither best nor worst"
        elif key not in learned:
            reasons[key] = "the opponent's"
    return reasons


def _total(sample: Sample) -> float:
    value = sample.rewards[TOTAL]
    assert value is not None
    return value


def _metrics(samples: Sequence[Sample], ties: int, prompts: int) -> Metrics:
    count = float(len(samples))
    metrics: Metrics = {
        "ties": (float(ties), float(prompts)),
        "length": (float(sum(len(sample.completion_ids) for sample in samples)), count),
        "stopped": (float(sum(not sample.truncated for sample in samples)), count),
    }
    for name in samples[0].rewards:
        values = [value for sample in samples if (value := sample.rewards.get(name)) is not None]
        key = "reward" if name == TOTAL else f"reward/{name}"
        metrics[key] = (float(sum(values)), float(len(values)))
    return metrics
