"""Every kind of reward model learns a rule, cannot learn shuffled labels, and notices a flipped loss."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ridgeline.objectives import reward as formulas
from tests.stages import recipes, reward_tasks
from tests.stages.learnable import result_of
from tests.stages.reward_tasks import KINDS, above_chance, learned, stage

CASES = [(loss, backbone) for loss in KINDS for backbone in ("frozen", "full")]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reward_tasks.make_tasks(recipes.make_world(tmp_path_factory.mktemp("world")), 1)


@pytest.mark.parametrize(("loss", "backbone"), CASES)
def test_learns_the_rule(world: Path, loss: str, backbone: str) -> None:
    """Random features blur steps, so the frozen judge of steps has to be well above chance only."""
    few = {"epochs": 8} if backbone == "full" and KINDS[loss] != "rankings" else {}
    blurred = backbone == "frozen" and loss.startswith("process")
    changes = {**few, **({"layer": 1} if blurred else {})}
    result = result_of(world, f"{loss}-{backbone}", stage(KINDS[loss], loss, backbone=backbone, **changes))
    assert above_chance(result) if blurred else learned(result), result["after"]


@pytest.mark.parametrize("loss", KINDS)
def test_cannot_learn_shuffled_labels(world: Path, loss: str) -> None:
    result = result_of(world, f"{loss}-coin", stage(f"{KINDS[loss]}-coin", loss, layer=1))
    assert not learned(result) and not above_chance(result), result["after"]
    assert result["after"]["nll"] > 0.9 * result["before"]["nll"], "a coin stays as surprising as it was"


FORMULAS = {
    "grouped": ("rankings", "grouped_bradley_terry"),
    "plackett_luce": ("rankings", "plackett_luce"),
    "outcome": ("labelled", "outcome_bce"),
    "pooled_outcome": ("labelled", "pooled_outcome_bce"),
    "process": ("labelled", "process_bce"),
    "process_3class": ("labelled", "process_ce"),
}


@pytest.mark.parametrize("loss", FORMULAS)
def test_a_flipped_sign_is_noticed(world: Path, loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, name = FORMULAS[loss]
    plain: Callable[..., Any] = getattr(formulas, name)
    monkeypatch.setattr(f"ridgeline.training.{module}.{name}", lambda *arguments: -plain(*arguments))
    result = result_of(world, f"flipped-{loss}", stage(KINDS[loss], loss, epochs=1))
    assert not learned(result)
    assert result["after"]["nll"] > result["before"]["nll"]
