"""The pretraining mix: likelihood of other text, added to the optimizer step of a policy."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ridgeline.models.batch import MicroBatch, Unit
from ridgeline.objectives.aggregate import aggregate
from ridgeline.objectives.supervised import nll
from ridgeline.training.objective import Terms, masked_sum


class PretrainingMix:
    """coefficient * mean negative log-likelihood per token: the last term of PPO-ptx.

    Source: Ouyang et al. 2022, equation 2.
    """

    def __init__(self, coefficient: float) -> None:
        self.coefficient = coefficient

    def counts(self, units: Sequence[Unit]) -> dict[str, float]:
        return {"pretrain": float(sum(len(row.targets) for unit in units for row in unit))}

    def terms(self, outputs: dict[str, torch.Tensor], batch: MicroBatch) -> Terms:
        losses_BN = nll(outputs["logp"])
        total = self.coefficient * aggregate(losses_BN, batch.mask_BN, "token", count=1)
        return Terms({"pretrain": total}, {"pretrain_nll": masked_sum(losses_BN, batch.mask_BN)})
