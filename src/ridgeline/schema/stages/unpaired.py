"""Options of alignment on single labelled completions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from ridgeline.schema.config import SOURCE
from ridgeline.schema.stages.common import (
    PAIR_STAGES,
    LearningStage,
    Optimiser,
    Reference,
    Source,
    model_reference,
)


class UnpairedStage(LearningStage):
    """Raise completions that people liked, lower those they did not; no pairs needed."""

    type: Literal["unpaired"] = "unpaired"
    data: Source
    """Rows of ``prompt``, ``completion``, ``label`` (true: desirable); preference rows, or the name of a
    ``collect`` or ``reject`` stage, give two completions each."""
    heldout: Annotated[str | float, SOURCE] = 0.1
    """A file of held-out rows, or the fraction of prompts to hold out."""
    objective: str | dict[str, Any] = "kto"
    """``kto``, ``bco``, ``apo_zero_unpaired``, or a table: ``preset`` and options of the loss."""
    reference: str | None = None
    """``base`` or an earlier stage; None: this stage's own starting weights."""
    rows_per_step: int = Field(32, ge=2)
    """Completions per optimizer step (all of them, when there are fewer)."""
    epochs: float = Field(1.0, gt=0)
    """Passes over the rows."""
    max_length: int = Field(1024, ge=2)
    """Tokens of prompt and completion."""
    overlong: Literal["error", "drop"] = "drop"
    """What happens to a longer row; counted and printed."""
    optimiser: Optimiser = Optimiser(learning_rate=5e-6, schedule="linear")
    evaluate_every: int = Field(0, ge=0)
    """Steps between held-out evaluations; 0: only before and after."""
    checkpoint_every: int = Field(25, ge=1)

    def references(self) -> list[Reference]:
        found = [*super().references(), Reference("data", self.data, PAIR_STAGES, elsewhere=True)]
        if self.reference is not None:
            found.append(model_reference("reference", self.reference))
        return found
