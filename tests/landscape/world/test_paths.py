"""Sampled paths: dynamics, log-probabilities, seeds."""

from __future__ import annotations

import numpy as np
import torch

from ridgeline.landscape.world.paths import sample_paths
from ridgeline.landscape.world.policy import GaussianPolicy
from ridgeline.landscape.world.terrain_file import load_terrain


def test_paths_obey_the_world():
    terrain, policy = load_terrain("ravine").replace(gamma=0.9), GaussianPolicy(1, 1.5)
    paths = sample_paths(terrain, policy, 50, 3, layer="proxy")
    assert paths.states.shape == (50, 25, 2) and paths.actions.shape == (50, 24, 2)
    moved = (paths.states[:, :-1] + 0.30 * paths.actions).clamp(-3, 3)
    assert torch.equal(moved, paths.states[:, 1:])
    assert (moved.abs() == 3).any()  # some of these wide steps hit the bounds
    assert torch.allclose(paths.rewards, terrain.height(paths.states[:, 1:], "proxy"))
    assert torch.allclose(paths.logp, policy.log_prob(paths.states[:, :-1], paths.actions), atol=1e-10)
    assert not paths.logp.requires_grad
    by_hand = sum(0.9**t * paths.rewards[:, t] for t in range(24))
    assert torch.allclose(paths.returns, by_hand)


def test_seeds_decide_alone():
    terrain, policy = load_terrain("plain"), GaussianPolicy(1)
    first = sample_paths(terrain, policy, 8, 3)
    torch.manual_seed(9)
    np.random.seed(9)
    assert torch.equal(first.states, sample_paths(terrain, policy, 8, 3).states)
    assert not torch.equal(first.states, sample_paths(terrain, policy, 8, 4).states)
    assert torch.equal(
        sample_paths(terrain, policy, 8, [3, 1]).states,
        sample_paths(terrain, policy, 8, np.random.default_rng([3, 1])).states,
    )


def test_start_is_uniform_on_its_square_or_given():
    terrain, policy = load_terrain("ravine"), GaussianPolicy(1)
    first = sample_paths(terrain, policy, 20_000, 0, horizon=1).states[:, 0] - torch.tensor(terrain.start)
    assert first.abs().max() <= 0.15
    assert abs(first.std(0) - 0.15 / 3**0.5).max() < 0.002  # standard deviation of a uniform square
    given = sample_paths(terrain, policy, 3, 0, start=(1.0, -2.0), horizon=2).states
    assert given.shape == (3, 3, 2) and (given[:, 0] == torch.tensor([1.0, -2.0])).all()
    each = torch.tensor([[0.0, 0.0], [1.0, 1.0], [9.0, 0.0]])
    assert sample_paths(terrain, policy, 3, 0, start=each, horizon=1).states[2, 0].tolist() == [3.0, 0.0]
