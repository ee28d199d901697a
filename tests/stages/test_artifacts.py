"""What a run leaves on disk, and that others can read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from ridgeline.models.score_model import load_score_model
from ridgeline.schema.recipe import load_recipe
from ridgeline.schema.run_folder import read_lines
from ridgeline.stages import pipeline, rl
from tests.stages import recipes
from tests.stages.recipes import recipe, stage_folder

PIPELINE = ("sft", "pairs", "frozen", "full", "grpo", "ppo", "compare")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recipes.make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def run(world: Path) -> Path:
    pipeline.run_recipe(recipe(world, *recipes.everything(world)), world / "run", resume=False)
    return world / "run"


def _json(path: Path) -> Any:
    return json.loads(path.read_text())


def test_environment(run: Path) -> None:
    environment = _json(run / "environment.json")
    assert (environment["device"], environment["dtype"], environment["engine"]) == ("cpu", "float32", "local")
    assert environment["versions"]["torch"] == torch.__version__
    assert {"python", "platform", "kernels", "allocator"} <= environment.keys()


def test_inputs_are_the_hashes_of_every_data_file(run: Path, world: Path) -> None:
    names = {Path(name).name for name in _json(run / "inputs.json")}
    assert names == {"demonstrations.jsonl", "prompts.jsonl", "pairs.jsonl", "heldout.jsonl"}
    assert all(len(digest) == 64 for digest in _json(run / "inputs.json").values())


def test_summary_holds_every_result(run: Path) -> None:
    summary = _json(run / "summary.json")
    assert tuple(summary["stages"]) == PIPELINE
    for number, name in enumerate(PIPELINE, start=1):
        assert summary["stages"][name] == _json(stage_folder(run, number) / "result.json")
    assert (summary["name"], summary["seed"]) == ("tiny", 1)


def test_numbers_are_valid_json(run: Path) -> None:
    """NaN and Infinity are Python's own dialect: a browser cannot read them."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} in a file that others read")

    for path in run.rglob("*.json"):
        json.loads(path.read_text(), parse_constant=refuse)
    for path in run.rglob("*.jsonl"):
        for line in path.read_text().splitlines():
            json.loads(line, parse_constant=refuse)


def test_events_tell_the_story_in_order(run: Path) -> None:
    events = read_lines(run / "events.jsonl")
    told = [(e["kind"], e.get("stage")) for e in events if e["kind"] != "warning"]
    expected = [(kind, name) for name in PIPELINE for kind in ("stage started", "stage finished")]
    assert told == [*expected, ("run finished", None)]
    assert [e["time"] for e in events] == sorted(e["time"] for e in events)


def test_the_resolved_recipe_loads_to_the_same_recipe(run: Path, world: Path) -> None:
    assert load_recipe(run / "recipe.toml") == recipe(world, *recipes.everything(world))


def test_checkpoints_are_gone_after_a_stage(run: Path) -> None:
    assert list(run.rglob("checkpoints")) == []
    assert list(run.rglob("*.writing")) == []


def test_evaluations_before_and_after(run: Path) -> None:
    steps = {
        name: [e["step"] for e in read_lines(stage_folder(run, n) / "evaluations.jsonl")]
        for n, name in ((1, "sft"), (5, "grpo"))
    }
    assert steps == {"sft": [0, 2, 4], "grpo": [0, 8, 12]}
    assert len(read_lines(stage_folder(run, 5) / "metrics.jsonl")) == 12


def test_the_policy_reloads_with_transformers_to_identical_logits(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[torch.Tensor] = []
    ids = torch.arange(5, 25)[None]
    original = rl._add_roles

    def keep(context: Any, config: Any, objective: Any, model: Any, engine: Any) -> None:
        original(context, config, objective, model, engine)
        monkeypatch.setattr(type(model), "save", _save(type(model).save))

    def _save(save: Any) -> Any:
        def saving(self: Any, folder: Path) -> None:
            with torch.no_grad():
                kept.append(self.module(ids).logits)
            save(self, folder)

        return saving

    monkeypatch.setattr(rl, "_add_roles", keep)
    made = recipe(world, recipes.rl(world, reward=["length"]))
    pipeline.run_recipe(made, world / "logits", resume=False)
    folder = stage_folder(world / "logits") / "model"
    with torch.no_grad():
        again = AutoModelForCausalLM.from_pretrained(folder).eval()(ids).logits
    assert torch.equal(kept[0], again)
    assert AutoTokenizer.from_pretrained(folder).chat_template


def test_reward_models_reload_and_score_as_they_did(run: Path) -> None:
    """The scale of the scores (mean 0, deviation 1 on the training answers) is part of the folder."""
    for number, pooling in ((3, "mean+last"), (4, "last")):
        model = load_score_model(stage_folder(run, number) / "model")
        assert model.pooling == pooling
        assert float(model.head.spread) != 1.0
        assert model.head.linear.weight.abs().sum() > 0


def test_samples_record_who_sampled_them(run: Path) -> None:
    from ridgeline.rollout.store import read_samples

    folder = stage_folder(run, 5) / "samples"
    for rollout in range(3):
        samples = read_samples(folder / f"step-{rollout:06d}.parquet")
        assert {sample.weight_version for sample in samples} == {4 * rollout}
        assert {len(s.logprobs) == len(s.completion_ids) == len(s.generated) for s in samples} == {True}
        assert {"frozen", "length", "total"} <= samples[0].rewards.keys()
        assert samples[0].row["topic"]
