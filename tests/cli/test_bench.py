from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.call import assert_one_sentence, call
from tests.tiny import make_tiny_model

from ridgeline.workbench.bench import run


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rolout"], "did you mean 'rollout'?"),
        (["sft", "--against", "vllm"], "vllm does not do 'sft'"),
        (["rollout", "--size", "promts=2"], "did you mean 'prompts'?"),
        (["rollout", "--isa", "avx-2"], "did you mean 'avx2'?"),
        (["sft", "--lengths", "spread"], "goes with rollout"),
        (["rollout", "--against", "plain", "--model", "no-such", "--busy"], "no-such is not a folder"),
        (["--setup", "vlm"], "did you mean 'vllm'?"),
    ],
)
def test_mistakes_are_one_sentence(arguments: list[str], words: str) -> None:
    assert_one_sentence(call("bench", *arguments), 2, words)


def test_a_missing_peer_is_said_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIDGELINE_CACHE", str(tmp_path))
    monkeypatch.delenv("RIDGELINE_BENCH_TRL", raising=False)
    assert_one_sentence(call("bench", "sft"), 2, "ridgeline bench --setup trl")


def test_a_busy_machine_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "settled_use", lambda patience: 0.8)
    folder = make_tiny_model(tmp_path / "tiny")
    called = call("bench", "rollout", "--against", "plain", "--model", str(folder))
    assert_one_sentence(called, 2, "80 %", "--busy")


def test_a_comparison_leaves_figures_and_proof_of_equal_work(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "tiny")
    sizes = ["prompts=2", "samples=2", "prompt_tokens=6", "new_tokens=4", "batch=4"]
    options = [part for size in sizes for part in ("--size", size)]
    common = ["--model", str(folder), "--runs", "1", "--steps", "1", "--busy", "--out", str(tmp_path)]
    called = call("--json", "bench", "rollout", "--against", "plain", *common, *options)
    assert called.code == 0, called
    result = json.loads(called.out)
    assert result["equal"] and result["equal_work"]["plain path"]
    assert set(result["sides"]) == {"ridgeline", "plain path"}
    assert result["sizes"]["prompts"] == 2 and result["seed"] == 1 and result["machine"]["cores"] >= 1
    assert result["faster"]["plain path"]["median"] > 0
    assert result["sides"]["ridgeline"]["peak_bytes"]["median"] > 10**7
    assert 0 < result["roofline"]["read bandwidth"] < 10**12
    (written,) = tmp_path.glob("rollout-plain-*.json")
    assert json.loads(written.read_text())["work"] == "rollout"
