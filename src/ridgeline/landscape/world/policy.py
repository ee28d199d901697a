"""The walker's policy: a Gaussian over actions whose mean is a small network of the state."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, skip_init, vector_to_parameters

WIDTH = 16
_LAST_LAYER_SCALE = 0.1


class GaussianPolicy(nn.Module):
    """pi(a | s) = N(mu(s), diag(sigma^2)), mu a tanh network 2-16-16-2, sigma one number per coordinate.

    356 parameters, float64. The weights are uniform within 1 / sqrt(inputs), from `seed` alone: the global
    random state is neither read nor moved. The last layer starts ten times smaller, so that a new policy
    hardly prefers a direction. sigma: initial standard deviation, in units of the action.
    """

    def __init__(self, seed: int = 0, sigma: float = 0.6) -> None:
        super().__init__()
        sizes = [(2, WIDTH), (WIDTH, WIDTH), (WIDTH, 2)]
        self.layers = nn.ModuleList(skip_init(nn.Linear, *size, dtype=torch.float64) for size in sizes)
        self.log_std = nn.Parameter(torch.full((2,), math.log(sigma), dtype=torch.float64))
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for layer, (inputs, _) in zip(self.layers, sizes, strict=True):
                for parameter in layer.parameters():
                    parameter.uniform_(-(inputs**-0.5), inputs**-0.5, generator=generator)
            for parameter in self.layers[-1].parameters():
                parameter.mul_(_LAST_LAYER_SCALE)

    def mean(self, states: Tensor) -> Tensor:
        """mu(s), the compass arrow. states `[..., 2]` -> `[..., 2]`, actions."""
        hidden = states
        for layer in self.layers[:-1]:
            hidden = torch.tanh(layer(hidden))
        result: Tensor = self.layers[-1](hidden)
        return result

    def log_prob(self, states: Tensor, actions: Tensor) -> Tensor:
        """log pi(a | s), a density. states, actions `[..., 2]` -> `[...]` nats."""
        z = (actions - self.mean(states)) * torch.exp(-self.log_std)
        return -(z.square() / 2 + self.log_std).sum(-1) - math.log(2 * math.pi)

    def sample(self, states: Tensor, noise: Tensor) -> Tensor:
        """mu(s) + sigma * noise; noise `[..., 2]`, standard normal."""
        return self.mean(states) + self.log_std.exp() * noise

    def entropy(self) -> Tensor:
        """Differential entropy of an action, the same in every state. `[]` nats; below 0 once narrow."""
        return self.log_std.sum() + 1 + math.log(2 * math.pi)

    def kl(self, other: GaussianPolicy, states: Tensor) -> Tensor:
        """KL(self || other) of the action at each state, in closed form. `[..., 2]` -> `[...]` nats."""
        shift2 = (self.mean(states) - other.mean(states)).square()
        log_ratio = self.log_std - other.log_std
        # expm1 keeps the parts from cancelling when the two spreads are nearly equal.
        spread = torch.expm1(2 * log_ratio) - 2 * log_ratio
        return ((shift2 * torch.exp(-2 * other.log_std) + spread) / 2).sum(-1)

    def copy(self) -> GaussianPolicy:
        """An independent policy with the same parameters."""
        return copy.deepcopy(self)

    def flat(self) -> Tensor:
        """All 356 parameters in one vector, detached; the order of `policy_gradient`."""
        return parameters_to_vector(self.parameters()).detach().clone()

    def assign(self, flat: Tensor) -> None:
        """Take over the parameters of a vector as `flat` gives it."""
        vector_to_parameters(flat.detach().clone(), self.parameters())
