"""Every preset: its published numbers, its paper's equation, and what must hold for all of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.oracles import policy as oracle
from tests.oracles.numeric import gradient

from ridgeline.objectives.advantages import REWARD_ADVANTAGES, group_zscore
from ridgeline.objectives.axes import PolicyObjective
from ridgeline.objectives.axis_names import TOKEN_ADVANTAGES
from ridgeline.objectives.bounding import Inputs, bounded_loss
from ridgeline.objectives.policy import PRESETS, PolicyTerms, policy_loss, total_loss

READY = {
    name: replace(preset, length=4) if preset.aggregation == "fixed" and preset.length is None else preset
    for name, preset in PRESETS.items()
}
FREE = {name: replace(preset, kl_coefficient=0.0) for name, preset in READY.items()}
STOPPED = ("cispo", "topr", "vespo", "gspo_token")
"""A stopped gradient is checked against an oracle: differences of the value cannot see a stop."""
LOGP = torch.tensor([[-0.5, -1.2, -0.1], [-2.0, math.nan, math.nan]], dtype=torch.float64)
LOG_RATIO = torch.tensor([[0.3, -0.1, 0.0], [-0.4, math.nan, math.nan]], dtype=torch.float64)
MASK = torch.tensor([[1, 1, 1], [1, 0, 0]])
WIDE = {"clip_low": 0.2, "clip_high": 0.2}


def run(
    objective: PolicyObjective,
    logp: torch.Tensor,
    old: torch.Tensor,
    advantages: torch.Tensor,
    mask: torch.Tensor,
) -> PolicyTerms:
    """Sampler and reference agree with the old policy."""
    return policy_loss(logp, old, advantages, mask, objective, ref_logp=old, sampler_logp=old)


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        (FREE["grpo"], -0.083054),
        (replace(FREE["two_sided"], clip_delta=1.1), -0.071271),
        (replace(FREE["dapo"], clip_high=0.2), -0.407384),
        (FREE["dr_grpo"], -0.203692),
        (replace(FREE["gspo"], **WIDE), -0.095071),
        (replace(FREE["gspo_token"], **WIDE), -0.095071),
        (replace(FREE["luspo"], **WIDE), -0.850818),
        (FREE["sapo"], -0.178665),
        (FREE["cispo"], 0.091928),
        (FREE["vespo"], 0.038411),
    ],
)
def test_published_fixture(objective: PolicyObjective, expected: float) -> None:
    """Rewards 1 and 0, z-scored for every loss type. The peers' BNPO is DAPO when a step is one batch."""
    advantages = group_zscore(torch.tensor([[1.0, 0.0]], dtype=torch.float64)).flatten()
    logp = LOGP.clone().requires_grad_()
    loss = total_loss(run(objective, logp, LOGP - LOG_RATIO, advantages, MASK), MASK, objective)
    loss.backward()
    assert loss.item() == pytest.approx(expected, abs=1e-6)
    assert logp.grad is not None
    assert torch.isfinite(logp.grad).all()


def test_published_weights_of_vespo() -> None:
    """phi of the fixture: W = e^0.2 with k = 2, lambda = 3, and W = e^-0.4 with k = 3, lambda = 2."""
    logp = torch.tensor([[-1.0, -1.0, -1.0], [-1.0, 0.0, 0.0]])
    log_ratio = LOG_RATIO.nan_to_num().float()
    inputs = Inputs(logp, logp - log_ratio, torch.tensor([[1.0] * 3, [-1.0] * 3]), MASK != 0)
    loss = bounded_loss(inputs, FREE["vespo"]).loss_BT
    assert loss[0].tolist() == pytest.approx([0.767814] * 3, abs=1e-6)
    assert loss[1, 0].item() == pytest.approx(-0.582375, abs=1e-6)


TOKENS = st.lists(st.tuples(st.floats(-3, 0), st.floats(-3, 0)), min_size=1, max_size=4)
Oracle = Callable[[list[float], list[float], list[float], float], float]
"""(logp, old, logp behind the stop, advantage) -> summed loss of one sequence."""


def per_token(f: Callable[..., float], *arguments: float) -> Oracle:
    def total(x: list[float], old: list[float], held: list[float], advantage: float) -> float:
        return sum(f(a, b, advantage, *arguments) for a, b in zip(x, old, strict=True))

    return total


def plain(x: list[float], old: list[float], held: list[float], advantage: float) -> float:
    return -advantage * sum(x)


def gspo_token(x: list[float], old: list[float], held: list[float], advantage: float) -> float:
    """Equation 14 of Zheng et al. 2025: pi / sg(pi) of each token times the stopped sequence ratio."""
    mean = sum(a - b for a, b in zip(held, old, strict=True)) / len(x)
    return sum(oracle.clipped(mean + a - b, 0.0, advantage, 0.2, 0.2) for a, b in zip(x, held, strict=True))


