"""What a sampler is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ridgeline.schema.records import Sample
from ridgeline.schema.stages.common import Sampling


@dataclass(slots=True)
class PromptRequest:
    """One prompt and how many completions of it; ``first`` numbers them (for their draws)."""

    id: str
    prompt_ids: list[int]
    samples: int = 1
    first: int = 0
    row: dict[str, Any] = field(default_factory=dict)


class Sampler(Protocol):
    """Completions in prompt-major order: all samples of the first prompt, then of the second.

    ``weight_version`` is written into every sample; the engine moves it with the weights.
    """

    weight_version: int

    def __call__(
        self, requests: Sequence[PromptRequest], sampling: Sampling, *, seed: int, step: int
    ) -> list[Sample]: ...
