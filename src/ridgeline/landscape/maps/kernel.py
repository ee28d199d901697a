"""Kernel regression in the plane: mean, standard error and fog; bandwidth by leaving out whole prompts.

With Gaussian weights k_i(s) = exp(-|s - s_i|^2 / (2 h^2)):

    mean(s)     sum k_i y_i / sum k_i                   (Nadaraya, Watson 1964): never overshoots the data
    n_eff(s)    (sum k_i)^2 / sum k_i^2                 how many samples the mean rests on
    spread(s)   sqrt(sum k_i (y_i - mean)^2 / sum k_i)  of rewards at the same place
    error(s)    spread / sqrt(n_eff)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ridgeline.statistics.inputs import Floats, Integers

BANDWIDTHS = tuple(float(h) for h in np.geomspace(0.15, 3.0, 11))
"""Tried in this order, in units of the coordinates (standard deviations of the reference cloud)."""
CHUNK = 512


@dataclass(frozen=True)
class Smooth:
    """At each place: the mean, its standard error, the spread of rewards, and n_eff. All ``[M]``."""

    mean: Floats
    error: Floats
    spread: Floats
    effective: Floats


def regress(points_N2: Floats, values_N: Floats, at_M2: Floats, bandwidth: float) -> Smooth:
    """The regression at ``at_M2``; nan where every weight underflows. ValueError for bandwidth <= 0."""
    _check(bandwidth)
    columns: list[list[Floats]] = [[], [], [], []]
    for weights_MN in _weights(points_N2, at_M2, bandwidth):
        total, squares = weights_MN.sum(1), (weights_MN**2).sum(1)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = weights_MN @ values_N / total
            variance = (weights_MN * (values_N[None] - mean[:, None]) ** 2).sum(1) / total
            effective = total**2 / squares
            error = np.sqrt(variance / effective)
        for column, part in zip(columns, (mean, error, np.sqrt(variance), effective), strict=True):
            column.append(part)
    return Smooth(*(np.concatenate(column) for column in columns))


def leave_prompt_out(points_N2: Floats, values_N: Floats, prompt_N: Integers, bandwidth: float) -> Floats:
    """Every sample predicted from the samples of all other prompts, ``[N]``.

    Where those are too far away to weigh anything, the prediction is their plain mean. Samples of one prompt
    resemble each other, so leaving out single samples would flatter.
    """
    _check(bandwidth)
    predicted, start = np.empty(len(values_N)), 0
    for weights_MN in _weights(points_N2, points_N2, bandwidth):
        rows = slice(start, start + len(weights_MN))
        other_MN = prompt_N[rows, None] != prompt_N[None]
        kept_MN = np.where(other_MN, weights_MN, 0.0)
        total = kept_MN.sum(1)
        plain = other_MN @ values_N / np.maximum(other_MN.sum(1), 1)
        predicted[rows] = np.where(total > 1e-12, kept_MN @ values_N / np.maximum(total, 1e-12), plain)
        start = rows.stop
    return predicted


def choose_bandwidth(
    points_N2: Floats,
    values_N: Floats,
    prompt_N: Integers,
    bandwidths: Sequence[float] = BANDWIDTHS,
) -> float:
    """The bandwidth with the least squared error of ``leave_prompt_out``; ties go to the smoother one."""
    losses = [
        float(((leave_prompt_out(points_N2, values_N, prompt_N, h) - values_N) ** 2).mean())
        for h in bandwidths
    ]
    best = min(losses)
    return max(h for h, loss in zip(bandwidths, losses, strict=True) if loss <= best * (1 + 1e-9))


def nearby(points_N2: Floats, at_M2: Floats, radius: float) -> Floats:
    """Samples around each place, ``[M]``: each counts exp(-d^2 / (2 radius^2)), so 1 at the place itself."""
    _check(radius)
    return np.concatenate([weights.sum(1) for weights in _weights(points_N2, at_M2, radius)])


def lattice(bounds: tuple[tuple[float, float], tuple[float, float]], n: int) -> Floats:
    """The n x n places of a grid, ``[n * n, 2]``: row after row, the lowest y first."""
    (low_x, high_x), (low_y, high_y) = bounds
    y, x = np.meshgrid(np.linspace(low_y, high_y, n), np.linspace(low_x, high_x, n), indexing="ij")
    return np.stack([x.ravel(), y.ravel()], axis=1)


def _weights(points_N2: Floats, at_M2: Floats, bandwidth: float) -> Iterator[Floats]:
    """``[M, N]`` in chunks of rows."""
    for start in range(0, len(at_M2), CHUNK):
        gaps = at_M2[start : start + CHUNK, None] - points_N2[None]
        yield np.exp(-(gaps**2).sum(-1) / (2 * bandwidth**2))


def _check(bandwidth: float) -> None:
    if not bandwidth > 0:
        raise ValueError(f"a bandwidth must be above 0, not {bandwidth}")
