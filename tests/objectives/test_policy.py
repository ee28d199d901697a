from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.oracles import policy as oracle
from tests.oracles.numeric import gradient

from ridgeline.objectives.advantages import REWARD_ADVANTAGES, group_zscore, leave_one_out
from ridgeline.objectives.policy import PRESETS, PolicyObjective, policy_loss, total_loss, value_loss

ALONE: dict[str, Any] = {"kl_coefficient": 0.0, "importance": "none"}
ALONE |= {"importance_low": None, "importance_high": None}
CLIPPED = ("ppo", "grpo", "dapo", "gspo", "cispo", "dr_grpo", "reinforce", "rloo")
FREE = {name: replace(PRESETS[name], **ALONE) for name in CLIPPED}
FREE["dr_grpo"] = replace(FREE["dr_grpo"], length=4)
LOGP = torch.tensor([[-0.5, -1.2, -0.1], [-2.0, math.nan, math.nan]], dtype=torch.float64)
LOG_RATIO = torch.tensor([[0.3, -0.1, 0.0], [-0.4, math.nan, math.nan]], dtype=torch.float64)
MASK = torch.tensor([[1, 1, 1], [1, 0, 0]])


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        (FREE["grpo"], -0.083054),
        (replace(FREE["grpo"], aggregation="token"), -0.407384),
        (FREE["dr_grpo"], -0.203692),
        (replace(FREE["gspo"], clip_low=0.2, clip_high=0.2), -0.095071),
        (FREE["cispo"], 0.091928),
    ],
)
def test_published_fixture(objective: PolicyObjective, expected: float) -> None:
    """Rewards 1 and 0; the peers' fixture uses the z-score for every loss type, so this does as well."""
    advantages = group_zscore(torch.tensor([[1.0, 0.0]], dtype=torch.float64)).flatten()
    logp = LOGP.clone().requires_grad_()
    terms = policy_loss(logp, LOGP - LOG_RATIO, advantages, MASK, objective)
    loss = total_loss(terms, MASK, objective)
    loss.backward()
    # The peers aggregate CISPO per token, as this preset does.
    assert loss.item() == pytest.approx(expected, abs=1e-6)
    assert logp.grad is not None
    assert torch.isfinite(logp.grad).all()
    assert logp.grad[1, 1:].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("advantage", "ratio", "slope", "clipped", "outside"),
    [
        (1.0, 0.5, -0.5, False, True),
        (1.0, 1.1, -1.1, False, False),
        (1.0, 1.5, 0.0, True, True),
        (-1.0, 0.5, 0.0, True, True),
        (-1.0, 0.9, 0.9, False, False),
        (-1.0, 5.0, 5.0, False, True),
        (0.0, 5.0, 0.0, False, True),
    ],
)
def test_regions_of_the_clipped_objective(
    advantage: float, ratio: float, slope: float, clipped: bool, outside: bool
) -> None:
    logp = torch.tensor([[math.log(ratio)]], dtype=torch.float64, requires_grad=True)
    old, mask = torch.zeros(1, 1, dtype=torch.float64), torch.ones(1, 1)
    terms = policy_loss(logp, old, torch.tensor([advantage]), mask, FREE["grpo"])
    terms.loss_BT.sum().backward()
    assert logp.grad is not None
    assert logp.grad.item() == pytest.approx(slope)
    assert (terms.clipped_BT.item(), terms.outside_BT.item()) == (clipped, outside)
    assert terms.ratio_BT.item() == pytest.approx(ratio)


