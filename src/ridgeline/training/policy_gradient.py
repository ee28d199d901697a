"""Policy-gradient learning as the trainer sees it.

Rows carry, per sampled token, ``advantage``, ``sampler_logp``, ``ref_logp`` and, when several optimizer steps
use one rollout, ``old_logp``. Without ``old_logp`` the step is strictly on-policy and the old policy is the
current one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ridgeline.models.batch import MicroBatch, Unit
from ridgeline.objectives.aggregate import aggregate
from ridgeline.objectives.axes import PolicyObjective
from ridgeline.objectives.kl import k1, k3
from ridgeline.objectives.policy import policy_loss, value_loss
from ridgeline.training.objective import Terms, masked_sum


class PolicyGradient:
    """The policy's loss; the KL joins it where the objective places it in the loss."""

    def __init__(self, objective: PolicyObjective, *, kl_coefficient: float) -> None:
        self.objective = objective
        self.kl_coefficient = kl_coefficient

    def counts(self, units: Sequence[Unit]) -> dict[str, float]:
        rows = [row for unit in units for row in unit]
        by_token = self.objective.aggregation == "token"
        tokens = [len(row.targets) for row in rows]
        count = float(sum(tokens) if by_token else sum(n > 0 for n in tokens))
        return {"policy": count, "kl": count} if self._kl_in_loss else {"policy": count}

    @property
    def _kl_in_loss(self) -> bool:
        return self.objective.kl_placement == "loss" and self.kl_coefficient > 0

    def terms(self, outputs: dict[str, torch.Tensor], batch: MicroBatch) -> Terms:
        logp_BN, mask_BN, objective = outputs["logp"], batch.mask_BN, self.objective
        on_policy = "old_logp" not in batch.rows[0].fields
        old_BN = logp_BN.detach() if on_policy else batch.field("old_logp")
        ref_BN, sampler_BN = batch.field("ref_logp"), batch.field("sampler_logp")
        parts = policy_loss(
            logp_BN,
            old_BN,
            batch.field("advantage"),
            mask_BN,
            objective,
            ref_logp=ref_BN,
            sampler_logp=sampler_BN,
        )
        how, length = objective.aggregation, objective.length
        sums = {"policy": aggregate(parts.loss_BT, mask_BN, how, length, count=1)}
        if self._kl_in_loss and parts.kl_BT is not None:
            sums["kl"] = self.kl_coefficient * aggregate(parts.kl_BT, mask_BN, how, length, count=1)
        kl_sum, _ = masked_sum(k1(logp_BN, ref_BN), mask_BN)
        metrics: dict[str, tuple[torch.Tensor, torch.Tensor | float]] = {
            "kl_k1": (kl_sum, float(len(batch.rows))),
            "kl_k3_per_token": masked_sum(k3(logp_BN, ref_BN), mask_BN),
            "ratio": masked_sum(parts.ratio_BT, mask_BN),
            "clip_fraction": masked_sum(parts.clipped_BT, mask_BN),
            "outside_fraction": masked_sum(parts.outside_BT, mask_BN),
            "sampler_gap": masked_sum((old_BN - sampler_BN).abs(), mask_BN),
        }
        if "entropy" in outputs:
            metrics["entropy"] = masked_sum(outputs["entropy"], mask_BN)
        return Terms(sums, metrics)


class ValueRegression:
    """The critic's loss: squared error to the returns, clipped around the rollout's values."""

    def __init__(self, *, coefficient: float, clip: float | None) -> None:
        self.coefficient = coefficient
        self.clip = clip

    def counts(self, units: Sequence[Unit]) -> dict[str, float]:
        return {"value": float(sum(len(row.targets) for unit in units for row in unit))}

    def terms(self, outputs: dict[str, torch.Tensor], batch: MicroBatch) -> Terms:
        values_BN, returns_BN = outputs["values"], batch.field("returns")
        losses_BN = value_loss(values_BN, batch.field("old_values"), returns_BN, self.clip)
        total = self.coefficient * aggregate(losses_BN, batch.mask_BN, "token", count=1)
        error = masked_sum((values_BN - returns_BN).square(), batch.mask_BN)
        return Terms({"value": total}, {"value_error": error})
