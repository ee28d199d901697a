"""Options of instruction tuning."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ridgeline.schema.config import SOURCE
from ridgeline.schema.stages.common import LearningStage, Optimiser, Source

SupervisedLoss = Literal["nll", "dft"]


class SftStage(LearningStage):
    """Supervised fine-tuning on demonstrations: next-token loss on what the assistant says."""

    type: Literal["sft"] = "sft"
    data: Source
    """A file, folder or hub id of instruction rows."""
    heldout: Annotated[str | float, SOURCE] = 0.1
    """A file of held-out rows, or the fraction of ``data`` to hold out."""
    loss: SupervisedLoss = "nll"
    """``dft`` weighs every token by its own probability (Wu et al. 2025). A column ``weight`` (at least 0) of
    the data weighs whole rows with either."""
    train_on: Literal["assistant", "last"] = "assistant"
    """Which turns carry loss: every assistant turn, or the last one. End-of-turn is always included."""
    max_length: int = Field(1024, ge=2)
    """Tokens of a rendered conversation."""
    overlong: Literal["error", "drop", "truncate"] = "error"
    """What happens to a row longer than max_length; counted and printed."""
    rows_per_step: int = Field(16, ge=1)
    """Conversations per optimizer step."""
    epochs: float = Field(1.0, gt=0)
    """Passes over the data."""
    optimiser: Optimiser = Optimiser(schedule="linear")
    evaluate_every: int = Field(0, ge=0)
    """Steps between held-out evaluations; 0: only before and after."""
    checkpoint_every: int = Field(25, ge=1)
