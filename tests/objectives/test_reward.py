from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.oracles import reward as oracle
from tests.oracles.numeric import gradient
from torch import Tensor

from ridgeline.objectives import reward
from ridgeline.objectives.aggregate import aggregate

SCORE = st.floats(-6, 6)
NAN = math.nan


def value_and_gradient(loss: Callable[[Tensor], Tensor], point: list[float]) -> tuple[float, list[float]]:
    scores = torch.tensor(point, dtype=torch.float64, requires_grad=True)
    value = loss(scores).sum()
    (result,) = torch.autograd.grad(value, scores)
    return value.item(), result.tolist()


def test_golden_values() -> None:
    equal = torch.zeros(1)
    assert reward.bradley_terry(equal, equal).item() == pytest.approx(math.log(2.0))
    assert reward.bradley_terry(equal + 1, equal).item() == pytest.approx(0.313262, abs=1e-6)
    assert reward.bradley_terry(equal, equal + 1).item() == pytest.approx(1.313262, abs=1e-6)
    assert reward.bradley_terry(equal + 3, equal, margin=3.0).item() == pytest.approx(math.log(2.0))
    assert reward.plackett_luce(torch.zeros(1, 4)).item() == pytest.approx(math.log(24.0))
    assert reward.centering(torch.tensor([2.0]), torch.tensor([-0.5])).item() == 2.25


@settings(max_examples=50, deadline=None, derandomize=True)
@given(chosen=SCORE, rejected=SCORE, margin=st.floats(0, 3))
def test_bradley_terry_agrees_with_the_paper(chosen: float, rejected: float, margin: float) -> None:
    value, grad = value_and_gradient(
        lambda s: reward.bradley_terry(s[:1], s[1:], torch.tensor([margin])), [chosen, rejected]
    )
    assert value == pytest.approx(
        oracle.bradley_terry(chosen, rejected, float(torch.tensor(margin))), abs=1e-6
    )
    expected = gradient(lambda s: oracle.bradley_terry(s[0], s[1], margin), [chosen, rejected])
    assert grad == pytest.approx(expected, abs=1e-6)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(chosen=SCORE, rejected=SCORE, margin=st.floats(-2, 3), probability=st.floats(0, 1))
def test_soft_labels_agree_with_the_paper(
    chosen: float, rejected: float, margin: float, probability: float
) -> None:
    def loss(s: Tensor) -> Tensor:
        return reward.soft_bradley_terry(s[:1], s[1:], probability, margin)

    value, grad = value_and_gradient(loss, [chosen, rejected])
    assert value == pytest.approx(oracle.soft_bradley_terry(chosen, rejected, probability, margin), abs=1e-9)
    expected = gradient(
        lambda s: oracle.soft_bradley_terry(s[0], s[1], probability, margin), [chosen, rejected]
    )
    assert grad == pytest.approx(expected, abs=1e-6)


def test_soft_labels_between_a_sure_one_and_its_reverse() -> None:
    chosen, rejected = torch.randn(2, 5, dtype=torch.float64)
    torch.testing.assert_close(
        reward.soft_bradley_terry(chosen, rejected, 1.0, 0.3), reward.bradley_terry(chosen, rejected, 0.3)
    )
    torch.testing.assert_close(
        reward.soft_bradley_terry(chosen, rejected, torch.zeros(5)), reward.bradley_terry(rejected, chosen)
    )
    tie = reward.soft_bradley_terry(chosen, rejected, 0.5)
    torch.testing.assert_close(tie, reward.soft_bradley_terry(rejected, chosen, 0.5))
    assert (tie >= math.log(2)).all(), "equal scores are the best answer to a tie"
    # P(chosen) = 0.8 is best predicted by the log-odds of 0.8.
    gap = torch.tensor([math.log(4)], dtype=torch.float64, requires_grad=True)
    reward.soft_bradley_terry(gap, torch.zeros(1, dtype=torch.float64), 0.8).sum().backward()
    assert gap.grad is not None and gap.grad.item() == pytest.approx(0, abs=1e-12)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(items=st.lists(st.tuples(SCORE, st.integers(1, 3)), min_size=1, max_size=5))
def test_grouped_pairs_agree_with_the_paper(items: list[tuple[float, int]]) -> None:
    scores, ranks = [s for s, _ in items], [float(r) for _, r in items]
    value, grad = value_and_gradient(
        lambda s: reward.grouped_bradley_terry(s[None], torch.tensor([ranks])), scores
    )
    assert value == pytest.approx(oracle.grouped(scores, ranks), abs=1e-9)
    assert grad == pytest.approx(gradient(lambda s: oracle.grouped(s, ranks), scores), abs=1e-6)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(scores=st.lists(SCORE, min_size=1, max_size=5), padding=st.integers(0, 2))
def test_plackett_luce_agrees_with_the_paper(scores: list[float], padding: int) -> None:
    mask = torch.tensor([[1] * len(scores) + [0] * padding])
    value, grad = value_and_gradient(
        lambda s: reward.plackett_luce(torch.cat([s, torch.full((padding,), NAN)])[None], mask), scores
    )
    assert value == pytest.approx(oracle.plackett_luce(scores), abs=1e-9)
    assert grad == pytest.approx(gradient(oracle.plackett_luce, scores), abs=1e-6)


def test_rankings_of_two_are_bradley_terry() -> None:
    scores = torch.randn(6, 2, dtype=torch.float64)
    pairs = reward.bradley_terry(scores[:, 0], scores[:, 1])
    torch.testing.assert_close(reward.plackett_luce(scores), pairs)
    torch.testing.assert_close(reward.grouped_bradley_terry(scores), pairs)


