"""What a world shows, as named blocks of numbers: fields on the grid, arrows, corridor, paths.

Layouts and names are those of the recorded landscape (`landscape.record`), so that the same code draws both.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ridgeline.landscape.world.exact import altitude
from ridgeline.landscape.world.measures import Measures
from ridgeline.landscape.world.paths import Paths
from ridgeline.landscape.world.policy import GaussianPolicy
from ridgeline.landscape.world.settings import Settings
from ridgeline.landscape.world.terrain import BOUND, LAYERS

Blocks = dict[str, np.ndarray]

LATTICE = 15
"""Arrows a side."""


def terrain_blocks(measures: Measures) -> Blocks:
    """The altitude of every layer, sea level included: "gold.mean", "proxy.mean", `[n, n]`."""
    terrain, grid = measures.terrain, measures.grid
    return {f"{name}.mean": altitude(terrain, grid, name) for name in LAYERS if terrain.has(name)}


def value_blocks(measures: Measures, policy: GaussianPolicy, settings: Settings) -> Blocks:
    """V_0 on the settings' layer and where the policy walks, `[n, n]`. settings: resolved."""
    return {
        "value": measures.values(policy, settings.layer, _gamma(settings))[0],
        "occupancy": measures.occupancy(policy),
    }


def reference_blocks(measures: Measures, settings: Settings, cloud: Paths) -> Blocks:
    """The reference's V_0, arrows and paths, and the tube that its paths fill. settings: resolved."""
    reference = measures.reference
    paths = path_blocks(measures, reference, settings, cloud)
    return {
        "value_reference": measures.values(reference, settings.layer, _gamma(settings))[0],
        "reference_arrows": arrows(reference),
        **corridor_blocks(measures),
        **{f"reference_{name}": block for name, block in paths.items()},
    }


def corridor_blocks(measures: Measures) -> Blocks:
    """Mean `[T + 1, 2]` and covariance `[T + 1, 2, 2]` of the reference's position, exact."""
    tube = measures.corridor()
    return {"corridor_mean": tube.mean, "corridor_cov": tube.cov}


def arrows(policy: GaussianPolicy) -> np.ndarray:
    """`[225, 6]`: x, y, mean action, its deviations, on a lattice that keeps off the edge."""
    axis = np.linspace(-BOUND, BOUND, 2 * LATTICE + 1)[1::2]
    y, x = np.meshgrid(axis, axis, indexing="ij")
    places = np.stack([x.ravel(), y.ravel()], -1)
    with torch.no_grad():
        mean = policy.mean(torch.from_numpy(places)).numpy()
        sigma = policy.log_std.exp().expand(len(places), 2).numpy()
    return np.concatenate([places, mean, sigma], -1)


def path_blocks(
    measures: Measures,
    policy: GaussianPolicy,
    settings: Settings,
    paths: Paths,
    advantages_BT: Tensor | None = None,
) -> Blocks:
    """path_offsets `[B + 1]` and path_points `[B (T + 1), 6]`: x, y, altitude, V, advantage, KL.

    V is the policy's, of all that is left of the walk. Advantage and KL (exact, of the action's distribution)
    belong to the step that leads to the point: 0 in the first row of a path; without advantages they are 0.
    """
    states = paths.states
    count, rows = states.shape[:2]
    table = torch.zeros(count, rows, 6, dtype=torch.float64)
    table[..., :2] = states
    table[..., 2] = measures.terrain.height(states, settings.layer)
    table[..., 3] = measures.path_values(policy, states, settings.layer, _gamma(settings))
    if advantages_BT is not None:
        table[:, 1:, 4] = advantages_BT
    with torch.no_grad():
        table[:, 1:, 5] = policy.kl(measures.reference, states[:, :-1])
    offsets = np.arange(count + 1, dtype=np.int32) * rows
    return {"path_offsets": offsets, "path_points": table.reshape(-1, 6).numpy()}


def _gamma(settings: Settings) -> float:
    assert settings.gamma is not None
    return settings.gamma
