"""One update of a policy from a batch of paths, through `objectives.policy`: Adam or one natural step."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ridgeline.landscape.world.advantages import Estimates
from ridgeline.landscape.world.policy import GaussianPolicy
from ridgeline.landscape.world.trust_region import Trial, trust_region_step
from ridgeline.objectives import policy as formulas
from ridgeline.objectives.axes import PolicyObjective
from ridgeline.objectives.policy import PolicyTerms
from ridgeline.objectives.ratios import token_ratio


class Batch(NamedTuple):
    """Walked paths, ready to learn from. logp_BT: of the policy that walked them; A and S are 2 long."""

    states_BTS: Tensor
    actions_BTA: Tensor
    logp_BT: Tensor
    ref_logp_BT: Tensor
    estimates: Estimates


class Update(NamedTuple):
    """How the policy was moved.

    gradient: flat, uphill, of the first step. clip_fraction, outside_fraction: of the actions, mean over the
    optimizer steps. ratios_BT: new policy / old policy; clipped_BT: which actions the bound holds now.
    trials: the line search of the natural step.
    """

    gradient: Tensor
    clip_fraction: float
    outside_fraction: float
    ratios_BT: Tensor
    clipped_BT: Tensor
    trials: list[Trial]


def terms_of(policy: GaussianPolicy, batch: Batch, objective: PolicyObjective) -> PolicyTerms:
    """The loss per action at the policy as it is; sampler and learner are one here."""
    return formulas.policy_loss(
        policy.log_prob(batch.states_BTS, batch.actions_BTA),
        batch.logp_BT,
        batch.estimates.advantages_BT,
        batch.estimates.mask_BT,
        objective,
        ref_logp=batch.ref_logp_BT,
        sampler_logp=batch.logp_BT,
    )


def loss_of(policy: GaussianPolicy, terms: PolicyTerms, batch: Batch, objective: PolicyObjective) -> Tensor:
    """The number to minimise: policy term, KL where it is placed in the loss, entropy bonus."""
    mask_BT = batch.estimates.mask_BT
    entropy_BT = policy.entropy().expand(mask_BT.shape) if objective.entropy_coefficient > 0 else None
    return formulas.total_loss(terms, mask_BT, objective, entropy=entropy_BT)


def gradient_of(policy: GaussianPolicy, batch: Batch, objective: PolicyObjective) -> Tensor:
    """Flat gradient of the objective on the batch, uphill, at the policy as it is."""
    loss = loss_of(policy, terms_of(policy, batch, objective), batch, objective)
    parts = torch.autograd.grad(loss, list(policy.parameters()))
    return -torch.cat([part.flatten() for part in parts])


def adam_steps(
    policy: GaussianPolicy,
    batch: Batch,
    objective: PolicyObjective,
    optimiser: torch.optim.Optimizer,
    epochs: int,
) -> Update:
    """`epochs` steps on the whole batch."""
    first: Tensor | None = None
    clipped, outside = [], []
    for _ in range(epochs):
        terms = terms_of(policy, batch, objective)
        optimiser.zero_grad()
        loss_of(policy, terms, batch, objective).backward()
        if first is None:
            first = -torch.cat([p.grad.flatten() for p in policy.parameters() if p.grad is not None])
        optimiser.step()
        clipped.append(terms.clipped_BT.double().mean())
        outside.append(terms.outside_BT.double().mean())
    assert first is not None
    return Update(first, _mean(clipped), _mean(outside), *_after(policy, batch, objective), [])


def natural_step(policy: GaussianPolicy, batch: Batch, objective: PolicyObjective, budget: float) -> Update:
    """One step within `budget` nats per action; the surrogate is the negative loss of the objective."""
    gradient = gradient_of(policy, batch, objective)

    def surrogate() -> Tensor:
        return -loss_of(policy, terms_of(policy, batch, objective), batch, objective)

    trials = trust_region_step(policy, gradient, surrogate, batch.states_BTS, budget)
    return Update(gradient, 0.0, 0.0, *_after(policy, batch, objective), trials)


def _after(policy: GaussianPolicy, batch: Batch, objective: PolicyObjective) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        logp_BT = policy.log_prob(batch.states_BTS, batch.actions_BTA)
        return token_ratio(logp_BT, batch.logp_BT), terms_of(policy, batch, objective).clipped_BT


def _mean(shares: list[Tensor]) -> float:
    return float(torch.stack(shares).mean())
