"""The exact policy gradient, by quadrature of the policy-gradient theorem.

    grad J = sum_t gamma^t E_{rho_t} E_{a ~ pi} [ grad log pi(a | s) (Q_t(s, a) - V_t(s)) ]
    Q_t(s, a) = r(s') + gamma V_{t+1}(s')

With a reference and beta, of the penalised objective J - beta KL(paths): the penalty counts as a reward of
-beta KL(pi(s) || ref(s)) for being in s, to which its own derivative at the visited states is added.
Source: Sutton et al. 2000.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ridgeline.landscape.world.exact import altitude, goal_share, occupancy, step_kl
from ridgeline.landscape.world.grid import Grid
from ridgeline.landscape.world.operator import Operator, operator_of
from ridgeline.landscape.world.policy import GaussianPolicy
from ridgeline.landscape.world.terrain import Terrain


def policy_gradient(
    terrain: Terrain,
    policy: GaussianPolicy | Operator,
    grid: Grid,
    layer: str = "gold",
    horizon: int | None = None,
    gamma: float | None = None,
    reference: GaussianPolicy | None = None,
    beta: float = 0.0,
) -> Tensor:
    """Gradient of J, or of J - beta KL where a reference is given, in the flat parameters. `[356]`

    horizon, gamma: those of the terrain unless given. beta: reward units per nat; the KL is not discounted,
    so that it is that of `trajectory_kl`. Raises ValueError for a beta other than 0 without a reference, or
    with a discount below 1, for which the two would not add up to one objective.
    """
    operator = operator_of(policy, grid)
    steps = terrain.horizon if horizon is None else horizon
    discount = terrain.gamma if gamma is None else gamma
    if beta and reference is None:
        raise ValueError("beta needs the reference policy whose KL it prices")
    if beta and discount < 1:
        raise ValueError("the gradient of J - beta KL is defined for gamma = 1; set gamma or beta to that")
    price = beta * step_kl(operator, reference, grid) if reference is not None else np.zeros((grid.n, grid.n))
    visits = occupancy(terrain, operator, grid, steps)
    weighted = _action_values(terrain, operator, layer, steps, discount, price, visits)
    surrogate = _score_surrogate(operator, weighted)
    if beta and reference is not None:
        states = torch.from_numpy(grid.points)
        mass = torch.from_numpy(visits[:-1].sum(0).ravel())
        surrogate = surrogate - beta * (mass * operator.policy.kl(reference, states)).sum()
    gradients = torch.autograd.grad(surrogate, list(operator.policy.parameters()))
    return torch.cat([gradient.flatten() for gradient in gradients])


def _action_values(
    terrain: Terrain,
    operator: Operator,
    layer: str,
    steps: int,
    discount: float,
    price: np.ndarray,
    visits: np.ndarray,
) -> np.ndarray:
    """sum_t gamma^t rho_t(s) (Q_t(s, a_k) - E Q_t(s)), Q less the price of the states to come. `[n^2, K]`"""
    grid = operator.grid
    reward = altitude(terrain, grid, layer)
    following = goal_share(terrain, grid)
    total = np.zeros((grid.n**2, len(operator.weights)))
    for t in reversed(range(steps)):
        action_values = operator.at_landings(reward + following)
        expected = action_values @ operator.weights
        total += discount**t * visits[t].reshape(-1, 1) * (action_values - expected[:, None])
        following = discount * (expected.reshape(grid.n, grid.n) - price)
    return total


def _score_surrogate(operator: Operator, weighted: np.ndarray) -> Tensor:
    """A number whose gradient is sum_s sum_k w_k grad log pi(a_k | s) weighted[s, k].

    In mu and log sigma the score is z / sigma and z^2 - 1. The nodes are drawn in by c (see `operator`),
    hence the integral of a slope is c times, that of a curvature c^2 times too small: both are divided out.
    """
    z, weights, narrow = operator.z, operator.weights[:, None], operator.narrow
    along_mean = weighted @ (weights * z) / (operator.sigma * narrow)
    along_log_std = (weighted @ (weights * (z**2 - 1)) / narrow**2).sum(0)
    mean = operator.policy.mean(torch.from_numpy(operator.grid.points))
    return (mean * torch.from_numpy(along_mean)).sum() + (
        operator.policy.log_std * torch.from_numpy(along_log_std)
    ).sum()
