"""The reward of a completion as `rl` trains on it: components, penalties for length, rewards of steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from transformers import PreTrainedTokenizerBase

from ridgeline.data.steps import step_ends
from ridgeline.objectives.shaping import overlong_penalty
from ridgeline.rewards.combine import TOTAL, Component, RewardSet
from ridgeline.rewards.reward_model import JudgeReward
from ridgeline.schema.records import Sample
from ridgeline.schema.stages import RlStage

OVERLONG = "overlong"


@dataclass
class LastStep:
    """What a process reward model says about the last step of a completion, where `total` takes them all."""

    judge: JudgeReward
    name: str = field(init=False)
    counts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.name = self.judge.name

    def __call__(self, samples: list[Sample]) -> list[float | None]:
        return [steps[-1][1] for steps in self.judge.step_scores(samples)]

    def close(self) -> None:
        """Nothing to free: the engine owns the model."""


@dataclass
class ShapedRewards:
    """Scores samples in place: every component by name, ``total``, and ``step_rewards`` where asked for."""

    rewards: RewardSet
    config: RlStage
    tokenizer: PreTrainedTokenizerBase

    def score(self, samples: list[Sample]) -> None:
        """Write everything into the samples."""
        self.rewards.score(samples)
        self._penalise(samples)
        if self.config.step_separator is not None:
            self._score_steps(samples, self.config.step_separator)

    def weights(self) -> dict[str, float]:
        """The rewards that ``total`` is made of, and their weights in it."""
        weights = {component.name: weight for component, weight in self.rewards.trained}
        overlong = self.config.overlong
        return weights if overlong is None else {**weights, OVERLONG: overlong.coefficient}

    def _penalise(self, samples: Sequence[Sample]) -> None:
        if self.config.overlong is not None:
            lengths = torch.tensor([float(len(sample.completion_ids)) for sample in samples])
            limit, buffer = self.config.sampling.max_new_tokens, self.config.overlong.buffer
            penalties = overlong_penalty(lengths, limit, buffer).tolist()
            for sample, penalty in zip(samples, penalties, strict=True):
                sample.rewards[OVERLONG] = penalty
                if (total := sample.rewards[TOTAL]) is not None:
                    sample.rewards[TOTAL] = total + self.config.overlong.coefficient * penalty
        if self.config.truncation == "penalty":
            for sample in samples:
                if sample.truncated:
                    sample.rewards[TOTAL] = self.config.truncation_reward

    def _score_steps(self, samples: Sequence[Sample], separator: str) -> None:
        """The reward of a step is that of the completion up to it; of the last one, penalties included."""
        ends = [self._ends(sample.completion_ids, separator) for sample in samples]
        begun = [[self._begun(sample, end) for end in own] for sample, own in zip(samples, ends, strict=True)]
        RewardSet(map(_per_step, self.rewards.trained)).score([part for parts in begun for part in parts])
        self._penalise([parts[-1] for parts in begun])
        for sample, own, parts in zip(samples, ends, begun, strict=True):
            sample.step_rewards = [(end, part.rewards[TOTAL]) for end, part in zip(own, parts, strict=True)]

    def _ends(self, ids: Sequence[int], separator: str) -> list[int]:
        """The last step takes what follows it along, so that the stop token is part of a step."""
        return [*step_ends(ids, self.tokenizer, separator)[:-1], len(ids) - 1]

    def _begun(self, sample: Sample, end: int) -> Sample:
        ids = sample.completion_ids[: end + 1]
        return replace(
            sample,
            completion_ids=ids,
            logprobs=sample.logprobs[: end + 1],
            generated=sample.generated[: end + 1],
            text=str(self.tokenizer.decode(ids, skip_special_tokens=True)),
            rewards={},
            step_rewards=[],
        )


def _per_step(trained: tuple[Component, float]) -> tuple[Component, float]:
    component, weight = trained
    if isinstance(component, JudgeReward) and component.step_ends is not None:
        return LastStep(component), weight
    return component, weight
