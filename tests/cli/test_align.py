"""The commands that align, select, distil and merge: what they run, what they say, what they refuse."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest
from tests.cli.call import assert_one_sentence, call
from tests.stages import recipes

from ridgeline.objectives.pair_axes import PAIR_PRESETS, UNPAIRED_LOSSES
from ridgeline.objectives.presets import PRESETS
from ridgeline.schema.stages import MergeStage
from ridgeline.schema.stages.distill import Divergence, Mode

SHORT = ("--set", "sampling.max_new_tokens=4")
MODEL = ("--model", "model")
COMMANDS = ("preference", "unpaired", "reject", "distill", "merge")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recipes.make_world(tmp_path_factory.mktemp("align"))


@pytest.fixture(autouse=True)
def inside(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


def words(command: str) -> str:
    """The help of a command on one line, hyphens of its wrapping undone."""
    return " ".join(call(command, "--help").out.split())


@pytest.mark.parametrize("command", [*COMMANDS, "sft", "reward-model"])
def test_every_help_shows_an_example(command: str) -> None:
    called = call(command, "--help")
    assert called.code == 0 and f"\n  ridgeline {command} " in called.out


def test_help_names_what_the_recipe_knows() -> None:
    for command, names in (("rl", PRESETS), ("preference", PAIR_PRESETS), ("unpaired", UNPAIRED_LOSSES)):
        shown = words(command)
        assert [name for name in names if name not in shown] == []
    shown = words("distill")
    assert [mode for mode in get_args(Mode) if mode not in shown] == []
    kinds = get_args(Divergence.model_fields["kind"].annotation)
    assert [kind for kind in kinds if kind not in shown] == []
    methods = get_args(MergeStage.model_fields["method"].annotation)
    assert [method for method in methods if method not in words("merge")] == []


@pytest.mark.parametrize("command", ["rl", "preference", "distill"])
def test_help_of_a_command_imports_no_engine(command: str) -> None:
    code = (
        "import sys\n"
        "from ridgeline.cli.main import main\n"
        f"try:\n    main(['{command}', '--help'])\n"
        "except SystemExit:\n    pass\n"
        "heavy = {'torch', 'transformers', 'datasets', 'pyarrow', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "command", ["sft", "reward-model", "preference", "unpaired", "rl", "reject", "distill"]
)
def test_every_learning_command_takes_lora(command: str) -> None:
    assert "--lora RANK" in words(command)


RUNS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "offline": (
        ("preference", "--data", "pairs.jsonl", "--objective", "ipo", "--beta", "0.3", "--lora", "2"),
        {"objective": {"preset": "ipo", "beta": 0.3}, "adapter": {"rank": 2, "kind": "lora"}},
    ),
    "online": (
        (
            "preference", "--online", "dpo", "--prompts", "prompts.jsonl", "--reward", "rewards.py:spread",
            "--steps", "1", "--set", "online.sampling.max_new_tokens=4",
        ),
        {"online": {"method": "dpo", "steps": 1}},
    ),
    "unpaired": (
        ("unpaired", "--data", "labelled.jsonl", "--objective", "bco", "--learning-rate", "1e-4"),
        {"objective": "bco", "optimiser": {"learning_rate": 1e-4, "schedule": "linear"}},
    ),
    "reject": (
        (
            "reject", "--prompts", "prompts.jsonl", "--heldout", "heldout.jsonl", "--reward", "length",
            "--samples", "3", "--keep", "2", "--epochs", "2", "--set", "allow_truncated=true", *SHORT,
        ),
        {"samples_per_prompt": 3, "keep": 2, "epochs": 2.0},
    ),
    "distill": (
        ("distill", "--teacher", "model", "--data", "demonstrations.jsonl", "--steps", "1", "--lora", "2"),
        {"mode": "offline", "steps": 1},
    ),
    "self": (
        (
            "distill", "--mode", "self", "--data", "prompts.jsonl", "--steps", "1",
            "--set", "privileged.hint=topic", *SHORT,
        ),
        {"mode": "self", "privileged": {"hint": "topic"}},
    ),
    "sft": (("sft", "--data", "demonstrations.jsonl", "--lora", "2"), {"adapter": {"rank": 2}}),
    "judge": (
        ("reward-model", "--data", "pairs.jsonl", "--lora", "2"),
        {"backbone": "full", "adapter": {"rank": 2}},
    ),
    "rl": (
        ("rl", "--prompts", "prompts.jsonl", "--reward", "length", "--steps", "1", "--lora", "2", *SHORT),
        {"adapter": {"rank": 2}, "optimiser": {"learning_rate": 2e-5, "betas": [0.9, 0.95]}},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_a_command_runs_the_stage_that_it_describes(name: str) -> None:
    arguments, expected = RUNS[name]
    called = call(*arguments, *MODEL, "--out", f"runs/{name}", "--set", "seed=5", "--json")
    assert called.code == 0, called.err
    kind = arguments[0].replace("-", "_")
    summary = json.loads(called.out)
    assert summary["seed"] == 5 and list(summary["stages"]) == [kind] and summary["report"]
    recipe = tomllib.loads(Path(f"runs/{name}/recipe.toml").read_text())
    (stage,) = recipe["stage"]
    for key, value in expected.items():
        given = stage[key]
        assert given == value if not isinstance(value, dict) else value.items() <= given.items(), key
    assert call("resume", f"runs/{name}", "--quiet").code == 0


def test_progress_and_closing_lines_say_what_matters() -> None:
    offline = call(
        "preference", "--data", "pairs.jsonl", *MODEL, "--out", "runs/p", "--set", "pairs_per_step=4"
    )
    assert " loss 0.69" in offline.err and " accuracy " in offline.err and " margin " in offline.err
    assert "  accuracy 0." in offline.err.splitlines()[-1]
    liked = call("unpaired", "--data", "labelled.jsonl", *MODEL, "--out", "runs/u", "--set", "heldout=0.5")
    assert " liked " in liked.err and " disliked " in liked.err and "separation 0.5" in liked.err
    given = ("--prompts", "prompts.jsonl", "--reward", "rewards.py:spread", *MODEL)
    short = ("--set", "online.sampling.max_new_tokens=4", "--steps", "1")
    online = call("preference", "--online", "nash_md", *given, *short, "--out", "runs/n")
    assert " reward " in online.err and " preferred " in online.err and " KL " in online.err
    asked = ("--teacher", "model", "--data", "demonstrations.jsonl", "--steps", "1", *MODEL)
    distilled = call("distill", *asked, "--out", "runs/d")
    assert " divergence " in distilled.err and " nll " in distilled.err
    held = ("--heldout", "heldout.jsonl", "--set", "allow_truncated=true", *SHORT)
    best = call("reject", *given, *held, "--out", "runs/r")
    assert " selected " in best.err and "control loss" in best.err and "against_control" in best.err
    assert "/rewards.py:spread" not in best.out and "reward/spread" in best.out


def test_merge_takes_models_from_anywhere() -> None:
    assert call("sft", "--data", "demonstrations.jsonl", *MODEL, "--out", "runs/a", "--quiet").code == 0
    given = ("runs/a", "model", "--weight", "0.75", "--weight", "0.25", "--out", "runs/merged")
    called = call("merge", *given, "--prompts", "heldout.jsonl", "--reward", "length", *SHORT, "--json")
    assert called.code == 0, called.err
    summary = json.loads(called.out)
    assert summary["models"] == {"sft": str(Path("runs/a/stages/01-sft/model").resolve()),
                                 "model": str(Path("model").resolve())}  # fmt: skip
    assert summary["stages"]["merge"]["weights"] == {"sft": 0.75, "model": 0.25}
    assert call("generate", "runs/merged", "hello", "--max-new-tokens", "2").code == 0
    assert call("report", "runs/merged").code == 0
    called = call("merge", "runs/a", "model", "--method", "ties", "--start", "model", "--out", "runs/ties")
    assert called.code == 0 and "distance sft" in called.out


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (("preference",), ["nothing to learn from", "--data", "--online"]),
        (("preference", "--prompts", "p.jsonl"), ["--prompts belongs to pairs", "add --online dpo"]),
        (("preference", "--data", "d.jsonl", "--steps", "3"), ["--steps belongs to pairs"]),
        (("preference", "--online", "dpo", "--data", "d"), ["--data means nothing to --online"]),
        (("preference", "--online", "dpo", "--epochs", "2"), ["--epochs means nothing to --online"]),
        (("preference", "--online", "dpo", "--reward", "length"), ["online.prompts", "missing"]),
        (("preference", "--online", "dpo", "--prompts", "p"), ["a judge is missing"]),
        (("preference", "--online", "dop", "--prompts", "p", "--reward", "length"), ["did you mean 'dpo'"]),
        (("preference", "--data", "pairs.jsonl", "--objective", "simpoo"), ["did you mean 'simpo'?"]),
        (("preference", "--data", "pairs.jsonl", "--objective", "orpo", "--beta", "-1"), ["beta"]),
        (("preference", "--data", "nowhere.jsonl"), ["nowhere.jsonl", "check the path"]),
        (("unpaired", "--data", "labelled.jsonl", "--objective", "ktoo"), ["did you mean 'kto'?"]),
        (("unpaired",), ["--data", "--help"]),
        (("unpaired", "--data", "labelled.jsonl", "--lora", "0"), ["--lora", "--help"]),
        (("reject", "--prompts", "prompts.jsonl", "--reward", "length"), ["give heldout", "control = false"]),
        (("reject", "--prompts", "p", "--reward", "length", "--samples", "1"), ["raise samples_per_prompt"]),
        (("distill", "--data", "demonstrations.jsonl"), ["give either teacher"]),
        (("distill", "--data", "d", "--teacher", "model", "--mode", "onpolicy"), ["mean 'on_policy'?"]),
        (("distill", "--data", "d", "--teacher", "runs/none:policy"), ["runs/none does not exist"]),
        (("distill", "--data", "d", "--teacher", "model", "--divergence", "kl"), ["divergence", "not valid"]),
        (("merge",), ["--help"]),
        (("merge", "model"), ["at least two models"]),
        (("merge", "model", "model"), ["names one model twice"]),
        (("merge", "model", "no/such"), ["cannot load", "no/such"]),
        (("merge", "model", "other", "--method", "tie"), ["did you mean 'ties'?"]),
        (("merge", "model", "other", "--method", "ties"), ["name that as start"]),
        (("merge", "model", "other", "--weight", "0.5"), ["1 weights for 2 models"]),
        (("merge", "model", "other", "--prompts", "heldout.jsonl"), ["both heldout and rewards"]),
    ],
)  # fmt: skip
def test_wrong_commands_are_one_sentence(
    arguments: tuple[str, ...], fragments: list[str], place: Path
) -> None:
    recipes.make_tiny_model(place / "other")
    out = () if len(arguments) == 1 else ("--out", "runs/wrong")
    model = () if arguments[0] == "merge" or len(arguments) == 1 else MODEL
    assert_one_sentence(call(*arguments, *model, *out), 2, *fragments)
    assert not list(Path("runs/wrong").glob("stages/*/*"))


def test_wrong_data_names_the_row(place: Path) -> None:
    bad = place / "bad.jsonl"
    bad.write_text('{"prompt": "a", "chosen": "b", "rejected": ""}\n')
    called = call("preference", "--data", "bad.jsonl", *MODEL, "--out", "runs/bad")
    assert_one_sentence(called, 3, "bad.jsonl", "row 1")
    bad.write_text('{"prompt": "a", "completion": "b", "label": "good"}\n')
    assert_one_sentence(
        call("unpaired", "--data", "bad.jsonl", *MODEL, "--out", "runs/bad"), 3, "row 1, label"
    )
    asked = ("distill", "--teacher", "model", "--data", "prompts.jsonl", *MODEL, "--out", "runs/bad")
    assert_one_sentence(call(*asked), 3, "prompts.jsonl", "demonstrations")
