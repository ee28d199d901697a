"""What users get wrong about reward models: one clear sentence and the right kind of error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ridgeline.schema.errors import DataError, RidgelineError, UsageError
from ridgeline.stages import reward_model
from ridgeline.stages.pipeline import run_recipe
from tests.stages import recipes, reward_tasks
from tests.stages.recipes import recipe
from tests.stages.reward_tasks import stage
from tests.tiny import write_jsonl


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reward_tasks.make_tasks(recipes.make_world(tmp_path_factory.mktemp("world")), 1)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"loss": "bradley_tery"}, "did you mean 'bradley_terry'?"),
    ({"loss": "grouped", "margin": True}, 'margin does nothing with loss = "grouped"'),
    ({"loss": "outcome", "centering": 0.1}, 'centering does nothing with loss = "outcome"'),
    ({"loss": "plackett_luce", "label_smoothing": 0.1}, "label_smoothing does nothing"),
    (
        {"loss": "process", "members": 3},
        'members does nothing with loss = "process"; it belongs to bradley_t',
    ),
    ({"loss": "outcome", "heads_by": "annotator"}, "heads_by does nothing"),
    ({"aggregate": "min"}, 'aggregate does nothing with loss = "bradley_terry"; it belongs to outcome'),
    ({"loss": "outcome", "step_separator": "\n"}, "step_separator does nothing"),
    ({"loss": "process", "pooling": "mean"}, "steps are judged at their last token"),
    ({"loss": "process", "aggregate": "pooled"}, 'aggregate = "pooled" belongs to outcomes'),
    ({"loss": "outcome", "aggregate": "mean_last_m"}, "go together"),
    ({"loss": "outcome", "aggregate_m": 3}, "go together"),
    ({"backbone": "full", "penalty": 0.1}, "penalty applies to the frozen backbone's head"),
    ({"backbone": "full", "members": 3}, 'members and heads_by need backbone = "frozen"'),
    ({"backbone": "full", "heads_by": "annotator"}, "their spread says little"),
    ({"adapter": {"rank": 2}}, 'an adapter changes the backbone; set backbone = "full"'),
    ({"work": {"checkpointing": True}}, "work.checkpointing saves nothing with a frozen backbone"),
    ({"members": 3, "heads_by": "annotator"}, "exclude each other"),
    ({"members": 3, "combine": "median"}, "combine = 'median' is none of mean, min, mean_minus_spread"),
    ({"combine": "min"}, "combine needs several heads"),
    ({"members": 3, "spread_weight": 0.5}, 'spread_weight belongs to combine = "mean_minus_spread"'),
    ({"label_smoothing": 0.5}, "label_smoothing"),
    ({"member": 3}, "did you mean 'members'?"),
]


@pytest.mark.parametrize(("changes", "expected"), REFUSED)
def test_options_that_cannot_work_together(world: Path, changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(UsageError) as caught:
        recipe(world, recipes.reward_model(**changes))
    sentence = str(caught.value)
    assert expected in sentence and "stage 'judge'" in sentence and "\n" not in sentence


def test_a_resolved_recipe_stays_valid(world: Path) -> None:
    """What the run folder keeps, every default written out, is read again by ``resume``."""
    table = stage("annotated", "bradley_terry", heads_by="annotator", combine="bob")
    made = recipe(world, table)
    again = {key: value for key, value in made.stage[0].model_dump().items() if value is not None}
    assert recipe(world, again).stage == made.stage


def test_the_learning_rate_of_a_fresh_head_is_not_that_of_a_language_model(world: Path) -> None:
    def rate(**changes: Any) -> float:
        table = {key: value for key, value in recipes.reward_model(**changes).items() if value is not None}
        return float(recipe(world, table).stage[0].optimiser.learning_rate)

    assert rate(optimiser=None) == 1e-2
    assert rate(optimiser=None, backbone="full") == 1e-5
    assert rate(optimiser={"warmup": 1}, backbone="full", adapter={"rank": 2}) == 1e-4
    assert rate(optimiser={"learning_rate": 3e-4}, backbone="full") == 3e-4


def _fails(kind: type[RidgelineError], world: Path, folder: Path, table: dict[str, Any]) -> str:
    with pytest.raises(RidgelineError) as caught:
        run_recipe(recipe(world, table), folder / "run", resume=False)
    assert type(caught.value) is kind
    sentence = str(caught.value)
    assert "\n" not in sentence and sentence[-1] in ".?", sentence
    return sentence


@pytest.mark.parametrize(
    ("data", "loss", "expected"),
    [
        ("annotated", "outcome", "row 1: column 'completion' is missing"),
        ("annotated", "process", "row 1: column 'steps' is missing"),
        ("outcomes", "bradley_terry", "row 1: column 'chosen' is missing"),
        ("outcomes", "grouped", "row 1: column 'completions' is missing"),
        ("rankings", "bradley_terry", "row 1: column 'chosen' is missing"),
        (
            "classes",
            "process",
            'row 1, labels, item 1: -1 is a label of three classes; use loss = "process_3c',
        ),
    ],
)
def test_data_of_another_kind(world: Path, tmp_path: Path, data: str, loss: str, expected: str) -> None:
    rows = [json.loads(line) for line in (world / f"{data}.jsonl").read_text().splitlines()]
    if data == "classes":
        rows = [row for row in rows if row["labels"][0] == -1]
    write_jsonl(tmp_path / "data.jsonl", rows)
    table = {**stage(data, loss), "data": str(tmp_path / "data.jsonl")}
    assert expected in _fails(DataError, world, tmp_path, table)


PAIR = {"prompt": "q", "chosen": "Yes.", "rejected": "No."}


@pytest.mark.parametrize(
    ("row", "changes", "expected"),
    [
        (PAIR, {"margin": True}, "row 2: margin = true needs a column 'margin', or 'scores'"),
        ({**PAIR, "margin": -1}, {"margin": True}, "row 2, margin: -1 is below 0; swap the sides"),
        ({**PAIR, "margin": "wide"}, {"margin": True}, "row 2, margin: expected a number, got 'wide'"),
        ({**PAIR, "margin": float("nan")}, {"margin": True}, "row 2, margin: nan is not a finite number"),
        ({**PAIR, "label": 1.5}, {}, "row 2, label: 1.5 is no probability"),
        ({**PAIR, "label": 0.7}, {"loss": "grouped"}, "row 2, label: 0.7 is not sure"),
        (PAIR, {"heads_by": "annotator"}, "row 2: column 'annotator' is empty or missing"),
        ({**PAIR, "annotator": "a"}, {"heads_by": "annotator"}, "finds only a; it takes two groups or more"),
    ],
)
def test_rows_that_lack_what_an_option_reads(
    world: Path, tmp_path: Path, row: dict[str, Any], changes: dict[str, Any], expected: str
) -> None:
    good = {**PAIR, "prompt": "r", "margin": 1.0, "annotator": "a"}
    write_jsonl(tmp_path / "data.jsonl", [good, row])
    table = {**stage("annotated", "bradley_terry"), **changes, "data": str(tmp_path / "data.jsonl")}
    assert expected in _fails(DataError, world, tmp_path, table)


def test_a_tie_in_a_strict_order(world: Path, tmp_path: Path) -> None:
    rows = [{"prompt": f"q{n}", "completions": ["a", "b", "c"], "ranks": [1, 2, 2]} for n in range(3)]
    write_jsonl(tmp_path / "ties.jsonl", rows)
    table = {**stage("x", "plackett_luce"), "data": str(tmp_path / "ties.jsonl")}
    sentence = _fails(DataError, world, tmp_path, table)
    assert "ties.jsonl, row 1: two completions share a rank" in sentence and 'loss = "grouped"' in sentence
    run_recipe(recipe(world, {**table, "loss": "grouped", "epochs": 1}), tmp_path / "grouped", resume=False)


def test_a_combination_that_names_no_group(world: Path, tmp_path: Path) -> None:
    table = stage("annotated", "bradley_terry", heads_by="annotator", combine="bobb")
    assert "combine = 'bobb' is no group; did you mean 'bob'?" in _fails(UsageError, world, tmp_path, table)


def test_a_step_that_holds_the_separator(world: Path, tmp_path: Path) -> None:
    table = stage("steps", "process", step_separator="o")
    assert "steps, item" in _fails(DataError, world, tmp_path, table)


def test_held_out_rows_of_a_group_without_training_rows_are_counted(world: Path, tmp_path: Path) -> None:
    rows = [{**PAIR, "annotator": name, "prompt": f"q{n}"} for n, name in enumerate("abab")]
    write_jsonl(tmp_path / "train.jsonl", rows)
    write_jsonl(tmp_path / "test.jsonl", [*rows, {**PAIR, "annotator": "c"}])
    watcher = recipes.Recorder()
    table = stage("x", "bradley_terry", heads_by="annotator", epochs=1)
    table |= {"data": str(tmp_path / "train.jsonl"), "heldout": str(tmp_path / "test.jsonl")}
    summary = run_recipe(recipe(world, table), tmp_path / "run", resume=False, observer=watcher)
    assert summary["stages"]["judge"]["heldout_pairs"] == 4
    assert any("1 pairs dropped: their group has nothing to learn from" in text for _, text in watcher.calls)


def test_copies_within_a_ranking_are_counted(world: Path, tmp_path: Path) -> None:
    rows = [{"prompt": f"q{n}", "completions": ["a", "b", "a"], "ranks": [1, 2, 3]} for n in range(3)]
    write_jsonl(tmp_path / "copies.jsonl", rows)
    watcher = recipes.Recorder()
    table = {**stage("x", "grouped", epochs=1, heldout=0.0), "data": str(tmp_path / "copies.jsonl")}
    run_recipe(recipe(world, table), tmp_path / "run", resume=False, observer=watcher)
    assert ("note", "3 completions left out: copies of another one of their prompt") in watcher.calls


def test_features_that_would_fill_the_memory(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reward_model, "FEATURE_BYTES", 1000)
    sentence = _fails(UsageError, world, tmp_path, stage("outcomes", "outcome"))
    assert 'or backbone = "full" with an adapter' in sentence


@pytest.mark.parametrize(
    ("data", "loss"), [("rankings", "grouped"), ("outcomes", "outcome"), ("steps", "process")]
)
def test_without_held_out_rows_nothing_is_measured(world: Path, tmp_path: Path, data: str, loss: str) -> None:
    made = recipe(world, stage(data, loss, heldout=0.0, epochs=1))
    result = run_recipe(made, tmp_path / "run", resume=False)["stages"]["judge"]
    assert result["after"] == {} and result["dropped"] == {}
