from __future__ import annotations

import numpy as np
import pytest

from ridgeline.statistics.intervals import Estimate, mean_interval
from ridgeline.statistics.over_optimisation import fall_after_peak, gold_gap, peak, rise


def test_peak_of_a_curve_and_of_per_prompt_evaluations() -> None:
    curve = peak([0, 5, 10, 20], [0.1, 0.9, 0.9, 0.2])
    assert (curve.index, curve.step, curve.value) == (1, 5, 0.9)
    gold_SP = np.array([[0.0, 1.0], [4.0, 0.0], [0.0, 3.0]])
    assert peak([0, 4, 8], gold_SP).step == 4
    assert peak([3], [0.5]).step == 3


def test_rise_is_in_starting_standard_deviations() -> None:
    values_SP = np.array([[1.0, 3.0], [3.0, 3.0]])
    assert rise(values_SP) == pytest.approx(np.array([[0.0, 0.0], [2.0, 0.0]]) / np.sqrt(2))
    assert rise(10 * values_SP + 7) == pytest.approx(rise(values_SP))


def test_gap_starts_at_zero_and_equals_the_difference_of_standardised_means() -> None:
    generator = np.random.default_rng(0)
    gold_SP = generator.normal(2.0, 3.0, size=(3, 12))
    proxy_SP = generator.normal(-1.0, 0.2, size=(3, 12)) + np.array([[0.0], [1.0], [2.0]])
    gaps = gold_gap(proxy_SP, gold_SP)
    assert gaps[0] == Estimate(0.0, 0.0, 0.0, 12)
    for step in (1, 2):
        z_proxy = (proxy_SP[step].mean() - proxy_SP[0].mean()) / proxy_SP[0].std(ddof=1)
        z_gold = (gold_SP[step].mean() - gold_SP[0].mean()) / gold_SP[0].std(ddof=1)
        assert gaps[step].value == pytest.approx(z_proxy - z_gold)
    assert gaps[2].low > 0


def test_gap_is_zero_where_the_proxy_is_gold_in_another_unit() -> None:
    gold_SP = np.random.default_rng(1).normal(size=(4, 9))
    for estimate in gold_gap(5 * gold_SP - 3, gold_SP):
        assert estimate.value == pytest.approx(0.0, abs=1e-12)


def test_a_real_fall_is_measured() -> None:
    generator = np.random.default_rng(2)
    mean_S1 = np.array([0.7, 1.1, 1.5, 1.4, 1.2])[:, None]
    gold_SP = mean_S1 + generator.normal(size=(1, 64)) + 0.2 * generator.normal(size=(5, 64))
    got = fall_after_peak([0, 4, 8, 12, 16], gold_SP)
    assert (got.peak_step, got.last_step) == (8, 16)
    assert got.over_optimised
    assert not got.fall.excludes(0.3)
    assert got.at_last == mean_interval(gold_SP[-1])


def test_drop_of_each_half_is_measured_at_the_peak_of_the_other() -> None:
    # Even prompts peak at step 1, odd prompts at step 0.
    gold_SP = np.array([[0.0, 5.0, 0.0, 7.0], [2.0, 1.0, 4.0, 1.0], [1.0, 2.0, 1.0, 3.0]])
    got = fall_after_peak([0, 1, 2], gold_SP)
    assert got.fall == mean_interval([0.0 - 1.0, 1.0 - 2.0, 0.0 - 1.0, 1.0 - 3.0])


def test_a_flat_curve_is_not_called_over_optimised() -> None:
    generator = np.random.default_rng(3)
    alarms = naive = 0
    for _ in range(600):
        gold_SP = generator.normal(size=(1, 32)) + generator.normal(size=(12, 32))
        alarms += fall_after_peak(range(12), gold_SP).over_optimised
        top = int(gold_SP.mean(axis=1).argmax())
        naive += mean_interval(gold_SP[top] - gold_SP[-1]).low > 0
    assert alarms / 600 < 0.05
    assert naive / 600 > 0.1


def test_a_curve_that_still_rises_has_no_fall() -> None:
    got = fall_after_peak([0, 1], np.array([[0.0, 0.1, 0.2, 0.3], [1.0, 1.1, 1.2, 1.3]]))
    assert got.fall == Estimate(0.0, 0.0, 0.0, 4)
    assert got.peak_step == got.last_step == 1
    assert not got.over_optimised


def test_degenerate_inputs() -> None:
    assert fall_after_peak([0, 1], np.ones((2, 4))).fall == Estimate(0.0, 0.0, 0.0, 4)
    with pytest.raises(ValueError, match="gold is empty"):
        peak([], [])
    with pytest.raises(ValueError, match="steps has 1 entries and gold has 2"):
        peak([0], [0.1, 0.2])
    with pytest.raises(ValueError, match="steps must increase"):
        peak([0, 0], [0.1, 0.2])
    with pytest.raises(ValueError, match="needs at least 4"):
        fall_after_peak([0, 1], np.zeros((2, 3)))
    for values_SP in (np.full((3, 5), 0.1), np.ones((3, 1))):
        with pytest.raises(ValueError, match="no spread to standardise by"):
            rise(values_SP)
    with pytest.raises(ValueError, match=r"proxy_SP has shape \(2, 3\) and gold_SP \(2, 4\)"):
        gold_gap(np.zeros((2, 3)), np.zeros((2, 4)))
