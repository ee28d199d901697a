from __future__ import annotations

import math

import pytest
import torch

from ridgeline.objectives.logprobs import entropy, token_logprobs


def test_matches_log_of_the_softmax() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)], [math.log(4.0), 0.0]])
    assert token_logprobs(logits, torch.tensor([1, 1])).exp().tolist() == pytest.approx([0.75, 0.2])


def test_temperature_divides_the_logits() -> None:
    logits = torch.tensor([[0.0, 2 * math.log(3.0)]])
    assert token_logprobs(logits, torch.tensor([1]), temperature=2.0).exp().item() == pytest.approx(0.75)


def test_bfloat16_logits_are_upcast_before_the_softmax() -> None:
    logits = torch.randn(5, 300, generator=torch.Generator().manual_seed(1)).bfloat16()
    ids = torch.arange(5)
    result = token_logprobs(logits, ids, temperature=0.7)
    exact = token_logprobs(logits.double(), ids, temperature=0.7)
    assert result.dtype == torch.float32
    assert exact.dtype == torch.float64
    torch.testing.assert_close(result.double(), exact, rtol=1e-6, atol=1e-6)


def test_large_logits_keep_their_precision() -> None:
    logits = torch.tensor([[1e4, 1e4 - 0.5]])
    assert token_logprobs(logits, torch.tensor([1])).item() == pytest.approx(
        -0.5 - math.log1p(math.exp(-0.5))
    )


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.inf, math.nan])
def test_refuses_a_temperature_that_is_not_positive(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature"):
        token_logprobs(torch.zeros(1, 2), torch.tensor([0]), temperature)


def test_refuses_ids_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"shape \[2, 3\], got \[2, 4\]"):
        token_logprobs(torch.zeros(2, 3, 5), torch.zeros(2, 4, dtype=torch.long))


def test_entropy_of_known_distributions() -> None:
    logits = torch.tensor(
        [[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, -math.inf, -math.inf], [0.0, -math.inf, -1e4, -1e4]]
    )
    assert entropy(logits).tolist() == pytest.approx([math.log(4), math.log(2), 0.0])


def test_entropy_gradient_is_finite_with_excluded_tokens_and_right_elsewhere() -> None:
    logits = torch.tensor([0.3, -0.7, 1.1], dtype=torch.float64)
    full = torch.cat([logits, torch.tensor([-math.inf], dtype=torch.float64)]).requires_grad_()
    entropy(full).backward()
    p = torch.softmax(logits, -1)
    expected = -p * (p.log() - (p * p.log()).sum())
    assert full.grad is not None
    torch.testing.assert_close(full.grad[:3], expected)
    assert full.grad[3].item() == 0


def test_gradients_in_float64() -> None:
    logits = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    ids = torch.tensor([[0, 1, 2], [3, 0, 1]])
    assert torch.autograd.gradcheck(lambda x: token_logprobs(x, ids, 0.8), (logits,))
    assert torch.autograd.gradcheck(entropy, (logits,))
