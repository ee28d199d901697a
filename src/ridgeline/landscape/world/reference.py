"""The reference policy: a behaviour clone of a drawn route, and the corridor its own cloud of paths fills."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ridgeline.landscape.world.exact import occupancy
from ridgeline.landscape.world.grid import BOUND, Grid
from ridgeline.landscape.world.operator import Operator
from ridgeline.landscape.world.policy import GaussianPolicy
from ridgeline.landscape.world.terrain import STEP, Terrain
from ridgeline.schema.errors import DataError

_NEAR, _ANYWHERE = 400, 200
_NEAR_SPREAD = 0.4
_PULL = 0.15
_MAX_ACTION = 1.0
_MAX_ITERATIONS = 60


def clone_route(
    route: Sequence[tuple[float, float]], terrain: Terrain, sigma: float | None = None, seed: int = 0
) -> GaussianPolicy:
    """A policy that walks along the route at an even pace, arrives at the horizon and stays there.

    Its mean is fitted by least squares to what `route_action` does at 600 states, two thirds of them near the
    route. The route should not cross itself: the policy knows where it is and not when. sigma: standard
    deviation of the actions, the terrain's unless given. The same seed gives the same policy. Raises
    DataError for fewer than 2 points, or points that are not finite.
    """
    line = np.asarray(route, dtype=np.float64)
    if line.ndim != 2 or line.shape[-1] != 2 or len(line) < 2 or not np.isfinite(line).all():
        raise DataError(f"route: {len(line)} points; draw at least 2 points (x, y)")
    rng = np.random.default_rng(seed)
    near = _along(line, rng.random(_NEAR)) + _NEAR_SPREAD * rng.standard_normal((_NEAR, 2))
    anywhere = rng.uniform(-BOUND, BOUND, (_ANYWHERE, 2))
    states = np.concatenate([near, anywhere]).clip(-BOUND, BOUND)
    policy = GaussianPolicy(seed, terrain.sigma if sigma is None else sigma)
    _fit(policy, torch.from_numpy(states), torch.from_numpy(route_action(line, states, terrain.horizon)))
    return policy


def route_action(line: np.ndarray, states: np.ndarray, horizon: int) -> np.ndarray:
    """What a walker on the route does: go on along it, and close 15 % of the distance to it.

    line `[P, 2]`, states `[N, 2]` -> actions `[N, 2]` of length 1 at most. The pace takes the whole line in
    `horizon` steps.
    """
    starts, pieces = line[:-1], np.diff(line, axis=0)
    lengths = np.linalg.norm(pieces, axis=-1)
    total = lengths.sum()
    # [state, piece]: the nearest point of every piece
    offset = states[:, None] - starts
    share = ((offset * pieces).sum(-1) / np.maximum(lengths**2, 1e-12)).clip(0.0, 1.0)
    distance = np.linalg.norm(offset - share[..., None] * pieces, axis=-1)
    piece = distance.argmin(-1)
    rows = np.arange(len(states))
    travelled = (np.cumsum(lengths) - lengths)[piece] + share[rows, piece] * lengths[piece]
    nearest = starts[piece] + share[rows, piece][:, None] * pieces[piece]
    ahead = (travelled + total / horizon) / max(total, 1e-12)
    wanted = _along(line, np.minimum(ahead, 1.0)) - nearest + _PULL * (nearest - states)
    action = wanted / STEP
    norm = np.linalg.norm(action, axis=-1, keepdims=True)
    return np.asarray(action * np.minimum(1.0, _MAX_ACTION / np.maximum(norm, 1e-12)))


@dataclass(frozen=True)
class Corridor:
    """The reference's own cloud, step by step: mean `[T + 1, 2]`, cov `[T + 1, 2, 2]`, world units.

    The tube of a budget of e nats is sqrt(2 e) standard deviations wide (`tube_width`): in the
    linear-Gaussian approximation that is the least KL that shifts the mean position of step t by so much.
    """

    mean: np.ndarray
    cov: np.ndarray


def corridor(
    terrain: Terrain, reference: GaussianPolicy | Operator, grid: Grid, horizon: int | None = None
) -> Corridor:
    """Mean and covariance of the reference's position at every step, from its exact occupancy."""
    mass = occupancy(terrain, reference, grid, horizon).reshape(-1, grid.n**2)
    mean = mass @ grid.points
    second = np.einsum("ts,si,sj->tij", mass, grid.points, grid.points, optimize=True)
    return Corridor(mean, second - mean[:, :, None] * mean[:, None, :])


def ring_radius(sigma: np.ndarray, nats: float) -> np.ndarray:
    """sigma sqrt(2 e): how far the mean action may move from the reference's for e nats a step. Action units.

    sigma: that of both policies, `[2]`; an ellipse when its entries differ. From KL = |mu - mu_ref|^2 /
    (2 sigma^2).
    """
    return np.asarray(sigma) * tube_width(nats)


def tube_width(nats: float) -> float:
    """sqrt(2 e) standard deviations, for e of at least 0 nats."""
    return math.sqrt(2 * nats)


def _along(line: np.ndarray, share: np.ndarray) -> np.ndarray:
    """The points at shares [0, 1] of the length of a line. `[N]` -> `[N, 2]`"""
    lengths = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=-1))])
    at = share * lengths[-1]
    return np.stack([np.interp(at, lengths, line[:, d]) for d in (0, 1)], -1)


def _fit(policy: GaussianPolicy, states: Tensor, actions: Tensor) -> None:
    """Least squares of the mean, by L-BFGS; sigma is left alone."""
    optimiser = torch.optim.LBFGS(
        policy.layers.parameters(), max_iter=_MAX_ITERATIONS, history_size=20, line_search_fn="strong_wolfe"
    )

    def closure() -> float:
        optimiser.zero_grad()
        loss = (policy.mean(states) - actions).square().sum(-1).mean()
        loss.backward()
        return loss.item()

    optimiser.step(closure)
    policy.zero_grad(set_to_none=True)
