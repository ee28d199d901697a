"""The commands on a tiny model, from the command line to what they leave on disk."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.call import call
from tests.tiny_recipe import write_tiny_recipe

SHORT = ("--set", "sampling.max_new_tokens=4")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the whole tiny pipeline has run as ``runs/tiny``."""
    folder = tmp_path_factory.mktemp("cli")
    recipe = write_tiny_recipe(folder, whole=True)
    called = call("--json", "run", str(recipe), "--out", str(folder / "runs/tiny"))
    assert called.code == 0, called.err
    summary = json.loads(called.out)
    assert list(summary["stages"]) == ["sft", "pairs", "judge", "policy", "compare"]
    assert summary["run"] == str(folder / "runs/tiny")
    return folder


@pytest.fixture(autouse=True)
def inside(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("RIDGELINE_CONTENT_CACHE", "off")  # the user's cache gets no timings of tests


def test_help_is_fast_and_imports_no_engine() -> None:
    code = (
        "import sys\n"
        "from ridgeline.cli.main import main\n"
        "try:\n    main(['--help'])\n"
        "except SystemExit:\n    pass\n"
        "heavy = {'torch', 'transformers', 'datasets', 'pyarrow', 'numpy', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for command in ("run", "resume", "sft", "reward-model", "rl", "collect", "generate", "chat", "evaluate"):
        assert f"  {command} " in done.stdout
    for command in ("data", "models", "plan", "compare", "doctor", "report"):
        assert f"  {command} " in done.stdout


def test_module_and_command_are_the_same() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ridgeline", "run", "no.toml"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("Error: cannot read the recipe no.toml") and done.stdout == ""


@pytest.mark.parametrize("command", ["run", "rl", "evaluate", "generate", "plan", "doctor", "compare"])
def test_every_help_shows_an_example(command: str) -> None:
    called = call(command, "--help")
    assert called.code == 0 and f"\n  ridgeline {command} " in called.out


def test_progress_goes_to_stderr_and_the_table_to_stdout(place: Path) -> None:
    called = call("run", "recipe.toml", "--out", "runs/again", "--set", "policy.steps=1")
    assert called.code == 0
    assert "4/5 policy  rl" in called.err and "step 1/1" in called.err
    assert "reward" in called.err and "KL" in called.err and "random_coin" in called.err
    assert "heldout_nll" in called.out and "win rate against base" in called.out
    assert called.out.strip().splitlines()[-1].startswith("tiny: 5 stages done")


def test_quiet_prints_one_line() -> None:
    called = call("resume", "runs/tiny", "--quiet")
    assert called.code == 0
    assert len(called.out.strip().splitlines()) == 1


def test_a_failing_report_costs_a_line_and_not_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(folder: Path) -> Path:
        raise OSError("no ink")

    monkeypatch.setattr("ridgeline.workbench.launch.write_report", broken)
    called = call("resume", "runs/tiny")
    assert called.code == 0 and "no ink" in called.err and "run: runs/tiny" in called.out


def test_generate_is_a_function_of_its_seed(place: Path) -> None:
    arguments = (
        "generate",
        "runs/tiny:sft",
        "--prompts",
        "prompts.jsonl",
        "-n",
        "2",
        "--max-new-tokens",
        "5",
    )
    first, again = call(*arguments, "--json"), call(*arguments, "--json")
    other = call(*arguments, "--json", "--seed", "3")
    assert first.code == 0 and first.out == again.out != other.out
    samples = json.loads(first.out)
    assert len(samples) == 16 and samples[0]["prompt_id"] == samples[1]["prompt_id"]
    called = call(*arguments, "--reward", "length", "--out", "samples.jsonl")
    assert called.code == 0 and "16 completions in samples.jsonl" in called.out
    line = json.loads(Path("samples.jsonl").read_text().splitlines()[0])
    assert line["rewards"]["length"] == len(line["completion_ids"])


def test_a_run_stands_for_its_last_model() -> None:
    by_run = call("generate", "runs/tiny", "hello", "--temperature", "0", "--max-new-tokens", "6")
    by_stage = call("generate", "runs/tiny:policy", "hello", "--temperature", "0", "--max-new-tokens", "6")
    assert by_run.code == 0 and by_run.out == by_stage.out != ""
    assert "did you mean 'policy'?" in call("generate", "runs/tiny:polcy", "hello").err


def test_chat_remembers_forgets_and_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    from ridgeline.workbench import sampling

    plain = sampling.sample

    def spying(model: object, prompts: list[list[object]], how: object, **more: object) -> object:
        seen.append(len(prompts[0]))
        return plain(model, prompts, how, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(sampling, "sample", spying)
    monkeypatch.setattr("sys.stdin", io.StringIO("hello\nthe sea\n/reset\nrain\n/what\n"))
    called = call("chat", "runs/tiny:sft", "--max-new-tokens", "4")
    assert called.code == 0
    assert seen == [1, 3, 1]
    assert "(forgotten)" in called.err and "unknown command /what" in called.err


def test_data_inspect_marks_what_is_trained() -> None:
    called = call("data", "inspect", "demonstrations.jsonl", "--model", "model", "--limit", "1")
    assert called.code == 0 and "⟦<|im_end|>⟧" in called.out and "16 rows" in called.out
    report = json.loads(call("data", "inspect", "pairs.jsonl", "--model", "model", "--json").out)
    assert report["kind"] == "preference" and report["sequences"] == 32
    assert "did you mean 'preference'?" in call("data", "inspect", "pairs.jsonl", "--kind", "preferences").err


def test_models_lists_what_runs_made() -> None:
    found = json.loads(call("models", "--json").out)
    assert {"runs/tiny:sft", "runs/tiny:policy"} <= set(found["runs"])
    assert found["embedded"]["name"] == "smollm2-135m-instruct"


def test_compare_shows_the_difference_and_whether_intervals_overlap() -> None:
    assert call("run", "recipe.toml", "--out", "runs/other", "--set", "seed=2", "--quiet").code == 0
    found = json.loads(call("compare", "runs/tiny", "runs/other", "--json").out)
    assert found["recipe"] == [{"key": "seed", "first": 1, "second": 2}]
    rows = {(row["stage"], row["measure"], row["model"]): row for row in found["measured"]}
    row = rows["policy", "length", ""]
    first, second = row["first"], row["second"]
    assert row["intervals_overlap"] == (first["low"] <= second["high"] and second["low"] <= first["high"])
    assert ("compare", "reward/random_coin", "policy") in rows
    assert "1 recipe keys differ" in call("compare", "runs/tiny", "runs/other").out


def test_evaluate_compares_models_from_anywhere() -> None:
    called = call(
        "evaluate", "runs/tiny:sft", "model", "--prompts", "prompts.jsonl", "--reward", "random_coin",
        "--json", "--out", "runs/evaluated", "--set", "sampling.max_new_tokens=4", "--samples", "2",
    )  # fmt: skip
    assert called.code == 0, called.err
    result = json.loads(called.out)["stages"]["evaluate"]
    assert list(result["models"]) == ["sft", "model"] and result["baseline"] == "sft"
    assert result["against_baseline"]["model"]["win_rate"]["count"] == 8
    length = result["models"]["model"]["length"]["value"]
    assert 1 <= length <= 4


@pytest.mark.parametrize(
    "arguments",
    [
        ("sft", "--data", "demonstrations.jsonl", "--epochs", "0.5", "--learning-rate", "1e-4"),
        ("reward-model", "--data", "pairs.jsonl", "--set", "pairs_per_step=8"),
        ("collect", "--prompts", "prompts.jsonl", "--reward", "random_coin", "--pairs", "4", *SHORT),
        ("rl", "--prompts", "prompts.jsonl", "--reward", "length", "--steps", "1", "--kl", "0.1", *SHORT),
    ],
)  # fmt: skip
def test_commands_named_after_stages_run_one_stage(arguments: tuple[str, ...]) -> None:
    out = f"runs/one-{arguments[0]}"
    called = call(*arguments, "--model", "model", "--out", out, "--set", "seed=5", "--json")
    assert called.code == 0, called.err
    summary = json.loads(called.out)
    assert summary["seed"] == 5 and list(summary["stages"]) == [arguments[0].replace("-", "_")]
    assert Path(out, "recipe.toml").is_file()


def test_doctor_and_plan_from_the_command_line() -> None:
    called = call("doctor", "--model", "model", "--json")
    checks = {check["name"]: check["passed"] for check in json.loads(called.out)["checks"]}
    assert called.code == (0 if all(checks.values()) else 4)
    assert checks["on-policy ratio is 1"] and checks["learning rate 0 changes nothing"]
    # A random model hardly ever stops within one token.
    called = call("doctor", "recipe.toml", "--set", "policy.sampling.max_new_tokens=1")
    assert called.code == 4 and "failed  completions end by themselves" in called.out
    plan = json.loads(call("plan", "recipe.toml", "--json").out)
    assert plan["recipe"]["stage"][0]["optimiser"]["schedule"] == "linear"
    assert [stage["name"] for stage in plan["stages"]] == ["sft", "pairs", "judge", "policy", "compare"]
    called = call("plan", "recipe.toml", "--summary")
    assert called.code == 0 and "(estimate)" in called.out and "peak memory about" in called.out
