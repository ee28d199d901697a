"""A sign flipped in `objectives.policy` is noticed twice: by the walker, and by a language model.

Both train through the same function, so one mutation must make the learning test of either fail.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.landscape.world.walking import ALGORITHMS, GAIN, gain
from tests.stages import learnable, recipes

from ridgeline.objectives import policy as formulas
from ridgeline.objectives.advantages import REWARD_ADVANTAGES

Mutation = Callable[[pytest.MonkeyPatch], None]


def flip_the_policy_term(patch: pytest.MonkeyPatch) -> None:
    """-A rho becomes A rho, whatever bounds the ratio."""
    plain = formulas.bounded_loss

    def flipped(*arguments: Any) -> Any:
        parts = plain(*arguments)
        return parts._replace(loss_BT=-parts.loss_BT)

    patch.setattr(formulas, "bounded_loss", flipped)


def walker_learns(algorithm: str) -> bool:
    return gain(algorithm, seed=0) > GAIN


def language_model_learns(world: Path, run: str) -> bool:
    """The learning test of the stages: GRPO makes a tiny model prefer even tokens."""
    reward = f"{world / 'tasks.py'}:even"
    changes = {"objective": "grpo", "steps": 10, "epochs_per_rollout": 2}
    result = learnable.result_of(world, run, learnable.policy_stage(world, reward, **changes))
    return learnable.rose(result, reward)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return learnable.make_tasks(recipes.make_world(tmp_path_factory.mktemp("world")), 1)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_walker_notices_a_flipped_sign(algorithm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert walker_learns(algorithm)
    flip_the_policy_term(monkeypatch)
    assert not walker_learns(algorithm)


def test_the_language_model_notices_the_same_flipped_sign(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert language_model_learns(world, "as-it-is")
    flip_the_policy_term(monkeypatch)
    assert not language_model_learns(world, "flipped")


def test_the_walker_notices_a_flipped_advantage(monkeypatch: pytest.MonkeyPatch) -> None:
    """The advantages come from `objectives` too: both kinds, per path and per step."""
    from ridgeline.objectives import advantages

    changed = {
        **REWARD_ADVANTAGES,
        "group_zscore": lambda rewards: -REWARD_ADVANTAGES["group_zscore"](rewards),
    }
    monkeypatch.setattr(advantages, "REWARD_ADVANTAGES", changed)
    assert not walker_learns("grpo")
    plain = advantages.rewards_to_go
    monkeypatch.setattr(advantages, "rewards_to_go", lambda *arguments: -plain(*arguments))
    assert not walker_learns("reinforce")
