"""Bradley-Terry: what label noise allows at best, and strengths from who beat whom."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse.csgraph import connected_components
from scipy.special import entr, expit

from ridgeline.statistics.inputs import Floats, numbers

SWEEPS = 200
NEWTON_STEPS = 100


def probability(difference: ArrayLike, temperature: float = 1.0) -> Floats:
    """P(first is preferred) = sigmoid(difference / temperature), elementwise and of the same shape.

    `difference` is score(first) - score(second); `temperature` is in the same unit and says how noisy the
    annotator is. 0 is the noise-free limit: 1, 0, or 0.5 for a tie. Raises ValueError for a negative one.
    """
    array = np.asarray(difference, dtype=np.float64)
    if not temperature >= 0 or np.isinf(temperature):
        raise ValueError(f"temperature must be a finite number of at least 0, not {temperature}.")
    preferred: Floats = (np.sign(array) + 1) / 2 if temperature == 0 else expit(array / temperature)
    return preferred


@dataclass(frozen=True, slots=True)
class NoiseCeiling:
    """The best that any predictor can expect on noisy labels: accuracy in [0.5, 1], NLL in nats per pair."""

    accuracy: float
    nll: float


def noise_ceiling(gold_chosen_minus_rejected: ArrayLike, temperature: float) -> NoiseCeiling:
    """Ceiling on accuracy and floor on loss for labels drawn with P = sigmoid(d / temperature).

    With d the gold difference of a pair, the best predictor knows d and bets on its sign:
    accuracy = mean sigmoid(|d| / T), NLL = mean entropy of that coin, in nats. Only |d| enters, so the result
    does not depend on how the labels fell. A finite test set may score above it by luck.
    """
    gaps = np.abs(numbers(gold_chosen_minus_rejected, "gold_chosen_minus_rejected"))
    right = probability(gaps, temperature)
    # sigmoid(-x) rather than 1 - sigmoid(x), which loses the small tail.
    wrong = probability(-gaps, temperature)
    return NoiseCeiling(float(right.mean()), float((entr(right) + entr(wrong)).mean()))


def fit(wins: ArrayLike, *, regularisation: float = 0.1) -> Floats:
    """Log-strengths θ from a win matrix, P(i beats j) = sigmoid(θ_i - θ_j); `[items]`, centred on 0.

    `wins[i, j]` counts how often i beat j; a tie adds half to both. `regularisation` is the number of wins
    and of losses every item is credited with against a fixed average opponent: it ties separate groups of
    items together, keeps an unbeaten item finite and pulls everybody slightly to the middle. 0 is plain
    maximum likelihood, and then a ValueError says so where no finite answer exists (some items never lost
    to, or never met, the others). Found by MM sweeps (Hunter 2004) and finished by Newton's method, since
    MM crawls where groups hang together by few comparisons.
    """
    matrix = numbers(wins, "wins", dimensions=(2,))
    if matrix.shape[0] != matrix.shape[1] or matrix.min() < 0:
        raise ValueError(
            f"wins must be a square matrix of counts of at least 0; its shape is {matrix.shape}."
        )
    if np.any(np.diagonal(matrix) != 0):
        raise ValueError("wins has entries on its diagonal; an item cannot beat itself.")
    if not 0 <= regularisation < np.inf:
        raise ValueError(f"regularisation must be a finite number of at least 0, not {regularisation}.")
    if regularisation == 0:
        _check_connected(matrix)
    # The average opponent is one more item, held at θ = 0; without regularisation it has played nobody.
    size = len(matrix)
    games = np.full((size, size + 1), 2 * regularisation)
    games[:, :size] = matrix + matrix.T
    won = matrix.sum(axis=1) + regularisation
    theta = _newton(games, won, _minorise_maximise(games, won), anchored=regularisation > 0)
    centred: Floats = theta - theta.mean()
    return centred


def _check_connected(matrix: Floats) -> None:
    groups, group_of = connected_components(matrix > 0, directed=True, connection="strong")
    if groups > 1:
        members = np.flatnonzero(group_of == group_of[0]).tolist()
        raise ValueError(
            f"the win matrix falls into {groups} groups that did not both win and lose against each other "
            f"(items {members} are one), so maximum likelihood has no finite answer; "
            "use regularisation > 0 or collect comparisons between the groups."
        )


def _minorise_maximise(games: Floats, won: Floats) -> Floats:
    """Sweeps of p_i <- wins_i / Σ_j games_ij / (p_i + p_j), with the average opponent's p at 1."""
    strength = np.ones(len(won) + 1)
    for _ in range(SWEEPS):
        weight = (games / (strength[:-1, None] + strength[None, :])).sum(axis=1)
        # An item without games keeps its strength (only a lone item without regularisation has none).
        new = np.divide(won, weight, out=strength[:-1].copy(), where=weight > 0)
        change = np.abs(np.log(new / strength[:-1])).max()
        strength[:-1] = new
        if change < 1e-6:
            break
    theta: Floats = np.log(strength[:-1])
    return theta


def _newton(games: Floats, won: Floats, theta: Floats, *, anchored: bool) -> Floats:
    """Climb the concave log-likelihood to its top with Newton steps, halved where they overshoot."""
    size = len(theta)
    # Below this the gradient is rounding error of its own sum.
    tolerance = 1e-14 * float(games.sum())
    for _ in range(NEWTON_STEPS):
        chance = expit(theta[:, None] - np.append(theta, 0.0)[None, :])
        gradient = won - (games * chance).sum(axis=1)
        if np.abs(gradient).max() <= tolerance:
            return theta
        curvature = games * chance * (1 - chance)
        hessian = np.diag(curvature.sum(axis=1)) - curvature[:, :size]
        # Without the anchor a common shift changes nothing; fixing its direction makes the system solvable.
        system = hessian if anchored else hessian + curvature.max() / size
        step = np.linalg.solve(system, gradient)
        # Past the top the slope along the step turns negative: a little is Newton's own error, more too far.
        length = 1.0
        while length > 1e-6 and _slope(games, won, theta + length * step, step) < -0.5 * abs(gradient @ step):
            length /= 2
        theta = theta + length * step
        if np.abs(step).max() < 1e-10:
            return theta
    raise ValueError(
        f"the Bradley-Terry fit did not settle (gradient {np.abs(gradient).max():.1e}); "
        "the counts are too one-sided for this regularisation, raise it."
    )


def _slope(games: Floats, won: Floats, theta: Floats, direction: Floats) -> float:
    chance = expit(theta[:, None] - np.append(theta, 0.0)[None, :])
    return float((won - (games * chance).sum(axis=1)) @ direction)
