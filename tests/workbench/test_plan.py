"""The plan's arithmetic against the run it describes."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tests.models.families import CONFIGS, FAMILIES
from tests.stages import recipes
from tests.stages.recipes import Table
from tests.tiny import make_tokenizer, write_jsonl
from tests.tiny_recipe import write_tiny_recipe
from tests.workbench import every_stage as stages

from ridgeline.models.batch import unit_tokens
from ridgeline.models.content_cache import DAY
from ridgeline.models.load import load_model
from ridgeline.schema.recipe import load_recipe
from ridgeline.schema.stages.common import Sampling
from ridgeline.stages.pipeline import run_recipe
from ridgeline.workbench import plan as plan_module
from ridgeline.workbench.costs import StageWork, micro_batches
from ridgeline.workbench.decoding import Decoding, DecodingProbe
from ridgeline.workbench.facts import facts_of, model_facts
from ridgeline.workbench.kept_timings import KeptTimings
from ridgeline.workbench.memory import Room
from ridgeline.workbench.passes import Passes
from ridgeline.workbench.plan import StagePlan, make_plan, memory_shortage
from ridgeline.workbench.rates import Rates, Timer
from ridgeline.workbench.shapes import Shape, coarse
from ridgeline.workbench.stand_in import StandIns

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recipes.make_world(tmp_path_factory.mktemp("world"))


def planned(world: Path, *tables: Table, **top: Any) -> dict[str, StagePlan]:
    plan = make_plan(recipes.recipe(world, *tables, **top), timed=False)
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
    # 2 (keys and values) x 2 layers x 24 wide x 4 bytes, for 16 completions of 8 tokens and 4 prompts, in
    # pages of whole 16 positions
    positions = 16 * 16 + 4 * 16 * math.ceil(policy.work.prompt_tokens / 16)
    assert plan.machine.sampler == "native"
    assert policy.memory["key-value cache"] == pytest.approx(2 * 2 * 24 * 4 * positions)
    assert policy.memory["packed weights"] == pytest.approx(4 * parameters, rel=0.01)  # all but the norms
    assert plan.seconds > 0
    assert plan.peak == plan.machine.resident + max(sum(each.memory.values()) for each in plan.stages)
    for stage in (sft, policy, judge):
        part, share = stage.work.dominant
        assert stage.work.seconds[part] == pytest.approx(share * stage.work.total_seconds)
        assert share >= 1 / len(stage.work.seconds)
    inside = {"sampling", "reference and scoring", "learning", "optimizer steps"}
    per_step = sum(policy.work.seconds[kind] for kind in inside) / 4
    assert policy.work.seconds_per_step == pytest.approx(per_step)
    assert policy.work.at_most and not sft.work.at_most


@pytest.mark.parametrize(
    ("in_place", "table", "copies"),
    [
        (False, {}, {"packed weights"}),
        (True, {}, set()),
        (True, {"adapter": {"rank": 4, "targets": ["q_proj"]}}, {"weights with the adapter"}),
    ],
)
def test_the_sampler_copies_what_it_cannot_read_where_it_lies(
    world: Path, in_place: bool, table: Table, copies: set[str]
) -> None:
    recipe = recipes.recipe(world, recipes.rl(world, **table))
    facts = replace(model_facts(recipe.model), in_place=in_place)
    models: Any = SimpleNamespace(dtype=torch.bfloat16)
    setting: Any = SimpleNamespace(facts=facts, passes=SimpleNamespace(models=models))
    found = Room(setting, StageWork()).copies(recipe.stage[0])
    assert set(found) == copies
    if "adapter" in table:
        assert sum(found.values()) == 2 * sum(math.prod(s) for n, s in facts.linears.items() if "q_proj" in n)


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
        assert plans[name].memory
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


def test_recomputed_activations_are_those_of_one_layer(world: Path) -> None:
    table = {"tokens_per_microbatch": 512}
    plans = planned(
        world,
        stages.unpaired(name="kept", rows_per_step=64, work=table),
        stages.unpaired(name="again", rows_per_step=64, work={**table, "checkpointing": True}),
    )
    kept, again = (plans[name].memory["activations"] for name in ("kept", "again"))
    work = plans["kept"].work
    tokens = min(12, 512 // work.shape.padded_tokens) * work.shape.packed_tokens
    inputs = 2 * tokens * 4 * 48 * 2  # two tensors of the width of the stream, for two layers
    assert inputs < again < kept
    layer = kept - (again - inputs)
    # At least queries, keys, values, what attention gives, gate, up, their product, and two norms' inputs.
    assert layer > tokens * 4 * (3 * 48 + 2 * 24 + 3 * 96)


def test_recomputing_and_a_reference_that_moves_cost_time(world: Path) -> None:
    wide = {"pairs_per_step": 12, "epochs": 10}
    plan = make_plan(
        recipes.recipe(
            world,
            stages.preference(name="still", **wide),
            stages.preference(name="moving", refresh={"every": 1}, **wide),
        )
    )
    still, moving = (stage.work for stage in plan.stages)
    once, often = (work.seconds["comparing with the reference"] for work in (still, moving))
    assert often > 5 * once > 0
    assert still.seconds["learning"] > once
    assert moving.seconds_per_step > still.seconds_per_step


def test_the_expected_length_of_completions_lowers_the_time_and_not_the_memory(world: Path) -> None:
    long = recipes.recipe(world, recipes.rl(world, sampling={"max_new_tokens": 256}))
    whole, expected = make_plan(long), make_plan(long, mean_tokens=4)
    assert whole.at_most and not expected.at_most
    assert expected.stages[0].memory == whole.stages[0].memory
    assert expected.stages[0].work.counts == whole.stages[0].work.counts
    assert expected.seconds < whole.seconds


def test_a_unit_longer_than_the_budget_is_not_split_in_memory(world: Path) -> None:
    long = {"max_new_tokens": 400}
    plans = planned(
        world,
        stages.online(world, name="a", sampling={"max_new_tokens": 40}),
        stages.online(world, name="b", sampling=long),
    )
    assert plans["b"].memory["activations"] > 2 * plans["a"].memory["activations"]


def test_too_little_memory_is_said_with_what_helps(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = recipes.recipe(world, recipes.sft(), recipes.rl(world))
    assert memory_shortage(made) is None
    monkeypatch.setattr(plan_module, "available_memory", lambda device: 1000)
    said = memory_shortage(made)
    assert said is not None and said.startswith("stage 'policy' needs about")
    for help_ in ("tokens_per_microbatch", "checkpointing", "adapter", "fewer or shorter completions"):
        assert help_ in said
    lora = recipes.recipe(world, stages.preference(adapter={"rank": 4}, work={"checkpointing": True}))
    less = memory_shortage(lora)
    assert less is not None and "adapter" not in less and "checkpointing" not in less
    assert "tokens_per_microbatch" in less and "completions" not in less


def test_a_model_that_cannot_be_read_is_left_to_the_run(world: Path) -> None:
    assert memory_shortage(recipes.recipe(world, recipes.sft(), model="somebody/else")) is None


@pytest.mark.parametrize("family", FAMILIES)
def test_a_stand_in_of_every_family(family: str) -> None:
    """Fewer layers, a small vocabulary, and the passes that are timed run on it."""
    config = CONFIGS[family]()
    config.vocab_size = 2000
    facts = facts_of(config)
    models = StandIns(facts, device=torch.device("cpu"), dtype=torch.float32, room=None)
    assert models.more == config.num_hidden_layers == 2 and models.small == 1024
    found = Passes(models, make_tokenizer())
    shape = Shape(8, 8, 2)
    assert found.train(shape, False).layer >= 0 and found.train(shape, False).seconds(24, 16, 2) > 0
    assert found.decode(2, 2, 8, Sampling(max_new_tokens=8)).step.seconds(1, 1, 2) > 0


def test_timings_are_kept_for_a_day(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = StandIns(
        facts_of(CONFIGS["llama"]()), device=torch.device("cpu"), dtype=torch.float32, room=None
    )
    assert KeptTimings(models).get(("a", 1), lambda: [1.5, 2.5]) == [1.5, 2.5]
    assert KeptTimings(models).get(("a", 1), lambda: [9.0, 9.0]) == [1.5, 2.5]
    assert KeptTimings(models).get(("a", 2), lambda: [3.0]) == [3.0]
    assert list((own_cache / "timings").iterdir())
    later = time.time() + DAY + 1
    monkeypatch.setattr(time, "time", lambda: later)
    assert KeptTimings(models).get(("a", 1), lambda: [9.0, 9.0]) == [9.0, 9.0]


def test_decoding_between_two_timed_numbers_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a step costs 6 + 2 rows, seconds of 40 rows are found from those of 16 and 64."""
    models = StandIns(
        facts_of(CONFIGS["llama"]()), device=torch.device("cpu"), dtype=torch.float32, room=None
    )
    decode = DecodingProbe(Timer(models), make_tokenizer())

    def timed(rows: int, samples: int, read: int, sampling: Sampling) -> Decoding:
        return Decoding(Rates(rest=(6 + 2 * rows) / rows), Rates(rest=float(rows)))

    monkeypatch.setattr(decode, "_at", timed)
    for rows in (16, 40, 63, 64, 200):
        decoding = decode(rows, 2, 8, Sampling(max_new_tokens=8))
        assert decoding.step.seconds(rows, rows, 2) == pytest.approx(6 + 2 * rows)
        assert decoding.read.rest == pytest.approx(rows)


