"""What users get wrong: one clear sentence, the right exit code, and nothing lost."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from ridgeline.schema.errors import DataError, Interrupted, RidgelineError, RunError, UsageError
from ridgeline.schema.run_folder import RunFolder
from ridgeline.stages.pipeline import run_recipe
from tests.stages import recipes
from tests.stages.recipes import Interrupting, Table, collect, evaluate, recipe, reward, reward_model, rl, sft
from tests.tiny import make_tiny_model, write_demonstrations, write_jsonl

REWARDS = """
import time

def raises(samples):
    raise KeyError("score")

def hangs(samples):
    time.sleep(60)

def hangs_on_one_prompt(samples):
    if any(s.prompt_id == "p0" for s in samples):
        time.sleep(60)
    return spread(samples)

def not_a_number(samples):
    return [float("nan") if s.index == 0 else v for s, v in zip(samples, spread(samples))]

def one_too_few(samples):
    return [1.0] * (len(samples) - 1)
"""


@pytest.fixture
def world(tmp_path: Path) -> Path:
    folder = recipes.make_world(tmp_path / "world")
    (folder / "rewards.py").write_text(recipes.REWARDS + REWARDS)
    return folder


def _fails(kind: type[RidgelineError], world: Path, *stages: Table, run: str = "run", **changes: Any) -> str:
    """The sentence of the error, which has to be exactly of this kind."""
    with pytest.raises(RidgelineError) as caught:
        run_recipe(recipe(world, *stages, **changes), world / run, resume=False)
    assert type(caught.value) is kind
    sentence = str(caught.value)
    assert "\n" not in sentence and sentence[-1] in ".?", sentence
    return sentence


def test_missing_prompt_file(world: Path) -> None:
    sentence = _fails(UsageError, world, rl(world, prompts="promts.jsonl"))
    assert "promts.jsonl" in sentence and "check the path" in sentence


def test_a_wrong_path_does_not_occupy_the_run_folder(world: Path) -> None:
    """Mend the recipe, run the same command again: it has to start."""
    _fails(UsageError, world, sft(data="demonstration.jsonl"))
    assert run_recipe(recipe(world, sft()), world / "run", resume=False)


def test_empty_dataset(world: Path) -> None:
    (world / "empty.jsonl").write_text("\n\n")
    for stage in (
        sft(data="empty.jsonl"),
        rl(world, prompts="empty.jsonl"),
        reward_model(data="empty.jsonl"),
    ):
        assert "empty.jsonl holds no rows" in _fails(DataError, world, stage, run=str(stage["name"]))


def test_malformed_line(world: Path) -> None:
    with (world / "demonstrations.jsonl").open("a") as file:
        file.write('{"prompt": "a", "completion": \n')
    sentence = _fails(DataError, world, sft())
    assert "demonstrations.jsonl, line 17: not valid JSON" in sentence


def test_wrong_column(world: Path) -> None:
    write_jsonl(world / "columns.jsonl", [{"promt": "a", "completion": "b"}])
    sentence = _fails(DataError, world, sft(data="columns.jsonl"))
    assert "row 1" in sentence and "prompt" in sentence and "promt" in sentence


def test_empty_completion(world: Path) -> None:
    write_jsonl(
        world / "blank.jsonl", [{"prompt": "a", "completion": "b"}, {"prompt": "a", "completion": ""}]
    )
    assert "row 2, completion" in _fails(DataError, world, sft(data="blank.jsonl"))


def _with_long_row(world: Path) -> None:
    rows = [json.loads(line) for line in (world / "demonstrations.jsonl").read_text().splitlines()]
    rows[4]["completion"] = "it is good and kind. " * 20
    write_jsonl(world / "long.jsonl", rows)


def _long(policy: str) -> Table:
    return sft(data="long.jsonl", heldout="demonstrations.jsonl", max_length=80, overlong=policy)


def test_overlong_rows_are_an_error_by_default(world: Path) -> None:
    _with_long_row(world)
    sentence = _fails(DataError, world, _long("error"))
    assert "row 5" in sentence and "max_length is 80" in sentence


@pytest.mark.parametrize(
    ("policy", "rows", "dropped", "truncated"),
    [("drop", 15, {"longer than max_length": 1}, 0), ("truncate", 16, {}, 1)],
)
def test_overlong_rows_are_counted(
    world: Path, policy: str, rows: int, dropped: dict[str, int], truncated: int
) -> None:
    _with_long_row(world)
    watcher = recipes.Recorder()
    summary = run_recipe(recipe(world, _long(policy)), world / "run", resume=False, observer=watcher)
    result = summary["stages"]["sft"]
    assert (result["rows"], result["dropped"], result["truncated"]) == (rows, dropped, truncated)
    assert any(kind == "note" and text.startswith("1 row") for kind, text in watcher.calls)


def test_sft_without_held_out_rows(world: Path) -> None:
    """heldout = 0 is a valid wish: all rows are trained on, nothing is measured."""
    result = run_recipe(recipe(world, sft(heldout=0.0)), world / "run", resume=False)["stages"]["sft"]
    assert (result["rows"], result["heldout_rows"]) == (16, 0)
    assert result["heldout_nll_after"] is None


def test_reward_model_without_held_out_pairs(world: Path) -> None:
    made = recipe(world, reward_model(heldout=0.0))
    result = run_recipe(made, world / "run", resume=False)["stages"]["judge"]
    assert (result["pairs"], result["heldout_pairs"], result["after"]) == (16, 0, {})


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        ({"name": "a", "type": "stf"}, "did you mean 'sft'?"),
        ({**sft(), "epoch": 2}, "did you mean 'epochs'?"),
        ({**sft(), "model": "later"}, "does not exist before this stage"),
    ],
)
def test_recipe_mistakes(world: Path, stage: Table, expected: str) -> None:
    with pytest.raises(UsageError) as caught:
        recipe(world, stage)
    assert expected in str(caught.value)


def test_reference_to_a_later_stage(world: Path) -> None:
    with pytest.raises(UsageError, match="not an earlier stage; move that stage above"):
        recipe(world, rl(world, model="sft"), sft())
    with pytest.raises(UsageError, match="not an earlier stage"):
        recipe(world, rl(world, reward=["judge"]), reward_model())


def test_unknown_preset_is_refused_before_anything_is_written(world: Path) -> None:
    assert "did you mean 'grpo'?" in _fails(UsageError, world, rl(world, objective="grop"))
    assert not (world / "run").exists()


def test_existing_run_and_nothing_to_resume(world: Path) -> None:
    made = recipe(world, sft())
    with pytest.raises(UsageError, match="holds no run to resume"):
        run_recipe(made, world / "run", resume=True)
    run_recipe(made, world / "run", resume=False)
    with pytest.raises(UsageError, match="already holds a run"):
        run_recipe(made, world / "run", resume=False)


def test_a_start_that_failed_does_not_occupy_the_folder(world: Path) -> None:
    _fails(UsageError, world, sft(), model=str(world / "no-such-model"))
    run_recipe(recipe(world, sft()), world / "run", resume=False)
    assert RunFolder(world / "run").stage(0, "sft").result() is not None


def test_run_folder_in_use_by_another_process(world: Path) -> None:
    made = recipe(world, sft())
    run_recipe(made, world / "run", resume=False)
    code = (
        "import sys, time; from ridgeline.schema.run_folder import RunFolder\n"
        f"r = RunFolder({str(world / 'run')!r}); r.open_for_writing(); print('ready', flush=True)\n"
        "time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "ready\n"
        with pytest.raises(UsageError, match="in use by another process"):
            run_recipe(made, world / "run", resume=True)
    finally:
        holder.kill()
        holder.wait()
    run_recipe(made, world / "run", resume=True)


def _interrupted(world: Path) -> None:
    with recipes.stoppable() as request, pytest.raises(Interrupted) as caught:
        run_recipe(recipe(world, sft()), world / "run", resume=False, observer=Interrupting(1, request))
    assert caught.value.exit_code == 130
    assert f"ridgeline resume {world / 'run'}" in str(caught.value)


def test_resume_with_a_changed_recipe(world: Path) -> None:
    _interrupted(world)
    changed = recipe(world, sft(optimiser={"learning_rate": 2e-3, "warmup": 0}))
    with pytest.raises(
        UsageError, match=r"changed at stage\.sft\.optimiser\.learning_rate \(0\.001 then, 0\.002 now"
    ):
        run_recipe(changed, world / "run", resume=True)
    run_recipe(recipe(world, sft()), world / "run", resume=True)


def test_resume_with_changed_data(world: Path) -> None:
    _interrupted(world)
    before = (world / "demonstrations.jsonl").read_text()
    write_demonstrations(world / "demonstrations.jsonl", 17)
    with pytest.raises(UsageError, match=r"demonstrations\.jsonl changed since the run started"):
        run_recipe(recipe(world, sft()), world / "run", resume=True)
    (world / "demonstrations.jsonl").write_text(before)
    run_recipe(recipe(world, sft()), world / "run", resume=True)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("raises", "raised KeyError"),
        ("hangs", "did not answer within 0.5 s"),
        ("one_too_few", "5 values for 6"),
    ],
)
def test_a_reward_that_always_fails_stops_the_run(world: Path, function: str, expected: str) -> None:
    spec = {"function": reward(world, function), "timeout": 0.5}
    assert expected in _fails(RunError, world, rl(world, reward=[spec], heldout="heldout.jsonl"))


def test_what_earlier_stages_made_survives_a_failing_reward(world: Path) -> None:
    broken = rl(world, model="sft", reward=[reward(world, "raises")])
    _fails(RunError, world, sft(), broken)
    assert RunFolder(world / "run").stage(0, "sft").result() is not None
    (world / "rewards.py").write_text(
        recipes.REWARDS + "\ndef raises(samples):\n    return spread(samples)\n"
    )
    summary = run_recipe(recipe(world, sft(), broken), world / "run", resume=True)
    assert summary["stages"]["policy"]["rollouts"] == 4


@pytest.mark.parametrize(
    ("function", "missing"), [("hangs_on_one_prompt", "timeout"), ("not_a_number", "not_finite")]
)
def test_a_reward_that_sometimes_fails_is_survived_and_counted(
    world: Path, function: str, missing: str
) -> None:
    spec = {"function": reward(world, function), "timeout": 0.5}
    watcher = recipes.Recorder()
    stage = rl(world, reward=[spec], prompts_per_step=6, steps=2, heldout="others.jsonl")
    write_jsonl(world / "others.jsonl", [{"id": "x", "prompt": "Write."}])
    run_recipe(recipe(world, stage), world / "run", resume=False, observer=watcher)
    notes = [text for kind, text in watcher.calls if kind == "note"]
    assert any("without a reward" in note and missing in note for note in notes), notes
    lines = (recipes.stage_folder(world / "run") / "metrics.jsonl").read_text().splitlines()
    assert all(json.loads(line)["metrics"]["reward"][1] < 24 for line in lines)


def test_model_folder_without_tokenizer(world: Path) -> None:
    for path in (world / "model").glob("token*"):
        path.unlink()
    assert "has no tokenizer" in _fails(UsageError, world, sft())


def test_tokenizer_without_chat_template(world: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(world / "model")
    tokenizer.chat_template = None
    (world / "model" / "chat_template.jinja").unlink(missing_ok=True)
    tokenizer.save_pretrained(world / "model")
    sentence = _fails(UsageError, world, sft())
    assert "chat_template" in sentence
    run_recipe(recipe(world, sft(), chat_template="chatml"), world / "given", resume=False)


def test_missing_model_folder(world: Path) -> None:
    assert "check the path" in _fails(UsageError, world, sft(), model=str(world / "nothing"))


def test_pad_equal_to_eos_still_learns_to_stop(world: Path) -> None:
    """With a mask by token id, or a padding index in the embedding, the stop token would not be trained."""
    tokenizer = AutoTokenizer.from_pretrained(make_tiny_model(world / "again"))
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    write_jsonl(world / "short.jsonl", [{"prompt": f"Write {n}", "completion": "yes"} for n in range(24)])
    tuned = sft(
        data="short.jsonl",
        rows_per_step=8,
        epochs=16,
        checkpoint_every=1000,
        optimiser={"learning_rate": 1e-2},
    )
    compare = evaluate(world, "base", "sft", sampling={"max_new_tokens": 8}, samples_per_prompt=4)
    models = run_recipe(recipe(world, tuned, compare), world / "run", resume=False)["stages"]["compare"][
        "models"
    ]
    assert models["base"]["stopped"]["value"] < 0.2
    assert models["sft"]["stopped"]["value"] > 0.8


def test_more_pairs_asked_for_than_exist(world: Path) -> None:
    watcher = recipes.Recorder()
    stage = collect(world, pairs=10_000)
    result = run_recipe(recipe(world, stage), world / "run", resume=False, observer=watcher)["stages"][
        "pairs"
    ]
    assert result["pairs"] < 10_000
    assert any("10000 pairs were asked for" in text for _, text in watcher.calls)
