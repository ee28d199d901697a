"""What a map says about itself: the honesty line of every frame, and why the map is poor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ridgeline.landscape.maps.axes import Plane
from ridgeline.landscape.maps.drift import Drift
from ridgeline.landscape.maps.source import MapSource
from ridgeline.landscape.maps.surface import Surface

LOW_R2 = 0.1
LOW_SHOWN = 0.05
FEW_REFERENCE = 200
_AXES = {"pca": "", "reward": ", reward axis x", "drift": ", drift axis x"}


@dataclass(frozen=True)
class Facts:
    """Counts that the warnings look at. ``unplaced``: samples whose prompt has no reference samples."""

    samples: int
    prompts: int
    reference: int
    unplaced: int
    unplaced_prompts: int
    truncated_sampling: bool
    greedy: bool


def map_line(plane: Plane) -> str:
    """``map: ref-hidden PCA, reward axis x, fitted on ...``."""
    on = "reference samples" if plane.method == "pca" else f"samples of {plane.fitting}"
    return f"map: ref-hidden PCA{_AXES[plane.method]}, fitted on {plane.samples:,} {on}"


def honesty_line(
    source: MapSource, step: int, plane: Plane, surface: Surface, altitude: str, drift: Drift, counts: str
) -> str:
    """One line that belongs under every picture of the frame."""
    r2 = "R2 unknown" if math.isnan(surface.r2) else f"R2 {surface.r2:.2f}"
    residual = "" if math.isnan(surface.residual) else f", residual +-{surface.residual:.2g}"
    kl = "KL not measured" if not math.isfinite(drift.kl) else f"KL {drift.kl:.2g} nats/seq (k1)"
    if math.isfinite(drift.shown):
        least = "at least " if drift.projected.is_at_its_limit else ""
        shown = f"shows {least}{100 * min(drift.shown, 1.0):.0f} % of the drift"
    else:
        shown = "no drift yet" if drift.kl <= 0.05 else "share of the drift unknown"
    parts = (
        f'LM run "{source.run}/{source.folder.name}", step {step}',
        map_line(plane),
        f"altitude = {altitude}, {r2}{residual}",
        kl,
        shown,
        counts,
    )
    return " | ".join(parts)


def warnings_of(
    source: MapSource, facts: Facts, plane: Plane, surface: Surface, drifts: Sequence[Drift]
) -> list[str]:
    """Sentences on why the map is poor; empty for a good one."""
    return [*_altitude(surface), *_drift(drifts), *_samples(facts), *_reference(source, facts), *_axis(plane)]


def _altitude(surface: Surface) -> list[str]:
    if math.isnan(surface.r2):
        return ["Altitude: too few samples of held-out prompts to say how much of it the map explains."]
    if surface.r2 < LOW_R2:
        return [
            f"Altitude: places explain almost nothing of the reward (held-out R2 {surface.r2:.2f}); the "
            "hills are not to be believed."
        ]
    if not surface.r2_within >= 0.05:
        return [
            f"Altitude: the map tells steps apart (R2 {surface.r2:.2f}) but not good from bad samples of one "
            f"step (R2 {surface.r2_within:.2f})."
        ]
    return []


def _drift(drifts: Sequence[Drift]) -> list[str]:
    known = [drift.shown for drift in drifts if math.isfinite(drift.shown)]
    if not known:
        moved = any(drift.kl > 0.05 for drift in drifts)
        return (
            [
                "Drift: no step has 32 samples of prompts whose reference samples are known, so it is "
                "unknown how much of the drift the picture shows."
            ]
            if moved
            else []
        )
    if known[-1] < LOW_SHOWN:
        return [f"Drift: the picture shows {known[-1]:.1%} of it; most of what changed is not on this map."]
    return []


def _samples(facts: Facts) -> list[str]:
    found = []
    if facts.reference < FEW_REFERENCE:
        found.append(
            f"Reference: {facts.reference} samples draw its cloud; under {FEW_REFERENCE} it is rough."
        )
    if facts.unplaced:
        found.append(
            f"Prompts: {facts.unplaced_prompts} of {facts.prompts} have no reference samples of their own; "
            f"their {facts.unplaced:,} of {facts.samples:,} samples are centred on the mean of all prompts, "
            "so their places also tell topics apart."
        )
    return found


def _reference(source: MapSource, facts: Facts) -> list[str]:
    found = []
    if source.starts_elsewhere:
        found.append(
            "Reference: the cloud is of the starting model, while KL is measured to the stage's `reference`; "
            "the bound does not hold between them."
        )
    if source.reference_moves:
        found.append("Reference: it follows the policy (refresh), while the map stays with the first one.")
    if source.settings.get("discriminator"):
        found.append("Reward: the judge learns along, so altitudes of different steps cannot be compared.")
    if facts.truncated_sampling:
        found.append(
            "KL: options such as top_p changed the sampled distribution, so its KL to the reference is off."
        )
    if facts.greedy:
        found.append("KL: greedy samples have no distribution, so their KL is not estimated.")
    return found


def _axis(plane: Plane) -> list[str]:
    if plane.method != "pca" and plane.fit_r2 < 0.02:
        return [
            f"Axis x: what it was fitted to is hardly in the states (held-out R2 {plane.fit_r2:.2f} while "
            "fitting); its direction is mostly noise."
        ]
    return []
