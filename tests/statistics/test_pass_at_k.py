from __future__ import annotations

import itertools

import numpy as np
import pytest

from ridgeline.statistics.intervals import clustered_share_interval
from ridgeline.statistics.pass_at_k import mean_pass_at_k, pass_at_k


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_against_every_subset_of_k_samples(k: int) -> None:
    for correct in range(6):
        outcomes = [True] * correct + [False] * (5 - correct)
        brute = np.mean([any(drawn) for drawn in itertools.combinations(outcomes, k)])
        assert pass_at_k(5, [correct], k) == pytest.approx([brute])


def test_prompts_may_have_different_numbers_of_samples() -> None:
    got = pass_at_k([4, 10, 3], [1, 0, 3], 2)
    assert got == pytest.approx([0.5, 0.0, 1.0])


def test_unbiased_where_the_plug_in_formula_is_not() -> None:
    generator = np.random.default_rng(0)
    correct = generator.binomial(8, 0.1, size=20_000)
    truth = 1 - 0.9**5
    assert pass_at_k(8, correct, 5).mean() == pytest.approx(truth, abs=0.01)
    assert (1 - (1 - correct / 8) ** 5).mean() < truth - 0.03


def test_large_counts_stay_exact() -> None:
    assert pass_at_k(10_000, [1], 100) == pytest.approx([0.01], rel=1e-10)


def test_mean_has_the_interval_over_prompts_and_covers() -> None:
    correct = [0, 1, 4, 4, 2]
    got = mean_pass_at_k(4, correct, 2)
    assert got == clustered_share_interval(pass_at_k(4, correct, 2))
    assert got.count == 5
    generator = np.random.default_rng(1)
    truth = 1 - 1 / 3  # the chance of a prompt is uniform on [0, 1]
    covered = 0
    for _ in range(500):
        draws_P = generator.binomial(6, generator.uniform(size=30))
        covered += not mean_pass_at_k(6, draws_P, 2).excludes(truth)
    assert 0.92 < covered / 500 < 0.985


def test_degenerate_inputs() -> None:
    solved = mean_pass_at_k(4, [4, 4, 4], 1)
    assert solved.value == solved.high == 1.0
    assert solved.low < 0.9
    assert (mean_pass_at_k(1, [1], 1).low, mean_pass_at_k(1, [1], 1).high) == (0.0, 1.0)
    with pytest.raises(ValueError, match="correct is empty"):
        pass_at_k(4, [], 1)
    with pytest.raises(ValueError, match="prompt 1 has 5 correct of 4 samples"):
        pass_at_k(4, [1, 5], 1)
    for k in (0, 4):
        with pytest.raises(ValueError, match=rf"of a prompt \(3\), not {k}"):
            pass_at_k([4, 3], [1, 1], k)
    with pytest.raises(ValueError, match="samples has 1 entries and correct has 2"):
        pass_at_k([4], [1, 1], 1)
    with pytest.raises(ValueError, match="whole numbers"):
        pass_at_k(4, [0.5], 1)
