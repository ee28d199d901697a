"""TRPO's step: the natural gradient by conjugate gradients, then a line search within a KL budget.

Sources: Schulman et al. 2015, appendix C; Kakade 2001 for the natural gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from ridgeline.landscape.world.policy import GaussianPolicy

ITERATIONS = 10
DAMPING = 1e-3
BACKTRACKS = 10


@dataclass(frozen=True)
class Trial:
    """One point of the line search: share of the full step, gain of the surrogate, mean KL, whether taken."""

    share: float
    gain: float
    kl: float
    taken: bool


def mean_kl(old: GaussianPolicy, policy: GaussianPolicy, states: Tensor) -> Tensor:
    """KL(old || policy) in nats per action, exact per state, mean over the states `[..., 2]`."""
    return old.kl(policy, states).mean()


def conjugate_gradient(product: Callable[[Tensor], Tensor], right: Tensor, iterations: int) -> Tensor:
    """x with product(x) = right for a symmetric positive definite product, from x = 0."""
    x = torch.zeros_like(right)
    residual, direction = right.clone(), right.clone()
    squared = residual @ residual
    for _ in range(iterations):
        if squared < 1e-20:
            break
        image = product(direction)
        length = squared / (direction @ image)
        x = x + length * direction
        residual = residual - length * image
        following = residual @ residual
        direction = residual + following / squared * direction
        squared = following
    return x


def natural_direction(policy: GaussianPolicy, gradient: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
    """(F + damping)^-1 gradient, and F times it; F the Fisher matrix: the Hessian of the mean KL at 0.

    gradient: flat, of the objective to raise.
    """
    parameters = list(policy.parameters())
    slope = torch.autograd.grad(mean_kl(policy.copy(), policy, states), parameters, create_graph=True)
    flat_slope = torch.cat([part.flatten() for part in slope])

    def fisher(vector: Tensor) -> Tensor:
        parts = torch.autograd.grad(flat_slope @ vector, parameters, retain_graph=True)
        return torch.cat([part.flatten() for part in parts])

    direction = conjugate_gradient(lambda v: fisher(v) + DAMPING * v, gradient, ITERATIONS)
    return direction, fisher(direction)


def trust_region_step(
    policy: GaussianPolicy, gradient: Tensor, surrogate: Callable[[], Tensor], states: Tensor, budget: float
) -> list[Trial]:
    """Move the policy along the natural gradient as far as the budget and the surrogate allow.

    The full step has a KL of `budget` to second order; it is halved until the exact KL keeps the budget and
    the surrogate has risen. Where no trial does, the policy stays.

    gradient: flat, of the surrogate at the policy. surrogate: its value now, to be raised. budget: nats per
    action. Returns the trials, the last of which may be taken.
    """
    direction, image = natural_direction(policy, gradient, states)
    curvature = float(direction @ image)
    if curvature <= 0:  # no gradient: nowhere to go
        return []
    full = (2 * budget / curvature) ** 0.5 * direction
    old, before = policy.copy(), float(surrogate().detach())
    start = parameters_to_vector(policy.parameters()).detach()
    trials: list[Trial] = []
    for number in range(BACKTRACKS):
        share = 0.5**number
        vector_to_parameters(start + share * full, policy.parameters())
        with torch.no_grad():
            gain, kl = float(surrogate()) - before, float(mean_kl(old, policy, states))
        trials.append(Trial(share, gain, kl, gain > 0 and kl <= budget))
        if trials[-1].taken:
            return trials
    vector_to_parameters(start, policy.parameters())
    return trials
