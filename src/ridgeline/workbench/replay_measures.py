"""The numbers of a replay: the push on every token, where it goes, and how gradients compare."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import compress

import numpy as np
import torch

from ridgeline.models.batch import FloatArray, MicroBatch, Row, Unit
from ridgeline.training.objective import Objective, Terms

NEGLIGIBLE = 1e-6
"""Of the largest push of an objective: a token pushed less than this counts as untouched."""
STRONGEST = 0.1
"""The share of tokens whose share of the push is measured."""

Gradient = Mapping[str, torch.Tensor]


class Watched:
    """An objective, and on the side what each token's log-prob is told by the very pass that learns.

    The push on a token is ``-d loss / d logp``, per nat: gradient descent makes tokens with a positive push
    likelier. A term that does not act through the token's own log-prob (an entropy bonus) has none.
    """

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self._pushes: dict[int, FloatArray] = {}

    def counts(self, units: Sequence[Unit]) -> dict[str, float]:
        return self.objective.counts(units)

    def terms(self, outputs: dict[str, torch.Tensor], batch: MicroBatch) -> Terms:
        outputs["logp"].register_hook(partial(self._record, batch))
        return self.objective.terms(outputs, batch)

    def _record(self, batch: MicroBatch, slope_BN: torch.Tensor) -> None:
        for row, slope_N in zip(batch.rows, slope_BN.float().cpu().numpy(), strict=True):
            self._pushes[id(row)] = -slope_N[: len(row.targets)]

    def pushes(self, rows: Sequence[Row]) -> list[FloatArray]:
        """``[N]`` per row; zero where no loss reached the row."""
        return [self._pushes.get(id(row), np.zeros(len(row.targets), dtype=np.float32)) for row in rows]


@dataclass(frozen=True)
class Spread:
    """Where the push of an objective goes.

    up, down, untouched: shares of tokens. short, long: push per unit of advantage in the shorter and the
    longer half of the completions, over that of all tokens (1: every token's advantage weighs the same); None
    where all completions are equally long, or nothing is pushed. strongest: share of the sum of absolute
    pushes that lies on the tenth of the tokens pushed hardest; None where nothing is pushed.
    """

    up: float
    down: float
    untouched: float
    short: float | None
    long: float | None
    strongest: float | None


def spread_of(pushes: Sequence[FloatArray], advantages: Sequence[FloatArray]) -> Spread:
    """pushes, advantages: ``[N]`` per completion."""
    flat = np.concatenate(pushes).astype(np.float64)
    size = np.abs(flat)
    threshold = NEGLIGIBLE * size.max(initial=0.0)
    up, down = float((flat > threshold).mean()), float((flat < -threshold).mean())
    hardest = np.sort(size)[::-1][: math.ceil(STRONGEST * len(size))]
    short, long = _by_length(pushes, advantages)
    strongest = float(hardest.sum() / size.sum()) if size.any() else None
    return Spread(up, down, max(0.0, 1 - up - down), short, long, strongest)


def _by_length(
    pushes: Sequence[FloatArray], advantages: Sequence[FloatArray]
) -> tuple[float | None, float | None]:
    """The median length counts as short, unless nothing is longer."""
    lengths = np.array([len(push) for push in pushes])
    median = np.median(lengths)
    is_long = lengths > median if (lengths > median).any() else lengths >= median
    if is_long.all():
        return None, None
    overall = _weight(pushes, advantages)

    def relative(half: list[bool]) -> float | None:
        weight = _weight(list(compress(pushes, half)), list(compress(advantages, half)))
        return weight / overall if weight is not None and overall else None

    return relative((~is_long).tolist()), relative(is_long.tolist())


def _weight(pushes: Sequence[FloatArray], advantages: Sequence[FloatArray]) -> float | None:
    """Absolute push per unit of absolute advantage, over the tokens that have an advantage."""
    push, advantage = np.concatenate(pushes).astype(np.float64), np.concatenate(advantages)
    total = np.abs(advantage).sum(dtype=np.float64)
    return float(np.abs(push[advantage != 0]).sum() / total) if total > 0 else None


def length_of(gradient: Gradient) -> float:
    """L2 norm over all tensors."""
    return math.sqrt(sum(float(torch.linalg.vector_norm(part)) ** 2 for part in gradient.values()))


def cosine(first: Gradient, second: Gradient) -> float | None:
    """Of the angle between two gradients, in [-1, 1]; None where one of them is zero or not finite."""
    lengths = length_of(first) * length_of(second)
    if not 0 < lengths < math.inf:
        return None
    shared = [name for name in first if name in second]
    inner = sum(float(torch.dot(first[name].flatten(), second[name].flatten())) for name in shared)
    return max(-1.0, min(1.0, inner / lengths))


def most_different(pushes: Sequence[Sequence[FloatArray]]) -> int:
    """The completion on which objectives differ most, each scaled to unit length over the whole file.

    pushes: per objective, per completion ``[N]``. Where all objectives agree: the completion pushed hardest.
    """
    lengths = [float(np.linalg.norm(np.concatenate(own))) for own in pushes]
    scaled = [
        [part / length for part in own] for own, length in zip(pushes, lengths, strict=True) if length > 0
    ]
    if not scaled:
        return 0
    spreads = np.array([np.var(parts, axis=0).sum() for parts in zip(*scaled, strict=True)])
    if spreads.max() <= NEGLIGIBLE**2:
        spreads = np.array([np.square(part).sum() for part in scaled[0]])
    # The first of those that are equal but for rounding.
    return int(np.flatnonzero(spreads >= (1 - 1e-4) * spreads.max())[0])
