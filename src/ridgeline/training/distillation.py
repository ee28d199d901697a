"""Distillation as the trainer sees it: the outputs of ``models.distributions.DistillForward`` as named sums.

Positions of the whole optimizer step weigh the same. Rows that only the teacher reads count for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ridgeline.models.batch import MicroBatch, Row, Unit
from ridgeline.models.distributions import is_students, student_mask
from ridgeline.objectives.aggregate import aggregate
from ridgeline.objectives.axes import PolicyObjective
from ridgeline.objectives.distill_policy import minillm, mixture_importance_weight, on_policy_advantage
from ridgeline.training.engine import RowScores
from ridgeline.training.objective import Terms, masked_sum
from ridgeline.training.policy_gradient import PolicyGradient


class DenseDivergence:
    """Mean divergence per position: word-level, on-policy and self-distillation (F16.1, F16.6, F16.8-10)."""

    def counts(self, units: Sequence[Unit]) -> dict[str, float]:
        return {"divergence": student_tokens(units)}

    def terms(self, outputs: dict[str, torch.Tensor], batch: MicroBatch) -> Terms:
        mask_BN = student_mask(batch)
        total = aggregate(outputs["divergence"], mask_BN, "token", count=1)
        return Terms({"divergence": total}, text_metrics(outputs, mask_BN))


class MiniLlm:
    """MiniLLM's two terms per token, for completions drawn from a mixture of student and teacher.

    The importance weights are those of the mixture with the current student; with one update per rollout that
    is the student that sampled.
    """

    def __init__(self, *, teacher_share: float, normalise: bool) -> None:
        self.teacher_share = teacher_share
        self.normalise = normalise

    def counts(self, units: Sequence[Unit]) -> dict[str, float]:
        tokens = student_tokens(units)
        return {"single_step": tokens, "long_range": tokens}

    def terms(self, outputs: dict[str, torch.Tensor], batch: MicroBatch) -> Terms:
        mask_BN, logp_BN, teacher_BN = student_mask(batch), outputs["logp"], outputs["teacher_logp"]
        weights_BN = mixture_importance_weight(logp_BN, teacher_BN, self.teacher_share)
        parts = minillm(
            outputs["divergence"], logp_BN, teacher_BN, mask_BN, weights=weights_BN, normalise=self.normalise
        )
        sums = {
            "single_step": aggregate(parts.single_BT, mask_BN, "token", count=1),
            "long_range": aggregate(parts.long_BT, mask_BN, "token", count=1),
        }
        metrics = {
            "divergence": masked_sum(outputs["divergence"], mask_BN),
            "importance_weight": masked_sum(weights_BN, mask_BN),
        }
        return Terms(sums, metrics | text_metrics(outputs, mask_BN))


def sampled_gradient(clip: float | None) -> PolicyGradient:
    """The policy gradient of rows that ``assign_sampled`` filled: token ratio, mean per token (F16.7).

    ``clip``: bound of the ratio on both sides, as PPO; None: no bound.
    """
    objective = PolicyObjective(
        advantage="group_centred",  # names how rewards become advantages; here there are none
        ratio="token",
        bounding="none" if clip is None else "clip",
        clip_low=clip,
        clip_high=clip,
        aggregation="token",
    )
    return PolicyGradient(objective, kl_coefficient=0.0)


def assign_sampled(rows: Sequence[Row], scores: Sequence[RowScores], *, reused: bool) -> None:
    """Write the fields of ``PolicyGradient``: the advantage log p_T - log p_S, the teacher as its reference.

    ``scores``: ``logp`` and ``teacher_logp`` of every row under the student that sampled. ``reused``: several
    optimizer steps will use the rows, so they keep that student's log-probs.
    """
    for row, score in zip(rows, scores, strict=True):
        old, teacher = torch.from_numpy(score["logp"]), torch.from_numpy(score["teacher_logp"])
        row.fields["advantage"] = on_policy_advantage(teacher, old).numpy()
        row.fields["ref_logp"] = score["teacher_logp"]
        if reused:
            row.fields["old_logp"] = score["logp"]


def student_tokens(units: Sequence[Unit]) -> float:
    """Scored positions of the student's rows."""
    return float(sum(len(row.targets) for unit in units for row in unit if is_students(row)))


def text_metrics(
    outputs: dict[str, torch.Tensor], mask_BN: torch.Tensor
) -> dict[str, tuple[torch.Tensor, torch.Tensor | float]]:
    """``nll`` of the student on the text at hand and, with a live teacher, the teacher's."""
    metrics: dict[str, tuple[torch.Tensor, torch.Tensor | float]] = {
        "nll": masked_sum(-outputs["logp"], mask_BN)
    }
    if "teacher_logp" in outputs:
        metrics["teacher_nll"] = masked_sum(-outputs["teacher_logp"], mask_BN)
    return metrics


def mean_of(scores: Sequence[RowScores], rows: Sequence[Row], name: str) -> float:
    """Mean per scored position of the student's rows, summed in float64."""
    values = [score[name] for row, score in zip(rows, scores, strict=True) if is_students(row)]
    return float(np.concatenate(values).mean(dtype=np.float64))
