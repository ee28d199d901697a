"""Bradley-Terry reward modelling as the trainer sees it. A unit is a pair, the chosen row first."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ridgeline.models.batch import MicroBatch
from ridgeline.models.score_heads import ScoreHead
from ridgeline.objectives.reward import bradley_terry, centering, soft_bradley_terry
from ridgeline.training.reward_heads import HeadsObjective, Measures


class PairwiseRanking(HeadsObjective):
    """Mean of -log sigmoid(r_chosen - r_rejected - margin), with optional centring and penalty on a head.

    What the data says about a pair stands in the ``values`` of its chosen row: ``margin`` (score units) and
    ``soft_label``, the probability that chosen really is better. ``label_smoothing`` pulls it to the middle.
    """

    def __init__(
        self,
        *,
        centering: float = 0.0,
        label_smoothing: float = 0.0,
        penalty: float = 0.0,
        head: ScoreHead | None = None,
        names: Sequence[str] = ("score",),
        measured: Sequence[int] = (0,),
    ) -> None:
        super().__init__(names=names, measured=measured, penalty=penalty, head=head)
        self.centering = centering
        self.label_smoothing = label_smoothing

    @property
    def term_names(self) -> list[str]:
        return ["bradley_terry", *(["centering"] if self.centering else [])]

    def losses(self, scores_B: torch.Tensor, batch: MicroBatch) -> dict[str, torch.Tensor]:
        chosen_P, rejected_P = scores_B[0::2], scores_B[1::2]
        margin_P = _column(batch, "margin", 0.0, scores_B)
        label_P = _column(batch, "soft_label", 1.0, scores_B)
        if label_P is None and not self.label_smoothing:
            losses = {"bradley_terry": bradley_terry(chosen_P, rejected_P, margin_P)}
        else:
            sure_P = torch.ones_like(chosen_P) if label_P is None else label_P
            smooth_P = sure_P + self.label_smoothing * (1 - 2 * sure_P)
            losses = {"bradley_terry": soft_bradley_terry(chosen_P, rejected_P, smooth_P, margin_P)}
        if self.centering:
            losses["centering"] = self.centering * centering(chosen_P, rejected_P)
        return losses

    def measures(self, scores_B: torch.Tensor, batch: MicroBatch) -> Measures:
        chosen_P, rejected_P = scores_B[0::2], scores_B[1::2]
        difference_P = chosen_P - rejected_P
        label_P = _column(batch, "soft_label", 1.0, scores_B)
        agreement_P = difference_P if label_P is None else difference_P * (label_P - 0.5)
        correct_P = (agreement_P > 0).float() + 0.5 * (agreement_P == 0).float()
        pairs = float(len(chosen_P))
        return {
            "accuracy": (correct_P.sum(), pairs),
            "margin": (difference_P.sum(), pairs),
            "score/chosen": (chosen_P.sum(), pairs),
            "score/rejected": (rejected_P.sum(), pairs),
        }


def _column(batch: MicroBatch, name: str, default: float, like: torch.Tensor) -> torch.Tensor | None:
    """``[P]`` from the chosen rows, in the format of ``like``; None where no pair of the batch has it."""
    chosen = batch.rows[0::2]
    if not any(name in row.values for row in chosen):
        return None
    return like.new_tensor([row.values.get(name, default) for row in chosen])
