"""What a reject stage samples, selects, trains on, reports and leaves behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from ridgeline.rollout.store import read_samples
from ridgeline.schema.records import Sample
from ridgeline.schema.run_folder import read_lines
from ridgeline.stages import reject_job
from ridgeline.stages.pipeline import run_recipe
from ridgeline.training.next_token import NextToken
from tests.stages import recipes
from tests.stages.recipes import Table, recipe, stage_folder
from tests.tiny import write_jsonl


def reject(world: Path, **changes: Any) -> Table:
    """6 prompts with 6 samples each, 4 steps."""
    base = {"name": "reject", "type": "reject", "prompts": "prompts.jsonl", "heldout": "heldout.jsonl"}
    given = {
        "reward": [recipes.reward(world, "spread")],
        "monitor": ["random_coin"],
        "samples_per_prompt": 6,
        "keep": 1,
    }
    steps = {"rows_per_step": 3, "epochs": 2, "optimiser": recipes.FAST, "evaluation_samples": 2}
    table = {**base, **given, **steps, "sampling": recipes.SAMPLING, "allow_truncated": True, **changes}
    return {key: value for key, value in table.items() if value is not None}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recipes.make_world(tmp_path_factory.mktemp("world"))


def result_of(world: Path, run: str, **changes: Any) -> dict[str, Any]:
    summary = run_recipe(recipe(world, reject(world, **changes)), world / run, resume=False)
    result: dict[str, Any] = summary["stages"]["reject"]
    return result


def pool_of(run: Path, name: str = "policy-000") -> list[Sample]:
    paths = sorted((stage_folder(run) / "samples" / name).glob("part-*.parquet"))
    return [sample for path in paths for sample in read_samples(path)]


def keys(samples: list[Sample]) -> set[tuple[str, int]]:
    return {(sample.prompt_id, sample.index) for sample in samples}


def chosen_of(run: Path, name: str = "selected") -> list[Sample]:
    return read_samples(stage_folder(run) / f"{name}.parquet")


def totals(samples: list[Sample]) -> list[float]:
    return [value for sample in samples if (value := sample.rewards["total"]) is not None]


def test_the_best_of_every_prompt(world: Path) -> None:
    result_of(world, "top")
    pool, chosen = pool_of(world / "top"), chosen_of(world / "top")
    assert len(pool) == 36 and len(chosen) == 6
    for sample in chosen:
        assert sample.rewards["total"] == max(totals([s for s in pool if s.prompt_id == sample.prompt_id]))


def test_what_is_trained_on_is_what_was_sampled(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Token ids as they were drawn, the stop token included, for both arms; nothing is tokenised again."""
    seen: dict[str, list[list[int]]] = {"policy": [], "control": []}
    original = reject_job.RejectJob._updates

    def keep(self: Any, step: int, total: int) -> Any:
        updates = original(self, step, total)
        for update in updates:
            assert isinstance(update.objective, NextToken)
            for (row,) in update.units:
                assert row.targets.tolist() == list(range(row.prefix, len(row.ids)))
                seen[update.role].append(row.ids.tolist())
        return updates

    monkeypatch.setattr(reject_job.RejectJob, "_updates", keep)
    result_of(world, "ids")
    for role, name in (("policy", "selected"), ("control", "control")):
        drawn = [s.prompt_ids + s.completion_ids for s in chosen_of(world / "ids", name)]
        assert sorted(seen[role]) == sorted([*drawn, *drawn]), "two epochs"


def test_the_control_is_matched(world: Path) -> None:
    """As many of every prompt, from the same pool, with the same number of steps, and other completions."""
    result = result_of(world, "matched", keep=2)
    pool, chosen, control = (
        pool_of(world / "matched"),
        *(chosen_of(world / "matched", n) for n in ("selected", "control")),
    )
    assert keys(control) <= keys(pool)
    assert keys(control) != keys(chosen)
    per_prompt = [sorted(s.prompt_id for s in samples) for samples in (chosen, control)]
    assert per_prompt[0] == per_prompt[1]
    for line in read_lines(stage_folder(world / "matched") / "metrics.jsonl"):
        assert line["metrics"]["learning_rate"] == line["metrics"]["control/learning_rate"]
        assert {"loss/nll", "control/loss/nll", "entropy"} <= line["metrics"].keys()
    assert result["rounds"][0]["control"] == result["rounds"][0]["selected"] == 12


