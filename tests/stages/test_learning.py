"""Each stage learns what can be learned, nothing where nothing can be, and notices a flipped sign."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ridgeline.objectives.policy import policy_loss
from ridgeline.objectives.reward import bradley_terry
from ridgeline.objectives.supervised import nll
from tests.stages import learnable, recipes
from tests.stages.learnable import (
    copied,
    copy_stage,
    gain,
    policy_stage,
    ranked,
    ranking_stage,
    result_of,
    rose,
)

SEEDS = (1, 2, 3)


@pytest.fixture(scope="module", params=SEEDS)
def seed(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(scope="module")
def world(seed: int, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return learnable.make_tasks(recipes.make_world(tmp_path_factory.mktemp("world")), seed)


@pytest.fixture(scope="module")
def first_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return learnable.make_tasks(recipes.make_world(tmp_path_factory.mktemp("world")), 1)


def _even(world: Path) -> str:
    return f"{world / 'tasks.py'}:even"


def test_sft_learns_to_copy(world: Path, seed: int) -> None:
    assert copied(result_of(world, "copy", copy_stage(), seed=seed))


def test_sft_cannot_learn_shuffled_answers(world: Path, seed: int) -> None:
    result = result_of(world, "shuffled", copy_stage("shuffled"), seed=seed)
    assert not copied(result)
    assert result["heldout_nll_after"] < result["heldout_nll_before"], "which words occur can be learned"


@pytest.mark.parametrize("backbone", ["frozen", "full"])
def test_reward_model_learns_the_rule(world: Path, seed: int, backbone: str) -> None:
    assert ranked(result_of(world, f"rule-{backbone}", ranking_stage(backbone=backbone), seed=seed))


def test_reward_model_cannot_learn_coin_flips(world: Path, seed: int) -> None:
    result = result_of(world, "coin", ranking_stage("coin"), seed=seed)
    assert not ranked(result)
    accuracy = result["after"]["accuracy"]
    assert accuracy["low"] < 0.5 < accuracy["high"]


def test_rl_raises_its_reward(world: Path, seed: int) -> None:
    assert rose(result_of(world, "even", policy_stage(world), seed=seed), _even(world))


def test_rl_cannot_raise_a_coin(world: Path, seed: int) -> None:
    """The same updates with a reward that says nothing: neither the coin nor the task's reward moves."""
    stage = policy_stage(world, "random_coin", monitor=[_even(world)])
    result = result_of(world, "coin-policy", stage, seed=seed)
    assert not rose(result, "random_coin")
    assert not rose(result, _even(world))
    assert abs(gain(result, _even(world))) < 0.15


def _flipped_policy_loss(*arguments: Any, **named: Any) -> Any:
    parts = policy_loss(*arguments, **named)
    return parts._replace(loss_BT=-parts.loss_BT)


MUTANTS: dict[
    str, tuple[str, Callable[..., Any], Callable[[Path], Any], Callable[[dict[str, Any]], bool]]
] = {
    "rl": (
        "ridgeline.training.policy_gradient.policy_loss",
        _flipped_policy_loss,
        lambda world: policy_stage(world),
        lambda result: rose(result, next(name for name in map(_reward_name, result["after"]) if name)),
    ),
    "sft": (
        "ridgeline.training.next_token.nll",
        lambda logp: -nll(logp),
        lambda world: copy_stage(),
        copied,
    ),
    "reward model": (
        "ridgeline.training.pairwise.bradley_terry",
        lambda *sides: -bradley_terry(*sides),
        lambda world: ranking_stage(),
        ranked,
    ),
}


def _reward_name(key: str) -> str:
    return key.removeprefix("reward/") if key.endswith(":even") else ""


@pytest.mark.parametrize("stage", MUTANTS)
def test_a_flipped_sign_is_noticed(stage: str, first_world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The criteria above are able to fail."""
    place, mutant, table, learned = MUTANTS[stage]
    monkeypatch.setattr(place, mutant)
    assert not learned(result_of(first_world, f"flipped {stage}", table(first_world)))
