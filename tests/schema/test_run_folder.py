from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from ridgeline.schema import run_folder
from ridgeline.schema.errors import Interrupted, RunError, UsageError, nearest
from ridgeline.schema.run_folder import RunFolder, append_line, mean, read_lines, write_atomic

_HOLD = """
import sys
from ridgeline.schema.run_folder import RunFolder
run = RunFolder(sys.argv[1])
run.open_for_writing()
print("held", flush=True)
sys.stdin.readline()
"""


def test_another_process_cannot_write_and_can_once_it_died(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(tmp_path / "run")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        run = RunFolder(tmp_path / "run")
        with pytest.raises(UsageError, match="is in use by another process"):
            run.open_for_writing()
    finally:
        holder.kill()
        holder.wait()
    run.open_for_writing()
    run.close()


def test_closing_gives_the_folder_back(tmp_path: Path) -> None:
    first, second = RunFolder(tmp_path), RunFolder(tmp_path)
    first.open_for_writing()
    with pytest.raises(UsageError, match="in use"):
        second.open_for_writing()
    first.close()
    first.close()
    second.open_for_writing()
    second.close()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write the run folder"):
        RunFolder(tmp_path / "file" / "run").open_for_writing()


def test_stage_folders_keep_the_order_of_the_recipe(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for number, name in enumerate(["sft", "a-b", "rl"]):
        run.stage(number, name).create()
    assert [(s.path.name, s.name) for s in run.stages()] == [
        ("01-sft", "sft"), ("02-a-b", "a-b"), ("03-rl", "rl"),
    ]  # fmt: skip


def test_a_stage_is_finished_when_its_result_is_there(tmp_path: Path) -> None:
    stage = RunFolder(tmp_path).stage(0, "sft")
    stage.create()
    assert stage.result() is None
    stage.finish({"nll": 1.5})
    assert stage.result() == {"nll": 1.5}


def test_a_cut_last_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert read_lines(path) == []
    for step in range(3):
        append_line(path, {"step": step, "metrics": {"x": (1.0, 2.0)}})
    whole = path.read_bytes()
    for cut in range(1, len(whole) // 3 - 1):
        path.write_bytes(whole[:-cut])
        lines = read_lines(path)
        assert [line["step"] for line in lines] == ([0, 1, 2] if cut == 1 else [0, 1])


def test_nothing_is_lost_after_a_cut_line(tmp_path: Path) -> None:
    """events.jsonl is never truncated on resume: what comes after the cut line must stay readable."""
    path = tmp_path / "events.jsonl"
    path.write_text('{"kind": "started"}\n{"kind": "che')
    append_line(path, {"kind": "resumed"})
    append_line(path, {"kind": "finished"})
    assert [line["kind"] for line in read_lines(path)] == ["started", "resumed", "finished"]


def test_truncating_forgets_later_steps_and_keeps_the_bytes_of_earlier_ones(tmp_path: Path) -> None:
    stage = RunFolder(tmp_path).stage(0, "sft")
    stage.create()
    for step in range(5):
        append_line(
            stage.metrics, {"step": step, "metrics": {"x": [0.1 + step / 3, 1e-20], "n": [math.nan, 1]}}
        )
    before = stage.metrics.read_bytes().splitlines(keepends=True)
    stage.truncate_lines(3)
    assert stage.metrics.read_bytes() == b"".join(before[:3])
    assert not stage.evaluations.exists()


def test_a_full_disk_is_a_run_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    write_atomic(tmp_path / "result.json", "old")
    monkeypatch.setattr(run_folder, "open", full, raising=False)
    with pytest.raises(RunError, match=r"No space left on device.*ridgeline resume"):
        append_line(tmp_path / "x.jsonl", {})
    with pytest.raises(RunError, match="No space left on device"):
        write_atomic(tmp_path / "result.json", "new")
    assert (tmp_path / "result.json").read_text() == "old"


def test_an_atomic_write_never_shows_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "summary.json"
    write_atomic(path, "old")

    def killed(handle: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run_folder.os, "fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, "new")
    assert path.read_text() == "old"


def test_events_have_kind_and_time(tmp_path: Path) -> None:
    RunFolder(tmp_path).event("warning", text="two rows dropped")
    (event,) = read_lines(tmp_path / "events.jsonl")
    assert event["kind"] == "warning" and event["text"] == "two rows dropped" and event["time"] > 1e9


def test_mean_of_nothing_is_nan() -> None:
    assert mean((3.0, 2.0)) == 1.5
    assert math.isnan(mean([0.0, 0.0]))
    assert json.loads(json.dumps(mean([6, 3]))) == 2


def test_errors_have_their_codes() -> None:
    assert (UsageError.exit_code, RunError.exit_code, Interrupted.exit_code) == (2, 4, 130)
    assert nearest("learing_rate", ["learning_rate", "warmup"]) == "did you mean 'learning_rate'?"
    assert nearest("zzz", ["b", "a"]) == "valid: a, b."
    assert nearest("zzz", []) == "nothing is valid here."
