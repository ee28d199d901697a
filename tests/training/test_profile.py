"""A profiled run: the same results, a phase table and a trace of one step."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tests.stages import recipes

from ridgeline.schema.recipe import Recipe
from ridgeline.schema.run_folder import Metrics
from ridgeline.stages.pipeline import run_recipe
from ridgeline.training.observer import Silent
from ridgeline.training.profile import OPERATORS, ProfilingObserver

BETWEEN = ("between steps", "saving a checkpoint", "evaluating")
"""Phases outside of the loop's own clock."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    world = recipes.make_world(tmp_path_factory.mktemp("world"))
    return recipes.recipe(world, recipes.sft(), recipes.rl(world, name="rl"))


def profiled(made: Recipe, folder: Path, stage: str | None = None) -> ProfilingObserver:
    observer = ProfilingObserver(Silent(), folder, stage)
    run_recipe(made, folder, resume=False, observer=observer)
    return observer


def test_a_profile_changes_no_result(made: Recipe, tmp_path: Path) -> None:
    run_recipe(made, tmp_path / "plain", resume=False)
    profiled(made, tmp_path / "profiled")
    assert recipes.differing(tmp_path / "plain", tmp_path / "profiled") == [
        "stages/01-sft/profile/phases.json",
        "stages/01-sft/profile/trace.json",
    ]


def test_the_second_step_of_the_stage_named(made: Recipe, tmp_path: Path) -> None:
    found = profiled(made, tmp_path / "run", "rl").result
    assert found is not None and (found.stage, found.step) == ("rl", 1)
    folder = recipes.stage_folder(tmp_path / "run", 2) / "profile"
    assert not (recipes.stage_folder(tmp_path / "run", 1) / "profile").exists()
    names = [phase.name for phase in found.phases]
    wanted = ("sampling", "comparing with the reference", "learning (policy)", "optimizer step (policy)")
    assert [name for name in names if name in wanted] == list(wanted) and "writing" in names
    assert found.seconds == pytest.approx(sum(phase.seconds for phase in found.phases))
    assert sum(phase.share for phase in found.phases) == pytest.approx(1)
    lines = (recipes.stage_folder(tmp_path / "run", 2) / "timings.jsonl").read_text().splitlines()
    spent = next(json.loads(line)["seconds"] for line in lines if json.loads(line)["step"] == 1)
    between = sum(part.seconds for part in found.phases if part.name in BETWEEN)
    assert sum(spent.values()) == pytest.approx(found.seconds - between, rel=0.3, abs=0.05)
    assert 1 < len(found.operators) <= OPERATORS
    assert [part.seconds for part in found.operators] == sorted(
        (part.seconds for part in found.operators), reverse=True
    )
    assert any("mm" in part.name for part in found.operators)
    assert json.loads((folder / "phases.json").read_text()) == found.as_dict()
    events = {event.get("name") for event in json.loads((folder / "trace.json").read_text())["traceEvents"]}
    assert "phase: sampling" in events and "aten::mm" in events


class Impatient(Silent):
    """Gives up while the second step of the first stage learns."""

    steps = 0

    def phase(self, text: str) -> None:
        if self.steps == 1 and text.startswith("learning"):
            raise KeyboardInterrupt

    def step(self, step: int, total: int, metrics: Metrics) -> None:
        self.steps += 1


def test_a_step_that_does_not_end_leaves_no_profile(made: Recipe, tmp_path: Path) -> None:
    observer = ProfilingObserver(Impatient(), tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        run_recipe(made, tmp_path / "run", resume=False, observer=observer)
    assert torch.autograd._profiler_enabled()
    assert observer.close() is None
    assert not torch.autograd._profiler_enabled()
    assert not list((tmp_path / "run").rglob("profile"))
    again = profiled(made, tmp_path / "again")
    assert again.result is not None and again.close() is again.result


def test_no_second_step_no_profile(made: Recipe, tmp_path: Path) -> None:
    short = made.model_copy(update={"stage": [made.stage[0].model_copy(update={"epochs": 0.01})]})
    assert profiled(short, tmp_path / "run").result is None
    assert not (recipes.stage_folder(tmp_path / "run", 1) / "profile").exists()