def test_top_k_may_forget_prompts_and_its_control_is_drawn_from_the_flat_pool(world: Path) -> None:
    result = result_of(world, "top-k", selection="top_k", keep=5)
    pool, chosen, control = (
        pool_of(world / "top-k"),
        *(chosen_of(world / "top-k", n) for n in ("selected", "control")),
    )
    assert totals(chosen) == sorted(totals(pool), reverse=True)[:5]
    assert len(control) == 5
    assert result["rounds"][0]["selected_prompts"] == len({s.prompt_id for s in chosen}) <= 5


def test_threshold_and_statistical_selection(world: Path) -> None:
    result_of(world, "threshold", selection="threshold", keep=None, threshold=0.5)
    pool = pool_of(world / "threshold")
    texts = {(s.prompt_id, s.text, s.truncated) for s in pool if s.rewards["total"] >= 0.5}
    assert {(s.prompt_id, s.text, s.truncated) for s in chosen_of(world / "threshold")} == texts
    result = result_of(world, "rso", selection="statistical", beta=0.2, keep=3)
    chosen = chosen_of(world / "rso")
    assert len(chosen) == result["selected"] == 18
    assert len(keys(chosen)) == 18, "without replacement"


def test_truncated_and_repeated_completions_are_left_out_and_counted(world: Path) -> None:
    write_jsonl(world / "one.jsonl", [{"id": "x", "prompt": "Write."}])
    watcher = recipes.Recorder()
    stage = reject(
        world,
        prompts="one.jsonl",
        samples_per_prompt=240,
        allow_truncated=False,
        sampling={"max_new_tokens": 2},
        keep=240,
    )
    result = run_recipe(recipe(world, stage), world / "short", resume=False, observer=watcher)["stages"][
        "reject"
    ]
    pool, chosen = pool_of(world / "short"), chosen_of(world / "short")
    stopped = {s.text for s in pool if not s.truncated}
    assert 0 < len(chosen) == len(stopped) < 240
    assert not any(s.truncated for s in chosen)
    left_out = result["rounds"][0]["left_out"]
    assert left_out["cut at the limit"] == sum(s.truncated for s in pool)
    assert sum(left_out.values()) + len(chosen) == 240
    notes = " ".join(text for kind, text in watcher.calls if kind == "note")
    assert f"{left_out['cut at the limit']} completions are cut at the limit" in notes
    assert f"240 completions were asked for, only {len(chosen)} can be selected" in notes


def test_repeated_texts_may_be_allowed(world: Path) -> None:
    from ridgeline.schema.stages import RejectStage
    from ridgeline.stages.rejecting import candidates

    def sample(k: int, text: str, truncated: bool = False, value: float | None = 1.0) -> Sample:
        reason = "length" if truncated else "stop"
        return Sample("p", k, [1], [2], [0.0], [True], reason, text, rewards={"total": value})  # type: ignore[arg-type]

    pool = [sample(0, "a"), sample(1, "a"), sample(2, "a", True), sample(3, "b", value=None), sample(4, "b")]
    made = recipe(world, reject(world, samples_per_prompt=5)).stage[0]
    assert isinstance(made, RejectStage)
    rewards_PG, reasons = candidates(pool, made)
    assert np.isnan(rewards_PG).tolist() == [[False, True, False, True, False]]
    assert reasons == [None, "the same text again", None, "without a reward", None]
    free = made.model_copy(update={"deduplicate": False, "allow_truncated": False})
    rewards_PG, reasons = candidates(pool, free)
    assert np.isnan(rewards_PG).tolist() == [[False, False, True, True, False]]
    assert reasons == [None, None, "cut at the limit", "without a reward", None]


