from __future__ import annotations

import math

import pytest
import torch

from ridgeline.objectives.shaping import overlong_penalty, sequence_rewards, token_rewards

KL = torch.tensor([[0.5, 1.0, math.nan], [2.0, math.nan, 4.0], [math.nan] * 3])
MASK = torch.tensor([[1, 1, 0], [1, 0, 1], [0, 0, 0]])
SCORES = torch.tensor([10.0, 20.0, 30.0])


def test_sequence_reward_subtracts_the_summed_kl() -> None:
    assert sequence_rewards(SCORES, KL, MASK, 0.5).tolist() == [9.25, 17.0, 30.0]


def test_token_reward_puts_the_score_on_the_last_valid_token() -> None:
    expected = [[-0.25, 9.5, 0.0], [-1.0, 0.0, 18.0], [0.0, 0.0, 0.0]]
    assert token_rewards(SCORES, KL, MASK, 0.5).tolist() == expected


def test_both_forms_pay_the_same_in_total() -> None:
    per_token = token_rewards(SCORES[:2], KL[:2], MASK[:2], 0.3).sum(-1)
    torch.testing.assert_close(per_token, sequence_rewards(SCORES[:2], KL[:2], MASK[:2], 0.3))


def test_rewards_are_constants_and_a_missing_score_stays_missing() -> None:
    kl = torch.zeros(1, 2, requires_grad=True)
    missing = torch.tensor([math.nan], requires_grad=True)
    assert not sequence_rewards(missing, kl, torch.ones(1, 2), 0.1).requires_grad
    assert not token_rewards(missing, kl, torch.ones(1, 2), 0.1).requires_grad
    assert sequence_rewards(missing, kl, torch.ones(1, 2), 0.1).isnan().all()


def test_published_overlong_penalty() -> None:
    """Limit 100, buffer 20: 50 -> 0, 90 -> -0.5, 110 -> -1; continuous at both ends of the buffer."""
    lengths = torch.tensor([50.0, 80.0, 90.0, 100.0, 110.0])
    assert overlong_penalty(lengths, 100, 20).tolist() == [0.0, 0.0, -0.5, -1.0, -1.0]
    for buffer in (0, 101):
        with pytest.raises(ValueError, match=f"buffer = {buffer}"):
            overlong_penalty(lengths, 100, buffer)
