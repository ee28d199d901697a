"""Everything a map is drawn from, in memory: places, altitudes and values of samples, drift of frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ridgeline.landscape.maps.axes import Plane
from ridgeline.landscape.maps.centring import Reference
from ridgeline.landscape.maps.collect import Table
from ridgeline.landscape.maps.density import Corridor
from ridgeline.landscape.maps.drift import Drift, drift
from ridgeline.landscape.maps.features import Halves
from ridgeline.landscape.maps.source import MapSource
from ridgeline.landscape.maps.surface import Bounds, Surface
from ridgeline.landscape.maps.tokens import Tokens
from ridgeline.landscape.maps.values import Values, critic_values, regressed_values
from ridgeline.rewards.combine import TOTAL
from ridgeline.statistics.inputs import Floats

CHUNK = 1024


@dataclass(frozen=True)
class Heights:
    """Altitudes ``[N]`` per layer: as shown, and as fitted (reference samples stretched like their places).

    trained_mean_N: what is subtracted from the reward that training optimised.
    """

    shown: dict[str, Floats]
    fitted: dict[str, Floats]
    trained_mean_N: Floats


@dataclass(frozen=True)
class Scene:
    """places_NF2: positions of every beginning in the plane; the last one is the completion's."""

    source: MapSource
    table: Table
    reference: Reference
    fitting_N: np.ndarray
    plane: Plane
    tokens: Tokens
    active: str
    heights: Heights
    places_NF2: Floats
    values: Values
    bounds: Bounds
    surfaces: dict[str, Surface]
    corridor: Corridor
    drifts: list[Drift]
    raw: bool

    @property
    def points_N2(self) -> Floats:
        """Where each completion lies."""
        return self.places_NF2[:, -1]


def heights_of(table: Table, reference: Reference, rewards: dict[str, str], *, raw: bool) -> Heights:
    """Rewards minus the reference's mean for the prompt; with ``raw`` as they are."""
    recorded = {layer: table.reward(name) for layer, name in rewards.items()}
    if raw:
        return Heights(recorded, recorded, np.zeros(len(table)))
    return Heights(
        {layer: reference.centre(values, stretch=False) for layer, values in recorded.items()},
        {layer: reference.centre(values, stretch=True) for layer, values in recorded.items()},
        reference.means(table.reward(TOTAL)),
    )


def projected(states_NFH: Halves, directions_KH: Floats, reference: Reference) -> Floats:
    """``[N, F, K]``: states along each direction, minus the prompt's reference mean at the same fraction.

    Centring each fraction by its own mean keeps what every completion does on its way (it leaves the prompt
    behind) out of the picture, and lets a path end exactly at its completion's point.
    """
    parts = [
        states_NFH[start : start + CHUNK].astype(np.float32) @ directions_KH.T.astype(np.float32)
        for start in range(0, len(states_NFH), CHUNK)
    ]
    return reference.centre(np.concatenate(parts).astype(np.float64), stretch=True)


def values_of(
    table: Table, tokens: Tokens, heights: Heights, active: str, along_NFK: Floats, trains_on: str
) -> Values:
    """The critic's, where it judged the active layer; else a regression."""
    if tokens.has_critic and trains_on == TOTAL:
        return critic_values(tokens, heights.trained_mean_N, heights.shown[active])
    return regressed_values(along_NFK, heights.shown[active], table.prompt_N, table.frame_N)


def drifts_of(
    table: Table,
    reference: Reference,
    points_N2: Floats,
    judged_N: np.ndarray,
    corridor: Corridor,
    kl: Sequence[float],
) -> list[Drift]:
    """Every frame against reference samples of the same prompts, as far as these are known."""
    usable = judged_N & reference.placed_N
    found = []
    for frame, nats in enumerate(kl):
        new = usable & (table.frame_N == frame)
        same = usable & reference.reference_N & np.isin(table.prompt_N, table.prompt_N[new])
        found.append(drift(corridor, points_N2[new], table.prompt_N[new], points_N2[same], nats))
    return found
