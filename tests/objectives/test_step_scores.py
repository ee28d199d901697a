from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.oracles import step_scores as oracle
from tests.oracles.numeric import gradient

from ridgeline.objectives.step_scores import aggregate_scores, not_bad_logit
from ridgeline.schema.reward_kinds import ScoreAggregate

HOWS = get_args(ScoreAggregate)
NAN = math.nan


def m_of(how: str) -> int | None:
    return 2 if how == "mean_last_m" else None


def one(logits: torch.Tensor, how: str) -> torch.Tensor:
    """The score of one completion with a padded position behind it that holds nan."""
    row = torch.cat([logits, torch.full((1,), NAN, dtype=logits.dtype)])[None]
    mask = torch.tensor([[1] * len(logits) + [0]])
    return aggregate_scores(row, mask, how, m_of(how))[0]


def test_golden_values() -> None:
    """Logits 0, log 3, -log 3: probabilities 0.5, 0.75, 0.25."""
    logits = torch.tensor([0.0, math.log(3), -math.log(3)], dtype=torch.float64)
    expected = {
        "last": 0.25,
        "mean": 0.5,
        "min": 0.25,
        "product": 0.09375,
        "mean_last_m": 0.5,
        "late": (0.5 + 1.5 + 0.75) / 6,
        "pooled": 0.5,
    }
    assert {how: one(logits, how).item() for how in HOWS} == pytest.approx(expected)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(logits=st.lists(st.integers(-48, 48), min_size=1, max_size=6, unique=True), how=st.sampled_from(HOWS))
def test_agrees_with_the_oracle(logits: list[int], how: str) -> None:
    point = [x / 8 for x in logits]
    x = torch.tensor(point, dtype=torch.float64, requires_grad=True)
    value = one(x, how)
    (grad,) = torch.autograd.grad(value, x)
    assert value.item() == pytest.approx(oracle.aggregate(point, how, m_of(how)), abs=1e-9)
    expected = gradient(lambda s: oracle.aggregate(s, how, m_of(how)), point)
    assert grad.tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("how", HOWS)
def test_every_position_may_only_raise_the_score(how: str) -> None:
    logits = torch.randn(1, 5, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(aggregate_scores(logits, torch.ones(1, 5), how, m_of(how)).sum(), logits)
    assert (grad >= 0).all() and grad.sum() > 0


@pytest.mark.parametrize("how", HOWS)
def test_one_step_is_its_probability(how: str) -> None:
    assert one(torch.tensor([0.7]), how).item() == pytest.approx(1 / (1 + math.exp(-0.7)))


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("logit", [-1e4, 1e4])
def test_extremes_and_empty_rows_stay_finite(how: str, logit: float) -> None:
    logits = torch.tensor([[logit, -logit, NAN], [NAN] * 3], requires_grad=True)
    scores = aggregate_scores(logits, torch.tensor([[1, 1, 0], [0, 0, 0]]), how, m_of(how))
    (grad,) = torch.autograd.grad(scores.sum(), logits)
    assert torch.isfinite(grad).all()
    assert 0 <= scores[0] <= 1 and scores[1] == 0
    assert aggregate_scores(torch.zeros(2, 0), torch.zeros(2, 0), how, m_of(how)).tolist() == [0, 0]


@pytest.mark.parametrize("how", HOWS)
def test_gradients_in_float64(how: str) -> None:
    logits = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])
    assert torch.autograd.gradcheck(lambda x: aggregate_scores(x, mask, how, m_of(how)), (logits,))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(logits=st.lists(st.floats(-6, 6), min_size=3, max_size=3))
def test_a_neutral_step_is_not_bad(logits: list[float]) -> None:
    x = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
    probability = torch.sigmoid(not_bad_logit(x))
    assert probability.item() == pytest.approx(oracle.not_bad(logits), abs=1e-9)
    (grad,) = torch.autograd.grad(probability, x)
    assert grad.tolist() == pytest.approx(gradient(oracle.not_bad, logits), abs=1e-6)


def test_not_bad_extremes_and_gradcheck() -> None:
    x = torch.tensor([[1e4, -1e4, -1e4], [-1e4, 1e4, 1e4]], requires_grad=True)
    value = not_bad_logit(x)
    (grad,) = torch.autograd.grad(value.sum(), x)
    assert torch.isfinite(value).all() and torch.isfinite(grad).all()
    assert torch.autograd.gradcheck(
        not_bad_logit, (torch.randn(2, 3, dtype=torch.float64, requires_grad=True),)
    )


def test_refuses_nonsense() -> None:
    ones = torch.ones(1, 2)
    with pytest.raises(ValueError, match="unknown aggregation 'max'"):
        aggregate_scores(ones, ones, "max")
    with pytest.raises(ValueError, match="must both be"):
        aggregate_scores(ones, torch.ones(1, 3), "mean")
    with pytest.raises(ValueError, match="last_m of at least 1, got None"):
        aggregate_scores(ones, ones, "mean_last_m")
    with pytest.raises(ValueError, match="does nothing with aggregation 'min'"):
        aggregate_scores(ones, ones, "min", 3)
