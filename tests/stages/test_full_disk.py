"""No space left on the device, wherever it strikes: exit 4, and what was saved goes on later."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any, NoReturn

import pytest

from ridgeline.models.load import LanguageModel
from ridgeline.schema import run_folder
from ridgeline.schema.errors import RunError
from ridgeline.stages import collecting, rollouts
from ridgeline.stages.pipeline import run_recipe
from ridgeline.training import checkpoints
from tests.stages import recipes
from tests.stages.recipes import recipe, rl, sft


@pytest.fixture
def world(tmp_path: Path) -> Path:
    return recipes.make_world(tmp_path / "world")


def _full(*arguments: Any, **named: Any) -> NoReturn:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_while_saving_a_checkpoint(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The older checkpoint is intact, and the resumed run equals one that never stopped."""
    made = recipe(world, sft())
    run_recipe(made, world / "whole", resume=False)
    original = checkpoints._sync
    steps: list[str] = []

    def sync(path: Path) -> None:
        if path.name.startswith(".step-000003"):
            _full()
        steps.append(path.name)
        original(path)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "_sync", sync)
        with pytest.raises(RunError, match=r"checkpoint of step 2 is intact.*ridgeline resume"):
            run_recipe(made, world / "run", resume=False)
    kept = [path.name for path in (recipes.stage_folder(world / "run") / "checkpoints").iterdir()]
    assert sorted(kept) == ["step-000001", "step-000002"]
    run_recipe(made, world / "run", resume=True)
    assert recipes.differing(world / "whole", world / "run") == []


@pytest.mark.parametrize("where", ["samples", "model", "result"])
def test_elsewhere(world: Path, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = recipe(world, rl(world, steps=2, reward=["length"]))
    run_recipe(made, world / "whole", resume=False)
    with monkeypatch.context() as patch:
        if where == "samples":
            patch.setattr(rollouts, "write_samples", _full)
        elif where == "model":
            patch.setattr(LanguageModel, "save", _full)
        else:
            patch.setattr(run_folder.StageFolder, "finish", _full)
        with pytest.raises(RunError, match=r"No space left on device.*ridgeline resume") as caught:
            run_recipe(made, world / "run", resume=False)
        assert caught.value.exit_code == 4
    run_recipe(made, world / "run", resume=True)
    assert recipes.differing(world / "whole", world / "run") == []


def test_in_a_sampling_stage(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collecting, "write_samples", _full)
    with pytest.raises(RunError, match="No space left on device"):
        run_recipe(recipe(world, recipes.collect(world)), world / "run", resume=False)
