"""Ridge regression whose penalty is chosen on prompts left out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ridgeline.statistics.inputs import Floats, Integers

PENALTIES = np.geomspace(1e-3, 1e4, 15)
"""In units of the mean squared singular value."""
FOLDS = 5


@dataclass(frozen=True)
class Ridge:
    """``weights`` ``[H]``, and the variance explained on prompts left out (below 0: worse than 0)."""

    weights_H: Floats
    penalty: float
    r2: float


def ridge(x_NH: Floats, y_N: Floats, prompt_N: Integers) -> Ridge:
    """min |y - x w|^2 + penalty |w|^2 without intercept: x and y have to be centred already.

    Prompts are dealt to 5 folds (fewer where there are fewer); the penalty with the least squared error over
    all folds is taken, the largest of equals. Raises ValueError with samples of fewer than two prompts.
    """
    _, number_N = np.unique(prompt_N, return_inverse=True)
    folds = min(FOLDS, int(number_N.max()) + 1)
    if folds < 2:
        raise ValueError("a held-out penalty needs samples of at least two prompts")
    predicted = np.empty((len(PENALTIES), len(y_N)))
    for fold in range(folds):
        out = number_N % folds == fold
        predicted[:, out] = _solve(x_NH[~out], y_N[~out]) @ x_NH[out].T
    losses = ((predicted - y_N) ** 2).sum(1)
    best = int(np.flatnonzero(losses <= losses.min() * (1 + 1e-9))[-1])
    total = float((y_N**2).sum())
    weights_H = _solve(x_NH, y_N)[best]
    return Ridge(weights_H, float(PENALTIES[best]), 1 - float(losses[best]) / total if total else np.nan)


def _solve(x_NH: Floats, y_N: Floats) -> Floats:
    """The weights of every penalty, ``[penalties, H]``."""
    u, s, vt = np.linalg.svd(x_NH, full_matrices=False)
    scale = max(float((s**2).mean()), 1e-300)
    shrunk = s / (s**2 + PENALTIES[:, None] * scale) * (u.T @ y_N)
    weights: Floats = shrunk @ vt
    return weights
