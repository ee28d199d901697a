"""What users get wrong about a reject stage, and what it survives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ridgeline.schema.errors import DataError, RidgelineError, UsageError
from ridgeline.schema.records import Sample
from ridgeline.schema.run_folder import read_lines
from ridgeline.stages import rejecting
from ridgeline.stages.pipeline import run_recipe
from tests.stages import recipes
from tests.stages.recipes import Table, recipe, stage_folder
from tests.stages.test_reject import reject


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recipes.make_world(tmp_path_factory.mktemp("world"))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"selection": "treshold"}, "did you mean 'threshold'?"),
        ({"selection": "threshold", "keep": None}, 'selection = "threshold" needs threshold'),
        ({"selection": "threshold", "threshold": 1.0}, "remove keep"),
        ({"threshold": 1.0}, 'threshold means nothing to selection = "top_per_prompt"'),
        ({"beta": 1.0}, "beta means nothing"),
        ({"selection": "statistical"}, "needs beta"),
        ({"selection": "top_k", "keep": None}, "needs keep"),
        ({"keep": 7}, "keep cannot exceed samples_per_prompt"),
        ({"samples_per_prompt": 1}, "leaves nothing to choose"),
        ({"sampling": {"temperature": 0.0}}, "the same completion every time"),
        ({"preferences": "accepted"}, 'needs selection = "statistical"'),
        ({"heldout": None}, "set control = false"),
        ({"train": False}, "so heldout has no use"),
        ({"train": False, "heldout": None, "adapter": {}}, "so adapter has no use"),
        ({"train": False, "heldout": None, "repeat": 2}, "a second round would be the first again"),
        ({"restart": "current"}, "raise repeat"),
        ({"model": "later"}, "does not exist before this stage"),
        ({"reward": []}, "reward"),
    ],
)
def test_options_that_make_no_sense_are_refused(world: Path, changes: Table, expected: str) -> None:
    with pytest.raises(UsageError) as caught:
        recipe(world, reject(world, **changes))
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"selection": "threshold", "keep": None, "threshold": 100.0},
            "36 below the threshold of 100); lower",
        ),
        ({"allow_truncated": False, "sampling": {"max_new_tokens": 1}}, "raise sampling.max_new_tokens"),
    ],
)
def test_nothing_to_select_is_said(world: Path, changes: Table, expected: str, tmp_path: Path) -> None:
    with pytest.raises(RidgelineError) as caught:
        run_recipe(recipe(world, reject(world, **changes)), tmp_path / "run", resume=False)
    assert type(caught.value) is DataError
    assert expected in str(caught.value) and "none of 36 completions can be selected" in str(caught.value)


def test_a_later_round_without_a_selection_is_survived(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = rejecting.choose

    def nothing_later(pool: list[Sample], *rest: Any) -> Any:
        return original(pool, *rest) if pool[0].index == 0 else np.zeros(0, dtype=np.int64)

    monkeypatch.setattr(rejecting, "choose", nothing_later)
    watcher = recipes.Recorder()
    made = recipe(world, reject(world, repeat=2))
    run_recipe(made, world / "dry", resume=False, observer=watcher)
    assert ("note", "round 2: nothing can be selected, so nothing is learned") in watcher.calls
    lines = read_lines(stage_folder(world / "dry") / "metrics.jsonl")
    assert len(lines) == 5 and "learning_rate" not in lines[-1]["metrics"]
