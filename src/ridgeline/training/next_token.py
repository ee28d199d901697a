"""Supervised next-token learning as the trainer sees it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ridgeline.models.batch import MicroBatch, Unit
from ridgeline.objectives.aggregate import aggregate
from ridgeline.objectives.supervised import dft, nll, weighted_nll
from ridgeline.schema.stages.sft import SupervisedLoss
from ridgeline.training.objective import Terms, masked_sum


class NextToken:
    """Mean per trained token of the whole optimizer step of -w log p, or of -w sg(p) log p with ``dft``.

    w is the value ``weight`` of a row, 1 where it has none. Weights scale losses and leave the count of
    tokens as it is. ``coefficient`` scales the term and ``name`` names it where it stands beside another: as
    ``pretrain`` it is the last term of PPO-ptx (Ouyang et al. 2022, equation 2).
    """

    def __init__(
        self, loss: SupervisedLoss = "nll", *, name: str | None = None, coefficient: float = 1.0
    ) -> None:
        self.loss = loss
        self.name = name or loss
        self.prefix = f"{name}_" if name else ""
        self.coefficient = coefficient

    def counts(self, units: Sequence[Unit]) -> dict[str, float]:
        return {self.name: float(sum(len(row.targets) for unit in units for row in unit))}

    def terms(self, outputs: dict[str, torch.Tensor], batch: MicroBatch) -> Terms:
        logp_BN = outputs["logp"]
        if any("weight" in row.values for row in batch.rows):
            weights = [row.values.get("weight", 1.0) for row in batch.rows]
            weights_B1 = torch.tensor(weights, device=logp_BN.device, dtype=logp_BN.dtype)[:, None]
            losses_BN = weights_B1 * dft(logp_BN) if self.loss == "dft" else weighted_nll(logp_BN, weights_B1)
        else:
            losses_BN = dft(logp_BN) if self.loss == "dft" else nll(logp_BN)
        metrics: dict[str, tuple[torch.Tensor, torch.Tensor | float]] = {}
        if "entropy" in outputs and not self.prefix:
            metrics["entropy"] = masked_sum(outputs["entropy"], batch.mask_BN)
        if self.name != "nll":
            metrics[f"{self.prefix}nll"] = masked_sum(nll(logp_BN), batch.mask_BN)
        total = self.coefficient * aggregate(losses_BN, batch.mask_BN, "token", count=1)
        return Terms({self.name: total}, metrics)
