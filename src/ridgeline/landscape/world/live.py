"""The state of a live world: terrain, reference, a learner on it, a pin, walked paths; and what they show."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ridgeline.landscape.world import scene
from ridgeline.landscape.world.learning import Learner
from ridgeline.landscape.world.measures import Measures
from ridgeline.landscape.world.paths import Paths, sample_paths
from ridgeline.landscape.world.policy import GaussianPolicy
from ridgeline.landscape.world.reference import clone_route, ring_radius
from ridgeline.landscape.world.settings import GROUPED, Settings
from ridgeline.landscape.world.terrain import BOUND, LAYERS, STEP, Terrain
from ridgeline.landscape.world.terrain_file import terrain_to_dict
from ridgeline.schema.errors import RunError

Part = Literal["terrain", "value", "reference", "policy", "paths"]
PARTS: tuple[Part, ...] = ("terrain", "value", "reference", "policy", "paths")

DRAGGING, RESTING = 33, 65
"""Grid points a side while something moves, and once it rests."""
REFERENCE_PATHS = 24
FIRST_PATHS = 32
HISTORY = 240
"""Entries of the history; a longer one loses every second."""


class World:
    """One live world. The same seed and the same calls give the same numbers.

    Raises UsageError when the settings name a layer that the terrain has not.
    """

    def __init__(
        self,
        terrain: Terrain,
        settings: Settings | None = None,
        seed: int = 0,
        reference: GaussianPolicy | None = None,
    ) -> None:
        self.seed = seed
        self.pin: tuple[float, float] = terrain.start
        cloned = _cloned(terrain, seed) if reference is None else reference
        self.learner = Learner(terrain, cloned.copy(), cloned, settings or Settings(seed=seed))
        self.fine = Measures(terrain, cloned, RESTING)
        self.history: list[dict[str, Any]] = []
        self.paths: Paths
        self.advantages: Tensor | None
        self.show_rolled(FIRST_PATHS)

    @property
    def terrain(self) -> Terrain:
        """The ground walked on."""
        return self.learner.terrain

    @property
    def settings(self) -> Settings:
        """Of the learner, none left open."""
        return self.learner.settings

    def change_settings(self, partial: dict[str, Any]) -> None:
        """Some settings anew; the policy stays. Raises UsageError for what `Settings` refuses."""
        self.learner.configure(self.learner.given.changed(partial))

    def change_terrain(self, terrain: Terrain) -> None:
        """Other ground under the same policies; shown paths keep their places and get their new rewards."""
        self._stand_on(terrain, self.learner.reference)
        shown = self.paths
        rewards = terrain.rewards(shown.states[:, 1:], self.settings.layer)
        self.paths = Paths(shown.states, shown.actions, rewards, shown.logp, shown.gamma)
        self.advantages = None

    def change_route(self, route: Iterable[tuple[float, float]]) -> None:
        """A reference cloned from another route, from which the learner starts over."""
        terrain = self.terrain.replace(route=tuple(route))
        self._stand_on(terrain, _cloned(terrain, self.seed))
        self.reset()

    def reset(self, policy: Literal["reference", "new"] = "reference", sigma: float | None = None) -> None:
        """The learner anew: its policy as the reference, or untrained; sigma replaces that of its actions."""
        learner = self.learner
        start = (
            learner.reference.copy()
            if policy == "reference"
            else GaussianPolicy(self.seed, self.terrain.sigma)
        )
        if sigma is not None:
            with torch.no_grad():
                start.log_std.fill_(math.log(sigma))
        self.learner = Learner(
            self.terrain, start, learner.reference, learner.given, operators=learner.measures
        )
        self.history = []
        self.show_rolled(FIRST_PATHS)

    def show_rolled(self, count: int) -> tuple[float, float]:
        """Walk paths with the policy as it is and show them; mean of their returns and its standard error.

        They have their advantages unless those need a critic, which is not fitted for looking.
        """
        learner, self.paths = self.learner, self.learner.walk(count)
        whole = learner.settings.algorithm not in GROUPED or count % learner.settings.group == 0
        compares = count > 1 and whole and learner.settings.baseline != "learned"
        self.advantages = learner.batch(self.paths).estimates.advantages_BT if compares else None
        returns = self.paths.returns
        error = float(returns.std()) / math.sqrt(count) if count > 1 else 0.0
        return float(returns.mean()), error

    def train(self, iterations: int) -> None:
        """Iterations of learning; the last one is measured exactly, shown and put into the history.

        Raises RunError when the policy ran away; it is then as it was before the call.
        """
        before = self.learner.state()
        try:
            for number in range(iterations):
                done = self.learner.step(exact=number == iterations - 1)
        except RunError:
            self.learner.restore(before)
            raise
        self.paths, self.advantages = done.paths, done.advantages
        self.history.append({"iteration": done.number, "scalars": done.scalars})
        if len(self.history) > HISTORY:
            self.history = self.history[:-1:2] + self.history[-1:]

    def blocks(self, parts: Iterable[Part] = PARTS, resolution: int = DRAGGING) -> scene.Blocks:
        """The named parts on a grid of 33 or 65, float32 and int32."""
        learner, measures, wanted = self.learner, self._measures(resolution), set(parts)
        found: scene.Blocks = {}
        if "terrain" in wanted:
            found |= scene.terrain_blocks(measures)
        if "value" in wanted:
            found |= scene.value_blocks(measures, learner.policy, self.settings)
        if "reference" in wanted:
            seed = [self.seed, 2]
            cloud = sample_paths(
                self.terrain, learner.reference, REFERENCE_PATHS, seed, layer=self.settings.layer
            )
            found |= scene.reference_blocks(measures, self.settings, cloud)
        if "policy" in wanted:
            found["arrows"] = scene.arrows(learner.policy)
        if "paths" in wanted:
            policy, settings = learner.policy, self.settings
            found |= scene.path_blocks(measures, policy, settings, self.paths, self.advantages)
        return {
            name: block if block.dtype == np.int32 else block.astype(np.float32)
            for name, block in found.items()
        }

    def numbers(self, resolution: int = DRAGGING) -> dict[str, Any]:
        """What goes with every scene, JSON values: terrain, settings, scalars, history, the pin's numbers."""
        return {
            "terrain": terrain_to_dict(self.terrain),
            "settings": self.settings.as_dict(),
            "resolution": resolution,
            **self.progress(resolution),
            "history": self.history,
            "bounds": [-3.0, 3.0],
            "horizon": self.terrain.horizon,
            "route": [list(point) for point in self.terrain.route],
            "start": list(self.terrain.start),
            "pin": self.pin_numbers(),
        }

    def progress(self, resolution: int = DRAGGING) -> dict[str, Any]:
        """Iteration, layer and the scalars of the policy as it is, those of the last update included."""
        last = self.history[-1]["scalars"] if self.history else {}
        now = self._measures(resolution).scalars(self.learner.policy, self.learner.gamma)
        entropy = float(self.learner.policy.entropy().detach())
        return {
            "iteration": self.learner.iteration,
            "layer": self.settings.layer,
            "scalars": {**last, **now, "entropy": entropy},
        }

    def best(self) -> dict[str, float] | None:
        """The exact optimum of J - beta KL on the layer; None without a beta, or with a discount."""
        beta = self.settings.beta
        if beta == 0 or self.learner.gamma < 1:
            return None
        found = self.learner.measures.optimum(beta, self.settings.layer)
        return {"return": found.return_, "kl": found.kl, "objective": found.objective}

    def pin_numbers(self) -> dict[str, Any]:
        """Altitude, V, arrow and ring at the pin, with the reference's beside them.

        ring: how far the mean action may move from the reference's for the settings' budget, in units of the
        action; the geometric mean over the coordinates where their sigmas differ.
        advantage_of_mean: Q of the mean action less V, at time 0.
        """
        learner, settings = self.learner, self.settings
        policy, reference, measures = learner.policy, learner.reference, learner.measures
        here = torch.tensor([self.pin], dtype=torch.float64)
        with torch.no_grad():
            mean, sigma = policy.mean(here)[0], policy.log_std.exp()
            reference_mean, reference_sigma = reference.mean(here)[0], reference.log_std.exp()
            kl_step = float(policy.kl(reference, here)[0])
        fields = measures.values(policy, settings.layer, learner.gamma)
        value = float(measures.grid.interpolate(fields[0], here)[0])
        landed = (here + STEP * mean).clamp(-BOUND, BOUND)
        follows = float(measures.grid.interpolate(fields[1], landed)[0])
        earned = float(self.terrain.height(landed, settings.layer)[0]) + learner.gamma * follows
        reference_fields = measures.values(reference, settings.layer, learner.gamma)
        return {
            "x": self.pin[0],
            "y": self.pin[1],
            "altitude": {
                name: float(self.terrain.height(here, name)[0]) for name in LAYERS if self.terrain.has(name)
            },
            "value": value,
            "value_reference": float(measures.grid.interpolate(reference_fields[0], here)[0]),
            "mean": mean.tolist(),
            "sigma": sigma.tolist(),
            "reference_mean": reference_mean.tolist(),
            "reference_sigma": reference_sigma.tolist(),
            "kl_step": kl_step,
            "ring": float(np.sqrt(ring_radius(reference_sigma.numpy(), settings.budget).prod())),
            "advantage_of_mean": earned - value,
        }

    def _measures(self, resolution: int) -> Measures:
        return self.fine if resolution == RESTING else self.learner.measures

    def _stand_on(self, terrain: Terrain, reference: GaussianPolicy) -> None:
        self.learner.stand_on(terrain, reference)
        self.fine = Measures(terrain, reference, RESTING, self.fine)


@lru_cache(maxsize=8)
def _cloned(terrain: Terrain, seed: int) -> GaussianPolicy:
    """The clone of the terrain's route, which nobody changes: fitting it takes most of what opening takes."""
    return clone_route(terrain.route, terrain, seed=seed)
