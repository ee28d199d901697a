from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats

from ridgeline.statistics.intervals import Estimate, mean_interval
from ridgeline.statistics.paired import paired_difference, paired_permutation, prompt_differences, win_rate


def test_difference_is_b_minus_a_with_the_paired_t_interval() -> None:
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=20), generator.normal(size=20) + 1
    got = paired_difference(a, b)
    reference = scipy.stats.ttest_rel(b, a)
    assert got.value == pytest.approx(b.mean() - a.mean())
    assert (got.low, got.high) == pytest.approx(tuple(reference.confidence_interval(0.95)), rel=1e-12)


def test_prompt_difficulty_cancels() -> None:
    difficulty_P1 = 100 * np.arange(8.0)[:, None]
    a_PG = difficulty_P1 + np.array([-1.0, 1.0])
    assert paired_difference(a_PG, a_PG + 0.25) == Estimate(0.25, 0.25, 0.25, 8)


def test_labels_match_prompts_whatever_their_order_and_number() -> None:
    differences = prompt_differences(
        [1.0, 3.0, 10.0], [20.0, 2.0, 4.0, 6.0], ["x", "x", "y"], clusters_b=["y", "x", "x", "x"]
    )
    assert differences.tolist() == [2.0, 10.0]
    wins = win_rate([1.0, 3.0, 10.0], [5.0, 2.0, 4.0, 6.0], ["x", "x", "y"], clusters_b=["y", "x", "x", "x"])
    assert wins.value == pytest.approx((5 / 6 + 0) / 2)


def test_sides_must_cover_the_same_prompts() -> None:
    with pytest.raises(ValueError, match=r"on one side only \(first: 'y'\)"):
        paired_difference([1.0, 2.0], [1.0, 2.0], ["x", "y"], clusters_b=["x", "x"])
    with pytest.raises(ValueError, match=r"on one side only \(first: 'z'\)"):
        win_rate([1.0], [1.0, 2.0], ["x"], clusters_b=["x", "z"])
    with pytest.raises(ValueError, match="a covers 3 prompts and b covers 2"):
        paired_difference(np.zeros((3, 2)), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="b is empty"):
        paired_difference([1.0], [])


def test_win_rate_against_brute_force_with_ties() -> None:
    generator = np.random.default_rng(1)
    a_PG, b_PG = generator.integers(0, 4, size=(6, 3)), generator.integers(0, 4, size=(6, 5))
    score = {-1: 0.0, 0: 0.5, 1: 1.0}
    shares = [
        np.mean([score[int(np.sign(int(y) - int(x)))] for x, y in itertools.product(row_a, row_b)])
        for row_a, row_b in zip(a_PG, b_PG, strict=True)
    ]
    got = win_rate(a_PG, b_PG)
    assert got.value == pytest.approx(np.mean(shares))
    assert got.count == 6
    assert win_rate(b_PG, a_PG).value == pytest.approx(1 - got.value)


def test_win_rate_at_its_edges() -> None:
    assert win_rate([1.0, 1.0], [1.0, 1.0]) == Estimate(0.5, 0.5, 0.5, 2)
    assert win_rate([0.0], [1.0]) == Estimate(1.0, 0.0, 1.0, 1)
    swept = win_rate(np.zeros((10, 2)), np.ones((10, 2)))
    assert swept.value == 1.0
    assert 0.5 < swept.low < 0.8


def test_win_rate_covers() -> None:
    generator = np.random.default_rng(2)
    truth = scipy.stats.norm.cdf(0.5 / math.sqrt(2))
    covered = 0
    for _ in range(400):
        difficulty_P1 = 3 * generator.normal(size=(20, 1))
        a_PG = difficulty_P1 + generator.normal(size=(20, 3))
        b_PG = difficulty_P1 + 0.5 + generator.normal(size=(20, 3))
        covered += not win_rate(a_PG, b_PG).excludes(truth)
    assert 0.92 < covered / 400 < 0.985


def test_permutation_is_exact_for_few_prompts() -> None:
    differences = np.array([0.3, 1.1, -0.2, 0.7, 0.4])
    hits = [
        abs(sum(sign * d for sign, d in zip(signs, differences, strict=True)))
        >= abs(differences.sum()) - 1e-12
        for signs in itertools.product((-1, 1), repeat=5)
    ]
    assert paired_permutation(differences, 0) == np.mean(hits)
    assert paired_permutation([1.0] * 5, 0) == 2 / 32


def test_permutation_at_its_edges() -> None:
    assert paired_permutation([0.0] * 6, 0) == 1.0
    assert paired_permutation([0.0] * 60, 0) == 1.0
    assert paired_permutation([2.0], 0) == 1.0
    assert paired_permutation([0.1] * 200, 0, draws=99) == 1 / 100
    with pytest.raises(ValueError, match="differences is empty"):
        paired_permutation([], 0)
    with pytest.raises(ValueError, match="draws must be at least 1"):
        paired_permutation([1.0, 2.0], 0, draws=0)


def test_sampled_permutation_agrees_with_the_exact_one_and_its_seed() -> None:
    differences = np.random.default_rng(3).normal(0.4, 1.0, size=14)
    exact = paired_permutation(differences, 0, draws=2**14)
    sampled = paired_permutation(differences, 7, draws=4000)
    assert sampled == pytest.approx(exact, abs=0.03)
    assert sampled == paired_permutation(differences, 7, draws=4000)
    assert sampled != exact


def test_permutation_p_values_are_uniform_without_a_difference() -> None:
    generator = np.random.default_rng(4)
    values = [paired_permutation(generator.normal(size=20), trial, draws=199) for trial in range(300)]
    assert np.mean(np.array(values) <= 0.05) < 0.09
    assert np.mean(np.array(values) <= 0.5) == pytest.approx(0.5, abs=0.09)


def test_interval_is_over_prompts_not_samples() -> None:
    a_PG = np.zeros((5, 100))
    b_PG = np.repeat(np.arange(5.0)[:, None], 100, axis=1)
    assert paired_difference(a_PG, b_PG) == mean_interval(np.arange(5.0))
