"""Outcome and process reward modelling as the trainer sees it. A unit is one row with its label or labels."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ridgeline.models.batch import MicroBatch, Unit
from ridgeline.models.score_heads import ScoreHead
from ridgeline.objectives.aggregate import aggregate
from ridgeline.objectives.reward import IGNORE, outcome_bce, pooled_outcome_bce, process_bce, process_ce
from ridgeline.objectives.step_scores import aggregate_scores
from ridgeline.training.objective import Terms, masked_sum


class OutcomeClassification:
    """Is the solution right? ``values["label"]`` of a row, asked after every scored token.

    Every token is asked by itself and the tokens of a solution are averaged, so that every solution weighs
    the same; ``pooled``: asked once, of the mean of its logits.
    """

    def __init__(self, *, pooled: bool, penalty: float = 0.0, head: ScoreHead | None = None) -> None:
        self.name = "pooled_outcome" if pooled else "outcome"
        self.pooled = pooled
        self.penalty = HeadPenalty(penalty, head)

    def counts(self, units: Sequence[Unit]) -> dict[str, float]:
        solutions = float(sum(len(row.targets) > 0 for unit in units for row in unit))
        return {self.name: solutions, **self.penalty.counts(solutions)}

    def terms(self, outputs: dict[str, torch.Tensor], batch: MicroBatch) -> Terms:
        logits_BN, labels_B = outputs["heads"][..., 0], batch.value("label")
        if self.pooled:
            total = pooled_outcome_bce(logits_BN, labels_B, batch.mask_BN).sum()
        else:
            losses_BN = outcome_bce(logits_BN, labels_B)
            total = aggregate(losses_BN, batch.mask_BN, "sequence", count=1)
        scored_B = batch.mask_BN.any(-1)
        probability_B = aggregate_scores(logits_BN.detach(), batch.mask_BN, "last")
        right_B = labels_B > 0.5
        return Terms(
            {self.name: total, **self.penalty.terms(float(scored_B.sum()))},
            {
                "accuracy": _accuracy(probability_B[scored_B], labels_B[scored_B]),
                "score/right": masked_sum(probability_B, scored_B & right_B),
                "score/wrong": masked_sum(probability_B, scored_B & ~right_B),
            },
        )


class ProcessClassification:
    """Is this step right? ``fields["label"]`` at the scored tokens of a row, which are the ends of its steps.

    The mean over all labelled steps of the optimizer step. ``three_classes``: bad, neutral or good instead of
    a probability.
    """

    def __init__(self, *, three_classes: bool, penalty: float = 0.0, head: ScoreHead | None = None) -> None:
        self.name = "process_3class" if three_classes else "process"
        self.three_classes = three_classes
        self.penalty = HeadPenalty(penalty, head)

    def counts(self, units: Sequence[Unit]) -> dict[str, float]:
        steps = float(sum(len(row.targets) for unit in units for row in unit))
        return {self.name: steps, **self.penalty.counts(steps)}

    def terms(self, outputs: dict[str, torch.Tensor], batch: MicroBatch) -> Terms:
        heads_BNK, mask_BN = outputs["heads"], batch.mask_BN
        labels_BN = torch.where(mask_BN, batch.field("label"), IGNORE)
        if self.three_classes:
            losses_BN = process_ce(heads_BNK, labels_BN.long())
            correct_BN = (heads_BNK.detach().argmax(-1) - 1 == labels_BN).float()
            accuracy = masked_sum(correct_BN, mask_BN)
        else:
            losses_BN = process_bce(heads_BNK[..., 0], labels_BN)
            probability_BN = torch.sigmoid(heads_BNK.detach()[..., 0])
            accuracy = _accuracy(probability_BN[mask_BN], labels_BN[mask_BN])
        total = aggregate(losses_BN, mask_BN, "token", count=1)
        return Terms({self.name: total, **self.penalty.terms(float(mask_BN.sum()))}, {"accuracy": accuracy})


class HeadPenalty:
    """penalty / 2 * |w|^2 beside a mean loss; nothing for a penalty of 0."""

    def __init__(self, penalty: float, head: ScoreHead | None) -> None:
        if penalty and head is None:
            raise ValueError("a penalty needs the head that it applies to")
        self.penalty = penalty
        self.head = head

    def counts(self, count: float) -> dict[str, float]:
        """``count`` as in the loss that it stands beside."""
        return {"penalty": count} if self.penalty else {}

    def terms(self, count: float) -> dict[str, torch.Tensor]:
        """The share of a micro-batch that holds ``count``."""
        if not self.penalty or self.head is None:
            return {}
        return {"penalty": 0.5 * self.penalty * self.head.linear.weight.square().sum() * count}


def _accuracy(probability: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Answers on the right side of 0.5, where the label has a side; one on 0.5 is half right."""
    sided = labels != 0.5
    agreement = (probability - 0.5) * (labels - 0.5)
    return masked_sum((agreement > 0).float() + 0.5 * (agreement == 0).float(), sided)
