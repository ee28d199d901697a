from __future__ import annotations

import math

import pytest
import torch

from ridgeline.objectives import ratios


def test_token_ratio_value_and_gradient() -> None:
    logp = torch.log(torch.tensor([0.6, 0.1], dtype=torch.float64)).requires_grad_()
    old = torch.log(torch.tensor([0.3, 0.4], dtype=torch.float64)).requires_grad_()
    ratio = ratios.token_ratio(logp, old)
    ratio.sum().backward()
    assert ratio.tolist() == pytest.approx([2.0, 0.25])
    assert logp.grad is not None
    assert logp.grad.tolist() == pytest.approx([2.0, 0.25])
    assert old.grad is None


def test_sequence_ratio_is_the_geometric_mean_over_valid_tokens() -> None:
    old = torch.zeros(3, 3)
    logp = torch.log(torch.tensor([[2.0, 8.0, 1e9], [0.5, 1e-9, 1e-9], [3.0, 3.0, 3.0]]))
    mask = torch.tensor([[1, 1, 0], [1, 0, 0], [0, 0, 0]])
    ratio = ratios.sequence_ratio(logp, old, mask)
    assert ratio.shape == (3, 1)
    assert ratio.flatten().tolist() == pytest.approx([4.0, 0.5, 1.0])


def test_product_ratio_runs_over_valid_tokens() -> None:
    logp = torch.log(torch.tensor([[2.0, 8.0, 1e9], [3.0, 3.0, 3.0]]))
    ratio = ratios.product_ratio(logp, torch.zeros(2, 3), torch.tensor([[1, 1, 0], [0, 0, 0]]))
    assert ratio.flatten().tolist() == pytest.approx([16.0, 1.0])


def test_sequence_token_ratio_has_the_value_of_the_sequence_and_the_gradient_of_the_token() -> None:
    logp = torch.log(torch.tensor([[2.0, 8.0]])).requires_grad_()
    ratio = ratios.sequence_token_ratio(logp, torch.zeros(1, 2), torch.ones(1, 2))
    assert ratio.tolist()[0] == pytest.approx([4.0, 4.0])
    (grad,) = torch.autograd.grad(ratio[0, 0], logp)
    assert grad[0].tolist() == pytest.approx([4.0, 0.0])


def test_weights_of_whole_sequences() -> None:
    learner = torch.log(torch.tensor([[2.0, 8.0, 1e9], [0.5, 0.5, 1e9]]))
    mask, zeros = torch.tensor([[1, 1, 0], [1, 1, 0]]), torch.zeros(2, 3)
    for level, expected in (("sequence", [4.0, 0.5]), ("product", [16.0, 0.25])):
        weight = ratios.truncated_importance_weight(learner, zeros, 100.0, level=level, mask=mask)
        assert weight.flatten().tolist() == pytest.approx(expected)
        capped = ratios.truncated_importance_weight(learner, zeros, 3.0, level=level, mask=mask)
        assert capped.flatten().tolist() == pytest.approx([3.0, expected[1]])
        kept = ratios.masked_importance_weight(learner, zeros, 0.4, 5.0, level=level, mask=mask)
        inside = [w if 0.4 <= w <= 5 else 0.0 for w in expected]
        assert kept.flatten().tolist() == pytest.approx(inside)
    with pytest.raises(ValueError, match="needs their mask"):
        ratios.truncated_importance_weight(learner, zeros, level="product")


def test_truncated_weight_caps_above_only_and_is_constant() -> None:
    learner = torch.log(torch.tensor([3.0, 1.5, 1e-3])).requires_grad_()
    weight = ratios.truncated_importance_weight(learner, torch.zeros(3))
    assert weight.tolist() == pytest.approx([2.0, 1.5, 1e-3])
    assert not weight.requires_grad
    capped = ratios.truncated_importance_weight(learner, torch.zeros(3), cap=1.0)
    assert capped.tolist() == pytest.approx([1.0, 1.0, 1e-3])


def test_masked_weight_drops_what_leaves_the_interval() -> None:
    learner = torch.log(torch.tensor([3.0, 1.5, 0.6, 0.4])).requires_grad_()
    weight = ratios.masked_importance_weight(learner, torch.zeros(4), low=0.5, high=2.0)
    assert weight.tolist() == pytest.approx([0.0, 1.5, 0.6, 0.0])
    assert not weight.requires_grad


@pytest.mark.parametrize("gap", [-1e4, 1e4])
def test_extreme_gaps_stay_finite(gap: float) -> None:
    logp = torch.full((1, 2), gap, requires_grad=True)
    zeros, mask = torch.zeros(1, 2), torch.ones(1, 2)
    (ratios.token_ratio(logp, zeros).sum() + ratios.sequence_ratio(logp, zeros, mask).sum()).backward()
    assert logp.grad is not None
    assert torch.isfinite(logp.grad).all()
    assert ratios.token_ratio(logp, zeros)[0, 0].item() == pytest.approx(math.exp(math.copysign(20, gap)))
    assert ratios.truncated_importance_weight(logp, zeros, cap=1e9)[0, 0].item() == pytest.approx(
        math.exp(math.copysign(10, gap))
    )


def test_refuses_bounds_that_cannot_hold() -> None:
    zeros = torch.zeros(1)
    with pytest.raises(ValueError, match="cap"):
        ratios.truncated_importance_weight(zeros, zeros, cap=0.0)
    with pytest.raises(ValueError, match="low"):
        ratios.masked_importance_weight(zeros, zeros, low=2.0, high=1.0)


def test_gradients_in_float64() -> None:
    logp, old = torch.randn(2, 2, 3, dtype=torch.float64)
    logp.requires_grad_()
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    assert torch.autograd.gradcheck(lambda x: ratios.token_ratio(x, old), (logp,))
    assert torch.autograd.gradcheck(lambda x: ratios.sequence_ratio(x, old, mask), (logp,))
