from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from ridgeline.schema.errors import UsageError
from ridgeline.schema.overrides import apply_overrides, parse_value
from ridgeline.schema.recipe import Recipe, load_recipe, resolve_recipe
from ridgeline.schema.run_folder import RunFolder
from ridgeline.schema.stages import RlStage

SFT = {"name": "sft", "type": "sft", "data": "demonstrations.jsonl"}
COLLECT = {
    "name": "pairs", "type": "collect", "model": "sft", "prompts": "prompts.jsonl",
    "annotator": {"gold": "g"},
}  # fmt: skip
JUDGE = {"name": "judge", "type": "reward_model", "model": "sft", "data": "pairs"}
RL = {"name": "policy", "type": "rl", "model": "sft", "prompts": "prompts.jsonl", "reward": ["judge"]}
EVALUATE = {
    "name": "final", "type": "evaluate", "models": ["base", "sft", "policy"], "prompts": "prompts.jsonl",
    "rewards": ["judge"],
}  # fmt: skip
ALL = [SFT, COLLECT, JUDGE, RL, EVALUATE]


def recipe_with(*stages: dict[str, Any], **rest: Any) -> dict[str, Any]:
    return {"name": "test", "model": "smollm2-135m-instruct", **rest, "stage": [dict(s) for s in stages]}


def resolve(*stages: dict[str, Any], overrides: list[str] | None = None, **rest: Any) -> Recipe:
    return resolve_recipe(recipe_with(*stages, **rest), Path("/recipes"), overrides)


def refused(*stages: Any, overrides: list[str] | None = None, **rest: Any) -> str:
    with pytest.raises(UsageError) as error:
        resolve(*stages, overrides=overrides, **rest)
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 2
    return str(error.value)


def test_the_canonical_pipeline_resolves() -> None:
    recipe = resolve(*ALL)
    assert [stage.type for stage in recipe.stage] == ["sft", "collect", "reward_model", "rl", "evaluate"]
    policy = recipe.stage_named("policy")
    assert isinstance(policy, RlStage)
    assert [spec.function for spec in policy.reward] == ["judge"]


def test_what_was_resolved_resolves_to_itself(tmp_path: Path) -> None:
    rl = {**RL, "kl": {"coefficient": 0.05}, "objective": {"preset": "grpo", "clip_high": 0.3}}
    first = resolve(SFT, COLLECT, {**JUDGE, "layer": 3}, rl, EVALUATE, seed=3)
    run = RunFolder(tmp_path)
    run.write_recipe(first)
    again = load_recipe(tmp_path / "recipe.toml")
    assert again == first
    run.write_recipe(again)
    assert load_recipe(tmp_path / "recipe.toml") == first
    written = tomllib.loads((tmp_path / "recipe.toml").read_text())
    assert written == run.recipe_as_started()
    assert written["stage"][0]["optimiser"]["epsilon"] == 1e-8  # every default is written out


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        ({**SFT, "epoch": 2}, "stage 'sft': unknown key 'epoch'; did you mean 'epochs'?"),
        (
            {**SFT, "optimiser": {"learing_rate": 1}},
            "'optimiser.learing_rate'; did you mean 'learning_rate'?",
        ),
        ({**SFT, "type": "stf"}, "unknown type 'stf'; did you mean 'sft'?"),
        ({**SFT, "train_on": "asistant"}, "did you mean 'assistant'?"),
        ({**SFT, "optimiser": {"schedule": "cosin"}}, "did you mean 'cosine'?"),
        ({**SFT, "epochs": 0}, "epochs = 0"),
        ({**SFT, "epochs": "many"}, "epochs = 'many'"),
        ({"name": "sft", "type": "sft"}, "'data' is missing"),
        ({"name": "sft", "data": "d.jsonl"}, "'type' is missing"),
        ({**SFT, "name": "Bad Name"}, "name = 'Bad Name'"),
        ({**SFT, "name": "base"}, "the name is taken"),
        ({**SFT, "type": ["sft"]}, "unknown type"),
        ({**SFT, "name": ["sft"]}, "name"),
    ],
)
def test_a_stage_that_is_wrong(stage: dict[str, Any], words: str) -> None:
    assert words in refused(stage)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"reward": [{"function": "judge", "wieght": 2}]}, "did you mean 'weight'?"),
        ({"kl": {"coeficient": 1}}, "did you mean 'coefficient'?"),
        ({"critic": {"optimiser": {"warmpu": 1}}}, "did you mean 'warmup'?"),
        ({"sampling": {"temprature": 1}}, "did you mean 'temperature'?"),
        ({"kl": {"estimator": "k1", "placement": "loss"}}, "k1 placed in the loss regularises nothing"),
        ({"kl": {"coefficient": 0, "target": 3.0}}, "an adaptive coefficient needs a start above 0"),
        ({"sampling": {"temperature": 0}}, "explores nothing"),
        ({"sampling": {"top_p": 0.9}}, "whole vocabulary"),
        ({"sampling": {"top_k": 5}}, "whole vocabulary"),
        ({"updates_per_rollout": 17}, "a group is never split"),
        ({"reward": []}, "reward"),
    ],
)
def test_an_rl_stage_that_is_wrong(change: dict[str, Any], words: str) -> None:
    assert words in refused(SFT, COLLECT, JUDGE, {**RL, **change})


