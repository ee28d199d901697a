"""The exact policy gradient: finite differences of sampled and of exact J, and a closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ridgeline.landscape.world import exact
from ridgeline.landscape.world.gradient import policy_gradient
from ridgeline.landscape.world.grid import Grid
from ridgeline.landscape.world.paths import sample_paths
from ridgeline.landscape.world.policy import GaussianPolicy
from ridgeline.landscape.world.reference import clone_route
from ridgeline.landscape.world.terrain import STEP, Layer
from ridgeline.landscape.world.terrain_file import load_terrain

RAVINE = load_terrain("ravine")


def _moved(seed=0):
    policy = clone_route(RAVINE.route, RAVINE)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(356, generator=generator, dtype=torch.float64)
    policy.assign(policy.flat() + 0.03 * noise)
    return policy


def _cosine(a, b):
    return (a @ b / (a.norm() * b.norm())).item()


def _sampled_gradient(policy, count, seed):
    """REINFORCE with reward to go and the mean of each step as baseline, over many paths."""
    paths = sample_paths(RAVINE, policy, count, seed)
    to_go = paths.rewards.flip(1).cumsum(1).flip(1)
    advantage = to_go - to_go.mean(0)
    weighted = (policy.log_prob(paths.states[:, :-1], paths.actions) * advantage).sum(1).mean()
    return torch.cat([g.flatten() for g in torch.autograd.grad(weighted, list(policy.parameters()))])


def test_against_many_sampled_paths():
    policy = _moved()
    sampled = torch.stack([_sampled_gradient(policy, 20_000, seed) for seed in range(6)]).mean(0)
    for n, least, norm in ((33, 0.99, 0.05), (65, 0.995, 0.03), (129, 0.995, 0.03)):
        found = policy_gradient(RAVINE, policy, Grid(n))
        cosine, ratio = _cosine(found, sampled), (found.norm() / sampled.norm()).item()
        print(f"n {n}: cosine {cosine:.5f}, norm ratio {ratio:.4f}, log sigma {found[:2]} {sampled[:2]}")
        assert cosine > least and abs(ratio - 1) < norm


@pytest.mark.parametrize("beta", [0.0, 0.5])
@pytest.mark.parametrize("layer", ["gold", "proxy"])
def test_against_finite_differences_of_the_exact_objective(layer, beta):
    """Slopes along random directions, of J - beta KL on the same grid."""
    grid, policy, reference = Grid(65), _moved(1), clone_route(RAVINE.route, RAVINE)
    gradient = policy_gradient(RAVINE, policy, grid, layer, reference=reference, beta=beta)

    def objective(flat):
        trial = policy.copy()
        trial.assign(flat)
        kl = exact.trajectory_kl(RAVINE, trial, reference, grid) if beta else 0.0
        return exact.expected_return(RAVINE, trial, grid, layer) - beta * kl

    generator = torch.Generator().manual_seed(2)
    directions = torch.randn(6, 356, generator=generator, dtype=torch.float64) / 356**0.5
    directions[0], directions[1] = gradient / gradient.norm(), 0.0
    directions[1, list_position(policy)] = 1.0  # log sigma of x alone
    flat, eps = policy.flat(), 1e-2
    for direction in directions:
        by_difference = (objective(flat + eps * direction) - objective(flat - eps * direction)) / (2 * eps)
        assert by_difference == pytest.approx(
            (gradient @ direction).item(), abs=0.03 * gradient.norm().item()
        )
    along = (objective(flat + eps * directions[0]) - objective(flat - eps * directions[0])) / (2 * eps)
    assert along == pytest.approx(gradient.norm().item(), rel=0.03)


def list_position(policy):
    """Where log_std starts in the flat vector."""
    position = 0
    for name, parameter in policy.named_parameters():
        if name == "log_std":
            return position
        position += parameter.numel()
    raise AssertionError("no log_std")


def test_a_tilted_plane_in_closed_form():
    """J = sum_t g . (start + t STEP m): dJ/dm = STEP g T (T + 1) / 2, and nothing in log sigma."""
    image = np.array([[-0.9, 3.3], [-3.3, 0.9]])  # 0.7 x - 0.4 y
    terrain = load_terrain("plain").replace(layers=(Layer("gold", (), image),), start=(0.1, -0.2), horizon=4)
    policy = GaussianPolicy(0, 0.2)
    with torch.no_grad():
        policy.layers[-1].weight.zero_()
        policy.layers[-1].bias.copy_(torch.tensor([0.9, 0.3]))
    gradient = policy_gradient(terrain, policy, Grid(33))
    probe = policy.copy()
    probe.assign(gradient)
    expected = STEP * 10 * torch.tensor([0.7, -0.4], dtype=torch.float64)
    # drawn-in nodes at most halve the reach of a step that is narrower than a cell: divided out exactly
    assert torch.allclose(probe.layers[-1].bias, expected, atol=1e-6)
    assert probe.log_std.abs().max() < 1e-6


def test_a_constant_altitude_has_no_gradient():
    terrain = RAVINE.replace(layers=(Layer("gold", ()),), sea_level=5.0)
    assert policy_gradient(terrain, _moved(), Grid(33)).abs().max() < 1e-9
    raised = policy_gradient(RAVINE.replace(sea_level=5.0), _moved(), Grid(33))
    assert torch.allclose(raised, policy_gradient(RAVINE, _moved(), Grid(33)), atol=1e-8)


def test_beta_needs_a_reference_and_no_discount():
    with pytest.raises(ValueError, match="reference"):
        policy_gradient(RAVINE, _moved(), Grid(9), beta=0.1)
    with pytest.raises(ValueError, match="gamma = 1"):
        policy_gradient(RAVINE, _moved(), Grid(9), gamma=0.9, reference=_moved(), beta=0.1)
