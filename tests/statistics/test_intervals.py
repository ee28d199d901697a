from __future__ import annotations

import json
import math

import numpy as np
import pytest
import scipy.stats

from ridgeline.statistics.intervals import (
    Estimate,
    bootstrap,
    clustered_mean_interval,
    clustered_share_interval,
    mean_interval,
    wilson,
)


def test_mean_interval_is_the_t_interval_of_scipy() -> None:
    values = [0.3, 1.2, -0.4, 2.2, 0.9]
    got = mean_interval(values, 0.9)
    low, high = scipy.stats.ttest_1samp(values, 0.0).confidence_interval(0.9)
    assert (got.low, got.high) == pytest.approx((low, high), rel=1e-12)
    assert got.value == pytest.approx(0.84)
    assert got.count == 5


def test_one_value_leaves_the_interval_unbounded_and_writes_valid_json() -> None:
    got = mean_interval([2.0])
    assert (got.value, got.low, got.high, got.count) == (2.0, -math.inf, math.inf, 1)
    assert not got.excludes(0.0)
    text = json.dumps(got.as_dict(), allow_nan=False)
    assert json.loads(text) == {"value": 2.0, "low": None, "high": None, "count": 1}


def test_equal_values_have_no_width() -> None:
    assert mean_interval([0.5] * 4) == Estimate(0.5, 0.5, 0.5, 4)


def test_excludes_is_strict_at_the_ends() -> None:
    estimate = Estimate(1.0, 0.0, 2.0, 3)
    assert not estimate.excludes(0.0)
    assert not estimate.excludes(2.0)
    assert estimate.excludes(-1e-9)
    assert estimate.excludes(2.1)
    assert str(estimate) == "1.000 [0.000, 2.000]"


@pytest.mark.parametrize("level", [0.0, 1.0, 95])
def test_a_level_outside_0_to_1_is_refused(level: float) -> None:
    with pytest.raises(ValueError, match="level must lie strictly between 0 and 1"):
        mean_interval([1.0, 2.0], level)


def test_prompts_weigh_the_same_and_are_the_count() -> None:
    got = clustered_mean_interval([0.0, 0.0, 0.0, 3.0], ["a", "a", "a", "b"])
    assert got == mean_interval([0.0, 3.0])
    assert got.count == 2


def test_clustered_mean_matches_the_cluster_robust_formula() -> None:
    values_PG = np.random.default_rng(0).normal(size=(7, 4))
    got = clustered_mean_interval(values_PG)
    residual_P = (values_PG - values_PG.mean()).sum(axis=1)
    error = math.sqrt(7 / 6 * float(residual_P @ residual_P)) / values_PG.size
    assert got.value == pytest.approx(values_PG.mean())
    assert got.high - got.value == pytest.approx(scipy.stats.t.ppf(0.975, 6) * error, rel=1e-12)


def test_clustered_mean_covers_where_the_naive_interval_does_not() -> None:
    generator = np.random.default_rng(1)
    covered = naive = 0
    for _ in range(600):
        values_PG = generator.normal(size=(12, 1)) + 0.3 * generator.normal(size=(12, 8))
        covered += not clustered_mean_interval(values_PG).excludes(0.0)
        naive += not mean_interval(values_PG.ravel()).excludes(0.0)
    assert 0.925 < covered / 600 < 0.975
    assert naive / 600 < 0.7


@pytest.mark.parametrize(
    ("successes", "count"),
    [(0, 10), (10, 10), (7, 10), (81, 263)],
)
def test_wilson_is_that_of_scipy(successes: int, count: int) -> None:
    got = wilson(successes, count)
    reference = scipy.stats.binomtest(successes, count).proportion_ci(0.95, method="wilson")
    assert (got.low, got.high) == pytest.approx((reference.low, reference.high), abs=1e-12)
    assert got.value == successes / count


def test_wilson_allows_ties_and_refuses_nonsense() -> None:
    assert wilson(2.5, 5).value == 0.5
    with pytest.raises(ValueError, match="count must be at least 1"):
        wilson(0, 0)
    with pytest.raises(ValueError, match="between 0 and count = 3"):
        wilson(4, 3)


def test_share_interval_covers_near_the_edge_where_t_does_not() -> None:
    generator = np.random.default_rng(2)
    covered = plain = 0
    for _ in range(600):
        chance_P = generator.beta(9.5, 0.5, size=25)
        shares_P = generator.binomial(4, chance_P) / 4
        covered += not clustered_share_interval(shares_P).excludes(0.95)
        plain += not mean_interval(shares_P).excludes(0.95)
    assert covered / 600 > 0.93
    assert plain < covered


