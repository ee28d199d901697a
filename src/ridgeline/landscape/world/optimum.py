"""The exact optimum of J - beta KL(paths): the best that any algorithm could reach under a KL penalty.

    V*_t(s) = beta log E_{a ~ ref} exp(Q*_t(s, a) / beta),    Q*_t(s, a) = r(s') + V*_{t+1}(s')
    pi*_t(a | s) = ref(a | s) exp((Q*_t(s, a) - V*_t(s)) / beta)

The policy is free: any distribution over the actions of the quadrature, another one at each step, not only a
Gaussian of one network. Everything is kept in log scale. Source: Todorov 2009; Levine 2018.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from ridgeline.landscape.world.exact import altitude, fixed_point, goal_share, infinite_discount, start_mass
from ridgeline.landscape.world.grid import Grid
from ridgeline.landscape.world.operator import Operator, operator_of
from ridgeline.landscape.world.policy import GaussianPolicy
from ridgeline.landscape.world.terrain import Terrain

OPTIMUM_NODES = 9
_TOLERANCE = 1e-8
_MAX_ITERATIONS = 60


@dataclass(frozen=True)
class Optimum:
    """The optimum seen from the terrain's start: objective = return_ - beta * kl, each summed by itself.

    values `[T + 1, n, n]`: V*_t, reward units. return_: reward units. kl: nats per path, to the reference.
    """

    objective: float
    return_: float
    kl: float
    values: np.ndarray


def optimum(
    terrain: Terrain,
    reference: GaussianPolicy | Operator,
    beta: float,
    grid: Grid,
    layer: str = "gold",
    horizon: int | None = None,
) -> Optimum:
    """The optimum of J - beta KL to the reference, undiscounted. horizon: steps, the terrain's unless given.

    beta: reward units per nat, above 0; ValueError otherwise. The reference is integrated with 9 x 9 actions
    instead of 7 x 7, because the optimum leans on the far ones; one given as `optimum_operator(reference,
    grid)` is not built again.
    """
    operator = _operator(reference, grid)
    steps = terrain.horizon if horizon is None else horizon
    log_weights = np.log(operator.weights)
    reward = altitude(terrain, grid, layer)
    result = np.zeros((steps + 1, grid.n, grid.n))
    collected, divergence = np.zeros((grid.n, grid.n)), np.zeros((grid.n, grid.n))
    for t in reversed(range(steps)):
        earned = reward + goal_share(terrain, grid) if t == steps - 1 else reward
        log_value, share = _tilt(_landed(operator, earned + result[t + 1]), beta, log_weights)
        result[t] = beta * log_value.reshape(grid.n, grid.n)
        collected = _expected(operator, share, earned + collected)
        divergence = _step_kl(share, log_weights, grid) + _expected(operator, share, divergence)
    start = start_mass(terrain, grid)
    return Optimum(
        objective=float((start * result[0]).sum()),
        return_=float((start * collected).sum()),
        kl=float((start * divergence).sum()),
        values=result,
    )


def optimal_occupancy(
    terrain: Terrain,
    reference: GaussianPolicy | Operator,
    beta: float,
    grid: Grid,
    layer: str = "gold",
    horizon: int | None = None,
) -> np.ndarray:
    """Where the optimum walks: mass on the nodes at every step, `[T + 1, n, n]`. Arguments as `optimum`."""
    operator = _operator(reference, grid)
    best = optimum(terrain, operator, beta, grid, layer, horizon).values
    steps = len(best) - 1
    reward = altitude(terrain, grid, layer)
    result = np.empty_like(best)
    result[0] = start_mass(terrain, grid)
    for t in range(steps):
        earned = reward + goal_share(terrain, grid) if t == steps - 1 else reward
        _, share = _tilt(_landed(operator, earned + best[t + 1]), beta, np.log(operator.weights))
        result[t + 1] = operator.from_landings(result[t].reshape(-1, 1) * share)
    return result


def stationary_optimum(
    terrain: Terrain,
    reference: GaussianPolicy | Operator,
    beta: float,
    grid: Grid,
    layer: str = "gold",
    gamma: float | None = None,
) -> np.ndarray:
    """V*(s) of a walk without end, rewards and KL discounted alike: `[n, n]`, reward units.

        V*(s) = beta log E_{a ~ ref} exp((r(s') + gamma V*(s')) / beta)

    By policy iteration (tilt, then solve the linear equation of the tilted policy), until the equation holds
    to 1e-8. gamma: the terrain's unless given, in [0, 1), else ValueError.
    """
    operator = _operator(reference, grid)
    discount = infinite_discount(terrain.gamma if gamma is None else gamma)
    log_weights = np.log(operator.weights)
    reward = altitude(terrain, grid, layer)
    value = np.zeros((grid.n, grid.n))
    for _ in range(_MAX_ITERATIONS):
        log_value, share = _tilt(_landed(operator, reward + discount * value), beta, log_weights)
        improved = beta * log_value.reshape(grid.n, grid.n)
        if np.abs(improved - value).max() <= _TOLERANCE:
            return improved
        earned = _expected(operator, share, reward) - beta * _step_kl(share, log_weights, grid)
        value = fixed_point(earned, partial(_discounted, operator, share, discount))
    raise RuntimeError(f"the optimum was not reached in {_MAX_ITERATIONS} iterations; raise beta")


def _landed(operator: Operator, field: np.ndarray) -> np.ndarray:
    """The field where the actions land, `[n, n]` -> `[n^2, K]`.

    Bilinear reading lies h^2 / 12 of the curvature off on average, per coordinate; that much is taken from
    the field beforehand. Drawing in the nodes, as for a fixed policy, would instead shorten what a tilt of
    the actions can reach.
    """
    edged = np.pad(field, 1, mode="reflect", reflect_type="odd")
    around = edged[:-2, 1:-1] + edged[2:, 1:-1] + edged[1:-1, :-2] + edged[1:-1, 2:]
    return operator.at_landings(field - (around - 4 * field) / 12)


def optimum_operator(reference: GaussianPolicy, grid: Grid) -> Operator:
    """The reference's step as the functions of this module need it."""
    return Operator(reference, grid, OPTIMUM_NODES, draw_in=False)


