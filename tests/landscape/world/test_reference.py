"""The route walker and its corridor."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
import torch

from ridgeline.landscape.world.grid import Grid
from ridgeline.landscape.world.paths import sample_paths
from ridgeline.landscape.world.policy import GaussianPolicy
from ridgeline.landscape.world.reference import (
    clone_route,
    corridor,
    ring_radius,
    route_action,
    tube_width,
)
from ridgeline.landscape.world.terrain_file import load_terrain, terrain_names
from ridgeline.schema.errors import DataError

RAVINE = load_terrain("ravine")


@pytest.mark.parametrize("name", terrain_names())
def test_the_clone_follows_the_route_to_its_end(name):
    terrain = load_terrain(name)
    states = sample_paths(terrain, clone_route(terrain.route, terrain), 2_000, 0).states
    centre = states.mean(0).numpy()
    # within 0.35 of the route at every step, and at its end when the horizon is over
    points = np.concatenate([np.linspace(a, b, 50) for a, b in itertools.pairwise(terrain.route)])
    gap = np.linalg.norm(centre[:, None] - points, axis=-1).min(1)
    assert gap.max() < 0.35
    assert np.linalg.norm(centre[-1] - terrain.route[-1]) < 0.5


def test_the_same_seed_gives_the_same_policy_fast():
    clone_route(RAVINE.route, RAVINE)
    begun = time.perf_counter()
    first = clone_route(RAVINE.route, RAVINE)
    assert time.perf_counter() - begun < 2  # 0.05 s alone on the machine
    torch.manual_seed(1)
    assert torch.equal(first.flat(), clone_route(RAVINE.route, RAVINE).flat())
    assert not torch.equal(first.flat(), clone_route(RAVINE.route, RAVINE, seed=1).flat())
    assert torch.allclose(first.log_std.exp(), torch.full((2,), RAVINE.sigma, dtype=torch.float64))
    assert torch.allclose(
        clone_route(RAVINE.route, RAVINE, 0.3).log_std.exp(), torch.full((2,), 0.3, dtype=torch.float64)
    )


def test_route_action_by_hand():
    line = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 2.0]])  # 3 long; 10 steps: 0.3 a step, action 1
    states = np.array([[0.2, 0.0], [0.2, 0.2], [1.0, 2.0], [0.85, 0.0]])
    actions = route_action(line, states, 20)  # 0.15 a step, action 0.5
    assert np.allclose(actions[0], [0.5, 0.0])
    assert np.allclose(actions[1], [0.5, -0.15 * 0.2 / 0.3])
    assert np.allclose(actions[2], [0.0, 0.0])  # arrived
    assert np.allclose(actions[3], [0.5, 0.0])
    far = route_action(line, np.array([[-3.0, -3.0]]), 20)
    assert np.linalg.norm(far) == pytest.approx(1.0)


@pytest.mark.parametrize("route", [[(0.0, 0.0)], [], [(0.0, 0.0), (float("nan"), 1.0)]])
def test_routes_that_are_none(route):
    with pytest.raises(DataError, match="at least 2 points"):
        clone_route(route, RAVINE)


def test_a_route_of_equal_points_stays_there():
    policy = clone_route([(0.5, 0.5), (0.5, 0.5)], RAVINE.replace(start=(0.5, 0.5)))
    states = sample_paths(RAVINE, policy, 2_000, 0, start=(0.5, 0.5)).states
    assert (states[:, -1].mean(0) - 0.5).abs().max() < 0.15


def test_corridor_is_the_cloud_of_sampled_paths():
    reference = clone_route(RAVINE.route, RAVINE)
    found = corridor(RAVINE, reference, Grid(65))
    states = sample_paths(RAVINE, reference, 60_000, 2).states.numpy()
    assert found.mean.shape == (25, 2) and found.cov.shape == (25, 2, 2)
    assert np.abs(found.mean - states.mean(0)).max() < 0.015
    for t in (3, 12, 24):
        sampled = np.cov(states[:, t].T)
        assert np.allclose(found.cov[t], sampled, atol=0.03 * np.trace(sampled))


def test_the_tube_is_the_least_kl_of_a_shift():
    """Without a field and far from the bounds W_T = T (STEP sigma)^2, and a shift d costs d^2 / (2 W)."""
    sigma, steps = 0.3, 6
    still = GaussianPolicy(0, sigma)
    with torch.no_grad():
        still.layers[-1].weight.zero_()
        still.layers[-1].bias.zero_()
    terrain = RAVINE.replace(start=(0.0, 0.0), start_spread=0.0)
    found = corridor(terrain, still, Grid(129), steps)
    walk = steps * (0.30 * sigma) ** 2
    assert np.allclose(found.cov[-1], np.diag([walk, walk]), atol=0.01 * walk)
    nats = 0.8
    shift = tube_width(nats) * np.sqrt(found.cov[-1, 0, 0])
    per_step = shift / steps / 0.30  # an even push, cheapest for equal sigma
    assert steps * per_step**2 / (2 * sigma**2) == pytest.approx(nats, rel=0.02)


def test_ring_radius_spends_its_budget():
    policy, other = GaussianPolicy(0, 0.4), GaussianPolicy(0, 0.4)
    radius = ring_radius(np.array([0.4, 0.4]), 0.5)
    with torch.no_grad():
        other.layers[-1].bias.add_(torch.tensor([radius[0], 0.0]))
    assert policy.kl(other, torch.zeros(1, 2, dtype=torch.float64)).item() == pytest.approx(0.5)
