from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.optimize

from ridgeline.statistics.bradley_terry import fit, noise_ceiling, probability


def test_probability_is_the_tempered_sigmoid() -> None:
    got = probability([[0.0, 2.0], [-2.0, 1000.0]], 2.0)
    assert got == pytest.approx(np.array([[0.5, 1 / (1 + math.exp(-1))], [1 / (1 + math.e), 1.0]]))
    assert probability([0.1, -3.0, 0.0], 0.0).tolist() == [1.0, 0.0, 0.5]
    assert float(probability(0.7)) + float(probability(-0.7)) == pytest.approx(1.0)
    for temperature in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="temperature must be a finite number of at least 0"):
            probability(1.0, temperature)


def test_ceiling_of_one_pair_by_hand() -> None:
    got = noise_ceiling([math.log(3)], 1.0)
    assert got.accuracy == pytest.approx(0.75)
    assert got.nll == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))


def test_ceiling_is_what_the_oracle_predictor_reaches_on_drawn_labels() -> None:
    generator = np.random.default_rng(0)
    gold_first_minus_second = generator.normal(size=40_000)
    chance = 1 / (1 + np.exp(-gold_first_minus_second / 0.5))
    first_chosen = generator.uniform(size=40_000) < chance
    signed = np.where(first_chosen, gold_first_minus_second, -gold_first_minus_second)
    got = noise_ceiling(signed, 0.5)
    assert np.mean(signed > 0) == pytest.approx(got.accuracy, abs=0.008)
    assert np.mean(np.log1p(np.exp(-signed / 0.5))) == pytest.approx(got.nll, abs=0.01)


def test_ceiling_at_its_edges() -> None:
    coin = noise_ceiling([0.0, 0.0], 1.0)
    assert (coin.accuracy, coin.nll) == pytest.approx((0.5, math.log(2)))
    sure = noise_ceiling([5.0, -3.0], 0.0)
    assert (sure.accuracy, sure.nll) == (1.0, 0.0)
    assert noise_ceiling([1e4], 1.0).nll == 0.0
    with pytest.raises(ValueError, match="gold_chosen_minus_rejected is empty"):
        noise_ceiling([], 1.0)


def test_two_items_have_the_log_odds() -> None:
    theta = fit([[0, 30], [10, 0]], regularisation=0)
    assert theta == pytest.approx([math.log(3) / 2, -math.log(3) / 2])


def penalised_nll(theta: np.ndarray, wins: np.ndarray, regularisation: float) -> float:
    pairs = sum(
        wins[i, j] * math.log1p(math.exp(theta[j] - theta[i]))
        for i in range(len(wins))
        for j in range(len(wins))
    )
    against_average = sum(math.log1p(math.exp(t)) + math.log1p(math.exp(-t)) for t in theta)
    return float(pairs + regularisation * against_average)


@pytest.mark.parametrize("regularisation", [0.0, 0.1, 3.0])
def test_fit_is_the_maximum_found_by_a_general_optimiser(regularisation: float) -> None:
    wins = np.random.default_rng(1).integers(1, 9, size=(5, 5)).astype(float)
    np.fill_diagonal(wins, 0)
    found = scipy.optimize.minimize(
        penalised_nll, np.zeros(5), args=(wins, regularisation), options={"gtol": 1e-8}
    ).x
    assert fit(wins, regularisation=regularisation) == pytest.approx(found - found.mean(), abs=1e-5)


def test_fit_recovers_strengths_from_many_games() -> None:
    generator = np.random.default_rng(2)
    truth = np.array([1.0, 0.3, -0.2, -1.1])
    wins = np.zeros((4, 4))
    for i in range(4):
        for j in range(i):
            wins[i, j] = generator.binomial(4000, 1 / (1 + math.exp(truth[j] - truth[i])))
            wins[j, i] = 4000 - wins[i, j]
    assert fit(wins) == pytest.approx(truth, abs=0.06)


def test_disconnected_groups_are_placed_side_by_side() -> None:
    wins = np.zeros((4, 4))
    wins[0, 1], wins[1, 0] = 3000, 1000
    wins[2, 3], wins[3, 2] = 3000, 1000
    theta = fit(wins, regularisation=0.01)
    assert theta[:2] == pytest.approx(theta[2:], abs=1e-6)
    assert theta[0] - theta[1] == pytest.approx(math.log(3), abs=1e-3)
    with pytest.raises(ValueError, match=r"falls into 2 groups .*\[0, 1\]"):
        fit(wins, regularisation=0)


def test_a_group_that_mm_alone_would_crawl_to_is_fitted_exactly() -> None:
    wins = np.zeros((4, 4))
    wins[0, 1] = wins[1, 0] = wins[2, 3] = wins[3, 2] = 5000
    wins[1, 2], wins[2, 1] = 3, 1
    theta = fit(wins, regularisation=0)
    assert theta[1] - theta[2] == pytest.approx(math.log(3), abs=1e-6)


def test_an_unbeaten_item_stays_finite() -> None:
    wins = np.array([[0.0, 500.0, 500.0], [0.0, 0.0, 5.0], [0.0, 5.0, 0.0]])
    theta = fit(wins)
    assert np.isfinite(theta).all()
    assert theta[0] > theta[1] + 3
    with pytest.raises(ValueError, match="maximum likelihood has no finite answer"):
        fit(wins, regularisation=0)


def test_fit_at_its_edges() -> None:
    assert fit([[0.0]]).tolist() == [0.0]
    assert fit([[0.0]], regularisation=0).tolist() == [0.0]
    assert fit(np.zeros((3, 3))) == pytest.approx([0.0, 0.0, 0.0])
    assert fit(np.full((3, 3), 2.0) - 2 * np.eye(3), regularisation=0) == pytest.approx([0.0] * 3)
    with pytest.raises(ValueError, match="wins is empty"):
        fit(np.zeros((0, 0)))
    with pytest.raises(ValueError, match="square matrix"):
        fit(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="square matrix of counts of at least 0"):
        fit([[0, -1], [1, 0]])
    with pytest.raises(ValueError, match="cannot beat itself"):
        fit([[1, 1], [1, 0]])
    with pytest.raises(ValueError, match="regularisation must be a finite number"):
        fit([[0, 1], [1, 0]], regularisation=-1)