def test_a_model_beyond_the_room_is_timed_smaller_and_scaled() -> None:
    facts = facts_of(CONFIGS["llama"]())
    facts = replace(facts, vocabulary=65536, embeddings=65536 * facts.hidden, intermediate=4096)
    facts = replace(facts, parameters=facts.embeddings + facts.layers * (3 * 4096 * facts.hidden + 5000))
    free = StandIns(facts, device=torch.device("cpu"), dtype=torch.float32, room=None)
    tight = StandIns(facts, device=torch.device("cpu"), dtype=torch.float32, room=1e6)
    assert not free.is_smaller and free.layer_scale == free.head_scale == 1
    assert tight.is_smaller and tight.vocabulary == 8192 and tight.head_scale == 8
    assert tight.intermediate < 4096 and tight.layer_scale > 1


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
    assert plans["ranked"].work.counts["rankings"] == 8 and plans["ranked"].work.shape.completions == 3
    assert plans["right"].work.counts["solutions"] == 16
    assert plans["steps"].work.counts["solutions"] == 8


def test_working_weights_in_bfloat16_have_masters(tmp_path: Path) -> None:
    plan = make_plan(load_recipe(write_tiny_recipe(tmp_path), ["dtype=bfloat16"]), timed=False)
    memory = plan.stages[0].memory
    assert memory["float32 masters"] == memory["weights"]


