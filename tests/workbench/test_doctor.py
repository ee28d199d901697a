"""Each check passes on a sound model and fails on the fault it is there for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.stages import recipes
from tests.tiny import make_tiny_model
from tests.workbench import every_stage as stages

from ridgeline.models.load import LanguageModel
from ridgeline.schema.records import Sample
from ridgeline.schema.stages.common import RewardSpec, Sampling
from ridgeline.workbench import sampling as sampling_
from ridgeline.workbench.checks import learning, rewards, sampled
from ridgeline.workbench.checks.result import Check
from ridgeline.workbench.doctor import examine_recipe

LIMIT = Sampling(max_new_tokens=8)


@pytest.fixture
def model(tmp_path: Path) -> LanguageModel:
    return sampling_.load(str(make_tiny_model(tmp_path / "model")), dtype="float32")


@pytest.fixture
def drawn(model: LanguageModel) -> list[Sample]:
    return sampling_.sample(model, ["the sea", "rain"], LIMIT, samples=2, seed=1)


def test_sound_model_passes(model: LanguageModel, drawn: list[Sample]) -> None:
    for check in (
        sampled.stop_token(model),
        sampled.ratio(model, drawn, 1.0),
        sampled.gap(model, drawn, 1.0),
        learning.zero_rate(model, drawn),
    ):
        assert check.passed, check


def test_gap_notices_another_temperature_and_wrong_records(model: LanguageModel, drawn: list[Sample]) -> None:
    assert not sampled.gap(model, drawn, 0.5).passed
    for sample in drawn:
        sample.logprobs = [value + 0.01 for value in sample.logprobs]
    check = sampled.gap(model, drawn, 1.0)
    assert not check.passed and check.value == pytest.approx(0.01, rel=0.01)


def test_stop_token_that_sampling_ignores(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampled, "stop_ids", lambda model: [7])
    assert not sampled.stop_token(model).passed


def test_zero_rate_notices_a_weight_that_moves(
    model: LanguageModel, drawn: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    def leaky(engine: object, role: str, rate: float) -> float:
        with torch.no_grad():
            next(iter(model.module.parameters())).flatten()[3] += 1e-4
        return 1.0

    monkeypatch.setattr(learning.LocalEngine, "step", leaky)
    check = learning.zero_rate(model, drawn)
    assert not check.passed and check.value == 1


def test_truncated_share(drawn: list[Sample]) -> None:
    for sample, reason in zip(drawn, ("length", "length", "length", "stop"), strict=True):
        sample.stop_reason = reason  # type: ignore[assignment]
    check = sampled.truncated(drawn, LIMIT)
    assert check.value == 0.75 and check.passed and "max_new_tokens" in check.detail
    for sample in drawn:
        sample.stop_reason = "length"
    assert not sampled.truncated(drawn, LIMIT).passed
    for sample in drawn:
        sample.stop_reason = "stop"
    assert "max_new_tokens" not in sampled.truncated(drawn, LIMIT).detail


def test_rewards_that_fail_and_groups_without_signal(tmp_path: Path, drawn: list[Sample]) -> None:
    file = tmp_path / "own.py"
    file.write_text(
        "def same(samples):\n    return [1.0] * len(samples)\n"
        "def split(samples):\n    return [float(s.index) for s in samples]\n"
        "def broken(samples):\n    raise RuntimeError('no')\n"
    )
    assert rewards.works(RewardSpec(function=f"{file}:split"), drawn).value == 0.5
    broken = rewards.works(RewardSpec(function=f"{file}:broken"), drawn)
    assert not broken.passed and "RuntimeError: no" in broken.detail

    def given(function: str) -> list[RewardSpec]:
        return [RewardSpec(function=f"{file}:{function}")]

    assert rewards.spread(given("same"), drawn, 2).value == 0.0
    assert not rewards.spread(given("same"), drawn, 2).passed
    assert rewards.spread(given("split"), drawn, 2).value == 1.0


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = recipes.make_world(tmp_path_factory.mktemp("world"))
    with open(place / "rewards.py", "a") as file:
        file.write(
            "\ndef topical(samples):\n    return [float(len(s.row['topic'])) + s.index for s in samples]\n"
        )
    return place


def examined(world: Path, *tables: recipes.Table) -> dict[str, Check]:
    checks = examine_recipe(recipes.recipe(world, *tables), report=lambda check: None)
    return {check.name: check for check in checks}


GENERAL = {
    "stop token is trained",
    "on-policy ratio is 1",
    "sampler and trainer agree",
    "completions end by themselves",
    "memory suffices",
    "learning rate 0 changes nothing",
}


@pytest.mark.parametrize("kind", ["preference", "unpaired", "distill", "merge"])
def test_recipes_that_sample_nothing_before_they_learn(world: Path, kind: str) -> None:
    tables = {
        "preference": [stages.preference()],
        "unpaired": [stages.unpaired()],
        "distill": [stages.distill(teacher="base")],
        "merge": [stages.preference(), stages.merge(world, models=["base", "dpo"], heldout=None, rewards=[])],
    }[kind]
    checks = examined(world, *tables)
    assert checks.keys() == GENERAL
    assert all(check.passed for name, check in checks.items() if name != "completions end by themselves")


@pytest.mark.parametrize("kind", ["online", "reject", "self"])
def test_stages_that_learn_from_their_samples_lend_prompts_rows_and_rewards(world: Path, kind: str) -> None:
    """The reward reads a column that only the stage's own prompts have."""
    topical = recipes.reward(world, "topical")
    truncated = {**recipes.SAMPLING, "top_p": 0.5}
    privileged = {"reward": [topical]}
    own = {"mode": "self", "data": "prompts.jsonl", "sampling": truncated, "samples_per_prompt": 3}
    table = {
        "online": stages.online(world, reward=[topical], sampling=truncated),
        "reject": stages.reject(world, reward=[topical], sampling=truncated),
        "self": {**stages.distill(**own, privileged=privileged), "teacher": []},
    }[kind]
    checks = examined(world, recipes.sft(), table)
    assert checks[f"reward {topical}"].passed and checks["sampler and trainer agree"].passed
    assert checks["groups carry signal"].value == 1.0
    assert "of 4 groups of 3" in checks["groups carry signal"].detail


def test_a_whole_recipe_of_new_stages(world: Path) -> None:
    checks = examined(world, *stages.every_stage(world))
    assert checks.keys() >= GENERAL | {"reward random_coin", "reward length", "groups carry signal"}
