"""``import ridgeline as rl``: light to import, and the same results as the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ridgeline as rl
from ridgeline.schema.errors import UsageError
from tests.stages import recipes
from tests.tiny import write_jsonl

NAMES = {"run", "resume", "load_model", "sample", "train_sft", "train_reward_model", "train_rl", "evaluate"}
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