def test_a_missing_completion_forms_no_pair() -> None:
    scores = torch.tensor([[1.0, 0.0, NAN], [NAN, NAN, NAN]], requires_grad=True)
    ranks = torch.tensor([[1.0, 2.0, NAN], [NAN, 1.0, NAN]])
    losses = reward.grouped_bradley_terry(scores, ranks)
    losses.sum().backward()
    assert losses.tolist() == pytest.approx([0.313262, 0.0], abs=1e-6)
    assert scores.grad is not None
    assert scores.grad[1].tolist() == [0.0] * 3
    assert scores.grad[0].tolist() == pytest.approx([-0.268941, 0.268941, 0.0], abs=1e-6)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(logits=st.lists(SCORE, min_size=1, max_size=5), label=st.sampled_from([0.0, 1.0, 0.3]))
def test_outcome_losses_agree_with_the_paper(logits: list[float], label: float) -> None:
    labels = torch.tensor([label], dtype=torch.float64)
    n = len(logits)
    value, grad = value_and_gradient(
        lambda s: aggregate(reward.outcome_bce(s[None], labels), torch.ones(1, n), "sequence"), logits
    )

    def per_token(s: list[float]) -> float:
        return sum(oracle.binary(x, label) for x in s) / n

    assert value == pytest.approx(per_token(logits), abs=1e-9)
    assert grad == pytest.approx(gradient(per_token, logits), abs=1e-6)
    mask = torch.tensor([[1] * n + [0]])
    pooled, pooled_grad = value_and_gradient(
        lambda s: reward.pooled_outcome_bce(torch.cat([s, torch.tensor([NAN])])[None], labels, mask), logits
    )
    assert pooled == pytest.approx(oracle.binary(sum(logits) / n, label), abs=1e-9)
    expected = gradient(lambda s: oracle.binary(sum(s) / n, label), logits)
    assert pooled_grad == pytest.approx(expected, abs=1e-6)


def test_process_losses_act_on_step_ends_only() -> None:
    logits = torch.tensor([[NAN, 0.7, -1.2]], requires_grad=True)
    losses = reward.process_bce(logits, torch.tensor([[-100, 1, 0]]))
    losses.sum().backward()
    assert losses.tolist()[0] == pytest.approx([0.0, oracle.binary(0.7, 1), oracle.binary(-1.2, 0)])
    assert logits.grad is not None
    assert logits.grad[0, 0].item() == 0
    three = torch.tensor([[[NAN] * 3, [0.1, 0.2, 0.9], [1.0, -1.0, 0.0]]], requires_grad=True)
    losses = reward.process_ce(three, torch.tensor([[-100, 1, -1]]))
    losses.sum().backward()
    expected = [0.0, oracle.three_way([0.1, 0.2, 0.9], 1), oracle.three_way([1.0, -1.0, 0.0], -1)]
    assert losses.tolist()[0] == pytest.approx(expected, abs=1e-6)
    assert three.grad is not None
    assert three.grad[0, 0].tolist() == [0.0] * 3


def test_refuses_labels_of_another_convention() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        reward.outcome_bce(torch.zeros(2, 3), torch.tensor([-1.0, 1.0]))
    with pytest.raises(ValueError, match="between 0 and 1"):
        reward.process_bce(torch.zeros(1, 2), torch.tensor([[-1, 1]]))
    with pytest.raises(ValueError, match="a tie"):
        reward.soft_bradley_terry(torch.zeros(2), torch.zeros(2), torch.tensor([0.5, 1.5]))
    with pytest.raises(ValueError, match="-1, 0 or"):
        reward.process_ce(torch.zeros(1, 1, 3), torch.tensor([[2]]))


def test_pooled_loss_of_an_empty_row_is_zero() -> None:
    logits = torch.full((1, 2), NAN, requires_grad=True)
    loss = reward.pooled_outcome_bce(logits, torch.tensor([1.0]), torch.zeros(1, 2))
    loss.sum().backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert logits.grad.tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("score", [-1e4, 0.0, 1e4])
def test_extreme_scores_stay_finite(score: float) -> None:
    s = torch.tensor([score, -score, 0.0], requires_grad=True)
    losses = [
        reward.bradley_terry(s[:1], s[1:2]),
        reward.soft_bradley_terry(s[:1], s[1:2], 0.9, 2.0),
        reward.grouped_bradley_terry(s[None]),
        reward.plackett_luce(s[None]),
        reward.outcome_bce(s[None], torch.ones(1)),
        reward.pooled_outcome_bce(s[None], torch.zeros(1), torch.ones(1, 3)),
        reward.process_ce(s[None, None], torch.tensor([[1]])),
        reward.centering(s[:1], s[1:2]),
    ]
    total = sum((x.sum() for x in losses), torch.zeros(()))
    total.backward()
    assert s.grad is not None
    assert torch.isfinite(total)
    assert torch.isfinite(s.grad).all()


def test_gradients_in_float64() -> None:
    s = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    labels, mask = torch.tensor([0.0, 1.0]), torch.tensor([[1, 1, 0], [1, 1, 1]])
    steps = torch.tensor([[-100, 1, 0], [0, -100, 1]])
    for loss in (
        lambda x: reward.bradley_terry(x[0], x[1], 0.5),
        lambda x: reward.soft_bradley_terry(x[0], x[1], torch.tensor([0.2, 0.5, 1.0]), 0.5),
        reward.grouped_bradley_terry,
        reward.plackett_luce,
        lambda x: reward.outcome_bce(x, labels),
        lambda x: reward.pooled_outcome_bce(x, labels, mask),
        lambda x: reward.process_bce(x, steps),
        lambda x: reward.process_ce(x[None], torch.tensor([[-1, 1]])),
        lambda x: reward.centering(x[0], x[1]),
    ):
        assert torch.autograd.gradcheck(loss, (s,))
