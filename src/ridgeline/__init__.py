"""Ridgeline: post-training you can see.

``import ridgeline as rl`` imports nothing heavy; every name below is loaded at its first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    "evaluate",
    "load_model",
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
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'ridgeline' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module("ridgeline.workbench.api"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
