"""Options of model merging."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from ridgeline.schema.config import SOURCE
from ridgeline.schema.stages.common import (
    Reference,
    RewardSpec,
    Sampling,
    StageConfig,
    model_reference,
)

TASK_METHODS = ("task_arithmetic", "ties", "dare")
"""Methods that add what tuning changed to the model it started from."""


class MergeStage(StageConfig):
    """One model out of several, by arithmetic on their weights; nothing is trained."""

    type: Literal["merge"] = "merge"
    models: list[str] = Field(min_length=1)
    """``base`` and names of earlier stages. Everything but the weights comes from the first."""
    method: Literal["linear", "slerp", "task_arithmetic", "ties", "dare"] = "linear"
    """``linear``: weighted average. ``slerp``: along the arc between two models, tensor by tensor. The others
    add task vectors (a model minus ``start``) to ``start``: weighted (``task_arithmetic``); trimmed, with
    one sign elected per entry (``ties``); thinned out at random (``dare``)."""
    weights: list[float] | None = None
    """One number a model, for all methods but ties; None: equal shares. Those of linear and slerp add up
    to 1."""
    start: str | None = None
    """What the models were tuned from, for the methods that add task vectors; None: ``base``."""
    density: float | None = Field(None, gt=0, le=1)
    """Share of entries that ties and dare keep of every task vector; None: 0.2 for ties."""
    scale: float | None = None
    """What ties multiplies the merged task vector by; None: 1."""
    heldout: Annotated[str | None, SOURCE] = None
    """Prompts on which the first model and the merged one are compared."""
    rewards: list[RewardSpec] = Field(default_factory=list)
    """What they are compared by."""
    samples_per_prompt: int = Field(4, ge=1)
    """Completions per held-out prompt and model."""
    sampling: Sampling = Sampling()

    def references(self) -> list[Reference]:
        start = [] if self.start is None else [model_reference("start", self.start)]
        return [*(model_reference("models", name) for name in self.models), *start]

    @property
    def shares(self) -> list[float]:
        """The weights, written out."""
        return self.weights if self.weights is not None else [1 / len(self.models)] * len(self.models)

    @model_validator(mode="after")
    def _fits_the_method(self) -> MergeStage:
        if len(set(self.models)) != len(self.models):
            raise ValueError("models names one model twice; raise its weight instead")
        if self.method == "linear" and len(self.models) < 2:
            raise ValueError("a linear merge needs at least two models")
        if self.method == "slerp" and len(self.models) != 2:
            raise ValueError(f"slerp runs between two models, not {len(self.models)}; use linear")
        for name, methods in (("start", TASK_METHODS), ("density", ("ties", "dare")), ("scale", ("ties",))):
            if getattr(self, name) is not None and self.method not in methods:
                raise ValueError(f"{name} means nothing to {self.method}; remove it")
        if self.method == "dare" and self.density is None:
            raise ValueError("dare needs a density; start with density = 0.1")
        return self

    @model_validator(mode="after")
    def _weights_fit(self) -> MergeStage:
        if self.weights is None:
            return self
        if self.method == "ties":
            raise ValueError("ties takes the mean of the models that agree; use scale instead of weights")
        if len(self.weights) != len(self.models):
            raise ValueError(f"there are {len(self.weights)} weights for {len(self.models)} models")
        if self.method in ("linear", "slerp") and not math.isclose(sum(self.weights), 1, abs_tol=1e-6):
            raise ValueError(
                f"the weights of {self.method} add up to 1, not {sum(self.weights):g}; "
                "for free weights use task_arithmetic"
            )
        return self

    @model_validator(mode="after")
    def _comparison_is_whole(self) -> MergeStage:
        if (self.heldout is None) != (not self.rewards):
            raise ValueError("a comparison needs both heldout and rewards; give both or none")
        return self