TOKENS = st.lists(st.tuples(st.floats(-3, 0), st.floats(-3, 0)), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(tokens=TOKENS, advantage=st.floats(-3, 3), name=st.sampled_from(["ppo", "dapo", "gspo", "cispo"]))
def test_losses_agree_with_the_papers(tokens: list[tuple[float, float]], advantage: float, name: str) -> None:
    objective = replace(FREE[name], clip_low=0.2, clip_high=0.28)
    now, old = [a for a, _ in tokens], [b for _, b in tokens]
    mean = sum(a - b for a, b in tokens) / len(tokens)
    for log_ratio in [mean] if name == "gspo" else [a - b for a, b in tokens]:
        assume(min(abs(math.exp(log_ratio) - edge) for edge in (0.8, 1.28)) > 1e-3)

    def expected(x: list[float]) -> float:
        if name == "gspo":
            return len(x) * oracle.gspo(x, old, advantage, 0.2, 0.28)
        if name == "cispo":
            rows = zip(x, old, now, strict=True)
            return sum(oracle.cispo(a, b, advantage, 0.2, 0.28, held) for a, b, held in rows)
        return sum(oracle.clipped(a, b, advantage, 0.2, 0.28) for a, b in zip(x, old, strict=True))

    logp = torch.tensor([now], dtype=torch.float64, requires_grad=True)
    old_logp = torch.tensor([old], dtype=torch.float64)
    advantages = torch.tensor([advantage], dtype=torch.float64)
    loss = policy_loss(logp, old_logp, advantages, torch.ones(1, len(now)), objective).loss_BT.sum()
    loss.backward()
    assert loss.item() == pytest.approx(expected(now), abs=1e-9)
    assert logp.grad is not None
    assert logp.grad[0].tolist() == pytest.approx(gradient(expected, now), abs=1e-5)


@pytest.mark.parametrize("name", sorted(FREE))
def test_on_policy_every_algorithm_is_the_policy_gradient(name: str) -> None:
    logp = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    advantages_BT = torch.randn(2, 3, dtype=torch.float64)
    advantages_BT = advantages_BT[:, :1].expand(2, 3) if name == "gspo" else advantages_BT
    terms = policy_loss(logp, logp, advantages_BT, torch.ones(2, 3), FREE[name])
    terms.loss_BT.sum().backward()
    assert logp.grad is not None
    torch.testing.assert_close(logp.grad, -advantages_BT, rtol=0, atol=1e-12)
    assert terms.ratio_BT.tolist() == [[1.0] * 3] * 2
    assert not terms.clipped_BT.any()
    assert not terms.outside_BT.any()


def test_expected_gradient_is_that_of_the_expected_reward() -> None:
    """Exact enumeration over a vocabulary of 4; a baseline changes nothing."""
    logits = torch.tensor([0.3, -0.2, 0.9, 0.0], dtype=torch.float64, requires_grad=True)
    rewards = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)
    logp_BT = torch.log_softmax(logits, -1).unsqueeze(-1)
    p = logp_BT.detach().exp().flatten()
    (expected,) = torch.autograd.grad((torch.softmax(logits, -1) * rewards).sum(), logits)
    for baseline in (0.0, 1.7):
        terms = policy_loss(logp_BT, logp_BT, (rewards - baseline) * p, torch.ones(4, 1), FREE["rloo"])
        loss = total_loss(terms, torch.ones(4, 1), FREE["rloo"], count=1)
        (actual,) = torch.autograd.grad(loss, logits, retain_graph=True)
        torch.testing.assert_close(-actual, expected, rtol=0, atol=1e-12)


def test_rloo_is_dr_grpo_rescaled() -> None:
    rewards_PG = torch.randn(2, 4, dtype=torch.float64)
    logp = torch.randn(8, 5, dtype=torch.float64, requires_grad=True)
    mask = (torch.rand(8, 5) > 0.3).long()
    gradients = []
    for name in ("rloo", "dr_grpo"):
        objective = replace(FREE[name], length=5)
        advantages = REWARD_ADVANTAGES[objective.advantage](rewards_PG).flatten()
        terms = policy_loss(logp, logp, advantages, mask, objective)
        (grad,) = torch.autograd.grad(total_loss(terms, mask, objective), logp)
        gradients.append(grad)
    torch.testing.assert_close(gradients[0], gradients[1] * 4 / 3, rtol=0, atol=1e-12)


def test_rloo_is_a_sum_over_tokens_and_a_mean_over_samples() -> None:
    rewards = torch.tensor([[1.0, 0.0]])
    logp, mask = torch.tensor([[-1.0, -2.0], [-3.0, -9.0]]), torch.tensor([[1, 1], [1, 0]])
    terms = policy_loss(logp, logp, leave_one_out(rewards).flatten(), mask, FREE["rloo"])
    assert total_loss(terms, mask, FREE["rloo"]).item() == pytest.approx(-(-3.0 * 1 + -3.0 * -1) / 2)


def test_kl_enters_where_the_objective_places_it() -> None:
    logp = torch.tensor([[-1.0, -2.0]], dtype=torch.float64, requires_grad=True)
    ref, mask, zero = torch.tensor([[-1.5, -1.0]], dtype=torch.float64), torch.ones(1, 2), torch.zeros(1)
    in_loss = replace(FREE["grpo"], kl_coefficient=0.1)
    terms = policy_loss(logp, logp.detach(), zero, mask, in_loss, ref_logp=ref)
    expected = sum(oracle.k3(a, b) for a, b in ((-1.0, -1.5), (-2.0, -1.0))) / 2
    loss = total_loss(terms, mask, in_loss)
    assert loss.item() == pytest.approx(0.1 * expected)
    assert total_loss(terms, mask, in_loss, kl_coefficient=0.4).item() == pytest.approx(0.4 * expected)
    (grad,) = torch.autograd.grad(loss, logp)
    assert grad[0].tolist() == pytest.approx([0.05 * (1 - math.exp(-0.5)), 0.05 * (1 - math.exp(1.0))])
    in_reward = replace(PRESETS["rloo"], importance="none", importance_high=None)
    terms = policy_loss(logp, logp.detach(), zero, mask, in_reward, ref_logp=ref)
    assert terms.kl_BT is not None
    assert not terms.kl_BT.requires_grad
    assert terms.kl_BT.tolist() == [[0.5, -1.0]]
    assert total_loss(terms, mask, in_reward).item() == 0