def test_what_is_elsewhere_is_assumed_and_said(tmp_path: Path, world: Path) -> None:
    plan = make_plan(load_recipe(write_tiny_recipe(tmp_path), ["sft.data=somebody/rows"]), timed=False)
    assert plan.stages[0].assumed == ["somebody/rows"]
    own = planned(world, stages.distill(teacher="somebody/large", heldout=0.0))["imitate"]
    assert own.assumed == ["somebody/large"]
    assert own.memory["teacher somebody/large"] == own.memory["weights"]


def test_units_are_never_split() -> None:
    assert micro_batches(4, Shape(50, 50), 250) == 2
    assert micro_batches(3, Shape(500, 500), 250) == 3


def test_a_shape_counts_as_the_rows_it_stands_for() -> None:
    shape = Shape(5, 3, 4)
    unit = shape.unit(100, np.random.default_rng(0))
    assert unit_tokens(unit) == shape.tokens(True) == 17
    assert sum(len(row) for row in unit) == shape.tokens(False) == 32
    assert sum(len(row.targets) for row in unit) == shape.scored == 12
    assert shape.within(20) == Shape(5, 3, 2) and shape.within(4).padded_tokens == 4
    assert [coarse(size) for size in (0, 1, 5, 60, 100)] == [1, 1, 6, 64, 91]
