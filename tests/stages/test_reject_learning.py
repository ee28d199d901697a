"""Rejection sampling raises its reward above its random control, and a coin raises nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ridgeline.statistics import selection
from tests.stages import learnable, recipes
from tests.stages.learnable import result_of

SEEDS = (1, 2, 3)


def stage(world: Path, **changes: Any) -> dict[str, Any]:
    """64 samples of 8 prompts, of which about 32 are kept, and four passes over them."""
    return {
        "name": "reject",
        "type": "reject",
        "prompts": "questions.jsonl",
        "heldout": "questions.jsonl",
        "reward": [even(world)],
        "samples_per_prompt": 64,
        "keep": 4,
        "allow_truncated": True,
        "sampling": recipes.SAMPLING,
        "optimiser": {"learning_rate": 1e-2, "warmup": 0},
        "epochs": 4,
        "evaluation_samples": 16,
        **changes,
    }


def even(world: Path) -> str:
    return f"{world / 'tasks.py'}:even"


def beat_the_control(result: dict[str, Any], reward: str) -> bool:
    """The interval of the difference, paired by prompt, lies above 0."""
    return bool(result["against_control"][f"reward/{reward}"]["low"] > 0)


def gain(result: dict[str, Any], reward: str) -> float:
    before, after = (result[when][f"reward/{reward}"]["value"] for when in ("before", "after"))
    return float(after - before)


@pytest.fixture(scope="module", params=SEEDS)
def seed(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(scope="module")
def world(seed: int, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return learnable.make_tasks(recipes.make_world(tmp_path_factory.mktemp("world")), seed)


@pytest.fixture(scope="module")
def once(world: Path, seed: int) -> dict[str, Any]:
    return result_of(world, "once", stage(world), seed=seed)


@pytest.fixture(scope="module")
def first_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return learnable.make_tasks(recipes.make_world(tmp_path_factory.mktemp("world")), 1)


def test_the_reward_rises_above_the_control(once: dict[str, Any], world: Path) -> None:
    assert beat_the_control(once, even(world))
    assert gain(once, even(world)) > 0.08
    assert once["rounds"][0]["rewards"]["total"]["gain"]["low"] > 0


def test_a_coin_teaches_nothing(world: Path, seed: int) -> None:
    """Nor does the task's own reward, which nothing selected by, end above the control's."""
    coin = stage(world, reward=["random_coin"], monitor=[even(world)])
    result = result_of(world, "coin", coin, seed=seed)
    assert result["rounds"][0]["rewards"]["random_coin"]["gain"]["low"] > 0, "what is selected has the coin"
    assert not beat_the_control(result, "random_coin")
    assert not beat_the_control(result, even(world))


def test_expert_iteration_goes_further_than_one_round(once: dict[str, Any], world: Path, seed: int) -> None:
    twice = result_of(world, "twice", stage(world, repeat=2, restart="current"), seed=seed)
    assert beat_the_control(twice, even(world))
    assert gain(twice, even(world)) > gain(once, even(world)) + 0.05
    assert twice["after"]["kl_k1"]["value"] > once["after"]["kl_k1"]["value"]


@pytest.mark.parametrize(
    "changes",
    [
        {"selection": "top_k", "keep": 32},
        {"selection": "threshold", "threshold": 0.8, "keep": None},
        {"selection": "statistical", "beta": 0.05},
    ],
    ids=lambda changes: changes["selection"],
)
def test_every_selection_teaches(first_world: Path, changes: dict[str, Any]) -> None:
    table = {key: value for key, value in stage(first_world, **changes).items() if value is not None}
    result = result_of(first_world, str(changes["selection"]), table)
    assert beat_the_control(result, even(first_world))


def test_selecting_the_worst_is_noticed(first_world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """argsort ascends: the criteria above are able to fail."""
    original = selection.top_per_prompt
    monkeypatch.setattr(
        "ridgeline.stages.rejecting.selection.top_per_prompt",
        lambda rewards_PG, keep: original(-np.asarray(rewards_PG), keep),
    )
    result = result_of(first_world, "worst", stage(first_world))
    assert not beat_the_control(result, even(first_world))
    assert gain(result, even(first_world)) < 0