def _operator(reference: GaussianPolicy | Operator, grid: Grid) -> Operator:
    if isinstance(reference, GaussianPolicy):
        return optimum_operator(reference, grid)
    if reference.drawn_in:
        raise ValueError("the nodes of this operator are drawn in; the optimum needs `optimum_operator`")
    return operator_of(reference, grid)


def _tilt(action_values: np.ndarray, beta: float, log_weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log sum_k w_k e^{Q_k / beta} `[n^2]`, and the shares w_k e^{Q_k / beta} / sum, from Q `[n^2, K]`."""
    if not beta > 0:
        raise ValueError(f"beta = {beta} must be above 0: without a price of KL there is no finite optimum")
    logits = action_values / beta + log_weights
    top = logits.max(1, keepdims=True)
    share = np.exp(logits - top)
    total = share.sum(1, keepdims=True)
    return (top + np.log(total))[:, 0], share / total


def _expected(operator: Operator, share: np.ndarray, field: np.ndarray) -> np.ndarray:
    """The field after one step of the tilted policy. `[n, n]` -> `[n, n]`"""
    found: np.ndarray = (_landed(operator, field) * share).sum(1).reshape(field.shape)
    return found


def _discounted(operator: Operator, share: np.ndarray, discount: float, field: np.ndarray) -> np.ndarray:
    return discount * _expected(operator, share, field)


def _step_kl(share: np.ndarray, log_weights: np.ndarray, grid: Grid) -> np.ndarray:
    """KL(tilted || reference) of one action, `[n, n]` nats; a share that underflowed to 0 counts as 0."""
    logs = np.log(np.where(share > 0, share, 1.0)) - log_weights
    return np.asarray((share * logs).sum(1).reshape(grid.n, grid.n))