def test_rounds_sample_from_the_current_model_with_draws_of_their_own(world: Path) -> None:
    result = result_of(world, "rounds", repeat=2, restart="current")
    first, second, control = (
        pool_of(world / "rounds", n) for n in ("policy-000", "policy-001", "control-001")
    )
    assert {s.index for s in first} == set(range(6)) and {s.index for s in second} == set(range(6, 12))
    assert ({s.weight_version for s in first}, {s.weight_version for s in second}) == ({0}, {4})
    assert [s.text for s in control] != [s.text for s in second], "the control has learned something else"
    assert keys(chosen_of(world / "rounds", "control")) & keys(control)
    assert not (stage_folder(world / "rounds") / "samples" / "control-000").exists()
    assert [each["round"] for each in result["rounds"]] == [1, 2]
    assert result["selected"] == 12
    lines = read_lines(stage_folder(world / "rounds") / "evaluations.jsonl")
    assert [(line["step"], line["round"]) for line in lines] == [(0, 0), (4, 1), (8, 2)]


def _weights(run: Path) -> dict[str, torch.Tensor]:
    module = AutoModelForCausalLM.from_pretrained(stage_folder(run) / "model", dtype=torch.float32)
    return {name: p.detach() for name, p in module.named_parameters()}


@pytest.mark.parametrize("adapter", [None, {"rank": 4}])
def test_restart_says_which_weights_a_round_starts_from(
    world: Path, adapter: Table | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a rate of 0 after the first round the second leaves alone what it started from."""
    name = "lora" if adapter else "full"
    original = reject_job.learning_rate
    calls: list[int] = []

    def first_round_only(optimiser: Any, step: int, total: int) -> float:
        calls.append(step)
        return original(optimiser, step, total) if len(calls) <= 4 else 0.0

    monkeypatch.setattr(reject_job, "learning_rate", first_round_only)
    made = {}
    for restart, repeat in (("start", 2), ("current", 2), ("once", 1)):
        calls.clear()
        changes = {"restart": restart} if repeat == 2 else {}
        result_of(world, f"{name}-{restart}", repeat=repeat, control=False, adapter=adapter, **changes)
        made[restart] = _weights(world / f"{name}-{restart}")
    start = AutoModelForCausalLM.from_pretrained(world / "model", dtype=torch.float32)
    for key, weight in start.named_parameters():
        torch.testing.assert_close(made["start"][key], weight.detach())
        assert torch.equal(made["current"][key], made["once"][key])
    assert any(not torch.equal(made["once"][key], weight) for key, weight in start.named_parameters())


def test_the_schedule_begins_anew_in_every_round(world: Path) -> None:
    optimiser = {"learning_rate": 1e-3, "warmup": 1, "schedule": "linear"}
    result_of(world, "schedule", repeat=2, optimiser=optimiser, control=False, heldout=None)
    lines = read_lines(stage_folder(world / "schedule") / "metrics.jsonl")
    rates = [line["metrics"]["learning_rate"][0] for line in lines]
    one_round = [0.5e-3, 1e-3, 1e-3 * 2 / 3, 1e-3 / 3]
    assert rates == pytest.approx([*one_round, *one_round])


def test_evaluation_is_of_both_arms_on_the_same_draws(world: Path) -> None:
    """At a rate of 0 both arms stay one model, so everything measured is equal and no difference is left."""
    result = result_of(world, "still", optimiser={"learning_rate": 0.0}, evaluate_every=1)
    assert result["control"] == result["after"] == result["before"]
    for estimate in result["against_control"].values():
        assert (estimate["value"], estimate["low"], estimate["high"]) == (0, 0, 0)
    assert result["after"]["kl_k3"]["value"] == 0
    lines = read_lines(stage_folder(world / "still") / "evaluations.jsonl")
    assert [line["step"] for line in lines] == [0, 1, 2, 3, 4]
    assert "control" not in lines[0]


def test_kl_is_measured_under_the_temperature_of_sampling(world: Path) -> None:
    result = result_of(
        world, "warm", sampling={**recipes.SAMPLING, "temperature": 0.7}, optimiser={"learning_rate": 0.0}
    )
    assert result["after"]["kl_k1"]["value"] == 0
    samples = read_samples(stage_folder(world / "warm") / "samples" / "evaluation-000004.parquet")
    assert {sample.temperature for sample in samples} == {0.7}
