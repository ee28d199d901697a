"""The ground plane: two fixed directions in the reference's state space, fitted once and saved.

    pca          the two main directions in which reference samples differ (of one prompt)
    reward       the direction along which reward rises within one prompt (ridge regression), and the main
                 direction of the reference in the rest; uphill to the right is true by construction
    drift        the direction that tells the last policy from the reference (regularised discriminant), and
                 the main direction of the reference in the rest

Coordinates are in standard deviations of the reference cloud along each axis.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ridgeline.landscape.maps.centring import Reference, group_residuals
from ridgeline.landscape.maps.ridge import ridge
from ridgeline.schema.errors import DataError
from ridgeline.statistics.inputs import Floats, Integers

Method = Literal["reward", "pca", "drift"]
BASIS = 64
REDUCED = 256
"""A regression sees at most this many main directions of its samples."""


@dataclass(frozen=True)
class Plane:
    """axes_2H: unit vectors. scale_2: standard deviation of the reference cloud along each, in state units.

    basis_KH: main directions of the reference, K <= 64. share: of the reference's variance in the plane.
    fit_r2: of the first axis on prompts left out while fitting (nan for pca). fitting: which prompts it saw.
    """

    method: Method
    axes_2H: Floats
    scale_2: Floats
    basis_KH: Floats
    share: float
    fit_r2: float
    fitting: str
    samples: int

    def coordinates(self, states: Floats) -> Floats:
        """``[..., H]`` centred states -> ``[..., 2]``, in standard deviations of the reference cloud."""
        return (states @ self.axes_2H.T) / self.scale_2


@dataclass(frozen=True)
class Evidence:
    """What axes are fitted on: N centred states, their rewards, and where each sample comes from."""

    states_NH: Floats
    raw_NH: Floats
    reward_N: Floats
    reference: Reference
    frame_N: Integers
    fitting_N: np.ndarray
    fitting: str


def fit(method: Method, evidence: Evidence) -> Plane:
    """Fit the plane.

    Raises:
        DataError: too few samples to fit anything.
    """
    cloud_MH = evidence.states_NH[evidence.reference.cloud_N]
    if len(cloud_MH) < 3:
        raise DataError(
            f"the stage has {len(cloud_MH)} samples of its reference, which span no map; at least 3 are "
            "needed (200 for a good one): wait for its first steps."
        )
    basis_KH = main_directions(cloud_MH, BASIS)
    if method == "pca":
        first, r2, used = basis_KH[0], np.nan, len(cloud_MH)
    elif method == "reward":
        first, r2, used = _reward_direction(evidence)
    else:
        first, r2, used = _drift_direction(evidence)
    rest_MH = cloud_MH - (cloud_MH @ first)[:, None] * first
    axes_2H = np.stack([first, _turned(main_directions(rest_MH, 1)[0])])
    along_M2 = cloud_MH @ axes_2H.T
    scale_2 = along_M2.std(0, ddof=1)
    if not (scale_2 > 0).all():
        raise DataError("all reference samples are alike, so there is no plane to draw; sample with T > 0.")
    share = float(along_M2.var(0).sum() / cloud_MH.var(0).sum())
    return Plane(method, axes_2H, scale_2, basis_KH, share, float(r2), evidence.fitting, used)


def main_directions(x_NH: Floats, most: int) -> Floats:
    """Principal directions, ``[K, H]`` with K <= ``most``, unit length, largest variance first."""
    centred = x_NH - x_NH.mean(0)
    _, s, vt = np.linalg.svd(centred, full_matrices=False)
    kept = vt[:most][s[:most] > s[0] * 1e-9] if s[0] > 0 else vt[:1]
    return np.stack([_turned(direction) for direction in kept])


def _turned(direction_H: Floats) -> Floats:
    """The sign of a direction means nothing; its largest entry is made positive."""
    turned: Floats = direction_H * np.sign(direction_H[np.argmax(np.abs(direction_H))])
    return turned


def _reward_direction(evidence: Evidence) -> tuple[Floats, float, int]:
    """Within a prompt: against the reference's mean where the prompt has one, else against its own group."""
    known = np.isfinite(evidence.reward_N) & evidence.fitting_N
    placed = evidence.reference.placed_N & known
    prompt_N = evidence.reference.prompt_N
    other = np.flatnonzero(known & ~placed)
    x, y = [evidence.states_NH[placed]], [evidence.reward_N[placed]]
    prompts = [prompt_N[placed]]
    if len(other):
        frames = evidence.frame_N[other]
        residual_x, paired = group_residuals(evidence.raw_NH[other], prompt_N[other], frames)
        residual_y, _ = group_residuals(evidence.reward_N[other], prompt_N[other], frames)
        x.append(residual_x[paired])
        y.append(residual_y[paired])
        prompts.append(prompt_N[other][paired])
    return _direction(np.concatenate(x), np.concatenate(y), np.concatenate(prompts), "rewards")


def _drift_direction(evidence: Evidence) -> tuple[Floats, float, int]:
    """A discriminant is the regression of a label on states; the penalty regularises its covariance."""
    placed = evidence.reference.placed_N if evidence.reference.placed_N.any() else evidence.fitting_N
    usable = placed & evidence.fitting_N
    moved = np.unique(evidence.frame_N[usable & ~evidence.reference.reference_N])
    if not len(moved):
        raise DataError("no policy but the reference has left samples yet, so there is no drift to show.")
    last = usable & (evidence.frame_N == moved[-1])
    start = usable & evidence.reference.reference_N
    x = np.concatenate([evidence.states_NH[start], evidence.states_NH[last]])
    label = np.concatenate([np.zeros(start.sum()), np.ones(last.sum())])
    prompts = np.concatenate([evidence.reference.prompt_N[start], evidence.reference.prompt_N[last]])
    return _direction(x - x.mean(0), label - label.mean(), prompts, "samples")


def _direction(x_NH: Floats, y_N: Floats, prompt_N: Integers, what: str) -> tuple[Floats, float, int]:
    if len(np.unique(prompt_N)) < 2 or not np.ptp(y_N) > 0:
        raise DataError(
            f"the {what} to fit an axis on are of fewer than two prompts or all alike; "
            "use axes = pca, or wait for more steps."
        )
    basis_KH = main_directions(x_NH, REDUCED)
    fitted = ridge(x_NH @ basis_KH.T, y_N, prompt_N)
    direction = fitted.weights_H @ basis_KH
    length = float(np.linalg.norm(direction))
    if not length > 0:
        raise DataError(f"the {what} have no direction in the states; use axes = pca.")
    return direction / length, fitted.r2, len(x_NH)
