"""Reward modelling on rankings as the trainer sees it.

A unit holds all completions of one prompt, each row with ``values["rank"]`` (lower is better).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

from ridgeline.models.batch import MicroBatch
from ridgeline.models.score_heads import ScoreHead
from ridgeline.objectives.reward import grouped_bradley_terry, plackett_luce
from ridgeline.training.reward_heads import HeadsObjective, Measures


class ListRanking(HeadsObjective):
    """The mean over prompts of a loss on the order of all completions of a prompt.

    ``grouped``: the mean over all pairs of the prompt, so that every prompt weighs the same.
    ``plackett_luce``: the surprise at the whole order.
    """

    def __init__(
        self,
        loss: Literal["grouped", "plackett_luce"],
        *,
        penalty: float = 0.0,
        head: ScoreHead | None = None,
        names: Sequence[str] = ("score",),
        measured: Sequence[int] = (0,),
    ) -> None:
        super().__init__(names=names, measured=measured, penalty=penalty, head=head)
        self.loss = loss

    @property
    def term_names(self) -> list[str]:
        return [self.loss]

    def losses(self, scores_B: torch.Tensor, batch: MicroBatch) -> dict[str, torch.Tensor]:
        scores_UK, ranks_UK = _best_first(scores_B, batch)
        if self.loss == "grouped":
            return {"grouped": grouped_bradley_terry(scores_UK, ranks_UK)}
        return {"plackett_luce": plackett_luce(scores_UK, ~ranks_UK.isnan())}

    def measures(self, scores_B: torch.Tensor, batch: MicroBatch) -> Measures:
        scores_UK, ranks_UK = _best_first(scores_B, batch)
        better_UKK = ranks_UK.unsqueeze(-1) < ranks_UK.unsqueeze(-2)
        difference_UKK = scores_UK.unsqueeze(-1) - scores_UK.unsqueeze(-2)
        correct_UKK = better_UKK * ((difference_UKK > 0).float() + 0.5 * (difference_UKK == 0).float())
        pairs_U = better_UKK.sum((-2, -1)).clamp(min=1)
        top_U1 = scores_UK.nan_to_num(nan=-torch.inf).argmax(-1, keepdim=True)
        best_U = ranks_UK.gather(-1, top_U1)[:, 0] == ranks_UK[:, 0]
        units = float(len(batch.unit_sizes))
        return {
            "accuracy": ((correct_UKK.sum((-2, -1)) / pairs_U).sum(), units),
            "top1": (best_U.float().sum(), units),
        }


def _best_first(scores_B: torch.Tensor, batch: MicroBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores and ranks ``[U, K]`` in the order of the ranks, nan behind the rows of a unit."""
    scores_UK = by_unit(scores_B, batch.unit_sizes)
    ranks_UK = by_unit(batch.value("rank"), batch.unit_sizes)
    order_UK = torch.sort(ranks_UK.nan_to_num(nan=torch.inf), dim=-1, stable=True).indices
    return scores_UK.gather(-1, order_UK), ranks_UK.gather(-1, order_UK)


def by_unit(values_B: torch.Tensor, unit_sizes: Sequence[int]) -> torch.Tensor:
    """``[U, K]``, nan where a unit has fewer rows than the largest."""
    parts = torch.split(values_B, list(unit_sizes))
    return torch.nn.utils.rnn.pad_sequence(list(parts), batch_first=True, padding_value=torch.nan)
