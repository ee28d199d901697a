from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.oracles import ensembles as oracle
from tests.oracles.numeric import gradient

from ridgeline.objectives.ensembles import combine, spread

HOWS = ("mean", "min", "mean_minus_spread")
SCORE = st.floats(-5, 5)


def test_golden_values() -> None:
    """Members 1, 2, 6: mean 3, squared deviations 4, 1, 9, so the spread is sqrt(14 / 3)."""
    scores = torch.tensor([1.0, 2.0, 6.0])
    assert spread(scores).item() == pytest.approx(2.160247, abs=1e-6)
    assert combine(scores, "mean").item() == 3.0
    assert combine(scores, "min").item() == 1.0
    assert combine(scores, "mean_minus_spread", 0.5).item() == pytest.approx(1.919877, abs=1e-6)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(scores=st.lists(SCORE, min_size=1, max_size=5), how=st.sampled_from(HOWS), weight=st.floats(0, 2))
def test_agrees_with_the_paper(scores: list[float], how: str, weight: float) -> None:
    value = combine(torch.tensor(scores, dtype=torch.float64), how, weight).item()
    assert value == pytest.approx(oracle.combine(scores, how, weight), abs=1e-9)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(scores=st.lists(st.integers(-40, 40), min_size=2, max_size=5, unique=True), how=st.sampled_from(HOWS))
def test_gradient_agrees_with_the_paper(scores: list[int], how: str) -> None:
    point = [s / 8 for s in scores]
    x = torch.tensor(point, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(combine(x, how, 0.7), x)
    expected = gradient(lambda s: oracle.combine(s, how, 0.7), point)
    assert grad.tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("how", HOWS)
def test_members_that_agree_are_their_score(how: str) -> None:
    scores = torch.full((2, 4), 1.5, requires_grad=True)
    combined = combine(scores, how, 3.0)
    combined.sum().backward()
    assert combined.tolist() == [1.5, 1.5]
    assert scores.grad is not None and scores.grad.sum(-1).tolist() == pytest.approx([1.0, 1.0])
    assert combine(torch.tensor([[2.5]]), how).item() == 2.5


@settings(max_examples=40, deadline=None, derandomize=True)
@given(scores=st.lists(SCORE, min_size=1, max_size=5), shift=SCORE, scale=st.floats(0.1, 4))
def test_order_of_the_three_and_how_they_move(scores: list[float], shift: float, scale: float) -> None:
    """Doubt never raises a score; a common shift or scale moves the result as it moves the members."""
    x = torch.tensor(scores, dtype=torch.float64)
    for how in HOWS:
        value = combine(x, how).item()
        assert value <= combine(x, "mean").item() + 1e-12
        assert combine(scale * x + shift, how).item() == pytest.approx(scale * value + shift, abs=1e-9)
    # The largest distance from the mean is at most sqrt(K - 1) deviations (Samuelson 1968).
    bound = max(1.0, (len(scores) - 1) ** 0.5)
    assert combine(x, "mean_minus_spread", bound).item() <= combine(x, "min").item() + 1e-9


@pytest.mark.parametrize("score", [-1e4, 1e4])
def test_extreme_scores_stay_finite(score: float) -> None:
    scores = torch.tensor([[score, -score], [score, score]], requires_grad=True)
    for how in HOWS:
        (grad,) = torch.autograd.grad(combine(scores, how).sum(), scores)
        assert torch.isfinite(grad).all()


def test_gradients_in_float64() -> None:
    scores = torch.tensor([[0.3, -1.0, 2.0], [4.0, 1.0, 0.5]], dtype=torch.float64, requires_grad=True)
    for how in HOWS:
        assert torch.autograd.gradcheck(lambda x, how=how: combine(x, how, 0.4), (scores,))
    assert torch.autograd.gradcheck(spread, (scores,))


def test_refuses_nonsense() -> None:
    with pytest.raises(ValueError, match="unknown combination 'median'"):
        combine(torch.zeros(2), "median")
    with pytest.raises(ValueError, match="would reward doubt"):
        combine(torch.zeros(2), "mean_minus_spread", -1.0)
    with pytest.raises(ValueError, match="at least one member"):
        combine(torch.zeros(3, 0), "min")
