"""Alignment on single labelled completions as the trainer sees it. A unit is one row.

Rows carry ``ref_logp`` per token and the value ``desirable`` (1 or 0).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from ridgeline.models.batch import MicroBatch, Unit
from ridgeline.objectives.log_ratios import sequence_logp
from ridgeline.objectives.unpaired import UNPAIRED_FUNCTIONS
from ridgeline.training.objective import Terms


class UnpairedPreference:
    """The mean over completions of one unpaired loss.

    ``options`` are the loss's own, and its inputs of the whole step (``reference_point`` or ``shift``).
    """

    def __init__(self, loss: str, options: Mapping[str, float]) -> None:
        self.loss = loss
        self.options = dict(options)

    def counts(self, units: Sequence[Unit]) -> dict[str, float]:
        return {self.loss: float(len(units))}

    def terms(self, outputs: dict[str, torch.Tensor], batch: MicroBatch) -> Terms:
        logp_B = sequence_logp(outputs["logp"], batch.mask_BN)
        ref_B = sequence_logp(batch.field("ref_logp").to(logp_B), batch.mask_BN)
        desirable_B = batch.value("desirable") > 0.5
        losses_B = UNPAIRED_FUNCTIONS[self.loss](logp_B, ref_B, desirable_B, **self.options)
        ratio_B = (logp_B - ref_B).detach().float()
        metrics: dict[str, tuple[torch.Tensor, torch.Tensor | float]] = {}
        for name, mask in (("desirable", desirable_B), ("undesirable", ~desirable_B)):
            metrics[f"log_ratio/{name}"] = ((ratio_B * mask).sum(), mask.sum())
            metrics[f"logp/{name}"] = ((logp_B.detach().float() * mask).sum(), mask.sum())
        return Terms({self.loss: losses_B.sum()}, metrics)
