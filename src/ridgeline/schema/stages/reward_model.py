"""Options of reward modelling."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ridgeline.schema.config import SOURCE
from ridgeline.schema.stages.common import ModelStage, Optimiser, Reference, Source, Work


class RewardModelStage(ModelStage):
    """A scalar score per (prompt, completion), fitted to preferences by Bradley-Terry maximum likelihood."""

    type: Literal["reward_model"] = "reward_model"
    data: Source
    """A preference file or the name of a ``collect`` stage."""
    heldout: Annotated[str | float, SOURCE] = 0.15
    """A file of held-out pairs, or the fraction of prompts to hold out (pairs of a prompt go together)."""
    backbone: Literal["frozen", "full"] = "frozen"
    """``frozen``: only the head learns, on cached features. ``full``: every weight learns."""
    layer: int | None = Field(None, ge=1)
    """Read the hidden state after this many layers (the layers above are cut off); None: all layers."""
    pooling: Literal["last", "mean", "mean+last"] = "last"
    """``mean`` runs over the completion; ``mean+last`` concatenates both."""
    penalty: float = Field(0.0, ge=0)
    """L2 penalty on the head's weights: penalty / 2 * |w|^2, added to the mean loss (frozen only)."""
    centering: float = Field(0.0, ge=0)
    """Coefficient of (r_chosen + r_rejected)^2, which pins the free constant."""
    pairs_per_step: int = Field(32, ge=1)
    """Pairs per optimizer step (all of them, when there are fewer)."""
    epochs: float = Field(1.0, gt=0)
    """Passes over the pairs."""
    max_length: int = Field(1024, ge=2)
    """Tokens of prompt and completion."""
    overlong: Literal["error", "drop"] = "drop"
    """A truncated completion loses the token that is scored, so truncating is not on offer."""
    optimiser: Optimiser = Optimiser(learning_rate=1e-2, schedule="linear")
    work: Work = Work()
    evaluate_every: int = Field(0, ge=0)
    checkpoint_every: int = Field(50, ge=1)

    def references(self) -> list[Reference]:
        return [*super().references(), Reference("data", self.data, ("collect",), elsewhere=True)]

    @model_validator(mode="after")
    def _penalty_needs_frozen(self) -> RewardModelStage:
        if self.penalty and self.backbone == "full":
            raise ValueError(
                "penalty applies to the frozen backbone's head; use optimiser.weight_decay with full"
            )
        return self
