"""What a stage gives the trainer, and all the trainer knows about an algorithm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch

from ridgeline.models.batch import MicroBatch, Unit


@dataclass(slots=True)
class Terms:
    """Sums over one micro-batch.

    ``sums``: scalars with gradient. The trainer divides each by the objective's count for the WHOLE optimizer
    step, so cutting a step into other micro-batches changes nothing.
    ``metrics``: (sum, count) pairs for the log.
    """

    sums: dict[str, torch.Tensor]
    metrics: dict[str, tuple[torch.Tensor, torch.Tensor | float]] = field(default_factory=dict)


class Objective(Protocol):
    """Maps the outputs of a forward pass to named sums. Stateless during a step."""

    def counts(self, units: Sequence[Unit]) -> dict[str, float]:
        """The denominator of every term over all units of the optimizer step."""
        ...

    def terms(self, outputs: dict[str, torch.Tensor], batch: MicroBatch) -> Terms:
        """The sums of one micro-batch."""
        ...


def masked_sum(values: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(sum, count) of ``values`` where ``mask`` holds, for metrics."""
    return torch.where(mask, values.detach().float(), 0.0).sum(), mask.sum()
