from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats

from ridgeline.statistics.agreement import (
    ReliabilityBin,
    brier,
    cohen_kappa,
    expected_calibration_error,
    krippendorff_alpha,
    pairwise_accuracy,
    pairwise_accuracy_interval,
    pearson,
    reliability_table,
    spearman,
)


def test_pairwise_accuracy_counts_ties_half() -> None:
    assert pairwise_accuracy([2.0, 1.0, 0.0, 5.0], [1.0, 1.0, 3.0, -2.0]) == 2.5 / 4
    assert pairwise_accuracy([1.0, 1.0], [1.0, 1.0]) == 0.5
    with pytest.raises(ValueError, match="chosen has 2 entries and rejected has 1"):
        pairwise_accuracy([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="chosen is empty"):
        pairwise_accuracy([], [])


def test_pairwise_accuracy_interval_is_over_prompts() -> None:
    got = pairwise_accuracy_interval([1.0, 1.0, 0.0], [0.0, 0.0, 1.0], ["x", "x", "y"])
    assert (got.value, got.count) == (0.5, 2)
    assert (got.low, got.high) != (0.5, 0.5)


def test_correlations_are_those_of_scipy() -> None:
    generator = np.random.default_rng(0)
    x = generator.integers(0, 6, size=40)
    y = x + 3 * generator.normal(size=40)
    assert pearson(x, y) == pytest.approx(scipy.stats.pearsonr(x, y).statistic, rel=1e-12)
    assert spearman(x, y) == pytest.approx(scipy.stats.spearmanr(x, y).statistic, rel=1e-12)


def test_correlations_at_their_edges() -> None:
    assert spearman([1.0, 2.0, 3.0], [1.0, 10.0, 1000.0]) == 1.0
    assert pearson([1.0, 2.0], [5.0, 3.0]) == -1.0
    assert pearson([1e-200, 2e-200, 3e-200], [1e200, 2e200, 3e200]) == pytest.approx(1.0)
    for correlation in (pearson, spearman):
        assert math.isnan(correlation([0.1] * 3, [1.0, 2.0, 3.0]))
        assert math.isnan(correlation([1.0], [2.0]))
        with pytest.raises(ValueError, match="x is empty"):
            correlation([], [])


def test_kappa_of_the_textbook_table() -> None:
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert cohen_kappa(first, second) == pytest.approx(0.4)
    assert cohen_kappa(first, first) == 1.0
    assert cohen_kappa(["a", "b"], ["b", "a"]) == -1.0


def test_kappa_at_its_edges() -> None:
    assert math.isnan(cohen_kappa(["a", "a"], ["a", "a"]))
    assert cohen_kappa(["a", "a"], ["b", "b"]) == 0.0
    with pytest.raises(ValueError, match="first is empty"):
        cohen_kappa([], [])
    with pytest.raises(ValueError, match="first has 1 labels and second has 2"):
        cohen_kappa(["a"], ["a", "b"])


def test_alpha_of_krippendorffs_own_example() -> None:
    # Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", section C: nominal alpha 0.743.
    by_annotator = ["123321412...", "1233224125.3", ".33323422511"[:11] + ".", "12332441251."]
    ratings = [
        [None if label == "." else label for label in item] for item in zip(*by_annotator, strict=True)
    ]
    assert krippendorff_alpha(ratings) == pytest.approx(0.743, abs=5e-4)


def test_alpha_against_brute_force_over_pairs() -> None:
    generator = np.random.default_rng(1)
    ratings = [
        [int(label) if label < 3 else None for label in row] for row in generator.integers(0, 4, size=(15, 4))
    ]
    items = [[label for label in row if label is not None] for row in ratings]
    items = [row for row in items if len(row) > 1]
    observed = sum(
        sum(a != b for a, b in itertools.permutations(row, 2)) / (len(row) - 1) for row in items
    ) / sum(map(len, items))
    pooled = [label for row in items for label in row]
    expected = np.mean([a != b for a, b in itertools.permutations(pooled, 2)])
    assert krippendorff_alpha(ratings) == pytest.approx(1 - observed / expected)


def test_alpha_at_its_edges() -> None:
    assert krippendorff_alpha([["a", "a"], ["b", "b", None]]) == 1.0
    assert math.isnan(krippendorff_alpha([["a", "a"], ["a", "a"]]))
    for ratings in ([], [["a"], [None, "b"]]):
        with pytest.raises(ValueError, match="no item has two labels"):
            krippendorff_alpha(ratings)


def test_reliability_table_and_error_by_hand() -> None:
    probabilities, outcomes = [0.05, 0.15, 0.1, 1.0, 0.95], [0, 1, 0, 1, 0]
    table = reliability_table(probabilities, outcomes)
    assert [(row.low, row.count) for row in table] == [(0.0, 1), (pytest.approx(0.1), 2), (0.9, 2)]
    assert [row.observed_share for row in table] == [0.0, 0.5, 0.5]
    assert [row.mean_predicted for row in table] == pytest.approx([0.05, 0.125, 0.975])
    expected = (0.05 + 2 * 0.375 + 2 * 0.475) / 5
    assert expected_calibration_error(probabilities, outcomes) == pytest.approx(expected)


def test_calibration_of_a_true_and_an_overconfident_forecaster() -> None:
    generator = np.random.default_rng(2)
    truth = generator.uniform(size=20_000)
    outcomes = generator.uniform(size=20_000) < truth
    assert expected_calibration_error(truth, outcomes) < 0.02
    assert expected_calibration_error(np.round(truth), outcomes) == pytest.approx(0.25, abs=0.02)
    assert brier(truth, outcomes) == pytest.approx(1 / 6, abs=0.01)


def test_calibration_at_its_edges() -> None:
    assert reliability_table([1.0], [1], bins=1) == (ReliabilityBin(0.0, 1.0, 1.0, 1.0, 1),)
    assert expected_calibration_error([0.5, 0.5], [0, 1]) == 0.0
    assert brier([0.5], [0.5]) == 0.0
    assert brier([0.0, 1.0], [1, 0]) == 1.0
    for score in (expected_calibration_error, brier, reliability_table):
        with pytest.raises(ValueError, match="probabilities is empty"):
            score([], [])
        with pytest.raises(ValueError, match=r"probabilities must lie in \[0, 1\]"):
            score([1.5], [1])
        with pytest.raises(ValueError, match=r"outcomes must lie in \[0, 1\]"):
            score([0.5], [-1])
    with pytest.raises(ValueError, match="bins must be at least 1"):
        reliability_table([0.5], [1], bins=0)


@pytest.mark.parametrize("edge", [number / 10 for number in range(10)])
def test_a_prediction_on_an_edge_opens_the_upper_bin(edge: float) -> None:
    (row,) = reliability_table([edge], [1])
    assert row.low == pytest.approx(edge)