def test_share_interval_with_one_binary_sample_per_prompt_is_nearly_wilson() -> None:
    shares_P = np.arange(400) < 300
    got, reference = clustered_share_interval(shares_P), wilson(300, 400)
    assert (got.low, got.high) == pytest.approx((reference.low, reference.high), abs=1e-3)


def test_share_interval_at_its_edges() -> None:
    unbeaten = clustered_share_interval(np.ones((20, 3)))
    assert unbeaten.value == unbeaten.high == 1.0
    assert 0.75 < unbeaten.low < 0.9
    beaten = clustered_share_interval(np.zeros(20))
    assert (beaten.low, beaten.high) == pytest.approx((0.0, 1 - unbeaten.low))
    assert clustered_share_interval([0.25]) == Estimate(0.25, 0.0, 1.0, 1)
    assert clustered_share_interval([0.5, 0.5, 0.5]) == Estimate(0.5, 0.5, 0.5, 3)
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        clustered_share_interval([0.5, 1.2])


def test_bootstrap_is_keyed_by_its_seed() -> None:
    values = np.random.default_rng(3).normal(size=30)
    first, again, other = (bootstrap(values, None, np.mean, seed, 200) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert first.value == pytest.approx(values.mean())


def test_bootstrap_of_two_prompts_draws_whole_prompts() -> None:
    seen: set[tuple[float, ...]] = set()

    def record(values: np.ndarray) -> float:
        seen.add(tuple(sorted(values)))
        return float(values.mean())

    got = bootstrap([0.0, 1.0, 5.0], ["a", "a", "b"], record, seed=0, draws=200)
    assert seen == {(0.0, 1.0, 5.0), (0.0, 0.0, 1.0, 1.0), (5.0, 5.0)}
    assert (got.low, got.high) == (0.5, 5.0)


def test_bootstrap_is_close_to_the_t_interval_and_covers() -> None:
    generator = np.random.default_rng(4)
    values_PG = generator.normal(size=(60, 1)) + generator.normal(size=(60, 3))
    labels = np.repeat(np.arange(60), 3)
    resampled = bootstrap(values_PG.ravel(), labels, np.mean, seed=5)
    exact = clustered_mean_interval(values_PG)
    assert (resampled.low, resampled.high) == pytest.approx((exact.low, exact.high), abs=0.05)
    covered = 0
    for trial in range(200):
        values = generator.normal(size=(30, 1)) + 0.5 * generator.normal(size=(30, 2))
        estimate = bootstrap(values.ravel(), np.repeat(np.arange(30), 2), np.mean, trial, 200)
        covered += not estimate.excludes(0.0)
    assert 0.88 < covered / 200 < 0.99


def test_bootstrap_takes_statistics_of_several_columns() -> None:
    x = np.random.default_rng(6).normal(size=50)
    rows = np.stack([x, 2 * x + 1], axis=1)
    got = bootstrap(rows, None, lambda drawn: float(np.corrcoef(drawn.T)[0, 1]), 0, 50)
    assert (got.value, got.low) == pytest.approx((1.0, 1.0))


def test_bootstrap_says_when_it_cannot_answer() -> None:
    assert bootstrap([1.0, 3.0], ["a", "a"], np.mean, 0) == Estimate(2.0, -math.inf, math.inf, 1)
    with pytest.raises(ValueError, match="on the data itself"):
        bootstrap([1.0, 1.0], None, lambda _: math.nan, 0)
    with pytest.raises(ValueError, match=r"not finite on \d+ of 100 bootstrap draws"):
        bootstrap([0.0, 1.0], None, lambda drawn: math.nan if np.ptp(drawn) == 0 else 1.0, 0, 100)
    with pytest.raises(ValueError, match="draws must be at least 1"):
        bootstrap([0.0, 1.0], None, np.mean, 0, 0)
    with pytest.raises(ValueError, match="values is empty"):
        bootstrap([], None, np.mean, 0)


def test_shares_next_to_one_have_an_interval() -> None:
    """Their mean rounds to 1 although not all of them are 1."""
    estimate = clustered_share_interval([1.0] * 7 + [1 - 2**-53])
    assert estimate.value == 1.0 and 0.5 < estimate.low < estimate.high == 1.0
