"""A trained reward model as a reward component.

It scores the ids that were sampled, never re-tokenised text. The forward pass itself belongs to the engine,
so this component is given a ``score`` function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ridgeline.models.batch import Unit, completion_row
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
