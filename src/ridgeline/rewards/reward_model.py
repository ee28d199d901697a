"""A trained reward model as a reward component.

It scores the ids that were sampled, never re-tokenised text. The forward pass itself belongs to the engine,
so this component is given a ``score`` function.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ridgeline.models.batch import Row, Unit, completion_row
from ridgeline.schema.errors import UsageError
from ridgeline.schema.records import Sample


@dataclass
class ModelReward:
    """``score`` maps units of one row each to one number each, in order."""

    name: str
    score: Callable[[Sequence[Unit]], list[float]]
    counts: dict[str, int] = field(default_factory=dict)

    def __call__(self, samples: list[Sample]) -> list[float | None]:
        return list(self.score([[completion_row(s.prompt_ids, s.completion_ids)] for s in samples]))

    def close(self) -> None:
        """Nothing to free: the engine owns the model."""


@dataclass
class JudgeReward:
    """The reward model that a stage made, with whatever else it can say.

    ``score`` maps units of one row each to what ``models.score_model.score_forward`` gives for each.
    ``step_ends`` finds, for a process model, the completion tokens that end the steps, among which it was
    trained to answer; other models have none. ``heads`` are combined in the score, and ``doubts`` holds how
    far they differed about each completion of the last call (None for a single one).
    """

    name: str
    score: Callable[[Sequence[Unit]], Sequence[Mapping[str, Any]]]
    step_ends: Callable[[Sequence[int]], list[int]] | None = None
    heads: int = 1
    counts: dict[str, int] = field(default_factory=dict)
    doubts: list[float | None] = field(default_factory=list)

    def __call__(self, samples: list[Sample]) -> list[float | None]:
        scores = self.score([[self._row(sample)] for sample in samples])
        self.doubts = [float(each["doubt"]) if "doubt" in each else None for each in scores]
        return [float(each["score"]) for each in scores]

    def step_scores(self, samples: Sequence[Sample]) -> list[list[tuple[int, float]]]:
        """Per sample and step: the completion token that ends the step (from 0), and P(the step is right).

        Raises:
            UsageError: the model does not judge steps.
        """
        if self.step_ends is None:
            raise UsageError(
                f"the reward model '{self.name}' does not judge steps; train one with "
                'loss = "process" or "process_3class".'
            )
        rows = [self._row(sample) for sample in samples]
        scores = self.score([[row] for row in rows])
        return [
            [
                (int(place) - row.prefix, float(value))
                for place, value in zip(row.targets, each["token_score"], strict=True)
            ]
            for row, each in zip(rows, scores, strict=True)
        ]

    def _row(self, sample: Sample) -> Row:
        row = completion_row(sample.prompt_ids, sample.completion_ids)
        return row if self.step_ends is None else at_steps(row, self.step_ends(sample.completion_ids))

    def close(self) -> None:
        """Nothing to free: the engine owns the model."""


def at_steps(row: Row, ends: Sequence[int]) -> Row:
    """``row`` with the completion tokens ``ends`` (from 0) as its only scored ones."""
    return Row(row.ids, np.asarray([row.prefix + end for end in ends], dtype=np.int64), row.prefix)


@dataclass
class EnsembleDoubt:
    """How far the heads of a reward model differed about the completions that it has just scored.

    Its name has a space, which neither a stage nor a function can have.
    """

    reward: JudgeReward
    name: str = field(init=False)
    counts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.name = f"{self.reward.name} spread"

    def __call__(self, samples: list[Sample]) -> list[float | None]:
        return list(self.reward.doubts)

    def close(self) -> None:
        """Nothing to free."""
