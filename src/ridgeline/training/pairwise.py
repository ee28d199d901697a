"""Bradley-Terry reward modelling as the trainer sees it. A unit is a pair, the chosen row first."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ridgeline.models.batch import MicroBatch, Unit
from ridgeline.models.score_model import ScoreHead
from ridgeline.objectives.reward import bradley_terry, centering
from ridgeline.training.objective import Terms


class PairwiseRanking:
    """Mean of -log sigmoid(r_chosen - r_rejected), with optional centring and L2 penalty on a head."""

    def __init__(
        self, *, centering: float = 0.0, penalty: float = 0.0, head: ScoreHead | None = None
    ) -> None:
        if penalty and head is None:
            raise ValueError("a penalty needs the head that it applies to")
        self.centering = centering
        self.penalty = penalty
        self.head = head

    def counts(self, units: Sequence[Unit]) -> dict[str, float]:
        pairs = float(len(units))
        counts = {"bradley_terry": pairs}
        if self.centering:
            counts["centering"] = pairs
        if self.penalty:
            counts["penalty"] = pairs
        return counts

    def terms(self, outputs: dict[str, torch.Tensor], batch: MicroBatch) -> Terms:
        chosen_P, rejected_P = outputs["score"][0::2], outputs["score"][1::2]
        sums = {"bradley_terry": bradley_terry(chosen_P, rejected_P).sum()}
        if self.centering:
            sums["centering"] = self.centering * centering(chosen_P, rejected_P).sum()
        if self.penalty and self.head is not None:
            # Divided by the pairs of the step, so that every micro-batch carries its share.
            squared = self.head.linear.weight.square().sum()
            sums["penalty"] = 0.5 * self.penalty * squared * len(chosen_P)
        pairs = float(len(chosen_P))
        difference_P = (chosen_P - rejected_P).detach()
        correct = (difference_P > 0).float() + 0.5 * (difference_P == 0).float()
        return Terms(
            sums,
            {
                "accuracy": (correct.sum(), pairs),
                "margin": (difference_P.sum(), pairs),
                "score/chosen": (chosen_P.detach().sum(), pairs),
                "score/rejected": (rejected_P.detach().sum(), pairs),
            },
        )
