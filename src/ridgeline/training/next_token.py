"""Supervised next-token learning as the trainer sees it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ridgeline.models.batch import MicroBatch, Unit
from ridgeline.objectives.aggregate import aggregate
from ridgeline.objectives.supervised import nll
from ridgeline.training.objective import Terms, masked_sum


class NextToken:
    """Mean negative log-likelihood per trained token of the whole optimizer step."""

    def counts(self, units: Sequence[Unit]) -> dict[str, float]:
        return {"nll": float(sum(len(row.targets) for unit in units for row in unit))}

    def terms(self, outputs: dict[str, torch.Tensor], batch: MicroBatch) -> Terms:
        losses_BN = nll(outputs["logp"])
        metrics: dict[str, tuple[torch.Tensor, torch.Tensor | float]] = {}
        if "entropy" in outputs:
            metrics["entropy"] = masked_sum(outputs["entropy"], batch.mask_BN)
        return Terms({"nll": aggregate(losses_BN, batch.mask_BN, "token", count=1)}, metrics)
