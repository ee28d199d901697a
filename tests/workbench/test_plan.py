"""The plan's arithmetic against the run it describes."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.tiny_recipe import write_tiny_recipe

from ridgeline.models.load import load_model
from ridgeline.schema.recipe import load_recipe
from ridgeline.workbench.plan import make_plan
from ridgeline.workbench.work import _micro_batches


def test_counts_and_memory_are_those_of_the_recipe(tmp_path: Path) -> None:
    path = write_tiny_recipe(tmp_path, whole=True)
    plan = make_plan(load_recipe(path, ["policy.objective=ppo", "policy.updates_per_rollout=2"]))
    by_name = {stage.stage.name: stage for stage in plan.stages}
    sft, policy, judge = by_name["sft"], by_name["policy"], by_name["judge"]
    assert (sft.work.counts["rows"], sft.work.counts["held-out rows"]) == (14, 2)
    assert sft.work.counts["optimizer steps"] == 4
    assert policy.work.counts["completions per rollout"] == 16
    assert policy.work.counts["optimizer steps"] == 4
    assert judge.work.counts["pairs"] == 14 and judge.assumed == []
    parameters = sum(p.numel() for p in load_model(str(tmp_path / "model")).module.parameters())
    assert plan.facts.parameters == parameters
    assert sft.memory["Adam moments"] == 8 * parameters
    assert "float32 masters" not in sft.memory and "critic with its optimiser" in policy.memory
    # 2 (keys and values) x 2 layers x 24 wide x 4 bytes x 16 rows x (prompt + 8 new tokens)
    positions = policy.work.prompt_tokens + 8
    assert policy.memory["key-value cache"] == pytest.approx(2 * 2 * 24 * 4 * 16 * positions)
    assert plan.seconds > 0 and plan.peak == max(sum(each.memory.values()) for each in plan.stages)


def test_working_weights_in_bfloat16_have_masters(tmp_path: Path) -> None:
    plan = make_plan(load_recipe(write_tiny_recipe(tmp_path), ["dtype=bfloat16"]))
    memory = plan.stages[0].memory
    assert memory["float32 masters"] == 2 * memory["weights"]


def test_a_data_source_elsewhere_is_assumed_and_said(tmp_path: Path) -> None:
    plan = make_plan(load_recipe(write_tiny_recipe(tmp_path), ["sft.data=somebody/rows"]))
    assert plan.stages[0].assumed == ["somebody/rows"]


def test_units_are_never_split() -> None:
    assert _micro_batches(4, 100.0, 250) == 2
    assert _micro_batches(3, 1000.0, 250) == 3