def test_policy_equal_to_the_reference_has_no_kl_and_ratio_one() -> None:
    logp = torch.randn(2, 3, requires_grad=True)
    same = {"ref_logp": logp, "sampler_logp": logp}
    terms = policy_loss(logp, logp, torch.zeros(2), torch.ones(2, 3), PRESETS["grpo"], **same)
    assert terms.kl_BT is not None
    assert terms.kl_BT.abs().sum().item() == 0
    assert (terms.ratio_BT == 1).all()
    assert (terms.weight_BT == 1).all()
    (grad,) = torch.autograd.grad(total_loss(terms, torch.ones(2, 3), PRESETS["grpo"]), logp)
    assert grad.abs().sum().item() == 0


@pytest.mark.parametrize("name", ["grpo", "rloo", "cispo"])
def test_importance_weights_multiply_the_loss(name: str) -> None:
    logp, old, mask = torch.tensor([[-1.0, -1.0, -1.0]]), torch.tensor([[-1.1, -1.0, -0.9]]), torch.ones(1, 3)
    sampler = old - torch.log(torch.tensor([[4.0, 1.5, 0.1]]))
    advantages = torch.tensor([2.0])
    plain = policy_loss(logp, old, advantages, mask, FREE[name]).loss_BT
    truncated = replace(FREE[name], importance="truncated", importance_high=2.0)
    masked = replace(FREE[name], importance="masked", importance_low=0.5, importance_high=2.0)
    for objective, weights in ((truncated, [2.0, 1.5, 0.1]), (masked, [0.0, 1.5, 0.0])):
        actual = policy_loss(logp, old, advantages, mask, objective, sampler_logp=sampler).loss_BT
        torch.testing.assert_close(actual, plain * torch.tensor([weights]))
    assert oracle.truncated_weight(math.log(4.0), 0.0, 2.0) == 2.0


@pytest.mark.parametrize("name", sorted(FREE))
@pytest.mark.parametrize("fill", [math.nan, math.inf, -math.inf])
def test_what_is_masked_never_matters(name: str, fill: float) -> None:
    objective = replace(
        FREE[name],
        kl_placement="loss",
        kl_estimator="k3",
        kl_coefficient=0.1,
        importance="truncated",
        importance_high=2.0,
    )
    results = []
    for hidden in (0.0, fill):
        tensors = [
            torch.tensor([[x, hidden], [hidden, hidden]], dtype=torch.float64)
            for x in (-1.0, -1.3, -0.8, -1.1, 2.0)
        ]
        logp, old, ref, sampler, advantages = tensors
        logp.requires_grad_()
        mask = torch.tensor([[1, 0], [0, 0]])
        terms = policy_loss(logp, old, advantages, mask, objective, ref_logp=ref, sampler_logp=sampler)
        loss = total_loss(terms, mask, objective)
        (grad,) = torch.autograd.grad(loss, logp)
        assert all(x is None or torch.isfinite(x).all() for x in terms)
        results.append((loss.item(), grad.tolist()))
    assert results[0] == results[1]


@pytest.mark.parametrize("name", sorted(FREE))
def test_extreme_inputs_stay_finite(name: str) -> None:
    values = torch.tensor([[-1e4, 0.0, -1e4]], requires_grad=True)
    old = torch.tensor([[0.0, -1e4, -1e4]])
    objective = replace(FREE[name], kl_placement="loss", kl_estimator="k3", kl_coefficient=0.1)
    for advantage in (-3.0, 0.0, 3.0):
        terms = policy_loss(values, old, torch.tensor([advantage]), torch.ones(1, 3), objective, ref_logp=old)
        loss = total_loss(terms, torch.ones(1, 3), objective)
        (grad,) = torch.autograd.grad(loss, values)
        assert torch.isfinite(loss)
        assert torch.isfinite(grad).all()


@pytest.mark.parametrize("name", sorted(set(FREE) - {"cispo"}))
def test_gradients_in_float64(name: str) -> None:
    """CISPO's stopped gradient is checked against its oracle instead: differences cannot see a stop."""
    objective = replace(FREE[name], kl_placement="loss", kl_estimator="k2", kl_coefficient=0.1)
    generator = torch.Generator().manual_seed(5)
    old, ref = torch.randn(2, 2, 3, generator=generator, dtype=torch.float64)
    logp = (old + torch.tensor([[0.1, 0.5, -0.6], [-0.1, 0.6, -0.5]])).requires_grad_()
    mask, advantages = torch.tensor([[1, 1, 1], [1, 1, 0]]), torch.tensor([1.5, -0.5], dtype=torch.float64)

    def loss(x: torch.Tensor) -> torch.Tensor:
        terms = policy_loss(x, old, advantages, mask, objective, ref_logp=ref)
        return total_loss(terms, mask, objective)

    assert torch.autograd.gradcheck(loss, (logp,))


