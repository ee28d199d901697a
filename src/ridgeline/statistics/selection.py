"""Which completions of a pool are kept: by their reward, or by chance for the matched control.

A pool is `[prompts, samples]`. Results are positions in the flattened pool, k -> (k // samples, k % samples).
Rewards are in reward units; nan marks a completion that may not be selected. Ties go to the earlier sample,
which is fair because samples of one prompt are exchangeable.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ridgeline.statistics.inputs import Floats, Integers

Booleans = NDArray[np.bool_]


def top_per_prompt(rewards_PG: ArrayLike, keep: int = 1) -> Integers:
    """The `keep` best completions of every prompt, best first, prompt after prompt.

    With keep = 1 it is S(R)_i = argmax_j R_ij: best-of-N. A prompt with fewer eligible completions gives all
    of them. Raises ValueError for keep below 1 or rewards that are not a pool.
    """
    rewards = _pool(rewards_PG)
    _check_keep(keep)
    order_PG = np.argsort(-_lowest(rewards), axis=1, kind="stable")[:, :keep]
    flat = order_PG + rewards.shape[1] * np.arange(len(rewards))[:, None]
    return _eligible(flat.ravel(), rewards)


def top_overall(rewards_PG: ArrayLike, keep: int) -> Integers:
    """The `keep` best completions of the whole pool, best first.

    Easy prompts crowd out hard ones: a prompt may be left without any. Fewer eligible completions than
    `keep` are all given. Raises ValueError as `top_per_prompt`.
    """
    rewards = _pool(rewards_PG)
    _check_keep(keep)
    return _eligible(np.argsort(-_lowest(rewards).ravel(), kind="stable")[:keep], rewards)


def at_least(rewards_PG: ArrayLike, threshold: float) -> Integers:
    """Every completion whose reward is `threshold` or more, in the order of the pool."""
    rewards = _pool(rewards_PG)
    return np.flatnonzero(rewards.ravel() >= threshold).astype(np.int64)


def statistical(rewards_PG: ArrayLike, uniforms_PKG: ArrayLike, beta: float, keep: int = 1) -> Integers:
    """Statistical rejection sampling, `keep` completions a prompt in the order of acceptance.

    A completion is accepted with probability exp((r - r_max) / beta), r_max being the best that is left of
    its prompt; passes over what is left go on until `keep` are accepted (Liu et al. 2024, "Statistical
    Rejection Sampling Improves Preference Optimization", algorithm 1). Accepted completions of a large pool
    follow pi(y|x) exp(r / beta) up to normalisation. Small `beta` (reward units) is best-of-N, large `beta`
    takes the samples as they come.

    `uniforms_PKG` are numbers in [0, 1) for every prompt, pass and sample; every pass accepts at least the
    best that is left, so K = keep passes suffice. Raises ValueError for another shape or range, or beta
    not above 0.
    """
    rewards = _pool(rewards_PG)
    _check_keep(keep)
    prompts, samples = rewards.shape
    uniforms = np.asarray(uniforms_PKG, dtype=np.float64)
    if uniforms.shape != (prompts, keep, samples):
        raise ValueError(
            f"uniforms_PKG has shape {uniforms.shape}, not {(prompts, keep, samples)}: one number for every "
            "prompt, pass and sample."
        )
    if not ((uniforms >= 0) & (uniforms < 1)).all():
        raise ValueError("uniforms_PKG must lie in [0, 1).")
    if not beta > 0:
        raise ValueError(
            f"beta must be above 0, not {beta}; for the best of every prompt use top_per_prompt."
        )
    return np.array(
        [
            prompt * samples + sample
            for prompt in range(prompts)
            for sample in _accepted(rewards[prompt], uniforms[prompt], beta, keep)
        ],
        dtype=np.int64,
    )


def random_per_prompt(eligible_PG: ArrayLike, counts_P: ArrayLike, keys_PG: ArrayLike) -> Integers:
    """The control of a selection per prompt: as many completions of each prompt, chosen by chance.

    Of each prompt, the `counts_P` eligible completions with the smallest keys (independent uniform numbers).
    Prompts with fewer eligible ones give all of them. Raises ValueError where shapes differ.
    """
    eligible, keys = _chances(eligible_PG, keys_PG)
    counts = np.asarray(counts_P, dtype=np.int64)
    if counts.shape != eligible.shape[:1]:
        raise ValueError(f"counts_P has shape {counts.shape}; one count for each of {len(eligible)} prompts.")
    order_PG = np.argsort(keys, axis=1, kind="stable")
    flat = [
        prompt * eligible.shape[1] + sample
        for prompt, count in enumerate(counts.tolist())
        for sample in [int(sample) for sample in order_PG[prompt] if eligible[prompt, sample]][:count]
    ]
    return np.array(flat, dtype=np.int64)


def random_overall(eligible_PG: ArrayLike, count: int, keys_PG: ArrayLike) -> Integers:
    """The control of a selection over the whole pool: `count` eligible completions chosen by chance.

    Those with the smallest keys; all of them where there are fewer. Raises ValueError where shapes differ.
    """
    eligible, keys = _chances(eligible_PG, keys_PG)
    order = np.argsort(keys.ravel(), kind="stable")
    return order[eligible.ravel()[order]][:count].astype(np.int64)


def _accepted(rewards_G: Floats, uniforms_KG: Floats, beta: float, keep: int) -> list[int]:
    left = [sample for sample, reward in enumerate(rewards_G) if not np.isnan(reward)]
    accepted: list[int] = []
    for uniforms in uniforms_KG:
        if not left:
            break
        best = max(rewards_G[sample] for sample in left)
        taken = [s for s in left if uniforms[s] < np.exp((rewards_G[s] - best) / beta)]
        accepted += taken[: keep - len(accepted)]
        left = [sample for sample in left if sample not in taken]
    return accepted


def _pool(rewards_PG: ArrayLike) -> Floats:
    rewards = np.asarray(rewards_PG, dtype=np.float64)
    if rewards.ndim != 2 or rewards.size == 0:
        raise ValueError(
            f"rewards_PG must be [prompts, samples] with entries, but its shape is {rewards.shape}."
        )
    if np.isinf(rewards).any():
        raise ValueError("rewards_PG holds an infinite reward; leave such completions out as nan.")
    return rewards


def _chances(eligible_PG: ArrayLike, keys_PG: ArrayLike) -> tuple[Booleans, Floats]:
    eligible, keys = np.asarray(eligible_PG, dtype=np.bool_), np.asarray(keys_PG, dtype=np.float64)
    if eligible.ndim != 2 or eligible.shape != keys.shape:
        raise ValueError(
            f"eligible_PG has shape {eligible.shape} and keys_PG {keys.shape}; both are [prompts, samples]."
        )
    return eligible, keys


def _check_keep(keep: int) -> None:
    if keep < 1:
        raise ValueError(f"keep must be at least 1, not {keep}.")


def _lowest(rewards: Floats) -> Floats:
    """nan sorts behind every reward."""
    lowest: Floats = np.where(np.isnan(rewards), -np.inf, rewards)
    return lowest


def _eligible(flat: Integers, rewards: Floats) -> Integers:
    kept: Integers = flat[~np.isnan(rewards.ravel()[flat])].astype(np.int64)
    return kept
