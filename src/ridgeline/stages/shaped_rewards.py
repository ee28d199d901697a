"""The reward of a completion as `rl` trains on it: components, penalties for length, rewards of steps."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from transformers import PreTrainedTokenizerBase

from ridgeline.objectives.shaping import overlong_penalty
from ridgeline.rewards.combine import TOTAL, RewardSet
from ridgeline.schema.records import Sample
from ridgeline.schema.stages import RlStage

OVERLONG = "overlong"


@dataclass
class ShapedRewards:
    """Scores samples in place: every component by name, ``total``, and ``step_rewards`` where asked for."""

    rewards: RewardSet
    config: RlStage
    tokenizer: PreTrainedTokenizerBase

    def score(self, samples: list[Sample]) -> None:
        """Write everything into the samples."""
        self.rewards.score(samples)
        if self.config.overlong is not None:
            self._charge_length(samples)
        if self.config.truncation == "penalty":
            for sample in samples:
                if sample.truncated:
                    sample.rewards[TOTAL] = self.config.truncation_reward
        if self.config.step_separator is not None:
            self._score_steps(samples, self.config.step_separator)

    def weights(self) -> dict[str, float]:
        """The rewards that ``total`` is made of, and their weights in it."""
        trained = zip(self.rewards.names, (spec.weight for spec in self.config.reward), strict=False)
        weights = {name: weight for name, weight in trained if weight != 0}
        overlong = self.config.overlong
        return weights if overlong is None else {**weights, OVERLONG: overlong.coefficient}

    def _charge_length(self, samples: Sequence[Sample]) -> None:
        assert self.config.overlong is not None
        lengths = torch.tensor([float(len(sample.completion_ids)) for sample in samples])
        limit, buffer = self.config.sampling.max_new_tokens, self.config.overlong.buffer
        for sample, penalty in zip(samples, overlong_penalty(lengths, limit, buffer).tolist(), strict=True):
            sample.rewards[OVERLONG] = penalty
            if (total := sample.rewards[TOTAL]) is not None:
                sample.rewards[TOTAL] = total + self.config.overlong.coefficient * penalty

    def _score_steps(self, samples: Sequence[Sample], separator: str) -> None:
        """The reward after every step but the last is that of the completion so far."""
        ends = [step_ends(sample.completion_ids, self.tokenizer, separator) for sample in samples]
        begun = [
            self._begun(sample, end) for sample, own in zip(samples, ends, strict=True) for end in own[:-1]
        ]
        if begun:
            self.rewards.score(begun)
        scored = iter(begun)
        for sample, own in zip(samples, ends, strict=True):
            rewards = [next(scored).rewards[TOTAL] for _ in own[:-1]]
            sample.step_rewards = list(zip(own, [*rewards, sample.rewards[TOTAL]], strict=True))

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


def step_ends(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase, separator: str) -> list[int]:
    """Index of the token that completes each separator in the decoded text, and of the last token.

    Ids are never re-tokenised: the number of separators in the text of the first n tokens grows with n.
    """

    def separators(tokens: int) -> int:
        return str(tokenizer.decode(list(ids[:tokens]), skip_special_tokens=True)).count(separator)

    last = len(ids) - 1
    found = {
        bisect_left(range(1, len(ids) + 1), number, key=separators)
        for number in range(1, separators(len(ids)) + 1)
    }
    return sorted(found | {last})
