"""The learned value function of the exact world: a network of place and time, fitted by `value_loss`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ridgeline.objectives.aggregate import aggregate
from ridgeline.objectives.policy import value_loss

HIDDEN = 32
LEARNING_RATE = 0.01


class Critic(nn.Module):
    """V(s, t) of a finite walk: tanh network 3-32-32-1 on (x, y, steps left / T), float64.

    The output is multiplied by the steps left, so that V is 0 at the end of the walk and weights near 1 reach
    the returns of a whole walk. bound: half-width of the ground, which scales the inputs.
    """

    def __init__(self, horizon: int, bound: float, seed: int) -> None:
        super().__init__()
        self.horizon = horizon
        self.bound = bound
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = nn.Sequential(
                nn.Linear(3, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 1)
            ).double()
        self.optimiser = torch.optim.Adam(self.parameters(), lr=LEARNING_RATE)

    def forward(self, states: Tensor) -> Tensor:
        """V of states `[B, T, 2]`, the second axis being time from 0; returns `[B, T]`."""
        left_T = (self.horizon - torch.arange(states.shape[1], dtype=states.dtype)).clamp(min=0)
        time_BT = (left_T / self.horizon).expand(states.shape[:-1])
        inputs = torch.cat([states / self.bound, time_BT.unsqueeze(-1)], -1)
        values_BT: Tensor = self.network(inputs).squeeze(-1) * left_T
        return values_BT

    def fit(self, states: Tensor, returns_BT: Tensor, steps: int) -> float:
        """`steps` optimizer steps towards the returns; the mean squared error before them, reward units^2."""
        old_BT = self(states).detach()
        mask_BT = torch.ones_like(old_BT)
        first = float((old_BT - returns_BT).square().mean())
        for _ in range(steps):
            loss = aggregate(value_loss(self(states), old_BT, returns_BT), mask_BT)
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
        return first

    def state(self) -> dict[str, Any]:
        """Weights and optimizer, for an exact restore."""
        return {"weights": self.state_dict(), "optimiser": self.optimiser.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` returned."""
        self.load_state_dict(state["weights"])
        self.optimiser.load_state_dict(state["optimiser"])
