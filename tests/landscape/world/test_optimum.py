"""The optimum of J - beta KL: closed form, brute force, and better than any policy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.oracles import grid_world

from ridgeline.landscape.world import exact
from ridgeline.landscape.world.gradient import policy_gradient
from ridgeline.landscape.world.grid import Grid
from ridgeline.landscape.world.operator import Operator
from ridgeline.landscape.world.optimum import (
    optimal_occupancy,
    optimum,
    optimum_operator,
    stationary_optimum,
)
from ridgeline.landscape.world.policy import GaussianPolicy
from ridgeline.landscape.world.reference import clone_route
from ridgeline.landscape.world.terrain import STEP, Layer
from ridgeline.landscape.world.terrain_file import load_terrain

RAVINE = load_terrain("ravine")


@pytest.fixture(scope="module")
def reference():
    return clone_route(RAVINE.route, RAVINE)


def test_a_tilted_plane_in_closed_form():
    """r = g . s: V* is linear, and step t is tilted by k = T - t: KL = (k STEP sigma |g|)^2 / (2 beta^2)."""
    g, sigma, beta, steps = np.array([0.7, -0.4]), 0.5, 1.5, 4
    image = np.array([[-0.9, 3.3], [-3.3, 0.9]])  # 0.7 x - 0.4 y
    terrain = load_terrain("plain").replace(layers=(Layer("gold", (), image),), start=(0.1, -0.2), horizon=4)
    still = GaussianPolicy(0, sigma)
    with torch.no_grad():
        still.layers[-1].weight.zero_()
        still.layers[-1].bias.zero_()
    gain = sum((k * STEP * sigma) ** 2 * (g @ g) / (2 * beta) for k in range(1, steps + 1))
    unmoved = steps * g @ np.array([0.1, -0.2])
    best = optimum(terrain, still, beta, Grid(65))
    assert best.objective == pytest.approx(unmoved + gain, abs=1e-4)
    assert best.kl == pytest.approx(gain / beta, rel=1e-3)
    assert best.return_ == pytest.approx(unmoved + 2 * gain, abs=1e-4)


def test_brute_force_on_a_tiny_grid():
    """2 x 2 nodes, 2 x 2 actions, 3 steps: every path written out by tests/oracles/grid_world.py.

    On two nodes a side a field has no curvature to correct, so that reading it is plain bilinear reading.
    """
    beta, steps, grid = 0.4, 3, Grid(2)
    policy = GaussianPolicy(1, 3.0)
    with torch.no_grad():
        policy.layers[-1].weight.mul_(8)
    image = np.array([[-1.0, 0.5], [0.3, 2.0]])
    terrain = load_terrain("plain").replace(
        layers=(Layer("gold", (), image),), start=(0.4, -1.0), start_spread=0.3, horizon=steps
    )
    operator = Operator(policy, grid, nodes=2, draw_in=False)
    chances = np.asarray(operator.landings.toarray()).reshape(4, 4, 4).tolist()
    weights = [operator.weights.tolist()] * 4
    rewards = exact.altitude(terrain, grid).ravel().tolist()
    start = exact.start_mass(terrain, grid).ravel().tolist()
    best = grid_world.best_policy(chances, weights, rewards, steps, beta)
    found = optimum(terrain, operator, beta, grid)
    assert found.return_ == pytest.approx(grid_world.path_return(chances, best, rewards, start), abs=1e-10)
    assert found.kl == pytest.approx(grid_world.path_kl(chances, best, weights, start), abs=1e-10)
    assert found.kl > 0.1 and found.objective == pytest.approx(found.return_ - beta * found.kl, abs=1e-10)
    by_paths = grid_world.path_return(chances, [weights] * steps, rewards, start, gamma=0.7)
    assert exact.expected_return(terrain, operator, grid, gamma=0.7) == pytest.approx(by_paths, abs=1e-10)


@pytest.mark.parametrize("beta", [2.0, 0.6])
def test_objective_is_return_minus_price_and_the_walk_agrees(reference, beta):
    grid = Grid(33)
    operator = optimum_operator(reference, grid)
    best = optimum(RAVINE, operator, beta, grid, "proxy")
    assert best.objective == pytest.approx(best.return_ - beta * best.kl, abs=1e-9)
    mass = optimal_occupancy(RAVINE, operator, beta, grid, "proxy")
    assert np.allclose(mass.sum((1, 2)), 1, atol=1e-9)
    walked = (mass[1:] * exact.altitude(RAVINE, grid, "proxy")).sum()
    assert walked == pytest.approx(best.return_, rel=0.06)  # landings spread mass, readings do not


def test_the_kl_is_the_slope_in_beta(reference):
    """dV*/d beta = -KL, the envelope theorem: an independent check of the tilted recursion."""
    operator = optimum_operator(reference, Grid(33))
    above, at, below = (optimum(RAVINE, operator, b, operator.grid) for b in (0.61, 0.6, 0.59))
    assert (below.objective - above.objective) / 0.02 == pytest.approx(at.kl, rel=2e-3)


def test_great_beta_gives_the_reference_and_less_beta_never_less(reference):
    grid = Grid(65)
    operator = optimum_operator(reference, grid)
    found = [optimum(RAVINE, operator, beta, grid) for beta in (1e6, 4.0, 1.0, 0.4)]
    assert found[0].kl < 1e-6
    assert found[0].return_ == pytest.approx(exact.expected_return(RAVINE, reference, grid), abs=0.02)
    for key in ("objective", "return_", "kl"):
        series = [getattr(best, key) for best in found]
        assert series == sorted(series)


def test_no_policy_is_better(reference):
    """Not the reference, not its random neighbours, not one trained on the exact penalised gradient."""
    beta, grid = 1.0, Grid(33)
    best = optimum(RAVINE, reference, beta, grid).objective

    def objective(policy):
        operator = Operator(policy, grid)
        kl = exact.trajectory_kl(RAVINE, operator, reference, grid)
        return exact.expected_return(RAVINE, operator, grid) - beta * kl

    generator = torch.Generator().manual_seed(0)
    for scale in (0.0, 0.01, 0.03, 0.1):
        policy = reference.copy()
        noise = torch.randn(356, generator=generator, dtype=torch.float64)
        policy.assign(policy.flat() + scale * noise)
        assert objective(policy) < best
    trained = reference.copy()
    adam = torch.optim.Adam(trained.parameters(), lr=0.02)
    for _ in range(60):
        gradient = policy_gradient(RAVINE, trained, grid, reference=reference, beta=beta)
        probe = trained.copy()
        probe.assign(-gradient)
        for parameter, slope in zip(trained.parameters(), probe.parameters(), strict=True):
            parameter.grad = slope.detach()
        adam.step()
    start, end = objective(reference), objective(trained)
    print(f"J - KL: reference {start:.3f}, trained on the exact gradient {end:.3f}, optimum {best:.3f}")
    # Gaussian, one network for all steps: it gets most of the way and no further
    assert start + 0.5 * (best - start) < end < best


def test_the_grid_costs_little(reference):
    found = {n: optimum(RAVINE, reference, 1.0, Grid(n), "proxy") for n in (33, 65, 129)}
    print({n: (best.objective, best.return_, best.kl) for n, best in found.items()})
    # measured 3.177, 3.185, 3.184
    assert found[65].objective == pytest.approx(found[129].objective, abs=0.01)
    assert found[33].objective == pytest.approx(found[129].objective, abs=0.03)


def test_stationary_optimum_is_the_fixed_point(reference):
    grid, gamma, beta = Grid(33), 0.9, 0.8
    operator = optimum_operator(reference, grid)
    value = stationary_optimum(RAVINE, operator, beta, grid, gamma=gamma)
    swept = np.zeros_like(value)  # soft value iteration: slow, and nothing but the equation
    reward = exact.altitude(RAVINE, grid)
    for _ in range(150):
        field = reward + gamma * swept
        around = np.pad(field, 1, mode="reflect", reflect_type="odd")
        around = around[:-2, 1:-1] + around[2:, 1:-1] + around[1:-1, :-2] + around[1:-1, 2:] - 4 * field
        logits = operator.at_landings(field - around / 12) / beta
        swept = beta * np.log(np.exp(logits) @ operator.weights).reshape(33, 33)
    assert np.abs(value - swept).max() < 1e-5
    assert (value >= exact.stationary_values(RAVINE, reference, grid, gamma=gamma) - 0.02).all()


@pytest.mark.parametrize("beta", [0.0, -1.0, float("nan")])
def test_beta_must_cost_something(reference, beta):
    with pytest.raises(ValueError, match="above 0"):
        optimum(RAVINE, reference, beta, Grid(9))


def test_a_tiny_beta_stays_finite(reference):
    best = optimum(RAVINE, reference, 0.01, Grid(17), "proxy")
    assert np.isfinite(best.values).all() and np.isfinite([best.objective, best.return_, best.kl]).all()


def test_an_operator_with_drawn_in_nodes_is_refused(reference):
    with pytest.raises(ValueError, match="optimum_operator"):
        optimum(RAVINE, Operator(reference, Grid(9)), 1.0, Grid(9))
