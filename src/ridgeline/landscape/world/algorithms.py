"""From `Settings` to a `PolicyObjective`: a named preset, moved along the axes that were set."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ridgeline.landscape.world.settings import Settings
from ridgeline.objectives.axes import PolicyObjective
from ridgeline.objectives.presets import PRESETS


def objective_of(settings: Settings) -> PolicyObjective:
    """The point in the space of algorithms that resolved settings name. Pure.

    KL placement, estimator, aggregation and importance correction stay those of the preset. The critic's
    value clip is taken out: its 0.2 is meant for rewards near 1, and returns here reach 30.
    """
    preset = PRESETS["ppo" if settings.algorithm == "trpo" else settings.algorithm]
    return replace(preset, **_shared(settings), **_advantage(settings), **_bounding(settings))


def _shared(settings: Settings) -> dict[str, Any]:
    return {"kl_coefficient": settings.beta, "entropy_coefficient": settings.entropy}


def _advantage(settings: Settings) -> dict[str, Any]:
    """Axes of the advantage: groups keep the preset's, the others depend on the baseline."""
    if settings.algorithm == "rloo":
        return {"whiten": settings.normalise_std}
    if settings.algorithm == "grpo":
        return {"advantage": "group_zscore" if settings.normalise_std else "group_centred"}
    common = {"whiten": settings.normalise_std, "gamma": settings.gamma, "value_clip": None}
    if settings.baseline in ("exact", "learned"):
        return {**common, "advantage": "gae", "lam": settings.lam, "value_coefficient": 0.5}
    return {**common, "advantage": "rewards_to_go", "value_coefficient": 0.0}


def _bounding(settings: Settings) -> dict[str, Any]:
    if settings.algorithm in ("reinforce", "rloo"):
        return {}
    if settings.algorithm == "trpo" or settings.clip == 0:
        return {"bounding": "none", "clip_low": None, "clip_high": None}
    return {"clip_low": settings.clip, "clip_high": settings.clip}
