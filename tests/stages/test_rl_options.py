"""Dynamic sampling, penalties, steps, several rewards, bonuses, mixes and rounds, through whole runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from ridgeline.models.batch import MicroBatch, Row
from ridgeline.models.score_model import load_score_model
from ridgeline.rollout.store import read_samples
from ridgeline.schema.errors import UsageError
from ridgeline.schema.records import Sample
from ridgeline.schema.run_folder import read_lines
from ridgeline.schema.stages import RlStage
from ridgeline.stages import rollouts
from ridgeline.stages.pipeline import run_recipe
from ridgeline.stages.rl import objective_of
from ridgeline.training.advantages import Extras, assign_advantages
from tests.stages import recipes
from tests.stages.learnable import step_metrics
from tests.stages.recipes import FAST, reward, rl
from tests.tiny import make_tokenizer, write_jsonl

REWARDS = '''
def graded(samples):
    return [len(s.completion_ids) / 10 for s in samples]

def odd_prompts(samples):
    """Signal for every second prompt only."""
    return [float(s.index % 2) if int(s.prompt_id[1:]) % 2 else 1.0 for s in samples]

def letters(samples):
    """How many letters e there are: tells how much of a completion it was shown."""
    return [float(s.text.count("e")) for s in samples]
'''
NO_LEASH = {"coefficient": 0.0}
Seen = list[tuple[list[Row], torch.Tensor, Extras]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = recipes.make_world(tmp_path_factory.mktemp("world"))
    (folder / "rewards.py").write_text(recipes.REWARDS + REWARDS)
    write_jsonl(
        folder / "texts.jsonl", [{"text": f"I like the sea, it is good and kind {n}."} for n in range(6)]
    )
    return folder


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """What every rollout learned from."""
    calls: Seen = []

    def spy(rows: Sequence[Row], rewards_PG: torch.Tensor, *arguments: Any, **named: Any) -> torch.Tensor:
        signal = assign_advantages(rows, rewards_PG, *arguments, **named)
        calls.append((list(rows), rewards_PG, named["extras"]))
        return signal

    monkeypatch.setattr(rollouts, "assign_advantages", spy)
    return calls


def _run(world: Path, name: str, **changes: Any) -> tuple[Path, dict[str, Any]]:
    stage = {
        key: value for key, value in rl(world, **{"heldout": None, **changes}).items() if value is not None
    }
    summary = run_recipe(recipes.recipe(world, stage), world / name, resume=False)
    result: dict[str, Any] = summary["stages"]["policy"]
    return world / name, result


def _samples(run: Path, rollout: int) -> list[Sample]:
    return read_samples(recipes.stage_folder(run) / "samples" / f"step-{rollout:06d}.parquet")


# Dynamic sampling


def test_groups_without_signal_are_replaced_by_other_prompts(world: Path, seen: Seen) -> None:
    """Half of the six prompts can carry signal: with enough attempts every rollout learns from 3 of those."""
    changes = {"reward": [reward(world, "odd_prompts")], "max_resampling": 5, "kl": NO_LEASH}
    run, result = _run(world, "resampled", steps=3, **changes)
    for rollout, (rows, rewards_PG, _) in enumerate(seen):
        samples = _samples(run, rollout)
        assert rewards_PG.shape == (3, 4)
        assert (rewards_PG.std(1) > 0).all()
        learned = {tuple(row.ids.tolist()) for row in rows}
        kept = {tuple(s.prompt_ids + s.completion_ids) for s in samples if int(s.prompt_id[1:]) % 2}
        assert learned == kept
        numbers = [(s.prompt_id, s.index) for s in samples]
        assert len(set(numbers)) == len(numbers), "two samples drew the same numbers"
    metrics = step_metrics(run)
    for rollout, step in enumerate(metrics):
        groups = len(_samples(run, rollout)) // 4
        assert step["dead_groups"] == [groups - 3, groups]
        assert step["resampled_groups"] == [groups - 3, 1.0]
        assert step["unfilled_groups"] == [0.0, 1.0]
        assert step["reward"][1] == 4 * groups
    assert result["resampled_groups"] == sum(step["resampled_groups"][0] for step in metrics) > 0
    asked = [s.prompt_id for rollout in range(3) for s in _samples(run, rollout)[::4]]
    whole_epochs = len(asked) // 6 * 6
    assert all(asked[:whole_epochs].count(p) == whole_epochs // 6 for p in set(asked)), "an epoch has gaps"


def test_the_budget_of_attempts_is_kept_and_what_is_missing_is_said(world: Path) -> None:
    changes = {"reward": [reward(world, "constant")], "max_resampling": 2, "kl": NO_LEASH}
    run, result = _run(world, "hopeless", steps=2, **changes)
    for rollout, step in enumerate(step_metrics(run)):
        assert len(_samples(run, rollout)) == 3 * 3 * 4
        assert step["skipped"] == [1.0, 1.0]
        assert step["unfilled_groups"] == [3.0, 1.0]
    assert (result["resampled_groups"], result["unfilled_groups"]) == (12, 6)
    texts = [line["text"] for line in read_lines(run / "events.jsonl") if line["kind"] == "warning"]
    assert any("6 groups stayed without signal" in text for text in texts)


def test_without_dynamic_sampling_nothing_is_replaced(world: Path) -> None:
    run, result = _run(world, "plain", reward=[reward(world, "odd_prompts")], kl=NO_LEASH)
    assert "resampled_groups" not in result
    assert all("resampled_groups" not in step and step["dead_groups"][1] == 3 for step in step_metrics(run))


# Rewards


def test_the_overlong_penalty_is_a_reward_of_its_own(world: Path) -> None:
    overlong = {"buffer": 4, "coefficient": 0.5}
    run, _ = _run(world, "overlong", reward=[reward(world, "spread")], overlong=overlong, steps=1)
    for sample in _samples(run, 0):
        expected = max(-1.0, min(0.0, (6 - 4 - len(sample.completion_ids)) / 4))
        assert sample.rewards["overlong"] == expected
        assert sample.rewards["total"] == pytest.approx(
            sample.rewards[reward(world, "spread")] + 0.5 * expected
        )
    assert "reward/overlong" in step_metrics(run)[0]


def test_gdpo_is_given_every_reward_with_its_weight(world: Path, seen: Seen) -> None:
    rewards = [
        {"function": reward(world, "spread"), "weight": 2.0},
        {"function": reward(world, "letters"), "weight": 0.0},
        {"function": reward(world, "graded"), "weight": 0.5},
    ]
    changes = {"reward": rewards, "monitor": ["random_coin"], "overlong": {"buffer": 3, "coefficient": 0.1}}
    run, _ = _run(world, "gdpo", objective="gdpo", steps=1, **changes)
    ((_, rewards_PG, extras),) = seen
    names = (reward(world, "spread"), reward(world, "graded"), "overlong")
    expected = [[s.rewards[name] for name in names] for s in _samples(run, 0)]
    assert extras.components_PGC is not None
    assert extras.weights_C is not None
    torch.testing.assert_close(extras.components_PGC.flatten(0, 1), torch.tensor(expected))
    assert extras.weights_C.tolist() == pytest.approx([2.0, 0.5, 0.1])
    torch.testing.assert_close((extras.components_PGC * extras.weights_C).sum(-1), rewards_PG)


def test_every_step_is_judged_by_what_was_written_so_far(world: Path, seen: Seen) -> None:
    changes = {"reward": [reward(world, "letters")], "objective": "process_grpo", "step_separator": "e"}
    run, _ = _run(world, "steps", steps=1, sampling={"max_new_tokens": 12}, **changes)
    ((rows, _, extras),) = seen
    tokenizer = make_tokenizer()
    samples = _samples(run, 0)
    assert any(len(sample.step_rewards) > 1 for sample in samples)
    for sample in samples:
        for end, value in sample.step_rewards:
            begun = tokenizer.decode(sample.completion_ids[: end + 1], skip_special_tokens=True)
            assert value == begun.count("e")
        assert sample.step_rewards[-1] == (len(sample.completion_ids) - 1, sample.rewards["total"])
    assert extras.steps == [sample.step_rewards for sample in samples]
    stepped = next(n for n, sample in enumerate(samples) if len(sample.step_rewards) > 1)
    assert len(set(rows[stepped].fields["advantage"].tolist())) > 1


def test_a_process_reward_model_is_asked_about_the_last_step_so_far(world: Path, seen: Seen) -> None:
    """Its own reward is the least certain step (min), which falls and never rises; its steps may rise."""
    rows = [
        {
            "prompt": f"Write about the sea {n}",
            "steps": ["good", "bad", "kind"],
            "labels": [n % 2, 1, n % 3 == 0],
        }
        for n in range(12)
    ]
    write_jsonl(world / "steps.jsonl", rows)
    judge = recipes.reward_model(
        name="judge", data="steps.jsonl", loss="process", step_separator="e", pairs_per_step=4, epochs=4
    )
    stage = rl(world, objective="process_grpo", step_separator="e", reward=["judge"], steps=1)
    stage |= {"sampling": {"max_new_tokens": 12}}
    del stage["heldout"]
    run_recipe(recipes.recipe(world, judge, stage), world / "processed", resume=False)
    ((_, _, extras),) = seen
    samples = read_samples(recipes.stage_folder(world / "processed", 2) / "samples" / "step-000000.parquet")
    assert extras.steps == [sample.step_rewards for sample in samples]
    stepped = [sample for sample in samples if len(sample.step_rewards) > 1]
    assert stepped
    for sample in samples:
        values = [value for _, value in sample.step_rewards if value is not None]
        assert min(values) == pytest.approx(sample.rewards["judge"], abs=1e-5)
    assert any(
        values[-1] > min(values) + 1e-4
        for sample in stepped
        if (values := [value for _, value in sample.step_rewards if value is not None])
    )


def test_max_rl_asks_for_rewards_that_are_0_or_1(world: Path) -> None:
    with pytest.raises(UsageError, match="rewards that are 0 or 1"):
        _run(world, "graded", objective="max_rl", reward=[reward(world, "graded")], steps=1)


# Regularisers


def test_the_entropy_bonus_follows_its_target(world: Path) -> None:
    entropy = {"target": 100.0, "gain": 0.02, "minimum": 0.01, "maximum": 0.05}
    changes = {"reward": [reward(world, "constant")], "kl": NO_LEASH, "entropy": entropy}
    run, _ = _run(world, "entropy", steps=4, **changes)
    steps = step_metrics(run)
    assert [step["entropy_coefficient"][0] for step in steps] == pytest.approx([0.01, 0.03, 0.05, 0.05])
    assert all(step["loss/entropy_bonus"][0] < 0 for step in steps)


def test_a_constant_entropy_bonus_raises_the_entropy(world: Path) -> None:
    changes = {"reward": [reward(world, "constant")], "kl": NO_LEASH, "steps": 6, "optimiser": FAST}
    run, _ = _run(world, "bonus", objective={"preset": "dapo", "entropy_coefficient": 0.1}, **changes)
    values = [step["entropy"][0] / step["entropy"][1] for step in step_metrics(run)]
    assert values[-1] > values[0] + 0.01


@pytest.mark.parametrize("data", ["texts.jsonl", "demonstrations.jsonl"])
def test_a_pretraining_mix_lowers_its_loss_while_rewards_teach_nothing(world: Path, data: str) -> None:
    mix = {"data": data, "rows_per_step": 6}
    changes = {"reward": [reward(world, "constant")], "kl": NO_LEASH, "pretrain": mix}
    run, _ = _run(world, f"mix-{data}", steps=6, **changes)
    values = [step["pretrain_nll"][0] / step["pretrain_nll"][1] for step in step_metrics(run)]
    assert values[-1] < values[0] - 0.05
    assert all(step["loss/policy"][0] == 0 for step in step_metrics(run))


def test_texts_that_are_cut_are_counted(world: Path) -> None:
    mix = {"data": "texts.jsonl", "max_length": 4}
    run, _ = _run(world, "cut", pretrain=mix, steps=1)
    texts = [line["text"] for line in read_lines(run / "events.jsonl") if line["kind"] == "warning"]
    assert "pretrain: 6 of 6 rows were cut at 4 tokens" in texts
    assert step_metrics(run)[0]["pretrain_nll"][1] == 8 * 3


def test_every_round_starts_at_its_own_reference(world: Path) -> None:
    run, result = _run(world, "rounds", steps=2, repeat=3, kl={"coefficient": 0.1}, optimiser=FAST)
    steps = step_metrics(run)
    assert [step["round"][0] for step in steps] == [0, 0, 1, 1, 2, 2]
    kl = [step["kl_k3_per_token"][0] / step["kl_k3_per_token"][1] for step in steps]
    assert kl[0::2] == pytest.approx([0.0] * 3, abs=1e-6)
    assert min(kl[1::2]) > 1e-5
    assert result["rollouts"] == 6


# What cannot work together

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"samples_per_prompt": 1}, "compares samples of one prompt"),
    ({"objective": "ppo", "max_resampling": 1}, "carry signal with gae"),
    ({"objective": "reinforce", "max_resampling": 1}, "carry signal with batch_centred"),
    ({"objective": "process_grpo"}, "need one another"),
    ({"step_separator": "\n"}, "need one another"),
    ({"objective": "gdpo", "truncation": "penalty"}, "use overlong"),
    ({"objective": "gdpo", "whiten_rewards": True}, "whiten_rewards does nothing"),
    ({"objective": "max_rl", "overlong": {"buffer": 2}}, "0 or 1"),
    (
        {"objective": {"preset": "grpo", "entropy_coefficient": 0.1}, "entropy": {"target": 1.0}},
        "drop one of the two",
    ),
    ({"kl": {"coefficient": 0.1, "target": 1.0}, "objective": "a2po"}, ""),
    ({"overlong": {"buffer": 200}}, "exceeds sampling.max_new_tokens"),
    ({"overlong": {"buffer": 2}, "truncation": "penalty"}, "drop one of the two"),
    ({"pretrain": {"data": "x.jsonl"}, "sampling": {"temperature": 0.7}}, "temperature = 1"),
    ({"entropy": {"target": 1.0, "minimum": 0.5, "maximum": 0.1}}, "exceeds maximum"),
    ({"objective": {"preset": "sapo", "shape_positive": [1.0, 2.0]}}, "1 finite number"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_refuses_what_cannot_work(changes: dict[str, Any], message: str) -> None:
    base = {"name": "policy", "prompts": "x.jsonl", "reward": ["length"]}
    if not message:
        objective_of(RlStage.model_validate({**base, **changes}))
        return
    with pytest.raises((UsageError, ValueError), match=message):
        objective_of(RlStage.model_validate({**base, **changes}))


def test_a_recipe_may_change_every_axis() -> None:
    """Lists of a TOML file become the tuples of an objective."""
    table = {"preset": "vespo", "shape_positive": [1.0, 2.0], "kl_coefficient": 0.1}
    kl = {"corrected": True, "estimator": "k1", "placement": "loss"}
    stage = {"name": "policy", "prompts": "x.jsonl", "reward": ["length"], "objective": table, "kl": kl}
    objective = objective_of(RlStage.model_validate(stage))
    assert objective.shape_positive == (1.0, 2.0)
    assert (objective.kl_corrected, objective.kl_estimator) == (True, "k1")


# The critic


def test_a_critic_starts_as_the_reward_model(world: Path, seen: Seen) -> None:
    """Its value before the first token is the reward model's score of the prompt alone."""
    judge = recipes.reward_model(name="judge", backbone="full", pairs_per_step=12)
    critic = {"initialise_from": "judge", "optimiser": FAST}
    stage = rl(world, objective="ppo", reward=["length"], critic=critic, steps=1)
    run_recipe(recipes.recipe(world, judge, stage), world / "judged", resume=False)
    ((rows, _, _),) = seen
    model = load_score_model(recipes.stage_folder(world / "judged", 1) / "model")
    with torch.no_grad():
        values_BN = model.values(MicroBatch.of([[row] for row in rows]), packed=False)
    assert values_BN.abs().max() > 1e-4, "a zero head would pass for anything"
    for row, expected in zip(rows, values_BN, strict=True):
        old = torch.from_numpy(row.fields["old_values"])
        torch.testing.assert_close(old, expected[: len(row.targets)], rtol=1e-4, atol=1e-5)
