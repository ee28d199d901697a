"""V, occupancy, J and path KL against sampled paths and closed forms. Biases are printed (-s)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ridgeline.landscape.world import exact
from ridgeline.landscape.world.grid import Grid
from ridgeline.landscape.world.operator import Operator
from ridgeline.landscape.world.paths import sample_paths
from ridgeline.landscape.world.policy import GaussianPolicy
from ridgeline.landscape.world.reference import clone_route
from ridgeline.landscape.world.terrain import STEP, Layer
from ridgeline.landscape.world.terrain_file import load_terrain

RAVINE = load_terrain("ravine")


def wandering(seed=3, sigma=0.6):
    """A policy that goes north-east along a bent field."""
    policy = GaussianPolicy(seed, sigma)
    with torch.no_grad():
        policy.layers[-1].weight.mul_(10)
        policy.layers[-1].bias.fill_(0.5)
    return policy


def slope(gx, gy):
    """A tilted plane: altitude gx x + gy y, painted with four points."""
    image = np.array([[-3 * gx - 3 * gy, 3 * gx - 3 * gy], [-3 * gx + 3 * gy, 3 * gx + 3 * gy]])
    return load_terrain("plain").replace(layers=(Layer("gold", (), image),), start=(0.1, -0.2), horizon=4)


def marching(mean, sigma=0.2):
    """The same Gaussian in every state."""
    policy = GaussianPolicy(0, sigma)
    with torch.no_grad():
        policy.layers[-1].weight.zero_()
        policy.layers[-1].bias.copy_(torch.tensor(mean, dtype=torch.float64))
    return policy


@pytest.mark.parametrize("seed", [3, 4])
@pytest.mark.parametrize("sigma", [0.6, 0.3])
def test_expected_return_against_sampled_paths(seed, sigma):
    policy = wandering(seed, sigma)
    returns = sample_paths(RAVINE, policy, 120_000, seed).returns
    mean, error = returns.mean().item(), returns.std().item() / len(returns) ** 0.5
    found = {n: exact.expected_return(RAVINE, policy, Grid(n)) for n in (33, 65, 129)}
    print(f"sigma {sigma}: sampled {mean:.4f} +- {error:.4f}, grids {found}")
    # Measured bias 0.005 / 0.000 / 0.000 (sigma 0.6), 0.04 / 0.013 / 0.000 (sigma 0.3); returns spread by 1.5
    # to 2.6, and a path of 24 steps could earn 24.
    for n, tolerance in ((33, 0.06), (65, 0.02), (129, 0.008)):
        assert abs(found[n] - mean) < tolerance + 4 * error


def test_the_route_walker_of_the_ravine_earns_about_0_6():
    reference = clone_route(RAVINE.route, RAVINE)
    by_grid = [exact.expected_return(RAVINE, reference, Grid(n)) for n in (33, 65, 129)]
    print(f"J of the reference at 33 / 65 / 129: {by_grid}")
    assert by_grid[2] == pytest.approx(0.6, abs=0.05)
    assert max(by_grid) - min(by_grid) < 0.01  # measured 0.0038


@pytest.mark.parametrize("point", [(0.0, 0.2), (-1.6, 1.5), (1.2, 1.3), (2.9, 2.9)])
def test_values_at_a_point_against_paths_from_there(point):
    policy, grid = clone_route(RAVINE.route, RAVINE), Grid(129)
    at = np.array(point)
    values = exact.values(RAVINE, policy, grid)
    assert values.shape == (25, 129, 129) and not values[24].any()
    for remaining in (24, 5, 1):
        returns = sample_paths(RAVINE, policy, 20_000, 7, start=point, horizon=remaining).returns
        error = returns.std().item() / len(returns) ** 0.5
        value = grid.interpolate(values[24 - remaining], at)
        assert abs(value - returns.mean().item()) < 0.02 + 4 * error


def test_reward_is_not_value():
    """Lesson 2: in the ravine the ground is low and the value high."""
    reference, grid = clone_route(RAVINE.route, RAVINE), Grid(65)
    value = exact.values(RAVINE, reference, grid)[0]
    ravine, hill = np.array([0.0, 0.2]), np.array([-1.6, 1.5])
    assert RAVINE.height(ravine) < -0.4 and grid.interpolate(value, ravine) > 5
    assert RAVINE.height(hill) > 0.5 and grid.interpolate(value, hill) > 5


def test_a_tilted_plane_in_closed_form():
    """r = g . s and a constant mean m: J = sum_t g . (start + t STEP m), for any gamma, exactly."""
    terrain, policy, grid = slope(0.7, -0.4), marching([0.9, 0.3]), Grid(33)
    g, mean = np.array([0.7, -0.4]), np.array([0.9, 0.3])
    for gamma in (1.0, 0.8):
        by_hand = sum(gamma ** (t - 1) * g @ (np.array([0.1, -0.2]) + t * STEP * mean) for t in range(1, 5))
        assert exact.expected_return(terrain, policy, grid, gamma=gamma) == pytest.approx(by_hand, abs=1e-6)


def test_discounted_values_against_sampled_paths():
    policy, terrain = wandering(), RAVINE.replace(gamma=0.9)
    returns = sample_paths(terrain, policy, 60_000, 1).returns
    error = returns.std().item() / len(returns) ** 0.5
    assert abs(exact.expected_return(terrain, policy, Grid(65)) - returns.mean().item()) < 0.01 + 4 * error
    undiscounted = exact.expected_return(terrain, policy, Grid(65), gamma=1.0)
    assert undiscounted == pytest.approx(exact.expected_return(RAVINE, policy, Grid(65)))


def test_sea_level_raises_every_return_by_its_sum():
    policy, grid = wandering(), Grid(33)
    base = exact.expected_return(RAVINE, policy, grid)
    raised = exact.expected_return(RAVINE.replace(sea_level=1.5), policy, grid)
    assert raised - base == pytest.approx(24 * 1.5, abs=1e-9)


def test_occupancy_against_sampled_paths_and_the_dual_form_of_j():
    policy, grid = wandering(), Grid(129)
    mass = exact.occupancy(RAVINE, policy, grid)
    assert mass.shape == (25, 129, 129) and mass.min() >= 0
    assert np.allclose(mass.sum((1, 2)), 1, atol=1e-12)
    dual = (mass[1:] * exact.altitude(RAVINE, grid)).sum()
    assert dual == pytest.approx(exact.expected_return(RAVINE, policy, grid), abs=1e-9)
    states = sample_paths(RAVINE, policy, 100_000, 2).states.numpy()
    axis = grid.axis
    for t in (0, 6, 24):
        by_grid, by_paths = mass[t].reshape(-1), states[:, t]
        mean = by_grid @ grid.points
        assert np.allclose(mean, by_paths.mean(0), atol=0.01)
        deviation = np.sqrt(by_grid @ (grid.points - mean) ** 2)
        assert np.allclose(deviation, by_paths.std(0), rtol=0.02 if t else 0.05)
        # the share of the east, and that of the north-east, whose edge runs between nodes
        edge = (axis[70] + axis[71]) / 2
        assert mass[t][:, 71:].sum() == pytest.approx((by_paths[:, 0] > edge).mean(), abs=0.015)
        assert mass[t][71:, 71:].sum() == pytest.approx((by_paths > edge).all(1).mean(), abs=0.015)


def test_stationary_values_solve_their_equation_and_are_the_limit_of_long_horizons():
    operator = Operator(wandering(), Grid(33))
    reward = exact.altitude(RAVINE, operator.grid)
    for gamma in (0.0, 0.9, 0.98):
        value = exact.stationary_values(RAVINE, operator, operator.grid, gamma=gamma)
        assert np.abs(operator.apply(reward + gamma * value) - value).max() < 1e-8
    long = exact.values(RAVINE, operator, operator.grid, horizon=400, gamma=0.9)
    limit = exact.stationary_values(RAVINE, operator, operator.grid, gamma=0.9)
    assert np.abs(long[0] - limit).max() < 1e-6


def test_stationary_values_against_sampled_paths():
    policy, terrain = wandering(), RAVINE.replace(gamma=0.9)
    returns = sample_paths(terrain, policy, 20_000, 3, horizon=150).returns
    error = returns.std().item() / len(returns) ** 0.5
    grid = Grid(65)
    value = exact.stationary_values(terrain, policy, grid)
    j = (exact.start_mass(terrain, grid) * value).sum()
    assert abs(j - returns.mean().item()) < 0.015 + 4 * error
    mass = exact.stationary_occupancy(terrain, policy, grid)
    assert mass.sum() == pytest.approx(1, abs=1e-7)
    landed = Operator(policy, grid).transpose(mass)
    assert (landed * exact.altitude(terrain, grid)).sum() / 0.1 == pytest.approx(j, abs=1e-6)


@pytest.mark.parametrize("gamma", [1.0, -0.1, float("nan")])
def test_a_walk_without_end_needs_a_discount(gamma):
    with pytest.raises(ValueError, match="below 1"):
        exact.stationary_values(RAVINE, wandering(), Grid(9), gamma=gamma)


def test_trajectory_kl_against_log_ratios_of_sampled_paths():
    reference = clone_route(RAVINE.route, RAVINE)
    policy = reference.copy()
    with torch.no_grad():
        policy.layers[-1].bias.add_(torch.tensor([0.15, -0.05]))
        policy.layers[1].weight.mul_(1.1)
        policy.log_std.sub_(0.1)
    paths = sample_paths(RAVINE, policy, 60_000, 5)
    with torch.no_grad():
        ratio = (paths.logp - reference.log_prob(paths.states[:, :-1], paths.actions)).sum(-1)
    error = ratio.std().item() / len(ratio) ** 0.5
    by_grid = [exact.trajectory_kl(RAVINE, policy, reference, Grid(n)) for n in (33, 65, 129)]
    print(f"path KL: sampled {ratio.mean().item():.4f} +- {error:.4f}, at 33 / 65 / 129: {by_grid}")
    for found, tolerance in zip(by_grid, (0.03, 0.01, 0.005), strict=True):
        assert abs(found - ratio.mean().item()) < tolerance + 4 * error
    assert exact.trajectory_kl(RAVINE, reference, reference, Grid(33)) == 0


def test_trajectory_kl_in_closed_form():
    shift, sigma = np.array([0.3, -0.1]), 0.5
    kl = exact.trajectory_kl(RAVINE, marching([0.3, -0.1], sigma), marching([0.0, 0.0], sigma), Grid(17))
    assert kl == pytest.approx(24 * (shift @ shift) / (2 * sigma**2), rel=1e-9)


def test_goal_success_against_sampled_paths():
    terrain = load_terrain("goal")
    reference = clone_route(terrain.route, terrain)
    paths = sample_paths(terrain, reference, 60_000, 4)
    assert set(paths.returns.tolist()) == {0.0, 1.0}
    share = paths.returns.mean().item()
    error = math.sqrt(share / len(paths.returns))
    by_grid = [exact.expected_return(terrain, reference, Grid(n)) for n in (33, 65, 129)]
    print(f"success: sampled {share:.4f} +- {error:.4f}, at 33 / 65 / 129: {by_grid}")
    for found, tolerance in zip(by_grid, (0.01, 0.004, 0.002), strict=True):
        assert abs(found - share) < tolerance + 4 * error
    assert 0.05 < share < 0.15  # lesson 7 needs a success that is rare and not hopeless


def test_the_goal_is_no_part_of_a_walk_without_end():
    value = exact.stationary_values(load_terrain("goal"), wandering(), Grid(17), gamma=0.9)
    assert not value.any()
