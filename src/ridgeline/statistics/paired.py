"""Two policies on the same prompts: differences, win rates and a permutation test."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import ArrayLike

from ridgeline.statistics.inputs import Floats, Grouped, Labels, group, numbers
from ridgeline.statistics.intervals import Estimate, clustered_share_interval, mean_interval


def prompt_differences(
    a: ArrayLike, b: ArrayLike, clusters: Labels | None = None, *, clusters_b: Labels | None = None
) -> Floats:
    """Per prompt, mean of b's samples minus mean of a's: an array `[prompts]`.

    `a` and `b` are `[prompts, samples]` (sample counts may differ), or flat with prompt labels in `clusters`
    (`clusters_b` where b's differ in order or number), or flat without labels: one sample a prompt. Raises
    ValueError where the two do not cover the same prompts.
    """
    first, second, order = _matched(a, b, clusters, clusters_b)
    differences: Floats = second.means_P[order] - first.means_P
    return differences


def paired_difference(
    a: ArrayLike,
    b: ArrayLike,
    clusters: Labels | None = None,
    *,
    clusters_b: Labels | None = None,
    level: float = 0.95,
) -> Estimate:
    """How much higher b is than a on the same prompts: mean(b) - mean(a), every prompt weighing the same.

    The t interval is over per-prompt differences, so what makes a prompt easy for both cancels out. In the
    unit of the values. Inputs and errors as in `prompt_differences`.
    """
    return mean_interval(prompt_differences(a, b, clusters, clusters_b=clusters_b), level)


def win_rate(
    a: ArrayLike,
    b: ArrayLike,
    clusters: Labels | None = None,
    *,
    clusters_b: Labels | None = None,
    level: float = 0.95,
) -> Estimate:
    """Share of comparisons on the same prompt that b wins, ties counting half; 0.5 is a draw.

    Within a prompt each sample of b meets each sample of a (samples are exchangeable, so all pairs estimate
    the same share with less noise); prompts weigh the same. The interval is the clustered Wilson interval
    over prompts. Inputs and errors as in `prompt_differences`.
    """
    first, second, order = _matched(a, b, clusters, clusters_b)
    members_a, members_b = first.members(), second.members()
    shares = [
        _wins(first.values_N[members_a[prompt]], second.values_N[members_b[other]])
        for prompt, other in enumerate(order)
    ]
    return clustered_share_interval(shares, level=level)


def paired_permutation(differences: ArrayLike, seed: int, *, draws: int = 10_000) -> float:
    """Two-sided p-value of the hypothesis that per-prompt differences are symmetric around zero.

    Signs are flipped at random and |mean| compared with the observed one. All 2^P sign patterns are used
    where they number at most `draws` (the p-value is then exact); otherwise p = (1 + hits) / (1 + draws),
    which is never 0 (Phipson and Smyth 2010). `differences` is one number per prompt, for example from
    `prompt_differences`.
    """
    array = numbers(differences, "differences")
    if draws < 1:
        raise ValueError(f"draws must be at least 1, not {draws}.")
    # Sums that are equal on paper must count as equal in floating point.
    threshold = abs(float(array.sum())) - 1e-12 * float(np.abs(array).sum())
    if len(array) < 63 and 2 ** len(array) <= draws:
        signs = np.array(list(itertools.product((-1.0, 1.0), repeat=len(array))))
        return float(np.mean(np.abs(signs @ array) >= threshold))
    generator = np.random.default_rng(seed)
    hits, block = 0, max(1, 1_000_000 // len(array))
    for start in range(0, draws, block):
        shape = (min(block, draws - start), len(array))
        signs = generator.integers(0, 2, size=shape) * 2.0 - 1.0
        hits += int(np.count_nonzero(np.abs(signs @ array) >= threshold))
    return (1 + hits) / (1 + draws)


def _wins(a: Floats, b: Floats) -> float:
    return float(np.mean((np.sign(b[:, None] - a[None, :]) + 1) / 2))


def _matched(
    a: ArrayLike, b: ArrayLike, clusters: Labels | None, clusters_b: Labels | None
) -> tuple[Grouped, Grouped, list[int]]:
    """Both sides grouped, and for each prompt of a its number in b."""
    first = group(a, clusters, "a")
    second = group(b, clusters if clusters_b is None else clusters_b, "b")
    place = {label: number for number, label in enumerate(second.labels)}
    missing = [label for label in first.labels if label not in place]
    known = set(first.labels)
    missing += [label for label in second.labels if label not in known]
    if missing:
        raise ValueError(
            f"a covers {len(first.labels)} prompts and b covers {len(second.labels)}; {len(missing)} are on "
            f"one side only (first: {missing[0]!r}). Compare both on the same prompts."
        )
    return first, second, [place[label] for label in first.labels]
