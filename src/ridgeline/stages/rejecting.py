"""A round of rejection sampling: a pool of scored completions, what is selected of it, and by chance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ridgeline.preferences.keyed import uniform
from ridgeline.rewards.combine import TOTAL, RewardSet
from ridgeline.rollout.request import PromptRequest
from ridgeline.schema.errors import DataError
from ridgeline.schema.records import Sample
from ridgeline.schema.stages.reject import PER_PROMPT, RejectStage
from ridgeline.stages.collecting import sample_in_parts
from ridgeline.stages.context import StageContext
from ridgeline.stages.recording import Recorder, key_of
from ridgeline.statistics import selection
from ridgeline.statistics.inputs import Floats, Integers
from ridgeline.training.local import LocalEngine


@dataclass
class Round:
    """What a round sampled and chose.

    pool: all completions, prompt-major. rewards_PG: their rewards, nan where one may not be selected.
    control: as many completions chosen at random, of the control's own pool from the second round on.
    left_out: completions of the pool that may not be selected, by reason.
    """

    number: int
    pool: list[Sample]
    rewards_PG: Floats
    selected: list[Sample]
    control: list[Sample]
    left_out: dict[str, int]

    def groups(self) -> list[list[Sample]]:
        """The completions of each prompt that may be selected."""
        samples = self.rewards_PG.shape[1]
        eligible = ~np.isnan(self.rewards_PG.ravel())
        return [
            [self.pool[k] for k in range(start, start + samples) if eligible[k]]
            for start in range(0, len(self.pool), samples)
        ]


@dataclass
class Rounds:
    """Makes rounds; one that was made before is read back from the stage's samples."""

    context: StageContext
    engine: LocalEngine
    config: RejectStage
    rewards: RewardSet
    requests: Sequence[PromptRequest]
    recorder: Recorder

    def round(self, number: int) -> Round:
        """Sample, score and select round ``number`` (from 0) with the weights of now.

        Raises:
            DataError: nothing can be selected in the first round.
        """
        pool = self._pool("policy", number)
        rewards_PG, reasons = candidates(pool, self.config)
        chosen = choose(pool, rewards_PG, self.config, self.context.seed)
        if not len(chosen) and number == 0:
            raise DataError(_nothing(self.config, reasons))
        self._record(number, pool, reasons, chosen)
        control = self._control(number, pool, chosen) if self.config.train and self.config.control else []
        left_out = Counter(reason for reason in reasons if reason is not None)
        return Round(number, pool, rewards_PG, [pool[k] for k in chosen], control, left_out)

    def _record(
        self, number: int, pool: Sequence[Sample], reasons: Sequence[str | None], chosen: Integers
    ) -> None:
        """Why each completion was not selected; a round that is read back finds it written."""
        if (self.context.folder.traces / f"{_name('policy', number)}.parquet").is_file():
            return
        selected = set(chosen.tolist())
        discarded = {
            key_of(sample): reason or "not selected"
            for place, (sample, reason) in enumerate(zip(pool, reasons, strict=True))
            if place not in selected
        }
        self.recorder.save(_name("policy", number), pool, {}, discarded)

    def _pool(self, role: str, number: int) -> list[Sample]:
        """Each round draws samples of numbers of their own, so that it does not repeat the draws before."""
        first = number * self.config.samples_per_prompt
        return sample_in_parts(
            self.context,
            self.engine,
            role,
            [replace(request, first=first) for request in self.requests],
            self.config.sampling,
            self.context.folder.samples / _name(role, number),
            self.rewards.score,
        )

    def _control(self, number: int, pool: list[Sample], chosen: Integers) -> list[Sample]:
        """In the first round both have the same weights, hence the same pool."""
        own = pool if number == 0 else self._pool("control", number)
        eligible_PG = ~np.isnan(candidates(own, self.config)[0])
        prompts, samples = eligible_PG.shape
        keys = [uniform("control", self.context.seed, s.prompt_id, s.index) for s in own]
        keys_PG = np.array(keys).reshape(prompts, samples)
        if self.config.selection in PER_PROMPT:
            counts_P = np.bincount(chosen // samples, minlength=prompts)
            drawn = selection.random_per_prompt(eligible_PG, counts_P, keys_PG)
        else:
            drawn = selection.random_overall(eligible_PG, len(chosen), keys_PG)
        return [own[k] for k in drawn]


def _name(role: str, number: int) -> str:
    return f"{role}-{number:03d}"


def candidates(pool: Sequence[Sample], config: RejectStage) -> tuple[Floats, list[str | None]]:
    """Rewards ``[prompts, samples]``, nan where a completion may not be selected, and why it may not."""
    reasons: list[str | None] = []
    seen: set[tuple[str, str, bool]] = set()
    values = []
    for sample in pool:
        value, key = sample.rewards[TOTAL], (sample.prompt_id, sample.text, sample.truncated)
        reason = (
            "without a reward"
            if value is None
            else "cut at the limit"
            if sample.truncated and not config.allow_truncated
            else "the same text again"
            if key in seen and config.deduplicate
            else None
        )
        if reason is None:
            seen.add(key)
        reasons.append(reason)
        values.append(np.nan if value is None or reason is not None else value)
    return np.array(values, dtype=np.float64).reshape(-1, config.samples_per_prompt), reasons


def choose(pool: Sequence[Sample], rewards_PG: Floats, config: RejectStage, seed: int) -> Integers:
    """Positions in the pool that are selected; draws are keyed by prompt and sample."""
    if config.selection == "top_per_prompt":
        return selection.top_per_prompt(rewards_PG, config.number)
    if config.selection == "top_k":
        return selection.top_overall(rewards_PG, config.number)
    if config.selection == "threshold":
        assert config.threshold is not None
        return selection.at_least(rewards_PG, config.threshold)
    assert config.beta is not None
    passes = range(config.number)
    uniforms_PGK = np.array(
        [[uniform("accept", seed, s.prompt_id, s.index, each) for each in passes] for s in pool]
    ).reshape(*rewards_PG.shape, config.number)
    return selection.statistical(rewards_PG, uniforms_PGK.swapaxes(1, 2), config.beta, config.number)


def _nothing(config: RejectStage, reasons: Sequence[str | None]) -> str:
    left_out = Counter(reasons)
    rest = left_out.pop(None, 0)
    sentences = [f"{count} {reason}" for reason, count in left_out.items()]
    if rest:
        sentences.append(f"{rest} below the threshold of {config.threshold:g}")
    mend = "raise sampling.max_new_tokens, or set allow_truncated = true"
    if rest:
        mend = "lower threshold, or raise samples_per_prompt"
    return (
        f"stage '{config.name}': none of {len(reasons)} completions can be selected "
        f"({', '.join(sentences)}); {mend}."
    )