def test_only_the_current_policy_receives_gradient() -> None:
    logp, old, ref, sampler, advantages = (torch.randn(1, 2, requires_grad=True) for _ in range(5))
    objective = replace(PRESETS["grpo"], importance="truncated", importance_high=2.0)
    terms = policy_loss(
        logp, old, advantages, torch.ones(1, 2), objective, ref_logp=ref, sampler_logp=sampler
    )
    total_loss(terms, torch.ones(1, 2), objective).backward()
    assert logp.grad is not None
    assert all(x.grad is None for x in (old, ref, sampler, advantages))


def test_refuses_missing_log_probs_and_shapes_that_would_broadcast() -> None:
    logp, mask, advantages = torch.zeros(2, 3), torch.ones(2, 3), torch.zeros(2)
    with pytest.raises(ValueError, match="needs ref_logp"):
        policy_loss(logp, logp, advantages, mask, PRESETS["grpo"], sampler_logp=logp)
    with pytest.raises(ValueError, match="needs sampler_logp"):
        objective = replace(FREE["grpo"], importance="truncated", importance_high=2.0)
        policy_loss(logp, logp, advantages, mask, objective)
    with pytest.raises(ValueError, match=r"advantages \[3\] and mask \[2, 3\]"):
        policy_loss(logp, logp, torch.zeros(3), mask, FREE["grpo"])
    with pytest.raises(ValueError, match="old_logp"):
        policy_loss(logp, torch.zeros(2, 1), advantages, mask, FREE["grpo"])
    terms = policy_loss(logp, logp, advantages, mask, PRESETS["dr_grpo"], sampler_logp=logp)
    with pytest.raises(ValueError, match="needs a length"):
        total_loss(terms, mask, PRESETS["dr_grpo"])
    with pytest.raises(ValueError, match="without ref_logp"):
        total_loss(terms, mask, FREE["grpo"], kl_coefficient=0.1)
    with pytest.raises(ValueError, match="needs the entropy"):
        total_loss(terms, mask, replace(FREE["grpo"], entropy_coefficient=0.1))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(v=st.floats(-3, 3), old=st.floats(-3, 3), target=st.floats(-3, 3), clip=st.sampled_from([0.1, 0.5]))
def test_value_loss_agrees_with_the_paper(v: float, old: float, target: float, clip: float) -> None:
    near = old + min(max(v - old, -clip), clip)
    assume(abs(abs(v - old) - clip) > 1e-3)
    assume(near == v or abs(abs(v - target) - abs(near - target)) > 1e-3)
    values = torch.tensor([[v]], dtype=torch.float64, requires_grad=True)
    others = [torch.tensor([[x]], dtype=torch.float64, requires_grad=True) for x in (old, target)]
    loss = value_loss(values, others[0], others[1], clip)
    loss.sum().backward()
    assert loss.item() == pytest.approx(oracle.value(v, old, target, clip), abs=1e-9)
    assert values.grad is not None
    expected = gradient(lambda x: oracle.value(x[0], old, target, clip), [v])
    assert values.grad[0].tolist() == pytest.approx(expected, abs=1e-5)
    assert others[0].grad is None
    assert others[1].grad is None


def test_value_loss_by_hand() -> None:
    values, old, returns = torch.tensor([1.0, 1.0]), torch.tensor([0.0, 0.0]), torch.tensor([3.0, -3.0])
    assert value_loss(values, old, returns).tolist() == [2.0, 8.0]
    assert value_loss(values, old, returns, clip=0.5).tolist() == [3.125, 8.0]
    with pytest.raises(ValueError, match="clip = 0"):
        value_loss(values, old, returns, clip=0.0)


def test_an_unbounded_ratio_is_plain_importance_sampling() -> None:
    objective = replace(FREE["grpo"], bounding="none", clip_low=None, clip_high=None)
    logp = torch.log(torch.tensor([[5.0, 0.2]], dtype=torch.float64)).requires_grad_()
    terms = policy_loss(logp, torch.zeros_like(logp), torch.tensor([2.0]), torch.ones(1, 2), objective)
    (grad,) = torch.autograd.grad(terms.loss_BT.sum(), logp)
    assert terms.loss_BT[0].tolist() == pytest.approx([-10.0, -0.4])
    assert grad[0].tolist() == pytest.approx([-10.0, -0.4])
    assert not terms.outside_BT.any()
    assert not terms.ratio_BT.requires_grad
