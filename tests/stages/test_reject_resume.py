"""Interrupted anywhere and resumed, a reject or merge stage writes the bytes of one that never stopped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ridgeline.schema.recipe import Recipe
from ridgeline.stages import collecting, pipeline
from tests.stages import recipes
from tests.stages.recipes import Table, differing, run_interrupted
from tests.stages.test_merge import merge
from tests.stages.test_reject import reject


def _two_rounds(world: Path, **changes: object) -> list[Table]:
    built_in = {"reward": ["random_coin"], "monitor": ["length"], "repeat": 2}
    return [reject(world, **{**built_in, "checkpoint_every": 3, **changes})]


STAGES: dict[str, Callable[[Path], list[Table]]] = {
    "from the start, every step": lambda world: _two_rounds(world, checkpoint_every=1, evaluate_every=2),
    "from the current": lambda world: _two_rounds(world, restart="current", checkpoint_every=2),
    "adapter, no control": lambda world: _two_rounds(
        world, adapter={"rank": 2}, control=False, restart="current"
    ),
    "statistical, checkpoints at the ends of rounds only": lambda world: _two_rounds(
        world, selection="statistical", beta=0.5, keep=2, checkpoint_every=1000
    ),
    "selection only": lambda world: _two_rounds(
        world, repeat=1, train=False, heldout=None, preferences="best_worst"
    ),
    "merge": lambda world: [
        recipes.sft(checkpoint_every=2, evaluate_every=0),
        merge(world, "base", "sft", method="dare", density=0.5, rewards=["length"]),
    ],
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recipes.make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module", params=STAGES)
def whole(request: pytest.FixtureRequest, world: Path) -> tuple[Recipe, Path]:
    """A recipe and the run of it that was never interrupted."""
    name = str(request.param)
    made = recipes.recipe(world, *STAGES[name](world))
    folder = world / name.replace(" ", "-")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collecting, "COMPLETIONS_PER_PART", 12)
        pipeline.run_recipe(made, folder, resume=False)
    return made, folder


@pytest.mark.parametrize("gently", [True, False], ids=["asked to stop", "broken off"])
def test_the_same_bytes(
    whole: tuple[Recipe, Path], gently: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collecting, "COMPLETIONS_PER_PART", 12)
    made, folder = whole
    stops = run_interrupted(made, tmp_path / "run", lambda attempt: 3 + 5 * attempt, gently=gently)
    assert stops >= 1
    assert differing(folder, tmp_path / "run") == []
