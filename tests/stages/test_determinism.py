"""One seed, one result."""

from __future__ import annotations

from pathlib import Path

import pytest

from ridgeline.stages.pipeline import run_recipe
from tests.stages import recipes
from tests.stages.recipes import contents, differing


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recipes.make_world(tmp_path_factory.mktemp("world"))


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(world: Path) -> None:
    for run, seed in (("one", 1), ("two", 1), ("other", 2)):
        run_recipe(recipes.recipe(world, *recipes.everything(world), seed=seed), world / run, resume=False)
    assert differing(world / "one", world / "two") == []
    changed = differing(world / "one", world / "other")
    learned = [name for name in contents(world / "one") if name.endswith(("model.safetensors", ".parquet"))]
    frozen = "stages/03-frozen/model/model.safetensors"
    for name in learned:
        assert name in changed or name == frozen or "/base/" in name, name
    assert any("/base/" in name for name in changed), "evaluation draws depend on the seed too"


def test_the_seed_alone_changes_batches_of_sft(world: Path) -> None:
    """Not a side effect of another split: the held-out rows are a file."""
    stage = recipes.sft(heldout="demonstrations.jsonl")
    for run, seed in (("three", 3), ("four", 4)):
        run_recipe(recipes.recipe(world, stage, seed=seed), world / run, resume=False)
    assert recipes.weights(world / "three") != recipes.weights(world / "four")


def test_stages_of_one_recipe_do_not_share_draws(world: Path) -> None:
    """Two equal stages of other names sample other completions."""
    stages = [recipes.evaluate(world, "base", name=name) for name in ("first", "second")]
    run_recipe(recipes.recipe(world, *stages), world / "twice", resume=False)
    samples = [recipes.stage_folder(world / "twice", n) / "samples" / "all.parquet" for n in (1, 2)]
    assert samples[0].read_bytes() != samples[1].read_bytes()