def test_k1_is_welcome_in_the_reward() -> None:
    kl = {"coefficient": 0.1, "estimator": "k1", "placement": "reward"}
    assert resolve(SFT, COLLECT, JUDGE, {**RL, "kl": kl}).stage_named("policy").kl.estimator == "k1"


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        ([{**SFT, "model": "polcy"}], "model = 'polcy' does not exist before this stage"),
        ([SFT, {**SFT, "name": "two", "model": "sfft"}], "did you mean 'sft'?"),
        ([{**SFT, "model": "later"}, {**SFT, "name": "later"}], "move that stage above this one"),
        ([SFT, SFT], "the name is taken"),
        ([SFT, COLLECT, {**RL, "model": "pairs"}], "model = 'pairs'"),
        ([SFT, COLLECT, RL, JUDGE], "reward = 'judge' is not an earlier stage"),
        ([SFT, JUDGE, COLLECT], "data = 'pairs' is not an earlier stage"),
        ([SFT, COLLECT, JUDGE, {**RL, "reference": "judge"}], "reference = 'judge'"),
        ([SFT, COLLECT, JUDGE, {**RL, "critic": {"initialise_from": "juge"}}], "did you mean 'judge'?"),
        ([SFT, {**EVALUATE, "models": ["sft", "sft"]}], "models names one model twice"),
        ([SFT, {**EVALUATE, "models": ["policy"]}], "models = 'policy' does not exist"),
    ],
)
def test_references_to_stages(stages: list[dict[str, Any]], words: str) -> None:
    assert words in refused(*stages)


@pytest.mark.parametrize(
    ("stages", "where"),
    [
        ([SFT, {**JUDGE, "data": "sft"}], "data = 'sft'"),
        ([SFT, COLLECT, {**RL, "reward": ["sft"]}], "reward = 'sft'"),
    ],
)
def test_an_earlier_stage_of_the_wrong_kind_is_refused(stages: list[dict[str, Any]], where: str) -> None:
    assert where in refused(*stages)


