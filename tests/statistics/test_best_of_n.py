from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.oracles import selection as oracle

from ridgeline.statistics.best_of_n import argmax_hits, best_of_n, decidable, kl_of_best_of_n
from ridgeline.statistics.pass_at_k import pass_at_k

NUMBER = st.one_of(st.sampled_from([0.0, 1.0]), st.integers(-4, 4).map(float))


@given(st.data(), st.lists(NUMBER, min_size=1, max_size=6))
def test_against_every_subset(data: st.DataObject, rewards: list[float]) -> None:
    n = data.draw(st.integers(1, len(rewards)))
    values = data.draw(st.lists(NUMBER, min_size=len(rewards), max_size=len(rewards)))
    assert best_of_n([rewards], n)[0] == pytest.approx(oracle.best_of_n(rewards, n, rewards))
    assert best_of_n([rewards], n, [values])[0] == pytest.approx(oracle.best_of_n(rewards, n, values))


def test_ends_of_the_curve() -> None:
    """One sample is the mean, all of them the highest, and the curve never falls in between."""
    rewards = np.random.default_rng(0).normal(size=(3, 7))
    curve = np.array([best_of_n(rewards, n) for n in range(1, 8)])
    assert curve[0] == pytest.approx(rewards.mean(axis=1))
    assert curve[-1] == pytest.approx(rewards.max(axis=1))
    assert (np.diff(curve, axis=0) > 0).all()


@pytest.mark.parametrize("n", [1, 3, 8])
def test_right_or_wrong_is_pass_at_n(n: int) -> None:
    correct = np.arange(9)
    rewards = [[1.0] * c + [0.0] * (8 - c) for c in correct]
    assert best_of_n(rewards, n) == pytest.approx(pass_at_k(8, correct, n))


def test_unbiased_where_the_best_of_the_first_n_would_be_noisier() -> None:
    """Uniform rewards: the best of n is n / (n + 1) on average."""
    rewards = np.random.default_rng(1).random((4000, 8))
    estimate = best_of_n(rewards, 3)
    assert estimate.mean() == pytest.approx(0.75, abs=0.01)
    assert estimate.std() < rewards[:, :3].max(axis=1).std()


def test_gold_read_off_the_best_by_a_reward_that_misleads() -> None:
    """The reward ranks gold backwards, so more samples give less gold."""
    gold = [[0.0, 1.0, 2.0, 3.0]]
    curve = [best_of_n(-np.array(gold), n, gold)[0] for n in (1, 2, 4)]
    assert curve == pytest.approx([1.5, 2 / 3, 0.0])


def test_kl_bound() -> None:
    """Uniform over many outcomes: P(best of n = k-th lowest of K) = (k/K)^n - ((k-1)/K)^n."""
    assert kl_of_best_of_n(1) == 0
    assert kl_of_best_of_n(4) == pytest.approx(math.log(4) - 0.75)
    for n, outcomes, closeness in ((4, 5, 0.2), (4, 5000, 1e-3), (16, 20000, 1e-3)):
        chances = [(k / outcomes) ** n - ((k - 1) / outcomes) ** n for k in range(1, outcomes + 1)]
        exact = sum(p * math.log(p * outcomes) for p in chances if p > 0)
        assert exact <= kl_of_best_of_n(n)
        assert exact == pytest.approx(kl_of_best_of_n(n), abs=closeness)


def test_decidable_prompts_and_hits() -> None:
    good = [[1, 1, 1], [0, 0, 0], [1, 0, 0], [0, 1, 1]]
    rewards = [[3.0, 2.0, 1.0], [1.0, 2.0, 3.0], [5.0, 1.0, 2.0], [4.0, 4.0, 1.0]]
    assert decidable(good).tolist() == [0, 0, 1, 1]
    hits = argmax_hits(rewards, good)
    # The third is hit; in the fourth the two best share the highest reward and one of them is good.
    assert hits.hit_D.tolist() == [1.0, 0.5]
    assert hits.chance_D == pytest.approx([1 / 3, 2 / 3])
    assert argmax_hits([[1.0, 2.0]], [[1, 1]]).hit_D.tolist() == []


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="between 1 and the 2 samples"):
        best_of_n([[0.0, 1.0]], 3)
    with pytest.raises(ValueError, match="must match"):
        best_of_n([[0.0, 1.0]], 1, [[0.0]])
    with pytest.raises(ValueError, match="not a finite number"):
        best_of_n([[0.0, math.nan]], 1)
    with pytest.raises(ValueError, match="must match"):
        argmax_hits([[0.0, 1.0]], [[1.0]])
    with pytest.raises(ValueError, match="n must be at least 1"):
        kl_of_best_of_n(0)
