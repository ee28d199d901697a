"""``import ridgeline as rl``: light to import, and the same results as the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

import ridgeline as rl
from ridgeline.schema.errors import Interrupted, UsageError
from tests.rewards import functions
from tests.stages import recipes
from tests.tiny import write_jsonl

NAMES = {"run", "resume", "load_model", "sample", "evaluate", "replay", "score"}
NAMES |= {"train_sft", "train_reward_model", "train_preference", "train_unpaired", "train_rl"}
NAMES |= {"distill", "reject", "merge"}
NAMES |= {"map_run", "train_walker", "draw_landscape", "launch_studio"}
CPU: dict[str, Any] = {"device": "cpu", "dtype": "float32", "quiet": True}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recipes.make_world(tmp_path_factory.mktemp("world"))


def _python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True
    )
    return done.stdout.strip()


def test_the_names() -> None:
    assert set(rl.__all__) == NAMES <= set(dir(rl))
    assert all(callable(getattr(rl, name)) and getattr(rl, name).__doc__ for name in NAMES)
    with pytest.raises(AttributeError, match="no attribute 'trian_rl'"):
        rl.trian_rl  # noqa: B018


def test_import_loads_no_engine_and_changes_nothing() -> None:
    code = (
        "import os, signal, sys, random\n"
        "before = (dict(os.environ), signal.getsignal(2), random.getstate())\n"
        "import ridgeline\n"
        "assert before == (dict(os.environ), signal.getsignal(2), random.getstate())\n"
        "print(sorted({'torch', 'transformers', 'numpy', 'pydantic'} & set(sys.modules)))"
    )
    assert _python(code) == "[]"


def test_help_imports_no_torch() -> None:
    code = (
        "import sys; from ridgeline.cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as e:\n    assert not e.code\n"
        "print('torch' in sys.modules)"
    )
    assert _python(code).splitlines()[-1] == "False"


def test_run_and_resume(world: Path, tmp_path: Path) -> None:
    """A recipe as a dict; the summary is that of the folder, with the paths."""
    stages = [recipes.sft(data=str(world / "demonstrations.jsonl"))]
    recipe = {
        "name": "api",
        "model": str(world / "model"),
        "device": "cpu",
        "dtype": "float32",
        "stage": stages,
    }
    summary = rl.run(recipe, tmp_path / "run", ["sft.rows_per_step=6"], quiet=True)
    written = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["stages"] == written["stages"]
    assert summary["run"] == str(tmp_path / "run")
    assert rl.resume(tmp_path / "run", quiet=True)["stages"] == written["stages"]
    with pytest.raises(UsageError, match="already holds a"):
        rl.run(recipe, tmp_path / "run", quiet=True)


def test_sample_is_a_function_of_its_seed(world: Path) -> None:
    model = rl.load_model(str(world / "model"), device="cpu", dtype="float32")
    drawn = [
        [s.completion_ids for s in rl.sample(model, ["a", "b"], samples=2, seed=seed, max_new_tokens=4)]
        for seed in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    (scored,) = rl.sample(model, "a", max_new_tokens=4, reward="length")
    assert scored.rewards["length"] == len(scored.completion_ids)
    with pytest.raises(UsageError, match="did you mean 'max_new_tokens'"):
        rl.sample(model, "a", max_new_token=4)


def test_train_sft_from_a_list_and_on_from_the_model_in_memory(world: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (world / "demonstrations.jsonl").read_text().splitlines()]
    model = rl.load_model(str(world / "model"), device="cpu", dtype="float32")
    optimiser = {"learning_rate": 5e-3, "warmup": 0}
    summary = rl.train_sft(
        model, rows, tmp_path / "sft", epochs=3, rows_per_step=4, optimiser=optimiser, **CPU
    )
    (result,) = summary["stages"].values()
    assert result["heldout_nll_after"] < result["heldout_nll_before"]
    tuned = rl.load_model(str(tmp_path / "sft"), device="cpu", dtype="float32")
    texts = [
        rl.sample(m, "Write.", max_new_tokens=6, temperature=0.0)[0].completion_ids for m in (model, tuned)
    ]
    assert texts[0] != texts[1]


def test_train_reward_model_and_rl(world: Path, tmp_path: Path) -> None:
    judged = rl.train_reward_model(
        str(world / "model"), str(world / "pairs.jsonl"), tmp_path / "judge", **CPU
    )
    (result,) = judged["stages"].values()
    assert result["pairs"] + result["heldout_pairs"] == 16
    path = write_jsonl(
        tmp_path / "prompts.jsonl", [{"id": "a", "prompt": "Write."}, {"id": "b", "prompt": "Say."}]
    )
    trained = rl.train_rl(
        str(world / "model"),
        str(path),
        "length",
        tmp_path / "policy",
        steps=2,
        samples_per_prompt=2,
        sampling={"max_new_tokens": 4},
        **CPU,
    )
    (policy,) = trained["stages"].values()
    assert policy["rollouts"] == 2
    with pytest.raises(UsageError):
        rl.train_rl(str(world / "model"), str(path), lambda samples: [0.0], tmp_path / "closure", **CPU)


def rows_of(world: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (world / f"{name}.jsonl").read_text().splitlines()]


FEW: dict[str, Any] = {"sampling": {"max_new_tokens": 4}}


def test_train_preference_and_unpaired_from_lists(world: Path, tmp_path: Path) -> None:
    model = str(world / "model")
    optimiser = {"learning_rate": 3e-3, "warmup": 0}
    options: dict[str, Any] = {"epochs": 3, "optimiser": optimiser, "adapter": {"rank": 4}, **CPU}
    pairs = rows_of(world, "pairs")
    objective = {"preset": "dpo", "beta": 0.2}
    summary = rl.train_preference(model, pairs, tmp_path / "dpo", objective=objective, **options)
    result = summary["stages"]["preference"]
    assert result["pairs"] + result["heldout_pairs"] == 16
    assert result["after"]["margin"]["value"] > 0.05
    labelled = rows_of(world, "labelled")
    summary = rl.train_unpaired(
        str(tmp_path / "dpo"), labelled[:12], tmp_path / "kto", heldout=labelled[12:], **options
    )
    result = summary["stages"]["unpaired"]
    assert (result["rows"], result["heldout_rows"]) == (12, 4)
    assert (tmp_path / "kto" / "heldout.jsonl").is_file()
    assert rl.resume(tmp_path / "kto", quiet=True)["stages"] == summary["stages"]


def test_train_preference_on_the_way_takes_rows_and_functions(world: Path, tmp_path: Path) -> None:
    made = {"prompts": rows_of(world, "prompts"), "heldout": rows_of(world, "heldout"), "steps": 2, **FEW}
    online = {**made, "reward": functions.lengths, "monitor": ["length"]}
    summary = rl.train_preference(str(world / "model"), None, tmp_path / "online", online=online, **CPU)
    result = summary["stages"]["preference"]
    assert result["steps"] == 2
    assert {"reward/tests.rewards.functions:lengths", "reward/length"} <= result["after"].keys()
    with pytest.raises(UsageError, match="give either data"):
        rl.train_preference(str(world / "model"), None, tmp_path / "none", **CPU)
    closure = {**online, "reward": lambda samples: [0.0 for _ in samples]}
    with pytest.raises(UsageError, match=r"file\.py:function"):
        rl.train_preference(str(world / "model"), None, tmp_path / "closure", online=closure, **CPU)
    assert not (tmp_path / "closure").exists()


def test_reject_keeps_the_best_and_compares_with_chance(world: Path, tmp_path: Path) -> None:
    summary = rl.reject(
        str(world / "model"),
        rows_of(world, "prompts"),
        functions.lengths,
        tmp_path / "best",
        heldout=rows_of(world, "heldout"),
        samples_per_prompt=3,
        allow_truncated=True,
        **FEW,
        **CPU,
    )
    result = summary["stages"]["reject"]
    assert result["selected"] == 6 and "reward/total" in result["against_control"]
    with pytest.raises(UsageError, match="control = false"):
        rl.reject(str(world / "model"), rows_of(world, "prompts"), "length", tmp_path / "alone", **CPU)


def test_distill_from_models_in_memory_and_by_name(world: Path, tmp_path: Path) -> None:
    teacher = rl.load_model(str(world / "model"), device="cpu", dtype="float32")
    for parameter in teacher.module.parameters():
        parameter.data.mul_(0.5)
    rows = rows_of(world, "demonstrations")
    optimiser = {"learning_rate": 3e-3, "warmup": 0}
    given: dict[str, Any] = {"rows_per_step": 8, "steps": 6, "optimiser": optimiser, **CPU}
    summary = rl.distill(str(world / "model"), rows, teacher, tmp_path / "one", **given)
    result = summary["stages"]["distill"]
    assert result["after"]["divergence"] < 0.9 * result["before"]["divergence"]
    both = [str(tmp_path / "one"), teacher]
    summary = rl.distill(str(world / "model"), rows, both, tmp_path / "two", mode="on_policy", **FEW, **given)
    assert len(summary["stages"]["distill"]["teachers"]) == 2
    assert rl.resume(tmp_path / "two", quiet=True)["stages"] == summary["stages"]


def test_merge_of_models_from_anywhere(world: Path, tmp_path: Path) -> None:
    zero = rl.load_model(str(world / "model"), device="cpu", dtype="float32")
    for parameter in zero.module.parameters():
        parameter.data.zero_()
    source = str(world / "model")
    options: dict[str, Any] = {"samples_per_prompt": 2, **FEW, **CPU}
    heldout = rows_of(world, "heldout")
    summary = rl.merge(
        [source, zero], tmp_path / "half", heldout=heldout, rewards=[functions.lengths], **options
    )
    result = summary["stages"]["merge"]
    assert set(result["difference"]) == {"reward/tests.rewards.functions:lengths"}
    assert len(result["distance"]) == 2
    whole, half = (rl.load_model(name, dtype="float32").module for name in (source, str(tmp_path / "half")))
    for before, after in zip(whole.parameters(), half.parameters(), strict=True):
        assert (after - before / 2).abs().max() < 1e-6
    with pytest.raises(UsageError, match="already holds a finished run"):
        rl.merge([source, zero], tmp_path / "half", **CPU)
    with pytest.raises(UsageError, match="name that as start"):
        rl.merge([source, zero], tmp_path / "ties", method="ties", **CPU)


def test_an_interrupted_merge_goes_on_by_the_same_call(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = str(world / "model")
    calls: dict[str, Any] = {"heldout": str(world / "heldout.jsonl"), "rewards": ["length"], **FEW, **CPU}
    other = rl.load_model(source, device="cpu", dtype="float32")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ridgeline.stages.collecting.COMPLETIONS_PER_PART", 4)
        stopping = recipes.StopRequest()
        patch.setattr("ridgeline.training.interrupts.listening", lambda: nullcontext(stopping))
        stopping.asked = True
        with pytest.raises(Interrupted, match="the same command goes on"):
            rl.merge([source, other], tmp_path / "m", **calls)
        with pytest.raises(UsageError, match="unfinished run"):
            rl.merge([source, other], tmp_path / "m", weights=[0.2, 0.8], **calls)
        stopping.asked = False
        assert rl.merge([source, other], tmp_path / "m", **calls)["stages"]["merge"]["method"] == "linear"
