"""What a merge stage makes of the models of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from ridgeline.models import merge as formulas
from ridgeline.schema.errors import RunError, UsageError
from ridgeline.stages.pipeline import run_recipe
from tests.stages import recipes
from tests.stages.recipes import Table, recipe, stage_folder

Weights = dict[str, torch.Tensor]


def merge(world: Path, *models: str, **changes: Any) -> Table:
    base = {"name": "merged", "type": "merge", "models": list(models), "heldout": "heldout.jsonl"}
    given = {
        "rewards": [recipes.reward(world, "spread")],
        "sampling": recipes.SAMPLING,
        "samples_per_prompt": 2,
    }
    table = {**base, **given, **changes}
    return {key: value for key, value in table.items() if value is not None}


def quietly(world: Path, *models: str, **changes: Any) -> Table:
    """Without a comparison."""
    return merge(world, *models, heldout=None, rewards=None, **changes)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recipes.make_world(tmp_path_factory.mktemp("world"))


def tuned(world: Path) -> list[Table]:
    fast = {"checkpoint_every": 100, "evaluate_every": 0}
    other = {"learning_rate": 3e-3, "warmup": 0}
    return [recipes.sft(name="a", **fast), recipes.sft(name="b", **fast, optimiser=other)]


def load(folder: Path) -> Weights:
    module = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return {name: p.detach() for name, p in module.named_parameters()}


@pytest.fixture(scope="module")
def run(world: Path) -> Path:
    """Two tuned models and every method, in one run."""
    stages = [
        *tuned(world),
        merge(world, "a", "b", name="linear", weights=[0.25, 0.75]),
        quietly(world, "b", "a", name="slerp", method="slerp", weights=[0.7, 0.3]),
        quietly(world, "a", "b", name="arithmetic", method="task_arithmetic", weights=[0.5, -1.0]),
        quietly(world, "a", "b", name="ties", method="ties", density=0.3, scale=0.8),
        quietly(world, "a", "b", name="dare", method="dare", density=0.25, start="a"),
        quietly(world, "base", "a", name="same", weights=[1.0, 0.0]),
    ]
    run_recipe(recipe(world, *stages), world / "run", resume=False)
    return world / "run"


def made(run: Path, number: int) -> Weights:
    return load(stage_folder(run, number) / "model")


def test_every_method_is_its_formula_over_all_weights(run: Path, world: Path) -> None:
    base, a, b = load(world / "model"), made(run, 1), made(run, 2)
    linear, slerp, arithmetic, ties = (made(run, number) for number in (3, 4, 5, 6))
    tasks = [torch.cat([(m[name] - base[name]).flatten() for name in base]) for m in (a, b)]
    keep = round(0.3 * len(tasks[0]))
    cuts = [float(task.abs().sort(descending=True).values[keep - 1]) for task in tasks]
    for name, start in base.items():
        torch.testing.assert_close(linear[name], 0.25 * a[name] + 0.75 * b[name])
        torch.testing.assert_close(slerp[name], formulas.slerp(b[name], a[name], 0.3))
        expected = start + 0.5 * (a[name] - start) - (b[name] - start)
        torch.testing.assert_close(arithmetic[name], expected)
        torch.testing.assert_close(ties[name], formulas.ties(start, [a[name], b[name]], cuts, 0.8))


def test_dare_is_measured_from_the_start_that_is_named(run: Path) -> None:
    """From ``a`` itself its own task vector is nothing, and b's share is kept where the coin says so."""
    a, b, dare = made(run, 1), made(run, 2), made(run, 7)
    kept = total = 0
    for name, start in a.items():
        moved = dare[name] != start
        full = start + 0.5 * (b[name] - start) / 0.25
        torch.testing.assert_close(dare[name][moved], full[moved])
        changed = b[name] != start
        kept, total = kept + int((moved & changed).sum()), total + int(changed.sum())
    assert kept / total == pytest.approx(0.25, abs=0.02)


def test_all_weight_on_the_first_is_the_first(run: Path, world: Path) -> None:
    same = made(run, 8)
    assert all(torch.equal(same[name], weight) for name, weight in load(world / "model").items())