ORACLES: dict[str, Oracle] = {
    **dict.fromkeys(["reinforce", "rloo", "remax", "max_rl"], plain),
    **dict.fromkeys(
        ["ppo", "grpo", "process_grpo", "gdpo", "dr_grpo", "icepop", "reinforce++", "reinforce++_baseline"],
        per_token(oracle.clipped, 0.2, 0.2),
    ),
    **dict.fromkeys(["dapo", "vapo"], per_token(oracle.clipped, 0.2, 0.28)),
    "two_sided": per_token(oracle.two_sided, 0.2, 0.2, 4.0),
    **dict.fromkeys(["gspo", "luspo"], lambda x, old, held, a: len(x) * oracle.gspo(x, old, a, 0.2, 0.2)),
    "gspo_token": gspo_token,
    "gmpo": lambda x, old, held, a: len(x) * oracle.gmpo(x, old, a, 1 - math.exp(-0.4), math.exp(0.4) - 1),
    "cispo": lambda x, old, held, a: sum(
        oracle.cispo(p, q, a, 1.0, 4.0, h) for p, q, h in zip(x, old, held, strict=True)
    ),
    "sapo": lambda x, old, held, a: sum(
        oracle.sapo(p, q, a, 1.0 if a > 0 else 1.05) for p, q in zip(x, old, strict=True)
    ),
    "vespo": lambda x, old, held, a: oracle.vespo(x, old, a, *((2, 3) if a > 0 else (3, 2)), held),
    "topr": lambda x, old, held, a: oracle.topr(x, old, a, held),
    "dppo": lambda x, old, held, a: sum(oracle.dppo(p, q, a, q, 0.15) for p, q in zip(x, old, strict=True)),
    "mirror_descent": lambda x, old, held, a: oracle.regression(x, old, a, 0.1),
    "a2po": lambda x, old, held, a: oracle.regression(x, old, a, 1e-3),
}


def test_every_preset_has_an_oracle() -> None:
    assert set(ORACLES) == set(PRESETS)


def near_an_edge(tokens: list[tuple[float, float]]) -> bool:
    """Where a loss has a kink, or a mask its threshold, differences mean nothing."""
    logs = [a - b for a, b in tokens]
    ratios = [math.exp(x) for x in [*logs, sum(logs), sum(logs) / len(logs)]]
    edges = (0.8, 1.0, 1.2, 1.28, 4.0, 5.0, math.exp(-0.4), math.exp(0.4))
    moved = [abs(math.exp(a) - math.exp(b)) for a, b in tokens]
    return min(abs(r - e) for r in ratios for e in edges) < 1e-3 or min(abs(m - 0.15) for m in moved) < 1e-3


@pytest.mark.parametrize("name", sorted(PRESETS))
@settings(max_examples=25, deadline=None, derandomize=True)
@given(tokens=TOKENS, advantage=st.floats(-3, 3).filter(lambda a: abs(a) > 1e-3))
def test_loss_and_gradient_agree_with_the_paper(
    name: str, tokens: list[tuple[float, float]], advantage: float
) -> None:
    assume(not near_an_edge(tokens))
    objective = FREE[name]
    if name in ("gspo", "gspo_token", "luspo"):
        objective = replace(objective, **WIDE)
    now, old = [a for a, _ in tokens], [b for _, b in tokens]
    logp = torch.tensor([now], dtype=torch.float64, requires_grad=True)
    old_logp = torch.tensor([old], dtype=torch.float64)
    advantages = torch.tensor([advantage], dtype=torch.float64)
    loss = run(objective, logp, old_logp, advantages, torch.ones(1, len(now))).loss_BT.sum()
    loss.backward()
    scale = max(1.0, abs(loss.item()))
    assert loss.item() == pytest.approx(ORACLES[name](now, old, now, advantage), abs=1e-9 * scale)
    assert logp.grad is not None
    expected = gradient(lambda x: ORACLES[name](x, old, now, advantage), now)
    assert logp.grad[0].tolist() == pytest.approx(expected, abs=2e-5 * scale, rel=1e-4)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_on_policy_every_algorithm_is_the_policy_gradient(name: str) -> None:
    logp = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    advantages_BT = torch.randn(2, 3, dtype=torch.float64)
    if PRESETS[name].advantage not in TOKEN_ADVANTAGES:
        advantages_BT = advantages_BT[:, :1].expand(2, 3)
    terms = run(FREE[name], logp, logp, advantages_BT, torch.ones(2, 3))
    (grad,) = torch.autograd.grad(terms.loss_BT.sum(), logp)
    torch.testing.assert_close(grad, -advantages_BT, rtol=0, atol=1e-12)
    assert terms.ratio_BT.tolist() == [[1.0] * 3] * 2
    assert terms.weight_BT.tolist() == [[1.0] * 3] * 2
    assert not terms.clipped_BT.any()
    assert not terms.outside_BT.any()


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_without_advantage_there_is_no_gradient(name: str) -> None:
    """Off-policy too, except where a regression pulls the log-ratio itself to 0."""
    old = torch.randn(2, 3, dtype=torch.float64)
    moved = 0.0 if FREE[name].bounding == "regression" else 0.3
    logp = (old + moved).requires_grad_()
    loss = total_loss(run(FREE[name], logp, old, torch.zeros(2), MASK), MASK, FREE[name])
    (grad,) = torch.autograd.grad(loss, logp)
    assert grad.abs().max().item() == 0


