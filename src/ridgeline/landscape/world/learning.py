"""Learning on the exact world: the loss, the advantages and the KL are those that train language models.

One iteration walks paths with the policy as it is, estimates the advantage of every action and moves the
policy: by Adam steps on `objectives.policy`'s loss, or by one natural step within a trust region.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from ridgeline.landscape.world.advantages import Estimates, estimate
from ridgeline.landscape.world.algorithms import objective_of
from ridgeline.landscape.world.critic import Critic
from ridgeline.landscape.world.measures import Measures
from ridgeline.landscape.world.paths import Paths, sample_paths
from ridgeline.landscape.world.policy import GaussianPolicy
from ridgeline.landscape.world.settings import GROUPED, Settings
from ridgeline.landscape.world.terrain import BOUND, Terrain
from ridgeline.landscape.world.trust_region import Trial, trust_region_step
from ridgeline.objectives.policy import PolicyTerms, policy_loss, total_loss
from ridgeline.schema.errors import UsageError

CRITIC_STEPS = 10
"""Optimizer steps of the critic per iteration."""
FIRST_FIT = 100
"""Optimizer steps of the critic before the first iteration, on paths of the first policy."""


class Batch(NamedTuple):
    """Walked paths, ready to learn from."""

    states_BTS: Tensor
    actions_BTA: Tensor
    logp_BT: Tensor
    ref_logp_BT: Tensor
    estimates: Estimates


@dataclass(frozen=True)
class Iteration:
    """What one iteration did.

    number: iterations done, this one included. paths: walked before the update. advantages: `[B, T]`.
    ratios: `[B, T]`, new policy / old policy after the update. clipped, outside: `[B, T]` as in
    `objectives.policy.PolicyTerms`, after the update. gradient: flat, of the objective, first step, uphill.
    trials: the line search of trpo. scalars: by the names of the record, None where there is nothing to say.
    """

    number: int
    paths: Paths
    advantages: Tensor
    ratios: Tensor
    clipped: Tensor
    outside: Tensor
    gradient: Tensor
    trials: list[Trial]
    scalars: dict[str, float | None]


class Update(NamedTuple):
    """How the policy was moved: the first gradient, shares over the optimizer steps, the line search."""

    gradient: Tensor
    clip_fraction: float
    outside_fraction: float
    trials: list[Trial]


class Learner:
    """One policy that learns on one terrain; the same seed, settings and policy give the same run.

    The policy is changed in place. Raises UsageError when the terrain has no layer of the name in the settings.
    """

    def __init__(
        self, terrain: Terrain, policy: GaussianPolicy, reference: GaussianPolicy, settings: Settings
    ) -> None:
        self.terrain = terrain
        self.policy = policy
        self.reference = reference
        self.iteration = 0
        self.critic: Critic | None = None
        self._configure(settings)
        self.optimiser = torch.optim.Adam(policy.parameters(), lr=self.rate)

    def _configure(self, settings: Settings) -> None:
        if not self.terrain.has(settings.layer):
            raise UsageError(
                f"terrain '{self.terrain.name}' has no layer '{settings.layer}'; choose one it has, such as gold."
            )
        self.settings = settings.resolved(self.terrain.gamma)
        self.objective = objective_of(self.settings)
        self.rate = self.settings.learning_rate
        self.measures = Measures(self.terrain, self.reference)

    def step(self, *, exact: bool = True) -> Iteration:
        """One iteration. exact: whether the scalars hold the exact figures, which cost more than the step."""
        paths = self.walk()
        batch = self.batch(paths)
        uphill = self._exact_gradient() if exact and self.settings.cosine else None
        if self.settings.algorithm == "trpo":
            update = self._natural_step(batch)
        else:
            update = self._adam_steps(batch)
        if self.critic is not None and batch.estimates.returns_BT is not None:
            self.critic.fit(batch.states_BTS, batch.estimates.returns_BT, CRITIC_STEPS)
        self.iteration += 1
        with torch.no_grad():
            after = self._terms(batch)
        scalars = self._scalars(paths, batch, update, after, uphill, exact)
        return Iteration(
            self.iteration,
            paths,
            batch.estimates.advantages_BT,
            after.ratio_BT if self.objective.ratio != "none" else self._ratios(batch),
            after.clipped_BT,
            after.outside_BT,
            update.gradient,
            update.trials,
            scalars,
        )

    def walk(self, count: int | None = None) -> Paths:
        """Paths of the policy as it is; groups share a start where the algorithm compares them."""
        settings = self.settings
        count = settings.paths if count is None else count
        seed = _seed(settings.seed, self.iteration)
        start = None
        if settings.algorithm in GROUPED:
            rng = np.random.default_rng([settings.seed, self.iteration, 1])
            spread = self.terrain.start_spread * rng.standard_normal((count // settings.group, 2))
            places = np.clip(np.asarray(self.terrain.start) + spread, -BOUND, BOUND)
            start = np.repeat(places, settings.group, 0)
        return sample_paths(self.terrain, self.policy, count, seed, start=start, layer=settings.layer)

    def batch(self, paths: Paths) -> Batch:
        """The paths with log-probs and advantages, as `settings` have them."""
        states_BTS, actions_BTA = _tensor(paths.states)[:, :-1], _tensor(paths.actions)
        rewards_BT, logp_BT = _tensor(paths.rewards), _tensor(paths.logp)
        with torch.no_grad():
            ref_logp_BT = self.reference.log_prob(states_BTS, actions_BTA)
            values_BT = self._values(states_BTS, rewards_BT)
        estimates = estimate(rewards_BT, logp_BT, ref_logp_BT, values_BT, self.objective, self.settings)
        return Batch(states_BTS, actions_BTA, logp_BT, ref_logp_BT, estimates)

    def gradient(self, batch: Batch) -> Tensor:
        """Flat gradient of the objective on this batch at the policy as it is, uphill."""
        loss = self._loss(self._terms(batch), batch)
        parts = torch.autograd.grad(loss, list(self.policy.parameters()))
        return -torch.cat([part.flatten() for part in parts])

    def configure(self, settings: Settings) -> None:
        """Other settings for the same policy; Adam starts anew where the algorithm changes."""
        algorithm = self.settings.algorithm
        self._configure(settings)
        if self.settings.algorithm != algorithm:
            self.optimiser = torch.optim.Adam(self.policy.parameters(), lr=self.rate)
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate
        if self.settings.baseline != "learned":
            self.critic = None

    def state(self) -> dict[str, Any]:
        """Everything the next iterations depend on, besides terrain, reference and settings; a deep copy."""
        return copy.deepcopy(
            {
                "iteration": self.iteration,
                "policy": self.policy.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "critic": None if self.critic is None else self.critic.state(),
            }
        )

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` returned: the following iterations repeat exactly."""
        kept = copy.deepcopy(state)
        self.iteration = kept["iteration"]
        self.policy.load_state_dict(kept["policy"])
        self.optimiser.load_state_dict(kept["optimiser"])
        self.critic = None
        if kept["critic"] is not None:
            self.critic = self._new_critic()
            self.critic.restore(kept["critic"])

    def _values(self, states_BTS: Tensor, rewards_BT: Tensor) -> Tensor | None:
        """V at the states acted from: exact, of the critic, or None where the baseline is another."""
        if self.settings.baseline == "exact":
            return self.measures.path_values(self.policy, states_BTS, self.settings)
        if self.settings.baseline != "learned":
            return None
        if self.critic is None:
            self.critic = self._new_critic()
            discounts = torch.ones_like(rewards_BT)
            returns_BT = estimates_to_go(rewards_BT, discounts, self.settings)
            with torch.enable_grad():
                self.critic.fit(states_BTS, returns_BT, FIRST_FIT)
        return self.critic(states_BTS)

    def _new_critic(self) -> Critic:
        return Critic(self.terrain.horizon, BOUND, self.settings.seed)

    def _terms(self, batch: Batch) -> PolicyTerms:
        return policy_loss(
            self.policy.log_prob(batch.states_BTS, batch.actions_BTA),
            batch.logp_BT,
            batch.estimates.advantages_BT,
            batch.estimates.mask_BT,
            self.objective,
            ref_logp=batch.ref_logp_BT,
            sampler_logp=batch.logp_BT,
        )
