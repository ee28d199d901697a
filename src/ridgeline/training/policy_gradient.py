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
from ridgeline.objectives.policy import PolicyTerms, policy_loss, value_loss
from ridgeline.objectives.supervised import nll
from ridgeline.training.objective import Terms, masked_sum

Metric = tuple[torch.Tensor, torch.Tensor | float]


class PolicyGradient:
    """The policy's loss, and where the objective has them: KL, entropy bonus, imitation of what succeeded.

    ``kl_coefficient`` and ``entropy_coefficient`` are those in force, which controllers move; an entropy
    bonus needs a forward pass whose entropy carries gradient.
    """

    def __init__(
        self,
        objective: PolicyObjective,
        *,
        kl_coefficient: float,
        entropy_coefficient: float | None = None,
    ) -> None:
        self.objective = objective
        self.kl_coefficient = kl_coefficient
        self.entropy_coefficient = (
            objective.entropy_coefficient if entropy_coefficient is None else entropy_coefficient
        )

    def counts(self, units: Sequence[Unit]) -> dict[str, float]:
        rows = [row for unit in units for row in unit]
        tokens = [len(row.targets) for row in rows]
        by_token = self.objective.aggregation == "token"
        counts = {"policy": float(sum(tokens) if by_token else sum(n > 0 for n in tokens))}
        if self._kl_in_loss:
            counts["kl"] = counts["policy"]
        if self.entropy_coefficient > 0:
            counts["entropy_bonus"] = counts["policy"]
        if self.objective.positive_nll > 0:
            counts["positive_nll"] = sum(
                n * row.values["positive"] for n, row in zip(tokens, rows, strict=True)
            )
        return counts

    @property
    def _kl_in_loss(self) -> bool:
        return self.objective.kl_placement == "loss" and self.kl_coefficient > 0

    def terms(self, outputs: dict[str, torch.Tensor], batch: MicroBatch) -> Terms:
        logp_BN, mask_BN = outputs["logp"], batch.mask_BN
        on_policy = "old_logp" not in batch.rows[0].fields
        old_BN = logp_BN.detach() if on_policy else batch.field("old_logp")
        ref_BN, sampler_BN = batch.field("ref_logp"), batch.field("sampler_logp")
        parts = policy_loss(
            logp_BN,
            old_BN,
            batch.field("advantage"),
            mask_BN,
            self.objective,
            ref_logp=ref_BN,
            sampler_logp=sampler_BN,
        )
        kl_sum, _ = masked_sum(k1(logp_BN, ref_BN), mask_BN)
        metrics: dict[str, Metric] = {
            "kl_k1": (kl_sum, float(len(batch.rows))),
            "kl_k3_per_token": masked_sum(k3(logp_BN, ref_BN), mask_BN),
            "ratio": masked_sum(parts.ratio_BT, mask_BN),
            "clip_fraction": masked_sum(parts.clipped_BT, mask_BN),
            "outside_fraction": masked_sum(parts.outside_BT, mask_BN),
            "sampler_gap": masked_sum((old_BN - sampler_BN).abs(), mask_BN),
            "importance_weight": masked_sum(parts.weight_BT, mask_BN),
            "dropped_fraction": masked_sum(parts.weight_BT == 0, mask_BN),
        }
        if "entropy" in outputs:
            metrics["entropy"] = masked_sum(outputs["entropy"], mask_BN)
        return Terms(self._sums(parts, outputs, batch), metrics)

    def _sums(
        self, parts: PolicyTerms, outputs: dict[str, torch.Tensor], batch: MicroBatch
    ) -> dict[str, torch.Tensor]:
        sums = {"policy": self._total(parts.loss_BT, batch)}
        if self._kl_in_loss and parts.kl_BT is not None:
            sums["kl"] = self.kl_coefficient * self._total(parts.kl_BT, batch)
        if self.entropy_coefficient > 0:
            if outputs["logp"].requires_grad and not outputs["entropy"].requires_grad:
                raise ValueError("an entropy bonus needs PolicyForward(differentiable_entropy=True)")
            sums["entropy_bonus"] = -self.entropy_coefficient * self._total(outputs["entropy"], batch)
        if self.objective.positive_nll > 0:
            positive_BN = batch.mask_BN & (batch.value("positive") > 0)[:, None]
            total = aggregate(nll(outputs["logp"]), positive_BN, "token", count=1)
            sums["positive_nll"] = self.objective.positive_nll * total
        return sums

    def _total(self, values_BN: torch.Tensor, batch: MicroBatch) -> torch.Tensor:
        how, length = self.objective.aggregation, self.objective.length
        return aggregate(values_BN, batch.mask_BN, how, length, count=1)


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
