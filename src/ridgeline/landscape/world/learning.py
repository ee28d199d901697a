"""Learning on the exact world: the loss, the advantages and the KL are those that train language models.

One iteration walks paths with the policy as it is, estimates the advantage of every action and moves the
policy: by Adam steps on the loss of `objectives.policy`, or by one natural step within a trust region.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ridgeline.landscape.world.advantages import estimate
from ridgeline.landscape.world.algorithms import objective_of
from ridgeline.landscape.world.critic import Critic
from ridgeline.landscape.world.measures import Measures
from ridgeline.landscape.world.paths import Paths, sample_paths
from ridgeline.landscape.world.policy import GaussianPolicy
from ridgeline.landscape.world.settings import GROUPED, Settings
from ridgeline.landscape.world.terrain import BOUND, Terrain
from ridgeline.landscape.world.updates import Batch, Update, adam_steps, gradient_of, natural_step
from ridgeline.objectives.advantages import rewards_to_go
from ridgeline.schema.errors import RunError, UsageError

CRITIC_STEPS = 10
"""Optimizer steps of the critic per iteration."""
FIRST_FIT = 100
"""Optimizer steps of the critic before the first iteration, on the paths of that iteration."""

MAX_LOG_STD = 20.0
"""Deviations of actions beyond e^20 or below e^-20 are no policy any more."""


@dataclass(frozen=True)
class Iteration:
    """What one iteration did.

    number: iterations done, this one included. paths: walked before the update. advantages: `[B, T]`.
    update: how the policy was moved. scalars: by the names of the record; None where there is nothing to say.
    """

    number: int
    paths: Paths
    advantages: Tensor
    update: Update
    scalars: dict[str, float | None]


class Learner:
    """One policy that learns on one terrain; the same seed, settings and policy give the same run.

    The policy is changed in place. resolution: grid points a side of the exact figures; operators: measures
    whose operators are worth sharing. Raises UsageError when the terrain has no layer of the settings' name.
    """

    def __init__(
        self,
        terrain: Terrain,
        policy: GaussianPolicy,
        reference: GaussianPolicy,
        settings: Settings,
        *,
        resolution: int = 33,
        operators: Measures | None = None,
    ) -> None:
        self.policy = policy
        self.measures = Measures(terrain, reference, resolution, operators)
        self.iteration = 0
        self.critic: Critic | None = None
        self._take(settings)
        self.optimiser = torch.optim.Adam(policy.parameters(), lr=self.rate)

    @property
    def terrain(self) -> Terrain:
        """The ground walked on."""
        return self.measures.terrain

    @property
    def reference(self) -> GaussianPolicy:
        """The trusted old policy that the KL is measured to."""
        return self.measures.reference

    def step(self, *, exact: bool = True) -> Iteration:
        """One iteration. exact: whether the scalars hold the exact figures, which cost more than the step.

        Raises RunError when the update threw the policy out of the range in which anything can be computed.
        """
        paths = self.walk()
        batch = self.batch(paths)
        compared = exact and self.settings.cosine
        cosine = self.cosine(gradient_of(self.policy, batch, self.objective)) if compared else None
        if self.settings.algorithm == "trpo":
            update = natural_step(self.policy, batch, self.objective, self.settings.budget)
        else:
            update = adam_steps(self.policy, batch, self.objective, self.optimiser, self.epochs)
        if self.critic is not None and batch.estimates.returns_BT is not None:
            self.critic.fit(batch.states_BTS, batch.estimates.returns_BT, CRITIC_STEPS)
        self.iteration += 1
        self._require_sane()
        scalars: dict[str, float | None] = {
            "entropy": float(self.policy.entropy().detach()),
            "clip_fraction": update.clip_fraction,
            "outside_fraction": update.outside_fraction,
            "ratio_max": float(update.ratios_BT.max()),
            "gradient_norm": float(update.gradient.norm()),
            "gradient_cosine": cosine,
            "advantage_std": float(batch.estimates.advantages_BT.std()),
            "dead_groups": batch.estimates.dead,
            "success": self.success(paths),
        }
        if exact:
            scalars = {**self.measures.scalars(self.policy, self.gamma), **scalars}
        return Iteration(self.iteration, paths, batch.estimates.advantages_BT, update, scalars)

    def walk(self, count: int | None = None) -> Paths:
        """Paths of the policy as it is, the same ones at every call between two steps.

        Groups share a start where the algorithm compares them. count: in place of the settings' paths.
        """
        settings = self.settings
        count = settings.paths if count is None else count
        start = None
        if settings.algorithm in GROUPED:
            random = np.random.default_rng([settings.seed, self.iteration, 1])
            groups = -(-count // settings.group)
            offsets = self.terrain.start_spread * random.uniform(-1.0, 1.0, (groups, 2))
            places = np.repeat(np.asarray(self.terrain.start) + offsets, settings.group, 0)
            start = torch.from_numpy(places[:count])
        seed = [settings.seed, self.iteration]
        return sample_paths(self.terrain, self.policy, count, seed, start=start, layer=settings.layer)

    def batch(self, paths: Paths) -> Batch:
        """The paths with log-probs and advantages, as the settings have them."""
        states_BTS, actions_BTA = paths.states[:, :-1], paths.actions
        rewards_BT, logp_BT = paths.rewards, paths.logp
        with torch.no_grad():
            ref_logp_BT = self.reference.log_prob(states_BTS, actions_BTA)
        values_BT = self._values(states_BTS, rewards_BT)
        estimates = estimate(rewards_BT, logp_BT, ref_logp_BT, values_BT, self.objective, self.settings)
        return Batch(states_BTS, actions_BTA, logp_BT, ref_logp_BT, estimates)

    def cosine(self, gradient: Tensor) -> float:
        """Cosine of a flat gradient with the exact one of J - beta KL (or J) on the settings' layer."""
        exact = self.measures.gradient(self.policy, self.settings.layer, self.gamma, self.settings.beta)
        return float(torch.nn.functional.cosine_similarity(gradient, exact, dim=0))

    def success(self, paths: Paths) -> float | None:
        """Share of the paths that end at the goal; None where the terrain has none."""
        if self.terrain.goal is None:
            return None
        return float(self.terrain.in_goal(paths.states[:, -1]).double().mean())

    def configure(self, settings: Settings) -> None:
        """Other settings for the same policy; Adam starts anew where the algorithm changes."""
        before = self.settings.algorithm
        self._take(settings)
        if self.settings.algorithm != before:
            self.optimiser = torch.optim.Adam(self.policy.parameters(), lr=self.rate)
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate
        if self.settings.baseline != "learned":
            self.critic = None

    def stand_on(self, terrain: Terrain, reference: GaussianPolicy) -> None:
        """Go on on other ground, or with another reference. Raises UsageError when the layer is missing."""
        _require_layer(terrain, self.settings)
        self.measures = Measures(terrain, reference, self.measures.resolution, self.measures)
        self._take(self.given)

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
        """Take back what `state` returned: the iterations that followed repeat exactly."""
        kept = copy.deepcopy(state)
        self.iteration = kept["iteration"]
        self.policy.load_state_dict(kept["policy"])
        self.optimiser.load_state_dict(kept["optimiser"])
        self.critic = None
        if kept["critic"] is not None:
            self.critic = self._new_critic()
            self.critic.restore(kept["critic"])

    def _take(self, settings: Settings) -> None:
        _require_layer(self.terrain, settings)
        self.given = settings
        self.settings = settings.resolved(self.terrain.gamma)
        self.objective = objective_of(self.settings)
        gamma, rate, epochs = self.settings.gamma, self.settings.learning_rate, self.settings.epochs
        assert gamma is not None and rate is not None and epochs is not None
        self.gamma, self.rate, self.epochs = gamma, rate, epochs

    def _require_sane(self) -> None:
        log_std = self.policy.log_std.detach().abs().max()
        if not (bool(self.policy.flat().isfinite().all()) and float(log_std) <= MAX_LOG_STD):
            raise RunError(
                f"the policy ran away in iteration {self.iteration}; lower learning_rate, entropy or beta."
            )

    def _values(self, states_BTS: Tensor, rewards_BT: Tensor) -> Tensor | None:
        """V at the states acted from: exact, of the critic, or None where the baseline is another."""
        if self.settings.baseline == "exact":
            layer, beta = self.settings.layer, self.settings.beta
            return self.measures.path_values(self.policy, states_BTS, layer, self.gamma, beta)
        if self.settings.baseline != "learned":
            return None
        if self.critic is None:
            self.critic = self._new_critic()
            returns_BT = rewards_to_go(rewards_BT, torch.ones_like(rewards_BT), self.gamma)
            self.critic.fit(states_BTS, returns_BT, FIRST_FIT)
        with torch.no_grad():
            values_BT: Tensor = self.critic(states_BTS)
        return values_BT

    def _new_critic(self) -> Critic:
        return Critic(self.terrain.horizon, BOUND, self.settings.seed)


def _require_layer(terrain: Terrain, settings: Settings) -> None:
    if not terrain.has(settings.layer):
        raise UsageError(
            f"terrain '{terrain.name}' has no layer '{settings.layer[:40]}'; "
            "set layer to one it has, such as 'gold'."
        )