def test_result_and_what_is_left(run: Path) -> None:
    result = stage_result(run, 3)
    assert result["weights"] == {"a": 0.25, "b": 0.75}
    assert 0 < result["distance"]["b"] < result["distance"]["a"], "it is nearer to what weighs more"
    assert result["before"]["kl_k1"]["value"] == 0 != result["after"]["kl_k1"]["value"]
    (name,) = (key for key in result["difference"] if key.endswith(":spread"))
    gap = result["after"][name]["value"] - result["before"][name]["value"]
    assert result["difference"][name]["value"] == pytest.approx(gap)
    assert "before" not in stage_result(run, 4)
    assert list(run.rglob("merging")) == []
    assert AutoTokenizer.from_pretrained(stage_folder(run, 3) / "model").chat_template


def stage_result(run: Path, number: int) -> dict[str, Any]:
    from ridgeline.schema.run_folder import StageFolder

    result = StageFolder(stage_folder(run, number)).result()
    assert result is not None
    return result


def test_three_models_and_an_equal_share(world: Path) -> None:
    stages = [*tuned(world), quietly(world, "base", "a", "b")]
    run_recipe(recipe(world, *stages), world / "three", resume=False)
    base, a, b, soup = load(world / "model"), *(made(world / "three", number) for number in (1, 2, 3))
    for name in base:
        torch.testing.assert_close(soup[name], (base[name] + a[name] + b[name]) / 3)


def test_bfloat16_is_merged_in_float32_and_saved_as_it_runs(world: Path) -> None:
    stages = [*tuned(world), quietly(world, "base", "b")]
    run_recipe(recipe(world, *stages, dtype="bfloat16"), world / "half", resume=False)
    module = AutoModelForCausalLM.from_pretrained(stage_folder(world / "half", 3) / "model", dtype="auto")
    base, b = load(world / "model"), made(world / "half", 2)
    for name, weight in module.named_parameters():
        assert weight.dtype == torch.bfloat16
        start = base[name].bfloat16().float()
        assert torch.equal(weight, (start + 0.5 * (b[name] - start)).bfloat16())


@pytest.mark.parametrize(
    ("models", "changes", "expected"),
    [
        (["base"], {}, "needs at least two models"),
        (["base", "base"], {}, "names one model twice"),
        (["base", "later"], {}, "does not exist before this stage"),
        (["base", "a", "b"], {"method": "slerp"}, "between two models, not 3"),
        (["base", "a"], {"weights": [0.5]}, "there are 1 weights for 2 models"),
        (["base", "a"], {"weights": [0.5, 0.6]}, "add up to 1, not 1.1"),
        (["base", "a"], {"method": "linaer"}, "did you mean 'linear'?"),
        (["base", "a"], {"start": "base"}, "start means nothing to linear"),
        (["base", "a"], {"density": 0.5}, "density means nothing to linear"),
        (["a", "b"], {"method": "task_arithmetic", "scale": 0.5}, "scale means nothing to task_arithmetic"),
        (["a", "b"], {"method": "ties", "weights": [0.5, 0.5]}, "use scale instead"),
        (["a", "b"], {"method": "dare"}, "dare needs a density"),
        (["a", "b"], {"rewards": []}, "needs both heldout and rewards"),
        (["a", "b"], {"method": "ties", "start": "c"}, "start = 'c' does not exist"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    world: Path, models: list[str], changes: Table, expected: str
) -> None:
    with pytest.raises(UsageError) as caught:
        recipe(world, *tuned(world), merge(world, *models, **changes))
    assert expected in str(caught.value)


def test_models_of_other_shapes_are_refused(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No stage of today changes shapes; one of tomorrow may."""
    from ridgeline.stages.context import StageContext

    original = StageContext.language_model

    def wider(self: StageContext, name: str) -> Any:
        model = original(self, name)
        if name == "a":
            model.module.resize_token_embeddings(400)
        return model

    monkeypatch.setattr(StageContext, "language_model", wider)
    with pytest.raises(UsageError, match="merge models of one size"):
        run_recipe(recipe(world, *tuned(world), quietly(world, "base", "a")), world / "shapes", resume=False)
    assert list((world / "shapes").rglob("merging")) == []


def test_a_disk_that_is_full_is_said(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors import SafetensorError

    def full(*arguments: object) -> None:
        raise SafetensorError("No space left on device")

    monkeypatch.setattr(formulas, "save_file", full)
    with pytest.raises(RunError, match=r"could not store its models .*ridgeline resume"):
        run_recipe(recipe(world, *tuned(world), quietly(world, "base", "a")), world / "full", resume=False)
