from __future__ import annotations

import math

import pytest
import torch

from ridgeline.objectives.supervised import dft, nll, weighted_nll


def test_nll_of_a_known_probability() -> None:
    assert nll(torch.log(torch.tensor([0.25]))).item() == pytest.approx(math.log(4.0))


def test_dft_on_two_equal_tokens_is_half_the_nll() -> None:
    logp = torch.log(torch.tensor([0.5, 0.5], dtype=torch.float64))
    torch.testing.assert_close(dft(logp), nll(logp) / 2)


def test_dft_holds_its_weight_constant() -> None:
    logp = torch.log(torch.tensor([0.5, 0.1], dtype=torch.float64)).requires_grad_()
    dft(logp).sum().backward()
    assert logp.grad is not None
    assert logp.grad.tolist() == pytest.approx([-0.5, -0.1])


def test_weights_scale_and_receive_no_gradient() -> None:
    logp = torch.tensor([[-1.0, -2.0], [-3.0, -4.0]], requires_grad=True)
    weights = torch.tensor([[2.0], [-1.0]], requires_grad=True)
    losses = weighted_nll(logp, weights)
    losses.sum().backward()
    assert losses.tolist() == [[2.0, 4.0], [-3.0, -4.0]]
    assert logp.grad is not None
    assert logp.grad.tolist() == [[-2.0, -2.0], [1.0, 1.0]]
    assert weights.grad is None


@pytest.mark.parametrize("loss", [nll, dft])
def test_extreme_log_probs_stay_finite(loss: object) -> None:
    assert callable(loss)
    logp = torch.tensor([-1e4, 0.0], requires_grad=True)
    value = loss(logp)
    value.sum().backward()
    assert logp.grad is not None
    assert torch.isfinite(value).all()
    assert torch.isfinite(logp.grad).all()


def test_gradients_in_float64() -> None:
    logp = -torch.rand(2, 3, dtype=torch.float64)
    logp.requires_grad_()
    weights = torch.randn(2, 3, dtype=torch.float64)
    assert torch.autograd.gradcheck(nll, (logp,))
    assert torch.autograd.gradcheck(lambda x: weighted_nll(x, weights), (logp,))
