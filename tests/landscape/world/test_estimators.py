"""Every estimator of `objectives` against the exact value: KL, advantages, gradients, value functions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.landscape.world.walking import ALGORITHMS, learner, moved, ravine
from torch import Tensor

from ridgeline.landscape.world.measures import Measures
from ridgeline.landscape.world.paths import sample_paths
from ridgeline.landscape.world.updates import gradient_of
from ridgeline.objectives.advantages import gae, rewards_to_go
from ridgeline.objectives.kl import ESTIMATORS

PATHS = 4000


@pytest.fixture(scope="module")
def measures() -> Measures:
    return Measures(*ravine(), 65)


def mean_and_error(samples: Tensor) -> tuple[float, float]:
    return float(samples.mean()), float(samples.std()) / len(samples) ** 0.5


def close(samples: Tensor, exact: float, bias: float) -> bool:
    """Within 4 standard errors, and what the grid costs (stated by the caller)."""
    mean, error = mean_and_error(samples)
    return abs(mean - exact) < 4 * error + bias


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", ["k1", "k3"])
def test_unbiased_estimators_of_the_kl(measures: Measures, name: str, seed: int) -> None:
    """Sums over paths against the exact KL of paths; of the grid's bias, 1 % is allowed."""
    terrain, reference = ravine()
    policy = moved(seed)
    paths = sample_paths(terrain, policy, PATHS, seed)
    with torch.no_grad():
        ref_logp_BT = reference.log_prob(paths.states[:, :-1], paths.actions)
    exact = measures.trajectory_kl(policy)
    assert exact > 0.3
    assert close(ESTIMATORS[name](paths.logp, ref_logp_BT).sum(-1), exact, 0.01 * exact)


def test_the_bias_of_k2(measures: Measures) -> None:
    """With equal sigmas L is normal with mean d and variance 2 d, so that k2 expects d + d^2 / 2, not d."""
    terrain, reference = ravine()
    policy = moved(0, 0.08)
    with torch.no_grad():
        policy.log_std.copy_(reference.log_std)
        paths = sample_paths(terrain, policy, PATHS, 1)
        states = paths.states[:, :-1]
        d_BT = policy.kl(reference, states)
        k2_BT = ESTIMATORS["k2"](paths.logp, reference.log_prob(states, paths.actions))
    bias = float((d_BT.square() / 2).sum(-1).mean())
    mean, error = mean_and_error((k2_BT - d_BT - d_BT.square() / 2).sum(-1))
    assert abs(mean) < 4 * error
    assert bias > 8 * error  # so that the unbiased value is told apart


@pytest.mark.parametrize("lam", [0.0, 0.9, 1.0])
@pytest.mark.parametrize("beta", [0.0, 0.3])
def test_advantages_under_the_exact_value_expect_nothing(beta: float, lam: float) -> None:
    """E A_t = 0 for every lam, the KL in the reward included; of the grid's bias, 0.03 is allowed."""
    walker = learner("ppo", baseline="exact", normalise_std=False, lam=lam, beta=beta, paths=2000)
    walker.policy.assign(moved().flat())
    advantages_BT = walker.batch(walker.walk()).estimates.advantages_BT
    for step in (0, 8, 16, 23):
        assert close(advantages_BT[:, step], 0.0, 0.03)


def test_exact_values_leave_less_variance_than_any_other_baseline() -> None:
    spread = {}
    for baseline in ("none", "time", "exact", "learned"):
        walker = learner("reinforce", baseline=baseline, lam=1.0, paths=512)
        spread[baseline] = float(walker.batch(walker.walk()).estimates.advantages_BT.std())
    assert spread["exact"] < 0.95 * min(spread["none"], spread["time"], spread["learned"])


