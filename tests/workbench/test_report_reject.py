"""The report of runs with rejection sampling and merging."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from tests.stages import recipes
from tests.stages.test_merge import merge
from tests.stages.test_reject import reject

from ridgeline.stages.pipeline import run_recipe
from ridgeline.workbench.report import write_report


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    world = recipes.make_world(tmp_path_factory.mktemp("world"))
    coin = {"reward": ["random_coin"], "monitor": ["length"]}
    stages = [
        reject(world, repeat=2, good_from=6.0, evaluate_every=2, **coin),
        reject(world, name="chosen", train=False, heldout=None, preferences="best_worst", **coin),
        merge(world, "base", "reject", rewards=["length"]),
        merge(world, "base", "reject", name="quiet", method="ties", heldout=None, rewards=None),
    ]
    run_recipe(recipes.recipe(world, *stages), world / "run", resume=False)
    return world / "run"


def sections(run: Path) -> dict[str, str]:
    page = write_report(run).read_text(encoding="utf-8")
    assert "could not be drawn" not in page and "knows no stage" not in page
    found = re.findall(r'<section id="stage-([a-z-]+)">(.*?)</section>', page, re.DOTALL)
    return dict(found)


def test_a_reject_stage(run: Path) -> None:
    section = sections(run)["reject"]
    assert "Read only these differences." in section
    for title in (
        "random_coin, held-out",
        "length, held-out",
        "Policy minus random control",
        "Best of n: random_coin",
        "Best of n: length by KL",
        "Rewards by selection",
        "reject: next-token loss",
    ):
        assert f"<h4>{title}</h4>" in section
    assert "Rounds end at step 4, 8." in section
    assert "Prompts with good and bad completions (length)" in section
    assert section.count('<th scope="row">') == 2, "a row for each round"


def test_selection_without_training(run: Path) -> None:
    section = sections(run)["chosen"]
    assert "Best of n: random_coin" in section and "Pairs written" in section
    assert "Read only" not in section and "next-token loss" not in section


def test_merges(run: Path) -> None:
    found = sections(run)
    assert "Merged minus first model" in found["merged"] and "KL to the first" in found["merged"]
    assert "was not compared" in found["quiet"] and "Task vectors start at" in found["quiet"]


def test_unfinished_stages_are_shown_as_far_as_they_went(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("report.html"))
    for path in copy.rglob("result.json"):
        path.unlink()
    found = sections(copy)
    assert "random_coin, held-out" in found["reject"] and "Nothing has been selected yet." in found["reject"]
    assert "Nothing has been merged yet." in found["merged"]
