from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare
from tests.oracles import selection as oracle

from ridgeline.statistics import selection

NAN = float("nan")
# The worked example of the book's chapter on rejection sampling.
BOOK = [
    [0.7, 0.3, 0.5, 0.2],
    [0.4, 0.8, 0.6, 0.5],
    [0.9, 0.3, 0.4, 0.7],
    [0.2, 0.5, 0.8, 0.6],
    [0.5, 0.4, 0.3, 0.6],
]


@st.composite
def pools(draw: st.DrawFn) -> oracle.Pool:
    """Up to 4 prompts of up to 5 samples, with ties and completions that may not be selected."""
    samples = draw(st.integers(1, 5))
    reward = st.one_of(st.none(), st.sampled_from([-1.0, 0.0, 0.5, 1.0]), st.floats(-3, 3))
    row = st.lists(reward, min_size=samples, max_size=samples)
    return draw(st.lists(row, min_size=1, max_size=4))


def array(pool: oracle.Pool) -> np.ndarray:
    return np.array([[NAN if reward is None else reward for reward in row] for row in pool])


def uniforms(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape)


def test_worked_example_per_prompt() -> None:
    """Columns 1, 2, 1, 3, 4, counted from 1."""
    flat = selection.top_per_prompt(BOOK)
    assert (flat % 4 + 1).tolist() == [1, 2, 1, 3, 4]
    assert (flat // 4).tolist() == [0, 1, 2, 3, 4]


def test_worked_example_overall() -> None:
    """0.9; 0.8 twice; 0.7 twice: the earlier one first where rewards tie. The last prompt gets nothing."""
    flat = selection.top_overall(BOOK, 5)
    assert flat.tolist() == [8, 5, 14, 0, 11]
    assert 4 not in flat // 4


def test_two_of_each_prompt_come_best_first() -> None:
    assert selection.top_per_prompt(BOOK, 2).tolist() == [0, 2, 5, 6, 8, 11, 14, 15, 19, 16]


@given(pools(), st.integers(1, 6))
def test_the_best_against_the_oracle(pool: oracle.Pool, keep: int) -> None:
    rewards = array(pool)
    assert selection.top_per_prompt(rewards, keep).tolist() == oracle.top_per_prompt(pool, keep)
    assert selection.top_overall(rewards, keep).tolist() == oracle.top_overall(pool, keep)


@given(pools(), st.floats(-2, 2))
def test_threshold_takes_what_reaches_it(pool: oracle.Pool, threshold: float) -> None:
    flat = [reward for row in pool for reward in row]
    expected = [k for k, reward in enumerate(flat) if reward is not None and reward >= threshold]
    assert selection.at_least(array(pool), threshold).tolist() == expected


def test_a_reward_equal_to_the_threshold_is_enough() -> None:
    assert selection.at_least([[0.0, 1.0, 0.5]], 0.5).tolist() == [1, 2]


@given(pools(), st.integers(1, 4), st.floats(0.05, 5), st.integers(0, 1000))
def test_statistical_against_the_paper(pool: oracle.Pool, keep: int, beta: float, seed: int) -> None:
    drawn = uniforms(len(pool), keep, len(pool[0]), seed=seed)
    expected = [
        i * len(row) + j
        for i, row in enumerate(pool)
        for j in oracle.accept(row, drawn[i].tolist(), beta, keep)
    ]
    assert selection.statistical(array(pool), drawn, beta, keep).tolist() == expected


@pytest.mark.parametrize(("keep", "beta"), [(1, 0.5), (2, 0.5), (3, 1.0), (2, 4.0)])
def test_acceptance_frequencies_match_the_exact_probabilities(keep: int, beta: float) -> None:
    """20,000 equal prompts; every possible outcome, in its order, against its enumerated probability."""
    rewards = [0.2, 1.0, 0.6, -0.3]
    prompts = 20_000
    drawn = uniforms(prompts, keep, 4, seed=7)
    flat = selection.statistical(np.tile(rewards, (prompts, 1)), drawn, beta, keep)
    seen = Counter(tuple(row) for row in (flat % 4).reshape(prompts, keep).tolist())
    exact = oracle.acceptance_probabilities(rewards, beta, keep)
    assert sum(exact.values()) == pytest.approx(1)
    assert set(seen) <= set(exact)
    common = [outcome for outcome, probability in exact.items() if probability * prompts >= 5]
    rest = prompts - sum(seen[outcome] for outcome in common)
    observed = [*(seen[outcome] for outcome in common), rest]
    expected = [*(exact[outcome] * prompts for outcome in common)]
    expected.append(prompts - sum(expected))
    pairs = [(o, e) for o, e in zip(observed, expected, strict=True) if e > 1e-9]
    assert chisquare([o for o, _ in pairs], [e for _, e in pairs]).pvalue > 1e-3


def test_accepted_completions_follow_the_tilted_distribution() -> None:
    """The first one accepted of each of many prompts is a draw from pi(y) exp(r / beta), pi being discrete.

    Holds where the pool surely contains the best value; 64 samples at a share of 0.2 all but do.
    """
    prompts, values, shares = 8000, np.array([0.0, 1.0, 2.0]), np.array([0.5, 0.3, 0.2])
    rewards = np.random.default_rng(3).choice(values, size=(prompts, 64), p=shares)
    flat = selection.statistical(rewards, uniforms(prompts, 1, 64, seed=4), 0.7)
    counts = [int((rewards.ravel()[flat] == value).sum()) for value in values]
    tilted = shares * np.exp(values / 0.7)
    assert chisquare(counts, tilted / tilted.sum() * prompts).pvalue > 1e-3


def test_small_beta_is_best_of_n_and_large_beta_takes_samples_as_they_come() -> None:
    drawn = uniforms(5, 2, 4)
    per_prompt = selection.top_per_prompt(BOOK, 2)
    assert selection.statistical(BOOK, drawn, 1e-6, 2).tolist() == per_prompt.tolist()
    first_two = [4 * prompt + sample for prompt in range(5) for sample in (0, 1)]
    assert selection.statistical(BOOK, drawn, 1e9, 2).tolist() == first_two


def test_extremes_stay_finite() -> None:
    drawn = uniforms(1, 2, 3)
    with np.errstate(all="raise", under="ignore"):
        assert selection.statistical([[-1e300, 1e300, 0.0]], drawn, 1e-3, 2).tolist() == [1, 2]
        assert selection.statistical([[NAN, NAN, NAN]], drawn, 1.0, 2).tolist() == []
        assert selection.statistical([[0.0, 0.0, 0.0]], drawn, 1.0, 2).tolist() == [0, 1]


@given(pools(), st.integers(0, 12), st.integers(0, 1000))
def test_random_controls_take_the_same_number_of_eligible_ones(
    pool: oracle.Pool, count: int, seed: int
) -> None:
    rewards = array(pool)
    eligible, keys = ~np.isnan(rewards), uniforms(*rewards.shape, seed=seed)
    flat = selection.random_overall(eligible, count, keys)
    assert len(set(flat.tolist())) == len(flat) == min(count, eligible.sum())
    assert eligible.ravel()[flat].all()
    assert all(a < b for a, b in pairwise(keys.ravel()[flat].tolist())), "in the order of their keys"
    chosen = selection.top_per_prompt(rewards, 2)
    counts_P = np.bincount(chosen // rewards.shape[1], minlength=len(rewards))
    control = selection.random_per_prompt(eligible, counts_P, keys)
    assert np.bincount(control // rewards.shape[1], minlength=len(rewards)).tolist() == counts_P.tolist()
    assert eligible.ravel()[control].all()


def test_random_controls_are_uniform() -> None:
    """Each of the 6 eligible completions equally often, whatever its reward; a chi-square test."""
    eligible = [[True, True, False, True], [True, False, True, True]]
    overall, per_prompt = np.zeros(8), np.zeros(8)
    for seed in range(3000):
        keys = uniforms(2, 4, seed=seed)
        overall[selection.random_overall(eligible, 2, keys)] += 1
        per_prompt[selection.random_per_prompt(eligible, [1, 1], keys)] += 1
    for counts in (overall, per_prompt):
        assert counts[[2, 5]].tolist() == [0, 0]
        assert chisquare(np.delete(counts, [2, 5])).pvalue > 1e-3


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must be \[prompts, samples\]"):
        selection.top_per_prompt([0.1, 0.2])
    with pytest.raises(ValueError, match="infinite reward"):
        selection.top_overall([[math.inf, 0.0]], 1)
    with pytest.raises(ValueError, match="keep must be at least 1"):
        selection.top_per_prompt(BOOK, 0)
    with pytest.raises(ValueError, match="beta must be above 0"):
        selection.statistical(BOOK, uniforms(5, 1, 4), 0.0)
    with pytest.raises(ValueError, match=r"shape \(5, 4\), not \(5, 1, 4\)"):
        selection.statistical(BOOK, uniforms(5, 4), 1.0)
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        selection.statistical(BOOK, np.ones((5, 1, 4)), 1.0)
    with pytest.raises(ValueError, match="counts_P"):
        selection.random_per_prompt(np.ones((2, 3)), [1], uniforms(2, 3))
    with pytest.raises(ValueError, match="keys_PG"):
        selection.random_overall(np.ones((2, 3)), 1, uniforms(2, 2))
