from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.oracles import kl as oracle
from tests.oracles.numeric import gradient

from ridgeline.objectives import kl
from ridgeline.objectives.policy import PRESETS, PolicyObjective, policy_loss, total_loss
from ridgeline.objectives.shaping import sequence_rewards

LOGITS = [0.7, -0.4, 1.3, 0.1]
REFERENCE = [-0.2, 0.5, 0.9, -1.0]
P, Q = oracle.softmax(LOGITS), oracle.softmax(REFERENCE)
Estimator = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def tensors() -> tuple[torch.Tensor, torch.Tensor]:
    logits = torch.tensor(LOGITS, dtype=torch.float64, requires_grad=True)
    ref_logp = torch.log_softmax(torch.tensor(REFERENCE, dtype=torch.float64), -1)
    return logits, ref_logp


def expected_value(estimator: Estimator) -> float:
    logits, ref_logp = tensors()
    logp = torch.log_softmax(logits, -1)
    return (logp.exp() * estimator(logp, ref_logp)).sum().item()


def expected_loss_gradient(estimator: Estimator) -> list[float]:
    """Sum over tokens of p(token) times the gradient that the estimator gives when that token was sampled."""
    total = torch.zeros(4, dtype=torch.float64)
    for token in range(4):
        logits, ref_logp = tensors()
        logp = torch.log_softmax(logits, -1)
        estimator(logp[token], ref_logp[token]).backward()
        assert logits.grad is not None
        total += P[token] * logits.grad
    return [float(x) for x in total]


def test_enumeration_oracle_agrees_with_central_differences() -> None:
    reverse = gradient(lambda x: oracle.divergence(oracle.softmax(x), Q), LOGITS)
    forward = gradient(lambda x: oracle.divergence(Q, oracle.softmax(x)), LOGITS)
    assert oracle.reverse_gradient(P, Q) == pytest.approx(reverse, abs=1e-9)
    assert oracle.forward_gradient(P, Q) == pytest.approx(forward, abs=1e-9)


def test_values_by_hand() -> None:
    logp, ref_logp = torch.tensor([-1.0, -1.0]), torch.tensor([-0.9, -1.1])
    assert kl.k1(logp, ref_logp).tolist() == pytest.approx([-0.1, 0.1], abs=1e-6)
    assert kl.k2(logp, ref_logp).tolist() == pytest.approx([0.005, 0.005], abs=1e-6)
    assert kl.k3(logp, ref_logp).tolist() == pytest.approx([0.005171, 0.004837], abs=1e-6)


def test_expected_values_against_enumeration() -> None:
    exact = oracle.divergence(P, Q)
    assert expected_value(kl.k1) == pytest.approx(exact, abs=1e-12)
    assert expected_value(kl.k3) == pytest.approx(exact, abs=1e-12)
    half_square = sum(p * math.log(p / q) ** 2 / 2 for p, q in zip(P, Q, strict=True))
    assert expected_value(kl.k2) == pytest.approx(half_square, abs=1e-12)
    assert abs(half_square - exact) > 1e-3


def test_k1_in_the_loss_has_no_expected_gradient() -> None:
    assert expected_loss_gradient(kl.k1) == pytest.approx([0.0] * 4, abs=1e-12)


def test_k2_in_the_loss_follows_the_reverse_kl() -> None:
    assert expected_loss_gradient(kl.k2) == pytest.approx(oracle.reverse_gradient(P, Q), abs=1e-12)


def test_k3_in_the_loss_follows_the_forward_kl() -> None:
    assert expected_loss_gradient(kl.k3) == pytest.approx(oracle.forward_gradient(P, Q), abs=1e-12)


@pytest.mark.parametrize("name", ["k1", "k3"])
@pytest.mark.parametrize("off_policy", [False, True])
def test_times_the_live_ratio_every_unbiased_estimator_follows_the_reverse_kl(
    name: Any, off_policy: bool
) -> None:
    """`kl_corrected`, over tokens drawn from the old policy: value and gradient are exact."""
    objective = PolicyObjective(
        advantage="group_centred",
        ratio="token",
        aggregation="token",
        kl_coefficient=1.0,
        kl_estimator=name,
        kl_corrected=True,
    )
    logits, ref_logp = tensors()
    logp = torch.log_softmax(logits, -1)
    old = torch.log_softmax(torch.tensor([0.1, 0.2, -0.5, 0.3], dtype=torch.float64), -1)
    old = old if off_policy else logp.detach()
    ones = torch.ones(4, 1)
    columns = [x.unsqueeze(-1) for x in (logp, old, ref_logp)]
    terms = policy_loss(*columns[:2], torch.zeros(4), ones, objective, ref_logp=columns[2])
    assert terms.kl_BT is not None
    expected = (old.exp() * terms.kl_BT[:, 0]).sum()
    (grad,) = torch.autograd.grad(expected, logits)
    assert expected.item() == pytest.approx(oracle.divergence(P, Q), abs=1e-12)
    assert grad.tolist() == pytest.approx(oracle.reverse_gradient(P, Q), abs=1e-12)


