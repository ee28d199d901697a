"""Reward functions given in Python, as names that a recipe can hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ridgeline.rewards.resolve import reference_of
from ridgeline.schema.errors import UsageError


def reward_name(reward: str | Callable[..., Any]) -> str:
    """``module:function`` of a function that another process can import; a name stays as it is.

    Raises:
        UsageError: the function exists in this process only, so the run could neither isolate nor resume it.
    """
    if isinstance(reward, str):
        return reward
    reference = reference_of(reward)
    if reference is None:
        raise UsageError(
            f"the reward {reward!r} exists in this process only, so a run could not be resumed with it; "
            "put the function into a file and give 'file.py:function'."
        )
    return reference
