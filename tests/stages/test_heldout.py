"""Differences between two sets of held-out completions."""

from __future__ import annotations

import pytest

from ridgeline.schema.records import Sample
from ridgeline.stages.heldout import differences


def sample(prompt: str, index: int, value: float | None, other: float | None = 0.0) -> Sample:
    rewards = {"good": value, "other": other}
    return Sample(prompt, index, [1], [2], [0.0], [True], "stop", "text", rewards=rewards)


def test_paired_by_prompt_over_known_values() -> None:
    """By hand: p 0.5 -> 1, q 2 -> 5; r is known on one side only. Mean difference (0.5 + 3) / 2."""
    first = [sample("p", 0, 0.0), sample("p", 1, 1.0), sample("q", 0, 2.0), sample("q", 1, None)]
    second = [sample("q", 0, 5.0), sample("p", 0, 1.0), sample("p", 1, None), sample("r", 0, 9.0)]
    found = differences(first, second)["reward/good"]
    assert (found["value"], found["count"]) == (pytest.approx(1.75), 2)


def test_a_reward_nobody_shares_is_left_out() -> None:
    found = differences([sample("p", 0, 1.0, None)], [sample("p", 0, 2.0, 3.0)])
    assert list(found) == ["reward/good"]