def test_k1_in_the_reward_follows_the_reverse_kl() -> None:
    """Through the library's own path (shaped reward, REINFORCE, aggregation), over all pairs of tokens."""
    generator = torch.Generator().manual_seed(3)
    table = torch.randn(4, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    reference = torch.log_softmax(torch.randn(4, 3, generator=generator, dtype=torch.float64), -1)
    first, second = (x.flatten() for x in torch.meshgrid(torch.arange(3), torch.arange(3), indexing="ij"))
    logp = torch.log_softmax(table, -1)
    logp_BT = torch.stack([logp[0, first], logp[1 + first, second]], -1)
    ref_BT = torch.stack([reference[0, first], reference[1 + first, second]], -1)
    mask, scores = torch.ones(9, 2), torch.zeros(9, dtype=torch.float64)
    probability_B = logp_BT.sum(-1).exp()
    (expected,) = torch.autograd.grad(
        0.3 * (probability_B * (logp_BT - ref_BT).sum(-1)).sum(), table, retain_graph=True
    )
    shaped_B = sequence_rewards(scores, kl.k1(logp_BT, ref_BT), mask, 0.3)
    # Advantages weighted by probability turn the sum over sequences into the expectation.
    advantages_B = shaped_B * probability_B
    terms = policy_loss(logp_BT, logp_BT, advantages_B, mask, PRESETS["reinforce"], sampler_logp=logp_BT)
    (actual,) = torch.autograd.grad(total_loss(terms, mask, PRESETS["reinforce"], count=1), table)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)


def test_exact_kl_value_and_gradient() -> None:
    logits, ref_logp = tensors()
    result = kl.exact_kl(logits, ref_logp + 5.0)
    result.backward()
    assert result.item() == pytest.approx(oracle.divergence(P, Q), abs=1e-12)
    assert logits.grad is not None
    assert logits.grad.tolist() == pytest.approx(oracle.reverse_gradient(P, Q), abs=1e-12)


def test_exact_kl_with_excluded_tokens() -> None:
    logits = torch.tensor([0.0, 0.0, -math.inf], requires_grad=True)
    result = kl.exact_kl(logits, torch.tensor([0.0, math.log(3.0), -math.inf]))
    result.backward()
    assert result.item() == pytest.approx(0.5 * math.log(2.0) + 0.5 * math.log(2.0 / 3.0))
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert kl.exact_kl(torch.zeros(2), torch.tensor([0.0, -math.inf])).item() == math.inf


def test_k3_near_zero_keeps_its_digits() -> None:
    difference = torch.tensor([1e-3, -1e-3, 1e-2, -1e-2, 0.0])
    expected = [d * d / 2 - d**3 / 6 + d**4 / 24 for d in difference.double().tolist()]
    actual = kl.k3(difference, torch.zeros(5)).tolist()
    assert actual == pytest.approx(expected, rel=1e-3)
    assert kl.k3(difference.double(), torch.zeros(5).double()).tolist() == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("name", ["k1", "k2", "k3"])
@pytest.mark.parametrize("difference", [-1e4, -100.0, 0.0, 100.0, 1e4])
def test_extreme_differences_stay_finite(name: str, difference: float) -> None:
    logp = torch.tensor([difference], requires_grad=True)
    value = kl.ESTIMATORS[name](logp, torch.zeros(1))
    value.sum().backward()
    assert logp.grad is not None
    assert torch.isfinite(value).all()
    assert torch.isfinite(logp.grad).all()
    if name != "k1":
        assert value.item() >= 0


@pytest.mark.parametrize("name", ["k1", "k2", "k3"])
def test_gradients_in_float64(name: str) -> None:
    logp = torch.tensor([-1.0, -0.2, -3.0], dtype=torch.float64, requires_grad=True)
    ref = torch.tensor([-1.5, -0.1, -0.5], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(kl.ESTIMATORS[name], (logp, ref))


def test_exact_kl_gradient_in_float64() -> None:
    logits = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    other = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(kl.exact_kl, (logits, other))


def test_adaptive_coefficient_follows_ziegler() -> None:
    coefficient = kl.AdaptiveCoefficient(0.2, target=6.0)
    assert coefficient.update(6.0) == 0.2
    assert coefficient.update(6.6) == pytest.approx(0.2 * 1.01)
    assert coefficient.update(60.0) == pytest.approx(0.2 * 1.01 * 1.02)
    assert coefficient.update(0.0) == pytest.approx(0.2 * 1.01 * 1.02 * 0.98)


def test_adaptive_coefficient_resumes_exactly() -> None:
    one = kl.AdaptiveCoefficient(0.2, target=6.0, gain=0.3)
    one.update(7.3)
    other = kl.AdaptiveCoefficient(1.0, target=1.0)
    other.load_state_dict(one.state_dict())
    assert [one.update(x) for x in (5.0, 8.0)] == [other.update(x) for x in (5.0, 8.0)]


def test_adaptive_coefficient_refuses_nonsense() -> None:
    with pytest.raises(ValueError, match="target"):
        kl.AdaptiveCoefficient(0.1, target=0.0)
    coefficient = kl.AdaptiveCoefficient(0.1, target=1.0)
    with pytest.raises(ValueError, match="measured KL is nan"):
        coefficient.update(math.nan)
    assert coefficient.value == 0.1
