"""What a live world shows, as named blocks of numbers: fields on the grid, arrows, corridor, paths.

Layouts and names are those of the recorded landscape (`landscape.record`), so that the same code draws both.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from ridgeline.landscape.world.paths import Paths
from ridgeline.landscape.world.policy import GaussianPolicy
from ridgeline.landscape.world.terrain import BOUND, LAYERS

if TYPE_CHECKING:
    from ridgeline.landscape.world.live import World
    from ridgeline.landscape.world.measures import Measures

Blocks = dict[str, np.ndarray]
Part = Literal["terrain", "value", "reference", "policy", "paths"]

PARTS: tuple[Part, ...] = ("terrain", "value", "reference", "policy", "paths")
LATTICE = 15
"""Arrows a side."""


def blocks_of(world: World, measures: Measures, parts: Iterable[Part]) -> Blocks:
    """The blocks of the named parts on the grid of `measures`, float32."""
    wanted, blocks = set(parts), {}
    if "terrain" in wanted:
        blocks |= _terrain(world, measures)
    if "value" in wanted:
        blocks |= _value(world, measures)
    if "reference" in wanted:
        blocks |= _reference(world, measures)
    if "policy" in wanted:
        blocks["arrows"] = arrows(world.learner.policy)
    if "paths" in wanted and world.paths is not None:
        blocks |= path_blocks(world, measures, world.paths, world.advantages)
    return {name: _narrow(block) for name, block in blocks.items()}


def arrows(policy: GaussianPolicy) -> np.ndarray:
    """`[225, 6]`: x, y, mean action, its deviations, on a lattice that keeps off the edge."""
    axis = np.linspace(-BOUND, BOUND, 2 * LATTICE + 1)[1::2]
    y, x = np.meshgrid(axis, axis, indexing="ij")
    places = np.stack([x.ravel(), y.ravel()], -1)
    with torch.no_grad():
        mean = policy.mean(torch.from_numpy(places)).numpy()
        sigma = policy.log_std.exp().expand(len(places), 2).numpy()
    return np.concatenate([places, mean, sigma], -1)


def path_blocks(world: World, measures: Measures, paths: Paths, advantages: Tensor | None) -> Blocks:
    """path_offsets `[B + 1]` and path_points `[B (T + 1), 6]`: x, y, altitude, V, advantage, KL.

    Advantage and KL belong to the step that leads to the point: 0 in the first row of a path. V is that of the
    policy now, of all that is left of the walk; the KL is exact, of the action's distribution.
    """
    count, steps = paths.actions.shape[:2]
    settings, policy = world.learner.settings, world.learner.policy
    altitude = world.terrain.height(paths.states, settings.layer)
    value = measures.path_values(policy, paths.states, settings.layer, world.learner.gamma)
    led_BT2 = torch.zeros(count, steps + 1, 2, dtype=torch.float64)
    if advantages is not None:
        led_BT2[:, 1:, 0] = advantages
    with torch.no_grad():
        led_BT2[:, 1:, 1] = policy.kl(world.learner.reference, paths.states[:, :-1])
    points = torch.cat([paths.states, altitude[..., None], value[..., None], led_BT2], -1)
    return {
        "path_offsets": np.arange(count + 1, dtype=np.int32) * (steps + 1),
        "path_points": points.reshape(-1, 6).numpy(),
    }


def corridor(paths: Paths) -> Blocks:
    """Mean and covariance of a cloud of paths at every time: the tube that holds them."""
    states = paths.states.numpy()
    mean = states.mean(0)
    away = states - mean
    covariance = np.einsum("bti,btj->tij", away, away) / (len(states) - 1)
    return {"corridor_mean": mean, "corridor_cov": covariance}


def _terrain(world: World, measures: Measures) -> Blocks:
    n, points = measures.grid.n, measures.grid.points
    return {
        f"{layer}.mean": world.terrain.height(points, layer).reshape(n, n)
        for layer in LAYERS
        if world.terrain.has(layer)
    }


def _value(world: World, measures: Measures) -> Blocks:
    learner = world.learner
    return {
        "value": measures.values(learner.policy, learner.settings.layer, learner.gamma)[0],
        "occupancy": measures.occupancy(learner.policy),
    }


def _reference(world: World, measures: Measures) -> Blocks:
    learner = world.learner
    cloud = world.reference_paths
    shown = Paths(*(part[: world.SHOWN] for part in (cloud.states, cloud.actions, cloud.rewards, cloud.logp)))
    drawn = _reference_points(world, measures, shown)
    return {
        "value_reference": measures.values(learner.reference, learner.settings.layer, learner.gamma)[0],
        "reference_arrows": arrows(learner.reference),
        "reference_path_offsets": drawn["path_offsets"],
        "reference_path_points": drawn["path_points"],
        **corridor(cloud),
    }


def _reference_points(world: World, measures: Measures, paths: Paths) -> Blocks:
    """As `path_blocks`, V being the reference's, without advantage and KL."""
    learner = world.learner
    count, steps = paths.actions.shape[:2]
    altitude = world.terrain.height(paths.states, learner.settings.layer)
    value = measures.path_values(learner.reference, paths.states, learner.settings.layer, learner.gamma)
    nothing = torch.zeros(count, steps + 1, 2, dtype=torch.float64)
    points = torch.cat([paths.states, altitude[..., None], value[..., None], nothing], -1)
    return {
        "path_offsets": np.arange(count + 1, dtype=np.int32) * (steps + 1),
        "path_points": points.reshape(-1, 6).numpy(),
    }


def _narrow(block: Any) -> np.ndarray:
    array = np.asarray(block)
    return array if array.dtype == np.int32 else array.astype(np.float32)