@pytest.mark.parametrize("name", sorted(set(PRESETS) - set(STOPPED)))
def test_gradients_in_float64(name: str) -> None:
    objective = replace(FREE[name], kl_placement="loss", kl_estimator="k2", kl_coefficient=0.1)
    generator = torch.Generator().manual_seed(5)
    old = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    logp = (old + torch.tensor([[0.1, 0.55, -0.6], [-0.1, 0.6, -0.7]])).requires_grad_()
    mask, advantages = torch.tensor([[1, 1, 1], [1, 1, 0]]), torch.tensor([1.5, -0.5], dtype=torch.float64)

    def loss(x: torch.Tensor) -> torch.Tensor:
        return total_loss(run(objective, x, old, advantages, mask), mask, objective)

    assert torch.autograd.gradcheck(loss, (logp,))


@pytest.mark.parametrize("name", sorted(PRESETS))
@pytest.mark.parametrize("fill", [math.nan, math.inf, -math.inf])
def test_what_is_masked_never_matters(name: str, fill: float) -> None:
    objective = replace(
        FREE[name], kl_placement="loss", kl_estimator="k3", kl_coefficient=0.1, off_policy_limit=1.0
    )
    results = []
    for hidden in (0.0, fill):
        logp, old, ref, sampler, advantages = (
            torch.tensor([[x, hidden], [hidden, hidden]], dtype=torch.float64)
            for x in (-1.0, -1.3, -0.8, -1.1, 2.0)
        )
        logp.requires_grad_()
        mask = torch.tensor([[1, 0], [0, 0]])
        terms = policy_loss(logp, old, advantages, mask, objective, ref_logp=ref, sampler_logp=sampler)
        (grad,) = torch.autograd.grad(total_loss(terms, mask, objective), logp)
        assert all(x is None or torch.isfinite(x).all() for x in terms)
        results.append((total_loss(terms, mask, objective).item(), grad.tolist()))
    assert results[0] == results[1]


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_extreme_inputs_stay_finite(name: str) -> None:
    values = torch.tensor([[-1e4, 0.0, -1e4], [0.0, 0.0, -1e4]], requires_grad=True)
    old = torch.tensor([[0.0, -1e4, -1e4], [-1e4, 0.0, 0.0]])
    objective = replace(FREE[name], kl_placement="loss", kl_estimator="k3", kl_coefficient=0.1)
    mask = torch.tensor([[1, 1, 1], [0, 0, 0]])
    for advantage in (-3.0, 0.0, 3.0):
        loss = total_loss(run(objective, values, old, torch.full((2,), advantage), mask), mask, objective)
        (grad,) = torch.autograd.grad(loss, values)
        assert torch.isfinite(loss)
        assert torch.isfinite(grad).all()


SHIFTS = sorted(n for n in PRESETS if PRESETS[n].advantage in set(REWARD_ADVANTAGES) - {"max_rl"})


@pytest.mark.parametrize("name", SHIFTS)
def test_a_constant_added_to_all_rewards_changes_nothing(name: str) -> None:
    rewards = torch.randn(2, 4, dtype=torch.float64)
    advantage = REWARD_ADVANTAGES[PRESETS[name].advantage]
    old, logp = torch.randn(2, 8, 3, dtype=torch.float64)
    losses = [
        run(FREE[name], logp, old, advantage(rewards + shift).flatten(), torch.ones(8, 3)).loss_BT
        for shift in (0.0, 50.0)
    ]
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-9, atol=1e-9)


def test_gspo_token_follows_gspo_when_the_sequence_has_one_advantage() -> None:
    old, logp = torch.randn(2, 3, 4, dtype=torch.float64) * 0.1
    logp.requires_grad_()
    mask, advantages = torch.tensor([[1, 1, 1, 0]] * 3), torch.tensor([1.0, -2.0, 0.5])
    grads = [
        torch.autograd.grad(total_loss(run(o, logp, old, advantages, mask), mask, o), logp)[0]
        for o in (replace(FREE["gspo"], **WIDE), replace(FREE["gspo_token"], **WIDE))
    ]
    torch.testing.assert_close(grads[0], grads[1])


