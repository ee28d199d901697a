"""The terrain: expected reward at each place of the plane, how sure it is, and where nothing is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ridgeline.landscape.maps.kernel import (
    choose_bandwidth,
    lattice,
    leave_prompt_out,
    nearby,
    regress,
)
from ridgeline.statistics.inputs import Floats, Integers

FOG_RADIUS = 0.35
"""Standard deviations of the reference cloud: samples within it lift the fog, whatever the bandwidth."""
FOG_COUNT = 1.5
"""Below this many samples nearby the ground is not drawn."""
FEWEST_EFFECTIVE = 3.0
MOST_FOR_BANDWIDTH = 2048
Bounds = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True)
class Surface:
    """Grids ``[n, n]`` (row 0 the lowest y): mean, standard error, spread, effective count; shown (no fog).

    r2, residual: on prompts that the axes and the bandwidth were not chosen on, each predicted from the
    samples of other prompts; nan where there are none. r2_within: the same among samples of one step.
    """

    mean: Floats
    error: Floats
    spread: Floats
    effective: Floats
    shown: np.ndarray
    bandwidth: float
    r2: float
    r2_within: float
    residual: float
    samples: int


@dataclass(frozen=True)
class Ground:
    """What every layer shares: coordinates, prompts, steps, and who was fitted on."""

    points_N2: Floats
    prompt_N: Integers
    frame_N: Integers
    fitting_N: np.ndarray
    seed: int


def surface(ground: Ground, altitude_N: Floats, bounds: Bounds, n: int) -> Surface:
    """One layer of terrain from all samples that have the reward (``altitude_N`` nan: it does not)."""
    known = np.flatnonzero(np.isfinite(altitude_N))
    points, values = ground.points_N2[known], altitude_N[known]
    prompts, fitting = ground.prompt_N[known], ground.fitting_N[known]
    chosen = np.flatnonzero(fitting) if fitting.any() else np.arange(len(known))
    if len(chosen) > MOST_FOR_BANDWIDTH:
        chosen = np.random.default_rng(ground.seed).choice(chosen, MOST_FOR_BANDWIDTH, replace=False)
    bandwidth = choose_bandwidth(points[chosen], values[chosen], prompts[chosen])
    at = lattice(bounds, n)
    smooth = regress(points, values, at, bandwidth)
    shown = (nearby(points, at, FOG_RADIUS) >= FOG_COUNT) & (smooth.effective >= FEWEST_EFFECTIVE)
    predicted = leave_prompt_out(points, values, prompts, bandwidth)
    judged = ~fitting
    r2, within, residual = _judge(values[judged], predicted[judged], ground.frame_N[known][judged])
    return Surface(
        mean=smooth.mean.reshape(n, n),
        error=smooth.error.reshape(n, n),
        spread=smooth.spread.reshape(n, n),
        effective=smooth.effective.reshape(n, n),
        shown=shown.reshape(n, n),
        bandwidth=bandwidth,
        r2=r2,
        r2_within=within,
        residual=residual,
        samples=len(known),
    )


def _judge(values_N: Floats, predicted_N: Floats, frame_N: Integers) -> tuple[float, float, float]:
    """R^2, R^2 within a step, and the root mean squared error; nan with fewer than 8 samples or no spread."""
    if len(values_N) < 8 or not np.ptp(values_N) > 0:
        return np.nan, np.nan, np.nan
    residual = values_N - predicted_N
    r2 = 1 - float((residual**2).sum() / ((values_N - values_N.mean()) ** 2).sum())
    inner = values_N - _step_means(values_N, frame_N)
    missed = inner - (predicted_N - _step_means(predicted_N, frame_N))
    within = 1 - float((missed**2).sum() / (inner**2).sum()) if np.ptp(inner) > 0 else np.nan
    return r2, within, float(np.sqrt((residual**2).mean()))


def _step_means(values_N: Floats, frame_N: Integers) -> Floats:
    sums, counts = np.bincount(frame_N, weights=values_N), np.bincount(frame_N)
    means: Floats = sums[frame_N] / counts[frame_N]
    return means


def bounds_of(points_N2: Floats) -> Bounds:
    """The window: all but the outermost 0.5 % of the points, at least three standard deviations, a rim."""
    low, high = np.quantile(points_N2, [0.005, 0.995], axis=0)
    low, high = np.minimum(low, -3.0), np.maximum(high, 3.0)
    rim = 0.04 * (high - low)
    (x0, y0), (x1, y1) = low - rim, high + rim
    return (float(x0), float(x1)), (float(y0), float(y1))
