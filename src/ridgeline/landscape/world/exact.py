"""Exact quantities of a policy on a terrain, by the sparse operator M of its step: no sampling.

    V_t   = M (r + gamma V_{t+1}), V_T = 0          r is the altitude stepped on
    rho_{t+1} = M' rho_t                             from the uniform start square
    J     = sum_t gamma^t rho_{t+1} . r = rho_0 . V_0
    KL    = sum_t rho_t . KL(pi(s) || ref(s))        of whole paths, by the chain rule

"Exact" is up to the grid: what it costs is measured against sampled paths in tests/landscape/world.
Every function takes a policy or its `Operator`, which saves building it again.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.sparse.linalg as splinalg
import torch

from ridgeline.landscape.world.grid import Grid
from ridgeline.landscape.world.operator import Operator, operator_of
from ridgeline.landscape.world.policy import GaussianPolicy
from ridgeline.landscape.world.terrain import Terrain

_TOLERANCE = 1e-9
_MAX_SWEEPS = 100_000
_FINE = 8
"""Points a side by which the share of a cell inside the goal is counted."""


def altitude(terrain: Terrain, grid: Grid, layer: str = "gold") -> np.ndarray:
    """Altitude at every node, sea level included. `[n, n]`"""
    return terrain.height(grid.points, layer).reshape(grid.n, grid.n)


def goal_share(terrain: Terrain, grid: Grid) -> np.ndarray:
    """The share of each node's cell (h x h around it) that lies in the goal: `[n, n]`, 0 without a goal."""
    if terrain.goal is None:
        return np.zeros((grid.n, grid.n))
    offsets = ((np.arange(_FINE) + 0.5) / _FINE - 0.5) * grid.spacing
    fine_x, fine_y = np.meshgrid(offsets, offsets)
    fine = np.stack([fine_x.ravel(), fine_y.ravel()], -1)
    inside = terrain.in_goal(grid.points[:, None, :] + fine)
    return np.asarray(inside.mean(1).reshape(grid.n, grid.n))


def values(
    terrain: Terrain,
    policy: GaussianPolicy | Operator,
    grid: Grid,
    layer: str = "gold",
    horizon: int | None = None,
    gamma: float | None = None,
) -> np.ndarray:
    """V_t(s), the expected altitude still to be collected from s with T - t steps left. `[T + 1, n, n]`

    V_T = 0. horizon, gamma: those of the terrain unless given. In reward units.
    Source: Sutton and Barto 2018, section 4.1.
    """
    operator = operator_of(policy, grid)
    steps = terrain.horizon if horizon is None else horizon
    discount = terrain.gamma if gamma is None else gamma
    reward = altitude(terrain, grid, layer)
    result = np.zeros((steps + 1, grid.n, grid.n))
    for t in reversed(range(steps)):
        landed = reward + discount * result[t + 1]
        if t == steps - 1:
            landed = landed + goal_share(terrain, grid)
        result[t] = operator.apply(landed)
    return result


def stationary_values(
    terrain: Terrain,
    policy: GaussianPolicy | Operator,
    grid: Grid,
    layer: str = "gold",
    gamma: float | None = None,
) -> np.ndarray:
    """V(s) = M (r + gamma V) of a walk without end, gamma < 1. `[n, n]`, to within 1e-9 / (1 - gamma).

    A goal pays at the last step, and there is none here: it does not count. Raises ValueError for gamma not
    in [0, 1).
    """
    operator = operator_of(policy, grid)
    discount = infinite_discount(terrain.gamma if gamma is None else gamma)
    expected = operator.apply(altitude(terrain, grid, layer))
    return fixed_point(expected, lambda field: discount * operator.apply(field))


def occupancy(
    terrain: Terrain, policy: GaussianPolicy | Operator, grid: Grid, horizon: int | None = None
) -> np.ndarray:
    """rho_t, the distribution of the state at every step, as mass on the nodes: `[T + 1, n, n]`."""
    operator = operator_of(policy, grid)
    steps = terrain.horizon if horizon is None else horizon
    result = np.empty((steps + 1, grid.n, grid.n))
    result[0] = start_mass(terrain, grid)
    for t in range(steps):
        result[t + 1] = operator.transpose(result[t])
    return result


def stationary_occupancy(
    terrain: Terrain, policy: GaussianPolicy | Operator, grid: Grid, gamma: float | None = None
) -> np.ndarray:
    """(1 - gamma) sum_t gamma^t rho_t of a walk without end: `[n, n]`, sums to 1. gamma in [0, 1)."""
    operator = operator_of(policy, grid)
    discount = infinite_discount(terrain.gamma if gamma is None else gamma)
    start = (1 - discount) * start_mass(terrain, grid)
    return fixed_point(start, lambda mass: discount * operator.transpose(mass))


def start_mass(terrain: Terrain, grid: Grid) -> np.ndarray:
    """rho_0, the start square integrated over the hat functions of the nodes. `[n, n]`, sums to 1."""
    return grid.box(terrain.start, terrain.start_spread).reshape(grid.n, grid.n)


def expected_return(
    terrain: Terrain,
    policy: GaussianPolicy | Operator,
    grid: Grid,
    layer: str = "gold",
    horizon: int | None = None,
    gamma: float | None = None,
) -> float:
    """J = rho_0 . V_0, the expected (discounted) sum of altitudes of a path. Reward units."""
    first = values(terrain, policy, grid, layer, horizon, gamma)[0]
    return float((start_mass(terrain, grid) * first).sum())


def step_kl(policy: GaussianPolicy | Operator, reference: GaussianPolicy, grid: Grid) -> np.ndarray:
    """KL(pi || ref) of one action at every node. `[n, n]` nats."""
    walker = policy.policy if isinstance(policy, Operator) else policy
    with torch.no_grad():
        found = walker.kl(reference, torch.from_numpy(grid.points))
    return np.asarray(found.numpy().reshape(grid.n, grid.n))


def trajectory_kl(
    terrain: Terrain,
    policy: GaussianPolicy | Operator,
    reference: GaussianPolicy,
    grid: Grid,
    horizon: int | None = None,
) -> float:
    """KL between whole paths of policy and reference: sum_t E_rho_t KL(pi || ref). Nats per path."""
    visits = occupancy(terrain, policy, grid, horizon)[:-1].sum(0)
    return float((visits * step_kl(policy, reference, grid)).sum())


def infinite_discount(gamma: float) -> float:
    """gamma, where it is in [0, 1); else ValueError."""
    if not 0 <= gamma < 1:
        raise ValueError(f"gamma = {gamma} must be at least 0 and below 1 for a walk without end")
    return gamma


def fixed_point(constant: np.ndarray, shrink: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """x = constant + shrink(x) for a contraction: by BiCGSTAB, then swept until the residual is small."""
    size, shape = constant.size, constant.shape
    system = splinalg.LinearOperator(
        (size, size), lambda x: x - shrink(x.reshape(shape)).ravel(), dtype=np.float64
    )
    solution, _ = splinalg.bicgstab(system, constant.ravel(), rtol=1e-12, maxiter=500)
    x = solution.reshape(shape) if np.isfinite(solution).all() else constant
    for _ in range(_MAX_SWEEPS):
        swept = constant + shrink(x)
        if np.abs(swept - x).max() <= _TOLERANCE:
            return np.asarray(swept)
        x = swept
    raise RuntimeError(f"the fixed point was not reached in {_MAX_SWEEPS} sweeps")
