"""Our own side of every work on a tiny model, both paths; and how a side of any kind is run."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.tiny import make_tiny_model
from transformers import AutoTokenizer

from ridgeline.schema.errors import RunError, UsageError
from ridgeline.workbench.bench import environments
from ridgeline.workbench.bench.ours.side import run
from ridgeline.workbench.bench.process import TUNED, Side, run_side, sides_of
from ridgeline.workbench.bench.sides.record import Record
from ridgeline.workbench.bench.workload import write_workload
from ridgeline.workbench.bench.works import find, resized

SMALL = {
    "rollout": ["prompts=2", "samples=3", "prompt_tokens=6", "new_tokens=5", "batch=4"],
    "rollout-spread": ["prompts=9", "prompt_tokens=8", "new_tokens=24", "shortest=2", "batch=4"],
    "sft": ["rows=3", "prompt_tokens=6", "shortest=8", "longest=20"],
    "reward": ["pairs=2", "prompt_tokens=6", "shortest=8", "longest=20"],
    "dpo": ["pairs=2", "prompt_tokens=6", "shortest=8", "longest=20"],
    "grpo": ["prompts=2", "samples=3", "prompt_tokens=6", "new_tokens=5"],
    "prepare-sft": ["rows=6"],
    "prepare-preference": ["rows=6"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


def _workload(name: str, folder: Path, path: Path) -> dict[str, Any]:
    work = resized(find(name, against=None), SMALL[name])[0]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return write_workload(work, path, model=folder, tokenizer=tokenizer, seed=3) | {"roofline": False}


@pytest.mark.parametrize("name", SMALL)
def test_both_paths_do_the_same_work(name: str, folder: Path, tmp_path: Path) -> None:
    workload = _workload(name, folder, tmp_path / "workload.json")
    fast, plain = run(workload, plain=False), run(workload, plain=True)
    assert len(fast.ends) == len(workload["batches"]) + 1
    assert fast.tokens == plain.tokens and min(fast.tokens) > 0
    assert fast.checks.keys() == plain.checks.keys()
    for what, value in fast.checks.items():
        if what in ("loss", "gradient norm"):
            assert value == pytest.approx(plain.checks[what], rel=0.05), what
        else:
            assert value == plain.checks[what], what


@pytest.mark.parametrize("plain", [False, True])
def test_forced_lengths_are_met_row_by_row(plain: bool, folder: Path, tmp_path: Path) -> None:
    workload = _workload("rollout-spread", folder, tmp_path / "workload.json")
    wanted = [length for batch in workload["batches"] for length in batch["lengths"]]
    assert len(set(wanted)) > 3
    assert run(workload, plain=plain).checks["lengths"] == wanted


def _script(folder: Path, text: str) -> Side:
    path = folder / "side.py"
    path.write_text(text)
    return Side("fake", (sys.executable, str(path), "{workload}", "{out}"), {"FAKE": "7"})


def test_a_side_is_a_process_that_leaves_a_record(tmp_path: Path) -> None:
    text = """
import json, os, sys, time
block = bytearray(150_000_000)
block[::4096] = b"x" * len(block[::4096])
json.dump({"seconds": [0.5], "tokens": [3], "first_end": time.time(), "checks": {"fake": os.environ["FAKE"]},
    "settings": {"isa": os.environ.get("ATEN_CPU_CAPABILITY")}, "versions": {}, "parts": {}, "peak": 5},
    open(sys.argv[2], "w"))
"""
    (tmp_path / "w.json").write_text("{}")
    run = run_side(_script(tmp_path, text), tmp_path / "w.json", tmp_path, isa="avx2")
    assert (run.seconds, run.tokens, run.checks, run.peak) == ([0.5], [3], {"fake": "7"}, 5)
    assert run.settings == {"isa": "avx2"}
    assert 0 < run.start < 60 and run.others is not None and 0 <= run.others <= 1


def test_a_side_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIDGELINE_CACHE", str(tmp_path / "cache"))
    side = _script(tmp_path, "raise SystemExit('no such model')")
    with pytest.raises(RunError, match=r"the side 'fake' failed .*no such model"):
        run_side(side, tmp_path / "w.json", tmp_path)


def test_the_record_counts_a_step_from_end_to_end(tmp_path: Path) -> None:
    record = Record()
    record.begin()
    record.end(5)
    record.end(6)
    record.write(str(tmp_path / "out.json"))
    written = json.loads((tmp_path / "out.json").read_text())
    assert len(written["seconds"]) == 2 and written["tokens"] == [5, 6]
    assert sum(written["seconds"]) == pytest.approx(record.ends[-1] - record.ends[0])
    assert written["peak"] > 10**7


def test_peers_come_with_and_without_a_tuned_allocator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIDGELINE_BENCH_TRL", sys.executable)
    ours, stock, tuned = sides_of("trl")
    assert stock.environment == {} and tuned.environment == TUNED and stock.command == tuned.command
    assert Path(stock.command[1]).is_file() and ours.command[-1] == "fast"
    assert [side.name for side in sides_of("trl", "prepare")] == ["ridgeline", "trl"]
    assert [side.command[-1] for side in sides_of("plain")] == ["fast", "plain"]


def test_a_missing_environment_says_how_to_make_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIDGELINE_CACHE", str(tmp_path))
    monkeypatch.delenv("RIDGELINE_BENCH_VLLM", raising=False)
    with pytest.raises(UsageError, match="ridgeline bench --setup vllm"):
        environments.interpreter("vllm")
    monkeypatch.setenv("RIDGELINE_BENCH_VLLM", str(tmp_path / "python"))
    with pytest.raises(UsageError, match="RIDGELINE_BENCH_VLLM"):
        environments.interpreter("vllm")
    with pytest.raises(UsageError, match="did you mean 'vllm'"):
        environments.set_up("vlm", print)


@pytest.mark.parametrize("name", environments.NAMES)
def test_every_requirement_is_pinned(name: str) -> None:
    file = Path(environments.__file__).parent / "peers" / f"{name}.txt"
    lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
    assert "torch==2.13.0" in lines
    assert all(line.count("==") == 1 for line in lines)
