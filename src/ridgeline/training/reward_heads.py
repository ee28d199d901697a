"""What all losses on the heads of a reward model share: a mean over units for each head, and a penalty.

Heads never share a denominator: each is trained as if it were alone, on its own share of the units. A unit
counts for head k as often as ``values["weight k"]`` of its first row says: how often a bootstrap resample
drew its prompt, or whether it belongs to the head's group. Without these values every unit counts once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch

from ridgeline.models.batch import MicroBatch, Unit
from ridgeline.models.score_heads import ScoreHead
from ridgeline.training.objective import Terms

Measures = dict[str, tuple[torch.Tensor, torch.Tensor | float]]


def weight_name(number: int) -> str:
    """The entry of a row's ``values`` that says how often its unit counts for head ``number``."""
    return f"weight {number}"


class HeadsObjective(ABC):
    """A loss per unit, for each of several heads; ``measured`` are the heads that the metrics are about."""

    def __init__(
        self,
        *,
        names: Sequence[str] = ("score",),
        measured: Sequence[int] = (0,),
        penalty: float = 0.0,
        head: ScoreHead | None = None,
    ) -> None:
        if penalty and head is None:
            raise ValueError("a penalty needs the head that it applies to")
        self.names = tuple(names)
        self.measured = list(measured)
        self.penalty = penalty
        self.head = head

    @property
    @abstractmethod
    def term_names(self) -> list[str]:
        """Names of what ``losses`` returns."""

    @abstractmethod
    def losses(self, scores_B: torch.Tensor, batch: MicroBatch) -> dict[str, torch.Tensor]:
        """Per unit ``[U]``, from one head's scores of all rows."""

    @abstractmethod
    def measures(self, scores_B: torch.Tensor, batch: MicroBatch) -> Measures:
        """Metrics of the (mean) score, which has no gradient."""

    def counts(self, units: Sequence[Unit]) -> dict[str, float]:
        terms = [*self.term_names, *(["penalty"] if self.penalty else [])]
        return {
            f"{term}{self._suffix(number)}": sum(_weight(unit, number) for unit in units)
            for number in range(len(self.names))
            for term in terms
        }

    def terms(self, outputs: dict[str, torch.Tensor], batch: MicroBatch) -> Terms:
        heads_BK = outputs["heads"][:, 0]
        sums: dict[str, torch.Tensor] = {}
        for number in range(len(self.names)):
            weights_U = _weights(batch, number).to(heads_BK)
            for term, losses_U in self.losses(heads_BK[:, number], batch).items():
                sums[f"{term}{self._suffix(number)}"] = (weights_U * losses_U).sum()
            if self.penalty and self.head is not None:
                squared = self.head.linear.weight[number].square().sum()
                # Divided by the step's count, so that every micro-batch carries its share.
                sums[f"penalty{self._suffix(number)}"] = 0.5 * self.penalty * squared * weights_U.sum()
        return Terms(sums, self.measures(heads_BK.detach()[:, self.measured].mean(-1), batch))

    def _suffix(self, number: int) -> str:
        return f"/{self.names[number]}" if len(self.names) > 1 else ""


def _weight(unit: Unit, number: int) -> float:
    return unit[0].values.get(weight_name(number), 1.0)


def _weights(batch: MicroBatch, number: int) -> torch.Tensor:
    """``[U]``."""
    weights, first = [], 0
    for size in batch.unit_sizes:
        weights.append(batch.rows[first].values.get(weight_name(number), 1.0))
        first += size
    return torch.tensor(weights)
