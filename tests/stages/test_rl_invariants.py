"""Whose advantage is whose, and what must not move the policy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ridgeline.models.batch import Row
from ridgeline.rollout.store import read_samples
from ridgeline.stages import rollouts
from ridgeline.stages.pipeline import run_recipe
from ridgeline.training.advantages import assign_advantages
from tests.stages import recipes
from tests.stages.learnable import step_metrics
from tests.stages.recipes import reward, rl

REWARDS = '''
def of_prompt(samples):
    """The same for all samples of a prompt, other for every prompt."""
    return [float(s.prompt_id[1:]) for s in samples]

def of_place(samples):
    """Counts the samples of a prompt, on top of a large part that differs between prompts."""
    return [100.0 * float(s.prompt_id[1:]) + s.index for s in samples]

def until_third(samples):
    """A signal in the first two steps, then the same for all."""
    return [float(s.index) if s.weight_version < 2 else 1.0 for s in samples]
'''


NO_LEASH = {"coefficient": 0.0}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = recipes.make_world(tmp_path_factory.mktemp("world"))
    (folder / "rewards.py").write_text(recipes.REWARDS + REWARDS)
    return folder


def _run(world: Path, name: str, **changes: Any) -> Path:
    stage = rl(world, **{"heldout": None, **changes})
    run_recipe(
        recipes.recipe(world, {k: v for k, v in stage.items() if v is not None}), world / name, resume=False
    )
    return world / name


@pytest.mark.parametrize("objective", ["grpo", "rloo", "dr_grpo"])
def test_a_reward_of_the_prompt_alone_carries_no_signal(world: Path, objective: str) -> None:
    """Groups laid out sample by sample would mix prompts and find a signal."""
    run = _run(
        world, f"prompt-{objective}", objective=objective, reward=[reward(world, "of_prompt")], kl=NO_LEASH
    )
    for metrics in step_metrics(run):
        assert metrics["dead_groups"] == [3.0, 3.0]
        assert metrics["reward_spread"][0] == 0
        assert metrics["skipped"] == [1.0, 1.0]


def test_every_advantage_belongs_to_its_own_completion(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[list[Row], torch.Tensor]] = []
    original = assign_advantages

    def spy(rows: Sequence[Row], rewards_PG: torch.Tensor, *arguments: Any, **named: Any) -> torch.Tensor:
        signal = original(rows, rewards_PG, *arguments, **named)
        seen.append((list(rows), rewards_PG))
        return signal

    monkeypatch.setattr(rollouts, "assign_advantages", spy)
    run = _run(world, "place", reward=[reward(world, "of_place")], objective="dr_grpo", steps=2)
    for step, (rows, rewards_PG) in enumerate(seen):
        samples = read_samples(recipes.stage_folder(run) / "samples" / f"step-{step:06d}.parquet")
        for row, sample in zip(rows, samples, strict=True):
            assert row.ids.tolist() == sample.prompt_ids + sample.completion_ids
            np.testing.assert_allclose(row.fields["advantage"], sample.index - 1.5, atol=1e-4)
        assert rewards_PG.shape == (3, 4)
        assert [sample.index for sample in samples] == [0, 1, 2, 3] * 3
        assert all(len({s.prompt_id for s in samples[p : p + 4]}) == 1 for p in (0, 4, 8))


def test_the_policy_starts_as_its_reference(world: Path) -> None:
    run = _run(world, "reference", kl={"coefficient": 0.1}, steps=1)
    (metrics,) = step_metrics(run)
    assert metrics["kl_k1"][0] == pytest.approx(0, abs=1e-5)
    assert metrics["kl_k3_per_token"][0] == pytest.approx(0, abs=1e-6)
    assert metrics["ratio"][0] / metrics["ratio"][1] == 1.0
    assert metrics["clip_fraction"][0] == 0
    assert metrics["sampler_gap"][0] / metrics["sampler_gap"][1] < 1e-5, "sampler and trainer disagree"


def test_the_first_of_several_updates_has_ratio_one(world: Path) -> None:
    run = _run(world, "reused", steps=2, epochs_per_rollout=2)
    steps = step_metrics(run)
    for metrics in (steps[0], steps[2]):
        assert metrics["ratio"][0] / metrics["ratio"][1] == pytest.approx(1, abs=1e-6)
    assert steps[1]["ratio"][0] / steps[1]["ratio"][1] != pytest.approx(1, abs=1e-6)


def test_a_kl_in_the_reward_starts_at_zero_too(world: Path) -> None:
    """Reward equal for all, so that any advantage would come from the KL."""
    kl = {"coefficient": 1.0, "estimator": "k1", "placement": "reward"}
    run = _run(world, "shaped", kl=kl, steps=1, reward=[reward(world, "constant")], objective="dr_grpo")
    assert step_metrics(run)[0].get("gradient_norm", [0.0])[0] == pytest.approx(0, abs=1e-4)


def _start(world: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(world / "model" / "model.safetensors")


def _end(run: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(recipes.stage_folder(run) / "model" / "model.safetensors")


def _same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("objective", ["grpo", "ppo"])
def test_learning_rate_zero_changes_no_weight(world: Path, objective: str) -> None:
    still = {"learning_rate": 0.0, "warmup": 0, "weight_decay": 0.1}
    run = _run(world, f"still-{objective}", objective=objective, optimiser=still, kl={"coefficient": 0.1})
    assert _same(_start(world), _end(run))
    assert not _same(_start(world), _end(_run(world, f"moving-{objective}", objective=objective)))


def test_equal_rewards_leave_the_weights_alone_in_spite_of_momentum(world: Path) -> None:
    changes = {"reward": [reward(world, "until_third")], "objective": "grpo", "kl": NO_LEASH}
    short = _run(world, "two-steps", steps=2, **changes)
    long = _run(world, "five-steps", steps=5, **changes)
    assert [metrics["skipped"][0] for metrics in step_metrics(long)] == [0, 0, 1, 1, 1]
    assert not _same(_start(world), _end(short))
    assert _same(_end(short), _end(long))


def test_constant_rewards_from_the_start(world: Path) -> None:
    run = _run(world, "constant", reward=[reward(world, "constant")], kl=NO_LEASH)
    assert all(metrics["skipped"] == [1.0, 1.0] for metrics in step_metrics(run))
    assert _same(_start(world), _end(run))


def test_the_critic_warms_up_alone(world: Path) -> None:
    fast = {"learning_rate": 1e-3, "warmup": 0}
    run = _run(world, "warmup", objective="ppo", critic={"warmup": 2, "optimiser": fast}, steps=2)
    assert _same(_start(world), _end(run))
    steps = step_metrics(run)
    assert all("critic/loss/value" in metrics and "loss/policy" not in metrics for metrics in steps)


def test_a_truncated_completion_can_be_given_a_penalty(world: Path) -> None:
    run = _run(world, "penalty", truncation="penalty", truncation_reward=-7.0, steps=1)
    samples = read_samples(recipes.stage_folder(run) / "samples" / "step-000000.parquet")
    assert any(sample.truncated for sample in samples)
    for sample in samples:
        assert (sample.rewards["total"] == -7.0) == sample.truncated


def test_whitened_rewards_and_their_greedy_baseline_share_a_scale(world: Path) -> None:
    """A reward that is equal for all completions has no advantage over the greedy one, whitened or not."""
    objective = {"preset": "reinforce", "advantage": "greedy_baseline", "whiten": False}
    changes = {"objective": objective, "reward": [reward(world, "of_prompt")], "kl": NO_LEASH}
    for whiten in (False, True):
        run = _run(world, f"greedy-{whiten}", whiten_rewards=whiten, steps=1, **changes)
        assert step_metrics(run)[0]["dead_groups"] == [3.0, 3.0]
