"""Taking the prompt out: a position or reward minus what the reference typically has for the same prompt.

Otherwise the map would be a map of topics. A prompt's mean is known from its reference samples, of which it
needs two; without them the mean over all prompts is taken and the sample counts as not placed.

A reference sample is part of its own prompt's mean, so it lies nearer to it than a new one would: variance
s^2 (1 - 1/n) instead of s^2 (1 + 1/n). Stretched by sqrt((n + 1) / (n - 1)) the reference cloud has the
spread that new samples of the reference would have, so a policy that has not moved shows no drift.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ridgeline.statistics.inputs import Floats, Integers


@dataclass(frozen=True)
class Reference:
    """Which samples are the reference's, and how many each prompt has.

    placed_N: the sample's prompt has a mean of its own. cloud_N: reference samples of such prompts; all
    reference samples where there is no such prompt. stretch_N: what reference residuals are multiplied by.
    """

    prompt_N: Integers
    reference_N: np.ndarray
    count_P: Integers

    @classmethod
    def of(cls, prompt_N: Integers, reference_N: np.ndarray) -> Reference:
        count_P = np.bincount(prompt_N[reference_N], minlength=int(prompt_N.max()) + 1)
        return cls(prompt_N, reference_N, count_P)

    @property
    def placed_N(self) -> np.ndarray:
        placed: np.ndarray = self.count_P[self.prompt_N] >= 2
        return placed

    @property
    def cloud_N(self) -> np.ndarray:
        own = self.reference_N & self.placed_N
        return own if own.any() else self.reference_N

    @property
    def stretch_N(self) -> Floats:
        count_N = self.count_P[self.prompt_N].astype(np.float64)
        factor = np.sqrt((count_N + 1) / np.maximum(count_N - 1, 1))
        return np.where(self.reference_N & self.placed_N, factor, 1.0)

    def centre(self, values: Floats, *, stretch: bool) -> Floats:
        """``values`` ``[N, ...]`` minus the prompt's reference mean; nan entries (no reward) stay nan."""
        shape = (-1,) + (1,) * (values.ndim - 1)
        centred = values - self.means(values)
        return centred * self.stretch_N.reshape(shape) if stretch else centred

    def means(self, values: Floats) -> Floats:
        """``[N, ...]``: the mean that each sample is compared with."""
        shape = (len(self.count_P), *values.shape[1:])
        sums, counts = np.zeros(shape), np.zeros(shape)
        known = np.isfinite(values)
        rows = np.flatnonzero(self.reference_N)
        np.add.at(sums, self.prompt_N[rows], np.where(known, values, 0.0)[rows])
        np.add.at(counts, self.prompt_N[rows], known[rows])
        with np.errstate(invalid="ignore", divide="ignore"):
            means_P = np.where(counts >= 2, sums / counts, np.nan)
            overall = sums.sum(0) / counts.sum(0)
        means: Floats = np.where(np.isnan(means_P), overall, means_P)[self.prompt_N]
        return means


def group_residuals(values: Floats, prompt_N: Integers, frame_N: Integers) -> tuple[Floats, np.ndarray]:
    """Values minus the mean of their group (one prompt in one frame), and which groups have two members.

    Scaled by sqrt(n / (n - 1)), so that groups of different sizes have one spread. What is left knows
    neither topic nor step.
    """
    _, group_N = np.unique(np.stack([prompt_N, frame_N]), axis=1, return_inverse=True)
    count_G = np.bincount(group_N)
    sums = np.zeros((len(count_G), *values.shape[1:]))
    np.add.at(sums, group_N, values)
    shape = (-1,) + (1,) * (values.ndim - 1)
    count_N = count_G[group_N].reshape(shape)
    residuals: Floats = (values - sums[group_N] / count_N) * np.sqrt(count_N / np.maximum(count_N - 1, 1))
    return residuals, count_G[group_N] >= 2
