"""How far each frame has moved in the picture: mass outside the corridor, what KL allows, what is visible."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ridgeline.landscape.maps.bounds import best_of, is_vacuous, most_mass
from ridgeline.landscape.maps.density import Corridor
from ridgeline.landscape.maps.visibility import FEWEST, Visible, projected_kl, share_shown
from ridgeline.statistics.inputs import Floats, Integers
from ridgeline.statistics.intervals import Estimate, clustered_share_interval

WATCHED = (0.9, 0.99)


@dataclass(frozen=True)
class Drift:
    """One frame. outside: level -> share of its samples outside (None: too few); allowed: level -> at most.

    projected: nats between the two clouds in the plane, a lower bound; shown: its share of the KL.
    """

    kl: float
    outside: dict[float, Estimate | None]
    allowed: dict[float, float]
    projected: Visible
    shown: float

    def scalars(self) -> dict[str, float | None]:
        """What charts and the slider read."""
        values: dict[str, float] = {
            "kl": self.kl,
            "best_of_n": best_of(self.kl) if self.kl < 20 else math.nan,
            "projected_kl": self.projected.nats,
            "shown": self.shown,
        }
        for level in WATCHED:
            name, found = f"{level * 100:.0f}", self.outside[level]
            values[f"outside_{name}"] = math.nan if found is None else found.value
            values[f"outside_{name}_low"] = math.nan if found is None else found.low
            values[f"outside_{name}_high"] = math.nan if found is None else found.high
            values[f"allowed_{name}"] = self.allowed[level]
        return {name: value if math.isfinite(value) else None for name, value in values.items()}

    def sentence(self) -> str:
        """The state of the corridor in words."""
        found, allowed = self.outside[0.99], self.allowed[0.99]
        now = "unknown" if found is None else f"{found.value:.0%} now [{found.low:.0%}, {found.high:.0%}]"
        if not math.isfinite(self.kl):
            return f"outside the 99 % contour: {now}; KL not measured"
        if is_vacuous(0.01, max(self.kl, 0.0)):
            return f"outside the 99 % contour: {now}; KL {self.kl:.1f} nats allow anything (no bound)"
        return f"outside the 99 % contour: {now}; KL {self.kl:.2g} nats allow at most {allowed:.0%}"


def drift(corridor: Corridor, new_N2: Floats, prompt_N: Integers, reference_M2: Floats, kl: float) -> Drift:
    """Compare the samples of a frame with reference samples of the same prompts, which may be fewer prompts
    than the corridor was drawn from."""
    enough = min(len(new_N2), len(reference_M2)) >= FEWEST
    outside: dict[float, Estimate | None] = dict.fromkeys(WATCHED)
    if enough:
        for level in WATCHED:
            beyond = corridor.outside(new_N2, level).astype(np.float64)
            outside[level] = clustered_share_interval(beyond, prompt_N)
    projected = projected_kl(new_N2, reference_M2)
    known = math.isfinite(kl)
    allowed = {
        level: most_mass(_reference_share(corridor, reference_M2, level), max(kl, 0.0)) if known else math.nan
        for level in WATCHED
    }
    return Drift(kl, outside, allowed, projected, share_shown(projected.nats, kl if known else None))


def _reference_share(corridor: Corridor, reference_M2: Floats, level: float) -> float:
    """How much of the reference is outside: what the level says, or more where these prompts spread wider."""
    nominal = 1 - level
    if len(reference_M2) < FEWEST:
        return nominal
    return min(max(nominal, float(corridor.outside(reference_M2, level).mean())), 0.999)
