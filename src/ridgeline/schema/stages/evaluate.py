"""Options of evaluation."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from ridgeline.schema.stages.common import (
    Reference,
    RewardSpec,
    Sampling,
    Source,
    StageConfig,
    model_reference,
)


class EvaluateStage(StageConfig):
    """Sample several models on the same held-out prompts and compare them with intervals."""

    type: Literal["evaluate"] = "evaluate"
    models: list[str] = Field(min_length=1)
    """``base`` and names of earlier stages; the first is the baseline of the win rate."""
    reference: str | None = None
    """The model KL is measured to; None: the first of ``models``."""
    prompts: Source
    """A file, folder or hub id of prompts."""
    samples_per_prompt: int = Field(4, ge=1)
    """Completions per prompt and model."""
    rewards: list[RewardSpec] = Field(min_length=1)
    """The first one decides wins."""
    sampling: Sampling = Sampling()
    features: bool = True
    """Save where the reference sees every completion it scores (mean-pooled last hidden states, 8 bytes per
    completion and hidden unit), for maps; it takes no forward pass of its own."""

    def references(self) -> list[Reference]:
        named = [*self.models, *([self.reference] if self.reference else [])]
        return [model_reference("models", name) for name in named]

    @model_validator(mode="after")
    def _distinct(self) -> EvaluateStage:
        if len(set(self.models)) != len(self.models):
            raise ValueError("models names one model twice")
        return self