def test_two_sided_clipping_bounds_the_case_that_ppo_leaves_open() -> None:
    logp = torch.log(torch.tensor([[50.0]], dtype=torch.float64)).requires_grad_()
    old, minus, one = torch.zeros(1, 1, dtype=torch.float64), torch.tensor([-1.0]), torch.ones(1, 1)
    for name, loss, slope, clipped in (("grpo", 50.0, 50.0, False), ("two_sided", 4.0, 0.0, True)):
        terms = run(FREE[name], logp, old, minus, one)
        (grad,) = torch.autograd.grad(terms.loss_BT.sum(), logp)
        assert terms.loss_BT.item() == pytest.approx(loss)
        assert grad.item() == pytest.approx(slope)
        assert terms.clipped_BT.item() is clipped


def test_gmpo_clips_single_tokens_where_gspo_sees_their_mean() -> None:
    """One token far up, one far down: the mean has not moved, each token has."""
    logp = torch.tensor([[1.0, -1.0]], dtype=torch.float64, requires_grad=True)
    terms = run(FREE["gmpo"], logp, torch.zeros_like(logp), torch.tensor([1.0]), torch.ones(1, 2))
    (grad,) = torch.autograd.grad(terms.loss_BT.sum(), logp)
    mean = math.exp((0.4 - 1.0) / 2)
    assert terms.loss_BT[0].tolist() == pytest.approx([-mean, -mean])
    assert terms.clipped_BT.tolist() == [[True, False]]
    assert terms.outside_BT.tolist() == [[True, True]]
    assert grad[0].tolist() == pytest.approx([0.0, -mean])


def test_topr_only_weighs_what_failed() -> None:
    old = torch.log(torch.tensor([[0.5, 0.5]] * 3, dtype=torch.float64))
    logp = torch.log(torch.tensor([[0.1, 0.5], [0.1, 0.5], [0.9, 0.9]], dtype=torch.float64)).requires_grad_()
    terms = run(FREE["topr"], logp, old, torch.tensor([1.0, -1.0, -1.0]), torch.ones(3, 2))
    (grad,) = torch.autograd.grad(terms.loss_BT.sum(), logp)
    assert grad[:, 0].tolist() == pytest.approx([-1.0, 0.2, 1.0])
    assert terms.clipped_BT[:, 0].tolist() == [False, False, True]


def test_a_regression_is_content_where_the_log_ratio_matches_the_advantage() -> None:
    """The optimum of A2PO: beta log(pi / ref) = A, here 0.001 * 500."""
    logp = torch.tensor([[300.0, 200.0]], dtype=torch.float64, requires_grad=True)
    zeros, advantages = torch.zeros_like(logp), torch.tensor([0.5])
    terms = run(FREE["a2po"], logp, zeros, advantages, torch.ones(1, 2))
    (grad,) = torch.autograd.grad(terms.loss_BT.sum(), logp)
    assert terms.loss_BT.abs().max().item() == pytest.approx(0, abs=1e-12)
    assert grad.abs().max().item() == pytest.approx(0, abs=1e-12)


def test_a_regression_is_anchored_where_the_objective_says() -> None:
    logp, old, ref = (torch.full((1, 1), x, dtype=torch.float64) for x in (-1.0, -1.5, -3.0))
    for name, gap in (("mirror_descent", 0.5), ("a2po", 2.0)):
        beta = FREE[name].regression_beta
        assert beta is not None
        terms = policy_loss(logp, old, torch.zeros(1), torch.ones(1, 1), FREE[name], ref_logp=ref)
        assert terms.loss_BT.item() == pytest.approx(beta * gap**2 / 2)
    with pytest.raises(ValueError, match="needs ref_logp"):
        policy_loss(logp, old, torch.zeros(1), torch.ones(1, 1), FREE["a2po"])


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_the_entropy_bonus_is_its_coefficient_times_the_mean(name: str) -> None:
    """Aggregated as the loss is: on equal lengths every aggregation agrees with the plain mean."""
    objective = replace(FREE[name], entropy_coefficient=0.3)
    if objective.aggregation == "fixed":
        objective = replace(objective, length=3)
    logp = torch.randn(2, 3, dtype=torch.float64)
    entropy = torch.rand(2, 3, dtype=torch.float64, requires_grad=True)
    mask = torch.ones(2, 3)
    terms = run(objective, logp, logp, torch.zeros(2), mask)
    loss = total_loss(terms, mask, objective, entropy=entropy)
    assert loss.item() == pytest.approx(-0.3 * entropy.mean().item(), abs=1e-9)
    (grad,) = torch.autograd.grad(loss, entropy)
    torch.testing.assert_close(grad, torch.full_like(grad, -0.05))
