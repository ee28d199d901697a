"""Sampled paths: what a policy does when it walks, many paths at once, the same for the same seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ridgeline.landscape.world.policy import GaussianPolicy
from ridgeline.landscape.world.terrain import BOUND, STEP, Terrain


@dataclass(frozen=True)
class Paths:
    """B paths of T steps, float64, constants.

    states `[B, T + 1, 2]`: reward t is that of stepping on states[:, t + 1]; actions `[B, T, 2]`;
    rewards `[B, T]`; logp `[B, T]` nats, of the policy that walked. gamma: the terrain's discount.
    """

    states: Tensor
    actions: Tensor
    rewards: Tensor
    logp: Tensor
    gamma: float = 1.0

    @property
    def returns(self) -> Tensor:
        """sum_t gamma^t r_t. `[B]`"""
        steps = torch.arange(self.rewards.shape[1], dtype=self.rewards.dtype)
        return (self.rewards * self.gamma**steps).sum(-1)


def sample_paths(
    terrain: Terrain,
    policy: GaussianPolicy,
    count: int,
    seed: int | Sequence[int] | np.random.Generator,
    start: tuple[float, float] | Tensor | None = None,
    horizon: int | None = None,
    layer: str = "gold",
) -> Paths:
    """Walk `count` paths. Equal seeds give equal paths, whatever else drew random numbers.

    seed: one number, several (run, iteration, ...), or a generator to go on drawing from. start: one state,
    or one for each path `[count, 2]`, instead of the terrain's start square. horizon: steps, instead of the
    terrain's. layer: the surface whose altitude is the reward.
    """
    random = np.random.default_rng(seed)
    steps = terrain.horizon if horizon is None else horizon
    first = random.uniform(-1.0, 1.0, (count, 2))
    noise = torch.from_numpy(random.standard_normal((steps, count, 2)))
    if start is None:
        state = torch.from_numpy(np.asarray(terrain.start) + terrain.start_spread * first)
    else:
        state = torch.as_tensor(start, dtype=torch.float64).expand(count, 2).clamp(-BOUND, BOUND)
    states, actions = [state], []
    with torch.no_grad():
        for step in range(steps):
            action = policy.sample(state, noise[step])
            state = (state + STEP * action).clamp(-BOUND, BOUND)
            states.append(state)
            actions.append(action)
        # Of standard normal noise: cheaper than log_prob, which would run the network once more.
        logp = -(noise.square() / 2 + policy.log_std).sum(-1) - float(np.log(2 * np.pi))
    visited = torch.stack(states, 1)
    return Paths(
        states=visited,
        actions=torch.stack(actions, 1),
        rewards=terrain.rewards(visited[:, 1:], layer),
        logp=logp.T.contiguous(),
        gamma=terrain.gamma,
    )
