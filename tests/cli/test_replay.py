"""``ridgeline replay``: what it prints, and what it says to a user who got something wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.call import assert_one_sentence, call
from tests.stages import recipes

from ridgeline.rollout.store import write_samples
from ridgeline.schema.records import Sample
from ridgeline.schema.run_folder import RunFolder
from ridgeline.schema.stages.common import Sampling
from ridgeline.workbench import sampling as sampling_

STAGE = "run:policy"
FILE = "run/stages/01-policy/samples/step-000002.parquet"


def drawn(world: Path) -> list[Sample]:
    model = sampling_.load(str(world / "model"), dtype="float32")
    samples = sampling_.sample(model, ["the sea", "rain"], Sampling(max_new_tokens=6), samples=2, seed=1)
    for number, sample in enumerate(samples):
        sample.rewards = {"total": float(number**2)}
        sample.weight_version = 2
    return samples


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run whose stage ``policy`` has left one rollout, and a file without rewards."""
    folder = recipes.make_world(tmp_path_factory.mktemp("replay"))
    run = RunFolder(folder / "run")
    run.path.mkdir()
    run.write_recipe(recipes.recipe(folder, recipes.rl(folder, samples_per_prompt=2)))
    samples = drawn(folder)
    write_samples(folder / FILE, samples)
    for sample in samples:
        sample.rewards = {}
    write_samples(folder / "unscored.parquet", samples)
    return folder


@pytest.fixture(autouse=True)
def inside(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


def test_json_is_stable_and_complete() -> None:
    arguments = ("replay", STAGE, "--objective", "grpo", "--objective", "dr_grpo", "--json", "--tokens", "2")
    first, again = call(*arguments), call(*arguments)
    assert first.code == 0 and first.out == again.out
    found = json.loads(first.out)
    assert found["rollouts"] == FILE
    assert found["model"] == found["reference"] == "run:base"
    assert (found["completions"], found["prompts"], found["weight_version"]) == (4, 2, 2)
    assert [line["name"] for line in found["objectives"]] == ["grpo", "dr_grpo"]
    assert found["objectives"][0]["cosine"] == pytest.approx(1)
    assert set(found["objectives"][1]) == {
        "name", "loss", "gradient_norm", "cosine", "ratio", "clipped", "outside",
        "up", "down", "untouched", "short", "long", "strongest",
    }  # fmt: skip
    assert [len(push) for push in found["completion"]["pushes"].values()] == [2, 2]
    assert "grpo (1 of 2)" in first.err


def test_tables_and_tokens() -> None:
    called = call("replay", STAGE, "--objective", "grpo", "--objective", "dapo", "--objective", "rloo")
    assert called.code == 0
    assert "4 completions of 2 prompts" in called.out and "old policy: the sampler, as recorded" in called.out
    assert "2 updates after that model, so ratios are not 1" in called.out
    assert "cosine to grpo" in called.out and "weight: short" in called.out
    assert "sample 1 of prompt" in called.out or "sample 0 of prompt" in called.out
    assert "\x1b" not in called.out
    closing = called.out.strip().splitlines()[-1]
    assert closing.startswith("3 objectives on 4 completions; furthest from grpo is ")
    width = max(len(line) for line in called.out.splitlines())
    assert width <= 120


def test_objectives_that_push_alike_share_a_line() -> None:
    """On-policy and without KL, DAPO and IcePop differ from GSPO in nothing: all completions are as long."""
    names = ("dapo", "icepop", "gspo", "dr_grpo")
    asked = [word for name in names for word in ("--objective", name)]
    called = call("replay", STAGE, *asked, "--stale", "0", "--model", "model", "--tokens", "3")
    assert "old policy: the policy itself" in called.out
    assert "Push on 3 of " in called.out and "dapo +2: icepop, gspo" in called.out
    assert "Push on" not in call("replay", STAGE, *asked, "--tokens", "0").out


def test_default_is_all_that_the_file_can_serve() -> None:
    called = call("replay", STAGE, "--tokens", "0")
    assert called.code == 0
    for name in ("reinforce", "rloo", "grpo", "gspo_token", "a2po"):
        assert f"\n {name} " in called.out
    assert "left out: ppo, vapo: it needs the values of a critic" in called.out


def test_quiet_prints_one_line() -> None:
    called = call("replay", STAGE, "--objective", "grpo", "--quiet")
    assert called.err == "" and len(called.out.strip().splitlines()) == 1
    assert called.out.startswith("1 objective on 4 completions; grpo: gradient ")


def test_wrong_commands_and_paths() -> None:
    assert_one_sentence(call("replay", "nowhere.parquet"), 2, "nowhere.parquet", "check the path")
    assert_one_sentence(call("replay", "run"), 2, "name one of its stages: run:policy")
    assert_one_sentence(call("replay", "run:polcy"), 2, "did you mean 'policy'?")
    assert_one_sentence(call("replay", STAGE, "--step", "1"), 2, "no step 1", "2 to 2")
    assert_one_sentence(call("replay", STAGE, "--objective", "dr-grpo"), 2, "did you mean 'dr_grpo'?")
    assert_one_sentence(call("replay", STAGE, "--objective", "ppo"), 2, "'ppo'", "critic")
    assert_one_sentence(call("replay", STAGE, "--stale", "1", "--old-model", "model"), 2, "give one of them")
    assert_one_sentence(call("replay", STAGE, "--model", "no/such/model"), 2, "check the path")
    assert_one_sentence(call("replay", STAGE, "--tokens", "-1"), 2, "--help")


def test_wrong_files() -> None:
    assert_one_sentence(call("replay", "prompts.jsonl"), 3, "prompts.jsonl", "not a file of samples")
    assert_one_sentence(call("replay", "unscored.parquet", "--model", "model"), 3, "no row has a reward")


def test_help_shows_an_example() -> None:
    called = call("replay", "--help")
    assert called.code == 0 and "\n  ridgeline replay " in called.out
