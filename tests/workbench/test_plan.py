"""The plan's arithmetic against the run it describes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.stages import recipes
from tests.stages.recipes import Table
from tests.tiny import write_jsonl
from tests.tiny_recipe import write_tiny_recipe
from tests.workbench import every_stage as stages

from ridgeline.models.load import load_model
from ridgeline.schema.recipe import load_recipe
from ridgeline.stages.pipeline import run_recipe
from ridgeline.workbench.costs import micro_batches
from ridgeline.workbench.plan import StagePlan, make_plan

SIZES = {"hidden": 48, "intermediate": 96, "kv_width": 24, "layers": 2}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recipes.make_world(tmp_path_factory.mktemp("world"))


def planned(world: Path, *tables: Table, **top: Any) -> dict[str, StagePlan]:
    plan = make_plan(recipes.recipe(world, *tables, **top))
    return {stage.stage.name: stage for stage in plan.stages}


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


def test_every_stage_takes_the_steps_that_were_planned(world: Path) -> None:
    tables = stages.every_stage(world)
    plans = planned(world, *tables)
    results = run_recipe(recipes.recipe(world, *tables), world / "run", resume=False)["stages"]
    for number, table in enumerate(tables, 1):
        name, counts = table["name"], plans[table["name"]].work.counts
        lines = recipes.stage_folder(world / "run", number) / "metrics.jsonl"
        taken = len(lines.read_text().splitlines()) if lines.is_file() else 0
        asked = counts.get("optimizer steps", counts.get("optimizer steps, at most", 0))
        assert taken == asked, name
        for measure in ("pairs", "rows"):
            if measure in counts and table["type"] in ("preference", "unpaired", "distill"):
                assert results[name][measure] == counts[measure], name
        assert plans[name].work.total_seconds > 0 and plans[name].memory
    assert plans["best"].work.counts["completions"] * 2 == results["best"]["samples"]
    assert plans["online"].work.counts["completions per step"] == 12


def test_an_adapter_keeps_state_for_what_learns_and_no_reference(world: Path) -> None:
    plans = planned(
        world,
        stages.preference(name="whole"),
        stages.preference(name="lora", adapter={"rank": 4}),
        stages.preference(name="moved", adapter={"rank": 4}, refresh={"every": 2}),
        stages.preference(name="free", objective="simpo"),
        stages.reject(world, name="best", adapter={"rank": 4}),
    )
    added = 6144  # two layers: rank 4 times the inputs and outputs of seven matrices
    weights = plans["whole"].memory["weights"]
    assert plans["whole"].memory["reference"] == weights
    lora = plans["lora"].memory
    assert "reference" not in lora and lora["weights"] == weights
    assert (lora["adapter"], lora["Adam moments"], lora["gradients"]) == (4 * added, 8 * added, 4 * added)
    assert plans["moved"].memory["reference"] == weights
    assert "reference" not in plans["free"].memory
    assert plans["best"].memory["control with its optimiser"] == weights + 16 * added
    share = 4 * added / weights
    seconds = {name: plan.work.seconds["learning"] for name, plan in plans.items()}
    assert seconds["lora"] < 0.9 * seconds["whole"]
    with_share = planned(world, stages.preference(name="a"), stages.preference(name="b", adapter={"rank": 4}))
    ratio = with_share["b"].work.seconds["learning"] / with_share["a"].work.seconds["learning"]
    assert ratio == pytest.approx((2 + share) / 3)


def test_recomputed_activations_are_those_of_one_layer(world: Path) -> None:
    table = {"tokens_per_microbatch": 512}
    plans = planned(
        world,
        stages.unpaired(name="kept", work=table),
        stages.unpaired(name="again", work={**table, "checkpointing": True}),
    )
    per_layer = 512 * 4 * (10 * SIZES["hidden"] + 4 * SIZES["intermediate"] + 2 * SIZES["kv_width"])
    assert plans["kept"].memory["activations"] == 2 * per_layer
    inputs = 512 * 4 * SIZES["hidden"] * SIZES["layers"]
    assert plans["again"].memory["activations"] == per_layer + inputs
    ratio = plans["again"].work.seconds["learning"] / plans["kept"].work.seconds["learning"]
    assert ratio == pytest.approx(4 / 3)


def test_cached_log_probs_cost_one_pass_and_moving_ones_every_step(world: Path) -> None:
    plans = planned(
        world,
        stages.preference(name="still", epochs=10),
        stages.preference(name="moving", epochs=10, refresh={"every": 1}),
    )
    once, often = (plans[name].work.seconds["comparing with the reference"] for name in ("still", "moving"))
    assert often > 10 * once


def test_a_unit_longer_than_the_budget_is_not_split_in_memory(world: Path) -> None:
    long = {"max_new_tokens": 4096}
    plans = planned(world, stages.online(world, name="a"), stages.online(world, name="b", sampling=long))
    assert plans["b"].memory["activations"] > 3 * plans["a"].memory["activations"]


def test_pairs_of_earlier_stages_count_as_they_were_asked_for(world: Path) -> None:
    plans = planned(
        world,
        recipes.collect(world),
        stages.reject(world, preferences="best_worst", repeat=2),
        stages.preference(name="collected", data="pairs", heldout=0.0),
        stages.preference(name="selected", data="best", heldout=0.0),
        stages.unpaired(name="apart", data="pairs", heldout=0.0),
        recipes.reward_model(data="pairs", heldout=0.0),
    )
    counts = {name: plan.work.counts for name, plan in plans.items()}
    assert counts["collected"]["pairs"] == counts["judge"]["pairs"] == 24
    assert counts["selected"]["pairs"] == 12
    assert counts["apart"]["rows"] == 48
    tokens = counts["collected"]["mean tokens per completion with prompt"]
    assert tokens == pytest.approx(plans["pairs"].work.prompt_tokens + 6, abs=0.06)


def test_reward_models_of_every_kind_of_rows(world: Path) -> None:
    rows = [{"prompt": f"q{n}", "completions": ["a", "b b", "c c c"], "ranks": [1, 2, 3]} for n in range(8)]
    write_jsonl(world / "ranked.jsonl", rows)
    steps = [{"prompt": f"q{n}", "steps": ["one", "two"], "labels": [1, 0]} for n in range(8)]
    write_jsonl(world / "steps.jsonl", steps)
    plans = planned(
        world,
        recipes.reward_model(name="pairs", heldout=0.0),
        recipes.reward_model(name="ranked", data="ranked.jsonl", loss="grouped", heldout=0.0),
        recipes.reward_model(name="right", data="labelled.jsonl", loss="outcome", heldout=0.0),
        recipes.reward_model(name="steps", data="steps.jsonl", loss="process", heldout=0.0),
    )
    assert plans["pairs"].work.counts["pairs"] == 16
    assert plans["ranked"].work.counts["rankings"] == 8 and plans["ranked"].work.unit_tokens > 0
    assert plans["right"].work.counts["solutions"] == 16
    assert plans["steps"].work.counts["solutions"] == 8


def test_working_weights_in_bfloat16_have_masters(tmp_path: Path) -> None:
    plan = make_plan(load_recipe(write_tiny_recipe(tmp_path), ["dtype=bfloat16"]))
    memory = plan.stages[0].memory
    assert memory["float32 masters"] == 2 * memory["weights"]


def test_what_is_elsewhere_is_assumed_and_said(tmp_path: Path, world: Path) -> None:
    plan = make_plan(load_recipe(write_tiny_recipe(tmp_path), ["sft.data=somebody/rows"]))
    assert plan.stages[0].assumed == ["somebody/rows"]
    own = planned(world, stages.distill(teacher="somebody/large", heldout=0.0))["imitate"]
    assert own.assumed == ["somebody/large"]
    assert own.memory["teacher somebody/large"] == own.memory["weights"]


def test_units_are_never_split() -> None:
    assert micro_batches(4, 100.0, 250) == 2
    assert micro_batches(3, 1000.0, 250) == 3
