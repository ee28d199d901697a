"""Grid and operator: weights, moments and adjoints."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ridgeline.landscape.world.grid import Grid
from ridgeline.landscape.world.operator import Operator, operator_of
from ridgeline.landscape.world.policy import GaussianPolicy


def _policy(seed=3, sigma=0.6):
    policy = GaussianPolicy(seed, sigma)
    with torch.no_grad():
        policy.layers[-1].weight.mul_(10)
        policy.log_std.add_(torch.tensor([0.1, -0.1]))
    return policy


def test_interpolation_is_exact_on_bilinear_fields_and_the_right_way_round():
    grid = Grid(9)
    x, y = grid.points[:, 0], grid.points[:, 1]
    field = (2 + 3 * x - y + 0.5 * x * y).reshape(9, 9)
    states = np.random.default_rng(0).uniform(-3, 3, (6, 4, 2))
    expected = 2 + 3 * states[..., 0] - states[..., 1] + 0.5 * states[..., 0] * states[..., 1]
    assert np.allclose(grid.interpolate(field, states), expected, atol=1e-12)
    assert np.allclose(grid.interpolate(field, torch.from_numpy(states)).numpy(), expected, atol=1e-12)
    assert field[0, -1] == pytest.approx(2 + 9 + 3 - 4.5)  # row 0: y = -3, last column: x = 3
    steps = grid.interpolate_steps(np.stack([field, 2 * field, -field, field]), torch.from_numpy(states))
    assert np.allclose(steps.numpy(), expected * np.array([1, 2, -1, 1]), atol=1e-12)


@pytest.mark.parametrize("spread", [0.0, 0.04, 0.15, 1.0])
def test_start_square_is_integrated_exactly(spread):
    grid = Grid(33)
    mass = grid.box((-1.97, 1.4), spread)
    assert mass.min() >= 0 and mass.sum() == pytest.approx(1, abs=1e-12)
    assert np.allclose(mass @ grid.points, [-1.97, 1.4], atol=1e-12)
    field = np.random.default_rng(1).standard_normal((33, 33))
    offsets = (np.arange(400) + 0.5) / 200 - 1
    x, y = np.meshgrid(-1.97 + spread * offsets, 1.4 + spread * offsets)
    mean = grid.interpolate(field, np.stack([x, y], -1)).mean()
    assert mass @ field.ravel() == pytest.approx(mean, abs=2e-4)


@pytest.mark.parametrize("n", [33, 65])
def test_rows_are_distributions_with_the_mean_and_variance_of_the_step(n):
    grid, policy = Grid(n), _policy()
    operator = Operator(policy, grid)
    assert operator.matrix.data.min() >= 0
    assert np.allclose(operator.matrix.sum(1), 1, atol=1e-12)
    inside = np.abs(grid.points).max(1) < 1.5  # far from the bounds: no clipping
    with torch.no_grad():
        centre = grid.points + 0.30 * policy.mean(torch.from_numpy(grid.points)).numpy()
        sigma = 0.30 * policy.log_std.exp().numpy()
    mean = operator.matrix @ grid.points
    variance = operator.matrix @ grid.points**2 - mean**2
    assert np.allclose(mean[inside], centre[inside], atol=1e-10)
    # drawn-in nodes: within 2 %; without them bilinear landing adds h^2 / 6, 18 % at n = 33
    assert np.abs(variance[inside] / sigma**2 - 1).max() < 0.02
    plain = Operator(policy, grid, draw_in=False)
    spread = plain.matrix @ grid.points**2 - (plain.matrix @ grid.points) ** 2
    assert (spread[inside] / sigma**2 - 1).mean() == pytest.approx(
        (grid.spacing**2 / 6 / sigma**2).mean(), rel=0.15
    )


@pytest.mark.parametrize("sigma", [0.6, 0.05])
@pytest.mark.parametrize("n", [33, 65])
def test_merged_matrix_landings_and_transpose_agree(n, sigma):
    operator = Operator(_policy(sigma=sigma), Grid(n))
    rng = np.random.default_rng(0)
    field, mass = rng.standard_normal((n, n)), rng.random((n, n))
    by_actions = (operator.at_landings(field) @ operator.weights).reshape(n, n)
    assert np.allclose(operator.apply(field), by_actions, atol=1e-12)
    assert operator.transpose(mass).sum() == pytest.approx(mass.sum())
    assert (operator.transpose(mass) * field).sum() == pytest.approx((mass * operator.apply(field)).sum())
    spread = mass.reshape(-1, 1) * operator.weights
    assert np.allclose(operator.from_landings(spread), operator.transpose(mass), atol=1e-12)


def test_steps_stop_at_the_bounds():
    policy = GaussianPolicy(0, 0.1)
    with torch.no_grad():
        policy.layers[-1].bias.copy_(torch.tensor([30.0, -30.0]))
    operator = Operator(policy, Grid(17))
    corner = np.zeros((17, 17))
    corner[0, -1] = 1  # lowest y, highest x
    assert np.allclose(operator.apply(corner), 1)


def test_an_operator_of_another_grid_is_refused():
    with pytest.raises(ValueError, match="33 grid"):
        operator_of(Operator(_policy(), Grid(33)), Grid(65))
