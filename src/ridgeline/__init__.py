"""Ridgeline: post-training you can see.

``import ridgeline as rl`` imports nothing heavy; every name below is loaded at its first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ridgeline.landscape.maps import build as map_run
    from ridgeline.landscape.pictures import picture as draw_landscape
    from ridgeline.landscape.world.training import train as train_walker
    from ridgeline.studio import launch as launch_studio
    from ridgeline.workbench.api import (
        distill,
        evaluate,
        load_model,
        merge,
        reject,
        replay,
        resume,
        run,
        sample,
        score,
        train_preference,
        train_reward_model,
        train_rl,
        train_sft,
        train_unpaired,
    )

__all__ = [
    "distill",
    "draw_landscape",
    "evaluate",
    "launch_studio",
    "load_model",
    "map_run",
    "merge",
    "reject",
    "replay",
    "resume",
    "run",
    "sample",
    "score",
    "train_preference",
    "train_reward_model",
    "train_rl",
    "train_sft",
    "train_unpaired",
    "train_walker",
]

_ELSEWHERE = {
    "draw_landscape": ("ridgeline.landscape.pictures", "picture"),
    "launch_studio": ("ridgeline.studio", "launch"),
    "map_run": ("ridgeline.landscape.maps", "build"),
    "train_walker": ("ridgeline.landscape.world.training", "train"),
}
"""Where a name lives that is not in `workbench.api`, and what it is called there."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'ridgeline' has no attribute '{name}'")
    import importlib

    module, attribute = _ELSEWHERE.get(name, ("ridgeline.workbench.api", name))
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
