"""Options of preference collection."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ridgeline.schema.config import Config
from ridgeline.schema.stages.common import Function, ModelStage, Sampling, Source


class SimulatedAnnotator(Config):
    """Bradley-Terry noise over a known gold: P(a over b) = sigmoid((gold a - gold b) / temperature)."""

    gold: Function
    """The reward (built-in name or ``module:function``) that plays the annotator's true taste."""
    temperature: float = Field(0.3, gt=0)
    shuffle_labels: bool = False
    """Negative control: replace every label by a coin flip."""


class CollectStage(ModelStage):
    """Sample completions, pair them within a prompt, and have an annotator say which is better."""

    type: Literal["collect"] = "collect"
    prompts: Source
    """A file, folder or hub id of prompts."""
    samples_per_prompt: int = Field(6, ge=2)
    """Completions that pairs are drawn from."""
    pairs: int = Field(1000, ge=1)
    """Drawn at random from all pairs within a prompt, without repetition."""
    annotator: SimulatedAnnotator
    sampling: Sampling = Sampling()
