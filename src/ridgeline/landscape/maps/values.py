"""Value beams: the reward to expect from a beginning of a completion, under the policy of its step.

With a critic: V(s_t) as it was when it was trained. Without one: final rewards regressed on the positions of
beginnings (25, 50, 75 and 100 % of the tokens); the slope is shared by all steps, the level is that of the
step, so it is a Monte-Carlo estimate of the value of that step's policy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ridgeline.landscape.maps.ridge import ridge
from ridgeline.landscape.maps.tokens import Tokens
from ridgeline.models.pooling import FRACTIONS
from ridgeline.statistics.inputs import Floats, Integers

FEWEST = 50
"""Finished samples without which nothing is regressed."""


@dataclass(frozen=True)
class Values:
    """``value_NF``: expected altitude after each segment, nan where unknown; ``note``: how it was made."""

    kind: Literal["critic", "regression"] | None
    value_NF: Floats
    note: str


def critic_values(tokens: Tokens, reference_mean_N: Floats, altitude_N: Floats) -> Values:
    """The critic's V minus the prompt's reference mean; a finished text is worth what it earned."""
    value_NF = tokens.value_NF - reference_mean_N[:, None]
    known = np.isfinite(value_NF).any(1)
    value_NF[:, -1] = np.where(known, altitude_N, np.nan)
    return Values(
        "critic",
        value_NF,
        f"the critic's V(prefix) minus the prompt's reference mean, on {known.sum():,} traced samples; the "
        "end of a completion is its reward",
    )


def regressed_values(states_NFK: Floats, altitude_N: Floats, prompt_N: Integers, frame_N: Integers) -> Values:
    """Ridge regression of the final altitude on beginnings ``[N, F, K]``, one per fraction."""
    known = np.isfinite(altitude_N)
    value_NF = np.full(states_NFK.shape[:2], np.nan)
    enough = known.sum() >= FEWEST and len(np.unique(prompt_N[known])) >= 2 and np.ptp(altitude_N[known]) > 0
    if not enough:
        note = f"no value: {known.sum()} finished samples with rewards that differ are too few to regress"
        return Values(None, value_NF, note)
    mean_N = _step_means(altitude_N, frame_N, known)
    explained = []
    for place in range(states_NFK.shape[1]):
        x_NK = states_NFK[:, place]
        moved_NK = x_NK - _step_means(x_NK, frame_N, known)
        fitted = ridge(moved_NK[known], (altitude_N - mean_N)[known], prompt_N[known])
        value_NF[:, place] = mean_N + moved_NK @ fitted.weights_H
        explained.append(fitted.r2)
    shown = ", ".join(f"{fraction:.0%} {r2:.2f}" for fraction, r2 in zip(FRACTIONS, explained, strict=True))
    note = (
        f"estimated from {known.sum():,} finished samples: final reward regressed on beginnings; held-out R2 "
        f"within a step by share of the text read: {shown}"
    )
    return Values("regression", value_NF, note)


def _step_means(values: Floats, frame_N: Integers, known_N: np.ndarray) -> Floats:
    """``[N, ...]``: the mean over the known samples of the same step."""
    sums = np.zeros((int(frame_N.max()) + 1, *values.shape[1:]))
    np.add.at(sums, frame_N[known_N], values[known_N])
    counts = np.bincount(frame_N[known_N], minlength=len(sums)).reshape((-1,) + (1,) * (values.ndim - 1))
    with np.errstate(invalid="ignore"):
        means: Floats = (sums / counts)[frame_N]
    return means