@pytest.mark.parametrize("gamma", [1.0, 0.9])
def test_rewards_to_go_expect_the_value(measures: Measures, gamma: float) -> None:
    """From the start and from the middle of the walk; of the grid's bias, 0.03 is allowed."""
    terrain, _ = ravine()
    policy = moved()
    paths = sample_paths(terrain, policy, PATHS, 2)
    to_go_BT = rewards_to_go(paths.rewards, torch.ones_like(paths.rewards), gamma)
    values_BT = measures.path_values(policy, paths.states[:, :-1], "gold", gamma)
    assert close(to_go_BT[:, 0], measures.expected_return(policy, "gold", gamma), 0.03)
    for step in (6, 12, 23):
        assert close(to_go_BT[:, step] - values_BT[:, step], 0.0, 0.03)


def test_returns_of_gae_with_lam_0_are_one_step_of_bellman(measures: Measures) -> None:
    """r + gamma V(s') from the exact V: its mean over paths is that of V itself."""
    terrain, _ = ravine()
    policy = moved()
    paths = sample_paths(terrain, policy, PATHS, 3)
    values_BT = measures.path_values(policy, paths.states[:, :-1], "gold", 1.0)
    _, returns_BT = gae(paths.rewards, values_BT, torch.ones_like(values_BT), 1.0, 0.0)
    for step in (0, 12, 23):
        assert close(returns_BT[:, step] - values_BT[:, step], 0.0, 0.03)


CASES = [("reinforce", baseline) for baseline in ("none", "time", "exact", "learned")] + [("rloo", "group")]


@pytest.mark.parametrize("beta", [0.0, 0.3])
@pytest.mark.parametrize(("algorithm", "baseline"), CASES)
def test_unbiased_gradients_have_the_exact_length_too(algorithm: str, baseline: str, beta: float) -> None:
    """Summed over actions and averaged over paths, the estimate is the gradient of J - beta KL itself."""
    paths = 1000 if baseline == "learned" else 4000  # a critic costs time
    walker = learner(algorithm, baseline=baseline, lam=1.0, beta=beta, paths=paths)
    walker.policy.assign(moved().flat())
    found = gradient_of(walker.policy, walker.batch(walker.walk()), walker.objective)
    exact = walker.measures.gradient(walker.policy, "gold", 1.0, beta)
    assert walker.cosine(found) > 0.99
    assert float(found @ exact / exact.square().sum()) == pytest.approx(1.0, abs=0.06)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_first_gradient_points_uphill(algorithm: str, seed: int) -> None:
    """256 paths; normalised advantages and PPO's aggregation change the length, not the direction."""
    walker = learner(algorithm, paths=256, seed=seed)
    assert walker.cosine(gradient_of(walker.policy, walker.batch(walker.walk()), walker.objective)) > 0.95


def cosines(baseline: str, sea_level: float) -> list[float]:
    terrain = ravine()[0].replace(sea_level=sea_level)
    found = []
    for seed in range(8):
        walker = learner("reinforce", terrain=terrain, baseline=baseline, paths=32, seed=seed)
        batch = walker.batch(walker.walk())
        found.append(walker.cosine(gradient_of(walker.policy, batch, walker.objective)))
    return found


def test_why_baselines_exist() -> None:
    """Cosine to the exact gradient with 32 paths: a sea level drowns it, unless there is a baseline."""
    assert np.mean(cosines("none", 0.0)) > 0.85
    assert abs(np.mean(cosines("none", 5.0))) < 0.4
    for baseline in ("time", "exact"):
        assert np.mean(cosines(baseline, 5.0)) > 0.88
        assert np.allclose(cosines(baseline, 5.0), cosines(baseline, 0.0), atol=0.01)


def test_a_learned_value_comes_near_the_exact_one() -> None:
    """Explained variance of the exact V at states of new paths, over the whole walk."""
    walker = learner("ppo", baseline="learned", learning_rate=1e-6, paths=128)
    for _ in range(20):
        walker.step(exact=False)
    states = walker.walk(500).states[:, :-1]
    exact_BT = walker.measures.path_values(walker.policy, states, "gold", 1.0)
    assert walker.critic is not None
    error_BT = walker.critic(states).detach() - exact_BT
    assert 1 - float(error_BT.var() / exact_BT.var()) > 0.8
    assert abs(float(error_BT.mean())) < 0.3