def test_recipe_level_mistakes(tmp_path: Path) -> None:
    assert "did you mean 'seed'?" in refused(SFT, sed=1)
    assert "did you mean 'cuda'?" in refused(SFT, device="cudda")
    assert "seed = -1" in refused(SFT, seed=-1)
    for stage in ([], 3, "sft", {"name": "sft"}):
        with pytest.raises(UsageError, match="no stages"):
            resolve_recipe({"name": "x", "model": "m", "stage": stage}, tmp_path)
    with pytest.raises(UsageError, match="not a table"):
        resolve_recipe({"name": "x", "model": "m", "stage": ["sft"]}, tmp_path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read the recipe .*missing\.toml: No such file"):
        load_recipe(tmp_path / "missing.toml")
    with pytest.raises(UsageError, match="cannot read the recipe"):
        load_recipe(tmp_path)
    (tmp_path / "bad.toml").write_text("name = \n")
    with pytest.raises(UsageError, match=r"not valid TOML.*line 1"):
        load_recipe(tmp_path / "bad.toml")
    (tmp_path / "latin.toml").write_bytes(b'name = "\xe9"')
    with pytest.raises(UsageError, match="not UTF-8"):
        load_recipe(tmp_path / "latin.toml")


def test_paths_are_relative_to_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "models" / "mine").mkdir(parents=True)
    (tmp_path / "template.jinja").write_text("x")
    values = recipe_with(
        {**SFT, "heldout": "/absolute/heldout.jsonl"}, COLLECT, JUDGE, RL, model="models/mine",
        chat_template="template.jinja",
    )  # fmt: skip
    (tmp_path / "recipe.toml").write_text(tomli_w.dumps(values))
    recipe = load_recipe(tmp_path / "recipe.toml")
    assert recipe.model == str(tmp_path / "models" / "mine")
    assert recipe.chat_template == str(tmp_path / "template.jinja")
    sft = recipe.stage_named("sft")
    assert sft.data == str(tmp_path / "demonstrations.jsonl")
    assert sft.heldout == "/absolute/heldout.jsonl"
    assert recipe.stage_named("judge").data == "pairs"  # a stage, not a path
    assert resolve(SFT, model="org/name").model == "org/name"  # a hub id stays


def test_overrides_reach_every_level() -> None:
    recipe = resolve(
        *ALL,
        seed=1,
        overrides=["seed=7", "sft.epochs=2.5", "sft.optimiser.learning_rate=1e-4", "policy.reward=['judge']",
                   "policy.kl={coefficient=0.2}", "sft.data=other.jsonl", "policy.whiten_rewards=true"],
    )  # fmt: skip
    assert recipe.seed == 7
    sft, policy = recipe.stage_named("sft"), recipe.stage_named("policy")
    assert (sft.epochs, sft.optimiser.learning_rate) == (2.5, 1e-4)
    assert sft.data == "/recipes/other.jsonl"
    assert (policy.kl.coefficient, policy.whiten_rewards) == (0.2, True)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("seed", "write it as stage.key=value"),
        ("=3", "write it as stage.key=value"),
        ("sfft.epochs=1", "no stage is named 'sfft'; did you mean 'sft'?"),
        ("sft.epoch=1", "did you mean 'epochs'?"),
        ("sft.data.x=1", "'data' is not a table"),
        ("sft.optimiser.learing_rate=1", "did you mean 'learning_rate'?"),
    ],
)
def test_overrides_that_are_wrong(override: str, words: str) -> None:
    assert words in refused(SFT, overrides=[override])


def test_overrides_leave_the_original_alone() -> None:
    values = recipe_with(SFT)
    apply_overrides(values, ["sft.optimiser.warmup=9"])
    assert values == recipe_with(SFT)


def test_values_are_toml_or_else_text() -> None:
    assert parse_value("1e-5") == 1e-5
    assert parse_value("true") is True
    assert parse_value('"1"') == "1"
    assert parse_value("data/x.jsonl") == "data/x.jsonl"
    assert parse_value("") == ""


def test_the_schema_imports_no_engine() -> None:
    code = (
        "import sys, ridgeline.schema.recipe, ridgeline.schema.run_folder, ridgeline.schema.records\n"
        "heavy = {'torch', 'transformers', 'tokenizers', 'datasets', 'safetensors'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
