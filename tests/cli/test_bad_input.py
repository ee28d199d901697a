"""What a user gets wrong: one sentence, the right exit code, no traceback."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest
from tests.cli.call import assert_one_sentence, call
from tests.tiny_recipe import write_tiny_recipe


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_tiny_recipe(tmp_path)


def test_missing_recipe_and_bad_toml(recipe: Path) -> None:
    assert_one_sentence(call("run", "nowhere.toml"), 2, "nowhere.toml", "check the path")
    recipe.write_text("name = \n")
    assert_one_sentence(call("run", str(recipe)), 2, "not valid TOML", "line 1")


@pytest.mark.parametrize(
    ("override", "fragments"),
    [
        ("sft.epoch=2", ["unknown key 'epoch'", "did you mean 'epochs'?"]),
        ("sft.epochs=many", ["epochs", "'many'"]),
        ("stf.epochs=2", ["no stage is named 'stf'", "did you mean 'sft'?"]),
        ("epochs", ["stage.key=value"]),
        ("sft.model=policy", ["does not exist before this stage"]),
        ("sft.train_on=asistant", ["did you mean 'assistant'?"]),
        ("sft.optimiser.learning_rate=-1", ["optimiser.learning_rate"]),
        ("sft.type=stf", ["unknown type", "did you mean 'sft'?"]),
        ("device=cud", ["device", "did you mean 'cuda'?"]),
    ],
)
def test_wrong_overrides_name_the_key_and_the_mend(recipe: Path, override: str, fragments: list[str]) -> None:
    assert_one_sentence(call("run", str(recipe), "--set", override), 2, *fragments)
    assert not Path("runs").exists()


def test_reference_to_a_later_stage(recipe: Path) -> None:
    recipe.write_text(
        recipe.read_text() + '[[stage]]\nname = "second"\ntype = "sft"\ndata = "demonstrations.jsonl"\n'
    )
    called = call("run", str(recipe), "--set", "sft.model=second")
    assert_one_sentence(called, 2, "not an earlier stage", "move that stage above")


def test_wrong_data_names_file_and_place(recipe: Path) -> None:
    data = recipe.parent / "demonstrations.jsonl"
    good = data.read_text()
    data.write_text(good + "{not json\n")
    assert_one_sentence(call("run", str(recipe), "--out", "a"), 3, "demonstrations.jsonl", "line 17")
    data.write_text('{"promt": "a", "completion": "b"}\n')
    assert_one_sentence(call("run", str(recipe), "--out", "b"), 3, "row 1", "did you mean")
    data.write_text("")
    assert_one_sentence(call("run", str(recipe), "--out", "c"), 3, "holds no rows")
    data.write_text('{"prompt": "a", "completion": ""}\n')
    assert_one_sentence(call("run", str(recipe), "--out", "d"), 3, "completion", "empty")
    data.unlink()
    assert_one_sentence(call("run", str(recipe), "--out", "e"), 2, "cannot read", "check the path")


def test_row_longer_than_the_limit_is_an_error_until_said_otherwise(recipe: Path) -> None:
    called = call("run", str(recipe), "--out", "a", "--set", "sft.max_length=20")
    assert_one_sentence(called, 3, "max_length is 20", "overlong")
    called = call(
        "run", str(recipe), "--out", "b", "--set", "sft.max_length=45", "--set", "sft.overlong=drop"
    )
    assert called.code == 0 and "rows dropped: longer than max_length" in called.err


def test_model_without_tokenizer_or_template(recipe: Path) -> None:
    model = recipe.parent / "model"
    (model / "chat_template.jinja").unlink()
    assert_one_sentence(call("run", str(recipe), "--out", "a"), 2, "no chat template", "chatml")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (model / name).unlink()
    assert_one_sentence(call("run", str(recipe), "--out", "b"), 2, "no tokenizer")
    assert_one_sentence(call("generate", "nowhere/at/all", "hi"), 2, "check the path")
    assert_one_sentence(call("generate", "smolm2-135m-instruct", "hi"), 2, "did you mean")


def test_run_folder_taken_in_use_or_missing(recipe: Path) -> None:
    assert call("run", str(recipe), "--quiet").code == 0
    assert_one_sentence(call("run", str(recipe)), 2, "already holds a finished run", "--out")
    Path("runs/tiny/summary.json").unlink()
    assert_one_sentence(call("run", str(recipe)), 2, "unfinished run", "ridgeline resume runs/tiny")
    with open("runs/tiny/.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert_one_sentence(call("resume", "runs/tiny"), 2, "in use by another process")
    assert_one_sentence(call("resume", "runs/none"), 2, "runs/none does not exist")


def test_resume_with_changed_recipe_or_data(recipe: Path) -> None:
    assert call("run", str(recipe), "--quiet").code == 0
    called = call("resume", "runs/tiny", str(recipe), "--set", "sft.epochs=3")
    assert_one_sentence(called, 2, "stage.sft.epochs", "1.0 then, 3.0 now")
    with open("demonstrations.jsonl", "a") as file:
        file.write('{"prompt": "a", "completion": "b"}\n')
    assert_one_sentence(call("resume", "runs/tiny"), 2, "demonstrations.jsonl changed since")


def test_rewards_that_cannot_be_found(recipe: Path) -> None:
    common = ("rl", "--model", "model", "--prompts", "prompts.jsonl", "--set", "sampling.max_new_tokens=4")
    assert_one_sentence(call(*common, "--reward", "lenght", "--out", "a"), 2, "did you mean 'length'?")
    assert_one_sentence(call(*common, "--reward", "no.py:f", "--out", "b"), 2, "no file", "no.py")
    called = call(*common, "--reward", "length", "--objective", "grop", "--out", "c")
    assert_one_sentence(called, 2, "did you mean 'grpo'?")


@pytest.mark.parametrize(
    "arguments",
    [
        ("runn",),
        ("run",),
        ("run", "a.toml", "--outt", "x"),
        ("rl", "--prompts", "p", "--reward", "r", "--kl", "x"),
    ],
)
def test_wrong_command_lines_leave_with_2(arguments: tuple[str, ...]) -> None:
    assert_one_sentence(call(*arguments), 2, "--help")


def test_debug_shows_the_traceback_and_a_bug_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    called = call("run", "nowhere.toml", "--debug")
    assert called.code == 2 and "Traceback" in called.err and "nowhere.toml" in called.err

    def broken(*arguments: object) -> None:
        raise ZeroDivisionError("a\nb")

    monkeypatch.setattr("ridgeline.schema.recipe.load_recipe", broken)
    assert_one_sentence(
        call("run", "x.toml"), 1, "this is a bug in ridgeline", "ZeroDivisionError: a", "--debug"
    )

    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ridgeline.schema.recipe.load_recipe", interrupted)
    assert call("run", "x.toml").code == 130
