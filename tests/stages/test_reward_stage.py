"""The reward-model stage: heads, adapters, layouts, resuming, and what later stages make of its models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModel

from ridgeline.models.batch import MicroBatch, completion_row
from ridgeline.models.score_heads import SHARED, HeadKind
from ridgeline.models.score_model import load_score_model
from ridgeline.rollout.store import read_samples
from ridgeline.schema.errors import UsageError
from ridgeline.schema.run_folder import read_lines
from ridgeline.stages.pipeline import run_recipe
from ridgeline.stages.reward_model_heads import bootstrap_counts
from tests.stages import recipes, reward_tasks
from tests.stages.learnable import result_of
from tests.stages.recipes import FAST, Table, contents, differing, recipe, run_interrupted, stage_folder
from tests.stages.reward_tasks import KINDS, stage
from tests.tiny import write_jsonl

SMALL: Table = {
    "epochs": 1,
    "pairs_per_step": 8,
    "checkpoint_every": 1,
    "evaluate_every": 2,
    "optimiser": FAST,
}
"""A few steps on a few rows."""
ENSEMBLE: Table = {"members": 3, "combine": "mean_minus_spread", "spread_weight": 0.5}
LORA: Table = {"backbone": "full", "adapter": {"rank": 2}}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    world = reward_tasks.make_tasks(recipes.make_world(tmp_path_factory.mktemp("world")), 1)
    for name in ("rankings", "outcomes", "steps", "classes", "annotated"):
        lines = (world / f"{name}.jsonl").read_text().splitlines(keepends=True)
        (world / f"few-{name}.jsonl").write_text("".join(lines[:26]))
    return world


RESUMED: dict[str, Table] = {
    **{loss: stage(f"few-{data}", loss, **SMALL, penalty=0.1) for loss, data in KINDS.items()},
    "outcome, full": stage("few-outcomes", "outcome", **SMALL, backbone="full", pooling="mean+last"),
    "adapter": stage("few-annotated", "bradley_terry", **SMALL, **LORA, work={"checkpointing": True}),
    "ensemble": stage("few-annotated", "bradley_terry", **SMALL, **ENSEMBLE),
    "groups": stage("few-annotated", "grouped", **SMALL, heads_by="annotator"),
}


@pytest.mark.parametrize("name", RESUMED)
def test_interrupted_and_resumed_is_bit_for_bit_the_same(name: str, world: Path, tmp_path: Path) -> None:
    made = recipe(world, RESUMED[name])
    run_recipe(made, tmp_path / "whole", resume=False)
    stops = run_interrupted(made, tmp_path / "gently", lambda attempt: 3 + 2 * attempt, gently=True)
    breaks = run_interrupted(made, tmp_path / "broken", lambda attempt: 6 + 5 * attempt, gently=False)
    assert min(stops, breaks) >= 1
    assert differing(tmp_path / "whole", tmp_path / "gently") == []
    assert differing(tmp_path / "whole", tmp_path / "broken") == []
    assert any(path.endswith("score_head.safetensors") for path in contents(tmp_path / "whole"))


LAID_OUT = [(loss, "full") for loss in ("bradley_terry", *KINDS)]
LAID_OUT += [(loss, "frozen") for loss in ("bradley_terry", "outcome", "process")]


@pytest.mark.parametrize(("loss", "backbone"), LAID_OUT)
def test_layouts_and_microbatches_change_nothing_beyond_rounding(
    world: Path, tmp_path: Path, loss: str, backbone: str
) -> None:
    losses = []
    for number, work in enumerate(
        ({"layout": "packed"}, {"layout": "padded"}, {"layout": "auto", "tokens_per_microbatch": 1})
    ):
        data = KINDS.get(loss, "annotated")
        table = stage(f"few-{data}", loss, **{**SMALL, "evaluate_every": 0}, backbone=backbone, work=work)
        run_recipe(recipe(world, table), tmp_path / str(number), resume=False)
        lines = read_lines(stage_folder(tmp_path / str(number)) / "metrics.jsonl")
        losses.append([line["metrics"][f"reward/loss/{loss}"] for line in lines])
    for other in losses[1:]:
        np.testing.assert_allclose(other, losses[0], rtol=1e-3)


def test_an_adapter_is_saved_by_itself_and_merged(world: Path) -> None:
    table = stage("annotated", "bradley_terry", **{**SMALL, "optimiser": {"learning_rate": 1e-2}}, **LORA)
    run_recipe(recipe(world, table), world / "lora", resume=False)
    folder = stage_folder(world / "lora")
    judge = load_score_model(folder / "model")
    assert not any("lora" in name for name, _ in judge.named_parameters())
    ids = torch.arange(5, 25)[None]
    adapted = PeftModel.from_pretrained(AutoModel.from_pretrained(world / "model"), folder / "adapter").eval()
    with torch.no_grad():
        merged = judge.backbone(ids).last_hidden_state
        torch.testing.assert_close(adapted(input_ids=ids).last_hidden_state, merged, atol=1e-5, rtol=1e-5)
        base = AutoModel.from_pretrained(world / "model").eval()(ids).last_hidden_state
        assert float((merged - base).abs().max()) > 1e-4


# Heads ---------------------------------------------------------------------------------------------------


def test_bootstrap_draws_prompts_with_replacement() -> None:
    prompts = [f"p{number // 3}" for number in range(90)]
    counts = bootstrap_counts(prompts, 40, seed=1)
    assert counts.shape == (40, 90)
    per_prompt = counts.reshape(40, 30, 3)
    assert (per_prompt == per_prompt[:, :, :1]).all(), "units of a prompt are drawn together"
    assert (per_prompt[:, :, 0].sum(1) == 30).all()
    assert float((counts == 0).mean()) == pytest.approx((1 - 1 / 30) ** 30, abs=0.03)
    assert (bootstrap_counts(prompts, 3, seed=1) == counts[:3]).all()
    assert (bootstrap_counts(prompts, 3, seed=2) != counts[:3]).any()
    order = np.random.default_rng(0).permutation(90)
    shuffled = bootstrap_counts([prompts[place] for place in order], 3, seed=1)
    assert (shuffled == counts[:3, order]).all(), "the order of the rows means nothing"


def test_an_ensemble_doubts_what_it_has_not_seen(world: Path) -> None:
    """Coin labels leave the members in doubt; and doubt lowers the score, by its weight."""
    results = {}
    for data in ("annotated", "annotated-coin"):
        table = stage("rankings" if data == "annotated" else "rankings-coin", "grouped", **ENSEMBLE)
        results[data] = result_of(world, f"ensemble-{data}", table)
    sure, coin = (results[data]["after"] for data in ("annotated", "annotated-coin"))
    assert sure["accuracy"]["value"] > 0.9 and sure["accuracy_members"] > 0.9
    assert coin["spread"] > 0.3 and results["annotated"]["combined"]["how"] == "mean_minus_spread"
    assert results["annotated"]["combined"]["accuracy"]["value"] > 0.9

    model = load_score_model(stage_folder(world / "ensemble-annotated") / "model")
    assert model.kind == HeadKind(
        "grouped", heads=("member-1", "member-2", "member-3"), combine="mean_minus_spread", spread_weight=0.5
    )
    batch = MicroBatch.of([[completion_row([5, 6, 7], [8, 9, token])] for token in range(10, 40)])
    heads = model.heads(batch, packed=False)[:, 0]
    expected = heads.mean(1) - 0.5 * heads.std(1, correction=0)
    torch.testing.assert_close(model.scores(batch, packed=False), expected)
    assert float(heads.detach().std(1).mean()) > 0.01


def test_members_are_standardised_one_by_one(world: Path) -> None:
    """Levels are free in pairs, so without it the lowest level would be the minimum everywhere."""
    table = stage("rankings", "grouped", **{**ENSEMBLE, "combine": "min", "spread_weight": None}, heldout=0.0)
    table = {key: value for key, value in table.items() if value is not None}
    run_recipe(recipe(world, table), world / "scaled", resume=False)
    head = load_score_model(stage_folder(world / "scaled") / "model").head
    assert head.offset.shape == head.spread.shape == (3,)
    assert len(set(head.spread.tolist())) == 3 and (head.spread != 1).all()


def test_a_head_for_each_annotator(world: Path) -> None:
    """Ann and Bob want the opposite: one head for both can please neither."""
    result = result_of(world, "groups", stage("annotated", "bradley_terry", heads_by="annotator"))
    after = result["after"]
    assert after["accuracy"]["value"] > 0.9
    assert after["accuracy_shared"]["value"] == pytest.approx(0.5, abs=0.15)
    assert set(after["groups"]) == {"ann", "bob"}
    assert all(group["accuracy"]["value"] > 0.9 for group in after["groups"].values())
    model = load_score_model(stage_folder(world / "groups") / "model")
    assert model.kind.heads == ("ann", "bob", SHARED) and model.kind.combining == [0, 1]

    control = result_of(world, "groups-coin", stage("annotated-coin", "bradley_terry", heads_by="annotator"))
    gain = control["after"]["accuracy"]["value"] - control["after"]["accuracy_shared"]["value"]
    assert gain < 0.2, "heads by a coin know no more than one for all"


def test_one_group_can_be_the_reward(world: Path) -> None:
    table = stage("annotated", "bradley_terry", heads_by="annotator", combine="bob")
    run_recipe(recipe(world, table), world / "bob", resume=False)
    model = load_score_model(stage_folder(world / "bob") / "model")
    batch = MicroBatch.of([[completion_row([5, 6], [7, 8])]])
    heads = model.heads(batch, packed=False)
    assert torch.equal(model.scores(batch, packed=False), heads[:, 0, 1])


# What the data say about a pair --------------------------------------------------------------------------


def _rated(world: Path, **changes: Any) -> Path:
    rows = [json.loads(line) for line in (world / "annotated.jsonl").read_text().splitlines()]
    rows = [{**row, **changes} for row in rows if row["annotator"] == "ann"]
    return write_jsonl(world / "rated.jsonl", rows)


def test_a_margin_widens_the_gap(world: Path) -> None:
    gaps = []
    for number, changes in enumerate(
        ({}, {"margin": 3.0}, {"scores": {"chosen": 5.0, "rejected": 2.0}}, {"margin": 0.0})
    ):
        _rated(world, **changes)
        table = stage("rated", "bradley_terry", margin=bool(changes), pairs_per_step=100, penalty=0.05)
        run_recipe(recipe(world, table), world / f"margin-{number}", resume=False)
        lines = read_lines(stage_folder(world / f"margin-{number}") / "metrics.jsonl")
        total, count = lines[-1]["metrics"]["reward/margin"]
        gaps.append(total / count)
    assert gaps[1] > gaps[0] + 0.5
    assert gaps[2] == pytest.approx(gaps[1]) and gaps[3] == pytest.approx(gaps[0])


def test_ties_and_unsure_labels_hold_scores_together(world: Path) -> None:
    """P(chosen) = 0.8 for every pair: the best any model can do is a gap of ln 4."""
    gaps = {}
    for name, label, smoothing in (("tie", 0.5, 0.0), ("unsure", 0.8, 0.0), ("smooth", 1.0, 0.2)):
        _rated(world, label=label)
        table = stage("rated", "bradley_terry", label_smoothing=smoothing, pairs_per_step=100)
        result = result_of(world, f"label-{name}", table)
        line = read_lines(stage_folder(world / f"label-{name}") / "metrics.jsonl")[-1]
        total, count = line["metrics"]["reward/margin"]
        gaps[name] = total / count
        if name == "tie":
            assert "accuracy" not in result["after"] and result["after"]["nll"] == pytest.approx(
                0.693, abs=0.05
            )
    assert abs(gaps["tie"]) < 0.1
    assert gaps["unsure"] == pytest.approx(np.log(4), abs=0.25)
    assert gaps["smooth"] == pytest.approx(gaps["unsure"], abs=0.1)


def test_ratings_against_the_label_ask_for_no_margin_and_are_counted(world: Path, tmp_path: Path) -> None:
    _rated(world, scores={"chosen": 1.0, "rejected": 2.0})
    watcher = recipes.Recorder()
    table = stage("rated", "bradley_terry", margin=True, epochs=1)
    run_recipe(recipe(world, table), tmp_path / "run", resume=False, observer=watcher)
    assert any(text.startswith("40 pairs whose chosen side is rated lower") for _, text in watcher.calls)


# What later stages make of it ----------------------------------------------------------------------------


def test_models_of_every_kind_are_rewards(world: Path) -> None:
    """Outcome and process models answer with probabilities, aggregated as their stage said."""
    stages = [
        stage("few-outcomes", "outcome", **SMALL, name="orm", aggregate="mean_last_m", aggregate_m=2),
        stage("few-steps", "process", **SMALL, name="prm", step_separator=" "),
        stage("few-classes", "process_3class", **SMALL, name="prm3", aggregate="product", step_separator="u"),
        stage("few-rankings", "plackett_luce", **SMALL, name="list"),
        stage("few-annotated", "bradley_terry", **SMALL, **ENSEMBLE, name="crowd"),
        recipes.rl(world, reward=["prm", "crowd"], monitor=["orm", "prm3", "list"], steps=1),
        recipes.evaluate(world, "base", "policy", rewards=["orm", "crowd"]),
    ]
    run_recipe(recipe(world, *stages), world / "rewards", resume=False)
    samples = read_samples(stage_folder(world / "rewards", 6) / "samples" / "step-000000.parquet")
    names = {"prm", "crowd", "crowd spread", "orm", "prm3", "list", "total"}
    for sample in samples:
        assert set(sample.rewards) == names
        assert all(0 <= float(sample.rewards[name] or 0) <= 1 for name in ("prm", "orm", "prm3"))
        assert float(sample.rewards["crowd spread"] or -1) > 0
        total = float(sample.rewards["prm"] or 0) + float(sample.rewards["crowd"] or 0)
        assert sample.rewards["total"] == pytest.approx(total)
    result = json.loads((stage_folder(world / "rewards", 7) / "result.json").read_text())
    assert {"reward/orm", "reward/crowd", "reward/crowd spread"} <= result["models"]["base"].keys()

    orm = load_score_model(stage_folder(world / "rewards", 1) / "model")
    sample = samples[0]
    row = completion_row(sample.prompt_ids, sample.completion_ids)
    logits = orm.heads(MicroBatch.of([[row]]), packed=False)[0, :, 0].detach()
    assert sample.rewards["orm"] == pytest.approx(float(torch.sigmoid(logits[-2:]).mean()), abs=1e-5)


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        (stage("few-outcomes", "outcome", **SMALL), 'loss = "outcome" gives probabilities, not returns'),
        (stage("few-steps", "process", **SMALL), 'loss = "process" gives probabilities, not returns'),
        (stage("few-annotated", "bradley_terry", **SMALL, **ENSEMBLE), "3 heads cannot start a critic"),
    ],
)
def test_a_critic_starts_from_one_head_that_ranks(
    world: Path, tmp_path: Path, table: Table, sentence: str
) -> None:
    critic = {"initialise_from": "judge", "optimiser": FAST}
    policy = recipes.rl(world, objective="ppo", critic=critic, reward=["length"], steps=1)
    with pytest.raises(UsageError, match=sentence):
        run_recipe(recipe(world, table, policy), tmp_path / "run", resume=False)


def test_a_ranking_model_starts_a_critic(world: Path, tmp_path: Path) -> None:
    judge = stage("few-rankings", "grouped", **SMALL)
    critic = {"initialise_from": "judge", "optimiser": FAST}
    policy = recipes.rl(world, objective="ppo", critic=critic, reward=["judge"], steps=1)
    summary = run_recipe(recipe(world, judge, policy), tmp_path / "run", resume=False)
    assert summary["stages"]["policy"]["rollouts"] == 1
