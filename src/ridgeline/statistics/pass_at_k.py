"""pass@k: the chance that at least one of k samples is correct, without bias."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ridgeline.statistics.inputs import Floats, numbers
from ridgeline.statistics.intervals import Estimate, clustered_share_interval


def pass_at_k(samples: ArrayLike, correct: ArrayLike, k: int) -> Floats:
    """Unbiased estimate per prompt, 1 - C(n - c, k) / C(n, k) (Chen et al. 2021, eq. 1); `[prompts]`.

    `samples` is n, the number of samples of each prompt (one number serves all prompts), and `correct` is c,
    how many of them are right. Raises ValueError where k is not between 1 and n, or c not between 0 and n.
    """
    correct_P = numbers(correct, "correct")
    samples_P = numbers(
        np.broadcast_to(samples, correct_P.shape) if np.ndim(samples) == 0 else samples, "samples"
    )
    if samples_P.shape != correct_P.shape:
        raise ValueError(
            f"samples has {len(samples_P)} entries and correct has {len(correct_P)}; one per prompt."
        )
    if np.any(samples_P % 1) or np.any(correct_P % 1):
        raise ValueError("samples and correct must be whole numbers: they count samples.")
    wrong = np.flatnonzero((correct_P < 0) | (correct_P > samples_P))
    if len(wrong):
        prompt = wrong[0]
        raise ValueError(
            f"prompt {prompt} has {correct_P[prompt]:g} correct of {samples_P[prompt]:g} samples; "
            "correct must lie between 0 and the number of samples."
        )
    if not 1 <= k <= samples_P.min():
        raise ValueError(
            f"k must lie between 1 and the smallest number of samples of a prompt "
            f"({samples_P.min():g}), not {k}."
        )
    # C(n - c, k) / C(n, k) as a product over the k draws: no large factorials, and a factor 0 if n - c < k.
    draw = np.arange(k)
    left = samples_P[:, None] - correct_P[:, None] - draw
    missed_P: Floats = np.prod(left / (samples_P[:, None] - draw), axis=1)
    return 1 - missed_P


def mean_pass_at_k(samples: ArrayLike, correct: ArrayLike, k: int, *, level: float = 0.95) -> Estimate:
    """Mean of `pass_at_k` over prompts with a clustered Wilson interval over prompts, inside [0, 1].

    For a set of prompts drawn from the same source. Two models on the same prompts are better compared with
    `paired_difference(pass_at_k(...), pass_at_k(...))`.
    """
    return clustered_share_interval(pass_at_k(samples, correct, k), level=level)
